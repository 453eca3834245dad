/* What the steps that loop and choose have in common. */
#include "graph_private.h"

int flow_control(fdl_flow_builder *b, fdl_module *step, const node_type *type, const char *kind, int taker,
                 const char *role)
{
    int x = flow_single(b);
    if (x < 0)
        return -1;
    flow_begin_step(b);
    int node = flow_node(b, type, kind, 1);
    if (node < 0)
        return -1;
    graph_node *made = &b->g->node[node];
    made->module = step;
    made->self = step->self;
    made->taker = step->children.at[taker]->real;
    made->role = role;
    if (flow_edge(b, x, node, 0) != FDL_OK)
        return -1;
    flow_end_step(b, node, node);
    return flow_target(b, node) == FDL_OK ? node : -1;
}

fdl_status flow_takes_one(fdl_flow_builder *b, fdl_module *step, int i, const char *what)
{
    fdl_module *m = step->children.at[i]->real;
    const graph *part = graph_or_null(m);
    const char *const *takes = part ? NULL : required_refs(m);
    if (takes)
        return flow_fail(b, FDL_E_ARG, "%s %s takes \"%s\" by fdl_flow_using; it gets one input alone", what,
                         fdl_module_kind(m), takes[0]);
    if (!part || part->inputs == 1)
        return FDL_OK;
    return flow_fail(b, FDL_E_ARG, "%s is a graph with the input \"%s\"; it gets one input alone", what,
                     part->input[1].name);
}

fdl_status flow_publishes(fdl_flow_builder *b, int node, const char *option, const char *name)
{
    if (!name)
        return FDL_OK;
    const char *fault = name_fault(name);
    if (fault)
        return flow_fail(b, FDL_E_ARG, "%s \"%s\" %s", option, name, fault);
    int other = name_find(&b->published, name);
    if (other == node)
        return flow_fail(b, FDL_E_ARG, "%s: %s publishes \"%s\" twice", option, b->g->node[node].id, name);
    if (other >= 0)
        return flow_fail(b, FDL_E_ARG, "%s: %s publishes \"%s\", as %s does", option, b->g->node[node].id,
                         name, b->g->node[other].id);
    return name_put(&b->published, name, node);
}

int flow_find(fdl_flow_builder *b, const char *option, const char *tag)
{
    int i = name_find(&b->names, tag);
    if (i >= 0)
        return b->g->tag[i].node;
    if (i < -1)
        flow_fail(b, FDL_E_ARG, "%s \"%s\" is a tag group; its members are \"%s_0\" and so on", option, tag,
                  tag);
    else
        flow_fail(b, FDL_E_ARG, "%s: no step before this one has the tag \"%s\"", option, tag);
    return -1;
}
