/* The gate of which each row takes only some experts. */
#ifndef FLODL_GRAPH_SPARSE_GATE_H
#define FLODL_GRAPH_SPARSE_GATE_H

#include "graph_private.h"

/* x [.., D], w [.., n] -> the sum of the weighted results of each row's .top_k experts. */
fdl_tensor *run_sparse(graph *g, const plan_node *p, const fdl_flow_gate_opts *o, int n, fdl_tensor *w);

#endif
