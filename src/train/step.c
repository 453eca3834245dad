/* One step of training. */
#include "flodl/arithmetic.h"
#include "flodl/foreach.h"
#include "trainer.h"

/* ---- before: what the host does --------------------------------------------------------------------- */

fdl_status trainer_place(const fdl_trainer *tr, fdl_list batch, fdl_list *here)
{
    if (!batch.at && batch.n)
        return fdl_null_operand("fdl_trainer_step", "batch");
    fdl_device device = tr->probe ? fdl_device_of(tr->probe) : FDL_CPU;
    *here = batch;
    for (int i = 0; i < batch.n; i++) {
        fdl_tensor *x = batch.at[i];
        if (!x)
            return fdl_error_pending() ? fdl_error_pending()
                                       : fdl_fail(FDL_E_NULL, "fdl_trainer_step: batch[%d] is NULL", i);
        bool stays = !tr->probe || fdl_device_eq(fdl_device_of(x), device);
        bool turns = tr->layout == LAYOUT_CHANNELS_LAST && (fdl_ndim(x) == 4 || fdl_ndim(x) == 5) &&
                     fdl_dtype_is_floating(fdl_dtype_of(x)) && !fdl_is_channels_last(x);
        if (stays && !turns)
            continue;
        if (here->at == batch.at) { /* the caller's list stays as it is */
            here->at = fdl_scope_alloc(sizeof *here->at * (size_t)batch.n);
            if (!here->at)
                return fdl_error_pending();
            memcpy(here->at, batch.at, sizeof *here->at * (size_t)batch.n);
        }
        here->at[i] = fdl_to(x, .device = stays ? fdl_device_of(x) : device, .non_blocking = true,
                             .channels_last = turns);
        if (!here->at[i])
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* Numbers of the host that this step uses, into the device's scalars. */
static fdl_status before(fdl_trainer *tr, trainer_part part)
{
    return part.last && tr->o.sched ? fdl_sched_apply(tr->o.sched, tr->opt, tr->steps) : FDL_OK;
}

/* ---- the device's part ------------------------------------------------------------------------------ */

fdl_tensor *trainer_call(const fdl_trainer *tr, fdl_loss_fn fn, fdl_list batch)
{
    FDL_SCOPE; /* what leads to the loss, such as the model's output, dies before the backward unless that needs it */
    if (!tr->o.autocast)
        FDL_RETURN(fn(tr->model, batch, tr->o.ctx));
    fdl_device device = tr->probe ? fdl_device_of(tr->probe) : FDL_CPU;
    fdl_mode_guard mode = fdl_amp_autocast_open(.device_type = device.type, .dtype = tr->o.autocast);
    fdl_tensor *x = mode.depth ? fn(tr->model, batch, tr->o.ctx) : NULL;
    fdl_mode_close(mode);
    FDL_RETURN(x);
}

static fdl_list trainable(const fdl_trainer *tr)
{
    fdl_list params = trainer_params(tr);
    int n = 0;
    for (int i = 0; params.at && i < params.n; i++)
        if (fdl_requires_grad(params.at[i]))
            params.at[n++] = params.at[i];
    return (fdl_list){n, params.at};
}

static fdl_status backward(fdl_trainer *tr, fdl_tensor *loss)
{
    if (tr->o.accumulate > 1)
        loss = fdl_div(loss, (double)tr->o.accumulate);
    if (tr->o.scaler)
        loss = fdl_amp_scale(tr->o.scaler, loss);
    const trainer_meter *m = &tr->meter;
    bool has_one = m->placed && !m->last_on_host && fdl_ndim(loss) == 0 &&
                   fdl_dtype_of(loss) == FDL_FLOAT32 && fdl_device_eq(fdl_device_of(loss), m->device);
    fdl_list only = {0, NULL};
    if (tr->own_only)
        only = trainable(tr);
    return fdl_backward(loss, .gradient = has_one ? m->one : NULL, /* saves the kernel that fills one */
                        .inputs = only);
}

bool trainer_may_record(const fdl_trainer *tr)
{
    return tr->o.capture != FDL_CAPTURE_OFF && tr->probe &&
           fdl_device_of(tr->probe).type == FDL_DEVICE_TYPE_CUDA;
}

/* State goes to the next step without its history; where steps may be recorded, by memory that stays. */
static fdl_status carry(const fdl_trainer *tr)
{
    return trainer_may_record(tr) ? fdl_module_settle(tr->model) : fdl_module_detach_state(tr->model);
}

/* Gradients are there: to the end of the step. */
static fdl_status update(fdl_trainer *tr)
{
    fdl_tensor *skip;
    FDL_TRY(trainer_meter_group(tr, &skip));
    if (tr->o.scaler)
        FDL_TRY(fdl_amp_unscale(tr->o.scaler, tr->opt));
    if (tr->o.on_grads)
        FDL_TRY(tr->o.on_grads(tr->model, tr->o.ctx));
    if (tr->clip_norm >= 0)
        FDL_TRY(fdl_optim_clip_norm(tr->opt, tr->clip_norm));
    if (tr->clip_value >= 0)
        FDL_TRY(fdl_optim_clip_value(tr->opt, tr->clip_value));
    if (tr->o.scaler) {
        FDL_TRY(fdl_amp_step(tr->o.scaler, tr->opt));
        FDL_TRY(fdl_amp_update(tr->o.scaler));
    } else {
        FDL_TRY(fdl_optim_step_unless(tr->opt, skip));
    }
    return tr->o.ema ? fdl_ema_update(tr->o.ema) : FDL_OK;
}

fdl_status trainer_run_eager(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    FDL_SCOPE;
    if (part.first)
        FDL_TRY(fdl_optim_zero_grad(tr->opt));
    fdl_tensor *loss = trainer_call(tr, tr->loss, batch);
    if (!loss)
        return fdl_error_pending()
                   ? fdl_error_pending()
                   : fdl_fail(FDL_E_NULL, "trainer: the loss function returned NULL without an error");
    if (fdl_numel(loss) != 1) {
        char text[256];
        return fdl_fail(
            FDL_E_SHAPE,
            "trainer: the loss function returned %s; a loss is one number, such as fdl_mean gives",
            fdl_describe(loss, text, sizeof text));
    }
    if (tr->recording && !tr->own_only)
        FDL_TRY(trainer_check_leaves(tr, loss));
    FDL_TRY(trainer_meter_take(tr, loss, part));
    if (FDL_LIKELY(!tr->skip_group))
        FDL_TRY(backward(tr, loss));
    else
        FDL_TRY(fdl_optim_zero_grad(tr->opt));
    FDL_TRY(carry(tr));
    if (part.last)
        FDL_TRY(update(tr));
    return trainer_meter_join(&tr->meter);
}

/* ---- after ------------------------------------------------------------------------------------------ */

/* A step that failed leaves no half group behind. */
static fdl_status failed(fdl_trainer *tr, fdl_status status)
{
    tr->in_group = 0;
    tr->skip_group = false;
    fdl_optim_zero_grad(tr->opt);
    fdl_module_detach_state(tr->model);
    if (tr->o.scaler)
        fdl_amp_cancel(tr->o.scaler);
    return status;
}

static fdl_status after(fdl_trainer *tr)
{
    tr->in_group = 0;
    tr->skip_group = false;
    tr->steps++;
    if (!tr->o.on_step)
        return FDL_OK;
    fdl_step_record record = {.step = tr->steps, .lr = fdl_optim_lr(tr->opt)};
    return tr->o.on_step(&record, tr->o.ctx);
}

fdl_status fdl_trainer_step(fdl_trainer *tr, fdl_list batch)
{
    if (!tr)
        return fdl_null_operand(__func__, "tr");
    if (!batch.at)
        return fdl_null_operand(__func__, "batch");
    if (tr->bad_step)
        return trainer_stopped(tr);
    trainer_part part = {.first = tr->in_group == 0, .last = tr->in_group + 1 == tr->o.accumulate};
    fdl_status status = before(tr, part);
    if (status == FDL_OK)
        status = trainer_run(tr, batch, part);
    if (status != FDL_OK)
        return failed(tr, status);
    tr->in_group++;
    tr->meter.count++;
    tr->meter.any = true;
    return part.last ? after(tr) : FDL_OK;
}

/* Gradients are means over .accumulate batches, of which only `n` came. */
static fdl_status regroup(fdl_trainer *tr, int64_t n)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int g = 0; g < fdl_optim_groups(tr->opt); g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        fdl_list grads = {0, fdl_scope_alloc(sizeof *grads.at * (size_t)(params.n + 1))};
        if (!params.at || !grads.at)
            return fdl_error_pending();
        for (int i = 0; i < params.n; i++) {
            fdl_tensor *grad = fdl_grad(params.at[i]);
            if (grad)
                grads.at[grads.n++] = grad;
        }
        FDL_TRY(fdl_foreach_mul_scalar_(grads, (double)tr->o.accumulate / (double)n));
    }
    return FDL_OK;
}

fdl_status fdl_trainer_flush(fdl_trainer *tr)
{
    if (!tr)
        return fdl_null_operand(__func__, "tr");
    if (!tr->in_group)
        return FDL_OK;
    FDL_SCOPE;
    fdl_status status = before(tr, (trainer_part){.last = true});
    if (status == FDL_OK)
        status = regroup(tr, tr->in_group);
    if (status == FDL_OK)
        status = update(tr);
    return status == FDL_OK ? after(tr) : failed(tr, status);
}
