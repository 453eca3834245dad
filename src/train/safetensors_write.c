/* Writing safetensors files. */
#include "safetensors.h"

#include "flodl/file.h"

#include <zlib.h>

enum { CHUNK = 1 << 16 };

/* A file, with gzip before it where that was asked for. */
typedef struct sink {
    fdl_file *file;
    bool packs;
    z_stream z;
    unsigned char buffer[CHUNK];
} sink;

static fdl_status pack(sink *s, const void *bytes, size_t n, int flush)
{
    const unsigned char *from = bytes;
    do {
        size_t now = n < (size_t)1 << 30 ? n : (size_t)1 << 30;
        s->z.next_in = (unsigned char *)(uintptr_t)from; /* zlib doesn't write there */
        s->z.avail_in = (unsigned)now;
        from += now;
        n -= now;
        do {
            s->z.next_out = s->buffer;
            s->z.avail_out = CHUNK;
            if (deflate(&s->z, n ? Z_NO_FLUSH : flush) == Z_STREAM_ERROR)
                return fdl_fail(FDL_E_IO, "compressing failed");
            FDL_TRY(fdl_file_write(s->file, s->buffer, CHUNK - s->z.avail_out));
        } while (s->z.avail_out == 0);
    } while (n);
    return FDL_OK;
}

static fdl_status put(sink *s, const void *bytes, size_t n)
{
    if (!n)
        return FDL_OK;
    return s->packs ? pack(s, bytes, n, Z_NO_FLUSH) : fdl_file_write(s->file, bytes, n);
}

static fdl_dtype saved_dtype(fdl_tensor *t, fdl_dtype dtype)
{
    fdl_dtype own = fdl_dtype_of(t);
    return dtype != FDL_DTYPE_DEFAULT && fdl_dtype_is_floating(own) ? dtype : own;
}

static json_t *shape_of(fdl_tensor *t)
{
    fdl_shape shape = fdl_shape_of(t);
    json_t *j = json_array();
    for (int d = 0; d < shape.ndim; d++)
        json_array_append_new(j, json_integer(shape.d[d])); /* a failure shows when the header is written */
    return j;
}

/* The header's JSON, padded so that the tensors begin at a multiple of 8; owned (free). */
static char *header_of(json_t *metadata, int n, const char *const *names, fdl_tensor *const *tensors,
                       fdl_dtype dtype, size_t *size)
{
    char *text = NULL;
    json_t *header = json_object();
    if (json_object_set(header, "__metadata__", metadata) != 0)
        goto done;
    int64_t at = 0;
    for (int i = 0; i < n; i++) {
        fdl_dtype d = saved_dtype(tensors[i], dtype);
        int64_t end = at + fdl_numel(tensors[i]) * fdl_dtype_size(d);
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", st_dtype_name(d), "shape",
                                  shape_of(tensors[i]), "data_offsets", (json_int_t)at, (json_int_t)end);
        if (json_object_set_new(header, names[i], entry) != 0)
            goto done;
        at = end;
    }
    size_t length = json_dumpb(header, NULL, 0, JSON_COMPACT), padded = (length + 7) / 8 * 8;
    text = length ? malloc(padded) : NULL;
    if (text && json_dumpb(header, text, length, JSON_COMPACT) == length) {
        memset(text + length, ' ', padded - length);
        *size = padded;
    }
done:
    json_decref(header);
    if (!text)
        fdl_fail(FDL_E_OOM, "no memory for the header of %d tensors", n);
    return text;
}

static fdl_status put_tensor(sink *s, fdl_tensor *t, fdl_dtype dtype)
{
    FDL_SCOPE;
    fdl_tensor *plain = fdl_contiguous(fdl_cpu(fdl_to_dtype(t, saved_dtype(t, dtype))));
    int64_t n = fdl_nbytes(plain);
    if (n <= 0)
        return n == 0 ? FDL_OK : fdl_error_pending();
    const void *bytes = fdl_data_ptr(plain);
    return bytes ? put(s, bytes, (size_t)n) : fdl_error_pending();
}

static fdl_status put_all(sink *s, const char *header, size_t size, int n, fdl_tensor *const *tensors,
                          fdl_dtype dtype)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)size >> 8 * i);
    FDL_TRY(put(s, length, sizeof length));
    FDL_TRY(put(s, header, size));
    for (int i = 0; i < n; i++)
        FDL_TRY(put_tensor(s, tensors[i], dtype));
    return s->packs ? pack(s, length, 0, Z_FINISH) : FDL_OK;
}

fdl_status st_save(const char *path, json_t *metadata, int n, const char *const *names,
                   fdl_tensor *const *tensors, fdl_dtype dtype, int level)
{
    size_t size = 0;
    char *header = header_of(metadata, n, names, tensors, dtype, &size);
    sink *s = header ? calloc(1, sizeof *s) : NULL;
    fdl_status status = s ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory to write '%s'", path);
    if (status == FDL_OK && level) {
        s->packs = deflateInit2(&s->z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
        if (!s->packs)
            status = fdl_fail(FDL_E_OOM, "no memory to compress '%s'", path);
    }
    if (status == FDL_OK) {
        s->file = fdl_file_create(path);
        status = s->file ? put_all(s, header, size, n, tensors, dtype) : fdl_error_pending();
        if (status == FDL_OK)
            status = fdl_file_commit(s->file);
        else
            fdl_file_discard(s->file);
    }
    if (s && s->packs)
        deflateEnd(&s->z);
    free(s);
    free(header);
    return status;
}
