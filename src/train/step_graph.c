/* A step that is recorded when the caller says so: a trainer that has one plan. */
#include "flodl/inplace.h"
#include "flodl/random.h"
#include "plan.h"

struct fdl_step_graph {
    fdl_trainer *tr;
};

static const trainer_part whole = {.first = true, .last = true};

/* What was there before gets its values back; what the steps have made is as it is before a first step. */
static fdl_status undo(const fdl_trainer *tr, const step_state *before)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    step_state now;
    FDL_TRY(state_gather(tr, whole, &now));
    for (int i = 0; i < now.n; i++) {
        int k = 0;
        while (k < before->n && !fdl_is(before->at[k], now.at[i]))
            k++;
        FDL_TRY(k < before->n ? fdl_copy_(now.at[i], before->copy[k])
                              : fdl_fill_(now.at[i], fdl_optim_state_start(tr->opt, now.at[i])));
    }
    FDL_TRY(fdl_module_set_left(tr->model, before->left));
    FDL_TRY(fdl_optim_zero_grad(tr->opt));
    return fdl_set_rng_state(fdl_device_of(tr->probe), before->random);
}

/* A first step with dampening isn't what a step from zeros is. */
static fdl_status need_undoable(const fdl_trainer *tr)
{
    if (strcmp(fdl_optim_kind(tr->opt), "sgd") != 0)
        return FDL_OK;
    for (int g = 0; g < fdl_optim_groups(tr->opt); g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        bool fresh = params.n && !fdl_optim_states(tr->opt, params.at[0]).n;
        if (fresh && fdl_optim_option(tr->opt, g, "momentum") != 0 &&
            fdl_optim_option(tr->opt, g, "dampening") != 0)
            return fdl_fail(
                FDL_E_STATE,
                "fdl_train_capture: the first step of SGD with dampening can't be taken back; make "
                "one before, or say .keep_warmup");
    }
    return FDL_OK;
}

/* A step that finds state is another one than a first step, which finds none. */
static fdl_status need_state(const fdl_trainer *tr)
{
    FDL_TRY(fdl_module_settle(tr->model));
    fdl_list states = fdl_module_states(tr->model);
    if (!states.at)
        return fdl_error_pending();
    for (int i = 0; i < states.n; i++)
        if (!states.at[i])
            return fdl_fail(
                FDL_E_STATE,
                "fdl_train_capture: the model carries state from call to call, which is empty; make a "
                "step or a forward before, or say .keep_warmup");
    return FDL_OK;
}

static fdl_status prepare(fdl_trainer *tr, fdl_list batch, const fdl_train_capture_opts *o)
{
    FDL_SCOPE;
    step_state before = {0};
    if (!o->keep_warmup) {
        FDL_TRY(need_undoable(tr));
        FDL_TRY(need_state(tr));
        FDL_TRY(state_save(tr, whole, &before));
    }
    int64_t steps = (o->warmup ? o->warmup : TRAINER_WATCHED_STEPS) + 1;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    fdl_status status = FDL_OK;
    if (o->keep_warmup && fdl_module_states(tr->model).n) /* from the second step on there is state */
        status = trainer_run_eager(tr, here, whole);
    for (int64_t i = TRAINER_WATCHED_STEPS + 1; status == FDL_OK && i < steps; i++)
        status = trainer_run_eager(tr, here, whole);
    for (int i = 0; status == FDL_OK && i < TRAINER_WATCHED_STEPS + 1; i++)
        status = trainer_run(tr, batch, whole);
    if (status == FDL_OK && !(tr->plans && tr->plans->stage == PLAN_REPLAY))
        status = fdl_fail(FDL_E_STATE,
                          "fdl_train_capture: the step wasn't recorded: another capture or watch is running");
    if (o->keep_warmup)
        return status;
    char why[REASON_SIZE + 64];
    snprintf(why, sizeof why, "%s", status == FDL_OK ? "" : fdl_last_error()->message);
    fdl_clear_error();
    FDL_TRY(undo(tr, &before));
    return status == FDL_OK ? FDL_OK : fdl_fail(status, "%s", why);
}

fdl_step_graph *fdl_train_capture_opt(fdl_module *model, fdl_optim *opt, fdl_loss_fn loss, fdl_list batch,
                                      const fdl_train_capture_opts *opts)
{
    static const fdl_train_capture_opts none = {0};
    const fdl_train_capture_opts *o = opts ? opts : &none;
    if (!batch.at && batch.n) {
        fdl_null_operand("fdl_train_capture", "batch");
        return NULL;
    }
    if (o->warmup && o->warmup < TRAINER_WATCHED_STEPS)
        return fdl_fail_null(FDL_E_ARG, "fdl_train_capture: .warmup is %lld; it must be %d or more",
                             (long long)o->warmup, TRAINER_WATCHED_STEPS);
    fdl_trainer *tr =
        fdl_trainer_new(model, opt, loss, .ctx = o->ctx, .scaler = o->scaler, .clip_norm = o->clip_norm,
                        .autocast = o->autocast, .capture = FDL_CAPTURE_REQUIRE, .layout = FDL_LAYOUT_KEEP,
                        .on_nonfinite = FDL_NONFINITE_GO_ON, .max_plans = 1);
    if (!tr)
        return NULL;
    tr->own_only = true;
    fdl_step_graph *g = NULL;
    if (!tr->probe || fdl_device_of(tr->probe).type != FDL_DEVICE_TYPE_CUDA) {
        char name[FDL_DEVICE_NAME_SIZE];
        fdl_fail(FDL_E_DEVICE, "fdl_train_capture: the model is on %s; steps are recorded on CUDA devices",
                 fdl_device_name(tr->probe ? fdl_device_of(tr->probe) : FDL_CPU, name));
    } else if (prepare(tr, batch, o) == FDL_OK && !(g = calloc(1, sizeof *g))) {
        fdl_fail(FDL_E_OOM, "fdl_train_capture: memory ran out");
    }
    if (!g) {
        fdl_trainer_free(tr);
        return NULL;
    }
    g->tr = tr;
    return g;
}

fdl_status fdl_step_graph_run(fdl_step_graph *g, fdl_list batch, double *loss)
{
    if (!g || (!batch.at && batch.n))
        return fdl_null_operand(__func__, g ? "batch" : "g");
    fdl_trainer *tr = g->tr;
    trainer_plan *p = tr->plans;
    bool fits = batch.n == p->n;
    for (int i = 0; fits && i < batch.n; i++) {
        if (!batch.at[i])
            return fdl_null_operand(__func__, "batch");
        look l = look_of(batch.at[i]); /* strides and device may differ: the values are copied */
        fits = l.dtype == p->batch[i].dtype && fdl_shape_eq(l.shape, p->batch[i].shape);
    }
    if (!fits) {
        char is[512], was[512];
        look *looks = calloc((size_t)batch.n + 1, sizeof *looks);
        for (int i = 0; looks && i < batch.n; i++)
            looks[i] = look_of(batch.at[i]);
        looks_say(looks, looks ? batch.n : 0, is, sizeof is);
        free(looks);
        return fdl_fail(FDL_E_SHAPE, "fdl_step_graph_run: the batch is %s; the step was recorded for %s", is,
                        looks_say(p->batch, p->n, was, sizeof was));
    }
    FDL_TRY(fdl_module_settle(tr->model));
    if (!plan_is_current(tr, p))
        return fdl_fail(FDL_E_STATE,
                        "fdl_step_graph_run: the model or its optimizer was changed since the step was "
                        "recorded; record it anew with fdl_train_capture");
    FDL_TRY(inputs_refill(p->input, batch));
    FDL_TRY(plan_launch(tr, p));
    p->replays++;
    tr->steps++;
    tr->meter.count++;
    tr->meter.any = true;
    return loss ? fdl_trainer_loss(tr, loss) : FDL_OK;
}

void fdl_step_graph_free(fdl_step_graph *g)
{
    if (!g)
        return;
    fdl_trainer_free(g->tr);
    free(g);
}
