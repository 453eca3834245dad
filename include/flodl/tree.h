/* Graphs inside graphs: a graph that has a label is a child of the one that it was put into, and paths lead to it and to its
 * tags.
 *
 *     fdl_module *model = fdl_flow(fdl_flow(fdl_flow_label("encoder"), ..., fdl_flow_tag("hidden"), ...), head);
 *     fdl_graph_freeze(model, "encoder");
 *     fdl_graph_thaw(model, "encoder.hidden");
 *
 * A path is labels joined by dots, from the graph that is asked downward; its last segment may be a tag. A child comes before a
 * tag of the same name. Tags may have dots in them: where no child has the first segment as its label, the rest of the path is
 * taken as one tag. Internal tags (flow.h) are met in the graph itself only. There are no wildcards in paths; patterns.h has them.
 *
 * A path that leads nowhere: FDL_E_ARG, with the segment that wasn't found and the closest names; a module that is no graph:
 * FDL_E_ARG. */
#ifndef FLODL_TREE_H
#define FLODL_TREE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- children ------------------------------------------------------------------------------------------ */

/* The graphs with a label that lie in g, down to the first graph on each way, each once, in the order of the nodes: as steps,
 * in loops, maps, gates and switches, and as children of modules of one's own. Those without a label aren't listed; parameters,
 * modes and moves reach into them all the same. -1 on failure. */
FDL_API int fdl_graph_child_count(fdl_module *g);
/* Child i, borrowed; outside: NULL and FDL_E_RANGE. */
FDL_API fdl_module *fdl_graph_child_at(fdl_module *g, int i);
/* The child with that label, borrowed; none: NULL and FDL_E_ARG. */
FDL_API fdl_module *fdl_graph_child(fdl_module *g, const char *label);
/* Whether g was put into another graph that still exists; with or without a label. */
FDL_API bool fdl_graph_is_composed(fdl_module *g);
/* Whether paths from outside don't reach that tag of g. No such tag: false and FDL_E_ARG. */
FDL_API bool fdl_graph_is_internal(fdl_module *g, const char *tag);

/* ---- paths --------------------------------------------------------------------------------------------- */

typedef enum fdl_path_kind { FDL_PATH_NONE = 0, FDL_PATH_SUBGRAPH, FDL_PATH_TAG } fdl_path_kind;
/* Where a path leads. FDL_PATH_NONE: nowhere, with the error set. Needs no forward. */
FDL_API fdl_path_kind fdl_graph_validate_path(fdl_module *g, const char *path);
/* The graph at a path, borrowed. A tag: NULL and FDL_E_ARG. */
FDL_API fdl_module *fdl_graph_subgraph(fdl_module *g, const char *path);

/* ---- parameters and modes at a path --------------------------------------------------------------------- */

/* At a subgraph: everything below it. At a tag: what the tagged step owns; where the tagged value is made by no module of its
 * own, the modules of the step: an also's branch and skip, the branches that a merge merges. */

/* Parameters and buffers with the names that they have in the subgraph itself ("hidden/weight", not "encoder.hidden/weight"),
 * or in the graph of the tag; fdl_parameters' options. Scope. NULL on failure. */
FDL_API fdl_params *fdl_graph_parameters_at_opt(fdl_module *g, const char *path,
                                                const fdl_parameters_opts *opts);
FDL_API fdl_params *fdl_graph_buffers_at_opt(fdl_module *g, const char *path,
                                             const fdl_parameters_opts *opts);
/* Freezing stops training by gradients, not by statistics: a frozen batch norm wants fdl_graph_set_training_at(.., false) too.
 * Thawing lets every parameter at the path train, whoever froze it. A path that leads nowhere changes nothing. */
FDL_API fdl_status fdl_graph_freeze(fdl_module *g, const char *path);
FDL_API fdl_status fdl_graph_thaw(fdl_module *g, const char *path);
/* 1: there are parameters, and all are frozen. 0: not so. -1 on failure. */
FDL_API int fdl_graph_is_frozen(fdl_module *g, const char *path);
/* Training mode there, until the next fdl_train or fdl_eval of the whole. */
FDL_API fdl_status fdl_graph_set_training_at(fdl_module *g, const char *path, bool training);

/* ---- values at a path ------------------------------------------------------------------------------------ */

/* fdl_graph_tagged of the graph that the path leads into: *out is the value of the tag there (scope), or NULL with FDL_OK when
 * no forward has computed it so far. A path that leads nowhere or to a subgraph: FDL_E_ARG. */
FDL_API fdl_status fdl_graph_tagged_at(fdl_module *g, const char *path, fdl_tensor **out);

/* What a loop or another step has published (fdl_graph_traces), by path: labels, then the loop's tag or the published name, then
 * which one, from 0 or, negative, from the end: "encoder.scan[3]", "encoder.scan[-1]"; without a number the last. *out: scope; NULL
 * with FDL_OK when nothing was published so far. Labels that lead nowhere or a number that is none: FDL_E_ARG; one outside:
 * FDL_E_RANGE. */
FDL_API fdl_status fdl_graph_trace_at(fdl_module *g, const char *path, fdl_tensor **out);

/* ---- reports ------------------------------------------------------------------------------------------- */

/* The tree as text, in malloc'ed memory that the caller frees: a line for each graph with its label (without one: "(root)"),
 * short hash and a mark when all of its parameters are frozen; below it its tags without the internal ones, the numbers of its
 * parameter tensors and of their elements, all and frozen, then its children, indented. */
FDL_API char *fdl_graph_tree_summary(fdl_module *g);
/* Where the parameters are, in the same kind of memory: the total, then for each child and for what belongs to none ("(own)")
 * tensors, elements, percentage of the elements (they add up to 100.0) and whether they are trainable or frozen. A shared
 * parameter is counted once, in the first child that has it. */
FDL_API char *fdl_graph_param_summary(fdl_module *g);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_parameters_at(...) fdl_graph_parameters_at_(__VA_ARGS__, .opts_ = 0)
#define fdl_graph_parameters_at_(g, path, ...) \
    fdl_graph_parameters_at_opt(g, path, &(fdl_parameters_opts){__VA_ARGS__})
#define fdl_graph_buffers_at(...) fdl_graph_buffers_at_(__VA_ARGS__, .opts_ = 0)
#define fdl_graph_buffers_at_(g, path, ...) \
    fdl_graph_buffers_at_opt(g, path, &(fdl_parameters_opts){__VA_ARGS__})
#endif

#endif
