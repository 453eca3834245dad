/* Dropout. torch.nn.Dropout and the others. nn.h says what holds for all constructors. */
#ifndef FLODL_NN_DROPOUT_H
#define FLODL_NN_DROPOUT_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- dropout: p in [0, 1]; the input itself in evaluation --------------------------------------- */

/* nn.Dropout: elements become 0 with probability p, the others are scaled by 1/(1 - p). */
FDL_API fdl_module *fdl_nn_dropout(double p);
/* nn.Dropout1d, 2d, 3d: whole channels of [N, C, L], [N, C, H, W], [N, C, D, H, W], also without N; other
 * ranks: FDL_E_SHAPE. */
FDL_API fdl_module *fdl_nn_dropout1d(double p);
FDL_API fdl_module *fdl_nn_dropout2d(double p);
FDL_API fdl_module *fdl_nn_dropout3d(double p);
/* nn.AlphaDropout, nn.FeatureAlphaDropout: keep mean 0 and variance 1, for selu networks. */
FDL_API fdl_module *fdl_nn_alpha_dropout(double p);
FDL_API fdl_module *fdl_nn_feature_alpha_dropout(double p);
/* torchvision.ops.StochasticDepth, mode "row", also known as drop path: each index of the first dim of x [N, *] is dropped whole with probability p, and
 * what is left scaled by 1 / (1 - p) -> [N, *]. For a residual branch: fdl_flow_also(m, .drop = p). */
FDL_API fdl_module *fdl_nn_stochastic_depth(double p);

FDL_END_DECLS

#endif
