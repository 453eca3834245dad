/* Attention and transformers. torch.nn.MultiheadAttention, TransformerEncoder. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_ATTENTION_H
#define FLODL_NN_ATTENTION_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- attention ----------------------------------------------------------------------------------- */

typedef struct fdl_nn_multihead_attention_opts {
    int opts_;
    double dropout; /* of the attention weights, in training; default 0 */
    bool no_bias;
    int64_t kdim, vdim; /* features of key and value; default dim */
    bool add_bias_kv;   /* one more key and value, learnt */
    bool add_zero_attn; /* one more key and value, zeros */
    bool batch_first;   /* [N, L, dim] instead of [L, N, dim] */
    bool causal;        /* query i sees keys 0 to i only */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_multihead_attention_opts;
/* nn.MultiheadAttention: query [L, N, dim], key [S, N, kdim], value [S, N, vdim], or all without N -> [L, N, dim]. heads
 * divides dim. fdl_forward(m, x): the sequence looks at itself; (m, q, kv), (m, q, k, v): at another one. In a flow, inputs
 * called attn_mask and key_padding_mask are masks. Parameters in_proj_weight [3 dim, dim] (with .kdim or .vdim
 * q_proj_weight [dim, dim], k_proj_weight [dim, kdim], v_proj_weight [dim, vdim]), Xavier uniform, in_proj_bias [3 dim],
 * zeros, bias_k, bias_v [1, 1, dim], Xavier normal, out_proj.weight [dim, dim], out_proj.bias, zeros. */
FDL_API fdl_module *fdl_nn_multihead_attention_opt(int64_t dim, int64_t heads,
                                                   const fdl_nn_multihead_attention_opts *opts);

typedef struct fdl_nn_mha_forward_opts {
    int opts_;
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

typedef struct fdl_nn_transformer_encoder_layer_opts {
    int opts_;
    int64_t ff;                               /* features between the two linear maps, default 2048 */
    double dropout;                           /* default 0.1 */
    fdl_tensor *(*activation)(fdl_tensor *x); /* default fdl_relu; fdl_gelu or a function of your own */
    bool norm_first;                          /* norms before attention and linear maps instead of behind */
    bool batch_first;                         /* [N, L, dim] instead of [L, N, dim] */
    bool causal;                              /* as the attention's */
    double eps;                               /* of the norms, default 1e-5 */
    bool no_bias;                             /* of all parts */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_transformer_encoder_layer_opts;
/* nn.TransformerEncoderLayer: [L, N, dim] or [L, dim] -> the same. norm1(x + self_attn(x)), then norm2(x + linear2(
 * activation(linear1(x)))), with dropout behind each part. Parameters self_attn.*, linear1.*, linear2.*, norm1.*, norm2.*. */
FDL_API fdl_module *fdl_nn_transformer_encoder_layer_opt(int64_t dim, int64_t heads,
                                                         const fdl_nn_transformer_encoder_layer_opts *opts);

typedef struct fdl_nn_transformer_encoder_opts {
    int opts_;
    fdl_module *norm; /* behind the last layer; taken over */
} fdl_nn_transformer_encoder_opts;
/* nn.TransformerEncoder: n layers, one behind the other: `layer` (a transformer_encoder_layer, taken over) and its copies,
 * which begin with its values. Parameters layers.0.*, layers.1.*, ..., norm.*. */
FDL_API fdl_module *fdl_nn_transformer_encoder_opt(fdl_module *layer, int64_t n,
                                                   const fdl_nn_transformer_encoder_opts *opts);

typedef struct fdl_nn_transformer_forward_opts {
    int opts_;
    fdl_tensor *attn_mask, *key_padding_mask; /* as fdl_nn_mha_forward's */
    bool causal;
} fdl_nn_transformer_forward_opts;
/* An encoder or one of its layers with masks, [L, N, dim] -> the same (scope). fdl_forward(m, x, attn_mask,
 * key_padding_mask) and inputs of these names in a flow do the same. */
FDL_API fdl_tensor *fdl_nn_transformer_forward_opt(fdl_module *m, fdl_tensor *x,
                                                   const fdl_nn_transformer_forward_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_multihead_attention(dim, ...) fdl_nn_multihead_attention_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_multihead_attention_(dim, heads, ...) \
    fdl_nn_multihead_attention_opt(dim, heads, &(fdl_nn_multihead_attention_opts){__VA_ARGS__})
#define fdl_nn_mha_forward(m, q, k, ...) fdl_nn_mha_forward_(m, q, k, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_mha_forward_(m, q, k, v, ...) \
    fdl_nn_mha_forward_opt(m, q, k, v, &(fdl_nn_mha_forward_opts){__VA_ARGS__})
#define fdl_nn_transformer_encoder_layer(dim, ...) \
    fdl_nn_transformer_encoder_layer_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_encoder_layer_(dim, heads, ...) \
    fdl_nn_transformer_encoder_layer_opt(dim, heads, &(fdl_nn_transformer_encoder_layer_opts){__VA_ARGS__})
/* The layer before the norm. opts_ notes whether an error was pending then: so a norm whose constructor failed
 * is told from one that was left out. */
#define fdl_nn_transformer_encoder(layer, ...) fdl_nn_transformer_encoder_(layer, __VA_ARGS__, )
#define fdl_nn_transformer_encoder_(layer, n, ...) \
    FDL_NN_ENCODER_(FDL_CAT(fdl_m_, __COUNTER__), layer, n, __VA_ARGS__)
#define FDL_NN_ENCODER_(v, layer, n, ...)                                                                  \
    __extension__({                                                                                        \
        fdl_module *v = (layer);                                                                           \
        fdl_nn_transformer_encoder_opt(                                                                    \
            v, n, &(fdl_nn_transformer_encoder_opts){.opts_ = 1 + (int)fdl_error_pending(), __VA_ARGS__}); \
    })
#define fdl_nn_transformer_forward(m, ...) fdl_nn_transformer_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_forward_(m, x, ...) \
    fdl_nn_transformer_forward_opt(m, x, &(fdl_nn_transformer_forward_opts){__VA_ARGS__})
#endif

#endif
