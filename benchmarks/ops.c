/* What an operation costs above the same C++ call: each row of tests/ops.def in C (with its scope) and in C++
 * (ops_torch.cpp) by turns, on the row's first sample. The figures are medians over the rounds, of the paired
 * differences too, so that a machine whose speed drifts troubles both sides alike. Heap calls are counted on
 * both sides after warm-up.
 *
 *     bench_ops [--json FILE] [NAME...]
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>

#include "../tests/ops.h"

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python)
#define BAD(name, sample, call, status, word)
#include "../tests/ops.def"
#undef OP

static const struct {
    const char *name, *samples;
    ops_call *call;
} rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#include "../tests/ops.def"
#undef OP
};
enum { ROWS = sizeof rows / sizeof *rows, ROUNDS = 41, IN_A_SCOPE = 10 };

/* ops_torch.cpp: row `row` of the table n times on copies of these operands; -1 when the call throws. */
typedef struct torch_side torch_side;
torch_side *torch_side_new(int row, int n, fdl_tensor *const *operands);
int torch_side_run(torch_side *side, int n);
void torch_side_free(torch_side *side);

/* ---- heap calls of this thread ------------------------------------------------------------------------- */

#ifdef __GLIBC__
static __thread int64_t heap_calls;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    heap_calls++;
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size)
{
    heap_calls++;
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size)
{
    heap_calls++;
    return __libc_realloc(p, size);
}
void *memalign(size_t alignment, size_t size)
{
    heap_calls++;
    return __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}
int posix_memalign(void **p, size_t alignment, size_t size)
{
    *p = memalign(alignment, size);
    return *p || !size ? 0 : ENOMEM;
}
#else
static int64_t heap_calls; /* not counted here */
#endif

/* ---- measuring ----------------------------------------------------------------------------------------- */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int flodl_side_run(ops_call *call, fdl_list in, int n)
{
    for (int i = 0; i < n; i += IN_A_SCOPE) {
        FDL_SCOPE;
        for (int k = 0; k < IN_A_SCOPE; k++)
            if (!call(in, NULL))
                return -1;
    }
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

typedef struct figure {
    bool measured;
    double torch_us, flodl_us, above_us; /* a call; above: the median of the rounds' differences */
    double heap;                         /* heap calls of flodl a call, those of the C++ side taken off */
} figure;

static figure measure(int row)
{
    figure f = {.measured = false};
    FDL_SCOPE;
    ops_operands o;
    if (!ops_sample(rows[row].samples, FDL_FLOAT32, false, &o))
        return f;
    fdl_list in = {o.n, o.at};
    torch_side *torch = torch_side_new(row, o.n, o.at);
    if (!torch)
        return f;
    int n = IN_A_SCOPE;
    double started = now();
    bool ok = flodl_side_run(rows[row].call, in, 200) == 0 && torch_side_run(torch, 200) == 0;
    double one = (now() - started) / 400;
    while (n < 2000 && n * one < 200e-6)
        n += IN_A_SCOPE;
    double a[ROUNDS], b[ROUNDS], d[ROUNDS];
    int64_t heap = 0;
    for (int r = 0; ok && r < ROUNDS; r++) {
        int64_t calls = heap_calls;
        double t0 = now();
        ok = torch_side_run(torch, n) == 0;
        double t1 = now();
        int64_t between = heap_calls;
        ok = ok && flodl_side_run(rows[row].call, in, n) == 0;
        double t2 = now();
        heap += (heap_calls - between) - (between - calls);
        a[r] = (t1 - t0) / n * 1e6;
        b[r] = (t2 - t1) / n * 1e6;
        d[r] = b[r] - a[r];
    }
    torch_side_free(torch);
    if (ok)
        f = (figure){true, median(a, ROUNDS), median(b, ROUNDS), median(d, ROUNDS),
                     (double)heap / n / ROUNDS};
    return f;
}

static bool wanted(const char *name, int n, char **names)
{
    for (int i = 0; i < n; i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return n == 0;
}

static int write_json(const char *path, const figure *figures)
{
    FILE *file = fopen(path, "w");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    char version[32];
    fprintf(file,
            "{\"benchmark\": \"ops\", \"flodl\": \"%s\", \"libtorch\": \"%s\", \"threads\": %d, \"rounds\": "
            "%d, \"ops\": {",
            fdl_version(), fdl_libtorch_version(version, sizeof version), fdl_num_threads(), ROUNDS);
    const char *comma = "";
    for (int r = 0; r < ROWS; r++) {
        const figure *f = &figures[r];
        if (!f->measured)
            continue;
        fprintf(file,
                "%s\n  \"%s\": {\"torch_us\": %.4f, \"flodl_us\": %.4f, \"above_us\": %.4f, \"heap_calls\": "
                "%.3f}",
                comma, rows[r].name, f->torch_us, f->flodl_us, f->above_us, f->heap);
        comma = ",";
    }
    fprintf(file, "\n}}\n");
    if (fclose(file)) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *json = NULL;
    int names = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            json = argv[++i];
        } else if (argv[i][0] == '-') {
            fprintf(stderr, "usage: %s [--json FILE] [NAME...]\n", argv[0]);
            return 2;
        } else {
            argv[names++] = argv[i];
        }
    }
    FDL_CHECK(fdl_set_num_threads(1));
    static figure figures[ROWS];
    double above[ROWS], heap = 0;
    int measured = 0, over = 0, failed = 0;
    printf("%-36s %10s %10s %10s %10s\n", "operation", "C++ us", "flodl us", "above us", "heap calls");
    for (int r = 0; r < ROWS; r++) {
        if (!wanted(rows[r].name, names, argv))
            continue;
        figures[r] = measure(r);
        const figure *f = &figures[r];
        if (!f->measured) {
            fprintf(stderr, "%s: %s\n", rows[r].name, fdl_last_error()->message);
            fdl_clear_error();
            failed++;
            continue;
        }
        printf("%-36s %10.3f %10.3f %+10.3f %10.2f\n", rows[r].name, f->torch_us, f->flodl_us, f->above_us,
               f->heap);
        above[measured++] = f->above_us;
        over += f->above_us > 0.05;
        heap = f->heap > heap ? f->heap : heap;
    }
    if (measured)
        printf(
            "\n%d operations: median %+.3f us above C++, %d of them over 0.05 us, at most %.2f heap calls\n",
            measured, median(above, measured), over, heap);
    return (json && write_json(json, figures)) || failed || !measured;
}
