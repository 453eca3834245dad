/* A page of curves, from wherever their points are. */
#ifndef FLODL_GRAPH_PLOT_H
#define FLODL_GRAPH_PLOT_H

#include "flodl/draw.h"

typedef struct plot {
    const char *title, *unit; /* "s": the values are seconds; else "" */
    int n;                    /* curves */
    int64_t points;           /* epochs */
    const char *(*name)(const struct plot *p, int i);
    /* The value of curve i at epoch k, from 0; false: it has none. */
    bool (*value)(const struct plot *p, int i, int64_t k, double *v);
} plot;

fdl_status plot_write(const plot *p, const char *path);

#endif
