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
    int opts_;              /* whether an error was pending before the options were made */
    int64_t n;              /* a counted loop: runs of the body, 1 or more */
    fdl_module *while_cond; /* asked before each run, so that there are 0 to .max */
    fdl_module *until_cond; /* asked after each run but the last possible one: 1 to .max runs */
    fdl_module *act;    /* gives each row's logit of halting, which weighs the states (below): .max runs */
    int64_t max;        /* required with a condition, 1 or more */
    fdl_halt_vote vote; /* of a condition with several elements */
    const char *trace_cond;   /* publishes what the condition gives, with its history, under this name */
    double epsilon;           /* with .act: a row halts at 1 - epsilon; default 0.01 */
    const char *trace_ponder; /* with .act: publishes what each row's halting costs, [B] */
    bool recompute;           /* computes each run once more in backward, as fdl_flow_recompute */
    bool no_rng_state;        /* with .recompute, as there */
    bool keep_state;          /* don't reset the per-sequence state of body and condition at each forward */
} fdl_flow_loop_opts;
/* body(body(...(x))) with the same parameters, whose gradients add up over the iterations: `fdl_flow_loop(body, .n = 3)`, or
 * with a condition, a module that gets the state alone and gives one element or more, [..]: above 0 means halt, NaN doesn't.
 * Exactly one of .n, .while_cond, .until_cond and .act. What fdl_flow_using wires goes to the body, the same at each iteration.
 *
 * A condition doesn't enter the data: it runs with grad mode off and gets no gradient, except through .trace_cond. Each time
 * that it is asked one number is read from the device, which waits for it and keeps a training step from being captured;
 * counted loops don't. Before the first iteration, and when there is none, the loop's traces are cleared and the body's and
 * the condition's reset is called for every module of their trees.
 *
 * .act is adaptive computation time (Graves 2016). The state is [B, *]; after each run p = sigmoid(act(state)), one a row,
 * is the share of that state in the row's result, until their sum reaches 1 - .epsilon, or at the last run, where what is
 * left to 1 is its share; from then on the row's state stays as it is. -> sum_i p_i state_i [B, *]. A row's ponder cost is
 * its number of runs plus that last share, for a loss (.trace_ponder); .trace_cond publishes the shares p_i [B] of each run.
 * Gradients reach act. There are always .max runs and nothing is read from the device, so steps can be captured.
 *
 * A body whose ops have step publishes with fdl_emit, one with trace has what that gives published; neither goes together
 * with .recompute. Errors: FDL_E_ARG for a wrong combination of options; in forward "loop iteration 2: " or "loop condition at
 * iteration 2: " stands in front; an empty condition is FDL_E_SHAPE. */
FDL_API fdl_module *fdl_flow_loop_opt(fdl_module *body, const fdl_flow_loop_opts *opts);
/* Runs of the body in the last forward of the loop with that tag; 0 before the first. No such loop: -1 and FDL_E_ARG. */
FDL_API int64_t fdl_graph_loop_iterations(fdl_module *g, const char *tag);

typedef struct fdl_flow_scan_opts {
    int opts_;           /* whether an error was pending before the options were made */
    int dim;             /* of the steps; default 0, as in recurrent layers; negative counts from the end */
    bool reverse;        /* from the last step to the first; outputs stand where their inputs stand */
    bool last;           /* only the last step's output, without dim */
    int64_t width;       /* an output is so many first columns of the state's last dim; default: all of it */
    const char *state;   /* the name of the state among the cell's inputs; default "state" */
    const char *init;    /* the tag of the first state, which stands before; default zeros */
    int64_t state_width; /* of those zeros [.., state_width] beside a slice [.., D]; default D */
    const char *trace_state; /* publishes the last state */
    bool recompute;          /* computes each step once more in backward, as fdl_flow_recompute */
    bool no_rng_state;       /* with .recompute, as there */
    bool keep_state;         /* don't reset the cell at each forward */
} fdl_flow_scan_opts;
/* A cell over the slices of a sequence along .dim, x [T, *] (without that dim [*]) -> [T, *'], the outputs put together as the
 * slices lay. The cell gets the slice and, as a further input, the state, and gives the next state, which is the step's output
 * too: `fdl_flow_scan(fdl_nn_gru_cell(64, 128), .dim = 1)`. One whose state is more than its output takes .width, such as
 * lstm_cell, with h beside c: `fdl_flow_scan(fdl_nn_lstm_cell(64, 128), .width = 128)`; one with step in its ops publishes
 * the output itself, fdl_emit(e, "output", y). fdl_refs_initial tells a cell that zeros stand for a first state. What
 * fdl_flow_using wires goes whole to every step. jax.lax.scan, torch.nn.RNN. Nothing is read from the device. A cell without
 * further inputs: FDL_E_ARG; a sequence without a step: FDL_E_SHAPE in forward; "scan step 2: " stands before other errors. */
FDL_API fdl_module *fdl_flow_scan_opt(fdl_module *cell, const fdl_flow_scan_opts *opts);
/* n modules one behind the other, make(0, ctx), make(1, ctx) and so on, called at once in that order: each has parameters of
 * its own. A tag behind it names the last value; fdl_flow_using gives to all of them. n below 1: FDL_E_ARG in the flow. */
FDL_API fdl_module *fdl_flow_repeat(int n, fdl_module *(*make)(int i, void *ctx), void *ctx);

typedef struct fdl_flow_recompute_opts {
    int opts_; /* whether an error was pending before the options were made */
    bool
        no_rng_state; /* nothing in m draws random numbers, or it may draw others in backward; needed where steps are
                        * to be captured as CUDA graphs */
} fdl_flow_recompute_opts;
/* m as a step, whose activations aren't kept for the backward but computed once more there: torch.utils.checkpoint. Its node,
 * names and values are those of m itself. What m publishes, counts or updates as it runs, it does twice; a graph in it that
 * carries state: FDL_E_ARG. The model must live until the backward. */
FDL_API fdl_module *fdl_flow_recompute_opt(fdl_module *m, const fdl_flow_recompute_opts *opts);

/* ---- elements ------------------------------------------------------------------------------------------ */

typedef struct fdl_flow_map_opts {
    int opts_;        /* whether an error was pending before the options were made */
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
    fdl_by_name opts_;
    int top_k; /* each row takes so many experts alone, those with the largest weights */
    double
        capacity; /* with .top_k: rows of an expert, as a multiple of an even share; default: all that come */
    bool normalize;            /* with .top_k: the weights of a row's experts are divided by their sum */
    const char *trace_weights; /* publishes what the router gives */
    const char *
        trace_choice; /* with .top_k: publishes the experts of each row, [.., top_k] int64, the heaviest first */
    const char *
        trace_balance; /* with .top_k: publishes a loss [] that is 1 when choices and weights are even and grows to N
                                * when one expert gets all: N sum_i share_i mean(w[.., i]), with the share of all choices */
} fdl_flow_gate_opts;
/* `fdl_flow_gate(router, FDL_MODULES(a, b, ...))`: two or more experts, all of which get x and give one shape
 * [d0, d1, ...] -> the sum of w[.., i] expert_i(x), of that shape. The router makes the weights w of x, [N] or [d0, N] or
 * [d0, d1, N] and so on for N experts (an extent may be 1); they needn't sum to 1. fdl_nn_softmax_router is one. Only the
 * router gets what fdl_flow_using wires. Shapes that don't fit: FDL_E_SHAPE in forward.
 *
 * With .top_k = k, a sparse mixture of experts: x [.., D] is so many rows [D], w [.., N] has their weights, and each row goes
 * to the k experts that weigh most there, which get rows [n, D] and give [n, *] -> [.., *]. Without .capacity every expert
 * runs on exactly its rows (not at all without any), whose number is read from the device: so a training step isn't captured.
 * With .capacity = c every expert has ceil(c k rows / N) places, at most one a row, and runs on as many rows: no shape
 * depends on the data. Places go to first choices before second ones, in the order of the rows; a row that finds none left
 * goes without that expert. k outside 1 to N, .capacity below 0, or what needs .top_k without it: FDL_E_ARG. */
FDL_API fdl_module *fdl_flow_gate_opt(fdl_module *router, int n, fdl_module *const *experts,
                                      const fdl_flow_gate_opts *opts);

typedef struct fdl_flow_switch_opts {
    fdl_by_name opts_;
    bool per_row;             /* each row of dim 0 takes a branch of its own */
    const char *trace_choice; /* publishes what the selector gives */
} fdl_flow_switch_opts;
/* `fdl_flow_switch(selector, FDL_MODULES(a, b, ...))`: two or more branches, of which x takes one: selector(x), one element of
 * any numeric dtype, is its place from 0 (a fraction is cut off) -> what that branch gives. The others don't run, and their
 * parameters keep no gradient from this call; nor does the selector get one. Only the selector gets what fdl_flow_using
 * wires. The choice is read from the device, which waits for it and keeps a training step from being captured; on the CPU, as
 * that of fdl_nn_fixed_selector, it isn't. .per_row: x [B, *] with the selector giving [B] or [B, 1], as
 * fdl_nn_argmax_selector does with its own .per_row; each branch that a row takes runs once, on all of its rows [n, *], and
 * gives [n, *'] -> [B, *'], rows in their order; branch 0 runs when B is 0. Not one element, or one a row: FDL_E_SHAPE in forward; negative, NaN or too large: FDL_E_RANGE. */
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
#define fdl_flow_scan(...) fdl_flow_scan_(__VA_ARGS__, )
#define fdl_flow_scan_(cell, ...) \
    FDL_FLOW_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_scan_opt, fdl_flow_scan_opts, cell, __VA_ARGS__)
#define fdl_flow_recompute(...) fdl_flow_recompute_(__VA_ARGS__, )
#define fdl_flow_recompute_(m, ...)                                                                  \
    FDL_FLOW_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_recompute_opt, fdl_flow_recompute_opts, m, \
                   __VA_ARGS__)
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
