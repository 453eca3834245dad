/* Networks as data flow: fdl_flow takes steps in the order in which data flows and gives a graph, which is a
 * module.
 *
 *     fdl_module *model = fdl_flow(
 *         fdl_nn_linear(2, 16),
 *         fdl_nn_gelu(),
 *         fdl_flow_also(fdl_nn_linear(16, 16)),      x + m(x)
 *         fdl_flow_tag("hidden"),
 *         fdl_nn_linear(16, 2));
 *
 * A module is a step, a graph too; fdl_flow_* are the others, those that loop and choose in control.h. The stream is the value that the next step
 * receives: one, or between a split and its merge one a branch. fdl_flow_tag, fdl_flow_tag_group and
 * fdl_flow_using speak of the nearest step before them. Names are copied.
 *
 * Every function here takes over the modules and steps that it is given, on failure too, and returns a step:
 * owned, to be given to one flow. A step can't be forwarded or put into another module: FDL_E_ARG. The
 * modules of a flow may not be in another one as well: FDL_E_STATE; fdl_module_share makes another handle for
 * that. */
#ifndef FLODL_FLOW_H
#define FLODL_FLOW_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- a graph ------------------------------------------------------------------------------------------- */

/* `fdl_flow(step, ...)`: the graph; owned (fdl_module_free). NULL when a step is, which keeps that step's
 * error, or when the steps don't fit together (FDL_E_ARG, FDL_E_STATE): the message has the step's position,
 * from 0, and its kind. No step at all is a graph that returns its input.
 *
 * fdl_forward(g, x, ...) takes the primary input, then those of fdl_flow_input in order of declaration;
 * another number is FDL_E_ARG. An error in it begins with the node where it happened: "linear_3 (#hidden):
 * ...". */
FDL_API fdl_module *fdl_flow_of(int n, fdl_module *const *steps);

/* The same step by step, for graphs that are made in a loop. */
typedef struct fdl_flow_builder fdl_flow_builder;
/* A builder; owned, freed by fdl_flow_build. */
FDL_API fdl_flow_builder *fdl_flow_new(void);
/* Adds a step. After the first failure further steps are freed and the status stays. */
FDL_API fdl_status fdl_flow_add(fdl_flow_builder *b, fdl_module *step);
/* The graph (owned), or NULL if a step failed. Frees the builder either way. */
FDL_API fdl_module *fdl_flow_build(fdl_flow_builder *b);

/* ---- steps --------------------------------------------------------------------------------------------- */

typedef struct fdl_flow_also_opts {
    int opts_;        /* whether an error was pending before the options were made */
    fdl_module *skip; /* s(x) + m(x) */
    const char *name; /* a tag for m's own output; fdl_flow_tag names the sum */
    double drop; /* in training each row of m's output is left out with this probability, in [0, 1], as by
                         * fdl_nn_stochastic_depth */
} fdl_flow_also_opts;
/* A residual: x + m(x). `fdl_flow_also(m, .skip = s, .name = "attn")`. */
FDL_API fdl_module *fdl_flow_also_opt(fdl_module *m, const fdl_flow_also_opts *opts);
/* m runs on the side: the stream stays x; a tag right behind names m(x). */
FDL_API fdl_module *fdl_flow_fork(fdl_module *m);
/* `fdl_flow_split(a, b, ...)`: two or more modules, each of which gets x. Until fdl_flow_merge there is a
 * stream for each. */
FDL_API fdl_module *fdl_flow_split_of(int n, fdl_module *const *branches);

typedef enum fdl_merge_kind {
    FDL_MERGE_ADD, /* the sum, from left to right */
    FDL_MERGE_MEAN,
    FDL_MERGE_CAT,  /* one behind the other along .dim */
    FDL_MERGE_MUL,  /* the product, from left to right */
    FDL_MERGE_MAX,  /* the largest, element by element */
    FDL_MERGE_STACK /* along a new dim */
} fdl_merge_kind;

typedef struct fdl_flow_merge_opts {
    fdl_by_name opts_;
    fdl_opt_i64 dim; /* of FDL_MERGE_CAT and FDL_MERGE_STACK, default -1; 0 is FDL_SOME(0) */
} fdl_flow_merge_opts;
/* Makes one stream of those of a split: `fdl_flow_merge(FDL_MERGE_CAT, .dim = FDL_SOME(1))`. fdl_flow_using behind it makes
 * further operands. */
FDL_API fdl_module *fdl_flow_merge_opt(fdl_merge_kind kind, const fdl_flow_merge_opts *opts);
/* The same by a function of yours, of the streams in order and of what fdl_flow_using wires. */
FDL_API fdl_module *fdl_flow_merge_fn(fdl_tensor *(*fn)(fdl_list values));

/* Long skips: x + the value of the tag, x times it, x and it one behind the other along .dim (default -1). The tag as for
 * fdl_flow_using: an earlier one, or a later one for the call before. */
FDL_API fdl_module *fdl_flow_add_from(const char *tag);
FDL_API fdl_module *fdl_flow_mul_from(const char *tag);
typedef struct fdl_flow_cat_from_opts {
    fdl_by_name opts_;
    fdl_opt_i64 dim;
} fdl_flow_cat_from_opts;
FDL_API fdl_module *fdl_flow_cat_from_opt(const char *tag, const fdl_flow_cat_from_opts *opts);

/* A barrier: the stream goes on, gradients don't come back. */
FDL_API fdl_module *fdl_flow_detach(void);

/* ---- names --------------------------------------------------------------------------------------------- */

/* Names the value of the step before it. Unique in its graph; UTF-8 without "/", quotes and control
 * characters. The first tag of a module's node stands in front of its parameters' names: "hidden/weight". */
FDL_API fdl_module *fdl_flow_tag(const char *name);
/* Between a split and its merge: tags name_0, name_1, ... for the branches. */
FDL_API fdl_module *fdl_flow_tag_group(const char *name);
/* `fdl_flow_using("a", "b")`: the step before it gets the values of these tags as further inputs: a module that takes them
 * (forward_named, or a nested graph by the names of its inputs), every branch of a split, the body of a loop at every run; a
 * merge adds them. "mask=attention_mask" gives the value of "attention_mask" under the name "mask". A tag that stands before
 * it gives the value of the same call; one that comes later that of the call before (flodl/graph.h, state). A name that no
 * step has in the end: FDL_E_ARG when the flow is built. */
FDL_API fdl_module *fdl_flow_using_of(int n, const char *const *names);
/* `fdl_flow_input("ctx", "mask")`: further inputs of the graph, tagged with their names. */
FDL_API fdl_module *fdl_flow_input_of(int n, const char *const *names);
/* `fdl_flow_output("a", "b")`: the values of these tags are outputs, too, which fdl_forward_multi gives behind the main one.
 * It may stand anywhere. A name that no step has in the end: FDL_E_ARG when the flow is built. */
FDL_API fdl_module *fdl_flow_output_of(int n, const char *const *tags);
/* A name of the graph itself: inside another graph it stands in front of its parameters' names
 * ("encoder.hidden/weight"). */
FDL_API fdl_module *fdl_flow_label(const char *name);
/* Hides a tag, or all tags of a group, from the graphs that this one is put into: their paths don't reach it. Tags that
 * begin with "_" are internal anyway. Before or after the tag; no such tag: FDL_E_ARG. */
FDL_API fdl_module *fdl_flow_internal(const char *tag);
/* Writes the built graph's fdl_graph_tree_summary as messages of level FDL_VERBOSE. */
FDL_API fdl_module *fdl_flow_verbose(void);

FDL_END_DECLS

#ifndef __cplusplus
/* Modules stand in initialiser lists, which run from left to right in gcc and clang: a seed gives the same
 * weights everywhere. The first element allows empty lists; v is a fresh name, so that flows nest. */
#define FDL_FLOW_LIST_(v, type, f, ...)            \
    __extension__({                                \
        type v[] = {NULL, __VA_ARGS__};            \
        f((int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define FDL_FLOW_MODULES_(f, ...) \
    FDL_FLOW_LIST_(FDL_CAT(fdl_steps_, __COUNTER__), fdl_module *const, f, __VA_ARGS__)
#define FDL_FLOW_NAMES_(f, ...) \
    FDL_FLOW_LIST_(FDL_CAT(fdl_names_, __COUNTER__), const char *const, f, __VA_ARGS__)
#define fdl_flow(...) FDL_FLOW_MODULES_(fdl_flow_of, __VA_ARGS__)
#define fdl_flow_split(...) FDL_FLOW_MODULES_(fdl_flow_split_of, __VA_ARGS__)
#define fdl_flow_using(...) FDL_FLOW_NAMES_(fdl_flow_using_of, __VA_ARGS__)
#define fdl_flow_input(...) FDL_FLOW_NAMES_(fdl_flow_input_of, __VA_ARGS__)
#define fdl_flow_output(...) FDL_FLOW_NAMES_(fdl_flow_output_of, __VA_ARGS__)
#define fdl_flow_merge(...) fdl_flow_merge_(__VA_ARGS__, .opts_ = 0)
#define fdl_flow_merge_(kind, ...) fdl_flow_merge_opt(kind, &(fdl_flow_merge_opts){__VA_ARGS__})
#define fdl_flow_cat_from(...) fdl_flow_cat_from_(__VA_ARGS__, .opts_ = 0)
#define fdl_flow_cat_from_(tag, ...) fdl_flow_cat_from_opt(tag, &(fdl_flow_cat_from_opts){__VA_ARGS__})

/* The module first, then those among the options. opts_ notes whether an error was pending before these were
 * made: so an option whose constructor failed is told from one that was left out. */
#define FDL_FLOW_OPTS_(v, f, type, m, ...)                                 \
    __extension__({                                                        \
        fdl_module *v = (m);                                               \
        f(v, &(type){.opts_ = 1 + (int)fdl_error_pending(), __VA_ARGS__}); \
    })
#define fdl_flow_also(...) fdl_flow_also_(__VA_ARGS__, )
#define fdl_flow_also_(m, ...) \
    FDL_FLOW_OPTS_(FDL_CAT(fdl_m_, __COUNTER__), fdl_flow_also_opt, fdl_flow_also_opts, m, __VA_ARGS__)
#endif

#endif
