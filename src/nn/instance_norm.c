/* Normalisation by each channel of a sample, instance_norm, and by its neighbours, local_response_norm. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/nn.h"
#include "flodl/norm.h"
#include "flodl/shape.h"

/* ---- instance_norm ------------------------------------------------------------------------------ */

typedef struct instance_norm {
    int64_t n;
    int places; /* dims behind the channels, with or without a batch in front; 0: one or more, with a batch */
    fdl_tensor *weight, *bias; /* NULL without .affine */
    fdl_tensor *mean, *var;    /* NULL without .stats */
    double eps, momentum;      /* as the options have them */
} instance_norm;

static bool good_input(instance_norm *m, fdl_tensor *x)
{
    const char *kind = fdl_module_kind(fdl_module_of(m));
    fdl_shape s = fdl_shape_of(x);
    char text[256];
    if (m->places ? s.ndim != m->places + 1 && s.ndim != m->places + 2 : s.ndim < 3) {
        if (m->places)
            fdl_fail(FDL_E_SHAPE, "%s takes %d or %d dims, got %s", kind, m->places + 1, m->places + 2,
                     fdl_describe(x, text, sizeof text));
        else
            fdl_fail(FDL_E_SHAPE, "%s takes [N, %" PRId64 ", *] of 3 or more dims, got %s", kind, m->n,
                     fdl_describe(x, text, sizeof text));
        return false;
    }
    int channels = m->places ? s.ndim - m->places - 1 : 1;
    if (s.d[channels] == m->n)
        return true;
    fdl_fail(FDL_E_SHAPE, "%s: got %s, needs %" PRId64 " channels in dim %d", kind,
             fdl_describe(x, text, sizeof text), m->n, channels);
    return false;
}

static fdl_tensor *instance_norm_forward(void *self, fdl_tensor *x)
{
    instance_norm *m = self;
    if (!good_input(m, x))
        return NULL;
    bool unbatched = m->places && fdl_ndim(x) == m->places + 1;
    bool running = m->mean && !fdl_is_training(fdl_module_of(m));
    fdl_tensor *y = fdl_instance_norm(unbatched ? fdl_unsqueeze(x, 0) : x, .weight = m->weight,
                                      .bias = m->bias, .running_mean = m->mean, .running_var = m->var,
                                      .no_input_stats = running, .momentum = m->momentum, .eps = m->eps);
    return unbatched ? fdl_squeeze(y, 0) : y;
}

/* As in evaluation: with running statistics a batch norm. */
static const char *instance_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const instance_norm *m = fdl_module_self(c->module);
    bool unbatched = m->places && c->x.ndim == m->places + 1;
    const char *in = unbatched ? onnx_unsqueeze(o, *x, 0) : *x, *y;
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    if (!weight) {
        weight = onnx_expand(o, onnx_number(o, 1), FDL_SHAPE(m->n));
        bias = onnx_expand(o, onnx_number(o, 0), FDL_SHAPE(m->n));
    }
    const onnx_attr attrs[] = {A_FLOAT("epsilon", fdl_opt_double(m->eps, 1e-5)), {0}};
    if (m->mean)
        y = onnx_one(o, "BatchNormalization",
                     IN(in, weight, bias, onnx_param(o, c->module, "running_mean"),
                        onnx_param(o, c->module, "running_var")),
                     attrs);
    else
        y = onnx_one(o, "InstanceNormalization", IN(in, weight, bias), attrs);
    return unbatched ? onnx_squeeze(o, y, 0) : y;
}

typedef struct instance_norm_args {
    int64_t n;
    fdl_nn_instance_norm_opts o;
} instance_norm_args;

static fdl_module *new_instance_norm(const fdl_module_ops *ops, const fdl_kind *kind, int places, int64_t n,
                                     const fdl_nn_instance_norm_opts *opts)
{
    const fdl_nn_instance_norm_opts o = opts ? *opts : (fdl_nn_instance_norm_opts){0};
    if (!arg_at_least(ops->kind, "n", n, 1) ||
        !arg_within(ops->kind, "momentum", fdl_opt_double(o.momentum, 0), 0, 1) ||
        !arg_within(ops->kind, "eps", fdl_opt_double(o.eps, 0), 0, 1e300))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(ops);
    instance_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (instance_norm){.n = n, .places = places, .eps = o.eps, .momentum = o.momentum};
    fdl_shape shape = FDL_SHAPE(n);
    if (o.affine) {
        self->weight = fdl_module_param(m, "weight", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
        self->bias = fdl_module_param(m, "bias", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
    }
    if (o.stats) {
        self->mean =
            fdl_module_buffer(m, "running_mean", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
        self->var =
            fdl_module_buffer(m, "running_var", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
        fdl_module_buffer(m, "num_batches_tracked",
                          fdl_zeros(FDL_SCALAR, .dtype = FDL_INT64, .device = o.device));
    }
    return described(m, kind, &(instance_norm_args){n, o});
}

#define INSTANCE_NORM_KIND(id, places)                                                                      \
    static fdl_module *make_##id(const void *args)                                                          \
    {                                                                                                       \
        const instance_norm_args *a = args;                                                                 \
        return fdl_nn_##id##_opt(a->n, &a->o);                                                              \
    }                                                                                                       \
    KIND(id, .name = #id, .onnx = instance_norm_onnx,                                                       \
         ARGS(instance_norm_args, FDL_ARG(instance_norm_args, n, INT64),                                    \
              FDL_OPT(instance_norm_args, eps, OPT_DOUBLE),                                                 \
              FDL_OPT(instance_norm_args, momentum, OPT_DOUBLE), FDL_OPT(instance_norm_args, affine, BOOL), \
              FDL_OPT(instance_norm_args, stats, BOOL), FDL_OPT(instance_norm_args, dtype, DTYPE)));        \
    fdl_module *fdl_nn_##id##_opt(int64_t n, const fdl_nn_instance_norm_opts *opts)                         \
    {                                                                                                       \
        static const fdl_module_ops ops = {                                                                 \
            .kind = #id, .size = sizeof(instance_norm), .forward = instance_norm_forward};                  \
        return new_instance_norm(&ops, &kind_##id, places, n, opts);                                        \
    }

INSTANCE_NORM_KIND(instance_norm, 0)
INSTANCE_NORM_KIND(instance_norm1d, 1)
INSTANCE_NORM_KIND(instance_norm2d, 2)
INSTANCE_NORM_KIND(instance_norm3d, 3)

/* ---- local_response_norm ------------------------------------------------------------------------ */

typedef struct local_response_norm {
    int64_t size;
    fdl_nn_local_response_norm_opts o;
} local_response_norm;

static fdl_tensor *local_response_norm_forward(void *self, fdl_tensor *x)
{
    const local_response_norm *m = self;
    return fdl_local_response_norm(x, m->size, .alpha = m->o.alpha, .beta = m->o.beta, .k = m->o.k);
}

static fdl_module *make_local_response_norm(const void *args)
{
    const local_response_norm *a = args;
    return fdl_nn_local_response_norm_opt(a->size, &a->o);
}

/* An even number of channels has its odd one before, in ONNX behind. What runs models takes planes only. */
static const char *local_response_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const local_response_norm *m = c->args;
    if (m->size % 2 == 0)
        return onnx_refuse(o, "an even size means other neighbours in ONNX");
    const char *in = c->x.ndim == 4 ? *x : OP(o, "Reshape", IN(*x, INTS(o, 0, 0, -1, 1)));
    const char *y =
        OP_ATTR(o, "LRN", IN(in), A_INT("size", m->size), A_FLOAT("alpha", fdl_opt_double(m->o.alpha, 1e-4)),
                A_FLOAT("beta", fdl_opt_double(m->o.beta, 0.75)), A_FLOAT("bias", fdl_opt_double(m->o.k, 1)));
    return c->x.ndim == 4 ? y : OP(o, "Reshape", IN(y, OP(o, "Shape", IN(*x))));
}

KIND(local_response_norm, .name = "local_response_norm", .onnx = local_response_norm_onnx,
     ARGS(local_response_norm, FDL_ARG(local_response_norm, size, INT64),
          FDL_OPT(local_response_norm, alpha, OPT_DOUBLE), FDL_OPT(local_response_norm, beta, OPT_DOUBLE),
          FDL_OPT(local_response_norm, k, OPT_DOUBLE)));

fdl_module *fdl_nn_local_response_norm_opt(int64_t size, const fdl_nn_local_response_norm_opts *opts)
{
    static const fdl_module_ops ops = {.kind = "local_response_norm",
                                       .size = sizeof(local_response_norm),
                                       .forward = local_response_norm_forward};
    const fdl_nn_local_response_norm_opts o = opts ? *opts : (fdl_nn_local_response_norm_opts){0};
    if (!arg_at_least(ops.kind, "size", size, 1) ||
        !arg_within(ops.kind, "alpha", fdl_opt_double(o.alpha, 0), -1e300, 1e300) ||
        !arg_within(ops.kind, "beta", fdl_opt_double(o.beta, 0), -1e300, 1e300) ||
        !arg_within(ops.kind, "k", fdl_opt_double(o.k, 0), -1e300, 1e300))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    local_response_norm *self = fdl_module_self(m);
    if (self)
        *self = (local_response_norm){size, o};
    return DESCRIBED(m, local_response_norm, (local_response_norm){size, o});
}
