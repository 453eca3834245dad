/* What a graph costs above the same calls written out: both sides by turns, medians of the rounds and of
 * their paired differences, on one thread. Heap calls of the graph's side are those beyond the other's.
 *
 *     bench_graph [--json FILE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flodl/flodl.h>

#include "heap_calls.h"
#include "parts/machine.h"
#include "parts/median.h"

enum { ROUNDS = 41, MOST = 1000 };

/* ---- the cases: modules in m, a flow of them, and the same by hand ------------------------------------- */

static fdl_module *modules[MOST];

static fdl_module *identity(void)
{
    return fdl_nn_identity();
}

static fdl_module *relu(void)
{
    return fdl_nn_relu();
}

static fdl_module *linear(void)
{
    return fdl_nn_linear(64, 64);
}

static fdl_module *plain_step(fdl_module *m)
{
    return m;
}

static fdl_module *also_step(fdl_module *m)
{
    return fdl_flow_also(m);
}

static fdl_module *loop_step(fdl_module *m)
{
    return fdl_flow_loop(m, .n = 10);
}

static fdl_tensor *plain_call(fdl_module *m, fdl_tensor *x)
{
    return fdl_forward(m, x);
}

static fdl_tensor *also_call(fdl_module *m, fdl_tensor *x)
{
    return fdl_add(x, fdl_forward(m, x));
}

static fdl_tensor *loop_call(fdl_module *m, fdl_tensor *x)
{
    for (int i = 0; i < 10; i++)
        x = fdl_forward(m, x);
    return x;
}

static const struct {
    const char *name, *what;
    int n; /* steps */
    fdl_module *(*make)(void);
    fdl_module *(*step)(fdl_module *m);
    fdl_tensor *(*call)(fdl_module *m, fdl_tensor *x);
    bool no_grad;
} cases[] = {
    {"identities", "1000 identities", 1000, identity, plain_step, plain_call, false},
    {"relus", "100 relus of [1, 64]", 100, relu, plain_step, plain_call, false},
    {"linears", "20 linear layers 64 to 64, batch 1", 20, linear, plain_step, plain_call, false},
    {"residuals", "20 residual linear layers", 20, linear, also_step, also_call, false},
    {"residuals_no_grad", "the same with grad mode off", 20, linear, also_step, also_call, true},
    {"loop", "10 loops of 10 relus", 10, relu, loop_step, loop_call, false},
};
enum { CASES = sizeof cases / sizeof *cases };

typedef struct figure {
    double graph_us, hand_us,
        above_ns; /* a forward of each side; above: a step's share of the paired difference */
    double heap;  /* heap calls of a forward beyond those of the other side */
} figure;

static void by_graph(fdl_module *g, fdl_tensor *x, int times)
{
    for (int i = 0; i < times; i++) {
        FDL_SCOPE;
        FDL_NEED(fdl_forward(g, x));
    }
}

static void by_hand(int which, fdl_tensor *x, int times)
{
    for (int i = 0; i < times; i++) {
        FDL_SCOPE;
        fdl_tensor *y = x;
        for (int k = 0; k < cases[which].n; k++)
            y = cases[which].call(modules[k], y);
        FDL_NEED(y);
    }
}

static figure measured(int which)
{
    FDL_SCOPE;
    fdl_mode_guard mode = cases[which].no_grad ? fdl_no_grad_open() : fdl_enable_grad_open();
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 64));
    fdl_flow_builder *b = fdl_flow_new();
    for (int k = 0; k < cases[which].n; k++) {
        modules[k] = cases[which].make();
        FDL_CHECK(fdl_flow_add(b, cases[which].step(modules[k])));
    }
    fdl_module *g = fdl_flow_build(b);
    FDL_NEED(g);
    by_graph(g, x, 20);
    by_hand(which, x, 20);
    double start = fdl_now();
    by_hand(which, x, 20);
    double one = (fdl_now() - start) / 20;
    int times = one > 2e-3 ? 1 : (int)(2e-3 / one);
    double graph[ROUNDS], hand[ROUNDS], above[ROUNDS];
    int64_t heap = 0;
    for (int r = 0; r < ROUNDS; r++) {
        int64_t before = heap_calls;
        double t0 = fdl_now();
        by_graph(g, x, times);
        double t1 = fdl_now();
        int64_t between = heap_calls;
        by_hand(which, x, times);
        double t2 = fdl_now();
        heap += (between - before) - (heap_calls - between);
        graph[r] = (t1 - t0) / times * 1e6;
        hand[r] = (t2 - t1) / times * 1e6;
        above[r] = (graph[r] - hand[r]) / cases[which].n * 1e3;
    }
    fdl_module_free(g);
    FDL_CHECK(fdl_mode_close(mode));
    return (figure){median(graph, ROUNDS), median(hand, ROUNDS), median(above, ROUNDS),
                    (double)heap / times / ROUNDS};
}

static int write_json(const char *path, const figure *figures)
{
    json j;
    machine at;
    if (!json_open(&j, path))
        return 1;
    machine_read(&at, false);
    machine_begin_json(&j, "graph", &at);
    json_count(&j, "threads", fdl_num_threads());
    json_count(&j, "rounds", ROUNDS);
    json_begin(&j, "cases", '[');
    for (int i = 0; i < CASES; i++) {
        json_line(&j);
        json_begin(&j, NULL, '{');
        json_text(&j, "name", cases[i].name);
        json_text(&j, "what", cases[i].what);
        json_count(&j, "steps", cases[i].n);
        json_number(&j, "graph_us", figures[i].graph_us);
        json_number(&j, "hand_us", figures[i].hand_us);
        json_number(&j, "above_ns_a_step", figures[i].above_ns);
        json_number(&j, "heap_calls", figures[i].heap);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
    return json_close(&j) ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *path = argc == 3 && strcmp(argv[1], "--json") == 0 ? argv[2] : NULL;
    if (argc > 1 && !path) {
        fprintf(stderr, "usage: %s [--json FILE]\n", argv[0]);
        return 2;
    }
    FDL_CHECK(fdl_set_num_threads(1));
    figure figures[CASES];
    printf("%-36s %12s %12s %16s %12s\n", "a forward of", "graph us", "by hand us", "above, ns a step",
           "heap calls");
    for (int i = 0; i < CASES; i++) {
        figures[i] = measured(i);
        printf("%-36s %12.2f %12.2f %16.1f %12.2f\n", cases[i].what, figures[i].graph_us, figures[i].hand_us,
               figures[i].above_ns, figures[i].heap);
    }
    return path ? write_json(path, figures) : 0;
}
