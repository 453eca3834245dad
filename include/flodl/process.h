/* The process and the machine that it runs on. */
#ifndef FLODL_PROCESS_H
#define FLODL_PROCESS_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* Resident memory of this process in KiB; 0 where that is unknown. */
FDL_API int64_t fdl_rss_kb(void);
/* Gives memory that malloc holds without need back to the system: true if some went back. Does nothing without glibc. */
FDL_API bool fdl_malloc_trim(void);
/* Writes "<processor> (16 threads, 64GB) | <GPU> (80GB) | <GPU> (80GB)" to buf of n bytes, cut to fit; returns buf. Sizes are
 * rounded to GiB. Leaves no error behind. */
FDL_API char *fdl_hardware_summary(char *buf, size_t n);

FDL_END_DECLS

#endif
