/* What a model makes of an input, before there is one: shapes, parameters, multiply-adds and memory, node by node. Forward
 * runs on tensors without values (FDL_META_DEVICE), so that it costs nothing, checks what it always checks and touches no weight.
 * Like torchinfo's summary and torch.fx's shape propagation. */
#ifndef FLODL_SUMMARY_H
#define FLODL_SUMMARY_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* An input: -1 among its extents is the batch, which may have any size. */
typedef struct fdl_input {
    fdl_shape shape;
    fdl_dtype dtype; /* default: that of the model's parameters */
} fdl_input;
typedef struct fdl_inputs {
    int n;
    const fdl_input *at;
} fdl_inputs;

typedef struct fdl_summary_opts {
    fdl_by_name opts_;
    fdl_dtype dtype; /* of x; default: that of the model's parameters; FDL_INT64 for an embedding's indices */
    fdl_inputs more; /* further inputs in order: FDL_INPUTS({.shape = FDL_SHAPE(-1, 8)}, ...) */
    int depth; /* rows this deep at most, 1: the outermost nodes; what lies deeper counts with them. Default: all */
} fdl_summary_opts;

/* A node of a graph, or a part of a module. -1 in a shape: as large as the batch, or what depends on it. */
typedef struct fdl_summary_row {
    const char *name; /* "linear_3", or a part's name: "self_attn" */
    const char *path; /* from the outside, as parameters are called: "encoder.linear_3" */
    const char *tag;  /* the first one; NULL: none */
    const char *kind; /* "linear"; of nodes without a module "add", "merge" and so on */
    int depth;        /* 1: outermost */
    int calls;        /* in one forward; 0: it doesn't run, or is no module by itself */
    bool shared;      /* a module that stands in an earlier row: counted there */
    fdl_shape shape;  /* of its last result */
    fdl_dtype dtype;
    int64_t params, trainable; /* elements that are its own */
    double multiply_adds;      /* of all its calls, for one row of the batch */
    int64_t bytes; /* of the results of all its calls, likewise; 0: it hands on what its parts made */
} fdl_summary_row;

typedef struct fdl_summary {
    int n;
    const fdl_summary_row *row;
    fdl_shape output;
    fdl_dtype output_dtype;
    bool batch;                /* an input has a free batch: what follows is for one row of it */
    int64_t params, trainable; /* elements, each tensor once */
    int64_t param_bytes, buffer_bytes;
    double
        multiply_adds; /* of the kinds that are known: linear maps, convolutions, attention, recurrent layers */
    int64_t bytes;     /* all results together: what a backward needs at most */
} fdl_summary;

/* `fdl_module_summary(m, FDL_SHAPE(-1, 3, 32, 32))`: in order of running; scope, NULL on failure. A shape that doesn't fit is
 * the error that forward gives, with the node. m isn't changed, nor its state and
 * the values under its tags; but its forward runs, once or twice, in the mode that m is in. A module that makes tensors of its own on another device fails: FDL_E_DEVICE or
 * FDL_E_TORCH. What depends on values (a switch, a loop's condition) goes the way that zeros go. */
FDL_API const fdl_summary *fdl_module_summary_opt(fdl_module *m, fdl_shape x, const fdl_summary_opts *opts);
/* The same; a module that is no graph: FDL_E_ARG. */
FDL_API const fdl_summary *fdl_graph_infer_opt(fdl_module *g, fdl_shape x, const fdl_summary_opts *opts);
/* The row of that path; NULL and FDL_E_ARG when there is none. Borrowed. */
FDL_API const fdl_summary_row *fdl_summary_find(const fdl_summary *s, const char *path);
/* As a table; owned (free). */
FDL_API char *fdl_summary_text(const fdl_summary *s);

FDL_END_DECLS

#ifndef __cplusplus
/* Inputs in order; their array lives as long as the enclosing block. */
#define FDL_INPUTS(...)                                                          \
    ((fdl_inputs){(int)(sizeof((fdl_input[]){__VA_ARGS__}) / sizeof(fdl_input)), \
                  (const fdl_input[]){__VA_ARGS__}})
#define fdl_module_summary(m, ...) fdl_module_summary_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_module_summary_(m, x, ...) fdl_module_summary_opt(m, x, &(fdl_summary_opts){__VA_ARGS__})
#define fdl_graph_infer(g, ...) fdl_graph_infer_(g, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_infer_(g, x, ...) fdl_graph_infer_opt(g, x, &(fdl_summary_opts){__VA_ARGS__})
#endif

#endif
