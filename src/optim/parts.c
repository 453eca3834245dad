/* What several methods have in common: each works on the lists of a batch. */
#include "flodl/arithmetic.h"
#include "flodl/shape.h"
#include "optim.h"

#include <math.h>

fdl_list optim_decayed(const optim_batch *b, bool decoupled)
{
    const fdl_optim_opts *o = b->o;
    const fdl_list none = {0, NULL};
    fdl_list g = o->maximize ? fdl_foreach_neg(b->grads) : b->grads;
    if (o->weight_decay == 0)
        return g;
    if (!decoupled)
        return fdl_foreach_add(g, b->params, o->weight_decay);
    fdl_status s = b->host ? fdl_foreach_mul_scalar_(b->params, 1 - o->lr * o->weight_decay)
                           : fdl_foreach_mul_(b->params, fdl_rsub_scalar(fdl_mul(b->lr, o->weight_decay), 1));
    return s == FDL_OK ? g : none;
}

fdl_status optim_average(const optim_batch *b, fdl_list a, fdl_list x)
{
    if (!b->momentum)
        return fdl_foreach_lerp_(a, x, 1 - b->o->beta1);
    FDL_TRY(fdl_foreach_mul_(a, b->momentum));
    return fdl_foreach_add_scaled_(a, x, fdl_rsub_scalar(b->momentum, 1));
}

fdl_status optim_average_square(fdl_list a, fdl_list x, double w)
{
    FDL_TRY(fdl_foreach_mul_scalar_(a, w));
    return fdl_foreach_addcmul_(a, x, x, 1 - w);
}

fdl_list optim_copy(fdl_list a)
{
    fdl_list c = {a.n, fdl_scope_alloc(sizeof *c.at * (size_t)(a.n + 1))};
    const fdl_list none = {0, NULL};
    for (int i = 0; c.at && i < a.n; i++)
        c.at[i] = fdl_empty_like(a.at[i]);
    return c.at && fdl_foreach_copy_(c, a) == FDL_OK ? c : none;
}

fdl_list optim_quotient(fdl_list a, fdl_list b)
{
    fdl_list q = optim_copy(a);
    const fdl_list none = {0, NULL};
    return fdl_foreach_div_(q, b) == FDL_OK ? q : none;
}

fdl_status optim_descend(const optim_batch *b, fdl_list u)
{
    return b->host ? fdl_foreach_add_(b->params, u, .alpha = optim_exactly(-b->o->lr))
                   : fdl_foreach_add_scaled_(b->params, u, fdl_neg(b->lr));
}

fdl_status optim_descend_by(const optim_batch *b, fdl_list u, fdl_tensor *rates)
{
    FDL_TRY(fdl_foreach_mul_list_(u, fdl_unbind(rates, 0)));
    return fdl_foreach_add_(b->params, u, .alpha = -1);
}

fdl_tensor *optim_counts(const optim_batch *b)
{
    return fdl_double(fdl_stack(b->steps, 0));
}

/* By expm1, since beta^t is near 1 at first. */
fdl_tensor *optim_correction(fdl_tensor *t, fdl_tensor *log_beta)
{
    return fdl_neg(fdl_expm1(fdl_mul(fdl_double(t), log_beta)));
}

fdl_tensor *optim_log(double beta, fdl_tensor *like)
{
    return fdl_scalar(log(beta), .dtype = FDL_FLOAT64, .device = fdl_device_of(like));
}

fdl_tensor *optim_log_beta1(const optim_batch *b)
{
    return b->momentum ? fdl_log(fdl_double(b->momentum)) : optim_log(b->o->beta1, b->lr);
}

/* ---- one parameter ------------------------------------------------------------------------------------ */

fdl_tensor *optim_one_decayed(const optim_batch *b, int i, bool decoupled)
{
    const fdl_optim_opts *o = b->o;
    fdl_tensor *p = b->params.at[i], *g = b->grads.at[i];
    if (o->maximize)
        g = fdl_neg(g);
    if (o->weight_decay == 0)
        return g;
    if (!decoupled)
        return fdl_add(g, fdl_mul(p, o->weight_decay));
    fdl_status s = b->host ? fdl_mul_scalar_(p, 1 - o->lr * o->weight_decay)
                           : fdl_mul_(p, fdl_rsub_scalar(fdl_mul(b->lr, o->weight_decay), 1));
    return s == FDL_OK ? g : NULL;
}

fdl_status optim_one_average(const optim_batch *b, fdl_tensor *a, fdl_tensor *x)
{
    if (!b->momentum)
        return fdl_lerp_(a, x, 1 - b->o->beta1);
    FDL_TRY(fdl_mul_(a, b->momentum));
    return fdl_add_(a, fdl_mul(x, fdl_rsub_scalar(b->momentum, 1)));
}

fdl_status optim_one_average_square(fdl_tensor *a, fdl_tensor *x, double w)
{
    FDL_TRY(fdl_mul_scalar_(a, w));
    return fdl_addcmul_(a, x, x, .value = optim_exactly(1 - w));
}

double optim_host_count(const optim_batch *b, int i)
{
    const float *t = fdl_data_ptr(b->steps.at[i]);
    return t ? (double)*t : (double)NAN;
}

double optim_host_rate(const optim_batch *b, int i)
{
    return b->o->lr / (1 - pow(b->o->beta1, optim_host_count(b, i)));
}

fdl_tensor *optim_one_count(const optim_batch *b, int i)
{
    return fdl_double(b->steps.at[i]);
}

fdl_tensor *optim_one_rate(const optim_batch *b, int i)
{
    return fdl_div(b->lr, optim_correction(b->steps.at[i], optim_log_beta1(b)));
}

fdl_status optim_one_descend(const optim_batch *b, int i, fdl_tensor *u)
{
    return b->host ? fdl_add_(b->params.at[i], u, .alpha = optim_exactly(-b->o->lr))
                   : fdl_sub_(b->params.at[i], fdl_mul(u, b->lr));
}

fdl_status optim_one_descend_by(const optim_batch *b, int i, fdl_tensor *u, fdl_tensor *rate)
{
    return fdl_sub_(b->params.at[i], fdl_mul(u, rate));
}
