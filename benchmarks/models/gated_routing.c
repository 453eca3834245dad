/* Eight experts, mixed by a softmax router. */
#include "models.h"

enum { EXPERTS = 8 };

static fdl_module *build(int by)
{
    const int64_t width = 512 / by;
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_nn_linear(width, width));
    fdl_flow_add(b, fdl_nn_gelu());
    fdl_module *router = fdl_nn_softmax_router(width, EXPERTS), *experts[EXPERTS];
    for (int i = 0; i < EXPERTS; i++)
        experts[i] = fdl_nn_linear(width, width);
    fdl_flow_add(b, fdl_flow_gate_opt(router, EXPERTS, experts, NULL));
    fdl_flow_add(b, fdl_nn_linear(width, width));
    return fdl_flow_build(b);
}

static bench_batch batch(int by)
{
    const fdl_shape rows = FDL_SHAPE(256 / by, 512 / by);
    return (bench_batch){.x = rows, .y = rows};
}

const bench_model bench_gated_routing = {
    "gated_routing", "gate over 8 linear experts, softmax router; width 512", build, batch, bench_mse};
