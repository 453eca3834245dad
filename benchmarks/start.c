/* From the start of a process to its first finished training step, and the memory that it then has: this side and PyTorch's, by
 * turns, each start a new process. Model and batch are made there, at random; nothing is read from files but the programs and
 * their libraries, which one start before has brought into the system's cache.
 *
 *     bench_start [--device cuda|cpu] [--starts N] [--python PROGRAM] [--json FILE]
 */
#include <dlfcn.h>
#include <getopt.h>
#include <link.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>

#include "models/models.h"
#include "parts/machine.h"
#include "parts/median.h"
#include "parts/side.h"

enum { MAX_STARTS = 51 };

/* ---- the process that is started ---------------------------------------------------------------------------- */

static const bench_model *const models[] = {
#define MODEL(name) &bench_##name,
    BENCH_MODELS(MODEL) BENCH_SMALL_MODELS(MODEL)
#undef MODEL
};

static const bench_model *model_named(const char *name)
{
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i]->name, name) == 0)
            return models[i];
    return NULL;
}

/* "VmRSS:  123 kB" of /proc/self/status, in bytes. */
static long long status_bytes(const char *key)
{
    char line[256];
    long long kilobytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, key, strlen(key)) == 0)
            kilobytes = atoll(line + strlen(key) + 1);
    if (file)
        fclose(file);
    return kilobytes * 1024;
}

static fdl_tensor *made(fdl_shape shape, int64_t below)
{
    return below ? fdl_randint(0, below, shape) : fdl_randn(shape);
}

/* MODEL MODE DEVICE: one step. Answers "= LOSS BYTES MOST VERSION": the memory resident now, the most that was, and
 * libtorch's version. */
static int first_step(char **argv)
{
    const bench_model *m = model_named(argv[0]);
    if (!m)
        return 2;
    if (strcmp(argv[2], "cuda") == 0)
        FDL_CHECK(fdl_set_default_device(FDL_CUDA(0)));
    FDL_SCOPE;
    const bench_batch b = m->batch(1);
    fdl_module *model = m->build(1);
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 1e-3);
    fdl_list batch = FDL_LIST(made(b.x, b.x_below), made(b.y, b.y_below));
    double value = (double)NAN;
    if (strcmp(argv[1], "trainer") == 0) {
        fdl_trainer *trainer = fdl_trainer_new(model, opt, m->loss);
        FDL_NEED(trainer);
        FDL_CHECK(fdl_trainer_step(trainer, batch));
        FDL_CHECK(fdl_trainer_loss(trainer, &value));
        fdl_trainer_free(trainer);
    } else {
        fdl_tensor *loss = m->loss(model, batch, NULL);
        FDL_CHECK(fdl_backward(loss));
        FDL_CHECK(fdl_optim_step(opt));
        value = fdl_item(loss);
        if (strcmp(argv[2], "cuda") == 0)
            FDL_CHECK(fdl_cuda_synchronize(0));
    }
    char version[32];
    printf("= %.9g %lld %lld %s\n", value, status_bytes("VmRSS"), status_bytes("VmHWM"),
           fdl_libtorch_version(version, sizeof version));
    fflush(stdout);
    fdl_optim_free(opt);
    fdl_module_free(model);
    return 0;
}

/* ---- starts ----------------------------------------------------------------------------------------------------- */

typedef struct starter {
    const char *side, *mode;
    double seconds[MAX_STARTS], rss[MAX_STARTS], most[MAX_STARTS];
    char version[64];
    int n;
    bool failed;
} starter;

enum { STARTERS = 3 };

/* "8x64" */
static void shape_text(char *to, size_t size, fdl_shape shape)
{
    size_t at = 0;
    for (int i = 0; i < shape.ndim && at < size; i++)
        at += (size_t)snprintf(to + at, size - at, i ? "x%lld" : "%lld", (long long)shape.d[i]);
}

/* One start: seconds until the answer, which is after the step. */
static bool start_once(starter *s, const bench_model *m, const char *device, const char *python, bool counts)
{
    const bench_batch b = m->batch(1);
    char x[64], y[64], x_below[24], y_below[24], line[256];
    shape_text(x, sizeof x, b.x);
    shape_text(y, sizeof y, b.y);
    snprintf(x_below, sizeof x_below, "%lld", (long long)b.x_below);
    snprintf(y_below, sizeof y_below, "%lld", (long long)b.y_below);
    char *ours[] = {(char *)"/proc/self/exe", (char *)"--first", (char *)m->name,
                    (char *)s->mode,          (char *)device,    NULL};
    char *theirs[] = {(char *)python,
                      (char *)FLODL_SOURCE_DIR "/benchmarks/start.py",
                      (char *)m->name,
                      (char *)device,
                      x,
                      x_below,
                      y,
                      y_below,
                      NULL};
    side process = {0};
    const double from = fdl_now();
    if (!side_spawn(&process, strcmp(s->side, "flodl") == 0 ? ours : theirs))
        return false;
    bool answered = false;
    double loss = (double)NAN, rss = 0, most = 0;
    while (!answered && fgets(line, sizeof line, process.in))
        answered = sscanf(line, "= %lf %lf %lf %63s", &loss, &rss, &most, s->version) == 4;
    const double seconds = fdl_now() - from;
    side_end(&process);
    if (!answered || !isfinite(loss))
        return false;
    if (counts) {
        s->seconds[s->n] = seconds;
        s->rss[s->n] = rss;
        s->most[s->n++] = most;
    }
    return true;
}

static double median_of(const double *values, int n)
{
    double sorted[MAX_STARTS];
    if (!n)
        return (double)NAN;
    memcpy(sorted, values, sizeof *values * (size_t)n);
    return median(sorted, n);
}

static void json_case(json *j, const bench_model *m, const char *device, const starter *sides)
{
    json_line(j);
    json_begin(j, NULL, '{');
    json_text(j, "name", m->name);
    json_text(j, "device", device);
    json_begin(j, "sides", '[');
    for (int i = 0; i < STARTERS; i++) {
        const starter *s = &sides[i];
        if (s->failed)
            continue;
        json_line(j);
        json_begin(j, NULL, '{');
        json_text(j, "side", s->side);
        json_text(j, "mode", s->mode);
        json_text(j, "version", s->version);
        json_numbers(j, "seconds", s->seconds, s->n);
        json_numbers(j, "rss_bytes", s->rss, s->n);
        json_numbers(j, "peak_rss_bytes", s->most, s->n);
        json_end(j, '}');
    }
    json_end(j, ']');
    json_end(j, '}');
}

/* Whether flodl's medians stay under the bar. */
static bool measure(const bench_model *m, const char *device, const char *python, int starts, json *j)
{
    static starter sides[STARTERS];
    const starter fresh[STARTERS] = {{.side = "flodl", .mode = "eager"},
                                     {.side = "flodl", .mode = "trainer"},
                                     {.side = "pytorch", .mode = "eager"}};
    const double bar = strcmp(device, "cuda") == 0 ? 3 : 1;
    bool holds = true;
    memcpy(sides, fresh, sizeof sides);
    for (int i = -1; i < starts; i++)
        for (int k = 0; k < STARTERS; k++) {
            starter *s = &sides[i % 2 ? k : STARTERS - 1 - k];
            const bool is_ours = strcmp(s->side, "flodl") == 0;
            if (!s->failed && (is_ours || python))
                s->failed = !start_once(s, m, device, python, i >= 0);
            else if (!is_ours)
                s->failed = true;
        }
    printf("%s on %s\n  %-24s%12s%12s%14s\n", m->name, device, "", "seconds", "resident MB", "at most MB");
    for (int k = 0; k < STARTERS; k++) {
        const starter *s = &sides[k];
        const double seconds = median_of(s->seconds, s->n);
        printf("  %-8s%-16s", s->side, s->mode);
        if (s->failed) {
            printf("   %s\n", python ? "failed; what it said stands above" : "not measured");
            holds &= strcmp(s->side, "flodl") != 0;
            continue;
        }
        printf("%12.3f%12.1f%14.1f\n", seconds, median_of(s->rss, s->n) / 1e6,
               median_of(s->most, s->n) / 1e6);
        holds &= strcmp(s->side, "flodl") != 0 || seconds <= bar;
    }
    json_case(j, m, device, sides);
    json_keep(j, "]}\n");
    printf("  first step within %g s: %s\n", bar, holds ? "holds" : "DOES NOT HOLD");
    return holds;
}

/* ---- sizes -------------------------------------------------------------------------------------------------------- */

static double file_bytes(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 ? (double)s.st_size : (double)NAN;
}

typedef struct sizes {
    double flodl, torch; /* bytes of the library, and of libtorch's that are loaded */
} sizes;

static int add_library(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    sizes *s = ctx;
    const char *name = strrchr(info->dlpi_name, '/');
    if (name && strncmp(name, "/libflodl", 9) == 0)
        s->flodl += file_bytes(info->dlpi_name);
    else if (name && (strncmp(name, "/libtorch", 9) == 0 || strncmp(name, "/libc10", 7) == 0))
        s->torch += file_bytes(info->dlpi_name);
    return 0;
}

static void tell_sizes(json *j)
{
    sizes s = {0, 0};
    dl_iterate_phdr(add_library, &s);
    const double program = file_bytes("/proc/self/exe");
    printf("sizes: this program %.2f MB, libflodl %.2f MB, libtorch's libraries %.0f MB\n", program / 1e6,
           s.flodl / 1e6, s.torch / 1e6);
    json_begin(j, "sizes", '{');
    json_number(j, "program_bytes", program);
    json_number(j, "libflodl_bytes", s.flodl);
    json_number(j, "libtorch_bytes", s.torch);
    json_end(j, '}');
}

/* ---- the command line ------------------------------------------------------------------------------------------- */

static int run(const char *only, const char *python, int starts, const char *path)
{
    static const struct {
        const char *model, *device;
    } cases[] = {{"digits_mlp", "cpu"},
                 {"lenet", "cpu"},
                 {"digits_mlp", "cuda"},
                 {"mlp", "cuda"},
                 {"convnet", "cuda"}};
    const bool gpu = fdl_cuda_available();
    machine at;
    json j;
    bool holds = true;
    if (!json_open(&j, path))
        return 1;
    machine_read(&at, gpu && (!only || strcmp(only, "cuda") == 0));
    machine_print(&at, "start");
    if (!side_python_works(python)) {
        printf("PyTorch isn't measured: %s has no torch (--python names another)\n", python);
        python = NULL;
    }
    machine_begin_json(&j, "start", &at);
    tell_sizes(&j);
    json_count(&j, "starts", starts);
    json_begin(&j, "cases", '[');
    json_keep(&j, "]}\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if ((!only || strcmp(only, cases[i].device) == 0) && (gpu || strcmp(cases[i].device, "cpu") == 0))
            holds &= measure(model_named(cases[i].model), cases[i].device, python, starts, &j);
    json_end(&j, ']');
    json_end(&j, '}');
    printf("\nall within their bars: %s\n", holds ? "yes" : "NO");
    return json_close(&j) ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--first") == 0)
        return first_step(argv + 2);
    const char *device = NULL, *python = getenv("FLODL_PYTHON"), *path = NULL;
    int starts = 7;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"starts", required_argument, NULL, 's'},
                                            {"python", required_argument, NULL, 'p'},
                                            {"json", required_argument, NULL, 'j'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'd':
            device = optarg;
            break;
        case 's':
            starts = atoi(optarg);
            break;
        case 'p':
            python = optarg;
            break;
        case 'j':
            path = optarg;
            break;
        default:
            starts = 0;
        }
    if (starts < 1 || starts > MAX_STARTS || optind < argc ||
        (device && strcmp(device, "cpu") != 0 && strcmp(device, "cuda") != 0)) {
        fprintf(stderr,
                "bench_start [--device cuda|cpu] [--starts 1 to %d] [--python PROGRAM] [--json FILE]\n",
                MAX_STARTS);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    return run(device, python ? python : "python3", starts, path);
}
