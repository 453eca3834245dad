/* ResNet-20 for images of 32 x 32: He et al., "Deep Residual Learning for Image Recognition", 2015, section 4.2, with the
 * shortcut that has no parameters (option A). 20 layers of weights, 269,722 numbers at width 16.
 *
 *     resnet20 [--device cpu|cuda]
 *
 * It learns to tell gratings of ten directions apart, in noise. Exits with 0 when it does so on new ones. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

/* ---- the network: images [N, 3, H, W] -> logits [N, classes] -------------------------------------------------- */

/* [N, C, H, W] -> [N, 2 C, H / 2, W / 2]: every other pixel, and zeros for the channels that come in. */
static fdl_tensor *resnet20_shortcut(fdl_tensor *x)
{
    int64_t half = fdl_size(x, 1) / 2;
    x = fdl_slice(fdl_slice(x, 2, 0, fdl_size(x, 2), 2), 3, 0, fdl_size(x, 3), 2);
    return fdl_pad(x, FDL_SHAPE(0, 0, 0, 0, half, half));
}

/* Adds relu(x + f(x)) to the flow; f halves the extents where it doubles the channels. */
static void resnet20_block(fdl_flow_builder *b, const char *name, int64_t in, int64_t out)
{
    fdl_module *f = fdl_flow(fdl_nn_conv2d(in, out, 3, .stride = out / in, .padding = 1, .no_bias = true),
                             fdl_flow_tag("conv1"), fdl_nn_batch_norm2d(out), fdl_flow_tag("bn1"),
                             fdl_nn_relu(), fdl_nn_conv2d(out, out, 3, .padding = 1, .no_bias = true),
                             fdl_flow_tag("conv2"), fdl_nn_batch_norm2d(out), fdl_flow_tag("bn2"));
    fdl_module *s = in == out ? NULL : fdl_nn_fn(resnet20_shortcut, .name = "shortcut");
    fdl_flow_add(b, fdl_flow_also(f, .skip = s, .name = name));
    fdl_flow_add(b, fdl_nn_relu());
}

/* Names of the steps are those of torchvision's ResNets: "layer1.0.conv1.weight". */
static fdl_module *resnet20(int64_t width, int64_t classes)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_nn_conv2d(3, width, 3, .padding = 1, .no_bias = true));
    fdl_flow_add(b, fdl_flow_tag("conv1"));
    fdl_flow_add(b, fdl_nn_batch_norm2d(width));
    fdl_flow_add(b, fdl_flow_tag("bn1"));
    fdl_flow_add(b, fdl_nn_relu());
    int64_t in = width;
    for (int stage = 0; stage < 3; stage++)
        for (int i = 0; i < 3; i++) {
            char name[32];
            snprintf(name, sizeof name, "layer%d.%d", stage + 1, i);
            resnet20_block(b, name, in, width << stage);
            in = width << stage;
        }
    fdl_flow_add(b, fdl_nn_adaptive_avg_pool2d(1, 1));
    fdl_flow_add(b, fdl_nn_flatten());
    fdl_flow_add(b, fdl_nn_linear(in, classes));
    fdl_flow_add(b, fdl_flow_tag("fc"));
    return fdl_flow_build(b);
}

/* The initial values of He et al., "Delving Deep into Rectifiers", 2015. */
static fdl_status resnet20_init(fdl_module *model)
{
    FDL_SCOPE;
    fdl_params *convs = fdl_parameters(model, .min_ndim = 4);
    for (int i = 0; i < fdl_params_count(convs); i++)
        FDL_TRY(fdl_init_kaiming_normal(fdl_param_tensor(fdl_params_at(convs, i)), .mode = FDL_FAN_OUT,
                                        .nonlinearity = FDL_RELU));
    return FDL_OK;
}

static fdl_optim *resnet20_optim(fdl_module *model)
{
    return fdl_optim_sgd(fdl_parameters(model), .lr = 0.1, .momentum = 0.9, .weight_decay = 1e-4);
}

static fdl_tensor *resnet20_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

/* ---- what it learns: waves of any phase and colour, the class is their direction ------------------------------ */

/* Images [n, 3, side, side], labels [n]. */
static fdl_list resnet20_gratings(int64_t n, int64_t side)
{
    FDL_SCOPE;
    fdl_tensor *label = fdl_randint(0, 10, FDL_SHAPE(n));
    fdl_tensor *angle = fdl_reshape(fdl_mul(label, acos(-1) / 10), FDL_SHAPE(n, 1, 1, 1));
    fdl_tensor *at = fdl_arange(0, (double)side, 1);
    fdl_tensor *along = fdl_add(fdl_mul(fdl_cos(angle), at), /* [n, 1, side, side] */
                                fdl_mul(fdl_sin(angle), fdl_reshape(at, FDL_SHAPE(side, 1))));
    fdl_tensor *phase = fdl_mul(fdl_rand(FDL_SHAPE(n, 1, 1, 1)), 2 * acos(-1));
    fdl_tensor *colour = fdl_randn(FDL_SHAPE(n, 3, 1, 1));
    fdl_tensor *image = fdl_mul(colour, fdl_sin(fdl_add(fdl_mul(along, 0.9), phase)));
    image = fdl_add(image, fdl_mul(fdl_randn(FDL_SHAPE(n, 3, side, side)), 0.3));
    FDL_RETURN_LIST(FDL_LIST(image, label));
}

/* The share of new images whose direction is found. */
static double resnet20_accuracy(fdl_module *model, int64_t side)
{
    FDL_INFERENCE;
    FDL_CHECK(fdl_eval(model));
    fdl_list test = resnet20_gratings(500, side);
    fdl_tensor *found = fdl_argmax(fdl_forward(model, test.at[0]), 1);
    FDL_CHECK(fdl_train(model));
    return fdl_item(fdl_mean(fdl_to_dtype(fdl_eq(found, test.at[1]), FDL_FLOAT32)));
}

int main(int argc, char **argv)
{
    enum { SIDE = 16, BATCH = 32, STEPS = 90 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(20));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    fdl_module *model = resnet20(16, 10);
    FDL_CHECK(resnet20_init(model));
    fdl_optim *opt = resnet20_optim(model);
    fdl_sched *rate = fdl_sched_multi_step(0.1, FDL_INTS(STEPS * 2 / 3, STEPS * 5 / 6)); /* by ten, twice */
    fdl_trainer *trainer = fdl_trainer_new(model, opt, resnet20_loss, .sched = rate);
    FDL_NEED(trainer);
    long long size = fdl_params_numel(fdl_parameters(model));
    printf("ResNet-20 of %lld parameters\n", size);
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, resnet20_gratings(BATCH, SIDE)));
        double loss;
        if (step % 30 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %3d  loss %.4f\n", step, loss);
        }
    }
    double accuracy = resnet20_accuracy(model, SIDE);
    fdl_trainer_free(trainer);
    fdl_sched_free(rate);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = size == 269722 && accuracy > 0.9; /* a guess: 0.1 */
    printf("accuracy on new images %.3f%s\n", accuracy, ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
