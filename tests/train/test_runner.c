/* Recorded inference: what a runner gives is what the model gives, for every kind of input, after every change. */
#include "job.h"

static fdl_module *model_on(fdl_device device, bool training)
{
    check_ok(fdl_manual_seed(3));
    fdl_module *m = tower(true);
    check_some(m);
    check_ok(fdl_module_to(m, device));
    if (!training)
        check_ok(fdl_eval(m));
    return m;
}

static fdl_tensor *input(int t, int64_t rows, fdl_device device)
{
    fdl_tensor *xy[2];
    batch_of(t, rows, device, xy);
    return xy[0];
}

static void expect_models_output(fdl_runner *r, fdl_module *m, int t, int64_t rows, fdl_device from,
                                 double tolerance)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *x = input(t, rows, from);
    fdl_tensor *y = fdl_runner_run(r, x);
    check_some(y);
    fdl_tensor *want =
        fdl_forward(m, fdl_to_device_of(x, fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0))));
    check_some(want);
    if (!(apart(y, want) <= tolerance))
        fail_msg("run %d, %d rows: differs by %g", t, (int)rows, apart(y, want));
    assert_false(fdl_requires_grad(y));
}

static const char *says(fdl_runner *r)
{
    static char text[4096];
    FILE *f = tmpfile();
    check_some(f);
    check_ok(fdl_runner_plan(r, f));
    rewind(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static void expect_words_(fdl_runner *r, const char *words, int line)
{
    if (!strstr(says(r), words))
        fail_msg("%d: the plan lacks \"%s\":\n%s", line, words, says(r));
}
#define expect_words(r, words) expect_words_(r, words, __LINE__)

static void on_the_cpu_it_is_the_model(void **state)
{
    (void)state;
    fdl_module *m = model_on(FDL_CPU, false);
    fdl_runner *r = fdl_runner_new(m);
    check_some(r);
    for (int t = 0; t < 6; t++)
        expect_models_output(r, m, t, 8, FDL_CPU, 0);
    expect_words(r, "on the CPU");
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
}

static void mistakes_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = model_on(FDL_CPU, true);
    assert_null(fdl_runner_new(NULL));
    check_error(FDL_E_NULL, "fdl_runner_new", "model");
    assert_null(fdl_runner_new(m, .autocast = FDL_FLOAT64));
    check_error(FDL_E_DTYPE, ".autocast", "float64");
    assert_null(fdl_runner_new(m, .max_plans = -1));
    check_error(FDL_E_ARG, ".max_plans", "-1");
    assert_null(fdl_runner_new(m, .capture = (fdl_trainer_capture)9));
    check_error(FDL_E_ARG, ".capture", "9");
    fdl_runner *r = fdl_runner_new(m);
    check_some(r);
    assert_null(fdl_runner_run(r, input(0, 4, FDL_CPU)));
    check_error(FDL_E_STATE, "training mode", "fdl_eval");
    check_ok(fdl_eval(m));
    assert_null(fdl_runner_run(NULL, input(0, 4, FDL_CPU)));
    check_error(FDL_E_NULL, "fdl_runner_run");
    assert_null(fdl_runner_run(r, NULL));
    check_error(FDL_E_NULL, "input 0");
    assert_null(fdl_runner_run(r, fdl_ones(FDL_SHAPE(4, 7))));
    check_error(FDL_E_SHAPE, "linear");
    assert_int_equal(fdl_runner_plan(r, NULL), FDL_E_NULL);
    fdl_clear_error();
    fdl_runner_free(NULL);
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
}

static void replays_are_the_model(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = model_on(GPU, false);
    fdl_runner *r = fdl_runner_new(m, .capture = FDL_CAPTURE_REQUIRE, .max_plans = 2);
    check_some(r);
    for (int t = 0; t < 40; t++)
        expect_models_output(r, m, t, t < 20 ? 8 : t % 2 ? 5 : 8, t % 3 ? GPU : FDL_CPU, 1e-6);
    expect_words(r, "[8, 16] float32: recorded");
    /* results are the caller's: the next run leaves them alone */
    fdl_tensor *a = fdl_runner_run(r, input(1, 8, GPU)), *kept = fdl_clone(a);
    check_some(fdl_runner_run(r, input(2, 8, GPU)));
    assert_true(fdl_same(a, kept));
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
}

static void never_out_of_date(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = model_on(GPU, false);
    fdl_runner *r = fdl_runner_new(m, .capture = FDL_CAPTURE_REQUIRE);
    check_some(r);
    for (int t = 0; t < 6; t++)
        expect_models_output(r, m, t, 8, GPU, 1e-6);
    fdl_tensor *w = fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0));
    {
        FDL_NO_GRAD;
        check_ok(
            fdl_copy_(w, fdl_full_like(w, 0.02))); /* values change in place: the recorded pass reads them */
    }
    for (int t = 0; t < 6; t++)
        expect_models_output(r, m, t, 8, GPU, 1e-6);
    check_ok(fdl_module_to(m, FDL_CPU));
    expect_models_output(r, m, 0, 8, FDL_CPU, 0);
    check_ok(fdl_module_to(m, GPU));
    for (int t = 0; t < 6; t++)
        expect_models_output(r, m, t, 8, GPU, 1e-6);
    check_ok(fdl_train(m));
    assert_null(fdl_runner_run(r, input(0, 8, GPU)));
    check_error(FDL_E_STATE, "training mode");
    check_ok(fdl_eval(m));
    check_ok(fdl_module_to(m, GPU, .dtype = FDL_FLOAT64));
    fdl_tensor *y = fdl_runner_run(r, fdl_double(input(0, 8, GPU)));
    check_some(y);
    assert_int_equal(fdl_dtype_of(y), FDL_FLOAT64);
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
}

static void borrowed_results(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = model_on(GPU, false);
    fdl_runner *r = fdl_runner_new(m, .borrow = true, .autocast = FDL_BFLOAT16);
    check_some(r);
    for (int t = 0; t < 5; t++)
        check_some(fdl_runner_run(r, input(t, 8, GPU)));
    fdl_tensor *a = fdl_runner_run(r, input(1, 8, GPU)), *was = fdl_clone(a);
    fdl_tensor *b = fdl_runner_run(r, input(2, 8, GPU));
    check_some(b);
    assert_true(fdl_same(a, b)); /* one memory */
    assert_false(fdl_same(was, b));
    fdl_runner_free(r);
    assert_true(fdl_all_finite(a)); /* its memory lives while a handle does */
    check_ok(fdl_module_free(m));
}

/* A module whose pass reads the device. */
static fdl_tensor *reads_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return fdl_item(fdl_sum(x)) > 0 ? fdl_mul(x, 2) : x;
}

static void what_cannot_be_recorded_says_why(void **state)
{
    (void)state;
    need_gpu();
    static const fdl_module_ops ops = {.kind = "reads", .forward = reads_forward};
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_nn_linear(16, 4), fdl_module_done(fdl_module_new(&ops)));
    check_some(m);
    check_ok(fdl_module_to(m, GPU));
    check_ok(fdl_eval(m));
    fdl_runner *r = fdl_runner_new(m);
    for (int t = 0; t < 6; t++)
        expect_models_output(r, m, t, 8, GPU, 1e-6);
    expect_words(r, "aten::_local_scalar_dense");
    fdl_runner_free(r);
    r = fdl_runner_new(m, .capture = FDL_CAPTURE_REQUIRE);
    assert_null(fdl_runner_run(r, input(0, 8, GPU)));
    check_error(FDL_E_STATE, "can't be recorded", "aten::_local_scalar_dense");
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
}

static void memory_stays_flat(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_device device = fdl_cuda_available() ? GPU : FDL_CPU;
    int64_t live = fdl_live_tensors();
    fdl_module *m = model_on(device, false);
    fdl_runner *r = fdl_runner_new(m);
    for (int t = 0; t < 8; t++)
        expect_models_output(r, m, t, 8, device, 1e-6);
    int64_t handles = fdl_live_tensors();
    for (int t = 0; t < 500; t++)
        expect_models_output(r, m, t, 8, device, 1e-6);
    assert_int_equal(fdl_live_tensors(), handles);
    fdl_runner_free(r);
    check_ok(fdl_module_free(m));
    assert_int_equal(fdl_live_tensors(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_the_cpu_it_is_the_model), cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(replays_are_the_model),      cmocka_unit_test(never_out_of_date),
        cmocka_unit_test(borrowed_results),           cmocka_unit_test(what_cannot_be_recorded_says_why),
        cmocka_unit_test(memory_stays_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
