/* The module protocol: registration and what it refuses, names, walks, sharing, moving, freezing, further inputs. */
#include "check.h"

/* ---- modules of a user ----------------------------------------------------------------------------------- */

typedef struct scale {
    fdl_tensor *weight;
    int resets, trains, frees_seen;
    bool training;
} scale;

static int frees;

static fdl_tensor *scale_forward(void *self, fdl_tensor *x)
{
    scale *s = self;
    return fdl_mul(x, s->weight);
}

static void scale_reset(void *self)
{
    ((scale *)self)->resets++;
}

static void scale_train(void *self, bool training)
{
    scale *s = self;
    s->trains++;
    s->training = training;
}

static void scale_free(void *self)
{
    (void)self;
    frees++;
}

static const fdl_module_ops scale_ops = {.kind = "scale",
                                         .size = sizeof(scale),
                                         .forward = scale_forward,
                                         .reset = scale_reset,
                                         .train = scale_train,
                                         .free = scale_free};

static fdl_module *new_scale(double by)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&scale_ops);
    scale *s = fdl_module_self(m);
    s->weight = fdl_module_param(m, "weight", fdl_full(FDL_SHAPE(3), by));
    fdl_module_buffer(m, "calls", fdl_zeros(FDL_SHAPE(1), .dtype = FDL_INT64));
    return fdl_module_done(m);
}

typedef struct pair {
    fdl_module *a, *b;
} pair;

static fdl_tensor *pair_forward(void *self, fdl_tensor *x)
{
    pair *p = self;
    return fdl_forward(p->b, fdl_forward(p->a, x));
}

static const fdl_module_ops pair_ops = {.kind = "pair", .size = sizeof(pair), .forward = pair_forward};

static fdl_module *new_pair(fdl_module *a, fdl_module *b)
{
    fdl_module *m = fdl_module_new(&pair_ops);
    pair *p = fdl_module_self(m);
    p->a = fdl_module_child(m, "a", a);
    p->b = fdl_module_child(m, "b.inner", b);
    return fdl_module_done(m);
}

static fdl_tensor *sum_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_tensor *y = fdl_refs_get(r, "other");
    return y ? fdl_add(x, y) : x;
}

static const char *const sum_refs[] = {"other", NULL};
static const fdl_module_ops sum_ops = {.kind = "sum", .forward_named = sum_forward, .ref_names = sum_refs};

static void expect(fdl_status status, const char *text)
{
    const fdl_error *e = fdl_last_error();
    if (e->status != status || !strstr(e->message, text))
        fail_msg("expected %s with \"%s\", got %s: %s", fdl_status_name(status), text,
                 fdl_status_name(e->status), e->message);
    fdl_clear_error();
}

/* ---- tests ------------------------------------------------------------------------------------------------ */

static void forward_runs_in_a_scope_of_its_own(void **state)
{
    (void)state;
    fdl_module *m = new_pair(new_scale(2), new_scale(3));
    assert_non_null(m);
    {
        FDL_SCOPE;
        fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3));
        int64_t before = fdl_live_tensors();
        fdl_tensor *y = fdl_forward(m, x);
        assert_non_null(y);
        assert_int_equal(fdl_live_tensors(), before + 1);
        float v[6];
        FDL_CHECK(fdl_to_f32(y, v, 6));
        for (int i = 0; i < 6; i++)
            assert_float_equal(v[i], 6, 0);
    }
    assert_int_equal(fdl_module_free(m), FDL_OK);
}

static void names_are_paths(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = new_pair(new_pair(new_scale(1), new_scale(2)), new_scale(3));
    fdl_params *ps = fdl_parameters(m), *bs = fdl_buffers(m);
    const char *want[] = {"a.a.weight", "a.b.inner.weight", "b.inner.weight"};
    assert_int_equal(fdl_params_count(ps), 3);
    for (int i = 0; i < 3; i++)
        assert_string_equal(fdl_params_name(ps, i), want[i]);
    assert_int_equal(fdl_params_count(bs), 3);
    assert_string_equal(fdl_params_name(bs, 0), "a.a.calls");
    assert_int_equal(fdl_params_numel(ps), 9);
    assert_int_equal(fdl_params_count(fdl_parameters(m, .match = "a.*")), 2);
    fdl_module *linear = fdl_nn_linear(2, 3);
    assert_string_equal(fdl_params_name(fdl_parameters(linear, .min_ndim = 2), 0), "weight");
    assert_string_equal(fdl_params_name(fdl_parameters(linear, .max_ndim = 1), 0), "bias");
    assert_int_equal(fdl_params_count(fdl_parameters(linear, .min_ndim = 1, .max_ndim = 2)), 2);
    assert_int_equal(fdl_params_count(fdl_parameters(linear, .min_ndim = 2, .match = "b*")), 0);
    fdl_module_free(linear);
    assert_non_null(fdl_params_find(ps, "b.inner.weight"));
    assert_null(fdl_params_find(ps, "b.weight"));
    expect(FDL_E_ARG, "b.inner.weight");
    char key[32];
    assert_int_equal(fdl_state_key("encoder.scan.hidden/weight", key, sizeof key), FDL_OK);
    assert_string_equal(key, "encoder.scan.hidden.weight");
    assert_int_equal(fdl_state_key("encoder.scan.hidden/weight.of.some.length", key, sizeof key), FDL_E_ARG);
    expect(FDL_E_ARG, "needs 42 bytes");
    fdl_module_free(m);
}

static void a_pattern_that_fits_no_name_is_an_error(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m =
        fdl_flow(fdl_nn_linear(2, 3), fdl_flow_tag("fc"), fdl_nn_batch_norm1d(3), fdl_flow_tag("norm"));
    check_some(m);
    assert_null(fdl_parameters(m, .match = "fx.weight"));
    check_error(FDL_E_ARG, "fdl_parameters:", "\"fx.weight\" fits no name of the 4", "closest: fc/weight");
    assert_null(fdl_parameters_trainable(m, .match = "encoder*"));
    check_error(FDL_E_ARG, "fdl_parameters_trainable:", "encoder*");
    assert_null(fdl_buffers(m, .match = "*weight"));
    check_error(FDL_E_ARG, "fdl_buffers:", "*weight", "norm/running_mean");
    assert_null(fdl_optim_sgd(fdl_parameters(m, .match = "encoder*"))); /* not an optimizer of nothing */
    check_error(FDL_E_ARG, "encoder*");
    assert_int_equal(fdl_params_count(fdl_parameters(m, .match = "fc.weight", .sequential = false,
                                                     .flat = false, .max_ndim = 2)),
                     -1); /* a NULL passes through */
    check_error(FDL_E_ARG, "fc.weight", "fc/weight");
    /* fitted, and left out for another reason */
    assert_int_equal(fdl_params_count(fdl_parameters(m, .match = "fc*", .min_ndim = 3)), 0);
    check_ok(fdl_params_freeze(fdl_parameters(m, .match = "fc*")));
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(m, .match = "fc*")), 0);
    assert_int_equal(fdl_params_count(fdl_parameters(m, .match = "*", .min_ndim = 3)), 0);
    fdl_module *plain = fdl_nn_relu();
    assert_int_equal(fdl_params_count(fdl_parameters(plain, .match = "*weight")), 0);
    assert_int_equal(fdl_params_count(fdl_buffers(plain, .match = "running*")), 0);
    fdl_module_free(plain);
    fdl_module_free(m);
}

static void registration_latches_its_first_error(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    struct {
        const char *name, *text;
        fdl_tensor *init;
        fdl_status status;
    } bad[] = {
        {"", "is empty", fdl_ones(FDL_SHAPE(1)), FDL_E_ARG},
        {"a/b", "has a \"/\"", fdl_ones(FDL_SHAPE(1)), FDL_E_ARG},
        {NULL, "(NULL)", fdl_ones(FDL_SHAPE(1)), FDL_E_ARG},
        {"weight", "two things are called", fdl_ones(FDL_SHAPE(1)), FDL_E_ARG},
        {"index", "floating", fdl_ones(FDL_SHAPE(1), .dtype = FDL_INT64), FDL_E_DTYPE},
        {"none", "none is NULL", NULL, FDL_E_NULL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int freed = frees;
        fdl_module *m = fdl_module_new(&scale_ops);
        assert_non_null(fdl_module_param(m, "weight", fdl_ones(FDL_SHAPE(3))));
        assert_null(fdl_module_param(m, bad[i].name, bad[i].init));
        assert_null(fdl_module_done(m));
        expect(bad[i].status, bad[i].text);
        assert_int_equal(frees, freed + 1);
    }
    assert_null(fdl_module_new(&(fdl_module_ops){.kind = "nothing"}));
    expect(FDL_E_ARG, "none of forward");
    assert_null(new_pair(NULL, new_scale(1))); /* the second child is freed, too */
    expect(FDL_E_NULL, "child");
    fdl_module *own = new_scale(1);
    assert_null(fdl_module_child(own, "me", own));
    expect(FDL_E_ARG, "own child");
    assert_null(fdl_module_done(own));
    fdl_clear_error();
    assert_int_equal(fdl_live_tensors() - before, 6 + 5); /* the values handed in, and those of the loop */
}

static void a_parameter_never_aliases_what_it_was_made_from(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *init = fdl_zeros(FDL_SHAPE(3)), *view = fdl_detach(init);
    fdl_module *m = fdl_module_new(&scale_ops);
    fdl_tensor *leaf = fdl_module_param(m, "weight", init);
    FDL_CHECK(fdl_add_(view, fdl_ones(FDL_SHAPE(3))));
    assert_float_equal(fdl_item(fdl_sum(leaf)), 0, 0);
    assert_false(fdl_requires_grad(init));
    assert_true(fdl_requires_grad(leaf));
    assert_true(fdl_is_leaf(leaf));
    assert_int_equal(fdl_free(leaf), FDL_E_STATE);
    expect(FDL_E_STATE, "freed by its module");
    fdl_module_free(m);
}

static void a_module_has_one_owner(void **state)
{
    (void)state;
    fdl_module *a = new_scale(2);
    fdl_module *m = new_pair(a, new_scale(3));
    assert_int_equal(fdl_module_free(a), FDL_E_STATE);
    expect(FDL_E_STATE, "belongs to another module");
    int freed = frees;
    assert_null(new_pair(a, new_scale(4))); /* refused; the other one is freed */
    expect(FDL_E_STATE, "fdl_module_share");
    assert_int_equal(frees, freed + 1);
    FDL_CHECK(fdl_module_free(m));
    assert_int_equal(frees, freed + 3);
    assert_int_equal(fdl_module_free(NULL), FDL_OK);
}

static void a_shared_module_is_listed_and_walked_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    int freed = frees;
    fdl_module *tower = new_scale(2);
    fdl_module *m = new_pair(fdl_module_share(tower), tower);
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 1);
    assert_string_equal(fdl_params_name(fdl_parameters(m), 0), "a.weight");
    scale *s = fdl_module_self(tower);
    FDL_CHECK(fdl_module_reset(m));
    assert_int_equal(s->resets, 1);
    fdl_tensor *loss = fdl_sum(fdl_forward(m, fdl_ones(FDL_SHAPE(3))));
    FDL_CHECK(fdl_backward(loss)); /* (w * w)' = 2w */
    assert_float_equal(fdl_item(fdl_max(fdl_grad(s->weight))), 4, 1e-6);
    fdl_module *outside = fdl_module_share(m);
    FDL_CHECK(fdl_module_free(m));
    assert_int_equal(frees, freed);
    assert_non_null(fdl_forward(outside, fdl_ones(FDL_SHAPE(3))));
    FDL_CHECK(fdl_module_free(outside));
    assert_int_equal(frees, freed + 1);
}

static void tied_parameters_are_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = new_scale(2), *b = new_scale(5);
    fdl_module *m = new_pair(a, b);
    FDL_CHECK(fdl_module_share_param(b, "weight", fdl_module_own_param(a, "weight")));
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 1);
    assert_float_equal(fdl_item(fdl_sum(fdl_forward(m, fdl_ones(FDL_SHAPE(3))))), 12, 1e-6);
    assert_int_equal(fdl_module_share_param(b, "bias", fdl_module_own_param(a, "weight")), FDL_E_ARG);
    expect(FDL_E_ARG, "\"bias\"");
    fdl_module *wide = fdl_nn_linear(3, 2);
    fdl_tensor *before = fdl_param_tensor(fdl_module_own_param(wide, "weight"));
    const void *identity = fdl_identity(before);
    assert_int_equal(fdl_module_share_param(wide, "weight", fdl_module_own_param(a, "weight")), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "weight of linear", "[2, 3]", "[3]");
    assert_ptr_equal(fdl_identity(fdl_param_tensor(fdl_module_own_param(wide, "weight"))), identity);
    FDL_CHECK(fdl_module_free(wide));
    FDL_CHECK(fdl_module_free(m));
}

static void modes_reach_the_whole_tree(void **state)
{
    (void)state;
    fdl_module *a = new_scale(1);
    fdl_module *m = new_pair(a, new_scale(2));
    scale *s = fdl_module_self(a);
    assert_true(fdl_is_training(m));
    FDL_CHECK(fdl_eval(m));
    assert_false(fdl_is_training(a));
    assert_false(s->training);
    FDL_CHECK(fdl_train(m));
    assert_true(fdl_is_training(a) && s->training);
    assert_int_equal(s->trains, 2);
    assert_ptr_equal(fdl_module_of(s), a);
    FDL_CHECK(fdl_module_free(m));
}

static void freezing_drops_the_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = new_pair(new_scale(1), new_scale(2));
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(m, fdl_ones(FDL_SHAPE(3))))));
    fdl_param *p = fdl_params_at(fdl_parameters(m), 0);
    assert_non_null(fdl_grad(fdl_param_tensor(p)));
    assert_false(fdl_is_frozen(m));
    FDL_CHECK(fdl_param_freeze(p));
    assert_null(fdl_grad(fdl_param_tensor(p)));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 2);
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(m)), 1);
    FDL_CHECK(fdl_freeze(m));
    assert_true(fdl_is_frozen(m));
    FDL_CHECK(fdl_thaw(m));
    assert_int_equal(fdl_params_count(fdl_parameters_trainable(m)), 2);
    fdl_module_free(m);
}

static void casting_keeps_the_leaves_and_their_gradients(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = new_scale(2);
    fdl_param *p = fdl_module_own_param(m, "weight");
    fdl_tensor *leaf = fdl_param_tensor(p);
    const void *identity = fdl_identity(leaf);
    FDL_CHECK(fdl_backward(fdl_sum(fdl_forward(m, fdl_ones(FDL_SHAPE(3))))));
    FDL_CHECK(fdl_module_to(m, FDL_CPU, .dtype = FDL_FLOAT64));
    assert_int_equal(fdl_dtype_of(leaf), FDL_FLOAT64);
    assert_int_equal(fdl_dtype_of(fdl_grad(leaf)), FDL_FLOAT64);
    assert_ptr_equal(fdl_identity(leaf), identity);
    assert_true(fdl_requires_grad(leaf) && fdl_is_leaf(leaf));
    fdl_tensor *calls = fdl_param_tensor(fdl_module_own_buffer(m, "calls"));
    assert_int_equal(fdl_dtype_of(calls), FDL_INT64);
    FDL_CHECK(fdl_cast_parameters(m, FDL_FLOAT32));
    assert_int_equal(fdl_dtype_of(leaf), FDL_FLOAT32);
    assert_int_equal(fdl_module_to(m, FDL_CPU, .dtype = FDL_INT32), FDL_E_DTYPE);
    expect(FDL_E_DTYPE, "int32");
    assert_int_equal(fdl_module_to(m, FDL_CUDA(99)), FDL_E_DEVICE);
    expect(FDL_E_DEVICE, "cuda:99");
    assert_int_equal(fdl_dtype_of(leaf), FDL_FLOAT32);
    FDL_CHECK(fdl_param_set(p, fdl_full(FDL_SHAPE(3), 7, .dtype = FDL_FLOAT64)));
    assert_float_equal(fdl_item(fdl_sum(leaf)), 21, 0);
    assert_int_equal(fdl_param_set(p, fdl_ones(FDL_SHAPE(4))), FDL_E_SHAPE);
    expect(FDL_E_SHAPE, "[4]");
    fdl_module_free(m);
}

static void further_inputs_arrive_by_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_module_done(fdl_module_new(&sum_ops));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2));
    assert_float_equal(fdl_item(fdl_sum(fdl_forward(m, x, x))), 4, 0);
    assert_float_equal(fdl_item(fdl_sum(fdl_forward(m, x))), 2, 0);
    assert_null(fdl_forward(m, x, x, x));
    expect(FDL_E_ARG, "up to 2 inputs, got 3");
    assert_null(fdl_forward(m, x, NULL));
    expect(FDL_E_NULL, "input 1");
    fdl_module *one = new_scale(1);
    assert_null(fdl_forward(one, x, x));
    expect(FDL_E_ARG, "scale takes 1 input, got 2");
    assert_null(fdl_forward(NULL, x));
    expect(FDL_E_NULL, "m is NULL");
    fdl_module_free(m);
    fdl_module_free(one);
}

static uint64_t generation(fdl_module *m)
{
    uint64_t g = fdl_module_generation(m);
    assert_true(g != 0);
    return g;
}

/* The same number only where everything is the same: training after eval, thawed after frozen; not after a move. */
static void the_generation_tells_what_changed(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m =
        fdl_flow(fdl_nn_linear(2, 3), fdl_nn_batch_norm1d(3), fdl_nn_dropout(0.5), fdl_nn_linear(3, 3));
    check_some(m);
    uint64_t first = generation(m);
    check_some(fdl_forward(m, fdl_ones(FDL_SHAPE(4, 2))));
    assert_true(generation(m) == first); /* values and statistics don't count */
    check_ok(fdl_eval(m));
    assert_true(generation(m) != first);
    check_ok(fdl_train(m));
    assert_true(generation(m) == first);
    fdl_param *w = fdl_params_at(fdl_parameters(m), 2);
    check_ok(fdl_param_freeze(w));
    assert_true(generation(m) != first);
    check_ok(fdl_param_thaw(w));
    assert_true(generation(m) == first);
    check_ok(fdl_requires_grad_(fdl_param_tensor(w), false)); /* past the module's own functions */
    assert_true(generation(m) != first);
    check_ok(fdl_requires_grad_(fdl_param_tensor(w), true));
    fdl_tensor *old =
        fdl_detach(fdl_param_tensor(w)); /* keeps its memory, so that no other takes the place */
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT64));
    uint64_t wide = generation(m);
    assert_true(wide != first);
    check_ok(fdl_module_to(m, fdl_default_device(), .dtype = FDL_FLOAT32));
    assert_true(generation(m) != first && generation(m) != wide);
    check_some(old);
    uint64_t before = generation(m);
    fdl_module *a = fdl_module_child_at(m, 0, NULL), *b = fdl_nn_linear(2, 3);
    check_some(a);
    check_ok(fdl_module_share_param(a, "weight", fdl_module_own_param(b, "weight")));
    assert_true(generation(m) != before);
    assert_int_equal(fdl_module_generation(NULL), 0);
    fdl_clear_error();
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(b));
}

static void parameters_as_a_vector(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(2, 3);
    fdl_params *ps = fdl_parameters(m);
    fdl_tensor *w = fdl_param_tensor(fdl_params_at(ps, 0)), *b = fdl_param_tensor(fdl_params_at(ps, 1));
    fdl_tensor *v = fdl_params_to_vector(ps);
    check_some(v);
    assert_int_equal(fdl_numel(v), 9);
    assert_true(fdl_same(fdl_narrow(v, 0, 0, 6), fdl_reshape(w, FDL_SHAPE(6))));
    assert_true(fdl_same(fdl_narrow(v, 0, 6, 3), b));
    check_ok(fdl_backward(fdl_sum(fdl_mul(v, v)))); /* it is recorded */
    assert_true(fdl_same(fdl_grad(b), fdl_mul(fdl_detach(b), 2)));
    check_ok(fdl_vector_to_params(fdl_arange(0, 9, 1), ps));
    check_number(fdl_item(fdl_select(fdl_select(w, 0, 2), 0, 1)), 5, 0);
    check_number(fdl_item(fdl_select(b, 0, 2)), 8, 0);
    assert_int_equal(fdl_vector_to_params(fdl_zeros(FDL_SHAPE(8)), ps), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "[8]", "9 elements");
    check_ok(fdl_module_free(m));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_runs_in_a_scope_of_its_own),
        cmocka_unit_test(names_are_paths),
        cmocka_unit_test(a_pattern_that_fits_no_name_is_an_error),
        cmocka_unit_test(registration_latches_its_first_error),
        cmocka_unit_test(a_parameter_never_aliases_what_it_was_made_from),
        cmocka_unit_test(a_module_has_one_owner),
        cmocka_unit_test(a_shared_module_is_listed_and_walked_once),
        cmocka_unit_test(tied_parameters_are_one),
        cmocka_unit_test(modes_reach_the_whole_tree),
        cmocka_unit_test(freezing_drops_the_gradient),
        cmocka_unit_test(casting_keeps_the_leaves_and_their_gradients),
        cmocka_unit_test(the_generation_tells_what_changed),
        cmocka_unit_test(parameters_as_a_vector),
        cmocka_unit_test(further_inputs_arrive_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
