/* Norms and clipping of gradients against PyTorch's numbers. */
#include "fixture.h"

static json_t *recorded;

static int load(void **state)
{
    (void)state;
    recorded = fixture();
    return 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(recorded);
    return 0;
}

static void like_pytorch_on(fdl_device device)
{
    const json_t *clips = json_object_get(recorded, "clips");
    int below = 0;
    for (size_t c = 0; c < json_array_size(clips); c++)
        for (int wide = 0; wide < 2; wide++) {
            FDL_SCOPE;
            const json_t *k = json_array_get(clips, c);
            const json_t *type = json_object_get(k, "norm_type");
            double ord = json_is_string(type) ? (double)INFINITY : json_number_value(type);
            double want = json_number_value(json_object_get(k, "total"));
            double max = json_number_value(json_object_get(k, "max")), total, norm;
            double tolerance = wide ? 1e-12 : 1e-6;
            fdl_module *m = bag_recorded(recorded, wide ? FDL_FLOAT64 : FDL_FLOAT32, device);
            set_recorded_grads(recorded, m, 3);
            fdl_tensor *before[3];
            for (int i = 0; i < 3; i++)
                before[i] = fdl_clone(fdl_grad(bag_at(m, i)));
            fdl_params *ps = fdl_parameters(m);
            check_ok(fdl_grad_norm(ps, &norm, .norm_type = ord));
            check_ok(fdl_clip_grad_norm(ps, max, .norm_type = ord, .total = &total));
            assert_true(total == norm);
            assert_true(fabs(total - want) <= tolerance * want);
            for (int i = 0; i < 3; i++)
                expect_values(fdl_grad(bag_at(m, i)), json_array_get(json_object_get(k, "grads"), (size_t)i),
                              tolerance, "clipped gradient");
            for (int i = 0; i < 3 && total < max; i++) /* below the limit not a bit changes */
                assert_true(fdl_same(before[i], fdl_grad(bag_at(m, i))));
            below += total < max;
            fdl_module_free(m);
        }
    assert_true(below > 0);
}

static void like_pytorch(void **state)
{
    (void)state;
    like_pytorch_on(FDL_CPU);
}

static fdl_status clip(void *ctx)
{
    FDL_TRY(fdl_clip_grad_norm(ctx, 3.5));
    return fdl_clip_grad_value(ctx, 2);
}

static void on_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    like_pytorch_on(FDL_CUDA(0));
    /* parameters on both sides */
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_zeros(FDL_SHAPE(1)));
    bag_add(m, fdl_zeros(FDL_SHAPE(1), .device = FDL_CUDA(0)));
    bag_add(m, fdl_zeros(FDL_SHAPE(1)));
    m = fdl_module_done(m);
    set_grad(bag_at(m, 0), 2);
    set_grad(bag_at(m, 1), 3);
    set_grad(bag_at(m, 2), 6);
    double total;
    check_ok(fdl_clip_grad_norm(fdl_parameters(m), 3.5, .total = &total));
    assert_true(fabs(total - 7) < 1e-6);
    assert_true(fabs(fdl_item(fdl_grad(bag_at(m, 1))) - 1.5) < 1e-6);
    assert_true(fabs(fdl_item(fdl_grad(bag_at(m, 2))) - 3) < 1e-6);
    fdl_module_free(m);
    /* what waits for the device can't be recorded: clipping without .total doesn't wait */
    m = bag_new();
    bag_add(m, fdl_zeros(FDL_SHAPE(2), .device = FDL_CUDA(0)));
    m = fdl_module_done(m);
    set_grad(bag_at(m, 0), 5);
    fdl_params *ps = fdl_parameters(m);
    check_ok(clip(ps));
    fdl_cuda_graph *g = fdl_cuda_graph_capture(clip, .ctx = ps);
    check_some(g);
    check_ok(fdl_fill_(fdl_grad(bag_at(m, 0)), 5));
    check_ok(fdl_cuda_graph_replay(g));
    assert_true(fabs(fdl_item(fdl_sum(fdl_grad(bag_at(m, 0)))) - 4) < 1e-5);
    fdl_cuda_graph_free(g);
    fdl_module_free(m);
}

static fdl_module *with_grads(const float *values, int n)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    fdl_tensor *p = bag_add(m, fdl_zeros(FDL_SHAPE(n)));
    check_ok(fdl_set_grad(p, fdl_from_f32(values, FDL_SHAPE(n))));
    return fdl_module_done(m);
}

static void by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = with_grads((const float[]){3, 4}, 2);
    fdl_params *ps = fdl_parameters(m);
    double total = -1;
    float g[2];
    check_ok(fdl_clip_grad_norm(ps, 1, .total = &total));
    assert_true(total == 5);
    check_ok(fdl_to_f32(fdl_grad(bag_at(m, 0)), g, 2));
    assert_true(fabsf(g[0] - 0.59999988f) < 1e-7f && fabsf(g[1] - 0.79999984f) < 1e-7f);
    check_ok(fdl_clip_grad_norm(ps, 0));
    check_ok(fdl_to_f32(fdl_grad(bag_at(m, 0)), g, 2));
    assert_true(g[0] == 0 && g[1] == 0);
    fdl_module_free(m);

    m = with_grads((const float[]){10, -5}, 2);
    check_ok(fdl_clip_grad_value(fdl_parameters(m), 2, .total = &total));
    assert_true(total == 10);
    check_ok(fdl_to_f32(fdl_grad(bag_at(m, 0)), g, 2));
    assert_true(g[0] == 2 && g[1] == -2);
    check_ok(fdl_grads_zero(fdl_parameters(m)));
    check_ok(fdl_to_f32(fdl_grad(bag_at(m, 0)), g, 2));
    assert_true(g[0] == 0 && g[1] == 0);
    check_ok(fdl_grads_clear(fdl_parameters(m)));
    assert_null(fdl_grad(bag_at(m, 0)));
    /* no gradients at all */
    total = -1;
    check_ok(fdl_clip_grad_norm(fdl_parameters(m), 1, .total = &total));
    assert_true(total == 0);
    total = -1;
    check_ok(fdl_clip_grad_value(fdl_parameters(m), 1, .total = &total));
    assert_true(total == 0);
    total = -1;
    check_ok(fdl_grad_norm(fdl_parameters(m), &total));
    assert_true(total == 0);
    fdl_module_free(m);
}

static void wrong(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = with_grads((const float[]){1, INFINITY}, 2);
    fdl_params *ps = fdl_parameters(m);
    double total = 0;
    float g[2];
    assert_int_equal(fdl_clip_grad_norm(ps, 1, .error_if_nonfinite = true, .total = &total), FDL_E_ARG);
    check_error(FDL_E_ARG, "inf", "nothing was scaled");
    assert_true(isinf(total));
    check_ok(fdl_to_f32(fdl_grad(bag_at(m, 0)), g, 2));
    assert_true(g[0] == 1 && isinf(g[1]));
    assert_int_equal(fdl_clip_grad_norm(ps, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "max is -1");
    assert_int_equal(fdl_clip_grad_norm(ps, (double)NAN), FDL_E_ARG);
    check_error(FDL_E_ARG, "max is");
    assert_int_equal(fdl_clip_grad_norm(ps, 1, .norm_type = -2), FDL_E_ARG);
    check_error(FDL_E_ARG, "norm_type");
    assert_int_equal(fdl_clip_grad_value(ps, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "value is -1");
    assert_int_equal(fdl_clip_grad_value(ps, 1, .norm_type = 2), FDL_E_ARG);
    check_error(FDL_E_ARG, "norm_type");
    assert_int_equal(fdl_grad_norm(ps, &total, .error_if_nonfinite = true), FDL_E_ARG);
    check_error(FDL_E_ARG, "error_if_nonfinite");
    assert_int_equal(fdl_clip_grad_norm(NULL, 1), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_grads_clear(NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_grad_norm(ps, NULL), FDL_E_NULL);
    fdl_clear_error();
    fdl_module_free(m);
}

/* An optimizer's gradients are clipped as its parameters' list is. */
static void of_an_optimizer(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_zeros(FDL_SHAPE(1)));
    bag_add(m, fdl_zeros(FDL_SHAPE(1)));
    bag_add(m, fdl_zeros(FDL_SHAPE(3))); /* without a gradient */
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m));
    set_grad(bag_at(m, 0), 3);
    set_grad(bag_at(m, 1), 4);
    check_ok(fdl_optim_clip_norm(o, 1));
    check_number(fdl_item(fdl_grad(bag_at(m, 0))), .59999988, 1e-7);
    check_number(fdl_item(fdl_grad(bag_at(m, 1))), .79999984, 1e-7);
    check_ok(fdl_optim_clip_value(o, 0.7));
    check_number(fdl_item(fdl_grad(bag_at(m, 0))), .59999988, 1e-7);
    check_number(fdl_item(fdl_grad(bag_at(m, 1))), .7, 1e-7);
    assert_int_equal(fdl_optim_clip_norm(o, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "max is -1");
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_pytorch),    cmocka_unit_test(on_cuda), cmocka_unit_test(by_hand),
        cmocka_unit_test(of_an_optimizer), cmocka_unit_test(wrong),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
