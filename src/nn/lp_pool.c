/* Pools of powers; max pools at random places. */
#include "pool_private.h"

#include "describe.h"
#include "flodl/nn.h"

/* ---- lp_pool1d, lp_pool2d, lp_pool3d ------------------------------------------------------------ */

typedef struct lp_pool {
    double p;
    fdl_lp_pool_opts o;
} lp_pool;

static fdl_tensor *lp_pool_forward(void *self, fdl_tensor *x)
{
    static fdl_tensor *(*const pools[])(fdl_tensor *, double, int64_t, const fdl_lp_pool_opts *) = {
        fdl_lp_pool1d_opt, fdl_lp_pool2d_opt, fdl_lp_pool3d_opt};
    const lp_pool *m = self;
    return pools[m->o.kernel_dims.ndim - 1](x, m->p, 0, &m->o);
}

static const fdl_module_ops lp_pool_ops[] = {
    {.kind = "lp_pool1d", .size = sizeof(lp_pool), .forward = lp_pool_forward},
    {.kind = "lp_pool2d", .size = sizeof(lp_pool), .forward = lp_pool_forward},
    {.kind = "lp_pool3d", .size = sizeof(lp_pool), .forward = lp_pool_forward},
};

typedef struct lp_pool_args {
    double p;
    int64_t k;
    fdl_nn_lp_pool_opts o;
} lp_pool_args;

/* ONNX's own takes whole powers of absolute values: so powers, their mean times their number, and the root. */
static const char *lp_pool_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const lp_pool *m = fdl_module_self(c->module);
    int n = m->o.kernel_dims.ndim;
    const onnx_attr attrs[] = {A_INTS("kernel_shape", n, m->o.kernel_dims.d),
                               A_INTS("strides", n, m->o.stride_dims.d),
                               A_INT("ceil_mode", m->o.ceil_mode),
                               {0}};
    const char *mean = onnx_pool(o, c, n, OP(o, "Pow", IN(*x, onnx_number(o, m->p))), "AveragePool", attrs);
    const char *sum = OP(o, "Mul", IN(mean, onnx_number(o, (double)fdl_shape_numel(m->o.kernel_dims))));
    return OP(o, "Pow", IN(sum, onnx_number(o, 1 / m->p)));
}

#define LP_POOL_KIND(id)                                                                       \
    static fdl_module *make_##id(const void *args)                                             \
    {                                                                                          \
        const lp_pool_args *a = args;                                                          \
        return fdl_nn_##id##_opt(a->p, a->k, &a->o);                                           \
    }                                                                                          \
    KIND(id, .name = #id, .onnx = lp_pool_onnx,                                                \
         ARGS(lp_pool_args, FDL_ARG(lp_pool_args, p, DOUBLE), FDL_ARG(lp_pool_args, k, INT64), \
              FDL_OPT(lp_pool_args, kernel_dims, SHAPE), FDL_OPT(lp_pool_args, stride, INT64), \
              FDL_OPT(lp_pool_args, stride_dims, SHAPE), FDL_OPT(lp_pool_args, ceil_mode, BOOL)))

LP_POOL_KIND(lp_pool1d);
LP_POOL_KIND(lp_pool2d);
LP_POOL_KIND(lp_pool3d);

static fdl_module *new_lp_pool(int n, double p, int64_t k, const fdl_nn_lp_pool_opts *opts)
{
    static const fdl_kind *const kinds[] = {&kind_lp_pool1d, &kind_lp_pool2d, &kind_lp_pool3d};
    const fdl_nn_lp_pool_opts o = opts ? *opts : (fdl_nn_lp_pool_opts){0};
    const char *name = lp_pool_ops[n - 1].kind;
    fdl_shape kernel = {0}, stride = {0};
    if (!(p < 0 || p > 0) || !(p - p == 0))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: p is %g, must be a finite number other than 0", name, p);
    if (!arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel) ||
        !pool_stride(name, n, o.stride, &o.stride_dims, &kernel, &stride))
        return NULL;
    fdl_module *m = fdl_module_new(&lp_pool_ops[n - 1]);
    lp_pool *self = fdl_module_self(m);
    if (self)
        *self = (lp_pool){p, {.kernel_dims = kernel, .stride_dims = stride, .ceil_mode = o.ceil_mode}};
    return described(m, kinds[n - 1], &(lp_pool_args){p, k, o});
}

fdl_module *fdl_nn_lp_pool1d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts)
{
    return new_lp_pool(1, p, k, opts);
}

fdl_module *fdl_nn_lp_pool2d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts)
{
    return new_lp_pool(2, p, k, opts);
}

fdl_module *fdl_nn_lp_pool3d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts)
{
    return new_lp_pool(3, p, k, opts);
}

/* ---- fractional_max_pool2d, fractional_max_pool3d ------------------------------------------------ */

typedef struct fractional {
    indexed_pool indexed;
    fdl_fractional_max_pool_opts o;
} fractional;

static fdl_tensor *fractional_run(const void *self, fdl_tensor *x, fdl_tensor **indices)
{
    fdl_fractional_max_pool_opts o = ((const fractional *)self)->o;
    o.indices = indices;
    return o.kernel_dims.ndim == 2 ? fdl_fractional_max_pool2d_opt(x, 0, &o)
                                   : fdl_fractional_max_pool3d_opt(x, 0, &o);
}

typedef struct fractional_args {
    int64_t k;
    fdl_nn_fractional_max_pool_opts o;
} fractional_args;

static fdl_module *new_fractional(int n, const fdl_module_ops *ops, const fdl_kind *kind, int64_t k,
                                  const fdl_nn_fractional_max_pool_opts *opts)
{
    const fdl_nn_fractional_max_pool_opts o = opts ? *opts : (fdl_nn_fractional_max_pool_opts){0};
    const char *name = ops->kind;
    fdl_shape kernel = {0};
    if (!arg_spatial(name, "kernel", n, k, 0, 1, &o.kernel_dims, &kernel))
        return NULL;
    int each = arg_factors(o.ratio_dims, 1);
    if (each != 0 && each != n)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: .ratio_dims must have %d numbers between 0 and 1", name,
                             n);
    if (!arg_counted(name, "size", &o.size))
        return NULL;
    if ((o.size.ndim != 0) + (o.ratio != 0) + (each != 0) != 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: needs .size or .ratio, and not both", name);
    if (o.size.ndim > 1 && o.size.ndim != n)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: .size has %d extents, must have %d, or one for all", name,
                             o.size.ndim, n);
    for (int i = 0; i < o.size.ndim; i++)
        if (!arg_at_least(name, "an extent of size", o.size.d[i], 1))
            return NULL;
    if (o.ratio != 0 && !(o.ratio > 0 && o.ratio < 1))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: ratio is %g, must be between 0 and 1", name, o.ratio);
    fdl_module *m = fdl_module_new(ops);
    fractional *self = fdl_module_self(m);
    if (self)
        *self = (fractional){{fractional_run},
                             {.size = o.size,
                              .ratio = o.ratio,
                              .ratio_dims = {o.ratio_dims[0], o.ratio_dims[1], o.ratio_dims[2]},
                              .kernel_dims = kernel}};
    return described(m, kind, &(fractional_args){k, o});
}

#define RATIO(i)                                                                 \
    {                                                                            \
        .name = "ratio_" #i, .type = FDL_FIELD_DOUBLE,                           \
        .offset = offsetof(fractional_args, o.ratio_dims) + (i) * sizeof(double) \
    }
#define FRACTIONAL_KIND(id, n)                                                                     \
    static fdl_module *make_##id(const void *args)                                                 \
    {                                                                                              \
        const fractional_args *a = args;                                                           \
        return fdl_nn_##id##_opt(a->k, &a->o);                                                     \
    }                                                                                              \
    KIND(id, .name = #id,                                                                          \
         ARGS(fractional_args, FDL_ARG(fractional_args, k, INT64),                                 \
              FDL_OPT(fractional_args, kernel_dims, SHAPE), FDL_OPT(fractional_args, size, SHAPE), \
              FDL_OPT(fractional_args, ratio, DOUBLE), RATIO(0), RATIO(1), RATIO(2)));             \
    fdl_module *fdl_nn_##id##_opt(int64_t k, const fdl_nn_fractional_max_pool_opts *opts)          \
    {                                                                                              \
        static const fdl_module_ops ops = {                                                        \
            .kind = #id, .size = sizeof(fractional), .forward = indexed_forward};                  \
        return new_fractional(n, &ops, &kind_##id, k, opts);                                       \
    }

FRACTIONAL_KIND(fractional_max_pool2d, 2)
FRACTIONAL_KIND(fractional_max_pool3d, 3)
