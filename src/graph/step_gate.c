/* Gates: all experts run, and a router says how much of each counts. */
#include "flodl/arithmetic.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "../nn/describe.h"
#include "graph_private.h"

/* All experts' results have the shape of the first. */
static bool check_experts(int n, fdl_tensor *const *y, fdl_shape *shape)
{
    *shape = fdl_shape_of(y[0]);
    for (int i = 1; i < n; i++)
        if (!fdl_shape_eq(fdl_shape_of(y[i]), *shape)) {
            char a[256], b[256];
            fdl_fail(FDL_E_SHAPE, "the experts' results differ: expert 0 gives %s, expert %d %s",
                     fdl_describe(y[0], a, sizeof a), i, fdl_describe(y[i], b, sizeof b));
            return false;
        }
    return true;
}

/* The dims of w before its last one are those of the results from the left, or 1. */
static bool check_weights(fdl_tensor *w, int n, fdl_shape result)
{
    fdl_shape s = fdl_shape_of(w);
    bool fits = s.ndim >= 1 && s.ndim <= result.ndim && s.d[s.ndim - 1] == n;
    for (int i = 0; fits && i < s.ndim - 1; i++)
        fits = s.d[i] == 1 || s.d[i] == result.d[i];
    if (!fits) {
        char text[256], wanted[256];
        size_t used = 0;
        for (int i = 0; i < result.ndim && used < sizeof wanted; i++)
            used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s%lld", i ? ", " : "",
                                     (long long)result.d[i]);
        fdl_fail(FDL_E_SHAPE,
                 "the router gives %s for %d experts with results of [%.*s]: its last extent must be %d, the "
                 "ones before it must be the results' from the left, or 1",
                 fdl_describe(w, text, sizeof text), n,
                 (int)(used < sizeof wanted ? used : sizeof wanted - 1), wanted, n);
    }
    return fits;
}

/* sum_i w[.., i] y[i], in two or three kernels whatever n is: each place of the leading dims is a product of
 * its n weights and the n rows behind it. */
static fdl_tensor *combine(int n, fdl_tensor **y, fdl_tensor *w)
{
    fdl_shape shape;
    if (!check_experts(n, y, &shape) || !check_weights(w, n, shape))
        return NULL;
    int leading = fdl_ndim(w) - 1;
    fdl_tensor *all = fdl_stack((fdl_list){n, y}, 0);
    for (int i = 0; i < n; i++)
        fdl_drop(y[i]);
    if (fdl_dtype_of(w) != fdl_dtype_of(all)) { /* a product of matrices promotes nothing */
        fdl_shape given = fdl_shape_of(w), aligned = {.ndim = shape.ndim + 1, .d = {n}};
        for (int i = 0; i < shape.ndim; i++)
            aligned.d[i + 1] = i < leading ? given.d[i] : 1;
        return fdl_sum_dim(fdl_mul(all, fdl_reshape(fdl_movedim(w, -1, 0), aligned)), 0);
    }
    fdl_shape full = {.ndim = leading + 1};
    int64_t places = 1;
    for (int i = 0; i < leading; i++)
        places *= full.d[i] = shape.d[i];
    full.d[leading] = n;
    int64_t row = 1;
    for (int i = leading; i < shape.ndim; i++)
        row *= shape.d[i];
    fdl_tensor *rows = fdl_transpose(fdl_reshape(all, FDL_SHAPE(n, places, row)), 0, 1);
    fdl_tensor *weights = fdl_reshape(fdl_expand(w, full), FDL_SHAPE(places, 1, n));
    return fdl_reshape(fdl_bmm(weights, rows), shape);
}

typedef struct gate {
    int n;
    fdl_tensor **y; /* room for the experts' results while the gate runs */
} gate;

static fdl_tensor *run_gate(graph *g, const plan_node *p)
{
    const gate *s = p->self;
    fdl_module *const *parts = p->module->children.at;
    fdl_tensor *w = graph_call(parts[0]->real, p);
    if (!w) {
        if (g->prefix)
            fdl_error_prefix("router: ");
        return NULL;
    }
    for (int i = 0; i < s->n; i++) {
        fdl_scope *scope = fdl_scope_open();
        s->y[i] = scope ? fdl_escape(module_run(parts[i + 1]->real, 1, p->in)) : NULL;
        fdl_scope_close(scope);
        if (!s->y[i]) {
            if (g->prefix)
                fdl_error_prefix("expert %d: ", i);
            return NULL;
        }
    }
    return combine(s->n, s->y, w);
}

static const node_type gate_node = {.hashed_kind = "module", .look = LOOK_CHOICE, .run = run_gate};

static fdl_status add_gate(fdl_flow_builder *b, fdl_module *step)
{
    gate *s = step->self;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (s->n < 2)
        return flow_fail(b, FDL_E_ARG, "needs 2 experts or more, got %d", s->n);
    for (int i = 0; i < s->n; i++) {
        const graph *expert = graph_or_null(step->children.at[i + 1]);
        if (expert && expert->inputs > 1)
            return flow_fail(b, FDL_E_ARG, "expert %d is a graph with the input \"%s\"; experts get x alone",
                             i, expert->input[1].name);
    }
    s->y = arena_alloc(&b->g->memory, sizeof *s->y * (size_t)s->n);
    if (!s->y)
        return FDL_E_OOM;
    flow_begin_step(b);
    int node = flow_node(b, &gate_node, "gate", 1);
    if (node < 0)
        return FDL_E_OOM;
    graph_node *made = &b->g->node[node];
    made->module = step;
    made->self = s;
    made->taker = step->children.at[0]->real;
    made->role = "its router ";
    FDL_TRY(flow_edge(b, x, node, 0));
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static const step_type gate_type = {.ops = {.kind = "fdl_flow_gate", .size = sizeof(gate)},
                                    .refusal = STEP_REFUSAL("fdl_flow_gate"),
                                    .add = add_gate};

typedef struct gate_args {
    fdl_module *router;
    fdl_modules experts;
} gate_args;

static fdl_module *make_flow_gate(const void *args)
{
    const gate_args *a = args;
    return fdl_flow_gate_of(a->router, a->experts.n, a->experts.at);
}

KIND(flow_gate, .name = "flow_gate",
     ARGS(gate_args, FDL_ARG(gate_args, router, MODULE), CHILDREN_ARG(gate_args, experts, "expert")));

fdl_module *fdl_flow_gate_of(fdl_module *router, int n, fdl_module *const *experts)
{
    fdl_module *step = step_new(&gate_type);
    step_child(step, "router", router);
    if (n > 0 && !experts) {
        fdl_null_operand("fdl_flow_gate", "experts");
        module_release(step);
        return NULL;
    }
    if (step)
        ((gate *)step->self)->n = n;
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "expert_%d", i);
        step_child(step, name, experts[i]);
    }
    return DESCRIBED(step, flow_gate, (gate_args){.router = router});
}
