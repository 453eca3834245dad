/* Gates: all experts run, and a router says how much of each counts. */
#include "flodl/arithmetic.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "graph_private.h"
#include "sparse_gate.h"

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
    fdl_flow_gate_opts o; /* its names are the description's */
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
    FDL_TRY_NULL(graph_publish_one(g, p->node, s->o.trace_weights, w));
    if (s->o.top_k)
        return run_sparse(g, p, &s->o, s->n, w);
    fdl_tensor **y = fdl_scope_alloc(sizeof *y * (size_t)s->n);
    if (!y)
        return NULL;
    for (int i = 0; i < s->n; i++) {
        fdl_scope *scope = fdl_scope_open();
        y[i] = scope ? fdl_escape(module_run(parts[i + 1]->real, 1, p->in)) : NULL;
        fdl_scope_close(scope);
        if (!y[i]) {
            if (g->prefix)
                fdl_error_prefix("expert %d: ", i);
            return NULL;
        }
    }
    return combine(s->n, y, w);
}

/* The sum of w[.., i] y[i]; the weights' dims align with the results' from the left. */
static const char *onnx_gate(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    const gate *s = p->self;
    fdl_module *const *parts = p->module->children.at;
    const onnx_result *w = onnx_result_of(o, parts[0]);
    const char *sum = NULL;
    for (int i = 0; i < s->n; i++) {
        const onnx_result *expert = onnx_result_of(o, parts[i + 1]);
        if (!w || !expert)
            return onnx_refuse(o, "what its router or expert %d gives isn't told in ONNX", i);
        const char *weight = onnx_slice(o, w->name, w->shape.ndim - 1, i, i + 1);
        for (int d = w->shape.ndim; d < fdl_ndim(y); d++)
            weight = onnx_unsqueeze(o, weight, d);
        if (w->shape.ndim > fdl_ndim(y))
            weight = onnx_squeeze(o, weight, w->shape.ndim - 1);
        const char *share = OP(o, "Mul", IN(expert->name, weight));
        sum = i ? OP(o, "Add", IN(sum, share)) : share;
    }
    return sum;
}

static const char *onnx_refusal(const plan_node *p)
{
    return ((const gate *)p->self)->o.top_k ? "a gate with .top_k isn't told in ONNX" : NULL;
}

static const node_type gate_node = {.onnx = onnx_gate,
                                    .onnx_refusal = onnx_refusal,
                                    .hashed_kind = "module",
                                    .look = LOOK_CHOICE,
                                    .run = run_gate};

static fdl_status check_top_k(fdl_flow_builder *b, const gate *s)
{
    const fdl_flow_gate_opts *o = &s->o;
    if (o->top_k < 0 || o->top_k > s->n)
        return flow_fail(b, FDL_E_ARG, ".top_k is a number of the %d experts, got %d", s->n, o->top_k);
    if (!(o->capacity >= 0) || o->capacity > 1e9)
        return flow_fail(b, FDL_E_ARG, ".capacity is a multiple of an even share, got %g", o->capacity);
    if (!o->top_k && (o->capacity > 0 || o->normalize || o->trace_choice || o->trace_balance))
        return flow_fail(b, FDL_E_ARG, "has %s, which needs .top_k",
                         o->capacity > 0   ? ".capacity"
                         : o->normalize    ? ".normalize"
                         : o->trace_choice ? ".trace_choice"
                                           : ".trace_balance");
    return FDL_OK;
}

static fdl_status add_gate(fdl_flow_builder *b, fdl_module *step)
{
    const gate *s = step->self;
    if (s->n < 2)
        return flow_fail(b, FDL_E_ARG, "needs 2 experts or more, got %d", s->n);
    for (int i = 0; i < s->n; i++) {
        char what[32];
        snprintf(what, sizeof what, "expert %d", i);
        FDL_TRY(flow_takes_one(b, step, i + 1, what));
    }
    FDL_TRY(check_top_k(b, s));
    int node = flow_control(b, step, &gate_node, "gate", 0, "its router ");
    if (node < 0)
        return fdl_error_pending();
    FDL_TRY(flow_publishes(b, node, ".trace_weights", s->o.trace_weights));
    FDL_TRY(flow_publishes(b, node, ".trace_choice", s->o.trace_choice));
    return flow_publishes(b, node, ".trace_balance", s->o.trace_balance);
}

static const step_type gate_type = {.ops = {.kind = "fdl_flow_gate", .size = sizeof(gate)},
                                    .refusal = STEP_REFUSAL("fdl_flow_gate"),
                                    .add = add_gate};

typedef struct gate_args {
    fdl_module *router;
    fdl_modules experts;
    fdl_flow_gate_opts o;
} gate_args;

static fdl_module *make_flow_gate(const void *args)
{
    const gate_args *a = args;
    return fdl_flow_gate_opt(a->router, a->experts.n, a->experts.at, &a->o);
}

KIND(flow_gate, .name = "flow_gate",
     ARGS(gate_args, FDL_ARG(gate_args, router, MODULE), CHILDREN_ARG(gate_args, experts, "expert"),
          FDL_OPT(gate_args, top_k, INT), FDL_OPT(gate_args, capacity, DOUBLE),
          FDL_OPT(gate_args, normalize, BOOL), FDL_OPT(gate_args, trace_weights, TEXT),
          FDL_OPT(gate_args, trace_choice, TEXT), FDL_OPT(gate_args, trace_balance, TEXT)));

fdl_module *fdl_flow_gate_opt(fdl_module *router, int n, fdl_module *const *experts,
                              const fdl_flow_gate_opts *opts)
{
    const gate_args args = {.o = opts ? *opts : (fdl_flow_gate_opts){0}};
    fdl_module *step =
        described(step_of_parts(&gate_type, "router", router, "expert", n, experts), &kind_flow_gate, &args);
    gate *s = step ? step->self : NULL;
    if (s)
        *s = (gate){n, ((const gate_args *)step->args)->o};
    return step;
}
