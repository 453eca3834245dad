/* What files of curves have in common: which series, under which names. */
#ifndef FLODL_GRAPH_EXPORT_H
#define FLODL_GRAPH_EXPORT_H

#include "observe.h"

typedef struct curve {
    const char *name; /* as it was asked for: "loss", "encoder.loss" */
    const series *s;
    const series_store *store; /* where s is, with the stamps of its rounds */
} curve;

typedef struct curves {
    int n, room;
    curve *at;      /* malloc'ed; scope: the names */
    int64_t rounds; /* the last one in which any of them has a point */
} curves;

typedef struct curve_choice {
    /* The store of a graph, for metrics or timings; NULL: it has none. */
    series_store *(*store_of)(graph *g);
    bool below;      /* without names: those of the graphs below, too */
    bool histograms; /* a series that has histograms only counts */
} curve_choice;

/* The series of these names, of members of groups, and of dotted paths into the graphs below; none given: all that g has,
 * sorted by name. Those that are unknown or without points are left out; nothing left: FDL_E_STATE. */
fdl_status curves_gather(curves *c, const char *function, graph *g, int n, const char *const *names,
                         const curve_choice *choice);
void curves_free(curves *c);

/* The store of metrics. */
series_store *metrics_of(graph *g);
/* A file with a column a curve and a row a round. */
fdl_status curves_write_csv(const curves *c, const char *path);

#endif
