/* Files that appear whole or not at all, reading, gzip (against zlib's own compressor and against damage). */
#include "folder.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zlib.h>

static void expect_file(const char *path, const char *text)
{
    size_t n;
    char *bytes = fdl_file_read(path, 0, &n);
    check_some(bytes);
    assert_int_equal(n, strlen(text));
    assert_string_equal(bytes, text);
    free(bytes);
}

static void whole(void **state)
{
    (void)state;
    const char *path = path_of("whole");
    check_ok(fdl_file_save(path, "one", 3));
    expect_file(path, "one");
    fdl_file *f = fdl_file_create(path);
    check_some(f);
    check_ok(fdl_file_write(f, "tw", 2));
    fprintf(fdl_file_stream(f), "%c", 'o');
    fflush(fdl_file_stream(f));
    expect_file(path, "one"); /* until the end the old one */
    assert_int_equal(files_in_folder(), 2);
    char temporary[600];
    snprintf(temporary, sizeof temporary, "%s.tmp.%ld", path, (long)getpid());
    expect_file(temporary, "two");
    check_ok(fdl_file_commit(f));
    expect_file(path, "two");
    f = fdl_file_create(path);
    check_some(f);
    check_ok(fdl_file_write(f, "three", 5));
    fdl_file_discard(f);
    fdl_file_discard(NULL);
    expect_file(path, "two");
    assert_int_equal(files_in_folder(), 1);
    check_ok(fdl_file_save(path, NULL, 0));
    expect_file(path, "");
    remove(path);
}

static void permissions_and_links(void **state)
{
    (void)state;
    char path[256], link[256];
    strcpy(path, path_of("target"));
    strcpy(link, path_of("link"));
    check_ok(fdl_file_save(path, "a", 1));
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink("target", link), 0);
    check_ok(fdl_file_save(link, "b", 1));
    struct stat st;
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    expect_file(path, "b");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    remove(link);
    remove(path);

    assert_null(fdl_file_create(folder));
    check_error(FDL_E_ARG, folder, "folder");
    assert_null(fdl_file_create("/dev/null"));
    check_error(FDL_E_ARG, "/dev/null", "device");
    assert_null(fdl_file_create("/nowhere/at/all"));
    check_error(FDL_E_IO, "/nowhere/at/all", "No such file");
    assert_null(fdl_file_create(NULL));
    check_error(FDL_E_NULL, "path");
    assert_int_equal(fdl_file_commit(NULL), FDL_E_NULL);
    fdl_clear_error();
}

/* A disk that fills up, played by the limit of file size. */
static void full_disk(void **state)
{
    (void)state;
    const char *path = path_of("full");
    check_ok(fdl_file_save(path, "old", 3));
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = (struct rlimit){10000, before.rlim_max};
    static char bytes[20000];

    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    fdl_status large = fdl_file_save(path, bytes, sizeof bytes); /* fails while writing */
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(large, FDL_E_IO);
    check_error(FDL_E_IO, path, "File too large");

    fdl_file *f = fdl_file_create(path);
    check_some(f);
    assert_int_equal(setvbuf(fdl_file_stream(f), NULL, _IOFBF, 65536), 0);
    check_ok(fdl_file_write(f, bytes, sizeof bytes)); /* still in the buffer */
    small.rlim_cur = 10000;
    setrlimit(RLIMIT_FSIZE, &small);
    fdl_status late = fdl_file_commit(f);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(late, FDL_E_IO);
    check_error(FDL_E_IO, path, "File too large");

    f = fdl_file_create(path); /* an error in the user's own writing is found at the end */
    check_some(f);
    setrlimit(RLIMIT_FSIZE, &small);
    fwrite(bytes, 1, sizeof bytes, fdl_file_stream(f));
    fflush(fdl_file_stream(f));
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(fdl_file_commit(f), FDL_E_IO);
    check_error(FDL_E_IO, path, "earlier write");

    expect_file(path, "old");
    assert_int_equal(files_in_folder(), 1);
    remove(path);
}

static char shared[256];
static void *writer(void *ctx)
{
    char text[64];
    for (int i = 0; i < 100; i++) {
        memset(text, 'a' + (int)(intptr_t)ctx, sizeof text);
        if (fdl_file_save(shared, text, sizeof text) != FDL_OK)
            return (void *)1;
    }
    return NULL;
}

static void writers_at_once(void **state)
{
    (void)state;
    strcpy(shared, path_of("shared"));
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, writer, (void *)(intptr_t)i), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    size_t n;
    char *text = fdl_file_read(shared, 0, &n);
    check_some(text);
    assert_int_equal(n, 64);
    for (int i = 0; i < 64; i++)
        assert_int_equal(text[i], text[0]);
    free(text);
    assert_int_equal(files_in_folder(), 1);
    remove(shared);
}

static void reading(void **state)
{
    (void)state;
    const char *path = path_of("read");
    size_t n;
    assert_null(fdl_file_read(path, 0, &n));
    check_error(FDL_E_IO, path, "No such file");
    assert_null(fdl_file_read(folder, 0, &n));
    check_error(FDL_E_IO, folder, "directory");
    check_ok(fdl_file_save(path, "0123456789", 10));
    assert_null(fdl_file_read(path, 9, &n));
    check_error(FDL_E_FORMAT, path, "9 bytes");
    char *bytes = fdl_file_read(path, 10, &n);
    check_some(bytes);
    assert_int_equal(n, 10);
    free(bytes);
    bytes = fdl_file_read("/proc/self/status", 0, &n); /* the system says size 0 */
    check_some(bytes);
    assert_true(n > 100 && strlen(bytes) == n);
    free(bytes);
    assert_null(fdl_file_read("/dev/zero", 100000, &n));
    check_error(FDL_E_FORMAT, "/dev/zero");
    remove(path);
}

/* Appends a gzip member of n bytes to out; level 0 to 9. Returns its size. */
static size_t pack(const void *bytes, size_t n, int level, unsigned char *out, size_t room)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)(uintptr_t)bytes;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t size = room - z.avail_out;
    deflateEnd(&z);
    return size;
}

static void unpacking(void **state)
{
    (void)state;
    enum { N = 300000 };
    unsigned char *plain = malloc(N), *packed = malloc(2 * N), *out = malloc(N);
    assert_true(plain && packed && out);
    fdl_rng r = fdl_rng_seed(3);
    for (int i = 0; i < N; i++)
        plain[i] = (unsigned char)fdl_rng_below(&r, 7);
    for (int sizes = 0; sizes < 4; sizes++) { /* sizes around the buffers inside */
        size_t n = (size_t[]){0, 1, 65535, N}[sizes], size;
        size_t packed_size = pack(plain, n, 6, packed, 2 * N);
        unsigned char *whole_file = fdl_gunzip(packed, packed_size, 0, &size);
        check_some(whole_file);
        assert_int_equal(size, n);
        assert_memory_equal(whole_file, plain, n);
        free(whole_file);
    }
    size_t a = pack(plain, 100000, 9, packed, N),
           b = pack(plain + 100000, N - 100000, 0, packed + a, 2 * N - a), size;
    unsigned char *both = fdl_gunzip(packed, a + b, N, &size);
    check_some(both);
    assert_int_equal(size, N);
    assert_memory_equal(both, plain, N);
    free(both);
    memset(packed + a + b, 0, 10); /* padding */
    check_ok(fdl_gunzip_into(packed, a + b + 10, 0, out, 1000, &size));
    assert_int_equal(size, N);
    assert_memory_equal(out, plain, 1000);
    check_ok(fdl_gunzip_into(packed, a + b, N, NULL, 0, &size));
    assert_int_equal(size, N);
    check_ok(fdl_gunzip_head(packed, a / 2, out, 500, &size));
    assert_int_equal(size, 500);
    assert_memory_equal(out, plain, 500);

    assert_null(fdl_gunzip(packed, a + b, N - 1, &size));
    check_error(FDL_E_FORMAT, "299999");
    assert_int_equal(fdl_gunzip_into(packed, a + b, N - 1, out, 10, &size), FDL_E_FORMAT);
    check_error(FDL_E_FORMAT, "299999");
    packed[a + b] = 'x';
    assert_null(fdl_gunzip(packed, a + b + 1, 0, &size));
    check_error(FDL_E_FORMAT, "1 bytes behind");
    packed[a - 8] ^= 1; /* the first member's checksum */
    assert_null(fdl_gunzip(packed, a, 0, &size));
    check_error(FDL_E_FORMAT, "check");
    packed[a - 8] ^= 1;
    assert_null(fdl_gunzip("plain", 5, 0, &size));
    check_error(FDL_E_FORMAT, "1f 8b");
    assert_null(fdl_gunzip(NULL, 5, 0, &size));
    check_error(FDL_E_NULL, "bytes");
    for (size_t cut = 0; cut < a; cut += cut < 40 || cut > a - 40 ? 1 : 997) { /* every kind of early end */
        assert_null(fdl_gunzip(packed, cut, 0, &size));
        check_error(FDL_E_FORMAT, "gzip");
    }
    for (int i = 0; i < 2000; i++) { /* damage: an error, or (a byte that doesn't matter) the same content */
        size_t at = fdl_rng_below(&r, a), bit = fdl_rng_below(&r, 8);
        packed[at] ^= (unsigned char)(1u << bit);
        unsigned char *bytes = fdl_gunzip(packed, a, 100000, &size);
        if (bytes)
            assert_true(size == 100000 && memcmp(bytes, plain, size) == 0);
        else
            check_error(FDL_E_FORMAT, "gzip");
        free(bytes);
        packed[at] ^= (unsigned char)(1u << bit);
    }

    const char *path = path_of("packed.gz");
    check_ok(fdl_file_save(path, packed, a));
    char *text = fdl_file_read_gz(path, 0, &size);
    check_some(text);
    assert_int_equal(size, 100000);
    free(text);
    check_ok(fdl_file_save(path, packed, a / 2));
    assert_null(fdl_file_read_gz(path, 0, &size));
    check_error(FDL_E_FORMAT, path, "cut short");
    check_ok(fdl_file_save(path, "plain", 5));
    text = fdl_file_read_gz(path, 0, &size);
    check_some(text);
    assert_string_equal(text, "plain");
    free(text);
    remove(path);
    free(plain);
    free(packed);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),     cmocka_unit_test(permissions_and_links),
        cmocka_unit_test(full_disk), cmocka_unit_test(writers_at_once),
        cmocka_unit_test(reading),   cmocka_unit_test(unpacking),
    };
    return cmocka_run_group_tests_name("file", tests, make_folder, remove_folder);
}
