/* What a graph remembers of its training, for the files that read it. */
#ifndef FLODL_GRAPH_OBSERVE_H
#define FLODL_GRAPH_OBSERVE_H

#include "series.h"

struct observation {
    series_store store;
    double (*clock)(void *ctx); /* NULL: fdl_now */
    void *clock_ctx;
};

/* The observation of g, made when there is none. NULL: no memory. */
struct observation *observed(graph *g);
/* Child i of g, the labelled graphs right below it; NULL behind the last. */
graph *observed_child(const graph *g, int i);
/* Each of n names of metrics, or the members of groups, once, to fn with the metric, which is NULL where there is none. A bad name
 * or fn's failure ends it. */
fdl_status observed_each(const char *function, graph *g, int n, const char *const *names,
                         fdl_status (*fn)(graph *g, const char *name, void *ctx), void *ctx);

#endif
