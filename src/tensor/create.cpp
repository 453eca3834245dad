/* Making tensors. */
#include "flodl/tensor.h"
#include "internal.h"
#include "create.h"
#include "thread.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/linspace.h>
#include <ATen/ops/logspace.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>

using namespace flodl;

namespace flodl
{

at::TensorOptions options(const fdl_tensor_opts *o, fdl_dtype otherwise)
{
    static const fdl_tensor_opts none = {};
    if (!o)
        o = &none;
    fdl_dtype dtype = o->dtype == FDL_DTYPE_DEFAULT ? otherwise : o->dtype;
    if (o->pin_memory && !at::hasCUDA())
        fail(FDL_E_DEVICE, "page-locked memory needs a libtorch with CUDA");
    return at::TensorOptions()
        .dtype(scalar_type(dtype))
        .device(device(o->device))
        .pinned_memory(o->pin_memory);
}

at::Tensor finished(at::Tensor t, const fdl_tensor_opts *o)
{
    if (o && o->requires_grad)
        t.set_requires_grad(true);
    return t;
}

at::IntArrayRef extents(const fdl_shape &s)
{
    at::IntArrayRef all = ints(s);
    for (int i = 0; i < s.ndim; i++)
        if (s.d[i] < 0)
            fail(FDL_E_SHAPE, "extent %lld of dim %d is negative", (long long)s.d[i], i);
    return all;
}

at::TensorOptions like(const fdl_tensor_opts *o)
{
    at::TensorOptions options;
    if (!o)
        return options;
    if (o->dtype != FDL_DTYPE_DEFAULT)
        options = options.dtype(scalar_type(o->dtype));
    if (o->device.type != FDL_DEVICE_TYPE_DEFAULT)
        options = options.device(device(o->device));
    return options;
}

} // namespace flodl

namespace
{

/* A copy of host memory of one dtype, converted and moved as the options say. */
at::Tensor copied(const void *data, const fdl_shape &shape, at::ScalarType type, const fdl_tensor_opts *o)
{
    at::IntArrayRef sizes = extents(shape);
    if (!data && fdl_shape_numel(shape) > 0)
        fail(FDL_E_NULL, "data is NULL");
    fdl_dtype own = dtype_of(type);
    at::TensorOptions target = options(o, own);
    at::Tensor t = at::empty(sizes, at::TensorOptions().dtype(type).pinned_memory(target.pinned_memory() &&
                                                                                  target.device().is_cpu()));
    if (t.nbytes())
        memcpy(t.mutable_data_ptr(), data, t.nbytes());
    return finished(t.to(target.device(), at::typeMetaToScalarType(target.dtype())), o);
}

} // namespace

fdl_tensor *fdl_zeros_opt(fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::zeros(extents(shape), options(opts)), opts));
}

fdl_tensor *fdl_ones_opt(fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::ones(extents(shape), options(opts)), opts));
}

fdl_tensor *fdl_empty_opt(fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::empty(extents(shape), options(opts)), opts));
}

fdl_tensor *fdl_empty_strided_opt(fdl_shape shape, fdl_shape strides, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        at::IntArrayRef sizes = extents(shape), steps = ints(strides);
        if (steps.size() != sizes.size())
            fail(FDL_E_SHAPE, "%d strides for %d dims", strides.ndim, shape.ndim);
        for (int i = 0; i < strides.ndim; i++)
            if (strides.d[i] < 0)
                fail(FDL_E_ARG, "stride %lld of dim %d is negative", (long long)strides.d[i], i);
        return finished(at::empty_strided(sizes, steps, options(opts)), opts);
    });
}

fdl_tensor *fdl_full_opt(fdl_shape shape, double value, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::full(extents(shape), scalar(value), options(opts)), opts));
}

fdl_tensor *fdl_arange_opt(double start, double end, double step, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        if (step == 0 || std::isnan(step) || (end - start) / step < 0)
            fail(FDL_E_ARG, "a step of %g never gets from %g to %g", step, start, end);
        return finished(at::arange(scalar(start), scalar(end), scalar(step), options(opts)), opts);
    });
}

fdl_tensor *fdl_linspace_opt(double start, double end, int64_t n, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        if (n < 0)
            fail(FDL_E_ARG, "%lld values", (long long)n);
        return finished(at::linspace(scalar(start), scalar(end), n, options(opts)), opts);
    });
}

fdl_tensor *fdl_logspace_opt(double start, double end, int64_t n, const fdl_logspace_opts *opts)
{
    return OP_DO((), {
        const fdl_logspace_opts &o = or_default(opts);
        fdl_tensor_opts t = {};
        t.dtype = o.dtype;
        t.device = o.device;
        t.requires_grad = o.requires_grad;
        if (n < 0)
            fail(FDL_E_ARG, "%lld values", (long long)n);
        return finished(at::logspace(scalar(start), scalar(end), n, fdl_opt_double(o.base, 10), options(&t)),
                        &t);
    });
}

fdl_tensor *fdl_eye_opt(int64_t n, const fdl_eye_opts *opts)
{
    return OP_DO((), {
        const fdl_eye_opts &o = or_default(opts);
        fdl_tensor_opts t = {};
        t.dtype = o.dtype;
        t.device = o.device;
        t.requires_grad = o.requires_grad;
        if (n < 0 || o.m < 0)
            fail(FDL_E_SHAPE, "extent %lld is negative", (long long)(n < 0 ? n : o.m));
        return finished(at::eye(n, o.m ? o.m : n, options(&t)), &t);
    });
}

fdl_tensor *fdl_zeros_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts)
{
    return OP((x), finished(at::zeros_like(x->t, like(opts)), opts));
}

fdl_tensor *fdl_ones_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts)
{
    return OP((x), finished(at::ones_like(x->t, like(opts)), opts));
}

fdl_tensor *fdl_empty_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts)
{
    return OP((x), finished(at::empty_like(x->t, like(opts)), opts));
}

fdl_tensor *fdl_full_like_opt(fdl_tensor *x, double value, const fdl_tensor_opts *opts)
{
    return OP((x), finished(at::full_like(x->t, scalar(value), like(opts)), opts));
}

fdl_tensor *fdl_scalar_opt(double value, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::scalar_tensor(scalar(value), options(opts)), opts));
}

fdl_tensor *fdl_from_f32_opt(const float *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kFloat, opts));
}

fdl_tensor *fdl_from_f64_opt(const double *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kDouble, opts));
}

fdl_tensor *fdl_from_i64_opt(const int64_t *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kLong, opts));
}

fdl_tensor *fdl_from_i32_opt(const int32_t *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kInt, opts));
}

fdl_tensor *fdl_from_u8_opt(const uint8_t *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kByte, opts));
}

fdl_tensor *fdl_from_bool_opt(const bool *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kBool, opts));
}

fdl_tensor *fdl_from_f16bits_opt(const uint16_t *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kHalf, opts));
}

fdl_tensor *fdl_from_bf16bits_opt(const uint16_t *data, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), copied(data, shape, at::kBFloat16, opts));
}

fdl_tensor *fdl_from_bytes_opt(const void *data, size_t nbytes, fdl_dtype dtype, fdl_shape shape,
                               const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        at::ScalarType type = scalar_type(dtype);
        extents(shape);
        size_t want = (size_t)fdl_shape_numel(shape) * c10::elementSize(type);
        if (nbytes != want)
            fail(FDL_E_SHAPE, "the shape needs %zu bytes of %s, got %zu", want,
                 fdl_dtype_name(dtype_of(type)), nbytes);
        return copied(data, shape, type, opts);
    });
}

fdl_tensor *fdl_from_blob_opt(void *data, fdl_shape shape, const fdl_from_blob_opts *opts)
{
    return OP_DO((), {
        static const fdl_from_blob_opts none = {};
        const fdl_from_blob_opts &o = opts ? *opts : none;
        at::IntArrayRef sizes = extents(shape);
        if (!data && fdl_shape_numel(shape) > 0)
            fail(FDL_E_NULL, "data is NULL");
        if (o.strides.ndim && o.strides.ndim != shape.ndim)
            fail(FDL_E_SHAPE, "%d strides for %d dims", o.strides.ndim, shape.ndim);
        for (int i = 0; i < o.strides.ndim; i++)
            if (o.strides.d[i] < 0)
                fail(FDL_E_ARG, "stride %lld of dim %d is negative", (long long)o.strides.d[i], i);
        at::TensorOptions type = at::TensorOptions().dtype(scalar_type(o.dtype));
        auto release = o.release;
        auto ctx = o.ctx;
        auto deleter = [release, ctx](void *) {
            if (release)
                release(ctx);
        };
        return o.strides.ndim ? at::from_blob(data, sizes, ints(o.strides), deleter, type)
                              : at::from_blob(data, sizes, deleter, type);
    });
}
