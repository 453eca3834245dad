/* Reductions and running sums. Full reductions give a 0-d tensor. _dim forms drop one dim, which may count from the end, _dims
 * forms several: [2, 3, 4] along dim 1 -> [2, 4], with .keepdim [2, 1, 4]. A dim outside: FDL_E_RANGE. Differentiable unless
 * said. */
#ifndef FLODL_REDUCE_H
#define FLODL_REDUCE_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- options ------------------------------------------------------------------------------------ */

typedef struct fdl_sum_opts {
    fdl_by_name opts_;
    fdl_dtype dtype; /* converts first; default: x's, int64 for the sum and product of integers and bools */
} fdl_sum_opts;
typedef struct fdl_sum_dim_opts {
    fdl_by_name opts_;
    bool keepdim;    /* leave the reduced dims with extent 1 */
    fdl_dtype dtype; /* converts first, as in fdl_sum */
} fdl_sum_dim_opts;
typedef struct fdl_dim_opts {
    fdl_by_name opts_;
    bool keepdim; /* leave the reduced dims with extent 1 */
} fdl_dim_opts;
typedef struct fdl_pick_opts {
    fdl_by_name opts_;
    bool keepdim;         /* leave the reduced dim with extent 1 */
    fdl_tensor **indices; /* int64 positions along dim, filled when given (scope) */
} fdl_pick_opts;
typedef struct fdl_var_opts {
    fdl_by_name opts_;
    fdl_opt_i64
        correction; /* n - correction is the divisor; default 1 (Bessel), FDL_SOME(0) for a population */
} fdl_var_opts;
typedef struct fdl_var_dim_opts {
    fdl_by_name opts_;
    bool keepdim;           /* leave the reduced dim with extent 1 */
    fdl_opt_i64 correction; /* as in fdl_var */
} fdl_var_dim_opts;

/* ---- sums and means ----------------------------------------------------------------------------- */

/* torch.sum: everything -> [] (0-d); one dim; several dims (none: all). An empty tensor: 0. A dim twice: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_sum(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sum_opt(fdl_tensor *x, const fdl_sum_opts *opts);
FDL_API fdl_tensor *fdl_sum_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts);
FDL_API fdl_tensor *fdl_sum_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_sum_dim_opts *opts);
/* torch.mean; of integers and bools in float32. An empty tensor: NaN. */
FDL_API fdl_tensor *fdl_mean(fdl_tensor *x);
FDL_API fdl_tensor *fdl_mean_opt(fdl_tensor *x, const fdl_sum_opts *opts);
FDL_API fdl_tensor *fdl_mean_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts);
FDL_API fdl_tensor *fdl_mean_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_sum_dim_opts *opts);
/* torch.prod. */
FDL_API fdl_tensor *fdl_prod(fdl_tensor *x);
FDL_API fdl_tensor *fdl_prod_opt(fdl_tensor *x, const fdl_sum_opts *opts);
FDL_API fdl_tensor *fdl_prod_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts);
/* torch.nansum, torch.nanmean: NaN counts as absent. */
FDL_API fdl_tensor *fdl_nansum(fdl_tensor *x);
FDL_API fdl_tensor *fdl_nanmean(fdl_tensor *x);
/* torch.var, torch.std -> []; of one element NaN. */
FDL_API fdl_tensor *fdl_var(fdl_tensor *x);
FDL_API fdl_tensor *fdl_var_opt(fdl_tensor *x, const fdl_var_opts *opts);
FDL_API fdl_tensor *fdl_std(fdl_tensor *x);
FDL_API fdl_tensor *fdl_std_opt(fdl_tensor *x, const fdl_var_opts *opts);
FDL_API fdl_tensor *fdl_var_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts);
FDL_API fdl_tensor *fdl_std_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts);
/* torch.var_mean, torch.std_mean: {variance or deviation, mean}. */
FDL_API fdl_list fdl_var_mean_opt(fdl_tensor *x, const fdl_var_opts *opts);
FDL_API fdl_list fdl_std_mean_opt(fdl_tensor *x, const fdl_var_opts *opts);
FDL_API fdl_list fdl_var_mean_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts);
FDL_API fdl_list fdl_std_mean_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts);
/* torch.cov: x [variables, observations] -> [variables, variables]; [n] -> []. torch.corrcoef: scaled to 1 on the
 * diagonal. More than 2 dims: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_cov_opt(fdl_tensor *x, const fdl_var_opts *opts);
FDL_API fdl_tensor *fdl_corrcoef(fdl_tensor *x);
/* torch.norm: the 2-norm of all elements -> []; its gradient at the zero vector is 0. */
FDL_API fdl_tensor *fdl_norm(fdl_tensor *x);
/* torch.linalg.vector_norm: the p-norm along dim; p is any number: INFINITY the largest, 0 the count of non-zeros. */
FDL_API fdl_tensor *fdl_norm_dim_opt(fdl_tensor *x, double p, int dim, const fdl_dim_opts *opts);
typedef struct fdl_dist_opts {
    fdl_by_name opts_;
    double p; /* default 2 */
} fdl_dist_opts;
/* torch.dist: the p-norm of a - b -> []. */
FDL_API fdl_tensor *fdl_dist_opt(fdl_tensor *a, fdl_tensor *b, const fdl_dist_opts *opts);
/* torch.renorm: each slice along dim whose p-norm is above maxnorm is scaled down to it: the shape of x. */
FDL_API fdl_tensor *fdl_renorm(fdl_tensor *x, double p, int dim, double maxnorm);
/* torch.logsumexp: log of the sum of e^x, stable. */
FDL_API fdl_tensor *fdl_logsumexp_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_logsumexp_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts);

/* ---- the largest, the smallest, the middle ------------------------------------------------------- */

/* torch.max, torch.min of everything -> []; ties share the gradient. Empty: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_max(fdl_tensor *x);
FDL_API fdl_tensor *fdl_min(fdl_tensor *x);
/* torch.max(x, dim): the values; .indices where they stood. The gradient goes to the chosen element alone. */
FDL_API fdl_tensor *fdl_max_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts);
FDL_API fdl_tensor *fdl_min_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts);
/* torch.amax, torch.amin: over several dims (none: all); ties share the gradient. */
FDL_API fdl_tensor *fdl_amax_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_amin_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts);
/* torch.aminmax: {smallest, largest}, of everything or along dim; ties share the gradient. Empty: FDL_E_SHAPE. */
FDL_API fdl_list fdl_aminmax(fdl_tensor *x);
FDL_API fdl_list fdl_aminmax_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
/* torch.argmax, torch.argmin: int64 positions along dim, or in the flattened tensor. Not differentiable. */
FDL_API fdl_tensor *fdl_argmax_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_argmin_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_argmax_all(fdl_tensor *x);
FDL_API fdl_tensor *fdl_argmin_all(fdl_tensor *x);
/* torch.median: the lower of two middle values. nanmedian ignores NaN. */
FDL_API fdl_tensor *fdl_median(fdl_tensor *x);
FDL_API fdl_tensor *fdl_median_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts);
FDL_API fdl_tensor *fdl_nanmedian(fdl_tensor *x);
/* torch.mode: the most frequent value along dim, the smallest of several. */
FDL_API fdl_tensor *fdl_mode_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts);
/* torch.quantile: q in [0, 1], linear between neighbours. Floating x only. nanquantile ignores NaN. */
FDL_API fdl_tensor *fdl_quantile_opt(fdl_tensor *x, double q, int dim, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_nanquantile_opt(fdl_tensor *x, double q, int dim, const fdl_dim_opts *opts);

/* ---- counting; not differentiable --------------------------------------------------------------- */

/* torch.count_nonzero -> int64 [], or along dim. */
FDL_API fdl_tensor *fdl_count_nonzero(fdl_tensor *x);
FDL_API fdl_tensor *fdl_count_nonzero_dim(fdl_tensor *x, int dim);
/* torch.any, torch.all -> bool; an empty tensor: false, true. */
FDL_API fdl_tensor *fdl_any(fdl_tensor *x);
FDL_API fdl_tensor *fdl_all(fdl_tensor *x);
FDL_API fdl_tensor *fdl_any_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
FDL_API fdl_tensor *fdl_all_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts);
/* torch.histc -> [bins]: counts of lo <= x <= hi (both 0: x's own range), in x's floating dtype. */
FDL_API fdl_tensor *fdl_histc(fdl_tensor *x, int64_t bins, double lo, double hi);
typedef struct fdl_bincount_opts {
    fdl_by_name opts_;
    fdl_tensor *weights; /* [n]: summed instead of counted */
    int64_t minlength;
} fdl_bincount_opts;
/* torch.bincount: x int [n], none negative -> [max(x) + 1]. */
FDL_API fdl_tensor *fdl_bincount_opt(fdl_tensor *x, const fdl_bincount_opts *opts);

/* ---- running along a dim: the shape of x --------------------------------------------------------- */

/* torch.cumsum, torch.cumprod, torch.logcumsumexp: of the elements up to and with each. */
FDL_API fdl_tensor *fdl_cumsum(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_cumprod(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_logcumsumexp(fdl_tensor *x, int dim);
typedef struct fdl_cummax_opts {
    fdl_by_name opts_;
    fdl_tensor **indices; /* int64, the shape of x, filled when given (scope) */
} fdl_cummax_opts;
/* torch.cummax, torch.cummin: the largest and the smallest so far. */
FDL_API fdl_tensor *fdl_cummax_opt(fdl_tensor *x, int dim, const fdl_cummax_opts *opts);
FDL_API fdl_tensor *fdl_cummin_opt(fdl_tensor *x, int dim, const fdl_cummax_opts *opts);
/* torch.diff: each element less the one before -> one shorter along dim. */
FDL_API fdl_tensor *fdl_diff(fdl_tensor *x, int dim);

typedef struct fdl_trapezoid_opts {
    fdl_by_name opts_;
    double dx;     /* distance of two points, default 1 */
    fdl_tensor *x; /* or the points themselves: [n], or of y's shape */
} fdl_trapezoid_opts;
/* torch.trapezoid: the integral over the points y along dim, which it removes. torch.cumulative_trapezoid: up to each point
 * but the first, one shorter along dim. */
FDL_API fdl_tensor *fdl_trapezoid_opt(fdl_tensor *y, int dim, const fdl_trapezoid_opts *opts);
FDL_API fdl_tensor *fdl_cumulative_trapezoid_opt(fdl_tensor *y, int dim, const fdl_trapezoid_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_sum(...) fdl_sum_(__VA_ARGS__, .opts_ = 0)
#define fdl_sum_(x, ...) fdl_sum_opt(x, &(fdl_sum_opts){__VA_ARGS__})
#define fdl_sum_dim(x, ...) fdl_sum_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_sum_dim_(x, dim, ...) fdl_sum_dim_opt(x, dim, &(fdl_sum_dim_opts){__VA_ARGS__})
#define fdl_mean(...) fdl_mean_(__VA_ARGS__, .opts_ = 0)
#define fdl_mean_(x, ...) fdl_mean_opt(x, &(fdl_sum_opts){__VA_ARGS__})
#define fdl_mean_dim(x, ...) fdl_mean_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_mean_dim_(x, dim, ...) fdl_mean_dim_opt(x, dim, &(fdl_sum_dim_opts){__VA_ARGS__})
#define fdl_prod(...) fdl_prod_(__VA_ARGS__, .opts_ = 0)
#define fdl_prod_(x, ...) fdl_prod_opt(x, &(fdl_sum_opts){__VA_ARGS__})
#define fdl_prod_dim(x, ...) fdl_prod_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_prod_dim_(x, dim, ...) fdl_prod_dim_opt(x, dim, &(fdl_sum_dim_opts){__VA_ARGS__})
#define fdl_sum_dims(x, ...) fdl_sum_dims_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_sum_dims_(x, dims, ...) fdl_sum_dims_opt(x, dims, &(fdl_sum_dim_opts){__VA_ARGS__})
#define fdl_mean_dims(x, ...) fdl_mean_dims_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_mean_dims_(x, dims, ...) fdl_mean_dims_opt(x, dims, &(fdl_sum_dim_opts){__VA_ARGS__})
#define fdl_var(...) fdl_var_(__VA_ARGS__, .opts_ = 0)
#define fdl_var_(x, ...) fdl_var_opt(x, &(fdl_var_opts){__VA_ARGS__})
#define fdl_var_dim(x, ...) fdl_var_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_var_dim_(x, dim, ...) fdl_var_dim_opt(x, dim, &(fdl_var_dim_opts){__VA_ARGS__})
#define fdl_std(...) fdl_std_(__VA_ARGS__, .opts_ = 0)
#define fdl_std_(x, ...) fdl_std_opt(x, &(fdl_var_opts){__VA_ARGS__})
#define fdl_std_dim(x, ...) fdl_std_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_std_dim_(x, dim, ...) fdl_std_dim_opt(x, dim, &(fdl_var_dim_opts){__VA_ARGS__})
#define fdl_norm_dim(x, p, ...) fdl_norm_dim_(x, p, __VA_ARGS__, .opts_ = 0)
#define fdl_norm_dim_(x, p, dim, ...) fdl_norm_dim_opt(x, p, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_logsumexp(x, ...) fdl_logsumexp_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_logsumexp_(x, dim, ...) fdl_logsumexp_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_argmax(x, ...) fdl_argmax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_argmax_(x, dim, ...) fdl_argmax_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_argmin(x, ...) fdl_argmin_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_argmin_(x, dim, ...) fdl_argmin_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_any_dim(x, ...) fdl_any_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_any_dim_(x, dim, ...) fdl_any_dim_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_all_dim(x, ...) fdl_all_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_all_dim_(x, dim, ...) fdl_all_dim_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_logsumexp_dims(x, ...) fdl_logsumexp_dims_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_logsumexp_dims_(x, dims, ...) fdl_logsumexp_dims_opt(x, dims, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_amax(x, ...) fdl_amax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_amax_(x, dims, ...) fdl_amax_opt(x, dims, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_amin(x, ...) fdl_amin_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_amin_(x, dims, ...) fdl_amin_opt(x, dims, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_max_dim(x, ...) fdl_max_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_max_dim_(x, dim, ...) fdl_max_dim_opt(x, dim, &(fdl_pick_opts){__VA_ARGS__})
#define fdl_min_dim(x, ...) fdl_min_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_min_dim_(x, dim, ...) fdl_min_dim_opt(x, dim, &(fdl_pick_opts){__VA_ARGS__})
#define fdl_median_dim(x, ...) fdl_median_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_median_dim_(x, dim, ...) fdl_median_dim_opt(x, dim, &(fdl_pick_opts){__VA_ARGS__})
#define fdl_quantile(x, q, ...) fdl_quantile_(x, q, __VA_ARGS__, .opts_ = 0)
#define fdl_quantile_(x, q, dim, ...) fdl_quantile_opt(x, q, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_bincount(...) fdl_bincount_(__VA_ARGS__, .opts_ = 0)
#define fdl_bincount_(x, ...) fdl_bincount_opt(x, &(fdl_bincount_opts){__VA_ARGS__})
#define fdl_cummax(x, ...) fdl_cummax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_cummax_(x, dim, ...) fdl_cummax_opt(x, dim, &(fdl_cummax_opts){__VA_ARGS__})
#define fdl_cummin(x, ...) fdl_cummin_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_cummin_(x, dim, ...) fdl_cummin_opt(x, dim, &(fdl_cummax_opts){__VA_ARGS__})
#define fdl_var_mean(...) fdl_var_mean_(__VA_ARGS__, .opts_ = 0)
#define fdl_var_mean_(x, ...) fdl_var_mean_opt(x, &(fdl_var_opts){__VA_ARGS__})
#define fdl_std_mean(...) fdl_std_mean_(__VA_ARGS__, .opts_ = 0)
#define fdl_std_mean_(x, ...) fdl_std_mean_opt(x, &(fdl_var_opts){__VA_ARGS__})
#define fdl_cov(...) fdl_cov_(__VA_ARGS__, .opts_ = 0)
#define fdl_cov_(x, ...) fdl_cov_opt(x, &(fdl_var_opts){__VA_ARGS__})
#define fdl_var_mean_dim(x, ...) fdl_var_mean_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_var_mean_dim_(x, dim, ...) fdl_var_mean_dim_opt(x, dim, &(fdl_var_dim_opts){__VA_ARGS__})
#define fdl_std_mean_dim(x, ...) fdl_std_mean_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_std_mean_dim_(x, dim, ...) fdl_std_mean_dim_opt(x, dim, &(fdl_var_dim_opts){__VA_ARGS__})
#define fdl_aminmax_dim(x, ...) fdl_aminmax_dim_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_aminmax_dim_(x, dim, ...) fdl_aminmax_dim_opt(x, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_mode(x, ...) fdl_mode_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_mode_(x, dim, ...) fdl_mode_opt(x, dim, &(fdl_pick_opts){__VA_ARGS__})
#define fdl_trapezoid(y, ...) fdl_trapezoid_(y, __VA_ARGS__, .opts_ = 0)
#define fdl_trapezoid_(y, dim, ...) fdl_trapezoid_opt(y, dim, &(fdl_trapezoid_opts){__VA_ARGS__})
#define fdl_cumulative_trapezoid(y, ...) fdl_cumulative_trapezoid_(y, __VA_ARGS__, .opts_ = 0)
#define fdl_cumulative_trapezoid_(y, dim, ...) \
    fdl_cumulative_trapezoid_opt(y, dim, &(fdl_trapezoid_opts){__VA_ARGS__})
#define fdl_nanquantile(x, q, ...) fdl_nanquantile_(x, q, __VA_ARGS__, .opts_ = 0)
#define fdl_nanquantile_(x, q, dim, ...) fdl_nanquantile_opt(x, q, dim, &(fdl_dim_opts){__VA_ARGS__})
#define fdl_dist(a, ...) fdl_dist_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_dist_(a, b, ...) fdl_dist_opt(a, b, &(fdl_dist_opts){__VA_ARGS__})
#endif

#endif
