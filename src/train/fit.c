/* The loop over epochs around the trainer's step. */
#include "flodl/ckpt.h"
#include "flodl/clock.h"
#include "flodl/graph.h"
#include "flodl/inplace.h"
#include "flodl/observe.h"
#include "flodl/random.h"
#include "flodl/shape.h"
#include "trainer.h"

#include <math.h>
#include <unistd.h>

enum { MAX_METRICS = 32 };
static const double live_every =
    0.25; /* seconds between two live lines, each of which waits for the last loss */

/* ---- a loader as a source -------------------------------------------------------------------------- */

typedef struct loaded {
    fdl_loader *loader;
    fdl_iter *it;
    int64_t skip; /* batches of the epoch that begins next */
} loaded;

static fdl_status loader_begin(void *self, int64_t epoch)
{
    loaded *l = self;
    fdl_data_epoch_end(l->it);
    l->it = fdl_data_epoch(l->loader, epoch, .skip = l->skip);
    l->skip = 0;
    return l->it ? FDL_OK : fdl_error_pending();
}

static fdl_status loader_next(void *self, fdl_list *batch)
{
    loaded *l = self;
    *batch = (fdl_list){0, NULL};
    fdl_batch *b = fdl_data_next(l->it);
    if (!b)
        return fdl_data_status(l->loader);
    *batch = fdl_data_list(b);
    return batch->at ? FDL_OK : fdl_error_pending();
}

static fdl_source source_of(loaded *l)
{
    return (fdl_source){l, loader_begin, loader_next, fdl_data_loader_batches(l->loader)};
}

/* ---- one run ------------------------------------------------------------------------------------------ */

typedef struct fit_run {
    fdl_trainer *tr;
    loaded *loader;         /* where the data comes from, if it is one */
    fdl_trainer_fit_opts o; /* resolved: epochs, best */
    fdl_source data, validate;
    bool validates;
    int n_extra; /* metrics beside the loss, of the validation */
    fdl_metric metrics[MAX_METRICS];
    int n_metrics;
    int64_t samples;
    double seconds;
    int64_t first, skip; /* where to go on: the epoch, and how many of its batches are done */
    int64_t saved;       /* steps when .resume was written last */
    fdl_worker *worker;  /* .background; or NULL */
    fdl_fit_report report;
} fit_run;

static int64_t rows_of(fdl_list batch)
{
    return batch.n && fdl_ndim(batch.at[0]) > 0 ? fdl_size(batch.at[0], 0) : 1;
}

static fdl_status live_line(fit_run *r, int64_t batch)
{
    double loss;
    FDL_TRY(fdl_trainer_loss(r->tr, &loss));
    return fdl_monitor_progress(r->tr->o.monitor, batch, r->data.batches, .samples = r->samples,
                                .metrics = FDL_METRICS({"loss", loss}));
}

/* ---- stopping and going on ------------------------------------------------------------------------------ */

/* Writes .resume: the place is behind `batch` batches of the epoch. */
static fdl_status save_all(fit_run *r, int64_t epoch, int64_t batch, bool skip_if_busy)
{
    const fdl_progress p = {.epoch = epoch,
                            .batch = batch,
                            .samples = batch ? r->samples : 0,
                            .loss = r->report.loss,
                            .best = r->report.best,
                            .best_epoch = r->report.best_epoch};
    bool skipped = false;
    FDL_TRY(fdl_trainer_save(r->tr, r->o.resume, .progress = &p, .plateau = r->o.plateau,
                             .host_rng = r->o.host_rng, .worker = r->worker,
                             .skip_if_busy = r->worker && skip_if_busy,
                             .skipped = r->worker ? &skipped : NULL));
    if (!skipped)
        r->saved = r->tr->steps;
    return FDL_OK;
}

/* After each batch: every .resume_every steps, and when somebody cancels. */
static fdl_status save_between(fit_run *r, int64_t epoch, int64_t batch, fdl_status status)
{
    bool cancelled = status == FDL_E_CANCELLED;
    if (!r->o.resume || r->tr->in_group || r->saved == r->tr->steps || (status != FDL_OK && !cancelled))
        return status;
    if (!cancelled)
        return r->o.resume_every && r->tr->steps % r->o.resume_every == 0 ? save_all(r, epoch, batch, true)
                                                                          : FDL_OK;
    char message[1024];
    snprintf(message, sizeof message, "%s", fdl_last_error()->message); /* which saving must not hide */
    fdl_clear_error();
    FDL_TRY(save_all(r, epoch, batch, false));
    return fdl_fail(status, "%s", message);
}

/* Takes .resume up where it is there. */
static fdl_status go_on(fit_run *r)
{
    if (!r->o.resume || access(r->o.resume, F_OK) != 0)
        return FDL_OK;
    fdl_progress p;
    FDL_TRY(fdl_trainer_load(r->tr, r->o.resume, .progress = &p, .plateau = r->o.plateau,
                             .host_rng = r->o.host_rng));
    r->first = p.epoch;
    r->skip = p.batch;
    r->samples = p.samples;
    r->saved = r->tr->steps;
    r->report.epochs = p.epoch;
    r->report.loss = p.loss;
    r->report.best = p.best;
    r->report.best_epoch = p.best_epoch;
    r->report.resumed = p.step;
    return FDL_OK;
}

/* Begins the epoch behind the batches that are done. What this draws was drawn before the training was saved. */
static fdl_status begin_within(fit_run *r, int64_t epoch)
{
    FDL_SCOPE;
    fdl_device device = r->tr->probe ? fdl_device_of(r->tr->probe) : FDL_CPU;
    bool other = device.type != FDL_DEVICE_TYPE_CPU;
    fdl_tensor *cpu = fdl_rng_state(FDL_CPU), *gpu = other ? fdl_rng_state(device) : NULL;
    if (!cpu || (other && !gpu))
        return fdl_error_pending();
    if (r->loader)
        r->loader->skip = r->skip;
    FDL_TRY(r->data.begin(r->data.self, epoch));
    for (int64_t i = 0; !r->loader && i < r->skip; i++) {
        FDL_SCOPE;
        fdl_list list = {0, NULL};
        FDL_TRY(r->data.next(r->data.self, &list));
        if (!list.n)
            return fdl_fail(FDL_E_MISMATCH,
                            "fdl_trainer_fit: '%s' is %lld batches into an epoch that has only %lld",
                            r->o.resume, (long long)r->skip, (long long)i);
    }
    FDL_TRY(fdl_set_rng_state(FDL_CPU, cpu));
    return gpu ? fdl_set_rng_state(device, gpu) : FDL_OK;
}

/* Whether the monitor is to be told now: after some time, and at once when a signal came, which it answers with an error; but not
 * within a group, whose step would be lost. */
static bool line_is_due(const fit_run *r, double shown)
{
    if (fdl_monitor_signal(r->tr->o.monitor))
        return r->tr->in_group == 0;
    return fdl_now() - shown >= live_every;
}

/* ---- an epoch's batches --------------------------------------------------------------------------------- */

static fdl_status train_epoch(fit_run *r, int64_t epoch)
{
    double start = fdl_now(), shown = start;
    int64_t done = r->skip;
    if (done) {
        FDL_TRY(begin_within(r, epoch));
    } else {
        r->samples = 0;
        FDL_TRY(r->data.begin(r->data.self, epoch));
    }
    r->skip = 0;
    for (int64_t batch = done + 1;; batch++) {
        FDL_SCOPE;
        fdl_list list = {0, NULL};
        FDL_TRY(r->data.next(r->data.self, &list));
        if (!list.n)
            break;
        int64_t rows = rows_of(list);
        fdl_status status = fdl_trainer_step(r->tr, list);
        if (status == FDL_OK || status == FDL_E_CANCELLED) /* cancelled by .on_step, after the step */
            r->samples += rows;
        if (status == FDL_OK && batch == done + 1 && r->loader)
            status = fdl_data_note_peak(r->loader->loader);
        if (status == FDL_OK && r->tr->o.monitor && line_is_due(r, shown)) {
            status = live_line(r, batch);
            shown = fdl_now();
        }
        FDL_TRY(save_between(r, epoch, batch, status));
    }
    FDL_TRY(fdl_trainer_flush(r->tr));
    FDL_TRY(fdl_trainer_mean_loss(r->tr, &r->report.loss)); /* waits for the epoch's end */
    r->seconds = fdl_now() - start;
    return FDL_OK;
}

/* ---- validation --------------------------------------------------------------------------------------- */

/* sums[k] += rows * the k-th number of one batch: the loss, then the metrics. */
static fdl_status measure(fit_run *r, fdl_list batch, fdl_tensor **sums)
{
    FDL_SCOPE;
    fdl_trainer *tr = r->tr;
    fdl_list here;
    FDL_TRY(trainer_place(tr, batch, &here));
    for (int k = 0; k < 1 + r->n_extra; k++) {
        fdl_tensor *x = trainer_call(tr, k ? r->o.metrics[k - 1].of : tr->loss, here);
        const char *name = k ? r->o.metrics[k - 1].name : "the loss";
        if (!x)
            return fdl_error_pending()
                       ? fdl_error_pending()
                       : fdl_fail(FDL_E_NULL, "fdl_trainer_fit: %s is NULL without an error", name);
        if (fdl_numel(x) != 1) {
            char text[256];
            return fdl_fail(FDL_E_SHAPE, "fdl_trainer_fit: %s is %s, not one number", name,
                            fdl_describe(x, text, sizeof text));
        }
        x = fdl_to(x, .device = fdl_device_of(sums[k]), .dtype = FDL_FLOAT64);
        FDL_TRY(fdl_add_(sums[k], fdl_reshape(x, FDL_SCALAR), .alpha = (double)rows_of(batch)));
    }
    return FDL_OK;
}

static fdl_status each_batch(fit_run *r, fdl_tensor **sums, int64_t *rows)
{
    FDL_TRY(r->validate.begin(r->validate.self, 0));
    for (;;) {
        FDL_SCOPE;
        fdl_list list = {0, NULL};
        FDL_TRY(r->validate.next(r->validate.self, &list));
        if (!list.n)
            return FDL_OK;
        if (!rows_of(list))
            continue;
        *rows += rows_of(list);
        FDL_TRY(measure(r, list, sums));
    }
}

static fdl_status validate(fit_run *r, double *values)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *sums[MAX_METRICS];
    fdl_device device = r->tr->probe ? fdl_device_of(r->tr->probe) : FDL_CPU;
    for (int k = 0; k < 1 + r->n_extra; k++)
        if (!(sums[k] = fdl_zeros(FDL_SCALAR, .dtype = FDL_FLOAT64, .device = device)))
            return fdl_error_pending();
    FDL_TRY(fdl_eval(r->tr->model));
    int64_t rows = 0;
    fdl_status status = each_batch(r, sums, &rows);
    fdl_train(r->tr->model);
    FDL_TRY(status);
    for (int k = 0; k < 1 + r->n_extra; k++)
        values[k] = rows ? fdl_item(sums[k]) / (double)rows : (double)NAN;
    return FDL_OK;
}

/* ---- an epoch's end ----------------------------------------------------------------------------------- */

static void add_metric(fit_run *r, const char *name, double value)
{
    r->metrics[r->n_metrics++] = (fdl_metric){name, value};
}

/* What .best names, of this epoch; NaN when it isn't there. */
static double measured(const fit_run *r)
{
    for (int i = 0; i < r->n_metrics; i++)
        if (strcmp(r->metrics[i].name, r->o.best) == 0)
            return r->metrics[i].value;
    return (double)NAN;
}

/* Whether this epoch is the best so far. */
static bool is_best(fit_run *r, int64_t epoch)
{
    double value = measured(r), best = r->report.best;
    if (isnan(value) || (!isnan(best) && !(r->o.best_is_highest ? value > best : value < best)))
        return false;
    r->report.best = value;
    r->report.best_epoch = epoch;
    return true;
}

static fdl_status save_model(fit_run *r, const char *path)
{
    return r->worker ? fdl_ckpt_save_async(r->worker, r->tr->model, path) : fdl_ckpt_save(r->tr->model, path);
}

static fdl_status call_on_epoch(fit_run *r, int64_t epoch, bool best)
{
    fdl_trainer *tr = r->tr;
    if (!tr->o.on_epoch)
        return FDL_OK;
    fdl_epoch_record record = {.epoch = epoch,
                               .step = tr->steps,
                               .samples = r->samples,
                               .seconds = r->seconds,
                               .loss = r->report.loss,
                               .metrics = r->metrics,
                               .n_metrics = r->n_metrics,
                               .best = best};
    return tr->o.on_epoch(&record, tr->o.ctx);
}

static fdl_status finish_epoch(fit_run *r, int64_t epoch)
{
    fdl_trainer *tr = r->tr;
    r->n_metrics = 0;
    add_metric(r, "loss", r->report.loss);
    if (r->validates) {
        double values[MAX_METRICS];
        FDL_TRY(validate(r, values));
        add_metric(r, "val_loss", values[0]);
        for (int k = 0; k < r->n_extra; k++)
            add_metric(r, r->o.metrics[k].name, values[1 + k]);
    }
    add_metric(r, "lr", fdl_optim_lr(tr->opt));
    r->report.epochs = epoch + 1;
    bool best = is_best(r, epoch);
    if (r->worker)
        FDL_TRY(fdl_worker_wait(r->worker)); /* what went wrong since the last epoch */
    if (best && r->o.checkpoint)
        FDL_TRY(save_model(r, r->o.checkpoint));
    if (r->o.checkpoint_last)
        FDL_TRY(save_model(r, r->o.checkpoint_last));
    if (fdl_module_is_graph(tr->model)) /* what callbacks have collected */
        FDL_TRY(fdl_graph_flush(tr->model));
    if (r->o.plateau)
        FDL_TRY(fdl_optim_set_lr(tr->opt, fdl_plateau_observe(r->o.plateau, measured(r))));
    fdl_status status = call_on_epoch(r, epoch, best);
    r->saved = -1; /* this place isn't written yet */
    if (status == FDL_OK && r->o.resume)
        status = save_all(r, epoch + 1, 0, false);
    else
        status = save_between(r, epoch + 1, 0, status);
    FDL_TRY(status);
    if (!tr->o.monitor)
        return FDL_OK;
    r->metrics[r->n_metrics] = (fdl_metric)FDL_METRIC_END;
    return fdl_monitor_log(tr->o.monitor, epoch, r->seconds,
                           .graph = fdl_module_is_graph(tr->model) ? tr->model : NULL, .samples = r->samples,
                           .metrics = r->metrics);
}

static fdl_status run(fit_run *r)
{
    for (int64_t epoch = r->first; epoch < r->o.epochs; epoch++) {
        int64_t worse = epoch - 1 - r->report.best_epoch; /* best_epoch is -1 while there is none */
        if (r->o.patience && worse >= r->o.patience && !r->skip) {
            r->report.stopped_early = true;
            return FDL_OK;
        }
        if (r->tr->o.monitor)
            FDL_TRY(fdl_monitor_begin(r->tr->o.monitor, epoch));
        FDL_TRY(train_epoch(r, epoch));
        FDL_TRY(finish_epoch(r, epoch));
    }
    return FDL_OK;
}

/* ---- options ------------------------------------------------------------------------------------------ */

/* Fills r from the options and checks them. */
static fdl_status resolve(fit_run *r, const fdl_trainer_fit_opts *opts, loaded *validation)
{
    static const char *const function = "fdl_trainer_fit";
    r->o = opts ? *opts : (fdl_trainer_fit_opts){0};
    r->report = (fdl_fit_report){.loss = (double)NAN, .best = (double)NAN, .best_epoch = -1};
    if (r->o.epochs < 0 || r->o.patience < 0)
        return fdl_fail(FDL_E_ARG, "%s: .%s is %lld; it must be 1 or more", function,
                        r->o.epochs < 0 ? "epochs" : "patience",
                        (long long)(r->o.epochs < 0 ? r->o.epochs : r->o.patience));
    r->o.epochs = r->o.epochs ? r->o.epochs : 1;
    if (r->o.resume_every < 0 || (r->o.resume_every && !r->o.resume))
        return fdl_fail(FDL_E_ARG, "%s: .resume_every is %lld; it must be 1 or more, and goes with .resume",
                        function, (long long)r->o.resume_every);
    if (r->o.host_rng && !r->o.resume)
        return fdl_fail(FDL_E_ARG, "%s: .host_rng goes with .resume", function);
    if (r->o.background && !r->o.resume && !r->o.checkpoint && !r->o.checkpoint_last)
        return fdl_fail(FDL_E_ARG, "%s: .background goes with .resume, .checkpoint or .checkpoint_last",
                        function);
    if (r->o.plateau && r->tr->o.sched)
        return fdl_fail(FDL_E_ARG, "%s: .plateau and the trainer's .sched both set the rate", function);
    if (r->o.validate && r->o.validate_from)
        return fdl_fail(FDL_E_ARG, "%s: .validate and .validate_from exclude each other", function);
    r->validates = r->o.validate || r->o.validate_from;
    if (r->o.validate) {
        validation->loader = r->o.validate;
        r->validate = source_of(validation);
    } else if (r->o.validate_from) {
        r->validate = *r->o.validate_from;
    }
    if (!r->data.begin || !r->data.next || (r->validates && (!r->validate.begin || !r->validate.next)))
        return fdl_fail(FDL_E_ARG, "%s: a source needs begin and next", function);
    for (const fdl_fit_metric *m = r->o.metrics; m && m->name; m++) {
        if (!m->of)
            return fdl_fail(FDL_E_NULL, "%s: the metric \"%s\" has no function", function, m->name);
        if (++r->n_extra > MAX_METRICS - 4)
            return fdl_fail(FDL_E_ARG, "%s: more than %d metrics", function, MAX_METRICS - 4);
    }
    if (r->n_extra && !r->validates)
        return fdl_fail(FDL_E_ARG, "%s: .metrics are measured on validation data, which .validate gives",
                        function);
    const char *best = r->o.best ? r->o.best : r->validates ? "val_loss" : "loss";
    bool known = strcmp(best, "loss") == 0 || (r->validates && strcmp(best, "val_loss") == 0);
    for (int k = 0; k < r->n_extra; k++)
        known |= strcmp(best, r->o.metrics[k].name) == 0;
    if (!known)
        return fdl_fail(FDL_E_ARG, "%s: .best is \"%s\", which is neither the loss nor one of .metrics",
                        function, best);
    r->o.best = best;
    return FDL_OK;
}

/* The thread that writes files, ended: its first error, unless there is one already. */
static fdl_status end_background(fit_run *r, fdl_status status)
{
    if (!r->worker)
        return status;
    fdl_status written = fdl_worker_wait(r->worker);
    fdl_worker_free(r->worker);
    return status == FDL_OK ? written : status;
}

static fdl_status fit(fdl_trainer *tr, fdl_source data, loaded *loader, const fdl_trainer_fit_opts *opts)
{
    fit_run r = {.tr = tr, .loader = loader, .data = data};
    loaded validation = {0};
    fdl_status status = resolve(&r, opts, &validation);
    if (status == FDL_OK)
        status = fdl_train(tr->model);
    if (status == FDL_OK)
        status = go_on(&r);
    if (status == FDL_OK && r.o.background) {
        r.worker = fdl_worker_new(.queue = 3);
        status = r.worker ? FDL_OK : fdl_error_pending();
    }
    if (status == FDL_OK)
        status = run(&r);
    status = end_background(&r, status);
    fdl_data_epoch_end(validation.it);
    if (opts && opts->report)
        *opts->report = r.report;
    return status;
}

fdl_status fdl_trainer_fit_from_opt(fdl_trainer *tr, const fdl_source *data, const fdl_trainer_fit_opts *opts)
{
    if (!tr || !data)
        return fdl_null_operand("fdl_trainer_fit_from", tr ? "data" : "tr");
    return fit(tr, *data, NULL, opts);
}

fdl_status fdl_trainer_fit_opt(fdl_trainer *tr, fdl_loader *data, const fdl_trainer_fit_opts *opts)
{
    if (!tr || !data)
        return fdl_null_operand("fdl_trainer_fit", tr ? "data" : "tr");
    loaded training = {.loader = data};
    fdl_status status = fit(tr, source_of(&training), &training, opts);
    fdl_data_epoch_end(training.it);
    return status;
}
