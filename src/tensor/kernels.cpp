/* Fused optimizer steps and the kernels of gradient scaling. */
#include "flodl/kernels.h"
#include "internal.h"

#include <ATen/ops/_amp_foreach_non_finite_check_and_unscale.h>
#include <ATen/ops/_amp_update_scale.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_fused_adagrad.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/_fused_sgd.h>

using namespace flodl;

namespace
{

void same_length(fdl_list a, fdl_list b, const char *what)
{
    if (a.n != b.n)
        fail(FDL_E_ARG, "%d parameters but %d %s", a.n, b.n, what);
}

/* Whether elements follow each other in one order. The stride of an extent of 1 says nothing. */
bool same_order(const at::Tensor &p, const at::Tensor &x)
{
    if (p.strides() == x.strides())
        return true;
    for (int64_t d = 0; d < p.dim(); d++)
        if (p.size(d) > 1 && p.stride(d) != x.stride(d))
            return false;
    return true;
}

/* The fused kernels walk over memory as it lies, and check nothing. */
void alike(fdl_list params, fdl_list other, const char *what)
{
    for (int i = 0; i < other.n; i++) {
        const at::Tensor &p = params.at[i]->t, &x = other.at[i]->t;
        if (FDL_LIKELY(p.sizes() == x.sizes() && same_order(p, x) && p.scalar_type() == x.scalar_type() &&
                       p.device() == x.device() && p.is_non_overlapping_and_dense()))
            continue;
        if (p.sizes() != x.sizes())
            fail(FDL_E_SHAPE, "%s[%d] has another shape than params[%d]", what, i, i);
        if (p.scalar_type() != x.scalar_type())
            fail(FDL_E_DTYPE, "%s[%d] has another dtype than params[%d]", what, i, i);
        if (p.device() != x.device())
            fail(FDL_E_DEVICE, "%s[%d] is on another device than params[%d]", what, i, i);
        fail(FDL_E_ARG,
             "params[%d] and %s[%d] must lie in memory without gaps and in the same order; fdl_contiguous "
             "makes them",
             i, what, i);
    }
}

/* Tensors that are alike, with the strides of the parameters also where the extent is 1: libtorch compares those too. */
class strided_as
{
  public:
    strided_as(fdl_list params, fdl_list other) : given(other)
    {
        for (int i = 0; i < other.n; i++) {
            const at::Tensor &p = params.at[i]->t, &x = other.at[i]->t;
            if (FDL_LIKELY(p.strides() == x.strides()))
                continue;
            if (own.empty())
                for (int k = 0; k < other.n; k++)
                    own.push_back(other.at[k]->t);
            own[(size_t)i] = x.as_strided(p.sizes(), p.strides());
        }
    }
    operator at::TensorList() const
    {
        return own.empty() ? at::TensorList(given) : at::TensorList(own);
    }

  private:
    tensors given;
    std::vector<at::Tensor> own;
};

void one_element(fdl_tensor *x, const char *what)
{
    if (x->t.numel() != 1)
        fail(FDL_E_SHAPE, "%s has %lld elements, not 1", what, (long long)x->t.numel());
}

void counters(fdl_list steps)
{
    for (int i = 0; i < steps.n; i++)
        if (steps.at[i]->t.numel() != 1 || steps.at[i]->t.scalar_type() != at::kFloat)
            fail(FDL_E_ARG, "steps[%d] is not one float32", i);
}

/* Older libtorches take the rate as a number only, and have no kernel for CUDA. */
template <class Rate, class = void>
struct adagrad_takes : std::false_type {
};
template <class Rate>
struct adagrad_takes<
    Rate, std::void_t<decltype(at::_fused_adagrad_(
              std::declval<at::TensorList>(), std::declval<at::TensorList>(), std::declval<at::TensorList>(),
              std::declval<at::TensorList>(), std::declval<Rate>(), 0., 0., 0., false))>> : std::true_type {
};

bool has_adagrad(const char *overload, c10::DispatchKey key)
{
    auto schema = c10::Dispatcher::singleton().findSchema({"aten::_fused_adagrad_", overload});
    return schema && schema->hasKernelForDispatchKey(key);
}
bool adagrad_on_host()
{
    static const bool there = has_adagrad("", c10::DispatchKey::CPU);
    return there;
}
bool adagrad_on_cuda()
{
    static const bool there =
        adagrad_takes<at::Tensor>::value && has_adagrad("tensor_lr", c10::DispatchKey::CUDA);
    return there;
}

template <class Rate>
void fused_adagrad(fdl_list params, fdl_list grads, fdl_list sums, fdl_list steps, const Rate &lr,
                   const fdl_k_adagrad_opts &o)
{
    if constexpr (adagrad_takes<Rate>::value)
        at::_fused_adagrad_(tensors(params), strided_as(params, grads), strided_as(params, sums),
                            tensors(steps), lr, fdl_opt_double(o.lr_decay, 0),
                            fdl_opt_double(o.weight_decay, 0), fdl_opt_double(o.eps, 1e-10), o.maximize,
                            maybe(o.grad_scale), maybe(o.found_inf));
    else
        fail(FDL_E_UNSUPPORTED, "this libtorch has no such kernel for CUDA");
}

} // namespace

fdl_status fdl_k_fused_adam_opt_(fdl_list params, fdl_list grads, fdl_list exp_avgs, fdl_list exp_avg_sqs,
                                 fdl_list steps, fdl_tensor *lr, const fdl_k_adam_opts *opts)
{
    static const fdl_k_adam_opts none = {};
    const fdl_k_adam_opts &o = opts ? *opts : none;
    fdl_list max_exp_avg_sqs = optional(o.max_exp_avg_sqs);
    option grad_scale = opt(o.grad_scale), found_inf = opt(o.found_inf);
    return OP_DO((params, grads, exp_avgs, exp_avg_sqs, max_exp_avg_sqs, steps, lr, grad_scale, found_inf), {
        same_length(params, grads, "gradients");
        same_length(params, exp_avgs, "exp_avgs");
        same_length(params, exp_avg_sqs, "exp_avg_sqs");
        same_length(params, steps, "steps");
        if (o.amsgrad)
            same_length(params, max_exp_avg_sqs, "max_exp_avg_sqs");
        one_element(lr, "lr");
        if (!params.n)
            return;
        alike(params, params, "params");
        alike(params, grads, "grads");
        alike(params, exp_avgs, "exp_avgs");
        alike(params, exp_avg_sqs, "exp_avg_sqs");
        alike(params, max_exp_avg_sqs, "max_exp_avg_sqs");
        counters(steps);
        double beta1 = fdl_opt_double(o.beta1, 0.9), beta2 = fdl_opt_double(o.beta2, 0.999);
        double eps = fdl_opt_double(o.eps, 1e-8), decay = fdl_opt_double(o.weight_decay, 0);
        auto kernel = [&](auto &&fused) {
            fused(tensors(params), strided_as(params, grads), strided_as(params, exp_avgs),
                  strided_as(params, exp_avg_sqs), strided_as(params, max_exp_avg_sqs), tensors(steps));
        };
        if (o.decoupled)
            kernel([&](auto &&...lists) {
                at::_fused_adamw_(lists..., lr->t, beta1, beta2, decay, eps, o.amsgrad, o.maximize,
                                  maybe(o.grad_scale), maybe(o.found_inf));
            });
        else
            kernel([&](auto &&...lists) {
                at::_fused_adam_(lists..., lr->t, beta1, beta2, decay, eps, o.amsgrad, o.maximize,
                                 maybe(o.grad_scale), maybe(o.found_inf));
            });
    });
}

fdl_status fdl_k_fused_adagrad_opt_(fdl_list params, fdl_list grads, fdl_list sums, fdl_list steps,
                                    fdl_tensor *lr, const fdl_k_adagrad_opts *opts)
{
    const fdl_k_adagrad_opts &o = or_default(opts);
    option grad_scale = opt(o.grad_scale), found_inf = opt(o.found_inf);
    return OP_DO((params, grads, sums, steps, lr, grad_scale, found_inf), {
        same_length(params, grads, "gradients");
        same_length(params, sums, "sums");
        same_length(params, steps, "steps");
        one_element(lr, "lr");
        if (!params.n)
            return;
        alike(params, params, "params");
        alike(params, grads, "grads");
        alike(params, sums, "sums");
        counters(steps);
        bool host = params.at[0]->t.device().is_cpu();
        if (host && (o.grad_scale || o.found_inf))
            fail(FDL_E_UNSUPPORTED, "the kernel for the CPU unscales nothing");
        if (host)
            fused_adagrad(params, grads, sums, steps, lr->t.item<double>(), o);
        else
            fused_adagrad(params, grads, sums, steps, lr->t, o);
    });
}

bool fdl_k_has_fused_adagrad(fdl_device d)
{
    return OP((), d.type == FDL_DEVICE_TYPE_CPU ? adagrad_on_host() : adagrad_on_cuda());
}

fdl_status fdl_k_fused_sgd_opt_(fdl_list params, fdl_list grads, fdl_list momentum_buffers, fdl_tensor *lr,
                                const fdl_k_sgd_opts *opts)
{
    static const fdl_k_sgd_opts none = {};
    const fdl_k_sgd_opts &o = opts ? *opts : none;
    momentum_buffers = optional(momentum_buffers);
    option grad_scale = opt(o.grad_scale), found_inf = opt(o.found_inf);
    return OP_DO((params, grads, momentum_buffers, lr, grad_scale, found_inf), {
        same_length(params, grads, "gradients");
        double momentum = fdl_opt_double(o.momentum, 0);
        if (momentum != 0)
            same_length(params, momentum_buffers, "momentum buffers");
        one_element(lr, "lr");
        alike(params, params, "params");
        alike(params, grads, "grads");
        if (momentum != 0)
            alike(params, momentum_buffers, "momentum_buffers");
        if (params.n)
            at::_fused_sgd_(tensors(params), strided_as(params, grads), strided_as(params, momentum_buffers),
                            fdl_opt_double(o.weight_decay, 0), momentum, lr->t,
                            fdl_opt_double(o.dampening, 0), o.nesterov, o.maximize, o.first_step,
                            maybe(o.grad_scale), maybe(o.found_inf));
    });
}

fdl_status fdl_k_amp_unscale_(fdl_list grads, fdl_tensor *found_inf, fdl_tensor *inv_scale)
{
    return OP_DO((grads, found_inf, inv_scale), {
        one_element(found_inf, "found_inf");
        one_element(inv_scale, "inv_scale");
        if (grads.n)
            at::_amp_foreach_non_finite_check_and_unscale_(tensors(grads), found_inf->t, inv_scale->t);
    });
}

fdl_status fdl_k_amp_update_scale_(fdl_tensor *scale, fdl_tensor *growth_tracker, fdl_tensor *found_inf,
                                   double growth, double backoff, int64_t interval)
{
    return OP_DO((scale, growth_tracker, found_inf), {
        one_element(scale, "scale");
        one_element(growth_tracker, "growth_tracker");
        one_element(found_inf, "found_inf");
        at::_amp_update_scale_(scale->t, growth_tracker->t, found_inf->t, growth, backoff, interval);
    });
}
