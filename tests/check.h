/* What every test program needs: cmocka with its headers, and checks of status and error text. */
#ifndef FLODL_TESTS_CHECK_H
#define FLODL_TESTS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "flodl/flodl.h"

/* FLODL_TEST=name runs the tests of that name alone; * and ? stand for any characters. */
__attribute__((constructor)) static void only_tests_named(void)
{
    const char *name = getenv("FLODL_TEST");
    if (name && *name)
        cmocka_set_test_filter(name);
}

/* The last error has this status and every one of the words in its message; cleared afterwards. */
static inline void check_error_(fdl_status status, const char *const *words, const char *file, int line)
{
    const fdl_error *e = fdl_last_error();
    if (e->status != status) {
        print_error("%s:%d: %s expected, is %s: %s\n", file, line, fdl_status_name(status),
                    fdl_status_name(e->status), e->message);
        _fail(file, line);
    }
    for (; *words; words++)
        if (!strstr(e->message, *words)) {
            print_error("%s:%d: \"%s\" is not in: %s\n", file, line, *words, e->message);
            _fail(file, line);
        }
    fdl_clear_error();
}
#define check_error(status, ...) \
    check_error_(status, (const char *const[]){__VA_ARGS__, NULL}, __FILE__, __LINE__)

static inline void check_ok_(fdl_status status, const char *call, const char *file, int line)
{
    if (status == FDL_OK)
        return;
    print_error("%s:%d: %s: %s: %s\n", file, line, call, fdl_status_name(status), fdl_last_error()->message);
    _fail(file, line);
}
#define check_ok(call) check_ok_(call, #call, __FILE__, __LINE__)

/* A pointer that is there, or the error. */
static inline void check_some_(const void *p, const char *what, const char *file, int line)
{
    if (p)
        return;
    print_error("%s:%d: %s is NULL: %s: %s\n", file, line, what, fdl_status_name(fdl_last_error()->status),
                fdl_last_error()->message);
    _fail(file, line);
}
#define check_some(p) check_some_(p, #p, __FILE__, __LINE__)

/* A number that is off by no more than the tolerance; 0: the same number. */
static inline void check_number_(double got, double want, double tolerance, const char *text,
                                 const char *file, int line)
{
    double off = got > want ? got - want : want - got;
    if (got == want || off <= tolerance)
        return;
    print_error("%s:%d: %s is %.17g, not %.17g\n", file, line, text, got, want);
    _fail(file, line);
}
#define check_number(got, want, tolerance) check_number_(got, want, tolerance, #got, __FILE__, __LINE__)

/* A test program whose main begins with on_test_device() runs on the GPU too, as <layer>.<subject>.cuda: there
 * FLODL_TEST_DEVICE=cuda makes it the default device. Without a GPU that run is skipped. True on the GPU. */
enum { TEST_SKIPPED = 77 };
static inline bool on_test_device(void)
{
    const char *name = getenv("FLODL_TEST_DEVICE");
    if (!name || strcmp(name, "cuda") != 0)
        return false;
    if (!fdl_cuda_available()) {
        printf("skipped: no CUDA device\n");
        exit(TEST_SKIPPED);
    }
    if (fdl_set_default_device(FDL_CUDA(0)) != FDL_OK) {
        fprintf(stderr, "%s\n", fdl_last_error()->message);
        exit(1);
    }
    return true;
}

#endif
