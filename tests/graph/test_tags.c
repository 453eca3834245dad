/* Values under tags: which they are, whose, and for how long. */
#include "graph/modules.h"

static void a_tag_holds_what_its_node_gave(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 3), fdl_flow_fork(fdl_nn_linear(3, 5)), fdl_flow_tag("side"),
                             fdl_flow_tag("also_side"), fdl_nn_relu(), fdl_flow_tag("main"));
    fdl_tensor *y = fdl_forward(g, row(1, 2));
    assert_true(fdl_is(fdl_graph_tagged(g, "main"), y)); /* no copy */
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_graph_tagged(g, "side")), FDL_SHAPE(1, 5)));
    assert_true(fdl_is(fdl_graph_tagged(g, "side"), fdl_graph_tagged(g, "also_side")));
    fdl_module_free(g);
    /* behind a later step the tag is that step's */
    g = fdl_flow(id(), fdl_flow_fork(dbl()), tri(), fdl_flow_tag("t"));
    check_values(fdl_forward(g, row(1)), 3);
    check_values(fdl_graph_tagged(g, "t"), 3);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_fork(dbl()), fdl_flow_tag("a"), fdl_flow_fork(tri()), fdl_flow_tag("b"));
    check_values(fdl_forward(g, row(1)), 1);
    check_values(fdl_graph_tagged(g, "a"), 2);
    check_values(fdl_graph_tagged(g, "b"), 3);
    fdl_module_free(g);
}

static void groups_inputs_and_sums_have_values(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_input("ctx"), fdl_flow_split(dbl(), tri(), id()),
                             fdl_flow_tag_group("branch"), fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_tag("sum"),
                             fdl_flow_also(dbl(), .name = "arm"), fdl_flow_tag("residual"));
    fdl_tensor *x = row(1, 2), *ctx = row(7);
    check_some(fdl_forward(g, x, ctx));
    check_values(fdl_graph_tagged(g, "branch_0"), 2, 4);
    check_values(fdl_graph_tagged(g, "branch_1"), 3, 6);
    check_values(fdl_graph_tagged(g, "branch_2"), 1, 2);
    check_values(fdl_graph_tagged(g, "sum"), 6, 12);
    check_values(fdl_graph_tagged(g, "arm"), 12, 24);
    check_values(fdl_graph_tagged(g, "residual"), 18, 36);
    assert_true(fdl_is(fdl_graph_tagged(g, "ctx"), ctx));
    fdl_module_free(g);
}

static void what_is_not_there_is_an_error(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("hidden"), fdl_flow_split(dbl(), tri()),
                             fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_ADD));
    assert_null(fdl_graph_tagged(g, "hidden"));
    check_error(FDL_E_STATE, "no forward has computed \"hidden\"");
    assert_null(fdl_graph_tagged(g, "hiden"));
    check_error(FDL_E_ARG, "no tag \"hiden\"", "closest: hidden");
    assert_null(fdl_graph_tagged(g, "head"));
    check_error(FDL_E_ARG, "\"head\" is a tag group", "\"head_0\"");
    assert_null(fdl_graph_tagged(g, NULL));
    check_error(FDL_E_NULL, "tag");
    assert_null(fdl_graph_tagged(NULL, "hidden"));
    check_error(FDL_E_NULL, "g");
    fdl_module_free(g);
    fdl_module *m = dbl();
    assert_null(fdl_graph_tagged(m, "hidden"));
    check_error(FDL_E_ARG, "no graph");
    fdl_module_free(m);
}

static void the_value_outlives_the_next_forward_in_its_scope(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(dbl(), fdl_flow_tag("t"), tri());
    fdl_forward(g, row(1));
    fdl_tensor *first = fdl_graph_tagged(g, "t");
    fdl_forward(g, row(10));
    check_values(first, 2);
    check_values(fdl_graph_tagged(g, "t"), 20);
    fdl_module_free(g);
    check_values(first, 2);
}

static int fail_from;
static int runs;

static fdl_tensor *fails_later(fdl_tensor *x)
{
    return runs++ >= fail_from ? fdl_fail_null(FDL_E_RANGE, "this run fails") : x;
}

static void a_failed_forward_leaves_what_it_came_to(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(dbl(), fdl_flow_tag("before"), fdl_nn_fn(fails_later), tri(), fdl_flow_tag("behind"));
    runs = 0;
    fail_from = 1;
    check_some(fdl_forward(g, row(1)));
    assert_null(fdl_forward(g, row(2)));
    check_error(FDL_E_RANGE, "this run fails");
    check_values(fdl_graph_tagged(g, "before"), 4);
    assert_null(fdl_graph_tagged(g, "behind")); /* not the old one */
    check_error(FDL_E_STATE, "behind");
    fdl_module_free(g);
}

static void a_graph_inside_keeps_its_last_run(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *body = fdl_flow(dbl(), fdl_flow_tag("t"), fdl_nn_identity());
    fdl_module *g = fdl_flow(fdl_flow_loop(body, .n = 3), fdl_flow_tag("t"));
    check_values(fdl_forward(g, row(1)), 8);
    check_values(fdl_graph_tagged(body, "t"), 8);
    check_values(fdl_graph_tagged(g, "t"), 8);
    fdl_module_free(g);
}

static void values_under_tags_have_their_history(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = row(1, 1, 1);
    check_ok(fdl_requires_grad_(x, true));
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 2), fdl_flow_fork(fdl_nn_linear(2, 2)), fdl_flow_tag("side"),
                             fdl_nn_relu());
    fdl_tensor *y = fdl_forward(g, x);
    check_ok(fdl_backward(fdl_add(fdl_sum(y), fdl_sum(fdl_graph_tagged(g, "side")))));
    fdl_params *ps = fdl_parameters(g);
    for (int i = 0; i < 4; i++)
        check_some(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))));
    check_some(fdl_grad(x));
    fdl_forward(g, x);
    assert_true(fdl_requires_grad(fdl_graph_tagged(g, "side")));
    check_ok(fdl_module_detach_state(g));
    assert_false(fdl_requires_grad(fdl_graph_tagged(g, "side")));
    fdl_module_free(g);
}

static void adding_in_place_spares_a_value_under_a_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *g =
        fdl_flow(dbl(), fdl_flow_tag("a"), fdl_flow_also(tri(), .name = "arm"), fdl_flow_tag("sum"),
                 fdl_flow_split(id(), dbl()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_MEAN));
    check_values(fdl_forward(g, row(1, 2)), 12, 24);
    check_values(fdl_graph_tagged(g, "a"), 2, 4);
    check_values(fdl_graph_tagged(g, "arm"), 6, 12);
    check_values(fdl_graph_tagged(g, "sum"), 8, 16);
    check_values(fdl_graph_tagged(g, "b_0"), 8, 16);
    check_values(fdl_graph_tagged(g, "b_1"), 16, 32);
    fdl_module_free(g);
}

static void no_more_is_held_than_one_value_a_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = row(1, 2);
    int64_t none = fdl_live_tensors();
    fdl_module *g =
        fdl_flow(dbl(), fdl_flow_tag("a"), fdl_flow_tag("again"), tri(), dbl(), fdl_flow_tag("b"));
    for (int i = 0; i < 5; i++) {
        FDL_SCOPE;
        fdl_forward(g, x);
    }
    assert_int_equal(fdl_live_tensors(), none + 2);
    check_ok(fdl_module_to(g, fdl_default_device()));
    assert_int_equal(fdl_live_tensors(), none);
    assert_null(fdl_graph_tagged(g, "a"));
    check_error(FDL_E_STATE, "a");
    fdl_forward(g, x);
    fdl_module_free(g);
    assert_int_equal(fdl_live_tensors(), none + 1); /* the result */
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tag_holds_what_its_node_gave),
        cmocka_unit_test(groups_inputs_and_sums_have_values),
        cmocka_unit_test(what_is_not_there_is_an_error),
        cmocka_unit_test(the_value_outlives_the_next_forward_in_its_scope),
        cmocka_unit_test(a_failed_forward_leaves_what_it_came_to),
        cmocka_unit_test(a_graph_inside_keeps_its_last_run),
        cmocka_unit_test(values_under_tags_have_their_history),
        cmocka_unit_test(adding_in_place_spares_a_value_under_a_tag),
        cmocka_unit_test(no_more_is_held_than_one_value_a_tag),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
