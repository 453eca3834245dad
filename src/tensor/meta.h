/* Tensors without storage (FDL_META_DEVICE). */
#ifndef FLODL_TENSOR_META_H
#define FLODL_TENSOR_META_H

namespace flodl
{

/* Before the first tensor of that device: gives it the operations that libtorch has no meta kernel for in C++. */
void prepare_meta();

} // namespace flodl

#endif
