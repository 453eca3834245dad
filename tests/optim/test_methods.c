/* The optimizers beyond SGD and Adam: defaults, options, groups, schedules, state that follows. Their numbers
 * are test_optim.c's. */
#include "fixture.h"

typedef fdl_optim *(*maker)(const fdl_params *, const fdl_optim_opts *);
static const struct {
    const char *kind;
    maker make;
    double lr;
    const char *state; /* of the parameter's shape */
    bool scheduled;    /* has momentum or beta1 */
} all[] = {{"rmsprop", fdl_optim_rmsprop_opt, 1e-2, "square_avg", true},
           {"adagrad", fdl_optim_adagrad_opt, 1e-2, "sum", false},
           {"adadelta", fdl_optim_adadelta_opt, 1, "acc_delta", false},
           {"adamax", fdl_optim_adamax_opt, 2e-3, "exp_inf", true},
           {"nadam", fdl_optim_nadam_opt, 2e-3, "exp_avg_sq", true},
           {"radam", fdl_optim_radam_opt, 1e-3, "exp_avg", true},
           {"lion", fdl_optim_lion_opt, 1e-4, "exp_avg", true}};
enum { KINDS = sizeof all / sizeof all[0] };
static const fdl_optim_impl impls[] = {FDL_OPTIM_AUTO, FDL_OPTIM_LOOP, FDL_OPTIM_FOREACH};

#define OPTS(...) (&(fdl_optim_opts){__VA_ARGS__})

static void defaults(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_params *ps = fdl_parameters(m);
    static const struct {
        int kind;
        const char *option;
        double value;
    } want[] = {
        {0, "alpha", 0.99},  {0, "eps", 1e-8},    {0, "momentum", 0},     {0, "weight_decay", 0},
        {1, "eps", 1e-10},   {1, "lr_decay", 0},  {1, "weight_decay", 0}, {1, "initial_accumulator", 0},
        {2, "rho", 0.9},     {2, "eps", 1e-6},    {2, "weight_decay", 0}, {3, "beta1", 0.9},
        {3, "beta2", 0.999}, {3, "eps", 1e-8},    {3, "weight_decay", 0}, {4, "beta1", 0.9},
        {4, "beta2", 0.999}, {4, "eps", 1e-8},    {4, "weight_decay", 0}, {4, "momentum_decay", 4e-3},
        {5, "beta1", 0.9},   {5, "beta2", 0.999}, {5, "eps", 1e-8},       {5, "weight_decay", 0},
        {6, "beta1", 0.9},   {6, "beta2", 0.99},  {6, "weight_decay", 0}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        fdl_optim *o = all[want[i].kind].make(ps, NULL);
        check_some(o);
        assert_true(fdl_optim_option(o, 0, want[i].option) == want[i].value);
        fdl_optim_free(o);
    }
    for (int k = 0; k < KINDS; k++) {
        fdl_optim *o = all[k].make(ps, NULL);
        check_some(o);
        assert_string_equal(fdl_optim_kind(o), all[k].kind);
        assert_true(fdl_optim_lr(o) == all[k].lr);
        fdl_optim_free(o);
    }
    fdl_optim *zero = fdl_optim_rmsprop(ps, .alpha = FDL_ZERO, .eps = FDL_ZERO);
    assert_true(fdl_optim_option(zero, 0, "alpha") == 0 && fdl_optim_option(zero, 0, "eps") == 0);
    fdl_optim_free(zero);
    fdl_module_free(m);
}

static void wrong_values(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_params *ps = fdl_parameters(m);
    int64_t live = fdl_live_tensors();
    for (int k = 0; k < KINDS; k++) {
        REFUSED(all[k].make(ps, OPTS(.lr = -1)), all[k].kind, "lr", "-1");
        REFUSED(all[k].make(ps, OPTS(.weight_decay = (double)NAN)), all[k].kind, "weight_decay");
        REFUSED(all[k].make(ps, OPTS(.nesterov = true)), all[k].kind, "has no option .nesterov");
        assert_null(all[k].make(NULL, NULL));
        check_error(FDL_E_NULL, all[k].kind, "params");
    }
    REFUSED(fdl_optim_rmsprop(ps, .alpha = 1), "alpha", "below 1");
    REFUSED(fdl_optim_rmsprop(ps, .momentum = -1), "momentum");
    REFUSED(fdl_optim_rmsprop(ps, .beta1 = 0.9), "rmsprop has no option .beta1", "centered");
    REFUSED(fdl_optim_adagrad(ps, .initial_accumulator = -0.5), "initial_accumulator");
    REFUSED(fdl_optim_adagrad(ps, .lr_decay = -0.5), "lr_decay");
    REFUSED(fdl_optim_adadelta(ps, .rho = 1.5), "rho");
    REFUSED(fdl_optim_adamax(ps, .beta2 = 1), "beta2");
    REFUSED(fdl_optim_adamax(ps, .decoupled = true), "adamax has no option .decoupled");
    REFUSED(fdl_optim_nadam(ps, .momentum_decay = -1), "momentum_decay");
    REFUSED(fdl_optim_radam(ps, .momentum_decay = 1), "radam has no option .momentum_decay", "decoupled");
    REFUSED(fdl_optim_lion(ps, .eps = 1), "lion has no option .eps");
    assert_int_equal(fdl_live_tensors(), live);
    fdl_module_free(m);
}

/* No kernel: asking for one is an error that says so, and nothing moves. */
static void no_kernel(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        if (all[k].make == fdl_optim_adagrad_opt) /* the CPU has one */
            continue;
        fdl_module *m = bag_of(1, FDL_FLOAT32);
        fdl_optim *o = all[k].make(fdl_parameters(m), OPTS(.impl = FDL_OPTIM_FUSED));
        set_grad(bag_at(m, 0), 0.5);
        assert_int_equal(fdl_optim_step(o), FDL_E_UNSUPPORTED);
        check_error(FDL_E_UNSUPPORTED, all[k].kind, "FDL_OPTIM_FUSED", "FDL_OPTIM_AUTO");
        assert_true(fdl_item(bag_at(m, 0)) == 1);
        fdl_optim_free(o);
        fdl_module_free(m);
    }
}

/* A group with options of its own does what an optimizer with these does; an option that is changed on the way acts. */
static void groups(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        fdl_module *m[4];
        for (int i = 0; i < 4; i++)
            m[i] = bag_of(1, FDL_FLOAT64);
        fdl_optim *both = all[k].make(fdl_parameters(m[0]), OPTS(.lr = 0.1));
        assert_int_equal(fdl_optim_add_group(both, fdl_parameters(m[1]), .lr = 0.05, .weight_decay = 0.1), 1);
        fdl_optim *first = all[k].make(fdl_parameters(m[2]), OPTS(.lr = 0.1));
        fdl_optim *second = all[k].make(fdl_parameters(m[3]), OPTS(.lr = 0.05, .weight_decay = 0.1));
        fdl_optim *three[] = {both, first, second};
        for (int t = 0; t < 6; t++) {
            if (t == 3) {
                check_ok(fdl_optim_set_option(both, 0, "weight_decay", 0.2));
                check_ok(fdl_optim_set_option(first, 0, "weight_decay", 0.2));
                check_ok(fdl_optim_set_lr(both, 0.2)); /* the second group's doubles, too */
                check_ok(fdl_optim_set_lr(first, 0.2));
                check_ok(fdl_optim_set_lr(second, 0.1));
            }
            for (int i = 0; i < 4; i++)
                set_grad(bag_at(m[i], 0), sin(t + 1.0));
            for (int i = 0; i < 3; i++)
                check_ok(fdl_optim_step(three[i]));
        }
        for (int i = 0; i < 2; i++) {
            double got = fdl_item(bag_at(m[i], 0)), want = fdl_item(bag_at(m[2 + i], 0));
            if (!(fabs(got - want) < 1e-12) || fabs(got - 1) < 1e-4)
                fail_msg("%s: group %d at %.15g, alone %.15g", all[k].kind, i, got, want);
        }
        for (int i = 0; i < 3; i++)
            fdl_optim_free(three[i]);
        for (int i = 0; i < 4; i++)
            fdl_module_free(m[i]);
    }
}

/* The sums of a parameter begin with the value that its group has at its first step. */
static void accumulators_begin_where_they_should(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT64);
    fdl_optim *o = fdl_optim_adagrad(fdl_parameters(m), .initial_accumulator = 0.75);
    set_grad(bag_at(m, 0), 0.5);
    assert_null(fdl_optim_state(o, bag_at(m, 0), "sum"));
    check_ok(fdl_optim_step(o));
    assert_true(fabs(fdl_item(fdl_optim_state(o, bag_at(m, 0), "sum")) - 1) < 1e-15);
    assert_true(fabs(fdl_item(bag_at(m, 0)) - 0.995) < 1e-9); /* 1 - 0.01 * 0.5 / sqrt(0.75 + 0.25) */
    assert_true(fdl_optim_state_start(o, fdl_optim_state(o, bag_at(m, 0), "sum")) == 0.75);
    assert_true(fdl_optim_state_start(o, fdl_optim_state(o, bag_at(m, 0), "step")) == 0);
    assert_true(fdl_optim_state_start(o, bag_at(m, 0)) == 0);
    assert_true(isnan(fdl_optim_state_start(o, NULL)));
    check_error(FDL_E_NULL, "state");
    fdl_optim_free(o);
    o = fdl_optim_nadam(fdl_parameters(m));
    check_ok(fdl_optim_step(o));
    assert_true(fdl_optim_state_start(o, fdl_optim_state(o, bag_at(m, 0), "mu_product")) == 1);
    assert_true(fdl_optim_state_start(o, fdl_optim_state(o, bag_at(m, 0), "exp_avg")) == 0);
    fdl_optim_free(o);
    fdl_module_free(m);
}

/* A one-cycle schedule moves momentum or beta1 as setting it does; where there is neither, it must be told to leave it. */
static void schedules_on(fdl_device device)
{
    double tolerance =
        device.type == FDL_DEVICE_TYPE_CPU ? 1e-12 : 1e-5; /* there, numbers are float32 tensors */
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        fdl_module *m = bag_of(1, FDL_FLOAT64), *twin = bag_of(1, FDL_FLOAT64);
        check_ok(fdl_module_to(m, device));
        check_ok(fdl_module_to(twin, device));
        const char *field = k ? "beta1" : "momentum";
        fdl_optim *o = all[k].make(fdl_parameters(m), NULL);
        fdl_optim *by_hand = all[k].make(fdl_parameters(twin), k ? NULL : OPTS(.momentum = 0.5));
        fdl_sched *s = fdl_sched_one_cycle(0.1, 10),
                  *fixed = fdl_sched_one_cycle(0.1, 10, .fixed_momentum = true);
        if (!all[k].scheduled) {
            assert_int_equal(fdl_sched_apply(s, o, 0), FDL_E_ARG);
            check_error(FDL_E_ARG, all[k].kind, "momentum", "fixed_momentum");
            assert_true(fdl_optim_lr(o) == all[k].lr);
        }
        for (int t = 0; t < 6; t++) {
            fdl_sched *one = all[k].scheduled ? s : fixed;
            check_ok(fdl_sched_apply(one, o, t));
            check_ok(fdl_optim_set_lr(by_hand, fdl_sched_lr(one, t)));
            if (all[k].scheduled)
                check_ok(fdl_optim_set_option(by_hand, 0, field, fdl_sched_momentum(one, t)));
            set_grad(bag_at(m, 0), sin(t + 1.0));
            set_grad(bag_at(twin, 0), sin(t + 1.0));
            check_ok(fdl_optim_step(o));
            check_ok(fdl_optim_step(by_hand));
        }
        if (all[k].scheduled)
            assert_true(fdl_optim_option(o, 0, field) == fdl_sched_momentum(s, 5));
        double got = fdl_item(bag_at(m, 0)), want = fdl_item(bag_at(twin, 0));
        if (!(fabs(got - want) < tolerance) || fabs(got - 1) < 1e-4)
            fail_msg("%s: %.15g by the schedule, %.15g by hand", all[k].kind, got, want);
        fdl_sched_free(s);
        fdl_sched_free(fixed);
        fdl_optim_free(o);
        fdl_optim_free(by_hand);
        fdl_module_free(m);
        fdl_module_free(twin);
    }
}

static void schedules(void **state)
{
    (void)state;
    schedules_on(FDL_CPU);
}

static void schedules_on_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    schedules_on(FDL_CUDA(0));
}

/* Half types stay half, and what the step remembers, too. */
static void half(void **state)
{
    (void)state;
    for (int k = 0; k < KINDS; k++)
        for (int impl = 0; impl < 3; impl++) {
            FDL_SCOPE;
            fdl_module *m = bag_of(1, FDL_BFLOAT16);
            fdl_optim *o = all[k].make(fdl_parameters(m), OPTS(.lr = 0.1, .impl = impls[impl]));
            for (int t = 0; t < 6; t++) {
                set_grad(bag_at(m, 0), 1);
                check_ok(fdl_optim_step(o));
            }
            assert_int_equal(fdl_dtype_of(bag_at(m, 0)), FDL_BFLOAT16);
            assert_int_equal(fdl_dtype_of(fdl_optim_state(o, bag_at(m, 0), all[k].state)), FDL_BFLOAT16);
            double p = fdl_item(bag_at(m, 0));
            if (k == 2 ? p > 1
                       : !(p < 0.9 && p > -3)) /* adadelta's first steps are less than half types can hold */
                fail_msg("%s: %g after six steps", all[k].kind, p);
            fdl_optim_free(o);
            fdl_module_free(m);
        }
}

/* Laid out anew and cast between steps, each way of computing them: the state follows, the numbers are those of a run
 * without. */
static void follows_on(fdl_device device)
{
    for (int k = 0; k < KINDS; k++)
        for (int impl = 0; impl < 3; impl++) {
            FDL_SCOPE;
            fdl_module *m = bag_new(), *twin = bag_new();
            fdl_tensor *start = fdl_mul(fdl_reshape(fdl_arange(0, 120, 1), FDL_SHAPE(2, 3, 4, 5)), 0.01);
            bag_add(m, start);
            bag_add(twin, start);
            m = fdl_module_done(m);
            twin = fdl_module_done(twin);
            fdl_optim *o = all[k].make(fdl_parameters(m), OPTS(.lr = 0.01, .impl = impls[impl]));
            fdl_optim *same = all[k].make(fdl_parameters(twin), OPTS(.lr = 0.01, .impl = FDL_OPTIM_LOOP));
            for (int t = 0; t < 8; t++) {
                if (t == 2)
                    check_ok(fdl_module_to(m, device, .channels_last = true));
                if (t == 4)
                    check_ok(fdl_module_to(m, device, .dtype = FDL_FLOAT64));
                fdl_tensor *g = fdl_sin(fdl_mul(start, t + 1.0)), *p = bag_at(m, 0);
                check_ok(fdl_set_grad(p, fdl_to(g, .dtype = fdl_dtype_of(p), .device = fdl_device_of(p))));
                check_ok(fdl_set_grad(bag_at(twin, 0), g));
                check_ok(fdl_optim_step(o));
                check_ok(fdl_optim_step(same));
            }
            fdl_tensor *s = fdl_optim_state(o, bag_at(m, 0), all[k].state);
            check_some(s);
            assert_int_equal(fdl_dtype_of(s), FDL_FLOAT64);
            assert_true(fdl_is_channels_last(s));
            assert_int_equal(fdl_device_of(s).type, device.type);
            if (strcmp(all[k].kind, "nadam") == 0) {
                fdl_tensor *product = fdl_optim_state(o, bag_at(m, 0), "mu_product");
                assert_int_equal(fdl_dtype_of(product), FDL_FLOAT32);
                assert_int_equal(fdl_ndim(product), 0);
                assert_int_equal(fdl_device_of(product).type, device.type);
            }
            fdl_tensor *got = fdl_to(bag_at(m, 0), .dtype = FDL_FLOAT32, .device = FDL_CPU);
            if (!fdl_allclose(got, bag_at(twin, 0), .rtol = 1e-4, .atol = 2e-6))
                fail_msg("%s, way %d: not as without moving", all[k].kind, impl);
            fdl_optim_free(o);
            fdl_optim_free(same);
            fdl_module_free(m);
            fdl_module_free(twin);
        }
}

static void state_follows(void **state)
{
    (void)state;
    follows_on(FDL_CPU);
}

static void state_follows_to_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    follows_on(FDL_CUDA(0));
}

/* A skipped step leaves parameters, counts and products as they are, on the device that decides it. */
static void skipped_steps(fdl_device device)
{
    for (int k = 0; k < KINDS; k++) {
        FDL_SCOPE;
        fdl_module *m = bag_of(1, FDL_FLOAT32), *twin = bag_of(1, FDL_FLOAT32);
        check_ok(fdl_module_to(m, device));
        check_ok(fdl_module_to(twin, device));
        fdl_optim *o = all[k].make(fdl_parameters(m), OPTS(.lr = 0.05));
        fdl_optim *without = all[k].make(fdl_parameters(twin), OPTS(.lr = 0.05));
        fdl_tensor *yes = fdl_ones(FDL_SHAPE(1), .device = device),
                   *no = fdl_zeros(FDL_SHAPE(1), .device = device);
        for (int t = 0; t < 7; t++) {
            bool skipped = t == 0 || t == 3;
            set_grad(bag_at(m, 0), skipped ? (double)INFINITY : sin(t + 1.0));
            check_ok(fdl_optim_step_unless(o, skipped ? yes : no));
            if (skipped)
                continue;
            set_grad(bag_at(twin, 0), sin(t + 1.0));
            check_ok(fdl_optim_step(without));
        }
        double got = fdl_item(bag_at(m, 0)), want = fdl_item(bag_at(twin, 0));
        if (!(fabs(got - want) < 1e-6))
            fail_msg("%s: %.9g with skipped steps, %.9g without", all[k].kind, got, want);
        fdl_optim_free(o);
        fdl_optim_free(without);
        fdl_module_free(m);
        fdl_module_free(twin);
    }
}

static void skipped_on_the_host(void **state)
{
    (void)state;
    skipped_steps(FDL_CPU);
}

static void skipped_on_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    skipped_steps(FDL_CUDA(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(no_kernel),
        cmocka_unit_test(groups),
        cmocka_unit_test(accumulators_begin_where_they_should),
        cmocka_unit_test(schedules),
        cmocka_unit_test(schedules_on_cuda),
        cmocka_unit_test(half),
        cmocka_unit_test(state_follows),
        cmocka_unit_test(state_follows_to_cuda),
        cmocka_unit_test(skipped_on_the_host),
        cmocka_unit_test(skipped_on_cuda),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
