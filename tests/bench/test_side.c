/* A side of a benchmark as its driver sees it (benchmarks/parts/side.h): processes of the shell that answer well, or don't; and the
 * writer of raw figures. */
#include "check.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

#include "json.h"
#include "side.h"

static side started(const char *script)
{
    static const side_kind kind = {.side = "shell", .mode = "test"};
    side s = {.kind = &kind};
    char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};
    assert_true(side_spawn(&s, argv));
    return s;
}

static void answers_are_read(void **state)
{
    (void)state;
    side s = started(
        "echo chatter; echo '= loaded 2.11.0+x'; read q; [ \"$q\" = begin ] && echo '= loss 1.5 -2e-3 3'; "
        "echo '= ready'; read q; echo \"= 0.25 $q\"; "
        "read q; [ \"$q\" = 'busy 7' ] && echo '= 1e-3; 2e-3 88 2 1; matrix products 1.5e-3 40; other "
        "5e-4 48'");
    assert_true(side_loaded(&s));
    side_begin(&s);
    assert_true(side_losses(&s));
    assert_int_equal(s.n_losses, 3);
    check_number(s.losses[0], 1.5, 0);
    check_number(s.losses[1], -2e-3, 0);
    assert_true(side_ready(&s));
    assert_string_equal(s.version, "2.11.0+x");
    check_number(side_ask(&s, "read 5"), 0.25, 0);
    side_ask_busy(&s, 7);
    check_number(s.busy.busy, 1e-3, 0);
    check_number(s.busy.sum, 2e-3, 0);
    check_number(s.busy.kernels, 88, 0);
    check_number(s.busy.copies, 2, 0);
    check_number(s.busy.fills, 1, 0);
    assert_int_equal(s.busy.classes, 2);
    assert_string_equal(s.busy.of[0].name, "matrix products");
    check_number(s.busy.of[0].seconds, 1.5e-3, 0);
    check_number(s.busy.of[1].n, 48, 0);
    assert_string_equal(s.refusal, "");
    side_end(&s);
}

static void a_busy_time_alone_will_do(void **state)
{
    (void)state;
    side s = started("read q; echo '= nan'; read q; echo '= 3e-4'");
    side_ask_busy(&s, 1);
    assert_true(isnan(s.busy.busy) && s.busy.classes == 0);
    side_ask_busy(&s, 1);
    check_number(s.busy.busy, 3e-4, 0);
    side_end(&s);
}

static void a_side_that_ends_is_refused(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    side s = started("echo '= loss 1'");
    assert_true(side_losses(&s));
    assert_false(side_ready(&s));
    assert_non_null(strstr(s.refusal, "ended"));
    assert_true(isnan(side_ask(&s, "read 5")));
    side_end(&s);

    s = started("echo '= hello'");
    assert_false(side_losses(&s));
    assert_non_null(strstr(s.refusal, "\"hello\" where \"loss\""));
    side_end(&s);

    s = started("echo '= loss of memory'");
    assert_false(side_losses(&s));
    assert_non_null(strstr(s.refusal, "told no loss"));
    side_end(&s);
    assert_false(side_python_works("/no/such/python"));
}

/* Read by another library than wrote it. */
static json_t *read_back(const char *path)
{
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    if (!root)
        fail_msg("%s:%d: %s", path, error.line, error.text);
    return root;
}

static void raw_figures_are_json(void **state)
{
    (void)state;
    char path[] = "/tmp/test_side_XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    json j;
    assert_true(json_open(&j, path));
    json_begin(&j, NULL, '{');
    json_text(&j, "text", "a \"quoted\" \\ line\nand more");
    json_text(&j, "none", "");
    json_number(&j, "nan", (double)NAN);
    json_count(&j, "bytes", INT64_C(25276502016));
    json_numbers(&j, "rounds", (double[]){0.5, 1e-7, (double)INFINITY}, 3);
    json_begin(&j, "models", '[');
    for (int i = 0; i < 3; i++) {
        json_line(&j);
        json_begin(&j, NULL, '{');
        json_count(&j, "i", i);
        json_end(&j, '}');
        json_keep(&j, "]}\n");
        json_t *root = read_back(path); /* whole at any time */
        assert_int_equal(json_array_size(json_object_get(root, "models")), i + 1);
        json_decref(root);
    }
    json_end(&j, ']');
    json_end(&j, '}');
    assert_true(json_close(&j));
    json_t *root = read_back(path);
    assert_string_equal(json_string_value(json_object_get(root, "text")), "a \"quoted\" \\ line\nand more");
    assert_true(json_is_null(json_object_get(root, "none")) && json_is_null(json_object_get(root, "nan")));
    assert_true(json_integer_value(json_object_get(root, "bytes")) == INT64_C(25276502016));
    json_t *rounds = json_object_get(root, "rounds");
    check_number(json_number_value(json_array_get(rounds, 1)), 1e-7, 0);
    assert_true(json_is_null(json_array_get(rounds, 2)));
    json_decref(root);
    remove(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_read),
        cmocka_unit_test(a_busy_time_alone_will_do),
        cmocka_unit_test(a_side_that_ends_is_refused),
        cmocka_unit_test(raw_figures_are_json),
    };
    return cmocka_run_group_tests_name("side", tests, NULL, NULL);
}
