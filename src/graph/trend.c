/* Questions about rows of numbers. */
#include "series.h"

#include "flodl/scope.h"

#include <math.h>

struct fdl_trends {
    int n;
    const fdl_trend *at[];
};

/* ---- making -------------------------------------------------------------------------------------------- */

const fdl_trend *fdl_trend_of(int64_t n, const double *values)
{
    if (n < 0)
        return fdl_fail_null(FDL_E_ARG, "fdl_trend_of: %lld values; 0 or more", (long long)n);
    if (n && !values) {
        fdl_null_operand("fdl_trend_of", "values");
        return NULL;
    }
    if ((uint64_t)n > (SIZE_MAX / 2 - sizeof(fdl_trend)) / sizeof(double))
        return fdl_fail_null(FDL_E_OOM, "fdl_trend_of: no memory for %lld values", (long long)n);
    fdl_trend *t = fdl_scope_alloc(sizeof *t + (size_t)n * sizeof *values);
    if (!t)
        return NULL;
    t->n = n;
    t->at = (double *)(t + 1);
    if (n)
        memcpy(t->at, values, (size_t)n * sizeof *values);
    return t;
}

fdl_status trend_reserve(fdl_trend *t)
{
    if (t->n < t->room)
        return FDL_OK;
    int64_t room = t->room ? 2 * t->room : 16;
    double *at = realloc(t->at, (size_t)room * sizeof *at);
    if (!at)
        return fdl_fail(FDL_E_OOM, "no memory for %lld points of a trend", (long long)room);
    t->at = at;
    t->room = room;
    return FDL_OK;
}

/* ---- the points ---------------------------------------------------------------------------------------- */

/* The points of a window. */
typedef struct points {
    int64_t n;
    const double *at;
} points;

static points last(const fdl_trend *t, int64_t k)
{
    if (!t || !t->n || k <= 0)
        return (points){0, NULL};
    int64_t n = k < t->n ? k : t->n;
    return (points){n, t->at + (t->n - n)};
}

static points window(const fdl_trend *t, int64_t w)
{
    return last(t, w > 0 ? w : INT64_MAX);
}

int64_t fdl_trend_len(const fdl_trend *t)
{
    return t ? t->n : 0;
}

const double *fdl_trend_values(const fdl_trend *t)
{
    return window(t, 0).at;
}

const double *fdl_trend_last(const fdl_trend *t, int64_t k, int64_t *n)
{
    points p = last(t, k);
    if (n)
        *n = p.n;
    return p.at;
}

double fdl_trend_latest(const fdl_trend *t)
{
    return fdl_trend_len(t) ? t->at[t->n - 1] : 0;
}

/* ---- all points in one number -------------------------------------------------------------------------- */

static double mean(points p)
{
    double sum = 0;
    for (int64_t i = 0; i < p.n; i++)
        sum += p.at[i];
    return p.n ? sum / (double)p.n : 0;
}

double fdl_trend_mean(const fdl_trend *t)
{
    return mean(window(t, 0));
}

double fdl_trend_min(const fdl_trend *t)
{
    return fdl_trend_best_opt(t, 0, NULL);
}

double fdl_trend_max(const fdl_trend *t)
{
    return fdl_trend_best_opt(t, 0, &(fdl_trend_best_opts){.highest = true});
}

/* Into out, unless it is NULL; *average gets the last one. */
static fdl_status smooth(const char *function, const fdl_trend *t, double alpha, double *out, double *average)
{
    *average = NAN;
    if (!(alpha > 0 && alpha <= 1))
        return fdl_fail(FDL_E_ARG, "%s: alpha is %g; it must be above 0 and at most 1", function, alpha);
    points p = window(t, 0);
    double e = p.n ? p.at[0] : 0;
    for (int64_t i = 0; i < p.n; i++) {
        e = i ? alpha * p.at[i] + (1 - alpha) * e : e;
        if (out)
            out[i] = e;
    }
    *average = e;
    return FDL_OK;
}

double fdl_trend_ema(const fdl_trend *t, double alpha)
{
    double e;
    smooth(__func__, t, alpha, NULL, &e);
    return e;
}

fdl_status fdl_trend_smooth(const fdl_trend *t, double alpha, double *out)
{
    double e;
    if (!out && fdl_trend_len(t))
        return fdl_null_operand(__func__, "out");
    return smooth(__func__, t, alpha, out, &e);
}

/* ---- a window ------------------------------------------------------------------------------------------ */

/* Around the means, where the textbook's n sum(xy) - sum(x) sum(y) would lose the digits of a loss such as
 * 1e6 + 0.1. */
double fdl_trend_slope(const fdl_trend *t, int64_t w)
{
    points p = window(t, w);
    if (p.n < 2)
        return 0;
    double middle = (double)(p.n - 1) / 2, y = mean(p), xy = 0, xx = 0;
    for (int64_t i = 0; i < p.n; i++) {
        double x = (double)i - middle;
        xy += x * (p.at[i] - y);
        xx += x * x;
    }
    return xy / xx;
}

double fdl_trend_variance(const fdl_trend *t, int64_t w)
{
    points p = window(t, w);
    double y = mean(p), sum = 0;
    for (int64_t i = 0; i < p.n; i++)
        sum += (p.at[i] - y) * (p.at[i] - y);
    return p.n ? sum / (double)p.n : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double fdl_trend_percentile(const fdl_trend *t, int64_t w, double p)
{
    if (!(p >= 0 && p <= 100)) {
        fdl_fail(FDL_E_ARG, "fdl_trend_percentile: p is %g; it must be from 0 to 100", p);
        return NAN;
    }
    points all = window(t, w);
    for (int64_t i = 0; i < all.n; i++)
        if (isnan(all.at[i]))
            return NAN;
    if (!all.n)
        return 0;
    double *sorted = malloc((size_t)all.n * sizeof *sorted);
    if (!sorted) {
        fdl_fail(FDL_E_OOM, "fdl_trend_percentile: no memory for %lld points", (long long)all.n);
        return NAN;
    }
    memcpy(sorted, all.at, (size_t)all.n * sizeof *sorted);
    qsort(sorted, (size_t)all.n, sizeof *sorted, ascending);
    double place = p / 100 * (double)(all.n - 1), below = floor(place);
    int64_t i = (int64_t)below;
    double at = sorted[i];
    if (place > below && sorted[i + 1] != at) /* two infinities have no difference */
        at += (place - below) * (sorted[i + 1] - at);
    free(sorted);
    return at;
}

double fdl_trend_median(const fdl_trend *t, int64_t w)
{
    return fdl_trend_percentile(t, w, 50);
}

bool fdl_trend_improving(const fdl_trend *t, int64_t w)
{
    return fdl_trend_slope(t, w) < 0;
}

bool fdl_trend_stalled(const fdl_trend *t, int64_t w, double tol)
{
    return window(t, w).n >= 2 && fabs(fdl_trend_slope(t, w)) < tol;
}

bool fdl_trend_converged(const fdl_trend *t, int64_t w, double tol)
{
    return window(t, w).n >= 2 && fdl_trend_variance(t, w) < tol;
}

/* ---- the best point ------------------------------------------------------------------------------------ */

/* Its place in the window; -1: none is a number. *value: what it is. */
static int64_t best(points p, const fdl_trend_best_opts *opts, double *value)
{
    static const fdl_trend_best_opts defaults = {0};
    if (!opts)
        opts = &defaults;
    double sign = opts->highest ? -1 : 1, lowest = INFINITY;
    int64_t at = -1;
    for (int64_t i = 0; i < p.n; i++) {
        double y = sign * p.at[i];
        if (isnan(y) || (at >= 0 && !(y < lowest - opts->min_delta)))
            continue;
        lowest = y;
        at = i;
    }
    *value = sign * lowest;
    return at;
}

double fdl_trend_best_opt(const fdl_trend *t, int64_t w, const fdl_trend_best_opts *opts)
{
    double value;
    best(window(t, w), opts, &value);
    return value;
}

int64_t fdl_trend_since_best_opt(const fdl_trend *t, int64_t w, const fdl_trend_best_opts *opts)
{
    points p = window(t, w);
    double value;
    int64_t at = best(p, opts, &value);
    return at < 0 ? p.n : p.n - 1 - at;
}

/* ---- several trends ------------------------------------------------------------------------------------ */

const fdl_trends *fdl_trends_of(int n, const fdl_trend *const *trends)
{
    if (n < 0)
        return fdl_fail_null(FDL_E_ARG, "fdl_trends_of: %d trends; 0 or more", n);
    if (n && !trends) {
        fdl_null_operand("fdl_trends_of", "trends");
        return NULL;
    }
    fdl_trends *ts = fdl_scope_alloc(sizeof *ts + (size_t)n * sizeof *ts->at);
    if (!ts)
        return NULL;
    ts->n = n;
    if (n)
        memcpy(ts->at, trends, (size_t)n * sizeof *ts->at);
    return ts;
}

int fdl_trends_len(const fdl_trends *ts)
{
    return ts ? ts->n : 0;
}

const fdl_trend *fdl_trends_at(const fdl_trends *ts, int i)
{
    if (i < 0 || i >= fdl_trends_len(ts))
        return fdl_fail_null(FDL_E_RANGE, "fdl_trends_at: trend %d of %d", i, fdl_trends_len(ts));
    return ts->at[i];
}

/* How many of the trends are so. */
static int falling(const fdl_trends *ts, int64_t w)
{
    int n = 0;
    for (int i = 0; i < fdl_trends_len(ts); i++)
        n += fdl_trend_improving(ts->at[i], w);
    return n;
}

static int within(const fdl_trends *ts, bool (*is)(const fdl_trend *, int64_t, double), int64_t w, double tol)
{
    int n = 0;
    for (int i = 0; i < fdl_trends_len(ts); i++)
        n += is(ts->at[i], w, tol);
    return n;
}

static bool all(const fdl_trends *ts, int n)
{
    return n > 0 && n == ts->n;
}

bool fdl_trends_all_improving(const fdl_trends *ts, int64_t w)
{
    return all(ts, falling(ts, w));
}

bool fdl_trends_any_improving(const fdl_trends *ts, int64_t w)
{
    return falling(ts, w) > 0;
}

bool fdl_trends_all_stalled(const fdl_trends *ts, int64_t w, double tol)
{
    return all(ts, within(ts, fdl_trend_stalled, w, tol));
}

bool fdl_trends_any_stalled(const fdl_trends *ts, int64_t w, double tol)
{
    return within(ts, fdl_trend_stalled, w, tol) > 0;
}

bool fdl_trends_all_converged(const fdl_trends *ts, int64_t w, double tol)
{
    return all(ts, within(ts, fdl_trend_converged, w, tol));
}

bool fdl_trends_any_converged(const fdl_trends *ts, int64_t w, double tol)
{
    return within(ts, fdl_trend_converged, w, tol) > 0;
}

double fdl_trends_mean_slope(const fdl_trends *ts, int64_t w)
{
    double sum = 0;
    for (int i = 0; i < fdl_trends_len(ts); i++)
        sum += fdl_trend_slope(ts->at[i], w);
    return fdl_trends_len(ts) ? sum / ts->n : 0;
}

fdl_status fdl_trends_slopes(const fdl_trends *ts, int64_t w, double *out)
{
    if (!out && fdl_trends_len(ts))
        return fdl_null_operand(__func__, "out");
    for (int i = 0; i < fdl_trends_len(ts); i++)
        out[i] = fdl_trend_slope(ts->at[i], w);
    return FDL_OK;
}
