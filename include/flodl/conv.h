/* Convolutions. Differentiable in x, w and bias.
 *
 * A scalar option covers every spatial dim; .stride_dims = FDL_DIMS(2, 1), and likewise for the others, sets
 * each. Not one value for each dim, both forms at once, or a value out of range: FDL_E_ARG. Shapes that don't
 * fit: FDL_E_SHAPE. The batch dim of x may be missing, and is then missing from the result; a batch of 0
 * works. */
#ifndef FLODL_CONV_H
#define FLODL_CONV_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_conv_opts {
    fdl_by_name opts_;
    fdl_tensor *bias; /* [out] */
    int64_t stride;   /* default 1 */
    int64_t padding;  /* zeros on both sides, default 0 */
    int64_t dilation; /* distance between the kernel's elements, default 1 */
    int64_t groups;   /* default 1 */
    bool same;        /* as much padding as keeps the extents; stride 1 only */
    fdl_shape stride_dims, padding_dims, dilation_dims;
} fdl_conv_opts;
/* F.conv1d: x [N, in, L], w [out, in / groups, k] -> [N, out, L'], L' = floor((L + 2p - d(k - 1) - 1) / s)
 * + 1. */
FDL_API fdl_tensor *fdl_conv1d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts);
/* F.conv2d: x [N, in, H, W], w [out, in / groups, kH, kW] -> [N, out, H', W']. */
FDL_API fdl_tensor *fdl_conv2d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts);
/* F.conv3d: x [N, in, D, H, W], w [out, in / groups, kD, kH, kW] -> [N, out, D', H', W']. */
FDL_API fdl_tensor *fdl_conv3d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts);

typedef struct fdl_conv_transpose_opts {
    fdl_by_name opts_;
    fdl_tensor *bias;       /* [out] */
    int64_t stride;         /* default 1 */
    int64_t padding;        /* taken off the result on both sides, default 0 */
    int64_t output_padding; /* added to the result on one side, default 0; below max(stride, dilation) */
    int64_t dilation;       /* default 1 */
    int64_t groups;         /* default 1 */
    fdl_shape stride_dims, padding_dims, output_padding_dims, dilation_dims;
} fdl_conv_transpose_opts;
/* F.conv_transpose1d, 2d, 3d: x [N, in, L], w [in, out / groups, k] -> [N, out, L'], L' = (L - 1)s - 2p + d(k
 * - 1) + op + 1; likewise [N, in, H, W] and [N, in, D, H, W]. */
FDL_API fdl_tensor *fdl_conv_transpose1d_opt(fdl_tensor *x, fdl_tensor *w,
                                             const fdl_conv_transpose_opts *opts);
FDL_API fdl_tensor *fdl_conv_transpose2d_opt(fdl_tensor *x, fdl_tensor *w,
                                             const fdl_conv_transpose_opts *opts);
FDL_API fdl_tensor *fdl_conv_transpose3d_opt(fdl_tensor *x, fdl_tensor *w,
                                             const fdl_conv_transpose_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_conv1d(x, ...) fdl_conv1d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv1d_(x, w, ...) fdl_conv1d_opt(x, w, &(fdl_conv_opts){__VA_ARGS__})
#define fdl_conv2d(x, ...) fdl_conv2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv2d_(x, w, ...) fdl_conv2d_opt(x, w, &(fdl_conv_opts){__VA_ARGS__})
#define fdl_conv3d(x, ...) fdl_conv3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv3d_(x, w, ...) fdl_conv3d_opt(x, w, &(fdl_conv_opts){__VA_ARGS__})
#define fdl_conv_transpose1d(x, ...) fdl_conv_transpose1d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv_transpose1d_(x, w, ...) \
    fdl_conv_transpose1d_opt(x, w, &(fdl_conv_transpose_opts){__VA_ARGS__})
#define fdl_conv_transpose2d(x, ...) fdl_conv_transpose2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv_transpose2d_(x, w, ...) \
    fdl_conv_transpose2d_opt(x, w, &(fdl_conv_transpose_opts){__VA_ARGS__})
#define fdl_conv_transpose3d(x, ...) fdl_conv_transpose3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_conv_transpose3d_(x, w, ...) \
    fdl_conv_transpose3d_opt(x, w, &(fdl_conv_transpose_opts){__VA_ARGS__})
#endif

#endif
