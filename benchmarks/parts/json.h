/* Writes JSON. The benchmarks run on machines that may have nothing but libtorch, so this needs no library; reading is publish's
 * affair. Errors stay in the FILE: ferror. */
#ifndef BENCHMARKS_JSON_H
#define BENCHMARKS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json {
    FILE *file; /* NULL: everything is left out */
    const char *path;
    bool later; /* something stands before it in this object or array */
} json;

/* NULL as path: a writer that writes nothing. False with a message: it can't be opened. */
bool json_open(json *j, const char *path);
/* False with a message on stderr: not all of it could be written. */
bool json_close(json *j);

/* Bracket: '{' or '['. In an array every key is NULL. */
void json_begin(json *j, const char *key, char bracket);
/* Bracket: '}' or ']'. */
void json_end(json *j, char bracket);
void json_line(json *j); /* what comes next begins a line */

void json_text(json *j, const char *key, const char *value); /* NULL or "": null */
void json_number(json *j, const char *key, double value);    /* NaN: null */
void json_count(json *j, const char *key, int64_t value);
void json_numbers(json *j, const char *key, const double *values, int n);

/* Ends what is open with `tail` for now, so that the file is whole if the program ends here; the next thing replaces it. */
void json_keep(json *j, const char *tail);

#endif
