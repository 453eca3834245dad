#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <flodl/flodl.h>

#include "machine.h"

/* What follows `key` and `between` on the first line of the file that begins with key; "" when there is none. */
static void line_of(const char *path, const char *key, const char *between, char *to, size_t size)
{
    char line[1024];
    *to = '\0';
    FILE *file = fopen(path, "r");
    while (file && !*to && fgets(line, sizeof line, file)) {
        const size_t n = strlen(key);
        if (strncmp(line, key, n) != 0)
            continue;
        const char *value = line + n + strspn(line + n, between);
        snprintf(to, size, "%.*s", (int)strcspn(value, "\"\n"), value);
    }
    if (file)
        fclose(file);
}

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Wed..." -> 580.95.05 */
static void read_driver(char *to, size_t size)
{
    char line[256];
    *to = '\0';
    line_of("/proc/driver/nvidia/version", "NVRM version:", " ", line, sizeof line);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        if (*word >= '0' && *word <= '9' && strchr(word, '.')) {
            snprintf(to, size, "%s", word);
            return;
        }
}

/* The commit of the sources, from git where they are a checkout, else what FLODL_COMMIT says. */
static void read_commit(char *to, size_t size)
{
    const char *told = getenv("FLODL_COMMIT");
    snprintf(to, size, "%s", told ? told : "");
    FILE *git =
        told ? NULL
             : popen("git -C '" FLODL_SOURCE_DIR "' describe --always --dirty --abbrev=12 2>/dev/null", "r");
    if (!git)
        return;
    if (!fgets(to, (int)size, git))
        *to = '\0';
    to[strcspn(to, "\n")] = '\0';
    pclose(git);
}

void machine_read(machine *m, bool on_gpu)
{
    *m = (machine){.cores = (int)sysconf(_SC_NPROCESSORS_ONLN),
                   .memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE)};
    line_of("/proc/cpuinfo", "model name", "\t :", m->cpu, sizeof m->cpu);
    line_of("/etc/os-release", "PRETTY_NAME", "=\"", m->os, sizeof m->os);
    struct utsname name;
    if (uname(&name) == 0)
        snprintf(m->kernel, sizeof m->kernel, "%.40s %.60s %.20s", name.sysname, name.release, name.machine);
    snprintf(m->build, sizeof m->build, "%s", BENCH_BUILD);
    snprintf(m->compiler, sizeof m->compiler, "gcc %s", __VERSION__);
    snprintf(m->device, sizeof m->device, "%s", *m->cpu ? m->cpu : "cpu");
    if (on_gpu) {
        int64_t used;
        FDL_CHECK(fdl_cuda_name(0, m->device, sizeof m->device));
        FDL_CHECK(fdl_cuda_mem_info(0, &used, &m->gpu_memory));
        read_driver(m->driver, sizeof m->driver);
    }
    fdl_libtorch_version(m->libtorch, sizeof m->libtorch);
    read_commit(m->commit, sizeof m->commit);
    const time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc))
        strftime(m->date, sizeof m->date, "%Y-%m-%dT%H:%M:%SZ", &utc);
}

void machine_begin_json(json *j, const char *benchmark, const machine *m)
{
    json_begin(j, NULL, '{');
    json_count(j, "format", 1);
    json_text(j, "benchmark", benchmark);
    json_text(j, "date", m->date);
    json_begin(j, "machine", '{');
    json_text(j, "device", m->device);
    json_text(j, "driver", m->driver);
    if (m->gpu_memory)
        json_count(j, "gpu_memory", m->gpu_memory);
    json_text(j, "cpu", m->cpu);
    json_count(j, "cores", m->cores);
    json_count(j, "memory", m->memory);
    json_text(j, "os", m->os);
    json_text(j, "kernel", m->kernel);
    json_text(j, "compiler", m->compiler);
    json_text(j, "build", m->build);
    json_text(j, "flodl", fdl_version());
    json_text(j, "commit", m->commit);
    json_text(j, "libtorch", m->libtorch);
    json_end(j, '}');
}

void machine_print(const machine *m, const char *benchmark)
{
    printf("%s: %s, %d cores, flodl %s%s%s on libtorch %s, %s\n", benchmark, m->device, m->cores,
           fdl_version(), *m->commit ? " at " : "", m->commit, m->libtorch, m->date);
}
