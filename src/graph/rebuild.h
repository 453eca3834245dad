/* Making modules, steps and graphs again, with other modules in them. */
#ifndef FLODL_GRAPH_REBUILD_H
#define FLODL_GRAPH_REBUILD_H

#include "graph_private.h"

/* A handle to take the place of child m. NULL: the error is set. */
typedef fdl_module *make_child(fdl_module *m, void *ctx);

/* m made again by what it says it was made with, around what `make` gives for its children; owned. One that says nothing:
 * FDL_E_UNSUPPORTED. Its parameters are drawn anew. */
fdl_module *module_remake(fdl_module *m, make_child *make, void *ctx);
/* Steps `from` up to `to` of g, by position, each made again; modules are what `make` gives for them. Of a part, which isn't all of
 * g, without its label and what speaks of the whole. */
fdl_status replay(fdl_flow_builder *b, const graph *g, int from, int to, make_child *make, void *ctx);
/* The steps of g. */
int graph_steps(const graph *g);

#endif
