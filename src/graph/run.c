/* Forward: the plan from its first node to its last. Nothing here looks anything up or allocates. */
#include "flodl/watch.h"
#include "graph_private.h"

/* One name of the value of place p less; the last one frees it. */
static inline void let_go(graph *g, int p)
{
    int root = g->root[p];
    if (--g->held[root] == 0)
        fdl_drop(g->value[root]); /* does nothing to a graph's input, a parameter, a kept tensor */
}

static fdl_tensor *without_history(const plan_node *n, fdl_tensor *y)
{
    if (!fdl_requires_grad(y))
        return y;
    fdl_tensor *bare = fdl_detach(y);
    for (int i = 0; i < n->inputs + n->refs; i++)
        if (n->in[i] == y)
            return bare;
    fdl_drop(y);
    return bare;
}

/* What goes on; NULL: it failed. */
static fdl_tensor *keep_tagged(graph *g, const plan_node *n, fdl_tensor *y)
{
    if (n->stops)
        y = without_history(n, y);
    return y && module_keep(&g->cell[n->cell], y) == FDL_OK ? y : NULL;
}

/* y is what node p made: to its readers, then frees what nobody reads any more. */
static inline bool hand_on(graph *g, int p, fdl_tensor *y)
{
    const plan_node *n = &g->plan[p];
    if (FDL_UNLIKELY(n->cell >= 0) && !(y = keep_tagged(g, n, y)))
        return false;
    int root = p;
    for (int i = 0; i < n->inputs + n->refs; i++)
        if (n->in[i] == y && g->source[n->slot + i] >= 0 && g->value[g->source[n->slot + i]] == y)
            root = g->root[g->source[n->slot + i]];
    g->root[p] = root;
    g->held[p] = 0;
    g->held[root]++;
    g->value[p] = y;
    for (int i = n->route; i < n->route_end; i++)
        g->slot[g->route[i]] = y;
    for (int i = n->last; i < n->last_end; i++)
        let_go(g, g->last[i]);
    if (n->unread)
        let_go(g, p);
    return true;
}

bool graph_may_change(const graph *g, const plan_node *p, int i)
{
    fdl_tensor *x = p->in[i];
    int slot = p->slot + i;
    if (!g->is_last[slot] || g->held[g->root[g->source[slot]]] != 1)
        return false;
    for (int k = 0; k < p->inputs + p->refs; k++)
        if (k != i && p->in[k] == x)
            return false;
    return fdl_is_mine(x) && fdl_is_sole(x) && !fdl_requires_grad(x);
}

static fdl_tensor *wrong_count(const graph *g, int n)
{
    char names[512];
    size_t used = 0;
    names[0] = 0;
    for (int i = 0; i < g->inputs && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", g->input[i].name);
    return fdl_fail_null(FDL_E_ARG, "this graph%s%s%s takes %d input%s (%s), got %d", g->label ? " \"" : "",
                         g->label ? g->label : "", g->label ? "\"" : "", g->inputs, g->inputs == 1 ? "" : "s",
                         names, n);
}

static inline fdl_tensor *run_node(graph *g, const plan_node *n)
{
    if (FDL_UNLIKELY(n->states))
        return graph_run_with_state(g, n);
    return graph_run_node(g, n);
}

fdl_tensor *graph_run_node(graph *g, const plan_node *n)
{
    if (n->type->bare)
        return n->type->run(g, n);
    fdl_scope *scope = fdl_scope_open();
    if (FDL_UNLIKELY(!scope))
        return NULL;
    fdl_tensor *y = fdl_escape(n->type->run(g, n));
    fdl_scope_close(scope);
    return y;
}

/* ---- those who look on --------------------------------------------------------------------------------- */

void graph_watch(graph *g, graph_watcher *w)
{
    graph_watcher **at = &g->watchers;
    while (*at)
        at = &(*at)->next;
    w->next = NULL;
    *at = w;
}

void graph_unwatch(graph *g, graph_watcher *w)
{
    graph_watcher **at = &g->watchers;
    while (*at && *at != w)
        at = &(*at)->next;
    if (*at)
        *at = w->next;
    if (w->free)
        w->free(w);
}

static void tell_begin(graph *g)
{
    for (graph_watcher *w = g->watchers; w; w = w->next)
        if (w->begin)
            w->begin(w, g);
}

static void tell_end(graph *g, bool succeeded)
{
    for (graph_watcher *w = g->watchers; w; w = w->next)
        if (w->end)
            w->end(w, g, succeeded);
}

static bool is_operand(const plan_node *n, const fdl_tensor *y)
{
    for (int i = 0; i < n->inputs + n->refs; i++)
        if (n->in[i] == y)
            return true;
    return false;
}

static fdl_tensor *run_watched(graph *g, const plan_node *n)
{
    int place = (int)(n - g->plan);
    for (graph_watcher *w = g->watchers; w; w = w->next)
        if (w->before)
            w->before(w, g, place);
    bool noted = fdl_watch_running();
    if (noted) {
        char title[256];
        fdl_watch_enter(node_title(&g->node[n->node], title, sizeof title));
    }
    fdl_tensor *y = run_node(g, n);
    if (noted)
        fdl_watch_leave();
    for (graph_watcher *w = g->watchers; y && w; w = w->next) {
        fdl_tensor *z = w->after ? w->after(w, g, place, y) : y;
        if (z != y && !is_operand(n, y))
            fdl_drop(y);
        y = z;
    }
    return y;
}

/* ---- forward ------------------------------------------------------------------------------------------- */

static bool is_empty_state(const plan_node *n)
{
    const module_slot *s = n->self;
    return n->type == &state_node && !s->value && !s->initial;
}

/* Node n failed. */
static bool failed(graph *g, const plan_node *n)
{
    char title[256];
    if (g->prefix && n->states)
        graph_blame_state(g, n);
    if (g->prefix)
        fdl_error_prefix("%s: ", node_title(&g->node[n->node], title, sizeof title));
    if (g->watchers)
        tell_end(g, false);
    return false;
}

/* All nodes, or those that are needed. */
static inline bool run_nodes(graph *g, fdl_tensor *const *inputs, const bool *needed)
{
    g->prefix = fdl_error_pending() == FDL_OK;
    if (FDL_UNLIKELY(!g->begun))
        graph_begun(g);
    graph_drop_tags(g);
    for (int i = 0; i < g->inputs; i++)
        g->slot[g->input_slot[i]] = inputs[i];
    if (FDL_UNLIKELY(g->watchers != NULL))
        tell_begin(g);
    bool told = g->watchers || fdl_watch_running();
    for (int p = 0; p < g->nodes; p++) {
        const plan_node *node = &g->plan[p];
        if (needed && !needed[p])
            continue;
        fdl_tensor *y = FDL_UNLIKELY(told) ? run_watched(g, node) : run_node(g, node);
        if (FDL_UNLIKELY((!y && !is_empty_state(node)) || !hand_on(g, p, y)))
            return failed(g, node);
    }
    return true;
}

fdl_tensor *graph_forward_local(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    graph *g = m->self;
    if (FDL_UNLIKELY(n != g->inputs))
        return wrong_count(g, n);
    if (FDL_UNLIKELY(!run_nodes(g, inputs, NULL)))
        return NULL;
    bool good = FDL_LIKELY(!g->states) || graph_commit_state(g) == FDL_OK;
    if (FDL_UNLIKELY(g->watchers != NULL))
        tell_end(g, good);
    return good ? g->value[g->node[g->output].place] : NULL;
}

fdl_tensor *graph_forward(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    const graph *g = m->self;
    if (FDL_UNLIKELY(g->override != NULL))
        return g->override(g->override_ctx, m, n, inputs);
    return graph_forward_local(m, n, inputs);
}

fdl_status graph_run_needed(fdl_module *m, fdl_tensor *const *inputs)
{
    graph *g = m->real->self;
    if (!run_nodes(g, inputs, g->needed))
        return fdl_error_pending();
    if (g->watchers)
        tell_end(g, true);
    return FDL_OK;
}
