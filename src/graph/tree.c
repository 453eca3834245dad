/* The tree of graphs: which ones lie in a graph, and whether their labels and its tags make paths that lead
 * to one place each. */
#include "flodl/tree.h"
#include "graph_private.h"

typedef struct search {
    graph *g;
    int node; /* the one that is searched */
    uint64_t walk;
    int n, room;
    graph **at;
    int *from; /* the node where each was found */
    int from_room;
    name_map labels, tags; /* of at, of g */
    const char *label;     /* of at least one; NULL: there is no need for tags */
} search;

static fdl_status meet(search *s, graph *inner)
{
    graph **more = grown(s->at, s->n, &s->room, sizeof *more);
    if (more)
        s->at = more;
    int *from = more ? grown(s->from, s->n, &s->from_room, sizeof *from) : NULL;
    if (!from)
        return FDL_E_OOM;
    s->from = from;
    s->at[s->n] = inner;
    s->from[s->n++] = s->node;
    return FDL_OK;
}

/* Down to the first graph on each way. */
static fdl_status find_below(search *s, fdl_module *m)
{
    m = m->real;
    if (m->seen == s->walk)
        return FDL_OK;
    m->seen = s->walk;
    graph *inner = graph_or_null(m);
    if (inner)
        return meet(s, inner);
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        module_part part = module_part_at(m, i);
        if (part.module)
            FDL_TRY(find_below(s, part.module));
    }
    return FDL_OK;
}

static fdl_status check_label(search *s, int i)
{
    const graph *g = s->g;
    const char *label = s->at[i]->label;
    if (strchr(label, '.'))
        return fdl_fail(FDL_E_ARG, "the label \"%s\" of a graph inside another one has a dot in it", label);
    if (name_find(&s->labels, label) >= 0)
        return fdl_fail(FDL_E_ARG, "two different graphs in this flow have the label \"%s\"", label);
    int tag = name_find(&s->tags, label), other = node_of_id(g, label);
    if (tag < -1 || (tag >= 0 && g->tag[tag].node != s->node))
        return fdl_fail(FDL_E_ARG, "\"%s\" is the label of %s and a tag of another node", label,
                        g->node[s->node].id);
    if (other >= 0 && other != s->node)
        return fdl_fail(FDL_E_ARG, "the label \"%s\" is the id of another node", label);
    return name_put(&s->labels, label, i);
}

/* A tag whose first segment is a label. */
static fdl_status check_dotted(search *s, const graph_name *tag)
{
    const char *dot = strchr(tag->name, '.');
    if (!dot)
        return FDL_OK;
    char *first = strndup(tag->name, (size_t)(dot - tag->name));
    if (!first)
        return fdl_fail(FDL_E_OOM, "no memory to check the tag \"%s\"", tag->name);
    bool clash = name_find(&s->labels, first) >= 0;
    free(first);
    s->node = tag->node;
    return clash ? fdl_fail(FDL_E_ARG,
                            "the tag \"%s\" reads like a path into the graph with the label \"%.*s\"",
                            tag->name, (int)(dot - tag->name), tag->name)
                 : FDL_OK;
}

static fdl_status check_labels(search *s)
{
    const graph *g = s->g;
    for (int i = 0; i < g->tags; i++)
        FDL_TRY(name_put(&s->tags, g->tag[i].name, i));
    for (int i = 0; i < g->groups; i++)
        FDL_TRY(name_put(&s->tags, g->group[i].name, -2 - i));
    for (int i = 0; i < s->n; i++)
        if (s->at[i]->label) {
            s->node = s->from[i];
            FDL_TRY(check_label(s, i));
        }
    for (int i = 0; i < g->tags; i++)
        FDL_TRY(check_dotted(s, &g->tag[i]));
    return FDL_OK;
}

static fdl_status find_all(search *s)
{
    const graph *g = s->g;
    bool labelled = false;
    for (s->node = 0; s->node < g->nodes; s->node++)
        if (g->node[s->node].module)
            FDL_TRY(find_below(s, g->node[s->node].module));
    for (int i = 0; i < s->n; i++)
        labelled |= s->at[i]->label != NULL;
    return labelled ? check_labels(s) : FDL_OK;
}

fdl_status tree_find(graph *g, int *at)
{
    search s = {.g = g, .walk = module_new_walk()};
    fdl_status status = find_all(&s);
    *at = s.node;
    name_free(&s.labels);
    name_free(&s.tags);
    free(s.from);
    if (status != FDL_OK) {
        free(s.at);
        return status;
    }
    for (int i = 0; i < s.n; i++)
        s.at[i]->parents++;
    tree_free(g);
    g->inner = s.at;
    g->inners = s.n;
    return FDL_OK;
}

void tree_free(graph *g)
{
    for (int i = 0; i < g->inners; i++)
        g->inner[i]->parents--;
    free(g->inner);
    g->inner = NULL;
    g->inners = 0;
}

/* ---- for a flow ---------------------------------------------------------------------------------------- */

static const graph_group *find_group(const graph *g, const char *name)
{
    for (int i = 0; i < g->groups; i++)
        if (strcmp(g->group[i].name, name) == 0)
            return &g->group[i];
    return NULL;
}

static fdl_status check_internal(fdl_flow_builder *b, int i)
{
    const graph *g = b->g;
    const char *name = g->internal[i].name;
    if (name_find(&b->names, name) != -1)
        return FDL_OK;
    b->at = g->internal[i].node;
    b->kind = "fdl_flow_internal";
    return flow_fail(b, FDL_E_ARG, "no step has the tag \"%s\"", name);
}

fdl_status tree_check(fdl_flow_builder *b)
{
    graph *g = b->g;
    for (int i = 0; i < g->internals; i++)
        FDL_TRY(check_internal(b, i));
    bool before = fdl_error_pending() != FDL_OK;
    int node;
    fdl_status status = tree_find(g, &node);
    if (status != FDL_OK && node < g->nodes) {
        b->at = g->node[node].at;
        b->kind = g->node[node].kind;
        if (!before)
            fdl_error_prefix("fdl_flow: step %d (%s): ", b->at, b->kind);
    }
    return status;
}

/* ---- asking -------------------------------------------------------------------------------------------- */

bool graph_tag_is_internal(const graph *g, int tag)
{
    const char *name = g->tag[tag].name;
    if (*name == '_')
        return true;
    for (int i = 0; i < g->internals; i++) {
        if (strcmp(g->internal[i].name, name) == 0)
            return true;
        const graph_group *group = find_group(g, g->internal[i].name);
        for (int k = 0; group && k < group->n; k++)
            if (strcmp(group->members[k], name) == 0)
                return true;
    }
    return false;
}

int graph_tag_named(const graph *g, const char *name)
{
    int i = name_find(&g->names, name);
    return i >= 0 ? i : -1; /* a group's is below */
}

graph *graph_find_child(const graph *g, const char *label)
{
    for (int i = 0; i < g->inners; i++)
        if (g->inner[i]->label && strcmp(g->inner[i]->label, label) == 0)
            return g->inner[i];
    return NULL;
}

int fdl_graph_child_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    if (!g)
        return -1;
    int n = 0;
    for (int i = 0; i < g->inners; i++)
        n += g->inner[i]->label != NULL;
    return n;
}

fdl_module *fdl_graph_child_at(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    if (!g)
        return NULL;
    int n = 0;
    for (int k = 0; k < g->inners; k++)
        if (g->inner[k]->label && n++ == i)
            return fdl_module_of(g->inner[k]);
    return fdl_fail_null(FDL_E_RANGE, "%s: child %d of %d", __func__, i, n);
}

bool fdl_graph_is_composed(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g && g->parents > 0;
}

bool fdl_graph_is_internal(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (!g || !tag) {
        if (g)
            fdl_null_operand(__func__, "tag");
        return false;
    }
    int i = graph_find_tag(__func__, g, tag);
    return i >= 0 && graph_tag_is_internal(g, i);
}
