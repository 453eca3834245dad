/* A number with its name: what graphs hand out and monitors show. */
#ifndef FLODL_METRIC_H
#define FLODL_METRIC_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

typedef struct fdl_metric {
    const char *name; /* UTF-8, not empty */
    double value;
} fdl_metric;

/* Ends an array of metrics. */
#define FDL_METRIC_END             \
    {                              \
        (const char *)FDL_END, 0.0 \
    }
/* Whether m is that end. */
static inline bool fdl_metric_is_end(const fdl_metric *m)
{
    return m->name == (const char *)FDL_END;
}

FDL_END_DECLS

#ifndef __cplusplus
/* Metrics with their names, with their end: `.metrics = FDL_METRICS({"loss", loss}, {"lr", lr})`. */
#define FDL_METRICS(...) ((const fdl_metric[]){__VA_ARGS__, FDL_METRIC_END})
#endif

#endif
