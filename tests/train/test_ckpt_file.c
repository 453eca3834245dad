/* Looking into files, rename rules, migrating and importing, writers and readers, sharded files. */
#include "ckpt_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

static fdl_tensor *pass(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}
static const fdl_module_ops box_ops = {.kind = "box", .forward = pass};

/* A module with a parameter [2, 3], [3] or [n] for each name: "name:2x3", "name:3". */
static fdl_module *box_(const char *const *specs)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&box_ops);
    for (; *specs; specs++) {
        char name[64];
        int a = 0, b = 0;
        int n = sscanf(*specs, "%63[^:]:%dx%d", name, &a, &b);
        assert_true(n >= 2);
        bool buffer = strncmp(name, "buf", 3) == 0;
        fdl_tensor *init = fdl_zeros(n == 2 ? FDL_SHAPE(a) : FDL_SHAPE(a, b));
        if (buffer)
            fdl_module_buffer(m, name, init);
        else
            fdl_module_param(m, name, init);
    }
    m = fdl_module_done(m);
    check_some(m);
    return m;
}
#define box(...) box_((const char *const[]){__VA_ARGS__, NULL})

/* ---- looking into a file ------------------------------------------------------------------------------- */

static void what_a_file_says_of_itself(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("info.fdl");
    fdl_module *m = box("w:2x3", "b:3");
    mark(m);
    check_ok(fdl_ckpt_save(m, path, .meta = FDL_META({"note", "quotes \" and \u00fcmlauts"})));
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), 2);
    assert_string_equal(fdl_ckpt_name(info, 0), "w");
    assert_true(fdl_shape_eq(fdl_ckpt_shape(info, 0), FDL_SHAPE(2, 3)));
    assert_int_equal(fdl_ckpt_dtype(info, 1), FDL_FLOAT32);
    assert_string_equal(fdl_ckpt_meta(info, "note"), "quotes \" and \u00fcmlauts");
    assert_null(fdl_ckpt_meta(info, "nobody"));
    check_ok(fdl_error_pending());
    assert_int_equal(fdl_ckpt_format(info), 3);
    fdl_tensor *b = fdl_ckpt_get(info, "b");
    check_some(b);
    assert_true(fdl_device_of(b).type == FDL_DEVICE_TYPE_CPU);
    double got[3];
    check_ok(fdl_to_f64(b, got, 3));
    assert_true(got[0] == 1006 && got[2] == 1008);
    assert_true(fdl_same(fdl_ckpt_tensor(info, 1), b));
    assert_null(fdl_ckpt_get(info, "nobody"));
    check_error(FDL_E_ARG, "\"nobody\"", "2 names");
    assert_null(fdl_ckpt_tensor(info, 2));
    check_error(FDL_E_RANGE, "2 of 2");
    assert_null(fdl_ckpt_name(info, -1));
    check_error(FDL_E_RANGE, "-1");
    assert_int_equal(fdl_ckpt_shape(info, 9).ndim, -1);
    check_error(FDL_E_RANGE, "9");
    fdl_ckpt_close(info);
    fdl_ckpt_close(NULL);
    fdl_strings keys;
    check_ok(fdl_ckpt_keys(path, &keys));
    assert_int_equal(keys.n, 2);
    assert_string_equal(keys.at[0], "w");
    assert_string_equal(keys.at[1], "b");
    assert_int_equal(fdl_ckpt_version(path), 3);
    assert_int_equal(fdl_ckpt_version(FIXTURE("ckpt.safetensors")), 0);
    assert_int_equal(fdl_ckpt_version(path_of("not-there")), -1);
    check_error(FDL_E_IO, "not-there");
    assert_int_equal(fdl_ckpt_keys(path_of("not-there"), &keys), FDL_E_IO);
    assert_int_equal(keys.n, 0);
    fdl_clear_error();
    fdl_module_free(m);
}

/* A gibibyte that nobody reads: the file has a hole there. Each way of asking for what the header says is quick by itself. */
static void the_header_alone_is_read(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char header[] =
        "{\"__metadata__\":{\"fdl.version\":\"3\",\"note\":\"large\"},"
        "\"big\":{\"dtype\":\"F32\",\"shape\":[268435456],\"data_offsets\":[0,1073741824]}}";
    bytes b = {0};
    put_number(&b, sizeof header - 1, 8);
    put(&b, header, sizeof header - 1);
    off_t size = (off_t)b.n + (1 << 30);
    const char *path = written(&b, path_of("sparse.safetensors"));
    assert_int_equal(truncate(path, size), 0);
    fdl_strings keys;
    double begin = fdl_now();
    check_ok(fdl_ckpt_keys(path, &keys));
    assert_true(fdl_now() - begin < 0.05);
    assert_string_equal(keys.at[0], "big");
    begin = fdl_now();
    assert_int_equal(fdl_ckpt_version(path), 3);
    assert_true(fdl_now() - begin < 0.05);
    begin = fdl_now();
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    check_some(info);
    assert_string_equal(fdl_ckpt_meta(info, "note"), "large");
    assert_true(fdl_shape_eq(fdl_ckpt_shape(info, 0), FDL_SHAPE(1 << 28)));
    fdl_ckpt_close(info);
    assert_true(fdl_now() - begin < 0.05);
    unlink(path);
}

#if defined(__SANITIZE_ADDRESS__)
enum { MANY = 100000 }; /* sanitizers take several times the memory */
#else
enum { MANY = 1000000 };
#endif

static void a_header_of_a_million_entries(void **state)
{
    (void)state;
    bytes b = {0};
    put_number(&b, 0, 8);
    put(&b, "{", 1);
    for (int i = 0; i < MANY; i++) {
        char entry[96];
        int n = snprintf(entry, sizeof entry,
                         "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", i ? "," : "", i);
        put(&b, entry, (size_t)n);
    }
    put(&b, "}", 1);
    for (int i = 0; i < 8; i++)
        b.at[i] = (unsigned char)((uint64_t)(b.n - 8) >> 8 * i);
    const char *path = written(&b, path_of("million.safetensors"));
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), MANY);
    fdl_ckpt_close(info);
    unlink(path);
}

/* ---- rules ---------------------------------------------------------------------------------------------- */

static void rules_rename_keys(void **state)
{
    (void)state;
    FDL_SCOPE;
    const hand_entry entries[] = {{"old.layer.0.attn.w", 1, {3}, 0},
                                  {"old.layer.0.norm.gamma", 1, {3}, 10},
                                  {"old.layer.0.norm.beta", 1, {3}, 20}};
    bytes b = safetensors_bytes(3, entries);
    const char *path = written(&b, path_of("rules.safetensors"));
    fdl_module *m = box("new.attn-0.w:3", "new.norm-0.weight:3", "new.norm-0.bias:3");
    check_ok(fdl_ckpt_load(m, path,
                           .rename =
                               FDL_RENAMES({"old.layer.*.*.*", "new.*-*.*"}, {"new.0-attn.*", "new.attn-0.*"},
                                           {"new.0-norm.*", "new.norm-0.*"}, FDL_RENAME_GAMMA_BETA)));
    assert_true(value_at(m, "new.attn-0.w", 1) == 1);
    assert_true(value_at(m, "new.norm-0.weight", 0) == 10);
    assert_true(value_at(m, "new.norm-0.bias", 2) == 22);
    mark(m);
    assert_int_equal(fdl_ckpt_load(m, path, .rename = FDL_RENAMES({"old.layer.0.norm.*", "same"})),
                     FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "old.layer.0.norm.gamma", "old.layer.0.norm.beta", "\"same\"");
    assert_int_equal(fdl_ckpt_load(m, path, .rename = FDL_RENAMES({"old.*", "*.*"})), FDL_E_ARG);
    check_error(FDL_E_ARG, "\"*.*\"", "\"old.*\"");
    assert_int_equal(fdl_ckpt_load(m, path, .rename = FDL_RENAMES({"old.*", NULL})), FDL_E_NULL);
    check_error(FDL_E_NULL, "\"old.*\"");
    assert_int_equal(fdl_ckpt_load(m, path, .rename = FDL_RENAMES({"*****************", "x"})), FDL_E_ARG);
    check_error(FDL_E_ARG, "17 *", "16");
    assert_true(value_at(m, "new.attn-0.w", 0) == 1000);
    fdl_module_free(m);
}

static void stars_take_as_little_as_they_can(void **state)
{
    (void)state;
    static const struct {
        const char *name, *from, *to, *becomes;
    } cases[] = {{"a.b.c", "*.*", "*/*", "a/b.c"},
                 {"a.b.c", "*.c", "*", "a.b"},
                 {"abab", "*ab", "*-", "ab-"},
                 {"xaxbx", "x*x*x", "<*><*>", "<a><b>"},
                 {"a", "*", "b.*", "b.a"},
                 {"a.b", "a.b", "c", "c"},
                 {"a.b", "a.", "c", "a.b"},
                 {"aa", "a*a", "[*]", "[]"},
                 {"a", "a*a", "no", "a"},
                 {"a.b.c.d", "*.*.*", "*-*-*", "a-b-c.d"},
                 {"", "*", "x*", "x"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FDL_SCOPE;
        const hand_entry entries[] = {{cases[i].name, 1, {1}, 5}};
        bytes b = safetensors_bytes(1, entries);
        const char *path = written(&b, path_of("star.safetensors"));
        fdl_load_report r;
        fdl_module *m = fdl_module_new(&box_ops);
        if (!strchr(cases[i].becomes, '/'))
            fdl_module_param(m, cases[i].becomes, fdl_zeros(FDL_SHAPE(1)));
        m = fdl_module_done(m);
        check_some(m);
        check_ok(fdl_ckpt_load(m, path, .partial = true, .report = &r,
                               .rename = FDL_RENAMES({cases[i].from, cases[i].to})));
        if (!strchr(cases[i].becomes, '/') && r.n_loaded != 1)
            fail_msg("\"%s\" by {\"%s\", \"%s\"} isn't \"%s\"", cases[i].name, cases[i].from, cases[i].to,
                     cases[i].becomes);
        fdl_module_free(m);
    }
}

static void the_sets_of_rules(void **state)
{
    (void)state;
    FDL_SCOPE;
    const hand_entry split[] = {{"a.q_proj.weight", 2, {2, 2}, 0},
                                {"a.k_proj.weight", 2, {2, 2}, 10},
                                {"a.v_proj.weight", 2, {2, 2}, 20},
                                {"a.q_proj.bias", 1, {2}, 30},
                                {"a.k_proj.bias", 1, {2}, 40},
                                {"a.v_proj.bias", 1, {2}, 50},
                                {"a.out_proj.weight", 2, {2, 2}, 60},
                                {"a.out_proj.bias", 1, {2}, 70},
                                {"c.w_ih", 2, {6, 2}, 80},
                                {"c.w_hh", 2, {6, 2}, 100},
                                {"c.b_ih", 1, {6}, 120},
                                {"c.b_hh", 1, {6}, 130}};
    bytes b = safetensors_bytes(12, split);
    const char *path = written(&b, path_of("split.safetensors"));
    fdl_module *m = fdl_module_new(&box_ops);
    fdl_module_child(m, "a", fdl_nn_multihead_attention(2, 1));
    fdl_module_child(m, "c", fdl_nn_gru_cell(2, 2));
    m = fdl_module_done(m);
    check_some(m);
    check_ok(fdl_ckpt_load(m, path, .rename = FDL_RENAMES(FDL_RENAME_SPLIT_QKV, FDL_RENAME_CELL)));
    static const double packed[] = {0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23};
    for (int i = 0; i < 12; i++)
        assert_true(value_at(m, "a.in_proj_weight", i) == packed[i]);
    assert_true(value_at(m, "a.in_proj_bias", 4) == 50);
    assert_true(value_at(m, "c.bias_hh", 5) == 135);
    mark(m);
    b = safetensors_bytes(2, split);
    assert_int_equal(
        fdl_ckpt_load(m, written(&b, path), .partial = true, .rename = FDL_RENAMES(FDL_RENAME_SPLIT_QKV)),
        FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "part 3 of 3", "a.in_proj_weight");
    const hand_entry odd[] = {split[0], split[1], {"a.v_proj.weight", 2, {2, 3}, 0}};
    b = safetensors_bytes(3, odd);
    assert_int_equal(
        fdl_ckpt_load(m, written(&b, path), .partial = true, .rename = FDL_RENAMES(FDL_RENAME_SPLIT_QKV)),
        FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "a.v_proj.weight", "shapes or dtypes differ");
    assert_true(value_at(m, "a.in_proj_weight", 0) == 1000);
    fdl_module_free(m);
}

/* The split attention gives what one built by hand of the three gives. */
static void a_split_attention_computes_the_same(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *q = fdl_nn_linear(4, 4), *k = fdl_nn_linear(4, 4), *v = fdl_nn_linear(4, 4),
               *out = fdl_nn_linear(4, 4);
    fdl_module *parts = fdl_module_new(&box_ops);
    fdl_module_child(parts, "q_proj", q);
    fdl_module_child(parts, "k_proj", k);
    fdl_module_child(parts, "v_proj", v);
    fdl_module_child(parts, "out_proj", out);
    parts = fdl_module_done(parts);
    check_ok(fdl_ckpt_save(parts, path_of("parts.fdl")));
    fdl_module *mha = fdl_nn_multihead_attention(4, 2, .batch_first = true);
    check_ok(fdl_ckpt_load(mha, path_of("parts.fdl"), .rename = FDL_RENAMES(FDL_RENAME_SPLIT_QKV)));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 5, 4)), *h[3];
    fdl_module *in[] = {q, k, v};
    for (int i = 0; i < 3; i++)
        h[i] = fdl_transpose(fdl_unflatten(fdl_forward(in[i], x), -1, FDL_SHAPE(2, 2)), 1, 2);
    fdl_tensor *y = fdl_scaled_dot_product_attention(h[0], h[1], h[2]);
    y = fdl_forward(out, fdl_flatten(fdl_transpose(y, 1, 2), 2, 3));
    assert_true(fdl_allclose(fdl_forward(mha, x), y, .rtol = 1e-4, .atol = 1e-6));
    fdl_module_free(parts);
    fdl_module_free(mha);
}

/* ---- migrating ------------------------------------------------------------------------------------------ */

static void migrating_by_name_and_shape(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *old = path_of("old.fdl"), *new = path_of("new.fdl");
    fdl_module *from = box("same:2x3", "a:4", "b:4", "odd:5", "buf_old:7"),
               *to = box("same:2x3", "x:4", "y:4", "lost:6", "buf_new:7");
    mark(from);
    mark(to);
    check_ok(fdl_ckpt_save(from, old));
    fdl_migrate_report r;
    check_ok(fdl_ckpt_migrate(old, new, to, .report = &r));
    assert_int_equal(r.n_unchanged, 1);
    assert_string_equal(r.unchanged[0], "same");
    assert_int_equal(r.n_remapped, 3);
    assert_string_equal(r.remapped[0].from, "a");
    assert_string_equal(r.remapped[0].to, "x");
    assert_string_equal(r.remapped[1].from, "b");
    assert_string_equal(r.remapped[1].to, "y");
    assert_string_equal(r.remapped[2].from, "buf_old");
    assert_string_equal(r.remapped[2].to, "buf_new");
    assert_int_equal(r.n_dropped, 1);
    assert_string_equal(r.dropped[0], "odd");
    assert_int_equal(r.n_missing, 1);
    assert_string_equal(r.missing[0], "lost");
    assert_int_equal(r.n_ambiguous, 2);
    assert_string_equal(r.ambiguous[1], "y");
    assert_false(r.complete);
    assert_true(value_at(to, "x", 0) == 1006); /* as before */
    fdl_load_report l;
    check_ok(fdl_ckpt_load(to, new, .partial = true, .report = &l));
    assert_int_equal(l.n_loaded, 4);
    assert_int_equal(l.n_skipped, 0);
    assert_true(value_at(to, "x", 0) == value_at(from, "a", 0));
    assert_true(value_at(to, "y", 3) == value_at(from, "b", 3));
    assert_true(value_at(to, "buf_new", 6) == value_at(from, "buf_old", 6));
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    check_ok(fdl_migrate_report_print(&r, f));
    fclose(f);
    assert_string_equal(
        text, "unchanged (1)\n  same\nremapped (3)\n  a -> x\n  b -> y\n  buf_old -> buf_new\ndropped (1)\n"
              "  odd\nmissing (1)\n  lost\nambiguous (2)\n  x\n  y\n");
    free(text);
    /* one file; all found; by rules alone */
    assert_int_equal(fdl_ckpt_migrate(old, old, to), FDL_E_ARG);
    check_error(FDL_E_ARG, "one file");
    assert_int_equal(symlink(old, path_of("link.fdl")), 0);
    assert_int_equal(fdl_ckpt_migrate(old, path_of("link.fdl"), to), FDL_E_ARG);
    check_error(FDL_E_ARG, "one file");
    check_ok(fdl_ckpt_migrate(old, new, from, .report = &r));
    assert_true(r.complete);
    assert_int_equal(r.n_unchanged, 5);
    check_ok(fdl_ckpt_migrate(old, new, to, .rename = FDL_RENAMES({"b", "x"}), .report = &r));
    assert_int_equal(r.n_remapped, 1);
    assert_string_equal(r.remapped[0].from, "b");
    assert_int_equal(r.n_missing, 3);
    assert_int_equal(fdl_ckpt_migrate(path_of("none"), new, to), FDL_E_IO);
    check_error(FDL_E_IO, "none");
    fdl_module_free(from);
    fdl_module_free(to);
}

/* What has the shape but not the dtype isn't what is looked for. */
static void migrating_takes_no_other_dtype(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *from = fdl_module_new(&box_ops);
    fdl_module_buffer(from, "counts", fdl_ones(FDL_SHAPE(4), .dtype = FDL_INT64));
    from = fdl_module_done(from);
    fdl_module *to = box("weight:4");
    check_ok(fdl_ckpt_save(from, path_of("counts.fdl")));
    fdl_migrate_report r;
    check_ok(fdl_ckpt_migrate(path_of("counts.fdl"), path_of("weights.fdl"), to, .report = &r));
    assert_int_equal(r.n_remapped + r.n_ambiguous, 0);
    assert_int_equal(r.n_dropped, 1);
    assert_string_equal(r.dropped[0], "counts");
    assert_int_equal(r.n_missing, 1);
    assert_string_equal(r.missing[0], "weight");
    fdl_module_free(from);
    fdl_module_free(to);
}

static void a_migrated_graph_has_no_hash(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = fdl_flow(fdl_nn_linear(2, 3), fdl_nn_linear(3, 1));
    fdl_module *b = fdl_flow(fdl_nn_linear(2, 3), fdl_flow_tag("in"), fdl_nn_relu(), fdl_nn_linear(3, 1));
    const char *old = path_of("a.fdl"), *new = path_of("b.fdl");
    check_ok(fdl_ckpt_save(a, old));
    assert_int_equal(fdl_ckpt_load(b, old), FDL_E_MISMATCH);
    fdl_clear_error();
    fdl_migrate_report r;
    check_ok(fdl_ckpt_migrate(old, new, b, .report = &r));
    assert_true(r.complete);
    assert_int_equal(r.n_ambiguous, 0);
    check_ok(fdl_ckpt_load(b, new));
    assert_true(value_at(b, "in/weight", 2) == value_at(a, "linear_1/weight", 2));
    fdl_ckpt_info *info = fdl_ckpt_open(new);
    check_some(info);
    assert_null(fdl_ckpt_hash(info));
    fdl_ckpt_close(info);
    fdl_module_free(a);
    fdl_module_free(b);
}

/* ---- importing ------------------------------------------------------------------------------------------ */

static void importing_takes_no_ambiguous_shape(void **state)
{
    (void)state;
    FDL_SCOPE;
    const hand_entry entries[] = {{"net.same", 1, {3}, 0},
                                  {"net.p", 1, {4}, 10},
                                  {"net.q", 1, {5}, 20},
                                  {"net.r", 1, {5}, 30},
                                  {"net.s", 1, {6}, 40}};
    bytes b = safetensors_bytes(5, entries);
    const char *path = written(&b, path_of("import.safetensors"));
    fdl_module *m = box("same:3", "one:4", "either:5", "first:6", "second:6");
    fdl_migrate_report r;
    mark(m);
    check_ok(fdl_ckpt_import(m, path, .prefix = "net.", .report = &r));
    assert_int_equal(r.n_remapped, 1); /* the prefix is a change of name */
    assert_int_equal(r.n_missing, 4);
    assert_true(value_at(m, "same", 2) == 2 && value_at(m, "one", 0) == 1003);
    check_ok(fdl_ckpt_import(m, path, .prefix = "net.", .by_shape = true, .report = &r));
    assert_int_equal(r.n_remapped, 2);
    assert_string_equal(r.remapped[1].from, "net.p");
    assert_string_equal(r.remapped[1].to, "one");
    assert_int_equal(r.n_ambiguous, 3);
    assert_string_equal(r.ambiguous[0], "either");
    assert_int_equal(r.n_dropped, 3);
    assert_true(value_at(m, "one", 3) == 13);
    assert_true(value_at(m, "either", 0) == 1007 && value_at(m, "first", 0) == 1012);
    /* another shape under a name; nothing that fits */
    fdl_module *wrong = box("same:4"), *none = box("else:9");
    mark(wrong);
    assert_int_equal(fdl_ckpt_import(wrong, path, .prefix = "net."), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "\"same\"", "[3]", "[4]");
    assert_true(value_at(wrong, "same", 0) == 1000);
    assert_int_equal(fdl_ckpt_import(none, path, .by_shape = true), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "nothing of its 5 tensors", "net.same", "else");
    fdl_module_free(m);
    fdl_module_free(wrong);
    fdl_module_free(none);
}

/* ---- writers and readers -------------------------------------------------------------------------------- */

static fdl_status failing_write(void *ctx, const void *from, size_t n)
{
    int *left = ctx;
    (void)from, (void)n;
    return (*left)-- > 0 ? FDL_OK : fdl_fail(FDL_E_NET, "the line is cut");
}

static int64_t failing_read(void *ctx, void *to, size_t n)
{
    bytes *b = ctx;
    return b->read < 400 ? read_bytes(ctx, to, n < 100 ? n : 100) : -1;
}

static int64_t lying_read(void *ctx, void *to, size_t n)
{
    (void)ctx, (void)to;
    return (int64_t)n + 1;
}

static void memory_takes_and_gives_a_checkpoint(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = box("w:20x30", "b:30"), *b = box("w:20x30", "b:30");
    mark(a);
    for (int level = 0; level <= 9; level += 9) {
        bytes file = {0};
        check_ok(fdl_ckpt_save_to(a, ((fdl_writer){write_bytes, &file}), .level = level));
        size_t size = file.n;
        put(&file, "what comes behind", 17);
        mark(b);
        if (!level) { /* read to its own end and no further */
            check_ok(fdl_ckpt_load_from(b, ((fdl_reader){read_bytes, &file})));
            assert_int_equal(file.read, size);
        } else {
            file.n = size;
            check_ok(fdl_ckpt_load_from(b, ((fdl_reader){read_bytes, &file})));
        }
        assert_true(same_values(a, b));
        file.read = 0;
        file.n = size / 2;
        assert_int_equal(fdl_ckpt_load_from(b, ((fdl_reader){read_bytes, &file})), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, level ? "cut short" : "truncated");
        free(file.at);
    }
    bytes file = {0};
    check_ok(fdl_ckpt_save_to(a, ((fdl_writer){write_bytes, &file})));
    assert_int_equal(fdl_ckpt_load_from(b, ((fdl_reader){failing_read, &file})), FDL_E_IO);
    check_error(FDL_E_IO, "can't be read");
    assert_int_equal(fdl_ckpt_load_from(b, ((fdl_reader){lying_read, NULL})), FDL_E_ARG);
    check_error(FDL_E_ARG, "asked for");
    free(file.at);
    for (int n = 0; n < 4; n++) { /* length, header, two tensors */
        int left = n;
        assert_int_equal(fdl_ckpt_save_to(a, ((fdl_writer){failing_write, &left})), FDL_E_NET);
        check_error(FDL_E_NET, "the line is cut");
    }
    assert_int_equal(fdl_ckpt_save_to(a, ((fdl_writer){write_bytes, &file}), .shard_bytes = 10), FDL_E_ARG);
    check_error(FDL_E_ARG, ".shard_bytes");
    fdl_module_free(a);
    fdl_module_free(b);
}

/* ---- shards --------------------------------------------------------------------------------------------- */

static void tensors_without_a_module(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("tensors.safetensors");
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3)), *y = fdl_t(fdl_arange(0, 6, 1, .dtype = FDL_INT64));
    check_ok(fdl_ckpt_save_tensors(path, FDL_NAMES("x", "more.y"), FDL_LIST(x, y),
                                   .meta = FDL_META({"step", "3"})));
    fdl_ckpt_info *file = fdl_ckpt_open(path);
    check_some(file);
    assert_int_equal(fdl_ckpt_count(file), 2);
    assert_true(
        fdl_allclose(fdl_ckpt_get(file, "x"), fdl_to_device(x, FDL_CPU), .rtol = FDL_ZERO, .atol = FDL_ZERO));
    assert_int_equal(fdl_ckpt_dtype(file, 0), FDL_INT64);
    assert_string_equal(fdl_ckpt_meta(file, "step"), "3");
    fdl_ckpt_close(file);

    assert_int_equal(fdl_ckpt_save_tensors(path, FDL_NAMES("a", "a"), FDL_LIST(x, x)), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl_ckpt_save_tensors", "\"a\"");
    assert_int_equal(fdl_ckpt_save_tensors(path, FDL_NAMES("a"), FDL_LIST(x, y)), FDL_E_ARG);
    check_error(FDL_E_ARG, "1 names for 2 tensors");
    assert_int_equal(fdl_ckpt_save_tensors(path, FDL_NAMES("a", "b"), FDL_LIST(x)), FDL_E_ARG);
    check_error(FDL_E_ARG, "a name more", "\"b\"");
    assert_int_equal(fdl_ckpt_save_tensors(path_of("none/x"), FDL_NAMES("a"), FDL_LIST(x)), FDL_E_IO);
    check_error(FDL_E_IO, "none/x");
    file = fdl_ckpt_open(path); /* what was refused changed nothing */
    check_some(file);
    assert_int_equal(fdl_ckpt_count(file), 2);
    fdl_ckpt_close(file);
    check_ok(fdl_ckpt_save_tensors(path_of("half.safetensors.gz"), FDL_NAMES("x", "more.y"), FDL_LIST(x, y),
                                   .dtype = FDL_FLOAT16, .level = 9));
    file = fdl_ckpt_open(path_of("half.safetensors.gz"));
    check_some(file);
    assert_int_equal(fdl_dtype_of(fdl_ckpt_get(file, "x")), FDL_FLOAT16);
    fdl_ckpt_close(file);
}

static void many_tensors_go_to_several_files(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *a = box("a:10", "b:10", "c:30", "d:10", "buf:5"),
               *b = box("a:10", "b:10", "c:30", "d:10", "buf:5");
    mark(a);
    int before = files_in_folder();
    const char *path = path_of("big.safetensors");
    check_ok(fdl_ckpt_save(a, path, .shard_bytes = 80, .meta = FDL_META({"note", "in every shard"})));
    assert_int_equal(files_in_folder(), before + 4); /* {a, b}, {c}, {d, buf}, the index */
    fdl_ckpt_info *info = fdl_ckpt_open(path_of("big.safetensors.index.json"));
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), 5);
    assert_int_equal(fdl_ckpt_format(info), 3);
    assert_string_equal(fdl_ckpt_meta(info, "note"), "in every shard");
    assert_string_equal(fdl_ckpt_meta(info, "total_size"), "260");
    fdl_ckpt_close(info);
    info = fdl_ckpt_open(path_of("big-00002-of-00003.safetensors"));
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), 1);
    assert_string_equal(fdl_ckpt_name(info, 0), "c");
    fdl_ckpt_close(info);
    check_ok(fdl_ckpt_load(b, path_of("big.safetensors.index.json")));
    assert_true(same_values(a, b));
    mark(b);
    check_ok(fdl_param_set(fdl_module_own_param(b, "a"), fdl_zeros(FDL_SHAPE(10))));
    check_ok(fdl_ckpt_load(b, path_of("big.safetensors"))); /* the path that was saved under */
    assert_true(same_values(a, b));

    /* fewer shards than before, then one file, then shards again: nothing of the earlier ones stays */
    check_ok(fdl_ckpt_save(a, path_of("big.safetensors"), .shard_bytes = 200));
    assert_int_equal(files_in_folder(), before + 3);
    check_ok(fdl_ckpt_save(a, path_of("big.safetensors"), .shard_bytes = 10000));
    assert_int_equal(files_in_folder(), before + 1);
    check_ok(fdl_ckpt_load(b, path_of("big.safetensors")));
    check_ok(fdl_ckpt_save(a, path_of("big.safetensors"), .shard_bytes = 80));
    assert_int_equal(files_in_folder(), before + 4);

    /* a shard that is missing, of another save, or without the entry */
    assert_int_equal(rename(path_of("big-00002-of-00003.safetensors"), path_of("away")), 0);
    assert_int_equal(fdl_ckpt_load(b, path_of("big.safetensors")), FDL_E_IO);
    check_error(FDL_E_IO, "big-00002-of-00003.safetensors", "No such file");
    check_ok(fdl_ckpt_save(a, path_of("big.safetensors"), .shard_bytes = 80));
    assert_int_equal(files_in_folder(), before + 5); /* new names, as some of the old were taken */
    assert_int_equal(rename(path_of("away"), path_of("big-v2-00002-of-00003.safetensors")), 0);
    mark(b);
    assert_int_equal(fdl_ckpt_load(b, path_of("big.safetensors")), FDL_E_FORMAT);
    check_error(FDL_E_FORMAT, "big-v2-00002-of-00003.safetensors", "another time");
    assert_true(value_at(b, "a", 0) == 1000);

    /* another program's set stays */
    static const char foreign[] = "{\"weight_map\":{\"w\":\"hf-00001-of-00001.safetensors\"}}";
    check_ok(fdl_file_save(path_of("hf.safetensors.index.json"), foreign, sizeof foreign - 1));
    check_ok(fdl_file_save(path_of("hf-00001-of-00001.safetensors"), foreign, sizeof foreign - 1));
    check_ok(fdl_ckpt_save(a, path_of("hf.safetensors")));
    assert_int_equal(access(path_of("hf.safetensors.index.json"), F_OK), 0);
    check_ok(fdl_ckpt_save(a, path_of("hf.safetensors"), .shard_bytes = 10000));
    assert_int_equal(access(path_of("hf-00001-of-00001.safetensors"), F_OK), 0);
    check_ok(fdl_ckpt_save(a, path_of("hf.safetensors"), .shard_bytes = 200));
    assert_int_equal(access(path_of("hf-00001-of-00001.safetensors"), F_OK), 0);

    assert_int_equal(fdl_ckpt_save(a, path_of("x.gz"), .shard_bytes = 80), FDL_E_ARG);
    check_error(FDL_E_ARG, ".gz");
    assert_int_equal(fdl_ckpt_save(a, path_of("x"), .shard_bytes = -1), FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");
    fdl_module_free(a);
    fdl_module_free(b);
}

static void indexes_that_lie(void **state)
{
    (void)state;
    const hand_entry entries[] = {{"w", 1, {3}, 0}};
    bytes b = safetensors_bytes(1, entries);
    written(&b, path_of("part.safetensors"));
    static const struct {
        const char *text, *word;
    } cases[] = {
        {"{\"weight_map\":{\"w\":\"../part.safetensors\"}}", "no file in its folder"},
        {"{\"weight_map\":{\"w\":\"/etc/passwd\"}}", "no file in its folder"},
        {"{\"weight_map\":{\"w\":\"..\"}}", "no file in its folder"},
        {"{\"weight_map\":{\"w\":\"\"}}", "no file in its folder"},
        {"{\"weight_map\":{\"w\":5}, \"x\": 1}", "names no file"},
        {"{\"weight_map\":{\"v\":\"part.safetensors\"}}", "\"v\" is not in"},
        {"{\"weight_map\":[1, 2, 3, 4]}", "without a weight_map"},
        {"{\"something\":\"else\"}", "without a weight_map"},
        {"{\"weight_map\":{\"w\":\"part.safetensors\"}", "no JSON"},
        {"{\"weight_map\":{\"w\":\"lies.index.json\"}}", "one index can't name another"},
        {"{\"metadata\":{\"fdl.version\":\"9\"},\"weight_map\":{}}", "version 9"},
        {"{\"metadata\":{\"fdl.hash\":\"9\"},\"weight_map\":{}}", "no hash"},
        {"{\"metadata\":{\"fdl.set\":\"9\"},\"weight_map\":{\"w\":\"part.safetensors\"}}", "another time"},
        {"{\"metadata\":{\"total_size\":12},\"weight_map\":{\"w\":\"part.safetensors\"}}", NULL},
        {"{\"weight_map\":{\"w\":\"part.safetensors\"}}", NULL},
        {"{\"metadata\":[{}],\"weight_map\":{}}", NULL},
    };
    fdl_module *m = box("w:3");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_ok(fdl_file_save(path_of("lies.index.json"), cases[i].text, strlen(cases[i].text)));
        mark(m);
        fdl_status status = fdl_ckpt_load(m, path_of("lies.index.json"), .partial = true);
        if (cases[i].word) {
            assert_int_equal(status, FDL_E_FORMAT);
            check_error(FDL_E_FORMAT, "lies.index.json", cases[i].word);
            assert_true(value_at(m, "w", 0) == 1000);
        } else {
            check_ok(status);
        }
    }
    fdl_module_free(m);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_file_says_of_itself),
        cmocka_unit_test(the_header_alone_is_read),
        cmocka_unit_test(a_header_of_a_million_entries),
        cmocka_unit_test(rules_rename_keys),
        cmocka_unit_test(stars_take_as_little_as_they_can),
        cmocka_unit_test(the_sets_of_rules),
        cmocka_unit_test(a_split_attention_computes_the_same),
        cmocka_unit_test(migrating_by_name_and_shape),
        cmocka_unit_test(migrating_takes_no_other_dtype),
        cmocka_unit_test(a_migrated_graph_has_no_hash),
        cmocka_unit_test(importing_takes_no_ambiguous_shape),
        cmocka_unit_test(memory_takes_and_gives_a_checkpoint),
        cmocka_unit_test(tensors_without_a_module),
        cmocka_unit_test(many_tensors_go_to_several_files),
        cmocka_unit_test(indexes_that_lie),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
