/* Strings and word lists. A short-lived program: what it allocates for its answer it may leave to the system. */
#include "fdl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *need(void *p)
{
    if (!p) {
        fputs("error: out of memory\n", stderr);
        exit(FDL_FAILED);
    }
    return p;
}

char *text_copy(const char *text)
{
    return text ? need(strdup(text)) : NULL;
}

char *text_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = need(malloc((size_t)length + 1));
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

char *text_of_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *text = NULL;
    size_t size = 0, room = 0, got;
    do {
        if (room - size < 4096)
            text = need(realloc(text, room = room ? room * 2 : 8192));
        got = fread(text + size, 1, room - size - 1, file);
        size += got;
    } while (got > 0);
    bool bad = ferror(file);
    fclose(file);
    text[size] = '\0';
    if (bad) {
        free(text);
        return NULL;
    }
    return text;
}

void words_add(words *list, const char *word)
{
    list->at = need(realloc(list->at, (list->count + 2) * sizeof *list->at));
    list->at[list->count++] = text_copy(word);
    list->at[list->count] = NULL;
}

void words_free(words *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->at[i]);
    free(list->at);
    *list = (words){0};
}

int text_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    size_t m = strlen(a), n = strlen(b);
    if (m > LONGEST || n > LONGEST)
        return LONGEST;
    int row[LONGEST + 1];
    for (size_t j = 0; j <= n; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= m; i++) {
        int corner = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= n; j++) {
            int above = row[j], best = corner + (a[i - 1] != b[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            corner = above;
            row[j] = best;
        }
    }
    return row[n];
}
