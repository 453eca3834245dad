/* Comparison and logic. */
#include "flodl/compare.h"
#include "internal.h"

#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_left_shift.h>
#include <ATen/ops/bitwise_not.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/eq.h>
#include <ATen/ops/ge.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/isclose.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/isin.h>
#include <ATen/ops/isinf.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/isneginf.h>
#include <ATen/ops/isposinf.h>
#include <ATen/ops/le.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/logical_or.h>
#include <ATen/ops/logical_xor.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/signbit.h>

using namespace flodl;

BINARY(fdl_eq_tensor, at::eq)
BINARY(fdl_ne_tensor, at::ne)
BINARY(fdl_lt_tensor, at::lt)
BINARY(fdl_le_tensor, at::le)
BINARY(fdl_gt_tensor, at::gt)
BINARY(fdl_ge_tensor, at::ge)
BINARY(fdl_logical_and, at::logical_and)
BINARY(fdl_logical_or, at::logical_or)
BINARY(fdl_logical_xor, at::logical_xor)
BINARY(fdl_bitwise_and, at::bitwise_and)
BINARY(fdl_bitwise_or, at::bitwise_or)
BINARY(fdl_bitwise_xor, at::bitwise_xor)
UNARY(fdl_isnan, at::isnan)
UNARY(fdl_isinf, at::isinf)
UNARY(fdl_isfinite, at::isfinite)
UNARY(fdl_logical_not, at::logical_not)
UNARY(fdl_bitwise_not, at::bitwise_not)

fdl_tensor *fdl_eq_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::eq(x->t, scalar(s)));
}

fdl_tensor *fdl_ne_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::ne(x->t, scalar(s)));
}

fdl_tensor *fdl_lt_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::lt(x->t, scalar(s)));
}

fdl_tensor *fdl_le_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::le(x->t, scalar(s)));
}

fdl_tensor *fdl_gt_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::gt(x->t, scalar(s)));
}

fdl_tensor *fdl_ge_scalar(fdl_tensor *x, double s)
{
    return OP((x), at::ge(x->t, scalar(s)));
}

fdl_tensor *fdl_isclose_opt(fdl_tensor *a, fdl_tensor *b, const fdl_isclose_opts *opts)
{
    const fdl_isclose_opts &o = or_default(opts);
    return OP((a, b), at::isclose(a->t, b->t, fdl_opt_double(o.rtol, 1e-5), fdl_opt_double(o.atol, 1e-8),
                                  o.equal_nan));
}

fdl_tensor *fdl_isin(fdl_tensor *x, fdl_tensor *set)
{
    return OP((x, set), at::isin(x->t, set->t));
}

UNARY(fdl_isposinf, at::isposinf)
UNARY(fdl_isneginf, at::isneginf)
UNARY(fdl_signbit, at::signbit)
BINARY(fdl_bitwise_left_shift, at::bitwise_left_shift)
BINARY(fdl_bitwise_right_shift, at::bitwise_right_shift)
