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

/* 1 checked, 0 nothing to check, -1 wrong. */
static int check_sample(const char *name, const char *sample, ops_call *call)
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
    fdl_gradcheck_report report;
    fdl_status status =
        fdl_gradcheck(call, ((fdl_list){o.n, o.at}), NULL, .atol = 1e-6, .rtol = 1e-5, .report = &report);
    if (status == FDL_OK)
        return 1;
    print_error("%s(%s): %s\n", name, sample, fdl_last_error()->message);
    fdl_clear_error();
    return -1;
}

static void agrees_with_differences(void **state)
{
    (void)state;
    int checks = 0, failures = 0;
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (const char *sample = rows[r].samples; sample; sample = ops_next(sample)) {
            int got = check_sample(rows[r].name, sample, rows[r].call);
            checks += got != 0;
            failures += got < 0;
        }
    print_message("%d gradients\n", checks);
    assert_int_equal(failures, 0);
    assert_true(checks > 240);
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
        cmocka_unit_test(a_wrong_gradient_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
