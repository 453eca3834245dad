/* Element-wise mathematics. */
#include "flodl/arithmetic.h"
#include "internal.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/acos.h>
#include <ATen/ops/acosh.h>
#include <ATen/ops/asin.h>
#include <ATen/ops/asinh.h>
#include <ATen/ops/atan.h>
#include <ATen/ops/atanh.h>
#include <ATen/ops/ceil.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/cosh.h>
#include <ATen/ops/deg2rad.h>
#include <ATen/ops/digamma.h>
#include <ATen/ops/erf.h>
#include <ATen/ops/erfc.h>
#include <ATen/ops/erfinv.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/expm1.h>
#include <ATen/ops/floor.h>
#include <ATen/ops/frac.h>
#include <ATen/ops/i0.h>
#include <ATen/ops/lgamma.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log10.h>
#include <ATen/ops/log1p.h>
#include <ATen/ops/log2.h>
#include <ATen/ops/logit.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/polygamma.h>
#include <ATen/ops/rad2deg.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/round.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/sgn.h>
#include <ATen/ops/sign.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/sinc.h>
#include <ATen/ops/sinh.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/square.h>
#include <ATen/ops/tan.h>
#include <ATen/ops/tril.h>
#include <ATen/ops/triu.h>
#include <ATen/ops/trunc.h>

using namespace flodl;

UNARY(fdl_neg, at::neg)
UNARY(fdl_abs, at::abs)
UNARY(fdl_square, at::square)
UNARY(fdl_exp, at::exp)
UNARY(fdl_exp2, at::exp2)
UNARY(fdl_expm1, at::expm1)
UNARY(fdl_log, at::log)
UNARY(fdl_log1p, at::log1p)
UNARY(fdl_log2, at::log2)
UNARY(fdl_log10, at::log10)
UNARY(fdl_sqrt, at::sqrt)
UNARY(fdl_rsqrt, at::rsqrt)
UNARY(fdl_reciprocal, at::reciprocal)
UNARY(fdl_sin, at::sin)
UNARY(fdl_cos, at::cos)
UNARY(fdl_tan, at::tan)
UNARY(fdl_asin, at::asin)
UNARY(fdl_acos, at::acos)
UNARY(fdl_atan, at::atan)
UNARY(fdl_sinh, at::sinh)
UNARY(fdl_cosh, at::cosh)
UNARY(fdl_asinh, at::asinh)
UNARY(fdl_acosh, at::acosh)
UNARY(fdl_atanh, at::atanh)
UNARY(fdl_erf, at::erf)
UNARY(fdl_erfc, at::erfc)
UNARY(fdl_erfinv, at::erfinv)
UNARY(fdl_lgamma, at::lgamma)
UNARY(fdl_digamma, at::digamma)
UNARY(fdl_sinc, at::sinc)
UNARY(fdl_i0, at::i0)
UNARY(fdl_deg2rad, at::deg2rad)
UNARY(fdl_rad2deg, at::rad2deg)
UNARY(fdl_sign, at::sign)
UNARY(fdl_sgn, at::sgn)
UNARY(fdl_floor, at::floor)
UNARY(fdl_ceil, at::ceil)
UNARY(fdl_trunc, at::trunc)
UNARY(fdl_frac, at::frac)

fdl_tensor *fdl_polygamma(int64_t n, fdl_tensor *x)
{
    return OP((x), at::polygamma(n, x->t));
}

fdl_tensor *fdl_round(fdl_tensor *x)
{
    return OP((x), at::round(x->t));
}

fdl_tensor *fdl_round_opt(fdl_tensor *x, const fdl_round_opts *opts)
{
    int64_t decimals = or_default(opts).decimals;
    return OP((x), decimals ? at::round(x->t, decimals) : at::round(x->t));
}

fdl_tensor *fdl_logit(fdl_tensor *x)
{
    return OP((x), at::logit(x->t));
}

fdl_tensor *fdl_logit_opt(fdl_tensor *x, const fdl_logit_opts *opts)
{
    double eps = fdl_opt_double(or_default(opts).eps, -1);
    return OP((x), at::logit(x->t, eps == -1 ? std::nullopt : std::optional<double>(eps)));
}

fdl_tensor *fdl_nan_to_num(fdl_tensor *x)
{
    return OP((x), at::nan_to_num(x->t));
}

fdl_tensor *fdl_nan_to_num_opt(fdl_tensor *x, const fdl_nan_to_num_opts *opts)
{
    const fdl_nan_to_num_opts &o = or_default(opts);
    auto given = [](double option) {
        return fdl_opt_double(option, 0) == fdl_opt_double(option, 1)
                   ? std::optional<double>(fdl_opt_double(option, 0))
                   : std::nullopt;
    };
    return OP((x), at::nan_to_num(x->t, given(o.nan), given(o.posinf), given(o.neginf)));
}

fdl_tensor *fdl_clamp(fdl_tensor *x, double lo, double hi)
{
    return OP((x), at::clamp(x->t, scalar(lo), scalar(hi)));
}

fdl_tensor *fdl_clamp_min(fdl_tensor *x, double lo)
{
    return OP((x), at::clamp_min(x->t, scalar(lo)));
}

fdl_tensor *fdl_clamp_max(fdl_tensor *x, double hi)
{
    return OP((x), at::clamp_max(x->t, scalar(hi)));
}

fdl_tensor *fdl_clamp_tensor(fdl_tensor *x, fdl_tensor *lo, fdl_tensor *hi)
{
    return OP((x, lo, hi), at::clamp(x->t, lo->t, hi->t));
}

fdl_tensor *fdl_triu(fdl_tensor *x)
{
    return fdl_triu_opt(x, nullptr);
}

fdl_tensor *fdl_triu_opt(fdl_tensor *x, const fdl_tri_opts *opts)
{
    return OP((x), at::triu(x->t, or_default(opts).diagonal));
}

fdl_tensor *fdl_tril(fdl_tensor *x)
{
    return fdl_tril_opt(x, nullptr);
}

fdl_tensor *fdl_tril_opt(fdl_tensor *x, const fdl_tri_opts *opts)
{
    return OP((x), at::tril(x->t, or_default(opts).diagonal));
}
