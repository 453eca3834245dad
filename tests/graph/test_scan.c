/* Scans over sequences, chains of modules of one making, and steps that are computed once more in backward. */
#include "graph/modules.h"

#include <math.h>

/* ---- scans --------------------------------------------------------------------------------------------- */

/* A recurrent layer of one level and the cell with its parameters. */
static void same_parameters(fdl_module *layer, fdl_module *cell)
{
    FDL_SCOPE;
    fdl_params *from = fdl_parameters(layer), *to = fdl_parameters(cell);
    assert_int_equal(fdl_params_count(from), 4);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_l0", fdl_params_name(to, i));
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_find(from, name))));
    }
}

static void same_gradients(fdl_module *layer, fdl_module *cell)
{
    FDL_SCOPE;
    fdl_params *from = fdl_parameters(layer), *to = fdl_parameters(cell);
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s_l0", fdl_params_name(to, i));
        assert_true(fdl_allclose(fdl_grad(fdl_param_tensor(fdl_params_at(to, i))),
                                 fdl_grad(fdl_param_tensor(fdl_params_find(from, name))), .atol = 1e-4,
                                 .rtol = 1e-4));
    }
}

/* Against the layers that PyTorch's numbers are known of. */
static void a_scan_over_a_cell_is_the_layer(void **state)
{
    (void)state;
    for (int k = 0; k < 8; k++) {
        FDL_SCOPE;
        bool lstm = k & 1, batch_first = k & 2, recompute = k & 4;
        fdl_module *layer = lstm ? fdl_nn_lstm(3, 4, .batch_first = batch_first)
                                 : fdl_nn_gru(3, 4, .batch_first = batch_first);
        fdl_module *cell = lstm ? fdl_nn_lstm_cell(3, 4) : fdl_nn_gru_cell(3, 4);
        same_parameters(layer, cell);
        fdl_module *g =
            fdl_flow(fdl_flow_scan(cell, .dim = batch_first, .width = lstm ? 4 : 0, .recompute = recompute));
        check_some(g);
        fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 3)), *y = fdl_forward(g, x), *want = fdl_forward(layer, x);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(5, 2, 4)));
        assert_true(fdl_allclose(y, want, .atol = 1e-5));
        check_ok(fdl_backward(fdl_sum(fdl_square(y))));
        check_ok(fdl_backward(fdl_sum(fdl_square(want))));
        same_gradients(layer, cell);
        fdl_module_free(g);
        fdl_module_free(layer);
    }
}

static void backwards_and_in_both_directions(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *cell = fdl_nn_gru_cell(2, 3), *layer = fdl_nn_gru(2, 3);
    same_parameters(layer, cell);
    fdl_module *g = fdl_flow(fdl_flow_scan(cell, .reverse = true, .trace_state = "h_n"), fdl_flow_tag("s"));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2, 2)), *y = fdl_forward(g, x);
    fdl_tensor *flipped = fdl_flip(fdl_forward(layer, fdl_flip(x, FDL_DIMS(0))), FDL_DIMS(0));
    assert_true(fdl_allclose(y, flipped, .atol = 1e-5));
    assert_true(fdl_same(fdl_graph_last_trace(g, "h_n"), fdl_select(y, 0, 0)));
    assert_string_equal(node_ids(g), "identity_1 scan_2");
    assert_string_equal(fdl_params_name(fdl_parameters(g), 0), "s/cell.weight_ih");
    fdl_module_free(g);
    fdl_module_free(layer);
}

static void the_last_output_alone(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *cell = fdl_nn_lstm_cell(2, 3), *other = fdl_module_share(cell);
    fdl_module *all = fdl_flow(fdl_flow_scan(cell, .width = 3, .dim = -2)),
               *last = fdl_flow(
                   fdl_flow_scan(other, .width = 3, .dim = -2, .last = true, .trace_state = "state"));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 4, 2));
    fdl_tensor *y = fdl_forward(all, x);
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(5, 4, 3)));
    assert_true(fdl_same(fdl_forward(last, x), fdl_select(y, 1, 3)));
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_graph_last_trace(last, "state")), FDL_SHAPE(5, 6)));
    fdl_module_free(all);
    fdl_module_free(last);
}

/* state + x. */
static fdl_tensor *sum_forward(fdl_tensor *x, const fdl_refs *r)
{
    fdl_tensor *s = fdl_refs_need(r, "state");
    return s ? fdl_add(x, s) : NULL;
}

static void the_state_goes_from_step_to_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    const float values[] = {1, 2, 3, 4};
    fdl_tensor *x = fdl_from_f32(values, FDL_SHAPE(4, 1));
    fdl_module *g = fdl_flow(fdl_flow_scan(fdl_nn_fn_refs(sum_forward, "state")));
    check_values(fdl_forward(g, x), 1, 3, 6, 10); /* and afresh in each forward */
    check_values(fdl_forward(g, x), 1, 3, 6, 10);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_scan(fdl_nn_fn_refs(sum_forward, "state"), .reverse = true));
    check_values(fdl_forward(g, x), 10, 9, 7, 4);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_input("h0"),
                 fdl_flow_scan(fdl_nn_fn_refs(sum_forward, "state"), .init = "h0"));
    check_values(fdl_forward(g, x, fdl_vec(100)), 101, 103, 106, 110);
    fdl_module_free(g);
    /* a graph as the cell, a state of another name and width, further inputs whole at every step */
    fdl_module *cell = fdl_flow(fdl_nn_linear(1, 2), fdl_flow_input("ctx", "h"), fdl_nn_state_add(),
                                fdl_flow_using("h", "ctx"));
    fdl_params *ps = fdl_parameters(cell);
    check_ok(fdl_param_set(fdl_params_at(ps, 0), fdl_ones(FDL_SHAPE(2, 1))));
    check_ok(fdl_param_set(fdl_params_at(ps, 1), fdl_vec(0, 10)));
    g = fdl_flow(id(), fdl_flow_input("ctx"), fdl_flow_scan(cell, .state = "h", .state_width = 2),
                 fdl_flow_using("ctx"));
    check_values(fdl_forward(g, fdl_from_f32(values, FDL_SHAPE(2, 1)), fdl_vec(100)), 101, 111, 203, 223);
    fdl_module_free(g);
}

/* next state = state + x; publishes its square as output, and the state. */
static fdl_tensor *square_step(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    (void)self;
    fdl_tensor *next = fdl_add(x, fdl_refs_need(r, "state"));
    fdl_emit(e, "output", fdl_square(next));
    fdl_emit(e, "seen", next);
    return next;
}

static const fdl_module_ops square_ops = {.kind = "squares", .step = square_step};

static fdl_tensor *silent_step(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    (void)self;
    (void)r;
    (void)e;
    return x;
}

static const fdl_module_ops silent_ops = {.kind = "silent", .step = silent_step};

static void a_cell_may_publish_its_output(void **state)
{
    (void)state;
    FDL_SCOPE;
    const float values[] = {1, 2, 3};
    fdl_module *g = fdl_flow(fdl_flow_scan(fdl_module_new(&square_ops)));
    fdl_tensor *x = fdl_from_f32(values, FDL_SHAPE(3, 1));
    check_values(fdl_forward(g, x), 1, 9, 36);
    int64_t before = fdl_live_tensors();
    fdl_drop(fdl_forward(g, x));
    assert_int_equal(fdl_live_tensors(), before);
    int n;
    check_some(fdl_graph_traces(g, "seen", &n));
    assert_int_equal(n, 3);
    check_values(fdl_graph_last_trace(g, "seen"), 6);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_scan(fdl_module_new(&silent_ops)));
    assert_null(fdl_forward(g, x));
    check_error(FDL_E_STATE, "scan_2: scan step 0: ", "no \"output\"");
    fdl_module_free(g);
}

#define refused(flow, ...)                   \
    do {                                     \
        assert_null(flow);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)

static void scans_that_cant_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    refused(fdl_flow(fdl_flow_scan(dbl())), "step 0 (fdl_flow_scan)", "its cell dbl", "\"state\"");
    refused(fdl_flow(fdl_flow_scan(fdl_nn_fn_refs(sum_forward, "h"))), "missing: \"h\"",
            "unknown: \"state\"");
    refused(fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2), .init = "nope")), ".init", "\"nope\"");
    refused(fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2), .state = "a/b")), ".state");
    refused(fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2), .width = -1)), ".width", "-1");
    refused(fdl_flow(fdl_flow_scan(fdl_module_new(&square_ops), .width = 2)), "squares", ".width");
    refused(fdl_flow(fdl_flow_scan(fdl_module_new(&square_ops), .recompute = true)), "squares", ".recompute");
    refused(fdl_flow(fdl_flow_split(id(), id()), fdl_flow_scan(fdl_nn_gru_cell(2, 2))), "2 streams");
    fdl_module *g = fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2), .dim = 2));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2))));
    check_error(FDL_E_SHAPE, "scan_2", "dim 2", "[3, 2]");
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2, 0))));
    check_error(FDL_E_SHAPE, "one step or more");
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 4, 5))));
    check_error(FDL_E_SHAPE, "scan_2: scan step 0: ");
    fdl_module_free(g);
}

static void nothing_is_left_of_a_scan(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int last = 0; last < 2; last++) {
        fdl_module *g = fdl_flow(fdl_flow_scan(fdl_nn_gru_cell(2, 2), .last = last));
        fdl_tensor *x = fdl_ones(FDL_SHAPE(9, 2));
        fdl_drop(fdl_forward(g, x));
        int64_t before = fdl_live_tensors();
        fdl_drop(fdl_forward(g, x));
        assert_int_equal(fdl_live_tensors(), before);
        fdl_module_free(g);
    }
}

/* ---- chains -------------------------------------------------------------------------------------------- */

static fdl_module *make_bias(int i, void *ctx)
{
    int *made = ctx;
    assert_int_equal(*made, i);
    ++*made;
    FDL_SCOPE;
    fdl_module *m = new_bias(2);
    FDL_CHECK(fdl_param_set(fdl_module_own_param(m, "bias"), fdl_full(FDL_SHAPE(2), i + 1)));
    return m;
}

static fdl_module *make_taker(int i, void *ctx)
{
    (void)i;
    (void)ctx;
    return add_ctx();
}

static fdl_module *make_none(int i, void *ctx)
{
    (void)ctx;
    return i == 1 ? fdl_nn_linear(0, 1) : id();
}

static void a_chain_of_one_making(void **state)
{
    (void)state;
    FDL_SCOPE;
    int made = 0;
    fdl_module *g = fdl_flow(id(), fdl_flow_repeat(3, make_bias, &made), fdl_flow_tag("end"));
    check_values(fdl_forward(g, row(0, 1)), 6, 7);
    assert_string_equal(node_ids(g), "identity_1 bias_2 bias_3 bias_4");
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 3);
    assert_string_equal(fdl_params_name(fdl_parameters(g), 2), "end/bias");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_input("ctx"), fdl_flow_repeat(4, make_taker, NULL), fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(1, 2), row(10, 20)), 41, 82);
    fdl_module_free(g);
    refused(fdl_flow(fdl_flow_repeat(0, make_taker, NULL)), "step 0 (fdl_flow_repeat)", "got 0");
    refused(fdl_flow(fdl_flow_repeat(3, make_none, NULL)), "linear");
    assert_null(fdl_flow_repeat(3, NULL, NULL));
    check_error(FDL_E_NULL, "fdl_flow_repeat", "make");
}

/* ---- rows of a branch that are left out --------------------------------------------------------------- */

static void branches_drop_rows_in_training(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), fdl_flow_also(dbl(), .drop = 0.25, .name = "branch"));
    assert_string_equal(node_ids(g), "identity_1 dbl_2 stochastic_depth_3 add_4");
    fdl_manual_seed(1);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4000, 3)), *y = fdl_forward(g, x);
    fdl_tensor *first = fdl_narrow(y, 1, 0, 1);
    assert_true(fdl_same(y, fdl_contiguous(fdl_expand(first, FDL_SHAPE(4000, 3))))); /* whole rows */
    double kept = fdl_item(fdl_mean(fdl_to_dtype(fdl_gt(first, 1), FDL_FLOAT32)));
    check_number(kept, 0.75, 0.03);
    check_number(fdl_item(fdl_max(y)), 1 + 2 / 0.75, 1e-5);
    check_number(fdl_item(fdl_min(y)), 1, 0);
    check_ok(fdl_eval(g));
    check_values(fdl_forward(g, row(1, 2)), 3, 6);
    fdl_module_free(g);
    refused(fdl_flow(fdl_flow_also(dbl(), .drop = 1.5)), "stochastic_depth", "1.5");
    g = fdl_flow(fdl_nn_stochastic_depth(0.5));
    assert_null(fdl_forward(g, fdl_scalar(1)));
    check_error(FDL_E_SHAPE, "stochastic_depth", "rows");
    fdl_module_free(g);
}

/* ---- computed once more -------------------------------------------------------------------------------- */

static void recomputing_changes_nothing_but_the_calls(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int k = 0; k < 3; k++) { /* a step, a counted loop, a loop with a condition */
        fdl_tensor *grads[2][3], *y[2];
        for (int again = 0; again < 2; again++) {
            fdl_manual_seed(5);
            fdl_module *count = new_counter();
            const counter *c = fdl_module_self(count);
            fdl_module *body = fdl_flow(fdl_nn_linear(3, 3), fdl_nn_tanh(), count, fdl_nn_dropout(0.5));
            fdl_module *step = k == 0   ? (again ? fdl_flow_recompute(body) : body)
                               : k == 1 ? fdl_flow_loop(body, .n = 3, .recompute = again, .keep_state = true)
                                        : fdl_flow_loop(body, .while_cond = fdl_nn_threshold_halt(1e9),
                                                        .max = 3, .recompute = again, .keep_state = true);
            fdl_module *g = fdl_flow(fdl_nn_linear(3, 3), step);
            check_some(g);
            assert_string_equal(node_ids(g), k ? "linear_1 loop_2" : "linear_1 graph_2");
            fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 3), .requires_grad = true);
            y[again] = fdl_forward(g, x);
            check_ok(fdl_backward(fdl_sum(fdl_square(y[again]))));
            assert_int_equal(c->calls, (k ? 3 : 1) * (1 + again));
            grads[again][0] = fdl_grad(x);
            for (int i = 0; i < 2; i++)
                grads[again][1 + i] = fdl_grad(fdl_param_tensor(fdl_params_at(fdl_parameters(g), 2 * i)));
            {
                FDL_NO_GRAD;
                check_some(fdl_forward(g, x)); /* a plain call */
                assert_int_equal(c->calls, (k ? 3 : 1) * (2 + again));
            }
            fdl_module_free(g);
        }
        assert_true(fdl_same(y[0], y[1]));
        for (int i = 0; i < 3; i++)
            assert_true(fdl_allclose(grads[0][i], grads[1][i], .atol = 1e-6));
    }
}

static fdl_tensor *tracing_trace(void *self)
{
    (void)self;
    return NULL;
}

static void recomputing_takes_refs_and_refuses_state(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("ctx"), dbl(), fdl_flow_recompute(add_ctx()), fdl_flow_using("ctx"));
    fdl_tensor *x = row(1, 2);
    check_ok(fdl_requires_grad_(x, true));
    fdl_tensor *y = fdl_forward(g, x);
    check_values(y, 3, 6);
    check_ok(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(x), 3, 3);
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_input("ctx"),
                 fdl_flow_recompute(fdl_flow(id(), fdl_flow_input("ctx"), add_ctx(), fdl_flow_using("ctx"))),
                 fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(1, 2), row(1, 1)), 2, 3);
    fdl_module_free(g);
#define with_state() fdl_flow(id(), fdl_nn_state_add(), fdl_flow_using("memory"), fdl_flow_tag("memory"))
    refused(fdl_flow(fdl_flow_recompute(with_state())), "step 0 (fdl_flow_recompute)", "\"memory\"");
    refused(fdl_flow(fdl_flow_loop(fdl_flow(with_state()), .n = 2, .recompute = true)), "\"memory\"");
    refused(fdl_flow(fdl_flow_scan(with_state(), .recompute = true)), "\"memory\"");
    static const fdl_module_ops tracing = {
        .kind = "tracing", .forward = count_forward, .trace = tracing_trace, .size = sizeof(counter)};
    refused(fdl_flow(fdl_flow_loop(fdl_module_new(&tracing), .n = 2, .recompute = true)), "tracing",
            ".recompute");
    refused(fdl_flow(fdl_flow_loop(fdl_module_new(&square_ops), .n = 2, .recompute = true)), "squares");
    assert_null(fdl_flow(fdl_flow_recompute(NULL)));
    check_error(FDL_E_NULL, "fdl_flow_recompute");
}

int main(void)
{
    if (on_test_device())
        FDL_CHECK(fdl_allow_tf32(false, false)); /* a layer in cuDNN against its cell */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scan_over_a_cell_is_the_layer),
        cmocka_unit_test(backwards_and_in_both_directions),
        cmocka_unit_test(the_last_output_alone),
        cmocka_unit_test(the_state_goes_from_step_to_step),
        cmocka_unit_test(a_cell_may_publish_its_output),
        cmocka_unit_test(scans_that_cant_be),
        cmocka_unit_test(nothing_is_left_of_a_scan),
        cmocka_unit_test(a_chain_of_one_making),
        cmocka_unit_test(branches_drop_rows_in_training),
        cmocka_unit_test(recomputing_changes_nothing_but_the_calls),
        cmocka_unit_test(recomputing_takes_refs_and_refuses_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
