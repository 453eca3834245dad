/* Products of matrices. All are differentiable. */
#ifndef FLODL_LINALG_H
#define FLODL_LINALG_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* torch.matmul: [n]x[n] -> [], [m, k]x[k, n] -> [m, n], leading dims broadcast. Inner sizes that differ: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_matmul(fdl_tensor *a, fdl_tensor *b);
/* Of strict ranks: [m, k]x[k, n] -> [m, n]; [B, m, k]x[B, k, n] -> [B, m, n]; [m, k]x[k] -> [m]; [n]x[n] -> []. */
FDL_API fdl_tensor *fdl_mm(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_bmm(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_mv(fdl_tensor *a, fdl_tensor *x);
FDL_API fdl_tensor *fdl_dot(fdl_tensor *a, fdl_tensor *b);
/* torch.outer: [m]x[n] -> [m, n]. */
FDL_API fdl_tensor *fdl_outer(fdl_tensor *a, fdl_tensor *b);

typedef struct fdl_addmm_opts {
    int opts_;
    double beta;  /* default 1; FDL_ZERO ignores x, NaN and all */
    double alpha; /* default 1 */
} fdl_addmm_opts;
/* torch.addmm: beta * x + alpha * (a b), x broadcasts to [m, n]. torch.baddbmm: the same of batches [B, m, n]. */
FDL_API fdl_tensor *fdl_addmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);
FDL_API fdl_tensor *fdl_baddbmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);

typedef struct fdl_linear_opts {
    int opts_;
    fdl_tensor *bias; /* [out] */
} fdl_linear_opts;
/* F.linear: x [*, in], w [out, in] -> [*, out]: x w^T + bias. */
FDL_API fdl_tensor *fdl_linear_opt(fdl_tensor *x, fdl_tensor *w, const fdl_linear_opts *opts);
/* F.bilinear: x1 [*, in1], x2 [*, in2], w [out, in1, in2] -> [*, out]. */
FDL_API fdl_tensor *fdl_bilinear_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *w,
                                     const fdl_linear_opts *opts);

/* torch.einsum: fdl_einsum("bij,bjk->bik", FDL_LIST(a, b)), the shape that the letters behind -> say. */
FDL_API fdl_tensor *fdl_einsum(const char *equation, fdl_list operands);
/* torch.tensordot: contracts dims_a of a with dims_b of b, pair by pair: [i, j, k], [j, i, l] over (0, 1), (1, 0) -> [k, l]. */
FDL_API fdl_tensor *fdl_tensordot(fdl_tensor *a, fdl_tensor *b, fdl_shape dims_a, fdl_shape dims_b);
/* torch.kron: [m, n], [p, q] -> [m p, n q], b times each element of a. */
FDL_API fdl_tensor *fdl_kron(fdl_tensor *a, fdl_tensor *b);

typedef struct fdl_cdist_opts {
    int opts_;
    double p; /* default 2 */
} fdl_cdist_opts;
/* torch.cdist: distances of rows, a [B, P, D], b [B, R, D] -> [B, P, R]. The gradient at coincident points is 0. */
FDL_API fdl_tensor *fdl_cdist_opt(fdl_tensor *a, fdl_tensor *b, const fdl_cdist_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_addmm(x, a, ...) fdl_addmm_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addmm_(x, a, b, ...) fdl_addmm_opt(x, a, b, &(fdl_addmm_opts){__VA_ARGS__})
#define fdl_baddbmm(x, a, ...) fdl_baddbmm_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_baddbmm_(x, a, b, ...) fdl_baddbmm_opt(x, a, b, &(fdl_addmm_opts){__VA_ARGS__})
#define fdl_linear(x, ...) fdl_linear_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_linear_(x, w, ...) fdl_linear_opt(x, w, &(fdl_linear_opts){__VA_ARGS__})
#define fdl_bilinear(x1, x2, ...) fdl_bilinear_(x1, x2, __VA_ARGS__, .opts_ = 0)
#define fdl_bilinear_(x1, x2, w, ...) fdl_bilinear_opt(x1, x2, w, &(fdl_linear_opts){__VA_ARGS__})
#define fdl_cdist(a, ...) fdl_cdist_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_cdist_(a, b, ...) fdl_cdist_opt(a, b, &(fdl_cdist_opts){__VA_ARGS__})
#endif

#endif
