/* Adagrad, t being the parameter's own count of steps:
 *     g += weight_decay * p;  s += g^2, from initial_accumulator on;  p -= lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s) + eps) */
#include "flodl/arithmetic.h"
#include "flodl/kernels.h"
#include "flodl/sparse.h"
#include "optim.h"

static double initial(const fdl_optim_opts *o, int state)
{
    (void)state;
    return o->initial_accumulator;
}

/* lr / (1 + (t - 1) * lr_decay) for counts t (shape of t). */
static fdl_tensor *slowed(const optim_batch *b, fdl_tensor *t)
{
    return fdl_div(b->lr, fdl_add(fdl_mul(fdl_sub(t, 1), b->o->lr_decay), 1));
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
    return optim_descend_by(b, u, slowed(b, optim_counts(b)));
}

static fdl_status one(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *g = optim_one_decayed(b, i, false), *s = b->state[0].at[i];
    FDL_TRY(fdl_addcmul_(s, g, g));
    if (b->host) {
        double rate = o->lr / (1 + (optim_host_count(b, i) - 1) * o->lr_decay);
        fdl_tensor *d = fdl_sqrt(s);
        FDL_TRY(fdl_add_scalar_(d, o->eps));
        return fdl_addcdiv_(b->params.at[i], g, d, .value = optim_exactly(-rate));
    }
    fdl_tensor *u = fdl_div(g, fdl_add(fdl_sqrt(s), o->eps));
    return o->lr_decay == 0 ? optim_one_descend(b, i, u)
                            : optim_one_descend_by(b, i, u, slowed(b, optim_one_count(b, i)));
}

static fdl_status one_sparse(const optim_batch *b, int i)
{
    fdl_tensor *p = b->params.at[i], *s = b->state[0].at[i], *g = fdl_coalesce(b->grads.at[i]);
    fdl_tensor *at = fdl_sparse_indices(g), *v = fdl_sparse_values(g);
    if (b->o->maximize)
        v = fdl_neg(v);
    FDL_TRY(fdl_add_(s, fdl_sparse_coo(at, fdl_square(v), fdl_shape_of(p))));
    fdl_tensor *root = fdl_sqrt(fdl_sparse_values(fdl_sparse_mask(s, g)));
    fdl_tensor *u = fdl_mul(fdl_div(v, fdl_add(root, b->o->eps)), slowed(b, optim_one_count(b, i)));
    return fdl_add_(p, fdl_sparse_coo(at, fdl_neg(u), fdl_shape_of(p)));
}

static fdl_status fused(const optim_batch *b)
{
    const fdl_optim_opts *o = b->o;
    return fdl_k_fused_adagrad_(b->params, b->grads, b->state[0], b->steps, b->lr, .lr_decay = o->lr_decay,
                                .weight_decay = o->weight_decay, .eps = optim_exactly(o->eps),
                                .maximize = o->maximize, .found_inf = b->skip);
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
    .one = one,
    .sparsity = OPTIM_ANY,
    .one_sparse = one_sparse,
    .has_kernel = fdl_k_has_fused_adagrad,
    .fused = fused,
};

fdl_optim *fdl_optim_adagrad_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&adagrad, params, opts);
}
