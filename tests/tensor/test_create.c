/* Making tensors: values, dtypes, layouts, wrong arguments; random tensors. Expectations are arithmetic and
 * bit patterns. */
#include "values.h"

static void constants(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *z = fdl_zeros(FDL_SHAPE(2, 3));
    check_values(z, 0, 0, 0, 0, 0, 0);
    assert_true(fdl_shape_eq(fdl_shape_of(z), FDL_SHAPE(2, 3)));
    assert_int_equal(fdl_dtype_of(z), FDL_FLOAT32);
    assert_int_equal(fdl_numel(z), 6);
    assert_int_equal(fdl_nbytes(z), 24);
    assert_int_equal(fdl_nbytes(fdl_zeros(FDL_SHAPE(2, 3), .dtype = FDL_FLOAT64)), 48);
    assert_int_equal(fdl_nbytes(fdl_zeros(FDL_SHAPE(3), .dtype = FDL_INT64)), 24);
    check_values(fdl_ones(FDL_SHAPE(2, 3)), 1, 1, 1, 1, 1, 1);
    check_values(fdl_full(FDL_SHAPE(2, 3), 7), 7, 7, 7, 7, 7, 7);
    check_shape(fdl_full(FDL_SHAPE(2, 3), 7), 2, 3);
    assert_int_equal(fdl_dtype_of(fdl_full(FDL_SHAPE(2), 7)), FDL_FLOAT32);
    check_values(fdl_eye(3), 1, 0, 0, 0, 1, 0, 0, 0, 1);
    check_shape(fdl_eye(2, .m = 3), 2, 3);
    check_values(fdl_eye(2, .m = 3), 1, 0, 0, 0, 1, 0);
    assert_true(fdl_requires_grad(fdl_zeros(FDL_SHAPE(2), .requires_grad = true)));
}

static void literals(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_shape(fdl_vec(1, 2), 2);
    check_values(fdl_vec(1, 2.5), 1, 2.5);
    assert_int_equal(fdl_dtype_of(fdl_vec(1)), FDL_FLOAT32);
    assert_int_equal(fdl_dtype_of(fdl_ivec(1, 2)), FDL_INT64);
    check_values(fdl_ivec(-1, 2), -1, 2);
    check_scalar(fdl_scalar(3));
    check_values(fdl_scalar(3), 3);
}

static void extents_of_zero_and_below(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *empty = fdl_zeros(FDL_SHAPE(0, 3));
    assert_int_equal(fdl_numel(empty), 0);
    assert_true(fdl_item(fdl_sum(empty)) == 0);
    assert_true(isnan(fdl_item(fdl_mean(empty))));
    assert_null(fdl_zeros(FDL_SHAPE(2, -1)));
    check_error(FDL_E_SHAPE, "extent -1 of dim 1");
    check_refused(fdl_eye(2, .m = -3), FDL_E_SHAPE, "-3");
}

static void more_dims_than_a_shape_holds(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_shape wide = {.ndim = 13};
    assert_null(fdl_zeros(wide));
    check_error(FDL_E_ARG, "13");
}

static void sequences(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_arange(0, 5, 1), 0, 1, 2, 3, 4);
    check_values(fdl_arange(0, 1, 0.3), 0, 0.3, 0.6, 0.9);
    check_values(fdl_arange(5, 0, -2), 5, 3, 1);
    assert_int_equal(fdl_dtype_of(fdl_arange(0, 3, 1, .dtype = FDL_INT64)), FDL_INT64);
    assert_null(fdl_arange(0, 5, 0));
    check_error(FDL_E_ARG, "step of 0");
    assert_null(fdl_arange(5, 0, 1));
    check_error(FDL_E_ARG, "from 5 to 0");
    check_values(fdl_linspace(0, 1, 5), 0, 0.25, 0.5, 0.75, 1);
    check_values(fdl_linspace(0, 1, 1), 0);
    check_values(fdl_linspace(3, 9, 1), 3);
    assert_null(fdl_linspace(0, 1, -1));
    check_error(FDL_E_ARG, "-1");
    assert_null(fdl_eye(-1));
    check_error(FDL_E_SHAPE, "-1");
}

static void from_memory(void **state)
{
    (void)state;
    FDL_SCOPE;
    float source[] = {1, 2, 3};
    fdl_tensor *x = fdl_from_f32(source, FDL_SHAPE(3));
    source[0] = 99;
    check_values(x, 1, 2, 3);
    assert_null(fdl_from_f32(NULL, FDL_SHAPE(2)));
    check_error(FDL_E_NULL, "data");
    assert_non_null(fdl_from_f32(NULL, FDL_SHAPE(0)));

    const uint16_t half[] = {0x3c00, 0xbc00, 0x3800, 0}, bfloat[] = {0x3f80, 0xbf80, 0x3f00, 0};
    uint16_t back[4] = {1, 1, 1, 1};
    fdl_tensor *h = fdl_from_bytes(half, sizeof half, FDL_FLOAT16, FDL_SHAPE(4));
    check_values(h, 1, -1, 0.5, 0);
    check_ok(fdl_to_bytes(h, back, sizeof back));
    assert_memory_equal(back, half, sizeof half);
    fdl_tensor *b = fdl_from_bytes(bfloat, sizeof bfloat, FDL_BFLOAT16, FDL_SHAPE(4));
    check_values(b, 1, -1, 0.5, 0);
    check_ok(fdl_to_bytes(b, back, sizeof back));
    assert_memory_equal(back, bfloat, sizeof bfloat);
    const int8_t bytes[] = {-128, 0, 127};
    int8_t bytes_back[3] = {1, 1, 1};
    fdl_tensor *i = fdl_from_bytes(bytes, sizeof bytes, FDL_INT8, FDL_SHAPE(3));
    check_values(i, -128, 0, 127);
    check_ok(fdl_to_bytes(i, bytes_back, sizeof bytes_back));
    assert_memory_equal(bytes_back, bytes, sizeof bytes);
    const bool truth[] = {true, false, true};
    bool truth_back[3] = {false, true, false};
    fdl_tensor *t = fdl_from_bytes(truth, sizeof truth, FDL_BOOL, FDL_SHAPE(3));
    check_values(t, 1, 0, 1);
    check_ok(fdl_to_bytes(t, truth_back, sizeof truth_back));
    assert_memory_equal(truth_back, truth, sizeof truth);
    check_values(fdl_from_bool(((const bool[]){true, false}), FDL_SHAPE(2)), 1, 0);
}

static void from_memory_of_another_size(void **state)
{
    (void)state;
    FDL_SCOPE;
    const uint16_t half[] = {0x3c00, 0xbc00, 0x3800, 0};
    assert_null(fdl_from_bytes(half, 6, FDL_FLOAT16, FDL_SHAPE(4)));
    check_error(FDL_E_SHAPE, "8 bytes", "got 6");
    assert_null(fdl_from_bytes(half, 6, (fdl_dtype)99, FDL_SHAPE(3)));
    check_error(FDL_E_DTYPE, "99");
}

static void count_release(void *ctx)
{
    ++*(int *)ctx;
}

/* Always on the CPU. */
static void over_memory_of_the_caller(void **state)
{
    (void)state;
    float memory[] = {1, 2, 3, 4};
    int released = 0;
    {
        FDL_SCOPE;
        fdl_tensor *x = fdl_from_blob(memory, FDL_SHAPE(2, 2), .release = count_release, .ctx = &released);
        check_some(x);
        check_ok(fdl_fill_(fdl_select(x, 0, 0), 9));
        assert_true(memory[0] == 9 && memory[1] == 9 && memory[2] == 3);
        memory[3] = 7;
        check_values(fdl_transpose(x, 0, 1), 9, 3, 9, 7);
        fdl_drop(x);
        assert_int_equal(released, 0); /* the views hold it */
    }
    assert_int_equal(released, 1);
    FDL_SCOPE;
    check_values(fdl_from_blob(memory, FDL_SHAPE(2), .strides = FDL_SHAPE(3)), 9, 7);
    assert_null(fdl_from_blob(memory, FDL_SHAPE(2), .strides = FDL_SHAPE(-1)));
    check_error(FDL_E_ARG, "stride -1");
    assert_null(fdl_from_blob(NULL, FDL_SHAPE(2)));
    check_error(FDL_E_NULL, "data");
}

static void like_another(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x =
        fdl_channels_last(fdl_ones(FDL_SHAPE(1, 3, 4, 4), .dtype = FDL_FLOAT64, .requires_grad = true));
    fdl_tensor *all[] = {fdl_zeros_like(x), fdl_ones_like(x),  fdl_empty_like(x),        fdl_full_like(x, 2),
                         fdl_rand_like(x),  fdl_randn_like(x), fdl_randint_like(x, 0, 5)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        check_some(all[i]);
        assert_true(fdl_shape_eq(fdl_shape_of(all[i]), fdl_shape_of(x)));
        assert_int_equal(fdl_dtype_of(all[i]), FDL_FLOAT64);
        assert_true(fdl_device_eq(fdl_device_of(all[i]), fdl_device_of(x)));
        assert_true(fdl_is_channels_last(all[i]));
        assert_false(fdl_requires_grad(all[i]));
    }
    assert_int_equal(fdl_dtype_of(fdl_zeros_like(x, .dtype = FDL_INT8)), FDL_INT8);
    /* a tensor of the CPU stays there, whatever the default device is */
    fdl_tensor *here = fdl_zeros_like(fdl_ones(FDL_SHAPE(2), .device = FDL_CPU));
    assert_true(fdl_device_eq(fdl_device_of(here), FDL_CPU));
}

static void one_hot_rows(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *rows = fdl_one_hot(fdl_ivec(0, 1, 2), 4);
    check_shape(rows, 3, 4);
    check_values(rows, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0);
    assert_int_equal(fdl_dtype_of(rows), FDL_INT64);
    assert_int_equal(fdl_dtype_of(fdl_one_hot(fdl_ivec(0), 4, .dtype = FDL_FLOAT32)), FDL_FLOAT32);
    /* an index outside ends a CUDA context: on the CPU only */
    check_refused(fdl_one_hot(fdl_cpu(fdl_ivec(4)), 4), FDL_E_RANGE, "fdl_one_hot");
}

static void grids(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_list ij = fdl_meshgrid(FDL_LIST(fdl_vec(1, 2, 3), fdl_vec(4, 5)));
    assert_int_equal(ij.n, 2);
    check_shape(ij.at[0], 3, 2);
    check_values(ij.at[0], 1, 1, 2, 2, 3, 3);
    check_shape(ij.at[1], 3, 2);
    check_values(ij.at[1], 4, 5, 4, 5, 4, 5);
    fdl_list xy = fdl_meshgrid(FDL_LIST(fdl_vec(1, 2, 3), fdl_vec(4, 5)), .indexing = FDL_XY);
    check_shape(xy.at[0], 2, 3);
    check_values(xy.at[0], 1, 2, 3, 1, 2, 3);
    check_values(xy.at[1], 4, 4, 4, 5, 5, 5);
}

/* ---- random tensors ----------------------------------------------------------------------------------------------- */

static void uniform_numbers(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    fdl_tensor *u = fdl_rand(FDL_SHAPE(10000));
    assert_true(fdl_item(fdl_min(u)) >= 0 && fdl_item(fdl_max(u)) < 1);
    assert_true(fabs(fdl_item(fdl_mean(u)) - 0.5) < 0.02);
    check_refused(fdl_rand(FDL_SHAPE(2), .dtype = FDL_INT64), FDL_E_DTYPE, "fdl_rand");
}

static void whole_numbers_and_permutations(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    fdl_tensor *hundred = fdl_randint(0, 10, FDL_SHAPE(100)), *i = fdl_randint(0, 10, FDL_SHAPE(1000));
    assert_int_equal(fdl_dtype_of(hundred), FDL_INT64);
    assert_true(fdl_item(fdl_min(hundred)) >= 0 && fdl_item(fdl_max(hundred)) < 10);
    assert_true(fdl_item(fdl_min(i)) == 0 && fdl_item(fdl_max(i)) == 9);
    check_refused(fdl_randint(5, 5, FDL_SHAPE(2)), FDL_E_ARG, "below 5");
    check_values(fdl_sort(fdl_randperm(5), 0), 0, 1, 2, 3, 4);
    fdl_tensor *sorted = fdl_sort(fdl_randperm(100), 0);
    assert_true(fdl_same(sorted, fdl_arange(0, 100, 1, .dtype = FDL_INT64)));
    assert_false(fdl_same(fdl_randperm(100), sorted));
    assert_int_equal(fdl_numel(fdl_randperm(0)), 0);
    check_refused(fdl_randperm(-1), FDL_E_ARG, "-1");
}

static void normal_and_bernoulli_moments(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    fdl_tensor *n = fdl_normal(3, 0.5, FDL_SHAPE(50000));
    double mean = fdl_item(fdl_mean(n)), std = fdl_item(fdl_std(n));
    assert_true(mean > 2.95 && mean < 3.05 && std > 0.47 && std < 0.53);
    double ratio = fdl_item(fdl_mean(fdl_bernoulli(fdl_full(FDL_SHAPE(10000), 0.5))));
    assert_true(ratio > 0.45 && ratio < 0.55);
    check_refused(fdl_normal(0, -1, FDL_SHAPE(2)), FDL_E_ARG, "-1");
}

/* Probabilities that are none end a CUDA context: on the CPU only. */
static void bernoulli_of_certainties(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_bernoulli(fdl_vec(0, 1, 0, 1)), 0, 1, 0, 1);
    check_refused(fdl_bernoulli(fdl_cpu(fdl_vec(1.5))), FDL_E_ARG, "fdl_bernoulli");
}

static void multinomial_draws(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_multinomial(fdl_vec(0, 0, 1), 2, .replacement = true), 2, 2);
    check_refused(fdl_multinomial(fdl_cpu(fdl_vec(0, 0, 1)), 2), FDL_E_ARG, "without replacement");
    check_refused(fdl_multinomial(fdl_cpu(fdl_vec(-1, 2)), 1), FDL_E_ARG, "probability tensor");
    assert_null(fdl_multinomial(fdl_cpu(fdl_vec(0, 0)), 1, .replacement = true));
    check_error(FDL_E_ARG, "sum of probabilities");
}

/* What a seed decides: normal numbers, dropout, the weights of a module. */
static void drawn(uint64_t seed, fdl_tensor *out[3])
{
    check_ok(fdl_manual_seed(seed));
    out[0] = fdl_randn(FDL_SHAPE(20));
    out[1] = fdl_dropout(fdl_ones(FDL_SHAPE(200)), 0.5, .training = true);
    fdl_module *m = fdl_nn_linear(8, 8);
    check_some(m);
    out[2] = fdl_clone(fdl_detach(fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0))));
    check_ok(fdl_module_free(m));
}

static void a_seed_decides_all_numbers(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *first[3], *again[3], *other[3];
    drawn(123, first);
    drawn(123, again);
    drawn(124, other);
    for (int i = 0; i < 3; i++) {
        assert_true(fdl_same(first[i], again[i]));
        assert_false(fdl_same(first[i], other[i]));
    }
}

static void states_of_generators(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_device here = fdl_default_device();
    check_ok(fdl_manual_seed(123));
    fdl_tensor *first = fdl_randn(FDL_SHAPE(20)), *saved = fdl_rng_state(here);
    assert_int_equal(fdl_dtype_of(saved), FDL_UINT8);
    fdl_tensor *next = fdl_rand(FDL_SHAPE(5));
    check_ok(fdl_set_rng_state(here, saved));
    assert_true(fdl_same(next, fdl_rand(FDL_SHAPE(5))));
    check_status(fdl_set_rng_state(here, fdl_cpu(first)), FDL_E_DTYPE, "uint8");
    assert_int_not_equal(fdl_set_rng_state(here, fdl_cpu(fdl_to_dtype(fdl_vec(1, 2), FDL_UINT8))), FDL_OK);
    fdl_clear_error();

    /* a generator of one's own: the same numbers as the process's with that seed, which it doesn't disturb */
    fdl_generator *g = fdl_generator_new(123, here);
    check_some(g);
    check_ok(fdl_set_rng_state(here, saved));
    assert_true(fdl_same(first, fdl_randn(FDL_SHAPE(20), .generator = g)));
    assert_true(fdl_same(next, fdl_rand(FDL_SHAPE(5))));
    fdl_generator_free(g);
    fdl_generator_free(NULL);

    check_ok(fdl_deterministic(true));
    assert_true(fdl_is_deterministic());
    check_ok(fdl_deterministic(false));
    assert_false(fdl_is_deterministic());
}

static void strides_powers_and_bits(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_empty_strided(FDL_SHAPE(2, 3), FDL_DIMS(1, 2), .dtype = FDL_FLOAT64);
    assert_true(fdl_stride(x, 0) == 1 && fdl_stride(x, 1) == 2 && fdl_dtype_of(x) == FDL_FLOAT64);
    assert_null(fdl_empty_strided(FDL_SHAPE(2, 3), FDL_DIMS(1)));
    check_error(FDL_E_SHAPE, "1 strides for 2 dims");
    assert_null(fdl_empty_strided(FDL_SHAPE(2), FDL_DIMS(-1)));
    check_error(FDL_E_ARG, "negative");
    check_values(fdl_logspace(0, 2, 3), 1, 10, 100);
    check_values(fdl_logspace(-1, 3, 5, .base = 2, .dtype = FDL_FLOAT64), 0.5, 1, 2, 4, 8);
    check_values(fdl_logspace(1, 5, 1), 10);
    assert_null(fdl_logspace(0, 1, -1));
    check_error(FDL_E_ARG, "-1");
    const uint16_t half[] = {0x3C00, 0xBC00, 0x3800, 0}, brain[] = {0x3F80, 0xBF80, 0x3F00};
    check_values(fdl_from_f16bits(half, FDL_SHAPE(4)), 1, -1, 0.5, 0);
    assert_int_equal(fdl_dtype_of(fdl_from_f16bits(half, FDL_SHAPE(4))), FDL_FLOAT16);
    check_values(fdl_from_bf16bits(brain, FDL_SHAPE(3)), 1, -1, 0.5);
    assert_int_equal(fdl_dtype_of(fdl_from_bf16bits(brain, FDL_SHAPE(3))), FDL_BFLOAT16);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(constants),
        cmocka_unit_test(literals),
        cmocka_unit_test(extents_of_zero_and_below),
        cmocka_unit_test(more_dims_than_a_shape_holds),
        cmocka_unit_test(sequences),
        cmocka_unit_test(from_memory),
        cmocka_unit_test(from_memory_of_another_size),
        cmocka_unit_test(over_memory_of_the_caller),
        cmocka_unit_test(like_another),
        cmocka_unit_test(one_hot_rows),
        cmocka_unit_test(grids),
        cmocka_unit_test(uniform_numbers),
        cmocka_unit_test(whole_numbers_and_permutations),
        cmocka_unit_test(normal_and_bernoulli_moments),
        cmocka_unit_test(bernoulli_of_certainties),
        cmocka_unit_test(multinomial_draws),
        cmocka_unit_test(a_seed_decides_all_numbers),
        cmocka_unit_test(states_of_generators),
        cmocka_unit_test(strides_powers_and_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
