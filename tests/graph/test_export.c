/* Histories as CSV, log and JSON lines. */
#include "folder.h"
#include "graph/modules.h"

#include <jansson.h>
#include <locale.h>
#include <math.h>

static double tick(void *ctx)
{
    return *(double *)ctx;
}

static void check_file_(const char *name, const char *want, const char *file, int line)
{
    size_t n;
    char *text = fdl_file_read(path_of(name), 0, &n);
    check_some_(text, name, file, line);
    if (strcmp(text, want) != 0) {
        print_error("%s:%d: %s is\n%snot\n%s", file, line, name, text, want);
        _fail(file, line);
    }
    free(text);
}
#define check_file(name, want) check_file_(name, want, __FILE__, __LINE__)

/* Four epochs of 2.5 seconds: loss in each, "accuracy" in the second and the fourth, "a, \"b\"" in the first
 * two, and a child's own. */
static fdl_module *trained(double *t)
{
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), id()), fdl_flow_split(dbl(), tri()),
                             fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_ADD));
    check_some(g);
    *t = 7;
    check_ok(fdl_graph_set_clock(g, tick, t));
    check_some(fdl_forward(g, fdl_scalar(1)));
    static const double losses[] = {1.5264, 0.25, 0.0001, 1e-9}, other[] = {120, -120.5};
    for (int i = 0; i < 4; i++) {
        *t += 2.5;
        check_ok(fdl_graph_record(g, "loss", losses[i]));
        if (i % 2)
            check_ok(fdl_graph_record(g, "accuracy", i / 4.0));
        if (i < 2)
            check_ok(fdl_graph_record(g, "a, \"b\"", other[i]));
        check_ok(fdl_graph_record_at(g, "encoder.norm", i));
        check_ok(fdl_graph_flush(g));
    }
    return g;
}

static void csv(void **state)
{
    (void)state;
    FDL_SCOPE;
    double t;
    fdl_module *g = trained(&t);
    check_ok(fdl_graph_export_csv(g, path_of("all.csv")));
    check_file("all.csv", "epoch,\"a, \"\"b\"\"\",accuracy,loss\n"
                          "1,120.00000000,,1.52640000\n"
                          "2,-120.50000000,0.25000000,0.25000000\n"
                          "3,,,0.00010000\n"
                          "4,,0.75000000,0.00000000\n");
    check_ok(fdl_graph_export_csv(g, path_of("some.csv"), "loss", "nobody", "encoder.norm", "nobody.loss"));
    check_file("some.csv", "epoch,loss,encoder.norm\n"
                           "1,1.52640000,0.00000000\n"
                           "2,0.25000000,1.00000000\n"
                           "3,0.00010000,2.00000000\n"
                           "4,0.00000000,3.00000000\n");
    /* a shorter series: empty cells behind, and no rows beyond the longest */
    check_ok(fdl_graph_export_csv(g, path_of("short.csv"), "a, \"b\""));
    check_file("short.csv", "epoch,\"a, \"\"b\"\"\"\n1,120.00000000\n2,-120.50000000\n");
    fdl_module_free(g);
}

static void csv_of_what_is_no_number(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id());
    static const double values[] = {-NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        check_ok(fdl_graph_record(g, "loss", values[i]));
        check_ok(fdl_graph_flush(g));
    }
    check_ok(fdl_graph_export_csv(g, path_of("nan.csv")));
    check_file("nan.csv", "epoch,loss\n1,nan\n2,inf\n3,-inf\n");
    check_ok(fdl_graph_export_jsonl(g, path_of("nan.jsonl"), "loss"));
    size_t n;
    char *text = fdl_file_read(path_of("nan.jsonl"), 0, &n);
    check_some(text);
    assert_non_null(strstr(text, "\"metrics\":{\"loss\":null}"));
    free(text);
    fdl_module_free(g);
}

/* Names flushed one after the other belong to one epoch. */
static void flushed_by_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id());
    for (int i = 0; i < 3; i++) {
        check_ok(fdl_graph_record(g, "loss", i));
        check_ok(fdl_graph_flush(g, "loss"));
        check_ok(fdl_graph_record(g, "accuracy", 10 * i));
        check_ok(fdl_graph_flush(g, "accuracy"));
    }
    check_ok(fdl_graph_export_csv(g, path_of("named.csv")));
    check_file("named.csv", "epoch,accuracy,loss\n"
                            "1,0.00000000,0.00000000\n"
                            "2,10.00000000,1.00000000\n"
                            "3,20.00000000,2.00000000\n");
    assert_int_equal(fdl_graph_flush_count(g), 6);
    /* after everything was forgotten rows begin at 1 again */
    check_ok(fdl_graph_reset_trend(g));
    check_ok(fdl_graph_record(g, "loss", 5));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_export_csv(g, path_of("named.csv")));
    check_file("named.csv", "epoch,loss\n1,5.00000000\n");
    fdl_module_free(g);
}

static void log_for_people(void **state)
{
    (void)state;
    FDL_SCOPE;
    double t;
    fdl_module *g = trained(&t);
    check_ok(fdl_graph_write_log(g, path_of("training.log"), 40));
    check_file("training.log",
               "# flodl training log\n"
               "epoch   1  a, \"b\"=120.00  loss=1.5264  [2.5s  ETA 1m 37s]\n"
               "epoch   2  a, \"b\"=-120.50  accuracy=0.2500  loss=0.2500  [2.5s  ETA 1m 35s]\n"
               "epoch   3  loss=1.00e-4  [2.5s  ETA 1m 32s]\n"
               "epoch   4  accuracy=0.7500  loss=1.00e-9  [2.5s  ETA 1m 30s]\n");
    check_ok(fdl_graph_write_log(g, path_of("training.log"), 4, "loss", "encoder.norm"));
    check_file("training.log", "# flodl training log\n"
                               "epoch   1  loss=1.5264  encoder.norm=0  [2.5s  ETA 7.5s]\n"
                               "epoch   2  loss=0.2500  encoder.norm=1.0000  [2.5s  ETA 5s]\n"
                               "epoch   3  loss=1.00e-4  encoder.norm=2.0000  [2.5s  ETA 2.5s]\n"
                               "epoch   4  loss=1.00e-9  encoder.norm=3.0000  [2.5s]\n");
    fdl_module_free(g);
}

static void json_lines(void **state)
{
    (void)state;
    FDL_SCOPE;
    double t;
    fdl_module *g = trained(&t);
    check_ok(fdl_graph_record_histogram(g, "w", fdl_vec(1, 1, -2)));
    check_ok(fdl_graph_record(g, "loss", 1.0 / 3));
    t += 0.5;
    check_ok(fdl_graph_flush(g));
    double before = fdl_now_utc();
    check_ok(fdl_graph_export_jsonl(g, path_of("run.jsonl")));
    size_t n;
    char *text = fdl_file_read(path_of("run.jsonl"), 0, &n);
    check_some(text);
    static const int metrics[] = {2, 3, 1, 2, 1};
    int lines = 0;
    json_t *last = NULL;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t error;
        json_decref(last);
        last = json_loads(line, 0, &error);
        assert_non_null(last);
        lines++;
        assert_int_equal(json_integer_value(json_object_get(last, "epoch")), lines);
        check_number(json_number_value(json_object_get(last, "seconds")), lines == 5 ? 0.5 : 2.5, 1e-12);
        check_number(json_number_value(json_object_get(last, "elapsed")), lines == 5 ? 10.5 : 2.5 * lines,
                     1e-12);
        check_number(json_number_value(json_object_get(last, "time")), before, 60);
        assert_int_equal(json_object_size(json_object_get(last, "metrics")), metrics[lines - 1]);
    }
    assert_int_equal(lines, 5);
    check_number(json_number_value(json_object_get(json_object_get(last, "metrics"), "loss")), 1.0 / 3, 0);
    json_t *h = json_object_get(json_object_get(last, "histograms"), "w");
    assert_non_null(h);
    check_number(json_number_value(json_object_get(h, "num")), 3, 0);
    check_number(json_number_value(json_object_get(h, "min")), -2, 0);
    check_number(json_number_value(json_object_get(h, "sum_squares")), 6, 0);
    double sum = 0;
    size_t i;
    json_t *count;
    json_array_foreach(json_object_get(h, "counts"), i, count) sum += json_number_value(count);
    check_number(sum, 3, 0);
    assert_int_equal(json_array_size(json_object_get(h, "limits")),
                     json_array_size(json_object_get(h, "counts")));
    json_decref(last);
    free(text);
    fdl_module_free(g);
}

static void a_locale_changes_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char *const commas[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"};
    const char *is = NULL;
    for (int i = 0; i < 4 && !is; i++)
        is = setlocale(LC_ALL, commas[i]);
    if (!is) {
        print_message("skipped: no locale with a decimal comma\n");
        skip();
    }
    double t;
    fdl_module *g = trained(&t);
    check_ok(fdl_graph_export_csv(g, path_of("locale.csv"), "a, \"b\""));
    check_ok(fdl_graph_export_jsonl(g, path_of("locale.jsonl"), "loss"));
    char number[32];
    snprintf(number, sizeof number, "%.1f", 0.5);
    assert_string_equal(number, "0,5"); /* the thread's locale is as before */
    setlocale(LC_ALL, "C");
    check_file("locale.csv", "epoch,\"a, \"\"b\"\"\"\n1,120.00000000\n2,-120.50000000\n");
    size_t n;
    char *text = fdl_file_read(path_of("locale.jsonl"), 0, &n);
    check_some(text);
    assert_non_null(strstr(text, "\"loss\":1.5264"));
    free(text);
    fdl_module_free(g);
}

static void without_a_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id());
    assert_int_equal(fdl_graph_export_csv(g, path_of("never")), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_export_csv", "flush first");
    check_ok(fdl_graph_record(g, "loss", 1));
    assert_int_equal(fdl_graph_export_csv(g, path_of("never"), "loss"), FDL_E_STATE);
    check_error(FDL_E_STATE, "flush first");
    assert_int_equal(fdl_graph_write_log(g, path_of("never"), 10), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_write_log", "flush first");
    assert_int_equal(fdl_graph_export_jsonl(g, path_of("never")), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_export_jsonl", "flush first");
    assert_int_not_equal(access(path_of("never"), F_OK), 0);
    check_ok(fdl_graph_flush(g));
    assert_int_equal(fdl_graph_export_csv(g, path_of("never"), "other"), FDL_E_STATE);
    check_error(FDL_E_STATE, "flush first");
    assert_int_equal(fdl_graph_export_csv(g, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "path");
    int before = files_in_folder();
    assert_int_equal(fdl_graph_export_csv(g, path_of("no folder/file")), FDL_E_IO);
    check_error(FDL_E_IO, "no folder");
    assert_int_equal(fdl_graph_export_jsonl(g, "/dev/full"), FDL_E_ARG);
    check_error(FDL_E_ARG, "/dev/full");
    assert_int_equal(files_in_folder(), before);
    fdl_module_free(g);
}

/* Names from a seed, whatever they are: each call is done or an error, and what was done comes out again. */
static uint64_t seed = 1;
static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static void any_name(void **state)
{
    (void)state;
    fdl_module *g =
        fdl_flow(fdl_flow(fdl_flow_label("a"), fdl_flow(fdl_flow_label("b"), id()), id()),
                 fdl_flow_split(dbl(), tri()), fdl_flow_tag_group("h"), fdl_flow_merge(FDL_MERGE_ADD));
    check_some(g);
    static const char letters[] = "abh.._01,\"\n\x80\xc3\xa9/ ";
    int done = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        FDL_SCOPE;
        char name[12];
        int n = below(8);
        for (int i = 0; i < n; i++)
            name[i] = letters[below((int)sizeof letters - 1)];
        name[n] = 0;
        fdl_status one = fdl_graph_record(g, name, round);
        fdl_clear_error();
        fdl_status two = fdl_graph_record_at(g, name, round);
        fdl_clear_error();
        fdl_status three = fdl_graph_collect_at(g, name);
        assert_int_equal(three, FDL_E_ARG); /* there is no tag but the group's members */
        fdl_clear_error();
        assert_true(one == FDL_OK || one == FDL_E_ARG);
        assert_true(two == FDL_OK || two == FDL_E_ARG);
        check_ok(fdl_graph_flush(g));
        if (one == FDL_OK) {
            check_number(fdl_trend_latest(fdl_graph_trend(g, name)), round, 0);
            int64_t points = fdl_trend_len(fdl_graph_trend(g, name));
            if (strcmp(name, "h") != 0)
                check_ok(fdl_graph_export_csv(g, path_of("any.csv"), name));
            assert_true(points >= 1);
        } else
            assert_null(fdl_graph_trend(g, name));
        fdl_clear_error();
        if (two == FDL_OK)
            check_number(fdl_trend_latest(fdl_graph_trend_at(g, name)), round, 0);
        done += one == FDL_OK && two == FDL_OK;
        refused += one == FDL_E_ARG;
        if (round % 100 == 0)
            check_ok(fdl_graph_reset_trend(g));
    }
    assert_true(done > 100 && refused > 100);
    check_ok(fdl_graph_export_jsonl(g, path_of("any.jsonl")));
    check_ok(fdl_graph_write_log(g, path_of("any.log"), 0));
    fdl_module_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(csv),
                                       cmocka_unit_test(csv_of_what_is_no_number),
                                       cmocka_unit_test(flushed_by_name),
                                       cmocka_unit_test(log_for_people),
                                       cmocka_unit_test(json_lines),
                                       cmocka_unit_test(a_locale_changes_nothing),
                                       cmocka_unit_test(without_a_history),
                                       cmocka_unit_test(any_name)};
    return cmocka_run_group_tests_name("graph export", tests, make_folder, remove_folder);
}
