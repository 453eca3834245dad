/* What this is, and what it runs on. */
#ifndef FLODL_VERSION_H
#define FLODL_VERSION_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* Of these headers, and of the library that is loaded (the text is the library's own). CMakeLists.txt says the same. */
#define FDL_VERSION "0.1.0"
FDL_API const char *fdl_version(void);
/* Writes the version of the libtorch that flodl was built with, "2.11.0", to buf of n bytes, cut to fit; returns buf. */
FDL_API char *fdl_libtorch_version(char *buf, size_t n);
/* Whether the libtorch that is loaded has CUDA; whether a GPU is there is fdl_cuda_available. */
FDL_API bool fdl_built_with_cuda(void);
/* torch.get_num_threads, torch.set_num_threads: threads within one CPU operation, for the whole process. n < 1: FDL_E_ARG. */
FDL_API int fdl_num_threads(void);
FDL_API fdl_status fdl_set_num_threads(int n);

FDL_END_DECLS

#endif
