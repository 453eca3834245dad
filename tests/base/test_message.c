/* Messages: levels, the environment, sinks, the terminal, whole lines from many threads. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
    int lines, level;
    char text[2048];
};

static void note(int level, const char *line, void *ctx)
{
    struct seen *seen = ctx;
    seen->lines++;
    seen->level = level;
    snprintf(seen->text, sizeof seen->text, "%s", line);
}

static int evaluated;
static int counted(void)
{
    return ++evaluated;
}

static void levels(void **state)
{
    (void)state;
    struct seen seen = {0};
    check_ok(fdl_msg_set_sink(note, &seen));
    for (int v = FDL_QUIET; v <= FDL_TRACE; v++) {
        fdl_set_verbosity(v);
        assert_int_equal(fdl_verbosity_level(), v);
        for (int l = FDL_QUIET; l <= FDL_TRACE + 1; l++) {
            seen.lines = evaluated = 0;
            fdl_msg_at(l, "line %d", counted());
            int written = l >= FDL_NORMAL && l <= v;
            assert_int_equal(seen.lines, written);
            assert_int_equal(evaluated, written);
            assert_int_equal(fdl_msg_enabled(l), written);
            fdl_msg_emit(l, "again"); /* the function itself asks too */
            assert_int_equal(seen.lines, 2 * written);
        }
    }
    fdl_set_verbosity(-5);
    assert_int_equal(fdl_verbosity_level(), FDL_QUIET);
    fdl_set_verbosity(99);
    assert_int_equal(fdl_verbosity_level(), FDL_TRACE);
    fdl_msg("normal");
    assert_int_equal(seen.level, FDL_NORMAL);
    fdl_msg_verbose("verbose");
    assert_int_equal(seen.level, FDL_VERBOSE);
    fdl_msg_debug("debug");
    assert_int_equal(seen.level, FDL_DEBUG);
    fdl_msg_trace("trace %s", "it");
    assert_int_equal(seen.level, FDL_TRACE);
    assert_string_equal(seen.text, "trace it");
    check_ok(fdl_msg_set_sink(NULL, NULL));
}

static void long_lines(void **state)
{
    (void)state;
    struct seen seen = {0};
    check_ok(fdl_msg_set_sink(note, &seen));
    fdl_set_verbosity(FDL_NORMAL);
    char text[1500];
    for (size_t n = 505; n < 520; n++) { /* around the size that needs no memory */
        memset(text, 'x', n);
        text[n] = 0;
        errno = ENOTTY;
        fdl_msg("%s", text);
        assert_int_equal(errno, ENOTTY);
        assert_string_equal(seen.text, text);
    }
    check_ok(fdl_msg_set_sink(NULL, NULL));
}

static void talkative(int level, const char *line, void *ctx)
{
    note(level, line, ctx);
    fdl_msg("from the sink");
    assert_int_equal(fdl_msg_set_sink(NULL, NULL), FDL_E_STATE);
    check_error(FDL_E_STATE, "sink");
}

/* What fn writes to the descriptor. */
static char *captured(int fd, void (*fn)(void), char *out, size_t size)
{
    fflush(NULL);
    FILE *file = tmpfile();
    assert_non_null(file);
    int old = dup(fd);
    assert_true(dup2(fileno(file), fd) >= 0);
    fn();
    fflush(NULL);
    dup2(old, fd);
    close(old);
    rewind(file);
    out[fread(out, 1, size - 1, file)] = 0;
    fclose(file);
    return out;
}

static struct seen inner;
static void speak(void)
{
    fdl_set_verbosity(FDL_VERBOSE);
    printf("printed, ");
    fdl_msg("normal");
    fdl_msg_verbose("verbose");
    check_ok(fdl_msg_set_sink(talkative, &inner));
    fdl_msg("to the sink");
    check_ok(fdl_msg_set_sink(NULL, NULL));
}

static void terminal(void **state)
{
    (void)state;
    char text[256];
    assert_string_equal(captured(STDOUT_FILENO, speak, text, sizeof text),
                        "printed, normal\nfrom the sink\n");
    assert_string_equal(inner.text, "to the sink");
    assert_string_equal(captured(STDERR_FILENO, speak, text, sizeof text), "verbose\n");
}

/* Each setting in a process of its own: the variable is read once. */
static void environment(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int level;
    } rows[] = {
        {NULL, FDL_NORMAL},     {"", FDL_NORMAL},      {"0", FDL_QUIET},           {"4", FDL_TRACE},
        {"5", FDL_NORMAL},      {"-1", FDL_NORMAL},    {" 2\n", FDL_VERBOSE},      {"Debug", FDL_DEBUG},
        {"TRACE", FDL_TRACE},   {"quiet ", FDL_QUIET}, {" Verbose ", FDL_VERBOSE}, {"7", FDL_NORMAL},
        {"22", FDL_NORMAL},     {"quie", FDL_NORMAL},  {"verbose", FDL_VERBOSE},   {"bogus", FDL_NORMAL},
        {"normal", FDL_NORMAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].text)
            setenv("FLODL_VERBOSITY", rows[i].text, 1);
        else
            unsetenv("FLODL_VERBOSITY");
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(fdl_verbosity_level());
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), rows[i].level);
    }
    setenv("FLODL_VERBOSITY", "trace", 1);
    pid_t child = fork();
    if (child == 0) {
        fdl_set_verbosity(FDL_QUIET); /* wins over the environment */
        _exit(fdl_verbosity_level());
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), FDL_QUIET);
    unsetenv("FLODL_VERBOSITY");
}

enum { THREADS = 8, LINES = 1000 };
static void *chatter(void *ctx)
{
    char text[200];
    memset(text, 'a' + (int)(intptr_t)ctx, sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < LINES; i++)
        fdl_msg("%s", text);
    return NULL;
}

static void crowd(void)
{
    pthread_t threads[THREADS];
    fdl_set_verbosity(FDL_NORMAL);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, (void *)(intptr_t)i), 0);
    struct seen quiet = {0};
    for (int i = 0; i < 50; i++) { /* sinks come and go meanwhile */
        check_ok(fdl_msg_set_sink(i % 2 ? NULL : note, &quiet));
        usleep(100);
    }
    check_ok(fdl_msg_set_sink(NULL, NULL));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* Nobody takes lines away: each is there. */
static void crowd_alone(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, chatter, (void *)(intptr_t)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static int count_whole_lines(const char *text)
{
    int n = 0;
    for (const char *line = text, *next; *line; line = next + 1, n++) {
        next = strchr(line, '\n');
        assert_non_null(next);
        assert_int_equal(next - line, 199);
        for (const char *c = line; c < next; c++)
            assert_int_equal(*c, *line);
    }
    return n;
}

static void whole_lines(void **state)
{
    (void)state;
    size_t size = THREADS * LINES * 201 + 1;
    char *text = malloc(size);
    assert_non_null(text);
    assert_true(count_whole_lines(captured(STDOUT_FILENO, crowd, text, size)) <= THREADS * LINES);
    assert_int_equal(count_whole_lines(captured(STDOUT_FILENO, crowd_alone, text, size)), THREADS * LINES);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment), /* first: nothing has asked for the verbosity yet */
        cmocka_unit_test(levels),      cmocka_unit_test(long_lines),
        cmocka_unit_test(terminal),    cmocka_unit_test(whole_lines),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
