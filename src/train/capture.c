/* Whole steps as CUDA graphs: how a plan comes to be recorded, and how it runs.
 *
 * A plan is watched for some steps, which run as ever while their operations are noted; recorded, when two steps in a row
 * ran the same operations and none that a graph can't hold; checked, by running the step both ways from one state; and then
 * replayed. Whatever stands in the way makes it eager for good, with the reason.
 *
 * Where several batches make a step (.accumulate), each place in the group has a plan of its own. The one that begins a
 * group leaves its gradients in tensors that stay, to which the others add in place. */
#include "flodl/cuda.h"
#include "flodl/foreach.h"
#include "flodl/inplace.h"
#include "flodl/message.h"
#include "plan.h"

/* ---- the optimizer's parameters, one after the other ---------------------------------------------------- */

fdl_list trainer_params(const fdl_trainer *tr)
{
    int n = 0, groups = fdl_optim_groups(tr->opt);
    for (int g = 0; g < groups; g++)
        n += fdl_optim_params(tr->opt, g).n;
    fdl_list all = {0, fdl_scope_alloc(sizeof *all.at * (size_t)(n + 1))};
    for (int g = 0; all.at && g < groups; g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        for (int i = 0; i < params.n && all.n < n; i++)
            all.at[all.n++] = params.at[i];
    }
    return all;
}

/* Others would grow with each replay, wherever their gradient is by then. */
fdl_status trainer_check_leaves(const fdl_trainer *tr, fdl_tensor *loss)
{
    FDL_SCOPE;
    fdl_list leaves = fdl_autograd_leaves(loss), params = trainer_params(tr);
    if (!params.at)
        return fdl_error_pending();
    for (int i = 0; i < leaves.n; i++) {
        int k = 0;
        while (k < params.n && !fdl_is(params.at[k], leaves.at[i]))
            k++;
        if (k == params.n) {
            char text[256];
            return fdl_fail(FDL_E_STATE,
                            "the loss has a gradient for a tensor that the optimizer doesn't have, %s: "
                            "freeze it or add it",
                            fdl_describe(leaves.at[i], text, sizeof text));
        }
    }
    return fdl_error_pending();
}

/* ---- gradients that stay -------------------------------------------------------------------------------- */

void trainer_room_free(fdl_trainer *tr)
{
    for (int i = 0; i < tr->room_for; i++)
        fdl_free(tr->room[i]);
    free(tr->room);
    tr->room = NULL;
    tr->room_for = 0;
}

/* A tensor for the gradient of each parameter that has one. */
static fdl_status make_room(fdl_trainer *tr)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_list params = trainer_params(tr);
    if (!params.at)
        return fdl_error_pending();
    if (params.n > tr->room_for) {
        fdl_tensor **more = realloc(tr->room, sizeof *more * (size_t)params.n);
        if (!more)
            return fdl_fail(FDL_E_OOM, "no memory");
        memset(more + tr->room_for, 0, sizeof *more * (size_t)(params.n - tr->room_for));
        tr->room = more;
        tr->room_for = params.n;
    }
    for (int i = 0; i < params.n; i++) {
        look l = look_of(params.at[i]);
        if (!fdl_grad(params.at[i]) || (tr->room[i] && looks_the_same(&l, tr->room[i])))
            continue;
        fdl_tensor *made = fdl_keep(fdl_empty_like(params.at[i]));
        if (!made)
            return fdl_error_pending();
        fdl_free(tr->room[i]);
        tr->room[i] = made;
    }
    return FDL_OK;
}

/* Whether every gradient that there is lies where a recorded beginning of a group has left it. */
static bool gathered(const fdl_trainer *tr)
{
    FDL_SCOPE;
    fdl_list params = trainer_params(tr);
    bool any = false;
    for (int i = 0; params.at && i < params.n; i++) {
        fdl_tensor *grad = fdl_grad(params.at[i]);
        if (grad && (i >= tr->room_for || !tr->room[i] || !fdl_is(grad, tr->room[i])))
            return false;
        any = any || grad;
    }
    return any;
}

/* At the end of a group's recorded beginning: the gradients into the room. */
static fdl_status move_in(fdl_trainer *tr)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_list params = trainer_params(tr);
    fdl_list to = {0, fdl_scope_alloc(sizeof *to.at * (size_t)(params.n + 1))},
             from = {0, fdl_scope_alloc(sizeof *from.at * (size_t)(params.n + 1))};
    if (!params.at || !to.at || !from.at)
        return fdl_error_pending();
    for (int i = 0; i < params.n; i++) {
        fdl_tensor *grad = fdl_grad(params.at[i]);
        if (!grad)
            continue;
        if (i >= tr->room_for || !tr->room[i])
            return fdl_fail(FDL_E_STATE, "a parameter has a gradient in the captured step only");
        to.at[to.n++] = tr->room[i];
        from.at[from.n++] = grad;
    }
    FDL_TRY(fdl_foreach_copy_(to, from));
    for (int i = 0; i < params.n; i++)
        if (fdl_grad(params.at[i]))
            FDL_TRY(fdl_set_grad(params.at[i], tr->room[i]));
    return FDL_OK;
}

/* The gradients as handles (scope), NULL where there is none; and the same put back. */
static fdl_tensor **note_grads(const fdl_trainer *tr)
{
    fdl_list params = trainer_params(tr);
    fdl_tensor **grads = fdl_scope_alloc(sizeof *grads * (size_t)(params.n + 1));
    for (int i = 0; grads && i < params.n; i++)
        grads[i] = fdl_grad(params.at[i]);
    return params.at ? grads : NULL;
}

static fdl_status reset_grads(const fdl_trainer *tr, fdl_tensor *const *grads)
{
    FDL_SCOPE;
    fdl_list params = trainer_params(tr);
    if (!params.at)
        return fdl_error_pending();
    for (int i = 0; i < params.n; i++)
        FDL_TRY(grads[i] ? fdl_set_grad(params.at[i], grads[i]) : fdl_clear_grad(params.at[i]));
    return FDL_OK;
}

/* ---- watching ------------------------------------------------------------------------------------------ */

static fdl_status eager(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    FDL_SCOPE;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    return trainer_run_eager(tr, here, part);
}

fdl_status plan_watched_step(fdl_trainer *tr, fdl_list batch, trainer_part part, fdl_watch **watch)
{
    FDL_SCOPE;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    *watch = fdl_watch_start();
    if (!*watch)
        fdl_clear_error();
    fdl_status status = trainer_run_eager(tr, here, part);
    if (*watch && fdl_watch_stop(*watch) != FDL_OK && status == FDL_OK)
        status = fdl_error_pending();
    return status;
}

/* "switch_2 (#route): operation 7, aten::mul", or without the node where none ran it. */
static const char *operation(const fdl_watch *w, int64_t at, char *text, size_t size)
{
    const char *part = fdl_watch_part(w, at), *name = fdl_watch_name(w, at);
    snprintf(text, size, "%s%soperation %lld, %s", part ? part : "", part ? ": " : "", (long long)at,
             name ? name : "the end");
    return text;
}

bool watch_steady(const fdl_watch *a, const fdl_watch *b, char *text, size_t size)
{
    int64_t at = fdl_watch_difference(a, b);
    if (at < 0)
        return true;
    const char *was = fdl_watch_name(a, at), *is = fdl_watch_name(b, at);
    char one[400];
    if (was && is && strcmp(was, is) == 0)
        snprintf(text, size, "%s, had other arguments in one step than in the next",
                 operation(b, at, one, sizeof one));
    else
        snprintf(text, size, "%s in one step, was %s in the next", operation(a, at, one, sizeof one),
                 is ? is : "the end");
    return false;
}

bool watch_obstacle(const fdl_watch *w, char *text, size_t size)
{
    const char *does;
    int64_t at = fdl_watch_obstacle(w, &does);
    char one[400];
    if (at >= 0)
        snprintf(text, size, "%s, %s", operation(w, at, one, sizeof one), does);
    return at >= 0;
}

static fdl_status watch(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    fdl_watch *w = NULL;
    fdl_status status = plan_watched_step(tr, batch, p->part, &w);
    if (status != FDL_OK || !w) {
        fdl_watch_free(w);
        return status;
    }
    fdl_watch *before = p->watch;
    p->watch = w;
    p->watched++;
    /* A first step makes what the optimizer remembers; it may differ from the others. */
    char why[512];
    if (watch_obstacle(w, why, sizeof why))
        status = plan_give_up(tr, p, "%s", why);
    else if (p->watched > 2 && !watch_steady(before, w, why, sizeof why))
        status = plan_give_up(tr, p, "%s", why);
    fdl_watch_free(before);
    return status;
}

/* ---- recording ----------------------------------------------------------------------------------------- */

fdl_status inputs_make(fdl_tensor ***inputs, fdl_list here)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    *inputs = calloc((size_t)here.n + 1, sizeof **inputs);
    if (!*inputs)
        return fdl_fail(FDL_E_OOM, "no memory");
    for (int i = 0; i < here.n; i++) {
        (*inputs)[i] = fdl_keep(fdl_empty_like(here.at[i]));
        FDL_TRY(fdl_copy_((*inputs)[i], here.at[i]));
    }
    return FDL_OK;
}

fdl_status plan_inputs(const fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    FDL_SCOPE;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    return inputs_make(&p->input, here);
}

/* The graph's memory for gradients stays its own that way. */
fdl_status plan_hold_grads(const fdl_trainer *tr, trainer_plan *p)
{
    FDL_SCOPE;
    fdl_list params = trainer_params(tr);
    p->owner = calloc((size_t)params.n + 1, sizeof *p->owner);
    p->grad = calloc((size_t)params.n + 1, sizeof *p->grad);
    if (!params.at || !p->owner || !p->grad)
        return fdl_fail(FDL_E_OOM, "no memory");
    for (; p->n_params < params.n; p->n_params++) {
        fdl_tensor *x = params.at[p->n_params], *g = fdl_grad(x);
        p->owner[p->n_params] = fdl_keep(x);
        p->grad[p->n_params] = g ? fdl_keep(g) : NULL;
        if (!p->owner[p->n_params] || (g && !p->grad[p->n_params]))
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* What a replay computes under tags and as state is found where the recording has left it. */
static fdl_status plan_hold_left(const fdl_trainer *tr, trainer_plan *p)
{
    FDL_SCOPE;
    fdl_list left = fdl_module_left(tr->model);
    p->left.at = calloc((size_t)left.n + 1, sizeof *p->left.at);
    if (!left.at || !p->left.at)
        return fdl_fail(FDL_E_OOM, "no memory");
    for (; p->left.n < left.n; p->left.n++) {
        fdl_tensor *x = left.at[p->left.n];
        if (x && !(p->left.at[p->left.n] = fdl_keep(x)))
            return fdl_error_pending();
    }
    return FDL_OK;
}

/* The gradients that the graph writes are the parameters' own, and there are no others. */
static fdl_status own_grads(const trainer_plan *p)
{
    for (int i = 0; i < p->n_params; i++) {
        FDL_SCOPE;
        fdl_tensor *is = fdl_grad(p->owner[i]), *should = p->grad[i];
        if (!should && is)
            FDL_TRY(fdl_clear_grad(p->owner[i]));
        else if (should && !(is && fdl_is(is, should)))
            FDL_TRY(fdl_set_grad(p->owner[i], should));
    }
    return FDL_OK;
}

static bool has_graphs(const fdl_trainer *tr)
{
    bool any = false;
    for (const trainer_plan *p = tr->plans; p; p = p->next)
        any = any || p->stage == PLAN_REPLAY || (p->graph && p->n_params);
    return any;
}

/* The capture itself; the gradients are as the step leaves them. */
static fdl_status record(fdl_trainer *tr, trainer_plan *p)
{
    FDL_SCOPE;
    p->graph = fdl_cuda_graph_new();
    if (!p->graph)
        return fdl_error_pending();
    if (!has_graphs(tr)) /* a pool ends with the last of its graphs */
        tr->pool = fdl_cuda_pool_new();
    FDL_TRY(fdl_cuda_graph_begin(p->graph, .pool = tr->pool, .mode = FDL_CAPTURE_THREAD_LOCAL,
                                 .device = fdl_device_of(tr->probe)));
    trainer_meter host = tr->meter;
    tr->recording = true;
    fdl_status status = trainer_run_eager(tr, (fdl_list){p->n, p->input}, p->part);
    tr->recording = false;
    trainer_meter_abandon(&tr->meter);
    host.side = tr->meter.side;
    tr->meter = host; /* no loss was taken */
    if (status == FDL_OK && p->part.first && !p->part.last)
        status = move_in(tr);
    if (status == FDL_OK)
        status = plan_hold_grads(tr, p);
    if (status != FDL_OK) {
        fdl_cuda_graph_reset(p->graph);
        return status;
    }
    return fdl_cuda_graph_end(p->graph);
}

fdl_status plan_record(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    FDL_SCOPE;
    fdl_tensor **grads = note_grads(tr);
    if (!grads)
        return fdl_error_pending();
    fdl_list left = fdl_module_left(tr->model);
    if (!left.at)
        return fdl_error_pending();
    int64_t before = 0, after = 0;
    int index = fdl_device_of(tr->probe).index;
    FDL_TRY(fdl_cuda_memory_reserved(index, &before));
    fdl_status status = plan_inputs(tr, p, batch);
    if (status == FDL_OK)
        status = record(tr, p);
    if (status == FDL_OK)
        status = plan_hold_left(tr, p);
    if (status == FDL_OK)
        status = reset_grads(tr, grads);
    if (status == FDL_OK)
        status = fdl_module_set_left(tr->model, left);
    if (status != FDL_OK) {
        char why[REASON_SIZE];
        snprintf(why, sizeof why, "%s", fdl_last_error()->message);
        plan_drop_graph(p);
        reset_grads(tr, grads);
        fdl_module_set_left(tr->model, left);
        fdl_clear_error();
        return fdl_fail(status, "%s", why);
    }
    FDL_TRY(fdl_cuda_memory_reserved(index, &after));
    p->bytes = after - before;
    return FDL_OK;
}

fdl_status plan_launch(fdl_trainer *tr, trainer_plan *p)
{
    FDL_TRY(own_grads(p));
    FDL_TRY(fdl_cuda_graph_replay(p->graph));
    trainer_meter_replayed(tr);
    return fdl_module_set_left(tr->model, p->left);
}

/* ---- checking ------------------------------------------------------------------------------------------ */

/* The same to the bit, or as far apart as kernels whose order of additions varies make two runs of one step; what is
 * computed from small gradients differs more than they do. */
static bool close_enough(distance d)
{
    return d.grads <= 1e-5 && d.state <= (d.grads > 0 ? 1e-3 : 1e-5);
}

/* One eager step on the plan's inputs, and what came of it. *noted: whether that could be kept. */
static fdl_status eager_outcome(fdl_trainer *tr, trainer_plan *p, const step_state *s, outcome *o,
                                bool *noted)
{
    FDL_TRY(trainer_run_eager(tr, (fdl_list){p->n, p->input}, p->part));
    if (*noted)
        *noted = outcome_note(s, p, false, o) == FDL_OK;
    return FDL_OK;
}

/* The step both ways from one state; *good: they agree, else why. In the end one step was made, an eager one, which
 * alone can fail. */
static fdl_status check(fdl_trainer *tr, trainer_plan *p, bool *good, char *why, size_t size)
{
    FDL_SCOPE;
    *good = false;
    step_state s;
    outcome captured, eager, again;
    trainer_meter host = tr->meter;
    fdl_tensor **grads = note_grads(tr);
    bool noted = grads && state_save(tr, p->part, &s) == FDL_OK;
    if (noted) {
        noted = plan_launch(tr, p) == FDL_OK && outcome_note(&s, p, true, &captured) == FDL_OK;
        tr->meter = host;
        if (!noted)
            snprintf(why, size, "the captured step failed: %s", fdl_last_error()->message);
        fdl_clear_error();
        FDL_TRY(state_restore(tr, &s));
        FDL_TRY(reset_grads(tr, grads));
    } else {
        snprintf(why, size, "the step's state can't be copied for the check: %s", fdl_last_error()->message);
        fdl_clear_error();
    }
    bool kept = noted;
    FDL_TRY(eager_outcome(tr, p, &s, &eager, &kept));
    if (noted && !kept) {
        snprintf(why, size, "the check of the captured step failed: %s", fdl_last_error()->message);
        fdl_clear_error();
    }
    if (!noted || !kept)
        return FDL_OK;
    distance d = outcome_distance(&s, p, &captured, &eager);
    if (!(*good = close_enough(d))) {
        /* Two eager steps may be as far apart, where kernels add in an order that varies. */
        FDL_TRY(state_restore(tr, &s));
        FDL_TRY(reset_grads(tr, grads));
        tr->meter = host;
        FDL_TRY(eager_outcome(tr, p, &s, &again, &kept));
        fdl_clear_error();
        distance own = kept ? outcome_distance(&s, p, &eager, &again) : (distance){0, 0, 0};
        *good = kept && d.grads <= 4 * own.grads && d.state <= 4 * own.state + 1e-5;
        snprintf(
            why, size,
            "a captured step and an eager one from the same state differ: gradients by %.2g, parameters and "
            "state by %.2g, relative to the largest value; two eager ones by %.2g and %.2g",
            d.grads, d.state, own.grads, own.state);
    }
    return FDL_OK;
}

/* Drops the gradients of the step before. A gradient that is left is of a parameter that the optimizer doesn't have, and
 * would grow with the check's steps: its name goes to `name`. */
static fdl_status drop_grads(const fdl_trainer *tr, char *name, size_t size)
{
    FDL_SCOPE;
    FDL_TRY(fdl_optim_zero_grad(tr->opt));
    fdl_params *params = fdl_parameters(tr->model);
    if (!params)
        return fdl_error_pending();
    name[0] = 0;
    for (int i = 0; i < fdl_params_count(params) && !name[0]; i++)
        if (fdl_grad(fdl_param_tensor(fdl_params_at(params, i))))
            snprintf(name, size, "%s", fdl_params_name(params, i));
    return FDL_OK;
}

/* What eager steps needed beside the graph's own memory isn't needed again soon. */
static fdl_status give_back(void)
{
    return fdl_cuda_empty_cache();
}

/* Records the plan and makes the step. */
static fdl_status capture(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    trainer_part part = p->part;
    char left[256] = "", why[REASON_SIZE];
    fdl_status status = part.first && !part.last ? make_room(tr) : FDL_OK;
    if (part.first)
        FDL_TRY(drop_grads(tr, left, sizeof left));
    const char *unsettled = fdl_module_unsettled(tr->model);
    if (unsettled) {
        FDL_TRY(plan_give_up(tr, p,
                             "a module of kind \"%s\" carries state of its own from step to step, which a "
                             "recorded step would not see change; fdl_flow_using of a later tag can carry it",
                             unsettled));
        return eager(tr, batch, part);
    }
    if (left[0]) {
        FDL_TRY(plan_give_up(
            tr, p,
            "parameter \"%s\" gathers gradients over the steps: the optimizer doesn't have it; freeze it or "
            "add it",
            left));
        return eager(tr, batch, part);
    }
    if (status == FDL_OK)
        status = plan_record(tr, p, batch);
    if (status != FDL_OK) {
        snprintf(why, sizeof why, "the capture failed: %s", fdl_last_error()->message);
        fdl_clear_error();
        FDL_TRY(plan_give_up(tr, p, "%s", why));
        return eager(tr, batch, part);
    }
    bool good;
    FDL_TRY(check(tr, p, &good, why, sizeof why));
    if (!good)
        return plan_give_up(tr, p, "%s", why);
    p->stage = PLAN_REPLAY;
    fdl_msg_at(FDL_VERBOSE, "trainer: steps are captured as a CUDA graph");
    if (layout_is_open(tr))
        FDL_TRY(layout_try(tr, p, batch));
    return give_back();
}

/* ---- replaying ----------------------------------------------------------------------------------------- */

/* Small tensors share a kernel, whose blocks take 65,536 elements each and would be few for a large one. */
fdl_status inputs_refill(fdl_tensor *const *inputs, fdl_list batch)
{
    enum { SMALL = 1 << 14 };
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_list to = {0, fdl_scope_alloc(sizeof *to.at * (size_t)(batch.n + 1))},
             from = {0, fdl_scope_alloc(sizeof *from.at * (size_t)(batch.n + 1))};
    if (!to.at || !from.at)
        return fdl_error_pending();
    for (int i = 0; i < batch.n; i++) {
        bool here = fdl_device_eq(fdl_device_of(batch.at[i]), fdl_device_of(inputs[i]));
        if (here && fdl_numel(inputs[i]) <= SMALL) {
            to.at[to.n++] = inputs[i];
            from.at[from.n++] = batch.at[i];
        } else {
            FDL_TRY(fdl_copy_(inputs[i], batch.at[i], .non_blocking = true));
        }
    }
    return to.n ? fdl_foreach_copy_(to, from) : FDL_OK;
}

static bool due(int64_t replays)
{
    return replays == 10 || replays == 100 || replays == 1000 || (replays && replays % 10000 == 0);
}

/* An eager step whose operations must be those that were captured. */
static fdl_status check_again(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    fdl_watch *w = NULL;
    fdl_status status = plan_watched_step(tr, batch, p->part, &w);
    char why[512];
    if (status == FDL_OK && w && !p->watch) {
        p->watch = w;
        return FDL_OK;
    }
    if (status == FDL_OK && w && !watch_steady(p->watch, w, why, sizeof why)) {
        int64_t since = tr->steps + 1 - p->replays;
        fdl_msg_at(
            FDL_NORMAL,
            "trainer: a number of the host changes from step to step (%s); the steps from %lld on may have "
            "used an old value; give it to the loss function as an fdl_step_value",
            why, (long long)since);
        status = plan_give_up(tr, p, "%s, %lld steps after it was captured", why, (long long)p->replays);
    }
    fdl_watch_free(w);
    return status == FDL_OK && p->stage == PLAN_REPLAY ? give_back() : status;
}

fdl_status trainer_run(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    FDL_TRY(layout_begin(tr));
    bool possible = trainer_may_record(tr) && !fdl_cuda_is_capturing();
    for (int i = 0; possible && i < batch.n; i++)
        possible = batch.at[i] && fdl_ndim(batch.at[i]) >= 0;
    if (!possible || (!part.first && !gathered(tr)))
        return eager(tr, batch, part);
    FDL_TRY(fdl_module_settle(tr->model)); /* what was set or computed outside of steps */
    trainer_plan *p = plan_for(tr, batch, part);
    if (!p)
        return fdl_error_pending();
    switch (p->stage) {
    case PLAN_WATCH:
        return p->watched < TRAINER_WATCHED_STEPS ? watch(tr, p, batch) : capture(tr, p, batch);
    case PLAN_EAGER:
        FDL_TRY(eager(tr, batch, part));
        return layout_is_open(tr) ? layout_try(tr, p, batch) : FDL_OK;
    case PLAN_REPLAY:
        break;
    }
    if (due(p->replays)) {
        FDL_TRY(check_again(tr, p, batch));
        p->replays++;
        return FDL_OK;
    }
    FDL_TRY(inputs_refill(p->input, batch));
    FDL_TRY(plan_launch(tr, p));
    p->replays++;
    return FDL_OK;
}
