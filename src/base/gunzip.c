/* Unpacking gzip by zlib, several members in a row, within a bound. */
#include "flodl/file.h"

#include <limits.h>
#include <zlib.h>

/* The most that deflate can unpack from one byte is 1032; the buffer starts well below that and doubles. */
enum { CHUNK = 1 << 16 };

struct unpacker {
    z_stream z;
    const unsigned char *next, *end; /* input not yet given to zlib */
    bool open, finished;
};

static fdl_status begin(struct unpacker *u, const void *bytes, size_t n)
{
    *u = (struct unpacker){.next = bytes, .end = bytes ? (const unsigned char *)bytes + n : NULL};
    if (!fdl_is_gzip(bytes, n))
        return fdl_fail(FDL_E_FORMAT, "gzip: the data doesn't begin with 1f 8b");
    if (inflateInit2(&u->z, 16 + MAX_WBITS) != Z_OK)
        return fdl_fail(FDL_E_OOM, "gzip: no memory to unpack");
    u->open = true;
    return FDL_OK;
}

static void end(struct unpacker *u)
{
    if (u->open)
        inflateEnd(&u->z);
}

/* Behind a member: another member, zero bytes to the end, or the end. */
static fdl_status next_member(struct unpacker *u)
{
    const unsigned char *at = u->next - u->z.avail_in;
    const unsigned char *p = at;
    while (p < u->end && *p == 0)
        p++;
    if (p == u->end) {
        u->finished = true;
        return FDL_OK;
    }
    if (p != at || !fdl_is_gzip(at, (size_t)(u->end - at)))
        return fdl_fail(FDL_E_FORMAT, "gzip: %zu bytes behind the end are no gzip data",
                        (size_t)(u->end - p));
    if (inflateReset(&u->z) != Z_OK)
        return fdl_fail(FDL_E_FORMAT, "gzip: damaged");
    return FDL_OK;
}

/* Unpacks up to room bytes; *got is fewer only at the end, where u->finished is set. */
static fdl_status unpack(struct unpacker *u, unsigned char *out, size_t room, size_t *got)
{
    *got = 0;
    while (*got < room && !u->finished) {
        if (u->z.avail_in == 0 && u->next < u->end) {
            size_t n = (size_t)(u->end - u->next);
            u->z.next_in = (z_const unsigned char *)(uintptr_t)u->next;
            u->z.avail_in = n < UINT_MAX ? (uInt)n : UINT_MAX;
            u->next += u->z.avail_in;
        }
        size_t n = room - *got < UINT_MAX ? room - *got : UINT_MAX;
        u->z.next_out = out + *got;
        u->z.avail_out = (uInt)n;
        int result = inflate(&u->z, Z_NO_FLUSH);
        *got += n - u->z.avail_out;
        if (result == Z_STREAM_END)
            FDL_TRY(next_member(u));
        else if (result == Z_MEM_ERROR)
            return fdl_fail(FDL_E_OOM, "gzip: no memory to unpack");
        else if (result == Z_BUF_ERROR || (result == Z_OK && u->z.avail_out && u->next == u->end))
            return fdl_fail(FDL_E_FORMAT, "gzip: the data is cut short after %zu unpacked bytes",
                            (size_t)u->z.total_out);
        else if (result != Z_OK)
            return fdl_fail(FDL_E_FORMAT, "gzip: damaged after %zu unpacked bytes: %s",
                            (size_t)u->z.total_out, u->z.msg ? u->z.msg : "unknown reason");
    }
    return FDL_OK;
}

static fdl_status too_large(size_t max)
{
    return fdl_fail(FDL_E_FORMAT, "gzip: unpacks to more than %zu bytes", max);
}

bool fdl_is_gzip(const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    return b && n >= 2 && b[0] == 0x1f && b[1] == 0x8b;
}

void *fdl_gunzip(const void *bytes, size_t n, size_t max, size_t *size)
{
    if (!bytes || !size) {
        fdl_null_operand("fdl_gunzip", bytes ? "size" : "bytes");
        return NULL;
    }
    *size = 0;
    struct unpacker u;
    size_t room = CHUNK, used = 0;
    unsigned char *out = NULL;
    fdl_status status = begin(&u, bytes, n);
    while (status == FDL_OK && !u.finished) {
        if (!out || used + 1 >= room) {
            room = out ? room * 2 : room;
            unsigned char *more = realloc(out, room);
            if (!more) {
                status = fdl_fail(FDL_E_OOM, "fdl_gunzip: no memory for %zu bytes", room);
                break;
            }
            out = more;
        }
        size_t got;
        status = unpack(&u, out + used, room - 1 - used, &got);
        used += got;
        if (status == FDL_OK && max && used > max)
            status = too_large(max);
    }
    end(&u);
    if (status != FDL_OK) {
        free(out);
        return NULL;
    }
    out[used] = 0;
    *size = used;
    return out;
}

fdl_status fdl_gunzip_head(const void *bytes, size_t n, void *out, size_t cap, size_t *got)
{
    if (!bytes || !got || (!out && cap))
        return fdl_null_operand("fdl_gunzip_head", !bytes ? "bytes" : !got ? "got" : "out");
    *got = 0;
    struct unpacker u;
    fdl_status status = begin(&u, bytes, n);
    if (status == FDL_OK)
        status = unpack(&u, out, cap, got);
    end(&u);
    return status;
}

fdl_status fdl_gunzip_into(const void *bytes, size_t n, size_t max, void *out, size_t cap, size_t *size)
{
    if (!bytes || !size || (!out && cap))
        return fdl_null_operand("fdl_gunzip_into", !bytes ? "bytes" : !size ? "size" : "out");
    struct unpacker u;
    unsigned char rest[CHUNK / 4];
    fdl_status status = begin(&u, bytes, n);
    *size = 0;
    if (status == FDL_OK)
        status = unpack(&u, out, cap, size);
    while (status == FDL_OK && !u.finished) {
        size_t got;
        status = unpack(&u, rest, sizeof rest, &got);
        *size += got;
        if (status == FDL_OK && max && *size > max)
            status = too_large(max);
    }
    end(&u);
    return status;
}
