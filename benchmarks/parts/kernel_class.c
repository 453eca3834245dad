/* The table is read once, when it is first asked for; by one thread. */
#include <errno.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel_class.h"

#define TABLE FLODL_SOURCE_DIR "/benchmarks/parts/kernel_classes.txt"
enum { PATTERNS_MAX = 64, LINE_MAX_ = 1024 };

static struct {
    bool tried, ok;
    int n, classes;
    struct {
        regex_t regex;
        int class_;
    } patterns[PATTERNS_MAX];
    char text[KERNEL_CLASSES_MAX][32];
    const char *names[KERNEL_CLASSES_MAX + 1];
} table;

static int class_named(const char *name)
{
    for (int i = 0; i < table.classes; i++)
        if (strcmp(table.text[i], name) == 0)
            return i;
    const size_t size = strlen(name) + 1;
    if (table.classes == KERNEL_CLASSES_MAX || size > sizeof *table.text)
        return -1;
    const int i = table.classes++;
    memcpy(table.text[i], name, size);
    table.names[i] = table.text[i];
    return i;
}

static bool add_line(char *line, int number)
{
    line[strcspn(line, "\n")] = '\0';
    if (*line == '#' || !*line)
        return true;
    char *pattern = strchr(line, '\t');
    if (pattern) {
        *pattern++ = '\0';
        pattern += strspn(pattern, "\t");
    }
    const int class_ = pattern && *pattern && table.n < PATTERNS_MAX ? class_named(line) : -1;
    if (class_ < 0 ||
        regcomp(&table.patterns[table.n].regex, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB) != 0) {
        fprintf(stderr, "%s:%d: not a class, a tabulator and a pattern, or too many\n", TABLE, number);
        return false;
    }
    table.patterns[table.n++].class_ = class_;
    return true;
}

static bool is_read(void)
{
    if (table.tried)
        return table.ok;
    table.tried = true;
    FILE *file = fopen(TABLE, "r");
    if (!file) {
        fprintf(stderr, "%s: %s\n", TABLE, strerror(errno));
        return false;
    }
    char line[LINE_MAX_];
    table.ok = true;
    for (int number = 1; table.ok && fgets(line, sizeof line, file); number++)
        table.ok = add_line(line, number);
    fclose(file);
    return table.ok = table.ok && table.n && class_named("other") >= 0;
}

const char *const *kernel_class_names(void)
{
    return is_read() ? table.names : NULL;
}

int kernel_class_of(const char *name)
{
    if (!is_read())
        return -1;
    for (int i = 0; i < table.n; i++)
        if (regexec(&table.patterns[i].regex, name, 0, NULL, 0) == 0)
            return table.patterns[i].class_;
    return table.classes - 1;
}
