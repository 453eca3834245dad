/* LeNet-5 on 28 x 28 images, with relu and max pooling as it is written today. */
#include "models.h"

static fdl_module *build(int by)
{
    const int64_t wide = 120 / by, narrow = 84 / by;
    return fdl_flow(fdl_nn_conv2d(1, 6, 5, .padding = 2), fdl_nn_relu(), fdl_nn_max_pool2d(2),
                    fdl_nn_conv2d(6, 16, 5), fdl_nn_relu(), fdl_nn_max_pool2d(2), fdl_nn_flatten(),
                    fdl_nn_linear(400, wide), fdl_nn_relu(), fdl_nn_linear(wide, narrow), fdl_nn_relu(),
                    fdl_nn_linear(narrow, 10));
}

static bench_batch batch(int by)
{
    (void)by;
    return (bench_batch){.x = FDL_SHAPE(8, 1, 28, 28), .y = FDL_SHAPE(8), .y_below = 10};
}

const bench_model bench_lenet = {"lenet", "2 x conv, relu, max pool on 28 x 28; three linear layers", build,
                                 batch, bench_cross_entropy};
