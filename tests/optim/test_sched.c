/* Schedules against PyTorch's recorded curves and against values worked out by hand. */
#include "fixture.h"

#include <pthread.h>

static json_t *recorded, *recorded_curves;

static int load(void **state)
{
    (void)state;
    recorded = fixture();
    recorded_curves = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/sched.json", 0, NULL);
    return recorded_curves ? 0 : -1;
}

static int unload(void **state)
{
    (void)state;
    json_decref(recorded);
    json_decref(recorded_curves);
    return 0;
}

/* The recorded rates and, where s moves it, momenta of that name; takes s over. */
static void like(const char *name, fdl_sched *s)
{
    check_some(s);
    const json_t *curve = json_object_get(json_object_get(recorded_curves, "schedulers"), name);
    const json_t *lr = json_object_get(curve, "lr"), *momentum = json_object_get(curve, "momentum");
    size_t n = json_array_size(lr);
    assert_true(n >= 40);
    bool moves = strncmp(name, "one_cycle", 9) == 0 ||
                 (strncmp(name, "cyclic", 6) == 0 && strcmp(name, "cyclic_fixed") != 0);
    for (size_t t = 0; t < n; t++) {
        double want = json_number_value(json_array_get(lr, t)), is = fdl_sched_lr(s, (int64_t)t);
        if (!(fabs(is - want) <= 1e-12))
            fail_msg("%s: %.17g at step %zu, PyTorch's %.17g", name, is, t, want);
        double m = fdl_sched_momentum(s, (int64_t)t), want_m = json_number_value(json_array_get(momentum, t));
        if (moves ? !(fabs(m - want_m) <= 1e-12) : !isnan(m))
            fail_msg("%s: momentum %.17g at step %zu, PyTorch's %.17g", name, m, t, want_m);
    }
    fdl_sched_free(s);
    json_object_del(json_object_get(recorded_curves, "schedulers"), name);
}

static double falls(int64_t t, void *ctx)
{
    return 1 / (1 + *(const double *)ctx * (double)t);
}

static double multiplied(int64_t t, void *ctx)
{
    (void)ctx;
    double y = 1;
    for (int64_t i = 1; i <= t; i++)
        y *= 0.9 + 0.2 * (double)(i % 2);
    return y;
}

static double root(int64_t x, void *ctx)
{
    (void)ctx;
    return 1 / sqrt((double)(1 + x));
}

static bool others_compared; /* false: this program runs one test alone */

static void curves(void **state)
{
    (void)state;
    others_compared = true;
    like("constant", fdl_sched_constant(0.1));
    like("constant_factor", fdl_sched_constant(0.1, .factor = 1.0 / 3));
    like("constant_seven", fdl_sched_constant(0.1, .factor = 0.25, .n = 7));
    like("step", fdl_sched_step(0.1, 7, .gamma = 0.5));
    like("step_default", fdl_sched_step(0.1, 30));
    like("multi_step", fdl_sched_multi_step(0.1, FDL_INTS(31, 5, 17), .gamma = 0.3));
    like("exponential", fdl_sched_exponential(0.1, 0.9));
    like("cosine", fdl_sched_cosine(0.1, 0.001, 20, .periodic = true));
    like("cosine_rising", fdl_sched_cosine(0.1, 0.3, 13, .periodic = true));
    like("linear", fdl_sched_linear(0.1, 1.0 / 3, 1, 5));
    like("linear_down", fdl_sched_linear(0.1, 1, 0.05, 40));
    like("polynomial", fdl_sched_polynomial(0.1, 5));
    like("polynomial_2", fdl_sched_polynomial(0.1, 60, .power = 2));
    like("one_cycle", fdl_sched_one_cycle(0.01, 100));
    like("one_cycle_linear", fdl_sched_one_cycle(0.3, 50, .linear = true, .pct_start = 0.4));
    like("one_cycle_three_phase",
         fdl_sched_one_cycle(0.3, 61, .three_phase = true, .div = 10, .final_div = 100));
    like("one_cycle_adam", fdl_sched_one_cycle(0.3, 40, .base_momentum = 0.7, .max_momentum = 0.9));
    like("cyclic", fdl_sched_cyclic(0.001, 0.01, 10));
    like("cyclic_uneven",
         fdl_sched_cyclic(0.001, 0.01, 4, .down = 13, .base_momentum = 0.6, .max_momentum = 0.95));
    like("cyclic_triangular2", fdl_sched_cyclic(0.001, 0.01, 10, .mode = FDL_CYCLIC_TRIANGULAR2));
    like("cyclic_exp_range",
         fdl_sched_cyclic(0.001, 0.01, 10, .down = 7, .mode = FDL_CYCLIC_EXP_RANGE, .gamma = 0.97));
    like("cyclic_scale", fdl_sched_cyclic(0.001, 0.01, 10, .scale = root));
    like("cyclic_scale_by_step", fdl_sched_cyclic(0.001, 0.01, 10, .scale = root, .scale_by_step = true));
    like("cyclic_adam", fdl_sched_cyclic(0.001, 0.01, 6));
    like("cyclic_fixed", fdl_sched_cyclic(0.001, 0.01, 6, .fixed_momentum = true));
    like("restarts", fdl_sched_cosine_restarts(0.1, 0.002, 11));
    like("restarts_2", fdl_sched_cosine_restarts(0.1, 0.002, 10, .mult = 2));
    like("restarts_3", fdl_sched_cosine_restarts(0.1, 0.002, 1, .mult = 3));
    double tenth = 0.1;
    like("lambda", fdl_sched_product(fdl_sched_constant(0.1), fdl_sched_fn(falls, &tenth)));
    like("multiplicative", fdl_sched_product(fdl_sched_constant(0.1), fdl_sched_fn(multiplied, NULL)));
    like("inv_sqrt", fdl_sched_inv_sqrt(0.1, 12));
}

static void curves_of_several(void **state)
{
    (void)state;
    like("sequence",
         fdl_sched_sequence(FDL_SCHEDS(fdl_sched_linear(0.1, 0.1, 1, 8), fdl_sched_exponential(0.1, 0.9),
                                       fdl_sched_step(0.1, 4, .gamma = 0.5)),
                            FDL_INTS(8, 30)));
    like("sequence_restarts",
         fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(0.1, .factor = 0.5, .n = 3),
                                       fdl_sched_cosine_restarts(0.1, 0.002, 9, .mult = 2),
                                       fdl_sched_polynomial(0.1, 20)),
                            FDL_INTS(10, 70)));
    like("chained",
         fdl_sched_product(fdl_sched_constant(1, .factor = 0.1, .n = 20), fdl_sched_exponential(0.1, 0.9)));
    like("chained_three",
         fdl_sched_product(fdl_sched_linear(0.1, 0.2, 1, 15),
                           fdl_sched_product(fdl_sched_step(1, 9, .gamma = 0.5),
                                             fdl_sched_multi_step(1, FDL_INTS(4, 40), .gamma = 0.7))));
    /* averaging begins: from the rate that there is to another one, where it stays */
    double last = 0.1 * pow(0.9, 20);
    like("swa",
         fdl_sched_sequence(FDL_SCHEDS(fdl_sched_exponential(0.1, 0.9), fdl_sched_cosine(last, 0.05, 10)),
                            FDL_INTS(20)));
    like("swa_linear", fdl_sched_sequence(FDL_SCHEDS(fdl_sched_step(0.1, 5, .gamma = 0.5),
                                                     fdl_sched_linear(0.025, 1, 0.3 / 0.025, 7)),
                                          FDL_INTS(12)));
    /* every curve that is recorded was compared */
    if (others_compared)
        assert_int_equal(json_object_size(json_object_get(recorded_curves, "schedulers")), 0);
}

/* Steps and rates in turns; takes s over. */
static void points(fdl_sched *s, int n, const double (*at)[2])
{
    check_some(s);
    for (int i = 0; i < n; i++) {
        double is = fdl_sched_lr(s, (int64_t)at[i][0]);
        if (!(fabs(is - at[i][1]) <= 5e-11))
            fail_msg("%.12g at step %g, not %.12g", is, at[i][0], at[i][1]);
    }
    assert_true(fdl_sched_lr(s, -5) == fdl_sched_lr(s, 0));
    assert_true(isfinite(fdl_sched_lr(s, 1000000000)));
    assert_true(isfinite(fdl_sched_lr(s, INT64_MAX)));
    fdl_sched_free(s);
}
#define POINTS(s, n, ...) points(s, n, (const double[][2]){__VA_ARGS__})

static void values(void **state)
{
    (void)state;
    POINTS(fdl_sched_step(0.1, 3, .gamma = 0.5), 7, {0, .1}, {1, .1}, {2, .1}, {3, .05}, {4, .05}, {5, .05},
           {6, .025});
    POINTS(fdl_sched_multi_step(0.1, FDL_INTS(90, 30, 60)), 5, {29, .1}, {30, .01}, {59, .01}, {60, .001},
           {90, .0001});
    POINTS(fdl_sched_exponential(0.1, 0.9), 2, {0, .1}, {10, .0348678440});
    POINTS(fdl_sched_cosine(0.1, 0.001, 100), 7, {0, .1}, {25, .0855017857}, {50, .0505}, {75, .0154982143},
           {100, .001}, {101, .001}, {5000, .001});
    POINTS(fdl_sched_cosine(0.1, 0.001, 100, .periodic = true), 3, {100, .001}, {150, .0505}, {200, .1});
    POINTS(fdl_sched_warmup(fdl_sched_cosine(0.1, 0.001, 90), 0.1, 10), 5, {0, .01}, {9, .1}, {10, .1},
           {55, .0505}, {100, .001});
    POINTS(fdl_sched_one_cycle(0.01, 100), 6, {0, .0004}, {10, .0029516395}, {29, .01}, {60, .0058928009},
           {99, 4e-8}, {500, 4e-8});
    POINTS(fdl_sched_linear(0.1, 1.0 / 3, 1, 5), 4, {0, .1 / 3}, {1, .14 / 3}, {2, .06}, {5, .1});
    POINTS(fdl_sched_one_cycle(0.01, 1), 2, {0, 4e-8}, {1, 4e-8});
    POINTS(fdl_sched_one_cycle(0.01, 10, .pct_start = FDL_ZERO), 1, {9, 4e-8});
    POINTS(fdl_sched_constant(FDL_ZERO), 1, {7, 0});
    POINTS(fdl_sched_cyclic(0.001, 0.01, 10), 5, {0, .001}, {5, .0055}, {10, .01}, {15, .0055}, {20, .001});
    POINTS(fdl_sched_cyclic(0.001, 0.01, 10, .mode = FDL_CYCLIC_TRIANGULAR2), 2, {10, .01}, {30, .0055});
    POINTS(fdl_sched_cosine_restarts(0.1, 0, 10, .mult = 2), 5, {5, .05}, {9, .002447174185}, {10, .1},
           {20, .05}, {30, .1});
    POINTS(fdl_sched_inv_sqrt(0.1, 4), 5, {0, .025}, {3, .1}, {15, .05}, {35, .1 / 3}, {99, .02});
    POINTS(fdl_sched_product(fdl_sched_constant(0.5), fdl_sched_exponential(0.2, 0.5)), 2, {0, .1}, {1, .05});
    POINTS(fdl_sched_fn(falls, &(double){1}), 3, {0, 1}, {1, .5}, {3, .25});

    fdl_sched *s = fdl_sched_one_cycle(0.01, 100); /* up to its top, down from there */
    for (int t = 1; t < 100; t++)
        assert_true(t <= 29 ? fdl_sched_lr(s, t) > fdl_sched_lr(s, t - 1)
                            : fdl_sched_lr(s, t) < fdl_sched_lr(s, t - 1));
    fdl_sched_free(s);
    s = fdl_sched_warmup(fdl_sched_one_cycle(0.01, 100), 0.0004, 5);
    for (int t = 0; t <= 5; t++)
        assert_true(fabs(fdl_sched_momentum(s, t) - 0.95) < 1e-12);
    assert_true(fabs(fdl_sched_momentum(s, 5 + 29) - 0.85) < 1e-12);
    fdl_sched_free(s);
    s = fdl_sched_product(fdl_sched_constant(1, .factor = 0.5, .n = 7), fdl_sched_cyclic(0.001, 0.01, 10));
    assert_true(fabs(fdl_sched_momentum(s, 10) - 0.8) < 1e-12);
    assert_true(fabs(fdl_sched_lr(s, 5) - 0.00275) < 1e-12);
    fdl_sched_free(s);
    /* of a sequence it is that of the part that is due, from its own beginning on */
    s = fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(0.1), fdl_sched_cyclic(0.001, 0.01, 10),
                                      fdl_sched_one_cycle(0.01, 100)),
                           FDL_INTS(5, 20));
    assert_true(isnan(fdl_sched_momentum(s, 4)));
    assert_true(fabs(fdl_sched_momentum(s, 5) - 0.9) < 1e-12);
    assert_true(fabs(fdl_sched_momentum(s, 15) - 0.8) < 1e-12);
    assert_true(fabs(fdl_sched_momentum(s, 20) - 0.95) < 1e-12);
    assert_true(fabs(fdl_sched_momentum(s, 20 + 29) - 0.85) < 1e-12);
    fdl_sched_free(s);
    s = fdl_sched_one_cycle(0.01, 100, .fixed_momentum = true);
    assert_true(isnan(fdl_sched_momentum(s, 10)));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    fdl_sched_free(s);
}

static void wrong_values(void **state)
{
    (void)state;
    REFUSED(fdl_sched_constant(-1), "lr", "-1");
    REFUSED(fdl_sched_step(0.1, 0), "step", "size", "0");
    REFUSED(fdl_sched_step(0.1, 3, .gamma = -0.5), "gamma");
    REFUSED(fdl_sched_step(0.1, 3, .gamma = FDL_ZERO), "gamma");
    REFUSED(fdl_sched_step((double)NAN, 3), "lr");
    REFUSED(fdl_sched_exponential(0.1, 0), "gamma");
    REFUSED(fdl_sched_exponential((double)INFINITY, 0.5), "lr");
    REFUSED(fdl_sched_cosine(0.1, 0, 0), "total");
    REFUSED(fdl_sched_cosine(0.1, -1, 5), "min");
    REFUSED(fdl_sched_linear(0.1, 0, 1, 5), "start");
    REFUSED(fdl_sched_linear(0.1, 1, 1, -5), "linear", "n is -5");
    REFUSED(fdl_sched_polynomial(0.1, 10, .power = -1), "power");
    REFUSED(fdl_sched_constant(0.1, .factor = -1), "constant", "factor");
    REFUSED(fdl_sched_constant(0.1, .factor = 1, .n = -1), "constant", "n is -1");
    REFUSED(fdl_sched_inv_sqrt(0.1, 0), "inv_sqrt", "warmup");
    REFUSED(fdl_sched_cyclic(-1, 0.1, 5), "cyclic", "lo");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, 0), "cyclic", "up is 0");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, 5, .down = -1), "cyclic", "down");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, INT64_MAX), "2^62");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, 5, .gamma = FDL_ZERO), "gamma");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, 5, .mode = (fdl_cyclic_mode)9), "mode is 9");
    REFUSED(fdl_sched_cyclic(0.1, 0.1, 5, .max_momentum = 1.5), "cyclic", "max_momentum");
    REFUSED(fdl_sched_cosine_restarts(0.1, 0, 0), "t0");
    REFUSED(fdl_sched_cosine_restarts(0.1, 0, 5, .mult = -2), "mult");
    REFUSED(fdl_sched_product(fdl_sched_constant(1), fdl_sched_step(0.1, 0)), "size"); /* takes both over */
    REFUSED(fdl_sched_product(fdl_sched_step(0.1, 0), fdl_sched_constant(1)), "size");
    fdl_sched *once = fdl_sched_constant(1);
    REFUSED(fdl_sched_product(once, once), "same");
    assert_null(fdl_sched_fn(NULL, NULL));
    check_error(FDL_E_NULL, "fn");
    REFUSED(fdl_sched_one_cycle(0.1, 0), "total");
    REFUSED(fdl_sched_one_cycle(0.1, 10, .pct_start = 1.5), "pct_start");
    REFUSED(fdl_sched_one_cycle(0.1, 10, .div = -1), "div");
    REFUSED(fdl_sched_one_cycle(0.1, 10, .max_momentum = 1), "max_momentum");
    REFUSED(fdl_sched_warmup(fdl_sched_constant(1), 0.1, 0), "warmup",
            "n is 0"); /* takes the inner one over */
    REFUSED(fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(1)), FDL_INTS(5)), "1 schedules need 0");
    REFUSED(fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(1), fdl_sched_constant(2)), FDL_INTS(0)),
            "rise");
    REFUSED(
        fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(1), fdl_sched_constant(2), fdl_sched_constant(3)),
                           FDL_INTS(5, 5)),
        "milestone 1", "rise");
    REFUSED(fdl_sched_sequence(FDL_SCHEDS(fdl_sched_constant(1), fdl_sched_step(0.1, 0)), FDL_INTS(5)),
            "size");
    REFUSED(fdl_sched_warmup(fdl_sched_step(0.1, 0), 0.1, 5), "size");
    REFUSED(fdl_sched_plateau(-1), "plateau", "lr");
    REFUSED(fdl_sched_plateau(0.1, .factor = 1), "factor");
    REFUSED(fdl_sched_plateau(0.1, .patience = FDL_SOME(-1)), "patience");
    REFUSED(fdl_sched_plateau(0.1, .mode = (fdl_plateau_mode)5), "mode");
    assert_true(isnan(fdl_sched_lr(NULL, 0)));
    check_error(FDL_E_NULL, "fdl_sched_lr");
    assert_int_equal(fdl_sched_apply(NULL, NULL, 0), FDL_E_NULL);
    fdl_clear_error();
    assert_true(isnan(fdl_plateau_observe(NULL, 1)));
    check_error(FDL_E_NULL, "fdl_plateau_observe");
    fdl_sched_free(NULL);
    fdl_plateau_free(NULL);
}

static void plateaus(void **state)
{
    (void)state;
    double metrics[MOST], want[MOST];
    int n = numbers(json_object_get(recorded, "metrics"), metrics, MOST);
    fdl_plateau *all[] = {
        fdl_sched_plateau(0.1, .patience = FDL_SOME(2), .factor = 0.5),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(0), .factor = 0.5, .cooldown = 2),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(1), .min_lr = 0.004),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(1), .factor = 0.5, .mode = FDL_PLATEAU_MAX),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(1), .factor = 0.5, .threshold = 0.3,
                          .threshold_abs = true),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(1), .factor = 0.5, .threshold = 0.1,
                          .threshold_abs = true, .mode = FDL_PLATEAU_MAX),
        fdl_sched_plateau(0.1, .patience = FDL_SOME(0), .factor = 0.5, .eps = 0.02),
    };
    const json_t *recordings = json_object_get(recorded, "plateaus");
    assert_int_equal(json_array_size(recordings), sizeof all / sizeof all[0]);
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        check_some(all[k]);
        assert_int_equal(numbers(json_array_get(recordings, k), want, MOST), n);
        for (int round = 0; round < 2; round++) {
            assert_true(fdl_plateau_lr(all[k]) == 0.1);
            for (int i = 0; i < n; i++) {
                double is = fdl_plateau_observe(all[k], metrics[i]);
                if (!(fabs(is - want[i]) <= 1e-15))
                    fail_msg("plateau %zu: %.17g after metric %d, PyTorch's %.17g", k, is, i, want[i]);
            }
            check_ok(fdl_plateau_reset(all[k])); /* and once more the same */
        }
        for (int half = 0; half < n;
             half++) { /* saved, led astray, put back: it goes on as if nothing had been */
            fdl_plateau_state seen;
            check_ok(fdl_plateau_reset(all[k]));
            for (int i = 0; i < half; i++)
                fdl_plateau_observe(all[k], metrics[i]);
            check_ok(fdl_plateau_save(all[k], &seen));
            fdl_plateau_observe(all[k], 1e9);
            check_ok(fdl_plateau_load(all[k], &seen));
            for (int i = half; i < n; i++)
                assert_true(fabs(fdl_plateau_observe(all[k], metrics[i]) - want[i]) <= 1e-15);
        }
        fdl_plateau_free(all[k]);
    }
    fdl_plateau *p = fdl_sched_plateau(0.1, .patience = FDL_SOME(3), .factor = 0.5);
    static const double m[] = {1, 1.1, 1.2, 1.3, 1.4}, rates[] = {.1, .1, .1, .1, .05};
    for (int i = 0; i < 5; i++)
        assert_true(fabs(fdl_plateau_observe(p, m[i]) - rates[i]) < 1e-15);
    /* a state that none can have is refused, and the plateau keeps its own */
    fdl_plateau_state before, after;
    check_ok(fdl_plateau_save(p, &before));
    const fdl_plateau_state bad[] = {
        {.lr = -1, .best = 1},          {.lr = (double)NAN, .best = 1},  {.lr = (double)INFINITY, .best = 1},
        {.lr = 1, .best = (double)NAN}, {.lr = 1, .best = 1, .bad = -1}, {.lr = 1, .best = 1, .cooling = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(fdl_plateau_load(p, &bad[i]), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_plateau_load");
        check_ok(fdl_plateau_save(p, &after));
        assert_memory_equal(&before, &after, sizeof before);
    }
    fdl_plateau_free(p);
}

static void applied(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = bag_of(1, FDL_FLOAT64), *b = bag_of(1, FDL_FLOAT64);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(a), .lr = 0.1, .momentum = 0.9);
    assert_int_equal(fdl_optim_add_group(o, fdl_parameters(b), .lr = 0.01), 1);
    fdl_sched *s = fdl_sched_exponential(0.5, 0.5);
    check_ok(fdl_sched_apply(s, o, 2));
    assert_true(fabs(fdl_optim_lr(o) - 0.125) < 1e-15);
    assert_true(fabs(fdl_optim_group_lr(o, 1) - 0.0125) < 1e-15); /* the groups' ratio stays */
    assert_true(fdl_optim_option(o, 0, "momentum") == 0.9);
    fdl_sched_free(s);
    s = fdl_sched_one_cycle(0.01, 100);
    check_ok(fdl_sched_apply(s, o, 29));
    assert_true(fabs(fdl_optim_lr(o) - 0.01) < 1e-15);
    assert_true(fabs(fdl_optim_option(o, 1, "momentum") - 0.85) < 1e-15);
    fdl_sched_free(s);
    s = fdl_sched_cyclic(0.01, 0.03, 10);
    check_ok(fdl_sched_apply(s, o, 35));
    assert_true(fabs(fdl_optim_lr(o) - 0.02) < 1e-15 && fabs(fdl_optim_group_lr(o, 1) - 0.002) < 1e-15);
    assert_true(fabs(fdl_optim_option(o, 0, "momentum") - 0.85) < 1e-15);
    fdl_sched_free(s);
    /* what can't be set changes nothing */
    s = fdl_sched_product(fdl_sched_cyclic(0.01, 0.03, 10), fdl_sched_fn(falls, &(double){-1}));
    assert_int_equal(fdl_sched_apply(s, o, 1), FDL_E_ARG);
    check_error(FDL_E_ARG, "step 1", "inf");
    assert_true(fabs(fdl_optim_option(o, 0, "momentum") - 0.85) < 1e-15);
    fdl_sched_free(s);
    s = fdl_sched_sequence(FDL_SCHEDS(fdl_sched_product(fdl_sched_constant(2), fdl_sched_constant(0.25)),
                                      fdl_sched_constant(0.1)),
                           FDL_INTS(3));
    check_ok(fdl_sched_apply(s, o, 2));
    assert_true(fabs(fdl_optim_lr(o) - 0.5) < 1e-15 && fabs(fdl_optim_group_lr(o, 1) - 0.05) < 1e-15);
    check_ok(fdl_sched_apply(s, o, 3));
    assert_true(fabs(fdl_optim_lr(o) - 0.1) < 1e-15 && fabs(fdl_optim_group_lr(o, 1) - 0.01) < 1e-15);
    fdl_optim_free(o);
    fdl_sched_free(s);
    s = fdl_sched_one_cycle(0.01, 100);
    o = fdl_optim_adam(fdl_parameters(a));
    check_ok(fdl_sched_apply(s, o, 0));
    assert_true(fabs(fdl_optim_option(o, 0, "beta1") - 0.95) < 1e-15);
    fdl_optim_free(o);
    fdl_sched_free(s);
    fdl_module_free(a);
    fdl_module_free(b);
}

/* A one-cycle, and cycles, of Adam and SGD by each way of computing: the same numbers; on CUDA momentum comes from the
 * device. */
static void cycle_on(fdl_device device)
{
    for (int kind = 0; kind < 4; kind++) {
        double want[8];
        for (int impl = FDL_OPTIM_LOOP; impl >= 0; impl--) {
            FDL_SCOPE;
            fdl_module *m = bag_of(1, FDL_FLOAT32);
            if (impl != FDL_OPTIM_LOOP)
                check_ok(fdl_module_to(m, device));
            fdl_sched *s = kind < 2 ? fdl_sched_one_cycle(0.1, 8, .base_momentum = 0.5)
                                    : fdl_sched_cyclic(0.01, 0.1, 3, .base_momentum = 0.5);
            fdl_optim *o = kind % 2 ? fdl_optim_adam(fdl_parameters(m), .impl = (fdl_optim_impl)impl)
                                    : fdl_optim_sgd(fdl_parameters(m), .impl = (fdl_optim_impl)impl);
            for (int t = 0; t < 8; t++) {
                check_ok(fdl_sched_apply(s, o, t));
                set_grad(bag_at(m, 0), cos(t));
                check_ok(fdl_optim_step(o));
                double p = fdl_item(bag_at(m, 0));
                if (impl == FDL_OPTIM_LOOP)
                    want[t] = p;
                else
                    assert_true(fabs(p - want[t]) < 2e-6);
            }
            assert_true(fabs(want[0] - want[7]) > 1e-3);
            fdl_optim_free(o);
            fdl_sched_free(s);
            fdl_module_free(m);
        }
    }
}

static void cycle(void **state)
{
    (void)state;
    cycle_on(FDL_CPU);
}

static void cycle_on_cuda(void **state)
{
    (void)state;
    if (!fdl_cuda_available())
        skip();
    cycle_on(FDL_CUDA(0));
}

static fdl_sched *shared;
static void *reader(void *ctx)
{
    double *sum = ctx;
    for (int t = 0; t < 5000; t++)
        *sum += fdl_sched_lr(shared, t % 150) * (t + 1);
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    shared = fdl_sched_warmup(fdl_sched_one_cycle(0.3, 100), 0.1, 7);
    double sums[8] = {0}, alone = 0;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, reader, &sums[i]), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    reader(&alone);
    for (int i = 0; i < 8; i++)
        assert_true(sums[i] == alone);
    fdl_sched_free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(curves),       cmocka_unit_test(curves_of_several), cmocka_unit_test(values),
        cmocka_unit_test(wrong_values), cmocka_unit_test(plateaus),          cmocka_unit_test(applied),
        cmocka_unit_test(cycle),        cmocka_unit_test(cycle_on_cuda),     cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
