/* Datasets made of datasets. They pass raw samples on, so that bytes stay bytes up to the loader; what
 * changes samples works on divided ones. */
#include "data_private.h"

#include <math.h>

#include "flodl/rng.h"
#include "flodl/index.h"
#include "flodl/shape.h"

struct combined {
    int64_t len;
    fdl_data_map_fn fn;
    void *ctx;
    int64_t *idx;        /* subset: owned */
    int n;               /* parts */
    bool raw;            /* parts are fetched before division */
    fdl_dataset *part[]; /* a reference each */
};

static struct combined *combined_new(int n, fdl_dataset *const *parts)
{
    struct combined *c = calloc(1, sizeof *c + (size_t)n * sizeof *parts);
    if (!c) {
        for (int i = 0; i < n; i++)
            fdl_data_free(parts[i]);
        return fdl_fail_null(FDL_E_OOM, "fdl_data: no memory for a combination of %d datasets", n);
    }
    c->n = n;
    for (int i = 0; i < n; i++)
        c->part[i] = parts[i];
    return c;
}

static void combined_free(void *self)
{
    struct combined *c = self;
    for (int i = 0; i < c->n; i++)
        fdl_data_free(c->part[i]);
    free(c->idx);
    free(c);
}

static int64_t combined_len(void *self)
{
    return ((struct combined *)self)->len;
}

static fdl_status fetch_part(const struct combined *c, int part, const int64_t *idx, int64_t k,
                             fdl_tensor **out)
{
    return c->raw ? fdl_data_fetch_raw(c->part[part], idx, k, out, NULL)
                  : fdl_data_fetch(c->part[part], idx, k, out);
}

/* A dataset like c's first part: its arity, names and, where parts come raw, divisors. */
static fdl_dataset *finished(struct combined *c,
                             fdl_status (*batch)(void *, const int64_t *, int64_t, fdl_tensor **, int))
{
    const fdl_dataset *like = c->part[0];
    fdl_dataset *ds = fdl_data_new(&(fdl_data_vtab){.len = combined_len,
                                                    .batch = batch,
                                                    .free = combined_free,
                                                    .arity = like->v.arity,
                                                    .names = like->v.names},
                                   c);
    if (ds && c->raw)
        memcpy(ds->by, like->by, sizeof ds->by);
    for (int i = 0; ds && i < c->n; i++)
        ds->single |= c->part[i]->single;
    return ds;
}

/* ---- subset, split, repeat ----------------------------------------------------------------------- */

/* Room for k translated indices: on the stack where few. */
struct indices {
    int64_t few[256], *at;
};

static bool indices_new(struct indices *x, int64_t k)
{
    bool few = k <= (int64_t)(sizeof x->few / sizeof *x->few);
    x->at = few ? x->few : (uint64_t)k > SIZE_MAX / sizeof *x->at ? NULL : malloc((size_t)k * sizeof *x->at);
    if (!x->at)
        fdl_fail(FDL_E_OOM, "fdl_data_fetch: no memory for %lld indices", (long long)k);
    return x->at != NULL;
}

static void indices_free(struct indices *x)
{
    if (x->at != x->few)
        free(x->at);
}

static fdl_status subset_batch(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)n;
    struct combined *c = self;
    struct indices x;
    if (!indices_new(&x, k))
        return FDL_E_OOM;
    for (int64_t j = 0; j < k; j++)
        x.at[j] = c->idx ? c->idx[idx[j]] : idx[j] % c->part[0]->len;
    fdl_status status = fetch_part(c, 0, x.at, k, out);
    indices_free(&x);
    return status;
}

fdl_dataset *fdl_data_subset(fdl_dataset *ds, const int64_t *idx, int64_t k)
{
    fdl_status status = FDL_OK;
    if (!ds || (!idx && k > 0))
        status = fdl_null_operand("fdl_data_subset", ds ? "idx" : "ds");
    else if (k < 0)
        status = fdl_fail(FDL_E_ARG, "fdl_data_subset: k is %lld; it must be 0 or more", (long long)k);
    else
        status = fdl_data_check_indices("fdl_data_subset", idx, k, ds->len);
    if (status != FDL_OK) {
        fdl_data_free(ds);
        return NULL;
    }
    struct combined *c = combined_new(1, &ds);
    if (!c)
        return NULL;
    c->len = k;
    c->raw = true;
    if ((uint64_t)k <= SIZE_MAX / sizeof *idx)
        c->idx = malloc(k ? (size_t)k * sizeof *idx : 1);
    if (!c->idx) {
        combined_free(c);
        return fdl_fail_null(FDL_E_OOM, "fdl_data_subset: no memory for %lld indices", (long long)k);
    }
    if (k)
        memcpy(c->idx, idx, (size_t)k * sizeof *idx);
    return finished(c, subset_batch);
}

fdl_status fdl_data_split(fdl_dataset *ds, double fraction, uint64_t seed, fdl_dataset **part,
                          fdl_dataset **rest)
{
    fdl_status status = FDL_OK;
    int64_t *perm = NULL, n = ds ? ds->len : 0;
    if (part)
        *part = NULL;
    if (rest)
        *rest = NULL;
    if (!ds || !part || !rest)
        status = fdl_null_operand("fdl_data_split", !ds ? "ds" : !part ? "part" : "rest");
    else if (!(fraction >= 0 && fraction <= 1))
        status = fdl_fail(FDL_E_ARG, "fdl_data_split: the fraction is %g; it must be 0 to 1", fraction);
    else if ((uint64_t)n > SIZE_MAX / sizeof *perm || !(perm = malloc(n ? (size_t)n * sizeof *perm : 1)))
        status = fdl_fail(FDL_E_OOM, "fdl_data_split: no memory for %lld indices", (long long)n);
    if (status == FDL_OK) {
        fdl_rng r = fdl_rng_seed(seed);
        status = fdl_rng_perm(&r, perm, n);
    }
    if (status != FDL_OK) {
        free(perm);
        fdl_data_free(ds);
        return status;
    }
    int64_t k = llround(fraction * (double)n);
    *part = fdl_data_subset(fdl_data_ref(ds), perm, k);
    *rest = fdl_data_subset(ds, perm + k, n - k);
    free(perm);
    if (*part && *rest)
        return FDL_OK;
    fdl_data_free(*part);
    fdl_data_free(*rest);
    *part = *rest = NULL;
    return fdl_error_pending();
}

fdl_dataset *fdl_data_repeat(fdl_dataset *ds, int64_t len)
{
    fdl_status status = FDL_OK;
    if (!ds)
        status = fdl_null_operand("fdl_data_repeat", "ds");
    else if (len < 0 || (len > 0 && ds->len == 0))
        status = fdl_fail(
            FDL_E_ARG,
            "fdl_data_repeat: %lld samples from %lld; the length must be 0 or more, and there must be "
            "something to repeat",
            (long long)len, (long long)ds->len);
    if (status != FDL_OK) {
        fdl_data_free(ds);
        return NULL;
    }
    struct combined *c = combined_new(1, &ds);
    if (!c)
        return NULL;
    c->len = len;
    c->raw = true;
    return finished(c, subset_batch);
}

/* ---- concat ------------------------------------------------------------------------------------------ */

/* The part that holds sample i, and i within it. */
static int part_of(const struct combined *c, int64_t *i)
{
    int p = 0;
    while (*i >= c->part[p]->len)
        *i -= c->part[p++]->len;
    return p;
}

/* Runs of samples of one part are fetched at once; piece[r][p] is position p of run r. */
static fdl_status concat_runs(struct combined *c, int64_t *at, int64_t k, fdl_tensor *(*piece)[FDL_DATA_MAX],
                              int *runs)
{
    *runs = 0;
    for (int64_t from = 0; from < k;) {
        int part = part_of(c, &at[from]);
        int64_t to = from + 1;
        for (; to < k; to++) {
            int64_t i = at[to];
            if (part_of(c, &i) != part)
                break;
            at[to] = i;
        }
        FDL_TRY(fetch_part(c, part, at + from, to - from, piece[*runs]));
        ++*runs;
        from = to;
    }
    return FDL_OK;
}

static fdl_status concat_join(fdl_tensor *(*piece)[FDL_DATA_MAX], int runs, fdl_tensor **list,
                              fdl_tensor **out, int n)
{
    for (int p = 0; p < n; p++) {
        for (int r = 0; r < runs; r++)
            list[r] = piece[r][p];
        out[p] = runs == 1 ? list[0] : fdl_cat((fdl_list){runs, list}, 0);
        if (!out[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status concat_batch(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    struct combined *c = self;
    if (k > INT32_MAX)
        return fdl_fail(FDL_E_ARG, "fdl_data_fetch: %lld samples at once; at most 2^31 - 1", (long long)k);
    struct indices x;
    if (!indices_new(&x, k))
        return FDL_E_OOM;
    memcpy(x.at, idx, (size_t)k * sizeof *idx);
    fdl_tensor *(*piece)[FDL_DATA_MAX] = calloc((size_t)k, sizeof *piece);
    fdl_tensor **list = calloc((size_t)k, sizeof *list);
    int runs = 0;
    fdl_status status = piece && list
                            ? concat_runs(c, x.at, k, piece, &runs)
                            : fdl_fail(FDL_E_OOM, "fdl_data_fetch: no memory for %lld samples", (long long)k);
    if (status == FDL_OK)
        status = concat_join(piece, runs, list, out, n);
    free(list);
    free(piece);
    indices_free(&x);
    return status;
}

fdl_dataset *fdl_data_concat_of(int n, fdl_dataset *const *parts)
{
    fdl_status status = FDL_OK;
    int64_t len = 0;
    bool raw = true;
    if (n < 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_concat: %d datasets; it takes 1 or more", n);
    if (!parts) {
        fdl_null_operand("fdl_data_concat", "parts");
        return NULL;
    }
    for (int i = 0; i < n && status == FDL_OK; i++) {
        if (!parts[i])
            status = fdl_null_operand("fdl_data_concat", "one of the datasets");
        else if (parts[0]->v.arity != parts[i]->v.arity)
            status =
                fdl_fail(FDL_E_SHAPE,
                         "fdl_data_concat: samples of dataset %d have %d tensors, those of dataset 0 have %d",
                         i, parts[i]->v.arity, parts[0]->v.arity);
        else if (parts[i]->len > INT64_MAX - len)
            status = fdl_fail(FDL_E_ARG, "fdl_data_concat: more than 2^63 - 1 samples");
        else {
            len += parts[i]->len;
            raw = raw && memcmp(parts[i]->by, parts[0]->by, sizeof parts[0]->by) == 0;
        }
    }
    if (status != FDL_OK) {
        for (int i = 0; i < n; i++)
            fdl_data_free(parts[i]);
        return NULL;
    }
    struct combined *c = combined_new(n, parts);
    if (!c)
        return NULL;
    c->len = len;
    c->raw = raw;
    return finished(c, concat_batch);
}

fdl_dataset *fdl_data_concat_ended_(fdl_dataset *const *ended)
{
    int n = 0;
    while (ended[n] != FDL_END)
        n++;
    return fdl_data_concat_of(n, ended);
}

/* ---- map, div ------------------------------------------------------------------------------------------ */

static fdl_status map_item(void *self, int64_t i, fdl_tensor **out, int n)
{
    struct combined *c = self;
    FDL_TRY(fetch_part(c, 0, &i, 1, out));
    for (int p = 0; p < n; p++)
        if (!(out[p] = fdl_select(out[p], 0, 0)))
            return fdl_error_pending();
    return c->fn(c->ctx, i, out, n);
}

fdl_dataset *fdl_data_map(fdl_dataset *ds, fdl_data_map_fn fn, void *ctx)
{
    if (!ds || !fn) {
        fdl_null_operand("fdl_data_map", ds ? "fn" : "ds");
        fdl_data_free(ds);
        return NULL;
    }
    struct combined *c = combined_new(1, &ds);
    if (!c)
        return NULL;
    c->len = ds->len;
    c->fn = fn;
    c->ctx = ctx;
    return fdl_data_new(&(fdl_data_vtab){.len = combined_len,
                                         .item = map_item,
                                         .free = combined_free,
                                         .arity = ds->v.arity,
                                         .names = ds->v.names},
                        c);
}

static fdl_status whole_batch(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)n;
    return fetch_part(self, 0, idx, k, out);
}

fdl_dataset *fdl_data_div(fdl_dataset *ds, int position, double by)
{
    fdl_status status = FDL_OK;
    if (!ds)
        status = fdl_null_operand("fdl_data_div", "ds");
    else if (position < 0 || position >= ds->v.arity)
        status = fdl_fail(FDL_E_RANGE, "fdl_data_div: position %d; samples have %d tensors", position,
                          ds->v.arity);
    else if (by == 0 || !isfinite(by))
        status = fdl_fail(FDL_E_ARG, "fdl_data_div: by is %g; it must be finite and not 0", by);
    if (status != FDL_OK) {
        fdl_data_free(ds);
        return NULL;
    }
    struct combined *c = combined_new(1, &ds);
    if (!c)
        return NULL;
    c->len = ds->len;
    c->raw = ds->by[position] == 0; /* dividing twice: the inner one happens first, as it stands */
    fdl_dataset *divided = finished(c, whole_batch);
    if (divided)
        divided->by[position] = by;
    return divided;
}
