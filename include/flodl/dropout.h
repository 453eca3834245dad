/* Dropout. p is the probability of being dropped, in [0, 1] (else FDL_E_ARG); what stays is scaled by
 * 1 / (1 - p), and p = 1 gives zeros. The result has the shape of x; without .training = true it is x itself.
 * Differentiable. */
#ifndef FLODL_DROPOUT_H
#define FLODL_DROPOUT_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_dropout_opts {
    fdl_by_name opts_;
    bool training; /* default false: nothing is dropped */
} fdl_dropout_opts;
/* F.dropout: each element by itself. */
FDL_API fdl_tensor *fdl_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts);
/* F.dropout1d, 2d, 3d: whole channels of [N, C, *]. */
FDL_API fdl_tensor *fdl_feature_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts);
/* F.alpha_dropout, F.feature_alpha_dropout: keeps the mean and the variance of selu's results. */
FDL_API fdl_tensor *fdl_alpha_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts);
FDL_API fdl_tensor *fdl_feature_alpha_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_dropout(x, ...) fdl_dropout_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_dropout_(x, p, ...) fdl_dropout_opt(x, p, &(fdl_dropout_opts){__VA_ARGS__})
#define fdl_feature_dropout(x, ...) fdl_feature_dropout_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_feature_dropout_(x, p, ...) fdl_feature_dropout_opt(x, p, &(fdl_dropout_opts){__VA_ARGS__})
#define fdl_alpha_dropout(x, ...) fdl_alpha_dropout_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_alpha_dropout_(x, p, ...) fdl_alpha_dropout_opt(x, p, &(fdl_dropout_opts){__VA_ARGS__})
#define fdl_feature_alpha_dropout(x, ...) fdl_feature_alpha_dropout_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_feature_alpha_dropout_(x, p, ...) \
    fdl_feature_alpha_dropout_opt(x, p, &(fdl_dropout_opts){__VA_ARGS__})
#endif

#endif
