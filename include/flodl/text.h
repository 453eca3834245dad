/* Numbers as people read them: the one formatter of durations, bytes and metrics. Always with a decimal
 * point, whatever the process's locale. Each writes to buf of n bytes, cut to fit, and returns buf;
 * FDL_TEXT_SIZE bytes hold every result. And characters in UTF-8. */
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

/* ---- UTF-8 ------------------------------------------------------------------------------------- */

/* Bytes, 1 to 4, of the character that the n bytes at text begin with, and its code point in *code (NULL: not
 * wanted). 0 where no well-formed character begins: no bytes, a stray or missing continuation, an overlong
 * form, a surrogate, above U+10FFFF. */
FDL_API int fdl_utf8_decode(const void *text, size_t n, uint32_t *code);
/* Writes a code point to out, 1 to 4 bytes, and returns their number; 0 for a surrogate, above U+10FFFF, or on NULL. */
FDL_API int fdl_utf8_encode(uint32_t code, char out[4]);

FDL_END_DECLS

#endif
