/* A model's topology as text: which modules, made with which options, wired how; not its weights, which checkpoints hold
 * (ckpt.h). The text is JSON that people read and edit; docs/topology.md has the format.
 *
 * Graphs and stock modules are written with all that stands in them; modules of one's own where they say what they were
 * made with (kind.h). What can't be written is FDL_E_UNSUPPORTED, with the node and its kind. */
#ifndef FLODL_TOPOLOGY_H
#define FLODL_TOPOLOGY_H

#include "flodl/graph.h"
#include "flodl/kind.h"

FDL_BEGIN_DECLS

/* A function under the name that files give it; of its pointers the one is set that it has the type of. The library's own
 * functions of one tensor needn't be listed: fdl_sin is "sin". */
typedef struct fdl_function {
    const char *name;
    fdl_tensor *(*f)(fdl_tensor *x);                       /* of fdl_nn_fn, of an activation */
    fdl_tensor *(*refs)(fdl_tensor *x, const fdl_refs *r); /* of fdl_nn_fn_refs */
    fdl_tensor *(*list)(fdl_list inputs);                  /* of a merge */
} fdl_function;

typedef struct fdl_topology_opts {
    fdl_by_name opts_;
    const fdl_kind *const *kinds;  /* of modules of one's own, for reading: FDL_KINDS(&scale_kind, ...) */
    const fdl_function *functions; /* of one's own: FDL_FUNCTIONS({.name = "swirl", .f = swirl}) */
    const char
        *weights; /* for writing: a file beside it that has the weights, noted in the text (ckpt_model.h) */
} fdl_topology_opts;

/* The text, owned (free). m: a graph or any other module that is described. */
FDL_API char *fdl_topology_text_opt(fdl_module *m, const fdl_topology_opts *opts);
/* The model of such a text, owned; its weights are drawn anew, in the order in which the text has the modules, and lie on the
 * default device. No JSON, another format or version, an unknown kind, field, function or name, a value of another type, one
 * that the constructor refuses: FDL_E_FORMAT (the constructor's own error otherwise), with the place in the text. */
FDL_API fdl_module *fdl_topology_parse_opt(const char *text, const fdl_topology_opts *opts);
/* The same to a file and from one. */
FDL_API fdl_status fdl_topology_save_opt(fdl_module *m, const char *path, const fdl_topology_opts *opts);
FDL_API fdl_module *fdl_topology_load_opt(const char *path, const fdl_topology_opts *opts);

/* What differs between the texts of two models, a line each: "- model.steps[2] {...}" in a, "+ ..." in b, "model.steps[3].out:
 * 16, 32" where both have a value. Owned (free); "" when nothing does. */
FDL_API char *fdl_topology_diff_opt(fdl_module *a, fdl_module *b, const fdl_topology_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
/* Lists for the options; their arrays live as long as the enclosing block. */
#define FDL_KINDS(...) ((const fdl_kind *const[]){__VA_ARGS__, NULL})
#define FDL_FUNCTIONS(...) ((const fdl_function[]){__VA_ARGS__, {0}})
#define FDL_TOPOLOGY_OPTS_(...) (&(fdl_topology_opts){__VA_ARGS__})
#define fdl_topology_text(...) fdl_topology_text_(__VA_ARGS__, .opts_ = 0)
#define fdl_topology_text_(m, ...) fdl_topology_text_opt(m, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#define fdl_topology_parse(...) fdl_topology_parse_(__VA_ARGS__, .opts_ = 0)
#define fdl_topology_parse_(text, ...) fdl_topology_parse_opt(text, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#define fdl_topology_save(m, ...) fdl_topology_save_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_topology_save_(m, path, ...) fdl_topology_save_opt(m, path, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#define fdl_topology_load(...) fdl_topology_load_(__VA_ARGS__, .opts_ = 0)
#define fdl_topology_load_(path, ...) fdl_topology_load_opt(path, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#define fdl_topology_diff(a, ...) fdl_topology_diff_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_topology_diff_(a, b, ...) fdl_topology_diff_opt(a, b, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#endif

#endif
