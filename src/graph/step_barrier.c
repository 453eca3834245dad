/* Barriers: the value goes on, its history doesn't. */
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "flodl/autograd.h"
#include "graph_private.h"

static fdl_tensor *run_detach(graph *g, const plan_node *p)
{
    (void)g;
    return fdl_detach(p->in[0]);
}

static const char *onnx_detach(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_name_of(o, p->in[0]);
}

static const node_type detach_node = {.onnx = onnx_detach, .bare = true, .run = run_detach};

static fdl_status add_detach(fdl_flow_builder *b, fdl_module *step)
{
    (void)step;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    int node = flow_node(b, &detach_node, "detach", 1);
    if (node < 0)
        return FDL_E_OOM;
    FDL_TRY(flow_edge(b, x, node, 0));
    flow_end_step(b, node, node);
    return FDL_OK;
}

static const step_type detach_type = {
    .ops = {.kind = "fdl_flow_detach"}, .refusal = STEP_REFUSAL("fdl_flow_detach"), .add = add_detach};

static fdl_module *make_flow_detach(const void *args)
{
    (void)args;
    return fdl_flow_detach();
}

KIND(flow_detach, .name = "flow_detach");

fdl_module *fdl_flow_detach(void)
{
    fdl_module *step = step_new(&detach_type);
    return DESCRIBED(step, flow_detach, (char){0});
}

fdl_status fdl_graph_stop_gradient(fdl_module *m, const char *tag, bool stop)
{
    graph *g = graph_of(__func__, m);
    if (g && !tag)
        fdl_null_operand(__func__, "tag");
    int i = g && tag ? graph_find_tag(__func__, g, tag) : -1;
    if (i < 0)
        return fdl_error_pending();
    g->plan[g->node[g->tag[i].node].place].stops = stop;
    return FDL_OK;
}
