/* Activations. Each has the shape of x and is differentiable; one that has options and is handed on as a function
 * (fdl_gelu) is a function too, with the defaults. */
#ifndef FLODL_ACTIVATION_H
#define FLODL_ACTIVATION_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* torch.relu (gradient 0 at 0), sigmoid, tanh, F.silu, F.mish, F.selu, F.hardswish, F.hardsigmoid, F.relu6,
 * F.logsigmoid, F.softsign (x / (1 + |x|)), F.tanhshrink (x - tanh x): the shape of x. */
FDL_API fdl_tensor *fdl_relu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sigmoid(fdl_tensor *x);
FDL_API fdl_tensor *fdl_tanh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_silu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_mish(fdl_tensor *x);
FDL_API fdl_tensor *fdl_selu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_hardswish(fdl_tensor *x);
FDL_API fdl_tensor *fdl_hardsigmoid(fdl_tensor *x);
FDL_API fdl_tensor *fdl_relu6(fdl_tensor *x);
FDL_API fdl_tensor *fdl_logsigmoid(fdl_tensor *x);
FDL_API fdl_tensor *fdl_softsign(fdl_tensor *x);
FDL_API fdl_tensor *fdl_tanhshrink(fdl_tensor *x);

typedef enum fdl_gelu_kind { FDL_GELU_NONE = 0, FDL_GELU_TANH } fdl_gelu_kind;
typedef struct fdl_gelu_opts {
    fdl_by_name opts_;
    fdl_gelu_kind approximate; /* default: exact, with erf */
} fdl_gelu_opts;
/* F.gelu: x * Phi(x). */
FDL_API fdl_tensor *fdl_gelu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_gelu_opt(fdl_tensor *x, const fdl_gelu_opts *opts);

typedef struct fdl_leaky_relu_opts {
    fdl_by_name opts_;
    double negative_slope; /* default 0.01 */
} fdl_leaky_relu_opts;
/* F.leaky_relu: x > 0 ? x : slope * x. */
FDL_API fdl_tensor *fdl_leaky_relu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_leaky_relu_opt(fdl_tensor *x, const fdl_leaky_relu_opts *opts);

typedef struct fdl_elu_opts {
    fdl_by_name opts_;
    double alpha; /* default 1 */
} fdl_elu_opts;
/* F.elu: x > 0 ? x : alpha * (e^x - 1). F.celu: max(0, x) + min(0, alpha * (e^(x/alpha) - 1)), alpha not 0. */
FDL_API fdl_tensor *fdl_elu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_elu_opt(fdl_tensor *x, const fdl_elu_opts *opts);
FDL_API fdl_tensor *fdl_celu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_celu_opt(fdl_tensor *x, const fdl_elu_opts *opts);

typedef struct fdl_softplus_opts {
    fdl_by_name opts_;
    double beta;      /* default 1 */
    double threshold; /* above it beta * x is taken as it is; default 20 */
} fdl_softplus_opts;
/* F.softplus: log(1 + e^(beta * x)) / beta. */
FDL_API fdl_tensor *fdl_softplus(fdl_tensor *x);
FDL_API fdl_tensor *fdl_softplus_opt(fdl_tensor *x, const fdl_softplus_opts *opts);

typedef struct fdl_hardtanh_opts {
    fdl_by_name opts_;
    double min, max; /* default -1 and 1 */
} fdl_hardtanh_opts;
/* F.hardtanh: clamped to [min, max], gradient 0 at both ends. min > max: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_hardtanh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_hardtanh_opt(fdl_tensor *x, const fdl_hardtanh_opts *opts);

typedef struct fdl_shrink_opts {
    fdl_by_name opts_;
    double lambda; /* default 0.5 */
} fdl_shrink_opts;
/* F.softshrink: toward 0 by lambda. F.hardshrink: 0 where |x| <= lambda. */
FDL_API fdl_tensor *fdl_softshrink(fdl_tensor *x);
FDL_API fdl_tensor *fdl_softshrink_opt(fdl_tensor *x, const fdl_shrink_opts *opts);
FDL_API fdl_tensor *fdl_hardshrink(fdl_tensor *x);
FDL_API fdl_tensor *fdl_hardshrink_opt(fdl_tensor *x, const fdl_shrink_opts *opts);

/* F.threshold: x > at ? x : value. */
FDL_API fdl_tensor *fdl_threshold(fdl_tensor *x, double at, double value);
/* F.prelu: x > 0 ? x : w * x. w: [1], or [C] with C the extent of dim 1; another size: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_prelu(fdl_tensor *x, fdl_tensor *w);

typedef struct fdl_rrelu_opts {
    fdl_by_name opts_;
    double lower, upper; /* of the slope; default 1/8 and 1/3 */
    bool training;       /* a slope drawn for each element; default: their mean */
    fdl_generator *generator;
} fdl_rrelu_opts;
/* F.rrelu. */
FDL_API fdl_tensor *fdl_rrelu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_rrelu_opt(fdl_tensor *x, const fdl_rrelu_opts *opts);

typedef struct fdl_softmax_opts {
    fdl_by_name opts_;
    fdl_dtype dtype; /* converts first; default: x's */
} fdl_softmax_opts;
/* F.softmax, F.log_softmax, F.softmin along dim: the shape of x. A row that is -inf throughout gives NaN. */
FDL_API fdl_tensor *fdl_softmax(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_softmax_opt(fdl_tensor *x, int dim, const fdl_softmax_opts *opts);
FDL_API fdl_tensor *fdl_log_softmax(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_log_softmax_opt(fdl_tensor *x, int dim, const fdl_softmax_opts *opts);
FDL_API fdl_tensor *fdl_softmin(fdl_tensor *x, int dim);
/* F.glu: a * sigmoid(b) of the two halves a, b of x along dim, whose extent must be even and becomes half as large. swiglu:
 * a * silu(b), geglu: a * gelu(b) (Shazeer, GLU Variants Improve Transformer). */
FDL_API fdl_tensor *fdl_glu(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_swiglu(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_geglu(fdl_tensor *x, int dim);

typedef struct fdl_gumbel_softmax_opts {
    fdl_by_name opts_;
    double tau; /* temperature, default 1 */
    bool hard;  /* one-hot forward, the soft sample's gradient */
    fdl_generator *generator;
} fdl_gumbel_softmax_opts;
/* F.gumbel_softmax: a sample along dim. */
FDL_API fdl_tensor *fdl_gumbel_softmax_opt(fdl_tensor *x, int dim, const fdl_gumbel_softmax_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_gelu(...) fdl_gelu_(__VA_ARGS__, .opts_ = 0)
#define fdl_gelu_(x, ...) fdl_gelu_opt(x, &(fdl_gelu_opts){__VA_ARGS__})
#define fdl_leaky_relu(...) fdl_leaky_relu_(__VA_ARGS__, .opts_ = 0)
#define fdl_leaky_relu_(x, ...) fdl_leaky_relu_opt(x, &(fdl_leaky_relu_opts){__VA_ARGS__})
#define fdl_elu(...) fdl_elu_(__VA_ARGS__, .opts_ = 0)
#define fdl_elu_(x, ...) fdl_elu_opt(x, &(fdl_elu_opts){__VA_ARGS__})
#define fdl_celu(...) fdl_celu_(__VA_ARGS__, .opts_ = 0)
#define fdl_celu_(x, ...) fdl_celu_opt(x, &(fdl_elu_opts){__VA_ARGS__})
#define fdl_softplus(...) fdl_softplus_(__VA_ARGS__, .opts_ = 0)
#define fdl_softplus_(x, ...) fdl_softplus_opt(x, &(fdl_softplus_opts){__VA_ARGS__})
#define fdl_hardtanh(...) fdl_hardtanh_(__VA_ARGS__, .opts_ = 0)
#define fdl_hardtanh_(x, ...) fdl_hardtanh_opt(x, &(fdl_hardtanh_opts){__VA_ARGS__})
#define fdl_softshrink(...) fdl_softshrink_(__VA_ARGS__, .opts_ = 0)
#define fdl_softshrink_(x, ...) fdl_softshrink_opt(x, &(fdl_shrink_opts){__VA_ARGS__})
#define fdl_hardshrink(...) fdl_hardshrink_(__VA_ARGS__, .opts_ = 0)
#define fdl_hardshrink_(x, ...) fdl_hardshrink_opt(x, &(fdl_shrink_opts){__VA_ARGS__})
#define fdl_rrelu(...) fdl_rrelu_(__VA_ARGS__, .opts_ = 0)
#define fdl_rrelu_(x, ...) fdl_rrelu_opt(x, &(fdl_rrelu_opts){__VA_ARGS__})
#define fdl_gumbel_softmax(x, ...) fdl_gumbel_softmax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_gumbel_softmax_(x, dim, ...) \
    fdl_gumbel_softmax_opt(x, dim, &(fdl_gumbel_softmax_opts){__VA_ARGS__})
#define fdl_softmax(x, ...) fdl_softmax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_softmax_(x, dim, ...) fdl_softmax_opt(x, dim, &(fdl_softmax_opts){__VA_ARGS__})
#define fdl_log_softmax(x, ...) fdl_log_softmax_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_log_softmax_(x, dim, ...) fdl_log_softmax_opt(x, dim, &(fdl_softmax_opts){__VA_ARGS__})
#endif

#endif
