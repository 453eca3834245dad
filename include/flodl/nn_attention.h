/* Attention between two sequences, and what it is told about positions. torch.nn.MultiheadAttention. nn.h says what holds for all
 * constructors. */
#ifndef FLODL_NN_ATTENTION_H
#define FLODL_NN_ATTENTION_H

#include "flodl/attention.h"
#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- attention ----------------------------------------------------------------------------------- */

typedef struct fdl_nn_multihead_attention_opts {
    fdl_by_name opts_;
    double dropout; /* of the attention weights, in training; default 0 */
    bool no_bias;
    int64_t kdim, vdim;    /* features of key and value; default dim */
    bool add_bias_kv;      /* one more key and value, learnt */
    bool add_zero_attn;    /* one more key and value, zeros */
    bool batch_first;      /* [N, L, dim] instead of [L, N, dim] */
    bool causal;           /* query i sees keys 0 to i only */
    int64_t kv_heads;      /* heads of key and value, each for heads / kv_heads of query; default heads */
    bool rope;             /* turns queries and keys by their positions, as fdl_rope does */
    double rope_base;      /* with .rope, default 10000 */
    bool rope_interleaved; /* with .rope, as fdl_rope's */
    bool alibi;            /* adds fdl_alibi to the scores */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_multihead_attention_opts;
/* nn.MultiheadAttention: query [L, N, dim], key [S, N, kdim], value [S, N, vdim], or all without N -> [L, N, dim]. heads
 * divides dim. fdl_forward(m, x): the sequence looks at itself; (m, q, kv), (m, q, k, v): at another one. In a flow, inputs
 * called attn_mask and key_padding_mask are masks. Parameters in_proj_weight [3 dim, dim] (with .kdim or .vdim
 * q_proj_weight [dim, dim], k_proj_weight [dim, kdim], v_proj_weight [dim, vdim]), Xavier uniform, in_proj_bias [3 dim],
 * zeros, bias_k, bias_v [1, 1, dim], Xavier normal, out_proj.weight [dim, dim], out_proj.bias, zeros. With .kv_heads, which
 * divides heads (grouped queries; 1: multi-query), they are apart, key's and value's of kv_heads dim / heads rows: q_proj_weight,
 * k_proj_weight, v_proj_weight, q_proj_bias, k_proj_bias, v_proj_bias; files that call them q_proj.weight load by
 * FDL_RENAMES({"*q_proj.*", "*q_proj_*"}, ...), and into in_proj_weight by FDL_RENAME_SPLIT_QKV. */
FDL_API fdl_module *fdl_nn_multihead_attention_opt(int64_t dim, int64_t heads,
                                                   const fdl_nn_multihead_attention_opts *opts);

typedef struct fdl_nn_mha_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *
        attn_mask; /* [L, S], [N heads, L, S], or [N or 1, heads or 1, L or 1, S]. Bool: true may not attend (the
                            * opposite of fdl_scaled_dot_product_attention's, as in PyTorch). Floating: added to the scores */
    fdl_tensor *
        key_padding_mask; /* [N, S], without N where the inputs are: keys that nobody may attend to, or numbers */
    bool causal;          /* as the module's */
    fdl_tensor **
        weights; /* gets the attention weights [N, L, S], their mean over the heads (scope); slower, since the fused
                           * kernels don't keep them */
    bool per_head; /* weights [N, heads, L, S] */
} fdl_nn_mha_forward_opts;
/* An attention with masks and weights (scope); m not a multihead_attention: FDL_E_ARG; shapes that don't fit: FDL_E_SHAPE
 * with those that would; another dtype of a mask: FDL_E_DTYPE. A query with nothing to attend to: zeros or NaN, as the
 * kernel has it. */
FDL_API fdl_tensor *fdl_nn_mha_forward_opt(fdl_module *m, fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                                           const fdl_nn_mha_forward_opts *opts);

/* ---- positions ----------------------------------------------------------------------------------- */

typedef struct fdl_nn_rope_opts {
    fdl_by_name opts_;
    double base;      /* as fdl_rope's */
    bool interleaved; /* as fdl_rope's */
    int64_t
        max_len; /* turns by a table of so many positions, made once, instead of angles made in each call */
    fdl_device device; /* of the table */
} fdl_nn_rope_opts;
/* Rotary position embedding, for queries and keys of an attention of one's own: [*, L, head_dim] -> the same, as fdl_rope has it.
 * head_dim even. fdl_forward(m, x, positions): positions of the rows instead of 0, 1, ... */
FDL_API fdl_module *fdl_nn_rope_opt(int64_t head_dim, const fdl_nn_rope_opts *opts);

typedef struct fdl_nn_rope_forward_opts {
    fdl_by_name opts_;
    int64_t offset;        /* position of the first row, default 0 */
    fdl_tensor *positions; /* as fdl_rope's; made without the table */
} fdl_nn_rope_forward_opts;
/* From a position on (scope). Behind .max_len, or before 0 with a table: FDL_E_RANGE. m not a rope: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_nn_rope_forward_opt(fdl_module *m, fdl_tensor *x,
                                            const fdl_nn_rope_forward_opts *opts);

/* ALiBi: scores [*, heads, L, S] -> the same with fdl_alibi(heads, S, .queries = L) added. L at most S. */
FDL_API fdl_module *fdl_nn_alibi(int64_t heads);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_multihead_attention(dim, ...) fdl_nn_multihead_attention_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_multihead_attention_(dim, heads, ...) \
    fdl_nn_multihead_attention_opt(dim, heads, &(fdl_nn_multihead_attention_opts){__VA_ARGS__})
#define fdl_nn_mha_forward(m, q, k, ...) fdl_nn_mha_forward_(m, q, k, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_mha_forward_(m, q, k, v, ...) \
    fdl_nn_mha_forward_opt(m, q, k, v, &(fdl_nn_mha_forward_opts){__VA_ARGS__})
#define fdl_nn_rope(...) fdl_nn_rope_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_rope_(head_dim, ...) fdl_nn_rope_opt(head_dim, &(fdl_nn_rope_opts){__VA_ARGS__})
#define fdl_nn_rope_forward(m, ...) fdl_nn_rope_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_rope_forward_(m, x, ...) \
    fdl_nn_rope_forward_opt(m, x, &(fdl_nn_rope_forward_opts){__VA_ARGS__})
#endif

#endif
