/* CUDA graphs: a run of kernels that is recorded once and launched as a whole, without the host's part of it.
 *
 *     static fdl_status step(void *ctx) { ... what a step does, on tensors of fixed shapes ... }
 *
 *     fdl_cuda_graph *g = fdl_cuda_graph_capture(step, .ctx = &state);
 *     for (...) {
 *         FDL_CHECK(fdl_copy_(state.x, batch, .non_blocking = true));     refill the inputs
 *         FDL_CHECK(fdl_cuda_graph_replay(g));
 *     }
 *
 * While a capture is open nothing runs: kernels are recorded. What would have to wait for one (fdl_item and every other
 * read-back, a shape that depends on data, fdl_cuda_synchronize) fails with FDL_E_STATE and spoils the capture. Memory that
 * is allocated comes from the graph's pool: tensors made in the capture stay valid, and each replay overwrites them, while
 * the graph lives and their handles do. A handle lives as long as its scope, as ever; the memory of one that dies inside
 * the capture is used again by what is captured later. Random numbers differ between replays as they do between calls; for
 * that two threads must not capture on one device at a time. */
#ifndef FLODL_CUDA_GRAPH_H
#define FLODL_CUDA_GRAPH_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_cuda_graph fdl_cuda_graph;

/* Memory that graphs share: those that use one pool must replay in the order in which they were captured, and no two at a
 * time; a graph's results are overwritten by the replays of the others. All zero: a pool of its own. */
typedef struct fdl_cuda_pool {
    uint64_t hi, lo;
} fdl_cuda_pool;

/* What CUDA calls that can't be captured (allocations, queries of events, ...) spoil a capture: those of any thread, those
 * of the capturing thread, or none. PyTorch's capture_error_mode. Where other threads use CUDA meanwhile without keeping to the
 * gate (below), FDL_CAPTURE_THREAD_LOCAL. */
typedef enum fdl_capture_mode {
    FDL_CAPTURE_GLOBAL = 0,
    FDL_CAPTURE_THREAD_LOCAL,
    FDL_CAPTURE_RELAXED
} fdl_capture_mode;

/* ---- a function as a graph ------------------------------------------------------------------------------ */

typedef struct fdl_cuda_graph_capture_opts {
    fdl_by_name opts_;
    void *ctx;          /* handed to body */
    fdl_opt_i64 warmup; /* runs before the capture: 3; fewer than 1 only where everything was run before */
    fdl_cuda_pool pool;
    fdl_capture_mode mode;
    fdl_device device; /* the default device where that is CUDA, else the current CUDA device */
    fdl_generator *const
        *generators; /* the caller's own that body draws from, NULL at the end; the device's own
                                          generator is always taken along */
} fdl_cuda_graph_capture_opts;
/* Runs body .warmup times, for real, on the stream of the capture, waits, and captures one more run, which doesn't compute
 * anything: the first results come with the first replay. Each warm-up run has a scope of its own; what the captured run
 * makes belongs to the caller's scope. Owned. Any failure ends the capture, restores stream and device and returns NULL
 * with body's error. No GPU: FDL_E_DEVICE; inside another capture: FDL_E_STATE. */
FDL_API fdl_cuda_graph *fdl_cuda_graph_capture_opt(fdl_status (*body)(void *ctx),
                                                   const fdl_cuda_graph_capture_opts *opts);

/* ---- the parts ------------------------------------------------------------------------------------------- */

/* A graph without contents. Owned. No GPU: FDL_E_DEVICE. */
FDL_API fdl_cuda_graph *fdl_cuda_graph_new(void);
/* Ends a capture that is still open, and frees the graph and its pool's memory as far as nothing uses it. NULL: nothing. A
 * graph that another thread is capturing: FDL_E_STATE is noted, and the graph stays. */
FDL_API void fdl_cuda_graph_free(fdl_cuda_graph *g);

typedef struct fdl_cuda_graph_begin_opts {
    fdl_by_name opts_;
    fdl_cuda_pool pool;
    fdl_capture_mode mode;
    fdl_device device;
    fdl_generator *const *generators;
} fdl_cuda_graph_begin_opts;
/* torch.cuda.CUDAGraph.capture_begin: opens the capture on this thread. The device becomes the current one, a side stream
 * that waits for its current stream the current stream. Run everything once or more before, so that nothing is initialised
 * or tuned in the capture. A graph that has contents (fdl_cuda_graph_reset first), or a capture that is open on this
 * thread: FDL_E_STATE. */
FDL_API fdl_status fdl_cuda_graph_begin_opt(fdl_cuda_graph *g, const fdl_cuda_graph_begin_opts *opts);
/* Ends the capture on the thread that began it; the device and the stream from before are current again, the latter after
 * what the side stream did. A capture that was spoiled, or that a FDL_STREAM inside is still open in, is discarded:
 * FDL_E_STATE, and everything is usable as before. */
FDL_API fdl_status fdl_cuda_graph_end(fdl_cuda_graph *g);
/* Launches the graph on the current stream of its device. Without contents: FDL_E_STATE. */
FDL_API fdl_status fdl_cuda_graph_replay(fdl_cuda_graph *g);
/* Drops the contents, so that g can capture anew. A capture that is open is discarded. */
FDL_API fdl_status fdl_cuda_graph_reset(fdl_cuda_graph *g);
/* The pool of what g has captured, for .pool of another; all zero without contents. */
FDL_API fdl_cuda_pool fdl_cuda_graph_pool(fdl_cuda_graph *g);
/* torch.cuda.graph_pool_handle: a pool for several graphs; all zero with FDL_E_DEVICE without a GPU. */
FDL_API fdl_cuda_pool fdl_cuda_pool_new(void);
/* torch.cuda.is_current_stream_capturing: whether this thread's current stream records rather than runs. */
FDL_API bool fdl_cuda_is_capturing(void);

/* ---- the gate: threads that use CUDA beside a capture ----------------------------------------------------- */

/* While a capture is open, from fdl_cuda_graph_begin to fdl_cuda_graph_end, other threads that keep to the gate issue nothing:
 * no allocation, copy or event of theirs comes between. A loader's threads keep to it. The gate is one for the process, with or
 * without CUDA. */

/* A thread issues its CUDA work between these two. enter waits while another thread has closed the gate. They nest; what is
 * between them is short and waits for nobody who might capture. leave without enter: nothing. */
FDL_API void fdl_cuda_gate_enter(void);
FDL_API void fdl_cuda_gate_leave(void);
/* Closes the gate, and returns when no other thread is inside; open ends it, on the same thread. They nest, and several
 * threads may have closed it at a time. A capture does this by itself; these are for keeping others away from more than one.
 * What waits for a thread that waits at the gate, as taking a loader's batch may, never returns. open without close: FDL_E_STATE. */
FDL_API void fdl_cuda_gate_close(void);
FDL_API fdl_status fdl_cuda_gate_open(void);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_cuda_graph_capture(...) fdl_cuda_graph_capture_(__VA_ARGS__, .opts_ = 0)
#define fdl_cuda_graph_capture_(body, ...) \
    fdl_cuda_graph_capture_opt(body, &(fdl_cuda_graph_capture_opts){__VA_ARGS__})
#define fdl_cuda_graph_begin(...) fdl_cuda_graph_begin_(__VA_ARGS__, .opts_ = 0)
#define fdl_cuda_graph_begin_(g, ...) fdl_cuda_graph_begin_opt(g, &(fdl_cuda_graph_begin_opts){__VA_ARGS__})
#endif

#endif
