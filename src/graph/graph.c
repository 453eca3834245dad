/* A graph as a module: its parts for walks and names, and what can be asked of it. */
#include "graph_private.h"

/* ---- the module ---------------------------------------------------------------------------------------- */

static int graph_parts(fdl_module *m)
{
    return ((const graph *)m->self)->parts;
}

static module_part graph_part(fdl_module *m, int i)
{
    const graph *g = m->self;
    const graph_node *node = &g->node[g->plan[g->part[i]].node];
    const graph *child = graph_or_null(node->module);
    const char *flat = node->tag ? node->tag : node->id;
    return (module_part){.module = node->module,
                         .name = child && child->label ? child->label : flat,
                         .flat = flat,
                         .sequential = node->sequential,
                         .node = true};
}

static void graph_free(void *self)
{
    graph *g = self;
    graph_drop_tags(g);
    graph_observed_free(g);
    for (int i = 0; g->carried && i < g->states; i++) {
        fdl_free(g->carried[i].value);
        fdl_free(g->carried[i].place);
        fdl_free(g->carried[i].initial);
    }
    graph_free_traces(g);
    graph_profiler_free(g);
    while (g->watchers)
        graph_unwatch(g, g->watchers);
    tree_free(g);
    for (int i = 0; i < g->owned; i++)
        module_release(g->own[i]);
    name_free(&g->names);
    free(g->own);
    free(g->node);
    free(g->edge);
    free(g->tag);
    free(g->group);
    free(g->input);
    free(g->internal);
    free(g->source_config);
    free(g->state);
    free(g->further);
    if (g->training_free)
        g->training_free(g->training);
    arena_free(&g->memory);
}

static void reset(void *self)
{
    graph_drop_state(self);
}

static void detach(void *self)
{
    graph_detach_tags(self);
    graph_detach_state(self);
    graph_detach_traces(self);
}

static fdl_status moved(void *self, fdl_device d)
{
    (void)d;
    graph_drop_tags(self);
    graph_drop_traces(self);
    return FDL_OK;
}

/* What stops is part of what a recorded run depends on. */
static uint64_t stops(const graph *g)
{
    uint64_t h = 0;
    for (int p = 0; g->cells && p < g->nodes; p++)
        h = h * 31 + g->plan[p].stops;
    return h;
}

static void forget_traces(fdl_module *m)
{
    graph_drop_traces(m->self);
}

static module_rest rest(fdl_module *m)
{
    const graph *g = m->self;
    return (module_rest){.mark = stops(g),
                         .slots = g->carried ? g->states : 0,
                         .slot = g->carried,
                         .values = g->cells,
                         .value = g->cell};
}

static const fdl_module_ops graph_ops = {.kind = "graph",
                                         .size = sizeof(graph),
                                         .reset = reset,
                                         .detach_state = detach,
                                         .to = moved,
                                         .free = graph_free};
static const module_table graph_table = {.parts = graph_parts,
                                         .part = graph_part,
                                         .forward = graph_forward,
                                         .rest = rest,
                                         .forget = forget_traces};

fdl_module *graph_new(void)
{
    return module_new_with(&graph_ops, &graph_table);
}

graph *graph_or_null(fdl_module *m)
{
    return m->real->table == &graph_table ? m->real->self : NULL;
}

graph *graph_of(const char *function, fdl_module *m)
{
    if (!m) {
        fdl_null_operand(function, "g");
        return NULL;
    }
    graph *g = graph_or_null(m);
    return g ? g
             : fdl_fail_null(FDL_E_ARG, "%s: this %s is no graph made by fdl_flow", function,
                             fdl_module_kind(m));
}

const char *node_title(const graph_node *node, char *buf, size_t size)
{
    if (node->tag)
        snprintf(buf, size, "%s (#%s)", node->id, node->tag);
    else
        snprintf(buf, size, "%s", node->id);
    return buf;
}

/* ---- asking -------------------------------------------------------------------------------------------- */

bool fdl_module_is_graph(fdl_module *m)
{
    return m && graph_or_null(m);
}

const char *fdl_graph_label(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->label : NULL;
}

bool graph_within(const char *function, int i, int n, const char *what)
{
    if (i >= 0 && i < n)
        return true;
    fdl_fail(FDL_E_RANGE, "%s: %s %d of %d", function, what, i, n);
    return false;
}

int fdl_graph_input_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->inputs : -1;
}

const char *fdl_graph_input_name(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    return g && graph_within(__func__, i, g->inputs, "input") ? g->input[i].name : NULL;
}

int fdl_graph_node_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->nodes : -1;
}

const char *fdl_graph_node_id(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    return g && graph_within(__func__, i, g->nodes, "node") ? g->node[g->plan[i].node].id : NULL;
}

int fdl_graph_node_level(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    return g && graph_within(__func__, i, g->nodes, "node") ? g->node[g->plan[i].node].level : -1;
}

int fdl_graph_tag_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->tags : -1;
}

const char *fdl_graph_tag_name(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    return g && graph_within(__func__, i, g->tags, "tag") ? g->tag[i].name : NULL;
}

const char *const *fdl_graph_tag_group(fdl_module *m, const char *name, int *n)
{
    const graph *g = graph_of(__func__, m);
    if (n)
        *n = 0;
    if (g && !name)
        fdl_null_operand(__func__, "name");
    for (int i = 0; g && name && i < g->groups; i++)
        if (strcmp(g->group[i].name, name) == 0) {
            if (n)
                *n = g->group[i].n;
            return g->group[i].members;
        }
    return NULL;
}

/* ---- source config --------------------------------------------------------------------------------------- */

fdl_status fdl_graph_set_source_config(fdl_module *m, const char *text)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    char *copy = text ? malloc(strlen(text) + 1) : NULL;
    if (text && !copy)
        return fdl_fail(FDL_E_OOM, "fdl_graph_set_source_config: no memory for %zu bytes", strlen(text));
    if (copy)
        memcpy(copy, text, strlen(text) + 1);
    free(g->source_config);
    g->source_config = copy;
    return FDL_OK;
}

const char *fdl_graph_source_config(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->source_config : NULL;
}
