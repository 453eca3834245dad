/* What can be checked only when the whole flow is there. */
#include "graph_private.h"

/* ---- lists of names in messages ------------------------------------------------------------------------ */

typedef struct text {
    size_t used;
    char at[512];
} text;

static void put(text *t, const char *name)
{
    if (t->used < sizeof t->at)
        t->used +=
            (size_t)snprintf(t->at + t->used, sizeof t->at - t->used, "%s\"%s\"", t->used ? ", " : "", name);
}

static const char *some(const text *t)
{
    return t->used ? t->at : "none";
}

/* ---- names that were used and never tagged ------------------------------------------------------------- */

static fdl_status check_awaited(fdl_flow_builder *b)
{
    text missing = {0};
    name_map met = {0};
    fdl_status status = FDL_OK;
    const awaited *first = NULL, *later = NULL;
    for (int i = 0; status == FDL_OK && i < b->awaits; i++) {
        const awaited *a = &b->await[i];
        if (name_find(&b->names, a->name) != -1) {
            later = later ? later : a;
        } else if (name_find(&met, a->name) == -1) {
            put(&missing, a->name);
            first = first ? first : a;
            status = name_put(&met, a->name, i);
        }
    }
    name_free(&met);
    if (status != FDL_OK || (!first && !later))
        return status;
    b->at = first ? first->at : later->at;
    b->kind = first ? first->kind : later->kind;
    if (first)
        return flow_fail(b, FDL_E_ARG, "no step has the tag %s", missing.at);
    return flow_fail(b, FDL_E_UNSUPPORTED,
                     "the tag \"%s\" stands behind this step; only the values of earlier steps can "
                     "be used",
                     later->name);
}

/* ---- refs against what a module says it takes ---------------------------------------------------------- */

static bool is_in(const char *name, int n, const char *const *names)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* All the names that m takes must be wired, and no others. */
static fdl_status check_refs(fdl_flow_builder *b, const graph_node *node, int n, const char *const *takes)
{
    text missing = {0}, unknown = {0}, wanted = {0}, got = {0};
    for (int i = 0; i < n; i++) {
        put(&wanted, takes[i]);
        if (!is_in(takes[i], node->refs, node->ref_names))
            put(&missing, takes[i]);
    }
    for (int i = 0; i < node->refs; i++) {
        put(&got, node->ref_names[i]);
        if (!is_in(node->ref_names[i], n, takes))
            put(&unknown, node->ref_names[i]);
    }
    if (!missing.used && !unknown.used)
        return FDL_OK;
    b->at = node->at;
    b->kind = node->kind;
    return flow_fail(b, FDL_E_ARG, "%s: %s%s takes %s by fdl_flow_using, got %s (missing: %s; unknown: %s)",
                     node->id, node->role, fdl_module_kind(node->taker), some(&wanted), some(&got),
                     some(&missing), some(&unknown));
}

static fdl_status check_node_refs(fdl_flow_builder *b, const graph_node *node)
{
    if (!node->taker)
        return FDL_OK;
    const graph *child = graph_or_null(node->taker);
    const char *const *takes = node->taker->ops->ref_names;
    int n = 0;
    if (!child) {
        while (node->refs && takes && takes[n])
            n++;
        return n ? check_refs(b, node, n, takes) : FDL_OK;
    }
    if (child->inputs == 1 && !node->refs)
        return FDL_OK;
    const char **names = calloc((size_t)child->inputs, sizeof *names);
    if (!names)
        return fdl_fail(FDL_E_OOM, "no memory to check the inputs of %s", node->id);
    for (int i = 1; i < child->inputs; i++)
        names[i - 1] = child->input[i].name;
    fdl_status status = check_refs(b, node, child->inputs - 1, names);
    free(names);
    return status;
}

/* ---- labels of graphs inside --------------------------------------------------------------------------- */

typedef struct labels {
    fdl_flow_builder *b;
    int node; /* the one that is searched */
    name_map met;
    int n, room;
    struct labelled {
        fdl_module *graph;
        int node;
    } * at;
} labels;

static fdl_status check_label(labels *l, fdl_module *m, const char *label)
{
    fdl_flow_builder *b = l->b;
    const graph *g = b->g;
    if (strchr(label, '.'))
        return flow_fail(b, FDL_E_ARG, "the label \"%s\" of a graph inside another one has a dot in it",
                         label);
    int met = name_find(&l->met, label), tag = name_find(&b->names, label);
    if (met >= 0 && l->at[met].graph == m)
        return FDL_OK;
    if (met >= 0)
        return flow_fail(b, FDL_E_ARG, "two different graphs in this flow have the label \"%s\"", label);
    if (tag < -1 || (tag >= 0 && g->tag[tag].node != l->node))
        return flow_fail(b, FDL_E_ARG, "\"%s\" is the label of %s and a tag of another node", label,
                         g->node[l->node].id);
    struct labelled *more = grown(l->at, l->n, &l->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    l->at = more;
    l->at[l->n] = (struct labelled){m, l->node};
    return name_put(&l->met, label, l->n++);
}

/* Down to the first graph on each way. */
static fdl_status find_labels(labels *l, fdl_module *m)
{
    m = m->real;
    const graph *child = graph_or_null(m);
    if (child)
        return child->label ? check_label(l, m, child->label) : FDL_OK;
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        module_part part = module_part_at(m, i);
        if (part.module)
            FDL_TRY(find_labels(l, part.module));
    }
    return FDL_OK;
}

/* The node whose id this is; -1: none. An id ends in the node's number. */
static int node_of_id(const graph *g, const char *id)
{
    const char *digits = strrchr(id, '_');
    if (!digits)
        return -1;
    long number = strtol(digits + 1, NULL, 10);
    return number >= 1 && number <= g->nodes && strcmp(g->node[number - 1].id, id) == 0 ? (int)number - 1
                                                                                        : -1;
}

static fdl_status check_names(labels *l)
{
    fdl_flow_builder *b = l->b;
    const graph *g = b->g;
    for (l->node = 0; l->node < g->nodes; l->node++) {
        b->at = g->node[l->node].at;
        b->kind = g->node[l->node].kind;
        if (g->node[l->node].module)
            FDL_TRY(find_labels(l, g->node[l->node].module));
    }
    for (int i = 0; i < l->n; i++) {
        const graph *child = l->at[i].graph->self;
        int other = node_of_id(g, child->label);
        b->at = g->node[l->at[i].node].at;
        b->kind = g->node[l->at[i].node].kind;
        if (other >= 0 && other != l->at[i].node)
            return flow_fail(b, FDL_E_ARG, "the label \"%s\" is the id of another node", child->label);
    }
    for (int i = 0; i < g->tags; i++) {
        const graph_node *node = &g->node[g->tag[i].node];
        const char *name = g->tag[i].name, *dot = strchr(name, '.');
        int other = node_of_id(g, name);
        b->at = node->at;
        b->kind = node->kind;
        if (other >= 0 && other != g->tag[i].node)
            return flow_fail(b, FDL_E_ARG, "the tag \"%s\" of %s is the id of another node", name, node->id);
        if (!dot || !l->n)
            continue;
        char *first = strndup(name, (size_t)(dot - name));
        int met = first ? name_find(&l->met, first) : -1;
        free(first);
        if (!first)
            return fdl_fail(FDL_E_OOM, "no memory to check the tag \"%s\"", name);
        if (met >= 0)
            return flow_fail(b, FDL_E_ARG,
                             "the tag \"%s\" reads like a path into the graph with the label \"%.*s\"", name,
                             (int)(dot - name), name);
    }
    return FDL_OK;
}

fdl_status flow_check(fdl_flow_builder *b)
{
    FDL_TRY(check_awaited(b));
    for (int i = 0; i < b->g->nodes; i++)
        FDL_TRY(check_node_refs(b, &b->g->node[i]));
    labels l = {.b = b};
    fdl_status status = check_names(&l);
    name_free(&l.met);
    free(l.at);
    b->kind = NULL;
    return status;
}
