/* A forward on tensors without values, and what it saw of each node and module. */
#ifndef FLODL_GRAPH_DRY_H
#define FLODL_GRAPH_DRY_H

#include "flodl/summary.h"
#include "graph_private.h"

/* Of a node (key: its place in the plan) or of a module that is no node (key: the module). */
typedef struct seen {
    const void *key;
    int calls;
    fdl_shape y; /* of the last call */
    fdl_dtype dtype;
    double work, bytes; /* of all calls */
} seen;

/* Who wants to be told while it runs; each may be NULL. */
typedef struct dry_listener {
    void (*inputs)(void *ctx, int n, fdl_tensor *const *x);
    void (*before)(void *ctx, fdl_module *m);
    void (*after)(void *ctx, fdl_module *m, int n, fdl_tensor *const *inputs, const char *const *names,
                  fdl_tensor *y);
    void (*before_node)(void *ctx, graph *g, int place);
    void (*after_node)(void *ctx, graph *g, int place, fdl_tensor *y);
    void (*output)(void *ctx, fdl_tensor *y);
} dry_listener;

typedef struct dry_run {
    const dry_listener *listener; /* NULL: nobody */
    void *ctx;
    const struct exchange *exchange;
    int n, room; /* a power of two */
    seen *at;
    int results, result_room;
    fdl_tensor **result; /* kept, so that no sum is made in place of one: with a backward none would be */
    fdl_shape output;
    fdl_dtype dtype;
    bool failed;
} dry_run;

/* -1 among the extents of inputs becomes `batch`. The run is to be freed in either case. */
fdl_status dry_forward(fdl_module *m, int n, const fdl_input *inputs, int64_t batch, dry_run *run);
/* All inputs (scope), with their dtypes; *batch: one of them has a -1. NULL: the error is set. */
const fdl_input *dry_inputs(const char *function, fdl_module *m, fdl_shape x, fdl_dtype dtype,
                            const fdl_inputs *further, int *n, bool *batch);
/* The tensor whose place this handle's has taken for the run, borrowed; while it runs. */
fdl_tensor *dry_original(const dry_run *run, fdl_tensor *object);
/* NULL: it never ran. */
const seen *dry_find(const dry_run *run, const void *key);
void dry_free(dry_run *run);

#endif
