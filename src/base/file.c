/* Whole files, and files that appear complete or not at all: written beside, flushed, renamed. */
#include "flodl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

struct fdl_file {
    FILE *stream;
    char *path;      /* where it goes */
    char *temporary; /* where it is */
    char text[];     /* both */
};

fdl_status fdl_fail_errno(const char *format, ...)
{
    int error = errno;
    char text[1024], why[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fdl_fail(FDL_E_IO, "%s: %s", text, strerror_r(error, why, sizeof why));
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* Reads to the end into a buffer that grows: what the system says of a file's size is a hint only (pipes,
 * /proc, a file that somebody is writing). */
static char *read_all(FILE *in, size_t hint, size_t max, const char *path, size_t *size)
{
    size_t room = hint < SIZE_MAX / 2 ? hint + 2 : 4096, used = 0;
    char *bytes = malloc(room);
    while (bytes) {
        used += fread(bytes + used, 1, room - 1 - used, in);
        if (ferror(in)) {
            fdl_fail_errno("fdl_file_read: '%s' can't be read", path);
            break;
        }
        if (max && used > max) {
            fdl_fail(FDL_E_FORMAT, "fdl_file_read: '%s' is larger than %zu bytes", path, max);
            break;
        }
        if (feof(in)) {
            bytes[used] = 0;
            *size = used;
            return bytes;
        }
        if (used + 1 < room)
            continue;
        char *more = room > SIZE_MAX / 2 ? NULL : realloc(bytes, room * 2);
        if (!more) {
            free(bytes);
            bytes = NULL;
            break;
        }
        bytes = more;
        room *= 2;
    }
    if (!bytes)
        return fdl_fail_null(FDL_E_OOM, "fdl_file_read: no memory for %zu bytes of '%s'", room, path);
    free(bytes);
    return NULL;
}

void *fdl_file_read(const char *path, size_t max, size_t *size)
{
    if (!path || !size) {
        fdl_null_operand("fdl_file_read", path ? "size" : "path");
        return NULL;
    }
    *size = 0;
    FILE *in = fopen(path, "rbe");
    if (!in) {
        fdl_fail_errno("fdl_file_read: '%s' can't be opened", path);
        return NULL;
    }
    struct stat st;
    size_t hint =
        fstat(fileno(in), &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t)st.st_size : 4096;
    if (max && hint > max)
        hint = max; /* one byte more is room enough to find out */
    char *bytes = read_all(in, hint, max, path, size);
    fclose(in);
    return bytes;
}

void *fdl_file_read_gz(const char *path, size_t max, size_t *size)
{
    void *bytes = fdl_file_read(path, max, size);
    if (!bytes || !fdl_is_gzip(bytes, *size))
        return bytes;
    void *unpacked = fdl_gunzip(bytes, *size, max, size);
    free(bytes);
    if (!unpacked)
        fdl_error_prefix("'%s': ", path);
    return unpacked;
}

/* ---- writing ----------------------------------------------------------------------------------- */

/* A file that is there and will be replaced: its permissions to *mode, -1 when there is none. */
static fdl_status existing(const char *path, int *mode)
{
    struct stat st;
    *mode = -1;
    if (stat(path, &st) != 0)
        return errno == ENOENT ? FDL_OK : fdl_fail_errno("fdl_file_create: '%s'", path);
    if (!S_ISREG(st.st_mode))
        return fdl_fail(FDL_E_ARG, "fdl_file_create: '%s' is %s; a regular file can be written, or a new one",
                        path, S_ISDIR(st.st_mode) ? "a folder" : "a device, pipe or socket");
    *mode = (int)(st.st_mode & 07777);
    return FDL_OK;
}

/* The second and later names are for writers of one path in several threads, and for what a killed process of
 * the same number left behind. */
static int open_beside(fdl_file *f, size_t room)
{
    for (int i = 1; i < 100; i++) {
        if (i == 1)
            snprintf(f->temporary, room, "%s.tmp.%ld", f->path, (long)getpid());
        else
            snprintf(f->temporary, room, "%s.tmp.%ld.%d", f->path, (long)getpid(), i);
        int fd = open(f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

static void abandon(fdl_file *f)
{
    int error = errno;
    if (f->stream)
        fclose(f->stream);
    unlink(f->temporary);
    free(f);
    errno = error;
}

fdl_file *fdl_file_create(const char *path)
{
    if (!path) {
        fdl_null_operand("fdl_file_create", "path");
        return NULL;
    }
    int mode;
    if (existing(path, &mode) != FDL_OK)
        return NULL;
    char *target = mode >= 0 ? realpath(path, NULL) : NULL; /* a link stays, its target is replaced */
    const char *to = target ? target : path;
    size_t length = strlen(to) + 1, room = length + 40;
    fdl_file *f = malloc(sizeof *f + length + room);
    if (!f) {
        free(target);
        return fdl_fail_null(FDL_E_OOM, "fdl_file_create: no memory to write '%s'", path);
    }
    f->stream = NULL;
    f->path = memcpy(f->text, to, length);
    f->temporary = f->text + length;
    free(target);
    int fd = open_beside(f, room);
    if (fd < 0) {
        fdl_fail_errno("fdl_file_create: '%s' can't be written", f->temporary);
        free(f);
        return NULL;
    }
    if ((mode >= 0 && fchmod(fd, (mode_t)mode) != 0) || !(f->stream = fdopen(fd, "wb"))) {
        fdl_fail_errno("fdl_file_create: '%s' can't be written", f->temporary);
        close(fd);
        abandon(f);
        return NULL;
    }
    return f;
}

fdl_status fdl_file_write(fdl_file *file, const void *bytes, size_t n)
{
    if (!file || (!bytes && n))
        return fdl_null_operand("fdl_file_write", file ? "bytes" : "file");
    if (n && fwrite(bytes, 1, n, file->stream) != n)
        return fdl_fail_errno("fdl_file_write: '%s' can't be written", file->path);
    return FDL_OK;
}

FILE *fdl_file_stream(fdl_file *file)
{
    return file ? file->stream : NULL;
}

/* So that the new name itself survives a power cut. A file system that can't do it loses nothing that it
 * promised. */
static void sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) + 1 : 1;
    char *folder = malloc(n + 1);
    if (!folder)
        return;
    memcpy(folder, slash ? path : ".", n);
    folder[n] = 0;
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(folder);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

fdl_status fdl_file_commit(fdl_file *file)
{
    if (!file)
        return fdl_null_operand("fdl_file_commit", "file");
    if (ferror(file->stream)) { /* its reason went to whoever wrote */
        fdl_status status =
            fdl_fail(FDL_E_IO, "fdl_file_commit: '%s' can't be written: an earlier write failed", file->path);
        abandon(file);
        return status;
    }
    bool good = fflush(file->stream) == 0 && fsync(fileno(file->stream)) == 0;
    if (good) {
        good = fclose(file->stream) == 0;
        file->stream = NULL;
    }
    if (!good || rename(file->temporary, file->path) != 0) {
        fdl_status status = fdl_fail_errno("fdl_file_commit: '%s' can't be written", file->path);
        abandon(file);
        return status;
    }
    sync_folder(file->path);
    free(file);
    return FDL_OK;
}

void fdl_file_discard(fdl_file *file)
{
    if (file)
        abandon(file);
}

fdl_status fdl_file_save(const char *path, const void *bytes, size_t n)
{
    fdl_file *file = fdl_file_create(path);
    if (!file)
        return fdl_error_pending();
    fdl_status status = fdl_file_write(file, bytes, n);
    if (status != FDL_OK) {
        fdl_file_discard(file);
        return status;
    }
    return fdl_file_commit(file);
}
