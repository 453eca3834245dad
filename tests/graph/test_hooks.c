/* Hooks by path: values, gradients, their lives. */
#include "graph/modules.h"

typedef struct seen {
    int forwards, backwards, releases;
    double value, grad; /* sums of the last ones */
    double scale;       /* not 0: the value, or gradient, times this takes its place */
} seen;

static fdl_tensor *see_value(fdl_tensor *value, void *ctx)
{
    seen *s = ctx;
    s->forwards++;
    s->value = fdl_item(fdl_sum(value));
    return s->scale != 0 ? fdl_mul(value, s->scale) : NULL;
}

static fdl_tensor *see_grad(fdl_tensor *grad, void *ctx)
{
    seen *s = ctx;
    s->backwards++;
    s->grad = fdl_item(fdl_sum(grad));
    return s->scale != 0 ? fdl_mul(grad, s->scale) : NULL;
}

static void released(void *ctx)
{
    ((seen *)ctx)->releases++;
}

static fdl_tensor *leaf(fdl_tensor *x)
{
    check_ok(fdl_requires_grad_(x, true));
    return x;
}

static float grad_sum(fdl_tensor *x)
{
    return (float)fdl_item(fdl_sum(fdl_grad(x)));
}

/* encoder: dbl (tag twice), tri. */
static fdl_module *new_tree(void)
{
    return fdl_flow(
        fdl_flow(fdl_flow_label("encoder"), dbl(), fdl_flow_tag("twice"), tri(), fdl_flow_tag("six")), dbl());
}

static void a_hook_sees_the_value_at_a_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {0};
    fdl_module *g = new_tree();
    fdl_hook hook = fdl_graph_hook(g, "encoder.twice", see_value, &s, .release = released);
    assert_int_not_equal(hook.kind, 0);
    check_values(fdl_forward(g, row(1, 2)), 12, 24);
    assert_int_equal(s.forwards, 1);
    check_number(s.value, 6, 0);
    check_values(fdl_forward(fdl_graph_child(g, "encoder"), row(1)),
                 6); /* a hook is the graph's that has the node */
    assert_int_equal(s.forwards, 2);
    check_ok(fdl_graph_unhook(g, hook));
    assert_int_equal(s.releases, 1);
    check_ok(fdl_graph_unhook(g, hook)); /* again: nothing */
    check_values(fdl_forward(g, row(1, 2)), 12, 24);
    assert_int_equal(s.forwards, 2);
    fdl_module_free(g);
    assert_int_equal(s.releases, 1);
}

static void a_subgraph_stands_for_its_output(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {0};
    fdl_module *g = new_tree();
    fdl_graph_hook(g, "encoder", see_value, &s, .release = released);
    check_some(fdl_forward(g, row(1, 2)));
    check_number(s.value, 18, 0);
    fdl_module_free(g);
    assert_int_equal(s.releases, 1);
}

static void what_a_hook_returns_takes_the_values_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen first = {.scale = 10}, second = {0};
    fdl_module *g = new_tree();
    fdl_graph_hook(g, "encoder.twice", see_value, &first);
    fdl_graph_hook(g, "encoder.twice", see_value, &second);
    check_values(fdl_forward(g, row(1, 2)), 120, 240);
    check_number(second.value, 60, 0);
    fdl_tensor *twice_value;
    check_ok(fdl_graph_tagged_at(g, "encoder.twice", &twice_value));
    check_values(twice_value, 20, 40);
    fdl_module_free(g);
}

static void gradients_come_to_the_hook(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {0}, t = {.scale = -1};
    fdl_module *g = new_tree();
    fdl_tensor *x = leaf(row(1, 2));
    fdl_graph_hook(g, "encoder.six", NULL, &s, .backward = see_grad);
    fdl_hook flip = fdl_graph_hook(g, "encoder.twice", NULL, &t, .backward = see_grad);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
    assert_int_equal(s.backwards, 1);
    check_number(s.grad, 4, 0);  /* 2 a place */
    check_number(t.grad, 12, 0); /* 6 */
    check_number(grad_sum(x), -24, 0);
    check_ok(fdl_graph_unhook(g, flip));
    check_ok(fdl_clear_grad(x));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
    check_number(grad_sum(x), 24, 0);
    {
        FDL_NO_GRAD;
        check_some(fdl_forward(g, x));
    }
    assert_int_equal(s.backwards, 2);
    fdl_module_free(g);
}

/* An identity hands on the very tensor that it got: the hook is on what comes through it alone, and once a forward. */
static void a_value_that_is_handed_on_has_its_own_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {.scale = 10};
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("x"), fdl_flow_also(id(), .name = "branch"));
    fdl_graph_hook(g, "branch", NULL, &s, .backward = see_grad);
    fdl_tensor *x = leaf(row(1, 1));
    for (int i = 1; i <= 3; i++) {
        check_ok(fdl_clear_grad(x));
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
        assert_int_equal(s.backwards, i);
        check_number(grad_sum(x), 2 + 20, 0); /* the stream itself is as it was */
    }
    fdl_module_free(g);
}

static void a_hook_in_a_loop_runs_each_time(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {0};
    fdl_module *body = fdl_flow(fdl_flow_label("body"), dbl(), fdl_flow_tag("d"));
    fdl_module *g = fdl_flow(fdl_flow_loop(body, .n = 3));
    fdl_graph_hook(g, "body.d", see_value, &s, .backward = see_grad);
    fdl_tensor *x = leaf(row(1));
    check_ok(fdl_backward(fdl_forward(g, x)));
    assert_int_equal(s.forwards, 3);
    assert_int_equal(s.backwards, 3);
    check_number(s.value, 8, 0);
    check_number(s.grad, 4, 0); /* the first iteration's came last */
    fdl_module_free(g);
}

static fdl_tensor *refuse(fdl_tensor *value, void *ctx)
{
    (void)value, (void)ctx;
    return fdl_fail_null(FDL_E_RANGE, "I won't");
}

static void a_failing_hook_fails_the_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_tree();
    fdl_hook hook = fdl_graph_hook(g, "encoder.twice", refuse, NULL);
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_RANGE, "graph_1", "dbl_1 (#twice)", "hook: I won't");
    check_ok(fdl_graph_unhook(g, hook));
    check_values(fdl_forward(g, row(1)), 12);
    fdl_module_free(g);
}

/* A backward after the hook's removal, or the graph's end, still has what it needs. */
static void recorded_values_keep_their_hooks(void **state)
{
    (void)state;
    seen s = {0};
    {
        FDL_SCOPE;
        fdl_module *g = new_tree();
        fdl_graph_hook(g, "encoder.twice", NULL, &s, .backward = see_grad, .release = released);
        fdl_tensor *x = leaf(row(1)), *y = fdl_forward(g, x);
        fdl_module_free(g);
        assert_int_equal(s.releases, 0);
        check_ok(fdl_backward(y));
        assert_int_equal(s.backwards, 1);
    }
    assert_int_equal(s.releases, 1);
}

static void hooks_that_can_not_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    seen s = {0};
    fdl_module *g = new_tree(), *other = new_tree();
    assert_int_equal(fdl_graph_hook(g, "nope", see_value, &s, .release = released).kind, 0);
    check_error(FDL_E_ARG, "fdl_graph_hook", "\"nope\"");
    assert_int_equal(s.releases, 1);
    assert_int_equal(fdl_graph_hook(g, "encoder", NULL, &s, .release = released).kind, 0);
    check_error(FDL_E_NULL, "fdl_graph_hook", "forward");
    assert_int_equal(s.releases, 2);
    assert_int_equal(fdl_graph_hook(NULL, "encoder", see_value, &s).kind, 0);
    check_error(FDL_E_NULL, "fdl_graph_hook");
    fdl_hook hook = fdl_graph_hook(g, "encoder", see_value, &s);
    assert_int_equal(fdl_graph_unhook(other, hook), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_unhook");
    check_ok(fdl_graph_unhook(other, (fdl_hook){0}));
    assert_int_equal(fdl_graph_unhook(NULL, hook), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_graph_unhook");
    fdl_module_free(g);
    fdl_module_free(other);
}

static void a_hook_makes_another_generation(void **state)
{
    (void)state;
    fdl_module *g = new_tree();
    uint64_t before = fdl_module_generation(g);
    fdl_hook hook = fdl_graph_hook(g, "encoder.twice", see_value, &(seen){0});
    uint64_t with = fdl_module_generation(g);
    assert_true(with != before);
    check_ok(fdl_graph_unhook(g, hook));
    assert_true(fdl_module_generation(g) != with);
    fdl_module_free(g);
}

/* ---- gradients of values ------------------------------------------------------------------------------- */

static void values_keep_their_gradients(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = new_tree();
    fdl_tensor *x = leaf(row(1, 2));
    check_some(fdl_forward(g, x));
    assert_null(fdl_graph_tagged_grad(g, "encoder.twice"));
    check_error(FDL_E_STATE, "fdl_graph_tagged_grad", "fdl_graph_retain_grad");
    check_ok(fdl_graph_retain_grad(g, "encoder.twice", true));
    check_ok(fdl_graph_retain_grad(g, "encoder.twice", true));
    fdl_tensor *y = fdl_forward(g, x);
    assert_null(fdl_graph_tagged_grad(g, "encoder.twice"));
    check_error(FDL_E_STATE, "no backward");
    check_ok(fdl_backward(fdl_sum(y)));
    check_values(fdl_graph_tagged_grad(g, "encoder.twice"), 6, 6);
    check_some(fdl_forward(g, x));
    assert_null(fdl_graph_tagged_grad(g, "encoder.twice"));
    check_error(FDL_E_STATE, "no backward");
    /* of the value that a hook has put in the place, though it was added later */
    seen s = {.scale = 10};
    fdl_graph_hook(g, "encoder.twice", see_value, &s);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
    check_values(fdl_graph_tagged_grad(g, "encoder.twice"), 6, 6);
    check_ok(fdl_graph_retain_grad(g, "encoder.twice", false));
    assert_null(fdl_graph_tagged_grad(g, "encoder.twice"));
    check_error(FDL_E_STATE, "keeps no gradient");
    assert_int_equal(fdl_graph_retain_grad(g, "nope", true), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_graph_retain_grad");
    assert_null(fdl_graph_tagged_grad(g, "encoder"));
    check_error(FDL_E_ARG, "fdl_graph_tagged_grad", "subgraph");
    fdl_module_free(g);
}

static void an_input_keeps_its_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_input("ctx"), fdl_flow_tag("x"), add_ctx(), fdl_flow_using("ctx"), tri());
    check_ok(fdl_graph_retain_grad(g, "x", true));
    check_ok(fdl_graph_retain_grad(g, "ctx", true));
    fdl_tensor *x = leaf(row(1)), *ctx = leaf(row(5));
    check_ok(fdl_backward(fdl_forward(g, x, ctx)));
    check_values(fdl_graph_tagged_grad(g, "x"), 3);
    check_values(fdl_graph_tagged_grad(g, "ctx"), 3);
    check_values(fdl_grad(x), 3);
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hook_sees_the_value_at_a_tag),
        cmocka_unit_test(a_subgraph_stands_for_its_output),
        cmocka_unit_test(what_a_hook_returns_takes_the_values_place),
        cmocka_unit_test(gradients_come_to_the_hook),
        cmocka_unit_test(a_value_that_is_handed_on_has_its_own_gradient),
        cmocka_unit_test(a_hook_in_a_loop_runs_each_time),
        cmocka_unit_test(a_failing_hook_fails_the_forward),
        cmocka_unit_test(recorded_values_keep_their_hooks),
        cmocka_unit_test(hooks_that_can_not_be),
        cmocka_unit_test(a_hook_makes_another_generation),
        cmocka_unit_test(values_keep_their_gradients),
        cmocka_unit_test(an_input_keeps_its_gradient),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
