/* CUDA devices, their memory, and how their kernels are chosen. Streams, events and graphs: stream.h, cuda_graph.h. */
#ifndef FLODL_CUDA_H
#define FLODL_CUDA_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* Everything here exists without CUDA too: false, 0, FDL_E_DEVICE ("built without CUDA", "no CUDA device found"). Device
 * indices run from 0; another is FDL_E_DEVICE.
 *
 * An error that destroys a device's context (an illegal access, an assertion in a kernel) is FDL_E_DEVICE, as is every call
 * for CUDA after it: what was on the devices is lost, and only another process can use them. */

/* ---- discovery ---------------------------------------------------------------------------------------- */

/* Whether a GPU can be used, and how many there are. */
FDL_API bool fdl_cuda_available(void);
FDL_API int fdl_cuda_count(void);
/* This thread's current device, 0 without CUDA. */
FDL_API int fdl_cuda_current(void);
FDL_API fdl_status fdl_cuda_set_current(int i);
/* Waits for everything that was issued to the device; keeps the current device. */
FDL_API fdl_status fdl_cuda_synchronize(int i);

/* The device's name, at most n - 1 bytes of it, in buf. */
FDL_API fdl_status fdl_cuda_name(int i, char *buf, size_t n);
/* torch.cuda.get_device_capability: 9 and 0 for sm_90. Either pointer may be NULL. */
FDL_API fdl_status fdl_cuda_capability(int i, int *major, int *minor);

typedef struct fdl_cuda_device_info {
    int index;
    char name[256];
    int64_t total_memory; /* bytes */
    int sm_major, sm_minor;
    int multiprocessors;
    char uuid[48]; /* "GPU-…", as nvidia-smi -L prints it: tells devices apart whatever their indices are */
} fdl_cuda_device_info;
/* torch.cuda.get_device_properties. */
FDL_API fdl_status fdl_cuda_info(int i, fdl_cuda_device_info *info);

/* Computes something on the device and reads it back. A device for which libtorch has no kernels: FDL_E_UNSUPPORTED, with
 * the build of libtorch that has them. */
FDL_API fdl_status fdl_cuda_probe(int i);
/* Writes the indices of the devices that pass the probe to out, `room` at most (out may be NULL); returns how many there
 * are. Why another doesn't pass is a message at FDL_VERBOSE, no error. */
FDL_API int fdl_cuda_usable(int *out, int room);
/* torch.cuda.utilization: percent of the last interval in which kernels ran, 0 to 100; -1 where the driver doesn't say. No
 * error. */
FDL_API int fdl_cuda_utilization(int i);

/* ---- memory, in bytes ----------------------------------------------------------------------------------- */

/* torch.cuda.memory_allocated, memory_reserved: what backs live tensors; what the allocator holds. max_: the largest since
 * the last reset. An allocation that fails is FDL_E_OOM with the sizes in its message; fdl_cuda_empty_cache and another try
 * may help. */
FDL_API fdl_status fdl_cuda_memory_allocated(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_memory_reserved(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_max_memory_allocated(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_max_memory_reserved(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_reset_peak_memory_stats(int i);
/* torch.cuda.empty_cache: gives back what no tensor uses, on all devices. */
FDL_API fdl_status fdl_cuda_empty_cache(void);
/* torch.cuda.mem_get_info: the driver's view. used is total less free. */
FDL_API fdl_status fdl_cuda_mem_info(int i, int64_t *used, int64_t *total);
/* torch.cuda.set_per_process_memory_fraction: the allocator reserves at most this share of the device's memory for this
 * process, more is FDL_E_OOM. 0 < fraction <= 1, else FDL_E_ARG. */
FDL_API fdl_status fdl_cuda_set_memory_fraction(int i, double fraction);

/* One quantity of the allocator: now, the largest since the last reset, and what was added and taken away in all. */
typedef struct fdl_cuda_stat {
    int64_t current, peak, allocated, freed;
} fdl_cuda_stat;
typedef struct fdl_cuda_memory {
    fdl_cuda_stat allocated;      /* bytes: what backs live tensors, rounded up as the allocator does */
    fdl_cuda_stat requested;      /* bytes: the same before rounding */
    fdl_cuda_stat active;         /* bytes: allocated, or still used by another stream */
    fdl_cuda_stat reserved;       /* bytes: what the allocator holds */
    fdl_cuda_stat inactive_split; /* bytes: free parts of segments that are in use: can't be given back */
    fdl_cuda_stat blocks;         /* count of allocated */
    fdl_cuda_stat active_blocks;
    fdl_cuda_stat segments; /* count of reserved: calls of cudaMalloc */
    fdl_cuda_stat inactive_blocks;
    int64_t retries;      /* cudaMalloc failed, the cache was emptied and cudaMalloc tried again */
    int64_t ooms;         /* and failed again: FDL_E_OOM */
    double fragmentation; /* share of reserved that is inactive_split, 0 to 1 */
} fdl_cuda_memory;
/* torch.cuda.memory_stats. */
FDL_API fdl_status fdl_cuda_memory_stats(int i, fdl_cuda_memory *memory);
/* torch.cuda.memory_summary: the same as a table, written to `to`. A failed write: FDL_E_IO. */
FDL_API fdl_status fdl_cuda_memory_summary(int i, FILE *to);

/* ---- how kernels are chosen: for the whole process, with or without a device ------------------------------- */

/* torch.backends.cudnn.benchmark, off at first: cuDNN times its convolutions for each new shape and keeps the fastest.
 * Helps where shapes repeat, hurts where they vary; the choice, and so the last bits of a result, may differ between runs. */
FDL_API fdl_status fdl_cudnn_benchmark(bool on);
FDL_API bool fdl_is_cudnn_benchmark(void);
/* torch.backends.cudnn.enabled, on at first: off, libtorch's own kernels compute. */
FDL_API fdl_status fdl_cudnn_enabled(bool on);
FDL_API bool fdl_is_cudnn_enabled(void);
/* torch.backends.cuda.matmul.allow_tf32 (false at first) and torch.backends.cudnn.allow_tf32 (true at first): float32
 * products on tensor cores with 10 bits of fraction in the factors. */
FDL_API fdl_status fdl_allow_tf32(bool matmul, bool cudnn);
/* What holds now. Either pointer may be NULL. */
FDL_API fdl_status fdl_is_tf32_allowed(bool *matmul, bool *cudnn);

FDL_END_DECLS

#endif
