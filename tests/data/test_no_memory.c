/* Memory runs out in loaders, files and messages. */
#include "no_memory.h"

#include <unistd.h>
#include <zlib.h>

#ifdef NO_MEMORY_SKIPPED
int main(void)
{
    print_message("skipped: sanitizers have a malloc of their own\n");
    return 0;
}
#else

#include "samples.h"

static fdl_status item(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    out[0] = fdl_scalar((double)i);
    return out[0] ? FDL_OK : fdl_error_pending();
}

static bool whole_epoch(fdl_loader *dl)
{
    int n = 0;
    FDL_BATCHES(b, dl, 0)
    n += fdl_data_at(b, 0) != NULL;
    bool good = dl && n == fdl_data_loader_batches(dl) && fdl_data_status(dl) == FDL_OK;
    fdl_data_loader_free(dl);
    return good;
}

static bool items(void)
{
    FDL_SCOPE;
    return whole_epoch(fdl_data_loader(fdl_data_fn(20, 1, item, NULL), 4));
}

/* The consumer's part of streaming: the threads have counts of their own. */
static bool streaming(void)
{
    FDL_SCOPE;
    return whole_epoch(
        fdl_data_loader(fdl_data_fn(20, 1, item, NULL), 4, .mode = FDL_DATA_STREAM, .workers = 2));
}

static fdl_status first_ones(void *ctx, fdl_tensor *const *samples, int64_t k, int n, fdl_tensor **out, int m)
{
    (void)ctx;
    (void)k;
    (void)n;
    (void)m;
    out[0] = samples[0];
    return FDL_OK;
}

static bool collated(void)
{
    FDL_SCOPE;
    return whole_epoch(fdl_data_loader(fdl_data_fn(20, 1, item, NULL), 4, .collate = first_ones,
                                       .prefetch = FDL_PREFETCH_NONE));
}

static bool rows(void)
{
    FDL_SCOPE;
    return whole_epoch(fdl_data_loader(numbers(0, 20), 4,
                                       .sampler = fdl_data_sampler_weighted((double[]){1, 2, 3}, 3, 9, 1)));
}

static bool combined(void)
{
    FDL_SCOPE;
    static int64_t idx[400];
    fdl_dataset *a, *b;
    if (fdl_data_split(numbers(0, 20), 0.5, 1, &a, &b) != FDL_OK)
        return false;
    fdl_dataset *both = fdl_data_div(fdl_data_concat(a, fdl_data_repeat(b, 500)), 0, 2);
    return whole_epoch(fdl_data_loader(fdl_data_subset(both, idx, 400), 40));
}

static unsigned char image_file[16 + 8 * 9], label_file[8 + 8], packed[512];
static size_t packed_size;

static bool mnist(void)
{
    FDL_SCOPE;
    return whole_epoch(
        fdl_data_loader(fdl_data_mnist_parse(packed, packed_size, label_file, sizeof label_file), 4));
}

static bool text(void)
{
    FDL_SCOPE;
    static const char words[] = "to be or not to be";
    fdl_vocab *v = fdl_vocab_chars(words, sizeof words - 1);
    fdl_tensor *ids = fdl_vocab_encode(v, words, sizeof words - 1);
    char *again = fdl_vocab_decode(v, ids);
    fdl_vocab_free(v);
    return again && strcmp(again, words) == 0 &&
           whole_epoch(fdl_data_loader(fdl_data_windows(ids, 4, .stride = 1), 2,
                                       .sampler = fdl_data_sampler_uniform(14, 6, 1)));
}

static unsigned char picture_file[3 * 3073];

static bool cifar10(void)
{
    FDL_SCOPE;
    const void *files[] = {picture_file, picture_file};
    return whole_epoch(fdl_data_loader(
        fdl_data_cifar10_parse(files, (size_t[]){sizeof picture_file, sizeof picture_file}, 2), 4));
}

static void loaders(void **state)
{
    (void)state;
    memcpy(image_file, "\0\0\x08\x03\0\0\0\x08\0\0\0\x03\0\0\0\x03", 16);
    memcpy(label_file, "\0\0\x08\x01\0\0\0\x08", 8);
    z_stream z = {
        .next_in = image_file, .avail_in = sizeof image_file, .next_out = packed, .avail_out = sizeof packed};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    packed_size = z.total_out;
    deflateEnd(&z);
    every_allocation(items, 6);
    every_allocation(streaming, 8);
    every_allocation(collated, 6);
    every_allocation(rows, 7);
    every_allocation(combined, 15);
    every_allocation(mnist, 8);
    every_allocation(text, 8);
    every_allocation(cifar10, 6);
}

static char path[64];

static bool save_and_read(void)
{
    if (fdl_file_save(path, packed, packed_size) != FDL_OK)
        return false;
    size_t n;
    void *content = fdl_file_read_gz(path, 0, &n);
    bool good = content && n == sizeof image_file;
    free(content);
    return good;
}

static void files(void **state)
{
    (void)state;
    char folder[] = "/tmp/flodl-no-memory-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    every_allocation(save_and_read, 3);
    assert_int_equal(remove(path), 0);
    assert_int_equal(rmdir(folder), 0); /* no temporary was left behind */
}

static char told[2048];
static void tell(int level, const char *line, void *ctx)
{
    (void)level;
    (void)ctx;
    snprintf(told, sizeof told, "%s", line);
}

static void messages(void **state)
{
    (void)state;
    char line[1500];
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = 0;
    check_ok(fdl_msg_set_sink(tell, NULL));
    fdl_set_verbosity(FDL_NORMAL);
    countdown = 1;
    fdl_msg("%s", line);
    assert_int_equal(countdown, 0);
    check_ok(fdl_msg_set_sink(NULL, NULL));
    assert_true(strlen(told) > 400 && strncmp(told, line, strlen(told)) == 0); /* the beginning of it */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loaders),
        cmocka_unit_test(files),
        cmocka_unit_test(messages),
    };
    return cmocka_run_group_tests_name("no memory", tests, no_memory_setup, NULL);
}
#endif
