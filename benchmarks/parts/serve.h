/* This side of a comparison of steps: flodl's ways to make one, as processes that speak the lines of side.h. */
#ifndef BENCHMARKS_SERVE_H
#define BENCHMARKS_SERVE_H

#include "../models/models.h"

/* Writes the model's first weights, and as many batches as sides use by turns, of `samples` samples each (0: the model's own
 * number); both from a fixed seed. Returns the number of parameters. */
int64_t serve_write_files(const bench_model *m, int by, int64_t samples, const char *weights,
                          const char *batches);

/* How many samples such a batch has. */
int64_t serve_samples(const bench_model *m, int by, int64_t samples);

/* The process of one way: MODEL WAY DEVICE DIVISOR THREADS WEIGHTS BATCHES [SAMPLES], NULL at the end. Its exit status. */
int serve(const bench_model *const *models, char **argv);

/* The model of that name; NULL ends the array. NULL: there is none. */
const bench_model *serve_model(const bench_model *const *models, const char *name);

#endif
