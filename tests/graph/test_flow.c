/* What each kind of step computes: values, gradients, the order of nodes. */
#include "graph/modules.h"

static float grad_sum(fdl_tensor *x)
{
    return (float)fdl_item(fdl_sum(fdl_grad(x)));
}

static fdl_tensor *leaf(fdl_tensor *x)
{
    FDL_CHECK(fdl_requires_grad_(x, true));
    return x;
}

/* ---- chains -------------------------------------------------------------------------------------------- */

static void a_chain_of_modules(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 4), fdl_nn_relu(), fdl_nn_linear(4, 2));
    check_some(g);
    fdl_tensor *y = fdl_forward(g, fdl_ones(FDL_SHAPE(1, 3)));
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(1, 2)));
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 4);
    assert_string_equal(node_ids(g), "linear_1 relu_2 linear_3");
    for (int i = 0; i < 3; i++)
        assert_int_equal(fdl_graph_node_level(g, i), i);
    fdl_module_free(g);
}

static void nothing_at_all_is_an_identity(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *graphs[] = {
        fdl_flow(),           fdl_flow(fdl_flow_tag("t")),    fdl_flow(fdl_flow_label("l")),
        fdl_flow_of(0, NULL), fdl_flow_build(fdl_flow_new()), fdl_flow(fdl_flow_using())};
    for (size_t i = 0; i < sizeof graphs / sizeof *graphs; i++) {
        check_values(fdl_forward(graphs[i], row(1, 2)), 1, 2);
        assert_string_equal(node_ids(graphs[i]), "identity_1");
        fdl_module_free(graphs[i]);
    }
}

static void also_adds_the_branch_to_the_stream(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(identity_linear(3, 0), fdl_flow_also(identity_linear(3, 1)));
    check_values(fdl_forward(g, row(1, 2, 3)), 3, 5, 7);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_also(dbl()));
    check_values(fdl_forward(g, row(1, 2)), 3, 6);
    assert_string_equal(node_ids(g), "identity_1 dbl_2 add_3");
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_also(dbl(), .skip = tri()));
    check_values(fdl_forward(g, row(1, 2)), 5, 10);
    assert_string_equal(node_ids(g), "identity_1 tri_2 dbl_3 add_4");
    fdl_module_free(g);
}

static void also_with_another_width_fails_in_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_identity(), fdl_flow_also(fdl_nn_linear(8, 16)), fdl_flow_tag("wide"));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 8))));
    check_error(FDL_E_SHAPE, "add_3 (#wide): ", "operand 1, from linear_2", "[2, 8]", "[2, 16]");
    FDL_NO_GRAD;
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 8))));
    check_error(FDL_E_SHAPE, "add_3 (#wide): ", "[2, 8]", "[2, 16]");
    fdl_module_free(g);
}

static void a_fork_runs_on_the_side(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *count = new_counter();
    fdl_module *g = fdl_flow(id(), fdl_flow_fork(count), fdl_flow_fork(dbl()), fdl_flow_tag("side"),
                             fdl_nn_relu(), sum_refs(), fdl_flow_using("side"));
    check_values(fdl_forward(g, row(1, -2)), 1 + 2, 0 - 4);
    assert_int_equal(((counter *)fdl_module_self(count))->calls, 1);
    fdl_module_free(g);
    /* behind a later step the tag is that step's */
    g = fdl_flow(id(), fdl_flow_fork(dbl()), tri(), fdl_flow_tag("t"), sum_refs(), fdl_flow_using("t"));
    check_values(fdl_forward(g, row(1)), 6);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_tag("ctx"), dbl(), fdl_flow_fork(add_ctx()), fdl_flow_using("ctx"),
                 fdl_flow_tag("s"), sum_refs(), fdl_flow_using("s"));
    check_values(fdl_forward(g, row(1, 2)), 2 + 3, 4 + 6);
    fdl_module_free(g);
}

static void a_fork_sends_gradients_into_the_trunk(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = leaf(row(1, 1, 1));
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 2), fdl_flow_fork(fdl_nn_linear(2, 2)), fdl_flow_tag("side"),
                             fdl_nn_sigmoid(), sum_refs(), fdl_flow_using("side"));
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, x))));
    fdl_params *ps = fdl_parameters(g);
    assert_int_equal(fdl_params_count(ps), 4);
    for (int i = 0; i < 4; i++)
        check_some(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))));
    check_some(fdl_grad(x));
    fdl_module_free(g);
}

/* ---- split and merge ----------------------------------------------------------------------------------- */

static void split_and_merge(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_split(fdl_nn_relu(), id()), fdl_flow_merge(FDL_MERGE_ADD));
    check_values(fdl_forward(g, row(1, -1, 2)), 2, -1, 4);
    assert_string_equal(node_ids(g), "identity_1 relu_2 identity_3 merge_4");
    fdl_module_free(g);
    for (int grad = 0; grad < 2; grad++) { /* in place without grad mode, not with it */
        fdl_mode_guard mode = grad ? fdl_enable_grad_open() : fdl_no_grad_open();
        g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_MEAN));
        check_values(fdl_forward(g, row(2)), 5);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri(), id()), fdl_flow_merge(FDL_MERGE_ADD));
        check_values(fdl_forward(g, row(2)), 12);
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_split(dbl(), tri(), id()), fdl_flow_merge(FDL_MERGE_MEAN));
        check_values(fdl_forward(g, row(2)), 4);
        /* integers have a mean, too */
        fdl_tensor *y = fdl_forward(g, fdl_full(FDL_SHAPE(1), 3, .dtype = FDL_INT64));
        assert_true(fdl_dtype_is_floating(fdl_dtype_of(y)));
        check_values(y, 6);
        fdl_module_free(g);
        check_ok(fdl_mode_close(mode));
    }
}

static void every_branch_gets_its_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = new_bias(2), *b = new_bias(2);
    fdl_tensor *x = leaf(row(1, 2));
    fdl_module *g = fdl_flow(fdl_flow_split(a, b, tri()), fdl_flow_merge(FDL_MERGE_MEAN));
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, x))));
    /* d/dx of (x + a + x + b + 3x) / 3 */
    check_values(fdl_grad(x), 5.f / 3, 5.f / 3);
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(a, "bias"))), 1.f / 3, 1.f / 3);
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 1.f / 3, 1.f / 3);
    fdl_module_free(g);
}

static void a_merge_takes_refs_as_operands(void **state)
{
    (void)state;
    for (int mean = 0; mean < 2; mean++) {
        FDL_SCOPE;
        fdl_module *g =
            fdl_flow(id(), fdl_flow_input("skip"), fdl_flow_split(dbl(), tri()),
                     fdl_flow_merge(mean ? FDL_MERGE_MEAN : FDL_MERGE_ADD), fdl_flow_using("skip"));
        fdl_tensor *y = fdl_forward(g, row(1), row(10));
        check_values(y, mean ? 5 : 15);
        fdl_module_free(g);
    }
}

static void a_group_names_the_branches(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_split(dbl(), tri(), id()), fdl_flow_tag_group("branch"),
                             fdl_flow_merge(FDL_MERGE_ADD), sum_refs(),
                             fdl_flow_using("branch_0", "branch_1", "branch_2"));
    int n;
    const char *const *members = fdl_graph_tag_group(g, "branch", &n);
    assert_int_equal(n, 3);
    assert_string_equal(members[0], "branch_0");
    assert_string_equal(members[2], "branch_2");
    check_values(fdl_forward(g, row(1)), 6 + 2 + 2 * 3 + 3 * 1);
    assert_null(fdl_graph_tag_group(g, "nope", &n));
    assert_int_equal(n, 0);
    assert_int_equal(fdl_error_pending(), FDL_OK);
    assert_int_equal(fdl_graph_tag_count(g), 3);
    assert_string_equal(fdl_graph_tag_name(g, 1), "branch_1");
    fdl_module_free(g);
}

/* ---- inputs and refs ----------------------------------------------------------------------------------- */

static void further_inputs_come_in_order_of_declaration(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_input("a"), fdl_flow_input("b", "c"), sum_refs(),
                             fdl_flow_using("c", "a"), fdl_flow_using("b"), fdl_flow_using("c", "b"));
    assert_int_equal(fdl_graph_input_count(g), 4);
    const char *names[] = {"input", "a", "b", "c"};
    for (int i = 0; i < 4; i++)
        assert_string_equal(fdl_graph_input_name(g, i), names[i]);
    /* in order of using, each once: c, a, b */
    check_values(fdl_forward(g, row(0.5f), row(10), row(100), row(1000)), 0.5f + 1000 + 2 * 10 + 3 * 100);
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_ARG, "takes 4 inputs (input, a, b, c), got 1");
    assert_null(fdl_forward(g, row(1), NULL, row(1), row(1)));
    check_error(FDL_E_NULL, "input 1");
    check_values(fdl_forward(g, row(1), row(0), row(0), row(0)), 1);
    fdl_module_free(g);
}

static void a_ref_goes_to_every_branch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("ctx"), dbl(), fdl_flow_split(add_ctx(), sum_refs()),
                             fdl_flow_using("ctx"), fdl_flow_merge(FDL_MERGE_ADD));
    check_values(fdl_forward(g, row(1, 2)), 6, 12);
    fdl_module_free(g);
}

static void gradients_pass_through_refs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, fdl_flow_tag("ctx"), dbl(), fdl_flow_also(add_ctx()), fdl_flow_using("ctx"));
    fdl_tensor *x = leaf(row(3, 5));
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 15, 25); /* 2x + (2x + x) */
    FDL_CHECK(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 5, 5);
    check_values(fdl_grad(x), 5, 5);
    fdl_module_free(g);
}

static void tag_and_using_may_change_places(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = fdl_flow(id(), fdl_flow_tag("ctx"), add_ctx(), fdl_flow_tag("t"), fdl_flow_using("ctx"));
    fdl_module *b = fdl_flow(id(), fdl_flow_tag("ctx"), add_ctx(), fdl_flow_using("ctx"), fdl_flow_tag("t"));
    assert_string_equal(fdl_graph_hash(a), fdl_graph_hash(b));
    check_values(fdl_forward(a, row(3, 5)), 6, 10);
    fdl_module_free(a);
    fdl_module_free(b);
}

static void names_that_a_module_declares_come_in_any_order(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_input("b", "a"), new_ab(), fdl_flow_using("b"), fdl_flow_using("a"));
    check_values(fdl_forward(g, row(1), row(2), row(3)), 1 + 3 + 200);
    fdl_module_free(g);
}

/* ---- loops --------------------------------------------------------------------------------------------- */

static void counted_loops(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(dbl(), .n = 3));
    check_values(fdl_forward(g, row(1, 2)), 8, 16);
    {
        FDL_NO_GRAD;
        check_values(fdl_forward(g, row(1, 2)), 8, 16);
    }
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(fdl_flow(fdl_flow_loop(dbl(), .n = 2)), .n = 3));
    check_values(fdl_forward(g, row(1)), 64);
    fdl_module_free(g);
    fdl_module *b = new_bias(2);
    g = fdl_flow(fdl_flow_loop(b, .n = 3));
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 3, 3);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_loop(id(), .n = 5), dbl());
    check_values(fdl_forward(g, row(1)), 2);
    fdl_module_free(g);
}

static void a_loop_hands_its_refs_to_every_run(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = leaf(row(2, 3));
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_loop(add_ctx(), .n = 3), fdl_flow_using("ctx"));
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 8, 12);
    FDL_CHECK(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(x), 4, 4);
    fdl_module_free(g);
    /* a graph as the body, whose inputs stand in another order */
    fdl_module *body = fdl_flow(dbl(), fdl_flow_input("p", "q"), sum_refs(), fdl_flow_using("p", "q"));
    g = fdl_flow(id(), fdl_flow_input("q", "p"), fdl_flow_loop(body, .n = 2), fdl_flow_using("q", "p"));
    check_values(fdl_forward(g, row(1), row(10), row(100)), 2 * (2 + 100 + 20) + 100 + 20);
    fdl_module_free(g);
}

static void a_loop_resets_its_body_first(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *c = new_counter();
    counter *count = fdl_module_self(c);
    fdl_module *g = fdl_flow(id(), fdl_flow_loop(fdl_flow(id(), fdl_flow_fork(c)), .n = 4));
    for (int i = 1; i <= 3; i++) {
        check_some(fdl_forward(g, row(1)));
        assert_int_equal(count->calls, 4);
        assert_int_equal(count->resets, i);
    }
    fdl_module_free(g);
    c = new_counter();
    g = fdl_flow(fdl_flow_loop(c, .n = 4, .keep_state = true));
    check_some(fdl_forward(g, row(1)));
    check_some(fdl_forward(g, row(1)));
    assert_int_equal(((counter *)fdl_module_self(c))->calls, 8);
    fdl_module_free(g);
}

/* ---- graphs in graphs ---------------------------------------------------------------------------------- */

static void graphs_nest(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(fdl_flow(fdl_flow(b, dbl()), tri()), fdl_flow_also(fdl_flow(dbl(), dbl())));
    fdl_tensor *x = leaf(row(1, 2));
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 30, 60);
    FDL_CHECK(fdl_backward(fdl_sum(y)));
    assert_float_equal(grad_sum(x), 60, 1e-5);
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 30, 30);
    fdl_module_free(g);
    g = dbl();
    for (int i = 0; i < 250; i++)
        check_some(g = fdl_flow(g));
    check_values(fdl_forward(g, row(1)), 2);
    check_ok(fdl_eval(g));
    assert_int_equal(strlen(fdl_graph_hash(g)), 64);
    fdl_module_free(g);
}

static void a_graph_with_inputs_nests_by_their_names(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *child =
        fdl_flow(dbl(), fdl_flow_input("ctx", "more"), sum_refs(), fdl_flow_using("ctx", "more"));
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("more"), tri(), fdl_flow_tag("ctx"), dbl(), child,
                             fdl_flow_using("more", "ctx"));
    check_values(fdl_forward(g, row(1)), 2 * 6 + 3 + 2 * 1);
    fdl_module_free(g);
}

static void a_shared_module_may_stand_at_several_places(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *again = fdl_module_share(b);
    fdl_module *g = fdl_flow(b, dbl(), again);
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 1);
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(b, "bias"))), 3, 3);
    fdl_module_free(g);
    /* one graph twice in another: one set of slots, used in turn */
    fdl_module *child = fdl_flow(id(), fdl_flow_also(dbl()));
    again = fdl_module_share(child);
    g = fdl_flow(child, fdl_flow_also(again));
    check_values(fdl_forward(g, row(1)), 12);
    fdl_module_free(g);
}

/* ---- building ------------------------------------------------------------------------------------------ */

static fdl_module *tower_by_hand(void)
{
    return fdl_flow(fdl_nn_linear(4, 4), fdl_flow_also(fdl_nn_linear(4, 4)),
                    fdl_flow_also(fdl_nn_linear(4, 4)),
                    fdl_flow_split(fdl_nn_linear(4, 4), fdl_nn_linear(4, 4)), fdl_flow_merge(FDL_MERGE_ADD));
}

static void a_seed_gives_the_same_weights_in_every_form(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_manual_seed(7);
    fdl_module *a = tower_by_hand();
    fdl_manual_seed(7);
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, fdl_nn_linear(4, 4)));
    for (int i = 0; i < 2; i++)
        check_ok(fdl_flow_add(b, fdl_flow_also(fdl_nn_linear(4, 4))));
    fdl_module *branches[2];
    for (int i = 0; i < 2; i++)
        branches[i] = fdl_nn_linear(4, 4);
    check_ok(fdl_flow_add(b, fdl_flow_split_of(2, branches)));
    check_ok(fdl_flow_add(b, fdl_flow_merge(FDL_MERGE_ADD)));
    fdl_module *c = fdl_flow_build(b);
    assert_string_equal(fdl_graph_hash(a), fdl_graph_hash(c));
    fdl_params *p = fdl_parameters(a), *q = fdl_parameters(c);
    assert_int_equal(fdl_params_count(p), 10);
    for (int i = 0; i < 10; i++)
        assert_true(fdl_same(fdl_param_tensor(fdl_params_at(p, i)), fdl_param_tensor(fdl_params_at(q, i))));
    fdl_module_free(a);
    fdl_module_free(c);
    /* an option's module behind the required one */
    fdl_manual_seed(7);
    fdl_module *m = fdl_nn_linear(2, 2), *s = fdl_nn_linear(2, 2);
    fdl_manual_seed(7);
    a = fdl_flow(fdl_flow_also(fdl_nn_linear(2, 2), .skip = fdl_nn_linear(2, 2)));
    c = fdl_flow(fdl_flow_also(m, .skip = s));
    p = fdl_parameters(a), q = fdl_parameters(c);
    for (int i = 0; i < 4; i++)
        assert_true(fdl_same(fdl_param_tensor(fdl_params_at(p, i)), fdl_param_tensor(fdl_params_at(q, i))));
    fdl_module_free(a);
    fdl_module_free(c);
}

static void the_order_is_that_of_rounds(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* diamonds: the join runs behind both arms, inputs are sources */
    fdl_module *g = fdl_flow(fdl_flow(id()), fdl_flow_split(fdl_flow(dbl(), dbl()), id()),
                             fdl_flow_tag_group("arm"), fdl_flow_merge(FDL_MERGE_ADD), fdl_flow_input("late"),
                             fdl_flow_also(sum_refs()), fdl_flow_using("arm_1", "late"));
    assert_string_equal(node_ids(g), "graph_1 input_late_5 graph_2 identity_3 merge_4 state_add_6 add_7");
    const int levels[] = {0, 0, 1, 1, 2, 3, 4};
    for (int i = 0; i < 7; i++)
        assert_int_equal(fdl_graph_node_level(g, i), levels[i]);
    check_values(fdl_forward(g, row(1), row(10)), 5 + (5 + 1 + 20));
    fdl_module_free(g);
}

static void modes_and_moves_reach_everything(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *drop = fdl_nn_dropout(0.5);
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 4), fdl_flow_loop(fdl_flow(id(), drop), .n = 2));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(8, 4));
    check_ok(fdl_eval(g));
    assert_false(fdl_is_training(drop));
    assert_true(fdl_same(fdl_forward(g, x), fdl_forward(g, x)));
    check_ok(fdl_train(g));
    assert_true(fdl_is_training(drop));
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    assert_int_equal(fdl_dtype_of(fdl_forward(g, fdl_double(x))), FDL_FLOAT64);
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_of_modules),
        cmocka_unit_test(nothing_at_all_is_an_identity),
        cmocka_unit_test(also_adds_the_branch_to_the_stream),
        cmocka_unit_test(also_with_another_width_fails_in_forward),
        cmocka_unit_test(a_fork_runs_on_the_side),
        cmocka_unit_test(a_fork_sends_gradients_into_the_trunk),
        cmocka_unit_test(split_and_merge),
        cmocka_unit_test(every_branch_gets_its_gradient),
        cmocka_unit_test(a_merge_takes_refs_as_operands),
        cmocka_unit_test(a_group_names_the_branches),
        cmocka_unit_test(further_inputs_come_in_order_of_declaration),
        cmocka_unit_test(a_ref_goes_to_every_branch),
        cmocka_unit_test(gradients_pass_through_refs),
        cmocka_unit_test(tag_and_using_may_change_places),
        cmocka_unit_test(names_that_a_module_declares_come_in_any_order),
        cmocka_unit_test(counted_loops),
        cmocka_unit_test(a_loop_hands_its_refs_to_every_run),
        cmocka_unit_test(a_loop_resets_its_body_first),
        cmocka_unit_test(graphs_nest),
        cmocka_unit_test(a_graph_with_inputs_nests_by_their_names),
        cmocka_unit_test(a_shared_module_may_stand_at_several_places),
        cmocka_unit_test(a_seed_gives_the_same_weights_in_every_form),
        cmocka_unit_test(the_order_is_that_of_rounds),
        cmocka_unit_test(modes_and_moves_reach_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
