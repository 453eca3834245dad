/* Asking about tensors, reading them back, changing dtype, device and layout. */
#include "flodl/tensor.h"
#include "create.h"
#include "internal.h"

#include <ATen/Context.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/clone.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <c10/core/MemoryFormat.h>

#include <cinttypes>
#include <cmath>
#include <string>

using namespace flodl;

/* ---- asking ------------------------------------------------------------------------------------------ */

namespace
{

/* The questions: no handle is made, so no exception is thrown, and a bad operand gives `otherwise`. */
template <class V, class F>
V ask(const char *function, fdl_tensor *x, V otherwise, F &&f) noexcept
{
    if (FDL_LIKELY(good(x)))
        return f(x->t);
    const operand all[] = {operand(x)};
    bad_operand(function, "(x)", all, 1);
    return otherwise;
}

/* The dim counted from the front; -1 and FDL_E_RANGE when it is outside. */
int dim_of(const char *function, const at::Tensor &t, int dim)
{
    int n = (int)t.dim();
    if (dim >= -n && dim < n)
        return dim < 0 ? dim + n : dim;
    if (n == 0)
        fdl_fail(FDL_E_RANGE, "%s: dim %d of a 0-d tensor", function, dim);
    else
        fdl_fail(FDL_E_RANGE, "%s: dim %d is outside [%d, %d]", function, dim, -n, n - 1);
    return -1;
}

} // namespace

int fdl_ndim(fdl_tensor *x)
{
    return ask(__func__, x, -1, [](const at::Tensor &t) { return (int)t.dim(); });
}

fdl_shape fdl_shape_of(fdl_tensor *x)
{
    fdl_shape bad = {};
    bad.ndim = -1;
    return ask(__func__, x, bad, [&](const at::Tensor &t) {
        fdl_shape s = {};
        if (t.dim() > FDL_MAX_DIMS) {
            fdl_fail(FDL_E_SHAPE, "fdl_shape_of: %d dims; a shape has at most %d", (int)t.dim(),
                     FDL_MAX_DIMS);
            return bad;
        }
        s.ndim = (int)t.dim();
        for (int i = 0; i < s.ndim; i++)
            s.d[i] = t.size(i);
        return s;
    });
}

int64_t fdl_size(fdl_tensor *x, int dim)
{
    return ask(__func__, x, (int64_t)-1, [&](const at::Tensor &t) {
        int d = dim_of("fdl_size", t, dim);
        return d < 0 ? (int64_t)-1 : t.sizes()[(size_t)d];
    });
}

int64_t fdl_stride(fdl_tensor *x, int dim)
{
    return ask(__func__, x, (int64_t)-1, [&](const at::Tensor &t) {
        int d = dim_of("fdl_stride", t, dim);
        return d < 0 ? (int64_t)-1 : t.strides()[(size_t)d];
    });
}

int64_t fdl_storage_offset(fdl_tensor *x)
{
    return ask(__func__, x, (int64_t)-1, [](const at::Tensor &t) { return t.storage_offset(); });
}

int64_t fdl_numel(fdl_tensor *x)
{
    return ask(__func__, x, (int64_t)-1, [](const at::Tensor &t) { return t.numel(); });
}

int64_t fdl_nbytes(fdl_tensor *x)
{
    return ask(__func__, x, (int64_t)-1,
               [](const at::Tensor &t) { return t.numel() * (int64_t)t.itemsize(); });
}

fdl_dtype fdl_dtype_of(fdl_tensor *x)
{
    return ask(__func__, x, FDL_DTYPE_DEFAULT, [](const at::Tensor &t) { return dtype_of(t.scalar_type()); });
}

fdl_device fdl_device_of(fdl_tensor *x)
{
    return ask(__func__, x, fdl_device{0, 0}, [](const at::Tensor &t) { return device_of(t.device()); });
}

bool fdl_is_contiguous(fdl_tensor *x)
{
    return ask(__func__, x, false, [](const at::Tensor &t) { return t.is_contiguous(); });
}

bool fdl_is_channels_last(fdl_tensor *x)
{
    return ask(__func__, x, false, [](const at::Tensor &t) {
        return (t.dim() == 4 && t.is_contiguous(at::MemoryFormat::ChannelsLast)) ||
               (t.dim() == 5 && t.is_contiguous(at::MemoryFormat::ChannelsLast3d));
    });
}

bool fdl_is_pinned(fdl_tensor *x)
{
    return OP((x), at::hasCUDA() && x->t.is_pinned());
}

char *fdl_describe(fdl_tensor *x, char *buf, size_t n)
{
    if (!buf || !n)
        return buf;
    buf[0] = 0;
    size_t used = 0;
    auto add = [&](const char *format, auto... values) {
        int length = snprintf(buf + used, n - used, format, values...);
        used = length < 0 || used + (size_t)length >= n ? n - 1 : used + (size_t)length;
    };
    return ask(__func__, x, buf, [&](const at::Tensor &t) {
        if (!t.defined()) {
            add("%s", "undefined");
            return buf;
        }
        add("%s", "[");
        for (int64_t i = 0; i < t.dim(); i++)
            add(i ? ", %" PRId64 : "%" PRId64, t.sizes()[(size_t)i]);
        fdl_dtype dtype = dtype_of(t.scalar_type());
        char device[FDL_DEVICE_NAME_SIZE];
        add("] %s %s%s", dtype == FDL_DTYPE_DEFAULT ? c10::toString(t.scalar_type()) : fdl_dtype_name(dtype),
            t.device().is_cpu() || t.is_cuda() || t.is_meta() ? fdl_device_name(device_of(t.device()), device)
                                                              : "other device",
            t.requires_grad() ? " requires_grad" : "");
        return buf;
    });
}

namespace
{

void print_number(FILE *file, const at::Tensor &t, int64_t at)
{
    if (t.scalar_type() == at::kBool)
        fprintf(file, "%s", t.const_data_ptr<bool>()[at] ? "true" : "false");
    else if (t.scalar_type() == at::kLong)
        fprintf(file, "%" PRId64, t.const_data_ptr<int64_t>()[at]);
    else
        fprintf(file, "%.4g", t.const_data_ptr<double>()[at]);
}

void print_dim(FILE *file, const at::Tensor &t, int64_t dim, int64_t at, bool shorten)
{
    if (dim == t.dim()) {
        print_number(file, t, at);
        return;
    }
    int64_t n = t.size(dim), edge = 3;
    fputc('[', file);
    for (int64_t i = 0; i < n; i++) {
        if (i) {
            fputc(',', file);
            if (dim + 1 == t.dim())
                fputc(' ', file);
            else
                fprintf(file, "%.*s%*s", t.dim() - dim > 2 ? 2 : 1, "\n\n", (int)dim + 1, "");
        }
        if (shorten && n > 2 * edge && i == edge) {
            fputs("...", file);
            i = n - edge - 1;
            continue;
        }
        print_dim(file, t, dim + 1, at + i * t.stride(dim), shorten);
    }
    fputc(']', file);
}

} // namespace

fdl_status fdl_print(fdl_tensor *x, FILE *file)
{
    return OP_DO((x), {
        if (!file)
            fail(FDL_E_NULL, "file is NULL");
        at::ScalarType s = x->t.scalar_type();
        at::ScalarType shown = s == at::kBool ? s : at::isIntegralType(s, false) ? at::kLong : at::kDouble;
        at::Tensor t = x->t.detach().to(at::kCPU, shown).contiguous();
        char text[256];
        print_dim(file, t, 0, 0, t.numel() > 1000);
        fprintf(file, "  %s\n", fdl_describe(x, text, sizeof text));
        if (ferror(file))
            fail(FDL_E_IO, "writing failed");
    });
}

/* ---- reading back -------------------------------------------------------------------------------------- */

namespace
{

at::Scalar one_element(fdl_tensor *x)
{
    if (x->t.numel() != 1)
        fail(FDL_E_SHAPE, "needs 1 element, got %" PRId64, x->t.numel());
    return x->t.item();
}

template <class V>
fdl_status read_back(const char *function, fdl_tensor *x, V *out, int64_t n, at::ScalarType type)
{
    return run(function, "(x)", pack(x), [&] {
        if (n != x->t.numel())
            fail(FDL_E_SHAPE, "has %" PRId64 " elements, the caller asked for %" PRId64, x->t.numel(), n);
        if (n == 0)
            return;
        if (!out)
            fail(FDL_E_NULL, "out is NULL");
        at::Tensor t = x->t.detach().to(type).cpu().contiguous();
        memcpy(out, t.const_data_ptr(), t.nbytes());
    });
}

} // namespace

double fdl_item(fdl_tensor *x)
{
    double value = NAN;
    OP_DO((x), { value = one_element(x).toDouble(); });
    return value;
}

int64_t fdl_item_i64(fdl_tensor *x)
{
    int64_t value = 0;
    OP_DO((x), {
        at::Scalar s = one_element(x);
        value = s.isFloatingPoint() ? (int64_t)s.toDouble() : s.toLong();
    });
    return value;
}

bool fdl_item_bool(fdl_tensor *x)
{
    bool value = false;
    OP_DO((x), {
        at::Scalar s = one_element(x);
        value = s.isFloatingPoint() ? s.toDouble() != 0 : s.toLong() != 0;
    });
    return value;
}

fdl_status fdl_to_f32(fdl_tensor *x, float *out, int64_t n)
{
    return read_back(__func__, x, out, n, at::kFloat);
}

fdl_status fdl_to_f64(fdl_tensor *x, double *out, int64_t n)
{
    return read_back(__func__, x, out, n, at::kDouble);
}

fdl_status fdl_to_i64(fdl_tensor *x, int64_t *out, int64_t n)
{
    return read_back(__func__, x, out, n, at::kLong);
}

fdl_status fdl_to_i32(fdl_tensor *x, int32_t *out, int64_t n)
{
    return read_back(__func__, x, out, n, at::kInt);
}

fdl_status fdl_to_u8(fdl_tensor *x, uint8_t *out, int64_t n)
{
    return read_back(__func__, x, out, n, at::kByte);
}

fdl_status fdl_to_bytes(fdl_tensor *x, void *out, size_t nbytes)
{
    return OP_DO((x), {
        size_t have = (size_t)x->t.numel() * x->t.itemsize();
        if (nbytes != have)
            fail(FDL_E_SHAPE, "has %zu bytes, the caller asked for %zu", have, nbytes);
        if (!out && nbytes)
            fail(FDL_E_NULL, "out is NULL");
        at::Tensor t = x->t.detach().cpu().contiguous();
        if (nbytes)
            memcpy(out, t.const_data_ptr(), nbytes);
    });
}

void *fdl_data_ptr(fdl_tensor *x)
{
    return OP_DO((x), {
        if (!x->t.device().is_cpu())
            fail(FDL_E_DEVICE, "the elements are not in CPU memory");
        if (!x->t.is_contiguous())
            fail(FDL_E_STATE, "the tensor is not contiguous; fdl_contiguous makes one that is");
        return x->t.data_ptr();
    });
}

bool fdl_all_finite(fdl_tensor *x)
{
    return OP((x), at::isfinite(x->t).all().item<bool>());
}

bool fdl_same(fdl_tensor *a, fdl_tensor *b)
{
    return OP((a, b), a->t.scalar_type() == b->t.scalar_type() && a->t.sizes() == b->t.sizes() &&
                          at::equal(a->t, b->t));
}

bool fdl_allclose_opt(fdl_tensor *a, fdl_tensor *b, const fdl_allclose_opts *opts)
{
    static const fdl_allclose_opts none = {};
    const fdl_allclose_opts &o = opts ? *opts : none;
    return OP((a, b), at::allclose(a->t, b->t, fdl_opt_double(o.rtol, 1e-5), fdl_opt_double(o.atol, 1e-8),
                                   o.equal_nan));
}

fdl_list fdl_batches(fdl_tensor *x, int64_t n)
{
    return OP_DO((x), {
        if (n < 1)
            fail(FDL_E_ARG, "batches of %" PRId64 " rows", n);
        if (x->t.dim() == 0)
            fail(FDL_E_ARG, "a 0-d tensor has no rows");
        return x->t.size(0) ? x->t.split(n, 0) : std::vector<at::Tensor>();
    });
}

/* ---- dtype, device, layout ------------------------------------------------------------------------------- */

namespace
{

at::MemoryFormat channels_last_of(const at::Tensor &t)
{
    if (t.dim() == 4)
        return at::MemoryFormat::ChannelsLast;
    if (t.dim() == 5)
        return at::MemoryFormat::ChannelsLast3d;
    fail(FDL_E_SHAPE, "channels-last is a layout of 4-d and 5-d tensors");
}

at::Tensor converted(const at::Tensor &t, const fdl_to_opts *opts, fdl_device where)
{
    static const fdl_to_opts none = {};
    const fdl_to_opts &o = opts ? *opts : none;
    at::Device target = where.type == FDL_DEVICE_TYPE_DEFAULT ? t.device() : device(where);
    at::ScalarType type = maybe_scalar_type(o.dtype).value_or(t.scalar_type());
    std::optional<at::MemoryFormat> format;
    if (o.channels_last)
        format = channels_last_of(t);
    return t.to(target, type, o.non_blocking, o.copy, format);
}

} // namespace

fdl_tensor *fdl_to_opt(fdl_tensor *x, const fdl_to_opts *opts)
{
    return OP((x), converted(x->t, opts, opts ? opts->device : fdl_device{0, 0}));
}

fdl_tensor *fdl_to_device_opt(fdl_tensor *x, fdl_device d, const fdl_to_opts *opts)
{
    return OP((x), converted(x->t, opts, d.type == FDL_DEVICE_TYPE_DEFAULT ? fdl_default_device() : d));
}

fdl_tensor *fdl_to_device_of(fdl_tensor *x, fdl_tensor *other)
{
    return OP((x, other), x->t.to(other->t.device()));
}

fdl_tensor *fdl_cpu(fdl_tensor *x)
{
    return OP((x), x->t.cpu());
}

fdl_tensor *fdl_cuda(fdl_tensor *x)
{
    return OP((x), x->t.is_cuda() ? x->t : x->t.to(device(FDL_CUDA(0))));
}

fdl_tensor *fdl_to_dtype(fdl_tensor *x, fdl_dtype dtype)
{
    return OP((x), x->t.to(scalar_type(dtype)));
}

fdl_tensor *fdl_float(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kFloat));
}

fdl_tensor *fdl_double(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kDouble));
}

fdl_tensor *fdl_half(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kHalf));
}

fdl_tensor *fdl_bfloat16(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kBFloat16));
}

fdl_tensor *fdl_long(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kLong));
}

fdl_tensor *fdl_bool(fdl_tensor *x)
{
    return OP((x), x->t.to(at::kBool));
}

fdl_tensor *fdl_pin_memory(fdl_tensor *x)
{
    return OP_DO((x), {
        if (!x->t.device().is_cpu())
            fail(FDL_E_DEVICE, "only CPU memory can be page-locked");
        device(FDL_CUDA(0)); /* fails when there is none */
        return x->t.pin_memory();
    });
}

fdl_tensor *fdl_channels_last(fdl_tensor *x)
{
    return OP((x), x->t.contiguous(channels_last_of(x->t)));
}

fdl_tensor *fdl_contiguous(fdl_tensor *x)
{
    return OP((x), x->t.contiguous());
}

fdl_tensor *fdl_clone(fdl_tensor *x)
{
    return OP((x), at::clone(x->t));
}
