/* Optimizers against PyTorch's recorded steps and hand-computed traces, in each of the three ways of
 * computing them; groups, rates, options, what happens to state. */
#include "kinds.h"

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

static fdl_optim *make(const char *kind, const fdl_params *ps, const fdl_optim_opts *o)
{
    return optim_row_of(kind)->make(ps, o);
}

/* The recorded steps of every case; parameters after some of them, state at the end. */
static void like_pytorch_on(fdl_device device)
{
    const json_t *cases = json_object_get(recorded, "optimizers");
    double kept[MOST];
    int n_kept = numbers(json_object_get(recorded, "kept"), kept, MOST);
    for (size_t c = 0; c < json_array_size(cases); c++)
        for (int impl = 0; impl < 4; impl++)
            for (int wide = 0; wide < 2; wide++) {
                FDL_SCOPE;
                const json_t *k = json_array_get(cases, c);
                const char *kind = json_string_value(json_object_get(k, "kind"));
                if (impl >= optim_ways(kind, device))
                    continue;
                double tolerance = wide && device.type == FDL_DEVICE_TYPE_CPU ? 1e-12 : wide ? 1e-6 : 2e-6;
                fdl_module *m = bag_recorded(recorded, wide ? FDL_FLOAT64 : FDL_FLOAT32, device);
                fdl_optim_opts o = optim_recorded_options(json_object_get(k, "options"));
                o.impl = optim_impls[impl];
                fdl_optim *opt = make(kind, fdl_parameters(m), &o);
                check_some(opt);
                char what[200];
                char *text = json_dumps(json_object_get(k, "options"), JSON_COMPACT);
                for (int t = 0, at = 0; t < (int)kept[n_kept - 1]; t++) {
                    set_recorded_grads(recorded, m, t);
                    check_ok(fdl_optim_step(opt));
                    if (t + 1 != (int)kept[at])
                        continue;
                    const json_t *params = json_array_get(json_object_get(k, "params"), (size_t)at++);
                    for (int i = 0; i < 3; i++) {
                        snprintf(what, sizeof what, "%s %s, %s, float%d, step %d, p%d", kind, text,
                                 optim_impl_names[impl], wide ? 64 : 32, t + 1, i);
                        expect_values(bag_at(m, i), json_array_get(params, (size_t)i), tolerance, what);
                    }
                }
                for (int i = 0; i < 3; i++) {
                    const char *name;
                    json_t *want;
                    json_object_foreach(json_array_get(json_object_get(k, "state"), (size_t)i), name, want)
                    {
                        fdl_tensor *s = fdl_optim_state(opt, bag_at(m, i), name);
                        check_some(s);
                        snprintf(what, sizeof what, "%s %s, %s: %s of p%d", kind, text,
                                 optim_impl_names[impl], name, i);
                        expect_values(s, want, tolerance, what);
                    }
                }
                free(text);
                fdl_optim_free(opt);
                check_ok(fdl_module_free(m));
            }
}

static void like_pytorch(void **state)
{
    (void)state;
    like_pytorch_on(FDL_CPU);
}

static void like_pytorch_on_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    like_pytorch_on(FDL_CUDA(0));
}

/* p begins at 1; its values after each gradient, NaN where they aren't known. */
static void trace(const char *kind, fdl_optim_opts o, const double *grads, const double *want, int n)
{
    double exact = strcmp(kind, "nadam") == 0 ? 1e-8 : 1e-9; /* its product is float32, as PyTorch's */
    for (int impl = 0; impl < optim_ways(kind, FDL_CPU); impl++)
        for (int wide = 0; wide < 2; wide++) {
            FDL_SCOPE;
            fdl_module *m = bag_of(1, wide ? FDL_FLOAT64 : FDL_FLOAT32);
            o.impl = optim_impls[impl];
            fdl_optim *opt = make(kind, fdl_parameters(m), &o);
            check_some(opt);
            for (int t = 0; t < n; t++) {
                set_grad(bag_at(m, 0), grads[t]);
                check_ok(fdl_optim_step(opt));
                double p = fdl_item(bag_at(m, 0));
                if (!isnan(want[t]) && !(fabs(p - want[t]) <= (wide ? exact : 1e-6)))
                    fail_msg("%s, %s, float%d: %.12g after step %d, not %.12g", kind, optim_impl_names[impl],
                             wide ? 64 : 32, p, t + 1, want[t]);
            }
            fdl_optim_free(opt);
            check_ok(fdl_module_free(m));
        }
}

#define OPTS(...) ((fdl_optim_opts){.lr = 0.1, __VA_ARGS__})

static void traces(void **state)
{
    (void)state;
    static const double g[] = {0.1, 0.2, -0.3}, h[] = {1, 0.01, 0.01};
    trace("sgd", OPTS(.momentum = 0), g, (const double[]){0.99, 0.97, 1.00}, 3);
    trace("sgd", OPTS(.momentum = 0.9), g, (const double[]){0.99, 0.961, 0.9649}, 3);
    trace("sgd", OPTS(.momentum = 0.9, .dampening = 0.5), g, (const double[]){0.99, 0.971, 0.9689}, 3);
    trace("sgd", OPTS(.momentum = 0.9, .nesterov = true), g, (const double[]){0.981, 0.9349, 0.96841}, 3);
    trace("sgd", OPTS(.momentum = 0.9, .weight_decay = 0.01), g,
          (const double[]){0.989, 0.958111, 0.959352789}, 3);
    trace("adam", OPTS(.maximize = false), g, (const double[]){0.9000000100, 0.8034818135, 0.8101417148}, 3);
    trace("adam", OPTS(.weight_decay = 0.1), g, (const double[]){0.9000000050, 0.8007033204, 0.7694517622},
          3);
    trace("adam", OPTS(.amsgrad = true), h, (const double[]){0.9000000010, 0.8322835510, 0.7793259045}, 3);
    trace("adam", OPTS(.amsgrad = false), h, (const double[]){0.9000000010, 0.8322530580, 0.7792477091}, 3);
    trace("adamw", OPTS(.maximize = false), g, (const double[]){0.8990000100, 0.8015828135, 0.8074411319}, 3);
}

/* Those of the methods without a kernel, at their default rates where .lr is left out. */
static void more_traces(void **state)
{
    (void)state;
    static const double g[] = {0.1, 0.2, -0.3, 0.1, 0.2, -0.3, 0.1};
#define DEFAULTS(...) ((fdl_optim_opts){.opts_ = 0, __VA_ARGS__})
    trace("rmsprop", DEFAULTS(.lr = 0.01), g, (const double[]){0.9000001000, 0.8104678439, 0.8908182718}, 3);
    trace("rmsprop", DEFAULTS(.momentum = 0.9), g, (const double[]){0.9000001, 0.7204679339, 0.6392394122},
          3);
    trace("rmsprop", DEFAULTS(.centered = true), g,
          (const double[]){0.8994963195, 0.8091510920, 0.8895015657}, 3);
    trace("adagrad", DEFAULTS(.lr = 0), g, (const double[]){0.99, 0.9810557281, 0.9890735654}, 3);
    trace("adagrad", DEFAULTS(.lr_decay = 0.1), g, (const double[]){0.99, 0.9818688437, 0.9885503748}, 3);
    trace("radam", OPTS(.decoupled = false), g,
          (const double[]){0.99, 0.9747368421, 0.9761759565, (double)NAN, (double)NAN, 0.9681505215,
                           0.9680293284},
          7);
    trace("nadam", DEFAULTS(.lr = 0), g, (const double[]){0.9978870967, 0.9959612021, 0.9976579264}, 3);
    trace("nadam", OPTS(.decoupled = false), g, (const double[]){0.8943548327, 0.7980601038, 0.8828963214},
          3);
    trace("lion", DEFAULTS(.lr = 0.01), g, (const double[]){0.99, 0.98, 0.99}, 3);
    trace("adamax", DEFAULTS(.lr = 0), g, (const double[]){0.9980000002, 0.9964736845, 0.9965696254}, 3);
    trace("adadelta", DEFAULTS(.lr = 0), g, (const double[]){0.9968393023, 0.9928001135, 0.9976677179}, 3);
}

static void defaults(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_params *ps = fdl_parameters(m);
    static const struct {
        const char *kind, *option;
        double value;
    } want[] = {{"sgd", "lr", 1e-3},         {"sgd", "momentum", 0},         {"sgd", "weight_decay", 0},
                {"sgd", "dampening", 0},     {"adam", "lr", 1e-3},           {"adam", "beta1", 0.9},
                {"adam", "beta2", 0.999},    {"adam", "eps", 1e-8},          {"adamw", "lr", 1e-3},
                {"adamw", "beta1", 0.9},     {"adamw", "beta2", 0.999},      {"adamw", "eps", 1e-8},
                {"adam", "weight_decay", 0}, {"adamw", "weight_decay", 0.01}};
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        fdl_optim *o = make(want[i].kind, ps, NULL);
        check_some(o);
        assert_string_equal(fdl_optim_kind(o), want[i].kind);
        assert_true(fdl_optim_option(o, 0, want[i].option) == want[i].value);
        fdl_optim_free(o);
    }
    fdl_optim *zero = fdl_optim_adamw(ps, .weight_decay = FDL_ZERO, .eps = FDL_ZERO);
    check_some(zero);
    assert_true(fdl_optim_option(zero, 0, "weight_decay") == 0);
    assert_true(fdl_optim_option(zero, 0, "eps") == 0);
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
    REFUSED(fdl_optim_sgd(ps, .lr = -1), "sgd", "lr", "-1");
    REFUSED(fdl_optim_sgd(ps, .lr = (double)NAN), "lr", "nan");
    REFUSED(fdl_optim_sgd(ps, .lr = (double)INFINITY), "lr", "inf");
    REFUSED(fdl_optim_sgd(ps, .momentum = -0.1), "momentum");
    REFUSED(fdl_optim_sgd(ps, .weight_decay = -0.1), "weight_decay");
    REFUSED(fdl_optim_sgd(ps, .nesterov = true), "nesterov", "momentum");
    REFUSED(fdl_optim_sgd(ps, .momentum = 0.9, .dampening = 0.1, .nesterov = true), "dampening");
    REFUSED(fdl_optim_sgd(ps, .beta1 = 0.9), "sgd has no option .beta1", "momentum");
    REFUSED(fdl_optim_sgd(ps, .amsgrad = true), "amsgrad");
    REFUSED(fdl_optim_sgd(ps, .eps = FDL_ZERO), "eps");
    REFUSED(fdl_optim_adam(ps, .beta1 = 1), "beta1", "below 1");
    REFUSED(fdl_optim_adam(ps, .beta2 = 1.5), "beta2");
    REFUSED(fdl_optim_adam(ps, .beta2 = -0.5), "beta2");
    REFUSED(fdl_optim_adam(ps, .eps = -1), "eps");
    REFUSED(fdl_optim_adam(ps, .momentum = 0.9), "adam has no option .momentum", "beta1");
    REFUSED(fdl_optim_adamw(ps, .nesterov = true), "adamw has no option .nesterov");
    REFUSED(fdl_optim_adam(ps, .impl = (fdl_optim_impl)9), "impl");
    assert_null(fdl_optim_adam(NULL));
    check_error(FDL_E_NULL, "adam", "params");
    assert_int_equal(fdl_live_tensors(), live);

    fdl_optim *o = fdl_optim_adam(ps);
    assert_int_equal(fdl_optim_set_lr(o, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "lr");
    assert_int_equal(fdl_optim_set_lr(o, (double)NAN), FDL_E_ARG);
    check_error(FDL_E_ARG, "lr");
    assert_int_equal(fdl_optim_scale_lr(o, -2), FDL_E_ARG);
    check_error(FDL_E_ARG, "lr");
    assert_int_equal(fdl_optim_set_option(o, 0, "beta1", 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "beta1");
    assert_int_equal(fdl_optim_set_option(o, 0, "momentum", 0.5), FDL_E_ARG);
    check_error(FDL_E_ARG, "adam has no numeric option \"momentum\"", "weight_decay");
    assert_int_equal(fdl_optim_set_option(o, 1, "beta1", 0.5), FDL_E_ARG);
    check_error(FDL_E_ARG, "group 1", "with 1");
    assert_int_equal(fdl_optim_set_group_lr(o, 7, 0.5), FDL_E_ARG);
    check_error(FDL_E_ARG, "group 7");
    assert_true(isnan(fdl_optim_group_lr(o, -1)));
    check_error(FDL_E_ARG, "group -1");
    assert_int_equal(fdl_optim_add_group(o, ps), -1);
    check_error(FDL_E_ARG, "p0", "already");
    assert_int_equal(fdl_optim_groups(o), 1);
    assert_null(fdl_optim_state(o, bag_at(m, 0), "momentum_buffer"));
    check_error(FDL_E_ARG, "momentum_buffer", "exp_avg_sq");
    assert_null(fdl_optim_state(o, bag_at(m, 0), "exp_avg"));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    assert_null(fdl_optim_state(o, fdl_ones(FDL_SHAPE(1)), "exp_avg"));
    check_error(FDL_E_ARG, "none of this optimizer's");
    assert_int_equal(fdl_optim_step(NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_optim_zero_grad(NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_optim_set_lr(NULL, 1), FDL_E_NULL);
    fdl_clear_error();
    fdl_optim_free(NULL);
    assert_true(fdl_optim_lr(o) == 1e-3);
    fdl_optim_free(o);
    fdl_module_free(m);
}

/* A parameter that is a view with gaps can't go to a fused kernel; the automatic choice takes another way. */
static void gaps(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        FDL_SCOPE;
        fdl_module *m = bag_new(), *twin = bag_new();
        bag_add(m, fdl_arange(0, 12, 1));
        bag_add(twin, fdl_arange(0, 24, 2));
        m = fdl_module_done(m);
        twin = fdl_module_done(twin);
        {
            FDL_NO_GRAD;
            check_ok(fdl_set_data_(bag_at(m, 0),
                                   fdl_as_strided(fdl_arange(0, 24, 1), FDL_SHAPE(12), FDL_DIMS(2), 0)));
        }
        const char *name = kind ? "adam" : "sgd";
        fdl_optim *o = make(name, fdl_parameters(m), &OPTS(.impl = FDL_OPTIM_AUTO));
        fdl_optim *plain = make(name, fdl_parameters(twin), &OPTS(.impl = FDL_OPTIM_LOOP));
        fdl_optim *fused = make(name, fdl_parameters(m), &OPTS(.impl = FDL_OPTIM_FUSED));
        for (int t = 0; t < 3; t++) {
            check_ok(fdl_set_grad(bag_at(m, 0), fdl_arange(0, 12, 1)));
            check_ok(fdl_set_grad(bag_at(twin, 0), fdl_arange(0, 12, 1)));
            check_ok(fdl_optim_step(o));
            check_ok(fdl_optim_step(plain));
        }
        assert_true(fdl_allclose(bag_at(m, 0), bag_at(twin, 0)));
        assert_int_equal(fdl_optim_step(fused), FDL_E_UNSUPPORTED);
        check_error(FDL_E_UNSUPPORTED, name, "p0", "gaps");
        /* a gradient in another layout than its dense parameter: copied into the parameter's */
        fdl_module *square = bag_new();
        bag_add(square, fdl_zeros(FDL_SHAPE(3, 4)));
        square = fdl_module_done(square);
        fdl_optim *s = fdl_optim_sgd(fdl_parameters(square), .lr = 1, .impl = FDL_OPTIM_FUSED);
        fdl_tensor *g = fdl_transpose(fdl_reshape(fdl_arange(0, 12, 1), FDL_SHAPE(4, 3)), 0, 1);
        check_ok(fdl_set_grad(bag_at(square, 0), g));
        check_ok(fdl_optim_step(s));
        assert_true(fdl_allclose(bag_at(square, 0), fdl_neg(g)));
        fdl_optim_free(o);
        fdl_optim_free(plain);
        fdl_optim_free(fused);
        fdl_optim_free(s);
        fdl_module_free(m);
        fdl_module_free(twin);
        fdl_module_free(square);
    }
}

static void groups_and_rates(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = bag_of(1, FDL_FLOAT64), *b = bag_of(1, FDL_FLOAT64), *c = bag_of(1, FDL_FLOAT64);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(a), .lr = 1, .momentum = 0.5);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(b), .lr = 0.001), 1);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(c), .momentum = FDL_ZERO, .weight_decay = 0.25),
                     2);
    assert_int_equal(fdl_optim_groups(o), 3);
    assert_true(fdl_optim_option(o, 1, "momentum") == 0.5); /* from group 0 */
    assert_true(fdl_optim_option(o, 2, "momentum") == 0);
    assert_true(fdl_optim_group_lr(o, 2) == 1);
    set_grad(bag_at(a, 0), 0.5);
    set_grad(bag_at(b, 0), 0.5);
    set_grad(bag_at(c, 0), 0.5);
    check_ok(fdl_optim_step(o));
    assert_true(fabs(fdl_item(bag_at(a, 0)) - 0.5) < 1e-12);
    assert_true(fabs(fdl_item(bag_at(b, 0)) - 0.9995) < 1e-12);
    assert_true(fabs(fdl_item(bag_at(c, 0)) - 0.25) < 1e-12);
    check_ok(fdl_optim_set_lr(o, 0.1)); /* the ratio stays */
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 0.0001) < 1e-15);
    check_ok(fdl_optim_set_lr(o, 0));
    assert_true(fdl_optim_group_lr(o, 1) == 0);
    check_ok(fdl_optim_set_lr(o, 1));
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 0.001) < 1e-15);
    check_ok(fdl_optim_scale_lr(o, 0.5));
    assert_true(fdl_optim_lr(o) == 0.5);
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 0.0005) < 1e-15);
    check_ok(fdl_optim_set_group_lr(o, 1, 0.25)); /* a new ratio */
    check_ok(fdl_optim_set_lr(o, 1));
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 0.5) < 1e-15);
    check_ok(fdl_optim_set_option(o, 1, "lr", 0.75));
    assert_true(fdl_optim_group_lr(o, 1) == 0.75);
    check_ok(fdl_optim_set_group_lr(o, 0, 0.5)); /* the others keep their rates, by another ratio */
    assert_true(fdl_optim_lr(o) == 0.5 && fdl_optim_group_lr(o, 1) == 0.75 && fdl_optim_group_lr(o, 2) == 1);
    check_ok(fdl_optim_set_lr(o, 1));
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 1.5) < 1e-15 && fabs(fdl_optim_group_lr(o, 2) - 2) < 1e-15);
    check_ok(fdl_optim_set_lr(o, 0.5));
    check_ok(fdl_optim_set_option(o, 2, "weight_decay", 0));
    double before = fdl_item(bag_at(c, 0));
    check_ok(fdl_optim_step(o));
    assert_true(fabs(fdl_item(bag_at(c, 0)) - (before - 0.5)) < 1e-12);

    fdl_list in = fdl_optim_params(o, 1);
    assert_int_equal(in.n, 1);
    assert_true(fdl_is(in.at[0], bag_at(b, 0)));
    fdl_optim_free(o);
    fdl_module_free(a);
    fdl_module_free(b);
    fdl_module_free(c);
}

/* Rates of groups that began with a, b, c, at the schedule's lr. */
static void expect_rates(fdl_optim *o, double a, double b, double c)
{
    const double want[] = {a, b, c};
    for (int g = 0; g < 3; g++)
        check_number(fdl_optim_group_lr(o, g), want[g], 1e-15);
}

static void a_group_that_began_with_0_stays_there(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[3];
    for (int i = 0; i < 3; i++)
        m[i] = bag_of(1, FDL_FLOAT64);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m[0]), .lr = FDL_ZERO);
    fdl_optim_add_group(o, fdl_parameters(m[1]), .lr = 0.1);
    fdl_optim_add_group(o, fdl_parameters(m[2]), .lr = 0.2);
    fdl_sched *s = fdl_sched_exponential(0.1, 0.5); /* ExponentialLR(opt, 0.5) */
    for (int t = 0; t < 3; t++) {
        check_ok(fdl_sched_apply(s, o, t));
        expect_rates(o, 0, 0.1 * pow(0.5, t), 0.2 * pow(0.5, t));
    }
    fdl_optim_dict dict;
    check_ok(fdl_optim_state_dict(o, &dict));
    fdl_optim *again = fdl_optim_sgd(fdl_parameters(m[0]));
    fdl_optim_add_group(again, fdl_parameters(m[1]));
    fdl_optim_add_group(again, fdl_parameters(m[2]));
    check_ok(fdl_optim_load_state_dict(again, &dict));
    check_ok(fdl_optim_set_lr(again, 0.5));
    expect_rates(again, 0, 0.5, 1);

    check_ok(fdl_optim_set_lr(o, 0)); /* all are at 0 now, one of them for good */
    check_ok(fdl_optim_set_lr(o, 0.3));
    expect_rates(o, 0, 0.3, 0.6);
    check_ok(fdl_optim_set_group_lr(o, 0, 0.6)); /* now it leads */
    check_ok(fdl_optim_set_lr(o, 0.2));
    expect_rates(o, 0.2, 0.1, 0.2);
    check_ok(fdl_optim_set_group_lr(o, 2, 0));
    check_ok(fdl_optim_set_lr(o, 0.4));
    expect_rates(o, 0.4, 0.2, 0);
    fdl_optim_free(o);
    fdl_optim_free(again);

    /* all of them: the rate is what was said last */
    o = fdl_optim_sgd(fdl_parameters(m[0]), .lr = FDL_ZERO);
    fdl_optim_add_group(o, fdl_parameters(m[1]));
    fdl_optim_add_group(o, fdl_parameters(m[2]));
    expect_rates(o, 0, 0, 0);
    assert_int_equal(fdl_optim_set_lr(o, -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "lr");
    check_ok(fdl_optim_set_lr(o, 0.5));
    expect_rates(o, 0.5, 0.5, 0.5);
    fdl_optim_free(o);
    fdl_sched_free(s);
    for (int i = 0; i < 3; i++)
        fdl_module_free(m[i]);
}

static void rate_of_zero(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int impl = 0; impl < 4; impl++) {
            FDL_SCOPE;
            static const char *const kinds[] = {"sgd", "adam", "adamw"};
            fdl_module *m = bag_new();
            bag_add(m, fdl_arange(-3, 3, 0.37));
            m = fdl_module_done(m);
            fdl_tensor *before = fdl_clone(bag_at(m, 0));
            fdl_optim *o = make(kinds[kind], fdl_parameters(m),
                                &(fdl_optim_opts){.lr = FDL_ZERO, .impl = optim_impls[impl]});
            for (int t = 0; t < 3; t++) {
                set_grad(bag_at(m, 0), 1.5);
                check_ok(fdl_optim_step(o));
            }
            assert_true(fdl_same(before, bag_at(m, 0)));
            check_ok(fdl_optim_set_lr(o, 1e-30));
            check_ok(fdl_optim_step(o));
            assert_true(fdl_all_finite(bag_at(m, 0)));
            check_ok(fdl_optim_set_lr(o, 0.5)); /* the rate that the kernels see is the one that was set */
            check_ok(fdl_optim_step(o));
            assert_false(fdl_same(before, bag_at(m, 0)));
            fdl_optim_free(o);
            fdl_module_free(m);
        }
}

static void nothing_to_do(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *none = fdl_module_done(bag_new());
    fdl_optim *empty = fdl_optim_adam(fdl_parameters(none));
    check_some(empty);
    check_ok(fdl_optim_step(empty));
    check_ok(fdl_optim_zero_grad(empty));
    assert_int_equal(fdl_optim_params(empty, 0).n, 0);
    fdl_optim_free(empty);
    fdl_module_free(none);

    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(3)));
    bag_add(m, fdl_ones(FDL_SHAPE(0, 3))); /* no elements */
    m = fdl_module_done(m);
    fdl_optim *o = fdl_optim_adam(fdl_parameters(m));
    check_ok(fdl_optim_step(o)); /* before any backward */
    assert_null(fdl_optim_state(o, bag_at(m, 0), "step"));
    set_grad(bag_at(m, 0), 1);
    set_grad(bag_at(m, 1), 1);
    check_ok(fdl_optim_step(o));
    fdl_tensor *after = fdl_clone(bag_at(m, 0));
    check_ok(fdl_optim_zero_grad(o));
    assert_null(fdl_grad(bag_at(m, 0)));
    check_ok(fdl_optim_step(o));
    assert_true(fdl_same(after, bag_at(m, 0)));
    assert_true(fdl_item(fdl_optim_state(o, bag_at(m, 0), "step")) == 1);
    set_grad(bag_at(m, 0), 1);
    check_ok(fdl_optim_zero_grad(o, .set_to_zero = true));
    assert_true(fdl_item(fdl_sum(fdl_grad(bag_at(m, 0)))) == 0);
    fdl_optim_free(o);
    fdl_module_free(m);
}

static void frozen(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2)));
    bag_add(m, fdl_ones(FDL_SHAPE(2)));
    m = fdl_module_done(m);
    fdl_optim *o = fdl_optim_adamw(fdl_parameters(m), .lr = 0.1);
    for (int t = 0; t < 2; t++) {
        set_grad(bag_at(m, 0), 1);
        set_grad(bag_at(m, 1), 1);
        check_ok(fdl_optim_step(o));
    }
    fdl_param *p = fdl_module_own_param(m, "p1");
    check_ok(fdl_param_freeze(p));
    fdl_tensor *before = fdl_clone(bag_at(m, 1)),
               *moments = fdl_clone(fdl_optim_state(o, bag_at(m, 1), "exp_avg"));
    set_grad(bag_at(m, 0), 1);
    set_grad(bag_at(m, 1), 1); /* even with a gradient */
    check_ok(fdl_optim_step(o));
    assert_true(fdl_same(before, bag_at(m, 1)));
    assert_true(fdl_item(fdl_optim_state(o, bag_at(m, 0), "step")) == 3);
    assert_true(fdl_item(fdl_optim_state(o, bag_at(m, 1), "step")) == 2);
    fdl_tensor *third = fdl_clone(bag_at(m, 0));
    check_ok(fdl_param_thaw(p));
    assert_true(fdl_same(moments, fdl_optim_state(o, bag_at(m, 1), "exp_avg")));
    set_grad(bag_at(m, 1), 1);
    check_ok(fdl_optim_step(o));
    assert_true(fdl_item(fdl_optim_state(o, bag_at(m, 1), "step")) == 3);
    assert_true(fdl_same(third, bag_at(m, 1))); /* three steps of one gradient each */
    fdl_optim_free(o);
    fdl_module_free(m);
}

static void module_goes_first(void **state)
{
    (void)state;
    int64_t live = fdl_live_tensors();
    {
        FDL_SCOPE;
        fdl_module *m = bag_of(1, FDL_FLOAT32);
        fdl_optim *o = fdl_optim_adam(fdl_parameters(m), .lr = 0.1);
        set_grad(bag_at(m, 0), 1);
        check_ok(fdl_optim_step(o));
        check_ok(fdl_module_free(m));
        check_ok(fdl_optim_step(o)); /* the parameter is alive as long as the optimizer */
        fdl_tensor *p = fdl_optim_params(o, 0).at[0];
        assert_true(fabs(fdl_item(p) - 0.8) < 1e-5);
        check_ok(fdl_optim_zero_grad(o));
        fdl_optim_free(o);
    }
    assert_int_equal(fdl_live_tensors(), live);
}

/* Casting and laying out anew between steps: the state follows, and the numbers are those of a run without.
 */
static void state_follows(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (int impl = 0; impl < 4; impl++) {
            FDL_SCOPE;
            fdl_module *m = bag_new(), *twin = bag_new();
            fdl_tensor *start = fdl_reshape(fdl_arange(0, 2 * 3 * 4 * 5, 1), FDL_SHAPE(2, 3, 4, 5));
            start = fdl_mul(start, 0.01);
            bag_add(m, start);
            bag_add(twin, start);
            m = fdl_module_done(m);
            twin = fdl_module_done(twin);
            fdl_optim_opts opts = OPTS(.impl = optim_impls[impl]);
            if (!kind)
                opts.momentum = 0.9;
            fdl_optim *o = make(kind ? "adam" : "sgd", fdl_parameters(m), &opts);
            fdl_optim *same = make(kind ? "adam" : "sgd", fdl_parameters(twin), &opts);
            for (int t = 0; t < 6; t++) {
                if (t == 2)
                    check_ok(fdl_module_to(m, FDL_CPU, .channels_last = true));
                if (t == 4)
                    check_ok(fdl_module_to(m, FDL_CPU, .dtype = FDL_FLOAT64));
                fdl_tensor *g = fdl_sin(fdl_mul(start, t + 1.0));
                fdl_tensor *p = bag_at(m, 0);
                check_ok(fdl_set_grad(p, fdl_to(g, .dtype = fdl_dtype_of(p))));
                check_ok(fdl_set_grad(bag_at(twin, 0), g));
                check_ok(fdl_optim_step(o));
                check_ok(fdl_optim_step(same));
            }
            fdl_tensor *s = fdl_optim_state(o, bag_at(m, 0), kind ? "exp_avg" : "momentum_buffer");
            assert_int_equal(fdl_dtype_of(s), FDL_FLOAT64);
            assert_true(fdl_is_channels_last(s));
            assert_true(fdl_allclose(fdl_float(bag_at(m, 0)), bag_at(twin, 0), .rtol = 1e-5, .atol = 1e-6));
            fdl_optim_free(o);
            fdl_optim_free(same);
            fdl_module_free(m);
            fdl_module_free(twin);
        }
}

static void follows_to_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    for (int kind = 0; kind < 2; kind++)
        for (int impl = 0; impl < 4; impl++) {
            FDL_SCOPE;
            static const double g[] = {0.1, 0.2, -0.3};
            static const double want[2][3] = {{0.99, 0.961, 0.9649},
                                              {0.9000000100, 0.8034818135, 0.8101417148}};
            fdl_module *m = bag_of(1, FDL_FLOAT32);
            fdl_optim_opts opts = OPTS(.impl = optim_impls[impl]);
            if (!kind)
                opts.momentum = 0.9;
            fdl_optim *o = make(kind ? "adam" : "sgd", fdl_parameters(m), &opts);
            for (int t = 0; t < 3; t++) {
                if (t == 1)
                    check_ok(fdl_module_to(m, FDL_CUDA(0)));
                set_grad(bag_at(m, 0), g[t]);
                check_ok(fdl_optim_step(o));
                assert_true(fabs(fdl_item(bag_at(m, 0)) - want[kind][t]) < 1e-6);
            }
            if (kind)
                assert_int_equal(fdl_device_of(fdl_optim_state(o, bag_at(m, 0), "step")).type,
                                 FDL_DEVICE_TYPE_CUDA);
            fdl_optim_free(o);
            fdl_module_free(m);
        }
}

/* Half types stay half, and move. */
static void half(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++)
        for (int impl = 0; impl < 4; impl++) {
            FDL_SCOPE;
            static const char *const kinds[] = {"sgd", "adam", "adamw"};
            fdl_module *m = bag_of(1, FDL_BFLOAT16);
            fdl_optim *o = make(kinds[kind], fdl_parameters(m), &OPTS(.impl = optim_impls[impl]));
            set_grad(bag_at(m, 0), 1);
            check_ok(fdl_optim_step(o));
            assert_int_equal(fdl_dtype_of(bag_at(m, 0)), FDL_BFLOAT16);
            assert_true(fabs(fdl_item(bag_at(m, 0)) - 0.9) < 0.01);
            fdl_optim_free(o);
            fdl_module_free(m);
        }
}

/* The optimizer sees a gradient of another dtype, by way of replaced data. */
static void wrong_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = fdl_optim_adam(fdl_parameters(m));
    set_grad(bag_at(m, 0), 1);
    check_ok(fdl_optim_step(o));
    fdl_tensor *before = fdl_clone(bag_at(m, 0));
    {
        FDL_NO_GRAD;
        fdl_status set = fdl_set_data_(bag_at(m, 0), fdl_double(bag_at(m, 0)));
        if (set != FDL_OK) { /* libtorch may refuse that already */
            fdl_clear_error();
            fdl_optim_free(o);
            fdl_module_free(m);
            return;
        }
    }
    assert_int_equal(fdl_optim_step(o), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "p0", "float64", "float32");
    assert_true(fdl_item(before) == fdl_item(bag_at(m, 0)));
    fdl_optim_free(o);
    fdl_module_free(m);
}

/* Fits y = 2x + 1. */
static void converges(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        FDL_SCOPE;
        fdl_module *m = bag_new();
        bag_add(m, fdl_zeros(FDL_SHAPE(1)));
        bag_add(m, fdl_zeros(FDL_SHAPE(1)));
        m = fdl_module_done(m);
        fdl_optim *o =
            make(kind ? "adam" : "sgd", fdl_parameters(m), &(fdl_optim_opts){.lr = kind ? 0.1 : 0.01});
        fdl_tensor *x = fdl_linspace(-1, 1, 32), *y = fdl_add(fdl_mul(x, 2), 1);
        int64_t live = 0;
        for (int t = 0; t < (kind ? 500 : 800); t++) {
            FDL_SCOPE;
            fdl_tensor *d = fdl_sub(fdl_add(fdl_mul(x, bag_at(m, 0)), bag_at(m, 1)), y);
            check_ok(fdl_optim_zero_grad(o));
            check_ok(fdl_backward(fdl_mean(fdl_square(d))));
            check_ok(fdl_optim_step(o));
            if (t == 10)
                live = fdl_live_tensors();
            if (t > 10)
                assert_int_equal(fdl_live_tensors(), live);
        }
        double near = kind ? 0.02 : 0.01;
        assert_true(fabs(fdl_item(bag_at(m, 0)) - 2) < near);
        assert_true(fabs(fdl_item(bag_at(m, 1)) - 1) < near);
        fdl_optim_free(o);
        fdl_module_free(m);
    }
}

/* What makes a recorded step stale advances it, what a schedule does doesn't. */
static void the_generation_advances_with_what_a_step_depends_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32), *more = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1, .momentum = 0.9);
    uint64_t g = fdl_optim_generation(o);
    set_grad(bag_at(m, 0), 1);
    check_ok(fdl_optim_step(o));
    check_ok(fdl_optim_set_lr(o, 0.2));
    check_ok(fdl_optim_scale_lr(o, 0.5));
    check_ok(fdl_optim_set_option(o, 0, "lr", 0.3));
    check_ok(fdl_optim_step(o));
    assert_int_equal(fdl_optim_generation(o), g);
    check_ok(fdl_optim_set_option(o, 0, "weight_decay", 0.1));
    assert_true(fdl_optim_generation(o) > g);
    g = fdl_optim_generation(o);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(more)), 1);
    assert_true(fdl_optim_generation(o) > g);
    g = fdl_optim_generation(o);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(more)), -1); /* they are there */
    fdl_clear_error();
    assert_int_equal(fdl_optim_generation(o), g);
    fdl_sched *s = fdl_sched_one_cycle(0.1, 10);
    check_ok(fdl_sched_apply(s, o, 0));
    assert_true(fdl_optim_generation(o) > g); /* from now on momentum is the device's */
    g = fdl_optim_generation(o);
    check_ok(fdl_sched_apply(s, o, 1));
    assert_int_equal(fdl_optim_generation(o), g);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    set_grad(bag_at(m, 0), 1);
    check_ok(fdl_optim_step(o));
    assert_true(fdl_optim_generation(o) > g);
    assert_int_equal(fdl_optim_generation(NULL), 0);
    fdl_clear_error();
    fdl_sched_free(s);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(more));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_pytorch),
        cmocka_unit_test(like_pytorch_on_cuda),
        cmocka_unit_test(traces),
        cmocka_unit_test(more_traces),
        cmocka_unit_test(defaults),
        cmocka_unit_test(wrong_values),
        cmocka_unit_test(gaps),
        cmocka_unit_test(groups_and_rates),
        cmocka_unit_test(a_group_that_began_with_0_stays_there),
        cmocka_unit_test(rate_of_zero),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(frozen),
        cmocka_unit_test(module_goes_first),
        cmocka_unit_test(state_follows),
        cmocka_unit_test(follows_to_cuda),
        cmocka_unit_test(half),
        cmocka_unit_test(wrong_gradient),
        cmocka_unit_test(the_generation_advances_with_what_a_step_depends_on),
        cmocka_unit_test(converges),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
