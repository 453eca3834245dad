/* Adafactor (Shazeer and Stern, 2018), t being the parameter's own count of steps, rms the root of the mean of squares:
 *     w = t^beta2_decay;  rate = max(eps2, rms(p)) * min(lr, 1 / sqrt(t));  p *= 1 - lr * weight_decay
 *     p [.., m, n]: r += w * (mean of g^2 along n - r), c += w * (mean along m - c), v = r c / max(mean of r along m, eps1)
 *     other p:      v += w * (g^2 - v)
 *     u = g / sqrt(max(v, eps1^2));  p -= rate * u / max(1, rms(u) / d) */
#include "flodl/arithmetic.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "optim.h"

#include <float.h>
#include <math.h>

enum { ROW_VAR, COL_VAR, VARIANCE };

static bool needs(const optim_group *g, const optim_slot *s, int state)
{
    (void)g;
    return (fdl_ndim(s->param) > 1) == (state != VARIANCE);
}

static double eps1(const optim_batch *b)
{
    if (b->o->eps1 != 0)
        return b->o->eps1;
    switch (fdl_dtype_of(b->params.at[0])) {
    case FDL_FLOAT64:
        return DBL_EPSILON;
    case FDL_FLOAT16:
        return 0x1p-10;
    case FDL_BFLOAT16:
        return 0x1p-7;
    default:
        return (double)FLT_EPSILON;
    }
}

/* A norm over n elements as root of the mean of squares, 0-d float64. */
static fdl_tensor *rms(fdl_tensor *norm, fdl_tensor *of)
{
    return fdl_div(fdl_double(norm), sqrt((double)fdl_numel(of)));
}

/* Roots of means of squares of a list: float64 [n]. */
static fdl_tensor *all_rms(fdl_list a)
{
    fdl_list norms = fdl_foreach_norm(a);
    for (int i = 0; i < norms.n; i++)
        norms.at[i] = rms(norms.at[i], a.at[i]);
    return fdl_stack(norms, 0);
}

/* max(eps2, size) * min(lr, 1 / sqrt(t)), of t's shape. */
static fdl_tensor *rates(const optim_batch *b, fdl_tensor *size, fdl_tensor *t)
{
    fdl_tensor *relative = fdl_minimum(fdl_double(b->lr), fdl_rsqrt(t));
    return fdl_mul(fdl_maximum(size, b->o->eps2), relative);
}

/* The mean of squares along dim, which stays as 1. */
static fdl_tensor *mean_square(fdl_tensor *g, int dim)
{
    return fdl_div(fdl_square(fdl_norm_dim(g, 2, dim, .keepdim = true)), (double)fdl_size(g, dim));
}

/* a += w * (x - a), w 0-d. */
static fdl_status blend(fdl_tensor *a, fdl_tensor *x, fdl_tensor *w)
{
    return fdl_add_(a, fdl_mul(fdl_sub(x, a), w));
}

/* g / sqrt(v) of the second moments, which are brought up to date first; NULL on failure. */
static fdl_tensor *update_on_host(const optim_batch *b, int i, fdl_tensor *g, double w)
{
    fdl_tensor *v;
    if (b->state[ROW_VAR].n) {
        fdl_tensor *r = b->state[ROW_VAR].at[i], *c = b->state[COL_VAR].at[i];
        if (fdl_lerp_(r, mean_square(g, -1), w) != FDL_OK || fdl_lerp_(c, mean_square(g, -2), w) != FDL_OK)
            return NULL;
        v = fdl_div(fdl_matmul(r, c), fdl_maximum(fdl_mean_dim(r, -2, .keepdim = true), eps1(b)));
    } else {
        v = b->state[VARIANCE].at[i];
        if (fdl_lerp_(v, fdl_square(g), w) != FDL_OK)
            return NULL;
    }
    return fdl_mul(fdl_rsqrt(fdl_maximum(v, eps1(b) * eps1(b))), g);
}

/* The root of the mean of squares of x. */
static fdl_status rms_on_host(fdl_tensor *x, double *v)
{
    FDL_TRY(fdl_to_f64(fdl_norm(x), v, 1));
    *v /= sqrt((double)fdl_numel(x));
    return FDL_OK;
}

static fdl_status one_on_host(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    double t = optim_host_count(b, i), size, steepness;
    FDL_TRY(rms_on_host(b->params.at[i], &size));
    fdl_tensor *g = optim_one_decayed(b, i, true);
    fdl_tensor *u = g ? update_on_host(b, i, g, pow(t, o->beta2_decay)) : NULL;
    FDL_TRY(rms_on_host(u, &steepness));
    double rate = fmax(o->eps2, size) * fmin(o->lr, 1 / sqrt(t)) / fmax(1, steepness / o->d);
    return fdl_add_(b->params.at[i], u, .alpha = optim_exactly(-rate));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    if (b->host)
        return one_on_host(b, i);
    fdl_tensor *p = b->params.at[i], *t = optim_one_count(b, i), *v;
    fdl_tensor *w = fdl_pow(t, o->beta2_decay), *rate = rates(b, rms(fdl_norm(p), p), t);
    fdl_tensor *g = optim_one_decayed(b, i, true);
    if (!rate || !g)
        return fdl_error_pending();
    if (b->state[ROW_VAR].n) {
        fdl_tensor *r = b->state[ROW_VAR].at[i], *c = b->state[COL_VAR].at[i];
        FDL_TRY(blend(r, mean_square(g, -1), w));
        FDL_TRY(blend(c, mean_square(g, -2), w));
        v = fdl_div(fdl_matmul(r, c), fdl_maximum(fdl_mean_dim(r, -2, .keepdim = true), eps1(b)));
    } else {
        v = b->state[VARIANCE].at[i];
        FDL_TRY(blend(v, fdl_square(g), w));
    }
    fdl_tensor *u = fdl_mul(fdl_rsqrt(fdl_maximum(v, eps1(b) * eps1(b))), g);
    fdl_tensor *over = fdl_maximum(fdl_div(rms(fdl_norm(u), u), o->d), 1);
    return optim_one_descend_by(b, i, u, fdl_div(rate, over));
}

/* a[i] += w[i] * (x[i] - a[i]). */
static fdl_status blend_all(fdl_list a, fdl_list x, fdl_list w)
{
    fdl_list difference = fdl_foreach_add(x, a, -1);
    FDL_TRY(fdl_foreach_mul_list_(difference, w));
    return fdl_foreach_add_(a, difference);
}

/* The second moments of matrices; NULL list on failure. */
static fdl_list factored(const optim_batch *b, fdl_list g, fdl_list w)
{
    const fdl_list none = {0, NULL};
    fdl_list r = b->state[ROW_VAR], c = b->state[COL_VAR], v = {g.n, NULL}, x = {g.n, NULL};
    v.at = fdl_scope_alloc(sizeof *v.at * (size_t)g.n);
    x.at = fdl_scope_alloc(sizeof *x.at * (size_t)g.n);
    if (!v.at || !x.at)
        return none;
    for (int side = 1; side < 3; side++) {
        for (int i = 0; i < g.n; i++)
            x.at[i] = mean_square(g.at[i], -side);
        if (blend_all(side == 1 ? r : c, x, w) != FDL_OK)
            return none;
    }
    for (int i = 0; i < g.n; i++) {
        v.at[i] = fdl_matmul(r.at[i], c.at[i]);
        x.at[i] = fdl_mean_dim(r.at[i], -2, .keepdim = true);
    }
    return fdl_foreach_clamp_min_(x, eps1(b)) == FDL_OK && fdl_foreach_div_(v, x) == FDL_OK ? v : none;
}

static fdl_status foreach (const optim_batch *b)
{
    fdl_tensor *t = optim_counts(b), *rate = rates(b, all_rms(b->params), t);
    fdl_list w = fdl_unbind(fdl_pow(t, b->o->beta2_decay), 0), g = optim_decayed(b, true), v;
    if (!rate || !w.at || !g.at)
        return fdl_error_pending();
    if (b->state[ROW_VAR].n) {
        v = factored(b, g, w);
    } else {
        fdl_list squares = optim_copy(g);
        FDL_TRY(fdl_foreach_mul_list_(squares, g));
        FDL_TRY(blend_all(b->state[VARIANCE], squares, w));
        v = optim_copy(b->state[VARIANCE]);
    }
    FDL_TRY(fdl_foreach_clamp_min_(v, eps1(b) * eps1(b)));
    FDL_TRY(fdl_foreach_sqrt_(v));
    fdl_list u = optim_quotient(g, v);
    fdl_tensor *over = fdl_maximum(fdl_div(all_rms(u), b->o->d), 1);
    return optim_descend_by(b, u, fdl_div(rate, over));
}

static const optim_kind adafactor = {
    .name = "adafactor",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA2_DECAY | OPTIM_EPS1 |
              OPTIM_EPS2 | OPTIM_D,
    .defaults = {.lr = 1e-2, .beta2_decay = -0.8, .eps2 = 1e-3, .d = 1},
    .counts = true,
    .decoupled = true,
    .states = {"row_var", "col_var", "variance"},
    .form = {[ROW_VAR] = OPTIM_ROWS, [COL_VAR] = OPTIM_COLS},
    .needs = needs,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_adafactor_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adafactor, params, opts);
}
