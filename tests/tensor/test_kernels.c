/* The fused kernels refuse lists that they would read wrongly: libtorch's own check nothing. */
#include "check.h"

static fdl_tensor *p, *g, *m, *v, *step, *lr;

static void operands(void)
{
    p = fdl_ones(FDL_SHAPE(2, 3));
    g = fdl_full(FDL_SHAPE(2, 3), 0.5);
    m = fdl_zeros(FDL_SHAPE(2, 3));
    v = fdl_zeros(FDL_SHAPE(2, 3));
    step = fdl_ones(FDL_SCALAR);
    lr = fdl_scalar(0.1,
                    .dtype = fdl_default_device().type == FDL_DEVICE_TYPE_CUDA ? FDL_FLOAT32 : FDL_FLOAT64);
}

static fdl_status adam(void)
{
    return fdl_k_fused_adam_(FDL_LIST(p), FDL_LIST(g), FDL_LIST(m), FDL_LIST(v), FDL_LIST(step), lr);
}

static void adam_steps(void **state)
{
    (void)state;
    FDL_SCOPE;
    operands();
    check_ok(adam());
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(p, 0.9)))) < 1e-6); /* the first step is lr long */
}

static void adam_refuses(void **state)
{
    (void)state;
    FDL_SCOPE;
    operands();
    g = fdl_ones(FDL_SHAPE(3, 2));
    assert_int_equal(adam(), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "fdl_k_fused_adam_(", "grads[0]", "another shape");
    operands();
    m = fdl_zeros(FDL_SHAPE(2, 3), .dtype = FDL_FLOAT64);
    assert_int_equal(adam(), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "exp_avgs[0]");
    operands();
    v = fdl_transpose(fdl_zeros(FDL_SHAPE(3, 2)), 0, 1);
    assert_int_equal(adam(), FDL_E_ARG);
    check_error(FDL_E_ARG, "exp_avg_sqs[0]", "same order");
    operands();
    p = fdl_select(fdl_ones(FDL_SHAPE(2, 3, 2)), 2, 0);
    g = m = v = p;
    assert_int_equal(adam(), FDL_E_ARG);
    check_error(FDL_E_ARG, "without gaps");
    operands();
    step = fdl_ones(FDL_SCALAR, .dtype = FDL_INT64);
    assert_int_equal(adam(), FDL_E_ARG);
    check_error(FDL_E_ARG, "steps[0]");
    operands();
    fdl_drop(lr);
    assert_int_equal(adam(), FDL_E_STATE);
    check_error(FDL_E_STATE, "lr", "freed");
    operands();
    assert_true(fdl_item(fdl_sum(fdl_abs(fdl_sub(p, 1)))) == 0);
}

static void anothers_error_is_not_its_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    operands();
    assert_null(fdl_zeros(FDL_SHAPE(-1)));
    check_ok(adam());
    check_error(FDL_E_SHAPE, "extent -1");
}

static void sgd_refuses(void **state)
{
    (void)state;
    FDL_SCOPE;
    operands();
    check_ok(fdl_k_fused_sgd_(FDL_LIST(p), FDL_LIST(g), ((fdl_list){0, NULL}), lr));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(p, 0.95)))) < 1e-6);
    assert_int_equal(
        fdl_k_fused_sgd_(FDL_LIST(p), FDL_LIST(fdl_ones(FDL_SHAPE(6))), ((fdl_list){0, NULL}), lr),
        FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "fdl_k_fused_sgd_(", "grads[0]");
    assert_int_equal(fdl_k_fused_sgd_(FDL_LIST(p), FDL_LIST(g), FDL_LIST(fdl_t(fdl_ones(FDL_SHAPE(3, 2)))),
                                      lr, .momentum = 0.9),
                     FDL_E_ARG);
    check_error(FDL_E_ARG, "momentum_buffers[0]");
}

/* [1, 3, 1] may have any strides around its 3 elements; what weight norm computes has other ones than its gradient. */
static void strides_of_one_element_say_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    operands();
    fdl_shape one = FDL_SHAPE(1, 3, 1);
    p = fdl_as_strided(fdl_ones(FDL_SHAPE(3)), one, FDL_SHAPE(1, 1, 1), 0);
    g = fdl_full(one, 0.5);
    m = fdl_as_strided(fdl_zeros(FDL_SHAPE(3)), one, FDL_SHAPE(7, 1, 5), 0);
    v = fdl_zeros(one);
    check_ok(adam());
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(p, 0.9)))) < 1e-6);
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(m, 0.05)))) < 1e-6);
    check_ok(fdl_k_fused_sgd_(FDL_LIST(p), FDL_LIST(g), FDL_LIST(m), lr, .momentum = 0.5));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(m, 0.525)))) < 1e-6);
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_sub(p, 0.8475)))) < 1e-6);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adam_steps),
        cmocka_unit_test(adam_refuses),
        cmocka_unit_test(anothers_error_is_not_its_own),
        cmocka_unit_test(sgd_refuses),
        cmocka_unit_test(strides_of_one_element_say_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
