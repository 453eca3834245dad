/* Each differentiable row of ops.def in float64 against central differences, in every operand with a capital
 * letter. */
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

static const struct {
    const char *name, *samples;
    ops_call *call;
} rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#define CASE(name, samples, call, python) {#name, samples, call_##name},
#include "ops.def"
#undef OP
#undef CASE
};

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
    if (status == FDL_OK)
        return 1;
    print_error("%s(%s): %s\n", name, sample, fdl_last_error()->message);
    fdl_clear_error();
    return -1;
}

/* How many checks there were, of how many rows. */
static int check_all(bool second_order, int *checked_rows)
{
    int checks = 0, failures = 0;
    *checked_rows = 0;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        if (second_order && !is_twice(rows[r].name))
            continue;
        int before = checks;
        for (const char *sample = rows[r].samples; sample; sample = ops_next(sample)) {
            int got = check_sample(rows[r].name, sample, rows[r].call, second_order);
            checks += got != 0;
            failures += got < 0;
        }
        *checked_rows += checks > before;
    }
    print_message("%d gradients of %d rows, order %d\n", checks, *checked_rows, second_order ? 2 : 1);
    assert_int_equal(failures, 0);
    return checks;
}

static void agrees_with_differences(void **state)
{
    (void)state;
    int of_rows;
    assert_true(check_all(false, &of_rows) > 600);
    assert_true(of_rows > 240);
}

static void agrees_with_differences_twice(void **state)
{
    (void)state;
    int of_rows;
    check_all(true, &of_rows);
    assert_int_equal(of_rows, sizeof twice / sizeof *twice); /* no name without a row */
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

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_differences),
        cmocka_unit_test(agrees_with_differences_twice),
        cmocka_unit_test(a_wrong_gradient_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
