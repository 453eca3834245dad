/* Arithmetic of two or three operands. */
#include "flodl/arithmetic.h"
#include "internal.h"

#include <ATen/ops/add.h>
#include <ATen/ops/addcdiv.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/atan2.h>
#include <ATen/ops/clamp_max.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/copysign.h>
#include <ATen/ops/div.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/fmax.h>
#include <ATen/ops/fmin.h>
#include <ATen/ops/fmod.h>
#include <ATen/ops/gcd.h>
#include <ATen/ops/heaviside.h>
#include <ATen/ops/hypot.h>
#include <ATen/ops/lcm.h>
#include <ATen/ops/ldexp.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/logaddexp.h>
#include <ATen/ops/logaddexp2.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/minimum.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/nextafter.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/xlogy.h>

#include <optional>
#include <string_view>

using namespace flodl;

namespace
{

std::optional<std::string_view> rounding(fdl_rounding_mode mode)
{
    switch (mode) {
    case FDL_ROUNDING_NONE:
        return std::nullopt;
    case FDL_ROUNDING_TRUNC:
        return "trunc";
    case FDL_ROUNDING_FLOOR:
        return "floor";
    }
    fail(FDL_E_ARG, "rounding mode %d is none", (int)mode);
}

} // namespace

BINARY(fdl_add_tensor, at::add)
BINARY(fdl_sub_tensor, at::sub)
BINARY(fdl_mul_tensor, at::mul)
BINARY(fdl_div_tensor, at::div)
BINARY(fdl_pow_tensor, at::pow)
BINARY(fdl_maximum_tensor, at::maximum)
BINARY(fdl_minimum_tensor, at::minimum)
BINARY(fdl_floor_divide, at::floor_divide)
BINARY(fdl_fmod, at::fmod)
BINARY(fdl_remainder, at::remainder)
BINARY(fdl_fmax, at::fmax)
BINARY(fdl_fmin, at::fmin)
BINARY(fdl_atan2, at::atan2)
BINARY(fdl_hypot, at::hypot)
BINARY(fdl_logaddexp, at::logaddexp)
BINARY(fdl_xlogy, at::xlogy)

fdl_tensor *fdl_add_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::add(x->t, scalar(s)));
}

fdl_tensor *fdl_sub_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::sub(x->t, scalar(s)));
}

fdl_tensor *fdl_mul_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::mul(x->t, scalar(s)));
}

fdl_tensor *fdl_div_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::div(x->t, scalar(s)));
}

fdl_tensor *fdl_div_rounding(fdl_tensor *a, fdl_tensor *b, fdl_rounding_mode mode)
{
    return OP((a, b), at::div(a->t, b->t, rounding(mode)));
}

fdl_tensor *fdl_div_rounding_scalar(fdl_tensor *x, double s, fdl_rounding_mode mode)
{
    return OP((x), at::div(x->t, scalar(s), rounding(mode)));
}

fdl_tensor *fdl_pow_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::pow(x->t, scalar(s)));
}

fdl_tensor *fdl_maximum_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::clamp_min(x->t, scalar(s)));
}

fdl_tensor *fdl_minimum_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::clamp_max(x->t, scalar(s)));
}

fdl_tensor *fdl_rsub_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::rsub(x->t, scalar(s)));
}

fdl_tensor *fdl_rdiv_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::mul(at::reciprocal(x->t), scalar(s)));
}

fdl_tensor *fdl_fmod_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::fmod(x->t, scalar(s)));
}

fdl_tensor *fdl_remainder_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::remainder(x->t, scalar(s)));
}

fdl_tensor *fdl_lerp(fdl_tensor *a, fdl_tensor *b, fdl_tensor *w)
{
    return OP((a, b, w), at::lerp(a->t, b->t, w->t));
}

fdl_tensor *fdl_lerp_scalar(fdl_tensor *a, fdl_tensor *b, double w)
{
    return OP((a, b), at::lerp(a->t, b->t, scalar(w)));
}

fdl_tensor *fdl_addcmul_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addcmul_opts *opts)
{
    return OP((x, a, b), at::addcmul(x->t, a->t, b->t, scalar(fdl_opt_double(or_default(opts).value, 1))));
}

fdl_tensor *fdl_addcdiv_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addcmul_opts *opts)
{
    return OP((x, a, b), at::addcdiv(x->t, a->t, b->t, scalar(fdl_opt_double(or_default(opts).value, 1))));
}

BINARY(fdl_logaddexp2, at::logaddexp2)
BINARY(fdl_ldexp, at::ldexp)
BINARY(fdl_copysign, at::copysign)
BINARY(fdl_nextafter, at::nextafter)
BINARY(fdl_gcd, at::gcd)
BINARY(fdl_lcm, at::lcm)

fdl_tensor *fdl_heaviside(fdl_tensor *x, fdl_tensor *values)
{
    return OP((x, values), at::heaviside(x->t, values->t));
}
