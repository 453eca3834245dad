/* Adagrad, t being the parameter's own count of steps:
 *     g += weight_decay * p;  s += g^2, from initial_accumulator on;  p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps) */
#include "flodl/arithmetic.h"
#include "optim.h"

static double initial(const fdl_optim_opts *o, int state)
{
    (void)state;
    return o->initial_accumulator;
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, false), s = b->state[0];
    FDL_TRY(fdl_foreach_addcmul_(s, g, g, 1));
    fdl_list d = fdl_foreach_sqrt(s);
    FDL_TRY(fdl_foreach_add_scalar_(d, o->eps));
    fdl_list u = optim_quotient(g, d);
    if (o->lr_decay == 0)
        return optim_descend(b, u);
    fdl_tensor *slower = fdl_mul(fdl_sub(optim_counts(b), 1), o->lr_decay);
    return optim_descend_by(b, u, fdl_div(b->lr, fdl_add(slower, 1)));
}

static const optim_kind adagrad = {
    .name = "adagrad",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_EPS | OPTIM_LR_DECAY |
              OPTIM_INITIAL_ACCUMULATOR,
    .defaults = {.lr = 1e-2, .eps = 1e-10},
    .counts = true,
    .states = {"sum"},
    .initial = initial,
    .foreach = foreach,
};

fdl_optim *fdl_optim_adagrad_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adagrad, params, opts);
}
