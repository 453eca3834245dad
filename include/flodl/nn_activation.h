/* Activations as modules. torch.nn.ReLU and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_ACTIVATION_H
#define FLODL_NN_ACTIVATION_H

#include "flodl/activation.h"
#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- activations: the shape of x stays; activation.h has their definitions and options ---------- */

FDL_API fdl_module *fdl_nn_relu(void);
FDL_API fdl_module *fdl_nn_sigmoid(void);
FDL_API fdl_module *fdl_nn_tanh(void);
FDL_API fdl_module *fdl_nn_silu(void);
FDL_API fdl_module *fdl_nn_mish(void);
FDL_API fdl_module *fdl_nn_selu(void);
FDL_API fdl_module *fdl_nn_hardswish(void);
FDL_API fdl_module *fdl_nn_hardsigmoid(void);
FDL_API fdl_module *fdl_nn_relu6(void);
FDL_API fdl_module *fdl_nn_logsigmoid(void);
FDL_API fdl_module *fdl_nn_softsign(void);
FDL_API fdl_module *fdl_nn_tanhshrink(void);

typedef fdl_gelu_opts fdl_nn_gelu_opts;
typedef fdl_leaky_relu_opts fdl_nn_leaky_relu_opts;
typedef fdl_elu_opts fdl_nn_elu_opts;
typedef fdl_elu_opts fdl_nn_celu_opts;
typedef fdl_softplus_opts fdl_nn_softplus_opts;
typedef fdl_hardtanh_opts fdl_nn_hardtanh_opts;
typedef fdl_shrink_opts fdl_nn_softshrink_opts;
typedef fdl_shrink_opts fdl_nn_hardshrink_opts;
/* .approximate = FDL_GELU_TANH. */
FDL_API fdl_module *fdl_nn_gelu_opt(const fdl_nn_gelu_opts *opts);
/* .negative_slope, 0.01. */
FDL_API fdl_module *fdl_nn_leaky_relu_opt(const fdl_nn_leaky_relu_opts *opts);
/* .alpha, 1; celu's is not 0. */
FDL_API fdl_module *fdl_nn_elu_opt(const fdl_nn_elu_opts *opts);
FDL_API fdl_module *fdl_nn_celu_opt(const fdl_nn_celu_opts *opts);
/* .beta, 1, not 0; .threshold, 20. */
FDL_API fdl_module *fdl_nn_softplus_opt(const fdl_nn_softplus_opts *opts);
/* .min, -1; .max, 1; min < max. */
FDL_API fdl_module *fdl_nn_hardtanh_opt(const fdl_nn_hardtanh_opts *opts);
/* .lambda, 0.5, not negative. */
FDL_API fdl_module *fdl_nn_softshrink_opt(const fdl_nn_softshrink_opts *opts);
FDL_API fdl_module *fdl_nn_hardshrink_opt(const fdl_nn_hardshrink_opts *opts);
/* x > at ? x : value. */
FDL_API fdl_module *fdl_nn_threshold(double at, double value);

typedef struct fdl_nn_rrelu_opts {
    fdl_by_name opts_;
    double lower, upper; /* of the slope: default 1/8 and 1/3; lower <= upper */
} fdl_nn_rrelu_opts;
/* nn.RReLU: a random slope for each element in training, their mean in evaluation. */
FDL_API fdl_module *fdl_nn_rrelu_opt(const fdl_nn_rrelu_opts *opts);

typedef struct fdl_nn_prelu_opts {
    fdl_by_name opts_;
    double init; /* default 0.25 */
    fdl_dtype dtype;
    fdl_device device;
} fdl_nn_prelu_opts;
/* nn.PReLU: parameter weight [n], n being 1 or the extent of dim 1 (otherwise forward fails with
 * FDL_E_SHAPE). */
FDL_API fdl_module *fdl_nn_prelu_opt(int64_t n, const fdl_nn_prelu_opts *opts);

/* nn.Softmax, nn.LogSoftmax, nn.Softmin along dim. */
FDL_API fdl_module *fdl_nn_softmax(int dim);
FDL_API fdl_module *fdl_nn_log_softmax(int dim);
FDL_API fdl_module *fdl_nn_softmin(int dim);
/* nn.Softmax2d: over the channels of [N, C, H, W] or [C, H, W]. */
FDL_API fdl_module *fdl_nn_softmax2d(void);
/* nn.GLU, and the same with silu and gelu in place of the sigmoid: halve the extent of dim. */
FDL_API fdl_module *fdl_nn_glu(int dim);
FDL_API fdl_module *fdl_nn_swiglu(int dim);
FDL_API fdl_module *fdl_nn_geglu(int dim);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_nn_gelu(...) fdl_nn_gelu_opt(&(fdl_nn_gelu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_leaky_relu(...) fdl_nn_leaky_relu_opt(&(fdl_nn_leaky_relu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_elu(...) fdl_nn_elu_opt(&(fdl_nn_elu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_celu(...) fdl_nn_celu_opt(&(fdl_nn_celu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_softplus(...) fdl_nn_softplus_opt(&(fdl_nn_softplus_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_hardtanh(...) fdl_nn_hardtanh_opt(&(fdl_nn_hardtanh_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_softshrink(...) fdl_nn_softshrink_opt(&(fdl_nn_softshrink_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_hardshrink(...) fdl_nn_hardshrink_opt(&(fdl_nn_hardshrink_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_rrelu(...) fdl_nn_rrelu_opt(&(fdl_nn_rrelu_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_nn_prelu(...) fdl_nn_prelu_(__VA_ARGS__, .opts_ = 0)
#define fdl_nn_prelu_(n, ...) fdl_nn_prelu_opt(n, &(fdl_nn_prelu_opts){__VA_ARGS__})
#endif

#endif
