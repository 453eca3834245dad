/* Counted loops. */
#include "../nn/describe.h"
#include "graph_private.h"

typedef struct loop {
    int64_t n;
    bool keep_state;
    int resets, reset_room;
    fdl_module **reset; /* modules of the body's tree that have something to reset */
} loop;

/* Iterations feed each other, each in a scope of its own, so that without autograd their number doesn't
 * matter for the peak of memory. */
static fdl_tensor *run_loop(graph *g, const plan_node *p)
{
    const loop *s = p->self;
    fdl_module *body = p->module->children.at[0]->real;
    fdl_tensor *x = p->in[0], *state = x;
    for (int i = 0; i < s->resets; i++)
        s->reset[i]->ops->reset(s->reset[i]->self);
    for (int64_t i = 0; state && i < s->n; i++) {
        p->in[0] = state;
        fdl_scope *scope = fdl_scope_open();
        fdl_tensor *next = scope ? fdl_escape(graph_call(body, p)) : NULL;
        fdl_scope_close(scope);
        if (FDL_UNLIKELY(!next) && g->prefix)
            fdl_error_prefix("loop iteration %lld: ", (long long)i);
        if (next != state)
            fdl_drop(state);
        state = next;
    }
    p->in[0] = x;
    return state;
}

static void note_loop(const graph_node *node, char *buf, size_t size)
{
    snprintf(buf, size, "\u00d7%lld", (long long)((const loop *)node->self)->n);
}

static const node_type loop_node = {
    .hashed_kind = "module", .look = LOOK_LOOP, .note = note_loop, .run = run_loop};

static fdl_status note_reset(fdl_module *m, void *ctx)
{
    loop *s = ctx;
    const graph *inner = graph_or_null(m);
    if (!m->ops->reset || (inner && !inner->states))
        return FDL_OK;
    fdl_module **more = grown(s->reset, s->resets, &s->reset_room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    s->reset = more;
    s->reset[s->resets++] = m;
    return FDL_OK;
}

static fdl_status add_loop(fdl_flow_builder *b, fdl_module *step)
{
    loop *s = step->self;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (s->n < 1)
        return flow_fail(b, FDL_E_ARG, "needs .n, the number of runs, of 1 or more; got %lld",
                         (long long)s->n);
    flow_begin_step(b);
    int node = flow_node(b, &loop_node, "loop", 1);
    if (node < 0)
        return FDL_E_OOM;
    graph_node *made = &b->g->node[node];
    made->module = step;
    made->self = s;
    made->taker = step->children.at[0]->real;
    made->role = "its body ";
    FDL_TRY(flow_edge(b, x, node, 0));
    if (!s->keep_state)
        FDL_TRY(fdl_module_walk(made->taker, note_reset, s));
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static void free_loop(void *self)
{
    free(((loop *)self)->reset);
}

static const step_type loop_type = {.ops = {.kind = "fdl_flow_loop", .size = sizeof(loop), .free = free_loop},
                                    .refusal = STEP_REFUSAL("fdl_flow_loop"),
                                    .add = add_loop};

typedef struct loop_args {
    fdl_module *body;
    fdl_flow_loop_opts o;
} loop_args;

static fdl_module *make_flow_loop(const void *args)
{
    const loop_args *a = args;
    return fdl_flow_loop_opt(a->body, &a->o);
}

KIND(flow_loop, .name = "flow_loop",
     ARGS(loop_args, FDL_ARG(loop_args, body, MODULE), FDL_OPT(loop_args, n, INT64),
          FDL_OPT(loop_args, keep_state, BOOL)));

fdl_module *fdl_flow_loop_opt(fdl_module *body, const fdl_flow_loop_opts *opts)
{
    fdl_module *step = step_new(&loop_type);
    if (step && opts) {
        loop *s = step->self;
        s->n = opts->n;
        s->keep_state = opts->keep_state;
    }
    step_child(step, "body", body);
    return DESCRIBED(step, flow_loop, (loop_args){body, opts ? *opts : (fdl_flow_loop_opts){0}});
}
