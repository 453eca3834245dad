/* The trainer: its options, its end, what it says of itself; and numbers that change from step to step. */
#include "trainer.h"
#include "flodl/inplace.h"

#include <math.h>

/* ---- making ---------------------------------------------------------------------------------------- */

static fdl_status check(const fdl_trainer_opts *o)
{
    if (o->accumulate < 0)
        return fdl_fail(FDL_E_ARG, "fdl_trainer_new: .accumulate is %lld; it must be 1 or more",
                        (long long)o->accumulate);
    if (o->autocast && o->autocast != FDL_BFLOAT16 && o->autocast != FDL_FLOAT16)
        return fdl_fail(FDL_E_DTYPE, "fdl_trainer_new: .autocast is %s; it must be bfloat16 or float16",
                        fdl_dtype_name(o->autocast));
    if ((int)o->on_nonfinite < FDL_NONFINITE_STOP || o->on_nonfinite > FDL_NONFINITE_GO_ON)
        return fdl_fail(
            FDL_E_ARG,
            "fdl_trainer_new: .on_nonfinite is %d, which is none of FDL_NONFINITE_STOP, _SKIP, _GO_ON",
            (int)o->on_nonfinite);
    if ((int)o->capture < FDL_CAPTURE_AUTO || o->capture > FDL_CAPTURE_REQUIRE)
        return fdl_fail(FDL_E_ARG,
                        "fdl_trainer_new: .capture is %d, which is none of FDL_CAPTURE_AUTO, _OFF, _REQUIRE",
                        (int)o->capture);
    if (o->max_plans < 0)
        return fdl_fail(FDL_E_ARG, "fdl_trainer_new: .max_plans is %d; it must be 1 or more", o->max_plans);
    if ((int)o->layout < FDL_LAYOUT_AUTO || o->layout > FDL_LAYOUT_CHANNELS_LAST)
        return fdl_fail(
            FDL_E_ARG,
            "fdl_trainer_new: .layout is %d, which is none of FDL_LAYOUT_AUTO, _KEEP, _CHANNELS_LAST",
            (int)o->layout);
    const double limits[] = {o->clip_norm, o->clip_value};
    for (int i = 0; i < 2; i++)
        if (!(fdl_opt_double(limits[i], 0) >= 0))
            return fdl_fail(FDL_E_ARG, "fdl_trainer_new: .%s is %g; it must be 0 or more",
                            i ? "clip_value" : "clip_norm", limits[i]);
    return FDL_OK;
}

fdl_trainer *fdl_trainer_new_opt(fdl_module *model, fdl_optim *opt, fdl_loss_fn loss,
                                 const fdl_trainer_opts *opts)
{
    static const fdl_trainer_opts none = {0};
    if (!model || !opt || !loss) {
        fdl_null_operand("fdl_trainer_new", !model ? "model" : !opt ? "opt" : "loss");
        return NULL;
    }
    if (fdl_optim_needs_closure(opt))
        return fdl_fail_null(FDL_E_UNSUPPORTED,
                             "fdl_trainer_new: %s evaluates the model several times a step, a trainer once; "
                             "write the loop with fdl_optim_step_closure",
                             fdl_optim_kind(opt));
    FDL_SCOPE;
    if (!opts)
        opts = &none;
    if (check(opts) != FDL_OK)
        return NULL;
    fdl_trainer *tr = calloc(1, sizeof *tr);
    if (!tr)
        return fdl_fail_null(FDL_E_OOM, "fdl_trainer_new: memory ran out");
    *tr = (fdl_trainer){.model = model,
                        .opt = opt,
                        .loss = loss,
                        .o = *opts,
                        .clip_norm = fdl_opt_double(opts->clip_norm, -1),
                        .clip_value = fdl_opt_double(opts->clip_value, -1)};
    tr->o.accumulate = opts->accumulate ? opts->accumulate : 1;
    for (int g = 0; g < fdl_optim_groups(opt) && !tr->probe; g++) {
        fdl_list params = fdl_optim_params(opt, g);
        if (!params.n)
            continue;
        tr->probe = fdl_keep(params.at[0]);
        if (!tr->probe) {
            fdl_trainer_free(tr);
            return NULL;
        }
    }
    return tr;
}

void fdl_trainer_free(fdl_trainer *tr)
{
    if (!tr)
        return;
    trainer_plans_free(tr);
    trainer_room_free(tr);
    trainer_meter_free(&tr->meter);
    fdl_free(tr->probe);
    free(tr);
}

int64_t fdl_trainer_steps(const fdl_trainer *tr)
{
    if (!tr)
        fdl_null_operand(__func__, "tr");
    return tr ? tr->steps : -1;
}

/* ---- saying what runs ------------------------------------------------------------------------------ */

fdl_status fdl_trainer_plan(fdl_trainer *tr, FILE *file)
{
    if (!tr || !file)
        return fdl_null_operand(__func__, tr ? "file" : "tr");
    char name[FDL_DEVICE_NAME_SIZE];
    fdl_device device = tr->probe ? fdl_device_of(tr->probe) : FDL_CPU;
    const fdl_trainer_opts *o = &tr->o;
    int bad = 0;
#define SAY(...) (bad |= fprintf(file, __VA_ARGS__) < 0)
    if (device.type == FDL_DEVICE_TYPE_CPU)
        SAY("eager: the model is on the CPU, where nothing is captured\n");
    else if (o->capture == FDL_CAPTURE_OFF)
        SAY("eager: .capture is FDL_CAPTURE_OFF; every operation of a step is launched by itself on %s\n",
            fdl_device_name(device, name));
    else if (!tr->plans)
        SAY("no step yet: the first ones on %s are watched, then captured where nothing stands in the way\n",
            fdl_device_name(device, name));
    else
        bad |= !trainer_plans_say(tr, file);
    if (tr->layout == LAYOUT_CHANNELS_LAST)
        SAY("  convolutions are laid out channels-last\n");
    if (tr->layout_ms[0] > 0)
        SAY("  measured: a step takes %.3f ms row-major, %.3f ms channels-last\n", tr->layout_ms[0],
            tr->layout_ms[1]);
    if (o->accumulate > 1)
        SAY("  a step is %lld batches\n", (long long)o->accumulate);
    if (o->autocast)
        SAY("  the loss function runs under autocast to %s\n", fdl_dtype_name(o->autocast));
    if (o->scaler)
        SAY("  the loss is scaled; steps with gradients that aren't finite are left out\n");
    if (tr->clip_norm >= 0)
        SAY("  gradients are scaled to a norm of at most %g\n", tr->clip_norm);
    if (tr->clip_value >= 0)
        SAY("  elements of gradients are clamped to at most %g\n", tr->clip_value);
    SAY("  optimizer: %s, at rate %g%s\n", fdl_optim_kind(tr->opt), fdl_optim_lr(tr->opt),
        o->sched ? ", which a schedule sets before each step" : "");
    if (o->ema)
        SAY("  averages of the parameters are kept\n");
#undef SAY
    return bad ? fdl_fail(FDL_E_IO, "fdl_trainer_plan: the text can't be written") : FDL_OK;
}

/* ---- a number that changes from step to step --------------------------------------------------------- */

struct fdl_step_value {
    double value;
    fdl_tensor *tensor; /* kept */
};

fdl_step_value *fdl_step_value_new(double value)
{
    fdl_step_value *v = calloc(1, sizeof *v);
    if (!v)
        return fdl_fail_null(FDL_E_OOM, "fdl_step_value_new: memory ran out");
    FDL_SCOPE;
    v->value = value;
    v->tensor = fdl_keep(fdl_scalar(value, .dtype = FDL_FLOAT32));
    if (v->tensor)
        return v;
    free(v);
    return NULL;
}

fdl_status fdl_step_value_set(fdl_step_value *v, double value)
{
    if (!v)
        return fdl_null_operand(__func__, "v");
    FDL_NO_GRAD;
    FDL_TRY(fdl_fill_(v->tensor, value));
    v->value = value;
    return FDL_OK;
}

double fdl_step_value_get(const fdl_step_value *v)
{
    if (!v)
        fdl_null_operand(__func__, "v");
    return v ? v->value : (double)NAN;
}

fdl_tensor *fdl_step_tensor(fdl_step_value *v)
{
    if (!v)
        fdl_null_operand(__func__, "v");
    return v ? v->tensor : NULL;
}

void fdl_step_value_free(fdl_step_value *v)
{
    if (!v)
        return;
    fdl_free(v->tensor);
    free(v);
}
