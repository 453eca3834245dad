/* The memory of CUDA devices: the driver's view and the caching allocator's. */
#include "cuda.h"
#include "flodl/cuda.h"

#ifdef FLODL_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#endif

#include <cinttypes>

using namespace flodl;

namespace
{

#ifdef FLODL_CUDA
namespace caching = c10::cuda::CUDACachingAllocator;

auto stats(int i)
{
    at::Device d = gpu(i);
    caching::init(cuda_count());
    return caching::getDeviceStats(d.index());
}

/* The sum over both pools of the allocator. */
template <class Stats>
fdl_cuda_stat stat(const Stats &s)
{
    return {s[0].current, s[0].peak, s[0].allocated, s[0].freed};
}

fdl_cuda_stat allocated(int i)
{
    return stat(stats(i).allocated_bytes);
}
fdl_cuda_stat reserved(int i)
{
    return stat(stats(i).reserved_bytes);
}

void driver_bytes(at::Device d, int64_t *used, int64_t *total)
{
    c10::cuda::CUDAGuard on(d);
    size_t free_bytes = 0, all = 0;
    C10_CUDA_CHECK(cudaMemGetInfo(&free_bytes, &all));
    if (used)
        *used = (int64_t)(all - free_bytes);
    if (total)
        *total = (int64_t)all;
}
#else
fdl_cuda_stat allocated(int i)
{
    without_cuda(i);
}
fdl_cuda_stat reserved(int i)
{
    without_cuda(i);
}
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

fdl_status fdl_cuda_memory_allocated(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return allocated(i).current; });
}

fdl_status fdl_cuda_memory_reserved(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return reserved(i).current; });
}

fdl_status fdl_cuda_max_memory_allocated(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return allocated(i).peak; });
}

fdl_status fdl_cuda_max_memory_reserved(int i, int64_t *n)
{
    return measure(__func__, n, [&] { return reserved(i).peak; });
}

#ifdef FLODL_CUDA

fdl_status fdl_cuda_reset_peak_memory_stats(int i)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        caching::init(cuda_count());
        caching::resetPeakStats(d.index());
    });
}

fdl_status fdl_cuda_empty_cache(void)
{
    return OP_DO((), {
        gpu(0);
        caching::init(cuda_count());
        caching::emptyCache();
    });
}

fdl_status fdl_cuda_mem_info(int i, int64_t *used, int64_t *total)
{
    return OP_DO((), { driver_bytes(gpu(i), used, total); });
}

fdl_status fdl_cuda_set_memory_fraction(int i, double fraction)
{
    return OP_DO((), {
        at::Device d = gpu(i);
        if (!(fraction > 0 && fraction <= 1))
            fail(FDL_E_ARG, "a fraction of %g; it is above 0 and at most 1", fraction);
        caching::init(cuda_count());
        caching::setMemoryFraction(fraction, d.index());
    });
}

fdl_status fdl_cuda_memory_stats(int i, fdl_cuda_memory *memory)
{
    return OP_DO((), {
        if (!memory)
            fail(FDL_E_NULL, "memory is NULL");
        auto s = stats(i);
        fdl_cuda_memory m = {};
        m.allocated = stat(s.allocated_bytes);
        m.requested = stat(s.requested_bytes);
        m.active = stat(s.active_bytes);
        m.reserved = stat(s.reserved_bytes);
        m.inactive_split = stat(s.inactive_split_bytes);
        m.blocks = stat(s.allocation);
        m.active_blocks = stat(s.active);
        m.segments = stat(s.segment);
        m.inactive_blocks = stat(s.inactive_split);
        m.retries = s.num_alloc_retries;
        m.ooms = s.num_ooms;
        if (m.reserved.current > 0)
            m.fragmentation = (double)m.inactive_split.current / (double)m.reserved.current;
        *memory = m;
    });
}

/* "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of ..." */
std::string flodl::oom_text(const std::string &why)
{
    size_t device = why.find("GPU ");
    if (why.find("CUDA out of memory") == std::string::npos || device == std::string::npos)
        return why;
    int i = (int)strtol(why.c_str() + device + 4, nullptr, 10);
    size_t asked = why.find("Tried to allocate ");
    std::string request = asked < device ? why.substr(asked, device - asked) : "";
    while (!request.empty() && (request.back() == ' ' || request.back() == '.'))
        request.pop_back();
    try {
        auto s = stats(i);
        fdl_cuda_stat in_use = stat(s.allocated_bytes), held = stat(s.reserved_bytes);
        int64_t used = 0, total = 0;
        driver_bytes(gpu(i), &used, &total);
        char text[640];
        int n =
            snprintf(text, sizeof text,
                     "CUDA out of memory: %s. cuda:%d has %" PRId64 " bytes, %" PRId64
                     " of them free; this process's tensors take %" PRId64 ", its allocator holds %" PRId64,
                     request.c_str(), i, total, total - used, in_use.current, held.current);
        size_t limit = why.find(" allowed;"); /* "... 1.00 GiB allowed; ": a fraction was set */
        if (limit != std::string::npos && n > 0 && (size_t)n < sizeof text) {
            size_t number = why.rfind(' ', why.rfind(' ', limit - 1) - 1) + 1;
            snprintf(text + n, sizeof text - (size_t)n, " and may hold %s (fdl_cuda_set_memory_fraction)",
                     why.substr(number, limit - number).c_str());
        }
        return text;
    } catch (...) { /* nothing more is known */
        return why;
    }
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

fdl_status fdl_cuda_set_memory_fraction(int i, double)
{
    return OP_DO((), { without_cuda(i); });
}

fdl_status fdl_cuda_memory_stats(int i, fdl_cuda_memory *)
{
    return OP_DO((), { without_cuda(i); });
}

std::string flodl::oom_text(const std::string &why)
{
    return why;
}

#endif

fdl_status fdl_cuda_memory_summary(int i, FILE *to)
{
    fdl_cuda_memory m;
    return OP_DO((), {
        if (!to)
            fail(FDL_E_NULL, "to is NULL");
        fdl_status status = fdl_cuda_memory_stats(i, &m);
        if (status != FDL_OK)
            fail(status, "%s", cuda_devices().c_str());
        const struct {
            const char *name;
            const fdl_cuda_stat *s;
        } rows[] = {{"allocated", &m.allocated},
                    {"requested", &m.requested},
                    {"active", &m.active},
                    {"reserved", &m.reserved},
                    {"inactive split", &m.inactive_split},
                    {"allocations", &m.blocks},
                    {"active blocks", &m.active_blocks},
                    {"segments", &m.segments},
                    {"inactive blocks", &m.inactive_blocks}};
        const int bytes = 5;
        fprintf(to, "%-20s %16s %16s %20s %20s\n", ("cuda:" + std::to_string(i)).c_str(), "now", "peak",
                "added in all", "freed in all");
        for (int r = 0; r < (int)(sizeof rows / sizeof *rows); r++) {
            const fdl_cuda_stat &s = *rows[r].s;
            fprintf(to, "%-20s %16" PRId64 " %16" PRId64 " %20" PRId64 " %20" PRId64 "\n",
                    (rows[r].name + std::string(r < bytes ? ", bytes" : "")).c_str(), s.current, s.peak,
                    s.allocated, s.freed);
        }
        fprintf(to, "%-20s %16" PRId64 "\n%-20s %16" PRId64 "\n%-20s %15.1f%%\n", "retries", m.retries,
                "out of memory", m.ooms, "fragmentation", 100 * m.fragmentation);
        if (fflush(to) != 0 || ferror(to))
            fail(FDL_E_IO, "the table could not be written");
    });
}
