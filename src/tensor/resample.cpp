/* Resampling, and moving elements between channels and places. */
#include "flodl/pool.h"
#include "spatial.h"

#include <cmath>

#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/_upsample_nearest_exact1d.h>
#include <ATen/ops/_upsample_nearest_exact2d.h>
#include <ATen/ops/_upsample_nearest_exact3d.h>
#include <ATen/ops/adaptive_avg_pool1d.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/adaptive_avg_pool3d.h>
#include <ATen/ops/affine_grid_generator.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/channel_shuffle.h>
#include <ATen/ops/col2im.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/grid_sampler.h>
#include <ATen/ops/im2col.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/pixel_unshuffle.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/upsample_bilinear2d.h>
#include <ATen/ops/upsample_linear1d.h>
#include <ATen/ops/upsample_nearest1d.h>
#include <ATen/ops/upsample_nearest2d.h>
#include <ATen/ops/upsample_nearest3d.h>
#include <ATen/ops/upsample_trilinear3d.h>

using namespace flodl;

namespace
{

at::Tensor interpolate(const at::Tensor &x, const fdl_interpolate_opts &o)
{
    int n = (int)x.dim() - 2;
    if (n < 1 || n > 3)
        fail(FDL_E_SHAPE, "needs [N, C, L], [N, C, H, W] or [N, C, D, H, W]");
    check_spatial(x, n);
    static const int dims_of[] = {0, 0, 1, 2, 2, 3, 0}; /* what each mode needs; 0: any */
    static const char *const name_of[] = {"nearest", "nearest_exact", "linear", "bilinear",
                                          "bicubic", "trilinear",     "area"};
    if ((unsigned)o.mode > FDL_INTERPOLATE_AREA)
        fail(FDL_E_ARG, ".mode is %d, which is none", (int)o.mode);
    if (dims_of[o.mode] && dims_of[o.mode] != n)
        fail(FDL_E_SHAPE, "mode %s needs %d dims, got %d", name_of[o.mode], dims_of[o.mode] + 2, n + 2);
    if (o.align_corners && !dims_of[o.mode])
        fail(FDL_E_ARG, ".align_corners means nothing to mode %s", name_of[o.mode]);
    if (o.antialias && o.mode != FDL_INTERPOLATE_BILINEAR && o.mode != FDL_INTERPOLATE_BICUBIC)
        fail(FDL_E_ARG, ".antialias is for bilinear and bicubic, not %s", name_of[o.mode]);
    factors factor("scale", n, o.scale, o.scale_dims);
    if ((o.size.ndim != 0) == factor.given)
        fail(FDL_E_ARG, "needs .size or .scale, and not both");
    int64_t size[3];
    std::optional<double> scale[3];
    if (o.size.ndim)
        output_size(o.size, n, size, 1);
    else
        for (int i = 0; i < n; i++) {
            double extent = std::floor((double)x.size(i + 2) * factor.v[i]);
            if (!(factor.v[i] > 0 && extent >= 1 && extent <= INT32_MAX))
                fail(FDL_E_ARG, ".scale %g gives the extent %g from %lld", factor.v[i], extent,
                     (long long)x.size(i + 2));
            size[i] = (int64_t)extent;
            if (!o.recompute_scale)
                scale[i] = factor.v[i];
        }
    if (o.recompute_scale && !factor.given)
        fail(FDL_E_ARG, ".recompute_scale needs .scale");
    at::IntArrayRef to(size, (size_t)n);
    auto [s0, s1, s2] = scale;
    switch (o.mode) {
    case FDL_INTERPOLATE_NEAREST:
        return n == 1   ? at::upsample_nearest1d(x, to, s0)
               : n == 2 ? at::upsample_nearest2d(x, to, s0, s1)
                        : at::upsample_nearest3d(x, to, s0, s1, s2);
    case FDL_INTERPOLATE_NEAREST_EXACT:
        return n == 1   ? at::_upsample_nearest_exact1d(x, to, s0)
               : n == 2 ? at::_upsample_nearest_exact2d(x, to, s0, s1)
                        : at::_upsample_nearest_exact3d(x, to, s0, s1, s2);
    case FDL_INTERPOLATE_LINEAR:
        return at::upsample_linear1d(x, to, o.align_corners, s0);
    case FDL_INTERPOLATE_BILINEAR:
        return o.antialias ? at::_upsample_bilinear2d_aa(x, to, o.align_corners, s0, s1)
                           : at::upsample_bilinear2d(x, to, o.align_corners, s0, s1);
    case FDL_INTERPOLATE_BICUBIC:
        return o.antialias ? at::_upsample_bicubic2d_aa(x, to, o.align_corners, s0, s1)
                           : at::upsample_bicubic2d(x, to, o.align_corners, s0, s1);
    case FDL_INTERPOLATE_TRILINEAR:
        return at::upsample_trilinear3d(x, to, o.align_corners, s0, s1, s2);
    case FDL_INTERPOLATE_AREA:
        break;
    }
    return n == 1   ? at::adaptive_avg_pool1d(x, to)
           : n == 2 ? at::adaptive_avg_pool2d(x, to)
                    : at::adaptive_avg_pool3d(x, to);
}

/* Each channel blurred along W, then along H. The weights, a softmax of -i^2 / (2 sigma^2), are made on the device, so that a
 * captured run replays them, and in double. */
at::Tensor gaussian_blur(const at::Tensor &input, double sigma, const fdl_gaussian_blur_opts &o)
{
    static const char *const modes[] = {"constant", "reflect", "replicate", "circular"};
    const double most = 3000;
    if (!(sigma > 0 && sigma <= most))
        fail(FDL_E_ARG, "sigma is %g; it is above 0 and at most %g", sigma, most);
    if ((unsigned)o.padding_mode > FDL_PAD_CIRCULAR)
        fail(FDL_E_ARG, ".padding_mode is %d, which is none", (int)o.padding_mode);
    if (input.dim() != 4)
        fail(FDL_E_SHAPE, "needs [N, C, H, W]");
    if (!at::isFloatingType(input.scalar_type()))
        fail(FDL_E_DTYPE, "needs a floating dtype");
    at::Tensor x = o.no_grad ? input.detach() : input;
    int64_t r = (int64_t)std::ceil(3 * sigma), c = x.size(1),
            pad = o.padding_mode == FDL_PAD_CONSTANT ? r : 0;
    at::Tensor i = at::arange(-r, r + 1, x.options().dtype(at::kDouble).requires_grad(false));
    at::Tensor w = at::softmax(at::mul(at::mul(i, i), -1 / (2 * sigma * sigma)), 0).to(x.scalar_type());
    if (!pad)
        x = at::pad(x, {r, r, r, r}, modes[o.padding_mode]);
    x = at::conv2d(x, w.view({1, 1, 1, -1}).expand({c, 1, 1, -1}), {}, 1, at::IntArrayRef({0, pad}), 1, c);
    return at::conv2d(x, w.view({1, 1, -1, 1}).expand({c, 1, -1, 1}), {}, 1, at::IntArrayRef({pad, 0}), 1, c);
}

/* r of a pixel shuffle: its square stays within 64 bits. */
int64_t factor(int64_t r)
{
    if (r < 1 || r > INT32_MAX)
        fail(FDL_E_ARG, "r is %lld; it is from 1 to %d", (long long)r, INT32_MAX);
    return r;
}

} // namespace

fdl_tensor *fdl_interpolate_opt(fdl_tensor *x, const fdl_interpolate_opts *opts)
{
    return OP((x), interpolate(x->t, or_default(opts)));
}

fdl_tensor *fdl_gaussian_blur_opt(fdl_tensor *x, double sigma, const fdl_gaussian_blur_opts *opts)
{
    return OP((x), gaussian_blur(x->t, sigma, or_default(opts)));
}

fdl_tensor *fdl_grid_sample_opt(fdl_tensor *x, fdl_tensor *grid, const fdl_grid_sample_opts *opts)
{
    const fdl_grid_sample_opts &o = or_default(opts);
    return OP_DO((x, grid), {
        if ((unsigned)o.mode > FDL_GRID_BICUBIC)
            fail(FDL_E_ARG, ".mode is %d, which is none", (int)o.mode);
        if ((unsigned)o.padding_mode > FDL_GRID_REFLECTION)
            fail(FDL_E_ARG, ".padding_mode is %d, which is none", (int)o.padding_mode);
        return at::grid_sampler(x->t, grid->t, (int64_t)o.mode, (int64_t)o.padding_mode, o.align_corners);
    });
}

fdl_tensor *fdl_affine_grid_opt(fdl_tensor *theta, fdl_shape size, const fdl_affine_grid_opts *opts)
{
    return OP_DO((theta), {
        int n = size.ndim - 2;
        if (n != 2 && n != 3)
            fail(FDL_E_ARG, "the size is FDL_SHAPE(N, C, H, W) or FDL_SHAPE(N, C, D, H, W), got %d values",
                 size.ndim);
        for (int i = 0; i < size.ndim; i++)
            if (size.d[i] < 1 || size.d[i] > INT32_MAX)
                fail(FDL_E_ARG, "the size's value %d is %lld; it is from 1 to %d", i, (long long)size.d[i],
                     INT32_MAX);
        if (theta->t.sizes() != at::IntArrayRef({size.d[0], n, n + 1}))
            fail(FDL_E_SHAPE, "theta is [%lld, %d, %d] for this size", (long long)size.d[0], n, n + 1);
        return at::affine_grid_generator(theta->t, ints(size), or_default(opts).align_corners);
    });
}

fdl_tensor *fdl_pixel_shuffle(fdl_tensor *x, int64_t r)
{
    return OP((x), at::pixel_shuffle(x->t, factor(r)));
}

fdl_tensor *fdl_pixel_unshuffle(fdl_tensor *x, int64_t r)
{
    return OP((x), at::pixel_unshuffle(x->t, factor(r)));
}

fdl_tensor *fdl_channel_shuffle(fdl_tensor *x, int64_t groups)
{
    return OP_DO((x), {
        if (x->t.dim() < 3)
            fail(FDL_E_SHAPE, "needs [N, C, *]");
        if (groups < 1)
            fail(FDL_E_ARG, "groups is %lld; it is at least 1", (long long)groups);
        if (x->t.size(1) % groups)
            fail(FDL_E_SHAPE, "%lld channels don't divide into %lld groups", (long long)x->t.size(1),
                 (long long)groups);
        return at::channel_shuffle(x->t, groups);
    });
}

fdl_tensor *fdl_unfold_opt(fdl_tensor *x, int64_t kernel, const fdl_unfold_opts *opts)
{
    const fdl_unfold_opts &o = or_default(opts);
    return OP_DO((x), {
        check_spatial(x->t, 2);
        spatial k("kernel", 2, kernel, o.kernel_dims, 0, 1);
        spatial dilation("dilation", 2, o.dilation, o.dilation_dims, 1, 1);
        spatial padding("padding", 2, o.padding, o.padding_dims, 0, 0);
        spatial stride("stride", 2, o.stride, o.stride_dims, 1, 1);
        return at::im2col(x->t, k, dilation, padding, stride);
    });
}

fdl_tensor *fdl_fold_opt(fdl_tensor *x, fdl_shape size, int64_t kernel, const fdl_unfold_opts *opts)
{
    const fdl_unfold_opts &o = or_default(opts);
    return OP_DO((x), {
        int64_t extents[3];
        spatial k("kernel", 2, kernel, o.kernel_dims, 0, 1);
        spatial dilation("dilation", 2, o.dilation, o.dilation_dims, 1, 1);
        spatial padding("padding", 2, o.padding, o.padding_dims, 0, 0);
        spatial stride("stride", 2, o.stride, o.stride_dims, 1, 1);
        return at::col2im(x->t, output_size(size, 2, extents, 1), k, dilation, padding, stride);
    });
}
