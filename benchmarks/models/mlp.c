/* Five linear layers with gelu and layer norm: matrix products, and small kernels between them. */
#include "models.h"

static fdl_module *build(int by)
{
    const int64_t in = 1024 / by, hidden = 2048 / by;
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 5; i++) {
        const int64_t out = i < 4 ? hidden : in;
        fdl_flow_add(b, fdl_nn_linear(i ? hidden : in, out));
        fdl_flow_add(b, fdl_nn_gelu());
        fdl_flow_add(b, fdl_nn_layer_norm(out));
    }
    return fdl_flow_build(b);
}

static bench_batch batch(int by)
{
    return (bench_batch){.x = FDL_SHAPE(256 / by, 1024 / by), .y = FDL_SHAPE(256 / by, 1024 / by)};
}

const bench_model bench_mlp = {"mlp", "5 x linear, gelu, layer norm; 1024 to 2048 to 1024", build, batch,
                               bench_mse};
