/* Training steps of models whose parameters are computed: by the trainer as by hand, recorded as eager, and inference from a
 * recording. */
#include "job.h"

/* Every way of computing a weight in one model. */
static fdl_module *computed_tower(bool orthogonal)
{
    check_ok(fdl_manual_seed(5));
    fdl_module *a = fdl_nn_linear(16, 32), *b = fdl_nn_linear(32, 32), *c = fdl_nn_linear(32, 32),
               *d = fdl_nn_linear(32, 4);
    check_ok(fdl_weight_norm(a, "weight"));
    check_ok(fdl_spectral_norm(b, "weight"));
    if (orthogonal) /* its exponential of a matrix looks at numbers on the host: not to be recorded */
        check_ok(fdl_orthogonal(c, "weight"));
    check_ok(fdl_prune_l1_unstructured(d, "weight", 0.5));
    return fdl_flow(a, fdl_nn_layer_norm(32), fdl_nn_gelu(), fdl_flow_also(b), c, fdl_nn_tanh(), d);
}

static int64_t zeros_in(fdl_module *m)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_buffers(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        if (strstr(fdl_params_name(ps, i), "weight_mask"))
            return (int64_t)fdl_item(
                fdl_sum(fdl_to_dtype(fdl_eq(fdl_param_tensor(fdl_params_at(ps, i)), 0), FDL_INT64)));
    return -1;
}

enum { STEPS = 12 };

static void the_trainer_is_a_loop_by_hand(void **state)
{
    (void)state;
    fdl_module *by_trainer = computed_tower(true), *by_hand = computed_tower(true);
    fdl_optim *o = fdl_optim_adam(fdl_parameters(by_trainer), .lr = 1e-2);
    fdl_optim *p = fdl_optim_adam(fdl_parameters(by_hand), .lr = 1e-2);
    fdl_trainer *tr = fdl_trainer_new(by_trainer, o, loss_of, .clip_norm = 1);
    double first = 0, last = 0;
    for (int t = 0; t < STEPS; t++) {
        FDL_SCOPE;
        fdl_tensor *xy[2];
        check_ok(step_with(tr, t, 8, FDL_CPU));
        batch_of(t, 8, FDL_CPU, xy);
        check_ok(fdl_optim_zero_grad(p));
        fdl_tensor *loss = loss_of(by_hand, FDL_LIST(xy[0], xy[1]), NULL);
        check_ok(fdl_backward(loss));
        check_ok(fdl_clip_grad_norm(fdl_parameters(by_hand), 1));
        check_ok(fdl_optim_step(p));
        last = fdl_item(loss);
        first = t ? first : last;
    }
    expect_equal_models(by_trainer, by_hand, 0, "trainer and loop");
    assert_true(last < first);
    assert_int_equal(zeros_in(by_trainer), 64);
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    fdl_optim_free(p);
    check_ok(fdl_module_free(by_trainer));
    check_ok(fdl_module_free(by_hand));
}

static void recorded_is_eager(void **state)
{
    (void)state;
    need_gpu();
    job a = job_new(computed_tower(false), adam, loss_of, (fdl_trainer_opts){.clip_norm = 1});
    job b = job_new(computed_tower(false), adam, loss_of,
                    (fdl_trainer_opts){.clip_norm = 1, .capture = FDL_CAPTURE_OFF});
    expect_equal_models(a.model, b.model, 0, "at first");
    for (int t = 0; t < STEPS; t++) {
        check_ok(step_with(a.tr, t, 8, GPU));
        check_ok(step_with(b.tr, t, 8, GPU));
    }
    expect_equal_models(a.model, b.model, 1e-4, "recorded and eager");
    expect_plan(a.tr, "captured");
    /* a mask that changes goes into what is recorded; a parametrization that ends makes a new recording */
    const char *name;
    fdl_module *last = fdl_module_child_at(a.model, fdl_module_children(a.model) - 1, &name);
    check_ok(fdl_prune_l1_unstructured(last, "weight", 0.5));
    check_ok(step_with(a.tr, STEPS, 8, GPU));
    assert_int_equal(zeros_in(a.model), 96);
    check_ok(fdl_parametrize_remove(fdl_module_child_at(a.model, 0, &name), "weight"));
    for (int t = 0; t < STEPS; t++)
        check_ok(step_with(a.tr, t, 8, GPU));
    job_free(&a);
    job_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_trainer_is_a_loop_by_hand),
        cmocka_unit_test(recorded_is_eager),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
