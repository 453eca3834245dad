/* Streams and events, by libtorch's device-generic interface. */
#include "flodl/stream.h"
#include "cuda.h"
#include "thread.h"

#include <ATen/Context.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

using namespace flodl;

struct fdl_stream {
    c10::Stream s;
};

struct fdl_event {
    c10::Event e;
    bool external;
};

namespace
{

using c10::impl::VirtualGuardImpl;

VirtualGuardImpl cuda()
{
    return VirtualGuardImpl(at::kCUDA);
}

/* A stream operation: the handles that it needs are there. */
template <class F>
auto with(const char *function, const char *name, const void *handle, F &&f)
{
    return run(function, "()", pack(), [&] {
        if (!handle)
            fail(FDL_E_NULL, "%s is NULL", name);
        return f();
    });
}

/* NULL keeps a pending error, whose status is the answer. */
#define ON(handle, ...) with(__func__, #handle, handle, [&]() __VA_ARGS__)

void mark(fdl_event *e, const c10::Stream &s)
{
    if (e->e.was_marked_for_recording() && e->e.device_index() != s.device_index())
        fail(FDL_E_DEVICE, "the event is of cuda:%d, the stream of cuda:%d", (int)e->e.device_index(),
             (int)s.device_index());
    e->e.record(s);
    if (e->external)
        mark_replays(e->e, s);
}

void restore_stream(thread::mode &m)
{
    /* Open modes exist only where CUDA works. */
    try {
        cuda().exchangeStream(c10::Stream(c10::Stream::UNSAFE, at::Device(at::kCUDA, (at::DeviceIndex)m.also),
                                          (c10::StreamId)m.saved));
    } catch (...) {
        caught("fdl_mode_close", nullptr, 0);
    }
}

} // namespace

/* ---- streams ---- */

fdl_stream *fdl_cuda_stream_new_opt(fdl_device where, const fdl_cuda_stream_opts *opts)
{
    return OP_DO((), {
        at::Device d = gpu(where);
        at::globalContext().lazyInitDevice(at::kCUDA);
        return new fdl_stream{cuda().getStreamFromGlobalPool(d, or_default(opts).high_priority)};
    });
}

fdl_stream *fdl_cuda_stream_current(fdl_device where)
{
    return OP_DO((), {
        at::Device d = gpu(where);
        return new fdl_stream{cuda().getStream(d)};
    });
}

fdl_stream *fdl_cuda_stream_default(fdl_device where)
{
    return OP_DO((), {
        at::Device d = gpu(where);
        return new fdl_stream{cuda().getDefaultStream(d)};
    });
}

void fdl_cuda_stream_free(fdl_stream *s)
{
    delete s;
}

bool fdl_cuda_stream_eq(fdl_stream *a, fdl_stream *b)
{
    return a && b && a->s == b->s;
}

fdl_device fdl_cuda_stream_device(fdl_stream *s)
{
    return s ? device_of(s->s.device()) : fdl_device{};
}

fdl_status fdl_cuda_stream_synchronize(fdl_stream *s)
{
    return ON(s, { s->s.synchronize(); });
}

bool fdl_cuda_stream_done(fdl_stream *s)
{
    return ON(s, { return s->s.query(); });
}

fdl_status fdl_cuda_stream_wait_event(fdl_stream *s, fdl_event *e)
{
    return ON(s, {
        if (!e)
            fail(FDL_E_NULL, "e is NULL");
        e->e.block(s->s);
    });
}

fdl_status fdl_cuda_stream_wait_stream(fdl_stream *s, fdl_stream *other)
{
    return ON(s, {
        if (!other)
            fail(FDL_E_NULL, "other is NULL");
        c10::Event e(at::kCUDA);
        e.record(other->s);
        e.block(s->s);
    });
}

fdl_mode_guard fdl_stream_open(fdl_stream *s)
{
    return ON(s, {
        c10::Stream before = cuda().getStream(s->s.device());
        fdl_mode_guard mode =
            mode_open(mode_kind::stream, restore_stream, (uint64_t)before.id(), before.device_index());
        if (mode.depth)
            cuda().exchangeStream(s->s);
        return mode;
    });
}

fdl_status fdl_record_stream(fdl_tensor *x, fdl_stream *s)
{
    return OP_DO((x), {
        if (!s)
            fail(FDL_E_NULL, "s is NULL");
        if (!x->t.is_cuda())
            fail(FDL_E_DEVICE, "only CUDA tensors are used on streams");
        x->t.record_stream(s->s);
    });
}

/* ---- events ---- */

fdl_event *fdl_cuda_event_new_opt(const fdl_cuda_event_opts *opts)
{
    return OP_DO((), {
        gpu(0);
        const fdl_cuda_event_opts &o = or_default(opts);
        return new fdl_event{c10::Event(at::kCUDA, o.timing ? c10::EventFlag::BACKEND_DEFAULT
                                                            : c10::EventFlag::PYTORCH_DEFAULT),
                             o.external};
    });
}

void fdl_cuda_event_free(fdl_event *e)
{
    delete e;
}

fdl_status fdl_cuda_event_record(fdl_event *e)
{
    return ON(e, { mark(e, cuda().getStream(cuda().getDevice())); });
}

fdl_status fdl_cuda_event_record_on(fdl_event *e, fdl_stream *s)
{
    return ON(e, {
        if (!s)
            fail(FDL_E_NULL, "s is NULL");
        mark(e, s->s);
    });
}

fdl_status fdl_cuda_event_synchronize(fdl_event *e)
{
    return ON(e, { e->e.synchronize(); });
}

bool fdl_cuda_event_done(fdl_event *e)
{
    return ON(e, { return e->e.query(); });
}

fdl_status fdl_cuda_event_elapsed_ms(fdl_event *start, fdl_event *end, double *ms)
{
    return ON(start, {
        if (!end || !ms)
            fail(FDL_E_NULL, "%s is NULL", end ? "ms" : "end");
        if (start->e.flag() != c10::EventFlag::BACKEND_DEFAULT ||
            end->e.flag() != c10::EventFlag::BACKEND_DEFAULT)
            fail(FDL_E_STATE, "both events need .timing = true when they are made");
        if (!start->e.was_marked_for_recording() || !end->e.was_marked_for_recording())
            fail(FDL_E_STATE, "an event that was never recorded has no time");
        if (!start->e.query() || !end->e.query())
            fail(FDL_E_STATE, "an event isn't done; fdl_cuda_event_synchronize waits for it");
        *ms = start->e.elapsedTime(end->e);
    });
}
