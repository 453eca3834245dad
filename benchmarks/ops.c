/* What an operation costs above the same C++ call: each row of tests/ops.def in C (with its scope) and in C++
 * (ops_torch.cpp) by turns, on the row's first sample, both with the same number of results alive. The figures
 * are medians over the rounds, of the paired differences too, so that a machine whose speed drifts troubles both
 * sides alike. Heap calls are counted on both sides after warm-up.
 *
 *     bench_ops [--json FILE] [NAME...]
 */
#include <stdio.h>

#include "../tests/ops.h"

#include "heap_calls.h"
#include "parts/machine.h"
#include "parts/median.h"
#include "ops_torch.h"

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
enum { ROWS = sizeof rows / sizeof *rows, ROUNDS = 41 };

/* ---- measuring ----------------------------------------------------------------------------------------- */

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
    double started = fdl_now();
    bool ok = flodl_side_run(rows[row].call, in, 200) == 0 && torch_side_run(torch, 200) == 0;
    double one = (fdl_now() - started) / 400;
    while (n < 2000 && n * one < 200e-6)
        n += IN_A_SCOPE;
    double a[ROUNDS], b[ROUNDS], d[ROUNDS];
    int64_t heap = 0;
    for (int r = 0; ok && r < ROUNDS; r++) {
        int64_t calls = heap_calls;
        double t0 = fdl_now();
        ok = torch_side_run(torch, n) == 0;
        double t1 = fdl_now();
        int64_t between = heap_calls;
        ok = ok && flodl_side_run(rows[row].call, in, n) == 0;
        double t2 = fdl_now();
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
    json j;
    machine at;
    if (!json_open(&j, path))
        return 1;
    machine_read(&at, false);
    machine_begin_json(&j, "ops", &at);
    json_count(&j, "threads", fdl_num_threads());
    json_count(&j, "rounds", ROUNDS);
    json_begin(&j, "ops", '{');
    for (int r = 0; r < ROWS; r++) {
        const figure *f = &figures[r];
        if (!f->measured)
            continue;
        json_line(&j);
        json_begin(&j, rows[r].name, '{');
        json_number(&j, "torch_us", f->torch_us);
        json_number(&j, "flodl_us", f->flodl_us);
        json_number(&j, "above_us", f->above_us);
        json_number(&j, "heap_calls", f->heap);
        json_end(&j, '}');
    }
    json_end(&j, '}');
    json_end(&j, '}');
    return json_close(&j) ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *path = NULL;
    int names = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            path = argv[++i];
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
    return (path && write_json(path, figures)) || failed || !measured;
}
