/* Batch normalisation, with running statistics for evaluation. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "flodl/nn.h"
#include "flodl/norm.h"

typedef struct batch_norm {
    int64_t n;
    int least, most; /* ranks that it takes */
    fdl_tensor *weight, *bias;
    fdl_tensor *mean, *var, *batches; /* NULL without statistics */
    double eps, momentum;             /* as the options have them */
    bool cumulative;
} batch_norm;

/* [N, n, *] with more than one value a channel where the batch's own statistics are used. */
static bool good_input(batch_norm *m, fdl_tensor *x, bool batch_statistics)
{
    const char *kind = fdl_module_kind(fdl_module_of(m));
    fdl_shape s = fdl_shape_of(x);
    char text[256];
    if (s.ndim < m->least || s.ndim > m->most)
        fdl_fail(FDL_E_SHAPE, "%s: got %s, needs %d%s dims", kind, fdl_describe(x, text, sizeof text),
                 m->least,
                 m->most == m->least       ? ""
                 : m->most == FDL_MAX_DIMS ? " or more"
                                           : " or 3");
    else if (s.d[1] != m->n)
        fdl_fail(FDL_E_SHAPE, "%s: got %s, needs %" PRId64 " channels in dim 1", kind,
                 fdl_describe(x, text, sizeof text), m->n);
    else if (batch_statistics && fdl_shape_numel(s) == m->n)
        fdl_fail(FDL_E_SHAPE, "%s needs more than 1 value per channel in training, got %s", kind,
                 fdl_describe(x, text, sizeof text));
    else
        return true;
    return false;
}

/* The mean over all batches so far: each batch weighs 1 / num_batches_tracked, which stays on the device. */
static fdl_tensor *cumulative_forward(batch_norm *m, fdl_tensor *x)
{
    fdl_tensor *mean = fdl_zeros_like(m->mean), *var = fdl_zeros_like(m->var);
    fdl_tensor *y = fdl_batch_norm(x, .weight = m->weight, .bias = m->bias, .running_mean = mean,
                                   .running_var = var, .training = true, .momentum = 1, .eps = m->eps);
    FDL_NO_GRAD;
    fdl_tensor *weight = fdl_to_dtype(fdl_reciprocal(m->batches), fdl_dtype_of(m->mean));
    FDL_TRY_NULL(fdl_copy_(m->mean, fdl_lerp(m->mean, mean, weight)));
    FDL_TRY_NULL(fdl_copy_(m->var, fdl_lerp(m->var, var, weight)));
    return y;
}

static fdl_tensor *batch_norm_forward(void *self, fdl_tensor *x)
{
    batch_norm *m = self;
    bool training = fdl_is_training(fdl_module_of(m));
    if (!good_input(m, x, training || !m->mean))
        return NULL;
    if (training && m->mean) {
        FDL_TRY_NULL(fdl_add_scalar_(m->batches, 1));
        if (m->cumulative)
            return cumulative_forward(m, x);
    }
    return fdl_batch_norm(x, .weight = m->weight, .bias = m->bias, .running_mean = m->mean,
                          .running_var = m->var, .training = training || !m->mean, .momentum = m->momentum,
                          .eps = m->eps);
}

/* As in evaluation. */
static const char *batch_norm_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const batch_norm *m = fdl_module_self(c->module);
    if (!m->mean)
        return onnx_refuse(o, "a norm by the batch's own statistics isn't told in ONNX");
    fdl_shape shape = FDL_SHAPE(m->n);
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    const char *mean = onnx_param(o, c->module, "running_mean"),
               *var = onnx_param(o, c->module, "running_var");
    if (!weight) {
        weight = onnx_expand(o, onnx_number(o, 1), shape);
        bias = onnx_expand(o, onnx_number(o, 0), shape);
    }
    return OP_ATTR(o, "BatchNormalization", IN(*x, weight, bias, mean, var),
                   A_FLOAT("epsilon", fdl_opt_double(m->eps, 1e-5)));
}

typedef struct batch_norm_args {
    int64_t n;
    fdl_nn_batch_norm_opts o;
} batch_norm_args;

static fdl_module *new_batch_norm(const fdl_module_ops *ops, const fdl_kind *kind, const char *name,
                                  int64_t n, int least, int most, const fdl_nn_batch_norm_opts *opts)
{
    const fdl_nn_batch_norm_opts o = opts ? *opts : (fdl_nn_batch_norm_opts){0};
    if (!arg_at_least(name, "n", n, 1) || !arg_within(name, "momentum", o.momentum, 0, 1) ||
        !arg_within(name, "eps", o.eps, 0, 1e300))
        return NULL;
    if (o.cumulative && fdl_opt_double(o.momentum, -1) != -1)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_nn_%s: .momentum and .cumulative are both given; give one of them", name);
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(ops);
    batch_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (batch_norm){.n = n,
                         .least = least,
                         .most = most,
                         .eps = o.eps,
                         .momentum = o.momentum,
                         .cumulative = o.cumulative};
    fdl_shape shape = FDL_SHAPE(n);
    if (!o.no_affine) {
        self->weight = fdl_module_param(m, "weight", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
        self->bias = fdl_module_param(m, "bias", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
    }
    if (!o.no_stats) {
        self->mean =
            fdl_module_buffer(m, "running_mean", fdl_zeros(shape, .dtype = o.dtype, .device = o.device));
        self->var =
            fdl_module_buffer(m, "running_var", fdl_ones(shape, .dtype = o.dtype, .device = o.device));
        self->batches = fdl_module_buffer(m, "num_batches_tracked",
                                          fdl_zeros(FDL_SCALAR, .dtype = FDL_INT64, .device = o.device));
    }
    return described(m, kind, &(batch_norm_args){n, o});
}

#define BATCH_NORM_KIND(id, text, least, most)                                                           \
    static fdl_module *make_##id(const void *args)                                                       \
    {                                                                                                    \
        const batch_norm_args *a = args;                                                                 \
        return fdl_nn_##id##_opt(a->n, &a->o);                                                           \
    }                                                                                                    \
    KIND(id, .name = text, .onnx = batch_norm_onnx,                                                      \
         ARGS(batch_norm_args, FDL_ARG(batch_norm_args, n, INT64),                                       \
              FDL_OPT(batch_norm_args, eps, OPT_DOUBLE), FDL_OPT(batch_norm_args, momentum, OPT_DOUBLE), \
              FDL_OPT(batch_norm_args, cumulative, BOOL), FDL_OPT(batch_norm_args, no_affine, BOOL),     \
              FDL_OPT(batch_norm_args, no_stats, BOOL), FDL_OPT(batch_norm_args, dtype, DTYPE)));        \
    fdl_module *fdl_nn_##id##_opt(int64_t n, const fdl_nn_batch_norm_opts *opts)                         \
    {                                                                                                    \
        static const fdl_module_ops ops = {                                                              \
            .kind = text, .size = sizeof(batch_norm), .forward = batch_norm_forward};                    \
        return new_batch_norm(&ops, &kind_##id, #id, n, least, most, opts);                              \
    }

BATCH_NORM_KIND(batch_norm, "batchnorm", 2, FDL_MAX_DIMS)
BATCH_NORM_KIND(batch_norm1d, "batch_norm1d", 2, 3)
BATCH_NORM_KIND(batch_norm2d, "batchnorm2d", 4, 4)
BATCH_NORM_KIND(batch_norm3d, "batch_norm3d", 5, 5)
