/* Normalisation within a sample: layer_norm, rms_norm, group_norm. */
#include "flodl/norm.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/nn.h"

/* The trailing dims that are normalised: [n], or `shape` with n = 0. */
static bool normalized_shape(const char *name, int64_t n, const fdl_shape *shape, fdl_shape *out)
{
    if (!arg_counted(name, "shape", shape))
        return false;
    if (shape->ndim > 0 && n != 0) {
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: n is %" PRId64 " and .shape is given too; n is 0 then", name, n);
        return false;
    }
    *out = shape->ndim > 0 ? *shape : FDL_SHAPE(n);
    for (int i = 0; i < out->ndim; i++)
        if (!arg_at_least(name, shape->ndim > 0 ? "an extent of shape" : "n", out->d[i], 1))
            return false;
    return true;
}

static bool good_eps(const char *name, double eps)
{
    return arg_within(name, "eps", fdl_opt_double(eps, 0), 0, 1e300);
}

/* ---- layer_norm --------------------------------------------------------------------------------- */

typedef struct layer_norm {
    fdl_shape shape;
    fdl_layer_norm_opts o;
} layer_norm;

static fdl_tensor *layer_norm_forward(void *self, fdl_tensor *x)
{
    layer_norm *m = self;
    return fdl_layer_norm_opt(x, m->shape, &m->o);
}

typedef struct layer_norm_args {
    int64_t n;
    fdl_nn_layer_norm_opts o;
} layer_norm_args;

static fdl_module *make_layer_norm(const void *args)
{
    const layer_norm_args *a = args;
    return fdl_nn_layer_norm_opt(a->n, &a->o);
}

/* ONNX wants a scale; without one it is 1. */
static const char *layer_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const layer_norm *m = fdl_module_self(c->module);
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    if (!weight)
        weight = onnx_expand(o, onnx_number(o, 1), m->shape);
    const onnx_attr attrs[] = {
        A_INT("axis", -m->shape.ndim), A_FLOAT("epsilon", fdl_opt_double(m->o.eps, 1e-5)), {0}};
    return onnx_one(o, "LayerNormalization", bias ? 3 : 2, (const char *[]){*x, weight, bias}, attrs);
}

KIND(layer_norm, .name = "layernorm", .onnx = layer_norm_onnx,
     ARGS(layer_norm_args, FDL_ARG(layer_norm_args, n, INT64), FDL_OPT(layer_norm_args, shape, SHAPE),
          FDL_OPT(layer_norm_args, eps, OPT_DOUBLE), FDL_OPT(layer_norm_args, no_affine, BOOL),
          FDL_OPT(layer_norm_args, no_bias, BOOL), FDL_OPT(layer_norm_args, dtype, DTYPE)));

fdl_module *fdl_nn_layer_norm_opt(int64_t n, const fdl_nn_layer_norm_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "layernorm", .size = sizeof(layer_norm), .forward = layer_norm_forward};
    const fdl_nn_layer_norm_opts o = opts ? *opts : (fdl_nn_layer_norm_opts){0};
    fdl_shape shape;
    if (!normalized_shape("layer_norm", n, &o.shape, &shape) || !good_eps("layer_norm", o.eps))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    layer_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->shape = shape;
    self->o.eps = o.eps;
    if (!o.no_affine)
        self->o.weight = fdl_module_param(m, "weight", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
    if (!o.no_affine && !o.no_bias)
        self->o.bias = fdl_module_param(m, "bias", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
    return DESCRIBED(m, layer_norm, (layer_norm_args){n, o});
}

/* ---- rms_norm ----------------------------------------------------------------------------------- */

typedef struct rms_norm {
    fdl_shape shape;
    fdl_rms_norm_opts o;
} rms_norm;

static fdl_tensor *rms_norm_forward(void *self, fdl_tensor *x)
{
    rms_norm *m = self;
    return fdl_rms_norm_opt(x, m->shape, &m->o);
}

typedef struct rms_norm_args {
    int64_t n;
    fdl_nn_rms_norm_opts o;
} rms_norm_args;

static fdl_module *make_rms_norm(const void *args)
{
    const rms_norm_args *a = args;
    return fdl_nn_rms_norm_opt(a->n, &a->o);
}

static const char *rms_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const rms_norm *m = fdl_module_self(c->module);
    const char *weight = onnx_param(o, c->module, "weight");
    int64_t dims[FDL_MAX_DIMS];
    for (int i = 0; i < m->shape.ndim; i++)
        dims[i] = i - m->shape.ndim;
    const char *mean = onnx_mean(o, OP(o, "Mul", IN(*x, *x)), m->shape.ndim, dims);
    double eps = fdl_opt_double(m->o.eps, onnx_epsilon(o));
    const char *y = OP(o, "Div", IN(*x, OP(o, "Sqrt", IN(OP(o, "Add", IN(mean, onnx_number(o, eps)))))));
    return weight ? OP(o, "Mul", IN(y, weight)) : y;
}

KIND(rms_norm, .name = "rmsnorm", .onnx = rms_norm_onnx,
     ARGS(rms_norm_args, FDL_ARG(rms_norm_args, n, INT64), FDL_OPT(rms_norm_args, shape, SHAPE),
          FDL_OPT(rms_norm_args, eps, OPT_DOUBLE), FDL_OPT(rms_norm_args, no_affine, BOOL),
          FDL_OPT(rms_norm_args, dtype, DTYPE)));

fdl_module *fdl_nn_rms_norm_opt(int64_t n, const fdl_nn_rms_norm_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "rmsnorm", .size = sizeof(rms_norm), .forward = rms_norm_forward};
    const fdl_nn_rms_norm_opts o = opts ? *opts : (fdl_nn_rms_norm_opts){0};
    fdl_shape shape;
    if (!normalized_shape("rms_norm", n, &o.shape, &shape) || !good_eps("rms_norm", o.eps))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    rms_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->shape = shape;
    self->o.eps = o.eps;
    if (!o.no_affine)
        self->o.weight = fdl_module_param(m, "weight", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
    return DESCRIBED(m, rms_norm, (rms_norm_args){n, o});
}

/* ---- group_norm --------------------------------------------------------------------------------- */

typedef struct group_norm {
    int64_t groups;
    fdl_group_norm_opts o;
} group_norm;

static fdl_tensor *group_norm_forward(void *self, fdl_tensor *x)
{
    group_norm *m = self;
    return fdl_group_norm_opt(x, m->groups, &m->o);
}

typedef struct group_norm_args {
    int64_t groups, channels;
    fdl_nn_group_norm_opts o;
} group_norm_args;

static fdl_module *make_group_norm(const void *args)
{
    const group_norm_args *a = args;
    return fdl_nn_group_norm_opt(a->groups, a->channels, &a->o);
}

/* An instance norm over each group, then each channel's weight and bias. */
static const char *group_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const group_norm *m = fdl_module_self(c->module);
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    int64_t shape[FDL_MAX_DIMS];
    for (int i = 0; i < c->x.ndim; i++)
        shape[i] = i ? 1 : -1;
    const char *groups = OP(o, "Reshape", IN(*x, INTS(o, 0, m->groups, -1)));
    const char *one = onnx_expand(o, onnx_number(o, 1), FDL_SHAPE(m->groups));
    const char *zero = onnx_expand(o, onnx_number(o, 0), FDL_SHAPE(m->groups));
    const char *y = OP_ATTR(o, "InstanceNormalization", IN(groups, one, zero),
                            A_FLOAT("epsilon", fdl_opt_double(m->o.eps, 1e-5)));
    y = OP(o, "Reshape", IN(y, OP(o, "Shape", IN(*x))));
    if (!weight)
        return y;
    const char *each = onnx_ints(o, c->x.ndim - 1, shape);
    y = OP(o, "Mul", IN(y, OP(o, "Reshape", IN(weight, each))));
    return OP(o, "Add", IN(y, OP(o, "Reshape", IN(bias, each))));
}

KIND(group_norm, .name = "groupnorm", .onnx = group_norm_onnx,
     ARGS(group_norm_args, FDL_ARG(group_norm_args, groups, INT64), FDL_ARG(group_norm_args, channels, INT64),
          FDL_OPT(group_norm_args, eps, OPT_DOUBLE), FDL_OPT(group_norm_args, no_affine, BOOL),
          FDL_OPT(group_norm_args, dtype, DTYPE)));

fdl_module *fdl_nn_group_norm_opt(int64_t groups, int64_t channels, const fdl_nn_group_norm_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "groupnorm", .size = sizeof(group_norm), .forward = group_norm_forward};
    const fdl_nn_group_norm_opts o = opts ? *opts : (fdl_nn_group_norm_opts){0};
    if (!arg_at_least("group_norm", "groups", groups, 1) ||
        !arg_at_least("group_norm", "channels", channels, 1) ||
        !arg_divides("group_norm", "groups", groups, "channels", channels) || !good_eps("group_norm", o.eps))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    group_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->groups = groups;
    self->o.eps = o.eps;
    if (!o.no_affine) {
        fdl_shape shape = FDL_SHAPE(channels);
        self->o.weight = fdl_module_param(m, "weight", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
        self->o.bias = fdl_module_param(m, "bias", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
    }
    return DESCRIBED(m, group_norm, (group_norm_args){groups, channels, o});
}
