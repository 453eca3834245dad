/* Adam for sparse gradients, t being the parameter's own count of steps, of the rows that the gradient has:
 *     m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2
 *     p -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps) */
#include "flodl/arithmetic.h"
#include "flodl/sparse.h"
#include "optim.h"

enum { EXP_AVG, EXP_AVG_SQ };

/* a += w * (x - a) in the rows of g, w a number or 0-d; what they are then, or NULL. */
static fdl_tensor *blend(fdl_tensor *a, fdl_tensor *g, fdl_tensor *x, double number, fdl_tensor *w)
{
    fdl_tensor *old = fdl_sparse_values(fdl_sparse_mask(a, g));
    fdl_tensor *change = fdl_sub(x, old);
    change = w ? fdl_mul(change, w) : fdl_mul(change, number);
    fdl_tensor *rows = fdl_sparse_coo(fdl_sparse_indices(g), change, fdl_shape_of(a));
    return fdl_add_(a, rows) == FDL_OK ? fdl_add(old, change) : NULL;
}

static fdl_status one_sparse(const optim_batch *b, int i)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *t = optim_one_count(b, i), *g = fdl_coalesce(b->grads.at[i]);
    fdl_tensor *x = fdl_sparse_values(g);
    if (x && fdl_numel(x) == 0)
        return FDL_OK;
    if (o->maximize)
        x = fdl_neg(x);
    fdl_tensor *w = b->momentum ? fdl_rsub_scalar(b->momentum, 1) : NULL;
    fdl_tensor *m = blend(b->state[EXP_AVG].at[i], g, x, 1 - o->beta1, w);
    fdl_tensor *v = blend(b->state[EXP_AVG_SQ].at[i], g, fdl_square(x), 1 - o->beta2, NULL);
    fdl_tensor *rate = fdl_mul(optim_one_rate(b, i), fdl_sqrt(optim_correction(t, optim_log(o->beta2, t))));
    fdl_tensor *u = fdl_mul(fdl_div(m, fdl_add(fdl_sqrt(v), o->eps)), rate);
    return fdl_add_(p, fdl_sparse_coo(fdl_sparse_indices(g), fdl_neg(u), fdl_shape_of(p)));
}

static const optim_kind sparse_adam = {
    .name = "sparse_adam",
    .fields = OPTIM_LR | OPTIM_MAXIMIZE | OPTIM_IMPL | OPTIM_BETA1 | OPTIM_BETA2 | OPTIM_EPS,
    .momentum_field = OPTIM_BETA1,
    .defaults = {.lr = 1e-3, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8},
    .counts = true,
    .sparsity = OPTIM_SPARSE,
    .states = {"exp_avg", "exp_avg_sq"},
    .one_sparse = one_sparse,
};

fdl_optim *fdl_optim_sparse_adam_opt(const fdl_params *params, const fdl_optim_opts *opts)
{
    return optim_new(&sparse_adam, params, opts);
}
