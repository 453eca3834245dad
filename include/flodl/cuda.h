/* CUDA devices and their memory. */
#ifndef FLODL_CUDA_H
#define FLODL_CUDA_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* Everything here exists without CUDA too: false, 0, FDL_E_DEVICE. Device indices run from 0; another is FDL_E_DEVICE. */

/* ---- discovery ---------------------------------------------------------------------------------------- */

/* Whether a GPU can be used, and how many there are. */
FDL_API bool fdl_cuda_available(void);
FDL_API int fdl_cuda_count(void);
/* This thread's current device, 0 without CUDA. */
FDL_API int fdl_cuda_current(void);
FDL_API fdl_status fdl_cuda_set_current(int i);
/* Waits for everything that was issued to the device; keeps the current device. */
FDL_API fdl_status fdl_cuda_synchronize(int i);

/* ---- memory, in bytes ----------------------------------------------------------------------------------- */

/* torch.cuda.memory_allocated, memory_reserved: what backs live tensors; what the allocator holds. max_: the largest since
 * the last reset. */
FDL_API fdl_status fdl_cuda_memory_allocated(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_memory_reserved(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_max_memory_allocated(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_max_memory_reserved(int i, int64_t *n);
FDL_API fdl_status fdl_cuda_reset_peak_memory_stats(int i);
/* torch.cuda.empty_cache: gives back what no tensor uses, on all devices. */
FDL_API fdl_status fdl_cuda_empty_cache(void);
/* torch.cuda.mem_get_info: the driver's view. used is total less free. */
FDL_API fdl_status fdl_cuda_mem_info(int i, int64_t *used, int64_t *total);
/* The device's name, at most n - 1 bytes of it, in buf. */
FDL_API fdl_status fdl_cuda_name(int i, char *buf, size_t n);

FDL_END_DECLS

#endif
