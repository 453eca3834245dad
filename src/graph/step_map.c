/* Maps: one body over elements of dim 0, or over pieces of each row. */
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "graph_private.h"

typedef fdl_flow_map_opts map; /* its name is the description's */

/* ---- pieces of rows ------------------------------------------------------------------------------------ */

/* x [.., D] -> [rows k, D / k]. */
static fdl_tensor *cut(fdl_tensor *x, int64_t k)
{
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim < 2 || s.d[s.ndim - 1] % k != 0) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "the map cuts the last of 2 dims or more into %lld equal pieces, got %s",
                             (long long)k, fdl_describe(x, text, sizeof text));
    }
    int64_t rows = k;
    for (int i = 0; i < s.ndim - 1; i++)
        rows *= s.d[i];
    return fdl_reshape(x, FDL_SHAPE(rows, s.d[s.ndim - 1] / k));
}

/* y [rows, D'], from x [.., D] -> [.., k D']. */
static fdl_tensor *put_together(fdl_tensor *y, fdl_tensor *x, int64_t k, int64_t rows)
{
    if (!y)
        return NULL;
    fdl_shape s = fdl_shape_of(x), is = fdl_shape_of(y);
    if (is.ndim != 2 || is.d[0] != rows) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "the body of a map over slices gives %s for %lld of them, must be [%lld, D]",
                             fdl_describe(y, text, sizeof text), (long long)rows, (long long)rows);
    }
    s.d[s.ndim - 1] = k * is.d[1];
    return fdl_reshape(y, s);
}

/* ---- running ------------------------------------------------------------------------------------------- */

static fdl_tensor *run_element(const plan_node *p, fdl_tensor *x)
{
    p->in[0] = x;
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *y = scope ? fdl_escape(graph_call(p->module, p)) : NULL;
    fdl_scope_close(scope);
    if (!y || fdl_ndim(y) > 0)
        return y;
    return fdl_fail_null(FDL_E_SHAPE, "the body gives a 0-d tensor, which can't be joined along dim 0");
}

static fdl_tensor *run_each(const graph *g, const plan_node *p, fdl_tensor *x, bool row)
{
    fdl_list elements = fdl_split(x, 1, 0);
    fdl_list y = {0, fdl_scope_alloc(sizeof *y.at * (size_t)(elements.n + 1))};
    if (!elements.at || !y.at)
        return NULL;
    for (; y.n < elements.n; y.n++) {
        fdl_tensor *one = run_element(p, elements.at[y.n]);
        if (one && row)
            one = put_together(one, elements.at[y.n], 1, 1);
        if (!one) {
            if (g->prefix)
                fdl_error_prefix("map element %d: ", y.n);
            return NULL;
        }
        y.at[y.n] = one;
        if (one != elements.at[y.n])
            fdl_drop(elements.at[y.n]);
    }
    return fdl_cat(y, 0);
}

static fdl_tensor *run_elements(graph *g, const plan_node *p, fdl_tensor *x)
{
    const map *s = p->self;
    if (fdl_ndim(x) < 1)
        return fdl_fail_null(FDL_E_SHAPE, "a map takes its elements from dim 0, got a 0-d tensor");
    fdl_tensor *source = s->slices ? cut(x, s->slices) : x;
    if (!source)
        return NULL;
    int64_t n = fdl_size(source, 0);
    if (n == 0)
        return x;
    p->in[0] = source;
    fdl_tensor *y = s->batched ? graph_call(p->module, p) : run_each(g, p, source, s->slices != 0);
    return s->slices ? put_together(y, x, s->slices, n) : y;
}

static fdl_tensor *run_map(graph *g, const plan_node *p)
{
    fdl_tensor *x = p->in[0], *y = run_elements(g, p, x);
    p->in[0] = x;
    return y;
}

/* One run of the body on the whole, which it has said. */
static const char *onnx_map(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)p;
    return onnx_name_of(o, y);
}

static const char *onnx_refusal(const plan_node *p)
{
    const map *s = p->self;
    return !s->batched
               ? "a map that runs its body on one element at a time isn't told in ONNX; .batched = true is"
           : s->slices ? "a map over slices isn't told in ONNX"
                       : NULL;
}

static const node_type map_node = {
    .onnx = onnx_map, .onnx_refusal = onnx_refusal, .look = LOOK_MAP, .run = run_map};

/* ---- building ------------------------------------------------------------------------------------------ */

static fdl_status add_map(fdl_flow_builder *b, fdl_module *step)
{
    const map *s = step->self;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (s->slices < 0)
        return flow_fail(b, FDL_E_ARG, ".slices is the number of pieces of a row, 1 or more; got %lld",
                         (long long)s->slices);
    if (s->slices && s->over)
        return flow_fail(b, FDL_E_ARG, "has both .slices = %lld and .over = \"%s\"", (long long)s->slices,
                         s->over);
    if (s->over && (x = flow_find(b, ".over", s->over)) < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    int node = flow_node(b, &map_node, "map", 1);
    if (node < 0)
        return FDL_E_OOM;
    graph_node *made = &b->g->node[node];
    made->module = made->taker = step->children.at[0]->real;
    made->self = step->self;
    made->role = "its body ";
    FDL_TRY(flow_edge(b, x, node, 0));
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static const step_type map_type = {.ops = {.kind = "fdl_flow_map", .size = sizeof(map)},
                                   .refusal = STEP_REFUSAL("fdl_flow_map"),
                                   .add = add_map};

typedef struct map_args {
    fdl_module *body;
    fdl_flow_map_opts o;
} map_args;

static fdl_module *make_flow_map(const void *args)
{
    const map_args *a = args;
    return fdl_flow_map_opt(a->body, &a->o);
}

KIND(flow_map, .name = "flow_map",
     ARGS(map_args, FDL_ARG(map_args, body, MODULE), FDL_OPT(map_args, over, TEXT),
          FDL_OPT(map_args, slices, INT64), FDL_OPT(map_args, batched, BOOL)));

fdl_module *fdl_flow_map_opt(fdl_module *body, const fdl_flow_map_opts *opts)
{
    fdl_module *step = step_new(&map_type);
    step_child(step, "body", body);
    step = DESCRIBED(step, flow_map, (map_args){.o = opts ? *opts : (fdl_flow_map_opts){0}});
    if (step)
        *(map *)step->self = ((const map_args *)step->args)->o;
    return step;
}
