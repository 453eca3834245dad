/* Every activation at -1 and 1, as a function and as a module, in float32 and float64; those along a dim; parametric and random ones. */
#include "check.h"

#include <math.h>

/* name, function, module, values at -1 and 1 */
#define ACTIVATIONS(ROW)                                                                                     \
    ROW(relu, fdl_relu(x), fdl_nn_relu(), 0, 1)                                                              \
    ROW(leaky_relu, fdl_leaky_relu(x), fdl_nn_leaky_relu(), -0.01, 1)                                        \
    ROW(leaky_relu_zero, fdl_leaky_relu(x, .negative_slope = FDL_ZERO),                                      \
        fdl_nn_leaky_relu(.negative_slope = FDL_ZERO), 0, 1)                                                 \
    ROW(elu, fdl_elu(x), fdl_nn_elu(), -0.6321206, 1)                                                        \
    ROW(selu, fdl_selu(x), fdl_nn_selu(), -1.1113307, 1.0507010)                                             \
    ROW(sigmoid, fdl_sigmoid(x), fdl_nn_sigmoid(), 0.2689414, 0.7310586)                                     \
    ROW(tanh, fdl_tanh(x), fdl_nn_tanh(), -0.7615942, 0.7615942)                                             \
    ROW(gelu, fdl_gelu(x), fdl_nn_gelu(), -0.1586553, 0.8413447)                                             \
    ROW(gelu_tanh, fdl_gelu(x, .approximate = FDL_GELU_TANH), fdl_nn_gelu(.approximate = FDL_GELU_TANH),     \
        -0.1588080, 0.8411920)                                                                               \
    ROW(silu, fdl_silu(x), fdl_nn_silu(), -0.2689414, 0.7310586)                                             \
    ROW(mish, fdl_mish(x), fdl_nn_mish(), -0.3034015, 0.8650984)                                             \
    ROW(softplus, fdl_softplus(x), fdl_nn_softplus(), 0.3132617, 1.3132617)                                  \
    ROW(softplus_linear, fdl_softplus(x, .threshold = 0.5), fdl_nn_softplus(.threshold = 0.5), 0.3132617, 1) \
    ROW(hardswish, fdl_hardswish(x), fdl_nn_hardswish(), -0.3333333, 0.6666667)                              \
    ROW(hardsigmoid, fdl_hardsigmoid(x), fdl_nn_hardsigmoid(), 0.3333333, 0.6666667)                         \
    ROW(prelu, fdl_prelu(x, fdl_full(FDL_SHAPE(1), 0.25, .dtype = fdl_dtype_of(x))), fdl_nn_prelu(1), -0.25, \
        1)                                                                                                   \
    ROW(relu6, fdl_relu6(x), fdl_nn_relu6(), 0, 1)                                                           \
    ROW(relu6_high, fdl_relu6(fdl_mul(x, 9)), fdl_flow(fdl_nn_fn(nine_times), fdl_nn_relu6()), 0, 6)         \
    ROW(hardtanh, fdl_hardtanh(x), fdl_nn_hardtanh(), -1, 1)                                                 \
    ROW(hardtanh_narrow, fdl_hardtanh(x, .min = -0.5, .max = 0.25),                                          \
        fdl_nn_hardtanh(.min = -0.5, .max = 0.25), -0.5, 0.25)                                               \
    ROW(celu, fdl_celu(x), fdl_nn_celu(), -0.6321206, 1)                                                     \
    ROW(celu_two, fdl_celu(x, .alpha = 2), fdl_nn_celu(.alpha = 2), -0.7869387, 1)                           \
    ROW(logsigmoid, fdl_logsigmoid(x), fdl_nn_logsigmoid(), -1.3132617, -0.3132617)                          \
    ROW(softsign, fdl_softsign(x), fdl_nn_softsign(), -0.5, 0.5)                                             \
    ROW(tanhshrink, fdl_tanhshrink(x), fdl_nn_tanhshrink(), -0.2384058, 0.2384058)                           \
    ROW(softshrink, fdl_softshrink(x), fdl_nn_softshrink(), -0.5, 0.5)                                       \
    ROW(softshrink_all, fdl_softshrink(x, .lambda = 2), fdl_nn_softshrink(.lambda = 2), 0, 0)                \
    ROW(hardshrink, fdl_hardshrink(x), fdl_nn_hardshrink(), -1, 1)                                           \
    ROW(hardshrink_all, fdl_hardshrink(x, .lambda = 1), fdl_nn_hardshrink(.lambda = 1), 0, 0)                \
    ROW(threshold, fdl_threshold(x, 0.5, 7), fdl_nn_threshold(0.5, 7), 7, 1)                                 \
    ROW(rrelu, fdl_rrelu(x), fdl_nn_rrelu(), -0.2291667, 1)                                                  \
    ROW(identity, x, fdl_nn_identity(), -1, 1)

static fdl_tensor *nine_times(fdl_tensor *x)
{
    return fdl_mul(x, 9);
}

#define FUNCTION(name, function, module, low, high) \
    static fdl_tensor *name##_of(fdl_tensor *x)     \
    {                                               \
        return function;                            \
    }                                               \
    static fdl_module *name##_new(void)             \
    {                                               \
        return module;                              \
    }
ACTIVATIONS(FUNCTION)

static const struct {
    const char *name;
    fdl_tensor *(*function)(fdl_tensor *x);
    fdl_module *(*module)(void);
    double at[2];
} all[] = {
#define ROW(name, function, module, low, high) {#name, name##_of, name##_new, {low, high}},
    ACTIVATIONS(ROW)};

static void expect(const char *name, fdl_tensor *y, int n, const double *want)
{
    double got[8];
    if (!y)
        fail_msg("%s: %s", name, fdl_last_error()->message);
    check_ok(fdl_to_f64(y, got, n));
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-6))
            fail_msg("%s: element %d is %.9g, not %.9g", name, i, got[i], want[i]);
}

static void every_activation_has_its_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (int k = 0; k < 2; k++) {
            FDL_SCOPE;
            fdl_dtype dtype = k ? FDL_FLOAT64 : FDL_FLOAT32;
            fdl_tensor *x = fdl_to_dtype(fdl_vec(-1, 1), dtype);
            fdl_tensor *y = all[i].function(x);
            expect(all[i].name, y, 2, all[i].at);
            assert_int_equal(fdl_dtype_of(y), dtype);
            fdl_module *m = all[i].module();
            check_some(m);
            check_ok(fdl_eval(m)); /* what is random in training isn't */
            check_ok(fdl_module_to(m, fdl_default_device(), .dtype = dtype));
            expect(all[i].name, fdl_forward(m, x), 2, all[i].at);
            check_ok(fdl_module_free(m));
        }
}

/* ---- along a dim ---------------------------------------------------------------------------------- */

static void softmax_and_its_like(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const double soft[] = {0.0900306, 0.2447285, 0.6652410},
                        logs[] = {-2.4076060, -1.4076060, -0.4076060},
                        least[] = {0.6652410, 0.2447285, 0.0900306};
    fdl_tensor *x = fdl_vec(1, 2, 3);
    fdl_module *m[] = {fdl_nn_softmax(0), fdl_nn_log_softmax(0), fdl_nn_softmin(-1), fdl_nn_softmax2d()};
    expect("softmax", fdl_softmax(x, 0), 3, soft);
    expect("softmax", fdl_forward(m[0], x), 3, soft);
    expect("log_softmax", fdl_log_softmax(x, -1), 3, logs);
    expect("log_softmax", fdl_forward(m[1], x), 3, logs);
    expect("softmin", fdl_softmin(x, 0), 3, least);
    expect("softmin", fdl_forward(m[2], x), 3, least);
    expect("softmax2d", fdl_forward(m[3], fdl_reshape(x, FDL_SHAPE(1, 3, 1, 1))), 3, soft);
    expect("softmax2d", fdl_forward(m[3], fdl_reshape(x, FDL_SHAPE(3, 1, 1))), 3, soft);
    assert_null(fdl_forward(m[3], x));
    check_error(FDL_E_SHAPE, "3 or 4 dims");
    for (int i = 0; i < 4; i++)
        check_ok(fdl_module_free(m[i]));
}

/* The first half times a function of the second. */
static void gates_take_the_second_half(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const double sigmoid[] = {-0.7310586, 2 * 0.2689414}, silu[] = {-0.7310586, 2 * -0.2689414},
                        gelu[] = {-0.8413447, 2 * -0.1586553};
    fdl_tensor *x = fdl_vec(-1, 2, 1, -1);
    fdl_tensor *columns = fdl_reshape(fdl_vec(-1, 1, 2, -1), FDL_SHAPE(2, 2));
    fdl_module *m[] = {fdl_nn_glu(-1), fdl_nn_swiglu(-1), fdl_nn_geglu(-1)};
    const double *want[] = {sigmoid, silu, gelu};
    fdl_tensor *y[] = {fdl_glu(x, 0), fdl_swiglu(x, 0), fdl_geglu(x, 0)};
    for (int i = 0; i < 3; i++) {
        const char *kind = fdl_module_kind(m[i]);
        expect(kind, y[i], 2, want[i]);
        expect(kind, fdl_forward(m[i], x), 2, want[i]);
        fdl_tensor *last = fdl_forward(m[i], columns);
        expect(kind, last, 2, want[i]);
        assert_true(fdl_shape_eq(fdl_shape_of(last), FDL_SHAPE(2, 1)));
        assert_null(fdl_forward(m[i], fdl_vec(1, 2, 3)));
        check_error(FDL_E_SHAPE, "even");
        check_ok(fdl_module_free(m[i]));
    }
    assert_null(fdl_nn_swiglu(FDL_MAX_DIMS));
    check_error(FDL_E_ARG, "swiglu", "dim");
}

/* ---- with parameters, and random ------------------------------------------------------------------ */

static void prelu_is_shared_or_of_channels(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *one = fdl_nn_prelu(1), *three = fdl_nn_prelu(3, .init = 0.1);
    assert_true(
        fdl_shape_eq(fdl_shape_of(fdl_param_tensor(fdl_module_own_param(one, "weight"))), FDL_SHAPE(1)));
    fdl_tensor *x = fdl_neg(fdl_ones(FDL_SHAPE(2, 3)));
    expect("prelu", fdl_forward(one, x), 6, (const double[]){-0.25, -0.25, -0.25, -0.25, -0.25, -0.25});
    check_ok(fdl_param_set(fdl_module_own_param(three, "weight"), fdl_vec(0.1, 0.2, 0.3)));
    expect("prelu", fdl_forward(three, x), 6, (const double[]){-0.1, -0.2, -0.3, -0.1, -0.2, -0.3});
    assert_null(fdl_forward(three, fdl_ones(FDL_SHAPE(2, 4))));
    check_error(FDL_E_SHAPE, "fdl_prelu", "[2, 4]", "[3]");
    assert_null(fdl_nn_prelu(0));
    check_error(FDL_E_ARG, "n is 0");
    check_ok(fdl_module_free(one));
    check_ok(fdl_module_free(three));
}

static void rrelu_draws_a_slope_for_each_element(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rrelu(.lower = 0.2, .upper = 0.6);
    fdl_tensor *x = fdl_neg(fdl_ones(FDL_SHAPE(10000)));
    check_ok(fdl_manual_seed(5));
    fdl_tensor *y = fdl_neg(fdl_forward(m, x)); /* the slopes */
    assert_true(fdl_item(fdl_min(y)) >= 0.2 && fdl_item(fdl_max(y)) <= 0.6);
    check_number(fdl_item(fdl_mean(y)), 0.4, 0.005);
    check_number(fdl_item(fdl_std(y)), 0.4 / sqrt(12), 0.005);
    check_ok(fdl_manual_seed(5));
    assert_true(fdl_same(fdl_neg(fdl_forward(m, x)), y));
    assert_true(fdl_same(fdl_forward(m, fdl_neg(x)), fdl_neg(x)));
    check_ok(fdl_eval(m));
    expect("rrelu", fdl_narrow(fdl_forward(m, x), 0, 0, 1), 1, (const double[]){-0.4});
    check_ok(fdl_module_free(m));
}

static void options_that_cant_be_are_refused(void **state)
{
    (void)state;
    assert_null(fdl_nn_softplus(.beta = FDL_ZERO));
    check_error(FDL_E_ARG, "beta is 0");
    assert_null(fdl_nn_celu(.alpha = FDL_ZERO));
    check_error(FDL_E_ARG, "alpha is 0");
    assert_null(fdl_nn_hardtanh(.min = 2));
    check_error(FDL_E_ARG, "min is 2", "max, 1");
    assert_null(fdl_nn_softshrink(.lambda = -1));
    check_error(FDL_E_ARG, "lambda is -1");
    assert_null(fdl_nn_hardshrink(.lambda = -1));
    check_error(FDL_E_ARG, "lambda is -1");
    assert_null(fdl_nn_rrelu(.lower = 0.5));
    check_error(FDL_E_ARG, "lower is 0.5", "upper");
    assert_null(fdl_nn_gelu(.approximate = (fdl_gelu_kind)2));
    check_error(FDL_E_ARG, "approximate is 2");
    assert_null(fdl_nn_threshold(NAN, 0));
    check_error(FDL_E_ARG, "at is");
    assert_null(fdl_nn_softmax(-FDL_MAX_DIMS - 1));
    check_error(FDL_E_ARG, "dim is");
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_activation_has_its_values),
        cmocka_unit_test(softmax_and_its_like),
        cmocka_unit_test(gates_take_the_second_half),
        cmocka_unit_test(prelu_is_shared_or_of_channels),
        cmocka_unit_test(rrelu_draws_a_slope_for_each_element),
        cmocka_unit_test(options_that_cant_be_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
