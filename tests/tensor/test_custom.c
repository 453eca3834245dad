/* Custom functions: values, derivatives of both orders, saved tensors, errors of both callbacks, memory. */
#include "check.h"

#include <math.h>

/* ---- x |x|, whose derivative is 2 |x| ---------------------------------------------------------------------- */

static fdl_status signed_square(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)ctx;
    fdl_tensor *x = in.at[0];
    if (fdl_requires_grad(fdl_mul(x, 2)))
        return fdl_fail(FDL_E_STATE, "forward is recorded");
    out[0] = fdl_mul(x, fdl_abs(x));
    return fdl_custom_save(call, in);
}

static fdl_status signed_square_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)ctx;
    fdl_tensor *x = fdl_list_at(fdl_custom_saved(call), 0);
    out[0] = fdl_mul(grads.at[0], fdl_mul(fdl_abs(x), 2));
    return FDL_OK;
}

static const fdl_custom_fn signed_square_fn = {
    .name = "signed_square", .forward = signed_square, .backward = signed_square_backward};

static fdl_tensor *call_signed_square(fdl_list in, void *ctx)
{
    (void)ctx;
    return fdl_list_at(fdl_custom(&signed_square_fn, in, NULL), 0);
}

static fdl_tensor *float64(double a, double b, double c)
{
    return fdl_from_f64(((const double[]){a, b, c}), FDL_SHAPE(3), .requires_grad = true);
}

static void value_gradient_and_both_orders_by_differences(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = float64(1, -2, 3);
    fdl_tensor *y = call_signed_square(FDL_LIST(x), NULL);
    double got[3];
    check_ok(fdl_to_f64(y, got, 3));
    assert_true(got[0] == 1 && got[1] == -4 && got[2] == 9);
    check_ok(fdl_backward(fdl_sum(y)));
    check_ok(fdl_to_f64(fdl_grad(x), got, 3));
    assert_true(got[0] == 2 && got[1] == 4 && got[2] == 6);
    check_ok(fdl_gradcheck(call_signed_square, FDL_LIST(x), NULL));
    check_ok(fdl_gradgradcheck(call_signed_square, FDL_LIST(x), NULL));
    /* without anybody who wants a gradient it is a plain call */
    assert_false(fdl_requires_grad(call_signed_square(FDL_LIST(fdl_detach(x)), NULL)));
    FDL_NO_GRAD;
    assert_false(fdl_requires_grad(call_signed_square(FDL_LIST(x), NULL)));
}

static void saved_tensors_go_with_the_graph(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = float64(1, 2, 3), *y = fdl_sum(call_signed_square(FDL_LIST(x), NULL));
    check_ok(fdl_backward(y, .retain_graph = true));
    check_ok(fdl_backward(y));
    assert_int_equal(fdl_backward(y), FDL_E_STATE);
    check_error(FDL_E_STATE, "second time");
    /* changed in place before the backward */
    fdl_tensor *h = fdl_mul(x, 2);
    y = fdl_sum(call_signed_square(FDL_LIST(h), NULL));
    check_ok(fdl_fill_(h, 0));
    assert_int_equal(fdl_backward(y), FDL_E_STATE);
    check_error(FDL_E_STATE, "inplace");
}

/* ---- several inputs and results ------------------------------------------------------------------------------ */

struct seen {
    bool needs[2];
    bool shape_of_second_grad;
};

/* a b, and the index of b's largest element. */
static fdl_status product(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)ctx;
    out[0] = fdl_mul(in.at[0], in.at[1]);
    out[1] = fdl_argmax(in.at[1], 0);
    FDL_TRY(fdl_custom_mark_non_differentiable(call, FDL_LIST(out[1])));
    return fdl_custom_save(call, in);
}

static fdl_status product_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    struct seen *seen = ctx;
    fdl_list saved = fdl_custom_saved(call);
    for (int i = 0; i < 2; i++) {
        seen->needs[i] = fdl_custom_needs_grad(call, i);
        if (seen->needs[i])
            out[i] = fdl_mul(grads.at[0], fdl_list_at(saved, 1 - i));
    }
    return FDL_OK;
}

static void only_wanted_gradients_of_several_inputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_custom_fn f = {.outputs = 2, .forward = product, .backward = product_backward};
    struct seen seen = {0};
    fdl_tensor *a = float64(1, 2, 3), *b = float64(4, 6, 5);
    check_ok(fdl_requires_grad_(b, false));
    fdl_list y = fdl_custom(&f, FDL_LIST(a, b), &seen);
    assert_int_equal(y.n, 2);
    assert_true(fdl_requires_grad(y.at[0]) && !fdl_requires_grad(y.at[1]));
    assert_int_equal(fdl_item_i64(y.at[1]), 1);
    check_ok(fdl_backward(fdl_sum(y.at[0])));
    assert_true(seen.needs[0] && !seen.needs[1]);
    double got[3];
    check_ok(fdl_to_f64(fdl_grad(a), got, 3));
    assert_true(got[0] == 4 && got[1] == 6 && got[2] == 5);
    assert_null(fdl_grad(b));
}

/* x changed in place and returned. */
static fdl_status twice_in_place(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)ctx;
    FDL_TRY(fdl_mul_scalar_(in.at[0], 2));
    out[0] = in.at[0];
    return fdl_custom_mark_dirty(call, in);
}

static fdl_status twice_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)ctx;
    out[0] = fdl_mul(grads.at[0], 2);
    return FDL_OK;
}

static void an_input_changed_in_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_custom_fn f = {.forward = twice_in_place, .backward = twice_backward};
    fdl_tensor *x = float64(1, 2, 3), *h = fdl_mul(x, 5);
    fdl_tensor *y = fdl_list_at(fdl_custom(&f, FDL_LIST(h), NULL), 0);
    assert_true(fdl_is(y, h));
    check_ok(fdl_backward(fdl_sum(y)));
    double got[3];
    check_ok(fdl_to_f64(fdl_grad(x), got, 3));
    assert_true(got[0] == 10 && got[2] == 10);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static fdl_status copies(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)ctx;
    out[0] = fdl_clone(in.at[0]);
    return FDL_OK;
}

static fdl_status wrong_operation(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)ctx;
    out[0] = fdl_matmul(grads.at[0], fdl_zeros(FDL_SHAPE(7), .dtype = FDL_FLOAT64));
    return FDL_OK;
}

static fdl_status says_so(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)grads;
    (void)out;
    (void)ctx;
    return fdl_fail(FDL_E_CANCELLED, "not today");
}

static fdl_status wrong_shape(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)ctx;
    out[0] = fdl_narrow(grads.at[0], 0, 0, 2);
    return FDL_OK;
}

static fdl_status saves_too_late(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)out;
    (void)ctx;
    return fdl_custom_save(call, grads);
}

static fdl_status makes_nothing(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
{
    (void)call;
    (void)in;
    (void)out;
    (void)ctx;
    return FDL_OK;
}

static void an_error_in_backward_fails_the_backward(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const struct {
        fdl_status (*backward)(fdl_custom_call *, fdl_list, fdl_tensor **, void *);
        fdl_status status;
        const char *word, *also;
    } cases[] = {
        {wrong_operation, FDL_E_SHAPE, "fdl_matmul", "[7]"},
        {says_so, FDL_E_CANCELLED, "not today", ""},
        {wrong_shape, FDL_E_SHAPE, "broken's backward gave a gradient [2] for input 0", "[3]"},
        {saves_too_late, FDL_E_STATE, "fdl_custom_save", "forward"},
        {NULL, FDL_E_UNSUPPORTED, "broken has no backward", ""},
    };
    int64_t before = fdl_live_tensors();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FDL_SCOPE;
        fdl_custom_fn f = {.name = "broken", .forward = copies, .backward = cases[i].backward};
        fdl_tensor *x = float64(1, 2, 3);
        fdl_tensor *y = fdl_sum(fdl_list_at(fdl_custom(&f, FDL_LIST(x), NULL), 0));
        f.name = NULL; /* the function has been copied */
        assert_int_equal(fdl_backward(y), cases[i].status);
        check_error(cases[i].status, cases[i].word, cases[i].also);
        assert_null(fdl_grad(x));
    }
    assert_int_equal(fdl_live_tensors(), before);
    assert_int_equal(fdl_scope_depth(), 1);
}

static void no_gradient_is_none(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_custom_fn f = {.forward = copies, .backward = makes_nothing};
    fdl_tensor *x = float64(1, 2, 3);
    check_ok(fdl_backward(fdl_sum(fdl_list_at(fdl_custom(&f, FDL_LIST(x), NULL), 0))));
    assert_null(fdl_grad(x));
}

static void a_failing_forward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = float64(1, 2, 3);
    fdl_custom_fn f = {.name = "empty", .forward = makes_nothing};
    assert_null(fdl_custom(&f, FDL_LIST(x), NULL).at);
    check_error(FDL_E_NULL, "empty's forward gave no result 0");
    f.forward = says_so;
    assert_null(fdl_custom(&f, FDL_LIST(x), NULL).at);
    check_error(FDL_E_CANCELLED, "not today");
    f.forward = NULL;
    assert_null(fdl_custom(&f, FDL_LIST(x), NULL).at);
    check_error(FDL_E_NULL, "forward is NULL");
    assert_null(fdl_custom(NULL, FDL_LIST(x), NULL).at);
    check_error(FDL_E_NULL, "f is NULL");
    assert_null(fdl_custom(&signed_square_fn, FDL_LIST(NULL), NULL).at);
    check_error(FDL_E_NULL, "inputs[0]");
    assert_int_equal(fdl_custom_save(NULL, FDL_LIST(x)), FDL_E_NULL);
    fdl_clear_error();
}

static void an_older_error_stays_pending_and_fails_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = float64(1, 2, 3);
    fdl_fail(FDL_E_TIMEOUT, "older");
    check_some(fdl_custom(&signed_square_fn, FDL_LIST(x), NULL).at);
    check_error(FDL_E_TIMEOUT, "older");
}

/* The derivative of x |x| taken for x: gradcheck names the place. */
static fdl_status half_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
{
    (void)ctx;
    out[0] = fdl_mul(grads.at[0], fdl_abs(fdl_list_at(fdl_custom_saved(call), 0)));
    return FDL_OK;
}

static fdl_tensor *call_half(fdl_list in, void *ctx)
{
    (void)ctx;
    static const fdl_custom_fn f = {.forward = signed_square, .backward = half_backward};
    return fdl_list_at(fdl_custom(&f, in, NULL), 0);
}

static void a_wrong_backward_is_found(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_gradcheck_report report;
    assert_int_equal(fdl_gradcheck(call_half, FDL_LIST(float64(1, -2, 3)), NULL, .report = &report),
                     FDL_E_MISMATCH);
    char analytic[32], numeric[32]; /* as the message writes them */
    snprintf(analytic, sizeof analytic, "%.10g", report.analytic);
    snprintf(numeric, sizeof numeric, "%.10g", report.numeric);
    check_error(FDL_E_MISMATCH, "fdl_gradcheck", "input 0", "element", analytic, numeric);
    assert_true(fabs(report.numeric / report.analytic - 2) < 1e-6);
}

/* ---- memory --------------------------------------------------------------------------------------------------------- */

static void counts(void *ctx)
{
    ++*(int *)ctx;
}

static void ctx_lives_as_long_as_the_graph(void **state)
{
    (void)state;
    FDL_SCOPE;
    int released = 0, failed = 0;
    fdl_custom_fn f = signed_square_fn;
    f.release = counts;
    fdl_tensor *x = float64(1, 2, 3);
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 100; i++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_sum(fdl_list_at(fdl_custom(&f, FDL_LIST(x), &released), 0));
        assert_int_equal(released, i);
        check_ok(fdl_backward(y));
        assert_int_equal(released, i);
    }
    assert_int_equal(released, 100);
    assert_int_equal(fdl_live_tensors(), before);
    f.forward = says_so;
    assert_null(fdl_custom(&f, FDL_LIST(x), &failed).at);
    fdl_clear_error();
    assert_int_equal(failed, 1);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(value_gradient_and_both_orders_by_differences),
        cmocka_unit_test(saved_tensors_go_with_the_graph),
        cmocka_unit_test(only_wanted_gradients_of_several_inputs),
        cmocka_unit_test(an_input_changed_in_place),
        cmocka_unit_test(an_error_in_backward_fails_the_backward),
        cmocka_unit_test(no_gradient_is_none),
        cmocka_unit_test(a_failing_forward),
        cmocka_unit_test(an_older_error_stays_pending_and_fails_nothing),
        cmocka_unit_test(a_wrong_backward_is_found),
        cmocka_unit_test(ctx_lives_as_long_as_the_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
