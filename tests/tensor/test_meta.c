/* Tensors without values: operations give the shapes, dtypes and errors that they give elsewhere. */
#include "check.h"

#define ON_META .device = FDL_META_DEVICE

/* y is what the same call gives on the CPU, but for its values. */
static void check_like_(fdl_tensor *y, fdl_tensor *want, const char *file, int line)
{
    char a[256], b[256];
    check_some_(y, "the result", file, line);
    if (fdl_shape_eq(fdl_shape_of(y), fdl_shape_of(want)) && fdl_dtype_of(y) == fdl_dtype_of(want) &&
        fdl_device_eq(fdl_device_of(y), FDL_META_DEVICE))
        return;
    print_error("%s:%d: %s, should be like %s\n", file, line, fdl_describe(y, a, sizeof a),
                fdl_describe(want, b, sizeof b));
    _fail(file, line);
}
#define check_like(y, want) check_like_(y, want, __FILE__, __LINE__)

static fdl_tensor *meta(fdl_tensor *x)
{
    return fdl_to_device(x, FDL_META_DEVICE);
}

static void a_device_by_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    char name[FDL_DEVICE_NAME_SIZE];
    fdl_device d;
    assert_string_equal(fdl_device_name(FDL_META_DEVICE, name), "meta");
    check_ok(fdl_device_parse("meta", &d));
    assert_true(fdl_device_eq(d, FDL_META_DEVICE));
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(1 << 20, 1 << 20), ON_META); /* 4 TB that nobody has */
    check_some(x);
    assert_true(fdl_device_eq(fdl_device_of(x), FDL_META_DEVICE));
    char text[256];
    assert_non_null(strstr(fdl_describe(x, text, sizeof text), "meta"));
    check_some(fdl_relu(fdl_add(x, x)));
}

static void values_that_are_not_there(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 2), ON_META);
    float out[4];
    assert_int_not_equal(fdl_to_f32(x, out, 4), FDL_OK);
    fdl_clear_error();
    check_number(fdl_item(fdl_sum(x)), 0, 0);
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

/* Those that libtorch has no kernel for in C++ among them. */
static void operations(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 4, 9, 7), .device = FDL_CPU), *m = meta(x);
    fdl_tensor *w = fdl_randn(FDL_SHAPE(6, 2, 3, 2), .device = FDL_CPU),
               *t = fdl_randn(FDL_SHAPE(4, 3, 3, 2), .device = FDL_CPU);
    check_like(fdl_relu(m), fdl_relu(x));
    check_like(fdl_hardtanh(m), fdl_hardtanh(x));
    check_like(fdl_hardswish(m), fdl_hardswish(x));
    check_like(fdl_logsigmoid(m), fdl_logsigmoid(x));
    check_like(fdl_sum_dim(m, 1), fdl_sum_dim(x, 1));
    check_like(fdl_where(fdl_gt_scalar(m, 0), m, m), x);
    check_like(fdl_conv2d(m, meta(w), .stride = 2, .padding_dims = FDL_DIMS(1, 0),
                          .dilation_dims = FDL_DIMS(1, 3), .groups = 2),
               fdl_conv2d(x, w, .stride = 2, .padding_dims = FDL_DIMS(1, 0), .dilation_dims = FDL_DIMS(1, 3),
                          .groups = 2));
    check_like(fdl_conv_transpose2d(m, meta(t), .stride_dims = FDL_DIMS(2, 3),
                                    .output_padding_dims = FDL_DIMS(1, 2), .padding = 1),
               fdl_conv_transpose2d(x, t, .stride_dims = FDL_DIMS(2, 3),
                                    .output_padding_dims = FDL_DIMS(1, 2), .padding = 1));
    check_like(fdl_adaptive_avg_pool2d(m, FDL_DIMS(3, 2)), fdl_adaptive_avg_pool2d(x, FDL_DIMS(3, 2)));
    check_like(fdl_layer_norm(m, FDL_DIMS(7)), fdl_layer_norm(x, FDL_DIMS(7)));
    check_like(fdl_batch_norm(m, .training = true), fdl_batch_norm(x, .training = true));
    check_like(fdl_index_select(m, 1, meta(fdl_ivec(0, 2))), fdl_index_select(x, 1, fdl_ivec(0, 2)));
    check_like(fdl_var(m), fdl_var(x));
    fdl_tensor *sorted = fdl_topk(m, 3, -1);
    check_like(sorted, fdl_narrow(x, -1, 0, 3));
}

static void in_place_and_out_of_bounds(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(3, 4), ON_META);
    check_ok(fdl_add_scalar_(x, 1));
    check_ok(fdl_mul_scalar_(x, 2));
    check_ok(fdl_zero_(x));
    assert_null(fdl_matmul(x, x));
    check_error(FDL_E_SHAPE, "fdl_matmul", "[3, 4]");
    assert_null(fdl_conv1d(fdl_zeros(FDL_SHAPE(1, 3, 5), ON_META), fdl_zeros(FDL_SHAPE(2, 4, 3), ON_META)));
    assert_true(fdl_last_error()->status != FDL_OK);
    fdl_clear_error();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_by_name),
        cmocka_unit_test(values_that_are_not_there),
        cmocka_unit_test(operations),
        cmocka_unit_test(in_place_and_out_of_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
