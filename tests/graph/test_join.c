/* Ways in which several values become one, barriers, several outputs, and runs that come only as far as they must. */
#include "graph/modules.h"

static fdl_tensor *leaf(fdl_tensor *x)
{
    FDL_CHECK(fdl_requires_grad_(x, true));
    return x;
}

/* ---- merges -------------------------------------------------------------------------------------------- */

static void streams_are_joined_in_other_ways(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int grad = 0; grad < 2; grad++) {
        fdl_mode_guard mode = grad ? fdl_enable_grad_open() : fdl_no_grad_open();
        fdl_tensor *x = row(1, -2), *y;
        fdl_module *g = fdl_flow(fdl_flow_split(dbl(), tri(), id()), fdl_flow_merge(FDL_MERGE_CAT));
        check_values(fdl_forward(g, x), 2, -4, 3, -6, 1, -2);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_CAT, .dim = FDL_SOME(0)));
        y = fdl_forward(g, x);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 2)));
        check_values(y, 2, -4, 3, -6);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_STACK));
        y = fdl_forward(g, x);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(1, 2, 2)));
        check_values(y, 2, 3, -4, -6);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri(), id()), fdl_flow_merge(FDL_MERGE_MUL));
        check_values(fdl_forward(g, x), 6, -48);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri(), id()), fdl_flow_merge(FDL_MERGE_MAX));
        check_values(fdl_forward(g, x), 3, -2);
        fdl_module_free(g);
        /* what fdl_flow_using wires comes behind the branches */
        g = fdl_flow(id(), fdl_flow_tag("x"), fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_CAT),
                     fdl_flow_using("x"), fdl_flow_tag("cat"));
        check_values(fdl_forward(g, x), 2, -4, 3, -6, 1, -2);
        assert_string_equal(node_ids(g), "identity_1 dbl_2 tri_3 merge_4");
        fdl_module_free(g);
        check_values(x, 1, -2);
        check_ok(fdl_mode_close(mode));
    }
}

/* a - b - ... */
static fdl_tensor *less(fdl_list values)
{
    fdl_tensor *y = values.at[0];
    for (int i = 1; i < values.n; i++)
        y = fdl_sub(y, values.at[i]);
    return y;
}

static fdl_tensor *nothing(fdl_list values)
{
    (void)values;
    return NULL;
}

static void a_function_joins(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_input("y"), fdl_flow_split(dbl(), tri()), fdl_flow_merge_fn(less),
                             fdl_flow_using("y"));
    check_values(fdl_forward(g, row(1, 2), row(10, 20)), -11, -22);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge_fn(nothing), fdl_flow_tag("t"));
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_NULL, "merge_4 (#t)", "without an error");
    fdl_module_free(g);
    assert_null(fdl_flow_merge_fn(NULL));
    check_error(FDL_E_NULL, "fn");
}

static void gradients_reach_all_that_is_joined(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_tensor *x = leaf(row(3, 5));
    fdl_module *g = fdl_flow(fdl_flow_split(b, tri()), fdl_flow_merge(FDL_MERGE_MUL));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x)))); /* (x + b) 3x */
    check_values(fdl_grad(x), 18, 30);
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 9, 15);
    fdl_module_free(g);
}

static void operands_that_dont_fit(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_split(fdl_nn_linear(2, 3), fdl_nn_linear(2, 4)),
                             fdl_flow_tag_group("head"), fdl_flow_merge(FDL_MERGE_MUL));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_SHAPE, "merge_4: operand 1, from linear_3", "[1, 3]", "[1, 4]");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(fdl_nn_linear(2, 3), fdl_nn_linear(2, 4)),
                 fdl_flow_merge(FDL_MERGE_CAT, .dim = FDL_SOME(0)));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_SHAPE, "merge_4: ", "[1, 3]", "[1, 4]");
    fdl_module_free(g);
    assert_null(fdl_flow_merge(FDL_MERGE_ADD, .dim = FDL_SOME(1)));
    check_error(FDL_E_ARG, ".dim");
    assert_null(fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge((fdl_merge_kind)6)));
    check_error(FDL_E_ARG, "step 1 (fdl_flow_merge)", "6 is no kind of merge");
}

/* ---- long skips ---------------------------------------------------------------------------------------- */

static void long_skips_by_tag(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(dbl(), fdl_flow_tag("enc"), tri(), fdl_flow_cat_from("enc"), fdl_flow_tag("both"));
    assert_string_equal(node_ids(g), "dbl_1 tri_2 cat_3");
    check_values(fdl_forward(g, row(1, 2)), 6, 12, 2, 4);
    fdl_module_free(g);
    g = fdl_flow(dbl(), fdl_flow_tag("enc"), tri(), fdl_flow_cat_from("enc", .dim = FDL_SOME(0)));
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_forward(g, row(1, 2))), FDL_SHAPE(2, 2)));
    fdl_module_free(g);
    for (int grad = 0; grad < 2; grad++) {
        fdl_mode_guard mode = grad ? fdl_enable_grad_open() : fdl_no_grad_open();
        g = fdl_flow(dbl(), fdl_flow_tag("enc"), tri(), fdl_flow_add_from("enc"), fdl_flow_mul_from("enc"));
        check_values(fdl_forward(g, row(1, 2)), 16, 64); /* (6x + 2x) 2x */
        check_values(fdl_graph_tagged(g, "enc"), 2, 4);
        fdl_module_free(g);
        /* of a later tag: a running sum */
        g = fdl_flow(id(), fdl_flow_add_from("sum"), fdl_flow_tag("sum"));
        for (int i = 1; i < 4; i++)
            check_values(fdl_forward(g, row(2)), 2 * (float)i);
        fdl_module_free(g);
        check_ok(fdl_mode_close(mode));
    }
    assert_null(fdl_flow(id(), fdl_flow_add_from("nope")));
    check_error(FDL_E_ARG, "step 1 (fdl_flow_add_from)", "no step has the tag \"nope\"");
    assert_null(fdl_flow(id(), fdl_flow_split(id(), id()), fdl_flow_cat_from("x")));
    check_error(FDL_E_ARG, "step 2 (fdl_flow_cat_from)", "2 streams");
    assert_null(fdl_flow_cat_from(NULL));
    check_error(FDL_E_NULL, "tag");
}

/* ---- barriers ------------------------------------------------------------------------------------------ */

static void no_gradient_passes_a_barrier(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = new_bias(2), *b = new_bias(2);
    fdl_tensor *x = leaf(row(1, 2)), *pa = fdl_param_tensor(fdl_module_own_param(a, "bias")),
               *pb = fdl_param_tensor(fdl_module_own_param(b, "bias"));
    fdl_module *g = fdl_flow(a, fdl_flow_detach(), b);
    assert_string_equal(node_ids(g), "bias_1 detach_2 bias_3");
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 1, 2);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_null(fdl_grad(pa));
    assert_null(fdl_grad(x));
    check_values(fdl_grad(pb), 1, 1);
    fdl_module_free(g);
}

static void a_tag_becomes_a_barrier(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = new_bias(2), *b = new_bias(2);
    fdl_tensor *pa = fdl_param_tensor(fdl_module_own_param(a, "bias"));
    fdl_module *g = fdl_flow(a, fdl_flow_tag("encoded"), b, fdl_flow_also(id()));
    uint64_t generation = fdl_module_generation(g);
    check_ok(fdl_graph_stop_gradient(g, "encoded", true));
    assert_false(fdl_module_generation(g) == generation);
    fdl_tensor *y = fdl_forward(g, row(1, 2));
    check_values(y, 2, 4);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_null(fdl_grad(pa));
    assert_false(fdl_requires_grad(fdl_graph_tagged(g, "encoded")));
    check_ok(fdl_graph_stop_gradient(g, "encoded", false));
    assert_true(fdl_module_generation(g) == generation);
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(pa), 2, 2);
    assert_int_equal(fdl_graph_stop_gradient(g, "encode", true), FDL_E_ARG);
    check_error(FDL_E_ARG, "no tag \"encode\"", "closest: encoded");
    fdl_module_free(g);
    /* a parameter as a value keeps requiring grad */
    fdl_module *m = fdl_flow(id(), fdl_flow_tag("same"), dbl());
    fdl_tensor *x = leaf(row(1));
    check_ok(fdl_graph_stop_gradient(m, "same", true));
    y = fdl_forward(m, x);
    assert_false(fdl_requires_grad(y));
    assert_true(fdl_requires_grad(x));
    check_values(x, 1);
    fdl_module_free(m);
}

/* ---- several outputs ----------------------------------------------------------------------------------- */

static void several_outputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_output("later"), dbl(), fdl_flow_tag("enc"), fdl_flow_fork(tri()),
                 fdl_flow_tag("side"), tri(), fdl_flow_tag("later"), dbl(), fdl_flow_output("enc", "side"));
    assert_int_equal(fdl_graph_output_count(g), 4);
    const char *names[] = {"output", "later", "enc", "side"};
    for (int i = 0; i < 4; i++)
        assert_string_equal(fdl_graph_output_name(g, i), names[i]);
    assert_null(fdl_graph_output_name(g, 4));
    check_error(FDL_E_RANGE, "output 4 of 4");
    fdl_tensor *x = leaf(row(1));
    fdl_list out = fdl_forward_multi(g, FDL_LIST(x));
    assert_int_equal(out.n, 4);
    check_values(out.at[0], 12);
    check_values(out.at[1], 6);
    check_values(out.at[2], 2);
    check_values(out.at[3], 6);
    fdl_list again = fdl_forward_multi(g, FDL_LIST(row(10)));
    check_values(again.at[2], 20);
    check_values(out.at[2], 2);
    check_ok(fdl_backward(fdl_sum(fdl_add(fdl_add(out.at[0], out.at[1]), fdl_add(out.at[2], out.at[3])))));
    check_values(fdl_grad(x), 12 + 6 + 2 + 6);
    assert_null(fdl_forward_multi(g, FDL_LIST(x, x)).at);
    check_error(FDL_E_ARG, "takes 1 input");
    fdl_module_free(g);
    assert_null(fdl_flow(id(), fdl_flow_output("none")));
    check_error(FDL_E_ARG, "step 1 (fdl_flow_output)", "\"none\"");
    assert_null(fdl_flow(id(), fdl_flow_tag("a"), fdl_flow_output("a", "a")));
    check_error(FDL_E_ARG, "\"a\" is an output already");
    assert_null(fdl_flow(id(), fdl_flow_output("x/y")));
    check_error(FDL_E_ARG, "x/y");
    fdl_module *m = dbl();
    assert_null(fdl_forward_multi(m, FDL_LIST(x)).at);
    check_error(FDL_E_ARG, "no graph");
    fdl_module_free(m);
}

/* ---- partial runs -------------------------------------------------------------------------------------- */

static void only_what_is_needed_runs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *trunk = new_counter(), *side = new_counter(), *rest = new_counter();
    counter *of_trunk = fdl_module_self(trunk), *of_side = fdl_module_self(side),
            *of_rest = fdl_module_self(rest);
    fdl_module *g =
        fdl_flow(trunk, fdl_flow_input("ctx"), dbl(), fdl_flow_tag("encoded"), fdl_flow_fork(side),
                 fdl_flow_tag("side"), rest, sum_refs(), fdl_flow_using("ctx"), fdl_flow_tag("end"));
    for (int grad = 0; grad < 2; grad++) {
        fdl_mode_guard mode = grad ? fdl_enable_grad_open() : fdl_no_grad_open();
        *of_trunk = *of_side = *of_rest = (counter){0};
        fdl_list out = fdl_graph_run_to(g, FDL_LIST(row(1), NULL), "encoded");
        assert_int_equal(out.n, 1);
        check_values(out.at[0], 2);
        assert_int_equal(of_trunk->calls, 1);
        assert_int_equal(of_side->calls + of_rest->calls, 0);
        assert_null(fdl_graph_tagged(g, "side"));
        check_error(FDL_E_STATE, "side");
        out = fdl_graph_run_to(g, FDL_LIST(row(3), NULL), "side", "encoded");
        check_values(out.at[0], 6);
        check_values(out.at[1], 6);
        assert_int_equal(of_side->calls, 1);
        assert_int_equal(of_rest->calls, 0);
        out = fdl_graph_run_to(g, FDL_LIST(row(1), row(10)), "end", "ctx");
        check_values(out.at[0], 12);
        check_values(out.at[1], 10);
        assert_int_equal(of_side->calls, 1);
        assert_int_equal(of_rest->calls, 1);
        check_values(fdl_forward(g, row(1), row(10)), 12);
        assert_int_equal(of_side->calls, 2);
        check_ok(fdl_mode_close(mode));
    }
    assert_null(fdl_graph_run_to(g, FDL_LIST(row(1), NULL), "end").at);
    check_error(FDL_E_NULL, "input \"ctx\"");
    assert_null(fdl_graph_run_to(g, FDL_LIST(row(1)), "end").at);
    check_error(FDL_E_ARG, "1 inputs for a graph that takes 2");
    assert_null(fdl_graph_run_to(g, FDL_LIST(row(1), NULL), "encode").at);
    check_error(FDL_E_ARG, "no tag \"encode\"");
    fdl_module_free(g);
}

static void partial_runs_leave_the_state(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = row(1);
    fdl_module *g = fdl_flow(id(), fdl_flow_add_from("sum"), fdl_flow_tag("sum"), fdl_nn_fn(fails));
    for (int i = 0; i < 3; i++)
        check_values(fdl_graph_run_to(g, FDL_LIST(x), "sum").at[0], 1);
    assert_null(fdl_graph_state_get(g, "sum"));
    check_error(FDL_E_STATE, "empty");
    check_ok(fdl_graph_state_set(g, "sum", row(5)));
    check_values(fdl_graph_run_to(g, FDL_LIST(x), "sum").at[0], 6);
    check_values(fdl_graph_state_get(g, "sum"), 5);
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 5; i++) {
        FDL_SCOPE;
        check_some(fdl_graph_run_to(g, FDL_LIST(x), "sum").at);
    }
    assert_int_equal(fdl_live_tensors(), before);
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_joined_in_other_ways),
        cmocka_unit_test(a_function_joins),
        cmocka_unit_test(gradients_reach_all_that_is_joined),
        cmocka_unit_test(operands_that_dont_fit),
        cmocka_unit_test(long_skips_by_tag),
        cmocka_unit_test(no_gradient_passes_a_barrier),
        cmocka_unit_test(a_tag_becomes_a_barrier),
        cmocka_unit_test(several_outputs),
        cmocka_unit_test(only_what_is_needed_runs),
        cmocka_unit_test(partial_runs_leave_the_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
