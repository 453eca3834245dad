/* Stochastic gradient descent:
 *     g += weight_decay * p;  b = momentum * b + (1 - dampening) * g, at first g itself;  g = nesterov ? g + momentum * b : b
 *     p -= lr * g
 * The buffer begins as zeros, which gives g at the first step by itself unless there is dampening: so the first step isn't a
 * case of its own, and a captured one replays right. */
#include "flodl/arithmetic.h"
#include "flodl/kernels.h"
#include "optim.h"

static bool needs(const optim_group *g, const optim_slot *s, int state)
{
    (void)s;
    (void)state;
    return g->o.momentum != 0 || g->scheduled;
}

static fdl_status check(const fdl_optim_opts *o)
{
    if (o->nesterov && (o->momentum <= 0 || o->dampening != 0))
        return fdl_fail(FDL_E_ARG, "sgd: .nesterov needs momentum above 0 and dampening 0, not %g and %g",
                        o->momentum, o->dampening);
    return FDL_OK;
}

static bool begins(const optim_batch *b)
{
    return b->fresh && b->o->dampening != 0;
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *g = b->grads.at[i];
    if (o->maximize)
        g = fdl_neg(g);
    if (o->weight_decay != 0)
        g = fdl_add(g, fdl_mul(p, o->weight_decay));
    if (b->state[0].n) {
        fdl_tensor *m = b->state[0].at[i];
        if (begins(b)) {
            FDL_TRY(fdl_copy_(m, g));
        } else {
            FDL_TRY(b->momentum ? fdl_mul_(m, b->momentum) : fdl_mul_scalar_(m, o->momentum));
            FDL_TRY(fdl_add_(m, g, .alpha = optim_exactly(1 - o->dampening)));
        }
        if (o->nesterov)
            g = fdl_add(g, b->momentum ? fdl_mul(m, b->momentum) : fdl_mul(m, o->momentum));
        else
            g = m;
    }
    return b->host ? fdl_add_(p, g, .alpha = optim_exactly(-o->lr)) : fdl_sub_(p, fdl_mul(g, b->lr));
}

/* The buffer is dense, PyTorch's sparse one grows to the same rows; the numbers are equal. */
static fdl_status one_sparse(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *g = b->grads.at[i];
    if (o->maximize)
        g = fdl_neg(g);
    if (!b->state[0].n)
        return fdl_add_(p, fdl_neg(fdl_mul(g, b->lr)));
    fdl_tensor *m = b->state[0].at[i];
    FDL_TRY(b->momentum ? fdl_mul_(m, b->momentum) : fdl_mul_scalar_(m, o->momentum));
    FDL_TRY(fdl_add_(m, g, .alpha = begins(b) ? 1 : optim_exactly(1 - o->dampening)));
    if (!o->nesterov)
        return fdl_sub_(p, fdl_mul(m, b->lr));
    FDL_TRY(fdl_add_(p, fdl_neg(fdl_mul(g, b->lr))));
    fdl_tensor *ahead = b->momentum ? fdl_mul(m, b->momentum) : fdl_mul(m, o->momentum);
    return fdl_sub_(p, fdl_mul(ahead, b->lr));
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = b->grads;
    if (o->maximize)
        g = fdl_foreach_neg(g);
    if (o->weight_decay != 0)
        g = fdl_foreach_add(g, b->params, o->weight_decay);
    if (b->state[0].n) {
        fdl_list m = b->state[0];
        if (begins(b)) {
            FDL_TRY(fdl_foreach_copy_(m, g));
        } else {
            FDL_TRY(b->momentum ? fdl_foreach_mul_(m, b->momentum) : fdl_foreach_mul_scalar_(m, o->momentum));
            FDL_TRY(fdl_foreach_add_(m, g, .alpha = optim_exactly(1 - o->dampening)));
        }
        if (!o->nesterov) {
            g = m;
        } else if (b->momentum) {
            g = fdl_foreach_add(g, m, 0);
            FDL_TRY(fdl_foreach_add_scaled_(g, m, b->momentum));
        } else {
            g = fdl_foreach_add(g, m, o->momentum);
        }
    }
    return b->host ? fdl_foreach_add_(b->params, g, .alpha = optim_exactly(-o->lr))
                   : fdl_foreach_add_scaled_(b->params, g, fdl_neg(b->lr));
}

static fdl_status fused(const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    if (b->state[0].n && o->momentum == 0) /* a schedule can say so; the kernel takes 0 as "no buffers" */
        return foreach (b);
    return fdl_k_fused_sgd_(b->params, b->grads, b->state[0], b->lr, .weight_decay = o->weight_decay,
                            .momentum = o->momentum, .dampening = o->dampening, .nesterov = o->nesterov,
                            .maximize = o->maximize, .first_step = begins(b), .found_inf = b->skip);
}

static const optim_kind sgd = {
    .name = "sgd",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_MOMENTUM | OPTIM_DAMPENING |
              OPTIM_NESTEROV | OPTIM_MASTER_WEIGHTS,
    .momentum_field = OPTIM_MOMENTUM,
    .defaults = {.lr = 1e-3},
    .check = check,
    .sparsity = OPTIM_ANY,
    .one_sparse = one_sparse,
    .states = {"momentum_buffer", "master"},
    .form = {[1] = OPTIM_MASTER},
    .needs = needs,
    .fused = fused,
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_sgd_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&sgd, params, opts);
}
