/* A model of characters: the next one of each of 32, by a gru. */
#include "models.h"

enum { CHARACTERS = 65, DIM = 32, HIDDEN = 64, LENGTH = 32 };

static fdl_module *build(int by)
{
    const int64_t dim = DIM / by, hidden = HIDDEN / by;
    return fdl_flow(fdl_nn_embedding(CHARACTERS, dim), fdl_nn_gru(dim, hidden, .batch_first = true),
                    fdl_nn_linear(hidden, CHARACTERS));
}

static bench_batch batch(int by)
{
    const fdl_shape text = FDL_SHAPE(8, LENGTH / by);
    return (bench_batch){.x = text, .y = text, .x_below = CHARACTERS, .y_below = CHARACTERS};
}

static fdl_tensor *loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_flatten(fdl_forward(model, batch.at[0]), 0, 1),
                             fdl_flatten(batch.at[1], 0, 1));
}

const bench_model bench_char_gru = {"char_gru", "gru of 64 over 32 characters of 65", build, batch, loss};
