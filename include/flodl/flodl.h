/* Everything: include this one. */
#ifndef FLODL_FLODL_H
#define FLODL_FLODL_H

#include "flodl/base.h"
#include "flodl/types.h"
#include "flodl/scope.h"
#include "flodl/tensor.h"
#include "flodl/autograd.h"
#include "flodl/inplace.h"
#include "flodl/foreach.h"
#include "flodl/kernels.h"
#include "flodl/arithmetic.h"
#include "flodl/activation.h"
#include "flodl/reduce.h"
#include "flodl/compare.h"
#include "flodl/linalg.h"
#include "flodl/conv.h"
#include "flodl/pool.h"
#include "flodl/shape.h"
#include "flodl/index.h"
#include "flodl/random.h"
#include "flodl/version.h"
#include "flodl/cuda.h"
#include "flodl/norm.h"
#include "flodl/embedding.h"
#include "flodl/recurrent.h"
#include "flodl/attention.h"
#include "flodl/dropout.h"
#include "flodl/loss.h"
#include "flodl/module.h"
#include "flodl/init.h"
#include "flodl/nn.h"
#include "flodl/rng.h"
#include "flodl/message.h"
#include "flodl/text.h"
#include "flodl/clock.h"
#include "flodl/file.h"
#include "flodl/monitor.h"

/* Last: the macros that note the caller's place. */
#include "flodl/where.h"

#endif
