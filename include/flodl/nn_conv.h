/* Convolutions and transposed ones in 1 to 3 dims. torch.nn.Conv2d, ConvTranspose2d. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_CONV_H
#define FLODL_NN_CONV_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- convolution -------------------------------------------------------------------------------- */

/* A plain option holds for every spatial dim, its _dims form has one number for each (another count, or both
 * forms: FDL_E_ARG). With .kernel_dims k is 0. */
typedef struct fdl_nn_conv_opts {
    fdl_by_name opts_;
    int64_t stride;   /* default 1 */
    int64_t padding;  /* default 0 */
    int64_t dilation; /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, dilation_dims;
    int64_t groups; /* default 1; divides in and out */
    bool same;      /* as much padding as keeps the extents; strides are 1 then */
    fdl_pad_mode padding_mode;
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_conv_opts;
/* nn.Conv1d, 2d, 3d: [N, in, L | H, W | D, H, W], N may be missing -> [N, out, ...], each extent
 * floor((L + 2 padding - dilation (k - 1) - 1) / stride) + 1. Parameters weight [out, in / groups, k...],
 * bias [out], uniform within 1/sqrt(in / groups * product of k). */
FDL_API fdl_module *fdl_nn_conv1d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);
FDL_API fdl_module *fdl_nn_conv2d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);
FDL_API fdl_module *fdl_nn_conv3d_opt(int64_t in, int64_t out, int64_t k, const fdl_nn_conv_opts *opts);

typedef struct fdl_nn_conv_transpose_opts {
    fdl_by_name opts_;
    int64_t stride;         /* default 1 */
    int64_t padding;        /* default 0 */
    int64_t output_padding; /* added at one end of the result; less than stride or than dilation; default 0 */
    int64_t dilation;       /* default 1 */
    fdl_shape kernel_dims, stride_dims, padding_dims, output_padding_dims, dilation_dims;
    int64_t groups; /* default 1; divides in and out */
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_conv_transpose_opts;
/* nn.ConvTranspose1d, 2d, 3d: [N, in, ...], N may be missing -> [N, out, ...], each extent
 * (L - 1) stride - 2 padding + dilation (k - 1) + output_padding + 1. Parameters weight [in, out / groups,
 * k...], bias [out], uniform within 1/sqrt(out / groups * product of k). */
FDL_API fdl_module *fdl_nn_conv_transpose1d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);
FDL_API fdl_module *fdl_nn_conv_transpose2d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);
FDL_API fdl_module *fdl_nn_conv_transpose3d_opt(int64_t in, int64_t out, int64_t k,
                                                const fdl_nn_conv_transpose_opts *opts);

typedef struct fdl_nn_conv_transpose_forward_opts {
    fdl_by_name opts_;
    fdl_shape size; /* the result's extents, FDL_DIMS(H, W), instead of those that output_padding gives */
} fdl_nn_conv_transpose_forward_opts;
/* The forward of a transposed convolution (another module: FDL_E_ARG) with output_size: several extents lead to the same one of
 * a convolution with a stride. [N, in, ...] -> [N, out, size]; one that isn't less than a stride above
 * (L - 1) stride - 2 padding + dilation (k - 1) + 1: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_nn_conv_transpose_forward_opt(fdl_module *m, fdl_tensor *x,
                                                      const fdl_nn_conv_transpose_forward_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define FDL_NN_CONV_OPTS_(...) (&(fdl_nn_conv_opts){__VA_ARGS__})
#define fdl_nn_conv1d(in, out, ...) fdl_nn_conv1d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv1d_(in, out, k, ...) fdl_nn_conv1d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define fdl_nn_conv2d(in, out, ...) fdl_nn_conv2d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv2d_(in, out, k, ...) fdl_nn_conv2d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define fdl_nn_conv3d(in, out, ...) fdl_nn_conv3d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv3d_(in, out, k, ...) fdl_nn_conv3d_opt(in, out, k, FDL_NN_CONV_OPTS_(__VA_ARGS__))
#define FDL_NN_CONV_TRANSPOSE_OPTS_(...) (&(fdl_nn_conv_transpose_opts){__VA_ARGS__})
#define fdl_nn_conv_transpose1d(in, out, ...) fdl_nn_conv_transpose1d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose1d_(in, out, k, ...) \
    fdl_nn_conv_transpose1d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))
#define fdl_nn_conv_transpose2d(in, out, ...) fdl_nn_conv_transpose2d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose2d_(in, out, k, ...) \
    fdl_nn_conv_transpose2d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))
#define fdl_nn_conv_transpose3d(in, out, ...) fdl_nn_conv_transpose3d_(in, out, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose3d_(in, out, k, ...) \
    fdl_nn_conv_transpose3d_opt(in, out, k, FDL_NN_CONV_TRANSPOSE_OPTS_(__VA_ARGS__))
#define fdl_nn_conv_transpose_forward(m, ...) fdl_nn_conv_transpose_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_conv_transpose_forward_(m, x, ...) \
    fdl_nn_conv_transpose_forward_opt(m, x, &(fdl_nn_conv_transpose_forward_opts){__VA_ARGS__})
#endif

#endif
