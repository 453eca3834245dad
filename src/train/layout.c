/* Which memory layout a model with convolutions is trained in. cuDNN's kernels, and those of pooling and batch norm, differ
 * in speed by half between row-major and channels-last, and which is faster depends on the model: so it is measured, with
 * whole steps as they will run. Parameters stay the same leaves; only their strides change. */
#include "flodl/cuda.h"
#include "flodl/inplace.h"
#include "flodl/message.h"
#include "plan.h"

#include <math.h>

static const double gain_wanted = 0.03;
enum { TIMED_STEPS = 4, TIMES = 3 };

/* ---- turning ------------------------------------------------------------------------------------------ */

static bool is_spatial(fdl_tensor *x)
{
    int n = fdl_ndim(x);
    return (n == 4 || n == 5) && fdl_dtype_is_floating(fdl_dtype_of(x));
}

static fdl_status turn_list(fdl_params *list, bool channels_last)
{
    if (!list)
        return fdl_error_pending();
    for (int i = 0; i < fdl_params_count(list); i++) {
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(list, i));
        if (!is_spatial(x))
            continue;
        fdl_tensor *y = fdl_detach(x);
        FDL_TRY(fdl_clear_grad(x)); /* between two steps nobody adds to it */
        FDL_TRY(fdl_set_data_(x, channels_last ? fdl_channels_last(y) : fdl_contiguous(y)));
    }
    return FDL_OK;
}

/* The model's tensors of 4 and 5 dims; the optimizer and the averages follow at their next step. */
static fdl_status turn(fdl_trainer *tr, bool channels_last)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(turn_list(fdl_parameters(tr->model), channels_last));
    FDL_TRY(turn_list(fdl_buffers(tr->model), channels_last));
    tr->layout = channels_last ? LAYOUT_CHANNELS_LAST : LAYOUT_KEPT;
    return FDL_OK;
}

static bool has_spatial_parameters(const fdl_trainer *tr)
{
    FDL_SCOPE;
    fdl_params *params = fdl_parameters(tr->model);
    for (int i = 0; params && i < fdl_params_count(params); i++)
        if (is_spatial(fdl_param_tensor(fdl_params_at(params, i))))
            return true;
    fdl_clear_error();
    return false;
}

fdl_status layout_begin(fdl_trainer *tr)
{
    if (FDL_LIKELY(tr->layout != LAYOUT_UNSAID))
        return FDL_OK;
    tr->layout = LAYOUT_KEPT;
    if (tr->o.layout == FDL_LAYOUT_CHANNELS_LAST)
        return turn(tr, true);
    bool on_gpu = tr->probe && fdl_device_of(tr->probe).type == FDL_DEVICE_TYPE_CUDA;
    if (tr->o.layout == FDL_LAYOUT_AUTO && on_gpu && tr->o.accumulate == 1 && has_spatial_parameters(tr))
        tr->layout = LAYOUT_OPEN;
    return FDL_OK;
}

bool layout_is_open(const fdl_trainer *tr)
{
    return tr->layout == LAYOUT_OPEN;
}

/* ---- measuring ------------------------------------------------------------------------------------------ */

static fdl_status one(fdl_trainer *tr, trainer_plan *p)
{
    return p->graph ? plan_launch(tr, p) : trainer_run_eager(tr, (fdl_list){p->n, p->input}, p->part);
}

/* Milliseconds a step on the device, the least of some runs; NaN when that fails. */
static double time_of(fdl_trainer *tr, trainer_plan *p)
{
    double best = (double)INFINITY, ms;
    fdl_event *start = fdl_cuda_event_new(.timing = true), *end = fdl_cuda_event_new(.timing = true);
    fdl_stream *stream = fdl_cuda_stream_current(fdl_device_of(tr->probe));
    fdl_status status = start && end && stream ? one(tr, p) : fdl_error_pending();
    for (int k = 0; status == FDL_OK && k < TIMES; k++) {
        status = fdl_cuda_event_record_on(start, stream);
        for (int i = 0; status == FDL_OK && i < TIMED_STEPS; i++)
            status = one(tr, p);
        if (status == FDL_OK && (status = fdl_cuda_event_record_on(end, stream)) == FDL_OK &&
            (status = fdl_cuda_event_synchronize(end)) == FDL_OK &&
            (status = fdl_cuda_event_elapsed_ms(start, end, &ms)) == FDL_OK)
            best = fmin(best, ms / TIMED_STEPS);
    }
    fdl_cuda_event_free(start);
    fdl_cuda_event_free(end);
    fdl_cuda_stream_free(stream);
    return status == FDL_OK ? best : (double)NAN;
}

/* What one layout is like: a step's gradients, and its time. */
typedef struct trial {
    outcome from_one;
    double ms;
} trial;

/* Steps of the plan, which has its inputs, from the state s and back to it. */
static fdl_status measure(fdl_trainer *tr, trainer_plan *p, const step_state *s, trial *t)
{
    FDL_TRY(one(tr, p));
    if (!p->owner)
        FDL_TRY(plan_hold_grads(tr, p));
    FDL_TRY(outcome_note(s, p, p->graph != NULL, &t->from_one));
    t->ms = time_of(tr, p);
    fdl_status status = fdl_error_pending();
    FDL_TRY(state_restore(tr, s));
    return isnan(t->ms) ? (status ? status : FDL_E_STATE) : FDL_OK;
}

/* What the trainer changes now, with the copies of s: a step in another layout has moved some of it. */
static fdl_status gather_again(const fdl_trainer *tr, trainer_part part, step_state *s)
{
    step_state now;
    FDL_TRY(state_gather(tr, part, &now));
    if (now.n != s->n)
        return fdl_fail(FDL_E_STATE, "a step has made %d tensors of state where there were %d", now.n, s->n);
    s->at = now.at;
    return FDL_OK;
}

/* p's successor in the layout that is now, recorded if p is. */
static fdl_status follow(fdl_trainer *tr, const trainer_plan *p, fdl_list batch, step_state *s,
                         trainer_plan **successor)
{
    fdl_watch *w = NULL;
    for (int i = 0; i < 2; i++) { /* lazy initialisation, cuDNN's choice, and the optimizer's state follows */
        fdl_watch_free(w);
        FDL_TRY(plan_watched_step(tr, batch, p->part, &w));
    }
    fdl_status status = gather_again(tr, p->part, s);
    if (status == FDL_OK)
        status = state_restore(tr, s);
    if (status == FDL_OK)
        status = fdl_optim_zero_grad(tr->opt);
    trainer_plan *q = status == FDL_OK ? plan_add(tr, batch, p->part) : NULL;
    if (!q) {
        fdl_watch_free(w);
        return status == FDL_OK ? fdl_error_pending() : status;
    }
    *successor = q;
    q->watch = w;
    q->watched = p->watched;
    q->stage = p->stage;
    memcpy(q->reason, p->reason, sizeof q->reason);
    return p->graph ? plan_record(tr, q, batch) : plan_inputs(tr, q, batch);
}

/* What two layouts may differ by: float32 rounding, or that of TF32's 10 bits where convolutions use it. */
static bool agree(const step_state *s, const trainer_plan *p, const trial *a, const trial *b)
{
    bool matmul = false, cudnn = false;
    fdl_is_tf32_allowed(&matmul, &cudnn);
    return outcome_distance(s, p, &a->from_one, &b->from_one).norm <= (cudnn ? 1e-2 : 1e-4);
}

/* Measures both; true: channels-last is faster and computes the same, and *q is its plan. */
static fdl_status compare(fdl_trainer *tr, trainer_plan *p, fdl_list batch, step_state *s, trainer_plan **q,
                          bool *faster)
{
    trial rows = {0}, last = {0};
    FDL_TRY(measure(tr, p, s, &rows));
    FDL_TRY(fdl_optim_zero_grad(tr->opt));
    FDL_TRY(turn(tr, true));
    FDL_TRY(follow(tr, p, batch, s, q));
    FDL_TRY(measure(tr, *q, s, &last));
    tr->layout_ms[0] = rows.ms;
    tr->layout_ms[1] = last.ms;
    *faster = last.ms < (1 - gain_wanted) * rows.ms && agree(s, *q, &rows, &last);
    return FDL_OK;
}

/* Where memory suffices for both, the trial is recorded into a pool of its own: so the memory of the layout that isn't kept
 * goes back whole. */
static void pool_for_trial(fdl_trainer *tr, const trainer_plan *p)
{
    int64_t used = 0, total = 0;
    int index = fdl_device_of(tr->probe).index;
    if (p->graph && fdl_cuda_mem_info(index, &used, &total) == FDL_OK && total - used > 2 * p->bytes)
        tr->pool = fdl_cuda_pool_new();
}

fdl_status layout_try(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    FDL_SCOPE;
    tr->layout = LAYOUT_KEPT; /* whatever comes of it, it is tried once */
    trainer_meter host = tr->meter;
    fdl_cuda_pool pool = tr->pool;
    step_state s;
    trainer_plan *q = NULL;
    bool faster = false, eager = !p->graph;
    fdl_status status = state_save(tr, p->part, &s);
    bool saved = status == FDL_OK;
    if (saved && eager)
        status = plan_inputs(tr, p, batch);
    if (status == FDL_OK) {
        pool_for_trial(tr, p);
        status = compare(tr, p, batch, &s, &q, &faster);
    }
    tr->meter = host;
    for (trainer_plan *at[] = {p, q}, **k = at; eager && k < at + 2; k++)
        if (*k)
            plan_drop_graph(*k);
    if (faster) {
        plan_remove(tr, p);
        fdl_msg_at(FDL_VERBOSE, "trainer: channels-last, %.3f ms a step; row-major takes %.3f ms",
                   tr->layout_ms[1], tr->layout_ms[0]);
        return FDL_OK;
    }
    char why[256] = "it is no slower";
    if (status != FDL_OK)
        snprintf(why, sizeof why, "%s", fdl_last_error()->message);
    fdl_clear_error();
    trainer_part part = p->part;
    tr->pool = pool;
    if (q)
        plan_remove(tr, q);
    if (tr->layout ==
        LAYOUT_CHANNELS_LAST) { /* the optimizer's state has moved: what was recorded is out of date */
        FDL_TRY(turn(tr, false));
        plan_remove(tr, p);
    }
    if (saved) {
        FDL_TRY(gather_again(tr, part, &s));
        FDL_TRY(state_restore(tr, &s));
    }
    fdl_msg_at(FDL_VERBOSE, "trainer: row-major stays: %s", why);
    return FDL_OK;
}
