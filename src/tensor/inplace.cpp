/* In-place operations. */
#include "flodl/inplace.h"
#include "internal.h"

#include <ATen/core/Generator.h>
#include <ATen/ops/add.h>
#include <ATen/ops/addcdiv.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/copy.h>
#include <ATen/ops/div.h>
#include <ATen/ops/fill.h>
#include <ATen/ops/index_copy.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/masked_fill.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/normal.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/uniform.h>
#include <ATen/ops/zero.h>

using namespace flodl;

namespace
{

double alpha_of(const fdl_alpha_opts *o)
{
    return o ? fdl_opt_double(o->alpha, 1) : 1;
}

double value_of(const fdl_value_opts *o)
{
    return o ? fdl_opt_double(o->value, 1) : 1;
}

} // namespace

fdl_status fdl_add_opt_(fdl_tensor *x, fdl_tensor *y, const fdl_alpha_opts *opts)
{
    return OP_DO((x, y), { x->t.add_(y->t, scalar(alpha_of(opts))); });
}

fdl_status fdl_sub_opt_(fdl_tensor *x, fdl_tensor *y, const fdl_alpha_opts *opts)
{
    return OP_DO((x, y), { x->t.sub_(y->t, scalar(alpha_of(opts))); });
}

fdl_status fdl_mul_(fdl_tensor *x, fdl_tensor *y)
{
    return OP_DO((x, y), { x->t.mul_(y->t); });
}

fdl_status fdl_div_(fdl_tensor *x, fdl_tensor *y)
{
    return OP_DO((x, y), { x->t.div_(y->t); });
}

fdl_status fdl_add_scalar_(fdl_tensor *x, double s)
{
    return OP_DO((x), { x->t.add_(scalar(s)); });
}

fdl_status fdl_sub_scalar_(fdl_tensor *x, double s)
{
    return OP_DO((x), { x->t.sub_(scalar(s)); });
}

fdl_status fdl_mul_scalar_(fdl_tensor *x, double s)
{
    return OP_DO((x), { x->t.mul_(scalar(s)); });
}

fdl_status fdl_div_scalar_(fdl_tensor *x, double s)
{
    return OP_DO((x), { x->t.div_(scalar(s)); });
}

fdl_status fdl_addcmul_opt_(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_value_opts *opts)
{
    return OP_DO((x, a, b), { x->t.addcmul_(a->t, b->t, scalar(value_of(opts))); });
}

fdl_status fdl_addcdiv_opt_(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_value_opts *opts)
{
    return OP_DO((x, a, b), { x->t.addcdiv_(a->t, b->t, scalar(value_of(opts))); });
}

fdl_status fdl_lerp_(fdl_tensor *x, fdl_tensor *y, double w)
{
    return OP_DO((x, y), { x->t.lerp_(y->t, w); });
}

fdl_status fdl_maximum_(fdl_tensor *x, fdl_tensor *y)
{
    return OP_DO((x, y), { at::maximum_out(x->t, x->t, y->t); });
}

fdl_status fdl_clamp_(fdl_tensor *x, double lo, double hi)
{
    return OP_DO((x), { x->t.clamp_(scalar(lo), scalar(hi)); });
}

fdl_status fdl_sqrt_(fdl_tensor *x)
{
    return OP_DO((x), { x->t.sqrt_(); });
}

fdl_status fdl_neg_(fdl_tensor *x)
{
    return OP_DO((x), { x->t.neg_(); });
}

fdl_status fdl_relu_(fdl_tensor *x)
{
    return OP_DO((x), { x->t.relu_(); });
}

fdl_status fdl_zero_(fdl_tensor *x)
{
    return OP_DO((x), { x->t.zero_(); });
}

fdl_status fdl_fill_(fdl_tensor *x, double s)
{
    return OP_DO((x), { x->t.fill_(scalar(s)); });
}

fdl_status fdl_masked_fill_(fdl_tensor *x, fdl_tensor *mask, double s)
{
    return OP_DO((x, mask), { x->t.masked_fill_(mask->t.to(at::kBool), scalar(s)); });
}

fdl_status fdl_index_copy_(fdl_tensor *x, int dim, fdl_tensor *idx, fdl_tensor *src)
{
    return OP_DO((x, idx, src), { x->t.index_copy_(dim, idx->t, src->t); });
}

fdl_status fdl_copy_opt_(fdl_tensor *x, fdl_tensor *src, const fdl_copy_opts *opts)
{
    return OP_DO((x, src), { x->t.copy_(src->t, opts && opts->non_blocking); });
}

fdl_status fdl_set_data_(fdl_tensor *x, fdl_tensor *y)
{
    return OP_DO((x, y), { x->t.set_data(y->t); });
}

fdl_status fdl_normal_(fdl_tensor *x, double mean, double std)
{
    return OP_DO((x), {
        if (!(std >= 0))
            fail(FDL_E_ARG, "a standard deviation of %g", std);
        x->t.normal_(mean, std);
    });
}

fdl_status fdl_uniform_(fdl_tensor *x, double lo, double hi)
{
    return OP_DO((x), {
        if (!(lo <= hi))
            fail(FDL_E_ARG, "the range [%g, %g)", lo, hi);
        x->t.uniform_(lo, hi);
    });
}
