/* Curves as one HTML file: the data as JSON, drawn by the script beside it. */
#include "draw_private.h"

#include "flodl/file.h"
#include "flodl/text.h"
#include "export.h"
#include "plot.h"
#include "plot_page.h"
#include "profile.h"

#include <math.h>

/* A string of JSON that can stand in a script element: no "<" ends it, whatever the name. */
static void write_json_text(FILE *out, const char *text)
{
    fputc('"', out);
    while (*text) {
        uint32_t code = 0xfffd;
        int n = fdl_utf8_decode(text, strnlen(text, 4), &code);
        text += n ? n : 1;
        if (!n)
            code = 0xfffd;
        char bytes[4];
        if (code < 0x20 || code == '"' || code == '\\' || code == '<' || code == '>' || code == '&' ||
            code == 0x7f || code == 0x2028 || code == 0x2029)
            fprintf(out, "\\u%04x", (unsigned)code);
        else
            fwrite(bytes, 1, (size_t)fdl_utf8_encode(code, bytes), out);
    }
    fputc('"', out);
}

/* Eight decimals; in powers of ten where those would say little, or go on for long. */
static void write_json_number(FILE *out, double v)
{
    char text[400];
    double size = fabs(v);
    if (!isfinite(v)) {
        fputs("null", out);
    } else if (size == 0 || (size >= 1e-3 && size < 1e15)) {
        fputs(decimals_text(v, 8, text, sizeof text), out);
    } else {
        int power = (int)floor(log10(size));
        double scaled = power < -300 ? v * 1e300 / pow(10, power + 300) : v / pow(10, power);
        fprintf(out, "%se%d", decimals_text(scaled, 8, text, sizeof text), power);
    }
}

static void write_data(FILE *out, const plot *p)
{
    fputs("{\"title\": ", out);
    write_json_text(out, p->title);
    fputs(", \"unit\": ", out);
    write_json_text(out, p->unit);
    fputs(", \"series\": [", out);
    for (int i = 0; i < p->n; i++) {
        fputs(i ? ",\n{\"name\": " : "\n{\"name\": ", out);
        write_json_text(out, p->name(p, i));
        fputs(", \"values\": [", out);
        for (int64_t k = 0; k < p->points; k++) {
            double v;
            fputs(k ? ", " : "", out);
            if (p->value(p, i, k, &v))
                write_json_number(out, v);
            else
                fputs("null", out);
        }
        fputs("]}", out);
    }
    fputs("\n]}\n", out);
}

static void write_lines(FILE *out, const char *const *line)
{
    for (; *line; line++)
        fputs(*line, out);
}

fdl_status plot_write(const plot *p, const char *path)
{
    fdl_file *file = fdl_file_create(path);
    if (!file)
        return fdl_error_pending();
    FILE *out = fdl_file_stream(file);
    fputs(page_begin, out);
    fputs("<title>", out);
    write_xml(out, p->title);
    fputs("</title>\n", out);
    write_lines(out, page_style);
    fputs("</head>\n<body>\n<h1>", out);
    write_xml(out, p->title);
    fputs("</h1>\n", out);
    fputs(page_middle, out);
    write_data(out, p);
    write_lines(out, page_end);
    return fdl_file_commit(file);
}

/* ---- any trends ---------------------------------------------------------------------------------------- */

typedef struct trend_plot {
    plot p;
    const char *const *names;
    const fdl_trend *const *trends;
} trend_plot;

static const char *name_of(const plot *p, int i)
{
    return ((const trend_plot *)p)->names[i];
}

static bool value_of(const plot *p, int i, int64_t k, double *v)
{
    const fdl_trend *t = ((const trend_plot *)p)->trends[i];
    if (k >= fdl_trend_len(t))
        return false;
    *v = fdl_trend_values(t)[k];
    return true;
}

fdl_status fdl_plot_html(const char *file, const char *title, int n, const char *const *names,
                         const fdl_trend *const *trends)
{
    if (!file || !title || !names || !trends)
        return fdl_null_operand(__func__, !file ? "file" : !title ? "title" : !names ? "names" : "trends");
    if (n < 1)
        return fdl_fail(FDL_E_ARG, "%s: %d curves; at least 1", __func__, n);
    trend_plot t = {{.title = title, .unit = "", .n = n, .name = name_of, .value = value_of}, names, trends};
    for (int i = 0; i < n; i++) {
        if (!names[i])
            return fdl_null_operand(__func__, "names");
        if (fdl_trend_len(trends[i]) > t.p.points)
            t.p.points = fdl_trend_len(trends[i]);
    }
    if (!t.p.points)
        return fdl_fail(FDL_E_ARG, "%s: none of the %d trends has a point", __func__, n);
    return plot_write(&t.p, file);
}

/* ---- a graph's histories ------------------------------------------------------------------------------- */

typedef struct curve_plot {
    plot p;
    curves c;
} curve_plot;

static const char *name_of_curve(const plot *p, int i)
{
    return ((const curve_plot *)p)->c.at[i].name;
}

static bool value_of_curve(const plot *p, int i, int64_t k, double *v)
{
    return series_point(((const curve_plot *)p)->c.at[i].s, k + 1, v);
}

static fdl_status plot_graph(const char *function, fdl_module *m, const char *file, int n,
                             const char *const *names, const curve_choice *choice, plot p)
{
    FDL_SCOPE;
    graph *g = graph_of(function, m);
    if (!g || !file)
        return g ? fdl_null_operand(function, "file") : fdl_error_pending();
    curve_plot t = {.p = p};
    FDL_TRY(curves_gather(&t.c, function, g, n, names, choice));
    t.p.n = t.c.n;
    t.p.points = t.c.rounds;
    t.p.name = name_of_curve;
    t.p.value = value_of_curve;
    fdl_status status = plot_write(&t.p, file);
    curves_free(&t.c);
    return status;
}

fdl_status fdl_graph_plot_html_of(fdl_module *g, const char *file, int n, const char *const *names)
{
    return plot_graph("fdl_graph_plot_html", g, file, n, names, &(curve_choice){.store_of = metrics_of},
                      (plot){.title = "Training Curves", .unit = ""});
}

fdl_status fdl_graph_plot_timings_html_of(fdl_module *g, const char *file, int n, const char *const *names)
{
    return plot_graph("fdl_graph_plot_timings_html", g, file, n, names,
                      &(curve_choice){.store_of = graph_timings},
                      (plot){.title = "Timing Trends", .unit = "s"});
}

fdl_status fdl_graph_export_timings_csv_of(fdl_module *m, const char *path, int n, const char *const *names)
{
    FDL_SCOPE;
    static const char function[] = "fdl_graph_export_timings_csv";
    graph *g = graph_of(function, m);
    if (!g || !path)
        return g ? fdl_null_operand(function, "path") : fdl_error_pending();
    curves c;
    FDL_TRY(curves_gather(&c, function, g, n, names, &(curve_choice){.store_of = graph_timings}));
    fdl_status status = curves_write_csv(&c, path);
    curves_free(&c);
    return status;
}
