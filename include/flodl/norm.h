/* Normalisation, similarity. Differentiable. Shapes that don't fit: FDL_E_SHAPE. */
#ifndef FLODL_NORM_H
#define FLODL_NORM_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- over features ---------------------------------------------------------------------------------- */

typedef struct fdl_layer_norm_opts {
    fdl_by_name opts_;
    fdl_tensor *weight, *bias; /* of the normalised shape */
    double eps;                /* default 1e-5 */
} fdl_layer_norm_opts;
/* F.layer_norm: (x - mean) / sqrt(var + eps) * weight + bias over x's trailing dims, which are shape. */
FDL_API fdl_tensor *fdl_layer_norm_opt(fdl_tensor *x, fdl_shape shape, const fdl_layer_norm_opts *opts);

typedef struct fdl_rms_norm_opts {
    fdl_by_name opts_;
    fdl_tensor *weight; /* of the normalised shape */
    double eps;         /* default: the machine epsilon of x's dtype */
} fdl_rms_norm_opts;
/* F.rms_norm: x / sqrt(mean(x^2) + eps) * weight over x's trailing dims, which are shape; half types in
 * float32. */
FDL_API fdl_tensor *fdl_rms_norm_opt(fdl_tensor *x, fdl_shape shape, const fdl_rms_norm_opts *opts);

typedef struct fdl_group_norm_opts {
    fdl_by_name opts_;
    fdl_tensor *weight, *bias; /* [C] */
    double eps;                /* default 1e-5 */
} fdl_group_norm_opts;
/* F.group_norm: x [N, C, *] over the C / groups channels of each group and all places; C divides by groups.
 */
FDL_API fdl_tensor *fdl_group_norm_opt(fdl_tensor *x, int64_t groups, const fdl_group_norm_opts *opts);

/* ---- over the batch ---------------------------------------------------------------------------------- */

typedef struct fdl_batch_norm_opts {
    fdl_by_name opts_;
    fdl_tensor *weight, *bias;              /* [C] */
    fdl_tensor *running_mean, *running_var; /* [C], both or none; without them .training must be true */
    bool training; /* the batch's statistics, which also move the running ones in place; default: the running
                      ones */
    double momentum; /* the batch's part in the running ones, default 0.1 */
    double eps;      /* default 1e-5 */
} fdl_batch_norm_opts;
/* F.batch_norm: x [N, C, *], over the batch and all places. The running variance takes the unbiased variance.
 * One value a channel in training: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_batch_norm_opt(fdl_tensor *x, const fdl_batch_norm_opts *opts);

typedef struct fdl_instance_norm_opts {
    fdl_by_name opts_;
    fdl_tensor *weight, *bias;              /* [C] */
    fdl_tensor *running_mean, *running_var; /* [C], both or none; moved in place unless .no_input_stats */
    bool no_input_stats;                    /* use the running ones */
    double momentum;                        /* default 0.1 */
    double eps;                             /* default 1e-5 */
} fdl_instance_norm_opts;
/* F.instance_norm: x [N, C, *], over the places of each channel of each sample. One place: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_instance_norm_opt(fdl_tensor *x, const fdl_instance_norm_opts *opts);

/* ---- over neighbours ----------------------------------------------------------------------------------- */

typedef struct fdl_local_response_norm_opts {
    fdl_by_name opts_;
    double alpha; /* default 1e-4 */
    double beta;  /* default 0.75 */
    double k;     /* default 1 */
} fdl_local_response_norm_opts;
/* F.local_response_norm: x / (k + alpha mean(x^2 of `size` channels around))^beta. x [N, C, *], 3-d at least.
 */
FDL_API fdl_tensor *fdl_local_response_norm_opt(fdl_tensor *x, int64_t size,
                                                const fdl_local_response_norm_opts *opts);

/* ---- vectors along a dim ------------------------------------------------------------------------------- */

typedef struct fdl_normalize_opts {
    fdl_by_name opts_;
    double p;   /* of the norm, default 2 */
    double eps; /* default 1e-12 */
} fdl_normalize_opts;
/* F.normalize: x / max(norm along dim, eps): the shape of x. A zero vector stays zero. */
FDL_API fdl_tensor *fdl_normalize_opt(fdl_tensor *x, int dim, const fdl_normalize_opts *opts);

typedef struct fdl_cosine_similarity_opts {
    fdl_by_name opts_;
    double eps; /* the least norm, default 1e-8 */
} fdl_cosine_similarity_opts;
/* F.cosine_similarity: along dim, which it removes; a and b broadcast. A zero vector gives 0. */
FDL_API fdl_tensor *fdl_cosine_similarity_opt(fdl_tensor *a, fdl_tensor *b, int dim,
                                              const fdl_cosine_similarity_opts *opts);

typedef struct fdl_pairwise_distance_opts {
    fdl_by_name opts_;
    double p;   /* of the norm, default 2 */
    double eps; /* added to each difference, default 1e-6 */
    bool keepdim;
} fdl_pairwise_distance_opts;
/* F.pairwise_distance: the norm of a - b + eps along the last dim: [N, D], [N, D] -> [N]. */
FDL_API fdl_tensor *fdl_pairwise_distance_opt(fdl_tensor *a, fdl_tensor *b,
                                              const fdl_pairwise_distance_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_layer_norm(x, ...) fdl_layer_norm_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_layer_norm_(x, shape, ...) fdl_layer_norm_opt(x, shape, &(fdl_layer_norm_opts){__VA_ARGS__})
#define fdl_rms_norm(x, ...) fdl_rms_norm_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_rms_norm_(x, shape, ...) fdl_rms_norm_opt(x, shape, &(fdl_rms_norm_opts){__VA_ARGS__})
#define fdl_group_norm(x, ...) fdl_group_norm_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_group_norm_(x, groups, ...) fdl_group_norm_opt(x, groups, &(fdl_group_norm_opts){__VA_ARGS__})
#define fdl_batch_norm(...) fdl_batch_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_batch_norm_(x, ...) fdl_batch_norm_opt(x, &(fdl_batch_norm_opts){__VA_ARGS__})
#define fdl_instance_norm(...) fdl_instance_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_instance_norm_(x, ...) fdl_instance_norm_opt(x, &(fdl_instance_norm_opts){__VA_ARGS__})
#define fdl_local_response_norm(x, ...) fdl_local_response_norm_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_local_response_norm_(x, size, ...) \
    fdl_local_response_norm_opt(x, size, &(fdl_local_response_norm_opts){__VA_ARGS__})
#define fdl_normalize(x, ...) fdl_normalize_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_normalize_(x, dim, ...) fdl_normalize_opt(x, dim, &(fdl_normalize_opts){__VA_ARGS__})
#define fdl_cosine_similarity(a, b, ...) fdl_cosine_similarity_(a, b, __VA_ARGS__, .opts_ = 0)
#define fdl_cosine_similarity_(a, b, dim, ...) \
    fdl_cosine_similarity_opt(a, b, dim, &(fdl_cosine_similarity_opts){__VA_ARGS__})
#define fdl_pairwise_distance(a, ...) fdl_pairwise_distance_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_pairwise_distance_(a, b, ...) \
    fdl_pairwise_distance_opt(a, b, &(fdl_pairwise_distance_opts){__VA_ARGS__})
#endif

#endif
