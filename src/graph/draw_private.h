/* What the files that draw share. */
#ifndef FLODL_DRAW_PRIVATE_H
#define FLODL_DRAW_PRIVATE_H

#include "flodl/draw.h"
#include "graph_private.h"

/* ---- looks --------------------------------------------------------------------------------------------- */

typedef struct look {
    const char *shape, *fill; /* "box", "#eaecee" */
} look;

/* How a module looks by its kind alone. */
look look_of_module(fdl_module *m);
/* How a node does; at the top, where the graph's inputs and output stand out. */
look look_of_node(const graph *g, int node, bool top);
/* The colour of a fill's outline, "#rrggbb", in buf. */
const char *outline_of(const char *fill, char buf[8]);

/* ---- text ---------------------------------------------------------------------------------------------- */

/* Text for XML and for labels in DOT between < and >; what XML can't hold becomes U+FFFD. */
void write_xml(FILE *out, const char *text);
/* A node's name in DOT, without the quotes around it. */
void write_name(FILE *out, const char *text);
/* "512us", "3.25ms". Returns buf. */
const char *time_text(double seconds, char *buf, size_t size);
/* A number with so many decimals and a point, whatever the locale. Returns buf. */
const char *decimals_text(double value, int decimals, char *buf, size_t size);

/* ---- DOT ----------------------------------------------------------------------------------------------- */

/* The text that libgraphviz lays out. *placed: wanted with positions of the nodes in it; given back: it has them, because it
 * was wanted or because finding them would take the library too long. Owned. */
char *dot_for_layout(fdl_module *g, const fdl_graph_draw_opts *opts, const char *function, bool *placed);

/* ---- large graphs -------------------------------------------------------------------------------------- */

typedef struct place {
    double x, y; /* in points, y upwards */
} place;

/* Positions for a graph of any size, in order of creation: a row a level, rows in columns. In a. NULL: no memory. */
place *ranks_place(const graph *g, arena *a);

#endif
