/* How busy a device is: from the driver's management library, which is loaded if it is there. Its few types are declared here:
 * its header isn't part of the CUDA runtime. */
#include "cuda.h"
#include "flodl/cuda.h"

#ifdef FLODL_CUDA
#include <cuda_runtime_api.h>

#include <dlfcn.h>
#endif

using namespace flodl;

#ifdef FLODL_CUDA

namespace
{

struct nvml {
    struct utilization {
        unsigned gpu, memory; /* percent */
    };
    using device = void *;

    bool works = false;
    int (*by_bus)(const char *, device *) = nullptr;
    int (*rates)(device, utilization *) = nullptr;

    nvml()
    {
        void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!library)
            return;
        auto init = (int (*)())dlsym(library, "nvmlInit_v2");
        by_bus = (int (*)(const char *, device *))dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2");
        rates = (int (*)(device, utilization *))dlsym(library, "nvmlDeviceGetUtilizationRates");
        works = init && by_bus && rates && init() == 0;
    }
};

const nvml &library()
{
    static const nvml it;
    return it;
}

} // namespace

int fdl_cuda_utilization(int i)
{
    if (i < 0 || i >= fdl_cuda_count())
        return -1;
    /* The library counts all devices of the machine, CUDA those that the process may see: the bus tells which it is. */
    char bus[32];
    nvml::device device;
    nvml::utilization now;
    if (cudaDeviceGetPCIBusId(bus, sizeof bus, i) != cudaSuccess) {
        (void)cudaGetLastError();
        return -1;
    }
    const nvml &l = library();
    if (!l.works || l.by_bus(bus, &device) != 0 || l.rates(device, &now) != 0)
        return -1;
    return now.gpu > 100 ? 100 : (int)now.gpu;
}

#else

int fdl_cuda_utilization(int)
{
    return -1;
}

#endif
