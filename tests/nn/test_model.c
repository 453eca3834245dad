/* What holds for every module: names, keys and the old view of them, walks with names, errors that say which module, the checked
 * mode, freezing and setting under an optimizer, order of freeing, what a failed constructor leaves. */
#include "fixture.h"

#include <math.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

static bool on_gpu;

/* ---- a module of one's own --------------------------------------------------------------------------- */

typedef struct mlp {
    fdl_module *fc1, *fc2;
} mlp;

static fdl_tensor *mlp_forward(void *self, fdl_tensor *x)
{
    mlp *m = self;
    return fdl_forward(m->fc2, fdl_tanh(fdl_forward(m->fc1, x)));
}

static const fdl_module_ops mlp_ops = {.kind = "mlp", .size = sizeof(mlp), .forward = mlp_forward};

static fdl_module *new_mlp(fdl_module *fc1, fdl_module *fc2)
{
    fdl_module *m = fdl_module_new(&mlp_ops);
    mlp *self = fdl_module_self(m);
    self->fc1 = fdl_module_child(m, "fc1", fc1);
    self->fc2 = fdl_module_child(m, "fc2", fc2);
    return fdl_module_done(m);
}

static fdl_tensor *same_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}
static const fdl_module_ops same_ops = {.kind = "same", .forward = same_forward};

static fdl_tensor *weight_of(fdl_module *m)
{
    return fdl_param_tensor(fdl_module_own_param(m, "weight"));
}

/* ---- names ---------------------------------------------------------------------------------------- */

static void children_give_keys(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char *const want[] = {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};
    fdl_module *m = new_mlp(fdl_nn_linear(2, 3), fdl_nn_linear(3, 2));
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 4);
    for (int i = 0; i < 4; i++)
        assert_string_equal(fdl_params_name(ps, i), want[i]);
    check_ok(fdl_module_free(m));

    static const struct {
        const char *name, *word;
    } bad[] = {{"fc1", "two things are called \"fc1\""}, {"fc/1", "has a \"/\""}, {"", "is empty"}};
    for (int i = 0; i < 3; i++) {
        int64_t before = fdl_live_tensors();
        fdl_module *own = fdl_module_new(&same_ops);
        check_some(fdl_module_child(own, "fc1", fdl_nn_linear(2, 2)));
        assert_null(fdl_module_child(own, bad[i].name, fdl_nn_linear(2, 2)));
        check_error(FDL_E_ARG, "same", bad[i].word);
        assert_null(fdl_module_done(own));
        fdl_clear_error();
        assert_int_equal(fdl_live_tensors(), before);
    }
}

/* A name with dots can be another's path: that is told when it is saved. */
static void colliding_keys_are_told_at_save(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&same_ops), *inner = fdl_module_new(&same_ops);
    fdl_module_param(inner, "b.c", fdl_ones(FDL_SHAPE(2)));
    fdl_module_child(m, "a", fdl_module_done(inner));
    fdl_module_param(m, "a.b.c", fdl_ones(FDL_SHAPE(3)));
    m = fdl_module_done(m);
    check_some(m);
    char path[] = "/tmp/flodl-model-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(fdl_ckpt_save(m, path), FDL_E_ARG);
    check_error(FDL_E_ARG, "\"a.b.c\" and \"a.b.c\" would both be saved");
    remove(path);
    check_ok(fdl_module_free(m));
}

static fdl_status keep_first(fdl_module *m, const char *name, void *ctx)
{
    char *all = ctx;
    size_t n = strlen(all);
    snprintf(all + n, 512 - n, "%s=%s;", name, fdl_module_kind(m));
    return FDL_OK;
}

static fdl_status stop_at_relu(fdl_module *m, const char *name, void *ctx)
{
    (void)name;
    ++*(int *)ctx;
    return strcmp(fdl_module_kind(m), "relu") == 0 ? fdl_fail(FDL_E_STATE, "enough") : FDL_OK;
}

/* Each parameter's key is its module's name, "." and its leaf. */
static fdl_status has_its_parameters(fdl_module *m, const char *name, void *ctx)
{
    fdl_params *all = ctx;
    FDL_SCOPE;
    fdl_params *own = fdl_parameters(m, .match = "[!./]*");
    for (int i = 0; i < fdl_params_count(own); i++) {
        const char *leaf = fdl_param_name(fdl_params_at(own, i));
        if (strcmp(fdl_params_name(own, i), leaf) != 0)
            continue; /* a child's */
        char key[256], want[256];
        snprintf(want, sizeof want, "%s%s%s", name, *name ? "." : "", leaf);
        bool found = false;
        for (int k = 0; k < fdl_params_count(all); k++) {
            check_ok(fdl_state_key(fdl_params_name(all, k), key, sizeof key));
            found |= strcmp(key, want) == 0 && fdl_params_at(all, k) == fdl_params_at(own, i);
        }
        if (!found)
            fail_msg("no key %s", want);
    }
    return FDL_OK;
}

static fdl_status fill_linear(fdl_module *m, const char *name, void *ctx)
{
    (void)name;
    (void)ctx;
    return strcmp(fdl_module_kind(m), "linear") == 0 ? fdl_init_constant(weight_of(m), 0.25) : FDL_OK;
}

static void apply_reaches_each_module_with_its_name(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *shared = fdl_nn_linear(3, 3);
    fdl_module *m =
        new_mlp(new_mlp(fdl_nn_linear(2, 3), fdl_module_share(shared)), new_mlp(shared, fdl_nn_relu()));
    char all[512] = "";
    check_ok(fdl_module_apply(m, keep_first, all));
    assert_string_equal(all, "fc1.fc1=linear;fc1.fc2=linear;fc1=mlp;fc2.fc2=relu;fc2=mlp;=mlp;");
    int n = 0;
    assert_int_equal(fdl_module_apply(m, stop_at_relu, &n), FDL_E_STATE);
    check_error(FDL_E_STATE, "enough");
    assert_int_equal(n, 4);
    check_ok(fdl_module_apply(m, fill_linear, NULL));
    check_number(fdl_item(fdl_min(weight_of(shared))), 0.25, 0);
    check_ok(fdl_module_apply(m, has_its_parameters, fdl_parameters(m)));
    check_ok(fdl_module_free(m));

    fdl_module *g =
        fdl_flow(fdl_flow(fdl_nn_linear(2, 3), fdl_flow_tag("hidden"), fdl_flow_label("encoder")),
                 fdl_flow_also(fdl_nn_linear(3, 3)), new_mlp(fdl_nn_linear(3, 3), fdl_nn_linear(3, 3)),
                 fdl_flow_loop(fdl_nn_linear(3, 3), .n = 2));
    check_some(g);
    check_ok(fdl_module_apply(g, has_its_parameters, fdl_parameters(g)));
    check_ok(fdl_module_free(g));
    assert_int_equal(fdl_module_apply(NULL, keep_first, all), FDL_E_NULL);
    check_error(FDL_E_NULL, "m");
}

/* Names of versions 1 and 2 of checkpoints, in order. */
static void expect_legacy(fdl_module *m, bool buffers, int n, const char *const *names)
{
    FDL_SCOPE;
    fdl_params *ps = buffers ? fdl_buffers(m, .legacy = true) : fdl_parameters(m, .legacy = true);
    assert_int_equal(fdl_params_count(ps), n);
    for (int i = 0; i < n; i++)
        assert_string_equal(fdl_params_name(ps, i), names[i]);
    check_ok(fdl_module_free(m));
}

static void the_old_view_has_the_old_names(void **state)
{
    (void)state;
    static const char *const cell[] = {"w_ih", "w_hh", "b_ih", "b_hh"};
    static const char *const layers[] = {"w_ih", "w_hh", "b_ih", "b_hh", "w_ih", "w_hh", "b_ih", "b_hh"};
    static const char *const attention[] = {"q_proj.weight",   "k_proj.weight", "v_proj.weight",
                                            "q_proj.bias",     "k_proj.bias",   "v_proj.bias",
                                            "out_proj.weight", "out_proj.bias"};
    static const char *const norm[] = {"running_mean", "running_var"};
    expect_legacy(fdl_nn_gru_cell(3, 4), false, 4, cell);
    expect_legacy(fdl_nn_lstm_cell(3, 4), false, 4, cell);
    expect_legacy(fdl_nn_gru(3, 4, .layers = 2), false, 8, layers);
    expect_legacy(fdl_nn_lstm(3, 4), false, 4, cell);
    expect_legacy(fdl_nn_multihead_attention(4, 2), false, 8, attention);
    expect_legacy(fdl_nn_batch_norm2d(4), true, 2, norm);
}

/* ---- initial values ------------------------------------------------------------------------------- */

static void a_linear_begins_within_its_bound(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(16, 50, .no_bias = true);
    fdl_params *ps = fdl_parameters(m);
    assert_int_equal(fdl_params_count(ps), 1);
    fdl_tensor *size = fdl_abs(fdl_detach(weight_of(m)));
    assert_true(fdl_item(fdl_max(size)) <= 0.25); /* 1 / sqrt(16) */
    assert_true(fdl_item(fdl_max(size)) > 0.24);
    assert_float_equal(fdl_item(fdl_std(weight_of(m))), 0.25 / sqrt(3), 0.02);
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 15))));
    check_error(FDL_E_SHAPE, "15", "16");
    check_ok(fdl_module_free(m));
}

/* Three layers in one expression have PyTorch's values, drawn one layer after the other, whatever the compiler does with
 * arguments. */
static void a_seed_gives_a_flow_its_values_in_order(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char *const keys[] = {"0.weight", "0.bias", "2.weight", "2.bias", "4.weight", "4.bias"};
    fdl_manual_seed(600);
    fdl_module *m =
        fdl_flow(fdl_nn_linear(4, 8), fdl_nn_tanh(), fdl_nn_linear(8, 8), fdl_nn_tanh(), fdl_nn_linear(8, 2));
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < 6; i++)
        if (on_gpu)
            check_ok(fdl_param_set(fdl_params_at(ps, i), fixture_of("chain", "init", keys[i])));
        else
            expect_recorded(fdl_param_tensor(fdl_params_at(ps, i)), "chain", "init", keys[i], 0);
    fdl_tensor *y = fdl_forward(m, fixture_get("chain/x"));
    expect_recorded(y, "chain", "y", NULL, 1e-5);
    check_ok(fdl_backward(recorded_loss(y)));
    for (int i = 0; i < 6; i++)
        expect_recorded(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), "chain", "grad", keys[i], 2e-5);
    check_ok(fdl_module_free(m));
}

/* ---- errors that say where ------------------------------------------------------------------------ */

static void an_error_says_which_module_it_is_of(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *linear = fdl_nn_linear(3, 2);
    assert_null(fdl_forward(linear, fdl_ones(FDL_SHAPE(2, 4))));
    assert_int_equal(strncmp(fdl_last_error()->message, "linear: fdl_linear(", 19), 0);
    check_error(FDL_E_SHAPE, "[2, 4]", "[2, 3]");
    check_ok(fdl_module_free(linear));

    fdl_module *m = new_mlp(new_mlp(fdl_nn_linear(2, 3), fdl_nn_linear(4, 3)), fdl_nn_relu());
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2));
    assert_null(fdl_forward(m, x));
    assert_int_equal(strncmp(fdl_last_error()->message, "fc1.fc2, linear: fdl_linear(", 28), 0);
    check_error(FDL_E_SHAPE, "[1, 3]", "[3, 4]");
    fdl_fail(FDL_E_IO, "of before"); /* unread, and none of the module's */
    assert_null(fdl_forward(m, x));
    assert_string_equal(fdl_last_error()->message, "of before");
    fdl_clear_error();
    fdl_module *g = fdl_flow(fdl_nn_identity(), m);
    assert_null(fdl_forward(g, x));
    assert_int_equal(strncmp(fdl_last_error()->message, "mlp_2: fc1.fc2, linear: fdl_linear(", 35), 0);
    check_error(FDL_E_SHAPE, "mlp_2");
    fdl_module *over = new_mlp(fdl_nn_linear(2, 2), g);
    assert_null(fdl_forward(over, x));
    assert_int_equal(strncmp(fdl_last_error()->message, "fc2.mlp_2: fc1.fc2, linear: ", 28), 0);
    check_error(FDL_E_SHAPE, "fdl_linear");
    check_ok(fdl_module_free(over));
}

static void a_parameter_elsewhere_is_named(void **state)
{
    (void)state;
    if (!on_gpu) {
        print_message("skipped: no CUDA device\n");
        skip();
    }
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(3, 2, .device = FDL_CPU),
               *g = fdl_flow(fdl_nn_linear(3, 2, .device = FDL_CPU));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 3))));
    check_error(FDL_E_DEVICE, "linear: weight is on cpu, the input on cuda: ");
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(1, 3))));
    check_error(FDL_E_DEVICE, "linear_1: weight is on cpu, the input on cuda: ");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(g));
}

static void a_missing_module_keeps_the_first_error(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *y = fdl_forward(fdl_nn_linear(0, 2), fdl_ones(FDL_SHAPE(1, 2)));
    assert_null(y);
    check_error(FDL_E_ARG, "fdl_nn_linear", "in is 0");
    assert_null(fdl_forward(NULL, fdl_ones(FDL_SHAPE(1))));
    check_error(FDL_E_NULL, "fdl_forward");
}

/* ---- the checked mode ----------------------------------------------------------------------------- */

static void a_freed_module_is_told(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2));
    fdl_set_checked(true);
    fdl_module *m = fdl_nn_linear(2, 2), *again = fdl_module_share(m), *lstm = fdl_nn_lstm(2, 2);
    check_ok(fdl_module_free(m));
    check_some(fdl_forward(again, x)); /* it lives on */
    check_ok(fdl_module_free(again));
    check_ok(fdl_module_free(lstm));
    assert_null(fdl_forward(m, x));
    check_error(FDL_E_STATE, "this linear was freed");
    assert_null(fdl_forward(again, x));
    check_error(FDL_E_STATE, "this linear was freed");
    assert_null(fdl_nn_lstm_forward(lstm, x));
    check_error(FDL_E_STATE, "this lstm was freed");
    fdl_set_checked(false);
}

static void a_module_that_is_being_made_is_told(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2));
    fdl_set_checked(true);
    fdl_module *m = fdl_module_new(&same_ops);
    assert_null(fdl_forward(m, x));
    check_error(FDL_E_STATE, "this same is being made still", "fdl_module_done");
    check_some(fdl_module_done(m));
    check_some(fdl_forward(m, x));
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), m, fdl_nn_gelu());
    check_some(fdl_forward(g, x));
    check_ok(fdl_module_free(g));
    fdl_set_checked(false);
}

typedef struct meeting {
    sem_t inside, go;
    fdl_module *m;
    fdl_status status;
    char message[512];
} meeting;

static meeting met;

static fdl_tensor *wait_inside(void *self, fdl_tensor *x)
{
    (void)self;
    sem_post(&met.inside);
    sem_wait(&met.go);
    return fdl_forward(fdl_module_child_at(met.m, 0, NULL), x);
}

static void *run_too(void *ctx)
{
    (void)ctx;
    FDL_SCOPE;
    sem_wait(&met.inside);
    fdl_tensor *y = fdl_forward(met.m, fdl_ones(FDL_SHAPE(1)));
    const fdl_error *e = fdl_last_error();
    met.status = y ? FDL_OK : e->status;
    snprintf(met.message, sizeof met.message, "%s", e->message);
    sem_post(&met.go);
    return NULL;
}

static void two_threads_in_one_module_are_told(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_module_ops ops = {.kind = "waiting", .forward = wait_inside};
    sem_init(&met.inside, 0, 0);
    sem_init(&met.go, 0, 0);
    met.m = fdl_module_new(&ops);
    check_some(fdl_module_child(met.m, "inner", fdl_nn_relu()));
    check_some(fdl_module_done(met.m));
    fdl_set_checked(true);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_too, NULL), 0);
    check_some(fdl_forward(met.m, fdl_ones(FDL_SHAPE(1))));
    pthread_join(thread, NULL);
    assert_int_equal(met.status, FDL_E_STATE);
    char mine[32];
    snprintf(mine, sizeof mine, "thread %d runs", (int)gettid());
    assert_non_null(strstr(met.message, mine));
    assert_non_null(strstr(met.message, "this waiting, and thread "));
    sem_post(&met.go); /* one after the other is fine */
    check_some(fdl_forward(met.m, fdl_ones(FDL_SHAPE(1))));
    fdl_set_checked(false);
    check_ok(fdl_module_free(met.m));
}

/* ---- under an optimizer --------------------------------------------------------------------------- */

static void train_once(fdl_module *m, fdl_optim *opt, fdl_tensor *x)
{
    FDL_SCOPE;
    check_ok(fdl_optim_zero_grad(opt));
    check_ok(fdl_backward(fdl_sum(fdl_forward(m, x))));
    check_ok(fdl_optim_step(opt));
}

static void a_frozen_parameter_stays_and_goes_on_when_thawed(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = new_mlp(fdl_nn_linear(2, 3), fdl_nn_linear(3, 2));
    fdl_optim *opt = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1, .momentum = 0.9, .weight_decay = 0.1);
    fdl_tensor *x = fdl_ones(FDL_SHAPE(4, 2));
    fdl_module *fc1 = fdl_module_child_at(m, 0, NULL);
    fdl_tensor *w = weight_of(fc1), *other = weight_of(fdl_module_child_at(m, 1, NULL));
    train_once(m, opt, x);
    assert_non_null(fdl_grad(w));
    check_ok(fdl_freeze(fc1));
    assert_true(fdl_is_frozen(fc1));
    assert_false(fdl_is_frozen(m));
    assert_null(fdl_grad(w)); /* the old one is gone with it */
    fdl_clear_error();
    fdl_tensor *before = fdl_clone(fdl_detach(w)), *moved = fdl_clone(fdl_detach(other));
    train_once(m, opt, x);
    assert_true(fdl_same(w, before)); /* no decay, no momentum either */
    assert_false(fdl_same(other, moved));
    assert_null(fdl_grad(w));
    fdl_clear_error();
    check_ok(fdl_thaw(fc1));
    train_once(m, opt, x);
    assert_false(fdl_same(w, before));
    fdl_module *empty = fdl_nn_relu();
    assert_false(fdl_is_frozen(empty));
    check_ok(fdl_freeze(m));
    fdl_optim *none = fdl_optim_sgd(fdl_parameters_trainable(m), .lr = 0.1);
    check_some(none);
    check_ok(fdl_optim_step(none)); /* of nothing: nothing happens */
    check_ok(fdl_optim_zero_grad(none));
    fdl_optim_free(none);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(empty));
    check_ok(fdl_module_free(m));
}

static void what_is_set_is_what_an_optimizer_goes_on_from(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(2, 1, .no_bias = true);
    fdl_param *p = fdl_module_own_param(m, "weight");
    fdl_tensor *w = fdl_param_tensor(p);
    fdl_optim *opt = fdl_optim_sgd(fdl_parameters(m), .lr = 0.5);
    uint64_t place = fdl_fingerprint(w); /* tells where it lies */
    check_ok(fdl_param_set(p, fdl_reshape(fdl_vec(3, 5), FDL_SHAPE(1, 2))));
    assert_true(fdl_fingerprint(w) == place);
    assert_true(fdl_requires_grad(w));
    assert_int_equal(fdl_param_set(p, fdl_ones(FDL_SHAPE(2, 1))), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "weight", "[1, 2]", "[2, 1]");
    train_once(m, opt, fdl_ones(FDL_SHAPE(1, 2)));
    assert_true(fdl_allclose(w, fdl_reshape(fdl_vec(2.5, 4.5), FDL_SHAPE(1, 2))));
    fdl_optim_free(opt);
    check_ok(fdl_module_free(m));

    fdl_module *norm = fdl_nn_batch_norm1d(2); /* buffers likewise */
    fdl_buffer *b = fdl_module_own_buffer(norm, "running_mean");
    check_ok(fdl_param_set(b, fdl_vec(1, 2)));
    assert_true(fdl_same(fdl_param_tensor(b), fdl_vec(1, 2)));
    assert_int_equal(fdl_param_set(b, fdl_vec(1, 2, 3)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "running_mean", "[3]");
    check_ok(fdl_module_free(norm));
}

static void a_model_is_freed_before_or_after_its_optimizer(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    for (int order = 0; order < 2; order++) {
        FDL_SCOPE;
        fdl_module *m = new_mlp(fdl_nn_linear(2, 3), fdl_nn_linear(3, 2));
        fdl_optim *opt = fdl_optim_adam(fdl_parameters(m), .lr = 0.1);
        train_once(m, opt, fdl_ones(FDL_SHAPE(4, 2)));
        if (order)
            fdl_optim_free(opt);
        check_ok(fdl_module_free(m));
        if (!order) {
            check_ok(fdl_optim_step(opt)); /* its parameters live as long as it does */
            fdl_optim_free(opt);
        }
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* A weight that is computed before each run is so in the functions that give more than one result, too. */
static void other_ways_into_a_forward_compute_as_well(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3)), *steps = fdl_randn(FDL_SHAPE(4, 2, 3)),
               *h = fdl_zeros(FDL_SHAPE(2, 4));
    fdl_module *gru_cell = fdl_nn_gru_cell(3, 4), *lstm_cell = fdl_nn_lstm_cell(3, 4),
               *gru = fdl_nn_gru(3, 4);
    fdl_module *bag = fdl_nn_embedding_bag(5, 2);
    fdl_module *all[] = {gru_cell, lstm_cell, gru, bag};
    static const char *const names[] = {"weight_hh", "weight_ih", "weight_ih_l0", "weight"};
    for (int i = 0; i < 4; i++) {
        check_ok(fdl_weight_norm(all[i], names[i]));
        fdl_params *ps = fdl_parameters(all[i]);
        for (int k = 0; k < fdl_params_count(ps); k++) /* so that nothing that was computed before fits */
            check_ok(fdl_init_uniform(fdl_param_tensor(fdl_params_at(ps, k)), 0.1, 1));
    }
    assert_true(fdl_same(fdl_nn_gru_cell_forward(gru_cell, x, .h = h), fdl_forward(gru_cell, x)));
    assert_true(fdl_same(fdl_nn_lstm_cell_forward(lstm_cell, x, h, h, NULL), fdl_forward(lstm_cell, x)));
    assert_true(fdl_same(fdl_nn_gru_forward(gru, steps), fdl_forward(gru, steps)));
    fdl_packed *p = fdl_pack_padded(steps, fdl_to_device(fdl_ivec(4, 4), FDL_CPU));
    fdl_tensor *y = fdl_pad_packed(fdl_nn_gru_forward_packed(gru, p));
    assert_true(fdl_allclose(y, fdl_forward(gru, steps), .atol = 1e-6));
    check_ok(fdl_backward(fdl_sum(y)));
    fdl_tensor *i = fdl_ivec(1, 2, 3, 0);
    assert_true(fdl_same(fdl_nn_embedding_bag_forward(bag, i, fdl_ivec(0, 2)),
                         fdl_forward(bag, fdl_reshape(i, FDL_SHAPE(2, 2)))));
    for (int k = 0; k < 4; k++)
        check_ok(fdl_module_free(all[k]));
}

/* ---- scopes and freeing --------------------------------------------------------------------------- */

static int64_t alive[50];
static int layer;

static fdl_tensor *looking(fdl_tensor *x)
{
    fdl_tensor *y = fdl_tanh(fdl_mul(x, 2.0)); /* one temporary */
    alive[layer++] = fdl_live_tensors();
    return y;
}

typedef struct chain {
    fdl_module *at[50];
} chain;

static fdl_tensor *chain_forward(void *self, fdl_tensor *x)
{
    chain *m = self;
    for (int i = 0; i < 50; i++) {
        fdl_tensor *y = fdl_forward(m->at[i], x);
        fdl_drop(x);
        x = y;
    }
    return x;
}

/* No handle is left of a layer but its result: what a recorded graph saves it holds itself, as in PyTorch. */
static void a_deep_chain_holds_one_value(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const fdl_module_ops ops = {.kind = "chain", .size = sizeof(chain), .forward = chain_forward};
    fdl_module *m = fdl_module_new(&ops);
    chain *self = fdl_module_self(m);
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        self->at[i] = fdl_module_child(m, name, fdl_nn_fn(looking));
    }
    check_some(fdl_module_done(m));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(3));
    check_ok(fdl_requires_grad_(x, true));
    int64_t before = fdl_live_tensors();
    fdl_tensor *y = fdl_forward(m, x);
    assert_int_equal(layer, 50);
    for (int i = 1; i < 50; i++)
        assert_int_equal(alive[i], before + 3); /* the layer's input, its temporary and its result */
    assert_int_equal(fdl_live_tensors(), before + 1);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_non_null(fdl_grad(x));
    check_ok(fdl_module_free(m));
}

static int freed;
static void count_free(void *self)
{
    (void)self;
    freed++;
}
static const fdl_module_ops counted_ops = {.kind = "counted", .forward = same_forward, .free = count_free};

static fdl_module *counted(void)
{
    return fdl_module_done(fdl_module_new(&counted_ops));
}

/* Each constructor that takes modules frees them where it fails. */
static void what_a_failed_constructor_was_given_is_freed(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    assert_null(new_mlp(counted(), fdl_nn_linear(0, 1)));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_nn_list(counted(), fdl_nn_linear(0, 1), counted()));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_flow(counted(), fdl_nn_linear(0, 1), counted()));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_flow(fdl_flow_also(counted(), .skip = fdl_nn_linear(0, 1))));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_flow(fdl_flow_split(counted(), fdl_nn_linear(0, 1)), fdl_flow_merge(FDL_MERGE_ADD)));
    check_error(FDL_E_ARG, "in is 0");
    assert_null(fdl_nn_lora(counted(), 4));
    check_error(FDL_E_ARG, "counted");
    assert_int_equal(freed, 8);
    fdl_module *encoder = fdl_nn_transformer_encoder_layer(4, 2, .ff = 4);
    assert_null(fdl_nn_transformer_encoder(encoder, 0));
    check_error(FDL_E_ARG, "n is 0");
    assert_null(fdl_nn_transformer_encoder(counted(), 2));
    check_error(FDL_E_ARG, "counted");
    assert_int_equal(freed, 9);
    assert_int_equal(fdl_live_tensors(), before);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(children_give_keys),
        cmocka_unit_test(colliding_keys_are_told_at_save),
        cmocka_unit_test(apply_reaches_each_module_with_its_name),
        cmocka_unit_test(the_old_view_has_the_old_names),
        cmocka_unit_test(a_linear_begins_within_its_bound),
        cmocka_unit_test(a_seed_gives_a_flow_its_values_in_order),
        cmocka_unit_test(an_error_says_which_module_it_is_of),
        cmocka_unit_test(a_parameter_elsewhere_is_named),
        cmocka_unit_test(a_missing_module_keeps_the_first_error),
        cmocka_unit_test(a_freed_module_is_told),
        cmocka_unit_test(a_module_that_is_being_made_is_told),
        cmocka_unit_test(two_threads_in_one_module_are_told),
        cmocka_unit_test(a_frozen_parameter_stays_and_goes_on_when_thawed),
        cmocka_unit_test(what_is_set_is_what_an_optimizer_goes_on_from),
        cmocka_unit_test(a_model_is_freed_before_or_after_its_optimizer),
        cmocka_unit_test(other_ways_into_a_forward_compute_as_well),
        cmocka_unit_test(a_deep_chain_holds_one_value),
        cmocka_unit_test(what_a_failed_constructor_was_given_is_freed),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
