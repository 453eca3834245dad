/* Messages to the person at the terminal, in levels. The library itself speaks only at FDL_VERBOSE and above,
 * unless the program asked for lines (a monitor, a progress bar), and never reports an error here instead of
 * returning it. */
#ifndef FLODL_MESSAGE_H
#define FLODL_MESSAGE_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

/* Each verbosity includes the ones before it. */
enum { FDL_QUIET = 0, FDL_NORMAL = 1, FDL_VERBOSE = 2, FDL_DEBUG = 3, FDL_TRACE = 4 };

/* What is written in this process; a level outside FDL_QUIET to FDL_TRACE is taken as the nearer of the two.
 * Until set, the environment's FLODL_VERBOSITY holds, read once at first use: 0 to 4, or quiet, normal,
 * verbose, debug, trace in any case; anything else, or nothing, is FDL_NORMAL. */
FDL_API void fdl_set_verbosity(int level);
FDL_API int fdl_verbosity_level(void);
/* Whether a message of this level is written: FDL_NORMAL <= level <= verbosity. */
FDL_API bool fdl_msg_enabled(int level);

/* Writes one line (printf format; the newline is added) if the level is enabled. One write a line, so that
 * the lines of threads and processes don't mix. Keeps errno. fdl_msg_at and its kin below don't evaluate what
 * a disabled one would print. */
FDL_API void fdl_msg_emit(int level, const char *format, ...) FDL_PRINTF(2, 3);

/* Gets each line, without a newline; called on any thread, several at once. */
typedef void (*fdl_msg_sink)(int level, const char *line, void *ctx);
/* Sends the lines of the whole process to sink; NULL: FDL_NORMAL to stdout, the rest to stderr, as at the
 * start. When it returns, the sink before is no longer running. A message that a sink emits goes to stdout or
 * stderr; a sink that calls this: FDL_E_STATE, nothing changed. */
FDL_API fdl_status fdl_msg_set_sink(fdl_msg_sink sink, void *ctx);

FDL_END_DECLS

#ifndef __cplusplus
/* Writes a line (printf format) if its level is enabled: level, or the one of the name; fdl_msg is of level FDL_NORMAL. */
#define fdl_msg_at(level, ...) (fdl_msg_enabled(level) ? fdl_msg_emit(level, __VA_ARGS__) : (void)0)
#define fdl_msg(...) fdl_msg_at(FDL_NORMAL, __VA_ARGS__)
#define fdl_msg_verbose(...) fdl_msg_at(FDL_VERBOSE, __VA_ARGS__)
#define fdl_msg_debug(...) fdl_msg_at(FDL_DEBUG, __VA_ARGS__)
#define fdl_msg_trace(...) fdl_msg_at(FDL_TRACE, __VA_ARGS__)
#endif

#endif
