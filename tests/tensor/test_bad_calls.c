/* Every public function, called with nothing (NULL, 0, empty), and every function of tensors and numbers with whatever the
 * dice give: wrong ranks, empty and 0-d tensors, wrong dtypes, negative and huge sizes, expanded views, freed handles. The
 * answer is a status, never a signal. The calls are written from the headers by tests/bad_calls.awk. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>
#include <math.h>

#include <flodl/flodl.h>

/* What a constructor makes of nothing is not freed here: only signals and silence count. */
#ifdef __SANITIZE_ADDRESS__
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}
#endif

/* ---- a signal names the call --------------------------------------------------------------------------- */

static const char *volatile calling;
static volatile int draw;

static void on_signal(int number)
{
    char text[256];
    int n = snprintf(text, sizeof text, "signal %d in %s, draw %d\n", number, calling, draw);
    if (write(STDERR_FILENO, text, (size_t)n) < 0)
        _exit(3);
    _exit(2);
}

/* After cmocka has set handlers of its own. */
static void catch_signals(void)
{
    const int caught[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    for (size_t i = 0; i < sizeof caught / sizeof *caught; i++)
        signal(caught[i], on_signal);
}

/* ---- the dice -------------------------------------------------------------------------------------------- */

static fdl_rng dice;

static int one_of(int n)
{
    return (int)fdl_rng_below(&dice, (uint64_t)n);
}

static fdl_tensor *a_tensor(void)
{
    fdl_dtype any[] = {FDL_FLOAT32, FDL_FLOAT64, FDL_FLOAT16, FDL_BFLOAT16,
                       FDL_INT64,   FDL_INT32,   FDL_UINT8,   FDL_BOOL};
    fdl_dtype dtype = any[one_of(8)];
    switch (one_of(14)) {
    case 0:
        return NULL;
    case 1:
        return fdl_ones(FDL_SCALAR, .dtype = dtype);
    case 2:
        return fdl_zeros(FDL_SHAPE(0), .dtype = dtype);
    case 3:
        return fdl_zeros(FDL_SHAPE(2, 0, 3), .dtype = dtype);
    case 4:
        return fdl_ones(FDL_SHAPE(3), .dtype = dtype);
    case 5:
        return fdl_ones(FDL_SHAPE(2, 3), .dtype = dtype);
    case 6:
        return fdl_transpose(fdl_ones(FDL_SHAPE(2, 3)), 0, 1);
    case 7:
        return fdl_ones(FDL_SHAPE(2, 3, 4), .dtype = dtype);
    case 8:
        return fdl_randn(FDL_SHAPE(2, 3, 4, 4));
    case 9:
        return fdl_ones(FDL_SHAPE(1, 2, 3, 2, 2), .dtype = dtype);
    case 10:
        return fdl_full(FDL_SHAPE(2), 1e30, .dtype = FDL_FLOAT64);
    case 11:
        return fdl_ones(FDL_SHAPE(2, 3), .requires_grad = true);
    case 12:
        return fdl_expand(fdl_ones(FDL_SHAPE(1, 3)), FDL_SHAPE(2, 3));
    default: {
        fdl_tensor *freed = fdl_ones(FDL_SHAPE(2));
        fdl_drop(freed);
        return freed;
    }
    }
}

static fdl_list a_list(void)
{
    fdl_tensor *some[] = {a_tensor(), a_tensor(), a_tensor(), FDL_END, FDL_END};
    int n = one_of(5);
    if (n < 4)
        some[n] = FDL_END;
    fdl_list list = fdl_list_of(some);
    fdl_tensor **at = fdl_scope_alloc(sizeof some);
    memcpy(at, some, sizeof some);
    return n == 4 ? (fdl_list){0, NULL} : (fdl_list){list.n, at};
}

static int64_t an_int64(void)
{
    const int64_t values[] = {0, 1, 2, 3, -1, -2, -100, 100, INT64_MAX, INT64_MIN, (int64_t)1 << 50};
    return values[one_of(11)];
}

static int an_int(void)
{
    const int values[] = {0, 1, 2, 3, -1, -2, -100, 100, INT32_MAX, INT32_MIN};
    return values[one_of(10)];
}

static double a_double(void)
{
    const double values[] = {0, 1, -1, 0.5, 2, 1e300, -1e300, INFINITY, -INFINITY, NAN, FDL_ZERO};
    return values[one_of(11)];
}

static bool a_bool(void)
{
    return one_of(2);
}

static fdl_dtype a_dtype(void)
{
    return (fdl_dtype)(one_of(14) - 1);
}

static fdl_device a_device(void)
{
    const fdl_device values[] = {{0, 0}, {1, 0}, {2, 99}, {2, -1}, {7, 0}, {-1, 3}};
    return values[one_of(6)];
}

static fdl_shape a_shape(void)
{
    fdl_shape s = {.ndim = one_of(6)};
    for (int i = 0; i < s.ndim; i++)
        s.d[i] = one_of(4) ? one_of(4) : an_int64();
    if (!one_of(12))
        s.ndim = one_of(2) ? -1 : 1000;
    return s;
}

/* ---- the calls ------------------------------------------------------------------------------------------- */

#define BEGIN_(name)     \
    {                    \
        FDL_SCOPE;       \
        calling = #name; \
        fdl_clear_error();
#define END_ }

/* What may succeed, or give NULL without an error, on nothing at all. */
static const char *const harmless[] = {
    "fdl_scope_close", "fdl_scope_reset", "fdl_free",        "fdl_mode_close",
    "fdl_module_free", "fdl_grad",        "fdl_escape_list", NULL};

static bool is_harmless(const char *name)
{
    for (int i = 0; harmless[i]; i++)
        if (strcmp(harmless[i], name) == 0)
            return true;
    return false;
}

static int silent;

static void check_failed(const char *name, bool failed, bool has_operand)
{
    bool pending = fdl_error_pending() != FDL_OK;
    if (failed && !pending && !is_harmless(name)) {
        print_error("%s failed on nothing without an error\n", name);
        silent++;
    }
    (void)has_operand;
}

#define CHECK_status(name, call) check_failed(#name, (call) != FDL_OK, true);
#define CHECK_pointer(name, call) \
    const void *result = (call);  \
    (void)result;
#define CHECK_list(name, call) check_failed(#name, (call).at == NULL, true);
#define CHECK_value(name, call) (void)(call);
#define CHECK_none(name, call) (call);

static void nothing_gives_a_status(void **state)
{
    (void)state;
    catch_signals();
#define NOTHING(name, kind, call) BEGIN_(name) CHECK_##kind(name, call) END_
#define ANYTHING(name, kind, call)
#include "bad_calls.inc"
#undef NOTHING
#undef ANYTHING
    assert_int_equal(silent, 0);
    fdl_clear_error();
}

static void anything_gives_a_status(void **state)
{
    (void)state;
    catch_signals();
    int failures = 0, successes = 0;
#define NOTHING(name, kind, call)
#define DREW_status(call) ((call) == FDL_OK)
#define DREW_pointer(call) ((call) != NULL)
#define DREW_list(call) ((call).at != NULL)
#define DREW_value(call) ((void)(call), false)
#define DREW_none(call) ((call), false)
#define ANYTHING(name, kind, call)                             \
    for (draw = 0; draw < 60; draw++)                          \
        BEGIN_(name)                                           \
    dice = fdl_rng_seed((uint64_t)draw * 7919 + sizeof #name); \
    fdl_status drawn = FDL_OK;                                 \
    (void)drawn;                                               \
    if (DREW_##kind(call))                                     \
        successes++;                                           \
    else                                                       \
        failures++;                                            \
    END_
#include "bad_calls.inc"
#undef NOTHING
#undef ANYTHING
    print_message("%d calls failed, %d succeeded\n", failures, successes);
    assert_true(failures > 1000 && successes > 1000);
    assert_true(fdl_grad_enabled());
    assert_int_equal(fdl_scope_depth(), 0);
    fdl_clear_error();
}

int main(void)
{
    /* A huge request must fail as it would on a small machine, not swap this one. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rlimit limit = {.rlim_cur = (rlim_t)8 << 30, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_gives_a_status),
        cmocka_unit_test(anything_gives_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
