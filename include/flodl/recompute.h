/* Activation checkpointing: memory for time. What a block computes on the way is not kept for the backward, but computed once
 * more there. */
#ifndef FLODL_RECOMPUTE_H
#define FLODL_RECOMPUTE_H

#include "flodl/autograd.h"

FDL_BEGIN_DECLS

typedef struct fdl_checkpoint_opts {
    fdl_by_name opts_;
    bool no_rng_state; /* don't restore the random state for the recomputation; needed while a CUDA graph is
                                   captured */
    void (*release)(
        void *ctx); /* called once, when the graph that refers to this call is gone, on whatever thread that
                                   is; when the call fails too */
} fdl_checkpoint_opts;

/* torch.utils.checkpoint.checkpoint: fn(inputs, ctx), of whatever shape fn gives it (scope). Only inputs and result are kept for the backward, which calls
 * fn again, with the random state of the CPU and of the inputs' devices and the autocast state of the first call, so that
 * dropout drops the same. fn runs in a scope of its own, both times; the second time as a hook does (hook.h), and ctx must
 * live until then. What requires grad and isn't a leaf (a parameter) is handed in as an input: FDL_E_ARG for a function that
 * uses such a tensor otherwise. Side effects, like the running statistics of a batch norm, happen twice. Derivatives of the
 * first order only: FDL_E_UNSUPPORTED under .create_graph. With grad mode off it is a plain call. */
FDL_API fdl_tensor *fdl_checkpoint_fn_opt(fdl_tensor *(*fn)(fdl_list in, void *ctx), void *ctx,
                                          fdl_list inputs, const fdl_checkpoint_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_checkpoint_fn(fn, ctx, ...) fdl_checkpoint_fn_(fn, ctx, __VA_ARGS__, .opts_ = 0)
#define fdl_checkpoint_fn_(fn, ctx, inputs, ...) \
    fdl_checkpoint_fn_opt(fn, ctx, inputs, &(fdl_checkpoint_opts){__VA_ARGS__})
#endif

#endif
