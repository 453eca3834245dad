/* Arithmetic and element-wise mathematics. Results belong to the current scope; all are differentiable unless said. */
#ifndef FLODL_ARITHMETIC_H
#define FLODL_ARITHMETIC_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- two operands, which broadcast; dtypes promote as in PyTorch --------------------------------- */

/* fdl_add(a, b) and so on take a tensor or a number for b: fdl_mul(x, 0.5). These are the functions under them. A whole
 * number leaves an integer tensor's dtype as it is, a fraction makes it float32.
 * Shapes that don't broadcast: FDL_E_SHAPE with both. torch.add, torch.sub, torch.mul. */
FDL_API fdl_tensor *fdl_add_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_add_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_sub_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_sub_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_mul_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_mul_scalar(fdl_tensor *x, double s);
/* torch.div: true division, of integers too (float32). x/0 is inf, 0/0 NaN. */
FDL_API fdl_tensor *fdl_div_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_div_scalar(fdl_tensor *x, double s);
/* torch.pow. A negative base with a fractional exponent: NaN; an integer base with a negative one: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_pow_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_pow_scalar(fdl_tensor *x, double s);
/* torch.maximum, torch.minimum: NaN wins. A tie halves the gradient; against a number x gets all of it. */
FDL_API fdl_tensor *fdl_maximum_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_maximum_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_minimum_tensor(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_minimum_scalar(fdl_tensor *x, double s);

/* s - x and s / x: torch.rsub, and the division of a number by a tensor. */
FDL_API fdl_tensor *fdl_rsub_scalar(fdl_tensor *x, double s);
FDL_API fdl_tensor *fdl_rdiv_scalar(fdl_tensor *x, double s);
/* torch.floor_divide: rounds down. Not differentiable. Integers by 0: FDL_E_ARG on the CPU, undefined on CUDA; so are
 * fdl_div_rounding, fmod and remainder. */
FDL_API fdl_tensor *fdl_floor_divide(fdl_tensor *a, fdl_tensor *b);
typedef enum fdl_rounding_mode {
    FDL_ROUNDING_NONE = 0, /* true division: fdl_div */
    FDL_ROUNDING_TRUNC,    /* toward 0, as C divides integers */
    FDL_ROUNDING_FLOOR     /* down, as Python's // */
} fdl_rounding_mode;
/* torch.div with rounding_mode: of integers, the quotient rounded either way is an integer. Its gradient is 0. Another mode:
 * FDL_E_ARG. */
FDL_API fdl_tensor *fdl_div_rounding(fdl_tensor *a, fdl_tensor *b, fdl_rounding_mode mode);
FDL_API fdl_tensor *fdl_div_rounding_scalar(fdl_tensor *x, double s, fdl_rounding_mode mode);
/* torch.fmod: the dividend's sign, fmod(-5, 3) = -2. */
FDL_API fdl_tensor *fdl_fmod(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_fmod_scalar(fdl_tensor *x, double s);
/* torch.remainder: the divisor's sign, remainder(-5, 3) = 1. */
FDL_API fdl_tensor *fdl_remainder(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_remainder_scalar(fdl_tensor *x, double s);
/* torch.fmax, torch.fmin: NaN loses. */
FDL_API fdl_tensor *fdl_fmax(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_fmin(fdl_tensor *a, fdl_tensor *b);
/* torch.atan2: the angle of (x, y) in radians, in its quadrant. */
FDL_API fdl_tensor *fdl_atan2(fdl_tensor *y, fdl_tensor *x);
FDL_API fdl_tensor *fdl_hypot(fdl_tensor *a, fdl_tensor *b);
/* torch.logaddexp: log(exp(a) + exp(b)). torch.xlogy: a * log(b), 0 where a is 0. */
FDL_API fdl_tensor *fdl_logaddexp(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_xlogy(fdl_tensor *a, fdl_tensor *b);

/* torch.logaddexp2: log2(2^a + 2^b). torch.ldexp: a * 2^b. */
FDL_API fdl_tensor *fdl_logaddexp2(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_ldexp(fdl_tensor *a, fdl_tensor *b);
/* torch.copysign: |a| with b's sign. torch.nextafter: the next number of the dtype from a toward b; not differentiable.
 * torch.heaviside: 0 below 0, 1 above, values at 0; both of one dtype; not differentiable. */
FDL_API fdl_tensor *fdl_copysign(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_nextafter(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_heaviside(fdl_tensor *x, fdl_tensor *values);
/* torch.gcd, torch.lcm of integers; not differentiable. */
FDL_API fdl_tensor *fdl_gcd(fdl_tensor *a, fdl_tensor *b);
FDL_API fdl_tensor *fdl_lcm(fdl_tensor *a, fdl_tensor *b);

/* torch.lerp: a + w * (b - a), exactly b at w = 1. w: a tensor that broadcasts, or a number. */
FDL_API fdl_tensor *fdl_lerp(fdl_tensor *a, fdl_tensor *b, fdl_tensor *w);
FDL_API fdl_tensor *fdl_lerp_scalar(fdl_tensor *a, fdl_tensor *b, double w);

typedef struct fdl_addcmul_opts {
    fdl_by_name opts_;
    double value; /* default 1 */
} fdl_addcmul_opts;
/* torch.addcmul: x + value * a * b. torch.addcdiv: x + value * a / b; of integers: FDL_E_DTYPE. */
FDL_API fdl_tensor *fdl_addcmul_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b,
                                    const fdl_addcmul_opts *opts);
FDL_API fdl_tensor *fdl_addcdiv_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b,
                                    const fdl_addcmul_opts *opts);

/* ---- one operand, element by element: the shape of x ---------------------------------------------- */

/* torch.neg; of bool: FDL_E_DTYPE. */
FDL_API fdl_tensor *fdl_neg(fdl_tensor *x);
FDL_API fdl_tensor *fdl_abs(fdl_tensor *x);
FDL_API fdl_tensor *fdl_square(fdl_tensor *x);
/* torch.exp and so on, of those names. Integers are taken as float32. Outside the domain: NaN; log(0) is -inf. */
FDL_API fdl_tensor *fdl_exp(fdl_tensor *x);
FDL_API fdl_tensor *fdl_exp2(fdl_tensor *x);
FDL_API fdl_tensor *fdl_expm1(fdl_tensor *x);
FDL_API fdl_tensor *fdl_log(fdl_tensor *x);
FDL_API fdl_tensor *fdl_log1p(fdl_tensor *x);
FDL_API fdl_tensor *fdl_log2(fdl_tensor *x);
FDL_API fdl_tensor *fdl_log10(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sqrt(fdl_tensor *x);
FDL_API fdl_tensor *fdl_rsqrt(fdl_tensor *x);
FDL_API fdl_tensor *fdl_reciprocal(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sin(fdl_tensor *x);
FDL_API fdl_tensor *fdl_cos(fdl_tensor *x);
FDL_API fdl_tensor *fdl_tan(fdl_tensor *x);
FDL_API fdl_tensor *fdl_asin(fdl_tensor *x);
FDL_API fdl_tensor *fdl_acos(fdl_tensor *x);
FDL_API fdl_tensor *fdl_atan(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sinh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_cosh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_asinh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_acosh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_atanh(fdl_tensor *x);
FDL_API fdl_tensor *fdl_erf(fdl_tensor *x);
FDL_API fdl_tensor *fdl_erfc(fdl_tensor *x);
FDL_API fdl_tensor *fdl_erfinv(fdl_tensor *x);
FDL_API fdl_tensor *fdl_lgamma(fdl_tensor *x);
FDL_API fdl_tensor *fdl_digamma(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sinc(fdl_tensor *x);
/* torch.polygamma: the n-th derivative of digamma, n >= 0. torch.i0: the modified Bessel function of order 0. */
FDL_API fdl_tensor *fdl_polygamma(int64_t n, fdl_tensor *x);
FDL_API fdl_tensor *fdl_i0(fdl_tensor *x);
/* torch.deg2rad, torch.rad2deg. */
FDL_API fdl_tensor *fdl_deg2rad(fdl_tensor *x);
FDL_API fdl_tensor *fdl_rad2deg(fdl_tensor *x);
/* torch.sign, torch.floor, ...: the gradient is 0, of frac 1. trunc rounds toward 0, frac(-1.3) = -0.3, sgn is sign. */
FDL_API fdl_tensor *fdl_sign(fdl_tensor *x);
FDL_API fdl_tensor *fdl_sgn(fdl_tensor *x);
FDL_API fdl_tensor *fdl_floor(fdl_tensor *x);
FDL_API fdl_tensor *fdl_ceil(fdl_tensor *x);
FDL_API fdl_tensor *fdl_trunc(fdl_tensor *x);
FDL_API fdl_tensor *fdl_frac(fdl_tensor *x);

typedef struct fdl_round_opts {
    fdl_by_name opts_;
    int64_t decimals; /* places after the point, or before it when negative; default 0 */
} fdl_round_opts;
/* torch.round: halves go to the even neighbour. The gradient is 0. */
FDL_API fdl_tensor *fdl_round(fdl_tensor *x);
FDL_API fdl_tensor *fdl_round_opt(fdl_tensor *x, const fdl_round_opts *opts);

typedef struct fdl_logit_opts {
    fdl_by_name opts_;
    double eps; /* x is clamped to [eps, 1 - eps]; default: not clamped */
} fdl_logit_opts;
/* torch.logit: log(x / (1 - x)). */
FDL_API fdl_tensor *fdl_logit(fdl_tensor *x);
FDL_API fdl_tensor *fdl_logit_opt(fdl_tensor *x, const fdl_logit_opts *opts);

typedef struct fdl_nan_to_num_opts {
    fdl_by_name opts_;
    double nan;            /* default 0 */
    double posinf, neginf; /* default: the largest and the smallest number of x's dtype */
} fdl_nan_to_num_opts;
/* torch.nan_to_num. */
FDL_API fdl_tensor *fdl_nan_to_num(fdl_tensor *x);
FDL_API fdl_tensor *fdl_nan_to_num_opt(fdl_tensor *x, const fdl_nan_to_num_opts *opts);

/* torch.clamp: lo > hi gives hi everywhere; NaN stays. The gradient is 1 from lo to hi, ends included, else 0. */
FDL_API fdl_tensor *fdl_clamp(fdl_tensor *x, double lo, double hi);
FDL_API fdl_tensor *fdl_clamp_min(fdl_tensor *x, double lo);
FDL_API fdl_tensor *fdl_clamp_max(fdl_tensor *x, double hi);
/* The bounds are tensors that broadcast. */
FDL_API fdl_tensor *fdl_clamp_tensor(fdl_tensor *x, fdl_tensor *lo, fdl_tensor *hi);

typedef struct fdl_tri_opts {
    fdl_by_name opts_;
    int64_t diagonal; /* above the main diagonal, or below it when negative; default 0 */
} fdl_tri_opts;
/* torch.triu, torch.tril: [*, m, n], the other triangle is 0. A 0-d or 1-d x: FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_triu(fdl_tensor *x);
FDL_API fdl_tensor *fdl_triu_opt(fdl_tensor *x, const fdl_tri_opts *opts);
FDL_API fdl_tensor *fdl_tril(fdl_tensor *x);
FDL_API fdl_tensor *fdl_tril_opt(fdl_tensor *x, const fdl_tri_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
/* A tensor or a number as the second operand. It is named once, in a temporary, so that calls nest at no cost. */
#ifndef FDL_PLACED_
#define FDL_PLACED_(x) (x)
#endif
#define FDL_EITHER_(name, a, b) FDL_EITHER_AS_(name, a, b, FDL_CAT(fdl_b_, __COUNTER__))
#define FDL_EITHER_AS_(name, a, b, t)                                                                       \
    FDL_PLACED_(__extension__({                                                                             \
        __auto_type t = (b);                                                                                \
        _Generic(t, fdl_tensor * : name##_tensor, void * : name##_tensor, default : name##_scalar)((a), t); \
    }))
#define fdl_add(a, b) FDL_EITHER_(fdl_add, a, b)
#define fdl_sub(a, b) FDL_EITHER_(fdl_sub, a, b)
#define fdl_mul(a, b) FDL_EITHER_(fdl_mul, a, b)
#define fdl_div(a, b) FDL_EITHER_(fdl_div, a, b)
#define fdl_pow(a, b) FDL_EITHER_(fdl_pow, a, b)
#define fdl_maximum(a, b) FDL_EITHER_(fdl_maximum, a, b)
#define fdl_minimum(a, b) FDL_EITHER_(fdl_minimum, a, b)
#define fdl_addcmul(x, a, ...) fdl_addcmul_a_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addcmul_a_(x, a, b, ...) fdl_addcmul_opt(x, a, b, &(fdl_addcmul_opts){__VA_ARGS__})
#define fdl_addcdiv(x, a, ...) fdl_addcdiv_a_(x, a, __VA_ARGS__, .opts_ = 0)
#define fdl_addcdiv_a_(x, a, b, ...) fdl_addcdiv_opt(x, a, b, &(fdl_addcmul_opts){__VA_ARGS__})
#define fdl_round(...) fdl_round_(__VA_ARGS__, .opts_ = 0)
#define fdl_round_(x, ...) fdl_round_opt(x, &(fdl_round_opts){__VA_ARGS__})
#define fdl_logit(...) fdl_logit_(__VA_ARGS__, .opts_ = 0)
#define fdl_logit_(x, ...) fdl_logit_opt(x, &(fdl_logit_opts){__VA_ARGS__})
#define fdl_nan_to_num(...) fdl_nan_to_num_(__VA_ARGS__, .opts_ = 0)
#define fdl_nan_to_num_(x, ...) fdl_nan_to_num_opt(x, &(fdl_nan_to_num_opts){__VA_ARGS__})
#define fdl_triu(...) fdl_triu_(__VA_ARGS__, .opts_ = 0)
#define fdl_triu_(x, ...) fdl_triu_opt(x, &(fdl_tri_opts){__VA_ARGS__})
#define fdl_tril(...) fdl_tril_(__VA_ARGS__, .opts_ = 0)
#define fdl_tril_(x, ...) fdl_tril_opt(x, &(fdl_tri_opts){__VA_ARGS__})
#endif

#endif
