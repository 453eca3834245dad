/* Models as ONNX files. What onnxruntime makes of them is checked by tests/onnx, which runs this program with FLODL_ONNX=folder:
 * it leaves each file there with an input and the result that flodl has. */
#include "modules.h"
#include "rows.h"

#include <unistd.h>

static char folder[256];

/* An extent of `shape` that is -1 becomes n. */
static fdl_shape with_batch(fdl_shape shape, int64_t n)
{
    for (int i = 0; i < shape.ndim; i++)
        shape.d[i] = shape.d[i] == -1 ? n : shape.d[i];
    return shape;
}

static void write_tensor(FILE *list, const char *file, fdl_tensor *x, const char *as)
{
    size_t n = (size_t)fdl_numel(x) * (size_t)fdl_dtype_size(fdl_dtype_of(x));
    void *bytes = malloc(n ? n : 1);
    check_ok(fdl_to_bytes(x, bytes, n));
    check_ok(fdl_file_save(file, bytes, n));
    free(bytes);
    fprintf(list, " %s%s%s:%s:", as ? as : "", as ? "=" : "", strrchr(file, '/') + 1,
            fdl_dtype_name(fdl_dtype_of(x)));
    for (int i = 0; i < fdl_ndim(x); i++)
        fprintf(list, "%s%lld", i ? "," : "", (long long)fdl_size(x, i));
}

/* All that a graph gives, or the one result of a module. */
static fdl_list results_of(fdl_module *m, int n, fdl_tensor **x)
{
    if (strcmp(fdl_module_kind(m), "graph") == 0)
        return fdl_forward_multi(m, (fdl_list){n, x});
    fdl_tensor **y = fdl_scope_alloc(sizeof *y);
    *y = fdl_forward_of(m, n, x);
    return (fdl_list){1, y};
}

/* Writes the model for inputs of these shapes, and one line "name opset input ... > name=output ..." in the list. */
static void save_model(const char *name, fdl_module *m, int opset, int n, const row *inputs)
{
    FDL_SCOPE;
    char path[512];
    snprintf(path, sizeof path, "%s/%s.onnx", folder, name);
    fdl_input more[4] = {{.dtype = FDL_DTYPE_DEFAULT}};
    for (int i = 1; i < n; i++)
        more[i - 1] =
            (fdl_input){.shape = inputs[i].dims, .dtype = inputs[i].indices ? FDL_INT64 : FDL_DTYPE_DEFAULT};
    fdl_status status =
        fdl_onnx_save(m, path, inputs[0].dims, .opset = opset, .more = (fdl_inputs){n - 1, more},
                      .dtype = inputs[0].indices ? FDL_INT64 : FDL_DTYPE_DEFAULT);
    if (status != FDL_OK)
        fail_msg("%s: %s", name, fdl_last_error()->message);
    snprintf(path, sizeof path, "%s/list.txt", folder);
    FILE *list = fopen(path, "a");
    assert_non_null(list);
    check_ok(fdl_eval(m));
    fprintf(list, "%s %d", name, opset);
    fdl_tensor *x[4];
    for (int i = 0; i < n; i++) {
        fdl_shape shape = with_batch(inputs[i].dims, 5);
        x[i] = inputs[i].indices ? fdl_randint(0, inputs[i].below, shape) : fdl_randn(shape);
        snprintf(path, sizeof path, "%s/%s.%d.bin", folder, name, i);
        write_tensor(list, path, x[i], NULL);
    }
    fprintf(list, " >");
    fdl_list y = results_of(m, n, x);
    for (int i = 0; i < y.n; i++) {
        check_some(y.at[i]);
        snprintf(path, sizeof path, "%s/%s.out%d.bin", folder, name, i);
        write_tensor(list, path, y.at[i], i ? fdl_graph_output_name(m, i) : "output");
    }
    fprintf(list, "\n");
    fclose(list);
    check_ok(fdl_module_free(m));
}

/* ---- the table of modules ------------------------------------------------------------------------------ */

/* Rows that ONNX can't be told, and a word of why. */
static const char *const refused[][2] = {
    {"adaptive_avg_pool1d", "windows"},
    {"adaptive_avg_pool2d", "windows"},
    {"adaptive_avg_pool3d", "windows"},
    {"adaptive_max_pool1d", "windows"},
    {"adaptive_max_pool2d", "windows"},
    {"adaptive_max_pool3d", "windows"},
    {"batch_norm2d_no_stats", "statistics"},
    {"batch_norm3d_no_stats", "statistics"},
    {"circular_pad1d", "opset = 19"},
    {"circular_pad1d_sides", "opset = 19"},
    {"circular_pad2d", "opset = 19"},
    {"circular_pad2d_sides", "opset = 19"},
    {"circular_pad3d", "opset = 19"},
    {"circular_pad3d_sides", "opset = 19"},
    {"conv1d_circular", "opset = 19"},
    {"conv2d_circular_same", "opset = 19"},
    {"embedding_bag_max_norm", "max_norm"},
    {"embedding_max_norm", "max_norm"},
    {"fold", "opset = 18"},
    {"fold_all", "opset = 18"},
    {"fold_unbatched", "opset = 18"},
    {"gaussian_blur_circular", "opset = 19"},
    {"gru_cell_no_bias", "single row"},
    {"local_response_norm_even", "neighbours"},
    {"lstm_proj", "projection"},
    {"multihead_attention_unbatched", "add_zero_attn"},
    {"upsample_area", "areas"},
};

static const char *why_refused(const char *name)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strcmp(refused[i][0], name) == 0)
            return refused[i][1];
    return NULL;
}

static void every_module(void **state)
{
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        const char *why = why_refused(rows[i].name);
        check_ok(fdl_manual_seed(i));
        if (!why) {
            save_model(rows[i].name, rows[i].make(), 17, 1, &rows[i]);
            continue;
        }
        fdl_module *m = rows[i].make();
        assert_int_equal(fdl_onnx_save(m, "/nowhere", rows[i].dims,
                                       .dtype = rows[i].indices ? FDL_INT64 : FDL_DTYPE_DEFAULT),
                         FDL_E_UNSUPPORTED);
        check_error(FDL_E_UNSUPPORTED, "fdl_onnx_save", fdl_module_kind(m), why);
        check_ok(fdl_module_free(m));
    }
}

/* ---- graphs -------------------------------------------------------------------------------------------- */

static fdl_module *convnet(void)
{
    return fdl_flow(fdl_nn_conv2d(3, 8, 3, .padding = 1), fdl_nn_batch_norm2d(8), fdl_nn_relu(),
                    fdl_nn_max_pool2d(2), fdl_flow_also(fdl_nn_conv2d(8, 8, 3, .padding = 1)),
                    fdl_nn_group_norm(2, 8), fdl_nn_adaptive_avg_pool2d(1, 1), fdl_nn_flatten(),
                    fdl_nn_dropout(0.5), fdl_nn_linear(8, 10), fdl_nn_log_softmax(-1));
}

static fdl_module *language_model(void)
{
    return fdl_flow(
        fdl_nn_embedding(17, 8), fdl_nn_position_embedding(12, 8, .batch_first = true),
        fdl_nn_transformer_encoder(fdl_nn_transformer_encoder_layer(8, 2, .ff = 16, .batch_first = true,
                                                                    .causal = true, .activation = fdl_gelu),
                                   2, .norm = fdl_nn_layer_norm(8)),
        fdl_nn_linear(8, 17));
}

static fdl_module *recurrent(void)
{
    return fdl_flow(fdl_nn_lstm(4, 6, .layers = 2, .bidirectional = true, .batch_first = true),
                    fdl_nn_gru(12, 5, .batch_first = true, .bidirectional = true), fdl_nn_linear(10, 3));
}

static fdl_module *steps(void)
{
    return fdl_flow(
        fdl_nn_linear(6, 8), fdl_flow_input("ctx"), fdl_flow_tag("start"),
        fdl_flow_split(fdl_nn_linear(8, 8), fdl_flow(fdl_nn_linear(8, 8), fdl_nn_tanh()), fdl_nn_identity()),
        fdl_flow_merge(FDL_MERGE_MEAN), fdl_flow_using("ctx"),
        fdl_flow_loop(fdl_flow(fdl_nn_linear(8, 8), fdl_nn_silu()), .n = 3),
        fdl_flow_gate(fdl_nn_softmax_router(8, 3),
                      FDL_MODULES(fdl_nn_linear(8, 8), fdl_nn_gelu(), fdl_flow(fdl_nn_linear(8, 8)))),
        fdl_flow_using("start"),
        fdl_flow_also(fdl_nn_linear(8, 8), .skip = fdl_nn_linear(8, 8, .no_bias = true)),
        fdl_nn_gru_cell(8, 8), fdl_flow_using("ctx"), fdl_nn_rms_norm(8));
}

static fdl_module *gate_over_positions(void)
{
    return fdl_flow(
        fdl_flow_gate(fdl_nn_sigmoid_router(4, 2), FDL_MODULES(fdl_nn_linear(4, 4), fdl_nn_tanh())));
}

static fdl_module *mapped(void)
{
    return fdl_flow(
        fdl_nn_linear(4, 6), fdl_flow_map(fdl_flow(fdl_nn_linear(6, 6), fdl_nn_relu()), .batched = true),
        fdl_flow_recompute(fdl_nn_linear(6, 6)), fdl_nn_state_add(), fdl_nn_reshape(FDL_SHAPE(-1, 2, 3)));
}

static fdl_module *attention(void)
{
    return fdl_flow(fdl_nn_multihead_attention(8, 2, .causal = true),
                    fdl_nn_layer_norm(8, .no_affine = true));
}

/* Every way to join, with operands by fdl_flow_using as well. */
static fdl_module *merged(void)
{
    return fdl_flow(
        fdl_nn_linear(4, 6), fdl_flow_tag("start"), fdl_flow_split(fdl_nn_linear(6, 6), fdl_nn_tanh()),
        fdl_flow_merge(FDL_MERGE_MUL), fdl_flow_using("start"), fdl_flow_tag("product"),
        fdl_flow_split(fdl_nn_linear(6, 6), fdl_nn_silu(), fdl_nn_identity()), fdl_flow_merge(FDL_MERGE_MAX),
        fdl_flow_using("start"), fdl_flow_split(fdl_nn_linear(6, 2), fdl_nn_linear(6, 3)),
        fdl_flow_merge(FDL_MERGE_CAT), fdl_flow_using("product"), fdl_flow_tag("wide"),
        fdl_flow_split(fdl_nn_linear(11, 3), fdl_nn_linear(11, 3)),
        fdl_flow_merge(FDL_MERGE_STACK, .dim = FDL_SOME(1)), fdl_flow_split(fdl_nn_relu(), fdl_nn_gelu()),
        fdl_flow_merge(FDL_MERGE_STACK), fdl_flow_split(fdl_nn_identity(), fdl_nn_tanh()),
        fdl_flow_merge(FDL_MERGE_CAT, .dim = FDL_SOME(-2)));
}

static fdl_module *long_skips(void)
{
    return fdl_flow(fdl_nn_conv2d(2, 3, 3, .padding = 1), fdl_flow_tag("enc"), fdl_nn_relu(),
                    fdl_nn_conv2d(3, 3, 3, .padding = 1), fdl_flow_mul_from("enc"), fdl_nn_tanh(),
                    fdl_flow_add_from("enc"), fdl_flow_detach(), fdl_flow_cat_from("enc", .dim = FDL_SOME(1)),
                    fdl_nn_conv2d(6, 2, 1), fdl_flow_detach());
}

static fdl_module *images(void)
{
    return fdl_flow(fdl_nn_circular_pad2d(1), fdl_nn_gaussian_blur(0.6, .padding_mode = FDL_PAD_CIRCULAR),
                    fdl_nn_instance_norm2d(4, .affine = true), fdl_nn_pixel_shuffle(2),
                    fdl_nn_upsample(.size = FDL_DIMS(12, 16), .mode = FDL_INTERPOLATE_BILINEAR),
                    fdl_nn_pixel_unshuffle(2), fdl_nn_channel_shuffle(2), fdl_nn_unfold(2, .stride = 2),
                    fdl_nn_fold(FDL_DIMS(6, 8), 2, .stride = 2), fdl_nn_local_response_norm(3),
                    fdl_nn_permute(FDL_DIMS(0, 2, 3, 1)), fdl_nn_scale(FDL_SHAPE(4), 0.5),
                    fdl_nn_select(1, -1), fdl_nn_reflection_pad1d(1));
}

/* An input and the main result among them, and a value whose gradient is stopped. */
static fdl_module *several_outputs(void)
{
    fdl_module *g = fdl_flow(fdl_nn_linear(4, 6), fdl_flow_input("ctx"), fdl_flow_tag("encoded"),
                             fdl_flow_fork(fdl_nn_linear(6, 2)), fdl_flow_tag("side"), fdl_nn_linear(6, 3),
                             fdl_flow_split(fdl_nn_relu(), fdl_nn_tanh()),
                             fdl_flow_merge(FDL_MERGE_CAT, .dim = FDL_SOME(0)), fdl_flow_tag("end"),
                             fdl_flow_output("side", "encoded", "end", "ctx"));
    check_ok(fdl_graph_stop_gradient(g, "encoded", true));
    return g;
}

static void graphs_with_a_free_batch(void **state)
{
    (void)state;
    check_ok(fdl_manual_seed(1));
    for (int opset = 17; opset <= 21; opset += 4) {
        static const char *const names[][6] = {
            {"convnet", "language_model", "recurrent", "steps", "positions", "attention"},
            {"convnet_21", "language_model_21", "recurrent_21", "steps_21", "positions_21", "attention_21"}};
        const char *const *name = names[opset == 21];
        save_model(name[0], convnet(), opset, 1, &(row){.dims = FDL_SHAPE(-1, 3, 8, 8)});
        save_model(name[1], language_model(), opset, 1,
                   &(row){.dims = FDL_SHAPE(-1, 9), .indices = true, .below = 17});
        save_model(name[2], recurrent(), opset, 1, &(row){.dims = FDL_SHAPE(-1, 7, 4)});
        save_model(name[3], steps(), opset, 2,
                   (row[]){{.dims = FDL_SHAPE(-1, 6)}, {.dims = FDL_SHAPE(-1, 8)}});
        save_model(name[4], gate_over_positions(), opset, 1, &(row){.dims = FDL_SHAPE(-1, 3, 4)});
        save_model(name[5], attention(), opset, 1, &(row){.dims = FDL_SHAPE(6, -1, 8)});
    }
    for (int opset = 17; opset <= 21; opset += 4) {
        bool later = opset == 21;
        save_model(later ? "merged_21" : "merged", merged(), opset, 1, &(row){.dims = FDL_SHAPE(-1, 4)});
        save_model(later ? "long_skips_21" : "long_skips", long_skips(), opset, 1,
                   &(row){.dims = FDL_SHAPE(-1, 2, 5, 5)});
        save_model(later ? "outputs_21" : "outputs", several_outputs(), opset, 2,
                   (row[]){{.dims = FDL_SHAPE(-1, 4)}, {.dims = FDL_SHAPE(-1, 3)}});
    }
    save_model("mapped", mapped(), 17, 1, &(row){.dims = FDL_SHAPE(-1, 4)});
    for (int opset = 19; opset <= 22; opset += 3)
        save_model(opset == 19 ? "images_19" : "images_22", images(), opset, 1,
                   &(row){.dims = FDL_SHAPE(-1, 4, 3, 5)});
    save_model("circular_19", fdl_nn_conv2d(2, 2, 3, .padding = 1, .padding_mode = FDL_PAD_CIRCULAR), 19, 1,
               &(row){.dims = FDL_SHAPE(-1, 2, 4, 5)});
}

static fdl_tensor *first_of(fdl_list values)
{
    return values.at[0];
}

static void what_cant_be_told(void **state)
{
    (void)state;
    FDL_SCOPE;
    char path[512];
    snprintf(path, sizeof path, "%s/none.onnx", folder);
    fdl_module *g = fdl_flow(fdl_nn_relu(), fdl_flow(fdl_nn_tanh(), new_bias(4)), fdl_flow_tag("inner"));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "graph_2.bias_2", "(bias)");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_fn(twice));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "fn_1", "function");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_relu(),
                 fdl_flow_loop(fdl_nn_linear(4, 4), .until_cond = fdl_nn_learned_halt(4), .max = 3));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "loop_2", "condition");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_relu(), fdl_flow_gate(fdl_nn_softmax_router(4, 2),
                                              FDL_MODULES(fdl_nn_relu(), fdl_nn_tanh()), .top_k = 1));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "gate_2", ".top_k");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_relu(), fdl_flow_map(fdl_nn_linear(4, 4)));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "map_2", ".batched");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_flow_switch(fdl_nn_fixed_selector(1), FDL_MODULES(fdl_nn_relu(), fdl_nn_tanh())));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "switch_2", "this step");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_linear(4, 4), fdl_nn_state_add(), fdl_flow_using("memory"), fdl_nn_relu(),
                 fdl_flow_tag("memory"));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "state_read_memory", "this step");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_flow_split(fdl_nn_relu(), fdl_nn_tanh()), fdl_flow_merge_fn(first_of));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "merge_4", "this step");
    check_ok(fdl_module_free(g));
    g = fdl_flow(fdl_nn_relu(), fdl_flow_input("more"), fdl_flow_mul_from("more"));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 4),
                                   .more = FDL_INPUTS({.shape = FDL_SHAPE(-1, 4), .dtype = FDL_INT64})),
                     FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "mul_3", "operand 1 is int64, operand 0 float32");
    check_ok(fdl_module_free(g));
    /* the batch's size would be written into the file */
    g = fdl_flow(fdl_nn_position_embedding(9, 4));
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(-1, 2, 4)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "position_embedding_1", "batch", "-1");
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(3, 2, 5)), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "fdl_onnx_save", "position_embedding_1");
    assert_int_equal(fdl_onnx_save(g, path, FDL_SHAPE(3, 2, 4), .opset = 9), FDL_E_ARG);
    check_error(FDL_E_ARG, "opset is 9");
    assert_int_equal(fdl_onnx_save(g, "/nowhere/x.onnx", FDL_SHAPE(3, 2, 4)), FDL_E_IO);
    fdl_clear_error();
    assert_int_equal(fdl_onnx_save(NULL, path, FDL_SHAPE(3, 2, 4)), FDL_E_NULL);
    fdl_clear_error();
    assert_int_not_equal(access(path, F_OK), 0);
    check_ok(fdl_module_free(g));
}

/* The weights are the model's own, under its names, and nothing is left behind. */
static void nothing_is_changed(void **state)
{
    (void)state;
    FDL_SCOPE;
    char path[512];
    snprintf(path, sizeof path, "%s/same.onnx", folder);
    fdl_module *g = convnet();
    uint64_t generation = fdl_module_generation(g);
    int64_t live = fdl_live_tensors();
    check_ok(fdl_onnx_save(g, path, FDL_SHAPE(-1, 3, 8, 8)));
    assert_int_equal(fdl_live_tensors(), live);
    assert_true(fdl_module_generation(g) == generation);
    size_t n;
    char *bytes = fdl_file_read(path, 0, &n);
    assert_non_null(memmem(bytes, n, "batchnorm2d_2/running_mean", 26));
    free(bytes);
    check_ok(fdl_module_free(g));
    unlink(path);
}

static int make_folder(void **state)
{
    (void)state;
    const char *given = getenv("FLODL_ONNX");
    snprintf(folder, sizeof folder, "%s", given && *given ? given : "/tmp/flodl_onnx_XXXXXX");
    return given && *given ? 0 : mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[512];
    if (getenv("FLODL_ONNX"))
        return 0;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module),
        cmocka_unit_test(graphs_with_a_free_batch),
        cmocka_unit_test(what_cant_be_told),
        cmocka_unit_test(nothing_is_changed),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
