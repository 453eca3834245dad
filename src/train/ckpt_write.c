/* Writing a safetensors file. */
#include "ckpt_private.h"

#include <zlib.h>

enum { CHUNK = 1 << 16 };

/* Where bytes go, with gzip before it where that was asked for. */
typedef struct sink {
    fdl_file *file;
    const fdl_writer *writer;
    bool packs;
    z_stream z;
    unsigned char buffer[CHUNK];
} sink;

static fdl_status put_plain(sink *s, const void *bytes, size_t n)
{
    if (!n)
        return FDL_OK;
    if (s->file)
        return fdl_file_write(s->file, bytes, n);
    fdl_status status = s->writer->write(s->writer->ctx, bytes, n);
    return status == FDL_OK ? FDL_OK : fdl_fail(status, "the writer failed");
}

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
            FDL_TRY(put_plain(s, s->buffer, CHUNK - s->z.avail_out));
        } while (s->z.avail_out == 0);
    } while (n);
    return FDL_OK;
}

static fdl_status put(sink *s, const void *bytes, size_t n)
{
    return !n ? FDL_OK : s->packs ? pack(s, bytes, n, Z_NO_FLUSH) : put_plain(s, bytes, n);
}

fdl_dtype ckpt_saved_dtype(const ckpt_content *c, int i)
{
    fdl_dtype own = fdl_dtype_of(c->at[i]);
    bool converted =
        c->dtype != FDL_DTYPE_DEFAULT && fdl_dtype_is_floating(own) && !ckpt_is_training(c->keys[i]);
    return converted ? c->dtype : own;
}

int64_t ckpt_saved_bytes(const ckpt_content *c, int i)
{
    return fdl_numel(c->at[i]) * fdl_dtype_size(ckpt_saved_dtype(c, i));
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
static char *header_of(const ckpt_content *c, size_t *size)
{
    char *text = NULL;
    json_t *header = json_object();
    if (json_object_set(header, "__metadata__", c->metadata) != 0)
        goto done;
    int64_t at = 0;
    for (int i = 0; i < c->n; i++) {
        int64_t end = at + ckpt_saved_bytes(c, i);
        json_t *entry =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_dtype(ckpt_saved_dtype(c, i)), "shape",
                      shape_of(c->at[i]), "data_offsets", (json_int_t)at, (json_int_t)end);
        if (json_object_set_new(header, c->keys[i], entry) != 0)
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
        fdl_fail(FDL_E_OOM, "no memory for the header of %d tensors", c->n);
    return text;
}

static fdl_status put_tensor(sink *s, const ckpt_content *c, int i)
{
    FDL_SCOPE;
    fdl_tensor *plain = fdl_contiguous(fdl_cpu(fdl_to_dtype(c->at[i], ckpt_saved_dtype(c, i))));
    int64_t n = fdl_nbytes(plain);
    if (n <= 0)
        return n == 0 ? FDL_OK : fdl_error_pending();
    const void *bytes = fdl_data_ptr(plain);
    return bytes ? put(s, bytes, (size_t)n) : fdl_error_pending();
}

static fdl_status put_all(sink *s, const ckpt_content *c, const char *header, size_t size)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)size >> 8 * i);
    FDL_TRY(put(s, length, sizeof length));
    FDL_TRY(put(s, header, size));
    for (int i = 0; i < c->n; i++)
        FDL_TRY(put_tensor(s, c, i));
    return s->packs ? pack(s, length, 0, Z_FINISH) : FDL_OK;
}

fdl_status ckpt_write_safetensors(fdl_file *file, const fdl_writer *to, const ckpt_content *c, int level)
{
    size_t size = 0;
    char *header = header_of(c, &size);
    sink *s = header ? calloc(1, sizeof *s) : NULL;
    fdl_status status = s ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory to write %d tensors", c->n);
    if (status == FDL_OK && level) {
        s->packs = deflateInit2(&s->z, level, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
        if (!s->packs)
            status = fdl_fail(FDL_E_OOM, "no memory to compress");
    }
    if (status == FDL_OK) {
        s->file = file;
        s->writer = to;
        status = put_all(s, c, header, size);
    }
    if (s && s->packs)
        deflateEnd(&s->z);
    free(s);
    free(header);
    return status;
}
