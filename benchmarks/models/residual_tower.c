/* Twelve residual blocks by the graph builder: what skips and depth cost. */
#include "models.h"

static fdl_module *build(int by)
{
    const int64_t width = 1024 / by;
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_nn_linear(width, width));
    for (int i = 0; i < 12; i++)
        fdl_flow_add(
            b, fdl_flow_also(fdl_flow(fdl_nn_linear(width, width), fdl_nn_gelu(), fdl_nn_layer_norm(width))));
    fdl_flow_add(b, fdl_nn_linear(width, width));
    return fdl_flow_build(b);
}

static bench_batch batch(int by)
{
    const fdl_shape rows = FDL_SHAPE(256 / by, 1024 / by);
    return (bench_batch){.x = rows, .y = rows};
}

const bench_model bench_residual_tower = {
    "residual_tower", "12 residual blocks of linear, gelu, layer norm; width 1024", build, batch, bench_mse};
