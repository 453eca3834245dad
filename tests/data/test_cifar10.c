/* CIFAR-10's binary files: values, what is wrong with damaged ones, folders, the real ones where they are. */
#include "check.h"

#include "samples.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PIXELS = 3072, RECORD = 1 + PIXELS };

/* n records: record i has label i % 10, red i, green 2 i, blue 255 - i, but for the first pixel of each row, 7. */
static unsigned char *records(int n)
{
    unsigned char *file = malloc((size_t)n * RECORD);
    assert_non_null(file);
    for (int i = 0; i < n; i++) {
        unsigned char *r = file + (size_t)i * RECORD;
        *r++ = (unsigned char)(i % 10);
        for (int p = 0; p < PIXELS; p++)
            r[p] = (unsigned char)(p % 32 == 0 ? 7 : p < 1024 ? i : p < 2048 ? 2 * i : 255 - i);
    }
    return file;
}

static unsigned char *packed(const unsigned char *file, size_t n, size_t *size)
{
    unsigned char *out = malloc(n + 1000);
    assert_non_null(out);
    z_stream z = {.next_in = (unsigned char *)(uintptr_t)file,
                  .avail_in = (unsigned)n,
                  .next_out = out,
                  .avail_out = (unsigned)n + 1000};
    assert_int_equal(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    *size = z.total_out;
    deflateEnd(&z);
    return out;
}

static void values(void **state)
{
    (void)state;
    FDL_SCOPE;
    int64_t before = fdl_live_tensors();
    unsigned char *a = records(30), *b = records(4);
    size_t size;
    unsigned char *zipped = packed(b, 4 * RECORD, &size);
    fdl_dataset *ds = fdl_data_cifar10_parse((const void *[]){a, zipped}, (size_t[]){30 * RECORD, size}, 2);
    check_some(ds);
    free(a);
    free(b);
    free(zipped);
    assert_int_equal(fdl_data_len(ds), 34);
    fdl_loader *dl = fdl_data_eval_loader(ds, 34);
    check_some(dl);
    assert_int_equal(fdl_data_loader_sample_bytes(dl), PIXELS + 8);
    FDL_BATCHES(x, dl, 0)
    {
        fdl_tensor *image = fdl_data_named(x, "image");
        assert_true(fdl_shape_eq(fdl_shape_of(image), FDL_SHAPE(34, 3, 32, 32)));
        for (int i = 0; i < 34; i++) {
            int k = i < 30 ? i : i - 30;
            double colour[] = {k, 2 * k, 255 - k};
            assert_int_equal(fdl_item_i64(fdl_select(fdl_data_named(x, "label"), 0, i)), k % 10);
            for (int c = 0; c < 3; c++) {
                FDL_SCOPE;
                fdl_tensor *plane = fdl_select(fdl_select(image, 0, i), 0, c);
                double first = fdl_item(fdl_select(fdl_select(plane, 0, 31), 0, 0));
                double last = fdl_item(fdl_select(fdl_select(plane, 0, 0), 0, 31));
                check_number(first, 7 / 255.0, 1e-7);
                check_number(last, colour[c] / 255, 1e-7);
            }
        }
    }
    fdl_data_loader_free(dl);
    assert_int_equal(fdl_live_tensors(), before);
    assert_string_equal(fdl_data_cifar10_class(0), "airplane");
    assert_string_equal(fdl_data_cifar10_class(6), "frog");
    assert_string_equal(fdl_data_cifar10_class(9), "truck");
    assert_null(fdl_data_cifar10_class(10));
    check_error(FDL_E_RANGE, "label 10");
    assert_null(fdl_data_cifar10_class(-1));
    check_error(FDL_E_RANGE, "label -1");
}

static void bad_files(void **state)
{
    (void)state;
    int64_t before = fdl_live_tensors();
    unsigned char *a = records(4);
    const void *files[] = {a, a, NULL};
    size_t whole = 4 * RECORD, sizes[] = {whole, 100, whole};
    assert_null(fdl_data_cifar10_parse(files, sizes, 2));
    check_error(FDL_E_FORMAT, "file 1", "100 bytes", "3073");
    sizes[1] = whole - 1;
    assert_null(fdl_data_cifar10_parse(files, sizes, 2));
    check_error(FDL_E_FORMAT, "file 1", "12291 bytes");
    sizes[1] = 0;
    assert_null(fdl_data_cifar10_parse(files, sizes, 2));
    check_error(FDL_E_FORMAT, "0 bytes");
    sizes[1] = whole;
    assert_null(fdl_data_cifar10_parse(files, sizes, 3));
    check_error(FDL_E_NULL, "one of the files");
    a[2 * RECORD] = 10;
    assert_null(fdl_data_cifar10_parse(files, sizes, 1));
    check_error(FDL_E_FORMAT, "file 0", "record 2", "label 10");
    assert_null(fdl_data_cifar10_parse(files, sizes, 0));
    check_error(FDL_E_ARG, "0 files");
    assert_null(fdl_data_cifar10_parse(NULL, sizes, 1));
    check_error(FDL_E_NULL, "files");
    assert_null(fdl_data_cifar10_parse(files, NULL, 1));
    check_error(FDL_E_NULL, "sizes");
    size_t size;
    unsigned char *zipped = packed(a, whole, &size);
    files[0] = zipped;
    for (size_t n = 2; n < size; n += 1 + n / 3) { /* cut, or not packed at all: never a crash */
        assert_null(fdl_data_cifar10_parse(files, &n, 1));
        check_error(FDL_E_FORMAT, "file 0");
    }
    free(zipped);
    free(a);
    assert_int_equal(fdl_live_tensors(), before);
}

static void folders(void **state)
{
    (void)state;
    char folder[64] = "/tmp/flodl-cifar10-XXXXXX", sub[128], path[256];
    assert_non_null(mkdtemp(folder));
    assert_null(fdl_data_cifar10(folder));
    check_error(FDL_E_IO, folder, "data_batch_1.bin", "https://", "No such file");
    snprintf(sub, sizeof sub, "%s/cifar10", folder);
    assert_int_equal(mkdir(sub, 0700), 0);
    unsigned char *a = records(10000);
    size_t size, sizes[2] = {(size_t)9999 * RECORD, (size_t)10000 * RECORD};
    snprintf(path, sizeof path, "%s/test_batch.bin", sub);
    for (int i = 0; i < 2; i++) {
        check_ok(fdl_file_save(path, a, sizes[i]));
        fdl_dataset *ds = fdl_data_cifar10(folder, .split = FDL_TEST);
        if (i == 0) {
            assert_null(ds);
            check_error(FDL_E_FORMAT, path, "9999 records", "10000");
        } else {
            check_some(ds);
            assert_int_equal(fdl_data_len(ds), 10000);
            fdl_data_free(ds);
        }
    }
    remove(path);
    unsigned char *zipped = packed(a, sizes[1], &size);
    for (int i = 1; i <= 5; i++) {
        assert_null(fdl_data_cifar10(folder));
        snprintf(path, sizeof path, "%s/data_batch_%d.bin", sub, i);
        check_error(FDL_E_IO, path);
        strcat(path, ".gz");
        check_ok(fdl_file_save(path, zipped, size));
    }
    fdl_dataset *ds = fdl_data_cifar10(folder);
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 50000);
    fdl_data_free(ds);
    for (int i = 1; i <= 5; i++) {
        snprintf(path, sizeof path, "%s/data_batch_%d.bin.gz", sub, i);
        remove(path);
    }
    free(zipped);
    free(a);
    assert_null(fdl_data_cifar10(folder, .split = 2));
    check_error(FDL_E_ARG, "split is 2");
    assert_null(fdl_data_cifar10(NULL));
    check_error(FDL_E_NULL, "dir");
    rmdir(sub);
    assert_int_equal(rmdir(folder), 0);
}

static void real_files(void **state)
{
    (void)state;
    const char *dir = getenv("FLODL_DATA");
    char path[4096] = "";
    if (dir)
        snprintf(path, sizeof path, "%s/cifar10/data_batch_1.bin.gz", dir);
    if (!dir || access(path, R_OK) != 0) {
        print_message("skipped: $FLODL_DATA has no cifar10\n");
        skip();
    }
    /* As the world normalises: means and deviations of the training set's channels. */
    static const double mean[] = {0.4914, 0.4822, 0.4465}, deviation[] = {0.2470, 0.2435, 0.2616};
    FDL_SCOPE;
    fdl_dataset *ds = fdl_data_cifar10(dir);
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 50000);
    fdl_loader *drop = fdl_data_loader(fdl_data_ref(ds), 64), *all = fdl_data_eval_loader(ds, 1000);
    check_some(drop);
    check_some(all);
    assert_int_equal(fdl_data_loader_batches(drop), 781);
    double sum[3] = {0}, squares[3] = {0};
    int64_t label[1000], count[10] = {0}, batch = 0;
    FDL_BATCHES(b, all, 0)
    {
        fdl_tensor *x = fdl_double(fdl_data_named(b, "image"));
        for (int c = 0; c < 3; c++) {
            fdl_tensor *channel = fdl_select(x, 1, c);
            sum[c] += fdl_item(fdl_sum(channel));
            squares[c] += fdl_item(fdl_sum(fdl_square(channel)));
        }
        check_ok(fdl_to_i64(fdl_data_named(b, "label"), label, 1000));
        for (int i = 0; i < 1000; i++)
            count[label[i]]++;
        if (batch++ == 0) /* frog, truck, truck, deer, automobile */
            assert_memory_equal(label, ((int64_t[]){6, 9, 9, 4, 1}), 5 * sizeof *label);
    }
    check_ok(fdl_data_status(all));
    for (int k = 0; k < 10; k++)
        assert_int_equal(count[k], 5000);
    for (int c = 0; c < 3; c++) {
        double n = 50000.0 * 1024, m = sum[c] / n;
        check_number(m, mean[c], 6e-5);
        check_number(sqrt(squares[c] / n - m * m), deviation[c], 6e-5);
    }
    fdl_data_loader_free(drop);
    fdl_data_loader_free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(bad_files),
        cmocka_unit_test(folders),
        cmocka_unit_test(real_files),
    };
    return cmocka_run_group_tests_name("cifar10", tests, NULL, NULL);
}
