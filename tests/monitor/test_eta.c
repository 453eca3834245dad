/* The time that remains, against values worked out by hand from the definition:
 *   e_1 = g_1;  e_n = a g_n + (1 - a) e_(n-1),  a = 2 / (min(n, 10) + 1), a quarter of it for n >= 4 and g_n
 * > 8 e_(n-1). */
#include "run.h"

#include <time.h>

static void assert_near(double is, double expected, double tolerance)
{
    if (!(fabs(is - expected) <= tolerance))
        fail_msg("%.9g, not %.9g", is, expected);
}

/* Seconds of an epoch, as the ETA sees them. */
static double mean(struct run *r, int64_t total, int64_t epochs)
{
    return fdl_monitor_eta(r->mon) / (double)(total - epochs);
}

static void from_the_start(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 100, .quiet = true);
    assert_true(isnan(fdl_monitor_eta(r.mon)));
    check_ok(run_epoch(&r, 0, 0.049, NULL));
    assert_near(fdl_monitor_eta(r.mon), 4.851, 1e-6);
    check_ok(run_epoch(&r, 1, 0.028, NULL));
    assert_near(fdl_monitor_eta(r.mon), 3.43, 1e-6);
    run_close(&r);

    run_open(&r, 100, .quiet = true);
    check_ok(run_epoch(&r, 0, 0.049, NULL));
    for (int e = 1; e < 10; e++)
        check_ok(run_epoch(&r, e, 0.025, NULL));
    assert_near(mean(&r, 100, 10), 0.0254364, 1e-7);
    assert_near(fdl_monitor_eta(r.mon), 2.289, 1e-3);
    run_close(&r);
}

/* What counts is the time between calls, not the duration that the caller gives. */
static void between_epochs(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 11, .quiet = true);
    for (int e = 0; e < 5; e++) {
        r.now += 3;
        check_ok(fdl_monitor_log(r.mon, e, 2.0));
    }
    assert_near(fdl_monitor_eta(r.mon), 6 * 3.0, 1e-6);
    run_close(&r);
}

static void resumed(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 100, .quiet = true);
    check_ok(run_epoch(&r, 50, 10, NULL));
    assert_near(fdl_monitor_eta(r.mon), 490, 1e-6);
    run_close(&r);

    run_open(&r, 100, .quiet = true);
    r.now += 1000; /* a long download */
    check_ok(fdl_monitor_begin(r.mon, 50));
    check_ok(run_epoch(&r, 50, 10, NULL));
    assert_near(fdl_monitor_eta(r.mon), 490, 1e-6);
    run_close(&r);

    run_open(&r, 100, .quiet = true);
    r.now += 1000;
    check_ok(fdl_monitor_progress(r.mon, 0, 10));
    r.now += 4;
    check_ok(fdl_monitor_progress(r.mon, 1, 10)); /* only the first one starts the time */
    check_ok(run_epoch(&r, 0, 6, NULL));
    assert_near(fdl_monitor_eta(r.mon), 990, 1e-6);
    run_close(&r);
}

static void stall(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1000, .quiet = true);
    int e = 0;
    for (; e < 19; e++)
        check_ok(run_epoch(&r, e, 1, NULL));
    check_ok(run_epoch(&r, e++, 60, NULL));
    assert_near(mean(&r, 1000, e), 1 + 59 * (2.0 / 11 / 4), 1e-6);
    assert_near(mean(&r, 1000, e), 3.68, 0.005);
    for (int i = 0; i < 10; i++)
        check_ok(run_epoch(&r, e++, 1, NULL));
    assert_near(mean(&r, 1000, e), 1.36, 0.005);
    run_close(&r);
}

static void change_of_speed(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1000, .quiet = true);
    int e = 0;
    for (; e < 20; e++)
        check_ok(run_epoch(&r, e, 1, NULL));
    check_ok(run_epoch(&r, e++, 0.5, NULL));
    assert_near(mean(&r, 1000, e), 0.909, 0.0005);
    check_ok(run_epoch(&r, e++, 0.5, NULL));
    assert_near(mean(&r, 1000, e), 0.835, 0.0015);
    for (int i = 2; i < 12; i++)
        check_ok(run_epoch(&r, e++, 0.5, NULL));
    assert_near(mean(&r, 1000, e), 0.5, 0.05);
    run_close(&r);
}

/* Only every tenth epoch is logged: ten of them passed. */
static void sparse(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 100, .quiet = true);
    check_ok(fdl_monitor_begin(r.mon, 0));
    for (int e = 9; e < 50; e += 10)
        check_ok(run_epoch(&r, e, 20, NULL));
    assert_near(fdl_monitor_eta(r.mon), 50 * 2.0, 1e-6);
    run_close(&r);
}

static void within_an_epoch(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 3, .quiet = true);
    check_ok(fdl_monitor_begin(r.mon, 0));
    check_ok(fdl_monitor_progress(r.mon, 0, 10));
    assert_true(isnan(fdl_monitor_eta(r.mon))); /* nothing to judge by */
    r.now += 2;
    check_ok(fdl_monitor_progress(r.mon, 2, 10)); /* a fifth took 2 s: the epoch takes 10, 3 of them 30 */
    assert_near(fdl_monitor_eta(r.mon), 28, 1e-6);
    r.now += 8;
    check_ok(fdl_monitor_progress(r.mon, 10, 10));
    assert_near(fdl_monitor_eta(r.mon), 20, 1e-6);
    check_ok(fdl_monitor_log(r.mon, 0, 10));
    assert_near(fdl_monitor_eta(r.mon), 20, 1e-6); /* no jump */

    /* The second epoch is half as slow again: at its end progress says what the log will say. */
    check_ok(fdl_monitor_begin(r.mon, 1));
    r.now += 7.5;
    check_ok(fdl_monitor_progress(r.mon, 5, 10));
    assert_near(fdl_monitor_eta(r.mon), (10 + 2.0 / 3 * 0.5 * 5) * 1.5, 1e-6);
    r.now += 7.5;
    check_ok(fdl_monitor_progress(r.mon, 10, 10));
    double at_the_end = fdl_monitor_eta(r.mon);
    check_ok(fdl_monitor_log(r.mon, 1, 15));
    assert_near(at_the_end, fdl_monitor_eta(r.mon), 1e-6);
    assert_near(fdl_monitor_eta(r.mon), 10 + 2.0 / 3 * 5, 1e-6);

    check_ok(fdl_monitor_progress(r.mon, 11, 10)); /* more than announced */
    assert_true(fdl_monitor_eta(r.mon) == 0);
    check_ok(fdl_monitor_progress(r.mon, 7, 0)); /* number of batches unknown */
    assert_near(fdl_monitor_eta(r.mon), 10 + 2.0 / 3 * 5, 1e-6);
    run_close(&r);
}

/* A clock that goes back, against its contract, gives no negative time. */
static void backwards(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 10, .quiet = true);
    r.now -= 100;
    check_ok(run_epoch(&r, 0, 0, NULL));
    assert_true(fdl_monitor_eta(r.mon) == 0);
    run_close(&r);
}

/* ---- the machine's clock -------------------------------------------------------------------------- */

static int64_t fake_monotonic = -1, fake_real; /* seconds; -1: not faked */

/* In front of libc's, for this program and the library. */
FDL_API int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (fake_monotonic < 0) {
        *t = (struct timespec){.tv_sec = time(NULL)};
        return 0;
    }
    *t = (struct timespec){.tv_sec = clock == CLOCK_MONOTONIC ? fake_monotonic : fake_real};
    return 0;
}

static void clock_set_back(void **state)
{
    (void)state;
    fake_monotonic = 5000;
    fake_real = 1700000000;
    fdl_monitor *mon = fdl_monitor_new(10, .quiet = true);
    check_some(mon);
    fake_monotonic += 10;
    fake_real += 10;
    check_ok(fdl_monitor_log(mon, 0, 10));
    assert_near(fdl_monitor_eta(mon), 90, 1e-6);
    fake_monotonic += 10;
    fake_real += 10 - 3600;
    check_ok(fdl_monitor_log(mon, 1, 10));
    assert_near(fdl_monitor_eta(mon), 80, 1e-6);
    fdl_monitor_free(mon);
    fake_monotonic = -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_the_start),  cmocka_unit_test(between_epochs),
        cmocka_unit_test(resumed),         cmocka_unit_test(stall),
        cmocka_unit_test(change_of_speed), cmocka_unit_test(sparse),
        cmocka_unit_test(within_an_epoch), cmocka_unit_test(backwards),
        cmocka_unit_test(clock_set_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
