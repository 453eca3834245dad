/* Observation: the metrics of a graph, and of the graphs below it. */
#include "observe.h"

#include "flodl/clock.h"
#include "flodl/cuda_graph.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

#include <math.h>

/* ---- what a graph has ---------------------------------------------------------------------------------- */

struct observation *observed(graph *g)
{
    if (!g->observed && !(g->observed = calloc(1, sizeof *g->observed)))
        return fdl_fail_null(FDL_E_OOM, "no memory for the metrics of a graph");
    return g->observed;
}

void graph_observed_free(graph *g)
{
    if (g->observed)
        series_store_free(&g->observed->store);
    free(g->observed);
    g->observed = NULL;
}

graph *observed_child(const graph *g, int i)
{
    for (int k = 0; k < g->inners; k++)
        if (g->inner[k]->label && i-- == 0)
            return g->inner[k];
    return NULL;
}

double graph_now(const graph *g)
{
    return g->observed && g->observed->clock ? g->observed->clock(g->observed->clock_ctx) : fdl_now();
}

void graph_begun(graph *g)
{
    g->begun = true;
    g->began = graph_now(g);
}

fdl_status fdl_graph_set_clock(fdl_module *m, double (*clock)(void *ctx), void *ctx)
{
    graph *g = graph_of(__func__, m);
    struct observation *o = g ? observed(g) : NULL;
    if (!o)
        return fdl_error_pending();
    o->clock = clock;
    o->clock_ctx = ctx;
    return FDL_OK;
}

/* ---- names --------------------------------------------------------------------------------------------- */

static fdl_status check_name(const char *function, const char *name)
{
    if (!name)
        return fdl_null_operand(function, "name");
    const char *fault = series_name_fault(name);
    return fault ? fdl_fail(FDL_E_ARG, "%s: the name of a metric %s", function, fault) : FDL_OK;
}

fdl_status observed_each(const char *function, graph *g, int n, const char *const *names,
                         fdl_status (*fn)(graph *g, const char *name, void *ctx), void *ctx)
{
    if (n < 0)
        return fdl_fail(FDL_E_ARG, "%s: %d names; 0 or more", function, n);
    if (n && !names)
        return fdl_null_operand(function, "names");
    for (int i = 0; i < n; i++)
        FDL_TRY(check_name(function, names[i]));
    for (int i = 0; i < n; i++) {
        int at = name_find(&g->names, names[i]);
        const graph_group *group = at < -1 ? &g->group[-2 - at] : NULL;
        for (int k = 0; k < (group ? group->n : 1); k++)
            FDL_TRY(fn(g, group ? group->members[k] : names[i], ctx));
    }
    return FDL_OK;
}

/* Metrics, each once. */
typedef struct chosen {
    int n, room;
    series **at;
    bool make; /* those that aren't there */
} chosen;

static fdl_status choose(graph *g, const char *name, void *ctx)
{
    chosen *c = ctx;
    series *s = c->make ? series_get(&g->observed->store, name) : series_find(&g->observed->store, name);
    if (!s)
        return c->make ? fdl_error_pending() : FDL_OK;
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

/* ---- recording ----------------------------------------------------------------------------------------- */

static fdl_status check_weight(const char *function, double *weight)
{
    *weight = fdl_opt_double(*weight, 1);
    if (!(*weight > 0) || isinf(*weight))
        return fdl_fail(FDL_E_ARG, "%s: the weight is %g; it must be above 0 and finite", function, *weight);
    return FDL_OK;
}

static fdl_status check_no_capture(const char *function)
{
    if (fdl_cuda_is_capturing())
        return fdl_fail(FDL_E_STATE,
                        "%s: a CUDA graph is being captured, which would do this once and never again with "
                        "its replays: collect and record between the steps, outside the loss function",
                        function);
    return FDL_OK;
}

/* The metric of that name, to record n numbers in. */
static fdl_status metric_for(const char *function, graph *g, const char *name, series **s)
{
    FDL_TRY(check_name(function, name));
    struct observation *o = observed(g);
    if (!o || !(*s = series_get(&o->store, name)))
        return fdl_error_pending();
    if (!g->begun)
        graph_begun(g);
    return FDL_OK;
}

static fdl_status record(const char *function, graph *g, const char *name, int64_t n, const double *values,
                         double weight)
{
    series *s;
    FDL_TRY(check_weight(function, &weight));
    FDL_TRY(metric_for(function, g, name, &s));
    return series_add(&g->observed->store, s, n, values, weight);
}

fdl_status fdl_graph_record_opt(fdl_module *m, const char *name, double value, const fdl_record_opts *opts)
{
    graph *g = graph_of("fdl_graph_record", m);
    if (!g)
        return fdl_error_pending();
    return record("fdl_graph_record", g, name, 1, &value, opts ? opts->weight : 0);
}

fdl_status fdl_graph_record_of(fdl_module *m, const char *name, int64_t n, const double *values)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    if (n < 0)
        return fdl_fail(FDL_E_ARG, "%s: %lld values; 0 or more", __func__, (long long)n);
    if (n && !values)
        return fdl_null_operand(__func__, "values");
    return record(__func__, g, name, n, values, 0);
}

/* The only element as the store wants it: a copy, because a replay, or the next forward, writes where x is. */
static fdl_tensor *waiting_number(fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *row = fdl_reshape(fdl_detach(x), FDL_SHAPE(1));
    return fdl_keep(fdl_to(row, .dtype = FDL_FLOAT64, .copy = true));
}

fdl_status fdl_graph_record_tensor_opt(fdl_module *m, const char *name, fdl_tensor *x,
                                       const fdl_record_opts *opts)
{
    static const char function[] = "fdl_graph_record_tensor";
    graph *g = graph_of(function, m);
    double weight = opts ? opts->weight : 0;
    series *s;
    if (!g || !x)
        return g ? fdl_null_operand(function, "x") : fdl_error_pending();
    if (fdl_numel(x) != 1) {
        char text[256];
        return fdl_fail(FDL_E_SHAPE, "%s: \"%s\" has one number a record, and x is %s", function,
                        name ? name : "?", fdl_describe(x, text, sizeof text));
    }
    FDL_TRY(check_weight(function, &weight));
    FDL_TRY(check_no_capture(function));
    FDL_TRY(metric_for(function, g, name, &s));
    FDL_TRY(series_reserve(&g->observed->store, s, 1, fdl_device_of(x)));
    fdl_tensor *kept = waiting_number(x);
    if (!kept)
        return fdl_error_pending();
    series_add_tensor(&g->observed->store, s, kept, weight);
    return FDL_OK;
}

/* ---- collecting ---------------------------------------------------------------------------------------- */

/* Several elements as one, in a precision that a sum over many of them survives. */
static fdl_tensor *reduced(fdl_tensor *x, fdl_reduce_kind how)
{
    fdl_dtype dtype = fdl_dtype_of(x);
    bool single = dtype == FDL_FLOAT16 || dtype == FDL_BFLOAT16 || dtype == FDL_FLOAT32;
    dtype = single ? FDL_FLOAT32 : FDL_FLOAT64;
    switch (how) {
    case FDL_REDUCE_SUM:
        return fdl_sum(x, .dtype = dtype);
    case FDL_REDUCE_PROD:
        return fdl_prod(x, .dtype = dtype);
    case FDL_REDUCE_MAX:
        return fdl_max(x);
    case FDL_REDUCE_MIN:
        return fdl_min(x);
    case FDL_REDUCE_NORM:
        return fdl_norm(fdl_to_dtype(x, dtype));
    default:
        return fdl_mean(x, .dtype = dtype);
    }
}

/* One collect call: which tags, and what comes of each. */
typedef struct collection {
    const char *function;
    fdl_reduce_kind how;
    double weight;
    bool whole; /* for a histogram: all elements, not one number */
    int n, room;
    struct {
        graph *g;
        int tag;
        fdl_tensor *number; /* kept */
        series *s;
    } * at;
} collection;

static void collection_free(collection *c)
{
    for (int i = 0; i < c->n; i++)
        fdl_free(c->at[i].number);
    free(c->at);
}

static fdl_status want_tag(graph *g, int tag, collection *c)
{
    void *at = grown(c->at, c->n, &c->room, sizeof *c->at);
    if (!at)
        return FDL_E_OOM;
    c->at = at;
    c->at[c->n].g = g;
    c->at[c->n].tag = tag;
    c->at[c->n].number = NULL;
    c->at[c->n++].s = NULL;
    return FDL_OK;
}

static fdl_status want_name(graph *g, const char *name, void *ctx)
{
    collection *c = ctx;
    int tag = graph_find_tag(c->function, g, name);
    return tag < 0 ? fdl_error_pending() : want_tag(g, tag, c);
}

static fdl_status check_value(const collection *c, const char *name, fdl_tensor *x)
{
    char text[256];
    if (fdl_numel(x) == 0)
        return fdl_fail(FDL_E_SHAPE, "%s: \"%s\" has no elements: %s", c->function, name,
                        fdl_describe(x, text, sizeof text));
    if (c->how == FDL_REDUCE_SCALAR && fdl_numel(x) != 1)
        return fdl_fail(FDL_E_SHAPE,
                        "%s: \"%s\" is %s, and FDL_REDUCE_SCALAR takes one element: choose FDL_REDUCE_MEAN "
                        "or another reduction",
                        c->function, name, fdl_describe(x, text, sizeof text));
    return FDL_OK;
}

/* Everything that can fail; what was made belongs to the collection. */
static fdl_status compute(collection *c)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int i = 0; i < c->n; i++) {
        graph *g = c->at[i].g;
        const char *name = g->tag[c->at[i].tag].name;
        fdl_tensor *x = graph_tag_value(g, c->at[i].tag);
        if (!x)
            continue;
        FDL_TRY(check_value(c, name, x));
        FDL_TRY(metric_for(c->function, g, name, &c->at[i].s));
        if (c->whole)
            continue;
        FDL_TRY(series_reserve(&g->observed->store, c->at[i].s, c->n, fdl_device_of(x)));
        bool one = fdl_numel(x) == 1;
        x = fdl_detach(x);
        if (!(c->at[i].number = waiting_number(one ? x : reduced(x, c->how))))
            return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status collect(collection *c)
{
    FDL_TRY(check_no_capture(c->function));
    FDL_TRY(compute(c));
    for (int i = 0; i < c->n; i++) {
        if (!c->at[i].s)
            continue;
        series_store *st = &c->at[i].g->observed->store;
        if (c->whole) {
            FDL_TRY(series_add_histogram(st, c->at[i].s, graph_tag_value(c->at[i].g, c->at[i].tag)));
        } else {
            series_add_tensor(st, c->at[i].s, c->at[i].number, c->weight);
            c->at[i].number = NULL;
        }
    }
    return FDL_OK;
}

static fdl_status start_collection(collection *c, const char *function, const fdl_collect_opts *opts)
{
    *c = (collection){.function = function,
                      .how = opts ? (fdl_reduce_kind)fdl_opt_int(opts->reduce, FDL_REDUCE_MEAN)
                                  : FDL_REDUCE_MEAN,
                      .weight = opts ? opts->weight : 0};
    if ((unsigned)c->how > FDL_REDUCE_SCALAR)
        return fdl_fail(FDL_E_ARG, "%s: %d is no reduction", function, (int)c->how);
    return check_weight(function, &c->weight);
}

fdl_status fdl_graph_collect_of(fdl_module *m, int n, const char *const *names, const fdl_collect_opts *opts)
{
    graph *g = graph_of("fdl_graph_collect", m);
    collection c;
    if (!g)
        return fdl_error_pending();
    FDL_TRY(start_collection(&c, "fdl_graph_collect", opts));
    fdl_status status = observed_each(c.function, g, n, names, want_name, &c);
    if (status == FDL_OK)
        status = collect(&c);
    collection_free(&c);
    return status;
}

fdl_status fdl_graph_collect_histogram_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_collect_histogram", m);
    collection c;
    if (!g)
        return fdl_error_pending();
    FDL_TRY(start_collection(&c, "fdl_graph_collect_histogram", NULL));
    c.whole = true;
    fdl_status status = observed_each(c.function, g, n, names, want_name, &c);
    if (status == FDL_OK)
        status = collect(&c);
    collection_free(&c);
    return status;
}

fdl_status fdl_graph_record_histogram(fdl_module *m, const char *name, fdl_tensor *x)
{
    graph *g = graph_of(__func__, m);
    series *s;
    if (!g || !x)
        return g ? fdl_null_operand(__func__, "x") : fdl_error_pending();
    if (fdl_numel(x) == 0) {
        char text[256];
        return fdl_fail(FDL_E_SHAPE, "%s: x has no elements: %s", __func__,
                        fdl_describe(x, text, sizeof text));
    }
    FDL_TRY(check_no_capture(__func__));
    FDL_TRY(metric_for(__func__, g, name, &s));
    return series_add_histogram(&g->observed->store, s, x);
}

const double *fdl_graph_collected(fdl_module *m, const char *name, int64_t *n)
{
    graph *g = graph_of(__func__, m);
    if (n)
        *n = 0;
    if (!g || check_name(__func__, name) != FDL_OK || !g->observed)
        return NULL;
    series_store *st = &g->observed->store;
    const series *s = series_find(st, name);
    if (!s || !s->n || series_read(1, &st) != FDL_OK)
        return NULL;
    double *values = fdl_scope_alloc(sizeof *values * (size_t)s->n);
    if (!values)
        return NULL;
    memcpy(values, s->value, sizeof *values * (size_t)s->n);
    if (n)
        *n = s->n;
    return values;
}

/* ---- flushing ------------------------------------------------------------------------------------------ */

/* A graph and those below it, each once. */
typedef struct family {
    int n, room;
    graph **at;
} family;

static fdl_status gather(family *f, graph *g, bool below)
{
    for (int i = 0; i < f->n; i++)
        if (f->at[i] == g)
            return FDL_OK;
    graph **at = grown(f->at, f->n, &f->room, sizeof(graph *));
    if (!at)
        return FDL_E_OOM;
    f->at = at;
    f->at[f->n++] = g;
    graph *child;
    for (int i = 0; below && (child = observed_child(g, i)); i++)
        FDL_TRY(gather(f, child, true));
    return FDL_OK;
}

/* One transfer for all of them. */
static fdl_status read_family(const family *f)
{
    series_store **stores = calloc((size_t)f->n, sizeof(series_store *));
    if (!stores)
        return fdl_fail(FDL_E_OOM, "no memory for the flush");
    int n = 0;
    for (int i = 0; i < f->n; i++)
        if (f->at[i]->observed)
            stores[n++] = &f->at[i]->observed->store;
    fdl_status status = series_read(n, stores);
    free(stores);
    return status;
}

static fdl_status flush_one(graph *g, int n, series *const *which)
{
    if (!g->observed)
        return FDL_OK;
    series_stamp stamp = {g->begun ? graph_now(g) - g->began : 0, fdl_now_utc()};
    return series_flush(&g->observed->store, n, which, stamp);
}

static fdl_status flush(const char *function, fdl_module *m, int n, const char *const *names, bool below)
{
    graph *g = graph_of(function, m);
    if (!g || !observed(g))
        return fdl_error_pending();
    chosen c = {0};
    family f = {0};
    fdl_status status = observed_each(function, g, n, names, choose, &c);
    if (status == FDL_OK)
        status = gather(&f, g, below);
    if (status == FDL_OK)
        status = read_family(&f);
    if (status == FDL_OK && (!n || c.n))
        status = flush_one(g, c.n, n ? c.at : NULL);
    for (int i = 1; i < f.n && status == FDL_OK; i++)
        status = flush_one(f.at[i], 0, NULL);
    free(c.at);
    free(f.at);
    return status;
}

fdl_status fdl_graph_flush_of(fdl_module *m, int n, const char *const *names)
{
    return flush("fdl_graph_flush", m, n, names, true);
}

fdl_status fdl_graph_flush_local_of(fdl_module *m, int n, const char *const *names)
{
    return flush("fdl_graph_flush_local", m, n, names, false);
}

int64_t fdl_graph_flush_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return !g ? -1 : g->observed ? g->observed->store.flushes : 0;
}

fdl_status fdl_graph_reset_trend_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_reset_trend", m);
    if (!g || !observed(g))
        return fdl_error_pending();
    series_store *st = &g->observed->store;
    chosen c = {0};
    fdl_status status = observed_each("fdl_graph_reset_trend", g, n, names, choose, &c);
    for (int i = 0; status == FDL_OK && i < (n ? c.n : st->n); i++)
        series_forget(n ? c.at[i] : st->at[i]);
    if (status == FDL_OK)
        series_store_forgot(st);
    free(c.at);
    return status;
}

/* ---- the last points ----------------------------------------------------------------------------------- */

/* Counts (at NULL) or writes the metrics of g, with prefix in front of their names. */
static int latest(const graph *g, const char *prefix, bool below, fdl_metric *at, bool *good)
{
    int n = 0;
    for (int i = 0; g->observed && i < g->observed->store.ordered; i++) {
        const series *s = g->observed->store.order[i];
        if (!s->history.n)
            continue;
        if (at) {
            size_t size = strlen(prefix) + strlen(s->name) + 1;
            char *name = fdl_scope_alloc(size);
            *good = *good && name;
            if (name)
                snprintf(name, size, "%s%s", prefix, s->name);
            at[n] = (fdl_metric){name, s->history.at[s->history.n - 1]};
        }
        n++;
    }
    const graph *child;
    for (int i = 0; below && (child = observed_child(g, i)); i++) {
        size_t size = strlen(prefix) + strlen(child->label) + 2;
        char *longer = malloc(size);
        *good = *good && longer;
        if (!longer)
            continue;
        snprintf(longer, size, "%s%s.", prefix, child->label);
        n += latest(child, longer, true, at ? at + n : NULL, good);
        free(longer);
    }
    return n;
}

static const fdl_metric *latest_metrics(const char *function, fdl_module *m, bool below, int *n)
{
    const graph *g = graph_of(function, m);
    bool good = true;
    if (n)
        *n = 0;
    if (!g)
        return NULL;
    int count = latest(g, "", below, NULL, &good);
    fdl_metric *at = good ? fdl_scope_alloc(sizeof *at * ((size_t)count + 1)) : NULL;
    if (at)
        latest(g, "", below, at, &good);
    if (!at || !good)
        return fdl_fail_null(FDL_E_OOM, "%s: no memory", function);
    at[count] = (fdl_metric)FDL_METRIC_END;
    if (n)
        *n = count;
    return at;
}

const fdl_metric *fdl_graph_latest_metrics(fdl_module *m, int *n)
{
    return latest_metrics(__func__, m, true, n);
}

const fdl_metric *fdl_graph_latest_metrics_local(fdl_module *m, int *n)
{
    return latest_metrics(__func__, m, false, n);
}

/* ---- over the epochs ----------------------------------------------------------------------------------- */

static const fdl_trend *trend(const char *function, graph *g, const char *name)
{
    if (check_name(function, name) != FDL_OK || !observed(g))
        return NULL;
    const series *s = series_get(&g->observed->store, name);
    return s ? &s->history : NULL;
}

const fdl_trend *fdl_graph_trend(fdl_module *m, const char *name)
{
    graph *g = graph_of(__func__, m);
    return g ? trend(__func__, g, name) : NULL;
}

const fdl_trends *fdl_graph_trends_of(fdl_module *m, int n, const char *const *names)
{
    graph *g = graph_of("fdl_graph_trends", m);
    if (!g || !observed(g))
        return NULL;
    chosen c = {.make = true};
    const fdl_trends *trends = NULL;
    if (observed_each("fdl_graph_trends", g, n, names, choose, &c) == FDL_OK) {
        const fdl_trend **at = calloc((size_t)c.n + 1, sizeof *at);
        for (int i = 0; at && i < c.n; i++)
            at[i] = &c.at[i]->history;
        trends = at ? fdl_trends_of(c.n, at) : fdl_fail_null(FDL_E_OOM, "fdl_graph_trends: no memory");
        free(at);
    }
    free(c.at);
    return trends;
}

double fdl_graph_eta(fdl_module *m, int64_t total)
{
    const graph *g = graph_of(__func__, m);
    if (!g)
        return NAN;
    const series_store *st = g->observed ? &g->observed->store : NULL;
    if (!st || !st->flushes || total <= st->flushes)
        return 0;
    return st->elapsed / (double)st->flushes * (double)(total - st->flushes);
}

const fdl_histogram *const *fdl_graph_histograms(fdl_module *m, const char *name, int *n)
{
    graph *g = graph_of(__func__, m);
    if (n)
        *n = 0;
    if (!g || check_name(__func__, name) != FDL_OK || !g->observed)
        return NULL;
    const series *s = series_find(&g->observed->store, name);
    if (!s || !s->histograms)
        return NULL;
    if (n)
        *n = s->histograms;
    return (const fdl_histogram *const *)s->histogram;
}

/* ---- at a path ----------------------------------------------------------------------------------------- */

/* The graph that all but the last segment leads to, and that segment. */
static graph *owner_of(const char *function, fdl_module *m, const char *path, const char **name)
{
    graph *g = graph_of(function, m);
    if (g && !path)
        fdl_null_operand(function, "path");
    if (!g || !path)
        return NULL;
    const char *dot = strrchr(path, '.');
    *name = dot ? dot + 1 : path;
    if (!dot)
        return g;
    char *above = strndup(path, (size_t)(dot - path));
    if (!above)
        return fdl_fail_null(FDL_E_OOM, "%s: no memory", function);
    g = graph_resolve_graph(function, m, above);
    free(above);
    return g;
}

fdl_status fdl_graph_record_at_opt(fdl_module *m, const char *path, double value, const fdl_record_opts *opts)
{
    static const char function[] = "fdl_graph_record_at";
    const char *name;
    graph *g = owner_of(function, m, path, &name);
    if (!g)
        return fdl_error_pending();
    return record(function, g, name, 1, &value, opts ? opts->weight : 0);
}

const fdl_trend *fdl_graph_trend_at(fdl_module *m, const char *path)
{
    const char *name;
    graph *g = owner_of(__func__, m, path, &name);
    return g ? trend(__func__, g, name) : NULL;
}

fdl_status fdl_graph_collect_at_of(fdl_module *m, int n, const char *const *paths,
                                   const fdl_collect_opts *opts)
{
    collection c;
    graph *g = graph_of("fdl_graph_collect_at", m);
    if (!g)
        return fdl_error_pending();
    FDL_TRY(start_collection(&c, "fdl_graph_collect_at", opts));
    fdl_status status = FDL_OK;
    if (n < 0)
        status = fdl_fail(FDL_E_ARG, "%s: %d paths; 0 or more", c.function, n);
    if (n > 0 && !paths)
        status = fdl_null_operand(c.function, "paths");
    for (int i = 0; i < n && status == FDL_OK; i++) {
        graph_place place;
        status = graph_resolve_tag(c.function, m, paths[i], &place);
        if (status == FDL_OK)
            status = want_tag(place.g, place.tag, &c);
    }
    if (status == FDL_OK)
        status = collect(&c);
    collection_free(&c);
    return status;
}
