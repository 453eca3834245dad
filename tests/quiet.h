/* What is written to stdout and stderr between quiet_begin() and quiet_end(), which gives the number of bytes and shows them. */
#ifndef FLODL_TESTS_QUIET_H
#define FLODL_TESTS_QUIET_H

#include "check.h"

#include <unistd.h>

static struct {
    FILE *file;
    int saved[2];
} quiet;

static void quiet_begin(void)
{
    fflush(NULL);
    quiet.file = tmpfile();
    assert_non_null(quiet.file);
    for (int i = 0; i < 2; i++) {
        quiet.saved[i] = dup(i + 1);
        assert_true(quiet.saved[i] >= 0);
        assert_int_equal(dup2(fileno(quiet.file), i + 1), i + 1);
    }
}

static long quiet_end(void)
{
    fflush(NULL);
    for (int i = 0; i < 2; i++) {
        dup2(quiet.saved[i], i + 1);
        close(quiet.saved[i]);
    }
    char text[2000];
    long bytes = lseek(fileno(quiet.file), 0, SEEK_END);
    lseek(fileno(quiet.file), 0, SEEK_SET);
    ssize_t n = read(fileno(quiet.file), text, sizeof text);
    fclose(quiet.file);
    if (n > 0)
        print_error("written meanwhile, %ld bytes: %.*s\n", bytes, (int)n, text);
    return bytes;
}

#endif
