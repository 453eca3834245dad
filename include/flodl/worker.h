/* A thread that works in the background, one job after the other: saving, sending, whatever must not hold up the training.
 *
 *     fdl_worker *w = fdl_worker_new();
 *     ...
 *     FDL_CHECK(fdl_ckpt_save_async(w, model, "run-000400.fdl", .optim = opt, .keep_last = 3));
 *     ...                                                     train on
 *     FDL_CHECK(fdl_worker_wait(w));                          all saved, or the first error
 *     fdl_worker_free(w);
 */
#ifndef FLODL_WORKER_H
#define FLODL_WORKER_H

#include "flodl/snapshot.h"

FDL_BEGIN_DECLS

/* Any thread may use it, but fdl_worker_free, which is the last call. */
typedef struct fdl_worker fdl_worker;

typedef struct fdl_worker_opts {
    fdl_by_name opts_;
    int queue; /* jobs that may wait, beside the one that runs; default 0: any number */
} fdl_worker_opts;
/* Owned: fdl_worker_free. queue < 0: FDL_E_ARG. */
FDL_API fdl_worker *fdl_worker_new_opt(const fdl_worker_opts *opts);
/* Waits until all jobs are done, ends the thread; not to be called in a job. Errors that nobody asked for with fdl_worker_wait are lost. NULL:
 * nothing. */
FDL_API void fdl_worker_free(fdl_worker *w);

typedef struct fdl_worker_submit_opts {
    fdl_by_name opts_;
    void (*drop)(
        void *arg); /* called with arg once: after the job, or where it never runs, as when this call fails */
} fdl_worker_submit_opts;
/* Puts a job at the end of the queue; waits while the queue is full. The job runs in a scope of its own, without recording,
 * and may submit jobs, which don't wait for room. After fdl_worker_free has begun, as in a job: FDL_E_STATE. */
FDL_API fdl_status fdl_worker_submit_opt(fdl_worker *w, fdl_status (*job)(void *arg), void *arg,
                                         const fdl_worker_submit_opts *opts);
/* Nothing waits and nothing runs; true on NULL. */
FDL_API bool fdl_worker_idle(fdl_worker *w);
/* Jobs that wait or run; -1 on NULL. */
FDL_API int64_t fdl_worker_pending(fdl_worker *w);
/* Waits until nothing waits and nothing runs. The error of the first job that failed since the last call, with its message;
 * the jobs behind it have run all the same. In a job: FDL_E_STATE. */
FDL_API fdl_status fdl_worker_wait(fdl_worker *w);

/* ---- saving ---------------------------------------------------------------------------------------- */

/* fdl_ckpt_save in the background: copies what is to be saved now, as fdl_ckpt_snapshot does, and leaves the writing to the
 * worker. An option that can't be, a model that can't be copied: the error at once; what goes wrong in writing is
 * fdl_worker_wait's. .skip_if_busy: nothing is done while the worker has jobs, and *skipped tells. */
FDL_API fdl_status fdl_ckpt_save_async_opt(fdl_worker *w, fdl_module *m, const char *path,
                                           const fdl_ckpt_save_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_worker_new(...) fdl_worker_new_opt(&(fdl_worker_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_worker_submit(w, job, ...) fdl_worker_submit_(w, job, __VA_ARGS__, .opts_ = 0)
#define fdl_worker_submit_(w, job, arg, ...) \
    fdl_worker_submit_opt(w, job, arg, &(fdl_worker_submit_opts){__VA_ARGS__})
#define fdl_ckpt_save_async(w, m, ...) fdl_ckpt_save_async_(w, m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_async_(w, m, path, ...) \
    fdl_ckpt_save_async_opt(w, m, path, &(fdl_ckpt_save_opts){__VA_ARGS__})
#endif

#endif
