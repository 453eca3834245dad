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

static fdl_status check_states(fdl_flow_builder *b)
{
    text missing = {0};
    const graph_state *first = NULL;
    for (int i = 0; i < b->g->states; i++) {
        const graph_state *s = &b->g->state[i];
        if (s->node >= 0)
            continue;
        put(&missing, s->name);
        first = first ? first : s;
    }
    if (!first)
        return FDL_OK;
    b->at = first->at;
    b->kind = first->kind;
    return flow_fail(b, FDL_E_ARG, "no step has the tag %s", missing.at);
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

/* Without a plain forward there is nothing that such a module could do alone. */
const char *const *required_refs(fdl_module *m)
{
    const fdl_module_ops *ops = m->ops;
    return ops->ref_names && ops->ref_names[0] && !ops->forward ? ops->ref_names : NULL;
}

static fdl_status check_node_refs(fdl_flow_builder *b, const graph_node *node)
{
    if (!node->taker)
        return FDL_OK;
    const graph *child = graph_or_null(node->taker);
    const char *const *takes = node->taker->ops->ref_names;
    int n = 0;
    if (!child) {
        while ((node->refs || required_refs(node->taker)) && takes && takes[n])
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

/* ---- tags like ids ------------------------------------------------------------------------------------- */

/* The node whose id this is; -1: none. An id ends in the node's number. */
int node_of_id(const graph *g, const char *id)
{
    const char *digits = strrchr(id, '_');
    if (!digits)
        return -1;
    long number = strtol(digits + 1, NULL, 10) - g->first_id;
    return number >= 1 && number <= g->nodes && strcmp(g->node[number - 1].id, id) == 0 ? (int)number - 1
                                                                                        : -1;
}

static fdl_status check_tags(fdl_flow_builder *b)
{
    const graph *g = b->g;
    for (int i = 0; i < g->tags; i++) {
        const graph_node *node = &g->node[g->tag[i].node];
        const char *name = g->tag[i].name;
        int other = node_of_id(g, name);
        if (other < 0 || other == g->tag[i].node)
            continue;
        b->at = node->at;
        b->kind = node->kind;
        return flow_fail(b, FDL_E_ARG, "the tag \"%s\" of %s is the id of another node", name, node->id);
    }
    return FDL_OK;
}

fdl_status flow_check(fdl_flow_builder *b)
{
    FDL_TRY(check_states(b));
    FDL_TRY(check_outputs(b));
    for (int i = 0; i < b->g->nodes; i++)
        FDL_TRY(check_node_refs(b, &b->g->node[i]));
    FDL_TRY(check_tags(b));
    FDL_TRY(tree_check(b));
    b->kind = NULL;
    return FDL_OK;
}
