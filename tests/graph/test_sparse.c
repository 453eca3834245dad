/* Where each row takes its own way: gates with .top_k, switches with .per_row. */
#include "graph/modules.h"

#include <math.h>

enum { MOST = 64 };

/* ---- gates --------------------------------------------------------------------------------------------- */

/* What each expert counts for each row, worked out one row at a time: w where the expert is among the row's k heaviest and has a
 * place left, otherwise 0. */
static void kept_weights(int rows, int n, int k, int places, const float *w, float *kept)
{
    int taken[MOST] = {0}, used[MOST][MOST] = {{0}};
    memset(kept, 0, sizeof *kept * (size_t)(rows * n));
    for (int j = 0; j < k; j++)
        for (int r = 0; r < rows; r++) {
            int best = -1;
            for (int i = 0; i < n; i++)
                if (!used[r][i] && (best < 0 || w[r * n + i] > w[r * n + best]))
                    best = i;
            used[r][best] = 1;
            if (taken[best]++ < places)
                kept[r * n + best] = w[r * n + best];
        }
}

typedef struct mixture {
    int n;
    fdl_module *g, *router, *expert[8];
} mixture;

static mixture new_mixture(int n, int k, double capacity, bool normalize)
{
    mixture m = {.n = n, .router = fdl_nn_softmax_router(4, n)};
    for (int i = 0; i < n; i++)
        m.expert[i] = fdl_nn_linear(4, 3);
    m.g = fdl_flow(fdl_flow_gate_opt(m.router, n, m.expert,
                                     &(fdl_flow_gate_opts){.top_k = k,
                                                           .capacity = capacity,
                                                           .normalize = normalize,
                                                           .trace_weights = "w",
                                                           .trace_choice = "choice",
                                                           .trace_balance = "balance"}),
                   fdl_flow_tag("moe"));
    check_some(m.g);
    return m;
}

/* Every expert on every row, weighed by what counts. */
static fdl_tensor *by_hand(const mixture *m, fdl_tensor *x, int k, int places, bool normalize)
{
    int rows = (int)(fdl_numel(x) / 4);
    float w[MOST * 8], kept[MOST * 8];
    fdl_tensor *flat = fdl_reshape(x, FDL_SHAPE(rows, 4)), *weights = fdl_forward(m->router, flat), *y = NULL;
    check_ok(fdl_to_f32(fdl_detach(weights), w, rows * m->n));
    kept_weights(rows, m->n, k, places, w, kept);
    fdl_tensor *mask = fdl_ne(fdl_from_f32(kept, FDL_SHAPE(rows, m->n)), 0);
    if (normalize) {
        kept_weights(rows, m->n, k, rows, w, kept);
        fdl_tensor *chosen = fdl_ne(fdl_from_f32(kept, FDL_SHAPE(rows, m->n)), 0);
        weights = fdl_div(weights, fdl_sum_dim(fdl_mul(weights, chosen), 1, .keepdim = true));
    }
    weights = fdl_mul(weights, mask);
    for (int i = 0; i < m->n; i++) {
        fdl_tensor *part = fdl_mul(fdl_forward(m->expert[i], flat), fdl_narrow(weights, 1, i, 1));
        y = y ? fdl_add(y, part) : part;
    }
    fdl_shape s = fdl_shape_of(x);
    s.d[s.ndim - 1] = 3;
    return fdl_reshape(y, s);
}

static void each_row_takes_its_heaviest_experts(void **state)
{
    (void)state;
    const struct {
        int n, k;
        double capacity;
        fdl_shape x;
        bool normalize;
    } cases[] = {
        {4, 1, 0, FDL_SHAPE(7, 4), false},    {4, 2, 0, FDL_SHAPE(7, 4), false},
        {4, 2, 0, FDL_SHAPE(2, 5, 4), true},  {3, 3, 0, FDL_SHAPE(6, 4), false},
        {4, 1, 1, FDL_SHAPE(8, 4), false},    {4, 2, 1, FDL_SHAPE(13, 4), false},
        {4, 2, 0.5, FDL_SHAPE(16, 4), true},  {4, 2, 1.25, FDL_SHAPE(2, 9, 4), false},
        {4, 2, 100, FDL_SHAPE(11, 4), false}, {8, 3, 0.25, FDL_SHAPE(20, 4), true},
        {2, 1, 1e-9, FDL_SHAPE(5, 4), false}, {4, 2, 0, FDL_SHAPE(1, 4), false},
        {4, 2, 1, FDL_SHAPE(1, 4), false},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        FDL_SCOPE;
        fdl_manual_seed(c);
        mixture m = new_mixture(cases[c].n, cases[c].k, cases[c].capacity, cases[c].normalize);
        fdl_tensor *x = fdl_randn(cases[c].x, .requires_grad = true), *x2 = fdl_clone(fdl_detach(x));
        check_ok(fdl_requires_grad_(x2, true));
        int rows = (int)(fdl_numel(x) / 4), places = rows;
        if (cases[c].capacity > 0) {
            places = (int)ceil(cases[c].capacity * cases[c].k * rows / cases[c].n);
            places = places < 1 ? 1 : places > rows ? rows : places;
        }
        fdl_tensor *y = fdl_forward(m.g, x), *weights[2 * 8 + 3];
        check_some(y);
        check_ok(fdl_backward(fdl_sum(fdl_square(y))));
        fdl_params *ps = fdl_parameters(m.g);
        for (int i = 0; i < fdl_params_count(ps); i++) {
            fdl_tensor *p = fdl_param_tensor(fdl_params_at(ps, i)), *grad = fdl_grad(p);
            weights[i] = grad ? fdl_clone(grad) : fdl_zeros_like(fdl_detach(p));
            check_ok(fdl_clear_grad(p));
        }
        fdl_tensor *want = by_hand(&m, x2, cases[c].k, places, cases[c].normalize);
        if (!fdl_allclose(y, want, .atol = 1e-5))
            fail_msg("case %zu", c);
        check_ok(fdl_backward(fdl_sum(fdl_square(want))));
        assert_true(fdl_allclose(fdl_grad(x), fdl_grad(x2), .atol = 1e-4, .rtol = 1e-4));
        for (int i = 0; i < fdl_params_count(ps); i++)
            if (!fdl_allclose(weights[i], fdl_grad(fdl_param_tensor(fdl_params_at(ps, i))), .atol = 1e-4,
                              .rtol = 1e-4))
                fail_msg("case %zu: %s", c, fdl_params_name(ps, i));
        fdl_shape chosen = cases[c].x;
        chosen.d[chosen.ndim - 1] = cases[c].k;
        assert_true(fdl_shape_eq(fdl_shape_of(fdl_graph_last_trace(m.g, "choice")), chosen));
        fdl_module_free(m.g);
    }
}

/* [w] for every row, w given. */
static fdl_tensor *given_forward(void *self, fdl_tensor *x)
{
    (void)x;
    return *(fdl_tensor **)self;
}

static const fdl_module_ops given_ops = {
    .kind = "given", .size = sizeof(fdl_tensor *), .forward = given_forward};

static fdl_module *given(int rows, int n, const float *w)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&given_ops);
    *(fdl_tensor **)fdl_module_self(m) = fdl_module_param(m, "w", fdl_from_f32(w, FDL_SHAPE(rows, n)));
    return fdl_module_done(m);
}
#define GIVEN(rows, n, ...) given(rows, n, (const float[]){__VA_ARGS__})

static void the_balance_is_one_when_it_is_even(void **state)
{
    (void)state;
    FDL_SCOPE;
    const struct {
        float w[8];
        double want;
    } cases[] = {{{0.75f, 0.25f, 0.25f, 0.75f, 0.75f, 0.25f, 0.25f, 0.75f}, 1},
                 {{1, 0, 1, 0, 1, 0, 1, 0}, 2},
                 /* shares 3/4 and 1/4, means 0.6 and 0.4: 2 (0.45 + 0.1) */
                 {{0.7f, 0.3f, 0.8f, 0.2f, 0.6f, 0.4f, 0.3f, 0.7f}, 1.1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        fdl_module *router = given(4, 2, cases[c].w);
        fdl_module *g = fdl_flow(fdl_flow_gate(router, FDL_MODULES(dbl(), tri()), .top_k = 1, .capacity = 2,
                                               .trace_balance = "b"));
        check_some(fdl_forward(g, fdl_ones(FDL_SHAPE(4, 3))));
        fdl_tensor *b = fdl_graph_last_trace(g, "b");
        check_number(fdl_item(b), cases[c].want, 1e-5);
        check_ok(fdl_backward(b));
        check_some(fdl_grad(fdl_param_tensor(fdl_module_own_param(router, "w"))));
        fdl_module_free(g);
    }
}

static void first_choices_come_first(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* 3 rows, 2 experts, k = 2, 2 places each: expert 0 is the first choice of rows 1 and 2, so row 0 goes without it */
    fdl_module *g = fdl_flow(fdl_flow_gate(GIVEN(3, 2, 1, 2, 2, 1, 2, 1), FDL_MODULES(dbl(), tri()),
                                           .top_k = 2, .capacity = 2.0 / 3));
    /* row 0: 2 * 3; row 1: 2 * 2 + 1 * 3 (second of expert 1); row 2: 2 * 2, no place left at expert 1 */
    check_values(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 1))), 6, 7, 4);
    fdl_module_free(g);
}

static void an_expert_without_rows_does_not_run(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *idle = new_counter(), *busy = new_counter();
    fdl_module *g = fdl_flow(fdl_flow_gate(GIVEN(2, 2, 0, 1, 0, 1), FDL_MODULES(idle, busy), .top_k = 1));
    check_values(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 1))), 1, 1);
    assert_int_equal(((counter *)fdl_module_self(idle))->calls, 0);
    assert_int_equal(((counter *)fdl_module_self(busy))->calls, 1);
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(4, 2),
                               FDL_MODULES(fdl_nn_linear(4, 3), fdl_nn_linear(4, 3)), .top_k = 1,
                               .capacity = 1));
    fdl_tensor *y = fdl_forward(g, fdl_zeros(FDL_SHAPE(0, 5, 4)));
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(0, 5, 3)));
    fdl_module_free(g);
}

static bool reads_a_number(fdl_module *g, fdl_tensor *x)
{
    FDL_SCOPE;
    fdl_watch *w = fdl_watch_start();
    check_some(fdl_forward(g, x));
    check_ok(fdl_watch_stop(w));
    bool any = false;
    for (int64_t i = 0; i < fdl_watch_count(w); i++)
        any = any || strcmp(fdl_watch_name(w, i), "aten::_local_scalar_dense") == 0 ||
              strcmp(fdl_watch_name(w, i), "aten::nonzero") == 0;
    if (!any && fdl_cuda_available()) {
        const char *why;
        any = fdl_watch_obstacle(w, &why) >= 0;
    }
    fdl_watch_free(w);
    return any;
}

/* The same operations whatever the rows choose, and nothing read from the device. */
static void with_a_capacity_no_shape_depends_on_the_data(void **state)
{
    (void)state;
    FDL_SCOPE;
    mixture m = new_mixture(4, 2, 1.25, true);
    fdl_watch *w[2];
    for (int i = 0; i < 2; i++) {
        fdl_tensor *x = fdl_randn(FDL_SHAPE(10, 4));
        assert_false(reads_a_number(m.g, x));
        w[i] = fdl_watch_start();
        fdl_tensor *y = fdl_forward(m.g, x);
        check_ok(fdl_backward(fdl_add(fdl_sum(fdl_square(y)), fdl_graph_last_trace(m.g, "balance"))));
        check_ok(fdl_watch_stop(w[i]));
        for (int k = 0; k < 10; k++) { /* every parameter has a gradient each time */
            fdl_tensor *p = fdl_param_tensor(fdl_params_at(fdl_parameters(m.g), k));
            check_some(fdl_grad(p));
            check_ok(fdl_clear_grad(p));
        }
    }
    assert_int_equal(fdl_watch_difference(w[0], w[1]), -1);
    fdl_watch_free(w[0]);
    fdl_watch_free(w[1]);
    fdl_module_free(m.g);
}

#define refused(flow, ...)                   \
    do {                                     \
        assert_null(flow);                   \
        check_error(FDL_E_ARG, __VA_ARGS__); \
    } while (0)
#define gate_with(...) fdl_flow(fdl_flow_gate(id(), FDL_MODULES(dbl(), tri()), __VA_ARGS__))

static void gates_that_cant_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    refused(gate_with(.top_k = 3), "step 0 (fdl_flow_gate)", ".top_k", "2 experts", "got 3");
    refused(gate_with(.top_k = -1), "got -1");
    refused(gate_with(.capacity = 2), ".capacity", "needs .top_k");
    refused(gate_with(.normalize = true), ".normalize");
    refused(gate_with(.trace_choice = "c"), ".trace_choice");
    refused(gate_with(.trace_balance = "c"), ".trace_balance");
    refused(gate_with(.top_k = 1, .capacity = -1), ".capacity", "-1");
    refused(gate_with(.top_k = 1, .capacity = NAN), ".capacity");
    refused(gate_with(.top_k = 1, .trace_balance = "a/b"), ".trace_balance");
    for (int capacity = 0; capacity < 2; capacity++) {
        fdl_module *g = fdl_flow(fdl_flow_gate(GIVEN(3, 2, 1, 2, 2, 1, 2, 1),
                                               FDL_MODULES(fdl_nn_fn(fails), fdl_nn_reshape(FDL_SHAPE(-1))),
                                               .top_k = 1, .capacity = capacity));
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 1))));
        check_error(FDL_E_RANGE, "gate_2: expert 0: this module always fails");
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(4, 1))));
        check_error(FDL_E_SHAPE, "gate_2", "[3, 2]", "[4, 1]");
        fdl_module_free(g);
        g = fdl_flow(fdl_flow_gate(GIVEN(3, 2, 1, 2, 2, 1, 2, 1),
                                   FDL_MODULES(fdl_nn_reshape(FDL_SHAPE(-1)), id()), .top_k = 1,
                                   .capacity = capacity));
        assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(3, 2))));
        check_error(FDL_E_SHAPE, "gate_2: expert 0: ", "their number must be the same");
        fdl_module_free(g);
    }
}

/* ---- switches ------------------------------------------------------------------------------------------ */

/* The first column is the choice. */
static fdl_tensor *first_column(fdl_tensor *x)
{
    return fdl_select(x, 1, 0);
}

static fdl_tensor *first_column_kept(fdl_tensor *x)
{
    return fdl_narrow(x, 1, 0, 1);
}

static void each_row_takes_its_branch(void **state)
{
    (void)state;
    FDL_SCOPE;
    for (int kept = 0; kept < 2; kept++) {
        fdl_module *count[] = {new_counter(), new_counter(), new_counter()};
        fdl_module *g = fdl_flow(fdl_flow_switch(
            fdl_nn_fn(kept ? first_column_kept : first_column),
            FDL_MODULES(fdl_flow(count[0], dbl()), fdl_flow(count[1], tri()), fdl_flow(count[2], id())),
            .per_row = true, .trace_choice = "choice"));
        const float values[] = {1, 10, 0, 20, 1.5f, 30, 0, 40};
        fdl_tensor *x = fdl_from_f32(values, FDL_SHAPE(4, 2));
        check_ok(fdl_requires_grad_(x, true));
        fdl_tensor *y = fdl_forward(g, x);
        check_values(y, 3, 30, 0, 40, 4.5f, 90, 0, 80);
        check_ok(fdl_backward(fdl_sum(y)));
        check_values(fdl_grad(x), 3, 3, 2, 2, 3, 3, 2, 2);
        for (int i = 0; i < 3; i++)
            assert_int_equal(((counter *)fdl_module_self(count[i]))->calls, i < 2);
        assert_int_equal(fdl_numel(fdl_graph_last_trace(g, "choice")), 4);
        /* all of them one */
        const float all[] = {2, 10, 2, 20};
        check_values(fdl_forward(g, fdl_from_f32(all, FDL_SHAPE(2, 2))), 2, 10, 2, 20);
        assert_int_equal(((counter *)fdl_module_self(count[2]))->calls, 1);
        assert_int_equal(((counter *)fdl_module_self(count[0]))->calls, 1);
        fdl_tensor *none = fdl_forward(g, fdl_zeros(FDL_SHAPE(0, 2)));
        assert_true(fdl_shape_eq(fdl_shape_of(none), FDL_SHAPE(0, 2)));
        fdl_module_free(g);
    }
}

static void rows_against_branches_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *selector = fdl_nn_argmax_selector(4, 3, .per_row = true),
               *branch[] = {fdl_nn_linear(4, 2), fdl_nn_linear(4, 2), fdl_nn_linear(4, 2)};
    fdl_module *g =
        fdl_flow(fdl_flow_switch(selector, FDL_MODULES(branch[0], branch[1], branch[2]), .per_row = true));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(9, 5, 4)), *y = fdl_forward(g, x), *want = NULL;
    fdl_tensor *choice = fdl_reshape(fdl_forward(selector, x), FDL_SHAPE(9, 1, 1));
    for (int i = 0; i < 3; i++) {
        fdl_tensor *part = fdl_mul(fdl_forward(branch[i], x), fdl_eq(choice, i));
        want = want ? fdl_add(want, part) : part;
    }
    assert_true(fdl_allclose(y, want, .atol = 1e-6));
    fdl_module_free(g);
}

static void rows_that_cant_be(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_flow_switch(fdl_nn_fn(first_column), FDL_MODULES(dbl(), tri()), .per_row = true));
    const float bad[] = {2, -1, -0.5f, NAN, INFINITY};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const float values[] = {0, 1, bad[i], 1};
        assert_null(fdl_forward(g, fdl_from_f32(values, FDL_SHAPE(2, 2))));
        check_error(FDL_E_RANGE, "switch_2: selector: ", "2 rows", "0 to 1");
    }
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(dbl(), tri()), .per_row = true));
    assert_null(fdl_forward(g, fdl_ones(FDL_SHAPE(2, 2))));
    check_error(FDL_E_SHAPE, "switch_2", "one element a row");
    fdl_module_free(g);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_takes_its_heaviest_experts),
        cmocka_unit_test(the_balance_is_one_when_it_is_even),
        cmocka_unit_test(first_choices_come_first),
        cmocka_unit_test(an_expert_without_rows_does_not_run),
        cmocka_unit_test(with_a_capacity_no_shape_depends_on_the_data),
        cmocka_unit_test(gates_that_cant_be),
        cmocka_unit_test(each_row_takes_its_branch),
        cmocka_unit_test(rows_against_branches_by_hand),
        cmocka_unit_test(rows_that_cant_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
