/* Indexing, masks, sorting and searching. Differentiable unless said; an index that comes twice adds up in the gradient. */
#ifndef FLODL_INDEX_H
#define FLODL_INDEX_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- a part ----------------------------------------------------------------------------------------- */

/* Tensor.select: x[..., i, ...], without dim; a view. i may count from the end; outside: FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_select(fdl_tensor *x, int dim, int64_t i);
/* torch.narrow: n elements from start along dim; a view. Outside: FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_narrow(fdl_tensor *x, int dim, int64_t start, int64_t n);
/* x[start:end:step] along dim, clamped as in Python; step > 0; a view. */
FDL_API fdl_tensor *fdl_slice(fdl_tensor *x, int dim, int64_t start, int64_t end, int64_t step);
/* Copies of x, of its shape, with that part replaced by src: torch.select_scatter, torch.slice_scatter. */
FDL_API fdl_tensor *fdl_select_scatter(fdl_tensor *x, fdl_tensor *src, int dim, int64_t i);
FDL_API fdl_tensor *fdl_narrow_scatter(fdl_tensor *x, fdl_tensor *src, int dim, int64_t start);

/* ---- by index: idx is int64 or int32, else FDL_E_DTYPE; outside: FDL_E_RANGE on the CPU, a device assert on CUDA --- */

/* torch.index_select: idx [n] -> extent n along dim. */
FDL_API fdl_tensor *fdl_index_select(fdl_tensor *x, int dim, fdl_tensor *idx);
/* torch.gather: y[i][j] = x[idx[i][j]][j] for dim 0 -> the shape of idx. */
FDL_API fdl_tensor *fdl_gather(fdl_tensor *x, int dim, fdl_tensor *idx);
/* torch.take_along_dim: the same where the other dims of x and idx broadcast. */
FDL_API fdl_tensor *fdl_take_along_dim(fdl_tensor *x, fdl_tensor *idx, int dim);
/* torch.take: of the flattened x -> the shape of idx. */
FDL_API fdl_tensor *fdl_take(fdl_tensor *x, fdl_tensor *idx);
/* torch.scatter: the shape of x, a copy with y[idx[i][j]][j] = src[i][j] for dim 0. An index twice: either value. */
FDL_API fdl_tensor *fdl_scatter(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src);
FDL_API fdl_tensor *fdl_scatter_scalar(fdl_tensor *x, int dim, fdl_tensor *idx, double s);
/* torch.scatter_add: the same, added to what is there; the shape of x. The order of the sum is not fixed on CUDA. */
FDL_API fdl_tensor *fdl_scatter_add(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src);
typedef enum fdl_reduce_kind {
    FDL_REDUCE_SUM = 0,
    FDL_REDUCE_PROD,
    FDL_REDUCE_MEAN,
    FDL_REDUCE_MAX,
    FDL_REDUCE_MIN,
    FDL_REDUCE_NORM,  /* the 2-norm of all elements: fdl_graph_collect_with */
    FDL_REDUCE_SCALAR /* the one element that there must be: likewise */
} fdl_reduce_kind;
/* torch.scatter_reduce with include_self: the shape of x. NORM and SCALAR: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_scatter_reduce(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src,
                                       fdl_reduce_kind how);
/* torch.index_add: a copy of x with slice src[k] added to slice idx[k] along dim. */
FDL_API fdl_tensor *fdl_index_add(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src);
/* torch.index_copy: rows along dim become those of src. torch.index_fill: become s. idx int64 [n], none twice. */
FDL_API fdl_tensor *fdl_index_copy(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src);
FDL_API fdl_tensor *fdl_index_fill(fdl_tensor *x, int dim, fdl_tensor *idx, double s);
/* torch.diagonal_scatter: x with its diagonal of dims d0 and d1 replaced by src: the shape of x. */
FDL_API fdl_tensor *fdl_diagonal_scatter(fdl_tensor *x, fdl_tensor *src, int64_t offset, int d0, int d1);
/* x[i, j, ...]: one index tensor a dim, NULL for ":". Bool masks and int64; the indices broadcast. */
FDL_API fdl_tensor *fdl_index(fdl_tensor *x, fdl_list indices);
typedef struct fdl_index_put_opts {
    fdl_by_name opts_;
    bool accumulate; /* add instead of replacing */
} fdl_index_put_opts;
/* A copy of x with x[i, j, ...] = v. */
FDL_API fdl_tensor *fdl_index_put_opt(fdl_tensor *x, fdl_list indices, fdl_tensor *v,
                                      const fdl_index_put_opts *opts);
typedef struct fdl_one_hot_opts {
    fdl_by_name opts_;
    fdl_dtype dtype; /* default int64 */
} fdl_one_hot_opts;
/* F.one_hot: int64 [*] -> [*, classes]; classes 0: the largest index + 1. An index outside: FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_one_hot_opt(fdl_tensor *x, int64_t classes, const fdl_one_hot_opts *opts);

/* ---- by mask: bool, or anything where non-zero is true; broadcasts to x ----------------------------- */

/* Tensor.masked_fill: the shape of x, s where the mask is true. */
FDL_API fdl_tensor *fdl_masked_fill(fdl_tensor *x, fdl_tensor *mask, double s);
/* torch.masked_select -> [count]: waits for the device. */
FDL_API fdl_tensor *fdl_masked_select(fdl_tensor *x, fdl_tensor *mask);
/* torch.masked_scatter: the places of the mask take src's elements in order. */
FDL_API fdl_tensor *fdl_masked_scatter(fdl_tensor *x, fdl_tensor *mask, fdl_tensor *src);
/* torch.where: a where cond is true, else b; all three broadcast. A number is fdl_scalar(0). */
FDL_API fdl_tensor *fdl_where(fdl_tensor *cond, fdl_tensor *a, fdl_tensor *b);
/* torch.nonzero -> int64 [count, ndim]: waits for the device. Not differentiable. */
FDL_API fdl_tensor *fdl_nonzero(fdl_tensor *x);
/* torch.unique with dim: the slices of x along dim, sorted, each once: [n, *] -> [different ones, *] for dim 0. Waits for the
 * device. */
FDL_API fdl_tensor *fdl_unique_dim(fdl_tensor *x, int dim);

/* ---- sorting and searching: values are differentiable, positions are int64 -------------------------- */

typedef struct fdl_topk_opts {
    fdl_by_name opts_;
    bool smallest;        /* the k smallest instead of the largest */
    bool unsorted;        /* in any order */
    fdl_tensor **indices; /* their positions along dim, filled when given (scope) */
} fdl_topk_opts;
/* torch.topk -> extent k along dim. k above the extent: FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_topk_opt(fdl_tensor *x, int64_t k, int dim, const fdl_topk_opts *opts);
typedef struct fdl_sort_opts {
    fdl_by_name opts_;
    bool descending;
    bool stable;          /* equal elements keep their order */
    fdl_tensor **indices; /* where each stood along dim, filled when given (scope) */
} fdl_sort_opts;
/* torch.sort: the shape of x; NaN is the largest. */
FDL_API fdl_tensor *fdl_sort_opt(fdl_tensor *x, int dim, const fdl_sort_opts *opts);
typedef struct fdl_argsort_opts {
    fdl_by_name opts_;
    bool descending, stable;
} fdl_argsort_opts;
/* torch.argsort: the positions alone. The shape of x, int64, not differentiable. */
FDL_API fdl_tensor *fdl_argsort_opt(fdl_tensor *x, int dim, const fdl_argsort_opts *opts);
typedef struct fdl_kthvalue_opts {
    fdl_by_name opts_;
    bool keepdim;
    fdl_tensor **indices; /* its position along dim, filled when given (scope) */
} fdl_kthvalue_opts;
/* torch.kthvalue: the k-th smallest, k from 1, without dim or with extent 1 there (.keepdim). */
FDL_API fdl_tensor *fdl_kthvalue_opt(fdl_tensor *x, int64_t k, int dim, const fdl_kthvalue_opts *opts);
typedef struct fdl_unique_opts {
    fdl_by_name opts_;
    bool unsorted;
    fdl_tensor **inverse; /* the shape of x: where each element is in the result */
    fdl_tensor **counts;  /* the result's shape */
} fdl_unique_opts;
/* torch.unique -> [count]: waits for the device. unique_consecutive merges neighbours only (unsorted has no meaning
 * there: FDL_E_ARG). */
FDL_API fdl_tensor *fdl_unique(fdl_tensor *x);
FDL_API fdl_tensor *fdl_unique_opt(fdl_tensor *x, const fdl_unique_opts *opts);
FDL_API fdl_tensor *fdl_unique_consecutive_opt(fdl_tensor *x, const fdl_unique_opts *opts);
typedef struct fdl_search_opts {
    fdl_by_name opts_;
    bool right; /* behind equal elements instead of before them */
} fdl_search_opts;
/* torch.searchsorted: where v's elements would go -> int64, the shape of v. sorted: ascending [n], or [*, n] row by row. */
FDL_API fdl_tensor *fdl_searchsorted_opt(fdl_tensor *sorted, fdl_tensor *v, const fdl_search_opts *opts);
FDL_API fdl_tensor *fdl_bucketize_opt(fdl_tensor *v, fdl_tensor *bounds, const fdl_search_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_index_put(x, indices, ...) fdl_index_put_(x, indices, __VA_ARGS__, .opts_ = 0)
#define fdl_index_put_(x, indices, v, ...) \
    fdl_index_put_opt(x, indices, v, &(fdl_index_put_opts){__VA_ARGS__})
#define fdl_one_hot(x, ...) fdl_one_hot_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_one_hot_(x, classes, ...) fdl_one_hot_opt(x, classes, &(fdl_one_hot_opts){__VA_ARGS__})
#define fdl_topk(x, k, ...) fdl_topk_(x, k, __VA_ARGS__, .opts_ = 0)
#define fdl_topk_(x, k, dim, ...) fdl_topk_opt(x, k, dim, &(fdl_topk_opts){__VA_ARGS__})
#define fdl_sort(x, ...) fdl_sort_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_sort_(x, dim, ...) fdl_sort_opt(x, dim, &(fdl_sort_opts){__VA_ARGS__})
#define fdl_argsort(x, ...) fdl_argsort_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_argsort_(x, dim, ...) fdl_argsort_opt(x, dim, &(fdl_argsort_opts){__VA_ARGS__})
#define fdl_kthvalue(x, k, ...) fdl_kthvalue_(x, k, __VA_ARGS__, .opts_ = 0)
#define fdl_kthvalue_(x, k, dim, ...) fdl_kthvalue_opt(x, k, dim, &(fdl_kthvalue_opts){__VA_ARGS__})
#define fdl_unique(...) fdl_unique_(__VA_ARGS__, .opts_ = 0)
#define fdl_unique_(x, ...) fdl_unique_opt(x, &(fdl_unique_opts){__VA_ARGS__})
#define fdl_unique_consecutive(...) fdl_unique_consecutive_(__VA_ARGS__, .opts_ = 0)
#define fdl_unique_consecutive_(x, ...) fdl_unique_consecutive_opt(x, &(fdl_unique_opts){__VA_ARGS__})
#define fdl_searchsorted(sorted, ...) fdl_searchsorted_(sorted, __VA_ARGS__, .opts_ = 0)
#define fdl_searchsorted_(sorted, v, ...) fdl_searchsorted_opt(sorted, v, &(fdl_search_opts){__VA_ARGS__})
#define fdl_bucketize(v, ...) fdl_bucketize_(v, __VA_ARGS__, .opts_ = 0)
#define fdl_bucketize_(v, bounds, ...) fdl_bucketize_opt(v, bounds, &(fdl_search_opts){__VA_ARGS__})
#endif

#endif
