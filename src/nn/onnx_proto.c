/* Writing protobuf messages. ONNX needs three of its encodings, and only written: so this is these, rather than a dependency on
 * protobuf-c, a compiler for onnx.proto and 10,000 generated lines. */
#include "onnx_private.h"

static void put(proto *p, const void *bytes, size_t n)
{
    if (p->failed || !n)
        return;
    if (p->n + n > p->room) {
        size_t room = 2 * p->room + n + 64;
        unsigned char *more = realloc(p->at, room);
        if (!more) {
            p->failed = true;
            return;
        }
        p->at = more;
        p->room = room;
    }
    memcpy(p->at + p->n, bytes, n);
    p->n += n;
}

static void put_varint(proto *p, uint64_t x)
{
    unsigned char bytes[10];
    size_t n = 0;
    do {
        bytes[n++] = (unsigned char)((x & 0x7f) | (x > 0x7f ? 0x80 : 0));
        x >>= 7;
    } while (x);
    put(p, bytes, n);
}

enum { varint = 0, length_delimited = 2, fixed32 = 5 };

static void put_tag(proto *p, int field, int type)
{
    put_varint(p, (uint64_t)field << 3 | (uint64_t)type);
}

void proto_int(proto *p, int field, int64_t x)
{
    put_tag(p, field, varint);
    put_varint(p, (uint64_t)x);
}

void proto_float(proto *p, int field, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(bits >> (8 * i));
    put_tag(p, field, fixed32);
    put(p, bytes, sizeof bytes);
}

void proto_head(proto *p, int field, size_t n)
{
    put_tag(p, field, length_delimited);
    put_varint(p, n);
}

void proto_bytes(proto *p, int field, const void *bytes, size_t n)
{
    proto_head(p, field, n);
    put(p, bytes, n);
}

void proto_raw(proto *p, const void *bytes, size_t n)
{
    put(p, bytes, n);
}

void proto_text(proto *p, int field, const char *text)
{
    proto_bytes(p, field, text, strlen(text));
}

void proto_message(proto *p, int field, proto *inner)
{
    proto_bytes(p, field, inner->at, inner->n);
    p->failed |= inner->failed;
    free(inner->at);
    *inner = (proto){0};
}
