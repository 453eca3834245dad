/* A language model of four encoder layers: attention, large products, cross-entropy over many classes. */
#include "models.h"

enum { VOCABULARY = 12000, DIM = 512, HEADS = 8, LENGTH = 128 };

/* x + a learnt vector for each position. */
static fdl_tensor *position_forward(void *self, fdl_tensor *x)
{
    return fdl_add(x, *(fdl_tensor **)self);
}

static fdl_module *position(int64_t length, int64_t dim)
{
    static const fdl_module_ops ops = {
        .kind = "position", .size = sizeof(fdl_tensor *), .forward = position_forward};
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    *(fdl_tensor **)fdl_module_self(m) =
        fdl_module_param(m, "weight", fdl_mul(fdl_randn(FDL_SHAPE(length, dim)), 0.02));
    return fdl_module_done(m);
}

static fdl_module *build(int by)
{
    const int64_t dim = DIM / by, vocabulary = VOCABULARY / by;
    return fdl_flow(fdl_nn_embedding(vocabulary, dim), position(LENGTH / by, dim),
                    fdl_nn_transformer_encoder(
                        fdl_nn_transformer_encoder_layer(dim, HEADS, .ff = 4 * dim, .dropout = FDL_ZERO,
                                                         .activation = fdl_gelu, .batch_first = true),
                        4),
                    fdl_nn_linear(dim, vocabulary));
}

static bench_batch batch(int by)
{
    const fdl_shape tokens = FDL_SHAPE(32 / by, LENGTH / by);
    return (bench_batch){.x = tokens, .y = tokens, .x_below = VOCABULARY / by, .y_below = VOCABULARY / by};
}

static fdl_tensor *loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_flatten(fdl_forward(model, batch.at[0]), 0, 1),
                             fdl_flatten(batch.at[1], 0, 1));
}

const bench_model bench_transformer = {
    "transformer", "4 encoder layers of 512, 8 heads, 128 tokens of 12000; no dropout", build, batch, loss};
