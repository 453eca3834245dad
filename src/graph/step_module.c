/* Nodes that run a module, and the steps that add one beside the stream: also and fork. */
#include "../nn/describe.h"
#include "flodl/nn.h"
#include "graph_private.h"

fdl_refs graph_refs(const plan_node *p)
{
    return (fdl_refs){
        .n = (size_t)p->refs, .names = p->ref_names, .at = p->in + p->inputs, .initial = p->initial};
}

fdl_tensor *graph_call(fdl_module *m, const plan_node *p)
{
    if (!p->refs)
        return module_run(m, 1, p->in);
    if (m->table && m->table->forward) /* a graph, whose further inputs lie in its order */
        return module_run(m, 1 + p->refs, p->in);
    if (FDL_UNLIKELY(m->watch != NULL))
        m->watch->before(m);
    if (!module_enter(m))
        return NULL;
    fdl_refs refs = graph_refs(p);
    fdl_tensor *y = m->ops->forward_named ? m->ops->forward_named(m->self, p->in[0], &refs)
                                          : m->ops->step(m->self, p->in[0], &refs, NULL);
    module_leave(m);
    if (FDL_UNLIKELY(!y))
        fdl_fail(FDL_E_NULL, "forward of %s returned NULL without an error", m->ops->kind);
    else if (FDL_UNLIKELY(m->watch != NULL))
        m->watch->after(m, p->inputs + p->refs, p->in, p->ref_names, y);
    return y;
}

fdl_tensor *graph_iterate(fdl_module *m, const plan_node *p, fdl_emitter *e)
{
    if (!m->ops->step)
        return graph_call(m, p);
    if (!module_enter(m))
        return NULL;
    fdl_refs refs = graph_refs(p);
    fdl_tensor *y = m->ops->step(m->self, p->in[0], &refs, e);
    module_leave(m);
    if (FDL_UNLIKELY(!y))
        fdl_fail(FDL_E_NULL, "step of %s returned NULL without an error", m->ops->kind);
    return FDL_UNLIKELY(e->failed) ? NULL : y;
}

static fdl_tensor *run_module(graph *g, const plan_node *p)
{
    (void)g;
    return graph_call(p->module, p);
}

const node_type module_node = {.run = run_module};

/* ---- also ---------------------------------------------------------------------------------------------- */

typedef struct also {
    fdl_module *m, *skip, *drop;
    char *name;
} also;

static void free_also(void *self)
{
    free(((also *)self)->name);
}

static fdl_status add_also(fdl_flow_builder *b, fdl_module *step)
{
    const also *s = fdl_module_self(step);
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    int skip = s->skip ? flow_module(b, s->skip, x) : x;
    int m = skip < 0 ? -1 : flow_module(b, s->m, x);
    int branch = m >= 0 && s->drop ? flow_module(b, s->drop, m) : m;
    int sum = branch < 0 ? -1 : flow_node(b, &sum_node, "add", 2);
    if (sum < 0)
        return FDL_E_OOM;
    FDL_TRY(flow_edge(b, skip, sum, 0));
    FDL_TRY(flow_edge(b, branch, sum, 1));
    flow_end_step(b, sum, sum);
    FDL_TRY(flow_target(b, m));
    return s->name ? flow_tag(b, s->name, m) : FDL_OK;
}

static const step_type also_type = {.ops = {.kind = "fdl_flow_also", .size = sizeof(also), .free = free_also},
                                    .refusal = STEP_REFUSAL("fdl_flow_also"),
                                    .add = add_also};

typedef struct also_args {
    fdl_module *module;
    fdl_flow_also_opts o;
} also_args;

static fdl_module *make_flow_also(const void *args)
{
    const also_args *a = args;
    return fdl_flow_also_opt(a->module, &a->o);
}

KIND(flow_also, .name = "flow_also",
     ARGS(also_args, CHILD_ARG(also_args, module, "m"), FDL_OPT(also_args, skip, MODULE),
          FDL_OPT(also_args, name, TEXT), FDL_OPT(also_args, drop, DOUBLE)));

fdl_module *fdl_flow_also_opt(fdl_module *m, const fdl_flow_also_opts *opts)
{
    static const fdl_flow_also_opts none = {0};
    if (!opts)
        opts = &none;
    fdl_module *step = step_new(&also_type);
    also *s = step ? step->self : &(also){0};
    bool lost_skip = !opts->skip && opts->opts_ == 1 && fdl_error_pending() != FDL_OK;
    s->m = step_child(step, "m", m);
    if (opts->skip || lost_skip)
        s->skip = step_child(step, "skip", opts->skip);
    if (opts->drop != 0)
        s->drop = step_child(step, "drop", fdl_nn_stochastic_depth(opts->drop));
    if (step && opts->name && !(s->name = strdup(opts->name))) {
        module_release(step);
        return fdl_fail_null(FDL_E_OOM, "fdl_flow_also: no memory for the name");
    }
    return DESCRIBED(step, flow_also, (also_args){m, *opts});
}

/* ---- fork ---------------------------------------------------------------------------------------------- */

static fdl_status add_fork(fdl_flow_builder *b, fdl_module *step)
{
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    int side = flow_module(b, step->children.at[0], x);
    if (side < 0)
        return FDL_E_OOM;
    flow_end_step(b, x, side);
    return flow_target(b, side);
}

static const step_type fork_type = {
    .ops = {.kind = "fdl_flow_fork"}, .refusal = STEP_REFUSAL("fdl_flow_fork"), .add = add_fork};

typedef struct fork_args {
    fdl_module *module;
} fork_args;

static fdl_module *make_flow_fork(const void *args)
{
    return fdl_flow_fork(((const fork_args *)args)->module);
}

KIND(flow_fork, .name = "flow_fork", ARGS(fork_args, CHILD_ARG(fork_args, module, "m")));

fdl_module *fdl_flow_fork(fdl_module *m)
{
    fdl_module *step = step_new(&fork_type);
    step_child(step, "m", m);
    return DESCRIBED(step, flow_fork, (fork_args){m});
}
