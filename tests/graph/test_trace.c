/* What loops, gates and switches publish. */
#include "graph/modules.h"

/* s -> 2 s, publishing double = 2 s and quad = 4 s; every other time only when sparse. */
typedef struct emitter {
    int calls;
    bool sparse;
    const char *first, *second;
} emitter;

static fdl_tensor *emitter_step(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    emitter *m = self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    fdl_tensor *y = fdl_add(x, x);
    fdl_emit(e, m->first, y);
    if (!m->sparse || m->calls % 2 == 0)
        fdl_emit(e, m->second, fdl_add(y, y));
    m->calls++;
    return y;
}

static void emitter_reset(void *self)
{
    ((emitter *)self)->calls = 0;
}

static const fdl_module_ops emitter_ops = {
    .kind = "emitter", .size = sizeof(emitter), .step = emitter_step, .reset = emitter_reset};

static fdl_module *new_emitter(const char *first, const char *second, bool sparse)
{
    fdl_module *m = fdl_module_new(&emitter_ops);
    *(emitter *)fdl_module_self(m) = (emitter){.sparse = sparse, .first = first, .second = second};
    return m;
}
#define emits() new_emitter("double", "quad", false)

/* x + b; its trace is what it gave, or nothing at the first call. */
typedef struct traced {
    fdl_tensor *b, *last;
    bool late;
} traced;

static fdl_tensor *traced_forward(void *self, fdl_tensor *x)
{
    traced *m = self;
    fdl_tensor *y = fdl_add(x, m->b);
    fdl_free(m->last);
    m->last = fdl_keep(y);
    return y;
}

static fdl_tensor *traced_trace(void *self)
{
    traced *m = self;
    bool skip = m->late;
    m->late = false;
    return skip ? NULL : m->last;
}

static void traced_free(void *self)
{
    fdl_free(((traced *)self)->last);
}

static const fdl_module_ops traced_ops = {.kind = "traced",
                                          .size = sizeof(traced),
                                          .forward = traced_forward,
                                          .trace = traced_trace,
                                          .free = traced_free};

static fdl_module *new_traced(double b)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&traced_ops);
    ((traced *)fdl_module_self(m))->b = fdl_module_param(m, "b", fdl_full(FDL_SHAPE(2), b));
    return fdl_module_done(m);
}

static double first_of(fdl_module *g, const char *name, int i)
{
    FDL_SCOPE;
    int n;
    fdl_tensor *const *at = fdl_graph_traces(g, name, &n);
    check_some(at);
    assert_true(i < n);
    return fdl_item(fdl_select(fdl_reshape(at[i], FDL_SHAPE(-1)), 0, 0));
}

static int count_of(fdl_module *g, const char *name)
{
    int n = -1;
    fdl_tensor *const *at = fdl_graph_traces(g, name, &n);
    assert_int_equal(at == NULL, n == 0);
    assert_int_equal(fdl_error_pending(), FDL_OK);
    return n;
}

static void a_step_publishes_by_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(emits(), .n = 3));
    assert_int_equal(count_of(g, "double"), 0);
    for (int call = 0; call < 2; call++) {
        check_values(fdl_forward(g, row(1, 2)), 8, 16);
        assert_int_equal(count_of(g, "double"), 3);
        assert_int_equal(count_of(g, "quad"), 3);
        check_number(first_of(g, "double", 0), 2, 0);
        check_number(first_of(g, "quad", 0), 4, 0);
        check_number(first_of(g, "double", 2), 8, 0);
        check_number(first_of(g, "quad", 2), 16, 0);
        assert_int_equal(count_of(g, "other"), 0);
        assert_int_equal(count_of(g, NULL), 0);
    }
    int n;
    fdl_tensor *const *at = fdl_graph_traces(g, "quad", &n);
    assert_ptr_equal(fdl_graph_last_trace(g, "quad"), at[2]);
    assert_int_equal(fdl_free(at[2]), FDL_E_STATE); /* the graph's own */
    check_error(FDL_E_STATE, "fdl_free");
    fdl_module_free(g);
}

static void publishing_is_optional_in_each_iteration(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(new_emitter("all", "even", true), .n = 4));
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(count_of(g, "all"), 4);
    assert_int_equal(count_of(g, "even"), 2);
    check_number(first_of(g, "even", 1), 16, 0);
    fdl_module_free(g);
}

static void a_step_takes_refs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_loop(emits(), .n = 2), fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(1, 2)), 10, 20); /* (1 + 1) 2 = 4, (4 + 1) 2 = 10 */
    check_number(first_of(g, "double", 0), 4, 0);
    fdl_module_free(g);
}

static void a_name_belongs_to_one_loop(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(new_emitter("a", "a", false), .n = 2));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_STATE, "loop_2: loop iteration 0: ", "\"a\"", "twice in one iteration");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(emits(), .n = 1), fdl_flow_loop(emits(), .n = 1));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_STATE, "loop_3", "\"double\"", "loop_2");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(emits(), .n = 1), fdl_flow_loop(dbl(), .n = 1), fdl_flow_tag("quad"));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_STATE, "loop_2", "\"quad\"", "tag of loop_3");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(emits(), .n = 1), dbl(), fdl_flow_tag("quad")); /* not on a loop */
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(count_of(g, "quad"), 1);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(new_emitter(NULL, "a", false), .n = 1));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_NULL, "fdl_emit", "name");
    fdl_module_free(g);
}

static void a_trace_is_read_by_the_loops_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *body = new_traced(1);
    fdl_module *g =
        fdl_flow(fdl_flow_loop(dbl(), .n = 2), fdl_flow_tag("plain"), fdl_flow_loop(body, .n = 3),
                 fdl_flow_tag("traced"), fdl_flow_loop(new_traced(10), .n = 2), fdl_flow_tag("more"));
    assert_int_equal(count_of(g, "traced"), 0);
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(count_of(g, "traced"), 3);
    check_number(first_of(g, "traced", 0), 5, 0);
    check_number(first_of(g, "traced", 2), 7, 0);
    assert_int_equal(count_of(g, NULL), 3); /* the first loop that has one */
    check_number(first_of(g, NULL, 1), 6, 0);
    assert_int_equal(count_of(g, "more"), 2);
    assert_int_equal(count_of(g, "plain"), 0);
    assert_null(fdl_graph_last_trace(g, "plain"));
    check_number(fdl_item(fdl_select(fdl_reshape(fdl_graph_last_trace(g, "traced"), FDL_SHAPE(-1)), 0, 1)),
                 11, 0);
    ((traced *)fdl_module_self(body))->late = true;
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(count_of(g, "traced"), 2);
    fdl_module_free(g);
}

static void a_loss_on_a_trace_trains_the_body(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *body = new_traced(1), *g = fdl_flow(fdl_flow_loop(body, .n = 3), fdl_flow_tag("l"));
    fdl_tensor *b = fdl_param_tensor(fdl_module_own_param(body, "b"));
    check_some(fdl_forward(g, row(1, 2)));
    int n;
    fdl_tensor *const *at = fdl_graph_traces(g, "l", &n);
    check_ok(fdl_backward(fdl_sum(at[1])));
    check_values(fdl_grad(b), 2, 2);
    check_ok(fdl_clear_grad(b));
    check_some(fdl_forward(g, row(1, 2)));
    check_ok(fdl_module_detach_state(g)); /* the values stay */
    assert_int_equal(count_of(g, "l"), 3);
    check_number(first_of(g, "l", 2), 4, 0);
    assert_false(fdl_requires_grad(fdl_graph_last_trace(g, "l")));
    check_ok(fdl_module_to(g, fdl_default_device()));
    assert_int_equal(count_of(g, "l"), 0);
    fdl_module_free(g);
}

static void a_step_works_outside_loops(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = emits();
    check_values(fdl_forward(m, row(1, 2)), 2, 4);
    check_values(fdl_forward(m, row(1, 2), row(3, 3)), 8, 10);
    check_ok(fdl_module_free(m));
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("ctx"), emits(), fdl_flow_using("ctx"), fdl_flow(emits()));
    check_values(fdl_forward(g, row(1, 2)), 8, 16);
    assert_int_equal(count_of(g, "double"), 0);
    fdl_module_free(g);
}

static void zero_iterations_publish_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(
        fdl_flow_loop(emits(), .while_cond = fdl_nn_threshold_halt(5), .max = 9, .trace_cond = "left"));
    check_values(fdl_forward(g, row(1, 2)), 4, 8);
    assert_int_equal(count_of(g, "double"), 2);
    assert_int_equal(count_of(g, "left"), 3);
    check_values(fdl_forward(g, row(1, 6)), 1, 6);
    assert_int_equal(count_of(g, "double"), 0);
    assert_int_equal(count_of(g, "left"), 1);
    check_number(fdl_item(fdl_graph_last_trace(g, "left")), 1, 1e-6);
    fdl_module_free(g);
}

static void traces_of_graphs_inside_are_theirs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *inner = fdl_flow(fdl_flow_loop(emits(), .n = 2));
    fdl_module *g = fdl_flow(fdl_flow_loop(emits(), .n = 3), inner);
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(count_of(g, "double"), 3);
    assert_int_equal(count_of(inner, "double"), 2);
    check_number(first_of(inner, "double", 0), 16, 0);
    fdl_module_free(g);
    fdl_module *m = id();
    assert_null(fdl_graph_traces(m, "double", NULL));
    check_error(FDL_E_ARG, "fdl_graph_traces", "identity");
    fdl_module_free(m);
    assert_null(fdl_graph_last_trace(NULL, "double"));
    check_error(FDL_E_NULL, "fdl_graph_traces");
}

static void gates_and_switches_publish_what_they_chose(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *router = fdl_nn_softmax_router(2, 2);
    fdl_module *g = fdl_flow(
        fdl_flow_gate(router, FDL_MODULES(dbl(), tri()), .trace_weights = "w"),
        fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(dbl(), tri()), .trace_choice = "choice"));
    fdl_tensor *x = row(1, 2);
    for (int i = 0; i < 3; i++) {
        check_some(fdl_forward(g, x));
        assert_int_equal(count_of(g, "w"), 1);
        assert_true(fdl_allclose(fdl_graph_last_trace(g, "w"), fdl_forward(router, x)));
        assert_int_equal(fdl_item(fdl_graph_last_trace(g, "choice")), 1);
    }
    check_ok(fdl_backward(fdl_sum(fdl_square(fdl_graph_last_trace(g, "w")))));
    check_some(fdl_grad(fdl_param_tensor(fdl_params_at(fdl_parameters(router), 0))));
    fdl_module_free(g);
    assert_null(fdl_flow(fdl_flow_gate(id(), FDL_MODULES(dbl(), tri()), .trace_weights = "")));
    check_error(FDL_E_ARG, "fdl_flow_gate", ".trace_weights", "is empty");
}

static void nothing_grows(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(fdl_flow_loop(emits(), .n = 3), fdl_flow_loop(new_traced(1), .n = 2));
    int64_t before = 0;
    for (int i = 0; i < 50; i++) {
        FDL_SCOPE;
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
        if (i == 1)
            before = fdl_live_tensors();
        if (i > 1)
            assert_int_equal(fdl_live_tensors(), before);
    }
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_publishes_by_name),
        cmocka_unit_test(publishing_is_optional_in_each_iteration),
        cmocka_unit_test(a_step_takes_refs),
        cmocka_unit_test(a_name_belongs_to_one_loop),
        cmocka_unit_test(a_trace_is_read_by_the_loops_tag),
        cmocka_unit_test(a_loss_on_a_trace_trains_the_body),
        cmocka_unit_test(a_step_works_outside_loops),
        cmocka_unit_test(zero_iterations_publish_nothing),
        cmocka_unit_test(traces_of_graphs_inside_are_theirs),
        cmocka_unit_test(gates_and_switches_publish_what_they_chose),
        cmocka_unit_test(nothing_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
