/* Convolutions with batch norm and pooling: cuDNN's kernels. */
#include "models.h"

static const int64_t channels[] = {128, 256, 512, 512};

static fdl_module *build(int by)
{
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 4; i++) {
        const int64_t in = i ? channels[i - 1] / by : 3, out = channels[i] / by;
        fdl_flow_add(b, fdl_nn_conv2d(in, out, 3, .padding = 1));
        fdl_flow_add(b, fdl_nn_batch_norm2d(out));
        fdl_flow_add(b, fdl_nn_relu());
        fdl_flow_add(b, fdl_nn_max_pool2d(2));
    }
    fdl_flow_add(b, fdl_nn_adaptive_avg_pool2d(1, 1));
    fdl_flow_add(b, fdl_nn_flatten());
    fdl_flow_add(b, fdl_nn_linear(512 / by, 256 / by));
    return fdl_flow_build(b);
}

static bench_batch batch(int by)
{
    const int64_t n = 128 / by, size = by > 1 ? 16 : 64;
    return (bench_batch){.x = FDL_SHAPE(n, 3, size, size), .y = FDL_SHAPE(n, 256 / by)};
}

const bench_model bench_convnet = {"convnet", "4 x conv, batch norm, relu, max pool on 64 x 64; head", build,
                                   batch, bench_mse};
