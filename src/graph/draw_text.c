/* Text in drawings: escaped for XML and DOT, and numbers with a point. */
#include "draw_private.h"

#include "flodl/text.h"

/* The next character of *text, and past it; 0xfffd for what is no character or XML can't hold. */
static uint32_t next_character(const char **text)
{
    uint32_t code = 0;
    int n = fdl_utf8_decode(*text, strnlen(*text, 4), &code);
    *text += n ? n : 1;
    return n && code >= 0x20 && code != 0x7f && code != 0xfffe && code != 0xffff ? code : 0xfffd;
}

static void write_character(FILE *out, uint32_t code)
{
    char bytes[4];
    fwrite(bytes, 1, (size_t)fdl_utf8_encode(code, bytes), out);
}

void write_xml(FILE *out, const char *text)
{
    while (*text) {
        uint32_t code = next_character(&text);
        if (code == '&')
            fputs("&amp;", out);
        else if (code == '<')
            fputs("&lt;", out);
        else if (code == '>')
            fputs("&gt;", out);
        else if (code == '"')
            fputs("&quot;", out);
        else if (code == '\\') /* "\N" is the node's name to libgraphviz, in such labels too */
            fputs("&#92;", out);
        else if (code == ']') /* alone in an element it is a syntax error to it */
            fputs("&#93;", out);
        else
            write_character(out, code);
    }
}

void write_name(FILE *out, const char *text)
{
    while (*text) {
        uint32_t code = next_character(&text);
        if (code == '"' || code == '\\')
            fputc('\\', out);
        write_character(out, code);
    }
}

const char *decimals_text(double value, int decimals, char *buf, size_t size)
{
    snprintf(buf, size, "%.*f", decimals, value);
    char *point = buf + (*buf == '-');
    while (*point >= '0' && *point <= '9')
        point++;
    if (decimals && *point) { /* a locale's point may be several bytes */
        char *digits = buf + strlen(buf) - decimals;
        *point = '.';
        memmove(point + 1, digits, (size_t)decimals + 1);
    }
    return buf;
}

const char *time_text(double seconds, char *buf, size_t size)
{
    char number[400];
    bool small = seconds < 1e-3;
    decimals_text(seconds * (small ? 1e6 : 1e3), small ? 0 : 2, number, sizeof number);
    snprintf(buf, size, "%s%s", number, small ? "us" : "ms");
    return buf;
}
