/* What the machine and this process use, from /proc and the control group. What can't be read is left out;
 * never an error. */
#ifndef FLODL_MONITOR_RESOURCES_H
#define FLODL_MONITOR_RESOURCES_H

#include "flodl/monitor.h"

enum { MONITOR_PATH_SIZE = 512 };

typedef struct monitor_sampler {
    char root[128];                    /* in front of every path: "" but in tests */
    char cpu_group[MONITOR_PATH_SIZE]; /* the control group whose quota is the tightest; "": none */
    char memory_group[MONITOR_PATH_SIZE];
    double cpu_quota;     /* processors, of cpu_group */
    int64_t memory_limit; /* bytes, of memory_group */
    double busy, total;   /* at the last sample: jiffies, or seconds of the group and of its quota */
    bool seen;
} monitor_sampler;

/* Finds the limits and takes the first reading of the processors. `now` in seconds on a clock that doesn't
 * jump. */
void monitor_sampler_open(monitor_sampler *sampler, const char *root, double now);
void monitor_sampler_read(monitor_sampler *sampler, double now, fdl_monitor_resources *out);

/* Bytes of this process that are in memory; -1 where that is unknown. */
int64_t monitor_resident(const char *root);
/* The beginning of <root><folder><name>, as text; false when there is none. */
bool monitor_read_text(const char *root, const char *folder, const char *name, char *text, size_t size);
/* The count behind `key` at the beginning of a line. */
bool monitor_find_count(const char *text, const char *key, int64_t *count);

#endif
