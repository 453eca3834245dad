/* What CUDA devices did between two moments, as CUPTI recorded it: each kernel, copy and fill with its time, those inside CUDA
 * graphs one by one; and, where asked for, which calls this process made to the CUDA runtime and driver: whether it ever
 * waited for the device.
 *
 *     if (!gpu_trace_begin(true))
 *         skip(gpu_trace_why());
 *     ...steps...
 *     gpu_trace t = {0};
 *     gpu_trace_end(&t);           // waits for the devices
 *     if (t.calls.waits)
 *         gpu_trace_print(&t, stderr, 20);
 *     gpu_trace_free(&t);
 *
 * For benchmarks and tests. CUPTI is NVIDIA's and comes with the CUDA toolkit and with libtorch for CUDA; it is loaded when
 * it is first asked for. One recording at a time in a process; not together with PyTorch's profiler in the same process. */
#ifndef BENCHMARKS_GPU_TRACE_H
#define BENCHMARKS_GPU_TRACE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef enum gpu_span_kind { GPU_KERNEL, GPU_COPY, GPU_FILL } gpu_span_kind;

/* A time in which a device did one thing. */
typedef struct gpu_span {
    const char *name; /* of a kernel: demangled; "Memcpy HtoD (pinned)", "Memset". The trace's own. */
    int64_t start_ns, end_ns;
    uint32_t stream;
    gpu_span_kind kind;
} gpu_span;

/* A function of the CUDA runtime (cudaLaunchKernel) or driver (cuLaunchKernelEx), and how often it was called. */
typedef struct gpu_call {
    char name[64];
    int64_t n;
    bool waits; /* until the device has done what was asked of it */
} gpu_call;

enum { GPU_CALLS_MAX = 128 };

typedef struct gpu_calls {
    int64_t waits; /* calls that wait: *Synchronize, copies that aren't asynchronous, cudaFree and its kin */
    int64_t asks;  /* cudaStreamQuery, cudaEventQuery: don't wait, but a loop of them does */
    int64_t launches, graph_launches;
    int n; /* functions in `each`, most called first */
    gpu_call each[GPU_CALLS_MAX];
} gpu_calls;

/* How much was copied, also inside graphs. A copy between the device and pageable memory waits though its call is asynchronous:
 * to the host always, to the device when it is large. */
typedef struct gpu_copies {
    int64_t to_device, to_host, on_device, pageable_to_device, pageable_to_host;
} gpu_copies;

typedef struct gpu_trace {
    gpu_span *spans; /* by start */
    int64_t n, kernels, fills;
    gpu_copies copies;
    gpu_calls calls;    /* empty unless asked for */
    int64_t incomplete; /* records without a time, left out: not 0 means that the figures are too small */
    char **names;       /* that the spans point to */
    int n_names;
} gpu_trace;

/* Begins to record, after waiting for what was queued before. False: gpu_trace_why() says why. */
bool gpu_trace_begin(bool calls);

/* Waits for the devices, ends the recording and fills *t. The wait is not among the calls. False: the same. */
bool gpu_trace_end(gpu_trace *t);

void gpu_trace_free(gpu_trace *t);

/* Why the last of these two functions failed. */
const char *gpu_trace_why(void);

/* Seconds in which a device did anything: kernels that overlap count once. */
double gpu_trace_busy(const gpu_trace *t);

/* Seconds of all spans, those that overlap counted each. */
double gpu_trace_sum(const gpu_trace *t);

/* Seconds of spans of each class of kernel_class_names(), overlaps counted each; at least KERNEL_CLASSES_MAX of room. */
bool gpu_trace_classes(const gpu_trace *t, double *seconds, int64_t *n);

/* Prints a side's answer to `busy` (side.h) for a trace of so many steps. False, and nothing printed: no classes are known. */
bool gpu_trace_answer(const gpu_trace *t, int steps);

/* What a reader wants who looks for the time or the wait: totals, classes, the `most` kernels with the most time, the calls. */
void gpu_trace_print(const gpu_trace *t, FILE *to, int most);

#endif
