/* Resampling: upsample, gaussian_blur. Channels and places: pixel_shuffle, pixel_unshuffle, channel_shuffle, unfold, fold. */
#include "flodl/nn_resample.h"

#include <math.h>

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "flodl/nn.h"

/* ---- upsample ----------------------------------------------------------------------------------- */

static fdl_tensor *upsample_forward(void *self, fdl_tensor *x)
{
    return fdl_interpolate_opt(x, self);
}

typedef struct upsample_args {
    fdl_nn_upsample_opts o;
} upsample_args;

static fdl_module *make_upsample(const void *args)
{
    return fdl_nn_upsample_opt(&((const upsample_args *)args)->o);
}

/* Extents of a size, behind those of the batch and the channels as they come. */
static const char *onnx_sizes(fdl_onnx *o, const fdl_call *c, const char *x)
{
    const char *first = onnx_slice(o, OP(o, "Shape", IN(x)), 0, 0, 2);
    const char *last = onnx_ints(o, c->y.ndim - 2, c->y.d + 2);
    return OP_ATTR(o, "Concat", IN(first, last), A_INT("axis", 0));
}

static const char *upsample_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    static const char *const modes[] = {"nearest", "nearest", "linear", "linear", "cubic", "linear"};
    const fdl_interpolate_opts *m = fdl_module_self(c->module);
    if (m->mode == FDL_INTERPOLATE_AREA)
        return onnx_refuse(o, "means over areas aren't told in ONNX; an adaptive_avg_pool may be");
    bool nearest = m->mode == FDL_INTERPOLATE_NEAREST;
    const onnx_attr attrs[] = {A_TEXT("mode", modes[m->mode]),
                               A_TEXT("coordinate_transformation_mode", nearest            ? "asymmetric"
                                                                        : m->align_corners ? "align_corners"
                                                                                           : "half_pixel"),
                               A_TEXT("nearest_mode", nearest ? "floor" : "round_prefer_ceil"),
                               A_FLOAT("cubic_coeff_a", -0.75),
                               {0}};
    if (m->size.ndim == 0 && !m->recompute_scale) {
        double factors[5] = {1, 1};
        for (int i = 0; i < 3; i++)
            factors[2 + i] = m->scale != 0 ? m->scale : m->scale_dims[i];
        fdl_tensor *t = fdl_from_f64(factors, FDL_SHAPE(c->x.ndim), .dtype = FDL_FLOAT32, .device = FDL_CPU);
        return onnx_one(o, "Resize", IN(*x, "", onnx_tensor(o, t, onnx_text(o, "%s/scales", onnx_place(o)))),
                        attrs);
    }
    return onnx_one(o, "Resize", IN(*x, "", "", onnx_sizes(o, c, *x)), attrs);
}

static const char *const mode_names[] = {"nearest", "nearest-exact", "linear", "bilinear",
                                         "bicubic", "trilinear",     "area",   NULL};

#define SCALE(i)                                                               \
    {                                                                          \
        .name = "scale_" #i, .type = FDL_FIELD_DOUBLE,                         \
        .offset = offsetof(upsample_args, o.scale_dims) + (i) * sizeof(double) \
    }
KIND(upsample, .name = "upsample", .onnx = upsample_onnx,
     ARGS(upsample_args, FDL_OPT(upsample_args, size, SHAPE), FDL_OPT(upsample_args, scale, DOUBLE), SCALE(0),
          SCALE(1), SCALE(2),
          {.name = "mode",
           .type = FDL_FIELD_ENUM,
           .offset = offsetof(upsample_args, o.mode),
           .names = mode_names},
          FDL_OPT(upsample_args, align_corners, BOOL), FDL_OPT(upsample_args, recompute_scale, BOOL)));

fdl_module *fdl_nn_upsample_opt(const fdl_nn_upsample_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "upsample", .size = sizeof(fdl_interpolate_opts), .forward = upsample_forward};
    const fdl_nn_upsample_opts o = opts ? *opts : (fdl_nn_upsample_opts){0};
    int each = arg_factors(o.scale_dims, INT32_MAX);
    if (each < 0)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_nn_upsample: .scale_dims must have numbers above 0, from the first on");
    if (!arg_counted("upsample", "size", &o.size))
        return NULL;
    if ((o.size.ndim != 0) + (o.scale != 0) + (each != 0) != 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_upsample: needs .size or .scale, and not both");
    if (o.scale != 0 && !(o.scale > 0 && o.scale <= INT32_MAX))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_upsample: scale is %g, must be above 0", o.scale);
    if (!arg_within("upsample", "the number of extents of size", o.size.ndim, 0, 3) ||
        !arg_within("upsample", "mode", o.mode, FDL_INTERPOLATE_NEAREST, FDL_INTERPOLATE_AREA))
        return NULL;
    for (int i = 0; i < o.size.ndim; i++)
        if (!arg_at_least("upsample", "an extent of size", o.size.d[i], 1))
            return NULL;
    if (o.align_corners && (o.mode < FDL_INTERPOLATE_LINEAR || o.mode > FDL_INTERPOLATE_TRILINEAR))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_upsample: align_corners means nothing to mode %s",
                             mode_names[o.mode]);
    if (o.recompute_scale && o.size.ndim)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_upsample: recompute_scale needs .scale");
    fdl_module *m = fdl_module_new(&ops);
    fdl_interpolate_opts *self = fdl_module_self(m);
    if (self)
        *self = (fdl_interpolate_opts){.size = o.size,
                                       .scale = o.scale,
                                       .scale_dims = {o.scale_dims[0], o.scale_dims[1], o.scale_dims[2]},
                                       .mode = o.mode,
                                       .align_corners = o.align_corners,
                                       .recompute_scale = o.recompute_scale};
    return DESCRIBED(m, upsample, (upsample_args){o});
}

/* ---- gaussian_blur ------------------------------------------------------------------------------ */

typedef struct gaussian_blur {
    double sigma;
    fdl_nn_gaussian_blur_opts o;
} gaussian_blur;

static fdl_tensor *gaussian_blur_forward(void *self, fdl_tensor *x)
{
    const gaussian_blur *m = self;
    return fdl_gaussian_blur(x, m->sigma, .padding_mode = m->o.padding_mode, .no_grad = m->o.no_grad);
}

static fdl_module *make_gaussian_blur(const void *args)
{
    const gaussian_blur *a = args;
    return fdl_nn_gaussian_blur_opt(a->sigma, &a->o);
}

/* A constant of x's dtype, values [*]. */
static const char *onnx_weights(fdl_onnx *o, fdl_tensor *values, const char *name, const char *x)
{
    const char *w = onnx_tensor(o, fdl_contiguous(values), onnx_text(o, "%s/%s", onnx_place(o), name));
    return OP(o, "CastLike", IN(w, x));
}

/* Two convolutions, of each channel for itself. */
static const char *gaussian_blur_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const gaussian_blur *m = c->args;
    int64_t r = (int64_t)ceil(3 * m->sigma), n = 2 * r + 1, channels = c->x.d[1];
    int64_t pads[] = {0, 0, r, r, 0, 0, r, r};
    if (m->o.padding_mode == FDL_PAD_CIRCULAR && onnx_opset(o) < 19)
        return onnx_refuse(o, "circular padding needs .opset = 19 or later");
    fdl_tensor *i = fdl_arange((double)-r, (double)(r + 1), 1, .dtype = FDL_FLOAT64, .device = FDL_CPU);
    fdl_tensor *w = fdl_softmax(fdl_div(fdl_mul(i, i), -2 * m->sigma * m->sigma), 0);
    fdl_tensor *along_w = fdl_expand(fdl_reshape(w, FDL_SHAPE(1, 1, 1, n)), FDL_SHAPE(channels, 1, 1, n));
    fdl_tensor *along_h = fdl_expand(fdl_reshape(w, FDL_SHAPE(1, 1, n, 1)), FDL_SHAPE(channels, 1, n, 1));
    const char *y =
        OP_ATTR(o, "Pad", IN(*x, onnx_ints(o, 8, pads)), A_TEXT("mode", modes[m->o.padding_mode]));
    y = OP_ATTR(o, "Conv", IN(y, onnx_weights(o, along_w, "along_w", *x)), A_INT("group", channels));
    return OP_ATTR(o, "Conv", IN(y, onnx_weights(o, along_h, "along_h", *x)), A_INT("group", channels));
}

static const char *const pad_names[] = {"zeros", "reflect", "replicate", "circular", NULL};

KIND(gaussian_blur, .name = "gaussian_blur", .onnx = gaussian_blur_onnx,
     ARGS(gaussian_blur, FDL_ARG(gaussian_blur, sigma, DOUBLE),
          {.name = "padding_mode",
           .type = FDL_FIELD_ENUM,
           .offset = offsetof(gaussian_blur, o.padding_mode),
           .names = pad_names},
          FDL_OPT(gaussian_blur, no_grad, BOOL)));

fdl_module *fdl_nn_gaussian_blur_opt(double sigma, const fdl_nn_gaussian_blur_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "gaussian_blur", .size = sizeof(gaussian_blur), .forward = gaussian_blur_forward};
    const fdl_nn_gaussian_blur_opts o = opts ? *opts : (fdl_nn_gaussian_blur_opts){0};
    if (!(sigma > 0 && sigma <= 3000))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_gaussian_blur: sigma is %g, must be above 0 and at most 3000",
                             sigma);
    if (!arg_within("gaussian_blur", "padding_mode", o.padding_mode, FDL_PAD_CONSTANT, FDL_PAD_CIRCULAR))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    gaussian_blur *self = fdl_module_self(m);
    if (self)
        *self = (gaussian_blur){sigma, o};
    return DESCRIBED(m, gaussian_blur, (gaussian_blur){sigma, o});
}

/* ---- pixel_shuffle, pixel_unshuffle, channel_shuffle: self is the number ------------------------- */

typedef struct shuffle_args {
    int64_t n;
} shuffle_args;

static fdl_tensor *pixel_shuffle_forward(void *self, fdl_tensor *x)
{
    return fdl_pixel_shuffle(x, ((const shuffle_args *)self)->n);
}

static fdl_tensor *pixel_unshuffle_forward(void *self, fdl_tensor *x)
{
    return fdl_pixel_unshuffle(x, ((const shuffle_args *)self)->n);
}

static fdl_tensor *channel_shuffle_forward(void *self, fdl_tensor *x)
{
    return fdl_channel_shuffle(x, ((const shuffle_args *)self)->n);
}

/* [N, C, H, W] in ONNX, x having dims in front of [C, H, W] or none. */
static const char *onnx_one_batch(fdl_onnx *o, const fdl_shape *x, const char *in)
{
    const int n = x->ndim;
    return n == 4 ? in : OP(o, "Reshape", IN(in, INTS(o, -1, x->d[n - 3], x->d[n - 2], x->d[n - 1])));
}

/* The last three dims are those of shape, what is in front of them stays by its place. */
static const char *onnx_batches(fdl_onnx *o, const fdl_shape *shape, const char *y)
{
    int64_t to[FDL_MAX_DIMS];
    for (int i = 0; i < shape->ndim; i++)
        to[i] = i == 0 && shape->ndim > 3 ? -1 : shape->d[i];
    return shape->ndim == 4 ? y : OP(o, "Reshape", IN(y, onnx_ints(o, shape->ndim, to)));
}

static const char *pixel_shuffle_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const shuffle_args *m = c->args;
    const char *y = OP_ATTR(o, "DepthToSpace", IN(onnx_one_batch(o, &c->x, *x)), A_INT("blocksize", m->n),
                            A_TEXT("mode", "CRD"));
    return onnx_batches(o, &c->y, y);
}

/* ONNX's SpaceToDepth has the channels last among what it makes of one. */
static const char *pixel_unshuffle_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const int64_t r = ((const shuffle_args *)c->args)->n, n = c->x.ndim;
    const int64_t channels = c->x.d[n - 3], h = c->x.d[n - 2] / r, w = c->x.d[n - 1] / r;
    const char *y = OP(o, "Reshape", IN(*x, INTS(o, -1, channels, h, r, w, r)));
    y = TRANSPOSE(o, y, 0, 1, 3, 5, 2, 4);
    y = OP(o, "Reshape", IN(y, INTS(o, -1, channels * r * r, h, w)));
    return onnx_batches(o, &c->y, y);
}

static const char *channel_shuffle_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const int64_t groups = ((const shuffle_args *)c->args)->n;
    const char *y = OP(o, "Reshape", IN(*x, INTS(o, 0, groups, c->x.d[1] / groups, -1)));
    return OP(o, "Reshape", IN(TRANSPOSE(o, y, 0, 2, 1, 3), OP(o, "Shape", IN(*x))));
}

#define SHUFFLE_KIND(id, number)                                                            \
    static fdl_module *make_##id(const void *args)                                          \
    {                                                                                       \
        return fdl_nn_##id(((const shuffle_args *)args)->n);                                \
    }                                                                                       \
    KIND(id, .name = #id, .onnx = id##_onnx,                                                \
         ARGS(shuffle_args, {.name = #number, .type = FDL_FIELD_INT64, .required = true})); \
    fdl_module *fdl_nn_##id(int64_t number)                                                 \
    {                                                                                       \
        static const fdl_module_ops ops = {                                                 \
            .kind = #id, .size = sizeof(shuffle_args), .forward = id##_forward};            \
        if (!arg_within(#id, #number, (double)number, 1, INT32_MAX))                        \
            return NULL;                                                                    \
        fdl_module *m = fdl_module_new(&ops);                                               \
        shuffle_args *self = fdl_module_self(m);                                            \
        if (self)                                                                           \
            *self = (shuffle_args){number};                                                 \
        return described(m, &kind_##id, &(shuffle_args){number});                           \
    }

SHUFFLE_KIND(pixel_shuffle, r)
SHUFFLE_KIND(pixel_unshuffle, r)
SHUFFLE_KIND(channel_shuffle, groups)

/* ---- unfold, fold ------------------------------------------------------------------------------- */

typedef struct fold {
    fdl_shape size; /* of fold */
    fdl_unfold_opts o;
} fold;

static fdl_tensor *unfold_forward(void *self, fdl_tensor *x)
{
    return fdl_unfold_opt(x, 0, &((const fold *)self)->o);
}

static fdl_tensor *fold_forward(void *self, fdl_tensor *x)
{
    const fold *m = self;
    return fdl_fold_opt(x, m->size, 0, &m->o);
}

static void both_pads(const fold *m, int64_t pads[4])
{
    for (int i = 0; i < 2; i++)
        pads[i] = pads[2 + i] = m->o.padding_dims.d[i];
}

/* A convolution of each channel for itself, in which each place of the kernel has a channel of its own. */
static const char *unfold_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fold *m = fdl_module_self(c->module);
    const bool unbatched = c->x.ndim == 3;
    const int64_t *k = m->o.kernel_dims.d, places = k[0] * k[1], channels = c->x.d[c->x.ndim - 3];
    int64_t pads[4];
    both_pads(m, pads);
    fdl_tensor *one = fdl_reshape(fdl_eye(places, .device = FDL_CPU), FDL_SHAPE(places, 1, k[0], k[1]));
    fdl_tensor *w = fdl_repeat(one, FDL_SHAPE(channels, 1, 1, 1));
    const char *in = unbatched ? onnx_unsqueeze(o, *x, 0) : *x;
    const char *y =
        OP_ATTR(o, "Conv", IN(in, onnx_weights(o, w, "places", *x)), A_INTS("kernel_shape", 2, k),
                A_INTS("strides", 2, m->o.stride_dims.d), A_INTS("dilations", 2, m->o.dilation_dims.d),
                A_INTS("pads", 4, pads), A_INT("group", channels));
    y = OP(o, "Reshape", IN(y, INTS(o, 0, channels * places, -1)));
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

static const char *fold_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fold *m = fdl_module_self(c->module);
    const bool unbatched = c->x.ndim == 2;
    int64_t pads[4];
    if (onnx_opset(o) < 18)
        return onnx_refuse(o, "it needs .opset = 18 or later");
    both_pads(m, pads);
    const char *in = unbatched ? onnx_unsqueeze(o, *x, 0) : *x;
    const char *size = onnx_ints(o, 2, c->y.d + c->y.ndim - 2), *k = onnx_ints(o, 2, m->o.kernel_dims.d);
    const char *y = OP_ATTR(o, "Col2Im", IN(in, size, k), A_INTS("strides", 2, m->o.stride_dims.d),
                            A_INTS("dilations", 2, m->o.dilation_dims.d), A_INTS("pads", 4, pads));
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

typedef struct unfold_args {
    int64_t k;
    fdl_nn_unfold_opts o;
} unfold_args;

typedef struct fold_args {
    fdl_shape size;
    int64_t k;
    fdl_nn_unfold_opts o;
} fold_args;

static fdl_module *make_unfold(const void *args)
{
    const unfold_args *a = args;
    return fdl_nn_unfold_opt(a->k, &a->o);
}

static fdl_module *make_fold(const void *args)
{
    const fold_args *a = args;
    return fdl_nn_fold_opt(a->size, a->k, &a->o);
}

#define UNFOLD_OPTIONS(args_)                                                 \
    FDL_OPT(args_, kernel_dims, SHAPE), FDL_OPT(args_, dilation, INT64),      \
        FDL_OPT(args_, dilation_dims, SHAPE), FDL_OPT(args_, padding, INT64), \
        FDL_OPT(args_, padding_dims, SHAPE), FDL_OPT(args_, stride, INT64),   \
        FDL_OPT(args_, stride_dims, SHAPE)

KIND(unfold, .name = "unfold", .onnx = unfold_onnx,
     ARGS(unfold_args, FDL_ARG(unfold_args, k, INT64), UNFOLD_OPTIONS(unfold_args)));
KIND(fold, .name = "fold", .onnx = fold_onnx,
     ARGS(fold_args, FDL_ARG(fold_args, size, SHAPE), FDL_ARG(fold_args, k, INT64),
          UNFOLD_OPTIONS(fold_args)));

/* Resolves o into self's options. */
static bool unfold_options(const char *name, int64_t k, const fdl_nn_unfold_opts *o, fdl_unfold_opts *out)
{
    return arg_spatial(name, "kernel", 2, k, 0, 1, &o->kernel_dims, &out->kernel_dims) &&
           arg_spatial(name, "dilation", 2, o->dilation, 1, 1, &o->dilation_dims, &out->dilation_dims) &&
           arg_spatial(name, "padding", 2, o->padding, 0, 0, &o->padding_dims, &out->padding_dims) &&
           arg_spatial(name, "stride", 2, o->stride, 1, 1, &o->stride_dims, &out->stride_dims);
}

fdl_module *fdl_nn_unfold_opt(int64_t k, const fdl_nn_unfold_opts *opts)
{
    static const fdl_module_ops ops = {.kind = "unfold", .size = sizeof(fold), .forward = unfold_forward};
    const fdl_nn_unfold_opts o = opts ? *opts : (fdl_nn_unfold_opts){0};
    fold made = {0};
    if (!unfold_options("unfold", k, &o, &made.o))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    fold *self = fdl_module_self(m);
    if (self)
        *self = made;
    return DESCRIBED(m, unfold, (unfold_args){k, o});
}

fdl_module *fdl_nn_fold_opt(fdl_shape size, int64_t k, const fdl_nn_unfold_opts *opts)
{
    static const fdl_module_ops ops = {.kind = "fold", .size = sizeof(fold), .forward = fold_forward};
    const fdl_nn_unfold_opts o = opts ? *opts : (fdl_nn_unfold_opts){0};
    fold made = {.size = size};
    if (!arg_within("fold", "the number of extents of size", size.ndim, 1, 2))
        return NULL;
    for (int i = 0; i < size.ndim; i++)
        if (!arg_at_least("fold", "an extent of size", size.d[i], 1))
            return NULL;
    if (!unfold_options("fold", k, &o, &made.o))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    fold *self = fdl_module_self(m);
    if (self)
        *self = made;
    return DESCRIBED(m, fold, (fold_args){size, k, o});
}
