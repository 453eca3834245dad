/* Embeddings: rows of a table by index. Differentiable in the table w [num, dim]. Indices are int64 or int32,
 * others FDL_E_DTYPE; one outside [0, num) is FDL_E_RANGE on the CPU, a device assert on CUDA. */
#ifndef FLODL_EMBEDDING_H
#define FLODL_EMBEDDING_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_embedding_opts {
    fdl_by_name opts_;
    fdl_opt_i64 padding_idx; /* FDL_SOME(i): the row that gets no gradient, in [-num, num) */
    bool scale_grad_by_freq; /* divide a row's gradient by how often it occurs */
    bool sparse;             /* a sparse gradient */
} fdl_embedding_opts;
/* F.embedding: idx of any shape -> [*idx, dim]. */
FDL_API fdl_tensor *fdl_embedding_opt(fdl_tensor *w, fdl_tensor *idx, const fdl_embedding_opts *opts);

typedef enum fdl_bag_mode { FDL_BAG_MEAN = 0, FDL_BAG_SUM, FDL_BAG_MAX } fdl_bag_mode;
typedef struct fdl_embedding_bag_opts {
    fdl_by_name opts_;
    fdl_bag_mode mode;              /* default mean */
    fdl_tensor *per_sample_weights; /* idx's shape; sum only */
    bool include_last_offset;       /* offsets ends with the number of indices */
    fdl_opt_i64 padding_idx;        /* an index that doesn't count */
    bool scale_grad_by_freq;        /* not with max */
    bool sparse;                    /* not with max */
} fdl_embedding_bag_opts;
/* F.embedding_bag: idx [n] in bags that begin at offsets [B] (0 first, never decreasing) -> [B, dim]. An
 * empty bag: zeros. */
FDL_API fdl_tensor *fdl_embedding_bag_opt(fdl_tensor *w, fdl_tensor *idx, fdl_tensor *offsets,
                                          const fdl_embedding_bag_opts *opts);

/* Scales the rows of w that idx names down to a norm of max_norm, in place, without recording: what max_norm
 * of nn.Embedding does before each lookup. norm_type: 2 is usual. */
FDL_API fdl_status fdl_embedding_renorm_(fdl_tensor *w, fdl_tensor *idx, double max_norm, double norm_type);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_embedding(w, ...) fdl_embedding_(w, __VA_ARGS__, .opts_ = 0)
#define fdl_embedding_(w, idx, ...) fdl_embedding_opt(w, idx, &(fdl_embedding_opts){__VA_ARGS__})
#define fdl_embedding_bag(w, idx, ...) fdl_embedding_bag_(w, idx, __VA_ARGS__, .opts_ = 0)
#define fdl_embedding_bag_(w, idx, offsets, ...) \
    fdl_embedding_bag_opt(w, idx, offsets, &(fdl_embedding_bag_opts){__VA_ARGS__})
#endif

#endif
