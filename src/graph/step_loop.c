/* Loops: counted, and with a condition. */
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "loop.h"

/* ---- the condition ------------------------------------------------------------------------------------- */

/* One element that is above 0 when the loop halts. */
static fdl_tensor *vote(fdl_halt_vote how, fdl_tensor *c)
{
    if (fdl_numel(c) == 1)
        return c;
    switch (how) {
    case FDL_HALT_ALL:
        return fdl_all(fdl_gt_scalar(c, 0));
    case FDL_HALT_ANY:
        return fdl_any(fdl_gt_scalar(c, 0));
    case FDL_HALT_MEAN:
        return fdl_mean(c);
    case FDL_HALT_FIRST:
        break;
    }
    return fdl_select(fdl_reshape(c, FDL_SHAPE(-1)), 0, 0);
}

/* 1: halt, 0: go on, -1: it failed. */
static int decide(const graph *g, fdl_halt_vote how, fdl_tensor *c)
{
    if (fdl_numel(c) < 1) {
        char text[256];
        fdl_fail(FDL_E_SHAPE, "the condition gives %s, without an element",
                 fdl_describe(c, text, sizeof text));
        return -1;
    }
    FDL_NO_GRAD;
    fdl_tensor *verdict = vote(how, c);
    if (!verdict)
        return -1;
    double v = fdl_item(verdict);
    if (v != v && g->prefix && fdl_error_pending() != FDL_OK) /* NaN alone is an answer */
        return -1;
    return v > 0;
}

static int halts(graph *g, const plan_node *p, const loop *s, int64_t i, fdl_tensor *state)
{
    fdl_scope *scope = fdl_scope_open();
    if (!scope)
        return -1;
    fdl_mode_guard mode = {0};
    if (!s->o.trace_cond)
        mode = fdl_no_grad_open();
    fdl_tensor *c = module_run(p->module->children.at[CONDITION]->real, 1, &state);
    if (!s->o.trace_cond)
        fdl_mode_close(mode);
    int halt = -1;
    if (c && (!s->o.trace_cond || graph_publish(g, p->node, s->o.trace_cond, i, c) == FDL_OK))
        halt = decide(g, s->o.vote, c);
    if (halt < 0 && g->prefix)
        fdl_error_prefix("loop condition at iteration %lld: ", (long long)i);
    fdl_scope_close(scope);
    return halt;
}

/* ---- iterations ---------------------------------------------------------------------------------------- */

typedef struct loop_emitter {
    fdl_emitter base;
    graph *g;
    int node;
    int64_t iteration;
} loop_emitter;

static fdl_status put(fdl_emitter *e, const char *name, fdl_tensor *t)
{
    loop_emitter *own = (loop_emitter *)e;
    return graph_publish(own->g, own->node, name, own->iteration, t);
}

static fdl_tensor *run_body(graph *g, const plan_node *p, int64_t i)
{
    fdl_module *body = p->module->children.at[BODY]->real;
    loop_emitter e = {.base = {.put = put}, .g = g, .node = p->node, .iteration = i};
    fdl_tensor *y = graph_iterate(body, p, &e.base);
    if (!y || !body->ops->trace || body->ops->step)
        return y;
    fdl_tensor *side = body->ops->trace(body->self);
    if (!side)
        return g->prefix && fdl_error_pending() != FDL_OK ? NULL : y;
    return graph_publish(g, p->node, NULL, i, side) == FDL_OK ? y : NULL;
}

fdl_tensor *loop_run_body(graph *g, const plan_node *p, loop *s, int64_t i, fdl_tensor *state)
{
    p->in[0] = state;
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *next = !scope           ? NULL
                       : s->o.recompute ? graph_recompute(p, p->in, s->o.no_rng_state)
                                        : run_body(g, p, i);
    fdl_escape(next);
    fdl_scope_close(scope);
    if (FDL_UNLIKELY(!next) && g->prefix)
        fdl_error_prefix("loop iteration %lld: ", (long long)i);
    s->iterations += next != NULL;
    return next;
}

/* Iterations feed each other, each in a scope of its own, so that without autograd their number doesn't matter for the peak
 * of memory. */
static fdl_tensor *iterate(graph *g, const plan_node *p, loop *s, int64_t i, fdl_tensor *state)
{
    fdl_tensor *next = loop_run_body(g, p, s, i, state);
    if (next != state)
        fdl_drop(state);
    return next;
}

static fdl_tensor *run_loop(graph *g, const plan_node *p)
{
    loop *s = p->self;
    fdl_module *const *trees = p->module->children.at;
    fdl_tensor *x = p->in[0], *state = x;
    s->iterations = 0;
    graph_clear_traces(g, p->node);
    if (!s->o.keep_state)
        FDL_TRY_NULL(reset_trees(&s->resets, p->module->children.n, trees));
    if (s->weighs)
        state = run_weighed(g, p, s, x);
    for (int64_t i = 0; !s->weighs && state && i < s->most; i++) {
        int halt = s->asks_before ? halts(g, p, s, i, state) : 0;
        if (halt == 0)
            state = iterate(g, p, s, i, state);
        if (halt == 0 && state && s->asks_after && i + 1 < s->most)
            halt = halts(g, p, s, i, state);
        if (halt < 0)
            state = NULL;
        if (halt > 0)
            break;
    }
    p->in[0] = x;
    return state;
}

/* The body has said each of its runs. */
static const char *onnx_loop(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)p;
    return onnx_name_of(o, y);
}

static const char *onnx_refusal(const plan_node *p)
{
    const loop *s = p->self;
    return s->asks_before || s->asks_after ? "a loop with a condition isn't told in ONNX; one of .n runs is"
                                           : NULL;
}

static void note_loop(const graph_node *node, char *buf, size_t size)
{
    const loop *s = node->self;
    snprintf(buf, size, "%s%lld", s->asks_before || s->asks_after ? "\u2264" : "\u00d7", (long long)s->most);
}

const node_type loop_node = {.onnx = onnx_loop,
                             .onnx_refusal = onnx_refusal,
                             .hashed_kind = "module",
                             .look = LOOK_LOOP,
                             .note = note_loop,
                             .run = run_loop};

int64_t fdl_graph_loop_iterations(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (!g)
        return -1;
    if (!tag) {
        fdl_null_operand(__func__, "tag");
        return -1;
    }
    for (int i = 0; i < g->tags; i++) {
        const graph_node *node = &g->node[g->tag[i].node];
        if (node->type == &loop_node && strcmp(g->tag[i].name, tag) == 0)
            return ((const loop *)node->self)->iterations;
    }
    fdl_fail(FDL_E_ARG, "%s: no loop of this graph has the tag \"%s\"", __func__, tag);
    return -1;
}

/* ---- building ------------------------------------------------------------------------------------------ */

static fdl_status check_options(fdl_flow_builder *b, const loop *s)
{
    const fdl_flow_loop_opts *o = &s->o;
    bool asks = s->asks_before || s->asks_after || s->weighs;
    if (s->asks_before + s->asks_after + s->weighs > 1)
        return flow_fail(b, FDL_E_ARG,
                         "has both %s and %s; it takes exactly one of .n, .while_cond, .until_cond and .act",
                         s->asks_before ? ".while_cond" : ".until_cond",
                         s->asks_before && s->asks_after ? ".until_cond" : ".act");
    if (asks && o->n)
        return flow_fail(b, FDL_E_ARG, "has both .n = %lld and a condition, whose limit is .max",
                         (long long)o->n);
    if (!asks && o->n < 1)
        return flow_fail(b, FDL_E_ARG,
                         "needs .n, the number of runs, of 1 or more (got %lld), or a condition",
                         (long long)o->n);
    if (!s->weighs && (o->trace_ponder || o->epsilon > 0))
        return flow_fail(b, FDL_E_ARG, "has %s, which belongs to .act",
                         o->trace_ponder ? ".trace_ponder" : ".epsilon");
    if (s->weighs && o->vote)
        return flow_fail(b, FDL_E_ARG, "has .act and .vote, but with .act each row halts by itself");
    if (!(fdl_opt_double(o->epsilon, 0.01) >= 0 && o->epsilon < 1))
        return flow_fail(b, FDL_E_ARG, ".epsilon is %g, must be 0 or more and below 1", o->epsilon);
    if (!asks && (o->max || o->vote || o->trace_cond))
        return flow_fail(b, FDL_E_ARG, "has .n and %s, which belongs to a condition",
                         o->max    ? ".max"
                         : o->vote ? ".vote"
                                   : ".trace_cond");
    if (asks && o->max < 1)
        return flow_fail(b, FDL_E_ARG, "needs .max, the largest number of runs, of 1 or more; got %lld",
                         (long long)o->max);
    if (o->vote < FDL_HALT_ALL || o->vote > FDL_HALT_FIRST)
        return flow_fail(b, FDL_E_ARG, "%d is no .vote; FDL_HALT_ALL, ANY, MEAN and FIRST are", (int)o->vote);
    return FDL_OK;
}

static fdl_status check_body(fdl_flow_builder *b, const loop *s, fdl_module *body)
{
    if (!s->o.recompute)
        return FDL_OK;
    if (body->ops->step || body->ops->trace)
        return flow_fail(b, FDL_E_ARG,
                         "%s publishes values with their history, which .recompute doesn't keep",
                         fdl_module_kind(body));
    return flow_check_recompute(b, body);
}

static fdl_status add_loop(fdl_flow_builder *b, fdl_module *step)
{
    loop *s = step->self;
    FDL_TRY(check_options(b, s));
    FDL_TRY(check_body(b, s, step->children.at[BODY]->real));
    if (step->children.n > CONDITION)
        FDL_TRY(flow_takes_one(b, step, CONDITION, "its condition"));
    int node = flow_control(b, step, &loop_node, "loop", BODY, "its body ");
    if (node < 0)
        return fdl_error_pending();
    FDL_TRY(flow_publishes(b, node, ".trace_ponder", s->o.trace_ponder));
    return flow_publishes(b, node, ".trace_cond", s->o.trace_cond);
}

static void free_loop(void *self)
{
    loop *s = self;
    free(s->resets.at);
}

static const step_type loop_type = {.ops = {.kind = "fdl_flow_loop", .size = sizeof(loop), .free = free_loop},
                                    .refusal = STEP_REFUSAL("fdl_flow_loop"),
                                    .add = add_loop};

typedef struct loop_args {
    fdl_module *body, *cond;
    bool until, act;
    fdl_flow_loop_opts o;
} loop_args;

static fdl_module *make_flow_loop(const void *args)
{
    const loop_args *a = args;
    fdl_flow_loop_opts o = a->o;
    *(a->act ? &o.act : a->until ? &o.until_cond : &o.while_cond) = a->cond;
    return fdl_flow_loop_opt(a->body, &o);
}

static const char *const votes[] = {"all", "any", "mean", "first", NULL};

KIND(flow_loop, .name = "flow_loop",
     ARGS(loop_args, FDL_ARG(loop_args, body, MODULE),
          {.name = "cond", .type = FDL_FIELD_MODULE, .offset = offsetof(loop_args, cond)},
          {.name = "until", .type = FDL_FIELD_BOOL, .offset = offsetof(loop_args, until)},
          {.name = "act", .type = FDL_FIELD_BOOL, .offset = offsetof(loop_args, act)},
          FDL_OPT(loop_args, epsilon, OPT_DOUBLE), FDL_OPT(loop_args, trace_ponder, TEXT),
          FDL_OPT(loop_args, n, INT64), FDL_OPT(loop_args, max, INT64),
          {.name = "vote", .type = FDL_FIELD_ENUM, .offset = offsetof(loop_args, o.vote), .names = votes},
          FDL_OPT(loop_args, recompute, BOOL), FDL_OPT(loop_args, no_rng_state, BOOL),
          FDL_OPT(loop_args, trace_cond, TEXT), FDL_OPT(loop_args, keep_state, BOOL)));

fdl_module *fdl_flow_loop_opt(fdl_module *body, const fdl_flow_loop_opts *opts)
{
    const fdl_flow_loop_opts o = opts ? *opts : (fdl_flow_loop_opts){0};
    /* A condition whose constructor failed looks like one that was left out, but for the error. */
    bool lost = o.opts_ == 1 && !o.while_cond && !o.until_cond && !o.act && fdl_error_pending() != FDL_OK;
    fdl_module *step = step_new(&loop_type);
    step_child(step, "body", body);
    if (o.while_cond || lost)
        step_child(step, "cond", o.while_cond);
    if (o.until_cond)
        step_child(step, o.while_cond ? "until" : "cond", o.until_cond);
    if (o.act)
        step_child(step, o.while_cond || o.until_cond ? "act" : "cond", o.act);
    step = DESCRIBED(step, flow_loop, (loop_args){.until = o.until_cond, .act = o.act, .o = o});
    loop *s = step ? step->self : NULL;
    if (s) {
        s->o = ((const loop_args *)step->args)->o;
        s->asks_before = o.while_cond;
        s->asks_after = o.until_cond;
        s->weighs = o.act;
        s->most = o.while_cond || o.until_cond || o.act ? o.max : o.n;
    }
    return step;
}
