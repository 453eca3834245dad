/* The trainer: the training step and the loop around it, written once. It does what the loop by hand does, with public
 * functions only, and leaves nothing to wait for the device between two steps.
 *
 *     static fdl_tensor *loss(fdl_module *model, fdl_list batch, void *ctx)
 *     {
 *         return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
 *     }
 *
 *     fdl_trainer *tr = fdl_trainer_new(model, opt, loss, .clip_norm = 1.0);
 *     for (int epoch = 0; epoch < 10; epoch++)
 *         FDL_BATCHES(b, loader, epoch)
 *             FDL_CHECK(fdl_trainer_step(tr, fdl_data_list(b)));
 *     fdl_trainer_free(tr);
 */
#ifndef FLODL_TRAINER_H
#define FLODL_TRAINER_H

#include "flodl/amp.h"
#include "flodl/data.h"
#include "flodl/ema.h"
#include "flodl/monitor.h"
#include "flodl/sched.h"
#include "flodl/worker.h"

FDL_BEGIN_DECLS

/* The loss of one batch: one number that requires grad. The tensors of the batch are on the model's device and belong to
 * the step; ctx is the trainer's. What it computes with must come from its arguments and from tensors: a host number that
 * changes from step to step belongs into an fdl_step_value. */
typedef fdl_tensor *(*fdl_loss_fn)(fdl_module *model, fdl_list batch, void *ctx);

/* ---- making ---------------------------------------------------------------------------------------- */

/* What happens when a loss is infinite or NaN. On the CPU it is seen at once; on a GPU, where nothing waits, with the next
 * number that is read. */
typedef enum fdl_nonfinite {
    FDL_NONFINITE_STOP =
        0, /* an error that names the step; no further steps. On the CPU before that step changes anything */
    FDL_NONFINITE_SKIP, /* the optimizer leaves that step out, the mean leaves out its losses */
    FDL_NONFINITE_GO_ON /* nothing */
} fdl_nonfinite;

/* A step that was made. */
typedef struct fdl_step_record {
    int64_t step; /* optimizer steps so far, this one included */
    double lr;    /* group 0's rate, as this step used it */
} fdl_step_record;

/* An epoch that has ended. */
typedef struct fdl_epoch_record {
    int64_t epoch;   /* from 0 */
    int64_t step;    /* optimizer steps so far */
    int64_t samples; /* of this epoch, by dim 0 of each batch's first tensor */
    double seconds;  /* of its training, without validation */
    double loss;     /* mean over its batches */
    const fdl_metric
        *metrics; /* [n_metrics]: "loss", then of the validation "val_loss" and the metrics asked for, "lr" */
    int n_metrics;
    bool best; /* the best so far, by what fdl_trainer_fit_opts.best says */
} fdl_epoch_record;

/* Whether steps on a GPU become CUDA graphs, which launch as a whole: see fdl_trainer_plan for what became of it. */
typedef enum fdl_trainer_capture {
    FDL_CAPTURE_AUTO = 0, /* where the step allows it */
    FDL_CAPTURE_OFF,
    FDL_CAPTURE_REQUIRE /* where it doesn't, the step that finds out is made, and gives FDL_E_STATE with the reason */
} fdl_trainer_capture;

/* How the tensors of 2-d and 3-d convolutions lie in memory: shapes, names and checkpoints don't change with it. */
typedef enum fdl_trainer_layout {
    FDL_LAYOUT_AUTO =
        0, /* on a GPU, without .accumulate, where the model has such parameters: steps are timed both ways, once, and channels-last
                          * stays if it gains over 3 % and computes the same */
    FDL_LAYOUT_KEEP,         /* as it is */
    FDL_LAYOUT_CHANNELS_LAST /* parameters, and batch tensors of 4 and 5 dims, on any device */
} fdl_trainer_layout;

typedef struct fdl_trainer_opts {
    fdl_by_name opts_;
    void *ctx; /* handed to the loss function and to the callbacks */
    double
        clip_norm; /* most that the norm of all gradients may be: fdl_clip_grad_norm; default: no clipping */
    double
        clip_value; /* most that one element may be, in absolute value; after clip_norm where both are set */
    const fdl_sched *sched; /* sets the rate (and momentum) before each optimizer step; borrowed */
    fdl_amp_scaler *scaler; /* for float16; borrowed. What it leaves out it leaves out by itself */
    fdl_dtype autocast;     /* FDL_BFLOAT16 or FDL_FLOAT16: the loss function runs under autocast */
    int64_t accumulate;     /* batches per optimizer step, default 1; their losses are averaged */
    fdl_ema *ema;           /* updated after each optimizer step; borrowed */
    fdl_nonfinite on_nonfinite;
    fdl_trainer_capture capture;
    fdl_trainer_layout layout;
    int max_plans; /* kinds of steps that are kept captured, default 8: the least recently used leaves */
    fdl_status (*on_grads)(fdl_module *m,
                           void *ctx); /* after backward and unscaling, before clipping: part of the step */
    fdl_status (*on_step)(const fdl_step_record *r, void *ctx); /* on the host, after each optimizer step */
    /* Used by fdl_trainer_fit: */
    fdl_monitor *monitor; /* gets each epoch's record, and the progress within it; borrowed */
    fdl_status (*on_epoch)(const fdl_epoch_record *r, void *ctx); /* after each epoch */
} fdl_trainer_opts;

typedef struct fdl_trainer fdl_trainer;
/* Owned: fdl_trainer_free. Model, optimizer and what the options name stay the caller's and must outlive it. An option out
 * of its range: FDL_E_ARG. */
FDL_API fdl_trainer *fdl_trainer_new_opt(fdl_module *model, fdl_optim *opt, fdl_loss_fn loss,
                                         const fdl_trainer_opts *opts);
/* NULL: nothing. Gradients of an unfinished group are left where they are. */
FDL_API void fdl_trainer_free(fdl_trainer *tr);

/* ---- steps ----------------------------------------------------------------------------------------- */

/* One batch: its tensors to the model's device, loss, backward; and, where it is the last of its group (.accumulate),
 * unscale, on_grads, clip, schedule, optimizer, scale, ema. Gradients stay until the next group begins. A step that fails
 * drops its group's gradients. An error of a callback is returned; of on_step after the step was made. A loss that is not
 * finite: FDL_E_ARG, as .on_nonfinite says. What graphs carry from call to call, and values under tags, keep no history behind
 * the backward (fdl_module_detach_state). */
FDL_API fdl_status fdl_trainer_step(fdl_trainer *tr, fdl_list batch);
/* Ends a group that is short of batches, at the end of an epoch: the mean is over those that there were. Nothing when
 * none waits. */
FDL_API fdl_status fdl_trainer_flush(fdl_trainer *tr);
/* Optimizer steps so far, those that were left out too; -1 on NULL. */
FDL_API int64_t fdl_trainer_steps(const fdl_trainer *tr);
/* The last batch's loss; waits for the device, as far as that loss: of a captured step the backward and the update may be
 * running still. NaN when there was none. FDL_E_ARG with the number of the step (from 1)
 * when a loss was not finite and .on_nonfinite is stop. */
FDL_API fdl_status fdl_trainer_loss(fdl_trainer *tr, double *loss);
/* The mean loss of all batches since the last call, in float64; one wait. NaN when there were none. Errors as above. */
FDL_API fdl_status fdl_trainer_mean_loss(fdl_trainer *tr, double *loss);
/* Writes in words what a step runs and why. */
FDL_API fdl_status fdl_trainer_plan(fdl_trainer *tr, FILE *file);

/* ---- stopping and going on ----------------------------------------------------------------------------- */

typedef struct fdl_trainer_save_opts {
    fdl_by_name opts_;
    const fdl_loader *loader;     /* whose place goes with it */
    const fdl_progress *progress; /* ... or this, of which step, losses and loss_sum are the trainer's */
    const fdl_plateau *plateau;
    const fdl_rng *host_rng;
    const fdl_meta *meta;
    int keep_last;      /* as of fdl_ckpt_save */
    fdl_worker *worker; /* writes in the background: fdl_ckpt_save_async */
    bool skip_if_busy, *skipped;
} fdl_trainer_save_opts;
/* fdl_ckpt_save with all that a trainer needs to go on: model, optimizer, scaler, averages, generators, the number of steps, the
 * sum of the losses that fdl_trainer_mean_loss hasn't given yet, what graphs carry. Between two groups of .accumulate batches only,
 * otherwise FDL_E_STATE; after a loss that was not finite, where training has stopped: that error, and no file. Waits for the
 * device. */
FDL_API fdl_status fdl_trainer_save_opt(fdl_trainer *tr, const char *path, const fdl_trainer_save_opts *opts);

typedef struct fdl_trainer_load_opts {
    fdl_by_name opts_;
    fdl_plateau *plateau;
    fdl_rng *host_rng;
    fdl_progress *progress; /* where to go on: fdl_data_epoch(loader, p.epoch, .skip = p.batch) */
} fdl_trainer_load_opts;
/* Goes on where a trainer that was made in the same way was when it was saved; a group that waited is forgotten. The same model,
 * optimizers, data: the same numbers, on the CPU and in deterministic mode bit for bit. Nothing changes on failure; errors as
 * fdl_ckpt_load's. */
FDL_API fdl_status fdl_trainer_load_opt(fdl_trainer *tr, const char *path, const fdl_trainer_load_opts *opts);

/* ---- one step, recorded when you say so --------------------------------------------------------------- */

/* For loops of another shape than the trainer's: two optimizers by turns, several models.
 *
 *     fdl_step_graph *d = fdl_train_capture(critic, opt_d, loss_d, FDL_LIST(x, z), .ctx = &both);
 *     fdl_step_graph *g = fdl_train_capture(artist, opt_g, loss_g, FDL_LIST(z), .ctx = &both);
 *     for (...) {
 *         FDL_CHECK(fdl_step_graph_run(d, FDL_LIST(next_x, next_z), NULL));
 *         FDL_CHECK(fdl_step_graph_run(g, FDL_LIST(next_z), &loss));
 *     }
 */
typedef struct fdl_step_graph fdl_step_graph;
typedef struct fdl_train_capture_opts {
    fdl_by_name opts_;
    void *ctx;      /* handed to the loss function */
    int64_t warmup; /* eager steps before the capture: 3, and no fewer: they are compared */
    bool
        keep_warmup; /* they count as steps; otherwise model, optimizer, scaler and random numbers are as before */
    fdl_amp_scaler *scaler; /* borrowed */
    double clip_norm;
    fdl_dtype autocast;
} fdl_train_capture_opts;
/* Records gradients' reset, loss, backward, clipping and update as one CUDA graph, for batches that look like this one, and
 * checks it against an eager step. Only the optimizer's parameters get gradients, whatever else the loss depends on. The rate of the optimizer may change between runs, and what the loss function reads from
 * tensors; nothing else. Owned: fdl_step_graph_free; model and optimizer must outlive it. On the CPU: FDL_E_DEVICE; where the
 * step can't be recorded: FDL_E_STATE with the reason. */
FDL_API fdl_step_graph *fdl_train_capture_opt(fdl_module *model, fdl_optim *opt, fdl_loss_fn loss,
                                              fdl_list batch, const fdl_train_capture_opts *opts);
/* One step on that batch. *loss, unless NULL, gets its loss, for which it waits. A batch that looks otherwise: FDL_E_SHAPE;
 * a model or an optimizer that was changed since (frozen, moved, in another mode): FDL_E_STATE; nothing ran. */
FDL_API fdl_status fdl_step_graph_run(fdl_step_graph *g, fdl_list batch, double *loss);
/* NULL: nothing. */
FDL_API void fdl_step_graph_free(fdl_step_graph *g);

/* ---- a number that changes from step to step --------------------------------------------------------- */

/* A number of the host for the loss function, as a tensor that stays the same one: 0-d float32. */
typedef struct fdl_step_value fdl_step_value;
/* On the thread's default device. Owned: fdl_step_value_free. */
FDL_API fdl_step_value *fdl_step_value_new(double value);
/* From the next step on; doesn't wait. */
FDL_API fdl_status fdl_step_value_set(fdl_step_value *v, double value);
/* The number that was set last; NaN on NULL. */
FDL_API double fdl_step_value_get(const fdl_step_value *v);
/* The tensor, 0-d float32; borrowed. */
FDL_API fdl_tensor *fdl_step_tensor(fdl_step_value *v);
/* NULL: nothing. */
FDL_API void fdl_step_value_free(fdl_step_value *v);

/* ---- the loop -------------------------------------------------------------------------------------- */

/* Batches from somewhere else than a loader. */
typedef struct fdl_source {
    void *self;
    fdl_status (*begin)(void *self, int64_t epoch); /* an epoch begins, also when the one before was left */
    /* The next batch, its tensors the current scope's; n 0: the epoch is over. */
    fdl_status (*next)(void *self, fdl_list *batch);
    int64_t batches; /* of an epoch; 0: not known */
} fdl_source;

/* A number to be measured on the validation data: `of` gives its mean over one batch, 0-d. */
typedef struct fdl_fit_metric {
    const char *name; /* borrowed while fit runs */
    fdl_loss_fn of;
} fdl_fit_metric;
#define FDL_FIT_METRICS(...) ((const fdl_fit_metric[]){__VA_ARGS__, {NULL, NULL}})

/* What fdl_trainer_fit did. */
typedef struct fdl_fit_report {
    int64_t epochs; /* that were finished */
    double loss;    /* mean of the last one */
    double best;    /* the best value of what .best names, and its epoch; NaN and -1 before there is one */
    int64_t best_epoch;
    bool stopped_early; /* by .patience */
    int64_t resumed;    /* steps that had been made when .resume was found; 0: from the beginning */
} fdl_fit_report;

typedef struct fdl_trainer_fit_opts {
    fdl_by_name opts_;
    int64_t epochs; /* default 1 */
    fdl_loader
        *validate; /* measured after each epoch in eval mode, without recording; the model is in training
                                    * mode afterwards */
    const fdl_source *validate_from; /* the same from a source */
    const fdl_fit_metric *metrics; /* beside the loss, of the validation: FDL_FIT_METRICS({"accuracy", fn}) */
    const char
        *best; /* what tells the best epoch: "loss", or "val_loss" (default with validation), or a metric */
    bool best_is_highest;   /* default: the lowest is the best */
    const char *checkpoint; /* the model's file after each epoch that is the best so far: fdl_ckpt_save */
    const char *checkpoint_last; /* ... and after every epoch */
    int64_t patience;            /* stop after so many epochs in a row that weren't better; default: never */
    /* The file of the whole training, fdl_trainer_save's: written after each epoch, and taken up where it is there when fit
     * begins. So a program that was killed, started again as it was, goes on, and ends as if it hadn't been. One that has
     * ended does nothing more. */
    const char *resume;
    int64_t
        resume_every; /* ... and every so many steps; default: after epochs only, and when a callback or the
                             * monitor cancels */
    bool
        background; /* files are written by a thread of its own, while the next steps run; an error in that comes
                             * with the next epoch's end */
    fdl_plateau *plateau; /* sees what .best names after each epoch, and sets the rate; goes with .resume */
    fdl_rng *host_rng;    /* one of yours that goes with .resume */
    fdl_fit_report *report;
} fdl_trainer_fit_opts;
/* The loop over epochs: batches of the loader in its epochs' orders from 0 on, a short last group flushed, validation,
 * checkpoints, callbacks, the monitor. A model that is a graph is flushed (fdl_graph_flush) before .on_epoch, and the monitor shows
 * its metrics: what .on_step has collected becomes the epoch's. Ends early with the first error, which it returns: FDL_E_CANCELLED when the monitor
 * caught a signal or a callback says so. Losses are means over batches weighted by dim 0 of their first tensor for
 * validation, over batches for training. */
FDL_API fdl_status fdl_trainer_fit_opt(fdl_trainer *tr, fdl_loader *data, const fdl_trainer_fit_opts *opts);
/* The same from a source of your own. */
FDL_API fdl_status fdl_trainer_fit_from_opt(fdl_trainer *tr, const fdl_source *data,
                                            const fdl_trainer_fit_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_trainer_new(model, opt, ...) fdl_trainer_new_(model, opt, __VA_ARGS__, .opts_ = 0)
#define fdl_trainer_new_(model, opt, loss, ...) \
    fdl_trainer_new_opt(model, opt, loss, &(fdl_trainer_opts){__VA_ARGS__})
#define fdl_trainer_save(tr, ...) fdl_trainer_save_(tr, __VA_ARGS__, .opts_ = 0)
#define fdl_trainer_save_(tr, path, ...) fdl_trainer_save_opt(tr, path, &(fdl_trainer_save_opts){__VA_ARGS__})
#define fdl_trainer_load(tr, ...) fdl_trainer_load_(tr, __VA_ARGS__, .opts_ = 0)
#define fdl_trainer_load_(tr, path, ...) fdl_trainer_load_opt(tr, path, &(fdl_trainer_load_opts){__VA_ARGS__})
#define fdl_train_capture(model, opt, loss, ...) fdl_train_capture_(model, opt, loss, __VA_ARGS__, .opts_ = 0)
#define fdl_train_capture_(model, opt, loss, batch, ...) \
    fdl_train_capture_opt(model, opt, loss, batch, &(fdl_train_capture_opts){__VA_ARGS__})
#define fdl_trainer_fit(tr, ...) fdl_trainer_fit_(tr, __VA_ARGS__, .opts_ = 0)
#define fdl_trainer_fit_(tr, data, ...) fdl_trainer_fit_opt(tr, data, &(fdl_trainer_fit_opts){__VA_ARGS__})
#define fdl_trainer_fit_from(tr, ...) fdl_trainer_fit_from_(tr, __VA_ARGS__, .opts_ = 0)
#define fdl_trainer_fit_from_(tr, data, ...) \
    fdl_trainer_fit_from_opt(tr, data, &(fdl_trainer_fit_opts){__VA_ARGS__})
#endif

#endif
