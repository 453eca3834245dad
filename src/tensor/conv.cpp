/* Convolutions. Libtorch reports most misfits, but in words of its backends; what stands here says the
 * shapes. */
#include "flodl/conv.h"
#include "spatial.h"

#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/conv_transpose3d.h>

using namespace flodl;

namespace
{

int64_t groups_of(int64_t groups)
{
    if (groups < 0)
        fail(FDL_E_ARG, ".groups is %lld; it is at least 1", (long long)groups);
    return groups ? groups : 1;
}

/* w is [out, in / groups, k...], or [in, out / groups, k...] when transposed. Shapes are read once: libtorch's size(i) and dim()
 * are calls. */
inline void check_weight(at::IntArrayRef x, at::IntArrayRef w, fdl_tensor *bias, int n, int64_t groups,
                         bool transposed)
{
    if (w.size() != (size_t)n + 2)
        fail(FDL_E_SHAPE, "weight %s has %zu dims; it needs %d", shape_text(w).text, w.size(), n + 2);
    for (int64_t extent : w)
        if (extent < 1)
            fail(FDL_E_SHAPE, "weight %s has no elements", shape_text(w).text);
    if (groups != 1 && w[0] % groups)
        fail(FDL_E_SHAPE, "weight %s: %lld channels don't divide into .groups = %lld", shape_text(w).text,
             (long long)w[0], (long long)groups);
    int64_t in = transposed ? w[0] : w[1] * groups, out = transposed ? w[1] * groups : w[0];
    int64_t channels = x[x.size() - (size_t)n - 1];
    if (channels != in)
        fail(FDL_E_SHAPE, "weight %s expects %lld input channels, got %lld", shape_text(w).text,
             (long long)in, (long long)channels);
    if (bias && bias->t.sizes() != at::IntArrayRef(out))
        fail(FDL_E_SHAPE, "weight %s expects a bias of [%lld], got %s", shape_text(w).text, (long long)out,
             shape_text(bias->t.sizes()).text);
}

/* OneDNN computes with 32 bits and divides by what overflows: values that change nothing become small ones. A
 * stride beyond `far` makes one step like any other such; a kernel of one element has no dilation. */
inline void bound(int64_t extent, int i, int64_t kernel, const spatial &padding, spatial &stride,
                  spatial &dilation, int64_t far)
{
    if (extent + 2 * padding[i] > INT32_MAX)
        fail(FDL_E_ARG, ".padding is %lld; extent and padding are above %d", (long long)padding[i],
             INT32_MAX);
    stride.lower(i, far);
    if (kernel == 1)
        dilation.lower(i, 1);
}

template <int n>
at::Tensor conv(const at::Tensor &x, const at::Tensor &w, const fdl_conv_opts &o)
{
    int64_t groups = groups_of(o.groups);
    at::IntArrayRef extents = check_spatial(x, n), shape = w.sizes();
    check_weight(x.sizes(), shape, o.bias, n, groups, false);
    spatial stride("stride", n, o.stride, o.stride_dims, 1, 1);
    spatial padding("padding", n, o.padding, o.padding_dims, 0, 0);
    spatial dilation("dilation", n, o.dilation, o.dilation_dims, 1, 1);
    for (int i = 0; i < n; i++) {
        int64_t reach = dilation[i] * (shape[(size_t)i + 2] - 1) + 1, extent = extents[(size_t)i];
        if (o.same && stride[i] != 1)
            fail(FDL_E_ARG, ".same needs a stride of 1, got %lld", (long long)stride[i]);
        if (o.same && padding[i])
            fail(FDL_E_ARG, ".same and .padding are both given");
        if (extent < 1 || (!o.same && extent + 2 * padding[i] < reach))
            fail(FDL_E_SHAPE, "the kernel reaches over %lld, more than the extent %lld with padding %lld",
                 (long long)reach, (long long)extent, (long long)padding[i]);
        bound(extent, i, shape[(size_t)i + 2], padding, stride, dilation, extent + 2 * padding[i]);
    }
    auto apply = [&](auto pad) {
        if constexpr (n == 1)
            return at::conv1d_symint(x, w, maybe(o.bias), stride, pad, dilation, groups);
        else if constexpr (n == 2)
            return at::conv2d_symint(x, w, maybe(o.bias), stride, pad, dilation, groups);
        else
            return at::conv3d_symint(x, w, maybe(o.bias), stride, pad, dilation, groups);
    };
    return o.same ? apply(c10::string_view("same")) : apply(c10::SymIntArrayRef(padding));
}

template <int n>
at::Tensor conv_transpose(const at::Tensor &x, const at::Tensor &w, const fdl_conv_transpose_opts &o)
{
    int64_t groups = groups_of(o.groups);
    at::IntArrayRef extents = check_spatial(x, n), shape = w.sizes();
    check_weight(x.sizes(), shape, o.bias, n, groups, true);
    spatial stride("stride", n, o.stride, o.stride_dims, 1, 1);
    spatial padding("padding", n, o.padding, o.padding_dims, 0, 0);
    spatial more("output_padding", n, o.output_padding, o.output_padding_dims, 0, 0);
    spatial dilation("dilation", n, o.dilation, o.dilation_dims, 1, 1);
    double elements =
        (double)shape[1] * (double)groups * (double)(x.sizes().size() == n + 2 ? x.sizes()[0] : 1);
    for (int i = 0; i < n; i++) {
        if (more[i] >= std::max(stride[i], dilation[i]))
            fail(FDL_E_ARG, ".output_padding is %lld; it is below the stride %lld or the dilation %lld",
                 (long long)more[i], (long long)stride[i], (long long)dilation[i]);
        int64_t extent = extents[(size_t)i], kernel = shape[(size_t)i + 2];
        int64_t out = (extent - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel - 1) + more[i] + 1;
        if (extent < 1 || out < 1 || out > INT32_MAX)
            fail(FDL_E_SHAPE, "the result would have an extent of %lld in spatial dim %d", (long long)out, i);
        elements *= (double)out;
        bound(extent, i, kernel, padding, stride, dilation, extent > 1 ? INT32_MAX : more[i] + 1);
    }
    if (elements > 1e14)
        fail(FDL_E_OOM, "the result would have %g elements", elements);
    if constexpr (n == 1)
        return at::conv_transpose1d_symint(x, w, maybe(o.bias), stride, padding, more, groups, dilation);
    else if constexpr (n == 2)
        return at::conv_transpose2d_symint(x, w, maybe(o.bias), stride, padding, more, groups, dilation);
    else
        return at::conv_transpose3d_symint(x, w, maybe(o.bias), stride, padding, more, groups, dilation);
}

} // namespace

fdl_tensor *fdl_conv1d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts)
{
    const fdl_conv_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv<1>(x->t, w->t, o));
}

fdl_tensor *fdl_conv2d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts)
{
    const fdl_conv_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv<2>(x->t, w->t, o));
}

fdl_tensor *fdl_conv3d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_opts *opts)
{
    const fdl_conv_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv<3>(x->t, w->t, o));
}

fdl_tensor *fdl_conv_transpose1d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_transpose_opts *opts)
{
    const fdl_conv_transpose_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv_transpose<1>(x->t, w->t, o));
}

fdl_tensor *fdl_conv_transpose2d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_transpose_opts *opts)
{
    const fdl_conv_transpose_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv_transpose<2>(x->t, w->t, o));
}

fdl_tensor *fdl_conv_transpose3d_opt(fdl_tensor *x, fdl_tensor *w, const fdl_conv_transpose_opts *opts)
{
    const fdl_conv_transpose_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), conv_transpose<3>(x->t, w->t, o));
}
