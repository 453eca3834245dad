/* Random flows from a seed, of all kinds of steps, nested: built, run, differentiated, saved and loaded, against the same
 * computation by hand on numbers with their derivatives. FLODL_RANDOM_FLOWS=N runs N of them instead of some hundred. */
#include "graph/random/compute.h"

#include <unistd.h>
/* ---- the comparison --------------------------------------------------------------------------------------------- */

enum {
    CALLS = 3,
    TRAINED = 2,
    MAX_INPUTS = 2
}; /* two calls with one backward behind them, and one without grad mode */

static void check_close(double got, double want, uint64_t from, const char *what)
{
    if (!(fabs(got - want) <= 1e-10 * (1 + largest)))
        fail_msg("flow of seed %llu: %s is %.17g, by hand %.17g", (unsigned long long)from, what, got, want);
}

static matrix random_matrix(void)
{
    matrix x = {.rows = ROWS, .cols = COLS};
    for (int i = 0; i < ROWS * COLS; i++)
        x.at[i] = (dual){number(), number()};
    return x;
}

static fdl_tensor *tensor_of(const matrix *x, bool direction)
{
    double at[MOST];
    for (int i = 0; i < x->rows * x->cols; i++)
        at[i] = direction ? x->at[i].d : x->at[i].v;
    return fdl_from_f64(at, FDL_SHAPE(x->rows, x->cols), .dtype = FDL_FLOAT64);
}

static void check_value(fdl_tensor *y, const matrix *want, uint64_t from)
{
    double got[MOST];
    check_some(y);
    assert_int_equal(fdl_numel(y), want->rows * want->cols);
    check_ok(fdl_to_f64(y, got, fdl_numel(y)));
    for (int i = 0; i < want->rows * want->cols; i++)
        check_close(got[i], want->at[i].v, from, "a value");
}

/* The gradient of t times the direction; none: 0. */
static double along(fdl_tensor *t, fdl_tensor *direction)
{
    FDL_SCOPE;
    fdl_tensor *grad = fdl_grad(t);
    fdl_clear_error();
    return grad ? fdl_item(fdl_sum(fdl_mul(grad, direction))) : 0;
}

/* Of all parameters below, in the first graph that was built. */
static double parameters_along(const flow *f, int *count)
{
    double sum_of = 0;
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++) {
            const op *o = &f->steps[i].ops[k];
            if (o->graph)
                sum_of += parameters_along(o->graph, count);
            if (o->kind != OP_SCALED)
                continue;
            FDL_SCOPE;
            fdl_tensor *p = fdl_param_tensor(fdl_module_own_param(o->made[0], "by"));
            sum_of += along(p, fdl_full(FDL_SHAPE(1), o->parameter.d, .dtype = FDL_FLOAT64));
            ++*count;
        }
    return sum_of;
}

typedef struct calls {
    matrix in[CALLS][1 + MAX_INPUTS], out[CALLS];
    double slope; /* of the sum of what the trained calls give, each element times its place from 1 */
} calls;

/* By hand; false: numbers get too large to compare. */
static bool expect(flow *f, calls *c)
{
    largest = 0;
    c->slope = 0;
    for (int k = 0; k < CALLS; k++) {
        for (int i = 0; i <= f->inputs; i++)
            c->in[k][i] = random_matrix();
        if (k == TRAINED)
            forget(f, true);
        c->out[k] = computed(f, c->in[k][0], c->in[k] + 1);
        for (int i = 0; k < TRAINED && i < c->out[k].rows * c->out[k].cols; i++)
            c->slope += c->out[k].at[i].d * (i + 1);
    }
    return largest < 1e4;
}

static fdl_tensor *weighed(fdl_tensor *y)
{
    fdl_tensor *place = fdl_arange(1, (double)fdl_numel(y) + 1, 1, .dtype = FDL_FLOAT64);
    return fdl_sum(fdl_mul(fdl_flatten(y, 0, -1), place));
}

/* All calls on g; differentiates those that train, unless it's frozen of history altogether. */
static void run_calls(fdl_module *g, flow *f, const calls *c, bool trains, uint64_t from)
{
    fdl_tensor *in[CALLS][1 + MAX_INPUTS], *loss = NULL;
    for (int k = 0; k < CALLS; k++) {
        bool differentiates = trains && k < TRAINED;
        if (k == TRAINED)
            check_ok(fdl_module_detach_state(g));
        fdl_mode_guard mode = differentiates ? fdl_enable_grad_open() : fdl_no_grad_open();
        for (int i = 0; i <= f->inputs; i++) {
            check_some(in[k][i] = tensor_of(&c->in[k][i], false));
            check_ok(fdl_requires_grad_(in[k][i], differentiates));
        }
        fdl_tensor *y = fdl_forward_of(g, 1 + f->inputs, in[k]);
        check_value(y, &c->out[k], from);
        for (int i = 0; i <= f->inputs; i++) /* nobody wrote into what it was given */
            check_value(in[k][i], &c->in[k][i], from);
        if (differentiates)
            loss = loss ? fdl_add(loss, weighed(y)) : weighed(y);
        check_ok(fdl_mode_close(mode));
        if (!trains || k != TRAINED - 1)
            continue;
        double got = 0;
        int count = 0;
        check_some(loss);
        if (fdl_requires_grad(loss))
            check_ok(fdl_backward(loss));
        for (int j = 0; j < TRAINED; j++)
            for (int i = 0; i <= f->inputs; i++)
                got += along(in[j][i], tensor_of(&c->in[j][i], true));
        got += parameters_along(f, &count);
        assert_int_equal(count, fdl_params_count(fdl_parameters(g)));
        check_close(got, c->slope, from, "the derivative");
    }
}

/* By a file. */
static void copy_weights(fdl_module *from, fdl_module *to)
{
    char path[] = "/tmp/flodl_random_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    check_ok(fdl_ckpt_save(from, path));
    check_ok(fdl_ckpt_load(to, path));
    unlink(path);
}

/* Another graph of the same flow has other parameters, and the first one's once they are loaded. */
static void check_saved(fdl_module *g, flow *f, const calls *c, uint64_t from)
{
    fdl_module *other = built(f, 1);
    assert_string_equal(fdl_graph_hash(other), fdl_graph_hash(g));
    copy_weights(g, other);
    run_calls(other, f, c, false, from);
    check_ok(fdl_module_free(other));
}

/* Written down and read again it is the same graph. */
static void check_written(fdl_module *g, flow *f, const calls *c, uint64_t from)
{
    const fdl_function functions[] = {{.name = "half_plus_one", .f = half_plus_one},
                                      {.name = "centre", .f = centre},
                                      {.name = "flip_columns", .f = flip_columns},
                                      {0}};
    char *text = fdl_topology_text(g, .functions = functions);
    check_some(text);
    fdl_module *other = fdl_topology_parse(
        text,
        .kinds = FDL_KINDS(&scaled_kind, &add_kind, &scale_kind, &sign_kind, &sign_rows_kind, &fold_kind),
        .functions = functions);
    if (!other)
        print_error("%s\n", text);
    check_some(other);
    char *again = fdl_topology_text(other, .functions = functions);
    check_some(again);
    assert_string_equal(text, again);
    assert_string_equal(fdl_graph_hash(other), fdl_graph_hash(g));
    copy_weights(g, other);
    run_calls(other, f, c, false, from);
    check_ok(fdl_module_free(other));
    free(text);
    free(again);
}

static int flows_wanted(void)
{
    const char *n = getenv("FLODL_RANDOM_FLOWS");
    return n && atoi(n) > 0 ? atoi(n) : 300;
}

/* FLODL_RANDOM_FROM=N begins with that seed, to look at one that a message names. */
static uint64_t first_wanted(void)
{
    const char *n = getenv("FLODL_RANDOM_FROM");
    return n && atoi(n) > 0 ? (uint64_t)atoi(n) : 1;
}

static void random_flows_compute_what_they_say(void **state)
{
    (void)state;
    int done = 0, wanted = flows_wanted();
    for (uint64_t from = first_wanted(); done < wanted && from < first_wanted() + 10 * (uint64_t)wanted;
         from++) {
        FDL_SCOPE;
        seed = from * 7919;
        flow *f = random_flow((limits){2, below(MAX_INPUTS + 1), false, COLS});
        calls c;
        if (expect(f, &c)) {
            fdl_module *g = built(f, 0);
            run_calls(g, f, &c, true, from);
            check_ok(fdl_module_reset(g));
            run_calls(g, f, &c, false, from); /* state was forgotten: the same again */
            check_saved(g, f, &c, from);
            check_written(g, f, &c, from);
            check_ok(fdl_module_free(g));
            done++;
        }
        free_flow(f);
    }
    assert_int_equal(done, wanted);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_flows_compute_what_they_say),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
