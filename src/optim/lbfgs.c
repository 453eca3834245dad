/* L-BFGS (Nocedal, 1980) with torch.optim.LBFGS's order of evaluations, tests and line search: the parameters are one vector x,
 * g its gradient.
 *     y = g - g before, s = t d;  y s > 1e-10: the pair is remembered, H = y s / y y
 *     d = -(the inverse Hessian that the pairs make of H) g;  t = lr, at first min(1, 1 / sum |g|) lr, or what the line search finds
 *     x += t d
 * Scalars are read: which way to go on depends on them, so a step waits for the device. */
#include "flodl/arithmetic.h"
#include "flodl/autograd.h"
#include "flodl/index.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "flodl/sparse.h"
#include "optim.h"

#include <math.h>

/* What is remembered from step to step: fdl_optim.own. */
typedef struct lbfgs {
    int64_t n_iter, func_evals;
    fdl_tensor *d,
        *before; /* kept: the last direction, and the gradient where it began; NULL before the first step */
    double t, loss, scale; /* how far it was gone, the loss where it began, the H of H times one */
    fdl_tensor **y, **s;   /* [n] kept, the oldest first: changes of the gradient, and of the parameters */
    double *ro;            /* [n]: 1 / y s */
    int n, room;
} lbfgs;

static void drop(fdl_tensor **kept)
{
    fdl_free(*kept);
    *kept = NULL;
}

static void lbfgs_free(void *own)
{
    lbfgs *l = own;
    if (!l)
        return;
    drop(&l->d);
    drop(&l->before);
    for (int i = 0; i < l->n; i++) {
        drop(&l->y[i]);
        drop(&l->s[i]);
    }
    free(l->y);
    free(l->s);
    free(l->ro);
    free(l);
}

/* Room for so many pairs. */
static fdl_status lbfgs_room(lbfgs *l, int n)
{
    if (n <= l->room)
        return FDL_OK;
    fdl_tensor **y = realloc(l->y, sizeof *y * (size_t)n);
    l->y = y ? y : l->y;
    fdl_tensor **s = realloc(l->s, sizeof *s * (size_t)n);
    l->s = s ? s : l->s;
    double *ro = realloc(l->ro, sizeof *ro * (size_t)n);
    l->ro = ro ? ro : l->ro;
    if (!y || !s || !ro)
        return fdl_fail(FDL_E_OOM, "lbfgs: memory ran out");
    l->room = n;
    return FDL_OK;
}

/* *kept = t, on its way from one scope to the next. */
static fdl_status keep(fdl_tensor **kept, fdl_tensor *t)
{
    fdl_tensor *k = fdl_keep(t);
    if (!k)
        return fdl_error_pending();
    fdl_free(*kept);
    *kept = k;
    return FDL_OK;
}

/* ---- the parameters as one vector --------------------------------------------------------------------- */

static fdl_status check_place(const optim_group *g)
{
    for (int i = 1; i < g->n; i++) {
        fdl_tensor *a = g->slots[0].param, *b = g->slots[i].param;
        if (!fdl_device_eq(fdl_device_of(a), fdl_device_of(b)))
            return fdl_fail(FDL_E_DEVICE, "lbfgs: parameters \"%s\" and \"%s\" are on different devices",
                            g->slots[0].name, g->slots[i].name);
        if (fdl_dtype_of(a) != fdl_dtype_of(b))
            return fdl_fail(FDL_E_DTYPE, "lbfgs: parameters \"%s\" and \"%s\" are of different dtypes",
                            g->slots[0].name, g->slots[i].name);
    }
    return FDL_OK;
}

/* What was remembered follows the parameters to another device or dtype. */
static fdl_status follow(lbfgs *l, fdl_tensor *like)
{
    if (!l->before || (fdl_dtype_of(l->before) == fdl_dtype_of(like) &&
                       fdl_device_eq(fdl_device_of(l->before), fdl_device_of(like))))
        return FDL_OK;
    for (int i = -1; i < l->n; i++) {
        fdl_tensor **pair[] = {i < 0 ? &l->d : &l->y[i], i < 0 ? &l->before : &l->s[i]};
        for (int k = 0; k < 2; k++)
            FDL_TRY(
                keep(pair[k], fdl_to(*pair[k], .dtype = fdl_dtype_of(like), .device = fdl_device_of(like))));
    }
    return FDL_OK;
}

/* The gradients as one vector (scope); a parameter without one, or frozen, has zeros. */
static fdl_tensor *gradient(const optim_group *g)
{
    fdl_list all = {g->n, fdl_scope_alloc(sizeof *all.at * (size_t)g->n)};
    if (!all.at)
        return NULL;
    for (int i = 0; i < g->n; i++) {
        fdl_tensor *p = g->slots[i].param, *one = fdl_requires_grad(p) ? fdl_grad(p) : NULL;
        one = one ? fdl_to_dense(one) : fdl_zeros_like(p);
        all.at[i] = fdl_to_dtype(fdl_reshape(one, FDL_SHAPE(-1)), fdl_dtype_of(p));
    }
    return fdl_cat(all, 0);
}

/* x += t d. */
static fdl_status move(const optim_group *g, fdl_tensor *d, double t)
{
    int64_t from = 0;
    for (int i = 0; i < g->n; i++) {
        fdl_tensor *p = g->slots[i].param;
        int64_t n = fdl_numel(p);
        fdl_tensor *part = fdl_reshape(fdl_narrow(d, 0, from, n), fdl_shape_of(p));
        FDL_TRY(fdl_add_(p, part, .alpha = optim_exactly(t)));
        from += n;
    }
    return FDL_OK;
}

static fdl_list copies(const optim_group *g)
{
    fdl_list all = {g->n, fdl_scope_alloc(sizeof *all.at * (size_t)g->n)};
    for (int i = 0; all.at && i < g->n; i++)
        all.at[i] = fdl_clone(g->slots[i].param);
    return all;
}

static fdl_status put_back(const optim_group *g, fdl_list x)
{
    for (int i = 0; i < g->n; i++)
        FDL_TRY(fdl_copy_(g->slots[i].param, x.at[i]));
    return FDL_OK;
}

/* NaN is a value here, so a failure to read isn't one. */
static fdl_status read_number(fdl_tensor *x, double *v)
{
    return fdl_to_f64(x, v, 1);
}

static fdl_status largest(fdl_tensor *x, double *v)
{
    return read_number(fdl_max(fdl_abs(x)), v);
}

static fdl_status dot(fdl_tensor *a, fdl_tensor *b, double *v)
{
    return read_number(fdl_dot(a, b), v);
}

/* ---- one line ------------------------------------------------------------------------------------------- */

/* A point x + t d: the loss there, the gradient, and its product with d. */
typedef struct point {
    double t, f, slope;
    fdl_tensor *g;
} point;

/* What an evaluation needs. */
typedef struct search {
    const optim_group *group;
    fdl_optim_closure closure;
    void *ctx;
    fdl_list x; /* where the line begins */
    fdl_tensor *d;
} search;

static fdl_status evaluate_there(const search *s, point *at)
{
    FDL_TRY(optim_evaluate("lbfgs", s->closure, s->ctx, &at->f));
    at->g = gradient(s->group);
    return dot(at->g, s->d, &at->slope);
}

/* Also after a failure, whose error stays, the parameters are where they were. */
static fdl_status evaluate_at(const search *s, double t, point *at)
{
    at->t = t;
    FDL_TRY(move(s->group, s->d, t));
    fdl_status status = evaluate_there(s, at), back = put_back(s->group, s->x);
    return status != FDL_OK ? status : back;
}

/* PyTorch's max and min, which keep the first unless the second is beyond it: NaN stays. */
static double at_least(double v, double low)
{
    return low > v ? low : v;
}
static double at_most(double v, double high)
{
    return high < v ? high : v;
}

/* Where the cubic through two points is lowest, within [low, high]. */
static double lowest_of_cubic(const point *a, const point *b, double low, double high)
{
    double d1 = a->slope + b->slope - 3 * (a->f - b->f) / (a->t - b->t);
    double square = d1 * d1 - a->slope * b->slope;
    if (!(square >= 0))
        return (low + high) / 2;
    double d2 = sqrt(square);
    double at = a->t <= b->t ? b->t - (b->t - a->t) * ((b->slope + d2 - d1) / (b->slope - a->slope + 2 * d2))
                             : a->t - (a->t - b->t) * ((a->slope + d2 - d1) / (a->slope - b->slope + 2 * d2));
    return at_most(at_least(at, low), high);
}

static const double SUFFICIENT = 1e-4, CURVATURE = 0.9; /* Wolfe's c1 and c2 */

/* From start along the line until the strong Wolfe conditions hold in *now, or the two points of *bracket surround where they do;
 * *found says which. *iterations: evaluations but the first. */
static fdl_status surround(const search *s, const point *start, double t, int most, point bracket[2],
                           bool *found, int *iterations)
{
    point before = *start, now;
    FDL_TRY(evaluate_at(s, t, &now));
    *found = false;
    for (int k = 0; k < most; k++) {
        *iterations = k;
        if (now.f > start->f + SUFFICIENT * now.t * start->slope || (k > 1 && now.f >= before.f) ||
            (fabs(now.slope) > -CURVATURE * start->slope && now.slope >= 0)) {
            bracket[0] = before;
            bracket[1] = now;
            return FDL_OK;
        }
        if (fabs(now.slope) <= -CURVATURE * start->slope) {
            bracket[0] = bracket[1] = now;
            *found = true;
            return FDL_OK;
        }
        double next = lowest_of_cubic(&before, &now, now.t + 0.01 * (now.t - before.t), now.t * 10);
        before = now;
        FDL_TRY(evaluate_at(s, next, &now));
    }
    *iterations = most;
    bracket[0] = *start;
    bracket[1] = now;
    return FDL_OK;
}

/* Makes the bracket smaller until its lower point will do; *lower is which. */
static fdl_status narrow(const search *s, const point *start, double tolerance, int most, point bracket[2],
                         int *iterations, int *lower)
{
    double scale;
    FDL_TRY(largest(s->d, &scale));
    bool stuck = false;
    int low = bracket[0].f <= bracket[1].f ? 0 : 1;
    while (*iterations < most && !(fabs(bracket[1].t - bracket[0].t) * scale < tolerance)) {
        double left = fmin(bracket[0].t, bracket[1].t), right = fmax(bracket[0].t, bracket[1].t);
        double t = lowest_of_cubic(&bracket[0], &bracket[1], left, right), margin = 0.1 * (right - left);
        if (fmin(right - t, t - left) <
            margin) { /* too near an end to make progress: the second time, a step away */
            if (stuck || t >= right || t <= left) {
                t = fabs(t - right) < fabs(t - left) ? right - margin : left + margin;
                stuck = false;
            } else {
                stuck = true;
            }
        } else {
            stuck = false;
        }
        point now;
        FDL_TRY(evaluate_at(s, t, &now));
        ++*iterations;
        if (now.f > start->f + SUFFICIENT * t * start->slope || now.f >= bracket[low].f) {
            bracket[1 - low] = now;
            low = bracket[0].f <= bracket[1].f ? 0 : 1;
            continue;
        }
        bool done = fabs(now.slope) <= -CURVATURE * start->slope;
        if (!done && now.slope * (bracket[1 - low].t - bracket[low].t) >= 0)
            bracket[1 - low] = bracket[low];
        bracket[low] = now;
        if (done)
            break;
    }
    *lower = low;
    return FDL_OK;
}

/* The strong Wolfe line search; *evaluations it took. */
static fdl_status strong_wolfe(const search *s, const point *start, double t, double tolerance, int most,
                               point *result, int *evaluations)
{
    point bracket[2];
    bool found;
    int iterations = 0, lower = 0;
    FDL_TRY(surround(s, start, t, most, bracket, &found, &iterations));
    if (!found && iterations < most)
        FDL_TRY(narrow(s, start, tolerance, most, bracket, &iterations, &lower));
    else if (!found)
        lower = bracket[0].f <= bracket[1].f ? 0 : 1;
    *result = bracket[lower];
    *evaluations = iterations + 1;
    return FDL_OK;
}

/* ---- the step -------------------------------------------------------------------------------------------- */

/* Remembers how the gradient changed over the last move, if that says anything of the curvature. */
static fdl_status remember(lbfgs *l, fdl_tensor *g, int history)
{
    fdl_tensor *y = fdl_sub(g, l->before), *s = fdl_mul(l->d, l->t);
    double ys, yy;
    FDL_TRY(dot(y, s, &ys));
    FDL_TRY(dot(y, y, &yy));
    if (!(ys > 1e-10))
        return FDL_OK;
    FDL_TRY(lbfgs_room(l, history));
    y = fdl_keep(y);
    s = fdl_keep(s);
    if (!y || !s) {
        fdl_free(y);
        fdl_free(s);
        return fdl_error_pending();
    }
    while (l->n >= history) { /* the oldest goes */
        fdl_free(l->y[0]);
        fdl_free(l->s[0]);
        l->n--;
        memmove(l->y, l->y + 1, sizeof *l->y * (size_t)l->n);
        memmove(l->s, l->s + 1, sizeof *l->s * (size_t)l->n);
        memmove(l->ro, l->ro + 1, sizeof *l->ro * (size_t)l->n);
    }
    l->y[l->n] = y;
    l->s[l->n] = s;
    l->ro[l->n++] = 1 / ys;
    l->scale = ys / yy;
    return FDL_OK;
}

/* *d = -H g by the two loops over the pairs (scope). */
static fdl_status direction(const lbfgs *l, fdl_tensor *g, fdl_tensor **d)
{
    double *al = fdl_scope_alloc(sizeof *al * (size_t)(l->n + 1)), be;
    fdl_tensor *q = fdl_neg(g);
    if (!al)
        return fdl_error_pending();
    for (int i = l->n - 1; i >= 0; i--) {
        FDL_TRY(dot(l->s[i], q, &al[i]));
        al[i] *= l->ro[i];
        FDL_TRY(fdl_add_(q, l->y[i], .alpha = optim_exactly(-al[i])));
    }
    q = fdl_mul(q, l->scale);
    for (int i = 0; i < l->n; i++) {
        FDL_TRY(dot(l->y[i], q, &be));
        FDL_TRY(fdl_add_(q, l->s[i], .alpha = optim_exactly(al[i] - be * l->ro[i])));
    }
    *d = q;
    return FDL_OK;
}

/* One iteration from loss *f and gradient *g, which are those of the new point then (g kept). *evals counts the step's
 * evaluations; *done when the step is over. */
static fdl_status iterate(fdl_optim *o, lbfgs *l, search *s, int left, int max_eval, double *f,
                          fdl_tensor **g, int *evals, bool *done)
{
    FDL_SCOPE;
    const fdl_optim_opts *opts = &o->groups[0].o;
    *done = true;
    l->n_iter++;
    if (l->n_iter == 1) {
        FDL_TRY(keep(&l->d, fdl_neg(*g)));
        l->scale = 1;
    } else {
        FDL_TRY(remember(l, *g, opts->history_size));
        fdl_tensor *d = NULL;
        FDL_TRY(direction(l, *g, &d));
        FDL_TRY(keep(&l->d, d));
    }
    FDL_TRY(keep(&l->before, *g));
    l->loss = *f;
    l->t = opts->lr;
    if (l->n_iter == 1) {
        double sum;
        FDL_TRY(read_number(fdl_sum(fdl_abs(*g)), &sum));
        l->t *= at_most(1, 1 / sum);
    }
    point start = {0, *f, 0, *g};
    FDL_TRY(dot(*g, l->d, &start.slope));
    if (start.slope > -opts->tolerance_change)
        return FDL_OK;

    int evaluations = 0;
    double steepest = (double)INFINITY, farthest;
    s->d = l->d;
    if (opts->strong_wolfe) {
        s->x = copies(s->group);
        point found;
        FDL_TRY(
            strong_wolfe(s, &start, l->t, opts->tolerance_change, max_eval - *evals, &found, &evaluations));
        *f = found.f;
        l->t = found.t;
        FDL_TRY(move(s->group, l->d, l->t));
        FDL_TRY(keep(g, found.g));
        FDL_TRY(largest(*g, &steepest));
    } else {
        FDL_TRY(move(s->group, l->d, l->t));
        if (left > 1) { /* after the last one nobody would look at it */
            FDL_TRY(optim_evaluate("lbfgs", s->closure, s->ctx, f));
            FDL_TRY(keep(g, gradient(s->group)));
            FDL_TRY(largest(*g, &steepest));
            evaluations = 1;
        }
    }
    *evals += evaluations;
    l->func_evals += evaluations;
    FDL_TRY(largest(fdl_mul(l->d, l->t), &farthest));
    *done = left == 1 || *evals >= max_eval || steepest <= opts->tolerance_grad ||
            farthest <= opts->tolerance_change || fabs(*f - l->loss) < opts->tolerance_change;
    return FDL_OK;
}

static fdl_status iterations(fdl_optim *o, search *s, double f, fdl_tensor **g)
{
    lbfgs *l = o->own;
    const fdl_optim_opts *opts = &o->groups[0].o;
    int max_eval = opts->max_eval ? opts->max_eval : (int)(opts->max_iter * INT64_C(5) / 4), evals = 1;
    double steepest;
    FDL_TRY(largest(*g, &steepest));
    bool done = steepest <= opts->tolerance_grad;
    for (int left = opts->max_iter; left > 0 && !done; left--)
        FDL_TRY(iterate(o, l, s, left, max_eval, &f, g, &evals, &done));
    return FDL_OK;
}

static fdl_status closure_step(fdl_optim *o, fdl_optim_closure closure, void *ctx, double *loss)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    const optim_group *group = &o->groups[0];
    FDL_TRY(check_place(group));
    if (!o->own && !(o->own = calloc(1, sizeof(lbfgs))))
        return fdl_fail(FDL_E_OOM, "lbfgs: memory ran out");
    lbfgs *l = o->own;
    double first;
    FDL_TRY(optim_evaluate("lbfgs", closure, ctx, &first));
    fdl_tensor *g = NULL;
    if (group->n) {
        FDL_TRY(follow(l, group->slots[0].param));
        FDL_TRY(keep(&g, gradient(group)));
        l->func_evals++;
        search s = {group, closure, ctx, {0, NULL}, NULL};
        fdl_status status = iterations(o, &s, first, &g);
        fdl_free(g);
        FDL_TRY(status);
    }
    if (loss)
        *loss = first;
    return FDL_OK;
}

/* ---- to and from files ---------------------------------------------------------------------------------- */

static fdl_status put_number(optim_saved *to, const char *name, double v)
{
    return optim_saved_put(to, name, fdl_scalar(v, .dtype = FDL_FLOAT64, .device = FDL_CPU));
}

static fdl_status put_pair(const lbfgs *l, int i, optim_saved *to)
{
    char name[32];
    snprintf(name, sizeof name, "old_dirs/%d", i);
    FDL_TRY(optim_saved_put(to, name, l->y[i]));
    snprintf(name, sizeof name, "old_stps/%d", i);
    return optim_saved_put(to, name, l->s[i]);
}

/* Under PyTorch's names. */
static fdl_status own_save(const fdl_optim *o, optim_saved *to)
{
    const lbfgs *l = o->own;
    FDL_TRY(put_number(to, "n_iter", (double)l->n_iter));
    FDL_TRY(put_number(to, "func_evals", (double)l->func_evals));
    if (!l->before)
        return FDL_OK;
    FDL_TRY(put_number(to, "t", l->t));
    FDL_TRY(put_number(to, "prev_loss", l->loss));
    FDL_TRY(put_number(to, "H_diag", l->scale));
    FDL_TRY(optim_saved_put(to, "d", l->d));
    FDL_TRY(optim_saved_put(to, "prev_flat_grad", l->before));
    for (int i = 0; i < l->n; i++)
        FDL_TRY(put_pair(l, i, to));
    return l->n ? optim_saved_put(
                      to, "ro", fdl_from_f64(l->ro, FDL_SHAPE(l->n), .dtype = FDL_FLOAT64, .device = FDL_CPU))
                : FDL_OK;
}

static fdl_status get_number(const optim_saved *from, const char *name, double *v)
{
    fdl_tensor *t = optim_saved_get(from, name);
    return t ? fdl_to_f64(t, v, 1) : FDL_OK;
}

/* A vector as long as the parameters together, where they are; *kept stays NULL where the file has none. */
static fdl_status get_vector(const optim_group *g, const optim_saved *from, const char *name,
                             fdl_tensor **kept)
{
    fdl_tensor *t = optim_saved_get(from, name);
    if (!t)
        return FDL_OK;
    int64_t n = 0;
    for (int i = 0; i < g->n; i++)
        n += fdl_numel(g->slots[i].param);
    if (fdl_ndim(t) != 1 || fdl_numel(t) != n) {
        char text[256];
        return fdl_fail(FDL_E_MISMATCH,
                        "lbfgs: the checkpoint's \"%s\" is %s, the parameters have %lld elements", name,
                        fdl_describe(t, text, sizeof text), (long long)n);
    }
    fdl_tensor *like = g->slots[0].param;
    return keep(kept, fdl_to(t, .dtype = fdl_dtype_of(like), .device = fdl_device_of(like), .copy = true));
}

static fdl_status load(lbfgs *l, const optim_group *g, const optim_saved *from)
{
    double n_iter = 0, func_evals = 0;
    FDL_TRY(get_number(from, "n_iter", &n_iter));
    FDL_TRY(get_number(from, "func_evals", &func_evals));
    FDL_TRY(get_number(from, "t", &l->t));
    FDL_TRY(get_number(from, "prev_loss", &l->loss));
    FDL_TRY(get_number(from, "H_diag", &l->scale));
    FDL_TRY(get_vector(g, from, "d", &l->d));
    FDL_TRY(get_vector(g, from, "prev_flat_grad", &l->before));
    l->n_iter = (int64_t)n_iter;
    l->func_evals = (int64_t)func_evals;
    if (n_iter > 0 && (!l->d || !l->before))
        return fdl_fail(FDL_E_MISMATCH,
                        "lbfgs: the checkpoint has made steps but no \"d\" or \"prev_flat_grad\"");
    fdl_tensor *ro = optim_saved_get(from, "ro");
    int n = ro ? (int)fdl_numel(ro) : 0;
    FDL_TRY(lbfgs_room(l, n));
    if (n)
        FDL_TRY(fdl_to_f64(ro, l->ro, n));
    for (int i = 0; i < n; i++) {
        char name[32];
        l->y[i] = l->s[i] = NULL;
        l->n = i + 1;
        snprintf(name, sizeof name, "old_dirs/%d", i);
        FDL_TRY(get_vector(g, from, name, &l->y[i]));
        snprintf(name, sizeof name, "old_stps/%d", i);
        FDL_TRY(get_vector(g, from, name, &l->s[i]));
        if (!l->y[i] || !l->s[i])
            return fdl_fail(FDL_E_MISMATCH, "lbfgs: the checkpoint has no \"%s\"", name);
    }
    return FDL_OK;
}

static void *own_load(const fdl_optim *o, const optim_saved *from)
{
    FDL_SCOPE;
    lbfgs *l = calloc(1, sizeof *l);
    if (!l)
        return fdl_fail_null(FDL_E_OOM, "lbfgs: memory ran out");
    if (load(l, &o->groups[0], from) == FDL_OK)
        return l;
    lbfgs_free(l);
    return NULL;
}

static const optim_kind kind = {
    .name = "lbfgs",
    .fields = OPTIM_LR | OPTIM_MAX_ITER | OPTIM_MAX_EVAL | OPTIM_TOLERANCE_GRAD | OPTIM_TOLERANCE_CHANGE |
              OPTIM_HISTORY_SIZE | OPTIM_STRONG_WOLFE,
    .defaults =
        {.lr = 1, .max_iter = 20, .tolerance_grad = 1e-7, .tolerance_change = 1e-9, .history_size = 100},
    .one_group = true,
    .closure = closure_step,
    .own_save = own_save,
    .own_load = own_load,
    .own_free = lbfgs_free,
};

fdl_optim *fdl_optim_lbfgs_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&kind, params, opts);
}
