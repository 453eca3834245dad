/* What the stream that the lines go to can do. */
#include "terminal.h"

#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A variable that is empty counts as not set. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

static bool colour(bool terminal)
{
    const char *choice = variable("FLODL_COLOR");
    if (choice && strcmp(choice, "always") == 0)
        return true;
    if ((choice && strcmp(choice, "never") == 0) || variable("NO_COLOR"))
        return false;
    return variable("FORCE_COLOR") || terminal;
}

static bool utf8(void)
{
    const char *locale = variable("LC_ALL");
    if (!locale)
        locale = variable("LC_CTYPE");
    if (!locale)
        locale = variable("LANG");
    const char *charset = locale ? strchr(locale, '.') : NULL;
    return charset && (strncasecmp(charset, ".utf-8", 6) == 0 || strncasecmp(charset, ".utf8", 5) == 0);
}

monitor_terminal monitor_terminal_of(FILE *out)
{
    int fd = fileno(out); /* -1 for a stream in memory */
    const char *kind = variable("TERM");
    bool terminal = fd >= 0 && isatty(fd) && kind && strcmp(kind, "dumb") != 0;
    return (monitor_terminal){.live = terminal, .colour = colour(terminal), .utf8 = utf8()};
}

int monitor_terminal_columns(FILE *out)
{
    struct winsize size = {0};
    int fd = fileno(out);
    return fd >= 0 && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}
