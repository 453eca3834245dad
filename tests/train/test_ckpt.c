/* Checkpoints: round trips, files of Python's safetensors in both directions, what a load refuses, damage of
 * every kind, and that nothing changes when a load or a save fails. */
#include "folder.h"

#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "flodl/ckpt.h"

#define FIXTURE FLODL_SOURCE_DIR "/tests/fixtures/ckpt.safetensors"

/* ---- modules --------------------------------------------------------------------------------------- */

static fdl_tensor *pass(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}
static const fdl_module_ops box_ops = {.kind = "box", .forward = pass};

static fdl_tensor *ramp(fdl_shape shape, double factor, double from, fdl_dtype dtype)
{
    double v[64];
    for (int i = 0; i < 64; i++)
        v[i] = i * factor + from;
    return fdl_from_f64(v, shape, .dtype = dtype);
}

/* The tensors of make_ckpt.py: with its values, or zeros. */
static fdl_module *model(bool filled)
{
    FDL_SCOPE;
    double k = filled;
    fdl_shape row = FDL_SHAPE(4), table = FDL_SHAPE(2, 3);
    fdl_module *fc = fdl_module_new(&box_ops);
    fdl_module_param(fc, "weight", ramp(FDL_SHAPE(4, 3), k / 8, -0.5 * k, FDL_FLOAT32));
    fdl_module_param(fc, "bias", ramp(row, k / 4, 0, FDL_FLOAT32));
    fdl_module *bn = fdl_module_new(&box_ops);
    fdl_module_param(bn, "weight", ramp(row, k, k, FDL_FLOAT32));
    fdl_module_param(bn, "bias", ramp(row, -k, 0, FDL_FLOAT32));
    fdl_module_buffer(bn, "running_mean", ramp(row, k / 2, 0, FDL_FLOAT32));
    fdl_module_buffer(bn, "running_var", ramp(row, k, k / 2, FDL_FLOAT32));
    fdl_module_buffer(bn, "num_batches_tracked", fdl_full(FDL_SCALAR, 7 * k, .dtype = FDL_INT64));
    fdl_module_transient(bn, "cache", fdl_ones(FDL_SHAPE(3)));
    fdl_module *all = fdl_module_new(&box_ops);
    static const struct {
        const char *name;
        fdl_dtype dtype;
    } kinds[] = {{"f64", FDL_FLOAT64}, {"f32", FDL_FLOAT32}, {"f16", FDL_FLOAT16}, {"bf16", FDL_BFLOAT16},
                 {"i64", FDL_INT64},   {"i32", FDL_INT32},   {"i16", FDL_INT16},   {"i8", FDL_INT8}};
    for (int i = 0; i < 8; i++)
        fdl_module_buffer(all, kinds[i].name,
                          i < 4 ? ramp(table, k / 4, -2 * k, kinds[i].dtype)
                                : ramp(table, k, -2 * k, kinds[i].dtype));
    fdl_module_buffer(all, "u8", ramp(table, k, 0, FDL_UINT8));
    bool odd[6] = {0, filled, 0, filled, 0, filled};
    fdl_module_buffer(all, "bool", fdl_from_bool(odd, table));
    fdl_module_buffer(all, "empty", fdl_zeros(FDL_SHAPE(0, 3)));
    fdl_module *m = fdl_module_new(&box_ops);
    fdl_module_child(m, "fc", fdl_module_done(fc));
    fdl_module_child(m, "bn", fdl_module_done(bn));
    fdl_module_child(m, "all", fdl_module_done(all));
    m = fdl_module_done(m);
    check_some(m);
    return m;
}

/* Every parameter and buffer, in order. */
static int tensors_of(fdl_module *m, fdl_tensor **at, int cap)
{
    fdl_params *lists[] = {fdl_parameters(m), fdl_buffers(m)};
    int n = 0;
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < fdl_params_count(lists[k]); i++) {
            assert_true(n < cap);
            at[n++] = fdl_param_tensor(fdl_params_at(lists[k], i));
        }
    return n;
}

static bool equal(fdl_module *a, fdl_module *b)
{
    FDL_SCOPE;
    fdl_tensor *x[32], *y[32];
    int n = tensors_of(a, x, 32);
    if (tensors_of(b, y, 32) != n)
        return false;
    for (int i = 0; i < n; i++)
        if (!fdl_same(x[i], y[i]))
            return false;
    return true;
}

/* One parameter "w" and whatever the test needs. */
static fdl_module *one(fdl_shape shape, double value, fdl_dtype dtype)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&box_ops);
    fdl_module_param(m, "w", fdl_full(shape, value, .dtype = dtype));
    m = fdl_module_done(m);
    check_some(m);
    return m;
}

/* ---- round trips --------------------------------------------------------------------------------------- */

static void round_trip(void **state)
{
    (void)state;
    static const char *const names[] = {"a.fdl", "a.safetensors", "a.fdl.gz"};
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        fdl_module *from = model(true), *to = model(false);
        assert_false(equal(from, to));
        fdl_param_freeze(fdl_params_at(fdl_parameters(to), 0));
        fdl_tensor *leaf = fdl_param_tensor(fdl_params_at(fdl_parameters(to), 1));
        const void *data = fdl_identity(leaf);
        fdl_load_report r;
        check_ok(fdl_ckpt_save(from, path_of(names[i])));
        check_ok(fdl_ckpt_load(to, path_of(names[i]), .report = &r));
        assert_true(equal(from, to));
        assert_true(fdl_identity(leaf) == data); /* the same tensor, flags as they were */
        assert_true(fdl_requires_grad(leaf));
        assert_true(fdl_param_is_frozen(fdl_params_at(fdl_parameters(to), 0)));
        assert_int_equal(r.n_loaded, 18);
        assert_int_equal(r.n_missing + r.n_skipped + r.n_cast + r.n_mismatched, 0);
        assert_string_equal(r.loaded[0], "fc.weight");
        fdl_module_free(from);
        fdl_module_free(to);
    }
    assert_int_equal(files_in_folder(), 3);
}

static void read_python(void **state)
{
    (void)state;
    fdl_module *want = model(true), *m = model(false);
    check_ok(fdl_ckpt_load(m, FIXTURE));
    assert_true(equal(want, m));
    fdl_module_free(want);
    fdl_module_free(m);
}

static bool python_with_safetensors(const char *python)
{
    char command[512];
    snprintf(command, sizeof command, "'%s' -c 'import safetensors' 2>/dev/null", python);
    return system(command) == 0;
}

static void python_reads(void **state)
{
    (void)state;
    const char *python = getenv("FLODL_TEST_PYTHON");
    python = python ? python : "python3";
    if (!python_with_safetensors(python)) {
        print_message("skipped: %s has no safetensors; FLODL_TEST_PYTHON names another Python\n", python);
        skip();
    }
    fdl_module *m = model(true);
    const char *path = path_of("for-python.safetensors");
    check_ok(fdl_ckpt_save(m, path, .meta = FDL_META({"note", "quotes \" and \u00fcmlauts"})));
    char command[1024];
    snprintf(command, sizeof command, "'%s' '%s/tests/train/read_ckpt.py' '%s'", python, FLODL_SOURCE_DIR,
             path);
    assert_int_equal(system(command), 0);
    fdl_module_free(m);
}

/* What the format and those who map its files into memory count on, with or without Python at hand: the tensors begin at a multiple
 * of 8, each at a multiple of its elements' size, one behind the other; format, version and dtypes by their names. */
static void entries_are_aligned(void **state)
{
    (void)state;
    static const struct {
        const char *key, *dtype;
        int size;
    } want[] = {{"fc.weight", "F32", 4}, {"bn.num_batches_tracked", "I64", 8},
                {"all.f64", "F64", 8},   {"all.f16", "F16", 2},
                {"all.bf16", "BF16", 2}, {"all.i64", "I64", 8},
                {"all.i32", "I32", 4},   {"all.i16", "I16", 2},
                {"all.i8", "I8", 1},     {"all.u8", "U8", 1},
                {"all.bool", "BOOL", 1}, {"all.empty", "F32", 4}};
    fdl_module *m = model(true);
    check_ok(fdl_ckpt_save(m, path_of("aligned.fdl")));
    size_t n;
    unsigned char *bytes = fdl_file_read(path_of("aligned.fdl"), 0, &n);
    check_some(bytes);
    uint64_t length = 0;
    for (int i = 0; i < 8; i++)
        length |= (uint64_t)bytes[i] << 8 * i;
    assert_true(length % 8 == 0 && 8 + length < n);
    json_t *header = json_loadb((const char *)bytes + 8, length, 0, NULL), *entry;
    assert_non_null(header);
    json_t *meta = json_object_get(header, "__metadata__");
    assert_string_equal(json_string_value(json_object_get(meta, "format")), "pt");
    assert_string_equal(json_string_value(json_object_get(meta, "fdl.version")), "3");
    assert_int_equal(json_object_size(header), 1 + 18);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        entry = json_object_get(header, want[i].key);
        json_int_t at = json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 0));
        if (!entry || at % want[i].size)
            fail_msg("%s begins at %lld", want[i].key, (long long)at);
        assert_string_equal(json_string_value(json_object_get(entry, "dtype")), want[i].dtype);
    }
    json_int_t end = 0;
    const char *key;
    json_object_foreach(header, key, entry) /* in the order of the file */
    {
        json_t *offsets = json_object_get(entry, "data_offsets");
        if (!offsets)
            continue;
        assert_int_equal(json_integer_value(json_array_get(offsets, 0)), end);
        end = json_integer_value(json_array_get(offsets, 1));
    }
    assert_int_equal(8 + length + (uint64_t)end, n);
    json_decref(header);
    free(bytes);
    fdl_module_free(m);
}

static void dtypes(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("dtype.fdl");
    fdl_module *single = one(FDL_SHAPE(3), 1.5, FDL_FLOAT32), *wide = one(FDL_SHAPE(3), 0, FDL_FLOAT64);
    fdl_load_report r;
    check_ok(fdl_ckpt_save(single, path));
    check_ok(fdl_ckpt_load(wide, path, .report = &r));
    assert_int_equal(r.n_cast, 1);
    assert_string_equal(r.cast[0], "w");
    fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(wide, "w"));
    assert_int_equal(fdl_dtype_of(w), FDL_FLOAT64);
    assert_true(fdl_item(fdl_sum(w)) == 4.5);
    struct stat large, small;
    fdl_module *m = model(true);
    check_ok(fdl_ckpt_save(m, path));
    assert_int_equal(stat(path, &large), 0);
    check_ok(fdl_ckpt_save(m, path, .dtype = FDL_BFLOAT16)); /* integers stay what they are */
    assert_int_equal(stat(path, &small), 0);
    assert_true(small.st_size < large.st_size);
    fdl_module *back = model(false);
    check_ok(fdl_ckpt_load(back, path, .report = &r));
    assert_int_equal(r.n_cast, 10); /* all floating ones but the bfloat16 one */
    assert_true(equal(m, back));    /* these values fit bfloat16 */
    assert_int_equal(fdl_ckpt_save(m, path, .dtype = FDL_INT8), FDL_E_DTYPE);
    check_error(FDL_E_DTYPE, "int8");
    fdl_module_free(single);
    fdl_module_free(wide);
    fdl_module_free(m);
    fdl_module_free(back);
}

static void compressed(void **state)
{
    (void)state;
    fdl_module *zeros = one(FDL_SHAPE(500, 500), 0, FDL_FLOAT32),
               *ones = one(FDL_SHAPE(500, 500), 1, FDL_FLOAT32);
    struct stat st;
    check_ok(fdl_ckpt_save(zeros, path_of("z.fdl.gz"), .level = 9));
    assert_int_equal(stat(path_of("z.fdl.gz"), &st), 0);
    assert_true(st.st_size < 10000);
    assert_int_equal(rename(path_of("z.fdl.gz"), path_of("z.fdl")), 0); /* known by its content */
    check_ok(fdl_ckpt_load(ones, path_of("z.fdl")));
    assert_true(equal(zeros, ones));
    assert_int_equal(fdl_ckpt_save(zeros, path_of("z.fdl"), .level = 3), FDL_E_ARG);
    check_error(FDL_E_ARG, ".level is 3", ".gz");
    assert_int_equal(fdl_ckpt_save(zeros, path_of("z.fdl.gz"), .level = 10), FDL_E_ARG);
    check_error(FDL_E_ARG, ".level is 10");
    fdl_module_free(zeros);
    fdl_module_free(ones);
}

/* ---- what fits and what doesn't ------------------------------------------------------------------------ */

static fdl_module *pair(const char *first, const char *second, fdl_shape shape, double value)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&box_ops);
    fdl_module_param(m, first, fdl_full(shape, value));
    if (second)
        fdl_module_param(m, second, fdl_full(shape, value + 1));
    m = fdl_module_done(m);
    check_some(m);
    return m;
}

static double value_of(fdl_module *m, const char *name)
{
    FDL_SCOPE;
    return fdl_item(fdl_mean(fdl_param_tensor(fdl_params_find(fdl_parameters(m), name))));
}

static void strictness(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("strict.fdl");
    fdl_load_report r;
    fdl_module *ab = pair("a", "b", FDL_SHAPE(4, 8), 1), *bc = pair("b", "c", FDL_SHAPE(4, 8), 10);
    check_ok(fdl_ckpt_save(ab, path));
    assert_int_equal(fdl_ckpt_load(bc, path, .report = &r), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, path, "lacks c", "doesn't, a", ".rename", ".partial");
    assert_int_equal(r.n_missing, 1); /* also after a failure */
    assert_string_equal(r.missing[0], "c");
    assert_string_equal(r.skipped[0], "a");
    assert_true(value_of(bc, "b") == 10);
    assert_int_equal(fdl_ckpt_load(bc, path, .allow_unexpected = true), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "lacks c");
    check_ok(fdl_ckpt_load(bc, path, .partial = true, .report = &r));
    assert_true(value_of(bc, "b") == 2 && value_of(bc, "c") == 11);
    assert_int_equal(r.n_loaded, 1);
    assert_string_equal(r.loaded[0], "b");
    fdl_module *a = pair("a", NULL, FDL_SHAPE(4, 8), 5);
    assert_int_equal(fdl_ckpt_load(a, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "b", ".allow_unexpected");
    check_ok(fdl_ckpt_load(a, path, .allow_unexpected = true));
    assert_true(value_of(a, "a") == 1);

    fdl_module *turned = pair("a", "b", FDL_SHAPE(8, 4), 5);
    assert_int_equal(fdl_ckpt_load(turned, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "\"a\"", "[4, 8]", "[8, 4]");
    assert_int_equal(fdl_ckpt_load(turned, path, .partial = true), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "[4, 8]");
    fdl_module *as_it_was = pair("a", "b", FDL_SHAPE(8, 4), 5);
    assert_true(equal(turned, as_it_was));
    fdl_module_free(as_it_was);
    check_ok(fdl_ckpt_load(turned, path, .allow_mismatched = true, .report = &r));
    assert_int_equal(r.n_mismatched, 2);
    assert_int_equal(r.n_loaded, 0);
    assert_true(value_of(turned, "a") == 5);

    /* an empty module, and a file with nothing in it */
    fdl_module *empty = fdl_module_done(fdl_module_new(&box_ops));
    check_ok(fdl_ckpt_save(empty, path));
    check_ok(fdl_ckpt_load(empty, path));
    check_ok(fdl_ckpt_load(a, path, .partial = true, .report = &r));
    assert_int_equal(r.n_missing, 1);
    fdl_module_free(ab);
    fdl_module_free(bc);
    fdl_module_free(a);
    fdl_module_free(turned);
    fdl_module_free(empty);
}

static void many_names(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("many.fdl");
    fdl_module *m = fdl_module_new(&box_ops);
    for (int i = 0; i < 25; i++) {
        char name[16];
        snprintf(name, sizeof name, "p%d", i);
        fdl_module_param(m, name, fdl_zeros(FDL_SHAPE(1)));
    }
    m = fdl_module_done(m);
    fdl_module *empty = fdl_module_done(fdl_module_new(&box_ops));
    check_ok(fdl_ckpt_save(empty, path));
    assert_int_equal(fdl_ckpt_load(m, path), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "p0, p1", "p19 and 5 more");
    fdl_module_free(m);
    fdl_module_free(empty);
}

static void prefix(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("whole.fdl");
    fdl_module *whole = fdl_module_new(&box_ops);
    fdl_module_child(whole, "encoder", pair("w", "v", FDL_SHAPE(2), 3));
    fdl_module_child(whole, "head", pair("w", NULL, FDL_SHAPE(2), 7));
    whole = fdl_module_done(whole);
    check_ok(fdl_ckpt_save(whole, path));
    fdl_module *part = pair("w", "v", FDL_SHAPE(2), 0);
    fdl_load_report r;
    check_ok(fdl_ckpt_load(part, path, .prefix = "encoder.", .report = &r));
    assert_true(value_of(part, "w") == 3 && value_of(part, "v") == 4);
    assert_int_equal(r.n_skipped, 0);
    assert_int_equal(fdl_ckpt_load(part, path, .prefix = "head."), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, "lacks v");
    fdl_module_free(whole);
    fdl_module_free(part);
}

/* One tensor under two names is saved once; a module with two of its own gets both. */
static void tied(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("tied.fdl");
    fdl_module *m = fdl_module_new(&box_ops);
    fdl_module *in = fdl_module_child(m, "in", pair("w", NULL, FDL_SHAPE(3), 5));
    fdl_module *out = fdl_module_child(m, "out", pair("w", NULL, FDL_SHAPE(3), 6));
    check_ok(fdl_module_share_param(out, "w", fdl_module_own_param(in, "w")));
    m = fdl_module_done(m);
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 1);
    assert_int_equal(fdl_params_count(fdl_parameters(m, .every = true)), 2);
    check_ok(fdl_ckpt_save(m, path));
    fdl_strings keys;
    check_ok(fdl_ckpt_keys(path, &keys));
    assert_int_equal(keys.n, 1);
    assert_string_equal(keys.at[0], "in.w");
    fdl_module *loose = fdl_module_new(&box_ops);
    fdl_module_child(loose, "in", pair("w", NULL, FDL_SHAPE(3), 0));
    fdl_module_child(loose, "out", pair("w", NULL, FDL_SHAPE(3), 0));
    loose = fdl_module_done(loose);
    check_ok(fdl_ckpt_load(loose, path));
    assert_true(value_of(loose, "in.w") == 5 && value_of(loose, "out.w") == 5);
    static const char *const names[] = {"in", "out"};
    for (int i = 0; i < 2;
         i++) { /* a model with one of the names has all of the file, and nothing is left over */
        fdl_module *half = fdl_module_new(&box_ops);
        fdl_module_child(half, names[i], pair("w", NULL, FDL_SHAPE(3), 0));
        half = fdl_module_done(half);
        fdl_load_report r;
        check_ok(fdl_ckpt_load(half, path, .report = &r));
        assert_int_equal(r.n_loaded, 1);
        assert_int_equal(r.n_skipped, 0);
        assert_true(value_of(half, i ? "out.w" : "in.w") == 5);
        fdl_module_free(half);
    }
    /* and a file that has both names, or only the second, into the tied one */
    check_ok(fdl_ckpt_save(loose, path));
    check_ok(fdl_ckpt_load(m, path));
    fdl_module *second = fdl_module_new(&box_ops);
    fdl_module_child(second, "out", pair("w", NULL, FDL_SHAPE(3), 8));
    second = fdl_module_done(second);
    check_ok(fdl_ckpt_save(second, path));
    check_ok(fdl_ckpt_load(m, path));
    assert_true(value_of(m, "in.w") == 8);
    fdl_module_free(m);
    fdl_module_free(loose);
    fdl_module_free(second);
}

static void names_and_arguments(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("names.fdl");
    fdl_module *m = pair("a.b", NULL, FDL_SHAPE(1), 1);
    check_ok(fdl_ckpt_save(m, path));
    check_ok(fdl_ckpt_load(m, path));
    fdl_module *meta = pair("__metadata__", NULL, FDL_SHAPE(1), 1);
    assert_int_equal(fdl_ckpt_save(meta, path), FDL_E_ARG);
    check_error(FDL_E_ARG, "__metadata__");
    fdl_module *clash = fdl_module_new(&box_ops);
    fdl_module_param(clash, "a.b", fdl_zeros(FDL_SHAPE(1)));
    fdl_module_child(clash, "a", pair("b", NULL, FDL_SHAPE(1), 1));
    clash = fdl_module_done(clash);
    if (clash) {
        assert_int_equal(fdl_ckpt_save(clash, path), FDL_E_ARG);
        check_error(FDL_E_ARG, "\"a.b\"", "both");
        fdl_module_free(clash);
    }
    fdl_clear_error();
    assert_int_equal(fdl_ckpt_save(m, path, .meta = FDL_META({"format", "x"})), FDL_E_ARG);
    check_error(FDL_E_ARG, "format");
    assert_int_equal(fdl_ckpt_save(m, path, .meta = FDL_META({"fdl.hash", "x"})), FDL_E_ARG);
    check_error(FDL_E_ARG, "fdl.hash");
    assert_int_equal(fdl_ckpt_save(m, path, .meta = FDL_META({"k", "\xff"})), FDL_E_ARG);
    check_error(FDL_E_ARG, "UTF-8");
    assert_int_equal(fdl_ckpt_save(NULL, path), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_ckpt_save(m, NULL), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_ckpt_load(NULL, path), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_load_report_print(NULL, stdout), FDL_E_NULL);
    fdl_clear_error();
    assert_int_equal(fdl_ckpt_load(m, path_of("not-there")), FDL_E_IO);
    check_error(FDL_E_IO, "not-there", "No such file");
    assert_int_equal(fdl_ckpt_load(m, folder), FDL_E_IO);
    check_error(FDL_E_IO, folder, "regular");
    fdl_module_free(m);
    fdl_module_free(meta);
}

static void printed(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = path_of("printed.fdl");
    fdl_module *ab = pair("a", "b", FDL_SHAPE(2), 1), *bc = pair("b", "c", FDL_SHAPE(2), 10);
    fdl_load_report r;
    check_ok(fdl_ckpt_save(ab, path));
    check_ok(fdl_ckpt_load(bc, path, .partial = true, .report = &r));
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    check_ok(fdl_load_report_print(&r, f));
    fclose(f);
    assert_string_equal(text, "loaded (1)\n  b\nmissing (1)\n  c\nskipped (1)\n  a\n");
    free(text);
    fdl_module_free(ab);
    fdl_module_free(bc);
}

/* ---- damage -------------------------------------------------------------------------------------------- */

/* Writes a file of this header, padded by spaces to `padded` bytes if that is larger, and data bytes behind
 * it. */
static const char *write_file(const char *header, size_t data)
{
    const char *path = path_of("damaged");
    size_t n = strlen(header);
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)n >> 8 * i);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(length, 1, 8, f);
    fwrite(header, 1, n, f);
    for (size_t i = 0; i < data; i++)
        fputc(0, f);
    fclose(f);
    return path;
}

#define HEAD(text) text, sizeof text - 1
#define W "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void damage(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *words[3];
    } cases[] = {
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]", 8, {"no JSON"}},
        {"[1,2]", 8, {"bad magic"}},
        {"{\"w\":5}", 8, {"\"w\"", "lacks"}},
        {"{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, {"\"w\"", "lacks dtype"}},
        {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}",
         8,
         {"\"w\"", "unknown dtype", "F8_E4M3"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}",
         8,
         {"\"w\"", "has 8 bytes", "need 12"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, {"\"w\"", "extent"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, {"\"w\"", "extent"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,8]}}",
         8,
         {"\"w\"", "no memory"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[9223372036854775807],\"data_offsets\":[0,8]}}",
         8,
         {"\"w\"", "no memory"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}",
         8,
         {"integer"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}",
         8,
         {"\"w\"", "12 dims"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, {"\"w\"", "data_offsets"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, {"\"w\"", "data_offsets"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, {"\"w\"", "data_offsets"}},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, {"\"w\"", "gap"}},
        {W ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, {"\"v\"", "overlaps"}},
        {W ",\"v\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[12,16]}}", 16, {"\"v\"", "gap"}},
        {W ",\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16, {"duplicate", "w"}},
        {W "}", 7, {"truncated", "\"w\""}},
        {W "}", 9, {"1 bytes behind"}},
        {"{\"\xff\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, {"no JSON", "0xff"}},
        {"{\"__metadata__\":5,\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
         8,
         {"__metadata__"}},
        {"{\"__metadata__\":{\"a\":1}}", 0, {"__metadata__", "\"a\""}},
        {"{\"__metadata__\":{\"fdl.version\":\"99\"}}", 0, {"version 99", "3"}},
        {"{\"__metadata__\":{\"fdl.version\":\"4\"}}", 0, {"version 4", "up to 3"}},
        {"{\"__metadata__\":{\"fdl.version\":\"0\"}}", 0, {"\"0\"", "no version"}},
        {"{\"__metadata__\":{\"fdl.version\":\"new\"}}", 0, {"\"new\""}},
        {"{\"__metadata__\":{\"fdl.hash\":\"acb7\"}}", 0, {"fdl.hash", "\"acb7\"", "no hash"}},
        {"{\"__metadata__\":{\"fdl.hash\":"
         "\"gcb7b2d30614ab988d3eadb7383dc659f54d87a575b931d99ef206a619b2954b\"}}",
         0,
         {"fdl.hash", "\"gcb7", "no hash"}},
        {"{\"__metadata__\":{\"fdl.aliases\":\"[\"}}", 0, {"fdl.aliases"}},
        {"{\"w\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, {"truncated"}},
        {"", 20, {"not a checkpoint", "bad magic"}},
    };
    fdl_module *m = one(FDL_SHAPE(2), 3, FDL_FLOAT32), *before = one(FDL_SHAPE(2), 3, FDL_FLOAT32);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = write_file(cases[i].header, cases[i].data);
        assert_int_equal(fdl_ckpt_load(m, path, .partial = true), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, path, cases[i].words[0], cases[i].words[1] ? cases[i].words[1] : "",
                    cases[i].words[2] ? cases[i].words[2] : "");
        assert_true(equal(m, before));
    }
    check_ok(fdl_ckpt_load(m, write_file(W "}   ", 8))); /* the text itself is right */
    assert_false(equal(m, before));

    static const struct {
        const char *bytes;
        size_t n;
        const char *word;
    } heads[] = {{HEAD(""), "truncated"},
                 {HEAD("abc"), "truncated"},
                 {HEAD("\0\0\0\0\0\0\0\x80{"), "bad magic"},
                 {HEAD("\xff\xff\xff\xff\xff\xff\xff\xff{"), "bad magic"},
                 {HEAD("\x01\0\0\x7f\0\0\0\0{"), "bad magic"},
                 {HEAD("\x40\0\0\0\0\0\0\0{"), "truncated"},
                 {HEAD("\x1f\x8b and no gzip behind it"), "gzip"}};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        check_ok(fdl_file_save(path_of("head"), heads[i].bytes, heads[i].n));
        assert_int_equal(fdl_ckpt_load(m, path_of("head")), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, "head", heads[i].word);
        assert_true(value_of(m, "w") == 0); /* as it was loaded before */
    }
    fdl_module_free(m);
    fdl_module_free(before);
}

static void bad_boolean(void **state)
{
    (void)state;
    FDL_SCOPE;
    const char *path = write_file("{\"w\":{\"dtype\":\"BOOL\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1);
    FILE *f = fopen(path, "ab");
    fputc(2, f);
    fclose(f);
    fdl_module *m = one(FDL_SHAPE(2), 3, FDL_FLOAT32);
    assert_int_equal(fdl_ckpt_load(m, path), FDL_E_FORMAT);
    check_error(FDL_E_FORMAT, "\"w\"", "boolean");
    assert_true(value_of(m, "w") == 3);
    fdl_module_free(m);
}

/* Thousands of changed and shortened files: an error and an untouched module, or a load; never a crash. */
static void mutations(void **state)
{
    (void)state;
    static const char *const files[] = {"base.fdl", "base.fdl.gz"};
    fdl_module *full = model(true), *zero = model(false), *m = model(false);
    fdl_rng rng = fdl_rng_seed(7);
    for (int k = 0; k < 2; k++) {
        size_t n;
        check_ok(fdl_ckpt_save(full, path_of(files[k])));
        unsigned char *good = fdl_file_read(path_of(files[k]), 0, &n), *bad = malloc(n + 16);
        check_some(good);
        assert_non_null(bad);
        int failed = 0, loaded = 0;
        for (int i = 0; i < 2500; i++) {
            size_t size = n;
            memcpy(bad, good, n);
            if (i < (int)n && i % 2 == 0) {
                size = (size_t)i; /* every second length of the beginning */
            } else if (i % 5 == 1) {
                size = fdl_rng_below(&rng, n);
            } else {
                for (uint64_t c = 1 + fdl_rng_below(&rng, 3); c; c--) {
                    size_t at = fdl_rng_below(&rng, i % 3 ? n : n < 64 ? n : 64);
                    if (i % 4 == 0)
                        bad[at] ^= (unsigned char)(1u << fdl_rng_below(&rng, 8));
                    else
                        bad[at] = "0123456789[]{}:,\"-e. \0\xff"[fdl_rng_below(&rng, 23)];
                }
            }
            unlink(path_of("mutant")); /* writing over a file may wait for the disk */
            FILE *f = fopen(path_of("mutant"), "wb");
            assert_non_null(f);
            assert_int_equal(fwrite(bad, 1, size, f), size);
            assert_int_equal(fclose(f), 0);
            fdl_status status = fdl_ckpt_load(m, path_of("mutant"));
            if (status == FDL_OK) {
                loaded++;
                fdl_module_free(m);
                m = model(false);
            } else {
                failed++;
                if (status != FDL_E_FORMAT && (k == 1 || status != FDL_E_MISMATCH)) /* gzip has a check sum */
                    fail_msg("mutant %d: %s: %s", i, fdl_status_name(status), fdl_last_error()->message);
                fdl_clear_error();
                if (!equal(m, zero))
                    fail_msg("mutant %d changed the module and failed", i);
            }
        }
        assert_true(failed > 1000);
        assert_true(k == 1 || loaded > 50); /* plain files have no check sum: values may differ */
        free(good);
        free(bad);
    }
    fdl_module_free(full);
    fdl_module_free(zero);
    fdl_module_free(m);
}

/* ---- names that aren't for safetensors ------------------------------------------------------------------ */

static void the_names_of_torch_save_are_refused(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = model(true);
    fdl_optim *opt = fdl_optim_sgd(fdl_parameters(m));
    fdl_snapshot *s = fdl_ckpt_snapshot(m);
    fdl_worker *w = fdl_worker_new();
    check_some(s && w ? m : NULL);
    int before = files_in_folder();
    static const char *const files[] = {"w.pt", "w.pth", "w.pt.gz", "w.pth.gz"};
    for (int i = 0; i < 4; i++) {
        const char *path = path_of(files[i]), *end = files[i] + 1;
        assert_int_equal(fdl_ckpt_save(m, path), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_ckpt_save:", path, end, "torch.save's format is read, not written",
                    ".safetensors", ".fdl");
        assert_int_equal(fdl_ckpt_save_optim(opt, path), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_ckpt_save_optim:", end);
        assert_int_equal(fdl_ckpt_save_tensors(path, FDL_NAMES("x"), FDL_LIST(fdl_vec(1.0))), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_ckpt_save_tensors:", end);
        assert_int_equal(fdl_snapshot_save(s, path), FDL_E_ARG);
        check_error(FDL_E_ARG, "fdl_snapshot_save:", end);
        assert_int_equal(fdl_ckpt_save_async(w, m, path), FDL_E_ARG); /* at once, not from the worker */
        check_error(FDL_E_ARG, "fdl_ckpt_save_async:", end);
    }
    check_ok(fdl_worker_wait(w));
    assert_int_equal(files_in_folder(), before);
    check_ok(fdl_ckpt_save(m, path_of("pt"))); /* no ending */
    check_ok(fdl_ckpt_save(m, path_of("w.pt.safetensors")));
    fdl_worker_free(w);
    fdl_snapshot_free(s);
    fdl_optim_free(opt);
    fdl_module_free(m);
}

/* ---- writing that fails -------------------------------------------------------------------------------- */

static void full_disk(void **state)
{
    (void)state;
    static const char *const files[] = {"disk.fdl", "disk.fdl.gz"};
    for (int k = 0; k < 2; k++) {
        FDL_SCOPE;
        const char *path = path_of(files[k]);
        fdl_module *m = fdl_module_new(&box_ops);
        fdl_module_param(m, "w", fdl_rand(FDL_SHAPE(300, 300)));
        m = fdl_module_done(m);
        check_ok(fdl_ckpt_save(m, path));
        fdl_tensor *w = fdl_param_tensor(fdl_module_own_param(m, "w")), *before = fdl_clone(w);
        check_ok(fdl_param_set(fdl_module_own_param(m, "w"), fdl_rand(FDL_SHAPE(300, 300))));
        int files_before = files_in_folder();
        signal(SIGXFSZ, SIG_IGN);
        struct rlimit was, small;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
        for (rlim_t limit = 0; limit < 300000; limit += 70001) {
            small = (struct rlimit){limit, was.rlim_max};
            assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
            fdl_status status = fdl_ckpt_save(m, path);
            setrlimit(RLIMIT_FSIZE, &was);
            assert_int_equal(status, FDL_E_IO);
            check_error(FDL_E_IO, path);
        }
        assert_int_equal(files_in_folder(), files_before); /* nothing left behind, the old file whole */
        check_ok(fdl_ckpt_load(m, path));
        assert_true(fdl_same(w, before));
        assert_int_equal(fdl_ckpt_save(m, "/nowhere/at/all.fdl"), FDL_E_IO);
        check_error(FDL_E_IO, "/nowhere/at/all.fdl");
        assert_int_equal(fdl_ckpt_save(m, "/proc/self/file.fdl"), FDL_E_IO); /* nobody may write there */
        check_error(FDL_E_IO, "/proc/self/file.fdl");
        fdl_module_free(m);
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(read_python),
        cmocka_unit_test(python_reads),
        cmocka_unit_test(entries_are_aligned),
        cmocka_unit_test(dtypes),
        cmocka_unit_test(compressed),
        cmocka_unit_test(strictness),
        cmocka_unit_test(many_names),
        cmocka_unit_test(prefix),
        cmocka_unit_test(tied),
        cmocka_unit_test(names_and_arguments),
        cmocka_unit_test(printed),
        cmocka_unit_test(damage),
        cmocka_unit_test(bad_boolean),
        cmocka_unit_test(mutations),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(the_names_of_torch_save_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
