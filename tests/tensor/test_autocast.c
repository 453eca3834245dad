/* Autocast: dtypes of results as PyTorch has them (tests/fixtures/autocast.json), and what is restored when. */
#include "check.h"

#include <jansson.h>

static int16_t type = FDL_DEVICE_TYPE_CPU; /* what the test runs on */

/* ---- dtypes ---------------------------------------------------------------------------------------- */

static fdl_dtype low; /* of this round */

static fdl_tensor *full(fdl_shape shape)
{
    return fdl_rand(shape);
}
static fdl_tensor *half(fdl_shape shape)
{
    return fdl_to_dtype(fdl_rand(shape), low);
}
#define F full(FDL_SHAPE(4, 4))
#define F3 full(FDL_SHAPE(2, 4, 4))
#define H half(FDL_SHAPE(4, 4))
#define IMG FDL_SHAPE(1, 4, 4, 4)
#define KERNEL full(FDL_SHAPE(4, 4, 3, 3))
#define CLASSES fdl_ivec(0, 1, 2, 3)

#define CASES(X)                                                                      \
    X("matmul", fdl_matmul(F, F))                                                     \
    X("mm", fdl_mm(F, F))                                                             \
    X("bmm", fdl_bmm(F3, F3))                                                         \
    X("addmm", fdl_addmm(F, F, F))                                                    \
    X("baddbmm", fdl_baddbmm(F3, F3, F3))                                             \
    X("linear", fdl_linear(F, F))                                                     \
    X("conv2d", fdl_conv2d(full(IMG), KERNEL))                                        \
    X("conv_transpose2d", fdl_conv_transpose2d(full(IMG), KERNEL))                    \
    X("prelu", fdl_prelu(F, full(FDL_SHAPE(4))))                                      \
    X("scaled_dot_product_attention", fdl_scaled_dot_product_attention(F3, F3, F3))   \
    X("exp", fdl_exp(H))                                                              \
    X("log", fdl_log(H))                                                              \
    X("pow", fdl_pow(H, 3))                                                           \
    X("tan", fdl_tan(H))                                                              \
    X("sum", fdl_sum(H))                                                              \
    X("prod", fdl_prod(H))                                                            \
    X("cumsum", fdl_cumsum(H, 0))                                                     \
    X("softmax", fdl_softmax(H, 1))                                                   \
    X("log_softmax", fdl_log_softmax(H, 1))                                           \
    X("layer_norm", fdl_layer_norm(H, FDL_SHAPE(4)))                                  \
    X("group_norm", fdl_group_norm(half(IMG), 2))                                     \
    X("rsqrt", fdl_rsqrt(H))                                                          \
    X("reciprocal", fdl_reciprocal(H))                                                \
    X("softplus", fdl_softplus(H))                                                    \
    X("mse_loss", fdl_mse_loss(H, H))                                                 \
    X("l1_loss", fdl_l1_loss(H, H))                                                   \
    X("smooth_l1_loss", fdl_smooth_l1_loss(H, H))                                     \
    X("cross_entropy", fdl_cross_entropy(H, CLASSES))                                 \
    X("nll_loss", fdl_nll_loss(H, CLASSES))                                           \
    X("binary_cross_entropy_with_logits", fdl_binary_cross_entropy_with_logits(H, H)) \
    X("cat", fdl_cat(FDL_LIST(H, F), 0))                                              \
    X("stack", fdl_stack(FDL_LIST(H, F), 0))                                          \
    X("relu", fdl_relu(H))                                                            \
    X("gelu", fdl_gelu(H))                                                            \
    X("add", fdl_add(H, H))                                                           \
    X("mean", fdl_mean(H))                                                            \
    X("max_pool2d", fdl_max_pool2d(half(IMG), 2))

static void dtypes_are_pytorchs(void **state)
{
    (void)state;
    json_error_t error;
    json_t *file = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/autocast.json", 0, &error);
    if (!file)
        fail_msg("autocast.json: %s", error.text);
    const json_t *cases = json_object_get(file, "cases");
    const fdl_dtype lows[] = {FDL_BFLOAT16, FDL_FLOAT16};
    size_t n = 0;
    for (int i = 0; i < 2; i++) {
        low = lows[i];
        FDL_AUTOCAST(.dtype = low);
        n = 0;
#define CHECK(name, expression)                                                                         \
    {                                                                                                   \
        FDL_SCOPE;                                                                                      \
        const json_t *by_type = json_object_get(json_object_get(cases, name), fdl_dtype_name(low));     \
        const char *want =                                                                              \
            json_string_value(json_object_get(by_type, type == FDL_DEVICE_TYPE_CUDA ? "cuda" : "cpu")); \
        fdl_tensor *y = (expression);                                                                   \
        n++;                                                                                            \
        check_some(y);                                                                                  \
        if (!want || strcmp(want, fdl_dtype_name(fdl_dtype_of(y))))                                     \
            fail_msg("%s under %s: %s, PyTorch's is %s", name, fdl_dtype_name(low),                     \
                     fdl_dtype_name(fdl_dtype_of(y)), want ? want : "not recorded");                    \
    }
        CASES(CHECK)
    }
    assert_int_equal(n, json_object_size(cases));
    json_decref(file);
}

/* ---- the block ------------------------------------------------------------------------------------- */

static fdl_dtype of_product(void)
{
    FDL_SCOPE;
    return fdl_dtype_of(fdl_matmul(F, F));
}

static int left_by_return(void)
{
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
    assert_true(fdl_amp_autocast_enabled(0));
    return of_product() == FDL_BFLOAT16;
}

static void every_way_out_restores(void **state)
{
    (void)state;
    assert_false(fdl_amp_autocast_enabled(type));
    assert_true(left_by_return());
    assert_false(fdl_amp_autocast_enabled(0));
    for (int i = 0; i < 3; i++) {
        FDL_AUTOCAST();
        if (i == 0)
            continue;
        assert_int_equal(of_product(), type == FDL_DEVICE_TYPE_CUDA ? FDL_FLOAT16 : FDL_BFLOAT16);
        break;
    }
    assert_false(fdl_amp_autocast_enabled(type));
    assert_int_equal(of_product(), FDL_FLOAT32);
}

static void blocks_nest(void **state)
{
    (void)state;
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
    {
        FDL_AUTOCAST_OFF;
        assert_false(fdl_amp_autocast_enabled(type));
        assert_int_equal(of_product(), FDL_FLOAT32);
        {
            FDL_AUTOCAST(.dtype = FDL_FLOAT16);
            assert_int_equal(of_product(), FDL_FLOAT16);
        }
        assert_int_equal(of_product(), FDL_FLOAT32);
    }
    assert_int_equal(of_product(), FDL_BFLOAT16);
}

static void types_are_apart(void **state)
{
    (void)state;
    FDL_AUTOCAST(.device_type = FDL_DEVICE_TYPE_CPU, .dtype = FDL_BFLOAT16);
    assert_true(fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CPU));
    assert_false(fdl_amp_autocast_enabled(FDL_DEVICE_TYPE_CUDA));
    fdl_tensor *x = fdl_rand(FDL_SHAPE(2, 2), .device = FDL_CPU);
    assert_int_equal(fdl_dtype_of(fdl_matmul(x, x)), FDL_BFLOAT16);
    if (type == FDL_DEVICE_TYPE_CUDA)
        assert_int_equal(of_product(), FDL_FLOAT32);
}

static void backward_gives_float32_to_parameters(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(4, 3);
    check_some(m);
    fdl_tensor *loss = NULL;
    {
        FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
        fdl_tensor *y = fdl_forward(m, F);
        assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
        loss = fdl_mean(fdl_float(y));
    }
    check_ok(fdl_backward(loss));
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "weight"));
    assert_int_equal(fdl_dtype_of(w), FDL_FLOAT32);
    assert_int_equal(fdl_dtype_of(fdl_grad(w)), FDL_FLOAT32);
    check_ok(fdl_module_free(m));
}

/* A parameter is converted once in a block; when the outermost one ends the copy is forgotten, so that the next block sees
 * the parameter as it is then. */
static void the_cache_ends_with_the_outermost_block(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(2, 2), .requires_grad = true), *x = fdl_ones(FDL_SHAPE(2, 2));
    for (int i = 0; i < 2; i++) {
        FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
        {
            FDL_AUTOCAST(.dtype = FDL_BFLOAT16); /* its end must not forget */
            check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 2.0 + 2 * i, 0);
        }
        FDL_NO_GRAD;
        check_ok(fdl_add_scalar_(w, 1));
        double cached = fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))); /* no_grad reads the cache as well */
        check_number(cached, 2.0 + 2 * i, 0);
    }
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16, .no_cache = true);
    check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 6, 0);
    {
        FDL_NO_GRAD;
        check_ok(fdl_add_scalar_(w, 1));
    }
    check_number(fdl_item(fdl_mean(fdl_float(fdl_matmul(x, w)))), 8, 0);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    fdl_mode_guard m = fdl_amp_autocast_open(.dtype = FDL_FLOAT64);
    assert_int_equal(m.depth, 0);
    check_error(FDL_E_DTYPE, "float64", "bfloat16");
    m = fdl_amp_autocast_open(.device_type = 7);
    assert_int_equal(m.depth, 0);
    check_error(FDL_E_ARG, "7");
    if (!fdl_cuda_available()) {
        m = fdl_amp_autocast_open(.device_type = FDL_DEVICE_TYPE_CUDA);
        assert_int_equal(m.depth, 0);
        check_error(FDL_E_DEVICE, "CUDA");
    }
    assert_false(fdl_amp_autocast_enabled(0));
    m = fdl_amp_autocast_open();
    check_ok(fdl_mode_close(m));
    assert_int_equal(fdl_mode_close(m), FDL_E_STATE);
    fdl_clear_error();
}

int main(void)
{
    if (on_test_device())
        type = FDL_DEVICE_TYPE_CUDA;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtypes_are_pytorchs),
        cmocka_unit_test(every_way_out_restores),
        cmocka_unit_test(blocks_nest),
        cmocka_unit_test(types_are_apart),
        cmocka_unit_test(backward_gives_float32_to_parameters),
        cmocka_unit_test(the_cache_ends_with_the_outermost_block),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
