/* The step: collects what has a gradient, makes and moves state, hands batches of one device and dtype to the
 * method. After the first steps nothing here allocates, and nothing waits for the device. */
#include "flodl/index.h"
#include "flodl/shape.h"
#include "optim.h"

static bool same_strides(fdl_tensor *a, fdl_tensor *b)
{
    int n = fdl_ndim(a);
    if (fdl_ndim(b) != n)
        return false;
    for (int d = 0; d < n; d++)
        if (fdl_size(a, d) > 1 && fdl_stride(a, d) != fdl_stride(b, d))
            return false;
    return true;
}

/* ---- state ----------------------------------------------------------------------------------------- */

/* Replaces a kept tensor by `made` (scope). */
static fdl_status replace(fdl_tensor **kept, fdl_tensor *made)
{
    fdl_tensor *fresh = fdl_keep(made);
    if (!fresh)
        return fdl_error_pending();
    fdl_free(*kept);
    *kept = fresh;
    return FDL_OK;
}

/* Brings what is remembered of the parameter to where the parameter is now. */
static fdl_status follow(const optim_kind *kind, optim_slot *s)
{
    fdl_tensor *like = fdl_empty_like(s->param);
    if (!like)
        return fdl_error_pending();
    fdl_device device = fdl_device_of(s->param);
    for (int k = 0; k < OPTIM_STATES; k++)
        if (s->state[k] && kind->numbers >> k & 1) {
            if (!fdl_device_eq(fdl_device_of(s->state[k]), device))
                FDL_TRY(replace(&s->state[k], fdl_to_device(s->state[k], device)));
        } else if (s->state[k]) {
            fdl_tensor *moved = fdl_empty_like(s->param);
            FDL_TRY(fdl_copy_(moved, s->state[k]));
            FDL_TRY(replace(&s->state[k], moved));
        }
    if (s->step && !fdl_device_eq(fdl_device_of(s->step), device))
        FDL_TRY(replace(&s->step, fdl_to_device(s->step, device)));
    s->dense = same_strides(s->param, like); /* empty_like keeps a layout without gaps, and no other */
    s->device = device;
    s->dtype = fdl_dtype_of(s->param);
    s->contiguous = fdl_is_contiguous(s->param);
    s->placed = true;
    return FDL_OK;
}

static bool in_place(const optim_slot *s)
{
    if (!s->placed || fdl_dtype_of(s->param) != s->dtype ||
        !fdl_device_eq(fdl_device_of(s->param), s->device) || fdl_is_contiguous(s->param) != s->contiguous)
        return false;
    return s->contiguous || !s->dense || (s->state[0] && same_strides(s->param, s->state[0]));
}

static bool is_needed(const optim_kind *kind, const optim_group *g, int state)
{
    return kind->states[state] && (!kind->needs || kind->needs(g, state));
}

fdl_tensor *optim_begin_state(const optim_kind *kind, const optim_group *g, const optim_slot *s, int state)
{
    double v = kind->initial ? kind->initial(&g->o, state) : 0;
    if (kind->numbers >> state & 1)
        return fdl_scalar(v, .device = fdl_device_of(s->param), .dtype = FDL_FLOAT32);
    return v != 0 ? fdl_full_like(s->param, v) : fdl_zeros_like(s->param);
}

static fdl_status prepare(fdl_optim *o, const optim_group *g, optim_slot *s)
{
    const optim_kind *kind = o->kind;
    if (!in_place(s)) {
        o->generation += s->placed;
        FDL_TRY(follow(kind, s));
    }
    for (int k = 0; k < OPTIM_STATES; k++)
        if (!s->state[k] && is_needed(kind, g, k)) {
            FDL_TRY(replace(&s->state[k], optim_begin_state(kind, g, s, k)));
            s->fresh = true;
        }
    if (kind->counts && !s->step)
        FDL_TRY(replace(&s->step, fdl_scalar(0, .device = s->device, .dtype = FDL_FLOAT32)));
    if (fdl_dtype_of(s->grad) != s->dtype)
        return fdl_fail(FDL_E_DTYPE, "%s: parameter \"%s\" is %s, its gradient %s", kind->name, s->name,
                        fdl_dtype_name(s->dtype), fdl_dtype_name(fdl_dtype_of(s->grad)));
    if (!fdl_device_eq(fdl_device_of(s->grad), s->device)) {
        char a[FDL_DEVICE_NAME_SIZE], b[FDL_DEVICE_NAME_SIZE];
        return fdl_fail(FDL_E_DEVICE, "%s: parameter \"%s\" is on %s, its gradient on %s", kind->name,
                        s->name, fdl_device_name(s->device, a), fdl_device_name(fdl_device_of(s->grad), b));
    }
    return FDL_OK;
}

/* The group's scalars on a device, made when the first parameter is met there. */
static optim_scalars *scalars_on(const optim_kind *kind, optim_group *g, fdl_device device)
{
    optim_scalars *s = NULL;
    for (int i = 0; i < g->n_scalars; i++)
        if (fdl_device_eq(g->scalars[i].device, device))
            s = &g->scalars[i];
    bool host = device.type == FDL_DEVICE_TYPE_CPU;
    if (!s) {
        optim_scalars *more = realloc(g->scalars, sizeof *more * (size_t)(g->n_scalars + 1));
        if (!more)
            return fdl_fail_null(FDL_E_OOM, "%s: memory ran out", kind->name);
        g->scalars = more;
        s = &more[g->n_scalars];
        *s = (optim_scalars){.device = device};
        /* the CPU's kernels read the rate as a double, CUDA's as a float */
        if (replace(&s->lr, fdl_scalar(g->o.lr, .device = device,
                                       .dtype = host ? FDL_FLOAT64 : FDL_FLOAT32)) != FDL_OK)
            return NULL;
        g->n_scalars++;
    }
    if (g->scheduled && !host && !s->momentum) {
        double momentum = *optim_number(&g->o, kind->momentum_field);
        if (replace(&s->momentum, fdl_scalar(momentum, .device = device, .dtype = FDL_FLOAT32)) != FDL_OK)
            return NULL;
    }
    return s;
}

/* ---- batches ------------------------------------------------------------------------------------------- */

/* Parameter i of a batch, as a batch of its own. */
static optim_batch single(const optim_batch *b, int i)
{
    optim_batch s = *b;
    fdl_list *lists[3 + OPTIM_STATES] = {&s.params, &s.grads, &s.steps};
    for (int k = 0; k < OPTIM_STATES; k++)
        lists[3 + k] = &s.state[k];
    for (int k = 0; k < 3 + OPTIM_STATES; k++)
        if (lists[k]->n)
            *lists[k] = (fdl_list){1, lists[k]->at + i};
    return s;
}

static fdl_status run_always(const optim_kind *kind, const optim_batch *b, fdl_optim_impl impl)
{
    if (impl == FDL_OPTIM_FUSED)
        return kind->fused(b);
    if (impl == FDL_OPTIM_FOREACH)
        return kind->foreach (b);
    for (int i = 0; i < b->params.n; i++) {
        FDL_SCOPE;
        optim_batch s = single(b, i);
        FDL_TRY(kind->one ? kind->one(b, i) : kind->foreach (&s));
    }
    return FDL_OK;
}

/* Where b->skip is 1, everything is put back: the methods themselves know nothing of skipped steps, but for the fused
 * kernels, which are told. A step of gradients that are not finite can't be undone by arithmetic. */
static fdl_status run(const optim_kind *kind, const optim_batch *b, fdl_optim_impl impl)
{
    if (!b->skip || impl == FDL_OPTIM_FUSED)
        return run_always(kind, b, impl);
    fdl_list now[1 + OPTIM_STATES] = {b->params};
    fdl_tensor **before[1 + OPTIM_STATES];
    for (int k = 0; k < OPTIM_STATES; k++)
        now[1 + k] = b->state[k];
    for (int k = 0; k < 1 + OPTIM_STATES; k++) {
        before[k] = fdl_scope_alloc(sizeof *before[k] * (size_t)(now[k].n + 1));
        if (!before[k])
            return fdl_error_pending();
        for (int i = 0; i < now[k].n; i++)
            before[k][i] = fdl_clone(now[k].at[i]);
    }
    FDL_TRY(run_always(kind, b, impl));
    fdl_tensor *skip = fdl_bool(b->skip);
    for (int k = 0; k < 1 + OPTIM_STATES; k++)
        for (int i = 0; i < now[k].n; i++)
            FDL_TRY(fdl_copy_(now[k].at[i], fdl_where(skip, before[k][i], now[k].at[i])));
    return FDL_OK;
}

/* steps += 1, or 0 where the step is skipped. */
static fdl_status count_on_device(const optim_batch *b)
{
    FDL_TRY(fdl_foreach_add_scalar_(b->steps, 1));
    if (!b->skip)
        return FDL_OK;
    fdl_list skips = {b->steps.n, fdl_scope_alloc(sizeof *skips.at * (size_t)(b->steps.n + 1))};
    if (!skips.at)
        return fdl_error_pending();
    for (int i = 0; i < skips.n; i++)
        skips.at[i] = b->skip;
    return fdl_foreach_add_(b->steps, skips, .alpha = -1);
}

/* The counters' own step: on the host they are written where they are, elsewhere by one operation for the
 * list. */
static fdl_status count(const optim_batch *b)
{
    if (!b->host)
        return count_on_device(b);
    for (int i = 0; i < b->steps.n; i++) {
        float *t = fdl_data_ptr(b->steps.at[i]);
        if (!t)
            return fdl_error_pending();
        *t += 1;
    }
    return FDL_OK;
}

static fdl_optim_impl choose(const optim_kind *kind, const optim_group *g, const optim_slot *s,
                             const optim_batch *b)
{
    if (g->o.impl != FDL_OPTIM_AUTO)
        return g->o.impl;
    if (!kind->fused || b->momentum) /* the fused kernels take momentum from the host */
        return FDL_OPTIM_FOREACH;
    return s->dense ? FDL_OPTIM_FUSED : b->host ? FDL_OPTIM_LOOP : FDL_OPTIM_FOREACH;
}

/* Steps the first parameter that waits, with all that can go with it; *done when none waits. */
static fdl_status step_batch(fdl_optim *o, optim_group *g, fdl_tensor *skip, int *from, bool *done)
{
    const optim_kind *kind = o->kind;
    while (*from < g->n && !g->slots[*from].grad)
        ++*from;
    *done = *from == g->n;
    if (*done)
        return FDL_OK;

    FDL_SCOPE;
    optim_slot *first = &g->slots[*from];
    optim_batch b = {
        .kind = kind, .o = &g->o, .host = first->device.type == FDL_DEVICE_TYPE_CPU, .fresh = first->fresh};
    optim_scalars *scalars = scalars_on(kind, g, first->device);
    if (!scalars)
        return fdl_error_pending();
    b.lr = scalars->lr;
    b.momentum = g->scheduled && !b.host ? scalars->momentum : NULL;
    bool skipped = false;
    if (skip && (b.host || (b.fresh && g->o.dampening !=
                                           0))) { /* what only the host can decide: whether it is the first */
        skipped = fdl_item(skip) != 0;
    } else if (skip) {
        b.skip = fdl_to_device(skip, first->device);
        if (fdl_ndim(b.skip) > 0) /* as the counters are */
            b.skip = fdl_reshape(b.skip, FDL_SCALAR);
        if (!b.skip)
            return fdl_error_pending();
    }
    fdl_optim_impl impl = choose(kind, g, first, &b);
    if (impl == FDL_OPTIM_FUSED && !kind->fused)
        return fdl_fail(
            FDL_E_UNSUPPORTED,
            "%s: .impl is FDL_OPTIM_FUSED, but there is no such kernel for it; use FDL_OPTIM_AUTO",
            kind->name);
    if (impl == FDL_OPTIM_FUSED && !first->dense)
        return fdl_fail(
            FDL_E_UNSUPPORTED,
            "%s: .impl is FDL_OPTIM_FUSED, but parameter \"%s\" is a view with gaps; use FDL_OPTIM_AUTO",
            kind->name, first->name);
    if (impl == FDL_OPTIM_FUSED && b.momentum)
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s: .impl is FDL_OPTIM_FUSED, whose kernel can't follow a scheduled momentum; use "
                        "FDL_OPTIM_AUTO",
                        kind->name);

    fdl_list *lists[3 + OPTIM_STATES] = {&b.params, &b.grads, &b.steps};
    for (int k = 0; k < OPTIM_STATES; k++)
        lists[3 + k] = &b.state[k];
    for (int k = 0; k < 3 + OPTIM_STATES; k++)
        lists[k]->at = o->lists + k * o->widest;
    int n = 0;
    for (int i = *from; i < g->n; i++) {
        optim_slot *s = &g->slots[i];
        if (!s->grad || s->dtype != first->dtype || s->fresh != b.fresh || s->dense != first->dense ||
            !fdl_device_eq(s->device, first->device))
            continue;
        if (skipped) {
            s->grad = NULL;
            continue;
        }
        fdl_tensor *grad = s->grad;
        if (impl == FDL_OPTIM_FUSED && !same_strides(s->param, grad)) {
            grad = fdl_empty_like(s->param);
            FDL_TRY(fdl_copy_(grad, s->grad));
        }
        b.params.at[n] = s->param;
        b.grads.at[n] = grad;
        b.steps.at[n] = s->step;
        for (int k = 0; k < OPTIM_STATES; k++)
            b.state[k].at[n] = s->state[k];
        s->grad = NULL;
        s->fresh = false;
        n++;
    }
    if (!n)
        return FDL_OK;
    b.params.n = b.grads.n = n;
    b.steps.n = kind->counts ? n : 0;
    for (int k = 0; k < OPTIM_STATES; k++)
        b.state[k].n = is_needed(kind, g, k) ? n : 0;
    if (kind->counts)
        FDL_TRY(count(&b));
    return run(kind, &b, impl);
}

/* Every gradient of the group into its slot, state made and moved where needed. */
static fdl_status collect(fdl_optim *o, optim_group *g)
{
    for (int i = 0; i < g->n; i++) {
        optim_slot *s = &g->slots[i];
        s->grad = fdl_requires_grad(s->param) ? fdl_grad(s->param) : NULL;
        if (s->grad)
            FDL_TRY(prepare(o, g, s));
    }
    return FDL_OK;
}

static fdl_status step(fdl_optim *o, fdl_tensor *skip)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int i = 0; i < o->n_groups; i++) /* what can be refused is refused before anything is stepped */
        FDL_TRY(collect(o, &o->groups[i]));
    for (int i = 0; i < o->n_groups; i++) {
        int from = 0;
        for (bool done = false; !done;)
            FDL_TRY(step_batch(o, &o->groups[i], skip, &from, &done));
    }
    return FDL_OK;
}

fdl_status fdl_optim_step(fdl_optim *o)
{
    return o ? step(o, NULL) : fdl_null_operand("fdl_optim_step", "o");
}

fdl_status fdl_optim_step_unless(fdl_optim *o, fdl_tensor *skip)
{
    if (!o)
        return fdl_null_operand("fdl_optim_step_unless", "o");
    if (skip && (fdl_numel(skip) != 1 || fdl_dtype_of(skip) != FDL_FLOAT32)) {
        char text[256];
        return fdl_fail(FDL_E_ARG, "fdl_optim_step_unless: skip is %s, not one float32",
                        fdl_describe(skip, text, sizeof text));
    }
    return step(o, skip);
}

fdl_status fdl_optim_zero_grad_opt(fdl_optim *o, const fdl_zero_grad_opts *opts)
{
    if (!o)
        return fdl_null_operand("fdl_optim_zero_grad", "o");
    bool fill = opts && opts->set_to_zero;
    for (int i = 0; i < o->n_groups; i++)
        for (int k = 0; k < o->groups[i].n; k++) {
            fdl_tensor *p = o->groups[i].slots[k].param;
            FDL_TRY(fill ? fdl_zero_grad(p) : fdl_clear_grad(p));
        }
    return FDL_OK;
}
