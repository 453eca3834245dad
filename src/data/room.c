/* What memory there is, on the host and on a GPU, and what follows for a loader. */
#include "data_private.h"

#include "flodl/cuda.h"
#include "flodl/file.h"
#include "flodl/text.h"

/* ---- the host ---------------------------------------------------------------------------------------- */

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

/* ---- a device ------------------------------------------------------------------------------------------ */

fdl_status fdl_data_room(fdl_device d, struct room *room)
{
    fdl_cuda_memory held;
    FDL_TRY(fdl_cuda_mem_info(d.index, &room->full, &room->total));
    FDL_TRY(fdl_cuda_memory_stats(d.index, &held));
    int64_t unused = held.reserved.current - held.active.current;
    room->full -= unused < room->full ? unused : room->full;
    return FDL_OK;
}

/* ---- the rule ------------------------------------------------------------------------------------------ */

/* INT64_MAX: too many to count. */
static int64_t bytes_of_data(const fdl_loader *dl)
{
    fdl_tensor *const *rows = fdl_data_rows_of(dl->ds);
    int64_t n = dl->ds->len, bytes = 0;
    for (int p = 0; rows && p < dl->ds->v.arity; p++)
        bytes += fdl_data_bytes(rows[p]);
    if (rows)
        return bytes;
    return dl->sample_bytes > INT64_MAX / n ? INT64_MAX : dl->sample_bytes * n;
}

static fdl_status check_device_room(const fdl_loader *dl, int64_t bytes)
{
    struct room r;
    if (fdl_data_room(dl->device, &r) != FDL_OK) {
        fdl_clear_error();
        return FDL_OK;
    }
    if (rule_is_resident(r, dl->vram_use, bytes))
        return FDL_OK;
    char need[FDL_TEXT_SIZE], most[FDL_TEXT_SIZE], taken[FDL_TEXT_SIZE], all[FDL_TEXT_SIZE];
    return fdl_fail(FDL_E_OOM,
                    "the data needs %s; of the device's %s at most %s may be full, and %s are; "
                    "FDL_DATA_STREAM needs a few "
                    "batches only",
                    fdl_format_bytes(bytes, need, sizeof need), fdl_format_bytes(r.total, all, sizeof all),
                    fdl_format_bytes(rule_cap(r.total, dl->vram_use), most, sizeof most),
                    fdl_format_bytes(r.full, taken, sizeof taken));
}

fdl_status fdl_data_check_room(const fdl_loader *dl)
{
    int64_t bytes = bytes_of_data(dl);
    if (bytes == INT64_MAX)
        return fdl_fail(FDL_E_OOM, "%lld samples of %lld bytes are more than any memory",
                        (long long)dl->ds->len, (long long)dl->sample_bytes);
    if (on_cuda(dl))
        return check_device_room(dl, bytes);
    int64_t room = fdl_data_rows_of(dl->ds) ? -1 : room_on_host(); /* rows are there already */
    if (room < 0 || bytes <= room)
        return FDL_OK;
    char need[FDL_TEXT_SIZE], have[FDL_TEXT_SIZE];
    return fdl_fail(FDL_E_OOM,
                    "the data needs %s, %s of memory are free; FDL_DATA_STREAM needs a few batches only",
                    fdl_format_bytes(bytes, need, sizeof need), fdl_format_bytes(room, have, sizeof have));
}

fdl_data_mode fdl_data_choose(const fdl_loader *dl, bool drew)
{
    if (drew || dl->collate)
        return FDL_DATA_STREAM;
    int64_t bytes = bytes_of_data(dl);
    bool resident;
    if (on_cuda(dl)) {
        struct room r;
        resident = fdl_data_room(dl->device, &r) == FDL_OK && rule_is_resident(r, dl->vram_use, bytes);
        fdl_clear_error();
    } else {
        resident = fdl_data_rows_of(dl->ds) || bytes < room_on_host() / 2;
    }
    return resident ? FDL_DATA_RESIDENT : FDL_DATA_STREAM;
}
