/* Steps of a flow that decide what runs, and how often: loops, maps over elements, gates, switches; and the values that they
 * publish on the way.
 *
 *     fdl_flow(
 *         encoder,
 *         fdl_flow_loop(refine, .until_cond = fdl_nn_learned_halt(64), .max = 10),
 *         fdl_flow_gate(fdl_nn_softmax_router(64, 4), FDL_MODULES(a, b, c, d), .trace_weights = "experts"),
 *         fdl_flow_switch(selector, FDL_MODULES(light, heavy), .trace_choice = "route"));
 *
 * As in flow.h, each takes over the modules that it is given, on failure too, and returns a step (owned). What fails when the
 * flow is built has the step's position and kind in its message; what fails in forward begins with the node. */
#ifndef FLODL_CONTROL_H
#define FLODL_CONTROL_H

#include "flodl/flow.h"

FDL_BEGIN_DECLS

/* ---- loops --------------------------------------------------------------------------------------------- */

/* What a condition with several elements says, as one for each row of a batch: all rows run the same number of iterations. */
typedef enum fdl_halt_vote {
    FDL_HALT_ALL, /* halt when every element is above 0, so that each row gets the iterations that it asks for */
    FDL_HALT_ANY,  /* when one is */
    FDL_HALT_MEAN, /* when their mean is */
    FDL_HALT_FIRST /* when the first one is */
} fdl_halt_vote;

typedef struct fdl_flow_loop_opts {
    int opts_;
    int64_t n;              /* a counted loop: runs of the body, 1 or more */
    fdl_module *while_cond; /* asked before each run, so that there are 0 to .max */
    fdl_module *until_cond; /* asked after each run but the last possible one: 1 to .max runs */
    int64_t max;            /* required with a condition, 1 or more */
    fdl_halt_vote vote;     /* of a condition with several elements */
    const char *trace_cond; /* publishes what the condition gives, with its history, under this name */
    bool keep_state;        /* don't reset the per-sequence state of body and condition at each forward */
    bool
        recompute; /* activations are computed once more in backward instead of kept, as by fdl_flow_recompute */
    bool no_rng_state; /* with .recompute: as of fdl_flow_recompute */
} fdl_flow_loop_opts;
/* body(body(...(x))) with the same parameters, whose gradients add up over the iterations: `fdl_flow_loop(body, .n = 3)`, or
 * with a condition, a module that gets the state alone and gives one element or more, [..]: above 0 means halt, NaN doesn't.
 * Exactly one of .n, .while_cond and .until_cond. What fdl_flow_using wires goes to the body, the same at each iteration.
 *
 * A condition doesn't enter the data: it runs with grad mode off and gets no gradient, except through .trace_cond. Each time
 * that it is asked one number is read from the device, which waits for it and keeps a training step from being captured;
 * counted loops don't. Before the first iteration, and when there is none, the loop's traces are cleared and the body's and
 * the condition's reset is called for every module of their trees.
 *
 * A body whose ops have step publishes with fdl_emit, one with trace has what that gives published. Errors: FDL_E_ARG for a wrong combination of options; in forward "loop iteration 2: " or "loop condition at
 * iteration 2: " stands in front; an empty condition is FDL_E_SHAPE. */
FDL_API fdl_module *fdl_flow_loop_opt(fdl_module *body, const fdl_flow_loop_opts *opts);
/* Runs of the body in the last forward of the loop with that tag; 0 before the first. No such loop: -1 and FDL_E_ARG. */
FDL_API int64_t fdl_graph_loop_iterations(fdl_module *g, const char *tag);

/* ---- elements ------------------------------------------------------------------------------------------ */

typedef struct fdl_flow_map_opts {
    int opts_;
    const char *over; /* elements of the value with this tag, which stands before; the stream is dropped */
    int64_t slices;   /* elements are this many equal pieces of each row's last dim */
    bool batched;     /* one call on all elements: for bodies that treat rows independently */
} fdl_flow_map_opts;
/* body on each element of dim 0, x [n, *] as n calls on [1, *] in order, the results (of one dim or more) joined along dim 0
 * in one go; n = 0: the source as it is. With .slices = k: x [.., D] -> [.., k D'], with calls on [1, D / k] that give
 * [1, D']; row r's piece j is element r k + j. .batched: one call, on [n, *], or on [rows k, D / k], which gives
 * [rows k, D'] again. Parameters are shared, gradients add up. What fdl_flow_using wires goes whole to every call. Errors: a
 * 0-d source, or one that can't be cut into .slices: FDL_E_SHAPE in forward. */
FDL_API fdl_module *fdl_flow_map_opt(fdl_module *body, const fdl_flow_map_opts *opts);

/* ---- several modules, by weight or by choice ----------------------------------------------------------- */

typedef struct fdl_flow_gate_opts {
    int opts_;
    const char *trace_weights; /* publishes what the router gives */
} fdl_flow_gate_opts;
/* `fdl_flow_gate(router, FDL_MODULES(a, b, ...))`: two or more experts, all of which get x and give one shape
 * [d0, d1, ...] -> the sum of w[.., i] expert_i(x), of that shape. The router makes the weights w of x, [N] or [d0, N] or
 * [d0, d1, N] and so on for N experts (an extent may be 1); they needn't sum to 1. fdl_nn_softmax_router is one. Only the
 * router gets what fdl_flow_using wires. Shapes that don't fit: FDL_E_SHAPE in forward. */
FDL_API fdl_module *fdl_flow_gate_opt(fdl_module *router, int n, fdl_module *const *experts,
                                      const fdl_flow_gate_opts *opts);

typedef struct fdl_flow_switch_opts {
    int opts_;
    const char *trace_choice; /* publishes what the selector gives */
} fdl_flow_switch_opts;
/* `fdl_flow_switch(selector, FDL_MODULES(a, b, ...))`: two or more branches, of which x takes one: selector(x), one element of
 * any numeric dtype, is its place from 0 (a fraction is cut off) -> what that branch gives. The others don't run, and their
 * parameters keep no gradient from this call; nor does the selector get one. Only the selector gets what fdl_flow_using
 * wires. The choice is read from the device, which waits for it and keeps a training step from being captured; on the CPU, as
 * that of fdl_nn_fixed_selector, it isn't. Not one element: FDL_E_SHAPE in forward; negative, NaN or too large: FDL_E_RANGE. */
FDL_API fdl_module *fdl_flow_switch_opt(fdl_module *selector, int n, fdl_module *const *branches,
                                        const fdl_flow_switch_opts *opts);

/* ---- what was published -------------------------------------------------------------------------------- */

/* The values of the last execution in order, *n of them, with their history: of the loop with the tag `name` what its body's
 * trace gave; otherwise what was published as `name` by fdl_emit or a .trace_* option; with NULL what the first loop whose
 * body has trace gave. Borrowed from the graph until that loop or step runs again, is moved, or is freed;
 * fdl_module_detach_state cuts their history. Nothing published: NULL and *n = 0, without an error. Those of a graph inside
 * are that graph's. */
FDL_API fdl_tensor *const *fdl_graph_traces(fdl_module *g, const char *name, int *n);
/* The last of them (borrowed), or NULL without an error. */
FDL_API fdl_tensor *fdl_graph_last_trace(fdl_module *g, const char *name);

FDL_END_DECLS

#ifndef __cplusplus
/* A list of modules as one argument; made before the options that follow it. */
#define FDL_MODULES(...) ((fdl_module *const[]){__VA_ARGS__, FDL_END})

#define fdl_flow_loop(...) fdl_flow_loop_(__VA_ARGS__, )
#define fdl_flow_loop_(body, ...) \
    FDL_FLOW_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_loop_opt, fdl_flow_loop_opts, body, __VA_ARGS__)
#define fdl_flow_map(...) fdl_flow_map_(__VA_ARGS__, )
#define fdl_flow_map_(body, ...) \
    FDL_FLOW_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_map_opt, fdl_flow_map_opts, body, __VA_ARGS__)

/* The module first, then the list, then the options. */
#define FDL_FLOW_LIST_OPTS_(v, f, type, m, modules, ...)                           \
    __extension__({                                                                \
        fdl_module *const v = (m);                                                 \
        fdl_module *const *const FDL_CAT(v, _list) = (modules);                    \
        int FDL_CAT(v, _n) = 0;                                                    \
        while (FDL_CAT(v, _list)[FDL_CAT(v, _n)] != (fdl_module *)FDL_END)         \
            FDL_CAT(v, _n)++;                                                      \
        f(v, FDL_CAT(v, _n), FDL_CAT(v, _list), &(type){.opts_ = 0, __VA_ARGS__}); \
    })
#define fdl_flow_gate(router, ...) fdl_flow_gate_(router, __VA_ARGS__, )
#define fdl_flow_gate_(router, experts, ...)                                                         \
    FDL_FLOW_LIST_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_gate_opt, fdl_flow_gate_opts, router, \
                        experts, __VA_ARGS__)
#define fdl_flow_switch(selector, ...) fdl_flow_switch_(selector, __VA_ARGS__, )
#define fdl_flow_switch_(selector, branches, ...)                                                          \
    FDL_FLOW_LIST_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_switch_opt, fdl_flow_switch_opts, selector, \
                        branches, __VA_ARGS__)
#endif

#endif
