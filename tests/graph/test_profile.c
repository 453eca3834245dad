/* Profiles: what is measured, on and off, tables and pictures, times over the epochs. */
#include "folder.h"
#include "graph/modules.h"

#include <math.h>
#include <time.h>

static fdl_tensor *slow(fdl_tensor *x)
{
    const struct timespec t = {.tv_nsec = 5000000};
    nanosleep(&t, NULL);
    return fdl_add(x, 1.0);
}

static fdl_module *model(void)
{
    return fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("hidden"), fdl_flow_tag("also hidden"), fdl_nn_gelu(),
                    fdl_flow_split(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4)), fdl_flow_tag_group("head"),
                    fdl_flow_merge(FDL_MERGE_ADD), fdl_nn_fn(slow, .name = "slow"), fdl_flow_tag("slow"),
                    fdl_nn_linear(4, 2));
}

static void run(fdl_module *g)
{
    FDL_SCOPE;
    check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 4))));
}

static void on_and_off(void **state)
{
    (void)state;
    fdl_module *g = model();
    check_some(g);
    assert_false(fdl_graph_profiling(g));
    run(g);
    assert_null(fdl_graph_last_profile(g));
    assert_true(fdl_graph_timing(g, "hidden") == 0);
    assert_int_equal(fdl_last_error()->status, FDL_OK);
    check_ok(fdl_graph_enable_profiling(g));
    check_ok(fdl_graph_enable_profiling(g));
    assert_true(fdl_graph_profiling(g));
    assert_null(fdl_graph_last_profile(g));
    run(g);
    const fdl_profile *p = fdl_graph_last_profile(g);
    check_some(p);
    assert_int_equal(p->nodes, fdl_graph_node_count(g));
    assert_true(p->seconds > 0);
    assert_true(fdl_graph_timing(g, "hidden") > 0);
    assert_true(fdl_graph_timing(g, "hidden") == fdl_graph_timing(g, "also hidden"));
    assert_true(fdl_graph_timing(g, "head_1") > 0);
    assert_true(fdl_graph_timing(g, "nobody") == 0);
    check_ok(fdl_graph_disable_profiling(g));
    check_ok(fdl_graph_disable_profiling(g));
    assert_false(fdl_graph_profiling(g));
    assert_null(fdl_graph_last_profile(g));
    assert_true(fdl_graph_timing(g, "hidden") == 0);
    run(g);
    assert_null(fdl_graph_last_profile(g));
    fdl_module_free(g);
}

static void nodes_and_levels(void **state)
{
    (void)state;
    fdl_module *g = model();
    check_ok(fdl_graph_enable_profiling(g));
    run(g);
    run(g);
    const fdl_profile *p = fdl_graph_last_profile(g);
    check_some(p);
    double sum = 0, levels = 0;
    int nodes = 0;
    for (int i = 0; i < p->nodes; i++) {
        assert_string_equal(p->node[i].id, fdl_graph_node_id(g, i));
        assert_int_equal(p->node[i].level, fdl_graph_node_level(g, i));
        assert_true(p->node[i].seconds >= 0 && p->node[i].host_seconds >= 0);
        sum += p->node[i].seconds;
    }
    assert_int_equal(p->node[0].tags, 2);
    assert_string_equal(p->node[0].tag[0], "hidden");
    assert_string_equal(p->node[0].tag[1], "also hidden");
    assert_int_equal(p->node[1].tags, 0);
    assert_int_equal(p->levels, 6);
    for (int i = 0; i < p->levels; i++) {
        const fdl_profile_level *l = &p->level[i];
        assert_int_equal(l->level, i);
        assert_int_equal(l->nodes, i == 2 ? 2 : 1);
        nodes += l->nodes;
        levels += l->seconds;
        if (l->nodes == 1)
            assert_true(l->parallelism == 1);
        else
            check_number(l->parallelism, l->sum / l->seconds, 1e-12);
        assert_true(l->sum <= l->seconds * 1.001);
    }
    assert_int_equal(nodes, p->nodes);
    assert_true(sum <= p->seconds * 1.001 && levels <= p->seconds * 1.001);
    /* The node that sleeps 5 ms has them. */
    assert_true(fdl_graph_timing(g, "slow") > (p->on_device ? 0 : 4e-3));
    assert_true(p->host_seconds > 4e-3);
    assert_int_equal(p->on_device, fdl_cuda_available() && getenv("FLODL_TEST_DEVICE") != NULL);
    fdl_module_free(g);
}

/* A forward that fails leaves the profile of the one before; a profile of a graph inside is its own. */
static void failures_and_graphs_inside(void **state)
{
    (void)state;
    fdl_module *inner = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4));
    fdl_module *g = fdl_flow(inner, fdl_flow_loop(fdl_module_share(inner), .n = 3), fdl_nn_linear(4, 2));
    check_ok(fdl_graph_enable_profiling(g));
    run(g);
    assert_null(fdl_graph_last_profile(inner));
    check_ok(fdl_graph_enable_profiling(inner));
    run(g);
    check_some(fdl_graph_last_profile(inner));
    assert_int_equal(fdl_graph_last_profile(inner)->nodes, 2);
    double before = fdl_graph_last_profile(g)->seconds;
    {
        FDL_SCOPE;
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 5))));
        fdl_clear_error();
    }
    assert_true(fdl_graph_last_profile(g)->seconds == before);
    run(g);
    fdl_module_free(g);

    /* A reader of state that is empty gives nothing. */
    g = fdl_flow(fdl_nn_linear(4, 4), sum_refs(), fdl_flow_using("memory"), fdl_flow_tag("memory"));
    check_some(g);
    check_ok(fdl_graph_enable_profiling(g));
    for (int i = 0; i < 2; i++) {
        run(g);
        const fdl_profile *p = fdl_graph_last_profile(g);
        check_some(p);
        assert_int_equal(p->nodes, 3);
        for (int k = 0; k < p->nodes; k++)
            assert_true(p->node[k].seconds >= 0 && p->node[k].seconds < 10);
    }
    fdl_module_free(g);
}

static void a_table(void **state)
{
    (void)state;
    fdl_module *g = model();
    check_ok(fdl_graph_enable_profiling(g));
    run(g);
    char *text = fdl_profile_text(fdl_graph_last_profile(g));
    check_some(text);
    for (int i = 0; i < fdl_graph_node_count(g); i++)
        assert_non_null(strstr(text, fdl_graph_node_id(g, i)));
    assert_non_null(strstr(text, "#hidden #also hidden"));
    assert_non_null(strstr(text, "level 5: "));
    assert_non_null(strstr(text, ", 2 nodes, x"));
    free(text);
    fdl_module_free(g);
    /* Numbers that are known. */
    const char *const tags[] = {"a"};
    const fdl_profile_node nodes[] = {{"one_1", 1, tags, 0, 0.0005, 0.00025},
                                      {"two_2", 0, NULL, 1, 0.0015, 0.001}};
    const fdl_profile_level levels[] = {{0, 1, 0.0005, 0.0005, 1}, {1, 1, 0.0015, 0.0015, 1}};
    text = fdl_profile_text(&(fdl_profile){0.002, 0.0015, true, 2, nodes, 2, levels});
    assert_string_equal(text,
                        "forward: 2.00ms, on the host 1.50ms; 2 nodes on 2 levels; times are the device's\n"
                        "  node                                   time       host   share\n"
                        "level 0: 500us\n"
                        "  one_1 #a                              500us      250us   25.0%\n"
                        "level 1: 1.50ms\n"
                        "  two_2                                1.50ms     1.00ms   75.0%\n");
    free(text);
    assert_null(fdl_profile_text(NULL));
    check_error(FDL_E_NULL, "fdl_profile_text");
}

static void heat_colours(void **state)
{
    (void)state;
    static const struct {
        double r;
        const char *colour;
    } cases[] = {{0, "#27ae60"}, {0.25, "#8da539"}, {0.5, "#f39c12"}, {0.75, "#ed7427"},
                 {1, "#e74c3c"}, {-1, "#27ae60"},   {7, "#e74c3c"},   {NAN, "#27ae60"}};
    char buf[8];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_string_equal(fdl_profile_color(cases[i].r, buf, sizeof buf), cases[i].colour);
}

static void a_heat_map(void **state)
{
    (void)state;
    fdl_module *g = model();
    char *plain = fdl_graph_dot(g), *dot = fdl_graph_dot_profile(g);
    assert_string_equal(plain, dot); /* without a profile */
    free(dot);
    check_ok(fdl_graph_enable_profiling(g));
    run(g);
    dot = fdl_graph_dot_profile(g);
    check_some(dot);
    assert_string_not_equal(plain, dot);
    assert_non_null(strstr(dot, "label=<total "));
    const fdl_profile *p = fdl_graph_last_profile(g);
    int hottest = 0;
    for (int i = 0; i < p->nodes; i++)
        if (p->node[i].seconds > p->node[hottest].seconds)
            hottest = i;
    for (int i = 0; i < p->nodes; i++) {
        char name[64], colour[8], fill[32], time[32];
        snprintf(name, sizeof name, "\n\"%s\" [", p->node[i].id);
        const char *line = strstr(dot, name);
        check_some(line);
        char text[1024];
        snprintf(text, sizeof text, "%.*s", (int)strcspn(line + 1, "\n"), line + 1);
        snprintf(fill, sizeof fill, "fillcolor=\"%s\"",
                 fdl_profile_color(p->node[i].seconds / p->node[hottest].seconds, colour, sizeof colour));
        assert_non_null(strstr(text, fill));
        double s = p->node[i].seconds;
        snprintf(time, sizeof time, s < 1e-3 ? "%.0fus<" : "%.2fms<", s < 1e-3 ? s * 1e6 : s * 1e3);
        assert_non_null(strstr(text, time));
    }
    assert_non_null(strstr(dot, "level 2<BR/>"));
    free(dot);
    free(plain);
    fdl_status status = fdl_graph_svg_profile(g, path_of("heat.svg"));
    if (status == FDL_E_UNSUPPORTED)
        fdl_clear_error();
    else
        check_ok(status);
    fdl_module_free(g);
}

static void times_over_epochs(void **state)
{
    (void)state;
    fdl_module *g = model();
    assert_int_equal(fdl_graph_collect_timings(g), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_graph_enable_profiling");
    check_ok(fdl_graph_enable_profiling(g));
    check_ok(fdl_graph_collect_timings(g)); /* no forward so far: nothing */
    double means[2] = {0, 0};
    for (int epoch = 0; epoch < 2; epoch++) {
        for (int i = 0; i < 3; i++) {
            run(g);
            check_ok(fdl_graph_collect_timings(g, "slow", "head"));
            means[epoch] += fdl_graph_timing(g, "slow") / 3;
        }
        check_ok(fdl_graph_flush_timings(g));
    }
    const fdl_trend *t = fdl_graph_timing_trend(g, "slow");
    assert_int_equal(fdl_trend_len(t), 2);
    check_number(fdl_trend_values(t)[0], means[0], 1e-12);
    check_number(fdl_trend_values(t)[1], means[1], 1e-12);
    assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "head_0")), 2);
    assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "hidden")), 0);
    {
        FDL_SCOPE;
        assert_int_equal(fdl_trends_len(fdl_graph_timing_trends(g, "head", "slow")), 3);
    }
    check_ok(fdl_graph_flush_timings(g));
    assert_int_equal(fdl_trend_len(t), 2);
    check_ok(fdl_graph_reset_timing_trend(g, "slow"));
    assert_int_equal(fdl_trend_len(t), 0);
    assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "head_0")), 2);
    check_ok(fdl_graph_reset_timing_trend(g));
    assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "head_0")), 0);
    assert_int_equal(fdl_graph_collect_timings(g, "slow", "nobody"), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_collect_timings", "nobody");
    check_ok(fdl_graph_disable_profiling(g));
    fdl_module_free(g);
}

/* The rhythm of training does it all while profiling is on, and nothing while it is off. */
static void with_steps_and_epochs(void **state)
{
    (void)state;
    fdl_module *g = model();
    for (int on = 0; on < 2; on++) {
        if (on)
            check_ok(fdl_graph_enable_profiling(g));
        for (int i = 0; i < 2; i++) {
            run(g);
            check_ok(fdl_graph_end_step(g));
        }
        check_ok(fdl_graph_end_epoch(g));
        assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "hidden")), on);
        assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "also hidden")), 0);
        assert_int_equal(fdl_trend_len(fdl_graph_timing_trend(g, "head_1")), on);
    }
    fdl_module_free(g);
}

static void wrong_calls(void **state)
{
    (void)state;
    assert_int_equal(fdl_graph_enable_profiling(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_enable_profiling");
    fdl_module *m = fdl_nn_linear(2, 2);
    assert_int_equal(fdl_graph_enable_profiling(m), FDL_E_ARG);
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_graph_last_profile(m));
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_graph_dot_profile(m));
    check_error(FDL_E_ARG, "linear");
    fdl_module_free(m);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_and_off),
        cmocka_unit_test(nodes_and_levels),
        cmocka_unit_test(failures_and_graphs_inside),
        cmocka_unit_test(a_table),
        cmocka_unit_test(heat_colours),
        cmocka_unit_test(a_heat_map),
        cmocka_unit_test(times_over_epochs),
        cmocka_unit_test(with_steps_and_epochs),
        cmocka_unit_test(wrong_calls),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
