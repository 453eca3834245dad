/* Pooling: max, average, adaptive. */
#include "pool_private.h"

#include "describe.h"
#include "flodl/nn.h"

/* Padding of more than half a window would give windows without an element. */
static bool at_most_half(const char *name, const fdl_shape *padding, const fdl_shape *kernel)
{
    for (int i = 0; i < kernel->ndim; i++)
        if (padding->d[i] > kernel->d[i] / 2) {
            fdl_fail(FDL_E_ARG,
                     "fdl_nn_%s: padding is %" PRId64 ", must be at most half the kernel, %" PRId64, name,
                     padding->d[i], kernel->d[i]);
            return false;
        }
    return true;
}

bool pool_stride(const char *name, int n, int64_t stride, const fdl_shape *dims, const fdl_shape *kernel,
                 fdl_shape *out)
{
    *out = *kernel;
    return (stride == 0 && dims->ndim == 0) || arg_spatial(name, "stride", n, stride, 1, 1, dims, out);
}

const char *onnx_pool(fdl_onnx *o, const fdl_call *c, int n, const char *x, const char *op,
                      const onnx_attr *attrs)
{
    bool unbatched = c->x.ndim == n + 1;
    const char *in = unbatched ? onnx_unsqueeze(o, x, 0) : x;
    const char *y = onnx_one(o, op, 1, &in, attrs);
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

/* ---- indices ------------------------------------------------------------------------------------ */

fdl_tensor *indexed_forward(void *self, fdl_tensor *x)
{
    const indexed_pool *m = self;
    return m->run(self, x, NULL);
}

fdl_tensor *fdl_nn_max_pool_forward(fdl_module *m, fdl_tensor *x, fdl_tensor **indices)
{
    if (!m || !x)
        return fdl_null_operand("fdl_nn_max_pool_forward", m ? "x" : "m"), NULL;
    if (fdl_module_ops_of(m)->forward != indexed_forward)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_max_pool_forward: got a %s, needs a max pool",
                             fdl_module_kind(m));
    FDL_SCOPE;
    fdl_tensor *at = NULL;
    const indexed_pool *self = fdl_module_self(m);
    fdl_tensor *y = self->run(self, x, indices ? &at : NULL);
    if (indices)
        *indices = y ? fdl_escape(at) : NULL;
    FDL_RETURN(y);
}

/* ---- max ---------------------------------------------------------------------------------------- */

typedef struct max_pool {
    indexed_pool indexed;
    fdl_max_pool_opts o;
} max_pool;

static fdl_tensor *max_pool_run(const void *self, fdl_tensor *x, fdl_tensor **indices)
{
    static fdl_tensor *(*const pools[])(fdl_tensor *, int64_t, const fdl_max_pool_opts *) = {
        fdl_max_pool1d_opt, fdl_max_pool2d_opt, fdl_max_pool3d_opt};
    fdl_max_pool_opts o = ((const max_pool *)self)->o;
    o.indices = indices;
    return pools[o.kernel_dims.ndim - 1](x, 0, &o);
}

static const fdl_module_ops max_pool_ops[] = {
    {.kind = "maxpool1d", .size = sizeof(max_pool), .forward = indexed_forward},
    {.kind = "maxpool2d", .size = sizeof(max_pool), .forward = indexed_forward},
    {.kind = "max_pool3d", .size = sizeof(max_pool), .forward = indexed_forward},
};

static const int64_t *twice(const fdl_shape *padding, int64_t *pads)
{
    for (int i = 0; i < padding->ndim; i++)
        pads[i] = pads[padding->ndim + i] = padding->d[i];
    return pads;
}

static const char *max_pool_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_max_pool_opts *m = &((const max_pool *)fdl_module_self(c->module))->o;
    int n = m->kernel_dims.ndim;
    int64_t pads[2 * FDL_MAX_DIMS];
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, m->kernel_dims.d),
                               A_INTS("strides", n, m->stride_dims.d),
                               A_INTS("dilations", n, m->dilation_dims.d),
                               A_INTS("pads", 2 * n, twice(&m->padding_dims, pads)),
                               A_INT("ceil_mode", m->ceil_mode),
                               {0}};
    return onnx_pool(o, c, n, *x, "MaxPool", attrs);
}

typedef struct max_pool_args {
    int64_t k;
    fdl_nn_max_pool_opts o;
} max_pool_args;

#define MAX_POOL_KIND(id, name_)                                                                           \
    static fdl_module *make_##id(const void *args)                                                         \
    {                                                                                                      \
        const max_pool_args *a = args;                                                                     \
        return fdl_nn_##id##_opt(a->k, &a->o);                                                             \
    }                                                                                                      \
    KIND(id, .name = name_, .onnx = max_pool_onnx,                                                         \
         ARGS(max_pool_args, FDL_ARG(max_pool_args, k, INT64), FDL_OPT(max_pool_args, kernel_dims, SHAPE), \
              FDL_OPT(max_pool_args, stride, INT64), FDL_OPT(max_pool_args, stride_dims, SHAPE),           \
              FDL_OPT(max_pool_args, padding, INT64), FDL_OPT(max_pool_args, padding_dims, SHAPE),         \
              FDL_OPT(max_pool_args, dilation, INT64), FDL_OPT(max_pool_args, dilation_dims, SHAPE),       \
              FDL_OPT(max_pool_args, ceil_mode, BOOL)))

MAX_POOL_KIND(max_pool1d, "maxpool1d");
MAX_POOL_KIND(max_pool2d, "maxpool2d");
MAX_POOL_KIND(max_pool3d, "max_pool3d");
static const fdl_kind *const max_pool_kinds[] = {&kind_max_pool1d, &kind_max_pool2d, &kind_max_pool3d};

static fdl_module *new_max_pool(int n, int64_t k, const fdl_nn_max_pool_opts *opts)
{
    static const char *const names[] = {"max_pool1d", "max_pool2d", "max_pool3d"};
    const fdl_nn_max_pool_opts o = opts ? *opts : (fdl_nn_max_pool_opts){0};
    const char *name = names[n - 1];
    fdl_shape kernel = {0}, stride = {0}, padding = {0}, dilation = {0};
    if (!arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !pool_stride(name, n, o.stride, &o.stride_dims, &kernel, &stride) ||
        !arg_spatial(name, "padding", n, o.padding, 0, 0, &o.padding_dims, &padding) ||
        !arg_spatial(name, "dilation", n, o.dilation, 1, 1, &o.dilation_dims, &dilation) ||
        !at_most_half(name, &padding, &kernel))
        return NULL;
    fdl_module *m = fdl_module_new(&max_pool_ops[n - 1]);
    max_pool *self = fdl_module_self(m);
    if (self)
        *self = (max_pool){.indexed = {max_pool_run},
                           .o = {.kernel_dims = kernel,
                                 .stride_dims = stride,
                                 .padding_dims = padding,
                                 .dilation_dims = dilation,
                                 .ceil_mode = o.ceil_mode}};
    return described(m, max_pool_kinds[n - 1], &(max_pool_args){k, o});
}

fdl_module *fdl_nn_max_pool1d_opt(int64_t k, const fdl_nn_max_pool_opts *opts)
{
    return new_max_pool(1, k, opts);
}

fdl_module *fdl_nn_max_pool2d_opt(int64_t k, const fdl_nn_max_pool_opts *opts)
{
    return new_max_pool(2, k, opts);
}

fdl_module *fdl_nn_max_pool3d_opt(int64_t k, const fdl_nn_max_pool_opts *opts)
{
    return new_max_pool(3, k, opts);
}

/* ---- average ------------------------------------------------------------------------------------ */

static fdl_tensor *avg_pool1d_forward(void *self, fdl_tensor *x)
{
    return fdl_avg_pool1d_opt(x, 0, self);
}

static fdl_tensor *avg_pool2d_forward(void *self, fdl_tensor *x)
{
    return fdl_avg_pool2d_opt(x, 0, self);
}

static fdl_tensor *avg_pool3d_forward(void *self, fdl_tensor *x)
{
    return fdl_avg_pool3d_opt(x, 0, self);
}

static const fdl_module_ops avg_pool_ops[] = {
    {.kind = "avgpool1d", .size = sizeof(fdl_avg_pool_opts), .forward = avg_pool1d_forward},
    {.kind = "avgpool2d", .size = sizeof(fdl_avg_pool_opts), .forward = avg_pool2d_forward},
    {.kind = "avg_pool3d", .size = sizeof(fdl_avg_pool_opts), .forward = avg_pool3d_forward},
};

/* A divisor of one's own: the mean over all places, padding too, times their number. */
static const char *avg_pool_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_avg_pool_opts *m = fdl_module_self(c->module);
    int n = m->kernel_dims.ndim;
    int64_t pads[2 * FDL_MAX_DIMS];
    if (m->divisor && m->ceil_mode)
        return onnx_refuse(o, "a divisor together with ceil_mode isn't told in ONNX");
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, m->kernel_dims.d),
                               A_INTS("strides", n, m->stride_dims.d),
                               A_INTS("pads", 2 * n, twice(&m->padding_dims, pads)),
                               A_INT("ceil_mode", m->ceil_mode),
                               A_INT("count_include_pad", !m->exclude_pad || m->divisor),
                               {0}};
    const char *y = onnx_pool(o, c, n, *x, "AveragePool", attrs);
    double places = (double)fdl_shape_numel(m->kernel_dims);
    return m->divisor ? OP(o, "Mul", IN(y, onnx_number(o, places / (double)m->divisor))) : y;
}

typedef struct avg_pool_args {
    int64_t k;
    fdl_nn_avg_pool_opts o;
} avg_pool_args;

#define AVG_POOL_KIND(id, name_)                                                                           \
    static fdl_module *make_##id(const void *args)                                                         \
    {                                                                                                      \
        const avg_pool_args *a = args;                                                                     \
        return fdl_nn_##id##_opt(a->k, &a->o);                                                             \
    }                                                                                                      \
    KIND(id, .name = name_, .onnx = avg_pool_onnx,                                                         \
         ARGS(avg_pool_args, FDL_ARG(avg_pool_args, k, INT64), FDL_OPT(avg_pool_args, kernel_dims, SHAPE), \
              FDL_OPT(avg_pool_args, stride, INT64), FDL_OPT(avg_pool_args, stride_dims, SHAPE),           \
              FDL_OPT(avg_pool_args, padding, INT64), FDL_OPT(avg_pool_args, padding_dims, SHAPE),         \
              FDL_OPT(avg_pool_args, ceil_mode, BOOL), FDL_OPT(avg_pool_args, exclude_pad, BOOL),          \
              FDL_OPT(avg_pool_args, divisor, INT64)))

AVG_POOL_KIND(avg_pool1d, "avgpool1d");
AVG_POOL_KIND(avg_pool2d, "avgpool2d");
AVG_POOL_KIND(avg_pool3d, "avg_pool3d");
static const fdl_kind *const avg_pool_kinds[] = {&kind_avg_pool1d, &kind_avg_pool2d, &kind_avg_pool3d};

static fdl_module *new_avg_pool(int n, int64_t k, const fdl_nn_avg_pool_opts *opts)
{
    static const char *const names[] = {"avg_pool1d", "avg_pool2d", "avg_pool3d"};
    const fdl_nn_avg_pool_opts o = opts ? *opts : (fdl_nn_avg_pool_opts){0};
    const char *name = names[n - 1];
    fdl_shape kernel = {0}, stride = {0}, padding = {0};
    if (!arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !pool_stride(name, n, o.stride, &o.stride_dims, &kernel, &stride) ||
        !arg_spatial(name, "padding", n, o.padding, 0, 0, &o.padding_dims, &padding) ||
        !at_most_half(name, &padding, &kernel) || !arg_at_least(name, "divisor", o.divisor, 0))
        return NULL;
    if (n == 1 && o.divisor)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_avg_pool1d: divisor is for 2 and 3 dims only");
    fdl_module *m = fdl_module_new(&avg_pool_ops[n - 1]);
    fdl_avg_pool_opts *self = fdl_module_self(m);
    if (self)
        *self = (fdl_avg_pool_opts){.kernel_dims = kernel,
                                    .stride_dims = stride,
                                    .padding_dims = padding,
                                    .ceil_mode = o.ceil_mode,
                                    .exclude_pad = o.exclude_pad,
                                    .divisor = o.divisor};
    return described(m, avg_pool_kinds[n - 1], &(avg_pool_args){k, o});
}

fdl_module *fdl_nn_avg_pool1d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts)
{
    return new_avg_pool(1, k, opts);
}

fdl_module *fdl_nn_avg_pool2d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts)
{
    return new_avg_pool(2, k, opts);
}

fdl_module *fdl_nn_avg_pool3d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts)
{
    return new_avg_pool(3, k, opts);
}

/* ---- adaptive ----------------------------------------------------------------------------------- */

typedef struct adaptive {
    indexed_pool indexed; /* of max pools */
    fdl_shape size;
} adaptive;

static fdl_tensor *adaptive_max_run(const void *self, fdl_tensor *x, fdl_tensor **indices)
{
    const fdl_shape size = ((const adaptive *)self)->size;
    return size.ndim == 1   ? fdl_adaptive_max_pool1d(x, size, .indices = indices)
           : size.ndim == 2 ? fdl_adaptive_max_pool2d(x, size, .indices = indices)
                            : fdl_adaptive_max_pool3d(x, size, .indices = indices);
}

static fdl_tensor *adaptive_avg_forward(void *self, fdl_tensor *x)
{
    const fdl_shape size = ((const adaptive *)self)->size;
    return size.ndim == 1   ? fdl_adaptive_avg_pool1d(x, size)
           : size.ndim == 2 ? fdl_adaptive_avg_pool2d(x, size)
                            : fdl_adaptive_avg_pool3d(x, size);
}

static fdl_module *new_adaptive(const fdl_module_ops *ops, const fdl_kind *kind, const char *name,
                                fdl_shape size)
{
    for (int i = 0; i < size.ndim; i++)
        if (!arg_at_least(name, "an extent", size.d[i], 0))
            return NULL;
    fdl_module *m = fdl_module_new(ops);
    adaptive *self = fdl_module_self(m);
    if (self)
        *self = (adaptive){{adaptive_max_run}, size};
    return described(m, kind, &size);
}

/* Windows of one size, which there are where the result's extents divide the input's. */
static const char *adaptive_onnx(fdl_onnx *o, const fdl_call *c, const char *x, const char *op)
{
    const fdl_shape *size = c->args;
    int n = size->ndim;
    int64_t kernel[FDL_MAX_DIMS];
    for (int i = 0; i < n; i++) {
        int64_t in = c->x.d[c->x.ndim - n + i], out = c->y.d[c->y.ndim - n + i];
        if (out == 0 || in % out != 0)
            return onnx_refuse(o, "%" PRId64 " places in %" PRId64 " windows of one size aren't told in ONNX",
                               in, out);
        kernel[i] = in / out;
    }
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, kernel), A_INTS("strides", n, kernel), {0}};
    return onnx_pool(o, c, n, x, op, attrs);
}

static const char *adaptive_avg_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return adaptive_onnx(o, c, *x, "AveragePool");
}

static const char *adaptive_max_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return adaptive_onnx(o, c, *x, "MaxPool");
}

#define ADAPTIVE_KIND(name_, text, mode, forward_, made, size_, ...)                                     \
    static fdl_module *make_##name_(const void *args)                                                    \
    {                                                                                                    \
        const fdl_shape *size = args;                                                                    \
        if (size->ndim != made)                                                                          \
            return fdl_fail_null(FDL_E_ARG, "fdl_nn_" #name_ ": size has %d extents, must have %d",      \
                                 size->ndim, made);                                                      \
        return fdl_nn_##name_(ADAPTIVE_##made);                                                          \
    }                                                                                                    \
    KIND(name_, .name = text, .size = sizeof(fdl_shape), .fields = size_field,                           \
         .onnx = adaptive_##mode##_onnx);                                                                \
    fdl_module *fdl_nn_##name_(__VA_ARGS__)                                                              \
    {                                                                                                    \
        static const fdl_module_ops ops = {.kind = text, .size = sizeof(adaptive), .forward = forward_}; \
        return new_adaptive(&ops, &kind_##name_, #name_, size_);                                         \
    }
#define ADAPTIVE_1 size->d[0]
#define ADAPTIVE_2 size->d[0], size->d[1]
#define ADAPTIVE_3 size->d[0], size->d[1], size->d[2]

static const fdl_field size_field[] = {{.name = "size", .type = FDL_FIELD_SHAPE, .required = true}, {0}};

ADAPTIVE_KIND(adaptive_avg_pool1d, "adaptive_avg_pool1d", avg, adaptive_avg_forward, 1, FDL_DIMS(n),
              int64_t n)
ADAPTIVE_KIND(adaptive_avg_pool2d, "adaptive_avgpool2d", avg, adaptive_avg_forward, 2, FDL_DIMS(h, w),
              int64_t h, int64_t w)
ADAPTIVE_KIND(adaptive_avg_pool3d, "adaptive_avg_pool3d", avg, adaptive_avg_forward, 3, FDL_DIMS(d, h, w),
              int64_t d, int64_t h, int64_t w)
ADAPTIVE_KIND(adaptive_max_pool1d, "adaptive_max_pool1d", max, indexed_forward, 1, FDL_DIMS(n), int64_t n)
ADAPTIVE_KIND(adaptive_max_pool2d, "adaptive_maxpool2d", max, indexed_forward, 2, FDL_DIMS(h, w), int64_t h,
              int64_t w)
ADAPTIVE_KIND(adaptive_max_pool3d, "adaptive_max_pool3d", max, indexed_forward, 3, FDL_DIMS(d, h, w),
              int64_t d, int64_t h, int64_t w)
