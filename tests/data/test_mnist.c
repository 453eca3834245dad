/* IDX files: values, every kind of bad file, random damage; the real MNIST where $FLODL_DATA has it. */
#include "check.h"

#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "samples.h"

struct bytes {
    unsigned char *at;
    size_t n;
};

static void put(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (24 - 8 * i));
}

/* A header of magic and three counts (an images file) or one (labels), and n bytes of payload from 0 up. */
static struct bytes idx(uint32_t magic, const uint32_t *counts, int dims, size_t n)
{
    size_t head = 4 + 4 * (size_t)dims;
    struct bytes b = {malloc(head + n + 1), head + n};
    assert_non_null(b.at);
    put(b.at, magic);
    for (int i = 0; i < dims; i++)
        put(b.at + 4 + 4 * i, counts[i]);
    for (size_t i = 0; i < n; i++)
        b.at[head + i] = (unsigned char)(dims == 1 ? i % 10 : i);
    return b;
}

static struct bytes images(uint32_t n, uint32_t rows, uint32_t cols)
{
    return idx(2051, (uint32_t[]){n, rows, cols}, 3, (size_t)n * rows * cols);
}

static struct bytes labels(uint32_t n)
{
    return idx(2049, &n, 1, n);
}

static struct bytes packed(struct bytes b)
{
    uLong room = compressBound((uLong)b.n) + 32;
    struct bytes out = {malloc(room), 0};
    assert_non_null(out.at);
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = b.at;
    z.avail_in = (uInt)b.n;
    z.next_out = out.at;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out.n = room - z.avail_out;
    deflateEnd(&z);
    return out;
}

static fdl_dataset *parsed(struct bytes i, struct bytes l)
{
    return fdl_data_mnist_parse(i.at, i.n, l.at, l.n);
}

static void values(void **state)
{
    (void)state;
    struct bytes i = images(2, 3, 3), l = labels(2);
    i.at[16] = 128;
    l.at[8] = 3;
    l.at[9] = 7;
    struct bytes gi = packed(i), gl = packed(l);
    for (int raw = 0; raw < 2; raw++) {
        FDL_SCOPE;
        fdl_dataset *ds = raw ? parsed(i, l) : parsed(gi, gl);
        check_some(ds);
        assert_int_equal(fdl_data_len(ds), 2);
        fdl_tensor *out[2];
        check_ok(fdl_data_fetch(ds, (int64_t[]){0, 1}, 2, out));
        double expected[18];
        for (int k = 0; k < 18; k++)
            expected[k] = (float)(k ? k : 128) / 255.0f;
        assert_true(fabs(expected[0] - 0.50196) < 1e-5);
        expect(out[0], FDL_FLOAT32, FDL_SHAPE(2, 1, 3, 3), expected);
        expect(out[1], FDL_INT64, FDL_SHAPE(2), (double[]){3, 7});

        fdl_loader *dl = fdl_data_eval_loader(ds, 2);
        check_some(dl);
        assert_int_equal(fdl_data_loader_sample_bytes(dl), 17); /* 9 bytes, not 36 */
        FDL_BATCHES(b, dl, 0)
        {
            assert_true(fdl_same(fdl_data_named(b, "image"), out[0]));
            assert_true(fdl_same(fdl_data_named(b, "label"), out[1]));
        }
        check_ok(fdl_data_status(dl));
        fdl_data_loader_free(dl);
    }
    free(i.at);
    free(l.at);
    free(gi.at);
    free(gl.at);
}

static void refuse_(struct bytes i, struct bytes l, const char *const *words, int line)
{
    struct bytes gi = packed(i), gl = packed(l);
    for (int raw = 0; raw < 2; raw++) {
        fdl_dataset *ds = raw ? parsed(i, l) : parsed(gi, gl);
        if (ds)
            print_error("line %d: accepted\n", line);
        assert_null(ds);
        check_error_(FDL_E_FORMAT, words, __FILE__, line);
    }
    free(gi.at);
    free(gl.at);
    free(i.at);
    free(l.at);
}
#define refuse(i, l, ...) refuse_(i, l, (const char *const[]){__VA_ARGS__, NULL}, __LINE__)

static struct bytes cut(struct bytes b, size_t n)
{
    b.n = n;
    b.at = realloc(b.at, n + 1); /* so that a sanitizer sees a read past the end */
    assert_non_null(b.at);
    return b;
}

static void bad_files(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    refuse(idx(99, (uint32_t[]){2, 3, 3}, 3, 18), labels(2), "images", "bad magic 99, expected 2051");
    refuse(images(2, 3, 3), idx(2051, (uint32_t[]){2}, 1, 2), "labels", "bad magic 2051, expected 2049");
    refuse(cut(images(2, 3, 3), 15), labels(2), "images", "header has 16 bytes", "15");
    refuse(images(2, 3, 3), cut(labels(2), 7), "labels", "header has 8 bytes", "7");
    refuse(cut(images(2, 3, 3), 0), labels(2), "images", "16", "0");
    refuse(cut(images(2, 3, 3), 16 + 17), labels(2), "images", "18 bytes", "17 are there");
    refuse(images(2, 3, 3), cut(labels(2), 9), "labels", "2 bytes", "1 are there");
    refuse(idx(2051, (uint32_t[]){60001, 28, 28}, 3, 60000 * 784), labels(60001), "images", "47040784 bytes",
           "47040000 are there");
    refuse(idx(2051, (uint32_t[]){1u << 20, 1u << 10, 1u << 10}, 3, 18), labels(2), "images",
           "1048576 x 1024 x 1024", "more than");
    refuse(idx(2051, (uint32_t[]){UINT32_MAX, UINT32_MAX, UINT32_MAX}, 3, 18), labels(2), "images",
           "4294967295");
    refuse(images(3, 3, 3), labels(2), "2 labels for 3 images");
    refuse(idx(2051, (uint32_t[]){0, 3, 3}, 3, 0), idx(2049, (uint32_t[]){0}, 1, 0), "images", "dim 0 is 0");
    refuse(idx(2051, (uint32_t[]){2, 3, 0}, 3, 0), labels(2), "images", "dim 2 is 0");
    struct bytes ten = labels(2);
    ten.at[9] = 10;
    refuse(images(2, 3, 3), ten, "labels", "label 10 of sample 1 (offset 9)");
    struct bytes i = images(2, 3, 3);
    assert_null(fdl_data_mnist_parse(NULL, 0, i.at, i.n));
    check_error(FDL_E_NULL, "images");
    assert_null(fdl_data_mnist_parse(i.at, i.n, NULL, 0));
    check_error(FDL_E_NULL, "labels");
    free(i.at);
    assert_int_equal(fdl_live_tensors(), before);

    struct bytes l = labels(2); /* bytes behind the end are allowed */
    i = idx(2051, (uint32_t[]){2, 3, 3}, 3, 20);
    fdl_dataset *ds = parsed(i, l);
    check_some(ds);
    fdl_data_free(ds);
    free(i.at);
    free(l.at);
}

static long peak_kb(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void bad_gzip(void **state)
{
    (void)state;
    struct bytes i = images(100, 28, 28), l = labels(100), gi = packed(i);
    for (size_t n = 2; n < gi.n; n += n < 64 || n > gi.n - 16 ? 1 : 101) {
        assert_null(fdl_data_mnist_parse(gi.at, n, l.at, l.n));
        check_error(FDL_E_FORMAT, "images");
    }
    gi.at[gi.n - 8] ^= 1; /* the checksum */
    assert_null(parsed(gi, l));
    check_error(FDL_E_FORMAT, "images", "gzip");
    free(gi.at);
    free(i.at);

    /* 2 GiB of zeros behind a small header: told without holding them */
    long before = peak_kb();
    size_t chunk = 1 << 20, room = 4 << 20;
    unsigned char *zeros = calloc(1, chunk), *bomb = malloc(room);
    assert_true(zeros && bomb);
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    i = images(100, 28, 28);
    z.next_out = bomb;
    z.avail_out = (uInt)room;
    z.next_in = i.at;
    z.avail_in = (uInt)i.n;
    assert_int_equal(deflate(&z, Z_NO_FLUSH), Z_OK);
    for (int k = 0; k < 2048; k++) {
        z.next_in = zeros;
        z.avail_in = (uInt)chunk;
        assert_int_equal(deflate(&z, k == 2047 ? Z_FINISH : Z_NO_FLUSH), k == 2047 ? Z_STREAM_END : Z_OK);
    }
    size_t size = room - z.avail_out;
    deflateEnd(&z);
    assert_null(fdl_data_mnist_parse(bomb, size, l.at, l.n));
    check_error(FDL_E_FORMAT, "images", "more than 1073741824");
    assert_true(peak_kb() - before < 100 * 1024);
    free(bomb);
    free(zeros);
    free(i.at);
    free(l.at);
}

/* Random damage to good files, and plain garbage: a dataset or a status, never a crash, a leak or a hang. */
static void damage(void **state)
{
    (void)state;
    fdl_rng r = fdl_rng_seed(11);
    struct bytes good[4] = {images(3, 5, 4), labels(3)};
    good[2] = packed(good[0]);
    good[3] = packed(good[1]);
    int64_t before = fdl_live_tensors(), accepted = 0;
    for (int trial = 0; trial < 20000; trial++) {
        struct bytes file[2];
        for (int f = 0; f < 2; f++) {
            struct bytes from = good[f + 2 * fdl_rng_bernoulli(&r, 0.5)];
            size_t n = fdl_rng_bernoulli(&r, 0.3) ? fdl_rng_below(&r, from.n + 1) : from.n;
            if (trial % 4 == 3) /* garbage */
                n = fdl_rng_below(&r, 4096);
            file[f] = (struct bytes){malloc(n ? n : 1), n};
            assert_non_null(file[f].at);
            if (trial % 4 == 3) {
                for (size_t k = 0; k < n; k++)
                    file[f].at[k] = (unsigned char)fdl_rng_u64(&r);
                if (n > 16 && fdl_rng_bernoulli(&r, 0.7)) /* that begins well */
                    memcpy(file[f].at, from.at, 4 + fdl_rng_below(&r, from.n < 16 ? 8 : 12));
            } else {
                memcpy(file[f].at, from.at, n);
                for (uint64_t k = fdl_rng_below(&r, 4); k > 0 && n; k--)
                    file[f].at[fdl_rng_below(&r, n)] = (unsigned char)fdl_rng_u64(&r);
            }
        }
        fdl_dataset *ds = parsed(file[0], file[1]);
        if (ds) {
            accepted++;
            assert_true(fdl_data_len(ds) > 0);
            fdl_data_free(ds);
        } else {
            fdl_status status = fdl_last_error()->status;
            if (status != FDL_E_FORMAT)
                print_error("%s: %s\n", fdl_status_name(status), fdl_last_error()->message);
            assert_int_equal(status, FDL_E_FORMAT);
            fdl_clear_error();
        }
        free(file[0].at);
        free(file[1].at);
    }
    assert_int_equal(fdl_live_tensors(), before);
    assert_true(accepted > 500 && accepted < 19000); /* both ends of the parser were reached */
    for (int f = 0; f < 4; f++)
        free(good[f].at);
}

static void files(void **state)
{
    (void)state;
    char folder[64] = "/tmp/flodl-mnist-XXXXXX", sub[128], path[256];
    assert_non_null(mkdtemp(folder));
    assert_null(fdl_data_mnist(folder));
    check_error(FDL_E_IO, folder, "train-images-idx3-ubyte.gz", "https://", "No such file");
    snprintf(sub, sizeof sub, "%s/mnist", folder);
    assert_int_equal(mkdir(sub, 0700), 0);
    struct bytes i = images(4, 2, 2), l = labels(4), gi = packed(i);
    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte.gz", sub);
    check_ok(fdl_file_save(path, gi.at, gi.n));
    assert_null(fdl_data_mnist(folder, .split = FDL_TEST));
    check_error(FDL_E_IO, "t10k-labels-idx1-ubyte.gz");
    snprintf(path, sizeof path, "%s/t10k-labels-idx1-ubyte", sub); /* not packed */
    check_ok(fdl_file_save(path, l.at, l.n));
    fdl_dataset *ds = fdl_data_mnist(folder, .split = FDL_TEST);
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 4);
    fdl_data_free(ds);
    check_ok(fdl_file_save(path, l.at, l.n - 1));
    assert_null(fdl_data_mnist(folder, .split = FDL_TEST));
    check_error(FDL_E_FORMAT, folder, "labels", "3 are there");
    assert_null(fdl_data_mnist(folder, .split = 2));
    check_error(FDL_E_ARG, "split is 2");
    assert_null(fdl_data_mnist(NULL));
    check_error(FDL_E_NULL, "dir");
    remove(path);
    snprintf(path, sizeof path, "%s/t10k-images-idx3-ubyte.gz", sub);
    remove(path);
    rmdir(sub);
    rmdir(folder);
    free(i.at);
    free(l.at);
    free(gi.at);
}

static void real_files(void **state)
{
    (void)state;
    const char *dir = getenv("FLODL_DATA");
    char path[4096];
    if (dir)
        snprintf(path, sizeof path, "%s/mnist/train-images-idx3-ubyte.gz", dir);
    if (!dir || access(path, R_OK) != 0) {
        print_message("skipped: $FLODL_DATA has no mnist\n");
        skip();
    }
    static const struct {
        int split;
        int64_t n, drop, keep;
        int label[5];
        double mean;
    } rows[] = {
        {FDL_TRAIN, 60000, 937, 938, {5, 0, 4, 1, 9}, 0.1306604762738429},
        {FDL_TEST, 10000, 156, 157, {7, 2, 1, 0, 4}, 0.13251460584233699}}; /* means: numpy on the bytes */
    for (int r = 0; r < 2; r++) {
        FDL_SCOPE;
        fdl_dataset *ds = fdl_data_mnist(dir, .split = rows[r].split);
        check_some(ds);
        assert_int_equal(fdl_data_len(ds), rows[r].n);
        fdl_loader *drop = fdl_data_loader(fdl_data_ref(ds), 64), *keep = fdl_data_eval_loader(ds, 64);
        check_some(drop);
        check_some(keep);
        assert_int_equal(fdl_data_loader_batches(drop), rows[r].drop);
        assert_int_equal(fdl_data_loader_batches(keep), rows[r].keep);
        assert_int_equal(fdl_data_loader_sample_bytes(keep), 784 + 8);
        double sum = 0;
        int64_t batch = 0;
        FDL_BATCHES(b, keep, 0)
        {
            sum += fdl_item(fdl_sum(fdl_to_dtype(fdl_data_named(b, "image"), FDL_FLOAT64)));
            int64_t y[64];
            if (batch++ == 0) {
                check_ok(fdl_to_i64(fdl_data_named(b, "label"), y, 64));
                for (int i = 0; i < 5; i++)
                    assert_int_equal(y[i], rows[r].label[i]);
            }
        }
        check_ok(fdl_data_status(keep));
        assert_true(fabs(sum / (784.0 * (double)rows[r].n) - rows[r].mean) < 1e-7);
        fdl_data_loader_free(drop);
        fdl_data_loader_free(keep);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values), cmocka_unit_test(bad_files), cmocka_unit_test(bad_gzip),
        cmocka_unit_test(damage), cmocka_unit_test(files),     cmocka_unit_test(real_files),
    };
    return cmocka_run_group_tests_name("mnist", tests, NULL, NULL);
}
