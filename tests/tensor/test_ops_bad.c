/* Wrong calls of the rows of ops.def: a NULL with a status and a message that says what was asked, never a
 * signal. */
#include "check.h"
#include "ops.h"
#include "quiet.h"

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python) OP(name, samples, call, python, )
#define BAD(name, sample, call, status, word) OP(name, sample, call, , )
#include "ops.def"
#undef OP
#undef CASE
#undef BAD

typedef struct row {
    const char *name, *samples, *text;
    ops_call *call;
} row;

static const row rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, #call, call_##name},
#define CASE(name, samples, call, python) {#name, samples, #call, call_##name},
#define BAD(name, sample, call, status, word)
#include "ops.def"
#undef OP
#undef CASE
#undef BAD
};
enum { ROWS = sizeof rows / sizeof *rows };

static const struct {
    const char *name, *sample;
    ops_call *call;
    fdl_status status;
    const char *word;
} bad[] = {
#define OP(name, samples, call, python, cpp)
#define CASE(name, samples, call, python)
#define BAD(name, sample, call, status, word) {#name, sample, call_##name, status, word},
#include "ops.def"
#undef OP
#undef CASE
#undef BAD
};

static void wrong_calls_say_why(void **state)
{
    (void)state;
    int failures = 0;
    for (size_t r = 0; r < sizeof bad / sizeof *bad; r++) {
        FDL_SCOPE;
        ops_operands o;
        assert_true(ops_sample(bad[r].sample, FDL_FLOAT32, false, &o));
        fdl_clear_error();
        fdl_tensor *y = bad[r].call((fdl_list){o.n, o.at}, NULL);
        const fdl_error *e = fdl_last_error();
        if (y || e->status != bad[r].status || !strstr(e->message, bad[r].word) ||
            strncmp(e->message, "fdl_", 4) != 0 || !e->file) {
            print_error("%s: %s, %s: %s\n", bad[r].name, y ? "a result" : "NULL", fdl_status_name(e->status),
                        e->message);
            failures++;
        }
        fdl_clear_error();
    }
    print_message("%zu wrong calls\n", sizeof bad / sizeof *bad);
    assert_int_equal(failures, 0);
}

static void wrong_calls_print_nothing(void **state)
{
    (void)state;
    quiet_begin();
    for (size_t r = 0; r < sizeof bad / sizeof *bad; r++) {
        FDL_SCOPE;
        ops_operands o;
        if (ops_sample(bad[r].sample, FDL_FLOAT32, false, &o))
            bad[r].call((fdl_list){o.n, o.at}, NULL);
        fdl_clear_error();
    }
    assert_int_equal(quiet_end(), 0);
}

/* Whether operand i is an option (".bias = c") or an index, which may be absent. */
static bool may_be_absent(const row *r, int i)
{
    char text[] = "= ?";
    text[2] = (char)('a' + i);
    return strstr(r->text, text) || strncmp(r->name, "index", 5) == 0;
}

/* What is left when y has to be NULL with an error. */
static int refused(const row *r, const char *how, int i, fdl_tensor *y, fdl_status status)
{
    const fdl_error *e = fdl_last_error();
    bool ok = !y && e->status == status && strncmp(e->message, "fdl_", 4) == 0;
    if (!ok)
        print_error("%s, operand %d %s: %s, %s: %s\n", r->name, i, how, y ? "a result" : "NULL",
                    fdl_status_name(e->status), e->message);
    fdl_clear_error();
    return !ok;
}

static void null_and_freed_operands(void **state)
{
    (void)state;
    int failures = 0;
    for (const row *r = rows; r < rows + ROWS; r++) {
        FDL_SCOPE;
        ops_operands o;
        assert_true(ops_sample(r->samples, FDL_FLOAT32, false, &o));
        for (int i = 0; i < o.n; i++) {
            fdl_tensor *own = o.at[i];
            o.at[i] = NULL;
            fdl_tensor *y = r->call((fdl_list){o.n, o.at}, NULL);
            if (!may_be_absent(r, i))
                failures += refused(r, "NULL", i, y, FDL_E_NULL);
            fdl_clear_error();

            /* the same with an error pending, which stays; the result says nothing about it */
            fdl_fail(FDL_E_CANCELLED, "fdl_pending");
            y = r->call((fdl_list){o.n, o.at}, NULL);
            if (!may_be_absent(r, i))
                failures += refused(r, "NULL, an error pending", i, y, FDL_E_CANCELLED);
            fdl_clear_error();

            fdl_tensor *dead = fdl_keep(own);
            check_ok(fdl_free(dead));
            o.at[i] = dead;
            failures += refused(r, "freed", i, r->call((fdl_list){o.n, o.at}, NULL), FDL_E_STATE);
            o.at[i] = own;
        }
    }
    assert_int_equal(failures, 0);
}

/* Every operand of every row replaced by every one of these: a result, or NULL with an error; never a signal.
 */
static void foreign_operands(void **state)
{
    (void)state;
    static const char *const shapes[] = {"a",        "a0",           "a7",   "a1x1",   "a0x3", "a2x3x4",
                                         "a1x0x2x2", "a1x1x1x1x1x1", "m2x3", "i3:2x3", "i99:6"};
    static const fdl_dtype dtypes[] = {FDL_FLOAT32, FDL_FLOAT16, FDL_INT32, FDL_UINT8};
    int failures = 0, calls = 0, results = 0;
    for (const row *r = rows; r < rows + ROWS; r++) {
        for (size_t k = 0; k < sizeof shapes / sizeof *shapes * 4; k++) {
            FDL_SCOPE;
            ops_operands o, other;
            assert_true(ops_sample(r->samples, FDL_FLOAT32, false, &o));
            assert_true(ops_sample(shapes[k / 4], dtypes[k % 4], k % 3 == 0, &other));
            for (int i = 0; i < o.n; i++, calls++) {
                fdl_tensor *own = o.at[i];
                o.at[i] = other.at[0];
                fdl_clear_error();
                fdl_tensor *y = r->call((fdl_list){o.n, o.at}, NULL);
                results += y != NULL;
                if (!y)
                    failures += refused(r, shapes[k / 4], i, y,
                                        fdl_error_pending() ? fdl_error_pending() : FDL_E_TORCH);
                o.at[i] = own;
            }
        }
    }
    print_message("%d calls, %d of them possible\n", calls, results);
    assert_int_equal(failures, 0);
    assert_true(results > 0 && results < calls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_calls_say_why),
        cmocka_unit_test(wrong_calls_print_nothing),
        cmocka_unit_test(null_and_freed_operands),
        cmocka_unit_test(foreign_operands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
