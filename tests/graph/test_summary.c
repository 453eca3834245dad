/* Shapes, parameters, multiply-adds and memory of models, before there is an input. */
#include "modules.h"
#include "rows.h"

#define SHAPE_IS(shape_, ...) assert_true(fdl_shape_eq(shape_, FDL_SHAPE(__VA_ARGS__)))

static void shapes_follow_the_batch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_conv2d(3, 8, 3, .padding = 1), fdl_nn_batch_norm2d(8), fdl_nn_relu(),
                             fdl_flow_tag("features"), fdl_nn_max_pool2d(2),
                             fdl_flow_also(fdl_nn_conv2d(8, 8, 3, .padding = 1)), fdl_nn_flatten(),
                             fdl_nn_linear(8 * 16 * 16, 10));
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(-1, 3, 32, 32));
    check_some(s);
    SHAPE_IS(fdl_summary_find(s, "conv2d_1")->shape, -1, 8, 32, 32);
    SHAPE_IS(fdl_summary_find(s, "features")->shape, -1, 8, 32, 32);
    SHAPE_IS(fdl_summary_find(s, "maxpool2d_4")->shape, -1, 8, 16, 16);
    SHAPE_IS(fdl_summary_find(s, "add_6")->shape, -1, 8, 16, 16);
    SHAPE_IS(s->output, -1, 10);
    assert_true(s->batch);
    /* by hand, for one row */
    double conv1 = 8 * 32 * 32 * 27, conv2 = 8 * 16 * 16 * 72, linear = 2048 * 10;
    assert_int_equal((int64_t)fdl_summary_find(s, "conv2d_1")->multiply_adds, (int64_t)conv1);
    assert_int_equal((int64_t)s->multiply_adds, (int64_t)(conv1 + conv2 + linear));
    assert_int_equal(s->params, 3 * 8 * 9 + 8 + 16 + 8 * 8 * 9 + 8 + 20480 + 10);
    assert_int_equal(s->param_bytes, 4 * s->params);
    assert_int_equal(s->buffer_bytes, 4 * 16 + 8);
    assert_int_equal(fdl_summary_find(s, "conv2d_1")->bytes, 4 * 8 * 32 * 32);
    assert_int_equal(s->bytes, 4 * (3 * 8 * 32 * 32 + 4 * 8 * 16 * 16 + 10));
    check_ok(fdl_module_free(g));
}

static void an_extent_that_is_given_stays(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 3), fdl_nn_softmax(-1));
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(5, 4));
    check_some(s);
    SHAPE_IS(s->output, 5, 3);
    assert_false(s->batch);
    assert_int_equal((int)s->multiply_adds, 60);
    check_ok(fdl_module_free(g));
}

static void errors_before_the_first_batch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 3), fdl_flow(fdl_nn_relu(), fdl_nn_linear(4, 2), fdl_flow_tag("wrong")),
                 fdl_flow_tag("inner"));
    assert_null(fdl_graph_infer(g, FDL_SHAPE(-1, 4)));
    check_error(FDL_E_SHAPE, "fdl_graph_infer", "graph_2 (#inner)", "linear_2 (#wrong)");
    assert_null(fdl_graph_infer(g, FDL_SHAPE(-1, -2)));
    check_error(FDL_E_ARG, "-2");
    assert_null(fdl_graph_infer(g, FDL_SHAPE(-1, 4), .more = FDL_INPUTS({.shape = FDL_SHAPE(2)})));
    check_error(FDL_E_ARG, "1 input");
    fdl_module *m = fdl_nn_linear(2, 2);
    assert_null(fdl_graph_infer(m, FDL_SHAPE(-1, 2)));
    check_error(FDL_E_ARG, "no graph");
    check_ok(fdl_module_free(m));
    /* and forward works as before */
    fdl_tensor *y = fdl_forward(g, fdl_randn(FDL_SHAPE(2, 4)));
    assert_null(y);
    fdl_clear_error();
    check_ok(fdl_module_free(g));
}

static void nothing_is_changed(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_batch_norm1d(4), fdl_nn_dropout(0.5), fdl_nn_rrelu(),
                             fdl_nn_gru(4, 3, .batch_first = true));
    uint64_t generation = fdl_module_generation(g);
    int64_t live = fdl_live_tensors();
    fdl_tensor *random = fdl_rng_state(FDL_CPU);
    fdl_params *buffers = fdl_buffers(g);
    double mean = fdl_item(fdl_sum(fdl_param_tensor(fdl_params_at(buffers, 1))));
    {
        FDL_SCOPE;
        check_some(fdl_graph_infer(g, FDL_SHAPE(7, 4)) ? "" : NULL);
        fdl_clear_error();
    }
    assert_true(fdl_module_generation(g) == generation);
    assert_true(fdl_allclose(fdl_rng_state(FDL_CPU), random));
    check_number(fdl_item(fdl_sum(fdl_param_tensor(fdl_params_at(buffers, 1)))), mean, 0);
    assert_true(fdl_device_eq(fdl_default_device(),
                              fdl_device_of(fdl_param_tensor(fdl_params_at(fdl_parameters(g), 0)))));
    (void)live;
    check_ok(fdl_module_free(g));
}

static void state_and_values_stay(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(id(), sum_refs(), fdl_flow_using("memory"), id(), fdl_flow_tag("memory"));
    check_some(g);
    check_values(fdl_forward(g, row(1, 2)), 1, 2);
    check_values(fdl_forward(g, row(1, 2)), 2, 4);
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(-1, 5));
    check_some(s);
    SHAPE_IS(s->output, -1, 5);
    check_values(fdl_graph_tagged(g, "memory"), 2, 4);
    check_values(fdl_forward(g, row(1, 2)), 3, 6);
    check_ok(fdl_module_free(g));
}

/* The shape that is foretold is that of the forward. */
static void every_module_has_shapes(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        FDL_SCOPE;
        const row *r = &rows[i];
        fdl_module *m = r->make();
        const fdl_summary *s = fdl_module_summary(m, r->dims, .dtype = r->indices ? FDL_INT64 : FDL_FLOAT32);
        if (!s)
            fail_msg("%s: %s", r->name, fdl_last_error()->message);
        fdl_tensor *y = fdl_forward(m, r->indices ? fdl_randint(0, r->below, r->dims) : fdl_randn(r->dims));
        check_some(y);
        if (!fdl_shape_eq(fdl_shape_of(y), s->output) || fdl_dtype_of(y) != s->output_dtype)
            fail_msg("%s: another shape or dtype than forward gives", r->name);
        check_ok(fdl_module_free(m));
    }
}

/* ---- counting ------------------------------------------------------------------------------------------ */

static double work_of(fdl_module *m, fdl_shape x)
{
    const fdl_summary *s = fdl_module_summary(m, x);
    check_some(s);
    double work = s->multiply_adds;
    check_ok(fdl_module_free(m));
    return work;
}

static void multiply_adds(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_number(work_of(fdl_nn_linear(8, 3), FDL_SHAPE(5, 2, 8)), 10 * 24, 0);
    check_number(work_of(fdl_nn_conv1d(4, 6, 3, .groups = 2), FDL_SHAPE(2, 4, 10)), 2 * 6 * 8 * (2 * 3), 0);
    check_number(work_of(fdl_nn_conv_transpose2d(2, 3, 3), FDL_SHAPE(1, 2, 4, 4)), 2 * 16 * (3 * 9), 0);
    check_number(work_of(fdl_nn_gru(5, 4, .layers = 2, .bidirectional = true), FDL_SHAPE(7, 3, 5)),
                 21 * (2 * 12 * (5 + 4) + 2 * 12 * (8 + 4)), 0);
    check_number(work_of(fdl_nn_lstm_cell(5, 4), FDL_SHAPE(3, 5)), 3 * 16 * 9, 0);
    /* four maps, scores and weighted values: L = 6, N = 2, E = 8 */
    double attention = 12 * 8 * 8 * 4 + 2 * (2 * 6 * 6 * 8);
    check_number(work_of(fdl_nn_multihead_attention(8, 2), FDL_SHAPE(6, 2, 8)), attention, 0);
    check_number(work_of(fdl_nn_transformer_encoder_layer(8, 2, .ff = 16), FDL_SHAPE(6, 2, 8)),
                 attention + 12 * 2 * 8 * 16, 0);
    /* a third of the maps of keys and values, and the target looking at itself and at the source */
    check_number(work_of(fdl_nn_multihead_attention(9, 3, .kv_heads = 1), FDL_SHAPE(6, 2, 9)),
                 12 * 9 * 9 * 2 + 12 * 9 * 3 * 2 + 2 * (2 * 6 * 6 * 9), 0);
    check_number(
        work_of(fdl_flow(fdl_nn_identity(), fdl_flow_tag("x"),
                         fdl_nn_transformer(8, 2, .encoder_layers = 1, .decoder_layers = 2, .ff = 16),
                         fdl_flow_using("x")),
                FDL_SHAPE(6, 2, 8)),
        5 * attention + 3 * 12 * 2 * 8 * 16, 0);
    /* a loop's body counts at each run, a gate's experts and router once */
    check_number(work_of(fdl_flow(fdl_flow_loop(fdl_nn_linear(4, 4), .n = 3)), FDL_SHAPE(2, 4)), 3 * 2 * 16,
                 0);
    check_number(
        work_of(fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(4, 2),
                                       FDL_MODULES(fdl_nn_linear(4, 4), fdl_flow(fdl_nn_linear(4, 4))))),
                FDL_SHAPE(2, 4)),
        2 * 8 + 2 * 2 * 16, 0);
}

static void what_is_shared_counts_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = fdl_nn_linear(4, 4);
    fdl_module *b = fdl_module_share(a);
    fdl_module *g = fdl_flow(a, fdl_nn_relu(), b);
    check_ok(fdl_param_freeze(fdl_module_own_param(a, "bias")));
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(-1, 4));
    assert_int_equal(s->params, 20);
    assert_int_equal(s->trainable, 16);
    assert_int_equal(s->row[0].params, 20);
    assert_int_equal(s->row[2].params, 0);
    assert_true(s->row[2].shared);
    check_number(s->multiply_adds, 32, 0);
    check_ok(fdl_module_free(g));
}

static void parts_within_parts(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow(fdl_nn_linear(4, 8), fdl_nn_gelu(), fdl_flow_label("encoder")),
                             fdl_flow_loop(fdl_nn_linear(8, 8), .n = 2),
                             fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(8, 2, .ff = 4), 2));
    const fdl_summary *all = fdl_graph_infer(g, FDL_SHAPE(-1, 4)),
                      *outer = fdl_graph_infer(g, FDL_SHAPE(-1, 4), .depth = 1);
    check_some(all);
    check_some(outer);
    assert_int_equal(outer->n, 3);
    check_number(outer->multiply_adds, all->multiply_adds, 0);
    assert_int_equal(outer->params, all->params);
    assert_int_equal(outer->bytes, all->bytes);
    assert_int_equal(outer->row[0].params, 40);
    SHAPE_IS(fdl_summary_find(all, "encoder.linear_1")->shape, -1, 8);
    const fdl_summary_row *body = fdl_summary_find(all, "loop_2.body");
    assert_int_equal(body->calls, 2);
    check_number(body->multiply_adds, 128, 0);
    assert_string_equal(fdl_summary_find(all, "transformer_encoder_3.layers.1.linear2")->kind, "linear");
    assert_null(fdl_summary_find(all, "encoder.linaer_1"));
    check_error(FDL_E_ARG, "closest", "encoder.linear_1");
    check_ok(fdl_module_free(g));
}

/* The output's shape is foretold; what depends on values goes the way of zeros. */
static void every_kind_of_step(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(4, 4), fdl_flow_tag("start"),
                 fdl_flow_gate(fdl_nn_softmax_router(4, 3),
                               FDL_MODULES(fdl_nn_linear(4, 4), fdl_nn_relu(), fdl_nn_tanh()), .top_k = 2),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .until_cond = fdl_nn_learned_halt(4), .max = 3,
                               .trace_cond = "halting"),
                 fdl_flow_recompute(fdl_nn_linear(4, 4)), fdl_flow_map(fdl_nn_linear(2, 3), .slices = 2),
                 fdl_nn_linear(6, 4),
                 fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(fdl_nn_relu(), fdl_nn_linear(4, 5))),
                 fdl_flow_fork(fdl_nn_gelu()));
    check_some(g);
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(-1, 4));
    check_some(s);
    SHAPE_IS(s->output, -1, 5);
    assert_int_equal(fdl_summary_find(s, "loop_3.body")->calls, 3);
    int n = -1;
    fdl_graph_traces(g, "halting", &n);
    assert_int_equal(n, 0);
    check_some(fdl_forward(g, fdl_randn(FDL_SHAPE(3, 4))));
    check_ok(fdl_module_free(g));
}

static void several_inputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_embedding(9, 4), fdl_flow_input("ctx"), add_ctx(), fdl_flow_using("ctx"));
    const fdl_summary *s = fdl_graph_infer(g, FDL_SHAPE(-1, 6), .dtype = FDL_INT64,
                                           .more = FDL_INPUTS({.shape = FDL_SHAPE(-1, 6, 4)}));
    check_some(s);
    SHAPE_IS(s->output, -1, 6, 4);
    check_ok(fdl_module_free(g));
}

static void a_table(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 16), fdl_nn_gelu(), fdl_flow_also(fdl_nn_linear(16, 16)),
                             fdl_flow_tag("hidden"), fdl_nn_linear(16, 2));
    const fdl_summary *s = fdl_module_summary(g, FDL_SHAPE(-1, 2));
    char *text = fdl_summary_text(s);
    check_some(text);
    if (getenv("SHOW"))
        printf("%s", text);
    static const char *const lines[] = {
        "linear_1       linear  [N, 16]          48             32     64 B\n",
        "add_4 #hidden  add     [N, 16]", "parameters     354, 354 of them trained, 1 KB",
        "multiply-adds  320 for each row of the batch"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        if (!strstr(text, lines[i]))
            fail_msg("\"%s\" isn't in\n%s", lines[i], text);
    free(text);
    assert_null(fdl_summary_text(NULL));
    check_error(FDL_E_NULL, "fdl_summary_text");
    assert_null(fdl_module_summary(NULL, FDL_SHAPE(1)));
    check_error(FDL_E_NULL, "fdl_module_summary");
    check_ok(fdl_module_free(g));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_follow_the_batch),
        cmocka_unit_test(an_extent_that_is_given_stays),
        cmocka_unit_test(errors_before_the_first_batch),
        cmocka_unit_test(nothing_is_changed),
        cmocka_unit_test(state_and_values_stay),
        cmocka_unit_test(every_module_has_shapes),
        cmocka_unit_test(multiply_adds),
        cmocka_unit_test(what_is_shared_counts_once),
        cmocka_unit_test(parts_within_parts),
        cmocka_unit_test(every_kind_of_step),
        cmocka_unit_test(several_inputs),
        cmocka_unit_test(a_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
