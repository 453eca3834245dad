/* Checkpoints of graphs: the hash and what differs, names of every scheme, the source config, and files of versions 1 and
 * 2 with their own names and parts. */
#include "ckpt_files.h"

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

static fdl_module *chain(int64_t width)
{
    return fdl_flow(fdl_nn_linear(4, width), fdl_nn_relu(), fdl_nn_linear(width, 2));
}

static fdl_module *nested(const char *label)
{
    return fdl_flow(fdl_flow(fdl_flow_label(label), fdl_nn_linear(2, 3), fdl_nn_linear(3, 3)),
                    fdl_nn_linear(3, 1));
}

/* ---- the hash ------------------------------------------------------------------------------------------- */

static void a_graph_saved_and_rebuilt_loads(void **state)
{
    (void)state;
    static const char *const files[] = {"graph.fdl", "graph.fdl.gz"};
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        const char *path = path_of(files[i]);
        fdl_module *a = chain(8), *b = chain(8);
        fdl_load_report r;
        check_ok(fdl_ckpt_save(a, path));
        check_ok(fdl_ckpt_load(b, path, .report = &r));
        assert_int_equal(r.n_loaded, 4);
        assert_int_equal(r.n_skipped + r.n_missing, 0);
        assert_string_equal(r.loaded[0], "linear_1/weight");
        assert_true(same_values(a, b));
        fdl_tensor *x = fdl_ones(FDL_SHAPE(3, 4));
        assert_true(fdl_same(fdl_forward(a, x), fdl_forward(b, x)));
        fdl_module_free(a);
        fdl_module_free(b);
    }
}

static void another_architecture_is_refused_with_both_hashes(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("hash.fdl");
    fdl_module *a = chain(8), *b = chain(6), *before = chain(6);
    mark(b);
    mark(before);
    check_ok(fdl_ckpt_save(a, path));
    fdl_load_report r;
    assert_int_equal(fdl_ckpt_load(b, path, .report = &r), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "architecture differs", fdl_graph_short_hash(a), fdl_graph_short_hash(b),
                "\"linear_1/weight\"", "[8, 4]", "[6, 4]", ".ignore_hash");
    assert_int_equal(r.n_mismatched, 3);
    assert_int_equal(r.n_loaded, 1); /* the last bias would fit */
    assert_true(same_values(b, before));
    assert_int_equal(fdl_ckpt_load(b, path, .ignore_hash = true), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "\"linear_1/weight\"", "[8, 4]", "[6, 4]");
    assert_true(same_values(b, before));

    /* names that differ; nothing but the wiring that differs */
    fdl_module *longer = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_relu(), fdl_nn_relu(), fdl_nn_linear(8, 2));
    assert_int_equal(fdl_ckpt_load(longer, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "only the model has linear_4/weight, linear_4/bias",
                "only the file has linear_3.weight, linear_3.bias");
    fdl_module *other = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_gelu(), fdl_nn_linear(8, 2));
    assert_int_equal(fdl_ckpt_load(other, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "names and shapes are equal");
    check_ok(fdl_ckpt_load(other, path, .ignore_hash = true));
    assert_true(same_values(a, other));
    mark(other); /* rules, too, mean that names count */
    check_ok(fdl_ckpt_load(other, path, .rename = FDL_RENAMES({"*", "*"})));
    assert_true(same_values(a, other));
    check_ok(fdl_ckpt_load(longer, path, .partial = true, .report = &r));
    assert_int_equal(r.n_loaded, 2);
    assert_int_equal(r.n_missing, 2);
    assert_int_equal(r.n_skipped, 2);
    fdl_module_free(a);
    fdl_module_free(b);
    fdl_module_free(before);
    fdl_module_free(longer);
    fdl_module_free(other);
}

static void the_file_has_the_graphs_hash(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("meta.fdl");
    fdl_module *g = chain(8);
    for (int k = 0; k < 2; k++) {
        check_ok(fdl_ckpt_save(g, path, .dtype = k ? FDL_BFLOAT16 : FDL_DTYPE_DEFAULT));
        fdl_ckpt_info *info = fdl_ckpt_open(path);
        check_some(info);
        assert_string_equal(fdl_ckpt_hash(info),
                            "acb7b2d30614ab988d3eadb7383dc659f54d87a575b931d99ef206a619b2954b");
        assert_string_equal(fdl_ckpt_meta(info, "fdl.hash"), fdl_graph_hash(g));
        assert_int_equal(fdl_ckpt_format(info), 3);
        fdl_ckpt_close(info);
    }
    fdl_module *plain = fdl_nn_linear(2, 2);
    check_ok(fdl_ckpt_save(plain, path));
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    check_some(info);
    assert_null(fdl_ckpt_hash(info));
    assert_null(fdl_ckpt_meta(info, "fdl.hash"));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    fdl_ckpt_close(info);
    /* a file without a hash goes by names and shapes */
    fdl_module *in = fdl_flow(fdl_nn_linear(2, 2));
    check_ok(fdl_ckpt_load(in, path, .rename = FDL_RENAMES({"*", "linear_1.*"})));
    assert_true(same_values(plain, in));
    fdl_module_free(plain);
    fdl_module_free(in);
    fdl_module_free(g);
}

static void the_legacy_hash_has_its_published_value(void **state)
{
    (void)state;
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 4), fdl_nn_batch_norm(4)), *plain = chain(3);
    check_some(g);
    assert_string_equal(fdl_graph_legacy_hash(g),
                        "4b1ab19d9bc518500700887f77d890153e1d24211e9d856803f8b896ea09074e");
    assert_string_not_equal(fdl_graph_legacy_hash(g), fdl_graph_hash(g));
    assert_string_equal(fdl_graph_legacy_hash(plain), fdl_graph_hash(plain));
    fdl_module_free(g);
    fdl_module_free(plain);
}

/* ---- names ---------------------------------------------------------------------------------------------- */

static void partial_lists_and_shapes(void **state)
{
    (void)state;
    FDL_SCOPE;
    const hand_entry entries[] = {{"linear_1.weight", 2, {8, 4}, 0}, {"linear_9.bias", 1, {5}, 0}};
    bytes b = safetensors_bytes(2, entries);
    const char *path = written(&b, path_of("part.safetensors"));
    fdl_module *g = chain(8), *before = chain(8);
    mark(g);
    mark(before);
    fdl_load_report r;
    assert_int_equal(fdl_ckpt_load(g, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "linear_1/bias", "linear_9.bias");
    assert_true(same_values(g, before));
    check_ok(fdl_ckpt_load(g, path, .partial = true, .report = &r));
    assert_int_equal(r.n_loaded, 1);
    assert_int_equal(r.n_missing, 3);
    assert_int_equal(r.n_skipped, 1);
    assert_string_equal(r.loaded[0], "linear_1/weight");
    assert_string_equal(r.missing[0], "linear_1/bias");
    assert_string_equal(r.missing[2], "linear_3/bias");
    assert_string_equal(r.skipped[0], "linear_9.bias");
    assert_true(value_at(g, "linear_1/weight", 31) == 31);
    assert_true(value_at(g, "linear_1/bias", 0) == 1032);
    /* what was loaded can be frozen by its name */
    fdl_params *ps = fdl_parameters(g);
    check_ok(fdl_params_freeze_named(ps, r.loaded, r.n_loaded));
    assert_true(fdl_param_is_frozen(fdl_params_at(ps, 0)));
    assert_false(fdl_param_is_frozen(fdl_params_at(ps, 1)));
    assert_int_equal(fdl_params_freeze_named(ps, (const char *const[]){"linear_1/bias", "nobody"}, 2),
                     FDL_E_ARG);
    check_error(FDL_E_ARG, "nobody");
    assert_false(fdl_param_is_frozen(fdl_params_at(ps, 1)));
    fdl_module *narrow = chain(6);
    mark(narrow);
    assert_int_equal(fdl_ckpt_load(narrow, path, .partial = true), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "[8, 4]", "[6, 4]");
    assert_true(value_at(narrow, "linear_1/weight", 0) == 1000);
    fdl_module_free(g);
    fdl_module_free(before);
    fdl_module_free(narrow);
}

static void flat_names_load_into_a_nested_model(void **state)
{
    (void)state;
    static const hand_entry entries[] = {{"graph_1/weight_0", 2, {3, 2}, 0},  {"graph_1/bias_0", 1, {3}, 10},
                                         {"graph_1/weight_1", 2, {3, 3}, 20}, {"graph_1/bias_1", 1, {3}, 30},
                                         {"linear_2/weight", 2, {1, 3}, 40},  {"linear_2/bias", 1, {1}, 50}};
    for (int version = 1; version <= 3; version++) {
        FDL_SCOPE;
        bytes b = version == 3 ? safetensors_bytes(6, entries) : fdlc_bytes(version, NULL, 6, entries);
        const char *path = written(&b, path_of("flat"));
        fdl_module *g = nested("encoder");
        fdl_load_report r;
        check_ok(fdl_ckpt_load(g, path, .report = &r));
        assert_int_equal(r.n_loaded, 6);
        assert_string_equal(r.loaded[2], "encoder.linear_2/weight");
        assert_true(value_at(g, "encoder.linear_1/bias", 0) == 10);
        assert_true(value_at(g, "encoder.linear_2/weight", 8) == 28);
        assert_true(value_at(g, "encoder.linear_2/bias", 2) == 32);
        assert_true(value_at(g, "linear_2/bias", 0) == 50);
        fdl_module_free(g);
    }
}

static void a_sequential_of_pytorch_loads(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = FIXTURE("ckpt_sequential.safetensors");
    fdl_module *g =
        fdl_flow(fdl_nn_linear(3, 8), fdl_flow_tag("first"), fdl_nn_gelu(), fdl_nn_layer_norm(8),
                 fdl_nn_batch_norm(8), fdl_flow_tag("norm"),
                 fdl_flow(fdl_flow_label("inner"), fdl_nn_linear(8, 8), fdl_nn_relu()), fdl_nn_linear(8, 2));
    check_some(g);
    assert_int_equal(fdl_ckpt_load(g, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "lacks first/weight", ".prefix = \"model.\"");
    check_ok(fdl_ckpt_load(g, path, .prefix = "model."));
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    check_some(info);
    assert_null(fdl_ckpt_hash(info));
    check_ok(fdl_error_pending());
    check_ok(fdl_eval(g));
    fdl_tensor *x = fdl_to(fdl_ckpt_get(info, "x"), .device = fdl_default_device());
    fdl_tensor *y = fdl_to(fdl_ckpt_get(info, "y"), .device = fdl_default_device());
    check_some(y);
    assert_true(fdl_allclose(fdl_forward(g, x), y, .rtol = 1e-5, .atol = 1e-6));
    fdl_ckpt_close(info);
    fdl_params *names = fdl_parameters(g, .sequential = true);
    assert_string_equal(fdl_params_name(names, 0), "0.weight");
    assert_string_equal(fdl_params_name(names, 6), "4.0.weight");
    assert_string_equal(fdl_params_name(names, 9), "5.bias");
    fdl_module_free(g);
}

static void a_part_takes_the_wholes_file_by_prefix(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("whole.fdl");
    fdl_module *whole = nested("encoder");
    check_ok(fdl_ckpt_save(whole, path));
    fdl_module *part = fdl_flow(fdl_nn_linear(2, 3), fdl_nn_linear(3, 3));
    fdl_load_report r;
    check_ok(fdl_ckpt_load(part, path, .prefix = "encoder.", .report = &r));
    assert_int_equal(r.n_loaded, 4);
    assert_int_equal(r.n_skipped, 0);
    assert_true(value_at(part, "linear_1/weight", 0) == value_at(whole, "encoder.linear_1/weight", 0));
    fdl_module_free(whole);
    fdl_module_free(part);
}

/* ---- subgraphs ------------------------------------------------------------------------------------------ */

static fdl_module *lettered(void)
{
    fdl_module *encoder = fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(2, 3), fdl_nn_linear(3, 3));
    return fdl_flow(fdl_flow(fdl_flow_label("letter"), encoder, fdl_nn_linear(3, 1), fdl_flow_tag("mid")),
                    fdl_nn_linear(1, 2));
}

static void a_component_loads_into_its_place(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("component.fdl"), *whole = path_of("whole.fdl");
    fdl_module *part = fdl_flow(fdl_flow_label("trained alone"), fdl_nn_linear(2, 3), fdl_nn_linear(3, 3));
    fdl_module *g = lettered(), *before = lettered();
    check_some(g);
    check_ok(fdl_ckpt_save(part, path));
    mark(g);
    mark(before);
    fdl_load_report r;
    check_ok(fdl_ckpt_load(g, path, .at = "letter.encoder", .report = &r));
    assert_int_equal(r.n_loaded, 4);
    assert_int_equal(r.n_missing, 0);
    assert_string_equal(r.loaded[0], "linear_1/weight"); /* the subgraph's own name */
    fdl_params *ps = fdl_parameters(g), *old = fdl_parameters(before);
    int changed = 0;
    for (int i = 0; i < fdl_params_count(ps); i++) {
        bool same = fdl_same(fdl_param_tensor(fdl_params_at(ps, i)), fdl_param_tensor(fdl_params_at(old, i)));
        assert_int_equal(same, strncmp(fdl_params_name(ps, i), "letter.encoder.", 15) != 0);
        changed += !same;
    }
    assert_int_equal(changed, 4);
    assert_true(value_at(g, "letter.encoder.linear_2/weight", 3) == value_at(part, "linear_2/weight", 3));

    /* another architecture; a tag; nowhere; no graph: nothing changes */
    mark(g);
    fdl_module *other = chain(3), *plain = fdl_nn_linear(2, 2);
    check_ok(fdl_ckpt_save(other, whole));
    assert_int_equal(fdl_ckpt_load(g, whole, .at = "letter.encoder"), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "architecture differs", fdl_graph_short_hash(other),
                fdl_graph_short_hash(part));
    assert_int_equal(fdl_ckpt_load(g, path, .at = "letter.mid"), FDL_E_ARG);
    check_error(FDL_E_ARG, "letter.mid", "tag");
    assert_int_equal(fdl_ckpt_load(g, path, .at = "lettre"), FDL_E_ARG);
    check_error(FDL_E_ARG, "lettre", "letter");
    assert_int_equal(fdl_ckpt_load(plain, path, .at = "letter"), FDL_E_ARG);
    check_error(FDL_E_ARG, "graph");
    assert_true(same_values(g, before));

    /* the whole's file, one part of it into one part */
    check_ok(fdl_ckpt_load(g, path, .at = "letter.encoder"));
    check_ok(fdl_ckpt_save(g, whole));
    check_ok(fdl_ckpt_load(before, whole, .at = "letter.encoder", .prefix = "letter.encoder.", .report = &r));
    assert_int_equal(r.n_loaded, 4);
    assert_int_equal(r.n_skipped, 0);
    assert_true(value_at(before, "letter.encoder.linear_1/bias", 1) == value_at(part, "linear_1/bias", 1));
    assert_false(same_values(other, part));
    fdl_module_free(part);
    fdl_module_free(g);
    fdl_module_free(before);
    fdl_module_free(other);
    fdl_module_free(plain);
}

/* ---- the source config ---------------------------------------------------------------------------------- */

static void the_source_config_lies_in_the_file_and_beside_it(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char text[] = "{\"width\": 8, \"note\": \"quotes \\\" and \u00fcmlauts\"}";
    static const struct {
        const char *file, *beside;
    } names[] = {{"model.fdl.gz", "model.config.json"},
                 {"plain.fdl", "plain.config.json"},
                 {"two.dots.safetensors", "two.dots.config.json"},
                 {"none", "none.config.json"}};
    fdl_module *g = chain(8);
    assert_null(fdl_graph_source_config(g));
    check_ok(fdl_graph_set_source_config(g, text));
    assert_string_equal(fdl_graph_source_config(g), text);
    for (int i = 0; i < 4; i++) {
        check_ok(fdl_ckpt_save(g, path_of(names[i].file)));
        size_t n;
        char *beside = fdl_file_read(path_of(names[i].beside), 0, &n);
        check_some(beside);
        assert_string_equal(beside, text);
        free(beside);
        fdl_ckpt_info *info = fdl_ckpt_open(path_of(names[i].file));
        check_some(info);
        assert_string_equal(fdl_ckpt_meta(info, "fdl.source_config"), text);
        fdl_ckpt_close(info);
    }
    check_ok(fdl_graph_set_source_config(g, NULL));
    assert_null(fdl_graph_source_config(g));
    assert_int_equal(fdl_error_pending(), FDL_OK);
    int files = files_in_folder();
    check_ok(fdl_ckpt_save(g, path_of("cleared.fdl")));
    assert_int_equal(files_in_folder(), files + 1);
    fdl_module *plain = fdl_nn_linear(1, 1);
    assert_int_equal(fdl_graph_set_source_config(plain, text), FDL_E_ARG);
    check_error(FDL_E_ARG, "no graph");
    fdl_module_free(plain);
    fdl_module_free(g);
}

/* ---- versions 1 and 2 ----------------------------------------------------------------------------------- */

static void old_files_with_old_names_and_parts(void **state)
{
    (void)state;
    static const hand_entry entries[] = {{"multihead_attention_1/q_proj.weight", 2, {2, 2}, 0},
                                         {"multihead_attention_1/q_proj.bias", 1, {2}, 4},
                                         {"multihead_attention_1/k_proj.weight", 2, {2, 2}, 10},
                                         {"multihead_attention_1/k_proj.bias", 1, {2}, 14},
                                         {"multihead_attention_1/v_proj.weight", 2, {2, 2}, 20},
                                         {"multihead_attention_1/v_proj.bias", 1, {2}, 24},
                                         {"multihead_attention_1/out_proj.weight", 2, {2, 2}, 30},
                                         {"multihead_attention_1/out_proj.bias", 1, {2}, 34},
                                         {"gru_2/w_ih_0", 2, {6, 2}, 40},
                                         {"gru_2/w_hh_0", 2, {6, 2}, 60},
                                         {"gru_2/b_ih_0", 1, {6}, 80},
                                         {"gru_2/b_hh_0", 1, {6}, 90},
                                         {"gru_2/w_ih_1", 2, {6, 2}, 100},
                                         {"gru_2/w_hh_1", 2, {6, 2}, 120},
                                         {"gru_2/b_ih_1", 1, {6}, 140},
                                         {"gru_2/b_hh_1", 1, {6}, 150},
                                         {"cell/w_ih", 2, {8, 2}, 160},
                                         {"cell/w_hh", 2, {8, 2}, 180},
                                         {"cell/b_ih", 1, {8}, 200},
                                         {"cell/b_hh", 1, {8}, 210},
                                         {"batchnorm_4/weight", 1, {2}, 220},
                                         {"batchnorm_4/bias", 1, {2}, 230},
                                         {"batchnorm_4/running_mean", 1, {2}, 240},
                                         {"batchnorm_4/running_var", 1, {2}, 250}};
    enum { N = sizeof entries / sizeof entries[0] };
    FDL_SCOPE;
    fdl_module *g = fdl_flow(fdl_nn_multihead_attention(2, 1), fdl_nn_gru(2, 2, .layers = 2),
                             fdl_nn_lstm_cell(2, 2), fdl_flow_tag("cell"), fdl_nn_batch_norm(2));
    check_some(g);
    const char *hash = fdl_graph_legacy_hash(g);
    check_some(hash);
    for (int version = 1; version <= 2; version++) {
        bytes b = fdlc_bytes(version, hash, N, entries);
        const char *path = written(&b, path_of("old.fdl"));
        fdl_load_report r;
        mark(g);
        check_ok(fdl_ckpt_load(g, path, .report = &r));
        assert_int_equal(r.n_missing, 1);
        assert_string_equal(r.missing[0], "batchnorm_4/num_batches_tracked");
        assert_int_equal(r.n_skipped, 0);
        static const double packed[] = {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23};
        for (int i = 0; i < 12; i++)
            assert_true(value_at(g, "multihead_attention_1/in_proj_weight", i) == packed[i]);
        assert_true(value_at(g, "multihead_attention_1/in_proj_bias", 3) == 15);
        assert_true(value_at(g, "multihead_attention_1/out_proj.weight", 0) == 30);
        assert_true(value_at(g, "gru_2/weight_ih_l0", 0) == 40);
        assert_true(value_at(g, "gru_2/weight_hh_l1", 1) == 121);
        assert_true(value_at(g, "gru_2/bias_hh_l1", 5) == 155);
        assert_true(value_at(g, "cell/weight_hh", 0) == 180);
        assert_true(value_at(g, "batchnorm_4/running_var", 1) == 251);
        assert_int_equal(fdl_ckpt_version(path), version);
        fdl_ckpt_info *info = fdl_ckpt_open(path);
        check_some(info);
        assert_string_equal(fdl_ckpt_hash(info), hash);
        fdl_ckpt_close(info);
    }
    /* a count of batches may be missing there and in other programs' files, not in one of today's */
    const hand_entry counted[] = {
        {"weight", 1, {2}, 1}, {"bias", 1, {2}, 2}, {"running_mean", 1, {2}, 3}, {"running_var", 1, {2}, 4}};
    bytes uncounted = safetensors_bytes(4, counted);
    fdl_module *norm = fdl_nn_batch_norm(2);
    check_ok(fdl_ckpt_load(norm, written(&uncounted, path_of("uncounted"))));
    assert_true(value_at(norm, "running_var", 1) == 5);
    assert_true(fdl_item(fdl_param_tensor(fdl_module_own_buffer(norm, "num_batches_tracked"))) == 0);
    check_ok(fdl_ckpt_save_tensors(path_of("uncounted"),
                                   FDL_NAMES("weight", "bias", "running_mean", "running_var"),
                                   FDL_LIST(fdl_ones(FDL_SHAPE(2)), fdl_ones(FDL_SHAPE(2)),
                                            fdl_ones(FDL_SHAPE(2)), fdl_ones(FDL_SHAPE(2)))));
    assert_int_equal(fdl_ckpt_load(norm, path_of("uncounted")), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "lacks num_batches_tracked");
    fdl_module_free(norm);
    /* another hash; none; a part that is missing */
    char wrong[65];
    memcpy(wrong, hash, sizeof wrong);
    wrong[0] = wrong[0] == '0' ? '1' : '0';
    bytes b = fdlc_bytes(2, wrong, N, entries);
    const char *path = written(&b, path_of("old.fdl"));
    assert_int_equal(fdl_ckpt_load(g, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "architecture differs");
    check_ok(fdl_ckpt_load(g, path, .ignore_hash = true));
    b = fdlc_bytes(2, NULL, N - 1, entries);
    assert_int_equal(fdl_ckpt_load(g, written(&b, path)), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "lacks batchnorm_4/running_var");
    b = fdlc_bytes(2, NULL, N - 4, entries + 4);
    assert_int_equal(fdl_ckpt_load(g, written(&b, path)), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH,
                "lacks multihead_attention_1/in_proj_weight, multihead_attention_1/in_proj_bias");
    fdl_module_free(g);
}

static void damaged_old_files(void **state)
{
    (void)state;
    static const hand_entry entries[] = {{"linear_1/weight", 2, {2, 2}, 0}, {"linear_1/bias", 1, {2}, 4}};
    fdl_module *g = fdl_flow(fdl_nn_linear(2, 2)), *before = fdl_flow(fdl_nn_linear(2, 2));
    mark(g);
    mark(before);
    bytes good = fdlc_bytes(1, NULL, 2, entries);
    for (size_t n = 0; n < good.n; n++) { /* cut short at every byte */
        bytes cut = {0};
        put(&cut, good.at, n);
        assert_int_equal(fdl_ckpt_load(g, written(&cut, path_of("cut"))), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, n < 4 ? "cut" : "truncated");
        assert_true(same_values(g, before));
    }
    static const struct {
        size_t at;
        unsigned char byte;
        const char *words[2];
    } cases[] = {
        {4, 9, {"version 9", "1 and 2"}},
        {40, 1, {"behind its last entry"}},
        {40, 3, {"truncated"}},
        {44, 255, {"truncated", "cut"}},
        {47, 1, {"a name of"}},
        {48, 0xff, {"not UTF-8"}},
        {48, 0, {"zero byte"}},
        {63, 13, {"\"linear_1/weight\"", "12 dims"}},
        {74, 255, {"\"linear_1/weight\"", "extent"}},
        {67, 3, {"\"linear_1/weight\"", "need 24"}},
        {83, 255, {"\"linear_1/weight\"", "unknown dtype 255"}},
        {83, 0, {"\"linear_1/weight\"", "unknown dtype 0"}},
        {84, 15, {"\"linear_1/weight\"", "has 15 bytes"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bytes bad = {0};
        put(&bad, good.at, good.n);
        bad.at[cases[i].at] = cases[i].byte;
        assert_int_equal(fdl_ckpt_load(g, written(&bad, path_of("cut"))), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, cases[i].words[0], cases[i].words[1] ? cases[i].words[1] : "");
        assert_true(same_values(g, before));
    }
    const hand_entry twice[] = {entries[1], entries[1]};
    bytes bad = fdlc_bytes(1, NULL, 2, twice);
    assert_int_equal(fdl_ckpt_load(g, written(&bad, path_of("cut"))), FDL_E_FORMAT);
    check_error(FDL_E_FORMAT, "\"linear_1/bias\"", "twice");
    check_ok(fdl_ckpt_load(g, written(&good, path_of("cut"))));
    assert_false(same_values(g, before));
    fdl_module_free(g);
    fdl_module_free(before);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_graph_saved_and_rebuilt_loads),
        cmocka_unit_test(another_architecture_is_refused_with_both_hashes),
        cmocka_unit_test(the_file_has_the_graphs_hash),
        cmocka_unit_test(the_legacy_hash_has_its_published_value),
        cmocka_unit_test(partial_lists_and_shapes),
        cmocka_unit_test(flat_names_load_into_a_nested_model),
        cmocka_unit_test(a_sequential_of_pytorch_loads),
        cmocka_unit_test(a_part_takes_the_wholes_file_by_prefix),
        cmocka_unit_test(a_component_loads_into_its_place),
        cmocka_unit_test(the_source_config_lies_in_the_file_and_beside_it),
        cmocka_unit_test(old_files_with_old_names_and_parts),
        cmocka_unit_test(damaged_old_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
