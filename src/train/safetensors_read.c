/* Reading safetensors files. A file is a stranger's: nothing in it is believed before it was checked. */
#include "safetensors.h"

#include "flodl/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *name;
    fdl_dtype dtype;
} dtypes[] = {
    {"F32", FDL_FLOAT32}, {"F64", FDL_FLOAT64}, {"F16", FDL_FLOAT16}, {"BF16", FDL_BFLOAT16},
    {"I64", FDL_INT64},   {"I32", FDL_INT32},   {"I16", FDL_INT16},   {"I8", FDL_INT8},
    {"U8", FDL_UINT8},    {"BOOL", FDL_BOOL},
};

const char *st_dtype_name(fdl_dtype d)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (dtypes[i].dtype == d)
            return dtypes[i].name;
    return NULL;
}

/* ---- bytes ----------------------------------------------------------------------------------------- */

static fdl_status read_at(const st_file *f, uint64_t at, void *out, size_t n)
{
    unsigned char *to = out;
    while (n) {
        ssize_t got = pread(f->fd, to, n < (size_t)1 << 30 ? n : (size_t)1 << 30, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fdl_fail_errno("'%s' can't be read", f->path);
        if (got == 0)
            return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: it ended while it was read", f->path);
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return FDL_OK;
}

static uint64_t little_endian(const unsigned char *b)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | b[i];
    return v;
}

/* ---- the header ------------------------------------------------------------------------------------ */

static fdl_status bad_entry(const st_file *f, const char *name, const char *why)
{
    return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" %s", f->path, name, why);
}

static fdl_status parse_entry(const st_file *f, const char *name, json_t *j, st_entry *e)
{
    json_t *dtype = json_object_get(j, "dtype"), *shape = json_object_get(j, "shape");
    json_t *offsets = json_object_get(j, "data_offsets");
    if (!json_is_object(j) || !json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets))
        return bad_entry(f, name, "lacks dtype, shape or data_offsets");
    *e = (st_entry){.name = name};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, json_string_value(dtype)) == 0)
            e->dtype = dtypes[i].dtype;
    if (e->dtype == FDL_DTYPE_DEFAULT)
        return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" has the unknown dtype \"%.40s\"", f->path, name,
                        json_string_value(dtype));
    if (json_array_size(shape) > FDL_MAX_DIMS)
        return bad_entry(f, name, "has more than 12 dims");
    e->shape.ndim = (int)json_array_size(shape);
    uint64_t size = (uint64_t)fdl_dtype_size(e->dtype);
    for (int d = 0; d < e->shape.ndim; d++) {
        json_t *extent = json_array_get(shape, (size_t)d);
        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return bad_entry(f, name, "has an extent that is no whole number from 0 on");
        e->shape.d[d] = json_integer_value(extent);
        uint64_t times = (uint64_t)e->shape.d[d];
        if (times && size > INT64_MAX / times)
            return bad_entry(f, name, "has a shape that no memory can hold");
        size *= times;
    }
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return bad_entry(f, name, "has data_offsets that are no [begin, end]");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    if (e->end - e->begin != size)
        return fdl_fail(FDL_E_FORMAT,
                        "'%s': entry \"%.200s\" has %llu bytes, but its shape and dtype need %llu", f->path,
                        name, (unsigned long long)(e->end - e->begin), (unsigned long long)size);
    return FDL_OK;
}

static int by_place(const void *a, const void *b)
{
    const st_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static fdl_status check_metadata(const st_file *f, json_t *metadata)
{
    if (!json_is_object(metadata))
        return bad_entry(f, "__metadata__", "is no object");
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value))
            return fdl_fail(FDL_E_FORMAT, "'%s': entry \"__metadata__\" has a \"%.100s\" that is no string",
                            f->path, key);
    }
    const char *version = json_string_value(json_object_get(metadata, "fdl.version"));
    if (!version)
        return FDL_OK;
    char *end;
    errno = 0;
    long v = strtol(version, &end, 10);
    if (end == version || *end || errno || v < 1)
        return fdl_fail(FDL_E_FORMAT, "'%s': fdl.version is \"%.40s\", which is no version", f->path,
                        version);
    if (v > 3)
        return fdl_fail(FDL_E_FORMAT, "'%s' has version %ld; this library reads versions up to 3", f->path,
                        v);
    return FDL_OK;
}

/* Fills the entries, in the file's order, and checks that they lie one behind the other. *total: bytes of all
 * tensors. */
static fdl_status parse_header(st_file *f, const char *text, size_t n, uint64_t *total)
{
    json_error_t error;
    f->header = json_loadb(text, n, JSON_REJECT_DUPLICATES, &error);
    if (!f->header)
        return fdl_fail(FDL_E_FORMAT, "'%s': the header is no JSON: %s (byte %d)", f->path, error.text,
                        error.position);
    if (!json_is_object(f->header))
        return fdl_fail(FDL_E_FORMAT, "'%s': the header is no JSON object", f->path);
    size_t count = json_object_size(f->header);
    f->entries = malloc(sizeof *f->entries * (count ? count : 1));
    f->places = json_object();
    if (!f->entries || !f->places)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for %zu entries", f->path, count);
    const char *name;
    json_t *value;
    json_object_foreach(f->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            FDL_TRY(check_metadata(f, value));
        else
            FDL_TRY(parse_entry(f, name, value, &f->entries[f->n++]));
    }
    qsort(f->entries, (size_t)f->n, sizeof *f->entries, by_place);
    *total = 0;
    for (int i = 0; i < f->n; i++) {
        const st_entry *e = &f->entries[i];
        if (e->begin != *total)
            return bad_entry(f, e->name,
                             e->begin < *total ? "overlaps the one before it" : "leaves a gap before it");
        *total = e->end;
        if (json_object_set_new(f->places, e->name, json_integer(i)) != 0)
            return fdl_fail(FDL_E_OOM, "'%s': no memory for %d entries", f->path, f->n);
    }
    return FDL_OK;
}

/* What the first bytes say: the header's length, or that this is something else. have: bytes of the file. */
static fdl_status header_length(const st_file *f, const unsigned char *head, uint64_t have, uint64_t *length)
{
    if (have >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        return fdl_fail(
            FDL_E_FORMAT,
            "'%s' is not a checkpoint: bad magic; it looks like a file of torch.save, write it with "
            "safetensors.torch.save_file instead",
            f->path);
    if (have < 8)
        return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: %llu bytes are no checkpoint", f->path,
                        (unsigned long long)have);
    *length = little_endian(head);
    if (*length > ST_MAX_HEADER || (have >= 9 && head[8] != '{'))
        return fdl_fail(FDL_E_FORMAT, "'%s' is not a checkpoint: bad magic", f->path);
    return FDL_OK;
}

static fdl_status truncated(const st_file *f, uint64_t need, uint64_t have)
{
    const char *last = f->n ? f->entries[f->n - 1].name : NULL;
    if (have > need)
        return fdl_fail(FDL_E_FORMAT, "'%s' has %llu bytes behind its last entry", f->path,
                        (unsigned long long)(have - need));
    for (int i = 0; i < f->n; i++)
        if (f->data + f->entries[i].end > have) {
            last = f->entries[i].name;
            break;
        }
    return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: %llu bytes of %llu%s%.200s%s", f->path,
                    (unsigned long long)have, (unsigned long long)need,
                    last ? ", it ends before entry \"" : "", last ? last : "", last ? "\" does" : "");
}

/* ---- plain and compressed files ------------------------------------------------------------------------ */

static fdl_status open_plain(st_file *f, uint64_t size)
{
    unsigned char head[9];
    uint64_t length, total;
    FDL_TRY(read_at(f, 0, head, size < sizeof head ? (size_t)size : sizeof head));
    FDL_TRY(header_length(f, head, size, &length));
    f->data = 8 + length;
    if (f->data > size)
        return truncated(f, f->data, size);
    char *text = malloc(length ? (size_t)length : 1);
    if (!text)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for a header of %llu bytes", f->path,
                        (unsigned long long)length);
    fdl_status status = read_at(f, 8, text, (size_t)length);
    if (status == FDL_OK)
        status = parse_header(f, text, (size_t)length, &total);
    free(text);
    FDL_TRY(status);
    return f->data + total == size ? FDL_OK : truncated(f, f->data + total, size);
}

/* Puts the path in front of what fdl_gunzip_* says. */
static fdl_status of_file(const st_file *f, fdl_status status)
{
    if (status != FDL_OK)
        fdl_error_prefix("'%s': ", f->path);
    return status;
}

/* The packed bytes: header first, which says how large the rest must be. */
static fdl_status unpack(st_file *f, const void *packed, size_t n)
{
    unsigned char head[9];
    size_t got;
    uint64_t length, total, size;
    FDL_TRY(of_file(f, fdl_gunzip_head(packed, n, head, sizeof head, &got)));
    FDL_TRY(header_length(f, head, got, &length));
    f->data = 8 + length;
    char *text = malloc((size_t)f->data);
    if (!text)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for a header of %llu bytes", f->path,
                        (unsigned long long)length);
    fdl_status status = of_file(f, fdl_gunzip_head(packed, n, text, (size_t)f->data, &got));
    if (status == FDL_OK && got < f->data)
        status = truncated(f, f->data, got);
    if (status == FDL_OK)
        status = parse_header(f, text + 8, (size_t)length, &total);
    free(text);
    FDL_TRY(status);
    size = f->data + total;
    if (size / 1100 > n) /* deflate packs at most 1032 to 1 */
        return truncated(f, size, n);
    f->bytes = malloc((size_t)size);
    if (!f->bytes)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for %llu bytes", f->path, (unsigned long long)size);
    FDL_TRY(of_file(f, fdl_gunzip_into(packed, n, 0, f->bytes, (size_t)size, &got)));
    return got == size ? FDL_OK : truncated(f, size, got);
}

static fdl_status open_packed(st_file *f)
{
    size_t n;
    void *packed = fdl_file_read(f->path, 0, &n);
    if (!packed)
        return fdl_error_pending();
    fdl_status status = unpack(f, packed, n);
    free(packed);
    return status;
}

fdl_status st_open(st_file *f, const char *path)
{
    *f = (st_file){.path = path, .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (f->fd < 0)
        return fdl_fail_errno("'%s' can't be opened", path);
    struct stat st;
    unsigned char magic[2] = {0};
    fdl_status status = FDL_OK;
    if (fstat(f->fd, &st) != 0)
        status = fdl_fail_errno("'%s' can't be read", path);
    else if (!S_ISREG(st.st_mode))
        status = fdl_fail(FDL_E_IO, "'%s' is no regular file", path);
    else if (st.st_size >= 2)
        status = read_at(f, 0, magic, 2);
    if (status == FDL_OK && fdl_is_gzip(magic, 2)) {
        close(f->fd);
        f->fd = -1;
        status = open_packed(f);
    } else if (status == FDL_OK) {
        status = open_plain(f, (uint64_t)st.st_size);
    }
    if (status != FDL_OK)
        st_close(f);
    return status;
}

void st_close(st_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->bytes);
    free(f->entries);
    json_decref(f->places);
    json_decref(f->header);
    *f = (st_file){.fd = -1};
}

/* ---- asking ---------------------------------------------------------------------------------------- */

const st_entry *st_find(const st_file *f, const char *name)
{
    json_t *place = json_object_get(f->places, name);
    return place ? &f->entries[json_integer_value(place)] : NULL;
}

const char *st_meta(const st_file *f, const char *key)
{
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

fdl_tensor *st_read(const st_file *f, const st_entry *e)
{
    fdl_tensor *t = fdl_empty(e->shape, .dtype = e->dtype, .device = FDL_CPU);
    size_t n = (size_t)(e->end - e->begin);
    if (!t || n == 0)
        return t;
    unsigned char *to = fdl_data_ptr(t);
    if (!to)
        return NULL;
    if (f->bytes)
        memcpy(to, f->bytes + f->data + e->begin, n);
    else
        FDL_TRY_NULL(read_at(f, f->data + e->begin, to, n));
    if (e->dtype == FDL_BOOL)
        for (size_t i = 0; i < n; i++)
            if (to[i] > 1) {
                bad_entry(f, e->name, "is of booleans, but has a byte that is neither 0 nor 1");
                return NULL;
            }
    return t;
}
