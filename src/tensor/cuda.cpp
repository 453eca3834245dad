/* CUDA devices. What libtorch does for any device goes through its device-generic interface; what only CUDA's own headers
 * have is compiled where they are (FLODL_CUDA). */
#include "flodl/cuda.h"
#include "cuda.h"
#include "flodl/message.h"

#include <ATen/Context.h>
#include <ATen/ops/add.h>
#include <ATen/ops/ones.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#ifdef FLODL_CUDA
#include <c10/cuda/CUDAException.h>
#endif

using namespace flodl;

bool fdl_cuda_available(void)
{
    return OP((), cuda_count() > 0);
}

int fdl_cuda_count(void)
{
    return OP((), cuda_count());
}

int fdl_cuda_current(void)
{
    return OP((), cuda_count() ? (int)c10::impl::VirtualGuardImpl(at::kCUDA).getDevice().index() : 0);
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

#ifdef FLODL_CUDA

namespace
{

cudaDeviceProp properties(int i)
{
    gpu(i);
    cudaDeviceProp p;
    C10_CUDA_CHECK(cudaGetDeviceProperties(&p, i));
    return p;
}

/* What to say of a device for which there are no kernels. */
std::string no_kernels(int i)
{
    cudaDeviceProp p = properties(i);
    char text[512];
    snprintf(text, sizeof text,
             "cuda:%d (%s, sm_%d%d): this libtorch has no kernels for it; a build of libtorch for %s has", i,
             p.name, p.major, p.minor, p.major <= 6 ? "CUDA 12.6 (cu126)" : "CUDA 12.8 (cu128) or newer");
    return text;
}

} // namespace

fdl_status fdl_cuda_name(int i, char *buf, size_t n)
{
    return OP_DO((), {
        if (!buf || !n)
            fail(FDL_E_NULL, "buf is NULL");
        snprintf(buf, n, "%s", properties(i).name);
    });
}

fdl_status fdl_cuda_capability(int i, int *major, int *minor)
{
    return OP_DO((), {
        cudaDeviceProp p = properties(i);
        if (major)
            *major = p.major;
        if (minor)
            *minor = p.minor;
    });
}

fdl_status fdl_cuda_info(int i, fdl_cuda_device_info *info)
{
    return OP_DO((), {
        if (!info)
            fail(FDL_E_NULL, "info is NULL");
        cudaDeviceProp p = properties(i);
        *info = {};
        info->index = i;
        snprintf(info->name, sizeof info->name, "%s", p.name);
        info->total_memory = (int64_t)p.totalGlobalMem;
        info->sm_major = p.major;
        info->sm_minor = p.minor;
        info->multiprocessors = p.multiProcessorCount;
        char *at = info->uuid + snprintf(info->uuid, sizeof info->uuid, "GPU-");
        for (int k = 0; k < 16; k++)
            at += snprintf(at, 4, "%s%02x", k == 4 || k == 6 || k == 8 || k == 10 ? "-" : "",
                           (unsigned)(unsigned char)p.uuid.bytes[k]);
    });
}

#else

fdl_status fdl_cuda_name(int i, char *, size_t)
{
    return OP_DO((), { without_cuda(i); });
}

fdl_status fdl_cuda_capability(int i, int *, int *)
{
    return OP_DO((), { without_cuda(i); });
}

fdl_status fdl_cuda_info(int i, fdl_cuda_device_info *)
{
    return OP_DO((), { without_cuda(i); });
}

namespace
{
std::string no_kernels(int i)
{
    without_cuda(i);
}
} // namespace

#endif

fdl_status fdl_cuda_probe(int i)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        bool computes = true;
        try {
            if (at::add(at::ones({1}, at::TensorOptions().device(d)), 1).item<float>() != 2)
                fail(FDL_E_DEVICE, "cuda:%d computes wrong numbers", i);
        } catch (const c10::Error &e) {
            if (!strstr(e.what_without_backtrace(), "no kernel image"))
                throw;
            computes = false;
        }
        if (!computes)
            fail(FDL_E_UNSUPPORTED, "%s", no_kernels(i).c_str());
    });
}

int fdl_cuda_usable(int *out, int room)
{
    int n = 0, count = fdl_cuda_count();
    for (int i = 0; i < count; i++) {
        bool pending = fdl_error_pending() != FDL_OK;
        if (fdl_cuda_probe(i) == FDL_OK) {
            if (out && n < room)
                out[n] = i;
            n++;
        } else if (!pending) {
            if (fdl_msg_enabled(FDL_VERBOSE))
                fdl_msg_emit(FDL_VERBOSE, "cuda:%d is left out: %s", i, fdl_last_error()->message);
            fdl_clear_error();
        }
    }
    return n;
}
