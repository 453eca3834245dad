/* What the tests of checkpoints share: files made by hand, byte by byte, and memory as a writer and a reader. */
#ifndef FLODL_TESTS_TRAIN_CKPT_FILES_H
#define FLODL_TESTS_TRAIN_CKPT_FILES_H

#include "folder.h"

#include "flodl/ckpt_file.h"

typedef struct bytes {
    unsigned char *at;
    size_t n, room, read;
} bytes;

static FDL_UNUSED void put(bytes *b, const void *from, size_t n)
{
    if (b->n + n + 1 > b->room) {
        b->room = 2 * (b->n + n + 1);
        b->at = realloc(b->at, b->room);
        assert_non_null(b->at);
    }
    memcpy(b->at + b->n, from, n);
    b->n += n;
}

static FDL_UNUSED void put_number(bytes *b, uint64_t v, int size)
{
    unsigned char le[8];
    for (int i = 0; i < 8; i++)
        le[i] = (unsigned char)(v >> 8 * i);
    put(b, le, (size_t)size);
}

/* To a file, freed. A new file, as some file systems wait for the disk when an old one is written over. */
static FDL_UNUSED const char *written(bytes *b, const char *path)
{
    unlink(path);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->at, 1, b->n, f), b->n);
    assert_int_equal(fclose(f), 0);
    free(b->at);
    *b = (bytes){0};
    return path;
}

/* ---- memory as a writer and a reader ---------------------------------------------------------------- */

static FDL_UNUSED fdl_status write_bytes(void *ctx, const void *from, size_t n)
{
    put(ctx, from, n);
    return FDL_OK;
}

/* Few bytes at a time. */
static FDL_UNUSED int64_t read_bytes(void *ctx, void *to, size_t n)
{
    bytes *b = ctx;
    size_t left = b->n - b->read, now = n < left ? n : left;
    now = now < 1000 ? now : 1000;
    if (now)
        memcpy(to, b->at + b->read, now);
    b->read += now;
    return (int64_t)now;
}

/* ---- files by hand ---------------------------------------------------------------------------------- */

typedef struct hand_entry {
    const char *name;
    int ndim;
    int64_t shape[3];
    double first; /* its elements: first, first + 1, ... in float32 */
} hand_entry;

static FDL_UNUSED int64_t numel_of(const hand_entry *e)
{
    int64_t n = 1;
    for (int d = 0; d < e->ndim; d++)
        n *= e->shape[d];
    return n;
}

static FDL_UNUSED void put_values(bytes *b, const hand_entry *e)
{
    for (int64_t i = 0; i < numel_of(e); i++) {
        float v = (float)(e->first + (double)i);
        put(b, &v, sizeof v);
    }
}

/* A file of version 1 or 2; hash: 64 digits, or NULL. */
static FDL_UNUSED bytes fdlc_bytes(int version, const char *hash, int n, const hand_entry *entries)
{
    bytes b = {0};
    put(&b, "FDLC", 4);
    put_number(&b, (uint64_t)version, 4);
    for (int i = 0; i < 32; i++) {
        unsigned byte = 0;
        if (hash)
            sscanf(hash + 2 * i, "%2x", &byte);
        put_number(&b, byte, 1);
    }
    put_number(&b, (uint64_t)n, 4);
    for (int i = 0; i < n; i++) {
        const hand_entry *e = &entries[i];
        put_number(&b, strlen(e->name), 4);
        put(&b, e->name, strlen(e->name));
        put_number(&b, (uint64_t)e->ndim, 4);
        for (int d = 0; d < e->ndim; d++)
            put_number(&b, (uint64_t)e->shape[d], 8);
        put_number(&b, 3, 1);
        put_number(&b, (uint64_t)numel_of(e) * 4, 8);
        put_values(&b, e);
    }
    return b;
}

/* A safetensors file without metadata. */
static FDL_UNUSED bytes safetensors_bytes(int n, const hand_entry *entries)
{
    char header[8192] = "{";
    size_t used = 1, at = 0;
    for (int i = 0; i < n; i++) {
        const hand_entry *e = &entries[i];
        size_t end = at + (size_t)numel_of(e) * 4;
        used += (size_t)snprintf(header + used, sizeof header - used,
                                 "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", i ? "," : "", e->name);
        for (int d = 0; d < e->ndim; d++)
            used += (size_t)snprintf(header + used, sizeof header - used, "%s%lld", d ? "," : "",
                                     (long long)e->shape[d]);
        used +=
            (size_t)snprintf(header + used, sizeof header - used, "],\"data_offsets\":[%zu,%zu]}", at, end);
        at = end;
    }
    used += (size_t)snprintf(header + used, sizeof header - used, "}");
    bytes b = {0};
    put_number(&b, used, 8);
    put(&b, header, used);
    for (int i = 0; i < n; i++)
        put_values(&b, &entries[i]);
    return b;
}

/* ---- zip files by hand --------------------------------------------------------------------------------- */

static FDL_UNUSED uint32_t crc_of(const unsigned char *at, size_t n)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= at[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0xedb88320 & -(crc & 1));
    }
    return ~crc;
}

/* A zip file with stored entries. */
typedef struct zip_maker {
    bytes file, directory;
    int n;
} zip_maker;

static FDL_UNUSED void add_file(zip_maker *z, const char *name, const void *at, size_t n)
{
    uint64_t offset = z->file.n;
    for (int central = 0; central < 2; central++) {
        bytes *to = central ? &z->directory : &z->file;
        put(to, central ? "PK\1\2" : "PK\3\4", 4);
        if (central)
            put_number(to, 20, 2);
        put_number(to, 20, 2);
        put_number(to, 0, 4);        /* flags, method */
        put_number(to, 0x210000, 4); /* time, date */
        put_number(to, crc_of(at, n), 4);
        put_number(to, n, 4);
        put_number(to, n, 4);
        put_number(to, strlen(name), 2);
        put_number(to, 0, 2);
        if (central) {
            put_number(to, 0, 8);
            put_number(to, 0, 2);
            put_number(to, offset, 4);
        }
        put(to, name, strlen(name));
    }
    put(&z->file, at, n);
    z->n++;
}

static FDL_UNUSED const char *end_zip(zip_maker *z, const char *path)
{
    uint64_t at = z->file.n, n = z->directory.n;
    put(&z->file, z->directory.at, z->directory.n);
    put(&z->file, "PK\5\6", 4);
    put_number(&z->file, 0, 4);
    put_number(&z->file, (uint64_t)z->n, 2);
    put_number(&z->file, (uint64_t)z->n, 2);
    put_number(&z->file, n, 4);
    put_number(&z->file, at, 4);
    put_number(&z->file, 0, 2);
    free(z->directory.at);
    return written(&z->file, path);
}

/* ---- modules ---------------------------------------------------------------------------------------- */

static FDL_UNUSED fdl_tensor *param_of(fdl_module *m, const char *name)
{
    fdl_param *p = fdl_params_find(fdl_params_join(fdl_parameters(m), fdl_buffers(m)), name);
    check_some(p);
    return fdl_param_tensor(p);
}

/* Element i of a parameter or buffer. */
static FDL_UNUSED double value_at(fdl_module *m, const char *name, int64_t i)
{
    FDL_SCOPE;
    double v[4096];
    fdl_tensor *t = param_of(m, name);
    int64_t n = fdl_numel(t);
    assert_true(n <= 4096 && i < n);
    check_ok(fdl_to_f64(t, v, n));
    return v[i];
}

/* All values to 1000, 1001, ... so that every change is seen. */
static FDL_UNUSED void mark(fdl_module *m)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_params *ps = fdl_params_join(fdl_parameters(m), fdl_buffers(m));
    double from = 1000;
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_param *p = fdl_params_at(ps, i);
        fdl_tensor *t = fdl_param_tensor(p);
        int64_t n = fdl_numel(t);
        fdl_tensor *values = fdl_add(fdl_arange(0, (double)n, 1, .dtype = FDL_FLOAT64), from);
        check_ok(fdl_param_set(p, fdl_reshape(values, fdl_shape_of(t))));
        from += (double)n;
    }
}

static FDL_UNUSED bool same_values(fdl_module *a, fdl_module *b)
{
    FDL_SCOPE;
    fdl_params *x = fdl_params_join(fdl_parameters(a), fdl_buffers(a));
    fdl_params *y = fdl_params_join(fdl_parameters(b), fdl_buffers(b));
    if (fdl_params_count(x) != fdl_params_count(y))
        return false;
    for (int i = 0; i < fdl_params_count(x); i++)
        if (!fdl_same(fdl_param_tensor(fdl_params_at(x, i)), fdl_param_tensor(fdl_params_at(y, i))))
            return false;
    return true;
}

#endif
