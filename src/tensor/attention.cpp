/* Attention. */
#include "flodl/attention.h"
#include "spatial.h"

#include <ATen/Context.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/scaled_dot_product_attention.h>

using namespace flodl;

namespace
{

inline void check_shapes(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, bool gqa)
{
    if (q.dim() < 2 || k.dim() < 2 || v.dim() < 2)
        fail(FDL_E_SHAPE, "q, k and v are [*, L, E], 2 dims at least");
    auto extent = [](const at::Tensor &x, int behind) { return x.sizes().end()[-behind]; };
    if (extent(q, 1) != extent(k, 1))
        fail(FDL_E_SHAPE, "q %s and k %s differ in their last dim", shape_text(q.sizes()).text,
             shape_text(k.sizes()).text);
    if (extent(q, 1) < 1)
        fail(FDL_E_SHAPE, "q %s has no features", shape_text(q.sizes()).text);
    if (extent(k, 2) != extent(v, 2))
        fail(FDL_E_SHAPE, "k %s and v %s differ in their length", shape_text(k.sizes()).text,
             shape_text(v.sizes()).text);
    if (!gqa)
        return;
    if (q.dim() < 3 || k.dim() < 3 || v.dim() < 3)
        fail(FDL_E_SHAPE, ".gqa needs heads: [*, H, L, E]");
    for (const at::Tensor *x : {&k, &v})
        if (x->size(-3) < 1 || q.size(-3) % x->size(-3))
            fail(FDL_E_SHAPE, "the %lld heads of q don't divide among %lld", (long long)q.size(-3),
                 (long long)x->size(-3));
}

unsigned allowed()
{
    const at::Context &c = at::globalContext();
    unsigned kernels = 0;
    if (c.userEnabledMathSDP())
        kernels |= FDL_SDPA_MATH;
    if (c.userEnabledFlashSDP())
        kernels |= FDL_SDPA_FLASH;
    if (c.userEnabledMemEfficientSDP())
        kernels |= FDL_SDPA_EFFICIENT;
    if (c.userEnabledCuDNNSDP())
        kernels |= FDL_SDPA_CUDNN;
    return kernels;
}

void allow(unsigned kernels)
{
    at::Context &c = at::globalContext();
    c.setSDPUseMath(kernels & FDL_SDPA_MATH);
    c.setSDPUseFlash(kernels & FDL_SDPA_FLASH);
    c.setSDPUseMemEfficient(kernels & FDL_SDPA_EFFICIENT);
    c.setSDPUseCuDNN(kernels & FDL_SDPA_CUDNN);
}

enum : unsigned { marked = 1u << 31 }; /* tells what was allowed, perhaps nothing, from 0 */

} // namespace

fdl_tensor *fdl_scaled_dot_product_attention_opt(fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                                                 const fdl_scaled_dot_product_attention_opts *opts)
{
    const fdl_scaled_dot_product_attention_opts &o = or_default(opts);
    return OP_DO((q, k, v, opt(o.mask)), {
        check_shapes(q->t, k->t, v->t, o.gqa);
        if (o.mask && o.causal)
            fail(FDL_E_ARG, ".mask and .causal exclude each other; put the triangle into the mask");
        if (!(o.dropout >= 0 && o.dropout <= 1))
            fail(FDL_E_ARG, ".dropout is %g; it is from 0 to 1", o.dropout);
        double scale = fdl_opt_double(o.scale, 1);
        if (!(scale > 0))
            fail(FDL_E_ARG, ".scale is %g; it is above 0", scale);
        std::optional<at::Tensor> mask;
        if (o.mask)
            mask = o.mask->t;
        if (mask && at::isFloatingType(mask->scalar_type()))
            mask = mask->to(q->t.scalar_type());
        else if (mask && mask->scalar_type() != at::kBool)
            fail(FDL_E_DTYPE, "a mask is bool (true takes part) or floating (added); fdl_bool converts");
        double p = fdl_opt_double(o.dropout, 0);
        std::optional<double> by;
        if (fdl_opt_double(o.scale, -1) > 0)
            by = scale;
        if (!q->t.numel() || !k->t.numel() ||
            !v->t.numel()) /* the CPU's flash kernel divides by the number of heads */
            return std::get<0>(at::_scaled_dot_product_attention_math(q->t, k->t, v->t, mask, p, o.causal,
                                                                      std::nullopt, by, o.gqa));
        return at::scaled_dot_product_attention(q->t, k->t, v->t, mask, p, o.causal, by, o.gqa);
    });
}

unsigned fdl_sdpa_open(unsigned kernels)
{
    unsigned all = FDL_SDPA_MATH | FDL_SDPA_FLASH | FDL_SDPA_EFFICIENT | FDL_SDPA_CUDNN;
    if (!kernels || (kernels & ~all)) {
        fdl_fail(FDL_E_ARG, "fdl_sdpa_open: %#x holds no kernel, or one that there isn't", kernels);
        return 0;
    }
    unsigned before = allowed() | marked;
    allow(kernels);
    return before;
}

void fdl_sdpa_close(unsigned before)
{
    if (before & marked)
        allow(before);
}

void fdl_sdpa_leave_(unsigned *before)
{
    if (before)
        fdl_sdpa_close(*before);
}
