/* Graphs made out of graphs: parts around the same modules, copies, other modules in the place of some.
 *
 *     fdl_module *features = fdl_graph_until(model, "encoded");       the same weights, up to the tag
 *     fdl_module *head = fdl_graph_from(model, "encoded");            and behind it
 *     fdl_module *teacher = fdl_module_clone(model);                  weights of its own
 *     fdl_graph_replace(model, "head", fdl_nn_linear(64, 3));
 *     fdl_graph_lora(model, "encoder.**", 8, .alpha = 16);
 *
 * Parts and copies are made by making the steps of the graph again. So every step and, for copies, every module must say what
 * it was made with (kind.h): all stock modules do; one that doesn't is FDL_E_UNSUPPORTED with its kind. */
#ifndef FLODL_SURGERY_H
#define FLODL_SURGERY_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- parts with the same weights ------------------------------------------------------------------------- */

/* The graph up to the value of a tag of g, which is its output: a feature extractor. The same modules, so the same parameters
 * under the same names, and the same modes, which both graphs change; values under tags, hooks and state from call to call of
 * its own. Owned; it may outlive g. Inputs as of g, as far as they stand before the tag. No such tag: NULL and FDL_E_ARG; a
 * state whose tag stands behind it: FDL_E_ARG. */
FDL_API fdl_module *fdl_graph_until(fdl_module *g, const char *tag);
/* The graph behind a tag of g, whose value is the primary input: fdl_graph_from(g, t) of fdl_graph_until(g, t)'s output gives g's.
 * Other values from before the tag that are used behind it become further inputs, by the first of their tags, in the order of
 * their nodes; one without a tag: FDL_E_ARG with the nodes. Nodes keep their ids, parameters their names. Otherwise as
 * fdl_graph_until. */
FDL_API fdl_module *fdl_graph_from(fdl_module *g, const char *tag);
/* The graph at a path (tree.h; NULL: g itself) as a graph of its own around the same modules. Owned. */
FDL_API fdl_module *fdl_graph_extract(fdl_module *g, const char *path);

/* ---- copies ------------------------------------------------------------------------------------------------ */

/* copy.deepcopy: the module, graph or not, with parameters and buffers of its own that have the same values, dtypes and devices;
 * frozen is what was frozen, shared what was shared, modes are the same. Without gradients, hooks, values under tags and state.
 * Owned. Random numbers stand where they stood. */
FDL_API fdl_module *fdl_module_clone(fdl_module *m);

/* ---- other modules in the place of some -------------------------------------------------------------------- */

/* Puts m, which it takes over, on failure too, in the place of a module in g, which is freed. path: that of a subgraph or of a tag
 * (tree.h), or a module's dotted name as parameters have it ("loop_3.body", "encoder.linear_2", "attention.q_proj"); a module that
 * is shared stays where it stands by another name. m must take what is wired to the old one (fdl_flow_using), and keeps its own
 * mode. The node's id gets m's kind. Optimizers that had the old one's parameters must be made anew; hooks and values under tags
 * of an old subgraph go with it. A module of one's own gets the handle of a new child where its self holds the old one's. No such
 * path, a value that no single module makes, labels that would clash, other inputs: FDL_E_ARG, nothing changed. Not while g
 * runs. */
FDL_API fdl_status fdl_graph_replace(fdl_module *g, const char *path, fdl_module *m);

typedef struct fdl_graph_adapt_opts {
    fdl_by_name opts_;
    const char *kind; /* which modules, default "linear" */
} fdl_graph_adapt_opts;
/* Puts make(m) in the place of each module m of that kind at or below what the pattern matches (patterns.h; NULL: all of g), and
 * returns how many. make gets a handle that it takes over, as the constructor of an adapter around m does, and returns an owned
 * one; NULL ends it all. A module that stands in several places gets one adapter. -1 on failure, g unchanged; none there:
 * FDL_E_ARG. */
FDL_API int fdl_graph_adapt_opt(fdl_module *g, const char *pattern,
                                fdl_module *(*make)(fdl_module *m, void *ctx), void *ctx,
                                const fdl_graph_adapt_opts *opts);

/* ---- low-rank adapters ------------------------------------------------------------------------------------- */

typedef struct fdl_nn_lora_opts {
    fdl_by_name opts_;
    double alpha;    /* the adapter counts alpha / rank, default rank */
    double dropout;  /* of the adapter's input in training, [0, 1) */
    bool train_base; /* don't freeze the layer */
} fdl_nn_lora_opts;
/* A low-rank adapter around a linear layer, which it takes over, on failure too: x [.., in] -> linear(x) + alpha / rank *
 * dropout(x) a^T b^T [.., out]. Parameters: lora_a [rank, in], drawn as a linear layer's weight; lora_b [out, rank], zeros, so that
 * at first nothing changes; the layer's under their names. An adapted layer, another kind of module, rank < 1: FDL_E_ARG. Hu et al. 2021, LoRA. */
FDL_API fdl_module *fdl_nn_lora_opt(fdl_module *linear, int64_t rank, const fdl_nn_lora_opts *opts);
/* Adds what the adapter has learned to the layer's weight and begins anew: the output stays as it is. */
FDL_API fdl_status fdl_nn_lora_fold(fdl_module *lora);
/* fdl_graph_adapt with fdl_nn_lora: the number of adapted layers, -1 on failure. */
FDL_API int fdl_graph_lora_opt(fdl_module *g, const char *pattern, int64_t rank,
                               const fdl_nn_lora_opts *opts);
/* Folds the adapters at or below what the pattern matches and leaves the bare layers, frozen if they were: their number, -1 on
 * failure. */
FDL_API int fdl_graph_fold_lora(fdl_module *g, const char *pattern);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_adapt(g, pattern, make, ...) fdl_graph_adapt_(g, pattern, make, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_adapt_(g, pattern, make, ctx, ...) \
    fdl_graph_adapt_opt(g, pattern, make, ctx, &(fdl_graph_adapt_opts){__VA_ARGS__})
#define fdl_nn_lora(linear, ...) fdl_nn_lora_(linear, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_lora_(linear, rank, ...) fdl_nn_lora_opt(linear, rank, &(fdl_nn_lora_opts){__VA_ARGS__})
#define fdl_graph_lora(g, pattern, ...) fdl_graph_lora_(g, pattern, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_lora_(g, pattern, rank, ...) \
    fdl_graph_lora_opt(g, pattern, rank, &(fdl_nn_lora_opts){__VA_ARGS__})
#endif

#endif
