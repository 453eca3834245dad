/* The live line on a terminal: a pseudo-terminal whose output goes through a small emulator, so that what is
 * checked is what a person sees. */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { ROWS = 40, COLUMNS = 200 };

static struct {
    double now;
    int master;
    FILE *out;
    int columns; /* of the terminal */
    int row, column;
    char cells[ROWS][COLUMNS][5]; /* a character each, as UTF-8; "" is blank */
    int writes, colours;          /* carriage returns without a newline, and orders to change a colour */
    fdl_monitor *mon;
} t;

static double terminal_clock(void *ctx)
{
    (void)ctx;
    return t.now;
}

/* ---- the emulator -------------------------------------------------------------------------------- */

static const char *escape(const char *s)
{
    assert_true(s[1] == '[');
    const char *end = s + 2 + strspn(s + 2, "0123456789;");
    if (*end == 'm')
        t.colours++;
    else if (*end == 'K' && end == s + 2)
        memset(t.cells[t.row] + t.column, 0, sizeof t.cells[0] - (size_t)t.column * sizeof t.cells[0][0]);
    else
        fail_msg("an order that isn't known: %.*s", (int)(end - s + 1), s + 1);
    return end + 1;
}

/* Reads what the program wrote; a whole write at a time arrives, so no character is cut. */
static void see(void)
{
    static char text[1 << 16];
    fflush(t.out);
    size_t used = 0;
    struct pollfd ready = {.fd = t.master, .events = POLLIN};
    while (poll(&ready, 1, 0) > 0 && ready.revents & POLLIN) {
        ssize_t n = read(t.master, text + used, sizeof text - 1 - used);
        assert_true(n > 0);
        used += (size_t)n;
    }
    text[used] = 0;
    for (const char *s = text; *s;) {
        size_t n = 1;
        if (*s == '\033') {
            s = escape(s);
            continue;
        }
        if (*s == '\r') {
            t.column = 0;
            t.writes += s[1] != '\n';
        } else if (*s == '\n') {
            assert_true(++t.row < ROWS);
        } else {
            assert_true((unsigned char)*s >= 0x20);
            while (((unsigned char)s[n] & 0xC0) == 0x80)
                n++;
            assert_true(t.column < t.columns); /* else the terminal would begin a new row */
            memset(t.cells[t.row][t.column], 0, sizeof t.cells[0][0]);
            memcpy(t.cells[t.row][t.column++], s, n);
        }
        s += n;
    }
}

/* A row without the blanks at its end; borrowed until the next call. */
static const char *row(int number)
{
    static char text[COLUMNS * 5];
    see();
    size_t used = 0, end = 0;
    for (int c = 0; c < COLUMNS; c++) {
        const char *cell = *t.cells[number][c] ? t.cells[number][c] : " ";
        memcpy(text + used, cell, strlen(cell));
        used += strlen(cell);
        if (strcmp(cell, " ") != 0)
            end = used;
    }
    text[end] = 0;
    return text;
}

static void resize(int columns)
{
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(ioctl(t.master, TIOCSWINSZ, &size), 0);
    t.columns = columns;
}

static int open_terminal(int columns)
{
    memset(&t, 0, sizeof t);
    t.now = 1e6;
    t.master = posix_openpt(O_RDWR | O_NOCTTY);
    assert_true(t.master >= 0);
    assert_int_equal(grantpt(t.master), 0);
    assert_int_equal(unlockpt(t.master), 0);
    int slave = open(ptsname(t.master), O_RDWR | O_NOCTTY);
    assert_true(slave >= 0);
    t.out = fdopen(slave, "w");
    assert_non_null(t.out);
    resize(columns);
    return 0;
}

static void open_run(int columns, int64_t total)
{
    open_terminal(columns);
    t.mon = fdl_monitor_new(total, .out = t.out, .clock = terminal_clock);
    check_some(t.mon);
}

static void close_run(void)
{
    fdl_monitor_free(t.mon);
    fclose(t.out);
    close(t.master);
}

/* What the environment of a person at a terminal is like. */
static int person(void **state)
{
    (void)state;
    setenv("TERM", "xterm-256color", 1);
    setenv("LC_ALL", "en_US.UTF-8", 1);
    unsetenv("NO_COLOR");
    unsetenv("FORCE_COLOR");
    unsetenv("FLODL_COLOR");
    return 0;
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void redrawn(void **state)
{
    (void)state;
    open_run(100, 100);
    check_ok(fdl_monitor_begin(t.mon, 2));
    check_ok(fdl_monitor_progress(t.mon, 0, 937));
    assert_string_equal(row(0), "  epoch   3/100 |                        |   0/937  [0ms]");
    t.now += 5.125;
    check_ok(fdl_monitor_progress(t.mon, 412, 937, .metrics = FDL_METRICS({"loss", 0.2411})));
    /* 412/937 of 24 columns are 10.55: ten whole ones and four eighths. 5.125 s for 412: 11.655 s for
     * 937; 97.56 such. */
    assert_string_equal(
        row(0), "  epoch   3/100 |██████████▌             | 412/937  loss=0.2411  [5.1s  ETA 18m 57s]");
    t.now += 6;
    check_ok(fdl_monitor_progress(t.mon, 937, 937));
    assert_string_equal(row(0), "  epoch   3/100 |████████████████████████| 937/937  [11.1s  ETA 17m 59s]");
    assert_int_equal(t.row, 0);
    t.now += 1;
    check_ok(fdl_monitor_log(t.mon, 2, 12.125, .metrics = FDL_METRICS({"loss", 0.25})));
    assert_string_equal(row(0), "  epoch   3/100  loss=0.2500  [12.1s  ETA 19m 36s]");
    assert_int_equal(t.row, 1);
    assert_int_equal(t.column, 0);
    check_ok(fdl_monitor_progress(t.mon, 1, 937));
    t.now += 1;
    check_ok(fdl_monitor_progress(t.mon, 1, 937));
    assert_memory_equal(row(1), "  epoch   4/100 |", 17);
    check_ok(fdl_monitor_finish(t.mon));
    assert_string_equal(row(1), "  training complete in 13.1s  | loss: 0.2500");
    assert_int_equal(t.row, 2);
    close_run();
}

/* Four times a second, however often it is called and however short the epochs are. */
static void rate(void **state)
{
    (void)state;
    open_run(80, 0);
    for (int i = 0; i < 1000; i++) {
        check_ok(fdl_monitor_progress(t.mon, i, 1000));
        t.now += 0.01; /* ten seconds in all */
    }
    see();
    assert_in_range(t.writes, 38, 40); /* the first draw has nothing to go back over */
    close_run();

    open_run(80, 0);
    for (int e = 0; e < 30; e++) {
        t.now += 0.01;
        check_ok(fdl_monitor_progress(t.mon, 1, 2));
        t.now += 0.01;
        check_ok(fdl_monitor_log(t.mon, e, 0.02));
    }
    assert_string_equal(row(29), "  epoch 30  [20ms]");
    assert_in_range(t.writes, 2, 3); /* 0.6 s: live lines that a log replaced */
    close_run();
}

static void unknown_numbers(void **state)
{
    (void)state;
    open_run(80, 0);
    check_ok(fdl_monitor_begin(t.mon, 4));
    t.now += 2;
    check_ok(fdl_monitor_progress(t.mon, 7, 0, .samples = 100));
    assert_string_equal(row(0), "  epoch 5 7  samples/s=50.0000  [2s]");
    t.now += 2;
    check_ok(fdl_monitor_progress(t.mon, 12, 10)); /* more than announced */
    assert_string_equal(row(0), "  epoch 5 |████████████████████████| 12/10  [4s]");
    close_run();
}

/* The bar's place for every share of an epoch: never longer than the share, by less than an eighth shorter.
 */
static void bar(void **state)
{
    (void)state;
    static const char *const eighths[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    open_run(80, 0);
    for (int b = 0; b <= 193; b++) {
        t.now += 1;
        check_ok(fdl_monitor_progress(t.mon, b, 193));
        see();
        const int first = (int)strlen("  epoch 1 |");
        assert_string_equal(t.cells[0][first - 1], "|");
        assert_string_equal(t.cells[0][first + 24], "|");
        int whole = 0, ended = 0;
        for (int c = 0; c < 24; c++) {
            const char *cell = *t.cells[0][first + c] ? t.cells[0][first + c] : " ";
            int e = 0;
            while (e <= 8 && strcmp(cell, eighths[e]) != 0)
                e++;
            assert_in_range(e, 0, 8);
            assert_true(!ended || e == 0);
            ended = e < 8;
            whole += e;
        }
        assert_int_equal(whole, b * 24 * 8 / 193);
    }
    close_run();
}

static void ascii(void **state)
{
    (void)state;
    setenv("LC_ALL", "C", 1);
    open_run(80, 0);
    t.now += 1;
    check_ok(fdl_monitor_progress(t.mon, 31, 48)); /* 15.5 of 24 */
    assert_string_equal(row(0), "  epoch 1 |===============-        | 31/48  [0ms]");
    close_run();
}

/* However narrow: one row. What is left out are the last metrics, then the bar, then the first metric; the
 * times stay as long as they fit. */
static void narrow(void **state)
{
    (void)state;
    for (int columns = 1; columns <= 130; columns++) {
        open_run(columns, 100);
        check_ok(fdl_monitor_begin(t.mon, 0));
        t.now += 10;
        check_ok(fdl_monitor_progress(t.mon, 5, 10,
                                      .metrics = FDL_METRICS({"loss", 1}, {"accuracy", 0.5}, {"\u00b5", 2})));
        const char *text = row(0);
        assert_int_equal(t.row, 0);
        assert_true(t.column < columns); /* the last column stays free */
        const int times = (int)strlen("  epoch   1/100  5/10  [10s  ETA 33m 10s]"), bar_least = 3 + 6;
        assert_int_equal(strstr(text, "  [10s  ETA 33m 10s]") != NULL, columns > times);
        assert_int_equal(strstr(text, "  loss=1.0000") != NULL, columns > times + 13);
        assert_int_equal(strstr(text, "  accuracy=0.5000") != NULL, columns > times + bar_least + 13 + 17);
        assert_int_equal(strstr(text, "  \u00b5=2.0000") != NULL, columns > times + bar_least + 13 + 17 + 10);
        bool bar_alone = columns > times + bar_least && columns <= times + 13;
        assert_int_equal(strchr(text, '|') != NULL, bar_alone || columns > times + bar_least + 13);
        close_run();
    }
    /* Characters of two columns. */
    open_run(30, 0);
    t.now += 10;
    check_ok(fdl_monitor_progress(t.mon, 5, 0, .metrics = FDL_METRICS({"\u51c6", 1})));
    assert_string_equal(row(0), "  epoch 1 5  \u51c6=1.0000  [0ms]");
    close_run();
}

static void resized(void **state)
{
    (void)state;
    open_run(100, 0);
    t.now += 1;
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    assert_string_equal(row(0), "  epoch 1 |████████████            | 1/2  [0ms]");
    resize(40);
    t.now += 1;
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    assert_string_equal(row(0), "  epoch 1 |████████▌        | 1/2  [1s]");
    close_run();
}

static void colours(void **state)
{
    static const struct {
        const char *name, *value;
        bool expected;
    } rows[] = {
        {"TERM", "xterm", true},         {"NO_COLOR", "1", false},
        {"NO_COLOR", "", true},          {"FLODL_COLOR", "never", false},
        {"FLODL_COLOR", "always", true}, {"FLODL_COLOR", "what", true},
        {"TERM", "dumb", false},         {"TERM", "", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        person(state);
        setenv(rows[i].name, rows[i].value, 1);
        open_run(80, 2);
        check_ok(fdl_monitor_progress(t.mon, 1, 2, .metrics = FDL_METRICS({"loss", 1})));
        check_ok(fdl_monitor_log(t.mon, 0, 1, .metrics = FDL_METRICS({"loss", 1})));
        assert_string_equal(row(0), "  epoch 1/2  loss=1.0000  [1s  ETA 0ms]");
        check_ok(fdl_monitor_finish(t.mon));
        see();
        if ((t.colours > 0) != rows[i].expected)
            fail_msg("%s=%s: %d orders to change a colour", rows[i].name, rows[i].value, t.colours);
        close_run();
    }
    person(state);
    setenv("FLODL_COLOR", "always", 1);
    setenv("NO_COLOR", "1", 1);
    open_run(80, 2);
    check_ok(fdl_monitor_log(t.mon, 0, 1));
    see();
    assert_true(t.colours > 0); /* flodl's own variable is the nearer one */
    close_run();
}

/* A terminal that can't go back gets plain lines. */
static void dumb(void **state)
{
    (void)state;
    setenv("TERM", "dumb", 1);
    open_run(80, 2);
    for (int b = 0; b < 10; b++) {
        t.now += 1;
        check_ok(fdl_monitor_progress(t.mon, b, 10));
    }
    assert_string_equal(row(0), "");
    check_ok(fdl_monitor_log(t.mon, 0, 10));
    assert_string_equal(row(0), "  epoch 1/2  [10s  ETA 9s]");
    assert_int_equal(t.writes, 0);
    close_run();
}

static void quiet(void **state)
{
    (void)state;
    open_terminal(80);
    t.mon = fdl_monitor_new(2, .out = t.out, .clock = terminal_clock, .quiet = true);
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    check_ok(fdl_monitor_log(t.mon, 0, 1));
    fdl_monitor_free(t.mon);
    t.mon = fdl_monitor_new(2, .out = t.out, .clock = terminal_clock);
    fdl_set_verbosity(FDL_QUIET);
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    fdl_set_verbosity(FDL_NORMAL);
    assert_string_equal(row(0), "");
    assert_int_equal(t.row, 0);
    close_run();
}

/* The program's own lines in between. */
static void cleared(void **state)
{
    (void)state;
    open_run(80, 2);
    check_ok(fdl_monitor_clear(t.mon)); /* nothing there */
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    assert_memory_equal(row(0), "  epoch 1/2 |", 13);
    check_ok(fdl_monitor_clear(t.mon));
    assert_string_equal(row(0), "");
    assert_int_equal(t.column, 0);
    fputs("best so far\n", t.out);
    check_ok(fdl_monitor_progress(t.mon, 1, 2)); /* at once, not after a quarter of a second */
    assert_string_equal(row(0), "best so far");
    assert_memory_equal(row(1), "  epoch 1/2 |", 13);
    close_run();
}

/* A prompt or an error message after it begins on a row of its own; the live line stays and says how far it
 * came. */
static void freed_in_between(void **state)
{
    (void)state;
    open_run(80, 2);
    check_ok(fdl_monitor_progress(t.mon, 1, 2));
    fdl_monitor_free(t.mon);
    t.mon = NULL;
    assert_memory_equal(row(0), "  epoch 1/2 |", 13);
    assert_int_equal(t.row, 1);
    assert_int_equal(t.column, 0);
    close_run();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(redrawn, person),
        cmocka_unit_test_setup(rate, person),
        cmocka_unit_test_setup(unknown_numbers, person),
        cmocka_unit_test_setup(bar, person),
        cmocka_unit_test_setup(ascii, person),
        cmocka_unit_test_setup(narrow, person),
        cmocka_unit_test_setup(resized, person),
        cmocka_unit_test_setup(colours, person),
        cmocka_unit_test_setup(dumb, person),
        cmocka_unit_test_setup(quiet, person),
        cmocka_unit_test_setup(cleared, person),
        cmocka_unit_test_setup(freed_in_between, person),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
