/* Trends: every question over rows of numbers, against values of numpy and pandas. */
#include "check.h"

#include "flodl/trend.h"

#include <math.h>

/* A trend of these numbers, in the test's scope. */
#define trend(...) \
    fdl_trend_of((int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (const double[]){__VA_ARGS__})

static void falling_line(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(10, 8, 6, 4, 2);
    check_some(t);
    assert_int_equal(fdl_trend_len(t), 5);
    check_number(fdl_trend_slope(t, 0), -2, 0);
    check_number(fdl_trend_mean(t), 6, 0);
    check_number(fdl_trend_min(t), 2, 0);
    check_number(fdl_trend_max(t), 10, 0);
    check_number(fdl_trend_latest(t), 2, 0);
    assert_true(fdl_trend_improving(t, 0));
    assert_false(fdl_trend_stalled(t, 0, 0.1));
    assert_false(fdl_trend_stalled(t, 0, 2)); /* smaller than, not up to */
    assert_true(fdl_trend_stalled(t, 0, 2.001));
    const double *values = fdl_trend_values(t);
    check_number(values[0], 10, 0);
    check_number(values[4], 2, 0);
}

static void windows(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(1, 5, 10, 8, 6);
    check_number(fdl_trend_slope(t, 0), 1.3, 1e-15);
    check_number(fdl_trend_slope(t, 3), -2, 1e-15);
    check_number(fdl_trend_slope(t, 100), fdl_trend_slope(t, 0), 0);
    check_number(fdl_trend_slope(t, -1), fdl_trend_slope(t, 0), 0);
    check_number(fdl_trend_slope(t, 1), 0, 0);
    assert_false(fdl_trend_improving(t, 0));
    assert_true(fdl_trend_improving(t, 3));
    int64_t n = -1;
    assert_null(fdl_trend_last(t, 0, &n));
    assert_int_equal(n, 0);
    const double *two = fdl_trend_last(t, 2, &n);
    assert_int_equal(n, 2);
    check_number(two[0], 8, 0);
    check_number(two[1], 6, 0);
    check_number(fdl_trend_last(t, 6, &n)[0], 1, 0);
    assert_int_equal(n, 5);
    check_number(fdl_trend_last(t, 1, NULL)[0], 6, 0);
}

static void variance_says_converged(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(5, 5.01, 4.99, 5, 5.01);
    check_number(fdl_trend_variance(t, 0), 5.6e-5, 1e-15);
    assert_true(fdl_trend_converged(t, 0, 1e-3));
    assert_false(fdl_trend_converged(t, 0, 1e-5));
    assert_true(fdl_trend_stalled(t, 0, 0.01));
}

static void a_large_level_loses_no_slope(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* 2^40 + 0, 1/4, 2/4, ...: each exact, and so the mean; squares of them aren't */
    double y[8];
    for (int i = 0; i < 8; i++)
        y[i] = 0x1p40 + 0.25 * i;
    const fdl_trend *t = fdl_trend_of(8, y);
    check_number(fdl_trend_slope(t, 0), 0.25, 1e-15);
    check_number(fdl_trend_variance(t, 0), 0.0625 * 5.25, 1e-12);
}

static void none_or_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *none[] = {fdl_trend_of(0, NULL), NULL};
    check_some(none[0]);
    for (int i = 0; i < 2; i++) {
        const fdl_trend *t = none[i];
        int64_t n = -1;
        assert_int_equal(fdl_trend_len(t), 0);
        assert_null(fdl_trend_values(t));
        assert_null(fdl_trend_last(t, 3, &n));
        assert_int_equal(n, 0);
        check_number(fdl_trend_latest(t), 0, 0);
        check_number(fdl_trend_mean(t), 0, 0);
        check_number(fdl_trend_min(t), INFINITY, 0);
        check_number(fdl_trend_max(t), -INFINITY, 0);
        check_number(fdl_trend_slope(t, 0), 0, 0);
        check_number(fdl_trend_variance(t, 0), 0, 0);
        check_number(fdl_trend_median(t, 0), 0, 0);
        check_number(fdl_trend_ema(t, 0.5), 0, 0);
        check_ok(fdl_trend_smooth(t, 0.5, NULL));
        check_number(fdl_trend_best(t, 0), INFINITY, 0);
        check_number(fdl_trend_best(t, 0, .highest = true), -INFINITY, 0);
        assert_int_equal(fdl_trend_since_best(t, 0), 0);
        assert_false(fdl_trend_improving(t, 0));
        assert_false(fdl_trend_stalled(t, 0, 1));
        assert_false(fdl_trend_converged(t, 0, 1));
    }
    const fdl_trend *one = trend(3.5);
    check_number(fdl_trend_latest(one), 3.5, 0);
    check_number(fdl_trend_slope(one, 0), 0, 0);
    check_number(fdl_trend_min(one), 3.5, 0);
    check_number(fdl_trend_max(one), 3.5, 0);
    assert_false(fdl_trend_stalled(one, 0, 1));
    assert_false(fdl_trend_converged(one, 0, 1));
    /* two points in the window are enough, and one isn't however many there are */
    const fdl_trend *two = trend(3.5, 3.5);
    assert_true(fdl_trend_stalled(two, 0, 1e-9));
    assert_true(fdl_trend_converged(two, 0, 1e-9));
    assert_false(fdl_trend_stalled(two, 1, 1e-9));
    assert_false(fdl_trend_converged(two, 1, 1e-9));
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

static void not_a_number(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(3, NAN, 2, 1);
    assert_true(isnan(fdl_trend_slope(t, 0)));
    assert_true(isnan(fdl_trend_variance(t, 0)));
    assert_true(isnan(fdl_trend_mean(t)));
    assert_true(isnan(fdl_trend_median(t, 0)));
    assert_true(isnan(fdl_trend_ema(t, 0.5)));
    assert_false(fdl_trend_improving(t, 0));
    assert_false(fdl_trend_stalled(t, 0, 1e300));
    assert_false(fdl_trend_converged(t, 0, 1e300));
    const fdl_trends *ts = fdl_trends_of(1, &t);
    assert_false(fdl_trends_all_improving(ts, 0) || fdl_trends_any_improving(ts, 0));
    assert_false(fdl_trends_all_stalled(ts, 0, 1e300) || fdl_trends_any_stalled(ts, 0, 1e300));
    assert_false(fdl_trends_all_converged(ts, 0, 1e300) || fdl_trends_any_converged(ts, 0, 1e300));
    /* outside the window it counts for nothing */
    assert_true(fdl_trend_improving(t, 2));
    check_number(fdl_trend_slope(t, 2), -1, 0);
    /* the best point is a number */
    check_number(fdl_trend_min(t), 1, 0);
    check_number(fdl_trend_max(t), 3, 0);
    assert_int_equal(fdl_trend_since_best(t, 0, .highest = true), 3);
    assert_int_equal(fdl_trend_since_best(trend(NAN, NAN), 0), 2);
    /* infinities make no line either */
    assert_false(fdl_trend_improving(trend(INFINITY, 1, 0), 0));
    assert_false(fdl_trend_stalled(trend(1, INFINITY, 1), 0, 1));
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

/* numpy 2.4: polyfit, var, percentile; pandas 3: ewm(alpha=0.3, adjust=False).mean(). */
static void as_numpy_and_pandas(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(3.5, -1.25, 7, 0.5, 2, 2, -4, 11);
    static const struct {
        int64_t w;
        double slope, variance, percentiles[6];
    } rows[] = {{0, 0.3005952380952381, 19.2802734375, {-4, -2.075, 1.4375, 2, 8.2, 11}},
                {5, 1.5, 23.76, {-4, -2.2, 1.25, 2, 7.4, 11}},
                {4, 2.1, 28.6875, {-4, -2.2, 2, 2, 8.3, 11}}};
    static const double p[] = {0, 10, 37.5, 50, 90, 100};
    for (int i = 0; i < 3; i++) {
        check_number(fdl_trend_slope(t, rows[i].w), rows[i].slope, 1e-14);
        check_number(fdl_trend_variance(t, rows[i].w), rows[i].variance, 1e-13);
        for (int k = 0; k < 6; k++)
            check_number(fdl_trend_percentile(t, rows[i].w, p[k]), rows[i].percentiles[k], 1e-14);
        check_number(fdl_trend_median(t, rows[i].w), rows[i].percentiles[3], 0);
    }
    check_number(fdl_trend_median(trend(4, 1), 0), 2.5, 0);
    check_number(fdl_trend_median(trend(INFINITY, 1, INFINITY), 0), INFINITY, 0);
    static const double smooth[] = {3.5,      2.075,     3.5525,     2.63675,
                                    2.445725, 2.3120075, 0.41840525, 3.592883675};
    double got[8];
    check_ok(fdl_trend_smooth(t, 0.3, got));
    for (int i = 0; i < 8; i++)
        check_number(got[i], smooth[i], 1e-14);
    check_number(fdl_trend_ema(t, 0.3), smooth[7], 1e-14);
    check_number(fdl_trend_ema(t, 1), 11, 0);
}

static void best_points_and_patience(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *t = trend(5, 3, 4, 2.95, 3, 6);
    check_number(fdl_trend_best(t, 0), 2.95, 0);
    assert_int_equal(fdl_trend_since_best(t, 0), 2);
    /* 2.95 is no news where 0.1 must be gained: 3 stays the best */
    check_number(fdl_trend_best(t, 0, .min_delta = 0.1), 3, 0);
    assert_int_equal(fdl_trend_since_best(t, 0, .min_delta = 0.1), 4);
    check_number(fdl_trend_best(t, 2), 3, 0);
    assert_int_equal(fdl_trend_since_best(t, 2), 1);
    check_number(fdl_trend_best(t, 0, .highest = true), 6, 0);
    assert_int_equal(fdl_trend_since_best(t, 0, .highest = true), 0);
    check_number(fdl_trend_best(t, 0, .highest = true, .min_delta = 1), 5, 0);
    /* an equal one later isn't better */
    assert_int_equal(fdl_trend_since_best(trend(1, 1, 1), 0), 2);
}

static void groups(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_trend *two[] = {trend(4, 2, 0), trend(1, 2, 3)};
    const fdl_trends *ts = fdl_trends_of(2, two);
    check_some(ts);
    assert_int_equal(fdl_trends_len(ts), 2);
    assert_ptr_equal(fdl_trends_at(ts, 1), two[1]);
    assert_false(fdl_trends_all_improving(ts, 0));
    assert_true(fdl_trends_any_improving(ts, 0));
    check_number(fdl_trends_mean_slope(ts, 0), -0.5, 0);
    double slopes[2];
    check_ok(fdl_trends_slopes(ts, 0, slopes));
    check_number(slopes[0], -2, 0);
    check_number(slopes[1], 1, 0);
    assert_true(fdl_trends_any_stalled(ts, 0, 1.5));
    assert_false(fdl_trends_all_stalled(ts, 0, 1.5));
    assert_true(fdl_trends_all_stalled(ts, 0, 2.5));
    assert_true(fdl_trends_any_converged(ts, 0, 1)); /* 2/3 and 8/3 */
    assert_false(fdl_trends_all_converged(ts, 0, 1));
    assert_true(fdl_trends_all_converged(ts, 0, 3));
    assert_true(fdl_trends_all_improving(fdl_trends_of(1, two), 0));

    const fdl_trends *none[] = {fdl_trends_of(0, NULL), NULL};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fdl_trends_len(none[i]), 0);
        assert_false(fdl_trends_all_improving(none[i], 0) || fdl_trends_any_improving(none[i], 0));
        assert_false(fdl_trends_all_stalled(none[i], 0, 1) || fdl_trends_any_stalled(none[i], 0, 1));
        assert_false(fdl_trends_all_converged(none[i], 0, 1) || fdl_trends_any_converged(none[i], 0, 1));
        check_number(fdl_trends_mean_slope(none[i], 0), 0, 0);
        check_ok(fdl_trends_slopes(none[i], 0, NULL));
    }
}

static void what_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_null(fdl_trend_of(-1, (double[]){1}));
    check_error(FDL_E_ARG, "fdl_trend_of", "-1");
    assert_null(fdl_trend_of(1, NULL));
    check_error(FDL_E_NULL, "fdl_trend_of", "values");
    assert_null(fdl_trend_of(INT64_MAX, (double[]){1}));
    check_error(FDL_E_OOM, "fdl_trend_of");
    const fdl_trend *t = trend(1, 2);
    static const double alphas[] = {0, -1, 1.001, (double)NAN};
    for (int i = 0; i < 4; i++) {
        assert_true(isnan(fdl_trend_ema(t, alphas[i])));
        check_error(FDL_E_ARG, "fdl_trend_ema", "alpha");
        double out[2] = {7, 7};
        assert_int_equal(fdl_trend_smooth(t, alphas[i], out), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_trend_smooth");
        check_number(out[0], 7, 0);
    }
    assert_int_equal(fdl_trend_smooth(t, 0.5, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "out");
    assert_true(isnan(fdl_trend_percentile(t, 0, 101)));
    check_error(FDL_E_ARG, "101", "0 to 100");
    assert_true(isnan(fdl_trend_percentile(t, 0, NAN)));
    check_error(FDL_E_ARG, "fdl_trend_percentile");
    assert_null(fdl_trends_of(-2, &t));
    check_error(FDL_E_ARG, "fdl_trends_of", "-2");
    assert_null(fdl_trends_of(1, NULL));
    check_error(FDL_E_NULL, "trends");
    const fdl_trends *ts = fdl_trends_of(1, &t);
    assert_null(fdl_trends_at(ts, 1));
    check_error(FDL_E_RANGE, "trend 1 of 1");
    assert_null(fdl_trends_at(ts, -1));
    check_error(FDL_E_RANGE, "trend -1 of 1");
    assert_int_equal(fdl_trends_slopes(ts, 0, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "out");
}

static void a_trend_copies_its_values(void **state)
{
    (void)state;
    FDL_SCOPE;
    double values[] = {1, 2};
    const fdl_trend *t = fdl_trend_of(2, values);
    values[1] = 9;
    check_number(fdl_trend_latest(t), 2, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(falling_line),
                                       cmocka_unit_test(windows),
                                       cmocka_unit_test(variance_says_converged),
                                       cmocka_unit_test(a_large_level_loses_no_slope),
                                       cmocka_unit_test(none_or_one),
                                       cmocka_unit_test(not_a_number),
                                       cmocka_unit_test(as_numpy_and_pandas),
                                       cmocka_unit_test(best_points_and_patience),
                                       cmocka_unit_test(groups),
                                       cmocka_unit_test(what_is_refused),
                                       cmocka_unit_test(a_trend_copies_its_values)};
    return cmocka_run_group_tests_name("graph trend", tests, NULL, NULL);
}
