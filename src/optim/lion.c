/* Lion (Chen and others, Symbolic Discovery of Optimization Algorithms, 2023):
 *     c = beta1 * m + (1 - beta1) * g;  p *= 1 - lr * weight_decay;  p -= lr * sign(c);  m = beta2 * m + (1 - beta2) * g */
#include "flodl/arithmetic.h"
#include "optim.h"

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, true), m = b->state[0];
    fdl_list c = optim_copy(m);
    FDL_TRY(optim_average(b, c, g));
    for (int i = 0; i < c.n; i++)
        c.at[i] = fdl_sign(c.at[i]);
    FDL_TRY(optim_descend(b, c));
    return fdl_foreach_lerp_(m, g, 1 - o->beta2);
}

static fdl_status one(const optim_batch *b, int i)
{
    fdl_tensor *g = optim_one_decayed(b, i, true), *m = b->state[0].at[i], *c = fdl_clone(m);
    FDL_TRY(optim_one_average(b, c, g));
    FDL_TRY(optim_one_descend(b, i, fdl_sign(c)));
    return fdl_lerp_(m, g, 1 - b->o->beta2);
}

static const optim_kind lion = {
    .name = "lion",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2,
    .momentum_field = OPTIM_BETA1,
    .defaults = {.lr = 1e-4, .beta1 = 0.9, .beta2 = 0.99},
    .decoupled = true,
    .states = {"exp_avg"},
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_lion_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&lion, params, opts);
}
