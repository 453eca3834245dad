/* Observation without memory: each allocation fails once, and there is an error, nothing half done and nothing left. */
#include "no_memory.h"

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    printf("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else
#include "folder.h"

static fdl_module *g; /* made once, with its histories: what each call adds is what may fail */

static bool good(fdl_status status)
{
    return status == FDL_OK;
}

static fdl_tensor *twice(fdl_tensor *x)
{
    return fdl_add(x, x);
}

static fdl_module *network(void)
{
    return fdl_flow(fdl_flow(fdl_flow_label("encoder"), fdl_nn_fn(twice), fdl_flow_tag("hidden")),
                    fdl_flow_split(fdl_nn_fn(twice), fdl_nn_identity()), fdl_flow_tag_group("head"),
                    fdl_flow_merge(FDL_MERGE_ADD));
}

/* A fresh graph's whole life. */
static bool a_life(void)
{
    FDL_SCOPE;
    fdl_module *m = network();
    fdl_tensor *y = m ? fdl_forward(m, fdl_vec(1, 2, 3)) : NULL;
    bool all = y && good(fdl_graph_collect(m, "head")) && good(fdl_graph_collect_at(m, "encoder.hidden")) &&
               good(fdl_graph_collect_histogram(m, "head_1")) && good(fdl_graph_record(m, "loss", 1)) &&
               good(fdl_graph_record_tensor(m, "loss", fdl_scalar(2))) && good(fdl_graph_flush(m));
    int n = 0;
    all = all && fdl_graph_latest_metrics(m, &n) && n == 4 && fdl_graph_trends(m, "head", "loss") &&
          fdl_graph_trend_at(m, "encoder.hidden");
    if (all)
        check_number(fdl_trend_latest(fdl_graph_trend(m, "loss")), 1.5, 0);
    fdl_module_free(m);
    return all;
}

/* A flush that fails has flushed nothing, in no graph. */
static bool a_flush(void)
{
    FDL_SCOPE;
    const fdl_trend *own = fdl_graph_trend(g, "loss"), *inner = fdl_graph_trend_at(g, "encoder.loss");
    int64_t points = fdl_trend_len(own), below = fdl_trend_len(inner);
    bool all = own && inner && good(fdl_graph_record(g, "loss", 1)) &&
               good(fdl_graph_record_at(g, "encoder.loss", 2));
    if (all) {
        all = good(fdl_graph_flush_local(g));
        assert_int_equal(fdl_trend_len(own), points + all);
        assert_int_equal(fdl_trend_len(inner), below);
    }
    all = all && good(fdl_graph_flush(g));
    if (all) {
        assert_int_equal(fdl_trend_len(inner), below + 1);
        return true;
    }
    /* What was recorded waits for the next flush, which succeeds. */
    fdl_status status = fdl_last_error()->status;
    check_ok(fdl_graph_flush(g));
    fdl_clear_error();
    return fdl_fail(status, "a flush without memory") == FDL_OK;
}

static bool files(void)
{
    FDL_SCOPE;
    int before = files_in_folder();
    bool all = good(fdl_graph_export_csv(g, path_of("a.csv"))) &&
               good(fdl_graph_export_jsonl(g, path_of("a.jsonl"))) &&
               good(fdl_graph_write_log(g, path_of("a.log"), 10)) &&
               good(fdl_graph_export_events(g, path_of("run")));
    assert_true(files_in_folder() - before >= 0 && files_in_folder() <= 4); /* no temporary file stays */
    return all;
}

static bool events(void)
{
    FDL_SCOPE;
    fdl_events *ev = fdl_events_open(path_of("run"));
    bool all = ev && good(fdl_graph_write_events(g, ev)) && good(fdl_events_scalar(ev, "a", 1, 1)) &&
               good(fdl_events_text(ev, "a", "b", 1));
    char *path = ev ? strdup(fdl_events_path(ev)) : NULL;
    fdl_status closed = fdl_events_close(ev);
    if (path)
        remove(path);
    free(path);
    return all && closed == FDL_OK;
}

static void whole_life(void **state)
{
    (void)state;
    every_allocation(a_life, 20);
}

static void flushes(void **state)
{
    (void)state;
    every_allocation(a_flush, 2);
}

static void exports(void **state)
{
    (void)state;
    every_allocation(files, 8);
}

static void event_files(void **state)
{
    (void)state;
    every_allocation(events, 6);
    remove(path_of("run/events.out.tfevents.0000000000.flodl"));
    rmdir(path_of("run"));
}

static int setup(void **state)
{
    g = network();
    if (!g || make_folder(state) != 0 || no_memory_setup(state) != 0)
        return -1;
    FDL_SCOPE;
    for (int i = 0; i < 3; i++) {
        FDL_CHECK(fdl_graph_record(g, "loss", i));
        FDL_CHECK(fdl_graph_record_at(g, "encoder.loss", i));
        FDL_CHECK(fdl_graph_record_histogram(g, "w", fdl_vec(1, 2)));
        FDL_CHECK(fdl_graph_flush(g));
    }
    return 0;
}

static int teardown(void **state)
{
    fdl_module_free(g);
    return remove_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_life), cmocka_unit_test(flushes),
                                       cmocka_unit_test(exports), cmocka_unit_test(event_files)};
    return cmocka_run_group_tests_name("graph observe without memory", tests, setup, teardown);
}
#endif
