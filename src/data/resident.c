/* Bringing a whole dataset to its device, in pieces, so that the host never holds a second copy of it. */
#include "data_private.h"

#include "flodl/cuda.h"
#include "flodl/file.h"
#include "flodl/inplace.h"
#include "flodl/index.h"
#include "flodl/text.h"

enum { PIECE = 256 << 20 }; /* bytes fetched at once */

/* "MemAvailable:   123 kB" of /proc/meminfo, in bytes; -1 when unknown. */
static int64_t memory_available(void)
{
    int64_t bytes = -1;
    size_t n;
    char *text = fdl_file_read("/proc/meminfo", 1 << 20, &n);
    if (!text) {
        fdl_clear_error();
        return -1;
    }
    const char *line = strstr(text, "MemAvailable:");
    long long kb;
    if (line && sscanf(line, "MemAvailable: %lld kB", &kb) == 1)
        bytes = (int64_t)kb * 1024;
    free(text);
    return bytes;
}

/* A number that stands alone in a file; -1 when there is none. */
static int64_t number_in(const char *path)
{
    size_t n;
    char *text = fdl_file_read(path, 4096, &n), *end;
    if (!text) {
        fdl_clear_error();
        return -1;
    }
    long long value = strtoll(text, &end, 10);
    bool good = end != text;
    free(text);
    return good ? value : -1;
}

/* What a container leaves of it, by the limits of control groups. */
static int64_t room_on_host(void)
{
    int64_t room = memory_available(), limit = number_in("/sys/fs/cgroup/memory.max");
    int64_t used = number_in("/sys/fs/cgroup/memory.current");
    if (limit >= 0 && used >= 0 && limit - used < room)
        room = limit > used ? limit - used : 0;
    return room;
}

/* The driver's figures; a device that can't be measured is tried. */
static fdl_status check_device_room(fdl_device d, int64_t bytes, double use)
{
    int64_t used, total;
    if (fdl_cuda_mem_info(d.index, &used, &total) != FDL_OK) {
        fdl_clear_error();
        return FDL_OK;
    }
    use = use < 0.50 ? 0.50 : use > 0.99 ? 0.99 : use;
    int64_t cap = (int64_t)((double)total * use);
    if (bytes < cap - used)
        return FDL_OK;
    char need[FDL_TEXT_SIZE], most[FDL_TEXT_SIZE], taken[FDL_TEXT_SIZE], all[FDL_TEXT_SIZE];
    return fdl_fail(FDL_E_OOM, "the data needs %s; of the device's %s at most %s may be full, and %s are",
                    fdl_format_bytes(bytes, need, sizeof need), fdl_format_bytes(total, all, sizeof all),
                    fdl_format_bytes(cap, most, sizeof most), fdl_format_bytes(used, taken, sizeof taken));
}

static fdl_status check_room(fdl_device d, int64_t bytes, double vram_use)
{
    if (d.type == FDL_DEVICE_TYPE_CUDA)
        return check_device_room(d, bytes, vram_use);
    int64_t room = room_on_host();
    if (room < 0 || bytes <= room)
        return FDL_OK;
    char need[FDL_TEXT_SIZE], have[FDL_TEXT_SIZE];
    return fdl_fail(FDL_E_OOM, "the data needs %s, %s of memory are free",
                    fdl_format_bytes(bytes, need, sizeof need), fdl_format_bytes(room, have, sizeof have));
}

/* Kept: each position's room for all samples, after sample 0 has shown what they are like. */
static fdl_status make_room(fdl_loader *dl, int64_t n, double vram_use)
{
    FDL_SCOPE;
    fdl_tensor *first[FDL_DATA_MAX];
    FDL_TRY(fdl_data_fetch_raw(dl->ds, &(int64_t){0}, 1, first));
    for (int p = 0; p < dl->arity; p++)
        dl->sample_bytes += fdl_nbytes(first[p]);
    if (dl->sample_bytes > INT64_MAX / n)
        return fdl_fail(FDL_E_OOM, "%lld samples of %lld bytes are more than any memory", (long long)n,
                        (long long)dl->sample_bytes);
    FDL_TRY(check_room(dl->device, dl->sample_bytes * n, vram_use));
    for (int p = 0; p < dl->arity; p++) {
        fdl_shape shape = fdl_shape_of(first[p]);
        shape.d[0] = n;
        dl->data[p] = fdl_keep(fdl_empty(shape, .dtype = fdl_dtype_of(first[p]), .device = dl->device));
        if (!dl->data[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status load_piece(fdl_loader *dl, const int64_t *idx, int64_t from, int64_t k)
{
    FDL_SCOPE;
    fdl_tensor *rows[FDL_DATA_MAX];
    FDL_TRY(fdl_data_fetch_raw(dl->ds, idx, k, rows));
    for (int p = 0; p < dl->arity; p++)
        FDL_TRY(fdl_copy_(fdl_narrow(dl->data[p], 0, from, k), rows[p]));
    return FDL_OK;
}

static fdl_status load_all(fdl_loader *dl, int64_t n, double vram_use)
{
    FDL_TRY(make_room(dl, n, vram_use));
    int64_t piece = dl->sample_bytes ? PIECE / dl->sample_bytes : n;
    piece = piece < 1 ? 1 : piece > n ? n : piece;
    int64_t *idx = malloc((size_t)piece * sizeof *idx);
    if (!idx)
        return fdl_fail(FDL_E_OOM, "no memory");
    fdl_status status = FDL_OK;
    for (int64_t from = 0; from < n && status == FDL_OK; from += piece) {
        int64_t k = n - from < piece ? n - from : piece;
        for (int64_t j = 0; j < k; j++)
            idx[j] = from + j;
        status = load_piece(dl, idx, from, k);
    }
    free(idx);
    return status;
}

/* A dataset of tensors needs no fetching: they stay where they are, or go over as they are. */
static fdl_status take_rows(fdl_loader *dl, fdl_tensor *const *rows, int64_t n, double vram_use)
{
    FDL_SCOPE;
    int64_t bytes = 0;
    for (int p = 0; p < dl->arity; p++) {
        dl->sample_bytes += fdl_nbytes(rows[p]) / n;
        bytes += fdl_data_bytes(rows[p]);
    }
    if (dl->device.type != FDL_DEVICE_TYPE_CPU)
        FDL_TRY(check_room(dl->device, bytes, vram_use));
    for (int p = 0; p < dl->arity; p++) {
        dl->data[p] = fdl_keep(fdl_data_moved(rows[p], dl->device));
        if (!dl->data[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

fdl_status fdl_data_load(fdl_loader *dl, double vram_use)
{
    FDL_NO_GRAD;
    fdl_tensor *const *rows = fdl_data_rows_of(dl->ds);
    int64_t n = dl->ds->len;
    fdl_status status = rows ? take_rows(dl, rows, n, vram_use) : load_all(dl, n, vram_use);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_data_loader: ");
    return status;
}
