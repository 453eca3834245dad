/* Samplers: golden orders, permutations, weights. */
#include "check.h"

#include <math.h>

static void check_order(int64_t n, uint64_t seed, int64_t epoch, const int64_t *expected, int64_t k)
{
    fdl_sampler *s = fdl_data_sampler_random(n, seed);
    check_some(s);
    assert_int_equal(fdl_data_sampler_len(s), n);
    int64_t *order = malloc((size_t)(n + 1) * sizeof *order);
    assert_non_null(order);
    check_ok(fdl_data_sampler_order(s, epoch, order));
    for (int64_t i = 0; i < k; i++)
        assert_int_equal(order[i], expected[i]);
    char *seen = calloc((size_t)n + 1, 1);
    assert_non_null(seen);
    for (int64_t i = 0; i < n; i++) {
        assert_true(order[i] >= 0 && order[i] < n);
        assert_int_equal(seen[order[i]]++, 0);
    }
    free(seen);
    free(order);
    fdl_data_sampler_free(s);
}

static void golden(void **state)
{
    (void)state;
    check_order(10, 42, 0, (int64_t[]){3, 1, 8, 6, 5, 0, 4, 9, 7, 2}, 10);
    check_order(10, 42, 1, (int64_t[]){9, 3, 6, 7, 1, 8, 0, 2, 5, 4}, 10);
    check_order(10, 42, 2, (int64_t[]){0, 7, 5, 4, 9, 3, 8, 2, 1, 6}, 10);
    check_order(10, 43, 0, (int64_t[]){4, 2, 8, 7, 5, 6, 0, 9, 3, 1}, 10);
    check_order(60000, 42, 0, (int64_t[]){16845, 22438, 42925, 42, 10293, 29726, 40839, 41177}, 8);
    check_order(1, 42, 7, (int64_t[]){0}, 1);
    check_order(0, 42, 7, NULL, 0);
}

static void golden_hash(void **state)
{
    (void)state;
    static int64_t order[60000];
    fdl_sampler *s = fdl_data_sampler_random(60000, 42);
    check_some(s);
    check_ok(fdl_data_sampler_order(s, 0, order));
    uint64_t hash = UINT64_C(1469598103934665603);
    for (int i = 0; i < 60000; i++)
        for (int b = 0; b < 8; b++)
            hash = (hash ^ ((uint64_t)order[i] >> 8 * b & 255)) * UINT64_C(1099511628211);
    assert_true(hash == UINT64_C(0x510f041a9e2f5a57));
    fdl_data_sampler_free(s);
}

static void different(void **state)
{
    (void)state;
    static const struct {
        uint64_t seed;
        int64_t epoch;
    } runs[] = {{42, 0}, {42, 1}, {43, 0}, {99, 0}, {42, 0}};
    int64_t order[5][100];
    for (int i = 0; i < 5; i++) {
        fdl_sampler *s = fdl_data_sampler_random(100, runs[i].seed);
        check_some(s);
        check_ok(fdl_data_sampler_order(s, runs[i].epoch, order[i]));
        fdl_data_sampler_free(s);
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(order[i], order[j], sizeof order[i]);
    assert_memory_equal(order[0], order[4], sizeof order[0]);
}

static void sequential(void **state)
{
    (void)state;
    for (int64_t n = 0; n < 6; n++) {
        fdl_sampler *s = fdl_data_sampler_sequential(n);
        check_some(s);
        for (int epoch = 0; epoch <= 10; epoch += 10) {
            int64_t order[5];
            check_ok(fdl_data_sampler_order(s, epoch, order));
            for (int64_t i = 0; i < n; i++)
                assert_int_equal(order[i], i);
        }
        fdl_data_sampler_free(s);
    }
}

static void weighted(void **state)
{
    (void)state;
    static int64_t order[10000];
    fdl_sampler *s = fdl_data_sampler_weighted((double[]){0, 1, 0}, 3, 10000, 5);
    check_some(s);
    check_ok(fdl_data_sampler_order(s, 0, order));
    for (int i = 0; i < 10000; i++)
        assert_int_equal(order[i], 1);
    fdl_data_sampler_free(s);
    s = fdl_data_sampler_weighted((double[]){1, 3}, 2, 10000, 5);
    check_some(s);
    for (int epoch = 0; epoch < 3; epoch++) {
        check_ok(fdl_data_sampler_order(s, epoch, order));
        int ones = 0;
        for (int i = 0; i < 10000; i++)
            ones += order[i] == 1;
        assert_true(abs(ones - 7500) < 3 * 43.3); /* 3 sigma, sigma = sqrt(10000 * 0.25 * 0.75) */
    }
    fdl_data_sampler_free(s);
    assert_null(fdl_data_sampler_weighted((double[]){1, -1}, 2, 1, 0));
    check_error(FDL_E_ARG, "weight 1", "-1");
    assert_null(fdl_data_sampler_weighted((double[]){1, NAN}, 2, 1, 0));
    check_error(FDL_E_ARG, "weight 1");
    assert_null(fdl_data_sampler_weighted((double[]){0, 0}, 2, 1, 0));
    check_error(FDL_E_ARG, "add up to 0");
    assert_null(fdl_data_sampler_weighted((double[]){1}, 1, -1, 0));
    check_error(FDL_E_ARG, "-1 draws");
    assert_null(fdl_data_sampler_weighted((double[]){1}, 0, 1, 0));
    check_error(FDL_E_ARG, "0 weights");
    assert_null(fdl_data_sampler_weighted(NULL, 1, 1, 0));
    check_error(FDL_E_NULL, "w");
}

static int freed;
static int64_t negative(void *self)
{
    (void)self;
    return -3;
}
static fdl_status no_order(void *self, int64_t epoch, int64_t *out)
{
    (void)self;
    (void)epoch;
    (void)out;
    return FDL_E_STATE;
}
static void count_free(void *self)
{
    (void)self;
    freed++;
}
static int64_t two(void *self)
{
    (void)self;
    return 2;
}

static void wrong(void **state)
{
    (void)state;
    freed = 0;
    assert_null(fdl_data_sampler_new(&(fdl_sampler_vtab){negative, no_order, count_free}, NULL));
    check_error(FDL_E_ARG, "-3");
    assert_null(fdl_data_sampler_new(&(fdl_sampler_vtab){two, NULL, count_free}, NULL));
    check_error(FDL_E_NULL, "order");
    assert_int_equal(freed, 2);
    assert_null(fdl_data_sampler_new(NULL, NULL));
    check_error(FDL_E_NULL, "table");
    assert_null(fdl_data_sampler_random(-1, 0));
    check_error(FDL_E_ARG, "-1");
    fdl_sampler *s = fdl_data_sampler_new(&(fdl_sampler_vtab){two, no_order, count_free}, NULL);
    check_some(s);
    int64_t out[2];
    assert_int_equal(fdl_data_sampler_order(s, 0, out), FDL_E_STATE);
    check_error(FDL_E_STATE, "FDL_E_STATE"); /* told even where the callback said nothing */
    assert_int_equal(fdl_data_sampler_order(s, -1, out), FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");
    assert_int_equal(fdl_data_sampler_order(s, 0, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "out");
    fdl_data_sampler_free(s);
    fdl_data_sampler_free(NULL);
    assert_int_equal(freed, 3);
    assert_int_equal(fdl_data_sampler_len(NULL), -1);
    check_error(FDL_E_NULL, "s is NULL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),     cmocka_unit_test(golden_hash), cmocka_unit_test(different),
        cmocka_unit_test(sequential), cmocka_unit_test(weighted),    cmocka_unit_test(wrong),
    };
    return cmocka_run_group_tests_name("sampler", tests, NULL, NULL);
}
