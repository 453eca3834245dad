/* What the constructors refuse, each with the argument's name; what a module does that no table of numbers
 * shows. */
#include "check.h"
#include "refused.h"

#include <math.h>

static void float_all(fdl_module *m)
{
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        assert_int_equal(fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, i))), FDL_FLOAT64);
    assert_true(fdl_params_count(ps) > 0);
    check_ok(fdl_module_free(m));
}

static void wrong_arguments_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    REFUSED(fdl_nn_linear(0, 2), "fdl_nn_linear", "in is 0");
    REFUSED(fdl_nn_linear(2, -1), "out is -1");
    REFUSED(fdl_nn_linear(-1, 2), "in is -1");
    REFUSED(fdl_nn_bilinear(0, 2, 3), "fdl_nn_bilinear", "in1 is 0");
    REFUSED(fdl_nn_bilinear(2, -2, 3), "in2 is -2");
    REFUSED(fdl_nn_bilinear(2, 2, 0), "out is 0");
    REFUSED(fdl_nn_unflatten(1, FDL_SHAPE(-1, -1)), "shape");
    REFUSED(fdl_nn_unflatten(1, FDL_SHAPE(2, -2)), "shape", "-2");
    REFUSED(fdl_nn_flatten(.start = FDL_SOME(99)), "start", "99");
    REFUSED(fdl_nn_fn(fdl_sin, .name = "No Name"), "name", "No Name");
    REFUSED(fdl_nn_fn(fdl_sin, .name = ""), "name");

    REFUSED(fdl_nn_conv1d(0, 2, 3), "fdl_nn_conv1d", "in is 0");
    REFUSED(fdl_nn_conv2d(2, 0, 3), "out is 0");
    REFUSED(fdl_nn_conv2d(2, 2, 0), "kernel is 0");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .kernel_dims = FDL_DIMS(3, 3)), "kernel", "one of them");
    REFUSED(fdl_nn_conv2d(3, 4, 3, .groups = 2), "in 3", "groups 2");
    REFUSED(fdl_nn_conv2d(4, 3, 3, .groups = 2), "out 3", "groups 2");
    REFUSED(fdl_nn_conv2d(4, 4, 3, .groups = -1), "groups is -1");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .stride = -1), "stride is -1");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .stride_dims = FDL_DIMS(1)), "stride_dims has 1", "2");
    REFUSED(fdl_nn_conv3d(2, 2, 3, .padding_dims = FDL_DIMS(1, 2)), "padding_dims has 2", "3");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .padding = -1), "padding is -1");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .dilation = -2), "dilation is -2");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .same = true, .stride = 2), "same", "stride", "2");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .same = true, .padding = 1), "same", "padding");
    REFUSED(fdl_nn_conv2d(2, 2, 3, .padding_mode = (fdl_pad_mode)9), "padding_mode", "9");
    REFUSED(fdl_nn_conv_transpose1d(3, 4, 3, .groups = 2), "conv_transpose1d", "in 3");
    REFUSED(fdl_nn_conv_transpose2d(2, 2, 3, .output_padding = 1), "output_padding is 1", "stride");
    REFUSED(fdl_nn_conv_transpose3d(2, 2, 3, .dilation_dims = FDL_DIMS(1, 1)), "dilation_dims");

    REFUSED(fdl_nn_max_pool2d(0), "kernel is 0");
    REFUSED(fdl_nn_max_pool2d(2, .padding = 2), "padding is 2", "half");
    REFUSED(fdl_nn_max_pool1d(2, .stride = -1), "stride is -1");
    REFUSED(fdl_nn_max_pool3d(2, .dilation = -1), "dilation is -1");
    REFUSED(fdl_nn_avg_pool1d(2, .divisor = 3), "divisor");
    REFUSED(fdl_nn_avg_pool2d(2, .divisor = -3), "divisor is -3");
    REFUSED(fdl_nn_avg_pool2d(3, .padding_dims = FDL_DIMS(1, 2)), "padding is 2");
    REFUSED(fdl_nn_adaptive_avg_pool2d(-1, 2), "-1");
    REFUSED(fdl_nn_adaptive_max_pool1d(-2), "-2");

    REFUSED(fdl_nn_layer_norm(0), "n is 0");
    REFUSED(fdl_nn_layer_norm(3, .shape = FDL_DIMS(3)), "n is 3", "shape");
    REFUSED(fdl_nn_layer_norm(0, .shape = FDL_DIMS(3, 0)), "shape is 0");
    REFUSED(fdl_nn_layer_norm(3, .eps = -1), "eps is -1");
    REFUSED(fdl_nn_rms_norm(-3), "n is -3");
    REFUSED(fdl_nn_group_norm(3, 8), "channels 8", "groups 3");
    REFUSED(fdl_nn_group_norm(0, 8), "groups is 0");
    REFUSED(fdl_nn_batch_norm2d(0), "fdl_nn_batch_norm2d", "n is 0");
    REFUSED(fdl_nn_batch_norm1d(2, .momentum = 1.5), "momentum is 1.5");
    REFUSED(fdl_nn_batch_norm1d(2, .momentum = 0.5, .cumulative = true), "momentum", "cumulative");
    REFUSED(fdl_nn_batch_norm1d(2, .eps = NAN), "eps is nan");

    REFUSED(fdl_nn_dropout(-0.1), "fdl_nn_dropout", "p is -0.1");
    REFUSED(fdl_nn_dropout(NAN), "p is nan");
    REFUSED(fdl_nn_dropout2d(1.1), "fdl_nn_dropout2d", "p is 1.1");
    REFUSED(fdl_nn_alpha_dropout(2), "p is 2");

    REFUSED(fdl_nn_embedding(0, 3), "num is 0");
    REFUSED(fdl_nn_embedding(3, 0), "dim is 0");
    REFUSED(fdl_nn_embedding(3, 3, .padding_idx = FDL_SOME(3)), "padding_idx is 3");
    REFUSED(fdl_nn_embedding(3, 3, .padding_idx = FDL_SOME(-4)), "padding_idx is -4");
    REFUSED(fdl_nn_embedding(3, 3, .max_norm = -1), "max_norm is -1");
    REFUSED(fdl_nn_embedding(3, 3, .max_norm = 1, .norm_type = -2), "norm_type is -2");
    REFUSED(fdl_nn_embedding_bag(0, 3), "fdl_nn_embedding_bag", "num is 0");
    REFUSED(fdl_nn_embedding_bag(3, -1), "dim is -1");
    REFUSED(fdl_nn_embedding_bag(3, 3, .padding_idx = FDL_SOME(3)), "padding_idx is 3");
    REFUSED(fdl_nn_embedding_bag(3, 3, .mode = (fdl_bag_mode)7), "mode is 7");
    REFUSED(fdl_nn_embedding_bag(3, 3, .mode = FDL_BAG_MAX, .sparse = true), "sparse", "FDL_BAG_MAX");
    REFUSED(fdl_nn_embedding_bag(3, 3, .mode = FDL_BAG_MAX, .scale_grad_by_freq = true),
            "scale_grad_by_freq");
    REFUSED(fdl_nn_position_embedding(0, 3), "fdl_nn_position_embedding", "max is 0");
    REFUSED(fdl_nn_position_embedding(3, -1), "dim is -1");

    REFUSED(fdl_nn_prelu(0), "n is 0");
    REFUSED(fdl_nn_hardtanh(.min = 2), "min is 2");
    REFUSED(fdl_nn_celu(.alpha = FDL_ZERO), "alpha");
    REFUSED(fdl_nn_softplus(.beta = FDL_ZERO), "beta");
    REFUSED(fdl_nn_softshrink(.lambda = -1), "lambda is -1");
    REFUSED(fdl_nn_hardshrink(.lambda = NAN), "lambda is nan");
    REFUSED(fdl_nn_leaky_relu(.negative_slope = NAN), "negative_slope");
    REFUSED(fdl_nn_gelu(.approximate = (fdl_gelu_kind)5), "approximate is 5");
    REFUSED(fdl_nn_rrelu(.lower = 0.5, .upper = 0.25), "lower is 0.5");
    REFUSED(fdl_nn_softmax(12), "dim is 12");

    REFUSED(fdl_nn_lstm(0, 2), "in is 0");
    REFUSED(fdl_nn_gru(2, 0), "hid is 0");
    REFUSED(fdl_nn_lstm(2, 2, .layers = -1), "layers is -1");
    REFUSED(fdl_nn_lstm(2, 2, .dropout = 1.5), "dropout is 1.5");
    REFUSED(fdl_nn_lstm(2, 2, .proj = 2), "proj is 2");
    REFUSED(fdl_nn_gru(2, 2, .proj = 1), "proj is 1", "lstm");
    REFUSED(fdl_nn_lstm(2, 2, .relu = true), "relu", "rnn");
    REFUSED(fdl_nn_rnn(2, 2, .proj = 1), "proj is 1", "lstm");
    REFUSED(fdl_nn_rnn(2, 0), "fdl_nn_rnn", "hid is 0");
    REFUSED(fdl_nn_gru_cell(2, 0), "hid is 0");
    REFUSED(fdl_nn_rnn_cell(2, -2), "fdl_nn_rnn_cell", "hid is -2");
    REFUSED(fdl_nn_gru_cell(2, 2, .relu = true), "relu", "rnn_cell");
    REFUSED(fdl_nn_lstm_cell(0, 2), "in is 0");
}

static void the_error_has_the_callers_line(void **state)
{
    (void)state;
    assert_null(fdl_nn_linear(0, 1));
    assert_int_equal(fdl_last_error()->line, __LINE__ - 1);
    assert_string_equal(fdl_last_error()->file, __FILE__);
    fdl_clear_error();
}

static void every_module_with_parameters_takes_a_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    float_all(fdl_nn_linear(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_conv2d(2, 3, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_conv_transpose1d(2, 3, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_layer_norm(2, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_rms_norm(2, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_group_norm(1, 2, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_batch_norm2d(2, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_embedding(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_position_embedding(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_prelu(1, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_gru(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_lstm(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_gru_cell(2, 3, .dtype = FDL_FLOAT64));
    float_all(fdl_nn_lstm_cell(2, 3, .dtype = FDL_FLOAT64));
}

/* ---- linear ------------------------------------------------------------------------------------- */

static void linear_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 2);
    fdl_param *w = fdl_module_own_param(m, "weight"), *b = fdl_module_own_param(m, "bias");
    check_ok(fdl_param_set(w, fdl_reshape(fdl_vec(1, 2, 3, 4, 5, 6), FDL_SHAPE(2, 3))));
    check_ok(fdl_param_set(b, fdl_vec(0.1, 0.2)));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 3), .requires_grad = true), *y = fdl_forward(m, x);
    assert_true(fdl_allclose(y, fdl_reshape(fdl_vec(6.1, 15.2), FDL_SHAPE(1, 2))));
    check_ok(fdl_backward(fdl_sum(y)));
    assert_true(fdl_same(fdl_grad(fdl_param_tensor(w)), fdl_ones(FDL_SHAPE(2, 3))));
    assert_true(fdl_same(fdl_grad(fdl_param_tensor(b)), fdl_ones(FDL_SHAPE(2))));
    assert_true(fdl_same(fdl_grad(x), fdl_reshape(fdl_vec(5, 7, 9), FDL_SHAPE(1, 3))));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 4))));
    check_error(FDL_E_SHAPE, "4", "3");
    assert_null(fdl_forward(m, x, x));
    check_error(FDL_E_ARG, "linear", "1 input", "2");
    check_ok(fdl_module_free(m));
}

typedef struct two {
    fdl_module *in, *out;
} two;

static fdl_tensor *two_forward(void *self, fdl_tensor *x)
{
    two *m = self;
    return fdl_forward(m->out, fdl_forward(m->in, x));
}

static void a_tied_weight_is_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_module_ops ops = {.kind = "two", .size = sizeof(two), .forward = two_forward};
    fdl_module *m = fdl_module_new(&ops);
    two *self = fdl_module_self(m);
    self->in = fdl_module_child(m, "in", fdl_nn_embedding(5, 3));
    fdl_param *table = fdl_module_own_param(self->in, "weight");
    self->out = fdl_module_child(m, "out", fdl_nn_linear(3, 5, .no_bias = true, .tie = table));
    check_some(fdl_module_done(m));
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 1);
    assert_string_equal(fdl_params_name(ps, 0), "in.weight");
    /* sum of E[i] . E[k] over the i of the input and all k: each row gets the sum of all rows for each i that
     * names it, and each row the sum of the rows of the input. */
    fdl_tensor *i = fdl_ivec(0, 2, 2), *w = fdl_param_tensor(table);
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, i))));
    FDL_NO_GRAD;
    fdl_tensor *all = fdl_sum_dim(w, 0), *named = fdl_sum_dim(fdl_index_select(w, 0, i), 0);
    fdl_tensor *counts = fdl_reshape(fdl_vec(1, 0, 2, 0, 0), FDL_SHAPE(5, 1));
    assert_true(fdl_allclose(fdl_grad(w), fdl_add(fdl_mul(counts, all), named), .atol = 1e-5));
    check_ok(fdl_module_free(m));

    fdl_module *e = fdl_nn_embedding(5, 3);
    REFUSED(fdl_nn_linear(5, 3, .tie = fdl_module_own_param(e, "weight")), "tie", "[3, 5]");
    check_ok(fdl_module_free(e));
}

/* ---- batch norm --------------------------------------------------------------------------------- */

static void batch_norm_keeps_running_statistics(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_batch_norm1d(2);
    fdl_tensor *x = fdl_reshape(fdl_vec(10, 20, 12, 22, 11, 21, 9, 19), FDL_SHAPE(4, 2));
    check_some(fdl_forward(m, x));
    fdl_tensor *mean = fdl_param_tensor(fdl_module_own_buffer(m, "running_mean"));
    fdl_tensor *var = fdl_param_tensor(fdl_module_own_buffer(m, "running_var"));
    fdl_tensor *batches = fdl_param_tensor(fdl_module_own_buffer(m, "num_batches_tracked"));
    assert_true(fdl_allclose(mean, fdl_vec(1.05, 2.05)));
    assert_true(fdl_allclose(var, fdl_vec(1.0666667, 1.0666667)));
    assert_int_equal(fdl_item_i64(batches), 1);
    check_ok(fdl_freeze(m));
    check_some(fdl_forward(m, x));
    assert_int_equal(fdl_item_i64(batches), 2); /* freezing doesn't stop them */
    check_ok(fdl_eval(m));
    check_some(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2))));
    assert_int_equal(fdl_item_i64(batches), 2);
    check_ok(fdl_train(m));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2))));
    check_error(FDL_E_SHAPE, "batch_norm", "more than 1 value per channel in training", "[1, 2]");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(4, 3))));
    check_error(FDL_E_SHAPE, "[4, 3]", "2 channels");
    check_ok(fdl_module_free(m));

    fdl_module *two_d = fdl_nn_batch_norm2d(4),
               *bare = fdl_nn_batch_norm(4, .no_affine = true, .no_stats = true);
    assert_null(fdl_forward(two_d, x));
    check_error(FDL_E_SHAPE, "batchnorm2d", "4 dims");
    check_some(fdl_forward(two_d, fdl_randn(FDL_SHAPE(1, 4, 3, 3))));
    assert_int_equal(fdl_params_count(fdl_parameters(bare)) + fdl_params_count(fdl_buffers(bare)), 0);
    check_ok(fdl_module_free(two_d));
    check_ok(fdl_module_free(bare));
}

static void cumulative_statistics_are_the_mean_of_the_batches(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_batch_norm1d(1, .cumulative = true);
    const double means[] = {1, 4, 10};
    for (int i = 0; i < 3; i++)
        check_some(fdl_forward(m, fdl_add(fdl_reshape(fdl_vec(-1, 0, 1), FDL_SHAPE(3, 1)), means[i])));
    assert_float_equal(fdl_item(fdl_param_tensor(fdl_module_own_buffer(m, "running_mean"))), 5, 1e-6);
    assert_float_equal(fdl_item(fdl_param_tensor(fdl_module_own_buffer(m, "running_var"))), 1, 1e-6);
    check_ok(fdl_module_free(m));
}

/* ---- dropout ------------------------------------------------------------------------------------ */

static void dropout_drops_and_scales(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_dropout(0.25), *channels = fdl_nn_dropout2d(0.5),
               *alpha = fdl_nn_alpha_dropout(0.1);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(40000)), *y = fdl_forward(m, x);
    double kept = fdl_item(fdl_mean(fdl_ne(y, 0)));
    assert_float_equal(kept, 0.75, 0.02);
    assert_float_equal(fdl_item(fdl_max(y)), 1 / 0.75, 1e-6);
    check_ok(fdl_eval(m));
    assert_ptr_equal(fdl_forward(m, x), x);

    fdl_tensor *image = fdl_forward(channels, fdl_ones(FDL_SHAPE(20, 50, 2, 3)));
    fdl_tensor *sums = fdl_sum_dims(image, FDL_DIMS(2, 3)); /* a channel is dropped whole: 0, or 6 times 2 */
    assert_true(fdl_item_bool(fdl_all(fdl_logical_or(fdl_eq(sums, 0), fdl_eq(sums, 12)))));
    assert_float_equal(fdl_item(fdl_mean(fdl_eq(sums, 0))), 0.5, 0.08);
    assert_int_equal(fdl_ndim(fdl_forward(channels, fdl_ones(FDL_SHAPE(50, 2, 3)))), 3);
    assert_null(fdl_forward(channels, x));
    check_error(FDL_E_SHAPE, "dropout2d", "[40000]");

    fdl_tensor *selu = fdl_forward(alpha, fdl_randn(FDL_SHAPE(200000), .dtype = FDL_FLOAT64));
    assert_float_equal(fdl_item(fdl_mean(selu)), 0, 0.02);
    assert_float_equal(fdl_item(fdl_std(selu)), 1, 0.02);
    double dropped = 0.9212845 * -1.7580993408473766 + -0.9212845 * 0.1 * -1.7580993408473766;
    assert_float_equal(fdl_item(fdl_mean(fdl_lt(fdl_abs(fdl_sub(selu, dropped)), 1e-5))), 0.1, 0.01);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(channels));
    check_ok(fdl_module_free(alpha));
}

static void rrelu_draws_slopes_in_training_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rrelu(.lower = 0.25, .upper = 0.5);
    fdl_tensor *x = fdl_full(FDL_SHAPE(10000), -1), *y = fdl_forward(m, x);
    assert_true(fdl_item(fdl_max(y)) <= -0.25 && fdl_item(fdl_min(y)) >= -0.5);
    assert_float_equal(fdl_item(fdl_mean(y)), -0.375, 0.01);
    assert_float_equal(fdl_item(fdl_std(y)), 0.25 / sqrt(12), 0.005); /* of the uniform distribution */
    check_ok(fdl_eval(m));
    assert_true(fdl_allclose(fdl_forward(m, x), fdl_full(FDL_SHAPE(10000), -0.375)));
    check_ok(fdl_module_free(m));
}

/* ---- the rest ----------------------------------------------------------------------------------- */

static void embedding_takes_whole_numbers_and_scales_its_rows(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_embedding(4, 3, .max_norm = 0.5, .padding_idx = FDL_SOME(0));
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight")), *before = fdl_clone(fdl_detach(w));
    fdl_tensor *y = fdl_forward(m, fdl_to_dtype(fdl_ivec(0, 1, 1), FDL_INT32));
    assert_true(fdl_item(fdl_norm(fdl_select(y, 0, 1))) < 0.5001);
    assert_float_equal(fdl_item(fdl_norm(fdl_select(y, 0, 0))), 0, 0);
    assert_true(fdl_same(fdl_select(w, 0, 2), fdl_select(before, 0, 2))); /* rows not asked for stay */
    assert_null(fdl_forward(m, fdl_vec(0, 1)));
    check_error(FDL_E_DTYPE, "float32");
    assert_null(fdl_forward(m, fdl_ivec(4)));
    check_error(FDL_E_RANGE, "4");
    check_ok(fdl_module_free(m));

    fdl_module *sparse = fdl_nn_embedding(4, 3, .sparse = true);
    check_ok(fdl_backward(fdl_sum(fdl_forward(sparse, fdl_ivec(1, 2)))));
    check_some(fdl_grad(fdl_param_tensor(fdl_module_own_param(sparse, "weight"))));
    check_ok(fdl_module_free(sparse));
}

static void positions_end_where_the_table_does(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_position_embedding(3, 2, .batch_first = true);
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    fdl_tensor *y = fdl_forward(m, fdl_zeros(FDL_SHAPE(4, 3, 2)));
    assert_true(fdl_same(fdl_select(y, 0, 3), fdl_detach(w)));
    assert_null(fdl_forward(m, fdl_zeros(FDL_SHAPE(3, 4, 2))));
    check_error(FDL_E_SHAPE, "position_embedding", "[3, 4, 2]", "[N, L, 2]", "at most 3");
    assert_null(fdl_forward(m, fdl_zeros(FDL_SHAPE(4, 3, 1))));
    check_error(FDL_E_SHAPE, "[4, 3, 1]");
    assert_null(fdl_forward(m, fdl_zeros(FDL_SHAPE(2))));
    check_error(FDL_E_SHAPE, "[2]");
    check_ok(fdl_module_free(m));
}

static void wrong_inputs_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *conv = fdl_nn_conv2d(4, 16, 3), *norm = fdl_nn_layer_norm(4), *prelu = fdl_nn_prelu(3);
    assert_null(fdl_forward(conv, fdl_ones(FDL_SHAPE(1, 3, 8, 8))));
    check_error(FDL_E_SHAPE, "3");
    assert_null(fdl_forward(norm, fdl_ones(FDL_SHAPE(2, 5))));
    check_error(FDL_E_SHAPE, "5");
    assert_null(fdl_forward(prelu, fdl_ones(FDL_SHAPE(2, 4))));
    check_error(FDL_E_SHAPE, "fdl_prelu");
    assert_null(fdl_forward(conv, NULL));
    check_error(FDL_E_NULL, "");
    check_ok(fdl_module_free(conv));
    check_ok(fdl_module_free(norm));
    check_ok(fdl_module_free(prelu));
}

static void identity_hands_its_input_through(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_identity();
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2));
    assert_ptr_equal(fdl_forward(m, x), x);
    check_ok(fdl_module_free(m));
}

/* Numbers in braces, or one number, for a shape: its count is 0 then, which is no shape. A number without FDL_SOME is meant. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-braces"
static void forgotten_macros(void **state)
{
    (void)state;
    FDL_SCOPE;
    REFUSED(fdl_nn_conv2d(1, 1, 3, .padding_dims = {2, 1}), "padding_dims", "FDL_DIMS(2");
    REFUSED(fdl_nn_conv2d(1, 1, 3, .stride_dims = 2), "stride_dims", "FDL_DIMS(2");
    REFUSED(fdl_nn_layer_norm(4, .shape = {2, 2}), "shape", "FDL_DIMS(2");
    assert_null(fdl_max_pool2d(fdl_ones(FDL_SHAPE(1, 4, 4)), 2, .padding_dims = {1, 1}));
    check_error(FDL_E_ARG, "padding_dims", "FDL_DIMS(1");
    fdl_module *m = fdl_nn_embedding(5, 2, .padding_idx = 3);
    check_some(m);
    double rows[10];
    check_ok(fdl_to_f64(fdl_param_tensor(fdl_module_own_param(m, "weight")), rows, 10));
    for (int i = 0; i < 10; i++)
        assert_true((rows[i] == 0) == (i / 2 == 3));
    check_ok(fdl_module_free(m));
    assert_int_equal(fdl_opt_int(FDL_SOME(0), 7), 0);
}
#pragma GCC diagnostic pop

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(forgotten_macros),
        cmocka_unit_test(the_error_has_the_callers_line),
        cmocka_unit_test(every_module_with_parameters_takes_a_dtype),
        cmocka_unit_test(linear_by_hand),
        cmocka_unit_test(a_tied_weight_is_one),
        cmocka_unit_test(batch_norm_keeps_running_statistics),
        cmocka_unit_test(cumulative_statistics_are_the_mean_of_the_batches),
        cmocka_unit_test(dropout_drops_and_scales),
        cmocka_unit_test(rrelu_draws_slopes_in_training_only),
        cmocka_unit_test(embedding_takes_whole_numbers_and_scales_its_rows),
        cmocka_unit_test(positions_end_where_the_table_does),
        cmocka_unit_test(wrong_inputs_are_refused),
        cmocka_unit_test(identity_hands_its_input_through),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
