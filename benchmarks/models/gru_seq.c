/* Two layers of gru over 50 steps, and a linear layer on the last one: fused recurrent kernels. */
#include "models.h"

static fdl_tensor *last_step(fdl_tensor *x)
{
    return fdl_select(x, 0, -1);
}

static fdl_module *build(int by)
{
    return fdl_flow(fdl_nn_gru(256 / by, 320 / by, .layers = 2), fdl_nn_fn(last_step, .name = "last"),
                    fdl_nn_linear(320 / by, 256 / by));
}

static bench_batch batch(int by)
{
    const int64_t n = 128 / by;
    return (bench_batch){.x = FDL_SHAPE(50 / by, n, 256 / by), .y = FDL_SHAPE(n, 256 / by), .x_samples = 1};
}

const bench_model bench_gru_seq = {"gru_seq", "2 layers of gru over 50 steps; head on the last", build, batch,
                                   bench_mse};
