/* Versions, and the number of threads. */
#include "cuda.h"
#include "flodl/version.h"
#include "internal.h"

#include <ATen/Parallel.h>
#include <torch/version.h>

using namespace flodl;

const char *fdl_version(void)
{
    return FDL_VERSION;
}

char *fdl_libtorch_version(char *buf, size_t n)
{
    if (buf && n)
        snprintf(buf, n, "%d.%d.%d", TORCH_VERSION_MAJOR, TORCH_VERSION_MINOR, TORCH_VERSION_PATCH);
    return buf;
}

bool fdl_built_with_cuda(void)
{
    return OP((), cuda_built());
}

int fdl_num_threads(void)
{
    return OP((), at::get_num_threads());
}

fdl_status fdl_set_num_threads(int n)
{
    return OP_DO((), {
        if (n < 1)
            fail(FDL_E_ARG, "%d threads", n);
        at::set_num_threads(n);
    });
}
