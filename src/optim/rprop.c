/* Rprop (Riedmiller and Braun, 1993), h being the gradient before and s the step sizes, lr at first:
 *     s *= g * h > 0 ? eta_plus : g * h < 0 ? eta_minus : 1, clamped to [step_min, step_max];  where g * h < 0: g = 0
 *     p -= sign(g) * s;  h = g */
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "optim.h"

enum { PREV, STEP_SIZE };

static fdl_status check(const fdl_optim_opts *o)
{
    if (o->eta_minus >= 1)
        return fdl_fail(FDL_E_ARG, "rprop: eta_minus is %g; it must be above 0 and below 1", o->eta_minus);
    if (o->step_min > o->step_max)
        return fdl_fail(FDL_E_ARG, "rprop: step_min is %g, above step_max, %g", o->step_min, o->step_max);
    return FDL_OK;
}

static double initial(const fdl_optim_opts *o, int state)
{
    return state == STEP_SIZE ? o->lr : 0;
}

/* What the step sizes are multiplied by where the gradients' product is that. */
static fdl_tensor *factor(const fdl_optim_opts *o, fdl_tensor *product, fdl_tensor *turned)
{
    fdl_tensor *f = fdl_ones_like(product);
    if (fdl_masked_fill_(f, fdl_gt(product, 0), o->eta_plus) != FDL_OK ||
        fdl_masked_fill_(f, turned, o->eta_minus) != FDL_OK)
        return NULL;
    return f;
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, false), *h = b->state[PREV].at[i], *s = b->state[STEP_SIZE].at[i];
    fdl_tensor *product = fdl_mul(g, h), *turned = fdl_lt(product, 0);
    FDL_TRY(fdl_mul_(s, factor(o, product, turned)));
    FDL_TRY(fdl_clamp_(s, o->step_min, o->step_max));
    FDL_TRY(fdl_copy_(h, g));
    FDL_TRY(fdl_masked_fill_(h, turned, 0));
    return fdl_addcmul_(b->params.at[i], fdl_sign(h), s, .value = -1);
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, false), h = b->state[PREV], s = b->state[STEP_SIZE];
    fdl_list factors = optim_copy(g), turned = {g.n, fdl_scope_alloc(sizeof *turned.at * (size_t)g.n)};
    FDL_TRY(fdl_foreach_mul_list_(factors, h));
    if (!turned.at)
        return fdl_error_pending();
    for (int i = 0; i < g.n; i++) {
        turned.at[i] = fdl_lt(factors.at[i], 0);
        factors.at[i] = factor(o, factors.at[i], turned.at[i]);
    }
    FDL_TRY(fdl_foreach_mul_list_(s, factors));
    FDL_TRY(fdl_foreach_clamp_min_(s, o->step_min));
    FDL_TRY(fdl_foreach_clamp_max_(s, o->step_max));
    FDL_TRY(fdl_foreach_copy_(h, g));
    for (int i = 0; i < g.n; i++) {
        FDL_TRY(fdl_masked_fill_(h.at[i], turned.at[i], 0));
        factors.at[i] = fdl_sign(h.at[i]);
    }
    return fdl_foreach_addcmul_(b->params, factors, s, -1);
}

static const optim_kind rprop = {
    .name = "rprop",
    .fields = OPTIM_LR | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_ETA_MINUS | OPTIM_ETA_PLUS | OPTIM_STEP_MIN |
              OPTIM_STEP_MAX,
    .defaults = {.lr = 1e-2, .eta_minus = 0.5, .eta_plus = 1.2, .step_min = 1e-6, .step_max = 50},
    .check = check,
    .counts = true,
    .states = {"prev", "step_size"},
    .initial = initial,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_rprop_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&rprop, params, opts);
}
