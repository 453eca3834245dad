/* Messages: the verbosity and the sink are the process's, everything else is the caller's. */
#include "flodl/message.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <strings.h>
#include <unistd.h>

enum { UNREAD = -1 };
static atomic_int verbosity = UNREAD;

/* Readers are lines on their way to the sink, the writer is fdl_msg_set_sink. */
static pthread_rwlock_t sink_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct {
    fdl_msg_sink call;
    void *ctx;
} sink;
static __thread bool inside_sink;

static int level_of(const char *text)
{
    static const char *const names[] = {"quiet", "normal", "verbose", "debug", "trace"};
    while (isspace((unsigned char)*text))
        text++;
    size_t n = strlen(text);
    while (n && isspace((unsigned char)text[n - 1]))
        n--;
    if (n == 1 && *text >= '0' && *text <= '4')
        return *text - '0';
    for (int i = FDL_QUIET; i <= FDL_TRACE; i++)
        if (strlen(names[i]) == n && strncasecmp(text, names[i], n) == 0)
            return i;
    return FDL_NORMAL;
}

int fdl_verbosity_level(void)
{
    int level = atomic_load_explicit(&verbosity, memory_order_relaxed);
    if (FDL_LIKELY(level != UNREAD))
        return level;
    const char *text = getenv("FLODL_VERBOSITY");
    int read = text ? level_of(text) : FDL_NORMAL;
    /* a fdl_set_verbosity in between wins: then `level` becomes what it set */
    return atomic_compare_exchange_strong(&verbosity, &level, read) ? read : level;
}

void fdl_set_verbosity(int level)
{
    atomic_store_explicit(&verbosity,
                          level < FDL_QUIET   ? FDL_QUIET
                          : level > FDL_TRACE ? FDL_TRACE
                                              : level,
                          memory_order_relaxed);
}

bool fdl_msg_enabled(int level)
{
    return level >= FDL_NORMAL && level <= fdl_verbosity_level();
}

fdl_status fdl_msg_set_sink(fdl_msg_sink call, void *ctx)
{
    if (inside_sink)
        return fdl_fail(FDL_E_STATE, "fdl_msg_set_sink: called by a sink; set it from outside of one");
    pthread_rwlock_wrlock(&sink_lock);
    sink.call = call;
    sink.ctx = ctx;
    pthread_rwlock_unlock(&sink_lock);
    return FDL_OK;
}

/* line has its newline in place of the final zero byte. A terminal that is gone is nobody's error. */
static void to_terminal(int level, const char *line, size_t n)
{
    int fd = level == FDL_NORMAL ? STDOUT_FILENO : STDERR_FILENO;
    if (fd == STDOUT_FILENO)
        fflush(stdout); /* what the program printed before comes before */
    while (n) {
        ssize_t written = write(fd, line, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return;
        line += written;
        n -= (size_t)written;
    }
}

static void to_sink(int level, char *line, size_t n)
{
    if (!inside_sink) {
        pthread_rwlock_rdlock(&sink_lock);
        bool taken = sink.call != NULL;
        if (taken) {
            inside_sink = true;
            sink.call(level, line, sink.ctx);
            inside_sink = false;
        }
        pthread_rwlock_unlock(&sink_lock);
        if (taken)
            return;
    }
    line[n] = '\n';
    to_terminal(level, line, n + 1);
}

void fdl_msg_emit(int level, const char *format, ...)
{
    if (!fdl_msg_enabled(level))
        return;
    int error = errno;
    char small[512], *line = small;
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    errno = error; /* for a %m of the caller's */
    int n = vsnprintf(small, sizeof small, format, args);
    if (n >= (int)sizeof small) {
        line = malloc((size_t)n + 1);
        if (line) {
            errno = error;
            n = vsnprintf(line, (size_t)n + 1, format, again);
        } else {
            line = small; /* short of memory: the beginning is better than nothing */
            n = (int)sizeof small - 1;
        }
    }
    if (n >= 0)
        to_sink(level, line, (size_t)n);
    va_end(again);
    va_end(args);
    if (line != small)
        free(line);
    errno = error;
}
