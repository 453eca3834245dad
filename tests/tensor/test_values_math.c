/* Arithmetic, element-wise mathematics, reductions and comparisons at values that are known without a computer. */
#include "values.h"

/* ---- arithmetic --------------------------------------------------------------------------------------------- */

static void addition_broadcasts(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_add(fdl_vec(1, 2, 3), fdl_vec(4, 5, 6)), 5, 7, 9);
    fdl_tensor *column = F32(FDL_SHAPE(3, 1), 1, 2, 3), *row = F32(FDL_SHAPE(1, 4), 10, 20, 30, 40);
    check_shape(fdl_add(column, row), 3, 4);
    check_values(fdl_add(column, row), 11, 21, 31, 41, 12, 22, 32, 42, 13, 23, 33, 43);
    check_refused(fdl_add(fdl_vec(1, 2), fdl_vec(1, 2, 3)), FDL_E_SHAPE, "fdl_add([2] float32",
                  "[3] float32");
}

static void division_is_true_division(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_div(fdl_vec(6, 8), fdl_vec(2, 3)), 3, 8.0 / 3);
    fdl_tensor *y = fdl_div(fdl_ivec(1, 7), fdl_ivec(2, 2));
    assert_int_equal(fdl_dtype_of(y), FDL_FLOAT32);
    check_values(y, 0.5, 3.5);
}

static void a_quotient_is_rounded_toward_zero_or_down(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(-7, 7), *b = fdl_vec(2, -2);
    check_values(fdl_div_rounding(a, b, FDL_ROUNDING_NONE), -3.5, -3.5);
    check_values(fdl_div_rounding(a, b, FDL_ROUNDING_TRUNC), -3, -3);
    check_values(fdl_div_rounding(a, b, FDL_ROUNDING_FLOOR), -4, -4);
    fdl_tensor *i = fdl_div_rounding(fdl_ivec(-7, 7), fdl_ivec(2, 2), FDL_ROUNDING_TRUNC);
    assert_int_equal(fdl_dtype_of(i), FDL_INT64);
    check_values(i, -3, 3);
    check_values(fdl_div_rounding_scalar(fdl_ivec(-7, 7), 2, FDL_ROUNDING_FLOOR), -4, 3);
}

static void remainders_have_a_sign(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(-5, 7.5);
    check_values(fdl_fmod(x, fdl_vec(3, 3)), -2, 1.5);
    check_values(fdl_fmod_scalar(x, 3), -2, 1.5);
    check_values(fdl_remainder(x, fdl_vec(3, 3)), 1, 1.5);
    check_values(fdl_remainder_scalar(x, 3), 1, 1.5);
}

static void lerp_goes_from_a_to_b(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(0, 10), *b = fdl_vec(10, 20);
    check_values(fdl_lerp_scalar(a, b, 0.3), 3, 13);
    check_values(fdl_lerp(a, b, fdl_vec(0.3, 1)), 3, 20);
}

static void addmm_adds_a_product(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = F32(FDL_SHAPE(2, 2), 1, 2, 3, 4), *nan = fdl_vec(NAN, NAN);
    check_values(fdl_addmm(fdl_vec(1, 2), a, fdl_eye(2)), 2, 4, 4, 6);
    check_values(fdl_addmm(nan, a, fdl_eye(2), .beta = FDL_ZERO), 1, 2, 3, 4);
    check_values(fdl_addmm(nan, a, fdl_eye(2)), NAN, NAN, NAN, NAN);
}

static void addcmul_and_addcdiv(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *one = fdl_vec(1), *two = fdl_vec(2), *four = fdl_vec(4);
    check_values(fdl_addcmul(one, two, four, .value = 0.5), 5);
    check_values(fdl_addcdiv(one, two, four, .value = 0.5), 1.25);
}

static void maximum_hands_nan_on_and_fmax_does_not(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_maximum(fdl_vec(1, 5, 3), fdl_vec(4, 2, 3)), 4, 5, 3);
    fdl_tensor *a = fdl_vec(NAN, 1), *b = fdl_vec(2, NAN);
    check_values(fdl_maximum(a, b), NAN, NAN);
    check_values(fdl_minimum(a, b), NAN, NAN);
    check_values(fdl_fmax(a, b), 2, 1);
    check_values(fdl_fmin(a, b), 2, 1);
}

/* ---- element by element --------------------------------------------------------------------------------------- */

static void angles(void **state)
{
    (void)state;
    FDL_SCOPE;
    double pi = acos(-1);
    check_values(fdl_tan(fdl_vec(pi / 4)), 1);
    check_values(fdl_asin(fdl_vec(0.5)), pi / 6);
    check_values(fdl_acos(fdl_vec(1)), 0);
    check_values(fdl_atan2(fdl_vec(1, -1, 0), fdl_vec(0, 0, -1)), pi / 2, -pi / 2, pi);
}

static void error_function_and_small_logarithms(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_erf(fdl_vec(1)), 0.842701);
    check_values(fdl_erfc(fdl_vec(1)), 0.157299);
    check_number(fdl_item(fdl_log1p(fdl_vec(1e-10))), 1e-10, 1e-16);
}

static void rounding(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_round(fdl_vec(0.5, 1.5, 2.5, -0.6)), 0, 2, 2, -1);
    check_values(fdl_trunc(fdl_vec(-1.3)), -1);
    check_values(fdl_frac(fdl_vec(-1.3)), -0.3);
    check_values(fdl_sign(fdl_vec(0, -2, 3)), 0, -1, 1);
}

static void clamp_and_its_bounds(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(-1, 0.5, 2);
    check_values(fdl_clamp(x, 0, 1), 0, 0.5, 1);
    check_values(fdl_clamp(x, 1, 0), 0, 0, 0); /* the upper one wins */
    check_values(fdl_clamp(fdl_vec(NAN), 0, 1), NAN);
}

static void powers(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_values(fdl_pow(fdl_vec(1, 4), 2), 1, 16);
    check_values(fdl_pow(fdl_vec(-8), 1.0 / 3), NAN);
}

static void a_number_and_an_integer_tensor(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ivec(1, 2), *doubled = fdl_mul(x, 2), *halved = fdl_mul(x, 0.5);
    assert_int_equal(fdl_dtype_of(doubled), FDL_INT64);
    check_values(doubled, 2, 4);
    assert_int_equal(fdl_dtype_of(halved), FDL_FLOAT32);
    check_values(halved, 0.5, 1);
}

static void triangles(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(3, 3), 1, 2, 3, 4, 5, 6, 7, 8, 9);
    check_values(fdl_tril(x), 1, 0, 0, 4, 5, 0, 7, 8, 9);
    check_values(fdl_tril(x, .diagonal = 1), 1, 2, 0, 4, 5, 6, 7, 8, 9);
    check_values(fdl_tril(x, .diagonal = -1), 0, 0, 0, 4, 0, 0, 7, 8, 0);
    check_values(fdl_triu(x), 1, 2, 3, 0, 5, 6, 0, 0, 9);
    check_values(fdl_triu(x, .diagonal = 1), 0, 2, 3, 0, 0, 6, 0, 0, 0);
    check_values(fdl_triu(x, .diagonal = -1), 1, 2, 3, 4, 5, 6, 0, 8, 9);
    check_refused(fdl_tril(fdl_vec(1, 2)), FDL_E_SHAPE, "fdl_tril");
    check_refused(fdl_triu(fdl_vec(1, 2)), FDL_E_SHAPE, "fdl_triu");
}

static void null_keeps_the_error_that_made_it(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *failed = fdl_zeros(FDL_SHAPE(-7));
    check_refused(fdl_exp(failed), FDL_E_SHAPE, "fdl_zeros", "-7");
    check_refused(fdl_exp(NULL), FDL_E_NULL, "fdl_exp: x is NULL");
}

/* ---- reductions ------------------------------------------------------------------------------------------------- */

static void sums_along_a_dim(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(2, 2), 1, 2, 3, 4);
    check_values(fdl_sum_dim(x, 1), 3, 7);
    check_shape(fdl_sum_dim(x, 1, .keepdim = true), 2, 1);
    check_refused(fdl_sum_dim(x, 2), FDL_E_RANGE, "Dimension out of range");
}

static void sums_along_several_dims(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    check_values(fdl_sum_dims(x, FDL_DIMS(0, 1)), 21);
    check_refused(fdl_sum_dims(x, FDL_DIMS(0, 0)), FDL_E_ARG, "dim 0 appears multiple times");
}

static void products_and_running_sums(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, 2, 3, 4);
    check_values(fdl_prod(x), 24);
    check_values(fdl_prod_dim(fdl_reshape(x, FDL_SHAPE(2, 2)), 1), 2, 12);
    check_values(fdl_cumsum(x, 0), 1, 3, 6, 10);
    check_values(fdl_cumprod(x, 0), 1, 2, 6, 24);
}

static void largest_and_smallest(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(2, 3), 3, 9, 1, 8, 2, 7), *where = NULL, *empty = fdl_zeros(FDL_SHAPE(0));
    check_values(fdl_max(x), 9);
    check_values(fdl_min(x), 1);
    check_values(fdl_max_dim(x, 1, .indices = &where), 9, 8);
    check_values(where, 1, 0);
    check_values(fdl_min_dim(x, 1, .indices = &where), 1, 2);
    check_values(where, 2, 1);
    assert_int_equal(fdl_dtype_of(where), FDL_INT64);
    check_values(fdl_argmax(x, 1), 1, 0);
    check_values(fdl_argmin(x, 0), 0, 1, 0);
    check_values(fdl_argmax_all(x), 1);
    check_refused(fdl_max(empty), FDL_E_SHAPE, "fdl_max([0] float32");
    check_refused(fdl_min(empty), FDL_E_SHAPE, "fdl_min([0] float32");
    assert_null(fdl_argmax_all(empty));
    assert_int_not_equal(fdl_error_pending(), FDL_OK);
    fdl_clear_error();
}

static void variance(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, 2, 3);
    check_values(fdl_var(x), 1);
    check_values(fdl_var(x, .correction = FDL_SOME(0)), 2.0 / 3);
    check_values(fdl_std(fdl_vec(5)), NAN);
}

static void norms(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(2, 2), 1, -2, -3, 4);
    check_values(fdl_norm(fdl_vec(3, 4)), 5);
    check_values(fdl_norm_dim(x, 1, 1), 3, 7);
    check_values(fdl_norm_dim(x, INFINITY, 1), 2, 4);
}

static void logsumexp_and_softmax(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, 2, 3);
    check_values(fdl_logsumexp(x, 0), 3.407606);
    check_number(fdl_item(fdl_logsumexp(fdl_vec(1e4, 1e4), 0)), 1e4 + log(2), 1e-3);
    check_number(fdl_item(fdl_logsumexp(fdl_vec(-1e4, -1e4), 0)), -1e4 + log(2), 1e-3);
    check_values(fdl_softmax(x, 0), 0.0900306, 0.2447285, 0.6652410);
}

static void medians(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *where = NULL;
    check_values(fdl_median(fdl_vec(3, 1, 2)), 2);
    check_values(fdl_median(fdl_vec(4, 1, 3, 2)), 2); /* the lower of two */
    check_values(fdl_median_dim(F32(FDL_SHAPE(2, 3), 3, 1, 2, 4, 6, 5), 1, .indices = &where), 2, 5);
    check_values(where, 2, 2);
}

static void counting(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(0, 1, 0, 2, 3), *empty = fdl_zeros(FDL_SHAPE(0)), *n = fdl_count_nonzero(x);
    assert_int_equal(fdl_dtype_of(n), FDL_INT64);
    check_values(n, 3);
    assert_int_equal(fdl_dtype_of(fdl_any(x)), FDL_BOOL);
    check_values(fdl_any(x), 1);
    check_values(fdl_all(x), 0);
    check_values(fdl_any(empty), 0);
    check_values(fdl_all(empty), 1);
}

/* ---- comparisons ------------------------------------------------------------------------------------------------- */

static void comparisons_give_bool(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(1, 2, 3), *b = fdl_vec(3, 2, 1), *nan = fdl_vec(NAN);
    fdl_tensor *all[] = {fdl_eq(a, b), fdl_ne(a, b), fdl_lt(a, b), fdl_le(a, b), fdl_gt(a, b), fdl_ge(a, b)};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_int_equal(fdl_dtype_of(all[i]), FDL_BOOL);
    check_values(all[0], 0, 1, 0);
    check_values(all[1], 1, 0, 1);
    check_values(all[2], 1, 0, 0);
    check_values(all[3], 1, 1, 0);
    check_values(all[4], 0, 0, 1);
    check_values(all[5], 0, 1, 1);
    check_values(fdl_eq(fdl_ivec(1, 2), fdl_ivec(1, 3)), 1, 0);
    check_values(fdl_eq(nan, nan), 0);
    check_values(fdl_ne(nan, nan), 1);
    check_values(fdl_mean(fdl_ge(a, b)), 2.0 / 3);
}

static void finite_and_close(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, INFINITY, -INFINITY, NAN);
    check_values(fdl_isnan(x), 0, 0, 0, 1);
    check_values(fdl_isinf(x), 0, 1, 1, 0);
    check_values(fdl_isfinite(x), 1, 0, 0, 0);
    check_values(fdl_isclose(fdl_vec(2), fdl_vec(2.001), .atol = 0.01), 1);
    check_values(fdl_isclose(fdl_vec(2), fdl_vec(2.001)), 0);
    /* rtol is a part of the second operand: 10 is within a tenth of 11, 11 isn't within a tenth of 10 */
    fdl_tensor *ten = fdl_vec(10), *more = fdl_vec(11.05);
    check_values(fdl_isclose(ten, more, .rtol = 0.1), 1);
    check_values(fdl_isclose(more, ten, .rtol = 0.1), 0);
}

static void logic(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(0, 0, 2, -1), *b = fdl_vec(0, 3, 0, 5);
    fdl_tensor *p = fdl_ne(a, 0), *q = fdl_ne(b, 0);
    for (int of_bools = 0; of_bools < 2; of_bools++, a = p, b = q) {
        check_values(fdl_logical_and(a, b), 0, 0, 0, 1);
        check_values(fdl_logical_or(a, b), 0, 1, 1, 1);
        check_values(fdl_logical_xor(a, b), 0, 1, 1, 0);
        check_values(fdl_logical_not(a), 1, 1, 0, 0);
        assert_int_equal(fdl_dtype_of(fdl_logical_and(a, b)), FDL_BOOL);
    }
    assert_true(fdl_all_finite(fdl_vec(1, 2)));
    assert_false(fdl_all_finite(fdl_vec(1, INFINITY)));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addition_broadcasts),
        cmocka_unit_test(division_is_true_division),
        cmocka_unit_test(a_quotient_is_rounded_toward_zero_or_down),
        cmocka_unit_test(remainders_have_a_sign),
        cmocka_unit_test(lerp_goes_from_a_to_b),
        cmocka_unit_test(addmm_adds_a_product),
        cmocka_unit_test(addcmul_and_addcdiv),
        cmocka_unit_test(maximum_hands_nan_on_and_fmax_does_not),
        cmocka_unit_test(angles),
        cmocka_unit_test(error_function_and_small_logarithms),
        cmocka_unit_test(rounding),
        cmocka_unit_test(clamp_and_its_bounds),
        cmocka_unit_test(powers),
        cmocka_unit_test(a_number_and_an_integer_tensor),
        cmocka_unit_test(triangles),
        cmocka_unit_test(null_keeps_the_error_that_made_it),
        cmocka_unit_test(sums_along_a_dim),
        cmocka_unit_test(sums_along_several_dims),
        cmocka_unit_test(products_and_running_sums),
        cmocka_unit_test(largest_and_smallest),
        cmocka_unit_test(variance),
        cmocka_unit_test(norms),
        cmocka_unit_test(logsumexp_and_softmax),
        cmocka_unit_test(medians),
        cmocka_unit_test(counting),
        cmocka_unit_test(comparisons_give_bool),
        cmocka_unit_test(finite_and_close),
        cmocka_unit_test(logic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
