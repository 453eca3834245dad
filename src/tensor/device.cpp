/* Which CUDA devices there are, by libtorch's device-generic interface: for builds with and without CUDA. */
#include "cuda.h"
#include "thread.h"

#include <ATen/Context.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace flodl
{

bool cuda_built()
{
    return c10::impl::hasDeviceGuardImpl(at::kCUDA);
}

int cuda_count()
{
    return at::hasCUDA() ? (int)at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount() : 0;
}

std::string cuda_devices()
{
    int n = cuda_count();
    if (n == 0)
        return cuda_built() ? "no CUDA device found" : "built without CUDA, so there is no CUDA device";
    return "this machine has " + std::to_string(n) + " CUDA device" + (n == 1 ? "" : "s");
}

at::Device gpu(int i)
{
    int n = cuda_count();
    if (n == 0)
        fail(FDL_E_DEVICE, "%s", cuda_devices().c_str());
    if (i < 0 || i >= n)
        fail(FDL_E_DEVICE, "device %d: %s", i, cuda_devices().c_str());
    return at::Device(at::kCUDA, (at::DeviceIndex)i);
}

at::Device gpu(fdl_device d)
{
    at::Device it = device(d);
    if (!it.is_cuda())
        fail(FDL_E_DEVICE, "a CUDA device is needed, not the CPU%s",
             cuda_count() ? "" : (", and " + cuda_devices()).c_str());
    return it;
}

void without_cuda(int i)
{
    gpu(i);
    fail(FDL_E_DEVICE, "built without CUDA");
}

} // namespace flodl
