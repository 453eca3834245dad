/* Parameters of a graph by pattern: for freezing, for parameter groups of an optimizer, for initial values.
 *
 *     fdl_params_freeze(fdl_graph_select(model, "encoder.layer_*.norm"));
 *     fdl_optim_add_group(opt, fdl_graph_select(model, "head"), .lr = 1e-3);
 *     fdl_params_each(fdl_graph_select(model, NULL, .kind = "linear", .min_ndim = 2), init, NULL);
 *
 * A pattern is segments joined by dots. In a segment "*" stands for any characters, "?" for one; the segment "**" stands for any
 * number of segments, none too. It is held against the paths of the tree (tree.h: labels and tags, no internal ones below the
 * graph asked) and against the names of the parameters ("encoder.hidden/weight" is "encoder.hidden.weight" here; they have ids
 * where there are no tags, and the names of children in composite modules). What it matches from the left, it selects with
 * everything below: "encoder" the whole encoder, "**.norm" every norm wherever it is, "**.bias" every bias. */
#ifndef FLODL_PATTERNS_H
#define FLODL_PATTERNS_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* Whether the pattern matches a path or name from the left up to the end of a segment; "/" counts as a dot. False on NULL. */
FDL_API bool fdl_pattern_matches(const char *pattern, const char *name);

typedef struct fdl_graph_select_opts {
    fdl_by_name opts_;
    const char *kind; /* only parameters in modules of that kind ("layernorm"); may have "*" and "?" in it */
    int min_ndim;     /* only those of so many dims or more: 2 for the weights that decay */
    int max_ndim;     /* only those of so many dims or fewer: 1 for biases and norms; default: all */
    bool trainable;   /* only those that aren't frozen */
    bool (*where)(const fdl_param *p, const char *name, void *ctx); /* only those for which it gives true */
    void *ctx;
} fdl_graph_select_opts;
/* The parameters that the pattern (NULL: all) selects and that have all that the options ask for, in the order and with the names
 * of fdl_parameters. Scope. A pattern that selects none, or a kind of which there is no module: NULL and FDL_E_ARG, as it is
 * misspelt; options that leave none over: an empty list. */
FDL_API fdl_params *fdl_graph_select_opt(fdl_module *g, const char *pattern,
                                         const fdl_graph_select_opts *opts);
/* fn on each entry in turn, with its name; a status other than FDL_OK ends that and is returned. */
FDL_API fdl_status fdl_params_each(const fdl_params *ps,
                                   fdl_status (*fn)(fdl_param *p, const char *name, void *ctx), void *ctx);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_select(...) fdl_graph_select_(__VA_ARGS__, .opts_ = 0)
#define fdl_graph_select_(g, pattern, ...) \
    fdl_graph_select_opt(g, pattern, &(fdl_graph_select_opts){__VA_ARGS__})
#endif

#endif
