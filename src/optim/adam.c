/* Adam and AdamW, t being the parameter's own count of steps:
 *     adam: g += weight_decay * p;  adamw, and adam with .decoupled: p *= 1 - lr * weight_decay
 *     m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2;  w = amsgrad ? the largest v so far : v
 *     p -= lr / (1 - beta1^t) * m / (sqrt(w) / sqrt(1 - beta2^t) + eps)
 * On the CPU the counters are read; elsewhere 1 - beta^t is computed where they are. */
#include "flodl/arithmetic.h"
#include "flodl/kernels.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

enum { EXP_AVG, EXP_AVG_SQ, MAX_EXP_AVG_SQ, MASTER };

static bool is_decoupled(const optim_batch *b)
{
    return b->kind->decoupled || b->o->decoupled;
}

static bool needs(const optim_group *g, const optim_slot *s, int state)
{
    (void)s;
    return state != MAX_EXP_AVG_SQ || g->o.amsgrad;
}

/* On the host, of a count: lr / (1 - beta1^t) and sqrt(1 - beta2^t). */
static double rate_at(const fdl_optim_opts *o, double t)
{
    return o->lr / (1 - pow(o->beta1, t));
}
static double root_at(const fdl_optim_opts *o, double t)
{
    return sqrt(1 - pow(o->beta2, t));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *g = b->grads.at[i], *step = b->steps.at[i];
    fdl_tensor *m = b->state[EXP_AVG].at[i], *v = b->state[EXP_AVG_SQ].at[i];
    if (o->maximize)
        g = fdl_neg(g);
    if (o->weight_decay != 0) {
        if (!is_decoupled(b))
            g = fdl_add(g, fdl_mul(p, o->weight_decay));
        else if (b->host)
            FDL_TRY(fdl_mul_scalar_(p, 1 - o->lr * o->weight_decay));
        else
            FDL_TRY(fdl_mul_(p, fdl_rsub_scalar(fdl_mul(b->lr, o->weight_decay), 1)));
    }
    if (b->momentum) {
        FDL_TRY(fdl_mul_(m, b->momentum));
        FDL_TRY(fdl_add_(m, fdl_mul(g, fdl_rsub_scalar(b->momentum, 1))));
    } else {
        FDL_TRY(fdl_lerp_(m, g, 1 - o->beta1));
    }
    FDL_TRY(fdl_mul_scalar_(v, o->beta2));
    FDL_TRY(fdl_addcmul_(v, g, g, .value = 1 - o->beta2));
    if (o->amsgrad) {
        fdl_tensor *largest = b->state[MAX_EXP_AVG_SQ].at[i];
        FDL_TRY(fdl_maximum_(largest, v));
        v = largest;
    }
    fdl_tensor *d = fdl_sqrt(v);
    if (b->host) {
        double t = optim_host_count(b, i);
        FDL_TRY(fdl_div_scalar_(d, root_at(o, t)));
        FDL_TRY(fdl_add_scalar_(d, o->eps));
        return fdl_addcdiv_(p, m, d, .value = optim_exactly(-rate_at(o, t)));
    }
    FDL_TRY(fdl_div_(d, fdl_sqrt(optim_correction(step, optim_log(o->beta2, step)))));
    FDL_TRY(fdl_add_scalar_(d, o->eps));
    fdl_tensor *u = fdl_div(m, d);
    FDL_TRY(fdl_mul_(u, fdl_div(b->lr, optim_correction(step, optim_log_beta1(b)))));
    return fdl_sub_(p, u);
}

/* p -= lr / (1 - beta1^t) * m / (d / sqrt(1 - beta2^t) + eps) with the counts read: one round for all that
 * have the same. */
static fdl_status apply_on_host(const optim_batch *b, fdl_list d)
{
    for (int i = 0, next; i < d.n; i = next) {
        double t = optim_host_count(b, i);
        for (next = i + 1; next < d.n && optim_host_count(b, next) == t;)
            next++;
        fdl_list p = {next - i, b->params.at + i}, m = {next - i, b->state[EXP_AVG].at + i},
                 ds = {next - i, d.at + i};
        FDL_TRY(fdl_foreach_mul_scalar_(ds, 1 / root_at(b->o, t)));
        FDL_TRY(fdl_foreach_add_scalar_(ds, b->o->eps));
        FDL_TRY(fdl_foreach_addcdiv_(p, m, ds, -rate_at(b->o, t)));
    }
    return FDL_OK;
}

/* The same with the counts where they are: as one vector [n], whose elements then divide. */
static fdl_status apply_on_device(const optim_batch *b, fdl_list d)
{
    fdl_tensor *t = fdl_stack(b->steps, 0);
    fdl_list roots = fdl_unbind(fdl_sqrt(optim_correction(t, optim_log(b->o->beta2, t))), 0);
    fdl_list rates = fdl_unbind(fdl_neg(fdl_div(optim_correction(t, optim_log_beta1(b)), b->lr)), 0);
    FDL_TRY(fdl_foreach_div_(d, roots));
    FDL_TRY(fdl_foreach_add_scalar_(d, b->o->eps));
    FDL_TRY(fdl_foreach_mul_list_(
        d, rates)); /* by -(1 - beta1^t) / lr: infinite at a rate of 0, which moves nothing */
    return fdl_foreach_addcdiv_(b->params, b->state[EXP_AVG], d, 1);
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = b->grads, m = b->state[EXP_AVG], v = b->state[EXP_AVG_SQ];
    if (o->maximize)
        g = fdl_foreach_neg(g);
    if (o->weight_decay != 0) {
        if (!is_decoupled(b))
            g = fdl_foreach_add(g, b->params, o->weight_decay);
        else if (b->host)
            FDL_TRY(fdl_foreach_mul_scalar_(b->params, 1 - o->lr * o->weight_decay));
        else
            FDL_TRY(fdl_foreach_mul_(b->params, fdl_rsub_scalar(fdl_mul(b->lr, o->weight_decay), 1)));
    }
    if (b->momentum) {
        FDL_TRY(fdl_foreach_mul_(m, b->momentum));
        FDL_TRY(fdl_foreach_add_scaled_(m, g, fdl_rsub_scalar(b->momentum, 1)));
    } else {
        FDL_TRY(fdl_foreach_lerp_(m, g, 1 - o->beta1));
    }
    FDL_TRY(fdl_foreach_mul_scalar_(v, o->beta2));
    FDL_TRY(fdl_foreach_addcmul_(v, g, g, 1 - o->beta2));
    if (o->amsgrad) {
        FDL_TRY(fdl_foreach_maximum_(b->state[MAX_EXP_AVG_SQ], v));
        v = b->state[MAX_EXP_AVG_SQ];
    }
    fdl_list d = fdl_foreach_sqrt(v);
    return b->host ? apply_on_host(b, d) : apply_on_device(b, d);
}

static fdl_status fused(const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    return fdl_k_fused_adam_(b->params, b->grads, b->state[EXP_AVG], b->state[EXP_AVG_SQ], b->steps, b->lr,
                             .max_exp_avg_sqs = b->state[MAX_EXP_AVG_SQ], .beta1 = optim_exactly(o->beta1),
                             .beta2 = optim_exactly(o->beta2), .weight_decay = o->weight_decay,
                             .eps = optim_exactly(o->eps), .amsgrad = o->amsgrad, .maximize = o->maximize,
                             .decoupled = is_decoupled(b), .found_inf = b->skip);
}

#define ADAM(title, always, decay, more)                                                                    \
    {                                                                                                       \
        .name = title,                                                                                      \
        .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2 | \
                  OPTIM_EPS | OPTIM_AMSGRAD | OPTIM_MASTER_WEIGHTS | (more),                                \
        .momentum_field = OPTIM_BETA1,                                                                      \
        .defaults = {.lr = 1e-3, .weight_decay = decay, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},         \
        .counts = true, .decoupled = always,                                                                \
        .states = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "master"}, .form = {[MASTER] = OPTIM_MASTER}, \
        .needs = needs, .fused = fused, .foreach = foreach, .one = one,                                     \
    }
static const optim_kind adam = ADAM("adam", false, 0, OPTIM_DECOUPLED);
static const optim_kind adamw = ADAM("adamw", true, 1e-2, 0);

fdl_optim *fdl_optim_adam_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adam, params, opts);
}

fdl_optim *fdl_optim_adamw_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adamw, params, opts);
}
