/* How much goes onto a device: the arithmetic, apart from where the figures come from. */
#ifndef FLODL_DATA_RULES_H
#define FLODL_DATA_RULES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DEEPEST = 512,      /* batches */
    DEPTH_OF_HOST = 2,  /* on the CPU, and where a batch has no bytes */
    DEPTH_AT_START = 4, /* what a loader for a GPU says before its first epoch */
};

/* A device's memory in bytes. What this process holds without using it isn't full. */
struct room {
    int64_t total, full;
};

/* Most that may be full. */
static inline int64_t rule_cap(int64_t total, double use)
{
    use = use < 0.50 ? 0.50 : use > 0.99 ? 0.99 : use;
    return (int64_t)((double)total * use);
}

/* What may be added. */
static inline int64_t rule_budget(struct room r, double use, int64_t reserve)
{
    int64_t left = rule_cap(r.total, use) - r.full - reserve;
    return left > 0 ? left : 0;
}

static inline bool rule_is_resident(struct room r, double use, int64_t bytes)
{
    return bytes < rule_budget(r, use, 0);
}

/* A depth as far as it makes sense. */
static inline int64_t rule_limit(int64_t depth, int64_t batches)
{
    depth = depth < batches ? depth : batches;
    return depth < DEEPEST ? depth : DEEPEST;
}

/* 0: there is no room. */
static inline int64_t rule_depth(struct room r, double use, int64_t reserve, int64_t batch_bytes,
                                 int64_t batches)
{
    int64_t depth = batch_bytes ? rule_budget(r, use, reserve) / batch_bytes : DEPTH_OF_HOST;
    return rule_limit(depth, batches);
}

#endif
