/* Pooling and unpooling. torch.nn.MaxPool2d and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_POOL_H
#define FLODL_NN_POOL_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- pooling: [N, C, ...], N may be missing ----------------------------------------------------- */

typedef struct fdl_nn_max_pool_opts {
    fdl_by_name opts_;
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
    fdl_by_name opts_;
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

/* nn.AdaptiveAvgPool1d, 2d, 3d, nn.AdaptiveMaxPool1d, 2d, 3d: to these extents; 0 keeps the input's. */
FDL_API fdl_module *fdl_nn_adaptive_avg_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_avg_pool3d(int64_t d, int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool1d(int64_t n);
FDL_API fdl_module *fdl_nn_adaptive_max_pool2d(int64_t h, int64_t w);
FDL_API fdl_module *fdl_nn_adaptive_max_pool3d(int64_t d, int64_t h, int64_t w);

typedef struct fdl_nn_lp_pool_opts {
    fdl_by_name opts_;
    int64_t stride; /* default: the kernel */
    fdl_shape kernel_dims, stride_dims;
    bool ceil_mode; /* the last window may hang over the end; what is missing there counts as its mean */
} fdl_nn_lp_pool_opts;
/* nn.LPPool1d, 2d, 3d: (sum of x^p)^(1/p) over each window; p not 0. Extents as an average pool's without padding. */
FDL_API fdl_module *fdl_nn_lp_pool1d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts);
FDL_API fdl_module *fdl_nn_lp_pool2d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts);
FDL_API fdl_module *fdl_nn_lp_pool3d_opt(double p, int64_t k, const fdl_nn_lp_pool_opts *opts);

typedef struct fdl_nn_fractional_max_pool_opts {
    fdl_by_name opts_;
    fdl_shape size;       /* the result's extents, FDL_DIMS(H, W), or one for all; or */
    double ratio;         /* their part of the input's, in (0, 1); or */
    double ratio_dims[3]; /* for each extent: {0.5, 0.7}; exactly one of the three */
    fdl_shape kernel_dims;
} fdl_nn_fractional_max_pool_opts;
/* nn.FractionalMaxPool2d, 3d: windows of extent k at places that each forward draws anew for each channel, in evaluation too.
 * [N, C, H, W] or [N, C, D, H, W], N may be missing; extents that have no room for the windows: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_fractional_max_pool2d_opt(int64_t k, const fdl_nn_fractional_max_pool_opts *opts);
FDL_API fdl_module *fdl_nn_fractional_max_pool3d_opt(int64_t k, const fdl_nn_fractional_max_pool_opts *opts);

/* ---- indices ------------------------------------------------------------------------------------ */

/* return_indices=True of a max pool, an adaptive or a fractional one (another module: FDL_E_ARG): its forward, and in *indices
 * where in the plane of x each value was, int64 in the result's shape (both scope; NULL on failure; indices NULL: not wanted). */
FDL_API fdl_tensor *fdl_nn_max_pool_forward(fdl_module *m, fdl_tensor *x, fdl_tensor **indices);

typedef struct fdl_nn_max_unpool_opts {
    fdl_by_name opts_;
    int64_t stride;  /* default: the kernel */
    int64_t padding; /* default 0 */
    fdl_shape kernel_dims, stride_dims, padding_dims;
} fdl_nn_max_unpool_opts;
/* nn.MaxUnpool1d, 2d, 3d: two inputs, fdl_forward(m, x, indices), in a flow the ref "indices": the values of x to where a max
 * pool of this kernel, stride and padding took them from, zeros elsewhere; each extent (L - 1) stride - 2 padding + k. One input:
 * FDL_E_ARG; indices of another shape: FDL_E_SHAPE; not int64: FDL_E_DTYPE. */
FDL_API fdl_module *fdl_nn_max_unpool1d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts);
FDL_API fdl_module *fdl_nn_max_unpool2d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts);
FDL_API fdl_module *fdl_nn_max_unpool3d_opt(int64_t k, const fdl_nn_max_unpool_opts *opts);

typedef struct fdl_nn_max_unpool_forward_opts {
    fdl_by_name opts_;
    fdl_shape size; /* the result's extents (output_size), within a stride of the usual ones */
} fdl_nn_max_unpool_forward_opts;
/* The forward of a max_unpool with extents of one's own: a pool gives the same for several extents of its input. */
FDL_API fdl_tensor *fdl_nn_max_unpool_forward_opt(fdl_module *m, fdl_tensor *x, fdl_tensor *indices,
                                                  const fdl_nn_max_unpool_forward_opts *opts);

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
#define fdl_nn_lp_pool1d(p, ...) fdl_nn_lp_pool1d_(p, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lp_pool1d_(p, k, ...) fdl_nn_lp_pool1d_opt(p, k, &(fdl_nn_lp_pool_opts){__VA_ARGS__})
#define fdl_nn_lp_pool2d(p, ...) fdl_nn_lp_pool2d_(p, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lp_pool2d_(p, k, ...) fdl_nn_lp_pool2d_opt(p, k, &(fdl_nn_lp_pool_opts){__VA_ARGS__})
#define fdl_nn_lp_pool3d(p, ...) fdl_nn_lp_pool3d_(p, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lp_pool3d_(p, k, ...) fdl_nn_lp_pool3d_opt(p, k, &(fdl_nn_lp_pool_opts){__VA_ARGS__})
#define fdl_nn_fractional_max_pool2d(...) fdl_nn_fractional_max_pool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_fractional_max_pool2d_(k, ...) \
    fdl_nn_fractional_max_pool2d_opt(k, &(fdl_nn_fractional_max_pool_opts){__VA_ARGS__})
#define fdl_nn_fractional_max_pool3d(...) fdl_nn_fractional_max_pool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_fractional_max_pool3d_(k, ...) \
    fdl_nn_fractional_max_pool3d_opt(k, &(fdl_nn_fractional_max_pool_opts){__VA_ARGS__})
#define fdl_nn_max_unpool1d(...) fdl_nn_max_unpool1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_unpool1d_(k, ...) fdl_nn_max_unpool1d_opt(k, &(fdl_nn_max_unpool_opts){__VA_ARGS__})
#define fdl_nn_max_unpool2d(...) fdl_nn_max_unpool2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_unpool2d_(k, ...) fdl_nn_max_unpool2d_opt(k, &(fdl_nn_max_unpool_opts){__VA_ARGS__})
#define fdl_nn_max_unpool3d(...) fdl_nn_max_unpool3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_unpool3d_(k, ...) fdl_nn_max_unpool3d_opt(k, &(fdl_nn_max_unpool_opts){__VA_ARGS__})
#define fdl_nn_max_unpool_forward(m, x, ...) fdl_nn_max_unpool_forward_(m, x, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_max_unpool_forward_(m, x, indices, ...) \
    fdl_nn_max_unpool_forward_opt(m, x, indices, &(fdl_nn_max_unpool_forward_opts){__VA_ARGS__})
#endif

#endif
