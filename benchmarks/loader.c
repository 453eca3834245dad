/* What a batch costs: resident data, and streaming with 1, 2 and 4 threads; with a consumer that takes batch after batch, and
 * with one that works on each. Samples are float32 [784] and an int64, batches of 64.
 *
 *     bench_loader [--device cuda] [--json FILE]
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flodl/flodl.h>

#include "median.h"

enum { SAMPLES = 16384, BATCH = 64, ROUNDS = 7, WIDTH = 784 };

static fdl_device device;

/* ---- the data ------------------------------------------------------------------------------------------ */

static fdl_dataset *rows(void)
{
    FDL_SCOPE;
    fdl_tensor *x = fdl_rand(FDL_SHAPE(SAMPLES, WIDTH), .device = FDL_CPU);
    return fdl_data_tensors(FDL_LIST(x, fdl_arange(0, SAMPLES, 1, .dtype = FDL_INT64, .device = FDL_CPU)));
}

/* A sample that is computed: WIDTH random numbers, some microseconds. */
static fdl_status sample(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    float x[WIDTH];
    fdl_rng r;
    FDL_TRY(fdl_data_rng(i, &r));
    for (int k = 0; k < WIDTH; k++)
        x[k] = fdl_rng_f32(&r);
    out[0] = fdl_from_f32(x, FDL_SHAPE(WIDTH));
    out[1] = fdl_scalar((double)i, .dtype = FDL_INT64);
    return out[1] ? FDL_OK : fdl_error_pending();
}

static fdl_dataset *items(void)
{
    return fdl_data_fn(SAMPLES, 2, sample, NULL);
}

static const struct {
    const char *name, *what;
    fdl_dataset *(*data)(void);
    fdl_data_mode mode;
    int64_t prefetch;
    int workers;
} cases[] = {
    {"resident", "rows of tensors, resident", rows, FDL_DATA_RESIDENT, 0, 0},
    {"rows_1", "rows of tensors, streaming, 1 thread", rows, FDL_DATA_STREAM, 8, 1},
    {"items_resident", "computed samples, resident", items, FDL_DATA_RESIDENT, 0, 0},
    {"items_0", "computed samples, streaming, no thread", items, FDL_DATA_STREAM, FDL_PREFETCH_NONE, 0},
    {"items_1", "computed samples, streaming, 1 thread", items, FDL_DATA_STREAM, 8, 1},
    {"items_2", "computed samples, streaming, 2 threads", items, FDL_DATA_STREAM, 8, 2},
    {"items_4", "computed samples, streaming, 4 threads", items, FDL_DATA_STREAM, 8, 4},
};
enum { CASES = sizeof cases / sizeof *cases };

/* ---- measuring ----------------------------------------------------------------------------------------- */

typedef struct figure {
    double batch_us; /* from one batch to the next, for a consumer that does nothing with them */
    double next_us;  /* within fdl_data_next, for one that works longer than a batch takes to fetch */
} figure;

/* An epoch with so much work on each batch: seconds of it, and those within fdl_data_next. */
static double epoch(fdl_loader *dl, int64_t number, double work_s, double *in_next)
{
    fdl_iter *it = fdl_data_epoch(dl, number);
    FDL_NEED(it);
    *in_next = 0;
    double start = fdl_now();
    for (bool more = true; more;) {
        FDL_SCOPE;
        double before = fdl_now();
        more = fdl_data_next(it) != NULL;
        *in_next += fdl_now() - before;
        if (more && work_s > 0)
            usleep((useconds_t)(1e6 * work_s)); /* work elsewhere, on a device */
    }
    if (device.type == FDL_DEVICE_TYPE_CUDA)
        FDL_CHECK(fdl_cuda_synchronize(device.index));
    double seconds = fdl_now() - start;
    FDL_CHECK(fdl_data_status(dl));
    fdl_data_epoch_end(it);
    return seconds;
}

static figure measured(int which)
{
    fdl_loader *dl = fdl_data_loader(cases[which].data(), BATCH, .device = device, .mode = cases[which].mode,
                                     .prefetch = cases[which].prefetch, .workers = cases[which].workers);
    FDL_NEED(dl);
    double batch[ROUNDS], next[ROUNDS], in_next;
    int64_t n = fdl_data_loader_batches(dl);
    epoch(dl, 0, 0, &in_next);
    for (int r = 0; r < ROUNDS; r++)
        batch[r] = epoch(dl, 1 + r, 0, &in_next) / (double)n * 1e6;
    double each = median(batch, ROUNDS);
    for (int r = 0; r < ROUNDS; r++) {
        epoch(dl, 100 + r, 1.5e-6 * each, &in_next);
        next[r] = in_next / (double)n * 1e6;
    }
    fdl_data_loader_free(dl);
    return (figure){each, median(next, ROUNDS)};
}

static int write_json(const char *path, const figure *figures)
{
    FILE *file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    char version[32], name[FDL_DEVICE_NAME_SIZE];
    fprintf(file,
            "{\"benchmark\": \"loader\", \"flodl\": \"%s\", \"libtorch\": \"%s\", \"device\": \"%s\", "
            "\"rounds\": %d, \"cases\": {",
            fdl_version(), fdl_libtorch_version(version, sizeof version), fdl_device_name(device, name),
            ROUNDS);
    for (int i = 0; i < CASES; i++)
        fprintf(file, "%s\n  \"%s\": {\"batch_us\": %.2f, \"next_us\": %.2f}", i ? "," : "", cases[i].name,
                figures[i].batch_us, figures[i].next_us);
    fprintf(file, "\n}}\n");
    bool failed = ferror(file) != 0;
    if (fclose(file) || failed) {
        fprintf(stderr, "%s: writing failed\n", path);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *json = NULL;
    device = FDL_CPU;
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 < argc && strcmp(argv[i], "--json") == 0) {
            json = argv[i + 1];
        } else if (i + 1 < argc && strcmp(argv[i], "--device") == 0) {
            FDL_CHECK(fdl_device_parse(argv[i + 1], &device));
        } else {
            fprintf(stderr, "usage: %s [--device cuda] [--json FILE]\n", argv[0]);
            return 2;
        }
    }
    FDL_CHECK(fdl_set_num_threads(1));
    figure figures[CASES];
    printf("%-40s %14s %24s\n", "", "us a batch", "us in fdl_data_next,");
    printf("%-40s %14s %24s\n", "", "taken at once", "work of 1.5 x that");
    for (int i = 0; i < CASES; i++) {
        figures[i] = measured(i);
        printf("%-40s %14.1f %24.1f\n", cases[i].what, figures[i].batch_us, figures[i].next_us);
    }
    return json ? write_json(json, figures) : 0;
}
