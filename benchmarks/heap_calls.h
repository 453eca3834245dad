/* Counts what this thread asks of the heap: heap_calls. The program's malloc and its kin come before libc's, so one file of a
 * program includes this. They are visible, or the libraries would go on to libc's. */
#ifndef BENCHMARKS_HEAP_CALLS_H
#define BENCHMARKS_HEAP_CALLS_H

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>

#ifdef __GLIBC__
#pragma GCC visibility push(default)
static __thread int64_t heap_calls;
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    heap_calls++;
    return __libc_malloc(size);
}
void *calloc(size_t n, size_t size)
{
    heap_calls++;
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t size)
{
    heap_calls++;
    return __libc_realloc(p, size);
}
void *memalign(size_t alignment, size_t size)
{
    heap_calls++;
    return __libc_memalign(alignment, size);
}
void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}
int posix_memalign(void **p, size_t alignment, size_t size)
{
    *p = memalign(alignment, size);
    return *p || !size ? 0 : ENOMEM;
}
#pragma GCC visibility pop

/* The heap as it is in a fresh program, but for what is in use. */
static inline void forget_heap(void)
{
    malloc_trim(0);
}
#else
static int64_t heap_calls; /* not counted here */
static inline void forget_heap(void)
{
}
#endif

#endif
