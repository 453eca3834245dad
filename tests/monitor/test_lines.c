/* The lines that a monitor writes where there is no terminal. */
#include "run.h"

/* The example of the documentation, digit by digit. */
static void golden(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 100);
    double begun = r.now;
    check_ok(run_epoch(&r, 0, 0.049, FDL_METRICS({"loss", 1.5264})));
    assert_written(&r, "  epoch   1/100  loss=1.5264  [49ms  ETA 4.8s]\n");
    for (int e = 1; e < 9; e++)
        check_ok(run_epoch(&r, e, 0.025, NULL));
    run_text(&r);
    check_ok(run_epoch(&r, 9, 0.025, FDL_METRICS({"loss", 0.3817})));
    assert_written(&r, "  epoch  10/100  loss=0.3817  [25ms  ETA 2.2s]\n");
    for (int e = 10; e < 99; e++)
        check_ok(run_epoch(&r, e, 0.023, NULL));
    run_text(&r);
    check_ok(run_epoch(&r, 99, 0.023, FDL_METRICS({"loss", 0.0012})));
    assert_written(&r, "  epoch 100/100  loss=0.0012  [23ms]\n");
    r.now = begun + 2.8;
    check_ok(fdl_monitor_finish(r.mon));
    assert_written(&r, "  training complete in 2.8s  | loss: 0.0012\n");
    check_ok(fdl_monitor_finish(r.mon)); /* once */
    assert_written(&r, "");
    run_close(&r);
}

static void widths(void **state)
{
    (void)state;
    static const struct {
        int64_t total;
        const char *line;
    } rows[] = {
        {9, "  epoch 3/9  [2s]\n"},
        {10, "  epoch  3/10  [2s]\n"},
        {1000, "  epoch    3/1000  [2s]\n"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r;
        run_open(&r, rows[i].total);
        check_ok(run_epoch(&r, 2, 2, NULL));
        fflush(r.out);
        char *eta = strstr(r.text, "  ETA");
        assert_non_null(eta);
        strcpy(eta, "]\n"); /* its value is for another test */
        assert_string_equal(r.text, rows[i].line);
        run_close(&r);
    }
}

static void metrics(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 2);
    check_ok(run_epoch(&r, 1, 1.5, NULL));
    assert_written(&r, "  epoch 2/2  [1.5s]\n");
    check_ok(run_epoch(&r, 1, 1.5,
                       FDL_METRICS({"loss", 0}, {"lr", 1e-4}, {"a=b", NAN}, {"with space", -INFINITY},
                                   {"Pr\u00e4zision \u51c6", 12345.678})));
    assert_written(&r, "  epoch 2/2  loss=0  lr=1.00e-4  a=b=nan  with space=-inf  "
                       "Pr\u00e4zision \u51c6=12345.68  [1.5s]\n");
    /* The later value at the first one's place. */
    check_ok(run_epoch(&r, 1, 1.5, FDL_METRICS({"loss", 1}, {"lr", 2}, {"loss", 3}, {"lr", 4}, {"loss", 5})));
    assert_written(&r, "  epoch 2/2  loss=5.0000  lr=4.0000  [1.5s]\n");
    check_ok(fdl_monitor_finish(r.mon));
    assert_written(&r, "  training complete in 4.5s  | loss: 5.0000  | lr: 4.0000\n");
    run_close(&r);
}

/* A name must not be able to move the cursor, end the line or change a colour. */
static void hostile_names(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1);
    static const struct {
        const char *name, *shown;
    } rows[] = {
        {"a\nb", "a?b"},
        {"\033[2J", "?[2J"},
        {"\r", "?"},
        {"\x7f", "?"},
        {"\xc2\x9b"
         "31m",
         "?31m"}, /* CSI as one C1 character */
        {"\x9b"
         "31m",
         "?31m"},                     /* the same as a bare byte */
        {"\xe2\x80\xa8x", "?x"},      /* line separator */
        {"\xff\xfe", "??"},           /* no UTF-8 */
        {"\xc0\xaf", "??"},           /* overlong */
        {"\xe0\x82\x9b", "???"},      /* CSI again, in three bytes */
        {"\xed\xa0\x80", "???"},      /* a surrogate */
        {"\xf4\x90\x80\x80", "????"}, /* above U+10FFFF */
        {"x\xe5\x87", "x??"},         /* cut off */
        {"\xf0\x9f\x99\x82", "\xf0\x9f\x99\x82"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        check_ok(run_epoch(&r, 0, 1, FDL_METRICS({rows[i].name, 1})));
        char line[100];
        snprintf(line, sizeof line, "  epoch 1/1  %s=1.0000  [1s]\n", rows[i].shown);
        assert_written(&r, line);
    }
    run_close(&r);
}

static void past_the_total(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 10);
    check_ok(run_epoch(&r, 8, 1, NULL));
    assert_written(&r, "  epoch  9/10  [1s  ETA 1s]\n");
    check_ok(run_epoch(&r, 9, 1, NULL));
    assert_written(&r, "  epoch 10/10  [1s]\n");
    check_ok(run_epoch(&r, 10, 1, NULL));
    assert_written(&r, "  epoch 11/10  [1s]\n");
    assert_true(fdl_monitor_eta(r.mon) == 0);
    check_ok(run_epoch(&r, INT64_MAX - 1, 1, NULL));
    assert_written(&r, "  epoch 9223372036854775807/10  [1s]\n");
    run_close(&r);

    run_open(&r, 0);
    check_ok(run_epoch(&r, 11, 1, FDL_METRICS({"loss", 0.5})));
    assert_written(&r, "  epoch 12  loss=0.5000  [1s]\n");
    assert_true(isnan(fdl_monitor_eta(r.mon)));
    run_close(&r);
}

/* The duration is the caller's, also a strange one. */
static void durations(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1);
    r.now += 5;
    check_ok(fdl_monitor_log(r.mon, 0, -1));
    assert_written(&r, "  epoch 1/1  [\u2014]\n");
    check_ok(fdl_monitor_log(r.mon, 0, NAN));
    assert_written(&r, "  epoch 1/1  [\u2014]\n");
    check_ok(fdl_monitor_log(r.mon, 0, 0));
    assert_written(&r, "  epoch 1/1  [0ms]\n");
    check_ok(fdl_monitor_log(r.mon, 0, 90));
    assert_written(&r, "  epoch 1/1  [1m 30s]\n");
    run_close(&r);
}

static void samples(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1);
    check_ok(fdl_monitor_log(r.mon, 0, 0.5, .metrics = FDL_METRICS({"loss", 1}), .samples = 1437));
    assert_written(&r, "  epoch 1/1  loss=1.0000  samples/s=2874.00  [500ms]\n");
    check_ok(fdl_monitor_log(r.mon, 0, 0, .samples = 1437)); /* no time: no rate */
    assert_written(&r, "  epoch 1/1  [0ms]\n");
    check_ok(fdl_monitor_log(r.mon, 0, NAN, .samples = 1437));
    assert_written(&r, "  epoch 1/1  [\u2014]\n");
    run_close(&r);
}

/* CPU and RSS stand at the line's end, on the last line in the column of the line before. */
static void load(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 2, .resources = true);
    check_ok(run_epoch(&r, 0, 1, FDL_METRICS({"loss", 1})));
    check_ok(run_epoch(&r, 1, 1, FDL_METRICS({"loss", 1})));
    fflush(r.out);
    char *second = strchr(r.text, '\n');
    assert_non_null(second);
    *second++ = 0;
    char *rss = strstr(r.text, "RSS: "), *rss2 = strstr(second, "RSS: ");
    assert_non_null(rss);
    assert_non_null(rss2);
    int cpu = -1, at = 0;
    if (sscanf(r.text, "  epoch 1/2  loss=1.0000  [1s  ETA 1s]  CPU: %d%%  %n", &cpu, &at) == 1) {
        assert_in_range(cpu, 0, 100);
        assert_int_equal(rss - r.text, at);
        assert_int_equal(strstr(second, "CPU: ") - second, strstr(r.text, "CPU: ") - r.text);
    } else
        assert_memory_equal(r.text, "  epoch 1/2  loss=1.0000  [1s  ETA 1s]  RSS: ", 44);
    assert_memory_equal(second, "  epoch 2/2  loss=1.0000  [1s]          ", 40);
    char unit[3] = "";
    double amount = 0;
    assert_int_equal(sscanf(rss2, "RSS: %lf %2s", &amount, unit), 2);
    assert_true(amount > 0);
    assert_true(strcmp(unit, "MB") == 0 || strcmp(unit, "GB") == 0);
    run_close(&r);
}

static void quiet(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 1, .quiet = true);
    check_ok(run_epoch(&r, 0, 1, NULL));
    check_ok(fdl_monitor_finish(r.mon));
    assert_written(&r, "");
    run_close(&r);

    fdl_set_verbosity(FDL_QUIET);
    run_open(&r, 1);
    check_ok(run_epoch(&r, 0, 1, NULL));
    assert_written(&r, "");
    fdl_set_verbosity(FDL_NORMAL);
    check_ok(run_epoch(&r, 0, 1, NULL));
    assert_written(&r, "  epoch 1/1  [1s]\n");
    run_close(&r);
}

/* Without a terminal progress writes nothing, and no line holds an escape. FORCE_COLOR asks for them. */
static void no_terminal(void **state)
{
    (void)state;
    struct run r;
    run_open(&r, 2);
    for (int i = 0; i <= 10; i++) {
        r.now += 1;
        check_ok(fdl_monitor_progress(r.mon, i, 10, .metrics = FDL_METRICS({"loss", 1})));
    }
    check_ok(fdl_monitor_clear(r.mon));
    assert_written(&r, "");
    check_ok(run_epoch(&r, 0, 1, FDL_METRICS({"loss", 1})));
    fflush(r.out);
    assert_null(strchr(r.text, '\033'));
    assert_null(strchr(r.text, '\r'));
    run_close(&r);

    run_open(&r, 2);
    fdl_monitor_free(r.mon);
    setenv("FORCE_COLOR", "1", 1);
    r.mon = fdl_monitor_new(2, .out = r.out, .clock = run_clock, .clock_ctx = &r);
    check_ok(run_epoch(&r, 0, 1, FDL_METRICS({"loss", 1})));
    assert_written(&r, "  epoch 1/2  \033[0;2mloss=\033[0m1.0000  \033[0;2m[1s  ETA 1s]\033[0m\n");
    unsetenv("FORCE_COLOR");
    run_close(&r);
}

/* The largest line that a call may ask for, whole. */
static void long_lines(void **state)
{
    (void)state;
    enum { NAME = 1000 };
    static char names[FDL_MONITOR_MAX_METRICS][NAME + 1];
    static fdl_metric many[FDL_MONITOR_MAX_METRICS + 1];
    for (int i = 0; i < FDL_MONITOR_MAX_METRICS; i++) {
        memset(names[i], 'n', NAME);
        snprintf(names[i], 16, "%06d", i);
        names[i][6] = 'n';
        many[i] = (fdl_metric){names[i], i};
    }
    many[FDL_MONITOR_MAX_METRICS] = (fdl_metric)FDL_METRIC_END;
    struct run r;
    run_open(&r, 1);
    check_ok(run_epoch(&r, 0, 1, many));
    fflush(r.out);
    const char *at = r.text + strlen("  epoch 1/1");
    for (int i = 0; i < FDL_MONITOR_MAX_METRICS; i++) {
        char value[FDL_TEXT_SIZE];
        fdl_format_metric(i, value, sizeof value);
        assert_memory_equal(at, "  ", 2);
        assert_memory_equal(at + 2, names[i], NAME);
        at += 2 + NAME;
        assert_memory_equal(at, "=", 1);
        assert_memory_equal(at + 1, value, strlen(value));
        at += 1 + strlen(value);
    }
    assert_string_equal(at, "  [1s]\n");
    run_close(&r);
}

int main(void)
{
    setenv("FLODL_VERBOSITY", "bogus", 1); /* is normal */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden),        cmocka_unit_test(widths),         cmocka_unit_test(metrics),
        cmocka_unit_test(hostile_names), cmocka_unit_test(past_the_total), cmocka_unit_test(durations),
        cmocka_unit_test(samples),       cmocka_unit_test(load),           cmocka_unit_test(quiet),
        cmocka_unit_test(no_terminal),   cmocka_unit_test(long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
