/* CUPTI hands over buffers of records in a thread of its own; they are turned into spans and counts at once, under a lock, and
 * sorted at the end. Records are read through the oldest structures that have what is needed: newer ones begin the same. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <flodl/flodl.h>

#include "gpu_trace.h"
#include "kernel_class.h"

static char why[256];

const char *gpu_trace_why(void)
{
    return why;
}

/* ---- what is said of a trace -------------------------------------------------------------------------- */

double gpu_trace_busy(const gpu_trace *t)
{
    int64_t busy = 0, end = INT64_MIN;
    for (int64_t i = 0; i < t->n; i++) {
        const gpu_span *s = &t->spans[i];
        const int64_t from = s->start_ns > end ? s->start_ns : end;
        if (s->end_ns > from)
            busy += s->end_ns - from;
        end = s->end_ns > end ? s->end_ns : end;
    }
    return (double)busy * 1e-9;
}

double gpu_trace_sum(const gpu_trace *t)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < t->n; i++)
        sum += t->spans[i].end_ns - t->spans[i].start_ns;
    return (double)sum * 1e-9;
}

/* Spans of one name together. */
typedef struct group {
    const char *name;
    int class_;
    int64_t n, ns;
} group;

static int by_time(const void *a, const void *b)
{
    const group *x = a, *y = b;
    return (x->ns < y->ns) - (x->ns > y->ns);
}

/* One for each of t->names, by time. NULL: no memory or no table of classes. */
static group *new_groups(const gpu_trace *t)
{
    group *groups = calloc((size_t)t->n_names + 1, sizeof *groups);
    for (int i = 0; groups && i < t->n_names; i++) {
        groups[i] = (group){.name = t->names[i], .class_ = kernel_class_of(t->names[i])};
        if (groups[i].class_ < 0) {
            free(groups);
            return NULL;
        }
    }
    for (int64_t i = 0; groups && i < t->n; i++)
        for (int k = 0; k < t->n_names; k++)
            if (groups[k].name == t->spans[i].name) {
                groups[k].n++;
                groups[k].ns += t->spans[i].end_ns - t->spans[i].start_ns;
                break;
            }
    if (groups)
        qsort(groups, (size_t)t->n_names, sizeof *groups, by_time);
    return groups;
}

static void add_classes(const group *groups, int n, double *seconds, int64_t *counts)
{
    memset(seconds, 0, sizeof *seconds * KERNEL_CLASSES_MAX);
    memset(counts, 0, sizeof *counts * KERNEL_CLASSES_MAX);
    for (int i = 0; i < n; i++) {
        seconds[groups[i].class_] += (double)groups[i].ns * 1e-9;
        counts[groups[i].class_] += groups[i].n;
    }
}

bool gpu_trace_classes(const gpu_trace *t, double *seconds, int64_t *n)
{
    group *groups = new_groups(t);
    if (!groups)
        return false;
    add_classes(groups, t->n_names, seconds, n);
    free(groups);
    return true;
}

bool gpu_trace_answer(const gpu_trace *t, int steps)
{
    double seconds[KERNEL_CLASSES_MAX];
    int64_t count[KERNEL_CLASSES_MAX];
    if (!gpu_trace_classes(t, seconds, count))
        return false;
    const double n = steps;
    const int64_t copies = t->copies.to_device + t->copies.to_host + t->copies.on_device;
    printf("= %.9g; %.9g %.9g %.9g %.9g", gpu_trace_busy(t) / n, gpu_trace_sum(t) / n, (double)t->kernels / n,
           (double)copies / n, (double)t->fills / n);
    const char *const *names = kernel_class_names();
    for (int i = 0; names[i]; i++)
        if (count[i])
            printf("; %s %.9g %.9g", names[i], seconds[i] / n, (double)count[i] / n);
    putchar('\n');
    return true;
}

static void print_calls(const gpu_calls *c, FILE *to)
{
    fprintf(to, "calls: %lld launches, %lld of graphs; %lld waited, %lld asked whether work was done\n",
            (long long)c->launches, (long long)c->graph_launches, (long long)c->waits, (long long)c->asks);
    for (int i = 0; i < c->n; i++)
        fprintf(to, "  %8lld  %s%s\n", (long long)c->each[i].n, c->each[i].name,
                c->each[i].waits ? "   waits" : "");
}

void gpu_trace_print(const gpu_trace *t, FILE *to, int most)
{
    fprintf(to,
            "device: busy %.1f us, sum of all %.1f us; %lld kernels, %lld fills, copies: %lld to the device, "
            "%lld "
            "to the host, %lld on the device; of these with pageable memory: %lld to, %lld from the device\n",
            gpu_trace_busy(t) * 1e6, gpu_trace_sum(t) * 1e6, (long long)t->kernels, (long long)t->fills,
            (long long)t->copies.to_device, (long long)t->copies.to_host, (long long)t->copies.on_device,
            (long long)t->copies.pageable_to_device, (long long)t->copies.pageable_to_host);
    if (t->incomplete)
        fprintf(to, "  %lld records were lost or without a time and are left out\n",
                (long long)t->incomplete);
    group *groups = new_groups(t);
    if (groups) {
        const char *const *names = kernel_class_names();
        double seconds[KERNEL_CLASSES_MAX];
        int64_t n[KERNEL_CLASSES_MAX];
        add_classes(groups, t->n_names, seconds, n);
        for (int i = 0; names[i]; i++)
            if (n[i])
                fprintf(to, "  %10.1f us %7lld  %s\n", seconds[i] * 1e6, (long long)n[i], names[i]);
        for (int i = 0; i < t->n_names && i < most; i++)
            fprintf(to, "  %10.1f us %7lld  %-16s %.160s\n", (double)groups[i].ns * 1e-3,
                    (long long)groups[i].n, names[groups[i].class_], groups[i].name);
        free(groups);
    }
    if (t->calls.n)
        print_calls(&t->calls, to);
}

void gpu_trace_free(gpu_trace *t)
{
    for (int i = 0; i < t->n_names; i++)
        free(t->names[i]);
    free(t->names);
    free(t->spans);
    *t = (gpu_trace){0};
}

#ifndef BENCH_CUPTI

bool gpu_trace_begin(bool calls)
{
    (void)calls;
    snprintf(why, sizeof why, "built where CUPTI's header (cupti.h of the CUDA toolkit) was missing");
    return false;
}

bool gpu_trace_end(gpu_trace *t)
{
    *t = (gpu_trace){0};
    return false;
}

#else
#include <cupti.h>

/* ---- CUPTI, loaded at run time -------------------------------------------------------------------------- */

#define CUDA_MAJOR (CUDA_VERSION / 1000)

static struct {
    bool tried, ok;
    __typeof__(cuptiActivityRegisterCallbacks) *register_callbacks;
    __typeof__(cuptiActivityEnable) *enable;
    __typeof__(cuptiActivityDisable) *disable;
    __typeof__(cuptiActivityFlushAll) *flush;
    __typeof__(cuptiActivityGetNextRecord) *next;
    __typeof__(cuptiActivityGetNumDroppedRecords) *dropped;
    __typeof__(cuptiGetCallbackName) *callback_name;
    __typeof__(cuptiGetResultString) *text;
    char *(*demangle)(const char *name, char *to, size_t *size, int *status);
} cupti;

static void *symbol(void *library, const char *name)
{
    void *at = dlsym(library, name);
    if (!at && !*why)
        snprintf(why, sizeof why, "libcupti has no %s", name);
    return at;
}

static bool load(void)
{
    if (cupti.tried)
        return cupti.ok;
    cupti.tried = true;
    char soname[32];
    snprintf(soname, sizeof soname, "libcupti.so.%d", CUDA_MAJOR);
    /* libtorch for CUDA has loaded one; it must be that one. */
    void *library = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
    const char *const at[] = {soname, "libcupti.so", "/usr/local/cuda/lib64/libcupti.so",
                              "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so"};
    for (size_t i = 0; !library && i < sizeof at / sizeof *at; i++)
        library = dlopen(at[i], RTLD_NOW);
    *why = '\0';
    if (!library) {
        snprintf(why, sizeof why, "%s can't be loaded: %s", soname, dlerror());
        return false;
    }
    *(void **)&cupti.register_callbacks = symbol(library, "cuptiActivityRegisterCallbacks");
    *(void **)&cupti.enable = symbol(library, "cuptiActivityEnable");
    *(void **)&cupti.disable = symbol(library, "cuptiActivityDisable");
    *(void **)&cupti.flush = symbol(library, "cuptiActivityFlushAll");
    *(void **)&cupti.next = symbol(library, "cuptiActivityGetNextRecord");
    *(void **)&cupti.dropped = symbol(library, "cuptiActivityGetNumDroppedRecords");
    *(void **)&cupti.callback_name = symbol(library, "cuptiGetCallbackName");
    *(void **)&cupti.text = symbol(library, "cuptiGetResultString");
    *(void **)&cupti.demangle =
        dlsym(RTLD_DEFAULT, "__cxa_demangle"); /* the C++ library's; libtorch has it */
    return cupti.ok = !*why;
}

static bool worked(CUptiResult result, const char *what)
{
    const char *text = "unknown";
    if (result == CUPTI_SUCCESS)
        return true;
    cupti.text(result, &text);
    snprintf(why, sizeof why, "%s: %s (%d)", what, text, (int)result);
    return false;
}

/* ---- records ---------------------------------------------------------------------------------------------- */

enum { BUFFER = 4 << 20, NAMES_MAX = 4096 };

/* The recording that runs. A function is counted by its number; names come at the end. */
static struct {
    pthread_mutex_t lock;
    bool runs, calls, no_memory, registered;
    gpu_trace t;
    int64_t room;
    const char *raw[NAMES_MAX]; /* CUPTI's text for each of t.names */
    int64_t runtime[2048], driver[2048];
} now = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void CUPTIAPI on_request(uint8_t **buffer, size_t *size, size_t *most)
{
    void *at = NULL;
    *size = posix_memalign(&at, 8, BUFFER) == 0 ? BUFFER : 0;
    *buffer = at;
    *most = 0;
}

static char *demangled(const char *name)
{
    int status = -1;
    char *text = cupti.demangle ? cupti.demangle(name, NULL, NULL, &status) : NULL;
    if (text && status == 0)
        return text;
    free(text);
    return strdup(name);
}

/* The trace's own text for what CUPTI calls raw: the same kernel has the same one. */
static const char *name_of(const char *raw)
{
    gpu_trace *t = &now.t;
    for (int i = 0; i < t->n_names; i++)
        if (now.raw[i] == raw || strcmp(now.raw[i], raw) == 0)
            return t->names[i];
    if (!t->names)
        t->names = calloc(NAMES_MAX, sizeof *t->names);
    char *text = t->names && t->n_names < NAMES_MAX ? demangled(raw) : NULL;
    if (!text) {
        now.no_memory = true;
        return "";
    }
    now.raw[t->n_names] = raw;
    t->names[t->n_names++] = text;
    return text;
}

static void add_span(const char *raw, uint64_t start, uint64_t end, uint32_t stream, gpu_span_kind kind)
{
    gpu_trace *t = &now.t;
    if (!start || end < start) {
        t->incomplete++;
        return;
    }
    if (t->n == now.room) {
        const int64_t room = now.room ? 2 * now.room : 4096;
        gpu_span *spans = realloc(t->spans, sizeof *spans * (size_t)room);
        if (!spans) {
            now.no_memory = true;
            return;
        }
        t->spans = spans;
        now.room = room;
    }
    t->spans[t->n++] = (gpu_span){name_of(raw), (int64_t)start, (int64_t)end, stream, kind};
}

static bool is_on_host(uint8_t memory)
{
    return memory == CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE || memory == CUPTI_ACTIVITY_MEMORY_KIND_PINNED;
}

static void add_copy(const CUpti_ActivityMemcpy5 *m)
{
    gpu_copies *c = &now.t.copies;
    const bool from_host = is_on_host(m->srcKind), to_host = is_on_host(m->dstKind);
    if (from_host && !to_host) {
        const bool pageable = m->srcKind == CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE;
        c->to_device++;
        c->pageable_to_device += pageable;
        add_span(pageable ? "Memcpy HtoD (pageable)" : "Memcpy HtoD (pinned)", m->start, m->end, m->streamId,
                 GPU_COPY);
    } else if (to_host && !from_host) {
        const bool pageable = m->dstKind == CUPTI_ACTIVITY_MEMORY_KIND_PAGEABLE;
        c->to_host++;
        c->pageable_to_host += pageable;
        add_span(pageable ? "Memcpy DtoH (pageable)" : "Memcpy DtoH (pinned)", m->start, m->end, m->streamId,
                 GPU_COPY);
    } else {
        c->on_device++;
        add_span("Memcpy DtoD", m->start, m->end, m->streamId, GPU_COPY);
    }
}

static void add_call(int64_t *counts, uint32_t id)
{
    if (id < 2048)
        counts[id]++;
}

static void add_record(const CUpti_Activity *record)
{
    /* int: the header's enumeration and what the library sends needn't be of one age. */
    switch ((int)record->kind) {
    case CUPTI_ACTIVITY_KIND_KERNEL:
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
        const CUpti_ActivityKernel9 *k = (const void *)record;
        now.t.kernels++;
        add_span(k->name ? k->name : "?", k->start, k->end, k->streamId, GPU_KERNEL);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY:
        add_copy((const void *)record);
        break;
    case CUPTI_ACTIVITY_KIND_MEMCPY2: {
        const CUpti_ActivityMemcpyPtoP4 *m = (const void *)record;
        now.t.copies.on_device++;
        add_span("Memcpy PtoP", m->start, m->end, m->streamId, GPU_COPY);
        break;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
        const CUpti_ActivityMemset4 *m = (const void *)record;
        now.t.fills++;
        add_span("Memset", m->start, m->end, m->streamId, GPU_FILL);
        break;
    }
    case CUPTI_ACTIVITY_KIND_RUNTIME:
        add_call(now.runtime, ((const CUpti_ActivityAPI *)(const void *)record)->cbid);
        break;
    case CUPTI_ACTIVITY_KIND_DRIVER:
        add_call(now.driver, ((const CUpti_ActivityAPI *)(const void *)record)->cbid);
        break;
    default:
        break;
    }
}

/* What remains of an earlier recording comes while none runs, and is dropped. */
static void CUPTIAPI on_complete(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size,
                                 size_t valid)
{
    (void)size;
    pthread_mutex_lock(&now.lock);
    CUpti_Activity *record = NULL;
    while (buffer && valid && cupti.next(buffer, valid, &record) == CUPTI_SUCCESS)
        if (now.runs)
            add_record(record);
    size_t dropped = 0;
    if (now.runs && cupti.dropped(context, stream, &dropped) == CUPTI_SUCCESS)
        now.t.incomplete += (int64_t)dropped;
    pthread_mutex_unlock(&now.lock);
    free(buffer);
}

/* ---- begin and end ------------------------------------------------------------------------------------- */

static const CUpti_ActivityKind device_kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                                  CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMCPY2,
                                                  CUPTI_ACTIVITY_KIND_MEMSET};
static const CUpti_ActivityKind call_kinds[] = {CUPTI_ACTIVITY_KIND_RUNTIME, CUPTI_ACTIVITY_KIND_DRIVER};
enum { DEVICE_KINDS = sizeof device_kinds / sizeof *device_kinds, CALL_KINDS = 2 };

static bool enable(const CUpti_ActivityKind *kinds, int n, const char *what)
{
    for (int i = 0; i < n; i++)
        if (!worked(cupti.enable(kinds[i]), what))
            return false;
    return true;
}

static void disable(const CUpti_ActivityKind *kinds, int n)
{
    for (int i = 0; i < n; i++)
        cupti.disable(kinds[i]);
}

static bool wait_for_devices(void)
{
    const int n = fdl_cuda_count();
    for (int i = 0; i < n; i++)
        if (fdl_cuda_synchronize(i) != FDL_OK) {
            snprintf(why, sizeof why, "waiting for the device failed: %s", fdl_last_error()->message);
            fdl_clear_error();
            return false;
        }
    if (!n)
        snprintf(why, sizeof why, "no CUDA device here");
    return n > 0;
}

static void forget(void)
{
    gpu_trace_free(&now.t);
    now.room = 0;
    now.no_memory = false;
    memset(now.runtime, 0, sizeof now.runtime);
    memset(now.driver, 0, sizeof now.driver);
}

bool gpu_trace_begin(bool calls)
{
    if (now.runs) {
        snprintf(why, sizeof why, "a recording runs already");
        return false;
    }
    if (!wait_for_devices() || !load())
        return false;
    if (!now.registered) {
        if (!worked(cupti.register_callbacks(on_request, on_complete), "cuptiActivityRegisterCallbacks"))
            return false;
        now.registered = true;
    }
    cupti.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
    pthread_mutex_lock(&now.lock);
    forget();
    now.calls = calls;
    now.runs = true;
    pthread_mutex_unlock(&now.lock);
    if (enable(device_kinds, DEVICE_KINDS, "cuptiActivityEnable of kernels, copies and fills") &&
        (!calls || enable(call_kinds, CALL_KINDS, "cuptiActivityEnable of calls")))
        return true;
    disable(call_kinds, CALL_KINDS);
    disable(device_kinds, DEVICE_KINDS);
    now.runs = false;
    return false;
}

/* "cudaMemcpy_v3020" and "cudaMemcpy_ptds_v7000" -> "cudaMemcpy"; "cuMemFree_v2" -> "cuMemFree". */
static void bare_name(char *to, size_t size, const char *name)
{
    snprintf(to, size, "%.*s", (int)strcspn(name, "_"), name);
}

static bool has_end(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_a_wait(const char *name)
{
    static const char *const frees[] = {"cudaFree", "cudaFreeHost", "cudaFreeArray", "cuMemFree",
                                        "cuMemFreeHost"};
    for (size_t i = 0; i < sizeof frees / sizeof *frees; i++)
        if (strcmp(name, frees[i]) == 0)
            return true;
    const bool copies = strncmp(name, "cudaMemcpy", 10) == 0 || strncmp(name, "cuMemcpy", 8) == 0;
    return has_end(name, "Synchronize") || (copies && !strstr(name, "Async"));
}

static void count_call(gpu_calls *c, const char *full, int64_t n)
{
    gpu_call call = {.n = n};
    bare_name(call.name, sizeof call.name, full);
    call.waits = is_a_wait(call.name);
    c->waits += call.waits ? n : 0;
    c->asks += has_end(call.name, "StreamQuery") || has_end(call.name, "EventQuery") ? n : 0;
    if (strstr(call.name, "GraphLaunch"))
        c->graph_launches += n;
    else if (strstr(call.name, "LaunchKernel") || strstr(call.name, "LaunchCooperative"))
        c->launches += n;
    for (int i = 0; i < c->n; i++)
        if (strcmp(c->each[i].name, call.name) == 0) {
            c->each[i].n += n;
            return;
        }
    if (c->n < GPU_CALLS_MAX)
        c->each[c->n++] = call;
}

static int by_count(const void *a, const void *b)
{
    const gpu_call *x = a, *y = b;
    return (x->n < y->n) - (x->n > y->n);
}

static void name_calls(gpu_calls *c, const int64_t *counts, CUpti_CallbackDomain domain)
{
    for (uint32_t id = 0; id < 2048; id++) {
        const char *name = NULL;
        char number[32];
        if (!counts[id])
            continue;
        if (cupti.callback_name(domain, id, &name) != CUPTI_SUCCESS || !name) {
            snprintf(number, sizeof number, "%s function %u",
                     domain == CUPTI_CB_DOMAIN_RUNTIME_API ? "runtime" : "driver", id);
            name = number;
        }
        count_call(c, name, counts[id]);
    }
}

static int by_start(const void *a, const void *b)
{
    const gpu_span *x = a, *y = b;
    return (x->start_ns > y->start_ns) - (x->start_ns < y->start_ns);
}

bool gpu_trace_end(gpu_trace *t)
{
    *t = (gpu_trace){0};
    if (!now.runs) {
        snprintf(why, sizeof why, "no recording runs");
        return false;
    }
    if (now.calls)
        disable(call_kinds, CALL_KINDS);
    const bool waited = wait_for_devices();
    const bool flushed = worked(cupti.flush(0), "cuptiActivityFlushAll") &&
                         worked(cupti.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "cuptiActivityFlushAll");
    disable(device_kinds, DEVICE_KINDS);
    pthread_mutex_lock(&now.lock);
    now.runs = false;
    const bool ok = waited && flushed && !now.no_memory;
    if (now.no_memory)
        snprintf(why, sizeof why, "no memory for the records, or over %d kernels", NAMES_MAX);
    if (ok) {
        name_calls(&now.t.calls, now.runtime, CUPTI_CB_DOMAIN_RUNTIME_API);
        name_calls(&now.t.calls, now.driver, CUPTI_CB_DOMAIN_DRIVER_API);
        qsort(now.t.calls.each, (size_t)now.t.calls.n, sizeof *now.t.calls.each, by_count);
        if (now.t.n)
            qsort(now.t.spans, (size_t)now.t.n, sizeof *now.t.spans, by_start);
        *t = now.t;
        now.t = (gpu_trace){0};
    }
    forget();
    pthread_mutex_unlock(&now.lock);
    return ok;
}

#endif
