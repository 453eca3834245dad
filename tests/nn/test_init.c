/* Initialisers: PyTorch's numbers under a seed, statistics, orthogonality, and what is refused. */
#include "fixture.h"

#include <math.h>

static fdl_tensor *empty_like_recorded(const char *name)
{
    return fdl_empty_like(fixture_of("init", name, NULL));
}

/* Each initialiser on three shapes from seed 11. Uniform draws agree to the bit. */
#define AGREES(init, tolerance, call)                                     \
    do {                                                                  \
        static const char *const shapes[] = {"matrix", "wide", "kernel"}; \
        for (int i_ = 0; i_ < 3; i_++) {                                  \
            char name_[64];                                               \
            snprintf(name_, sizeof name_, init ".%s", shapes[i_]);        \
            fdl_tensor *t = empty_like_recorded(name_);                   \
            check_ok(fdl_manual_seed(11));                                \
            check_ok(call);                                               \
            expect_recorded(t, "init", name_, NULL, tolerance);           \
        }                                                                 \
    } while (0)

static void draws_are_pytorchs(void **state)
{
    (void)state;
    FDL_SCOPE;
    AGREES("uniform", 0, fdl_init_uniform(t, -2, 3));
    AGREES("normal", 1e-6, fdl_init_normal(t, 1, 0.5));
    AGREES("xavier_uniform", 0, fdl_init_xavier_uniform(t, .gain = 2));
    AGREES("xavier_normal", 1e-6, fdl_init_xavier_normal(t));
    AGREES("kaiming_uniform", 0, fdl_init_kaiming_uniform(t, .a = 0.5));
    AGREES("kaiming_normal", 1e-6, fdl_init_kaiming_normal(t, .mode = FDL_FAN_OUT, .nonlinearity = FDL_RELU));
    AGREES("orthogonal", 1e-5, fdl_init_orthogonal(t, .gain = 1.5));
    AGREES("trunc_normal", 1e-6, fdl_init_trunc_normal(t, 0.5, 2, -1, 1.5));
    fdl_tensor *eye = empty_like_recorded("eye"), *dirac = empty_like_recorded("dirac");
    check_ok(fdl_init_eye(eye));
    expect_recorded(eye, "init", "eye", NULL, 0);
    check_ok(fdl_init_dirac(dirac, .groups = 2));
    expect_recorded(dirac, "init", "dirac", NULL, 0);
}

static void bounds_are_the_formulas(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *t = fdl_empty(FDL_SHAPE(100, 200)), *four = fdl_empty(FDL_SHAPE(5000, 4));
    check_ok(fdl_init_xavier_uniform(t));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(t))), sqrt(6.0 / 300), 1e-4);
    check_ok(fdl_init_kaiming_uniform(four, .nonlinearity = FDL_RELU));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(four))), 1.2247449, 1e-3);
    check_ok(fdl_init_kaiming_uniform(four, .a = sqrt(5)));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(four))), 0.5, 1e-3);
    check_ok(fdl_init_bias_uniform(t, 16));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(t))), 0.25, 1e-4);
    check_ok(fdl_init_xavier_normal(t, .gain = 3));
    assert_float_equal(fdl_item(fdl_std(t)), 3 * sqrt(2.0 / 300), 0.02 * 3 * sqrt(2.0 / 300));
    assert_float_equal(fdl_item(fdl_mean(t)), 0, 0.05 * 3 * sqrt(2.0 / 300));
    check_ok(fdl_init_normal(t, 2, 0.5));
    assert_float_equal(fdl_item(fdl_std(t)), 0.5, 0.01);
    check_ok(fdl_init_constant(t, 7));
    assert_float_equal(fdl_item(fdl_mean(t)), 7, 1e-5);
    check_ok(fdl_init_ones(t));
    assert_float_equal(fdl_item(fdl_sum(t)), 20000, 0);
    check_ok(fdl_init_zeros(t));
    assert_float_equal(fdl_item(fdl_sum(t)), 0, 0);
}

static void orthogonal_is(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_shape shapes[] = {FDL_SHAPE(4, 4), FDL_SHAPE(6, 4), FDL_SHAPE(4, 6), FDL_SHAPE(8, 3, 3, 3),
                                FDL_SHAPE(150, 140)};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        fdl_tensor *t = fdl_empty(shapes[i]);
        check_ok(fdl_init_orthogonal(t, .gain = 2));
        fdl_tensor *q = fdl_flatten(t, 1, -1);
        int64_t rows = fdl_size(q, 0), cols = fdl_size(q, 1), n = rows < cols ? rows : cols;
        fdl_tensor *product = rows < cols ? fdl_matmul(q, fdl_t(q)) : fdl_matmul(fdl_t(q), q);
        assert_true(fdl_allclose(product, fdl_mul(fdl_eye(n), 4), .atol = 1e-5));
    }
}

static void trunc_normal_has_no_mass_at_its_ends(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *t = fdl_empty(FDL_SHAPE(20000));
    check_ok(fdl_init_trunc_normal(t, 0, 1, -2, 2));
    assert_true(fdl_item(fdl_max(fdl_abs(t))) <= 2);
    assert_float_equal(fdl_item(fdl_sum(fdl_eq(fdl_abs(t), 2))), 0, 0);
    assert_float_equal(fdl_item(fdl_std(t)), 0.8796, 0.02); /* of the truncated normal */
    assert_float_equal(fdl_item(fdl_mean(t)), 0, 0.03);
}

static void parameters_stay_leaves(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 4);
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    check_ok(fdl_init_trunc_normal(w, 0, 1, -1, 1));
    check_ok(fdl_init_orthogonal(w));
    check_ok(fdl_init_eye(w));
    assert_true(fdl_is_leaf(w) && fdl_requires_grad(w));
    check_ok(fdl_module_free(m));
}

static void gains_and_fans(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_float_equal(fdl_init_gain(FDL_LINEAR, 0), 1, 0);
    assert_float_equal(fdl_init_gain(FDL_SIGMOID, 0), 1, 0);
    assert_float_equal(fdl_init_gain(FDL_TANH, 0), 5.0 / 3, 1e-15);
    assert_float_equal(fdl_init_gain(FDL_RELU, 0), sqrt(2), 1e-15);
    assert_float_equal(fdl_init_gain(FDL_LEAKY_RELU, 0.2), sqrt(2 / 1.04), 1e-15);
    assert_float_equal(fdl_init_gain(FDL_SELU, 0), 0.75, 0);
    int64_t in, out;
    check_ok(fdl_init_fans(fdl_empty(FDL_SHAPE(16, 3, 3, 3)), &in, &out));
    assert_int_equal(in, 27);
    assert_int_equal(out, 144);
}

static void wrong_calls_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *line = fdl_empty(FDL_SHAPE(4)), *matrix = fdl_empty(FDL_SHAPE(4, 4));
    fdl_tensor *none = fdl_empty(FDL_SHAPE(0, 0)), *whole = fdl_zeros(FDL_SHAPE(2, 2), .dtype = FDL_INT64);
    int64_t in;
#define REFUSED(status, call, ...)        \
    do {                                  \
        assert_int_equal(call, status);   \
        check_error(status, __VA_ARGS__); \
    } while (0)
    REFUSED(FDL_E_ARG, fdl_init_fans(line, &in, NULL), "[4]", "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_xavier_uniform(line), "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_kaiming_normal(line), "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_orthogonal(line), "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_eye(line), "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_dirac(matrix), "3 to 5");
    REFUSED(FDL_E_ARG, fdl_init_dirac(fdl_empty(FDL_SHAPE(4, 2, 3)), .groups = 3), "groups 3");
    REFUSED(FDL_E_ARG, fdl_init_xavier_normal(none), "fans");
    REFUSED(FDL_E_ARG, fdl_init_kaiming_uniform(none), "fan");
    REFUSED(FDL_E_ARG, fdl_init_kaiming_uniform(matrix, .mode = (fdl_fan)7), "mode 7");
    REFUSED(FDL_E_ARG, fdl_init_kaiming_uniform(matrix, .nonlinearity = (fdl_nonlinearity)9),
            "nonlinearity 9");
    REFUSED(FDL_E_ARG, fdl_init_uniform(matrix, 2, 1), "lo is 2");
    REFUSED(FDL_E_ARG, fdl_init_normal(matrix, 0, -1), "std is -1");
    REFUSED(FDL_E_ARG, fdl_init_trunc_normal(matrix, 0, 1, 2, 2), "a is 2");
    REFUSED(FDL_E_ARG, fdl_init_trunc_normal(matrix, 0, 0, -1, 1), "std 0");
    REFUSED(FDL_E_ARG, fdl_init_bias_uniform(matrix, 0), "fan_in");
    REFUSED(FDL_E_NULL, fdl_init_zeros(NULL), "t");
    REFUSED(FDL_E_NULL, fdl_init_orthogonal(NULL), "t");
    REFUSED(FDL_E_NULL, fdl_init_kaiming_uniform(NULL), "t");
    assert_int_not_equal(fdl_init_normal(whole, 0, 1), FDL_OK);
    fdl_clear_error();
    assert_true(isnan(fdl_init_gain((fdl_nonlinearity)9, 0)));
    check_error(FDL_E_ARG, "9");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_are_pytorchs),      cmocka_unit_test(bounds_are_the_formulas),
        cmocka_unit_test(orthogonal_is),           cmocka_unit_test(trunc_normal_has_no_mass_at_its_ends),
        cmocka_unit_test(parameters_stay_leaves),  cmocka_unit_test(gains_and_fans),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
