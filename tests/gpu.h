/* Tests of devices: skipped, with the reason, where there are too few. */
#ifndef FLODL_TESTS_GPU_H
#define FLODL_TESTS_GPU_H

#include "check.h"

#define need_gpu()                                      \
    do {                                                \
        if (!fdl_cuda_available()) {                    \
            print_message("skipped: no CUDA device\n"); \
            skip();                                     \
        }                                               \
    } while (0)

#define need_two_gpus()                                                             \
    do {                                                                            \
        if (fdl_cuda_count() < 2) {                                                 \
            print_message("skipped: %d CUDA devices, needs 2\n", fdl_cuda_count()); \
            skip();                                                                 \
        }                                                                           \
    } while (0)

#define GPU FDL_CUDA(0)
#define MIB (INT64_C(1) << 20)

/* Bytes of live tensors on a device. */
static inline int64_t allocated_on(int i)
{
    int64_t n = -1;
    check_ok(fdl_cuda_memory_allocated(i, &n));
    return n;
}

#endif
