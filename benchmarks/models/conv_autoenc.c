/* Convolutions down, transposed convolutions up. */
#include "models.h"

static const int64_t channels[] = {64, 128, 256, 512};

static fdl_module *build(int by)
{
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 4; i++) {
        fdl_flow_add(
            b, fdl_nn_conv2d(i ? channels[i - 1] / by : 3, channels[i] / by, 3, .stride = 2, .padding = 1));
        fdl_flow_add(b, fdl_nn_relu());
    }
    fdl_flow_add(b, fdl_nn_conv2d(512 / by, 512 / by, 1));
    fdl_flow_add(b, fdl_nn_relu());
    for (int i = 3; i >= 0; i--) {
        fdl_flow_add(b, fdl_nn_conv_transpose2d(channels[i] / by, i ? channels[i - 1] / by : 3, 3,
                                                .stride = 2, .padding = 1, .output_padding = 1));
        if (i)
            fdl_flow_add(b, fdl_nn_relu());
    }
    return fdl_flow_build(b);
}

static bench_batch batch(int by)
{
    const int64_t size = by > 1 ? 16 : 64;
    const fdl_shape images = FDL_SHAPE(64 / by, 3, size, size);
    return (bench_batch){.x = images, .y = images};
}

const bench_model bench_conv_autoenc = {"conv_autoenc", "4 x conv down, 4 x transposed conv up, on 64 x 64",
                                        build, batch, bench_mse};
