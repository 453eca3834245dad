/* Gates: weights of all permitted shapes, gradients, what the router gets, the cost of the combination, what doesn't fit. */
#include "graph/modules.h"

/* A router that gives its parameter, [N] or more. */
static fdl_tensor *given_forward(void *self, fdl_tensor *x)
{
    (void)x;
    return *(fdl_tensor **)self;
}

static const fdl_module_ops given_ops = {
    .kind = "given", .size = sizeof(fdl_tensor *), .forward = given_forward};

static fdl_module *given(fdl_tensor *w)
{
    fdl_module *m = fdl_module_new(&given_ops);
    *(fdl_tensor **)fdl_module_self(m) = fdl_module_param(m, "w", w);
    return fdl_module_done(m);
}

static void equal_weights_give_the_mean(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_gate(given(fdl_full(FDL_SHAPE(2), 0.5)), FDL_MODULES(dbl(), tri())));
    check_values(fdl_forward(g, row(2, 4)), 5, 10);
    assert_string_equal(node_ids(g), "identity_1 gate_2");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_gate(given(fdl_vec(1, -1, 10)), FDL_MODULES(dbl(), tri(), id())));
    check_values(fdl_forward(g, row(2, 4)), 18, 36);
    fdl_module_free(g);
}

/* The sum written out, each weight aligned by hand. */
static fdl_tensor *by_hand(fdl_tensor *w, fdl_tensor *x)
{
    fdl_shape s = fdl_shape_of(w), aligned = {.ndim = fdl_ndim(x)};
    for (int i = 0; i < aligned.ndim; i++)
        aligned.d[i] = i < s.ndim - 1 ? s.d[i] : 1;
    fdl_tensor *a = fdl_reshape(fdl_select(w, -1, 0), aligned),
               *b = fdl_reshape(fdl_select(w, -1, 1), aligned);
    return fdl_add(fdl_mul(a, twice(x)), fdl_mul(b, thrice(x)));
}

static void weights_align_from_the_left(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        fdl_shape x, w;
    } cases[] = {{FDL_SHAPE(3, 3, 4), FDL_SHAPE(2)},
                 {FDL_SHAPE(3, 3, 4), FDL_SHAPE(3, 2)},
                 {FDL_SHAPE(3, 3, 4), FDL_SHAPE(3, 3, 2)},
                 {FDL_SHAPE(3, 5, 4), FDL_SHAPE(1, 5, 2)},
                 {FDL_SHAPE(3, 5, 4), FDL_SHAPE(3, 1, 2)},
                 {FDL_SHAPE(6), FDL_SHAPE(2)},
                 {FDL_SHAPE(2, 3), FDL_SHAPE(2, 2)},
                 {FDL_SHAPE(0, 3), FDL_SHAPE(1, 2)},
                 {FDL_SHAPE(2, 3, 4, 5), FDL_SHAPE(2, 3, 4, 2)}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int wide = 0; wide < 2; wide++) {
            fdl_tensor *x = fdl_randn(cases[i].x, .requires_grad = true);
            fdl_tensor *w = fdl_randn(cases[i].w, .dtype = wide ? FDL_FLOAT64 : FDL_FLOAT32);
            fdl_module *router = given(w), *g = fdl_flow(fdl_flow_gate(router, FDL_MODULES(dbl(), tri())));
            fdl_tensor *y = fdl_forward(g, x), *leaf = fdl_param_tensor(fdl_module_own_param(router, "w"));
            check_some(y);
            assert_int_equal(fdl_dtype_of(y), wide ? FDL_FLOAT64 : FDL_FLOAT32);
            fdl_tensor *other = fdl_clone(fdl_detach(leaf)), *x2 = fdl_clone(fdl_detach(x));
            check_ok(fdl_requires_grad_(other, true));
            check_ok(fdl_requires_grad_(x2, true));
            fdl_tensor *want = by_hand(other, x2);
            assert_true(fdl_allclose(y, want, .atol = 1e-5));
            check_ok(fdl_backward(fdl_sum(fdl_square(y))));
            check_ok(fdl_backward(fdl_sum(fdl_square(want))));
            assert_true(fdl_allclose(fdl_grad(leaf), fdl_grad(other), .atol = 1e-4, .rtol = 1e-4));
            assert_true(fdl_allclose(fdl_grad(x), fdl_grad(x2), .atol = 1e-4, .rtol = 1e-4));
            fdl_module_free(g);
        }
}

static void gradients_reach_router_and_all_experts(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(3, 3), fdl_flow_gate(fdl_nn_softmax_router(3, 2),
                                                    FDL_MODULES(fdl_nn_linear(3, 4), fdl_nn_linear(3, 4))));
    fdl_params *ps = fdl_parameters(g);
    assert_int_equal(fdl_params_count(ps), 8);
    assert_string_equal(fdl_params_name(ps, 2), "gate_2/router.proj.weight");
    check_ok(fdl_backward(fdl_sum(fdl_square(fdl_forward(g, fdl_randn(FDL_SHAPE(5, 3)))))));
    for (int i = 0; i < 8; i++) {
        fdl_tensor *grad = fdl_grad(fdl_param_tensor(fdl_params_at(ps, i)));
        check_some(grad);
        assert_true(fdl_item(fdl_sum(fdl_abs(grad))) > 0);
    }
    fdl_module_free(g);
}

static fdl_tensor *checked(fdl_list in, void *ctx)
{
    return fdl_forward(ctx, fdl_list_at(in, 0));
}

static void the_gradient_is_that_of_the_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_gate(fdl_nn_sigmoid_router(3, 3),
                               FDL_MODULES(fdl_nn_linear(3, 2), fdl_nn_linear(3, 2), fdl_nn_linear(3, 2))));
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *leaves[16] = {fdl_randn(FDL_SHAPE(2, 4, 3), .dtype = FDL_FLOAT64, .requires_grad = true)};
    fdl_list in = {1, leaves};
    fdl_params *ps = fdl_parameters(g);
    for (int i = 0; i < fdl_params_count(ps); i++)
        leaves[in.n++] = fdl_param_tensor(fdl_params_at(ps, i));
    check_ok(fdl_gradcheck(checked, in, g));
    fdl_module_free(g);
}

static void the_router_gets_the_refs(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* sum_refs passes x + ctx on as weights; the experts see x alone */
    fdl_module *g = fdl_flow(id(), fdl_flow_input("ctx"),
                             fdl_flow_gate(sum_refs(), FDL_MODULES(dbl(), add_ctx())), fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(1, 2), row(10, 20)), 11 * 2 + 22 * 1, 11 * 4 + 22 * 2);
    fdl_module_free(g);
    fdl_module *router = fdl_nn_softmax_router(2, 2);
    check_ok(fdl_param_set(fdl_module_own_param(fdl_module_child_at(router, 0, NULL), "weight"), fdl_eye(2)));
    check_ok(
        fdl_param_set(fdl_module_own_param(fdl_module_child_at(router, 0, NULL), "bias"), fdl_vec(0, 0)));
    g = fdl_flow(id(), fdl_flow_input("ctx"), router, fdl_flow_using("ctx"));
    assert_true(fdl_allclose(fdl_forward(g, row(1, 2), row(3, 1)), fdl_softmax(row(4, 3), -1), .atol = 1e-6));
    fdl_module_free(g);
}

static void routers_give_weights(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *softmax = fdl_nn_softmax_router(4, 3), *sigmoid = fdl_nn_sigmoid_router(4, 3);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(7, 4)), *w = fdl_forward(softmax, x);
    assert_true(fdl_allclose(fdl_sum_dim(w, -1), fdl_ones(FDL_SHAPE(7)), .atol = 1e-6));
    w = fdl_forward(sigmoid, x);
    assert_true(fdl_item(fdl_min(w)) > 0 && fdl_item(fdl_max(w)) < 1);
    check_ok(fdl_module_free(softmax));
    check_ok(fdl_module_free(sigmoid));
}

/* Kernels of the combination: the operations of a gate less those of its router and its experts. */
static int combining(int n, bool with_grad)
{
    FDL_SCOPE;
    fdl_module *experts[16];
    for (int i = 0; i < n; i++)
        experts[i] = dbl();
    fdl_module *g = fdl_flow(fdl_flow_gate_opt(given(fdl_randn(FDL_SHAPE(3, n))), n, experts, NULL));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 8));
    fdl_mode_guard mode = with_grad ? fdl_enable_grad_open() : fdl_no_grad_open();
    check_some(fdl_forward(g, x));
    fdl_watch *w = fdl_watch_start();
    check_some(w);
    check_some(fdl_forward(g, x));
    check_ok(fdl_watch_stop(w));
    int kernels = 0;
    for (int64_t i = 0; i < fdl_watch_count(w); i++) {
        static const char *const kernel[] = {"aten::cat",   "aten::bmm",   "aten::mul", "aten::sum",
                                             "aten::clone", "aten::copy_", "aten::add"};
        for (size_t k = 0; k < sizeof kernel / sizeof *kernel; k++)
            kernels += strcmp(fdl_watch_name(w, i), kernel[k]) == 0;
    }
    fdl_watch_free(w);
    check_ok(fdl_mode_close(mode));
    fdl_module_free(g);
    return kernels - n; /* an addition an expert */
}

static void the_combination_costs_the_same_for_any_number(void **state)
{
    (void)state;
    for (int grad = 0; grad < 2; grad++) {
        int two = combining(2, grad), many = combining(16, grad);
        assert_int_equal(two, many);
        assert_in_range(two, 1, 4);
    }
}

static void what_doesnt_fit_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        fdl_shape w;
        const char *word;
    } cases[] = {{FDL_SHAPE(3), "[3]"},
                 {FDL_SHAPE(4, 2), "[4, 2]"},
                 {FDL_SHAPE(3, 4, 2), "[3, 4, 2]"},
                 {FDL_SCALAR, "[]"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *g = fdl_flow(fdl_flow_gate(given(fdl_ones(cases[i].w)), FDL_MODULES(dbl(), tri())),
                                 fdl_flow_tag("mix"));
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 4))));
        check_error(FDL_E_SHAPE, "gate_2 (#mix)", cases[i].word, "2 experts", "[3, 4]");
        fdl_module_free(g);
    }
    fdl_module *g =
        fdl_flow(fdl_flow_gate(given(fdl_ones(FDL_SHAPE(3))), FDL_MODULES(id(), id(), fdl_nn_linear(2, 5))));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_SHAPE, "gate_2", "expert 2", "[1, 2]", "[1, 5]");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_gate(given(fdl_ones(FDL_SHAPE(2))), FDL_MODULES(id(), fdl_nn_fn(fails))));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_RANGE, "gate_2: expert 1: this module always fails");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_gate(fdl_nn_fn(fails), FDL_MODULES(id(), id())));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_RANGE, "gate_2: router: this module always fails");
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_weights_give_the_mean),
        cmocka_unit_test(weights_align_from_the_left),
        cmocka_unit_test(gradients_reach_router_and_all_experts),
        cmocka_unit_test(the_gradient_is_that_of_the_forward),
        cmocka_unit_test(the_router_gets_the_refs),
        cmocka_unit_test(routers_give_weights),
        cmocka_unit_test(the_combination_costs_the_same_for_any_number),
        cmocka_unit_test(what_doesnt_fit_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
