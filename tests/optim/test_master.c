/* Master weights: parameters of half types that are stepped in float32. */
#include "kinds.h"

#define OPTS(...) (&(fdl_optim_opts){__VA_ARGS__})

static const char *const kinds[] = {"sgd", "adam", "adamw"};
static const fdl_dtype halves[] = {FDL_BFLOAT16, FDL_FLOAT16};

static fdl_module *bag_of_normals(fdl_dtype dtype)
{
    FDL_SCOPE;
    fdl_manual_seed(11);
    fdl_module *m = bag_new();
    for (int i = 0; i < 3; i++) {
        fdl_tensor *t = fdl_randn(i ? FDL_SHAPE(4, 3, 2, 2) : FDL_SHAPE(5), .device = FDL_CPU);
        t = fdl_to(t, .device = fdl_default_device(), .dtype = dtype);
        bag_add(m, i == 2 ? fdl_channels_last(t) : t);
    }
    return fdl_module_done(m);
}

/* The same gradients for a half module and a float32 one. */
static void give_gradients(fdl_module *half, fdl_module *twin, int t)
{
    FDL_SCOPE;
    fdl_manual_seed(50 + t);
    for (int i = 0; i < 3; i++) {
        fdl_tensor *p = bag_at(half, i), *g = fdl_randn(fdl_shape_of(p), .device = FDL_CPU);
        g = fdl_to(g, .device = fdl_default_device(), .dtype = fdl_dtype_of(p));
        check_ok(fdl_set_grad(p, g));
        if (twin)
            check_ok(fdl_set_grad(bag_at(twin, i), fdl_float(g)));
    }
}

static fdl_optim_opts options(const char *kind, int impl)
{
    fdl_optim_opts o = {.lr = 0.01, .weight_decay = 0.1, .master_weights = true, .impl = optim_impls[impl]};
    if (strcmp(kind, "sgd") == 0)
        o.momentum = 0.9;
    return o;
}

/* The masters go where float32 parameters go that begin at the same values, and the parameters are these rounded. */
static void the_steps_are_float32_steps(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int h = 0; h < 2; h++)
            for (int impl = 0; impl < 4; impl++) {
                FDL_SCOPE;
                fdl_module *m = bag_of_normals(halves[h]), *twin = bag_of_normals(halves[h]);
                check_ok(fdl_cast_parameters(twin, FDL_FLOAT32));
                fdl_optim_opts opts = options(kinds[k], impl);
                fdl_optim *o = optim_row_of(kinds[k])->make(fdl_parameters(m), &opts);
                fdl_optim *same = optim_row_of(kinds[k])->make(fdl_parameters(twin), &opts);
                for (int t = 0; t < 8; t++) {
                    give_gradients(m, twin, t);
                    check_ok(fdl_optim_step(o));
                    check_ok(fdl_optim_step(same));
                }
                for (int i = 0; i < 3; i++) {
                    fdl_tensor *p = bag_at(m, i), *master = fdl_optim_state(o, p, "master");
                    check_some(master);
                    assert_int_equal(fdl_dtype_of(p), halves[h]);
                    assert_int_equal(fdl_dtype_of(master), FDL_FLOAT32);
                    if (!fdl_allclose(master, bag_at(twin, i), .rtol = 1e-6, .atol = 1e-7))
                        fail_msg("%s, %s, %s: the master went elsewhere", kinds[k], fdl_dtype_name(halves[h]),
                                 optim_impl_names[impl]);
                    assert_true(fdl_same(p, fdl_to(master, .dtype = halves[h])));
                    const char *state_name = k ? "exp_avg" : "momentum_buffer";
                    assert_int_equal(fdl_dtype_of(fdl_optim_state(o, p, state_name)), FDL_FLOAT32);
                    assert_null(fdl_optim_state(same, bag_at(twin, i), "master")); /* float32 needs none */
                }
                fdl_optim_free(o);
                fdl_optim_free(same);
                check_ok(fdl_module_free(m));
                check_ok(fdl_module_free(twin));
            }
}

/* Steps that are too small for bfloat16 add up. */
static void small_steps_arent_lost(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *with = bag_of(1, FDL_BFLOAT16), *without = bag_of(1, FDL_BFLOAT16);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(with), .lr = 1e-3, .master_weights = true);
    fdl_optim *plain = fdl_optim_sgd(fdl_parameters(without), .lr = 1e-3);
    for (int t = 0; t < 100; t++) {
        set_grad(bag_at(with, 0), 1);
        set_grad(bag_at(without, 0), 1);
        check_ok(fdl_optim_step(o));
        check_ok(fdl_optim_step(plain));
    }
    check_number(fdl_item(bag_at(with, 0)), 0.9, 0.004);
    check_number(fdl_item(bag_at(without, 0)), 1, 0);
    fdl_optim_free(o);
    fdl_optim_free(plain);
    check_ok(fdl_module_free(with));
    check_ok(fdl_module_free(without));
}

/* Whoever writes to a parameter is heard; what he leaves alone keeps its master to the last bit. */
static void a_parameter_that_is_written_to_moves_its_master(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2), .dtype = FDL_BFLOAT16));
    m = fdl_module_done(m);
    fdl_tensor *p = bag_at(m, 0);
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 1e-3, .master_weights = true);
    set_grad(p, 1);
    check_ok(fdl_optim_step(o));
    {
        FDL_NO_GRAD;
        check_ok(fdl_fill_(fdl_select(p, 0, 1), 5));
    }
    set_grad(p, 1);
    check_ok(fdl_optim_step(o));
    double v[2];
    check_ok(fdl_to_f64(fdl_optim_state(o, p, "master"), v, 2));
    check_number(v[0], 0.998, 1e-6);
    check_number(v[1], 4.999, 1e-6);
    /* cast away and back: the float32 model is what the parameters were, 0.998 rounded */
    check_ok(fdl_cast_parameters(m, FDL_FLOAT32));
    set_grad(p, 1);
    check_ok(fdl_optim_step(o));
    check_number(fdl_item(fdl_select(p, 0, 0)), 0.99609375 - 1e-3, 1e-6);
    check_ok(fdl_cast_parameters(m, FDL_BFLOAT16));
    set_grad(p, 1);
    check_ok(fdl_optim_step(o));
    check_ok(fdl_to_f64(fdl_optim_state(o, p, "master"), v, 2));
    assert_true(fabs(v[0] - 0.998) < 0.004 && fabs(v[1] - 5) < 0.04);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

static void a_skipped_step_leaves_the_masters(void **state)
{
    (void)state;
    for (int k = 0; k < 3; k++)
        for (int impl = 0; impl < 4; impl++) {
            FDL_SCOPE;
            fdl_module *m = bag_of_normals(FDL_FLOAT16);
            fdl_optim_opts opts = options(kinds[k], impl);
            fdl_optim *o = optim_row_of(kinds[k])->make(fdl_parameters(m), &opts);
            give_gradients(m, NULL, 0);
            check_ok(fdl_optim_step(o));
            fdl_tensor *p = bag_at(m, 1), *before = fdl_clone(p),
                       *master = fdl_clone(fdl_optim_state(o, p, "master"));
            for (int i = 0; i < 3; i++)
                set_grad(bag_at(m, i), (double)INFINITY);
            check_ok(fdl_optim_step_unless(o, fdl_ones(FDL_SHAPE(1))));
            assert_true(fdl_same(p, before));
            assert_true(fdl_same(fdl_optim_state(o, p, "master"), master));
            fdl_optim_free(o);
            check_ok(fdl_module_free(m));
        }
}

static void others_have_no_master_weights(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = bag_new();
    bag_add(m, fdl_ones(FDL_SHAPE(2, 2), .dtype = FDL_BFLOAT16));
    m = fdl_module_done(m);
    for (const optim_row *r = optim_rows; r < optim_rows + OPTIM_ROWS; r++)
        if (strcmp(r->kind, "sgd") != 0 && strcmp(r->kind, "adam") != 0 && strcmp(r->kind, "adamw") != 0)
            REFUSED(r->make(fdl_parameters(m), OPTS(.master_weights = true)), r->kind, "master_weights");
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_steps_are_float32_steps),
        cmocka_unit_test(small_steps_arent_lost),
        cmocka_unit_test(a_parameter_that_is_written_to_moves_its_master),
        cmocka_unit_test(a_skipped_step_leaves_the_masters),
        cmocka_unit_test(others_have_no_master_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
