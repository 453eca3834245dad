/* The safetensors format: 8 bytes of header length, little-endian, a JSON header, tensors one behind the other. */
#include "source.h"

#include <errno.h>

static const struct {
    const char *name;
    fdl_dtype dtype;
} dtypes[] = {
    {"F32", FDL_FLOAT32}, {"F64", FDL_FLOAT64}, {"F16", FDL_FLOAT16}, {"BF16", FDL_BFLOAT16},
    {"I64", FDL_INT64},   {"I32", FDL_INT32},   {"I16", FDL_INT16},   {"I8", FDL_INT8},
    {"U8", FDL_UINT8},    {"BOOL", FDL_BOOL},
};

const char *safetensors_dtype(fdl_dtype d)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].dtype == d)
            return dtypes[i].name;
    return NULL;
}

static fdl_status parse_entry(source *s, const char *name, json_t *j)
{
    json_t *dtype = json_object_get(j, "dtype"), *shape = json_object_get(j, "shape");
    json_t *offsets = json_object_get(j, "data_offsets");
    if (!json_is_object(j) || !json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets))
        return source_bad_entry(s, name, "lacks dtype, shape or data_offsets");
    source_entry *e = source_add(s, name);
    if (!e)
        return fdl_error_pending();
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, json_string_value(dtype)) == 0)
            e->dtype = dtypes[i].dtype;
    if (e->dtype == FDL_DTYPE_DEFAULT)
        return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" has the unknown dtype \"%.40s\"", s->path, name,
                        json_string_value(dtype));
    if (json_array_size(shape) > FDL_MAX_DIMS)
        return source_bad_entry(s, name, "has more than 12 dims");
    e->shape.ndim = (int)json_array_size(shape);
    for (int d = 0; d < e->shape.ndim; d++) {
        json_t *extent = json_array_get(shape, (size_t)d);
        e->shape.d[d] = json_is_integer(extent) ? json_integer_value(extent) : -1;
    }
    int64_t size = source_tensor_bytes(s, e);
    if (size < 0)
        return fdl_error_pending();
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return source_bad_entry(s, name, "has data_offsets that are no [begin, end]");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    if (e->end - e->begin != (uint64_t)size)
        return fdl_fail(FDL_E_FORMAT,
                        "'%s': entry \"%.200s\" has %llu bytes, but its shape and dtype need %lld", s->path,
                        name, (unsigned long long)(e->end - e->begin), (long long)size);
    return FDL_OK;
}

static int by_place(const void *a, const void *b)
{
    const source_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static fdl_status take_version(source *s, const char *version)
{
    char *end;
    errno = 0;
    long v = strtol(version, &end, 10);
    if (end == version || *end || errno || v < 1)
        return fdl_fail(FDL_E_FORMAT, "'%s': fdl.version is \"%.40s\", which is no version", s->path,
                        version);
    if (v > 3)
        return fdl_fail(FDL_E_FORMAT, "'%s' has version %ld; this library reads versions up to 3", s->path,
                        v);
    s->version = (int)v;
    return FDL_OK;
}

static fdl_status take_hash(source *s, const char *hash)
{
    if (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64)
        return fdl_fail(FDL_E_FORMAT, "'%s': fdl.hash is \"%.80s\", which is no hash", s->path, hash);
    if (strspn(hash, "0") != 64)
        memcpy(s->hash, hash, sizeof s->hash);
    return FDL_OK;
}

static fdl_status take_metadata(source *s, json_t *metadata)
{
    if (!json_is_object(metadata))
        return source_bad_entry(s, "__metadata__", "is no object");
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fdl_fail(FDL_E_FORMAT, "'%s': entry \"__metadata__\" has a \"%.100s\" that is no string",
                            s->path, key);
    }
    s->metadata = json_incref(metadata);
    const char *version = source_meta(s, "fdl.version"), *hash = source_meta(s, "fdl.hash");
    if (version)
        FDL_TRY(take_version(s, version));
    return hash ? take_hash(s, hash) : FDL_OK;
}

/* Fills the entries, in the file's order, and checks that they lie one behind the other. *total: bytes of all
 * tensors. */
static fdl_status parse_header(source *s, const char *text, size_t n, uint64_t *total)
{
    json_error_t error;
    s->header = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!s->header)
        return fdl_fail(FDL_E_FORMAT, "'%s': the header is no JSON: %s (byte %d)", s->path, error.text,
                        error.position);
    if (!json_is_object(s->header))
        return fdl_fail(FDL_E_FORMAT, "'%s': the header is no JSON object", s->path);
    const char *name;
    json_t *value;
    json_object_foreach(s->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            FDL_TRY(take_metadata(s, value));
        else
            FDL_TRY(parse_entry(s, name, value));
    }
    if (s->n)
        qsort(s->entries, (size_t)s->n, sizeof *s->entries, by_place);
    *total = 0;
    for (int i = 0; i < s->n; i++) {
        const source_entry *e = &s->entries[i];
        if (e->begin != *total)
            return source_bad_entry(
                s, e->name, e->begin < *total ? "overlaps the one before it" : "leaves a gap before it");
        *total = e->end;
    }
    return source_done(s);
}

fdl_status safetensors_open(source *s, uint64_t *total)
{
    static const source_type type = {.read = source_read_plain};
    unsigned char head[8];
    FDL_TRY(source_bytes(s, 0, head, sizeof head));
    uint64_t length = source_little_endian(head, 8);
    s->type = &type;
    s->data = 8 + length;
    if (s->data > s->size)
        return source_wrong_size(s, s->data, s->size);
    char *text = malloc(length ? (size_t)length : 1);
    if (!text)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for a header of %llu bytes", s->path,
                        (unsigned long long)length);
    fdl_status status = source_bytes(s, 8, text, (size_t)length);
    if (status == FDL_OK)
        status = parse_header(s, text, (size_t)length, total);
    free(text);
    FDL_TRY(status);
    *total += s->data;
    return FDL_OK;
}
