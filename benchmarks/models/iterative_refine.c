/* A loop of eight runs of one body. */
#include "models.h"

static fdl_module *build(int by)
{
    const int64_t width = 1024 / by;
    return fdl_flow(
        fdl_nn_linear(width, width),
        fdl_flow_loop(fdl_flow(fdl_nn_linear(width, width), fdl_nn_gelu(), fdl_nn_layer_norm(width)), .n = 8),
        fdl_nn_linear(width, width));
}

static bench_batch batch(int by)
{
    const fdl_shape rows = FDL_SHAPE(256 / by, 1024 / by);
    return (bench_batch){.x = rows, .y = rows};
}

const bench_model bench_iterative_refine = {
    "iterative_refine", "8 runs of linear, gelu, layer norm; width 1024", build, batch, bench_mse};
