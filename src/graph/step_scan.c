/* Scans: a cell over the slices of a sequence, with a state that goes from one to the next. */
#include "../nn/describe.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "graph_private.h"

typedef struct scan {
    fdl_flow_scan_opts o; /* its names are the description's */
    reset_list resets;
} scan;

static const char *state_name(const fdl_flow_scan_opts *o)
{
    return o->state ? o->state : "state";
}

/* ---- what the cell publishes --------------------------------------------------------------------------- */

typedef struct scan_emitter {
    fdl_emitter base;
    graph *g;
    int node;
    int64_t step;
    fdl_tensor *output; /* kept; NULL: none in this step */
} scan_emitter;

static fdl_status put(fdl_emitter *e, const char *name, fdl_tensor *t)
{
    scan_emitter *own = (scan_emitter *)e;
    if (strcmp(name, "output") != 0)
        return graph_publish(own->g, own->node, name, own->step, t);
    if (own->output)
        return fdl_fail(FDL_E_STATE, "%s publishes \"output\" twice in one step", own->g->node[own->node].id);
    own->output = fdl_keep(t);
    return own->output ? FDL_OK : fdl_error_pending();
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* One run of the scan. */
typedef struct sweep {
    const scan *s;
    graph *g;
    const plan_node *p;
    plan_node now; /* p with what the cell gets at a step */
    bool *initial; /* [refs] */
    int at;        /* where in now.in the state is */
} sweep;

/* A graph's further inputs lie in its order, those of other modules in that of the refs, of which the state is the first. */
static int place_of_state(const plan_node *p, fdl_module *cell, const char *name)
{
    const graph *inner = graph_or_null(cell);
    for (int i = 1; inner && i < inner->inputs; i++)
        if (strcmp(inner->input[i].name, name) == 0)
            return i;
    return p->inputs;
}

static bool begin(sweep *w)
{
    const plan_node *p = w->p;
    int n = p->inputs + p->refs;
    w->now = *p;
    w->now.in = fdl_scope_alloc(sizeof *w->now.in * (size_t)n);
    w->initial = fdl_scope_alloc(sizeof *w->initial * (size_t)p->refs);
    if (!w->now.in || !w->initial)
        return false;
    memcpy(w->now.in, p->in, sizeof *p->in * (size_t)n);
    if (p->initial)
        memcpy(w->initial, p->initial, sizeof *w->initial * (size_t)p->refs);
    w->now.initial = w->initial;
    w->at = place_of_state(p, p->module->children.at[0]->real, state_name(&w->s->o));
    return true;
}

/* Zeros beside a slice x [.., D]: of its shape, or [.., state_width]. */
static fdl_tensor *first_state(const fdl_flow_scan_opts *o, fdl_tensor *x)
{
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim > 0 && o->state_width)
        s.d[s.ndim - 1] = o->state_width;
    return fdl_zeros(s, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
}

/* The cell on a slice -> the next state; *y: the step's output, which may be that. */
static fdl_tensor *step(sweep *w, fdl_tensor *x, int64_t k, fdl_tensor **y)
{
    const fdl_flow_scan_opts *o = &w->s->o;
    fdl_module *cell = w->p->module->children.at[0]->real;
    scan_emitter e = {.base = {.put = put}, .g = w->g, .node = w->p->node, .step = k};
    w->now.in[0] = x;
    bool again = o->recompute && !w->initial[w->at - w->p->inputs];
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *next = !scope  ? NULL
                       : again ? graph_recompute(w->p, w->now.in, o->no_rng_state)
                               : graph_iterate(cell, &w->now, &e.base);
    if (next && cell->ops->step && !e.output)
        next = fdl_fail_null(FDL_E_STATE, "step of %s publishes no \"output\"", cell->ops->kind);
    *y = !next ? NULL : e.output ? next : o->width ? fdl_narrow(next, -1, 0, o->width) : next;
    next = *y ? next : NULL;
    fdl_escape(next);
    if (*y != next)
        fdl_escape(*y);
    fdl_scope_close(scope);
    if (e.output)
        *y = fdl_adopt(e.output);
    if (!next && w->g->prefix)
        fdl_error_prefix("scan step %lld: ", (long long)k);
    return next;
}

static fdl_tensor *sweep_over(sweep *w, fdl_list x, int dim)
{
    const fdl_flow_scan_opts *o = &w->s->o;
    fdl_list y = {x.n, fdl_scope_alloc(sizeof *y.at * (size_t)x.n)};
    if (!y.at || !begin(w))
        return NULL;
    fdl_tensor *state = o->init ? w->now.in[w->at] : NULL, *shown = NULL; /* the output of the step before */
    for (int k = 0; k < x.n; k++) {
        int t = o->reverse ? x.n - 1 - k : k;
        w->initial[w->at - w->p->inputs] = !state;
        w->now.in[w->at] = state ? state : first_state(o, x.at[t]);
        fdl_tensor *next = w->now.in[w->at] ? step(w, x.at[t], k, &y.at[t]) : NULL;
        if (!next)
            return NULL;
        if (state && state != next && (o->last || state != shown))
            fdl_drop(state);
        shown = y.at[t];
        state = next;
    }
    FDL_TRY_NULL(graph_publish_one(w->g, w->p->node, o->trace_state, state));
    return o->last ? y.at[o->reverse ? 0 : x.n - 1] : fdl_stack(y, dim);
}

static fdl_tensor *run_scan(graph *g, const plan_node *p)
{
    scan *s = p->self;
    fdl_tensor *x = p->in[0];
    int dims = fdl_ndim(x), dim = s->o.dim < 0 ? s->o.dim + dims : s->o.dim;
    char text[256];
    graph_clear_traces(g, p->node);
    if (!s->o.keep_state)
        FDL_TRY_NULL(reset_trees(&s->resets, 1, p->module->children.at));
    if (dim < 0 || dim >= dims || fdl_size(x, dim) < 1)
        return fdl_fail_null(FDL_E_SHAPE, "a scan over dim %d needs one step or more there, got %s", s->o.dim,
                             fdl_describe(x, text, sizeof text));
    fdl_list slices = fdl_unbind(x, dim);
    sweep w = {.s = s, .g = g, .p = p};
    return slices.at ? sweep_over(&w, slices, dim) : NULL;
}

static void note_scan(const graph_node *node, char *buf, size_t size)
{
    const scan *s = node->self;
    snprintf(buf, size, "dim %d%s", s->o.dim, s->o.reverse ? ", reverse" : "");
}

/* Zeros take the first state's place, which without .init has none. */
static bool is_idle(const graph_node *node, int port)
{
    return port == node->inputs && !((const scan *)node->module->self)->o.init;
}

static const node_type scan_node = {
    .hashed_kind = "module", .look = LOOK_LOOP, .note = note_scan, .idle = is_idle, .run = run_scan};

/* ---- building ------------------------------------------------------------------------------------------ */

static fdl_status add_scan(fdl_flow_builder *b, fdl_module *m)
{
    const scan *s = m->self;
    const char *name = state_name(&s->o), *fault = name_fault(name);
    fdl_module *cell = m->children.at[0]->real;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (fault)
        return flow_fail(b, FDL_E_ARG, ".state \"%s\" %s", name, fault);
    if (s->o.width < 0 || s->o.state_width < 0)
        return flow_fail(b, FDL_E_ARG, ".width and .state_width are numbers of columns, got %lld and %lld",
                         (long long)s->o.width, (long long)s->o.state_width);
    if (cell->ops->step && (s->o.width || s->o.recompute))
        return flow_fail(b, FDL_E_ARG, "%s publishes its output, which leaves nothing to .%s",
                         cell->ops->kind, s->o.width ? "width" : "recompute");
    if (s->o.recompute)
        FDL_TRY(flow_check_recompute(b, cell));
    int from = s->o.init ? flow_find(b, ".init", s->o.init) : x;
    int node = from < 0 ? -1 : flow_control(b, m, &scan_node, "scan", 0, "its cell ");
    if (node < 0)
        return fdl_error_pending();
    FDL_TRY(flow_publishes(b, node, ".trace_state", s->o.trace_state));
    char *own = arena_text(&b->g->memory, "%s", name);
    return own ? flow_ref(b, node, own, from,
                          "it is the state, which goes from step to step; .init gives the first one")
               : FDL_E_OOM;
}

static void free_scan(void *self)
{
    free(((scan *)self)->resets.at);
}

static const step_type scan_type = {.ops = {.kind = "fdl_flow_scan", .size = sizeof(scan), .free = free_scan},
                                    .refusal = STEP_REFUSAL("fdl_flow_scan"),
                                    .add = add_scan};

typedef struct scan_args {
    fdl_module *cell;
    fdl_flow_scan_opts o;
} scan_args;

static fdl_module *make_flow_scan(const void *args)
{
    const scan_args *a = args;
    return fdl_flow_scan_opt(a->cell, &a->o);
}

KIND(flow_scan, .name = "flow_scan",
     ARGS(scan_args, FDL_ARG(scan_args, cell, MODULE), FDL_OPT(scan_args, dim, INT),
          FDL_OPT(scan_args, reverse, BOOL), FDL_OPT(scan_args, last, BOOL), FDL_OPT(scan_args, width, INT64),
          FDL_OPT(scan_args, state, TEXT), FDL_OPT(scan_args, init, TEXT),
          FDL_OPT(scan_args, state_width, INT64), FDL_OPT(scan_args, trace_state, TEXT),
          FDL_OPT(scan_args, keep_state, BOOL), FDL_OPT(scan_args, recompute, BOOL),
          FDL_OPT(scan_args, no_rng_state, BOOL)));

fdl_module *fdl_flow_scan_opt(fdl_module *cell, const fdl_flow_scan_opts *opts)
{
    fdl_module *m = step_new(&scan_type);
    step_child(m, "cell", cell);
    m = DESCRIBED(m, flow_scan, (scan_args){.o = opts ? *opts : (fdl_flow_scan_opts){0}});
    if (m)
        ((scan *)m->self)->o = ((const scan_args *)m->args)->o;
    return m;
}
