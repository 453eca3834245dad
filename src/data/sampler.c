/* Samplers. The stream numbers in the seeds keep an epoch's permutation, its draws and other random numbers
 * apart. */
#include "data_private.h"

#include <math.h>

#include "flodl/rng.h"

enum { STREAM_ORDER = 0, STREAM_DRAWS = 1 };

fdl_sampler *fdl_data_sampler_new(const fdl_sampler_vtab *table, void *self)
{
    fdl_sampler *s = NULL;
    int64_t len = -1;
    if (!table || !table->len || !table->order)
        fdl_null_operand("fdl_data_sampler_new", !table        ? "table"
                                                 : !table->len ? "table->len"
                                                               : "table->order");
    else if ((len = table->len(self)) < 0)
        fdl_fail(FDL_E_ARG, "fdl_data_sampler_new: the length is %lld; it must be 0 or more", (long long)len);
    else if (!(s = malloc(sizeof *s)))
        fdl_fail(FDL_E_OOM, "fdl_data_sampler_new: no memory");
    if (!s) {
        if (table && table->free)
            table->free(self);
        return NULL;
    }
    *s = (fdl_sampler){*table, self, len};
    return s;
}

void fdl_data_sampler_free(fdl_sampler *s)
{
    if (!s)
        return;
    if (s->v.free)
        s->v.free(s->self);
    free(s);
}

int64_t fdl_data_sampler_len(const fdl_sampler *s)
{
    if (!s)
        fdl_null_operand("fdl_data_sampler_len", "s");
    return s ? s->len : -1;
}

fdl_status fdl_data_sampler_order(fdl_sampler *s, int64_t epoch, int64_t *out)
{
    if (!s || (!out && s->len > 0))
        return fdl_null_operand("fdl_data_sampler_order", s ? "out" : "s");
    if (epoch < 0)
        return fdl_fail(FDL_E_ARG, "fdl_data_sampler_order: epoch is %lld; epochs count from 0",
                        (long long)epoch);
    fdl_status status = s->len ? s->v.order(s->self, epoch, out) : FDL_OK;
    if (status != FDL_OK && fdl_error_pending() == FDL_OK)
        fdl_fail(status, "the sampler's callback returned %s", fdl_status_name(status));
    return status;
}

/* ---- random and sequential ----------------------------------------------------------------------- */

struct range {
    int64_t n;
    uint64_t seed;
};

static int64_t range_len(void *self)
{
    return ((struct range *)self)->n;
}

static fdl_status random_order(void *self, int64_t epoch, int64_t *out)
{
    struct range *r = self;
    fdl_rng rng = fdl_rng_seed(fdl_rng_mix(r->seed, (uint64_t)epoch, STREAM_ORDER));
    return fdl_rng_perm(&rng, out, r->n);
}

static fdl_status sequential_order(void *self, int64_t epoch, int64_t *out)
{
    (void)epoch;
    for (int64_t i = 0; i < ((struct range *)self)->n; i++)
        out[i] = i;
    return FDL_OK;
}

static fdl_sampler *range_new(int64_t n, uint64_t seed, fdl_status (*order)(void *, int64_t, int64_t *))
{
    struct range *r = malloc(sizeof *r);
    if (!r)
        return fdl_fail_null(FDL_E_OOM, "fdl_data_sampler_new: no memory");
    *r = (struct range){n, seed};
    return fdl_data_sampler_new(&(fdl_sampler_vtab){range_len, order, free}, r);
}

fdl_sampler *fdl_data_sampler_random(int64_t n, uint64_t seed)
{
    return range_new(n, seed, random_order);
}

fdl_sampler *fdl_data_sampler_sequential(int64_t n)
{
    return range_new(n, 0, sequential_order);
}

bool fdl_data_is_sequential(const fdl_sampler *s)
{
    return s->v.order == sequential_order;
}

/* ---- uniform with replacement ---------------------------------------------------------------------- */

struct uniform {
    int64_t n, draws;
    uint64_t seed;
};

static int64_t uniform_len(void *self)
{
    return ((struct uniform *)self)->draws;
}

static fdl_status uniform_order(void *self, int64_t epoch, int64_t *out)
{
    struct uniform *s = self;
    fdl_rng rng = fdl_rng_seed(fdl_rng_mix(s->seed, (uint64_t)epoch, STREAM_DRAWS));
    for (int64_t j = 0; j < s->draws; j++)
        out[j] = (int64_t)fdl_rng_below(&rng, (uint64_t)s->n);
    return FDL_OK;
}

fdl_sampler *fdl_data_sampler_uniform(int64_t n, int64_t draws, uint64_t seed)
{
    if (n < 1 || draws < 0)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_data_sampler_uniform: %lld draws from %lld samples; there must be a "
                             "sample, and 0 draws or more",
                             (long long)draws, (long long)n);
    struct uniform *s = malloc(sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "fdl_data_sampler_uniform: no memory");
    *s = (struct uniform){n, draws, seed};
    return fdl_data_sampler_new(&(fdl_sampler_vtab){uniform_len, uniform_order, free}, s);
}

/* ---- weighted ------------------------------------------------------------------------------------- */

struct weighted {
    int64_t n, draws;
    uint64_t seed;
    double sum[]; /* sum[i] = w[0] + ... + w[i] */
};

static int64_t weighted_len(void *self)
{
    return ((struct weighted *)self)->draws;
}

static fdl_status weighted_order(void *self, int64_t epoch, int64_t *out)
{
    struct weighted *s = self;
    fdl_rng rng = fdl_rng_seed(fdl_rng_mix(s->seed, (uint64_t)epoch, STREAM_DRAWS));
    double total = s->sum[s->n - 1];
    for (int64_t j = 0; j < s->draws; j++) {
        double u = fdl_rng_f64(&rng) * total;
        int64_t low = 0,
                high =
                    s->n - 1; /* the first i with u < sum[i]; there is one unless u was rounded up to total */
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (u < s->sum[middle])
                high = middle;
            else
                low = middle + 1;
        }
        while (low > 0 && s->sum[low] == s->sum[low - 1]) /* never an index of weight 0 */
            low--;
        out[j] = low;
    }
    return FDL_OK;
}

fdl_sampler *fdl_data_sampler_weighted(const double *w, int64_t n, int64_t draws, uint64_t seed)
{
    if (!w) {
        fdl_null_operand("fdl_data_sampler_weighted", "w");
        return NULL;
    }
    if (n < 1 || draws < 0)
        return fdl_fail_null(
            FDL_E_ARG,
            "fdl_data_sampler_weighted: %lld draws from %lld weights; there must be a weight, and "
            "0 draws or more",
            (long long)draws, (long long)n);
    struct weighted *s = (uint64_t)n > (SIZE_MAX - sizeof *s) / sizeof(double)
                             ? NULL
                             : malloc(sizeof *s + (size_t)n * sizeof(double));
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "fdl_data_sampler_weighted: no memory for %lld weights",
                             (long long)n);
    *s = (struct weighted){.n = n, .draws = draws, .seed = seed};
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(w[i] >= 0) || isinf(w[i])) {
            free(s);
            return fdl_fail_null(
                FDL_E_ARG, "fdl_data_sampler_weighted: weight %lld is %g; weights are 0 or more and finite",
                (long long)i, w[i]);
        }
        s->sum[i] = sum += w[i];
    }
    if (!(sum > 0) || isinf(sum)) {
        free(s);
        return fdl_fail_null(
            FDL_E_ARG,
            "fdl_data_sampler_weighted: the weights add up to %g; the sum must be above 0 and "
            "finite",
            sum);
    }
    return fdl_data_sampler_new(&(fdl_sampler_vtab){weighted_len, weighted_order, free}, s);
}
