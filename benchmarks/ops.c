/* What an operation costs above the same C++ call: each row of tests/ops.def in C (with its scope) and in C++
 * (ops_torch.cpp) by turns, on the row's first sample, both with the same results alive: of a list all of it. The
 * figures are medians over the rounds, of the paired differences too, so that a machine whose speed drifts troubles
 * both sides alike. "noise" is what the same method makes of C++ against itself: a difference below it says
 * nothing. Heap calls are counted on both sides after warm-up.
 *
 *     bench_ops [--json FILE] [NAME...]
 */
#include <stdio.h>

#include "../tests/ops.h"

#include "heap_calls.h"
#include "parts/machine.h"
#include "parts/median.h"
#include "ops_torch.h"

/* n calls in scopes of IN_A_SCOPE; -1 when one fails. The loop stands in each row, as it does on the C++ side. */
#define OP(name, samples, call, python, cpp)      \
    static int run_##name(fdl_list in, int n)     \
    {                                             \
        void *ctx = NULL;                         \
        OPS_NAMES                                 \
        for (int i = 0; i < n; i += IN_A_SCOPE) { \
            FDL_SCOPE;                            \
            for (int k = 0; k < IN_A_SCOPE; k++)  \
                if (!(call))                      \
                    return -1;                    \
        }                                         \
        return 0;                                 \
    }
#define CASE(name, samples, call, python)
#define BAD(name, sample, call, status, word)
#include "../tests/ops.def"
#undef OP

typedef int run_fn(fdl_list in, int n);
static const struct {
    const char *name, *samples;
    run_fn *run;
} rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, run_##name},
#include "../tests/ops.def"
#undef OP
};
enum { ROWS = sizeof rows / sizeof *rows, ROUNDS = 101 };

/* ---- measuring ----------------------------------------------------------------------------------------- */

/* What is compared: this library, C++, and C++ a second time, on operands of its own. */
typedef struct sides {
    run_fn *flodl;
    fdl_list in;
    torch_side *torch, *again;
    int64_t heap; /* calls in the last run of any */
    bool failed;
} sides;

/* Microseconds a call. */
static double timed(sides *s, torch_side *torch, int n)
{
    int64_t heap = heap_calls;
    double started = fdl_now();
    int rc = torch ? torch_side_run(torch, n) : s->flodl(s->in, n);
    double us = (fdl_now() - started) / n * 1e6;
    s->heap = heap_calls - heap;
    s->failed = s->failed || rc;
    return us;
}

/* Calls that take some 100 us. */
static int calls_a_run(sides *s)
{
    double us = (timed(s, s->torch, 200) + timed(s, NULL, 200) + timed(s, s->again, 200)) / 3;
    int n = IN_A_SCOPE;
    while (n < 2000 && n * us < 100)
        n += IN_A_SCOPE;
    return n;
}

typedef struct figure {
    bool measured;
    double torch_us, flodl_us, above_us; /* a call; above: the median of the rounds' differences */
    double noise_us;                     /* how far C++ is from itself, measured in the same way */
    double heap, torch_heap; /* heap calls of flodl a call, those of the C++ side taken off; these */
} figure;

/* The larger end of the interval that holds the median of such differences in 19 of 20 cases. */
static double away(double *differences)
{
    median(differences, ROUNDS);
    int reach = (int)ceil(sqrt(ROUNDS));
    return fmax(fabs(differences[ROUNDS / 2 - reach]), fabs(differences[ROUNDS / 2 + reach]));
}

/* Each round is C++, flodl, C++, C++ the second time, C++: what stands between is compared with the mean of its neighbours. */
static figure rounds(sides *s)
{
    int n = calls_a_run(s);
    double a[ROUNDS], b[ROUNDS], above[ROUNDS], self[ROUNDS];
    int64_t heap = 0, torch_heap = 0;
    for (int r = 0; r < ROUNDS && !s->failed; r++) {
        double before = timed(s, s->torch, n);
        torch_heap += s->heap;
        b[r] = timed(s, NULL, n);
        heap += s->heap;
        a[r] = timed(s, s->torch, n);
        double again = timed(s, s->again, n), after = timed(s, s->torch, n);
        above[r] = b[r] - (before + a[r]) / 2;
        self[r] = again - (a[r] + after) / 2;
    }
    if (s->failed)
        return (figure){.measured = false};
    double calls = (double)n * ROUNDS;
    return (figure){.measured = true,
                    .torch_us = median(a, ROUNDS),
                    .flodl_us = median(b, ROUNDS),
                    .above_us = median(above, ROUNDS),
                    .noise_us = away(self),
                    .heap = (double)(heap - torch_heap) / calls,
                    .torch_heap = (double)torch_heap / calls};
}

static figure measure(int row)
{
    figure f = {.measured = false};
    FDL_SCOPE;
    ops_operands o;
    if (!ops_sample(rows[row].samples, FDL_FLOAT32, false, &o))
        return f;
    sides s = {.flodl = rows[row].run, .in = {o.n, o.at}};
    s.torch = torch_side_new(row, o.n, o.at);
    s.again = torch_side_new(row, o.n, o.at);
    forget_heap(); /* what earlier rows left in it would trouble whichever side comes upon it */
    if (s.torch && s.again)
        f = rounds(&s);
    torch_side_free(s.torch);
    torch_side_free(s.again);
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
        json_number(&j, "noise_us", f->noise_us);
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
    double above[ROWS], heap = 0, torch_heap = 0;
    int measured = 0, over = 0, surely = 0, failed = 0, worst = -1;
    printf("%-36s %10s %10s %10s %10s %10s\n", "operation", "C++ us", "flodl us", "above us", "noise us",
           "heap calls");
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
        printf("%-36s %10.3f %10.3f %+10.3f %10.3f %10.2f\n", rows[r].name, f->torch_us, f->flodl_us,
               f->above_us, f->noise_us, f->heap);
        fflush(stdout);
        above[measured++] = f->above_us;
        over += f->above_us > 0.05;
        surely += f->above_us - f->noise_us > 0.05;
        heap = f->heap > heap ? f->heap : heap;
        torch_heap += f->torch_heap;
        if (worst < 0 || f->above_us - f->noise_us > figures[worst].above_us - figures[worst].noise_us)
            worst = r;
    }
    if (measured) {
        printf("\n%d operations: median %+.3f us above C++; %d over 0.05 us, %d of them by more than the "
               "noise;\n"
               "the worst for certain is %s: %+.3f us, noise %.3f\n",
               measured, median(above, measured), over, surely, rows[worst].name, figures[worst].above_us,
               figures[worst].noise_us);
        if (torch_heap > 0)
            printf("at most %.2f heap calls\n", heap);
        else
            printf("heap calls are not counted here\n");
    }
    return (path && write_json(path, figures)) || failed || !measured;
}
