/* Adadelta:
 *     g += weight_decay * p;  s = rho * s + (1 - rho) * g^2;  u = sqrt(a + eps) / sqrt(s + eps) * g
 *     a = rho * a + (1 - rho) * u^2;  p -= lr * u */
#include "flodl/arithmetic.h"
#include "optim.h"

enum { SQUARE_AVG, ACC_DELTA };

/* sqrt(a + eps); NULL list on failure. */
static fdl_list root(fdl_list a, double eps)
{
    const fdl_list none = {0, NULL};
    fdl_list r = optim_copy(a);
    return fdl_foreach_add_scalar_(r, eps) == FDL_OK && fdl_foreach_sqrt_(r) == FDL_OK ? r : none;
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, false), s = b->state[SQUARE_AVG], a = b->state[ACC_DELTA];
    FDL_TRY(optim_average_square(s, g, o->rho));
    fdl_list u = root(a, o->eps);
    FDL_TRY(fdl_foreach_div_(u, root(s, o->eps)));
    FDL_TRY(fdl_foreach_mul_list_(u, g));
    FDL_TRY(optim_average_square(a, u, o->rho));
    return optim_descend(b, u);
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, false), *s = b->state[SQUARE_AVG].at[i],
               *a = b->state[ACC_DELTA].at[i];
    FDL_TRY(optim_one_average_square(s, g, o->rho));
    fdl_tensor *u = fdl_mul(fdl_div(fdl_sqrt(fdl_add(a, o->eps)), fdl_sqrt(fdl_add(s, o->eps))), g);
    FDL_TRY(optim_one_average_square(a, u, o->rho));
    return optim_one_descend(b, i, u);
}

static const optim_kind adadelta = {
    .name = "adadelta",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_EPS | OPTIM_RHO,
    .defaults = {.lr = 1, .rho = 0.9, .eps = 1e-6},
    .counts = true,
    .states = {"square_avg", "acc_delta"},
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_adadelta_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adadelta, params, opts);
}
