/* Versions 1 and 2 of checkpoints, read only: "FDLC", u32 version, 32 bytes of hash (zeros: none), u32 number of
 * entries; each u32 length of the name, name, u32 number of dims, i64 dims, u8 dtype, u64 bytes, data. Little-endian. */
#include "source.h"

#include <inttypes.h>

static const fdl_dtype dtypes[] = {FDL_DTYPE_DEFAULT, FDL_FLOAT16, FDL_BFLOAT16, FDL_FLOAT32,
                                   FDL_FLOAT64,       FDL_INT32,   FDL_INT64};

enum { LONGEST_NAME = 1 << 16 };

/* The next n bytes at *at as a number. */
static fdl_status number(const source *s, uint64_t *at, int n, uint64_t *v)
{
    unsigned char b[8];
    FDL_TRY(source_bytes(s, *at, b, (size_t)n));
    *at += (uint64_t)n;
    *v = source_little_endian(b, n);
    return FDL_OK;
}

static fdl_status read_name(source *s, uint64_t *at, char **name)
{
    uint64_t n;
    FDL_TRY(number(s, at, 4, &n));
    if (n > LONGEST_NAME)
        return fdl_fail(FDL_E_FORMAT, "'%s': entry %d has a name of %" PRIu64 " bytes", s->path, s->n, n);
    char *text = malloc((size_t)n + 1);
    if (!text)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for its names", s->path);
    fdl_status status = source_bytes(s, *at, text, (size_t)n);
    if (status == FDL_OK && memchr(text, 0, (size_t)n))
        status = fdl_fail(FDL_E_FORMAT, "'%s': the name of entry %d has a zero byte in it", s->path, s->n);
    *name = status == FDL_OK ? source_text(s, text, (size_t)n) : NULL;
    free(text);
    *at += n;
    return *name ? FDL_OK : fdl_error_pending();
}

static fdl_status read_entry(source *s, uint64_t *at)
{
    char *name;
    FDL_TRY(read_name(s, at, &name));
    source_entry *e = source_add(s, name);
    if (!e)
        return fdl_error_pending();
    uint64_t ndim, v, dtype, bytes;
    FDL_TRY(number(s, at, 4, &ndim));
    if (ndim > FDL_MAX_DIMS)
        return source_bad_entry(s, name, "has more than 12 dims");
    e->shape.ndim = (int)ndim;
    for (int d = 0; d < e->shape.ndim; d++) {
        FDL_TRY(number(s, at, 8, &v));
        e->shape.d[d] = v > INT64_MAX ? -1 : (int64_t)v;
    }
    FDL_TRY(number(s, at, 1, &dtype));
    if (dtype < 1 || dtype >= sizeof dtypes / sizeof dtypes[0])
        return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" has the unknown dtype %d", s->path, name,
                        (int)dtype);
    e->dtype = dtypes[dtype];
    FDL_TRY(number(s, at, 8, &bytes));
    int64_t size = source_tensor_bytes(s, e);
    if (size < 0)
        return fdl_error_pending();
    if (bytes != (uint64_t)size)
        return fdl_fail(FDL_E_FORMAT,
                        "'%s': entry \"%.200s\" has %" PRIu64 " bytes, but its shape and dtype need %" PRId64,
                        s->path, name, bytes, size);
    if (bytes > s->size - *at)
        return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: it ends before entry \"%.200s\" does", s->path,
                        name);
    e->begin = *at;
    e->end = *at += bytes;
    return FDL_OK;
}

fdl_status fdlc_open(source *s)
{
    static const source_type type = {.read = source_read_plain};
    static const char digits[] = "0123456789abcdef";
    uint64_t at = 4, version, count;
    unsigned char hash[32], any = 0;
    s->type = &type;
    FDL_TRY(number(s, &at, 4, &version));
    if (version < 1 || version > 2)
        return fdl_fail(FDL_E_FORMAT,
                        "'%s' has version %" PRIu64 " of the FDLC format; this library reads 1 and 2",
                        s->path, version);
    s->version = (int)version;
    FDL_TRY(source_bytes(s, at, hash, sizeof hash));
    at += sizeof hash;
    for (int i = 0; i < 32; i++) {
        s->hash[2 * i] = digits[hash[i] >> 4];
        s->hash[2 * i + 1] = digits[hash[i] & 15];
        any |= hash[i];
    }
    s->hash[any ? 64 : 0] = '\0';
    FDL_TRY(number(s, &at, 4, &count));
    for (uint64_t i = 0; i < count; i++)
        FDL_TRY(read_entry(s, &at));
    if (at != s->size)
        return source_wrong_size(s, at, s->size);
    return source_done(s);
}
