/* Messages: results go to stdout, everything said here to stderr. */
#include "fdl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool colour(void)
{
    const char *choice = getenv("FLODL_COLOR"), *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR");
    if (choice && *choice)
        return strcmp(choice, "never") != 0;
    if (no && *no)
        return false;
    if (force && *force)
        return true;
    return isatty(STDERR_FILENO);
}

int say_error(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs(colour() ? "\033[31merror:\033[0m " : "error: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return code;
}

void say_note(const fdl_ctx *ctx, const char *format, ...)
{
    if (ctx->verbosity < 1)
        return;
    va_list args;
    va_start(args, format);
    fflush(stdout);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}
