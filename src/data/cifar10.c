/* CIFAR-10's binary version: records of one label byte and 3,072 bytes of pixels, channel by channel. A file's length is all
 * that says how many there are. */
#include "data_private.h"

#include <errno.h>
#include <unistd.h>

#include "flodl/file.h"
#include "flodl/shape.h"

enum { PIXELS = 3 * 32 * 32, RECORD = 1 + PIXELS, RECORDS = 10000, TRAINING_FILES = 5, LARGEST = 1 << 30 };

const char *fdl_data_cifar10_class(int label)
{
    static const char *const names[] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                        "dog",      "frog",       "horse", "ship", "truck"};
    if (label < 0 || label > 9)
        return fdl_fail_null(FDL_E_RANGE, "fdl_data_cifar10_class: label %d; there are 10, counted from 0",
                             label);
    return names[label];
}

/* The records of a file's content. */
static fdl_status take_records(const unsigned char *content, size_t size, fdl_tensor **image,
                               fdl_tensor **label)
{
    if (size == 0 || size % RECORD)
        return fdl_fail(FDL_E_FORMAT, "%zu bytes; records have %d", size, RECORD);
    int64_t n = (int64_t)(size / RECORD);
    *image = fdl_empty(FDL_SHAPE(n, 3, 32, 32), .dtype = FDL_UINT8, .device = FDL_CPU);
    *label = fdl_empty(FDL_SHAPE(n), .dtype = FDL_INT64, .device = FDL_CPU);
    unsigned char *pixels = *image ? fdl_data_ptr(*image) : NULL;
    int64_t *labels = *label ? fdl_data_ptr(*label) : NULL;
    if (!pixels || !labels)
        return fdl_error_pending();
    for (int64_t i = 0; i < n; i++, content += RECORD) {
        if (content[0] > 9)
            return fdl_fail(FDL_E_FORMAT, "record %lld: label %d; labels are 0 to 9", (long long)i,
                            content[0]);
        labels[i] = content[0];
        memcpy(pixels + i * PIXELS, content + 1, PIXELS);
    }
    return FDL_OK;
}

static fdl_status read_one(const void *file, size_t size, fdl_tensor **image, fdl_tensor **label)
{
    if (!fdl_is_gzip(file, size))
        return take_records(file, size, image, label);
    unsigned char *content = fdl_gunzip(file, size, LARGEST, &size);
    if (!content)
        return fdl_error_pending();
    fdl_status status = take_records(content, size, image, label);
    free(content);
    return status;
}

/* The files' tensors as one data set. */
static fdl_dataset *joined(fdl_tensor **image, fdl_tensor **label, int n)
{
    static const char *const names[] = {"image", "label"};
    fdl_tensor *all[] = {n == 1 ? image[0] : fdl_cat((fdl_list){n, image}, 0),
                         n == 1 ? label[0] : fdl_cat((fdl_list){n, label}, 0)};
    fdl_dataset *ds = fdl_data_tensors((fdl_list){2, all});
    if (!ds)
        return NULL;
    ds->v.names = names;
    ds->by[0] = 255;
    return ds;
}

fdl_dataset *fdl_data_cifar10_parse(const void *const *files, const size_t *sizes, int n)
{
    if (!files || !sizes) {
        fdl_null_operand("fdl_data_cifar10_parse", files ? "sizes" : "files");
        return NULL;
    }
    if (n < 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_cifar10_parse: %d files; it takes 1 or more", n);
    FDL_SCOPE;
    fdl_tensor **image = fdl_scope_alloc(sizeof *image * (size_t)n),
               **label = fdl_scope_alloc(sizeof *label * (size_t)n);
    if (!image || !label)
        return NULL;
    for (int i = 0; i < n; i++)
        if (!files[i] || read_one(files[i], sizes[i], &image[i], &label[i]) != FDL_OK) {
            if (!files[i])
                fdl_null_operand("fdl_data_cifar10_parse", "one of the files");
            else
                fdl_error_prefix("fdl_data_cifar10_parse: file %d: ", i);
            return NULL;
        }
    return joined(image, label, n);
}

/* ---- the corpus ---------------------------------------------------------------------------------------- */

#define SOURCE "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"

/* dir/cifar10/name.gz, or name where only that is there. path: of 4096 bytes. */
static void *read_file(const char *dir, const char *name, char *path, size_t *n)
{
    for (int packed = 1; packed >= 0; packed--) {
        int length = snprintf(path, 4096, "%s/cifar10/%s%s", dir, name, packed ? ".gz" : "");
        if (length < 0 || length >= 4096)
            return fdl_fail_null(FDL_E_ARG, "fdl_data_cifar10: the path is longer than 4095 bytes");
        if (access(path, F_OK) == 0)
            return fdl_file_read(path, LARGEST, n);
        if (errno != ENOENT && errno != ENOTDIR)
            break;
    }
    fdl_fail_errno("fdl_data_cifar10: no file '%s/cifar10/%s' or '%s.gz'; " SOURCE " has it", dir, name,
                   name);
    return NULL;
}

static fdl_status load_file(const char *dir, const char *name, fdl_tensor **image, fdl_tensor **label)
{
    char path[4096];
    size_t size;
    void *file = read_file(dir, name, path, &size);
    if (!file)
        return fdl_error_pending();
    fdl_status status = read_one(file, size, image, label);
    free(file);
    if (status == FDL_OK && fdl_size(*label, 0) != RECORDS)
        status = fdl_fail(FDL_E_FORMAT, "%lld records, %d expected", (long long)fdl_size(*label, 0), RECORDS);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_data_cifar10: '%s': ", path);
    return status;
}

fdl_dataset *fdl_data_cifar10_opt(const char *dir, const fdl_cifar10_opts *opts)
{
    static const char *const files[2][TRAINING_FILES] = {
        {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
        {"test_batch.bin"}};
    int split = opts ? opts->split : FDL_TRAIN;
    if (!dir) {
        fdl_null_operand("fdl_data_cifar10", "dir");
        return NULL;
    }
    if (split != FDL_TRAIN && split != FDL_TEST)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_cifar10: .split is %d; it is FDL_TRAIN or FDL_TEST", split);
    FDL_SCOPE;
    fdl_tensor *image[TRAINING_FILES], *label[TRAINING_FILES];
    int n = 0;
    for (; n < TRAINING_FILES && files[split][n]; n++)
        FDL_TRY_NULL(load_file(dir, files[split][n], &image[n], &label[n]));
    return joined(image, label, n);
}
