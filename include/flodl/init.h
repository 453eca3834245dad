/* Initial values of parameters, in place and without history: torch.nn.init.
 *
 * Each works on parameters (fdl_param_tensor) and on plain tensors of a floating dtype, and draws from the
 * generator of the tensor's device, in PyTorch's order: after fdl_manual_seed(s) the numbers are those after
 * torch.manual_seed(s). */
#ifndef FLODL_INIT_H
#define FLODL_INIT_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* Uniform in [lo, hi), lo <= hi; normal, std >= 0 (FDL_E_ARG otherwise). uniform_, normal_. */
FDL_API fdl_status fdl_init_uniform(fdl_tensor *t, double lo, double hi);
FDL_API fdl_status fdl_init_normal(fdl_tensor *t, double mean, double std);
/* constant_, zeros_, ones_. */
FDL_API fdl_status fdl_init_constant(fdl_tensor *t, double value);
FDL_API fdl_status fdl_init_zeros(fdl_tensor *t);
FDL_API fdl_status fdl_init_ones(fdl_tensor *t);

typedef struct fdl_init_xavier_opts {
    fdl_by_name opts_;
    double gain; /* default 1 */
} fdl_init_xavier_opts;
/* xavier_uniform_: bound gain * sqrt(6 / (fan_in + fan_out)). xavier_normal_: std gain * sqrt(2 / (fan_in +
 * fan_out)). Fewer than 2 dims or both fans zero: FDL_E_ARG. */
FDL_API fdl_status fdl_init_xavier_uniform_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts);
FDL_API fdl_status fdl_init_xavier_normal_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts);

typedef enum fdl_fan { FDL_FAN_IN = 0, FDL_FAN_OUT } fdl_fan;
typedef enum fdl_nonlinearity {
    FDL_LEAKY_RELU = 0,
    FDL_LINEAR, /* convolutions too */
    FDL_SIGMOID,
    FDL_TANH,
    FDL_RELU,
    FDL_SELU
} fdl_nonlinearity;
typedef struct fdl_init_kaiming_opts {
    fdl_by_name opts_;
    double a;     /* slope of the leaky relu that follows, default 0 */
    fdl_fan mode; /* the fan that keeps its variance: default fan_in, the forward pass */
    fdl_nonlinearity nonlinearity;
} fdl_init_kaiming_opts;
/* kaiming_uniform_: bound sqrt(3) * gain / sqrt(fan). kaiming_normal_: std gain / sqrt(fan). Errors as
 * xavier's. */
FDL_API fdl_status fdl_init_kaiming_uniform_opt(fdl_tensor *t, const fdl_init_kaiming_opts *opts);
FDL_API fdl_status fdl_init_kaiming_normal_opt(fdl_tensor *t, const fdl_init_kaiming_opts *opts);

/* orthogonal_: t flattened to [size(0), rest] gets orthonormal rows when wide, columns when tall, times gain.
 * Fewer than 2 dims: FDL_E_ARG. */
FDL_API fdl_status fdl_init_orthogonal_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts);
/* trunc_normal_: normal, restricted to [a, b] (absolute bounds) by the inverse of the distribution function, nothing is
 * moved to the ends. Where all of [a, b] is more than 2 std from the mean it is computed in float64, so the numbers are
 * other than PyTorch's, which gather at the ends there. a >= b, std <= 0, or an interval that begins more than 8 std
 * out: FDL_E_ARG. */
FDL_API fdl_status fdl_init_trunc_normal(fdl_tensor *t, double mean, double std, double a, double b);
/* Uniform within 1 / sqrt(fan_in): the bias of linear and of convolutions. fan_in < 1: FDL_E_ARG. */
FDL_API fdl_status fdl_init_bias_uniform(fdl_tensor *t, int64_t fan_in);
typedef struct fdl_init_sparse_opts {
    fdl_by_name opts_;
    double std; /* of what isn't zero, >= 0, default 0.01 */
} fdl_init_sparse_opts;
/* sparse_: normal with mean 0, and of each column of a 2-d t [rows, columns] ceil(sparsity * rows) elements zero; which,
 * draws from the CPU's generator. sparsity in [0, 1]. Another number of dims, sparsity or std: FDL_E_ARG. */
FDL_API fdl_status fdl_init_sparse_opt(fdl_tensor *t, double sparsity, const fdl_init_sparse_opts *opts);
/* eye_: the identity, of a 2-d t (else FDL_E_ARG). */
FDL_API fdl_status fdl_init_eye(fdl_tensor *t);
typedef struct fdl_init_dirac_opts {
    fdl_by_name opts_;
    int64_t groups; /* default 1; must divide the output channels */
} fdl_init_dirac_opts;
/* dirac_: a convolution weight (3-d to 5-d, else FDL_E_ARG) that hands as many channels through as it can. */
FDL_API fdl_status fdl_init_dirac_opt(fdl_tensor *t, const fdl_init_dirac_opts *opts);

/* calculate_gain; param is the slope of FDL_LEAKY_RELU. An unknown nonlinearity: NaN and FDL_E_ARG. */
FDL_API double fdl_init_gain(fdl_nonlinearity nonlinearity, double param);
/* size(1) and size(0), each times the product of the rest; either pointer may be NULL. Fewer than 2 dims:
 * FDL_E_ARG. */
FDL_API fdl_status fdl_init_fans(fdl_tensor *t, int64_t *fan_in, int64_t *fan_out);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_init_xavier_uniform(...) fdl_init_xavier_uniform_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_xavier_uniform_(t, ...) fdl_init_xavier_uniform_opt(t, &(fdl_init_xavier_opts){__VA_ARGS__})
#define fdl_init_xavier_normal(...) fdl_init_xavier_normal_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_xavier_normal_(t, ...) fdl_init_xavier_normal_opt(t, &(fdl_init_xavier_opts){__VA_ARGS__})
#define fdl_init_kaiming_uniform(...) fdl_init_kaiming_uniform_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_kaiming_uniform_(t, ...) \
    fdl_init_kaiming_uniform_opt(t, &(fdl_init_kaiming_opts){__VA_ARGS__})
#define fdl_init_kaiming_normal(...) fdl_init_kaiming_normal_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_kaiming_normal_(t, ...) fdl_init_kaiming_normal_opt(t, &(fdl_init_kaiming_opts){__VA_ARGS__})
#define fdl_init_orthogonal(...) fdl_init_orthogonal_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_orthogonal_(t, ...) fdl_init_orthogonal_opt(t, &(fdl_init_xavier_opts){__VA_ARGS__})
#define fdl_init_sparse(t, ...) fdl_init_sparse_(t, __VA_ARGS__, .opts_ = 0)
#define fdl_init_sparse_(t, sparsity, ...) \
    fdl_init_sparse_opt(t, sparsity, &(fdl_init_sparse_opts){__VA_ARGS__})
#define fdl_init_dirac(...) fdl_init_dirac_(__VA_ARGS__, .opts_ = 0)
#define fdl_init_dirac_(t, ...) fdl_init_dirac_opt(t, &(fdl_init_dirac_opts){__VA_ARGS__})
#endif

#endif
