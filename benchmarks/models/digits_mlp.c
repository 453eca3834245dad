/* Two small linear layers on 8 x 8 images: calls, hardly any arithmetic. */
#include "models.h"

static fdl_module *build(int by)
{
    return fdl_flow(fdl_nn_linear(64 / by, 32 / by), fdl_nn_relu(), fdl_nn_linear(32 / by, 10));
}

static bench_batch batch(int by)
{
    return (bench_batch){.x = FDL_SHAPE(8, 64 / by), .y = FDL_SHAPE(8), .y_below = 10};
}

const bench_model bench_digits_mlp = {"digits_mlp", "linear, relu, linear: 64 to 32 to 10", build, batch,
                                      bench_cross_entropy};
