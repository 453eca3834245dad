/* Files that TensorBoard reads: scalars, histograms and texts over steps.
 *
 *     fdl_events *ev = fdl_events_open("runs/first");              tensorboard --logdir runs
 *     for (...) {
 *         fdl_graph_flush(model);
 *         FDL_CHECK(fdl_graph_write_events(model, ev));            what is new since the last call
 *         FDL_CHECK(fdl_events_scalar(ev, "lr", lr, epoch));
 *         FDL_CHECK(fdl_events_flush(ev));
 *     }
 *     FDL_CHECK(fdl_events_close(ev));
 *
 * torch.utils.tensorboard.SummaryWriter writes the same bytes. A folder is a run: its files are read together. */
#ifndef FLODL_EVENTS_H
#define FLODL_EVENTS_H

#include "flodl/observe.h"

FDL_BEGIN_DECLS

typedef struct fdl_events fdl_events;

typedef struct fdl_events_opts {
    fdl_by_name opts_;
    const char *suffix; /* of the file's name; torch's filename_suffix */
} fdl_events_opts;
/* `fdl_events_open("runs/first")`: begins a file of its own, events.out.tfevents.<time>.<host>.<process>.<number>, in that
 * folder, which is made with those above it where it isn't there. Owned: fdl_events_close. It grows as training goes on, so
 * unlike other files it is there before it is whole; TensorBoard expects that. FDL_E_IO: it can't be written. */
FDL_API fdl_events *fdl_events_open_opt(const char *folder, const fdl_events_opts *opts);
/* The path of the file; borrowed. NULL on NULL. */
FDL_API const char *fdl_events_path(const fdl_events *ev);

typedef struct fdl_event_opts {
    fdl_by_name opts_;
    double wall_time; /* seconds since 1970; default: now */
} fdl_event_opts;
/* `fdl_events_scalar(ev, "loss", v, step)`: a point of a curve; TensorBoard keeps float32. A tag is non-empty UTF-8 without
 * control characters, and its part before the first "/" makes groups: FDL_E_ARG otherwise. FDL_E_IO: the file can't be written. */
FDL_API fdl_status fdl_events_scalar_opt(fdl_events *ev, const char *tag, double value, int64_t step,
                                         const fdl_event_opts *opts);
/* `fdl_events_histogram(ev, "weights", h, step)`: one of fdl_graph_histograms, or one of your own. Buckets that don't rise, or
 * counts below 0: FDL_E_ARG. One without buckets isn't written, as TensorBoard can't show it. */
FDL_API fdl_status fdl_events_histogram_opt(fdl_events *ev, const char *tag, const fdl_histogram *h,
                                            int64_t step, const fdl_event_opts *opts);
/* `fdl_events_text(ev, "notes", "lr **halved**", step)`: a text (UTF-8, else FDL_E_ARG), which TensorBoard reads as
 * Markdown. */
FDL_API fdl_status fdl_events_text_opt(fdl_events *ev, const char *tag, const char *text, int64_t step,
                                       const fdl_event_opts *opts);
/* Hands what was written to the system, so that readers see it. */
FDL_API fdl_status fdl_events_flush(fdl_events *ev);
/* Flushes, and frees ev even when that fails. NULL: nothing. */
FDL_API fdl_status fdl_events_close(fdl_events *ev);

/* ---- of a graph ------------------------------------------------------------------------------------------ */

/* `fdl_graph_write_events(g, ev)`, `fdl_graph_write_events(g, ev, "loss")`: the points and histograms that this call's names
 * got since they were last written to ev, at their epoch (from 1) as the step and with the time of their flush. Names as for the
 * other files (observe.h); none: those of g and of all graphs below it, "label." in front of theirs. Nothing new: nothing. */
FDL_API fdl_status fdl_graph_write_events_of(fdl_module *g, fdl_events *ev, int n, const char *const *names);
/* `fdl_graph_export_events(g, "runs/first")`: all points and histograms at once, as the file
 * events.out.tfevents.0000000000.flodl of that folder, which takes the place of one from before, whole or not at all. Names as
 * above; no points at all: FDL_E_STATE. */
FDL_API fdl_status fdl_graph_export_events_of(fdl_module *g, const char *folder, int n,
                                              const char *const *names);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_events_open(...) fdl_events_open_(__VA_ARGS__, .opts_ = 0)
#define fdl_events_open_(folder, ...) fdl_events_open_opt(folder, &(fdl_events_opts){__VA_ARGS__})
#define fdl_events_scalar(ev, tag, value, ...) fdl_events_scalar_(ev, tag, value, __VA_ARGS__, .opts_ = 0)
#define fdl_events_scalar_(ev, tag, value, step, ...) \
    fdl_events_scalar_opt(ev, tag, value, step, &(fdl_event_opts){__VA_ARGS__})
#define fdl_events_histogram(ev, tag, h, ...) fdl_events_histogram_(ev, tag, h, __VA_ARGS__, .opts_ = 0)
#define fdl_events_histogram_(ev, tag, h, step, ...) \
    fdl_events_histogram_opt(ev, tag, h, step, &(fdl_event_opts){__VA_ARGS__})
#define fdl_events_text(ev, tag, text, ...) fdl_events_text_(ev, tag, text, __VA_ARGS__, .opts_ = 0)
#define fdl_events_text_(ev, tag, text, step, ...) \
    fdl_events_text_opt(ev, tag, text, step, &(fdl_event_opts){__VA_ARGS__})
#define fdl_graph_write_events(g, ...) FDL_OBSERVE_FILE_(fdl_graph_write_events_of, g, __VA_ARGS__, )
#define fdl_graph_export_events(g, ...) FDL_OBSERVE_FILE_(fdl_graph_export_events_of, g, __VA_ARGS__, )
#endif

#endif
