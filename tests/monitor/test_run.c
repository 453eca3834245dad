/* What a monitor keeps, refuses and survives: the history, wrong calls, full disks, memory that runs out,
 * signals, threads. */
#include "run.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void history(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 3, .quiet = true);
    int64_t n = -1;
    assert_null(fdl_monitor_history(r.mon, &n));
    assert_int_equal(n, 0);
    char name[] = "loss";
    check_ok(run_epoch(&r, 0, 1.5, FDL_METRICS({name, 2}, {"lr", 0.1}, {name, 3})));
    strcpy(name, "gone"); /* the monitor has a copy */
    check_ok(run_epoch(&r, 7, NAN, NULL));
    check_ok(fdl_monitor_log(r.mon, 8, 2, .metrics = FDL_METRICS({"lr", NAN}), .samples = 10));
    check_ok(fdl_monitor_finish(r.mon));
    const fdl_monitor_record *all = fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, 3);
    assert_int_equal(all[0].epoch, 0);
    assert_true(all[0].seconds == 1.5);
    assert_int_equal(all[0].n_metrics, 2);
    assert_string_equal(all[0].metrics[0].name, "loss");
    assert_true(all[0].metrics[0].value == 3);
    assert_string_equal(all[0].metrics[1].name, "lr");
    assert_true(all[0].metrics[1].value == 0.1);
    assert_int_equal(all[1].epoch, 7);
    assert_true(isnan(all[1].seconds));
    assert_int_equal(all[1].n_metrics, 0);
    assert_int_equal(all[2].n_metrics, 2);
    assert_true(isnan(all[2].metrics[0].value));
    assert_string_equal(all[2].metrics[1].name, "samples/s");
    assert_true(all[2].metrics[1].value == 5);
    assert_ptr_equal(fdl_monitor_history(r.mon, NULL), all);
    run_close(&r);
}

/* A million epochs of five metrics take less than 200 MB, and each is still what it was. */
static void long_run(void **state)
{
    (void)state;
    enum { EPOCHS = 1000000 };
    struct run r;
    run_open(&r, EPOCHS, .quiet = true);
    struct mallinfo2 before = mallinfo2();
    for (int64_t e = 0; e < EPOCHS; e++) {
        double v = (double)e;
        check_ok(run_epoch(&r, e, 1, FDL_METRICS({"a", v}, {"b", -v}, {"c", 2 * v}, {"d", 1}, {"e", 0})));
    }
    struct mallinfo2 after = mallinfo2();
    int64_t taken = (int64_t)(after.uordblks + after.hblkhd) - (int64_t)(before.uordblks + before.hblkhd);
#ifndef SANITIZED
    assert_in_range(taken, 100000000, 200000000);
#else
    (void)taken;
#endif
    int64_t n;
    const fdl_monitor_record *all = fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, EPOCHS);
    for (int64_t e = 0; e < EPOCHS; e++) {
        if (all[e].epoch != e || all[e].n_metrics != 5 || all[e].metrics[1].value != -(double)e ||
            all[e].metrics[4].name != all[0].metrics[4].name)
            fail_msg("epoch %lld isn't what it was", (long long)e);
    }
    run_close(&r);
}

/* A program that makes a new name each epoch. */
static void many_names(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 0, .quiet = true);
    for (int e = 0; e < 20000; e++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d", e);
        check_ok(run_epoch(&r, e, 1, FDL_METRICS({name, e})));
    }
    const fdl_monitor_record *all = fdl_monitor_history(r.mon, NULL);
    for (int e = 0; e < 20000; e++) {
        char name[32];
        snprintf(name, sizeof name, "layer%d", e);
        assert_string_equal(all[e].metrics[0].name, name);
    }
    run_close(&r);
}

static void wrong_calls(void **state)
{
    (void)state;
    struct run r;
    assert_null(fdl_monitor_new(-1));
    check_error(FDL_E_ARG, "fdl_monitor_new", "-1", "0 (not known)");
    run_open(&r, 10);
    assert_int_equal(fdl_monitor_log(r.mon, -1, 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "epoch is -1", "the first one is 0");
    assert_int_equal(fdl_monitor_log(r.mon, INT64_MAX, 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "9223372036854775807");
    assert_int_equal(fdl_monitor_begin(r.mon, -5), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_monitor_begin", "-5");
    assert_int_equal(run_epoch(&r, 0, 1, FDL_METRICS({"a", 1}, {NULL, 2})), FDL_E_ARG);
    check_error(FDL_E_ARG, "metric 1", "NULL");
    assert_int_equal(run_epoch(&r, 0, 1, FDL_METRICS({"", 1})), FDL_E_ARG);
    check_error(FDL_E_ARG, "metric 0", "empty");
    assert_int_equal(fdl_monitor_progress(r.mon, 0, 1, .metrics = FDL_METRICS({"", 1})), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_monitor_progress", "empty");
    assert_int_equal(fdl_monitor_log(r.mon, 0, 1, .samples = -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "samples is -1");
    assert_int_equal(fdl_monitor_progress(r.mon, -1, 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "batch -1 of 1");
    assert_int_equal(fdl_monitor_progress(r.mon, 1, -2), FDL_E_ARG);
    check_error(FDL_E_ARG, "batch 1 of -2");
    fdl_metric many[FDL_MONITOR_MAX_METRICS + 2];
    for (int i = 0; i <= FDL_MONITOR_MAX_METRICS; i++)
        many[i] = (fdl_metric){"same", i};
    many[FDL_MONITOR_MAX_METRICS + 1] = (fdl_metric)FDL_METRIC_END;
    assert_int_equal(run_epoch(&r, 0, 1, many), FDL_E_ARG);
    check_error(FDL_E_ARG, "more than 256 metrics", "FDL_METRIC_END");

    /* None of these counted or was written. */
    int64_t n;
    fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, 0);
    assert_true(isnan(fdl_monitor_eta(r.mon)));
    assert_written(&r, "");
    many[FDL_MONITOR_MAX_METRICS] = (fdl_metric)FDL_METRIC_END;
    check_ok(fdl_monitor_log(r.mon, 0, 1, .metrics = many, .samples = 5));

    check_ok(fdl_monitor_finish(r.mon));
    assert_int_equal(fdl_monitor_log(r.mon, 1, 1), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_monitor_log", "finished");
    assert_int_equal(fdl_monitor_progress(r.mon, 1, 1), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_monitor_progress");
    assert_int_equal(fdl_monitor_begin(r.mon, 1), FDL_E_STATE);
    check_error(FDL_E_STATE, "fdl_monitor_begin");
    run_close(&r);
}

static void null_monitor(void **state)
{
    (void)state;
    int64_t n = 5;
    char text[16] = "x";
    assert_int_equal(fdl_monitor_log(NULL, 0, 1), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_log");
    assert_int_equal(fdl_monitor_progress(NULL, 0, 1), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_progress");
    assert_int_equal(fdl_monitor_begin(NULL, 0), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_begin");
    assert_int_equal(fdl_monitor_finish(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_finish");
    assert_int_equal(fdl_monitor_clear(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_clear");
    assert_int_equal(fdl_monitor_on_signal(NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_monitor_on_signal");
    assert_null(fdl_monitor_history(NULL, &n));
    assert_int_equal(n, 0);
    assert_true(isnan(fdl_monitor_eta(NULL)));
    assert_int_equal(fdl_monitor_signal(NULL), 0);
    assert_string_equal(fdl_monitor_summary(NULL, text, sizeof text), "");
    fdl_monitor_free(NULL);
    /* A pending error passes through. */
    fdl_monitor *none = fdl_monitor_new(-1);
    assert_int_equal(fdl_monitor_log(none, 0, 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "total_epochs");
    /* The plain functions take NULL for all defaults. */
    fdl_monitor *mon = fdl_monitor_new_opt(0, NULL);
    check_some(mon);
    fdl_monitor_free(mon);
}

static void summary(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1, .quiet = true);
    char text[160], cut[8];
    fdl_monitor_summary(r.mon, text, sizeof text);
    assert_non_null(strstr(text, "RSS: "));
    assert_non_null(strstr(text, "RAM: "));
    assert_true(strncmp(text, "CPU: ", 5) == 0 || strncmp(text, "RAM: ", 5) == 0);
    fdl_monitor_summary(r.mon, cut, sizeof cut);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_memory_equal(cut, text, sizeof cut - 1);
    run_close(&r);
}

static void disk_full(void **state)
{
    (void)state;
    FILE *full = fopen("/dev/full", "w");
    if (!full)
        skip();
    fdl_monitor *mon = fdl_monitor_new(2, .out = full);
    check_some(mon);
    assert_int_equal(fdl_monitor_log(mon, 0, 1), FDL_E_IO);
    check_error(FDL_E_IO, "fdl_monitor_log", strerror(ENOSPC));
    assert_int_equal(fdl_monitor_log(mon, 1, 1), FDL_E_IO);
    check_error(FDL_E_IO, strerror(ENOSPC));
    int64_t n;
    fdl_monitor_history(mon, &n);
    assert_int_equal(n, 2);
    assert_int_equal(fdl_monitor_finish(mon), FDL_E_IO);
    check_error(FDL_E_IO, "fdl_monitor_finish");
    fdl_monitor_free(mon);
    fclose(full);
}

/* ---- memory that runs out ------------------------------------------------------------------------- */

#if !defined(SANITIZED) && defined(__GLIBC__)
#define FAULTS 1
extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
static __thread int64_t fail_at = -1; /* this thread's allocation of that number, from 0, fails; -1: none */

static bool fails(void)
{
    if (fail_at < 0)
        return false;
    if (fail_at-- > 0)
        return false;
    errno = ENOMEM;
    return true;
}
FDL_API void *malloc(size_t n)
{
    return fails() ? NULL : __libc_malloc(n);
}
FDL_API void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}
FDL_API void *realloc(void *p, size_t n)
{
    return fails() ? NULL : __libc_realloc(p, n);
}

static void out_of_memory(void **state)
{
    (void)state;
    for (int at = 0; at < 2; at++) {
        fail_at = at;
        assert_null(fdl_monitor_new(1));
        fail_at = -1;
        check_error(FDL_E_OOM, "fdl_monitor_new");
    }
    static char name[5000];
    memset(name, 'n', sizeof name - 1);
    bool done = false;
    for (int at = 0; !done; at++) {
        assert_true(at < 20);
        FILE *out = tmpfile();
        assert_non_null(out);
        fdl_monitor *mon = fdl_monitor_new(3, .out = out);
        check_some(mon);
        check_ok(fdl_monitor_log(mon, 0, 1, .metrics = FDL_METRICS({"loss", 1})));
        for (int e = 1; e < 64; e++) /* the array of records is full now */
            check_ok(fdl_monitor_log(mon, e, 1));
        rewind(out);
        fail_at = at;
        fdl_status status =
            fdl_monitor_log(mon, 1, 1, .metrics = FDL_METRICS({"loss", 2}, {"new", 3}, {name, 4}));
        done = fail_at >= 0;
        fail_at = -1;
        int64_t n;
        const fdl_monitor_record *all = fdl_monitor_history(mon, &n);
        assert_string_equal(all[0].metrics[0].name, "loss");
        static char line[10000];
        rewind(out);
        assert_non_null(fgets(line, sizeof line, out));
        assert_memory_equal(line, "  epoch 2/3  loss=2.0000  new=3.0000  nnn", 40); /* written in any case */
        if (status == FDL_E_OOM) {
            check_error(FDL_E_OOM, "fdl_monitor_log", "64 epochs");
            assert_int_equal(n, 64);
        } else {
            check_ok(status);
            assert_int_equal(n, 65);
        }
        check_ok(fdl_monitor_log(mon, 2, 1, .metrics = FDL_METRICS({"loss", 2}, {"new", 3}, {name, 4})));
        fdl_monitor_free(mon);
        fclose(out);
    }
}
#endif

/* ---- signals ----------------------------------------------------------------------------------- */

static volatile sig_atomic_t own;
static void own_handler(int number)
{
    own = number;
}

static void signals(void **state)
{
    (void)state;
    struct sigaction mine = {.sa_handler = own_handler}, now;
    assert_int_equal(sigaction(SIGINT, &mine, NULL), 0);
    struct run r;
    run_open(&r, 10);
    check_ok(run_epoch(&r, 0, 1, FDL_METRICS({"loss", 1})));
    raise(SIGINT);
    assert_int_equal(own, SIGINT); /* without asking, nothing is caught */
    own = 0;
    check_ok(fdl_monitor_on_signal(r.mon));
    check_ok(fdl_monitor_on_signal(r.mon)); /* again: nothing */
    assert_int_equal(fdl_monitor_signal(r.mon), 0);
    fdl_monitor *other = fdl_monitor_new(1, .quiet = true);
    assert_int_equal(fdl_monitor_on_signal(other), FDL_E_STATE);
    check_error(FDL_E_STATE, "another monitor");
    check_ok(run_epoch(&r, 1, 1, FDL_METRICS({"loss", 1})));
    run_text(&r);
    raise(SIGINT);
    assert_int_equal(own, 0);
    assert_int_equal(fdl_monitor_signal(r.mon), SIGINT);
    assert_int_equal(fdl_monitor_signal(other), 0);
    check_ok(fdl_monitor_log(other, 0, 1));
    assert_int_equal(fdl_monitor_progress(r.mon, 1, 2), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "fdl_monitor_progress", "SIGINT");
    assert_int_equal(run_epoch(&r, 2, 1, FDL_METRICS({"loss", 0.5})), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "fdl_monitor_log", "SIGINT");
    check_ok(fdl_monitor_finish(r.mon));
    assert_written(&r, "  epoch  3/10  loss=0.5000  [1s  ETA 7s]\n"
                       "  training stopped by SIGINT after 3s  | loss: 0.5000\n");
    int64_t n;
    fdl_monitor_history(r.mon, &n);
    assert_int_equal(n, 3);
    run_close(&r);
    assert_int_equal(sigaction(SIGINT, NULL, &now), 0);
    assert_true(now.sa_handler == own_handler); /* what was there before */
    check_ok(fdl_monitor_on_signal(other));     /* free again */
    raise(SIGTERM);
    assert_int_equal(fdl_monitor_signal(other), SIGTERM);
    fdl_monitor_free(other);
    signal(SIGINT, SIG_DFL);
}

/* What the shell told the program to ignore stays ignored; a second signal of a kind ends the process. */
static void signals_of_the_shell(void **state)
{
    (void)state;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGINT, SIG_IGN);
        fdl_monitor *mon = fdl_monitor_new(1, .quiet = true);
        if (!mon || fdl_monitor_on_signal(mon) != FDL_OK)
            _exit(2);
        raise(SIGINT);
        raise(SIGINT);
        if (fdl_monitor_signal(mon) != 0)
            _exit(3);
        raise(SIGTERM);
        if (fdl_monitor_signal(mon) != SIGTERM)
            _exit(4);
        raise(SIGTERM);
        _exit(5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
}

/* ---- threads ----------------------------------------------------------------------------------- */

static void *own_run(void *out)
{
    fdl_monitor *mon = fdl_monitor_new(200, .out = out);
    for (int e = 0; mon && e < 200; e++) {
        fdl_status status = fdl_monitor_progress(mon, 1, 2);
        if (status == FDL_OK)
            status = fdl_monitor_log(mon, e, 0.5, .metrics = FDL_METRICS({"loss", e}, {"accuracy", 1}));
        if (status != FDL_OK)
            return NULL;
    }
    if (mon && fdl_monitor_finish(mon) != FDL_OK)
        return NULL;
    fdl_monitor_free(mon);
    return mon ? out : NULL;
}

/* A monitor each, on one stream: whole lines. */
static void threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    FILE *out = tmpfile();
    assert_non_null(out);
    pthread_t ids[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, own_run, out), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(ids[i], &result), 0);
        assert_non_null(result);
    }
    rewind(out);
    char line[256];
    int lines = 0;
    for (; fgets(line, sizeof line, out); lines++) {
        int epoch, loss;
        if (strncmp(line, "  training complete in ", 23) == 0)
            continue;
        assert_int_equal(sscanf(line, "  epoch %d/200  loss=%d", &epoch, &loss), 2);
        assert_int_equal(loss, epoch - 1);
        const char *end = strstr(line, "  accuracy=1.0000  [500ms");
        assert_non_null(end);
        assert_true(end[strlen(end) - 2] == ']');
    }
    assert_int_equal(lines, THREADS * 201);
    fclose(out);
}

/* A call that writes nothing, in nanoseconds: printed, and only a gross mistake fails. */
static void cost(void **state)
{
    (void)state;
    fdl_monitor *mon = fdl_monitor_new(1, .quiet = true);
    enum { CALLS = 200000 };
    double begun = fdl_now();
    for (int i = 0; i < CALLS; i++)
        check_ok(fdl_monitor_progress(mon, i, CALLS, .metrics = FDL_METRICS({"loss", i}, {"accuracy", 1})));
    double each = (fdl_now() - begun) / CALLS;
    print_message("a progress call that writes nothing: %.0f ns\n", each * 1e9);
    assert_true(each < 1e-4);
    fdl_monitor_free(mon);
    static char names[100][24];
    fdl_metric many[101];
    for (int i = 0; i < 100; i++) {
        snprintf(names[i], sizeof names[i], "metric_%d", i);
        many[i] = (fdl_metric){names[i], i};
    }
    many[100] = (fdl_metric)FDL_METRIC_END;
    FILE *out = fopen("/dev/null", "w");
    assert_non_null(out);
    mon = fdl_monitor_new(200, .out = out, .resources = true);
    begun = fdl_now();
    for (int e = 0; e < 200; e++)
        check_ok(fdl_monitor_log(mon, e, 1, .metrics = many));
    each = (fdl_now() - begun) / 200;
    print_message("a log call with 100 metrics: %.0f us\n", each * 1e6);
    assert_true(each < 0.05);
    fdl_monitor_free(mon);
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history),       cmocka_unit_test(long_run),
        cmocka_unit_test(many_names),    cmocka_unit_test(wrong_calls),
        cmocka_unit_test(null_monitor),  cmocka_unit_test(summary),
        cmocka_unit_test(disk_full),
#ifdef FAULTS
        cmocka_unit_test(out_of_memory),
#endif
        cmocka_unit_test(signals),       cmocka_unit_test(signals_of_the_shell),
        cmocka_unit_test(threads),       cmocka_unit_test(cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
