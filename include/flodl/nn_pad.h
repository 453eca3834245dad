/* Padding. torch.nn.ZeroPad2d, ReflectionPad2d and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_PAD_H
#define FLODL_NN_PAD_H

#include "flodl/module.h"
#include "flodl/shape.h"

FDL_BEGIN_DECLS

/* ---- padding: [N, C, ...], N may be missing ------------------------------------------------------ */

typedef struct fdl_nn_pad_opts {
    fdl_by_name opts_;
    fdl_shape
        sides; /* each side for itself, from the last dim inward: FDL_DIMS(left, right, top, bottom) in 2d; n is 0 then */
} fdl_nn_pad_opts;
/* nn.ZeroPad1d, 2d, 3d: n zeros on each side of the last 1, 2 or 3 dims, negative ones take away: each extent L + 2 n. Sides
 * of another count, or both forms: FDL_E_ARG. */
FDL_API fdl_module *fdl_nn_zero_pad1d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_zero_pad2d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_zero_pad3d_opt(int64_t n, const fdl_nn_pad_opts *opts);
/* nn.ConstantPad1d, 2d, 3d: likewise with this value. */
FDL_API fdl_module *fdl_nn_constant_pad1d_opt(int64_t n, double value, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_constant_pad2d_opt(int64_t n, double value, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_constant_pad3d_opt(int64_t n, double value, const fdl_nn_pad_opts *opts);
/* nn.ReflectionPad1d, 2d, 3d: a b c d -> c b a b c d c b for n = 2; sides of an extent or more: FDL_E_SHAPE. Here and below x
 * has channels: [C, ...] or [N, C, ...]. */
FDL_API fdl_module *fdl_nn_reflection_pad1d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_reflection_pad2d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_reflection_pad3d_opt(int64_t n, const fdl_nn_pad_opts *opts);
/* nn.ReplicationPad1d, 2d, 3d: a b c d -> a a a b c d d d. */
FDL_API fdl_module *fdl_nn_replication_pad1d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_replication_pad2d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_replication_pad3d_opt(int64_t n, const fdl_nn_pad_opts *opts);
/* nn.CircularPad1d, 2d, 3d: a b c d -> c d a b c d a b; sides of more than an extent: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_circular_pad1d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_circular_pad2d_opt(int64_t n, const fdl_nn_pad_opts *opts);
FDL_API fdl_module *fdl_nn_circular_pad3d_opt(int64_t n, const fdl_nn_pad_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define FDL_NN_PAD_OPTS_(...) (&(fdl_nn_pad_opts){__VA_ARGS__})
#define fdl_nn_zero_pad1d(...) fdl_nn_zero_pad1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_zero_pad1d_(n, ...) fdl_nn_zero_pad1d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_zero_pad2d(...) fdl_nn_zero_pad2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_zero_pad2d_(n, ...) fdl_nn_zero_pad2d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_zero_pad3d(...) fdl_nn_zero_pad3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_zero_pad3d_(n, ...) fdl_nn_zero_pad3d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_constant_pad1d(n, ...) fdl_nn_constant_pad1d_(n, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_constant_pad1d_(n, value, ...) \
    fdl_nn_constant_pad1d_opt(n, value, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_constant_pad2d(n, ...) fdl_nn_constant_pad2d_(n, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_constant_pad2d_(n, value, ...) \
    fdl_nn_constant_pad2d_opt(n, value, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_constant_pad3d(n, ...) fdl_nn_constant_pad3d_(n, __VA_ARGS__, .opts_ = 0)
#define fdl_nn_constant_pad3d_(n, value, ...) \
    fdl_nn_constant_pad3d_opt(n, value, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_reflection_pad1d(...) fdl_nn_reflection_pad1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_reflection_pad1d_(n, ...) fdl_nn_reflection_pad1d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_reflection_pad2d(...) fdl_nn_reflection_pad2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_reflection_pad2d_(n, ...) fdl_nn_reflection_pad2d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_reflection_pad3d(...) fdl_nn_reflection_pad3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_reflection_pad3d_(n, ...) fdl_nn_reflection_pad3d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_replication_pad1d(...) fdl_nn_replication_pad1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_replication_pad1d_(n, ...) fdl_nn_replication_pad1d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_replication_pad2d(...) fdl_nn_replication_pad2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_replication_pad2d_(n, ...) fdl_nn_replication_pad2d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_replication_pad3d(...) fdl_nn_replication_pad3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_replication_pad3d_(n, ...) fdl_nn_replication_pad3d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_circular_pad1d(...) fdl_nn_circular_pad1d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_circular_pad1d_(n, ...) fdl_nn_circular_pad1d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_circular_pad2d(...) fdl_nn_circular_pad2d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_circular_pad2d_(n, ...) fdl_nn_circular_pad2d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#define fdl_nn_circular_pad3d(...) fdl_nn_circular_pad3d_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_circular_pad3d_(n, ...) fdl_nn_circular_pad3d_opt(n, FDL_NN_PAD_OPTS_(__VA_ARGS__))
#endif

#endif
