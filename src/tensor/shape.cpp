/* Shapes: views, repeating, moving, joining and splitting. */
#include "flodl/shape.h"
#include "internal.h"

#include <ATen/ops/as_strided.h>
#include <ATen/ops/atleast_1d.h>
#include <ATen/ops/atleast_2d.h>
#include <ATen/ops/atleast_3d.h>
#include <ATen/ops/block_diag.h>
#include <ATen/ops/broadcast_tensors.h>
#include <ATen/ops/broadcast_to.h>
#include <ATen/ops/cartesian_prod.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/chunk.h>
#include <ATen/ops/column_stack.h>
#include <ATen/ops/combinations.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/diag.h>
#include <ATen/ops/diag_embed.h>
#include <ATen/ops/diagflat.h>
#include <ATen/ops/diagonal.h>
#include <ATen/ops/dsplit.h>
#include <ATen/ops/dstack.h>
#include <ATen/ops/flatten.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/hstack.h>
#include <ATen/ops/meshgrid.h>
#include <ATen/ops/movedim.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/permute.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/reshape.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/rot90.h>
#include <ATen/ops/split.h>
#include <ATen/ops/split_with_sizes.h>
#include <ATen/ops/squeeze.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/t.h>
#include <ATen/ops/tensor_split.h>
#include <ATen/ops/tile.h>
#include <ATen/ops/trace.h>
#include <ATen/ops/transpose.h>
#include <ATen/ops/tril_indices.h>
#include <ATen/ops/triu_indices.h>
#include <ATen/ops/unbind.h>
#include <ATen/ops/unsqueeze.h>
#include <ATen/ops/vstack.h>

#include <algorithm>

using namespace flodl;

namespace
{

/* A number of pieces that may be larger than there are elements: libtorch makes a list of that many. */
int64_t pieces(int64_t n)
{
    if (n > 1 << 24)
        fail(FDL_E_ARG, "%lld pieces; %d are the most", (long long)n, 1 << 24);
    return n;
}

} // namespace

/* ---- another shape over the same elements ---- */

fdl_tensor *fdl_reshape(fdl_tensor *x, fdl_shape shape)
{
    return OP((x), at::reshape(x->t, ints(shape)));
}

fdl_tensor *fdl_view(fdl_tensor *x, fdl_shape shape)
{
    return OP((x), x->t.view(ints(shape)));
}

fdl_tensor *fdl_flatten(fdl_tensor *x, int start, int end)
{
    return OP((x), at::flatten(x->t, start, end));
}

fdl_tensor *fdl_unflatten(fdl_tensor *x, int dim, fdl_shape shape)
{
    return OP((x), x->t.unflatten(dim, ints(shape)));
}

fdl_tensor *fdl_transpose(fdl_tensor *x, int d0, int d1)
{
    return OP((x), at::transpose(x->t, (int64_t)d0, (int64_t)d1));
}

UNARY(fdl_t, at::t)

fdl_tensor *fdl_mT(fdl_tensor *x)
{
    return OP((x), x->t.mT());
}

fdl_tensor *fdl_permute(fdl_tensor *x, fdl_shape dims)
{
    return OP((x), at::permute(x->t, ints(dims)));
}

fdl_tensor *fdl_movedim(fdl_tensor *x, int from, int to)
{
    return OP((x), at::movedim(x->t, (int64_t)from, (int64_t)to));
}

fdl_tensor *fdl_squeeze(fdl_tensor *x, int dim)
{
    return OP((x), at::squeeze(x->t, (int64_t)dim));
}

fdl_tensor *fdl_squeeze_all(fdl_tensor *x)
{
    return OP((x), at::squeeze(x->t));
}

fdl_tensor *fdl_unsqueeze(fdl_tensor *x, int dim)
{
    return OP((x), at::unsqueeze(x->t, dim));
}

fdl_tensor *fdl_unsqueeze_many(fdl_tensor *x, fdl_shape dims)
{
    return OP_DO((x), {
        int64_t n = x->t.dim() + (int64_t)ints(dims).size();
        if (!dims.ndim)
            fail(FDL_E_ARG, "no dims");
        fdl_shape sorted = dims;
        for (int i = 0; i < sorted.ndim; i++)
            if (sorted.d[i] < 0)
                sorted.d[i] += n; /* they count in the result */
        std::sort(sorted.d, sorted.d + sorted.ndim);
        at::Tensor y = x->t;
        for (int64_t dim : ints(sorted)) {
            if (dim < 0 || dim > y.dim())
                fail(FDL_E_RANGE, "Dimension out of range (%lld in a result of %lld dims)", (long long)dim,
                     (long long)n);
            y = at::unsqueeze(y, dim);
        }
        return y;
    });
}

fdl_tensor *fdl_as_strided(fdl_tensor *x, fdl_shape shape, fdl_shape strides, int64_t offset)
{
    return OP((x), at::as_strided(x->t, ints(shape), ints(strides), offset));
}

fdl_tensor *fdl_unfold_dim(fdl_tensor *x, int dim, int64_t size, int64_t step)
{
    return OP((x), x->t.unfold(dim, size, step));
}

/* ---- repeating ---- */

fdl_tensor *fdl_expand(fdl_tensor *x, fdl_shape shape)
{
    return OP((x), x->t.expand(ints(shape)));
}

fdl_tensor *fdl_expand_as(fdl_tensor *x, fdl_tensor *y)
{
    return OP((x, y), x->t.expand_as(y->t));
}

fdl_tensor *fdl_broadcast_to(fdl_tensor *x, fdl_shape shape)
{
    return OP((x), at::broadcast_to(x->t, ints(shape)));
}

fdl_tensor *fdl_repeat(fdl_tensor *x, fdl_shape counts)
{
    return OP((x), x->t.repeat(ints(counts)));
}

fdl_tensor *fdl_tile(fdl_tensor *x, fdl_shape counts)
{
    return OP((x), at::tile(x->t, ints(counts)));
}

fdl_tensor *fdl_repeat_interleave(fdl_tensor *x, int64_t n, int dim)
{
    return OP_DO((x), {
        if (n < 0)
            fail(FDL_E_ARG, "%lld repeats", (long long)n);
        return at::repeat_interleave(x->t, n, (int64_t)dim);
    });
}

/* ---- moving elements ---- */

fdl_tensor *fdl_flip(fdl_tensor *x, fdl_shape dims)
{
    return OP((x), at::flip(x->t, ints(dims)));
}

fdl_tensor *fdl_roll(fdl_tensor *x, int64_t shift, int dim)
{
    return OP((x), at::roll(x->t, at::IntArrayRef(shift), at::IntArrayRef((int64_t)dim)));
}

fdl_tensor *fdl_rot90(fdl_tensor *x, int64_t k, int d0, int d1)
{
    return OP((x), at::rot90(x->t, k, {d0, d1}));
}

fdl_tensor *fdl_diagonal_opt(fdl_tensor *x, int d0, int d1, const fdl_diagonal_opts *opts)
{
    return OP((x), at::diagonal(x->t, or_default(opts).offset, d0, d1));
}

fdl_tensor *fdl_diag_embed_opt(fdl_tensor *x, int d0, int d1, const fdl_diagonal_opts *opts)
{
    return OP((x), at::diag_embed(x->t, or_default(opts).offset, d0, d1));
}

fdl_tensor *fdl_diag(fdl_tensor *x)
{
    return fdl_diag_opt(x, nullptr);
}

fdl_tensor *fdl_diag_opt(fdl_tensor *x, const fdl_diagonal_opts *opts)
{
    return OP((x), at::diag(x->t, or_default(opts).offset));
}

fdl_tensor *fdl_pad_opt(fdl_tensor *x, fdl_shape pads, const fdl_pad_opts *opts)
{
    static const char *const modes[] = {"constant", "reflect", "replicate", "circular"};
    const fdl_pad_opts &o = or_default(opts);
    return OP_DO((x), {
        if ((unsigned)o.mode > FDL_PAD_CIRCULAR)
            fail(FDL_E_ARG, "%d is no padding mode", (int)o.mode);
        double value = fdl_opt_double(o.value, 0);
        if (o.mode == FDL_PAD_CONSTANT && pads.ndim % 2 == 0)
            return at::constant_pad_nd(x->t, ints(pads), value);
        return at::pad(x->t, ints(pads), modes[o.mode],
                       value == 0 ? std::nullopt : std::optional<double>(value));
    });
}

/* ---- joining and splitting ---- */

namespace
{

/* A list that isn't empty, as libtorch takes it. */
fdl_list some(fdl_list list)
{
    if (!list.n)
        fail(FDL_E_ARG, "an empty list");
    return list;
}

/* Pieces beyond the extent change nothing, and such numbers overflow inside libtorch. */
int64_t at_most_extent(const at::Tensor &t, int dim, int64_t n)
{
    return std::min(n, std::max<int64_t>(t.size(dim), 1));
}

} // namespace

fdl_tensor *fdl_cat(fdl_list list, int dim)
{
    return OP((list), at::cat(tensors(some(list)), (int64_t)dim));
}

fdl_tensor *fdl_stack(fdl_list list, int dim)
{
    return OP((list), at::stack(tensors(some(list)), dim));
}

fdl_tensor *fdl_hstack(fdl_list list)
{
    return OP((list), at::hstack(tensors(some(list))));
}

fdl_tensor *fdl_vstack(fdl_list list)
{
    return OP((list), at::vstack(tensors(some(list))));
}

fdl_list fdl_chunk(fdl_tensor *x, int64_t n, int dim)
{
    return OP_DO((x), {
        if (n < 1)
            fail(FDL_E_ARG, "%lld pieces", (long long)n);
        return at::chunk(x->t, at_most_extent(x->t, dim, n), dim);
    });
}

fdl_list fdl_split(fdl_tensor *x, int64_t size, int dim)
{
    return OP_DO((x), {
        if (size < 0 || (size == 0 && x->t.size(dim) > 0))
            fail(FDL_E_ARG, "pieces of size %lld", (long long)size);
        return at::split(x->t, at_most_extent(x->t, dim, size), dim);
    });
}

fdl_list fdl_split_sizes(fdl_tensor *x, fdl_ints sizes, int dim)
{
    return OP((x), at::split_with_sizes(x->t, ints(sizes), dim));
}

fdl_list fdl_unbind(fdl_tensor *x, int dim)
{
    return OP((x), at::unbind(x->t, (int64_t)dim));
}

fdl_list fdl_meshgrid_opt(fdl_list list, const fdl_meshgrid_opts *opts)
{
    fdl_indexing indexing = or_default(opts).indexing;
    return OP_DO((list), {
        if (indexing != FDL_IJ && indexing != FDL_XY)
            fail(FDL_E_ARG, "%d is neither FDL_IJ nor FDL_XY", (int)indexing);
        return at::meshgrid(tensors(some(list)), indexing == FDL_XY ? "xy" : "ij");
    });
}

fdl_tensor *fdl_tril_indices(int64_t rows, int64_t cols, int64_t offset)
{
    return OP((),
              at::tril_indices(rows, cols, offset, at::TensorOptions().dtype(at::kLong).device(device({}))));
}

fdl_tensor *fdl_triu_indices(int64_t rows, int64_t cols, int64_t offset)
{
    return OP((),
              at::triu_indices(rows, cols, offset, at::TensorOptions().dtype(at::kLong).device(device({}))));
}

/* ---- less common ---- */

UNARY(fdl_atleast_1d, at::atleast_1d)
UNARY(fdl_atleast_2d, at::atleast_2d)
UNARY(fdl_atleast_3d, at::atleast_3d)
UNARY(fdl_trace, at::trace)

fdl_tensor *fdl_movedims(fdl_tensor *x, fdl_shape from, fdl_shape to)
{
    return OP((x), at::movedim(x->t, ints(from), ints(to)));
}

fdl_tensor *fdl_squeeze_dims(fdl_tensor *x, fdl_shape dims)
{
    return OP((x), at::squeeze(x->t, ints(dims)));
}

fdl_list fdl_broadcast_tensors(fdl_list list)
{
    return OP((list), at::broadcast_tensors(tensors(list)));
}

fdl_tensor *fdl_repeat_interleave_each(fdl_tensor *x, fdl_tensor *counts, int dim)
{
    return OP((x, counts), at::repeat_interleave(x->t, counts->t, (int64_t)dim));
}

fdl_tensor *fdl_diagflat_opt(fdl_tensor *x, const fdl_diagonal_opts *opts)
{
    return OP((x), at::diagflat(x->t, or_default(opts).offset));
}

fdl_tensor *fdl_block_diag(fdl_list list)
{
    return OP((list), at::block_diag(tensors(list)));
}

fdl_tensor *fdl_dstack(fdl_list list)
{
    return OP((list), at::dstack(tensors(list)));
}

fdl_tensor *fdl_column_stack(fdl_list list)
{
    return OP((list), at::column_stack(tensors(list)));
}

fdl_list fdl_tensor_split(fdl_tensor *x, int64_t n, int dim)
{
    return OP((x), at::tensor_split(x->t, pieces(n), (int64_t)dim));
}

fdl_list fdl_tensor_split_at(fdl_tensor *x, fdl_ints places, int dim)
{
    return OP((x), at::tensor_split(x->t, ints(places), (int64_t)dim));
}

fdl_list fdl_dsplit(fdl_tensor *x, int64_t n)
{
    return OP((x), at::dsplit(x->t, pieces(n)));
}

fdl_tensor *fdl_cartesian_prod(fdl_list list)
{
    return OP((list), at::cartesian_prod(tensors(list)));
}

fdl_tensor *fdl_combinations_opt(fdl_tensor *x, int64_t r, const fdl_combinations_opts *opts)
{
    return OP((x), at::combinations(x->t, r, or_default(opts).with_replacement));
}
