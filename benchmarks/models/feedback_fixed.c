/* A loop of ten runs of a small body: launches, not arithmetic. */
#include "models.h"

static fdl_module *build(int by)
{
    const int64_t width = 512 / by;
    return fdl_flow(
        fdl_nn_linear(width, width),
        fdl_flow_loop(fdl_flow(fdl_nn_linear(width, width), fdl_nn_tanh(), fdl_nn_layer_norm(width)),
                      .n = 10),
        fdl_nn_linear(width, width));
}

static bench_batch batch(int by)
{
    const fdl_shape rows = FDL_SHAPE(128 / by, 512 / by);
    return (bench_batch){.x = rows, .y = rows};
}

const bench_model bench_feedback_fixed = {"feedback_fixed", "10 runs of linear, tanh, layer norm; width 512",
                                          build, batch, bench_mse};
