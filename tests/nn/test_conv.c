/* Convolutions: extents, first weights, padding by hand, extents that are asked for; what they refuse. */
#include "fixture.h"

#include <math.h>

/* m, freed here, makes y of x. */
static void expect_shape(fdl_module *m, fdl_shape x, fdl_shape y)
{
    FDL_SCOPE;
    char text[256];
    check_some(m);
    fdl_tensor *got = fdl_forward(m, fdl_randn(x));
    check_some(got);
    if (!fdl_shape_eq(fdl_shape_of(got), y))
        fail_msg("%s gives %s", fdl_module_kind(m), fdl_describe(got, text, sizeof text));
    check_ok(fdl_module_free(m));
}

static void extents_are_as_computed(void **state)
{
    (void)state;
    expect_shape(fdl_nn_conv1d(2, 3, 3), FDL_SHAPE(1, 2, 5), FDL_SHAPE(1, 3, 3));
    expect_shape(fdl_nn_conv2d(2, 3, 3), FDL_SHAPE(1, 2, 5, 5), FDL_SHAPE(1, 3, 3, 3));
    expect_shape(fdl_nn_conv3d(2, 3, 3), FDL_SHAPE(1, 2, 5, 5, 5), FDL_SHAPE(1, 3, 3, 3, 3));
    expect_shape(fdl_nn_conv2d(2, 3, 3, .padding = 1), FDL_SHAPE(4, 2, 5, 7), FDL_SHAPE(4, 3, 5, 7));
    expect_shape(fdl_nn_conv1d(1, 1, 5, .stride = 2, .padding = 2), FDL_SHAPE(1, 1, 100),
                 FDL_SHAPE(1, 1, 50));
    expect_shape(fdl_nn_conv2d(2, 3, 4, .same = true, .dilation = 2), FDL_SHAPE(2, 9, 8), FDL_SHAPE(3, 9, 8));
    expect_shape(fdl_nn_conv3d(2, 3, 2, .same = true), FDL_SHAPE(2, 3, 4, 5), FDL_SHAPE(3, 3, 4, 5));
    expect_shape(fdl_nn_conv_transpose2d(1, 1, 3), FDL_SHAPE(1, 1, 3, 3), FDL_SHAPE(1, 1, 5, 5));
    expect_shape(fdl_nn_conv_transpose2d(1, 1, 3, .stride = 2), FDL_SHAPE(1, 1, 3, 3), FDL_SHAPE(1, 1, 7, 7));
    expect_shape(fdl_nn_conv_transpose2d(1, 1, 3, .stride = 2, .output_padding = 1), FDL_SHAPE(1, 1, 3, 3),
                 FDL_SHAPE(1, 1, 8, 8));
    expect_shape(fdl_nn_conv_transpose1d(1, 1, 3, .dilation = 2), FDL_SHAPE(1, 4), FDL_SHAPE(1, 8));
    expect_shape(fdl_nn_conv_transpose3d(1, 2, 2, .stride = 2), FDL_SHAPE(1, 2, 3, 4), FDL_SHAPE(2, 4, 6, 8));
}

static fdl_shape weight_of(fdl_module *m)
{
    return fdl_shape_of(fdl_param_tensor(fdl_module_own_param(m, "weight")));
}

static void kernels_have_their_dims(void **state)
{
    (void)state;
    fdl_module *m = fdl_nn_conv2d(4, 6, 0, .kernel_dims = FDL_DIMS(3, 5), .groups = 2);
    assert_true(fdl_shape_eq(weight_of(m), FDL_SHAPE(6, 2, 3, 5)));
    check_ok(fdl_module_free(m));
    m = fdl_nn_conv_transpose2d(4, 6, 0, .kernel_dims = FDL_DIMS(3, 5), .groups = 2);
    assert_true(fdl_shape_eq(weight_of(m), FDL_SHAPE(4, 3, 3, 5)));
    check_ok(fdl_module_free(m));
    /* each channel for itself: another channel changes nothing */
    FDL_SCOPE;
    m = fdl_nn_conv2d(3, 3, 3, .groups = 3);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(1, 3, 5, 5)), *other = fdl_clone(x);
    check_ok(fdl_fill_(fdl_select(other, 1, 2), 7));
    fdl_tensor *a = fdl_forward(m, x), *b = fdl_forward(m, other);
    assert_true(fdl_allclose(fdl_narrow(a, 1, 0, 2), fdl_narrow(b, 1, 0, 2)));
    assert_false(fdl_allclose(fdl_select(a, 1, 2), fdl_select(b, 1, 2)));
    check_ok(fdl_module_free(m));
}

/* Uniform within 1 / sqrt(fan): no more, and with its standard deviation. */
static void expect_bound(fdl_module *m, double fan)
{
    FDL_SCOPE;
    static const char *const names[] = {"weight", "bias"};
    double bound = 1 / sqrt(fan);
    for (int i = 0; i < 2; i++) {
        fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, names[i]));
        double most = fdl_item(fdl_max(fdl_abs(w)));
        assert_true(most <= bound * 1.000001);
        assert_true(most > bound * (i ? 0.7 : 0.95));
        if (i == 0)
            check_number(fdl_item(fdl_std(w)), bound / sqrt(3), 0.08 * bound);
    }
    check_ok(fdl_module_free(m));
}

static void first_weights_are_within_their_bounds(void **state)
{
    (void)state;
    check_ok(fdl_manual_seed(5));
    fdl_module *m = fdl_nn_conv2d(3, 16, 3);
    double most = fdl_item(fdl_max(fdl_abs(fdl_param_tensor(fdl_module_own_param(m, "weight")))));
    check_number(most, 0.19245, 0.19245 * 0.03); /* 1 / sqrt(27) */
    assert_true(most <= 0.1924501);
    expect_bound(m, 27);
    expect_bound(fdl_nn_conv1d(4, 32, 5), 20);
    expect_bound(fdl_nn_conv3d(2, 16, 3), 54);
    expect_bound(fdl_nn_conv2d(8, 32, 3, .groups = 4), 18);
    /* of a transposed one the fan is that of weight.size(1) */
    expect_bound(fdl_nn_conv_transpose2d(3, 16, 3), 144);
    expect_bound(fdl_nn_conv_transpose1d(8, 32, 5, .groups = 2), 80);
}

static void other_padding_is_padding_beforehand(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        fdl_pad_mode mode;
        const char *name;
    } modes[] = {
        {FDL_PAD_CIRCULAR, "circular"}, {FDL_PAD_REFLECT, "reflect"}, {FDL_PAD_REPLICATE, "replicate"}};
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 5, 6));
    for (int i = 0; i < 3; i++) {
        fdl_module *m = fdl_nn_conv2d(3, 4, 3, .padding_dims = FDL_DIMS(1, 2), .stride = 2,
                                      .padding_mode = modes[i].mode);
        fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight")),
                   *b = fdl_param_tensor(fdl_module_own_param(m, "bias"));
        fdl_tensor *padded = fdl_pad(x, FDL_DIMS(2, 2, 1, 1), .mode = modes[i].mode);
        if (!fdl_same(fdl_forward(m, x), fdl_conv2d(padded, w, .bias = b, .stride = 2)))
            fail_msg("%s", modes[i].name);
        check_ok(fdl_module_free(m));
        /* as much as keeps the extents, which dilation makes more, and one more behind where it is odd */
        m = fdl_nn_conv2d(3, 4, 0, .kernel_dims = FDL_DIMS(4, 3), .dilation_dims = FDL_DIMS(1, 2),
                          .same = true, .padding_mode = modes[i].mode);
        w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
        b = fdl_param_tensor(fdl_module_own_param(m, "bias"));
        padded = fdl_pad(x, FDL_DIMS(2, 2, 1, 2), .mode = modes[i].mode);
        fdl_tensor *want = fdl_conv2d(padded, w, .bias = b, .dilation_dims = FDL_DIMS(1, 2));
        assert_true(fdl_shape_eq(fdl_shape_of(want), FDL_SHAPE(2, 4, 5, 6)));
        if (!fdl_same(fdl_forward(m, x), want))
            fail_msg("%s, same", modes[i].name);
        check_ok(fdl_module_free(m));
    }
    /* around the end by hand: a kernel that adds both neighbours */
    fdl_module *m = fdl_nn_conv1d(1, 1, 3, .padding = 1, .padding_mode = FDL_PAD_CIRCULAR, .no_bias = true);
    fdl_tensor *sides = fdl_reshape(fdl_vec(1, 0, 1), FDL_SHAPE(1, 1, 3));
    check_ok(fdl_param_set(fdl_module_own_param(m, "weight"), sides));
    fdl_tensor *line = fdl_reshape(fdl_vec(1, 2, 4, 8), FDL_SHAPE(1, 1, 4));
    assert_true(fdl_allclose(fdl_forward(m, line), fdl_reshape(fdl_vec(10, 5, 10, 5), FDL_SHAPE(1, 1, 4))));
    check_ok(fdl_module_free(m));
}

static void channels_last_stay_so(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_conv2d(3, 4, 3, .padding = 1);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 5, 6)), *y = fdl_forward(m, x);
    check_ok(fdl_module_to(m, fdl_default_device(), .channels_last = true));
    fdl_tensor *last = fdl_forward(m, fdl_channels_last(x));
    assert_true(fdl_is_channels_last(last));
    assert_true(fdl_allclose(last, y, .rtol = 1e-4, .atol = 1e-5));
    check_ok(fdl_module_free(m));
}

static void extents_that_are_asked_for(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        const char *row;
        fdl_module *m;
        fdl_shape size;
    } cases[] = {
        {"extents.1", fdl_nn_conv_transpose1d(2, 3, 3, .stride = 3, .padding = 1), FDL_DIMS(12)},
        {"extents.2",
         fdl_nn_conv_transpose2d(2, 4, 0, .kernel_dims = FDL_DIMS(3, 2), .stride_dims = FDL_DIMS(2, 3),
                                 .dilation_dims = FDL_DIMS(1, 2), .groups = 2),
         FDL_DIMS(8, 8)},
        {"extents.3", fdl_nn_conv_transpose3d(1, 2, 2, .stride = 2), FDL_DIMS(5, 2, 4)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fdl_module *m = cases[i].m;
        check_some(m);
        check_ok(
            fdl_param_set(fdl_module_own_param(m, "weight"), fixture_of(cases[i].row, "state", "weight")));
        check_ok(fdl_param_set(fdl_module_own_param(m, "bias"), fixture_of(cases[i].row, "state", "bias")));
        fdl_tensor *x = fixture_of(cases[i].row, "x", NULL);
        expect_recorded(fdl_nn_conv_transpose_forward(m, x, .size = cases[i].size), cases[i].row, "y", NULL,
                        1e-5);
        assert_true(fdl_same(fdl_nn_conv_transpose_forward(m, x), fdl_forward(m, x)));
    }
    fdl_tensor *x = fixture_of("extents.2", "x", NULL);
    assert_null(fdl_nn_conv_transpose_forward(cases[1].m, x, .size = FDL_DIMS(9, 8)));
    check_error(FDL_E_SHAPE, "size is 9", "from 7 to 8", "[2, 3, 2]");
    assert_null(fdl_nn_conv_transpose_forward(cases[1].m, x, .size = FDL_DIMS(6, 8)));
    check_error(FDL_E_SHAPE, "size is 6");
    assert_null(fdl_nn_conv_transpose_forward(cases[1].m, x, .size = FDL_DIMS(8)));
    check_error(FDL_E_ARG, "size has 1", "2");
    assert_null(fdl_nn_conv_transpose_forward(cases[1].m, fdl_ones(FDL_SHAPE(2)), .size = FDL_DIMS(8, 8)));
    check_error(FDL_E_SHAPE, "3 or 4 dims", "[2]");
    assert_null(fdl_nn_conv_transpose_forward(cases[1].m, NULL));
    check_error(FDL_E_NULL, "x");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_ok(fdl_module_free(cases[i].m));
    fdl_module *conv = fdl_nn_conv2d(2, 2, 1);
    assert_null(fdl_nn_conv_transpose_forward(conv, x));
    check_error(FDL_E_ARG, "conv2d");
    check_ok(fdl_module_free(conv));
}

static void wrong_inputs_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_conv2d(3, 4, 3), *t = fdl_nn_conv_transpose1d(3, 4, 3);
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2, 5, 5))));
    check_error(FDL_E_SHAPE, "3 input channels", "got 2");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(3, 2, 5))));
    check_error(FDL_E_SHAPE, "[3, 2, 5]");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(5, 5))));
    check_error(FDL_E_SHAPE, "[5, 5]");
    assert_null(fdl_forward(t, fdl_ones(FDL_SHAPE(1, 2, 5))));
    check_error(FDL_E_SHAPE, "3 input channels", "got 2");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(t));
    assert_null(fdl_nn_conv_transpose2d(2, 2, 3, .stride = 2, .output_padding = 2));
    check_error(FDL_E_ARG, "output_padding is 2", "stride, 2");
}

int main(void)
{
    if (on_test_device()) /* whose convolutions round to 10 bits otherwise */
        check_ok(fdl_allow_tf32(false, false));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(extents_are_as_computed),
        cmocka_unit_test(kernels_have_their_dims),
        cmocka_unit_test(first_weights_are_within_their_bounds),
        cmocka_unit_test(other_padding_is_padding_beforehand),
        cmocka_unit_test(channels_last_stay_so),
        cmocka_unit_test(extents_that_are_asked_for),
        cmocka_unit_test(wrong_inputs_are_refused),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
