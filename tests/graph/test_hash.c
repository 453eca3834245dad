/* Names of parameters and buffers in graphs, and the structural hash with its published vectors. */
#include "graph/modules.h"

static void check_names_(fdl_params *ps, const char *const *want, const char *file, int line)
{
    check_some_(ps, "the list", file, line);
    for (int i = 0; i < fdl_params_count(ps); i++)
        if (!want[i] || strcmp(want[i], fdl_params_name(ps, i)) != 0) {
            print_error("%s:%d: name %d is \"%s\", expected \"%s\"\n", file, line, i, fdl_params_name(ps, i),
                        want[i] ? want[i] : "(nothing)");
            _fail(file, line);
        }
    if (want[fdl_params_count(ps)])
        fail_msg("%s:%d: \"%s\" is missing", file, line, want[fdl_params_count(ps)]);
}
#define check_names(ps, ...) check_names_(ps, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

static void tags_and_ids_stand_in_front(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g =
        fdl_flow(fdl_nn_linear(2, 2), fdl_flow_tag("encoder"), fdl_flow_tag("second"), fdl_nn_linear(2, 2));
    check_names(fdl_parameters(g), "encoder/weight", "encoder/bias", "linear_2/weight", "linear_2/bias");
    fdl_module_free(g);
    g = fdl_flow(fdl_nn_linear(2, 16), fdl_nn_gelu(), fdl_nn_layer_norm(16),
                 fdl_flow_also(fdl_nn_linear(16, 16)), fdl_flow_tag("hidden"), fdl_nn_linear(16, 2));
    check_names(fdl_parameters(g), "linear_1/weight", "linear_1/bias", "layernorm_3/weight",
                "layernorm_3/bias", "linear_4/weight", "linear_4/bias", "linear_6/weight", "linear_6/bias");
    fdl_module_free(g);
    g = fdl_flow(id(), fdl_flow_also(fdl_nn_linear(2, 2), .skip = fdl_nn_linear(2, 2), .name = "attn"),
                 fdl_flow_tag("sum"));
    check_names(fdl_parameters(g), "linear_2/weight", "linear_2/bias", "attn/weight", "attn/bias");
    fdl_module_free(g);
    g = fdl_flow(fdl_nn_linear(2, 4), fdl_nn_batch_norm(4), fdl_flow_tag("norm"));
    check_names(fdl_buffers(g), "norm/running_mean", "norm/running_var", "norm/num_batches_tracked");
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(fdl_nn_linear(2, 2), fdl_nn_linear(2, 2)), fdl_flow_tag_group("head"),
                 fdl_flow_merge(FDL_MERGE_ADD));
    check_names(fdl_parameters(g), "head_0/weight", "head_0/bias", "head_1/weight", "head_1/bias");
    fdl_module_free(g);
}

static void names_of_loops_and_nested_graphs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2), fdl_flow_loop(fdl_nn_linear(2, 2), .n = 2),
                             fdl_flow_loop(fdl_flow(fdl_nn_linear(2, 2)), .n = 2));
    check_names(fdl_parameters(g), "linear_1/weight", "linear_1/bias", "loop_2/body.weight",
                "loop_2/body.bias", "loop_3.body.linear_1/weight", "loop_3.body.linear_1/bias");
    check_names(fdl_parameters(g, .flat = true), "linear_1/weight", "linear_1/bias", "loop_2/weight",
                "loop_2/bias", "loop_3/weight", "loop_3/bias");
    fdl_module_free(g);
    fdl_module *encoder =
        fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(2, 2), fdl_flow_tag("hidden"), fdl_nn_linear(2, 2));
    check_names(fdl_parameters(encoder), "hidden/weight", "hidden/bias", "linear_2/weight", "linear_2/bias");
    g = fdl_flow(encoder, fdl_nn_linear(2, 2));
    check_names(fdl_parameters(g), "encoder.hidden/weight", "encoder.hidden/bias", "encoder.linear_2/weight",
                "encoder.linear_2/bias", "linear_2/weight", "linear_2/bias");
    check_names(fdl_parameters(g, .flat = true), "graph_1/weight_0", "graph_1/bias_0", "graph_1/weight_1",
                "graph_1/bias_1", "linear_2/weight", "linear_2/bias");
    check_names(fdl_parameters(g, .match = "encoder.*"), "encoder.hidden/weight", "encoder.hidden/bias",
                "encoder.linear_2/weight", "encoder.linear_2/bias");
    assert_string_equal(fdl_graph_label(encoder), "encoder");
    assert_null(fdl_graph_label(g));
    fdl_module_free(g);
    g = fdl_flow(fdl_flow(fdl_nn_linear(2, 2), fdl_nn_linear(2, 2)), fdl_flow_tag("enc"));
    check_names(fdl_parameters(g), "enc.linear_1/weight", "enc.linear_1/bias", "enc.linear_2/weight",
                "enc.linear_2/bias");
    fdl_module_free(g);
}

static void names_of_gates(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_flow_gate(fdl_nn_softmax_router(2, 2),
                                           FDL_MODULES(fdl_nn_linear(2, 2), fdl_flow(fdl_nn_linear(2, 2)))));
    check_names(fdl_parameters(g), "gate_2/router.proj.weight", "gate_2/router.proj.bias",
                "gate_2/expert_0.weight", "gate_2/expert_0.bias", "gate_2.expert_1.linear_1/weight",
                "gate_2.expert_1.linear_1/bias");
    fdl_module_free(g);
}

/* ---- the hash ------------------------------------------------------------------------------------------ */

static void check_hash_(fdl_module *g, const char *want, const char *file, int line)
{
    check_some_(g, "the graph", file, line);
    const char *got = fdl_graph_hash(g), *start = fdl_graph_short_hash(g);
    if (!got || strcmp(got, want) != 0 || strlen(start) != 8 || strncmp(start, want, 8) != 0) {
        print_error("%s:%d: the hash is %s, expected %s\n", file, line, got ? got : "(NULL)", want);
        _fail(file, line);
    }
    fdl_module_free(g);
}
#define check_hash(g, want) check_hash_(g, want, __FILE__, __LINE__)

/* A batch norm with the two buffers that the vector is for. */
static fdl_tensor *norm_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static const fdl_module_ops norm_ops = {.kind = "batchnorm", .forward = norm_forward};

static fdl_module *norm(void)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&norm_ops);
    fdl_module_param(m, "weight", fdl_ones(FDL_SHAPE(4)));
    fdl_module_param(m, "bias", fdl_zeros(FDL_SHAPE(4)));
    fdl_module_buffer(m, "running_var", fdl_ones(FDL_SHAPE(4)));
    fdl_module_buffer(m, "running_mean", fdl_zeros(FDL_SHAPE(4)));
    fdl_module_transient(m, "scratch", fdl_zeros(FDL_SHAPE(4)));
    return fdl_module_done(m);
}

static void the_hash_has_its_published_values(void **state)
{
    (void)state;
    check_hash(fdl_flow(fdl_nn_linear(2, 3)),
               "51221a7b5daf8f194a5913f25041d9f3456148370ca3b5b0e0255631c7f1d17c");
    check_hash(fdl_flow(fdl_nn_linear(4, 8), fdl_nn_relu(), fdl_nn_linear(8, 2)),
               "acb7b2d30614ab988d3eadb7383dc659f54d87a575b931d99ef206a619b2954b");
    check_hash(fdl_flow(fdl_nn_linear(4, 8), fdl_flow_tag("enc"), fdl_nn_relu(), fdl_nn_linear(8, 2),
                        fdl_flow_tag("dec")),
               "7fd53ec3739ee7067086cb01ea5430d00bfee4cd93becfbf79f7d0cb626ae4df");
    check_hash(fdl_flow(fdl_nn_linear(2, 16), fdl_nn_gelu(), fdl_nn_layer_norm(16),
                        fdl_flow_also(fdl_nn_linear(16, 16)), fdl_flow_tag("hidden"), fdl_nn_linear(16, 2)),
               "b1efa22f706ae7951c760449df6d0ba8d54e3b810553b704d7b55c98238d2159");
    check_hash(fdl_flow(fdl_nn_linear(3, 4), fdl_flow_label("whatever")),
               "57e9b2755a49a3f6f4ef1eab556466851723b54b1d1e874ac05966b9c8a71e87");
    check_hash(fdl_flow(fdl_flow(fdl_nn_linear(3, 4), fdl_flow_label("other")), fdl_nn_linear(4, 2)),
               "5003555495b04ff375f189aec523b01235ceb998e83a1b8702807d321a135cbb");
    for (int n = 1; n < 4; n++)
        check_hash(fdl_flow(fdl_nn_linear(2, 2), fdl_flow_loop(fdl_nn_linear(2, 2), .n = n)),
                   "d7eaf75d2338ff275a2c443ab8d72bbc39627c922e4afb32e8983cc1e1040ffa");
    check_hash(fdl_flow(id(), sum_refs(), fdl_flow_using("memory"), fdl_flow_tag("memory")),
               "275b4cd33979eb0979af3e9c0554e3cd921e47ccc62e4043d5be15b2b3c8b79d");
    check_hash(fdl_flow(id(), fdl_flow_input("ctx"), sum_refs(), fdl_flow_using("ctx")),
               "9a9c5385fc52f723a6fdaffa81a08b7ffb94a86409e81487e31e24b31afeb23f");
    check_hash(fdl_flow(fdl_nn_linear(3, 4), norm()),
               "4b1ab19d9bc518500700887f77d890153e1d24211e9d856803f8b896ea09074e");
}

static void the_hash_is_of_the_structure_only(void **state)
{
    (void)state;
    char add[65], mean[65];
    fdl_module *g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_ADD));
    strcpy(add, fdl_graph_hash(g));
    fdl_module_free(g);
    g = fdl_flow(fdl_flow_split(dbl(), tri()), fdl_flow_merge(FDL_MERGE_MEAN));
    strcpy(mean, fdl_graph_hash(g));
    fdl_module_free(g);
    assert_string_equal(add, mean);
    g = fdl_flow(fdl_flow_split(tri(), dbl()), fdl_flow_merge(FDL_MERGE_MEAN));
    assert_string_not_equal(add, fdl_graph_hash(g));
    fdl_module_free(g);
    fdl_module *other[] = {fdl_flow(fdl_nn_linear(2, 3), fdl_nn_relu()), fdl_flow(fdl_nn_linear(2, 4)),
                           fdl_flow(fdl_nn_linear(2, 3), fdl_flow_tag("t")),
                           fdl_flow(fdl_nn_linear(2, 3, .no_bias = true))};
    for (int i = 0; i < 4; i++) {
        assert_string_not_equal(fdl_graph_hash(other[i]),
                                "51221a7b5daf8f194a5913f25041d9f3456148370ca3b5b0e0255631c7f1d17c");
        fdl_module_free(other[i]);
    }
}

static void questions_to_what_is_no_graph(void **state)
{
    (void)state;
    fdl_module *m = fdl_nn_relu(), *g = fdl_flow(id());
    assert_false(fdl_module_is_graph(m));
    assert_false(fdl_module_is_graph(NULL));
    assert_true(fdl_module_is_graph(g));
    assert_null(fdl_graph_hash(m));
    check_error(FDL_E_ARG, "fdl_graph_hash", "relu", "fdl_flow");
    assert_null(fdl_graph_short_hash(NULL));
    check_error(FDL_E_NULL, "fdl_graph_short_hash");
    assert_null(fdl_graph_label(m));
    check_error(FDL_E_ARG, "fdl_graph_label");
    assert_int_equal(fdl_graph_input_count(m), -1);
    check_error(FDL_E_ARG, "relu");
    assert_null(fdl_graph_input_name(g, 1));
    check_error(FDL_E_RANGE, "input 1 of 1");
    assert_int_equal(fdl_graph_node_count(NULL), -1);
    check_error(FDL_E_NULL, "fdl_graph_node_count");
    assert_null(fdl_graph_node_id(g, -1));
    check_error(FDL_E_RANGE, "node -1 of 1");
    assert_int_equal(fdl_graph_node_level(g, 7), -1);
    check_error(FDL_E_RANGE, "node 7 of 1");
    assert_int_equal(fdl_graph_tag_count(m), -1);
    check_error(FDL_E_ARG, "fdl_graph_tag_count");
    assert_null(fdl_graph_tag_name(g, 0));
    check_error(FDL_E_RANGE, "tag 0 of 0");
    assert_null(fdl_graph_tag_group(g, NULL, NULL));
    check_error(FDL_E_NULL, "name");
    assert_null(fdl_graph_tag_group(m, "x", NULL));
    check_error(FDL_E_ARG, "fdl_graph_tag_group");
    fdl_module_free(m);
    fdl_module_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tags_and_ids_stand_in_front),
        cmocka_unit_test(names_of_loops_and_nested_graphs),
        cmocka_unit_test(names_of_gates),
        cmocka_unit_test(the_hash_has_its_published_values),
        cmocka_unit_test(the_hash_is_of_the_structure_only),
        cmocka_unit_test(questions_to_what_is_no_graph),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
