/* Hooks on gradients, and the search for what makes a gradient NaN.
 *
 * A hook runs inside fdl_backward, on the calling thread for the CPU and on a thread of libtorch's for CUDA. What it makes
 * lives in a scope of its own, which closes when it returns; the default dtype and device are those of the thread that
 * registered it. An error that it leaves pending fails fdl_backward with that error, on the thread that called it. */
#ifndef FLODL_HOOK_H
#define FLODL_HOOK_H

#include "flodl/autograd.h"

FDL_BEGIN_DECLS

/* A registered hook; all zero is none. */
typedef struct fdl_hook {
    const void *of; /* the tensor */
    int kind;       /* 1 fdl_hook_grad, 2 fdl_hook_accumulated */
    unsigned place; /* among the tensor's hooks of this kind */
} fdl_hook;

typedef struct fdl_hook_opts {
    fdl_by_name opts_;
    void (*release)(
        void *ctx); /* called once: when the hook is removed, when nothing refers to the tensor and its
                                   history any more, or when the registration fails; on whatever thread that is */
} fdl_hook_opts;

/* Tensor.register_hook: fn gets each gradient of x, shape of x, when it has been computed, and returns one to use in its
 * place (same shape, dtype and device) or NULL, which leaves it as it is. Hooks run in the order in which they were
 * registered, each on what the one before returned, and before the gradient is accumulated. An x that doesn't require
 * grad: FDL_E_STATE. */
FDL_API fdl_hook fdl_hook_grad_opt(fdl_tensor *x, fdl_tensor *(*fn)(fdl_tensor *grad, void *ctx), void *ctx,
                                   const fdl_hook_opts *opts);
/* Tensor.register_post_accumulate_grad_hook: fn is called when the leaf's fdl_grad has its new value. Another status than
 * FDL_OK fails the backward. A tensor that is no leaf or doesn't require grad: FDL_E_STATE. */
FDL_API fdl_hook fdl_hook_accumulated_opt(fdl_tensor *leaf, fdl_status (*fn)(fdl_tensor *leaf, void *ctx),
                                          void *ctx, const fdl_hook_opts *opts);
/* The hook won't run again; its ctx is released. x is the tensor that it was registered on (another: FDL_E_ARG); a hook
 * that is none or removed already: nothing. Not while a backward through x runs on another thread. */
FDL_API fdl_status fdl_hook_remove(fdl_tensor *x, fdl_hook hook);

/* torch.autograd.set_detect_anomaly, for the whole process: a backward that computes a NaN fails with the name of the
 * operation whose derivative it was. Slow; for the search only. */
FDL_API void fdl_detect_anomaly(bool on);
FDL_API bool fdl_is_detecting_anomaly(void);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_hook_grad(x, fn, ...) fdl_hook_grad_(x, fn, __VA_ARGS__, .opts_ = 0)
#define fdl_hook_grad_(x, fn, ctx, ...) fdl_hook_grad_opt(x, fn, ctx, &(fdl_hook_opts){__VA_ARGS__})
#define fdl_hook_accumulated(leaf, fn, ...) fdl_hook_accumulated_(leaf, fn, __VA_ARGS__, .opts_ = 0)
#define fdl_hook_accumulated_(leaf, fn, ctx, ...) \
    fdl_hook_accumulated_opt(leaf, fn, ctx, &(fdl_hook_opts){__VA_ARGS__})
#endif

#endif
