/* linear, and the modules that only look at x otherwise: identity, flatten, unflatten. */
#include "flodl/nn.h"

#include "arguments.h"
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
    return fdl_module_done(m);
}

/* ---- identity ----------------------------------------------------------------------------------- */

static fdl_tensor *identity_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

fdl_module *fdl_nn_identity(void)
{
    static const fdl_module_ops ops = {.kind = "identity", .forward = identity_forward};
    return fdl_module_done(fdl_module_new(&ops));
}

/* ---- flatten, unflatten ------------------------------------------------------------------------- */

typedef struct flatten {
    int start, end;
} flatten;

static fdl_tensor *flatten_forward(void *self, fdl_tensor *x)
{
    flatten *m = self;
    return fdl_flatten(x, m->start, m->end);
}

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
    return fdl_module_done(m);
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

fdl_module *fdl_nn_unflatten(int dim, fdl_shape shape)
{
    static const fdl_module_ops ops = {
        .kind = "unflatten", .size = sizeof(unflatten), .forward = unflatten_forward};
    if (!arg_within("unflatten", "dim", dim, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1) ||
        !arg_within("unflatten", "the number of dims of shape", shape.ndim, 1, FDL_MAX_DIMS))
        return NULL;
    int inferred = 0;
    for (int i = 0; i < shape.ndim; i++) {
        if (!arg_at_least("unflatten", "an extent of shape", shape.d[i], -1))
            return NULL;
        inferred += shape.d[i] == -1;
    }
    if (inferred > 1)
        return fdl_fail_null(
            FDL_E_ARG, "fdl_nn_unflatten: shape has %d extents of -1, at most one can be inferred", inferred);
    fdl_module *m = fdl_module_new(&ops);
    unflatten *self = fdl_module_self(m);
    if (self)
        *self = (unflatten){dim, shape};
    return fdl_module_done(m);
}
