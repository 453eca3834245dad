/* Watching a graph train: numbers of batches become points of epochs, and these trends, files and events.
 *
 *     for (int epoch = 0; epoch < 100; epoch++) {
 *         for each batch {
 *             ... forward, loss, backward, step ...
 *             fdl_graph_record_tensor(model, "loss", loss);        any name; stays on the GPU
 *             fdl_graph_collect(model, "hidden");                  the mean of a tagged value; stays there, too
 *         }
 *         fdl_graph_flush(model);                                  the epoch's means; one transfer
 *         if (fdl_trend_stalled(fdl_graph_trend(model, "loss"), 5, 1e-4))
 *             break;
 *     }
 *     fdl_graph_export_csv(model, "training.csv");
 *
 * A graph has, for each metric, a buffer of numbers since the last flush, and a history of one point a flush.
 * Names are free: non-empty UTF-8 without control characters. Those of tags mean nothing more here than others,
 * but for fdl_graph_collect. Where a list of names is taken, the name of a tag group stands for its members.
 *
 * Numbers on a device are copied there when they are handed over, and come to the host all together when a flush
 * or fdl_graph_collected wants them; until then nothing waits for the device. So what is collected between two
 * replays of a captured step (fdl_trainer, fdl_step_graph) is what the replay before it has computed. Inside a
 * capture collecting is FDL_E_STATE: it would run once, and never again with the replays.
 *
 * Graphs with a label inside of g are its children, and have metrics of their own; paths of tree.h lead to them. */
#ifndef FLODL_OBSERVE_H
#define FLODL_OBSERVE_H

#include "flodl/index.h"
#include "flodl/metric.h"
#include "flodl/module.h"
#include "flodl/trend.h"

FDL_BEGIN_DECLS

/* ---- within an epoch ----------------------------------------------------------------------------------- */

typedef struct fdl_record_opts {
    fdl_by_name opts_;
    double weight; /* in the mean of the flush: the samples of a batch; default 1 */
} fdl_record_opts;
/* `fdl_graph_record(g, "loss", v)`: adds a number to a metric's buffer. A weight below 0, or not finite:
 * FDL_E_ARG. */
FDL_API fdl_status fdl_graph_record_opt(fdl_module *g, const char *name, double value,
                                        const fdl_record_opts *opts);
/* Adds n numbers, each of weight 1. */
FDL_API fdl_status fdl_graph_record_of(fdl_module *g, const char *name, int64_t n, const double *values);
/* `fdl_graph_record_tensor(g, "loss", loss)`: adds the element of a tensor that has one, as it is now, without waiting for
 * its device. More elements or fewer: FDL_E_SHAPE. In a capture: FDL_E_STATE. */
FDL_API fdl_status fdl_graph_record_tensor_opt(fdl_module *g, const char *name, fdl_tensor *x,
                                               const fdl_record_opts *opts);

typedef struct fdl_collect_opts {
    fdl_by_name opts_;
    fdl_opt_i64 reduce; /* FDL_SOME(an fdl_reduce_kind); default FDL_REDUCE_MEAN */
    double weight;      /* as in fdl_graph_record */
} fdl_collect_opts;
/* `fdl_graph_collect(g, "hidden", "heads")`: adds the current value of each tag to the buffer of the metric of its
 * name, several elements as their mean, without waiting for the device. A tag that no forward has computed so far
 * is left out. Neither tag nor group: FDL_E_ARG. No elements: FDL_E_SHAPE. On failure nothing is added.
 *
 * `fdl_graph_collect_with(g, FDL_REDUCE_NORM, "hidden")`: several elements as their mean, sum, product, largest,
 * smallest, or 2-norm; with FDL_REDUCE_SCALAR they are FDL_E_SHAPE. */
FDL_API fdl_status fdl_graph_collect_of(fdl_module *g, int n, const char *const *names,
                                        const fdl_collect_opts *opts);
/* The numbers of a metric since the last flush, *n of them; scope. Waits for those that are on a device. None: NULL,
 * without an error. */
FDL_API const double *fdl_graph_collected(fdl_module *g, const char *name, int64_t *n);

/* ---- the end of an epoch ------------------------------------------------------------------------------- */

/* `fdl_graph_flush(g)`, `fdl_graph_flush(g, "loss")`: the mean of the buffer of each metric (no names: of every
 * one) becomes the next point of its history, and the buffer is empty; a metric with an empty buffer, or none of that
 * name, gets no point. The mean is sum(weight value) / sum(weight), so NaN among the values gives NaN. Then each child is
 * flushed whole, whatever the names, and their children. fdl_graph_end_epoch does this, too. On failure (FDL_E_OOM, or
 * the device's error) nothing has happened. */
FDL_API fdl_status fdl_graph_flush_of(fdl_module *g, int n, const char *const *names);
/* The same without the children. */
FDL_API fdl_status fdl_graph_flush_local_of(fdl_module *g, int n, const char *const *names);
/* How often a flush of this graph produced a point; -1 on failure. */
FDL_API int64_t fdl_graph_flush_count(fdl_module *g);
/* Forgets the histories (no names: all), and so what exports write. Buffers stay. */
FDL_API fdl_status fdl_graph_reset_trend_of(fdl_module *g, int n, const char *const *names);

/* The last point of each metric, with FDL_METRIC_END behind; *n of them, unless n is NULL. Scope. First g's own in the
 * order in which they were first recorded, then those of each child with "label." in front. A child that is flushed at a
 * pace of its own shows its last one. NULL on failure. */
FDL_API const fdl_metric *fdl_graph_latest_metrics(fdl_module *g, int *n);
/* g's own only. */
FDL_API const fdl_metric *fdl_graph_latest_metrics_local(fdl_module *g, int *n);

/* ---- over the epochs ----------------------------------------------------------------------------------- */

/* The history of a metric, to which later points come, too: borrowed, valid as long as the graph. A name that is new
 * here: a trend without points. NULL on failure. */
FDL_API const fdl_trend *fdl_graph_trend(fdl_module *g, const char *name);
/* `fdl_graph_trends(g, "loss", "heads")`: several; scope. */
FDL_API const fdl_trends *fdl_graph_trends_of(fdl_module *g, int n, const char *const *names);
/* Seconds that `total` epochs still take, at the mean time of the flushes so far: elapsed at the last one / their
 * number, times those that remain. 0 before the first flush and past the total, NaN on failure. Time counts from the
 * graph's first forward; a graph that was never forwarded, from its first record. */
FDL_API double fdl_graph_eta(fdl_module *g, int64_t total);
/* The clock of time stamps and of the ETA, in seconds that never go back; NULL: fdl_now, as by default. To be set
 * before the first forward. */
FDL_API fdl_status fdl_graph_set_clock(fdl_module *g, double (*clock)(void *ctx), void *ctx);

/* ---- at a path ------------------------------------------------------------------------------------------- */

/* fdl_graph_record of the graph that the path leads into: `fdl_graph_record_at(g, "encoder.scan.loss", v)`. All but
 * its last segment is the path of a graph, else FDL_E_ARG; the last one is any name without a dot. A path of one segment
 * is a metric of g itself. */
FDL_API fdl_status fdl_graph_record_at_opt(fdl_module *g, const char *path, double value,
                                           const fdl_record_opts *opts);
/* fdl_graph_trend likewise: NULL and FDL_E_ARG only where the path of the graph is wrong. */
FDL_API const fdl_trend *fdl_graph_trend_at(fdl_module *g, const char *path);
/* `fdl_graph_collect_at(g, "encoder.hidden", ...)`: fdl_graph_collect of the graph that each path leads into; the
 * path must be a tag's. */
FDL_API fdl_status fdl_graph_collect_at_of(fdl_module *g, int n, const char *const *paths,
                                           const fdl_collect_opts *opts);

/* ---- histograms ---------------------------------------------------------------------------------------- */

/* How the elements of one epoch are spread. Bucket i counts those from limits[i - 1] up to, not including, limits[i]; the
 * first has everything below limits[0]. The limits are TensorBoard's, 10 % apart, those that are needed. */
typedef struct fdl_histogram {
    int64_t n;            /* buckets */
    const double *limits; /* [n], rising */
    const double *counts; /* [n] */
    double num;           /* elements that are finite: all numbers here are theirs */
    double min, max;      /* +inf and -inf without any */
    double sum, sum_squares;
    double nonfinite; /* how many elements were not */
    int64_t epoch;    /* of its flush, from 1 */
} fdl_histogram;
/* `fdl_graph_collect_histogram(g, "hidden")`: counts all elements of the tags' values into their histograms of this epoch, on
 * their device, without waiting for it: several batches add up, a flush ends them. Errors as fdl_graph_collect. */
FDL_API fdl_status fdl_graph_collect_histogram_of(fdl_module *g, int n, const char *const *names);
/* The same for any tensor, under any name: weights, gradients. x of any shape and dtype, with elements. */
FDL_API fdl_status fdl_graph_record_histogram(fdl_module *g, const char *name, fdl_tensor *x);
/* The histograms of a name, *n of them, a flush each, the oldest first; borrowed until the next flush. None: NULL, without
 * an error. */
FDL_API const fdl_histogram *const *fdl_graph_histograms(fdl_module *g, const char *name, int *n);

/* ---- files --------------------------------------------------------------------------------------------- */

/* Each takes names: of metrics, of groups, and paths such as "encoder.loss" into the graphs below; none: all of g's own
 * metrics that have points, sorted. Names without points are left out; nothing left: FDL_E_STATE, flush first. A file
 * appears complete or not at all: FDL_E_IO, and what was there before stays.
 *
 * An epoch in them is a round of flushes: flushing "loss" and then "accuracy" makes one, and a metric that comes every fifth
 * epoch stands in every fifth row. */

/* `fdl_graph_export_csv(g, "training.csv", "loss")`: header "epoch,loss", a row an epoch from 1, eight decimals, an empty
 * cell where there is no point; names quoted as in RFC 4180. */
FDL_API fdl_status fdl_graph_export_csv_of(fdl_module *g, const char *path, int n, const char *const *names);
/* `fdl_graph_write_log(g, "training.log", 100)`: lines as the monitor writes them, for people:
 * "epoch   1  loss=1.5264  [49ms  ETA 4.8s]", with the time of the epoch, and of those that remain of `total`. */
FDL_API fdl_status fdl_graph_write_log_of(fdl_module *g, const char *path, int64_t total, int n,
                                          const char *const *names);
/* `fdl_graph_export_jsonl(g, "training.jsonl")`: a JSON object a line and epoch: "epoch" from 1; "seconds" that it took,
 * "elapsed" since the graph began, "time" since 1970, as far as g itself was flushed; "metrics", names with numbers of
 * full precision, null where they aren't finite; "histograms", where there are any, with the fields of fdl_histogram. */
FDL_API fdl_status fdl_graph_export_jsonl_of(fdl_module *g, const char *path, int n,
                                             const char *const *names);

FDL_END_DECLS

#ifndef __cplusplus
/* A list of names behind a graph; v is a fresh name. */
#define FDL_OBSERVE_LIST_(v, f, g, ...)               \
    __extension__({                                   \
        const char *const v[] = {NULL, __VA_ARGS__};  \
        f(g, (int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define FDL_OBSERVE_OPTS_(v, f, g, o, ...)               \
    __extension__({                                      \
        const char *const v[] = {NULL, __VA_ARGS__};     \
        f(g, (int)(sizeof v / sizeof *v) - 1, v + 1, o); \
    })
#define FDL_OBSERVE_(f, ...) FDL_OBSERVE_LIST_(FDL_CAT(fdl_names_, __COUNTER__), f, __VA_ARGS__)
#define fdl_graph_record(g, name, ...) fdl_graph_record_(g, name, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_record_(g, name, v, ...) fdl_graph_record_opt(g, name, v, &(fdl_record_opts){__VA_ARGS__})
#define fdl_graph_record_tensor(g, name, ...) fdl_graph_record_tensor_(g, name, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_record_tensor_(g, name, x, ...) \
    fdl_graph_record_tensor_opt(g, name, x, &(fdl_record_opts){__VA_ARGS__})
#define fdl_graph_record_at(g, path, ...) fdl_graph_record_at_(g, path, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_record_at_(g, path, v, ...) \
    fdl_graph_record_at_opt(g, path, v, &(fdl_record_opts){__VA_ARGS__})
#define fdl_graph_collect(g, ...) \
    FDL_OBSERVE_OPTS_(FDL_CAT(fdl_names_, __COUNTER__), fdl_graph_collect_of, g, NULL, __VA_ARGS__)
/* Several elements as what `reduction`, an fdl_reduce_kind, makes of them: the mean, the sum, ... */
#define fdl_graph_collect_with(g, reduction, ...)                                \
    FDL_OBSERVE_OPTS_(FDL_CAT(fdl_names_, __COUNTER__), fdl_graph_collect_of, g, \
                      (&(fdl_collect_opts){.reduce = FDL_SOME(reduction)}), __VA_ARGS__)
/* fdl_graph_collect with a weight in the mean of the flush: the number of samples of the batch. */
#define fdl_graph_collect_weighted(g, samples, ...)                              \
    FDL_OBSERVE_OPTS_(FDL_CAT(fdl_names_, __COUNTER__), fdl_graph_collect_of, g, \
                      (&(fdl_collect_opts){.weight = (double)(samples)}), __VA_ARGS__)
#define fdl_graph_collect_at(g, ...) \
    FDL_OBSERVE_OPTS_(FDL_CAT(fdl_names_, __COUNTER__), fdl_graph_collect_at_of, g, NULL, __VA_ARGS__)
#define fdl_graph_collect_histogram(...) FDL_OBSERVE_(fdl_graph_collect_histogram_of, __VA_ARGS__, )
#define fdl_graph_flush(...) FDL_OBSERVE_(fdl_graph_flush_of, __VA_ARGS__, )
#define fdl_graph_flush_local(...) FDL_OBSERVE_(fdl_graph_flush_local_of, __VA_ARGS__, )
#define fdl_graph_reset_trend(...) FDL_OBSERVE_(fdl_graph_reset_trend_of, __VA_ARGS__, )
#define fdl_graph_export_csv(g, ...) FDL_OBSERVE_FILE_(fdl_graph_export_csv_of, g, __VA_ARGS__, )
#define fdl_graph_export_jsonl(g, ...) FDL_OBSERVE_FILE_(fdl_graph_export_jsonl_of, g, __VA_ARGS__, )
#define FDL_OBSERVE_FILE_(f, g, path, ...) \
    FDL_OBSERVE_FILE_LIST_(FDL_CAT(fdl_names_, __COUNTER__), f, g, path, __VA_ARGS__)
#define FDL_OBSERVE_FILE_LIST_(v, f, g, path, ...)          \
    __extension__({                                         \
        const char *const v[] = {NULL, __VA_ARGS__};        \
        f(g, path, (int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define fdl_graph_write_log(g, path, ...) fdl_graph_write_log_(g, path, __VA_ARGS__, )
#define fdl_graph_write_log_(g, path, total, ...) \
    FDL_OBSERVE_LOG_(FDL_CAT(fdl_names_, __COUNTER__), g, path, total, __VA_ARGS__)
#define FDL_OBSERVE_LOG_(v, g, path, total, ...)                                        \
    __extension__({                                                                     \
        const char *const v[] = {NULL, __VA_ARGS__};                                    \
        fdl_graph_write_log_of(g, path, total, (int)(sizeof v / sizeof *v) - 1, v + 1); \
    })
#define fdl_graph_trends(...) FDL_OBSERVE_(fdl_graph_trends_of, __VA_ARGS__, )
#endif

#endif
