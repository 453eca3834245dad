/* Asking tensors, reading them back, dtypes, devices and layouts. */
#include "values.h"

static void one_element(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t big = ((int64_t)1 << 53) + 1;
    fdl_tensor *x = fdl_from_i64(&big, FDL_SHAPE(1, 1, 1));
    assert_true(fdl_item_i64(x) == big);
    assert_true(fdl_item(fdl_from_bool(((const bool[]){true}), FDL_SHAPE(1))) == 1);
    assert_true(fdl_item(fdl_from_bool(((const bool[]){false}), FDL_SHAPE(1))) == 0);
    assert_true(fdl_item_bool(fdl_vec(0.5)));
    assert_true(fdl_item(fdl_scalar(1.5, .dtype = FDL_BFLOAT16)) == 1.5);
}

static void not_one_element(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_true(isnan(fdl_item(fdl_zeros(FDL_SHAPE(2, 3)))));
    check_error(FDL_E_SHAPE, "fdl_item", "needs 1 element, got 6", "[2, 3]");
    assert_true(isnan(fdl_item(NULL)));
    check_error(FDL_E_NULL, "fdl_item: x is NULL");
}

static void reading_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_transpose(fdl_reshape(fdl_arange(0, 6, 1), FDL_SHAPE(2, 3)), 0, 1);
    float f[6] = {-1, -1, -1, -1, -1, -1};
    assert_int_equal(fdl_to_f32(x, f, 5), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "6 elements", "5");
    for (int i = 0; i < 6; i++)
        assert_true(f[i] == -1); /* nothing was written */
    check_ok(fdl_to_f32(x, f, 6));
    const float want[] = {0, 3, 1, 4, 2, 5};
    assert_memory_equal(f, want, sizeof want);
    assert_int_equal(fdl_to_f32(x, NULL, 6), FDL_E_NULL);
    check_error(FDL_E_NULL, "out is NULL");
    x = fdl_cpu(x);
    assert_null(fdl_data_ptr(x));
    check_error(FDL_E_STATE, "not contiguous");
    assert_non_null(fdl_data_ptr(fdl_contiguous(x)));
}

static void reading_back_converts(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t i[2];
    check_ok(fdl_to_i64(fdl_vec(2.9, -2.9), i, 2));
    assert_true(i[0] == 2 && i[1] == -2);
    check_ok(fdl_to_i64(fdl_scalar(1e15, .dtype = FDL_FLOAT64), i, 1));
    assert_true(i[0] == 1000000000000000);
    uint8_t u[1];
    check_ok(fdl_to_u8(fdl_vec(200), u, 1));
    assert_int_equal(u[0], 200);
}

static void asking(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3));
    char text[64];
    assert_string_equal(fdl_describe(fdl_cpu(x), text, sizeof text), "[2, 3] float32 cpu");
    if (fdl_device_of(x).type == FDL_DEVICE_TYPE_CUDA)
        assert_string_equal(fdl_describe(x, text, sizeof text), "[2, 3] float32 cuda");
    assert_string_equal(fdl_describe(x, text, 5), "[2, ");
    assert_int_equal(fdl_size(x, -1), 3);
    assert_int_equal(fdl_stride(x, 0), 3);
    assert_int_equal(fdl_size(x, 2), -1);
    check_error(FDL_E_RANGE, "dim 2", "[-2, 1]");
    assert_int_equal(fdl_storage_offset(fdl_select(x, 0, 1)), 3);
    assert_true(fdl_all_finite(x));
    assert_false(fdl_all_finite(fdl_div(x, 0)));
    assert_true(fdl_all_finite(fdl_ivec(1)));
    assert_true(fdl_same(x, fdl_ones(FDL_SHAPE(2, 3))));
    assert_false(fdl_same(x, fdl_ones(FDL_SHAPE(3, 2))));
    assert_true(fdl_allclose(x, fdl_add(x, 1e-6)));
    assert_false(fdl_allclose(x, fdl_add(x, 1e-3)));
}

static void rows_in_batches(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3));
    fdl_list batches = fdl_batches(fdl_zeros(FDL_SHAPE(100, 2)), 32);
    assert_int_equal(batches.n, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fdl_size(batches.at[i], 0), i < 3 ? 32 : 4);
    assert_int_equal(fdl_batches(fdl_zeros(FDL_SHAPE(0, 2)), 32).n, 0);
    assert_null(fdl_batches(x, 0).at);
    check_error(FDL_E_ARG, "0 rows");
}

static void dtypes(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1.25, -3.5);
    assert_true(fdl_same(x, fdl_to_dtype(fdl_to_dtype(x, FDL_FLOAT64), FDL_FLOAT32)));
    fdl_tensor *here = fdl_cpu(x);
    assert_ptr_equal(fdl_data_ptr(fdl_to_dtype(here, FDL_FLOAT32)), fdl_data_ptr(here));
    check_ok(fdl_fill_(fdl_to_dtype(x, FDL_FLOAT32), 4)); /* x itself, wherever it is */
    check_values(x, 4, 4);
    assert_true(isinf(fdl_item(fdl_half(fdl_scalar(1e30)))));
    assert_null(fdl_to_dtype(x, (fdl_dtype)42));
    check_error(FDL_E_DTYPE, "42");
    for (int d = FDL_FLOAT32; d <= FDL_BOOL; d++) {
        fdl_tensor *one = fdl_ones(FDL_SHAPE(3), .dtype = (fdl_dtype)d);
        assert_int_equal(fdl_nbytes(one), 3 * fdl_dtype_size((fdl_dtype)d));
        assert_true(fdl_item(fdl_sum(one)) == 3);
    }
    fdl_tensor *i = fdl_ivec(1, 2);
    assert_int_equal(fdl_dtype_of(fdl_mul(i, 2)), FDL_INT64);
    assert_int_equal(fdl_dtype_of(fdl_mul(i, 0.5)), FDL_FLOAT32);
    assert_int_equal(fdl_dtype_of(fdl_div(i, i)), FDL_FLOAT32);
    check_ok(fdl_set_default_dtype(FDL_FLOAT64));
    assert_int_equal(fdl_dtype_of(fdl_zeros(FDL_SHAPE(1))), FDL_FLOAT64);
    check_ok(fdl_set_default_dtype(FDL_FLOAT32));
    assert_int_equal(fdl_set_default_dtype(FDL_INT8), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "int8");
}

static void devices(void **state)
{
    (void)state;
    FDL_SCOPE;
    char name[FDL_DEVICE_NAME_SIZE];
    assert_string_equal(fdl_device_name(FDL_CPU, name), "cpu");
    assert_string_equal(fdl_device_name(FDL_CUDA(0), name), "cuda");
    assert_string_equal(fdl_device_name(FDL_CUDA(1), name), "cuda:1");
    fdl_device d = FDL_CPU;
    check_ok(fdl_device_parse("cuda:1", &d));
    assert_true(fdl_device_eq(d, FDL_CUDA(1)));
    assert_int_equal(fdl_device_parse("gpu", &d), FDL_E_ARG);
    check_error(FDL_E_ARG, "\"gpu\"");
    assert_true(fdl_device_eq(d, FDL_CUDA(1)));
}

static void devices_that_are_not_there(void **state)
{
    (void)state;
    FDL_SCOPE;
    char has[64] = "CUDA device"; /* "no CUDA device found", or without the CUDA part */
    if (!fdl_built_with_cuda())
        strcpy(has, "built without CUDA");
    else if (fdl_cuda_available())
        snprintf(has, sizeof has, "this machine has %d CUDA device", fdl_cuda_count());
    assert_null(fdl_zeros(FDL_SHAPE(1), .device = FDL_CUDA(99)));
    check_error(FDL_E_DEVICE, "cuda:99", has);
    if (!fdl_cuda_available())
        check_refused(fdl_zeros(FDL_SHAPE(1), .device = FDL_CUDA(0)), FDL_E_DEVICE, "fdl_zeros", "cuda");

    int count = fdl_cuda_count();
    assert_int_equal(fdl_cuda_available(), count > 0);
    assert_int_equal(fdl_cuda_synchronize(count), FDL_E_DEVICE);
    fdl_clear_error();
    if (count) {
        fdl_tensor *x = fdl_zeros(FDL_SHAPE(2), .device = FDL_CUDA(0));
        check_some(x);
        int64_t allocated = -1, most = -1;
        check_ok(fdl_cuda_memory_allocated(0, &allocated));
        check_ok(fdl_cuda_max_memory_allocated(0, &most));
        assert_true(allocated > 0 && most >= allocated);
    } else {
        int64_t n = -1;
        assert_int_equal(fdl_cuda_memory_allocated(0, &n), FDL_E_DEVICE);
        assert_int_equal(fdl_cuda_mem_info(0, &n, &n), FDL_E_DEVICE);
        assert_int_equal(fdl_cuda_empty_cache(), FDL_E_DEVICE);
        assert_int_equal(fdl_cuda_set_current(0), FDL_E_DEVICE);
        assert_true(n == -1);
        fdl_clear_error();
        assert_null(fdl_pin_memory(fdl_zeros(FDL_SHAPE(1))));
        check_error(FDL_E_DEVICE, "fdl_pin_memory");
        assert_int_equal(fdl_cuda_current(), 0);
        check_ok(fdl_cuda_manual_seed_all(1));
    }
}

static void layouts(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_reshape(fdl_arange(0, 48, 1), FDL_SHAPE(1, 3, 4, 4)), *y = fdl_channels_last(x);
    assert_true(fdl_is_channels_last(y));
    assert_false(fdl_is_channels_last(x));
    assert_true(fdl_same(x, y));
    assert_null(fdl_channels_last(fdl_zeros(FDL_SHAPE(2, 3, 4))));
    check_error(FDL_E_SHAPE, "4-d");
    assert_true(fdl_shape_eq(fdl_shape_of(x), fdl_shape_of(y)));
    fdl_tensor *here = fdl_cpu(x);
    assert_ptr_equal(fdl_data_ptr(fdl_contiguous(here)), fdl_data_ptr(here));
    fdl_tensor *t = fdl_transpose(x, 2, 3);
    check_ok(fdl_fill_(fdl_select(t, 0, 0), -1)); /* a view: seen through x */
    assert_true(fdl_item(fdl_sum(x)) == -48);
    assert_int_not_equal(fdl_add_scalar_(fdl_expand(fdl_zeros(FDL_SHAPE(1, 3)), FDL_SHAPE(4, 3)), 1), FDL_OK);
    check_error(FDL_E_STATE, "single memory location");
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_element),
        cmocka_unit_test(not_one_element),
        cmocka_unit_test(reading_back),
        cmocka_unit_test(reading_back_converts),
        cmocka_unit_test(asking),
        cmocka_unit_test(rows_in_batches),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(devices),
        cmocka_unit_test(devices_that_are_not_there),
        cmocka_unit_test(layouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
