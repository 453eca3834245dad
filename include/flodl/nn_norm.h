/* Normalisation. torch.nn.LayerNorm, BatchNorm2d and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_NORM_H
#define FLODL_NN_NORM_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- normalisation ------------------------------------------------------------------------------ */

typedef struct fdl_nn_layer_norm_opts {
    int opts_;
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
    int opts_;
    fdl_shape shape; /* as layer_norm's */
    double eps;      /* default: the machine epsilon of x's dtype */
    bool no_affine;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_rms_norm_opts;
/* nn.RMSNorm: [*, n] -> the same, x / sqrt(mean(x^2) + eps) * weight. Parameter weight, ones, [n]. */
FDL_API fdl_module *fdl_nn_rms_norm_opt(int64_t n, const fdl_nn_rms_norm_opts *opts);

typedef struct fdl_nn_group_norm_opts {
    int opts_;
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
    int opts_;
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
#endif

#endif
