/* Averaged stochastic gradient descent (Polyak and Juditsky, 1992), t being the parameter's own count of steps:
 *     g += weight_decay * p;  p -= eta * (g + lambd * p);  ax += mu * (p - ax)
 *     then, for the next step: eta = lr / (1 + lambd * lr * t)^alpha, mu = 1 / max(1, t - t0); at first lr and 1
 * eta and mu are float32, as PyTorch's. */
#include "flodl/arithmetic.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

enum { AX, ETA, MU };

static double initial(const fdl_optim_opts *o, int state)
{
    return state == ETA ? o->lr : state == MU;
}

/* The next eta and mu after t steps, in t's shape, float64. */
static fdl_tensor *next_eta(const optim_batch *b, fdl_tensor *t)
{
    fdl_tensor *lr = fdl_double(b->lr);
    fdl_tensor *fall = fdl_add(fdl_mul(fdl_mul(t, lr), b->o->lambd), 1);
    return fdl_div(lr, fdl_pow(fall, b->o->alpha));
}
static fdl_tensor *next_mu(const optim_batch *b, fdl_tensor *t)
{
    return fdl_reciprocal(fdl_maximum(fdl_sub(t, b->o->t0), 1));
}

/* The same with the numbers read. */
static fdl_status one_on_host(const optim_batch *b, int i, fdl_tensor *g)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i];
    float *eta = fdl_data_ptr(b->state[ETA].at[i]), *mu = fdl_data_ptr(b->state[MU].at[i]);
    if (!eta || !mu)
        return fdl_error_pending();
    double t = optim_host_count(b, i);
    FDL_TRY(fdl_mul_scalar_(p, 1 - o->lambd * (double)*eta));
    FDL_TRY(fdl_add_(p, g, .alpha = optim_exactly(-(double)*eta)));
    FDL_TRY(fdl_lerp_(b->state[AX].at[i], p, (double)*mu));
    *eta = (float)(o->lr / pow(1 + o->lambd * o->lr * t, o->alpha));
    *mu = (float)(1 / fmax(1, t - o->t0));
    return FDL_OK;
}

static fdl_status one(const optim_batch *b, int i)
{
    fdl_tensor *p = b->params.at[i], *ax = b->state[AX].at[i], *eta = b->state[ETA].at[i],
               *mu = b->state[MU].at[i], *g = optim_one_decayed(b, i, false);
    if (b->host)
        return one_on_host(b, i, g);
    fdl_tensor *t = optim_one_count(b, i), *rate = fdl_double(eta);
    FDL_TRY(fdl_mul_(p, fdl_rsub_scalar(fdl_mul(rate, b->o->lambd), 1)));
    FDL_TRY(fdl_sub_(p, fdl_mul(g, rate)));
    FDL_TRY(fdl_add_(ax, fdl_mul(fdl_sub(p, ax), fdl_double(mu))));
    FDL_TRY(fdl_copy_(eta, next_eta(b, t)));
    return fdl_copy_(mu, next_mu(b, t));
}

static fdl_status foreach (const optim_batch *b)
{
    fdl_list ax = b->state[AX], eta = b->state[ETA], mu = b->state[MU];
    fdl_list down = fdl_foreach_add(optim_decayed(b, false), b->params, b->o->lambd);
    FDL_TRY(fdl_foreach_mul_list_(down, eta));
    FDL_TRY(fdl_foreach_add_(b->params, down, .alpha = -1));
    fdl_list apart = fdl_foreach_add(b->params, ax, -1);
    FDL_TRY(fdl_foreach_mul_list_(apart, mu));
    FDL_TRY(fdl_foreach_add_(ax, apart));
    fdl_tensor *t = optim_counts(b);
    FDL_TRY(fdl_foreach_copy_(eta, fdl_unbind(next_eta(b, t), 0)));
    return fdl_foreach_copy_(mu, fdl_unbind(next_mu(b, t), 0));
}

static const optim_kind asgd = {
    .name = "asgd",
    .fields =
        OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_LAMBD | OPTIM_ALPHA | OPTIM_T0,
    .defaults = {.lr = 1e-2, .lambd = 1e-4, .alpha = 0.75, .t0 = 1e6},
    .counts = true,
    .states = {"ax", "eta", "mu"},
    .form = {[ETA] = OPTIM_NUMBER, [MU] = OPTIM_NUMBER},
    .initial = initial,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_asgd_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&asgd, params, opts);
}
