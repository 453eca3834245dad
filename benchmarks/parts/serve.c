#include <math.h>

#include "gpu_trace.h"
#include "serve.h"
#include "side.h"

enum { WARMUP = 130 /* the trainer looks again after 10 and 100 replays */ };

/* ---- weights and batches: files, the same for all sides ---------------------------------------------------- */

static fdl_tensor *itself(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static bench_batch batch_of(const bench_model *m, int by, int64_t samples)
{
    bench_batch b = m->batch(by);
    if (samples)
        b.x.d[b.x_samples] = b.y.d[0] = samples;
    return b;
}

int64_t serve_samples(const bench_model *m, int by, int64_t samples)
{
    const bench_batch b = batch_of(m, by, samples);
    return b.x.d[b.x_samples];
}

/* The name of the k-th batch's x or y. */
static const char *key_of(char *to, size_t size, char which, int k)
{
    snprintf(to, size, k ? "%c_%d" : "%c", which, k);
    return to;
}

/* Batches as a module's buffers, which can be saved and loaded. */
static fdl_module *new_batches(const bench_model *m, int by, int64_t samples)
{
    static const fdl_module_ops ops = {.kind = "batches", .forward = itself};
    FDL_SCOPE;
    const bench_batch b = batch_of(m, by, samples);
    fdl_module *data = fdl_module_new(&ops);
    char key[16];
    for (int k = 0; k < BATCHES; k++) {
        fdl_module_buffer(data, key_of(key, sizeof key, 'x', k),
                          b.x_below ? fdl_randint(0, b.x_below, b.x) : fdl_randn(b.x));
        fdl_module_buffer(data, key_of(key, sizeof key, 'y', k),
                          b.y_below ? fdl_randint(0, b.y_below, b.y) : fdl_randn(b.y));
    }
    return fdl_module_done(data);
}

int64_t serve_write_files(const bench_model *m, int by, int64_t samples, const char *weights,
                          const char *batches)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(1));
    fdl_module *model = m->build(by), *data = new_batches(m, by, samples);
    FDL_NEED(model && data);
    FDL_CHECK(fdl_ckpt_save(model, weights));
    FDL_CHECK(fdl_ckpt_save(data, batches));
    const int64_t n = fdl_params_numel(fdl_parameters(model));
    fdl_module_free(model);
    fdl_module_free(data);
    return n;
}

/* ---- ways to make a step ----------------------------------------------------------------------------------- */

typedef struct task {
    const bench_model *m;
    fdl_module *model, *data;
    fdl_optim *opt;
    fdl_tensor *tensors[BATCHES][2];
    int next; /* the batch of the next step */
    bool on_gpu;
    fdl_cuda_graph
        *graph; /* of the way `graph`: with the batch that it reads and the loss that it computes */
    fdl_tensor *fixed[2], *loss;
    fdl_trainer *trainer; /* of the way `trainer` */
} task;

static fdl_list next_batch(task *t)
{
    fdl_tensor **at = t->tensors[t->next];
    t->next = (t->next + 1) % BATCHES;
    return (fdl_list){2, at};
}

/* In a scope of its own, out of which the loss comes: what leads to it dies before the backward, as in Python. */
static fdl_tensor *loss_of(task *t, fdl_list batch)
{
    FDL_SCOPE;
    FDL_RETURN(t->m->loss(t->model, batch, NULL));
}

static fdl_tensor *one_step(task *t, fdl_list batch)
{
    FDL_CHECK(fdl_optim_zero_grad(t->opt));
    fdl_tensor *loss = loss_of(t, batch);
    FDL_CHECK(fdl_backward(loss));
    FDL_CHECK(fdl_optim_step(t->opt));
    return loss;
}

/* The loop by hand. */
static double step_by_hand(task *t, bool read)
{
    FDL_SCOPE;
    fdl_tensor *loss = one_step(t, next_batch(t));
    return read ? fdl_item(loss) : (double)NAN;
}

/* The same step as one CUDA graph, which reads the batch from where it was when it was recorded. */
static fdl_status captured_step(void *ctx)
{
    task *t = ctx;
    FDL_SCOPE;
    t->loss = fdl_escape(one_step(t, (fdl_list){2, t->fixed}));
    return FDL_OK;
}

static void capture(task *t)
{
    for (int i = 0; i < 2; i++)
        t->fixed[i] = fdl_clone(t->tensors[t->next][i]);
    t->graph = fdl_cuda_graph_capture(captured_step, .ctx = t);
    FDL_NEED(t->graph);
}

static double replay(task *t, bool read)
{
    fdl_list batch = next_batch(t);
    for (int i = 0; i < 2; i++)
        FDL_CHECK(fdl_copy_(t->fixed[i], batch.at[i]));
    FDL_CHECK(fdl_cuda_graph_replay(t->graph));
    return read ? fdl_item(t->loss) : (double)NAN;
}

static void start_trainer(task *t)
{
    t->trainer = fdl_trainer_new(t->model, t->opt, t->m->loss);
    FDL_NEED(t->trainer);
}

/* What a user writes; on a GPU the trainer captures by itself. */
static double step_trainer(task *t, bool read)
{
    double loss = (double)NAN;
    FDL_CHECK(fdl_trainer_step(t->trainer, next_batch(t)));
    if (read)
        FDL_CHECK(fdl_trainer_loss(t->trainer, &loss));
    return loss;
}

/* Another way to make a step is another row, and one in steps.c's table of sides. */
static const struct way {
    const char *name;
    void (*start)(task *t);             /* after one step by hand on each batch; NULL: nothing to do */
    double (*step)(task *t, bool read); /* the loss when it is read, otherwise NaN */
} ways[] = {
    {"eager", NULL, step_by_hand},
    {"graph", capture, replay},
    {"trainer", start_trainer, step_trainer},
};
enum { WAYS = sizeof ways / sizeof *ways };

/* ---- answers ------------------------------------------------------------------------------------------------- */

static void wait_for_device(const task *t)
{
    if (t->on_gpu)
        FDL_CHECK(fdl_cuda_synchronize(0));
}

static double seconds_a_step(task *t, const struct way *way, int n, bool read)
{
    way->step(t, false);
    wait_for_device(t);
    const double start = fdl_now();
    for (int i = 0; i < n; i++)
        way->step(t, read);
    wait_for_device(t);
    return (fdl_now() - start) / n;
}

static void answer_number(double value)
{
    printf("= %.9g\n", value);
}

static void answer_busy(task *t, const struct way *way, int n)
{
    gpu_trace trace;
    way->step(t, false);
    bool ok = t->on_gpu && n > 0 && gpu_trace_begin(false);
    for (int i = 0; ok && i < n; i++)
        way->step(t, false);
    ok = ok && gpu_trace_end(&trace);
    if (!ok || !gpu_trace_answer(&trace, n)) {
        if (t->on_gpu)
            fprintf(stderr, "%s, %s: the device's time isn't known: %s\n", t->m->name, way->name,
                    gpu_trace_why());
        answer_number((double)NAN);
        return;
    }
    if (getenv("BENCH_TRACE")) {
        fprintf(stderr, "%s, flodl %s, %d steps:\n", t->m->name, way->name, n);
        gpu_trace_print(&trace, stderr, 25);
    }
    gpu_trace_free(&trace);
}

static void answer_memory(const task *t, fdl_status (*peak)(int device, int64_t *bytes))
{
    int64_t bytes = 0;
    answer_number(t->on_gpu && peak(0, &bytes) == FDL_OK ? (double)bytes : (double)NAN);
}

static void answer_lines(task *t, const struct way *way)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (strncmp(line, "read ", 5) == 0)
            answer_number(seconds_a_step(t, way, atoi(line + 5), true));
        else if (strncmp(line, "run ", 4) == 0)
            answer_number(seconds_a_step(t, way, atoi(line + 4), false));
        else if (strncmp(line, "busy ", 5) == 0)
            answer_busy(t, way, atoi(line + 5));
        else if (strcmp(line, "memory\n") == 0)
            answer_memory(t, fdl_cuda_max_memory_allocated);
        else if (strcmp(line, "reserved\n") == 0)
            answer_memory(t, fdl_cuda_max_memory_reserved);
        else
            answer_number((double)NAN);
        fflush(stdout);
    }
}

/* ---- the process ------------------------------------------------------------------------------------------- */

const bench_model *serve_model(const bench_model *const *models, const char *name)
{
    while (*models && strcmp((*models)->name, name) != 0)
        models++;
    return *models;
}

static void load(task *t, int by, int64_t samples, const char *weights, const char *batches)
{
    FDL_SCOPE;
    t->model = t->m->build(by);
    t->data = new_batches(t->m, by, samples);
    FDL_NEED(t->model && t->data);
    FDL_CHECK(fdl_ckpt_load(t->model, weights));
    FDL_CHECK(fdl_ckpt_load(t->data, batches));
    char key[16];
    for (int k = 0; k < BATCHES; k++)
        for (int i = 0; i < 2; i++)
            t->tensors[k][i] =
                fdl_param_tensor(fdl_module_own_buffer(t->data, key_of(key, sizeof key, "xy"[i], k)));
    t->opt = fdl_optim_adam(fdl_parameters(t->model), .lr = 1e-3);
    FDL_NEED(t->opt);
}

int serve(const bench_model *const *models, char **argv)
{
    const struct way *way = NULL;
    task t = {.m = serve_model(models, argv[0]), .on_gpu = strcmp(argv[2], "cuda") == 0};
    for (int i = 0; i < WAYS; i++)
        way = strcmp(ways[i].name, argv[1]) == 0 ? &ways[i] : way;
    if (!way || !t.m)
        return 2;
    FDL_CHECK(fdl_set_default_device(t.on_gpu ? FDL_CUDA(0) : FDL_CPU));
    FDL_CHECK(fdl_set_num_threads(atoi(argv[4])));
    load(&t, atoi(argv[3]), argv[7] ? atoll(argv[7]) : 0, argv[5], argv[6]);
    char version[32], line[64];
    printf("= loaded %s\n", fdl_libtorch_version(version, sizeof version));
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin))
        return 0;
    const bool starts_late = way->start == capture; /* a graph computes nothing while it is recorded */
    if (way->start && !starts_late)
        way->start(&t);
    printf("= loss");
    for (int i = 0; i < BATCHES; i++)
        printf(" %.9g", starts_late ? step_by_hand(&t, true) : way->step(&t, true));
    putchar('\n');
    fflush(stdout);
    if (starts_late)
        way->start(&t);
    for (int i = 0; i < WARMUP; i++)
        way->step(&t, false);
    wait_for_device(&t);
    if (t.on_gpu)
        FDL_CHECK(fdl_cuda_reset_peak_memory_stats(0));
    puts("= ready");
    fflush(stdout);
    answer_lines(&t, way);
    if (t.trainer && getenv("BENCH_PLAN"))
        fdl_trainer_plan(t.trainer, stderr);
    fdl_trainer_free(t.trainer);
    fdl_cuda_graph_free(t.graph);
    fdl_optim_free(t.opt);
    fdl_module_free(t.model);
    fdl_module_free(t.data);
    return 0;
}
