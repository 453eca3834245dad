/* The trainer and fit, stopped anywhere and gone on with: after an error, a cancellation and a SIGKILL, within an epoch, by
 * loaders and sources, with the best epoch and the patience. On the CPU, and on a GPU whose steps are recorded, bit for bit. */
#include "resume.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>

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

/* The same without augmentation, which lies on the device. */
static fdl_dataset *resident(int64_t n)
{
    FDL_SCOPE;
    float x[SAMPLES * IN];
    int64_t y[SAMPLES];
    for (int64_t i = 0; i < n * IN; i++)
        x[i] = (float)(i % 7) / 4 - (float)(i % 5) / 3;
    for (int64_t i = 0; i < n; i++)
        y[i] = i % CLASSES;
    return fdl_data_tensors(FDL_LIST(fdl_from_f32(x, FDL_SHAPE(n, IN), .device = FDL_CPU),
                                     fdl_from_i64(y, FDL_SHAPE(n), .device = FDL_CPU)));
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
    j.data = fdl_data_loader(w->streams ? fdl_data_fn(SAMPLES, 2, item, NULL) : resident(SAMPLES), ROWS,
                             .seed = FDL_SOME(3));
    j.validate = fdl_data_eval_loader(resident(SAMPLES / 2), 4);
    check_some(j.opt && j.ema && j.data ? j.validate : NULL);
    assert_int_equal(fdl_data_loader_mode(j.data), w->streams ? FDL_DATA_STREAM : FDL_DATA_RESIDENT);
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
            execl("/proc/self/exe", "test_train_fit_resume", folder, step, (char *)NULL);
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

/* A signal that the monitor catches, in the middle of a group of batches: the group's step is made, and saved. */
static int64_t interrupted_at, batches;
static fdl_tensor *interrupted_loss(fdl_module *m, fdl_list b, void *ctx)
{
    if (fdl_is_training(m) && ++batches == interrupted_at)
        raise(SIGINT);
    return loss_of(m, b, ctx);
}

static void an_interrupted_fit_is_saved_behind_its_step(void **state)
{
    (void)state;
    static const way w = {.name = "interrupted", .accumulate = 2};
    job whole;
    fdl_fit_report r, then;
    whole_run(&whole, &w, &r);
    for (interrupted_at = 1; interrupted_at <= 2 * PER_EPOCH; interrupted_at += 3) {
        unlink(path_of("run.fdl"));
        unlink(path_of("best.fdl"));
        job j = job_of(&w);
        FILE *lines = fopen("/dev/null", "w");
        fdl_monitor *mon = fdl_monitor_new(EPOCHS, .out = lines);
        check_some(mon);
        check_ok(fdl_monitor_on_signal(mon));
        batches = 0;
        j.tr = fdl_trainer_new(j.m, j.opt, interrupted_loss, .ctx = &j, .sched = j.sched, .ema = j.ema,
                               .accumulate = 2, .clip_norm = 1.0, .on_step = on_step, .monitor = mon,
                               .capture = FDL_CAPTURE_OFF);
        assert_int_equal(fdl_trainer_fit(j.tr, j.data, .epochs = EPOCHS, .resume = path_of("run.fdl"),
                                         .host_rng = &j.host, .checkpoint = path_of("best.fdl")),
                         FDL_E_CANCELLED);
        check_error(FDL_E_CANCELLED, "SIGINT");
        int64_t steps = fdl_trainer_steps(j.tr);
        fdl_monitor_free(mon);
        fclose(lines);
        job_end(&j);
        j = job_of(&w);
        check_ok(fit(&j, &w, path_of("run.fdl"), &then));
        assert_int_equal(then.resumed, steps);
        assert_int_equal(steps, interrupted_at / PER_EPOCH * 3 + (interrupted_at % PER_EPOCH + 1) / 2);
        expect_same_jobs(&whole, &j, &r, &then, &w, (int)interrupted_at);
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

int main(int argc, char **argv)
{
    on_test_device();
    if (argc == 3) {
        snprintf(folder, sizeof folder, "%s", argv[1]);
        return run_until_killed(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit_goes_on_after_an_error_at_every_step),
        cmocka_unit_test(fit_goes_on_after_kills),
        cmocka_unit_test(a_cancelled_fit_is_saved_where_it_was),
        cmocka_unit_test(an_interrupted_fit_is_saved_behind_its_step),
        cmocka_unit_test(a_trainer_goes_on_in_the_middle_of_an_epoch),
        cmocka_unit_test(fit_refuses_what_can_not_be),
        cmocka_unit_test(errors_of_the_background_are_reported),
    };
    return cmocka_run_group_tests(tests, make_fast_folder, remove_folder);
}
