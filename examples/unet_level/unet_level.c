/* One level of a U-Net written by hand from tensor operations: two convolutions with batch norm, max pool,
 * two convolutions with group norm below, a transposed convolution up again, the skip connection, two
 * convolutions more. Result, running statistics and every gradient are compared with those that PyTorch
 * computes from the same numbers. */
#include <flodl/flodl.h>

#include "unet_level_data.h"

enum { BATCH = 2, CHANNELS = 2, SIDE = 8, GROUPS = 2 };

/* The input and the parameters: leaves in float64 with the names and shapes of the data's list. */
#define FIELD(name, ...) fdl_tensor *name;
typedef struct level {
    LEAVES(FIELD)
} level;

/* Of the four batch norms, in the order in which they run: [CHANNELS] each. */
typedef struct statistics {
    fdl_tensor *mean[4], *var[4];
} statistics;

/* x [N, C, H, W], w [out, C, 3, 3] -> [N, out, H, W]. */
static fdl_tensor *conv_batch(fdl_tensor *x, fdl_tensor *w, fdl_tensor *scale, fdl_tensor *shift,
                              statistics *s, int i)
{
    x = fdl_conv2d(x, w, .padding = 1);
    x = fdl_batch_norm(x, .weight = scale, .bias = shift, .running_mean = s->mean[i],
                       .running_var = s->var[i], .training = true);
    return fdl_relu(x);
}

static fdl_tensor *conv_group(fdl_tensor *x, fdl_tensor *w, fdl_tensor *scale, fdl_tensor *shift)
{
    x = fdl_conv2d(x, w, .padding = 1);
    return fdl_relu(fdl_group_norm(x, GROUPS, .weight = scale, .bias = shift));
}

/* The level's image [N, 1, SIDE, SIDE] -> a logit for each pixel [N, 1, SIDE, SIDE]. */
static fdl_tensor *forward(const level *l, statistics *s)
{
    FDL_SCOPE;
    fdl_tensor *skip = conv_batch(l->x, l->down1_weight, l->down1_scale, l->down1_shift, s, 0);
    skip = conv_batch(skip, l->down2_weight, l->down2_scale, l->down2_shift, s, 1);

    fdl_tensor *low = fdl_max_pool2d(skip, 2); /* [N, CHANNELS, SIDE / 2, SIDE / 2] */
    low = conv_group(low, l->bottom1_weight, l->bottom1_scale, l->bottom1_shift);
    low = conv_group(low, l->bottom2_weight, l->bottom2_scale, l->bottom2_shift);

    fdl_tensor *up = fdl_conv_transpose2d(low, l->up_weight, .bias = l->up_bias, .stride = 2);
    fdl_tensor *y = fdl_cat(FDL_LIST(skip, up), 1); /* [N, 2 CHANNELS, SIDE, SIDE] */
    y = conv_batch(y, l->join1_weight, l->join1_scale, l->join1_shift, s, 2);
    y = conv_batch(y, l->join2_weight, l->join2_scale, l->join2_shift, s, 3);
    FDL_RETURN(fdl_conv2d(y, l->head_weight, .bias = l->head_bias));
}

/* Whether x has the recorded values; prints the largest difference. */
static bool agrees(const char *what, fdl_tensor *x, const double *recorded)
{
    FDL_SCOPE;
    fdl_tensor *want = fdl_from_f64(recorded, fdl_shape_of(x));
    double worst = fdl_item(fdl_max(fdl_abs(fdl_sub(x, want))));
    bool ok = worst <= 1e-12; /* NaN fails */
    printf("%-14s differs by %.1e at most%s\n", what, worst, ok ? "" : ": TOO MUCH");
    return ok;
}

int main(void)
{
    FDL_SCOPE;
    level l;
#define LEAF(name, ...)                                                                 \
    l.name = fdl_from_f64(name##_value, FDL_SHAPE(__VA_ARGS__), .requires_grad = true); \
    FDL_NEED(l.name);
    LEAVES(LEAF)
    statistics s;
    for (int i = 0; i < 4; i++) {
        s.mean[i] = fdl_zeros(FDL_SHAPE(CHANNELS), .dtype = FDL_FLOAT64);
        s.var[i] = fdl_ones(FDL_SHAPE(CHANNELS), .dtype = FDL_FLOAT64);
        FDL_NEED(s.mean[i] && s.var[i]);
    }

    fdl_tensor *y = forward(&l, &s);
    fdl_tensor *mask = fdl_from_f64(mask_value, FDL_SHAPE(BATCH, 1, SIDE, SIDE));
    FDL_CHECK(fdl_backward(fdl_binary_cross_entropy_with_logits(y, mask)));

    bool ok = agrees("y", y, y_recorded);
#define CHECK(name, ...) ok = agrees(#name, fdl_grad(l.name), name##_gradient) && ok;
    LEAVES(CHECK)
    const double *mean[] = {down1_mean, down2_mean, join1_mean, join2_mean};
    const double *var[] = {down1_var, down2_var, join1_var, join2_var};
    for (int i = 0; i < 4; i++) {
        ok = agrees("running mean", s.mean[i], mean[i]) && ok;
        ok = agrees("running var", s.var[i], var[i]) && ok;
    }
    puts(ok ? "the level is PyTorch's" : "the level is NOT PyTorch's");
    return ok ? 0 : 1;
}
