/* This process's memory, and a line on the machine. */
#include "flodl/process.h"

#include "flodl/cuda.h"
#include "resources.h"

#include <sys/utsname.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

int64_t fdl_rss_kb(void)
{
    int64_t bytes = monitor_resident("");
    return bytes > 0 ? bytes / 1024 : 0;
}

bool fdl_malloc_trim(void)
{
#ifdef __GLIBC__
    return malloc_trim(0) == 1;
#else
    return false;
#endif
}

/* The processor's name: where the kernel doesn't tell it, its kind ("aarch64"). */
static void processor(char *name, size_t n)
{
    char text[4096];
    const char *at =
        monitor_read_text("", "/proc", "/cpuinfo", text, sizeof text) ? strstr(text, "model name") : NULL;
    const char *colon = at ? strchr(at, ':') : NULL;
    if (colon) {
        colon += 1 + strspn(colon + 1, " \t");
        snprintf(name, n, "%.*s", (int)strcspn(colon, "\n"), colon);
        return;
    }
    struct utsname system;
    snprintf(name, n, "%s", uname(&system) == 0 ? system.machine : "CPU");
}

static long long gib(int64_t bytes)
{
    return (long long)((bytes + (INT64_C(1) << 29)) >> 30);
}

char *fdl_hardware_summary(char *buf, size_t n)
{
    if (!buf || !n)
        return buf;
    char name[256], text[4096];
    int64_t kib = 0;
    processor(name, sizeof name);
    if (!monitor_read_text("", "/proc", "/meminfo", text, sizeof text) ||
        !monitor_find_count(text, "MemTotal:", &kib) || kib > INT64_MAX / 1024)
        kib = 0;
    long threads = sysconf(_SC_NPROCESSORS_ONLN);
    int used = snprintf(buf, n, "%s (%ld thread%s, %lldGB)", name, threads, threads == 1 ? "" : "s",
                        gib(kib * 1024));
    bool pending = fdl_error_pending() != FDL_OK;
    int count = fdl_cuda_count();
    for (int i = 0; i < count && used >= 0 && (size_t)used < n; i++) {
        fdl_cuda_device_info gpu;
        if (fdl_cuda_info(i, &gpu) == FDL_OK)
            used += snprintf(buf + used, n - (size_t)used, " | %s (%lldGB)", gpu.name, gib(gpu.total_memory));
    }
    if (!pending && fdl_error_pending() != FDL_OK)
        fdl_clear_error();
    return buf;
}
