/* A LeNet-sized network on the real MNIST: 60,000 digits of 28x28 to learn from, 10,000 to test.
 *
 *     mnist [--epochs N] [--seed N] [--device cpu|cuda] [--data DIR]
 *
 * DIR, or FLODL_DATA in the environment, is the folder that has mnist/train-images-idx3-ubyte.gz and its three companions.
 * Exits with 0 when the test accuracy reaches 0.989 after 5 epochs or more. */
#include <getopt.h>

#include <flodl/flodl.h>

enum { BATCH = 64, TEST_BATCH = 1000 };

static const double bar = 0.989;

static fdl_module *lenet(void)
{
    return fdl_flow(/* [N, 1, 28, 28] */
                    fdl_nn_conv2d(1, 16, 5, .padding = 2), fdl_nn_relu(), fdl_nn_max_pool2d(2),
                    fdl_nn_conv2d(16, 32, 5), fdl_nn_relu(), fdl_nn_max_pool2d(2),
                    fdl_nn_flatten(), /* [N, 800] */
                    fdl_nn_linear(800, 120), fdl_nn_relu(), fdl_nn_dropout(0.25), fdl_nn_linear(120, 84),
                    fdl_nn_relu(), fdl_nn_linear(84, 10));
}

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

static double accuracy(fdl_module *model, fdl_loader *data)
{
    FDL_NO_GRAD;
    FDL_SCOPE;
    FDL_CHECK(fdl_eval(model));
    fdl_tensor *correct = fdl_zeros(FDL_SCALAR, .dtype = FDL_INT64);
    FDL_BATCHES(b, data, 0)
    {
        fdl_tensor *read = fdl_argmax(fdl_forward(model, fdl_data_named(b, "image")), 1);
        FDL_CHECK(fdl_add_(correct, fdl_sum(fdl_eq(read, fdl_data_named(b, "label")))));
    }
    FDL_CHECK(fdl_data_status(data));
    FDL_CHECK(fdl_train(model));
    return fdl_item(correct) / (double)fdl_data_loader_len(data);
}

int main(int argc, char **argv)
{
    int epochs = 5;
    uint64_t seed = 42;
    fdl_device device = FDL_CPU;
    const char *dir = getenv("FLODL_DATA");
    static const struct option options[] = {{"epochs", required_argument, NULL, 'e'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"device", required_argument, NULL, 'd'},
                                            {"data", required_argument, NULL, 'f'},
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
        case 'f':
            dir = optarg;
            break;
        default:
            return 2;
        }
    if (epochs < 1 || optind < argc || !dir) {
        fprintf(stderr,
                "usage: mnist [--epochs N] [--seed N] [--device cpu|cuda] [--data DIR], N from 1\n"
                "the data: --data DIR, or FLODL_DATA in the environment, the folder that has mnist/\n");
        return 2;
    }

    FDL_CHECK(fdl_manual_seed(seed));
    FDL_CHECK(fdl_set_default_device(device));
    fdl_loader *train = fdl_data_loader(fdl_data_mnist(dir), BATCH, .seed = FDL_SOME((int64_t)seed));
    fdl_loader *test = fdl_data_eval_loader(fdl_data_mnist(dir, .split = FDL_TEST), TEST_BATCH);
    fdl_module *model = lenet();
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model));
    fdl_sched *rate = fdl_sched_one_cycle(3e-3, epochs * fdl_data_loader_batches(train));
    fdl_monitor *monitor = fdl_monitor_new(epochs);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, loss_of, .sched = rate);
    FDL_NEED(train && test && trainer && monitor);
    FDL_CHECK(fdl_monitor_on_signal(monitor));

    int64_t batches = fdl_data_loader_batches(train), step = 0;
    double reached = 0;
    fdl_status status = FDL_OK;
    for (int epoch = 0; epoch < epochs && status == FDL_OK; epoch++) {
        double start = fdl_now(), loss = 0;
        FDL_CHECK(fdl_monitor_begin(monitor, epoch));
        FDL_BATCHES(b, train, epoch)
        {
            FDL_CHECK(fdl_trainer_step(trainer, fdl_data_list(b))); /* the image, the label */
            if (++step % 50 && step % batches)
                continue; /* the loss is read now and then: reading waits for the device */
            FDL_CHECK(fdl_trainer_loss(trainer, &loss));
            int64_t done = step - epoch * batches;
            status = fdl_monitor_progress(monitor, done, batches, .samples = done * BATCH,
                                          .metrics = FDL_METRICS({"loss", loss}));
            if (status != FDL_OK)
                break;
        }
        FDL_CHECK(fdl_data_status(train));
        if (status != FDL_OK)
            break;
        double seconds = fdl_now() - start;
        reached = accuracy(model, test);
        status = fdl_monitor_log(
            monitor, epoch, seconds, .samples = batches * BATCH,
            .metrics = FDL_METRICS({"loss", loss}, {"accuracy", reached}, {"lr", fdl_optim_lr(opt)}));
    }
    if (status != FDL_OK && status != FDL_E_CANCELLED)
        FDL_CHECK(status);
    FDL_CHECK(fdl_monitor_finish(monitor));
    printf("test accuracy %.4f\n", reached);

    int signal = fdl_monitor_signal(monitor);
    fdl_monitor_free(monitor);
    fdl_trainer_free(trainer);
    fdl_sched_free(rate);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));
    fdl_data_loader_free(train);
    fdl_data_loader_free(test);
    if (signal)
        return 128 + signal;
    if (epochs >= 5 && reached < bar) {
        printf("the accuracy is below %.3f\n", bar);
        return 1;
    }
    return 0;
}
