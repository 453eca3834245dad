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

FDL_END_DECLS

#endif
