/* The graph of examples/showcase, which uses every kind of step; and two such graphs in two threads. */
#include "graph/modules.h"

#include <pthread.h>

#define main showcase_main
#include "../../examples/showcase/showcase.c"
#undef main

static const char *const ids =
    "linear_1 input_ctx_2 state_read_memory_35 gelu_3 layernorm_4 rmsnorm_5 context_blend_6 graph_7 graph_8 "
    "graph_9 "
    "merge_10 linear_11 add_12 dropout_13 softclamp_14 softplus_15 variance_gate_16 map_17 reshape_18 map_19 "
    "map_20 "
    "map_21 reshape_22 shape_ops_23 neg_sigmoid_gate_24 transpose_rt_25 counter_26 chunk_recombine_27 "
    "attention_ops_28 topk_filter_29 repeat_narrow_30 loop_31 gate_32 switch_33 state_add_34 loop_36 loop_37 "
    "log_softmax_reduce_38 linear_39 linear_40 linear_41 merge_42 linear_43";

static fdl_tensor *numbers_of(int64_t rows, int64_t cols, uint64_t seed)
{
    check_ok(fdl_manual_seed(seed));
    return fdl_randn(FDL_SHAPE(rows, cols));
}

static void the_showcase_has_the_nodes_that_it_should(void **state_)
{
    (void)state_;
    FDL_SCOPE;
    fdl_module *calls, *g = showcase(&calls);
    check_some(g);
    assert_string_equal(node_ids(g), ids);
    int last[38] = {0};
    for (int i = 0; i < fdl_graph_node_count(g); i++) {
        int level = fdl_graph_node_level(g, i);
        assert_in_range(level, 0, 37);
        last[level]++;
    }
    for (int level = 0; level < 38; level++) /* level 5: the fork and two branches; 35: the heads */
        assert_int_equal(last[level], level == 0 || level == 5 ? 3 : level == 35 ? 2 : 1);
    assert_int_equal(fdl_params_count(fdl_parameters(g)), 56);
    assert_int_equal(fdl_params_numel(fdl_parameters(g)), 1171);
    check_ok(fdl_module_free(g));
}

/* What the program checks, on the test's device: its state, three steps of training, paths, files. */
static void the_showcase_goes_its_tour(void **state_)
{
    (void)state_;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(9));
    fdl_module *calls, *g = showcase(&calls);
    check_some(g);
    fdl_tensor *x = row(1, 2, 0.5, -1), *ctx = fdl_randn(FDL_SHAPE(2, 8));
    x = fdl_reshape(x, FDL_SHAPE(2, 2));
    wrong = 0;
    structure(g);
    state(g, fdl_module_self(calls), x, ctx);
    training(g, x, ctx);
    tree(g);
    saving(g, x, ctx);
    drawing(g, NULL);
    assert_int_equal(wrong, 0);
    check_ok(fdl_module_free(g));
}

/* ---- two threads ---------------------------------------------------------------------------------------------- */

enum { CALLS = 20 };

typedef struct worker {
    fdl_module *g;
    float x[4], ctx[16], y[CALLS][4];
} worker;

/* Calls of one graph, of which each depends on those before; training steps among them. */
static void *work(void *arg)
{
    worker *w = arg;
    FDL_SCOPE;
    fdl_optim *opt = fdl_optim_sgd(fdl_parameters(w->g), .lr = 1e-3);
    FDL_NEED(opt);
    for (int i = 0; i < CALLS; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fdl_from_f32(w->x, FDL_SHAPE(2, 2), .device = FDL_CPU);
        fdl_tensor *ctx = fdl_from_f32(w->ctx, FDL_SHAPE(2, 8), .device = FDL_CPU);
        fdl_tensor *y = fdl_forward(w->g, x, ctx);
        FDL_CHECK(fdl_to_f32(y, w->y[i], 4));
        fdl_optim_zero_grad(opt);
        FDL_CHECK(fdl_backward(fdl_sum(y)));
        FDL_CHECK(fdl_optim_step(opt));
        FDL_CHECK(fdl_graph_end_step(w->g));
    }
    fdl_optim_free(opt);
    return NULL;
}

static void begin(worker *w, uint64_t seed)
{
    fdl_module *calls;
    check_ok(fdl_manual_seed(seed));
    check_some(w->g = showcase(&calls));
    check_ok(fdl_module_to(w->g, FDL_CPU));
    check_ok(fdl_eval(w->g)); /* dropout draws from what all threads share */
    check_ok(fdl_to_f32(fdl_to_device(numbers_of(2, 2, seed), FDL_CPU), w->x, 4));
    check_ok(fdl_to_f32(fdl_to_device(numbers_of(2, 8, seed + 1), FDL_CPU), w->ctx, 16));
}

static void two_graphs_in_two_threads_keep_apart(void **state_)
{
    (void)state_;
    FDL_SCOPE;
    worker alone[2], together[2];
    pthread_t thread[2];
    for (int i = 0; i < 2; i++) {
        begin(&alone[i], 100 + (uint64_t)i);
        begin(&together[i], 100 + (uint64_t)i);
        work(&alone[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, work, &together[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(alone[i].y, together[i].y, sizeof alone[i].y);
        check_ok(fdl_module_free(alone[i].g));
        check_ok(fdl_module_free(together[i].g));
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_showcase_has_the_nodes_that_it_should),
        cmocka_unit_test(the_showcase_goes_its_tour),
        cmocka_unit_test(two_graphs_in_two_threads_keep_apart),
    };
    return cmocka_run_group_tests_name("showcase", tests, NULL, NULL);
}
