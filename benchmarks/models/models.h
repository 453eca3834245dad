/* The models of the benchmarks: one <name>.c a model, beside <name>.py, the same model as PyTorch's users write it. To add one is to
 * add the two files, and its name below: to the ten of `fdl bench`, or to the small ones of `fdl bench cpu`. */
#ifndef BENCHMARKS_MODELS_H
#define BENCHMARKS_MODELS_H

#include <flodl/flodl.h>

/* What a batch looks like. */
typedef struct bench_batch {
    fdl_shape x, y;
    int64_t x_below, y_below; /* whole numbers from 0 to below it; 0: normally distributed numbers */
    int x_samples;            /* which dim of x counts samples; dim 0 of y does */
} bench_batch;

/* by divides the sizes: 1, or more for a run that only tries whether everything works. */
typedef struct bench_model {
    const char *name, *what;
    fdl_module *(*build)(int by);
    bench_batch (*batch)(int by);
    fdl_tensor *(*loss)(fdl_module *model, fdl_list batch, void *ctx); /* batch: x, y */
} bench_model;

#define BENCH_MODELS(MODEL)                                                                     \
    MODEL(mlp)                                                                                  \
    MODEL(convnet)                                                                              \
    MODEL(gru_seq) MODEL(lstm_seq) MODEL(transformer) MODEL(conv_autoenc) MODEL(residual_tower) \
        MODEL(gated_routing) MODEL(iterative_refine) MODEL(feedback_fixed)
#define BENCH_SMALL_MODELS(MODEL) MODEL(digits_mlp) MODEL(lenet) MODEL(char_gru)
#define MODEL(name) extern const bench_model bench_##name;
BENCH_MODELS(MODEL)
BENCH_SMALL_MODELS(MODEL)
#undef MODEL

/* The loss of most models. */
static inline fdl_tensor *bench_mse(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[1]);
}

/* Of models that name a class. */
static inline fdl_tensor *bench_cross_entropy(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

#endif
