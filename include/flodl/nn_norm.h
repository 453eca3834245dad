/* Normalisation. torch.nn.LayerNorm, BatchNorm2d and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_NORM_H
#define FLODL_NN_NORM_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- normalisation ------------------------------------------------------------------------------ */

typedef struct fdl_nn_layer_norm_opts {
    fdl_by_name opts_;
    fdl_shape shape; /* several trailing dims instead of one; n is 0 then */
    double eps;      /* default 1e-5 */
    bool no_affine;  /* no parameters */
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_layer_norm_opts;
/* nn.LayerNorm: [*, n] -> the same. Parameters weight, ones, and bias, zeros, [n]. */
FDL_API fdl_module *fdl_nn_layer_norm_opt(int64_t n, const fdl_nn_layer_norm_opts *opts);

typedef struct fdl_nn_rms_norm_opts {
    fdl_by_name opts_;
    fdl_shape shape; /* as layer_norm's */
    double eps;      /* default: the machine epsilon of x's dtype */
    bool no_affine;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_rms_norm_opts;
/* nn.RMSNorm: [*, n] -> the same, x / sqrt(mean(x^2) + eps) * weight. Parameter weight, ones, [n]. */
FDL_API fdl_module *fdl_nn_rms_norm_opt(int64_t n, const fdl_nn_rms_norm_opts *opts);

typedef struct fdl_nn_group_norm_opts {
    fdl_by_name opts_;
    double eps; /* default 1e-5 */
    bool no_affine;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_group_norm_opts;
/* nn.GroupNorm: [N, channels, *] -> the same. groups divides channels. Parameters weight, ones, bias, zeros,
 * [channels]. */
FDL_API fdl_module *fdl_nn_group_norm_opt(int64_t groups, int64_t channels,
                                          const fdl_nn_group_norm_opts *opts);

typedef struct fdl_nn_batch_norm_opts {
    fdl_by_name opts_;
    double eps;      /* default 1e-5 */
    double momentum; /* of the running statistics, default 0.1 */
    bool cumulative; /* their plain mean over all batches instead; not together with .momentum */
    bool no_affine;  /* no parameters */
    bool no_stats;   /* no buffers: batch statistics in evaluation too */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_batch_norm_opts;
/* nn.BatchNorm1d ([N, n] or [N, n, L]), 2d ([N, n, H, W]), 3d ([N, n, D, H, W]), and any rank from [N, n] on;
 * another rank, or one value a channel in training: FDL_E_SHAPE. Training normalises with the batch's biased
 * variance and moves running_mean and running_var (unbiased) by momentum; evaluation uses those. Freezing
 * parameters doesn't stop them. Parameters weight, ones, bias, zeros, [n]; buffers running_mean, zeros,
 * running_var, ones, [n], num_batches_tracked, int64 []. */
FDL_API fdl_module *fdl_nn_batch_norm_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm1d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm2d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
FDL_API fdl_module *fdl_nn_batch_norm3d_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);

/* nn.SyncBatchNorm: any rank from [N, n] on, options, parameters and buffers of batch_norm. With fdl_nn_sync_ranks training
 * takes the statistics of the batches of all ranks together; alone it is batch_norm. */
FDL_API fdl_module *fdl_nn_sync_batch_norm_opt(int64_t n, const fdl_nn_batch_norm_opts *opts);
/* Replaces the values of x by their sum over all ranks: FDL_OK, or the error, which fails the forward or the backward. */
typedef fdl_status (*fdl_rank_sum)(fdl_tensor *x, void *ctx);
/* Every sync_batch_norm in m's tree sums its statistics by `sum` from now on (NULL: this rank alone, as in the beginning):
 * each training forward calls it once with [2 n + 1] in float64 on the module's device, and the backward through it once again;
 * so all ranks make the same calls in the same order. Ranks' batches may have unlike sizes. ctx is borrowed, as long as
 * forwards and their backwards run. Copies of a module are alone at first. NULL m: FDL_E_NULL. */
FDL_API fdl_status fdl_nn_sync_ranks(fdl_module *m, fdl_rank_sum sum, void *ctx);

typedef struct fdl_nn_instance_norm_opts {
    fdl_by_name opts_;
    double eps;      /* default 1e-5 */
    double momentum; /* of the running statistics, default 0.1 */
    bool affine;     /* weight and bias */
    bool stats;      /* running statistics, which evaluation uses */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_instance_norm_opts;
/* nn.InstanceNorm1d ([N, n, L] or [n, L]), 2d ([N, n, H, W] or [n, H, W]), 3d ([N, n, D, H, W] or [n, D, H, W]), and [N, n,
 * *] with one place dim at least: over the places of each channel of each sample, by their biased variance. Another rank or
 * number of channels, or one place where the sample's own statistics are used: FDL_E_SHAPE. With .affine parameters weight,
 * ones, bias, zeros, [n]; with .stats buffers running_mean, zeros, running_var, ones, [n], num_batches_tracked, int64 [], which
 * stays 0 as in PyTorch. */
FDL_API fdl_module *fdl_nn_instance_norm_opt(int64_t n, const fdl_nn_instance_norm_opts *opts);
FDL_API fdl_module *fdl_nn_instance_norm1d_opt(int64_t n, const fdl_nn_instance_norm_opts *opts);
FDL_API fdl_module *fdl_nn_instance_norm2d_opt(int64_t n, const fdl_nn_instance_norm_opts *opts);
FDL_API fdl_module *fdl_nn_instance_norm3d_opt(int64_t n, const fdl_nn_instance_norm_opts *opts);

typedef struct fdl_nn_local_response_norm_opts {
    fdl_by_name opts_;
    double alpha; /* default 1e-4 */
    double beta;  /* default 0.75 */
    double k;     /* default 1 */
} fdl_nn_local_response_norm_opts;
/* nn.LocalResponseNorm: [N, C, *] -> the same, x / (k + alpha mean(x^2 of `size` channels around))^beta; 3 dims at least,
 * otherwise FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_local_response_norm_opt(int64_t size, const fdl_nn_local_response_norm_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_layer_norm(...) fdl_nn_layer_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_layer_norm_(n, ...) fdl_nn_layer_norm_opt(n, &(fdl_nn_layer_norm_opts){__VA_ARGS__})
#define fdl_nn_rms_norm(...) fdl_nn_rms_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_rms_norm_(n, ...) fdl_nn_rms_norm_opt(n, &(fdl_nn_rms_norm_opts){__VA_ARGS__})
#define fdl_nn_group_norm(groups, ...) fdl_nn_group_norm_(groups, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_group_norm_(groups, channels, ...) \
    fdl_nn_group_norm_opt(groups, channels, &(fdl_nn_group_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm(...) fdl_nn_batch_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm_(n, ...) fdl_nn_batch_norm_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm1d(...) fdl_nn_batch_norm1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm1d_(n, ...) fdl_nn_batch_norm1d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm2d(...) fdl_nn_batch_norm2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm2d_(n, ...) fdl_nn_batch_norm2d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_batch_norm3d(...) fdl_nn_batch_norm3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_batch_norm3d_(n, ...) fdl_nn_batch_norm3d_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_sync_batch_norm(...) fdl_nn_sync_batch_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_sync_batch_norm_(n, ...) fdl_nn_sync_batch_norm_opt(n, &(fdl_nn_batch_norm_opts){__VA_ARGS__})
#define fdl_nn_instance_norm(...) fdl_nn_instance_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_instance_norm_(n, ...) fdl_nn_instance_norm_opt(n, &(fdl_nn_instance_norm_opts){__VA_ARGS__})
#define fdl_nn_instance_norm1d(...) fdl_nn_instance_norm1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_instance_norm1d_(n, ...) \
    fdl_nn_instance_norm1d_opt(n, &(fdl_nn_instance_norm_opts){__VA_ARGS__})
#define fdl_nn_instance_norm2d(...) fdl_nn_instance_norm2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_instance_norm2d_(n, ...) \
    fdl_nn_instance_norm2d_opt(n, &(fdl_nn_instance_norm_opts){__VA_ARGS__})
#define fdl_nn_instance_norm3d(...) fdl_nn_instance_norm3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_instance_norm3d_(n, ...) \
    fdl_nn_instance_norm3d_opt(n, &(fdl_nn_instance_norm_opts){__VA_ARGS__})
#define fdl_nn_local_response_norm(...) fdl_nn_local_response_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_local_response_norm_(size, ...) \
    fdl_nn_local_response_norm_opt(size, &(fdl_nn_local_response_norm_opts){__VA_ARGS__})
#endif

#endif
