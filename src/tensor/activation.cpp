/* Activations. */
#include "flodl/activation.h"
#include "internal.h"
#include "random.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/celu.h>
#include <ATen/ops/div.h>
#include <ATen/ops/elu.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/hardshrink.h>
#include <ATen/ops/hardsigmoid.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/hardtanh.h>
#include <ATen/ops/leaky_relu.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mish.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/prelu.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/relu6.h>
#include <ATen/ops/rrelu.h>
#include <ATen/ops/selu.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/softplus.h>
#include <ATen/ops/softshrink.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/threshold.h>
#include <ATen/ops/zeros_like.h>

#include <c10/core/WrapDimMinimal.h>

using namespace flodl;

namespace
{

/* The two halves of x along dim. */
std::pair<at::Tensor, at::Tensor> halves(const at::Tensor &x, int dim)
{
    int64_t d = c10::maybe_wrap_dim(dim, x.dim(), /*wrap_scalar=*/false);
    int64_t n = x.size(d);
    if (n % 2)
        fail(FDL_E_SHAPE, "halves need an even extent, dim %d has %lld", dim, (long long)n);
    return {x.narrow(d, 0, n / 2), x.narrow(d, n / 2, n / 2)};
}

} // namespace

UNARY(fdl_relu, at::relu)
UNARY(fdl_sigmoid, at::sigmoid)
UNARY(fdl_tanh, at::tanh)
UNARY(fdl_silu, at::silu)
UNARY(fdl_mish, at::mish)
UNARY(fdl_selu, at::selu)
UNARY(fdl_hardswish, at::hardswish)
UNARY(fdl_hardsigmoid, at::hardsigmoid)
UNARY(fdl_relu6, at::relu6)
UNARY(fdl_logsigmoid, at::log_sigmoid)
BINARY(fdl_prelu, at::prelu)

fdl_tensor *fdl_softsign(fdl_tensor *x)
{
    return OP((x), at::div(x->t, at::add(at::abs(x->t), 1)));
}

fdl_tensor *fdl_tanhshrink(fdl_tensor *x)
{
    return OP((x), at::sub(x->t, at::tanh(x->t)));
}

fdl_tensor *fdl_gelu(fdl_tensor *x)
{
    return OP((x), at::gelu(x->t));
}

fdl_tensor *fdl_gelu_opt(fdl_tensor *x, const fdl_gelu_opts *opts)
{
    fdl_gelu_kind kind = or_default(opts).approximate;
    return OP_DO((x), {
        if (kind != FDL_GELU_NONE && kind != FDL_GELU_TANH)
            fail(FDL_E_ARG, ".approximate is FDL_GELU_NONE or FDL_GELU_TANH, got %d", (int)kind);
        return at::gelu(x->t, kind == FDL_GELU_TANH ? "tanh" : "none");
    });
}

fdl_tensor *fdl_leaky_relu(fdl_tensor *x)
{
    return fdl_leaky_relu_opt(x, nullptr);
}

fdl_tensor *fdl_leaky_relu_opt(fdl_tensor *x, const fdl_leaky_relu_opts *opts)
{
    return OP((x), at::leaky_relu(x->t, fdl_opt_double(or_default(opts).negative_slope, 0.01)));
}

fdl_tensor *fdl_elu(fdl_tensor *x)
{
    return fdl_elu_opt(x, nullptr);
}

fdl_tensor *fdl_elu_opt(fdl_tensor *x, const fdl_elu_opts *opts)
{
    return OP((x), at::elu(x->t, fdl_opt_double(or_default(opts).alpha, 1)));
}

fdl_tensor *fdl_celu(fdl_tensor *x)
{
    return fdl_celu_opt(x, nullptr);
}

fdl_tensor *fdl_celu_opt(fdl_tensor *x, const fdl_elu_opts *opts)
{
    return OP((x), at::celu(x->t, fdl_opt_double(or_default(opts).alpha, 1)));
}

fdl_tensor *fdl_softplus(fdl_tensor *x)
{
    return fdl_softplus_opt(x, nullptr);
}

fdl_tensor *fdl_softplus_opt(fdl_tensor *x, const fdl_softplus_opts *opts)
{
    const fdl_softplus_opts &o = or_default(opts);
    return OP_DO((x), {
        double beta = fdl_opt_double(o.beta, 1);
        if (beta == 0)
            fail(FDL_E_ARG, ".beta is 0, and softplus divides by it");
        return at::softplus(x->t, beta, fdl_opt_double(o.threshold, 20));
    });
}

fdl_tensor *fdl_hardtanh(fdl_tensor *x)
{
    return fdl_hardtanh_opt(x, nullptr);
}

fdl_tensor *fdl_hardtanh_opt(fdl_tensor *x, const fdl_hardtanh_opts *opts)
{
    const fdl_hardtanh_opts &o = or_default(opts);
    return OP_DO((x), {
        double min = fdl_opt_double(o.min, -1), max = fdl_opt_double(o.max, 1);
        if (min > max)
            fail(FDL_E_ARG, ".min %g is above .max %g", min, max);
        return at::hardtanh(x->t, scalar(min), scalar(max));
    });
}

fdl_tensor *fdl_softshrink(fdl_tensor *x)
{
    return fdl_softshrink_opt(x, nullptr);
}

fdl_tensor *fdl_softshrink_opt(fdl_tensor *x, const fdl_shrink_opts *opts)
{
    return OP((x), at::softshrink(x->t, fdl_opt_double(or_default(opts).lambda, 0.5)));
}

fdl_tensor *fdl_hardshrink(fdl_tensor *x)
{
    return fdl_hardshrink_opt(x, nullptr);
}

fdl_tensor *fdl_hardshrink_opt(fdl_tensor *x, const fdl_shrink_opts *opts)
{
    return OP((x), at::hardshrink(x->t, fdl_opt_double(or_default(opts).lambda, 0.5)));
}

fdl_tensor *fdl_threshold(fdl_tensor *x, double at, double value)
{
    return OP((x), at::threshold(x->t, scalar(at), scalar(value)));
}

fdl_tensor *fdl_rrelu(fdl_tensor *x)
{
    return fdl_rrelu_opt(x, nullptr);
}

fdl_tensor *fdl_rrelu_opt(fdl_tensor *x, const fdl_rrelu_opts *opts)
{
    const fdl_rrelu_opts &o = or_default(opts);
    return OP((x), at::rrelu(x->t, fdl_opt_double(o.lower, 1. / 8), fdl_opt_double(o.upper, 1. / 3),
                             o.training, generator(o.generator)));
}

fdl_tensor *fdl_softmax(fdl_tensor *x, int dim)
{
    return OP((x), at::softmax(x->t, dim));
}

fdl_tensor *fdl_log_softmax(fdl_tensor *x, int dim)
{
    return OP((x), at::log_softmax(x->t, dim));
}

fdl_tensor *fdl_softmin(fdl_tensor *x, int dim)
{
    return OP((x), at::softmax(at::neg(x->t), dim));
}

fdl_tensor *fdl_glu(fdl_tensor *x, int dim)
{
    return OP((x), at::glu(x->t, dim));
}

fdl_tensor *fdl_swiglu(fdl_tensor *x, int dim)
{
    return OP_DO((x), {
        auto [a, b] = halves(x->t, dim);
        return at::mul(a, at::silu(b));
    });
}

fdl_tensor *fdl_geglu(fdl_tensor *x, int dim)
{
    return OP_DO((x), {
        auto [a, b] = halves(x->t, dim);
        return at::mul(a, at::gelu(b));
    });
}

fdl_tensor *fdl_gumbel_softmax_opt(fdl_tensor *x, int dim, const fdl_gumbel_softmax_opts *opts)
{
    const fdl_gumbel_softmax_opts &o = or_default(opts);
    return OP_DO((x), {
        double tau = fdl_opt_double(o.tau, 1);
        if (!(tau > 0))
            fail(FDL_E_ARG, ".tau is a temperature above 0, got %g", tau);
        at::Tensor noise = at::empty_like(x->t).exponential_(1, generator(o.generator)).log().neg();
        at::Tensor soft = at::softmax(at::div(at::add(x->t, noise), tau), dim);
        if (!o.hard)
            return soft;
        at::Tensor chosen = at::argmax(soft, dim, true);
        return at::add(at::sub(at::zeros_like(soft).scatter_(dim, chosen, 1.0), soft.detach()), soft);
    });
}

fdl_tensor *fdl_softmax_opt(fdl_tensor *x, int dim, const fdl_softmax_opts *opts)
{
    return OP((x), at::softmax(x->t, (int64_t)dim, maybe_scalar_type(or_default(opts).dtype)));
}

fdl_tensor *fdl_log_softmax_opt(fdl_tensor *x, int dim, const fdl_softmax_opts *opts)
{
    return OP((x), at::log_softmax(x->t, (int64_t)dim, maybe_scalar_type(or_default(opts).dtype)));
}
