/* Hooks on gradients and anomaly detection: values, order, removal, errors, memory. */
#include "check.h"

#include <math.h>

static fdl_tensor *doubles(fdl_tensor *grad, void *ctx)
{
    if (ctx)
        ++*(int *)ctx;
    return fdl_mul(grad, 2);
}

static fdl_tensor *adds_one(fdl_tensor *grad, void *ctx)
{
    if (ctx)
        ++*(int *)ctx;
    return fdl_add(grad, 1);
}

static fdl_tensor *looks(fdl_tensor *grad, void *ctx)
{
    *(double *)ctx = fdl_item(grad);
    return NULL;
}

static double grad_at(fdl_tensor *x)
{
    return fdl_item(fdl_grad(x));
}

static void a_hook_replaces_the_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
    int calls = 0;
    fdl_hook twice = fdl_hook_grad(x, doubles, &calls);
    assert_ptr_equal(twice.of, fdl_identity(x));
    check_ok(fdl_backward(fdl_mul(x, 3)));
    assert_true(grad_at(x) == 6);
    /* in the order of registration, each on what the one before made */
    fdl_hook_grad(x, adds_one, NULL);
    check_ok(fdl_clear_grad(x));
    check_ok(fdl_backward(fdl_mul(x, 3)));
    assert_true(grad_at(x) == 7);
    /* a removed hook doesn't run */
    check_ok(fdl_hook_remove(x, twice));
    check_ok(fdl_hook_remove(x, twice));
    check_ok(fdl_clear_grad(x));
    check_ok(fdl_backward(fdl_mul(x, 3)));
    assert_true(grad_at(x) == 4);
    assert_int_equal(calls, 2);
}

static void a_hook_on_a_result_changes_what_flows_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true), *y = fdl_mul(x, 5);
    double seen = 0;
    fdl_hook_grad(y, looks, &seen);
    fdl_hook_grad(y, doubles, NULL);
    check_ok(fdl_backward(fdl_mul(y, 3)));
    assert_true(seen == 3 && grad_at(x) == 30);
}

/* ---- after accumulation -------------------------------------------------------------------------------- */

struct log {
    int n;
    const char *of[8];
    double grad[8];
};
struct entry {
    struct log *log;
    const char *name;
};

static fdl_status logs(fdl_tensor *leaf, void *ctx)
{
    struct entry *e = ctx;
    e->log->of[e->log->n] = e->name;
    e->log->grad[e->log->n++] = fdl_item(fdl_grad(leaf));
    return FDL_OK;
}

static void hooks_after_accumulation_see_the_new_value(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct log log = {0};
    struct entry e[] = {{&log, "first"}, {&log, "second"}, {&log, "of w"}};
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
    fdl_tensor *w = fdl_full(FDL_SHAPE(1), 4, .requires_grad = true);
    fdl_hook first = fdl_hook_accumulated(x, logs, &e[0]);
    fdl_hook_accumulated(x, logs, &e[1]);
    /* x is deeper than w: w's gradient is ready first */
    fdl_hook_accumulated(w, logs, &e[2]);
    check_ok(fdl_backward(fdl_mul(fdl_mul(x, 3), w)));
    assert_int_equal(log.n, 3);
    assert_string_equal(log.of[0], "of w");
    assert_true(log.grad[0] == 3);
    assert_string_equal(log.of[1], "first");
    assert_string_equal(log.of[2], "second");
    assert_true(log.grad[1] == 12 && log.grad[2] == 12);
    check_ok(fdl_hook_remove(x, first));
    log.n = 0;
    check_ok(fdl_backward(fdl_mul(x, 5)));
    assert_int_equal(log.n, 1);
    assert_string_equal(log.of[0], "second");
    assert_true(log.grad[0] == 17);
}

static fdl_status steps(fdl_tensor *leaf, void *ctx)
{
    (void)ctx;
    FDL_NO_GRAD;
    FDL_TRY(fdl_sub_(leaf, fdl_grad(leaf), .alpha = 0.5));
    return fdl_clear_grad(leaf);
}

static void a_step_inside_the_backward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_full(FDL_SHAPE(1), 4, .requires_grad = true);
    fdl_hook_accumulated(w, steps, NULL);
    check_ok(fdl_backward(fdl_square(w)));
    assert_true(fdl_item(w) == 0);
    assert_null(fdl_grad(w));
}

/* ---- errors ---------------------------------------------------------------------------------------------- */

static fdl_tensor *multiplies_wrongly(fdl_tensor *grad, void *ctx)
{
    (void)ctx;
    return fdl_mul(fdl_zeros(FDL_SHAPE(7)), fdl_expand(grad, FDL_SHAPE(5)));
}

static fdl_tensor *another_shape(fdl_tensor *grad, void *ctx)
{
    (void)ctx;
    return fdl_expand(grad, FDL_SHAPE(5));
}

static fdl_status cancels(fdl_tensor *leaf, void *ctx)
{
    (void)leaf;
    (void)ctx;
    return FDL_E_CANCELLED;
}

static void an_error_in_a_hook_fails_the_backward(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
        fdl_hook h = fdl_hook_grad(x, multiplies_wrongly, NULL);
        assert_int_equal(fdl_backward(fdl_mul(x, 3)), FDL_E_SHAPE);
        assert_string_equal(fdl_last_error()->file, __FILE__); /* where the hook multiplied */
        check_error(FDL_E_SHAPE, "fdl_mul", "[7]", "[5]");
        check_ok(fdl_hook_remove(x, h));
        h = fdl_hook_grad(x, another_shape, NULL);
        assert_int_equal(fdl_backward(fdl_mul(x, 3)), FDL_E_SHAPE);
        check_error(FDL_E_SHAPE, "fdl_backward");
        check_ok(fdl_hook_remove(x, h));
        fdl_hook_accumulated(x, cancels, NULL);
        assert_int_equal(fdl_backward(fdl_mul(x, 3)), FDL_E_CANCELLED);
        check_error(FDL_E_CANCELLED, "without an error");
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void wrong_registrations(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *constant = fdl_ones(FDL_SHAPE(1));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
    assert_null(fdl_hook_grad(constant, doubles, NULL).of);
    assert_string_equal(fdl_last_error()->file, __FILE__);
    check_error(FDL_E_STATE, "does not require grad");
    assert_null(fdl_hook_accumulated(fdl_mul(x, 2), steps, NULL).of);
    check_error(FDL_E_STATE, "leaf");
    assert_null(fdl_hook_grad(x, NULL, NULL).of);
    check_error(FDL_E_NULL, "fn is NULL");
    assert_null(fdl_hook_grad(NULL, doubles, NULL).of);
    check_error(FDL_E_NULL, "x is NULL");
    fdl_hook h = fdl_hook_grad(x, doubles, NULL);
    assert_int_equal(fdl_hook_remove(constant, h), FDL_E_ARG);
    check_error(FDL_E_ARG, "another tensor");
    check_ok(fdl_hook_remove(x, (fdl_hook){0}));
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static void counts(void *ctx)
{
    ++*(int *)ctx;
}

static void a_ctx_is_released_once(void **state)
{
    (void)state;
    int released[5] = {0};
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1), .requires_grad = true);
    {
        FDL_SCOPE;
        fdl_tensor *y = fdl_mul(x, 2);
        fdl_hook_grad(y, doubles, &released[0], .release = counts);
        fdl_hook removed = fdl_hook_grad(x, doubles, &released[1], .release = counts);
        fdl_hook after = fdl_hook_accumulated(x, cancels, &released[2], .release = counts);
        fdl_hook_grad(fdl_ones(FDL_SHAPE(1)), doubles, &released[3], .release = counts); /* fails */
        fdl_hook_grad(NULL, doubles, &released[4], .release = counts);
        fdl_clear_error();
        assert_int_equal(released[3] + released[4], 2);
        check_ok(fdl_hook_remove(x, removed));
        check_ok(fdl_hook_remove(x, removed));
        check_ok(fdl_hook_remove(x, after));
        assert_int_equal(released[0], 0);
    }
    for (int i = 0; i < 5; i++)
        assert_int_equal(released[i], 1);
}

static fdl_tensor *makes_many(fdl_tensor *grad, void *ctx)
{
    (void)ctx;
    fdl_tensor *sum = grad;
    for (int i = 0; i < 50; i++)
        sum = fdl_add(sum, fdl_mul(grad, 0.5));
    return sum;
}

static void what_a_hook_makes_dies_with_it(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4), .requires_grad = true);
    fdl_hook_grad(x, makes_many, NULL);
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 200; i++) {
        FDL_SCOPE;
        check_ok(fdl_backward(fdl_sum(fdl_square(x))));
        check_ok(fdl_clear_grad(x));
    }
    assert_int_equal(fdl_live_tensors(), before);
    assert_int_equal(fdl_scope_depth(), 1);
}

static fdl_tensor *makes_ones(fdl_tensor *grad, void *ctx)
{
    (void)grad;
    (void)ctx;
    return fdl_ones(FDL_SHAPE(1));
}

static void the_registering_threads_defaults_hold(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_dtype before = fdl_default_dtype();
    check_ok(fdl_set_default_dtype(FDL_FLOAT64));
    fdl_tensor *x = fdl_full(FDL_SHAPE(1), 3, .requires_grad = true);
    fdl_hook_grad(x, makes_ones, NULL);
    check_ok(fdl_set_default_dtype(before));
    check_ok(fdl_backward(fdl_square(x))); /* float32 ones in place of a float64 gradient would be refused */
    assert_true(grad_at(x) == 1);
    assert_int_equal(fdl_default_dtype(), before);
}

/* ---- anomaly detection ------------------------------------------------------------------------------------------ */

static void a_nan_is_traced_to_its_operation(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_zeros(FDL_SHAPE(1), .requires_grad = true);
    check_ok(fdl_backward(fdl_sqrt(fdl_mul(x, 0)))); /* inf * 0: silently NaN */
    assert_true(isnan(grad_at(x)));
    fdl_detect_anomaly(true);
    assert_true(fdl_is_detecting_anomaly());
    fdl_status status = fdl_backward(fdl_sqrt(fdl_mul(x, 0)));
    fdl_detect_anomaly(false);
    assert_int_not_equal(status, FDL_OK);
    check_error(status, "fdl_backward", "MulBackward", "nan");
    assert_false(fdl_is_detecting_anomaly());
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hook_replaces_the_gradient),
        cmocka_unit_test(a_hook_on_a_result_changes_what_flows_on),
        cmocka_unit_test(hooks_after_accumulation_see_the_new_value),
        cmocka_unit_test(a_step_inside_the_backward),
        cmocka_unit_test(an_error_in_a_hook_fails_the_backward),
        cmocka_unit_test(wrong_registrations),
        cmocka_unit_test(a_ctx_is_released_once),
        cmocka_unit_test(what_a_hook_makes_dies_with_it),
        cmocka_unit_test(the_registering_threads_defaults_hold),
        cmocka_unit_test(a_nan_is_traced_to_its_operation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
