/* What holds of every optimizer: the ways of computing a step agree, nothing to do is nothing done, a rate of 0 moves nothing,
 * freezing, climbing, convergence. */
#include "kinds.h"

#define OPTS(...) (&(fdl_optim_opts){__VA_ARGS__})

/* Every method that steps by dense gradients. */
#define EACH_PLAIN(r)                                                       \
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) \
        if (optim_is_plain(r))

enum { SHAPES = 20, STEPS = 10 };

static fdl_shape shape_of(const optim_row *r, int i)
{
    static const fdl_shape mixed[SHAPES] = {
        {{0}, 0},      {{1}, 1},       {{7}, 1},          {{3, 4}, 2},       {{1, 9}, 2},
        {{8, 1}, 2},   {{2, 3, 4}, 3}, {{2, 3, 4, 5}, 4}, {{4, 2, 3, 3}, 4}, {{65}, 1},
        {{17, 33}, 2}, {{0, 3}, 2},    {{1, 1, 5}, 3},    {{64, 64}, 2},     {{1000}, 1},
        {{5, 100}, 2}, {{7, 5, 3}, 3}, {{2, 2}, 2},       {{3}, 1},          {{2, 1, 2, 1, 3}, 5}};
    if (r->matrices)
        return FDL_SHAPE(2 + i % 7, 1 + i * 3 % 11);
    return mixed[i];
}

static fdl_module *bag_of_shapes(const optim_row *r)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    fdl_manual_seed(5);
    for (int i = 0; i < SHAPES; i++) {
        fdl_tensor *t = fdl_randn(shape_of(r, i), .device = FDL_CPU);
        t = fdl_to(t, .device = fdl_default_device());
        bag_add(m, i == 8 && !r->matrices ? fdl_channels_last(t) : t);
    }
    return fdl_module_done(m);
}

/* Step t's gradients, some laid out otherwise than their parameters, some missing. */
static void random_gradients(const optim_row *r, fdl_module *m, int t)
{
    FDL_SCOPE;
    fdl_manual_seed(100 + t);
    for (int i = 0; i < SHAPES; i++) {
        fdl_tensor *g = fdl_to(fdl_randn(shape_of(r, i), .device = FDL_CPU), .device = fdl_default_device());
        if (i == 3) { /* the transpose of what is contiguous */
            g = fdl_transpose(fdl_contiguous(fdl_transpose(g, 0, 1)), 0, 1);
        } else if (i == 5 && t % 3 == 1) {
            check_ok(fdl_clear_grad(bag_at(m, i)));
            continue;
        }
        check_ok(fdl_set_grad(bag_at(m, i), g));
    }
}

static void expect_near(fdl_tensor *a, fdl_tensor *b, double tolerance, const char *what)
{
    FDL_SCOPE;
    if (!fdl_allclose(a, b, .rtol = tolerance, .atol = tolerance)) {
        fdl_tensor *apart = fdl_numel(a) ? fdl_max(fdl_abs(fdl_sub(a, b))) : fdl_scalar(0);
        fail_msg("%s: %.3g apart", what, fdl_item(apart));
    }
}

static void agree(const optim_row *r, const fdl_optim_opts *more, const char *text)
{
    FDL_SCOPE;
    fdl_module *m[4];
    fdl_optim *o[4];
    int ways = optim_ways(r->kind, fdl_default_device());
    for (int w = 0; w < ways; w++) {
        fdl_optim_opts opts = *more;
        opts.impl = optim_impls[w];
        m[w] = bag_of_shapes(r);
        o[w] = r->make(fdl_parameters(m[w]), &opts);
        check_some(o[w]);
    }
    for (int t = 0; t < STEPS; t++)
        for (int w = 0; w < ways; w++) {
            random_gradients(r, m[w], t);
            check_ok(fdl_optim_step(o[w]));
        }
    for (int w = 0; w < ways; w++)
        for (int i = 0; i < SHAPES; i++) {
            char what[200];
            snprintf(what, sizeof what, "%s %s, %s and loop, p%d", r->kind, text, optim_impl_names[w], i);
            assert_true(fdl_all_finite(bag_at(m[w], i)));
            expect_near(bag_at(m[w], i), bag_at(m[1], i), 1e-6, what);
        }
    for (int w = 0; w < ways; w++) {
        fdl_optim_free(o[w]);
        check_ok(fdl_module_free(m[w]));
    }
}

static void loop_foreach_and_fused_agree(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        agree(r, OPTS(.lr = 0.01), "plain");
        if (r->decays)
            agree(r, OPTS(.lr = 0.01, .weight_decay = 0.1), "with decay");
        if (!r->matrices) /* muon has none */
            agree(r, OPTS(.lr = 0.01, .maximize = true), "climbing");
    }
    agree(optim_row_of("sgd"), OPTS(.lr = 0.01, .momentum = 0.9, .dampening = 0.3), "with momentum");
    agree(optim_row_of("sgd"), OPTS(.lr = 0.01, .momentum = 0.9, .nesterov = true), "with nesterov");
    agree(optim_row_of("adam"), OPTS(.lr = 0.01, .amsgrad = true, .decoupled = true, .weight_decay = 0.1),
          "amsgrad");
    agree(optim_row_of("rmsprop"), OPTS(.lr = 0.01, .centered = true, .momentum = 0.5, .eps = 0.1),
          "centered");
    agree(optim_row_of("nadam"), OPTS(.lr = 0.01, .decoupled = true, .weight_decay = 0.1), "decoupled");
    agree(optim_row_of("radam"), OPTS(.lr = 0.01, .decoupled = true, .weight_decay = 0.1, .beta2 = 0.9),
          "decoupled");
    agree(optim_row_of("adagrad"), OPTS(.lr = 0.01, .lr_decay = 0.5, .initial_accumulator = 0.1), "slowed");
    agree(optim_row_of("asgd"), OPTS(.lr = 0.01, .lambd = 0.1, .t0 = 3), "averaged");
    agree(optim_row_of("muon"), OPTS(.lr = 0.01, .no_nesterov = true, .adjust = FDL_ADJUST_MATCH_RMS_ADAMW),
          "adjusted");
}

static fdl_module *pair_for(const optim_row *r)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_full(r->matrices ? FDL_SHAPE(2, 2) : FDL_SHAPE(3), 1));
    bag_add(m, fdl_full(r->matrices ? FDL_SHAPE(2, 2) : FDL_SHAPE(3), 1));
    return fdl_module_done(m);
}

static void nothing_to_do_is_nothing_done(void **state)
{
    (void)state;
    fdl_module *none = fdl_module_done(bag_new());
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) {
        FDL_SCOPE;
        fdl_optim *o = r->make(fdl_parameters(none), NULL);
        check_some(o);
        assert_int_equal(fdl_optim_step(o), r->closure ? FDL_E_UNSUPPORTED : FDL_OK);
        fdl_clear_error();
        check_ok(fdl_optim_zero_grad(o));
        fdl_optim_free(o);
    }
    check_ok(fdl_module_free(none));
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        fdl_module *m = pair_for(r);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.lr = 0.1));
        fdl_tensor *p = bag_at(m, 0), *start = fdl_clone(p);
        check_ok(fdl_optim_step(o)); /* before any backward */
        assert_true(fdl_same(p, start));
        assert_int_equal(fdl_optim_states(o, p).n, 0);
        set_grad(p, 0.5);
        check_ok(fdl_optim_step(o));
        assert_false(fdl_same(p, start));
        assert_true(fdl_same(bag_at(m, 1), start)); /* had no gradient */
        assert_int_equal(fdl_optim_states(o, bag_at(m, 1)).n, 0);
        fdl_tensor *after = fdl_clone(p);
        fdl_list kept = fdl_optim_states(o, p);
        for (int i = 0; i < kept.n; i++)
            kept.at[i] = fdl_clone(kept.at[i]);
        check_ok(fdl_optim_zero_grad(o));
        check_ok(fdl_optim_step(o));
        assert_true(fdl_same(p, after));
        fdl_list now = fdl_optim_states(o, p);
        assert_int_equal(now.n, kept.n);
        for (int i = 0; i < now.n; i++) /* counts as well */
            assert_true(fdl_same(now.at[i], kept.at[i]));
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

static void a_rate_of_zero_moves_nothing(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        for (int impl = 0; impl < optim_ways(r->kind, fdl_default_device()) && !r->first_rate; impl++) {
            FDL_SCOPE;
            fdl_module *m = pair_for(r);
            fdl_tensor *p = bag_at(m, 0), *start = fdl_clone(p);
            fdl_optim_opts opts = {.lr = FDL_ZERO, .impl = optim_impls[impl]};
            opts.weight_decay = r->decays ? 0.1 : 0;
            fdl_optim *o = r->make(fdl_parameters(m), &opts);
            for (int t = 0; t < 3; t++) {
                set_grad(p, 1.5);
                check_ok(fdl_optim_step(o));
            }
            if (!fdl_same(p, start))
                fail_msg("%s, %s: moved at a rate of 0", r->kind, optim_impl_names[impl]);
            check_ok(fdl_optim_set_lr(o, 1e-30));
            check_ok(fdl_optim_step(o));
            assert_true(fdl_all_finite(p));
            check_ok(fdl_optim_set_lr(o, 0.5));
            check_ok(fdl_optim_step(o));
            check_ok(fdl_optim_step(o)); /* asgd's rate is that of the step before */
            assert_false(fdl_same(p, start));
            fdl_optim_free(o);
            check_ok(fdl_module_free(m));
        }
    }
}

static void frozen_parameters_wait_with_their_state(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        fdl_module *m = pair_for(r);
        fdl_optim *o = r->make(fdl_parameters(m), OPTS(.lr = 0.1));
        fdl_param *second = fdl_module_own_param(m, "p1");
        fdl_tensor *at_three = NULL;
        for (int t = 0; t < 6; t++) { /* p1 is frozen in steps 2 and 3, and makes its own four steps */
            if (t == 2)
                check_ok(fdl_param_freeze(second));
            if (t == 4)
                check_ok(fdl_param_thaw(second));
            double g[2] = {sin(t + 1.0), sin(t < 2 ? t + 1.0 : t - 1.0)};
            fdl_tensor *before = fdl_clone(bag_at(m, 1));
            for (int i = 0; i < 2; i++)
                set_grad(bag_at(m, i), g[i]);
            check_ok(fdl_optim_step(o));
            if (t == 2 || t == 3)
                assert_true(fdl_same(before, bag_at(m, 1)));
            if (t == 3)
                at_three = fdl_clone(bag_at(m, 0));
        }
        if (!fdl_same(at_three, bag_at(m, 1))) /* as p0 after its first four steps */
            expect_near(at_three, bag_at(m, 1), 1e-7, r->kind);
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

static void a_list_that_cant_be_optimized_is_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *two = fdl_module_new(&bag_ops);
    bag_add(two, fdl_ones(FDL_SHAPE(2, 2)));
    two = fdl_module_done(two);
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++) {
        fdl_params *twice = fdl_params_join(fdl_parameters(two), fdl_parameters(two));
        assert_int_equal(fdl_params_count(twice),
                         1); /* a list has each once; two groups could have it twice */
        fdl_optim *o = r->make(fdl_parameters(two), NULL);
        check_some(o);
        assert_int_equal(fdl_optim_add_group(o, fdl_parameters(two)), -1);
        if (r->closure)
            check_error(FDL_E_ARG, "lbfgs has one group");
        else
            check_error(FDL_E_ARG, r->kind, "p0", "already");
        fdl_optim_free(o);
    }
    check_ok(fdl_module_free(two));
    fdl_module *derived = bag_new();
    fdl_tensor *p = bag_add(derived, fdl_ones(FDL_SHAPE(2, 2)));
    derived = fdl_module_done(derived);
    {
        FDL_NO_GRAD;
        check_ok(fdl_requires_grad_(p, false));
    }
    fdl_tensor *leaf = fdl_ones(FDL_SHAPE(2, 2));
    check_ok(fdl_requires_grad_(leaf, true));
    check_ok(fdl_add_(p, leaf)); /* now it has a history */
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++)
        REFUSED(r->make(fdl_parameters(derived), NULL), r->kind, "p0", "leaves");
    check_ok(fdl_module_free(derived));
}

static void climbing_goes_the_other_way(void **state)
{
    (void)state;
    EACH_PLAIN(r)
    {
        FDL_SCOPE;
        if (r->matrices)
            continue;
        fdl_module *m[2] = {bag_of(0, FDL_FLOAT64), bag_of(0, FDL_FLOAT64)};
        for (int up = 0; up < 2; up++) {
            fdl_optim_opts opts = {.lr = 0.05, .maximize = up == 1, .weight_decay = r->decays ? FDL_ZERO : 0};
            fdl_optim *o = r->make(fdl_parameters(m[up]), &opts);
            for (int t = 0; t < 8; t++) {
                set_grad(bag_at(m[up], 0), 1.0 + 0.1 * t);
                check_ok(fdl_optim_step(o));
            }
            fdl_optim_free(o);
        }
        double down = fdl_item(bag_at(m[0], 0)), up = fdl_item(bag_at(m[1], 0));
        if (!(down < 0 && fabs(up + down) < 1e-9)) /* from 0 on, every method is symmetric */
            fail_msg("%s: down to %g, up to %g", r->kind, down, up);
        for (int i = 0; i < 2; i++)
            check_ok(fdl_module_free(m[i]));
    }
}

static void decay_of_the_gradient_and_of_the_parameter_differ(void **state)
{
    (void)state;
    static const char *const kinds[] = {"adam", "nadam", "radam"};
    for (int k = 0; k < 3; k++) {
        FDL_SCOPE;
        double p[3];
        for (int way = 0; way < 3; way++) {
            fdl_module *m = bag_of(1, FDL_FLOAT64);
            fdl_optim_opts opts = {.lr = 0.1, .weight_decay = 0.1, .decoupled = way == 1};
            fdl_optim *o = way == 2 && k == 0 ? fdl_optim_adamw_opt(fdl_parameters(m), &opts)
                                              : optim_row_of(kinds[k])->make(fdl_parameters(m), &opts);
            for (int t = 0; t < 5; t++) {
                set_grad(bag_at(m, 0), sin(t + 1.0));
                check_ok(fdl_optim_step(o));
            }
            p[way] = fdl_item(bag_at(m, 0));
            fdl_optim_free(o);
            check_ok(fdl_module_free(m));
        }
        assert_true(fabs(p[0] - p[1]) > 1e-3);
        if (k == 0)
            assert_true(p[2] == p[1]); /* adamw is adam with that option */
    }
}

/* Fits y = x w + 3 with four features; the loss falls under that share of the first one's. */
static void converges(const char *kind, double lr, int steps, double share)
{
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_zeros(FDL_SHAPE(4, 1)));
    if (!optim_row_of(kind)->matrices)
        bag_add(m, fdl_zeros(FDL_SHAPE(1)));
    m = fdl_module_done(m);
    fdl_manual_seed(3);
    fdl_tensor *x = fdl_to(fdl_randn(FDL_SHAPE(64, 4), .device = FDL_CPU), .device = fdl_default_device());
    fdl_tensor *want = fdl_matmul(x, fdl_reshape(fdl_vec(1, -2, 3, 0.5), FDL_SHAPE(4, 1)));
    if (!optim_row_of(kind)->matrices)
        want = fdl_add(want, 3);
    fdl_optim *o = optim_row_of(kind)->make(fdl_parameters(m), OPTS(.lr = lr));
    double first = 0, last = 0;
    for (int t = 0; t < steps; t++) {
        FDL_SCOPE;
        fdl_tensor *y = fdl_matmul(x, bag_at(m, 0));
        if (!optim_row_of(kind)->matrices)
            y = fdl_add(y, bag_at(m, 1));
        fdl_tensor *loss = fdl_mse_loss(y, want);
        check_ok(fdl_optim_zero_grad(o));
        check_ok(fdl_backward(loss));
        check_ok(fdl_optim_step(o));
        last = fdl_item(loss);
        if (!t)
            first = last;
    }
    if (!(last < share * first))
        fail_msg("%s: loss from %g to %g in %d steps", kind, first, last, steps);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

static void losses_fall(void **state)
{
    (void)state;
    converges("sgd", 0.1, 100, 0.01);
    converges("adam", 0.1, 100, 0.05);
    converges("adamw", 0.1, 100, 0.05);
    converges("rmsprop", 0.05, 100, 0.1);
    converges("adagrad", 0.1, 50, 0.5);
    converges("adadelta", 10, 100, 0.5);
    converges("adamax", 0.1, 100, 0.1);
    converges("nadam", 0.05, 100, 0.5);
    converges("radam", 0.05, 100, 0.5);
    converges("lion", 0.02, 300, 0.05);
    converges("muon", 0.05, 100, 0.2);
    converges("adafactor", 0.5, 100, 0.5);
    converges("rprop", 0.01, 50, 0.01);
    converges("asgd", 0.1, 100, 0.01);
}

/* Muon's update has singular values near 1, whatever the gradient's are. */
static void muons_updates_are_nearly_orthogonal(void **state)
{
    (void)state;
    static const int64_t sides[][2] = {{8, 8}, {6, 20}, {20, 6}, {1, 5}, {32, 16}};
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        FDL_SCOPE;
        int64_t rows = sides[i][0], cols = sides[i][1];
        fdl_module *m = bag_new();
        bag_add(m, fdl_zeros(FDL_SHAPE(rows, cols)));
        m = fdl_module_done(m);
        fdl_optim *o = fdl_optim_muon(fdl_parameters(m), .lr = 1);
        fdl_manual_seed(7);
        fdl_tensor *g =
            fdl_to(fdl_randn(FDL_SHAPE(rows, cols), .device = FDL_CPU), .device = fdl_default_device());
        check_ok(fdl_set_grad(bag_at(m, 0), fdl_mul(g, 1000)));
        check_ok(fdl_optim_step(o));
        double scale = rows > cols ? sqrt((double)rows / (double)cols) : 1;
        fdl_tensor *s = fdl_div(fdl_linalg_svdvals(fdl_double(bag_at(m, 0))), scale);
        double low = fdl_item(fdl_min(s)), high = fdl_item(fdl_max(s));
        if (!(low > 0.65 && high < 1.25))
            fail_msg("[%d, %d]: singular values from %g to %g", (int)rows, (int)cols, low, high);
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

static void muon_takes_matrices_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2, 2)));
    bag_add(m, fdl_ones(FDL_SHAPE(2)));
    m = fdl_module_done(m);
    REFUSED(fdl_optim_muon(fdl_parameters(m)), "muon", "p1", "2-d", "adamw");
    fdl_optim *o = fdl_optim_muon(fdl_parameters(m, .match = "p0"));
    check_some(o);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(m, .match = "p1")), -1);
    check_error(FDL_E_ARG, "muon", "p1", "2-d");
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* Another optimizer's step takes a closure, too: it is called once, recording, before the step. */
typedef struct once {
    fdl_module *m;
    int calls;
} once;

static fdl_tensor *square_of_all(void *ctx)
{
    once *c = ctx;
    c->calls++;
    fdl_tensor *loss = fdl_square(fdl_sum(bag_at(c->m, 0)));
    return fdl_clear_grad(bag_at(c->m, 0)) == FDL_OK && fdl_backward(loss) == FDL_OK ? loss : NULL;
}

static void closures_are_called_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    once c = {.m = bag_of(2, FDL_FLOAT64)};
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(c.m), .lr = 0.1);
    double loss = 0;
    check_ok(fdl_optim_step_closure(o, square_of_all, &c, &loss));
    assert_int_equal(c.calls, 1);
    check_number(loss, 4, 0);
    check_number(fdl_item(bag_at(c.m, 0)), 1.6, 1e-7); /* a GPU has the rate in float32 */
    check_ok(fdl_optim_step_closure(o, square_of_all, &c, NULL));
    assert_int_equal(c.calls, 2);
    assert_int_equal(fdl_optim_step_closure(o, NULL, &c, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "closure");
    assert_int_equal(fdl_optim_step_closure(NULL, square_of_all, &c, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "o");
    fdl_optim_free(o);
    check_ok(fdl_module_free(c.m));
}

int main(void)
{
    on_test_device();
    fdl_set_num_threads(1); /* the tensors are small: several threads would wait for each other */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loop_foreach_and_fused_agree),
        cmocka_unit_test(nothing_to_do_is_nothing_done),
        cmocka_unit_test(a_rate_of_zero_moves_nothing),
        cmocka_unit_test(frozen_parameters_wait_with_their_state),
        cmocka_unit_test(a_list_that_cant_be_optimized_is_refused),
        cmocka_unit_test(climbing_goes_the_other_way),
        cmocka_unit_test(decay_of_the_gradient_and_of_the_parameter_differ),
        cmocka_unit_test(losses_fall),
        cmocka_unit_test(muons_updates_are_nearly_orthogonal),
        cmocka_unit_test(muon_takes_matrices_only),
        cmocka_unit_test(closures_are_called_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
