/* Whole steps as CUDA graphs: a trainer's plans, one for each kind of step that it meets.
 *
 * A plan is watched for some steps, which run as ever while their operations are noted; captured, when two steps in a row
 * ran the same operations and none that a graph can't hold; checked, by running the step both ways from one state; and then
 * replayed. Whatever stands in the way makes it eager for good, with the reason. What a recorded step depends on beside its
 * batch is in the key (key_of), so that a change of it leads to another plan and never to a stale one. */
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/cuda.h"
#include "flodl/cuda_graph.h"
#include "flodl/foreach.h"
#include "flodl/inplace.h"
#include "flodl/message.h"
#include "flodl/random.h"
#include "flodl/reduce.h"
#include "flodl/watch.h"
#include "trainer.h"

#include <math.h>
#include <stdarg.h>

enum { WATCHED_STEPS = 3, MAX_PLANS = 8 };

/* ---- what a plan is for -------------------------------------------------------------------------------- */

/* What one batch tensor looks like. */
typedef struct look {
    fdl_shape shape;
    int64_t stride[FDL_MAX_DIMS];
    fdl_dtype dtype;
    fdl_device device;
} look;

/* What a step depends on, beside the contents of tensors. */
typedef struct key {
    uint64_t module, optim, meter, scaler, ema;
    unsigned modes;
} key;

typedef enum stage { WATCH, REPLAY, EAGER } stage;

/* Why a plan is eager, in words. */
enum { REASON_SIZE = 640 };

struct trainer_plan {
    trainer_plan *next; /* the one used before */
    key key;
    int n;
    look *batch;        /* [n] */
    fdl_tensor **input; /* [n] kept: what the graph reads */
    stage stage;
    int watched;
    fdl_watch *watch; /* the operations of a step */
    fdl_cuda_graph *graph;
    int n_grads;
    fdl_tensor **owner, **grad; /* [n_grads] kept: parameters, and the gradients that the graph writes */
    int64_t replays, bytes;     /* bytes: what the device holds more since the capture */
    char reason[REASON_SIZE];
};

static look look_of(fdl_tensor *x)
{
    look l = {.shape = fdl_shape_of(x), .dtype = fdl_dtype_of(x), .device = fdl_device_of(x)};
    for (int d = 0; d < l.shape.ndim; d++)
        l.stride[d] = fdl_stride(x, d);
    return l;
}

static bool looks_the_same(const look *l, fdl_tensor *x)
{
    if (fdl_ndim(x) != l->shape.ndim || fdl_dtype_of(x) != l->dtype ||
        !fdl_device_eq(fdl_device_of(x), l->device))
        return false;
    for (int d = 0; d < l->shape.ndim; d++)
        if (fdl_size(x, d) != l->shape.d[d] || fdl_stride(x, d) != l->stride[d])
            return false;
    return true;
}

static key key_of(const fdl_trainer *tr)
{
    bool matmul = false, cudnn = false;
    fdl_is_tf32_allowed(&matmul, &cudnn);
    return (key){.module = fdl_module_generation(tr->model),
                 .optim = fdl_optim_generation(tr->opt),
                 .meter = tr->meter.generation,
                 .scaler = tr->o.scaler ? fdl_amp_scaler_generation(tr->o.scaler) : 0,
                 .ema = tr->o.ema ? fdl_ema_generation(tr->o.ema) : 0,
                 .modes = (unsigned)fdl_grad_enabled() | (unsigned)fdl_is_deterministic() << 1 |
                          (unsigned)matmul << 2 | (unsigned)cudnn << 3 |
                          (unsigned)fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CUDA) << 4};
}

static bool same_key(const key *a, const key *b)
{
    return a->module == b->module && a->optim == b->optim && a->meter == b->meter && a->scaler == b->scaler &&
           a->ema == b->ema && a->modes == b->modes;
}

static void drop_graph(trainer_plan *p)
{
    fdl_cuda_graph_free(p->graph);
    p->graph = NULL;
    for (int i = 0; p->input && i < p->n; i++)
        fdl_free(p->input[i]);
    for (int i = 0; i < p->n_grads; i++) {
        fdl_free(p->owner[i]);
        fdl_free(p->grad[i]);
    }
    free(p->input);
    free(p->owner);
    free(p->grad);
    p->input = p->owner = p->grad = NULL;
    p->n_grads = 0;
    p->bytes = 0;
}

static void plan_free(trainer_plan *p)
{
    if (!p)
        return;
    drop_graph(p);
    fdl_watch_free(p->watch);
    free(p->batch);
    free(p);
}

void trainer_plans_free(fdl_trainer *tr)
{
    while (tr->plans) {
        trainer_plan *p = tr->plans;
        tr->plans = p->next;
        plan_free(p);
    }
}

static trainer_plan *plan_new(const key *k, fdl_list batch)
{
    trainer_plan *p = calloc(1, sizeof *p);
    look *looks = calloc((size_t)batch.n + 1, sizeof *looks);
    if (!p || !looks) {
        free(p);
        free(looks);
        return fdl_fail_null(FDL_E_OOM, "trainer: no memory for a plan");
    }
    for (int i = 0; i < batch.n; i++)
        looks[i] = look_of(batch.at[i]);
    *p = (trainer_plan){.key = *k, .n = batch.n, .batch = looks};
    return p;
}

/* The plan for this batch, made if there is none, as the first of the list; the least recently used one leaves. */
static trainer_plan *plan_for(fdl_trainer *tr, fdl_list batch)
{
    key k = key_of(tr);
    int n = 0;
    for (trainer_plan **at = &tr->plans; *at; at = &(*at)->next, n++) {
        trainer_plan *p = *at;
        bool fits = p->n == batch.n && same_key(&p->key, &k);
        for (int i = 0; fits && i < p->n; i++)
            fits = looks_the_same(&p->batch[i], batch.at[i]);
        if (fits) {
            *at = p->next;
            p->next = tr->plans;
            return tr->plans = p;
        }
    }
    trainer_plan *p = plan_new(&k, batch);
    if (!p)
        return NULL;
    p->next = tr->plans;
    tr->plans = p;
    if (n >= (tr->o.max_plans ? tr->o.max_plans : MAX_PLANS)) {
        trainer_plan **last = &p->next;
        while ((*last)->next)
            last = &(*last)->next;
        plan_free(*last);
        *last = NULL;
    }
    return p;
}

/* ---- why not ------------------------------------------------------------------------------------------- */

/* The plan is eager for good; with .capture = FDL_CAPTURE_REQUIRE that is an error. */
FDL_PRINTF(3, 4) static fdl_status give_up(fdl_trainer *tr, trainer_plan *p, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(p->reason, sizeof p->reason, format, args);
    va_end(args);
    p->stage = EAGER;
    drop_graph(p);
    fdl_watch_free(p->watch);
    p->watch = NULL;
    if (tr->o.capture == FDL_CAPTURE_REQUIRE)
        return fdl_fail(FDL_E_STATE, "trainer: the step can't be captured: %s", p->reason);
    fdl_msg_at(FDL_VERBOSE, "trainer: steps run eagerly: %s", p->reason);
    return FDL_OK;
}

/* ---- watching ------------------------------------------------------------------------------------------ */

/* A captured step is the whole of its group. */
static const trainer_part whole = {.first = true, .last = true};

static fdl_status eager(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    FDL_SCOPE;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    return trainer_run_eager(tr, here, part);
}

/* A step that is noted. *watch is NULL, without an error, when another trainer watches at the moment. */
static fdl_status watched_step(fdl_trainer *tr, fdl_list batch, fdl_watch **watch)
{
    FDL_SCOPE;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    *watch = fdl_watch_start();
    if (!*watch)
        fdl_clear_error();
    fdl_status status = trainer_run_eager(tr, here, whole);
    if (*watch && fdl_watch_stop(*watch) != FDL_OK && status == FDL_OK)
        status = fdl_error_pending();
    return status;
}

/* Whether two steps that were noted are the same one; otherwise the reason is in text. */
static bool steady(const fdl_watch *a, const fdl_watch *b, char *text, size_t size)
{
    int64_t at = fdl_watch_difference(a, b);
    if (at < 0)
        return true;
    const char *was = fdl_watch_name(a, at), *is = fdl_watch_name(b, at);
    if (was && is && strcmp(was, is) == 0)
        snprintf(text, size, "operation %lld, %s, had other arguments in one step than in the next",
                 (long long)at, is);
    else
        snprintf(text, size, "operation %lld was %s in one step and %s in the next", (long long)at,
                 was ? was : "the end", is ? is : "the end");
    return false;
}

static fdl_status watch(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    fdl_watch *w = NULL;
    fdl_status status = watched_step(tr, batch, &w);
    if (status != FDL_OK || !w) {
        fdl_watch_free(w);
        return status;
    }
    fdl_watch *before = p->watch;
    p->watch = w;
    p->watched++;
    /* A first step makes what the optimizer remembers; it may differ from the others. */
    char why[256];
    const char *does;
    int64_t at = fdl_watch_obstacle(w, &does);
    if (at >= 0)
        status = give_up(tr, p, "operation %lld, %s, %s", (long long)at, fdl_watch_name(w, at), does);
    else if (p->watched > 2 && !steady(before, w, why, sizeof why))
        status = give_up(tr, p, "%s", why);
    fdl_watch_free(before);
    return status;
}

/* ---- the state that a step changes --------------------------------------------------------------------- */

/* Tensors that a step changes, and a copy of them on the host. */
typedef struct state {
    int n, room;
    fdl_tensor **at, **copy;
    fdl_tensor *random;
} state;

static fdl_status take_in(state *s, fdl_tensor *x)
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

/* Everything but gradients: parameters, buffers, what the optimizer remembers, averages, the sums of losses, the scale. */
static fdl_status gather(const fdl_trainer *tr, state *s)
{
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
    for (int g = 0; g < fdl_optim_groups(tr->opt); g++) {
        fdl_list params = fdl_optim_params(tr->opt, g);
        for (int i = 0; i < params.n; i++) {
            fdl_list kept = fdl_optim_states(tr->opt, params.at[i]);
            for (int k = 0; k < kept.n; k++)
                FDL_TRY(take_in(s, kept.at[k]));
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

static fdl_tensor **copies(const state *s)
{
    fdl_tensor **copy = fdl_scope_alloc(sizeof *copy * (size_t)(s->n + 1));
    for (int i = 0; copy && i < s->n; i++)
        if (!(copy[i] = fdl_to_device(fdl_detach(s->at[i]), FDL_CPU, .copy = true)))
            return NULL;
    return copy;
}

static fdl_status put_back(const state *s, fdl_device device)
{
    FDL_NO_GRAD;
    for (int i = 0; i < s->n; i++)
        FDL_TRY(fdl_copy_(s->at[i], s->copy[i]));
    return fdl_set_rng_state(device, s->random);
}

/* ---- checking ------------------------------------------------------------------------------------------ */

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

typedef struct outcome {
    fdl_tensor **state, **grad; /* on the host */
} outcome;

static fdl_status note_outcome(const state *s, const trainer_plan *p, bool of_plan, outcome *o)
{
    o->state = copies(s);
    o->grad = fdl_scope_alloc(sizeof *o->grad * (size_t)(p->n_grads + 1));
    for (int i = 0; o->state && o->grad && i < p->n_grads; i++) {
        fdl_tensor *g = of_plan ? p->grad[i] : fdl_grad(p->owner[i]);
        if (!g)
            return fdl_fail(FDL_E_STATE, "a parameter has a gradient in the captured step only");
        o->grad[i] = fdl_to_device(fdl_detach(g), FDL_CPU, .copy = true);
    }
    return o->state && o->grad ? fdl_error_pending() : FDL_E_OOM;
}

/* How far two outcomes are apart, relative to the largest value. */
typedef struct distance {
    double grads, state;
} distance;

static distance between(const state *s, const trainer_plan *p, const outcome *a, const outcome *b)
{
    distance d = {0, 0};
    for (int i = 0; i < p->n_grads; i++)
        d.grads = fmax(d.grads, apart(a->grad[i], b->grad[i]));
    for (int i = 0; i < s->n; i++)
        d.state = fmax(d.state, apart(a->state[i], b->state[i]));
    return d;
}

/* The same to the bit, or as far apart as kernels whose order of additions varies make two runs of one step; what is
 * computed from small gradients differs more than they do. */
static bool close_enough(distance d)
{
    return d.grads <= 1e-5 && d.state <= (d.grads > 0 ? 1e-3 : 1e-5);
}

/* ---- capturing ----------------------------------------------------------------------------------------- */

static fdl_status make_inputs(trainer_plan *p, fdl_list batch, fdl_device device)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    p->input = calloc((size_t)p->n + 1, sizeof *p->input);
    if (!p->input)
        return fdl_fail(FDL_E_OOM, "no memory");
    for (int i = 0; i < p->n; i++) {
        p->input[i] = fdl_keep(fdl_empty_like(batch.at[i], .device = device));
        FDL_TRY(fdl_copy_(p->input[i], batch.at[i]));
    }
    return FDL_OK;
}

/* Handles on the gradients that the graph writes, so that their memory stays its own. */
static fdl_status hold_grads(const fdl_trainer *tr, trainer_plan *p)
{
    FDL_SCOPE;
    fdl_params *params = fdl_parameters(tr->model);
    if (!params)
        return fdl_error_pending();
    int n = fdl_params_count(params);
    p->owner = calloc((size_t)n + 1, sizeof *p->owner);
    p->grad = calloc((size_t)n + 1, sizeof *p->grad);
    if (!p->owner || !p->grad)
        return fdl_fail(FDL_E_OOM, "no memory");
    for (int i = 0; i < n; i++) {
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(params, i)), *g = fdl_grad(x);
        if (!g)
            continue;
        p->owner[p->n_grads] = fdl_keep(x);
        p->grad[p->n_grads] = fdl_keep(g);
        if (!p->owner[p->n_grads] || !p->grad[p->n_grads])
            return fdl_error_pending();
        p->n_grads++;
    }
    return FDL_OK;
}

/* The gradients that the graph writes are the parameters' own. */
static fdl_status own_grads(const trainer_plan *p)
{
    for (int i = 0; i < p->n_grads; i++) {
        FDL_SCOPE;
        if (!fdl_is(fdl_grad(p->owner[i]), p->grad[i]))
            FDL_TRY(fdl_set_grad(p->owner[i], p->grad[i]));
    }
    return FDL_OK;
}

/* Records one step; nothing of it is computed. */
static fdl_status record(fdl_trainer *tr, trainer_plan *p, fdl_device device)
{
    FDL_SCOPE;
    p->graph = fdl_cuda_graph_new();
    if (!p->graph)
        return fdl_error_pending();
    if (!tr->pool.hi && !tr->pool.lo)
        tr->pool = fdl_cuda_pool_new();
    FDL_TRY(
        fdl_cuda_graph_begin(p->graph, .pool = tr->pool, .mode = FDL_CAPTURE_THREAD_LOCAL, .device = device));
    trainer_meter host = tr->meter;
    fdl_status status = trainer_run_eager(tr, (fdl_list){p->n, p->input}, whole);
    tr->meter = host; /* no loss was taken */
    if (status == FDL_OK)
        status = hold_grads(tr, p);
    if (status != FDL_OK) {
        fdl_cuda_graph_reset(p->graph);
        return status;
    }
    return fdl_cuda_graph_end(p->graph);
}

static fdl_status replay(fdl_trainer *tr, trainer_plan *p)
{
    FDL_TRY(own_grads(p));
    FDL_TRY(fdl_cuda_graph_replay(p->graph));
    trainer_meter_replayed(tr);
    return FDL_OK;
}

/* One eager step on the plan's inputs, and what came of it. *noted: whether that could be kept. */
static fdl_status eager_outcome(fdl_trainer *tr, trainer_plan *p, const state *s, outcome *o, bool *noted)
{
    FDL_TRY(trainer_run_eager(tr, (fdl_list){p->n, p->input}, whole));
    if (*noted)
        *noted = note_outcome(s, p, false, o) == FDL_OK;
    return FDL_OK;
}

/* The step both ways from one state; *good: they agree, else why. In the end one step was made, an eager one, which
 * alone can fail. */
static fdl_status check(fdl_trainer *tr, trainer_plan *p, fdl_device device, bool *good, char *why,
                        size_t size)
{
    FDL_SCOPE;
    *good = false;
    state s = {0};
    outcome captured, eager, again;
    trainer_meter host = tr->meter;
    bool noted = gather(tr, &s) == FDL_OK && (s.copy = copies(&s)) && (s.random = fdl_rng_state(device));
    if (noted) {
        noted = replay(tr, p) == FDL_OK && note_outcome(&s, p, true, &captured) == FDL_OK;
        tr->meter = host;
        snprintf(why, size, "the captured step failed: %s", fdl_last_error()->message);
        fdl_clear_error();
        FDL_TRY(put_back(&s, device));
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
    distance d = between(&s, p, &captured, &eager);
    if (!(*good = close_enough(d))) {
        /* Two eager steps may be as far apart, where kernels add in an order that varies. */
        FDL_TRY(put_back(&s, device));
        tr->meter = host;
        FDL_TRY(eager_outcome(tr, p, &s, &again, &kept));
        fdl_clear_error();
        distance own = kept ? between(&s, p, &eager, &again) : (distance){0, 0};
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

/* Captures the plan and makes the step. */
static fdl_status capture(fdl_trainer *tr, trainer_plan *p, fdl_list batch)
{
    char left[256];
    FDL_TRY(drop_grads(tr, left, sizeof left));
    if (left[0]) {
        FDL_TRY(give_up(
            tr, p,
            "parameter \"%s\" gathers gradients over the steps: the optimizer doesn't have it; freeze it or "
            "add it",
            left));
        return eager(tr, batch, whole);
    }
    fdl_device device = fdl_device_of(tr->probe);
    int64_t before = 0, after = 0;
    FDL_TRY(fdl_cuda_memory_reserved(device.index, &before));
    fdl_status status = make_inputs(p, batch, device);
    if (status == FDL_OK)
        status = record(tr, p, device);
    if (status != FDL_OK) {
        char why[REASON_SIZE];
        snprintf(why, sizeof why, "the capture failed: %s", fdl_last_error()->message);
        fdl_clear_error();
        FDL_TRY(fdl_optim_zero_grad(tr->opt));
        FDL_TRY(give_up(tr, p, "%s", why));
        return eager(tr, batch, whole);
    }
    bool good;
    char why[REASON_SIZE];
    FDL_TRY(check(tr, p, device, &good, why, sizeof why));
    if (!good)
        return give_up(tr, p, "%s", why);
    FDL_TRY(fdl_cuda_memory_reserved(device.index, &after));
    p->bytes = after - before;
    p->stage = REPLAY;
    fdl_msg_at(FDL_VERBOSE, "trainer: steps are captured as a CUDA graph");
    return FDL_OK;
}

/* ---- replaying ----------------------------------------------------------------------------------------- */

static fdl_status refill(trainer_plan *p, fdl_list batch)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_list to = {0, fdl_scope_alloc(sizeof *to.at * (size_t)(p->n + 1))},
             from = {0, fdl_scope_alloc(sizeof *from.at * (size_t)(p->n + 1))};
    if (!to.at || !from.at)
        return fdl_error_pending();
    for (int i = 0; i < p->n; i++) {
        if (!fdl_device_eq(p->batch[i].device, fdl_device_of(p->input[i]))) {
            FDL_TRY(fdl_copy_(p->input[i], batch.at[i], .non_blocking = true));
            continue;
        }
        to.at[to.n++] = p->input[i];
        from.at[from.n++] = batch.at[i];
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
    fdl_status status = watched_step(tr, batch, &w);
    char why[256];
    if (status == FDL_OK && w && !steady(p->watch, w, why, sizeof why)) {
        int64_t since = tr->steps + 1 - p->replays;
        fdl_msg_at(
            FDL_NORMAL,
            "trainer: a number of the host changes from step to step (%s); the steps from %lld on may have "
            "used an old value; give it to the loss function as an fdl_step_value",
            why, (long long)since);
        status = give_up(tr, p, "%s, %lld steps after it was captured", why, (long long)p->replays);
    }
    fdl_watch_free(w);
    return status;
}

fdl_status trainer_run(fdl_trainer *tr, fdl_list batch, trainer_part part)
{
    bool possible = tr->o.capture != FDL_CAPTURE_OFF && tr->o.accumulate == 1 && tr->probe &&
                    fdl_device_of(tr->probe).type == FDL_DEVICE_TYPE_CUDA && !fdl_cuda_is_capturing();
    for (int i = 0; possible && i < batch.n; i++)
        possible = batch.at[i] && fdl_ndim(batch.at[i]) >= 0;
    if (!possible)
        return eager(tr, batch, part);
    trainer_plan *p = plan_for(tr, batch);
    if (!p)
        return fdl_error_pending();
    switch (p->stage) {
    case WATCH:
        return p->watched < WATCHED_STEPS ? watch(tr, p, batch) : capture(tr, p, batch);
    case EAGER:
        return eager(tr, batch, whole);
    case REPLAY:
        break;
    }
    if (due(p->replays)) {
        FDL_TRY(check_again(tr, p, batch));
        p->replays++;
        return FDL_OK;
    }
    FDL_TRY(refill(p, batch));
    FDL_TRY(replay(tr, p));
    p->replays++;
    return FDL_OK;
}

/* ---- in words ------------------------------------------------------------------------------------------ */

/* "[64, 784] float32, [64] int64" */
static const char *shapes(const trainer_plan *p, char *text, size_t size)
{
    size_t used = 0;
    text[0] = 0;
#define SAY(...) (used += used < size ? (size_t)snprintf(text + used, size - used, __VA_ARGS__) : 0)
    for (int i = 0; i < p->n; i++) {
        SAY("%s[", i ? ", " : "");
        for (int d = 0; d < p->batch[i].shape.ndim; d++)
            SAY("%s%lld", d ? ", " : "", (long long)p->batch[i].shape.d[d]);
        SAY("] %s", fdl_dtype_name(p->batch[i].dtype));
    }
#undef SAY
    return text;
}

bool trainer_plans_say(const fdl_trainer *tr, FILE *file)
{
    bool good = true;
    for (const trainer_plan *p = tr->plans; p; p = p->next) {
        char text[512];
        shapes(p, text, sizeof text);
        int n = 0;
        if (p->stage == REPLAY)
            n = fprintf(
                file,
                "batch %s: captured, %lld operations as one CUDA graph; %lld steps replayed; the capture "
                "holds %.1f MiB\n",
                text, (long long)fdl_watch_count(p->watch), (long long)p->replays,
                (double)p->bytes / (1 << 20));
        else if (p->stage == WATCH)
            n = fprintf(file, "batch %s: eager, %d of %d steps watched before the capture\n", text,
                        p->watched, WATCHED_STEPS);
        else
            n = fprintf(file, "batch %s: eager, not captured: %s\n", text, p->reason);
        good = good && n > 0;
    }
    return good;
}
