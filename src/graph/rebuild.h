/* Making modules, steps and graphs again, with other modules in them. */
#ifndef FLODL_GRAPH_REBUILD_H
#define FLODL_GRAPH_REBUILD_H

#include "graph_private.h"

/* Steps `from` up to `to` of g, by position, each made again; modules are what `make` gives for them. Of a part, which isn't all of
 * g, without its label and what speaks of the whole. */
fdl_status replay(fdl_flow_builder *b, const graph *g, int from, int to, make_child *make, void *ctx);
/* The steps of g. */
int graph_steps(const graph *g);

#endif
