/* A monitor under a clock that the test moves, with its lines in memory. */
#ifndef FLODL_TESTS_MONITOR_RUN_H
#define FLODL_TESTS_MONITOR_RUN_H

#include "check.h"

#include <math.h>

/* Under a sanitizer, figures of memory are the sanitizer's. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

struct run {
    double now; /* seconds */
    FILE *out;
    char *text;
    size_t size, taken;
    fdl_monitor *mon;
};

static inline double run_clock(void *ctx)
{
    return ((struct run *)ctx)->now;
}

/* Without colour or live line, whatever the environment says. */
static inline void run_open_opt(struct run *r, int64_t total, fdl_monitor_opts opts)
{
    *r = (struct run){.now = 1e6};
    unsetenv("FLODL_COLOR");
    unsetenv("FORCE_COLOR");
    r->out = open_memstream(&r->text, &r->size);
    assert_non_null(r->out);
    opts.out = r->out;
    opts.clock = run_clock;
    opts.clock_ctx = r;
    r->mon = fdl_monitor_new_opt(total, &opts);
    check_some(r->mon);
}
#define run_open(r, ...) run_open_(r, __VA_ARGS__, .opts_ = 0)
#define run_open_(r, total, ...) run_open_opt(r, total, (fdl_monitor_opts){__VA_ARGS__})

static inline void run_close(struct run *r)
{
    fdl_monitor_free(r->mon);
    fclose(r->out);
    free(r->text);
}

/* What was written since the last call. */
static inline const char *run_text(struct run *r)
{
    fflush(r->out);
    const char *text = r->text + r->taken;
    r->taken = r->size;
    return text;
}
#define assert_written(r, expected) assert_string_equal(run_text(r), expected)

/* `seconds` pass, then the epoch is logged with them as its duration. */
static inline fdl_status run_epoch(struct run *r, int64_t epoch, double seconds, const fdl_metric *metrics)
{
    r->now += seconds;
    return fdl_monitor_log(r->mon, epoch, seconds, .metrics = metrics);
}

#endif
