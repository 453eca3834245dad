/* What a step changes: its values kept on the host, so that the device's peak stays, and written back; and how far two ways
 * to make the same step are apart. */
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/inplace.h"
#include "flodl/random.h"
#include "flodl/reduce.h"
#include "plan.h"

#include <math.h>

/* ---- gathering ------------------------------------------------------------------------------------------ */

static fdl_status take_in(step_state *s, fdl_tensor *x)
{
    if (!x)
        return FDL_OK;
    if (s->n == s->room) {
        int room = s->room ? 2 * s->room : 64;
        fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)room);
        if (!at)
            return fdl_error_pending();
        if (s->n)
            memcpy(at, s->at, sizeof *at * (size_t)s->n);
        s->at = at;
        s->room = room;
    }
    s->at[s->n++] = x;
    return FDL_OK;
}

fdl_status state_gather(const fdl_trainer *tr, trainer_part part, step_state *s)
{
    *s = (step_state){0};
    fdl_params *lists[] = {fdl_parameters(tr->model), fdl_buffers(tr->model)};
    for (int k = 0; k < 2; k++) {
        if (!lists[k])
            return fdl_error_pending();
        for (int i = 0; i < fdl_params_count(lists[k]); i++) {
            fdl_tensor *x = fdl_param_tensor(fdl_params_at(lists[k], i));
            FDL_TRY(take_in(s, x));
            if (tr->o.ema)
                FDL_TRY(take_in(s, fdl_ema_shadow(tr->o.ema, x)));
        }
    }
    fdl_list states = fdl_module_states(tr->model);
    if (!states.at)
        return fdl_error_pending();
    for (int i = 0; i < states.n; i++)
        FDL_TRY(take_in(s, states.at[i]));
    for (int g = 0; g < fdl_optim_groups(tr->opt); g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        for (int i = 0; i < params.n; i++) {
            fdl_list kept = fdl_optim_states(tr->opt, params.at[i]);
            for (int k = 0; k < kept.n; k++)
                FDL_TRY(take_in(s, kept.at[k]));
            if (!part.first)
                FDL_TRY(take_in(s, fdl_grad(params.at[i])));
        }
    }
    fdl_tensor *others[] = {tr->meter.pack, tr->meter.total,
                            tr->meter.dtype == FDL_FLOAT64 ? tr->meter.loss : NULL};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        FDL_TRY(take_in(s, others[i]));
    fdl_list more = {0, NULL};
    if (tr->o.scaler)
        more = fdl_amp_scaler_tensors(tr->o.scaler);
    for (int i = 0; i < more.n; i++)
        FDL_TRY(take_in(s, more.at[i]));
    if (tr->o.ema)
        FDL_TRY(take_in(s, fdl_ema_count(tr->o.ema)));
    return fdl_error_pending();
}

static fdl_tensor **copies(const step_state *s)
{
    fdl_tensor **copy = fdl_scope_alloc(sizeof *copy * (size_t)(s->n + 1));
    for (int i = 0; copy && i < s->n; i++)
        if (!(copy[i] = fdl_to_device(fdl_detach(s->at[i]), FDL_CPU, .copy = true)))
            return NULL;
    return copy;
}

fdl_status state_save(const fdl_trainer *tr, trainer_part part, step_state *s)
{
    FDL_TRY(state_gather(tr, part, s));
    s->left = fdl_module_left(tr->model);
    if (!s->left.at)
        return fdl_error_pending();
    s->copy = copies(s);
    s->random = fdl_rng_state(fdl_device_of(tr->probe));
    return s->copy && s->random ? FDL_OK : fdl_error_pending();
}

fdl_status state_restore(const fdl_trainer *tr, const step_state *s)
{
    FDL_NO_GRAD;
    for (int i = 0; i < s->n; i++)
        FDL_TRY(fdl_copy_(s->at[i], s->copy[i]));
    FDL_TRY(fdl_module_set_left(tr->model, s->left));
    return fdl_set_rng_state(fdl_device_of(tr->probe), s->random);
}

/* ---- comparing ------------------------------------------------------------------------------------------ */

/* The largest difference, relative to the largest value; 0 for equal bits. */
static double apart(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (fdl_same(a, b) || fdl_numel(a) == 0)
        return 0;
    fdl_tensor *x = fdl_double(a), *y = fdl_double(b);
    double most = fdl_item(fdl_max(fdl_abs(y))), far = fdl_item(fdl_max(fdl_abs(fdl_sub(x, y))));
    if (isnan(far)) /* equal where both are no numbers? */
        return fdl_allclose(x, y, .equal_nan = true) ? 0 : (double)INFINITY;
    return far == 0 ? 0 : far / (most > 0 ? most : 1);
}

/* The sum of the squares of a - b, or of a. */
static double squares(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *x = fdl_double(a);
    return fdl_item(fdl_sum(fdl_square(b ? fdl_sub(x, fdl_double(b)) : x)));
}

fdl_status outcome_note(const step_state *s, const trainer_plan *p, bool of_plan, outcome *o)
{
    o->state = copies(s);
    o->grad = fdl_scope_alloc(sizeof *o->grad * (size_t)(p->n_params + 1));
    for (int i = 0; o->state && o->grad && i < p->n_params; i++) {
        o->grad[i] = NULL;
        fdl_tensor *g = of_plan ? p->grad[i] : fdl_grad(p->owner[i]);
        if (!g != !p->grad[i])
            return fdl_fail(FDL_E_STATE, "a parameter has a gradient in only one of two steps");
        if (g && !(o->grad[i] = fdl_to_device(fdl_detach(g), FDL_CPU, .copy = true)))
            return fdl_error_pending();
    }
    return o->state && o->grad ? fdl_error_pending() : FDL_E_OOM;
}

distance outcome_distance(const step_state *s, const trainer_plan *p, const outcome *a, const outcome *b)
{
    distance d = {0, 0, 0};
    double far = 0, all = 0;
    for (int i = 0; i < p->n_params; i++)
        if (a->grad[i] && b->grad[i]) {
            d.grads = fmax(d.grads, apart(a->grad[i], b->grad[i]));
            far += squares(a->grad[i], b->grad[i]);
            all += squares(b->grad[i], NULL);
        }
    d.norm = far == 0 ? 0 : sqrt(far / all);
    for (int i = 0; i < s->n; i++)
        d.state = fmax(d.state, apart(a->state[i], b->state[i]));
    return d;
}
