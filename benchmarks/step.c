/* A training step of each model of models/, on this side and in PyTorch's modes, measured by turns in one run. Adam at 1e-3,
 * float32, the batch on the device.
 *
 *     bench_step [MODEL...] [--device cuda|cpu] [--rounds N] [--steps N] [--modes NAME,...] [--threads N] [--small]
 *                [--python PROGRAM] [--json FILE]
 *
 * Every side is a process of its own, so that its memory is its own: this program once for each of its ways to make a step,
 * and step.py once for each mode. They begin with the same weights and the same batch, which this program writes, and must
 * agree in the first loss to 1e-4, relative; a side that doesn't is refused. Then they take turns, in changing order; a round
 * of a side is --steps steps. Two columns: steps that each read their loss, and steps of which only the last is waited for.
 *
 * --small divides the sizes by 8: for trying whether everything works, not for figures. */
#include <getopt.h>
#include <math.h>
#include <signal.h>

#include "models/models.h"
#include "twin.h"

enum { MAX_ROUNDS = 101, WARMUP = 130 /* the trainer looks again after 10 and 100 replays */ };

static const bench_model *const models[] = {
#define MODEL(name) &bench_##name,
    BENCH_MODELS(MODEL)
#undef MODEL
};
enum { MODELS = sizeof models / sizeof *models };

typedef struct settings {
    const char *device, *python, *modes, *json;
    int rounds, steps, threads, by;
} settings;

/* ---- weights and batch: from files, the same on all sides ------------------------------------------- */

static fdl_tensor *itself(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

/* The batch as a module's buffers x and y, which can be saved and loaded. */
static fdl_module *new_batch(const bench_model *m, int by)
{
    static const fdl_module_ops ops = {.kind = "batch", .forward = itself};
    FDL_SCOPE;
    const bench_batch b = m->batch(by);
    fdl_module *data = fdl_module_new(&ops);
    fdl_module_buffer(data, "x", b.x_below ? fdl_randint(0, b.x_below, b.x) : fdl_randn(b.x));
    fdl_module_buffer(data, "y", b.y_below ? fdl_randint(0, b.y_below, b.y) : fdl_randn(b.y));
    return fdl_module_done(data);
}

/* Writes both; returns the number of the model's parameters. */
static int64_t write_files(const bench_model *m, int by, const char *weights, const char *batch)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(1));
    fdl_module *model = m->build(by), *data = new_batch(m, by);
    FDL_NEED(model && data);
    FDL_CHECK(fdl_ckpt_save(model, weights));
    FDL_CHECK(fdl_ckpt_save(data, batch));
    int64_t n = fdl_params_numel(fdl_parameters(model));
    fdl_module_free(model);
    fdl_module_free(data);
    return n;
}

/* ---- this side: ways to make a step ------------------------------------------------------------------- */

typedef struct task {
    const bench_model *m;
    fdl_module *model;
    fdl_optim *opt;
    fdl_list batch;
    bool on_gpu;
    fdl_cuda_graph *graph; /* of the way `graph`, and the loss that it computes */
    fdl_tensor *loss;
    fdl_trainer *trainer; /* of the way `trainer` */
} task;

static fdl_tensor *one_step(task *t)
{
    FDL_CHECK(fdl_optim_zero_grad(t->opt));
    fdl_tensor *loss = t->m->loss(t->model, t->batch, NULL);
    FDL_CHECK(fdl_backward(loss));
    FDL_CHECK(fdl_optim_step(t->opt));
    return loss;
}

/* The loop by hand. */
static double step_by_hand(task *t, bool read)
{
    FDL_SCOPE;
    fdl_tensor *loss = one_step(t);
    return read ? fdl_item(loss) : NAN;
}

/* The same step as one CUDA graph. */
static fdl_status captured_step(void *ctx)
{
    task *t = ctx;
    FDL_SCOPE;
    t->loss = fdl_escape(one_step(t));
    return FDL_OK;
}

static void capture(task *t)
{
    t->graph = fdl_cuda_graph_capture(captured_step, .ctx = t);
    FDL_NEED(t->graph);
}

static double replay(task *t, bool read)
{
    FDL_CHECK(fdl_cuda_graph_replay(t->graph));
    return read ? fdl_item(t->loss) : NAN;
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
    FDL_CHECK(fdl_trainer_step(t->trainer, t->batch));
    if (read)
        FDL_CHECK(fdl_trainer_loss(t->trainer, &loss));
    return loss;
}

/* Another way to make a step is another row. */
static const struct way {
    const char *name;
    void (*start)(task *t);             /* after one step by hand; NULL: nothing to do */
    double (*step)(task *t, bool read); /* the loss when it is read, otherwise NaN */
    bool needs_gpu;
} ways[] = {
    {"eager", NULL, step_by_hand, false},
    {"graph", capture, replay, true},
    {"trainer", start_trainer, step_trainer, false},
};
enum { WAYS = sizeof ways / sizeof *ways };

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

static void serve_lines(task *t, const struct way *way)
{
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        int64_t bytes = 0;
        if (strncmp(line, "read ", 5) == 0)
            printf("= %.9g\n", seconds_a_step(t, way, atoi(line + 5), true));
        else if (strncmp(line, "run ", 4) == 0)
            printf("= %.9g\n", seconds_a_step(t, way, atoi(line + 4), false));
        else if (strcmp(line, "memory\n") == 0 && t->on_gpu &&
                 fdl_cuda_max_memory_allocated(0, &bytes) == FDL_OK)
            printf("= %lld\n", (long long)bytes);
        else
            puts("= nan");
        fflush(stdout);
    }
}

/* The process of one way; answers as step.py does: WAY MODEL DEVICE DIVISOR THREADS WEIGHTS BATCH. */
static int serve(char **argv)
{
    const struct way *way = NULL;
    task t = {.on_gpu = strcmp(argv[2], "cuda") == 0};
    for (int i = 0; i < WAYS; i++)
        way = strcmp(ways[i].name, argv[0]) == 0 ? &ways[i] : way;
    for (int i = 0; i < MODELS; i++)
        t.m = strcmp(models[i]->name, argv[1]) == 0 ? models[i] : t.m;
    if (!way || !t.m)
        return 2;
    const int by = atoi(argv[3]);
    FDL_CHECK(fdl_set_default_device(t.on_gpu ? FDL_CUDA(0) : FDL_CPU));
    FDL_CHECK(fdl_set_num_threads(atoi(argv[4])));
    t.model = t.m->build(by);
    fdl_module *data = new_batch(t.m, by);
    FDL_NEED(t.model && data);
    FDL_CHECK(fdl_ckpt_load(t.model, argv[5]));
    FDL_CHECK(fdl_ckpt_load(data, argv[6]));
    fdl_tensor *batch[] = {fdl_param_tensor(fdl_module_own_buffer(data, "x")),
                           fdl_param_tensor(fdl_module_own_buffer(data, "y"))};
    t.batch = (fdl_list){2, batch};
    {
        FDL_SCOPE;
        t.opt = fdl_optim_adam(fdl_parameters(t.model), .lr = 1e-3);
        FDL_NEED(t.opt);
    }
    printf("= loss %.9g\n", step_by_hand(&t, true));
    fflush(stdout);
    if (way->start)
        way->start(&t);
    for (int i = 0; i < WARMUP; i++)
        way->step(&t, false);
    wait_for_device(&t);
    if (t.on_gpu)
        FDL_CHECK(fdl_cuda_reset_peak_memory_stats(0));
    char version[32];
    printf("= ready %s\n", fdl_libtorch_version(version, sizeof version));
    fflush(stdout);
    serve_lines(&t, way);
    if (t.trainer && getenv("BENCH_PLAN"))
        fdl_trainer_plan(t.trainer, stderr);
    fdl_trainer_free(t.trainer);
    fdl_cuda_graph_free(t.graph);
    fdl_optim_free(t.opt);
    fdl_module_free(t.model);
    fdl_module_free(data);
    return 0;
}

/* ---- all sides ------------------------------------------------------------------------------------------ */

typedef struct side {
    bool ours;
    const char *mode;
    twin t;
    bool started;
    char refusal[128]; /* why it wasn't measured; "": it was */
    char version[64];
    double first_loss;
    double read[MAX_ROUNDS], run[MAX_ROUNDS]; /* seconds a step, in the order of rounds */
    double memory, busy;                      /* bytes, seconds; NaN: not known */
} side;

static const char *const torch_modes[] = {"eager", "fused", "graph", "compile", "reduce-overhead"};
enum { TORCH_MODES = sizeof torch_modes / sizeof *torch_modes, MAX_SIDES = WAYS + TORCH_MODES };

/* The next answer, without its "= ". */
static bool answer(side *s, char *line, int size)
{
    while (fgets(line, size, s->t.in))
        if (strncmp(line, "= ", 2) == 0) {
            memmove(line, line + 2, strlen(line + 2) + 1);
            line[strcspn(line, "\n")] = '\0';
            return true;
        }
    if (!*s->refusal)
        snprintf(s->refusal, sizeof s->refusal, "ended; what it said stands above");
    return false;
}

static bool expected(side *s, const char *word, char *rest, int size)
{
    char line[256];
    const size_t length = strlen(word);
    if (!answer(s, line, sizeof line))
        return false;
    if (strncmp(line, word, length) != 0 || line[length] != ' ') {
        snprintf(s->refusal, sizeof s->refusal, "answered \"%.80s\"", line);
        return false;
    }
    snprintf(rest, (size_t)size, "%s", line + length + 1);
    return true;
}

static double asked(side *s, const char *question)
{
    char line[256];
    if (*s->refusal || fputs(question, s->t.out) < 0 || fputs("\n", s->t.out) < 0 || fflush(s->t.out) != 0 ||
        !answer(s, line, sizeof line))
        return NAN;
    return strtod(line, NULL);
}

/* Whether a comma separated list has the word; NULL: everything. */
static bool is_listed(const char *list, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = list; at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (strncmp(at, word, length) == 0 && (at[length] == '\0' || at[length] == ','))
            return true;
    return !list;
}

static bool start(side *s, const bench_model *m, const settings *o, char *weights, char *batch)
{
    char by[16], threads[16];
    snprintf(by, sizeof by, "%d", o->by);
    snprintf(threads, sizeof threads, "%d", o->threads);
    char *name = (char *)m->name, *mode = (char *)s->mode, *device = (char *)o->device;
    char *ours[] = {
        (char *)"/proc/self/exe", (char *)"--serve", mode, name, device, by, threads, weights, batch, NULL};
    char *theirs[] = {(char *)o->python,
                      (char *)FLODL_SOURCE_DIR "/benchmarks/step.py",
                      name,
                      mode,
                      device,
                      by,
                      threads,
                      weights,
                      batch,
                      NULL};
    s->started = twin_start_of(&s->t, s->ours ? ours : theirs) == 0;
    if (!s->started)
        snprintf(s->refusal, sizeof s->refusal, "could not be started");
    return s->started;
}

/* The sides that this run has: ours first. */
static int new_sides(side *sides, const settings *o)
{
    int n = 0;
    for (int i = 0; i < WAYS; i++)
        if (!ways[i].needs_gpu || strcmp(o->device, "cuda") == 0)
            sides[n++] = (side){.ours = true, .mode = ways[i].name, .memory = NAN, .busy = NAN};
    for (int i = 0; i < TORCH_MODES; i++) {
        bool needs_gpu =
            strcmp(torch_modes[i], "graph") == 0 || strcmp(torch_modes[i], "reduce-overhead") == 0;
        if (is_listed(o->modes, torch_modes[i]) && (!needs_gpu || strcmp(o->device, "cuda") == 0))
            sides[n++] = (side){.mode = torch_modes[i], .memory = NAN, .busy = NAN};
    }
    return n;
}

/* Each side's first loss must be the first side's. */
static void check_equal(side *sides, int n)
{
    for (int i = 0; i < n; i++) {
        side *s = &sides[i];
        char text[64];
        if (*s->refusal || !expected(s, "loss", text, sizeof text))
            continue;
        s->first_loss = strtod(text, NULL);
        const double ours = sides[0].first_loss;
        if (!(fabs(s->first_loss - ours) <= 1e-4 * fabs(ours)))
            snprintf(s->refusal, sizeof s->refusal, "refused: its first loss is %.8g, ours %.8g",
                     s->first_loss, ours);
    }
    for (int i = 0; i < n; i++)
        if (!*sides[i].refusal)
            expected(&sides[i], "ready", sides[i].version, sizeof sides[i].version);
}

static void measure(side *sides, int n, const settings *o)
{
    char read[32], run[32];
    snprintf(read, sizeof read, "read %d", o->steps);
    snprintf(run, sizeof run, "run %d", o->steps);
    for (int r = 0; r < o->rounds; r++)
        for (int k = 0; k < n; k++) {
            side *s = &sides[r % 2 ? n - 1 - k : k];
            s->read[r] = asked(s, read);
            s->run[r] = asked(s, run);
        }
    for (int i = 0; i < n; i++) {
        sides[i].memory = asked(&sides[i], "memory");
        sides[i].busy = asked(&sides[i], "busy");
    }
}

static double median_of(const double *values, int n)
{
    double sorted[MAX_ROUNDS];
    memcpy(sorted, values, sizeof *values * (size_t)n);
    return median(sorted, n);
}

/* The median over the rounds of a's time by b's. */
static double ratio(const double *a, const double *b, int n)
{
    double ratios[MAX_ROUNDS];
    for (int i = 0; i < n; i++)
        ratios[i] = a[i] / b[i];
    return median(ratios, n);
}

/* ---- what it says ---------------------------------------------------------------------------------------- */

static void put_number(const char *format, double value)
{
    char text[32];
    snprintf(text, sizeof text, format, value);
    printf("%*s", 11, isnan(value) ? "-" : text);
}

/* The fastest measured side of ours or of PyTorch's, with the loss read; -1: none was measured. */
static int fastest(const side *sides, int n, const settings *o, bool ours)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (sides[i].ours == ours && !*sides[i].refusal &&
            (best < 0 || median_of(sides[i].read, o->rounds) < median_of(sides[best].read, o->rounds)))
            best = i;
    return best;
}

static void print_model(const bench_model *m, int64_t params, const side *sides, int n, const settings *o)
{
    printf("\n%s: %s\n  %.2f M parameters, batch %lld, first loss %.6g%s\n", m->name, m->what,
           (double)params / 1e6, (long long)m->batch(o->by).x.d[m->batch(o->by).x.ndim == 3 ? 1 : 0],
           sides[0].first_loss, o->by > 1 ? ", sizes divided: not for figures" : "");
    printf("  %-24s%11s%11s%11s%11s%11s\n", "us a step", "loss read", "not read", "peak MB", "busy us",
           "ours/this");
    const int best = fastest(sides, n, o, true);
    for (int i = 0; i < n; i++) {
        const side *s = &sides[i];
        printf("  %-8s%-16s", s->ours ? "flodl" : "PyTorch", s->mode);
        if (*s->refusal) {
            printf("   %s\n", s->refusal);
            continue;
        }
        put_number("%.1f", median_of(s->read, o->rounds) * 1e6);
        put_number("%.1f", median_of(s->run, o->rounds) * 1e6);
        put_number("%.1f", s->memory / 1e6);
        put_number("%.1f", s->busy * 1e6);
        put_number("%.3f", best < 0 ? NAN : ratio(sides[best].read, s->read, o->rounds));
        putchar('\n');
    }
    fflush(stdout);
}

static void json_number(FILE *f, double value)
{
    if (isnan(value))
        fputs("null", f);
    else
        fprintf(f, "%.9g", value);
}

static void json_rounds(FILE *f, const char *name, const double *values, int n)
{
    fprintf(f, ", \"%s\": [", name);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", f);
        json_number(f, values[i]);
    }
    fputs("]", f);
}

static void json_model(FILE *f, const bench_model *m, int64_t params, const side *sides, int n,
                       const settings *o)
{
    fprintf(f, "\n  {\"name\": \"%s\", \"what\": \"%s\", \"parameters\": %lld, \"sides\": [", m->name,
            m->what, (long long)params);
    for (int i = 0; i < n; i++) {
        const side *s = &sides[i];
        fprintf(f, "%s\n    {\"side\": \"%s\", \"mode\": \"%s\"", i ? "," : "", s->ours ? "flodl" : "pytorch",
                s->mode);
        if (*s->refusal) {
            fputs(", \"refusal\": \"", f);
            for (const char *c = s->refusal; *c; c++)
                fprintf(f, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
            fputs("\"}", f);
            continue;
        }
        fprintf(f, ", \"version\": \"%s\", \"first_loss\": %.9g", s->version, s->first_loss);
        json_rounds(f, "read_s", s->read, o->rounds);
        json_rounds(f, "run_s", s->run, o->rounds);
        fputs(", \"peak_bytes\": ", f);
        json_number(f, s->memory);
        fputs(", \"busy_s\": ", f);
        json_number(f, s->busy);
        fputs("}", f);
    }
    fputs("\n  ]}", f);
}

/* ---- one model -------------------------------------------------------------------------------------------- */

/* A line of the summary at the end: seconds a step with the loss read, and the ratio of our fastest way to PyTorch's. */
typedef struct summary {
    const char *name, *ours, *theirs; /* the fastest ways; "-": none */
    double eager[2];                  /* ours, PyTorch's */
    double fastest[2], ratio;
} summary;

static summary bench(const bench_model *m, const settings *o, FILE *json)
{
    char folder[] = "/tmp/bench_step_XXXXXX", weights[64], batch[64];
    if (!mkdtemp(folder)) {
        perror(folder);
        exit(1);
    }
    snprintf(weights, sizeof weights, "%s/weights.safetensors", folder);
    snprintf(batch, sizeof batch, "%s/batch.safetensors", folder);
    const int64_t params = write_files(m, o->by, weights, batch);
    side sides[MAX_SIDES];
    const int n = new_sides(sides, o);
    for (int i = 0; i < n; i++)
        start(&sides[i], m, o, weights, batch);
    check_equal(sides, n);
    measure(sides, n, o);
    for (int i = 0; i < n; i++)
        if (sides[i].started)
            twin_end(&sides[i].t);
    remove(weights);
    remove(batch);
    remove(folder);
    print_model(m, params, sides, n, o);
    if (json)
        json_model(json, m, params, sides, n, o);
    const int ours = fastest(sides, n, o, true), theirs = fastest(sides, n, o, false);
    summary line = {m->name,
                    ours < 0 ? "-" : sides[ours].mode,
                    theirs < 0 ? "-" : sides[theirs].mode,
                    {NAN, NAN},
                    {NAN, NAN},
                    NAN};
    for (int i = 0; i < n; i++)
        if (!*sides[i].refusal && strcmp(sides[i].mode, "eager") == 0)
            line.eager[!sides[i].ours] = median_of(sides[i].read, o->rounds);
    if (ours >= 0)
        line.fastest[0] = median_of(sides[ours].read, o->rounds);
    if (theirs >= 0)
        line.fastest[1] = median_of(sides[theirs].read, o->rounds);
    if (ours >= 0 && theirs >= 0)
        line.ratio = ratio(sides[ours].read, sides[theirs].read, o->rounds);
    return line;
}

static int usage(void)
{
    fprintf(stderr,
            "bench_step [MODEL...] [--device cuda|cpu] [--rounds 1 to %d] [--steps N] [--modes NAME,...] "
            "[--threads N] "
            "[--small]\n           [--python PROGRAM] [--json FILE]\nmodels:",
            MAX_ROUNDS);
    for (int i = 0; i < MODELS; i++)
        fprintf(stderr, " %s", models[i]->name);
    fprintf(stderr, "\nmodes of PyTorch:");
    for (int i = 0; i < TORCH_MODES; i++)
        fprintf(stderr, " %s", torch_modes[i]);
    fputc('\n', stderr);
    return 2;
}

static bool is_wanted(const bench_model *m, int n, char **names)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], m->name) == 0)
            return true;
    return n == 0;
}

static bool are_models(int n, char **names)
{
    for (int i = 0; i < n; i++) {
        bool found = false;
        for (int k = 0; k < MODELS; k++)
            found |= strcmp(models[k]->name, names[i]) == 0;
        if (!found) {
            fprintf(stderr, "bench_step: there is no model \"%s\"\n", names[i]);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc == 9 && strcmp(argv[1], "--serve") == 0)
        return serve(argv + 2);
    settings o = {.device = fdl_cuda_available() ? "cuda" : "cpu",
                  .python = "python3",
                  .rounds = 5,
                  .steps = 50,
                  .threads = 1,
                  .by = 1};
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {"steps", required_argument, NULL, 's'},
                                            {"modes", required_argument, NULL, 'm'},
                                            {"threads", required_argument, NULL, 't'},
                                            {"small", no_argument, NULL, 'S'},
                                            {"python", required_argument, NULL, 'p'},
                                            {"json", required_argument, NULL, 'j'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd':
            o.device = optarg;
            break;
        case 'r':
            o.rounds = atoi(optarg);
            break;
        case 's':
            o.steps = atoi(optarg);
            break;
        case 'm':
            o.modes = optarg;
            break;
        case 't':
            o.threads = atoi(optarg);
            break;
        case 'S':
            o.by = 8;
            break;
        case 'p':
            o.python = optarg;
            break;
        case 'j':
            o.json = optarg;
            break;
        default:
            return usage();
        }
    const bool on_gpu = strcmp(o.device, "cuda") == 0;
    if ((!on_gpu && strcmp(o.device, "cpu") != 0) || o.rounds < 1 || o.rounds > MAX_ROUNDS || o.steps < 1 ||
        o.threads < 1 || !are_models(argc - optind, argv + optind))
        return usage();
    if (on_gpu && !fdl_cuda_available()) {
        fprintf(stderr, "bench_step: no CUDA device here; --device cpu\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); /* a side that ended is a refusal, not our end */
    FILE *json = o.json ? fopen(o.json, "w") : NULL;
    if (o.json && !json) {
        perror(o.json);
        return 1;
    }
    char version[32], device[128] = "cpu";
    if (on_gpu)
        FDL_CHECK(fdl_cuda_name(0, device, sizeof device));
    fdl_libtorch_version(version, sizeof version);
    printf("step: %s, %d thread%s, flodl %s on libtorch %s, medians of %d rounds of %d steps\n", device,
           o.threads, o.threads > 1 ? "s" : "", fdl_version(), version, o.rounds, o.steps);
    if (json)
        fprintf(json,
                "{\"benchmark\": \"step\", \"device\": \"%s\", \"flodl\": \"%s\", \"libtorch\": \"%s\", "
                "\"threads\": %d, "
                "\"rounds\": %d, \"steps\": %d, \"sizes_divided_by\": %d, \"models\": [",
                device, fdl_version(), version, o.threads, o.rounds, o.steps, o.by);
    summary lines[MODELS];
    int n = 0;
    for (int i = 0; i < MODELS; i++)
        if (is_wanted(models[i], argc - optind, argv + optind)) {
            if (n && json)
                fputs(",", json);
            lines[n++] = bench(models[i], &o, json);
        }
    printf("\n%-18s%11s%11s%11s %-7s%11s %-16s%9s\n", "us, loss read", "eager", "PyTorch's", "fastest", "",
           "PyTorch's", "", "ratio");
    for (int i = 0; i < n; i++) {
        printf("%-18s", lines[i].name);
        put_number("%.1f", lines[i].eager[0] * 1e6);
        put_number("%.1f", lines[i].eager[1] * 1e6);
        put_number("%.1f", lines[i].fastest[0] * 1e6);
        printf(" %-7s", lines[i].ours);
        put_number("%.1f", lines[i].fastest[1] * 1e6);
        printf(" %-15s", lines[i].theirs);
        put_number("%.3f", lines[i].ratio);
        putchar('\n');
    }
    if (json) {
        fputs("\n]}\n", json);
        const bool failed = ferror(json) != 0;
        if (fclose(json) || failed) {
            perror(o.json);
            return 1;
        }
    }
    return 0;
}
