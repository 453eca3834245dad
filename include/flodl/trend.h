/* How a number has moved over the epochs: slopes, plateaus, best points, of one series or of several.
 *
 * A trend is a row of points, of a metric of a graph (fdl_graph_trend) or of any numbers (fdl_trend_of). A
 * window w says which points a question is about: the last w of them, or all where there are fewer or w is 0
 * (or below). NULL is taken as a trend, or a group, without points.
 *
 * Lower is better, as for losses: of an accuracy ask whether fdl_trend_slope is above 0. NaN among the points
 * of the window makes slope, mean, variance and percentiles NaN and every yes-or-no question no. */
#ifndef FLODL_TREND_H
#define FLODL_TREND_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

typedef struct fdl_trend fdl_trend;

/* A trend of n values, which are copied; scope (it lives as long as the innermost open fdl_scope). NULL: n
 * below 0 (FDL_E_ARG), no values although n isn't 0, no memory. */
FDL_API const fdl_trend *fdl_trend_of(int64_t n, const double *values);

/* ---- the points ---------------------------------------------------------------------------------------- */

/* The number of points. */
FDL_API int64_t fdl_trend_len(const fdl_trend *t);
/* All points, the oldest first, [fdl_trend_len]; borrowed until the next point comes. NULL when there are
 * none. */
FDL_API const double *fdl_trend_values(const fdl_trend *t);
/* The last k points, fewer where there are fewer: *n of them, borrowed as above. */
FDL_API const double *fdl_trend_last(const fdl_trend *t, int64_t k, int64_t *n);
/* The last point; 0 without any. */
FDL_API double fdl_trend_latest(const fdl_trend *t);

/* ---- all points in one number --------------------------------------------------------------------------- */

/* The arithmetic mean; 0 without points. */
FDL_API double fdl_trend_mean(const fdl_trend *t);
/* The smallest and the largest point, NaN left out; +inf and -inf without any. */
FDL_API double fdl_trend_min(const fdl_trend *t);
FDL_API double fdl_trend_max(const fdl_trend *t);
/* The exponential moving average at the last point: e = y at the first point, then e = alpha y + (1 - alpha) e, as
 * pandas' ewm(adjust=False). 0 without points. alpha outside 0 < alpha <= 1: NaN and FDL_E_ARG. */
FDL_API double fdl_trend_ema(const fdl_trend *t, double alpha);
/* The same at every point, into out [fdl_trend_len]. */
FDL_API fdl_status fdl_trend_smooth(const fdl_trend *t, double alpha, double *out);

/* ---- a window -------------------------------------------------------------------------------------------- */

/* The slope of the straight line of least squares, in units a point (an epoch); 0 for fewer than 2 points. */
FDL_API double fdl_trend_slope(const fdl_trend *t, int64_t w);
/* The mean squared distance from the mean (of a population: divided by n); 0 without points. */
FDL_API double fdl_trend_variance(const fdl_trend *t, int64_t w);
/* The p-th percentile, p from 0 to 100, linear between neighbours as numpy.percentile; the median is the
 * 50th. 0 without points. p outside: NaN and FDL_E_ARG. */
FDL_API double fdl_trend_percentile(const fdl_trend *t, int64_t w, double p);
FDL_API double fdl_trend_median(const fdl_trend *t, int64_t w);

/* It falls: the slope is below 0. */
FDL_API bool fdl_trend_improving(const fdl_trend *t, int64_t w);
/* It goes neither up nor down: the slope is smaller than tol either way. No for fewer than 2 points, so that
 * nothing stops in its first epoch. */
FDL_API bool fdl_trend_stalled(const fdl_trend *t, int64_t w, double tol);
/* It stays where it is: the variance is smaller than tol. No for fewer than 2 points. */
FDL_API bool fdl_trend_converged(const fdl_trend *t, int64_t w, double tol);

/* ---- the best point -------------------------------------------------------------------------------------- */

typedef struct fdl_trend_best_opts {
    fdl_by_name opts_;
    bool highest;     /* of an accuracy the highest point is the best; default: the lowest */
    double min_delta; /* a point is better only if it is better by more than this; 0 or more */
} fdl_trend_best_opts;
/* `fdl_trend_best(t, w, .highest = true)`: the best point of the window, NaN left out; +inf without any, with
 * .highest -inf. A later point takes the place of the best one before it when it is better by more than
 * .min_delta, as in torch's ReduceLROnPlateau in threshold_mode "abs". */
FDL_API double fdl_trend_best_opt(const fdl_trend *t, int64_t w, const fdl_trend_best_opts *opts);
/* `fdl_trend_since_best(t, w)`: how many points came after the best one of the window, 0 when the last point
 * is the best. `fdl_trend_since_best(loss, 0, .min_delta = 1e-3) >= 5` is a patience of 5 epochs. Where every
 * point is NaN, all of them; without points 0. */
FDL_API int64_t fdl_trend_since_best_opt(const fdl_trend *t, int64_t w, const fdl_trend_best_opts *opts);

/* ---- several trends -------------------------------------------------------------------------------------- */

typedef struct fdl_trends fdl_trends;

/* A group of n trends, which are borrowed; scope. fdl_graph_trends makes one of a graph's metrics. NULL: n below
 * 0 (FDL_E_ARG), no list although n isn't 0, no memory. */
FDL_API const fdl_trends *fdl_trends_of(int n, const fdl_trend *const *trends);
/* The number of trends. */
FDL_API int fdl_trends_len(const fdl_trends *ts);
/* Trend i; an i outside: NULL and FDL_E_RANGE. */
FDL_API const fdl_trend *fdl_trends_at(const fdl_trends *ts, int i);
/* Whether all trends, or any, are so. An empty group: no to each. */
FDL_API bool fdl_trends_all_improving(const fdl_trends *ts, int64_t w);
FDL_API bool fdl_trends_any_improving(const fdl_trends *ts, int64_t w);
FDL_API bool fdl_trends_all_stalled(const fdl_trends *ts, int64_t w, double tol);
FDL_API bool fdl_trends_any_stalled(const fdl_trends *ts, int64_t w, double tol);
FDL_API bool fdl_trends_all_converged(const fdl_trends *ts, int64_t w, double tol);
FDL_API bool fdl_trends_any_converged(const fdl_trends *ts, int64_t w, double tol);
/* The mean of the trends' slopes; 0 for an empty group. */
FDL_API double fdl_trends_mean_slope(const fdl_trends *ts, int64_t w);
/* The slope of each, into out [fdl_trends_len]. */
FDL_API fdl_status fdl_trends_slopes(const fdl_trends *ts, int64_t w, double *out);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_trend_best(t, ...) fdl_trend_best_(t, __VA_ARGS__, .opts_ = 0)
#define fdl_trend_best_(t, w, ...) fdl_trend_best_opt(t, w, &(fdl_trend_best_opts){__VA_ARGS__})
#define fdl_trend_since_best(t, ...) fdl_trend_since_best_(t, __VA_ARGS__, .opts_ = 0)
#define fdl_trend_since_best_(t, w, ...) fdl_trend_since_best_opt(t, w, &(fdl_trend_best_opts){__VA_ARGS__})
#endif

#endif
