/* CUDA devices and their memory. What libtorch does for any device goes through its device-generic interface; what only
 * CUDA's own headers have is compiled where they are (FLODL_CUDA). */
#include "flodl/cuda.h"
#include "internal.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#ifdef FLODL_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#endif

using namespace flodl;

namespace
{

int count()
{
    return at::hasCUDA() ? (int)at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount() : 0;
}

/* Device i, or FDL_E_DEVICE. */
at::Device gpu(int i)
{
    if (!at::hasCUDA())
        fail(FDL_E_DEVICE, "this libtorch has no CUDA");
    int n = count();
    if (n == 0)
        fail(FDL_E_DEVICE, "no CUDA device found");
    if (i < 0 || i >= n)
        fail(FDL_E_DEVICE, "device %d: this machine has %d CUDA device%s", i, n, n == 1 ? "" : "s");
    return at::Device(at::kCUDA, (at::DeviceIndex)i);
}

#ifdef FLODL_CUDA
enum class which { allocated, reserved };

int64_t stat(int i, which what, bool peak)
{
    at::Device d = gpu(i);
    c10::cuda::CUDACachingAllocator::init(count());
    auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(d.index());
    const auto &s = (what == which::allocated ? stats.allocated_bytes : stats.reserved_bytes)[0];
    return peak ? s.peak : s.current;
}
#define STAT(i, what, peak) stat(i, which::what, peak)
#else
[[noreturn]] void without_cuda(int i)
{
    gpu(i);
    fail(FDL_E_DEVICE, "flodl was built without CUDA");
}
int64_t no_stat(int i)
{
    without_cuda(i);
}
#define STAT(i, what, peak) no_stat(i)
#endif

template <class F>
fdl_status measure(const char *function, int64_t *n, F &&f)
{
    return run(function, "()", pack(), [&] {
        if (!n)
            fail(FDL_E_NULL, "n is NULL");
        *n = f();
    });
}

} // namespace

bool fdl_cuda_available(void)
{
    return OP((), count() > 0);
}

int fdl_cuda_count(void)
{
    return OP((), count());
}

int fdl_cuda_current(void)
{
    return OP((), count() ? (int)c10::impl::VirtualGuardImpl(at::kCUDA).getDevice().index() : 0);
}

fdl_status fdl_cuda_set_current(int i)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        c10::impl::VirtualGuardImpl(at::kCUDA).setDevice(d);
    });
}

fdl_status fdl_cuda_synchronize(int i)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        c10::impl::VirtualGuardImpl(at::kCUDA).synchronizeDevice(d.index());
    });
}

fdl_status fdl_cuda_memory_allocated(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return STAT(i, allocated, false); });
}

fdl_status fdl_cuda_memory_reserved(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return STAT(i, reserved, false); });
}

fdl_status fdl_cuda_max_memory_allocated(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return STAT(i, allocated, true); });
}

fdl_status fdl_cuda_max_memory_reserved(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return STAT(i, reserved, true); });
}

#ifdef FLODL_CUDA

fdl_status fdl_cuda_reset_peak_memory_stats(int i)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        c10::cuda::CUDACachingAllocator::init(count());
        c10::cuda::CUDACachingAllocator::resetPeakStats(d.index());
    });
}

fdl_status fdl_cuda_empty_cache(void)
{
    return OP_DO((), {
        gpu(0);
        c10::cuda::CUDACachingAllocator::init(count());
        c10::cuda::CUDACachingAllocator::emptyCache();
    });
}

fdl_status fdl_cuda_mem_info(int i, int64_t *used, int64_t *total)
{
    return OP_DO((), {
        c10::cuda::CUDAGuard on(gpu(i));
        size_t free_bytes = 0, all = 0;
        C10_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all));
        if (used)
            *used = (int64_t)(all - free_bytes);
        if (total)
            *total = (int64_t)all;
    });
}

fdl_status fdl_cuda_name(int i, char *buf, size_t n)
{
    return OP_DO((), {
        gpu(i);
        if (!buf || !n)
            fail(FDL_E_NULL, "buf is NULL");
        cudaDeviceProp properties;
        C10_CUDA_CHECK(cudaGetDeviceProperties(&properties, i));
        snprintf(buf, n, "%s", properties.name);
    });
}

#else

fdl_status fdl_cuda_reset_peak_memory_stats(int i)
{
    return OP_DO((), { without_cuda(i); });
}

fdl_status fdl_cuda_empty_cache(void)
{
    return OP_DO((), { without_cuda(0); });
}

fdl_status fdl_cuda_mem_info(int i, int64_t *, int64_t *)
{
    return OP_DO((), { without_cuda(i); });
}

fdl_status fdl_cuda_name(int i, char *, size_t)
{
    return OP_DO((), { without_cuda(i); });
}

#endif
