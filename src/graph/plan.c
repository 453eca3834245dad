/* The plan: the order of execution, and arrays in which forward finds everything by index. */
#include "graph_private.h"

/* Lists of integers, one for each of n keys, in one array: list k is at[start[k]] up to at[start[k + 1]]. */
typedef struct lists {
    int *start, *at;
} lists;

/* start has counts in [k + 1]; turns them into positions. */
static void sum_counts(int *start, int n)
{
    for (int k = 0; k < n; k++)
        start[k + 1] += start[k];
}

static void *room(arena *a, int n, size_t size)
{
    return arena_alloc(a, size * (size_t)(n ? n : 1));
}

/* Edges by the node that they lead to, and a place to write at each. */
static fdl_status group_edges(arena *a, const graph *g, lists *into)
{
    int *fill = room(a, g->nodes, sizeof *fill);
    into->start = room(a, g->nodes + 1, sizeof(int));
    into->at = room(a, g->edges, sizeof(int));
    if (!fill || !into->start || !into->at)
        return FDL_E_OOM;
    for (int e = 0; e < g->edges; e++)
        into->start[g->edge[e].to + 1]++;
    sum_counts(into->start, g->nodes);
    for (int e = 0; e < g->edges; e++) {
        int to = g->edge[e].to;
        into->at[into->start[to] + fill[to]++] = e;
    }
    return FDL_OK;
}

/* Each node's distinct successors by ascending index, and how many predecessors a node has. */
static fdl_status find_successors(arena *a, const graph *g, lists *next, int *waits)
{
    lists into;
    FDL_TRY(group_edges(a, g, &into));
    int *met = room(a, g->nodes, sizeof *met), *fill = room(a, g->nodes, sizeof *fill);
    next->start = room(a, g->nodes + 1, sizeof(int));
    next->at = room(a, g->edges, sizeof(int));
    if (!met || !fill || !next->start || !next->at)
        return FDL_E_OOM;
    for (int e = 0; e < g->edges; e++)
        next->start[g->edge[e].from + 1]++;
    sum_counts(next->start, g->nodes);
    for (int to = 0; to < g->nodes; to++)
        for (int i = into.start[to]; i < into.start[to + 1]; i++) {
            int from = g->edge[into.at[i]].from;
            if (met[from] == to + 1)
                continue;
            met[from] = to + 1;
            next->at[next->start[from] + fill[from]++] = to;
            waits[to]++;
        }
    for (int k = 0; k < g->nodes; k++) /* lists may be shorter than their room: mark the end */
        if (next->start[k] + fill[k] < next->start[k + 1])
            next->at[next->start[k] + fill[k]] = -1;
    return FDL_OK;
}

/* Rounds of Kahn's algorithm: a node comes when its last predecessor has been counted. order: nodes by place.
 */
static fdl_status find_order(arena *a, graph *g, int *order)
{
    lists next;
    int *waits = room(a, g->nodes, sizeof *waits);
    if (!waits)
        return FDL_E_OOM;
    FDL_TRY(find_successors(a, g, &next, waits));
    int n = 0, level = 0;
    for (int k = 0; k < g->nodes; k++)
        if (!waits[k])
            order[n++] = k;
    for (int from = 0, to; from < n; from = to, level++) {
        to = n;
        for (int p = from; p < to; p++) {
            int k = order[p];
            g->node[k].place = p;
            g->node[k].level = level;
            for (int i = next.start[k]; i < next.start[k + 1] && next.at[i] >= 0; i++)
                if (--waits[next.at[i]] == 0)
                    order[n++] = next.at[i];
        }
    }
    for (int k = 0; n < g->nodes && k < g->nodes; k++)
        if (waits[k])
            return fdl_fail(FDL_E_STATE, "fdl_flow: %s is part of a cycle", g->node[k].id);
    return FDL_OK;
}

/* ---- slots --------------------------------------------------------------------------------------------- */

/* The port's place among the node's slots. A graph wants its further inputs in its own order. */
static int slot_of_port(const graph_node *node, int port)
{
    const graph *child = node->taker ? graph_or_null(node->taker) : NULL;
    if (!child || port < node->inputs)
        return port;
    for (int i = 1; i < child->inputs; i++)
        if (strcmp(child->input[i].name, node->ref_names[port - node->inputs]) == 0)
            return i;
    return port;
}

static fdl_status place_nodes(graph *g, const int *order)
{
    arena *a = &g->memory;
    g->plan = room(a, g->nodes, sizeof *g->plan);
    g->part = room(a, g->nodes, sizeof *g->part);
    if (!g->plan || !g->part)
        return FDL_E_OOM;
    for (int p = 0; p < g->nodes; p++) {
        const graph_node *node = &g->node[order[p]];
        g->plan[p] = (plan_node){.type = node->type,
                                 .module = node->module ? node->module->real : NULL,
                                 .self = node->self,
                                 .inputs = node->inputs,
                                 .refs = node->refs,
                                 .ref_names = node->ref_names,
                                 .slot = g->slots,
                                 .node = order[p],
                                 .cell = node->tag ? g->cells++ : -1};
        g->slots += node->inputs + node->refs;
        if (node->module)
            g->part[g->parts++] = p;
    }
    g->initial = room(a, g->slots, sizeof *g->initial);
    g->carried = room(a, g->states, sizeof *g->carried);
    g->staged = room(a, g->states, sizeof *g->staged);
    g->cell = room(a, g->cells, sizeof *g->cell);
    g->slot = room(a, g->slots, sizeof *g->slot);
    g->source = room(a, g->slots, sizeof *g->source);
    g->is_last = room(a, g->slots, sizeof *g->is_last);
    g->input_slot = room(a, g->inputs, sizeof *g->input_slot);
    g->value = room(a, g->nodes, sizeof *g->value);
    g->root = room(a, g->nodes, sizeof *g->root);
    g->held = room(a, g->nodes, sizeof *g->held);
    if (!g->initial || !g->carried || !g->staged || !g->cell || !g->slot || !g->source || !g->is_last ||
        !g->input_slot || !g->value || !g->root || !g->held)
        return FDL_E_OOM;
    for (int p = 0; p < g->nodes; p++) {
        const graph_node *node = &g->node[order[p]];
        g->plan[p].in = g->slot + g->plan[p].slot;
        if (node->state >= 0)
            g->plan[p].self = &g->carried[node->state];
    }
    for (int i = 0; i < g->inputs; i++) {
        g->input_slot[i] = g->plan[g->node[g->input[i].node].place].slot;
        g->source[g->input_slot[i]] = -1;
    }
    return FDL_OK;
}

/* Who gets a node's value, in order of the edges. */
static fdl_status place_routes(graph *g)
{
    int *start = room(&g->memory, g->nodes + 1, sizeof *start),
        *fill = room(&g->memory, g->nodes, sizeof *fill);
    g->route = room(&g->memory, g->edges, sizeof *g->route);
    if (!start || !fill || !g->route)
        return FDL_E_OOM;
    for (int e = 0; e < g->edges; e++)
        start[g->node[g->edge[e].from].place + 1]++;
    sum_counts(start, g->nodes);
    for (int e = 0; e < g->edges; e++) {
        const graph_node *to = &g->node[g->edge[e].to];
        int from = g->node[g->edge[e].from].place;
        int slot = g->plan[to->place].slot + slot_of_port(to, g->edge[e].port);
        g->route[start[from] + fill[from]++] = slot;
        g->source[slot] = from;
        if (g->node[g->edge[e].from].state >= 0) {
            g->plan[to->place].states++;
            g->plan[to->place].initial = g->initial + g->plan[to->place].slot + to->inputs;
        }
    }
    for (int p = 0; p < g->nodes; p++) {
        g->plan[p].route = start[p];
        g->plan[p].route_end = start[p + 1];
    }
    return FDL_OK;
}

/* Where each value has its last reader. The output's value has none inside. */
static fdl_status place_ends(graph *g)
{
    int *reader = room(&g->memory, g->nodes, sizeof *reader);
    int *start = room(&g->memory, g->nodes + 1, sizeof *start),
        *fill = room(&g->memory, g->nodes, sizeof *fill);
    g->last = room(&g->memory, g->nodes, sizeof *g->last);
    if (!reader || !start || !fill || !g->last)
        return FDL_E_OOM;
    int output = g->node[g->output].place;
    for (int p = 0; p < g->nodes; p++)
        reader[p] = -1;
    for (int p = 0; p < g->nodes; p++)
        for (int i = 0; i < g->plan[p].inputs + g->plan[p].refs; i++)
            if (g->source[g->plan[p].slot + i] >= 0)
                reader[g->source[g->plan[p].slot + i]] = p; /* places ascend: the last one stays */
    for (int p = 0; p < g->nodes; p++) {
        g->plan[p].unread = reader[p] < 0 && p != output;
        if (reader[p] >= 0 && p != output)
            start[reader[p] + 1]++;
    }
    sum_counts(start, g->nodes);
    for (int p = 0; p < g->nodes; p++) {
        g->plan[p].last = start[p];
        g->plan[p].last_end = start[p + 1];
        if (reader[p] >= 0 && p != output)
            g->last[start[reader[p]] + fill[reader[p]]++] = p;
        for (int i = 0; i < g->plan[p].inputs + g->plan[p].refs; i++) {
            int slot = g->plan[p].slot + i, from = g->source[slot];
            g->is_last[slot] = from >= 0 && reader[from] == p && from != output;
        }
    }
    return FDL_OK;
}

fdl_status graph_plan(graph *g)
{
    arena scratch = {0};
    int *order = room(&scratch, g->nodes, sizeof *order);
    fdl_status status = order ? find_order(&scratch, g, order) : FDL_E_OOM;
    if (status == FDL_OK)
        status = place_nodes(g, order);
    arena_free(&scratch);
    if (status == FDL_OK)
        status = place_routes(g);
    return status == FDL_OK ? place_ends(g) : status;
}
