/* Attention. */
#ifndef FLODL_ATTENTION_H
#define FLODL_ATTENTION_H

#include "flodl/scope.h"
#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- the operation ------------------------------------------------------------------------------- */

typedef struct fdl_scaled_dot_product_attention_opts {
    fdl_by_name opts_;
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

/* ---- masks and positions ------------------------------------------------------------------------- */

/* nn.Transformer.generate_square_subsequent_mask -> [n, n]: 0 on and under the diagonal, -inf above it, a mask to be added.
 * .dtype = FDL_BOOL: true above it, a mask of what may not attend. Below 0: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_square_subsequent_mask_opt(int64_t n, const fdl_tensor_opts *opts);

/* ALiBi (Press and others, Train Short, Test Long) -> [heads]: 2^(-8 i / heads) for i from 1 to heads, where heads is a power of
 * two; otherwise those of the next lower power, and then every second one of the next higher. heads below 1: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_alibi_slopes_opt(int64_t heads, const fdl_tensor_opts *opts);
typedef struct fdl_alibi_opts {
    fdl_by_name opts_;
    int64_t queries; /* only the last so many positions ask, as in generation; default: all of them */
    fdl_dtype dtype;
    fdl_device device;
} fdl_alibi_opts;
/* What ALiBi adds to the scores -> [heads, queries, keys]: each head's -slope times the distance of the two positions. An
 * attention mask; the triangle isn't in it. queries above keys: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_alibi_opt(int64_t heads, int64_t keys, const fdl_alibi_opts *opts);

typedef struct fdl_rope_opts {
    fdl_by_name opts_;
    double base; /* above 0, default 10000 */
    bool
        interleaved; /* pair i is features 2i and 2i + 1; default: i and i + D / 2, as checkpoints of Llama's kind have it */
    int64_t offset; /* position of the first row, default 0 */
    fdl_tensor
        *positions; /* of the rows, any numbers, broadcasts to x without its last dim; not with .offset */
} fdl_rope_opts;
/* Rotary position embedding (Su and others, RoFormer): x [*, L, D] -> the same: pair i of the row at position p is turned by the
 * angle p base^(-2i/D). Angles are made in float64; half dtypes are turned in float32. D odd: FDL_E_SHAPE. Differentiable in x. */
FDL_API fdl_tensor *fdl_rope_opt(fdl_tensor *x, const fdl_rope_opts *opts);
typedef struct fdl_rotate_pairs_opts {
    fdl_by_name opts_;
    bool interleaved; /* as fdl_rope's */
} fdl_rotate_pairs_opts;
/* The same by given angles, for frequencies of one's own: x [*, L, D], cos and sin, which broadcast to [*, L, D / 2] -> the shape
 * and dtype of x: (a, b) becomes (a cos - b sin, a sin + b cos). Differentiable. */
FDL_API fdl_tensor *fdl_rotate_pairs_opt(fdl_tensor *x, fdl_tensor *cos, fdl_tensor *sin,
                                         const fdl_rotate_pairs_opts *opts);

/* ---- kernels ------------------------------------------------------------------------------------- */

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
#define fdl_square_subsequent_mask(...) fdl_square_subsequent_mask_(__VA_ARGS__, .opts_ = 0)
#define fdl_square_subsequent_mask_(n, ...) fdl_square_subsequent_mask_opt(n, &(fdl_tensor_opts){__VA_ARGS__})
#define fdl_alibi_slopes(...) fdl_alibi_slopes_(__VA_ARGS__, .opts_ = 0)
#define fdl_alibi_slopes_(heads, ...) fdl_alibi_slopes_opt(heads, &(fdl_tensor_opts){__VA_ARGS__})
#define fdl_alibi(heads, ...) fdl_alibi_(heads, __VA_ARGS__, .opts_ = 0)
#define fdl_alibi_(heads, keys, ...) fdl_alibi_opt(heads, keys, &(fdl_alibi_opts){__VA_ARGS__})
#define fdl_rope(...) fdl_rope_(__VA_ARGS__, .opts_ = 0)
#define fdl_rope_(x, ...) fdl_rope_opt(x, &(fdl_rope_opts){__VA_ARGS__})
#define fdl_rotate_pairs(x, cos, ...) fdl_rotate_pairs_(x, cos, __VA_ARGS__, .opts_ = 0)
#define fdl_rotate_pairs_(x, cos, sin, ...) \
    fdl_rotate_pairs_opt(x, cos, sin, &(fdl_rotate_pairs_opts){__VA_ARGS__})
#define fdl_scaled_dot_product_attention(q, k, ...) \
    fdl_scaled_dot_product_attention_(q, k, __VA_ARGS__, .opts_ = 0)
#define fdl_scaled_dot_product_attention_(q, k, v, ...) \
    fdl_scaled_dot_product_attention_opt(q, k, v, &(fdl_scaled_dot_product_attention_opts){__VA_ARGS__})
#endif

#endif
