/* What can be asked of a graph that fdl_flow has built. A module that isn't one: FDL_E_ARG. */
#ifndef FLODL_GRAPH_H
#define FLODL_GRAPH_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* False on NULL, too. */
FDL_API bool fdl_module_is_graph(fdl_module *m);
/* What fdl_flow_label said; NULL without it. Borrowed, as all text here: it lives as long as the graph. */
FDL_API const char *fdl_graph_label(fdl_module *g);

/* SHA-256 of the structure, 64 hexadecimal digits: of the nodes with their kinds, the names and shapes of
 * their parameters and buffers, the wiring, the tags, the inputs. Not of values, labels, modes, numbers of
 * runs or kinds of merge. Two graphs with one hash can exchange checkpoints. */
FDL_API const char *fdl_graph_hash(fdl_module *g);
/* Its first 8 digits. */
FDL_API const char *fdl_graph_short_hash(fdl_module *g);
/* The hash that versions 1 and 2 of checkpoints carry: the same over the leaves that fdl_parameters(g, .legacy) lists. */
FDL_API const char *fdl_graph_legacy_hash(fdl_module *g);

/* The text from which the graph was made, whatever it is: fdl_ckpt_save puts it into the file and beside it, as
 * model.config.json for model.fdl.gz. Copied; NULL: none. */
FDL_API fdl_status fdl_graph_set_source_config(fdl_module *g, const char *text);
/* NULL, without an error, where there is none. */
FDL_API const char *fdl_graph_source_config(fdl_module *g);

/* Inputs in the order in which fdl_forward takes them; the first is called "input". -1 and NULL on failure,
 * an i outside is FDL_E_RANGE: so everywhere here. */
FDL_API int fdl_graph_input_count(fdl_module *g);
FDL_API const char *fdl_graph_input_name(fdl_module *g, int i);

/* Nodes in the order in which they run; ids such as "linear_3", whose number is the place in the order of
 * creation. */
FDL_API int fdl_graph_node_count(fdl_module *g);
FDL_API const char *fdl_graph_node_id(fdl_module *g, int i);
/* Length of the longest path from an input to node i. */
FDL_API int fdl_graph_node_level(fdl_module *g, int i);

/* Tags in order of declaration, those of groups and inputs among them. */
FDL_API int fdl_graph_tag_count(fdl_module *g);
FDL_API const char *fdl_graph_tag_name(fdl_module *g, int i);
/* The tags of a group, *n of them. No such group: NULL, without an error. */
FDL_API const char *const *fdl_graph_tag_group(fdl_module *g, const char *name, int *n);

/* ---- values under tags --------------------------------------------------------------------------------- */

/* What the node with that tag gave when it ran last, with its history: no copy. Scope. Each forward of g first lets go of
 * all of them, and computes them anew; one that fails leaves those that it came to. A graph inside that runs several times
 * in a call keeps those of its last run, one that doesn't run those of an earlier call. Moving the module drops them. No
 * such tag: NULL and FDL_E_ARG; not computed so far: NULL and FDL_E_STATE. */
FDL_API fdl_tensor *fdl_graph_tagged(fdl_module *g, const char *tag);

/* With true, what the node with that tag gives goes on without its history: no gradient comes back through it, nor through
 * fdl_graph_tagged. With false again as ever. */
FDL_API fdl_status fdl_graph_stop_gradient(fdl_module *g, const char *tag, bool stop);

/* ---- several outputs, partial runs --------------------------------------------------------------------- */

/* 1 and those of fdl_flow_output; the first is called "output". */
FDL_API int fdl_graph_output_count(fdl_module *g);
FDL_API const char *fdl_graph_output_name(fdl_module *g, int i);
/* fdl_forward_list that gives all outputs, in order. Scope. */
FDL_API fdl_list fdl_forward_multi(fdl_module *g, fdl_list inputs);
/* `fdl_graph_run_to(g, FDL_LIST(x), "encoded", "side")`: runs what leads to these tags and nothing else, and gives their
 * values in that order; scope. Inputs that aren't needed may be NULL. State is read, but not written. NULL .at on failure. */
FDL_API fdl_list fdl_graph_run_to_of(fdl_module *g, fdl_list inputs, int n, const char *const *tags);

/* ---- state from call to call --------------------------------------------------------------------------- */

/* fdl_flow_using of a tag that stands behind it makes a slot of state: the step gets what the tagged node gave in the call
 * before, with its history. While the slot is empty it gets zeros with shape, dtype and device of its own main input. A call
 * that fails leaves all slots as they were. A value is written by reference; of what the caller handed in, a copy.
 *
 * In training, gradients flow back through earlier calls until their history is cut: so a step is forward, backward,
 * optimizer step, fdl_graph_end_step (truncated backpropagation through time); or several forwards, one loss over them, one
 * backward, then fdl_graph_end_step. Backward of each call without it fails in the second one. fdl_trainer_step cuts by
 * itself. A batch of another size doesn't fit the state of the one before: fdl_graph_reset_state. */

/* Whether g has a slot of its own, not one in a graph inside. */
FDL_API bool fdl_graph_has_state(fdl_module *g);
/* Empties the slots of g and of all graphs inside, and does fdl_module_reset of all modules. */
FDL_API fdl_status fdl_graph_reset_state(fdl_module *g);
/* Cuts the history of slots and of values under tags, in g and in all graphs inside, and does fdl_module_detach_state of all
 * modules. Values stay. */
FDL_API fdl_status fdl_graph_detach_state(fdl_module *g);

/* Slots of g itself, in the order in which they were first used; a name is the tag of the node that writes it. */
FDL_API int fdl_graph_state_count(fdl_module *g);
FDL_API const char *fdl_graph_state_name(fdl_module *g, int i);
/* The value, as for going on elsewhere or later. Scope. No such slot: NULL and FDL_E_ARG; empty: NULL and FDL_E_STATE. */
FDL_API fdl_tensor *fdl_graph_state_get(fdl_module *g, const char *name);
/* Sets it to value, without a copy; NULL empties it. */
FDL_API fdl_status fdl_graph_state_set(fdl_module *g, const char *name, fdl_tensor *value);
/* What is read while the slot is empty, in place of zeros, as it is: a constant, or a parameter, which so is learned. No
 * copy; NULL: zeros again. fdl_refs_initial is false then. */
FDL_API fdl_status fdl_graph_state_initial(fdl_module *g, const char *name, fdl_tensor *value);

/* Ends a training step: fdl_graph_detach_state, and counts it. */
FDL_API fdl_status fdl_graph_end_step(fdl_module *g);
/* Ends a sequence: fdl_graph_reset_state. */
FDL_API fdl_status fdl_graph_end_sequence(fdl_module *g);
/* Ends an epoch: flushes what was recorded in g and below (fdl_graph_flush), and counts it. */
FDL_API fdl_status fdl_graph_end_epoch(fdl_module *g);
/* Steps and epochs that ended so; of g itself, not of graphs inside. -1 on failure. */
FDL_API int64_t fdl_graph_step_count(fdl_module *g);
FDL_API int64_t fdl_graph_epoch_count(fdl_module *g);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_run_to(g, inputs, ...) \
    FDL_GRAPH_RUN_TO_(FDL_CAT(fdl_tags_, __COUNTER__), g, inputs, __VA_ARGS__)
#define FDL_GRAPH_RUN_TO_(v, g, inputs, ...)                            \
    __extension__({                                                     \
        const char *const v[] = {__VA_ARGS__};                          \
        fdl_graph_run_to_of(g, inputs, (int)(sizeof v / sizeof *v), v); \
    })
#endif

#endif
