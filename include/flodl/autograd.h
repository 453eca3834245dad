/* Gradients: flags, backward, checks. libtorch's engine does all of it. */
#ifndef FLODL_AUTOGRAD_H
#define FLODL_AUTOGRAD_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_backward_opts {
    fdl_by_name opts_;
    fdl_tensor *gradient; /* shape of the loss; needed when it has more than one element */
    bool retain_graph;    /* allow a second backward through the same graph */
    bool create_graph;    /* make the gradients differentiable */
    fdl_list inputs;      /* accumulate into these leaves only */
} fdl_backward_opts;
/* Tensor.backward: adds the gradients into the leaves' grad. A loss that doesn't require grad: FDL_E_STATE; of several
 * elements without .gradient: FDL_E_SHAPE. */
FDL_API fdl_status fdl_backward_opt(fdl_tensor *loss, const fdl_backward_opts *opts);

/* A handle on the accumulated gradient, of x's shape (scope), or NULL without an error when there is none. */
FDL_API fdl_tensor *fdl_grad(fdl_tensor *x);
/* Replaces it. Shape, dtype and device must be x's; NULL clears. */
FDL_API fdl_status fdl_set_grad(fdl_tensor *x, fdl_tensor *g);
/* Fills the gradient with zeros, if there is one. */
FDL_API fdl_status fdl_zero_grad(fdl_tensor *x);
/* Drops the gradient, without a kernel. */
FDL_API fdl_status fdl_clear_grad(fdl_tensor *x);

/* Tensor.requires_grad. */
FDL_API bool fdl_requires_grad(fdl_tensor *x);
/* Tensor.requires_grad_: floating dtypes only (FDL_E_DTYPE); switching it off on a non-leaf: FDL_E_STATE. */
FDL_API fdl_status fdl_requires_grad_(fdl_tensor *x, bool on);
/* Made by the user, or doesn't require grad. */
FDL_API bool fdl_is_leaf(fdl_tensor *x);
/* How often the tensor, or what shares its storage, was changed in place; -1 on failure. Tensor._version. */
FDL_API int64_t fdl_tensor_version(fdl_tensor *x);
/* The same shape and storage without history. */
FDL_API fdl_tensor *fdl_detach(fdl_tensor *x);
/* In place; of a view: FDL_E_STATE. */
FDL_API fdl_status fdl_detach_(fdl_tensor *x);
/* Lets a non-leaf keep its gradient. */
FDL_API fdl_status fdl_retain_grad(fdl_tensor *x);
/* Distinct nodes of the recorded graph that are reachable from x; 0 for a leaf. */
FDL_API int64_t fdl_autograd_nodes(fdl_tensor *x);
/* The leaves that a backward of x adds gradients to, each once, of any shapes (scope); none for a leaf or a constant. */
FDL_API fdl_list fdl_autograd_leaves(fdl_tensor *x);

typedef struct fdl_grad_of_opts {
    fdl_by_name opts_;
    fdl_list grad_outputs; /* one an output; default ones for 0-d outputs */
    bool retain_graph, create_graph;
    bool allow_unused; /* an input that took no part gives a NULL element, not an error */
} fdl_grad_of_opts;
/* torch.autograd.grad: the gradients of the outputs' sum with respect to the inputs, one an input and of
 * its shape (scope). */
FDL_API fdl_list fdl_grad_of_opt(fdl_list outputs, fdl_list inputs, const fdl_grad_of_opts *opts);

/* Holds the node that accumulates into a leaf, made now on the current stream; NULL without an error for a non-leaf. For
 * workers that train on a stream of their own: otherwise the node is made by the engine, on the default stream. */
typedef struct fdl_accum fdl_accum;
FDL_API fdl_accum *fdl_retain_accumulator(fdl_tensor *x);
FDL_API void fdl_accum_free(fdl_accum *a);

/* ---- checking a gradient ------------------------------------------------------------------------- */

typedef struct fdl_gradcheck_report {
    double worst; /* the largest abs(analytic - numeric) / (atol + rtol * abs(numeric)); at most 1 passes */
    int input;    /* where: which input, */
    int64_t element;          /* which element of it; -1 with .fast */
    double analytic, numeric; /* both derivatives there */
} fdl_gradcheck_report;
typedef struct fdl_gradcheck_opts {
    fdl_by_name opts_;
    double eps;  /* step of the central difference, default 1e-6 */
    double atol; /* default 1e-5 */
    double rtol; /* default 1e-3 */
    bool fast;   /* one random direction an input, not each element in turn: two calls of f an input */
    fdl_gradcheck_report *report;
} fdl_gradcheck_opts;
/* torch.autograd.gradcheck: compares the derivatives of sum(f(in) * w), w fixed and random, with central differences, for
 * every element of every input that requires grad. Inputs are float64 (FDL_E_DTYPE). f runs in a scope of its own; its
 * result may have any shape. A difference: FDL_E_MISMATCH with input, element and both values; two different results for
 * equal inputs: FDL_E_STATE. */
FDL_API fdl_status fdl_gradcheck_opt(fdl_tensor *(*f)(fdl_list in, void *ctx), fdl_list in, void *ctx,
                                     const fdl_gradcheck_opts *opts);
/* torch.autograd.gradgradcheck: the same of the gradients, as functions of the inputs and of the gradient v that comes into
 * the backward, which counts as one more input behind the last. */
FDL_API fdl_status fdl_gradgradcheck_opt(fdl_tensor *(*f)(fdl_list in, void *ctx), fdl_list in, void *ctx,
                                         const fdl_gradcheck_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_backward(...) fdl_backward_(__VA_ARGS__, .opts_ = 0)
#define fdl_backward_(loss, ...) fdl_backward_opt(loss, &(fdl_backward_opts){__VA_ARGS__})
#define fdl_grad_of(outputs, ...) fdl_grad_of_(outputs, __VA_ARGS__, .opts_ = 0)
#define fdl_grad_of_(outputs, inputs, ...) fdl_grad_of_opt(outputs, inputs, &(fdl_grad_of_opts){__VA_ARGS__})
#define fdl_gradcheck(f, in, ...) fdl_gradcheck_(f, in, __VA_ARGS__, .opts_ = 0)
#define fdl_gradcheck_(f, in, ctx, ...) fdl_gradcheck_opt(f, in, ctx, &(fdl_gradcheck_opts){__VA_ARGS__})
#define fdl_gradgradcheck(f, in, ...) fdl_gradgradcheck_(f, in, __VA_ARGS__, .opts_ = 0)
#define fdl_gradgradcheck_(f, in, ctx, ...) \
    fdl_gradgradcheck_opt(f, in, ctx, &(fdl_gradcheck_opts){__VA_ARGS__})
#endif

#endif
