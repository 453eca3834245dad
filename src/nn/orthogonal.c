/* Orthogonal weights: a module that computes a parameter of another one (computed.c). Lezcano-Casado 2019, "Trivializations for
 * gradient-based optimization on manifolds". */
#include "arguments.h"
#include "describe.h"
#include "flodl/arithmetic.h"
#include "flodl/autocast.h"
#include "flodl/inplace.h"
#include "flodl/index.h"
#include "flodl/linalg.h"
#include "flodl/parametrize.h"
#include "flodl/random.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "module_private.h"

typedef struct orthogonal_args {
    fdl_shape shape; /* the weight's */
    fdl_orthogonal_map map;
    fdl_dtype dtype;
} orthogonal_args;

typedef struct orthogonal {
    fdl_orthogonal_map map;
    fdl_tensor *base; /* [*, n, n], n the larger extent */
} orthogonal;

/* A matrix that is small and full -> an orthogonal one [*, n, k], n >= k; 0 gives the first columns of 1. */
static fdl_tensor *exponential(const orthogonal *m, fdl_tensor *x, int64_t n, int64_t k)
{
    x = fdl_tril(x);
    if (n != k)
        x = fdl_pad(x, FDL_DIMS(0, n - k));
    fdl_tensor *skew = fdl_sub(x, fdl_mT(x)), *q;
    if (m->map == FDL_ORTHOGONAL_CAYLEY) {
        fdl_tensor *one = fdl_eye(n, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
        fdl_tensor *half = fdl_mul(skew, 0.5);
        q = fdl_linalg_solve(fdl_sub(one, half), fdl_add(one, half));
    } else {
        q = fdl_matrix_exp(skew);
    }
    return n == k ? q : fdl_narrow(q, -1, 0, k);
}

/* The diagonal of x has signs, which no optimizer moves. */
static fdl_tensor *reflections(fdl_tensor *x)
{
    fdl_tensor *a = fdl_tril(x, .diagonal = -1);
    fdl_tensor *tau = fdl_rdiv_scalar(fdl_add(fdl_sum_dim(fdl_mul(a, a), -2), 1), 2);
    fdl_tensor *signs = fdl_sign(fdl_detach(fdl_diagonal(x, -2, -1)));
    return fdl_mul(fdl_linalg_householder_product(a, tau), fdl_unsqueeze(signs, -2));
}

static fdl_tensor *orthogonal_forward(void *self, fdl_tensor *x)
{
    const orthogonal *m = self;
    FDL_AUTOCAST_OFF; /* in half precision it wouldn't be orthogonal */
    int64_t n = fdl_size(x, -2), k = fdl_size(x, -1);
    if (n < 0 || k < 0)
        return NULL;
    bool wide = n < k;
    if (wide) {
        x = fdl_mT(x);
        int64_t swap = n;
        n = k;
        k = swap;
    }
    fdl_tensor *q = m->map == FDL_ORTHOGONAL_HOUSEHOLDER ? reflections(x) : exponential(m, x, n, k);
    q = fdl_matmul(m->base, q);
    return wide ? fdl_mT(q) : q;
}

/* The orthogonal factor of square matrices whose other factor has a positive diagonal; what is orthogonal stays. */
static fdl_tensor *nearby(fdl_tensor *q)
{
    int64_t n = fdl_size(q, -1);
    fdl_tensor *one = fdl_eye(n, .dtype = fdl_dtype_of(q), .device = fdl_device_of(q));
    fdl_tensor *off =
        fdl_amax(fdl_flatten(fdl_abs(fdl_sub(fdl_matmul(fdl_mT(q), q), one)), 0, -1), FDL_DIMS(0));
    double eps = fdl_dtype_of(q) == FDL_FLOAT64 ? 0x1p-52 : 0x1p-23;
    if (!off || (fdl_numel(q) && fdl_item(off) <= 10 * (double)n * eps))
        return off ? q : NULL;
    fdl_list qr = fdl_linalg_qr(q);
    fdl_tensor *diagonal = fdl_diagonal(fdl_list_at(qr, 1), -2, -1);
    return fdl_mul(fdl_list_at(qr, 0), fdl_unsqueeze(fdl_sign(diagonal), -2));
}

static int orthogonal_invert(fdl_module *m, fdl_tensor *weight, fdl_tensor *originals[2])
{
    const orthogonal *self = m->self;
    fdl_tensor *q = fdl_size(weight, -2) < fdl_size(weight, -1) ? fdl_mT(weight) : weight;
    fdl_shape more = fdl_shape_of(q);
    int64_t n = fdl_size(q, -2), k = fdl_size(q, -1);
    if (n != k) {
        more.d[more.ndim - 1] = n - k;
        q = fdl_cat(FDL_LIST(q, fdl_randn(more, .dtype = fdl_dtype_of(q), .device = fdl_device_of(q))), -1);
    }
    q = nearby(q);
    if (!q || fdl_copy_(self->base, q) != FDL_OK)
        return 0;
    originals[0] = fdl_zeros_like(weight);
    fdl_tensor *diagonal = fdl_diagonal(originals[0], -2, -1);
    return diagonal && fdl_fill_(diagonal, -1) == FDL_OK ? 1 : 0;
}

static fdl_module *new_orthogonal(const orthogonal_args *a, fdl_device device)
{
    static const fdl_module_ops ops = {
        .kind = "orthogonal", .size = sizeof(orthogonal), .forward = orthogonal_forward};
    static const module_table table = {.invert = orthogonal_invert};
    extern const fdl_kind kind_orthogonal;
    FDL_SCOPE;
    int dims = a->shape.ndim;
    if (dims < 2)
        return fdl_fail_null(FDL_E_ARG, "fdl_orthogonal: the parameter has %d dims; it must have 2 or more",
                             dims);
    if (a->map < FDL_ORTHOGONAL_MATRIX_EXP || a->map > FDL_ORTHOGONAL_HOUSEHOLDER)
        return fdl_fail_null(FDL_E_ARG, "fdl_orthogonal: .map is %d, which is none", (int)a->map);
    fdl_shape square = a->shape;
    int64_t n = square.d[dims - 2], k = square.d[dims - 1];
    square.d[dims - 2] = square.d[dims - 1] = n > k ? n : k;
    if (!arg_extents("orthogonal", "an extent of shape", &a->shape) ||
        !arg_extents("orthogonal", "an extent of base", &square))
        return NULL;
    fdl_module *m = module_new_with(&ops, &table);
    orthogonal *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->map = a->map;
    fdl_tensor *one = fdl_eye(square.d[dims - 1], .dtype = a->dtype, .device = device);
    self->base = fdl_module_buffer(m, "base", fdl_contiguous(fdl_expand(one, square)));
    return DESCRIBED(m, orthogonal, *a);
}

static fdl_module *make_orthogonal(const void *args)
{
    return new_orthogonal(args, fdl_default_device());
}

static const char *const map_names[] = {"auto", "matrix_exp", "cayley", "householder", NULL};

KIND(orthogonal, .name = "orthogonal",
     ARGS(orthogonal_args, FDL_ARG(orthogonal_args, shape, SHAPE),
          {.name = "map",
           .type = FDL_FIELD_ENUM,
           .required = true,
           .offset = offsetof(orthogonal_args, map),
           .names = map_names},
          {.name = "dtype", .type = FDL_FIELD_DTYPE, .offset = offsetof(orthogonal_args, dtype)}));

fdl_status fdl_orthogonal_opt(fdl_module *m, const char *name, const fdl_orthogonal_opts *opts)
{
    static const char *const function = "fdl_orthogonal";
    if (!m || !name)
        return fdl_null_operand(function, m ? "name" : "m");
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *weight = fdl_parametrized(m, name);
    if (!weight)
        return fdl_error_pending();
    orthogonal_args a = {.shape = fdl_shape_of(weight),
                         .map = opts ? opts->map : FDL_ORTHOGONAL_AUTO,
                         .dtype = fdl_dtype_of(weight)};
    if (!a.map && a.shape.ndim > 1)
        a.map = a.shape.d[a.shape.ndim - 1] == a.shape.d[a.shape.ndim - 2] ? FDL_ORTHOGONAL_MATRIX_EXP
                                                                           : FDL_ORTHOGONAL_HOUSEHOLDER;
    if (fdl_is_parametrized(m, name))
        return fdl_fail(FDL_E_STATE, "%s: the %s is parametrized already; this one comes first", function,
                        name);
    fdl_module *by = new_orthogonal(&a, fdl_device_of(weight));
    return by ? module_parametrize(function, m, name, 1, &by) : fdl_error_pending();
}
