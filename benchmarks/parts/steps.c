#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

#include <flodl/flodl.h>

#include "median.h"
#include "serve.h"
#include "steps.h"

enum { COMPILING_AT_ONCE = 8, PILOT_STEPS = 5, BUSY_STEPS = 10 };

/* ---- figures ----------------------------------------------------------------------------------------------- */

const side *steps_side(const steps_case *c, const char *of, const char *mode)
{
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->sides[i].kind->side, of) == 0 && strcmp(c->sides[i].kind->mode, mode) == 0)
            return *c->sides[i].refusal ? NULL : &c->sides[i];
    return NULL;
}

double steps_seconds(const steps_case *c, const side *s)
{
    double sorted[MAX_ROUNDS];
    if (!s)
        return (double)NAN;
    memcpy(sorted, s->read, sizeof *sorted * (size_t)c->rounds);
    return median(sorted, c->rounds);
}

double steps_ratio(const steps_case *c, const side *a, const side *b)
{
    double ratios[MAX_ROUNDS];
    if (!a || !b)
        return (double)NAN;
    for (int i = 0; i < c->rounds; i++)
        ratios[i] = a->read[i] / b->read[i];
    return median(ratios, c->rounds);
}

const side *steps_fastest(const steps_case *c, const char *of)
{
    const side *best = NULL;
    for (int i = 0; i < c->n; i++) {
        const side *s = &c->sides[i];
        if (strcmp(s->kind->side, of) == 0 && !*s->refusal &&
            (!best || steps_seconds(c, s) < steps_seconds(c, best)))
            best = s;
    }
    return best;
}

/* ---- sides --------------------------------------------------------------------------------------------------- */

/* Whether a comma separated list has the side ("pytorch"), its mode ("graph") or both ("pytorch/graph"); NULL: everything. */
static bool is_listed(const char *list, const side_kind *kind)
{
    char words[256], both[64], *more = NULL;
    if (!list)
        return true;
    snprintf(both, sizeof both, "%s/%s", kind->side, kind->mode);
    snprintf(words, sizeof words, "%s", list);
    for (char *word = strtok_r(words, ",", &more); word; word = strtok_r(NULL, ",", &more))
        if (strcmp(word, kind->side) == 0 || strcmp(word, kind->mode) == 0 || strcmp(word, both) == 0)
            return true;
    return false;
}

static bool is_wanted(const side_kind *kind, const steps_settings *o)
{
    return (!kind->needs_gpu || o->on_gpu) && (kind->serve || kind->beside || o->python) &&
           is_listed(o->sides, kind);
}

static side_task task_of(const steps_case *c, const steps_settings *o)
{
    return (side_task){o->python,  c->m->name, o->device,  c->weights,
                       c->batches, o->by,      o->threads, c->samples};
}

/* Each side's first losses must be the first side's: the very first to 1e-4, relative; those after a step or more, which
 * carry its rounding errors, to 1e-3. */
static void check_equal(steps_case *c)
{
    const side *first = &c->sides[0];
    for (int i = 0; i < c->n; i++)
        side_loaded(&c->sides[i]);
    for (int i = 0; i < c->n; i++) {
        side *s = &c->sides[i];
        side_begin(s);
        if (!(side_losses(s) && side_ready(s)))
            continue;
        for (int k = 0; k < s->n_losses && k < first->n_losses && !*s->refusal; k++)
            if (!(fabs(s->losses[k] - first->losses[k]) <= (k ? 1e-3 : 1e-4) * fabs(first->losses[k])))
                snprintf(s->refusal, sizeof s->refusal, "refused: loss %d is %.8g, of the first side %.8g",
                         k + 1, s->losses[k], first->losses[k]);
    }
}

/* As many steps as take o->ms, by a few tried. */
static void choose_steps(side *s, const steps_settings *o)
{
    char question[32];
    snprintf(question, sizeof question, "run %d", PILOT_STEPS);
    const double one = side_ask(s, question), wanted = o->ms * 1e-3 / one;
    s->steps = !(wanted > PILOT_STEPS) ? PILOT_STEPS : wanted > 5000 ? 5000 : (int)wanted;
}

static void measure(steps_case *c, const steps_settings *o)
{
    c->rounds = o->rounds;
    for (int i = 0; i < c->n; i++)
        choose_steps(&c->sides[i], o);
    for (int r = 0; r < o->rounds; r++)
        for (int k = 0; k < c->n; k++) {
            side *s = &c->sides[r % 2 ? c->n - 1 - k : k];
            char question[32];
            snprintf(question, sizeof question, "read %d", s->steps);
            s->read[r] = side_ask(s, question);
            snprintf(question, sizeof question, "run %d", s->steps);
            s->run[r] = side_ask(s, question);
        }
    for (int i = 0; i < c->n; i++) {
        c->sides[i].memory = side_ask(&c->sides[i], "memory");
        c->sides[i].reserved = side_ask(&c->sides[i], "reserved");
    }
    if (!o->on_gpu)
        return;
    for (int i = 0; i < c->n; i++) /* prepared together, for that takes long; recorded one by one */
        side_send(&c->sides[i], "profile");
    for (int i = 0; i < c->n; i++)
        side_answer(&c->sides[i]);
    for (int i = 0; i < c->n; i++)
        side_ask_busy(&c->sides[i], BUSY_STEPS);
}

static void bench(steps_case *c, const steps_bench *b, const steps_settings *o)
{
    const side_task task = task_of(c, o);
    const double start = fdl_now();
    for (int i = 0; i < b->n_kinds; i++)
        if (is_wanted(&b->kinds[i], o))
            side_start(&c->sides[c->n++], &b->kinds[i], &task);
    check_equal(c);
    measure(c, o);
    for (int i = 0; i < c->n; i++)
        side_end(&c->sides[i]);
    c->seconds = fdl_now() - start;
}

/* Compilers keep what they made: each side that has one is started once before, several at a time, so that their minutes aren't
 * spent one after the other. */
static void compile_before(const steps_case *cases, int n, const steps_bench *b, const steps_settings *o)
{
    static side sides[COMPILING_AT_ONCE];
    /* Each compiles with several processes of its own. */
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int at_once = cores < 4 ? 1 : cores / 2 < COMPILING_AT_ONCE ? (int)cores / 2 : COMPILING_AT_ONCE;
    int running = 0, oldest = 0, started = 0;
    const double start = fdl_now();
    for (int i = 0; i < n; i++)
        for (int k = 0; k < b->n_kinds; k++) {
            if (!b->kinds[k].compiles || !is_wanted(&b->kinds[k], o))
                continue;
            if (running == at_once) {
                side *s = &sides[oldest];
                (void)(side_loaded(s) && side_losses(s) && side_ready(s));
                side_end(s);
                oldest = (oldest + 1) % at_once;
                running--;
            }
            const side_task task = task_of(&cases[i], o);
            side *s = &sides[(oldest + running++) % at_once];
            if (side_start(s, &b->kinds[k], &task))
                side_begin(s);
            started++;
        }
    for (; running; running--, oldest = (oldest + 1) % at_once) {
        (void)(side_loaded(&sides[oldest]) && side_losses(&sides[oldest]) && side_ready(&sides[oldest]));
        side_end(&sides[oldest]);
    }
    if (started)
        printf("%d sides with a compiler were started once before, so that it is done: %.0f s\n", started,
               fdl_now() - start);
}

/* ---- cases ----------------------------------------------------------------------------------------------------- */

static bool is_named(const bench_model *m, int n, char **names)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], m->name) == 0)
            return true;
    return false;
}

static int new_cases(steps_case *cases, const steps_bench *b, const steps_settings *o, int n_names,
                     char **names)
{
    int n = 0;
    for (int i = 0; b->models[i]; i++) {
        const bench_model *m = b->models[i];
        if (n_names ? !is_named(m, n_names, names) : i >= b->n_meant)
            continue;
        for (int k = 0; (k == 0 || o->batches[k]) && n < STEPS_CASES_MAX; k++)
            cases[n++] = (steps_case){
                .m = m, .samples = o->batches[k], .batch = serve_samples(m, o->by, o->batches[k])};
    }
    return n;
}

static void write_files(steps_case *cases, int n, const steps_settings *o, const char *folder)
{
    for (int i = 0; i < n; i++) {
        steps_case *c = &cases[i];
        snprintf(c->weights, sizeof c->weights, "%s/%d.weights.safetensors", folder, i);
        snprintf(c->batches, sizeof c->batches, "%s/%d.batches.safetensors", folder, i);
        c->params = serve_write_files(c->m, o->by, c->samples, c->weights, c->batches);
    }
}

static void remove_files(const steps_case *cases, int n, const char *folder)
{
    for (int i = 0; i < n; i++) {
        remove(cases[i].weights);
        remove(cases[i].batches);
    }
    remove(folder);
}

/* ---- the command line ------------------------------------------------------------------------------------------ */

static int usage(const steps_bench *b)
{
    fprintf(
        stderr,
        "bench_%s [MODEL...] [--device cuda|cpu] [--rounds 1 to %d] [--ms N] [--batch N,...] [--threads N]\n"
        "    [--sides NAME,...] [--python PROGRAM] [--json FILE] [--small]\nmodels:",
        b->name, MAX_ROUNDS);
    for (const bench_model *const *m = b->models; *m; m++)
        fprintf(stderr, " %s", (*m)->name);
    fprintf(stderr, "\nsides:");
    for (int i = 0; i < b->n_kinds; i++)
        fprintf(stderr, " %s/%s", b->kinds[i].side, b->kinds[i].mode);
    fprintf(stderr,
            "\n--ms: milliseconds of a round of a side; --small: sizes divided by 8, not for figures\n");
    return 2;
}

static bool read_batches(const char *text, int64_t *batches)
{
    memset(batches, 0, sizeof *batches * 8);
    for (int n = 0; n < 7; n++) {
        char *end;
        batches[n] = strtoll(text, &end, 10);
        if (end == text || batches[n] < 1)
            return false;
        if (!*end)
            return true;
        text = end + 1;
    }
    return false;
}

static bool read_options(const steps_bench *b, steps_settings *o, int argc, char **argv)
{
    static const struct option options[] = {
        {"device", required_argument, NULL, 'd'},  {"rounds", required_argument, NULL, 'r'},
        {"ms", required_argument, NULL, 'm'},      {"batch", required_argument, NULL, 'b'},
        {"threads", required_argument, NULL, 't'}, {"sides", required_argument, NULL, 's'},
        {"python", required_argument, NULL, 'p'},  {"json", required_argument, NULL, 'j'},
        {"small", no_argument, NULL, 'S'},         {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd':
            o->device = optarg;
            break;
        case 'r':
            o->rounds = atoi(optarg);
            break;
        case 'm':
            o->ms = atoi(optarg);
            break;
        case 'b':
            if (!read_batches(optarg, o->batches))
                return false;
            break;
        case 't':
            o->threads = atoi(optarg);
            break;
        case 's':
            o->sides = optarg;
            break;
        case 'p':
            o->python = optarg;
            break;
        case 'j':
            o->json = optarg;
            break;
        case 'S':
            o->by = 8;
            break;
        default:
            return false;
        }
    o->on_gpu = strcmp(o->device, "cuda") == 0;
    for (int i = optind; i < argc; i++)
        if (!serve_model(b->models, argv[i])) {
            fprintf(stderr, "bench_%s: there is no model \"%s\"\n", b->name, argv[i]);
            return false;
        }
    return (o->on_gpu || strcmp(o->device, "cpu") == 0) && o->rounds >= 1 && o->rounds <= MAX_ROUNDS &&
           o->ms >= 1 && o->threads >= 1;
}

/* Without a Python that has PyTorch, the other columns alone. */
static void find_python(steps_settings *o)
{
    if (side_python_works(o->python))
        return;
    printf("PyTorch isn't measured: %s has no torch, or no safetensors (--python names another)\n",
           o->python);
    o->python = NULL;
}

static void begin_json(json *j, const char *name, const steps_settings *o, const machine *at)
{
    machine_begin_json(j, name, at);
    json_begin(j, "settings", '{');
    json_text(j, "device", o->device);
    json_count(j, "threads", o->threads);
    json_count(j, "rounds", o->rounds);
    json_count(j, "ms", o->ms);
    json_count(j, "batches_by_turns", BATCHES);
    json_count(j, "sizes_divided_by", o->by);
    json_end(j, '}');
    json_begin(j, "models", '[');
    json_keep(j, "]}\n");
}

static int run(const steps_bench *b, steps_settings *o, int n_names, char **names)
{
    static steps_case cases[STEPS_CASES_MAX];
    char folder[] = "/tmp/bench_XXXXXX";
    machine at;
    json j;
    const int n = new_cases(cases, b, o, n_names, names);
    if (!json_open(&j, o->json))
        return 1;
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    const double start = fdl_now();
    machine_read(&at, o->on_gpu);
    machine_print(&at, b->name);
    printf("%d thread%s; medians of %d rounds of %d ms a side; %d batches by turns%s\n", o->threads,
           o->threads > 1 ? "s" : "", o->rounds, o->ms, BATCHES,
           o->by > 1 ? "; sizes divided: not for figures" : "");
    find_python(o);
    write_files(cases, n, o, folder);
    begin_json(&j, b->name, o, &at);
    compile_before(cases, n, b, o);
    for (int i = 0; i < n; i++) {
        bench(&cases[i], b, o);
        steps_print_case(&cases[i]);
        json_line(&j);
        steps_json_case(&j, &cases[i]);
        json_keep(&j, "]}\n");
    }
    json_end(&j, ']');
    json_end(&j, '}');
    remove_files(cases, n, folder);
    steps_print_summary(b, cases, n);
    steps_print_bars(b, cases, n);
    printf("\n%.0f s in all\n", fdl_now() - start);
    return json_close(&j) ? 0 : 1;
}

int steps_main(const steps_bench *b, int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--serve") == 0)
        return serve(b->models, argv + 2);
    steps_settings o = b->defaults;
    const char *python = getenv("FLODL_PYTHON");
    o.python = python ? python : "python3";
    o.device = o.device ? o.device : fdl_cuda_available() ? "cuda" : "cpu";
    o.by = 1;
    if (!read_options(b, &o, argc, argv))
        return usage(b);
    if (o.on_gpu && !fdl_cuda_available()) {
        fprintf(stderr, "bench_%s: no CUDA device here; --device cpu\n", b->name);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN); /* a side that ended is a refusal, not our end */
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(b, &o, argc - optind, argv + optind);
}
