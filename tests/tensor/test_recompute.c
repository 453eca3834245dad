/* Activation checkpointing: the gradients are those of the plain call, dropout drops the same, less is kept. */
#include "check.h"

#include <math.h>

struct layer {
    fdl_tensor *w, *b; /* [8, 8], [8] */
    double dropout;
    int calls;
};

static fdl_tensor *run_layer(fdl_list in, void *ctx)
{
    struct layer *l = ctx;
    l->calls++;
    fdl_tensor *h = fdl_tanh(fdl_linear(in.at[0], l->w, .bias = l->b));
    h = fdl_dropout(h, l->dropout, .training = true);
    return fdl_mul(h, fdl_sigmoid(fdl_linear(h, l->w)));
}

static struct layer a_layer(double dropout)
{
    return (struct layer){fdl_randn(FDL_SHAPE(8, 8), .dtype = FDL_FLOAT64, .requires_grad = true),
                          fdl_randn(FDL_SHAPE(8), .dtype = FDL_FLOAT64, .requires_grad = true), dropout, 0};
}

static fdl_tensor *an_input(void)
{
    return fdl_randn(FDL_SHAPE(4, 8), .dtype = FDL_FLOAT64, .requires_grad = true);
}

static void same_result_and_gradients_with_dropout(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0.5);
    fdl_tensor *x = an_input(), *all[] = {x, l.w, l.b};
    check_ok(fdl_manual_seed(7));
    fdl_tensor *plain = run_layer(FDL_LIST(x), &l);
    fdl_list want = fdl_grad_of(FDL_LIST(fdl_sum(plain)), ((fdl_list){3, all}));
    check_ok(fdl_manual_seed(7));
    fdl_tensor *y = fdl_checkpoint_fn(run_layer, &l, FDL_LIST(x));
    check_some(y);
    assert_true(fdl_same(fdl_detach(y), fdl_detach(plain)));
    fdl_rand(FDL_SHAPE(100)); /* other numbers in between */
    fdl_tensor *before = fdl_rng_state(fdl_default_device());
    assert_int_equal(l.calls, 2);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_int_equal(l.calls, 3);
    for (int i = 0; i < 3; i++)
        assert_true(fdl_allclose(fdl_grad(all[i]), want.at[i], .rtol = 1e-12, .atol = 1e-12));
    assert_true(fdl_same(before, fdl_rng_state(fdl_default_device()))); /* as if nothing had been drawn */
}

static void gradients_as_values_and_only_of_parameters(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0);
    fdl_tensor *x = an_input();
    check_ok(fdl_requires_grad_(x, false));
    fdl_tensor *want =
        fdl_list_at(fdl_grad_of(FDL_LIST(fdl_sum(run_layer(FDL_LIST(x), &l))), FDL_LIST(l.w)), 0);
    /* the input needs no gradient, the parameters do */
    fdl_tensor *y = fdl_checkpoint_fn(run_layer, &l, FDL_LIST(x));
    assert_true(fdl_requires_grad(y));
    fdl_tensor *got = fdl_list_at(fdl_grad_of(FDL_LIST(fdl_sum(y)), FDL_LIST(l.w)), 0);
    assert_true(fdl_allclose(got, want, .rtol = 1e-12));
    assert_null(fdl_grad(l.w));
    assert_null(fdl_grad(l.b));
}

struct by_input {
    int calls;
};
static fdl_tensor *run_by_input(fdl_list in, void *ctx)
{
    ((struct by_input *)ctx)->calls++;
    return fdl_mul(fdl_tanh(fdl_linear(in.at[0], in.at[1], .bias = in.at[2])), in.at[0]);
}
static fdl_tensor *checkpointed_by_input(fdl_list in, void *ctx)
{
    return fdl_checkpoint_fn(run_by_input, ctx, in);
}

static void agrees_with_differences(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0);
    struct by_input b = {0};
    check_ok(fdl_gradcheck(checkpointed_by_input, FDL_LIST(an_input(), l.w, l.b), &b));
    assert_true(b.calls > 3);
}

/* A parameter that is used inside the block, outside it and as the maker of its input: all paths count once. */
static void a_shared_parameter(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0);
    fdl_tensor *x = an_input();
    fdl_tensor *loss[2], *grad[2];
    for (int i = 0; i < 2; i++) {
        fdl_tensor *h = fdl_linear(x, l.w);
        fdl_tensor *y = i ? fdl_checkpoint_fn(run_layer, &l, FDL_LIST(h)) : run_layer(FDL_LIST(h), &l);
        loss[i] = fdl_sum(fdl_linear(y, l.w));
        check_ok(fdl_backward(loss[i]));
        grad[i] = fdl_clone(fdl_grad(l.w));
        check_ok(fdl_clear_grad(l.w));
    }
    assert_true(fdl_allclose(grad[1], grad[0], .rtol = 1e-12, .atol = 1e-12));
}

static fdl_tensor *run_nested(fdl_list in, void *ctx)
{
    fdl_tensor *h = fdl_checkpoint_fn(run_layer, ctx, in);
    return fdl_checkpoint_fn(run_layer, ctx, FDL_LIST(h));
}

static void blocks_in_a_row_and_inside_each_other(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0.25);
    fdl_tensor *x = an_input(), *grad[2];
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_manual_seed(3));
        fdl_tensor *y = i ? fdl_checkpoint_fn(run_nested, &l, FDL_LIST(x))
                          : run_layer(FDL_LIST(run_layer(FDL_LIST(x), &l)), &l);
        check_some(y);
        check_ok(fdl_backward(fdl_sum(y)));
        grad[i] = fdl_clone(fdl_grad(l.w));
        check_ok(fdl_clear_grad(l.w));
    }
    assert_true(fdl_allclose(grad[1], grad[0], .rtol = 1e-12, .atol = 1e-12));
}

static void a_retained_graph_runs_again(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0.5);
    fdl_tensor *x = an_input(), *y = fdl_sum(fdl_checkpoint_fn(run_layer, &l, FDL_LIST(x)));
    check_ok(fdl_backward(y, .retain_graph = true));
    fdl_tensor *once = fdl_clone(fdl_grad(x));
    check_ok(fdl_backward(y));
    assert_true(fdl_allclose(fdl_grad(x), fdl_mul(once, 2), .rtol = 1e-12));
    assert_int_equal(fdl_backward(y), FDL_E_STATE);
    check_error(FDL_E_STATE, "second time");
}

/* ---- what is kept --------------------------------------------------------------------------------------------- */

static void counts(void *ctx)
{
    ++*(int *)ctx;
}

static fdl_tensor *through_blob(fdl_list in, void *ctx)
{
    /* a factor that its product keeps for the backward, and that says when it dies */
    static float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    fdl_tensor *factor = fdl_from_blob(ones, FDL_SHAPE(8), .release = counts, .ctx = ctx);
    return fdl_mul(in.at[0], factor);
}

static void what_the_block_computed_is_not_kept(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(8), .device = FDL_CPU, .requires_grad = true);
    int died = 0, gone = 0;
    {
        FDL_SCOPE;
        check_some(through_blob(FDL_LIST(x), &died));
        assert_int_equal(died, 0); /* its product keeps it */
    }
    assert_int_equal(died, 1);
    fdl_tensor *y = fdl_checkpoint_fn(through_blob, &gone, FDL_LIST(x));
    assert_int_equal(gone, 1);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_int_equal(gone, 2);
}

static void handles_and_ctx_are_freed(void **state)
{
    (void)state;
    FDL_SCOPE;
    struct layer l = a_layer(0.1);
    fdl_tensor *x = an_input();
    int64_t before = fdl_live_tensors();
    for (int i = 0; i < 100; i++) {
        FDL_SCOPE;
        check_ok(fdl_backward(fdl_sum(fdl_checkpoint_fn(run_layer, &l, FDL_LIST(x)))));
        check_ok(fdl_clear_grad(x));
        check_ok(fdl_clear_grad(l.w));
        check_ok(fdl_clear_grad(l.b));
    }
    assert_int_equal(fdl_live_tensors(), before);
    int released = 0;
    {
        FDL_SCOPE;
        fdl_tensor *y = fdl_checkpoint_fn(
            through_blob, &released, FDL_LIST(fdl_ones(FDL_SHAPE(8), .device = FDL_CPU)), .release = counts);
        check_some(y);
    }
    assert_int_equal(released, 2); /* the blob and the ctx */
}

/* ---- errors -------------------------------------------------------------------------------------------------------- */

static fdl_tensor *uses_captured(fdl_list in, void *ctx)
{
    return fdl_mul(in.at[0], (fdl_tensor *)ctx);
}

static fdl_tensor *fails_the_second_time(fdl_list in, void *ctx)
{
    int *calls = ctx;
    return ++*calls == 1 ? fdl_square(in.at[0])
                         : fdl_fail_null(FDL_E_CANCELLED, "call %d is one too many", *calls);
}

static fdl_tensor *grows(fdl_list in, void *ctx)
{
    int *calls = ctx;
    return fdl_mul(fdl_expand(fdl_unsqueeze(in.at[0], 0), FDL_SHAPE(++*calls, 8)), 2);
}

static fdl_tensor *gives_nothing(fdl_list in, void *ctx)
{
    (void)in;
    (void)ctx;
    return NULL;
}

static fdl_tensor *gives_its_input(fdl_list in, void *ctx)
{
    (void)ctx;
    return in.at[0];
}

static void what_goes_wrong_is_said(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(8), .requires_grad = true);
    /* a result from outside is no input */
    fdl_tensor *outside = fdl_exp(x);
    assert_null(fdl_checkpoint_fn(uses_captured, outside, FDL_LIST(x)));
    check_error(FDL_E_ARG, "ExpBackward0", "input");
    check_some(fdl_checkpoint_fn(uses_captured, fdl_detach(outside), FDL_LIST(x)));
    /* the second call fails, or gives something else */
    int calls = 0;
    fdl_tensor *y = fdl_checkpoint_fn(fails_the_second_time, &calls, FDL_LIST(x));
    assert_int_equal(fdl_backward(fdl_sum(y)), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "call 2 is one too many");
    calls = 0;
    y = fdl_checkpoint_fn(grows, &calls, FDL_LIST(x));
    assert_int_equal(fdl_backward(fdl_sum(y)), FDL_E_STATE);
    check_error(FDL_E_STATE, "another shape");
    assert_null(fdl_checkpoint_fn(gives_nothing, NULL, FDL_LIST(x)));
    check_error(FDL_E_NULL, "no tensor");
    assert_null(fdl_checkpoint_fn(NULL, NULL, FDL_LIST(x)));
    check_error(FDL_E_NULL, "fn is NULL");
    y = fdl_checkpoint_fn(uses_captured, x, FDL_LIST(x));
    assert_null(fdl_grad_of(FDL_LIST(fdl_sum(y)), FDL_LIST(x), .create_graph = true).at);
    check_error(FDL_E_UNSUPPORTED, "twice");
    assert_true(fdl_grad_enabled());
    assert_int_equal(fdl_scope_depth(), 1);
}

static void an_input_handed_through_and_no_grad(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(8), .requires_grad = true);
    fdl_tensor *y = fdl_checkpoint_fn(gives_its_input, NULL, FDL_LIST(x));
    check_ok(fdl_backward(fdl_sum(fdl_mul(y, 3))));
    assert_true(fdl_item(fdl_max(fdl_grad(x))) == 3);
    FDL_NO_GRAD;
    int calls = 0;
    y = fdl_checkpoint_fn(fails_the_second_time, &calls, FDL_LIST(x));
    assert_false(fdl_requires_grad(y));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_result_and_gradients_with_dropout),
        cmocka_unit_test(gradients_as_values_and_only_of_parameters),
        cmocka_unit_test(agrees_with_differences),
        cmocka_unit_test(a_shared_parameter),
        cmocka_unit_test(blocks_in_a_row_and_inside_each_other),
        cmocka_unit_test(a_retained_graph_runs_again),
        cmocka_unit_test(what_the_block_computed_is_not_kept),
        cmocka_unit_test(handles_and_ctx_are_freed),
        cmocka_unit_test(what_goes_wrong_is_said),
        cmocka_unit_test(an_input_handed_through_and_no_grad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
