/* Averages of parameters. A weight that changes from update to update is computed on the device from a count there, so
 * that a recorded update replays right. */
#include "flodl/ema.h"
#include "flodl/arithmetic.h"
#include "flodl/foreach.h"

struct fdl_ema {
    double decay;
    fdl_ema_opts o;
    int n, n_params;    /* parameters first, then buffers */
    fdl_tensor **model; /* kept, as all below */
    fdl_tensor **shadow;
    fdl_tensor **before; /* while applied: what the model had; else NULL each */
    bool applied;
    uint64_t generation;
    fdl_tensor *count; /* updates so far, 0-d float32; NULL where the weight is the same each time */
};

void fdl_ema_free(fdl_ema *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->n; i++) {
        fdl_free(e->model[i]);
        fdl_free(e->shadow[i]);
        fdl_free(e->before[i]);
    }
    free(e->model);
    free(e->shadow);
    free(e->before);
    fdl_free(e->count);
    free(e);
}

static fdl_status fill(fdl_ema *e, const fdl_params *list)
{
    for (int i = 0; i < fdl_params_count(list); i++) {
        fdl_tensor *t = fdl_param_tensor(fdl_params_at(list, i));
        e->model[e->n] = fdl_keep(t);
        e->shadow[e->n] = fdl_keep(fdl_clone(t));
        e->n++;
        if (!e->model[e->n - 1] || !e->shadow[e->n - 1])
            return fdl_error_pending();
    }
    return FDL_OK;
}

fdl_ema *fdl_ema_new_opt(fdl_module *m, double decay, const fdl_ema_opts *opts)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *params = fdl_parameters_opt(m, NULL);
    fdl_params *buffers = fdl_buffers_opt(m, &(fdl_parameters_opts){.transient = true});
    if (!params || !buffers)
        return NULL;
    if (!(decay >= 0 && decay < 1))
        return fdl_fail_null(FDL_E_ARG, "fdl_ema_new: decay is %g; it must be at least 0 and below 1", decay);
    if (opts && opts->average && (opts->warmup || fdl_opt_double(decay, 0) != 0))
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_ema_new: .average is the mean of all updates; decay must be 0, and .warmup "
                             "not set");
    fdl_ema *e = calloc(1, sizeof *e);
    if (!e)
        return fdl_fail_null(FDL_E_OOM, "fdl_ema_new: memory ran out");
    size_t n = (size_t)(fdl_params_count(params) + fdl_params_count(buffers));
    e->decay = fdl_opt_double(decay, 0);
    e->o = opts ? *opts : (fdl_ema_opts){0};
    e->n_params = fdl_params_count(params);
    e->model = calloc(n + 1, sizeof *e->model);
    e->shadow = calloc(n + 1, sizeof *e->shadow);
    e->before = calloc(n + 1, sizeof *e->before);
    fdl_status status = FDL_OK;
    if (!e->model || !e->shadow || !e->before)
        status = fdl_fail(FDL_E_OOM, "fdl_ema_new: memory ran out");
    if (status == FDL_OK)
        status = fill(e, params);
    if (status == FDL_OK)
        status = fill(e, buffers);
    if (status == FDL_OK && (e->o.warmup || e->o.average)) {
        fdl_device device = e->n ? fdl_device_of(e->model[0]) : FDL_CPU;
        e->count = fdl_keep(fdl_scalar(0, .dtype = FDL_FLOAT32, .device = device));
        status = e->count ? FDL_OK : fdl_error_pending();
    }
    if (status == FDL_OK)
        return e;
    fdl_ema_free(e);
    return NULL;
}

/* *kept where the model is now, of its dtype and layout. */
static fdl_status follow(fdl_ema *e, fdl_tensor **kept, fdl_tensor *model)
{
    bool laid_out = fdl_ndim(model) < 4 || (fdl_is_contiguous(*kept) == fdl_is_contiguous(model) &&
                                            fdl_is_channels_last(*kept) == fdl_is_channels_last(model));
    if (laid_out && fdl_dtype_of(*kept) == fdl_dtype_of(model) &&
        fdl_device_eq(fdl_device_of(*kept), fdl_device_of(model)))
        return FDL_OK;
    fdl_tensor *moved = fdl_empty_like(model);
    FDL_TRY(fdl_copy_(moved, *kept));
    moved = fdl_keep(moved);
    if (!moved)
        return fdl_error_pending();
    fdl_free(*kept);
    *kept = moved;
    e->generation++;
    return FDL_OK;
}

/* What of the shadow is replaced at this update, 0-d float32. */
static fdl_tensor *weight(const fdl_ema *e)
{
    fdl_tensor *next = fdl_add_scalar(e->count, 1);
    if (e->o.average)
        return fdl_reciprocal(next);
    fdl_tensor *decay = fdl_clamp_max(fdl_div_tensor(next, fdl_add_scalar(e->count, 10)), e->decay);
    return fdl_rsub_scalar(decay, 1);
}

fdl_status fdl_ema_update(fdl_ema *e)
{
    if (!e)
        return fdl_null_operand(__func__, "e");
    if (e->applied)
        return fdl_fail(FDL_E_STATE,
                        "fdl_ema_update: the averages are in the model; fdl_ema_restore comes first");
    if (!e->n)
        return FDL_OK;
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int i = 0; i < e->n; i++)
        FDL_TRY(follow(e, &e->shadow[i], e->model[i]));
    fdl_list shadow = {e->n_params, e->shadow}, params = {e->n_params, e->model};
    if (!e->count) {
        FDL_TRY(fdl_foreach_lerp_(shadow, params, 1 - e->decay));
    } else {
        if (!fdl_device_eq(fdl_device_of(e->count), fdl_device_of(e->model[0]))) {
            fdl_tensor *moved = fdl_keep(fdl_to_device_of(e->count, e->model[0]));
            if (!moved)
                return fdl_error_pending();
            fdl_free(e->count);
            e->count = moved;
        }
        fdl_tensor *w = weight(e);
        for (int from = 0, to; from < e->n_params; from = to) { /* a run of parameters on one device */
            for (to = from + 1; to < e->n_params &&
                                fdl_device_eq(fdl_device_of(params.at[to]), fdl_device_of(params.at[from]));)
                to++;
            fdl_list s = {to - from, shadow.at + from}, p = {to - from, params.at + from};
            FDL_TRY(fdl_foreach_add_scaled_(s, fdl_foreach_add(p, s, -1), fdl_to_device_of(w, p.at[0])));
        }
        FDL_TRY(fdl_add_scalar_(e->count, 1));
    }
    return fdl_foreach_copy_((fdl_list){e->n - e->n_params, e->shadow + e->n_params},
                             (fdl_list){e->n - e->n_params, e->model + e->n_params});
}

fdl_status fdl_ema_apply(fdl_ema *e)
{
    if (!e)
        return fdl_null_operand(__func__, "e");
    if (e->applied)
        return fdl_fail(FDL_E_STATE, "fdl_ema_apply: the averages are in the model already");
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_status status = FDL_OK;
    for (int i = 0; i < e->n && status == FDL_OK; i++) {
        e->before[i] = fdl_keep(fdl_clone(e->model[i]));
        status = e->before[i] ? FDL_OK : fdl_error_pending();
    }
    if (status == FDL_OK)
        status = fdl_foreach_copy_((fdl_list){e->n, e->model}, (fdl_list){e->n, e->shadow});
    e->applied = status == FDL_OK;
    e->generation++;
    for (int i = 0; i < e->n && status != FDL_OK; i++) {
        fdl_free(e->before[i]);
        e->before[i] = NULL;
    }
    return status;
}

fdl_status fdl_ema_restore(fdl_ema *e)
{
    if (!e)
        return fdl_null_operand(__func__, "e");
    if (!e->applied)
        return fdl_fail(FDL_E_STATE,
                        "fdl_ema_restore: the averages aren't in the model; fdl_ema_apply puts them there");
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(fdl_foreach_copy_((fdl_list){e->n, e->model}, (fdl_list){e->n, e->before}));
    for (int i = 0; i < e->n; i++) {
        fdl_free(e->before[i]);
        e->before[i] = NULL;
    }
    e->applied = false;
    e->generation++;
    return FDL_OK;
}

bool fdl_ema_is_applied(const fdl_ema *e)
{
    if (!e)
        fdl_null_operand(__func__, "e");
    return e && e->applied;
}

fdl_tensor *fdl_ema_shadow(const fdl_ema *e, fdl_tensor *x)
{
    if (!e || !x) {
        fdl_null_operand(__func__, e ? "x" : "e");
        return NULL;
    }
    for (int i = 0; i < e->n; i++)
        if (fdl_is(e->model[i], x))
            return e->shadow[i];
    return fdl_fail_null(FDL_E_ARG, "fdl_ema_shadow: the tensor is no parameter or buffer of the model");
}

fdl_tensor *fdl_ema_count(const fdl_ema *e)
{
    if (!e)
        fdl_null_operand(__func__, "e");
    return e ? e->count : NULL;
}

uint64_t fdl_ema_generation(const fdl_ema *e)
{
    if (!e)
        fdl_null_operand(__func__, "e");
    return e ? e->generation : 0;
}
