/* Datasets made of datasets: values, division, what is refused is freed. */
#include "check.h"

#include <math.h>

#include "samples.h"

static void expect_samples(fdl_dataset *ds, const int64_t *idx, int64_t k, const double *values)
{
    FDL_SCOPE;
    fdl_tensor *out[FDL_DATA_MAX];
    check_ok(fdl_data_fetch(ds, idx, k, out));
    expect(out[0], FDL_FLOAT32, FDL_SHAPE(k), values);
}

static fdl_status times(void *ctx, int64_t i, fdl_tensor **sample, int n)
{
    (void)i;
    (void)n;
    sample[0] = fdl_mul_scalar(sample[0], *(double *)ctx);
    return sample[0] ? FDL_OK : fdl_error_pending();
}

static void values(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    fdl_dataset *ds = fdl_data_subset(numbers(0, 10), (int64_t[]){7, 3, 3}, 3);
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 3);
    expect_samples(ds, (int64_t[]){2, 0, 1}, 3, (double[]){3, 7, 3});
    fdl_data_free(ds);

    ds = fdl_data_repeat(numbers(0, 2), 1000);
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 1000);
    expect_samples(ds, (int64_t[]){5, 998}, 2, (double[]){1, 0});
    fdl_data_free(ds);

    ds = fdl_data_concat(numbers(0, 3), numbers(10, 10), numbers(20, 24));
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 7);
    expect_samples(ds, (int64_t[]){0, 1, 2, 3, 4, 5, 6}, 7, (double[]){0, 1, 2, 20, 21, 22, 23});
    expect_samples(ds, (int64_t[]){6, 0, 5, 5, 1}, 5, (double[]){23, 0, 22, 22, 1});
    fdl_dataset *again = fdl_data_subset(fdl_data_ref(ds), (int64_t[]){6}, 1);
    ds = fdl_data_concat(ds, again); /* nested */
    check_some(ds);
    expect_samples(ds, (int64_t[]){7, 0}, 2, (double[]){23, 0});
    fdl_data_free(ds);

    double two = 2;
    ds = fdl_data_map(numbers(0, 10), times, &two);
    check_some(ds);
    expect_samples(ds, (int64_t[]){4, 9}, 2, (double[]){8, 18});
    fdl_data_free(ds);

    int64_t many[1000]; /* more indices than fit the stack */
    for (int i = 0; i < 1000; i++)
        many[i] = i;
    ds = fdl_data_subset(fdl_data_repeat(numbers(0, 7), 1000), many, 1000);
    check_some(ds);
    {
        FDL_SCOPE;
        fdl_tensor *out[1];
        float got[1000];
        check_ok(fdl_data_fetch(ds, many, 1000, out));
        check_ok(fdl_to_f32(out[0], got, 1000));
        for (int i = 0; i < 1000; i++)
            assert_true(got[i] == (float)(i % 7));
    }
    fdl_data_free(ds);
    assert_int_equal(fdl_live_tensors(), before);
}

static void splitting(void **state)
{
    (void)state;
    fdl_dataset *a, *b, *again_a, *again_b;
    check_ok(fdl_data_split(numbers(0, 10), 0.7, 5, &a, &b));
    check_ok(fdl_data_split(numbers(0, 10), 0.7, 5, &again_a, &again_b));
    assert_int_equal(fdl_data_len(a), 7);
    assert_int_equal(fdl_data_len(b), 3);
    int seen[10] = {0};
    for (int64_t i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_tensor *out[1], *again[1];
        int64_t k = i < 7 ? i : i - 7;
        check_ok(fdl_data_fetch(i < 7 ? a : b, &k, 1, out));
        check_ok(fdl_data_fetch(i < 7 ? again_a : again_b, &k, 1, again));
        assert_true(fdl_same(out[0], again[0]));
        seen[(int)fdl_item(out[0])]++;
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(seen[i], 1);
    fdl_data_free(a);
    fdl_data_free(b);
    fdl_data_free(again_b);
    fdl_data_free(again_a);
    check_ok(fdl_data_split(numbers(0, 10), 0, 5, &a, &b)); /* any fraction, the ends too */
    assert_int_equal(fdl_data_len(a), 0);
    assert_int_equal(fdl_data_len(b), 10);
    fdl_data_free(a);
    fdl_data_free(b);
}

static fdl_dataset *bytes(void)
{
    FDL_SCOPE;
    fdl_tensor *x = fdl_from_u8(((uint8_t[]){0, 51, 102, 255}), FDL_SHAPE(4));
    return fdl_data_div(fdl_data_tensors(FDL_LIST(x)), 0, 255);
}

/* Divided positions, through every combination. */
static void division(void **state)
{
    (void)state;
    double expected[] = {51 / 255.0f, 1, 0, 102 / 255.0f}, one = 1;
    fdl_dataset *each[] = {
        bytes(),
        fdl_data_subset(bytes(), (int64_t[]){0, 1, 2, 3}, 4),
        fdl_data_repeat(bytes(), 4),
        fdl_data_concat(fdl_data_subset(bytes(), (int64_t[]){0, 1}, 2),
                        fdl_data_subset(bytes(), (int64_t[]){2, 3}, 2)),
        fdl_data_map(bytes(), times, &one),
        fdl_data_concat(bytes(), fdl_data_div(bytes(), 0, 2)), /* divided by different numbers */
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        check_some(each[i]);
        expect_samples(each[i], (int64_t[]){1, 3, 0, 2}, 4, expected);
        if (i == 5)
            expect_samples(each[i], (int64_t[]){3, 7}, 2, (double[]){1, 0.5});
        fdl_data_free(each[i]);
    }
}

static void refused(void **state)
{
    (void)state;
    fdl_dataset *a, *b;
    int64_t before = fdl_live_tensors(); /* what is refused is freed */
    assert_null(fdl_data_subset(numbers(0, 3), (int64_t[]){0, 3}, 2));
    check_error(FDL_E_RANGE, "index 3", "3 samples");
    assert_null(fdl_data_subset(numbers(0, 3), NULL, 2));
    check_error(FDL_E_NULL, "idx");
    assert_null(fdl_data_subset(numbers(0, 3), (int64_t[]){0}, -1));
    check_error(FDL_E_ARG, "-1");
    assert_null(fdl_data_repeat(numbers(0, 0), 5));
    check_error(FDL_E_ARG, "5 samples from 0");
    assert_null(fdl_data_repeat(numbers(0, 3), -1));
    check_error(FDL_E_ARG, "-1");
    assert_int_equal(fdl_data_split(numbers(0, 3), 1.5, 0, &a, &b), FDL_E_ARG);
    check_error(FDL_E_ARG, "1.5");
    assert_true(!a && !b);
    assert_int_equal(fdl_data_split(numbers(0, 3), NAN, 0, &a, &b), FDL_E_ARG);
    check_error(FDL_E_ARG, "nan");
    assert_int_equal(fdl_data_split(numbers(0, 3), 0.5, 0, NULL, &b), FDL_E_NULL);
    check_error(FDL_E_NULL, "part");
    assert_null(fdl_data_map(numbers(0, 3), NULL, NULL));
    check_error(FDL_E_NULL, "fn");
    assert_null(fdl_data_concat(numbers(0, 3), NULL, numbers(0, 3)));
    check_error(FDL_E_NULL, "one of the datasets");
    assert_null(fdl_data_concat(numbers(0, 3), fdl_data_fn(3, 3, three_positions, NULL)));
    check_error(FDL_E_SHAPE, "dataset 1", "3 tensors", "1");
    assert_null(fdl_data_concat_of(0, NULL));
    check_error(FDL_E_ARG, "0 datasets");
    assert_null(fdl_data_div(numbers(0, 3), 1, 255));
    check_error(FDL_E_RANGE, "position 1");
    assert_null(fdl_data_div(numbers(0, 3), 0, 0));
    check_error(FDL_E_ARG, "by is 0");
    assert_null(
        fdl_data_div(fdl_data_repeat(fdl_data_subset(NULL, NULL, 0), 3), 0, 2)); /* NULL passes through */
    check_error(FDL_E_NULL, "fdl_data_subset");
    assert_int_equal(fdl_live_tensors(), before);

    fdl_dataset *ds;
    {
        FDL_SCOPE;
        ds = fdl_data_concat(numbers(0, 3), fdl_data_tensors(FDL_LIST(fdl_zeros(FDL_SHAPE(3, 2)))));
        check_some(ds);
        fdl_tensor *out[1];
        check_ok(fdl_data_fetch(ds, (int64_t[]){0}, 1, out));
        assert_int_equal(fdl_data_fetch(ds, (int64_t[]){3}, 1, out), FDL_E_SHAPE);
        check_error(FDL_E_SHAPE, "float32[2]", "float32[]");
    }
    fdl_data_free(ds);
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(splitting),
        cmocka_unit_test(division),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests_name("combine", tests, NULL, NULL);
}
