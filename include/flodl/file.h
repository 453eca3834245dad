/* Files: whole ones read at once, and new ones that appear complete or not at all. */
#ifndef FLODL_FILE_H
#define FLODL_FILE_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* ---- reading ----------------------------------------------------------------------------------- */

/* The whole file, owned (free), with a zero byte behind its *size bytes. More than max bytes: FDL_E_FORMAT;
 * max 0: no bound. FDL_E_IO with the path and the system's reason when it can't be read. */
FDL_API void *fdl_file_read(const char *path, size_t max, size_t *size);
/* The same; a gzip file is unpacked, and max bounds its unpacked size. */
FDL_API void *fdl_file_read_gz(const char *path, size_t max, size_t *size);

/* ---- writing: all or nothing ------------------------------------------------------------------- */

/* A file that is being written under path.tmp.<pid> in the same folder, and takes path's place when it is
 * committed: at every moment path is the old file or the whole new one. */
typedef struct fdl_file fdl_file;

/* Owned: ended by fdl_file_commit or fdl_file_discard. An existing path keeps its permissions, a link its
 * target's; what is no regular file (a folder, a device): FDL_E_ARG. */
FDL_API fdl_file *fdl_file_create(const char *path);
FDL_API fdl_status fdl_file_write(fdl_file *file, const void *bytes, size_t n);
/* The stream under it, borrowed, for fprintf and its like; their errors come out of fdl_file_commit. NULL on
 * NULL. */
FDL_API FILE *fdl_file_stream(fdl_file *file);
/* Flushes to the disk, renames, frees. On failure the old file stays and the new one is gone. */
FDL_API fdl_status fdl_file_commit(fdl_file *file);
/* Gives up: the old file stays. NULL: nothing. Keeps errno. */
FDL_API void fdl_file_discard(fdl_file *file);
/* Create, write, commit. */
FDL_API fdl_status fdl_file_save(const char *path, const void *bytes, size_t n);

/* ---- gzip (RFC 1952, one or more members, zero bytes behind them allowed) ------------------------ */

/* Whether the bytes begin as gzip does. */
FDL_API bool fdl_is_gzip(const void *bytes, size_t n);
/* Unpacks all: owned (free), with a zero byte behind its *size bytes. Damaged or cut short, or more than max
 * bytes unpacked (max 0: no bound): FDL_E_FORMAT. */
FDL_API void *fdl_gunzip(const void *bytes, size_t n, size_t max, size_t *size);
/* Unpacks the first bytes only, as many as there are up to cap: *got. What comes after them isn't looked at.
 */
FDL_API fdl_status fdl_gunzip_head(const void *bytes, size_t n, void *out, size_t cap, size_t *got);
/* Checks all and keeps the first cap bytes; *size is the whole unpacked size. Needs no memory beyond out. */
FDL_API fdl_status fdl_gunzip_into(const void *bytes, size_t n, size_t max, void *out, size_t cap,
                                   size_t *size);

/* ---- for errors of your own -------------------------------------------------------------------- */

/* fdl_fail(FDL_E_IO, ...) with ": " and the system's text for errno behind the message. */
FDL_API fdl_status fdl_fail_errno(const char *format, ...) FDL_PRINTF(1, 2);

FDL_END_DECLS

#endif
