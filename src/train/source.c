/* Opening a file of tensors: what format it has, plain or compressed, a file or a reader; and what formats share. */
#include "source.h"

#include "flodl/file.h"
#include "flodl/text.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- bytes ----------------------------------------------------------------------------------------- */

static fdl_status read_at(const source *s, uint64_t at, void *out, size_t n)
{
    unsigned char *to = out;
    while (n) {
        ssize_t got = pread(s->fd, to, n < (size_t)1 << 30 ? n : (size_t)1 << 30, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fdl_fail_errno("'%s' can't be read", s->path);
        if (got == 0)
            return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: it ended while it was read", s->path);
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return FDL_OK;
}

fdl_status source_bytes(const source *s, uint64_t at, void *out, size_t n)
{
    if (at > s->size || n > s->size - at)
        return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: %llu bytes", s->path, (unsigned long long)s->size);
    if (!s->bytes)
        return read_at(s, at, out, n);
    if (n)
        memcpy(out, s->bytes + at, n);
    return FDL_OK;
}

uint64_t source_little_endian(const unsigned char *b, int n)
{
    uint64_t v = 0;
    while (n--)
        v = v << 8 | b[n];
    return v;
}

/* ---- names and entries ------------------------------------------------------------------------------ */

struct source_text {
    struct source_text *next;
    char text[];
};

char *source_text(source *s, const void *text, size_t n)
{
    struct source_text *t = malloc(sizeof *t + n + 1);
    if (!t)
        return fdl_fail_null(FDL_E_OOM, "'%s': no memory for its names", s->path);
    if (n)
        memcpy(t->text, text, n);
    t->text[n] = '\0';
    t->next = s->texts;
    s->texts = t;
    return t->text;
}

source_entry *source_add(source *s, const char *name)
{
    if (s->n == s->room) {
        int room = s->room ? 2 * s->room : 64;
        source_entry *more = realloc(s->entries, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail_null(FDL_E_OOM, "'%s': no memory for %d entries", s->path, room);
        s->entries = more;
        s->room = room;
    }
    s->entries[s->n] = (source_entry){.name = name};
    return &s->entries[s->n++];
}

bool source_is_utf8(const char *text)
{
    for (const char *end = text + strlen(text); text < end;) {
        int n = fdl_utf8_decode(text, (size_t)(end - text), NULL);
        if (!n)
            return false;
        text += n;
    }
    return true;
}

fdl_status source_done(source *s)
{
    s->places = json_object();
    for (int i = 0; i < s->n; i++) {
        const char *name = s->entries[i].name;
        if (!source_is_utf8(name))
            return fdl_fail(FDL_E_FORMAT, "'%s': the name of entry %d is not UTF-8", s->path, i);
        if (json_object_get(s->places, name))
            return source_bad_entry(s, name, "is there twice");
        if (json_object_set_new_nocheck(s->places, name, json_integer(i)) != 0)
            return fdl_fail(FDL_E_OOM, "'%s': no memory for %d entries", s->path, s->n);
    }
    return FDL_OK;
}

fdl_status source_bad_entry(const source *s, const char *name, const char *why)
{
    return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" %s", s->path, name, why);
}

int64_t source_tensor_bytes(const source *s, const source_entry *e)
{
    uint64_t size = (uint64_t)fdl_dtype_size(e->dtype);
    bool empty = false, large = false;
    if (e->shape.ndim > FDL_MAX_DIMS)
        return source_bad_entry(s, e->name, "has more than 12 dims"), -1;
    for (int d = 0; d < e->shape.ndim; d++) {
        if (e->shape.d[d] < 0)
            return source_bad_entry(s, e->name, "has an extent that is no whole number from 0 on"), -1;
        uint64_t times = (uint64_t)e->shape.d[d];
        empty |= times == 0;
        large |= times && size > INT64_MAX / times;
        size = large ? size : size * (times ? times : 1);
    }
    if (large)
        return source_bad_entry(s, e->name, "has a shape that no memory can hold"), -1;
    return empty ? 0 : (int64_t)size;
}

fdl_status source_wrong_size(const source *s, uint64_t need, uint64_t have)
{
    const char *last = s->n ? s->entries[s->n - 1].name : NULL;
    if (have > need)
        return fdl_fail(FDL_E_FORMAT, "'%s' has %llu bytes behind its last entry", s->path,
                        (unsigned long long)(have - need));
    for (int i = 0; i < s->n; i++)
        if (s->data + s->entries[i].end > have) {
            last = s->entries[i].name;
            break;
        }
    return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: %llu bytes of %llu%s%.200s%s", s->path,
                    (unsigned long long)have, (unsigned long long)need,
                    last ? ", it ends before entry \"" : "", last ? last : "", last ? "\" does" : "");
}

fdl_tensor *source_read_plain(const source *s, const source_entry *e)
{
    fdl_tensor *t = fdl_empty(e->shape, .dtype = e->dtype, .device = FDL_CPU);
    size_t n = (size_t)(e->end - e->begin);
    if (!t || n == 0)
        return t;
    unsigned char *to = fdl_data_ptr(t);
    if (!to)
        return NULL;
    FDL_TRY_NULL(source_bytes(s, s->data + e->begin, to, n));
    if (e->dtype == FDL_BOOL)
        for (size_t i = 0; i < n; i++)
            if (to[i] > 1) {
                source_bad_entry(s, e->name, "is of booleans, but has a byte that is neither 0 nor 1");
                return NULL;
            }
    return t;
}

/* ---- what kind of file it is ----------------------------------------------------------------------- */

typedef enum { SAFETENSORS, INDEX, FDLC, ZIP } format;

/* What the first bytes say, `have` of the file, up to 9 of them in head. */
static fdl_status format_of(const source *s, const unsigned char *head, uint64_t have, format *f)
{
    *f = SAFETENSORS;
    if (have >= 4 && memcmp(head, "FDLC", 4) == 0)
        *f = FDLC;
    else if (have >= 4 && memcmp(head, "PK\3\4", 4) == 0)
        *f = ZIP;
    else if (have >= 8 && head[0] == '{' && source_little_endian(head, 8) > SOURCE_MAX_HEADER)
        *f = INDEX;
    else if (have >= 2 && head[0] == 0x80 && head[1] <= 5 &&
             (have < 8 || source_little_endian(head, 8) > SOURCE_MAX_HEADER))
        return fdl_fail(
            FDL_E_FORMAT,
            "'%s' is not a checkpoint: it is a pickle; torch.save writes zip files since 1.6: load it in "
            "PyTorch and save its state_dict again",
            s->path);
    if (*f != SAFETENSORS)
        return FDL_OK;
    if (have < 8)
        return fdl_fail(FDL_E_FORMAT, "'%s' is truncated: %llu bytes are no checkpoint", s->path,
                        (unsigned long long)have);
    if (source_little_endian(head, 8) > SOURCE_MAX_HEADER || (have >= 9 && head[8] != '{'))
        return fdl_fail(FDL_E_FORMAT, "'%s' is not a checkpoint: bad magic", s->path);
    return FDL_OK;
}

static fdl_status open_format(source *s, format f)
{
    if (f == FDLC)
        return fdlc_open(s);
    if (f == ZIP)
        return torch_open(s);
    if (f == INDEX && s->shard)
        return fdl_fail(FDL_E_FORMAT, "'%s' is an index; one index can't name another", s->path);
    if (f == INDEX)
        return index_open(s);
    uint64_t total;
    FDL_TRY(safetensors_open(s, &total));
    return total == s->size ? FDL_OK : source_wrong_size(s, total, s->size);
}

static fdl_status open_plain(source *s)
{
    unsigned char head[9] = {0};
    format f;
    FDL_TRY(source_bytes(s, 0, head, s->size < sizeof head ? (size_t)s->size : sizeof head));
    FDL_TRY(format_of(s, head, s->size, &f));
    return open_format(s, f);
}

/* ---- compressed ------------------------------------------------------------------------------------ */

/* Puts the path in front of what fdl_gunzip_* says. */
static fdl_status of_file(const source *s, fdl_status status)
{
    if (status != FDL_OK)
        fdl_error_prefix("'%s': ", s->path);
    return status;
}

static fdl_status room(source *s, uint64_t size)
{
    unsigned char *more = size > SIZE_MAX / 2 ? NULL : realloc(s->bytes, size ? (size_t)size : 1);
    if (!more)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for %llu bytes", s->path, (unsigned long long)size);
    s->bytes = more;
    return FDL_OK;
}

/* The header first, which says how large the rest must be. */
static fdl_status unpack_safetensors(source *s, const void *packed, size_t n)
{
    uint64_t total;
    size_t got;
    s->size = 8 + source_little_endian(s->bytes, 8);
    FDL_TRY(room(s, s->size));
    FDL_TRY(of_file(s, fdl_gunzip_head(packed, n, s->bytes, (size_t)s->size, &got)));
    if (got < s->size)
        return source_wrong_size(s, s->size, got);
    FDL_TRY(safetensors_open(s, &total));
    if (total / 1100 > n) /* deflate packs at most 1032 to 1 */
        return source_wrong_size(s, total, n);
    FDL_TRY(room(s, total));
    s->size = total;
    FDL_TRY(of_file(s, fdl_gunzip_into(packed, n, 0, s->bytes, (size_t)total, &got)));
    return got == total ? FDL_OK : source_wrong_size(s, total, got);
}

static fdl_status unpack(source *s, const void *packed, size_t n)
{
    size_t got;
    format f;
    FDL_TRY(room(s, 9));
    FDL_TRY(of_file(s, fdl_gunzip_head(packed, n, s->bytes, 9, &got)));
    FDL_TRY(format_of(s, s->bytes, got, &f));
    if (f == SAFETENSORS)
        return unpack_safetensors(s, packed, n);
    free(s->bytes);
    s->bytes = fdl_gunzip(packed, n, 0, &got);
    s->size = got;
    return s->bytes ? open_format(s, f) : of_file(s, fdl_error_pending());
}

/* ---- opening --------------------------------------------------------------------------------------- */

static fdl_status begin(source *s, const char *path)
{
    *s = (source){.fd = -1};
    s->path = malloc(strlen(path) + 1);
    if (!s->path)
        return fdl_fail(FDL_E_OOM, "no memory to open '%s'", path);
    memcpy(s->path, path, strlen(path) + 1);
    return FDL_OK;
}

/* What was saved in shards under the name of s is found by the index beside it. */
static fdl_status try_index(source *s)
{
    size_t n = strlen(s->path);
    char *path = malloc(n + sizeof ".index.json");
    if (!path)
        return fdl_fail(FDL_E_OOM, "no memory to open '%s'", s->path);
    memcpy(path, s->path, n);
    memcpy(path + n, ".index.json", sizeof ".index.json");
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0) {
        free(path);
        errno = ENOENT; /* of the path that was asked for */
        return FDL_OK;
    }
    free(s->path);
    s->path = path;
    return FDL_OK;
}

static fdl_status open_file(source *s)
{
    struct stat st;
    unsigned char magic[2] = {0};
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 && errno == ENOENT && !s->shard)
        FDL_TRY(try_index(s));
    if (s->fd < 0)
        return fdl_fail_errno("'%s' can't be opened", s->path);
    if (fstat(s->fd, &st) != 0)
        return fdl_fail_errno("'%s' can't be read", s->path);
    if (!S_ISREG(st.st_mode))
        return fdl_fail(FDL_E_IO, "'%s' is no regular file", s->path);
    s->size = (uint64_t)st.st_size;
    if (s->size >= 2)
        FDL_TRY(read_at(s, 0, magic, 2));
    if (!fdl_is_gzip(magic, 2))
        return open_plain(s);
    close(s->fd);
    s->fd = -1;
    size_t n;
    void *packed = fdl_file_read(s->path, 0, &n);
    if (!packed)
        return fdl_error_pending();
    fdl_status status = unpack(s, packed, n);
    free(packed);
    return status;
}

static fdl_status open_path(source *s, const char *path, bool shard)
{
    fdl_status status = begin(s, path);
    s->shard = shard;
    if (status == FDL_OK)
        status = open_file(s);
    if (status != FDL_OK)
        source_close(s);
    return status;
}

fdl_status source_open(source *s, const char *path)
{
    return open_path(s, path, false);
}

fdl_status source_open_shard(source *s, const char *path)
{
    return open_path(s, path, true);
}

/* Reads on until there are `want` bytes, or the end. */
static fdl_status fill(source *s, const fdl_reader *reader, uint64_t want)
{
    uint64_t have_room = s->size;
    while (s->size < want) {
        if (have_room == s->size) { /* what is asked for isn't believed either: in steps */
            uint64_t step = s->size > (uint64_t)1 << 24 ? s->size : (uint64_t)1 << 24;
            have_room = want - s->size < step ? want : s->size + step;
            FDL_TRY(room(s, have_room));
        }
        size_t ask = (size_t)(have_room - s->size);
        int64_t got = reader->read(reader->ctx, s->bytes + s->size, ask);
        if (got < 0)
            return fdl_fail(FDL_E_IO, "'%s' can't be read", s->path);
        if ((uint64_t)got > ask)
            return fdl_fail(FDL_E_ARG, "'%s' gave %lld bytes where %zu were asked for", s->path,
                            (long long)got, ask);
        if (got == 0)
            return FDL_OK;
        s->size += (uint64_t)got;
    }
    return FDL_OK;
}

/* A safetensors file is read exactly to its end, as what follows may be another's; the other formats, to the
 * stream's end. */
static fdl_status read_stream(source *s, const fdl_reader *reader)
{
    format f;
    uint64_t total;
    FDL_TRY(room(s, 9));
    FDL_TRY(fill(s, reader, 8));
    if (fdl_is_gzip(s->bytes, (size_t)s->size)) {
        FDL_TRY(fill(s, reader, UINT64_MAX));
        unsigned char *packed = s->bytes;
        s->bytes = NULL;
        fdl_status status = unpack(s, packed, (size_t)s->size);
        free(packed);
        return status;
    }
    FDL_TRY(format_of(s, s->bytes, s->size, &f));
    if (f != SAFETENSORS) {
        FDL_TRY(fill(s, reader, UINT64_MAX));
        return open_format(s, f);
    }
    uint64_t header = 8 + source_little_endian(s->bytes, 8);
    FDL_TRY(fill(s, reader, header));
    if (s->size < header)
        return source_wrong_size(s, header, s->size);
    FDL_TRY(safetensors_open(s, &total));
    FDL_TRY(fill(s, reader, total));
    return s->size == total ? FDL_OK : source_wrong_size(s, total, s->size);
}

fdl_status source_open_reader(source *s, const fdl_reader *reader)
{
    fdl_status status = begin(s, "the reader");
    if (status == FDL_OK)
        status = read_stream(s, reader);
    if (status != FDL_OK)
        source_close(s);
    return status;
}

void source_close(source *s)
{
    if (s->type && s->type->close)
        s->type->close(s);
    if (s->fd >= 0)
        close(s->fd);
    for (struct source_text *t = s->texts, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(s->path);
    free(s->bytes);
    free(s->entries);
    json_decref(s->places);
    json_decref(s->metadata);
    json_decref(s->header);
    *s = (source){.fd = -1};
}

/* ---- asking ---------------------------------------------------------------------------------------- */

const source_entry *source_find(const source *s, const char *name)
{
    json_t *place = json_object_get(s->places, name);
    return place ? &s->entries[json_integer_value(place)] : NULL;
}

const char *source_meta(const source *s, const char *key)
{
    return json_string_value(json_object_get(s->metadata, key));
}

fdl_tensor *source_read(const source *s, const source_entry *e)
{
    return s->type->read(s, e);
}
