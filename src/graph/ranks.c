/* Positions of a large graph's nodes: a row a level, the rows below each other in columns, so that the drawing of a long
 * chain isn't a ribbon. In time that grows little faster than the graph. */
#include "draw_private.h"

#include <math.h>

enum { row_height = 76, column_gap = 60, node_gap = 24 };

static double width_of(const graph_node *node)
{
    size_t letters = strlen(node->id), tag = node->tag ? strlen(node->tag) + 1 : 0;
    if (tag > letters)
        letters = tag;
    return 40 + 6.5 * (double)(letters > 12 ? letters : 12);
}

/* Edges by the node that they lead to: node k's come from at[start[k]] up to at[start[k + 1]]. */
typedef struct sources {
    int *start, *at;
} sources;

static bool find_sources(const graph *g, arena *a, sources *s)
{
    int *fill = arena_alloc(a, sizeof *fill * (size_t)g->nodes);
    s->start = arena_alloc(a, sizeof *s->start * (size_t)(g->nodes + 1));
    s->at = arena_alloc(a, sizeof *s->at * (size_t)(g->edges + 1));
    if (!fill || !s->start || !s->at)
        return false;
    for (int e = 0; e < g->edges; e++)
        s->start[g->edge[e].to + 1]++;
    for (int k = 0; k < g->nodes; k++)
        s->start[k + 1] += s->start[k];
    for (int e = 0; e < g->edges; e++) {
        int to = g->edge[e].to;
        s->at[s->start[to] + fill[to]++] = g->edge[e].from;
    }
    return true;
}

typedef struct seat {
    double wish, width;
    int node;
} seat;

static int by_wish(const void *a, const void *b)
{
    const seat *x = a, *y = b;
    return x->wish < y->wish ? -1 : x->wish > y->wish ? 1 : (x->node > y->node) - (x->node < y->node);
}

/* The row of n seats, in order of what they read, x from its middle. Returns its width. */
static double place_row(const graph *g, const sources *s, int n, seat *row, place *at)
{
    double all = -node_gap;
    for (int i = 0; i < n; i++) {
        int k = row[i].node, reads = s->start[k + 1] - s->start[k];
        double sum = 0;
        for (int r = s->start[k]; r < s->start[k + 1]; r++)
            sum += at[s->at[r]].x;
        row[i].wish = reads ? sum / reads : 0;
        row[i].width = width_of(&g->node[k]);
        all += row[i].width + node_gap;
    }
    qsort(row, (size_t)n, sizeof *row, by_wish);
    double x = -all / 2;
    for (int i = 0; i < n; i++) {
        at[row[i].node].x = x + row[i].width / 2;
        x += row[i].width + node_gap;
    }
    return all;
}

place *ranks_place(const graph *g, arena *a)
{
    sources s;
    place *at = arena_alloc(a, sizeof *at * (size_t)g->nodes);
    seat *row = arena_alloc(a, sizeof *row * (size_t)g->nodes);
    if (!at || !row || !find_sources(g, a, &s))
        return NULL;
    double widest = 0;
    int levels = 0;
    for (int from = 0, to; from < g->nodes; from = to, levels++) {
        for (to = from; to < g->nodes && g->node[g->plan[to].node].level == levels; to++)
            row[to - from].node = g->plan[to].node;
        double width = place_row(g, &s, to - from, row, at);
        widest = width > widest ? width : widest;
    }
    /* Columns that make it about four thirds as wide as high. */
    double columns = round(sqrt(levels * (double)row_height * 4 / 3 / (widest + column_gap)));
    int rows = columns > 1 ? (int)ceil(levels / columns) : levels;
    for (int k = 0; k < g->nodes; k++) {
        int level = g->node[k].level;
        at[k].x += (level / rows) * (widest + column_gap);
        at[k].y = -(double)row_height * (level % rows);
    }
    return at;
}
