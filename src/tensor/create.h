/* Options of creation, shared with the random functions. */
#ifndef FLODL_TENSOR_CREATE_H
#define FLODL_TENSOR_CREATE_H

#include "flodl/tensor.h"
#include "internal.h"

namespace flodl
{

/* dtype, device and pinning of the options; `otherwise` stands in for FDL_DTYPE_DEFAULT. */
at::TensorOptions options(const fdl_tensor_opts *o, fdl_dtype otherwise = FDL_DTYPE_DEFAULT);
/* What the _like functions change of x; the rest stays x's. */
at::TensorOptions like(const fdl_tensor_opts *o);
/* requires_grad, which a tensor gets last. */
at::Tensor finished(at::Tensor t, const fdl_tensor_opts *o);
/* A checked shape: 0 to FDL_MAX_DIMS dims, no negative extent. */
at::IntArrayRef extents(const fdl_shape &s);

} // namespace flodl

#endif
