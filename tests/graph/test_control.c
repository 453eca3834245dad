/* Steps that loop and choose: written down and made again, and what a warm forward of them costs on the heap. */
#include "graph/modules.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* the sanitizer has malloc for itself */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- as text ------------------------------------------------------------------------------------------- */

static fdl_module *linear(int i, void *ctx)
{
    (void)i;
    (void)ctx;
    return fdl_nn_linear(4, 4);
}

#define l4() fdl_nn_linear(4, 4)

static void all_of_it_is_written_and_made_again(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_flow_builder *b = fdl_flow_new();
    check_ok(fdl_flow_add(b, fdl_nn_linear(4, 4)));
    check_ok(fdl_flow_add(b, fdl_flow_loop(l4(), .n = 2, .recompute = true, .no_rng_state = true)));
    check_ok(fdl_flow_add(b, fdl_flow_tag("in")));
    check_ok(fdl_flow_add(b, fdl_flow_repeat(2, linear, NULL)));
    check_ok(fdl_flow_add(b, fdl_flow_loop(l4(), .while_cond = fdl_nn_threshold_halt(5), .max = 3,
                                           .vote = FDL_HALT_ANY, .trace_cond = "t")));
    check_ok(fdl_flow_add(b, fdl_flow_loop(l4(), .until_cond = fdl_nn_learned_halt(4), .max = 2)));
    check_ok(fdl_flow_add(b, fdl_flow_loop(l4(), .act = fdl_nn_learned_halt(4), .max = 3, .epsilon = 0.25,
                                           .trace_ponder = "ponder")));
    check_ok(fdl_flow_add(b, fdl_flow_map(l4())));
    check_ok(fdl_flow_add(b, fdl_flow_map(fdl_nn_linear(2, 2), .slices = 2, .batched = true)));
    check_ok(fdl_flow_add(b, fdl_flow_map(l4(), .over = "in")));
    check_ok(fdl_flow_add(
        b, fdl_flow_gate(fdl_nn_softmax_router(4, 2), FDL_MODULES(l4(), l4()), .trace_weights = "w")));
    check_ok(fdl_flow_add(b, fdl_flow_gate(fdl_nn_sigmoid_router(4, 3), FDL_MODULES(l4(), l4(), l4()),
                                           .top_k = 2, .capacity = 1.5, .normalize = true,
                                           .trace_choice = "choice", .trace_balance = "balance")));
    check_ok(fdl_flow_add(
        b, fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(l4(), l4()), .trace_choice = "r")));
    check_ok(fdl_flow_add(b, fdl_flow_switch(fdl_nn_argmax_selector(4, 2, .per_row = true),
                                             FDL_MODULES(l4(), l4()), .per_row = true)));
    check_ok(fdl_flow_add(
        b, fdl_flow_scan(fdl_nn_gru_cell(4, 4), .reverse = true, .trace_state = "h", .state = "past")));
    check_ok(fdl_flow_add(b, fdl_flow_scan(fdl_nn_lstm_cell(4, 4), .width = 4, .state_width = 8)));
    check_ok(fdl_flow_add(b, fdl_flow_recompute(l4())));
    check_ok(fdl_flow_add(b, fdl_nn_state_add()));
    check_ok(fdl_flow_add(b, fdl_flow_using("in")));
    fdl_module *g = fdl_flow_build(b);
    check_some(g);
    char *text = fdl_topology_text(g);
    check_some(text);
    fdl_module *again = fdl_topology_parse(text);
    check_some(again);
    char *second = fdl_topology_text(again);
    assert_string_equal(text, second);
    assert_string_equal(fdl_graph_hash(g), fdl_graph_hash(again));
    fdl_params *from = fdl_parameters(g), *to = fdl_parameters(again);
    assert_int_equal(fdl_params_count(from), fdl_params_count(to));
    for (int i = 0; i < fdl_params_count(from); i++) {
        assert_string_equal(fdl_params_name(from, i), fdl_params_name(to, i));
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    }
    fdl_tensor *x = fdl_randn(FDL_SHAPE(6, 4));
    assert_true(fdl_same(fdl_forward(g, x), fdl_forward(again, x)));
    assert_true(fdl_same(fdl_graph_last_trace(g, "choice"), fdl_graph_last_trace(again, "choice")));
    check_some(fdl_graph_last_trace(again, "h"));
    free(text);
    free(second);
    fdl_module_free(g);
    fdl_module_free(again);
}

/* ---- heap calls, counted ------------------------------------------------------------------------------- */

#ifndef SANITIZED
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
static _Thread_local long heap_calls;
static bool counting;

void *malloc(size_t size)
{
    heap_calls += counting;
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    heap_calls += counting;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    heap_calls += counting;
    return __libc_realloc(p, size);
}

static long calls_of_forward(fdl_module *g, fdl_tensor *x)
{
    check_some(g);
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        check_some(fdl_forward(g, x));
    }
    heap_calls = 0;
    counting = true;
    for (int i = 0; i < 10; i++) {
        FDL_SCOPE;
        fdl_forward(g, x);
    }
    counting = false;
    fdl_module_free(g);
    return heap_calls;
}

/* x itself, published. */
static fdl_tensor *shows_step(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e)
{
    (void)self;
    (void)r;
    fdl_emit(e, "seen", x);
    return x;
}

static const fdl_module_ops shows_ops = {.kind = "shows", .step = shows_step};

static fdl_tensor *constant;

static fdl_tensor *the_constant(fdl_tensor *x)
{
    (void)x;
    return constant;
}

static void a_warm_forward_calls_no_malloc(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 2));
    constant = fdl_zeros(FDL_SCALAR, .device = FDL_CPU);
    assert_int_equal(calls_of_forward(fdl_flow(fdl_flow_loop(fdl_module_new(&shows_ops), .n = 5)), x), 0);
    assert_int_equal(calls_of_forward(fdl_flow(fdl_flow_loop(fdl_flow(id(), new_counter()),
                                                             .until_cond = fdl_nn_fn(the_constant), .max = 4,
                                                             .trace_cond = "c")),
                                      x),
                     0);
    assert_int_equal(
        calls_of_forward(
            fdl_flow(fdl_flow_switch(fdl_nn_fn(the_constant), FDL_MODULES(id(), dbl()), .trace_choice = "c")),
            x),
        0);
    assert_int_equal(calls_of_forward(fdl_flow(fdl_flow_map(id(), .batched = true)), x), 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_is_written_and_made_again),
#ifndef SANITIZED
        cmocka_unit_test(a_warm_forward_calls_no_malloc),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
