/* A graph's metrics in the monitor's lines. */
#include "monitor/run.h"

static fdl_module *observed(void)
{
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow_label("encoder"), fdl_nn_identity()), fdl_nn_identity());
    check_some(g);
    return g;
}

static void metrics_of_a_graph_come_first(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 10);
    fdl_module *g = observed();
    check_ok(fdl_graph_record(g, "loss", 0.5));
    check_ok(fdl_graph_record_at(g, "encoder.norm", 2));
    check_ok(fdl_graph_flush(g));
    r.now += 1;
    check_ok(fdl_monitor_log(r.mon, 0, 1, .graph = g, .metrics = FDL_METRICS({"lr", 0.25}, {"loss", 0.75})));
    /* of a name that comes twice the later value, at the first one's place */
    assert_string_equal(run_text(&r),
                        "  epoch  1/10  loss=0.7500  encoder.norm=2.0000  lr=0.2500  [1s  ETA 9s]\n");
    int64_t n;
    const fdl_monitor_record *all = fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, 1);
    assert_int_equal(all[0].n_metrics, 3);
    assert_string_equal(all[0].metrics[1].name, "encoder.norm");
    fdl_module_free(g); /* the monitor has copied what it needs */
    assert_string_equal(fdl_monitor_history(r.mon, &n)[0].metrics[1].name, "encoder.norm");
    run_close(&r);
}

static void the_monitor_flushes_nothing(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 10);
    fdl_module *g = observed();
    r.now += 1;
    check_ok(fdl_monitor_log(r.mon, 0, 1, .graph = g)); /* nothing so far */
    assert_string_equal(run_text(&r), "  epoch  1/10  [1s  ETA 9s]\n");
    check_ok(fdl_graph_record(g, "loss", 0.5));
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_graph_record(g, "loss", 0.25));
    for (int i = 1; i < 3; i++) {
        FDL_SCOPE;
        r.now += 1;
        check_ok(fdl_monitor_log(r.mon, i, 1, .graph = g));
        assert_non_null(strstr(run_text(&r), "  loss=0.5000  [1s"));
        int64_t n;
        (void)fdl_graph_collected(g, "loss", &n);
        assert_int_equal(n, 1);
    }
    assert_int_equal(fdl_graph_flush_count(g), 1);
    fdl_module_free(g);
    run_close(&r);
}

static void what_is_no_graph(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 10);
    fdl_module *m = fdl_nn_identity();
    assert_int_equal(fdl_monitor_log(r.mon, 0, 1, .graph = m), FDL_E_ARG);
    check_error(FDL_E_ARG, "identity", "no graph");
    int64_t n;
    (void)fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, 0);
    fdl_module_free(m);

    /* the graph's and the caller's together */
    fdl_module *g = observed();
    for (int i = 0; i < FDL_MONITOR_MAX_METRICS; i++) {
        char name[16];
        snprintf(name, sizeof name, "m%d", i);
        check_ok(fdl_graph_record(g, name, i));
    }
    check_ok(fdl_graph_flush(g));
    check_ok(fdl_monitor_log(r.mon, 0, 1, .graph = g));
    assert_int_equal(fdl_monitor_log(r.mon, 1, 1, .graph = g, .metrics = FDL_METRICS({"lr", 1})), FDL_E_ARG);
    check_error(FDL_E_ARG, "256");
    fdl_module_free(g);
    run_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(metrics_of_a_graph_come_first),
                                       cmocka_unit_test(the_monitor_flushes_nothing),
                                       cmocka_unit_test(what_is_no_graph)};
    return cmocka_run_group_tests_name("monitor graph", tests, NULL, NULL);
}
