/* rnn, gru and lstm: all combinations of layers, directions, bias, batch_first and projection against PyTorch's
 * recorded numbers with states of their own; what a cell and a layer have in common; dropout; wrong states.
 */
#include "fixture.h"

enum kind { GRU, LSTM, LSTM_PROJ, RNN, RNN_RELU, KINDS };
static const char *const kinds[] = {"gru", "lstm", "lstm_proj", "rnn", "rnn_relu"};

static bool on_gpu;

typedef struct combination {
    char name[64];
    enum kind kind;
    int layers;
    bool both, no_bias, batch_first;
    uint64_t seed;
} combination;

static bool has_c(const combination *c)
{
    return c->kind == LSTM || c->kind == LSTM_PROJ;
}

static fdl_module *make(const combination *c)
{
    fdl_nn_recurrent_opts o = {.layers = c->layers,
                               .bidirectional = c->both,
                               .no_bias = c->no_bias,
                               .batch_first = c->batch_first,
                               .proj = c->kind == LSTM_PROJ,
                               .relu = c->kind == RNN_RELU};
    return has_c(c)         ? fdl_nn_lstm_opt(3, 2, &o)
           : c->kind == GRU ? fdl_nn_gru_opt(3, 2, &o)
                            : fdl_nn_rnn_opt(3, 2, &o);
}

static fdl_tensor *leaf(fdl_tensor *t)
{
    check_ok(fdl_requires_grad_(t, true));
    return t;
}

static fdl_tensor *run(const combination *c, fdl_module *m, fdl_tensor *x, fdl_tensor *h0, fdl_tensor *c0,
                       fdl_tensor **h_n, fdl_tensor **c_n)
{
    return has_c(c)         ? fdl_nn_lstm_forward(m, x, .h0 = h0, .c0 = c0, .h_n = h_n, .c_n = c_n)
           : c->kind == GRU ? fdl_nn_gru_forward(m, x, .h0 = h0, .h_n = h_n)
                            : fdl_nn_rnn_forward(m, x, .h0 = h0, .h_n = h_n);
}

static void equals_pytorch(const combination *c)
{
    FDL_SCOPE;
    const double near = on_gpu ? 2e-5 : 2e-6; /* cuDNN rounds more, in the tangent of rnn too */
    fdl_manual_seed(c->seed);
    fdl_module *m = make(c);
    check_some(m);
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        const char *name = fdl_params_name(ps, i);
        if (on_gpu) /* which draws other numbers from a seed */
            check_ok(fdl_param_set(fdl_params_at(ps, i), fixture_of(c->name, "init", name)));
        else
            expect_recorded(fdl_param_tensor(fdl_params_at(ps, i)), c->name, "init", name, 0);
    }
    assert_int_equal(fdl_params_count(ps),
                     c->layers * (c->both ? 2 : 1) * ((c->no_bias ? 2 : 4) + (c->kind == LSTM_PROJ)));

    fdl_tensor *x = fixture_get("recurrent/x"), *h_n, *c_n = NULL;
    x = leaf(fdl_clone(c->batch_first ? fdl_transpose(x, 0, 1) : x));
    fdl_tensor *h0 = leaf(fixture_of(c->name, "h0", NULL)), *c0 = leaf(fixture_of(c->name, "c0", NULL));
    fdl_tensor *y = run(c, m, x, h0, c0, &h_n, &c_n);
    expect_recorded(y, c->name, "y", NULL, 5 * near);
    expect_recorded(h_n, c->name, "h_n", NULL, 5 * near);
    fdl_tensor *loss = fdl_add(recorded_loss(y), recorded_loss(h_n));
    if (has_c(c)) {
        expect_recorded(c_n, c->name, "c_n", NULL, 5 * near);
        loss = fdl_add(loss, recorded_loss(c_n));
    }
    check_ok(fdl_backward(loss));
    expect_recorded(fdl_grad(x), c->name, "dx", NULL, 10 * near);
    expect_recorded(fdl_grad(h0), c->name, "dh0", NULL, 10 * near);
    if (has_c(c))
        expect_recorded(fdl_grad(c0), c->name, "dc0", NULL, 10 * near);
    for (int i = 0; i < fdl_params_count(ps); i++)
        expect_recorded(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), c->name, "grad",
                        fdl_params_name(ps, i), 10 * near);
    check_ok(fdl_module_free(m));
}

typedef struct check {
    const combination *c;
    fdl_module *m;
} check;

static fdl_tensor *checked(fdl_list in, void *ctx)
{
    check *k = ctx;
    fdl_tensor *h_n, *c_n = NULL;
    fdl_tensor *y = run(k->c, k->m, in.at[0], in.at[1], in.at[2], &h_n, &c_n);
    fdl_tensor *states = c_n ? fdl_cat(FDL_LIST(fdl_flatten(h_n, 0, -1), fdl_flatten(c_n, 0, -1)), 0)
                             : fdl_flatten(h_n, 0, -1);
    return fdl_cat(FDL_LIST(fdl_flatten(y, 0, -1), states), 0);
}

static void has_the_gradient_of_its_forward(const combination *c)
{
    FDL_SCOPE;
    fdl_module *m = make(c);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *x = fdl_double(fixture_get("recurrent/x"));
    fdl_tensor *leaves[64] = {leaf(fdl_clone(c->batch_first ? fdl_transpose(x, 0, 1) : x)),
                              leaf(fdl_double(fixture_of(c->name, "h0", NULL))),
                              leaf(fdl_double(fixture_of(c->name, "c0", NULL)))};
    fdl_list in = {3, leaves};
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        leaves[in.n++] = fdl_param_tensor(fdl_params_at(ps, i));
    if (fdl_gradcheck(checked, in, (&(check){c, m})) != FDL_OK)
        fail_msg("%s: %s", c->name, fdl_last_error()->message);
    check_ok(fdl_module_free(m));
}

/* PyTorch's recorded gradients are those of every combination; difference quotients look at the extremes. */
static void some_gradients(const combination *c)
{
    if (!c->batch_first && c->no_bias == c->both && (c->layers == 2) == c->both)
        has_the_gradient_of_its_forward(c);
}

static void each_combination(void (*test)(const combination *c))
{
    uint64_t seed = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (int bits = 0; bits < 16; bits++) {
            combination c = {.kind = (enum kind)kind,
                             .layers = bits & 8 ? 2 : 1,
                             .both = bits & 4,
                             .no_bias = bits & 2,
                             .batch_first = bits & 1,
                             .seed = seed++};
            snprintf(c.name, sizeof c.name, "%s.%d.%d.%d.%d", kinds[kind], c.layers, c.both, c.no_bias,
                     c.batch_first);
            test(&c);
        }
}

static void every_combination_equals_pytorch(void **state)
{
    (void)state;
    each_combination(equals_pytorch);
}

static void layers_have_the_gradient_of_their_forward(void **state)
{
    (void)state;
    each_combination(some_gradients);
}

/* ---- cells -------------------------------------------------------------------------------------- */

/* A layer's weights in a cell. */
static void take_weights(fdl_module *cell, fdl_module *layer)
{
    static const char *const names[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s_l0", names[i]);
        fdl_tensor *value = fdl_param_tensor(fdl_module_own_param(layer, name));
        check_ok(fdl_param_set(fdl_module_own_param(cell, names[i]), value));
    }
}

static void a_cell_step_by_step_is_the_layer(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 3));
    fdl_module *gru = fdl_nn_gru(3, 4), *gru_cell = fdl_nn_gru_cell(3, 4);
    fdl_module *lstm = fdl_nn_lstm(3, 4), *lstm_cell = fdl_nn_lstm_cell(3, 4);
    fdl_module *rnn = fdl_nn_rnn(3, 4, .relu = true), *rnn_cell = fdl_nn_rnn_cell(3, 4, .relu = true);
    take_weights(gru_cell, gru);
    take_weights(lstm_cell, lstm);
    take_weights(rnn_cell, rnn);
    fdl_tensor *h = NULL, *hr = NULL, *packed = NULL, *hl = fdl_zeros(FDL_SHAPE(2, 4)), *cl = hl;
    fdl_tensor *h_n, *hr_n, *hl_n, *cl_n;
    check_some(fdl_nn_gru_forward(gru, x, .h_n = &h_n));
    check_some(fdl_nn_rnn_forward(rnn, x, .h_n = &hr_n));
    check_some(fdl_nn_lstm_forward(lstm, x, .h_n = &hl_n, .c_n = &cl_n));
    for (int i = 0; i < 5; i++) {
        fdl_tensor *xi = fdl_select(x, 0, i);
        h = h ? fdl_forward(gru_cell, xi, h) : fdl_forward(gru_cell, xi);
        hr = fdl_nn_rnn_cell_forward(rnn_cell, xi, .h = hr);
        packed = packed ? fdl_forward(lstm_cell, xi, packed) : fdl_nn_lstm_cell_step(lstm_cell, xi);
        hl = fdl_nn_lstm_cell_forward(lstm_cell, xi, hl, cl, &cl);
    }
    assert_true(fdl_allclose(h, fdl_select(h_n, 0, 0), .atol = 1e-6));
    assert_true(fdl_allclose(hr, fdl_select(hr_n, 0, 0), .atol = 1e-6));
    assert_true(fdl_allclose(hl, fdl_select(hl_n, 0, 0), .atol = 1e-6));
    assert_true(fdl_allclose(cl, fdl_select(cl_n, 0, 0), .atol = 1e-6));
    assert_true(fdl_shape_eq(fdl_shape_of(packed), FDL_SHAPE(2, 8)));
    assert_true(fdl_allclose(packed, fdl_cat(FDL_LIST(hl, cl), 1), .atol = 1e-6));
    assert_true(fdl_allclose(fdl_narrow(packed, 1, 0, 4), hl, .atol = 1e-6)); /* h is in front */
    fdl_tensor *x0 = fdl_select(x, 0, 0);
    assert_true(fdl_same(fdl_nn_gru_cell_forward(gru_cell, x0, .h = h), fdl_forward(gru_cell, x0, h)));
    assert_true(fdl_same(fdl_nn_rnn_cell_forward(rnn_cell, x0, .h = h), fdl_forward(rnn_cell, x0, h)));
    fdl_module *all[] = {gru, gru_cell, lstm, lstm_cell, rnn, rnn_cell};
    for (int i = 0; i < 6; i++)
        check_ok(fdl_module_free(all[i]));
}

static void names_of_cells_and_layers(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char *const of_cell[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    fdl_module *cells[] = {fdl_nn_rnn_cell(3, 4), fdl_nn_gru_cell(3, 4), fdl_nn_lstm_cell(3, 4)};
    for (int k = 0; k < 3; k++) {
        fdl_params *ps = fdl_parameters(cells[k]);
        assert_int_equal(fdl_params_count(ps), 4);
        for (int i = 0; i < 4; i++)
            assert_string_equal(fdl_params_name(ps, i), of_cell[i]);
        check_ok(fdl_module_free(cells[k]));
    }
    static const char *const of_layer[] = {"weight_ih_l0",         "weight_hh_l0",
                                           "weight_hr_l0",         "weight_ih_l0_reverse",
                                           "weight_hh_l0_reverse", "weight_hr_l0_reverse"};
    fdl_module *m = fdl_nn_lstm(3, 4, .proj = 2, .bidirectional = true, .no_bias = true);
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(fdl_params_name(ps, i), of_layer[i]);
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_param_tensor(fdl_params_at(ps, 2))), FDL_SHAPE(2, 4)));
    check_ok(fdl_module_free(m));
}

static bool has_shape(fdl_tensor *x, fdl_shape shape)
{
    return x && fdl_shape_eq(fdl_shape_of(x), shape);
}

static void shapes_of_results_and_states(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 3, 4)), *h, *c;
    for (int batch_first = 0; batch_first < 2; batch_first++) {
        fdl_nn_recurrent_opts o = {.layers = 2, .batch_first = batch_first};
        fdl_module *all[] = {fdl_nn_rnn_opt(4, 8, &o), fdl_nn_gru_opt(4, 8, &o), fdl_nn_lstm_opt(4, 8, &o)};
        int64_t n = batch_first ? 5 : 3; /* states have the sequences in the middle, whatever x has */
        assert_true(has_shape(fdl_nn_rnn_forward(all[0], x, .h_n = &h), FDL_SHAPE(5, 3, 8)));
        assert_true(has_shape(h, FDL_SHAPE(2, n, 8)));
        assert_true(has_shape(fdl_nn_gru_forward(all[1], x, .h_n = &h), FDL_SHAPE(5, 3, 8)));
        assert_true(has_shape(h, FDL_SHAPE(2, n, 8)));
        assert_true(has_shape(fdl_nn_lstm_forward(all[2], x, .h_n = &h, .c_n = &c), FDL_SHAPE(5, 3, 8)));
        assert_true(has_shape(h, FDL_SHAPE(2, n, 8)) && has_shape(c, FDL_SHAPE(2, n, 8)));
        fdl_tensor *one = fdl_select(x, 1, 0); /* a sequence alone, [L, in] */
        assert_true(has_shape(fdl_nn_lstm_forward(all[2], one, .h_n = &h, .c_n = &c), FDL_SHAPE(5, 8)));
        assert_true(has_shape(h, FDL_SHAPE(2, 8)) && has_shape(c, FDL_SHAPE(2, 8)));
        for (int i = 0; i < 3; i++)
            check_ok(fdl_module_free(all[i]));
    }
    fdl_module *both = fdl_nn_gru(4, 8, .bidirectional = true), *proj = fdl_nn_lstm(4, 8, .proj = 5);
    assert_true(has_shape(fdl_nn_gru_forward(both, x, .h_n = &h), FDL_SHAPE(5, 3, 16)));
    assert_true(has_shape(h, FDL_SHAPE(2, 3, 8)));
    assert_true(has_shape(fdl_nn_lstm_forward(proj, x, .h_n = &h, .c_n = &c), FDL_SHAPE(5, 3, 5)));
    assert_true(has_shape(h, FDL_SHAPE(1, 3, 5)) && has_shape(c, FDL_SHAPE(1, 3, 8)));
    check_ok(fdl_module_free(both));
    check_ok(fdl_module_free(proj));
}

/* All weights 0.5, no bias, x 1: values by hand. */
static void cells_have_the_known_values(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *gru = fdl_nn_gru_cell(1, 1, .no_bias = true), *lstm = fdl_nn_lstm_cell(1, 1, .no_bias = true);
    fdl_module *both[] = {gru, lstm};
    for (int i = 0; i < 2; i++) {
        fdl_params *ps = fdl_parameters(both[i]);
        for (int k = 0; k < fdl_params_count(ps); k++)
            check_ok(fdl_init_constant(fdl_param_tensor(fdl_params_at(ps, k)), 0.5));
    }
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 1)), *h = fdl_full(FDL_SHAPE(1, 1), 0.2),
               *c = fdl_full(FDL_SHAPE(1, 1), 0.3);
    assert_float_equal(fdl_item(fdl_forward(gru, x, h)), 0.3103274, 1e-6);
    assert_float_equal(fdl_item(fdl_nn_lstm_cell_forward(lstm, x, h, c, &c)), 0.3185189, 1e-6);
    assert_float_equal(fdl_item(c), 0.5404463, 1e-6);
    check_ok(fdl_module_free(gru));
    check_ok(fdl_module_free(lstm));
}

/* ---- dropout, weights that change, errors ------------------------------------------------------- */

static fdl_module *make_kind(enum kind kind, int64_t in, const fdl_nn_recurrent_opts *o)
{
    return kind == GRU                         ? fdl_nn_gru_opt(in, 4, o)
           : kind == LSTM || kind == LSTM_PROJ ? fdl_nn_lstm_opt(in, 4, o)
                                               : fdl_nn_rnn_opt(in, 4, o);
}

/* With probability 1 nothing passes from the first layer to the second, and all of the second passes: which is what a layer
 * with its weights makes of zeros. */
static void dropout_is_between_layers_in_training(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2, 3));
    for (int kind = 0; kind < KINDS; kind++) {
        fdl_nn_recurrent_opts o = {.layers = 2, .dropout = 1, .relu = kind == RNN_RELU}, alone = o;
        o.proj = alone.proj = kind == LSTM_PROJ ? 2 : 0;
        alone.layers = 1;
        alone.dropout = 0;
        int64_t h = o.proj ? o.proj : 4;
        fdl_module *m = make_kind((enum kind)kind, 3, &o), *second = make_kind((enum kind)kind, h, &alone);
        fdl_params *all = fdl_parameters(m, .match = "bias*"), *ps = fdl_parameters(second);
        for (int i = 0; kind == RNN_RELU && i < fdl_params_count(all); i++) /* or all units may be silent */
            check_ok(fdl_init_uniform(fdl_param_tensor(fdl_params_at(all, i)), 0.1, 0.5));
        for (int i = 0; i < fdl_params_count(ps); i++) {
            char name[32];
            snprintf(name, sizeof name, "%s", fdl_params_name(ps, i));
            name[strlen(name) - 1] = '1'; /* of the other layer */
            fdl_param *from = fdl_module_own_param(m, name);
            check_some(from);
            check_ok(fdl_param_set(fdl_params_at(ps, i), fdl_param_tensor(from)));
        }
        fdl_tensor *y = fdl_forward(m, x);
        assert_true(fdl_allclose(y, fdl_forward(second, fdl_zeros(FDL_SHAPE(4, 2, h))), .atol = 1e-6));
        assert_true(fdl_item(fdl_max(fdl_abs(y))) > 1e-3); /* behind the last layer nothing is dropped */
        check_ok(fdl_eval(m));
        assert_false(fdl_allclose(fdl_forward(m, x), y, .atol = 1e-4));
        assert_true(fdl_same(fdl_forward(m, x), fdl_forward(m, x)));
        check_ok(fdl_module_free(m));
        check_ok(fdl_module_free(second));
    }
    /* Half of what lies between: with identity weights in the second layer, of relu, values are 0 or doubled. */
    fdl_module *half = fdl_nn_rnn(1, 1, .layers = 2, .dropout = 0.5, .no_bias = true, .relu = true);
    check_ok(fdl_param_set(fdl_module_own_param(half, "weight_ih_l0"), fdl_ones(FDL_SHAPE(1, 1))));
    check_ok(fdl_param_set(fdl_module_own_param(half, "weight_hh_l0"), fdl_zeros(FDL_SHAPE(1, 1))));
    check_ok(fdl_param_set(fdl_module_own_param(half, "weight_ih_l1"), fdl_ones(FDL_SHAPE(1, 1))));
    check_ok(fdl_param_set(fdl_module_own_param(half, "weight_hh_l1"), fdl_zeros(FDL_SHAPE(1, 1))));
    fdl_tensor *y = fdl_forward(half, fdl_ones(FDL_SHAPE(100, 100, 1)));
    assert_true(fdl_item_bool(fdl_all(fdl_logical_or(fdl_eq(y, 0), fdl_eq(y, 2)))));
    assert_float_equal(fdl_item(fdl_mean(y)), 1, 0.05); /* 5 standard deviations of 10 000 draws */
    check_ok(fdl_module_free(half));
}

static char heard[256];

static void hear(int level, const char *line, void *ctx)
{
    (void)ctx;
    if (level == FDL_VERBOSE)
        snprintf(heard, sizeof heard, "%s", line);
}

static void dropout_of_one_layer_is_told_and_does_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    int before = fdl_verbosity_level();
    fdl_set_verbosity(FDL_VERBOSE);
    check_ok(fdl_msg_set_sink(hear, NULL));
    fdl_module *m = fdl_nn_gru(3, 8, .dropout = 0.5);
    check_ok(fdl_msg_set_sink(NULL, NULL));
    fdl_set_verbosity(before);
    assert_non_null(strstr(heard, "fdl_nn_gru"));
    assert_non_null(strstr(heard, "dropout 0.5 has no effect"));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2, 3));
    assert_true(fdl_same(fdl_forward(m, x), fdl_forward(m, x)));
    check_ok(fdl_module_free(m));
}

static void forward_uses_the_weights_of_the_moment(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_gru(3, 4);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 1, 3)), *before = fdl_forward(m, x);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    assert_true(fdl_allclose(fdl_float(fdl_forward(m, fdl_double(x))), before, .atol = 1e-6));
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT32));
    check_ok(fdl_param_set(fdl_module_own_param(m, "weight_ih_l0"), fdl_zeros(FDL_SHAPE(12, 3))));
    assert_false(fdl_allclose(fdl_forward(m, x), before, .atol = 1e-4));
    check_ok(fdl_module_free(m));
}

static void wrong_states_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *lstm = fdl_nn_lstm(3, 4), *gru = fdl_nn_gru(3, 4), *cell = fdl_nn_lstm_cell(3, 4);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 3)), *h = fdl_zeros(FDL_SHAPE(1, 2, 4)), *y = x;
    assert_null(fdl_nn_lstm_forward(lstm, x, .h0 = h, .h_n = &y));
    assert_null(y);
    check_error(FDL_E_ARG, "h0", "c0");
    assert_null(fdl_nn_lstm_forward(lstm, x, .h0 = fdl_zeros(FDL_SHAPE(1, 2, 5)), .c0 = h));
    check_error(FDL_E_SHAPE, "[1, 2, 4]");
    assert_null(fdl_nn_gru_forward(gru, x, .h0 = fdl_zeros(FDL_SHAPE(2, 2, 4))));
    check_error(FDL_E_SHAPE, "[1, 2, 4]");
    assert_null(fdl_nn_gru_forward(lstm, x));
    check_error(FDL_E_ARG, "m is a lstm", "gru");
    assert_null(fdl_nn_lstm_cell_step(gru, x));
    check_error(FDL_E_ARG, "m is a gru", "lstmcell");
    assert_null(fdl_nn_gru_forward(NULL, x));
    check_error(FDL_E_NULL, "m");
    assert_null(fdl_nn_gru_forward(gru, NULL));
    check_error(FDL_E_NULL, "x");
    assert_null(fdl_nn_lstm_cell_forward(cell, fdl_select(x, 0, 0), NULL, NULL, NULL));
    check_error(FDL_E_NULL, "fdl_lstm_cell");
    assert_null(fdl_nn_lstm_cell_step(cell, fdl_select(x, 0, 0), .state = fdl_zeros(FDL_SHAPE(2, 4))));
    check_error(FDL_E_SHAPE, "8");
    assert_null(fdl_forward(gru, fdl_zeros(FDL_SHAPE(5, 2, 7))));
    check_error(FDL_E_SHAPE, "7", "3");
    assert_null(fdl_forward(gru, fdl_zeros(FDL_SHAPE(3))));
    check_error(FDL_E_SHAPE, "gru", "[L, N, in]");
    assert_null(fdl_forward(gru, fdl_zeros(FDL_SHAPE(0, 2, 3))));
    check_error(FDL_E_SHAPE, "no steps");
    assert_null(fdl_nn_rnn_forward(gru, x));
    check_error(FDL_E_ARG, "m is a gru", "rnn");
    assert_null(fdl_nn_rnn_cell_forward(cell, x));
    check_error(FDL_E_ARG, "m is a lstmcell", "rnn_cell");
    assert_null(fdl_nn_lstm_forward(lstm, x, .c0 = h));
    check_error(FDL_E_ARG, "only .c0");
    check_ok(fdl_module_free(lstm));
    check_ok(fdl_module_free(gru));
    check_ok(fdl_module_free(cell));
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_combination_equals_pytorch),
        cmocka_unit_test(layers_have_the_gradient_of_their_forward),
        cmocka_unit_test(a_cell_step_by_step_is_the_layer),
        cmocka_unit_test(cells_have_the_known_values),
        cmocka_unit_test(names_of_cells_and_layers),
        cmocka_unit_test(shapes_of_results_and_states),
        cmocka_unit_test(dropout_is_between_layers_in_training),
        cmocka_unit_test(dropout_of_one_layer_is_told_and_does_nothing),
        cmocka_unit_test(forward_uses_the_weights_of_the_moment),
        cmocka_unit_test(wrong_states_are_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
