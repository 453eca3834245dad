/* U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", 2015. Convolutions
 * without padding, so that a mask comes out smaller than its image: 388 x 388 of 572 x 572. 31,030,658 numbers with one
 * channel, two classes, width 64 and depth 4.
 *
 *     unet [--device cpu|cuda]
 *
 * It learns to tell discs from rings of the same brightness. Exits with 0 when it does so on new images. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

/* ---- the network: images [N, channels, H, W] -> logits [N, classes, H - 2 b, W - 2 b] ------------------------- */

/* Pixels that the network takes off each side of its input. A level takes 2 in its first two convolutions, then what is
 * below it, on pixels twice as large, and 2 more; the bottom has two convolutions only. */
static int64_t unet_border(int depth)
{
    return depth ? 2 + 2 * unet_border(depth - 1) + 2 : 2;
}

/* Takes a border off x [N, C, H, W]. */
typedef struct unet_crop {
    int64_t border;
} unet_crop;

static fdl_tensor *unet_crop_forward(void *self, fdl_tensor *x)
{
    int64_t b = ((unet_crop *)self)->border;
    return fdl_narrow(fdl_narrow(x, 2, b, fdl_size(x, 2) - 2 * b), 3, b, fdl_size(x, 3) - 2 * b);
}

static fdl_module *unet_new_crop(int64_t border)
{
    static const fdl_module_ops ops = {
        .kind = "crop", .size = sizeof(unet_crop), .forward = unet_crop_forward};
    fdl_module *m = fdl_module_new(&ops);
    FDL_NEED(m);
    *(unet_crop *)fdl_module_self(m) = (unet_crop){border};
    return fdl_module_done(m);
}

static fdl_module *unet_convs(int64_t in, int64_t out)
{
    return fdl_flow(fdl_nn_conv2d(in, out, 3), fdl_nn_relu(), fdl_nn_conv2d(out, out, 3), fdl_nn_relu());
}

/* What is left of the values on the way down goes around all that is below, cropped to what comes up from there. A level
 * is its convolutions around the next level: [N, in, H, W] -> [N, width, H - 2 b, W - 2 b]. */
static fdl_module *unet_level(int64_t in, int64_t width, int depth)
{
    if (depth == 0)
        return unet_convs(in, width);
    return fdl_flow(
        unet_convs(in, width), fdl_flow_tag("down"), fdl_flow_fork(unet_new_crop(2 * unet_border(depth - 1))),
        fdl_flow_tag("skip"), fdl_nn_max_pool2d(2), unet_level(width, 2 * width, depth - 1),
        fdl_flow_tag("below"), fdl_nn_conv_transpose2d(2 * width, width, 2, .stride = 2), fdl_flow_tag("up"),
        fdl_flow_cat_from("skip", .dim = FDL_SOME(1)), unet_convs(2 * width, width), fdl_flow_tag("join"));
}

static fdl_module *unet(int64_t channels, int64_t classes, int64_t width, int depth)
{
    return fdl_flow(unet_level(channels, width, depth), fdl_flow_tag("top"), fdl_nn_conv2d(width, classes, 1),
                    fdl_flow_tag("head"));
}

/* Normal, so that a channel has as much variance behind a convolution and its relu as before: section 3 of the paper. */
static fdl_status unet_init(fdl_module *model)
{
    FDL_SCOPE;
    fdl_params *convs = fdl_parameters(model, .min_ndim = 4);
    for (int i = 0; i < fdl_params_count(convs); i++)
        FDL_TRY(fdl_init_kaiming_normal(fdl_param_tensor(fdl_params_at(convs, i)), .nonlinearity = FDL_RELU));
    return FDL_OK;
}

/* Batch: images, classes of pixels [N, h, w], weights of pixels [N, h, w]. */
static fdl_tensor *unet_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *each = fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1], .reduction = FDL_NONE);
    return fdl_mean(fdl_mul(each, batch.at[2]));
}

/* ---- what it learns -------------------------------------------------------------------------------------------- */

/* Images [n, 1, side, side] with a disc (class 1) and a ring (class 2) each, and noise; classes and weights of the pixels
 * inside a border. A pixel of disc or ring counts more, since most are neither. */
static fdl_list unet_shapes(int64_t n, int64_t side, int64_t border)
{
    FDL_SCOPE;
    fdl_tensor *image = fdl_mul(fdl_randn(FDL_SHAPE(n, side, side)), 0.1);
    fdl_tensor *class = fdl_zeros(FDL_SHAPE(n, side, side), .dtype = FDL_INT64);
    fdl_tensor *at = fdl_arange(0, (double)side, 1);
    for (int shape = 1; shape <= 2; shape++) {
        fdl_tensor *centre = fdl_mul(fdl_rand(FDL_SHAPE(2, n, 1, 1)), (double)side);
        fdl_tensor *dx = fdl_sub(at, fdl_select(centre, 0, 0));
        fdl_tensor *dy = fdl_sub(fdl_reshape(at, FDL_SHAPE(side, 1)), fdl_select(centre, 0, 1));
        fdl_tensor *r = fdl_sqrt(fdl_add(fdl_square(dx), fdl_square(dy)));
        fdl_tensor *inside = fdl_le(r, 6);
        if (shape == 2)
            inside = fdl_logical_and(inside, fdl_ge(r, 3));
        image = fdl_where(inside, fdl_add(image, 1), image);
        class = fdl_masked_fill(class, inside, shape);
    }
    class = fdl_narrow(fdl_narrow(class, 1, border, side - 2 * border), 2, border, side - 2 * border);
    fdl_tensor *weight = fdl_add(fdl_mul(fdl_gt(class, 0), 4), 1.0);
    FDL_RETURN_LIST(FDL_LIST(fdl_unsqueeze(image, 1), class, weight));
}

/* Of what is a disc or a ring, or is taken for one, the share that is found as it is: intersection over union. */
static double unet_found(fdl_module *model, int64_t side, int64_t border)
{
    FDL_INFERENCE;
    fdl_list test = unet_shapes(64, side, border);
    fdl_tensor *found = fdl_argmax(fdl_forward(model, test.at[0]), 1), *class = test.at[1];
    fdl_tensor *any = fdl_logical_or(fdl_gt(found, 0), fdl_gt(class, 0));
    fdl_tensor *right = fdl_logical_and(any, fdl_eq(found, class));
    return fdl_item(fdl_sum(right)) / fdl_item(fdl_sum(any));
}

int main(int argc, char **argv)
{
    enum { DEPTH = 2, WIDTH = 8, SIDE = 60, BATCH = 8, STEPS = 200 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(572));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    const int64_t border = unet_border(DEPTH);
    fdl_module *model = unet(1, 3, WIDTH, DEPTH);
    FDL_CHECK(unet_init(model));
    /* The paper's SGD with a momentum of 0.99 is for one large image at a time. */
    const double lr = 6e-3;
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = lr);
    fdl_sched *rate = fdl_sched_cosine(lr, 0, STEPS);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, unet_loss, .sched = rate);
    FDL_NEED(trainer);
    printf("a U-Net of %lld parameters: %d x %d pixels of %d x %d\n",
           (long long)fdl_params_numel(fdl_parameters(model)), SIDE - 2 * (int)border, SIDE - 2 * (int)border,
           SIDE, SIDE);
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, unet_shapes(BATCH, SIDE, border)));
        double loss;
        if (step % 50 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %3d  loss %.4f\n", step, loss);
        }
    }
    double found = unet_found(model, SIDE, border);
    fdl_trainer_free(trainer);
    fdl_sched_free(rate);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = found > 0.5; /* nothing found: 0 */
    printf("intersection over union on new images %.3f%s\n", found, ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
