/* What a graph costs above the same calls written out, with the same modules on both sides, which take turns, on one
 * thread: of chains of small steps the median of the paired differences, of whole models that of the paired ratios.
 * Times are the process's own on the CPU: what else the machine does doesn't enter, where it leaves caches alone.
 * Heap calls of the graph's side are those beyond the other's.
 *
 *     bench_graph [--rounds N] [--divide N] [--json FILE]
 *
 * N rounds of each model; the models' sizes divided by N, to try whether everything works. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flodl/flodl.h>

#include "heap_calls.h"
#include "parts/machine.h"
#include "parts/median.h"

enum { ROUNDS = 41, MOST = 1000, MOST_ROUNDS = 1001 };

/* What should hold, at most: a plain step's nanoseconds above its call, heap calls beyond the other side's, a model's time
 * by that of the calls. */
static const double bar_ns = 100, bar_heap = 0, bar_ratio = 1.02;

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- chains of small steps: modules in `modules`, a flow of them, and the same by hand ----------------------- */

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
    bool no_grad, plain; /* plain: a step is a module */
} cases[] = {
    {"identities", "1000 identities", 1000, identity, plain_step, plain_call, false, true},
    {"relus", "100 relus of [1, 64]", 100, relu, plain_step, plain_call, false, true},
    {"linears", "20 linear layers 64 to 64, batch 1", 20, linear, plain_step, plain_call, false, true},
    {"residuals", "20 residual linear layers", 20, linear, also_step, also_call, false, false},
    {"residuals_no_grad", "the same with grad mode off", 20, linear, also_step, also_call, true, false},
    {"loop", "10 loops of 10 relus", 10, relu, loop_step, loop_call, false, false},
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
    double start = cpu_now();
    by_hand(which, x, 20);
    double one = (cpu_now() - start) / 20;
    int times = one > 2e-3 ? 1 : (int)(2e-3 / one);
    double graph[ROUNDS], hand[ROUNDS], above[ROUNDS];
    int64_t heap = 0;
    for (int r = 0; r < ROUNDS; r++) {
        int64_t before = heap_calls;
        double t0 = cpu_now();
        by_graph(g, x, times);
        double t1 = cpu_now();
        int64_t between = heap_calls;
        by_hand(which, x, times);
        double t2 = cpu_now();
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

/* ---- whole models: as flows, and by hand -------------------------------------------------------------------- */

enum { EXPERTS = 8, BLOCKS = 12 };

/* The modules of a model in the order of their making; the flow owns them, the other side borrows them. */
static int made;

static fdl_module *keep(fdl_module *m)
{
    FDL_NEED(m && made < MOST);
    return modules[made++] = m;
}

static fdl_module *linear_of(int64_t width)
{
    return keep(fdl_nn_linear(width, width));
}

static fdl_module *residual_tower(int64_t width)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, linear_of(width));
    for (int i = 0; i < BLOCKS; i++)
        fdl_flow_add(b, fdl_flow_also(
                            fdl_flow(linear_of(width), keep(fdl_nn_gelu()), keep(fdl_nn_layer_norm(width)))));
    fdl_flow_add(b, linear_of(width));
    return fdl_flow_build(b);
}

static fdl_tensor *residual_tower_by_hand(fdl_tensor *x)
{
    fdl_module **m = modules;
    x = fdl_forward(*m++, x);
    for (int i = 0; i < BLOCKS; i++, m += 3)
        x = fdl_add(x, fdl_forward(m[2], fdl_forward(m[1], fdl_forward(m[0], x))));
    return fdl_forward(*m, x);
}

static fdl_module *gated_routing(int64_t width)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, linear_of(width));
    fdl_flow_add(b, keep(fdl_nn_gelu()));
    fdl_module *router = keep(fdl_nn_softmax_router(width, EXPERTS)), *experts[EXPERTS];
    for (int i = 0; i < EXPERTS; i++)
        experts[i] = linear_of(width);
    fdl_flow_add(b, fdl_flow_gate_opt(router, EXPERTS, experts, NULL));
    fdl_flow_add(b, linear_of(width));
    return fdl_flow_build(b);
}

/* The sum as a product of each row's weights and the experts' rows: what is fastest to write by hand. */
static fdl_tensor *gated_routing_by_hand(fdl_tensor *x)
{
    fdl_tensor *y[EXPERTS];
    x = fdl_forward(modules[1], fdl_forward(modules[0], x));
    fdl_tensor *w = fdl_forward(modules[2], x); /* [N, experts] */
    for (int i = 0; i < EXPERTS; i++)
        y[i] = fdl_forward(modules[3 + i], x);
    fdl_tensor *rows = fdl_transpose(fdl_stack((fdl_list){EXPERTS, y}, 0), 0, 1); /* [N, experts, width] */
    x = fdl_squeeze(fdl_bmm(fdl_unsqueeze(w, 1), rows), 1);
    return fdl_forward(modules[3 + EXPERTS], x);
}

static fdl_module *refining(int64_t width, fdl_module *activation, int n)
{
    fdl_module *in = linear_of(width);
    fdl_module *body = fdl_flow(linear_of(width), keep(activation), keep(fdl_nn_layer_norm(width)));
    return fdl_flow(in, fdl_flow_loop(body, .n = n), linear_of(width));
}

static fdl_tensor *refining_by_hand(fdl_tensor *x, int n)
{
    x = fdl_forward(modules[0], x);
    for (int i = 0; i < n; i++)
        x = fdl_forward(modules[3], fdl_forward(modules[2], fdl_forward(modules[1], x)));
    return fdl_forward(modules[4], x);
}

static fdl_module *iterative_refine(int64_t width)
{
    return refining(width, fdl_nn_gelu(), 8);
}

static fdl_tensor *iterative_refine_by_hand(fdl_tensor *x)
{
    return refining_by_hand(x, 8);
}

static fdl_module *feedback_fixed(int64_t width)
{
    return refining(width, fdl_nn_tanh(), 10);
}

static fdl_tensor *feedback_fixed_by_hand(fdl_tensor *x)
{
    return refining_by_hand(x, 10);
}

static const struct {
    const char *name, *what;
    int64_t width, batch;
    fdl_module *(*flow)(int64_t width);
    fdl_tensor *(*by_hand)(fdl_tensor *x);
} models[] = {
    {"residual_tower", "12 residual blocks of linear, gelu, layer norm", 1024, 256, residual_tower,
     residual_tower_by_hand},
    {"gated_routing", "gate over 8 linear experts, softmax router", 512, 256, gated_routing,
     gated_routing_by_hand},
    {"iterative_refine", "8 runs of linear, gelu, layer norm", 1024, 256, iterative_refine,
     iterative_refine_by_hand},
    {"feedback_fixed", "10 runs of linear, tanh, layer norm", 512, 128, feedback_fixed,
     feedback_fixed_by_hand},
};
enum { MODELS = sizeof models / sizeof *models, PASSES = 2 };
static const char *const passes[PASSES] = {"forward", "forward and backward"};

typedef struct pair {
    double graph_s[MOST_ROUNDS], hand_s[MOST_ROUNDS],
        ratio; /* of each round; the median of their quotients */
} pair;

/* Seconds of one pass. */
static double one_pass(int which, fdl_module *g, fdl_tensor *x, bool backward)
{
    FDL_SCOPE;
    fdl_mode_guard mode = backward ? fdl_enable_grad_open() : fdl_no_grad_open();
    double start = cpu_now();
    fdl_tensor *y = g ? fdl_forward(g, x) : models[which].by_hand(x);
    FDL_NEED(y);
    if (backward)
        FDL_CHECK(fdl_backward(fdl_sum(y)));
    double seconds = cpu_now() - start;
    FDL_CHECK(fdl_mode_close(mode));
    return seconds;
}

/* Both sides make the same numbers, or there is nothing to compare. */
static void check_equal(int which, fdl_module *g, fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *off = fdl_max(fdl_abs(fdl_sub(fdl_forward(g, x), models[which].by_hand(x))));
    FDL_NEED(off);
    if (!(fdl_item(off) <= 1e-5)) {
        fprintf(stderr, "%s: the flow and the calls by hand differ by %g\n", models[which].name,
                fdl_item(off));
        exit(1);
    }
}

/* Rounds, whose order alternates, of one pass a side. */
static void measure_model(int which, int divide, int rounds, pair *of)
{
    FDL_SCOPE;
    made = 0;
    fdl_module *g = models[which].flow(models[which].width / divide);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(models[which].batch / divide, models[which].width / divide));
    FDL_NEED(g && x);
    check_equal(which, g, x);
    for (int pass = 0; pass < PASSES; pass++) {
        double quotients[MOST_ROUNDS];
        for (int r = -1; r < rounds; r++) {
            double s[2];
            for (int turn = 0; turn < 2; turn++) {
                int side = (turn + r) & 1;
                s[side] = one_pass(which, side ? NULL : g, x, pass == 1);
            }
            if (r < 0)
                continue; /* the first brings the memory */
            of[pass].graph_s[r] = s[0];
            of[pass].hand_s[r] = s[1];
            quotients[r] = s[0] / s[1];
        }
        of[pass].ratio = median(quotients, rounds);
    }
    FDL_CHECK(fdl_module_free(g));
}

/* ---- the report ---------------------------------------------------------------------------------------------- */

static int write_json(const char *path, const figure *figures, const pair *pairs, int rounds, int divide)
{
    json j;
    machine at;
    if (!json_open(&j, path))
        return 1;
    machine_read(&at, false);
    machine_begin_json(&j, "graph", &at);
    json_count(&j, "threads", fdl_num_threads());
    json_text(&j, "clock", "process");
    json_count(&j, "rounds", ROUNDS);
    json_begin(&j, "cases", '[');
    for (int i = 0; i < CASES; i++) {
        json_line(&j);
        json_begin(&j, NULL, '{');
        json_text(&j, "name", cases[i].name);
        json_text(&j, "what", cases[i].what);
        json_count(&j, "steps", cases[i].n);
        json_count(&j, "plain", cases[i].plain);
        json_number(&j, "graph_us", figures[i].graph_us);
        json_number(&j, "hand_us", figures[i].hand_us);
        json_number(&j, "above_ns_a_step", figures[i].above_ns);
        json_number(&j, "heap_calls", figures[i].heap);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_count(&j, "sizes_divided_by", divide);
    json_begin(&j, "models", '[');
    for (int i = 0; i < MODELS * PASSES; i++) {
        json_line(&j);
        json_begin(&j, NULL, '{');
        json_text(&j, "name", models[i / PASSES].name);
        json_text(&j, "what", models[i / PASSES].what);
        json_count(&j, "width", models[i / PASSES].width / divide);
        json_count(&j, "batch", models[i / PASSES].batch / divide);
        json_text(&j, "pass", passes[i % PASSES]);
        json_numbers(&j, "graph_s", pairs[i].graph_s, rounds);
        json_numbers(&j, "hand_s", pairs[i].hand_s, rounds);
        json_end(&j, '}');
    }
    json_end(&j, ']');
    json_end(&j, '}');
    return json_close(&j) ? 0 : 1;
}

/* One bar over all of its figures. */
static void verdict(const char *what, double bar, const double *values, const char *const *names, int n)
{
    int held = 0, worst = 0;
    for (int i = 0; i < n; i++) {
        held += values[i] <= bar;
        if (!(values[i] <= values[worst]))
            worst = i;
    }
    printf("%-13s %s: %d of %d; most: %s %.4g\n", held == n ? "holds" : "doesn't hold", what, held, n,
           names[worst], values[worst]);
}

static void judge(const figure *figures, const pair *pairs)
{
    double values[CASES + MODELS * PASSES];
    const char *names[CASES + MODELS * PASSES];
    int n = 0;
    for (int i = 0; i < CASES; i++)
        if (cases[i].plain) {
            names[n] = cases[i].name;
            values[n++] = figures[i].above_ns;
        }
    verdict("a plain step costs at most 100 ns above its call", bar_ns, values, names, n);
    for (int i = 0; i < CASES; i++) {
        names[i] = cases[i].name;
        values[i] = figures[i].heap;
    }
    verdict("no heap calls beyond those of the calls by hand", bar_heap, values, names, CASES);
    for (int i = 0; i < MODELS * PASSES; i++) {
        names[i] = models[i / PASSES].name;
        values[i] = pairs[i].ratio;
    }
    verdict("a model costs at most 2 % above the calls by hand", bar_ratio, values, names, MODELS * PASSES);
}

static int count_of(const char *text, int most)
{
    char *end;
    long n = strtol(text, &end, 10);
    return end == text || *end || n < 1 || n > most ? 0 : (int)n;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"json", required_argument, NULL, 'j'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {"divide", required_argument, NULL, 'd'},
                                            {0}};
    const char *path = NULL;
    int rounds = 21, divide = 1;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'j')
            path = optarg;
        else if (c == 'r')
            rounds = count_of(optarg, MOST_ROUNDS);
        else if (c == 'd')
            divide = count_of(optarg, 64);
        else
            rounds = 0;
    if (!rounds || !divide || optind < argc) {
        fprintf(stderr, "usage: %s [--rounds N] [--divide N] [--json FILE]\n", argv[0]);
        return 2;
    }
    FDL_CHECK(fdl_set_num_threads(1));
    figure figures[CASES];
    static pair pairs[MODELS * PASSES];
    printf("%-36s %12s %12s %16s %12s\n", "a forward of", "graph us", "by hand us", "above, ns a step",
           "heap calls");
    for (int i = 0; i < CASES; i++) {
        figures[i] = measured(i);
        printf("%-36s %12.2f %12.2f %16.1f %12.2f\n", cases[i].what, figures[i].graph_us, figures[i].hand_us,
               figures[i].above_ns, figures[i].heap);
    }
    printf("\n%-18s %-22s %10s %10s %8s\n", "model", "pass", "graph ms", "by hand ms", "ratio");
    for (int i = 0; i < MODELS; i++) {
        measure_model(i, divide, rounds, &pairs[i * PASSES]);
        for (int pass = 0; pass < PASSES; pass++) {
            const pair *p = &pairs[i * PASSES + pass];
            double g[MOST_ROUNDS], h[MOST_ROUNDS];
            memcpy(g, p->graph_s, sizeof *g * (size_t)rounds);
            memcpy(h, p->hand_s, sizeof *h * (size_t)rounds);
            printf("%-18s %-22s %10.3f %10.3f %8.4f\n", models[i].name, passes[pass], median(g, rounds) * 1e3,
                   median(h, rounds) * 1e3, p->ratio);
        }
    }
    putchar('\n');
    judge(figures, pairs);
    return path ? write_json(path, figures, pairs, rounds, divide) : 0;
}
