/* Training that stops anywhere and goes on: with everything that the options of a checkpoint name, by the trainer, by fit,
 * after an error, a cancellation and a SIGKILL; and what is refused without any change. On the CPU bit for bit. */
#include "ckpt_files.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

enum { IN = 4, CLASSES = 3, ROWS = 6, STEPS = 8 };

static bool on_gpu;

static fdl_module *network(uint64_t seed)
{
    check_ok(fdl_manual_seed(seed));
    fdl_module *m = fdl_flow(fdl_nn_linear(IN, 8), fdl_nn_batch_norm1d(8), fdl_nn_tanh(), fdl_nn_dropout(0.3),
                             fdl_nn_linear(8, CLASSES));
    check_some(m);
    return m;
}

static fdl_tensor *loss_of(fdl_module *m, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(m, b.at[0]), b.at[1]);
}

static void expect_equal(fdl_tensor *a, fdl_tensor *b, const char *what, const char *name, int at)
{
    if (!fdl_same(a, b))
        fail_msg("%s, stopped at %d: %s differs", what, at, name);
}

static void expect_same_models(fdl_module *a, fdl_module *b, const char *what, int at)
{
    FDL_SCOPE;
    fdl_params *x = fdl_params_join(fdl_parameters(a), fdl_buffers(a));
    fdl_params *y = fdl_params_join(fdl_parameters(b), fdl_buffers(b));
    assert_int_equal(fdl_params_count(x), fdl_params_count(y));
    for (int i = 0; i < fdl_params_count(x); i++)
        expect_equal(fdl_param_tensor(fdl_params_at(x, i)), fdl_param_tensor(fdl_params_at(y, i)), what,
                     fdl_params_name(x, i), at);
}

static void copy_values(fdl_module *to, fdl_module *from)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *a = fdl_params_join(fdl_parameters(to), fdl_buffers(to));
    fdl_params *b = fdl_params_join(fdl_parameters(from), fdl_buffers(from));
    for (int i = 0; i < fdl_params_count(a); i++)
        check_ok(fdl_param_set(fdl_params_at(a, i), fdl_param_tensor(fdl_params_at(b, i))));
}

static void expect_same_optims(fdl_optim *a, fdl_optim *b, const char *what, int at)
{
    FDL_SCOPE;
    fdl_optim_dict x, y;
    check_ok(fdl_optim_state_dict(a, &x));
    check_ok(fdl_optim_state_dict(b, &y));
    assert_string_equal(x.text, y.text);
    assert_int_equal(x.n, y.n);
    for (int i = 0; i < x.n; i++)
        expect_equal(x.at[i], y.at[i], what, x.names[i], at);
}

/* ---- a loop by hand, with everything ------------------------------------------------------------------- */

typedef struct training {
    fdl_module *m;
    fdl_optim *opt;
    fdl_sched *sched;
    fdl_amp_scaler *scaler;
    fdl_plateau *plateau;
    fdl_ema *ema;
    fdl_rng rng;
    fdl_progress at;
} training;

/* From elsewhere for each seed: rates, weights, counts, generators. */
static training begin(uint64_t seed)
{
    training t = {.m = network(seed),
                  .sched = fdl_sched_one_cycle(0.05, STEPS),
                  .scaler = fdl_amp_scaler_new(.interval = 3, .init_scale = 1024 * (double)seed),
                  .plateau = fdl_sched_plateau(0.1 * (double)seed, .patience = FDL_SOME(1)),
                  .rng = fdl_rng_seed(seed),
                  .at = {.best = (double)NAN, .best_epoch = -1}};
    t.opt = fdl_optim_adam(fdl_parameters(t.m), .lr = 0.01 * (double)seed);
    t.ema = fdl_ema_new(t.m, 0.9, .warmup = true);
    check_some(t.opt && t.ema && t.sched && t.scaler && t.plateau ? t.m : NULL);
    return t;
}

static void end(training *t)
{
    fdl_ema_free(t->ema);
    fdl_plateau_free(t->plateau);
    fdl_amp_scaler_free(t->scaler);
    fdl_sched_free(t->sched);
    fdl_optim_free(t->opt);
    check_ok(fdl_module_free(t->m));
}

/* A step with all of it: the host's numbers make the batch, the device's the dropout; step 4 overflows. */
static void one_step(training *t)
{
    FDL_SCOPE;
    float x[ROWS * IN];
    int64_t y[ROWS];
    for (int i = 0; i < ROWS * IN; i++)
        x[i] = (float)fdl_rng_normal(&t->rng, 0, 1);
    for (int i = 0; i < ROWS; i++)
        y[i] = (int64_t)fdl_rng_below(&t->rng, CLASSES);
    fdl_tensor *loss =
        loss_of(t->m, FDL_LIST(fdl_from_f32(x, FDL_SHAPE(ROWS, IN)), fdl_from_i64(y, FDL_SHAPE(ROWS))), NULL);
    if (t->at.step == 4)
        loss = fdl_mul(loss, (double)INFINITY);
    check_ok(fdl_sched_apply(t->sched, t->opt, t->at.step));
    check_ok(fdl_optim_scale_lr(t->opt, fdl_plateau_observe(t->plateau, t->at.step < 2 ? 1 : 2) / 0.1));
    check_ok(fdl_optim_zero_grad(t->opt));
    check_ok(fdl_backward(fdl_amp_scale(t->scaler, loss)));
    check_ok(fdl_amp_step(t->scaler, t->opt));
    check_ok(fdl_amp_update(t->scaler));
    check_ok(fdl_ema_update(t->ema));
    t->at.step++;
    t->at.loss_sum += 1.0 / 3;
}

#define ALL_OF(t)                                                                                \
    .optim = (t).opt, .scaler = (t).scaler, .plateau = (t).plateau, .ema = (t).ema, .rng = true, \
    .host_rng = &(t).rng, .progress = &(t).at

static void expect_same_trainings(training *a, training *b, const char *what, int at)
{
    FDL_SCOPE;
    expect_same_models(a->m, b->m, what, at);
    expect_same_optims(a->opt, b->opt, what, at);
    fdl_params *x = fdl_params_join(fdl_parameters(a->m), fdl_buffers(a->m));
    fdl_params *y = fdl_params_join(fdl_parameters(b->m), fdl_buffers(b->m));
    for (int i = 0; i < fdl_params_count(x); i++)
        expect_equal(fdl_ema_shadow(a->ema, fdl_param_tensor(fdl_params_at(x, i))),
                     fdl_ema_shadow(b->ema, fdl_param_tensor(fdl_params_at(y, i))), what,
                     fdl_params_name(x, i), at);
    expect_equal(fdl_ema_count(a->ema), fdl_ema_count(b->ema), what, "the averages' count", at);
    fdl_amp_scaler_state sa, sb;
    check_ok(fdl_amp_scaler_save(a->scaler, &sa));
    check_ok(fdl_amp_scaler_save(b->scaler, &sb));
    assert_memory_equal(&sa, &sb, sizeof sa);
    fdl_plateau_state pa, pb;
    check_ok(fdl_plateau_save(a->plateau, &pa));
    check_ok(fdl_plateau_save(b->plateau, &pb));
    assert_memory_equal(&pa, &pb, sizeof pa);
    assert_memory_equal(&a->rng, &b->rng, sizeof a->rng);
    assert_int_equal(a->at.step, b->at.step);
    assert_true(a->at.loss_sum == b->at.loss_sum && isnan(b->at.best) && b->at.best_epoch == -1);
}

static void a_loop_goes_on_at_every_step(void **state)
{
    (void)state;
    int64_t live = fdl_live_tensors();
    for (int at = 0; at <= STEPS; at++) {
        training whole = begin(1);
        fdl_tensor *drawn[2];
        FDL_SCOPE;
        check_ok(fdl_manual_seed(5));
        for (int t = 0; t < STEPS; t++)
            one_step(&whole);
        drawn[0] = fdl_rand(FDL_SHAPE(3));

        training first = begin(1);
        check_ok(fdl_manual_seed(5));
        for (int t = 0; t < at; t++)
            one_step(&first);
        check_ok(fdl_ckpt_save(first.m, path_of("all.fdl"), ALL_OF(first)));
        end(&first);

        training then = begin(2);
        for (int t = 0; t < at % 3; t++) /* over what others have left */
            one_step(&then);
        check_ok(fdl_ckpt_load(then.m, path_of("all.fdl"), ALL_OF(then)));
        assert_int_equal(then.at.step, at);
        for (int t = at; t < STEPS; t++)
            one_step(&then);
        drawn[1] = fdl_rand(FDL_SHAPE(3));
        expect_same_trainings(&whole, &then, "by hand", at);
        expect_equal(drawn[0], drawn[1], "by hand", "the generator", at);
        end(&whole);
        end(&then);
    }
    assert_int_equal(fdl_live_tensors(), live);
}

/* Names, dtypes and texts as they are documented; what isn't asked for isn't there. */
static void the_file_has_documented_names(void **state)
{
    (void)state;
    training t = begin(1);
    for (int i = 0; i < 2; i++)
        one_step(&t);
    check_ok(fdl_ckpt_save(t.m, path_of("all.fdl"), ALL_OF(t), .dtype = FDL_BFLOAT16,
                           .meta = FDL_META({"epoch", "3"})));
    fdl_ckpt_info *info = fdl_ckpt_open(path_of("all.fdl"));
    check_some(info);
    FDL_SCOPE;
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "linear_1.weight")), FDL_BFLOAT16);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "optim/0/linear_1.weight/exp_avg")), FDL_FLOAT32);
    assert_true(fdl_item(fdl_ckpt_get(info, "optim/0/linear_1.weight/step")) == 2);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "ema/linear_1.weight")), FDL_FLOAT32);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "ema/batch_norm1d_2.num_batches_tracked")), FDL_INT64);
    assert_true(fdl_item(fdl_ckpt_get(info, "ema//updates")) == 2);
    assert_true(fdl_item(fdl_ckpt_get(info, "scaler/0/scale")) == 1024);
    assert_true(fdl_item(fdl_ckpt_get(info, "scaler/0/tracker")) == 2);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "rng/cpu")), FDL_UINT8);
    assert_int_equal(fdl_numel(fdl_ckpt_get(info, "rng/host")), 4);
    if (on_gpu)
        check_some(fdl_ckpt_get(info, "rng/cuda/0"));
    static const char *const texts[][2] = {{"optim/0", "\"kind\":\"adam\""},
                                           {"optim/0", "\"params\":[\"linear_1.weight\",\"linear_1.bias\""},
                                           {"scaler/0", "\"interval\":3"},
                                           {"sched/plateau", "\"bad\":1"},
                                           {"train/progress", "\"step\":2"},
                                           {"train/progress", "\"best\":\"nan\""},
                                           {"epoch", "3"},
                                           {"fdl.version", "3"}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = fdl_ckpt_meta(info, texts[i][0]);
        if (!text || !strstr(text, texts[i][1]))
            fail_msg("%s: %s lacks %s", texts[i][0], text ? text : "(none)", texts[i][1]);
    }
    fdl_ckpt_close(info);
    fdl_module *plain = network(4); /* who wants the model alone takes it from the same file */
    fdl_load_report r;
    check_ok(fdl_ckpt_load(plain, path_of("all.fdl"), .report = &r));
    assert_int_equal(r.n_skipped + r.n_missing, 0);
    fdl_module_free(plain);
    check_ok(fdl_ckpt_save(t.m, path_of("plain.fdl")));
    info = fdl_ckpt_open(path_of("plain.fdl"));
    for (int i = 0; i < fdl_ckpt_count(info); i++)
        assert_null(strchr(fdl_ckpt_name(info, i), '/'));
    fdl_ckpt_close(info);
    end(&t);
}

/* ---- all or nothing -------------------------------------------------------------------------------------- */

/* A file of what is left out is refused, and nothing is changed by that. */
static void what_is_missing_changes_nothing(void **state)
{
    (void)state;
    training from = begin(1), t = begin(2), same = begin(2);
    for (int i = 0; i < 3; i++) {
        one_step(&from);
        check_ok(fdl_manual_seed((uint64_t)i));
        one_step(&t);
        check_ok(fdl_manual_seed((uint64_t)i));
        one_step(&same);
    }
    static const char *const lacks[] = {"optimizer's state", "scaler",  "plateau", "averages",
                                        "generator",         "fdl_rng", "progress"};
    for (int k = 0; k < 7; k++) {
        fdl_progress p = from.at;
        check_ok(fdl_ckpt_save(from.m, path_of("part.fdl"), .optim = k == 0 ? NULL : from.opt,
                               .scaler = k == 1 ? NULL : from.scaler, .plateau = k == 2 ? NULL : from.plateau,
                               .ema = k == 3 ? NULL : from.ema, .rng = k != 4,
                               .host_rng = k == 5 ? NULL : &from.rng, .progress = k == 6 ? NULL : &p));
        fdl_tensor *before = fdl_rng_state(FDL_CPU);
        assert_int_equal(fdl_ckpt_load(t.m, path_of("part.fdl"), ALL_OF(t)), FDL_E_MISMATCH);
        check_error(FDL_E_MISMATCH, "part.fdl", lacks[k], "saved without");
        expect_same_trainings(&same, &t, lacks[k], k);
        expect_equal(before, fdl_rng_state(FDL_CPU), lacks[k], "the generator", k);
    }
    end(&from);
    end(&t);
    end(&same);
}

/* Values of the model and of all training state are those of another training's file, in which one tensor is another. */
static void what_does_not_fit_changes_nothing(void **state)
{
    (void)state;
    training from = begin(1), t = begin(2), same = begin(2);
    for (int i = 0; i < 3; i++) {
        one_step(&from);
        check_ok(fdl_manual_seed((uint64_t)i));
        one_step(&t);
        check_ok(fdl_manual_seed((uint64_t)i));
        one_step(&same);
    }
    check_ok(fdl_ckpt_save(from.m, path_of("good.fdl"), ALL_OF(from)));
    size_t n;
    char *good = fdl_file_read(path_of("good.fdl"), 0, &n);
    check_some(good);
    static const struct {
        const char *from, *to, *word;
        fdl_status status;
    } changes[] = {
        {"\"optim/0/linear_1.bias/exp_avg\"", "\"optim/0/linear_1.bias/exp_avh\"", "exp_avh", FDL_E_MISMATCH},
        {"\"ema/linear_1.bias\"", "\"ema/linear_1.bios\"", "linear_1.bias", FDL_E_MISMATCH},
        {"\"ema//updates\"", "\"ema//updatez\"", "updates", FDL_E_MISMATCH},
        {"\"rng/cpu\":{\"dtype\":\"U8\"", "\"rng/cpu\":{\"dtype\":\"I8\"", "rng/cpu", FDL_E_FORMAT},
        {"\\\"interval\\\":3", "\\\"interval\\\":0", "interval", FDL_E_ARG},
        {"\\\"growth\\\":2.0", "\\\"growth\\\":0.0", "growth", FDL_E_ARG},
        {"\\\"growth\\\":2.0", "\\\"growth\\\":[0]", "growth", FDL_E_FORMAT},
        {"\\\"cooling\\\":0", "\\\"cooling\\\":-", "sched/plateau", FDL_E_FORMAT},
        {"\\\"step\\\":3", "\\\"step\\\":-", "train/progress", FDL_E_FORMAT},
        {"\\\"best_epoch\\\":-1", "\\\"best_epoch\\\":-9", "negative", FDL_E_FORMAT},
        {"\"rng/host\":{\"dtype\":\"I64\"", "\"rng/host\":{\"dtype\":\"F64\"", "rng/host", FDL_E_FORMAT},
        {"\\\"kind\\\":\\\"adam\\\"", "\\\"kind\\\":\\\"adax\\\"", "is of adax", FDL_E_MISMATCH},
    };
    for (size_t k = 0; k < sizeof changes / sizeof changes[0]; k++) {
        FDL_SCOPE;
        size_t size = strlen(changes[k].from);
        char *at = memmem(good, n, changes[k].from, size);
        if (!at || strlen(changes[k].to) != size)
            fail_msg("%s is not in the file", changes[k].from);
        bytes b = {0};
        put(&b, good, n);
        memcpy(b.at + (at - good), changes[k].to, size);
        written(&b, path_of("bad.fdl"));
        fdl_tensor *before = fdl_rng_state(FDL_CPU);
        fdl_status status = fdl_ckpt_load(t.m, path_of("bad.fdl"), ALL_OF(t));
        if (status != changes[k].status)
            fail_msg("%s: %s: %s", changes[k].to, fdl_status_name(status), fdl_last_error()->message);
        check_error(status, "bad.fdl", changes[k].word);
        expect_same_trainings(&same, &t, changes[k].to, (int)k);
        expect_equal(before, fdl_rng_state(FDL_CPU), changes[k].to, "the generator", (int)k);
    }
    free(good);
    check_ok(fdl_ckpt_load(t.m, path_of("good.fdl"), ALL_OF(t)));
    expect_same_trainings(&from, &t, "in the end", 0);
    end(&from);
    end(&t);
    end(&same);
}

static void options_that_can_not_be(void **state)
{
    (void)state;
    training t = begin(1);
    fdl_module *other = network(2);
    fdl_ema *of_other = fdl_ema_new(other, 0.9), *plain = fdl_ema_new(t.m, 0.9);
    const char *path = path_of("never.fdl");
#define REFUSED(call, status, ...)        \
    do {                                  \
        assert_int_equal(call, status);   \
        check_error(status, __VA_ARGS__); \
    } while (0)
    REFUSED(fdl_ckpt_save(t.m, path, .optim = t.opt, .optims = FDL_OPTIMS(t.opt)), FDL_E_ARG,
            ".optims exclude");
    REFUSED(fdl_ckpt_save(t.m, path, .optims = FDL_OPTIMS(t.opt, NULL)), FDL_E_NULL, ".optims");
    REFUSED(fdl_ckpt_save(t.m, path, .ema = of_other), FDL_E_ARG, "no parameter");
    REFUSED(fdl_ckpt_save(t.m, path, .meta = FDL_META({"optim/0", "x"})), FDL_E_ARG, "optim/0");
    REFUSED(fdl_ckpt_save(t.m, path, .skip_if_busy = true), FDL_E_ARG, "fdl_ckpt_save_async");
    check_ok(fdl_ema_apply(t.ema));
    REFUSED(fdl_ckpt_save(t.m, path, .ema = t.ema), FDL_E_STATE, "fdl_ema_restore");
    check_ok(fdl_ema_restore(t.ema));
    assert_int_equal(access(path, F_OK), -1);
    check_ok(fdl_ckpt_save(t.m, path, .ema = t.ema, .optims = FDL_OPTIMS(t.opt, t.opt)));
    REFUSED(fdl_ckpt_load(t.m, path, .ema = plain), FDL_E_MISMATCH, "warmup");
    REFUSED(fdl_ckpt_load(t.m, path, .optim = t.opt), FDL_E_MISMATCH, "2 optimizers", ".optim 1");
    REFUSED(fdl_ckpt_load_optim(t.opt, path), FDL_E_MISMATCH, "fdl_ckpt_load_optim", "2 optimizers");
    check_ok(fdl_ema_apply(t.ema));
    REFUSED(fdl_ckpt_load(t.m, path, .ema = t.ema), FDL_E_STATE, "fdl_ema_restore");
    check_ok(fdl_ema_restore(t.ema));
    check_ok(fdl_ckpt_save(t.m, path, .ema = plain));
    REFUSED(fdl_ckpt_load(t.m, path, .ema = t.ema), FDL_E_MISMATCH, "averages of 9 tensors, .ema of 10");
    fdl_ema_free(of_other);
    fdl_ema_free(plain);
    fdl_module_free(other);
    end(&t);
}

/* ---- optimizers alone, several, tied and frozen parameters ---------------------------------------------------- */

static void optimizers_alone_and_several(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2] = {network(1), network(2)};
    fdl_optim *a[2], *b[2];
    for (int i = 0; i < 2; i++) {
        fdl_param_freeze(fdl_params_at(fdl_parameters(m[i]), 1));
        fdl_params *ps = fdl_parameters(m[i]);
        a[i] = i ? fdl_optim_sgd(ps, .lr = 0.1, .momentum = 0.9) : fdl_optim_nadam(ps);
        b[i] = i ? fdl_optim_sgd(ps, .lr = 0.3) : fdl_optim_nadam(ps, .lr = 1);
        fdl_tensor *x = fdl_ones(FDL_SHAPE(2, IN));
        check_ok(fdl_backward(fdl_sum(fdl_forward(m[i], x))));
        check_ok(fdl_optim_step(a[i]));
    }
    check_ok(fdl_ckpt_save_optim(a[0], path_of("one.fdl")));
    check_ok(fdl_ckpt_load_optim(b[0], path_of("one.fdl")));
    expect_same_optims(a[0], b[0], "alone", 0);
    assert_null(fdl_optim_state(b[0], fdl_param_tensor(fdl_params_at(fdl_parameters(m[0]), 1)), "exp_avg"));
    assert_int_equal(fdl_ckpt_load_optim(b[1], path_of("one.fdl")), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "one.fdl", "sgd: the checkpoint is of nadam");
    assert_int_equal(fdl_ckpt_load_optim(b[1], path_of("none.fdl")), FDL_E_IO);
    check_error(FDL_E_IO, "none.fdl");

    check_ok(fdl_ckpt_save(m[0], path_of("both.fdl"), .optims = FDL_OPTIMS(a[0], a[1])));
    b[0] = (fdl_optim_free(b[0]), fdl_optim_nadam(fdl_parameters(m[0])));
    check_ok(fdl_ckpt_load(m[0], path_of("both.fdl"), .optims = FDL_OPTIMS(b[0], b[1])));
    for (int i = 0; i < 2; i++)
        expect_same_optims(a[i], b[i], "both", i);
    assert_int_equal(fdl_ckpt_load(m[0], path_of("both.fdl"), .optims = FDL_OPTIMS(b[1], b[0])),
                     FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "sgd: the checkpoint is of nadam");
    check_ok(fdl_ckpt_save(m[0], path_of("model.fdl"), .optim = a[0])); /* a model's file serves as well */
    check_ok(fdl_ckpt_load_optim(b[0], path_of("model.fdl")));
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(a[i]);
        fdl_optim_free(b[i]);
        fdl_module_free(m[i]);
    }
}

static void tied_parameters_have_one_state(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[2];
    fdl_optim *o[2];
    for (int i = 0; i < 2; i++) {
        fdl_module *words = fdl_nn_embedding(5, 4);
        check_some(words);
        m[i] = fdl_flow(words,
                        fdl_nn_linear(4, 5, .no_bias = true, .tie = fdl_params_at(fdl_parameters(words), 0)));
        check_some(m[i]);
        o[i] = fdl_optim_adam(fdl_parameters(m[i]));
        assert_int_equal(fdl_params_count(fdl_parameters(m[i])), 1);
    }
    const int64_t words[] = {1, 2};
    check_ok(fdl_backward(fdl_sum(fdl_forward(m[0], fdl_from_i64(words, FDL_SHAPE(2))))));
    check_ok(fdl_optim_step(o[0]));
    check_ok(fdl_ckpt_save(m[0], path_of("tied.fdl"), .optim = o[0]));
    check_ok(fdl_ckpt_load(m[1], path_of("tied.fdl"), .optim = o[1]));
    expect_same_models(m[0], m[1], "tied", 0);
    expect_same_optims(o[0], o[1], "tied", 0);
    for (int i = 0; i < 2; i++) {
        fdl_optim_free(o[i]);
        fdl_module_free(m[i]);
    }
}

/* A slot of a graph inside a graph, filled and empty. */
static void graphs_go_on_with_what_they_carry(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m[3];
    for (int i = 0; i < 3; i++) {
        m[i] = fdl_flow(fdl_nn_linear(2, 2),
                        fdl_flow(fdl_nn_gru_cell(2, 2), fdl_flow_using("memory"), fdl_flow_tag("memory")));
        check_some(m[i]);
    }
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 2));
    fdl_progress p = {0};
    check_ok(fdl_ckpt_save(m[0], path_of("empty.fdl"), .progress = &p));
    for (int t = 0; t < 3; t++)
        check_some(fdl_forward(m[0], x));
    check_some(fdl_forward(m[2], x));
    check_ok(fdl_ckpt_save(m[0], path_of("full.fdl"), .progress = &p));
    fdl_tensor *then = fdl_forward(m[0], x);
    for (int i = 1; i < 3; i++) {
        check_ok(fdl_ckpt_load(m[i], path_of("full.fdl"), .progress = &p));
        expect_equal(then, fdl_forward(m[i], x), "a carried state", "the result", i);
    }
    check_ok(fdl_ckpt_load(m[2], path_of("empty.fdl"), .progress = &p));
    fdl_tensor *first = fdl_forward(m[2], x);
    check_ok(fdl_graph_reset_state(m[0]));
    expect_equal(fdl_forward(m[0], x), first, "an empty state", "the result", 0);
    fdl_module *other = fdl_flow(fdl_nn_linear(2, 2), fdl_nn_gru_cell(2, 2));
    check_some(other);
    assert_int_equal(
        fdl_ckpt_load(other, path_of("full.fdl"), .progress = &p, .ignore_hash = true, .partial = true),
        FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "carry from call to call");
    fdl_module_free(other);
    for (int i = 0; i < 3; i++)
        fdl_module_free(m[i]);
}

/* ---- the trainer and fit ----------------------------------------------------------------------------------- */

enum { SAMPLES = 30, EPOCHS = 4, PER_EPOCH = 5, ALL_STEPS = EPOCHS * PER_EPOCH };

/* How one run is made; the same twice gives the same run. */
typedef struct way {
    const char *name;
    bool streams, background, validates, source, bf16;
    int64_t every, accumulate, patience;
    bool scaled, plateau, records;
} way;

typedef struct job {
    fdl_module *m;
    fdl_optim *opt;
    fdl_sched *sched;
    fdl_amp_scaler *scaler;
    fdl_ema *ema;
    fdl_plateau *plateau;
    fdl_loader *data, *validate;
    fdl_trainer *tr;
    fdl_rng host;
    int64_t stop_at;    /* steps; -1: never */
    fdl_status stop_by; /* FDL_OK: by SIGKILL */
    int64_t drawn;
} job;

static fdl_status item(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    float x[IN];
    fdl_rng rng;
    FDL_TRY(fdl_data_rng(i, &rng));
    for (int k = 0; k < IN; k++)
        x[k] = (float)(i % (k + 3)) / 4 + (float)fdl_rng_normal(&rng, 0, 0.1);
    int64_t y = i % CLASSES;
    out[0] = fdl_from_f32(x, FDL_SHAPE(IN), .device = FDL_CPU);
    out[1] = fdl_from_i64(&y, FDL_SCALAR, .device = FDL_CPU);
    return fdl_error_pending();
}

static fdl_status on_step(const fdl_step_record *r, void *ctx)
{
    job *j = ctx;
    fdl_rng_u64(&j->host);
    if (r->step != j->stop_at)
        return FDL_OK;
    if (j->stop_by == FDL_OK)
        raise(SIGKILL);
    return fdl_fail(j->stop_by, "stopped by the test");
}

/* A source that draws from the generator, as a user's may. */
static fdl_status source_begin(void *self, int64_t epoch)
{
    ((job *)self)->drawn = 0;
    return fdl_rand(FDL_SHAPE(epoch + 1)) ? FDL_OK : fdl_error_pending();
}

static fdl_status source_next(void *self, fdl_list *batch)
{
    job *j = self;
    *batch = (fdl_list){0, NULL};
    if (j->drawn++ == PER_EPOCH)
        return FDL_OK;
    batch->at = fdl_scope_alloc(2 * sizeof(fdl_tensor *));
    if (!batch->at)
        return fdl_error_pending();
    batch->n = 2;
    batch->at[0] = fdl_randn(FDL_SHAPE(ROWS, IN));
    batch->at[1] = fdl_randint(0, CLASSES, FDL_SHAPE(ROWS));
    return fdl_error_pending();
}

static job job_of(const way *w)
{
    job j = {.m = network(1), .stop_at = -1, .host = fdl_rng_seed(1)};
    j.opt = fdl_optim_adamw(fdl_parameters(j.m), .lr = 0.02);
    j.ema = fdl_ema_new(j.m, 0.9, .warmup = true);
    if (w->plateau)
        j.plateau = fdl_sched_plateau(0.02, .patience = FDL_SOME(0), .factor = 0.5, .threshold = 0.5);
    else
        j.sched = fdl_sched_one_cycle(0.05, ALL_STEPS);
    if (w->scaled)
        j.scaler = fdl_amp_scaler_new(.interval = 3);
    j.data = fdl_data_loader(fdl_data_fn(SAMPLES, 2, item, NULL), ROWS, .seed = FDL_SOME(3),
                             .mode = w->streams ? FDL_DATA_STREAM : FDL_DATA_AUTO);
    j.validate = fdl_data_eval_loader(fdl_data_fn(SAMPLES / 2, 2, item, NULL), 4);
    check_some(j.opt && j.ema && j.data ? j.validate : NULL);
    return j;
}

static void job_end(job *j)
{
    fdl_trainer_free(j->tr);
    fdl_data_loader_free(j->data);
    fdl_data_loader_free(j->validate);
    fdl_ema_free(j->ema);
    fdl_plateau_free(j->plateau);
    fdl_sched_free(j->sched);
    fdl_amp_scaler_free(j->scaler);
    fdl_optim_free(j->opt);
    check_ok(fdl_module_free(j->m));
}

/* The program: the same call, whether for the first time or again. */
static fdl_status fit(job *j, const way *w, const char *resume, fdl_fit_report *report)
{
    j->tr = fdl_trainer_new(j->m, j->opt, loss_of, .ctx = j, .sched = j->sched, .ema = j->ema,
                            .scaler = j->scaler, .accumulate = w->accumulate, .clip_norm = 1.0,
                            .autocast = w->bf16 ? FDL_BFLOAT16 : FDL_DTYPE_DEFAULT, .on_step = on_step,
                            .capture = w->records ? FDL_CAPTURE_AUTO : FDL_CAPTURE_OFF);
    check_some(j->tr);
    const fdl_trainer_fit_opts o = {.epochs = EPOCHS,
                                    .validate = w->validates ? j->validate : NULL,
                                    .resume = resume,
                                    .resume_every = resume ? w->every : 0,
                                    .background = resume && w->background,
                                    .plateau = j->plateau,
                                    .host_rng = resume ? &j->host : NULL,
                                    .checkpoint = path_of(resume ? "best.fdl" : "best-of-all.fdl"),
                                    .patience = w->patience,
                                    .report = report};
    fdl_source source = {j, source_begin, source_next, PER_EPOCH};
    return w->source ? fdl_trainer_fit_from_opt(j->tr, &source, &o) : fdl_trainer_fit_opt(j->tr, j->data, &o);
}

static void expect_same_jobs(job *a, job *b, const fdl_fit_report *ra, const fdl_fit_report *rb, const way *w,
                             int at)
{
    FDL_SCOPE;
    expect_same_models(a->m, b->m, w->name, at);
    expect_same_optims(a->opt, b->opt, w->name, at);
    fdl_params *x = fdl_parameters(a->m), *y = fdl_parameters(b->m);
    for (int i = 0; i < fdl_params_count(x); i++)
        expect_equal(fdl_ema_shadow(a->ema, fdl_param_tensor(fdl_params_at(x, i))),
                     fdl_ema_shadow(b->ema, fdl_param_tensor(fdl_params_at(y, i))), w->name,
                     fdl_params_name(x, i), at);
    assert_int_equal(fdl_trainer_steps(a->tr), fdl_trainer_steps(b->tr));
    assert_memory_equal(&a->host, &b->host, sizeof a->host);
    assert_int_equal(ra->epochs, rb->epochs);
    assert_int_equal(ra->best_epoch, rb->best_epoch);
    assert_int_equal(ra->stopped_early, rb->stopped_early);
    if (ra->loss != rb->loss || ra->best != rb->best)
        fail_msg("%s, stopped at %d: loss %.17g and %.17g, best %.17g and %.17g", w->name, at, ra->loss,
                 rb->loss, ra->best, rb->best);
    fdl_module *best[2] = {network(5), network(6)};
    check_ok(fdl_ckpt_load(best[0], path_of("best-of-all.fdl")));
    check_ok(fdl_ckpt_load(best[1], path_of("best.fdl")));
    expect_same_models(best[0], best[1], "the best epoch's file", at);
    for (int i = 0; i < 2; i++)
        fdl_module_free(best[i]);
    if (a->plateau)
        assert_true(fdl_plateau_lr(a->plateau) == fdl_plateau_lr(b->plateau));
}

static const way ways[] = {
    {.name = "after epochs only"},
    {.name = "every step", .every = 1, .validates = true},
    {.name = "every three, scaled, bfloat16", .every = 3, .scaled = true, .bf16 = true},
    {.name = "streaming, in the background",
     .every = 2,
     .streams = true,
     .background = true,
     .validates = true},
    {.name = "accumulated", .every = 1, .accumulate = 2},
    {.name = "plateau, patience", .every = 2, .validates = true, .plateau = true, .patience = 1},
    {.name = "a source of one's own", .every = 1, .source = true},
    {.name = "recorded where there is a GPU", .every = 1, .records = true},
};
enum { WAYS = sizeof ways / sizeof ways[0] };

/* The run that nobody stopped, and how many steps it had. */
static int64_t whole_run(job *j, const way *w, fdl_fit_report *r)
{
    *j = job_of(w);
    check_ok(fit(j, w, NULL, r));
    return fdl_trainer_steps(j->tr);
}

/* An error in place of a kill: what is written is what a killed process would have written, but for its timing. */
static void fit_goes_on_after_an_error_at_every_step(void **state)
{
    (void)state;
    int64_t live = fdl_live_tensors();
    for (int k = 0; k < WAYS; k++) {
        FDL_SCOPE;
        job whole;
        fdl_fit_report r, then;
        int64_t steps = whole_run(&whole, &ways[k], &r);
        for (int64_t at = 1; at <= steps; at += k == 1 ? 1 : 3) {
            FDL_SCOPE;
            unlink(path_of("run.fdl"));
            unlink(path_of("best.fdl"));
            job j = job_of(&ways[k]);
            j.stop_at = at;
            j.stop_by = FDL_E_NET;
            assert_int_equal(fit(&j, &ways[k], path_of("run.fdl"), &then), FDL_E_NET);
            check_error(FDL_E_NET, "stopped by the test");
            job_end(&j);
            j = job_of(&ways[k]);
            if (access(path_of("run.fdl"), F_OK) == 0) /* where the generator is, the file knows */
                check_ok(fdl_manual_seed(77));
            check_ok(fit(&j, &ways[k], path_of("run.fdl"), &then));
            expect_same_jobs(&whole, &j, &r, &then, &ways[k], (int)at);
            job_end(&j);
        }
        job j = job_of(&ways[k]); /* once more: it has ended, and says the same */
        check_ok(fit(&j, &ways[k], path_of("run.fdl"), &then));
        assert_int_equal(then.resumed, steps);
        expect_same_jobs(&whole, &j, &r, &then, &ways[k], -1);
        job_end(&j);
        job_end(&whole);
    }
    assert_int_equal(fdl_live_tensors(), live);
}

static const way killed = {.name = "killed", .every = 2, .validates = true, .background = true};

/* The program that is killed: this one again, by its own start, since a process that was forked can't use a GPU. */
static int run_until_killed(const char *at_step)
{
    job j = job_of(&killed);
    fdl_fit_report r;
    j.stop_at = atoi(at_step);
    fit(&j, &killed, path_of("run.fdl"), &r);
    fprintf(stderr, "not killed: %s\n", fdl_last_error()->message);
    return 3;
}

/* By a signal that can't be caught, several times in one run. */
static void fit_goes_on_after_kills(void **state)
{
    (void)state;
    job whole;
    fdl_fit_report r, then;
    int64_t steps = whole_run(&whole, &killed, &r);
    unlink(path_of("run.fdl"));
    for (int64_t at = 1; at <= steps; at += 3) {
        char step[16];
        snprintf(step, sizeof step, "%d", (int)at);
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child) {
            execl("/proc/self/exe", "test_train_resume", folder, step, (char *)NULL);
            _exit(4);
        }
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    }
    job j = job_of(&killed);
    check_ok(fit(&j, &killed, path_of("run.fdl"), &then));
    assert_true(then.resumed > 0 && then.resumed < steps);
    expect_same_jobs(&whole, &j, &r, &then, &killed, (int)steps);
    job_end(&j);
    job_end(&whole);
}

/* Who cancels loses no step, whatever .resume_every says. */
static void a_cancelled_fit_is_saved_where_it_was(void **state)
{
    (void)state;
    static const way w = {.name = "cancelled"};
    job whole;
    fdl_fit_report r, then;
    whole_run(&whole, &w, &r);
    for (int64_t at = 3; at < ALL_STEPS; at += 4) {
        unlink(path_of("run.fdl"));
        job j = job_of(&w);
        j.stop_at = at;
        j.stop_by = FDL_E_CANCELLED;
        assert_int_equal(fit(&j, &w, path_of("run.fdl"), &then), FDL_E_CANCELLED);
        check_error(FDL_E_CANCELLED, "stopped by the test");
        job_end(&j);
        j = job_of(&w);
        check_ok(fit(&j, &w, path_of("run.fdl"), &then));
        assert_int_equal(then.resumed, at);
        expect_same_jobs(&whole, &j, &r, &then, &w, (int)at);
        job_end(&j);
    }
    job_end(&whole);
}

/* A loop by hand around a trainer: the loader's place goes with it. */
static void a_trainer_goes_on_in_the_middle_of_an_epoch(void **state)
{
    (void)state;
    static const way w = {.name = "a loop around a trainer"};
    for (int at = 0; at <= 2 * PER_EPOCH; at++) {
        job j[2];
        for (int k = 0; k < 2; k++) {
            FDL_SCOPE;
            j[k] = job_of(&w);
            check_ok(fdl_manual_seed(8));
            fdl_progress p = {0};
            int64_t steps = 0;
            for (int part = 0; part <= k; part++) {
                if (part) {
                    job_end(&j[k]);
                    j[k] = job_of(&w);
                }
                j[k].tr = fdl_trainer_new(j[k].m, j[k].opt, loss_of, .sched = j[k].sched, .ema = j[k].ema,
                                          .ctx = &j[k], .capture = FDL_CAPTURE_OFF);
                if (part) {
                    check_ok(fdl_trainer_load(j[k].tr, path_of("loop.fdl"), .progress = &p));
                    assert_int_equal(fdl_trainer_steps(j[k].tr), at);
                }
                bool stopped = k == 1 && part == 0 && at == 0;
                if (stopped)
                    check_ok(fdl_trainer_save(j[k].tr, path_of("loop.fdl"), .loader = j[k].data));
                for (int64_t epoch = p.epoch; epoch < 2 && !stopped; epoch++) {
                    fdl_iter *it = fdl_data_epoch(j[k].data, epoch, .skip = epoch == p.epoch ? p.batch : 0);
                    check_some(it);
                    for (fdl_batch *b; !stopped && (b = fdl_data_next(it));) {
                        check_ok(fdl_trainer_step(j[k].tr, fdl_data_list(b)));
                        stopped = k == 1 && part == 0 && ++steps == at;
                        if (stopped)
                            check_ok(fdl_trainer_save(j[k].tr, path_of("loop.fdl"), .loader = j[k].data));
                    }
                    fdl_data_epoch_end(it);
                }
            }
        }
        double loss[2];
        for (int k = 0; k < 2; k++)
            check_ok(fdl_trainer_mean_loss(j[k].tr, &loss[k]));
        assert_true(loss[0] == loss[1]);
        expect_same_models(j[0].m, j[1].m, w.name, at);
        expect_same_optims(j[0].opt, j[1].opt, w.name, at);
        job_end(&j[0]);
        job_end(&j[1]);
    }
}

static void fit_refuses_what_can_not_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const way w = {.name = "refused", .accumulate = 2};
    job j = job_of(&w);
    fdl_fit_report r;
    const char *path = path_of("model.fdl");
    fdl_plateau *plateau = fdl_sched_plateau(0.1);
    j.tr = fdl_trainer_new(j.m, j.opt, loss_of, .sched = j.sched, .accumulate = 2);
    REFUSED(fdl_trainer_fit(j.tr, j.data, .resume_every = 2), FDL_E_ARG, ".resume_every",
            "goes with .resume");
    REFUSED(fdl_trainer_fit(j.tr, j.data, .resume = path, .resume_every = -1), FDL_E_ARG, "-1");
    REFUSED(fdl_trainer_fit(j.tr, j.data, .background = true), FDL_E_ARG, ".background");
    REFUSED(fdl_trainer_fit(j.tr, j.data, .host_rng = &j.host), FDL_E_ARG, ".host_rng");
    REFUSED(fdl_trainer_fit(j.tr, j.data, .plateau = plateau), FDL_E_ARG, ".plateau", ".sched");
    REFUSED(fdl_trainer_save(j.tr, path, .loader = j.data, .progress = &(fdl_progress){0}), FDL_E_ARG,
            "exclude");
    REFUSED(fdl_trainer_load(j.tr, path_of("none.fdl")), FDL_E_IO, "fdl_trainer_load", "none.fdl");
    fdl_iter *it = fdl_data_epoch(j.data, 0);
    fdl_batch *b = fdl_data_next(it);
    check_some(b);
    check_ok(fdl_trainer_step(j.tr, fdl_data_list(b)));
    REFUSED(fdl_trainer_save(j.tr, path), FDL_E_STATE, "1 of 2 batches", "fdl_trainer_flush");
    check_ok(fdl_trainer_flush(j.tr));
    fdl_data_epoch_end(it);
    check_ok(fdl_ckpt_save(j.m, path)); /* a file, but not of a training: not taken for the beginning */
    fdl_module *before = network(9);
    copy_values(before, j.m);
    REFUSED(fdl_trainer_fit(j.tr, j.data, .resume = path, .report = &r), FDL_E_MISMATCH, "model.fdl",
            "optimizer's state");
    expect_same_models(before, j.m, "refused", 0);
    fdl_module_free(before);
    fdl_plateau_free(plateau);
    job_end(&j);
}

/* A folder that isn't there: fit says so with the next epoch's end, and at the latest at its own. */
static void errors_of_the_background_are_reported(void **state)
{
    (void)state;
    static const way w = {.name = "background", .background = true};
    for (int k = 0; k < 2; k++) {
        job j = job_of(&w);
        fdl_fit_report r;
        j.stop_at = k ? -1 : 1;
        j.stop_by = FDL_E_NET;
        fdl_status status = fit(&j, &w, "/nowhere/run.fdl", &r);
        assert_int_equal(status, k ? FDL_E_IO : FDL_E_NET);
        check_error(status, k ? "/nowhere/run.fdl" : "stopped");
        if (k)
            assert_true(r.epochs == 2);
        job_end(&j);
    }
}

/* In memory where that can be: hundreds of files, each of which would wait for the disk. */
static int make_fast_folder(void **state)
{
    strcpy(folder, "/dev/shm/flodl-test-XXXXXX");
    return mkdtemp(folder) ? 0 : make_folder(state);
}

int main(int argc, char **argv)
{
    on_gpu = on_test_device();
    if (argc == 3) {
        snprintf(folder, sizeof folder, "%s", argv[1]);
        return run_until_killed(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_goes_on_at_every_step),
        cmocka_unit_test(the_file_has_documented_names),
        cmocka_unit_test(what_is_missing_changes_nothing),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(options_that_can_not_be),
        cmocka_unit_test(optimizers_alone_and_several),
        cmocka_unit_test(tied_parameters_have_one_state),
        cmocka_unit_test(graphs_go_on_with_what_they_carry),
        cmocka_unit_test(fit_goes_on_after_an_error_at_every_step),
        cmocka_unit_test(fit_goes_on_after_kills),
        cmocka_unit_test(a_cancelled_fit_is_saved_where_it_was),
        cmocka_unit_test(a_trainer_goes_on_in_the_middle_of_an_epoch),
        cmocka_unit_test(fit_refuses_what_can_not_be),
        cmocka_unit_test(errors_of_the_background_are_reported),
    };
    return cmocka_run_group_tests(tests, make_fast_folder, remove_folder);
}
