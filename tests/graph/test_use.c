/* A graph in use: trained, under autocast, moved, frozen; what a long chain holds at once; the same graph in every form. */
#include "graph/modules.h"

#include <math.h>

static void one_module_is_a_graph(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 2));
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_forward(g, row(1, 2, 3))), FDL_SHAPE(1, 2)));
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 2);
    assert_string_equal(node_ids(g), "linear_1");
    fdl_module_free(g);
}

static fdl_module *block(void)
{
    return fdl_flow_also(fdl_flow(fdl_nn_linear(4, 4), fdl_nn_gelu()));
}

static void a_loop_builds_what_stands_written_out(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(5));
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, fdl_nn_linear(2, 4)));
    for (int i = 0; i < 12; i++)
        check_ok(fdl_flow_add(b, block()));
    fdl_module *a = fdl_flow_build(b);
    check_ok(fdl_manual_seed(5));
    fdl_module *c = fdl_flow(fdl_nn_linear(2, 4), block(), block(), block(), block(), block(), block(),
                             block(), block(), block(), block(), block(), block());
    assert_string_equal(fdl_graph_hash(a), fdl_graph_hash(c));
    assert_true(fdl_same(fdl_forward(a, row(1, 2)), fdl_forward(c, row(1, 2))));
    fdl_module_free(a);
    fdl_module_free(c);
}

static void a_line_is_learned(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(1));
    fdl_module *g = fdl_flow(fdl_nn_linear(1, 1));
    fdl_optim *opt = fdl_optim_sgd(fdl_parameters(g), .lr = 0.01);
    const float xs[] = {-3, -2, -1, 0, 1, 2, 3, 4};
    fdl_tensor *x = fdl_from_f32(xs, FDL_SHAPE(8, 1));
    fdl_tensor *y = fdl_add(fdl_mul(x, 2.0), 1.0);
    double last = 1;
    for (int i = 0; i < 800; i++) {
        FDL_SCOPE;
        fdl_tensor *loss = fdl_mse_loss(fdl_forward(g, x), y);
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(loss));
        check_ok(fdl_optim_step(opt));
        last = fdl_item(loss);
    }
    assert_true(last < 0.01);
    fdl_optim_free(opt);
    fdl_module_free(g);
}

/* ---- modes --------------------------------------------------------------------------------------------- */

static void tags_and_state_have_the_autocast_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), fdl_flow_add_from("sum"), fdl_flow_tag("sum"),
                             fdl_nn_linear(2, 2), fdl_flow_tag("end"));
    fdl_tensor *x = row(1, 2);
    for (int i = 0; i < 3; i++) {
        FDL_AUTOCAST(.dtype = FDL_BFLOAT16, .device_type = fdl_device_of(x).type);
        fdl_tensor *y = fdl_forward(g, x);
        assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
        assert_int_equal(fdl_dtype_of(fdl_graph_tagged(g, "sum")), FDL_BFLOAT16);
        assert_int_equal(fdl_dtype_of(fdl_graph_state_get(g, "sum")), FDL_BFLOAT16);
        check_ok(fdl_backward(fdl_sum(y)));
        check_ok(fdl_graph_end_step(g));
    }
    fdl_module_free(g);
}

static void modes_reach_what_is_deep_inside(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *drop = fdl_nn_dropout(0.5);
    fdl_module *expert = fdl_flow(fdl_flow_loop(fdl_flow(fdl_nn_identity(), drop), .n = 2));
    fdl_module *g =
        fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(4, 2), FDL_MODULES(expert, fdl_nn_identity())));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(16, 4));
    check_ok(fdl_eval(g));
    assert_false(fdl_is_training(drop));
    assert_true(fdl_same(fdl_forward(g, x), fdl_forward(g, x)));
    check_ok(fdl_train(g));
    assert_true(fdl_is_training(drop));
    assert_false(fdl_same(fdl_forward(g, x), fdl_forward(g, x)));
    fdl_module_free(g);
}

/* ---- parameters ---------------------------------------------------------------------------------------- */

static void names_are_those(fdl_params *ps, int n, const char *const *want)
{
    assert_int_equal(fdl_params_count(ps), n);
    for (int i = 0; i < n; i++)
        assert_string_equal(fdl_params_name(ps, i), want[i]);
}

static void parameters_come_in_the_order_of_execution(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* the second input's linear is of level 0: it runs, and is listed, before that of level 1 */
    fdl_module *shared = new_bias(2);
    fdl_module *g = fdl_flow(shared, fdl_flow_tag("first"), fdl_nn_linear(2, 2), fdl_module_share(shared),
                             fdl_flow_also(fdl_nn_linear(2, 2)));
    const char *want[] = {"first/bias", "linear_2/weight", "linear_2/bias", "linear_4/weight",
                          "linear_4/bias"};
    names_are_those(fdl_parameters(g), 5, want);
    fdl_module_free(g);
    g = fdl_flow(fdl_nn_linear(2, 16), fdl_nn_gelu(), fdl_nn_layer_norm(16),
                 fdl_flow_also(fdl_nn_linear(16, 16)), fdl_flow_tag("hidden"), fdl_nn_linear(16, 2));
    const char *readme[] = {"linear_1/weight", "linear_1/bias", "layernorm_3/weight", "layernorm_3/bias",
                            "linear_4/weight", "linear_4/bias", "linear_6/weight",    "linear_6/bias"};
    names_are_those(fdl_parameters(g), 8, readme);
    fdl_params *at = fdl_graph_parameters_at(g, "hidden");
    assert_int_equal(fdl_params_count(at), 2);
    assert_ptr_equal(fdl_params_at(at, 0), fdl_params_at(fdl_parameters(g), 4));
    fdl_module_free(g);
}

static void an_optimizer_survives_a_move(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(2, 2), fdl_nn_batch_norm1d(2), fdl_flow_add_from("sum"), fdl_flow_tag("sum"));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(g), .lr = 0.1);
    fdl_tensor *handle = fdl_param_tensor(fdl_params_at(fdl_parameters(g), 0));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2)), *before = fdl_clone(fdl_detach(handle));
    for (int i = 0; i < 2; i++) {
        fdl_tensor *in = i ? fdl_double(x) : x;
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(fdl_sum(fdl_square(fdl_forward(g, in)))));
        check_ok(fdl_optim_step(opt));
        check_ok(fdl_graph_end_step(g));
        check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
        assert_ptr_equal(fdl_param_tensor(fdl_params_at(fdl_parameters(g), 0)), handle);
        assert_int_equal(fdl_dtype_of(handle), FDL_FLOAT64);
        assert_int_equal(fdl_dtype_of(fdl_param_tensor(fdl_params_at(fdl_buffers(g), 0))), FDL_FLOAT64);
        assert_int_equal(fdl_dtype_of(fdl_graph_state_get(g, "sum")), FDL_FLOAT64);
        fdl_tensor *now = fdl_clone(fdl_detach(handle));
        assert_false(fdl_allclose(fdl_double(now), fdl_double(before)));
        before = now;
    }
    fdl_optim_free(opt);
    fdl_module_free(g);
}

static void what_is_frozen_stands_still(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 3), fdl_nn_tanh(), fdl_nn_linear(3, 1));
    fdl_optim *opt = fdl_optim_adamw(fdl_parameters(g), .lr = 0.1, .weight_decay = 0.5);
    fdl_param *p = fdl_params_find(fdl_parameters(g), "linear_1/weight");
    fdl_tensor *w = fdl_param_tensor(p), *x = row(1, 2);
    for (int i = 0; i < 3; i++) { /* momentum and a gradient are there */
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
        check_ok(fdl_optim_step(opt));
    }
    check_some(fdl_grad(w));
    check_ok(fdl_param_freeze(p));
    assert_null(fdl_grad(w));
    fdl_tensor *before = fdl_clone(fdl_detach(w));
    for (int i = 0; i < 3; i++) {
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
        assert_null(fdl_grad(w));
        check_ok(fdl_optim_step(opt));
    }
    assert_true(fdl_same(w, before));
    check_ok(fdl_param_thaw(p));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, x))));
    check_some(fdl_grad(w));
    fdl_module_free(g);
    fdl_optim_free(opt);
}

/* ---- walks --------------------------------------------------------------------------------------------- */

static fdl_status count_module(fdl_module *m, void *ctx)
{
    (void)m;
    ++*(int *)ctx;
    return FDL_OK;
}

static void a_walk_meets_each_module_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *b = new_bias(2);
    fdl_module *g = fdl_flow(b, dbl(), fdl_flow(fdl_module_share(b), tri()));
    int n = 0;
    check_ok(fdl_module_walk(g, count_module, &n));
    assert_int_equal(n, 5); /* the graph, the bias, dbl, the inner graph, tri */
    n = 0;
    check_ok(fdl_module_walk(b, count_module, &n));
    assert_int_equal(n, 1);
    fdl_module_free(g);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static int64_t live_at_most;

static fdl_tensor *observes(fdl_tensor *x)
{
    fdl_tensor *y = fdl_mul(x, 1.5);
    if (fdl_live_tensors() > live_at_most)
        live_at_most = fdl_live_tensors();
    return y;
}

static void a_long_chain_holds_few_values(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < 100; i++)
        check_ok(fdl_flow_add(b, fdl_nn_fn(observes)));
    fdl_module *g = fdl_flow_build(b);
    fdl_tensor *x = row(1e-9f);
    int64_t before = fdl_live_tensors();
    check_some(fdl_forward(g, x));
    assert_true(live_at_most - before <= 2); /* the operand and the result, beside x */
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_module_is_a_graph),
        cmocka_unit_test(a_loop_builds_what_stands_written_out),
        cmocka_unit_test(a_line_is_learned),
        cmocka_unit_test(tags_and_state_have_the_autocast_dtype),
        cmocka_unit_test(modes_reach_what_is_deep_inside),
        cmocka_unit_test(parameters_come_in_the_order_of_execution),
        cmocka_unit_test(an_optimizer_survives_a_move),
        cmocka_unit_test(what_is_frozen_stands_still),
        cmocka_unit_test(a_walk_meets_each_module_once),
        cmocka_unit_test(a_long_chain_holds_few_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
