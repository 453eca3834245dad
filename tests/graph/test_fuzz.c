/* Random flows from a seed: valid ones against the same computation on plain numbers, with and without grad
 * mode; steps in any order, where each flow is a graph or an error and nothing is left behind. */
#include "graph/modules.h"

/* ---- random numbers: the same everywhere --------------------------------------------------------------- */

static uint64_t seed;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

/* ---- valid flows: what was built, to be computed again ------------------------------------------------- */

enum { MAX_STEPS = 24, MAX_REFS = 3, MAX_BRANCHES = 4 };

typedef enum op_kind { OP_HALF, OP_MINUS, OP_SAME, OP_REFS, OP_GRAPH, OP_KINDS } op_kind;
typedef enum step_kind { ST_MODULE, ST_ALSO, ST_FORK, ST_SPLIT, ST_LOOP, ST_GATE, ST_KINDS } step_kind;

typedef struct flow flow;

typedef struct op {
    op_kind kind;
    flow *graph; /* of OP_GRAPH */
} op;

typedef struct step {
    step_kind kind;
    op ops[MAX_BRANCHES];
    int n;                        /* modules; runs of a loop in n_runs */
    double weights[MAX_BRANCHES]; /* of a gate's experts */
    int n_runs;
    bool has_skip; /* the module of .skip is ops[1] */
    bool mean;
    int refs[MAX_REFS], n_refs; /* values: a tag's number */
    bool tagged;
} step;

struct flow {
    step steps[MAX_STEPS];
    int n, inputs, tags;
};

static fdl_tensor *half_plus_one(fdl_tensor *x)
{
    return fdl_add(fdl_mul(x, 0.5), 1.0);
}

static fdl_tensor *minus(fdl_tensor *x)
{
    return fdl_mul(x, -0.75);
}

/* A router whose weights don't depend on x; further inputs turn their signs. */
typedef struct scale {
    int n;
    double weights[MAX_BRANCHES];
} scale;

static fdl_tensor *scale_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const scale *s = self;
    (void)x;
    fdl_tensor *w = fdl_from_f64(s->weights, FDL_SHAPE(s->n), .dtype = FDL_FLOAT64);
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        w = fdl_mul(w, fdl_sign(fdl_refs_at(r, i)));
    return w;
}

static const fdl_module_ops scale_ops = {
    .kind = "scale", .size = sizeof(scale), .forward_named = scale_forward};

static fdl_module *router(int n, const double *weights)
{
    fdl_module *m = fdl_module_new(&scale_ops);
    scale *s = fdl_module_self(m);
    s->n = n;
    memcpy(s->weights, weights, sizeof *weights * (size_t)n);
    return m;
}

static flow *random_flow(int depth, int inputs);
static fdl_module *built(const flow *f);
static double computed(const flow *f, double x, const double *inputs);

static void free_flow(flow *f)
{
    for (int i = 0; f && i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++)
            free_flow(f->steps[i].ops[k].graph);
    free(f);
}

/* refs: how many the module will get. */
static op random_op(int depth, int refs)
{
    op o = {.kind = refs ? OP_REFS : (op_kind)below(OP_KINDS)};
    if (refs && below(2))
        o.kind = OP_GRAPH;
    if (o.kind == OP_GRAPH && depth == 0)
        o.kind = refs ? OP_REFS : OP_SAME;
    if (o.kind == OP_GRAPH)
        o.graph = random_flow(depth - 1, refs);
    return o;
}

static fdl_module *op_module(const op *o)
{
    return o->kind == OP_HALF    ? fdl_nn_fn(half_plus_one)
           : o->kind == OP_MINUS ? fdl_nn_fn(minus)
           : o->kind == OP_SAME  ? id()
           : o->kind == OP_REFS  ? sum_refs()
                                 : built(o->graph);
}

static double op_value(const op *o, double x, int n, const double *refs)
{
    double y = x;
    if (o->kind == OP_REFS)
        for (int i = 0; i < n; i++)
            y += refs[i] * (i + 1);
    return o->kind == OP_HALF    ? x * 0.5 + 1
           : o->kind == OP_MINUS ? x * -0.75
           : o->kind == OP_GRAPH ? computed(o->graph, x, refs)
                                 : y;
}

/* A graph inside calls its inputs r0, r1, ...; so do the tags of every flow, and its inputs come first. */
static flow *random_flow(int depth, int inputs)
{
    flow *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->inputs = f->tags = inputs;
    f->n = 1 + below(MAX_STEPS - 1);
    for (int i = 0; i < f->n; i++) {
        step *s = &f->steps[i];
        s->kind = (step_kind)below(ST_KINDS);
        s->n = s->kind == ST_SPLIT || s->kind == ST_GATE ? 2 + below(MAX_BRANCHES - 1) : 1;
        /* two powers of two: however the sum is computed, it is rounded once */
        s->weights[below(s->n)] = below(2) ? 0.5 : -2;
        s->weights[below(s->n)] = below(2) ? 1 : -0.25;
        s->n_runs = 1 + below(4);
        s->mean = below(2);
        s->has_skip = s->kind == ST_ALSO && below(3) == 0;
        /* a graph wants the names r0, r1, ..., which are the first tags */
        s->n_refs = f->tags && below(2) ? 1 + below(f->tags < MAX_REFS ? f->tags : MAX_REFS) : 0;
        for (int k = 0; k < s->n_refs; k++)
            s->refs[k] = k;
        for (int k = 0; k < s->n; k++)
            s->ops[k] = random_op(depth, s->kind == ST_GATE ? 0 : s->n_refs);
        if (s->has_skip) {
            s->ops[1] = random_op(depth, 0);
            s->n = 2;
        }
        s->tagged = below(3) == 0;
        f->tags += s->tagged;
    }
    return f;
}

static const char *tag_name(int i)
{
    static char names[8][16];
    static int next;
    char *name = names[next++ % 8];
    snprintf(name, sizeof names[0], "r%d", i);
    return name;
}

static fdl_module *built(const flow *f)
{
    fdl_flow_builder *b = fdl_flow_new();
    int tags = f->inputs;
    for (int i = 0; i < f->inputs; i++)
        check_ok(fdl_flow_add(b, fdl_flow_input(tag_name(i))));
    for (int i = 0; i < f->n; i++) {
        const step *s = &f->steps[i];
        fdl_module *m[MAX_BRANCHES] = {NULL};
        for (int k = 0; k < s->n; k++)
            check_some(m[k] = op_module(&s->ops[k]));
        if (s->kind == ST_MODULE)
            check_ok(fdl_flow_add(b, m[0]));
        else if (s->kind == ST_ALSO)
            check_ok(fdl_flow_add(b, fdl_flow_also(m[0], .skip = m[1])));
        else if (s->kind == ST_FORK)
            check_ok(fdl_flow_add(b, fdl_flow_fork(m[0])));
        else if (s->kind == ST_LOOP)
            check_ok(fdl_flow_add(b, fdl_flow_loop(m[0], .n = s->n_runs)));
        else if (s->kind == ST_GATE)
            check_ok(fdl_flow_add(b, fdl_flow_gate_opt(router(s->n, s->weights), s->n, m, NULL)));
        else
            check_ok(fdl_flow_add(b, fdl_flow_split_of(s->n, m)));
        for (int k = 0; k < s->n_refs; k++)
            check_ok(fdl_flow_add(b, fdl_flow_using(tag_name(s->refs[k]))));
        if (s->kind == ST_SPLIT) {
            check_ok(fdl_flow_add(b, fdl_flow_merge(s->mean ? FDL_MERGE_MEAN : FDL_MERGE_ADD)));
            for (int k = s->n_refs - 1; k >= 0; k--) /* and as operands */
                check_ok(fdl_flow_add(b, fdl_flow_using(tag_name(s->refs[k]))));
        }
        if (s->tagged)
            check_ok(fdl_flow_add(b, fdl_flow_tag(tag_name(tags++))));
    }
    fdl_module *g = fdl_flow_build(b);
    check_some(g);
    return g;
}

static double computed(const flow *f, double x, const double *inputs)
{
    double value[MAX_STEPS + MAX_REFS], refs[MAX_REFS];
    int tags = 0;
    for (; tags < f->inputs; tags++)
        value[tags] = inputs[tags];
    for (int i = 0; i < f->n; i++) {
        const step *s = &f->steps[i];
        for (int k = 0; k < s->n_refs; k++)
            refs[k] = value[s->refs[k]];
        double y = s->kind == ST_LOOP || s->kind == ST_GATE ? x : op_value(&s->ops[0], x, s->n_refs, refs),
               tagged;
        if (s->kind == ST_ALSO)
            y += s->has_skip ? op_value(&s->ops[1], x, 0, NULL) : x;
        for (int k = 0; s->kind == ST_LOOP && k < s->n_runs; k++)
            y = op_value(&s->ops[0], y, s->n_refs, refs);
        if (s->kind == ST_SPLIT) {
            for (int k = 1; k < s->n; k++)
                y += op_value(&s->ops[k], x, s->n_refs, refs);
            for (int k = s->n_refs - 1; k >= 0; k--)
                y += refs[k];
            if (s->mean)
                y *= 1.0 / (s->n + s->n_refs);
        }
        if (s->kind == ST_GATE) {
            double sign = 1;
            for (int k = 0; k < s->n_refs; k++)
                sign *= (refs[k] > 0) - (refs[k] < 0);
            y = 0;
            for (int k = 0; k < s->n; k++)
                y += sign * s->weights[k] * op_value(&s->ops[k], x, 0, NULL);
        }
        tagged = y;
        if (s->kind != ST_FORK)
            x = y;
        if (s->tagged)
            value[tags++] = tagged;
    }
    return x;
}

/* The same operations in the same order: the same bits. */
static void check_equal(double got, double want, uint64_t from)
{
    if (got != want)
        fail_msg("flow of seed %llu: %.17g, computed by hand %.17g", (unsigned long long)from, got, want);
}

static void valid_flows_compute_what_they_say(void **state)
{
    (void)state;
    int done = 0;
    for (uint64_t from = 1; done < 150 && from < 4000; from++) {
        FDL_SCOPE;
        seed = from * 7919;
        int inputs = below(3);
        flow *f = random_flow(2, inputs);
        const double x = below(200) / 100.0 - 1;
        double more[2] = {below(200) / 100.0 - 1, below(200) / 100.0 - 1};
        double want = computed(f, x, more);
        if (want > -1e300 && want < 1e300) {
            fdl_module *g = built(f);
            fdl_tensor *in[3];
            for (int i = 0; i <= inputs; i++)
                in[i] = fdl_full(FDL_SHAPE(1), i ? more[i - 1] : x, .dtype = FDL_FLOAT64);
            check_ok(fdl_requires_grad_(in[0], true));
            for (int run = 0; run < 2; run++) {
                fdl_tensor *y = fdl_forward_of(g, 1 + inputs, in);
                check_some(y);
                check_equal(fdl_item(y), want, from);
                FDL_NO_GRAD;
                y = fdl_forward_of(g, 1 + inputs, in);
                check_some(y);
                check_equal(fdl_item(y), want, from);
                for (int i = 0; i <= inputs; i++)
                    assert_true(fdl_item(in[i]) == (i ? more[i - 1] : x));
            }
            fdl_module_free(g);
            done++;
        }
        free_flow(f);
    }
    assert_int_equal(done, 150);
}

/* ---- any steps in any order ---------------------------------------------------------------------------- */

static int alive;

static fdl_tensor *counted_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    return x;
}

static void counted_free(void *self)
{
    (void)self;
    alive--;
}

static const fdl_module_ops counted_ops = {
    .kind = "counted", .forward_named = counted_forward, .free = counted_free};

static fdl_module *counted(void)
{
    alive++;
    return fdl_module_new(&counted_ops);
}

static const char *some_name(void)
{
    static const char *const names[] = {"a",         "b",   "c",     "d_0", "d",  "d_1",
                                        "counted_2", "a.b", "input", "",    "x/y"};
    return names[below(below(4) ? 5 : (int)(sizeof names / sizeof *names))];
}

static fdl_module *any_step(int depth);

static fdl_module *any_module(int depth)
{
    int kind = below(12);
    return kind == 0                ? NULL
           : kind == 1 && depth > 0 ? any_step(depth - 1)
           : kind < 4 && depth > 0
               ? fdl_flow(any_step(depth - 1), any_step(depth - 1), any_step(depth - 1), any_step(depth - 1))
               : counted();
}

static fdl_module *any_step(int depth)
{
    switch (below(18)) {
    case 16:
        return fdl_flow_gate(any_module(depth), FDL_MODULES(any_module(depth), any_module(depth)));
    case 0:
        return fdl_flow_also(any_module(depth));
    case 1:
        return fdl_flow_also(any_module(depth), .skip = any_module(depth), .name = some_name());
    case 2:
        return fdl_flow_fork(any_module(depth));
    case 3:
    case 4:
        return fdl_flow_split(any_module(depth), any_module(depth));
    case 5:
        return fdl_flow_split(any_module(depth));
    case 6:
    case 7:
        return fdl_flow_merge((fdl_merge_kind)below(2));
    case 8:
        return fdl_flow_loop(any_module(depth), .n = below(4));
    case 9:
        return fdl_flow_tag(some_name());
    case 10:
        return fdl_flow_tag_group(some_name());
    case 11:
        return fdl_flow_using(some_name(), some_name());
    case 12:
        return fdl_flow_input(some_name());
    case 13:
        return fdl_flow_label(some_name());
    default:
        return counted();
    }
}

static void steps_in_any_order_are_a_graph_or_an_error(void **state)
{
    (void)state;
    int graphs = 0, errors = 0;
    for (uint64_t from = 1; from <= 20000; from++) {
        FDL_SCOPE;
        seed = from * 104729;
        fdl_clear_error();
        fdl_flow_builder *b = fdl_flow_new();
        for (int i = below(7); i >= 0; i--)
            fdl_flow_add(b, any_step(2));
        fdl_module *g = fdl_flow_build(b);
        if (!g) {
            assert_int_not_equal(fdl_last_error()->status, FDL_OK);
            assert_true(strlen(fdl_last_error()->message) > 0);
            errors++;
        } else {
            fdl_tensor *in[] = {row(1, 2), row(3, 4), row(5, 6)};
            fdl_clear_error();
            int n = 1 + below(3);
            fdl_tensor *y = fdl_forward_of(g, n, in);
            assert_true((y != NULL) == (n == fdl_graph_input_count(g)));
            assert_int_equal(y ? FDL_OK : FDL_E_ARG, fdl_last_error()->status);
            assert_int_equal(strlen(fdl_graph_hash(g)), 64);
            check_ok(fdl_module_free(g));
            graphs++;
        }
        assert_int_equal(alive, 0);
    }
    assert_true(graphs > 1000 && errors > 1000);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_flows_compute_what_they_say),
        cmocka_unit_test(steps_in_any_order_are_a_graph_or_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
