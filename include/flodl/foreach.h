/* Operations on whole lists of tensors: on a GPU a few kernels whatever the number of tensors. Lists of one call have the
 * same length (FDL_E_ARG with both); tensors in them may differ in shape. An empty list is a success that does nothing.
 * torch._foreach_*. */
#ifndef FLODL_FOREACH_H
#define FLODL_FOREACH_H

#include "flodl/inplace.h"

FDL_BEGIN_DECLS

/* a[i] += alpha * b[i]. */
FDL_API fdl_status fdl_foreach_add_opt_(fdl_list a, fdl_list b, const fdl_alpha_opts *opts);
/* a[i] += s, a[i] *= s, s a number. */
FDL_API fdl_status fdl_foreach_add_scalar_(fdl_list a, double s);
FDL_API fdl_status fdl_foreach_mul_scalar_(fdl_list a, double s);
/* a[i] *= s, s a 0-d tensor on the lists' device. */
FDL_API fdl_status fdl_foreach_mul_(fdl_list a, fdl_tensor *s);
/* a[i] += s * b[i], s a 0-d tensor on the lists' device: a rate that lives there. */
FDL_API fdl_status fdl_foreach_add_scaled_(fdl_list a, fdl_list b, fdl_tensor *s);
/* a[i] *= b[i], a[i] /= b[i]. */
FDL_API fdl_status fdl_foreach_mul_list_(fdl_list a, fdl_list b);
FDL_API fdl_status fdl_foreach_div_(fdl_list a, fdl_list b);
/* a[i] = 0, its square root, its negative. */
FDL_API fdl_status fdl_foreach_zero_(fdl_list a);
FDL_API fdl_status fdl_foreach_sqrt_(fdl_list a);
FDL_API fdl_status fdl_foreach_neg_(fdl_list a);
/* a[i] += w * (b[i] - a[i]). */
FDL_API fdl_status fdl_foreach_lerp_(fdl_list a, fdl_list b, double w);
/* a[i] += value * b[i] * c[i], a[i] += value * b[i] / c[i]. */
FDL_API fdl_status fdl_foreach_addcmul_(fdl_list a, fdl_list b, fdl_list c, double value);
FDL_API fdl_status fdl_foreach_addcdiv_(fdl_list a, fdl_list b, fdl_list c, double value);
/* a[i] = max(a[i], b[i]). */
FDL_API fdl_status fdl_foreach_maximum_(fdl_list a, fdl_list b);
/* a[i] = min(a[i], s), max(a[i], s), s a number. */
FDL_API fdl_status fdl_foreach_clamp_max_(fdl_list a, double s);
FDL_API fdl_status fdl_foreach_clamp_min_(fdl_list a, double s);
/* a[i] = b[i], converted and moved as needed. */
FDL_API fdl_status fdl_foreach_copy_(fdl_list a, fdl_list b);
/* New lists, elements in order: square roots; negatives. */
FDL_API fdl_list fdl_foreach_sqrt(fdl_list a);
FDL_API fdl_list fdl_foreach_neg(fdl_list a);
/* a[i] + alpha * b[i], with alpha a number. */
FDL_API fdl_list fdl_foreach_add(fdl_list a, fdl_list b, double alpha);

typedef struct fdl_foreach_norm_opts {
    fdl_by_name opts_;
    double ord; /* default 2; INFINITY is the largest absolute value */
} fdl_foreach_norm_opts;
/* The norm of each tensor -> list of 0-d. */
FDL_API fdl_list fdl_foreach_norm_opt(fdl_list a, const fdl_foreach_norm_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_foreach_add_(a, ...) fdl_foreach_add_a_(a, __VA_ARGS__, .opts_ = 0)
#define fdl_foreach_add_a_(a, b, ...) fdl_foreach_add_opt_(a, b, &(fdl_alpha_opts){__VA_ARGS__})
#define fdl_foreach_norm(...) fdl_foreach_norm_a_(__VA_ARGS__, .opts_ = 0)
#define fdl_foreach_norm_a_(a, ...) fdl_foreach_norm_opt(a, &(fdl_foreach_norm_opts){__VA_ARGS__})
#endif

#endif
