/* Muon (Jordan and others, 2024), for matrices p [m, n]:
 *     b += (1 - momentum) * (g - b);  u = nesterov ? g + momentum * (b - g) : b
 *     x = u / max(|u|, eps), turned so that it is wide;  ns_steps times: A = x x', x = ns_a x + (ns_b A + ns_c A A) x
 *     p *= 1 - lr * weight_decay;  p -= lr * adjusted * x
 * All of x is bfloat16. The matrices go through the iterations one after the other: in a batch of several they would be rounded
 * otherwise than alone. */
#include "flodl/arithmetic.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

static fdl_status check(const fdl_optim_opts *o)
{
    return o->ns_steps < 100 ? FDL_OK
                             : fdl_fail(FDL_E_ARG, "muon: ns_steps is %d; it must be below 100", o->ns_steps);
}

static fdl_status admit(fdl_tensor *param, const char *name)
{
    if (fdl_ndim(param) == 2)
        return FDL_OK;
    char text[256];
    return fdl_fail(
        FDL_E_ARG,
        "muon: parameter \"%s\" is %s, and only 2-d ones can be made orthogonal; give the others to an "
        "adamw of their own",
        name, fdl_describe(param, text, sizeof text));
}

/* u [m, n] with its singular values brought near 1, bfloat16. */
static fdl_tensor *orthogonal(const fdl_optim_opts *o, fdl_tensor *u)
{
    bool tall = fdl_size(u, 0) > fdl_size(u, 1);
    fdl_tensor *x = fdl_bfloat16(u);
    x = tall ? fdl_transpose(x, 0, 1) : x;
    x = fdl_div(x, fdl_maximum(fdl_norm(x), o->eps));
    for (int k = 0; k < o->ns_steps; k++) {
        fdl_tensor *gram = fdl_mm(x, fdl_transpose(x, 0, 1));
        fdl_tensor *odd =
            fdl_addmm(gram, gram, gram, .beta = optim_exactly(o->ns_b), .alpha = optim_exactly(o->ns_c));
        x = fdl_addmm(x, odd, x, .beta = optim_exactly(o->ns_a));
    }
    return tall ? fdl_transpose(x, 0, 1) : x;
}

/* What the rate is multiplied by. */
static double adjusted(const fdl_optim_opts *o, fdl_tensor *p)
{
    double m = (double)fdl_size(p, 0), n = (double)fdl_size(p, 1);
    if (o->adjust == FDL_ADJUST_MATCH_RMS_ADAMW)
        return 0.2 * sqrt(fmax(m, n));
    return m > n ? sqrt(m / n) : 1;
}

/* The update of p, in its dtype. */
static fdl_tensor *update(const optim_batch *b, int i, fdl_tensor *u)
{
    fdl_tensor *p = b->params.at[i];
    return fdl_mul(fdl_to_dtype(orthogonal(b->o, u), fdl_dtype_of(p)), adjusted(b->o, p));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = b->grads.at[i], *m = b->state[0].at[i], *u = m;
    if (b->momentum) {
        FDL_TRY(fdl_mul_(m, b->momentum));
        FDL_TRY(fdl_add_(m, fdl_mul(g, fdl_rsub_scalar(b->momentum, 1))));
    } else {
        FDL_TRY(fdl_lerp_(m, g, 1 - o->momentum));
    }
    if (!o->no_nesterov)
        u = b->momentum ? fdl_add(g, fdl_mul(fdl_sub(m, g), b->momentum))
                        : fdl_lerp_scalar(g, m, o->momentum);
    u = update(b, i, u);
    if (!u || !optim_one_decayed(b, i, true))
        return fdl_error_pending();
    return optim_one_descend(b, i, u);
}

static fdl_status foreach (const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    fdl_list g = b->grads, m = b->state[0], u = optim_copy(o->no_nesterov ? m : g);
    if (b->momentum) {
        FDL_TRY(fdl_foreach_mul_(m, b->momentum));
        FDL_TRY(fdl_foreach_add_scaled_(m, g, fdl_rsub_scalar(b->momentum, 1)));
    } else {
        FDL_TRY(fdl_foreach_lerp_(m, g, 1 - o->momentum));
    }
    if (o->no_nesterov) {
        FDL_TRY(fdl_foreach_copy_(u, m));
    } else if (b->momentum) {
        FDL_TRY(fdl_foreach_mul_(u, fdl_rsub_scalar(b->momentum, 1)));
        FDL_TRY(fdl_foreach_add_scaled_(u, m, b->momentum));
    } else {
        FDL_TRY(fdl_foreach_lerp_(u, m, o->momentum));
    }
    for (int i = 0; i < u.n; i++)
        u.at[i] = update(b, i, u.at[i]);
    FDL_TRY(optim_decayed(b, true).n == u.n ? FDL_OK : fdl_error_pending());
    return optim_descend(b, u);
}

static const optim_kind muon = {
    .name = "muon",
    .fields = OPTIM_LR | OPTIM_WEIGHT_DECAY | OPTIM_IMPL | OPTIM_MOMENTUM | OPTIM_EPS | OPTIM_NO_NESTEROV |
              OPTIM_NS_STEPS | OPTIM_NS_A | OPTIM_NS_B | OPTIM_NS_C | OPTIM_ADJUST,
    .momentum_field = OPTIM_MOMENTUM,
    .defaults = {.lr = 1e-3,
                 .weight_decay = 0.1,
                 .momentum = 0.95,
                 .eps = 1e-7,
                 .ns_steps = 5,
                 .ns_a = 3.4445,
                 .ns_b = -4.775,
                 .ns_c = 2.0315},
    .check = check,
    .admit = admit,
    .decoupled = true,
    .states = {"momentum_buffer"},
    .foreach = foreach,
    .one = one,
};

fdl_optim *fdl_optim_muon_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&muon, params, opts);
}
