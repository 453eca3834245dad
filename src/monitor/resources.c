/* What the machine and this process use. */
#include "resources.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

/* ---- reading small files ------------------------------------------------------------------------ */

bool monitor_read_text(const char *root, const char *folder, const char *name, char *text, size_t size)
{
    char path[2 * MONITOR_PATH_SIZE];
    int length = snprintf(path, sizeof path, "%s%s%s", root, folder, name);
    if (length < 0 || (size_t)length >= sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    size_t used = 0;
    while (used < size - 1) {
        ssize_t n = read(fd, text + used, size - 1 - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        used += (size_t)n;
    }
    close(fd);
    text[used] = 0;
    return used > 0;
}

/* A count that isn't negative; false for anything else. *end is behind it. */
static bool read_count(const char *text, const char **end, int64_t *count)
{
    while (*text == ' ' || *text == '\t')
        text++;
    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    char *stop;
    *count = strtoll(text, &stop, 10);
    *end = stop;
    return errno == 0;
}

bool monitor_find_count(const char *text, const char *key, int64_t *count)
{
    size_t length = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        const char *end;
        if (strncmp(line, key, length) == 0)
            return read_count(line + length, &end, count);
    }
    return false;
}

/* ---- control groups ------------------------------------------------------------------------------ */

static void take_cpu_limit(monitor_sampler *s, const char *group)
{
    char text[128];
    const char *at;
    int64_t quota, period; /* microseconds; "max 100000" is no limit */
    if (!monitor_read_text(s->root, group, "/cpu.max", text, sizeof text) || !read_count(text, &at, &quota) ||
        !read_count(at, &at, &period) || quota == 0 || period == 0)
        return;
    double processors = (double)quota / (double)period;
    if (*s->cpu_group && processors >= s->cpu_quota)
        return;
    s->cpu_quota = processors;
    snprintf(s->cpu_group, sizeof s->cpu_group, "%s", group);
}

static void take_memory_limit(monitor_sampler *s, const char *group)
{
    char text[128];
    const char *at;
    int64_t limit;
    if (!monitor_read_text(s->root, group, "/memory.max", text, sizeof text) ||
        !read_count(text, &at, &limit))
        return;
    if (*s->memory_group && limit >= s->memory_limit)
        return;
    s->memory_limit = limit;
    snprintf(s->memory_group, sizeof s->memory_group, "%s", group);
}

/* The process's group and all groups around it: each may set limits. In a container that sees only its own
 * group, that is mounted as the root, and the path in /proc/self/cgroup may lead nowhere. */
static void find_limits(monitor_sampler *s)
{
    static const char top[] = "/sys/fs/cgroup";
    char text[2 * MONITOR_PATH_SIZE], group[MONITOR_PATH_SIZE];
    if (!monitor_read_text(s->root, "/proc/self", "/cgroup", text, sizeof text))
        return;
    const char *line = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (!line)
        return;
    line += *line == '\n';
    line += 3;
    int length = snprintf(group, sizeof group, "%s%.*s", top, (int)strcspn(line, "\n"), line);
    if (length < 0 || (size_t)length >= sizeof group || strstr(group, "/.."))
        snprintf(group, sizeof group, "%s", top);
    while (strlen(group) >= strlen(top)) {
        size_t end = strlen(group);
        if (group[end - 1] == '/')
            group[end - 1] = 0;
        take_cpu_limit(s, group);
        take_memory_limit(s, group);
        *strrchr(group, '/') = 0;
    }
    if (s->cpu_quota >= (double)sysconf(_SC_NPROCESSORS_ONLN))
        *s->cpu_group = 0;
}

/* ---- samples --------------------------------------------------------------------------------------- */

/* Time that processors worked, and time that they had, both since some beginning. */
static bool read_processors(const monitor_sampler *s, double now, double *busy, double *total)
{
    char text[512];
    int64_t count;
    if (*s->cpu_group) {
        if (!monitor_read_text(s->root, s->cpu_group, "/cpu.stat", text, sizeof text) ||
            !monitor_find_count(text, "usage_usec", &count))
            return false;
        *busy = (double)count * 1e-6;
        *total = now * s->cpu_quota;
        return true;
    }
    /* cpu user nice system idle iowait irq softirq steal guest guest_nice; user holds guest already */
    if (!monitor_read_text(s->root, "/proc", "/stat", text, sizeof text) || strncmp(text, "cpu ", 4) != 0)
        return false;
    const char *at = text + 4;
    double all = 0, idle = 0;
    int fields = 0;
    for (; fields < 8 && read_count(at, &at, &count); fields++) {
        all += (double)count;
        if (fields == 3 || fields == 4)
            idle += (double)count;
    }
    *busy = all - idle;
    *total = all;
    return fields >= 5;
}

static double processors(monitor_sampler *s, double now)
{
    double busy, total;
    if (!read_processors(s, now, &busy, &total)) {
        s->seen = false;
        return NAN;
    }
    bool seen = s->seen;
    double worked = busy - s->busy, had = total - s->total;
    if (seen && had == 0)
        return NAN; /* less than a jiffy: the next sample counts from the one before */
    s->busy = busy;
    s->total = total;
    s->seen = true;
    if (!seen || had < 0)
        return NAN;
    return fmin(fmax(100 * worked / had, 0), 100);
}

static void memory(const monitor_sampler *s, fdl_monitor_resources *out)
{
    char text[4096];
    int64_t total, available, used, inactive;
    if (monitor_read_text(s->root, "/proc", "/meminfo", text, sizeof text) &&
        monitor_find_count(text, "MemTotal:", &total) &&
        monitor_find_count(text, "MemAvailable:", &available) && total <= INT64_MAX / 1024 &&
        available <= total) {
        out->ram_total = total * 1024;
        out->ram_used = (total - available) * 1024;
    }
    if (!*s->memory_group || (out->ram_total >= 0 && s->memory_limit >= out->ram_total))
        return;
    out->ram_total = s->memory_limit;
    out->ram_used = -1;
    const char *end;
    if (!monitor_read_text(s->root, s->memory_group, "/memory.current", text, sizeof text) ||
        !read_count(text, &end, &used))
        return;
    /* File pages that the kernel would give back at once aren't what fills a container. */
    if (monitor_read_text(s->root, s->memory_group, "/memory.stat", text, sizeof text) &&
        monitor_find_count(text, "inactive_file", &inactive) && inactive <= used)
        used -= inactive;
    out->ram_used = used;
}

int64_t monitor_resident(const char *root)
{
    char text[128];
    const char *at = text;
    int64_t size, pages, page = sysconf(_SC_PAGESIZE);
    if (!monitor_read_text(root, "/proc/self", "/statm", text, sizeof text) || !read_count(at, &at, &size) ||
        !read_count(at, &at, &pages) || page <= 0 || pages > INT64_MAX / page)
        return -1;
    return pages * page;
}

void monitor_sampler_open(monitor_sampler *s, const char *root, double now)
{
    *s = (monitor_sampler){.seen = false};
    snprintf(s->root, sizeof s->root, "%s", root);
    const char *host = getenv("FLODL_HOST_STATS");
    if (!host || strcmp(host, "1") != 0)
        find_limits(s);
    processors(s, now);
}

void monitor_sampler_read(monitor_sampler *s, double now, fdl_monitor_resources *out)
{
    *out = (fdl_monitor_resources){
        .cpu = processors(s, now), .ram_used = -1, .ram_total = -1, .rss = monitor_resident(s->root)};
    memory(s, out);
}
