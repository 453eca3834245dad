/* Loaders that stream: threads that fetch the batches that are next, while the consumer works on the one before.
 *
 * Batches are numbered jobs, which the workers take in order. A worker fetches one, waits until it is among the next `depth`
 * ones, sends it to the device on the loader's own stream, and puts it into the ring, from which the consumer takes batch after
 * batch: its stream waits for the copy, itself it doesn't. Each epoch has a generation; what a worker brings of an older one is
 * dropped. All that the threads share is under one lock; fetching and copying happen outside of it. */
#include "../base/thread.h"
#include "data_private.h"

#include "flodl/clock.h"
#include "flodl/cuda.h"
#include "flodl/cuda_graph.h"
#include "flodl/message.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <time.h>

enum { DEFAULT_WORKERS = 4 };

/* A batch that is ready, or why there is none. */
struct slot {
    bool full;
    fdl_status status;
    fdl_tensor *at[FDL_DATA_MAX]; /* kept */
    fdl_event *sent;              /* on a GPU: after the copy */
    char *message;                /* of a failure; NULL: no memory for it */
    const char *file;
    int line;
};

struct worker {
    struct pipe *pipe;
    struct call call;
    struct staging staging;
    fdl_event *sent; /* the next batch's */
    pthread_t thread;
    bool runs; /* the thread is there to be joined */
    /* under the lock */
    bool ended;  /* ... and has ended by itself */
    int64_t job; /* -1: none */
    uint64_t generation;
    double since; /* when it took the job */
    int64_t rows;
    int64_t *idx; /* [batch_size] a copy: the next epoch's order may come before this fetch ends */
    fdl_dtype dtype;
};

struct pipe {
    fdl_loader *dl;
    int64_t set_depth; /* by the user; -1: automatic */
    double timeout;    /* 0: none */
    int64_t reserve;   /* bytes that a step needs beside what it keeps; -1: not known yet */
    fdl_stream *stream;
    fdl_event *sent; /* the consumer's to exchange */
    struct staging staging;
    struct call call; /* for what the consumer fetches itself */

    pthread_mutex_t lock;
    pthread_cond_t work;  /* workers: there may be something to do */
    pthread_cond_t ready; /* the consumer: a slot is full, or a worker has gone */
    bool stop;
    uint64_t generation;
    int64_t epoch, first;
    int64_t open_to;  /* batches from here on may not be begun */
    int64_t next_job; /* to be begun */
    int64_t taken;    /* by the consumer */
    int64_t depth;    /* of this epoch; 0: the consumer fetches */
    bool measuring;   /* the first batch goes alone */
    int64_t room;     /* slots */
    struct slot *slots;
    fdl_dtype dtype; /* the consumer's default */
    int64_t bytes, fallbacks;
    double waited;
    int n_workers, running;
    struct worker worker[];
};

/* ---- slots --------------------------------------------------------------------------------------------- */

static struct slot *slot_of(const struct pipe *p, int64_t job)
{
    return &p->slots[job % p->room];
}

static void empty_slot(struct slot *s)
{
    for (int i = 0; i < FDL_DATA_MAX; i++) {
        fdl_free(s->at[i]);
        s->at[i] = NULL;
    }
    free(s->message);
    s->message = NULL;
    s->full = false;
}

static void free_slots(struct slot *slots, int64_t room)
{
    for (int64_t i = 0; i < room; i++) {
        empty_slot(&slots[i]);
        fdl_cuda_event_free(slots[i].sent);
    }
    free(slots);
}

/* Slots for this depth: a worker that has fetched beyond it has one, too, for its failure. Keeps what is ready. */
static fdl_status make_slots(struct pipe *p, int64_t depth)
{
    int64_t room = depth + p->n_workers, before = p->room;
    if (room == before)
        return FDL_OK;
    struct slot *slots = calloc((size_t)room, sizeof *slots), *old = p->slots;
    if (!slots)
        return fdl_fail(FDL_E_OOM, "no memory for %lld batches", (long long)room);
    for (int64_t job = p->taken; job < p->next_job && before; job++)
        if (slot_of(p, job)->full) {
            slots[job % room] = *slot_of(p, job);
            *slot_of(p, job) = (struct slot){0};
        }
    p->slots = slots;
    p->room = room;
    free_slots(old, before);
    return FDL_OK;
}

/* ---- how deep ------------------------------------------------------------------------------------------ */

static int64_t measured_depth(const struct pipe *p, int64_t reserve)
{
    const fdl_loader *dl = p->dl;
    if (!on_cuda(dl))
        return rule_limit(DEPTH_OF_HOST, dl->batches);
    struct room r;
    if (fdl_data_room(dl->device, &r) != FDL_OK) {
        fdl_clear_error();
        return rule_limit(DEPTH_AT_START, dl->batches);
    }
    int64_t bytes =
        dl->sample_bytes > INT64_MAX / dl->batch_size ? INT64_MAX : dl->sample_bytes * dl->batch_size;
    return rule_depth(r, dl->vram_use, reserve, bytes, dl->batches);
}

/* The first batch was alone; with what its step needed, the others may come. Under the lock. */
static fdl_status open_up(struct pipe *p)
{
    int64_t depth = measured_depth(p, p->reserve < 0 ? 0 : p->reserve);
    p->measuring = false;
    if (depth)
        FDL_TRY(make_slots(p, depth));
    p->depth = depth;
    p->open_to = depth ? p->dl->batches : p->next_job;
    pthread_cond_broadcast(&p->work);
    return FDL_OK;
}

static fdl_status note_peak(struct pipe *p)
{
    fdl_cuda_memory m;
    FDL_TRY(fdl_cuda_memory_stats(p->dl->device.index, &m));
    /* Twice: when a step becomes a CUDA graph, its memory comes on top of that of the steps before. */
    int64_t needs = 2 * (m.active.peak - m.active.current);
    fdl_status status = FDL_OK;
    pthread_mutex_lock(&p->lock);
    p->reserve = needs > p->reserve ? needs : p->reserve;
    if (p->measuring && p->taken > p->first)
        status = open_up(p);
    pthread_mutex_unlock(&p->lock);
    return status;
}

fdl_status fdl_data_note_peak(fdl_loader *dl)
{
    if (!dl)
        return fdl_null_operand("fdl_data_note_peak", "dl");
    return dl->pipe && on_cuda(dl) ? note_peak(dl->pipe) : FDL_OK;
}

fdl_status fdl_data_set_depth(fdl_loader *dl, int64_t d)
{
    if (!dl)
        return fdl_null_operand("fdl_data_set_depth", "dl");
    if (d < 0)
        return fdl_fail(FDL_E_ARG, "fdl_data_set_depth: d is %lld; it must be 0 or more", (long long)d);
    if (dl->pipe)
        dl->pipe->set_depth = d;
    return FDL_OK;
}

int64_t fdl_data_resize(fdl_loader *dl)
{
    if (!dl) {
        fdl_null_operand("fdl_data_resize", "dl");
        return -1;
    }
    struct pipe *p = dl->pipe;
    if (!p)
        return 0;
    p->set_depth = measured_depth(p, p->reserve < 0 ? 0 : p->reserve);
    return p->set_depth;
}

int64_t fdl_data_pipe_depth(struct pipe *p)
{
    pthread_mutex_lock(&p->lock);
    int64_t depth = p->depth;
    pthread_mutex_unlock(&p->lock);
    return depth;
}

/* ---- a worker: what it brings ------------------------------------------------------------------------------ */

/* The thread's error goes with the slot. */
static void fill_with_error(struct slot *s, fdl_status status)
{
    const fdl_error *e = fdl_last_error();
    s->status = status;
    s->message = strdup(e->status == FDL_OK ? "" : e->message);
    s->file = e->file;
    s->line = e->line;
    fdl_clear_error();
}

/* The job is done: x (kept) goes into the ring, or with a failure the error; or nowhere when its epoch is over. */
static void deliver(struct worker *w, fdl_status status, fdl_tensor **x, int64_t bytes, bool ended)
{
    struct pipe *p = w->pipe;
    bool wanted;
    pthread_mutex_lock(&p->lock);
    if ((wanted = w->job >= 0 && !p->stop && w->generation == p->generation)) {
        struct slot *s = slot_of(p, w->job);
        if (status == FDL_OK) {
            memcpy(s->at, x, sizeof *x * (size_t)p->dl->arity);
            fdl_event *free_one = s->sent;
            s->sent = w->sent;
            w->sent = free_one;
            s->status = FDL_OK;
            p->bytes += bytes;
        } else {
            fill_with_error(s, status);
            p->open_to = w->job < p->open_to ? w->job : p->open_to; /* the epoch ends here */
        }
        s->full = true;
        pthread_cond_broadcast(&p->ready);
    }
    w->job = -1;
    if (ended) {
        w->ended = true;
        p->running--;
        pthread_cond_broadcast(&p->ready);
    }
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; !wanted && status == FDL_OK && i < p->dl->arity; i++)
        fdl_free(x[i]);
    fdl_clear_error();
}

/* Waits until the job is among the next `depth` batches. False: its epoch is over. */
static bool await_turn(struct worker *w)
{
    struct pipe *p = w->pipe;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && w->generation == p->generation && w->job >= p->taken + p->depth)
        pthread_cond_wait(&p->work, &p->lock);
    bool wanted = !p->stop && w->generation == p->generation;
    pthread_mutex_unlock(&p->lock);
    return wanted;
}

static fdl_status send_now(struct worker *w, fdl_tensor **x)
{
    struct pipe *p = w->pipe;
    FDL_STREAM(p->stream);
    if (!w->sent && !(w->sent = fdl_cuda_event_new()))
        return fdl_error_pending();
    FDL_TRY(fdl_data_send(&w->staging, p->stream, x));
    return fdl_cuda_event_record_on(w->sent, p->stream);
}

/* The device has no room for this batch beside those that are ready: half as many from now on. False: none are. */
static bool halve_depth(struct worker *w)
{
    struct pipe *p = w->pipe;
    pthread_mutex_lock(&p->lock);
    bool current = w->generation == p->generation;
    int64_t ahead = w->job - p->taken;
    bool alone = current && ahead == 0;
    if (current && !alone) {
        ahead = ahead < p->depth ? ahead : p->depth;
        p->depth = ahead > 1 ? ahead / 2 : 1;
    }
    p->fallbacks++;
    int64_t depth = p->depth;
    pthread_mutex_unlock(&p->lock);
    fdl_msg_verbose("loader: the device's memory ran out; %lld batches are kept ready from now on",
                    (long long)depth);
    return !alone;
}

/* To the device. When its memory has run out, again once there are fewer batches on it; the last time with none. */
static fdl_status send(struct worker *w, fdl_tensor **x)
{
    for (bool last = false;;) {
        fdl_cuda_gate_enter();
        if (last)
            fdl_cuda_empty_cache();
        fdl_status status = send_now(w, x);
        fdl_cuda_gate_leave();
        if (status != FDL_E_OOM || last)
            return status;
        last = !halve_depth(w);
        if (!await_turn(w))
            return status;
        fdl_clear_error();
    }
}

/* Its tensors (kept). */
static fdl_status make_batch(struct worker *w, fdl_tensor **x, int64_t *bytes)
{
    const fdl_loader *dl = w->pipe->dl;
    FDL_SCOPE;
    FDL_TRY(fdl_data_stage(&w->staging, w->idx, w->rows, x));
    if (!await_turn(w))
        return FDL_E_CANCELLED;
    if (on_cuda(dl))
        FDL_TRY(send(w, x));
    for (int i = 0; i < dl->arity; i++) {
        *bytes += fdl_nbytes(x[i]);
        if (!(x[i] = fdl_keep(x[i]))) {
            while (i--)
                fdl_free(x[i]);
            return fdl_error_pending();
        }
    }
    return FDL_OK;
}

/* ---- a worker: its thread ---------------------------------------------------------------------------------- */

/* The next job, with what is needed for it copied. False: there will be none. */
static bool take_job(struct worker *w)
{
    struct pipe *p = w->pipe;
    pthread_mutex_lock(&p->lock);
    while (!p->stop && (p->next_job >= p->open_to || p->next_job >= p->taken + p->depth + p->n_workers))
        pthread_cond_wait(&p->work, &p->lock);
    bool there = !p->stop;
    if (there) {
        const fdl_loader *dl = p->dl;
        w->job = p->next_job++;
        w->generation = p->generation;
        w->since = fdl_now();
        w->dtype = p->dtype;
        w->call.epoch = p->epoch;
        atomic_store_explicit(&w->call.sample, -1, memory_order_relaxed);
        int64_t from = w->job * dl->batch_size, left = dl->sampler->len - from;
        w->rows = left < dl->batch_size ? left : dl->batch_size;
        memcpy(w->idx, dl->order + from, sizeof *w->idx * (size_t)w->rows);
    }
    pthread_mutex_unlock(&p->lock);
    return there;
}

static void do_job(struct worker *w)
{
    fdl_tensor *x[FDL_DATA_MAX] = {NULL};
    int64_t bytes = 0;
    if (fdl_default_dtype() != w->dtype)
        fdl_set_default_dtype(w->dtype);
    fdl_status status = make_batch(w, x, &bytes);
    deliver(w, status, x, bytes, false);
}

/* A callback ended the thread. */
static void gone(void *worker)
{
    struct worker *w = worker;
    int64_t sample = atomic_load_explicit(&w->call.sample, memory_order_relaxed);
    fdl_clear_error();
    fdl_fail(FDL_E_STATE, "loader: worker stopped: a callback ended its thread, in sample %lld",
             (long long)sample);
    deliver(w, FDL_E_STATE, NULL, 0, true);
}

static void *work(void *worker)
{
    struct worker *w = worker;
    pthread_cleanup_push(gone, w);
    fdl_data_call_begin(&w->call);
    if (on_cuda(w->pipe->dl)) {
        fdl_cuda_gate_enter();
        fdl_cuda_set_current(w->pipe->dl->device.index); /* where page-locked memory belongs to */
        fdl_cuda_gate_leave();
    }
    while (take_job(w))
        do_job(w);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Starts the workers that aren't there: all at first, later those whose thread has ended. */
static fdl_status start_workers(struct pipe *p)
{
    for (int i = 0; i < p->n_workers; i++) {
        struct worker *w = &p->worker[i];
        pthread_mutex_lock(&p->lock);
        bool ended = w->ended;
        pthread_mutex_unlock(&p->lock);
        if (ended)
            pthread_join(w->thread, NULL);
        if (w->runs && !ended)
            continue;
        w->runs = w->ended = false;
        pthread_mutex_lock(&p->lock);
        p->running++;
        pthread_mutex_unlock(&p->lock);
        int failure = thread_start(&w->thread, "fdl-loader", work, w);
        w->runs = !failure;
        if (!failure)
            continue;
        pthread_mutex_lock(&p->lock);
        p->running--;
        pthread_mutex_unlock(&p->lock);
        char why[128];
        return fdl_fail(failure == EAGAIN ? FDL_E_OOM : FDL_E_STATE, "worker %d can't be started: %s", i,
                        strerror_r(failure, why, sizeof why));
    }
    return FDL_OK;
}

/* ---- the consumer ------------------------------------------------------------------------------------------ */

static void add_seconds(struct timespec *t, double seconds)
{
    double whole = floor(seconds);
    t->tv_sec += (time_t)whole;
    t->tv_nsec += (long)((seconds - whole) * 1e9);
    if (t->tv_nsec >= 1000000000) {
        t->tv_sec++;
        t->tv_nsec -= 1000000000;
    }
}

/* Who has the batch, and since when. Under the lock. */
static fdl_status timed_out(const struct pipe *p, int64_t job)
{
    for (int i = 0; i < p->n_workers; i++) {
        const struct worker *w = &p->worker[i];
        if (w->job < 0 || (w->generation == p->generation && w->job != job))
            continue;
        return fdl_fail(FDL_E_TIMEOUT,
                        "no batch for %g s: worker %d has been in sample %lld since %.1f s ago", p->timeout,
                        i, (long long)atomic_load_explicit(&w->call.sample, memory_order_relaxed),
                        fdl_now() - w->since);
    }
    return fdl_fail(FDL_E_TIMEOUT, "no batch for %g s, and no worker at it", p->timeout);
}

/* Waits for the slot to be full. Under the lock. */
static fdl_status await_batch(struct pipe *p, int64_t job)
{
    struct slot *s = slot_of(p, job);
    if (s->full)
        return FDL_OK;
    double start = fdl_now();
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    add_seconds(&until, p->timeout);
    fdl_status status = FDL_OK;
    while (!s->full && status == FDL_OK) {
        if (!p->running)
            status = fdl_fail(FDL_E_STATE, "loader: worker stopped: callbacks have ended all of its threads");
        else if (p->timeout == 0)
            pthread_cond_wait(&p->ready, &p->lock);
        else if (pthread_cond_timedwait(&p->ready, &p->lock, &until) == ETIMEDOUT && !s->full)
            status = timed_out(p, job);
    }
    p->waited += fdl_now() - start;
    return status;
}

/* The slot's contents become the caller's. Under the lock. */
static fdl_status take(struct pipe *p, int64_t job, fdl_tensor **x)
{
    struct slot *s = slot_of(p, job);
    if (s->status != FDL_OK) {
        fdl_status status =
            fdl_fail(s->status, "%s", s->message && *s->message ? s->message : fdl_status_text(s->status));
        if (s->file)
            fdl_error_place(s->file, s->line);
        return status;
    }
    memcpy(x, s->at, sizeof s->at);
    memset(s->at, 0, sizeof s->at);
    fdl_event *free_one = p->sent;
    p->sent = s->sent;
    s->sent = free_one;
    s->full = false;
    p->taken = job + 1;
    pthread_cond_broadcast(&p->work);
    return FDL_OK;
}

/* The consumer's stream waits for the copy, and the memory for that stream. */
static fdl_status order_after_copy(struct pipe *p, fdl_tensor *const *x)
{
    fdl_stream *here = fdl_cuda_stream_current(p->dl->device);
    if (!here)
        return fdl_error_pending();
    fdl_status status = fdl_cuda_stream_wait_event(here, p->sent);
    for (int i = 0; i < p->dl->arity && status == FDL_OK; i++)
        status = fdl_record_stream(x[i], here);
    fdl_cuda_stream_free(here);
    return status;
}

static fdl_status next_ready(struct pipe *p, int64_t job, fdl_batch *b)
{
    pthread_mutex_lock(&p->lock);
    fdl_status status = await_batch(p, job);
    if (status == FDL_OK)
        status = take(p, job, b->at);
    pthread_mutex_unlock(&p->lock);
    if (status != FDL_OK)
        return status;
    for (int i = 0; i < p->dl->arity; i++)
        fdl_adopt(b->at[i]);
    return on_cuda(p->dl) ? order_after_copy(p, b->at) : FDL_OK;
}

static fdl_status send_here(struct pipe *p, fdl_tensor **x)
{
    fdl_stream *here = fdl_cuda_stream_current(p->dl->device);
    if (!here)
        return fdl_error_pending();
    fdl_status status = fdl_data_send(&p->staging, here, x);
    if (status == FDL_E_OOM) {
        fdl_clear_error();
        pthread_mutex_lock(&p->lock);
        p->fallbacks++;
        pthread_mutex_unlock(&p->lock);
        fdl_cuda_empty_cache();
        status = fdl_data_send(&p->staging, here, x);
    }
    fdl_cuda_stream_free(here);
    return status;
}

/* Without threads. */
static fdl_status fetch_here(struct pipe *p, int64_t job, fdl_batch *b)
{
    const fdl_loader *dl = p->dl;
    FDL_SCOPE;
    fdl_tensor *x[FDL_DATA_MAX] = {NULL};
    p->call.epoch = p->epoch;
    struct call_before before = fdl_data_call_begin(&p->call);
    fdl_status status = fdl_data_stage(&p->staging, b->indices, b->rows, x);
    fdl_data_call_end(before);
    FDL_TRY(status);
    if (on_cuda(dl))
        FDL_TRY(send_here(p, x));
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < dl->arity; i++) {
        p->bytes += fdl_nbytes(x[i]);
        b->at[i] = fdl_escape(x[i]);
    }
    p->taken = p->next_job = job + 1;
    pthread_mutex_unlock(&p->lock);
    return FDL_OK;
}

/* What the first step needed is measured now, if nobody did before. */
static void measure(struct pipe *p)
{
    if (note_peak(p) == FDL_OK)
        return;
    fdl_clear_error();
    pthread_mutex_lock(&p->lock);
    if (p->measuring)
        open_up(p);
    pthread_mutex_unlock(&p->lock);
}

fdl_status fdl_data_pipe_next(struct pipe *p, int64_t job, fdl_batch *b)
{
    const fdl_loader *dl = p->dl;
    if (on_cuda(dl) && fdl_cuda_is_capturing())
        return fdl_fail(FDL_E_STATE, "a capture is open on this thread; take the batch before it");
    if (p->measuring && job > p->first)
        measure(p);
    FDL_TRY(fdl_data_pipe_depth(p) ? next_ready(p, job, b) : fetch_here(p, job, b));
    FDL_NO_GRAD;
    for (int i = 0; i < dl->arity; i++)
        if (!(b->at[i] = fdl_data_divided(b->at[i], dl->by[i])))
            return fdl_error_pending();
    return FDL_OK;
}

/* ---- an epoch ------------------------------------------------------------------------------------------------ */

void fdl_data_pipe_cancel(struct pipe *p)
{
    pthread_mutex_lock(&p->lock);
    p->generation++;
    p->open_to = 0;
    p->measuring = false;
    for (int64_t i = 0; i < p->room; i++)
        empty_slot(&p->slots[i]);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
}

fdl_status fdl_data_pipe_begin(struct pipe *p, int64_t epoch, int64_t first)
{
    const fdl_loader *dl = p->dl;
    bool automatic = p->set_depth < 0;
    bool measuring = automatic && on_cuda(dl) && p->reserve < 0;
    int64_t depth = measuring   ? rule_limit(1, dl->batches)
                    : automatic ? measured_depth(p, p->reserve)
                                : rule_limit(p->set_depth, dl->batches);
    pthread_mutex_lock(&p->lock);
    p->first = p->taken = p->next_job = first;
    fdl_status status = depth ? make_slots(p, depth) : FDL_OK;
    pthread_mutex_unlock(&p->lock);
    FDL_TRY(status);
    if (depth)
        FDL_TRY(start_workers(p));
    pthread_mutex_lock(&p->lock);
    p->epoch = epoch;
    p->dtype = fdl_default_dtype();
    p->depth = depth;
    p->measuring = measuring && first < dl->batches;
    p->open_to = p->measuring ? first + 1 : depth ? dl->batches : 0;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    return FDL_OK;
}

void fdl_data_pipe_stats(struct pipe *p, fdl_data_stats *stats)
{
    pthread_mutex_lock(&p->lock);
    stats->waited = p->waited;
    stats->bytes = p->bytes;
    stats->fallbacks += p->fallbacks;
    stats->depth = p->depth;
    stats->workers = p->running;
    pthread_mutex_unlock(&p->lock);
    stats->pinned = atomic_load(&p->staging.bytes);
    for (int i = 0; i < p->n_workers; i++)
        stats->pinned += atomic_load(&p->worker[i].staging.bytes);
}

/* ---- life ------------------------------------------------------------------------------------------------------ */

static int cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

static int workers_for(const fdl_loader *dl, const fdl_loader_opts *o)
{
    if (o->workers)
        return o->workers;
    if (!dl->ds->single || dl->ds->v.flags & FDL_DATA_SERIAL)
        return 1;
    int n = cores() - 1;
    return n < 1 ? 1 : n < DEFAULT_WORKERS ? n : DEFAULT_WORKERS;
}

fdl_status fdl_data_pipe_new(fdl_loader *dl, const fdl_loader_opts *o)
{
    int n = workers_for(dl, o);
    int64_t most = dl->batch_size < dl->sampler->len ? dl->batch_size : dl->sampler->len;
    struct pipe *p = calloc(1, sizeof *p + (size_t)n * sizeof *p->worker);
    if (!p)
        return fdl_fail(FDL_E_OOM, "no memory");
    p->dl = dl;
    p->set_depth = o->prefetch == FDL_PREFETCH_NONE ? 0 : o->prefetch ? o->prefetch : -1;
    p->depth = rule_limit(p->set_depth >= 0 ? p->set_depth
                          : on_cuda(dl)     ? DEPTH_AT_START
                                            : DEPTH_OF_HOST,
                          dl->batches);
    p->timeout = o->timeout;
    p->reserve = -1;
    p->n_workers = n;
    p->call = (struct call){.seed = dl->seed, .sample = -1};
    fdl_data_staging_init(&p->staging, dl);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->work, NULL);
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&p->ready, &steady);
    pthread_condattr_destroy(&steady);
    bool good = true;
    for (int i = 0; i < n; i++) {
        struct worker *w = &p->worker[i];
        *w = (struct worker){.pipe = p, .job = -1, .call = {.seed = dl->seed, .sample = -1}};
        fdl_data_staging_init(&w->staging, dl);
        good = (w->idx = calloc((size_t)most + 1, sizeof *w->idx)) && good;
    }
    if (!good)
        fdl_fail(FDL_E_OOM, "no memory for %d times %lld indices", n, (long long)most);
    /* Of the other priority than captures' streams: no capture may come to run on this one. */
    else if (on_cuda(dl))
        good = (p->stream = fdl_cuda_stream_new(dl->device, .high_priority = true)) != NULL;
    if (good) {
        dl->pipe = p;
        return FDL_OK;
    }
    fdl_data_pipe_free(p);
    return fdl_error_pending();
}

void fdl_data_pipe_free(struct pipe *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_workers; i++) {
        struct worker *w = &p->worker[i];
        if (w->runs)
            pthread_join(w->thread, NULL);
        fdl_data_staging_free(&w->staging);
        fdl_cuda_event_free(w->sent);
        free(w->idx);
    }
    free_slots(p->slots, p->room);
    fdl_data_staging_free(&p->staging);
    fdl_cuda_event_free(p->sent);
    fdl_cuda_stream_free(p->stream);
    pthread_cond_destroy(&p->work);
    pthread_cond_destroy(&p->ready);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
