/* Each allocation that the library's own code makes on some path fails once: a status, no tensor left behind,
 * nothing half made. The program's malloc and operator new stand before the C libraries' and know by the return
 * address who calls. */
#ifndef FLODL_TESTS_NO_MEMORY_H
#define FLODL_TESTS_NO_MEMORY_H

#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NO_MEMORY_SKIPPED 1 /* sanitizers have a malloc of their own */
#else

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static uintptr_t code_from, code_to; /* the library's code */
static __thread long countdown;

static bool fails(void *caller)
{
    if (!countdown || (uintptr_t)caller < code_from || (uintptr_t)caller >= code_to || --countdown)
        return false;
    errno = ENOMEM;
    return true;
}

FDL_API void *malloc(size_t n)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n);
}
FDL_API void *calloc(size_t n, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_calloc(n, size);
}
FDL_API void *realloc(void *p, size_t n)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_realloc(p, n);
}

/* operator new, new[] and the form that gives NULL, under the names that gcc and clang give them. */
static void *new_for(size_t n, void *caller)
{
    void *p = fails(caller) ? NULL : __libc_malloc(n ? n : 1);
    if (!p) { /* as a C++ exception, which C++ alone can name */
        void (*throw_bad_alloc)(void);
        *(void **)&throw_bad_alloc = dlsym(RTLD_DEFAULT, "_ZSt17__throw_bad_allocv");
        throw_bad_alloc();
    }
    return p;
}
FDL_API void *_Znwm(size_t n);
void *_Znwm(size_t n)
{
    return new_for(n, __builtin_return_address(0));
}
FDL_API void *_Znam(size_t n);
void *_Znam(size_t n)
{
    return new_for(n, __builtin_return_address(0));
}
FDL_API void *_ZnwmRKSt9nothrow_t(size_t n, const void *tag);
void *_ZnwmRKSt9nothrow_t(size_t n, const void *tag)
{
    (void)tag;
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(n ? n : 1);
}

static int find_library(struct dl_phdr_info *info, size_t size, void *ctx)
{
    (void)size;
    uintptr_t inside = *(uintptr_t *)ctx;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr,
                  end = begin + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && inside >= begin && inside < end) {
            code_from = begin;
            code_to = end;
            return 1;
        }
    }
    return 0;
}

/* A group setup. */
static int no_memory_setup(void **state)
{
    (void)state;
    uintptr_t inside = (uintptr_t)(fdl_scope_open);
    return dl_iterate_phdr(find_library, &inside) == 1 ? 0 : -1;
}

/* Runs fn with the 1st, 2nd, ... allocation failing until none is left to fail; it returns whether it
 * succeeded. */
FDL_UNUSED static void every_allocation(bool (*fn)(void), int at_least)
{
    assert_true(fn()); /* everything that is made once is there */
    int64_t before = fdl_live_tensors();
    int n = 1;
    for (bool all = false; !all; n++) {
        fdl_clear_error();
        countdown = n;
        bool good = fn();
        all = countdown != 0; /* the n-th never came */
        countdown = 0;
        if (all)
            assert_true(good);
        else if (!good && fdl_last_error()->status != FDL_E_OOM) {
            print_error("allocation %d: %s: %s\n", n, fdl_status_name(fdl_last_error()->status),
                        fdl_last_error()->message);
            fail();
        }
        assert_int_equal(fdl_live_tensors(), before);
        assert_true(n < 1000);
    }
    assert_true(n - 2 >= at_least);
}

#endif
#endif
