/* Modules of two inputs that compare them: fdl_forward(m, x1, x2), in a flow x2 by fdl_flow_using. Another number of inputs:
 * FDL_E_ARG. nn.CosineSimilarity, PairwiseDistance. nn.h says what holds for all constructors; losses are functions (loss.h). */
#ifndef FLODL_NN_DISTANCE_H
#define FLODL_NN_DISTANCE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

typedef struct fdl_nn_cosine_similarity_opts {
    fdl_by_name opts_;
    fdl_opt_i64 dim; /* along which, default 1; negative: from the end */
    double eps;      /* the least norm, above 0, default 1e-8 */
} fdl_nn_cosine_similarity_opts;
/* nn.CosineSimilarity: x1 and x2, which broadcast, -> their shape without dim. A zero vector gives 0. */
FDL_API fdl_module *fdl_nn_cosine_similarity_opt(const fdl_nn_cosine_similarity_opts *opts);

typedef struct fdl_nn_pairwise_distance_opts {
    fdl_by_name opts_;
    double p;   /* of the norm, INFINITY for the largest, default 2; FDL_ZERO counts what differs */
    double eps; /* added to each difference, default 1e-6 */
    bool keepdim;
} fdl_nn_pairwise_distance_opts;
/* nn.PairwiseDistance: [N, D], [N, D] -> [N], the norm of x1 - x2 + eps along the last dim. */
FDL_API fdl_module *fdl_nn_pairwise_distance_opt(const fdl_nn_pairwise_distance_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_cosine_similarity(...) \
    fdl_nn_cosine_similarity_opt(&(fdl_nn_cosine_similarity_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_pairwise_distance(...) \
    fdl_nn_pairwise_distance_opt(&(fdl_nn_pairwise_distance_opts){.opts_ = 0, __VA_ARGS__})
#endif

#endif
