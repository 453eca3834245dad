/* The small steps between layers: select, permute, scale. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/index.h"
#include "flodl/nn.h"
#include "flodl/shape.h"

/* ---- select ------------------------------------------------------------------------------------- */

typedef struct select_args {
    int dim;
    int64_t i;
} select_args;

static fdl_tensor *select_forward(void *self, fdl_tensor *x)
{
    const select_args *m = self;
    return fdl_select(x, m->dim, m->i);
}

static fdl_module *make_select(const void *args)
{
    const select_args *a = args;
    return fdl_nn_select(a->dim, a->i);
}

static const char *select_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const select_args *m = c->args;
    int64_t dim = m->dim < 0 ? m->dim + c->x.ndim : m->dim;
    return onnx_squeeze(o, OP_ATTR(o, "Gather", IN(*x, INTS(o, m->i)), A_INT("axis", dim)), dim);
}

KIND(select, .name = "select", .onnx = select_onnx,
     ARGS(select_args, FDL_ARG(select_args, dim, INT), FDL_ARG(select_args, i, INT64)));

fdl_module *fdl_nn_select(int dim, int64_t i)
{
    static const fdl_module_ops ops = {
        .kind = "select", .size = sizeof(select_args), .forward = select_forward};
    if (!arg_within("select", "dim", dim, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    select_args *self = fdl_module_self(m);
    if (self)
        *self = (select_args){dim, i};
    return DESCRIBED(m, select, (select_args){dim, i});
}

/* ---- permute ------------------------------------------------------------------------------------ */

typedef struct permute_args {
    fdl_shape dims;
} permute_args;

static fdl_tensor *permute_forward(void *self, fdl_tensor *x)
{
    const permute_args *m = self;
    if (x && fdl_ndim(x) != m->dims.ndim) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "permute takes %d dims, got %s", m->dims.ndim,
                             fdl_describe(x, text, sizeof text));
    }
    return fdl_permute(x, m->dims);
}

static fdl_module *make_permute(const void *args)
{
    return fdl_nn_permute(((const permute_args *)args)->dims);
}

static const char *permute_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const permute_args *m = c->args;
    int64_t order[FDL_MAX_DIMS];
    for (int i = 0; i < m->dims.ndim; i++)
        order[i] = m->dims.d[i] < 0 ? m->dims.d[i] + m->dims.ndim : m->dims.d[i];
    return onnx_transpose(o, *x, m->dims.ndim, order);
}

KIND(permute, .name = "permute", .onnx = permute_onnx,
     ARGS(permute_args, FDL_ARG(permute_args, dims, SHAPE)));

fdl_module *fdl_nn_permute(fdl_shape dims)
{
    static const fdl_module_ops ops = {
        .kind = "permute", .size = sizeof(permute_args), .forward = permute_forward};
    bool seen[FDL_MAX_DIMS] = {false};
    if (!arg_within(ops.kind, "the number of dims", dims.ndim, 1, FDL_MAX_DIMS))
        return NULL;
    for (int i = 0; i < dims.ndim; i++) {
        int64_t dim = dims.d[i] < 0 ? dims.d[i] + dims.ndim : dims.d[i];
        if (dim < 0 || dim >= dims.ndim || seen[dim])
            return fdl_fail_null(FDL_E_ARG,
                                 "fdl_nn_permute: dim %" PRId64 " at place %d; dims hold each of %d once",
                                 dims.d[i], i, dims.ndim);
        seen[dim] = true;
    }
    fdl_module *m = fdl_module_new(&ops);
    permute_args *self = fdl_module_self(m);
    if (self)
        *self = (permute_args){dims};
    return DESCRIBED(m, permute, (permute_args){dims});
}

/* ---- scale -------------------------------------------------------------------------------------- */

typedef struct scale {
    fdl_tensor *weight;
} scale;

/* Whether shape a broadcasts to b as it is. */
static bool broadcasts(fdl_shape a, fdl_shape b)
{
    if (a.ndim > b.ndim)
        return false;
    for (int i = 0; i < a.ndim; i++) {
        int64_t of_a = a.d[a.ndim - 1 - i];
        if (of_a != 1 && of_a != b.d[b.ndim - 1 - i])
            return false;
    }
    return true;
}

static fdl_tensor *scale_forward(void *self, fdl_tensor *x)
{
    const scale *m = self;
    if (!broadcasts(fdl_shape_of(m->weight), fdl_shape_of(x))) {
        char weight[256], text[256];
        return fdl_fail_null(FDL_E_SHAPE, "scale: its weight %s doesn't broadcast to %s",
                             fdl_describe(m->weight, weight, sizeof weight),
                             fdl_describe(x, text, sizeof text));
    }
    return fdl_mul(x, m->weight);
}

typedef struct scale_args {
    fdl_shape shape;
    double init;
    fdl_nn_scale_opts o;
} scale_args;

static fdl_module *make_scale(const void *args)
{
    const scale_args *a = args;
    return fdl_nn_scale_opt(a->shape, a->init, &a->o);
}

static const char *scale_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP(o, "Mul", IN(*x, onnx_param(o, c->module, "weight")));
}

KIND(scale, .name = "scale", .onnx = scale_onnx,
     ARGS(scale_args, FDL_ARG(scale_args, shape, SHAPE), FDL_ARG(scale_args, init, DOUBLE),
          FDL_OPT(scale_args, dtype, DTYPE)));

fdl_module *fdl_nn_scale_opt(fdl_shape shape, double init, const fdl_nn_scale_opts *opts)
{
    static const fdl_module_ops ops = {.kind = "scale", .size = sizeof(scale), .forward = scale_forward};
    const fdl_nn_scale_opts o = opts ? *opts : (fdl_nn_scale_opts){0};
    init = fdl_opt_double(init, 0);
    if (!arg_within(ops.kind, "the number of dims of shape", shape.ndim, 0, FDL_MAX_DIMS) ||
        !arg_within(ops.kind, "init", init, -1e300, 1e300))
        return NULL;
    for (int i = 0; i < shape.ndim; i++)
        if (!arg_at_least(ops.kind, "an extent of shape", shape.d[i], 1))
            return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    scale *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->weight = fdl_module_param(m, "weight", fdl_full(shape, init, .dtype = o.dtype, .device = o.device));
    return DESCRIBED(m, scale, (scale_args){shape, init, o});
}
