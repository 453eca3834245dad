/* The training monitor: a line for each epoch with the time that remains, a live line within the epoch, the
 * load of the machine, and the record of all epochs.
 *
 * It observes and never changes training, and it needs no tensors: numbers go in, text comes out. Of a graph it takes the
 * metrics that were flushed last. Epochs are
 * counted from 0 here and shown from 1. A monitor is used by one thread at a time; different monitors may be
 * used by different threads at once. It starts no thread of its own. */
#ifndef FLODL_MONITOR_H
#define FLODL_MONITOR_H

#include "flodl/metric.h"
#include "flodl/module.h"

FDL_BEGIN_DECLS

typedef struct fdl_monitor fdl_monitor;

/* ---- metrics ----------------------------------------------------------------------------------- */

/* Metrics are arrays that end in FDL_METRIC_END, as FDL_METRICS({"loss", loss}, {"lr", lr}) writes them. The
 * monitor copies the names. */

enum { FDL_MONITOR_MAX_METRICS = 256 }; /* in one call */

/* ---- a run ------------------------------------------------------------------------------------- */

typedef struct fdl_monitor_opts {
    fdl_by_name opts_;
    FILE *out;      /* where the lines go; borrowed until the monitor is freed. Default: stdout */
    bool quiet;     /* no lines; records, ETA and statuses as ever */
    bool resources; /* each epoch's line ends with "CPU: 45%  RSS: 312 MB", this machine's and process's */
    double (*clock)(void *ctx); /* seconds that never go back. Default: fdl_now */
    void *clock_ctx;
} fdl_monitor_opts;
/* A monitor for a run of total_epochs epochs; 0: not known, then there is no ETA. Owned: fdl_monitor_free. A
 * negative total: FDL_E_ARG. */
FDL_API fdl_monitor *fdl_monitor_new_opt(int64_t total_epochs, const fdl_monitor_opts *opts);

typedef struct fdl_monitor_log_opts {
    fdl_by_name opts_;
    /* The metrics of this graph, fdl_graph_latest_metrics, as they are: flush it before. */
    fdl_module *graph;
    /* Shown behind those of the graph, in this order. Of a name that comes twice the later value counts, at the first one's
     * place. */
    const fdl_metric *metrics;
    int64_t samples; /* samples of this epoch: adds the metric "samples/s", samples / seconds */
} fdl_monitor_log_opts;
/* Epoch `epoch` has ended and took `seconds`, as the caller measured it: records it and writes its line. The
 * ETA is made from the time between the calls, so that evaluation and checkpoints count. On GPUs in use the
 * line ends with the memory that this process's allocator holds there: `VRAM: 2.1/6.0 GB`.
 *
 * FDL_E_ARG: epoch or samples below 0, a NULL or empty name, more than FDL_MONITOR_MAX_METRICS metrics, a .graph that is
 * none; nothing is recorded. FDL_E_STATE: after fdl_monitor_finish. After these the epoch counts all the same:
 * FDL_E_OOM, it isn't recorded; FDL_E_IO, its line can't be written; FDL_E_CANCELLED, a signal came. */
FDL_API fdl_status fdl_monitor_log_opt(fdl_monitor *mon, int64_t epoch, double seconds,
                                       const fdl_monitor_log_opts *opts);

/* Writes `  training complete in 2.8s  | loss: 0.0012`, with the metrics of the last epoch; after a signal
 * `  training stopped by SIGINT after 2.8s`. A second call does nothing. FDL_E_IO: it can't be written. */
FDL_API fdl_status fdl_monitor_finish(fdl_monitor *mon);
/* Ends a live line that is still there, and frees. NULL: nothing. */
FDL_API void fdl_monitor_free(fdl_monitor *mon);

/* ---- within an epoch --------------------------------------------------------------------------- */

/* Epoch `epoch` begins now. Optional: the time of a run counts from the first of these calls, without it from
 * the first fdl_monitor_progress, without both from fdl_monitor_new. A resumed run says here where it goes
 * on, so that the live line of its first epoch has the right number. epoch < 0: FDL_E_ARG. After
 * fdl_monitor_finish: FDL_E_STATE. */
FDL_API fdl_status fdl_monitor_begin(fdl_monitor *mon, int64_t epoch);

typedef struct fdl_monitor_progress_opts {
    fdl_by_name opts_;
    const fdl_metric *metrics; /* as in fdl_monitor_log */
    int64_t samples;           /* samples of this epoch so far: adds "samples/s" */
} fdl_monitor_progress_opts;
/* `batch` of the `batches` batches of this epoch are done (batches 0: not known). On a terminal, at most four
 * times a second, the live line is written anew; fdl_monitor_log puts the epoch's line in its place.
 * Elsewhere nothing is written. A call that writes nothing reads the clock and costs well under a
 * microsecond.
 *
 * FDL_E_ARG: batch or batches below 0, metrics and samples as in fdl_monitor_log. FDL_E_STATE: after
 * fdl_monitor_finish. FDL_E_IO: the line can't be written. FDL_E_CANCELLED: a signal came. */
FDL_API fdl_status fdl_monitor_progress_opt(fdl_monitor *mon, int64_t batch, int64_t batches,
                                            const fdl_monitor_progress_opts *opts);
/* Takes the live line off the terminal, so that the program can write lines of its own; the next progress
 * brings it back. Nothing where there is none. */
FDL_API fdl_status fdl_monitor_clear(fdl_monitor *mon);

/* ---- asking ------------------------------------------------------------------------------------ */

/* Seconds until the last epoch ends, as of the last log or progress: the exponentially weighted time of an
 * epoch, times the epochs that remain. NaN when the total or the time of an epoch isn't known yet, or on
 * NULL; 0 past the total. */
FDL_API double fdl_monitor_eta(const fdl_monitor *mon);

/* What the machine and this process used. CPU and RAM are those of the control group (container) where it
 * sets a limit below the machine's, unless FLODL_HOST_STATS=1. Sampled by fdl_monitor_log, at most 20 times a
 * second. */
typedef struct fdl_monitor_resources {
    double cpu; /* per cent of all processors, 0..100, the mean since the sample before; NaN: not known */
    int64_t ram_used;  /* bytes; -1: not known */
    int64_t ram_total; /* bytes; -1: not known */
    int64_t rss;       /* bytes of this process that are resident; -1: not known */
} fdl_monitor_resources;

typedef struct fdl_monitor_record {
    int64_t epoch;             /* from 0 */
    double seconds;            /* as the caller gave it */
    const fdl_metric *metrics; /* [n_metrics], borrowed from the monitor */
    int64_t n_metrics;
    fdl_monitor_resources resources;
} fdl_monitor_record;
/* All epochs so far, [*n]; borrowed, valid until the next fdl_monitor_log or free. *n is 0 and the result
 * NULL when there are none, or on NULL. */
FDL_API const fdl_monitor_record *fdl_monitor_history(const fdl_monitor *mon, int64_t *n);

/* Writes "CPU: 45% | RAM: 3.2 GB/7.8 GB | RSS: 312 MB" of the last epoch (before it: of now) to buf of n
 * bytes, cut to fit, parts that aren't known left out; returns buf. "" on NULL. */
FDL_API char *fdl_monitor_summary(fdl_monitor *mon, char *buf, size_t n);

/* ---- stopping on a signal ------------------------------------------------------------------------ */

/* Catches SIGINT and SIGTERM from now on, until the monitor is freed: after the first one fdl_monitor_log and
 * fdl_monitor_progress return FDL_E_CANCELLED, so that the loop ends and the program can save; a second one
 * of the same kind ends the process. One that was ignored stays so. Without this call the library catches
 * nothing. Signals belong to the process, so one monitor at a time: FDL_E_STATE when another one has them. */
FDL_API fdl_status fdl_monitor_on_signal(fdl_monitor *mon);
/* The signal that came since, or 0. */
FDL_API int fdl_monitor_signal(const fdl_monitor *mon);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_monitor_new(...) fdl_monitor_new_(__VA_ARGS__, .opts_ = 0)
#define fdl_monitor_new_(total, ...) fdl_monitor_new_opt(total, &(fdl_monitor_opts){__VA_ARGS__})
#define fdl_monitor_log(mon, epoch, ...) fdl_monitor_log_(mon, epoch, __VA_ARGS__, .opts_ = 0)
#define fdl_monitor_log_(mon, epoch, seconds, ...) \
    fdl_monitor_log_opt(mon, epoch, seconds, &(fdl_monitor_log_opts){__VA_ARGS__})
#define fdl_monitor_progress(mon, batch, ...) fdl_monitor_progress_(mon, batch, __VA_ARGS__, .opts_ = 0)
#define fdl_monitor_progress_(mon, batch, batches, ...) \
    fdl_monitor_progress_opt(mon, batch, batches, &(fdl_monitor_progress_opts){__VA_ARGS__})
#endif

#endif
