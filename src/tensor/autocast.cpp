/* Autocast as a mode of the thread. The casts themselves are libtorch's. */
#include "flodl/autocast.h"
#include "flodl/cuda.h"
#include "internal.h"
#include "thread.h"

#include <ATen/autocast_mode.h>

using namespace flodl;

namespace
{

/* What a mode restores, packed into its 64 bits. */
enum : uint64_t { cpu_on = 1, cuda_on = 2, cache_on = 4 };
enum {
    dtype_shift = 8,
    type_shift = 16
}; /* the dtype that was set for the type, and the type; 0: none was set */

at::DeviceType torch_type(int16_t type)
{
    return type == FDL_DEVICE_TYPE_CUDA ? at::kCUDA : at::kCPU;
}

void restore(thread::mode &m)
{
    at::autocast::set_autocast_enabled(at::kCPU, m.saved & cpu_on);
    at::autocast::set_autocast_enabled(at::kCUDA, m.saved & cuda_on);
    at::autocast::set_autocast_cache_enabled(m.saved & cache_on);
    if (int16_t type = (int16_t)(m.saved >> type_shift))
        at::autocast::set_autocast_dtype(torch_type(type), (at::ScalarType)(int8_t)(m.saved >> dtype_shift));
    if (at::autocast::decrement_nesting() == 0)
        at::autocast::clear_cache();
}

/* Opens the mode with what is to be restored; type 0: the dtypes stay. */
fdl_mode_guard open(int16_t type)
{
    uint64_t saved = 0;
    if (at::autocast::is_autocast_enabled(at::kCPU))
        saved |= cpu_on;
    if (at::autocast::is_autocast_enabled(at::kCUDA))
        saved |= cuda_on;
    if (at::autocast::is_autocast_cache_enabled())
        saved |= cache_on;
    if (type)
        saved |= (uint64_t)type << type_shift |
                 (uint64_t)(uint8_t)at::autocast::get_autocast_dtype(torch_type(type)) << dtype_shift;
    fdl_mode_guard mode = mode_open(mode_kind::autocast, restore, saved);
    if (mode.depth)
        at::autocast::increment_nesting();
    return mode;
}

} // namespace

fdl_mode_guard fdl_amp_autocast_open_opt(const fdl_amp_autocast_opts *opts)
{
    const fdl_amp_autocast_opts &o = or_default(opts);
    int16_t type = o.device_type ? o.device_type : fdl_default_device().type;
    if (type != FDL_DEVICE_TYPE_CPU && type != FDL_DEVICE_TYPE_CUDA) {
        fdl_fail(FDL_E_ARG,
                 "fdl_amp_autocast_open: .device_type is %d, neither FDL_DEVICE_TYPE_CPU nor _CUDA",
                 (int)type);
        return {0};
    }
    if (type == FDL_DEVICE_TYPE_CUDA && !fdl_cuda_available()) {
        fdl_fail(FDL_E_DEVICE, "fdl_amp_autocast_open: there is no CUDA device here");
        return {0};
    }
    fdl_dtype dtype = o.dtype ? o.dtype : type == FDL_DEVICE_TYPE_CUDA ? FDL_FLOAT16 : FDL_BFLOAT16;
    if (dtype != FDL_FLOAT16 && dtype != FDL_BFLOAT16) {
        fdl_fail(FDL_E_DTYPE, "fdl_amp_autocast_open: .dtype is %s; it must be float16 or bfloat16",
                 fdl_dtype_name(dtype));
        return {0};
    }
    fdl_mode_guard mode = open(type);
    if (mode.depth) {
        at::autocast::set_autocast_enabled(torch_type(type), true);
        at::autocast::set_autocast_dtype(torch_type(type), scalar_type(dtype));
        at::autocast::set_autocast_cache_enabled(!o.no_cache);
    }
    return mode;
}

fdl_mode_guard fdl_amp_autocast_off(void)
{
    fdl_mode_guard mode = open(FDL_DEVICE_TYPE_DEFAULT);
    if (mode.depth) {
        at::autocast::set_autocast_enabled(at::kCPU, false);
        at::autocast::set_autocast_enabled(at::kCUDA, false);
    }
    return mode;
}

bool fdl_amp_autocast_enabled(int16_t device_type)
{
    if (!device_type)
        device_type = fdl_default_device().type;
    return (device_type == FDL_DEVICE_TYPE_CPU || device_type == FDL_DEVICE_TYPE_CUDA) &&
           at::autocast::is_autocast_enabled(torch_type(device_type));
}

fdl_dtype fdl_amp_autocast_dtype(int16_t device_type)
{
    if (!device_type)
        device_type = fdl_default_device().type;
    if (device_type != FDL_DEVICE_TYPE_CPU && device_type != FDL_DEVICE_TYPE_CUDA)
        return FDL_DTYPE_DEFAULT;
    return dtype_of(at::autocast::get_autocast_dtype(torch_type(device_type)));
}
