/* Resampling, and moving elements between channels and places. torch.nn.Upsample, PixelShuffle, Unfold. nn.h says what holds
 * for all constructors. */
#ifndef FLODL_NN_RESAMPLE_H
#define FLODL_NN_RESAMPLE_H

#include "flodl/module.h"
#include "flodl/pool.h"

FDL_BEGIN_DECLS

/* ---- other extents ------------------------------------------------------------------------------ */

typedef struct fdl_nn_upsample_opts {
    fdl_by_name opts_;
    fdl_shape size;            /* the result's extents, or one for all; or */
    double scale;              /* their factor, rounded down; or */
    double scale_dims[3];      /* a factor for each extent: {2, 1.5}; exactly one of the three */
    fdl_interpolate_mode mode; /* default nearest */
    bool align_corners;        /* the corners' centres stay; linear, bilinear, bicubic, trilinear only */
    bool recompute_scale;      /* with a factor: places by the extents' ratio, not by the factor itself */
} fdl_nn_upsample_opts;
/* nn.Upsample: [N, C, L], [N, C, H, W] or [N, C, D, H, W] -> other extents, smaller ones too. A mode that x's dims don't fit:
 * FDL_E_SHAPE. nn.UpsamplingNearest2d is the default, nn.UpsamplingBilinear2d bilinear with .align_corners. */
FDL_API fdl_module *fdl_nn_upsample_opt(const fdl_nn_upsample_opts *opts);

typedef struct fdl_nn_gaussian_blur_opts {
    fdl_by_name opts_;
    fdl_pad_mode padding_mode; /* what lies outside of x, default zeros */
    bool no_grad;              /* the result has no gradient */
} fdl_nn_gaussian_blur_opts;
/* fdl_gaussian_blur: [N, C, H, W] -> the same, each channel with weights exp(-i^2 / (2 sigma^2)), i = -r ... r, r = ceil(3
 * sigma). sigma, in elements, not in (0, 3000]: FDL_E_ARG; another rank: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_gaussian_blur_opt(double sigma, const fdl_nn_gaussian_blur_opts *opts);

/* ---- channels and places ------------------------------------------------------------------------ */

/* nn.PixelShuffle: [*, C r^2, H, W] -> [*, C, H r, W r]; nn.PixelUnshuffle: back. */
FDL_API fdl_module *fdl_nn_pixel_shuffle(int64_t r);
FDL_API fdl_module *fdl_nn_pixel_unshuffle(int64_t r);
/* nn.ChannelShuffle: [N, C, *], channels as [groups, C / groups] transposed -> the same shape. */
FDL_API fdl_module *fdl_nn_channel_shuffle(int64_t groups);

typedef struct fdl_nn_unfold_opts {
    fdl_by_name opts_;
    int64_t dilation;                                                /* default 1 */
    int64_t padding;                                                 /* default 0 */
    int64_t stride;                                                  /* default 1 */
    fdl_shape kernel_dims, dilation_dims, padding_dims, stride_dims; /* as a convolution's */
} fdl_nn_unfold_opts;
/* nn.Unfold: [N, C, H, W] -> [N, C k k, L], L the number of places of the kernel; N may be missing. */
FDL_API fdl_module *fdl_nn_unfold_opt(int64_t k, const fdl_nn_unfold_opts *opts);
/* nn.Fold: [N, C k k, L] -> [N, C, H, W], size FDL_DIMS(H, W), or one for both; what overlaps is summed; N may be missing. L is
 * the number of places of the kernel in size, otherwise FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_fold_opt(fdl_shape size, int64_t k, const fdl_nn_unfold_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_upsample(...) fdl_nn_upsample_opt(&(fdl_nn_upsample_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_gaussian_blur(...) fdl_nn_gaussian_blur_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_gaussian_blur_(sigma, ...) \
    fdl_nn_gaussian_blur_opt(sigma, &(fdl_nn_gaussian_blur_opts){__VA_ARGS__})
#define fdl_nn_unfold(...) fdl_nn_unfold_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_unfold_(k, ...) fdl_nn_unfold_opt(k, &(fdl_nn_unfold_opts){__VA_ARGS__})
#define fdl_nn_fold(size, ...) fdl_nn_fold_(size, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_fold_(size, k, ...) fdl_nn_fold_opt(size, k, &(fdl_nn_unfold_opts){__VA_ARGS__})
#endif

#endif
