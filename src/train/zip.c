/* Entries of a zip file, by libzip (CMake's FLODL_ZIP). */
#include "zip.h"

#ifdef FLODL_ZIP

#include <zip.h>

struct zip_file_in {
    const source *s;
    zip_t *zip;
    uint64_t at; /* where libzip reads next */
};

/* ---- libzip reads through source_bytes -------------------------------------------------------------- */

static zip_int64_t stat_of(const zip_file_in *z, void *data)
{
    zip_stat_t *st = data;
    zip_stat_init(st);
    st->size = z->s->size;
    st->valid = ZIP_STAT_SIZE;
    return sizeof *st;
}

static zip_int64_t read_some(zip_file_in *z, void *data, uint64_t n)
{
    uint64_t left = z->s->size - z->at;
    n = n < left ? n : left;
    if (source_bytes(z->s, z->at, data, (size_t)n) != FDL_OK)
        return -1;
    z->at += n;
    return (zip_int64_t)n;
}

static zip_int64_t seek_to(zip_file_in *z, void *data, uint64_t n)
{
    zip_error_t error;
    zip_int64_t to = zip_source_seek_compute_offset(z->at, z->s->size, data, n, &error);
    if (to < 0 || (uint64_t)to > z->s->size)
        return -1;
    z->at = (uint64_t)to;
    return 0;
}

static zip_int64_t serve(void *ctx, void *data, zip_uint64_t n, zip_source_cmd_t command)
{
    zip_file_in *z = ctx;
    switch (command) {
    case ZIP_SOURCE_SUPPORTS:
        return zip_source_make_command_bitmap(ZIP_SOURCE_SUPPORTS, ZIP_SOURCE_OPEN, ZIP_SOURCE_READ,
                                              ZIP_SOURCE_CLOSE, ZIP_SOURCE_STAT, ZIP_SOURCE_ERROR,
                                              ZIP_SOURCE_FREE, ZIP_SOURCE_SEEK, ZIP_SOURCE_TELL, -1);
    case ZIP_SOURCE_OPEN:
        z->at = 0;
        return 0;
    case ZIP_SOURCE_READ:
        return read_some(z, data, n);
    case ZIP_SOURCE_STAT:
        return stat_of(z, data);
    case ZIP_SOURCE_SEEK:
        return seek_to(z, data, n);
    case ZIP_SOURCE_TELL:
        return (zip_int64_t)z->at;
    case ZIP_SOURCE_ERROR:
        ((int *)data)[0] = ZIP_ER_READ;
        ((int *)data)[1] = 0;
        return 2 * sizeof(int);
    case ZIP_SOURCE_CLOSE:
    case ZIP_SOURCE_FREE:
        return 0;
    default:
        return -1;
    }
}

zip_file_in *zip_in_open(const source *s)
{
    zip_file_in *z = calloc(1, sizeof *z);
    if (!z)
        return fdl_fail_null(FDL_E_OOM, "'%s': no memory to open it", s->path);
    z->s = s;
    zip_error_t error;
    zip_error_init(&error);
    zip_source_t *from = zip_source_function_create(serve, z, &error);
    z->zip = from ? zip_open_from_source(from, ZIP_RDONLY, &error) : NULL;
    if (!z->zip) {
        zip_source_free(from);
        fdl_fail(FDL_E_FORMAT, "'%s' is no whole zip file: %s", s->path, zip_error_strerror(&error));
        free(z);
        z = NULL;
    }
    zip_error_fini(&error);
    return z;
}

void zip_in_close(zip_file_in *z)
{
    if (!z)
        return;
    zip_discard(z->zip);
    free(z);
}

/* ---- entries ---------------------------------------------------------------------------------------- */

const char *zip_in_find(zip_file_in *z, const char *end)
{
    size_t k = strlen(end);
    zip_int64_t n = zip_get_num_entries(z->zip, 0);
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(z->zip, (zip_uint64_t)i, ZIP_FL_ENC_RAW);
        size_t length = name ? strlen(name) : 0;
        if (length >= k && strcmp(name + length - k, end) == 0)
            return name;
    }
    return NULL;
}

static fdl_status bad(const zip_file_in *z, const char *name, const char *why)
{
    return fdl_fail(FDL_E_FORMAT, "'%s': \"%.200s\" in the zip file %s", z->s->path, name, why);
}

static zip_int64_t locate(const zip_file_in *z, const char *name, zip_stat_t *st)
{
    zip_int64_t i = zip_name_locate(z->zip, name, ZIP_FL_ENC_RAW);
    if (i < 0)
        return bad(z, name, "is missing"), -1;
    if (zip_stat_index(z->zip, (zip_uint64_t)i, 0, st) != 0 || !(st->valid & ZIP_STAT_SIZE) ||
        !(st->valid & ZIP_STAT_COMP_SIZE))
        return bad(z, name, "has no size"), -1;
    if (st->size > INT64_MAX || st->comp_size > z->s->size ||
        st->size / 1100 > st->comp_size) /* deflate: 1032 to 1 */
        return bad(z, name, "has a size that the file can't hold"), -1;
    return i;
}

int64_t zip_in_size(zip_file_in *z, const char *name)
{
    zip_stat_t st;
    return locate(z, name, &st) < 0 ? -1 : (int64_t)st.size;
}

fdl_status zip_in_read(zip_file_in *z, const char *name, void *out, size_t n)
{
    zip_stat_t st;
    zip_int64_t i = locate(z, name, &st);
    if (i < 0)
        return fdl_error_pending();
    if (st.size != n)
        return bad(z, name, "has another size");
    zip_file_t *f = zip_fopen_index(z->zip, (zip_uint64_t)i, 0);
    if (!f)
        return bad(z, name, zip_strerror(z->zip));
    unsigned char *to = out, past;
    fdl_status status = FDL_OK;
    while (n && status == FDL_OK) {
        zip_int64_t got = zip_fread(f, to, n < (size_t)1 << 30 ? n : (size_t)1 << 30);
        if (got <= 0)
            status = bad(z, name, got < 0 ? zip_file_strerror(f) : "is truncated");
        else
            to += got;
        n -= got > 0 ? (size_t)got : 0;
    }
    /* The check sum is compared where the entry ends. */
    if (status == FDL_OK && zip_fread(f, &past, 1) != 0)
        status = bad(z, name, zip_file_strerror(f));
    zip_fclose(f);
    return status;
}

#else

zip_file_in *zip_in_open(const source *s)
{
    return fdl_fail_null(
        FDL_E_UNSUPPORTED,
        "'%s' is a zip file, as torch.save writes it; this build of flodl can't read those, as libzip "
        "was missing: install libzip-dev, configure and build again",
        s->path);
}

void zip_in_close(zip_file_in *z)
{
    (void)z;
}

const char *zip_in_find(zip_file_in *z, const char *end)
{
    (void)z, (void)end;
    return NULL;
}

int64_t zip_in_size(zip_file_in *z, const char *name)
{
    (void)z, (void)name;
    return -1;
}

fdl_status zip_in_read(zip_file_in *z, const char *name, void *out, size_t n)
{
    (void)z, (void)name, (void)out, (void)n;
    return FDL_E_UNSUPPORTED;
}

#endif
