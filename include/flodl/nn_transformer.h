/* Transformers: layers of attention and two linear maps, stacks of them, and both stacks together. torch.nn.TransformerEncoder,
 * TransformerDecoder, Transformer. nn.h says what holds for all constructors; masks are those of fdl_nn_mha_forward. */
#ifndef FLODL_NN_TRANSFORMER_H
#define FLODL_NN_TRANSFORMER_H

#include "flodl/nn_attention.h"

FDL_BEGIN_DECLS

/* ---- encoder ------------------------------------------------------------------------------------- */

typedef struct fdl_nn_transformer_encoder_layer_opts {
    fdl_by_name opts_;
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
    int opts_;        /* whether an error was pending before the options were made */
    fdl_module *norm; /* behind the last layer; taken over */
} fdl_nn_transformer_encoder_opts;
/* nn.TransformerEncoder: n layers, one behind the other: `layer` (a transformer_encoder_layer, taken over) and its copies,
 * which begin with its values. Parameters layers.0.*, layers.1.*, ..., norm.*. */
FDL_API fdl_module *fdl_nn_transformer_encoder_opt(fdl_module *layer, int64_t n,
                                                   const fdl_nn_transformer_encoder_opts *opts);

typedef struct fdl_nn_transformer_encoder_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *attn_mask, *key_padding_mask; /* as fdl_nn_mha_forward's */
    bool causal;
} fdl_nn_transformer_encoder_forward_opts;
/* An encoder or one of its layers with masks, [L, N, dim] -> the same (scope). fdl_forward(m, x, attn_mask,
 * key_padding_mask) and inputs of these names in a flow do the same. */
FDL_API fdl_tensor *fdl_nn_transformer_encoder_forward_opt(
    fdl_module *m, fdl_tensor *x, const fdl_nn_transformer_encoder_forward_opts *opts);

/* ---- decoder ------------------------------------------------------------------------------------- */

typedef struct fdl_nn_transformer_decoder_layer_opts {
    fdl_by_name opts_;
    int64_t ff;                               /* features between the two linear maps, default 2048 */
    double dropout;                           /* default 0.1 */
    fdl_tensor *(*activation)(fdl_tensor *x); /* default fdl_relu; fdl_gelu or a function of your own */
    bool norm_first;                          /* norms before attentions and linear maps instead of behind */
    bool batch_first;                         /* [N, L, dim] instead of [L, N, dim] */
    bool causal;                              /* of the target's attention to itself */
    double eps;                               /* of the norms, default 1e-5 */
    bool no_bias;                             /* of all parts */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_transformer_decoder_layer_opts;
/* nn.TransformerDecoderLayer: target [L, N, dim] and memory [S, N, dim], or both without N -> [L, N, dim]. norm1(x + self_attn(x)),
 * norm2(x + multihead_attn(x, memory)), norm3(x + linear2(activation(linear1(x)))), with dropout behind each part. Parameters
 * self_attn.*, multihead_attn.*, linear1.*, linear2.*, norm1.*, norm2.*, norm3.*. */
FDL_API fdl_module *fdl_nn_transformer_decoder_layer_opt(int64_t dim, int64_t heads,
                                                         const fdl_nn_transformer_decoder_layer_opts *opts);

typedef struct fdl_nn_transformer_decoder_opts {
    int opts_;        /* whether an error was pending before the options were made */
    fdl_module *norm; /* behind the last layer; taken over */
} fdl_nn_transformer_decoder_opts;
/* nn.TransformerDecoder: n layers, one behind the other, each with the memory: `layer` (a transformer_decoder_layer, taken over) and
 * its copies, which begin with its values. Parameters layers.0.*, layers.1.*, ..., norm.*. */
FDL_API fdl_module *fdl_nn_transformer_decoder_opt(fdl_module *layer, int64_t n,
                                                   const fdl_nn_transformer_decoder_opts *opts);

typedef struct fdl_nn_transformer_decoder_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *tgt_mask;                /* of the target to itself, [L, L] */
    fdl_tensor *memory_mask;             /* of the target to the memory, [L, S] */
    fdl_tensor *tgt_key_padding_mask;    /* [N, L] */
    fdl_tensor *memory_key_padding_mask; /* [N, S] */
    bool tgt_causal,
        memory_causal; /* position i sees positions 0 to i only; no mask needs to be given with it */
} fdl_nn_transformer_decoder_forward_opts;
/* A decoder or one of its layers with masks, target [L, N, dim] and memory [S, N, dim] -> [L, N, dim] (scope).
 * fdl_forward(m, target, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask) and inputs of these names in
 * a flow do the same. */
FDL_API fdl_tensor *fdl_nn_transformer_decoder_forward_opt(
    fdl_module *m, fdl_tensor *target, fdl_tensor *memory,
    const fdl_nn_transformer_decoder_forward_opts *opts);

/* ---- both ---------------------------------------------------------------------------------------- */

typedef struct fdl_nn_transformer_opts {
    int opts_;                                /* whether an error was pending before the options were made */
    int64_t encoder_layers, decoder_layers;   /* default 6 and 6 */
    int64_t ff;                               /* features between the two linear maps, default 2048 */
    double dropout;                           /* default 0.1 */
    fdl_tensor *(*activation)(fdl_tensor *x); /* default fdl_relu; fdl_gelu or a function of your own */
    fdl_module *encoder, *decoder;            /* instead of the layers; taken over */
    bool norm_first;                          /* norms before attentions and linear maps instead of behind */
    bool batch_first;                         /* [N, L, dim] instead of [L, N, dim] */
    bool causal;                              /* of the target's attention to itself; not with .decoder */
    double eps;                               /* of the norms, default 1e-5 */
    bool no_bias;                             /* of all parts */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_transformer_opts;
/* nn.Transformer: source [S, N, dim] and target [L, N, dim], or both without N -> [L, N, dim]: a transformer_encoder of the source,
 * whose result is the memory of a transformer_decoder of the target, each with a norm behind. Parameters encoder.*, decoder.*; every
 * one of 2 dims or more is drawn Xavier uniform, those of .encoder and .decoder too. fdl_forward(m, source, target). A custom encoder
 * is any module of one sequence, a custom decoder of two, target and memory; masks are handed to a transformer_encoder and a
 * transformer_decoder only (otherwise FDL_E_ARG). */
FDL_API fdl_module *fdl_nn_transformer_opt(int64_t dim, int64_t heads, const fdl_nn_transformer_opts *opts);

typedef struct fdl_nn_transformer_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *src_mask, *tgt_mask, *memory_mask; /* [S, S], [L, L], [L, S] */
    fdl_tensor *src_key_padding_mask, *tgt_key_padding_mask,
        *memory_key_padding_mask; /* [N, S], [N, L], [N, S] */
    bool src_causal, tgt_causal, memory_causal;
} fdl_nn_transformer_forward_opts;
/* A transformer with masks, source [S, N, dim] and target [L, N, dim] -> [L, N, dim] (scope). Inputs of these names in a flow do
 * the same. To generate, run its parts: the encoder once, the decoder for each token (kv_cache.h); fdl_nn_transformer_encoder_of and
 * _decoder_of give them. */
FDL_API fdl_tensor *fdl_nn_transformer_forward_opt(fdl_module *m, fdl_tensor *source, fdl_tensor *target,
                                                   const fdl_nn_transformer_forward_opts *opts);
/* The two parts of a transformer, borrowed. m not a transformer: NULL and FDL_E_ARG. */
FDL_API fdl_module *fdl_nn_transformer_encoder_of(fdl_module *m);
FDL_API fdl_module *fdl_nn_transformer_decoder_of(fdl_module *m);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_transformer_encoder_layer(dim, ...) \
    fdl_nn_transformer_encoder_layer_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_encoder_layer_(dim, heads, ...) \
    fdl_nn_transformer_encoder_layer_opt(dim, heads, &(fdl_nn_transformer_encoder_layer_opts){__VA_ARGS__})
#define fdl_nn_transformer_encoder_forward(m, ...) \
    fdl_nn_transformer_encoder_forward_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_encoder_forward_(m, x, ...) \
    fdl_nn_transformer_encoder_forward_opt(m, x, &(fdl_nn_transformer_encoder_forward_opts){__VA_ARGS__})
#define fdl_nn_transformer_decoder_layer(dim, ...) \
    fdl_nn_transformer_decoder_layer_(dim, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_decoder_layer_(dim, heads, ...) \
    fdl_nn_transformer_decoder_layer_opt(dim, heads, &(fdl_nn_transformer_decoder_layer_opts){__VA_ARGS__})
#define fdl_nn_transformer_decoder_forward(m, target, ...) \
    fdl_nn_transformer_decoder_forward_(m, target, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_decoder_forward_(m, target, memory, ...) \
    fdl_nn_transformer_decoder_forward_opt(m, target, memory,       \
                                           &(fdl_nn_transformer_decoder_forward_opts){__VA_ARGS__})
#define fdl_nn_transformer_forward(m, source, ...) \
    fdl_nn_transformer_forward_(m, source, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_transformer_forward_(m, source, target, ...) \
    fdl_nn_transformer_forward_opt(m, source, target, &(fdl_nn_transformer_forward_opts){__VA_ARGS__})
/* A module among the options whose constructor failed is told from one that was left out by opts_: it notes whether an error was
 * pending before the options were made. */
#define fdl_nn_transformer(dim, ...) fdl_nn_transformer_(dim, __VA_ARGS__, )
#define fdl_nn_transformer_(dim, heads, ...) \
    fdl_nn_transformer_opt(dim, heads,       \
                           &(fdl_nn_transformer_opts){.opts_ = 1 + (int)fdl_error_pending(), __VA_ARGS__})
/* The layer before the norm. */
#define fdl_nn_transformer_encoder(layer, ...) fdl_nn_transformer_encoder_(layer, __VA_ARGS__, )
#define fdl_nn_transformer_encoder_(layer, n, ...) \
    FDL_NN_STACK_(encoder, FDL_CAT(fdl_m_, __COUNTER__), layer, n, __VA_ARGS__)
#define fdl_nn_transformer_decoder(layer, ...) fdl_nn_transformer_decoder_(layer, __VA_ARGS__, )
#define fdl_nn_transformer_decoder_(layer, n, ...) \
    FDL_NN_STACK_(decoder, FDL_CAT(fdl_m_, __COUNTER__), layer, n, __VA_ARGS__)
#define FDL_NN_STACK_(kind, v, layer, n, ...)                                                               \
    __extension__({                                                                                         \
        fdl_module *v = (layer);                                                                            \
        fdl_nn_transformer_##kind##_opt(                                                                    \
            v, n, &(fdl_nn_transformer_##kind##_opts){.opts_ = 1 + (int)fdl_error_pending(), __VA_ARGS__}); \
    })
#endif

#endif
