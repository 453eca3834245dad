/* Rows of numbers by name: what a trend is inside. */
#ifndef FLODL_GRAPH_SERIES_H
#define FLODL_GRAPH_SERIES_H

#include "flodl/trend.h"

struct fdl_trend {
    int64_t n, room; /* room 0: the points are somebody else's */
    double *at;
};

/* One point more. FDL_E_OOM: the trend is as it was. */
fdl_status trend_add(fdl_trend *t, double value);

#endif
