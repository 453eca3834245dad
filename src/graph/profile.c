/* Times of a graph's nodes: a watcher that notes the host's clock and, where values are on a GPU, records events, which are
 * read all at once at the end of the forward. */
#include "profile.h"

#include "flodl/clock.h"
#include "flodl/cuda.h"
#include "flodl/cuda_graph.h"
#include "flodl/stream.h"
#include "observe.h"

enum { no_device = -1 };

/* An event between two nodes. */
typedef struct mark {
    fdl_event *event; /* NULL: none so far */
    int made_for;     /* the device whose event it is */
    int device;       /* on which it was recorded in this forward; no_device: it wasn't */
    int from; /* the mark that stands here: this one, or where nothing was issued since, an earlier one */
} mark;

struct profiler {
    graph_watcher watcher; /* first */
    bool on;               /* it watches */
    bool off_this_time;    /* this forward is being captured */
    bool there;            /* profile holds one */
    double began;
    double *start, *end; /* of each node, on the host's clock */
    mark *mark;          /* [nodes + 1]: mark i stands before node i */
    fdl_profile profile;
    fdl_profile_node *node;
    fdl_profile_level *level;
    series_store timings;
};

typedef struct profiler profiler;

/* ---- events -------------------------------------------------------------------------------------------- */

static fdl_status record_on(fdl_event *e, int device)
{
    if (device == fdl_cuda_current())
        return fdl_cuda_event_record(e);
    fdl_stream *s = fdl_cuda_stream_current(FDL_CUDA(device));
    fdl_status status = s ? fdl_cuda_event_record_on(e, s) : FDL_E_DEVICE;
    fdl_cuda_stream_free(s);
    return status;
}

/* Marks, as number i, what was issued so far for x's device. A mark that can't be made leaves the host's times, and no
 * error. */
static void set_mark(mark *marks, int i, fdl_tensor *x)
{
    fdl_device d = fdl_device_of(x);
    mark *m = &marks[i];
    m->device = no_device;
    m->from = i;
    if (d.type != FDL_DEVICE_TYPE_CUDA || fdl_error_pending() != FDL_OK)
        return;
    if (m->event && m->made_for != d.index) {
        fdl_cuda_event_free(m->event);
        m->event = NULL;
    }
    if (!m->event)
        m->event = fdl_cuda_event_new(.timing = true);
    m->made_for = d.index;
    if (m->event && record_on(m->event, d.index) == FDL_OK)
        m->device = d.index;
    else
        fdl_clear_error();
}

/* Seconds between two marks of one device; -1: they aren't. */
static double between(const mark *marks, int first, int last)
{
    const mark *from = &marks[marks[first].from], *to = &marks[marks[last].from];
    double ms;
    if (from->device == no_device || from->device != to->device)
        return -1;
    if (fdl_cuda_event_elapsed_ms(from->event, to->event, &ms) == FDL_OK)
        return ms / 1e3;
    fdl_clear_error();
    return -1;
}

/* ---- watching ------------------------------------------------------------------------------------------ */

static void begin(graph_watcher *w, graph *g)
{
    profiler *p = (profiler *)w;
    p->off_this_time = fdl_cuda_is_capturing();
    if (p->off_this_time)
        return;
    set_mark(p->mark, 0, g->slot[g->input_slot[0]]);
    p->began = fdl_now();
}

static void before(graph_watcher *w, graph *g, int place)
{
    (void)g;
    profiler *p = (profiler *)w;
    /* As it stays where the node gives nothing: a reader of state that is empty. */
    p->mark[place + 1].device = no_device;
    p->mark[place + 1].from = p->mark[place].from;
    p->start[place] = p->end[place] = fdl_now();
}

static fdl_tensor *after(graph_watcher *w, graph *g, int place, fdl_tensor *y)
{
    (void)g;
    profiler *p = (profiler *)w;
    p->end[place] = fdl_now();
    if (!p->off_this_time)
        set_mark(p->mark, place + 1, y);
    return y;
}

/* Waits until every mark has been passed: the last one of each device. */
static void wait_for_marks(profiler *p, int marks)
{
    for (int i = marks - 1; i >= 0; i--) {
        bool last = p->mark[i].device != no_device;
        for (int k = i + 1; k < marks && last; k++)
            last = p->mark[k].device != p->mark[i].device;
        if (last && fdl_cuda_event_synchronize(p->mark[i].event) != FDL_OK) {
            p->mark[i].device = no_device;
            fdl_clear_error();
        }
        if (last) /* nearly always all are of one device */
            p->profile.on_device = true;
        if (last && i == marks - 1 && p->mark[0].device == p->mark[i].device)
            break;
    }
}

static void end(graph_watcher *w, graph *g, bool succeeded)
{
    profiler *p = (profiler *)w;
    fdl_profile *f = &p->profile;
    if (!succeeded || p->off_this_time || fdl_error_pending() != FDL_OK)
        return;
    f->host_seconds = fdl_now() - p->began;
    f->on_device = false;
    wait_for_marks(p, g->nodes + 1);
    for (int i = 0; i < g->nodes; i++) {
        fdl_profile_node *n = &p->node[i];
        n->host_seconds = p->end[i] - p->start[i];
        n->seconds = between(p->mark, i, i + 1);
        if (n->seconds < 0)
            n->seconds = n->host_seconds;
    }
    int from = 0;
    for (int i = 0; i < f->levels; i++) {
        fdl_profile_level *l = &p->level[i];
        int to = from + l->nodes;
        l->sum = 0;
        for (int k = from; k < to; k++)
            l->sum += p->node[k].seconds;
        l->seconds = between(p->mark, from, to);
        if (l->seconds < 0)
            l->seconds = p->end[to - 1] - p->start[from];
        l->parallelism = l->nodes > 1 && l->seconds > 0 ? l->sum / l->seconds : 1;
        from = to;
    }
    f->seconds = between(p->mark, 0, g->nodes);
    if (f->seconds < 0)
        f->seconds = f->host_seconds;
    p->there = true;
}

/* ---- on and off ---------------------------------------------------------------------------------------- */

static const char *const *tags_of(graph *g, int node, int *n)
{
    *n = 0;
    for (int i = 0; i < g->tags; i++)
        *n += g->tag[i].node == node;
    const char **tag = arena_alloc(&g->memory, sizeof *tag * (size_t)(*n + 1));
    for (int i = 0, k = 0; tag && i < g->tags; i++)
        if (g->tag[i].node == node)
            tag[k++] = g->tag[i].name;
    return tag;
}

/* All that a profile needs lives as long as the graph: a profiled forward allocates nothing. */
static profiler *profiler_new(graph *g)
{
    size_t n = (size_t)g->nodes;
    int levels = g->nodes ? g->node[g->plan[g->nodes - 1].node].level + 1 : 0;
    profiler *p = arena_alloc(&g->memory, sizeof *p);
    if (!p || !(p->start = arena_alloc(&g->memory, sizeof *p->start * n)) ||
        !(p->end = arena_alloc(&g->memory, sizeof *p->end * n)) ||
        !(p->mark = arena_alloc(&g->memory, sizeof *p->mark * (n + 1))) ||
        !(p->node = arena_alloc(&g->memory, sizeof *p->node * n)) ||
        !(p->level = arena_alloc(&g->memory, sizeof *p->level * (size_t)levels)))
        return NULL;
    for (int i = 0; i < g->nodes; i++) {
        const graph_node *node = &g->node[g->plan[i].node];
        fdl_profile_node *made = &p->node[i];
        *made = (fdl_profile_node){.id = node->id, .level = node->level};
        made->tag = tags_of(g, g->plan[i].node, &made->tags);
        if (!made->tag)
            return NULL;
        p->level[node->level].level = node->level;
        p->level[node->level].nodes++;
        p->mark[i].device = no_device;
    }
    p->mark[n].device = no_device;
    p->profile = (fdl_profile){.nodes = g->nodes, .node = p->node, .levels = levels, .level = p->level};
    p->watcher = (graph_watcher){.begin = begin, .before = before, .after = after, .end = end};
    return p;
}

fdl_status fdl_graph_enable_profiling(fdl_module *m)
{
    graph *g = graph_of(__func__, m);
    if (!g || (!g->profiler && !(g->profiler = profiler_new(g))))
        return fdl_error_pending();
    if (!g->profiler->on)
        graph_watch(g, &g->profiler->watcher);
    g->profiler->on = true;
    return FDL_OK;
}

fdl_status fdl_graph_disable_profiling(fdl_module *m)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    profiler *p = g->profiler;
    if (!p || !p->on)
        return FDL_OK;
    graph_unwatch(g, &p->watcher);
    p->on = p->there = false;
    return FDL_OK;
}

bool fdl_graph_profiling(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g && g->profiler && g->profiler->on;
}

void graph_profiler_free(graph *g)
{
    profiler *p = g->profiler;
    if (!p)
        return;
    for (int i = 0; i <= g->nodes; i++)
        fdl_cuda_event_free(p->mark[i].event);
    series_store_free(&p->timings);
    g->profiler = NULL;
}

/* ---- one forward --------------------------------------------------------------------------------------- */

const fdl_profile *graph_profile(const graph *g)
{
    return g->profiler && g->profiler->there ? &g->profiler->profile : NULL;
}

series_store *graph_timings(graph *g)
{
    return g->profiler ? &g->profiler->timings : NULL;
}

const fdl_profile *fdl_graph_last_profile(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? graph_profile(g) : NULL;
}

static double time_of_tag(const graph *g, int tag)
{
    const fdl_profile *f = graph_profile(g);
    return f ? f->node[g->node[g->tag[tag].node].place].seconds : 0;
}

double fdl_graph_timing(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (!g || !tag) {
        if (g)
            fdl_null_operand(__func__, "tag");
        return 0;
    }
    int i = name_find(&g->names, tag);
    return i < 0 ? 0 : time_of_tag(g, i);
}

/* ---- over the epochs ----------------------------------------------------------------------------------- */

/* What a list of names stands for. */
typedef struct chosen {
    const char *function;
    bool all_tags; /* names must be tags; otherwise series, those that there are */
    int n, room;
    series **at;
} chosen;

static fdl_status choose(graph *g, const char *name, void *ctx)
{
    chosen *c = ctx;
    series_store *st = graph_timings(g);
    if (c->all_tags && graph_find_tag(c->function, g, name) < 0)
        return fdl_error_pending();
    series *s = c->all_tags ? series_get(st, name) : st ? series_find(st, name) : NULL;
    if (!s)
        return c->all_tags ? fdl_error_pending() : FDL_OK;
    for (int i = 0; i < c->n; i++)
        if (c->at[i] == s)
            return FDL_OK;
    series **at = grown(c->at, c->n, &c->room, sizeof *at);
    if (!at)
        return FDL_E_OOM;
    c->at = at;
    c->at[c->n++] = s;
    return FDL_OK;
}

static fdl_status collect_all(graph *g)
{
    series_store *st = graph_timings(g);
    for (int i = 0; i < g->tags; i++)
        if (g->node[g->tag[i].node].tag == g->tag[i].name) {
            double seconds = time_of_tag(g, i);
            series *s = series_get(st, g->tag[i].name);
            if (!s)
                return fdl_error_pending();
            FDL_TRY(series_add(st, s, 1, &seconds, 1));
        }
    return FDL_OK;
}

static fdl_status collect_named(graph *g, int n, const char *const *names)
{
    series_store *st = graph_timings(g);
    chosen c = {.function = "fdl_graph_collect_timings", .all_tags = true};
    fdl_status status = observed_each(c.function, g, n, names, choose, &c);
    for (int i = 0; i < c.n && status == FDL_OK; i++) {
        double seconds = time_of_tag(g, name_find(&g->names, c.at[i]->name));
        if (seconds > 0)
            status = series_add(st, c.at[i], 1, &seconds, 1);
    }
    free(c.at);
    return status;
}

fdl_status fdl_graph_collect_timings_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_collect_timings", m);
    if (!g)
        return fdl_error_pending();
    if (!g->profiler || !g->profiler->on)
        return fdl_fail(FDL_E_STATE,
                        "fdl_graph_collect_timings: profiling is off; fdl_graph_enable_profiling first");
    if (n)
        return collect_named(g, n, names);
    return graph_profile(g) ? collect_all(g) : FDL_OK;
}

fdl_status fdl_graph_flush_timings_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_flush_timings", m);
    if (!g)
        return fdl_error_pending();
    series_store *st = graph_timings(g);
    chosen c = {.function = "fdl_graph_flush_timings"};
    fdl_status status = observed_each(c.function, g, n, names, choose, &c);
    if (status == FDL_OK && st && (!n || c.n))
        status = series_flush(st, c.n, n ? c.at : NULL,
                              (series_stamp){g->begun ? graph_now(g) - g->began : 0, fdl_now_utc()});
    free(c.at);
    return status;
}

fdl_status fdl_graph_reset_timing_trend_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_reset_timing_trend", m);
    if (!g)
        return fdl_error_pending();
    series_store *st = graph_timings(g);
    chosen c = {.function = "fdl_graph_reset_timing_trend"};
    fdl_status status = observed_each(c.function, g, n, names, choose, &c);
    for (int i = 0; st && status == FDL_OK && i < (n ? c.n : st->n); i++)
        series_forget(n ? c.at[i] : st->at[i]);
    if (st && status == FDL_OK)
        series_store_forgot(st);
    free(c.at);
    return status;
}

const fdl_trend *fdl_graph_timing_trend(fdl_module *m, const char *tag)
{
    graph *g = graph_of(__func__, m);
    if (!g || !tag) {
        if (g)
            fdl_null_operand(__func__, "tag");
        return NULL;
    }
    if (!g->profiler && !(g->profiler = profiler_new(g)))
        return NULL;
    series *s = series_get(&g->profiler->timings, tag);
    return s ? &s->history : NULL;
}

const fdl_trends *fdl_graph_timing_trends_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_timing_trends", m);
    if (!g)
        return NULL;
    const series_store *st = graph_timings(g);
    chosen c = {.function = "fdl_graph_timing_trends"};
    const fdl_trends *trends = NULL;
    if (observed_each(c.function, g, n, names, choose, &c) == FDL_OK) {
        int count = n ? c.n : st ? st->n : 0;
        series *const *which = n ? c.at : st ? st->at : NULL;
        const fdl_trend **at = calloc((size_t)count + 1, sizeof *at);
        for (int i = 0; at && i < count; i++)
            at[i] = &which[i]->history;
        trends =
            at ? fdl_trends_of(count, at) : fdl_fail_null(FDL_E_OOM, "fdl_graph_timing_trends: no memory");
        free(at);
    }
    free(c.at);
    return trends;
}

fdl_status graph_profiler_end_step(graph *g)
{
    return graph_profile(g) ? collect_all(g) : FDL_OK;
}

fdl_status graph_profiler_end_epoch(fdl_module *m)
{
    return fdl_graph_profiling(m) ? fdl_graph_flush_timings_of(m, 0, NULL) : FDL_OK;
}
