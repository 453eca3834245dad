/* The optimizers beyond SGD and Adam: defaults, options, groups, schedules, state that follows. Their numbers
 * are test_optim.c's. */
#include "kinds.h"

/* Every method that steps by dense gradients. */
#define EACH_PLAIN(r)                                                       \
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) \
        if (optim_is_plain(r))

#define OPTS(...) (&(fdl_optim_opts){__VA_ARGS__})

/* One parameter of one element, of as many dims as the method needs. */
static fdl_module *one_for(const optim_row *r, double value, fdl_dtype dtype)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_full(r->matrices ? FDL_SHAPE(1, 1) : FDL_SCALAR, value, .dtype = dtype));
    return fdl_module_done(m);
}

static void defaults(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2, 2)));
    m = fdl_module_done(m);
    fdl_params *ps = fdl_parameters(m);
    static const struct {
        const char *kind, *option;
        double value;
    } want[] = {{"rmsprop", "alpha", 0.99},
                {"rmsprop", "eps", 1e-8},
                {"rmsprop", "momentum", 0},
                {"rmsprop", "weight_decay", 0},
                {"adagrad", "eps", 1e-10},
                {"adagrad", "lr_decay", 0},
                {"adagrad", "weight_decay", 0},
                {"adagrad", "initial_accumulator", 0},
                {"adadelta", "rho", 0.9},
                {"adadelta", "eps", 1e-6},
                {"adadelta", "weight_decay", 0},
                {"adamax", "beta1", 0.9},
                {"adamax", "beta2", 0.999},
                {"adamax", "eps", 1e-8},
                {"adamax", "weight_decay", 0},
                {"nadam", "beta1", 0.9},
                {"nadam", "beta2", 0.999},
                {"nadam", "eps", 1e-8},
                {"nadam", "weight_decay", 0},
                {"nadam", "momentum_decay", 4e-3},
                {"radam", "beta1", 0.9},
                {"radam", "beta2", 0.999},
                {"radam", "eps", 1e-8},
                {"radam", "weight_decay", 0},
                {"lion", "beta1", 0.9},
                {"lion", "beta2", 0.99},
                {"lion", "weight_decay", 0},
                {"muon", "weight_decay", 0.1},
                {"muon", "momentum", 0.95},
                {"muon", "eps", 1e-7},
                {"muon", "ns_steps", 5},
                {"muon", "ns_a", 3.4445},
                {"muon", "ns_b", -4.775},
                {"muon", "ns_c", 2.0315},
                {"adafactor", "beta2_decay", -0.8},
                {"adafactor", "eps1", 0},
                {"adafactor", "eps2", 1e-3},
                {"adafactor", "d", 1},
                {"adafactor", "weight_decay", 0},
                {"rprop", "eta_minus", 0.5},
                {"rprop", "eta_plus", 1.2},
                {"rprop", "step_min", 1e-6},
                {"rprop", "step_max", 50},
                {"asgd", "lambd", 1e-4},
                {"asgd", "alpha", 0.75},
                {"asgd", "t0", 1e6},
                {"asgd", "weight_decay", 0},
                {"sparse_adam", "beta1", 0.9},
                {"sparse_adam", "beta2", 0.999},
                {"sparse_adam", "eps", 1e-8},
                {"lbfgs", "max_iter", 20},
                {"lbfgs", "max_eval", 0},
                {"lbfgs", "tolerance_grad", 1e-7},
                {"lbfgs", "tolerance_change", 1e-9},
                {"lbfgs", "history_size", 100}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        fdl_optim *o = optim_row_of(want[i].kind)->make(ps, NULL);
        check_some(o);
        assert_true(fdl_optim_option(o, 0, want[i].option) == want[i].value);
        fdl_optim_free(o);
    }
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) {
        fdl_optim *o = r->make(ps, NULL);
        check_some(o);
        assert_string_equal(fdl_optim_kind(o), r->kind);
        assert_true(fdl_optim_lr(o) == r->lr);
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
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2, 2)));
    m = fdl_module_done(m);
    fdl_params *ps = fdl_parameters(m);
    int64_t live = fdl_live_tensors();
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) {
        REFUSED(r->make(ps, OPTS(.lr = -1)), r->kind, "lr", "-1");
        REFUSED(r->make(ps, OPTS(.lr = (double)NAN)), r->kind, "lr", "nan");
        REFUSED(r->make(ps, OPTS(.weight_decay = (double)NAN)), r->kind, "weight_decay");
        if (strcmp(r->kind, "sgd") != 0)
            REFUSED(r->make(ps, OPTS(.nesterov = true)), r->kind, "has no option .nesterov");
        if (!r->closure)
            REFUSED(r->make(ps, OPTS(.impl = (fdl_optim_impl)7)), r->kind, "impl", "7");
        assert_null(r->make(NULL, NULL));
        check_error(FDL_E_NULL, r->kind, "params");
    }
    REFUSED(fdl_optim_muon(ps, .ns_steps = 100), "ns_steps", "100", "below 100");
    REFUSED(fdl_optim_muon(ps, .ns_steps = -1), "ns_steps", "1 or more");
    REFUSED(fdl_optim_muon(ps, .adjust = (fdl_optim_adjust)2), "adjust", "2");
    REFUSED(fdl_optim_muon(ps, .maximize = true), "muon has no option .maximize");
    REFUSED(fdl_optim_adafactor(ps, .beta2_decay = 0.1), "beta2_decay", "0 or less");
    REFUSED(fdl_optim_adafactor(ps, .eps1 = FDL_ZERO), "eps1", "above 0");
    REFUSED(fdl_optim_adafactor(ps, .eps2 = -1), "eps2");
    REFUSED(fdl_optim_adafactor(ps, .d = 0.5), "d is 0.5", "1 or more");
    REFUSED(fdl_optim_rprop(ps, .eta_minus = 1), "eta_minus", "below 1");
    REFUSED(fdl_optim_rprop(ps, .eta_plus = 1), "eta_plus", "above 1");
    REFUSED(fdl_optim_rprop(ps, .step_min = 2, .step_max = 1), "step_min", "step_max");
    REFUSED(fdl_optim_asgd(ps, .t0 = (double)INFINITY), "t0", "finite");
    REFUSED(fdl_optim_sparse_adam(ps, .beta1 = 1), "beta1", "below 1");
    REFUSED(fdl_optim_sparse_adam(ps, .weight_decay = 0.1), "sparse_adam has no option .weight_decay");
    REFUSED(fdl_optim_lbfgs(ps, .impl = FDL_OPTIM_LOOP), "lbfgs has no option .impl");
    REFUSED(fdl_optim_lbfgs(ps, .max_iter = -3), "max_iter");
    REFUSED(fdl_optim_lbfgs(ps, .history_size = -1), "history_size");
    REFUSED(fdl_optim_lbfgs(ps, .tolerance_change = -1), "tolerance_change");
    fdl_optim *whole = fdl_optim_muon(ps);
    assert_int_equal(fdl_optim_set_option(whole, 0, "ns_steps", 2.5), FDL_E_ARG);
    check_error(FDL_E_ARG, "ns_steps", "whole number");
    assert_int_equal(fdl_optim_set_option(whole, 0, "ns_steps", 100), FDL_E_ARG);
    check_error(FDL_E_ARG, "ns_steps");
    assert_true(fdl_optim_option(whole, 0, "ns_steps") == 5);
    check_ok(fdl_optim_set_option(whole, 0, "ns_steps", 3));
    assert_true(fdl_optim_option(whole, 0, "ns_steps") == 3);
    fdl_optim_free(whole);
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
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        if (optim_ways(r->kind, fdl_default_device()) == 4) /* there is one */
            continue;
        fdl_module *m = one_for(r, 1, FDL_FLOAT32);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.impl = FDL_OPTIM_FUSED));
        set_grad(bag_at(m, 0), 0.5);
        assert_int_equal(fdl_optim_step(o), FDL_E_UNSUPPORTED);
        check_error(FDL_E_UNSUPPORTED, r->kind, "FDL_OPTIM_FUSED", "FDL_OPTIM_AUTO");
        assert_true(fdl_item(bag_at(m, 0)) == 1);
        fdl_optim_free(o);
        fdl_module_free(m);
    }
}

/* A group with options of its own does what an optimizer with these does; an option that is changed on the way acts. */
static void groups(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        fdl_module *m[4];
        for (int i = 0; i < 4; i++)
            m[i] = one_for(r, 1, FDL_FLOAT64);
        fdl_optim_opts other = {.lr = 0.05, .weight_decay = r->decays ? 0.1 : 0};
        fdl_optim *both = r->make(fdl_parameters(m[0]), OPTS(.lr = 0.1));
        assert_int_equal(fdl_optim_add_group_opt(both, fdl_parameters(m[1]), &other), 1);
        fdl_optim *first = r->make(fdl_parameters(m[2]), OPTS(.lr = 0.1));
        fdl_optim *second = r->make(fdl_parameters(m[3]), &other);
        fdl_optim *three[] = {both, first, second};
        for (int t = 0; t < 6; t++) {
            if (t == 3) {
                for (int i = 0; i < 2 && r->decays; i++)
                    check_ok(fdl_optim_set_option(i ? first : both, 0, "weight_decay", 0.2));
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
                fail_msg("%s: group %d at %.15g, alone %.15g", r->kind, i, got, want);
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

/* Adafactor's second moment is no less than the square of its dtype's last place at 1, unless .eps1 says otherwise: a gradient g far
 * below that makes a step of lr * g / eps1. */
static void the_least_moment_is_the_dtypes(void **state)
{
    (void)state;
    static const struct {
        fdl_dtype dtype;
        double gradient, eps1, off;
    } cases[] = {{FDL_FLOAT32, 1e-8, 0x1p-23, 1e-6},
                 {FDL_FLOAT16, 1e-4, 0x1p-10, 1e-3},
                 {FDL_BFLOAT16, 1e-3, 0x1p-7, 4e-3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int given = 0; given < 2; given++)
            for (int impl = 1; impl < 3; impl++) {
                FDL_SCOPE;
                fdl_module *m = bag_of(1, cases[i].dtype);
                double eps1 = given ? 2 * cases[i].eps1 : cases[i].eps1;
                fdl_optim *o = fdl_optim_adafactor(fdl_parameters(m), .lr = 0.25, .impl = optim_impls[impl],
                                                   .eps1 = given ? eps1 : 0);
                set_grad(bag_at(m, 0), cases[i].gradient);
                check_ok(fdl_optim_step(o));
                check_number(fdl_item(bag_at(m, 0)), 1 - 0.25 * cases[i].gradient / eps1, cases[i].off);
                fdl_optim_free(o);
                check_ok(fdl_module_free(m));
            }
}

/* A one-cycle schedule moves momentum or beta1 as setting it does; where there is neither, it must be told to leave it. */
static void schedules(void **state)
{
    (void)state;
    double tolerance = fdl_default_device().type == FDL_DEVICE_TYPE_CPU
                           ? 1e-12
                           : 1e-5; /* there, numbers are float32 tensors */
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        fdl_module *m = one_for(r, 1, FDL_FLOAT64), *twin = one_for(r, 1, FDL_FLOAT64);
        const char *field = r->moves;
        fdl_optim *o = r->make(fdl_parameters(m), NULL);
        fdl_optim *by_hand = r->make(fdl_parameters(twin),
                                     field && strcmp(field, "momentum") == 0 ? OPTS(.momentum = 0.5) : NULL);
        fdl_sched *s = fdl_sched_one_cycle(0.1, 10),
                  *fixed = fdl_sched_one_cycle(0.1, 10, .fixed_momentum = true);
        if (!r->moves) {
            assert_int_equal(fdl_sched_apply(s, o, 0), FDL_E_ARG);
            check_error(FDL_E_ARG, r->kind, "momentum", "fixed_momentum");
            assert_true(fdl_optim_lr(o) == r->lr);
        }
        for (int t = 0; t < 6; t++) {
            fdl_sched *one = r->moves ? s : fixed;
            check_ok(fdl_sched_apply(one, o, t));
            check_ok(fdl_optim_set_lr(by_hand, fdl_sched_lr(one, t)));
            if (r->moves)
                check_ok(fdl_optim_set_option(by_hand, 0, field, fdl_sched_momentum(one, t)));
            set_grad(bag_at(m, 0), sin(t + 1.0));
            set_grad(bag_at(twin, 0), sin(t + 1.0));
            check_ok(fdl_optim_step(o));
            check_ok(fdl_optim_step(by_hand));
        }
        if (r->moves)
            assert_true(fdl_optim_option(o, 0, field) == fdl_sched_momentum(s, 5));
        double got = fdl_item(bag_at(m, 0)), want = fdl_item(bag_at(twin, 0));
        if (!(fabs(got - want) < tolerance) || fabs(got - 1) < 1e-4)
            fail_msg("%s: %.15g by the schedule, %.15g by hand", r->kind, got, want);
        fdl_sched_free(s);
        fdl_sched_free(fixed);
        fdl_optim_free(o);
        fdl_optim_free(by_hand);
        fdl_module_free(m);
        fdl_module_free(twin);
    }
}

/* Half types stay half, and what the step remembers, too. */
static void half(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    for (int impl = 0; impl < 3; impl++) {
        FDL_SCOPE;
        fdl_module *m = one_for(r, 1, FDL_BFLOAT16);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.lr = 0.1, .impl = optim_impls[impl]));
        for (int t = 0; t < 6; t++) {
            set_grad(bag_at(m, 0), 1);
            check_ok(fdl_optim_step(o));
        }
        assert_int_equal(fdl_dtype_of(bag_at(m, 0)), FDL_BFLOAT16);
        if (r->state)
            assert_int_equal(fdl_dtype_of(fdl_optim_state(o, bag_at(m, 0), r->state)), FDL_BFLOAT16);
        double p = fdl_item(bag_at(m, 0));
        if (strcmp(r->kind, "adadelta") == 0
                ? p > 1
                : !(p < 0.9 && p > -3)) /* adadelta's first steps are less than half types can hold */
            fail_msg("%s: %g after six steps", r->kind, p);
        fdl_optim_free(o);
        fdl_module_free(m);
    }
}

/* A state that it has. */
static const char *state_of(const optim_row *r)
{
    return r->state ? r->state : strcmp(r->kind, "adafactor") == 0 ? "row_var" : "momentum_buffer";
}

/* Laid out anew and cast between steps, each way of computing them: the state follows, the numbers are those of a run
 * without. */
static void state_follows(void **state)
{
    (void)state;
    fdl_device device = fdl_default_device();
    EACH_PLAIN(r)
    for (int impl = 0; impl < 3; impl++) {
        FDL_SCOPE;
        double momentum = strcmp(r->kind, "sgd") == 0 ? 0.9 : 0; /* without it, sgd remembers nothing */
        fdl_module *m = bag_new(), *twin = bag_new();
        fdl_tensor *start = fdl_mul(fdl_arange(0, 120, 1, .device = FDL_CPU), 0.01);
        start = fdl_reshape(start, r->matrices ? FDL_SHAPE(10, 12) : FDL_SHAPE(2, 3, 4, 5));
        bag_add(m, start);
        bag_add(twin, start);
        m = fdl_module_done(m);
        twin = fdl_module_done(twin);
        fdl_optim *o =
            r->make(fdl_parameters(m), OPTS(.lr = 0.01, .impl = optim_impls[impl], .momentum = momentum));
        fdl_optim *same =
            r->make(fdl_parameters(twin), OPTS(.lr = 0.01, .impl = FDL_OPTIM_LOOP, .momentum = momentum));
        for (int t = 0; t < 8; t++) {
            if (t == 2)
                check_ok(fdl_module_to(m, device, .channels_last = !r->matrices));
            if (t == 4)
                check_ok(fdl_module_to(m, device, .dtype = FDL_FLOAT64));
            fdl_tensor *g = fdl_sin(fdl_mul(start, t + 1.0)), *p = bag_at(m, 0);
            check_ok(fdl_set_grad(p, fdl_to(g, .dtype = fdl_dtype_of(p), .device = fdl_device_of(p))));
            check_ok(fdl_set_grad(bag_at(twin, 0), g));
            check_ok(fdl_optim_step(o));
            check_ok(fdl_optim_step(same));
        }
        fdl_tensor *s = fdl_optim_state(o, bag_at(m, 0), state_of(r));
        check_some(s);
        assert_int_equal(fdl_dtype_of(s), FDL_FLOAT64);
        assert_true(r->matrices || !r->state || fdl_is_channels_last(s));
        assert_int_equal(fdl_device_of(s).type, device.type);
        if (strcmp(r->kind, "nadam") == 0) {
            fdl_tensor *product = fdl_optim_state(o, bag_at(m, 0), "mu_product");
            assert_int_equal(fdl_dtype_of(product), FDL_FLOAT32);
            assert_int_equal(fdl_ndim(product), 0);
            assert_int_equal(fdl_device_of(product).type, device.type);
        }
        fdl_tensor *got = fdl_to(bag_at(m, 0), .dtype = FDL_FLOAT32, .device = FDL_CPU);
        double apart =
            r->matrices ? 5e-3 : 2e-6; /* muon in bfloat16, which ends otherwise on another device */
        if (!fdl_allclose(got, bag_at(twin, 0), .rtol = 1e-4, .atol = apart))
            fail_msg("%s, way %d: not as without moving", r->kind, impl);
        fdl_optim_free(o);
        fdl_optim_free(same);
        fdl_module_free(m);
        fdl_module_free(twin);
    }
}

/* A skipped step leaves parameters, counts and products as they are, on the device that decides it. */
static void skipped_steps(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        fdl_module *m = one_for(r, 1, FDL_FLOAT32), *twin = one_for(r, 1, FDL_FLOAT32);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.lr = 0.05));
        fdl_optim *without = r->make(fdl_parameters(twin), OPTS(.lr = 0.05));
        fdl_tensor *yes = fdl_ones(FDL_SHAPE(1)), *no = fdl_zeros(FDL_SHAPE(1));
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
            fail_msg("%s: %.9g with skipped steps, %.9g without", r->kind, got, want);
        fdl_optim_free(o);
        fdl_optim_free(without);
        fdl_module_free(m);
        fdl_module_free(twin);
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(no_kernel),
        cmocka_unit_test(groups),
        cmocka_unit_test(accumulators_begin_where_they_should),
        cmocka_unit_test(the_least_moment_is_the_dtypes),
        cmocka_unit_test(schedules),
        cmocka_unit_test(half),
        cmocka_unit_test(state_follows),
        cmocka_unit_test(skipped_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
