/* Thousands of changed files of every format that is read: an error and an untouched module, or a load; never a crash,
 * never memory without end. From a seed, so that a failure comes again. */
#include "training.h"

#define FIXTURE(name) FLODL_SOURCE_DIR "/tests/fixtures/" name

enum { ROUNDS = 2000 };

static fdl_module *model(void)
{
    fdl_module *g = fdl_flow(fdl_nn_linear(3, 8), fdl_nn_gelu(), fdl_nn_layer_norm(8), fdl_nn_batch_norm(8),
                             fdl_flow(fdl_nn_linear(8, 8), fdl_nn_relu()), fdl_nn_linear(8, 2));
    check_some(g);
    mark(g);
    return g;
}

/* ---- changing ------------------------------------------------------------------------------------------- */

typedef struct place {
    size_t from, to;
} place;

/* What stands for something in one of the formats. */
static const unsigned char telling[] =
    "{}[]():,\"-+.0123456789eE \n/\\PKFDLCuntrbs}q\x80\x81\x85\x8a\x95\xff\x7f\x01\x02RQ(tNJ";

/* One to four changes within the place: bits, telling bytes, runs moved, left out or doubled, numbers blown up. */
static bytes mutant(fdl_rng *rng, const unsigned char *good, size_t n, place in)
{
    bytes b = {0};
    put(&b, good, n);
    if (fdl_rng_below(rng, 12) == 0) { /* cut short */
        b.n = in.from + fdl_rng_below(rng, n - in.from);
        return b;
    }
    for (uint64_t c = 1 + fdl_rng_below(rng, 4); c && in.to > in.from + 1; c--) {
        size_t size = in.to - in.from, at = in.from + fdl_rng_below(rng, size),
               run = 1 + fdl_rng_below(rng, 16);
        run = run < in.to - at ? run : in.to - at;
        switch (fdl_rng_below(rng, 6)) {
        case 0:
            b.at[at] ^= (unsigned char)(1u << fdl_rng_below(rng, 8));
            break;
        case 1:
            b.at[at] = telling[fdl_rng_below(rng, sizeof telling - 1)];
            break;
        case 2:
            memset(b.at + at, fdl_rng_below(rng, 2) ? 0xff : 0, run);
            break;
        case 3: { /* a run from elsewhere */
            size_t other = in.from + fdl_rng_below(rng, size);
            run = run < in.to - other ? run : in.to - other;
            memmove(b.at + at, b.at + other, run);
            break;
        }
        case 4: /* left out */
            memmove(b.at + at, b.at + at + run, b.n - at - run);
            b.n -= run;
            in.to -= run;
            break;
        default: { /* doubled */
            unsigned char copy[16];
            memcpy(copy, b.at + at, run);
            put(&b, copy, run);
            memmove(b.at + at + run, b.at + at, b.n - at - run);
            memcpy(b.at + at, copy, run);
            in.to += run;
            break;
        }
        }
    }
    return b;
}

/* ---- trying --------------------------------------------------------------------------------------------- */

typedef struct count {
    int loaded, refused;
} count;

/* A file is loaded, and looked into. */
static void try_file(const char *path, const char *what, int i, const char *prefix, fdl_module **g,
                     fdl_module *untouched, count *n)
{
    FDL_SCOPE;
    fdl_status status =
        fdl_ckpt_load(*g, path, .prefix = prefix, .partial = i % 2 == 0, .ignore_hash = i % 3 == 0);
    if (status == FDL_OK) {
        n->loaded++;
        mark(*g);
    } else {
        n->refused++;
        if (status != FDL_E_FORMAT && status != FDL_E_MISMATCH && status != FDL_E_OOM && status != FDL_E_IO)
            fail_msg("%s %d: %s: %s", what, i, fdl_status_name(status), fdl_last_error()->message);
        fdl_clear_error();
    }
    if (!same_values(*g, untouched))
        fail_msg("%s %d changed the module and failed", what, i);
    fdl_ckpt_info *info = fdl_ckpt_open(path);
    for (int k = 0; info && k < fdl_ckpt_count(info); k++) {
        fdl_shape s = fdl_ckpt_shape(info, k);
        double elements = 1;
        for (int d = 0; d < s.ndim; d++)
            elements *= (double)s.d[d];
        if (elements < 1e5)
            fdl_drop(fdl_ckpt_tensor(info, k));
    }
    fdl_ckpt_close(info);
    fdl_clear_error();
}

static void try_mutants(const char *what, const char *path, const char *good_path, place in,
                        const char *prefix, int least)
{
    size_t n;
    unsigned char *good = fdl_file_read(good_path, 0, &n);
    check_some(good);
    place all = {in.from, in.to ? in.to : n};
    fdl_rng rng = fdl_rng_seed(11);
    fdl_module *g = model(), *untouched = model();
    int64_t live = fdl_live_tensors();
    count c = {0};
    for (int i = 0; i < ROUNDS; i++) {
        bytes b = mutant(&rng, good, n, all);
        try_file(written(&b, path), what, i, prefix, &g, untouched, &c);
    }
    assert_int_equal(fdl_live_tensors(), live);
    print_message("%s: %d loaded, %d refused\n", what, c.loaded, c.refused);
    assert_true(c.refused >= least);
    free(good);
    fdl_module_free(g);
    fdl_module_free(untouched);
}

static void headers_of_safetensors(void **state)
{
    (void)state;
    fdl_module *g = model();
    check_ok(fdl_ckpt_save(g, path_of("good.fdl")));
    check_ok(fdl_ckpt_save(g, path_of("good.fdl.gz")));
    size_t n;
    unsigned char *good = fdl_file_read(path_of("good.fdl"), 0, &n);
    check_some(good);
    size_t header = 8 + good[8 - 8] + 256u * good[1];
    free(good);
    try_mutants("a header", path_of("mutant"), path_of("good.fdl"), (place){0, header}, NULL, 1000);
    try_mutants("a gzip file", path_of("mutant"), path_of("good.fdl.gz"), (place){0, 0}, NULL, 1900);
    fdl_module_free(g);
}

/* ---- training state --------------------------------------------------------------------------------------- */

static training training_of(double rate, int steps)
{
    FDL_SCOPE;
    training t = {.m = fdl_flow(fdl_nn_linear(3, 4), fdl_nn_linear(4, 1)),
                  .scaler = fdl_amp_scaler_new(.init_scale = 8 * rate),
                  .plateau = fdl_sched_plateau(rate),
                  .rng = fdl_rng_seed(3),
                  .at = {.step = steps}};
    check_some(t.m);
    t.opt = fdl_optim_nadam(fdl_parameters(t.m), .lr = rate);
    t.ema = fdl_ema_new(t.m, 0.9, .warmup = true);
    check_some(fdl_amp_scale(t.scaler, fdl_scalar(1)));
    for (int i = 0; i < steps; i++) {
        check_ok(fdl_backward(fdl_sum(fdl_forward(t.m, fdl_ones(FDL_SHAPE(1, 3))))));
        check_ok(fdl_optim_step(t.opt));
        check_ok(fdl_ema_update(t.ema));
    }
    return t;
}

/* A training that loads a changed file is that file's, in part or as it was: whatever was refused has changed nothing at all,
 * and whatever was taken can be gone on with. */
static void training_state(void **state)
{
    (void)state;
    training good = training_of(0.5, 3);
    check_ok(fdl_ckpt_save(good.m, path_of("good.fdl"), ALL_OF(good)));
    size_t n;
    unsigned char *file = fdl_file_read(path_of("good.fdl"), 0, &n);
    check_some(file);
    place header = {8, 8 + file[0] + 256u * file[1]};
    fdl_rng rng = fdl_rng_seed(19);
    training t = training_of(0.25, 2);
    bytes before = image_of(&t);
    count c = {0};
    for (int i = 0; i < ROUNDS; i++) {
        FDL_SCOPE;
        bytes b = {0};
        if (i % 2) {
            b = mutant(&rng, file, n, header);
        } else { /* another digit: what is well-formed and may still be wrong */
            size_t at;
            put(&b, file, n);
            do
                at = header.from + fdl_rng_below(&rng, header.to - header.from);
            while (b.at[at] < '0' || b.at[at] > '9');
            b.at[at] = (unsigned char)('0' + fdl_rng_below(&rng, 10));
        }
        fdl_status status =
            fdl_ckpt_load(t.m, written(&b, path_of("mutant")), ALL_OF(t), .ignore_hash = true);
        if (status == FDL_OK) {
            c.loaded++;
            check_ok(fdl_optim_zero_grad(t.opt));
            check_ok(fdl_backward(fdl_sum(fdl_forward(t.m, fdl_ones(FDL_SHAPE(1, 3))))));
            check_ok(fdl_optim_step(t.opt));
            check_ok(fdl_ema_update(t.ema));
            training_end(&t);
            t = training_of(0.25, 2);
            free(before.at);
            before = image_of(&t);
            continue;
        }
        c.refused++;
        if (status != FDL_E_FORMAT && status != FDL_E_MISMATCH && status != FDL_E_ARG && status != FDL_E_IO &&
            status != FDL_E_OOM)
            fail_msg("mutant %d: %s: %s", i, fdl_status_name(status), fdl_last_error()->message);
        fdl_clear_error();
        bytes now = image_of(&t);
        if (now.n != before.n || memcmp(now.at, before.at, now.n) != 0)
            fail_msg("mutant %d changed something and failed", i);
        free(now.at);
    }
    print_message("training state: %d loaded, %d refused\n", c.loaded, c.refused);
    assert_true(c.refused > ROUNDS / 2 && c.loaded > 10);
    free(before.at);
    free(file);
    training_end(&t);
    training_end(&good);
}

static void indexes(void **state)
{
    (void)state;
    fdl_module *g = model();
    check_ok(fdl_ckpt_save(g, path_of("set.fdl"), .shard_bytes = 200));
    check_ok(fdl_ckpt_load(g, path_of("set.fdl.index.json")));
    try_mutants("an index", path_of("mutant.index.json"), path_of("set.fdl.index.json"), (place){0, 0}, NULL,
                500);
    fdl_module_free(g);
}

static void old_files(void **state)
{
    (void)state;
    const hand_entry entries[] = {
        {"linear_1/weight", 2, {8, 3}, 0},         {"linear_1/bias", 1, {8}, 30},
        {"layernorm_3/weight", 1, {8}, 40},        {"layernorm_3/bias", 1, {8}, 50},
        {"batchnorm_4/weight", 1, {8}, 60},        {"batchnorm_4/bias", 1, {8}, 70},
        {"graph_5/weight", 2, {8, 8}, 80},         {"graph_5/bias", 1, {8}, 150},
        {"linear_6/weight", 2, {2, 8}, 160},       {"linear_6/bias", 1, {2}, 180},
        {"batchnorm_4/running_mean", 1, {8}, 190}, {"batchnorm_4/running_var", 1, {8}, 200}};
    fdl_module *g = model();
    bytes b = fdlc_bytes(2, fdl_graph_legacy_hash(g), 12, entries);
    written(&b, path_of("good.fdlc"));
    check_ok(fdl_ckpt_load(g, path_of("good.fdlc")));
    try_mutants("an old file", path_of("mutant"), path_of("good.fdlc"), (place){0, 0}, NULL, 300);
    fdl_module_free(g);
}

static bool reads_zip(void)
{
    fdl_ckpt_info *info = fdl_ckpt_open(FIXTURE("ckpt_tensor.pt"));
    if (!info)
        check_error(FDL_E_UNSUPPORTED, "libzip");
    fdl_ckpt_close(info);
    return info != NULL;
}

static void zip_files(void **state)
{
    (void)state;
    if (!reads_zip())
        skip();
    try_mutants("a zip file", path_of("mutant"), FIXTURE("ckpt_training.pt"), (place){0, 0}, "model.", 300);
    try_mutants("a deflated zip file", path_of("mutant"), FIXTURE("ckpt_views_deflated.pt"), (place){0, 0},
                NULL, 300);
}

/* Bytes of the storages of ckpt_training.pt: parameters and buffers, an optimizer's state, x and y. */
static const unsigned short sizes[45] = {96, 32, 32,  32,  32, 32, 32, 32, 8,  256, 32, 64, 8,  4,  96,
                                         96, 4,  32,  32,  4,  32, 32, 4,  32, 32,  4,  32, 32, 4,  32,
                                         32, 4,  256, 256, 4,  32, 32, 4,  64, 64,  4,  8,  8,  48, 32};

/* Changed pickles in zip files that are whole. */
static void pickles(void **state)
{
    (void)state;
    if (!reads_zip())
        skip();
    size_t n;
    unsigned char *zip = fdl_file_read(FIXTURE("ckpt_training.pt"), 0, &n);
    check_some(zip);
    unsigned char *pickle = memmem(zip, n, "\x80\2}q", 4);
    assert_non_null(pickle);
    unsigned char *end =
        memmem(pickle, n - (size_t)(pickle - zip), "PK", 2); /* of the next entry, or of this one's sizes */
    assert_non_null(end);
    size_t size = (size_t)(end - pickle);
    fdl_rng rng = fdl_rng_seed(12);
    fdl_module *g = model(), *untouched = model();
    count c = {0};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        bytes b = i ? mutant(&rng, pickle, size, (place){0, size}) : (bytes){0};
        if (!i)
            put(&b, pickle, size); /* the first is as it should be */
        zip_maker z = {0};
        add_file(&z, "a/data.pkl", b.at, b.n);
        static const unsigned char zeros[1024];
        for (int k = 0; k < 45; k++) {
            char name[32];
            snprintf(name, sizeof name, "a/data/%d", k);
            add_file(&z, name, zeros, sizes[k]);
        }
        free(b.at);
        try_file(end_zip(&z, path_of("mutant")), "a pickle", i, "model.", &g, untouched, &c);
    }
    print_message("a pickle: %d loaded, %d refused\n", c.loaded, c.refused);
    assert_true(c.refused > 2000 && c.loaded > 5);
    free(zip);
    fdl_module_free(g);
    fdl_module_free(untouched);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_of_safetensors),
        cmocka_unit_test(training_state),
        cmocka_unit_test(indexes),
        cmocka_unit_test(old_files),
        cmocka_unit_test(zip_files),
        cmocka_unit_test(pickles),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
