/* The memory of the GPUs that this process uses. */
#include "device.h"

#include "flodl/cuda.h"

#include <math.h>

int monitor_devices_read(monitor_device *devices)
{
    bool pending = fdl_error_pending() != FDL_OK;
    int n = 0, count = fdl_cuda_count();
    for (int i = 0; i < count && n < MONITOR_MAX_DEVICES; i++) {
        int64_t reserved = 0, used, total = 0;
        /* What isn't in use isn't asked further: the question would claim memory on it. */
        if (fdl_cuda_memory_reserved(i, &reserved) != FDL_OK || reserved <= 0)
            continue;
        if (fdl_cuda_mem_info(i, &used, &total) == FDL_OK)
            devices[n++] = (monitor_device){i, reserved, total};
    }
    if (!pending && fdl_error_pending() != FDL_OK)
        fdl_clear_error();
    return n;
}

/* Bytes as tenths of GiB, rounded. */
static long long tenths(int64_t bytes)
{
    return llround((double)bytes * 10 / (double)(INT64_C(1) << 30));
}

void monitor_devices_line(monitor_line *line, const monitor_device *devices, int n)
{
    for (int i = 0; i < n; i++) {
        const monitor_device *d = &devices[i];
        long long used = tenths(d->reserved), total = tenths(d->total),
                  spill = tenths(d->reserved - d->total);
        if (n == 1)
            monitor_line_text(line, "VRAM");
        else
            monitor_line_format(line, "%sGPU%d", i > 0 ? "  " : "", d->index);
        monitor_line_format(line, ": %lld.%lld/%lld.%lld GB", used / 10, used % 10, total / 10, total % 10);
        if (d->reserved > d->total)
            monitor_line_format(line, "  spill %lld.%lld GB", spill / 10, spill % 10);
    }
}
