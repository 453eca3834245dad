/* CUDA streams and events: work that overlaps, and its order.
 *
 *     fdl_stream *side = fdl_cuda_stream_new(FDL_CUDA(0));
 *     fdl_event *copied = fdl_cuda_event_new();
 *     {
 *         FDL_STREAM(side);
 *         next = fdl_to_device(pinned, FDL_CUDA(0), .non_blocking = true);
 *         FDL_CHECK(fdl_cuda_event_record(copied));
 *     }
 *     ... work on the stream that was current before ...
 *     FDL_CHECK(fdl_cuda_stream_wait_event(current, copied));
 *
 * Streams and events are owned by the caller. A thread starts with each device's default stream as the current one. */
#ifndef FLODL_STREAM_H
#define FLODL_STREAM_H

#include "flodl/scope.h"

FDL_BEGIN_DECLS

typedef struct fdl_stream fdl_stream;
typedef struct fdl_event fdl_event;

/* ---- streams ------------------------------------------------------------------------------------------ */

typedef struct fdl_cuda_stream_opts {
    fdl_by_name opts_;
    bool high_priority;
} fdl_cuda_stream_opts;
/* torch.cuda.Stream: one of libtorch's 32 streams of each priority and device, in turns, so that two handles may be on the
 * same stream. Owned. A device that isn't CUDA, or no GPU: FDL_E_DEVICE. */
FDL_API fdl_stream *fdl_cuda_stream_new_opt(fdl_device device, const fdl_cuda_stream_opts *opts);
/* torch.cuda.current_stream, torch.cuda.default_stream: a handle on this thread's current stream of the device, and on the
 * one that it starts with. Owned. */
FDL_API fdl_stream *fdl_cuda_stream_current(fdl_device device);
FDL_API fdl_stream *fdl_cuda_stream_default(fdl_device device);
/* Frees the handle; the work on the stream goes on. NULL: nothing. */
FDL_API void fdl_cuda_stream_free(fdl_stream *s);
/* Whether both are on one and the same stream. */
FDL_API bool fdl_cuda_stream_eq(fdl_stream *a, fdl_stream *b);
/* The device; all zero for NULL. */
FDL_API fdl_device fdl_cuda_stream_device(fdl_stream *s);

/* Waits until the work that was issued to s is done. */
FDL_API fdl_status fdl_cuda_stream_synchronize(fdl_stream *s);
/* torch.cuda.Stream.query: whether it is, without waiting. False with an error when an operation on s failed. */
FDL_API bool fdl_cuda_stream_done(fdl_stream *s);
/* What is issued to s from now on runs after what e has recorded, or after what was issued to `other` so far. Nobody waits
 * on the host. */
FDL_API fdl_status fdl_cuda_stream_wait_event(fdl_stream *s, fdl_event *e);
FDL_API fdl_status fdl_cuda_stream_wait_stream(fdl_stream *s, fdl_stream *other);

/* torch.cuda.stream: makes s this thread's current stream of its device; closing the mode restores the stream that was
 * current before. `FDL_STREAM(s);` holds to the end of the enclosing block. Which device is current stays. */
FDL_API fdl_mode_guard fdl_stream_open(fdl_stream *s);
/* torch.Tensor.record_stream: x is used on s too, so its memory isn't given to others before the work on s, as issued when
 * x is freed, is done. For tensors that were made on another stream and die while s may still read them. */
FDL_API fdl_status fdl_record_stream(fdl_tensor *x, fdl_stream *s);

/* ---- events ------------------------------------------------------------------------------------------- */

typedef struct fdl_cuda_event_opts {
    fdl_by_name opts_;
    bool timing; /* fdl_cuda_event_elapsed_ms works; costs a little */
    bool
        external; /* recorded inside a capture it marks a place of each replay, for the host and for other streams; without
                    * it it orders streams within the capture only */
} fdl_cuda_event_opts;
/* torch.cuda.Event. Owned; of the device on which it is recorded first. No GPU: FDL_E_DEVICE. One thread at a time. */
FDL_API fdl_event *fdl_cuda_event_new_opt(const fdl_cuda_event_opts *opts);
FDL_API void fdl_cuda_event_free(fdl_event *e);
/* Marks what was issued so far to the current stream of the current device, or to s; a later record replaces the mark.
 * A stream of another device than before: FDL_E_DEVICE. */
FDL_API fdl_status fdl_cuda_event_record(fdl_event *e);
FDL_API fdl_status fdl_cuda_event_record_on(fdl_event *e, fdl_stream *s);
/* Waits until what was marked is done; at once when nothing was. */
FDL_API fdl_status fdl_cuda_event_synchronize(fdl_event *e);
/* torch.cuda.Event.query: whether it is, without waiting. True when nothing was marked. */
FDL_API bool fdl_cuda_event_done(fdl_event *e);
/* Milliseconds between two events that were made with .timing and are done; anything else: FDL_E_STATE. */
FDL_API fdl_status fdl_cuda_event_elapsed_ms(fdl_event *start, fdl_event *end, double *ms);

FDL_END_DECLS

#ifndef __cplusplus
/* Makes s current on its device to the end of the enclosing block: a declaration. */
#define FDL_STREAM(s) FDL_MODE_(fdl_stream_open(s))
#define fdl_cuda_stream_new(...) fdl_cuda_stream_new_(__VA_ARGS__, .opts_ = 0)
#define fdl_cuda_stream_new_(device, ...) \
    fdl_cuda_stream_new_opt(device, &(fdl_cuda_stream_opts){__VA_ARGS__})
#define fdl_cuda_event_new(...) fdl_cuda_event_new_opt(&(fdl_cuda_event_opts){.opts_ = 0, __VA_ARGS__})
#endif

#endif
