/* A benchmark of training steps: a table of models, each measured on a table of sides by turns, in one run.
 *
 * Every side is a process of its own (side.h), so that its memory is its own. They begin with the same weights and the same
 * batches, which they use by turns, and must agree in the losses of the first steps; a side that doesn't is refused. Then they
 * take turns in changing order; a round of a side is as many steps as take --ms milliseconds. Two columns: steps that each
 * read their loss, and steps of which only the last is waited for. On a GPU, at the end, what the device did in some steps. */
#ifndef BENCHMARKS_STEPS_H
#define BENCHMARKS_STEPS_H

#include "../models/models.h"
#include "machine.h"
#include "side.h"

enum { STEPS_SIDES_MAX = 12, STEPS_CASES_MAX = 64 };

typedef struct steps_settings {
    const char *device, *python, *sides, *json;
    int rounds, ms, threads, by;
    bool on_gpu;
    int64_t batches[8]; /* numbers of samples; 0 ends them; none: the models' own */
} steps_settings;

/* A model at a number of samples. */
typedef struct steps_case {
    const bench_model *m;
    int64_t samples, params;       /* samples 0: the model's own number */
    int64_t batch;                 /* samples of a batch, as it is */
    char weights[96], batches[96]; /* files */
    int n, rounds;
    side sides[STEPS_SIDES_MAX];
    double seconds; /* that measuring it took */
} steps_case;

/* A condition that should hold for each case, or for all but some. */
typedef struct steps_bar {
    const char *what;
    double most;
    double (*value)(const steps_case *c); /* NaN: doesn't apply, or wasn't measured */
    int of_ten;                           /* of ten cases so many must hold it; 0: all */
} steps_bar;

typedef struct steps_bench {
    const char *name;                 /* "step" */
    const bench_model *const *models; /* NULL ends them */
    int n_meant;                      /* the first so many are meant when none is named */
    const side_kind *kinds;
    int n_kinds;
    const steps_bar *bars;
    int n_bars;
    steps_settings defaults; /* .device NULL: cuda where there is one */
} steps_bench;

/* The program: its exit status. */
int steps_main(const steps_bench *b, int argc, char **argv);

/* ---- what bars and tables ask ---------------------------------------------------------------------------- */

/* NULL: not among the case's sides, or refused. */
const side *steps_side(const steps_case *c, const char *of, const char *mode);
/* The fastest mode of "flodl", "pytorch" or "cxx" with the loss read; NULL: none. */
const side *steps_fastest(const steps_case *c, const char *of);
/* Seconds a step with the loss read: median of the rounds. NaN for NULL. */
double steps_seconds(const steps_case *c, const side *s);
/* The median over the rounds of a's time by b's, loss read. NaN when one is NULL. */
double steps_ratio(const steps_case *c, const side *a, const side *b);

/* ---- what is printed (steps_report.c) -------------------------------------------------------------------- */

void steps_print_case(const steps_case *c);
void steps_print_summary(const steps_bench *b, const steps_case *cases, int n);
void steps_print_bars(const steps_bench *b, const steps_case *cases, int n);
void steps_json_case(json *j, const steps_case *c);

#endif
