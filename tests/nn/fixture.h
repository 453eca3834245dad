/* The recorded numbers of tests/fixtures/nn/: files of 8 bytes header length, a JSON header, the tensors' bytes. */
#ifndef FLODL_TESTS_NN_FIXTURE_H
#define FLODL_TESTS_NN_FIXTURE_H

#include "check.h"

#include <dirent.h>
#include <jansson.h>

enum { FIXTURE_FILES = 64 };

typedef struct fixture {
    json_t *header;
    char *bytes; /* the whole file */
    size_t data; /* where the tensors begin in it */
} fixture;

static fixture recorded[FIXTURE_FILES];
static int recorded_files;

static bool fixture_read(const char *path, fixture *x)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        return false;
    long size = ftell(f);
    rewind(f);
    x->bytes = malloc((size_t)size);
    bool read = x->bytes && fread(x->bytes, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    if (!read)
        return false;
    uint64_t length;
    memcpy(&length, x->bytes, sizeof length);
    x->header = json_loadb(x->bytes + 8, length, 0, NULL);
    x->data = 8 + length;
    return x->header != NULL;
}

static int fixture_open(void **state)
{
    (void)state;
    DIR *d = opendir(FLODL_SOURCE_DIR "/tests/fixtures/nn");
    bool ok = d != NULL;
    for (struct dirent *e; ok && (e = readdir(d));) {
        size_t n = strlen(e->d_name);
        if (n < 12 || strcmp(e->d_name + n - 12, ".safetensors") != 0)
            continue;
        char path[512];
        snprintf(path, sizeof path, FLODL_SOURCE_DIR "/tests/fixtures/nn/%s", e->d_name);
        ok = recorded_files < FIXTURE_FILES && fixture_read(path, &recorded[recorded_files]);
        recorded_files += ok;
    }
    if (d)
        closedir(d);
    return ok && recorded_files ? 0 : -1;
}

static int fixture_close(void **state)
{
    (void)state;
    for (int i = 0; i < recorded_files; i++) {
        json_decref(recorded[i].header);
        free(recorded[i].bytes);
    }
    return 0;
}

/* The entry of that name and the file that has it, or NULL. */
static json_t *fixture_entry(const char *name, const fixture **file)
{
    for (int i = 0; i < recorded_files; i++) {
        json_t *entry = json_object_get(recorded[i].header, name);
        *file = &recorded[i];
        if (entry)
            return entry;
    }
    return NULL;
}

static inline bool fixture_has(const char *name)
{
    const fixture *file = NULL;
    return fixture_entry(name, &file) != NULL;
}

/* How many recorded names begin so. */
static inline int fixture_count(const char *start)
{
    int n = 0;
    const char *key;
    json_t *value;
    for (int i = 0; i < recorded_files; i++)
        json_object_foreach(recorded[i].header, key, value) n += strncmp(key, start, strlen(start)) == 0;
    return n;
}

/* The seed of a row of the table: FNV-1a of its name, so that rows may come and go. */
static inline uint64_t fixture_seed(const char *row)
{
    uint32_t h = 2166136261u;
    for (; *row; row++)
        h = (h ^ (uint8_t)*row) * 16777619u;
    return h;
}

/* The recorded tensor of that name: float32 or int64 (scope). */
static fdl_tensor *fixture_get(const char *name)
{
    const fixture *file = NULL;
    json_t *entry = fixture_entry(name, &file);
    if (!entry)
        fail_msg("nothing is recorded as %s", name);
    bool whole = strcmp(json_string_value(json_object_get(entry, "dtype")), "I64") == 0;
    json_t *dims = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    fdl_shape shape = {.ndim = (int)json_array_size(dims)};
    for (int i = 0; i < shape.ndim; i++)
        shape.d[i] = json_integer_value(json_array_get(dims, (size_t)i));
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    fdl_tensor *t =
        fdl_from_bytes(file->bytes + file->data + begin, end - begin, whole ? FDL_INT64 : FDL_FLOAT32, shape);
    assert_non_null(t);
    return t;
}

/* "row/what", or "row/what.key". */
static fdl_tensor *fixture_of(const char *row, const char *what, const char *key)
{
    char name[256];
    snprintf(name, sizeof name, "%s/%s%s%s", row, what, key ? "." : "", key ? key : "");
    return fixture_get(name);
}

/* got equals the recorded tensor: same shape, abs(got - recorded) <= tolerance * (1 + abs(recorded)); 0: to
 * the bit. */
static inline void expect_recorded(fdl_tensor *got, const char *row, const char *what, const char *key,
                                   double tolerance)
{
    FDL_SCOPE;
    fdl_tensor *want = fixture_of(row, what, key);
    if (!got)
        fail_msg("%s: no %s %s: %s", row, what, key ? key : "", fdl_last_error()->message);
    if (!fdl_shape_eq(fdl_shape_of(got), fdl_shape_of(want))) {
        char a[256], b[256];
        fail_msg("%s: %s %s is %s, recorded %s", row, what, key ? key : "", fdl_describe(got, a, sizeof a),
                 fdl_describe(want, b, sizeof b));
    }
    int64_t n = fdl_numel(got);
    double *g = calloc((size_t)n + 1, sizeof *g), *w = calloc((size_t)n + 1, sizeof *w);
    FDL_CHECK(fdl_to_f64(got, g, n));
    FDL_CHECK(fdl_to_f64(want, w, n));
    for (int64_t i = 0; i < n; i++) {
        double far = g[i] > w[i] ? g[i] - w[i] : w[i] - g[i], size = w[i] < 0 ? -w[i] : w[i];
        if (!(far <= tolerance * (1 + size)))
            fail_msg("%s: %s %s, element %d is %.9g, recorded %.9g", row, what, key ? key : "", (int)i, g[i],
                     w[i]);
    }
    free(g);
    free(w);
}

/* The weights of the recorded losses: 0.5 + (i % 7) / 7. */
static inline fdl_tensor *loss_weights(fdl_tensor *y)
{
    int64_t n = fdl_numel(y);
    double *w = calloc((size_t)n + 1, sizeof *w);
    for (int64_t i = 0; i < n; i++)
        w[i] = 0.5 + (double)(i % 7) / 7;
    fdl_tensor *t = fdl_from_f64(w, fdl_shape_of(y), .dtype = fdl_dtype_of(y));
    free(w);
    return t;
}

/* sum(y * weights). */
static inline fdl_tensor *recorded_loss(fdl_tensor *y)
{
    return fdl_sum(fdl_mul(y, loss_weights(y)));
}

#endif
