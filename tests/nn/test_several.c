/* Modules of several inputs against PyTorch's recorded numbers: bilinear forms, bags of embeddings, cells with states; gradients
 * against difference quotients; how the inputs come in a flow; what is refused. */
#include "fixture.h"

static bool on_gpu;

static fdl_tensor *leaf(const char *name, const char *what)
{
    fdl_tensor *x = fixture_of(name, what, NULL);
    check_ok(fdl_requires_grad_(x, true));
    return x;
}

/* The initial values are PyTorch's under the seed: normal ones to rounding. */
static void begins(fdl_module *m, const char *name, double tolerance)
{
    check_some(m);
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        const char *key = fdl_params_name(ps, i);
        if (!on_gpu) /* which draws other numbers from a seed */
            expect_recorded(fdl_param_tensor(fdl_params_at(ps, i)), name, "init", key, tolerance);
        check_ok(fdl_param_set(fdl_params_at(ps, i), fixture_of(name, "init", key)));
    }
}

static void has_gradients(fdl_module *m, const char *name)
{
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        expect_recorded(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), name, "grad",
                        fdl_params_name(ps, i), 2e-5);
}

static fdl_tensor *forward_all(fdl_list in, void *ctx)
{
    return fdl_forward_list(ctx, in);
}

/* The first module of that kind among the nodes of a flow. */
static fdl_module *inside(fdl_module *flow, const char *kind)
{
    for (int i = 0; i < fdl_module_children(flow); i++) {
        fdl_module *m = fdl_module_child_at(flow, i, NULL);
        if (m && strcmp(fdl_module_kind(m), kind) == 0)
            return m;
    }
    fail_msg("the flow has no %s", kind);
    return NULL;
}

/* ---- bilinear ------------------------------------------------------------------------------------- */

static void bilinear_equals_pytorch(void **state)
{
    (void)state;
    static const char *const names[] = {"bilinear.matrix", "bilinear.more"};
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        fdl_manual_seed((uint64_t)i);
        fdl_module *m = fdl_nn_bilinear(3, 4, 5, .no_bias = i == 1);
        begins(m, names[i], 0);
        assert_int_equal(fdl_params_count(fdl_parameters(m)), i ? 1 : 2);
        fdl_tensor *x1 = leaf(names[i], "x1"), *x2 = leaf(names[i], "x2");
        fdl_tensor *y = fdl_forward(m, x1, x2);
        expect_recorded(y, names[i], "y", NULL, 1e-5);
        check_ok(fdl_backward(recorded_loss(y)));
        expect_recorded(fdl_grad(x1), names[i], "d.x1", NULL, 2e-5);
        expect_recorded(fdl_grad(x2), names[i], "d.x2", NULL, 2e-5);
        has_gradients(m, names[i]);
        check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
        fdl_tensor *a = fdl_double(fdl_detach(x1)), *b = fdl_double(fdl_detach(x2));
        check_ok(fdl_requires_grad_(a, true));
        check_ok(fdl_requires_grad_(b, true));
        check_ok(fdl_gradcheck(forward_all, FDL_LIST(a, b), m));
        check_ok(fdl_module_free(m));
    }
}

static void bilinear_takes_two_inputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_bilinear(3, 4, 5);
    fdl_tensor *x1 = fdl_ones(FDL_SHAPE(2, 3)), *x2 = fdl_ones(FDL_SHAPE(2, 4));
    assert_null(fdl_forward(m, x1));
    check_error(FDL_E_ARG, "bilinear takes 2 inputs, got 1");
    assert_null(fdl_forward(m, x1, x2, x2));
    check_error(FDL_E_ARG, "bilinear takes 2 inputs, got 3");
    assert_null(fdl_forward(m, x2, x1));
    check_error(FDL_E_SHAPE, "[2, 4]", "[2, 3]");
    assert_null(fdl_forward(m, x1, fdl_ones(FDL_SHAPE(3, 4))));
    check_error(FDL_E_SHAPE, "[3, 4]");
    assert_int_equal(fdl_size(fdl_forward(m, x1, x2), 1), 5);
    check_ok(fdl_module_free(m));

    fdl_module *flow = fdl_flow(fdl_flow_input("other"), fdl_nn_bilinear(3, 4, 5), fdl_flow_using("other"));
    check_some(flow);
    assert_true(fdl_same(fdl_forward(flow, x1, x2), fdl_forward(inside(flow, "bilinear"), x1, x2)));
    check_ok(fdl_module_free(flow));
}

/* ---- bags ----------------------------------------------------------------------------------------- */

static const fdl_bag_mode modes[] = {FDL_BAG_MEAN, FDL_BAG_SUM, FDL_BAG_MAX};
static const char *const mode_names[] = {"mean", "sum", "max"};

static void bag_is_recorded(const char *name, fdl_module *m, bool weighted)
{
    FDL_SCOPE;
    begins(m, name, 1e-6);
    fdl_tensor *indices = fixture_of(name, "indices", NULL), *offsets = fixture_of(name, "offsets", NULL);
    fdl_tensor *w = weighted ? leaf(name, "weights") : NULL;
    fdl_tensor *y = fdl_nn_embedding_bag_forward(m, indices, offsets, .weights = w);
    expect_recorded(y, name, "y", NULL, 1e-5);
    fdl_tensor *again = w ? fdl_forward(m, indices, offsets, w) : fdl_forward(m, indices, offsets);
    assert_true(fdl_same(again, y));
    check_ok(fdl_backward(recorded_loss(y)));
    has_gradients(m, name);
    if (w)
        expect_recorded(fdl_grad(w), name, "d.weights", NULL, 2e-5);
    check_ok(fdl_module_free(m));
}

static void bags_equal_pytorch(void **state)
{
    (void)state;
    for (int i = 0; i < 18; i++) {
        int mode = i / 6, padding = i / 2 % 3, last = i % 2;
        static const char *const paddings[] = {"none", "2", "-1"};
        char name[64];
        snprintf(name, sizeof name, "bag.%s.%s.%d", mode_names[mode], paddings[padding], last);
        fdl_nn_embedding_bag_opts o = {.mode = modes[mode], .include_last_offset = last};
        if (padding)
            o.padding_idx = FDL_SOME(padding == 1 ? 2 : -1);
        fdl_manual_seed(100 + (uint64_t)i);
        bag_is_recorded(name, fdl_nn_embedding_bag_opt(7, 3, &o), false);
        if (modes[mode] != FDL_BAG_SUM)
            continue;
        FDL_SCOPE;
        strcat(name, ".weights");
        fdl_manual_seed(200 + (uint64_t)i);
        check_some(fdl_randn(FDL_SHAPE(10))); /* the weights were drawn first */
        bag_is_recorded(name, fdl_nn_embedding_bag_opt(7, 3, &o), true);
    }
    fdl_manual_seed(300);
    bag_is_recorded("bag.norm", fdl_nn_embedding_bag(7, 3, .max_norm = 1, .norm_type = 4), false);
    if (on_gpu)
        return;
    fdl_manual_seed(300);
    bag_is_recorded("bag.freq", fdl_nn_embedding_bag(7, 3, .scale_grad_by_freq = true), false);
}

/* Rows 1, 2 and 3 stand in the batch once, twice and three times; a sum's gradient is 1 each time. On the CPU libtorch takes the
 * counts of other rows, which the recorded numbers have. */
static void gradients_by_frequency_are_means_over_the_batch(void **state)
{
    (void)state;
    if (!on_gpu) {
        print_message("skipped: on the CPU PyTorch's numbers are other ones\n");
        skip();
    }
    FDL_SCOPE;
    fdl_module *m = fdl_nn_embedding_bag(5, 1, .mode = FDL_BAG_SUM, .scale_grad_by_freq = true);
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, fdl_ivec(3, 2, 3, 1, 2, 3), fdl_ivec(0, 4)))));
    fdl_tensor *g = fdl_grad(fdl_param_tensor(fdl_module_own_param(m, "weight")));
    assert_true(fdl_allclose(g, fdl_reshape(fdl_vec(0, 1, 1, 1, 0), FDL_SHAPE(5, 1))));
    check_ok(fdl_module_free(m));
}

static void rows_are_bags(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_manual_seed(301);
    fdl_module *m = fdl_nn_embedding_bag(7, 3, .mode = FDL_BAG_SUM);
    begins(m, "bag.rows", 1e-6);
    fdl_tensor *indices = fixture_get("bag.rows/indices"), *w = leaf("bag.rows", "weights");
    fdl_tensor *y = fdl_nn_embedding_bag_forward(m, indices, NULL, .weights = w);
    expect_recorded(y, "bag.rows", "y", NULL, 1e-5);
    check_ok(fdl_backward(recorded_loss(y)));
    expect_recorded(fdl_grad(w), "bag.rows", "d.weights", NULL, 2e-5);
    has_gradients(m, "bag.rows");
    fdl_tensor *flat = fdl_reshape(indices, FDL_SHAPE(-1)), *begin = fdl_ivec(0, 5);
    assert_true(
        fdl_same(fdl_nn_embedding_bag_forward(m, flat, begin, .weights = fdl_reshape(w, FDL_SHAPE(-1))), y));
    assert_true(fdl_same(fdl_forward(m, indices), fdl_forward(m, flat, begin)));
    check_ok(fdl_module_free(m));

    fdl_module *last = fdl_nn_embedding_bag(7, 3, .include_last_offset = true); /* which rows don't have */
    assert_int_equal(fdl_size(fdl_forward(last, indices), 0), 2);
    check_ok(fdl_module_free(last));
}

/* Rows 1, 2, 4 and 8 of a table with one column. */
static void bags_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const double want[][3] = {{1.5, 0, 14.0 / 3}, {3, 0, 14}, {2, 0, 8}};
    for (int i = 0; i < 3; i++) {
        fdl_module *m = fdl_nn_embedding_bag(5, 1, .mode = modes[i]);
        fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
        check_ok(fdl_param_set(fdl_module_own_param(m, "weight"),
                               fdl_reshape(fdl_vec(1, 2, 4, 8, 16), FDL_SHAPE(5, 1))));
        fdl_tensor *y = fdl_forward(m, fdl_ivec(0, 1, 1, 2, 3), fdl_ivec(0, 2, 2));
        for (int k = 0; k < 3; k++) /* the one in the middle is empty */
            check_number(fdl_item(fdl_select(y, 0, k)), want[i][k], 1e-6);
        check_ok(fdl_backward(fdl_sum(y)));
        check_number(fdl_item(fdl_select(fdl_grad(w), 0, 4)), 0, 0); /* a row that no bag has */
        assert_true(fdl_item(fdl_select(fdl_grad(w), 0, 3)) > 0);
        check_ok(fdl_module_free(m));
    }
    fdl_module *usual = fdl_nn_embedding_bag(5, 2), *mean = fdl_nn_embedding_bag(5, 2, .mode = FDL_BAG_MEAN);
    check_ok(fdl_param_set(fdl_module_own_param(usual, "weight"),
                           fdl_param_tensor(fdl_module_own_param(mean, "weight"))));
    fdl_tensor *i = fdl_reshape(fdl_ivec(0, 1, 2, 3), FDL_SHAPE(2, 2));
    assert_true(fdl_same(fdl_forward(usual, i), fdl_forward(mean, i)));
    check_ok(fdl_module_free(usual));
    check_ok(fdl_module_free(mean));
}

static fdl_tensor *bag_of(fdl_list in, void *ctx)
{
    void **both = ctx; /* the module; the indices; the offsets */
    (void)in;
    return in.n > 1 ? fdl_nn_embedding_bag_forward(both[0], both[1], both[2], .weights = in.at[1])
                    : fdl_nn_embedding_bag_forward(both[0], both[1], both[2]);
}

static void bags_have_the_gradient_of_their_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *indices = fdl_ivec(1, 5, 2, 0, 3, 3, 6), *offsets = fdl_ivec(0, 3, 3);
    for (int i = 0; i < 3; i++) {
        fdl_module *m = fdl_nn_embedding_bag(7, 3, .mode = modes[i], .dtype = FDL_FLOAT64);
        fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
        fdl_tensor *each = fdl_randn(FDL_SHAPE(7), .dtype = FDL_FLOAT64);
        check_ok(fdl_requires_grad_(each, true));
        check_ok(fdl_gradcheck(bag_of, FDL_LIST(w), ((void *[]){m, indices, offsets})));
        if (modes[i] == FDL_BAG_SUM)
            check_ok(fdl_gradcheck(bag_of, FDL_LIST(w, each), ((void *[]){m, indices, offsets})));
        check_ok(fdl_module_free(m));
    }
}

static void sparse_gradients_say_the_same(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *indices = fdl_reshape(fdl_ivec(1, 5, 2, 1), FDL_SHAPE(2, 2));
    fdl_module *all[][2] = {
        {fdl_nn_embedding(7, 3), fdl_nn_embedding(7, 3, .sparse = true)},
        {fdl_nn_embedding_bag(7, 3), fdl_nn_embedding_bag(7, 3, .sparse = true)},
        {fdl_nn_embedding_bag(7, 3, .mode = FDL_BAG_SUM),
         fdl_nn_embedding_bag(7, 3, .mode = FDL_BAG_SUM, .sparse = true)},
    };
    for (int i = 0; i < 3; i++) {
        fdl_tensor *w[2];
        for (int k = 0; k < 2; k++) {
            w[k] = fdl_param_tensor(fdl_module_own_param(all[i][k], "weight"));
            fdl_tensor *y = fdl_forward(all[i][k], indices);
            check_ok(fdl_backward(recorded_loss(y)));
        }
        assert_false(fdl_is_sparse(fdl_grad(w[0])));
        assert_true(fdl_is_sparse(fdl_grad(w[1])));
        assert_true(fdl_allclose(fdl_to_dense(fdl_grad(w[1])), fdl_grad(w[0]), .atol = 1e-6));
        check_ok(fdl_module_free(all[i][0]));
        check_ok(fdl_module_free(all[i][1]));
    }
}

static void wrong_bags_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_embedding_bag(7, 3), *linear = fdl_nn_linear(3, 3);
    fdl_tensor *flat = fdl_ivec(1, 2, 3, 4), *rows = fdl_reshape(flat, FDL_SHAPE(2, 2)),
               *begin = fdl_ivec(0, 2);
    assert_null(fdl_forward(m, flat));
    check_error(FDL_E_ARG, "embedding_bag", "need offsets", "[4]");
    assert_null(fdl_forward(m, rows, begin));
    check_error(FDL_E_ARG, "embedding_bag", "each row", "[2, 2]");
    assert_null(fdl_forward(m, fdl_reshape(flat, FDL_SHAPE(2, 1, 2))));
    check_error(FDL_E_SHAPE, "[2, 1, 2]");
    assert_null(fdl_nn_embedding_bag_forward(m, flat, begin, .weights = fdl_ones(FDL_SHAPE(4))));
    check_error(FDL_E_ARG, "FDL_BAG_SUM");
    assert_null(fdl_nn_embedding_bag_forward(m, rows, NULL, .weights = fdl_ones(FDL_SHAPE(4))));
    check_error(FDL_E_SHAPE, "weights", "[4]");
    assert_null(fdl_forward(m, fdl_vec(1, 2), begin));
    check_error(FDL_E_DTYPE, "idx");
    assert_null(fdl_nn_embedding_bag_forward(linear, flat, begin));
    check_error(FDL_E_ARG, "m is a linear");
    assert_null(fdl_nn_embedding_bag_forward(m, NULL, begin));
    check_error(FDL_E_NULL, "indices");
    assert_null(fdl_nn_embedding_bag_forward(m, flat, fdl_reshape(begin, FDL_SHAPE(3))));
    check_error(FDL_E_SHAPE, "fdl_reshape"); /* what failed before it */
    if (!on_gpu) {                           /* where values aren't looked at */
        assert_null(fdl_forward(m, flat, fdl_ivec(0, 3, 2)));
        check_error(FDL_E_ARG, "offset 2 is 2");
        assert_null(fdl_forward(m, fdl_ivec(1, 7), begin));
        check_error(FDL_E_RANGE, "7");
    }
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(linear));
}

static void bags_take_their_inputs_by_name_in_a_flow(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *flow =
        fdl_flow(fdl_flow_input("offsets", "weights"), fdl_nn_embedding_bag(7, 3, .mode = FDL_BAG_SUM),
                 fdl_flow_using("weights", "offsets"));
    check_some(flow);
    fdl_module *m = inside(flow, "embedding_bag");
    fdl_tensor *flat = fdl_ivec(1, 2, 3), *begin = fdl_ivec(0, 2), *w = fdl_vec(1, 2, 3);
    assert_true(fdl_same(fdl_forward(flow, flat, begin, w), fdl_forward(m, flat, begin, w)));
    assert_null(fdl_forward(m, flat, begin, w, w));
    check_error(FDL_E_ARG, "embedding_bag", "one input too many");
    check_ok(fdl_module_free(flow));
    fdl_module *other =
        fdl_flow(fdl_flow_input("begins"), fdl_nn_embedding_bag(7, 3), fdl_flow_using("begins"));
    m = inside(other, "embedding_bag");
    assert_true(fdl_same(fdl_forward(other, flat, begin), fdl_forward(m, flat, begin)));
    check_ok(fdl_module_free(other));
}

/* ---- cells ---------------------------------------------------------------------------------------- */

static fdl_module *make_cell(int kind, bool no_bias)
{
    const fdl_nn_cell_opts o = {.no_bias = no_bias, .relu = kind == 1};
    return kind < 2    ? fdl_nn_rnn_cell_opt(3, 4, &o)
           : kind == 2 ? fdl_nn_gru_cell_opt(3, 4, &o)
                       : fdl_nn_lstm_cell_opt(3, 4, &o);
}

static fdl_tensor *cell_of(fdl_list in, void *ctx)
{
    if (in.n < 3)
        return fdl_forward_list(ctx, in);
    fdl_tensor *c, *h = fdl_nn_lstm_cell_forward(ctx, in.at[0], in.at[1], in.at[2], &c);
    return fdl_cat(FDL_LIST(h, c), 1);
}

static void cells_equal_pytorch(void **state)
{
    (void)state;
    static const char *const kinds[] = {"rnn", "rnn_relu", "gru", "lstm"};
    for (int i = 0; i < 8; i++) {
        FDL_SCOPE;
        char name[32];
        bool lstm = i / 2 == 3;
        snprintf(name, sizeof name, "cell.%s.%d", kinds[i / 2], 1 - i % 2);
        fdl_manual_seed(400 + (uint64_t)i);
        fdl_module *m = make_cell(i / 2, i % 2);
        begins(m, name, 0);
        fdl_tensor *in[3] = {leaf(name, "x"), leaf(name, "h"), lstm ? leaf(name, "c") : NULL}, *c = NULL;
        fdl_tensor *h =
            lstm ? fdl_nn_lstm_cell_forward(m, in[0], in[1], in[2], &c) : fdl_forward(m, in[0], in[1]);
        expect_recorded(h, name, "h_out", NULL, 1e-5);
        fdl_tensor *loss = recorded_loss(h);
        if (lstm) {
            expect_recorded(c, name, "c_out", NULL, 1e-5);
            loss = fdl_add(loss, recorded_loss(c));
        }
        check_ok(fdl_backward(loss));
        static const char *const grads[] = {"d.x", "d.h", "d.c"};
        for (int k = 0; k < (lstm ? 3 : 2); k++)
            expect_recorded(fdl_grad(in[k]), name, grads[k], NULL, 2e-5);
        has_gradients(m, name);
        check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
        fdl_list wide = {lstm ? 3 : 2, in};
        for (int k = 0; k < wide.n; k++) {
            in[k] = fdl_double(fdl_detach(in[k]));
            check_ok(fdl_requires_grad_(in[k], true));
        }
        check_ok(fdl_gradcheck(cell_of, wide, m));
        check_ok(fdl_module_free(m));
    }
}

/* A graph's state comes to a cell as h, or packed, from zeros of its own width at first. */
static void cells_keep_their_state_in_a_flow(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3));
    for (int kind = 0; kind < 4; kind++) {
        fdl_module *flow = fdl_flow(make_cell(kind, false), fdl_flow_using("memory"), fdl_flow_tag("memory"));
        check_some(flow);
        static const char *const kinds[] = {"rnn_cell", "rnn_cell", "grucell", "lstmcell"};
        fdl_module *m = inside(flow, kinds[kind]);
        fdl_tensor *zeros = fdl_zeros(FDL_SHAPE(2, kind == 3 ? 8 : 4)), *h = fdl_forward(m, x, zeros);
        assert_true(fdl_same(fdl_forward(flow, x), h));
        assert_true(fdl_same(fdl_forward(flow, x), fdl_forward(m, x, h)));
        check_ok(fdl_module_free(flow));
    }
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bilinear_equals_pytorch),
        cmocka_unit_test(bilinear_takes_two_inputs),
        cmocka_unit_test(bags_equal_pytorch),
        cmocka_unit_test(gradients_by_frequency_are_means_over_the_batch),
        cmocka_unit_test(rows_are_bags),
        cmocka_unit_test(bags_by_hand),
        cmocka_unit_test(bags_have_the_gradient_of_their_forward),
        cmocka_unit_test(sparse_gradients_say_the_same),
        cmocka_unit_test(wrong_bags_are_refused),
        cmocka_unit_test(bags_take_their_inputs_by_name_in_a_flow),
        cmocka_unit_test(cells_equal_pytorch),
        cmocka_unit_test(cells_keep_their_state_in_a_flow),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
