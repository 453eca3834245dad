/* Operations on lists of tensors. */
#include "flodl/foreach.h"
#include "internal.h"

#include <ATen/ops/_foreach_add.h>
#include <ATen/ops/_foreach_addcdiv.h>
#include <ATen/ops/_foreach_addcmul.h>
#include <ATen/ops/_foreach_clamp_max.h>
#include <ATen/ops/_foreach_clamp_min.h>
#include <ATen/ops/_foreach_copy.h>
#include <ATen/ops/_foreach_div.h>
#include <ATen/ops/_foreach_lerp.h>
#include <ATen/ops/_foreach_maximum.h>
#include <ATen/ops/_foreach_mul.h>
#include <ATen/ops/_foreach_neg.h>
#include <ATen/ops/_foreach_norm.h>
#include <ATen/ops/_foreach_sqrt.h>
#include <ATen/ops/_foreach_zero.h>

using namespace flodl;

namespace
{

/* Whether there is anything to do. */
template <class... Lists>
bool some(fdl_list a, Lists... others)
{
    [[maybe_unused]] auto same = [&](fdl_list b) {
        if (b.n != a.n)
            fail(FDL_E_ARG, "lists of %d and %d tensors", a.n, b.n);
    };
    (same(others), ...);
    return a.n > 0;
}

void one_element(fdl_tensor *s)
{
    if (s->t.numel() != 1)
        fail(FDL_E_SHAPE, "the factor has %lld elements, not 1", (long long)s->t.numel());
}

} // namespace

fdl_status fdl_foreach_add_opt_(fdl_list a, fdl_list b, const fdl_alpha_opts *opts)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_add_(tensors(a), tensors(b), scalar(opts ? fdl_opt_double(opts->alpha, 1) : 1));
    });
}

fdl_status fdl_foreach_add_scalar_(fdl_list a, double s)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_add_(tensors(a), scalar(s));
    });
}

fdl_status fdl_foreach_mul_scalar_(fdl_list a, double s)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_mul_(tensors(a), scalar(s));
    });
}

fdl_status fdl_foreach_mul_(fdl_list a, fdl_tensor *s)
{
    return OP_DO((a, s), {
        one_element(s);
        if (some(a))
            at::_foreach_mul_(tensors(a), s->t);
    });
}

fdl_status fdl_foreach_add_scaled_(fdl_list a, fdl_list b, fdl_tensor *s)
{
    return OP_DO((a, b, s), {
        one_element(s);
        if (some(a, b)) {
            std::vector<at::Tensor> scaled = at::_foreach_mul(tensors(b), s->t);
            at::_foreach_add_(tensors(a), scaled);
        }
    });
}

fdl_status fdl_foreach_mul_list_(fdl_list a, fdl_list b)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_mul_(tensors(a), tensors(b));
    });
}

fdl_status fdl_foreach_div_(fdl_list a, fdl_list b)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_div_(tensors(a), tensors(b));
    });
}

fdl_status fdl_foreach_zero_(fdl_list a)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_zero_(tensors(a));
    });
}

fdl_status fdl_foreach_sqrt_(fdl_list a)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_sqrt_(tensors(a));
    });
}

fdl_status fdl_foreach_neg_(fdl_list a)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_neg_(tensors(a));
    });
}

fdl_status fdl_foreach_lerp_(fdl_list a, fdl_list b, double w)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_lerp_(tensors(a), tensors(b), at::Scalar(w));
    });
}

fdl_status fdl_foreach_addcmul_(fdl_list a, fdl_list b, fdl_list c, double value)
{
    return OP_DO((a, b, c), {
        if (some(a, b, c))
            at::_foreach_addcmul_(tensors(a), tensors(b), tensors(c), scalar(value));
    });
}

fdl_status fdl_foreach_addcdiv_(fdl_list a, fdl_list b, fdl_list c, double value)
{
    return OP_DO((a, b, c), {
        if (some(a, b, c))
            at::_foreach_addcdiv_(tensors(a), tensors(b), tensors(c), scalar(value));
    });
}

fdl_status fdl_foreach_maximum_(fdl_list a, fdl_list b)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_maximum_(tensors(a), tensors(b));
    });
}

fdl_status fdl_foreach_clamp_max_(fdl_list a, double s)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_clamp_max_(tensors(a), scalar(s));
    });
}

fdl_status fdl_foreach_clamp_min_(fdl_list a, double s)
{
    return OP_DO((a), {
        if (some(a))
            at::_foreach_clamp_min_(tensors(a), scalar(s));
    });
}

fdl_status fdl_foreach_copy_(fdl_list a, fdl_list b)
{
    return OP_DO((a, b), {
        if (some(a, b))
            at::_foreach_copy_(tensors(a), tensors(b));
    });
}

fdl_list fdl_foreach_sqrt(fdl_list a)
{
    return OP_DO((a), { return some(a) ? at::_foreach_sqrt(tensors(a)) : std::vector<at::Tensor>(); });
}

fdl_list fdl_foreach_neg(fdl_list a)
{
    return OP_DO((a), { return some(a) ? at::_foreach_neg(tensors(a)) : std::vector<at::Tensor>(); });
}

fdl_list fdl_foreach_add(fdl_list a, fdl_list b, double alpha)
{
    return OP_DO((a, b), {
        return some(a, b) ? at::_foreach_add(tensors(a), tensors(b), scalar(alpha))
                          : std::vector<at::Tensor>();
    });
}

fdl_list fdl_foreach_norm_opt(fdl_list a, const fdl_foreach_norm_opts *opts)
{
    return OP_DO((a), {
        double ord = opts ? fdl_opt_double(opts->ord, 2) : 2;
        return some(a) ? at::_foreach_norm(tensors(a), at::Scalar(ord)) : std::vector<at::Tensor>();
    });
}
