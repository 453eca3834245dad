/* The process's memory and the line on the machine, against what the system says otherwise. */
#include "check.h"

#include <sys/mman.h>
#include <unistd.h>

static void resident_memory(void **state)
{
    (void)state;
    enum { MIB = 1 << 20, SIZE = 64 * MIB };
    int64_t before = fdl_rss_kb();
    assert_true(before > 1000);
    char *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    memset(p, 1, SIZE);
    int64_t grown = fdl_rss_kb() - before;
    assert_true(grown > 60 * 1024 && grown < 80 * 1024);
    assert_int_equal(munmap(p, SIZE), 0);
    assert_true(fdl_rss_kb() < before + 8 * 1024);
}

static void trim(void **state)
{
    (void)state;
    enum { BLOCKS = 4096, SIZE = 16 << 10 };
    static char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(SIZE);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, SIZE);
    }
    for (int i = 0; i < BLOCKS - 1; i++) /* the last keeps the heap's end where it is */
        free(blocks[i]);
    int64_t before = fdl_rss_kb();
    bool went = fdl_malloc_trim();
    int64_t after = fdl_rss_kb();
    free(blocks[BLOCKS - 1]);
#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    assert_true(went);
    assert_true(after < before - 32 * 1024);
#else
    (void)went;
    assert_true(after <= before + 1024);
#endif
}

static void summary(void **state)
{
    (void)state;
    char text[1024], threads[64], cut[10];
    assert_ptr_equal(fdl_hardware_summary(text, sizeof text), text);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(threads, sizeof threads, " (%ld thread%s, ", n, n == 1 ? "" : "s");
    const char *at = strstr(text, threads);
    assert_non_null(at);
    assert_true(at > text);
    long long gib = strtoll(at + strlen(threads), NULL, 10);
    long long real = (long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) >> 30;
    assert_true(gib >= real && gib <= real + 1);
    int gpus = 0;
    for (const char *bar = text; (bar = strstr(bar, " | ")) != NULL; bar++)
        gpus++;
    assert_int_equal(gpus, fdl_cuda_count());
    assert_true(fdl_error_pending() == FDL_OK);
    print_message("%s\n", text);
    fdl_hardware_summary(cut, sizeof cut);
    assert_int_equal(strlen(cut), sizeof cut - 1);
    assert_memory_equal(cut, text, sizeof cut - 1);
    assert_null(fdl_hardware_summary(NULL, 5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resident_memory),
        cmocka_unit_test(trim),
        cmocka_unit_test(summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
