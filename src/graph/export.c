/* Histories as files: CSV, a log for people, JSON lines. */
#include "export.h"

#include "flodl/file.h"
#include "flodl/text.h"

#include <jansson.h>
#include <locale.h>
#include <math.h>

/* ---- which curves -------------------------------------------------------------------------------------- */

series_store *metrics_of(graph *g)
{
    return g->observed ? &g->observed->store : NULL;
}

void curves_free(curves *c)
{
    free(c->at);
    *c = (curves){0};
}

/* What one call of curves_gather knows. */
typedef struct gathering {
    curves *c;
    const curve_choice *choice;
} gathering;

static fdl_status add(gathering *a, const char *prefix, const char *name, const series *s,
                      const series_store *st)
{
    if (!s->history.n && !(a->choice->histograms && s->histograms))
        return FDL_OK;
    curves *c = a->c;
    for (int i = 0; i < c->n; i++)
        if (c->at[i].s == s)
            return FDL_OK;
    curve *at = grown(c->at, c->n, &c->room, sizeof *at);
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *text = at ? fdl_scope_alloc(size) : NULL;
    if (at)
        c->at = at;
    if (!text)
        return fdl_error_pending();
    snprintf(text, size, "%s%s", prefix, name);
    c->at[c->n++] = (curve){text, s, st};
    if (s->history.n && s->round[s->history.n - 1] > c->rounds)
        c->rounds = s->round[s->history.n - 1];
    if (a->choice->histograms && s->histograms && s->histogram[s->histograms - 1]->epoch > c->rounds)
        c->rounds = s->histogram[s->histograms - 1]->epoch;
    return FDL_OK;
}

/* A metric of g's own comes before a path, since metrics may have dots in their names. */
static fdl_status resolve(graph *g, const char *name, void *ctx)
{
    gathering *a = ctx;
    for (const char *rest = name; g;) {
        const series_store *st = a->choice->store_of(g);
        const series *s = st ? series_find(st, rest) : NULL;
        if (s)
            return add(a, "", name, s, st);
        const char *dot = strchr(rest, '.');
        if (!dot)
            return FDL_OK;
        char *label = strndup(rest, (size_t)(dot - rest));
        if (!label)
            return fdl_fail(FDL_E_OOM, "no memory for the path \"%s\"", name);
        g = graph_find_child(g, label);
        free(label);
        rest = dot + 1;
    }
    return FDL_OK;
}

static fdl_status add_all(gathering *a, graph *g, const char *prefix)
{
    const series_store *st = a->choice->store_of(g);
    for (int i = 0; st && i < st->n; i++)
        FDL_TRY(add(a, prefix, st->at[i]->name, st->at[i], st));
    graph *child;
    for (int i = 0; a->choice->below && (child = observed_child(g, i)); i++) {
        size_t size = strlen(prefix) + strlen(child->label) + 2;
        char *longer = fdl_scope_alloc(size);
        if (!longer)
            return fdl_error_pending();
        snprintf(longer, size, "%s%s.", prefix, child->label);
        FDL_TRY(add_all(a, child, longer));
    }
    return FDL_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const curve *)a)->name, ((const curve *)b)->name);
}

fdl_status curves_gather(curves *c, const char *function, graph *g, int n, const char *const *names,
                         const curve_choice *choice)
{
    *c = (curves){0};
    gathering a = {c, choice};
    fdl_status status = n ? observed_each(function, g, n, names, resolve, &a) : add_all(&a, g, "");
    if (status == FDL_OK && !n && c->n)
        qsort(c->at, (size_t)c->n, sizeof *c->at, by_name);
    if (status == FDL_OK && !c->n)
        status = fdl_fail(FDL_E_STATE, "%s: %s a point so far; flush first", function,
                          n ? "none of these names has" : "no name has");
    if (status != FDL_OK)
        curves_free(c);
    return status;
}

/* ---- a file -------------------------------------------------------------------------------------------- */

/* A file being written, in which numbers have points whatever the process's locale. */
typedef struct text_file {
    fdl_file *file;
    FILE *out;
    locale_t numbers, before;
} text_file;

static fdl_status text_open(text_file *t, const char *path)
{
    *t = (text_file){.file = fdl_file_create(path)};
    if (!t->file)
        return fdl_error_pending();
    t->numbers = newlocale(LC_NUMERIC_MASK, "C", (locale_t)0);
    if (!t->numbers) {
        fdl_file_discard(t->file);
        return fdl_fail(FDL_E_OOM, "no memory to write '%s'", path);
    }
    t->before = uselocale(t->numbers);
    t->out = fdl_file_stream(t->file);
    return FDL_OK;
}

static fdl_status text_close(text_file *t)
{
    uselocale(t->before);
    freelocale(t->numbers);
    return fdl_file_commit(t->file);
}

/* ---- CSV ----------------------------------------------------------------------------------------------- */

/* RFC 4180: quoted where it must be. */
static void write_field(FILE *out, const char *text)
{
    if (!strpbrk(text, ",\"")) { /* other such characters aren't in names */
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void write_number(FILE *out, double v)
{
    if (isfinite(v))
        fprintf(out, "%.8f", v);
    else
        fputs(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf", out); /* printf has a -nan */
}

fdl_status curves_write_csv(const curves *c, const char *path)
{
    text_file t;
    FDL_TRY(text_open(&t, path));
    fputs("epoch", t.out);
    for (int i = 0; i < c->n; i++) {
        fputc(',', t.out);
        write_field(t.out, c->at[i].name);
    }
    fputc('\n', t.out);
    for (int64_t round = 1; round <= c->rounds; round++) {
        fprintf(t.out, "%lld", (long long)round);
        for (int i = 0; i < c->n; i++) {
            double v;
            fputc(',', t.out);
            if (series_point(c->at[i].s, round, &v))
                write_number(t.out, v);
        }
        fputc('\n', t.out);
    }
    return text_close(&t);
}

static const curve_choice own_metrics = {.store_of = metrics_of};

/* The curves for a file at path. */
static fdl_status want_curves(curves *c, const char *function, fdl_module *m, const char *path, int n,
                              const char *const *names, const curve_choice *choice)
{
    graph *g = graph_of(function, m);
    if (!g || !path)
        return g ? fdl_null_operand(function, "path") : fdl_error_pending();
    return curves_gather(c, function, g, n, names, choice);
}

fdl_status fdl_graph_export_csv_of(fdl_module *m, const char *path, int n, const char *const *names)
{
    FDL_SCOPE;
    curves c;
    FDL_TRY(want_curves(&c, "fdl_graph_export_csv", m, path, n, names, &own_metrics));
    fdl_status status = curves_write_csv(&c, path);
    curves_free(&c);
    return status;
}

/* ---- the log ------------------------------------------------------------------------------------------- */

/* When round ended, and how long it took, of the graph's own clock. False: the graph itself has no such round. */
static bool round_time(const series_store *st, int64_t round, double *stamp, double *seconds)
{
    if (!st || round > st->rounds)
        return false;
    *stamp = st->stamp[round - 1].seconds;
    *seconds = *stamp - (round > 1 ? st->stamp[round - 2].seconds : st->base);
    return true;
}

static void write_line(FILE *out, const curves *c, const series_store *st, int64_t round, int64_t total)
{
    char text[FDL_TEXT_SIZE];
    fprintf(out, "epoch %3lld", (long long)round);
    for (int i = 0; i < c->n; i++) {
        double v;
        if (series_point(c->at[i].s, round, &v))
            fprintf(out, "  %s=%s", c->at[i].name, fdl_format_metric(v, text, sizeof text));
    }
    double stamp, seconds;
    if (round_time(st, round, &stamp, &seconds)) {
        fprintf(out, "  [%s", fdl_format_eta(seconds, text, sizeof text));
        double each = (stamp - st->base) / (double)round;
        if (total > round)
            fprintf(out, "  ETA %s", fdl_format_eta(each * (double)(total - round), text, sizeof text));
        fputc(']', out);
    }
    fputc('\n', out);
}

fdl_status fdl_graph_write_log_of(fdl_module *m, const char *path, int64_t total, int n,
                                  const char *const *names)
{
    FDL_SCOPE;
    curves c;
    text_file t;
    FDL_TRY(want_curves(&c, "fdl_graph_write_log", m, path, n, names, &own_metrics));
    fdl_status status = text_open(&t, path);
    if (status == FDL_OK) {
        fputs("# flodl training log\n", t.out);
        for (int64_t round = 1; round <= c.rounds; round++)
            write_line(t.out, &c, metrics_of(graph_or_null(m)), round, total);
        status = text_close(&t);
    }
    curves_free(&c);
    return status;
}

/* ---- JSON lines ---------------------------------------------------------------------------------------- */

/* JSON has no number for what isn't finite. */
static json_t *json_number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *json_numbers(const double *at, int64_t n)
{
    json_t *list = json_array();
    for (int64_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_number(at[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *json_histogram(const fdl_histogram *h)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "num", json_number(h->num), "min",
                     json_number(h->min), "max", json_number(h->max), "sum", json_number(h->sum),
                     "sum_squares", json_number(h->sum_squares), "nonfinite", json_number(h->nonfinite),
                     "limits", json_numbers(h->limits, h->n), "counts", json_numbers(h->counts, h->n));
}

/* NULL: no memory. */
static json_t *json_epoch(const curves *c, const series_store *st, int64_t round)
{
    json_t *line = json_object(), *metrics = json_object(), *histograms = json_object();
    double stamp, seconds;
    bool good = json_object_set_new(line, "epoch", json_integer(round)) == 0;
    if (round_time(st, round, &stamp, &seconds)) {
        good = good && json_object_set_new(line, "seconds", json_number(seconds)) == 0;
        good = good && json_object_set_new(line, "elapsed", json_number(stamp)) == 0;
        good = good && json_object_set_new(line, "time", json_number(st->stamp[round - 1].utc)) == 0;
    }
    for (int i = 0; i < c->n; i++) {
        double v;
        const fdl_histogram *h = series_histogram(c->at[i].s, round);
        if (series_point(c->at[i].s, round, &v))
            good = good && json_object_set_new(metrics, c->at[i].name, json_number(v)) == 0;
        if (h)
            good = good && json_object_set_new(histograms, c->at[i].name, json_histogram(h)) == 0;
    }
    bool any = json_object_size(histograms) > 0;
    good = good && json_object_set(line, "metrics", metrics) == 0;
    good = good && (!any || json_object_set(line, "histograms", histograms) == 0);
    json_decref(metrics);
    json_decref(histograms);
    if (!good) {
        json_decref(line);
        return NULL;
    }
    return line;
}

fdl_status fdl_graph_export_jsonl_of(fdl_module *m, const char *path, int n, const char *const *names)
{
    static const curve_choice choice = {.store_of = metrics_of, .histograms = true};
    FDL_SCOPE;
    curves c;
    FDL_TRY(want_curves(&c, "fdl_graph_export_jsonl", m, path, n, names, &choice));
    fdl_file *file = fdl_file_create(path);
    fdl_status status = file ? FDL_OK : fdl_error_pending();
    for (int64_t round = 1; round <= c.rounds && status == FDL_OK; round++) {
        json_t *line = json_epoch(&c, metrics_of(graph_or_null(m)), round);
        char *text = line ? json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        status = text ? fdl_file_write(file, text, strlen(text))
                      : fdl_fail(FDL_E_OOM, "fdl_graph_export_jsonl: no memory");
        if (status == FDL_OK)
            status = fdl_file_write(file, "\n", 1);
        free(text);
        json_decref(line);
    }
    curves_free(&c);
    if (status == FDL_OK)
        return fdl_file_commit(file);
    fdl_file_discard(file);
    return status;
}
