/* Reductions and running sums. */
#include "flodl/reduce.h"
#include "internal.h"

#include <c10/core/GradMode.h>
#include <c10/core/ScalarType.h>

#include <ATen/ops/all.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/amin.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/any.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/argmin.h>
#include <ATen/ops/bincount.h>
#include <ATen/ops/corrcoef.h>
#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/cov.h>
#include <ATen/ops/cummax.h>
#include <ATen/ops/cummin.h>
#include <ATen/ops/cumprod.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/cumulative_trapezoid.h>
#include <ATen/ops/diff.h>
#include <ATen/ops/dist.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/logcumsumexp.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/median.h>
#include <ATen/ops/min.h>
#include <ATen/ops/mode.h>
#include <ATen/ops/nanmean.h>
#include <ATen/ops/nanmedian.h>
#include <ATen/ops/nanquantile.h>
#include <ATen/ops/nansum.h>
#include <ATen/ops/norm.h>
#include <ATen/ops/prod.h>
#include <ATen/ops/quantile.h>
#include <ATen/ops/renorm.h>
#include <ATen/ops/std.h>
#include <ATen/ops/std_mean.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/trapezoid.h>
#include <ATen/ops/var.h>
#include <ATen/ops/var_mean.h>

using namespace flodl;

namespace
{

/* What the mean of x is taken in: integers and bools in float32. */
std::optional<at::ScalarType> mean_type(const at::Tensor &x, fdl_dtype asked)
{
    if (asked == FDL_DTYPE_DEFAULT && at::isIntegralType(x.scalar_type(), true))
        return at::kFloat;
    return maybe_scalar_type(asked);
}

/* Of no dims: all of them. */
at::OptionalIntArrayRef some(const fdl_shape &dims)
{
    return dims.ndim ? at::OptionalIntArrayRef(ints(dims)) : std::nullopt;
}

template <class Opts>
std::optional<at::Scalar> correction(const Opts &o)
{
    return at::Scalar(fdl_opt_int(o.correction, 1));
}

at::Tensor picked(std::tuple<at::Tensor, at::Tensor> &&both, const result &indices)
{
    indices.give(std::move(std::get<1>(both)));
    return std::move(std::get<0>(both));
}

/* Of libtorch's results the one that isn't bool: uint8 gives uint8. */
at::Tensor as_bool(at::Tensor &&t)
{
    return t.scalar_type() == at::kBool ? std::move(t) : t.to(at::kBool);
}

} // namespace

/* ---- sums and means ---- */

fdl_tensor *fdl_sum(fdl_tensor *x)
{
    return OP((x), at::sum(x->t));
}

fdl_tensor *fdl_sum_opt(fdl_tensor *x, const fdl_sum_opts *opts)
{
    return OP((x), at::sum(x->t, maybe_scalar_type(or_default(opts).dtype)));
}

fdl_tensor *fdl_sum_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts)
{
    const fdl_sum_dim_opts &o = or_default(opts);
    return OP((x), at::sum(x->t, at::IntArrayRef((int64_t)dim), o.keepdim, maybe_scalar_type(o.dtype)));
}

fdl_tensor *fdl_sum_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_sum_dim_opts *opts)
{
    const fdl_sum_dim_opts &o = or_default(opts);
    return OP((x), at::sum(x->t, some(dims), o.keepdim, maybe_scalar_type(o.dtype)));
}

fdl_tensor *fdl_mean(fdl_tensor *x)
{
    return OP((x), at::mean(x->t, mean_type(x->t, FDL_DTYPE_DEFAULT)));
}

fdl_tensor *fdl_mean_opt(fdl_tensor *x, const fdl_sum_opts *opts)
{
    return OP((x), at::mean(x->t, mean_type(x->t, or_default(opts).dtype)));
}

fdl_tensor *fdl_mean_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts)
{
    const fdl_sum_dim_opts &o = or_default(opts);
    return OP((x), at::mean(x->t, at::IntArrayRef((int64_t)dim), o.keepdim, mean_type(x->t, o.dtype)));
}

fdl_tensor *fdl_mean_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_sum_dim_opts *opts)
{
    const fdl_sum_dim_opts &o = or_default(opts);
    return OP((x), at::mean(x->t, some(dims), o.keepdim, mean_type(x->t, o.dtype)));
}

fdl_tensor *fdl_prod(fdl_tensor *x)
{
    return OP((x), at::prod(x->t));
}

fdl_tensor *fdl_prod_opt(fdl_tensor *x, const fdl_sum_opts *opts)
{
    return OP((x), at::prod(x->t, maybe_scalar_type(or_default(opts).dtype)));
}

fdl_tensor *fdl_prod_dim_opt(fdl_tensor *x, int dim, const fdl_sum_dim_opts *opts)
{
    const fdl_sum_dim_opts &o = or_default(opts);
    return OP((x), at::prod(x->t, (int64_t)dim, o.keepdim, maybe_scalar_type(o.dtype)));
}

UNARY(fdl_nansum, at::nansum)
UNARY(fdl_nanmean, at::nanmean)

fdl_tensor *fdl_var(fdl_tensor *x)
{
    return fdl_var_opt(x, nullptr);
}

fdl_tensor *fdl_var_opt(fdl_tensor *x, const fdl_var_opts *opts)
{
    return OP((x), at::var(x->t, std::nullopt, correction(or_default(opts)), false));
}

fdl_tensor *fdl_std(fdl_tensor *x)
{
    return fdl_std_opt(x, nullptr);
}

fdl_tensor *fdl_std_opt(fdl_tensor *x, const fdl_var_opts *opts)
{
    return OP((x), at::std(x->t, std::nullopt, correction(or_default(opts)), false));
}

fdl_tensor *fdl_var_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts)
{
    const fdl_var_dim_opts &o = or_default(opts);
    return OP((x), at::var(x->t, at::IntArrayRef((int64_t)dim), correction(o), o.keepdim));
}

fdl_tensor *fdl_std_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts)
{
    const fdl_var_dim_opts &o = or_default(opts);
    return OP((x), at::std(x->t, at::IntArrayRef((int64_t)dim), correction(o), o.keepdim));
}

fdl_list fdl_var_mean_opt(fdl_tensor *x, const fdl_var_opts *opts)
{
    return OP((x), at::var_mean(x->t, std::nullopt, correction(or_default(opts)), false));
}

fdl_list fdl_std_mean_opt(fdl_tensor *x, const fdl_var_opts *opts)
{
    return OP((x), at::std_mean(x->t, std::nullopt, correction(or_default(opts)), false));
}

fdl_list fdl_var_mean_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts)
{
    const fdl_var_dim_opts &o = or_default(opts);
    return OP((x), at::var_mean(x->t, at::IntArrayRef((int64_t)dim), correction(o), o.keepdim));
}

fdl_list fdl_std_mean_dim_opt(fdl_tensor *x, int dim, const fdl_var_dim_opts *opts)
{
    const fdl_var_dim_opts &o = or_default(opts);
    return OP((x), at::std_mean(x->t, at::IntArrayRef((int64_t)dim), correction(o), o.keepdim));
}

fdl_tensor *fdl_cov_opt(fdl_tensor *x, const fdl_var_opts *opts)
{
    return OP((x), at::cov(x->t, fdl_opt_int(or_default(opts).correction, 1)));
}

UNARY(fdl_corrcoef, at::corrcoef)

fdl_tensor *fdl_dist_opt(fdl_tensor *a, fdl_tensor *b, const fdl_dist_opts *opts)
{
    return OP((a, b), at::dist(a->t, b->t, fdl_opt_double(or_default(opts).p, 2)));
}

fdl_tensor *fdl_renorm(fdl_tensor *x, double p, int dim, double maxnorm)
{
    return OP((x), at::renorm(x->t, p, dim, maxnorm));
}

fdl_tensor *fdl_norm(fdl_tensor *x)
{
    return OP((x), at::norm(x->t));
}

fdl_tensor *fdl_norm_dim_opt(fdl_tensor *x, double p, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::linalg_vector_norm(x->t, p, at::IntArrayRef((int64_t)dim), or_default(opts).keepdim));
}

fdl_tensor *fdl_logsumexp_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::logsumexp(x->t, at::IntArrayRef((int64_t)dim), or_default(opts).keepdim));
}

fdl_tensor *fdl_logsumexp_dims_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts)
{
    return OP((x), at::logsumexp(x->t, ints(dims), or_default(opts).keepdim));
}

/* ---- the largest, the smallest, the middle ---- */

fdl_tensor *fdl_max(fdl_tensor *x)
{
    return OP((x), at::max(x->t));
}

fdl_tensor *fdl_min(fdl_tensor *x)
{
    return OP((x), at::min(x->t));
}

fdl_tensor *fdl_max_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts)
{
    const fdl_pick_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::max(x->t, (int64_t)dim, o.keepdim), indices));
}

fdl_tensor *fdl_min_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts)
{
    const fdl_pick_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::min(x->t, (int64_t)dim, o.keepdim), indices));
}

fdl_tensor *fdl_amax_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts)
{
    return OP((x), at::amax(x->t, ints(dims), or_default(opts).keepdim));
}

fdl_tensor *fdl_amin_opt(fdl_tensor *x, fdl_shape dims, const fdl_dim_opts *opts)
{
    return OP((x), at::amin(x->t, ints(dims), or_default(opts).keepdim));
}

namespace
{

/* at::aminmax has no derivative: where one is recorded, its two halves stand for it. */
std::tuple<at::Tensor, at::Tensor> extremes(const at::Tensor &x, at::IntArrayRef dims, bool keepdim)
{
    if (x.requires_grad() && c10::GradMode::is_enabled())
        return {at::amin(x, dims, keepdim), at::amax(x, dims, keepdim)};
    return at::aminmax(x, dims.empty() ? std::nullopt : std::optional<int64_t>(dims[0]), keepdim);
}

} // namespace

fdl_list fdl_aminmax(fdl_tensor *x)
{
    return OP((x), extremes(x->t, {}, false));
}

fdl_list fdl_aminmax_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), extremes(x->t, at::IntArrayRef((int64_t)dim), or_default(opts).keepdim));
}

fdl_tensor *fdl_argmax_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::argmax(x->t, dim, or_default(opts).keepdim));
}

fdl_tensor *fdl_argmin_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::argmin(x->t, dim, or_default(opts).keepdim));
}

fdl_tensor *fdl_argmax_all(fdl_tensor *x)
{
    return OP((x), at::argmax(x->t));
}

fdl_tensor *fdl_argmin_all(fdl_tensor *x)
{
    return OP((x), at::argmin(x->t));
}

fdl_tensor *fdl_median(fdl_tensor *x)
{
    return OP((x), at::median(x->t));
}

fdl_tensor *fdl_nanmedian(fdl_tensor *x)
{
    return OP((x), at::nanmedian(x->t));
}

fdl_tensor *fdl_median_dim_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts)
{
    const fdl_pick_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::median(x->t, (int64_t)dim, o.keepdim), indices));
}

fdl_tensor *fdl_mode_opt(fdl_tensor *x, int dim, const fdl_pick_opts *opts)
{
    const fdl_pick_opts &o = or_default(opts);
    result indices(o.indices);
    return OP((x), picked(at::mode(x->t, (int64_t)dim, o.keepdim), indices));
}

fdl_tensor *fdl_nanquantile_opt(fdl_tensor *x, double q, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::nanquantile(x->t, q, (int64_t)dim, or_default(opts).keepdim));
}

fdl_tensor *fdl_quantile_opt(fdl_tensor *x, double q, int dim, const fdl_dim_opts *opts)
{
    return OP((x), at::quantile(x->t, q, (int64_t)dim, or_default(opts).keepdim));
}

/* ---- counting ---- */

fdl_tensor *fdl_count_nonzero(fdl_tensor *x)
{
    return OP((x), at::count_nonzero(x->t));
}

fdl_tensor *fdl_count_nonzero_dim(fdl_tensor *x, int dim)
{
    return OP((x), at::count_nonzero(x->t, at::IntArrayRef((int64_t)dim)));
}

fdl_tensor *fdl_any(fdl_tensor *x)
{
    return OP((x), as_bool(at::any(x->t)));
}

fdl_tensor *fdl_all(fdl_tensor *x)
{
    return OP((x), as_bool(at::all(x->t)));
}

fdl_tensor *fdl_any_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), as_bool(at::any(x->t, (int64_t)dim, or_default(opts).keepdim)));
}

fdl_tensor *fdl_all_dim_opt(fdl_tensor *x, int dim, const fdl_dim_opts *opts)
{
    return OP((x), as_bool(at::all(x->t, (int64_t)dim, or_default(opts).keepdim)));
}

fdl_tensor *fdl_histc(fdl_tensor *x, int64_t bins, double lo, double hi)
{
    return OP((x), at::histc(x->t, bins, lo, hi));
}

fdl_tensor *fdl_bincount_opt(fdl_tensor *x, const fdl_bincount_opts *opts)
{
    const fdl_bincount_opts &o = or_default(opts);
    return OP((x, opt(o.weights)), at::bincount(x->t, maybe(o.weights), o.minlength));
}

/* ---- running along a dim ---- */

fdl_tensor *fdl_cumsum(fdl_tensor *x, int dim)
{
    return OP((x), at::cumsum(x->t, dim));
}

fdl_tensor *fdl_cumprod(fdl_tensor *x, int dim)
{
    return OP((x), at::cumprod(x->t, dim));
}

fdl_tensor *fdl_logcumsumexp(fdl_tensor *x, int dim)
{
    return OP((x), at::logcumsumexp(x->t, dim));
}

fdl_tensor *fdl_cummax_opt(fdl_tensor *x, int dim, const fdl_cummax_opts *opts)
{
    result indices(or_default(opts).indices);
    return OP((x), picked(at::cummax(x->t, dim), indices));
}

fdl_tensor *fdl_cummin_opt(fdl_tensor *x, int dim, const fdl_cummax_opts *opts)
{
    result indices(or_default(opts).indices);
    return OP((x), picked(at::cummin(x->t, dim), indices));
}

fdl_tensor *fdl_diff(fdl_tensor *x, int dim)
{
    return OP((x), at::diff(x->t, 1, dim));
}

fdl_tensor *fdl_trapezoid_opt(fdl_tensor *y, int dim, const fdl_trapezoid_opts *opts)
{
    const fdl_trapezoid_opts &o = or_default(opts);
    return OP((y, opt(o.x)), o.x ? at::trapezoid(y->t, o.x->t, (int64_t)dim)
                                 : at::trapezoid(y->t, scalar(fdl_opt_double(o.dx, 1)), dim));
}

fdl_tensor *fdl_cumulative_trapezoid_opt(fdl_tensor *y, int dim, const fdl_trapezoid_opts *opts)
{
    const fdl_trapezoid_opts &o = or_default(opts);
    return OP((y, opt(o.x)), o.x ? at::cumulative_trapezoid(y->t, o.x->t, (int64_t)dim)
                                 : at::cumulative_trapezoid(y->t, scalar(fdl_opt_double(o.dx, 1)), dim));
}
