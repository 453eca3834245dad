/* Operations that change their first operand and keep its handle. Shapes broadcast to the operand's, never beyond it.
 *
 * On a leaf that requires grad while grad mode is on: FDL_E_STATE (put FDL_NO_GRAD; before it). On a tensor whose elements
 * share memory (an expanded view): FDL_E_STATE or FDL_E_SHAPE. A tensor that backward needs and that was changed in place
 * makes the backward fail. PyTorch's Tensor methods of the same names. */
#ifndef FLODL_INPLACE_H
#define FLODL_INPLACE_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_alpha_opts {
    fdl_by_name opts_;
    double alpha; /* factor of the second operand, default 1 */
} fdl_alpha_opts;
/* x += alpha * y, x -= alpha * y. `fdl_add_(x, y, .alpha = 2)`. */
FDL_API fdl_status fdl_add_opt_(fdl_tensor *x, fdl_tensor *y, const fdl_alpha_opts *opts);
FDL_API fdl_status fdl_sub_opt_(fdl_tensor *x, fdl_tensor *y, const fdl_alpha_opts *opts);
/* x *= y, x /= y; and each of the four with a number. */
FDL_API fdl_status fdl_mul_(fdl_tensor *x, fdl_tensor *y);
FDL_API fdl_status fdl_div_(fdl_tensor *x, fdl_tensor *y);
FDL_API fdl_status fdl_add_scalar_(fdl_tensor *x, double s);
FDL_API fdl_status fdl_sub_scalar_(fdl_tensor *x, double s);
FDL_API fdl_status fdl_mul_scalar_(fdl_tensor *x, double s);
FDL_API fdl_status fdl_div_scalar_(fdl_tensor *x, double s);
/* x += value * a * b, x += value * a / b. */
typedef struct fdl_value_opts {
    fdl_by_name opts_;
    double value; /* default 1 */
} fdl_value_opts;
FDL_API fdl_status fdl_addcmul_opt_(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_value_opts *opts);
FDL_API fdl_status fdl_addcdiv_opt_(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_value_opts *opts);
/* x += w * (y - x). */
FDL_API fdl_status fdl_lerp_(fdl_tensor *x, fdl_tensor *y, double w);
/* x = max(x, y). */
FDL_API fdl_status fdl_maximum_(fdl_tensor *x, fdl_tensor *y);
/* Each element clamped to [lo, hi]. Its square root; negative; 0 where it is below 0. */
FDL_API fdl_status fdl_clamp_(fdl_tensor *x, double lo, double hi);
FDL_API fdl_status fdl_sqrt_(fdl_tensor *x);
FDL_API fdl_status fdl_neg_(fdl_tensor *x);
FDL_API fdl_status fdl_relu_(fdl_tensor *x);
/* Every element 0; every element s. */
FDL_API fdl_status fdl_zero_(fdl_tensor *x);
FDL_API fdl_status fdl_fill_(fdl_tensor *x, double s);
/* s where the mask is true. mask: bool, or anything that is true where it isn't 0; broadcasts to x. */
FDL_API fdl_status fdl_masked_fill_(fdl_tensor *x, fdl_tensor *mask, double s);
/* Rows of x along dim at positions idx [n] (int64) become those of src. */
FDL_API fdl_status fdl_index_copy_(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src);

typedef struct fdl_copy_opts {
    fdl_by_name opts_;
    bool non_blocking; /* overlaps between pinned CPU memory and CUDA only */
} fdl_copy_opts;
/* x = src, broadcast, converted and moved as needed. */
FDL_API fdl_status fdl_copy_opt_(fdl_tensor *x, fdl_tensor *src, const fdl_copy_opts *opts);
/* x gets y's storage, shape and dtype; x stays the same leaf, its gradient is not touched. Tensor.data = y. */
FDL_API fdl_status fdl_set_data_(fdl_tensor *x, fdl_tensor *y);

/* Fills x from its device's generator: N(mean, std), std >= 0; U[lo, hi), lo <= hi. Floating dtypes. */
FDL_API fdl_status fdl_normal_(fdl_tensor *x, double mean, double std);
FDL_API fdl_status fdl_uniform_(fdl_tensor *x, double lo, double hi);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_add_(x, ...) fdl_add_a_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_add_a_(x, y, ...) fdl_add_opt_(x, y, &(fdl_alpha_opts){__VA_ARGS__})
#define fdl_sub_(x, ...) fdl_sub_a_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_sub_a_(x, y, ...) fdl_sub_opt_(x, y, &(fdl_alpha_opts){__VA_ARGS__})
#define fdl_addcmul_(x, a, ...) fdl_addcmul_b_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addcmul_b_(x, a, b, ...) fdl_addcmul_opt_(x, a, b, &(fdl_value_opts){__VA_ARGS__})
#define fdl_addcdiv_(x, a, ...) fdl_addcdiv_b_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addcdiv_b_(x, a, b, ...) fdl_addcdiv_opt_(x, a, b, &(fdl_value_opts){__VA_ARGS__})
#define fdl_copy_(x, ...) fdl_copy_a_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_copy_a_(x, src, ...) fdl_copy_opt_(x, src, &(fdl_copy_opts){__VA_ARGS__})
#endif

#endif
