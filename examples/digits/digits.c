/* The whole of a training run on real data: 1,797 handwritten digits of 8x8 pixels that the program carries with it. A
 * convolutional network as one flow, random shifts, AdamW with a one-cycle rate, the monitor, the confusion matrix, and
 * the weights saved, loaded into a second network and compared.
 *
 *     digits [--epochs N] [--seed N] [--device cpu|cuda] [--save FILE]
 */
#include <getopt.h>
#include <unistd.h>

#include <flodl/flodl.h>

#include "digits_data.h"

enum { CLASSES = 10, SIDE = 8, PIXELS = SIDE * SIDE, TEST = 360, TRAIN = DIGITS_COUNT - TEST, BATCH = 64 };

static const double bar = 0.95; /* what the demo promises */

static fdl_module *block(int64_t in, int64_t out)
{
    return fdl_flow(fdl_nn_conv2d(in, out, 3, .padding = 1, .no_bias = true), fdl_nn_batch_norm2d(out),
                    fdl_nn_relu());
}

static fdl_module *network(void)
{
    return fdl_flow(block(1, 16), block(16, 32), fdl_nn_max_pool2d(2), /* [N, 32, 4, 4] */
                    fdl_flow_also(block(32, 32)), fdl_nn_adaptive_avg_pool2d(1, 1), fdl_nn_flatten(),
                    fdl_flow_tag("features"), fdl_nn_dropout(0.1), fdl_nn_linear(32, CLASSES),
                    fdl_flow_tag("logits"));
}

/* ---- data ------------------------------------------------------------------------------------------------ */

/* Every class gives the same share of its samples, drawn with the seed, to the test. */
static void split(uint64_t seed, int64_t train[TRAIN], int64_t test[TEST])
{
    int64_t order[DIGITS_COUNT];
    fdl_rng rng = fdl_rng_seed(seed);
    for (int64_t i = 0; i < DIGITS_COUNT; i++)
        order[i] = i;
    fdl_rng_shuffle(&rng, order, DIGITS_COUNT, sizeof *order);
    int n_train = 0, n_test = 0, count[CLASSES] = {0}, taken[CLASSES] = {0};
    for (int i = 0; i < DIGITS_COUNT; i++)
        count[digits_labels[i]]++;
    for (int i = 0; i < DIGITS_COUNT; i++) {
        int label = digits_labels[order[i]];
        if (n_test < TEST && taken[label] * DIGITS_COUNT < count[label] * TEST) {
            taken[label]++;
            test[n_test++] = order[i];
        } else if (n_train < TRAIN) {
            train[n_train++] = order[i];
        } else {
            test[n_test++] = order[i];
        }
    }
}

/* The images [N, 1, 8, 8], 0 to 1, and the labels [N]. */
static fdl_dataset *digits(void)
{
    FDL_SCOPE;
    fdl_tensor *pixels = fdl_from_u8(digits_pixels, FDL_SHAPE(DIGITS_COUNT, 1, SIDE, SIDE));
    fdl_tensor *labels = fdl_long(fdl_from_u8(digits_labels, FDL_SHAPE(DIGITS_COUNT)));
    return fdl_data_tensors(FDL_LIST(fdl_div(fdl_float(pixels), 16), labels));
}

/* The batch moved by up to one pixel in each direction. */
static fdl_tensor *shifted(fdl_tensor *x, fdl_rng *rng)
{
    fdl_tensor *wide = fdl_pad(x, FDL_DIMS(1, 1, 1, 1));
    int64_t down = (int64_t)fdl_rng_below(rng, 3), right = (int64_t)fdl_rng_below(rng, 3);
    return fdl_narrow(fdl_narrow(wide, 2, down, SIDE), 3, right, SIDE);
}

/* ---- evaluation --------------------------------------------------------------------------------------------- */

typedef struct result {
    double accuracy;
    int confusion[CLASSES][CLASSES]; /* [true][read] */
    int n_wrong;
    struct {
        int64_t sample;
        int read;
    } wrong[TEST];
} result;

/* Sample i of the loader is sample samples[i] of all. */
static result evaluate(fdl_module *model, fdl_loader *data, const int64_t samples[TEST])
{
    result r = {0};
    FDL_NO_GRAD;
    FDL_CHECK(fdl_eval(model));
    FDL_BATCHES(b, data, 0)
    {
        int64_t read[TEST], rows = fdl_data_rows(b);
        fdl_tensor *best = fdl_argmax(fdl_forward(model, fdl_data_named(b, "image")), 1);
        FDL_CHECK(fdl_to_i64(best, read, rows));
        for (int64_t i = 0; i < rows; i++) {
            int64_t sample = samples[fdl_data_indices(b)[i]];
            r.confusion[digits_labels[sample]][read[i]]++;
            if (read[i] != digits_labels[sample]) {
                r.wrong[r.n_wrong].sample = sample;
                r.wrong[r.n_wrong++].read = (int)read[i];
            }
        }
    }
    FDL_CHECK(fdl_data_status(data));
    FDL_CHECK(fdl_train(model));
    r.accuracy = 1 - (double)r.n_wrong / TEST;
    return r;
}

static void print_confusion(const result *r)
{
    printf("\n  rows: the digit; columns: what was read\n     ");
    for (int j = 0; j < CLASSES; j++)
        printf("%4d", j);
    for (int i = 0; i < CLASSES; i++) {
        printf("\n  %d |", i);
        for (int j = 0; j < CLASSES; j++)
            if (r->confusion[i][j])
                printf("%4d", r->confusion[i][j]);
            else
                printf("   .");
    }
    printf("\n");
}

/* Some of the digits that were read wrongly, side by side. */
static void print_wrong(const result *r)
{
    static const char *const shade[] = {"  ", "\u2591\u2591", "\u2592\u2592", "\u2593\u2593", "\u2588\u2588"};
    int n = r->n_wrong < 5 ? r->n_wrong : 5;
    if (!n)
        return;
    printf("\n  read wrongly:\n");
    for (int k = 0; k < n; k++)
        printf("  %d read as %d      ", digits_labels[r->wrong[k].sample], r->wrong[k].read);
    for (int row = 0; row < SIDE; row++) {
        printf("\n");
        for (int k = 0; k < n; k++) {
            printf("  ");
            for (int col = 0; col < SIDE; col++)
                printf("%s", shade[(digits_pixels[r->wrong[k].sample * PIXELS + row * SIDE + col] + 3) / 4]);
        }
    }
    printf("\n\n");
}

/* ---- training ---------------------------------------------------------------------------------------------- */

typedef struct run {
    fdl_module *model;
    fdl_params *params;
    fdl_optim *opt;
    fdl_sched *rate;
    fdl_trainer *trainer;
    fdl_tensor *correct; /* of this epoch's training, counted on the device */
    fdl_loader *train, *test;
    fdl_monitor *monitor;
    fdl_rng rng;
} run;

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    run *r = ctx;
    fdl_tensor *logits = fdl_forward(model, batch.at[0]);
    FDL_TRY_NULL(fdl_add_(r->correct, fdl_sum(fdl_eq(fdl_argmax(logits, 1), batch.at[1]))));
    return fdl_cross_entropy(logits, batch.at[1]);
}

/* One pass over the training data; the mean loss and the accuracy on it. FDL_E_CANCELLED after Ctrl-C. */
static fdl_status train_epoch(run *r, int epoch, double *loss, double *accuracy)
{
    int64_t batches = fdl_data_loader_batches(r->train), done = 0;
    FDL_TRY(fdl_zero_(r->correct));
    FDL_BATCHES(b, r->train, epoch)
    {
        fdl_tensor *x = shifted(fdl_data_named(b, "image"), &r->rng);
        FDL_TRY(fdl_trainer_step(r->trainer, FDL_LIST(x, fdl_data_named(b, "label"))));
        done++;
        FDL_TRY(fdl_monitor_progress(r->monitor, done, batches, .samples = done * BATCH));
    }
    FDL_TRY(fdl_data_status(r->train));
    *accuracy = fdl_item(r->correct) / (double)(batches * BATCH);
    return fdl_trainer_mean_loss(r->trainer, loss);
}

/* A second network with the saved weights must read the test exactly as the first does. */
static bool loads_again(fdl_module *model, const char *path, fdl_loader *test, const int64_t samples[TEST])
{
    FDL_CHECK(fdl_ckpt_save(model, path));
    fdl_module *copy = network();
    FDL_NEED(copy);
    FDL_CHECK(fdl_module_to(copy, fdl_data_loader_device(test)));
    FDL_CHECK(fdl_ckpt_load(copy, path));
    result a = evaluate(model, test, samples), b = evaluate(copy, test, samples);
    bool equal = memcmp(a.confusion, b.confusion, sizeof a.confusion) == 0;
    FDL_BATCHES(batch, test, 0)
    {
        FDL_NO_GRAD;
        fdl_tensor *x = fdl_data_named(batch, "image");
        FDL_CHECK(fdl_eval(model));
        FDL_CHECK(fdl_eval(copy));
        equal = equal && fdl_same(fdl_forward(model, x), fdl_forward(copy, x));
    }
    FDL_CHECK(fdl_module_free(copy));
    return equal;
}

int main(int argc, char **argv)
{
    int epochs = 30;
    uint64_t seed = 42;
    fdl_device device = FDL_CPU;
    const char *save = NULL;
    static const struct option options[] = {{"epochs", required_argument, NULL, 'e'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"save", required_argument, NULL, 'o'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'e':
            epochs = atoi(optarg);
            break;
        case 's':
            seed = strtoull(optarg, NULL, 10);
            break;
        case 'd':
            FDL_CHECK(fdl_device_parse(optarg, &device));
            break;
        case 'o':
            save = optarg;
            break;
        default:
            return 2;
        }
    if (epochs < 1 || optind < argc) {
        fprintf(stderr,
                "usage: digits [--epochs N] [--seed N] [--device cpu|cuda] [--save FILE], N from 1\n");
        return 2;
    }

    int64_t train[TRAIN], test[TEST];
    split(seed, train, test);
    FDL_CHECK(fdl_manual_seed(seed));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_CHECK(fdl_set_num_threads(1)); /* kernels this small gain nothing from a second one */
    run r = {.model = network(), .rng = fdl_rng_seed(seed), .monitor = fdl_monitor_new(epochs)};
    r.params = fdl_parameters(r.model);
    r.opt = fdl_optim_adamw(r.params, .lr = 2e-3, .weight_decay = 1e-2);
    const char *const *names = FDL_NAMES("image", "label");
    r.train = fdl_data_loader(fdl_data_subset(digits(), train, TRAIN), BATCH, .names = names,
                              .seed = FDL_SOME((int64_t)seed));
    r.test = fdl_data_eval_loader(fdl_data_subset(digits(), test, TEST), TEST, .names = names);
    r.rate = fdl_sched_one_cycle(2e-3, epochs * fdl_data_loader_batches(r.train));
    r.trainer = fdl_trainer_new(r.model, r.opt, loss_of, .ctx = &r, .clip_norm = 1.0, .sched = r.rate);
    r.correct = fdl_zeros(FDL_SCALAR, .dtype = FDL_INT64);
    FDL_NEED(r.train && r.test && r.trainer && r.correct && r.monitor);
    FDL_CHECK(fdl_monitor_on_signal(r.monitor));

    char name[FDL_DEVICE_NAME_SIZE];
    printf("digits: %d images to learn from, %d to test; %lld parameters, on %s\n", TRAIN, TEST,
           (long long)fdl_params_numel(r.params), fdl_device_name(device, name));

    fdl_status status = FDL_OK;
    for (int epoch = 0; epoch < epochs && status == FDL_OK; epoch++) {
        double start = fdl_now(), loss, accuracy;
        FDL_CHECK(fdl_monitor_begin(r.monitor, epoch));
        status = train_epoch(&r, epoch, &loss, &accuracy);
        if (status != FDL_OK)
            break;
        double seconds = fdl_now() - start;
        status =
            fdl_monitor_log(r.monitor, epoch, seconds, .samples = fdl_data_loader_batches(r.train) * BATCH,
                            .metrics = FDL_METRICS({"loss", loss}, {"accuracy", accuracy},
                                                   {"test", evaluate(r.model, r.test, test).accuracy},
                                                   {"lr", fdl_optim_lr(r.opt)}));
    }
    if (status != FDL_OK && status != FDL_E_CANCELLED)
        FDL_CHECK(status);
    FDL_CHECK(fdl_monitor_finish(r.monitor));

    result final = evaluate(r.model, r.test, test);
    print_confusion(&final);
    print_wrong(&final);
    printf("test accuracy %.4f (%d of %d)\n", final.accuracy, TEST - final.n_wrong, TEST);

    char temporary[] = "/tmp/digits.XXXXXX";
    if (!save) {
        int file = mkstemp(temporary);
        FDL_NEED(file >= 0 && close(file) == 0);
    }
    bool equal = loads_again(r.model, save ? save : temporary, r.test, test);
    if (save)
        printf("weights in %s\n", save);
    else
        unlink(temporary);
    printf("weights saved and loaded again: %s\n", equal ? "equal results" : "DIFFERENT results");

    int signal = fdl_monitor_signal(r.monitor);
    fdl_monitor_free(r.monitor);
    fdl_data_loader_free(r.train);
    fdl_data_loader_free(r.test);
    fdl_trainer_free(r.trainer);
    fdl_sched_free(r.rate);
    fdl_optim_free(r.opt);
    FDL_CHECK(fdl_module_free(r.model));
    if (signal)
        return 128 + signal;
    if (final.accuracy < bar)
        printf("the accuracy is below %.2f\n", bar);
    return final.accuracy >= bar && equal ? 0 : 1;
}
