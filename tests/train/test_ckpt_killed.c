/* Processes that are killed while they save a training: whatever the moment, the newest file that is there is whole, and of one
 * moment of the training, in every tensor and number. FLODL_KILLS says how many (default 200). */
#include "ckpt_files.h"

#include "flodl/worker.h"

#include <signal.h>
#include <sys/wait.h>

static int kills(void)
{
    const char *n = getenv("FLODL_KILLS");
    return n && atoi(n) > 0 ? atoi(n) : 200;
}

/* ---- a training that tells which moment it is ---------------------------------------------------------------- */

typedef struct training {
    fdl_module *m;
    fdl_optim *opt;
    fdl_ema *ema;
    fdl_rng rng;
    fdl_progress p;
} training;

static training begin(void)
{
    training t = {.m = fdl_flow(fdl_nn_linear(8, 32), fdl_nn_tanh(), fdl_nn_linear(32, 4))};
    check_some(t.m);
    t.opt = fdl_optim_adam(fdl_parameters(t.m));
    t.ema = fdl_ema_new(t.m, 0.5);
    check_some(t.opt && t.ema ? t.m : NULL);
    return t;
}

static void end(training *t)
{
    fdl_ema_free(t->ema);
    fdl_optim_free(t->opt);
    fdl_module_free(t->m);
}

/* Everything has to do with n: each value, each state, the averages, numbers and generators. */
static void set_moment(training *t, int64_t n)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *ps = fdl_parameters(t->m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(ps, i));
        check_ok(fdl_fill_(x, (double)n));
        check_ok(fdl_fill_(fdl_ema_shadow(t->ema, x), (double)n));
        check_ok(fdl_set_grad(x, fdl_zeros_like(x)));
    }
    check_ok(fdl_optim_set_lr(t->opt, 0));
    check_ok(fdl_optim_step(t->opt));
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_list states = fdl_optim_states(t->opt, fdl_param_tensor(fdl_params_at(ps, i)));
        for (int k = 0; k < states.n; k++)
            check_ok(fdl_fill_(states.at[k], (double)n));
    }
    check_ok(fdl_optim_set_lr(t->opt, (double)n));
    t->rng.s[0] = t->rng.s[1] = t->rng.s[2] = t->rng.s[3] = (uint64_t)n;
    t->p.step = n;
}

static bool all_are(fdl_tensor *x, int64_t n)
{
    return fdl_item(fdl_min(x)) == (double)n && fdl_item(fdl_max(x)) == (double)n;
}

/* The moment that the file has, which is one for all of it. */
static int64_t moment_of(training *t, const char *path)
{
    FDL_SCOPE;
    check_ok(
        fdl_ckpt_load(t->m, path, .optim = t->opt, .ema = t->ema, .host_rng = &t->rng, .progress = &t->p));
    int64_t n = t->p.step;
    fdl_params *ps = fdl_parameters(t->m);
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(ps, i));
        fdl_list states = fdl_optim_states(t->opt, x);
        assert_true(all_are(x, n) && all_are(fdl_ema_shadow(t->ema, x), n));
        assert_int_equal(states.n, 3);
        for (int k = 0; k < 3; k++)
            assert_true(all_are(states.at[k], n));
    }
    assert_true(fdl_optim_lr(t->opt) == (double)n);
    assert_true(t->rng.s[0] == (uint64_t)n && t->rng.s[3] == (uint64_t)n);
    return n;
}

/* ---- ways of saving ------------------------------------------------------------------------------------------- */

static char *path_for(bool row, int64_t n)
{
    char name[64];
    snprintf(name, sizeof name, row ? "row-%06lld.fdl" : "one.fdl", (long long)n);
    return path_of(name);
}

/* The newest file of the row, or -1. */
static int64_t newest(void)
{
    int64_t best = -1;
    DIR *d = opendir(folder);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        long long n;
        int end = 0;
        if (sscanf(e->d_name, "row-%lld.fdl%n", &n, &end) == 1 && end && !e->d_name[end] && n > best)
            best = n;
    }
    closedir(d);
    return best;
}

/* Saves moment after moment until somebody kills the process. */
static void save_for_ever(training *t, int64_t n, bool row, bool background)
{
    fdl_worker *w = background ? fdl_worker_new(.queue = 2) : NULL;
    for (;; n++) {
        set_moment(t, n);
#define WHAT .optim = t->opt, .ema = t->ema, .host_rng = &t->rng, .progress = &t->p, .keep_last = row ? 2 : 0
        if (w ? fdl_ckpt_save_async(w, t->m, path_for(row, n), WHAT)
              : fdl_ckpt_save(t->m, path_for(row, n), WHAT))
            _exit(1);
    }
}

static void killed(bool row, bool background)
{
    training t = begin(), seen = begin();
    fdl_rng rng = fdl_rng_seed(5);
    set_moment(&t, 1);
    int64_t last = 1, saves = 0;
    check_ok(fdl_ckpt_save(t.m, path_for(row, 1), .optim = t.opt, .ema = t.ema, .host_rng = &t.rng,
                           .progress = &t.p));
    int n = kills() / 4, none = 0;
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (!child)
            save_for_ever(&t, last + 1, row, background);
        usleep((useconds_t)fdl_rng_below(&rng, 20000));
        kill(child, SIGKILL);
        int how;
        assert_int_equal(waitpid(child, &how, 0), child);
        assert_true(WIFSIGNALED(how)); /* no save has failed */
        int64_t now = row ? newest() : 0;
        int64_t moment = moment_of(&seen, path_for(row, now));
        if (row)
            assert_int_equal(moment, now); /* the newest, not one that is whole by chance */
        assert_true(moment >= last);
        none += moment == last;
        saves += moment - last;
        last = moment;
    }
    print_message("%d kills, %lld saves, %d killed before the first\n", n, (long long)saves, none);
    assert_true(saves > 0);
    end(&t);
    end(&seen);
}

static void over_one_file(void **state)
{
    (void)state;
    killed(false, false);
}
static void over_one_file_in_the_background(void **state)
{
    (void)state;
    killed(false, true);
}
static void in_a_row(void **state)
{
    (void)state;
    killed(true, false);
}
static void in_a_row_in_the_background(void **state)
{
    (void)state;
    killed(true, true);
}

int main(void)
{
    fdl_set_num_threads(1); /* threads don't survive a fork */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(over_one_file, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(over_one_file_in_the_background, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(in_a_row, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(in_a_row_in_the_background, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
