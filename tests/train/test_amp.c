/* The gradient scaler against PyTorch's (tests/fixtures/amp.json), its order of calls, and averages of parameters. */
#include "../optim/fixture.h"

#include <float.h>

static fdl_optim *make(const char *kind, fdl_module *m, fdl_optim_impl impl)
{
    fdl_params *ps = fdl_parameters(m);
    fdl_optim *o = strcmp(kind, "sgd") == 0 ? fdl_optim_sgd(ps, .lr = 0.05, .momentum = 0.9, .impl = impl)
                   : strcmp(kind, "adam") == 0
                       ? fdl_optim_adam(ps, .lr = 0.05, .impl = impl)
                       : fdl_optim_adamw(ps, .lr = 0.05, .weight_decay = 0.1, .impl = impl);
    check_some(o);
    return o;
}

static json_t *load_amp(void)
{
    json_error_t error;
    json_t *j = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/amp.json", 0, &error);
    if (!j)
        fail_msg("amp.json: %s", error.text);
    return j;
}

/* Steps of which some overflow: scale and values after each as PyTorch has them, for every way of computing a step. */
static void like_pytorch(void **state)
{
    (void)state;
    static const fdl_optim_impl impls[] = {FDL_OPTIM_AUTO, FDL_OPTIM_LOOP, FDL_OPTIM_FOREACH,
                                           FDL_OPTIM_FUSED};
    json_t *file = load_amp();
    const json_t *overflows = json_object_get(file, "overflows"), *inputs = json_object_get(file, "inputs");
    const char *kind;
    json_t *want;
    json_object_foreach(json_object_get(file, "cases"), kind, want)
    {
        for (int k = 0; k < 4; k++) {
            FDL_SCOPE;
            double v[MOST];
            fdl_module *m = bag_new();
            numbers(json_object_get(file, "start"), v, MOST);
            fdl_tensor *p = bag_add(m, fdl_from_f64(v, FDL_SHAPE(2, 3), .dtype = FDL_FLOAT32));
            fdl_optim *o = make(kind, m, impls[k]);
            fdl_amp_scaler *s =
                fdl_amp_scaler_new(.init_scale = 1024, .growth = 3, .backoff = 0.25, .interval = 3);
            check_some(s);
            size_t next = 0;
            for (size_t t = 0; t < json_array_size(inputs); t++) {
                FDL_SCOPE;
                bool overflow = json_integer_value(json_array_get(overflows, next)) == (json_int_t)t &&
                                next < json_array_size(overflows);
                next += overflow;
                numbers(json_array_get(inputs, t), v, MOST);
                fdl_tensor *x = fdl_from_f64(v, FDL_SHAPE(2, 3), .dtype = FDL_FLOAT32);
                fdl_tensor *loss = fdl_sum(fdl_pow(fdl_mul(p, x), 2));
                if (overflow)
                    loss = fdl_mul(loss, (double)INFINITY);
                check_ok(fdl_optim_zero_grad(o));
                check_ok(fdl_backward(fdl_amp_scale(s, loss)));
                check_ok(fdl_amp_unscale(s, o));
                check_ok(fdl_clip_grad_norm(fdl_parameters(m), 2.0));
                bool stepped;
                if (t % 2)
                    check_ok(fdl_amp_step(s, o));
                else {
                    check_ok(fdl_amp_step(s, o, .stepped = &stepped));
                    assert_int_equal(stepped, !overflow);
                }
                check_ok(fdl_amp_update(s));
                char what[100];
                snprintf(what, sizeof what, "%s, impl %d, step %zu", kind, k, t);
                double scale = json_number_value(json_array_get(json_object_get(want, "scales"), t));
                if (fdl_amp_scaler_scale(s) != scale)
                    fail_msg("%s: scale %g, PyTorch's %g", what, fdl_amp_scaler_scale(s), scale);
                expect_values(p, json_array_get(json_object_get(want, "values"), t), 3e-6, what);
                fdl_amp_scaler_state now;
                check_ok(fdl_amp_scaler_save(s, &now));
                assert_int_equal(now.tracker,
                                 json_integer_value(json_array_get(json_object_get(want, "trackers"), t)));
            }
            if (strcmp(kind, "sgd"))
                check_number(fdl_item(fdl_optim_state(o, p, "step")),
                             (double)json_integer_value(json_object_get(want, "steps")), 0);
            fdl_amp_scaler_free(s);
            fdl_optim_free(o);
            check_ok(fdl_module_free(m));
        }
    }
    json_decref(file);
}

/* One scale for two optimizers: an overflow of either makes it smaller, its step made or not. */
static void two_like_pytorch(void **state)
{
    (void)state;
    json_t *file = load_amp();
    const json_t *two = json_object_get(file, "two"), *plan = json_object_get(two, "plan");
    FDL_SCOPE;
    fdl_module *m[] = {bag_of(1, FDL_FLOAT32), bag_of(2, FDL_FLOAT32)};
    fdl_optim *o[] = {fdl_optim_sgd(fdl_parameters(m[0]), .lr = 0.1),
                      fdl_optim_adam(fdl_parameters(m[1]), .lr = 0.1)};
    fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 16, .interval = 2);
    for (size_t t = 0; t < json_array_size(plan); t++) {
        FDL_SCOPE;
        const char *letters = json_string_value(json_array_get(plan, t));
        for (int i = 0; i < 2; i++) {
            bool overflow = letters[i] == 'S' || letters[i] == 'U', stepped = false;
            check_ok(fdl_optim_zero_grad(o[i]));
            fdl_tensor *loss = fdl_mul(bag_at(m[i], 0), overflow ? (double)INFINITY : 0.5);
            check_ok(fdl_backward(fdl_amp_scale(s, loss)));
            if (letters[i] == 's' || letters[i] == 'S') {
                check_ok(fdl_amp_step(s, o[i], .stepped = &stepped));
                assert_int_equal(stepped, !overflow);
            } else {
                check_ok(fdl_amp_unscale(s, o[i]));
            }
        }
        check_ok(fdl_amp_update(s));
        check_number(fdl_amp_scaler_scale(s),
                     json_number_value(json_array_get(json_object_get(two, "scales"), t)), 0);
        for (size_t i = 0; i < 2; i++)
            check_number(
                fdl_item(bag_at(m[i], 0)),
                json_number_value(json_array_get(json_array_get(json_object_get(two, "values"), t), i)),
                1e-6);
    }
    fdl_amp_scaler_free(s);
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(o[i]);
        check_ok(fdl_module_free(m[i]));
    }
    json_decref(file);
}

/* A step that is left out leaves parameters, state and counts bit for bit, whatever the gradients are. */
static void what_is_skipped_changes_nothing(void **state)
{
    (void)state;
    static const char *const kinds[] = {"sgd", "adam", "adamw"};
    static const fdl_optim_impl impls[] = {FDL_OPTIM_AUTO, FDL_OPTIM_LOOP, FDL_OPTIM_FOREACH,
                                           FDL_OPTIM_FUSED};
    for (int kind = 0; kind < 3; kind++)
        for (int k = 0; k < 4; k++) {
            FDL_SCOPE;
            fdl_module *m = bag_new();
            fdl_tensor *p = bag_add(m, fdl_randn(FDL_SHAPE(3, 2)));
            bag_add(m, fdl_randn(FDL_SHAPE(4)));
            fdl_optim *o = make(kinds[kind], m, impls[k]);
            fdl_tensor *yes = fdl_ones(FDL_SHAPE(1)), *no = fdl_zeros(FDL_SHAPE(1));
            for (int i = 0; i < 2; i++)
                set_grad(bag_at(m, i), 0.5);
            check_ok(fdl_optim_step_unless(o, no));
            const char *name = kind ? "exp_avg_sq" : "momentum_buffer";
            fdl_tensor *p_before = fdl_clone(p), *s_before = fdl_clone(fdl_optim_state(o, p, name));
            for (int i = 0; i < 2; i++)
                set_grad(bag_at(m, i), i ? (double)INFINITY : (double)NAN);
            check_ok(fdl_optim_step_unless(o, yes));
            assert_true(fdl_same(p, p_before));
            assert_true(fdl_same(fdl_optim_state(o, p, name), s_before));
            if (kind)
                check_number(fdl_item(fdl_optim_state(o, p, "step")), 1, 0);
            set_grad(p, 0.5);
            check_ok(fdl_optim_step_unless(o, no));
            assert_false(fdl_same(p, p_before));
            fdl_optim_free(o);
            check_ok(fdl_module_free(m));
        }
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
    assert_int_equal(fdl_optim_step_unless(o, fdl_ones(FDL_SHAPE(2))), FDL_E_ARG);
    check_error(FDL_E_ARG, "[2]", "one float32");
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* The first step of SGD with dampening sets the momentum to the gradient; one that was left out is not the first. */
static void a_skipped_first_step_is_not_the_first(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1, .momentum = 0.9, .dampening = 0.5);
    fdl_tensor *p = bag_at(m, 0), *skip = fdl_ones(FDL_SCALAR);
    const double want[] = {1, 0.99, 0.971, 0.9689},
                 grads[] = {7, 0.1, 0.2, -0.3}; /* PyTorch's trace from the second on */
    for (int t = 0; t < 4; t++) {
        set_grad(p, grads[t]);
        check_ok(fdl_fill_(skip, t == 0));
        check_ok(fdl_optim_step_unless(o, skip));
        check_number(fdl_item(p), want[t], 1e-6);
    }
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* ---- the scale --------------------------------------------------------------------------------------- */

/* One iteration with gradient g. */
static void iterate(fdl_amp_scaler *s, fdl_optim *o, fdl_tensor *p, double g)
{
    FDL_SCOPE;
    check_ok(fdl_optim_zero_grad(o));
    check_ok(fdl_backward(fdl_amp_scale(s, fdl_mul(p, g))));
    check_ok(fdl_amp_step(s, o));
    check_ok(fdl_amp_update(s));
}

static void the_scale_moves_as_told(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_tensor *p = bag_at(m, 0);
    fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new();
    fdl_amp_scaler_state now;
    check_ok(fdl_amp_scaler_settings(s, &now));
    assert_true(now.growth == 2 && now.backoff == 0.5 && now.interval == 2000);
    check_number(fdl_amp_scaler_scale(s), 65536, 0);
    check_number(fdl_item(fdl_amp_scale(s, fdl_ones(FDL_SCALAR))), 65536, 0);
    iterate(s, o, p, (double)INFINITY);
    check_number(fdl_amp_scaler_scale(s), 32768, 0);
    check_number(fdl_item(p), 1, 0); /* no step was made */

    check_ok(fdl_amp_scaler_load(
        s, &(fdl_amp_scaler_state){.scale = 100, .growth = 2, .backoff = 0.5, .interval = 3, .tracker = 2}));
    iterate(s, o, p, 1);
    check_ok(fdl_amp_scaler_save(s, &now));
    check_number(now.scale, 200, 0);
    assert_int_equal(now.tracker, 0);
    iterate(s, o, p, 1);
    check_ok(fdl_amp_scaler_save(s, &now));
    assert_int_equal(now.tracker, 1);
    assert_int_equal(now.interval, 3);

    check_ok(fdl_amp_scaler_load(
        s, &(fdl_amp_scaler_state){.scale = 0x1p127, .growth = 4, .backoff = 0.5, .interval = 1}));
    iterate(s, o, p, 1e-30);
    check_number(fdl_amp_scaler_scale(s), 0x1p127, 0); /* four times that is no float32 */

    check_ok(fdl_amp_update(s, .scale = 512)); /* as told, without a step */
    check_number(fdl_amp_scaler_scale(s), 512, 0);
    iterate(s, o, p, (double)INFINITY);
    check_number(fdl_amp_scaler_scale(s), 256, 0);
    check_some(fdl_amp_scale(s, p));
    check_ok(fdl_amp_unscale(s, o));
    check_ok(fdl_amp_update(s, .scale = 1024));
    check_ok(fdl_amp_unscale(s, o)); /* an iteration begins */
    check_ok(fdl_amp_cancel(s));
    const double bad[] = {-1, (double)NAN, (double)INFINITY, 1e39, FDL_ZERO};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fdl_amp_update(s, .scale = bad[i]), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_amp_update: the scale is");
        check_number(fdl_amp_scaler_scale(s), 1024, 0);
    }
    fdl_amp_scaler *fresh = fdl_amp_scaler_new();
    check_ok(fdl_amp_update(fresh, .scale = 2)); /* before it has tensors */
    check_number(fdl_amp_scaler_scale(fresh), 2, 0);
    fdl_amp_scaler_free(fresh);
    check_ok(fdl_amp_scaler_load(
        s, &(fdl_amp_scaler_state){.scale = 0x1p127, .growth = 4, .backoff = 0.5, .interval = 1}));

    fdl_amp_scaler *other = fdl_amp_scaler_new(.init_scale = 8);
    check_ok(fdl_amp_scaler_save(s, &now));
    check_ok(fdl_amp_scaler_load(other, &now)); /* before it has tensors */
    check_number(fdl_amp_scaler_scale(other), 0x1p127, 0);
    fdl_amp_scaler_free(other);
    fdl_amp_scaler_free(s);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* A power of two scales and unscales float32 exactly: the steps are those without a scaler. */
static void scaling_by_a_power_of_two_changes_no_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = bag_of(0.7, FDL_FLOAT32), *b = bag_of(0.7, FDL_FLOAT32);
    fdl_optim *oa = make("adam", a, FDL_OPTIM_AUTO), *ob = make("adam", b, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new();
    for (int t = 0; t < 10; t++) {
        FDL_SCOPE;
        check_ok(fdl_optim_zero_grad(oa));
        check_ok(fdl_backward(fdl_amp_scale(s, fdl_sin(bag_at(a, 0)))));
        check_ok(fdl_amp_step(s, oa));
        check_ok(fdl_amp_update(s));
        check_ok(fdl_optim_zero_grad(ob));
        check_ok(fdl_backward(fdl_sin(bag_at(b, 0))));
        check_ok(fdl_optim_step(ob));
        assert_true(fdl_same(bag_at(a, 0), bag_at(b, 0)));
    }
    fdl_amp_scaler_free(s);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
}

/* Wherever it is and whatever it is, one number that isn't finite is found: in any parameter, dtype and place, positive, negative or
 * none; where there is no gradient, nothing is. */
static void every_overflow_is_found(void **state)
{
    (void)state;
    const double bad[] = {(double)INFINITY, -(double)INFINITY, (double)NAN, 1};
    const fdl_dtype dtypes[] = {FDL_FLOAT32, FDL_FLOAT64, FDL_BFLOAT16, FDL_FLOAT16};
    for (int kind = 0; kind < 4; kind++)
        for (int at = 0; at < 3; at++)
            for (int d = 0; d < 4; d++) {
                FDL_SCOPE;
                fdl_module *m = bag_new();
                bag_add(m, fdl_ones(FDL_SHAPE(5)));
                bag_add(m, fdl_ones(FDL_SHAPE(2, 3), .dtype = dtypes[d]));
                bag_add(m, fdl_ones(FDL_SHAPE(4)));
                bag_add(m, fdl_ones(FDL_SHAPE(3))); /* without a gradient */
                fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.5);
                fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 8, .allow_half = true);
                check_some(fdl_amp_scale(s, fdl_ones(FDL_SCALAR)));
                for (int i = 0; i < 3; i++)
                    set_grad(bag_at(m, i), 16);
                if (kind < 3) {
                    fdl_tensor *g = fdl_reshape(fdl_grad(bag_at(m, at)), FDL_SHAPE(-1));
                    check_ok(fdl_fill_(fdl_select(g, 0, at), bad[kind]));
                }
                bool stepped;
                check_ok(fdl_amp_step(s, o, .stepped = &stepped));
                check_ok(fdl_amp_update(s));
                assert_int_equal(stepped, kind == 3);
                check_number(fdl_amp_scaler_scale(s), kind == 3 ? 8 : 4, 0);
                for (int i = 0; i < 4; i++) {
                    double want = kind == 3 && i < 3 ? 1 - 0.5 * 16 / 8 : 1;
                    check_number(fdl_item(fdl_mean(fdl_double(bag_at(m, i)))), want, 0);
                }
                fdl_amp_scaler_free(s);
                fdl_optim_free(o);
                check_ok(fdl_module_free(m));
            }
    /* no gradient at all: nothing to find, nothing to step */
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = make("adam", m, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new(.interval = 1);
    check_some(fdl_amp_scale(s, fdl_ones(FDL_SCALAR)));
    check_ok(fdl_amp_step(s, o));
    check_ok(fdl_amp_update(s));
    check_number(fdl_item(bag_at(m, 0)), 1, 0);
    check_number(fdl_amp_scaler_scale(s), 131072, 0);
    fdl_amp_scaler_free(s);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

static void sparse_gradients_are_unscaled(void **state)
{
    (void)state;
    for (int overflow = 0; overflow < 2; overflow++) {
        FDL_SCOPE;
        fdl_module *m = fdl_nn_embedding(5, 2, .sparse = true);
        fdl_tensor *w = fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0)), *before = fdl_clone(w);
        fdl_optim *o = fdl_optim_sparse_adam(fdl_parameters(m), .lr = 0.1);
        fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 8);
        fdl_tensor *rows = fdl_forward(m, fdl_ivec(1, 3, 1)), *loss = fdl_sum(rows);
        check_ok(fdl_backward(fdl_amp_scale(s, overflow ? fdl_mul(loss, (double)INFINITY) : loss)));
        check_ok(fdl_amp_unscale(s, o));
        if (!overflow) {
            double g[10];
            check_ok(fdl_to_f64(fdl_to_dense(fdl_grad(w)), g, 10));
            for (int i = 0; i < 10; i++)
                check_number(g[i], i / 2 == 1 ? 2 : i / 2 == 3 ? 1 : 0, 0);
        }
        bool stepped;
        check_ok(fdl_amp_step(s, o, .stepped = &stepped));
        check_ok(fdl_amp_update(s));
        assert_int_equal(stepped, !overflow);
        assert_int_equal(fdl_same(w, before), overflow);
        check_number(fdl_amp_scaler_scale(s), overflow ? 4 : 8, 0);
        fdl_amp_scaler_free(s);
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

/* Clipping what was unscaled is clipping in float32 training, whatever the scale. */
static void clipping_after_unscale_is_clipping_without(void **state)
{
    (void)state;
    static const double scales[] = {1, 1024, 65536, 3};
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        FDL_SCOPE;
        fdl_module *m[2];
        fdl_optim *o[2];
        fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = scales[k]);
        for (int i = 0; i < 2; i++) {
            check_ok(fdl_manual_seed(4));
            m[i] = bag_new();
            bag_add(m[i], fdl_randn(FDL_SHAPE(3, 4)));
            bag_add(m[i], fdl_randn(FDL_SHAPE(4)));
            o[i] = make("adam", m[i], FDL_OPTIM_AUTO);
        }
        for (int t = 0; t < 8; t++)
            for (int i = 0; i < 2; i++) {
                FDL_SCOPE;
                fdl_tensor *y = fdl_mul(fdl_add(bag_at(m[i], 0), bag_at(m[i], 1)), 3 + t);
                fdl_tensor *loss = fdl_sum(fdl_square(y));
                double norm;
                check_ok(fdl_optim_zero_grad(o[i]));
                check_ok(fdl_backward(i ? loss : fdl_amp_scale(s, loss)));
                if (!i)
                    check_ok(fdl_amp_unscale(s, o[i]));
                check_ok(fdl_grad_norm(fdl_parameters(m[i]), &norm));
                assert_true(norm > 2);
                check_ok(fdl_clip_grad_norm(fdl_parameters(m[i]), 1.0));
                check_ok(fdl_grad_norm(fdl_parameters(m[i]), &norm));
                check_number(norm, 1, 1e-5);
                check_ok(i ? fdl_optim_step(o[i]) : fdl_amp_step(s, o[i]));
                if (!i)
                    check_ok(fdl_amp_update(s));
            }
        for (int i = 0; i < 2; i++)
            assert_true(fdl_allclose(bag_at(m[0], i), bag_at(m[1], i), .rtol = 1e-5, .atol = 1e-6));
        fdl_amp_scaler_free(s);
        for (int i = 0; i < 2; i++) {
            fdl_optim_free(o[i]);
            check_ok(fdl_module_free(m[i]));
        }
    }
}

/* A scaler that takes over another one's state goes on as that one does, overflows and growth included. */
static void a_saved_scaler_goes_on(void **state)
{
    (void)state;
    for (int cut = 0; cut < 9; cut++) {
        FDL_SCOPE;
        fdl_module *m = bag_of(1, FDL_FLOAT32);
        fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
        fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 32, .growth = 3, .backoff = 0.25, .interval = 2);
        fdl_amp_scaler *other = fdl_amp_scaler_new(.init_scale = 5, .growth = 9, .interval = 77);
        fdl_amp_scaler_state a, b;
        for (int t = 0; t < 10; t++) {
            if (t == cut) {
                check_ok(fdl_amp_scaler_save(s, &a));
                check_ok(fdl_amp_scaler_load(other, &a));
            }
            double g = t == 3 || t == 4 ? (double)INFINITY : 1;
            iterate(s, o, bag_at(m, 0), g);
            if (t >= cut) {
                iterate(other, o, bag_at(m, 0), g);
                check_ok(fdl_amp_scaler_save(s, &a));
                check_ok(fdl_amp_scaler_save(other, &b));
                assert_true(a.scale == b.scale && a.growth == b.growth && a.backoff == b.backoff);
                assert_true(a.interval == b.interval && a.tracker == b.tracker);
            }
        }
        fdl_amp_scaler_free(s);
        fdl_amp_scaler_free(other);
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
    /* what new refuses, load refuses, and then keeps what it has */
    fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 32);
    const fdl_amp_scaler_state bad[] = {
        {.scale = 0, .growth = 2, .backoff = 0.5, .interval = 3},
        {.scale = (double)INFINITY, .growth = 2, .backoff = 0.5, .interval = 3},
        {.scale = 8, .growth = 1, .backoff = 0.5, .interval = 3},
        {.scale = 8, .growth = 2, .backoff = 1, .interval = 3},
        {.scale = 8, .growth = 2, .backoff = 0.5, .interval = 0},
        {.scale = 8, .growth = 2, .backoff = 0.5, .interval = 3, .tracker = -1},
        {.scale = 8, .growth = 2, .backoff = 0.5, .interval = 3, .tracker = 4},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fdl_amp_scaler_load(s, &bad[i]), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_amp_scaler_load");
        check_number(fdl_amp_scaler_scale(s), 32, 0);
    }
    fdl_amp_scaler_free(s);
}

/* ---- the order of calls --------------------------------------------------------------------------------- */

static void calls_out_of_order_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_tensor *p = bag_at(m, 0);
    fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new();
    set_grad(p, 1);
    assert_int_equal(fdl_amp_unscale(s, o), FDL_E_STATE);
    check_error(FDL_E_STATE, "no loss was scaled");
    check_some(fdl_amp_scale(s, fdl_ones(FDL_SCALAR)));
    assert_int_equal(fdl_amp_update(s), FDL_E_STATE);
    check_error(FDL_E_STATE, "no step since");
    check_ok(fdl_amp_unscale(s, o));
    assert_int_equal(fdl_amp_unscale(s, o), FDL_E_STATE);
    check_error(FDL_E_STATE, "already unscaled");
    assert_int_equal(fdl_amp_update(s), FDL_E_STATE);
    check_error(FDL_E_STATE, "no step since");
    check_ok(fdl_amp_step(s, o));
    assert_int_equal(fdl_amp_step(s, o), FDL_E_STATE);
    check_error(FDL_E_STATE, "already made");
    assert_int_equal(fdl_amp_unscale(s, o), FDL_E_STATE);
    check_error(FDL_E_STATE, "used for a step");
    check_ok(fdl_amp_update(s));
    set_grad(p, 1);
    check_ok(fdl_amp_unscale(s, o));
    check_ok(fdl_amp_cancel(s)); /* the iteration is given up */
    set_grad(p, 1);
    check_ok(fdl_amp_step(s, o));
    check_ok(fdl_amp_update(s));
    fdl_amp_scaler_free(s);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

static void two_optimizers_share_a_scale(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = bag_of(1, FDL_FLOAT32), *b = bag_of(1, FDL_FLOAT32);
    fdl_optim *oa = make("sgd", a, FDL_OPTIM_AUTO), *ob = make("adam", b, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 16);
    check_ok(fdl_backward(fdl_amp_scale(s, fdl_mul(bag_at(a, 0), 2))));
    check_ok(fdl_backward(fdl_amp_scale(s, fdl_mul(bag_at(b, 0), (double)INFINITY))));
    bool sa, sb;
    check_ok(fdl_amp_step(s, oa, .stepped = &sa));
    check_ok(fdl_amp_step(s, ob, .stepped = &sb));
    check_ok(fdl_amp_update(s));
    assert_true(sa);
    assert_false(sb);
    check_number(fdl_item(bag_at(a, 0)), 0.9, 1e-6);
    check_number(fdl_item(bag_at(b, 0)), 1, 0);
    check_number(fdl_amp_scaler_scale(s), 8, 0);
    fdl_amp_scaler_free(s);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
}

static void half_gradients_only_where_allowed(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 2; allowed++) {
        FDL_SCOPE;
        fdl_module *m = bag_of(1, FDL_FLOAT16);
        fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
        fdl_amp_scaler *s = fdl_amp_scaler_new(.init_scale = 16, .allow_half = allowed);
        check_some(fdl_amp_scale(s, fdl_ones(FDL_SCALAR)));
        set_grad(bag_at(m, 0), 32);
        if (allowed) {
            check_ok(fdl_amp_unscale(s, o));
            check_number(fdl_item(fdl_grad(bag_at(m, 0))), 2, 0);
        } else {
            assert_int_equal(fdl_amp_unscale(s, o), FDL_E_DTYPE);
            check_error(FDL_E_DTYPE, "unscaling float16 gradients", "\"p0\"", "autocast", ".allow_half");
        }
        fdl_amp_scaler_free(s);
        fdl_optim_free(o);
        check_ok(fdl_module_free(m));
    }
}

static void disabled_it_is_not_there(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_optim *o = make("sgd", m, FDL_OPTIM_AUTO);
    fdl_amp_scaler *s = fdl_amp_scaler_new(.disabled = true), *on = fdl_amp_scaler_new();
    assert_true(fdl_amp_scaler_enabled(on) && !fdl_amp_scaler_enabled(s));
    fdl_amp_scaler_free(on);
    fdl_tensor *loss = fdl_mul(bag_at(m, 0), 2);
    assert_ptr_equal(fdl_amp_scale(s, loss), loss);
    check_ok(fdl_backward(loss));
    check_ok(fdl_amp_unscale(s, o));
    bool stepped = false;
    check_ok(fdl_amp_step(s, o, .stepped = &stepped));
    assert_true(stepped);
    check_ok(fdl_amp_update(s));
    check_number(fdl_amp_scaler_scale(s), 1, 0);
    check_number(fdl_item(bag_at(m, 0)), 0.9, 1e-6);
    fdl_amp_scaler_free(s);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* To bfloat16 and back is rounding, to the dtype that it has is nothing; buffers stay what they are. */
static void casting_goes_there_and_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_flow(fdl_nn_linear(3, 4), fdl_nn_batch_norm1d(4));
    check_some(m);
    check_some(fdl_forward(m, fdl_randn(FDL_SHAPE(8, 3))));
    fdl_params *ps = fdl_parameters(m), *bs = fdl_buffers(m);
    int n = fdl_params_count(ps), nb = fdl_params_count(bs);
    fdl_tensor *before[8], *buffers[8];
    const void *data[8];
    assert_true(n == 4 && nb == 3);
    for (int i = 0; i < n; i++) {
        before[i] = fdl_clone(fdl_param_tensor(fdl_params_at(ps, i)));
        data[i] = fdl_data_ptr(fdl_param_tensor(fdl_params_at(ps, i)));
    }
    for (int i = 0; i < nb; i++)
        buffers[i] = fdl_clone(fdl_param_tensor(fdl_params_at(bs, i)));
    check_ok(fdl_cast_parameters(m, FDL_FLOAT32));
    for (int i = 0; i < n; i++)
        assert_ptr_equal(fdl_data_ptr(fdl_param_tensor(fdl_params_at(ps, i))), data[i]);
    check_ok(fdl_cast_parameters(m, FDL_BFLOAT16));
    for (int i = 0; i < n; i++)
        assert_int_equal(fdl_dtype_of(fdl_param_tensor(fdl_params_at(ps, i))), FDL_BFLOAT16);
    check_ok(fdl_cast_parameters(m, FDL_FLOAT32));
    for (int i = 0; i < n; i++) {
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(ps, i));
        assert_true(fdl_same(p, fdl_float(fdl_bfloat16(before[i]))));
        assert_true(fdl_is_leaf(p) && fdl_requires_grad(p));
    }
    for (int i = 0; i < nb; i++)
        assert_true(fdl_same(fdl_param_tensor(fdl_params_at(bs, i)), buffers[i])); /* an int64 among them */
    check_ok(fdl_module_free(m));
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    assert_null(fdl_amp_scaler_new(.init_scale = -1));
    check_error(FDL_E_ARG, "-1", "above 0");
    assert_null(fdl_amp_scaler_new(.init_scale = 1e39));
    check_error(FDL_E_ARG, "float32");
    assert_null(fdl_amp_scaler_new(.growth = 1));
    check_error(FDL_E_ARG, "growth");
    assert_null(fdl_amp_scaler_new(.backoff = 1));
    check_error(FDL_E_ARG, "backoff");
    assert_null(fdl_amp_scaler_new(.interval = -3));
    check_error(FDL_E_ARG, "interval", "-3");
}

/* ---- averages ------------------------------------------------------------------------------------------- */

static void averages_are_those_of_the_equation(void **state)
{
    (void)state;
    const double values[] = {1, 2, 3};
    FDL_SCOPE;
    FDL_NO_GRAD;
    for (int kind = 0; kind < 3; kind++) {
        fdl_module *m = bag_of(1, FDL_FLOAT32);
        fdl_tensor *p = bag_at(m, 0);
        fdl_ema *e = kind == 0   ? fdl_ema_new(m, 0.9)
                     : kind == 1 ? fdl_ema_new(m, 0.2, .warmup = true)
                                 : fdl_ema_new(m, 0, .average = true);
        check_some(e);
        double want = 1;
        for (int t = 0; t < 3; t++) {
            check_ok(fdl_fill_(p, values[t]));
            check_ok(fdl_ema_update(e));
            double decay = kind == 0 ? 0.9 : kind == 1 ? fmin(0.2, (1.0 + t) / (10 + t)) : t / (t + 1.0);
            want = decay * want + (1 - decay) * values[t];
            check_number(fdl_item(fdl_ema_shadow(e, p)), want, 1e-6);
        }
        check_number(want, kind == 0 ? 1.29 : kind == 2 ? 2 : want, 1e-12);
        check_number(fdl_item(p), 3, 0);
        check_ok(fdl_ema_apply(e));
        check_number(fdl_item(p), want, 1e-6);
        assert_int_equal(fdl_ema_apply(e), FDL_E_STATE);
        fdl_clear_error();
        assert_int_equal(fdl_ema_update(e), FDL_E_STATE);
        fdl_clear_error();
        check_ok(fdl_ema_restore(e));
        check_number(fdl_item(p), 3, 0);
        assert_int_equal(fdl_ema_restore(e), FDL_E_STATE);
        fdl_clear_error();
        fdl_ema_free(e);
        check_ok(fdl_module_free(m));
    }
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    assert_null(fdl_ema_new(m, 1));
    check_error(FDL_E_ARG, "decay is 1");
    assert_null(fdl_ema_new(m, 0.9, .average = true));
    check_error(FDL_E_ARG, ".average");
    fdl_ema *e = fdl_ema_new(m, 0.5);
    assert_null(fdl_ema_shadow(e, fdl_ones(FDL_SCALAR)));
    check_error(FDL_E_ARG, "no parameter");
    fdl_ema_free(e);
    check_ok(fdl_module_free(m));
}

/* AveragedModel(m, multi_avg_fn=get_ema_multi_avg_fn(0.9)) of a weight that is 1 and then 2, 4, 9 has 2, 2.2, 2.88. */
static void an_average_made_behind_the_first_step_is_pytorchs(void **state)
{
    (void)state;
    static const double values[] = {2, 4, 9}, pytorchs[] = {2, 2.2, 2.88}, averages[] = {1.1, 1.39, 2.151};
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = bag_of(1, FDL_FLOAT32);
    fdl_tensor *p = bag_at(m, 0);
    check_ok(fdl_fill_(p, 1));
    fdl_ema *early = fdl_ema_new(m, 0.9), *late = NULL;
    for (int t = 0; t < 3; t++) {
        check_ok(fdl_fill_(p, values[t]));
        check_ok(fdl_ema_update(early));
        if (t == 0)
            late = fdl_ema_new(m, 0.9);
        else
            check_ok(fdl_ema_update(late));
        check_some(late);
        check_number(fdl_item(fdl_ema_shadow(late, p)), pytorchs[t], 1e-6);
        check_number(fdl_item(fdl_ema_shadow(early, p)), averages[t], 1e-6);
    }
    fdl_ema_free(early);
    fdl_ema_free(late);
    check_ok(fdl_module_free(m));
}

static void buffers_are_copied_and_casts_followed(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *m = fdl_nn_batch_norm1d(3);
    fdl_ema *e = fdl_ema_new(m, 0.5);
    check_some(e);
    fdl_tensor *mean = fdl_param_tensor(fdl_module_own_buffer(m, "running_mean"));
    fdl_tensor *seen = fdl_param_tensor(fdl_module_own_buffer(m, "num_batches_tracked"));
    check_some(fdl_forward(m, fdl_randn(FDL_SHAPE(8, 3))));
    check_ok(fdl_ema_update(e));
    assert_true(fdl_same(fdl_ema_shadow(e, mean), mean));
    assert_true(fdl_same(fdl_ema_shadow(e, seen), seen));
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    check_ok(fdl_ema_update(e));
    assert_int_equal(fdl_dtype_of(fdl_ema_shadow(e, mean)), FDL_FLOAT64);
    fdl_ema_free(e);
    check_ok(fdl_module_free(m));
    /* those that aren't saved, too: what runs with the averages has all that belongs to them */
    m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2)));
    fdl_tensor *cache = fdl_module_transient(m, "cache", fdl_zeros(FDL_SHAPE(2)));
    m = fdl_module_done(m);
    e = fdl_ema_new(m, 0.5);
    check_some(e);
    check_ok(fdl_fill_(cache, 7));
    check_ok(fdl_ema_update(e));
    check_ok(fdl_fill_(cache, 9));
    check_ok(fdl_ema_apply(e));
    check_number(fdl_item(fdl_max(cache)), 7, 0);
    check_ok(fdl_ema_restore(e));
    check_number(fdl_item(fdl_min(cache)), 9, 0);
    fdl_ema_free(e);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(like_pytorch),
        cmocka_unit_test(two_like_pytorch),
        cmocka_unit_test(every_overflow_is_found),
        cmocka_unit_test(sparse_gradients_are_unscaled),
        cmocka_unit_test(clipping_after_unscale_is_clipping_without),
        cmocka_unit_test(a_saved_scaler_goes_on),
        cmocka_unit_test(what_is_skipped_changes_nothing),
        cmocka_unit_test(a_skipped_first_step_is_not_the_first),
        cmocka_unit_test(the_scale_moves_as_told),
        cmocka_unit_test(scaling_by_a_power_of_two_changes_no_step),
        cmocka_unit_test(calls_out_of_order_are_refused),
        cmocka_unit_test(two_optimizers_share_a_scale),
        cmocka_unit_test(half_gradients_only_where_allowed),
        cmocka_unit_test(disabled_it_is_not_there),
        cmocka_unit_test(casting_goes_there_and_back),
        cmocka_unit_test(bad_options_are_refused),
        cmocka_unit_test(averages_are_those_of_the_equation),
        cmocka_unit_test(an_average_made_behind_the_first_step_is_pytorchs),
        cmocka_unit_test(buffers_are_copied_and_casts_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
