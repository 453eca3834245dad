/* Adamax, t being the parameter's own count of steps:
 *     g += weight_decay * p;  m = beta1 * m + (1 - beta1) * g;  u = max(beta2 * u, |g| + eps)
 *     p -= lr / (1 - beta1^t) * m / u */
#include "flodl/arithmetic.h"
#include "optim.h"

enum { EXP_AVG, EXP_INF };

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, false), m = b->state[EXP_AVG], u = b->state[EXP_INF];
    FDL_TRY(optim_average(b, m, g));
    fdl_list size = fdl_foreach_neg(g);
    FDL_TRY(fdl_foreach_maximum_(size, g));
    FDL_TRY(fdl_foreach_add_scalar_(size, o->eps));
    FDL_TRY(fdl_foreach_mul_scalar_(u, o->beta2));
    FDL_TRY(fdl_foreach_maximum_(u, size));
    fdl_tensor *rates = fdl_div(b->lr, optim_correction(optim_counts(b), optim_log_beta1(b)));
    return optim_descend_by(b, optim_quotient(m, u), rates);
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, false), *m = b->state[EXP_AVG].at[i],
               *u = b->state[EXP_INF].at[i];
    FDL_TRY(optim_one_average(b, m, g));
    FDL_TRY(fdl_mul_scalar_(u, o->beta2));
    FDL_TRY(fdl_maximum_(u, fdl_add(fdl_abs(g), o->eps)));
    if (b->host)
        return fdl_addcdiv_(b->params.at[i], m, u, .value = optim_exactly(-optim_host_rate(b, i)));
    return optim_one_descend_by(b, i, fdl_div(m, u), optim_one_rate(b, i));
}

static const optim_kind adamax = {
    .name = "adamax",
    .fields =
        OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2 | OPTIM_EPS,
    .momentum_field = OPTIM_BETA1,
    .defaults = {.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
    .counts = true,
    .states = {"exp_avg", "exp_inf"},
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_adamax_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adamax, params, opts);
}
