/* Pages of curves: their data, hostile names, gaps, nothing from the network. */
#include "folder.h"
#include "graph/modules.h"

#include <jansson.h>
#include <math.h>

static char *page(const char *name)
{
    size_t n;
    char *text = fdl_file_read(path_of(name), 0, &n);
    check_some(text);
    return text;
}

/* The JSON in the page. */
static json_t *data_of(const char *text)
{
    static const char begin[] = "<script type=\"application/json\" id=\"data\">";
    const char *from = strstr(text, begin);
    check_some(from);
    from += sizeof begin - 1;
    const char *to = strstr(from, "</script>");
    check_some(to);
    json_error_t error;
    json_t *data = json_loadb(from, (size_t)(to - from), 0, &error);
    if (!data) {
        print_error("line %d: %s\n", error.line, error.text);
        fail();
    }
    return data;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
        n++;
    return n;
}

/* It stands by itself: no address, no file, two scripts. */
static void check_self_contained(const char *text)
{
    static const char *const outside[] = {"http://", "https://", "src=",           "href=", "@import",
                                          "url(",    "fetch(",   "XMLHttpRequest", "<link", "<iframe"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (strstr(text, outside[i])) {
            print_error("\"%s\" is in the page\n", outside[i]);
            fail();
        }
    assert_int_equal(count(text, "<script"), 2);
    assert_int_equal(count(text, "</script>"), 2);
    assert_int_equal(strncmp(text, "<!doctype html>", 15), 0);
    assert_non_null(strstr(text, "prefers-color-scheme: dark"));
}

static void values_and_gaps(void **state)
{
    (void)state;
    FDL_SCOPE;
    const double loss[] = {2.5, NAN, 1.0 / 3, INFINITY, -INFINITY, 0, -1.25e-7, 1e300, 5e-324};
    const double few[] = {1, 2};
    const char *names[] = {"loss", "few", "none"};
    const fdl_trend *trends[] = {fdl_trend_of(9, loss), fdl_trend_of(2, few), NULL};
    check_ok(fdl_plot_html(path_of("a.html"), "Training Curves", 3, names, trends));
    char *text = page("a.html");
    check_self_contained(text);
    assert_non_null(strstr(text, "[2.50000000, null, 0.33333333, null, null, 0.00000000, -1.25000000e-7"));
    assert_non_null(strstr(text, "<title>Training Curves</title>"));
    json_t *data = data_of(text), *series = json_object_get(data, "series");
    assert_int_equal(json_array_size(series), 3);
    for (size_t i = 0; i < 3; i++) {
        json_t *s = json_array_get(series, i), *values = json_object_get(s, "values");
        assert_string_equal(json_string_value(json_object_get(s, "name")), names[i]);
        assert_int_equal(json_array_size(values), 9);
        for (size_t k = 0; k < 9; k++) {
            bool there = i == 0 ? isfinite(loss[k]) : i == 1 ? k < 2 : false;
            assert_int_equal(json_is_number(json_array_get(values, k)), there);
            double want = i ? (double)(k + 1) : loss[k];
            if (there)
                check_number(json_number_value(json_array_get(values, k)), want, fabs(want) * 1e-7 + 1e-323);
        }
    }
    json_decref(data);
    free(text);
}

static void hostile_names(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *names[] = {"</script><script>alert(1)</script>",
                           "<!--<script>",
                           "\"\\\n\t",
                           "\xff\xc3(",
                           "&lt;",
                           "\xe2\x80\xa8",
                           "'];//",
                           "\xf0\x9f\x99\x82",
                           "__proto__",
                           ""};
    enum { n = sizeof names / sizeof *names };
    const fdl_trend *trends[n];
    for (int i = 0; i < n; i++)
        trends[i] = fdl_trend_of(2, (double[]){i, i + 1});
    check_ok(fdl_plot_html(path_of("h.html"), "<b>&</title></h1><script>x()</script>", n, names, trends));
    char *text = page("h.html");
    check_self_contained(text);
    assert_non_null(strstr(text, "<title>&lt;b&gt;&amp;&lt;/title&gt;"));
    assert_null(strstr(text, "<b>"));
    assert_null(strstr(text, "<!--"));
    json_t *data = data_of(text), *series = json_object_get(data, "series");
    for (int i = 0; i < n; i++) {
        const char *got = json_string_value(json_object_get(json_array_get(series, (size_t)i), "name"));
        assert_string_equal(got, i == 3 ? "\xef\xbf\xbd\xef\xbf\xbd(" : names[i]);
    }
    json_decref(data);
    free(text);
}

static void random_names(void **state)
{
    (void)state;
    FDL_SCOPE;
    uint64_t seed = 3;
    char bytes[64][12];
    const char *names[64];
    const fdl_trend *trends[64];
    for (int i = 0; i < 64; i++) {
        for (int k = 0; k < 11; k++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[i][k] = (char)(1 + (seed >> 33) % 255);
        }
        bytes[i][11] = 0;
        names[i] = bytes[i];
        trends[i] = fdl_trend_of(1, (double[]){i});
    }
    check_ok(fdl_plot_html(path_of("r.html"), "t", 64, names, trends));
    char *text = page("r.html");
    check_self_contained(text);
    json_decref(data_of(text));
    free(text);
}

/* The metrics of a graph and of the graphs inside; an epoch is a round of flushes. */
static void of_a_graph(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(fdl_flow(id(), fdl_flow_label("encoder")), dbl(), fdl_flow_tag("out"));
    check_some(g);
    assert_int_equal(fdl_graph_plot_html(g, path_of("g.html")), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_plot_html", "flush");
    for (int e = 0; e < 3; e++) {
        check_ok(fdl_graph_record(g, "loss", 1.0 / (e + 1)));
        if (e == 1)
            check_ok(fdl_graph_record(g, "accuracy", 0.5));
        check_ok(fdl_graph_record_at(g, "encoder.loss", e));
        check_ok(fdl_graph_flush(g));
    }
    static const char *const all[] = {"accuracy", "loss"}, *const some[] = {"encoder.loss", "loss"};
    for (int how = 0; how < 2; how++) {
        check_ok(how ? fdl_graph_plot_html(g, path_of("g.html"), "encoder.loss", "nobody", "loss")
                     : fdl_graph_plot_html(g, path_of("g.html")));
        char *text = page("g.html");
        check_self_contained(text);
        json_t *data = data_of(text), *series = json_object_get(data, "series");
        assert_string_equal(json_string_value(json_object_get(data, "title")), "Training Curves");
        assert_int_equal(json_array_size(series), 2);
        for (size_t i = 0; i < 2; i++) {
            json_t *s = json_array_get(series, i), *values = json_object_get(s, "values");
            const char *name = json_string_value(json_object_get(s, "name"));
            assert_string_equal(name, how ? some[i] : all[i]);
            assert_int_equal(json_array_size(values), 3);
            for (size_t e = 0; e < 3; e++) {
                double want = i ? 1.0 / (double)(e + 1) : how ? (double)e : 0.5;
                if (!how && !i && e != 1)
                    assert_true(json_is_null(json_array_get(values, e)));
                else
                    check_number(json_number_value(json_array_get(values, e)), want, 1e-8);
            }
        }
        json_decref(data);
        free(text);
    }
    fdl_module_free(g);
}

static void of_times(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(dbl(), fdl_flow_tag("a"), tri(), fdl_flow_tag("b"));
    assert_int_equal(fdl_graph_plot_timings_html(g, path_of("t.html")), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_plot_timings_html");
    check_ok(fdl_graph_enable_profiling(g));
    for (int e = 0; e < 2; e++) {
        FDL_SCOPE;
        check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 2))));
        check_ok(fdl_graph_end_step(g));
        check_ok(fdl_graph_end_epoch(g));
    }
    check_ok(fdl_graph_plot_timings_html(g, path_of("t.html")));
    char *text = page("t.html");
    check_self_contained(text);
    json_t *data = data_of(text), *series = json_object_get(data, "series");
    assert_string_equal(json_string_value(json_object_get(data, "title")), "Timing Trends");
    assert_string_equal(json_string_value(json_object_get(data, "unit")), "s");
    assert_int_equal(json_array_size(series), 2);
    double first = fdl_trend_values(fdl_graph_timing_trend(g, "a"))[0];
    check_number(json_number_value(json_array_get(json_object_get(json_array_get(series, 0), "values"), 0)),
                 first, first * 1e-6 + 1e-8);
    json_decref(data);
    free(text);
    check_ok(fdl_graph_export_timings_csv(g, path_of("t.csv"), "b"));
    text = page("t.csv");
    assert_int_equal(strncmp(text, "epoch,b\n1,0.", 12), 0);
    assert_int_equal(count(text, "\n"), 3);
    free(text);
    fdl_module_free(g);
}

static void wrong_calls(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *names[] = {"a"};
    const fdl_trend *trends[] = {fdl_trend_of(1, (double[]){1})}, *empty[] = {NULL};
    int before = files_in_folder();
    assert_int_equal(fdl_plot_html(path_of("w.html"), "t", 0, names, trends), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_plot_html");
    assert_int_equal(fdl_plot_html(path_of("w.html"), "t", 1, names, empty), FDL_E_ARG);
    check_error(FDL_E_ARG, "point");
    assert_int_equal(fdl_plot_html(NULL, "t", 1, names, trends), FDL_E_NULL);
    check_error(FDL_E_NULL, "file");
    assert_int_equal(fdl_plot_html(path_of("w.html"), NULL, 1, names, trends), FDL_E_NULL);
    check_error(FDL_E_NULL, "title");
    assert_int_equal(fdl_plot_html(path_of("no/w.html"), "t", 1, names, trends), FDL_E_IO);
    check_error(FDL_E_IO, "no/w.html");
    assert_int_equal(files_in_folder(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_and_gaps), cmocka_unit_test(hostile_names), cmocka_unit_test(random_names),
        cmocka_unit_test(of_a_graph),      cmocka_unit_test(of_times),      cmocka_unit_test(wrong_calls),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
