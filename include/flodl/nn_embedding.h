/* Embeddings: rows of a table by their numbers. torch.nn.Embedding, EmbeddingBag. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_EMBEDDING_H
#define FLODL_NN_EMBEDDING_H

#include "flodl/embedding.h"
#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- embedding ---------------------------------------------------------------------------------- */

typedef struct fdl_nn_embedding_opts {
    fdl_by_name opts_;
    fdl_opt_i64 padding_idx; /* this row starts zero and gets no gradient; negative counts from the end */
    double max_norm;         /* rows that are used are scaled down to it, in place; default: not */
    double norm_type; /* of max_norm, default 2; CUDA's kernel adds signed powers: even ones, or 1, there */
    bool scale_grad_by_freq; /* gradients divided by the row's count in the batch */
    bool sparse;             /* sparse gradients */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_embedding_opts;
/* nn.Embedding: int64 or int32 indices [*] -> [*, dim]; floats: FDL_E_DTYPE. Parameter weight [num, dim],
 * N(0, 1). */
FDL_API fdl_module *fdl_nn_embedding_opt(int64_t num, int64_t dim, const fdl_nn_embedding_opts *opts);

typedef struct fdl_nn_embedding_bag_opts {
    fdl_by_name opts_;
    fdl_bag_mode mode;        /* default FDL_BAG_MEAN; FDL_BAG_SUM, FDL_BAG_MAX */
    fdl_opt_i64 padding_idx;  /* an index that doesn't count; its row starts zero and gets no gradient */
    bool include_last_offset; /* offsets end with the number of indices */
    double max_norm;          /* rows that are used are scaled down to it, in place; default: not */
    double norm_type;         /* of max_norm, default 2; as in fdl_nn_embedding */
    bool
        scale_grad_by_freq; /* gradients divided by the row's count in the batch; not with FDL_BAG_MAX. On the CPU libtorch, and
                               * so PyTorch, takes other rows' counts for some */
    bool sparse; /* sparse gradients; not with FDL_BAG_MAX */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_embedding_bag_opts;
/* nn.EmbeddingBag: the mean, sum or maximum of an embedding's rows over each bag, without the rows in between. int64 or int32
 * indices [B, L], each row a bag -> [B, dim]; [S] with offsets [B], where each bag begins -> [B, dim]. An empty bag: zeros.
 * Parameter weight [num, dim], N(0, 1). fdl_forward(m, indices), (m, indices, offsets), (m, indices, offsets, weights); in a
 * flow the further inputs come by fdl_flow_using, refs named "offsets" and "weights" as these, others in this order. */
FDL_API fdl_module *fdl_nn_embedding_bag_opt(int64_t num, int64_t dim, const fdl_nn_embedding_bag_opts *opts);

typedef struct fdl_nn_embedding_bag_forward_opts {
    fdl_by_name opts_;
    fdl_tensor *weights; /* a factor for each index, of indices' shape; FDL_BAG_SUM only (FDL_E_ARG) */
} fdl_nn_embedding_bag_forward_opts;
/* The same; offsets NULL: indices are [B, L] (scope). [S] without offsets, or offsets beside [B, L]: FDL_E_ARG; m no
 * embedding_bag: FDL_E_ARG; offsets that don't begin with 0, fall, or go past the indices (looked at on the CPU): FDL_E_ARG. */
FDL_API fdl_tensor *fdl_nn_embedding_bag_forward_opt(fdl_module *m, fdl_tensor *indices, fdl_tensor *offsets,
                                                     const fdl_nn_embedding_bag_forward_opts *opts);

typedef struct fdl_nn_position_embedding_opts {
    fdl_by_name opts_;
    bool batch_first; /* [N, L, dim] instead of [L, N, dim] */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_position_embedding_opts;
/* Learned positions: [L, N, dim] or [L, dim] -> the same, x plus row i of the weight at position i. L above max: FDL_E_SHAPE.
 * With a cache (kv_cache.h) it goes on behind the positions that it has seen. Parameter weight [max, dim], N(0, 1). What models
 * for PyTorch write as x + nn.Embedding(max, dim)(arange(L)). */
FDL_API fdl_module *fdl_nn_position_embedding_opt(int64_t max, int64_t dim,
                                                  const fdl_nn_position_embedding_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_embedding(num, ...) fdl_nn_embedding_(num, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_embedding_(num, dim, ...) fdl_nn_embedding_opt(num, dim, &(fdl_nn_embedding_opts){__VA_ARGS__})
#define fdl_nn_embedding_bag(num, ...) fdl_nn_embedding_bag_(num, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_embedding_bag_(num, dim, ...) \
    fdl_nn_embedding_bag_opt(num, dim, &(fdl_nn_embedding_bag_opts){__VA_ARGS__})
#define fdl_nn_embedding_bag_forward(m, indices, ...) \
    fdl_nn_embedding_bag_forward_(m, indices, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_embedding_bag_forward_(m, indices, offsets, ...) \
    fdl_nn_embedding_bag_forward_opt(m, indices, offsets, &(fdl_nn_embedding_bag_forward_opts){__VA_ARGS__})

#define fdl_nn_position_embedding(max, ...) fdl_nn_position_embedding_(max, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_position_embedding_(max, dim, ...) \
    fdl_nn_position_embedding_opt(max, dim, &(fdl_nn_position_embedding_opts){__VA_ARGS__})
#endif

#endif
