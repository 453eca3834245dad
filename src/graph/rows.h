/* Rows that go to different modules: grouped, each module run once on its own, and put back in their order. */
#ifndef FLODL_GRAPH_ROWS_H
#define FLODL_GRAPH_ROWS_H

#include "graph_private.h"

typedef struct row_groups {
    int n;             /* modules */
    int64_t *count;    /* [n] rows of each (scope) */
    fdl_tensor *order; /* [R] int64: the rows, those of module 0 first */
    fdl_tensor *back;  /* [R] int64: where each row stands in that order */
} row_groups;

/* choice [R], of any numeric dtype: the module of each row. Reads the counts from the device. One that is none of 0 to n - 1:
 * FDL_E_RANGE. */
fdl_status rows_group(fdl_tensor *choice, int n, row_groups *groups);
/* Module i on its rows of x [R, *], which lie in groups' order -> what they give, one behind the other [R, *]. Modules
 * without rows don't run. what: "branch". */
fdl_tensor *rows_run(const graph *g, fdl_module *const *modules, const row_groups *groups, fdl_tensor *x,
                     const char *what);
/* One module on its rows, in a scope of its own. */
fdl_tensor *rows_run_one(const graph *g, fdl_module *m, fdl_tensor *rows, const char *what, int i);

#endif
