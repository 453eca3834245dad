/* The worker: order, errors, bounds, who may call what; saving by it: what is saved is what was there at the call. The thread
 * sanitizer runs this program. */
#include "ckpt_files.h"

#include "flodl/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>

/* ---- jobs ---------------------------------------------------------------------------------------------- */

/* What jobs have done, in order. Jobs of one worker don't run at the same time. */
typedef struct diary {
    fdl_worker *w;
    char text[64];
    atomic_int held; /* jobs wait while it is set */
    atomic_int dropped;
} diary;

typedef struct entry {
    diary *d;
    char letter;
    fdl_status status;
} entry;

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

static fdl_status write_letter(void *arg)
{
    entry *e = arg;
    while (atomic_load(&e->d->held))
        nap();
    size_t n = strlen(e->d->text);
    e->d->text[n] = e->letter;
    e->d->text[n + 1] = 0;
    return e->status == FDL_OK ? FDL_OK : fdl_fail(e->status, "job %c failed", e->letter);
}

static void drop(void *arg)
{
    atomic_fetch_add(&((entry *)arg)->d->dropped, 1);
}

static void jobs_run_in_order_and_report_their_first_error(void **state)
{
    (void)state;
    diary d = {.w = fdl_worker_new(), .held = 1};
    check_some(d.w);
    assert_true(fdl_worker_idle(d.w));
    assert_int_equal(fdl_worker_pending(d.w), 0);
    entry e[5];
    for (int i = 0; i < 5; i++) {
        e[i] = (entry){&d, (char)('1' + i), i == 1 ? FDL_E_NET : i == 3 ? FDL_E_PEER : FDL_OK};
        check_ok(fdl_worker_submit(d.w, write_letter, &e[i], .drop = drop));
    }
    assert_false(fdl_worker_idle(d.w));
    assert_int_equal(fdl_worker_pending(d.w), 5);
    atomic_store(&d.held, 0);
    assert_int_equal(fdl_worker_wait(d.w), FDL_E_NET);
    check_error(FDL_E_NET, "job 2 failed");
    assert_string_equal(d.text, "12345");
    assert_int_equal(atomic_load(&d.dropped), 5);
    assert_true(fdl_worker_idle(d.w));
    check_ok(fdl_worker_wait(d.w)); /* an error is told once */
    entry last = {&d, '6', FDL_OK};
    check_ok(fdl_worker_submit(d.w, write_letter, &last, .drop = drop));
    fdl_worker_free(d.w); /* waits for it */
    assert_string_equal(d.text, "123456");
    assert_int_equal(atomic_load(&d.dropped), 6);
    fdl_worker_free(NULL);
}

/* Freeing while jobs are queued runs them all. */
static void freeing_runs_what_is_queued(void **state)
{
    (void)state;
    diary d = {.w = fdl_worker_new()};
    entry e[20];
    for (int i = 0; i < 20; i++) {
        e[i] = (entry){&d, (char)('a' + i), i % 2 ? FDL_E_IO : FDL_OK};
        check_ok(fdl_worker_submit(d.w, write_letter, &e[i], .drop = drop));
    }
    fdl_worker_free(d.w);
    assert_string_equal(d.text, "abcdefghijklmnopqrst");
    assert_int_equal(atomic_load(&d.dropped), 20);
    assert_int_equal(fdl_error_pending(), FDL_OK);
}

typedef struct feeder {
    diary *d;
    entry e[3];
    atomic_int submitted;
} feeder;

static void *feed(void *arg)
{
    feeder *f = arg;
    for (int i = 0; i < 3; i++) {
        f->e[i] = (entry){f->d, (char)('1' + i), FDL_OK};
        check_ok(fdl_worker_submit(f->d->w, write_letter, &f->e[i], .drop = drop));
        atomic_fetch_add(&f->submitted, 1);
    }
    return NULL;
}

static void a_full_queue_makes_who_submits_wait(void **state)
{
    (void)state;
    diary d = {.w = fdl_worker_new(.queue = 1), .held = 1};
    check_some(d.w);
    feeder f = {.d = &d};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, feed, &f), 0);
    while (atomic_load(&f.submitted) < 2) /* one runs, one waits */
        nap();
    for (int i = 0; i < 20; i++)
        nap();
    assert_int_equal(atomic_load(&f.submitted), 2);
    assert_int_equal(fdl_worker_pending(d.w), 2);
    atomic_store(&d.held, 0);
    pthread_join(thread, NULL);
    check_ok(fdl_worker_wait(d.w));
    assert_string_equal(d.text, "123");
    fdl_worker_free(d.w);
}

/* In a job: its own scope, without recording; it may submit, also where there is no room, and may not wait. */
static fdl_status look_around(void *arg)
{
    entry *e = arg;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2), .requires_grad = true);
    if (!x || fdl_requires_grad(fdl_mul(x, 2)) || fdl_grad_enabled())
        return fdl_fail(FDL_E_STATE, "a job records");
    if (fdl_worker_wait(e->d->w) != FDL_E_STATE)
        return fdl_fail(FDL_E_STATE, "a job may wait for itself");
    check_error(FDL_E_STATE, "fdl_worker_wait", "the worker that runs it");
    static entry more[3];
    for (int i = 0; i < 3; i++) {
        more[i] = (entry){e->d, (char)('x' + i), FDL_OK};
        FDL_TRY(fdl_worker_submit(e->d->w, write_letter, &more[i], .drop = drop));
    }
    return FDL_OK;
}

/* While the worker is being freed nothing is taken any more, and what is refused is dropped. */
static fdl_status submit_late(void *arg)
{
    entry *e = arg;
    for (int i = 0; i < 20; i++) /* fdl_worker_free has begun by then */
        nap();
    static entry late;
    late = (entry){e->d, '!', FDL_OK};
    e->status = fdl_worker_submit(e->d->w, write_letter, &late, .drop = drop);
    check_error(FDL_E_STATE, "being freed");
    return FDL_OK;
}

static void what_a_job_may_do(void **state)
{
    (void)state;
    int64_t live = fdl_live_tensors();
    diary d = {.w = fdl_worker_new(.queue = 1)};
    entry first = {&d, '?', FDL_OK};
    check_ok(fdl_worker_submit(d.w, look_around, &first));
    check_ok(fdl_worker_wait(d.w));
    assert_string_equal(d.text, "xyz");
    assert_int_equal(fdl_live_tensors(), live);
    check_ok(fdl_worker_submit(d.w, submit_late, &first));
    fdl_worker_free(d.w);
    assert_int_equal(first.status, FDL_E_STATE);
    assert_string_equal(d.text, "xyz");
    assert_int_equal(atomic_load(&d.dropped), 4);
}

static void bad_calls(void **state)
{
    (void)state;
    assert_null(fdl_worker_new(.queue = -1));
    check_error(FDL_E_ARG, ".queue", "-1");
    diary d = {0};
    entry e = {&d, '1', FDL_OK};
    assert_int_equal(fdl_worker_submit(NULL, write_letter, &e, .drop = drop), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_worker_submit");
    d.w = fdl_worker_new();
    assert_int_equal(fdl_worker_submit(d.w, NULL, &e, .drop = drop), FDL_E_NULL);
    check_error(FDL_E_NULL, "job");
    assert_int_equal(atomic_load(&d.dropped), 2); /* never run: dropped */
    check_ok(fdl_worker_submit(d.w, write_letter, &e));
    fdl_worker_free(d.w);
    assert_int_equal(fdl_worker_pending(NULL), -1);
    check_error(FDL_E_NULL, "fdl_worker_pending");
}

/* Several threads submit to one worker and wait for it. */
static fdl_status count_one(void *arg)
{
    ++*(int *)arg; /* one job at a time: nobody else writes */
    return FDL_OK;
}
static void *count_many(void *arg)
{
    void **both = arg;
    for (int i = 0; i < 200; i++)
        check_ok(fdl_worker_submit(both[0], count_one, both[1]));
    check_ok(fdl_worker_wait(both[0]));
    return NULL;
}

static void many_threads_submit(void **state)
{
    (void)state;
    int n = 0;
    void *both[] = {fdl_worker_new(.queue = 5), &n};
    pthread_t thread[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, count_many, both), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    fdl_worker_free(both[0]);
    assert_int_equal(n, 800);
}

/* ---- saving -------------------------------------------------------------------------------------------------- */

static fdl_module *model(void)
{
    check_ok(fdl_manual_seed(2));
    fdl_module *m =
        fdl_flow(fdl_nn_linear(3, 16), fdl_nn_batch_norm1d(16), fdl_nn_tanh(), fdl_nn_linear(16, 2));
    check_some(m);
    return m;
}

static void train(fdl_module *m, fdl_optim *opt, fdl_ema *ema, int steps)
{
    for (int i = 0; i < steps; i++) {
        FDL_SCOPE;
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(fdl_mean(fdl_square(fdl_forward(m, fdl_randn(FDL_SHAPE(8, 3)))))));
        check_ok(fdl_optim_step(opt));
        check_ok(fdl_ema_update(ema));
    }
}

/* Every tensor of a file, and the texts of a training, are those of another; what tells the time is not compared. */
static void expect_same_files(const char *a, const char *b)
{
    FDL_SCOPE;
    fdl_ckpt_info *x = fdl_ckpt_open(a), *y = fdl_ckpt_open(b);
    check_some(x);
    check_some(y);
    assert_int_equal(fdl_ckpt_count(x), fdl_ckpt_count(y));
    for (int i = 0; i < fdl_ckpt_count(x); i++)
        if (!fdl_same(fdl_ckpt_tensor(x, i), fdl_ckpt_get(y, fdl_ckpt_name(x, i))))
            fail_msg("%s differs", fdl_ckpt_name(x, i));
    static const char *const texts[] = {"optim/0", "scaler/0", "train/progress", "note", "fdl.hash"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_string_equal(fdl_ckpt_meta(x, texts[i]), fdl_ckpt_meta(y, texts[i]));
    fdl_ckpt_close(x);
    fdl_ckpt_close(y);
}

static void what_is_saved_is_what_was_there(void **state)
{
    (void)state;
    fdl_module *m = model();
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(m), .lr = 0.1);
    fdl_ema *ema = fdl_ema_new(m, 0.9, .warmup = true);
    fdl_amp_scaler *scaler = fdl_amp_scaler_new();
    fdl_progress p = {.step = 3, .best = 1.5};
    fdl_worker *w = fdl_worker_new();
    {
        FDL_SCOPE;
        check_some(fdl_amp_scale(scaler, fdl_scalar(1)));
    }
    diary d = {.w = w, .held = 1};
    entry block = {&d, '1', FDL_OK};
    for (int round = 0; round < 3; round++) {
        train(m, opt, ema, 3);
#define ALL                                                                  \
    .optim = opt, .ema = ema, .scaler = scaler, .rng = true, .progress = &p, \
    .meta = FDL_META({"note", "taken"})
        atomic_store(&d.held, 1);
        check_ok(fdl_worker_submit(w, write_letter, &block)); /* writing begins when training has gone on */
        check_ok(fdl_ckpt_save_async(w, m, path_of("later.fdl"), ALL));
        fdl_snapshot *s = fdl_ckpt_snapshot(m, ALL);
        check_some(s);
        check_ok(fdl_ckpt_save(m, path_of("now.fdl"), ALL));
        p.step += 10;
        train(m, opt, ema, 10);
        atomic_store(&d.held, 0);
        check_ok(fdl_worker_wait(w));
        check_ok(fdl_snapshot_save(s, path_of("snapshot.fdl")));
        fdl_snapshot_free(s);
        expect_same_files(path_of("now.fdl"), path_of("later.fdl"));
        expect_same_files(path_of("now.fdl"), path_of("snapshot.fdl"));
    }
    fdl_worker_free(w);
    fdl_amp_scaler_free(scaler);
    fdl_ema_free(ema);
    fdl_optim_free(opt);
    fdl_module_free(m);
}

static void a_busy_worker_is_left_alone(void **state)
{
    (void)state;
    fdl_module *m = model();
    diary d = {.w = fdl_worker_new(), .held = 1};
    entry e = {&d, '1', FDL_OK};
    bool skipped = false;
    check_ok(fdl_worker_submit(d.w, write_letter, &e));
    check_ok(fdl_ckpt_save_async(d.w, m, path_of("busy.fdl"), .skip_if_busy = true, .skipped = &skipped));
    assert_true(skipped);
    assert_int_equal(fdl_worker_pending(d.w), 1);
    atomic_store(&d.held, 0);
    check_ok(fdl_worker_wait(d.w));
    assert_int_equal(access(path_of("busy.fdl"), F_OK), -1);
    check_ok(fdl_ckpt_save_async(d.w, m, path_of("busy.fdl"), .skip_if_busy = true, .skipped = &skipped));
    assert_false(skipped);
    check_ok(fdl_worker_wait(d.w));
    assert_int_equal(access(path_of("busy.fdl"), F_OK), 0);
    fdl_worker_free(d.w);
    fdl_module_free(m);
}

static void touch(const char *name)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    fclose(f);
}

static bool there(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static void the_last_ones_are_kept(void **state)
{
    (void)state;
    fdl_module *m = model();
    check_ok(fdl_graph_set_source_config(m, "{}"));
    fdl_worker *w = fdl_worker_new();
    touch("row-99.fdl"); /* above: another run's, not touched */
    touch("row-x.fdl");
    touch("brow-1.fdl");
    touch("row-1.fdl.gz");
    touch("row-1.fdl.tmp.7");
    for (int i = 8; i <= 12; i++) { /* as numbers, not as texts */
        char name[32];
        snprintf(name, sizeof name, "row-%d.fdl", i);
        check_ok(fdl_ckpt_save_async(w, m, path_of(name), .keep_last = 2));
    }
    check_ok(fdl_worker_wait(w));
    assert_true(there("row-11.fdl") && there("row-12.fdl") && there("row-11.config.json"));
    for (int i = 8; i <= 10; i++) {
        char name[2][32];
        snprintf(name[0], sizeof name[0], "row-%d.fdl", i);
        snprintf(name[1], sizeof name[1], "row-%d.config.json", i);
        assert_false(there(name[0]) || there(name[1]));
    }
    assert_true(there("row-99.fdl") && there("row-x.fdl") && there("brow-1.fdl") && there("row-1.fdl.gz") &&
                there("row-1.fdl.tmp.7"));
    check_ok(fdl_ckpt_save(m, path_of("row-5.fdl"), .keep_last = 1)); /* what lies above is no older file */
    assert_true(there("row-5.fdl") && there("row-11.fdl") && there("row-12.fdl"));

    for (int i = 1; i <= 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "set-%03d.fdl", i);
        check_ok(fdl_ckpt_save(m, path_of(name), .keep_last = 1, .shard_bytes = 100));
        check_ok(fdl_ckpt_load(m, path_of(name)));
    }
    assert_true(there("set-003.fdl.index.json"));
    assert_false(there("set-001.fdl.index.json") || there("set-002.fdl.index.json"));
    fdl_strings keys;
    FDL_SCOPE;
    check_ok(fdl_ckpt_keys(path_of("set-003.fdl"), &keys));

    assert_int_equal(fdl_ckpt_save(m, path_of("row.fdl"), .keep_last = 2), FDL_E_ARG);
    check_error(FDL_E_ARG, ".keep_last", "row.fdl", "number");
    assert_int_equal(fdl_ckpt_save_async(w, m, path_of("row-1.fdl"), .keep_last = -2), FDL_E_ARG);
    check_error(FDL_E_ARG, ".keep_last is -2");
    fdl_worker_free(w);
    fdl_module_free(m);
}

/* How it is to be written goes along with what: shards, and how much is compressed. */
static void options_of_writing_reach_the_file(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_linear(100, 100), *back = fdl_nn_linear(100, 100);
    check_ok(fdl_init_zeros(param_of(m, "weight")));
    fdl_worker *w = fdl_worker_new();
    check_ok(fdl_ckpt_save_async(w, m, path_of("little.fdl.gz"), .level = 1));
    check_ok(fdl_ckpt_save_async(w, m, path_of("much.fdl.gz"), .level = 9));
    check_ok(fdl_ckpt_save_async(w, m, path_of("parts.fdl"), .shard_bytes = 1000));
    check_ok(fdl_worker_wait(w));
    struct stat little, much;
    assert_int_equal(stat(path_of("little.fdl.gz"), &little), 0);
    assert_int_equal(stat(path_of("much.fdl.gz"), &much), 0);
    assert_true(much.st_size < little.st_size);
    assert_true(there("parts.fdl.index.json") && !there("parts.fdl"));
    check_ok(fdl_ckpt_load(back, path_of("parts.fdl")));
    assert_true(same_values(m, back));
    fdl_worker_free(w);
    fdl_module_free(m);
    fdl_module_free(back);
}

static void errors_come_at_once_or_with_the_wait(void **state)
{
    (void)state;
    fdl_module *m = model();
    fdl_module *other = model();
    fdl_ema *of_other = fdl_ema_new(other, 0.9);
    fdl_worker *w = fdl_worker_new();
    assert_int_equal(fdl_ckpt_save_async(w, m, path_of("x.fdl"), .level = 3), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_ckpt_save_async", ".level");
    assert_int_equal(fdl_ckpt_save_async(w, m, path_of("x.fdl"), .ema = of_other), FDL_E_ARG);
    check_error(FDL_E_ARG, "no parameter");
    assert_int_equal(fdl_ckpt_save_async(NULL, m, path_of("x.fdl")), FDL_E_NULL);
    check_error(FDL_E_NULL, "fdl_ckpt_save_async");
    check_ok(fdl_ckpt_save_async(w, m, "/nowhere/x.fdl"));
    check_ok(fdl_ckpt_save_async(w, m, path_of("y.fdl.gz"), .level = 9, .dtype = FDL_BFLOAT16));
    assert_int_equal(fdl_worker_wait(w), FDL_E_IO);
    check_error(FDL_E_IO, "fdl_ckpt_save_async", "/nowhere/x.fdl");
    assert_false(there("x.fdl"));
    FDL_SCOPE;
    fdl_ckpt_info *info = fdl_ckpt_open(path_of("y.fdl.gz"));
    check_some(info);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(info, "linear_1.weight")), FDL_BFLOAT16);
    fdl_ckpt_close(info);
    fdl_snapshot *s = fdl_ckpt_snapshot(m);
    assert_int_equal(fdl_snapshot_save(s, path_of("z.fdl"), .ema = of_other), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_ckpt_snapshot's");
    fdl_snapshot_free(s);
    assert_null(fdl_ckpt_snapshot(m, .dtype = FDL_FLOAT16));
    check_error(FDL_E_ARG, "fdl_snapshot_save's");
    fdl_worker_free(w);
    fdl_ema_free(of_other);
    fdl_module_free(m);
    fdl_module_free(other);
}

/* A signal that the program handles comes to the program's thread, not to the worker's. */
static pthread_t handled_by;
static void note_thread(int signal)
{
    (void)signal;
    handled_by = pthread_self();
}
static void signals_are_the_programs(void **state)
{
    (void)state;
    diary d = {.w = fdl_worker_new(), .held = 1};
    entry e = {&d, '1', FDL_OK};
    check_ok(fdl_worker_submit(d.w, write_letter, &e));
    struct sigaction was, mine = {.sa_handler = note_thread};
    assert_int_equal(sigaction(SIGUSR1, &mine, &was), 0);
    kill(getpid(), SIGUSR1);
    sigaction(SIGUSR1, &was, NULL);
    assert_true(pthread_equal(handled_by, pthread_self()));
    atomic_store(&d.held, 0);
    fdl_worker_free(d.w);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_in_order_and_report_their_first_error),
        cmocka_unit_test(freeing_runs_what_is_queued),
        cmocka_unit_test(a_full_queue_makes_who_submits_wait),
        cmocka_unit_test(what_a_job_may_do),
        cmocka_unit_test(bad_calls),
        cmocka_unit_test(many_threads_submit),
        cmocka_unit_test(what_is_saved_is_what_was_there),
        cmocka_unit_test(a_busy_worker_is_left_alone),
        cmocka_unit_test(the_last_ones_are_kept),
        cmocka_unit_test(options_of_writing_reach_the_file),
        cmocka_unit_test(errors_come_at_once_or_with_the_wait),
        cmocka_unit_test(signals_are_the_programs),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
