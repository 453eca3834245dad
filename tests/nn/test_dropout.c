/* Dropout: what is dropped, what is scaled, when nothing happens. */
#include "check.h"

#include <math.h>

static bool close_to(fdl_tensor *a, fdl_tensor *b, double tolerance)
{
    check_some(a);
    check_some(b);
    return fdl_allclose(a, b, .rtol = tolerance, .atol = tolerance);
}

static void nothing_or_all_is_dropped(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *(*const makers[])(double) = {fdl_nn_dropout,         fdl_nn_dropout1d,
                                             fdl_nn_dropout2d,       fdl_nn_dropout3d,
                                             fdl_nn_alpha_dropout,   fdl_nn_feature_alpha_dropout,
                                             fdl_nn_stochastic_depth};
    const fdl_shape shapes[] = {FDL_SHAPE(2, 3, 4, 5),    FDL_SHAPE(2, 3, 4),    FDL_SHAPE(2, 3, 4, 5),
                                FDL_SHAPE(2, 3, 4, 5, 2), FDL_SHAPE(2, 3, 4, 5), FDL_SHAPE(2, 3, 4),
                                FDL_SHAPE(2, 3, 4)};
    for (int i = 0; i < 7; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_randn(shapes[i]);
        fdl_module *none = makers[i](0), *half = makers[i](0.5), *all = makers[i](1);
        assert_true(fdl_same(fdl_forward(none, x), x));
        fdl_tensor *y = fdl_forward(half, x);
        check_some(y);
        assert_false(fdl_same(y, x));
        check_ok(fdl_eval(half));
        assert_true(fdl_same(fdl_forward(half, x), x));
        if (i != 4 && i != 5) /* those keep mean and variance by values of their own */
            assert_true(fdl_same(fdl_forward(all, x), fdl_zeros_like(x)));
        check_ok(fdl_module_free(none));
        check_ok(fdl_module_free(half));
        check_ok(fdl_module_free(all));
        assert_null(makers[i](-0.1));
        check_error(FDL_E_ARG, "p is -0.1");
        assert_null(makers[i](1.5));
        check_error(FDL_E_ARG, "p is 1.5");
        assert_null(makers[i](NAN));
        check_error(FDL_E_ARG, "p is nan");
    }
}

static void elements_are_dropped_as_often_as_said(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_dropout(0.3);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(200000), .requires_grad = true), *y = fdl_forward(m, x);
    fdl_tensor *kept = fdl_ne(y, 0);
    check_number(fdl_item(fdl_mean(kept)), 0.7, 0.01);
    check_number(fdl_item(fdl_max(y)), 1 / 0.7, 1e-6);
    check_number(fdl_item(fdl_mean(y)), 1, 0.01);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_true(fdl_same(fdl_grad(x), fdl_detach(y))); /* the same ones, by the same factor */
    check_ok(fdl_module_free(m));
}

/* Sums over the last dims are 0 or of all elements. */
static void whole_channels_or_rows(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        fdl_module *m;
        fdl_shape x, over;
        double all;
    } cases[] = {
        {fdl_nn_dropout1d(0.5), FDL_SHAPE(60, 50, 6), FDL_DIMS(2), 12},
        {fdl_nn_dropout2d(0.5), FDL_SHAPE(60, 50, 2, 3), FDL_DIMS(2, 3), 12},
        {fdl_nn_dropout3d(0.5), FDL_SHAPE(60, 50, 2, 3, 1), FDL_DIMS(2, 3, 4), 12},
        {fdl_nn_dropout1d(0.5), FDL_SHAPE(3000, 6), FDL_DIMS(1), 12},
        {fdl_nn_dropout2d(0.5), FDL_SHAPE(3000, 2, 3), FDL_DIMS(1, 2), 12},
        {fdl_nn_dropout3d(0.5), FDL_SHAPE(3000, 2, 3, 1), FDL_DIMS(1, 2, 3), 12},
        {fdl_nn_stochastic_depth(0.5), FDL_SHAPE(3000, 3, 2), FDL_DIMS(1, 2), 12},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_forward(cases[i].m, fdl_ones(cases[i].x));
        check_some(y);
        fdl_tensor *sums = fdl_sum_dims(y, cases[i].over);
        assert_true(fdl_item_bool(fdl_all(fdl_logical_or(fdl_eq(sums, 0), fdl_eq(sums, cases[i].all)))));
        check_number(fdl_item(fdl_mean(fdl_eq(sums, 0))), 0.5, 0.05);
        check_ok(fdl_module_free(cases[i].m));
    }
    fdl_module *m = fdl_nn_dropout3d(0.5), *rows = fdl_nn_stochastic_depth(0.5);
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))));
    check_error(FDL_E_SHAPE, "dropout3d", "4 or 5 dims", "[2, 3]");
    assert_null(fdl_forward(rows, fdl_ones(FDL_SCALAR)));
    check_error(FDL_E_SHAPE, "stochastic_depth", "rows");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(rows));
}

static void alpha_dropout_keeps_mean_and_variance(void **state)
{
    (void)state;
    /* p, a and b of y = a x + b, from its definition and as printed */
    static const double table[][3] = {{0.1, 0.9212845, 0.1619710}, {0.5, 0.8864049, 0.7791939}};
    const double dropped = -1.7580993408473766;
    for (int i = 0; i < 2; i++) {
        double p = table[i][0], a = table[i][1], b = table[i][2];
        check_number(a, 1 / sqrt((1 - p) * (1 + p * dropped * dropped)), 1e-7);
        check_number(b, -a * p * dropped, 1e-7);
        for (int wide = 0; wide < 2; wide++) {
            FDL_SCOPE;
            fdl_module *m = fdl_nn_alpha_dropout(p);
            fdl_tensor *x = fdl_randn(FDL_SHAPE(1000000), .dtype = wide ? FDL_FLOAT64 : FDL_FLOAT32);
            fdl_tensor *y = fdl_forward(m, x);
            assert_int_equal(fdl_dtype_of(y), fdl_dtype_of(x));
            check_number(fdl_item(fdl_mean(y)), 0, 0.02);
            check_number(fdl_item(fdl_std(y)), 1, 0.02);
            fdl_tensor *gone = fdl_lt(fdl_abs(fdl_sub(y, a * dropped + b)), 2e-6);
            check_number(fdl_item(fdl_mean(gone)), p, 0.005);
            /* what isn't dropped is a x + b */
            fdl_tensor *kept = fdl_lt(fdl_abs(fdl_sub(y, fdl_add(fdl_mul(x, a), b))), 2e-6);
            assert_true(fdl_item_bool(fdl_all(fdl_logical_or(gone, kept))));
            check_ok(fdl_module_free(m));
        }
    }
    FDL_SCOPE;
    fdl_module *m = fdl_nn_alpha_dropout(0.1), *features = fdl_nn_feature_alpha_dropout(0.5);
    fdl_tensor *short_one = fdl_forward(m, fdl_to_dtype(fdl_randn(FDL_SHAPE(100)), FDL_BFLOAT16));
    check_some(short_one);
    assert_int_equal(fdl_dtype_of(short_one), FDL_BFLOAT16);
    /* each channel of ones is a + b everywhere, or the dropped value everywhere */
    fdl_tensor *y = fdl_reshape(fdl_forward(features, fdl_ones(FDL_SHAPE(40, 50, 3))), FDL_SHAPE(2000, 3));
    fdl_tensor *first = fdl_narrow(y, 1, 0, 1);
    assert_true(close_to(y, fdl_expand(first, FDL_SHAPE(2000, 3)), 0));
    fdl_tensor *gone = fdl_lt(fdl_abs(fdl_sub(first, table[1][1] * dropped + table[1][2])), 2e-6);
    fdl_tensor *kept = fdl_lt(fdl_abs(fdl_sub(first, table[1][1] + table[1][2])), 2e-6);
    assert_true(fdl_item_bool(fdl_all(fdl_logical_or(gone, kept))));
    check_number(fdl_item(fdl_mean(gone)), 0.5, 0.05);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(features));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_or_all_is_dropped),
        cmocka_unit_test(elements_are_dropped_as_often_as_said),
        cmocka_unit_test(whole_channels_or_rows),
        cmocka_unit_test(alpha_dropout_keeps_mean_and_variance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
