/* Watching a model train: the loss and two tagged values of every batch, an epoch's means as trends, the decision to stop
 * made from them, and the whole history as CSV, JSON lines and a run for TensorBoard.
 *
 *     observation [--out FOLDER]       the files go there and stay; else into a temporary folder that is removed
 *
 * `tensorboard --logdir FOLDER` shows the curves and the histograms.
 */
#include <math.h>
#include <unistd.h>

#include <flodl/flodl.h>

enum { BATCH = 64, BATCHES = 16, MOST_EPOCHS = 300, WIDTH = 32 };

static const double bar = 0.01; /* what the loss must come down to */

static fdl_module *network(void)
{
    fdl_module *encoder =
        fdl_flow(fdl_flow_label("encoder"), fdl_nn_linear(1, WIDTH), fdl_nn_gelu(), fdl_flow_tag("hidden"));
    return fdl_flow(encoder, fdl_flow_also(fdl_flow(fdl_nn_linear(WIDTH, WIDTH), fdl_nn_gelu())),
                    fdl_nn_linear(WIDTH, 1), fdl_flow_tag("out"));
}

/* One batch of sin(x) on [-3, 3]: what is recorded stays on the device, nothing here waits for it. */
static fdl_status train_batch(fdl_module *model, fdl_optim *opt)
{
    FDL_SCOPE;
    fdl_tensor *x = fdl_mul(fdl_sub(fdl_rand(FDL_SHAPE(BATCH, 1)), 0.5), 6.0);
    fdl_tensor *loss = fdl_mse_loss(fdl_forward(model, x), fdl_sin(x));
    FDL_TRY(fdl_optim_zero_grad(opt));
    FDL_TRY(fdl_backward(loss));
    FDL_TRY(fdl_optim_step(opt));
    FDL_TRY(fdl_graph_record_tensor(model, "loss", loss));
    FDL_TRY(fdl_graph_collect_with(model, FDL_REDUCE_NORM, "out"));
    FDL_TRY(fdl_graph_collect_at(model, "encoder.hidden"));
    return fdl_graph_collect_histogram(fdl_graph_child(model, "encoder"), "hidden");
}

/* Enough: the loss neither falls nor rises any more, or has not been better by a tenth of a thousandth for 25 epochs. */
static bool plateau(const fdl_trend *loss)
{
    if (fdl_trend_median(loss, 5) > bar)
        return false;
    return fdl_trend_stalled(loss, 10, 1e-5) || fdl_trend_since_best(loss, 0, .min_delta = 1e-4) >= 25;
}

static fdl_status train(fdl_module *model, fdl_optim *opt, fdl_monitor *mon, fdl_events *events)
{
    for (int64_t epoch = 0; epoch < MOST_EPOCHS; epoch++) {
        double start = fdl_now();
        for (int i = 0; i < BATCHES; i++)
            FDL_TRY(train_batch(model, opt));
        FDL_TRY(fdl_graph_flush(model)); /* the means of the epoch, of the encoder's metrics, too */
        FDL_TRY(fdl_graph_write_events(model, events));
        if (epoch % 20 == 0)
            FDL_TRY(fdl_monitor_log(mon, epoch, fdl_now() - start, .graph = model));
        if (plateau(fdl_graph_trend(model, "loss")))
            break;
    }
    FDL_TRY(fdl_events_text(events, "notes", "stopped by the loss's plateau", fdl_graph_flush_count(model)));
    return fdl_monitor_finish(mon);
}

static void report(fdl_module *model)
{
    const fdl_trend *loss = fdl_graph_trend(model, "loss");
    printf("%lld epochs: loss %.5f, best %.5f %lld epochs ago, median of the last 5 %.5f\n",
           (long long)fdl_trend_len(loss), fdl_trend_latest(loss), fdl_trend_best(loss, 0),
           (long long)fdl_trend_since_best(loss, 0), fdl_trend_median(loss, 5));
    printf("slope of the last 10 epochs %.2g an epoch, average %.5f\n", fdl_trend_slope(loss, 10),
           fdl_trend_ema(loss, 0.2));
    for (const fdl_metric *m = fdl_graph_latest_metrics(model, NULL); !fdl_metric_is_end(m); m++)
        printf("  %-16s %.5f\n", m->name, m->value);
}

/* ---- what was written ------------------------------------------------------------------------------------- */

static char *whole(const char *folder, const char *name)
{
    char path[512];
    size_t n;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    char *text = fdl_file_read(path, 0, &n);
    FDL_NEED(text);
    return text;
}

static int64_t lines_of(const char *text)
{
    int64_t n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* The files say what the trends say. */
static void check_files(fdl_module *model, const char *folder)
{
    const fdl_trend *loss = fdl_graph_trend(model, "loss");
    int64_t epochs = fdl_trend_len(loss);
    char *csv = whole(folder, "training.csv"), *json = whole(folder, "training.jsonl"), last[64];
    FDL_NEED(strncmp(csv, "epoch,loss,encoder.hidden\n", 26) == 0);
    FDL_NEED(lines_of(csv) == epochs + 1);
    FDL_NEED(lines_of(json) == epochs);
    snprintf(last, sizeof last, "\n%lld,%.8f,", (long long)epochs, fdl_trend_latest(loss));
    FDL_NEED(strstr(csv, last));
    free(csv);
    free(json);
    int n;
    const fdl_histogram *const *h = fdl_graph_histograms(fdl_graph_child(model, "encoder"), "hidden", &n);
    FDL_NEED(n == epochs && h[0]->num == (double)BATCH * BATCHES * WIDTH);
}

static void remove_files(const char *folder, const char *events)
{
    char path[512];
    static const char *const names[] = {"training.csv", "training.jsonl", "training.log"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        remove(path);
    }
    remove(events);
    rmdir(folder);
}

int main(int argc, char **argv)
{
    char temporary[] = "/tmp/flodl-observation-XXXXXX", path[512];
    bool keep = argc == 3 && strcmp(argv[1], "--out") == 0;
    if (argc != 1 && !keep) {
        fprintf(stderr, "usage: observation [--out FOLDER]\n");
        return 2;
    }
    const char *folder = keep ? argv[2] : mkdtemp(temporary);
    FDL_NEED(folder);
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed(1));
    fdl_module *model = network();
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 5e-3);
    fdl_monitor *mon = fdl_monitor_new(MOST_EPOCHS);
    fdl_events *events = fdl_events_open(folder);
    FDL_NEED(model && opt && mon && events);

    FDL_CHECK(train(model, opt, mon, events));
    report(model);
    snprintf(path, sizeof path, "%s/training.csv", folder);
    FDL_CHECK(fdl_graph_export_csv(model, path, "loss", "encoder.hidden"));
    snprintf(path, sizeof path, "%s/training.jsonl", folder);
    FDL_CHECK(fdl_graph_export_jsonl(model, path));
    snprintf(path, sizeof path, "%s/training.log", folder);
    FDL_CHECK(fdl_graph_write_log(model, path, MOST_EPOCHS));
    check_files(model, folder);

    const fdl_trend *loss = fdl_graph_trend(model, "loss");
    FDL_NEED(fdl_trend_best(loss, 0) < bar);
    FDL_NEED(fdl_trend_len(loss) < MOST_EPOCHS);
    char *file = strdup(fdl_events_path(events));
    FDL_NEED(file);
    FDL_CHECK(fdl_events_close(events));
    if (keep)
        printf("files in %s\n", folder);
    else
        remove_files(folder, file);
    free(file);
    fdl_monitor_free(mon);
    fdl_optim_free(opt);
    fdl_module_free(model);
    return 0;
}
