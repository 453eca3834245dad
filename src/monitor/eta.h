/* How long an epoch takes: an exponentially weighted mean of the times between epochs. It starts as the plain
 * mean, follows a change of speed within about ten epochs, and takes a single stall as what it is. */
#ifndef FLODL_MONITOR_ETA_H
#define FLODL_MONITOR_ETA_H

#include <stdint.h>

typedef struct monitor_eta {
    int64_t epochs; /* how many this run has seen */
    double mean;    /* seconds an epoch */
} monitor_eta;

/* One more epoch took `gap` seconds. */
void monitor_eta_add(monitor_eta *eta, double gap);
/* The mean as it will be if the epoch that is `done` (0..1) finished goes on like this and takes `gap`
 * seconds: at 0 the mean as it is, at 1 what monitor_eta_add would make it. Without an epoch before it: gap.
 */
double monitor_eta_with(const monitor_eta *eta, double gap, double done);

#endif
