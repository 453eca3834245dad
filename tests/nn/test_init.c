/* Initialisers: the rows of init.def against PyTorch's numbers under a seed (fixtures/init.json) and against what their
 * distributions say, orthogonality, tails, and what is refused. */
#include "check.h"

#include <jansson.h>
#include <math.h>

#define INIT(name, dims, call, python, near, many, mean, std, least, most) \
    static fdl_status init_##name(fdl_tensor *t)                           \
    {                                                                      \
        return call;                                                       \
    }                                                                      \
    static void says_##name(double v[4])                                   \
    {                                                                      \
        v[0] = mean, v[1] = std, v[2] = least, v[3] = most;                \
    }
#include "init.def"
#undef INIT

typedef struct row {
    const char *name, *dims;
    fdl_status (*init)(fdl_tensor *t);
    double near;
    const char *many;
    void (*says)(double v[4]); /* mean, standard deviation, least, most */
} row;
static const row rows[] = {
#define INIT(name, dims, call, python, near, many, mean, std, least, most) \
    {#name, dims, init_##name, near, many, says_##name},
#include "init.def"
#undef INIT
};
enum { ROWS = sizeof rows / sizeof *rows, MOST = 10000 };

static json_t *fixture;

static fdl_shape shape_of(const char *text)
{
    fdl_shape s = FDL_SCALAR;
    for (char *end; *text && *text != ' '; text = *end == 'x' ? end + 1 : end)
        s.d[s.ndim++] = strtoll(text, &end, 10);
    return s;
}

static fdl_dtype dtype_named(const char *name)
{
    for (int d = FDL_FLOAT32; d <= FDL_BFLOAT16; d++)
        if (strcmp(fdl_dtype_name((fdl_dtype)d), name) == 0)
            return (fdl_dtype)d;
    fail_msg("%s is no dtype", name);
    return FDL_FLOAT32;
}

/* ---- the rows ------------------------------------------------------------------------------------ */

static void expect_numbers(const row *r, fdl_dtype dtype, const char *dims, const json_t *values)
{
    FDL_SCOPE;
    fdl_tensor *t = fdl_full(shape_of(dims), NAN, .dtype = dtype);
    check_ok(fdl_manual_seed(11));
    if (r->init(t) != FDL_OK)
        fail_msg("%s: %s", r->name, fdl_last_error()->message);
    double got[128], near = r->near;
    /* another order of roundings in a short dtype is its last place */
    if (near > 0)
        near = dtype == FDL_FLOAT16 ? 2e-3 : dtype == FDL_BFLOAT16 ? 1.6e-2 : near;
    int64_t n = fdl_numel(t);
    assert_true(n <= 128 && n == (int64_t)json_array_size(values));
    check_ok(fdl_to_f64(t, got, n));
    for (int64_t i = 0; i < n; i++) {
        double want = json_number_value(json_array_get(values, (size_t)i));
        if (dtype != FDL_FLOAT64)
            want = (double)(float)want; /* nine digits are enough for that */
        if (!(fabs(got[i] - want) <= near * (1 + fabs(want))))
            fail_msg("%s of [%s] %s: element %d is %.17g, PyTorch's %.17g", r->name, dims,
                     fdl_dtype_name(dtype), (int)i, got[i], want);
    }
}

static void numbers_are_pytorchs(void **state)
{
    (void)state;
    int checks = 0;
    for (const row *r = rows; r < rows + ROWS; r++) {
        const char *dtype, *dims;
        json_t *by_dims, *values, *entry = json_object_get(json_object_get(fixture, "rows"), r->name);
        if (!entry)
            fail_msg("%s has no numbers: run tests/fixtures/make_init.py", r->name);
        json_object_foreach(entry, dtype, by_dims) json_object_foreach(by_dims, dims, values)
        {
            expect_numbers(r, dtype_named(dtype), dims, values);
            checks++;
        }
    }
    print_message("%d rows, %d results\n", (int)ROWS, checks);
    assert_true(checks > 140);
}

/* The same seed, the same numbers; the next draw, others. */
static void a_seed_repeats(void **state)
{
    (void)state;
    for (const row *r = rows; r < rows + ROWS; r++) {
        FDL_SCOPE;
        fdl_tensor *a = fdl_empty(shape_of(r->many)), *b = fdl_empty_like(a), *c = fdl_empty_like(a);
        check_ok(fdl_manual_seed(7));
        check_ok(r->init(a));
        check_ok(r->init(c));
        check_ok(fdl_manual_seed(7));
        check_ok(r->init(b));
        assert_true(fdl_same(a, b));
        static const char *const fixed[] = {"constant", "zeros", "ones",        "sparse_all",
                                            "eye",      "dirac", "dirac_groups"};
        bool drawn = true;
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
            drawn &= strcmp(r->name, fixed[i]) != 0;
        if (drawn == fdl_same(a, c))
            fail_msg("%s gives %s numbers the second time", r->name, drawn ? "the same" : "other");
    }
}

static void statistics_are_the_distributions(void **state)
{
    (void)state;
    for (const row *r = rows; r < rows + ROWS; r++) {
        FDL_SCOPE;
        static double v[MOST];
        fdl_tensor *t = fdl_empty(shape_of(r->many));
        assert_int_equal(fdl_numel(t), MOST);
        check_ok(fdl_manual_seed(3));
        check_ok(r->init(t));
        check_ok(fdl_to_f64(t, v, MOST));
        double sum = 0, squares = 0, least = INFINITY, most = -INFINITY;
        for (int i = 0; i < MOST; i++) {
            sum += v[i] / MOST;
            least = fmin(least, v[i]);
            most = fmax(most, v[i]);
        }
        for (int i = 0; i < MOST; i++)
            squares += (v[i] - sum) * (v[i] - sum) / MOST;
        double want[4], std = sqrt(squares);
        r->says(want);
        double rounding = 1e-6 * (1 + fabs(want[0]));
        if (!(fabs(sum - want[0]) <= 0.05 * want[1] + rounding))
            fail_msg("%s: the mean is %g, not %g", r->name, sum, want[0]);
        if (!(fabs(std - want[1]) <= 0.02 * want[1] + rounding))
            fail_msg("%s: the standard deviation is %g, not %g", r->name, std, want[1]);
        if (!(least >= want[2] - 1e-7 && most <= want[3] + 1e-7))
            fail_msg("%s: from %.9g to %.9g, bounds are %.9g and %.9g", r->name, least, most, want[2],
                     want[3]);
    }
}

/* ---- by hand ------------------------------------------------------------------------------------- */

/* A bound is reached, not only kept. */
static void bounds_are_the_formulas(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *t = fdl_empty(FDL_SHAPE(100, 200)), *four = fdl_empty(FDL_SHAPE(5000, 4));
    fdl_tensor *small = fdl_empty(FDL_SHAPE(20, 10));
    check_ok(fdl_init_xavier_uniform(small));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(small))), 0.4472136, 1e-2);
    assert_true(fdl_item(fdl_max(fdl_abs(small))) <= 0.4472137);
    check_ok(fdl_init_kaiming_uniform(four, .nonlinearity = FDL_RELU));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(four))), 1.2247449, 1e-3);
    check_ok(fdl_init_kaiming_uniform(four, .a = sqrt(5)));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(four))), 0.5, 1e-3);
    check_ok(fdl_init_bias_uniform(t, 16));
    assert_float_equal(fdl_item(fdl_max(fdl_abs(t))), 0.25, 1e-4);
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
        int64_t rows_ = fdl_size(q, 0), cols = fdl_size(q, 1), n = rows_ < cols ? rows_ : cols;
        fdl_tensor *product = rows_ < cols ? fdl_matmul(q, fdl_t(q)) : fdl_matmul(fdl_t(q), q);
        assert_true(fdl_allclose(product, fdl_mul(fdl_eye(n), 4), .atol = 1e-5));
    }
}

/* Normal numbers of an interval: none on its ends, many different ones, the right mean; far out in a tail too. */
static void truncated_draws_gather_nowhere(void **state)
{
    (void)state;
    static const struct {
        double mean, std, a, b, want_mean, want_std;
    } cases[] = {
        {0, 1, -2, 2, 0, 0.8796257},
        {0, 1, 3, 5, 3.2826944, 0.2641923},
        {0, 1, 6, 7, 6.1572109, 0.1508257},
        {0, 1, -4, -3, -3.2604543, 0.2219860},
        {1, 2, -20, -10, -10.3428206, 0.3338371},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FDL_SCOPE;
        fdl_tensor *t = fdl_empty(FDL_SHAPE(20000));
        check_ok(fdl_manual_seed(5));
        check_ok(fdl_init_trunc_normal(t, cases[i].mean, cases[i].std, cases[i].a, cases[i].b));
        assert_true(fdl_item(fdl_min(t)) >= cases[i].a && fdl_item(fdl_max(t)) <= cases[i].b);
        assert_float_equal(fdl_item(fdl_sum(fdl_eq(t, cases[i].a))), 0, 0);
        assert_float_equal(fdl_item(fdl_sum(fdl_eq(t, cases[i].b))), 0, 0);
        assert_float_equal(fdl_item(fdl_mean(t)), cases[i].want_mean, 0.03 * cases[i].want_std);
        assert_float_equal(fdl_item(fdl_std(t)), cases[i].want_std, 0.02 * cases[i].want_std);
        assert_true(fdl_size(fdl_unique(t), 0) > 10000);
    }
}

static void sparse_columns_have_their_zeros(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *t = fdl_empty(FDL_SHAPE(11, 30));
    check_ok(fdl_init_sparse(t, 0.31)); /* 3.41 of 11: 4 */
    double zeros[30];
    check_ok(fdl_to_f64(fdl_sum_dim(fdl_eq(t, 0), 0), zeros, 30));
    for (int i = 0; i < 30; i++)
        assert_float_equal(zeros[i], 4, 0);
    fdl_tensor *strided = fdl_t(fdl_empty(FDL_SHAPE(30, 11)));
    check_ok(fdl_init_sparse(strided, 0.31));
    assert_float_equal(fdl_item(fdl_sum(fdl_eq(strided, 0))), 120, 0);
    check_ok(fdl_init_sparse(fdl_empty(FDL_SHAPE(0, 3)), 0.5));
    check_ok(fdl_init_sparse(fdl_empty(FDL_SHAPE(3, 0)), 0.5));
}

static void parameters_stay_leaves(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(4, 4);
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    for (const row *r = rows; r < rows + ROWS; r++)
        if (strncmp(r->name, "dirac", 5)) {
            check_ok(r->init(w));
            assert_true(fdl_is_leaf(w) && fdl_requires_grad(w));
        }
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
    fdl_tensor *line = fdl_empty(FDL_SHAPE(4)), *matrix = fdl_ones(FDL_SHAPE(4, 4)),
               *before = fdl_clone(matrix);
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
    REFUSED(FDL_E_ARG, fdl_init_sparse(line, 0.5), "2 dims");
    REFUSED(FDL_E_ARG, fdl_init_sparse(matrix, 1.5), "sparsity is 1.5");
    REFUSED(FDL_E_ARG, fdl_init_sparse(matrix, NAN), "sparsity is nan");
    REFUSED(FDL_E_ARG, fdl_init_sparse(matrix, 0.5, .std = -1), "std -1");
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
    REFUSED(FDL_E_ARG, fdl_init_trunc_normal(matrix, 0, 1, 9, 10), "[9, 10]", "9 times std");
    REFUSED(FDL_E_ARG, fdl_init_trunc_normal(matrix, 0, 1, -10, -9), "9 times std");
    REFUSED(FDL_E_ARG, fdl_init_bias_uniform(matrix, 0), "fan_in");
    assert_true(fdl_same(matrix, before)); /* nothing was changed */
    REFUSED(FDL_E_NULL, fdl_init_zeros(NULL), "t");
    REFUSED(FDL_E_NULL, fdl_init_orthogonal(NULL), "t");
    REFUSED(FDL_E_NULL, fdl_init_sparse(NULL, 0.5), "t");
    REFUSED(FDL_E_NULL, fdl_init_kaiming_uniform(NULL), "t");
    assert_int_not_equal(fdl_init_normal(whole, 0, 1), FDL_OK);
    fdl_clear_error();
    assert_int_not_equal(fdl_init_sparse(whole, 0.5), FDL_OK);
    fdl_clear_error();
    assert_true(isnan(fdl_init_gain((fdl_nonlinearity)9, 0)));
    check_error(FDL_E_ARG, "9");
}

int main(void)
{
    bool gpu = on_test_device();
    json_error_t error;
    fixture = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/init.json", 0, &error);
    if (!fixture) {
        fprintf(stderr, "tests/fixtures/init.json:%d: %s\n", error.line, error.text);
        return 1;
    }
    const struct CMUnitTest here[] = {
        cmocka_unit_test(a_seed_repeats),
        cmocka_unit_test(statistics_are_the_distributions),
        cmocka_unit_test(bounds_are_the_formulas),
        cmocka_unit_test(orthogonal_is),
        cmocka_unit_test(truncated_draws_gather_nowhere),
        cmocka_unit_test(sparse_columns_have_their_zeros),
        cmocka_unit_test(parameters_stay_leaves),
        cmocka_unit_test(gains_and_fans),
        cmocka_unit_test(wrong_calls_are_refused),
    };
    const struct CMUnitTest cpu[] = {
        cmocka_unit_test(numbers_are_pytorchs)}; /* a GPU draws others from a seed */
    int failed = cmocka_run_group_tests(here, NULL, NULL);
    if (!gpu)
        failed += cmocka_run_group_tests(cpu, NULL, NULL);
    json_decref(fixture);
    return failed;
}
