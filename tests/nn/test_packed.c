/* Sequences of several lengths: packed, run through recurrent layers, padded again, against PyTorch's recorded numbers; what is
 * refused; what memory is left. */
#include "fixture.h"

static bool on_gpu;

static fdl_tensor *leaf(const char *name, const char *what)
{
    fdl_tensor *x = fixture_of(name, what, NULL);
    check_ok(fdl_requires_grad_(x, true));
    return x;
}

/* Lengths are on the CPU, wherever x is. */
static fdl_tensor *lengths_of(int n, const int64_t *at)
{
    return fdl_from_i64(at, FDL_SHAPE(n), .device = FDL_CPU);
}
#define LENGTHS(...) \
    lengths_of((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__})

enum kind { GRU, LSTM, LSTM_PROJ, RNN, RNN_RELU, KINDS };
static const char *const kinds[] = {"gru", "lstm", "lstm_proj", "rnn", "rnn_relu"};

static bool has_c(enum kind kind)
{
    return kind == LSTM || kind == LSTM_PROJ;
}

static fdl_module *make(enum kind kind, fdl_nn_recurrent_opts o)
{
    o.proj = kind == LSTM_PROJ;
    o.relu = kind == RNN_RELU;
    return has_c(kind)   ? fdl_nn_lstm_opt(3, 2, &o)
           : kind == GRU ? fdl_nn_gru_opt(3, 2, &o)
                         : fdl_nn_rnn_opt(3, 2, &o);
}

static fdl_packed *run(enum kind kind, fdl_module *m, const fdl_packed *p, fdl_tensor *h0, fdl_tensor *c0,
                       fdl_tensor **h_n, fdl_tensor **c_n)
{
    return has_c(kind)   ? fdl_nn_lstm_forward_packed(m, p, .h0 = h0, .c0 = c0, .h_n = h_n, .c_n = c_n)
           : kind == GRU ? fdl_nn_gru_forward_packed(m, p, .h0 = h0, .h_n = h_n)
                         : fdl_nn_rnn_forward_packed(m, p, .h0 = h0, .h_n = h_n);
}

static void equals_pytorch(enum kind kind, bool is_sorted, bool batch_first)
{
    FDL_SCOPE;
    char name[64];
    snprintf(name, sizeof name, "packed.%s.%d", kinds[kind], is_sorted);
    fdl_manual_seed(500 + 2 * (uint64_t)kind + !is_sorted);
    fdl_module *m =
        make(kind, (fdl_nn_recurrent_opts){.layers = 2, .bidirectional = true, .batch_first = batch_first});
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        const char *key = fdl_params_name(ps, i);
        if (!on_gpu)
            expect_recorded(fdl_param_tensor(fdl_params_at(ps, i)), name, "init", key, 0);
        check_ok(fdl_param_set(fdl_params_at(ps, i), fixture_of(name, "init", key)));
    }
    fdl_tensor *x = leaf(name, "x"), *h0 = leaf(name, "h0"), *c0 = has_c(kind) ? leaf(name, "c0") : NULL;
    fdl_tensor *lengths = is_sorted ? LENGTHS(5, 3, 3, 1) : LENGTHS(3, 1, 5, 3), *h_n, *c_n = NULL, *back;
    fdl_packed *p = fdl_pack_padded(batch_first ? fdl_transpose(x, 0, 1) : x, lengths,
                                    .batch_first = batch_first, .unsorted = !is_sorted);
    check_some(p);
    expect_recorded(fdl_packed_data(p), name, "data", NULL, 0);
    expect_recorded(fdl_packed_batch_sizes(p), name, "sizes", NULL, 0);
    assert_int_equal(fdl_packed_order(p) != NULL, !is_sorted);
    fdl_packed *q = run(kind, m, p, h0, c0, &h_n, &c_n);
    check_some(q);
    expect_recorded(fdl_packed_data(q), name, "out", NULL, 1e-5);
    fdl_tensor *y =
        fdl_pad_packed(q, .batch_first = batch_first, .value = -0.25, .total_length = 6, .lengths = &back);
    check_some(y);
    y = batch_first ? fdl_transpose(y, 0, 1) : y;
    expect_recorded(y, name, "y", NULL, 1e-5);
    expect_recorded(back, name, "lengths", NULL, 0);
    assert_true(fdl_same(back, lengths));
    expect_recorded(h_n, name, "h_n", NULL, 1e-5);
    fdl_tensor *loss = fdl_add(fdl_add(recorded_loss(fdl_packed_data(p)), recorded_loss(fdl_packed_data(q))),
                               fdl_add(recorded_loss(y), recorded_loss(h_n)));
    if (has_c(kind)) {
        expect_recorded(c_n, name, "c_n", NULL, 1e-5);
        loss = fdl_add(loss, recorded_loss(c_n));
    }
    check_ok(fdl_backward(loss));
    expect_recorded(fdl_grad(x), name, "d.x", NULL, 2e-5);
    expect_recorded(fdl_grad(h0), name, "d.h0", NULL, 2e-5);
    if (has_c(kind))
        expect_recorded(fdl_grad(c0), name, "d.c0", NULL, 2e-5);
    for (int i = 0; i < fdl_params_count(ps); i++)
        expect_recorded(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), name, "grad",
                        fdl_params_name(ps, i), 2e-5);
    check_ok(fdl_module_free(m));
}

static void packed_sequences_run_as_in_pytorch(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < 4; i++)
            equals_pytorch((enum kind)kind, i & 1, i & 2);
}

/* Each sequence alone gives the same, from zeros; its last state is the one after its last step. */
static void a_packed_sequence_is_its_sequences(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 3, 3)), *h_n;
    static const int64_t n[] = {2, 5, 4};
    fdl_module *m = fdl_nn_gru(3, 2, .layers = 2);
    fdl_packed *q =
        fdl_nn_gru_forward_packed(m, fdl_pack_padded(x, lengths_of(3, n), .unsorted = true), .h_n = &h_n);
    fdl_tensor *y = fdl_pad_packed(q);
    check_some(y);
    for (int i = 0; i < 3; i++) {
        fdl_tensor *h, *alone = fdl_nn_gru_forward(m, fdl_narrow(fdl_select(x, 1, i), 0, 0, n[i]), .h_n = &h);
        fdl_tensor *mine = fdl_select(y, 1, i);
        assert_true(fdl_allclose(fdl_narrow(mine, 0, 0, n[i]), alone, .atol = 1e-6));
        assert_true(fdl_allclose(fdl_select(h_n, 1, i), h, .atol = 1e-6));
        if (n[i] < 5)
            check_number(fdl_item(fdl_max(fdl_abs(fdl_narrow(mine, 0, n[i], 5 - n[i])))), 0, 0);
    }
    check_ok(fdl_module_free(m));
}

static void other_values_of_the_same_sequences(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *tokens = fdl_reshape(fdl_ivec(1, 2, 3, 4, 5, 0), FDL_SHAPE(2, 3));
    fdl_module *table = fdl_nn_embedding(6, 3);
    fdl_packed *p = fdl_pack_padded(tokens, LENGTHS(3, 2), .batch_first = true);
    fdl_packed *e = fdl_packed_with(p, fdl_forward(table, fdl_packed_data(p)));
    fdl_tensor *y = fdl_pad_packed(e, .batch_first = true), *whole = fdl_forward(table, tokens);
    assert_true(fdl_same(fdl_narrow(y, 1, 0, 2), fdl_narrow(whole, 1, 0, 2)));
    assert_null(fdl_packed_with(p, fdl_ones(FDL_SHAPE(4, 3))));
    check_error(FDL_E_SHAPE, "fdl_packed_with", "[4, 3]", "5 steps");
    check_ok(fdl_module_free(table));
}

/* With probability 1 nothing reaches the second layer, so its output doesn't depend on x. */
static void dropout_is_between_packed_layers_too(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_lstm(3, 4, .layers = 2, .dropout = 1);
    fdl_tensor *lengths = LENGTHS(4, 2), *y[2];
    for (int i = 0; i < 2; i++)
        y[i] = fdl_pad_packed(
            fdl_nn_lstm_forward_packed(m, fdl_pack_padded(fdl_randn(FDL_SHAPE(4, 2, 3)), lengths)));
    check_some(y[0]);
    assert_true(fdl_allclose(y[0], y[1], .atol = 1e-6));
    check_ok(fdl_eval(m));
    fdl_tensor *z = fdl_pad_packed(
        fdl_nn_lstm_forward_packed(m, fdl_pack_padded(fdl_randn(FDL_SHAPE(4, 2, 3)), lengths)));
    assert_false(fdl_allclose(z, y[0], .atol = 1e-4));
    check_ok(fdl_module_free(m));
}

static fdl_tensor *packed_gru(fdl_list in, void *ctx)
{
    fdl_tensor *h_n;
    fdl_packed *p = fdl_pack_padded(in.at[0], LENGTHS(1, 3, 2), .unsorted = true);
    fdl_tensor *y = fdl_pad_packed(fdl_nn_gru_forward_packed(ctx, p, .h0 = in.at[1], .h_n = &h_n));
    return y ? fdl_cat(FDL_LIST(fdl_flatten(y, 0, -1), fdl_flatten(h_n, 0, -1)), 0) : NULL;
}

static void packing_has_the_gradient_of_its_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_gru(3, 2, .dtype = FDL_FLOAT64);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 3, 3), .dtype = FDL_FLOAT64);
    fdl_tensor *h0 = fdl_randn(FDL_SHAPE(1, 3, 2), .dtype = FDL_FLOAT64);
    check_ok(fdl_requires_grad_(x, true));
    check_ok(fdl_requires_grad_(h0, true));
    check_ok(fdl_gradcheck(packed_gru, FDL_LIST(x, h0), m));
    check_ok(fdl_module_free(m));
}

static void wrong_lengths_and_sequences_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4, 2, 3)), *h = x;
    assert_null(fdl_pack_padded(x, LENGTHS(2, 3)));
    check_error(FDL_E_ARG, "length 1 is 3", "longest", ".unsorted");
    assert_null(fdl_pack_padded(x, LENGTHS(5, 1)));
    check_error(FDL_E_ARG, "length 0 is 5", "1 to 4");
    assert_null(fdl_pack_padded(x, LENGTHS(4, 0)));
    check_error(FDL_E_ARG, "length 1 is 0");
    assert_null(fdl_pack_padded(x, LENGTHS(1, 0), .unsorted = true));
    check_error(FDL_E_ARG, "length 1 is 0");
    assert_null(fdl_pack_padded(x, LENGTHS(4, 3, 2)));
    check_error(FDL_E_SHAPE, "3 lengths for 2");
    assert_null(fdl_pack_padded(x, fdl_full(FDL_SHAPE(2), 2, .device = FDL_CPU)));
    check_error(FDL_E_DTYPE, "lengths is int64");
    assert_null(fdl_pack_padded(fdl_ones(FDL_SHAPE(4)), LENGTHS(4)));
    check_error(FDL_E_SHAPE, "[4]");
    if (on_gpu) {
        assert_null(fdl_pack_padded(x, fdl_ivec(4, 2)));
        check_error(FDL_E_DEVICE, "lengths is on the CPU");
    }
    assert_null(fdl_pack_padded(NULL, LENGTHS(4)));
    check_error(FDL_E_NULL, "x");
    assert_null(fdl_pack_padded(x, NULL));
    check_error(FDL_E_NULL, "lengths");
    assert_null(fdl_pad_packed(NULL));
    check_error(FDL_E_NULL, "p");
    assert_null(fdl_packed_data(NULL));
    check_error(FDL_E_NULL, "p");

    fdl_packed *p = fdl_pack_padded(x, LENGTHS(4, 2));
    check_some(p);
    assert_null(fdl_pad_packed(p, .total_length = 3, .lengths = &h));
    check_error(FDL_E_ARG, ".total_length is 3", "4 steps");
    assert_null(h);
    fdl_module *gru = fdl_nn_gru(3, 2), *lstm = fdl_nn_lstm(3, 2), *wide = fdl_nn_gru(5, 2);
    h = x;
    assert_null(fdl_nn_gru_forward_packed(gru, p, .h0 = fdl_ones(FDL_SHAPE(1, 3, 2)), .h_n = &h));
    check_error(FDL_E_SHAPE, "[1, 2, 2]", "[1, 3, 2]");
    assert_null(h);
    assert_null(fdl_nn_gru_forward_packed(wide, p));
    check_error(FDL_E_SHAPE, "5");
    assert_null(fdl_nn_gru_forward_packed(lstm, p));
    check_error(FDL_E_ARG, "m is a lstm");
    assert_null(fdl_nn_lstm_forward_packed(lstm, p, .h0 = fdl_ones(FDL_SHAPE(1, 2, 2))));
    check_error(FDL_E_ARG, "only .h0");
    assert_null(fdl_nn_lstm_forward_packed(lstm, NULL));
    check_error(FDL_E_NULL, "x");
    /* The function below them. */
    fdl_list ps = {4, (fdl_tensor *[4]){0}};
    for (int i = 0; i < 4; i++)
        ps.at[i] = fdl_param_tensor(fdl_params_at(fdl_parameters(gru), i));
    fdl_tensor *flat = fdl_ones(FDL_SHAPE(6, 3)), *h0 = fdl_zeros(FDL_SHAPE(1, 2, 2));
    assert_null(fdl_gru(flat, h0, ps, .batch_sizes = LENGTHS(2, 2, 1)));
    check_error(FDL_E_SHAPE, "come to 5 steps", "[6, 3]");
    assert_null(fdl_gru(flat, h0, ps, .batch_sizes = LENGTHS(2, 1, 2, 1)));
    check_error(FDL_E_ARG, "batch_sizes[2] is 2");
    assert_null(fdl_gru(x, h0, ps, .batch_sizes = LENGTHS(2, 2)));
    check_error(FDL_E_SHAPE, "a packed x is [S, in]");
    assert_null(fdl_unpack_steps(flat, LENGTHS(2, 2, 1)));
    check_error(FDL_E_SHAPE, "come to 5 steps");
    fdl_module *all[] = {gru, lstm, wide};
    for (int i = 0; i < 3; i++)
        check_ok(fdl_module_free(all[i]));
}

/* Sequences of their own: padded they are what PyTorch pads, packed what their padding packs, and unpacked themselves. */
static void sequences_of_their_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_list xs = {3, (fdl_tensor *[3]){0}};
    static const char *const names[] = {"sequences/a", "sequences/b", "sequences/c"};
    for (int i = 0; i < 3; i++) {
        xs.at[i] = fixture_get(names[i]);
        check_ok(fdl_requires_grad_(xs.at[i], true));
    }
    expect_recorded(fdl_pad_sequence(xs), "sequences", "padded", NULL, 0);
    expect_recorded(fdl_pad_sequence(xs, .batch_first = true, .value = -1.5), "sequences", "first", NULL, 0);
    fdl_packed *p = fdl_pack_sequence(xs, .unsorted = true);
    expect_recorded(fdl_packed_data(p), "sequences", "data", NULL, 0);
    expect_recorded(fdl_packed_batch_sizes(p), "sequences", "sizes", NULL, 0);
    fdl_list back = fdl_unpack_sequence(p);
    assert_int_equal(back.n, 3);
    for (int i = 0; i < 3; i++)
        assert_true(fdl_same(back.at[i], xs.at[i]));
    check_ok(fdl_backward(recorded_loss(back.at[1])));
    assert_true(fdl_same(fdl_grad(xs.at[1]), loss_weights(xs.at[1])));
    assert_null(fdl_pack_sequence(xs));
    check_error(FDL_E_ARG, "length 1 is 4", ".unsorted");
    assert_null(fdl_pad_sequence(FDL_LIST(fdl_ones(FDL_SHAPE(2, 3)), fdl_ones(FDL_SHAPE(2, 4)))));
    check_error(FDL_E_SHAPE, "number 1 is [2, 4]", "[2, 3]");
    assert_null(fdl_pad_sequence(FDL_LIST(fdl_ones(FDL_SCALAR))));
    check_error(FDL_E_SHAPE, "number 0");
    assert_null(fdl_unpack_sequence(NULL).at);
    check_error(FDL_E_NULL, "p");
    assert_null(fdl_pack_sequence(FDL_LIST(fdl_ones(FDL_SHAPE(2)), NULL)));
    check_error(FDL_E_NULL, "fdl_pad_sequence");
}

static void nothing_is_left_behind(void **state)
{
    (void)state;
    fdl_module *m = fdl_nn_lstm(3, 2);
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_tensor *x = fdl_ones(FDL_SHAPE(4, 3, 3)), *lengths = LENGTHS(1, 4, 2), *h_n;
        int64_t inside = fdl_live_tensors();
        fdl_packed *p = fdl_pack_padded(x, lengths, .unsorted = true);
        assert_int_equal(fdl_live_tensors(), inside + 4); /* data, sizes, both orders */
        fdl_packed *q = fdl_nn_lstm_forward_packed(m, p, .h_n = &h_n);
        assert_int_equal(fdl_live_tensors(), inside + 6);
        check_some(fdl_pad_packed(q));
        assert_int_equal(fdl_live_tensors(), inside + 7);
        assert_int_equal(fdl_unpack_sequence(q).n, 3);
        assert_int_equal(fdl_live_tensors(), inside + 10);
        check_some(fdl_pack_sequence(FDL_LIST(fdl_select(x, 1, 0), fdl_select(x, 1, 1))));
        assert_int_equal(fdl_live_tensors(), inside + 14); /* its operands, data, sizes */
    }
    assert_int_equal(fdl_live_tensors(), before);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_sequences_run_as_in_pytorch),
        cmocka_unit_test(a_packed_sequence_is_its_sequences),
        cmocka_unit_test(other_values_of_the_same_sequences),
        cmocka_unit_test(dropout_is_between_packed_layers_too),
        cmocka_unit_test(packing_has_the_gradient_of_its_forward),
        cmocka_unit_test(wrong_lengths_and_sequences_are_refused),
        cmocka_unit_test(sequences_of_their_own),
        cmocka_unit_test(nothing_is_left_behind),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
