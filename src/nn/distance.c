/* Modules that compare two inputs. */
#include "describe.h"
#include "flodl/nn_distance.h"
#include "flodl/norm.h"
#include "onnx.h"

#include <math.h>

/* The second input, or NULL and an error. */
static fdl_tensor *second(const char *kind, const fdl_refs *r)
{
    size_t n = 1 + fdl_refs_count(r);
    if (n != 2)
        return fdl_fail_null(FDL_E_ARG, "%s takes 2 inputs, got %zu", kind, n);
    return fdl_refs_at(r, 0);
}

/* ---- cosine similarity ----------------------------------------------------------------------------- */

typedef struct cosine_args {
    fdl_nn_cosine_similarity_opts o;
} cosine_args;

static fdl_tensor *cosine_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const cosine_args *m = self;
    fdl_tensor *other = second("cosine_similarity", r);
    if (!other)
        return NULL;
    return fdl_cosine_similarity(x, other, (int)fdl_opt_int(m->o.dim, 1), .eps = m->o.eps);
}

static fdl_module *make_cosine_similarity(const void *args)
{
    return fdl_nn_cosine_similarity_opt(&((const cosine_args *)args)->o);
}

static double cosine_work(const fdl_call *c)
{
    double a = (double)fdl_shape_numel(c->x), b = (double)fdl_shape_numel(c->input[1]);
    return 6 * (a > b ? a : b);
}

/* Sum over dim, which goes. */
static const char *sum(fdl_onnx *o, const char *x, int64_t dim, bool keep)
{
    return OP_ATTR(o, "ReduceSum", IN(x, INTS(o, dim)), A_INT("keepdims", keep));
}

/* max(norm, eps) along dim, kept. */
static const char *norm(fdl_onnx *o, const char *x, int64_t dim, double eps)
{
    const char *n = OP(o, "Sqrt", IN(sum(o, OP(o, "Mul", IN(x, x)), dim, true)));
    return OP(o, "Max", IN(n, onnx_number(o, eps)));
}

static const char *cosine_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const cosine_args *a = c->args;
    if (c->inputs != 2)
        return onnx_refuse(o, "cosine_similarity takes 2 inputs");
    int64_t dim = fdl_opt_int(a->o.dim, 1);
    int rank = c->x.ndim > c->input[1].ndim ? c->x.ndim : c->input[1].ndim;
    if (dim >= 0)
        dim -= rank; /* from the end it is the same dim of both */
    double eps = fdl_opt_double(a->o.eps, 1e-8);
    const char *p = OP(o, "Div", IN(x[0], norm(o, x[0], dim, eps)));
    const char *q = OP(o, "Div", IN(x[1], norm(o, x[1], dim, eps)));
    return sum(o, OP(o, "Mul", IN(p, q)), dim, false);
}

KIND(cosine_similarity, .name = "cosine_similarity", .work = cosine_work, .onnx = cosine_onnx,
     ARGS(cosine_args, FDL_OPT(cosine_args, dim, OPT_INT), FDL_OPT(cosine_args, eps, OPT_DOUBLE)));

fdl_module *fdl_nn_cosine_similarity_opt(const fdl_nn_cosine_similarity_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "cosine_similarity", .size = sizeof(cosine_args), .forward_named = cosine_forward};
    const fdl_nn_cosine_similarity_opts o = opts ? *opts : (fdl_nn_cosine_similarity_opts){0};
    double eps = fdl_opt_double(o.eps, 1e-8);
    int64_t dim = fdl_opt_int(o.dim, 1);
    if (!(eps > 0) || !isfinite(eps))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_cosine_similarity: eps is %g; it is above 0", eps);
    if (dim < -FDL_MAX_DIMS || dim >= FDL_MAX_DIMS)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_cosine_similarity: dim is %lld; tensors have at most %d",
                             (long long)dim, FDL_MAX_DIMS);
    fdl_module *m = fdl_module_new(&ops);
    cosine_args *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = o;
    return DESCRIBED(m, cosine_similarity, (cosine_args){o});
}

/* ---- distance of rows ------------------------------------------------------------------------------ */

typedef struct distance_args {
    fdl_nn_pairwise_distance_opts o;
} distance_args;

static fdl_tensor *distance_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const distance_args *m = self;
    fdl_tensor *other = second("pairwise_distance", r);
    if (!other)
        return NULL;
    return fdl_pairwise_distance(x, other, .p = m->o.p, .eps = m->o.eps, .keepdim = m->o.keepdim);
}

static fdl_module *make_pairwise_distance(const void *args)
{
    return fdl_nn_pairwise_distance_opt(&((const distance_args *)args)->o);
}

static double distance_work(const fdl_call *c)
{
    double a = (double)fdl_shape_numel(c->x), b = (double)fdl_shape_numel(c->input[1]);
    return 4 * (a > b ? a : b);
}

static const char *distance_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const distance_args *a = c->args;
    if (c->inputs != 2)
        return onnx_refuse(o, "pairwise_distance takes 2 inputs");
    double p = fdl_opt_double(a->o.p, 2);
    if (p == 0 || isinf(p))
        return onnx_refuse(o, "a distance with p = %g isn't told in ONNX", p);
    const char *d = OP(o, "Sub", IN(x[0], x[1]));
    d = OP(o, "Abs", IN(OP(o, "Add", IN(d, onnx_number(o, fdl_opt_double(a->o.eps, 1e-6))))));
    d = sum(o, p == 1 ? d : OP(o, "Pow", IN(d, onnx_number(o, p))), -1, a->o.keepdim);
    return p == 1 ? d : p == 2 ? OP(o, "Sqrt", IN(d)) : OP(o, "Pow", IN(d, onnx_number(o, 1 / p)));
}

KIND(pairwise_distance, .name = "pairwise_distance", .work = distance_work, .onnx = distance_onnx,
     ARGS(distance_args, FDL_OPT(distance_args, p, OPT_DOUBLE), FDL_OPT(distance_args, eps, OPT_DOUBLE),
          FDL_OPT(distance_args, keepdim, BOOL)));

fdl_module *fdl_nn_pairwise_distance_opt(const fdl_nn_pairwise_distance_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "pairwise_distance", .size = sizeof(distance_args), .forward_named = distance_forward};
    const fdl_nn_pairwise_distance_opts o = opts ? *opts : (fdl_nn_pairwise_distance_opts){0};
    double p = fdl_opt_double(o.p, 2), eps = fdl_opt_double(o.eps, 1e-6);
    if (!(p >= 0))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_pairwise_distance: p is %g; it is at least 0", p);
    if (!isfinite(eps))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_pairwise_distance: eps is %g", eps);
    fdl_module *m = fdl_module_new(&ops);
    distance_args *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = o;
    return DESCRIBED(m, pairwise_distance, (distance_args){o});
}
