/* Batch normalisation, with running statistics for evaluation; over the batches of several ranks. */
#include <stdlib.h>
#include <string.h>

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/custom.h"
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/nn.h"
#include "flodl/norm.h"
#include "flodl/reduce.h"

typedef struct batch_norm {
    int64_t n;
    int least, most; /* ranks that it takes */
    fdl_tensor *weight, *bias;
    fdl_tensor *mean, *var, *batches; /* NULL without statistics */
    double eps, momentum;             /* as the options have them */
    bool cumulative;
    fdl_rank_sum sum; /* of sync_batch_norm; NULL: one rank */
    void *sum_ctx;
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

/* ---- over ranks --------------------------------------------------------------------------------- */

/* The sum over all ranks, whose derivative is the sum over all ranks again. */
typedef struct rank_call {
    fdl_rank_sum sum;
    void *ctx;
} rank_call;

static fdl_status summed(const rank_call *c, fdl_list in, fdl_tensor **out)
{
    *out = fdl_clone(fdl_list_at(in, 0));
    return *out ? c->sum(*out, c->ctx) : fdl_last_error()->status;
}

static fdl_status ranks_forward(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)call;
    return summed(ctx, in, out);
}

static fdl_status ranks_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)call;
    return summed(ctx, grads, out);
}

static fdl_tensor *over_ranks(const batch_norm *m, fdl_tensor *x)
{
    static const fdl_custom_fn ranks = {
        .name = "sync_batch_norm", .forward = ranks_forward, .backward = ranks_backward, .release = free};
    rank_call *c = x ? malloc(sizeof *c) : NULL;
    if (!c)
        return x ? fdl_fail_null(FDL_E_OOM, "sync_batch_norm: no memory") : NULL;
    *c = (rank_call){m->sum, m->sum_ctx};
    return fdl_list_at(fdl_custom(&ranks, FDL_LIST(x), c), 0);
}

/* Running statistics from those of one batch, [n] in float64. */
static fdl_status move_statistics(batch_norm *m, fdl_tensor *mean, fdl_tensor *var)
{
    FDL_NO_GRAD;
    FDL_TRY(fdl_add_scalar_(m->batches, 1));
    fdl_dtype dtype = fdl_dtype_of(m->mean);
    double momentum = fdl_opt_double(m->momentum, 0.1);
    fdl_tensor *part = m->cumulative ? fdl_reciprocal(fdl_double(m->batches))
                                     : fdl_full(FDL_SCALAR, momentum, .dtype = FDL_FLOAT64,
                                                .device = fdl_device_of(m->mean));
    FDL_TRY(fdl_copy_(m->mean, fdl_to_dtype(fdl_lerp(fdl_double(m->mean), mean, part), dtype)));
    return fdl_copy_(m->var, fdl_to_dtype(fdl_lerp(fdl_double(m->var), var, part), dtype));
}

/* Each rank's count, sum and sum of squares in float64, the latter from its own mean and its squares about it, which lose
 * nothing; what they sum to gives mean and variance of all. An empty batch takes part with zeros. */
static fdl_tensor *synced_forward(batch_norm *m, fdl_tensor *x)
{
    fdl_shape s = fdl_shape_of(x), dims = {0}, each = s;
    for (int i = 0; i < s.ndim; i++)
        if (i != 1) {
            dims.d[dims.ndim++] = i;
            each.d[i] = 1;
        }
    fdl_dtype dtype = fdl_dtype_of(x);
    fdl_dtype wide = dtype == FDL_FLOAT64 ? FDL_FLOAT64 : FDL_FLOAT32;
    double count = (double)fdl_shape_numel(s) / (double)m->n;
    fdl_tensor *values = fdl_to_dtype(x, wide);
    fdl_tensor *own = fdl_div(fdl_sum_dims(values, dims), count > 0 ? count : 1);
    fdl_tensor *squares = fdl_sum_dims(fdl_square(fdl_sub(values, fdl_reshape(own, each))), dims);
    fdl_tensor *own64 = fdl_double(own);
    fdl_tensor *counted = fdl_full(FDL_SHAPE(1), count, .dtype = FDL_FLOAT64, .device = fdl_device_of(x));
    fdl_tensor *squared = fdl_add(fdl_double(squares), fdl_mul(fdl_square(own64), count));
    fdl_tensor *all = over_ranks(m, fdl_cat(FDL_LIST(counted, fdl_mul(own64, count), squared), 0));

    fdl_tensor *n = fdl_narrow(all, 0, 0, 1);
    fdl_tensor *mean = fdl_div(fdl_narrow(all, 0, 1, m->n), n);
    fdl_tensor *var = fdl_sub(fdl_div(fdl_narrow(all, 0, 1 + m->n, m->n), n), fdl_square(mean));
    var = fdl_maximum(var, 0);
    fdl_tensor *root = fdl_rsqrt(fdl_add(var, fdl_opt_double(m->eps, 1e-5)));
    fdl_tensor *y = fdl_mul(fdl_sub(values, fdl_reshape(fdl_to_dtype(mean, wide), each)),
                            fdl_reshape(fdl_to_dtype(root, wide), each));
    if (m->weight)
        y = fdl_add(fdl_mul(y, fdl_reshape(m->weight, each)), fdl_reshape(m->bias, each));
    y = fdl_to_dtype(y, dtype);
    if (!y || !m->mean)
        return y;
    fdl_tensor *unbiased = fdl_mul(var, fdl_div(n, fdl_maximum(fdl_sub(n, 1), 1)));
    FDL_TRY_NULL(move_statistics(m, fdl_detach(mean), fdl_detach(unbiased)));
    return y;
}

/* ---- one rank ----------------------------------------------------------------------------------- */

static fdl_tensor *batch_norm_forward(void *self, fdl_tensor *x)
{
    batch_norm *m = self;
    bool training = fdl_is_training(fdl_module_of(m)), synced = training && m->sum;
    if (!good_input(m, x, !synced && (training || !m->mean)))
        return NULL;
    if (synced)
        return synced_forward(m, x);
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
BATCH_NORM_KIND(sync_batch_norm, "sync_batch_norm", 2, FDL_MAX_DIMS)

static fdl_status sync_ranks(fdl_module *m, void *ctx)
{
    const rank_call *c = ctx;
    if (strcmp(fdl_module_kind(m), "sync_batch_norm") != 0 ||
        fdl_module_ops_of(m)->forward != batch_norm_forward)
        return FDL_OK;
    batch_norm *self = fdl_module_self(m);
    self->sum = c->sum;
    self->sum_ctx = c->ctx;
    return FDL_OK;
}

fdl_status fdl_nn_sync_ranks(fdl_module *m, fdl_rank_sum sum, void *ctx)
{
    if (!m)
        return fdl_null_operand("fdl_nn_sync_ranks", "m");
    return fdl_module_walk(m, sync_ranks, &(rank_call){sum, ctx});
}
