/* Files of torch.save: state_dicts in every shape that PyTorch's users have, and what is refused: nothing of a file is
 * executed. */
#include "ckpt_files.h"

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

/* Whether this build reads zip files; if not, that it says so. */
static bool can_read(void)
{
    static int known;
    if (!known) {
        fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_tensor.pt"));
        known = info ? 1 : -1;
        fdl_ckpt_close(info);
        if (known < 0) {
            check_error(FDL_E_UNSUPPORTED, "libzip-dev");
            print_message("this build has no libzip: files of torch.save are refused\n");
        }
    }
    return known > 0;
}
#define need_zip()       \
    do {                 \
        if (!can_read()) \
            skip();      \
    } while (0)

static fdl_module *sequential(void)
{
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 8), fdl_nn_gelu(), fdl_nn_layer_norm(8), fdl_nn_batch_norm(8),
                             fdl_flow(fdl_nn_linear(8, 8), fdl_nn_relu()), fdl_nn_linear(8, 2));
    check_some(g);
    return g;
}

static void a_training_file_loads_by_prefix(void **state)
{
    (void)state;
    need_zip();
    FDL_SCOPE;
    fdl_module *g = sequential(), *other = sequential();
    fdl_load_report r;
    assert_int_equal(fdl_ckpt_load(g, FIXTURE("ckpt_training.pt")), FDL_E_MISMATCH);
    check_error(FDL_E_MISMATCH, ".prefix = \"model.\"");
    check_ok(fdl_ckpt_load(g, FIXTURE("ckpt_training.pt"), .prefix = "model.", .report = &r));
    assert_int_equal(r.n_loaded, 13);
    assert_int_equal(r.n_skipped + r.n_missing + r.n_cast, 0);
    check_ok(fdl_ckpt_load(other, FIXTURE("ckpt_sequential.safetensors"), .prefix = "model."));
    assert_true(same_values(g, other));
    fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_training.pt"));
    check_some(info);
    check_ok(fdl_eval(g));
    fdl_tensor *x = fdl_to(fdl_ckpt_get(info, "x"), .device = fdl_default_device());
    fdl_tensor *y = fdl_to(fdl_ckpt_get(info, "y"), .device = fdl_default_device());
    check_some(y);
    assert_true(fdl_allclose(fdl_forward(g, x), y, .rtol = 1e-5, .atol = 1e-6));
    assert_int_equal(fdl_ckpt_format(info), 0);
    assert_string_equal(fdl_ckpt_meta(info, "epoch"), "3");
    assert_string_equal(fdl_ckpt_meta(info, "best"), "0.25");
    assert_string_equal(fdl_ckpt_meta(info, "name"), "a \u00fcml\u00e4ut");
    assert_string_equal(fdl_ckpt_meta(info, "done"), "false");
    assert_string_equal(fdl_ckpt_meta(info, "steps"), "1099511627776");
    assert_null(fdl_ckpt_meta(info, "nothing"));
    assert_string_equal(fdl_ckpt_meta(info, "optimizer.param_groups.0.lr"), "0.001");
    fdl_tensor *average = fdl_ckpt_get(info, "optimizer.state.0.exp_avg");
    check_some(average);
    assert_true(fdl_shape_eq(fdl_shape_of(average), FDL_SHAPE(8, 3)));
    fdl_ckpt_close(info);
    fdl_module_free(g);
    fdl_module_free(other);
}

/* Tensor `name` has this shape and these values, first, first + step, ... or those of the array. */
static void check_tensor_(const fdl_ckpt_info *info, const char *name, fdl_dtype dtype, fdl_shape shape,
                          const double *want, int line)
{
    FDL_SCOPE;
    fdl_tensor *t = fdl_ckpt_get(info, name);
    double got[64];
    check_some_(t, name, __FILE__, line);
    if (!fdl_shape_eq(fdl_shape_of(t), shape) || fdl_dtype_of(t) != dtype || !fdl_is_contiguous(t)) {
        char text[128];
        print_error("%s:%d: \"%s\" is %s\n", __FILE__, line, name, fdl_describe(t, text, sizeof text));
        _fail(__FILE__, line);
    }
    check_ok(fdl_to_f64(t, got, fdl_numel(t)));
    for (int64_t i = 0; i < fdl_numel(t); i++)
        if (got[i] != want[i]) {
            print_error("%s:%d: \"%s\"[%d] is %g, not %g\n", __FILE__, line, name, (int)i, got[i], want[i]);
            _fail(__FILE__, line);
        }
}
#define check_tensor(name, dtype, shape, ...) \
    check_tensor_(info, name, dtype, shape, (const double[]){__VA_ARGS__}, __LINE__)

static void views_dtypes_and_byte_orders(void **state)
{
    (void)state;
    need_zip();
    static const char *const files[] = {FIXTURE("ckpt_views.pt"), FIXTURE("ckpt_views_protocol4.pt"),
                                        FIXTURE("ckpt_views_big.pt"), FIXTURE("ckpt_views_deflated.pt")};
    for (int i = 0; i < 4; i++) {
        fdl_ckpt_info *info = fdl_ckpt_open(files[i]);
        check_some(info);
        assert_int_equal(fdl_ckpt_count(info), 22);
        assert_string_equal(fdl_ckpt_name(info, 1), "transposed");
        assert_true(fdl_shape_eq(fdl_ckpt_shape(info, 1), FDL_SHAPE(6, 4)));
        check_tensor("base", FDL_FLOAT32, FDL_SHAPE(4, 6), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                     15, 16, 17, 18, 19, 20, 21, 22, 23);
        check_tensor("transposed", FDL_FLOAT32, FDL_SHAPE(6, 4), 0, 6, 12, 18, 1, 7, 13, 19, 2, 8, 14, 20, 3,
                     9, 15, 21, 4, 10, 16, 22, 5, 11, 17, 23);
        check_tensor("row", FDL_FLOAT32, FDL_SHAPE(6), 12, 13, 14, 15, 16, 17);
        check_tensor("column", FDL_FLOAT32, FDL_SHAPE(4), 1, 7, 13, 19);
        check_tensor("window", FDL_FLOAT32, FDL_SHAPE(2, 3), 8, 9, 10, 14, 15, 16);
        check_tensor("expanded", FDL_FLOAT32, FDL_SHAPE(2, 3), 0, 1, 2, 0, 1, 2);
        check_tensor("every_other", FDL_FLOAT32, FDL_SHAPE(12), 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22);
        check_tensor("empty", FDL_FLOAT32, FDL_SHAPE(0, 3), 0);
        check_tensor("scalar", FDL_FLOAT32, FDL_SCALAR, 5);
        check_tensor("tied_a", FDL_FLOAT32, FDL_SHAPE(3), 1, 2, 3);
        check_tensor("tied_b", FDL_FLOAT32, FDL_SHAPE(3), 1, 2, 3);
        check_tensor("channels_last", FDL_FLOAT32, FDL_SHAPE(1, 2, 2, 4), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
                     11, 12, 13, 14, 15);
        check_tensor("float64", FDL_FLOAT64, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("float16", FDL_FLOAT16, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("bfloat16", FDL_BFLOAT16, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("int64", FDL_INT64, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("int32", FDL_INT32, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("int16", FDL_INT16, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("int8", FDL_INT8, FDL_SHAPE(6), -2, -1, 0, 1, 2, 3);
        check_tensor("uint8", FDL_UINT8, FDL_SHAPE(6), 0, 1, 2, 3, 4, 5);
        check_tensor("bool", FDL_BOOL, FDL_SHAPE(3), 1, 0, 1);
        fdl_ckpt_close(info);
    }
}

static void a_tensor_alone_and_lists(void **state)
{
    (void)state;
    need_zip();
    fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_tensor.pt"));
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), 1);
    check_tensor("tensor", FDL_FLOAT32, FDL_SHAPE(6), 12, 13, 14, 15, 16, 17);
    fdl_ckpt_close(info);
    info = fdl_ckpt_open(FIXTURE("ckpt_list.pt"));
    check_some(info);
    assert_int_equal(fdl_ckpt_count(info), 2);
    check_tensor("0", FDL_FLOAT32, FDL_SHAPE(2), 0, 1);
    check_tensor("1.deep.0", FDL_FLOAT32, FDL_SHAPE(2), 2, 3);
    fdl_ckpt_close(info);
}

static void memory_holds_a_zip_file_too(void **state)
{
    (void)state;
    need_zip();
    FDL_SCOPE;
    fdl_module *g = sequential(), *other = sequential();
    size_t n;
    unsigned char *at = fdl_file_read(FIXTURE("ckpt_training.pt"), 0, &n);
    check_some(at);
    bytes b = {.at = at, .n = n};
    check_ok(fdl_ckpt_load_from(g, ((fdl_reader){read_bytes, &b}), .prefix = "model."));
    check_ok(fdl_ckpt_load(other, FIXTURE("ckpt_training.pt"), .prefix = "model."));
    assert_true(same_values(g, other));
    free(at);
    fdl_module_free(g);
    fdl_module_free(other);
}

static void what_is_no_state_dict_is_refused_by_name(void **state)
{
    (void)state;
    need_zip();
    static const struct {
        const char *file, *words[2];
    } cases[] = {
        {FIXTURE("ckpt_refused_model.pt"), {"torch.nn.modules.container.Sequential", "state_dict"}},
        {FIXTURE("ckpt_refused_complex.pt"), {"\"w\"", "complex64"}},
        {FIXTURE("ckpt_refused_uint16.pt"), {"\"w\"", "uint16"}},
        {FIXTURE("ckpt_refused_code.pt"), {"posix.system", "nothing that a file brings is executed"}},
        {FIXTURE("ckpt_refused_old.pt"), {"pickle", "since 1.6"}}};
    fdl_module *g = fdl_nn_linear(2, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(fdl_ckpt_load(g, cases[i].file, .partial = true), FDL_E_FORMAT);
        check_error(FDL_E_FORMAT, cases[i].file, cases[i].words[0], cases[i].words[1]);
    }
    assert_int_not_equal(access("/tmp/flodl-was-here", F_OK), 0);
    fdl_module_free(g);
}

/* ---- from PyTorch and back ---------------------------------------------------------------------------- */

static fdl_tensor *pass(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

/* fixtures/ckpt_modules.py's. */
static fdl_module *modules(void)
{
    static const fdl_module_ops ops = {.kind = "modules", .forward = pass};
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_child(m, "embedding", fdl_nn_embedding(10, 8));
    fdl_module_child(m, "attention", fdl_nn_multihead_attention(8, 2, .batch_first = true));
    fdl_module_child(m, "lstm", fdl_nn_lstm(8, 4, .layers = 2, .bidirectional = true, .batch_first = true));
    fdl_module_child(m, "norm", fdl_nn_layer_norm(8));
    fdl_module_child(m, "conv", fdl_nn_conv2d(4, 3, 3, .no_bias = true));
    fdl_module_child(m, "bn", fdl_nn_batch_norm2d(3));
    fdl_module_child(m, "head", fdl_nn_linear(8, 2));
    m = fdl_module_done(m);
    check_some(m);
    return m;
}

/* The file without the time at which it was saved. */
static unsigned char *without_time(const char *path, size_t *n)
{
    unsigned char *at = fdl_file_read(path, 0, n);
    check_some(at);
    unsigned char *time = memmem(at, *n, "\"fdl.saved_at\":\"", 16);
    assert_non_null(time);
    memset(time + 16, '0', 20);
    return at;
}

/* Runs a script of this directory on a file, where there is a Python that can. */
static void ask_pytorch(const char *script, const char *path)
{
    char command[1200];
    const char *python = getenv("FLODL_TEST_PYTHON");
    python = python ? python : "python3";
    snprintf(command, sizeof command, "'%s' -c 'import torch, safetensors' 2>/dev/null", python);
    if (system(command) != 0) {
        print_message("%s has no torch with safetensors: PyTorch itself isn't asked\n", python);
        return;
    }
    snprintf(command, sizeof command, "'%s' -B '%s/tests/train/%s' '%s'", python, FLODL_SOURCE_DIR, script,
             path);
    assert_int_equal(system(command), 0);
}

/* PyTorch's file, loaded and saved, is byte for byte the one of which round_trip.py has found that PyTorch loads it to the
 * same values; where there is a Python with torch, it looks again. */
static void from_pytorch_and_back(void **state)
{
    (void)state;
    need_zip();
    fdl_module *m = modules();
    char path[512];
    snprintf(path, sizeof path, "%s", path_of("back.safetensors"));
    fdl_load_report r;
    FDL_SCOPE;
    check_ok(fdl_ckpt_load(m, FIXTURE("ckpt_modules.pt"), .report = &r));
    assert_int_equal(r.n_loaded, 31);
    assert_int_equal(r.n_cast, 0);
    check_ok(fdl_ckpt_save(m, path));
    size_t n, k;
    unsigned char *got = without_time(path, &n),
                  *want = without_time(FIXTURE("ckpt_modules_flodl.safetensors"), &k);
    assert_int_equal(n, k);
    assert_memory_equal(got, want, n);
    free(got);
    free(want);
    fdl_module_free(m);
    ask_pytorch("round_trip.py", path);
}

/* safetensors.torch.save_model's file of a tied weight, which has one of its names, and load_model of ours. */
static void a_tied_weight_from_pytorch_and_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *embed = fdl_nn_embedding(5, 4);
    fdl_module *out = fdl_nn_linear(4, 5, .no_bias = true, .tie = fdl_module_own_param(embed, "weight"));
    fdl_module *m = fdl_flow(embed, fdl_flow_tag("embed"), out, fdl_flow_tag("out"));
    check_some(m);
    check_ok(fdl_ckpt_load(m, FIXTURE("ckpt_tied.safetensors")));
    fdl_param *p = fdl_params_at(fdl_parameters(m), 0);
    fdl_tensor *want = fdl_sub(fdl_div(fdl_reshape(fdl_arange(0, 20, 1), FDL_SHAPE(5, 4)), 8), 1);
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 1);
    assert_true(fdl_same(fdl_param_tensor(p), want));
    check_ok(fdl_param_set(p, fdl_mul(want, 2)));
    char path[512];
    snprintf(path, sizeof path, "%s", path_of("tied.safetensors"));
    check_ok(fdl_ckpt_save(m, path));
    fdl_module_free(m);
    ask_pytorch("tied.py", path);
}

/* ---- pickles by hand --------------------------------------------------------------------------------- */

static const char *pickled(const char *pickle, size_t n, const char *path)
{
    static const float values[4] = {1, 2, 3, 4};
    zip_maker z = {0};
    add_file(&z, "a/data.pkl", pickle, n);
    add_file(&z, "a/data/0", values, sizeof values);
    return end_zip(&z, path);
}

#define T "ctorch._utils\n_rebuild_tensor_v2\n("
#define S(type, n)                                 \
    "(X\7\0\0\0storagectorch\n" type "\nX\1\0\0\0" \
    "0X\3\0\0\0cpuK" n "tQ"
#define REST \
    "\x89"   \
    "ccollections\nOrderedDict\n)RtR"
#define W(tensor) "\x80\2}(X\1\0\0\0w" tensor "u."
#define P(text) text, sizeof text - 1

static void pickles_by_hand(void **state)
{
    (void)state;
    need_zip();
    static const struct {
        const char *pickle;
        size_t n;
        const char *word; /* of the error; NULL: it is good */
    } cases[] = {
        {P(W(T S("FloatStorage", "\4") "K\0K\2K\2\x86K\2K\1\x86" REST)), NULL},
        {P(W(T S("FloatStorage", "\4") "K\1K\3\x85K\1\x85" REST)), NULL},
        {P(W(T S("FloatStorage", "\4") "K\0K\3\x85K\0\x85" REST)), NULL},
        {P(W(T S("FloatStorage", "\4") "K\5K\0\x85K\1\x85" REST)), "inside its storage"},
        {P(W(T S("FloatStorage", "\4") "K\1K\4\x85K\1\x85" REST)), "inside its storage"},
        {P(W(T S("FloatStorage", "\4") "K\0K\3\x85K\2\x85" REST)), "inside its storage"},
        {P(W(T S("FloatStorage",
                 "\4") "K\0\x8a\4\xff\xff\xff\x7f\x8a\4\xff\xff\xff\x7f\x86\x8a\4\xff\xff\xff\x7f"
                       "\x8a\4\xff\xff\xff\x7f\x86" REST)),
         "no memory"},
        {P(W(T S("FloatStorage", "\4") "K\0K\2\x85\x8a\x8\xff\xff\xff\xff\xff\xff\xff\x7f\x85" REST)),
         "inside its storage"},
        {P(W(T S("FloatStorage", "\4") "K\0\x8a\1\xff\x85K\1\x85" REST)), "not described"},
        {P(W(T S("FloatStorage", "\4") "K\0K\2\x85\x8a\1\xff\x85" REST)), "not described"},
        {P(W(T S("FloatStorage", "\4") "\x8a\1\xffK\2\x85K\1\x85" REST)), "not described"},
        {P(W(T S("FloatStorage", "\4") "K\0K\2\x85)" REST)), "not described"},
        {P(W(T S("FloatStorage", "\5") "K\0K\2\x85K\1\x85" REST)), "storage of 16 bytes, but needs 20"},
        {P(W(T S("DoubleStorage", "\2") "K\0K\2\x85K\1\x85" REST)), NULL},
        {P(W(T S("OddStorage", "\2") "K\0K\2\x85K\1\x85" REST)), "torch.OddStorage"},
        {P(W(T S("FloatStorage", "\x84") "K\0K\2\x85K\1\x85" REST)), "bytes, but needs"},
        {P(W("ctorch._utils\n_rebuild_tensor_v3\n(" S("FloatStorage", "\4") "K\0K\2\x85K\1\x85\x89)tR")),
         NULL},
        {P(W("cos\nsystem\nX\1\0\0\0x\x85R")), "needs os.system"},
        {P(W("cbuiltins\neval\nX\1\0\0\0x\x85R")), "needs builtins.eval"},
        {P(W("X\2\0\0\0osX\6\0\0\0system\x93)R")), "needs os.system"},
        {P(W("(ios\nsystem\n")), "opcode INST"},
        {P(W("ccollections\nOrderedDict\n)\x81")), "opcode NEWOBJ"},
        {P(W("\x82\1")), "opcode EXT1"},
        {P(W("(o")), "opcode OBJ"},
        {P(W("Px\n")), "opcode PERSID"},
        {P(W("\x8f")), "opcode EMPTY_SET"},
        {P(W("C\1x")), "opcode SHORT_BINBYTES"},
        {P(W("\x97")), "opcode NEXT_BUFFER"},
        {P(W("\xff")), "opcode 0xff"},
        {P(W("0")), "opcode POP"},
        {P(W("I5\n")), "opcode INT"},
        {P("\x80\6N."), "protocol"},
        {P("\x80\1N."), "protocol"},
        {P("\x80\2"), "truncated"},
        {P("\x80\2}X\xff\xff\xff\xff."), "truncated"},
        {P("\x80\2X\1\0\0\0\xff."), "UTF-8"},
        {P("\x80\2\x8a\x09\1\1\1\1\1\1\1\1\1."), "64 bits"},
        {P("\x80\2Nh\7."), "memo"},
        {P("\x80\2Nr\xff\xff\xff\x7f."), "memo"},
        {P("\x80\2N}."), "left over"},
        {P("\x80\2(N."), "left over"},
        {P("\x80\2."), "left over"},
        {P("\x80\2t."), "didn't begin"},
        {P("\x80\2\x86."), "more from its stack"},
        {P("\x80\2N\x86."), "more from its stack"},
        {P("\x80\2N(\x85."), "more from its stack"},
        {P("\x80\2s."), "no dict"},
        {P("\x80\2NNNs."), "no dict"},
        {P("\x80\2}NNa."), "no list"},
        {P("\x80\2}(Nu."), "key without a value"},
        {P("\x80\2Nb."), "more from its stack"},
        {P("\x80\2]}b."), "BUILD"},
        {P("\x80\2N)R."), "calls"},
        {P("\x80\2NQ."), "storage"},
        {P("\x80\2(X\7\0\0\0storageNNNNtQ."), "storage"},
        {P("\x80\2}(NK\1u."), "neither text nor"},
        {P("\x80\2]q\0h\0a."), "holds itself"},
        {P("\x80\2}(X\1\0\0\0"
           "aN"
           "X\1\0\0\0"
           "aK\1u."),
         NULL},
        {P("\x80\2ctorch._utils\n_rebuild_parameter\nN\x85R."), "without a tensor"},
        {P("\x80\2}(X\3\0\0\0"
           "devctorch\ndevice\nX\3\0\0\0"
           "cpu\x85RX\1\0\0\0tctorch\nfloat32\nu."),
         NULL},
    };
    fdl_module *m = fdl_nn_linear(2, 2);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *path = pickled(cases[i].pickle, cases[i].n, path_of("hand.pt"));
        fdl_ckpt_info *info = fdl_ckpt_open(path);
        if (!cases[i].word) {
            check_some(info);
            FDL_SCOPE;
            for (int k = 0; k < fdl_ckpt_count(info); k++)
                check_some(fdl_ckpt_tensor(info, k));
        } else {
            if (info)
                fail_msg("pickle %zu is taken, though: %s", i, cases[i].word);
            check_error(FDL_E_FORMAT, path, cases[i].word);
        }
        fdl_ckpt_close(info);
        check_ok(fdl_error_pending());
    }
    fdl_module_free(m);
}

/* A dict of which each holds the one before twice: few bytes, 2^40 places. */
static void what_grows_without_end_is_refused(void **state)
{
    (void)state;
    need_zip();
    bytes b = {0};
    put(&b, "\x80\2Nq\0", 5);
    for (int i = 0; i < 40; i++) {
        unsigned char pair[] = {'h', (unsigned char)i,      'h', (unsigned char)i, 0x86,
                                'q', (unsigned char)(i + 1)};
        put(&b, pair, sizeof pair);
        (void)pair;
    }
    /* all but the last go into one tuple more, so that one is left */
    bytes p = {0};
    put(&p, "\x80\2(", 3);
    put(&p, b.at + 2, b.n - 2);
    put(&p, "t.", 2);
    zip_maker z = {0};
    add_file(&z, "a/data.pkl", p.at, p.n);
    const char *path = end_zip(&z, path_of("bomb.pt"));
    assert_null(fdl_ckpt_open(path));
    check_error(FDL_E_FORMAT, "nested too deep");
    free(b.at);
    free(p.at);
}

static void damaged_zip_files(void **state)
{
    (void)state;
    need_zip();
    size_t n;
    unsigned char *good = fdl_file_read(FIXTURE("ckpt_tensor.pt"), 0, &n);
    check_some(good);
    for (size_t k = 4; k < n; k += 53) { /* cut short */
        bytes b = {0};
        put(&b, good, k);
        assert_null(fdl_ckpt_open(written(&b, path_of("cut.pt"))));
        check_error(FDL_E_FORMAT, "cut.pt");
    }
    /* one bit of a tensor: the check sum */
    fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_tensor.pt"));
    check_some(info);
    fdl_ckpt_close(info);
    float first = 12;
    unsigned char *at = memmem(good, n, &first, sizeof first);
    assert_non_null(at);
    *at ^= 1;
    bytes b = {0};
    put(&b, good, n);
    info = fdl_ckpt_open(written(&b, path_of("bit.pt")));
    check_some(info);
    assert_null(fdl_ckpt_tensor(info, 0));
    check_error(FDL_E_FORMAT, "bit.pt", "CRC");
    fdl_ckpt_close(info);
    free(good);
    check_ok(fdl_file_save(path_of("head"), "PK\3\4 and so on", 14));
    assert_null(fdl_ckpt_open(path_of("head")));
    check_error(FDL_E_FORMAT, "no whole zip file");
    zip_maker z = {0};
    add_file(&z, "a/other", "x", 1);
    assert_null(fdl_ckpt_open(end_zip(&z, path_of("other.zip"))));
    check_error(FDL_E_FORMAT, "data.pkl");
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_training_file_loads_by_prefix),
        cmocka_unit_test(views_dtypes_and_byte_orders),
        cmocka_unit_test(a_tensor_alone_and_lists),
        cmocka_unit_test(memory_holds_a_zip_file_too),
        cmocka_unit_test(what_is_no_state_dict_is_refused_by_name),
        cmocka_unit_test(from_pytorch_and_back),
        cmocka_unit_test(a_tied_weight_from_pytorch_and_back),
        cmocka_unit_test(pickles_by_hand),
        cmocka_unit_test(what_grows_without_end_is_refused),
        cmocka_unit_test(damaged_zip_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
