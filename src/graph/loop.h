/* What the files of loops share. */
#ifndef FLODL_GRAPH_LOOP_H
#define FLODL_GRAPH_LOOP_H

#include "graph_private.h"

typedef struct loop {
    fdl_flow_loop_opts o; /* its name is the description's; its modules are the step's children */
    bool asks_before, asks_after, weighs;
    int64_t most; /* runs */
    int64_t iterations;
    reset_list resets;
} loop;

enum { BODY, CONDITION };

/* The body on a state, as iteration i -> the next one. */
fdl_tensor *loop_run_body(graph *g, const plan_node *p, loop *s, int64_t i, fdl_tensor *state);
/* A loop with .act on x. */
fdl_tensor *run_weighed(graph *g, const plan_node *p, loop *s, fdl_tensor *x);

#endif
