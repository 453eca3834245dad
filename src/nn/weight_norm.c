/* Norms of weights: weight_norm, spectral_norm. Modules that compute a parameter of another one (computed.c). */
#include "flodl/norm.h"

#include "arguments.h"
#include "describe.h"
#include "flodl/arithmetic.h"
#include "flodl/autocast.h"
#include "flodl/inplace.h"
#include "flodl/linalg.h"
#include "flodl/parametrize.h"
#include "flodl/random.h"
#include "flodl/shape.h"
#include "module_private.h"

/* ---- weight_norm --------------------------------------------------------------------------------- */

typedef struct weight_norm {
    int dim;
} weight_norm;

static fdl_tensor *weight_norm_forward(void *self, fdl_tensor *g, const fdl_refs *r)
{
    const weight_norm *m = self;
    fdl_tensor *v = fdl_refs_need(r, "v");
    /* in parts: the derivative of torch._weight_norm's derivative leaves the norm out */
    return v ? fdl_mul(v, fdl_div(g, fdl_norm_except_dim(v, 2, m->dim))) : NULL;
}

static int weight_norm_invert(fdl_module *m, fdl_tensor *weight, fdl_tensor *originals[2])
{
    const weight_norm *self = m->self;
    originals[0] = fdl_norm_except_dim(weight, 2, self->dim);
    originals[1] = weight;
    return originals[0] ? 2 : 0;
}

static fdl_module *make_weight_norm(const void *args)
{
    static const char *const refs[] = {"v", NULL};
    static const fdl_module_ops ops = {.kind = "weight_norm",
                                       .size = sizeof(weight_norm),
                                       .forward_named = weight_norm_forward,
                                       .ref_names = refs};
    static const module_table table = {.invert = weight_norm_invert};
    extern const fdl_kind kind_weight_norm;
    const weight_norm *a = args;
    fdl_module *m = module_new_with(&ops, &table);
    if (m)
        *(weight_norm *)m->self = *a;
    return DESCRIBED(m, weight_norm, *a);
}

KIND(weight_norm, .name = "weight_norm", ARGS(weight_norm, FDL_ARG(weight_norm, dim, INT)));

/* The dim as it was asked for, seen from the front; false: an error. */
static bool good_dim(const char *function, fdl_tensor *weight, const fdl_opt_i64 *dim, int64_t usual,
                     int64_t least, int *out)
{
    int64_t d = fdl_opt_int(*dim, usual), n = fdl_ndim(weight);
    *out = (int)d;
    if (d >= least && d < n)
        return true;
    char text[256];
    fdl_fail(FDL_E_ARG,
             "%s: .dim is %" PRId64 ", must be from %" PRId64 " to %" PRId64 " for the parameter, %s",
             function, d, least, n - 1, fdl_describe(weight, text, sizeof text));
    return false;
}

/* A tensor of the name that is there as a parameter or computed; floating. NULL: the error is set. */
static fdl_tensor *parameter_of(const char *function, fdl_module *m, const char *name)
{
    if (!m || !name) {
        fdl_null_operand(function, m ? "name" : "m");
        return NULL;
    }
    bool before = fdl_error_pending() != FDL_OK;
    fdl_tensor *t = fdl_parametrized(m, name);
    if (!t && !before)
        fdl_error_prefix("%s: ", function);
    return t;
}

fdl_status fdl_weight_norm_opt(fdl_module *m, const char *name, const fdl_weight_norm_opts *opts)
{
    static const char *const function = "fdl_weight_norm";
    FDL_SCOPE;
    FDL_NO_GRAD;
    const fdl_weight_norm_opts o = opts ? *opts : (fdl_weight_norm_opts){0};
    weight_norm args;
    fdl_tensor *weight = parameter_of(function, m, name);
    if (!weight || !good_dim(function, weight, &o.dim, 0, -1, &args.dim))
        return fdl_error_pending();
    if (fdl_is_parametrized(m, name))
        return fdl_fail(
            FDL_E_STATE,
            "%s: the %s is parametrized already; a weight norm, which needs two tensors, comes first",
            function, name);
    fdl_module *by = make_weight_norm(&args);
    return by ? module_parametrize(function, m, name, 1, &by) : fdl_error_pending();
}

/* ---- spectral_norm ------------------------------------------------------------------------------- */

typedef struct spectral_norm_args {
    fdl_shape shape; /* the weight's */
    int dim, iterations;
    double eps;
    fdl_dtype dtype;
} spectral_norm_args;

typedef struct spectral_norm {
    spectral_norm_args a;
    fdl_tensor *u, *v; /* [rows], [columns]; NULL: the weight has one dim */
} spectral_norm;

/* [rows, columns], the rows along dim. */
static fdl_tensor *as_matrix(const spectral_norm *m, fdl_tensor *weight)
{
    return fdl_flatten(fdl_movedim(weight, m->a.dim, 0), 1, -1);
}

static fdl_status iterate(const spectral_norm *m, fdl_tensor *matrix, int times)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int i = 0; i < times; i++) {
        FDL_TRY(fdl_copy_(m->u, fdl_normalize(fdl_mv(matrix, m->v), 0, .eps = fdl_opt_double(m->a.eps, 0))));
        FDL_TRY(fdl_copy_(m->v, fdl_normalize(fdl_mv(fdl_t(matrix), m->u), 0, .eps = m->a.eps)));
    }
    return FDL_OK;
}

/* In the dtype of the vectors, which stay what they are when parameters alone are cast, and not in autocast's, in which few digits
 * of the quotient would be left. */
static fdl_tensor *spectral_norm_forward(void *self, fdl_tensor *weight)
{
    const spectral_norm *m = self;
    FDL_AUTOCAST_OFF;
    if (!m->u)
        return fdl_normalize(weight, 0, .eps = m->a.eps);
    fdl_tensor *matrix = as_matrix(m, weight);
    bool cast = fdl_dtype_of(m->u) != fdl_dtype_of(weight);
    if (cast)
        matrix = fdl_to_dtype(matrix, fdl_dtype_of(m->u));
    if (fdl_is_training(fdl_module_of(self)))
        FDL_TRY_NULL(iterate(m, matrix, m->a.iterations));
    /* copies: a second run iterates in place, and the first one's backward still needs what it saw */
    fdl_tensor *u = fdl_clone(m->u), *v = fdl_clone(m->v);
    fdl_tensor *sigma = fdl_dot(u, fdl_mv(matrix, v));
    return fdl_div_tensor(weight, cast ? fdl_to_dtype(sigma, fdl_dtype_of(weight)) : sigma);
}

/* Drawn for a weight of that shape, where it is. */
static fdl_tensor *direction(int64_t n, const spectral_norm_args *a, fdl_device device)
{
    return fdl_normalize(fdl_randn(FDL_SHAPE(n), .dtype = a->dtype, .device = device), 0, .eps = a->eps);
}

static fdl_module *new_spectral_norm(const spectral_norm_args *a, fdl_device device)
{
    static const fdl_module_ops ops = {
        .kind = "spectral_norm", .size = sizeof(spectral_norm), .forward = spectral_norm_forward};
    extern const fdl_kind kind_spectral_norm;
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (!arg_extents("spectral_norm", "an extent of shape", &a->shape) ||
        !arg_within("spectral_norm", "dim", a->dim, 0, a->shape.ndim - 1) ||
        !arg_at_least("spectral_norm", "n_power_iterations", a->iterations, 1) ||
        !arg_within("spectral_norm", "eps", a->eps, 0, 1e300))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    spectral_norm *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->a = *a;
    self->a.eps = a->eps > 0 ? a->eps : FDL_ZERO;
    int64_t rows = a->shape.d[a->dim], all = fdl_shape_numel(a->shape);
    if (a->shape.ndim > 1) {
        self->u = fdl_module_buffer(m, "_u", direction(rows, &self->a, device));
        self->v = fdl_module_buffer(m, "_v", direction(rows ? all / rows : 0, &self->a, device));
    }
    return DESCRIBED(m, spectral_norm, *a);
}

static fdl_module *make_spectral_norm(const void *args)
{
    return new_spectral_norm(args, fdl_default_device());
}

KIND(spectral_norm, .name = "spectral_norm",
     ARGS(spectral_norm_args, FDL_ARG(spectral_norm_args, shape, SHAPE),
          FDL_ARG(spectral_norm_args, dim, INT), FDL_ARG(spectral_norm_args, iterations, INT),
          FDL_ARG(spectral_norm_args, eps, DOUBLE),
          {.name = "dtype", .type = FDL_FIELD_DTYPE, .offset = offsetof(spectral_norm_args, dtype)}));

fdl_status fdl_spectral_norm_opt(fdl_module *m, const char *name, const fdl_spectral_norm_opts *opts)
{
    static const char *const function = "fdl_spectral_norm";
    FDL_SCOPE;
    const fdl_spectral_norm_opts o = opts ? *opts : (fdl_spectral_norm_opts){0};
    fdl_tensor *weight = parameter_of(function, m, name);
    if (!weight)
        return fdl_error_pending();
    /* there the outputs are the second extent */
    bool transposed = strncmp(fdl_module_kind(m), "conv_t", 6) == 0;
    spectral_norm_args a = {.shape = fdl_shape_of(weight),
                            .iterations = o.n_power_iterations ? o.n_power_iterations : 1,
                            .eps = fdl_opt_double(o.eps, 1e-12),
                            .dtype = fdl_dtype_of(weight)};
    int64_t n = a.shape.ndim;
    if (!good_dim(function, weight, &o.dim, transposed && n > 1, -n, &a.dim))
        return fdl_error_pending();
    a.dim += a.dim < 0 ? (int)n : 0;
    fdl_module *by = new_spectral_norm(&a, fdl_device_of(weight));
    if (!by)
        return fdl_error_pending();
    const spectral_norm *self = by->self;
    if (self->u && iterate(self, as_matrix(self, fdl_detach(weight)), 15) != FDL_OK) {
        module_release(by);
        return fdl_error_pending();
    }
    return module_parametrize(function, m, name, 1, &by);
}
