/* MNIST's IDX files: big-endian counts, then bytes; packed by gzip or not. No count is believed before it was
 * held against the bytes that are there. */
#include "data_private.h"

#include <errno.h>
#include <unistd.h>

#include "flodl/file.h"
#include "flodl/message.h"

enum { LARGEST = 1 << 30 }; /* bytes of a file, unpacked */

struct idx {
    const char *what; /* "images" */
    uint32_t magic;
    int dims;
    const unsigned char *bytes;
    size_t n;
    uint64_t extent[3];
    size_t head, payload; /* bytes */
};

static uint32_t big_endian(const unsigned char *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Extents and sizes from the header, checked against one another and against what n bytes can hold. */
static fdl_status read_header(struct idx *x)
{
    unsigned char head[16];
    x->head = 4 + 4 * (size_t)x->dims;
    bool packed = fdl_is_gzip(x->bytes, x->n);
    size_t got = x->n < x->head ? x->n : x->head;
    if (packed)
        FDL_TRY(fdl_gunzip_head(x->bytes, x->n, head, x->head, &got));
    else if (got)
        memcpy(head, x->bytes, got);
    if (got < x->head)
        return fdl_fail(FDL_E_FORMAT, "the header has %zu bytes, %zu are there", x->head, got);
    if (big_endian(head) != x->magic)
        return fdl_fail(FDL_E_FORMAT, "bad magic %lu, expected %lu", (unsigned long)big_endian(head),
                        (unsigned long)x->magic);
    uint64_t size = 1;
    bool fits = true;
    for (int i = 0; i < x->dims; i++) {
        x->extent[i] = big_endian(head + 4 + 4 * i);
        if (x->extent[i] == 0)
            return fdl_fail(FDL_E_FORMAT, "dim %d is 0 (offset %d)", i, 4 + 4 * i);
        fits = fits && size <= LARGEST / x->extent[i];
        size = fits ? size * x->extent[i] : size;
    }
    if (!fits)
        return fdl_fail(
            FDL_E_FORMAT,
            "the header speaks of %llu x %llu x %llu bytes, more than the %d that a file may have",
            (unsigned long long)x->extent[0], (unsigned long long)(x->dims > 1 ? x->extent[1] : 1),
            (unsigned long long)(x->dims > 2 ? x->extent[2] : 1), LARGEST);
    x->payload = (size_t)size;
    size_t most =
        packed ? (x->n < LARGEST / 1032 ? x->n * 1032 : LARGEST) : x->n; /* deflate packs 1032 to 1 at best */
    if (most < x->head + x->payload)
        return fdl_fail(FDL_E_FORMAT, "the header speaks of %zu bytes after it, %zu are there%s", x->payload,
                        most > x->head ? most - x->head : 0, packed ? " at most" : "");
    return FDL_OK;
}

/* The whole file, header and payload, owned. */
static unsigned char *read_content(const struct idx *x)
{
    size_t want = x->head + x->payload, got = x->n;
    unsigned char *content = malloc(want);
    if (!content)
        return fdl_fail_null(FDL_E_OOM, "no memory for %zu bytes", want);
    if (!fdl_is_gzip(x->bytes, x->n))
        memcpy(content, x->bytes, want);
    else if (fdl_gunzip_into(x->bytes, x->n, LARGEST, content, want, &got) != FDL_OK) {
        free(content);
        return NULL;
    }
    if (got < want) {
        free(content);
        return fdl_fail_null(FDL_E_FORMAT, "the header speaks of %zu bytes after it, %zu are there",
                             x->payload, got > x->head ? got - x->head : 0);
    }
    if (got > want)
        fdl_msg_verbose("fdl_data_mnist_parse: %s: %zu bytes behind the end are not used", x->what,
                        got - want);
    return content;
}

/* uint8 [n, 1, rows, cols] over the content itself. */
static fdl_tensor *image_tensor(const struct idx *x)
{
    unsigned char *content = read_content(x);
    if (!content)
        return NULL;
    fdl_shape shape = {{(int64_t)x->extent[0], 1, (int64_t)x->extent[1], (int64_t)x->extent[2]}, 4};
    fdl_tensor *t =
        fdl_from_blob(content + x->head, shape, .dtype = FDL_UINT8, .release = free, .ctx = content);
    if (!t)
        free(content);
    return t;
}

/* int64 [n]. */
static fdl_tensor *label_tensor(const struct idx *x)
{
    unsigned char *content = read_content(x);
    if (!content)
        return NULL;
    fdl_tensor *t = fdl_empty(FDL_SHAPE((int64_t)x->extent[0]), .dtype = FDL_INT64, .device = FDL_CPU);
    int64_t *out = t ? fdl_data_ptr(t) : NULL;
    for (size_t i = 0; out && i < x->payload; i++) {
        out[i] = content[x->head + i];
        if (out[i] > 9) {
            fdl_fail(FDL_E_FORMAT, "label %lld of sample %zu (offset %zu); labels are 0 to 9",
                     (long long)out[i], i, x->head + i);
            out = NULL;
        }
    }
    free(content);
    return out ? t : NULL;
}

static fdl_dataset *parse(struct idx *images, struct idx *labels)
{
    FDL_SCOPE;
    struct idx *x = images;
    fdl_tensor *image = NULL, *label = NULL;
    fdl_status status = read_header(x = images);
    if (status == FDL_OK)
        status = read_header(x = labels);
    if (status == FDL_OK && images->extent[0] != labels->extent[0])
        status = fdl_fail(FDL_E_FORMAT, "%llu labels for %llu images", (unsigned long long)labels->extent[0],
                          (unsigned long long)images->extent[0]);
    if (status == FDL_OK && (image = image_tensor(x = images)))
        label = label_tensor(x = labels);
    if (!label) {
        fdl_error_prefix("%s: ", x->what);
        return NULL;
    }
    static const char *const names[] = {"image", "label"};
    fdl_dataset *ds = fdl_data_tensors(FDL_LIST(image, label));
    if (!ds)
        return NULL;
    ds->v.names = names;
    ds->by[0] = 255;
    return ds;
}

fdl_dataset *fdl_data_mnist_parse(const void *images, size_t ni, const void *labels, size_t nl)
{
    if (!images || !labels) {
        fdl_null_operand("fdl_data_mnist_parse", images ? "labels" : "images");
        return NULL;
    }
    struct idx i = {.what = "images", .magic = 2051, .dims = 3, .bytes = images, .n = ni};
    struct idx l = {.what = "labels", .magic = 2049, .dims = 1, .bytes = labels, .n = nl};
    fdl_dataset *ds = parse(&i, &l);
    if (!ds)
        fdl_error_prefix("fdl_data_mnist_parse: ");
    return ds;
}

#define SOURCE "https://storage.googleapis.com/cvdf-datasets/mnist/"

/* dir/mnist/name.gz, or name without .gz where only that is there. */
static void *read_file(const char *dir, const char *name, size_t *n)
{
    char path[4096];
    for (int packed = 1; packed >= 0; packed--) {
        int length = snprintf(path, sizeof path, "%s/mnist/%s%s", dir, name, packed ? ".gz" : "");
        if (length < 0 || (size_t)length >= sizeof path)
            return fdl_fail_null(FDL_E_ARG, "fdl_data_mnist: the path is longer than %zu bytes",
                                 sizeof path - 1);
        if (access(path, F_OK) == 0)
            return fdl_file_read(path, LARGEST, n);
        if (errno != ENOENT && errno != ENOTDIR)
            break;
    }
    fdl_fail_errno("fdl_data_mnist: no file '%s/mnist/%s.gz', which " SOURCE "%s.gz has", dir, name, name);
    return NULL;
}

fdl_dataset *fdl_data_mnist_opt(const char *dir, const fdl_mnist_opts *opts)
{
    static const char *const files[2][2] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                            {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
    int split = opts ? opts->split : FDL_TRAIN;
    if (!dir) {
        fdl_null_operand("fdl_data_mnist", "dir");
        return NULL;
    }
    if (split != FDL_TRAIN && split != FDL_TEST)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_mnist: .split is %d; it is FDL_TRAIN or FDL_TEST", split);
    size_t ni, nl;
    void *images = read_file(dir, files[split][0], &ni);
    void *labels = images ? read_file(dir, files[split][1], &nl) : NULL;
    fdl_dataset *ds = labels ? fdl_data_mnist_parse(images, ni, labels, nl) : NULL;
    if (labels && !ds)
        fdl_error_prefix("'%s/mnist/%s' and its labels: ", dir, files[split][0]);
    free(images);
    free(labels);
    return ds;
}
