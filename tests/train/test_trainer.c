/* The trainer against the loop written by hand, bit for bit; accumulation, losses that aren't finite, callbacks, fit. */
#include "check.h"

#include <math.h>
#include <unistd.h>

enum { ROWS = 16, IN = 4, CLASSES = 3 };

static fdl_module *network(void)
{
    check_ok(fdl_manual_seed(7));
    fdl_module *m =
        fdl_flow(fdl_nn_linear(IN, 8), fdl_nn_batch_norm1d(8), fdl_nn_tanh(), fdl_nn_linear(8, CLASSES));
    check_some(m);
    return m;
}

static fdl_module *plain_network(void)
{
    check_ok(fdl_manual_seed(7));
    fdl_module *m = fdl_flow(fdl_nn_linear(IN, 8), fdl_nn_tanh(), fdl_nn_linear(8, CLASSES));
    check_some(m);
    return m;
}

/* Batch t: inputs [rows, IN] and classes [rows]. */
static fdl_list batch_of(int t, int64_t rows)
{
    float x[ROWS * IN];
    int64_t y[ROWS];
    fdl_rng rng = fdl_rng_seed((uint64_t)(100 + t));
    for (int i = 0; i < rows * IN; i++)
        x[i] = (float)(fdl_rng_f64(&rng) * 4 - 2);
    for (int i = 0; i < rows; i++)
        y[i] = (int64_t)fdl_rng_below(&rng, CLASSES);
    fdl_list list = {2, fdl_scope_alloc(2 * sizeof(fdl_tensor *))};
    list.at[0] = fdl_from_f32(x, FDL_SHAPE(rows, IN));
    list.at[1] = fdl_from_i64(y, FDL_SHAPE(rows));
    return list;
}

static fdl_tensor *loss_of(fdl_module *m, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(m, b.at[0]), b.at[1]);
}

static void expect_same(fdl_module *a, fdl_module *b, const char *what)
{
    FDL_SCOPE;
    for (int kind = 0; kind < 2; kind++) {
        fdl_params *pa = kind ? fdl_buffers(a) : fdl_parameters(a),
                   *pb = kind ? fdl_buffers(b) : fdl_parameters(b);
        assert_int_equal(fdl_params_count(pa), fdl_params_count(pb));
        for (int i = 0; i < fdl_params_count(pa); i++)
            if (!fdl_same(fdl_param_tensor(fdl_params_at(pa, i)), fdl_param_tensor(fdl_params_at(pb, i))))
                fail_msg("%s: %s differs", what, fdl_params_name(pa, i));
    }
}

/* ---- against the loop by hand ---------------------------------------------------------------------------- */

typedef struct variant {
    const char *name;
    int optimizer; /* sgd with momentum, adam, adamw */
    double clip_norm, clip_value;
    bool sched, ema, scaled;
    fdl_dtype autocast;
} variant;

static fdl_optim *optimizer(const variant *v, fdl_module *m)
{
    fdl_params *ps = fdl_parameters(m);
    fdl_optim *o = v->optimizer == 0   ? fdl_optim_sgd(ps, .lr = 0.1, .momentum = 0.9)
                   : v->optimizer == 1 ? fdl_optim_adam(ps, .lr = 0.01)
                                       : fdl_optim_adamw(ps, .lr = 0.01);
    check_some(o);
    return o;
}

static void equals_the_loop_by_hand(void **state)
{
    (void)state;
    static const variant variants[] = {
        {.name = "sgd"},
        {.name = "adam", .optimizer = 1},
        {.name = "adamw, clipped", .optimizer = 2, .clip_norm = 0.1},
        {.name = "sgd, clipped by value", .clip_value = 0.01},
        {.name = "adam, scheduled", .optimizer = 1, .sched = true},
        {.name = "adam, averaged", .optimizer = 1, .ema = true},
        {.name = "adam, bfloat16", .optimizer = 1, .autocast = FDL_BFLOAT16},
        {.name = "all of it",
         .optimizer = 2,
         .clip_norm = 0.1,
         .clip_value = 0.01,
         .sched = true,
         .ema = true,
         .scaled = true,
         .autocast = FDL_FLOAT16},
    };
    int64_t before = fdl_live_tensors();
    for (size_t k = 0; k < sizeof variants / sizeof variants[0]; k++) {
        FDL_SCOPE;
        const variant *v = &variants[k];
        fdl_module *a = network(), *b = network();
        fdl_optim *oa = optimizer(v, a), *ob = optimizer(v, b);
        fdl_sched *s = v->sched ? fdl_sched_cosine(0.05, 0.001, 15) : NULL;
        fdl_ema *ea = v->ema ? fdl_ema_new(a, 0.9) : NULL, *eb = v->ema ? fdl_ema_new(b, 0.9) : NULL;
        fdl_amp_scaler *sa = v->scaled ? fdl_amp_scaler_new(.interval = 4) : NULL;
        fdl_amp_scaler *sb = v->scaled ? fdl_amp_scaler_new(.interval = 4) : NULL;
        fdl_trainer *tr =
            fdl_trainer_new(a, oa, loss_of, .clip_norm = v->clip_norm, .clip_value = v->clip_value,
                            .sched = s, .ema = ea, .scaler = sa, .autocast = v->autocast);
        check_some(tr);
        double sum = 0;
        for (int t = 0; t < 20; t++) {
            FDL_SCOPE;
            fdl_list batch = batch_of(t, ROWS);
            check_ok(fdl_trainer_step(tr, batch));

            fdl_optim_zero_grad(ob);
            fdl_tensor *loss;
            if (v->autocast) {
                FDL_AUTOCAST(.dtype = v->autocast);
                loss = loss_of(b, batch, NULL);
            } else {
                loss = loss_of(b, batch, NULL);
            }
            check_ok(fdl_backward(sb ? fdl_amp_scale(sb, loss) : loss));
            if (sb)
                check_ok(fdl_amp_unscale(sb, ob));
            if (v->clip_norm > 0)
                check_ok(fdl_clip_grad_norm(fdl_parameters(b), v->clip_norm));
            if (v->clip_value > 0)
                check_ok(fdl_clip_grad_value(fdl_parameters(b), v->clip_value));
            if (s)
                check_ok(fdl_sched_apply(s, ob, t));
            if (sb) {
                check_ok(fdl_amp_step(sb, ob));
                check_ok(fdl_amp_update(sb));
            } else {
                check_ok(fdl_optim_step(ob));
            }
            if (eb)
                check_ok(fdl_ema_update(eb));

            double last;
            check_ok(fdl_trainer_loss(tr, &last));
            check_number(last, fdl_item(loss), 0);
            sum += fdl_item(loss);
            check_number(fdl_optim_lr(oa), fdl_optim_lr(ob), 0);
        }
        expect_same(a, b, v->name);
        if (ea) {
            check_ok(fdl_ema_apply(ea));
            check_ok(fdl_ema_apply(eb));
            expect_same(a, b, v->name);
        }
        if (sa)
            check_number(fdl_amp_scaler_scale(sa), fdl_amp_scaler_scale(sb), 0);
        double mean;
        check_ok(fdl_trainer_mean_loss(tr, &mean));
        check_number(mean, sum / 20, 1e-12);
        check_ok(fdl_trainer_mean_loss(tr, &mean));
        assert_true(isnan(mean));
        assert_int_equal(fdl_trainer_steps(tr), 20);
        fdl_trainer_free(tr);
        fdl_ema_free(ea);
        fdl_ema_free(eb);
        fdl_amp_scaler_free(sa);
        fdl_amp_scaler_free(sb);
        fdl_sched_free(s);
        fdl_optim_free(oa);
        fdl_optim_free(ob);
        check_ok(fdl_module_free(a));
        check_ok(fdl_module_free(b));
    }
    assert_int_equal(fdl_live_tensors(), before);
}

/* ---- accumulation --------------------------------------------------------------------------------------- */

/* Ten batches of four rows in groups of four (4, 4, 2) are steps on 16, 16 and 8 rows. */
static void groups_equal_joined_batches(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = plain_network(), *b = plain_network();
    fdl_optim *oa = fdl_optim_sgd(fdl_parameters(a), .lr = 0.1, .momentum = 0.9);
    fdl_optim *ob = fdl_optim_sgd(fdl_parameters(b), .lr = 0.1, .momentum = 0.9);
    fdl_trainer *ta = fdl_trainer_new(a, oa, loss_of, .accumulate = 4), *tb = fdl_trainer_new(b, ob, loss_of);
    check_some(ta);
    fdl_list parts[10];
    for (int t = 0; t < 10; t++) {
        parts[t] = batch_of(t, 4);
        check_ok(fdl_trainer_step(ta, parts[t]));
        assert_int_equal(fdl_trainer_steps(ta), (t + 1) / 4);
    }
    check_ok(fdl_trainer_flush(ta));
    check_ok(fdl_trainer_flush(ta)); /* nothing waits */
    assert_int_equal(fdl_trainer_steps(ta), 3);
    for (int g = 0; g < 3; g++) {
        fdl_tensor *x[4], *y[4];
        int n = g < 2 ? 4 : 2;
        for (int i = 0; i < n; i++) {
            x[i] = parts[4 * g + i].at[0];
            y[i] = parts[4 * g + i].at[1];
        }
        check_ok(fdl_trainer_step(tb, FDL_LIST(fdl_cat((fdl_list){n, x}, 0), fdl_cat((fdl_list){n, y}, 0))));
    }
    fdl_params *pa = fdl_parameters(a), *pb = fdl_parameters(b);
    for (int i = 0; i < fdl_params_count(pa); i++)
        assert_true(fdl_allclose(fdl_param_tensor(fdl_params_at(pa, i)),
                                 fdl_param_tensor(fdl_params_at(pb, i)), .rtol = 1e-6, .atol = 1e-6));
    double ma, mb;
    check_ok(fdl_trainer_mean_loss(ta, &ma));
    check_ok(fdl_trainer_mean_loss(tb, &mb));
    assert_true(fabs(ma - mb) < 0.1); /* 10 batches against 3, of other sizes */
    fdl_trainer_free(ta);
    fdl_trainer_free(tb);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
}

/* ---- losses that aren't finite -------------------------------------------------------------------------- */

typedef struct spoil {
    int calls, at; /* the call, from 1, whose loss is NaN */
    int steps, grads;
    fdl_status answer;
} spoil;

static fdl_tensor *spoiled(fdl_module *m, fdl_list b, void *ctx)
{
    spoil *s = ctx;
    fdl_tensor *loss = loss_of(m, b, NULL);
    return ++s->calls == s->at ? fdl_mul(loss, (double)NAN) : loss;
}

static bool on_gpu; /* what is bad is found when it is read */

static void stopping_names_the_step(void **state)
{
    (void)state;
    for (int accumulate = 1; accumulate < 3; accumulate++)
        for (int reads_mean = 0; reads_mean < 2; reads_mean++) {
            FDL_SCOPE;
            fdl_module *m = plain_network(), *good = plain_network();
            fdl_optim *o = fdl_optim_adam(fdl_parameters(m)), *og = fdl_optim_adam(fdl_parameters(good));
            spoil s = {.at = 7 * accumulate};
            fdl_trainer *tr = fdl_trainer_new(m, o, spoiled, .ctx = &s, .accumulate = accumulate,
                                              .capture = FDL_CAPTURE_OFF); /* the loss counts its calls */
            fdl_trainer *tg = fdl_trainer_new(good, og, loss_of, .accumulate = accumulate);
            fdl_status status = FDL_OK;
            int calls = 0;
            for (; calls < 10 * accumulate && status == FDL_OK; calls++) {
                FDL_SCOPE;
                status = fdl_trainer_step(tr, batch_of(calls, ROWS));
                if (calls < 6 * accumulate)
                    check_ok(fdl_trainer_step(tg, batch_of(calls, ROWS)));
            }
            if (on_gpu) {
                assert_int_equal(status, FDL_OK);
            } else { /* at once, and nothing of the step was done */
                check_error(FDL_E_ARG, "step 7 ", "not finite");
                assert_int_equal(calls, 7 * accumulate);
                expect_same(m, good, "stopped");
            }
            double v;
            assert_int_equal(reads_mean ? fdl_trainer_mean_loss(tr, &v) : fdl_trainer_loss(tr, &v),
                             FDL_E_ARG);
            check_error(FDL_E_ARG, "step 7 ", "not finite");
            assert_int_equal(fdl_trainer_step(tr, batch_of(0, ROWS)), FDL_E_ARG);
            check_error(FDL_E_ARG, "step 7 ");
            fdl_trainer_free(tr);
            fdl_trainer_free(tg);
            fdl_optim_free(o);
            fdl_optim_free(og);
            check_ok(fdl_module_free(m));
            check_ok(fdl_module_free(good));
        }
}

static void skipping_leaves_the_step_out(void **state)
{
    (void)state;
    for (int accumulate = 1; accumulate < 3; accumulate++) {
        FDL_SCOPE;
        fdl_module *m = plain_network(), *good = plain_network();
        fdl_optim *o = fdl_optim_adam(fdl_parameters(m)), *og = fdl_optim_adam(fdl_parameters(good));
        spoil s = {.at = 7 * accumulate};
        fdl_trainer *tr = fdl_trainer_new(m, o, spoiled, .ctx = &s, .accumulate = accumulate,
                                          .on_nonfinite = FDL_NONFINITE_SKIP, .capture = FDL_CAPTURE_OFF);
        fdl_trainer *tg = fdl_trainer_new(good, og, loss_of, .accumulate = accumulate);
        double sum = 0, last, mean;
        int n = 0;
        for (int t = 0; t < 10 * accumulate; t++) {
            FDL_SCOPE;
            check_ok(fdl_trainer_step(tr, batch_of(t, ROWS)));
            check_ok(fdl_trainer_loss(tr, &last));
            if (t + 1 != s.at) {
                sum += last;
                n++;
            }
            if (t / accumulate != 6)
                check_ok(fdl_trainer_step(tg, batch_of(t, ROWS)));
        }
        expect_same(m, good, "skipped");
        assert_int_equal(fdl_trainer_steps(tr), 10);
        check_ok(fdl_trainer_mean_loss(tr, &mean));
        check_number(mean, sum / n, 1e-12);
        fdl_trainer_free(tr);
        fdl_trainer_free(tg);
        fdl_optim_free(o);
        fdl_optim_free(og);
        check_ok(fdl_module_free(m));
        check_ok(fdl_module_free(good));
    }
}

static void going_on_goes_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = plain_network();
    fdl_optim *o = fdl_optim_adam(fdl_parameters(m));
    spoil s = {.at = 2};
    fdl_trainer *tr = fdl_trainer_new(m, o, spoiled, .ctx = &s, .on_nonfinite = FDL_NONFINITE_GO_ON);
    for (int t = 0; t < 3; t++)
        check_ok(fdl_trainer_step(tr, batch_of(t, ROWS)));
    double mean;
    check_ok(fdl_trainer_mean_loss(tr, &mean));
    assert_true(isnan(mean));
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* ---- callbacks, errors ------------------------------------------------------------------------------------- */

static fdl_status on_grads(fdl_module *m, void *ctx)
{
    FDL_SCOPE;
    spoil *s = ctx;
    s->grads++;
    fdl_params *ps = fdl_parameters(m);
    for (int i = 0; i < fdl_params_count(ps); i++)
        FDL_TRY(fdl_zero_grad(fdl_param_tensor(fdl_params_at(ps, i))));
    return s->answer ? fdl_fail(s->answer, "on_grads says no") : FDL_OK;
}

static fdl_status on_step(const fdl_step_record *r, void *ctx)
{
    spoil *s = ctx;
    assert_int_equal(r->step, ++s->steps);
    check_number(r->lr, 0.5 * pow(0.5, (double)(r->step - 1)), 1e-12);
    return FDL_OK;
}

static void callbacks_are_called(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = plain_network(), *same = plain_network();
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.1);
    fdl_sched *sched = fdl_sched_exponential(0.5, 0.5);
    spoil s = {0};
    fdl_trainer *tr = fdl_trainer_new(m, o, spoiled, .ctx = &s, .on_grads = on_grads, .on_step = on_step,
                                      .sched = sched, .accumulate = 2);
    for (int t = 0; t < 4; t++)
        check_ok(fdl_trainer_step(tr, batch_of(t, ROWS)));
    assert_int_equal(s.steps, 2);
    assert_int_equal(s.grads, 2);
    expect_same(m, same, "gradients that the callback has zeroed");
    s.answer = FDL_E_CANCELLED;
    check_ok(fdl_trainer_step(tr, batch_of(0, ROWS)));
    assert_int_equal(fdl_trainer_step(tr, batch_of(0, ROWS)), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "on_grads says no");
    assert_int_equal(fdl_trainer_steps(tr), 2);
    fdl_trainer_free(tr);

    fdl_amp_scaler *scaler = fdl_amp_scaler_new(); /* a step that was given up leaves its scaler ready */
    tr = fdl_trainer_new(m, o, loss_of, .ctx = &s, .on_grads = on_grads, .scaler = scaler);
    assert_int_equal(fdl_trainer_step(tr, batch_of(0, ROWS)), FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "on_grads says no");
    s.answer = FDL_OK;
    check_ok(fdl_trainer_step(tr, batch_of(0, ROWS)));
    fdl_trainer_free(tr);
    fdl_amp_scaler_free(scaler);
    fdl_sched_free(sched);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(same));
}

static fdl_tensor *no_loss(fdl_module *m, fdl_list b, void *ctx)
{
    return ctx ? fdl_forward(m, b.at[0]) : NULL;
}

static void mistakes_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = plain_network();
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m));
    assert_null(fdl_trainer_new(m, o, loss_of, .accumulate = -1));
    check_error(FDL_E_ARG, ".accumulate", "-1");
    assert_null(fdl_trainer_new(m, o, loss_of, .clip_norm = -2));
    check_error(FDL_E_ARG, ".clip_norm", "-2");
    assert_null(fdl_trainer_new(m, o, loss_of, .autocast = FDL_FLOAT64));
    check_error(FDL_E_DTYPE, "float64");
    assert_null(fdl_trainer_new(m, NULL, loss_of));
    check_error(FDL_E_NULL, "opt");
    fdl_trainer *tr = fdl_trainer_new(m, o, no_loss);
    assert_int_equal(fdl_trainer_step(tr, batch_of(0, ROWS)), FDL_E_NULL);
    check_error(FDL_E_NULL, "loss function", "NULL");
    double v = 0;
    check_ok(fdl_trainer_loss(tr, &v));
    assert_true(isnan(v));
    fdl_trainer_free(tr);
    tr = fdl_trainer_new(m, o, no_loss, .ctx = m);
    assert_int_equal(fdl_trainer_step(tr, batch_of(0, ROWS)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "[16, 3]", "one number");
    fdl_tensor *holes[] = {NULL};
    assert_int_equal(fdl_trainer_step(tr, (fdl_list){1, holes}), FDL_E_NULL);
    check_error(FDL_E_NULL, "batch[0]");
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

static void the_plan_says_what_runs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = plain_network();
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = 0.25);
    fdl_trainer *tr =
        fdl_trainer_new(m, o, loss_of, .clip_norm = 2, .accumulate = 3, .autocast = FDL_BFLOAT16);
    char *text = NULL;
    size_t n = 0;
    FILE *file = open_memstream(&text, &n);
    check_ok(fdl_trainer_plan(tr, file));
    fclose(file);
    if (!on_gpu)
        assert_non_null(strstr(text, "eager: the model is on the CPU, where nothing is captured\n"));
    assert_non_null(strstr(text, "a step is 3 batches"));
    assert_non_null(strstr(text, "bfloat16"));
    assert_non_null(strstr(text, "norm of at most 2"));
    assert_non_null(strstr(text, "sgd, at rate 0.25"));
    free(text);
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* ---- step values ---------------------------------------------------------------------------------------- */

static fdl_tensor *weighted(fdl_module *m, fdl_list b, void *ctx)
{
    return fdl_mul(loss_of(m, b, NULL), fdl_step_tensor(ctx));
}

static void a_step_value_counts_from_the_next_step_on(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = plain_network();
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m), .lr = FDL_ZERO);
    fdl_step_value *v = fdl_step_value_new(1);
    check_some(v);
    fdl_tensor *same = fdl_step_tensor(v);
    fdl_trainer *tr = fdl_trainer_new(m, o, weighted, .ctx = v);
    double one = 0, x;
    for (int t = 0; t < 3; t++) {
        check_ok(fdl_step_value_set(v, 1 + t));
        check_ok(fdl_trainer_step(tr, batch_of(0, ROWS)));
        check_ok(fdl_trainer_loss(tr, &x));
        one = t ? one : x;
        check_number(x, one * (1 + t), 1e-5);
        check_number(fdl_step_value_get(v), 1 + t, 0);
        assert_ptr_equal(fdl_step_tensor(v), same);
    }
    fdl_trainer_free(tr);
    fdl_step_value_free(v);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

/* ---- the loop over epochs ------------------------------------------------------------------------------------ */

enum { SAMPLES = 60 };

static fdl_dataset *data(uint64_t seed)
{
    FDL_SCOPE;
    float x[SAMPLES * IN];
    int64_t y[SAMPLES];
    fdl_rng rng = fdl_rng_seed(seed);
    for (int i = 0; i < SAMPLES; i++) {
        y[i] = (int64_t)fdl_rng_below(&rng, CLASSES);
        for (int k = 0; k < IN; k++)
            x[i * IN + k] = (float)(fdl_rng_f64(&rng) - 0.5 + (k == y[i]));
    }
    return fdl_data_tensors(FDL_LIST(fdl_from_f32(x, FDL_SHAPE(SAMPLES, IN), .device = FDL_CPU),
                                     fdl_from_i64(y, FDL_SHAPE(SAMPLES), .device = FDL_CPU)));
}

static fdl_tensor *accuracy(fdl_module *m, fdl_list b, void *ctx)
{
    (void)ctx;
    assert_false(fdl_is_training(m));
    assert_false(fdl_grad_enabled());
    return fdl_mean(fdl_float(fdl_eq(fdl_argmax(fdl_forward(m, b.at[0]), 1), b.at[1])));
}

typedef struct seen {
    int epochs;
    double val_loss[64], accuracy[64], loss[64];
    int best;
    int stop_at;
} seen;

static fdl_status on_epoch(const fdl_epoch_record *r, void *ctx)
{
    seen *s = ctx;
    assert_int_equal(r->epoch, s->epochs);
    assert_int_equal(r->samples, SAMPLES);
    assert_int_equal(r->step, 4 * (r->epoch + 1)); /* 60 samples: 8 batches, in groups of two */
    assert_int_equal(r->n_metrics, 4);
    assert_string_equal(r->metrics[0].name, "loss");
    assert_string_equal(r->metrics[1].name, "val_loss");
    assert_string_equal(r->metrics[2].name, "accuracy");
    assert_string_equal(r->metrics[3].name, "lr");
    s->loss[s->epochs] = r->loss;
    s->val_loss[s->epochs] = r->metrics[1].value;
    s->accuracy[s->epochs++] = r->metrics[2].value;
    if (r->best)
        s->best = (int)r->epoch;
    return s->stop_at == s->epochs ? fdl_fail(FDL_E_CANCELLED, "enough") : FDL_OK;
}

static void fit_equals_its_loop(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = network(), *b = network();
    fdl_optim *oa = fdl_optim_adam(fdl_parameters(a), .lr = 0.02);
    fdl_optim *ob = fdl_optim_adam(fdl_parameters(b), .lr = 0.02);
    fdl_loader *train = fdl_data_loader(data(1), 8, .keep_last = true),
               *test = fdl_data_eval_loader(data(2), 25);
    check_some(train);
    check_some(test);
    fdl_monitor *monitor = fdl_monitor_new(6, .quiet = true);
    seen s = {0};
    fdl_trainer *ta =
        fdl_trainer_new(a, oa, loss_of, .ctx = &s, .accumulate = 2, .on_epoch = on_epoch, .monitor = monitor);
    fdl_trainer *tb = fdl_trainer_new(b, ob, loss_of, .accumulate = 2);
    char best[] = "/tmp/flodl_best.XXXXXX", last[] = "/tmp/flodl_last.XXXXXX";
    close(mkstemp(best));
    close(mkstemp(last));
    fdl_fit_report report;
    check_ok(fdl_trainer_fit(ta, train, .epochs = 6, .validate = test, .checkpoint = best,
                             .checkpoint_last = last, .metrics = FDL_FIT_METRICS({"accuracy", accuracy}),
                             .report = &report));
    assert_true(fdl_is_training(a));
    assert_int_equal(s.epochs, 6);
    fdl_module *kept = network();
    double lowest = INFINITY;
    for (int epoch = 0; epoch < 6; epoch++) {
        FDL_BATCHES(batch, train, epoch)
        {
            check_ok(fdl_trainer_step(tb, fdl_data_list(batch)));
        }
        check_ok(fdl_trainer_flush(tb));
        double mean, loss = 0, right = 0;
        check_ok(fdl_trainer_mean_loss(tb, &mean));
        check_number(s.loss[epoch], mean, 0);
        check_ok(fdl_eval(b));
        FDL_BATCHES(batch, test, 0)
        {
            FDL_NO_GRAD;
            double rows = (double)fdl_data_rows(batch);
            loss += rows * fdl_item(loss_of(b, fdl_data_list(batch), NULL));
            right += rows * fdl_item(accuracy(b, fdl_data_list(batch), NULL));
        }
        check_ok(fdl_train(b));
        check_number(s.val_loss[epoch], loss / SAMPLES, 1e-12);
        check_number(s.accuracy[epoch], right / SAMPLES, 1e-12);
        if (loss / SAMPLES < lowest) {
            lowest = loss / SAMPLES;
            assert_int_equal(s.best >= epoch, true);
            if (s.best == epoch) { /* the file of the best epoch is the model at its end */
                check_ok(fdl_ckpt_load(kept, best));
                expect_same(kept, b, "checkpoint");
            }
        }
    }
    expect_same(a, b, "fit");
    check_ok(fdl_ckpt_load(kept, last));
    expect_same(kept, b, "last checkpoint");
    assert_int_equal(report.epochs, 6);
    assert_int_equal(report.best_epoch, s.best);
    check_number(report.best, lowest, 1e-12);
    assert_false(report.stopped_early);
    int64_t n = 0;
    const fdl_monitor_record *history = fdl_monitor_history(monitor, &n);
    assert_int_equal(n, 6);
    assert_string_equal(history[5].metrics[2].name, "accuracy");
    unlink(best);
    unlink(last);
    fdl_monitor_free(monitor);
    fdl_trainer_free(ta);
    fdl_trainer_free(tb);
    fdl_optim_free(oa);
    fdl_optim_free(ob);
    fdl_data_loader_free(train);
    fdl_data_loader_free(test);
    check_ok(fdl_module_free(a));
    check_ok(fdl_module_free(b));
    check_ok(fdl_module_free(kept));
}

static void fit_ends_early(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = network();
    fdl_optim *o =
        fdl_optim_sgd(fdl_parameters(m), .lr = FDL_ZERO); /* never better than in the first epoch */
    fdl_loader *train = fdl_data_loader(data(1), 8), *test = fdl_data_eval_loader(data(2), 60);
    fdl_trainer *tr = fdl_trainer_new(m, o, loss_of);
    fdl_fit_report report;
    check_ok(fdl_trainer_fit(tr, train, .epochs = 50, .validate = test, .patience = 3, .best = "accuracy",
                             .metrics = FDL_FIT_METRICS({"accuracy", accuracy}), .best_is_highest = true,
                             .report = &report));
    assert_true(report.stopped_early);
    assert_int_equal(report.epochs, report.best_epoch + 1 + 3);
    fdl_trainer_free(tr);

    seen s = {.stop_at = 2};
    fdl_loader *whole = fdl_data_loader(data(1), 8, .keep_last = true);
    tr = fdl_trainer_new(m, o, loss_of, .ctx = &s, .on_epoch = on_epoch, .accumulate = 2);
    assert_int_equal(fdl_trainer_fit(tr, whole, .epochs = 5, .validate = test, .report = &report,
                                     .metrics = FDL_FIT_METRICS({"accuracy", accuracy})),
                     FDL_E_CANCELLED);
    check_error(FDL_E_CANCELLED, "enough");
    assert_int_equal(report.epochs, 2);
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    fdl_data_loader_free(train);
    fdl_data_loader_free(whole);
    fdl_data_loader_free(test);
    check_ok(fdl_module_free(m));
}

typedef struct counted {
    int epochs, at;
} counted;
static fdl_status counted_begin(void *self, int64_t epoch)
{
    counted *c = self;
    assert_int_equal(epoch, c->epochs++);
    c->at = 0;
    return FDL_OK;
}
static fdl_status counted_next(void *self, fdl_list *batch)
{
    counted *c = self;
    *batch = c->at < 3 ? batch_of(c->at++, ROWS) : (fdl_list){0, NULL};
    return FDL_OK;
}

static void a_source_of_ones_own(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = network();
    fdl_optim *o = fdl_optim_sgd(fdl_parameters(m));
    fdl_trainer *tr = fdl_trainer_new(m, o, loss_of);
    counted c = {0};
    fdl_source source = {.self = &c, .begin = counted_begin, .next = counted_next, .batches = 3};
    check_ok(fdl_trainer_fit_from(tr, &source, .epochs = 4));
    assert_int_equal(c.epochs, 4);
    assert_int_equal(fdl_trainer_steps(tr), 12);
    assert_int_equal(fdl_trainer_fit_from(tr, &source, .best = "f1"), FDL_E_ARG);
    check_error(FDL_E_ARG, "\"f1\"");
    assert_int_equal(fdl_trainer_fit_from(tr, &source, .metrics = FDL_FIT_METRICS({"accuracy", accuracy})),
                     FDL_E_ARG);
    check_error(FDL_E_ARG, ".validate");
    assert_int_equal(fdl_trainer_fit_from(tr, &source, .epochs = -1), FDL_E_ARG);
    check_error(FDL_E_ARG, ".epochs");
    source.next = NULL;
    assert_int_equal(fdl_trainer_fit_from(tr, &source), FDL_E_ARG);
    check_error(FDL_E_ARG, "next");
    fdl_trainer_free(tr);
    fdl_optim_free(o);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_loop_by_hand),
        cmocka_unit_test(groups_equal_joined_batches),
        cmocka_unit_test(stopping_names_the_step),
        cmocka_unit_test(skipping_leaves_the_step_out),
        cmocka_unit_test(going_on_goes_on),
        cmocka_unit_test(callbacks_are_called),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(the_plan_says_what_runs),
        cmocka_unit_test(a_step_value_counts_from_the_next_step_on),
        cmocka_unit_test(fit_equals_its_loop),
        cmocka_unit_test(fit_ends_early),
        cmocka_unit_test(a_source_of_ones_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
