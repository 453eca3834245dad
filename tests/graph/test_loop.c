/* Loops: how often the body runs and the condition is asked, votes, resets, gradients, traces of the condition, errors. */
#include "graph/modules.h"

#include <math.h>

static fdl_tensor *leaf(fdl_tensor *x)
{
    FDL_CHECK(fdl_requires_grad_(x, true));
    return x;
}

/* Counts its calls, and halts when the largest element of x is above a limit. */
typedef struct limit {
    int calls, resets;
    double above;
} limit;

static fdl_tensor *limit_forward(void *self, fdl_tensor *x)
{
    limit *l = self;
    l->calls++;
    return fdl_sub(fdl_max(x), l->above);
}

static void limit_reset(void *self)
{
    ((limit *)self)->resets++;
}

static const fdl_module_ops limit_ops = {
    .kind = "limit", .size = sizeof(limit), .forward = limit_forward, .reset = limit_reset};

static fdl_module *new_limit(double above)
{
    fdl_module *m = fdl_module_new(&limit_ops);
    ((limit *)fdl_module_self(m))->above = above;
    return m;
}

/* 2 x, counting. */
static fdl_tensor *doubling_forward(void *self, fdl_tensor *x)
{
    ++*(int *)self;
    return fdl_add(x, x);
}

static const fdl_module_ops doubling_ops = {
    .kind = "doubling", .size = sizeof(int), .forward = doubling_forward};

/* What a loop over 2 x makes of [1, 2], and how often body and condition run. */
static void check_runs(bool until, double above, int64_t max, float first, int bodies, int conditions)
{
    FDL_SCOPE;
    fdl_module *body = fdl_module_new(&doubling_ops), *cond = new_limit(above);
    fdl_module *g = until ? fdl_flow(fdl_flow_loop(body, .until_cond = cond, .max = max), fdl_flow_tag("l"))
                          : fdl_flow(fdl_flow_loop(body, .while_cond = cond, .max = max), fdl_flow_tag("l"));
    check_some(g);
    assert_int_equal(fdl_graph_loop_iterations(g, "l"), 0);
    check_values(fdl_forward(g, row(1, 2)), first, 2 * first);
    assert_int_equal(*(int *)fdl_module_self(body), bodies);
    assert_int_equal(((limit *)fdl_module_self(cond))->calls, conditions);
    assert_int_equal(fdl_graph_loop_iterations(g, "l"), bodies);
    fdl_module_free(g);
}

static void while_asks_before_and_until_after(void **state)
{
    (void)state;
    check_runs(false, 10, 20, 8, 3, 4);
    check_runs(true, 10, 20, 8, 3, 3);
    check_runs(true, 10, 3, 8, 3, 2);
    check_runs(false, 10, 3, 8, 3, 3);
    check_runs(false, 0.5, 20, 1, 0, 1);
    check_runs(true, 0.5, 20, 2, 1, 1);
}

static void exactly_the_threshold_does_not_halt(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int until = 0; until < 2; until++) {
        fdl_module *halt = fdl_nn_threshold_halt(8);
        fdl_module *g = until ? fdl_flow(fdl_flow_loop(dbl(), .until_cond = halt, .max = 20))
                              : fdl_flow(fdl_flow_loop(dbl(), .while_cond = halt, .max = 20));
        check_values(fdl_forward(g, row(1, 2)), 8, 16);
        check_values(fdl_forward(g, row(2, 4)), 8, 16);
        fdl_module_free(g);
    }
}

static void the_limit_ends_a_loop(void **state)
{
    (void)state;
    check_runs(false, 1e9, 4, 16, 4, 4);
    check_runs(true, 1e9, 4, 16, 4, 3);
}

static fdl_tensor *not_a_number(fdl_tensor *x)
{
    return fdl_mul(x, NAN);
}

static void nan_never_halts(void **state)
{
    (void)state;
    FDL_SCOPE;
    const fdl_halt_vote votes[] = {FDL_HALT_ALL, FDL_HALT_ANY, FDL_HALT_MEAN, FDL_HALT_FIRST};
    for (size_t i = 0; i < sizeof votes / sizeof *votes; i++)
        for (int one = 0; one < 2; one++) {
            fdl_module *g = fdl_flow(
                fdl_flow_loop(dbl(), .until_cond = fdl_nn_fn(not_a_number), .max = 5, .vote = votes[i]),
                fdl_flow_tag("l"));
            check_some(fdl_forward(g, one ? row(3) : row(3, 4)));
            assert_int_equal(fdl_graph_loop_iterations(g, "l"), 5);
            fdl_module_free(g);
        }
}

/* [a, b] whatever the state is; in several dtypes. */
typedef struct opinion {
    double a, b;
    fdl_dtype dtype;
} opinion;

static fdl_tensor *opinion_forward(void *self, fdl_tensor *x)
{
    (void)x;
    opinion *o = self;
    return fdl_to_dtype(fdl_reshape(fdl_vec(o->a, o->b), FDL_SHAPE(2, 1)), o->dtype);
}

static const fdl_module_ops opinion_ops = {
    .kind = "opinion", .size = sizeof(opinion), .forward = opinion_forward};

static int64_t iterations_with(double a, double b, fdl_dtype dtype, fdl_halt_vote how)
{
    FDL_SCOPE;
    fdl_module *cond = fdl_module_new(&opinion_ops);
    *(opinion *)fdl_module_self(cond) = (opinion){a, b, dtype};
    fdl_module *g =
        fdl_flow(fdl_flow_loop(dbl(), .until_cond = cond, .max = 4, .vote = how), fdl_flow_tag("l"));
    check_some(fdl_forward(g, row(1, 2)));
    int64_t n = fdl_graph_loop_iterations(g, "l");
    fdl_module_free(g);
    return n;
}

static void rows_vote(void **state)
{
    (void)state;
    const fdl_dtype dtypes[] = {FDL_FLOAT32, FDL_FLOAT64, FDL_INT64, FDL_BFLOAT16};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        fdl_dtype d = dtypes[i];
        assert_int_equal(iterations_with(1, -1, d, FDL_HALT_ALL), 4);
        assert_int_equal(iterations_with(1, 1, d, FDL_HALT_ALL), 1);
        assert_int_equal(iterations_with(1, -1, d, FDL_HALT_ANY), 1);
        assert_int_equal(iterations_with(0, -1, d, FDL_HALT_ANY), 4);
        assert_int_equal(iterations_with(1, -1, d, FDL_HALT_MEAN), 4); /* 0 isn't above 0 */
        assert_int_equal(iterations_with(3, -1, d, FDL_HALT_MEAN), 1);
        assert_int_equal(iterations_with(1, -1, d, FDL_HALT_FIRST), 1);
        assert_int_equal(iterations_with(-1, 1, d, FDL_HALT_FIRST), 4);
    }
    assert_int_equal(iterations_with(1, 0, FDL_BOOL, FDL_HALT_ALL), 4);
    assert_int_equal(iterations_with(1, 0, FDL_BOOL, FDL_HALT_ANY), 1);
    assert_int_equal(iterations_with(1, NAN, FDL_FLOAT32, FDL_HALT_ANY), 1);
    assert_int_equal(iterations_with(1, NAN, FDL_FLOAT32, FDL_HALT_ALL), 4);
}

#define refused(flow, ...)                   \
    do {                                     \
        assert_null(flow);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)

static void options_that_contradict_each_other(void **state)
{
    (void)state;
#define halt() fdl_nn_threshold_halt(1)
    refused(fdl_flow(fdl_flow_loop(dbl())), "step 0 (fdl_flow_loop)", ".n", "got 0", "condition");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = -2)), "got -2");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = halt())), ".max", "got 0");
    refused(fdl_flow(fdl_flow_loop(dbl(), .until_cond = halt(), .max = -1)), ".max", "got -1");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = halt(), .until_cond = halt(), .max = 3)),
            ".while_cond", ".until_cond", "exactly one");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = 3, .while_cond = halt(), .max = 3)), ".n = 3", ".max");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = 3, .max = 3)), ".n", ".max", "belongs to a condition");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = 3, .vote = FDL_HALT_ANY)), ".n", ".vote");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = 3, .trace_cond = "c")), ".n", ".trace_cond");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = halt(), .max = 3, .vote = (fdl_halt_vote)9)),
            "9 is no .vote");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = halt(), .max = 3, .trace_cond = "a/b")),
            ".trace_cond", "\"a/b\"");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = fdl_flow_fork(dbl()), .max = 3)),
            "fdl_flow_fork makes a step");
    refused(fdl_flow(fdl_flow_loop(dbl(), .while_cond = fdl_flow(id(), fdl_flow_input("ctx")), .max = 3)),
            "its condition", "\"ctx\"");
    /* a condition whose constructor failed isn't a condition that was left out */
    assert_null(fdl_flow(fdl_flow_loop(dbl(), .n = 3, .while_cond = fdl_nn_linear(0, 1))));
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_flow(fdl_flow_loop(dbl(), .until_cond = fdl_nn_linear(0, 1), .max = 3)));
    check_error(FDL_E_ARG, "linear");
    assert_null(fdl_flow(fdl_flow_loop(dbl(), .act = fdl_nn_linear(0, 1), .max = 3)));
    check_error(FDL_E_ARG, "linear");
#undef halt
}

static void a_loop_that_is_none_has_no_iterations(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(id(), fdl_flow_tag("a"), fdl_flow_loop(dbl(), .n = 2));
    assert_int_equal(fdl_graph_loop_iterations(g, "a"), -1);
    check_error(FDL_E_ARG, "\"a\"", "no loop");
    assert_int_equal(fdl_graph_loop_iterations(g, "b"), -1);
    check_error(FDL_E_ARG, "\"b\"");
    assert_int_equal(fdl_graph_loop_iterations(g, NULL), -1);
    check_error(FDL_E_NULL, "tag");
    fdl_module_free(g);
}

static void gradients_add_up_over_the_iterations(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *bias = new_bias(2), *g = fdl_flow(fdl_flow_loop(bias, .n = 3));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(bias, "bias"))), 3, 3);
    fdl_module_free(g);
    /* as many as ran: [1, 2] doubles to [8, 16] */
    bias = new_bias(2);
    g = fdl_flow(fdl_flow_loop(fdl_flow(dbl(), bias), .until_cond = fdl_nn_threshold_halt(10), .max = 9));
    check_ok(fdl_backward(fdl_sum(fdl_forward(g, row(1, 2)))));
    check_values(fdl_grad(fdl_param_tensor(fdl_module_own_param(bias, "bias"))), 4 + 2 + 1, 4 + 2 + 1);
    fdl_module_free(g);
}

static void refs_reach_the_body_and_not_the_condition(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_loop(add_ctx(), .n = 3), fdl_flow_using("ctx"));
    fdl_tensor *x = leaf(row(2, 3)), *y = fdl_forward(g, x);
    check_values(y, 8, 12);
    check_ok(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(x), 4, 4);
    fdl_module_free(g);
    fdl_module *cond = new_limit(10);
    g = fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_loop(add_ctx(), .while_cond = cond, .max = 9),
                 fdl_flow_using("ctx"));
    check_values(fdl_forward(g, row(2, 3)), 8, 12);
    fdl_module_free(g);
    refused(fdl_flow(id(), fdl_flow_tag("ctx"), fdl_flow_loop(dbl(), .while_cond = add_ctx(), .max = 2),
                     fdl_flow_using("ctx")),
            "its body dbl");
}

static void everything_is_reset_before_the_first_iteration(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *count = new_counter(), *cond = new_limit(1e9);
    const counter *c = fdl_module_self(count);
    fdl_module *g = fdl_flow(fdl_flow_loop(fdl_flow(id(), count), .until_cond = cond, .max = 4));
    for (int i = 1; i <= 3; i++) {
        check_some(fdl_forward(g, row(1, 2)));
        assert_int_equal(c->calls, 4);
        assert_int_equal(c->resets, i);
        assert_int_equal(((limit *)fdl_module_self(cond))->resets, i);
    }
    fdl_module_free(g);
    /* also when there is none */
    count = new_counter();
    c = fdl_module_self(count);
    g = fdl_flow(fdl_flow_loop(count, .while_cond = new_limit(0), .max = 4));
    check_some(fdl_forward(g, row(1, 2)));
    assert_int_equal(c->resets, 1);
    assert_int_equal(c->calls, 0);
    fdl_module_free(g);
    count = new_counter();
    c = fdl_module_self(count);
    g = fdl_flow(fdl_flow_loop(count, .n = 2, .keep_state = true));
    for (int i = 1; i <= 3; i++) {
        check_some(fdl_forward(g, row(1, 2)));
        assert_int_equal(c->calls, 2 * i);
    }
    assert_int_equal(c->resets, 0);
    fdl_module_free(g);
}

static void a_condition_gets_no_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *cond = fdl_nn_learned_halt(3);
    fdl_module *g =
        fdl_flow(fdl_nn_linear(3, 3), fdl_flow_loop(fdl_nn_linear(3, 3), .while_cond = cond, .max = 3));
    fdl_params *ps = fdl_parameters(g);
    assert_int_equal(fdl_params_count(ps), 6);
    assert_string_equal(fdl_params_name(ps, 2), "loop_2/body.weight");
    assert_string_equal(fdl_params_name(ps, 4), "loop_2/cond.proj.weight");
    check_ok(fdl_param_set(fdl_params_at(ps, 5), fdl_vec(-100)));
    check_ok(fdl_backward(fdl_sum(fdl_square(fdl_forward(g, fdl_randn(FDL_SHAPE(5, 3)))))));
    for (int i = 0; i < 6; i++)
        assert_int_equal(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))) != NULL, i < 4);
    fdl_module_free(g);
}

static void a_traced_condition_gets_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *cond = fdl_nn_learned_halt(3);
    fdl_module *g =
        fdl_flow(fdl_flow_loop(fdl_nn_linear(3, 3), .until_cond = cond, .max = 4, .trace_cond = "halt"));
    fdl_params *ps = fdl_parameters(g);
    check_ok(fdl_param_set(fdl_params_find(ps, "loop_2/cond.proj.bias"), fdl_vec(-100)));
    check_some(fdl_forward(g, fdl_randn(FDL_SHAPE(5, 3))));
    int n;
    fdl_tensor *const *logits = fdl_graph_traces(g, "halt", &n);
    assert_int_equal(n, 3); /* the last possible run isn't asked about */
    assert_true(fdl_shape_eq(fdl_shape_of(logits[0]), FDL_SHAPE(5, 1)));
    fdl_tensor *ponder = fdl_scalar(0);
    for (int i = 0; i < n; i++)
        ponder = fdl_add(ponder, fdl_sum(fdl_sigmoid(logits[i])));
    check_ok(fdl_backward(ponder));
    for (int i = 0; i < 4; i++)
        check_some(fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))));
    fdl_module_free(g);
}

/* x + 0.25. */
static fdl_tensor *a_little_more(fdl_tensor *x)
{
    return fdl_add(x, 0.25);
}

/* Adaptive computation time one row at a time. */
static double weighed(double x, int most, double epsilon, double *ponder)
{
    double shared = 0, result = 0;
    for (int i = 1;; i++) {
        x += 0.25;
        double h = 1 / (1 + exp(-x));
        if (shared + h >= 1 - epsilon || i == most) {
            *ponder = i + 1 - shared;
            return result + (1 - shared) * x;
        }
        shared += h;
        result += h * x;
    }
}

static void each_row_halts_by_itself(void **state)
{
    (void)state;
    const struct {
        int most;
        double epsilon; /* the option; 0: its default */
    } cases[] = {{1, 0}, {2, 0}, {6, 0}, {40, 0}, {6, 0.3}, {6, FDL_ZERO}};
    const float x[] = {-3, -1, 0, 2, 7};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        FDL_SCOPE;
        int most = cases[c].most;
        fdl_module *g = fdl_flow(fdl_flow_loop(fdl_nn_fn(a_little_more), .act = id(), .max = most,
                                               .epsilon = cases[c].epsilon, .trace_cond = "share",
                                               .trace_ponder = "ponder"),
                                 fdl_flow_tag("l"));
        fdl_tensor *y = fdl_forward(g, fdl_from_f32(x, FDL_SHAPE(5, 1)));
        check_some(y);
        float got[5], cost[5];
        check_ok(fdl_to_f32(y, got, 5));
        check_ok(fdl_to_f32(fdl_graph_last_trace(g, "ponder"), cost, 5));
        for (int r = 0; r < 5; r++) {
            double ponder, epsilon = cases[c].epsilon > 0.1 ? 0.3 : cases[c].epsilon > 0 ? 0 : 0.01;
            double want = weighed(x[r], most, epsilon, &ponder);
            check_number(got[r], want, 1e-4);
            check_number(cost[r], ponder, 1e-4);
        }
        int n;
        fdl_tensor *const *shares = fdl_graph_traces(g, "share", &n);
        assert_int_equal(n, most);
        fdl_tensor *sum = shares[0];
        for (int i = 1; i < n; i++)
            sum = fdl_add(sum, shares[i]);
        assert_true(fdl_allclose(sum, fdl_ones(FDL_SHAPE(5)), .atol = 1e-5));
        assert_int_equal(fdl_graph_loop_iterations(g, "l"), most);
        fdl_module_free(g);
    }
}

static fdl_tensor *with_ponder(fdl_list in, void *ctx)
{
    fdl_tensor *y = fdl_forward(ctx, fdl_list_at(in, 0));
    return y ? fdl_add(fdl_sum(fdl_square(y)), fdl_mul(fdl_sum(fdl_graph_last_trace(ctx, "ponder")), 0.3))
             : NULL;
}

static void halting_by_row_is_learned(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_manual_seed(4);
    fdl_module *g =
        fdl_flow(fdl_flow_loop(fdl_flow(fdl_nn_linear(3, 3), fdl_nn_tanh()), .act = fdl_nn_learned_halt(3),
                               .max = 4, .trace_ponder = "ponder"));
    check_ok(fdl_module_to(g, fdl_default_device(), .dtype = FDL_FLOAT64));
    fdl_tensor *leaves[8] = {fdl_randn(FDL_SHAPE(5, 3), .dtype = FDL_FLOAT64, .requires_grad = true)};
    fdl_list in = {1, leaves};
    fdl_params *ps = fdl_parameters(g);
    assert_string_equal(fdl_params_name(ps, 2), "loop_2/cond.proj.weight");
    for (int i = 0; i < fdl_params_count(ps); i++)
        leaves[in.n++] = fdl_param_tensor(fdl_params_at(ps, i));
    check_ok(fdl_gradcheck(with_ponder, in, g));
    fdl_module_free(g);
#define halt() fdl_nn_threshold_halt(1)
    refused(fdl_flow(fdl_flow_loop(dbl(), .act = halt())), ".max");
    refused(fdl_flow(fdl_flow_loop(dbl(), .act = halt(), .until_cond = halt(), .max = 2)), ".until_cond",
            ".act");
    refused(fdl_flow(fdl_flow_loop(dbl(), .act = halt(), .vote = FDL_HALT_ANY, .max = 2)), ".act", ".vote");
    refused(fdl_flow(fdl_flow_loop(dbl(), .act = halt(), .epsilon = 1, .max = 2)), ".epsilon is 1");
    refused(fdl_flow(fdl_flow_loop(dbl(), .n = 2, .trace_ponder = "p")), ".trace_ponder", ".act");
    refused(fdl_flow(fdl_flow_loop(dbl(), .until_cond = halt(), .epsilon = 0.1, .max = 2)), ".epsilon",
            ".act");
#undef halt
    g = fdl_flow(fdl_flow_loop(dbl(), .act = fdl_nn_threshold_halt(1), .max = 2));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2))));
    check_error(FDL_E_SHAPE, "loop_2: loop condition at iteration 0: ", "each row");
    fdl_module_free(g);
}

static void loops_nest(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(fdl_flow(fdl_flow_loop(dbl(), .n = 2)), .n = 3));
    check_values(fdl_forward(g, row(1, 2)), 64, 128);
    fdl_module_free(g);
}

static fdl_tensor *nothing_left(fdl_tensor *x)
{
    return fdl_narrow(fdl_reshape(x, FDL_SHAPE(-1)), 0, 0, 0);
}

/* Fails at its third call. */
static fdl_tensor *third_forward(void *self, fdl_tensor *x)
{
    return ++*(int *)self == 3 ? fdl_fail_null(FDL_E_RANGE, "enough") : x;
}

static const fdl_module_ops third_ops = {.kind = "third", .size = sizeof(int), .forward = third_forward};

static void errors_say_which_iteration(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_loop(fdl_module_new(&third_ops), .n = 4));
    assert_null(fdl_forward(g, row(1, 2)));
    check_error(FDL_E_RANGE, "loop_2: loop iteration 2: enough");
    check_values(fdl_forward(g, row(1, 2)), 1, 2); /* usable again */
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(dbl(), .until_cond = fdl_module_new(&third_ops), .max = 9), fdl_flow_tag("l"));
    assert_null(fdl_forward(g, row(-1)));
    check_error(FDL_E_RANGE, "loop_2 (#l): loop condition at iteration 2: enough");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(dbl(), .while_cond = fdl_nn_fn(nothing_left), .max = 9));
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_SHAPE, "loop condition at iteration 0", "without an element");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_loop(fdl_nn_fn(gives_nothing), .n = 1));
    assert_null(fdl_forward(g, row(1)));
    check_error(FDL_E_NULL, "loop iteration 0", "returned NULL without an error");
    fdl_module_free(g);
}

static void a_loop_needs_the_memory_of_one_iteration(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *g = fdl_flow(fdl_flow_loop(dbl(), .until_cond = fdl_nn_threshold_halt(1e30), .max = 64));
    fdl_tensor *x = row(1, 2);
    check_some(fdl_forward(g, x));
    int64_t before = fdl_live_tensors();
    fdl_tensor *y = fdl_forward(g, x);
    assert_int_equal(fdl_live_tensors(), before + 1);
    fdl_drop(y);
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(while_asks_before_and_until_after),
        cmocka_unit_test(exactly_the_threshold_does_not_halt),
        cmocka_unit_test(the_limit_ends_a_loop),
        cmocka_unit_test(nan_never_halts),
        cmocka_unit_test(rows_vote),
        cmocka_unit_test(options_that_contradict_each_other),
        cmocka_unit_test(a_loop_that_is_none_has_no_iterations),
        cmocka_unit_test(gradients_add_up_over_the_iterations),
        cmocka_unit_test(refs_reach_the_body_and_not_the_condition),
        cmocka_unit_test(everything_is_reset_before_the_first_iteration),
        cmocka_unit_test(a_condition_gets_no_gradient),
        cmocka_unit_test(a_traced_condition_gets_one),
        cmocka_unit_test(each_row_halts_by_itself),
        cmocka_unit_test(halting_by_row_is_learned),
        cmocka_unit_test(loops_nest),
        cmocka_unit_test(errors_say_which_iteration),
        cmocka_unit_test(a_loop_needs_the_memory_of_one_iteration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
