/* Running a model on tensors without values. For that time its parameters and buffers are such tensors too: each handle has
 * its own tensor exchanged, and gets it back. */
#include "dry.h"
#include "flodl/random.h"
#include "flodl/kind.h"

#include <inttypes.h>

/* ---- what was seen ------------------------------------------------------------------------------------- */

static seen *place_of(const dry_run *run, const void *key)
{
    size_t k = ((uintptr_t)key >> 4) * 0x9e3779b97f4a7c15u >> 20 & (size_t)(run->room - 1);
    while (run->at[k].key && run->at[k].key != key)
        k = (k + 1) & (size_t)(run->room - 1);
    return &run->at[k];
}

static seen *note(dry_run *run, const void *key)
{
    if (2 * (run->n + 1) > run->room) {
        dry_run more = {.room = run->room ? 2 * run->room : 64};
        more.at = calloc((size_t)more.room, sizeof *more.at);
        if (!more.at) {
            run->failed = true;
            return NULL;
        }
        for (int i = 0; i < run->room; i++)
            if (run->at[i].key)
                *place_of(&more, run->at[i].key) = run->at[i];
        free(run->at);
        run->at = more.at;
        run->room = more.room;
    }
    seen *it = place_of(run, key);
    run->n += !it->key;
    it->key = key;
    return it;
}

const seen *dry_find(const dry_run *run, const void *key)
{
    const seen *it = run->room ? place_of(run, key) : NULL;
    return it && it->key ? it : NULL;
}

void dry_free(dry_run *run)
{
    for (int i = 0; i < run->results; i++)
        fdl_free(run->result[i]);
    free(run->result);
    free(run->at);
    run->result = NULL;
    run->at = NULL;
    run->results = run->result_room = run->n = run->room = 0;
}

/* ---- looking on ---------------------------------------------------------------------------------------- */

static _Thread_local dry_run *current;

static bool is_one_of(fdl_tensor *y, int n, fdl_tensor *const *inputs)
{
    for (int i = 0; i < n; i++)
        if (fdl_is(y, inputs[i]))
            return true;
    return false;
}

static void keep_result(dry_run *run, fdl_tensor *y)
{
    fdl_tensor **more = grown(run->result, run->results, &run->result_room, sizeof *more);
    fdl_tensor *kept = more ? fdl_keep(y) : NULL;
    if (more)
        run->result = more;
    if (kept)
        run->result[run->results++] = kept;
    run->failed |= !kept;
}

static void note_result(seen *it, int n, fdl_tensor *const *inputs, fdl_tensor *y)
{
    keep_result(current, y);
    it->calls++;
    it->y = fdl_shape_of(y);
    it->dtype = fdl_dtype_of(y);
    if (!is_one_of(y, n, inputs))
        it->bytes += (double)fdl_numel(y) * fdl_dtype_size(it->dtype);
}

static void before(fdl_module *m)
{
    if (current->listener && current->listener->before)
        current->listener->before(current->ctx, m);
}

static void after(fdl_module *m, int n, fdl_tensor *const *inputs, const char *const *names, fdl_tensor *y)
{
    seen *it = note(current, m);
    if (current->listener && current->listener->after)
        current->listener->after(current->ctx, m, n, inputs, names, y);
    if (!it)
        return;
    note_result(it, n, inputs, y);
    if (!m->kind || !m->kind->work)
        return;
    fdl_shape shapes[8] = {{{0}, 0}};
    for (int i = 0; i < n && i < 8; i++)
        shapes[i] = fdl_shape_of(inputs[i]);
    it->work += m->kind->work(&(fdl_call){.module = m,
                                          .args = m->args,
                                          .x = shapes[0],
                                          .y = it->y,
                                          .inputs = n < 8 ? n : 8,
                                          .input = shapes,
                                          .names = names});
}

static const module_watch watch = {.before = before, .after = after};

static void before_node(graph_watcher *w, graph *g, int place)
{
    (void)w;
    if (current->listener && current->listener->before_node)
        current->listener->before_node(current->ctx, g, place);
}

static fdl_tensor *after_node(graph_watcher *w, graph *g, int place, fdl_tensor *y)
{
    (void)w;
    const plan_node *p = &g->plan[place];
    seen *it = note(current, p);
    if (it)
        note_result(it, p->inputs + p->refs, p->in, y);
    if (current->listener && current->listener->after_node)
        current->listener->after_node(current->ctx, g, place, y);
    return y;
}

/* ---- exchanging tensors -------------------------------------------------------------------------------- */

typedef struct exchange {
    int n, room;
    struct exchanged {
        fdl_tensor *object, *kept;
    } * at;
    int rests, rest_room; /* places of values that a run leaves: state, what stands under tags */
    struct left {
        fdl_tensor **place, *value;
    } * rest;
    int watchers, watcher_room;
    struct watching {
        graph_watcher watcher;
        graph *g;
        int traces, trace_room; /* its own, meanwhile */
        trace_list *trace;
    } * *watch;
} exchange;

static fdl_status exchange_tensor(exchange *x, fdl_tensor *t)
{
    struct exchanged *more = grown(x->at, x->n, &x->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    x->at = more;
    fdl_tensor *kept = fdl_keep(t);
    fdl_tensor *empty =
        kept ? fdl_empty(fdl_shape_of(t), .dtype = fdl_dtype_of(t), .device = FDL_META_DEVICE) : NULL;
    if (!empty || fdl_object_set(t, empty) != FDL_OK) {
        fdl_free(kept);
        return fdl_error_pending();
    }
    x->at[x->n++] = (struct exchanged){t, kept};
    return FDL_OK;
}

static fdl_status watch_graph(exchange *x, graph *g)
{
    struct watching **more = grown(x->watch, x->watchers, &x->watcher_room, sizeof *more);
    struct watching *w = calloc(1, sizeof *w);
    if (more)
        x->watch = more;
    if (!more || !w) {
        free(w);
        return fdl_fail(FDL_E_OOM, "no memory to look at a graph");
    }
    *w = (struct watching){.watcher = {.before = before_node, .after = after_node},
                           .g = g,
                           .traces = g->traces,
                           .trace_room = g->trace_room,
                           .trace = g->trace};
    g->traces = g->trace_room = 0;
    g->trace = NULL;
    x->watch[x->watchers++] = w;
    graph_watch(g, &w->watcher);
    return FDL_OK;
}

/* The place holds `value` for the run (NULL: nothing), and afterwards what it has held. */
static fdl_status set_aside(exchange *x, fdl_tensor **place, fdl_tensor *value)
{
    struct left *more = grown(x->rest, x->rests, &x->rest_room, sizeof *more);
    if (!more) {
        fdl_free(value);
        return FDL_E_OOM;
    }
    x->rest = more;
    x->rest[x->rests++] = (struct left){place, *place};
    *place = value;
    return FDL_OK;
}

static fdl_tensor *empty_like(fdl_tensor *t)
{
    return fdl_keep(fdl_empty(fdl_shape_of(t), .dtype = fdl_dtype_of(t), .device = FDL_META_DEVICE));
}

static fdl_status set_rest_aside(exchange *x, fdl_module *m)
{
    module_rest rest = m->table->rest(m);
    for (int i = 0; i < rest.slots; i++) {
        module_slot *s = &rest.slot[i];
        fdl_tensor *initial = s->initial ? empty_like(s->initial) : NULL;
        if (s->initial && !initial)
            return fdl_error_pending();
        FDL_TRY(set_aside(x, &s->initial, initial));
        FDL_TRY(set_aside(x, &s->value, NULL));
    }
    for (int i = 0; i < rest.values; i++)
        FDL_TRY(set_aside(x, &rest.value[i], NULL));
    return FDL_OK;
}

/* What is computed anyway has its value, for who asks for the original. m comes before what computes it. */
static fdl_status exchange_computed(exchange *x, fdl_module *m)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (const module_computed *c = m->computed; c; c = c->next) {
        fdl_tensor *value = module_computed_value(m, c);
        if (!value || fdl_object_set(c->p->t, value) != FDL_OK)
            return fdl_error_pending();
        FDL_TRY(exchange_tensor(x, c->p->t));
    }
    return FDL_OK;
}

static fdl_status prepare(fdl_module *m, void *ctx)
{
    exchange *x = ctx;
    graph *g = graph_or_null(m);
    if (!m->aside)
        m->watch = &watch;
    if (g && !m->aside)
        FDL_TRY(watch_graph(x, g));
    FDL_TRY(exchange_computed(x, m));
    if (m->table && m->table->rest)
        FDL_TRY(set_rest_aside(x, m));
    for (int i = 0; i < m->params.n; i++)
        FDL_TRY(exchange_tensor(x, m->params.at[i]->t));
    for (int i = 0; i < m->buffers.n; i++)
        FDL_TRY(exchange_tensor(x, m->buffers.at[i]->t));
    return FDL_OK;
}

static fdl_status undo_module(fdl_module *m, void *ctx)
{
    (void)ctx;
    m->watch = NULL;
    module_leave(m);
    return FDL_OK;
}

static void undo(exchange *x, fdl_module *m)
{
    for (int i = 0; i < x->n; i++) {
        fdl_object_set(x->at[i].object, x->at[i].kept);
        fdl_free(x->at[i].kept);
    }
    for (int i = 0; i < x->watchers; i++) {
        struct watching *w = x->watch[i];
        graph_unwatch(w->g, &w->watcher);
        graph_free_traces(w->g);
        w->g->traces = w->traces;
        w->g->trace_room = w->trace_room;
        w->g->trace = w->trace;
        free(w);
    }
    for (int i = 0; i < x->rests; i++) {
        fdl_free(*x->rest[i].place);
        *x->rest[i].place = x->rest[i].value;
    }
    free(x->rest);
    free(x->at);
    free(x->watch);
    fdl_module_walk(m, undo_module, NULL);
}

fdl_tensor *dry_original(const dry_run *run, fdl_tensor *object)
{
    for (int i = 0; run->exchange && i < run->exchange->n; i++)
        if (run->exchange->at[i].object == object)
            return run->exchange->at[i].kept;
    return object;
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

static fdl_dtype dtype_of_params(fdl_module *m)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_dtype dtype = fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, i)));
        if (fdl_dtype_is_floating(dtype))
            return dtype;
    }
    return FDL_DTYPE_DEFAULT;
}

const fdl_input *dry_inputs(const char *function, fdl_module *m, fdl_shape x, fdl_dtype dtype,
                            const fdl_inputs *further, int *n, bool *batch)
{
    if (further->n < 0 || (further->n && !further->at))
        return fdl_null_operand(function, "more"), NULL;
    *n = 1 + further->n;
    fdl_input *inputs = fdl_scope_alloc(sizeof *inputs * (size_t)*n);
    if (!inputs)
        return NULL;
    fdl_dtype usual = dtype_of_params(m);
    for (int i = 0; i < *n; i++) {
        inputs[i] = i ? further->at[i - 1] : (fdl_input){x, dtype};
        fdl_shape *shape = &inputs[i].shape;
        if (!inputs[i].dtype)
            inputs[i].dtype = usual;
        for (int k = 0; k < shape->ndim && k < FDL_MAX_DIMS; k++) {
            *batch |= shape->d[k] == -1;
            if (shape->d[k] < -1)
                return fdl_fail_null(FDL_E_ARG,
                                     "%s: an extent of input %d is %" PRId64
                                     "; -1 is the batch, others are 0 or more",
                                     function, i, shape->d[k]);
        }
    }
    return inputs;
}

/* ---- the run ------------------------------------------------------------------------------------------- */

static fdl_tensor *input_of(const fdl_input *in, int64_t batch)
{
    fdl_shape shape = in->shape;
    for (int i = 0; i < shape.ndim; i++)
        if (shape.d[i] == -1)
            shape.d[i] = batch;
    return fdl_empty(shape, .dtype = in->dtype, .device = FDL_META_DEVICE);
}

static fdl_status run_inputs(fdl_module *m, int n, const fdl_input *inputs, int64_t batch, dry_run *run)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor **x = fdl_scope_alloc(sizeof *x * (size_t)n);
    for (int i = 0; x && i < n; i++)
        if (!(x[i] = input_of(&inputs[i], batch)))
            return fdl_error_pending();
    const dry_listener *listener = run->listener;
    if (x && listener && listener->inputs)
        listener->inputs(run->ctx, n, x);
    fdl_tensor *y = x ? fdl_forward_of(m, n, x) : NULL;
    if (!y)
        return fdl_error_pending();
    if (listener && listener->output)
        listener->output(run->ctx, y);
    run->output = fdl_shape_of(y);
    run->dtype = fdl_dtype_of(y);
    return run->failed ? fdl_fail(FDL_E_OOM, "no memory to look at a model") : FDL_OK;
}

fdl_status dry_forward(fdl_module *m, int n, const fdl_input *inputs, int64_t batch, dry_run *run)
{
    FDL_SCOPE;
    fdl_device usual = fdl_default_device();
    fdl_tensor *random = fdl_rng_state(FDL_CPU); /* modules that draw numbers don't use any up */
    if (!random)
        return fdl_error_pending();
    exchange x = {0};
    dry_run *outer = current;
    current = run;
    run->exchange = &x;
    fdl_status status = fdl_module_walk(m, prepare, &x);
    if (status == FDL_OK)
        status = fdl_set_default_device(FDL_META_DEVICE);
    if (status == FDL_OK)
        status = run_inputs(m, n, inputs, batch, run);
    fdl_set_default_device(usual);
    undo(&x, m);
    fdl_set_rng_state(FDL_CPU, random);
    current = outer;
    run->exchange = NULL;
    return status;
}
