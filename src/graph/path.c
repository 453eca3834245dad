/* Paths: labels and tags joined by dots, followed downward from the graph that is asked; and what can be done
 * with parameters and modes at one. */
#include "flodl/control.h"
#include "flodl/tree.h"
#include "graph_private.h"

/* ---- following a path ---------------------------------------------------------------------------------- */

/* Names that the segment could have been: labels, then tags that are seen from there. */
typedef struct candidates {
    const graph *g;
    int labels, tags;
    const char **at;
} candidates;

static const char *candidate(const void *list, int i)
{
    return ((const candidates *)list)->at[i];
}

static void closest(const graph *g, bool below, const char *name, char *buf, size_t size)
{
    candidates c = {.g = g, .at = calloc((size_t)(g->inners + g->tags + 1), sizeof *c.at)};
    *buf = 0;
    if (!c.at)
        return;
    int n = 0;
    for (int i = 0; i < g->inners; i++)
        if (g->inner[i]->label)
            c.at[n++] = g->inner[i]->label;
    for (int i = 0; i < g->tags; i++)
        if (!below || !graph_tag_is_internal(g, i))
            c.at[n++] = g->tag[i].name;
    closest_names(name, n, candidate, &c, buf, size);
    free(c.at);
}

typedef struct way {
    const char *function, *path, *rest; /* rest: from the segment that is looked at */
    const graph *start;
    graph *g; /* where rest begins */
} way;

static fdl_status lost(const way *w, const char *segment, size_t length)
{
    char close[256], name[256], where[256] = "this graph";
    snprintf(name, sizeof name, "%.*s", (int)(length < 200 ? length : 200), segment);
    if (w->g != w->start)
        snprintf(where, sizeof where, "the graph \"%s\"", w->g->label);
    int tag = graph_tag_named(w->g, name);
    if (tag >= 0 && segment[length] == '.')
        return fdl_fail(FDL_E_ARG, "%s: in the path \"%s\" \"%s\" is a tag of %s, nothing lies below it",
                        w->function, w->path, name, where);
    closest(w->g, w->g != w->start, name, close, sizeof close);
    return fdl_fail(FDL_E_ARG, "%s: in the path \"%s\" \"%s\" is neither a graph's label nor a tag in %s%s",
                    w->function, w->path, name, where, close);
}

static fdl_status end_at_tag(const way *w, int tag, graph_place *place)
{
    if (w->g != w->start && graph_tag_is_internal(w->g, tag))
        return fdl_fail(FDL_E_ARG, "%s: in the path \"%s\" the tag \"%s\" is internal to the graph \"%s\"",
                        w->function, w->path, w->rest, w->g->label);
    *place = (graph_place){w->g, tag};
    return FDL_OK;
}

static fdl_status check_segments(const char *function, const char *path)
{
    size_t n = strlen(path);
    if (!n || path[0] == '.' || path[n - 1] == '.' || strstr(path, ".."))
        return fdl_fail(FDL_E_ARG, "%s: the path \"%s\" %s", function, path,
                        n ? "has an empty segment" : "is empty");
    return FDL_OK;
}

static graph *labelled(const graph *g, const char *label, size_t length)
{
    for (int i = 0; i < g->inners; i++) {
        const char *own = g->inner[i]->label;
        if (own && strncmp(own, label, length) == 0 && !own[length])
            return g->inner[i];
    }
    return NULL;
}

fdl_status graph_resolve(const char *function, fdl_module *m, const char *path, graph_place *place)
{
    graph *g = graph_of(function, m);
    if (!g)
        return fdl_error_pending();
    if (!path)
        return fdl_null_operand(function, "path");
    FDL_TRY(check_segments(function, path));
    for (way w = {function, path, path, g, g};;) {
        size_t length = strcspn(w.rest, ".");
        graph *child = labelled(w.g, w.rest, length);
        if (!child) {
            int tag = graph_tag_named(w.g, w.rest); /* tags may have dots in them */
            return tag >= 0 ? end_at_tag(&w, tag, place) : lost(&w, w.rest, length);
        }
        if (!w.rest[length]) {
            *place = (graph_place){child, -1};
            return FDL_OK;
        }
        w.g = child;
        w.rest += length + 1;
    }
}

fdl_status graph_resolve_tag(const char *function, fdl_module *m, const char *path, graph_place *place)
{
    FDL_TRY(graph_resolve(function, m, path, place));
    return place->tag >= 0
               ? FDL_OK
               : fdl_fail(FDL_E_ARG, "%s: the path \"%s\" leads to a subgraph, not to a tag", function, path);
}

graph *graph_resolve_graph(const char *function, fdl_module *m, const char *path)
{
    graph_place place;
    if (graph_resolve(function, m, path, &place) != FDL_OK)
        return NULL;
    if (place.tag >= 0)
        return fdl_fail_null(FDL_E_ARG, "%s: the path \"%s\" leads to a tag, not to a subgraph", function,
                             path);
    return place.g;
}

fdl_path_kind fdl_graph_validate_path(fdl_module *m, const char *path)
{
    graph_place place;
    if (graph_resolve(__func__, m, path, &place) != FDL_OK)
        return FDL_PATH_NONE;
    return place.tag < 0 ? FDL_PATH_SUBGRAPH : FDL_PATH_TAG;
}

fdl_module *fdl_graph_subgraph(fdl_module *m, const char *path)
{
    graph *g = graph_resolve_graph(__func__, m, path);
    return g ? fdl_module_of(g) : NULL;
}

fdl_module *fdl_graph_child(fdl_module *m, const char *label)
{
    const graph *g = graph_of(__func__, m);
    if (!g || !label) {
        if (g)
            fdl_null_operand(__func__, "label");
        return NULL;
    }
    graph *child = graph_find_child(g, label);
    if (child)
        return fdl_module_of(child);
    char close[256];
    closest(g, false, label, close, sizeof close);
    return fdl_fail_null(FDL_E_ARG, "%s: no graph in this one has the label \"%s\"%s", __func__, label,
                         close);
}

/* ---- what a place stands for --------------------------------------------------------------------------- */

static bool is_merge(const graph_node *node)
{
    return node->kind && strcmp(node->kind, "fdl_flow_merge") == 0;
}

fdl_status graph_each_module(const graph *g, int node, fdl_status (*fn)(fdl_module *m, void *ctx), void *ctx)
{
    const graph_node *value = &g->node[node];
    if (value->module)
        return fn(value->module, ctx);
    if (is_merge(value)) {
        for (int e = 0; e < g->edges; e++) {
            const graph_edge *edge = &g->edge[e];
            if (edge->to == node && edge->port < value->inputs && g->node[edge->from].module)
                FDL_TRY(fn(g->node[edge->from].module, ctx));
        }
        return FDL_OK;
    }
    int entry = g->input[0].node; /* made by the builder in the first step, which isn't its own */
    for (int i = 0; i < g->nodes; i++)
        if (i != entry && g->node[i].at == value->at && g->node[i].module)
            FDL_TRY(fn(g->node[i].module, ctx));
    return FDL_OK;
}

typedef struct collection {
    const fdl_parameters_opts *opts;
    fdl_params *(*list)(fdl_module *m, const fdl_parameters_opts *opts);
    fdl_params *of; /* those below the modules met so far */
} collection;

static fdl_status collect(fdl_module *m, void *ctx)
{
    collection *c = ctx;
    fdl_parameters_opts all = {.transient = c->opts && c->opts->transient};
    fdl_params *more = c->list(m, &all);
    c->of = c->of ? fdl_params_join(c->of, more) : more;
    return c->of ? FDL_OK : fdl_error_pending();
}

static bool nothing(const fdl_param *p, const char *name, void *ctx)
{
    (void)p, (void)name, (void)ctx;
    return false;
}

static fdl_params *at_path(const char *function, fdl_module *m, const char *path,
                           const fdl_parameters_opts *opts,
                           fdl_params *(*list)(fdl_module *m, const fdl_parameters_opts *opts))
{
    graph_place place;
    if (graph_resolve(function, m, path, &place) != FDL_OK)
        return NULL;
    fdl_params *all = list(fdl_module_of(place.g), opts);
    if (place.tag < 0 || !all)
        return all;
    collection c = {.opts = opts, .list = list};
    if (graph_each_module(place.g, place.g->tag[place.tag].node, collect, &c) != FDL_OK)
        return NULL;
    return c.of ? fdl_params_intersect(all, c.of) : fdl_params_where(all, nothing, NULL);
}

fdl_params *fdl_graph_parameters_at_opt(fdl_module *m, const char *path, const fdl_parameters_opts *opts)
{
    return at_path("fdl_graph_parameters_at", m, path, opts, fdl_parameters_opt);
}

fdl_params *fdl_graph_buffers_at_opt(fdl_module *m, const char *path, const fdl_parameters_opts *opts)
{
    return at_path("fdl_graph_buffers_at", m, path, opts, fdl_buffers_opt);
}

/* ---- freezing and modes -------------------------------------------------------------------------------- */

fdl_status fdl_graph_freeze(fdl_module *m, const char *path)
{
    FDL_SCOPE;
    fdl_params *ps = at_path(__func__, m, path, NULL, fdl_parameters_opt);
    return ps ? fdl_params_freeze(ps) : fdl_error_pending();
}

fdl_status fdl_graph_thaw(fdl_module *m, const char *path)
{
    FDL_SCOPE;
    fdl_params *ps = at_path(__func__, m, path, NULL, fdl_parameters_opt);
    return ps ? fdl_params_thaw(ps) : fdl_error_pending();
}

int fdl_graph_is_frozen(fdl_module *m, const char *path)
{
    FDL_SCOPE;
    fdl_params *ps = at_path(__func__, m, path, NULL, fdl_parameters_opt);
    if (!ps)
        return -1;
    int n = fdl_params_count(ps);
    for (int i = 0; i < n; i++)
        if (!fdl_param_is_frozen(fdl_params_at(ps, i)))
            return 0;
    return n > 0;
}

static fdl_status set_training(fdl_module *m, void *ctx)
{
    return *(bool *)ctx ? fdl_train(m) : fdl_eval(m);
}

fdl_status fdl_graph_set_training_at(fdl_module *m, const char *path, bool training)
{
    graph_place place;
    FDL_TRY(graph_resolve(__func__, m, path, &place));
    if (place.tag < 0)
        return set_training(fdl_module_of(place.g), &training);
    return graph_each_module(place.g, place.g->tag[place.tag].node, set_training, &training);
}

/* ---- values -------------------------------------------------------------------------------------------- */

fdl_status fdl_graph_tagged_at(fdl_module *m, const char *path, fdl_tensor **out)
{
    graph_place place;
    if (out)
        *out = NULL;
    FDL_TRY(graph_resolve_tag(__func__, m, path, &place));
    if (!out)
        return fdl_null_operand(__func__, "out");
    fdl_tensor *value = graph_tag_value(place.g, place.tag);
    if (value && !(*out = fdl_adopt(fdl_keep(value))))
        return fdl_error_pending();
    return FDL_OK;
}

/* Cuts "[-2]" off; without it -1, the last. */
static fdl_status take_index(const char *function, char *path, long *index)
{
    char *open = strrchr(path, '['), *end;
    *index = -1;
    if (!open || path[strlen(path) - 1] != ']')
        return FDL_OK;
    *index = strtol(open + 1, &end, 10);
    if (end == open + 1 || strcmp(end, "]") != 0)
        return fdl_fail(FDL_E_ARG, "%s: \"%s\" in the path is no number", function, open);
    *open = 0;
    return FDL_OK;
}

fdl_status fdl_graph_trace_at(fdl_module *m, const char *path, fdl_tensor **out)
{
    FDL_SCOPE;
    graph *g = graph_of(__func__, m);
    if (out)
        *out = NULL;
    if (!g || !path || !out)
        return !g ? fdl_error_pending() : fdl_null_operand(__func__, path ? "out" : "path");
    FDL_TRY(check_segments(__func__, path));
    size_t size = strlen(path) + 1;
    char *copy = fdl_scope_alloc(size);
    if (!copy)
        return fdl_error_pending();
    memcpy(copy, path, size);
    long index;
    FDL_TRY(take_index(__func__, copy, &index));
    way w = {__func__, path, copy, g, g};
    for (size_t length; w.rest[length = strcspn(w.rest, ".")]; w.rest += length + 1) {
        graph *child = labelled(w.g, w.rest, length);
        if (!child)
            return lost(&w, w.rest, length);
        w.g = child;
    }
    int n;
    fdl_tensor *const *traces = fdl_graph_traces(fdl_module_of(w.g), w.rest, &n);
    if (!n)
        return FDL_OK;
    if (index >= n || index < -n)
        return fdl_fail(FDL_E_RANGE, "%s: \"%s\": there are %d", __func__, path, n);
    *out = fdl_escape(fdl_adopt(fdl_keep(traces[index < 0 ? n + index : index])));
    return *out ? FDL_OK : fdl_error_pending();
}
