/* Pooling. */
#include "flodl/pool.h"
#include "random.h"
#include "spatial.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/adaptive_avg_pool1d.h>
#include <ATen/ops/adaptive_avg_pool2d.h>
#include <ATen/ops/adaptive_avg_pool3d.h>
#include <ATen/ops/adaptive_max_pool1d.h>
#include <ATen/ops/adaptive_max_pool2d.h>
#include <ATen/ops/adaptive_max_pool3d.h>
#include <ATen/ops/avg_pool1d.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/avg_pool3d.h>
#include <ATen/ops/fractional_max_pool2d.h>
#include <ATen/ops/fractional_max_pool3d.h>
#include <ATen/ops/max_pool1d.h>
#include <ATen/ops/max_pool1d_with_indices.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/max_pool2d_with_indices.h>
#include <ATen/ops/max_pool3d.h>
#include <ATen/ops/max_pool3d_with_indices.h>
#include <ATen/ops/max_unpool2d.h>
#include <ATen/ops/max_unpool3d.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sign.h>

using namespace flodl;

namespace
{

at::Tensor picked(std::tuple<at::Tensor, at::Tensor> &&both, const result &indices)
{
    indices.give(std::move(std::get<1>(both)));
    return std::move(std::get<0>(both));
}

inline void check_padding(const spatial &padding, const spatial &k, int n)
{
    for (int i = 0; i < n; i++)
        if (padding[i] > k[i] / 2)
            fail(FDL_E_ARG, ".padding is %lld, more than half of the kernel's %lld", (long long)padding[i],
                 (long long)k[i]);
}

/* Libtorch takes it that each window holds an element of x. With an extent below the dilation one that begins
 * in the padding may step over all of them. */
inline void check_windows(at::IntArrayRef extents, int n, const spatial &k, const spatial &stride,
                          const spatial &padding, const spatial &dilation)
{
    for (int i = 0; i < n; i++) {
        int64_t extent = extents[(size_t)i];
        if (extent + 2 * padding[i] < dilation[i] * (k[i] - 1) + 1)
            fail(FDL_E_SHAPE, "the kernel reaches over %lld, more than the extent %lld with padding %lld",
                 (long long)(dilation[i] * (k[i] - 1) + 1), (long long)extent, (long long)padding[i]);
        for (int64_t s = -padding[i]; extent < dilation[i] && s < 0; s += stride[i]) {
            int64_t first = (dilation[i] - -s % dilation[i]) % dilation[i];
            if (first >= extent || first > s + dilation[i] * (k[i] - 1))
                fail(FDL_E_SHAPE, "with .dilation %lld a window misses the extent %lld",
                     (long long)dilation[i], (long long)extent);
        }
    }
}

template <int n>
at::Tensor max_pool(const at::Tensor &x, int64_t kernel, const fdl_max_pool_opts &o, const result &indices)
{
    at::IntArrayRef extents = check_spatial(x, n);
    spatial k("kernel", n, kernel, o.kernel_dims, 0, 1);
    spatial stride("stride", o.stride, o.stride_dims, k, 1);
    spatial padding("padding", n, o.padding, o.padding_dims, 0, 0);
    spatial dilation("dilation", n, o.dilation, o.dilation_dims, 1, 1);
    check_padding(padding, k, n);
    check_windows(extents, n, k, stride, padding, dilation);
    if constexpr (n == 1)
        return indices ? picked(at::max_pool1d_with_indices(x, k, stride, padding, dilation, o.ceil_mode),
                                indices)
                       : at::max_pool1d(x, k, stride, padding, dilation, o.ceil_mode);
    else if constexpr (n == 2)
        return indices ? picked(at::max_pool2d_with_indices(x, k, stride, padding, dilation, o.ceil_mode),
                                indices)
                       : at::max_pool2d(x, k, stride, padding, dilation, o.ceil_mode);
    else
        return indices ? picked(at::max_pool3d_with_indices(x, k, stride, padding, dilation, o.ceil_mode),
                                indices)
                       : at::max_pool3d(x, k, stride, padding, dilation, o.ceil_mode);
}

template <int n>
at::Tensor avg_pool(const at::Tensor &x, int64_t kernel, const fdl_avg_pool_opts &o)
{
    check_spatial(x, n);
    spatial k("kernel", n, kernel, o.kernel_dims, 0, 1);
    spatial stride("stride", o.stride, o.stride_dims, k, 1);
    spatial padding("padding", n, o.padding, o.padding_dims, 0, 0);
    check_padding(padding, k, n);
    if (o.divisor < 0)
        fail(FDL_E_ARG, ".divisor is %lld; it is at least 1", (long long)o.divisor);
    std::optional<int64_t> divisor;
    if (o.divisor)
        divisor = o.divisor;
    if constexpr (n == 1) {
        if (!divisor)
            return at::avg_pool1d(x, k, stride, padding, o.ceil_mode, !o.exclude_pad);
        return at::avg_pool2d(x.unsqueeze(-2), {1, k[0]}, {1, stride[0]}, {0, padding[0]}, o.ceil_mode,
                              !o.exclude_pad, divisor)
            .squeeze(-2);
    } else if constexpr (n == 2)
        return at::avg_pool2d(x, k, stride, padding, o.ceil_mode, !o.exclude_pad, divisor);
    else
        return at::avg_pool3d(x, k, stride, padding, o.ceil_mode, !o.exclude_pad, divisor);
}

/* 0 keeps x's extent. */
template <int n>
struct adaptive_size {
    int64_t v[3];
    adaptive_size(const at::Tensor &x, const fdl_shape &size)
    {
        at::IntArrayRef extents = check_spatial(x, n);
        output_size(size, n, v, 0);
        for (int i = 0; i < n; i++)
            if (!v[i])
                v[i] = extents[(size_t)i];
    }
    operator at::IntArrayRef() const
    {
        return at::IntArrayRef(v, n);
    }
};

template <int n>
at::Tensor lp_pool(const at::Tensor &x, double p, int64_t kernel, const fdl_lp_pool_opts &o)
{
    check_spatial(x, n);
    if (!(p < 0 || p > 0))
        fail(FDL_E_ARG, "p is %g; any number but 0", p);
    spatial k("kernel", n, kernel, o.kernel_dims, 0, 1);
    spatial stride("stride", o.stride, o.stride_dims, k, 1);
    at::Tensor powers = at::pow(x, p), mean;
    double count = (double)k[0];
    if constexpr (n == 1)
        mean = at::avg_pool1d(powers, k, stride, 0, o.ceil_mode);
    else if constexpr (n == 2) {
        mean = at::avg_pool2d(powers, k, stride, 0, o.ceil_mode);
        count *= (double)k[1];
    } else {
        mean = at::avg_pool3d(powers, k, stride, 0, o.ceil_mode);
        count *= (double)k[1] * (double)k[2];
    }
    return at::pow(at::mul(at::mul(at::sign(mean), at::relu(at::abs(mean))), count), 1 / p);
}

/* Where indices took the values from; the extents may differ from the usual ones by less than a stride, as in the pool several
 * extents gave the same. */
template <int n>
at::Tensor max_unpool(const at::Tensor &x, const at::Tensor &indices, int64_t kernel,
                      const fdl_max_unpool_opts &o)
{
    at::IntArrayRef extents = check_spatial(x, n);
    spatial k("kernel", n, kernel, o.kernel_dims, 0, 1);
    spatial stride("stride", o.stride, o.stride_dims, k, 1);
    spatial padding("padding", n, o.padding, o.padding_dims, 0, 0);
    int64_t size[3] = {1, 1, 1};
    if (fdl_shape_lacks_count(&o.size))
        fail(FDL_E_ARG, ".size lacks its count; write FDL_DIMS(%lld, ...)", (long long)o.size.d[0]);
    if (o.size.ndim)
        output_size(o.size, n, size, 1);
    for (int i = 0; i < n; i++) {
        int64_t usual = (extents[(size_t)i] - 1) * stride[i] - 2 * padding[i] + k[i];
        if (!o.size.ndim)
            size[i] = usual;
        if (size[i] < 1 || size[i] <= usual - stride[i] || size[i] >= usual + stride[i])
            fail(FDL_E_SHAPE, "the extent %lld of the result is not within the stride of %lld",
                 (long long)size[i], (long long)usual);
    }
    if (indices.scalar_type() != at::kLong)
        fail(FDL_E_DTYPE, "indices must be int64");
    if (indices.sizes() != x.sizes())
        fail(FDL_E_SHAPE, "indices %s must have the shape of x, %s", shape_text(indices.sizes()).text,
             shape_text(x.sizes()).text);
    if constexpr (n == 1)
        return at::max_unpool2d(x.unsqueeze(-1), indices.unsqueeze(-1), {size[0], 1}).squeeze(-1);
    else if constexpr (n == 2)
        return at::max_unpool2d(x, indices, at::IntArrayRef(size, 2));
    else
        return at::max_unpool3d(x, indices, at::IntArrayRef(size, 3), stride, padding);
}

template <int n>
at::Tensor fractional_max_pool(const at::Tensor &x, int64_t kernel, const fdl_fractional_max_pool_opts &o,
                               const result &indices)
{
    at::IntArrayRef extents = check_spatial(x, n);
    spatial k("kernel", n, kernel, o.kernel_dims, 0, 1);
    int64_t size[3];
    factors ratio("ratio", n, o.ratio, o.ratio_dims);
    if ((o.size.ndim != 0) == ratio.given)
        fail(FDL_E_ARG, "needs .size or .ratio, and not both");
    if (o.size.ndim)
        output_size(o.size, n, size, 1);
    for (int i = 0; i < n; i++) {
        int64_t extent = extents[(size_t)i];
        if (ratio.given && !(ratio.v[i] > 0 && ratio.v[i] < 1))
            fail(FDL_E_ARG, ".ratio is %g; it is between 0 and 1", ratio.v[i]);
        if (ratio.given)
            size[i] = (int64_t)((double)extent * ratio.v[i]);
        if (size[i] < 1 || size[i] + k[i] - 1 > extent)
            fail(FDL_E_SHAPE, "an extent of %lld has no room for %lld windows of %lld", (long long)extent,
                 (long long)size[i], (long long)k[i]);
    }
    int64_t places[] = {x.dim() == n + 2 ? x.size(0) : 1, x.size(-n - 1), n};
    at::Tensor samples;
    if (!o.samples)
        samples = at::rand(places, generator(o.generator), x.options().requires_grad(false));
    else if ((samples = o.samples->t).sizes() != at::IntArrayRef(places))
        fail(FDL_E_SHAPE, ".samples %s must be %s", shape_text(samples.sizes()).text,
             shape_text(places).text);
    at::IntArrayRef to(size, n);
    if constexpr (n == 2)
        return picked(at::fractional_max_pool2d(x, k, to, samples), indices);
    else
        return picked(at::fractional_max_pool3d(x, k, to, samples), indices);
}

} // namespace

fdl_tensor *fdl_max_pool1d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts)
{
    const fdl_max_pool_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), max_pool<1>(x->t, k, o, indices));
}

fdl_tensor *fdl_max_pool2d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts)
{
    const fdl_max_pool_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), max_pool<2>(x->t, k, o, indices));
}

fdl_tensor *fdl_max_pool3d_opt(fdl_tensor *x, int64_t k, const fdl_max_pool_opts *opts)
{
    const fdl_max_pool_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), max_pool<3>(x->t, k, o, indices));
}

fdl_tensor *fdl_avg_pool1d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts)
{
    return OP((x), avg_pool<1>(x->t, k, or_default(opts)));
}

fdl_tensor *fdl_avg_pool2d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts)
{
    return OP((x), avg_pool<2>(x->t, k, or_default(opts)));
}

fdl_tensor *fdl_avg_pool3d_opt(fdl_tensor *x, int64_t k, const fdl_avg_pool_opts *opts)
{
    return OP((x), avg_pool<3>(x->t, k, or_default(opts)));
}

fdl_tensor *fdl_adaptive_avg_pool1d(fdl_tensor *x, fdl_shape size)
{
    return OP((x), at::adaptive_avg_pool1d(x->t, adaptive_size<1>(x->t, size)));
}

fdl_tensor *fdl_adaptive_avg_pool2d(fdl_tensor *x, fdl_shape size)
{
    return OP((x), at::adaptive_avg_pool2d(x->t, adaptive_size<2>(x->t, size)));
}

fdl_tensor *fdl_adaptive_avg_pool3d(fdl_tensor *x, fdl_shape size)
{
    return OP((x), at::adaptive_avg_pool3d(x->t, adaptive_size<3>(x->t, size)));
}

fdl_tensor *fdl_adaptive_max_pool1d_opt(fdl_tensor *x, fdl_shape size, const fdl_adaptive_max_pool_opts *opts)
{
    result indices(or_default(opts).indices);
    return OP((x), picked(at::adaptive_max_pool1d(x->t, adaptive_size<1>(x->t, size)), indices));
}

fdl_tensor *fdl_adaptive_max_pool2d_opt(fdl_tensor *x, fdl_shape size, const fdl_adaptive_max_pool_opts *opts)
{
    result indices(or_default(opts).indices);
    return OP((x), picked(at::adaptive_max_pool2d(x->t, adaptive_size<2>(x->t, size)), indices));
}

fdl_tensor *fdl_adaptive_max_pool3d_opt(fdl_tensor *x, fdl_shape size, const fdl_adaptive_max_pool_opts *opts)
{
    result indices(or_default(opts).indices);
    return OP((x), picked(at::adaptive_max_pool3d(x->t, adaptive_size<3>(x->t, size)), indices));
}

fdl_tensor *fdl_lp_pool1d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts)
{
    return OP((x), lp_pool<1>(x->t, p, k, or_default(opts)));
}

fdl_tensor *fdl_lp_pool2d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts)
{
    return OP((x), lp_pool<2>(x->t, p, k, or_default(opts)));
}

fdl_tensor *fdl_lp_pool3d_opt(fdl_tensor *x, double p, int64_t k, const fdl_lp_pool_opts *opts)
{
    return OP((x), lp_pool<3>(x->t, p, k, or_default(opts)));
}

fdl_tensor *fdl_max_unpool1d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                 const fdl_max_unpool_opts *opts)
{
    return OP((x, indices), max_unpool<1>(x->t, indices->t, k, or_default(opts)));
}

fdl_tensor *fdl_max_unpool2d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                 const fdl_max_unpool_opts *opts)
{
    return OP((x, indices), max_unpool<2>(x->t, indices->t, k, or_default(opts)));
}

fdl_tensor *fdl_max_unpool3d_opt(fdl_tensor *x, fdl_tensor *indices, int64_t k,
                                 const fdl_max_unpool_opts *opts)
{
    return OP((x, indices), max_unpool<3>(x->t, indices->t, k, or_default(opts)));
}

fdl_tensor *fdl_fractional_max_pool2d_opt(fdl_tensor *x, int64_t k, const fdl_fractional_max_pool_opts *opts)
{
    const fdl_fractional_max_pool_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x, opt(o.samples)), fractional_max_pool<2>(x->t, k, o, indices));
}

fdl_tensor *fdl_fractional_max_pool3d_opt(fdl_tensor *x, int64_t k, const fdl_fractional_max_pool_opts *opts)
{
    const fdl_fractional_max_pool_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x, opt(o.samples)), fractional_max_pool<3>(x->t, k, o, indices));
}
