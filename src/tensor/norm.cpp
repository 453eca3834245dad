/* Normalisation, similarity. */
#include "flodl/norm.h"
#include "spatial.h"

#include <ATen/ops/add.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/avg_pool3d.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/cosine_similarity.h>
#include <ATen/ops/div.h>
#include <ATen/ops/group_norm.h>
#include <ATen/ops/instance_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pairwise_distance.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rms_norm.h>

using namespace flodl;

namespace
{

double positive(const char *name, double value)
{
    if (!(value >= 0))
        fail(FDL_E_ARG, ".%s is %g; it is at least 0", name, value);
    return value;
}

double eps_of(double option)
{
    return positive("eps", fdl_opt_double(option, 1e-5));
}

void floating(const at::Tensor &x)
{
    if (!at::isFloatingType(x.scalar_type()))
        fail(FDL_E_DTYPE, "normalises floating dtypes; fdl_float converts");
}

/* The trailing dims of x that are normalised. */
at::IntArrayRef trailing(const at::Tensor &x, const fdl_shape &shape)
{
    at::IntArrayRef dims = ints(shape);
    if (dims.empty() || (int64_t)dims.size() > x.dim() ||
        x.sizes().slice((size_t)x.dim() - dims.size()) != dims)
        fail(FDL_E_SHAPE, "x %s doesn't end in the dims %s", shape_text(x.sizes()).text,
             shape_text(dims).text);
    return dims;
}

void fits(const char *name, fdl_tensor *option, at::IntArrayRef shape)
{
    if (option && option->t.sizes() != shape)
        fail(FDL_E_SHAPE, ".%s is %s, got %s", name, shape_text(shape).text,
             shape_text(option->t.sizes()).text);
}

/* Channels of [N, C, *], and the options that have one value for each. */
template <class Opts>
int64_t channels(const at::Tensor &x, const Opts &o, int64_t least)
{
    floating(x);
    if (x.dim() < least)
        fail(FDL_E_SHAPE,
             least == 2 ? "needs [N, C, *]" : "needs [N, C, L], [N, C, H, W] or [N, C, D, H, W]");
    int64_t c = x.size(1);
    fits("weight", o.weight, c);
    fits("bias", o.bias, c);
    return c;
}

template <class Opts>
void check_running(const Opts &o, int64_t c)
{
    if (!o.running_mean != !o.running_var)
        fail(FDL_E_ARG, ".running_mean and .running_var go together");
    fits("running_mean", o.running_mean, c);
    fits("running_var", o.running_var, c);
}

int64_t values(const at::Tensor &x, int64_t first)
{
    int64_t n = first == 0 ? x.size(0) : 1;
    for (int64_t i = 2; i < x.dim(); i++)
        n *= x.size(i);
    return n;
}

at::Tensor local_response_norm(const at::Tensor &x, int64_t size, const fdl_local_response_norm_opts &o)
{
    floating(x);
    if (x.dim() < 3)
        fail(FDL_E_SHAPE, "needs [N, C, *], 3 dims at least");
    if (size < 1 || size > INT32_MAX)
        fail(FDL_E_ARG, "size is %lld; it is from 1 to %d", (long long)size, INT32_MAX);
    if (!x.numel())
        return x;
    int64_t before = size / 2, after = (size - 1) / 2;
    at::Tensor squares = at::mul(x, x), mean;
    if (x.dim() == 3)
        mean = at::avg_pool2d(at::constant_pad_nd(squares.unsqueeze(1), {0, 0, before, after}), {size, 1}, 1)
                   .squeeze(1);
    else {
        at::Tensor planes = squares.reshape({x.size(0), 1, x.size(1), x.size(2), -1});
        mean = at::avg_pool3d(at::constant_pad_nd(planes, {0, 0, 0, 0, before, after}), {size, 1, 1}, 1)
                   .squeeze(1)
                   .reshape(x.sizes());
    }
    at::Tensor scale = at::add(at::mul(mean, fdl_opt_double(o.alpha, 1e-4)), fdl_opt_double(o.k, 1));
    return at::div(x, at::pow(scale, fdl_opt_double(o.beta, 0.75)));
}

} // namespace

fdl_tensor *fdl_layer_norm_opt(fdl_tensor *x, fdl_shape shape, const fdl_layer_norm_opts *opts)
{
    const fdl_layer_norm_opts &o = or_default(opts);
    return OP_DO((x, opt(o.weight), opt(o.bias)), {
        floating(x->t);
        at::IntArrayRef dims = trailing(x->t, shape);
        fits("weight", o.weight, dims);
        fits("bias", o.bias, dims);
        return at::layer_norm(x->t, dims, maybe(o.weight), maybe(o.bias), eps_of(o.eps));
    });
}

fdl_tensor *fdl_rms_norm_opt(fdl_tensor *x, fdl_shape shape, const fdl_rms_norm_opts *opts)
{
    const fdl_rms_norm_opts &o = or_default(opts);
    return OP_DO((x, opt(o.weight)), {
        floating(x->t);
        at::IntArrayRef dims = trailing(x->t, shape);
        fits("weight", o.weight, dims);
        double eps = positive("eps", fdl_opt_double(o.eps, HUGE_VAL));
        return at::rms_norm(x->t, dims, maybe(o.weight),
                            eps == HUGE_VAL ? std::nullopt : std::optional<double>(eps));
    });
}

fdl_tensor *fdl_group_norm_opt(fdl_tensor *x, int64_t groups, const fdl_group_norm_opts *opts)
{
    const fdl_group_norm_opts &o = or_default(opts);
    return OP_DO((x, opt(o.weight), opt(o.bias)), {
        if (groups < 1)
            fail(FDL_E_ARG, "groups is %lld; it is at least 1", (long long)groups);
        int64_t c = channels(x->t, o, 2);
        if (c < 1 || c % groups)
            fail(FDL_E_SHAPE, "%lld channels don't divide into %lld groups", (long long)c, (long long)groups);
        return at::group_norm(x->t, groups, maybe(o.weight), maybe(o.bias), eps_of(o.eps));
    });
}

fdl_tensor *fdl_batch_norm_opt(fdl_tensor *x, const fdl_batch_norm_opts *opts)
{
    const fdl_batch_norm_opts &o = or_default(opts);
    return OP_DO((x, opt(o.weight), opt(o.bias), opt(o.running_mean), opt(o.running_var)), {
        int64_t c = channels(x->t, o, 2);
        check_running(o, c);
        if (!o.training && !o.running_mean)
            fail(FDL_E_ARG, "without .training it needs .running_mean and .running_var");
        if (o.training && values(x->t, 0) == 1)
            fail(FDL_E_SHAPE, "needs more than 1 value per channel in training, got %s",
                 shape_text(x->t.sizes()).text);
        return at::batch_norm(x->t, maybe(o.weight), maybe(o.bias), maybe(o.running_mean),
                              maybe(o.running_var), o.training, fdl_opt_double(o.momentum, 0.1),
                              eps_of(o.eps), true);
    });
}

fdl_tensor *fdl_instance_norm_opt(fdl_tensor *x, const fdl_instance_norm_opts *opts)
{
    const fdl_instance_norm_opts &o = or_default(opts);
    return OP_DO((x, opt(o.weight), opt(o.bias), opt(o.running_mean), opt(o.running_var)), {
        int64_t c = channels(x->t, o, 3);
        check_running(o, c);
        if (o.no_input_stats && !o.running_mean)
            fail(FDL_E_ARG, ".no_input_stats needs .running_mean and .running_var");
        if (!o.no_input_stats && values(x->t, 1) == 1)
            fail(FDL_E_SHAPE, "needs more than 1 place, got %s", shape_text(x->t.sizes()).text);
        return at::instance_norm(x->t, maybe(o.weight), maybe(o.bias), maybe(o.running_mean),
                                 maybe(o.running_var), !o.no_input_stats, fdl_opt_double(o.momentum, 0.1),
                                 eps_of(o.eps), true);
    });
}

fdl_tensor *fdl_local_response_norm_opt(fdl_tensor *x, int64_t size, const fdl_local_response_norm_opts *opts)
{
    return OP((x), local_response_norm(x->t, size, or_default(opts)));
}

fdl_tensor *fdl_normalize_opt(fdl_tensor *x, int dim, const fdl_normalize_opts *opts)
{
    const fdl_normalize_opts &o = or_default(opts);
    return OP_DO((x), {
        double eps = positive("eps", fdl_opt_double(o.eps, 1e-12));
        at::Tensor norm =
            at::linalg_vector_norm(x->t, fdl_opt_double(o.p, 2), at::IntArrayRef((int64_t)dim), true);
        return at::div(x->t, norm.clamp_min(eps));
    });
}

fdl_tensor *fdl_cosine_similarity_opt(fdl_tensor *a, fdl_tensor *b, int dim,
                                      const fdl_cosine_similarity_opts *opts)
{
    return OP((a, b), at::cosine_similarity(a->t, b->t, dim,
                                            positive("eps", fdl_opt_double(or_default(opts).eps, 1e-8))));
}

fdl_tensor *fdl_pairwise_distance_opt(fdl_tensor *a, fdl_tensor *b, const fdl_pairwise_distance_opts *opts)
{
    const fdl_pairwise_distance_opts &o = or_default(opts);
    return OP((a, b), at::pairwise_distance(a->t, b->t, fdl_opt_double(o.p, 2), fdl_opt_double(o.eps, 1e-6),
                                            o.keepdim));
}
