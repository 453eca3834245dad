/* Dtypes, devices, shapes, lists. */
#include "flodl/types.h"
#include "cuda.h"
#include "flodl/tensor.h"
#include "internal.h"
#include "meta.h"
#include "thread.h"

#include <c10/core/DeviceGuard.h>

#include <cmath>

using namespace flodl;

namespace
{
struct row {
    const char *name;
    int size;
    at::ScalarType torch;
};
const row dtypes[] = {{"default dtype", 0, at::ScalarType::Undefined},
#define ROW(name, value, text, size, torch) {text, size, at::ScalarType::torch},
                      FDL_DTYPE_MAP(ROW)
#undef ROW
};
constexpr int dtype_count = sizeof dtypes / sizeof *dtypes;

const row *find(fdl_dtype d)
{
    return (int)d >= 0 && (int)d < dtype_count ? &dtypes[d] : nullptr;
}
} // namespace

int fdl_dtype_size(fdl_dtype dtype)
{
    const row *r = find(dtype);
    return r ? r->size : 0;
}

const char *fdl_dtype_name(fdl_dtype dtype)
{
    const row *r = find(dtype);
    return r ? r->name : "unknown dtype";
}

bool fdl_dtype_is_floating(fdl_dtype dtype)
{
    return dtype >= FDL_FLOAT32 && dtype <= FDL_BFLOAT16;
}

namespace flodl
{

std::optional<at::ScalarType> maybe_scalar_type(fdl_dtype d)
{
    if (d == FDL_DTYPE_DEFAULT)
        return std::nullopt;
    const row *r = find(d);
    if (!r)
        fail(FDL_E_DTYPE, "%d is no dtype", (int)d);
    return r->torch;
}

at::ScalarType scalar_type(fdl_dtype d)
{
    return *maybe_scalar_type(d == FDL_DTYPE_DEFAULT ? self().default_dtype : d);
}

fdl_dtype dtype_of(at::ScalarType s)
{
    for (int i = 1; i < dtype_count; i++)
        if (dtypes[i].torch == s)
            return (fdl_dtype)i;
    return FDL_DTYPE_DEFAULT;
}

at::Device device(fdl_device d)
{
    if (d.type == FDL_DEVICE_TYPE_DEFAULT)
        d = self().default_device;
    if (d.type == FDL_DEVICE_TYPE_CPU)
        return at::Device(at::kCPU);
    if (d.type == FDL_DEVICE_TYPE_META) {
        prepare_meta();
        return at::Device(at::kMeta);
    }
    char name[FDL_DEVICE_NAME_SIZE];
    if (d.type != FDL_DEVICE_TYPE_CUDA || d.index < 0)
        fail(FDL_E_DEVICE, "%s is no device", fdl_device_name(d, name));
    if (d.index >= cuda_count())
        fail(FDL_E_DEVICE, "%s: %s", fdl_device_name(d, name), cuda_devices().c_str());
    return at::Device(at::kCUDA, (at::DeviceIndex)d.index);
}

fdl_device device_of(at::Device d)
{
    if (d.is_cuda())
        return fdl_device_cuda(d.index());
    return d.is_meta() ? fdl_device_meta() : fdl_device_cpu();
}

} // namespace flodl

bool fdl_device_eq(fdl_device a, fdl_device b)
{
    return a.type == b.type && a.index == b.index;
}

char *fdl_device_name(fdl_device d, char *buf)
{
    if (!buf) {
        fdl_null_operand(__func__, "buf");
        return nullptr;
    }
    if (d.type == FDL_DEVICE_TYPE_DEFAULT)
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "default");
    else if (d.type == FDL_DEVICE_TYPE_CPU)
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "cpu");
    else if (d.type == FDL_DEVICE_TYPE_META)
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "meta");
    else if (d.type != FDL_DEVICE_TYPE_CUDA)
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "?%d:%d", d.type, d.index);
    else if (d.index == 0)
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "cuda");
    else
        snprintf(buf, FDL_DEVICE_NAME_SIZE, "cuda:%d", d.index);
    return buf;
}

fdl_status fdl_device_parse(const char *text, fdl_device *d)
{
    if (!text || !d)
        return fdl_null_operand(__func__, text ? "d" : "text");
    if (strcmp(text, "cpu") == 0) {
        *d = fdl_device_cpu();
        return FDL_OK;
    }
    if (strcmp(text, "meta") == 0) {
        *d = fdl_device_meta();
        return FDL_OK;
    }
    if (strcmp(text, "cuda") == 0) {
        *d = fdl_device_cuda(0);
        return FDL_OK;
    }
    if (strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9' && strlen(text) <= 8) {
        char *end;
        long index = strtol(text + 5, &end, 10);
        if (!*end && index <= 127) {
            *d = fdl_device_cuda((int)index);
            return FDL_OK;
        }
    }
    return fdl_fail(FDL_E_ARG,
                    "\"%.40s\" is no device; devices are \"cpu\", \"cuda\", \"cuda:1\" and \"meta\"", text);
}

fdl_status fdl_set_default_dtype(fdl_dtype dtype)
{
    if (!fdl_dtype_is_floating(dtype))
        return fdl_fail(FDL_E_DTYPE, "fdl_set_default_dtype: %s is no floating dtype", fdl_dtype_name(dtype));
    self().default_dtype = dtype;
    return FDL_OK;
}

fdl_dtype fdl_default_dtype(void)
{
    return self().default_dtype;
}

fdl_status fdl_set_default_device(fdl_device d)
{
    return OP_DO((), {
        device(d);
        self().default_device = d.type == FDL_DEVICE_TYPE_DEFAULT ? fdl_device_cpu() : d;
    });
}

fdl_device fdl_default_device(void)
{
    return self().default_device;
}

bool fdl_shape_eq(fdl_shape a, fdl_shape b)
{
    return a.ndim == b.ndim && (a.ndim <= 0 || memcmp(a.d, b.d, sizeof *a.d * (size_t)a.ndim) == 0);
}

int64_t fdl_shape_numel(fdl_shape shape)
{
    int64_t n = 1;
    for (int i = 0; i < shape.ndim; i++)
        n *= shape.d[i];
    return n;
}

fdl_list fdl_list_of(fdl_tensor **ended)
{
    if (!ended)
        fdl_null_operand(__func__, "ended");
    fdl_list list = {0, ended};
    while (ended && ended[list.n] != FDL_END)
        list.n++;
    return list;
}

fdl_tensor *fdl_list_at(fdl_list list, int i)
{
    if (!list.at) {
        fdl_null_operand(__func__, "list");
        return nullptr;
    }
    if (i < 0 || i >= list.n) {
        fdl_fail(FDL_E_RANGE, "fdl_list_at: index %d of a list of %d", i, list.n);
        return nullptr;
    }
    if (!list.at[i])
        fdl_null_operand(__func__, "element");
    return list.at[i];
}
