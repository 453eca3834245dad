/* Steps whose activations are computed once more in backward. */
#include "../nn/describe.h"
#include "flodl/recompute.h"
#include "../nn/onnx_private.h"
#include "graph_private.h"

/* The module that runs: a step's first child, or the node's own. */
static fdl_module *module_of(const plan_node *p)
{
    return step_type_of(p->module) ? p->module->children.at[0]->real : p->module;
}

/* The first run and the one in backward; the plan lives as long as the graph. */
static fdl_tensor *run_again(fdl_list in, void *ctx)
{
    plan_node now = *(const plan_node *)ctx;
    now.in = in.at;
    now.initial = NULL;
    return graph_call(module_of(&now), &now);
}

fdl_tensor *graph_recompute(const plan_node *p, fdl_tensor **in, bool no_rng_state)
{
    return fdl_checkpoint_fn(run_again, (void *)p, ((fdl_list){p->inputs + p->refs, in}),
                             .no_rng_state = no_rng_state);
}

static fdl_status find_state(fdl_module *m, void *ctx)
{
    const graph *g = graph_or_null(m);
    if (g && g->states)
        *(const graph **)ctx = g;
    return FDL_OK;
}

fdl_status flow_check_recompute(fdl_flow_builder *b, fdl_module *m)
{
    const graph *g = NULL;
    FDL_TRY(fdl_module_walk(m, find_state, &g));
    if (!g)
        return FDL_OK;
    return flow_fail(b, FDL_E_ARG,
                     "%s can't be computed twice: a graph in it carries the state \"%s\" from run to run",
                     fdl_module_kind(m), g->state[0].name);
}

/* ---- as a step ----------------------------------------------------------------------------------------- */

static fdl_tensor *run_recompute(graph *g, const plan_node *p)
{
    (void)g;
    const fdl_flow_recompute_opts *o = p->self;
    return graph_recompute(p, p->in, o->no_rng_state);
}

/* Without a backward it is its module, which has said what it did. */
static const char *onnx_recompute(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)p;
    return onnx_name_of(o, y);
}

static const node_type recompute_node = {.onnx = onnx_recompute, .run = run_recompute};

static fdl_status add_recompute(fdl_flow_builder *b, fdl_module *step)
{
    fdl_module *m = step->children.at[0];
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    FDL_TRY(flow_check_recompute(b, m));
    flow_begin_step(b);
    int node = flow_module(b, m, x);
    if (node < 0)
        return FDL_E_OOM;
    b->g->node[node].type = &recompute_node;
    b->g->node[node].self = step->self;
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static const step_type recompute_type = {
    .ops = {.kind = "fdl_flow_recompute", .size = sizeof(fdl_flow_recompute_opts)},
    .refusal = STEP_REFUSAL("fdl_flow_recompute"),
    .add = add_recompute};

typedef struct recompute_args {
    fdl_module *module;
    fdl_flow_recompute_opts o;
} recompute_args;

static fdl_module *make_flow_recompute(const void *args)
{
    const recompute_args *a = args;
    return fdl_flow_recompute_opt(a->module, &a->o);
}

KIND(flow_recompute, .name = "flow_recompute",
     ARGS(recompute_args, CHILD_ARG(recompute_args, module, "m"),
          FDL_OPT(recompute_args, no_rng_state, BOOL)));

fdl_module *fdl_flow_recompute_opt(fdl_module *m, const fdl_flow_recompute_opts *opts)
{
    const fdl_flow_recompute_opts o = opts ? *opts : (fdl_flow_recompute_opts){0};
    fdl_module *step = step_new(&recompute_type);
    step_child(step, "m", m);
    if (step)
        *(fdl_flow_recompute_opts *)step->self = o;
    return DESCRIBED(step, flow_recompute, (recompute_args){.o = o});
}
