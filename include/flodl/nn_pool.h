/* Pooling. torch.nn.MaxPool2d and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_POOL_H
#define FLODL_NN_POOL_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- pooling: [N, C, ...], N may be missing ----------------------------------------------------- */

typedef struct fdl_nn_max_pool_opts {
    int opts_;
    int64_t stride;                                                  /* default: the kernel */
    int64_t padding;                                                 /* default 0; at most half the kernel */
    int64_t dilation;                                                /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, dilation_dims; /* as a convolution's */
    bool ceil_mode; /* the last window may hang over the end */
} fdl_nn_max_pool_opts;
/* nn.MaxPool1d, 2d, 3d: each extent floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1. */
FDL_API fdl_module *fdl_nn_max_pool1d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);
FDL_API fdl_module *fdl_nn_max_pool2d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);
FDL_API fdl_module *fdl_nn_max_pool3d_opt(int64_t k, const fdl_nn_max_pool_opts *opts);

typedef struct fdl_nn_avg_pool_opts {
    int opts_;
    int64_t stride;  /* default: the kernel */
    int64_t padding; /* default 0; at most half the kernel */
    fdl_shape kernel_dims, stride_dims, padding_dims;
    bool ceil_mode;
    bool exclude_pad; /* padding doesn't count in the mean */
    int64_t divisor;  /* instead of the window's size; 2d and 3d only */
} fdl_nn_avg_pool_opts;
/* nn.AvgPool1d, 2d, 3d. */
FDL_API fdl_module *fdl_nn_avg_pool1d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);
FDL_API fdl_module *fdl_nn_avg_pool2d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);
FDL_API fdl_module *fdl_nn_avg_pool3d_opt(int64_t k, const fdl_nn_avg_pool_opts *opts);

/* nn.AdaptiveAvgPool, nn.AdaptiveMaxPool: to these extents; 0 keeps the input's. */
FDL_API fdl_module *fdl_nn_adaptive_avg_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool3d(int64_t d, int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_max_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool3d(int64_t d, int64_t h, int64_t w);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_max_pool1d(...) fdl_nn_max_pool1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool1d_(k, ...) fdl_nn_max_pool1d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_max_pool2d(...) fdl_nn_max_pool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool2d_(k, ...) fdl_nn_max_pool2d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_max_pool3d(...) fdl_nn_max_pool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_pool3d_(k, ...) fdl_nn_max_pool3d_opt(k, &(fdl_nn_max_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool1d(...) fdl_nn_avg_pool1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool1d_(k, ...) fdl_nn_avg_pool1d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool2d(...) fdl_nn_avg_pool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool2d_(k, ...) fdl_nn_avg_pool2d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})
#define fdl_nn_avg_pool3d(...) fdl_nn_avg_pool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_avg_pool3d_(k, ...) fdl_nn_avg_pool3d_opt(k, &(fdl_nn_avg_pool_opts){__VA_ARGS__})
#endif

#endif
