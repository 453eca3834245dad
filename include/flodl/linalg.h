/* Products of matrices, decompositions, solving. Differentiable unless said. */
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

/* torch.inner: the last dims contracted, [*a, n], [*b, n] -> [*a, *b]. */
FDL_API fdl_tensor *fdl_inner(fdl_tensor *a, fdl_tensor *b);

typedef struct fdl_addmm_opts {
    fdl_by_name opts_;
    double beta;  /* default 1; FDL_ZERO ignores x, NaN and all */
    double alpha; /* default 1 */
} fdl_addmm_opts;
/* torch.addmm: beta * x + alpha * (a b), x broadcasts to [m, n]. torch.baddbmm: the same of batches [B, m, n]. */
FDL_API fdl_tensor *fdl_addmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);
FDL_API fdl_tensor *fdl_baddbmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);
/* torch.addbmm: the batch's products summed, x broadcasts to [m, n]. torch.addmv: a [m, n], v [n]. torch.addr: a [m], b [n],
 * the outer product -> [m, n]. All beta * x + alpha * product. */
FDL_API fdl_tensor *fdl_addbmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);
FDL_API fdl_tensor *fdl_addmv_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *v, const fdl_addmm_opts *opts);
FDL_API fdl_tensor *fdl_addr_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts);

typedef struct fdl_linear_opts {
    fdl_by_name opts_;
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
    fdl_by_name opts_;
    double p; /* default 2 */
} fdl_cdist_opts;
/* torch.cdist: distances of rows, a [B, P, D], b [B, R, D] -> [B, P, R]. The gradient at coincident points is 0. */
FDL_API fdl_tensor *fdl_cdist_opt(fdl_tensor *a, fdl_tensor *b, const fdl_cdist_opts *opts);
/* F.pdist: the distances of each two rows of x [n, D] -> [n (n - 1) / 2]. */
FDL_API fdl_tensor *fdl_pdist_opt(fdl_tensor *x, const fdl_cdist_opts *opts);
/* torch.linalg.cross: of vectors of 3 along dim, [*, 3]; a and b broadcast. */
FDL_API fdl_tensor *fdl_cross(fdl_tensor *a, fdl_tensor *b, int dim);
/* torch.linalg.matrix_power: [*, n, n], k may be negative. torch.linalg.matrix_exp. torch.linalg.multi_dot: the product of
 * matrices in the cheapest order. */
FDL_API fdl_tensor *fdl_matrix_power(fdl_tensor *x, int64_t k);
FDL_API fdl_tensor *fdl_matrix_exp(fdl_tensor *x);
FDL_API fdl_tensor *fdl_linalg_multi_dot(fdl_list list);
/* torch.linalg.householder_product: the first n columns of the product of the reflections that the columns of x [*, m, n], n <=
 * m, stand for, with factors tau [*, k], k <= n: [*, m, n]. float32 and float64. */
FDL_API fdl_tensor *fdl_linalg_householder_product(fdl_tensor *x, fdl_tensor *tau);
/* torch.norm_except_dim: the p-norm over all dims of x but one, which are kept: [1, ..., n, ..., 1]. dim -1: over all, 0-d. */
FDL_API fdl_tensor *fdl_norm_except_dim(fdl_tensor *x, int64_t p, int dim);

/* ---- solving: torch.linalg ------------------------------------------------------------------------
 * Matrices are [*, m, n], the leading dims a batch; float32 and float64. A singular matrix: FDL_E_ARG. On CUDA it needs a
 * libtorch with a solver, otherwise FDL_E_UNSUPPORTED. */

/* torch.linalg.det: [*, n, n] -> [*]. slogdet: {sign, log of the absolute value}, each [*]. */
FDL_API fdl_tensor *fdl_linalg_det(fdl_tensor *x);
FDL_API fdl_list fdl_linalg_slogdet(fdl_tensor *x);
/* torch.linalg.inv (torch.inverse): [*, n, n] -> [*, n, n]. */
FDL_API fdl_tensor *fdl_linalg_inv(fdl_tensor *x);
/* torch.linalg.solve: y with a y = b; a [*, n, n], b [*, n] or [*, n, k]. */
FDL_API fdl_tensor *fdl_linalg_solve(fdl_tensor *a, fdl_tensor *b);
typedef struct fdl_triangular_opts {
    fdl_by_name opts_;
    bool upper;         /* a's upper triangle counts; default: the lower one */
    bool unitriangular; /* a's diagonal counts as ones */
} fdl_triangular_opts;
/* torch.linalg.solve_triangular: the same of a triangular a, b [*, n, k]. */
FDL_API fdl_tensor *fdl_linalg_solve_triangular_opt(fdl_tensor *a, fdl_tensor *b,
                                                    const fdl_triangular_opts *opts);
typedef struct fdl_lstsq_opts {
    fdl_by_name opts_;
    double rcond; /* singular values below rcond * the largest count as 0; default: epsilon * max(m, n) */
} fdl_lstsq_opts;
/* torch.linalg.lstsq: y with the smallest |a y - b|; a [*, m, n], b [*, m, k] -> {solution [*, n, k], residuals, rank,
 * singular values}; the last three are empty where the device's driver doesn't compute them. */
FDL_API fdl_list fdl_linalg_lstsq_opt(fdl_tensor *a, fdl_tensor *b, const fdl_lstsq_opts *opts);
typedef struct fdl_pinv_opts {
    fdl_by_name opts_;
    double
        rtol; /* singular values below max(atol, rtol * the largest) count as 0; default epsilon * max(m, n) */
    double atol;    /* default 0 */
    bool hermitian; /* x is symmetric: by its eigenvalues */
} fdl_pinv_opts;
/* torch.linalg.pinv: [*, m, n] -> [*, n, m]. torch.linalg.matrix_rank -> int64 [*]; not differentiable. */
FDL_API fdl_tensor *fdl_linalg_pinv_opt(fdl_tensor *x, const fdl_pinv_opts *opts);
FDL_API fdl_tensor *fdl_linalg_matrix_rank_opt(fdl_tensor *x, const fdl_pinv_opts *opts);

/* ---- decompositions: torch.linalg ------------------------------------------------------------------ */

typedef struct fdl_cholesky_opts {
    fdl_by_name opts_;
    bool upper; /* U with x = U^T U; default L with x = L L^T */
} fdl_cholesky_opts;
/* torch.linalg.cholesky: of a symmetric positive-definite [*, n, n], of which one triangle is read. Not positive-definite:
 * FDL_E_ARG. */
FDL_API fdl_tensor *fdl_linalg_cholesky_opt(fdl_tensor *x, const fdl_cholesky_opts *opts);
typedef struct fdl_qr_opts {
    fdl_by_name opts_;
    bool complete; /* Q [*, m, m], R [*, m, n]; default Q [*, m, k], R [*, k, n], k = min(m, n) */
} fdl_qr_opts;
/* torch.linalg.qr: x [*, m, n] -> {Q, R}, x = Q R. */
FDL_API fdl_list fdl_linalg_qr_opt(fdl_tensor *x, const fdl_qr_opts *opts);
typedef struct fdl_svd_opts {
    fdl_by_name opts_;
    bool
        reduced; /* U [*, m, k], Vh [*, k, n], k = min(m, n) (full_matrices=False); default U [*, m, m], Vh [*, n, n] */
} fdl_svd_opts;
/* torch.linalg.svd: {U, S [*, k], Vh}, x = U diag(S) Vh, S descending. svdvals: S alone. The gradient through U and Vh is
 * that of what doesn't depend on their signs. */
FDL_API fdl_list fdl_linalg_svd_opt(fdl_tensor *x, const fdl_svd_opts *opts);
FDL_API fdl_tensor *fdl_linalg_svdvals(fdl_tensor *x);
typedef struct fdl_eigh_opts {
    fdl_by_name opts_;
    bool upper; /* the upper triangle is read; default: the lower one */
} fdl_eigh_opts;
/* torch.linalg.eigh: of a symmetric [*, n, n] {eigenvalues [*, n] ascending, eigenvectors as columns [*, n, n]}. eigvalsh: the
 * eigenvalues alone. */
FDL_API fdl_list fdl_linalg_eigh_opt(fdl_tensor *x, const fdl_eigh_opts *opts);
FDL_API fdl_tensor *fdl_linalg_eigvalsh_opt(fdl_tensor *x, const fdl_eigh_opts *opts);
/* torch.linalg.eig of any [*, n, n], whose eigenvalues and eigenvectors are complex numbers, for which there is no dtype: {real
 * parts [*, n], imaginary parts [*, n], real parts of the eigenvectors as columns [*, n, n], imaginary parts}. Eigenvalues are in
 * no order, vectors of length 1; the gradient through them is that of what doesn't depend on their phases. eigvals: {real parts,
 * imaginary parts} of the eigenvalues alone. */
FDL_API fdl_list fdl_linalg_eig(fdl_tensor *x);
FDL_API fdl_list fdl_linalg_eigvals(fdl_tensor *x);

/* ---- norms: torch.linalg ------------------------------------------------------------------------------ */

typedef struct fdl_vector_norm_opts {
    fdl_by_name opts_;
    bool keepdim;
} fdl_vector_norm_opts;
/* torch.linalg.vector_norm: the p-norm over dims, which it removes (none: all -> []); p as in fdl_norm_dim. */
FDL_API fdl_tensor *fdl_linalg_vector_norm_opt(fdl_tensor *x, double p, fdl_shape dims,
                                               const fdl_vector_norm_opts *opts);
typedef struct fdl_matrix_norm_opts {
    fdl_by_name opts_;
    /* default: Frobenius. 2, -2: the largest, smallest singular value; 1, -1: the largest, smallest sum of absolute values of a
     * column; INFINITY, -INFINITY: of a row */
    double p;
    bool nuclear; /* the sum of the singular values */
    bool keepdim;
} fdl_matrix_norm_opts;
/* torch.linalg.matrix_norm: over the last two dims, [*, m, n] -> [*]. .p and .nuclear, or another p: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_linalg_matrix_norm_opt(fdl_tensor *x, const fdl_matrix_norm_opts *opts);

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
#define fdl_addbmm(x, a, ...) fdl_addbmm_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addbmm_(x, a, b, ...) fdl_addbmm_opt(x, a, b, &(fdl_addmm_opts){__VA_ARGS__})
#define fdl_addmv(x, a, ...) fdl_addmv_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addmv_(x, a, b, ...) fdl_addmv_opt(x, a, b, &(fdl_addmm_opts){__VA_ARGS__})
#define fdl_addr(x, a, ...) fdl_addr_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addr_(x, a, b, ...) fdl_addr_opt(x, a, b, &(fdl_addmm_opts){__VA_ARGS__})
#define fdl_pdist(...) fdl_pdist_(__VA_ARGS__, .opts_ = 0)
#define fdl_pdist_(x, ...) fdl_pdist_opt(x, &(fdl_cdist_opts){__VA_ARGS__})
#define fdl_linalg_pinv(...) fdl_linalg_pinv_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_pinv_(x, ...) fdl_linalg_pinv_opt(x, &(fdl_pinv_opts){__VA_ARGS__})
#define fdl_linalg_matrix_rank(...) fdl_linalg_matrix_rank_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_matrix_rank_(x, ...) fdl_linalg_matrix_rank_opt(x, &(fdl_pinv_opts){__VA_ARGS__})
#define fdl_linalg_cholesky(...) fdl_linalg_cholesky_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_cholesky_(x, ...) fdl_linalg_cholesky_opt(x, &(fdl_cholesky_opts){__VA_ARGS__})
#define fdl_linalg_qr(...) fdl_linalg_qr_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_qr_(x, ...) fdl_linalg_qr_opt(x, &(fdl_qr_opts){__VA_ARGS__})
#define fdl_linalg_svd(...) fdl_linalg_svd_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_svd_(x, ...) fdl_linalg_svd_opt(x, &(fdl_svd_opts){__VA_ARGS__})
#define fdl_linalg_eigh(...) fdl_linalg_eigh_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_eigh_(x, ...) fdl_linalg_eigh_opt(x, &(fdl_eigh_opts){__VA_ARGS__})
#define fdl_linalg_eigvalsh(...) fdl_linalg_eigvalsh_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_eigvalsh_(x, ...) fdl_linalg_eigvalsh_opt(x, &(fdl_eigh_opts){__VA_ARGS__})
#define fdl_linalg_matrix_norm(...) fdl_linalg_matrix_norm_(__VA_ARGS__, .opts_ = 0)
#define fdl_linalg_matrix_norm_(x, ...) fdl_linalg_matrix_norm_opt(x, &(fdl_matrix_norm_opts){__VA_ARGS__})
#define fdl_linalg_solve_triangular(a, ...) fdl_linalg_solve_triangular_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_linalg_solve_triangular_(a, b, ...) \
    fdl_linalg_solve_triangular_opt(a, b, &(fdl_triangular_opts){__VA_ARGS__})
#define fdl_linalg_lstsq(a, ...) fdl_linalg_lstsq_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_linalg_lstsq_(a, b, ...) fdl_linalg_lstsq_opt(a, b, &(fdl_lstsq_opts){__VA_ARGS__})
#define fdl_linalg_vector_norm(x, p, ...) fdl_linalg_vector_norm_(x, p, __VA_ARGS__, .opts_ = 0)
#define fdl_linalg_vector_norm_(x, p, dims, ...) \
    fdl_linalg_vector_norm_opt(x, p, dims, &(fdl_vector_norm_opts){__VA_ARGS__})
#endif

#endif
