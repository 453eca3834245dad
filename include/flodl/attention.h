/* Attention. */
#ifndef FLODL_ATTENTION_H
#define FLODL_ATTENTION_H

#include "flodl/scope.h"
#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_scaled_dot_product_attention_opts {
    int opts_;
    fdl_tensor
        *mask; /* broadcasts to [*, Lq, Lk]. Bool: true takes part, false is left out (the opposite of the
                * masks of fdl_nn_multihead_attention, as in PyTorch). Floating: added to the scores. */
    double dropout; /* of the weights, in [0, 1], default 0; applied whenever it is above 0 */
    bool causal;    /* query i sees keys 0 to i; not with .mask */
    double scale;   /* above 0, default 1 / sqrt(E) */
    bool gqa;       /* fewer heads (dim -3) of k and v, each for several of q */
} fdl_scaled_dot_product_attention_opts;
/* F.scaled_dot_product_attention: q [*, Lq, E], k [*, Lk, E], v [*, Lk, Ev] -> [*, Lq, Ev]: softmax(q k^T
 * scale + mask) v. A query with nothing to attend to gives zeros or NaN, as the kernel has it.
 * Differentiable. */
FDL_API fdl_tensor *fdl_scaled_dot_product_attention_opt(fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                                                         const fdl_scaled_dot_product_attention_opts *opts);

/* The kernels that may serve it; libtorch chooses among those allowed that fit. */
typedef enum fdl_sdpa_kernels {
    FDL_SDPA_MATH = 1,
    FDL_SDPA_FLASH = 2,
    FDL_SDPA_EFFICIENT = 4,
    FDL_SDPA_CUDNN = 8
} fdl_sdpa_kernels;
/* torch.nn.attention.sdpa_kernel: `FDL_SDPA(FDL_SDPA_MATH);` allows only these (joined by |) to the end of
 * the enclosing block. Libtorch keeps this for the whole process, not for the thread. */

/* By hand: returns what fdl_sdpa_close restores. No kernel at all, or one that there isn't: FDL_E_ARG and 0,
 * which changes nothing in either call. */
FDL_API unsigned fdl_sdpa_open(unsigned kernels);
FDL_API void fdl_sdpa_close(unsigned before);
FDL_API void fdl_sdpa_leave_(unsigned *before);

FDL_END_DECLS

#ifndef __cplusplus
/* Only these kernels, joined by |, to the end of the enclosing block: a declaration. */
#define FDL_SDPA(kernels)                                                                           \
    FDL_UNUSED __attribute__((cleanup(fdl_sdpa_leave_))) unsigned FDL_CAT(fdl_sdpa_, __COUNTER__) = \
        fdl_sdpa_open(kernels)
#define fdl_scaled_dot_product_attention(q, k, ...) \
    fdl_scaled_dot_product_attention_(q, k, __VA_ARGS__, .opts_ = 0)
#define fdl_scaled_dot_product_attention_(q, k, v, ...) \
    fdl_scaled_dot_product_attention_opt(q, k, v, &(fdl_scaled_dot_product_attention_opts){__VA_ARGS__})
#endif

#endif
