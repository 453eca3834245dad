/* The recorded numbers of tests/fixtures/nn.safetensors: 8 bytes header length, a JSON header, the tensors'
 * bytes. */
#ifndef FLODL_TESTS_NN_FIXTURE_H
#define FLODL_TESTS_NN_FIXTURE_H

#include "check.h"

#include <jansson.h>

typedef struct fixture {
    json_t *header;
    char *bytes; /* the whole file */
    size_t data; /* where the tensors begin in it */
} fixture;

static fixture recorded;

static int fixture_open(void **state)
{
    (void)state;
    FILE *f = fopen(FLODL_SOURCE_DIR "/tests/fixtures/nn.safetensors", "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0)
        return -1;
    long size = ftell(f);
    rewind(f);
    recorded.bytes = malloc((size_t)size);
    bool read = recorded.bytes && fread(recorded.bytes, 1, (size_t)size, f) == (size_t)size;
    fclose(f);
    if (!read)
        return -1;
    uint64_t length;
    memcpy(&length, recorded.bytes, sizeof length);
    recorded.header = json_loadb(recorded.bytes + 8, length, 0, NULL);
    recorded.data = 8 + length;
    return recorded.header ? 0 : -1;
}

static int fixture_close(void **state)
{
    (void)state;
    json_decref(recorded.header);
    free(recorded.bytes);
    return 0;
}

static inline bool fixture_has(const char *name)
{
    return json_object_get(recorded.header, name) != NULL;
}

/* The recorded tensor of that name: float32 or int64 (scope). */
static fdl_tensor *fixture_get(const char *name)
{
    json_t *entry = json_object_get(recorded.header, name);
    if (!entry)
        fail_msg("nothing is recorded as %s", name);
    bool whole = strcmp(json_string_value(json_object_get(entry, "dtype")), "I64") == 0;
    json_t *dims = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    fdl_shape shape = {.ndim = (int)json_array_size(dims)};
    for (int i = 0; i < shape.ndim; i++)
        shape.d[i] = json_integer_value(json_array_get(dims, (size_t)i));
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    fdl_tensor *t = fdl_from_bytes(recorded.bytes + recorded.data + begin, end - begin,
                                   whole ? FDL_INT64 : FDL_FLOAT32, shape);
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
static void expect_recorded(fdl_tensor *got, const char *row, const char *what, const char *key,
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
