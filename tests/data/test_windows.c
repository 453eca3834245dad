/* Windows of a sequence, vocabularies, random draws; the real tiny Shakespeare where $FLODL_DATA has it. */
#include "folder.h"

#include <math.h>
#include <sys/stat.h>

#include "samples.h"

static fdl_tensor *count_up(int64_t n)
{
    return fdl_arange(0, (double)n, 1, .dtype = FDL_INT64, .device = FDL_CPU);
}

/* ---- windows ----------------------------------------------------------------------------------------- */

/* All windows of 0, 1, ..., n - 1 by their definition, in a batch of every size. */
static void windows_of(int64_t n, int64_t length, int64_t stride)
{
    FDL_SCOPE;
    fdl_dataset *ds = stride ? fdl_data_windows(count_up(n), length, .stride = stride)
                             : fdl_data_windows(count_up(n), length);
    check_some(ds);
    int64_t step = stride ? stride : length, samples = 0;
    while (samples * step + length < n)
        samples++;
    assert_int_equal(fdl_data_len(ds), samples);
    assert_int_equal(fdl_data_arity(ds), 2);
    fdl_loader *dl = fdl_data_eval_loader(ds, 3);
    check_some(dl);
    assert_int_equal(fdl_data_loader_sample_bytes(dl), 2 * 8 * length);
    int64_t seen = 0;
    FDL_BATCHES(b, dl, 0)
    {
        fdl_tensor *input = fdl_data_named(b, "input"), *target = fdl_data_named(b, "target");
        int64_t rows = fdl_data_rows(b), got[2][64];
        check_ok(fdl_to_i64(input, got[0], rows * length));
        check_ok(fdl_to_i64(target, got[1], rows * length));
        for (int64_t i = 0; i < rows * length; i++) {
            int64_t want = (seen + i / length) * step + i % length;
            assert_int_equal(got[0][i], want);
            assert_int_equal(got[1][i], want + 1);
        }
        seen += rows;
    }
    check_ok(fdl_data_status(dl));
    assert_int_equal(seen, samples);
    fdl_data_loader_free(dl);
}

static void windows(void **state)
{
    (void)state;
    int64_t live = fdl_live_tensors();
    windows_of(11, 5, 0);
    windows_of(10, 5, 0); /* the last window would have no element behind it */
    windows_of(11, 5, 1);
    windows_of(11, 5, 2);
    windows_of(30, 4, 7); /* with gaps */
    windows_of(2, 1, 1);
    windows_of(6, 5, 100);
    assert_int_equal(fdl_live_tensors(), live);
}

static void windows_of_a_part(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_narrow(fdl_reshape(count_up(20), FDL_SHAPE(10, 2)), 1, 1, 1); /* 1, 3, 5, ..., 19 */
    fdl_dataset *ds = fdl_data_windows(fdl_narrow(fdl_squeeze(x, 1), 0, 2, 6), 3, .stride = 2);
    check_some(ds);
    fdl_loader *dl = fdl_data_loader(ds, 2, .in_order = true, .names = FDL_NAMES("from", "to"));
    FDL_BATCHES(b, dl, 0)
    {
        expect(fdl_data_named(b, "from"), FDL_INT64, FDL_SHAPE(2, 3), (double[]){5, 7, 9, 9, 11, 13});
        expect(fdl_data_named(b, "to"), FDL_INT64, FDL_SHAPE(2, 3), (double[]){7, 9, 11, 11, 13, 15});
    }
    check_ok(fdl_data_status(dl));
    fdl_data_loader_free(dl);
}

/* A window at each place of a million elements: views, not 16 GB of copies. */
static void windows_take_no_memory(void **state)
{
    (void)state;
    FDL_SCOPE;
    enum { N = 1000000, LENGTH = 1000, DRAWS = 96 };
    fdl_dataset *ds = fdl_data_windows(count_up(N), LENGTH, .stride = 1);
    check_some(ds);
    fdl_sampler *places = fdl_data_sampler_uniform(fdl_data_len(ds), DRAWS, 7);
    int64_t order[DRAWS], at = 0;
    check_ok(fdl_data_sampler_order(places, 3, order));
    fdl_loader *dl = fdl_data_loader(ds, 32, .sampler = places);
    check_some(dl);
    FDL_BATCHES(b, dl, 3)
    {
        int64_t got[32 * LENGTH];
        check_ok(fdl_to_i64(fdl_data_named(b, "target"), got, 32 * LENGTH));
        for (int row = 0; row < 32; row++, at++) {
            assert_int_equal(fdl_data_indices(b)[row], order[at]);
            for (int i = 0; i < LENGTH; i++)
                assert_int_equal(got[row * LENGTH + i], order[at] + i + 1);
        }
    }
    check_ok(fdl_data_status(dl));
    assert_int_equal(at, DRAWS);
    fdl_data_loader_free(dl);
}

static void bad_windows(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t live = fdl_live_tensors();
    assert_null(fdl_data_windows(NULL, 3));
    check_error(FDL_E_NULL, "fdl_data_windows", "x");
    {
        FDL_SCOPE;
        assert_null(fdl_data_windows(count_up(5), 5));
        check_error(FDL_E_ARG, "5 elements is too short for windows of 5");
        assert_null(fdl_data_windows(count_up(5), INT64_MAX));
        check_error(FDL_E_ARG, "too short");
        assert_null(fdl_data_windows(count_up(5), 0));
        check_error(FDL_E_ARG, "length is 0");
        assert_null(fdl_data_windows(count_up(5), 2, .stride = -1));
        check_error(FDL_E_ARG, ".stride is -1");
        assert_null(fdl_data_windows(fdl_zeros(FDL_SHAPE(3, 2), .device = FDL_CPU), 1));
        check_error(FDL_E_SHAPE, "[3, 2]", "[n]");
        assert_null(fdl_data_windows(fdl_scalar(1, .device = FDL_CPU), 1));
        check_error(FDL_E_SHAPE, "[n]");
        assert_null(fdl_data_windows(count_up(0), 1));
        check_error(FDL_E_ARG, "0 elements");
    }
    assert_int_equal(fdl_live_tensors(), live);
}

/* ---- draws ------------------------------------------------------------------------------------------- */

static void uniform_draws(void **state)
{
    (void)state;
    enum { N = 10, DRAWS = 100000 };
    static int64_t a[DRAWS], b[DRAWS];
    fdl_sampler *s = fdl_data_sampler_uniform(N, DRAWS, 42), *t = fdl_data_sampler_uniform(N, DRAWS, 42);
    assert_int_equal(fdl_data_sampler_len(s), DRAWS);
    check_ok(fdl_data_sampler_order(s, 0, a));
    check_ok(fdl_data_sampler_order(t, 0, b));
    assert_memory_equal(a, b, sizeof a);
    check_ok(fdl_data_sampler_order(t, 1, b));
    assert_memory_not_equal(a, b, sizeof a);
    double counts[N] = {0}, chi2 = 0;
    for (int i = 0; i < DRAWS; i++) {
        assert_true(a[i] >= 0 && a[i] < N);
        counts[a[i]]++;
    }
    for (int i = 0; i < N; i++)
        chi2 += pow(counts[i] - DRAWS / N, 2) / (DRAWS / N);
    assert_true(chi2 < 27.9); /* 9 degrees of freedom: one seed in a thousand is above */
    fdl_data_sampler_free(s);
    fdl_data_sampler_free(t);
    assert_null(fdl_data_sampler_uniform(0, 5, 1));
    check_error(FDL_E_ARG, "5 draws from 0");
    assert_null(fdl_data_sampler_uniform(5, -1, 1));
    check_error(FDL_E_ARG, "-1 draws");
}

/* ---- vocabularies ------------------------------------------------------------------------------------ */

static void vocabulary(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char text[] = "hé llo\n€\U0001F600h";
    fdl_vocab *v = fdl_vocab_chars(text, sizeof text - 1);
    check_some(v);
    assert_int_equal(fdl_vocab_size(v), 8); /* \n, space, h, l, o, é, €, a face */
    fdl_tensor *ids = fdl_vocab_encode(v, text, sizeof text - 1);
    expect(ids, FDL_INT64, FDL_SHAPE(10), (double[]){2, 5, 1, 3, 3, 4, 0, 6, 7, 2});
    assert_string_equal(fdl_vocab_decode(v, ids), text);
    assert_string_equal(fdl_vocab_decode(v, fdl_reshape(fdl_narrow(ids, 0, 0, 4), FDL_SHAPE(2, 2))), "hé l");
    assert_string_equal(fdl_vocab_decode(v, fdl_ivec(2, -1, 8, INT64_MAX, 3)), "h???l");
    assert_string_equal(fdl_vocab_decode(v, fdl_to_dtype(fdl_ivec(4, 2), FDL_UINT8)), "oh");
    assert_string_equal(fdl_vocab_decode(v, fdl_zeros(FDL_SHAPE(0), .dtype = FDL_INT64)), "");
    assert_int_equal(fdl_numel(fdl_vocab_encode(v, "", 0)), 0);

    assert_null(fdl_vocab_encode(v, "lé xé", 7));
    check_error(FDL_E_ARG, "U+0078", "byte 4", "8");
    assert_null(fdl_vocab_encode(v, "ll\xc3", 3));
    check_error(FDL_E_FORMAT, "byte 2", "0xc3");
    assert_null(fdl_vocab_decode(v, fdl_vec(1, 2)));
    check_error(FDL_E_DTYPE, "float32");
    assert_null(fdl_vocab_decode(v, NULL));
    check_error(FDL_E_NULL, "ids");
    assert_null(fdl_vocab_encode(NULL, "", 0));
    check_error(FDL_E_NULL, "v");
    fdl_vocab_free(v);
    fdl_vocab_free(NULL);

    assert_null(fdl_vocab_chars("", 0));
    check_error(FDL_E_ARG, "empty");
    assert_null(fdl_vocab_chars("ab\xff", 3));
    check_error(FDL_E_FORMAT, "byte 2", "0xff");
    assert_null(fdl_vocab_chars(NULL, 3));
    check_error(FDL_E_NULL, "text");
    assert_int_equal(fdl_vocab_size(NULL), -1);
    check_error(FDL_E_NULL, "v");
}

/* Random texts over random characters, whole and damaged: encoded and decoded they are the same, or refused. */
static void random_texts(void **state)
{
    (void)state;
    fdl_rng r = fdl_rng_seed(5);
    int refused = 0;
    for (int trial = 0; trial < 3000; trial++) {
        FDL_SCOPE;
        char text[256];
        size_t n = 0, characters = 1 + fdl_rng_below(&r, 40);
        for (size_t i = 0; i < characters; i++)
            n += (size_t)fdl_utf8_encode((uint32_t)fdl_rng_below(&r, trial % 2 ? 0x80 : 0x30000), text + n);
        if (n == 0)
            continue; /* surrogates only */
        if (trial % 3 == 0)
            text[fdl_rng_below(&r, n)] = (char)fdl_rng_u64(&r);
        fdl_vocab *v = fdl_vocab_chars(text, n);
        if (!v) {
            check_error(FDL_E_FORMAT, "UTF-8");
            refused++;
            continue;
        }
        char *again = fdl_vocab_decode(v, fdl_vocab_encode(v, text, n));
        check_some(again);
        assert_memory_equal(again, text, n);
        fdl_vocab_free(v);
    }
    assert_true(refused > 100 && refused < 900);
}

/* ---- the corpus ---------------------------------------------------------------------------------------- */

static void missing_corpus(void **state)
{
    (void)state;
    size_t n;
    assert_null(fdl_data_shakespeare(folder, &n));
    check_error(FDL_E_IO, folder, "tinyshakespeare/input.txt", "https://", "No such file");
    assert_null(fdl_data_shakespeare(NULL, &n));
    check_error(FDL_E_NULL, "dir");
    char longest[5000];
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_null(fdl_data_shakespeare(longest, &n));
    check_error(FDL_E_ARG, "longer");
    assert_int_equal(mkdir(path_of("tinyshakespeare"), 0700), 0);
    check_ok(fdl_file_save(path_of("tinyshakespeare/input.txt"), "To be", 5));
    char *text = fdl_data_shakespeare(folder, &n);
    check_some(text);
    assert_int_equal(n, 5);
    assert_string_equal(text, "To be");
    free(text);
    assert_int_equal(remove(path_of("tinyshakespeare/input.txt")), 0);
}

static void real_corpus(void **state)
{
    (void)state;
    const char *dir = getenv("FLODL_DATA");
    if (!dir) {
        print_message("skipped: FLODL_DATA, the folder that has tinyshakespeare/input.txt, isn't set\n");
        skip();
    }
    FDL_SCOPE;
    size_t n;
    char *text = fdl_data_shakespeare(dir, &n);
    check_some(text);
    assert_int_equal(n, 1115394);
    fdl_vocab *v = fdl_vocab_chars(text, n);
    assert_int_equal(fdl_vocab_size(v), 65);
    fdl_tensor *ids = fdl_vocab_encode(v, text, n);
    expect(
        fdl_narrow(ids, 0, 0, 10), FDL_INT64, FDL_SHAPE(10),
        (double[]){18, 47, 56, 57, 58, 1, 15, 47, 58, 47}); /* "First Citi", as nanoGPT's prepare.py has it */
    assert_string_equal(fdl_vocab_decode(v, ids), text);
    fdl_dataset *ds = fdl_data_windows(ids, 128);
    assert_int_equal(fdl_data_len(ds), 8714);
    fdl_data_free(ds);
    fdl_vocab_free(v);
    free(text);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows),       cmocka_unit_test(windows_of_a_part),
        cmocka_unit_test(bad_windows),   cmocka_unit_test(windows_take_no_memory),
        cmocka_unit_test(uniform_draws), cmocka_unit_test(vocabulary),
        cmocka_unit_test(random_texts),  cmocka_unit_test(missing_corpus),
        cmocka_unit_test(real_corpus),
    };
    return cmocka_run_group_tests_name("windows", tests, make_folder, remove_folder);
}
