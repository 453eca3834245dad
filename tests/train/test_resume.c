/* Training that stops anywhere and goes on with what the options of a checkpoint name, in a loop by hand; what is refused
 * without any change. On the CPU bit for bit. */
#include "resume.h"

#include <math.h>

enum { STEPS = 8 };

static bool on_gpu;

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

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_loop_goes_on_at_every_step),
        cmocka_unit_test(the_file_has_documented_names),
        cmocka_unit_test(what_is_missing_changes_nothing),
        cmocka_unit_test(what_does_not_fit_changes_nothing),
        cmocka_unit_test(options_that_can_not_be),
        cmocka_unit_test(optimizers_alone_and_several),
        cmocka_unit_test(tied_parameters_have_one_state),
        cmocka_unit_test(graphs_go_on_with_what_they_carry),
    };
    return cmocka_run_group_tests(tests, make_fast_folder, remove_folder);
}
