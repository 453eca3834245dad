/* The monitor: what it knows of a run, and the lines that it writes. */
#include "flodl/monitor.h"

#include "device.h"
#include "eta.h"
#include "history.h"
#include "interrupt.h"
#include "line.h"
#include "resources.h"
#include "terminal.h"

#include "flodl/clock.h"
#include "flodl/message.h"
#include "flodl/observe.h"
#include "flodl/scope.h"
#include "flodl/text.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>

#define DRAW_EVERY 0.25 /* seconds between two states of the live line */
#define SAMPLE_EVERY \
    0.05 /* seconds between two samples of the machine: more often they are noise, and cost */

enum { BAR_COLUMNS = 24, BAR_LEAST = 6 };

struct fdl_monitor {
    int64_t total; /* epochs; 0: not known */
    FILE *out;
    bool quiet, resources;
    double (*clock)(void *);
    void *clock_ctx;

    bool started;    /* the run's time counts */
    bool finished;   /* fdl_monitor_finish was called */
    int64_t current; /* the epoch in progress */
    int64_t behind;  /* epochs that no longer count: up to the last logged one, or before the first begun; -1:
                        unknown */
    double run_start;   /* all times on the monitor's clock */
    double last_log;    /* or run_start */
    double epoch_start; /* begin, or last_log */
    double progress_at; /* the last progress of this epoch, and */
    double done;        /* the share of the epoch that was done then, 0..1 */
    monitor_eta eta;

    monitor_terminal terminal;
    monitor_line line;
    bool live;          /* the live line is on the terminal */
    double drawn_at;    /* when it was last drawn */
    int machine_column; /* where VRAM, CPU and RSS began in the last line */

    monitor_history history;
    monitor_sampler sampler;
    fdl_monitor_resources load;
    double sampled_at; /* on fdl_now */
    monitor_device devices[MONITOR_MAX_DEVICES];
    int n_devices;

    int64_t n_metrics; /* of the call in progress */
    fdl_metric metrics[FDL_MONITOR_MAX_METRICS + 1];
};

/* ---- making ------------------------------------------------------------------------------------ */

static double real_clock(void *ctx)
{
    (void)ctx;
    return fdl_now();
}

fdl_monitor *fdl_monitor_new_opt(int64_t total_epochs, const fdl_monitor_opts *opts)
{
    static const fdl_monitor_opts defaults;
    if (!opts)
        opts = &defaults;
    if (total_epochs < 0)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_monitor_new: total_epochs is %lld; it must be 0 (not known) or more",
                             (long long)total_epochs);
    fdl_monitor *mon = calloc(1, sizeof *mon);
    if (!mon || !monitor_line_open(&mon->line)) {
        free(mon);
        return fdl_fail_null(FDL_E_OOM, "fdl_monitor_new: memory ran out");
    }
    mon->total = total_epochs;
    mon->out = opts->out ? opts->out : stdout;
    mon->quiet = opts->quiet;
    mon->resources = opts->resources;
    mon->clock = opts->clock ? opts->clock : real_clock;
    mon->clock_ctx = opts->clock_ctx;
    mon->behind = -1;
    mon->run_start = mon->last_log = mon->epoch_start = mon->clock(mon->clock_ctx);
    mon->drawn_at = mon->sampled_at = -INFINITY;
    mon->terminal = monitor_terminal_of(mon->out);
    monitor_sampler_open(&mon->sampler, "", fdl_now());
    return mon;
}

void fdl_monitor_free(fdl_monitor *mon)
{
    if (!mon)
        return;
    if (mon->live) {
        fputc('\n', mon->out); /* nobody to tell if it fails */
        fflush(mon->out);
    }
    monitor_interrupt_close(mon);
    monitor_history_free(&mon->history);
    monitor_line_free(&mon->line);
    free(mon);
}

/* ---- checks ------------------------------------------------------------------------------------ */

static fdl_status check_open(const fdl_monitor *mon, const char *function)
{
    if (!mon)
        return fdl_null_operand(function, "the monitor");
    if (mon->finished)
        return fdl_fail(FDL_E_STATE, "%s: the monitor is finished; make a new one for another run", function);
    return FDL_OK;
}

static fdl_status check_epoch(int64_t epoch, const char *function)
{
    if (epoch < 0 || epoch == INT64_MAX)
        return fdl_fail(FDL_E_ARG, "%s: epoch is %lld; the first one is 0", function, (long long)epoch);
    return FDL_OK;
}

/* already: metrics of the same call that were looked at before. */
static fdl_status check_metrics(const fdl_metric *metrics, int already, int64_t samples, const char *function)
{
    if (samples < 0)
        return fdl_fail(FDL_E_ARG, "%s: samples is %lld; it must be 0 (not given) or more", function,
                        (long long)samples);
    for (int i = 0; metrics && !fdl_metric_is_end(&metrics[i]); i++) {
        if (i + already == FDL_MONITOR_MAX_METRICS)
            return fdl_fail(FDL_E_ARG,
                            "%s: more than %d metrics, %d of them the graph's; does the array end in "
                            "FDL_METRIC_END?",
                            function, FDL_MONITOR_MAX_METRICS, already);
        if (!metrics[i].name || !*metrics[i].name)
            return fdl_fail(FDL_E_ARG, "%s: metric %d has %s name", function, i,
                            metrics[i].name ? "an empty" : "NULL for a");
    }
    return FDL_OK;
}

static fdl_status check_signal(const fdl_monitor *mon, const char *function)
{
    int number = monitor_interrupt_signal(mon);
    if (number == 0)
        return FDL_OK;
    return fdl_fail(FDL_E_CANCELLED, "%s: %s came; the epochs so far are recorded", function,
                    number == SIGINT ? "SIGINT" : "SIGTERM");
}

/* ---- metrics ----------------------------------------------------------------------------------- */

static void add_metric(fdl_monitor *mon, const char *name, double value)
{
    for (int64_t i = 0; i < mon->n_metrics; i++)
        if (strcmp(mon->metrics[i].name, name) == 0) {
            mon->metrics[i].value = value;
            return;
        }
    mon->metrics[mon->n_metrics++] = (fdl_metric){name, value};
}

/* Into mon->metrics, each name once: the graph's, then the caller's. */
static void gather(fdl_monitor *mon, const fdl_metric *of_graph, const fdl_metric *metrics, int64_t samples,
                   double seconds)
{
    mon->n_metrics = 0;
    for (; of_graph && !fdl_metric_is_end(of_graph); of_graph++)
        add_metric(mon, of_graph->name, of_graph->value);
    for (; metrics && !fdl_metric_is_end(metrics); metrics++)
        add_metric(mon, metrics->name, metrics->value);
    if (samples > 0 && seconds > 0)
        add_metric(mon, "samples/s", (double)samples / seconds);
}

/* ---- time -------------------------------------------------------------------------------------- */

static void start(fdl_monitor *mon, double now)
{
    mon->started = true;
    mon->run_start = mon->last_log = mon->epoch_start = now;
}

/* The current epoch has ended, by this log. */
static void count_epoch(fdl_monitor *mon, int64_t epoch, double now)
{
    /* A program that logs every tenth epoch has ten of them between two calls. */
    int64_t epochs = mon->behind >= 0 && epoch > mon->behind ? epoch + 1 - mon->behind : 1;
    monitor_eta_add(&mon->eta, fmax(now - mon->last_log, 0) / (double)epochs);
    mon->started = true;
    mon->last_log = mon->epoch_start = mon->progress_at = now;
    mon->current = mon->behind = epoch + 1;
    mon->done = 0;
}

double fdl_monitor_eta(const fdl_monitor *mon)
{
    if (!mon || mon->total == 0 || (mon->eta.epochs == 0 && mon->done == 0))
        return NAN;
    double epoch = mon->eta.mean;
    if (mon->done > 0) {
        double before = mon->epoch_start - mon->last_log, within = mon->progress_at - mon->epoch_start;
        epoch = monitor_eta_with(&mon->eta, fmax(before + within / mon->done, 0), mon->done);
    }
    return fmax(epoch * ((double)(mon->total - mon->current) - mon->done), 0);
}

/* ---- the machine ------------------------------------------------------------------------------- */

static void sample(fdl_monitor *mon)
{
    double now = fdl_now();
    if (now - mon->sampled_at < SAMPLE_EVERY)
        return;
    monitor_sampler_read(&mon->sampler, now, &mon->load);
    mon->n_devices = monitor_devices_read(mon->devices);
    mon->sampled_at = now;
}

char *fdl_monitor_summary(fdl_monitor *mon, char *buf, size_t n)
{
    char text[160] = "", used[FDL_TEXT_SIZE], total[FDL_TEXT_SIZE];
    if (mon && isinf(mon->sampled_at))
        sample(mon);
    const fdl_monitor_resources *load = mon ? &mon->load : NULL;
    size_t at = 0;
    if (load && !isnan(load->cpu))
        at += (size_t)snprintf(text + at, sizeof text - at, " | CPU: %d%%", (int)lround(load->cpu));
    if (load && load->ram_used >= 0)
        at += (size_t)snprintf(text + at, sizeof text - at, " | RAM: %s/%s",
                               fdl_format_bytes(load->ram_used, used, sizeof used),
                               fdl_format_bytes(load->ram_total, total, sizeof total));
    if (load && load->rss >= 0)
        snprintf(text + at, sizeof text - at, " | RSS: %s", fdl_format_bytes(load->rss, used, sizeof used));
    if (n > 0)
        snprintf(buf, n, "%s", *text ? text + strlen(" | ") : "");
    return buf;
}

/* ---- lines ------------------------------------------------------------------------------------- */

static bool speaks(const fdl_monitor *mon)
{
    return !mon->quiet && fdl_msg_enabled(FDL_NORMAL);
}

/* Writes the line in one piece, over the live line if there is one. `live`: it is the live line itself. */
static fdl_status put(fdl_monitor *mon, bool live, const char *function)
{
    monitor_line_style(&mon->line, MONITOR_PLAIN);
    if (mon->live)
        monitor_line_erase(&mon->line);
    if (!live)
        monitor_line_control(&mon->line, '\n');
    mon->live = live;
    errno = 0;
    if (fwrite(mon->line.at, 1, mon->line.used, mon->out) == mon->line.used && fflush(mon->out) == 0)
        return FDL_OK;
    int error = errno;
    return fdl_fail(FDL_E_IO, "%s: the line can't be written: %s", function, strerror(error));
}

static void begin_line(fdl_monitor *mon, int limit)
{
    monitor_line_start(&mon->line, mon->terminal.colour, limit);
    if (mon->live)
        monitor_line_control(&mon->line, '\r');
}

static void add_epoch(fdl_monitor *mon, int64_t epoch)
{
    if (mon->total == 0) {
        monitor_line_format(&mon->line, "  epoch %lld", (long long)epoch + 1);
        return;
    }
    int width = snprintf(NULL, 0, "%lld", (long long)mon->total);
    monitor_line_format(&mon->line, "  epoch %*lld/%lld", width, (long long)epoch + 1, (long long)mon->total);
}

static void add_metrics(fdl_monitor *mon, int64_t n)
{
    char value[FDL_TEXT_SIZE];
    for (int64_t i = 0; i < n; i++) {
        monitor_line_text(&mon->line, "  ");
        monitor_line_style(&mon->line, MONITOR_DIM);
        monitor_line_text(&mon->line, mon->metrics[i].name);
        monitor_line_text(&mon->line, "=");
        monitor_line_style(&mon->line, MONITOR_PLAIN);
        monitor_line_text(&mon->line, fdl_format_metric(mon->metrics[i].value, value, sizeof value));
    }
}

static void add_times(fdl_monitor *mon, double seconds, bool more)
{
    char text[FDL_TEXT_SIZE];
    monitor_line_text(&mon->line, "  ");
    monitor_line_style(&mon->line, MONITOR_DIM);
    monitor_line_format(&mon->line, "[%s", fdl_format_eta(seconds, text, sizeof text));
    double eta = fdl_monitor_eta(mon);
    if (more && !isnan(eta))
        monitor_line_format(&mon->line, "  ETA %s", fdl_format_eta(eta, text, sizeof text));
    monitor_line_text(&mon->line, "]");
    monitor_line_style(&mon->line, MONITOR_PLAIN);
}

static void add_load(fdl_monitor *mon)
{
    const fdl_monitor_resources *load = &mon->load;
    char text[FDL_TEXT_SIZE];
    const char *gap = mon->n_devices ? "  " : "";
    if (!isnan(load->cpu)) {
        monitor_line_format(&mon->line, "%sCPU: %d%%", gap, (int)lround(load->cpu));
        gap = "  ";
    }
    if (load->rss >= 0)
        monitor_line_format(&mon->line, "%sRSS: %s", gap, fdl_format_bytes(load->rss, text, sizeof text));
}

/* On the last line, where the ETA is missing, in the column of the line before. */
static void add_machine(fdl_monitor *mon, bool last)
{
    bool load = mon->resources && (!isnan(mon->load.cpu) || mon->load.rss >= 0);
    if (mon->n_devices == 0 && !load)
        return;
    int column = mon->line.columns + 2;
    if (last && column < mon->machine_column)
        column = mon->machine_column;
    mon->machine_column = column;
    monitor_line_pad(&mon->line, column);
    monitor_line_style(&mon->line, MONITOR_DIM);
    monitor_devices_line(&mon->line, mon->devices, mon->n_devices);
    if (load)
        add_load(mon);
}

static fdl_status epoch_line(fdl_monitor *mon, int64_t epoch, double seconds, const char *function)
{
    begin_line(mon, INT_MAX);
    add_epoch(mon, epoch);
    add_metrics(mon, mon->n_metrics);
    add_times(mon, seconds, mon->total - epoch > 1);
    add_machine(mon, mon->total - epoch == 1);
    return put(mon, false, function);
}

/* ---- the live line ------------------------------------------------------------------------------- */

static void add_bar(fdl_monitor *mon, int columns)
{
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    int full = (int)(mon->done * columns), part = (int)(mon->done * columns * 8) % 8;
    monitor_line_text(&mon->line, " |");
    monitor_line_style(&mon->line, MONITOR_GREEN);
    int end = mon->line.columns + columns;
    for (int i = 0; i < full; i++)
        monitor_line_text(&mon->line, mon->terminal.utf8 ? "█" : "=");
    if (full < columns)
        monitor_line_text(&mon->line, mon->terminal.utf8 ? eighths[part] : part >= 4 ? "-" : "");
    monitor_line_pad(&mon->line, end);
    monitor_line_style(&mon->line, MONITOR_PLAIN);
    monitor_line_text(&mon->line, "|");
}

static void compose_live(fdl_monitor *mon, int64_t batch, int64_t batches, int bar, int64_t metrics,
                         int limit)
{
    begin_line(mon, limit);
    add_epoch(mon, mon->current);
    if (bar)
        add_bar(mon, bar);
    if (batches > 0) {
        int width = snprintf(NULL, 0, "%lld", (long long)batches);
        monitor_line_format(&mon->line, " %*lld/%lld", width, (long long)batch, (long long)batches);
    } else
        monitor_line_format(&mon->line, " %lld", (long long)batch);
    add_metrics(mon, metrics);
    add_times(mon, mon->progress_at - mon->epoch_start, mon->current < mon->total);
}

/* Where the terminal is too narrow, what is left out are the last metrics, then the bar, then the first
 * metric; the times stay. The bar takes what is over. */
static fdl_status live_line(fdl_monitor *mon, int64_t batch, int64_t batches, const char *function)
{
    int limit =
        monitor_terminal_columns(mon->out) - 1; /* in the last column some terminals begin a new line */
    compose_live(mon, batch, batches, 0, 0, INT_MAX);
    const int frame = (int)strlen(" ||"), least_bar = batches > 0 ? frame + BAR_LEAST : 0;
    int room = limit - mon->line.columns;
    int64_t metrics = 0;
    for (; metrics < mon->n_metrics; metrics++) {
        char value[FDL_TEXT_SIZE];
        fdl_format_metric(mon->metrics[metrics].value, value, sizeof value);
        int more = monitor_columns(mon->metrics[metrics].name) + (int)strlen("  =") + (int)strlen(value);
        if (more > room - (metrics > 0 ? least_bar : 0))
            break;
        room -= more;
    }
    int bar = room - frame;
    bar = batches == 0 || bar < BAR_LEAST ? 0 : bar < BAR_COLUMNS ? bar : BAR_COLUMNS;
    compose_live(mon, batch, batches, bar, metrics, limit);
    mon->drawn_at = mon->progress_at;
    return put(mon, true, function);
}

/* ---- a run ------------------------------------------------------------------------------------- */

fdl_status fdl_monitor_begin(fdl_monitor *mon, int64_t epoch)
{
    FDL_TRY(check_open(mon, "fdl_monitor_begin"));
    FDL_TRY(check_epoch(epoch, "fdl_monitor_begin"));
    double now = mon->clock(mon->clock_ctx);
    if (!mon->started) {
        start(mon, now);
        mon->behind = epoch;
    }
    mon->epoch_start = mon->progress_at = now;
    mon->current = epoch;
    mon->done = 0;
    return FDL_OK;
}

fdl_status fdl_monitor_progress_opt(fdl_monitor *mon, int64_t batch, int64_t batches,
                                    const fdl_monitor_progress_opts *opts)
{
    static const char function[] = "fdl_monitor_progress";
    static const fdl_monitor_progress_opts defaults;
    if (!opts)
        opts = &defaults;
    FDL_TRY(check_open(mon, function));
    if (batch < 0 || batches < 0)
        return fdl_fail(FDL_E_ARG, "%s: batch %lld of %lld; both must be 0 or more", function,
                        (long long)batch, (long long)batches);
    FDL_TRY(check_metrics(opts->metrics, 0, opts->samples, function));
    double now = mon->clock(mon->clock_ctx);
    if (!mon->started)
        start(mon, now);
    mon->progress_at = now;
    mon->done = batch < batches ? (double)batch / (double)batches : batches > 0;
    if (mon->terminal.live && now - mon->drawn_at >= DRAW_EVERY && speaks(mon)) {
        gather(mon, NULL, opts->metrics, opts->samples, now - mon->epoch_start);
        FDL_TRY(live_line(mon, batch, batches, function));
    }
    return check_signal(mon, function);
}

fdl_status fdl_monitor_clear(fdl_monitor *mon)
{
    if (!mon)
        return fdl_null_operand("fdl_monitor_clear", "the monitor");
    if (!mon->live)
        return FDL_OK;
    begin_line(mon, INT_MAX);
    fdl_status status = put(mon, true, "fdl_monitor_clear");
    mon->live = false;
    mon->drawn_at = -INFINITY;
    return status;
}

fdl_status fdl_monitor_log_opt(fdl_monitor *mon, int64_t epoch, double seconds,
                               const fdl_monitor_log_opts *opts)
{
    static const char function[] = "fdl_monitor_log";
    static const fdl_monitor_log_opts defaults;
    if (!opts)
        opts = &defaults;
    FDL_TRY(check_open(mon, function));
    FDL_TRY(check_epoch(epoch, function));
    FDL_SCOPE;
    const fdl_metric *of_graph = NULL;
    int n = 0;
    if (opts->graph && !(of_graph = fdl_graph_latest_metrics(opts->graph, &n)))
        return fdl_error_pending();
    FDL_TRY(check_metrics(of_graph, 0, 0, function));
    FDL_TRY(check_metrics(opts->metrics, n, opts->samples, function));
    count_epoch(mon, epoch, mon->clock(mon->clock_ctx));
    gather(mon, of_graph, opts->metrics, opts->samples, seconds);
    sample(mon);
    fdl_monitor_record record = {epoch, seconds, mon->metrics, mon->n_metrics, mon->load};
    bool recorded = monitor_history_add(&mon->history, &record);
    fdl_status written = speaks(mon) ? epoch_line(mon, epoch, seconds, function) : FDL_OK;
    if (!recorded)
        return fdl_fail(FDL_E_OOM, "%s: memory ran out after %lld epochs; epoch %lld isn't recorded",
                        function, (long long)mon->history.n, (long long)epoch);
    return written != FDL_OK ? written : check_signal(mon, function);
}

fdl_status fdl_monitor_finish(fdl_monitor *mon)
{
    if (!mon)
        return fdl_null_operand("fdl_monitor_finish", "the monitor");
    if (mon->finished)
        return FDL_OK;
    mon->finished = true;
    if (!speaks(mon))
        return FDL_OK;
    char text[FDL_TEXT_SIZE];
    int number = monitor_interrupt_signal(mon);
    begin_line(mon, INT_MAX);
    monitor_line_text(&mon->line, "  ");
    monitor_line_style(&mon->line, number ? MONITOR_PLAIN : MONITOR_GREEN);
    monitor_line_text(&mon->line, number == 0        ? "training complete in "
                                  : number == SIGINT ? "training stopped by SIGINT after "
                                                     : "training stopped by SIGTERM after ");
    monitor_line_text(&mon->line,
                      fdl_format_eta(mon->clock(mon->clock_ctx) - mon->run_start, text, sizeof text));
    monitor_line_style(&mon->line, MONITOR_PLAIN);
    const fdl_monitor_record *last = mon->history.n ? &mon->history.records[mon->history.n - 1] : NULL;
    for (int64_t i = 0; last && i < last->n_metrics; i++) {
        monitor_line_text(&mon->line, "  | ");
        monitor_line_text(&mon->line, last->metrics[i].name);
        monitor_line_text(&mon->line, ": ");
        monitor_line_text(&mon->line, fdl_format_metric(last->metrics[i].value, text, sizeof text));
    }
    return put(mon, false, "fdl_monitor_finish");
}

const fdl_monitor_record *fdl_monitor_history(const fdl_monitor *mon, int64_t *n)
{
    if (n)
        *n = mon ? mon->history.n : 0;
    return mon && mon->history.n ? mon->history.records : NULL;
}

/* ---- signals ----------------------------------------------------------------------------------- */

fdl_status fdl_monitor_on_signal(fdl_monitor *mon)
{
    return mon ? monitor_interrupt_open(mon) : fdl_null_operand("fdl_monitor_on_signal", "the monitor");
}

int fdl_monitor_signal(const fdl_monitor *mon)
{
    return mon ? monitor_interrupt_signal(mon) : 0;
}
