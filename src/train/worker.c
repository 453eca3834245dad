/* One thread that takes jobs in order, and saving by it. All that threads share is under one lock; jobs run outside of it. */
#include "flodl/worker.h"

#include "../base/thread.h"
#include "ckpt_private.h"

#include <errno.h>
#include <pthread.h>

typedef struct job {
    fdl_status (*run)(void *arg);
    void *arg;
    void (*drop)(void *arg);
    struct job *next;
} job;

struct fdl_worker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, change; /* there may be something to do; a job was taken, or is done */
    job *first, **end;
    int64_t waiting, running;
    int64_t room; /* 0: no bound */
    bool closing;
    fdl_status failed; /* of the first job since the last wait */
    char *message;     /* NULL: no memory for it */
    const char *file;
    int line;
};

/* ---- the thread ----------------------------------------------------------------------------------------- */

/* The job's error, which is this thread's, kept for whoever waits. */
static void note_failure(fdl_worker *w, fdl_status status)
{
    const fdl_error *e = fdl_last_error();
    char *message = strdup(e->message);
    const char *file = e->file;
    int line = e->line;
    fdl_clear_error();
    pthread_mutex_lock(&w->lock);
    if (w->failed == FDL_OK) {
        w->failed = status;
        w->message = message;
        w->file = file;
        w->line = line;
        message = NULL;
    }
    pthread_mutex_unlock(&w->lock);
    free(message);
}

static void run_one(fdl_worker *w, job *j)
{
    fdl_status status;
    {
        FDL_SCOPE;
        FDL_NO_GRAD;
        fdl_clear_error();
        status = j->run(j->arg);
        if (status != FDL_OK)
            note_failure(w, status);
        if (j->drop)
            j->drop(j->arg);
    }
    free(j);
}

static void *work(void *self)
{
    fdl_worker *w = self;
    pthread_mutex_lock(&w->lock);
    for (;;) {
        while (!w->first && !w->closing)
            pthread_cond_wait(&w->work, &w->lock);
        job *j = w->first;
        if (!j)
            break;
        w->first = j->next;
        if (!w->first)
            w->end = &w->first;
        w->waiting--;
        w->running = 1;
        pthread_cond_broadcast(&w->change);
        pthread_mutex_unlock(&w->lock);
        run_one(w, j);
        pthread_mutex_lock(&w->lock);
        w->running = 0;
        pthread_cond_broadcast(&w->change);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- making and ending ------------------------------------------------------------------------------------ */

static void release(fdl_worker *w)
{
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->change);
    free(w->message);
    free(w);
}

fdl_worker *fdl_worker_new_opt(const fdl_worker_opts *opts)
{
    int queue = opts ? opts->queue : 0;
    if (queue < 0)
        return fdl_fail_null(FDL_E_ARG, "fdl_worker_new: .queue is %d; it must be 0 or more", queue);
    fdl_worker *w = calloc(1, sizeof *w);
    if (!w)
        return fdl_fail_null(FDL_E_OOM, "fdl_worker_new: memory ran out");
    w->end = &w->first;
    w->room = queue;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->work, NULL);
    pthread_cond_init(&w->change, NULL);
    int failure = thread_start(&w->thread, "fdl-worker", work, w);
    if (!failure)
        return w;
    char why[128];
    release(w);
    return fdl_fail_null(failure == EAGAIN ? FDL_E_OOM : FDL_E_STATE,
                         "fdl_worker_new: the thread can't be started: %s",
                         strerror_r(failure, why, sizeof why));
}

void fdl_worker_free(fdl_worker *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->work);
    pthread_cond_broadcast(&w->change); /* who waits for room gives up */
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    release(w);
}

/* ---- jobs --------------------------------------------------------------------------------------------------- */

static bool in_job(const fdl_worker *w)
{
    return pthread_equal(w->thread, pthread_self());
}

static fdl_status append(fdl_worker *w, job *j)
{
    pthread_mutex_lock(&w->lock);
    while (w->room && w->waiting >= w->room && !w->closing && !in_job(w))
        pthread_cond_wait(&w->change, &w->lock);
    bool closing = w->closing;
    if (!closing) {
        *w->end = j;
        w->end = &j->next;
        w->waiting++;
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
    return closing ? fdl_fail(FDL_E_STATE, "fdl_worker_submit: the worker is being freed") : FDL_OK;
}

fdl_status fdl_worker_submit_opt(fdl_worker *w, fdl_status (*run)(void *arg), void *arg,
                                 const fdl_worker_submit_opts *opts)
{
    void (*drop)(void *) = opts ? opts->drop : NULL;
    fdl_status status;
    job *j = NULL;
    if (!w || !run)
        status = fdl_null_operand("fdl_worker_submit", w ? "job" : "w");
    else if (!(j = malloc(sizeof *j)))
        status = fdl_fail(FDL_E_OOM, "fdl_worker_submit: memory ran out");
    else {
        *j = (job){.run = run, .arg = arg, .drop = drop};
        status = append(w, j);
    }
    if (status == FDL_OK)
        return FDL_OK;
    free(j);
    if (drop)
        drop(arg);
    return status;
}

int64_t fdl_worker_pending(fdl_worker *w)
{
    if (!w) {
        fdl_null_operand(__func__, "w");
        return -1;
    }
    pthread_mutex_lock(&w->lock);
    int64_t n = w->waiting + w->running;
    pthread_mutex_unlock(&w->lock);
    return n;
}

bool fdl_worker_idle(fdl_worker *w)
{
    if (!w)
        fdl_null_operand(__func__, "w");
    return !w || fdl_worker_pending(w) == 0;
}

fdl_status fdl_worker_wait(fdl_worker *w)
{
    if (!w)
        return fdl_null_operand(__func__, "w");
    if (in_job(w))
        return fdl_fail(FDL_E_STATE, "fdl_worker_wait: a job can't wait for the worker that runs it");
    pthread_mutex_lock(&w->lock);
    while (w->waiting || w->running)
        pthread_cond_wait(&w->change, &w->lock);
    fdl_status status = w->failed;
    char *message = w->message;
    const char *file = w->file;
    int line = w->line;
    w->failed = FDL_OK;
    w->message = NULL;
    pthread_mutex_unlock(&w->lock);
    if (status != FDL_OK) {
        status = fdl_fail(status, "%s", message && *message ? message : fdl_status_text(status));
        if (file)
            fdl_error_place(file, line);
        free(message);
    }
    return status;
}

/* ---- saving --------------------------------------------------------------------------------------------------- */

typedef struct save_job {
    fdl_snapshot *snapshot;
    fdl_ckpt_save_opts o; /* how it is written */
    char path[];
} save_job;

static fdl_status run_save(void *arg)
{
    save_job *s = arg;
    fdl_status status = fdl_snapshot_save_opt(s->snapshot, s->path, &s->o);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save_async: ");
    return status;
}

static void drop_save(void *arg)
{
    save_job *s = arg;
    fdl_snapshot_free(s->snapshot);
    free(s);
}

static fdl_status save_async(fdl_worker *w, fdl_module *m, const char *path, const fdl_ckpt_save_opts *o)
{
    FDL_TRY(ckpt_check_save(o, path));
    bool skips = o->skip_if_busy && !fdl_worker_idle(w);
    if (o->skipped)
        *o->skipped = skips;
    if (skips)
        return FDL_OK;
    save_job *s = malloc(sizeof *s + strlen(path) + 1);
    if (!s)
        return fdl_fail(FDL_E_OOM, "memory ran out");
    memcpy(s->path, path, strlen(path) + 1);
    fdl_ckpt_save_opts taken = *o;
    taken.dtype = FDL_DTYPE_DEFAULT;
    taken.level = taken.keep_last = 0;
    taken.shard_bytes = 0;
    taken.skip_if_busy = false;
    taken.skipped = NULL;
    s->o = (fdl_ckpt_save_opts){
        .dtype = o->dtype, .level = o->level, .shard_bytes = o->shard_bytes, .keep_last = o->keep_last};
    s->snapshot = fdl_ckpt_snapshot_opt(m, &taken);
    if (!s->snapshot) {
        free(s);
        return fdl_error_pending();
    }
    return fdl_worker_submit(w, run_save, s, .drop = drop_save);
}

fdl_status fdl_ckpt_save_async_opt(fdl_worker *w, fdl_module *m, const char *path,
                                   const fdl_ckpt_save_opts *opts)
{
    if (!w || !m || !path)
        return fdl_null_operand("fdl_ckpt_save_async", !w ? "w" : !m ? "m" : "path");
    fdl_status status = save_async(w, m, path, opts ? opts : &(fdl_ckpt_save_opts){0});
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save_async: ");
    return status;
}
