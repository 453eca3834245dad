/* The memory layout of convolutions: channels-last computes the same, is measured where nothing is said, and leaves names,
 * shapes, checkpoints and optimizers as they are. */
#include "folder.h"
#include "job.h"

enum { SIDE = 16, CHANNELS = 16 };

static fdl_module *convnet(int width)
{
    return fdl_flow(fdl_nn_conv2d(CHANNELS, width, 3, .padding = 1), fdl_nn_batch_norm2d(width),
                    fdl_nn_relu(), fdl_nn_max_pool2d(2), fdl_nn_conv2d(width, width, 3, .padding = 1),
                    fdl_nn_batch_norm2d(width), fdl_nn_relu(), fdl_nn_adaptive_avg_pool2d(1, 1),
                    fdl_nn_flatten(), fdl_nn_linear(width, 4));
}

static void images(int t, int64_t n, fdl_device device, fdl_tensor *xy[2])
{
    fdl_tensor *i = fdl_arange(0, (double)(n * CHANNELS * SIDE * SIDE), 1, .device = FDL_CPU);
    fdl_tensor *x =
        fdl_reshape(fdl_sin(fdl_add(fdl_mul(i, 0.37), t * 0.9)), FDL_SHAPE(n, CHANNELS, SIDE, SIDE));
    xy[0] = fdl_to_device(x, device);
    xy[1] = fdl_to_device(
        fdl_sin(fdl_reshape(fdl_arange(0, (double)(n * 4), 1, .device = FDL_CPU), FDL_SHAPE(n, 4))), device);
    check_some(xy[0]);
    check_some(xy[1]);
}

static double train(fdl_trainer *tr, int steps, int64_t n, fdl_device device)
{
    double loss = (double)NAN;
    for (int t = 0; t < steps; t++) {
        FDL_SCOPE;
        fdl_tensor *xy[2];
        images(t, n, device, xy);
        check_ok(fdl_trainer_step(tr, FDL_LIST(xy[0], xy[1])));
    }
    check_ok(fdl_trainer_loss(tr, &loss));
    return loss;
}

/* The first convolution's weight. */
static fdl_tensor *weight(fdl_module *m)
{
    return fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0));
}

static void channels_last_computes_the_same(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2];
    fdl_optim *opt[2];
    fdl_trainer *tr[2];
    fdl_ema *ema[2];
    double loss[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(1));
        m[k] = convnet(8);
        check_some(m[k]);
        ema[k] = fdl_ema_new(m[k], 0.9);
        opt[k] = fdl_optim_sgd(fdl_parameters(m[k]), .lr = 1e-2, .momentum = 0.9);
        tr[k] = fdl_trainer_new(m[k], opt[k], loss_of, .ema = ema[k],
                                .layout = k ? FDL_LAYOUT_CHANNELS_LAST : FDL_LAYOUT_KEEP);
        check_some(tr[k]);
        loss[k] = train(tr[k], 6, 4, FDL_CPU);
    }
    assert_true(fdl_is_contiguous(weight(m[0])));
    assert_true(fdl_is_channels_last(weight(m[1])));
    assert_true(fdl_is_channels_last(fdl_ema_shadow(ema[1], weight(m[1]))));
    assert_true(fdl_is_channels_last(fdl_optim_state(opt[1], weight(m[1]), "momentum_buffer")));
    assert_true(fabs(loss[0] - loss[1]) <= 1e-5 * fabs(loss[0]));
    expect_equal_models(m[0], m[1], 1e-5, "channels-last");
    expect_plan(tr[1], "channels-last");
    /* a checkpoint has no layout */
    check_ok(fdl_ckpt_save(m[1], path_of("layout.fdl")));
    check_ok(fdl_ckpt_load(m[0], path_of("layout.fdl")));
    assert_true(fdl_is_contiguous(weight(m[0])));
    assert_true(fdl_same(weight(m[0]), weight(m[1])));
    for (int k = 0; k < 2; k++) {
        fdl_trainer_free(tr[k]);
        fdl_optim_free(opt[k]);
        fdl_ema_free(ema[k]);
        check_ok(fdl_module_free(m[k]));
    }
}

static void nothing_is_measured_on_the_cpu(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = convnet(8);
    fdl_optim *opt = adam(fdl_parameters(m));
    fdl_trainer *tr = fdl_trainer_new(m, opt, loss_of);
    check_some(tr);
    train(tr, 6, 4, FDL_CPU);
    assert_true(fdl_is_contiguous(weight(m)));
    expect_no_plan(tr, "measured");
    assert_null(fdl_trainer_new(m, opt, loss_of, .layout = (fdl_trainer_layout)7));
    check_error(FDL_E_ARG, ".layout", "7");
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(m));
}

/* Measured, in captured and in eager steps: whichever layout is left, training goes on as it would have. */
static void the_measured_layout_trains_alike(void **state)
{
    (void)state;
    need_gpu();
    bool matmul, cudnn;
    fdl_is_tf32_allowed(&matmul, &cudnn);
    check_ok(fdl_allow_tf32(false, false));
    for (int eager = 0; eager < 2; eager++) {
        FDL_SCOPE;
        fdl_module *m[2];
        fdl_optim *opt[2];
        fdl_trainer *tr[2];
        fdl_ema *ema[2];
        double loss[2];
        for (int k = 0; k < 2; k++) {
            check_ok(fdl_manual_seed(2));
            m[k] = convnet(64);
            check_some(m[k]);
            check_ok(fdl_module_to(m[k], GPU));
            ema[k] = fdl_ema_new(m[k], 0.9);
            opt[k] = fdl_optim_sgd(fdl_parameters(m[k]), .lr = 1e-2, .momentum = 0.9);
            tr[k] = fdl_trainer_new(m[k], opt[k], loss_of, .ema = ema[k],
                                    .layout = k ? FDL_LAYOUT_KEEP : FDL_LAYOUT_AUTO,
                                    .capture = k || eager ? FDL_CAPTURE_OFF : FDL_CAPTURE_REQUIRE);
            check_some(tr[k]);
            loss[k] = train(tr[k], 24, 64, GPU);
            assert_int_equal(fdl_trainer_steps(tr[k]), 24);
        }
        print_message("%s", plan(tr[0]));
        if (!eager)
            expect_plan(tr[0], "measured: a step takes");
        if (!(fabs(loss[0] - loss[1]) <= 1e-3 * fabs(loss[1])))
            fail_msg("the loss is %.9g, in the other layout %.9g", loss[0], loss[1]);
        expect_equal_models(m[0], m[1], 1e-3, "measured");
        if (!eager)
            expect_plan(tr[0], "captured");
        for (int k = 0; k < 2; k++) {
            fdl_trainer_free(tr[k]);
            fdl_optim_free(opt[k]);
            fdl_ema_free(ema[k]);
            check_ok(fdl_module_free(m[k]));
        }
    }
    check_ok(fdl_allow_tf32(matmul, cudnn));
}

static fdl_tensor *reading_loss(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *l = loss_of(m, batch, ctx);
    return fdl_item(l) > 1e9 ? fdl_mul(l, 2) : l;
}

/* A step that can't be captured is measured as it runs. */
static void eager_steps_are_measured_too(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = convnet(64);
    check_some(m);
    check_ok(fdl_module_to(m, GPU));
    fdl_optim *opt = adam(fdl_parameters(m));
    fdl_trainer *tr = fdl_trainer_new(m, opt, reading_loss);
    check_some(tr);
    double loss = train(tr, 12, 64, GPU);
    assert_true(isfinite(loss));
    expect_plan(tr, "not captured");
    expect_plan(tr, "measured: a step takes");
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(channels_last_computes_the_same),
        cmocka_unit_test(nothing_is_measured_on_the_cpu),
        cmocka_unit_test(the_measured_layout_trains_alike),
        cmocka_unit_test(eager_steps_are_measured_too),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
