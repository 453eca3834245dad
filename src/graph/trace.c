/* What nodes publish while they run: values of each iteration of a loop, weights of a gate, the choice of a switch. */
#include "graph_private.h"

/* ---- publishing ---------------------------------------------------------------------------------------- */

static void empty(trace_list *list)
{
    for (int i = 0; i < list->n; i++)
        fdl_object_free(list->at[i]);
    list->n = 0;
}

void graph_clear_traces(graph *g, int node)
{
    for (int i = 0; i < g->traces; i++)
        if (g->trace[i].node == node)
            empty(&g->trace[i]);
}

static trace_list *find(const graph *g, int node, const char *name)
{
    for (int i = 0; i < g->traces; i++) {
        trace_list *list = &g->trace[i];
        if (name ? list->name && strcmp(list->name, name) == 0 : !list->name && list->node == node)
            return list;
    }
    return NULL;
}

/* The loop with that tag; -1: there is none. */
static int loop_of_tag(const graph *g, const char *tag)
{
    for (int i = 0; i < g->tags; i++)
        if (g->node[g->tag[i].node].type == &loop_node && strcmp(g->tag[i].name, tag) == 0)
            return g->tag[i].node;
    return -1;
}

static trace_list *add(graph *g, int node, const char *name)
{
    int loop = name ? loop_of_tag(g, name) : -1;
    if (loop >= 0)
        return fdl_fail_null(FDL_E_STATE, "%s publishes \"%s\", which is the tag of %s", g->node[node].id,
                             name, g->node[loop].id);
    char *own = name ? arena_text(&g->memory, "%s", name) : NULL;
    trace_list *more = name && !own ? NULL : grown(g->trace, g->traces, &g->trace_room, sizeof *more);
    if (!more)
        return NULL;
    g->trace = more;
    g->trace[g->traces] = (trace_list){.name = own, .node = node};
    return &g->trace[g->traces++];
}

fdl_status graph_publish(graph *g, int node, const char *name, int64_t iteration, fdl_tensor *t)
{
    trace_list *list = find(g, node, name);
    if (!list && !(list = add(g, node, name)))
        return fdl_error_pending();
    if (list->node != node)
        return fdl_fail(FDL_E_STATE, "%s publishes \"%s\", as %s does", g->node[node].id, name,
                        g->node[list->node].id);
    if (list->n && list->iteration == iteration)
        return fdl_fail(FDL_E_STATE, "%s publishes \"%s\" twice in one iteration", g->node[node].id, name);
    fdl_tensor **more = grown(list->at, list->n, &list->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    list->at = more;
    fdl_tensor *own = fdl_object_new(t);
    if (!own)
        return fdl_error_pending();
    list->at[list->n++] = own;
    list->iteration = iteration;
    return FDL_OK;
}

fdl_status graph_publish_one(graph *g, int node, const char *name, fdl_tensor *t)
{
    if (!name)
        return FDL_OK;
    trace_list *list = find(g, node, name);
    if (list && list->node == node)
        empty(list);
    return graph_publish(g, node, name, 0, t);
}

/* ---- letting go ---------------------------------------------------------------------------------------- */

fdl_status graph_set_trace(graph *g, int i, int n, fdl_tensor *const *values)
{
    trace_list *t = &g->trace[i];
    fdl_tensor **at = calloc((size_t)n + 1, sizeof *at);
    if (!at)
        return fdl_fail(FDL_E_OOM, "no memory for %d traces", n);
    for (int k = 0; k < n; k++)
        if (!(at[k] = fdl_keep(values[k]))) {
            while (k-- > 0)
                fdl_free(at[k]);
            free(at);
            return fdl_error_pending();
        }
    for (int k = 0; k < t->n; k++)
        fdl_free(t->at[k]);
    free(t->at);
    t->at = at;
    t->n = n;
    t->room = n + 1;
    return FDL_OK;
}

fdl_status graph_detach_traces(graph *g)
{
    FDL_SCOPE;
    for (int i = 0; i < g->traces; i++)
        for (int k = 0; k < g->trace[i].n; k++) {
            fdl_tensor *bare = fdl_detach(g->trace[i].at[k]);
            if (!bare)
                return fdl_error_pending();
            FDL_TRY(fdl_object_set(g->trace[i].at[k], bare));
        }
    return FDL_OK;
}

void graph_drop_traces(graph *g)
{
    for (int i = 0; i < g->traces; i++)
        empty(&g->trace[i]);
}

void graph_free_traces(graph *g)
{
    graph_drop_traces(g);
    for (int i = 0; i < g->traces; i++)
        free(g->trace[i].at);
    free(g->trace);
    g->trace = NULL;
    g->traces = g->trace_room = 0;
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* The unnamed list of the first loop, in order of the nodes, that has one. */
static const trace_list *first_unnamed(const graph *g)
{
    const trace_list *first = NULL;
    for (int i = 0; i < g->traces; i++) {
        const trace_list *list = &g->trace[i];
        if (!list->name && list->n && (!first || list->node < first->node))
            first = list;
    }
    return first;
}

fdl_tensor *const *fdl_graph_traces(fdl_module *m, const char *name, int *n)
{
    const graph *g = graph_of(__func__, m);
    if (n)
        *n = 0;
    if (!g)
        return NULL;
    int loop = name ? loop_of_tag(g, name) : -1;
    const trace_list *list = !name ? first_unnamed(g) : find(g, loop, loop >= 0 ? NULL : name);
    if (!list || !list->n)
        return NULL;
    if (n)
        *n = list->n;
    return list->at;
}

fdl_tensor *fdl_graph_last_trace(fdl_module *m, const char *name)
{
    int n;
    fdl_tensor *const *at = fdl_graph_traces(m, name, &n);
    return at ? at[n - 1] : NULL;
}
