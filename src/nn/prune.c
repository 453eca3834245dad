/* Which parts of a parameter are held at 0. A mask is chosen on the parameter's device, before anything is changed. */
#include "flodl/prune.h"

#include <math.h>

#include "arguments.h"
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/parametrize.h"
#include "flodl/random.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "module_private.h"

/* One parameter that is to be pruned. */
typedef struct target {
    fdl_module *m;
    const char *name;
    fdl_tensor *mask;   /* that there is so far; ones */
    fdl_tensor *scores; /* of the parameter's shape */
} target;

/* How much: a part, or a count. */
typedef struct amount {
    const char *function;
    double part;
    fdl_opt_i64 count;
} amount;

static bool good_amount(const amount *a)
{
    if (fdl_opt_given(a->count) && a->part != 0)
        fdl_fail(FDL_E_ARG, "%s: amount is %g and .count is given too; amount is 0 then", a->function,
                 a->part);
    else if (fdl_opt_given(a->count) && a->count.value < 0)
        fdl_fail(FDL_E_ARG, "%s: .count is %lld, must be 0 or more", a->function, (long long)a->count.value);
    else if (!(a->part >= 0 && a->part <= 1))
        fdl_fail(FDL_E_ARG, "%s: amount is %g, must be in [0, 1]", a->function, a->part);
    else
        return true;
    return false;
}

/* So many of n; -1: more than there are. */
static int64_t number_of(const amount *a, int64_t n, const char *what)
{
    int64_t k = fdl_opt_given(a->count) ? a->count.value : (int64_t)rint(a->part * (double)n);
    if (k <= n)
        return k;
    fdl_fail(FDL_E_ARG, "%s: .count is %lld, but there are %lld %s left", a->function, (long long)k,
             (long long)n, what);
    return -1;
}

static fdl_status look_at(target *t, const char *function, fdl_module *m, const char *name,
                          fdl_tensor *scores)
{
    if (!m || !name)
        return fdl_null_operand(function, m ? "name" : "m");
    const module_computed *c = module_computed_named(m, name);
    bool before = fdl_error_pending() != FDL_OK;
    fdl_tensor *value =
        c && c->mask ? fdl_parametrized(m, name) : fdl_param_tensor(fdl_module_own_param(m, name));
    if (!value) {
        if (!before)
            fdl_error_prefix("%s: ", function);
        return fdl_error_pending();
    }
    char a[256], b[256];
    if (scores && !fdl_shape_eq(fdl_shape_of(scores), fdl_shape_of(value)))
        return fdl_fail(FDL_E_SHAPE, "%s: the scores are %s, %s is %s", function,
                        fdl_describe(scores, a, sizeof a), name, fdl_describe(value, b, sizeof b));
    *t = (target){m, name, c && c->mask ? c->mask->t : fdl_ones_like(value),
                  fdl_detach(scores ? scores : value)};
    return t->mask && t->scores ? FDL_OK : fdl_error_pending();
}

/* The parameter is pruned with that mask [its shape]. */
static fdl_status put_mask(const target *t, fdl_tensor *mask)
{
    if (!mask)
        return fdl_error_pending();
    if (!module_computed_named(t->m, t->name))
        FDL_TRY(module_prune(t->m, t->name));
    return fdl_copy_(module_computed_named(t->m, t->name)->mask->t, mask);
}

/* ---- elements ------------------------------------------------------------------------------------------ */

/* A mask [n] without those of k of its elements that are least; the scores are [n]. */
static fdl_tensor *without_least(const amount *a, fdl_tensor *mask, fdl_tensor *scores, bool random)
{
    fdl_tensor *left = fdl_flatten(fdl_nonzero(mask), 0, -1);
    int64_t n = left ? fdl_numel(left) : 0, k = left ? number_of(a, n, "elements") : -1;
    if (k <= 0)
        return k ? NULL : mask;
    fdl_tensor *which = NULL, *of = fdl_index_select(scores, 0, left);
    if (random)
        fdl_topk(fdl_rand_like(of), k, 0, .indices = &which);
    else
        fdl_topk(fdl_abs(of), k, 0, .smallest = true, .indices = &which);
    return fdl_index_fill(mask, 0, fdl_index_select(left, 0, which), 0);
}

static fdl_status unstructured(const char *function, fdl_module *m, const char *name, double part,
                               const fdl_prune_opts *opts, bool random)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    const fdl_prune_opts o = opts ? *opts : (fdl_prune_opts){0};
    amount a = {function, part, o.count};
    target t;
    if (random && o.scores)
        return fdl_fail(FDL_E_ARG, "%s has no option .scores; it prunes any", function);
    FDL_TRY(look_at(&t, function, m, name, o.scores));
    if (!good_amount(&a))
        return FDL_E_ARG;
    fdl_tensor *mask =
        without_least(&a, fdl_flatten(t.mask, 0, -1), fdl_flatten(fdl_contiguous(t.scores), 0, -1), random);
    return put_mask(&t, mask ? fdl_reshape(mask, fdl_shape_of(t.mask)) : NULL);
}

fdl_status fdl_prune_l1_unstructured_opt(fdl_module *m, const char *name, double part,
                                         const fdl_prune_opts *opts)
{
    return unstructured("fdl_prune_l1_unstructured", m, name, part, opts, false);
}

fdl_status fdl_prune_random_unstructured_opt(fdl_module *m, const char *name, double part,
                                             const fdl_prune_opts *opts)
{
    return unstructured("fdl_prune_random_unstructured", m, name, part, opts, true);
}

/* ---- channels ------------------------------------------------------------------------------------------ */

/* [channels, the elements of each] */
static fdl_tensor *by_channel(fdl_tensor *x, int dim)
{
    return fdl_flatten(fdl_movedim(x, dim, 0), 1, -1);
}

/* 1 and 0 for each channel; those that are pruned altogether don't count. */
static fdl_tensor *kept_channels(const amount *a, const target *t, int dim, double norm)
{
    fdl_tensor *left = fdl_flatten(fdl_nonzero(fdl_sum_dim(by_channel(t->mask, dim), 1)), 0, -1);
    int64_t n = left ? fdl_numel(left) : 0, k = left ? number_of(a, n, "channels") : -1;
    fdl_tensor *all = fdl_zeros(FDL_SHAPE(fdl_size(t->mask, dim)), .dtype = fdl_dtype_of(t->mask),
                                .device = fdl_device_of(t->mask));
    if (k < 0)
        return NULL;
    fdl_tensor *of = norm < 0 ? fdl_rand(FDL_SHAPE(n), .device = fdl_device_of(t->mask))
                              : fdl_norm_dim(fdl_index_select(by_channel(t->scores, dim), 0, left), norm, 1);
    fdl_tensor *which = NULL;
    fdl_topk(of, n - k, 0, .indices = &which);
    return fdl_index_fill(all, 0, fdl_index_select(left, 0, which), 1);
}

static fdl_status structured(const char *function, fdl_module *m, const char *name, double part, int dim,
                             double norm, const fdl_prune_opts *opts)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    const fdl_prune_opts o = opts ? *opts : (fdl_prune_opts){0};
    amount a = {function, part, o.count};
    target t;
    if (norm < 0 && o.scores)
        return fdl_fail(FDL_E_ARG, "%s has no option .scores; it prunes any", function);
    FDL_TRY(look_at(&t, function, m, name, o.scores));
    int ndim = fdl_ndim(t.mask);
    if (!good_amount(&a))
        return FDL_E_ARG;
    if (ndim < 2)
        return fdl_fail(FDL_E_ARG, "%s: the %s has %d dims and so no channels; it must have 2 or more",
                        function, name, ndim);
    if (dim < -ndim || dim >= ndim)
        return fdl_fail(FDL_E_ARG, "%s: dim is %d, must be from %d to %d", function, dim, -ndim, ndim - 1);
    dim += dim < 0 ? ndim : 0;
    fdl_tensor *kept = kept_channels(&a, &t, dim, norm);
    fdl_shape column = fdl_shape_of(t.mask);
    for (int i = 0; i < ndim; i++)
        column.d[i] = i == dim ? column.d[i] : 1;
    return put_mask(&t, kept ? fdl_mul_tensor(t.mask, fdl_reshape(kept, column)) : NULL);
}

fdl_status fdl_prune_ln_structured_opt(fdl_module *m, const char *name, double part, double n, int dim,
                                       const fdl_prune_opts *opts)
{
    static const char *const function = "fdl_prune_ln_structured";
    if (!(n >= 0))
        return fdl_fail(FDL_E_ARG, "%s: n is %g, must be 0 or more", function, n);
    return structured(function, m, name, part, dim, n, opts);
}

fdl_status fdl_prune_random_structured_opt(fdl_module *m, const char *name, double part, int dim,
                                           const fdl_prune_opts *opts)
{
    return structured("fdl_prune_random_structured", m, name, part, dim, -1, opts);
}

/* ---- several parameters ---------------------------------------------------------------------------------- */

static fdl_status look_at_all(const char *function, fdl_pruned_list list, fdl_list given, target *t,
                              fdl_tensor **masks, fdl_tensor **scores)
{
    for (int i = 0; i < list.n; i++) {
        FDL_TRY(look_at(&t[i], function, list.at[i].module, list.at[i].name, given.n ? given.at[i] : NULL));
        for (int k = 0; k < i; k++)
            if (t[k].m->real == t[i].m->real && strcmp(t[k].name, t[i].name) == 0)
                return fdl_fail(FDL_E_ARG, "%s: parameters %d and %d are the same %s", function, k, i,
                                t[i].name);
        masks[i] = fdl_flatten(fdl_contiguous(t[i].mask), 0, -1);
        scores[i] = fdl_flatten(fdl_contiguous(t[i].scores), 0, -1);
        if (!masks[i] || !scores[i])
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* All of them have a mask, or none has a new one. */
static fdl_status begin_all(const target *t, int n)
{
    bool *fresh = fdl_scope_alloc((size_t)n);
    if (!fresh)
        return fdl_error_pending();
    for (int i = 0; i < n; i++) {
        fresh[i] = !module_computed_named(t[i].m, t[i].name);
        if (!fresh[i] || module_prune(t[i].m, t[i].name) == FDL_OK)
            continue;
        while (i-- > 0)
            if (fresh[i])
                fdl_prune_remove(t[i].m, t[i].name);
        return fdl_error_pending();
    }
    return FDL_OK;
}

fdl_status fdl_prune_global_unstructured_opt(fdl_pruned_list list, double part,
                                             const fdl_prune_global_opts *opts)
{
    static const char *const function = "fdl_prune_global_unstructured";
    FDL_SCOPE;
    FDL_NO_GRAD;
    const fdl_prune_global_opts o = opts ? *opts : (fdl_prune_global_opts){0};
    amount a = {function, part, o.count};
    if (!list.at)
        return fdl_null_operand(function, "list");
    if (list.n < 1)
        return fdl_fail(FDL_E_ARG, "%s: no parameters", function);
    if (o.scores.n && o.random)
        return fdl_fail(FDL_E_ARG, "%s: .random takes no .scores", function);
    if (o.scores.n && (o.scores.n != list.n || !o.scores.at))
        return fdl_fail(FDL_E_ARG, "%s: .scores has %d tensors for %d parameters", function, o.scores.n,
                        list.n);
    size_t n = (size_t)list.n;
    target *t = fdl_scope_alloc(sizeof *t * n);
    fdl_tensor **masks = fdl_scope_alloc(sizeof *masks * n), **scores = fdl_scope_alloc(sizeof *scores * n);
    if (!t || !masks || !scores)
        return fdl_error_pending();
    FDL_TRY(look_at_all(function, list, o.scores, t, masks, scores));
    if (!good_amount(&a))
        return FDL_E_ARG;
    fdl_tensor *mask = without_least(&a, fdl_cat((fdl_list){list.n, masks}, 0),
                                     fdl_cat((fdl_list){list.n, scores}, 0), o.random);
    if (!mask)
        return fdl_error_pending();
    FDL_TRY(begin_all(t, list.n));
    int64_t from = 0;
    for (int i = 0; i < list.n; i++) {
        int64_t size = fdl_numel(t[i].mask);
        FDL_TRY(put_mask(&t[i], fdl_reshape(fdl_narrow(mask, 0, from, size), fdl_shape_of(t[i].mask))));
        from += size;
    }
    return FDL_OK;
}

/* ---- by hand ------------------------------------------------------------------------------------------- */

fdl_status fdl_prune_custom(fdl_module *m, const char *name, fdl_tensor *mask)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    target t;
    if (!mask)
        return fdl_null_operand(__func__, "mask");
    FDL_TRY(look_at(&t, __func__, m, name, NULL));
    char a[256], b[256];
    if (!fdl_shape_eq(fdl_shape_of(mask), fdl_shape_of(t.mask)))
        return fdl_fail(FDL_E_SHAPE, "%s: the mask is %s, %s is %s", __func__,
                        fdl_describe(mask, a, sizeof a), name, fdl_describe(t.mask, b, sizeof b));
    return put_mask(&t, fdl_mul_tensor(t.mask, fdl_to(mask, .device = fdl_device_of(t.mask),
                                                      .dtype = fdl_dtype_of(t.mask))));
}

fdl_status fdl_prune_identity(fdl_module *m, const char *name)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    target t;
    FDL_TRY(look_at(&t, __func__, m, name, NULL));
    return put_mask(&t, t.mask);
}

static fdl_status find_mask(fdl_module *m, void *ctx)
{
    for (const module_computed *c = m->computed; c; c = c->next)
        *(bool *)ctx |= c->mask != NULL;
    return FDL_OK;
}

bool fdl_is_pruned(fdl_module *m)
{
    bool found = false;
    return m && fdl_module_walk(m, find_mask, &found) == FDL_OK && found;
}
