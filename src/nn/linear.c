/* linear, and the modules that only look at x otherwise: identity, flatten, unflatten, reshape. */
#include "flodl/nn.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/linalg.h"

/* ---- linear ------------------------------------------------------------------------------------- */

typedef struct linear {
    fdl_tensor *weight, *bias;
} linear;

static fdl_tensor *linear_forward(void *self, fdl_tensor *x)
{
    linear *m = self;
    return fdl_linear(x, m->weight, .bias = m->bias);
}

static const fdl_module_ops linear_ops = {
    .kind = "linear", .size = sizeof(linear), .forward = linear_forward};

/* The weight of another parameter, which must be [out, in]. */
static bool tie_weight(fdl_module *m, fdl_shape shape, fdl_param *tie)
{
    fdl_tensor *t = fdl_param_tensor(tie);
    if (!fdl_shape_eq(fdl_shape_of(t), shape)) {
        char text[256];
        fdl_fail(FDL_E_ARG, "fdl_nn_linear: .tie is %s, must be [%" PRId64 ", %" PRId64 "]",
                 fdl_describe(t, text, sizeof text), shape.d[0], shape.d[1]);
        return false;
    }
    fdl_tensor *own = fdl_module_param(m, "weight", fdl_empty_like(t));
    return own && fdl_module_share_param(m, "weight", tie) == FDL_OK;
}

typedef struct linear_args {
    int64_t in, out;
    fdl_nn_linear_opts o; /* .tie is told by the file itself, by the names of both parameters */
} linear_args;

static fdl_module *make_linear(const void *args)
{
    const linear_args *a = args;
    return fdl_nn_linear_opt(a->in, a->out, &a->o);
}

static double linear_work(const fdl_call *c)
{
    const linear_args *a = c->args;
    return (double)fdl_shape_numel(c->y) * (double)a->in;
}

static const char *linear_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_linear(o, c->x.ndim, *x, onnx_param(o, c->module, "weight"),
                       onnx_param(o, c->module, "bias"));
}

KIND(linear, .name = "linear", .work = linear_work, .onnx = linear_onnx,
     ARGS(linear_args, FDL_ARG(linear_args, in, INT64), FDL_ARG(linear_args, out, INT64),
          FDL_OPT(linear_args, no_bias, BOOL), FDL_OPT(linear_args, dtype, DTYPE)));

fdl_module *fdl_nn_linear_opt(int64_t in, int64_t out, const fdl_nn_linear_opts *opts)
{
    const fdl_nn_linear_opts o = opts ? *opts : (fdl_nn_linear_opts){0};
    if (!arg_at_least("linear", "in", in, 1) || !arg_at_least("linear", "out", out, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&linear_ops);
    linear *self = fdl_module_self(m);
    if (!self)
        return NULL;
    fdl_shape shape = FDL_SHAPE(out, in);
    if (o.tie && !tie_weight(m, shape, o.tie)) {
        fdl_module_free(m);
        return NULL;
    }
    self->weight = o.tie ? fdl_param_tensor(fdl_module_own_param(m, "weight"))
                         : fdl_module_param(m, "weight", new_weight(shape, o.dtype, o.device));
    if (!o.no_bias)
        self->bias = fdl_module_param(m, "bias", new_uniform(FDL_SHAPE(out), in, o.dtype, o.device));
    return DESCRIBED(m, linear, (linear_args){in, out, o});
}

/* ---- identity ----------------------------------------------------------------------------------- */

static fdl_tensor *identity_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static fdl_module *make_identity(const void *args)
{
    (void)args;
    return fdl_nn_identity();
}

static const char *identity_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    (void)o;
    (void)c;
    return *x;
}

KIND(identity, .name = "identity", .onnx = identity_onnx);

fdl_module *fdl_nn_identity(void)
{
    static const fdl_module_ops ops = {.kind = "identity", .forward = identity_forward};
    return described(fdl_module_new(&ops), &kind_identity, NULL);
}

/* ---- flatten, unflatten, reshape ---------------------------------------------------------------- */

typedef struct flatten {
    int start, end;
} flatten;

static fdl_tensor *flatten_forward(void *self, fdl_tensor *x)
{
    flatten *m = self;
    return fdl_flatten(x, m->start, m->end);
}

typedef struct flatten_args {
    fdl_nn_flatten_opts o;
} flatten_args;

static fdl_module *make_flatten(const void *args)
{
    return fdl_nn_flatten_opt(&((const flatten_args *)args)->o);
}

/* The dims in front stay by their place, those behind by their extents. */
static const char *flatten_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const flatten *m = fdl_module_self(c->module);
    int64_t shape[FDL_MAX_DIMS];
    int start = m->start < 0 ? m->start + c->x.ndim : m->start;
    for (int i = 0; i < c->y.ndim; i++)
        shape[i] = i < start ? 0 : i == start ? -1 : c->y.d[i];
    return OP(o, "Reshape", IN(*x, onnx_ints(o, c->y.ndim, shape)));
}

KIND(flatten, .name = "flatten", .onnx = flatten_onnx,
     ARGS(flatten_args, FDL_OPT(flatten_args, start, OPT_INT), FDL_OPT(flatten_args, end, OPT_INT)));

fdl_module *fdl_nn_flatten_opt(const fdl_nn_flatten_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "flatten", .size = sizeof(flatten), .forward = flatten_forward};
    const fdl_nn_flatten_opts o = opts ? *opts : (fdl_nn_flatten_opts){0};
    int64_t start = fdl_opt_int(o.start, 1), end = fdl_opt_int(o.end, -1);
    if (!arg_within("flatten", "start", (double)start, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1) ||
        !arg_within("flatten", "end", (double)end, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    flatten *self = fdl_module_self(m);
    if (self)
        *self = (flatten){(int)start, (int)end};
    return DESCRIBED(m, flatten, (flatten_args){o});
}

typedef struct unflatten {
    int dim;
    fdl_shape shape;
} unflatten;

static fdl_tensor *unflatten_forward(void *self, fdl_tensor *x)
{
    unflatten *m = self;
    return fdl_unflatten(x, m->dim, m->shape);
}

static fdl_module *make_unflatten(const void *args)
{
    const unflatten *a = args;
    return fdl_nn_unflatten(a->dim, a->shape);
}

static const char *unflatten_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const unflatten *a = c->args;
    int64_t shape[FDL_MAX_DIMS];
    int dim = a->dim < 0 ? a->dim + c->x.ndim : a->dim;
    for (int i = 0; i < c->y.ndim; i++)
        shape[i] = i < dim ? 0 : i < dim + a->shape.ndim ? a->shape.d[i - dim] : c->y.d[i];
    return OP(o, "Reshape", IN(*x, onnx_ints(o, c->y.ndim, shape)));
}

KIND(unflatten, .name = "unflatten", .onnx = unflatten_onnx,
     ARGS(unflatten, FDL_ARG(unflatten, dim, INT), FDL_ARG(unflatten, shape, SHAPE)));

static bool check_extents(const char *kind, fdl_shape shape)
{
    int inferred = 0;
    for (int i = 0; i < shape.ndim; i++) {
        if (!arg_at_least(kind, "an extent of shape", shape.d[i], -1))
            return false;
        inferred += shape.d[i] == -1;
    }
    if (inferred > 1)
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: shape has %d extents of -1, at most one can be inferred", kind,
                 inferred);
    return inferred <= 1;
}

fdl_module *fdl_nn_unflatten(int dim, fdl_shape shape)
{
    static const fdl_module_ops ops = {
        .kind = "unflatten", .size = sizeof(unflatten), .forward = unflatten_forward};
    if (!arg_within("unflatten", "dim", dim, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1) ||
        !arg_within("unflatten", "the number of dims of shape", shape.ndim, 1, FDL_MAX_DIMS))
        return NULL;
    if (!check_extents(ops.kind, shape))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    unflatten *self = fdl_module_self(m);
    if (self)
        *self = (unflatten){dim, shape};
    return DESCRIBED(m, unflatten, (unflatten){dim, shape});
}

static fdl_tensor *reshape_forward(void *self, fdl_tensor *x)
{
    return fdl_reshape(x, *(fdl_shape *)self);
}

typedef struct reshape_args {
    fdl_shape shape;
} reshape_args;

static fdl_module *make_reshape(const void *args)
{
    return fdl_nn_reshape(((const reshape_args *)args)->shape);
}

static const char *reshape_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const reshape_args *a = c->args;
    for (int i = 0; i < a->shape.ndim; i++)
        if (a->shape.d[i] == 0)
            return onnx_refuse(o, "an extent of 0 means another thing in ONNX");
    return OP(o, "Reshape", IN(*x, onnx_ints(o, a->shape.ndim, a->shape.d)));
}

KIND(reshape, .name = "reshape", .onnx = reshape_onnx,
     ARGS(reshape_args, FDL_ARG(reshape_args, shape, SHAPE)));

fdl_module *fdl_nn_reshape(fdl_shape shape)
{
    static const fdl_module_ops ops = {
        .kind = "reshape", .size = sizeof(fdl_shape), .forward = reshape_forward};
    if (!arg_within(ops.kind, "the number of dims of shape", shape.ndim, 0, FDL_MAX_DIMS) ||
        !check_extents(ops.kind, shape))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    if (m)
        *(fdl_shape *)fdl_module_self(m) = shape;
    return DESCRIBED(m, reshape, (reshape_args){shape});
}
