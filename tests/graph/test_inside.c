/* What src/graph offers to the layers above: values under tags by number, and watchers of a forward. */
#include "graph/modules.h"

#include "../../src/graph/graph_private.h"

/* ---- tags by number ------------------------------------------------------------------------------------ */

static void tags_are_read_and_replaced_by_number(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_flow(dbl(), fdl_flow_tag("a"), fdl_flow_tag("twin"), tri(), fdl_flow_tag("b"));
    graph *g = graph_of("test", m);
    assert_null(graph_tag_value(g, 0));
    fdl_forward(m, row(1));
    check_values(graph_tag_value(g, 0), 2);
    check_values(graph_tag_value(g, 2), 6);
    fdl_tensor *other = row(9);
    check_ok(graph_set_tag_value(g, 0, other));
    assert_true(fdl_is(fdl_graph_tagged(m, "twin"), other));
    check_ok(graph_set_tag_value(g, 0, NULL));
    assert_null(graph_tag_value(g, 1));
    fdl_forward(m, row(1));
    check_values(graph_tag_value(g, 1), 2);
    fdl_module_free(m);
}

/* ---- watchers ------------------------------------------------------------------------------------------ */

typedef struct recorder {
    graph_watcher w;
    const char *name;
    bool replaces, fails;
} recorder;

static char seen[512];

static void note(const graph_watcher *w, const char *what)
{
    size_t used = strlen(seen);
    snprintf(seen + used, sizeof seen - used, "%s%s ", ((const recorder *)w)->name, what);
}

static void on_begin(graph_watcher *w, graph *g)
{
    (void)g;
    note(w, "begin");
}

static void on_before(graph_watcher *w, graph *g, int place)
{
    note(w, g->node[g->plan[place].node].id);
}

static fdl_tensor *on_after(graph_watcher *w, graph *g, int place, fdl_tensor *y)
{
    (void)g;
    const recorder *r = (recorder *)w;
    if (r->fails && place == 1)
        return fdl_fail_null(FDL_E_RANGE, "the watcher refuses");
    return r->replaces ? fdl_neg(y) : y;
}

static void on_end(graph_watcher *w, graph *g, bool succeeded)
{
    (void)g;
    note(w, succeeded ? "end" : "failed");
}

static void on_free(graph_watcher *w)
{
    note(w, "free");
}

static const graph_watcher look = {
    .begin = on_begin, .before = on_before, .after = on_after, .end = on_end, .free = on_free};

static void watchers_see_each_node(void **state)
{
    (void)state;
    FDL_SCOPE;
    recorder a = {.w = look, .name = "a."}, b = {.w = look, .name = "b."};
    fdl_module *m = fdl_flow(id(), dbl());
    graph *g = graph_of("test", m);
    graph_watch(g, &a.w);
    graph_watch(g, &b.w);
    seen[0] = 0;
    check_values(fdl_forward(m, row(1)), 2);
    assert_string_equal(seen, "a.begin b.begin a.identity_1 b.identity_1 a.dbl_2 b.dbl_2 a.end b.end ");
    seen[0] = 0;
    graph_unwatch(g, &a.w);
    b.w.begin = NULL;
    b.w.before = NULL;
    b.w.after = NULL;
    check_values(fdl_forward(m, row(1)), 2);
    fdl_module_free(m);
    assert_string_equal(seen, "a.free b.end b.free ");
}

static void a_watcher_may_replace_a_value_or_fail(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = row(1);
    recorder a = {.w = look, .name = "a.", .replaces = true};
    fdl_module *m = fdl_flow(id(), fdl_flow_tag("t"), dbl(), fdl_flow_also(tri()));
    int64_t before = fdl_live_tensors();
    graph_watch(graph_of("test", m), &a.w);
    {
        FDL_SCOPE;
        check_values(fdl_forward(m, x), -(2 - 6)); /* t = -1; dbl 2; tri -6; the sum */
        check_values(fdl_graph_tagged(m, "t"), -1);
        check_values(x, 1);
    }
    assert_int_equal(fdl_live_tensors(), before + 1);
    a.fails = true;
    seen[0] = 0;
    assert_null(fdl_forward(m, x));
    check_error(FDL_E_RANGE, "dbl_2: the watcher refuses");
    assert_string_equal(seen, "a.begin a.identity_1 a.dbl_2 a.failed ");
    fdl_module_free(m);
}

/* ---- what the layers above hang on a graph ------------------------------------------------------------- */

/* A graph's forward over two halves of the batch, as over two devices. */
static fdl_tensor *by_halves(void *ctx, fdl_module *m, int n, fdl_tensor *const *inputs)
{
    assert_int_equal(n, 1);
    ++*(int *)ctx;
    int64_t rows = fdl_size(inputs[0], 0) / 2;
    fdl_tensor *a = graph_forward_local(m, 1, (fdl_tensor *[]){fdl_narrow(inputs[0], 0, 0, rows)});
    fdl_tensor *tag = fdl_keep(graph_tag_value(m->self, 0));
    fdl_tensor *b = graph_forward_local(m, 1, (fdl_tensor *[]){fdl_narrow(inputs[0], 0, rows, rows)});
    check_ok(
        graph_set_tag_value(m->self, 0, fdl_cat(FDL_LIST(fdl_adopt(tag), graph_tag_value(m->self, 0)), 0)));
    return fdl_cat(FDL_LIST(a, b), 0);
}

static void a_forward_may_be_overridden(void **state)
{
    (void)state;
    FDL_SCOPE;
    int calls = 0;
    const float rows[] = {1, 2, 3, 4};
    fdl_module *child = fdl_flow(dbl(), fdl_flow_tag("t"), tri());
    fdl_module *m = fdl_flow(child);
    graph *g = graph_of("test", child);
    g->override = by_halves;
    g->override_ctx = &calls;
    fdl_tensor *x = fdl_from_f32(rows, FDL_SHAPE(4, 1));
    check_values(fdl_forward(m, x), 6, 12, 18, 24);
    check_values(fdl_graph_tagged(child, "t"), 2, 4, 6, 8);
    check_values(fdl_forward(child, x), 6, 12, 18, 24);
    assert_int_equal(calls, 2);
    g->override = NULL;
    check_values(fdl_forward(m, x), 6, 12, 18, 24);
    assert_int_equal(calls, 2);
    fdl_module_free(m);
}

static int freed;

static void free_training(void *training)
{
    assert_int_equal(*(int *)training, 7);
    freed++;
}

static void a_training_context_goes_with_its_graph(void **state)
{
    (void)state;
    int context = 7;
    fdl_module *m = fdl_flow(id());
    graph *g = graph_of("test", m);
    g->training = &context;
    g->training_free = free_training;
    g->training_steps++;
    assert_int_equal(fdl_graph_step_count(m), 0);
    check_ok(fdl_graph_end_step(m));
    assert_int_equal(g->training_steps, 1);
    fdl_module_free(m);
    assert_int_equal(freed, 1);
}

static fdl_tensor *double_and_emit(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    (void)self;
    (void)r;
    fdl_emit(e, "seen", x);
    return fdl_add(x, x);
}

static const fdl_module_ops emits_ops = {.kind = "emits", .step = double_and_emit};

static void traces_are_replaced(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_flow_loop(fdl_module_new(&emits_ops), .n = 3));
    graph *g = graph_of("test", m);
    fdl_forward(m, row(1));
    assert_int_equal(g->traces, 1);
    assert_string_equal(g->trace[0].name, "seen");
    assert_int_equal(g->trace[0].n, 3);
    check_ok(graph_set_trace(g, 0, 2, (fdl_tensor *[]){row(8), row(9)}));
    int n;
    fdl_tensor *const *traces = fdl_graph_traces(m, "seen", &n);
    assert_int_equal(n, 2);
    check_values(traces[1], 9);
    fdl_forward(m, row(1));
    traces = fdl_graph_traces(m, "seen", &n);
    assert_int_equal(n, 3);
    check_values(traces[2], 4);
    /* a replayed run can't put them back: they are gone rather than old */
    check_ok(fdl_module_set_left(m, fdl_module_left(m)));
    assert_null(fdl_graph_traces(m, "seen", &n));
    assert_int_equal(n, 0);
    fdl_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_are_read_and_replaced_by_number),
        cmocka_unit_test(watchers_see_each_node),
        cmocka_unit_test(a_watcher_may_replace_a_value_or_fail),
        cmocka_unit_test(a_forward_may_be_overridden),
        cmocka_unit_test(a_training_context_goes_with_its_graph),
        cmocka_unit_test(traces_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
