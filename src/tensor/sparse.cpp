/* Sparse tensors in coordinates. */
#include "flodl/sparse.h"
#include "internal.h"

#include <ATen/ops/_validate_sparse_coo_tensor_args.h>
#include <ATen/ops/coalesce.h>
#include <ATen/ops/indices.h>
#include <ATen/ops/is_coalesced.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <ATen/ops/sparse_mask.h>
#include <ATen/ops/to_dense.h>
#include <ATen/ops/values.h>

using namespace flodl;

namespace
{

const at::Tensor &sparse(fdl_tensor *x, const char *name)
{
    if (!x->t.is_sparse())
        fail(FDL_E_ARG, "%s is not sparse", name);
    return x->t;
}

const at::Tensor &coalesced(fdl_tensor *x, const char *name)
{
    if (!sparse(x, name).is_coalesced())
        fail(FDL_E_STATE, "%s may have an index several times; fdl_coalesce it first", name);
    return x->t;
}

} // namespace

bool fdl_is_sparse(fdl_tensor *x)
{
    return OP((x), x->t.is_sparse());
}

fdl_tensor *fdl_sparse_coo(fdl_tensor *indices, fdl_tensor *values, fdl_shape shape)
{
    return OP_DO((indices, values), {
        const at::Tensor &i = indices->t, &v = values->t;
        if (i.scalar_type() != at::kLong)
            fail(FDL_E_DTYPE, "indices are int64; fdl_long converts");
        if (i.dim() != 2 || i.size(0) > shape.ndim || v.dim() < 1 || v.size(0) != i.size(1))
            fail(FDL_E_SHAPE, "indices are [sparse dims, n] and values [n, dense dims]");
        at::_validate_sparse_coo_tensor_args(i, v, ints(shape));
        return at::sparse_coo_tensor(i, v, ints(shape), v.options().layout(at::kSparse));
    });
}

fdl_tensor *fdl_coalesce(fdl_tensor *x)
{
    return OP((x), sparse(x, "x").coalesce());
}

fdl_tensor *fdl_sparse_indices(fdl_tensor *x)
{
    return OP((x), coalesced(x, "x").indices());
}

fdl_tensor *fdl_sparse_values(fdl_tensor *x)
{
    return OP((x), coalesced(x, "x").values());
}

fdl_tensor *fdl_sparse_mask(fdl_tensor *x, fdl_tensor *mask)
{
    return OP_DO((x, mask), {
        const at::Tensor &where = coalesced(mask, "mask");
        return x->t.sparse_mask(where);
    });
}

fdl_tensor *fdl_to_dense(fdl_tensor *x)
{
    return OP((x), x->t.is_sparse() ? x->t.to_dense() : x->t);
}
