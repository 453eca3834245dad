/* Which of several kernels libtorch takes: switches of the whole process, with or without a device. */
#include "flodl/cuda.h"
#include "internal.h"

#include <ATen/Context.h>

using namespace flodl;

fdl_status fdl_cudnn_benchmark(bool on)
{
    return OP_DO((), { at::globalContext().setBenchmarkCuDNN(on); });
}

bool fdl_is_cudnn_benchmark(void)
{
    return OP((), at::globalContext().benchmarkCuDNN());
}

fdl_status fdl_cudnn_enabled(bool on)
{
    return OP_DO((), { at::globalContext().setUserEnabledCuDNN(on); });
}

bool fdl_is_cudnn_enabled(void)
{
    return OP((), at::globalContext().userEnabledCuDNN());
}

fdl_status fdl_allow_tf32(bool matmul, bool cudnn)
{
    return OP_DO((), {
        at::globalContext().setAllowTF32CuBLAS(matmul);
        at::globalContext().setAllowTF32CuDNN(cudnn);
    });
}

fdl_status fdl_is_tf32_allowed(bool *matmul, bool *cudnn)
{
    return OP_DO((), {
        if (matmul)
            *matmul = at::globalContext().allowTF32CuBLAS();
        if (cudnn)
            *cudnn = at::globalContext().allowTF32CuDNN();
    });
}
