/* Embeddings: rows of a table by their numbers. torch.nn.Embedding. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_EMBEDDING_H
#define FLODL_NN_EMBEDDING_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- embedding ---------------------------------------------------------------------------------- */

typedef struct fdl_nn_embedding_opts {
    int opts_;
    fdl_opt_i64 padding_idx; /* this row starts zero and gets no gradient; negative counts from the end */
    double max_norm;         /* rows that are used are scaled down to it, in place; default: not */
    double norm_type;        /* of max_norm, default 2 */
    bool scale_grad_by_freq; /* gradients divided by the row's count in the batch */
    bool sparse;             /* sparse gradients */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_embedding_opts;
/* nn.Embedding: int64 or int32 indices [*] -> [*, dim]; floats: FDL_E_DTYPE. Parameter weight [num, dim],
 * N(0, 1). */
FDL_API fdl_module *fdl_nn_embedding_opt(int64_t num, int64_t dim, const fdl_nn_embedding_opts *opts);

typedef struct fdl_nn_position_embedding_opts {
    int opts_;
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
#define fdl_nn_position_embedding(max, ...) fdl_nn_position_embedding_(max, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_position_embedding_(max, dim, ...) \
    fdl_nn_position_embedding_opt(max, dim, &(fdl_nn_position_embedding_opts){__VA_ARGS__})
#endif

#endif
