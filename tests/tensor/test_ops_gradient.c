/* Each differentiable row of ops.def in float64 against central differences, in every operand with a capital letter. Each row is
 * a test of its own, gradient_<row>; where the derivatives are differentiated as well, there is second_<row> too. */
#include "check.h"
#include "ops.h"

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python) OP(name, samples, call, python, )
#define BAD(name, sample, call, status, word)
#include "ops.def"
#undef OP
#undef CASE

typedef struct row {
    const char *name, *samples;
    ops_call *call;
} row;

static const row rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#define CASE(name, samples, call, python) {#name, samples, call_##name},
#include "ops.def"
#undef OP
#undef CASE
};
enum { ROWS = sizeof rows / sizeof *rows };

/* The rows whose derivatives are differentiated as well. */
#define OP(name, samples, call, python, cpp)
#define CASE(name, samples, call, python)
#define TWICE(name) #name,
static const char *const twice[] = {
#include "ops.def"
};
#undef OP
#undef CASE

static bool is_twice(const char *name)
{
    for (size_t i = 0; i < sizeof twice / sizeof *twice; i++)
        if (strcmp(twice[i], name) == 0)
            return true;
    return false;
}

static bool on_gpu;

/* 1 checked, 0 nothing to check, -1 wrong. */
static int check_sample(const char *name, const char *sample, ops_call *call, bool second_order)
{
    FDL_SCOPE;
    ops_operands o;
    assert_true(ops_sample(sample, FDL_FLOAT64, false, &o));
    int differentiable = 0;
    for (int i = 0; i < o.n; i++) {
        if (fdl_numel(o.at[i]) == 0)
            return 0;
        if (o.differentiable[i]) {
            check_ok(fdl_requires_grad_(o.at[i], true));
            differentiable++;
        }
    }
    if (!differentiable)
        return 0;
    fdl_list in = {o.n, o.at};
    fdl_status status = second_order ? fdl_gradgradcheck(call, in, NULL, .atol = 1e-5, .rtol = 1e-4)
                                     : fdl_gradcheck(call, in, NULL, .atol = 1e-6, .rtol = 1e-5);
    if (status == FDL_E_UNSUPPORTED && on_gpu) { /* this libtorch has no solver for it there */
        print_message("%s: %s\n", name, fdl_last_error()->message);
        fdl_clear_error();
        return 1;
    }
    if (status == FDL_OK)
        return 1;
    print_error("%s(%s): %s\n", name, sample, fdl_last_error()->message);
    fdl_clear_error();
    return -1;
}

static void check_row(const row *r, bool second_order)
{
    int checks = 0, failures = 0;
    for (const char *sample = r->samples; sample; sample = ops_next(sample)) {
        int got = check_sample(r->name, sample, r->call, second_order);
        checks += got != 0;
        failures += got < 0;
    }
    assert_int_equal(failures, 0);
    assert_true(checks > 0);
}

static void gradient(void **state)
{
    check_row(*state, false);
}

static void second(void **state)
{
    check_row(*state, true);
}

/* An operand with a capital letter in a sample that has elements. */
static int differentiable_samples(const row *r)
{
    int n = 0;
    for (const char *sample = r->samples; sample; sample = ops_next(sample)) {
        FDL_SCOPE;
        ops_operands o;
        assert_true(ops_sample(sample, FDL_FLOAT64, false, &o));
        bool any = false, empty = false;
        for (int i = 0; i < o.n; i++) {
            any |= o.differentiable[i];
            empty |= fdl_numel(o.at[i]) == 0;
        }
        n += any && !empty;
    }
    return n;
}

static int checks, checked_rows, twice_rows;

static void enough_is_checked(void **state)
{
    (void)state;
    print_message("%d gradients of %d rows, of second order for %d\n", checks, checked_rows, twice_rows);
    assert_true(checks > 600);
    assert_true(checked_rows > 240);
    assert_int_equal(twice_rows, sizeof twice / sizeof *twice); /* no name without a row */
}

/* x^2 whose history says 3x: the check must see it. */
static fdl_tensor *wrong_gradient(fdl_list in, void *ctx)
{
    (void)ctx;
    fdl_tensor *x = in.at[0], *constant = fdl_detach(x);
    return fdl_add(fdl_mul(fdl_mul(x, constant), 3), fdl_mul(fdl_square(constant), -2));
}

static void a_wrong_gradient_is_found(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_from_f64(((const double[]){1, 2, 3}), FDL_SHAPE(3), .requires_grad = true);
    fdl_gradcheck_report report;
    assert_int_equal(fdl_gradcheck(wrong_gradient, FDL_LIST(x), NULL, .report = &report), FDL_E_MISMATCH);
    assert_true(report.worst > 1);
    assert_int_equal(report.input, 0);
    assert_true(fabs(report.analytic / report.numeric - 1.5) < 1e-6);
    check_error(FDL_E_MISMATCH, "input 0", "difference quotient");
}

enum { TESTS = 2 * ROWS + 2, NAME = 64 };

static void add_test(struct CMUnitTest *test, char *name, const char *kind, const row *r,
                     CMUnitTestFunction run)
{
    snprintf(name, NAME, "%s_%s", kind, r->name);
    /* cmocka hands a test what it wants to see as a pointer to something that may be changed */
    *test = (struct CMUnitTest){.name = name, .test_func = run, .initial_state = (void *)(uintptr_t)r};
}

int main(void)
{
    on_gpu = on_test_device();
    static struct CMUnitTest tests[TESTS];
    static char names[TESTS][NAME];
    int n = 0;
    for (const row *r = rows; r < rows + ROWS; r++) {
        int samples = differentiable_samples(r);
        if (!samples)
            continue;
        checks += samples;
        checked_rows++;
        add_test(&tests[n], names[n], "gradient", r, gradient);
        n++;
        if (!is_twice(r->name))
            continue;
        twice_rows++;
        add_test(&tests[n], names[n], "second", r, second);
        n++;
    }
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(enough_is_checked);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_wrong_gradient_is_found);
    return _cmocka_run_group_tests("gradients", tests, (size_t)n, NULL, NULL);
}
