/* Which operations a piece of a program runs: for what must know whether it runs the same ones each time, as the capture of
 * a training step must. */
#ifndef FLODL_WATCH_H
#define FLODL_WATCH_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* The operations of libtorch that this thread ran between start and stop, and those of its backward passes, in order: name,
 * dtypes, devices, shapes and strides of the tensors, and every number among the arguments. Not the tensors' contents. */
typedef struct fdl_watch fdl_watch;

/* Starts to note. Owned. Operations cost about a microsecond more meanwhile. One watch at a time in a process: another is
 * FDL_E_STATE. */
FDL_API fdl_watch *fdl_watch_start(void);
/* Ends the noting, on the thread that began it. */
FDL_API fdl_status fdl_watch_stop(fdl_watch *w);
/* Stops it if needed. NULL: nothing. */
FDL_API void fdl_watch_free(fdl_watch *w);

/* How many operations were noted; -1 on NULL. */
FDL_API int64_t fdl_watch_count(const fdl_watch *w);
/* The i-th operation's name, "aten::mul"; borrowed. NULL without an error past the last. */
FDL_API const char *fdl_watch_name(const fdl_watch *w, int64_t i);
/* The part of a program that ran it, as named by fdl_watch_enter: "graph_2 (#encoder): switch_1"; borrowed. NULL without an
 * error for one outside of all parts, and for those of backward passes. */
FDL_API const char *fdl_watch_part(const fdl_watch *w, int64_t i);
/* The first place where a and b differ, the end of the shorter one included; -1 when they are equal. */
FDL_API int64_t fdl_watch_difference(const fdl_watch *a, const fdl_watch *b);
/* The first operation that makes the host wait for a CUDA device or copies between it and the host, which a CUDA graph
 * can't hold; -1 when there is none. *why gets what it does, in words (borrowed, static). */
FDL_API int64_t fdl_watch_obstacle(const fdl_watch *w, const char **why);

/* For what runs operations by named parts, as a graph its nodes. Whether this thread's operations are being noted. */
FDL_API bool fdl_watch_running(void);
/* The operations up to the fdl_watch_leave that belongs to it are those of this part (copied) of the part around it. Nothing
 * when none are noted. */
FDL_API void fdl_watch_enter(const char *part);
FDL_API void fdl_watch_leave(void);

FDL_END_DECLS

#endif
