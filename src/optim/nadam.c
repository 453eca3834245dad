/* NAdam, t being the parameter's own count of steps; weight decay as adam's, or with .decoupled as adamw's:
 *     m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2;  d = sqrt(v / (1 - beta2^t)) + eps
 *     mu(t) = beta1 * (1 - 0.96^(t * momentum_decay) / 2);  P = mu(1) * ... * mu(t)
 *     p -= lr * ((1 - mu(t)) / (1 - P) * g + mu(t + 1) / (1 - P * mu(t + 1)) * m) / d */
#include "flodl/arithmetic.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

enum { EXP_AVG, EXP_AVG_SQ, MU_PRODUCT };

static double initial(const fdl_optim_opts *o, int state)
{
    (void)o;
    return state == MU_PRODUCT;
}

/* mu(t) for the counts t, float64 [n]. */
static fdl_tensor *mu(const optim_batch *b, fdl_tensor *t)
{
    fdl_tensor *fades = fdl_exp(fdl_mul(t, b->o->momentum_decay * log(0.96)));
    fdl_tensor *share = fdl_rsub_scalar(fdl_mul(fades, 0.5), 1);
    return b->momentum ? fdl_mul(share, fdl_double(b->momentum)) : fdl_mul(share, b->o->beta1);
}

/* lr * a / (1 - product). */
static fdl_tensor *rates(const optim_batch *b, fdl_tensor *a, fdl_tensor *product)
{
    return fdl_mul(fdl_div(a, fdl_rsub_scalar(product, 1)), b->lr);
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = optim_decayed(b, o->decoupled), m = b->state[EXP_AVG], v = b->state[EXP_AVG_SQ];
    fdl_tensor *t = optim_counts(b);
    fdl_tensor *now = mu(b, t), *next = mu(b, fdl_add(t, 1));
    FDL_TRY(fdl_foreach_mul_list_(b->state[MU_PRODUCT], fdl_unbind(fdl_float(now), 0)));
    FDL_TRY(optim_average(b, m, g));
    FDL_TRY(optim_average_square(v, g, o->beta2));

    fdl_list d = fdl_foreach_sqrt(v);
    fdl_tensor *root = fdl_sqrt(optim_correction(t, optim_log(o->beta2, t)));
    FDL_TRY(fdl_foreach_div_(d, fdl_unbind(root, 0)));
    FDL_TRY(fdl_foreach_add_scalar_(d, o->eps));
    fdl_tensor *product = fdl_double(fdl_stack(b->state[MU_PRODUCT], 0));
    FDL_TRY(optim_descend_by(b, optim_quotient(g, d), rates(b, fdl_rsub_scalar(now, 1), product)));
    return optim_descend_by(b, optim_quotient(m, d), rates(b, next, fdl_mul(product, next)));
}

/* The same with counts and products read. */
static fdl_status one_on_host(const optim_batch *b, int i, fdl_tensor *g)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *m = b->state[EXP_AVG].at[i], *v = b->state[EXP_AVG_SQ].at[i];
    float *product = fdl_data_ptr(b->state[MU_PRODUCT].at[i]);
    if (!product)
        return fdl_error_pending();
    double t = optim_host_count(b, i), fall = o->momentum_decay * log(0.96);
    double now = o->beta1 * (1 - 0.5 * exp(t * fall)), next = o->beta1 * (1 - 0.5 * exp((t + 1) * fall));
    *product *= (float)now;
    FDL_TRY(optim_one_average(b, m, g));
    FDL_TRY(optim_one_average_square(v, g, o->beta2));
    fdl_tensor *d = fdl_sqrt(v);
    FDL_TRY(fdl_div_scalar_(d, sqrt(1 - pow(o->beta2, t))));
    FDL_TRY(fdl_add_scalar_(d, o->eps));
    double of_g = -o->lr * (1 - now) / (1 - (double)*product),
           of_m = -o->lr * next / (1 - (double)*product * next);
    FDL_TRY(fdl_addcdiv_(p, g, d, .value = optim_exactly(of_g)));
    return fdl_addcdiv_(p, m, d, .value = optim_exactly(of_m));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, o->decoupled), *m = b->state[EXP_AVG].at[i],
               *v = b->state[EXP_AVG_SQ].at[i], *product = b->state[MU_PRODUCT].at[i];
    if (!g)
        return fdl_error_pending();
    if (b->host)
        return one_on_host(b, i, g);
    fdl_tensor *t = optim_one_count(b, i), *now = mu(b, t), *next = mu(b, fdl_add(t, 1));
    FDL_TRY(fdl_mul_(product, fdl_float(now)));
    FDL_TRY(optim_one_average(b, m, g));
    FDL_TRY(optim_one_average_square(v, g, o->beta2));
    fdl_tensor *root = fdl_sqrt(optim_correction(t, optim_log(o->beta2, t)));
    fdl_tensor *d = fdl_add(fdl_div(fdl_sqrt(v), root), o->eps), *wide = fdl_double(product);
    FDL_TRY(optim_one_descend_by(b, i, fdl_div(g, d), rates(b, fdl_rsub_scalar(now, 1), wide)));
    return optim_one_descend_by(b, i, fdl_div(m, d), rates(b, next, fdl_mul(wide, next)));
}

static const optim_kind nadam = {
    .name = "nadam",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2 |
              OPTIM_EPS | OPTIM_MOMENTUM_DECAY | OPTIM_DECOUPLED,
    .momentum_field = OPTIM_BETA1,
    .defaults = {.lr = 2e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .momentum_decay = 4e-3},
    .counts = true,
    .states = {"exp_avg", "exp_avg_sq", "mu_product"},
    .form = {[MU_PRODUCT] = OPTIM_NUMBER},
    .initial = initial,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_nadam_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&nadam, params, opts);
}
