/* Sparse tensors in coordinates, torch.sparse_coo_tensor: what embeddings with .sparse give as gradients. Of the other operations
 * those of libtorch that know such tensors take them (fdl_add_ to a dense one, fdl_to_dtype, fdl_clone, fdl_sum); the rest fail with
 * FDL_E_TORCH. Shapes: of S dims the first s are sparse, the rest dense. */
#ifndef FLODL_SPARSE_H
#define FLODL_SPARSE_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* Tensor.is_sparse; false on NULL. */
FDL_API bool fdl_is_sparse(fdl_tensor *x);
/* torch.sparse_coo_tensor: indices [s, n] int64, values [n, dense dims] -> shape, whose first s extents the indices address. An
 * index may be there several times: its values add up. One out of range is FDL_E_SHAPE, and looking for it waits for the device. */
FDL_API fdl_tensor *fdl_sparse_coo(fdl_tensor *indices, fdl_tensor *values, fdl_shape shape);
/* Tensor.coalesce: each index once, in order, in the shape of x; waits for the device. The same tensor when it is so already. */
FDL_API fdl_tensor *fdl_coalesce(fdl_tensor *x);
/* Tensor.indices [s, n] and Tensor.values [n, dense dims], views, of a sparse tensor that went through fdl_coalesce; of another sparse
 * one FDL_E_STATE, of a dense one FDL_E_ARG. */
FDL_API fdl_tensor *fdl_sparse_indices(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sparse_values(fdl_tensor *x);
/* Tensor.sparse_mask: the elements of the dense x that the coalesced mask, of x's shape, has -> sparse. */
FDL_API fdl_tensor *fdl_sparse_mask(fdl_tensor *x, fdl_tensor *mask);
/* Tensor.to_dense: x in its shape with zeros where it has nothing; a dense tensor as it is. */
FDL_API fdl_tensor *fdl_to_dense(fdl_tensor *x);

FDL_END_DECLS

#endif
