/* Indexing, masks, sorting and searching. */
#include "flodl/index.h"
#include "internal.h"

#include <ATen/core/List.h>

#include <ATen/ops/_unique2.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/diagonal_scatter.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/index.h>
#include <ATen/ops/index_add.h>
#include <ATen/ops/index_copy.h>
#include <ATen/ops/index_fill.h>
#include <ATen/ops/index_put.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/kthvalue.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/masked_scatter.h>
#include <ATen/ops/masked_select.h>
#include <ATen/ops/narrow.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/one_hot.h>
#include <ATen/ops/scatter.h>
#include <ATen/ops/scatter_add.h>
#include <ATen/ops/scatter_reduce.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/select.h>
#include <ATen/ops/select_scatter.h>
#include <ATen/ops/slice.h>
#include <ATen/ops/slice_scatter.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/take.h>
#include <ATen/ops/take_along_dim.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/unique_consecutive.h>
#include <ATen/ops/unique_dim.h>
#include <ATen/ops/where.h>

using namespace flodl;

namespace
{

/* An int32 index as the int64 that some kernels insist on. */
at::Tensor as_index(const at::Tensor &idx)
{
    return idx.scalar_type() == at::kInt ? idx.to(at::kLong) : idx;
}

/* A mask as the bool that libtorch insists on. */
at::Tensor as_mask(const at::Tensor &mask)
{
    return mask.scalar_type() == at::kBool ? mask : mask.to(at::kBool);
}

/* One index tensor a dim, NULL for ":". */
c10::List<std::optional<at::Tensor>> per_dim(const fdl_list &list)
{
    if (list.n < 1 || !list.at)
        fail(FDL_E_ARG, "no indices");
    c10::List<std::optional<at::Tensor>> all;
    all.reserve((size_t)list.n);
    for (int i = 0; i < list.n; i++) {
        if (list.at[i] && !alive(list.at[i]))
            fail(FDL_E_STATE, "indices[%d] was freed", i);
        all.push_back(list.at[i] ? std::optional<at::Tensor>(list.at[i]->t) : std::nullopt);
    }
    return all;
}

at::Tensor picked(std::tuple<at::Tensor, at::Tensor> &&both, const result &indices)
{
    indices.give(std::move(std::get<1>(both)));
    return std::move(std::get<0>(both));
}

} // namespace

/* ---- a part ---- */

fdl_tensor *fdl_select(fdl_tensor *x, int dim, int64_t i)
{
    return OP((x), at::select(x->t, (int64_t)dim, i));
}

fdl_tensor *fdl_narrow(fdl_tensor *x, int dim, int64_t start, int64_t n)
{
    return OP((x), at::narrow(x->t, dim, start, n));
}

fdl_tensor *fdl_slice(fdl_tensor *x, int dim, int64_t start, int64_t end, int64_t step)
{
    return OP_DO((x), {
        if (step < 1)
            fail(FDL_E_ARG, "a step of %lld; it is 1 or more", (long long)step);
        return at::slice(x->t, dim, start, end, step);
    });
}

fdl_tensor *fdl_select_scatter(fdl_tensor *x, fdl_tensor *src, int dim, int64_t i)
{
    return OP((x, src), at::select_scatter(x->t, src->t, dim, i));
}

fdl_tensor *fdl_narrow_scatter(fdl_tensor *x, fdl_tensor *src, int dim, int64_t start)
{
    return OP_DO((x, src), {
        int64_t n = src->t.size(dim);
        int64_t extent = x->t.size(dim);
        int64_t from = start < 0 ? start + extent : start;
        if (from < 0 || n > extent || from > extent - n)
            fail(FDL_E_RANGE, "%lld elements from %lld are outside the extent %lld", (long long)n,
                 (long long)start, (long long)extent);
        return at::slice_scatter(x->t, src->t, dim, from, from + n);
    });
}

/* ---- by index ---- */

fdl_tensor *fdl_index_select(fdl_tensor *x, int dim, fdl_tensor *idx)
{
    return OP((x, idx), at::index_select(x->t, (int64_t)dim, idx->t));
}

fdl_tensor *fdl_gather(fdl_tensor *x, int dim, fdl_tensor *idx)
{
    return OP((x, idx), at::gather(x->t, (int64_t)dim, as_index(idx->t)));
}

fdl_tensor *fdl_take_along_dim(fdl_tensor *x, fdl_tensor *idx, int dim)
{
    return OP((x, idx), at::take_along_dim(x->t, as_index(idx->t), dim));
}

fdl_tensor *fdl_take(fdl_tensor *x, fdl_tensor *idx)
{
    return OP((x, idx), at::take(x->t, as_index(idx->t)));
}

fdl_tensor *fdl_scatter(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src)
{
    return OP((x, idx, src), at::scatter(x->t, (int64_t)dim, as_index(idx->t), src->t));
}

fdl_tensor *fdl_scatter_scalar(fdl_tensor *x, int dim, fdl_tensor *idx, double s)
{
    return OP((x, idx), at::scatter(x->t, (int64_t)dim, as_index(idx->t), scalar(s)));
}

fdl_tensor *fdl_scatter_add(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src)
{
    return OP((x, idx, src), at::scatter_add(x->t, (int64_t)dim, as_index(idx->t), src->t));
}

fdl_tensor *fdl_scatter_reduce(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src, fdl_reduce_kind how)
{
    static const char *const names[] = {"sum", "prod", "mean", "amax", "amin"};
    return OP_DO((x, idx, src), {
        if ((unsigned)how > FDL_REDUCE_MIN)
            fail(FDL_E_ARG, "%d is no reduction", (int)how);
        return at::scatter_reduce(x->t, (int64_t)dim, as_index(idx->t), src->t, names[how]);
    });
}

fdl_tensor *fdl_index_add(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src)
{
    return OP((x, idx, src), at::index_add(x->t, (int64_t)dim, idx->t, src->t));
}

fdl_tensor *fdl_index(fdl_tensor *x, fdl_list indices)
{
    return OP((x), at::index(x->t, per_dim(indices)));
}

fdl_tensor *fdl_index_put_opt(fdl_tensor *x, fdl_list indices, fdl_tensor *v, const fdl_index_put_opts *opts)
{
    return OP((x, v), at::index_put(x->t, per_dim(indices), v->t, or_default(opts).accumulate));
}

fdl_tensor *fdl_one_hot_opt(fdl_tensor *x, int64_t classes, const fdl_one_hot_opts *opts)
{
    const fdl_one_hot_opts &o = or_default(opts);
    return OP_DO((x), {
        if (classes < 0)
            fail(FDL_E_ARG, "%lld classes", (long long)classes);
        at::Tensor y = at::one_hot(as_index(x->t), classes ? classes : -1);
        return o.dtype == FDL_DTYPE_DEFAULT ? std::move(y) : y.to(scalar_type(o.dtype));
    });
}

/* ---- by mask ---- */

fdl_tensor *fdl_masked_fill(fdl_tensor *x, fdl_tensor *mask, double s)
{
    return OP((x, mask), at::masked_fill(x->t, as_mask(mask->t), scalar(s)));
}

fdl_tensor *fdl_masked_select(fdl_tensor *x, fdl_tensor *mask)
{
    return OP((x, mask), at::masked_select(x->t, as_mask(mask->t)));
}

fdl_tensor *fdl_masked_scatter(fdl_tensor *x, fdl_tensor *mask, fdl_tensor *src)
{
    return OP((x, mask, src), at::masked_scatter(x->t, as_mask(mask->t), src->t));
}

fdl_tensor *fdl_where(fdl_tensor *cond, fdl_tensor *a, fdl_tensor *b)
{
    return OP((cond, a, b), at::where(as_mask(cond->t), a->t, b->t));
}

UNARY(fdl_nonzero, at::nonzero)

/* ---- sorting and searching ---- */

fdl_tensor *fdl_topk_opt(fdl_tensor *x, int64_t k, int dim, const fdl_topk_opts *opts)
{
    const fdl_topk_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::topk(x->t, k, dim, !o.smallest, !o.unsorted), indices));
}

fdl_tensor *fdl_sort_opt(fdl_tensor *x, int dim, const fdl_sort_opts *opts)
{
    const fdl_sort_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::sort(x->t, o.stable, (int64_t)dim, o.descending), indices));
}

fdl_tensor *fdl_argsort_opt(fdl_tensor *x, int dim, const fdl_argsort_opts *opts)
{
    const fdl_argsort_opts &o = or_default(opts);
    return OP((x), at::argsort(x->t, o.stable, (int64_t)dim, o.descending));
}

fdl_tensor *fdl_kthvalue_opt(fdl_tensor *x, int64_t k, int dim, const fdl_kthvalue_opts *opts)
{
    const fdl_kthvalue_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::kthvalue(x->t, k, (int64_t)dim, o.keepdim), indices));
}

fdl_tensor *fdl_unique(fdl_tensor *x)
{
    return fdl_unique_opt(x, nullptr);
}

fdl_tensor *fdl_unique_opt(fdl_tensor *x, const fdl_unique_opts *opts)
{
    const fdl_unique_opts &o = or_default(opts);
    result inverse(o.inverse), counts(o.counts);
    return OP_DO((x), {
        auto [values, where, how_many] = at::_unique2(x->t, !o.unsorted, (bool)inverse, (bool)counts);
        inverse.give(std::move(where));
        counts.give(std::move(how_many));
        return values;
    });
}

fdl_tensor *fdl_unique_consecutive_opt(fdl_tensor *x, const fdl_unique_opts *opts)
{
    const fdl_unique_opts &o = or_default(opts);
    result inverse(o.inverse), counts(o.counts);
    return OP_DO((x), {
        if (o.unsorted)
            fail(FDL_E_ARG, ".unsorted: neighbours keep their order");
        auto [values, where, how_many] = at::unique_consecutive(x->t, (bool)inverse, (bool)counts);
        inverse.give(std::move(where));
        counts.give(std::move(how_many));
        return values;
    });
}

fdl_tensor *fdl_searchsorted_opt(fdl_tensor *sorted, fdl_tensor *v, const fdl_search_opts *opts)
{
    return OP((sorted, v), at::searchsorted(sorted->t, v->t, false, or_default(opts).right));
}

fdl_tensor *fdl_bucketize_opt(fdl_tensor *v, fdl_tensor *bounds, const fdl_search_opts *opts)
{
    return OP((v, bounds), at::bucketize(v->t, bounds->t, false, or_default(opts).right));
}

fdl_tensor *fdl_index_copy(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src)
{
    return OP((x, idx, src), at::index_copy(x->t, (int64_t)dim, idx->t, src->t));
}

fdl_tensor *fdl_index_fill(fdl_tensor *x, int dim, fdl_tensor *idx, double s)
{
    return OP((x, idx), at::index_fill(x->t, (int64_t)dim, idx->t, scalar(s)));
}

fdl_tensor *fdl_diagonal_scatter(fdl_tensor *x, fdl_tensor *src, int64_t offset, int d0, int d1)
{
    return OP((x, src), at::diagonal_scatter(x->t, src->t, offset, d0, d1));
}

fdl_tensor *fdl_unique_dim(fdl_tensor *x, int dim)
{
    return OP((x), std::get<0>(at::unique_dim(x->t, dim)));
}
