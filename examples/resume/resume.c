/* A training that may be killed at any moment. With a file it trains and keeps everything there: kill it however you like, start
 * it again, it goes on. Without one it does that to itself: a child process is killed in the middle, this one takes its file up,
 * and must end with the very weights of a training that nobody touched.
 *
 *     resume [FILE]
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <flodl/flodl.h>

enum { POINTS = 600, ARMS = 3, BATCH = 25, EPOCHS = 12, PER_EPOCH = POINTS / BATCH };

typedef struct watch {
    int64_t kill_at; /* 0: never */
} watch;

static fdl_status on_step(const fdl_step_record *r, void *ctx)
{
    const watch *w = ctx;
    if (r->step == w->kill_at)
        kill(getpid(), SIGKILL);
    return FDL_OK;
}

/* Three arms of a spiral: points [POINTS, 2] and which arm, [POINTS]. */
static fdl_dataset *spiral(void)
{
    static float x[POINTS * 2];
    static int64_t arm[POINTS];
    fdl_rng rng = fdl_rng_seed(4);
    FDL_SCOPE;
    for (int i = 0; i < POINTS; i++) {
        double r = fdl_rng_f64(&rng), angle = 4 * r + fdl_rng_normal(&rng, 0, 0.1) + i % ARMS * 2.0944;
        x[2 * i] = (float)(r * (1 - angle * angle / 2));
        x[2 * i + 1] = (float)(r * angle);
        arm[i] = i % ARMS;
    }
    return fdl_data_tensors(
        FDL_LIST(fdl_from_f32(x, FDL_SHAPE(POINTS, 2)), fdl_from_i64(arm, FDL_SHAPE(POINTS))));
}

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

/* Trains, from the beginning or from where the file is; owned. */
static fdl_module *train(const char *file, int64_t kill_at, fdl_fit_report *report)
{
    watch w = {kill_at};
    FDL_CHECK(fdl_manual_seed(1));
    fdl_loader *data = fdl_data_loader(spiral(), BATCH);
    fdl_module *model = fdl_flow(fdl_nn_linear(2, 48), fdl_nn_relu(), fdl_nn_dropout(0.1),
                                 fdl_nn_linear(48, 48), fdl_nn_relu(), fdl_nn_linear(48, ARMS));
    fdl_optim *opt = fdl_optim_adamw(fdl_parameters(model));
    fdl_sched *sched = fdl_sched_one_cycle(0.02, (int64_t)EPOCHS * PER_EPOCH);
    fdl_ema *ema = fdl_ema_new(model, 0.98);
    fdl_trainer *tr =
        fdl_trainer_new(model, opt, loss_of, .sched = sched, .ema = ema, .on_step = on_step, .ctx = &w);
    FDL_NEED(data && tr && ema);
    FDL_CHECK(fdl_trainer_fit(tr, data, .epochs = EPOCHS, .resume = file, .resume_every = file ? 10 : 0,
                              .background = file != NULL, .report = report));
    fdl_trainer_free(tr);
    FDL_CHECK(fdl_ema_apply(ema)); /* the averages are the result */
    fdl_ema_free(ema);
    fdl_sched_free(sched);
    fdl_optim_free(opt);
    fdl_data_loader_free(data);
    return model;
}

static void say(const char *who, const fdl_fit_report *r)
{
    if (r->resumed)
        printf("%s: went on behind step %lld, loss %.4f\n", who, (long long)r->resumed, r->loss);
    else
        printf("%s: from the beginning, loss %.4f\n", who, r->loss);
}

static bool same(fdl_module *a, fdl_module *b)
{
    FDL_SCOPE;
    fdl_params *x = fdl_parameters(a), *y = fdl_parameters(b);
    for (int i = 0; i < fdl_params_count(x); i++)
        if (!fdl_same(fdl_param_tensor(fdl_params_at(x, i)), fdl_param_tensor(fdl_params_at(y, i))))
            return false;
    return true;
}

int main(int argc, char **argv)
{
    fdl_fit_report report, whole;
    if (argc > 1) {
        fdl_module *model = train(argv[1], 0, &report);
        say(argv[1], &report);
        return fdl_module_free(model) == FDL_OK ? 0 : 1;
    }
    char folder[] = "/tmp/flodl-resume-XXXXXX", file[64];
    FDL_NEED(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/run.fdl", folder);
    for (int i = 0; i < 2; i++) { /* before this process has threads, which a fork would lose */
        pid_t child = fork();
        FDL_NEED(child >= 0);
        if (!child) {
            train(file, i ? 203 : 137, &report);
            return 1; /* it was to be killed */
        }
        int how;
        FDL_NEED(waitpid(child, &how, 0) == child && WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
        printf("child %d: killed\n", i + 1);
    }
    fdl_module *again = train(file, 0, &report), *never = train(NULL, 0, &whole);
    say("after that", &report);
    say("undisturbed", &whole);
    remove(file);
    rmdir(folder);
    FDL_NEED(report.resumed > 0 && whole.loss < 0.5);
    FDL_NEED(same(again, never) && report.loss == whole.loss);
    printf("the same weights, to the last bit\n");
    FDL_CHECK(fdl_module_free(again));
    FDL_CHECK(fdl_module_free(never));
    return 0;
}
