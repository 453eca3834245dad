/* The generator: published outputs, the orders that follow from them, and distributions. */
#include "check.h"

#include <math.h>

static void outputs(void **state)
{
    (void)state;
    static const uint64_t zero[] = {0x53175d61490b23df, 0x61da6f3dc380d507, 0x5c0fdf91ec9a7bfc,
                                    0x02eebf8c3bbe5e1a};
    static const uint64_t answer[] = {0xd0764d4f4476689f, 0x519e4174576f3791, 0xfbe07cfb0c24ed8c,
                                      0xb37d9f600cd835b8};
    fdl_rng a = fdl_rng_seed(0), b = fdl_rng_seed(42);
    for (int i = 0; i < 4; i++) {
        assert_true(fdl_rng_u64(&a) == zero[i]);
        assert_true(fdl_rng_u64(&b) == answer[i]);
    }
    assert_true(fdl_rng_mix(42, 0, 0) == 0x6310bf04d8207f46);
    assert_true(fdl_rng_mix(42, 1, 0) == 0x93be8420bb55b94c);
}

static void fractions(void **state)
{
    (void)state;
    static const double expected[] = {0.8143051451229099, 0.3188210400616611, 0.9838941681774888};
    fdl_rng r = fdl_rng_seed(42), f = r;
    for (int i = 0; i < 3; i++) {
        assert_true(fdl_rng_f64(&r) == expected[i]);
        assert_true(fdl_rng_f32(&f) == (float)(floor(expected[i] * 0x1p24) * 0x1p-24));
    }
    static const double gauss[] = {-0.7689930538210061, -0.8684461074702454, -1.5109749830006707};
    r = fdl_rng_seed(42);
    for (int i = 0; i < 3; i++)
        assert_true(fabs(fdl_rng_normal(&r, 0, 1) - gauss[i]) < 1e-12);
}

static void bounded(void **state)
{
    (void)state;
    static const uint64_t expected[] = {8, 3, 9, 7, 7, 5, 1, 6, 2, 9, 5, 8};
    fdl_rng r = fdl_rng_seed(42);
    for (int i = 0; i < 12; i++)
        assert_true(fdl_rng_below(&r, 10) == expected[i]);

    fdl_rng before = r;
    assert_true(fdl_rng_below(&r, 0) == 0);
    check_error(FDL_E_ARG, "fdl_rng_below");
    assert_memory_equal(&before, &r, sizeof r);
    assert_true(fdl_rng_range(&r, 5, 5) == 5);
    check_error(FDL_E_ARG, "[5, 5)");

    /* 2^63 + 1 rejects almost every second draw: uniform over it, or the halves would differ */
    int64_t low = 0, n = 20000;
    uint64_t bound = (UINT64_C(1) << 63) + 1;
    for (int i = 0; i < n; i++) {
        uint64_t x = fdl_rng_below(&r, bound);
        assert_true(x < bound);
        low += x < bound / 2;
    }
    assert_true(llabs(low - n / 2) < 4 * 71); /* 4 sigma, sigma = sqrt(n / 4) */

    int64_t negative = 0;
    for (int i = 0; i < n; i++) {
        int64_t x = fdl_rng_range(&r, INT64_MIN, INT64_MAX);
        assert_true(x < INT64_MAX);
        negative += x < 0;
        x = fdl_rng_range(&r, -3, 2);
        assert_true(x >= -3 && x < 2);
    }
    assert_true(llabs(negative - n / 2) < 4 * 71);
}

static void chances(void **state)
{
    (void)state;
    fdl_rng r = fdl_rng_seed(7);
    int hits = 0;
    double sum = 0, squares = 0;
    for (int i = 0; i < 40000; i++) {
        assert_false(fdl_rng_bernoulli(&r, 0));
        assert_true(fdl_rng_bernoulli(&r, 1));
        hits += fdl_rng_bernoulli(&r, 0.25);
        double x = fdl_rng_normal(&r, 3, 2);
        sum += x;
        squares += (x - 3) * (x - 3);
    }
    assert_true(abs(hits - 10000) < 4 * 87);
    assert_true(fabs(sum / 40000 - 3) < 4 * 2 / 200.0);
    assert_true(fabs(squares / 40000 - 4) < 4 * 4 * sqrt(2) / 200.0);
}

static void orders(void **state)
{
    (void)state;
    static const int expected[] = {5, 3, 1, 0, 9, 6, 4, 7, 2, 8};
    int ten[10];
    int64_t perm[10];
    for (int i = 0; i < 10; i++)
        ten[i] = i;
    fdl_rng r = fdl_rng_seed(42), again = r;
    check_ok(fdl_rng_shuffle(&r, ten, 10, sizeof *ten));
    assert_memory_equal(ten, expected, sizeof ten);
    check_ok(fdl_rng_perm(&again, perm, 10));
    for (int i = 0; i < 10; i++)
        assert_true(perm[i] == expected[i]);

    /* elements larger than any buffer inside move whole */
    enum { SIZE = 1000 };
    char *large = malloc(10 * SIZE);
    assert_non_null(large);
    for (int i = 0; i < 10; i++)
        memset(large + i * SIZE, '0' + i, SIZE);
    r = fdl_rng_seed(42);
    check_ok(fdl_rng_shuffle(&r, large, 10, SIZE));
    for (int i = 0; i < 10 * SIZE; i++)
        assert_true(large[i] == '0' + expected[i / SIZE]);
    free(large);

    check_ok(fdl_rng_shuffle(&r, NULL, 0, 4));
    check_ok(fdl_rng_perm(&r, perm, 0));
    assert_true(fdl_rng_shuffle(&r, NULL, 3, 4) == FDL_E_NULL);
    check_error(FDL_E_NULL, "base");
    assert_true(fdl_rng_perm(&r, perm, -1) == FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");

    /* every position is equally likely for element 0: chi square with 9 degrees of freedom */
    int at[10] = {0};
    for (int trial = 0; trial < 10000; trial++) {
        check_ok(fdl_rng_perm(&r, perm, 10));
        for (int i = 0; i < 10; i++)
            at[i] += perm[i] == 0;
    }
    double chi = 0;
    for (int i = 0; i < 10; i++)
        chi += (at[i] - 1000) * (at[i] - 1000) / 1000.0;
    assert_true(chi < 33.7); /* p = 1e-4 */
}

static void streams(void **state)
{
    (void)state;
    fdl_rng parent = fdl_rng_seed(1), before = parent;
    fdl_rng a = fdl_rng_fork(&parent, 0), b = fdl_rng_fork(&parent, 1), c = fdl_rng_fork(&parent, 0);
    assert_memory_equal(&parent, &before, sizeof parent);
    assert_memory_equal(&a, &c, sizeof a);
    assert_memory_not_equal(&a, &b, sizeof a);
    fdl_rng_u64(&parent);
    fdl_rng d = fdl_rng_fork(&parent, 0);
    assert_memory_not_equal(&a, &d, sizeof a);
    fdl_rng x = fdl_rng_entropy(), y = fdl_rng_entropy();
    assert_memory_not_equal(&x, &y, sizeof x);
    fdl_rng copy = a;
    assert_true(fdl_rng_u64(&copy) == fdl_rng_u64(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs), cmocka_unit_test(fractions), cmocka_unit_test(bounded),
        cmocka_unit_test(chances), cmocka_unit_test(orders),    cmocka_unit_test(streams),
    };
    return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}
