/* Time. */
#include "flodl/clock.h"

#include <time.h>

static double seconds(clockid_t clock)
{
    struct timespec t = {0};
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double fdl_now(void)
{
    return seconds(CLOCK_MONOTONIC);
}

double fdl_now_utc(void)
{
    return seconds(CLOCK_REALTIME);
}
