#include <math.h>

#include "json.h"

bool json_open(json *j, const char *path)
{
    *j = (json){.file = path ? fopen(path, "w") : NULL, .path = path};
    if (path && !j->file)
        perror(path);
    return !path || j->file;
}

bool json_close(json *j)
{
    if (!j->file)
        return true;
    fputc('\n', j->file);
    const bool failed = ferror(j->file) != 0;
    if (fclose(j->file) == 0 && !failed)
        return true;
    fprintf(stderr, "%s: not all of it could be written\n", j->path);
    return false;
}

static void put_text(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < ' ')
            fprintf(f, "\\u%04x", *c);
        else
            fprintf(f, *c == '"' || *c == '\\' ? "\\%c" : "%c", *c);
    fputc('"', f);
}

/* Comma and key. False: nothing is written. */
static bool before(json *j, const char *key)
{
    if (!j->file)
        return false;
    fputs(j->later ? ", " : "", j->file);
    j->later = true;
    if (key) {
        put_text(j->file, key);
        fputs(": ", j->file);
    }
    return true;
}

void json_begin(json *j, const char *key, char bracket)
{
    if (before(j, key))
        fputc(bracket, j->file);
    j->later = false;
}

void json_end(json *j, char bracket)
{
    if (j->file)
        fputc(bracket, j->file);
    j->later = true;
}

void json_line(json *j)
{
    if (!j->file)
        return;
    fputs(j->later ? ",\n" : "\n", j->file);
    j->later = false;
}

void json_text(json *j, const char *key, const char *value)
{
    if (!before(j, key))
        return;
    if (value && *value)
        put_text(j->file, value);
    else
        fputs("null", j->file);
}

void json_number(json *j, const char *key, double value)
{
    if (before(j, key))
        fprintf(j->file, isfinite(value) ? "%.7g" : "null", value);
}

void json_count(json *j, const char *key, int64_t value)
{
    if (before(j, key))
        fprintf(j->file, "%lld", (long long)value);
}

void json_numbers(json *j, const char *key, const double *values, int n)
{
    json_begin(j, key, '[');
    for (int i = 0; i < n; i++)
        json_number(j, NULL, values[i]);
    json_end(j, ']');
}

void json_keep(json *j, const char *tail)
{
    if (!j->file)
        return;
    const long at = ftell(j->file);
    fputs(tail, j->file);
    fflush(j->file);
    if (at >= 0)
        fseek(j->file, at, SEEK_SET);
}
