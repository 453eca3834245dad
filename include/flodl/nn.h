/* The stock modules: torch.nn. Each constructor returns the module owned (fdl_module_free, or hand it to a
 * flow or to another module), or NULL. Options left out are PyTorch's defaults; parameters have PyTorch's
 * names, layouts and initial values: after fdl_manual_seed(s) the weights are those that torch.manual_seed(s)
 * and the same constructors give.
 *
 * A size that isn't positive or doesn't divide, an option that can't be: FDL_E_ARG, which names the argument.
 * .dtype and .device are those of the parameters: the thread's defaults when left out. */
#ifndef FLODL_NN_H
#define FLODL_NN_H

#include "flodl/nn_activation.h"
#include "flodl/nn_attention.h"
#include "flodl/nn_conv.h"
#include "flodl/nn_distance.h"
#include "flodl/nn_dropout.h"
#include "flodl/nn_embedding.h"
#include "flodl/nn_linear.h"
#include "flodl/nn_list.h"
#include "flodl/nn_norm.h"
#include "flodl/nn_pad.h"
#include "flodl/nn_pool.h"
#include "flodl/nn_recurrent.h"
#include "flodl/nn_resample.h"
#include "flodl/nn_route.h"
#include "flodl/nn_transformer.h"

#endif
