/* Muon, Adafactor, Rprop, ASGD, SparseAdam, sparse gradients elsewhere, and L-BFGS, against PyTorch's recorded steps
 * (tests/fixtures/optim_methods.json), in each way of computing them. */
#include "kinds.h"

static json_t *recorded;

static int load(void **state)
{
    (void)state;
    json_error_t error;
    recorded = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/optim_methods.json", 0, &error);
    if (!recorded)
        fail_msg("optim_methods.json: %s", error.text);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    json_decref(recorded);
    return 0;
}

/* Step t's recorded gradients of the set, dense or sparse. */
static void give_gradients(const json_t *set, fdl_module *m, size_t t)
{
    FDL_SCOPE;
    const json_t *grads = json_array_get(json_object_get(set, "grads"), t);
    for (size_t i = 0; i < json_array_size(grads); i++) {
        fdl_tensor *p = bag_at(m, (int)i);
        const json_t *g = json_array_get(grads, i);
        double v[MOST], at[MOST];
        if (json_is_null(g)) {
            check_ok(fdl_clear_grad(p));
        } else if (json_is_object(g)) {
            int64_t rows[MOST];
            int n = numbers(json_object_get(g, "indices"), at, MOST);
            for (int k = 0; k < n; k++)
                rows[k] = (int64_t)at[k];
            numbers(json_object_get(g, "values"), v, MOST);
            fdl_tensor *indices = fdl_from_i64(rows, FDL_SHAPE(1, n));
            fdl_tensor *values = fdl_from_f64(v, FDL_SHAPE(n, fdl_size(p, 1)), .dtype = fdl_dtype_of(p));
            check_ok(fdl_set_grad(p, fdl_sparse_coo(indices, values, fdl_shape_of(p))));
        } else {
            numbers(g, v, MOST);
            check_ok(fdl_set_grad(p, fdl_from_f64(v, fdl_shape_of(p), .dtype = fdl_dtype_of(p))));
        }
    }
}

static void expect_states(fdl_optim *o, fdl_module *m, const json_t *states, double tolerance,
                          const char *what)
{
    for (size_t i = 0; i < json_array_size(states); i++) {
        const char *name;
        json_t *want;
        json_object_foreach(json_array_get(states, i), name, want)
        {
            char which[300];
            snprintf(which, sizeof which, "%s: %s of p%zu", what, name, i);
            fdl_tensor *s = fdl_optim_state(o, bag_at(m, (int)i), name);
            check_some(s);
            expect_values(s, want, tolerance, which);
        }
    }
}

/* How near. Muon rounds to bfloat16 on its way, whose last bit is 1/256, and what small singular values become hangs on it: another
 * device's sums end otherwise. A GPU has the rate in float32. */
static double tolerance_of(const char *kind, fdl_dtype dtype)
{
    bool host = fdl_default_device().type == FDL_DEVICE_TYPE_CPU;
    if (strcmp(kind, "muon") == 0)
        return host ? 1e-3 : 1e-2;
    return dtype == FDL_FLOAT64 ? host ? 1e-12 : 1e-6 : 2e-6;
}

static void like_pytorch_with(const json_t *k, int impl, fdl_dtype dtype)
{
    FDL_SCOPE;
    const char *kind = json_string_value(json_object_get(k, "kind"));
    const json_t *set =
        json_object_get(json_object_get(recorded, "sets"), json_string_value(json_object_get(k, "set")));
    double kept[MOST], tolerance = tolerance_of(kind, dtype);
    int n_kept = numbers(json_object_get(recorded, "kept"), kept, MOST);
    fdl_module *m = bag_recorded(set, dtype, fdl_default_device());
    fdl_optim_opts o = optim_recorded_options(json_object_get(k, "options"));
    o.impl = optim_impls[impl];
    fdl_optim *opt = optim_row_of(kind)->make(fdl_parameters(m), &o);
    check_some(opt);
    char what[200], step[260], *text = json_dumps(json_object_get(k, "options"), JSON_COMPACT);
    snprintf(what, sizeof what, "%s %.120s, %s, %s", kind, text, optim_impl_names[impl],
             fdl_dtype_name(dtype));
    for (int t = 0, at = 0; t < (int)kept[n_kept - 1]; t++) {
        give_gradients(set, m, (size_t)t);
        check_ok(fdl_optim_step(opt));
        if (t + 1 != (int)kept[at])
            continue;
        const json_t *params = json_array_get(json_object_get(k, "params"), (size_t)at++);
        for (size_t i = 0; i < json_array_size(params); i++) {
            snprintf(step, sizeof step, "%s, step %d, p%zu", what, t + 1, i);
            expect_values(bag_at(m, (int)i), json_array_get(params, i), tolerance, step);
        }
    }
    expect_states(opt, m, json_object_get(k, "state"), tolerance, what);
    free(text);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(m));
}

static void twenty_steps_are_pytorchs(void **state)
{
    (void)state;
    const json_t *cases = json_object_get(recorded, "cases");
    assert_true(json_array_size(cases) > 20);
    for (size_t c = 0; c < json_array_size(cases); c++) {
        const json_t *k = json_array_get(cases, c);
        const char *kind = json_string_value(json_object_get(k, "kind"));
        bool is_sparse = strcmp(json_string_value(json_object_get(k, "set")), "sparse") == 0;
        int ways = is_sparse ? 3 : optim_ways(kind, fdl_default_device());
        for (int impl = 0; impl < ways; impl++) {
            like_pytorch_with(k, impl, FDL_FLOAT64);
            like_pytorch_with(k, impl, FDL_FLOAT32);
        }
    }
}

/* ---- L-BFGS ----------------------------------------------------------------------------------------------- */

typedef struct problem {
    fdl_module *m;
    fdl_optim *o;
    bool rosenbrock;
    int calls, fail_at; /* the call that fails; 0: none */
} problem;

static fdl_tensor *value(const problem *p)
{
    fdl_tensor *v = fdl_cat(
        FDL_LIST(fdl_reshape(bag_at(p->m, 0), FDL_SHAPE(-1)), fdl_reshape(bag_at(p->m, 1), FDL_SHAPE(-1))),
        0);
    int64_t n = fdl_numel(v);
    if (p->rosenbrock) {
        fdl_tensor *a = fdl_narrow(v, 0, 0, n - 1), *b = fdl_narrow(v, 0, 1, n - 1);
        fdl_tensor *valley = fdl_mul(fdl_square(fdl_sub(b, fdl_square(a))), 100);
        return fdl_sum(fdl_add(valley, fdl_square(fdl_rsub_scalar(a, 1))));
    }
    fdl_tensor *w = fdl_arange(1, (double)n + 1, 1, .dtype = fdl_dtype_of(v));
    fdl_tensor *bowl = fdl_sum(fdl_mul(w, fdl_square(fdl_sub(v, fdl_reciprocal(w)))));
    return fdl_add(bowl, fdl_mul(fdl_sum(fdl_pow(v, 4)), 0.1));
}

static fdl_tensor *evaluate(void *ctx)
{
    problem *p = ctx;
    if (++p->calls == p->fail_at)
        return fdl_fail_null(FDL_E_CANCELLED, "the closure had enough");
    assert_true(fdl_grad_enabled());
    fdl_tensor *loss = value(p);
    if (fdl_optim_zero_grad(p->o) != FDL_OK || fdl_backward(loss) != FDL_OK)
        return NULL;
    return loss;
}

static problem problem_of(const char *function, fdl_dtype dtype, const fdl_optim_opts *o)
{
    FDL_SCOPE;
    problem p = {.m = bag_new(), .rosenbrock = strcmp(function, "rosenbrock") == 0};
    const json_t *start = json_object_get(recorded, "lbfgs_start");
    double v[MOST];
    numbers(json_array_get(start, 0), v, MOST);
    bag_add(p.m, fdl_from_f64(v, FDL_SHAPE(2, 3), .dtype = dtype));
    numbers(json_array_get(start, 1), v, MOST);
    bag_add(p.m, fdl_from_f64(v, FDL_SHAPE(4), .dtype = dtype));
    p.m = fdl_module_done(p.m);
    p.o = fdl_optim_lbfgs_opt(fdl_parameters(p.m), o);
    check_some(p.o);
    return p;
}

static void problem_free(problem *p)
{
    fdl_optim_free(p->o);
    check_ok(fdl_module_free(p->m));
}

static void lbfgs_goes_pytorchs_way(void **state)
{
    (void)state;
    const json_t *cases = json_object_get(recorded, "lbfgs");
    for (size_t c = 0; c < json_array_size(cases); c++) {
        FDL_SCOPE;
        const json_t *k = json_array_get(cases, c);
        const char *function = json_string_value(json_object_get(k, "function"));
        fdl_optim_opts o = optim_recorded_options(json_object_get(k, "options"));
        problem p = problem_of(function, FDL_FLOAT64, &o);
        const json_t *losses = json_object_get(k, "losses"), *calls = json_object_get(k, "calls");
        for (size_t t = 0; t < json_array_size(losses); t++) {
            double loss, want = json_number_value(json_array_get(losses, t));
            char what[100];
            snprintf(what, sizeof what, "case %zu, %s, step %zu", c, function, t + 1);
            check_ok(fdl_optim_step_closure(p.o, evaluate, &p, &loss));
            if (!(fabs(loss - want) <= 1e-8 * (1 + fabs(want))))
                fail_msg("%s: loss %.15g, PyTorch's %.15g", what, loss, want);
            if (p.calls != json_integer_value(json_array_get(calls, t)))
                fail_msg("%s: %d evaluations, PyTorch's %d", what, p.calls,
                         (int)json_integer_value(json_array_get(calls, t)));
            const json_t *params = json_array_get(json_object_get(k, "params"), t);
            for (int i = 0; i < 2; i++)
                expect_values(bag_at(p.m, i), json_array_get(params, (size_t)i), 1e-8, what);
        }
        problem_free(&p);
    }
}

/* A closure that fails fails the step; the parameters are where the last whole iteration left them. */
static void a_failed_evaluation_takes_nothing_along(void **state)
{
    (void)state;
    for (int wolfe = 0; wolfe < 2; wolfe++)
        for (int at = 1; at < 8; at++) {
            FDL_SCOPE;
            fdl_optim_opts o = {.strong_wolfe = wolfe == 1, .lr = wolfe ? 1 : 0.1, .max_iter = 4};
            problem p = problem_of("quartic", FDL_FLOAT64, &o),
                    whole = problem_of("quartic", FDL_FLOAT64, &o);
            p.fail_at = at;
            double loss = 7;
            fdl_status status = FDL_OK;
            int steps = 0;
            while (status == FDL_OK && steps++ < 8)
                status = fdl_optim_step_closure(p.o, evaluate, &p, &loss);
            assert_int_equal(status, FDL_E_CANCELLED);
            check_error(FDL_E_CANCELLED, "had enough");
            for (int i = 0; i < 2; i++)
                assert_true(fdl_all_finite(bag_at(p.m, i)));
            p.fail_at = 0;
            for (int t = 0; t < 30; t++)
                check_ok(fdl_optim_step_closure(p.o, evaluate, &p, &loss));
            for (int t = 0; t < 30; t++)
                check_ok(fdl_optim_step_closure(whole.o, evaluate, &whole, NULL));
            for (int i = 0; i < 2; i++) /* it goes on to the same minimum */
                assert_true(fdl_allclose(bag_at(p.m, i), bag_at(whole.m, i), .rtol = 1e-4, .atol = 1e-4));
            problem_free(&p);
            problem_free(&whole);
        }
    /* at the first evaluation nothing has moved */
    FDL_SCOPE;
    problem p = problem_of("rosenbrock", FDL_FLOAT64, NULL);
    fdl_tensor *before = fdl_clone(bag_at(p.m, 0));
    p.fail_at = 1;
    assert_int_equal(fdl_optim_step_closure(p.o, evaluate, &p, NULL), FDL_E_CANCELLED);
    fdl_clear_error();
    assert_true(fdl_same(before, bag_at(p.m, 0)));
    problem_free(&p);
}

static fdl_tensor *two_losses(void *ctx)
{
    (void)ctx;
    return fdl_ones(FDL_SHAPE(2));
}

static fdl_tensor *no_loss(void *ctx)
{
    (void)ctx;
    return NULL;
}

static void lbfgs_says_what_it_cant_do(void **state)
{
    (void)state;
    FDL_SCOPE;
    problem p = problem_of("quartic", FDL_FLOAT64, NULL);
    assert_true(fdl_optim_needs_closure(p.o));
    assert_int_equal(fdl_optim_step_closure(p.o, two_losses, &p, NULL), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "lbfgs", "one element");
    assert_int_equal(fdl_optim_step_closure(p.o, no_loss, &p, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "closure");
    assert_int_equal(fdl_optim_step(p.o), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "lbfgs", "fdl_optim_step_closure");
    assert_null(fdl_optim_state(p.o, bag_at(p.m, 0), "d"));
    check_error(FDL_E_ARG, "lbfgs", "no single parameter");
    problem_free(&p);
    fdl_module *mixed = bag_new();
    bag_add(mixed, fdl_ones(FDL_SHAPE(2)));
    bag_add(mixed, fdl_ones(FDL_SHAPE(2), .dtype = FDL_FLOAT64));
    mixed = fdl_module_done(mixed);
    fdl_optim *o = fdl_optim_lbfgs(fdl_parameters(mixed));
    assert_int_equal(fdl_optim_step_closure(o, two_losses, NULL, NULL), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "p0", "p1", "dtypes");
    fdl_optim_free(o);
    check_ok(fdl_module_free(mixed));
    fdl_module *none = fdl_module_done(bag_new());
    o = fdl_optim_lbfgs(fdl_parameters(none));
    problem empty = {.m = NULL};
    assert_int_equal(fdl_optim_step_closure(o, no_loss, &empty, NULL), FDL_E_NULL);
    fdl_clear_error();
    fdl_optim_free(o);
    check_ok(fdl_module_free(none));
}

/* Cast between steps it goes on; a frozen parameter stays. */
static void lbfgs_follows_casts_and_leaves_frozen_parameters(void **state)
{
    (void)state;
    FDL_SCOPE;
    problem p = problem_of("quartic", FDL_FLOAT32, &(fdl_optim_opts){.strong_wolfe = true, .max_iter = 3});
    check_ok(fdl_param_freeze(fdl_module_own_param(p.m, "p1")));
    fdl_tensor *frozen = fdl_double(bag_at(p.m, 1));
    double first, loss = 0;
    check_ok(fdl_optim_step_closure(p.o, evaluate, &p, &first));
    check_ok(fdl_cast_parameters(p.m, FDL_FLOAT64));
    for (int t = 0; t < 6; t++)
        check_ok(fdl_optim_step_closure(p.o, evaluate, &p, &loss));
    assert_true(fdl_same(frozen, bag_at(p.m, 1)));
    assert_true(loss < first);
    check_ok(fdl_param_thaw(fdl_module_own_param(p.m, "p1")));
    for (int t = 0; t < 10; t++)
        check_ok(fdl_optim_step_closure(p.o, evaluate, &p, &loss));
    check_number(loss, 0.0820793741, 1e-6); /* the minimum, as PyTorch finds it */
    problem_free(&p);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twenty_steps_are_pytorchs),
        cmocka_unit_test(lbfgs_goes_pytorchs_way),
        cmocka_unit_test(a_failed_evaluation_takes_nothing_along),
        cmocka_unit_test(lbfgs_says_what_it_cant_do),
        cmocka_unit_test(lbfgs_follows_casts_and_leaves_frozen_parameters),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
