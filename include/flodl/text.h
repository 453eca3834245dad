/* Numbers as people read them: the one formatter of durations, bytes and metrics. Always with a decimal
 * point, whatever the process's locale. Each writes to buf of n bytes, cut to fit, and returns buf;
 * FDL_TEXT_SIZE bytes hold every result. */
#ifndef FLODL_TEXT_H
#define FLODL_TEXT_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

enum { FDL_TEXT_SIZE = 32 };

/* A duration: "42ms", "4.8s", "1m 30s", "1h 01m", from 48 hours on "2d 03h". Rounded to milliseconds, then
 * cut. Negative, NaN, infinite, or more than a hundred million days: an em dash. */
FDL_API char *fdl_format_eta(double seconds, char *buf, size_t n);
/* 1024-based: "512 B", "500 KB", "100 MB", "2.1 GB", rounded to the nearest. A negative count has its sign.
 */
FDL_API char *fdl_format_bytes(int64_t bytes, char *buf, size_t n);
/* A loss or a rate: "0", below 0.001 "1.00e-4", below 100 four decimals, else two; "nan", "inf", "-inf". From
 * 1e15 on "1.00e15". Ties go away from zero, as in JavaScript's toFixed. */
FDL_API char *fdl_format_metric(double value, char *buf, size_t n);

FDL_END_DECLS

#endif
