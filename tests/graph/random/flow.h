/* Of test_random.c: what a random flow is made of. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_FLOW_H
#define FLODL_TESTS_GRAPH_RANDOM_FLOW_H

#include "graph/random/dual.h"

/* ---- what a flow is made of ------------------------------------------------------------------------------------- */

enum { MAX_STEPS = 12, MAX_REFS = 3, MAX_BRANCHES = 4, MAX_TAGS = MAX_STEPS + MAX_REFS };

typedef enum op_kind {
    OP_HALF,   /* x / 2 + 1 */
    OP_SINE,   /* sin(x) */
    OP_SAME,   /* x itself */
    OP_SCALED, /* x times a parameter */
    OP_CENTRE, /* x less half of the mean over its rows: rows matter to each other */
    OP_FLIP,   /* x plus a quarter of x with its columns the other way round */
    OP_REFS,   /* x plus further inputs, each times its place from 1 */
    OP_GRAPH,
    OP_KINDS
} op_kind;

typedef enum step_kind {
    ST_MODULE,
    ST_ALSO,
    ST_FORK,
    ST_SPLIT,
    ST_LOOP,
    ST_GATE,
    ST_SWITCH,
    ST_MAP,
    ST_SCAN,   /* running sums over the rows */
    ST_SPARSE, /* a gate whose experts get some of the rows */
    ST_ROWS,   /* a switch row by row */
    ST_FROM,   /* a module, whose value is joined with that of a tag */
    ST_KINDS
} step_kind;

typedef struct flow flow;

typedef struct op {
    op_kind kind;
    flow *graph;         /* of OP_GRAPH */
    dual parameter;      /* of OP_SCALED */
    fdl_module *made[2]; /* of OP_SCALED: the module in each of the two graphs that are built */
} op;

typedef enum halt { HALT_COUNT, HALT_WHILE, HALT_UNTIL } halt;
typedef enum weigh { WEIGH_PLAIN, WEIGH_ROWS, WEIGH_BY_X } weigh;

typedef struct step {
    step_kind kind;
    op ops[MAX_BRANCHES];
    int n;                /* modules */
    int runs;             /* of a loop, at most */
    halt halt;            /* of a loop */
    double threshold;     /* of a loop that halts above it */
    bool has_skip;        /* of also: ops[1] */
    fdl_merge_kind merge; /* of a merge; what else makes another shape is folded (below) */
    int dim;              /* of FDL_MERGE_CAT and _STACK */
    bool detached;        /* a barrier behind a plain module */
    bool renamed;         /* refs are any tags, which the step knows as r0, r1, ... */
    double weights[MAX_BRANCHES];
    weigh weigh;                /* of a gate: how its weights come about */
    int choice;                 /* of a switch: the branch, -1: by the sign of x */
    int over;                   /* of a map: a tag; -1: the stream */
    int slices;                 /* of a map; 0: none */
    bool batched;               /* of a map */
    bool reverse;               /* of a scan */
    int top_k;                  /* of a sparse gate */
    bool recompute;             /* of a plain module */
    int refs[MAX_REFS], n_refs; /* tags */
    bool later[MAX_REFS];       /* a tag that stands here or behind: its value of the call before */
    bool tagged;
} step;

struct flow {
    step steps[MAX_STEPS];
    int n, inputs, tags;
    bool mixed;          /* the inputs may have another shape than the stream */
    bool kept[MAX_TAGS]; /* state: whether there was a call before */
    matrix state[MAX_TAGS];
};

#endif
