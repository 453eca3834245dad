/* Training steps as CUDA graphs: a trainer that captures does what one does that doesn't, for each kind of step; it never
 * replays what is out of date; what can't be captured runs eagerly, with the reason. */
#include "job.h"

enum { STEPS = 14 };

/* ---- captured and eager do the same ---------------------------------------------------------------------- */

/* STEPS steps both ways; the last twelve of the captured trainer's are replays. */
static void both_ways(const char *what, optim_fn *make, fdl_loss_fn loss, fdl_trainer_opts o,
                      bool host_batches, double tolerance)
{
    FDL_SCOPE;
    fdl_trainer_opts off = o;
    off.capture = FDL_CAPTURE_OFF;
    fdl_amp_scaler *scalers[2] = {NULL, NULL};
    if (o.scaler) {
        scalers[0] = fdl_amp_scaler_new(.init_scale = 1e4, .interval = 5);
        scalers[1] = fdl_amp_scaler_new(.init_scale = 1e4, .interval = 5);
        o.scaler = scalers[0];
        off.scaler = scalers[1];
    }
    o.capture = FDL_CAPTURE_REQUIRE;
    check_ok(fdl_manual_seed(3));
    job a = job_new(tower(false), make, loss, o);
    check_ok(fdl_manual_seed(3));
    job b = job_new(tower(false), make, loss, off);
    fdl_ema *ema[2] = {NULL, NULL};
    for (int t = 0; t < STEPS; t++) {
        check_ok(step_with(a.tr, t, 8, host_batches ? FDL_CPU : GPU));
        check_ok(step_with(b.tr, t, 8, host_batches ? FDL_CPU : GPU));
        double x, y;
        check_ok(fdl_trainer_loss(a.tr, &x));
        check_ok(fdl_trainer_loss(b.tr, &y));
        if (!(fabs(x - y) <= tolerance * (1 + fabs(y))))
            fail_msg("%s: the loss of step %d is %.9g, eagerly %.9g", what, t + 1, x, y);
    }
    double x, y;
    check_ok(fdl_trainer_mean_loss(a.tr, &x));
    check_ok(fdl_trainer_mean_loss(b.tr, &y));
    assert_true(fabs(x - y) <= tolerance * (1 + fabs(y)));
    assert_int_equal(fdl_trainer_steps(a.tr), STEPS);
    expect_equal_models(a.model, b.model, tolerance, what);
    expect_plan(a.tr, "captured");
    expect_plan(a.tr, "10 steps replayed");
    expect_no_plan(b.tr, "captured,");
    (void)ema;
    job_free(&a);
    job_free(&b);
    fdl_amp_scaler_free(scalers[0]);
    fdl_amp_scaler_free(scalers[1]);
}

static fdl_tensor *overflows(fdl_module *m, fdl_list batch, void *ctx)
{
    (void)ctx;
    /* some batches have a large element: the scaled gradients overflow float16 there */
    fdl_tensor *big = fdl_exp(fdl_mul(fdl_amax(batch.at[0], FDL_DIMS(0, 1)), 12));
    return fdl_mul(fdl_mse_loss(fdl_forward(m, batch.at[0]), batch.at[1]), fdl_clamp_min(big, 1));
}

static fdl_optim *rmsprop(fdl_params *p)
{
    return fdl_optim_rmsprop(p, .lr = 1e-2, .momentum = 0.9, .centered = true);
}

static fdl_optim *nadam(fdl_params *p)
{
    return fdl_optim_nadam(p, .lr = 1e-2);
}

/* Its second formula takes over at step 6, which is one of those replayed. */
static fdl_optim *radam(fdl_params *p)
{
    return fdl_optim_radam(p, .lr = 1e-2, .weight_decay = 1e-2, .decoupled = true);
}

static void captured_is_eager(void **state)
{
    (void)state;
    need_gpu();
    both_ways("adam", adam, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("adamw", adamw, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("momentum", momentum, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("rmsprop", rmsprop, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("nadam", nadam, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("radam", radam, loss_of, (fdl_trainer_opts){0}, false, 1e-5);
    both_ways("clipped", adam, loss_of, (fdl_trainer_opts){.clip_norm = 0.05}, false, 1e-5);
    both_ways("clipped values", momentum, loss_of, (fdl_trainer_opts){.clip_value = 0.01}, false, 1e-5);
    both_ways("batches of the host", adam, loss_of, (fdl_trainer_opts){0}, true, 1e-5);
    both_ways("bfloat16", adam, loss_of, (fdl_trainer_opts){.autocast = FDL_BFLOAT16}, false, 1e-4);
    fdl_sched *s = fdl_sched_cosine(1e-2, 1e-4, STEPS);
    check_some(s);
    both_ways("cosine", adam, loss_of, (fdl_trainer_opts){.sched = s}, false, 1e-5);
    fdl_sched_free(s);
    s = fdl_sched_one_cycle(1e-2, STEPS);
    check_some(s);
    both_ways("one cycle, which moves momentum", adam, loss_of, (fdl_trainer_opts){.sched = s}, false, 1e-5);
    both_ways("one cycle, nadam", nadam, loss_of, (fdl_trainer_opts){.sched = s}, false, 1e-5);
    fdl_sched_free(s);
    both_ways("float16 with overflows", adam, overflows,
              (fdl_trainer_opts){.autocast = FDL_FLOAT16, .scaler = (fdl_amp_scaler *)1}, false, 1e-3);
}

static void averages(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    double means[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(4));
        fdl_module *m = tower(false);
        check_some(m);
        check_ok(fdl_module_to(m, GPU));
        fdl_ema *ema = fdl_ema_new(m, 0.9, .warmup = true);
        check_some(ema);
        fdl_optim *opt = adam(fdl_parameters(m));
        fdl_trainer *tr = fdl_trainer_new(m, opt, loss_of, .ema = ema,
                                          .capture = k ? FDL_CAPTURE_OFF : FDL_CAPTURE_REQUIRE);
        check_some(tr);
        for (int t = 0; t < STEPS; t++)
            check_ok(step_with(tr, t, 8, GPU));
        fdl_tensor *w = fdl_param_tensor(fdl_params_at(fdl_parameters(m), 0));
        means[k] = fdl_item(fdl_sum(fdl_abs(fdl_ema_shadow(ema, w))));
        if (k == 0) { /* the average in the model: an update must be refused, not replayed */
            check_ok(fdl_ema_apply(ema));
            assert_int_equal(step_with(tr, 0, 8, GPU), FDL_E_STATE);
            fdl_clear_error();
            check_ok(fdl_ema_restore(ema));
            check_ok(step_with(tr, 0, 8, GPU));
        }
        fdl_trainer_free(tr);
        fdl_optim_free(opt);
        fdl_ema_free(ema);
        check_ok(fdl_module_free(m));
    }
    assert_true(fabs(means[0] - means[1]) <= 1e-4 * means[1]);
}

/* Tied and frozen parameters. */
static fdl_module *tied(void)
{
    fdl_module *shared = fdl_nn_linear(16, 16);
    return fdl_flow(fdl_flow_loop(shared, .n = 2), fdl_nn_gelu(), fdl_nn_linear(16, 16),
                    fdl_nn_layer_norm(16), fdl_nn_linear(16, 4));
}

static void tied_and_frozen_parameters(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    job j[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(8));
        fdl_module *m = tied();
        check_some(m);
        fdl_params *all = fdl_parameters(m);
        fdl_param_freeze(fdl_params_at(all, 2));
        j[k] = job_new(m, adamw, loss_of,
                       (fdl_trainer_opts){.capture = k ? FDL_CAPTURE_OFF : FDL_CAPTURE_REQUIRE});
        for (int t = 0; t < STEPS; t++)
            check_ok(step_with(j[k].tr, t, 8, GPU));
    }
    expect_equal_models(j[0].model, j[1].model, 1e-5, "tied and frozen");
    expect_plan(j[0].tr, "captured");
    job_free(&j[0]);
    job_free(&j[1]);
}

/* ---- several batches a step ------------------------------------------------------------------------------- */

/* Groups of 4, captured and eager; the batches of one group in `odd` have another shape. */
static void groups(const char *what, optim_fn *make, fdl_trainer_opts o, int odd)
{
    FDL_SCOPE;
    enum { GROUPS = 16, EACH = 4 };
    o.accumulate = EACH;
    job j[2];
    for (int k = 0; k < 2; k++) {
        o.capture = k ? FDL_CAPTURE_OFF : FDL_CAPTURE_REQUIRE;
        check_ok(fdl_manual_seed(9));
        j[k] = job_new(tower(false), make, loss_of, o);
    }
    for (int t = 0; t < GROUPS * EACH; t++) {
        int64_t rows = odd && t / EACH % odd == odd - 1 ? 5 : 8;
        double loss[2];
        for (int k = 0; k < 2; k++) {
            check_ok(step_with(j[k].tr, t, rows, GPU));
            check_ok(fdl_trainer_loss(j[k].tr, &loss[k]));
        }
        if (!(fabs(loss[0] - loss[1]) <= 2e-5 * (1 + fabs(loss[1]))))
            fail_msg("%s: the loss of batch %d is %.9g, eagerly %.9g", what, t + 1, loss[0], loss[1]);
    }
    /* a short group at the end */
    for (int k = 0; k < 2; k++) {
        for (int t = 0; t < 2; t++)
            check_ok(step_with(j[k].tr, 100 + t, 8, GPU));
        check_ok(fdl_trainer_flush(j[k].tr));
        assert_int_equal(fdl_trainer_steps(j[k].tr), GROUPS + 1);
        check_ok(step_with(j[k].tr, 110, 8, GPU));
        check_ok(fdl_trainer_flush(j[k].tr));
    }
    expect_equal_models(j[0].model, j[1].model, 2e-5, what);
    double mean[2];
    for (int k = 0; k < 2; k++)
        check_ok(fdl_trainer_mean_loss(j[k].tr, &mean[k]));
    assert_true(fabs(mean[0] - mean[1]) <= 1e-5 * (1 + fabs(mean[1])));
    expect_plan(j[0].tr, "first of a group: captured");
    expect_plan(j[0].tr, "in the midst of a group: captured");
    expect_plan(j[0].tr, "last of a group: captured");
    job_free(&j[0]);
    job_free(&j[1]);
}

static void groups_are_captured(void **state)
{
    (void)state;
    need_gpu();
    groups("groups, adam", adam, (fdl_trainer_opts){0}, 0);
    groups("groups, momentum, clipped", momentum, (fdl_trainer_opts){.clip_norm = 0.05}, 0);
    groups("groups of two shapes", adam, (fdl_trainer_opts){0}, 3);
    groups("groups that may be left out", adamw, (fdl_trainer_opts){.on_nonfinite = FDL_NONFINITE_SKIP}, 0);
}

/* A change between two batches of one group. */
static void a_group_that_changes(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    job j[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(10));
        j[k] =
            job_new(tower(false), adam, loss_of,
                    (fdl_trainer_opts){.accumulate = 3, .capture = k ? FDL_CAPTURE_OFF : FDL_CAPTURE_AUTO});
        for (int t = 0; t < 60; t++) {
            FDL_SCOPE;
            fdl_param *p = fdl_params_at(fdl_parameters(j[k].model), 4);
            if (t == 31)
                fdl_param_freeze(p);
            if (t == 44)
                fdl_param_thaw(p);
            if (t == 50) { /* a gradient of the caller's in the midst of a group */
                fdl_tensor *w = fdl_param_tensor(p);
                check_ok(fdl_set_grad(w, fdl_full_like(w, 0.125)));
            }
            check_ok(step_with(j[k].tr, t, 8, GPU));
        }
    }
    expect_equal_models(j[0].model, j[1].model, 2e-5, "a group that changes");
    job_free(&j[0]);
    job_free(&j[1]);
}

/* ---- losses are read before the step ends ------------------------------------------------------------------ */

/* Large enough for the host to read long before the backward is through: the numbers must be those of the step. */
static void losses_are_those_of_their_steps(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    enum { WIDE = 2048, ROWS = 512, BATCHES = 5, MANY = 300 };
    fdl_tensor *xy[BATCHES][2];
    for (int i = 0; i < BATCHES; i++) {
        xy[i][0] = fdl_full(FDL_SHAPE(ROWS, WIDE), 0.1 * (i + 1), .device = GPU);
        xy[i][1] = fdl_zeros(FDL_SHAPE(ROWS, WIDE), .device = GPU);
    }
    fdl_module *m = fdl_flow(fdl_nn_linear(WIDE, WIDE), fdl_flow_loop(fdl_nn_linear(WIDE, WIDE), .n = 6));
    job j = job_new(m, momentum, loss_of, (fdl_trainer_opts){.capture = FDL_CAPTURE_REQUIRE});
    check_ok(fdl_optim_set_lr(j.opt, 0)); /* each batch has one loss for ever */
    double want[BATCHES];
    for (int t = 0; t < MANY; t++) {
        int i = t % BATCHES;
        double loss;
        check_ok(fdl_trainer_step(j.tr, FDL_LIST(xy[i][0], xy[i][1])));
        check_ok(fdl_trainer_loss(j.tr, &loss));
        if (t < BATCHES)
            want[i] = loss;
        else if (!(fabs(loss - want[i]) <= 1e-5 * fabs(want[i])))
            fail_msg("the loss of step %d is %.9g, which should be %.9g", t + 1, loss, want[i]);
    }
    for (int i = 1; i < BATCHES; i++)
        assert_true(fabs(want[i] - want[i - 1]) > 1e-3 * fabs(want[i]));
    job_free(&j);
}

/* A loss that isn't finite, in a replay: reported as its step, whenever it is read. */
static void a_replayed_loss_that_is_not_finite(void **state)
{
    (void)state;
    need_gpu();
    for (int later = 0; later < 3; later++) {
        FDL_SCOPE;
        job j = job_new(tower(false), adam, loss_of, (fdl_trainer_opts){.capture = FDL_CAPTURE_REQUIRE});
        for (int t = 0; t < 9 + later; t++) {
            FDL_SCOPE;
            fdl_tensor *xy[2];
            batch_of(t, 8, GPU, xy);
            if (t == 8)
                xy[0] = fdl_mul(xy[0], (double)INFINITY);
            check_ok(fdl_trainer_step(j.tr, FDL_LIST(xy[0], xy[1])));
        }
        double loss;
        assert_int_equal(fdl_trainer_loss(j.tr, &loss), FDL_E_ARG);
        check_error(FDL_E_ARG, "step 9", "not finite");
        job_free(&j);
    }
}

/* ---- a capture that fails ---------------------------------------------------------------------------------- */

/* A chain of operations, one of which is read on the host: only while the step is recorded, so that no watch sees it. */
typedef struct plant {
    int at, calls;
} plant;

static fdl_tensor *planted(fdl_module *m, fdl_list batch, void *ctx)
{
    plant *p = ctx;
    int n = 0;
    fdl_tensor *x = fdl_forward(m, batch.at[0]);
#define STEP(next)                                          \
    do {                                                    \
        x = (next);                                         \
        if (x && n++ == p->at && fdl_cuda_is_capturing()) { \
            p->calls++;                                     \
            if (isnan(fdl_item(fdl_sum(x))))                \
                return NULL;                                \
        }                                                   \
    } while (0)
    STEP(fdl_mul(x, 1.5));
    STEP(fdl_dropout(x, 0.25, .training = true));
    STEP(fdl_gelu(x));
    STEP(fdl_add(x, fdl_randn_like(x)));
    STEP(fdl_softmax(x, -1));
    STEP(fdl_sub(x, batch.at[1]));
    STEP(fdl_square(x));
    STEP(fdl_mean(x));
#undef STEP
    return x;
}

static void failed_captures_leave_no_trace(void **state)
{
    (void)state;
    need_gpu();
    int64_t reserved[2] = {0, 0};
    for (int at = 0; at < 8; at++) {
        FDL_SCOPE;
        plant p = {.at = at};
        int64_t live = fdl_live_tensors();
        job j = job_new(tower(true), adam, planted, (fdl_trainer_opts){.ctx = &p});
        for (int t = 0; t < 10; t++)
            check_ok(step_with(j.tr, t, 8, GPU));
        assert_int_equal(p.calls, 1);
        expect_plan(j.tr, "the capture failed");
        assert_int_equal(fdl_trainer_steps(j.tr), 10);
        assert_true(isfinite(loss_after(j.tr, 10, 8)));
        {
            FDL_SCOPE;
            fdl_tensor *d = fdl_dropout(fdl_ones(FDL_SHAPE(64), .device = GPU), 0.5, .training = true);
            check_some(d); /* the generator knows that no capture is open */
        }
        assert_false(fdl_cuda_is_capturing());
        job_free(&j);
        assert_int_equal(fdl_live_tensors(), live);
        check_ok(fdl_cuda_empty_cache());
        check_ok(fdl_cuda_memory_reserved(0, &reserved[at > 0]));
        if (at > 1)
            assert_true(reserved[1] <= reserved[0] + (2 << 20));
        else
            reserved[0] = reserved[at > 0];
    }
}

static void dropout_draws_anew(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(5));
    job j = job_new(tower(true), momentum, loss_of, (fdl_trainer_opts){.capture = FDL_CAPTURE_REQUIRE});
    check_ok(fdl_optim_set_lr(j.opt, 0));
    for (int t = 0; t < 5; t++)
        check_ok(step_with(j.tr, 0, 8, GPU));
    double a = loss_after(j.tr, 0, 8), b = loss_after(j.tr, 0, 8), c = loss_after(j.tr, 0, 8);
    assert_true(a != b && b != c && a != c);
    expect_plan(j.tr, "captured");
    job_free(&j);
}

/* ---- never out of date ----------------------------------------------------------------------------------- */

/* Captures, changes something, and goes on; an eager twin does the same. */
static void after_a_change(const char *what, void (*change)(job *j))
{
    FDL_SCOPE;
    job j[2];
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_manual_seed(6));
        j[k] = job_new(tower(false), adam, loss_of,
                       (fdl_trainer_opts){.capture = k ? FDL_CAPTURE_OFF : FDL_CAPTURE_AUTO});
        for (int t = 0; t < 7; t++)
            check_ok(step_with(j[k].tr, t, 8, GPU));
        if (k == 0)
            expect_plan(j[k].tr, "captured");
        change(&j[k]);
        for (int t = 7; t < 16; t++)
            check_ok(step_with(j[k].tr, t, 8, GPU));
    }
    expect_equal_models(j[0].model, j[1].model, 2e-5, what);
    job_free(&j[0]);
    job_free(&j[1]);
}

static fdl_param *second(job *j)
{
    return fdl_params_at(fdl_parameters(j->model), 4);
}

static void freezes(job *j)
{
    fdl_param_freeze(second(j));
}

static void evaluates(job *j)
{
    check_ok(fdl_eval(j->model));
}

static void changes_decay(job *j)
{
    check_ok(fdl_optim_set_option(j->opt, 0, "weight_decay", 0.1));
}

static void changes_rate(job *j)
{
    check_ok(fdl_optim_set_lr(j->opt, 1e-3));
}

static void drops_gradients(job *j)
{
    check_ok(fdl_optim_zero_grad(j->opt));
}

static void replaces_values(job *j)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *w = fdl_param_tensor(second(j));
    check_ok(fdl_copy_(w, fdl_full_like(w, 0.01)));
}

static void moves_away_and_back(job *j)
{
    check_ok(fdl_module_to(j->model, FDL_CPU));
    check_ok(step_with(j->tr, 1, 8, FDL_CPU));
    check_ok(fdl_module_to(j->model, GPU));
}

static void casts(job *j)
{
    check_ok(fdl_module_to(j->model, GPU, .dtype = FDL_FLOAT64));
    check_ok(fdl_module_to(j->model, GPU, .dtype = FDL_FLOAT32));
}

static void changes_are_never_missed(void **state)
{
    (void)state;
    need_gpu();
    after_a_change("freezing", freezes);
    after_a_change("eval mode", evaluates);
    after_a_change("weight decay", changes_decay);
    after_a_change("the rate", changes_rate);
    after_a_change("dropped gradients", drops_gradients);
    after_a_change("replaced values", replaces_values);
    after_a_change("moved away and back", moves_away_and_back);
    after_a_change("cast and back", casts);
}

static void shapes_have_plans_of_their_own(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    job a = job_new(tower(false), adam, loss_of,
                    (fdl_trainer_opts){.capture = FDL_CAPTURE_REQUIRE, .max_plans = 2});
    check_ok(fdl_manual_seed(7));
    job b = job_new(tower(false), adam, loss_of, (fdl_trainer_opts){.capture = FDL_CAPTURE_OFF});
    static const int64_t rows[] = {8, 8, 8, 8, 8, 5, 5, 5, 5, 5, 8, 8, 5, 8, 3, 3, 3, 3, 3, 8, 8, 8, 8, 8};
    for (size_t t = 0; t < sizeof rows / sizeof *rows; t++) {
        double x = loss_after(a.tr, (int)t, rows[t]), y = loss_after(b.tr, (int)t, rows[t]);
        if (fabs(x - y) > 2e-5 * (1 + fabs(y)))
            fail_msg("step %d, %d rows: %.9g, eagerly %.9g", (int)t, (int)rows[t], x, y);
        if (t == 13) {
            expect_plan(a.tr, "[8, 16] float32, [8, 4] float32: captured");
            expect_plan(a.tr, "[5, 16] float32, [5, 4] float32: captured");
            expect_plan(a.tr, "4 steps replayed"); /* of 8 rows: two before and two after the others */
        }
        if (t == 18)
            expect_no_plan(a.tr, "[5, 16]"); /* the oldest of three left */
    }
    expect_equal_models(a.model, b.model, 5e-5, "shapes");
    job_free(&a);
    job_free(&b);
}

/* ---- what can't be captured -------------------------------------------------------------------------------- */

static fdl_tensor *reads(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *l = loss_of(m, batch, ctx);
    return fdl_item(l) > 1e9 ? fdl_mul(l, 2) : l;
}

static fdl_tensor *depends_on_data(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *l = loss_of(m, batch, ctx);
    return fdl_add(l, fdl_mul(fdl_sum(fdl_float(fdl_nonzero(fdl_gt(batch.at[0], 2)))), 0));
}

static fdl_tensor *takes_from_the_host(fdl_module *m, fdl_list batch, void *ctx)
{
    fdl_tensor *l = loss_of(m, batch, ctx);
    return fdl_add(l, fdl_sum(fdl_to_device(fdl_zeros(FDL_SHAPE(3), .device = FDL_CPU), GPU)));
}

static fdl_tensor *counts(fdl_module *m, fdl_list batch, void *ctx)
{
    int *n = ctx;
    return fdl_mul(loss_of(m, batch, NULL), 1.0 / ++*n);
}

static fdl_tensor *changes_path(fdl_module *m, fdl_list batch, void *ctx)
{
    int *n = ctx;
    fdl_tensor *l = loss_of(m, batch, NULL);
    return ++*n % 2 ? l : fdl_mul(fdl_relu(l), 1);
}

static void reasons(void **state)
{
    (void)state;
    need_gpu();
    static const struct {
        fdl_loss_fn loss;
        const char *words[2];
    } cases[] = {{reads, {"aten::_local_scalar_dense", "on the host"}},
                 {depends_on_data, {"aten::nonzero", "depends on the data"}},
                 {takes_from_the_host, {"aten::copy_", "of the host to the device"}},
                 {counts, {"aten::mul", "other arguments"}},
                 {changes_path, {"aten::relu", "in the next"}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FDL_SCOPE;
        int n = 0;
        job j = job_new(tower(false), adam, cases[i].loss, (fdl_trainer_opts){.ctx = &n});
        for (int t = 0; t < 8; t++)
            check_ok(step_with(j.tr, t, 8, GPU));
        expect_plan(j.tr, "not captured");
        for (int k = 0; k < 2; k++)
            expect_plan(j.tr, cases[i].words[k]);
        assert_int_equal(fdl_trainer_steps(j.tr), 8);
        job_free(&j);

        n = 0;
        j = job_new(tower(false), adam, cases[i].loss,
                    (fdl_trainer_opts){.ctx = &n, .capture = FDL_CAPTURE_REQUIRE});
        fdl_status status = FDL_OK;
        for (int t = 0; t < 8 && status == FDL_OK; t++)
            status = step_with(j.tr, t, 8, GPU);
        assert_int_equal(status, FDL_E_STATE);
        check_error(FDL_E_STATE, "can't be captured", cases[i].words[0]);
        job_free(&j);
    }
}

/* A parameter that no optimizer has gathers gradients over the steps, as in a loop by hand: a replay would not. */
static void parameters_without_an_optimizer(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    fdl_module *m = tower(false);
    check_some(m);
    check_ok(fdl_module_to(m, GPU));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(m, .match = "linear_1/*"));
    fdl_trainer *tr = fdl_trainer_new(m, opt, loss_of);
    check_some(tr);
    for (int t = 0; t < 6; t++)
        check_ok(step_with(tr, t, 8, GPU));
    expect_plan(tr, "gathers gradients");
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(m));
}

static fdl_tensor *free_leaf;

static fdl_tensor *with_a_leaf(fdl_module *m, fdl_list batch, void *ctx)
{
    return fdl_add(loss_of(m, batch, ctx), fdl_sum(free_leaf));
}

/* The same of a tensor of no module. */
static void leaves_without_an_optimizer(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    free_leaf = fdl_zeros(FDL_SHAPE(3), .device = GPU, .requires_grad = true);
    job j = job_new(tower(false), adam, with_a_leaf, (fdl_trainer_opts){0});
    for (int t = 0; t < 6; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    expect_plan(j.tr, "optimizer doesn't have");
    assert_true(fdl_item(fdl_sum(fdl_grad(free_leaf))) == 18);
    job_free(&j);
}

static fdl_tensor *factor(fdl_module *m, fdl_list batch, void *ctx)
{
    return fdl_mul(loss_of(m, batch, NULL), *(double *)ctx);
}

static void late_host_numbers_are_found(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    double f = 1;
    job j = job_new(tower(false), momentum, factor, (fdl_trainer_opts){.ctx = &f});
    for (int t = 0; t < 8; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    expect_plan(j.tr, "captured");
    f = 0.5;
    for (int t = 0; t < 12; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    expect_plan(j.tr, "not captured");
    expect_plan(j.tr, "aten::mul");
    job_free(&j);
}

static fdl_tensor *device_factor(fdl_module *m, fdl_list batch, void *ctx)
{
    return fdl_mul(loss_of(m, batch, NULL), fdl_step_tensor(ctx));
}

static void step_values_reach_replays(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_set_default_device(GPU));
    fdl_step_value *v = fdl_step_value_new(1);
    check_ok(fdl_set_default_device(FDL_CPU));
    check_some(v);
    job j = job_new(tower(false), momentum, device_factor,
                    (fdl_trainer_opts){.ctx = v, .capture = FDL_CAPTURE_REQUIRE});
    check_ok(fdl_optim_set_lr(j.opt, 0));
    check_ok(fdl_eval(j.model));
    for (int t = 0; t < 6; t++)
        check_ok(step_with(j.tr, 0, 8, GPU));
    double one = loss_after(j.tr, 0, 8);
    check_ok(fdl_step_value_set(v, 3));
    double three = loss_after(j.tr, 0, 8);
    expect_plan(j.tr, "captured");
    assert_true(fabs(three - 3 * one) < 1e-5 * one);
    job_free(&j);
    fdl_step_value_free(v);
}

/* ---- memory ------------------------------------------------------------------------------------------------ */

static void memory_stays_flat(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    int64_t live = fdl_live_tensors(), allocated, start;
    check_ok(fdl_cuda_memory_allocated(0, &start));
    job j = job_new(tower(true), adam, loss_of, (fdl_trainer_opts){.clip_norm = 1});
    for (int t = 0; t < 20; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    int64_t handles = fdl_live_tensors(), bytes, reserved, after;
    check_ok(fdl_cuda_memory_allocated(0, &bytes));
    check_ok(fdl_cuda_memory_reserved(0, &reserved));
    for (int t = 0; t < 10000; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    assert_int_equal(fdl_live_tensors(), handles);
    check_ok(fdl_cuda_memory_allocated(0, &allocated));
    check_ok(fdl_cuda_memory_reserved(0, &after));
    assert_true(allocated <= bytes + 4096);
    assert_int_equal(after, reserved);
    expect_plan(j.tr, "captured");
    job_free(&j);
    assert_int_equal(fdl_live_tensors(), live);
    check_ok(fdl_cuda_memory_allocated(0, &allocated));
    assert_true(allocated <= start + (8 << 20)); /* cuBLAS keeps a workspace */
}

/* A limit on memory that leaves nothing for the capture's pool. */
static void no_memory_for_the_capture(void **state)
{
    (void)state;
    need_gpu();
    FDL_SCOPE;
    check_ok(fdl_cuda_empty_cache());
    job j = job_new(tower(false), adam, loss_of, (fdl_trainer_opts){0});
    for (int t = 0; t < 3; t++)
        check_ok(step_with(j.tr, t, 8, GPU));
    int64_t reserved, used, total;
    check_ok(fdl_cuda_memory_reserved(0, &reserved));
    check_ok(fdl_cuda_mem_info(0, &used, &total));
    check_ok(fdl_cuda_set_memory_fraction(0, (double)reserved / (double)total));
    fdl_status status = step_with(j.tr, 3, 8, GPU);
    check_ok(fdl_cuda_set_memory_fraction(0, 1));
    check_ok(status);
    expect_plan(j.tr, "not captured");
    expect_plan(j.tr, "memory");
    assert_true(isfinite(loss_after(j.tr, 4, 8)));
    job_free(&j);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(captured_is_eager),
        cmocka_unit_test(averages),
        cmocka_unit_test(tied_and_frozen_parameters),
        cmocka_unit_test(groups_are_captured),
        cmocka_unit_test(a_group_that_changes),
        cmocka_unit_test(losses_are_those_of_their_steps),
        cmocka_unit_test(a_replayed_loss_that_is_not_finite),
        cmocka_unit_test(failed_captures_leave_no_trace),
        cmocka_unit_test(dropout_draws_anew),
        cmocka_unit_test(changes_are_never_missed),
        cmocka_unit_test(shapes_have_plans_of_their_own),
        cmocka_unit_test(reasons),
        cmocka_unit_test(parameters_without_an_optimizer),
        cmocka_unit_test(leaves_without_an_optimizer),
        cmocka_unit_test(late_host_numbers_are_found),
        cmocka_unit_test(step_values_reach_replays),
        cmocka_unit_test(memory_stays_flat),
        cmocka_unit_test(no_memory_for_the_capture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
