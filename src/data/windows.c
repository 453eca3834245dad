/* Windows of a sequence, as views of it; the corpus that the language models of the examples learn from. */
#include "data_private.h"

#include <errno.h>
#include <unistd.h>

#include "flodl/file.h"
#include "flodl/index.h"
#include "flodl/shape.h"

/* ---- views whose elements lie over one another ------------------------------------------------------- */

/* Elements from the first to the last that x reaches. */
static int64_t span_of(fdl_tensor *x)
{
    int64_t span = 1;
    for (int d = 0; d < fdl_ndim(x); d++) {
        if (fdl_size(x, d) == 0)
            return 0;
        span += (fdl_size(x, d) - 1) * fdl_stride(x, d);
    }
    return span;
}

int64_t fdl_data_bytes(fdl_tensor *x)
{
    int64_t n = fdl_numel(x), whole = fdl_nbytes(x);
    return n > 0 && span_of(x) < n ? whole / n * span_of(x) : whole;
}

fdl_tensor *fdl_data_moved(fdl_tensor *x, fdl_device device)
{
    int64_t span = span_of(x);
    if (fdl_device_eq(fdl_device_of(x), device) || span >= fdl_numel(x))
        return fdl_to_device(x, device);
    fdl_tensor *under = fdl_as_strided(x, FDL_SHAPE(span), FDL_SHAPE(1), fdl_storage_offset(x));
    fdl_shape shape = fdl_shape_of(x), strides = {.ndim = shape.ndim};
    for (int d = 0; d < shape.ndim; d++)
        strides.d[d] = fdl_stride(x, d);
    return fdl_as_strided(fdl_to_device(under, device), shape, strides, 0);
}

/* ---- windows ----------------------------------------------------------------------------------------- */

static fdl_status check_windows(fdl_tensor *x, int64_t length, int64_t stride)
{
    static const char name[] = "fdl_data_windows";
    char text[256];
    if (fdl_ndim(x) < 0)
        return fdl_error_pending();
    if (fdl_ndim(x) != 1)
        return fdl_fail(FDL_E_SHAPE, "%s: x is %s, must be one sequence [n]", name,
                        fdl_describe(x, text, sizeof text));
    if (length < 1 || stride < 1)
        return fdl_fail(FDL_E_ARG, "%s: %s is %lld, must be at least 1", name,
                        length < 1 ? "length" : ".stride", (long long)(length < 1 ? length : stride));
    if (fdl_numel(x) <= length)
        return fdl_fail(FDL_E_ARG,
                        "%s: a sequence of %lld elements is too short for windows of %lld and the element "
                        "behind them",
                        name, (long long)fdl_numel(x), (long long)length);
    return FDL_OK;
}

fdl_dataset *fdl_data_windows_opt(fdl_tensor *x, int64_t length, const fdl_windows_opts *opts)
{
    static const char *const names[] = {"input", "target"};
    int64_t stride = opts && opts->stride ? opts->stride : length;
    if (!x) {
        fdl_null_operand("fdl_data_windows", "x");
        return NULL;
    }
    FDL_TRY_NULL(check_windows(x, length, stride));
    FDL_NO_GRAD;
    FDL_SCOPE;
    int64_t n = fdl_numel(x) - 1;
    fdl_tensor *input = fdl_unfold_dim(fdl_narrow(x, 0, 0, n), 0, length, stride);
    fdl_tensor *target = fdl_unfold_dim(fdl_narrow(x, 0, 1, n), 0, length, stride);
    fdl_dataset *ds = fdl_data_tensors(FDL_LIST(input, target));
    if (ds)
        ds->v.names = names;
    else
        fdl_error_prefix("fdl_data_windows: ");
    return ds;
}

/* ---- tiny Shakespeare ---------------------------------------------------------------------------------- */

char *fdl_data_shakespeare(const char *dir, size_t *n)
{
    static const char source[] =
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt";
    if (!dir || !n) {
        fdl_null_operand("fdl_data_shakespeare", dir ? "n" : "dir");
        return NULL;
    }
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/tinyshakespeare/input.txt", dir);
    if (length < 0 || (size_t)length >= sizeof path)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_shakespeare: the path is longer than %zu bytes",
                             sizeof path - 1);
    if (access(path, F_OK) != 0) {
        fdl_fail_errno("fdl_data_shakespeare: no file '%s', which can be had from %s", path, source);
        return NULL;
    }
    return fdl_file_read(path, 0, n);
}
