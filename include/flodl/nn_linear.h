/* Linear maps, shapes, plain functions as modules. torch.nn.Linear, Bilinear, Flatten, Unflatten, Identity. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_LINEAR_H
#define FLODL_NN_LINEAR_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- linear -------------------------------------------------------------------------------------------- */

typedef struct fdl_nn_linear_opts {
    fdl_by_name opts_;
    bool no_bias;
    fdl_param
        *tie; /* use this weight [out, in], such as an embedding's; listed and saved once, gradients add up */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_linear_opts;
/* nn.Linear: [*, in] -> [*, out], x weight^T + bias. Parameters weight [out, in], bias [out], uniform within
 * 1/sqrt(in). */
FDL_API fdl_module *fdl_nn_linear_opt(int64_t in, int64_t out, const fdl_nn_linear_opts *opts);

typedef struct fdl_nn_bilinear_opts {
    fdl_by_name opts_;
    bool no_bias;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_bilinear_opts;
/* nn.Bilinear: fdl_forward(m, x1, x2) of [*, in1] and [*, in2] -> [*, out], x1 weight x2 + bias for each of the out matrices; one
 * input: FDL_E_ARG. In a flow x2 comes by fdl_flow_using. Parameters weight [out, in1, in2], bias [out], uniform within
 * 1/sqrt(in1). */
FDL_API fdl_module *fdl_nn_bilinear_opt(int64_t in1, int64_t in2, int64_t out,
                                        const fdl_nn_bilinear_opts *opts);

/* ---- shape -------------------------------------------------------------------------------------- */

typedef struct fdl_nn_flatten_opts {
    fdl_by_name opts_;
    fdl_opt_i64 start; /* default 1: FDL_SOME(0) flattens the batch too */
    fdl_opt_i64 end;   /* default -1 */
} fdl_nn_flatten_opts;
/* nn.Flatten: [N, a, b] -> [N, ab]. */
FDL_API fdl_module *fdl_nn_flatten_opt(const fdl_nn_flatten_opts *opts);
/* nn.Unflatten: dim becomes dims of this shape; one extent may be -1. */
FDL_API fdl_module *fdl_nn_unflatten(int dim, fdl_shape shape);
/* fdl_reshape(x, shape): x of as many elements -> [shape]; one extent may be -1. */
FDL_API fdl_module *fdl_nn_reshape(fdl_shape shape);
/* fdl_select(x, dim, i): index i of dim, which goes: fdl_nn_select(1, 0) is the first token of [N, L, D] -> [N, D]. Negative: from
 * the end. dim or i outside: the forward's FDL_E_RANGE. */
FDL_API fdl_module *fdl_nn_select(int dim, int64_t i);
/* torch.permute(x, dims): fdl_nn_permute(FDL_DIMS(0, 2, 3, 1)) puts the channels last. dims hold each dim once: FDL_E_ARG; x of
 * another number: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_permute(fdl_shape dims);

typedef struct fdl_nn_scale_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_scale_opts;
/* x weight -> the shape of x, with a parameter weight, `init` everywhere, of this shape, which broadcasts to x:
 * fdl_nn_scale(FDL_SHAPE(768), 1e-4) is a layer scale; FDL_SCALAR is one number for all. A shape that doesn't fit: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_scale_opt(fdl_shape shape, double init, const fdl_nn_scale_opts *opts);
/* nn.Identity: the input itself. */
FDL_API fdl_module *fdl_nn_identity(void);

typedef struct fdl_nn_fn_opts {
    fdl_by_name opts_;
    const char *name; /* the module's kind, a lowercase identifier, copied; default "fn" */
} fdl_nn_fn_opts;
/* A plain function as a module: fdl_nn_fn(fdl_sin). */
FDL_API fdl_module *fdl_nn_fn_opt(fdl_tensor *(*f)(fdl_tensor *x), const fdl_nn_fn_opts *opts);
/* `fdl_nn_fn_refs(f, "ids", "mask")`: a function that takes further inputs by these names (copied), which the flow must wire,
 * or by hand fdl_forward(m, x, ids, mask). No names: any. */
FDL_API fdl_module *fdl_nn_fn_refs_of(fdl_tensor *(*f)(fdl_tensor *x, const fdl_refs *r), int n,
                                      const char *const *names);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_linear(in, ...) fdl_nn_linear_(in, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_linear_(in, out, ...) fdl_nn_linear_opt(in, out, &(fdl_nn_linear_opts){__VA_ARGS__})
#define fdl_nn_bilinear(in1, in2, ...) fdl_nn_bilinear_(in1, in2, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_bilinear_(in1, in2, out, ...) \
    fdl_nn_bilinear_opt(in1, in2, out, &(fdl_nn_bilinear_opts){__VA_ARGS__})
#define fdl_nn_flatten(...) fdl_nn_flatten_opt(&(fdl_nn_flatten_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_scale(shape, ...) fdl_nn_scale_(shape, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_scale_(shape, init, ...) fdl_nn_scale_opt(shape, init, &(fdl_nn_scale_opts){__VA_ARGS__})
#define fdl_nn_fn(...) fdl_nn_fn_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_fn_(f, ...) fdl_nn_fn_opt(f, &(fdl_nn_fn_opts){__VA_ARGS__})
#define fdl_nn_fn_refs(...) fdl_nn_fn_refs_(__VA_ARGS__, FDL_END)
#define fdl_nn_fn_refs_(f, ...)                                                             \
    fdl_nn_fn_refs_of(f, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)) - 1, \
                      (const char *const[]){__VA_ARGS__})
#endif

#endif
