/* A trainer that is saved with all it needs, and one that goes on there. With public functions: what of a training goes with a
 * model, ckpt.h says. */
#include "flodl/ckpt.h"
#include "trainer.h"

static fdl_status save(fdl_trainer *tr, const char *path, const fdl_trainer_save_opts *o)
{
    if (tr->in_group)
        return fdl_fail(FDL_E_STATE,
                        "%lld of %lld batches of a step are done; save after the step, or after "
                        "fdl_trainer_flush",
                        (long long)tr->in_group, (long long)tr->o.accumulate);
    if (o->loader && o->progress)
        return fdl_fail(FDL_E_ARG, ".loader and .progress exclude each other");
    fdl_progress p = o->progress ? *o->progress : (fdl_progress){.best_epoch = -1};
    if (o->loader) {
        FDL_TRY(fdl_data_position(o->loader, &p.epoch, &p.batch));
        p.epoch = p.epoch < 0 ? 0 : p.epoch;
    }
    p.step = tr->steps;
    FDL_TRY(trainer_meter_read(tr, &p.losses, &p.loss_sum));
    const fdl_ckpt_save_opts all = {.optim = tr->opt,
                                    .scaler = tr->o.scaler,
                                    .ema = tr->o.ema,
                                    .rng = true,
                                    .plateau = o->plateau,
                                    .host_rng = o->host_rng,
                                    .progress = &p,
                                    .meta = o->meta,
                                    .keep_last = o->keep_last,
                                    .skip_if_busy = o->skip_if_busy,
                                    .skipped = o->skipped};
    return o->worker ? fdl_ckpt_save_async_opt(o->worker, tr->model, path, &all)
                     : fdl_ckpt_save_opt(tr->model, path, &all);
}

fdl_status fdl_trainer_save_opt(fdl_trainer *tr, const char *path, const fdl_trainer_save_opts *opts)
{
    if (!tr || !path)
        return fdl_null_operand("fdl_trainer_save", tr ? "path" : "tr");
    fdl_status status = save(tr, path, opts ? opts : &(fdl_trainer_save_opts){0});
    if (status != FDL_OK)
        fdl_error_prefix("fdl_trainer_save: ");
    return status;
}

fdl_status fdl_trainer_load_opt(fdl_trainer *tr, const char *path, const fdl_trainer_load_opts *opts)
{
    if (!tr || !path)
        return fdl_null_operand("fdl_trainer_load", tr ? "path" : "tr");
    const fdl_trainer_load_opts none = {0}, *o = opts ? opts : &none;
    fdl_progress p;
    fdl_status status =
        fdl_ckpt_load(tr->model, path, .optim = tr->opt, .scaler = tr->o.scaler, .ema = tr->o.ema,
                      .rng = true, .plateau = o->plateau, .host_rng = o->host_rng, .progress = &p);
    if (status != FDL_OK) {
        fdl_error_prefix("fdl_trainer_load: ");
        return status;
    }
    tr->steps = p.step;
    tr->in_group = 0;
    tr->skip_group = false;
    tr->bad_step = 0;
    if (tr->o.scaler)
        FDL_TRY(fdl_amp_cancel(tr->o.scaler));
    FDL_TRY(fdl_optim_zero_grad(tr->opt));
    FDL_TRY(trainer_meter_set(tr, p.losses, p.loss_sum));
    if (o->progress)
        *o->progress = p;
    return FDL_OK;
}
