/* Observation: what is recorded and collected becomes points at a flush, in graphs and in graphs inside them. */
#include "graph/modules.h"

#include <math.h>

/* ---- helpers ------------------------------------------------------------------------------------------- */

static void check_points_(const fdl_trend *t, int n, const double *want, const char *file, int line)
{
    check_some_(t, "the trend", file, line);
    if (fdl_trend_len(t) != n) {
        print_error("%s:%d: %lld points, not %d\n", file, line, (long long)fdl_trend_len(t), n);
        _fail(file, line);
    }
    for (int i = 0; i < n; i++)
        check_number_(fdl_trend_values(t)[i], want[i], 1e-6, "a point", file, line);
}
#define check_points(t, ...)                                                                           \
    check_points_(t, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__}, \
                  __FILE__, __LINE__)

static void check_buffer_(fdl_module *g, const char *name, int n, const double *want, const char *file,
                          int line)
{
    int64_t is = -1;
    const double *at = fdl_graph_collected(g, name, &is);
    if (is != n || (n && !at)) {
        print_error("%s:%d: %lld numbers, not %d: %s\n", file, line, (long long)is, n,
                    fdl_last_error()->message);
        _fail(file, line);
    }
    for (int i = 0; i < n; i++)
        check_number_(at[i], want[i], 1e-6, "a number", file, line);
}
#define check_buffer(g, name, ...)                                                                           \
    check_buffer_(g, name, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__}, \
                  __FILE__, __LINE__)
#define check_no_buffer(g, name) check_buffer_(g, name, 0, NULL, __FILE__, __LINE__)

/* x under the tag "loss". */
static fdl_module *passes(void)
{
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("loss"));
    check_some(g);
    return g;
}

static void run_on(fdl_module *g, fdl_tensor *x)
{
    check_some(fdl_forward(g, x));
}

/* main > letter > read, each with a tag and a label. */
static fdl_module *three_levels(void)
{
    fdl_module *read = fdl_flow(fdl_flow_label("read"), dbl(), fdl_flow_tag("hidden"));
    fdl_module *letter =
        fdl_flow(fdl_flow_label("letter"), read, tri(), fdl_flow_tag("mid"), fdl_flow_tag("_secret"));
    fdl_module *g = fdl_flow(letter, id(), fdl_flow_tag("out"));
    check_some(g);
    return g;
}

static double tick(void *ctx)
{
    return *(double *)ctx;
}

/* ---- one graph ----------------------------------------------------------------------------------------- */

static void collected_values_become_means(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    static const double first[] = {1, 2, 3}, second[] = {0.5, 0.3, 0.2};
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        run_on(g, fdl_scalar(first[i]));
        check_ok(fdl_graph_collect(g, "loss"));
    }
    check_buffer(g, "loss", 1, 2, 3);
    check_ok(fdl_graph_flush(g));
    check_no_buffer(g, "loss");
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        run_on(g, fdl_scalar(second[i]));
        check_ok(fdl_graph_collect(g, "loss"));
    }
    check_ok(fdl_graph_flush(g, "loss"));
    check_points(fdl_graph_trend(g, "loss"), 2, 1.0 / 3);
    assert_true(fdl_trend_improving(fdl_graph_trend(g, "loss"), 0));
    assert_int_equal(fdl_graph_flush_count(g), 2);
    fdl_module_free(g);
}

static void recorded_numbers_become_means(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    check_ok(fdl_graph_record_of(g, "error", 3, (const double[]){0.5, 0.4, 0.3}));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_record(g, "error", 0.1));
    check_ok(fdl_graph_record(g, "error", 0.05));
    check_ok(fdl_graph_record_of(g, "error", 0, NULL));
    check_ok(fdl_graph_flush(g));
    check_points(fdl_graph_trend(g, "error"), 0.4, 0.075);
    check_ok(fdl_graph_record(g, "error", NAN));
    check_ok(fdl_graph_record(g, "error", 1));
    check_ok(fdl_graph_flush(g));
    assert_true(isnan(fdl_trend_latest(fdl_graph_trend(g, "error"))));
    fdl_module_free(g);
}

static void a_flush_of_nothing_counts_for_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    check_ok(fdl_graph_flush(g));
    assert_int_equal(fdl_graph_flush_count(g), 0);
    check_ok(fdl_graph_record(g, "a", 1));
    check_ok(fdl_graph_record(g, "b", 2));
    check_ok(fdl_graph_flush(g, "nothing of that name"));
    assert_int_equal(fdl_graph_flush_count(g), 0);
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_flush(g, "a"));
    check_points(fdl_graph_trend(g, "a"), 1);
    check_points(fdl_graph_trend(g, "b"), 2);
    assert_int_equal(fdl_graph_flush_count(g), 1);
    /* by name: the other one waits */
    check_ok(fdl_graph_record(g, "a", 3));
    check_ok(fdl_graph_record(g, "b", 4));
    check_ok(fdl_graph_flush(g, "b"));
    check_points(fdl_graph_trend(g, "b"), 2, 4);
    check_points(fdl_graph_trend(g, "a"), 1);
    check_buffer(g, "a", 3);
    assert_int_equal(fdl_graph_flush_count(g), 2);
    fdl_module_free(g);
}

static void histories_are_forgotten(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    const fdl_trend *a = fdl_graph_trend(g, "a");
    assert_int_equal(fdl_trend_len(a), 0);
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_graph_record(g, "a", i));
        check_ok(fdl_graph_record(g, "b", i));
        check_ok(fdl_graph_flush(g));
    }
    assert_int_equal(fdl_trend_len(a), 2); /* the view from before sees them */
    check_ok(fdl_graph_record(g, "a", 7));
    check_ok(fdl_graph_reset_trend(g, "a"));
    assert_int_equal(fdl_trend_len(a), 0);
    check_points(fdl_graph_trend(g, "b"), 0, 1);
    check_buffer(g, "a", 7);
    check_ok(fdl_graph_flush(g));
    check_points(a, 7);
    check_ok(fdl_graph_reset_trend(g));
    assert_int_equal(fdl_trend_len(a), 0);
    assert_int_equal(fdl_trend_len(fdl_graph_trend(g, "b")), 0);
    assert_int_equal(fdl_graph_flush_count(g), 3);
    fdl_module_free(g);
}

static void reductions(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    run_on(g, fdl_vec(1, 2, 3));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_SUM, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_MEAN, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_PROD, "loss"));
    run_on(g, fdl_vec(1, 5, 3));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_MAX, "loss"));
    run_on(g, fdl_vec(-2, 0, 3));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_MIN, "loss"));
    run_on(g, fdl_vec(3, 4));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss"));
    run_on(g, fdl_scalar(10));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_MAX, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_SCALAR, "loss"));
    run_on(g, fdl_scalar(-10));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss")); /* one element is what it is */
    check_buffer(g, "loss", 6, 2, 6, 5, -2, 5, 10, 10, 10, -10);
    fdl_module_free(g);
}

/* Half precision and integers are summed where they don't overflow. */
static void reductions_of_narrow_dtypes(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    run_on(g, fdl_full(FDL_SHAPE(100), 1000, .dtype = FDL_FLOAT16));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_SUM, "loss"));
    check_ok(fdl_graph_collect(g, "loss"));
    run_on(g, fdl_full(FDL_SHAPE(100), 8000, .dtype = FDL_FLOAT16));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss"));
    run_on(g, fdl_full(FDL_SHAPE(3), 100, .dtype = FDL_INT8));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_SUM, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_MAX, "loss"));
    run_on(g, fdl_from_bool(((const bool[]){true, false, true, true}), FDL_SHAPE(2, 2)));
    check_ok(fdl_graph_collect(g, "loss"));
    run_on(g, fdl_full(FDL_SHAPE(2), 1.0 / 3, .dtype = FDL_FLOAT64));
    check_ok(fdl_graph_collect(g, "loss"));
    check_buffer(g, "loss", 100000, 1000, 80000, 300, 100 * sqrt(3), 100, 0.75, 1.0 / 3);
    int64_t n;
    check_number(fdl_graph_collected(g, "loss", &n)[7], 1.0 / 3, 1e-16);
    fdl_module_free(g);
}

static void what_collect_refuses(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("one"), fdl_flow_tag("loss"), id(), fdl_flow_tag("other"));
    check_ok(fdl_graph_collect(g, "loss")); /* no forward so far: skipped */
    check_no_buffer(g, "loss");
    run_on(g, fdl_vec(1, 2));
    check_ok(fdl_graph_collect(g, "loss"));
    check_buffer(g, "loss", 1.5);
    assert_int_equal(fdl_graph_collect_with(g, FDL_REDUCE_SCALAR, "loss"), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "loss", "[2]", "FDL_REDUCE_MEAN");
    assert_int_equal(fdl_graph_collect(g, "other", "lost"), FDL_E_ARG);
    check_error(FDL_E_ARG, "lost", "loss"); /* the closest names */
    check_no_buffer(g, "other");            /* nothing of a call that failed */
    assert_int_equal(fdl_graph_collect_with(g, (fdl_reduce_kind)99, "loss"), FDL_E_ARG);
    check_error(FDL_E_ARG, "99");
    run_on(g, fdl_zeros(FDL_SHAPE(0, 3)));
    assert_int_equal(fdl_graph_collect(g, "loss"), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "loss", "no elements", "[0, 3]");
    assert_int_equal(fdl_graph_collect_histogram(g, "loss"), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "no elements");
    assert_int_equal(fdl_graph_record_tensor(g, "loss", fdl_vec(1, 2)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "loss", "[2]");
    check_buffer(g, "loss", 1.5);
    assert_int_equal(fdl_graph_record(g, "", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "empty");
    assert_int_equal(fdl_graph_record(g, "a\nb", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "control");
    assert_int_equal(fdl_graph_record(g, "a\xff", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "UTF-8");
    assert_int_equal(fdl_graph_record(g, NULL, 1), FDL_E_NULL);
    check_error(FDL_E_NULL, "name");
    assert_int_equal(fdl_graph_record(g, "a", 1, .weight = -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "weight", "-1");
    assert_int_equal(fdl_graph_collect_weighted(g, NAN, "loss"), FDL_E_ARG);
    check_error(FDL_E_ARG, "weight");
    assert_int_equal(fdl_graph_record_of(g, "a", -1, NULL), FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");
    assert_int_equal(fdl_graph_record_of(g, "a", 1, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "values");
    check_no_buffer(g, "a");
    fdl_module *m = fdl_nn_linear(1, 1);
    assert_int_equal(fdl_graph_record(m, "a", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_record", "linear");
    assert_int_equal(fdl_graph_flush(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_flush");
    assert_null(fdl_graph_trend(m, "a"));
    check_error(FDL_E_ARG, "fdl_graph_trend");
    assert_int_equal(fdl_graph_flush_count(m), -1);
    check_error(FDL_E_ARG, "fdl_graph_flush_count");
    assert_null(fdl_graph_latest_metrics(m, NULL));
    check_error(FDL_E_ARG, "fdl_graph_latest_metrics");
    assert_true(isnan(fdl_graph_eta(m, 1)));
    check_error(FDL_E_ARG, "fdl_graph_eta");
    fdl_module_free(m);
    fdl_module_free(g);
}

static void a_group_stands_for_its_members(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_ADD));
    run_on(g, fdl_scalar(1));
    check_ok(fdl_graph_collect(g, "head"));
    check_buffer(g, "head_0", 2);
    check_buffer(g, "head_1", 3);
    const fdl_trends *ts = fdl_graph_trends(g, "head");
    assert_int_equal(fdl_trends_len(ts), 2);
    check_ok(fdl_graph_flush(g, "head"));
    check_points(fdl_trends_at(ts, 0), 2);
    check_points(fdl_trends_at(ts, 1), 3);
    /* a member beside its group: once */
    assert_int_equal(fdl_trends_len(fdl_graph_trends(g, "head_1", "head", "other")), 3);
    run_on(g, fdl_scalar(0.5));
    check_ok(fdl_graph_collect(g, "head"));
    check_ok(fdl_graph_flush(g, "head", "head_0"));
    assert_true(fdl_trends_all_improving(ts, 0));
    check_ok(fdl_graph_reset_trend(g, "head"));
    assert_int_equal(fdl_trend_len(fdl_trends_at(ts, 0)), 0);
    fdl_module_free(g);
}

static void weights_of_batches(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    check_ok(fdl_graph_record(g, "a", 1, .weight = 32));
    check_ok(fdl_graph_record(g, "a", 9, .weight = 8));
    check_ok(fdl_graph_record_tensor(g, "b", fdl_scalar(1), .weight = 32));
    check_ok(fdl_graph_record_tensor(g, "b", fdl_scalar(9), .weight = 8));
    run_on(g, fdl_vec(1, 1));
    check_ok(fdl_graph_collect_weighted(g, 32, "loss"));
    run_on(g, fdl_vec(8, 10));
    check_ok(fdl_graph_collect_weighted(g, 8, "loss"));
    check_ok(fdl_graph_flush(g));
    check_points(fdl_graph_trend(g, "a"), 2.6);
    check_points(fdl_graph_trend(g, "b"), 2.6);
    check_points(fdl_graph_trend(g, "loss"), 2.6);
    fdl_module_free(g);
}

/* ---- what waits on the device -------------------------------------------------------------------------- */

/* Operations of fn that bring a number to the host. */
static int waits(void (*fn)(fdl_module *g), fdl_module *g)
{
    fdl_watch *w = fdl_watch_start();
    check_some(w);
    fn(g);
    check_ok(fdl_watch_stop(w));
    int n = 0;
    for (int64_t i = 0; i < fdl_watch_count(w); i++) {
        const char *name = fdl_watch_name(w, i);
        n += !strcmp(name, "aten::item") || !strcmp(name, "aten::_local_scalar_dense");
    }
    const char *why;
    if (on_test_device() && !n)
        n = fdl_watch_obstacle(w, &why) >= 0;
    fdl_watch_free(w);
    return n;
}

static void observe_a_batch(fdl_module *g)
{
    check_ok(fdl_graph_collect(g, "loss"));
    check_ok(fdl_graph_collect_with(g, FDL_REDUCE_NORM, "loss"));
    FDL_SCOPE;
    check_ok(fdl_graph_record_tensor(g, "seen", fdl_mean(fdl_graph_tagged(g, "loss"))));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
}

static void item_of_the_batch(fdl_module *g)
{
    FDL_SCOPE;
    check_ok(fdl_graph_record(g, "plain", fdl_item(fdl_mean(fdl_graph_tagged(g, "loss")))));
}

static void nothing_waits_before_the_flush(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    double want[3] = {0};
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 5));
        run_on(g, x);
        if (i == 0)
            observe_a_batch(g); /* the limits of histograms go to the device once */
        else
            assert_int_equal(waits(observe_a_batch, g), 0);
        assert_true(waits(item_of_the_batch, g) > 0); /* the count counts */
        want[i] = fdl_item(fdl_mean(x));
    }
    check_buffer(g, "seen", want[0], want[1], want[2]);
    check_ok(fdl_graph_flush(g));
    check_points(fdl_graph_trend(g, "seen"), (want[0] + want[1] + want[2]) / 3);
    check_points(fdl_graph_trend(g, "plain"), (want[0] + want[1] + want[2]) / 3);
    fdl_module_free(g);
}

/* Many numbers of many names and graphs come with one copy to the host. */
static void one_transfer_at_the_flush(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = three_levels();
    fdl_module *letter = fdl_graph_child(g, "letter");
    double sum = 0;
    for (int i = 0; i < 700; i++) {
        FDL_SCOPE;
        run_on(g, fdl_scalar(i));
        check_ok(fdl_graph_collect(g, "out"));
        check_ok(fdl_graph_collect(letter, "mid"));
        check_ok(fdl_graph_collect_at(g, "letter.read.hidden"));
        sum += i;
    }
    fdl_watch *w = fdl_watch_start();
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_watch_stop(w));
    int copies = 0;
    for (int64_t i = 0; i < fdl_watch_count(w); i++)
        copies += !strcmp(fdl_watch_name(w, i), "aten::copy_") ||
                  !strcmp(fdl_watch_name(w, i), "aten::_local_scalar_dense");
    fdl_watch_free(w);
    assert_true(copies <= 1);
    check_points(fdl_graph_trend(g, "out"), 6 * sum / 700);
    check_points(fdl_graph_trend(letter, "mid"), 6 * sum / 700);
    check_points(fdl_graph_trend_at(g, "letter.read.hidden"), 2 * sum / 700);
    fdl_module_free(g);
}

/* What a replay of a captured step does: the tensor stays, its contents change. */
static void a_value_is_taken_when_it_is_collected(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    fdl_tensor *x = fdl_full(FDL_SHAPE(2), 1), *one = fdl_scalar(1);
    run_on(g, x);
    check_ok(fdl_graph_collect(g, "loss"));
    check_ok(fdl_graph_record_tensor(g, "one", one));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
    FDL_NO_GRAD;
    check_ok(fdl_fill_(x, 2));
    check_ok(fdl_fill_(one, 2));
    check_ok(fdl_graph_collect(g, "loss"));
    check_ok(fdl_graph_record_tensor(g, "one", one));
    check_ok(fdl_fill_(x, 5));
    check_ok(fdl_fill_(one, 5));
    check_buffer(g, "loss", 1, 2);
    check_buffer(g, "one", 1, 2);
    check_ok(fdl_graph_flush(g));
    int n;
    const fdl_histogram *const *h = fdl_graph_histograms(g, "loss", &n);
    assert_int_equal(n, 1);
    check_number(h[0]->max, 1, 0);
    fdl_module_free(g);
}

/* Inference mode, no history kept, and buffers that outlive the values. */
static void modes_and_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), fdl_flow_tag("y"));
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        FDL_INFERENCE;
        run_on(g, fdl_ones(FDL_SHAPE(4, 2)));
        check_ok(fdl_graph_collect(g, "y"));
        check_ok(fdl_graph_collect_histogram(g, "y"));
    }
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        run_on(g, fdl_ones(FDL_SHAPE(4, 2)));
        check_ok(fdl_graph_collect(g, "y"));
        check_ok(fdl_graph_collect_histogram(g, "y"));
    }
    check_ok(fdl_graph_flush(g));
    {
        FDL_SCOPE;
        double y = fdl_item(fdl_mean(fdl_graph_tagged(g, "y")));
        check_points(fdl_graph_trend(g, "y"), y);
    }
    /* the value under the tag and the limits of histograms are all that is left */
    assert_int_equal(fdl_live_tensors(), before + 2);
    fdl_module_free(g);
}

/* ---- graphs inside graphs ------------------------------------------------------------------------------ */

static void a_parents_flush_flushes_children(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), dbl()), id());
    fdl_module *encoder = fdl_graph_child(g, "encoder");
    check_ok(fdl_graph_record_at(g, "encoder.loss", 0.5));
    check_ok(fdl_graph_record_at(g, "encoder.loss", 0.3));
    check_ok(fdl_graph_flush(g));
    check_points(fdl_graph_trend(encoder, "loss"), 0.4);
    check_points(fdl_graph_trend_at(g, "encoder.loss"), 0.4);
    assert_int_equal(fdl_graph_flush_count(encoder), 1);
    assert_int_equal(fdl_graph_flush_count(g), 0);
    check_ok(fdl_graph_record(g, "loss", 1));
    check_ok(fdl_graph_record(encoder, "loss", 2));
    check_ok(fdl_graph_flush(g, "loss")); /* whatever the names */
    assert_int_equal(fdl_graph_flush_count(g), 1);
    assert_int_equal(fdl_graph_flush_count(encoder), 2);
    check_points(fdl_graph_trend(encoder, "loss"), 0.4, 2);
    fdl_module_free(g);
}

static void a_child_that_was_flushed_gets_no_second_point(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), dbl()), id());
    fdl_module *encoder = fdl_graph_child(g, "encoder");
    check_ok(fdl_graph_record(encoder, "loss", 1));
    check_ok(fdl_graph_record(g, "loss", 2));
    check_ok(fdl_graph_flush(encoder));
    check_ok(fdl_graph_flush(g));
    check_points(fdl_graph_trend(encoder, "loss"), 1);
    assert_int_equal(fdl_graph_flush_count(encoder), 1);
    check_points(fdl_graph_trend(g, "loss"), 2);
    fdl_module_free(g);
}

static void a_local_flush_leaves_children_alone(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), dbl()), id());
    fdl_module *encoder = fdl_graph_child(g, "encoder");
    check_ok(fdl_graph_record(encoder, "loss", 1));
    check_ok(fdl_graph_record(g, "loss", 2));
    check_ok(fdl_graph_flush_local(g));
    check_buffer(encoder, "loss", 1);
    assert_int_equal(fdl_graph_flush_count(encoder), 0);
    check_points(fdl_graph_trend(g, "loss"), 2);
    fdl_module_free(g);
}

static void check_metrics_(const fdl_metric *m, int n, const fdl_metric *want, const char *file, int line)
{
    check_some_(m, "the metrics", file, line);
    for (int i = 0;; i++) {
        bool end = fdl_metric_is_end(&m[i]);
        if (end != (i == n) ||
            (!end && (strcmp(m[i].name, want[i].name) || fabs(m[i].value - want[i].value) > 1e-6))) {
            print_error("%s:%d: metric %d is %s\n", file, line, i, end ? "the end" : m[i].name);
            _fail(file, line);
        }
        if (end)
            return;
    }
}
#define check_metrics(m, ...)                                                          \
    check_metrics_(m, (int)(sizeof((fdl_metric[]){__VA_ARGS__}) / sizeof(fdl_metric)), \
                   (fdl_metric[]){__VA_ARGS__}, __FILE__, __LINE__)

static void latest_metrics_of_three_levels(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = three_levels();
    fdl_module *letter = fdl_graph_child(g, "letter");
    int n = -1;
    assert_true(fdl_metric_is_end(fdl_graph_latest_metrics(g, &n)));
    assert_int_equal(n, 0);
    run_on(g, fdl_scalar(1));
    check_ok(fdl_graph_record_at(g, "letter.read.hidden_loss", 3));
    check_ok(fdl_graph_record_at(g, "letter.mid_loss", 2));
    check_ok(fdl_graph_record(g, "z", 1));
    check_ok(fdl_graph_record(g, "a", 0.5));
    assert_int_equal(fdl_trend_len(fdl_graph_trend(g, "asked for first, never recorded")), 0);
    check_ok(fdl_graph_flush(g));
    check_metrics(fdl_graph_latest_metrics(g, &n), {"z", 1}, {"a", 0.5}, {"letter.mid_loss", 2},
                  {"letter.read.hidden_loss", 3});
    assert_int_equal(n, 4);
    check_metrics(fdl_graph_latest_metrics_local(g, &n), {"z", 1}, {"a", 0.5});
    assert_int_equal(n, 2);
    check_metrics(fdl_graph_latest_metrics(letter, NULL), {"mid_loss", 2}, {"read.hidden_loss", 3});
    /* a child at its own pace shows its last point; what isn't flushed isn't shown */
    check_ok(fdl_graph_record(g, "a", 0.25));
    check_ok(fdl_graph_record_at(g, "letter.mid_loss", 9));
    check_ok(fdl_graph_flush_local(g));
    check_metrics(fdl_graph_latest_metrics(g, NULL), {"z", 1}, {"a", 0.25}, {"letter.mid_loss", 2},
                  {"letter.read.hidden_loss", 3});
    /* forgetting keeps the order */
    check_ok(fdl_graph_reset_trend(g, "z"));
    check_ok(fdl_graph_record(g, "z", 4));
    check_ok(fdl_graph_flush_local(g));
    check_metrics(fdl_graph_latest_metrics_local(g, NULL), {"z", 4}, {"a", 0.25});
    fdl_module_free(g);
}

static void paths_of_metrics(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = three_levels();
    assert_int_equal(fdl_graph_record_at(g, "typo.loss", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "typo");
    assert_int_equal(fdl_graph_record_at(g, "letter.mid.loss", 1), FDL_E_ARG); /* mid is a tag */
    check_error(FDL_E_ARG, "mid");
    assert_int_equal(fdl_graph_record_at(g, "letter.", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "empty");
    assert_int_equal(fdl_graph_record_at(g, NULL, 1), FDL_E_NULL);
    check_error(FDL_E_NULL, "path");
    assert_null(fdl_graph_trend_at(g, "typo.loss"));
    check_error(FDL_E_ARG, "typo");
    const fdl_trend *t = fdl_graph_trend_at(g, "letter.unknown");
    check_some(t);
    assert_int_equal(fdl_trend_len(t), 0);
    check_ok(fdl_graph_record_at(g, "loss", 7)); /* one segment: g's own */
    check_buffer(g, "loss", 7);
    check_ok(fdl_graph_collect_at(g, "letter.mid", "letter.read.hidden", "out")); /* not computed: nothing */
    check_no_buffer(fdl_graph_child(g, "letter"), "mid");
    run_on(g, fdl_scalar(1));
    check_ok(fdl_graph_collect_at(g, "letter.mid", "letter.read.hidden", "out"));
    check_buffer(fdl_graph_child(g, "letter"), "mid", 6);
    check_buffer(fdl_graph_subgraph(g, "letter.read"), "hidden", 2);
    check_buffer(g, "out", 6);
    assert_int_equal(fdl_graph_collect_at(g, "out", "letter.read"), FDL_E_ARG);
    check_error(FDL_E_ARG, "letter.read");
    assert_int_equal(fdl_graph_collect_at(g, "letter._secret"), FDL_E_ARG);
    check_error(FDL_E_ARG, "internal");
    check_buffer(g, "out", 6);
    fdl_module_free(g);
}

static void the_end_of_an_epoch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), dbl()), id());
    check_ok(fdl_graph_record(g, "loss", 1));
    check_ok(fdl_graph_record_at(g, "encoder.loss", 2));
    check_ok(fdl_graph_end_step(g));
    assert_int_equal(fdl_graph_step_count(g), 1);
    assert_int_equal(fdl_graph_flush_count(g), 0);
    check_ok(fdl_graph_end_epoch(g));
    assert_int_equal(fdl_graph_epoch_count(g), 1);
    check_points(fdl_graph_trend(g, "loss"), 1);
    check_points(fdl_graph_trend_at(g, "encoder.loss"), 2);
    check_no_buffer(g, "loss");
    check_ok(fdl_graph_end_epoch(g)); /* nothing new */
    assert_int_equal(fdl_graph_epoch_count(g), 2);
    assert_int_equal(fdl_graph_flush_count(g), 1);
    fdl_module_free(g);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static void time_that_remains(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    double t = 100;
    check_ok(fdl_graph_set_clock(g, tick, &t));
    check_number(fdl_graph_eta(g, 10), 0, 0);
    run_on(g, fdl_scalar(1));
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_graph_record(g, "loss", 1));
        t += 2;
        check_ok(fdl_graph_flush(g));
    }
    t += 50; /* as of the last flush */
    check_number(fdl_graph_eta(g, 10), 16, 1e-12);
    check_number(fdl_graph_eta(g, 2), 0, 0);
    check_number(fdl_graph_eta(g, 1), 0, 0);
    fdl_module_free(g);

    /* without a forward: from the first record */
    g = passes();
    t = 1000;
    check_ok(fdl_graph_set_clock(g, tick, &t));
    check_ok(fdl_graph_record(g, "loss", 1));
    t += 3;
    check_ok(fdl_graph_flush(g));
    check_number(fdl_graph_eta(g, 3), 6, 1e-12);
    fdl_module_free(g);
}

/* ---- histograms ---------------------------------------------------------------------------------------- */

static double counted(const fdl_histogram *h, double from, double to)
{
    double n = 0;
    for (int64_t i = 0; i < h->n; i++)
        if (h->counts[i] > 0 && h->limits[i] > from && (i == 0 || h->limits[i - 1] < to))
            n += h->counts[i];
    return n;
}

static void histograms_of_an_epoch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = passes();
    int n = -1;
    assert_null(fdl_graph_histograms(g, "loss", &n));
    assert_int_equal(n, 0);
    run_on(g, fdl_vec(-3, 0, 0.5, 0.5, 1e-13, 2));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
    run_on(g, fdl_vec(0.5, -1e25, NAN, INFINITY, -INFINITY));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
    check_ok(fdl_graph_record_histogram(g, "w", fdl_ivec(1, 1, 4)));
    check_ok(fdl_graph_collect(g, "loss"));
    (void)fdl_graph_collected(g, "loss", NULL); /* what has come to the host adds up with what comes later */
    run_on(g, fdl_vec(7));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
    check_ok(fdl_graph_flush(g));
    const fdl_histogram *const *all = fdl_graph_histograms(g, "loss", &n);
    assert_int_equal(n, 1);
    const fdl_histogram *h = all[0];
    check_number(h->num, 9, 0);
    check_number(h->nonfinite, 3, 0);
    check_number(h->min, -1e25, 1e18);
    check_number(h->max, 7, 0);
    check_number(h->sum, -1e25, 1e18);
    check_number(h->sum_squares, 1e50, 1e43);
    assert_int_equal(h->epoch, 1);
    double total = 0;
    for (int64_t i = 0; i < h->n; i++) {
        total += h->counts[i];
        assert_true(i == 0 || h->limits[i] > h->limits[i - 1]);
    }
    check_number(total, 9, 0);
    check_number(counted(h, 0.46, 0.54), 3, 0);
    check_number(counted(h, -3.3, -2.8), 1, 0);
    check_number(counted(h, 6.5, 7.6), 1, 0);
    check_number(counted(h, 0, 1e-12), 2, 0); /* 0 is no negative number */
    check_number(h->counts[1], 1, 0);         /* everything below -1e20 */
    all = fdl_graph_histograms(g, "w", &n);
    assert_int_equal(n, 1);
    check_number(all[0]->num, 3, 0);
    check_number(all[0]->sum, 6, 0);
    check_number(all[0]->sum_squares, 18, 0);
    check_number(all[0]->counts[0], 0, 0); /* the lower end of the first bucket that counts */
    assert_true(all[0]->limits[0] <= 1 && all[0]->limits[1] > 1);
    assert_int_equal(fdl_graph_flush_count(g), 1);

    run_on(g, fdl_vec(NAN));
    check_ok(fdl_graph_collect_histogram(g, "loss"));
    check_ok(fdl_graph_flush(g));
    all = fdl_graph_histograms(g, "loss", &n);
    assert_int_equal(n, 2);
    assert_int_equal(all[1]->epoch, 2);
    assert_int_equal(all[1]->n, 0);
    check_number(all[1]->nonfinite, 1, 0);
    check_number(all[1]->num, 0, 0);
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {cmocka_unit_test(collected_values_become_means),
                                       cmocka_unit_test(recorded_numbers_become_means),
                                       cmocka_unit_test(a_flush_of_nothing_counts_for_nothing),
                                       cmocka_unit_test(histories_are_forgotten),
                                       cmocka_unit_test(reductions),
                                       cmocka_unit_test(reductions_of_narrow_dtypes),
                                       cmocka_unit_test(what_collect_refuses),
                                       cmocka_unit_test(a_group_stands_for_its_members),
                                       cmocka_unit_test(weights_of_batches),
                                       cmocka_unit_test(nothing_waits_before_the_flush),
                                       cmocka_unit_test(one_transfer_at_the_flush),
                                       cmocka_unit_test(a_value_is_taken_when_it_is_collected),
                                       cmocka_unit_test(modes_and_history),
                                       cmocka_unit_test(a_parents_flush_flushes_children),
                                       cmocka_unit_test(a_child_that_was_flushed_gets_no_second_point),
                                       cmocka_unit_test(a_local_flush_leaves_children_alone),
                                       cmocka_unit_test(latest_metrics_of_three_levels),
                                       cmocka_unit_test(paths_of_metrics),
                                       cmocka_unit_test(the_end_of_an_epoch),
                                       cmocka_unit_test(time_that_remains),
                                       cmocka_unit_test(histograms_of_an_epoch)};
    return cmocka_run_group_tests_name("graph observe", tests, NULL, NULL);
}
