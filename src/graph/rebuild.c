/* Graphs made of the steps of another one: the part up to a tag, the part behind it, the whole around the same modules or
 * around copies. Each step says what it was made with (kind.h); so it is made again, with other modules in it. */
#include "rebuild.h"

#include "flodl/nn.h"
#include "flodl/surgery.h"
#include "flodl/tree.h"
#include "stock.h"

/* ---- making a graph again ------------------------------------------------------------------------------- */

static bool is_one_of(const fdl_module *step, const char *const *kinds)
{
    for (; *kinds; kinds++)
        if (strcmp(step->ops->kind, *kinds) == 0)
            return true;
    return false;
}

static const char *const modifiers[] = {"fdl_flow_tag", "fdl_flow_tag_group", "fdl_flow_using", NULL};
static const char *const declarations[] = {"fdl_flow_input",   "fdl_flow_label",  "fdl_flow_internal",
                                           "fdl_flow_verbose", "fdl_flow_output", NULL};
/* Of the whole graph only. */
static const char *const of_whole[] = {"fdl_flow_label", "fdl_flow_verbose", "fdl_flow_output", NULL};

/* Whether a part has what an internal declaration speaks of. */
static bool has_tag(const graph *g, const fdl_module *internal, int from, int to)
{
    const char *name = *(const char *const *)internal->args;
    int i = name_find(&g->names, name);
    if (i < -1)
        i = name_find(&g->names, g->group[-2 - i].members[0]);
    int at = i < 0 ? -1 : g->node[g->tag[i].node].at;
    return at >= from && at < to;
}

static bool is_wanted(const graph *g, const fdl_module *step, int from, int to, bool whole)
{
    if (whole)
        return true;
    return strcmp(step->ops->kind, "fdl_flow_internal") == 0 ? has_tag(g, step, from, to)
                                                             : !is_one_of(step, of_whole);
}

fdl_status replay(fdl_flow_builder *b, const graph *g, int from, int to, make_child *make, void *ctx)
{
    bool whole = from == 0 && to == graph_steps(g);
    for (int i = 0, at = 0; i < g->owned; i++) {
        fdl_module *step = g->own[i]->real;
        if (step->kind == &entry_kind)
            continue;
        bool is_step = step_type_of(step) != NULL;
        if (at >= from && at < to && (!is_step || is_wanted(g, step, from, to, whole))) {
            fdl_module *again = is_step ? module_remake(step, make, ctx) : make(g->own[i], ctx);
            if (!again)
                return fdl_error_pending();
            FDL_TRY(fdl_flow_add(b, again));
        }
        at++;
    }
    return FDL_OK;
}

int graph_steps(const graph *g)
{
    int n = 0;
    for (int i = 0; i < g->owned; i++)
        n += g->own[i]->real->kind != &entry_kind;
    return n;
}

/* Takes b over. */
static fdl_module *built(fdl_flow_builder *b, fdl_status status)
{
    if (status != FDL_OK)
        b->failed = status;
    return fdl_flow_build(b);
}

static fdl_module *same(fdl_module *m, void *ctx)
{
    (void)ctx;
    return fdl_module_share(m);
}

fdl_module *fdl_graph_extract(fdl_module *m, const char *path)
{
    graph *g = path ? graph_resolve_graph(__func__, m, path) : graph_of(__func__, m);
    fdl_flow_builder *b = g ? fdl_flow_new() : NULL;
    if (b)
        b->g->first_id = g->first_id;
    return b ? built(b, replay(b, g, 0, graph_steps(g), same, NULL)) : NULL;
}

/* ---- up to a tag ---------------------------------------------------------------------------------------- */

/* The step that makes a node's value, with what modifies it: the position of its last modifier. */
static int end_of_step(const graph *g, int node)
{
    int at = 0, end = g->node[node].at;
    for (int i = 0; i < g->owned; i++) {
        const fdl_module *step = g->own[i]->real;
        if (step->kind == &entry_kind)
            continue;
        if (at > end && is_one_of(step, modifiers))
            end = at;
        else if (at > g->node[node].at && !is_one_of(step, declarations))
            break;
        at++;
    }
    return end;
}

fdl_module *fdl_graph_until(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (g && !tag)
        fdl_null_operand(__func__, "tag");
    int i = g && tag ? graph_find_tag(__func__, g, tag) : -1;
    fdl_flow_builder *b = i >= 0 ? fdl_flow_new() : NULL;
    if (!b)
        return NULL;
    b->g->first_id = g->first_id;
    bool before = fdl_error_pending() != FDL_OK;
    fdl_status status = replay(b, g, 0, end_of_step(g, g->tag[i].node) + 1, same, NULL);
    if (status == FDL_OK) { /* the value may stand aside of the stream, or on one of several */
        b->stream = g->tag[i].node;
        b->branches = 0;
    }
    fdl_module *part = built(b, status);
    if (!part && !before)
        fdl_error_prefix("fdl_graph_until: \"%s\": ", tag);
    return part;
}

/* ---- behind a tag --------------------------------------------------------------------------------------- */

/* Values from before the cut that are wanted behind it, by their nodes: they become inputs. */
static fdl_status find_crossing(const graph *g, int cut, int node, bool *crosses)
{
    for (int e = 0; e < g->edges; e++) {
        const graph_edge *edge = &g->edge[e];
        const graph_node *from = &g->node[edge->from], *to = &g->node[edge->to];
        if (from->at > cut || to->at <= cut || edge->from == node)
            continue;
        if (!from->tag)
            return fdl_fail(FDL_E_ARG,
                            "%s needs the value of %s, which stands before the cut and has no tag by which "
                            "it could become an input",
                            to->id, from->id);
        crosses[edge->from] = true;
    }
    return FDL_OK;
}

/* All tags of a node of g, for a node of the part. */
static fdl_status add_tags(fdl_flow_builder *b, const graph *g, int node, int as)
{
    for (int i = 0; i < g->tags; i++)
        if (g->tag[i].node == node && name_find(&b->names, g->tag[i].name) == -1)
            FDL_TRY(flow_tag(b, g->tag[i].name, as));
    return FDL_OK;
}

static fdl_status begin_behind(fdl_flow_builder *b, const graph *g, int node, const bool *crosses)
{
    FDL_TRY(fdl_flow_add(b, fdl_nn_identity()));
    for (int i = 0; i < g->tags; i++)
        if (g->tag[i].node == node)
            FDL_TRY(fdl_flow_add(b, fdl_flow_tag(g->tag[i].name)));
    for (int k = 0; k < g->nodes; k++)
        if (crosses[k]) {
            FDL_TRY(fdl_flow_add(b, fdl_flow_input_of(1, &g->node[k].tag)));
            FDL_TRY(add_tags(b, g, k, b->g->nodes - 1));
        }
    return FDL_OK;
}

fdl_module *fdl_graph_from(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (g && !tag)
        fdl_null_operand(__func__, "tag");
    int i = g && tag ? graph_find_tag(__func__, g, tag) : -1;
    if (i < 0)
        return NULL;
    int node = g->tag[i].node, cut = end_of_step(g, node), before_it = 0;
    bool clean = fdl_error_pending() == FDL_OK, *crosses = calloc((size_t)g->nodes, sizeof *crosses);
    fdl_flow_builder *b = crosses ? fdl_flow_new() : NULL;
    if (!b) {
        free(crosses);
        return fdl_fail_null(FDL_E_OOM, "fdl_graph_from: no memory");
    }
    fdl_status status = find_crossing(g, cut, node, crosses);
    int inputs = 1;
    for (int k = 0; k < g->nodes; k++) {
        before_it += g->node[k].at <= cut;
        inputs += crosses[k];
    }
    b->g->first_id =
        g->first_id + before_it - inputs; /* so that nodes behind the cut have the ids that they have in g */
    if (status == FDL_OK)
        status = begin_behind(b, g, node, crosses);
    if (status == FDL_OK)
        status = replay(b, g, cut + 1, graph_steps(g), same, NULL);
    free(crosses);
    fdl_module *part = built(b, status);
    if (!part && clean)
        fdl_error_prefix("fdl_graph_from: \"%s\": ", tag);
    return part;
}
