/* Convolutions and transposed convolutions over 1, 2 and 3 spatial dims. */
#include "flodl/conv.h"

#include "arguments.h"
#include "describe.h"
#include "module_private.h"
#include "onnx.h"
#include "flodl/nn.h"
#include "flodl/shape.h"

/* [first, second, k...] */
static fdl_shape weight_shape(int64_t first, int64_t second, const fdl_shape *kernel)
{
    fdl_shape shape = {{first, second}, 2 + kernel->ndim};
    for (int i = 0; i < kernel->ndim; i++)
        shape.d[2 + i] = kernel->d[i];
    return shape;
}

/* Registers weight and bias; the fan of both is the weight's size(1) times the kernel's elements. */
static void register_weights(fdl_module *m, fdl_shape shape, int64_t out, bool no_bias, fdl_dtype dtype,
                             fdl_device device, fdl_tensor **weight, fdl_tensor **bias)
{
    FDL_SCOPE;
    *weight = fdl_module_param(m, "weight", new_weight(shape, dtype, device));
    if (!no_bias)
        *bias = fdl_module_param(
            m, "bias", new_uniform(FDL_SHAPE(out), fdl_shape_numel(shape) / shape.d[0], dtype, device));
}

/* Multiply-adds: each output element is a sum over the kernel and the input channels of its group. */
static double conv_work(const fdl_call *c)
{
    fdl_shape w = fdl_shape_of(module_leaf(c->module, "weight"));
    return (double)fdl_shape_numel(c->y) * (double)fdl_shape_numel(w) / (double)w.d[0];
}

/* Of a transposed one each input element is spread over the kernel and the output channels of its group. */
static double conv_transpose_work(const fdl_call *c)
{
    fdl_shape w = fdl_shape_of(module_leaf(c->module, "weight"));
    return (double)fdl_shape_numel(c->x) * (double)fdl_shape_numel(w) / (double)w.d[0];
}

/* ---- conv1d, conv2d, conv3d --------------------------------------------------------------------- */

typedef struct conv {
    fdl_tensor *weight;
    fdl_conv_opts o; /* bias and numbers, resolved */
    fdl_pad_mode padding_mode;
    fdl_shape pads; /* what is padded beforehand in modes other than zeros, from the last dim inward */
} conv;

/* x as the convolution takes it: padded, where the mode isn't zeros. */
static fdl_tensor *padded(const conv *m, fdl_tensor *x)
{
    return m->padding_mode == FDL_PAD_CONSTANT ? x : fdl_pad(x, m->pads, .mode = m->padding_mode);
}

static fdl_tensor *conv1d_forward(void *self, fdl_tensor *x)
{
    conv *m = self;
    return fdl_conv1d_opt(padded(m, x), m->weight, &m->o);
}

static fdl_tensor *conv2d_forward(void *self, fdl_tensor *x)
{
    conv *m = self;
    return fdl_conv2d_opt(padded(m, x), m->weight, &m->o);
}

static fdl_tensor *conv3d_forward(void *self, fdl_tensor *x)
{
    conv *m = self;
    return fdl_conv3d_opt(padded(m, x), m->weight, &m->o);
}

static const fdl_module_ops conv_ops[] = {
    {.kind = "conv1d", .size = sizeof(conv), .forward = conv1d_forward},
    {.kind = "conv2d", .size = sizeof(conv), .forward = conv2d_forward},
    {.kind = "conv3d", .size = sizeof(conv), .forward = conv3d_forward},
};

/* Moves the padding out of the convolution into pads. */
static void pad_beforehand(conv *m, const fdl_shape *kernel, int n)
{
    m->pads.ndim = 2 * n;
    for (int i = 0; i < n; i++) {
        int64_t all = m->o.same ? m->o.dilation_dims.d[i] * (kernel->d[i] - 1) : 2 * m->o.padding_dims.d[i];
        m->pads.d[2 * (n - 1 - i)] = all / 2;
        m->pads.d[2 * (n - 1 - i) + 1] = all - all / 2;
        m->o.padding_dims.d[i] = 0;
    }
    m->o.same = false;
}

/* Beginnings, then ends: as much in front as behind, or what `same` wants of this kernel. */
static void onnx_pads(const conv *m, const fdl_shape *weight, int n, int64_t *pads)
{
    for (int i = 0; i < n; i++) {
        int64_t all =
            m->o.same ? m->o.dilation_dims.d[i] * (weight->d[2 + i] - 1) : 2 * m->o.padding_dims.d[i];
        pads[i] = all / 2;
        pads[n + i] = all - all / 2;
    }
}

/* x padded beforehand, as ONNX counts pads: for all dims, beginnings first. */
static const char *onnx_padded(fdl_onnx *o, const conv *m, int rank, const char *x)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    int64_t pads[2 * FDL_MAX_DIMS] = {0};
    if (m->padding_mode == FDL_PAD_CONSTANT)
        return x;
    if (m->padding_mode == FDL_PAD_CIRCULAR && onnx_opset(o) < 19)
        return onnx_refuse(o, "circular padding needs .opset = 19 or later");
    for (int i = 0; 2 * i < m->pads.ndim; i++) {
        pads[rank - 1 - i] = m->pads.d[2 * i];
        pads[2 * rank - 1 - i] = m->pads.d[2 * i + 1];
    }
    return OP_ATTR(o, "Pad", IN(x, onnx_ints(o, 2 * rank, pads)), A_TEXT("mode", modes[m->padding_mode]));
}

static const char *conv_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const conv *m = fdl_module_self(c->module);
    fdl_shape w = fdl_shape_of(m->weight);
    int n = w.ndim - 2;
    int64_t pads[2 * FDL_MAX_DIMS];
    onnx_pads(m, &w, n, pads);
    bool unbatched = c->x.ndim == n + 1;
    const char *in = unbatched ? onnx_unsqueeze(o, *x, 0) : *x;
    in = onnx_padded(o, m, n + 2, in);
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, w.d + 2),
                               A_INTS("strides", n, m->o.stride_dims.d),
                               A_INTS("dilations", n, m->o.dilation_dims.d),
                               A_INTS("pads", 2 * n, pads),
                               A_INT("group", m->o.groups),
                               {0}};
    const char *y = onnx_one(o, "Conv", bias ? 3 : 2, (const char *[]){in, weight, bias}, attrs);
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

typedef struct conv_args {
    int64_t in, out, k;
    fdl_nn_conv_opts o;
} conv_args;

static const char *const pad_names[] = {"zeros", "reflect", "replicate", "circular", NULL};

#define CONV_KIND(id)                                                                      \
    static fdl_module *make_##id(const void *args)                                         \
    {                                                                                      \
        const conv_args *a = args;                                                         \
        return fdl_nn_##id##_opt(a->in, a->out, a->k, &a->o);                              \
    }                                                                                      \
    KIND(id, .name = #id, .work = conv_work, .onnx = conv_onnx,                            \
         ARGS(conv_args, FDL_ARG(conv_args, in, INT64), FDL_ARG(conv_args, out, INT64),    \
              FDL_ARG(conv_args, k, INT64), FDL_OPT(conv_args, kernel_dims, SHAPE),        \
              FDL_OPT(conv_args, stride, INT64), FDL_OPT(conv_args, stride_dims, SHAPE),   \
              FDL_OPT(conv_args, padding, INT64), FDL_OPT(conv_args, padding_dims, SHAPE), \
              FDL_OPT(conv_args, same, BOOL), FDL_OPT(conv_args, dilation, INT64),         \
              FDL_OPT(conv_args, dilation_dims, SHAPE), FDL_OPT(conv_args, groups, INT64), \
              {.name = "padding_mode",                                                     \
               .type = FDL_FIELD_ENUM,                                                     \
               .offset = offsetof(conv_args, o.padding_mode),                              \
               .names = pad_names},                                                        \
              FDL_OPT(conv_args, no_bias, BOOL), FDL_OPT(conv_args, dtype, DTYPE)))

CONV_KIND(conv1d);
CONV_KIND(conv2d);
CONV_KIND(conv3d);
static const fdl_kind *const conv_kinds[] = {&kind_conv1d, &kind_conv2d, &kind_conv3d};

static fdl_module *new_conv(int n, int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts)
{
    const fdl_nn_conv_opts o = opts ? *opts : (fdl_nn_conv_opts){0};
    const fdl_module_ops *ops = &conv_ops[n - 1];
    const char *kind = ops->kind;
    const int64_t groups = o.groups ? o.groups : 1;
    fdl_shape kernel, stride, padding, dilation;
    if (!arg_at_least(kind, "in", in, 1) || !arg_at_least(kind, "out", out, 1) ||
        !arg_at_least(kind, "groups", groups, 1) || !arg_divides(kind, "groups", groups, "in", in) ||
        !arg_divides(kind, "groups", groups, "out", out) ||
        !arg_spatial(kind, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !arg_spatial(kind, "stride", n, o.stride, 1, 1, &o.stride_dims, &stride) ||
        !arg_spatial(kind, "padding", n, o.padding, 0, 0, &o.padding_dims, &padding) ||
        !arg_spatial(kind, "dilation", n, o.dilation, 1, 1, &o.dilation_dims, &dilation) ||
        !arg_within(kind, "padding_mode", o.padding_mode, FDL_PAD_CONSTANT, FDL_PAD_CIRCULAR))
        return NULL;
    if (o.same && (o.padding || o.padding_dims.ndim))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: .same and .padding are both given; give one of them",
                             kind);
    for (int i = 0; o.same && i < n; i++)
        if (stride.d[i] != 1)
            return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: .same needs a stride of 1, got %" PRId64, kind,
                                 stride.d[i]);
    fdl_module *m = fdl_module_new(ops);
    conv *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o =
        (fdl_conv_opts){.groups = groups, .same = o.same, .stride_dims = stride, .dilation_dims = dilation};
    if (!o.same)
        self->o.padding_dims = padding;
    self->padding_mode = o.padding_mode;
    if (o.padding_mode != FDL_PAD_CONSTANT)
        pad_beforehand(self, &kernel, n);
    register_weights(m, weight_shape(out, in / groups, &kernel), out, o.no_bias, o.dtype, o.device,
                     &self->weight, &self->o.bias);
    return described(m, conv_kinds[n - 1], &(conv_args){in, out, k, o});
}

fdl_module *fdl_nn_conv1d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts)
{
    return new_conv(1, in, out, k, opts);
}

fdl_module *fdl_nn_conv2d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts)
{
    return new_conv(2, in, out, k, opts);
}

fdl_module *fdl_nn_conv3d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts)
{
    return new_conv(3, in, out, k, opts);
}

/* ---- conv_transpose1d, conv_transpose2d, conv_transpose3d --------------------------------------- */

typedef struct conv_transpose {
    fdl_tensor *weight;
    fdl_conv_transpose_opts o;
} conv_transpose;

static fdl_tensor *conv_transpose1d_forward(void *self, fdl_tensor *x)
{
    conv_transpose *m = self;
    return fdl_conv_transpose1d_opt(x, m->weight, &m->o);
}

static fdl_tensor *conv_transpose2d_forward(void *self, fdl_tensor *x)
{
    conv_transpose *m = self;
    return fdl_conv_transpose2d_opt(x, m->weight, &m->o);
}

static fdl_tensor *conv_transpose3d_forward(void *self, fdl_tensor *x)
{
    conv_transpose *m = self;
    return fdl_conv_transpose3d_opt(x, m->weight, &m->o);
}

static const fdl_module_ops conv_transpose_ops[] = {
    {.kind = "conv_t1d", .size = sizeof(conv_transpose), .forward = conv_transpose1d_forward},
    {.kind = "conv_t2d", .size = sizeof(conv_transpose), .forward = conv_transpose2d_forward},
    {.kind = "conv_transpose3d", .size = sizeof(conv_transpose), .forward = conv_transpose3d_forward},
};

static const char *conv_transpose_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const conv_transpose *m = fdl_module_self(c->module);
    fdl_shape w = fdl_shape_of(m->weight);
    int n = w.ndim - 2;
    int64_t pads[2 * FDL_MAX_DIMS];
    for (int i = 0; i < n; i++)
        pads[i] = pads[n + i] = m->o.padding_dims.d[i];
    bool unbatched = c->x.ndim == n + 1;
    const char *in = unbatched ? onnx_unsqueeze(o, *x, 0) : *x;
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, w.d + 2),
                               A_INTS("strides", n, m->o.stride_dims.d),
                               A_INTS("dilations", n, m->o.dilation_dims.d),
                               A_INTS("pads", 2 * n, pads),
                               A_INTS("output_padding", n, m->o.output_padding_dims.d),
                               A_INT("group", m->o.groups),
                               {0}};
    const char *y = onnx_one(o, "ConvTranspose", bias ? 3 : 2, (const char *[]){in, weight, bias}, attrs);
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

typedef struct conv_transpose_args {
    int64_t in, out, k;
    fdl_nn_conv_transpose_opts o;
} conv_transpose_args;

#define CONV_TRANSPOSE_KIND(id, name_)                                                                       \
    static fdl_module *make_##id(const void *args)                                                           \
    {                                                                                                        \
        const conv_transpose_args *a = args;                                                                 \
        return fdl_nn_##id##_opt(a->in, a->out, a->k, &a->o);                                                \
    }                                                                                                        \
    KIND(id, .name = name_, .work = conv_transpose_work, .onnx = conv_transpose_onnx,                        \
         ARGS(conv_transpose_args, FDL_ARG(conv_transpose_args, in, INT64),                                  \
              FDL_ARG(conv_transpose_args, out, INT64), FDL_ARG(conv_transpose_args, k, INT64),              \
              FDL_OPT(conv_transpose_args, kernel_dims, SHAPE), FDL_OPT(conv_transpose_args, stride, INT64), \
              FDL_OPT(conv_transpose_args, stride_dims, SHAPE),                                              \
              FDL_OPT(conv_transpose_args, padding, INT64),                                                  \
              FDL_OPT(conv_transpose_args, padding_dims, SHAPE),                                             \
              FDL_OPT(conv_transpose_args, output_padding, INT64),                                           \
              FDL_OPT(conv_transpose_args, output_padding_dims, SHAPE),                                      \
              FDL_OPT(conv_transpose_args, dilation, INT64),                                                 \
              FDL_OPT(conv_transpose_args, dilation_dims, SHAPE),                                            \
              FDL_OPT(conv_transpose_args, groups, INT64), FDL_OPT(conv_transpose_args, no_bias, BOOL),      \
              FDL_OPT(conv_transpose_args, dtype, DTYPE)))

CONV_TRANSPOSE_KIND(conv_transpose1d, "conv_t1d");
CONV_TRANSPOSE_KIND(conv_transpose2d, "conv_t2d");
CONV_TRANSPOSE_KIND(conv_transpose3d, "conv_transpose3d");
static const fdl_kind *const conv_transpose_kinds[] = {&kind_conv_transpose1d, &kind_conv_transpose2d,
                                                       &kind_conv_transpose3d};

static fdl_module *new_conv_transpose(int n, int64_t in, int64_t out, int64_t k,
                                      const fdl_nn_conv_transpose_opts *opts)
{
    static const char *const names[] = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"};
    const fdl_nn_conv_transpose_opts o = opts ? *opts : (fdl_nn_conv_transpose_opts){0};
    const char *name = names[n - 1];
    const int64_t groups = o.groups ? o.groups : 1;
    fdl_shape kernel, stride, padding, output_padding, dilation;
    if (!arg_at_least(name, "in", in, 1) || !arg_at_least(name, "out", out, 1) ||
        !arg_at_least(name, "groups", groups, 1) || !arg_divides(name, "groups", groups, "in", in) ||
        !arg_divides(name, "groups", groups, "out", out) ||
        !arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !arg_spatial(name, "stride", n, o.stride, 1, 1, &o.stride_dims, &stride) ||
        !arg_spatial(name, "padding", n, o.padding, 0, 0, &o.padding_dims, &padding) ||
        !arg_spatial(name, "output_padding", n, o.output_padding, 0, 0, &o.output_padding_dims,
                     &output_padding) ||
        !arg_spatial(name, "dilation", n, o.dilation, 1, 1, &o.dilation_dims, &dilation))
        return NULL;
    for (int i = 0; i < n; i++)
        if (output_padding.d[i] >= stride.d[i] && output_padding.d[i] >= dilation.d[i])
            return fdl_fail_null(FDL_E_ARG,
                                 "fdl_nn_%s: output_padding is %" PRId64
                                 ", must be less than stride, %" PRId64 ", or dilation, %" PRId64,
                                 name, output_padding.d[i], stride.d[i], dilation.d[i]);
    fdl_module *m = fdl_module_new(&conv_transpose_ops[n - 1]);
    conv_transpose *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = (fdl_conv_transpose_opts){.groups = groups,
                                        .stride_dims = stride,
                                        .padding_dims = padding,
                                        .output_padding_dims = output_padding,
                                        .dilation_dims = dilation};
    register_weights(m, weight_shape(in, out / groups, &kernel), out, o.no_bias, o.dtype, o.device,
                     &self->weight, &self->o.bias);
    return described(m, conv_transpose_kinds[n - 1], &(conv_transpose_args){in, out, k, o});
}

fdl_module *fdl_nn_conv_transpose1d_opt(int64_t in, int64_t out, int64_t k,
                                        const fdl_nn_conv_transpose_opts *opts)
{
    return new_conv_transpose(1, in, out, k, opts);
}

fdl_module *fdl_nn_conv_transpose2d_opt(int64_t in, int64_t out, int64_t k,
                                        const fdl_nn_conv_transpose_opts *opts)
{
    return new_conv_transpose(2, in, out, k, opts);
}

fdl_module *fdl_nn_conv_transpose3d_opt(int64_t in, int64_t out, int64_t k,
                                        const fdl_nn_conv_transpose_opts *opts)
{
    return new_conv_transpose(3, in, out, k, opts);
}

fdl_tensor *fdl_nn_conv_transpose_forward_opt(fdl_module *m, fdl_tensor *x,
                                              const fdl_nn_conv_transpose_forward_opts *opts)
{
    static fdl_tensor *(*const convs[])(fdl_tensor *, fdl_tensor *, const fdl_conv_transpose_opts *) = {
        fdl_conv_transpose1d_opt, fdl_conv_transpose2d_opt, fdl_conv_transpose3d_opt};
    const fdl_shape size = opts ? opts->size : (fdl_shape){0};
    if (!m || !x)
        return fdl_null_operand("fdl_nn_conv_transpose_forward", m ? "x" : "m"), NULL;
    int n = 1;
    while (n <= 3 && fdl_module_ops_of(m) != &conv_transpose_ops[n - 1])
        n++;
    if (n > 3)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_nn_conv_transpose_forward: got a %s, needs a transposed convolution",
                             fdl_module_kind(m));
    const conv_transpose *self = fdl_module_self(m);
    if (size.ndim == 0)
        return fdl_forward(m, x);
    if (size.ndim != n)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_conv_transpose_forward: .size has %d extents, must have %d",
                             size.ndim, n);
    fdl_shape in = fdl_shape_of(x), w = fdl_shape_of(self->weight);
    fdl_conv_transpose_opts o = self->o;
    char text[256];
    if (in.ndim != n + 1 && in.ndim != n + 2)
        return fdl_fail_null(FDL_E_SHAPE, "fdl_nn_conv_transpose_forward: takes %d or %d dims, got %s", n + 1,
                             n + 2, fdl_describe(x, text, sizeof text));
    for (int i = 0; i < n; i++) {
        int64_t least = (in.d[in.ndim - n + i] - 1) * o.stride_dims.d[i] - 2 * o.padding_dims.d[i] +
                        o.dilation_dims.d[i] * (w.d[2 + i] - 1) + 1;
        o.output_padding_dims.d[i] = size.d[i] - least;
        if (size.d[i] < least || size.d[i] >= least + o.stride_dims.d[i])
            return fdl_fail_null(FDL_E_SHAPE,
                                 "fdl_nn_conv_transpose_forward: an extent of .size is %" PRId64
                                 ", must be from %" PRId64 " to %" PRId64 " for %s",
                                 size.d[i], least, least + o.stride_dims.d[i] - 1,
                                 fdl_describe(x, text, sizeof text));
    }
    FDL_SCOPE;
    MODULE_CALL(m);
    FDL_RETURN(convs[n - 1](x, self->weight, &o));
}
