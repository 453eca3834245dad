/* Numbers as people read them; characters in UTF-8. */
#include "flodl/text.h"

#include <math.h>

char *fdl_format_eta(double seconds, char *buf, size_t n)
{
    if (!(seconds >= 0 && seconds < 8.64e12)) {
        snprintf(buf, n, "\u2014");
        return buf;
    }
    long long ms = llround(seconds * 1000), s = ms / 1000, m = s / 60, h = m / 60;
    if (ms < 1000)
        snprintf(buf, n, "%lldms", ms);
    else if (s < 60 && ms % 1000 / 100)
        snprintf(buf, n, "%lld.%llds", s, ms % 1000 / 100);
    else if (s < 60)
        snprintf(buf, n, "%llds", s);
    else if (m < 60)
        snprintf(buf, n, "%lldm %02llds", m, s % 60);
    else if (h < 48)
        snprintf(buf, n, "%lldh %02lldm", h, m % 60);
    else
        snprintf(buf, n, "%lldd %02lldh", h / 24, h % 24);
    return buf;
}

char *fdl_format_bytes(int64_t bytes, char *buf, size_t n)
{
    const char *sign = bytes < 0 ? "-" : "";
    unsigned long long b = bytes < 0 ? 0 - (unsigned long long)bytes : (unsigned long long)bytes;
    const unsigned long long KiB = 1ull << 10, MiB = 1ull << 20, GiB = 1ull << 30;
    if (b >= GiB) {
        unsigned long long tenths = b / GiB * 10 + (b % GiB * 10 + GiB / 2) / GiB;
        snprintf(buf, n, "%s%llu.%llu GB", sign, tenths / 10, tenths % 10);
    } else if (b >= MiB)
        snprintf(buf, n, "%s%llu MB", sign, (b + MiB / 2) / MiB);
    else if (b >= KiB)
        snprintf(buf, n, "%s%llu KB", sign, (b + KiB / 2) / KiB);
    else
        snprintf(buf, n, "%s%llu B", sign, b);
    return buf;
}

/* v, below 1e15, with so many decimals (2 or 4) and a point, wherever the process lives. An exact tie, which is an odd
 * multiple of 1 / 2^(decimals + 1), goes away from zero; printf would take the even one. */
static void fixed(double v, int decimals, char *out, size_t n)
{
    double halves = fabs(v) * (2 << decimals);
    if (halves < 0x1p53 && fmod(halves, 2) == 1) {
        unsigned long long power = decimals == 2 ? 100 : 10000;
        unsigned long long scaled = ((unsigned long long)halves * (power >> decimals) + 1) / 2;
        snprintf(out, n, "%s%llu.%0*llu", v < 0 ? "-" : "", scaled / power, decimals, scaled % power);
        return;
    }
    snprintf(out, n, "%.*f", decimals, v);
    char *point = out + (*out == '-');
    while (*point >= '0' && *point <= '9')
        point++;
    char *digits = out + strlen(out) - decimals; /* a locale's point may be several bytes */
    *point = '.';
    memmove(point + 1, digits, (size_t)decimals + 1);
}

static void exponential(double v, char *out, size_t n)
{
    char text[64];
    snprintf(text, sizeof text, "%.2e", v);
    char *e = strchr(text, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10);
    const char *sign = *text == '-' ? "-" : "";
    char first = text[*text == '-'];
    snprintf(out, n, "%s%c.%c%ce%d", sign, first, e[-2], e[-1], exponent);
}

char *fdl_format_metric(double value, char *buf, size_t n)
{
    char text[64] = "0";
    double size = fabs(value);
    if (isnan(value))
        snprintf(text, sizeof text, "nan");
    else if (isinf(value))
        snprintf(text, sizeof text, value > 0 ? "inf" : "-inf");
    else if (size != 0 && (size < 0.001 || size >= 1e15))
        exponential(value, text, sizeof text);
    else if (size != 0)
        fixed(value, size < 100 ? 4 : 2, text, sizeof text);
    snprintf(buf, n, "%s", text);
    return buf;
}

int fdl_utf8_decode(const void *text, size_t n, uint32_t *code)
{
    const unsigned char *s = text;
    if (!s || !n || (s[0] >= 0x80 && (s[0] < 0xc2 || s[0] > 0xf4)))
        return 0;
    int size = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0x80 ? 2 : 1;
    if ((size_t)size > n)
        return 0;
    uint32_t c = size == 1 ? s[0] : s[0] & (0x7fu >> size);
    for (int i = 1; i < size; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    bool overlong = (size == 3 && c < 0x800) || (size == 4 && c < 0x10000);
    if (overlong || (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff)
        return 0;
    if (code)
        *code = c;
    return size;
}

int fdl_utf8_encode(uint32_t code, char out[4])
{
    if (!out || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
        return 0;
    int size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = size - 1; i > 0; i--, code >>= 6)
        out[i] = (char)(0x80 | (code & 0x3f));
    out[0] = (char)(lead[size] | code);
    return size;
}
