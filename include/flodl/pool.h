/* Pooling, resampling, and moving elements between channels and places. Differentiable in x.
 *
 * x has a batch dim and channels before its spatial dims ([N, C, L], [N, C, H, W], [N, C, D, H, W]); the
 * batch dim may be missing where nothing else is said. k is the kernel's extent in every spatial dim; k = 0
 * with .kernel_dims = FDL_DIMS(2, 3) sets each, as .stride_dims and so on do. Wrong counts or values:
 * FDL_E_ARG; shapes that don't fit: FDL_E_SHAPE. */
#ifndef FLODL_POOL_H
#define FLODL_POOL_H

#include "flodl/shape.h"
#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- pooling ------------------------------------------------------------------------------------- */

typedef struct fdl_max_pool_opts {
    fdl_by_name opts_;
    int64_t stride;       /* default k */
    int64_t padding;      /* -inf on both sides, at most k / 2; default 0 */
    int64_t dilation;     /* default 1 */
    bool ceil_mode;       /* round the result's extents up */
    fdl_tensor **indices; /* int64 positions in the plane of x, filled when given (scope) */
    fdl_shape kernel_dims, stride_dims, padding_dims, dilation_dims;
} fdl_max_pool_opts;
/* F.max_pool1d, 2d, 3d: extents floor((L + 2p - d(k - 1) - 1) / s) + 1. The gradient goes to the first
 * largest element. */
FDL_API fdl_tensor *fdl_max_pool1d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts);
FDL_API fdl_tensor *fdl_max_pool2d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts);
FDL_API fdl_tensor *fdl_max_pool3d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts);

typedef struct fdl_avg_pool_opts {
    fdl_by_name opts_;
    int64_t stride;  /* default k */
    int64_t padding; /* zeros on both sides, at most k / 2; default 0 */
    bool ceil_mode;
    bool exclude_pad; /* the padding does not count in the mean (count_include_pad = False) */
    int64_t divisor;  /* instead of the number of elements */
    fdl_shape kernel_dims, stride_dims, padding_dims;
} fdl_avg_pool_opts;
/* F.avg_pool1d, 2d, 3d: extents floor((L + 2p - k) / s) + 1. */
FDL_API fdl_tensor *fdl_avg_pool1d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts);
FDL_API fdl_tensor *fdl_avg_pool2d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts);
FDL_API fdl_tensor *fdl_avg_pool3d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts);

/* F.adaptive_avg_pool1d, 2d, 3d: the result's extents are size, FDL_DIMS(h, w), or one value for all; 0 keeps
 * x's. */
FDL_API fdl_tensor *fdl_adaptive_avg_pool1d(fdl_tensor *x, fdl_shape size);
FDL_API fdl_tensor *fdl_adaptive_avg_pool2d(fdl_tensor *x, fdl_shape size);
FDL_API fdl_tensor *fdl_adaptive_avg_pool3d(fdl_tensor *x, fdl_shape size);
typedef struct fdl_adaptive_max_pool_opts {
    fdl_by_name opts_;
    fdl_tensor **indices; /* int64 positions in the plane of x, filled when given (scope) */
} fdl_adaptive_max_pool_opts;
FDL_API fdl_tensor *fdl_adaptive_max_pool1d_opt(fdl_tensor *x, fdl_shape size,
                                                const fdl_adaptive_max_pool_opts *opts);
FDL_API fdl_tensor *fdl_adaptive_max_pool2d_opt(fdl_tensor *x, fdl_shape size,
                                                const fdl_adaptive_max_pool_opts *opts);
FDL_API fdl_tensor *fdl_adaptive_max_pool3d_opt(fdl_tensor *x, fdl_shape size,
                                                const fdl_adaptive_max_pool_opts *opts);

typedef struct fdl_lp_pool_opts {
    fdl_by_name opts_;
    int64_t stride; /* default k */
    bool ceil_mode;
    fdl_shape kernel_dims, stride_dims;
} fdl_lp_pool_opts;
/* F.lp_pool1d, 2d, 3d: (sum of x^p)^(1/p) over the kernel; p not 0. The extents are those of
 * fdl_avg_pool without padding. */
FDL_API fdl_tensor *fdl_lp_pool1d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts);
FDL_API fdl_tensor *fdl_lp_pool2d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts);
FDL_API fdl_tensor *fdl_lp_pool3d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts);

typedef struct fdl_max_unpool_opts {
    fdl_by_name opts_;
    int64_t stride;  /* default k */
    int64_t padding; /* default 0 */
    fdl_shape
        size; /* the result's extents, FDL_DIMS(H, W); default (L - 1)s - 2p + k in each; within a stride of that */
    fdl_shape kernel_dims, stride_dims, padding_dims;
} fdl_max_unpool_opts;
/* F.max_unpool1d, 2d, 3d: x [N, C, l | h, w | d, h, w], N may be missing, back to where indices (int64, of x's shape, from a
 * max pool) took it from, zeros elsewhere. */
FDL_API fdl_tensor *fdl_max_unpool1d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                         const fdl_max_unpool_opts *opts);
FDL_API fdl_tensor *fdl_max_unpool2d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                         const fdl_max_unpool_opts *opts);
FDL_API fdl_tensor *fdl_max_unpool3d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                         const fdl_max_unpool_opts *opts);

typedef struct fdl_fractional_max_pool_opts {
    fdl_by_name opts_;
    fdl_shape size;       /* the result's extents, FDL_DIMS(H, W), or one for all; or */
    double ratio;         /* their part of x's, in (0, 1); or */
    double ratio_dims[3]; /* for each extent: {0.5, 0.7}; exactly one of the three */
    fdl_tensor **indices; /* int64 positions in the plane of x, filled when given (scope) */
    fdl_tensor *samples;  /* [N, C, 2 | 3] in [0, 1), of x's dtype: the windows' places; default: drawn */
    fdl_generator *generator;
    fdl_shape kernel_dims;
} fdl_fractional_max_pool_opts;
/* F.fractional_max_pool2d, 3d: windows of extent k at places that are drawn for each channel. x [N, C, H, W] or
 * [N, C, D, H, W], N may be missing. */
FDL_API fdl_tensor *fdl_fractional_max_pool2d_opt(fdl_tensor *x, int64_t k,
                                                  const fdl_fractional_max_pool_opts *opts);
FDL_API fdl_tensor *fdl_fractional_max_pool3d_opt(fdl_tensor *x, int64_t k,
                                                  const fdl_fractional_max_pool_opts *opts);

/* ---- resampling ----------------------------------------------------------------------------------- */

typedef enum fdl_interpolate_mode {
    FDL_INTERPOLATE_NEAREST = 0,
    FDL_INTERPOLATE_NEAREST_EXACT,
    FDL_INTERPOLATE_LINEAR,    /* [N, C, L] */
    FDL_INTERPOLATE_BILINEAR,  /* [N, C, H, W] */
    FDL_INTERPOLATE_BICUBIC,   /* [N, C, H, W] */
    FDL_INTERPOLATE_TRILINEAR, /* [N, C, D, H, W] */
    FDL_INTERPOLATE_AREA       /* means, as adaptive_avg_pool */
} fdl_interpolate_mode;
typedef struct fdl_interpolate_opts {
    fdl_by_name opts_;
    fdl_shape size;            /* the result's extents, or one for all; or */
    double scale;              /* their factor, rounded down; or */
    double scale_dims[3];      /* a factor for each extent: {2, 1.5}; exactly one of the three */
    fdl_interpolate_mode mode; /* default nearest */
    bool align_corners;        /* the corners' centres stay; linear, bilinear, bicubic, trilinear only */
    bool antialias;            /* when it gets smaller; bilinear and bicubic only */
    bool recompute_scale;      /* with a factor: places by the extents' ratio, not by the factor itself */
} fdl_interpolate_opts;
/* F.interpolate: x [N, C, L], [N, C, H, W] or [N, C, D, H, W] -> other extents. A mode that x's dims don't
 * fit: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_interpolate_opt(fdl_tensor *x, const fdl_interpolate_opts *opts);

typedef struct fdl_gaussian_blur_opts {
    fdl_by_name opts_;
    fdl_pad_mode padding_mode; /* what lies outside of x, default zeros */
    bool no_grad;              /* the result has no gradient */
} fdl_gaussian_blur_opts;
/* A blur: x [N, C, H, W] -> the same shape, each channel with weights exp(-i^2 / (2 sigma^2)), i = -r ... r, r = ceil(3 sigma),
 * which sum to 1: first along W, then along H. sigma, in elements, not in (0, 3000]: FDL_E_ARG; FDL_PAD_REFLECT needs extents above
 * r. torchvision.transforms.functional.gaussian_blur with a kernel of 2 r + 1 reflects. */
FDL_API fdl_tensor *fdl_gaussian_blur_opt(fdl_tensor *x, double sigma, const fdl_gaussian_blur_opts *opts);

typedef enum fdl_grid_mode { FDL_GRID_BILINEAR = 0, FDL_GRID_NEAREST, FDL_GRID_BICUBIC } fdl_grid_mode;
typedef enum fdl_grid_padding { FDL_GRID_ZEROS = 0, FDL_GRID_BORDER, FDL_GRID_REFLECTION } fdl_grid_padding;
typedef struct fdl_grid_sample_opts {
    fdl_by_name opts_;
    fdl_grid_mode mode;            /* default bilinear (trilinear in 5-d); bicubic in 4-d only */
    fdl_grid_padding padding_mode; /* what lies outside, default zeros */
    bool align_corners;            /* -1 and 1 are the corners' centres, not their outer edges */
} fdl_grid_sample_opts;
/* F.grid_sample: x [N, C, H, W] at grid [N, h, w, 2], (x, y) in [-1, 1] -> [N, C, h, w]; x [N, C, D, H, W] at
 * grid [N, d, h, w, 3] -> [N, C, d, h, w]. Differentiable in both. */
FDL_API fdl_tensor *fdl_grid_sample_opt(fdl_tensor *x, fdl_tensor *grid, const fdl_grid_sample_opts *opts);
typedef struct fdl_affine_grid_opts {
    fdl_by_name opts_;
    bool align_corners;
} fdl_affine_grid_opts;
/* F.affine_grid: theta [N, 2, 3] and size FDL_SHAPE(N, C, H, W) -> [N, H, W, 2]; theta [N, 3, 4] and size
 * FDL_SHAPE(N, C, D, H, W) -> [N, D, H, W, 3]. */
FDL_API fdl_tensor *fdl_affine_grid_opt(fdl_tensor *theta, fdl_shape size, const fdl_affine_grid_opts *opts);

/* ---- channels and places ----------------------------------------------------------------------------- */

/* F.pixel_shuffle: [*, C r^2, H, W] -> [*, C, H r, W r]; F.pixel_unshuffle: back. */
FDL_API fdl_tensor *fdl_pixel_shuffle(fdl_tensor *x, int64_t r);
FDL_API fdl_tensor *fdl_pixel_unshuffle(fdl_tensor *x, int64_t r);
/* F.channel_shuffle: [N, C, *], channels as [groups, C / groups] transposed. */
FDL_API fdl_tensor *fdl_channel_shuffle(fdl_tensor *x, int64_t groups);

typedef struct fdl_unfold_opts {
    fdl_by_name opts_;
    int64_t dilation; /* default 1 */
    int64_t padding;  /* default 0 */
    int64_t stride;   /* default 1 */
    fdl_shape kernel_dims, dilation_dims, padding_dims, stride_dims;
} fdl_unfold_opts;
/* F.unfold (im2col): x [N, C, H, W] -> [N, C k k, L], L the number of places of the kernel. */
FDL_API fdl_tensor *fdl_unfold_opt(fdl_tensor *x, int64_t k, const fdl_unfold_opts *opts);
/* F.fold (col2im): x [N, C k k, L] -> [N, C, H, W], size FDL_DIMS(H, W); what overlaps is summed. */
FDL_API fdl_tensor *fdl_fold_opt(fdl_tensor *x, fdl_shape size, int64_t k, const fdl_unfold_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_max_pool1d(x, ...) fdl_max_pool1d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_max_pool1d_(x, k, ...) fdl_max_pool1d_opt(x, k, &(fdl_max_pool_opts){__VA_ARGS__})
#define fdl_max_pool2d(x, ...) fdl_max_pool2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_max_pool2d_(x, k, ...) fdl_max_pool2d_opt(x, k, &(fdl_max_pool_opts){__VA_ARGS__})
#define fdl_max_pool3d(x, ...) fdl_max_pool3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_max_pool3d_(x, k, ...) fdl_max_pool3d_opt(x, k, &(fdl_max_pool_opts){__VA_ARGS__})
#define fdl_avg_pool1d(x, ...) fdl_avg_pool1d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_avg_pool1d_(x, k, ...) fdl_avg_pool1d_opt(x, k, &(fdl_avg_pool_opts){__VA_ARGS__})
#define fdl_avg_pool2d(x, ...) fdl_avg_pool2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_avg_pool2d_(x, k, ...) fdl_avg_pool2d_opt(x, k, &(fdl_avg_pool_opts){__VA_ARGS__})
#define fdl_avg_pool3d(x, ...) fdl_avg_pool3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_avg_pool3d_(x, k, ...) fdl_avg_pool3d_opt(x, k, &(fdl_avg_pool_opts){__VA_ARGS__})
#define fdl_adaptive_max_pool1d(x, ...) fdl_adaptive_max_pool1d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_adaptive_max_pool1d_(x, size, ...) \
    fdl_adaptive_max_pool1d_opt(x, size, &(fdl_adaptive_max_pool_opts){__VA_ARGS__})
#define fdl_adaptive_max_pool2d(x, ...) fdl_adaptive_max_pool2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_adaptive_max_pool2d_(x, size, ...) \
    fdl_adaptive_max_pool2d_opt(x, size, &(fdl_adaptive_max_pool_opts){__VA_ARGS__})
#define fdl_adaptive_max_pool3d(x, ...) fdl_adaptive_max_pool3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_adaptive_max_pool3d_(x, size, ...) \
    fdl_adaptive_max_pool3d_opt(x, size, &(fdl_adaptive_max_pool_opts){__VA_ARGS__})
#define fdl_lp_pool1d(x, p, ...) fdl_lp_pool1d_(x, p, __VA_ARGS__, .opts_ = 0)
#define fdl_lp_pool1d_(x, p, k, ...) fdl_lp_pool1d_opt(x, p, k, &(fdl_lp_pool_opts){__VA_ARGS__})
#define fdl_lp_pool2d(x, p, ...) fdl_lp_pool2d_(x, p, __VA_ARGS__, .opts_ = 0)
#define fdl_lp_pool2d_(x, p, k, ...) fdl_lp_pool2d_opt(x, p, k, &(fdl_lp_pool_opts){__VA_ARGS__})
#define fdl_lp_pool3d(x, p, ...) fdl_lp_pool3d_(x, p, __VA_ARGS__, .opts_ = 0)
#define fdl_lp_pool3d_(x, p, k, ...) fdl_lp_pool3d_opt(x, p, k, &(fdl_lp_pool_opts){__VA_ARGS__})
#define fdl_max_unpool1d(x, indices, ...) fdl_max_unpool1d_(x, indices, __VA_ARGS__, .opts_ = 0)
#define fdl_max_unpool1d_(x, indices, k, ...) \
    fdl_max_unpool1d_opt(x, indices, k, &(fdl_max_unpool_opts){__VA_ARGS__})
#define fdl_max_unpool3d(x, indices, ...) fdl_max_unpool3d_(x, indices, __VA_ARGS__, .opts_ = 0)
#define fdl_max_unpool3d_(x, indices, k, ...) \
    fdl_max_unpool3d_opt(x, indices, k, &(fdl_max_unpool_opts){__VA_ARGS__})
#define fdl_max_unpool2d(x, indices, ...) fdl_max_unpool2d_(x, indices, __VA_ARGS__, .opts_ = 0)
#define fdl_max_unpool2d_(x, indices, k, ...) \
    fdl_max_unpool2d_opt(x, indices, k, &(fdl_max_unpool_opts){__VA_ARGS__})
#define fdl_fractional_max_pool2d(x, ...) fdl_fractional_max_pool2d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_fractional_max_pool2d_(x, k, ...) \
    fdl_fractional_max_pool2d_opt(x, k, &(fdl_fractional_max_pool_opts){__VA_ARGS__})
#define fdl_fractional_max_pool3d(x, ...) fdl_fractional_max_pool3d_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_fractional_max_pool3d_(x, k, ...) \
    fdl_fractional_max_pool3d_opt(x, k, &(fdl_fractional_max_pool_opts){__VA_ARGS__})
#define fdl_gaussian_blur(x, ...) fdl_gaussian_blur_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_gaussian_blur_(x, sigma, ...) \
    fdl_gaussian_blur_opt(x, sigma, &(fdl_gaussian_blur_opts){__VA_ARGS__})
#define fdl_interpolate(...) fdl_interpolate_(__VA_ARGS__, .opts_ = 0)
#define fdl_interpolate_(x, ...) fdl_interpolate_opt(x, &(fdl_interpolate_opts){__VA_ARGS__})
#define fdl_grid_sample(x, ...) fdl_grid_sample_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_grid_sample_(x, grid, ...) fdl_grid_sample_opt(x, grid, &(fdl_grid_sample_opts){__VA_ARGS__})
#define fdl_affine_grid(theta, ...) fdl_affine_grid_(theta, __VA_ARGS__, .opts_ = 0)
#define fdl_affine_grid_(theta, size, ...) \
    fdl_affine_grid_opt(theta, size, &(fdl_affine_grid_opts){__VA_ARGS__})
#define fdl_unfold(x, ...) fdl_unfold_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_unfold_(x, k, ...) fdl_unfold_opt(x, k, &(fdl_unfold_opts){__VA_ARGS__})
#define fdl_fold(x, size, ...) fdl_fold_(x, size, __VA_ARGS__, .opts_ = 0)
#define fdl_fold_(x, size, k, ...) fdl_fold_opt(x, size, k, &(fdl_unfold_opts){__VA_ARGS__})
#endif

#endif
