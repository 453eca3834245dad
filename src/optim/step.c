/* The step: collects what has a gradient, makes and moves state, hands batches of one device and dtype to the
 * method. After the first steps nothing here allocates, and nothing waits for the device. */
#include "flodl/autograd.h"
#include "flodl/compare.h"
#include "flodl/cuda_graph.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "flodl/sparse.h"
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

bool optim_has_master(const optim_kind *kind, const optim_group *g, const optim_slot *s)
{
    if (!g->o.master_weights || !(kind->fields & OPTIM_MASTER_WEIGHTS))
        return false;
    fdl_dtype dtype = fdl_dtype_of(s->param);
    return dtype == FDL_FLOAT16 || dtype == FDL_BFLOAT16;
}

static bool is_needed(const optim_kind *kind, const optim_group *g, const optim_slot *s, int state)
{
    if (!kind->states[state])
        return false;
    if (kind->form[state] == OPTIM_MASTER)
        return optim_has_master(kind, g, s);
    return !kind->needs || kind->needs(g, s, state);
}

/* Where the parameter's master is; NULL: it has none. */
static fdl_tensor *master_of(const optim_kind *kind, const optim_group *g, const optim_slot *s)
{
    for (int k = 0; k < OPTIM_STATES; k++)
        if (kind->form[k] == OPTIM_MASTER && is_needed(kind, g, s, k))
            return s->state[k];
    return NULL;
}

/* The dtype of a state that is like the parameter. */
static fdl_dtype state_dtype(const optim_kind *kind, const optim_group *g, const optim_slot *s)
{
    return optim_has_master(kind, g, s) ? FDL_FLOAT32 : fdl_dtype_of(s->param);
}

fdl_tensor *optim_begin_state(const optim_kind *kind, const optim_group *g, const optim_slot *s, int state)
{
    double v = kind->initial ? kind->initial(&g->o, state) : 0;
    fdl_shape shape = fdl_shape_of(s->param);
    switch (kind->form[state]) {
    case OPTIM_NUMBER:
        return fdl_scalar(v, .device = fdl_device_of(s->param), .dtype = FDL_FLOAT32);
    case OPTIM_ROWS:
    case OPTIM_COLS:
        shape.d[shape.ndim - (kind->form[state] == OPTIM_ROWS ? 1 : 2)] = 1;
        return fdl_zeros(shape, .device = fdl_device_of(s->param), .dtype = fdl_dtype_of(s->param));
    case OPTIM_MASTER:
        return fdl_to(s->param, .dtype = FDL_FLOAT32, .copy = true);
    default:
        return fdl_full_like(s->param, v, .dtype = state_dtype(kind, g, s));
    }
}

/* One state to where the parameter is, and laid out as it would begin there. */
static fdl_status follow_one(const optim_kind *kind, const optim_group *g, optim_slot *s, int k)
{
    if (kind->form[k] == OPTIM_NUMBER) /* moved, not copied: its value doesn't change */
        return fdl_device_eq(fdl_device_of(s->state[k]), s->device)
                   ? FDL_OK
                   : replace(&s->state[k], fdl_to_device(s->state[k], s->device));
    fdl_tensor *moved = optim_begin_state(kind, g, s, k);
    FDL_TRY(fdl_copy_(moved, s->state[k]));
    return replace(&s->state[k], moved);
}

/* Brings what is remembered of the parameter to where the parameter is now. */
static fdl_status follow(const optim_kind *kind, const optim_group *g, optim_slot *s)
{
    fdl_tensor *like = fdl_empty_like(s->param);
    if (!like)
        return fdl_error_pending();
    s->dense = same_strides(s->param, like); /* empty_like keeps a layout without gaps, and no other */
    s->device = fdl_device_of(s->param);
    s->dtype = fdl_dtype_of(s->param);
    s->contiguous = fdl_is_contiguous(s->param);
    s->placed = false; /* until all is there */
    for (int k = 0; k < OPTIM_STATES; k++)
        if (s->state[k])
            FDL_TRY(follow_one(kind, g, s, k));
    if (s->step && !fdl_device_eq(fdl_device_of(s->step), s->device))
        FDL_TRY(replace(&s->step, fdl_to_device(s->step, s->device)));
    s->placed = true;
    return FDL_OK;
}

static bool in_place(const optim_kind *kind, const optim_slot *s)
{
    if (!s->placed || fdl_dtype_of(s->param) != s->dtype ||
        !fdl_device_eq(fdl_device_of(s->param), s->device) || fdl_is_contiguous(s->param) != s->contiguous)
        return false;
    for (int k = 0; k < OPTIM_STATES && !s->contiguous && s->dense; k++)
        if (s->state[k] && kind->form[k] == OPTIM_LIKE)
            return same_strides(s->param, s->state[k]);
    return true;
}

/* Somebody may have written to the parameter: its master stays where the parameter is still the master rounded, and becomes the
 * parameter elsewhere. A recorded step can't know who writes between its runs, so it always looks. */
static fdl_status reconcile(const optim_slot *s, fdl_tensor *master)
{
    fdl_tensor *same = fdl_eq(s->param, fdl_to(master, .dtype = s->dtype));
    return fdl_copy_(master, fdl_where(same, master, fdl_float(s->param)));
}

static fdl_status check_gradient(const optim_kind *kind, const optim_group *g, const optim_slot *s)
{
    if (s->sparse && kind->sparsity == OPTIM_DENSE)
        return fdl_fail(
            FDL_E_UNSUPPORTED,
            "%s: the gradient of parameter \"%s\" is sparse; sparse_adam, adagrad and sgd take such",
            kind->name, s->name);
    if (s->sparse && g->o.weight_decay != 0)
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s: the gradient of parameter \"%s\" is sparse, which weight decay isn't; set "
                        "weight_decay to 0",
                        kind->name, s->name);
    if (!s->sparse && kind->sparsity == OPTIM_SPARSE)
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s: the gradient of parameter \"%s\" is dense; adam is the method for it",
                        kind->name, s->name);
    if (s->sparse && s->device.type == FDL_DEVICE_TYPE_CUDA && fdl_cuda_is_capturing())
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s: a step of sparse gradients (parameter \"%s\") can't be recorded: how many rows "
                        "they have is decided by values",
                        kind->name, s->name);
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

static fdl_status prepare(fdl_optim *o, const optim_group *g, optim_slot *s)
{
    const optim_kind *kind = o->kind;
    if (!in_place(kind, s)) {
        o->generation += s->placed;
        FDL_TRY(follow(kind, g, s));
    }
    s->sparse = fdl_is_sparse(s->grad);
    FDL_TRY(check_gradient(kind, g, s));
    for (int k = 0; k < OPTIM_STATES; k++)
        if (!s->state[k] && is_needed(kind, g, s, k)) {
            FDL_TRY(replace(&s->state[k], optim_begin_state(kind, g, s, k)));
            s->fresh = true;
        }
    if (kind->counts && !s->step)
        FDL_TRY(replace(&s->step, fdl_scalar(0, .device = s->device, .dtype = FDL_FLOAT32)));
    fdl_tensor *master = master_of(kind, g, s);
    if (master && (fdl_tensor_version(s->param) != s->written ||
                   (s->device.type == FDL_DEVICE_TYPE_CUDA && fdl_cuda_is_capturing())))
        FDL_TRY(reconcile(s, master));
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
        double momentum = optim_value(&g->o, kind->momentum_field);
        if (replace(&s->momentum, fdl_scalar(momentum, .device = device, .dtype = FDL_FLOAT32)) != FDL_OK)
            return NULL;
    }
    return s;
}

/* ---- batches ------------------------------------------------------------------------------------------- */

static fdl_status run_always(const optim_kind *kind, const optim_batch *b, fdl_optim_impl impl)
{
    if (impl == FDL_OPTIM_FUSED)
        return kind->fused(b);
    if (impl == FDL_OPTIM_FOREACH && !b->sparse)
        return kind->foreach (b);
    for (int i = 0; i < b->params.n; i++) {
        FDL_SCOPE;
        FDL_TRY(b->sparse ? kind->one_sparse(b, i) : kind->one(b, i));
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

/* Why the kernel can't step the batch; NULL: it can. */
static const char *no_kernel(const optim_kind *kind, const optim_slot *first, const optim_batch *b,
                             bool dense)
{
    if (!kind->fused)
        return "there is no such kernel for it";
    if (b->sparse)
        return "the kernel takes no sparse gradients";
    if (kind->has_kernel && !kind->has_kernel(first->device))
        return "this libtorch has no such kernel for the parameters' device";
    if (!dense)
        return "a parameter is a view with gaps";
    if (b->momentum)
        return "its kernel can't follow a scheduled momentum";
    return NULL;
}

static bool go_together(const optim_slot *a, const optim_slot *b)
{
    for (int k = 0; k < OPTIM_STATES; k++)
        if (!a->state[k] != !b->state[k])
            return false;
    return a->dtype == b->dtype && a->fresh == b->fresh && a->dense == b->dense && a->sparse == b->sparse &&
           fdl_device_eq(a->device, b->device);
}

/* The masters have been stepped: the parameters are these rounded. */
static fdl_status write_back(optim_slot *const *slots, const optim_batch *b)
{
    fdl_list params = {b->params.n, NULL};
    for (int k = 0; k < OPTIM_STATES; k++)
        if (b->kind->form[k] == OPTIM_MASTER)
            params.at = b->state[k].at; /* the masters are b's parameters, so this room is free */
    for (int i = 0; i < params.n; i++)
        params.at[i] = slots[i]->param;
    FDL_TRY(fdl_foreach_copy_(params, b->params));
    for (int i = 0; i < params.n; i++)
        slots[i]->written = fdl_tensor_version(params.at[i]);
    return FDL_OK;
}

/* The gradient as the way of computing needs it: float32 beside a master, and for a kernel laid out as what is stepped. */
static fdl_tensor *gradient_for(fdl_tensor *stepped, fdl_tensor *grad, bool is_sparse, fdl_optim_impl impl)
{
    fdl_dtype dtype = fdl_dtype_of(stepped);
    if (is_sparse)
        return fdl_dtype_of(grad) == dtype ? grad : fdl_to(grad, .dtype = dtype);
    if (fdl_dtype_of(grad) == dtype && (impl != FDL_OPTIM_FUSED || same_strides(stepped, grad)))
        return grad;
    fdl_tensor *fit = fdl_empty_like(stepped);
    return fdl_copy_(fit, grad) == FDL_OK ? fit : NULL;
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
    optim_batch b = {.kind = kind,
                     .o = &g->o,
                     .host = first->device.type == FDL_DEVICE_TYPE_CPU,
                     .fresh = first->fresh,
                     .sparse = first->sparse};
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
    bool mastered = master_of(kind, g, first) != NULL;
    const char *why = no_kernel(kind, first, &b, mastered || first->dense);
    fdl_optim_impl impl = g->o.impl;
    if (impl == FDL_OPTIM_FUSED && why)
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s: .impl is FDL_OPTIM_FUSED, but %s (parameter \"%s\"); use FDL_OPTIM_AUTO",
                        kind->name, why, first->name);
    if (impl == FDL_OPTIM_AUTO)
        impl = !why ? FDL_OPTIM_FUSED : b.host ? FDL_OPTIM_LOOP : FDL_OPTIM_FOREACH;
    optim_slot **slots = o->batch;
    fdl_list *lists[3 + OPTIM_STATES] = {&b.params, &b.grads, &b.steps};
    for (int k = 0; k < OPTIM_STATES; k++)
        lists[3 + k] = &b.state[k];
    for (int k = 0; k < 3 + OPTIM_STATES; k++)
        lists[k]->at = o->lists + k * o->widest;
    int n = 0;
    for (int i = *from; i < g->n; i++) {
        optim_slot *s = &g->slots[i];
        if (!s->grad || !go_together(s, first))
            continue;
        if (skipped) {
            s->grad = NULL;
            continue;
        }
        slots[n] = s;
        b.params.at[n] = mastered ? master_of(kind, g, s) : s->param;
        b.grads.at[n] = gradient_for(b.params.at[n], s->grad, s->sparse, impl);
        if (!b.grads.at[n])
            return fdl_error_pending();
        b.steps.at[n] = s->step;
        for (int k = 0; k < OPTIM_STATES; k++)
            b.state[k].at[n] = s->state[k];
        n++;
    }
    for (int i = 0; i < n; i++) { /* only now: what goes together is decided by how they are */
        slots[i]->grad = NULL;
        slots[i]->fresh = false;
    }
    if (!n)
        return FDL_OK;
    b.params.n = b.grads.n = n;
    b.steps.n = kind->counts ? n : 0;
    for (int k = 0; k < OPTIM_STATES; k++)
        b.state[k].n = is_needed(kind, g, first, k) && kind->form[k] != OPTIM_MASTER ? n : 0;
    if (kind->counts)
        FDL_TRY(count(&b));
    FDL_TRY(run(kind, &b, impl));
    return mastered ? write_back(slots, &b) : FDL_OK;
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
    if (o->kind->closure)
        return fdl_fail(FDL_E_UNSUPPORTED,
                        "%s evaluates the model several times a step: fdl_optim_step_closure makes one, in a "
                        "loop of one's own",
                        o->kind->name);
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

bool fdl_optim_needs_closure(const fdl_optim *o)
{
    if (!o)
        fdl_null_operand(__func__, "o");
    return o && o->kind->closure;
}

fdl_status fdl_optim_step_closure(fdl_optim *o, fdl_optim_closure closure, void *ctx, double *loss)
{
    if (!o || !closure)
        return fdl_null_operand("fdl_optim_step_closure", o ? "closure" : "o");
    if (o->kind->closure)
        return o->kind->closure(o, closure, ctx, loss);
    double first;
    FDL_TRY(optim_evaluate(o->kind->name, closure, ctx, loss ? &first : NULL));
    FDL_TRY(step(o, NULL));
    if (loss)
        *loss = first;
    return FDL_OK;
}

fdl_status optim_evaluate(const char *kind, fdl_optim_closure closure, void *ctx, double *loss)
{
    FDL_SCOPE;
    FDL_ENABLE_GRAD;
    fdl_tensor *made = closure(ctx);
    if (!made)
        return fdl_error_pending() ? fdl_error_pending()
                                   : fdl_fail(FDL_E_NULL, "%s: the closure returned NULL", kind);
    if (fdl_numel(made) != 1) {
        char text[256];
        return fdl_fail(FDL_E_SHAPE, "%s: the closure returned %s, not a loss of one element", kind,
                        fdl_describe(made, text, sizeof text));
    }
    return loss ? fdl_to_f64(made, loss, 1) : FDL_OK;
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
