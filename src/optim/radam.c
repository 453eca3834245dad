/* RAdam, t being the parameter's own count of steps; weight decay as adam's, or with .decoupled as adamw's:
 *     m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
 *     k = 2 / (1 - beta2) - 1;  rho = k - 2 * t * beta2^t / (1 - beta2^t)
 *     rho > 5: r = sqrt((rho - 4) * (rho - 2) * k / ((k - 4) * (k - 2) * rho)), u = r * sqrt(1 - beta2^t) / (sqrt(v) + eps)
 *     else u = 1;  p -= lr / (1 - beta1^t) * m * u
 * Which of the two it is, is decided where the counts are. */
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

enum { EXP_AVG, EXP_AVG_SQ };

/* r * sqrt(1 - beta2^t), and 0 where rho is 5 or less: float64 [n]. */
static fdl_tensor *rectified(const optim_batch *b, fdl_tensor *t)
{
    double beta2 = b->o->beta2, k = 2 / (1 - beta2) - 1;
    fdl_tensor *left = optim_correction(t, optim_log(beta2, t)), *gone = fdl_rsub_scalar(left, 1);
    fdl_tensor *rho = fdl_rsub_scalar(fdl_mul(fdl_div(fdl_mul(t, gone), left), 2), k);
    fdl_tensor *r =
        fdl_div(fdl_mul(fdl_mul(fdl_sub(rho, 4), fdl_sub(rho, 2)), k), fdl_mul(rho, (k - 4) * (k - 2)));
    return fdl_where(fdl_gt(rho, 5), fdl_sqrt(fdl_mul(r, left)), fdl_zeros_like(rho));
}

/* m / u as divisors of m: (sqrt(v) + eps) / rectified, or 1 where that is 0. */
static fdl_status divisors(const optim_batch *b, fdl_list d, fdl_tensor *t)
{
    fdl_tensor *r = rectified(b, t), *none = fdl_eq(r, 0);
    fdl_tensor *factor = fdl_where(none, r, fdl_reciprocal(r)), *rest = fdl_to(none, .dtype = FDL_FLOAT64);
    FDL_TRY(fdl_foreach_add_scalar_(d, b->o->eps));
    FDL_TRY(fdl_foreach_mul_list_(d, fdl_unbind(factor, 0)));
    return fdl_foreach_add_(d, fdl_unbind(rest, 0), .alpha = 1);
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, o->decoupled), m = b->state[EXP_AVG], v = b->state[EXP_AVG_SQ];
    FDL_TRY(optim_average(b, m, g));
    FDL_TRY(optim_average_square(v, g, o->beta2));
    fdl_tensor *t = optim_counts(b);
    fdl_list d = fdl_foreach_sqrt(v);
    FDL_TRY(divisors(b, d, t));
    fdl_tensor *rates = fdl_div(b->lr, optim_correction(t, optim_log_beta1(b)));
    return optim_descend_by(b, optim_quotient(m, d), rates);
}

static fdl_status one_on_host(const optim_batch *b, int i, fdl_tensor *m, fdl_tensor *v)
{
    double t = optim_host_count(b, i), beta2 = b->o->beta2, k = 2 / (1 - beta2) - 1, gone = pow(beta2, t);
    double rho = k - 2 * t * gone / (1 - gone), rate = optim_host_rate(b, i);
    if (!(rho > 5))
        return fdl_add_(b->params.at[i], m, .alpha = optim_exactly(-rate));
    double r = sqrt((rho - 4) * (rho - 2) * k / ((k - 4) * (k - 2) * rho) * (1 - gone));
    fdl_tensor *d = fdl_sqrt(v);
    FDL_TRY(fdl_add_scalar_(d, b->o->eps));
    return fdl_addcdiv_(b->params.at[i], m, d, .value = optim_exactly(-rate * r));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, o->decoupled), *m = b->state[EXP_AVG].at[i],
               *v = b->state[EXP_AVG_SQ].at[i];
    FDL_TRY(optim_one_average(b, m, g));
    FDL_TRY(optim_one_average_square(v, g, o->beta2));
    if (b->host)
        return one_on_host(b, i, m, v);
    fdl_tensor *r = rectified(b, optim_one_count(b, i));
    fdl_tensor *whole = fdl_to(fdl_eq(r, 0), .dtype = FDL_FLOAT64); /* 1: the step is m's */
    fdl_tensor *u = fdl_div(fdl_mul(m, r), fdl_add(fdl_sqrt(v), o->eps));
    FDL_TRY(fdl_add_(u, fdl_mul(m, whole)));
    return optim_one_descend_by(b, i, u, optim_one_rate(b, i));
}

static const optim_kind radam = {
    .name = "radam",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2 |
              OPTIM_EPS | OPTIM_DECOUPLED,
    .momentum_field = OPTIM_BETA1,
    .defaults = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
    .counts = true,
    .states = {"exp_avg", "exp_avg_sq"},
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_radam_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&radam, params, opts);
}
