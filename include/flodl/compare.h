/* Comparison and logic: bool results (bitwise: integers) of the shape of the operands, which broadcast. Not differentiable. */
#ifndef FLODL_COMPARE_H
#define FLODL_COMPARE_H

#include "flodl/arithmetic.h"

FDL_BEGIN_DECLS

/* fdl_eq(a, b), fdl_ne, fdl_lt, fdl_le, fdl_gt, fdl_ge take a tensor or a number for b. NaN compares false, except with ne. */
FDL_API fdl_tensor *fdl_eq_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_eq_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_ne_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_ne_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_lt_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_lt_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_le_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_le_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_gt_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_gt_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_ge_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_ge_scalar(fdl_tensor *x, double s);

/* torch.isnan, isinf, isfinite: for each element, -> bool of the shape of x. */
FDL_API fdl_tensor *fdl_isnan(fdl_tensor *x);
FDL_API fdl_tensor *fdl_isinf(fdl_tensor *x);
FDL_API fdl_tensor *fdl_isfinite(fdl_tensor *x);
/* torch.isposinf, isneginf; torch.signbit: whether the sign is negative, of -0.0 too. */
FDL_API fdl_tensor *fdl_isposinf(fdl_tensor *x);
FDL_API fdl_tensor *fdl_isneginf(fdl_tensor *x);
FDL_API fdl_tensor *fdl_signbit(fdl_tensor *x);
typedef struct fdl_isclose_opts {
    fdl_by_name opts_;
    double rtol; /* default 1e-5 */
    double atol; /* default 1e-8 */
    bool equal_nan;
} fdl_isclose_opts;
/* torch.isclose: |a - b| <= atol + rtol * |b|. */
FDL_API fdl_tensor *fdl_isclose_opt(fdl_tensor *a, fdl_tensor *b, const fdl_isclose_opts *opts);

/* torch.logical_and and so on: non-zero is true. */
FDL_API fdl_tensor *fdl_logical_and(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_logical_or(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_logical_xor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_logical_not(fdl_tensor *x);
/* torch.bitwise_and and so on, of integers (whose dtype they keep) and bools. */
FDL_API fdl_tensor *fdl_bitwise_and(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_bitwise_or(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_bitwise_xor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_bitwise_not(fdl_tensor *x);
/* torch.bitwise_left_shift, torch.bitwise_right_shift, of integers. */
FDL_API fdl_tensor *fdl_bitwise_left_shift(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_bitwise_right_shift(fdl_tensor *a, fdl_tensor *b);
/* torch.isin: whether each element of x is among those of set. */
FDL_API fdl_tensor *fdl_isin(fdl_tensor *x, fdl_tensor *set);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_eq(a, b) FDL_EITHER_(fdl_eq, a, b)
#define fdl_ne(a, b) FDL_EITHER_(fdl_ne, a, b)
#define fdl_lt(a, b) FDL_EITHER_(fdl_lt, a, b)
#define fdl_le(a, b) FDL_EITHER_(fdl_le, a, b)
#define fdl_gt(a, b) FDL_EITHER_(fdl_gt, a, b)
#define fdl_ge(a, b) FDL_EITHER_(fdl_ge, a, b)
#define fdl_isclose(a, ...) fdl_isclose_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_isclose_(a, b, ...) fdl_isclose_opt(a, b, &(fdl_isclose_opts){__VA_ARGS__})
#endif

#endif
