/* CUDA graphs, on libtorch's: it takes care of the pool, of the random state and of the launch. Here is what surrounds it: the
 * stream of the capture, what was current before, and the clean end of a capture that failed. */
#include "flodl/cuda_graph.h"
#include "flodl/cuda.h"
#include "cuda.h"
#include "random.h"
#include "thread.h"

#ifdef FLODL_CUDA
#include <ATen/Context.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>
#endif

using namespace flodl;

#ifdef FLODL_CUDA

namespace at::cuda
{
/* Of ATen/cuda/CUDAContextLight.h, which wants the headers of cuBLAS and others. */
TORCH_CUDA_CPP_API void clearCublasWorkspaces();
} // namespace at::cuda

namespace
{

/* libtorch keeps cuBLAS's scratch memory for each stream that it was used on, for ever: here it would be memory of the
 * graph's pool. The kernels in the graph go on using it, but between two replays nothing of it matters. */
void forget_scratch() noexcept
{
    try {
        at::cuda::clearCublasWorkspaces();
    } catch (...) {
    }
}

using c10::cuda::CUDAStream;
using pool_id = decltype(at::cuda::graph_pool_handle());

/* What is current on this thread, and what is current instead for a while. */
struct place {
    c10::DeviceIndex device; /* the current device */
    CUDAStream stream;       /* the current stream of the capture's device */
    int modes;
    int scopes;

    explicit place(at::Device d)
        : device(c10::cuda::current_device()), stream(c10::cuda::getCurrentCUDAStream(d.index())),
          modes(self().mode_count), scopes(self().depth)
    {
    }
};

void order(const CUDAStream &first, const CUDAStream &then)
{
    c10::Event e(at::kCUDA);
    e.record(first.unwrap());
    e.block(then.unwrap());
}

bool is_capturing(const CUDAStream &s)
{
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    C10_CUDA_CHECK(cudaStreamIsCapturing(s.stream(), &status));
    return status != cudaStreamCaptureStatusNone;
}

/* A stream on which no other thread captures. */
CUDAStream free_stream(at::Device d, const CUDAStream &current)
{
    for (int tries = 0; tries < 64; tries++) {
        CUDAStream s = c10::cuda::getStreamFromPool(false, d.index());
        if (s != current && !is_capturing(s))
            return s;
    }
    fail(FDL_E_STATE, "captures are open on all streams of cuda:%d", (int)d.index());
}

void enter(const CUDAStream &s)
{
    c10::cuda::set_device(s.device_index());
    c10::cuda::setCurrentCUDAStream(s);
}

} // namespace

struct fdl_cuda_graph {
    std::unique_ptr<at::cuda::CUDAGraph> graph; /* while capturing, and with contents */
    pool_id pool{0, 0};
    thread *capturing = nullptr; /* the thread that captures */
    std::unique_ptr<place> before;
    std::unique_ptr<CUDAStream> stream; /* of the capture */
};

namespace
{

/* The stream and device from before are current again. Never throws: it follows failures, too. */
void leave(const place &before, const CUDAStream &from) noexcept
{
    try {
        thread &th = self();
        /* Modes that were left open inside must not lead back to the stream inside. */
        for (int i = before.modes; i < th.mode_count; i++) {
            thread::mode &m = th.modes[i];
            if (m.kind == mode_kind::stream && (c10::StreamId)m.saved == from.id())
                m.saved = (uint64_t)before.stream.id();
        }
        /* A mode around the capture that was closed inside has restored already. */
        if (th.mode_count >= before.modes)
            c10::cuda::setCurrentCUDAStream(before.stream);
        c10::cuda::set_device(before.device);
        order(from, before.stream);
    } catch (...) {
    }
}

void closed(fdl_cuda_graph *g) noexcept
{
    leave(*g->before, *g->stream);
    g->capturing->capturing = nullptr;
    g->capturing = nullptr;
    fdl_cuda_gate_open();
}

void no_work(void *)
{
}

/* Ends a capture that failed, on libtorch's side too. Its capture_end wants a capture that ends well, before it takes back
 * the pool and the generators' state; so the spoiled one is ended first, and it gets a small one in its place. */
void discard(fdl_cuda_graph *g) noexcept
{
    bool settled = false;
    try {
        enter(*g->stream);
        c10::cuda::CUDAStreamCaptureModeGuard relaxed(cudaStreamCaptureModeRelaxed);
        try {
            g->graph->pool(); /* throws unless capture_end came to its end */
            settled = true;
        } catch (...) {
        }
        if (!settled) {
            cudaStream_t s = g->stream->stream();
            cudaGraph_t spoiled = nullptr;
            if (is_capturing(*g->stream) && cudaStreamEndCapture(s, &spoiled) == cudaSuccess && spoiled)
                (void)cudaGraphDestroy(spoiled);
            (void)cudaGetLastError();
            C10_CUDA_CHECK(cudaStreamBeginCapture(s, cudaStreamCaptureModeRelaxed));
            C10_CUDA_CHECK(cudaLaunchHostFunc(s, no_work, nullptr));
            g->graph->capture_end();
            settled = true;
        }
    } catch (...) {
    }
    if (!settled) {
        /* The context is lost, most likely. The allocator must still forget the graph. */
        try {
            c10::cuda::CUDACachingAllocator::endAllocateToPool(g->stream->device_index(), g->pool);
            c10::cuda::CUDACachingAllocator::releasePool(g->stream->device_index(), g->pool);
        } catch (...) {
            (void)g->graph.release(); /* it would be called: better never freed */
        }
    }
    (void)cudaGetLastError();
    closed(g);
    forget_scratch();
    g->graph.reset();
    g->pool = {0, 0};
}

/* The capture of g on this thread is open; what else there is to do is the caller's. */
void need_open(fdl_cuda_graph *g)
{
    if (!g->capturing)
        fail(FDL_E_STATE, "no capture is open");
    if (g->capturing != &self())
        fail(FDL_E_STATE, "another thread is capturing; the one that began a capture ends it");
}

cudaStreamCaptureMode capture_mode(fdl_capture_mode mode)
{
    switch (mode) {
    case FDL_CAPTURE_GLOBAL:
        return cudaStreamCaptureModeGlobal;
    case FDL_CAPTURE_THREAD_LOCAL:
        return cudaStreamCaptureModeThreadLocal;
    case FDL_CAPTURE_RELAXED:
        return cudaStreamCaptureModeRelaxed;
    }
    fail(FDL_E_ARG, "%d is no capture mode", (int)mode);
}

at::Device device_for(fdl_device d)
{
    if (d.type == FDL_DEVICE_TYPE_DEFAULT && fdl_default_device().type != FDL_DEVICE_TYPE_CUDA)
        return gpu(fdl_cuda_current());
    return gpu(d);
}

void need_none_open(at::Device d)
{
    if (self().capturing || is_capturing(c10::cuda::getCurrentCUDAStream(d.index())))
        fail(FDL_E_STATE, "a capture is open on this thread");
}

/* Tells the graph of a generator; newer libtorch, which takes along what is drawn from, has no function for it. */
template <class Graph>
auto know(Graph &graph, const at::Generator &g, int) -> decltype(graph.register_generator_state(g))
{
    graph.register_generator_state(g);
}
template <class Graph>
void know(Graph &, const at::Generator &, long)
{
}

struct begin_with {
    at::Device device;
    CUDAStream stream;
    fdl_cuda_pool pool;
    cudaStreamCaptureMode mode;
    fdl_generator *const *generators;
};

void begin(fdl_cuda_graph *g, const begin_with &o)
{
    if (o.pool.hi && o.pool.lo)
        fail(FDL_E_ARG, "no such pool; fdl_cuda_pool_new and fdl_cuda_graph_pool give one");
    /* Always a pool whose name is known, so that it can be taken back whatever happens. */
    g->pool = o.pool.hi || o.pool.lo ? pool_id{o.pool.hi, o.pool.lo} : at::cuda::graph_pool_handle();
    g->before = std::make_unique<place>(o.device);
    g->stream = std::make_unique<CUDAStream>(o.stream);
    fdl_cuda_gate_close(); /* until closed() */
    try {
        order(g->before->stream, o.stream);
        enter(o.stream);
        g->graph = std::make_unique<at::cuda::CUDAGraph>();
        for (fdl_generator *const *gen = o.generators; gen && *gen; gen++) {
            if ((*gen)->g.device() != o.device)
                fail(FDL_E_DEVICE, "generators[%d] is of another device", (int)(gen - o.generators));
            know(*g->graph, (*gen)->g, 0);
        }
        g->graph->capture_begin(g->pool, o.mode);
    } catch (...) {
        leave(*g->before, o.stream);
        try {
            c10::cuda::CUDACachingAllocator::endAllocateToPool(o.device.index(), g->pool);
            c10::cuda::CUDACachingAllocator::releasePool(o.device.index(), g->pool);
        } catch (...) { /* it hadn't come that far */
        }
        /* Its destructor throws when capture_begin failed half-way, as it does without memory: better never freed. */
        (void)g->graph.release();
        g->pool = {0, 0};
        fdl_cuda_gate_open();
        throw;
    }
    g->capturing = &self();
    self().capturing = g;
}

/* Ends the capture; a failure discards it. */
void finish(fdl_cuda_graph *g)
{
    bool same = c10::cuda::getCurrentCUDAStream(g->stream->device_index()) == *g->stream;
    if (!same) {
        discard(g);
        fail(FDL_E_STATE,
             "the current stream is not the capture's: a FDL_STREAM that was opened in the capture "
             "is still open, or one around it was closed");
    }
    try {
        c10::cuda::set_device(g->stream->device_index());
        g->graph->capture_end();
    } catch (...) {
        discard(g);
        throw;
    }
    forget_scratch();
    closed(g);
}

/* Runs the caller's function; scopes and modes that it leaves open are closed. */
void call(fdl_status (*body)(void *), void *ctx)
{
    thread &th = self();
    int modes = th.mode_count, scopes = th.depth;
    fdl_status status = body(ctx);
    bool left = th.mode_count != modes || th.depth != scopes;
    while (th.mode_count > modes)
        fdl_mode_close({th.mode_count});
    while (th.depth > scopes)
        scope_close(th);
    if (status != FDL_OK)
        fail(status, "the function returned %s", fdl_status_name(status));
    if (left)
        fail(FDL_E_STATE, "the function left a scope or a mode open, or closed the caller's");
}

/* The runs before the capture, on its stream: what is initialised or tuned at first use is ready then. */
void warm_up(fdl_status (*body)(void *), void *ctx, int64_t times, at::Device d, const CUDAStream &stream)
{
    place before(d);
    order(before.stream, stream);
    enter(stream);
    try {
        for (int64_t i = 0; i < times; i++) {
            thread &th = self();
            int depth = th.depth;
            if (!scope_open(th, nullptr))
                throw std::bad_alloc();
            try {
                call(body, ctx);
            } catch (...) {
                if (th.depth > depth)
                    scope_close(th);
                throw;
            }
            if (th.depth > depth)
                scope_close(th);
        }
    } catch (...) {
        leave(before, stream);
        throw;
    }
    leave(before, stream);
    c10::cuda::CUDAGuard on(d);
    c10::cuda::device_synchronize();
    /* In a capture nothing can be given back to the driver, and the capture takes memory from the driver. */
    c10::cuda::CUDACachingAllocator::emptyCache();
}

} // namespace

void flodl::mark_replays(const c10::Event &e, const c10::Stream &s)
{
    CUDAStream stream(s);
    if (is_capturing(stream))
        C10_CUDA_CHECK(cudaEventRecordWithFlags(static_cast<cudaEvent_t>(e.eventId()), stream.stream(),
                                                cudaEventRecordExternal));
}

fdl_cuda_graph *fdl_cuda_graph_new(void)
{
    return OP_DO((), {
        gpu(0);
        return new fdl_cuda_graph;
    });
}

fdl_status fdl_cuda_graph_begin_opt(fdl_cuda_graph *g, const fdl_cuda_graph_begin_opts *opts)
{
    const fdl_cuda_graph_begin_opts &o = or_default(opts);
    return OP_DO((), {
        if (!g)
            fail(FDL_E_NULL, "g is NULL");
        at::Device d = device_for(o.device);
        cudaStreamCaptureMode mode = capture_mode(o.mode);
        at::globalContext().lazyInitDevice(at::kCUDA);
        need_none_open(d);
        if (g->graph)
            fail(FDL_E_STATE, g->capturing ? "another thread is capturing it"
                                           : "it has contents; fdl_cuda_graph_reset drops them");
        CUDAStream side = free_stream(d, c10::cuda::getCurrentCUDAStream(d.index()));
        begin(g, {d, side, o.pool, mode, o.generators});
    });
}

fdl_status fdl_cuda_graph_end(fdl_cuda_graph *g)
{
    return OP_DO((), {
        if (!g)
            fail(FDL_E_NULL, "g is NULL");
        need_open(g);
        finish(g);
    });
}

fdl_status fdl_cuda_graph_replay(fdl_cuda_graph *g)
{
    return OP_DO((), {
        if (!g)
            fail(FDL_E_NULL, "g is NULL");
        if (!g->graph || g->capturing)
            fail(FDL_E_STATE, g->capturing ? "its capture is still open" : "nothing was captured");
        if (self().capturing)
            fail(FDL_E_STATE, "a capture is open on this thread, in which no other graph replays");
        g->graph->replay();
    });
}

fdl_status fdl_cuda_graph_reset(fdl_cuda_graph *g)
{
    return OP_DO((), {
        if (!g)
            fail(FDL_E_NULL, "g is NULL");
        if (g->capturing) {
            need_open(g);
            discard(g);
        }
        g->graph.reset();
        g->pool = {0, 0};
    });
}

void fdl_cuda_graph_free(fdl_cuda_graph *g)
{
    if (g && fdl_cuda_graph_reset(g) == FDL_OK)
        delete g;
}

fdl_cuda_pool fdl_cuda_graph_pool(fdl_cuda_graph *g)
{
    return g && !g->capturing ? fdl_cuda_pool{g->pool.first, g->pool.second} : fdl_cuda_pool{0, 0};
}

fdl_cuda_pool fdl_cuda_pool_new(void)
{
    return OP_DO((), {
        gpu(0);
        pool_id id = at::cuda::graph_pool_handle();
        return fdl_cuda_pool{id.first, id.second};
    });
}

bool fdl_cuda_is_capturing(void)
{
    return OP((), cuda_count() > 0 && is_capturing(c10::cuda::getCurrentCUDAStream()));
}

fdl_cuda_graph *fdl_cuda_graph_capture_opt(fdl_status (*body)(void *),
                                           const fdl_cuda_graph_capture_opts *opts)
{
    const fdl_cuda_graph_capture_opts &o = or_default(opts);
    return OP_DO((), {
        at::Device d = device_for(o.device);
        if (!body)
            fail(FDL_E_NULL, "body is NULL");
        int64_t times = fdl_opt_int(o.warmup, 3);
        if (times < 0)
            fail(FDL_E_ARG, "%lld runs before the capture", (long long)times);
        cudaStreamCaptureMode mode = capture_mode(o.mode);
        at::globalContext().lazyInitDevice(at::kCUDA);
        need_none_open(d);
        CUDAStream side = free_stream(d, c10::cuda::getCurrentCUDAStream(d.index()));
        warm_up(body, o.ctx, times, d, side);
        auto g = std::make_unique<fdl_cuda_graph>();
        begin(g.get(), {d, side, o.pool, mode, o.generators});
        try {
            call(body, o.ctx);
        } catch (...) {
            discard(g.get());
            throw;
        }
        finish(g.get());
        return g.release();
    });
}

#else

void flodl::mark_replays(const c10::Event &, const c10::Stream &)
{
    /* there are no captures */
}

fdl_cuda_graph *fdl_cuda_graph_new(void)
{
    return OP_DO((), {
        without_cuda(0);
        return (fdl_cuda_graph *)nullptr;
    });
}

fdl_cuda_graph *fdl_cuda_graph_capture_opt(fdl_status (*)(void *), const fdl_cuda_graph_capture_opts *)
{
    return OP_DO((), {
        without_cuda(0);
        return (fdl_cuda_graph *)nullptr;
    });
}

fdl_cuda_pool fdl_cuda_pool_new(void)
{
    return OP_DO((), {
        without_cuda(0);
        return fdl_cuda_pool{0, 0};
    });
}

/* There is no graph: g is NULL. */

fdl_status fdl_cuda_graph_begin_opt(fdl_cuda_graph *, const fdl_cuda_graph_begin_opts *)
{
    return OP_DO((), { without_cuda(0); });
}

fdl_status fdl_cuda_graph_end(fdl_cuda_graph *)
{
    return OP_DO((), { without_cuda(0); });
}

fdl_status fdl_cuda_graph_replay(fdl_cuda_graph *)
{
    return OP_DO((), { without_cuda(0); });
}

fdl_status fdl_cuda_graph_reset(fdl_cuda_graph *)
{
    return OP_DO((), { without_cuda(0); });
}

void fdl_cuda_graph_free(fdl_cuda_graph *)
{
}

fdl_cuda_pool fdl_cuda_graph_pool(fdl_cuda_graph *)
{
    return {0, 0};
}

bool fdl_cuda_is_capturing(void)
{
    return false;
}

#endif
