/* Operations on random operands (fixtures/ops_random.json): shapes that broadcast, any strides, any two dtypes. */
#include "check.h"

#include <jansson.h>
#include <math.h>

typedef fdl_tensor *operation(fdl_tensor *a, fdl_tensor *b);

#define OPERATION(name, expression)                       \
    static fdl_tensor *name(fdl_tensor *a, fdl_tensor *b) \
    {                                                     \
        return expression;                                \
    }
OPERATION(op_add, fdl_add(a, b))
OPERATION(op_sub, fdl_sub(a, b))
OPERATION(op_mul, fdl_mul(a, b))
OPERATION(op_div, fdl_div(a, b))
OPERATION(op_maximum, fdl_maximum(a, b))
OPERATION(op_fmod, fdl_fmod(a, fdl_add(fdl_abs(b), 1)))
OPERATION(op_lt, fdl_lt(a, b))
OPERATION(op_eq, fdl_eq(a, b))
OPERATION(op_where, fdl_where(fdl_gt(a, b), a, b))
OPERATION(op_logical_xor, fdl_logical_xor(a, b))
OPERATION(op_sum_last, fdl_sum_dim(fdl_mul(a, b), -1))
OPERATION(op_amax_first, fdl_amax(fdl_add(a, b), FDL_DIMS(0)))
OPERATION(op_cumsum_first, fdl_cumsum(fdl_add(a, b), 0))
OPERATION(op_cat_flat, fdl_cat(FDL_LIST(fdl_reshape(a, FDL_SHAPE(-1)), fdl_reshape(b, FDL_SHAPE(-1))), 0))
OPERATION(op_softmax_last, fdl_softmax(fdl_float(fdl_add(a, b)), -1))
OPERATION(op_sort_last, fdl_sort(fdl_sub(a, b), -1))
OPERATION(op_flip_first, fdl_flip(fdl_add(a, b), FDL_DIMS(0)))

static const struct {
    const char *name;
    operation *call;
} operations[] = {
    {"add", op_add},
    {"sub", op_sub},
    {"mul", op_mul},
    {"div", op_div},
    {"maximum", op_maximum},
    {"fmod", op_fmod},
    {"lt", op_lt},
    {"eq", op_eq},
    {"where", op_where},
    {"logical_xor", op_logical_xor},
    {"sum_last", op_sum_last},
    {"amax_first", op_amax_first},
    {"cumsum_first", op_cumsum_first},
    {"cat_flat", op_cat_flat},
    {"softmax_last", op_softmax_last},
    {"sort_last", op_sort_last},
    {"flip_first", op_flip_first},
};

static operation *named(const char *name)
{
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        if (strcmp(operations[i].name, name) == 0)
            return operations[i].call;
    return NULL;
}

static fdl_dtype dtype_of(json_t *of)
{
    const char *name = json_string_value(json_object_get(of, "type"));
    for (int d = FDL_FLOAT32; d <= FDL_BOOL; d++)
        if (strcmp(fdl_dtype_name((fdl_dtype)d), name) == 0)
            return (fdl_dtype)d;
    return FDL_DTYPE_DEFAULT;
}

static int64_t integer(json_t *of, const char *key, size_t i)
{
    return json_integer_value(json_array_get(json_object_get(of, key), i));
}

static fdl_shape shape(json_t *of, const char *key)
{
    fdl_shape s = {.ndim = (int)json_array_size(json_object_get(of, key))};
    for (int i = 0; i < s.ndim; i++)
        s.d[i] = integer(of, key, (size_t)i);
    return s;
}

/* make_ops.py's random_operand. */
static fdl_tensor *operand(json_t *made)
{
    enum { MOST = 2048 };
    double values[MOST];
    fdl_dtype dtype = dtype_of(made);
    size_t n = json_array_size(json_object_get(made, "values"));
    assert_true(n <= MOST);
    for (size_t i = 0; i < n; i++)
        values[i] = (double)integer(made, "values", i) * (fdl_dtype_is_floating(dtype) ? 0.125 : 1);
    fdl_tensor *x = fdl_from_f64(n ? values : NULL, shape(made, "base"), .dtype = dtype);
    x = fdl_permute(x, shape(made, "order"));
    for (int d = 0; d < fdl_ndim(x); d++)
        x = fdl_slice(x, d, integer(made, "start", (size_t)d), INT64_MAX, integer(made, "step", (size_t)d));
    return x;
}

static double number(json_t *v)
{
    return json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
}

/* Whether y is what the case says. */
static bool agrees(fdl_tensor *y, json_t *c)
{
    enum { MOST = 128 };
    double got[MOST];
    fdl_dtype dtype = dtype_of(c);
    int64_t n = fdl_numel(y);
    if (!fdl_shape_eq(fdl_shape_of(y), shape(c, "shape")) || fdl_dtype_of(y) != dtype || n > MOST ||
        fdl_to_f64(y, got, n) != FDL_OK)
        return false;
    double rtol = dtype == FDL_FLOAT64 ? 1e-12 : dtype == FDL_FLOAT32 ? 1e-6 : 0;
    if (dtype == FDL_FLOAT16 || dtype == FDL_BFLOAT16)
        rtol = dtype == FDL_FLOAT16 ? 2e-3 : 1.6e-2;
    for (int64_t i = 0; i < n; i++) {
        double want = number(json_array_get(json_object_get(c, "values"), (size_t)i));
        if (isnan(want) ? !isnan(got[i])
                        : got[i] != want && !(fabs(got[i] - want) <= rtol * (1 + fabs(want))))
            return false;
    }
    return true;
}

static void random_operands_agree_with_pytorch(void **state)
{
    (void)state;
    json_error_t error;
    json_t *fixture = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/ops_random.json", 0, &error), *c;
    if (!fixture)
        fail_msg("tests/fixtures/ops_random.json:%d: %s", error.line, error.text);
    int failures = 0, strided = 0;
    size_t i, n = json_array_size(json_object_get(fixture, "cases"));
    json_array_foreach(json_object_get(fixture, "cases"), i, c)
    {
        FDL_SCOPE;
        const char *name = json_string_value(json_object_get(c, "op"));
        fdl_tensor *a = operand(json_object_get(c, "a")), *b = operand(json_object_get(c, "b"));
        check_some(a);
        check_some(b);
        strided += !fdl_is_contiguous(a) || !fdl_is_contiguous(b);
        operation *call = named(name);
        assert_non_null(call);
        fdl_tensor *y = call(a, b);
        if (y && agrees(y, c))
            continue;
        char of_a[128], of_b[128], is[128] = "";
        fdl_describe(a, of_a, sizeof of_a);
        fdl_describe(b, of_b, sizeof of_b);
        if (y)
            fdl_describe(y, is, sizeof is);
        print_error("case %zu, %s(%s, %s): %s\n", i, name, of_a, of_b, y ? is : fdl_last_error()->message);
        fdl_clear_error();
        failures++;
    }
    print_message("%zu cases, %d with strides of their own, seed %lld\n", n, strided,
                  (long long)json_integer_value(json_object_get(fixture, "seed")));
    json_decref(fixture);
    assert_int_equal(failures, 0);
    assert_true(n > 500 && strided > 100);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_operands_agree_with_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
