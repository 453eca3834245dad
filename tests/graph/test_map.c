/* Maps over elements, over tagged values, over pieces of rows: values, calls, gradients, what doesn't fit. */
#include "graph/modules.h"

/* 2 x; notes how often it ran and on what. */
typedef struct noter {
    int calls;
    fdl_shape last;
} noter;

static fdl_tensor *noter_forward(void *self, fdl_tensor *x)
{
    noter *n = self;
    n->calls++;
    n->last = fdl_shape_of(x);
    return fdl_add(x, x);
}

static const fdl_module_ops noter_ops = {.kind = "noter", .size = sizeof(noter), .forward = noter_forward};

static fdl_tensor *table(int rows, int columns, const float *values)
{
    return fdl_from_f32(values, FDL_SHAPE(rows, columns));
}
#define TABLE(rows, columns, ...) table(rows, columns, (const float[]){__VA_ARGS__})

static void each_element_by_itself_or_all_at_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int batched = 0; batched < 2; batched++) {
        fdl_module *body = fdl_module_new(&noter_ops);
        const noter *n = fdl_module_self(body);
        fdl_module *g = fdl_flow(fdl_flow_map(body, .batched = batched));
        fdl_tensor *y = fdl_forward(g, TABLE(3, 2, 1, 2, 3, 4, 5, 6));
        check_values(y, 2, 4, 6, 8, 10, 12);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(3, 2)));
        assert_int_equal(n->calls, batched ? 1 : 3);
        assert_true(fdl_shape_eq(n->last, batched ? FDL_SHAPE(3, 2) : FDL_SHAPE(1, 2)));
        assert_string_equal(node_ids(g), "identity_1 map_2");
        fdl_module_free(g);
    }
}

static void over_a_tagged_value(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("f"), tri(), fdl_flow_map(dbl(), .over = "f"), fdl_flow_tag("m"));
    fdl_tensor *x = TABLE(2, 2, 1, 2, 3, 4);
    check_ok(fdl_requires_grad_(x, true));
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 2, 4, 6, 8);
    check_ok(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(x), 2, 2, 2, 2); /* nothing through what was dropped */
    fdl_module_free(g);
    /* its own input, an input of the graph, one of a group */
    g = fdl_flow(id(), fdl_flow_input("ctx"), fdl_flow_map(dbl(), .over = "ctx"));
    check_values(fdl_forward(g, x, TABLE(2, 1, 5, 6)), 10, 12);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_ADD),
                 fdl_flow_map(dbl(), .over = "b_1"));
    check_values(fdl_forward(g, x), 6, 12, 18, 24);
    fdl_module_free(g);
}

#define refused(flow, ...)                   \
    do {                                     \
        assert_null(flow);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)

static void options_that_cant_be(void **state)
{
    (void)state;
    refused(fdl_flow(id(), fdl_flow_map(dbl(), .over = "nope")), "step 1 (fdl_flow_map)", "\"nope\"");
    refused(fdl_flow(id(), fdl_flow_map(dbl(), .over = "f"), id(), fdl_flow_tag("f")), "step 1", "\"f\"",
            "before");
    refused(fdl_flow(fdl_flow_split(id(), id()), fdl_flow_tag_group("b"), fdl_flow_merge(FDL_MERGE_ADD),
                     fdl_flow_map(dbl(), .over = "b")),
            "tag group", "\"b_0\"");
    refused(fdl_flow(fdl_flow_map(dbl(), .slices = -1)), "step 0 (fdl_flow_map)", ".slices", "got -1");
    refused(fdl_flow(id(), fdl_flow_tag("f"), fdl_flow_map(dbl(), .slices = 2, .over = "f")), ".slices = 2",
            ".over = \"f\"");
    refused(fdl_flow(fdl_flow_split(id(), id()), fdl_flow_map(dbl())), "step 1 (fdl_flow_map)", "2 streams");
    refused(fdl_flow(fdl_flow_map(fdl_flow_fork(dbl()))), "fdl_flow_fork makes a step");
    refused(fdl_flow(id(), fdl_flow_tag("a"), fdl_flow_map(dbl()), fdl_flow_using("a")), "map_2",
            "its body dbl");
    assert_null(fdl_flow(fdl_flow_map(NULL)));
    check_error(FDL_E_NULL, "fdl_flow_map", "body");
}

static void pieces_of_each_row(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int batched = 0; batched < 2; batched++) {
        fdl_module *body = fdl_module_new(&noter_ops);
        const noter *n = fdl_module_self(body);
        fdl_module *g = fdl_flow(fdl_flow_map(body, .slices = 2, .batched = batched));
        fdl_tensor *y = fdl_forward(g, TABLE(2, 4, 1, 2, 3, 4, 5, 6, 7, 8));
        check_values(y, 2, 4, 6, 8, 10, 12, 14, 16);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 4)));
        assert_int_equal(n->calls, batched ? 1 : 4);
        assert_true(fdl_shape_eq(n->last, batched ? FDL_SHAPE(4, 2) : FDL_SHAPE(1, 2)));
        fdl_module_free(g);

        fdl_module *linear = fdl_nn_linear(2, 3);
        g = fdl_flow(fdl_flow_map(linear, .slices = 2, .batched = batched));
        fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 5, 4), .requires_grad = true);
        y = fdl_forward(g, x);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 5, 6)));
        fdl_tensor *halves[] = {fdl_forward(linear, fdl_narrow(x, -1, 0, 2)),
                                fdl_forward(linear, fdl_narrow(x, -1, 2, 2))};
        assert_true(fdl_allclose(y, fdl_cat((fdl_list){2, halves}, -1), .atol = 1e-6));
        check_ok(fdl_backward(fdl_sum(fdl_square(y))));
        assert_true(fdl_item(fdl_min(fdl_abs(fdl_grad(x)))) > 0);
        check_some(fdl_grad(fdl_param_tensor(fdl_module_own_param(linear, "weight"))));
        fdl_module_free(g);
    }
}

static void pieces_that_dont_fit(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_map(dbl(), .slices = 3), fdl_flow_tag("m"));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 4))));
    check_error(FDL_E_SHAPE, "map_2 (#m): ", "3 equal pieces", "[2, 4]");
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3))));
    check_error(FDL_E_SHAPE, "map_2", "[3]");
    check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(1, 3))));
    fdl_module_free(g);
    for (int batched = 0; batched < 2; batched++) {
        g = fdl_flow(fdl_flow_map(fdl_nn_reshape(FDL_SHAPE(-1)), .slices = 2, .batched = batched));
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 4))));
        check_error(FDL_E_SHAPE, "map_2", batched ? "[8]" : "map element 0", batched ? "[4, D]" : "[1, D]");
        fdl_module_free(g);
    }
    g = fdl_flow(fdl_flow_map(dbl()));
    assert_null(fdl_forward(g, fdl_scalar(1)));
    check_error(FDL_E_SHAPE, "map_2", "0-d");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_map(fdl_nn_threshold_halt(0)));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 4))));
    check_error(FDL_E_SHAPE, "map_2: map element 0", "0-d");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_map(fdl_nn_fn(fails)));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 4))));
    check_error(FDL_E_RANGE, "map_2: map element 0: this module always fails");
    fdl_module_free(g);
}

static void no_element_at_all(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        int64_t slices;
        bool batched;
    } cases[] = {{0, false}, {0, true}, {2, false}, {2, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *g = fdl_flow(
            fdl_flow_map(fdl_nn_linear(2, 3), .slices = cases[i].slices, .batched = cases[i].batched));
        fdl_tensor *x = fdl_zeros(FDL_SHAPE(0, 4));
        assert_ptr_equal(fdl_forward(g, x), x);
        fdl_module_free(g);
    }
}

/* [1, 2] -> [2, 2]. */
static fdl_tensor *two_rows(fdl_tensor *x)
{
    fdl_tensor *both[] = {x, fdl_neg(x)};
    return fdl_cat((fdl_list){2, both}, 0);
}

static void an_element_may_become_several(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_map(fdl_nn_fn(two_rows)));
    check_values(fdl_forward(g, TABLE(2, 2, 1, 2, 3, 4)), 1, 2, -1, -2, 3, 4, -3, -4);
    check_values(fdl_forward(g, TABLE(1, 2, 1, 2)), 1, 2, -1, -2);
    check_values(fdl_forward(g, fdl_vec(1, 2)), 1, -1, 2, -2);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_map(id()));
    check_values(fdl_forward(g, TABLE(2, 2, 1, 2, 3, 4)), 1, 2, 3, 4);
    fdl_module_free(g);
}

static void gradients_add_up_over_the_elements(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int batched = 0; batched < 2; batched++) {
        fdl_module *bias = new_bias(2), *g = fdl_flow(fdl_flow_map(bias, .batched = batched));
        fdl_params *ps = fdl_parameters(g);
        assert_int_equal(fdl_params_count(ps), 1);
        assert_string_equal(fdl_params_name(ps, 0), "map_2/bias"); /* the body's own names */
        check_ok(fdl_backward(fdl_sum(fdl_forward(g, fdl_ones(FDL_SHAPE(5, 2))))));
        check_values(fdl_grad(fdl_param_tensor(fdl_params_at(ps, 0))), 5, 5);
        fdl_module_free(g);
    }
}

static void refs_go_whole_to_every_call(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int batched = 0; batched < 2; batched++) {
        fdl_module *g = fdl_flow(id(), fdl_flow_input("ctx"), fdl_flow_map(add_ctx(), .batched = batched),
                                 fdl_flow_using("ctx"));
        check_values(fdl_forward(g, TABLE(2, 2, 1, 2, 3, 4), row(10, 20)), 11, 22, 13, 24);
        fdl_module_free(g);
    }
    fdl_module *body = fdl_flow(id(), fdl_flow_input("ctx"), add_ctx(), fdl_flow_using("ctx"));
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_map(body), fdl_flow_using("ctx"));
    /* each row against all rows */
    check_values(fdl_forward(g, TABLE(2, 1, 1, 10)), 2, 11, 11, 20);
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
    for (int k = 0; k < 4; k++) {
        fdl_module *g = fdl_flow(fdl_flow_map(fdl_flow(fdl_nn_linear(k & 1 ? 2 : 4, 3), fdl_nn_tanh()),
                                              .slices = k & 1 ? 2 : 0, .batched = k & 2));
        check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
        fdl_tensor *leaves[8] = {fdl_randn(FDL_SHAPE(3, 4), .dtype = FDL_FLOAT64, .requires_grad = true)};
        fdl_list in = {1, leaves};
        fdl_params *ps = fdl_parameters(g);
        for (int i = 0; i < fdl_params_count(ps); i++)
            leaves[in.n++] = fdl_param_tensor(fdl_params_at(ps, i));
        check_ok(fdl_gradcheck(checked, in, g));
        fdl_module_free(g);
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_element_by_itself_or_all_at_once),
        cmocka_unit_test(over_a_tagged_value),
        cmocka_unit_test(options_that_cant_be),
        cmocka_unit_test(pieces_of_each_row),
        cmocka_unit_test(pieces_that_dont_fit),
        cmocka_unit_test(no_element_at_all),
        cmocka_unit_test(an_element_may_become_several),
        cmocka_unit_test(gradients_add_up_over_the_elements),
        cmocka_unit_test(refs_go_whole_to_every_call),
        cmocka_unit_test(the_gradient_is_that_of_the_forward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
