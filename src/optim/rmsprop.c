/* RMSprop:
 *     g += weight_decay * p;  s = alpha * s + (1 - alpha) * g^2
 *     q = sqrt(s), or centered: a += (1 - alpha) * (g - a), q = sqrt(s - a^2);  q += eps
 *     p -= lr * g / q, or with momentum: b = momentum * b + g / q, p -= lr * b */
#include "flodl/arithmetic.h"
#include "optim.h"

enum { SQUARE_AVG, MOMENTUM_BUFFER, GRAD_AVG };

static bool needs(const optim_group *g, const optim_slot *s, int state)
{
    (void)s;
    if (state == MOMENTUM_BUFFER)
        return g->o.momentum != 0 || g->scheduled;
    return state == SQUARE_AVG || g->o.centered;
}

/* What the gradients are divided by; NULL list on failure. */
static fdl_list roots(const optim_batch *b, fdl_list g)
{
    const fdl_optim_opts *o = b->o;
    const fdl_list none = {0, NULL};
    fdl_list s = b->state[SQUARE_AVG], a = b->state[GRAD_AVG], q;
    if (o->centered) {
        if (fdl_foreach_lerp_(a, g, 1 - o->alpha) != FDL_OK)
            return none;
        q = optim_copy(s);
        if (fdl_foreach_addcmul_(q, a, a, -1) != FDL_OK || fdl_foreach_sqrt_(q) != FDL_OK)
            return none;
    } else {
        q = fdl_foreach_sqrt(s);
    }
    return fdl_foreach_add_scalar_(q, o->eps) == FDL_OK ? q : none;
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, false), m = b->state[MOMENTUM_BUFFER];
    FDL_TRY(optim_average_square(b->state[SQUARE_AVG], g, o->alpha));
    fdl_list q = roots(b, g);
    if (!q.n)
        return fdl_error_pending();
    if (m.n) {
        FDL_TRY(b->momentum ? fdl_foreach_mul_(m, b->momentum) : fdl_foreach_mul_scalar_(m, o->momentum));
        FDL_TRY(fdl_foreach_addcdiv_(m, g, q, 1));
        return optim_descend(b, m);
    }
    if (b->host)
        return fdl_foreach_addcdiv_(b->params, g, q, -o->lr);
    return optim_descend(b, optim_quotient(g, q));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, false), *s = b->state[SQUARE_AVG].at[i], *q = s;
    FDL_TRY(optim_one_average_square(s, g, o->alpha));
    if (o->centered) {
        fdl_tensor *a = b->state[GRAD_AVG].at[i];
        FDL_TRY(fdl_lerp_(a, g, 1 - o->alpha));
        q = fdl_sub(s, fdl_square(a));
    }
    fdl_tensor *u = fdl_div(g, fdl_add(fdl_sqrt(q), o->eps));
    if (!b->state[MOMENTUM_BUFFER].n)
        return optim_one_descend(b, i, u);
    fdl_tensor *m = b->state[MOMENTUM_BUFFER].at[i];
    FDL_TRY(b->momentum ? fdl_mul_(m, b->momentum) : fdl_mul_scalar_(m, o->momentum));
    FDL_TRY(fdl_add_(m, u));
    return optim_one_descend(b, i, m);
}

static fdl_status check(const fdl_optim_opts *o)
{
    return o->alpha < 1
               ? FDL_OK
               : fdl_fail(FDL_E_ARG, "rmsprop: alpha is %g; it must be at least 0 and below 1", o->alpha);
}

static const optim_kind rmsprop = {
    .name = "rmsprop",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_MOMENTUM | OPTIM_EPS |
              OPTIM_ALPHA | OPTIM_CENTERED,
    .momentum_field = OPTIM_MOMENTUM,
    .defaults = {.lr = 1e-2, .alpha = 0.99, .eps = 1e-8},
    .check = check,
    .counts = true,
    .states = {"square_avg", "momentum_buffer", "grad_avg"},
    .needs = needs,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_rmsprop_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&rmsprop, params, opts);
}
