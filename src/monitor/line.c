/* A line of text being put together. */
#include "line.h"

#include <stdarg.h>

enum { FIRST_CAPACITY = 1024, RESERVE = 16 /* for the end of a style, '\r' and '\n' */ };

bool monitor_line_open(monitor_line *l)
{
    *l = (monitor_line){.at = malloc(FIRST_CAPACITY), .capacity = FIRST_CAPACITY};
    return l->at != NULL;
}

void monitor_line_free(monitor_line *l)
{
    free(l->at);
    *l = (monitor_line){0};
}

void monitor_line_start(monitor_line *l, bool colour, int limit)
{
    l->used = 0;
    l->columns = 0;
    l->limit = limit;
    l->colour = colour;
    l->style = MONITOR_PLAIN;
}

static void add(monitor_line *l, const char *bytes, size_t n, size_t reserve)
{
    if (l->capacity - l->used < n + reserve) {
        size_t capacity = 2 * (l->capacity + n);
        char *at = realloc(l->at, capacity);
        if (!at)
            return;
        l->at = at;
        l->capacity = capacity;
    }
    memcpy(l->at + l->used, bytes, n);
    l->used += n;
}

/* ---- characters -------------------------------------------------------------------------------- */

/* The character at s, and its length in bytes in *n; -1 with a length of 1 for what isn't UTF-8. */
static int32_t character(const unsigned char *s, size_t *n)
{
    static const int32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = s[0] < 0x80   ? 1
                    : s[0] < 0xC2 ? 0
                    : s[0] < 0xE0 ? 2
                    : s[0] < 0xF0 ? 3
                    : s[0] < 0xF5 ? 4
                                  : 0;
    *n = 1;
    if (length < 2)
        return length ? s[0] : -1;
    int32_t c = s[0] & (0x7F >> length);
    for (size_t i = 1; i < length; i++) {
        if ((s[i] & 0xC0) != 0x80) /* the terminating zero stops here too */
            return -1;
        c = c << 6 | (s[i] & 0x3F);
    }
    if (c < least[length] || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF))
        return -1;
    *n = length;
    return c;
}

/* Columns on a terminal. wcwidth would ask the process's locale, which most programs never set. */
static int width(int32_t c)
{
    static const struct {
        int32_t first, last;
        int columns;
    } ranges[] = {
        {0x300, 0x36F, 0},     {0x200B, 0x200F, 0},   {0x20D0, 0x20FF, 0},   {0xFE00, 0xFE0F, 0},
        {0xFE20, 0xFE2F, 0},   {0x1100, 0x115F, 2},   {0x2E80, 0x303E, 2},   {0x3041, 0xA4CF, 2},
        {0xAC00, 0xD7A3, 2},   {0xF900, 0xFAFF, 2},   {0xFE30, 0xFE6F, 2},   {0xFF00, 0xFF60, 2},
        {0xFFE0, 0xFFE6, 2},   {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1F9FF, 2},
        {0x20000, 0x3FFFD, 2},
    };
    for (size_t i = 0; c >= 0x300 && i < sizeof ranges / sizeof *ranges; i++)
        if (c >= ranges[i].first && c <= ranges[i].last)
            return ranges[i].columns;
    return 1;
}

static bool harmless(int32_t c)
{
    return c >= 0x20 && (c < 0x7F || c > 0x9F) && c != 0x2028 && c != 0x2029;
}

int monitor_columns(const char *text)
{
    int columns = 0;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n;
        int32_t c = character(s, &n);
        columns += harmless(c) ? width(c) : 1;
        s += n;
    }
    return columns;
}

/* ---- adding ------------------------------------------------------------------------------------ */

void monitor_line_text(monitor_line *l, const char *text)
{
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n;
        int32_t c = character(s, &n);
        bool shown = harmless(c);
        int columns = shown ? width(c) : 1;
        if (columns > l->limit - l->columns) {
            l->columns =
                l->limit; /* a narrow character behind a wide one that was left out would be out of place */
            return;
        }
        add(l, shown ? (const char *)s : "?", shown ? n : 1, RESERVE);
        l->columns += columns;
        s += n;
    }
}

void monitor_line_format(monitor_line *l, const char *format, ...)
{
    char text[128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    monitor_line_text(l, text);
}

void monitor_line_style(monitor_line *l, monitor_style style)
{
    static const char *const codes[] = {
        [MONITOR_PLAIN] = "\033[0m", [MONITOR_DIM] = "\033[0;2m", [MONITOR_GREEN] = "\033[0;32m"};
    if (!l->colour || style == l->style)
        return;
    add(l, codes[style], strlen(codes[style]), style == MONITOR_PLAIN ? 2 : RESERVE);
    l->style = style;
}

void monitor_line_pad(monitor_line *l, int column)
{
    while (l->columns < column && l->columns < l->limit)
        monitor_line_text(l, " ");
}

void monitor_line_control(monitor_line *l, char c)
{
    add(l, &c, 1, 0);
}

void monitor_line_erase(monitor_line *l)
{
    add(l, "\033[K", 3, 2);
}
