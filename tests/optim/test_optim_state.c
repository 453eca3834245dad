/* State of optimizers, taken out and put back: a run that was stopped at any step and goes on is the run that never was,
 * bit for bit; what doesn't fit is refused and changes nothing. */
#include "check.h"

#include "flodl/optim_state.h"

#include <math.h>

typedef fdl_optim *(*maker)(const fdl_params *, const fdl_optim_opts *);

/* One line a method and set of options: it is saved and resumed at each step. */
static const struct method {
    const char *name;
    maker make;
    fdl_optim_opts o;
    bool matrices; /* takes no others */
    bool half;     /* of a model in bfloat16 */
} methods[] = {
    {"sgd", fdl_optim_sgd_opt, .o = {.lr = 0.1}},
    {"sgd, momentum", fdl_optim_sgd_opt, .o = {.lr = 0.1, .momentum = 0.9, .weight_decay = 0.01}},
    {"sgd, dampened", fdl_optim_sgd_opt, .o = {.lr = 0.1, .momentum = 0.9, .dampening = 0.5}},
    {"sgd, nesterov", fdl_optim_sgd_opt,
     .o = {.lr = 0.1, .momentum = 0.9, .nesterov = true, .maximize = true}},
    {"adam", fdl_optim_adam_opt, .o = {.lr = 0.01}},
    {"adam, amsgrad", fdl_optim_adam_opt, .o = {.lr = 0.01, .amsgrad = true, .weight_decay = 0.1}},
    {"adamw", fdl_optim_adamw_opt, .o = {.lr = 0.01, .beta1 = 0.8}},
    {"rmsprop", fdl_optim_rmsprop_opt, .o = {.lr = 0.01}},
    {"rmsprop, centered", fdl_optim_rmsprop_opt, .o = {.lr = 0.01, .centered = true, .momentum = 0.5}},
    {"adagrad", fdl_optim_adagrad_opt, .o = {.lr = 0.1, .lr_decay = 0.1, .initial_accumulator = 0.25}},
    {"adadelta", fdl_optim_adadelta_opt, .o = {.lr = 1}},
    {"adamax", fdl_optim_adamax_opt, .o = {.lr = 0.01}},
    {"nadam", fdl_optim_nadam_opt, .o = {.lr = 0.01, .momentum_decay = 0.1}},
    {"radam", fdl_optim_radam_opt, .o = {.lr = 0.01, .decoupled = true, .weight_decay = 0.1}},
    {"lion", fdl_optim_lion_opt, .o = {.lr = 0.01, .weight_decay = 0.1}},
    {"muon", fdl_optim_muon_opt, .o = {.lr = 0.01, .ns_steps = 3}, .matrices = true},
    {"adafactor", fdl_optim_adafactor_opt, .o = {.lr = 0.1, .weight_decay = 0.1}},
    {"rprop", fdl_optim_rprop_opt, .o = {.lr = 0.01}},
    {"asgd", fdl_optim_asgd_opt, .o = {.lr = 0.1, .t0 = 3, .lambd = 0.1}},
    {"adamw, masters", fdl_optim_adamw_opt, .o = {.lr = 0.001, .master_weights = true}, .half = true},
    {"sgd, masters", fdl_optim_sgd_opt, .o = {.lr = 0.001, .momentum = 0.9, .master_weights = true},
     .half = true},
};
enum { METHODS = sizeof methods / sizeof methods[0], STEPS = 9 };

static fdl_module *network_for(const struct method *k)
{
    check_ok(fdl_manual_seed(3));
    bool no_bias = k->matrices;
    fdl_module *m = fdl_flow(fdl_nn_linear(3, 4, .no_bias = no_bias), fdl_nn_tanh(),
                             fdl_nn_linear(4, 5, .no_bias = no_bias), fdl_nn_tanh(),
                             fdl_nn_linear(5, 2, .no_bias = no_bias));
    check_some(m);
    if (k->half)
        check_ok(fdl_cast_parameters(m, FDL_BFLOAT16));
    return m;
}

static fdl_module *network(void)
{
    return network_for(&(struct method){.name = "any"});
}

/* Two groups with rates of their own, whose ratio is another where the first isn't the method's; the last layer's bias is frozen, the middle one has gradients from step 3 on only. */
static fdl_optim *optim_over(const struct method *k, fdl_module *m, fdl_optim_impl impl, double rate)
{
    fdl_optim_opts o = k->o;
    o.impl = impl;
    o.lr *= rate;
    fdl_optim *opt = k->make(fdl_parameters(m, .match = "linear_1/*"), &o);
    check_some(opt);
    fdl_params *rest =
        fdl_params_join(fdl_parameters(m, .match = "linear_3/*"), fdl_parameters(m, .match = "linear_5/*"));
    assert_int_equal(fdl_optim_add_group(opt, rest, .lr = o.lr / (rate == 1 ? 4 : 3)), 1);
    if (!k->matrices)
        check_ok(fdl_param_freeze(fdl_params_find(fdl_parameters(m), "linear_5/bias")));
    return opt;
}

static void step(fdl_module *m, fdl_optim *opt, int t)
{
    FDL_SCOPE;
    fdl_params *middle = fdl_parameters(m, .match = "linear_3/*");
    check_ok(t < 3 ? fdl_params_freeze(middle) : fdl_params_thaw(middle));
    if (t == 5)
        check_ok(fdl_optim_set_lr(opt, fdl_optim_lr(opt) / 2));
    fdl_tensor *x =
        fdl_reshape(fdl_sin(fdl_add(fdl_arange(0, 12, 1, .dtype = FDL_FLOAT32), t)), FDL_SHAPE(4, 3));
    x = fdl_to_dtype(x, fdl_dtype_of(fdl_param_tensor(fdl_params_at(middle, 0))));
    check_ok(fdl_optim_zero_grad(opt));
    check_ok(fdl_backward(fdl_mean(fdl_square(fdl_sub(fdl_forward(m, x), 1)))));
    check_ok(fdl_optim_step(opt));
}

static void expect_same(fdl_module *a, fdl_module *b, const char *what, int at)
{
    fdl_params *pa = fdl_parameters(a), *pb = fdl_parameters(b);
    for (int i = 0; i < fdl_params_count(pa); i++)
        if (!fdl_same(fdl_param_tensor(fdl_params_at(pa, i)), fdl_param_tensor(fdl_params_at(pb, i))))
            fail_msg("%s, stopped at %d: %s differs", what, at, fdl_params_name(pa, i));
}

static void expect_same_state(fdl_optim *a, fdl_optim *b, const char *what, int at)
{
    fdl_optim_dict da, db;
    check_ok(fdl_optim_state_dict(a, &da));
    check_ok(fdl_optim_state_dict(b, &db));
    assert_string_equal(da.text, db.text);
    assert_int_equal(da.n, db.n);
    for (int i = 0; i < da.n; i++) {
        assert_string_equal(da.names[i], db.names[i]);
        if (!fdl_same(da.at[i], db.at[i]))
            fail_msg("%s, stopped at %d: %s differs", what, at, da.names[i]);
    }
}

static void copy_values(fdl_module *to, fdl_module *from)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *a = fdl_parameters(to), *b = fdl_parameters(from);
    for (int i = 0; i < fdl_params_count(a); i++)
        check_ok(fdl_param_set(fdl_params_at(a, i), fdl_param_tensor(fdl_params_at(b, i))));
}

/* Two models that go on from step `at`, the second with what was taken out of the first. */
static void stop_and_go_on(const struct method *k, fdl_optim_impl impl, int at)
{
    FDL_SCOPE;
    fdl_module *a = network_for(k), *b = network_for(k);
    fdl_optim *oa = optim_over(k, a, impl, 1), *ob = optim_over(k, b, impl, 3);
    for (int t = 0; t < at; t++)
        step(a, oa, t);
    if (at % 2) /* over a state of its own, which is forgotten */
        for (int t = 0; t < 4; t++)
            step(b, ob, t);
    fdl_optim_dict dict;
    check_ok(fdl_optim_state_dict(oa, &dict));
    check_ok(fdl_optim_load_state_dict(ob, &dict));
    copy_values(b, a);
    expect_same_state(oa, ob, k->name, at);
    for (int t = at; t < STEPS; t++) {
        step(a, oa, t);
        step(b, ob, t);
    }
    expect_same(a, b, k->name, at);
    expect_same_state(oa, ob, k->name, at);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    fdl_module_free(a);
    fdl_module_free(b);
}

static void every_method_goes_on_as_if_never_stopped(void **state)
{
    (void)state;
    static const fdl_optim_impl impls[] = {FDL_OPTIM_AUTO, FDL_OPTIM_LOOP, FDL_OPTIM_FOREACH};
    int64_t live = fdl_live_tensors();
    for (int k = 0; k < METHODS; k++)
        for (int i = 0; i < 3; i++)
            for (int at = 0; at <= STEPS; at += i ? 4 : 1)
                stop_and_go_on(&methods[k], impls[i], at);
    assert_int_equal(fdl_live_tensors(), live);
}

/* ---- methods whose step is another ---------------------------------------------------------------------- */

/* Rows of a table, by sparse gradients. */
static void words_step(fdl_module *m, fdl_optim *opt, int t)
{
    FDL_SCOPE;
    const int64_t words[] = {t % 5, (t + 2) % 5};
    check_ok(fdl_optim_zero_grad(opt));
    check_ok(
        fdl_backward(fdl_sum(fdl_square(fdl_sub(fdl_forward(m, fdl_from_i64(words, FDL_SHAPE(2))), 1)))));
    check_ok(fdl_optim_step(opt));
}

typedef struct closure {
    fdl_module *m;
    fdl_optim *opt;
} closure;

static fdl_tensor *evaluate(void *ctx)
{
    const closure *c = ctx;
    const float in[] = {1, -1, 0.5f, 2, 0, 1};
    if (fdl_optim_zero_grad(c->opt) != FDL_OK)
        return NULL;
    fdl_tensor *loss = fdl_mean(fdl_square(fdl_sub(fdl_forward(c->m, fdl_from_f32(in, FDL_SHAPE(2, 3))), 1)));
    return fdl_backward(loss) == FDL_OK ? loss : NULL;
}

static void closure_step(fdl_module *m, fdl_optim *opt, int t)
{
    (void)t;
    FDL_SCOPE;
    check_ok(fdl_optim_step_closure(opt, evaluate, &(closure){m, opt}, NULL));
}

static void sparse_and_whole_methods_go_on(void **state)
{
    (void)state;
    static const fdl_optim_opts wolfe = {.max_iter = 2, .history_size = 3, .strong_wolfe = true},
                                plain = {.max_iter = 2, .lr = 0.05};
    static const struct {
        const char *name;
        maker make;
        const fdl_optim_opts *o;
        void (*step)(fdl_module *, fdl_optim *, int);
    } all[] = {{"sparse_adam", fdl_optim_sparse_adam_opt, NULL, words_step},
               {"lbfgs", fdl_optim_lbfgs_opt, &wolfe, closure_step},
               {"lbfgs, plain", fdl_optim_lbfgs_opt, &plain, closure_step}};
    for (int k = 0; k < 3; k++)
        for (int at = 0; at <= 5; at++) {
            FDL_SCOPE;
            fdl_module *m[2];
            fdl_optim *o[2];
            for (int i = 0; i < 2; i++) {
                check_ok(fdl_manual_seed(4));
                m[i] = k ? network() : fdl_nn_embedding(5, 3, .sparse = true);
                o[i] = all[k].make(fdl_parameters(m[i]), all[k].o);
                check_some(o[i]);
            }
            for (int t = 0; t < at; t++)
                all[k].step(m[0], o[0], t);
            for (int t = 0; t < at % 3; t++)
                all[k].step(m[1], o[1], t + 1);
            fdl_optim_dict dict;
            check_ok(fdl_optim_state_dict(o[0], &dict));
            check_ok(fdl_optim_load_state_dict(o[1], &dict));
            copy_values(m[1], m[0]);
            for (int t = at; t < 6; t++)
                for (int i = 0; i < 2; i++)
                    all[k].step(m[i], o[i], t);
            expect_same(m[0], m[1], all[k].name, at);
            expect_same_state(o[0], o[1], all[k].name, at);
            for (int i = 0; i < 2; i++) {
                fdl_optim_free(o[i]);
                fdl_module_free(m[i]);
            }
        }
}

/* A first step that was left out, as a scaler does, is still to come: momentum begins with the gradient, undampened. */
static void a_first_step_that_was_left_out_is_still_the_first(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2] = {network(), network()};
    fdl_optim *o[2];
    for (int i = 0; i < 2; i++)
        o[i] = fdl_optim_sgd(fdl_parameters(m[i]), .lr = 0.1, .momentum = 0.9, .dampening = 0.5);
    fdl_params *ps = fdl_parameters(m[0]);
    for (int i = 0; i < fdl_params_count(ps); i++)
        check_ok(fdl_set_grad(fdl_param_tensor(fdl_params_at(ps, i)),
                              fdl_ones_like(fdl_param_tensor(fdl_params_at(ps, i)))));
    check_ok(fdl_optim_step_unless(o[0], fdl_full(FDL_SHAPE(1), 1)));
    fdl_optim_dict d;
    check_ok(fdl_optim_state_dict(o[0], &d));
    assert_non_null(strstr(d.text, "\"fresh\":[\"linear_1.weight\""));
    check_ok(fdl_optim_load_state_dict(o[1], &d));
    for (int t = 3; t < 6; t++)
        for (int i = 0; i < 2; i++)
            step(m[i], o[i], t);
    expect_same(m[0], m[1], "left out", 0);
    fdl_optim *never = fdl_optim_sgd(fdl_parameters(m[0]), .lr = 0.1); /* nothing of the text it has */
    assert_int_equal(fdl_optim_load_state_dict(never, &(fdl_optim_dict){0, NULL, NULL, d.text}), FDL_OK);
    assert_true(fdl_optim_option(never, 0, "momentum") == 0.9);
    fdl_optim_free(never);
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(o[i]);
        fdl_module_free(m[i]);
    }
}

/* A momentum that a schedule has set, and that it is the schedule's, goes along: steps before it is applied again are the same. */
static void what_a_schedule_moved_goes_on(void **state)
{
    (void)state;
    static const maker makers[] = {fdl_optim_sgd_opt, fdl_optim_rmsprop_opt, fdl_optim_adam_opt};
    for (int k = 0; k < 3; k++) {
        FDL_SCOPE;
        fdl_module *m[2] = {network(), network()};
        fdl_optim *o[2];
        fdl_sched *s = fdl_sched_one_cycle(0.1, 9);
        for (int i = 0; i < 2; i++)
            o[i] = makers[k](fdl_parameters(m[i]), NULL); /* the first two without momentum of their own */
        for (int t = 0; t < 4; t++) {
            check_ok(fdl_sched_apply(s, o[0], t));
            step(m[0], o[0], t);
        }
        fdl_optim_dict d;
        check_ok(fdl_optim_state_dict(o[0], &d));
        assert_non_null(strstr(d.text, "\"scheduled\":true"));
        check_ok(fdl_optim_load_state_dict(o[1], &d));
        copy_values(m[1], m[0]);
        expect_same_state(o[0], o[1], "scheduled", 4);
        for (int t = 4; t < 7; t++)
            for (int i = 0; i < 2; i++)
                step(m[i], o[i], t);
        expect_same(m[0], m[1], "scheduled", 4);
        expect_same_state(o[0], o[1], "scheduled", 4);
        fdl_sched_free(s);
        for (int i = 0; i < 2; i++) {
            fdl_optim_free(o[i]);
            fdl_module_free(m[i]);
        }
    }
}

/* What PyTorch calls them, under the keys of the parameters. */
static void names_are_pytorchs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = network();
    fdl_optim *opt = fdl_optim_nadam(fdl_parameters(m));
    step(m, opt, 3);
    fdl_optim_dict d;
    check_ok(fdl_optim_state_dict(opt, &d));
    static const char *const first[] = {"linear_1.weight/exp_avg", "linear_1.weight/exp_avg_sq",
                                        "linear_1.weight/mu_product", "linear_1.weight/step",
                                        "linear_1.bias/exp_avg"};
    assert_int_equal(d.n, 6 * 4);
    for (int i = 0; i < 5; i++)
        assert_string_equal(d.names[i], first[i]);
    assert_true(fdl_is(
        d.at[0], fdl_optim_state(opt, fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0)), "exp_avg")));
    fdl_optim_free(opt);
    fdl_module_free(m);
}

/* Adam with an odd rate in float64 on float32 state, and the other way round: the values are those of the dict. */
static void state_comes_in_another_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = network(), *b = network();
    check_ok(fdl_module_to(b, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_optim *oa = fdl_optim_adam(fdl_parameters(a)), *ob = fdl_optim_adam(fdl_parameters(b));
    step(a, oa, 3);
    fdl_optim_dict da, db;
    check_ok(fdl_optim_state_dict(oa, &da));
    check_ok(fdl_optim_load_state_dict(ob, &da));
    check_ok(fdl_optim_state_dict(ob, &db));
    assert_int_equal(da.n, db.n);
    for (int i = 0; i < da.n; i++) {
        bool counts = strstr(da.names[i], "/step") != NULL;
        assert_int_equal(fdl_dtype_of(db.at[i]), counts ? FDL_FLOAT32 : FDL_FLOAT64);
        assert_true(fdl_same(fdl_double(da.at[i]), fdl_double(db.at[i])));
    }
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    fdl_module_free(a);
    fdl_module_free(b);
}

static void state_comes_from_another_device(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    FDL_SCOPE;
    fdl_module *m[2] = {network(), network()};
    fdl_optim *o[2];
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_module_to(m[i], fdl_default_device()));
        o[i] = fdl_optim_adam(fdl_parameters(m[i]));
        step(m[i], o[i], 3 + i);
    }
    bool here = fdl_default_device().type == FDL_DEVICE_TYPE_CPU;
    check_ok(fdl_module_to(m[1], here ? FDL_CUDA(0) : FDL_CPU)); /* its state follows at the next step only */
    fdl_optim_dict a, b;
    check_ok(fdl_optim_state_dict(o[0], &a));
    check_ok(fdl_optim_load_state_dict(o[1], &a));
    check_ok(fdl_optim_state_dict(o[1], &b));
    assert_int_equal(a.n, b.n);
    for (int i = 0; i < a.n; i++) {
        assert_int_equal(fdl_device_of(b.at[i]).type, here ? FDL_DEVICE_TYPE_CUDA : FDL_DEVICE_TYPE_CPU);
        assert_true(fdl_same(fdl_cpu(a.at[i]), fdl_cpu(b.at[i])));
    }
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(o[i]);
        fdl_module_free(m[i]);
    }
}

/* A rate that a schedule sets, and beta1 that it moves, go on moving. */
static void scheduled_momentum_goes_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_sched *s = fdl_sched_one_cycle(0.05, STEPS);
    fdl_module *a = network(), *b = network();
    fdl_optim *oa = fdl_optim_adam(fdl_parameters(a)), *ob = fdl_optim_adam(fdl_parameters(b), .lr = 1);
    for (int t = 0; t < STEPS; t++) {
        check_ok(fdl_sched_apply(s, oa, t));
        step(a, oa, 3);
        if (t >= 4) {
            check_ok(fdl_sched_apply(s, ob, t));
            step(b, ob, 3);
        }
        if (t == 3) {
            fdl_optim_dict d;
            check_ok(fdl_optim_state_dict(oa, &d));
            check_ok(fdl_optim_load_state_dict(ob, &d));
            copy_values(b, a);
            assert_true(fdl_optim_option(ob, 0, "beta1") == fdl_sched_momentum(s, 3));
        }
    }
    expect_same(a, b, "one cycle", 4);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    fdl_module_free(a);
    fdl_module_free(b);
    fdl_sched_free(s);
}

/* Two modules in one optimizer have parameters of the same names. */
static void equal_names_stay_apart(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2] = {fdl_nn_linear(2, 2), fdl_nn_linear(2, 2)},
               *n[2] = {fdl_nn_linear(2, 2), fdl_nn_linear(2, 2)};
    fdl_optim *a =
        fdl_optim_sgd(fdl_params_join(fdl_parameters(m[0]), fdl_parameters(m[1])), .momentum = 0.9);
    fdl_optim *b =
        fdl_optim_sgd(fdl_params_join(fdl_parameters(n[0]), fdl_parameters(n[1])), .momentum = 0.9);
    check_some(a);
    for (int i = 0; i < 2; i++)
        check_ok(fdl_set_grad(fdl_param_tensor(fdl_params_at(fdl_parameters(m[i]), 0)),
                              fdl_full(FDL_SHAPE(2, 2), i + 1)));
    check_ok(fdl_optim_step(a));
    fdl_optim_dict d;
    check_ok(fdl_optim_state_dict(a, &d));
    assert_int_equal(d.n, 2);
    assert_string_equal(d.names[0], "weight/momentum_buffer");
    assert_string_equal(d.names[1], "weight/2/momentum_buffer");
    check_ok(fdl_optim_load_state_dict(b, &d));
    for (int i = 0; i < 2; i++) {
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(fdl_parameters(n[i]), 0));
        assert_true(fdl_item(fdl_mean(fdl_optim_state(b, p, "momentum_buffer"))) == i + 1);
    }
    fdl_optim_free(a);
    fdl_optim_free(b);
    for (int i = 0; i < 2; i++) {
        fdl_module_free(m[i]);
        fdl_module_free(n[i]);
    }
}

/* ---- what doesn't fit ---------------------------------------------------------------------------------- */

static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t n = strlen(text) + strlen(to) + 1;
    char *out = fdl_scope_alloc(n);
    snprintf(out, n, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void what_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const struct method adam = {"adam", fdl_optim_adam_opt, .o = {.lr = 0.01}};
    fdl_module *a = network(), *b = network(), *c = network(), *wide = fdl_flow(fdl_nn_linear(3, 8));
    fdl_optim *oa = optim_over(&adam, a, FDL_OPTIM_AUTO, 1), *ob = optim_over(&adam, b, FDL_OPTIM_AUTO, 2);
    fdl_optim *oc = optim_over(&adam, c, FDL_OPTIM_AUTO, 2); /* as ob was */
    for (int t = 0; t < 4; t++) {
        step(a, oa, t);
        step(b, ob, t + 1);
        step(c, oc, t + 1);
    }
    fdl_optim_dict good, d;
    check_ok(fdl_optim_state_dict(oa, &good));
#define REFUSED(dict, status, ...)                                     \
    do {                                                               \
        assert_int_equal(fdl_optim_load_state_dict(ob, dict), status); \
        check_error(status, __VA_ARGS__);                              \
        expect_same_state(ob, oc, "refused", __LINE__);                \
    } while (0)
    const char *names[64];
    fdl_tensor *at[64];
    memcpy(names, good.names, sizeof *names * (size_t)good.n);
    memcpy(at, good.at, sizeof(fdl_tensor *) * (size_t)good.n);
#define WITH(i, name, tensor) \
    (names[i] = name, at[i] = tensor, d = (fdl_optim_dict){good.n, names, at, good.text}, &d)
#define UNDONE(i) (names[i] = good.names[i], at[i] = good.at[i])
#define TEXT(from, to) (d = good, d.text = replaced(good.text, from, to), &d)
    REFUSED(WITH(0, good.names[0], fdl_zeros(FDL_SHAPE(3, 4))), FDL_E_MISMATCH, "adam",
            "linear_1.weight/exp_avg", "[3, 4] in the checkpoint", "[4, 3] in the optimizer");
    REFUSED(WITH(0, good.names[0], fdl_zeros(FDL_SHAPE(4, 3), .dtype = FDL_INT32)), FDL_E_MISMATCH, "int32",
            "float32");
    REFUSED(WITH(0, "linear_1.weight/exp_sum", good.at[0]), FDL_E_MISMATCH,
            "\"linear_1.weight/exp_sum\", which it doesn't know");
    REFUSED(WITH(0, good.names[1], good.at[0]), FDL_E_FORMAT, "twice");
    REFUSED(WITH(0, NULL, good.at[0]), FDL_E_NULL, "names");
    REFUSED(WITH(0, good.names[0], NULL), FDL_E_NULL, "at");
    UNDONE(0);
    REFUSED(TEXT("\"adam\"", "\"sgd\""), FDL_E_MISMATCH, "adam", "is of sgd");
    REFUSED(TEXT("\"linear_5.bias\"", "\"linear_5.bios\""), FDL_E_MISMATCH, "linear_5.bios", "linear_5.bias");
    REFUSED(TEXT("\"linear_5.bias\"", "\"linear_1.bias\""), FDL_E_MISMATCH, "linear_1.bias",
            "group 1 in the checkpoint", "group 0 in the optimizer");
    REFUSED(TEXT("\"linear_5.bias\"", "\"linear_5.weight\""), FDL_E_FORMAT, "twice");
    REFUSED(TEXT("\"linear_5.bias\"", "7"), FDL_E_FORMAT, "without a name");
    REFUSED(TEXT(",\"linear_5.bias\"", ""), FDL_E_MISMATCH, "checkpoint has 5 parameters, optimizer 6");
    REFUSED(TEXT("\"amsgrad\"", "\"amsgrid\""), FDL_E_MISMATCH, "amsgrid");
    REFUSED(TEXT("\"amsgrad\":false", "\"amsgrad\":1"), FDL_E_FORMAT, "amsgrad", "true or false");
    REFUSED(TEXT("\"beta1\":", "\"beta1\":1"), FDL_E_ARG, "beta1");
    REFUSED(TEXT("\"ratio\":1.0", "\"ratio\":\"one\""), FDL_E_FORMAT, "ratio");
    REFUSED(TEXT("{", ""), FDL_E_FORMAT, "no JSON");
    REFUSED(TEXT("\"groups\"", "\"troops\""), FDL_E_FORMAT, "groups");
    d = good;
    d.text = NULL;
    REFUSED(&d, FDL_E_FORMAT, "no JSON");
    assert_int_equal(fdl_optim_load_state_dict(NULL, &good), FDL_E_NULL);
    check_error(FDL_E_NULL, "o");
    assert_int_equal(fdl_optim_load_state_dict(ob, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "dict");

    fdl_optim *one = fdl_optim_adam(fdl_parameters(a)), *other = fdl_optim_adamw(fdl_parameters(a)),
              *few = fdl_optim_adam(fdl_parameters(wide));
    assert_int_equal(fdl_optim_load_state_dict(one, &good), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "adam: checkpoint has 2 groups, optimizer 1");
    assert_int_equal(fdl_optim_load_state_dict(few, &good), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "adam: checkpoint has 6 parameters, optimizer 2");
    assert_int_equal(fdl_optim_load_state_dict(other, &good), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "adamw: the checkpoint is of adam");
    check_ok(fdl_optim_load_state_dict(ob, &good));
    expect_same_state(oa, ob, "in the end", 0);
    fdl_optim *all[] = {oa, ob, oc, one, other, few};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        fdl_optim_free(all[i]);
    fdl_module *modules[] = {a, b, c, wide};
    for (size_t i = 0; i < 4; i++)
        fdl_module_free(modules[i]);
}

/* In two steps: nothing before apply, nothing after free, and a new generation. */
static void a_change_is_made_or_given_up(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = network(), *b = network();
    fdl_optim *oa = fdl_optim_adam(fdl_parameters(a)), *ob = fdl_optim_adam(fdl_parameters(b), .lr = 0.5);
    step(a, oa, 3);
    fdl_optim_dict d;
    check_ok(fdl_optim_state_dict(oa, &d));
    uint64_t before = fdl_optim_generation(ob);
    fdl_optim_change *c = fdl_optim_change_new(ob, &d);
    check_some(c);
    fdl_optim_change_free(c);
    assert_true(fdl_optim_lr(ob) == 0.5 && fdl_optim_generation(ob) == before);
    fdl_optim_change_apply(fdl_optim_change_new(ob, &d));
    assert_true(fdl_optim_lr(ob) == 1e-3 && fdl_optim_generation(ob) > before);
    fdl_optim_change_apply(NULL);
    fdl_optim_change_free(NULL);
    expect_same_state(oa, ob, "applied", 0);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    fdl_module_free(a);
    fdl_module_free(b);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_method_goes_on_as_if_never_stopped),
        cmocka_unit_test(sparse_and_whole_methods_go_on),
        cmocka_unit_test(a_first_step_that_was_left_out_is_still_the_first),
        cmocka_unit_test(what_a_schedule_moved_goes_on),
        cmocka_unit_test(names_are_pytorchs),
        cmocka_unit_test(state_comes_in_another_dtype),
        cmocka_unit_test(state_comes_from_another_device),
        cmocka_unit_test(scheduled_momentum_goes_on),
        cmocka_unit_test(equal_names_stay_apart),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(a_change_is_made_or_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
