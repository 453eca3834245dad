/* A training step of a small network on the CPU, where the time goes into calls and not into kernels: 64 -> 32 -> 10, one
 * thread, Adam, the loss read at each step.
 *
 *     bench_digits_mlp [--batch N] [--rounds N] [--python PROGRAM] [--json FILE]
 *
 * With a Python that has PyTorch (--python, or python3) it measures the twin, benchmarks/digits_mlp.py, in turn and prints the
 * ratio; without, its own column alone. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

#include "twin.h"

enum { STEPS = 300, MAX_ROUNDS = 101 };

static fdl_tensor *inputs(int batch)
{
    fdl_tensor *i = fdl_arange(0, batch * 64, 1);
    return fdl_reshape(fdl_div(fdl_remainder_scalar(fdl_mul(i, 37), 17), 16), FDL_SHAPE(batch, 64));
}

static double step(fdl_module *model, fdl_optim *opt, fdl_tensor *x, fdl_tensor *y)
{
    FDL_SCOPE;
    fdl_tensor *loss = fdl_cross_entropy(fdl_forward(model, x), y);
    fdl_optim_zero_grad(opt);
    FDL_CHECK(fdl_backward(loss));
    FDL_CHECK(fdl_optim_step(opt));
    return fdl_item(loss);
}

static double round_seconds(fdl_module *model, fdl_optim *opt, fdl_tensor *x, fdl_tensor *y)
{
    double times[STEPS];
    for (int i = 0; i < STEPS; i++) {
        double start = fdl_now();
        step(model, opt, x, y);
        times[i] = fdl_now() - start;
    }
    return median(times, STEPS);
}

int main(int argc, char **argv)
{
    int batch = 8, rounds = 15;
    const char *python = "python3", *json = NULL;
    static const struct option options[] = {{"batch", required_argument, NULL, 'b'},
                                            {"rounds", required_argument, NULL, 'r'},
                                            {"python", required_argument, NULL, 'p'},
                                            {"json", required_argument, NULL, 'j'},
                                            {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (c) {
        case 'b':
            batch = atoi(optarg);
            break;
        case 'r':
            rounds = atoi(optarg);
            break;
        case 'p':
            python = optarg;
            break;
        case 'j':
            json = optarg;
            break;
        default:
            return 2;
        }
    if (batch < 1 || rounds < 1 || rounds > MAX_ROUNDS) {
        fprintf(stderr, "bench_digits_mlp: --batch from 1, --rounds from 1 to %d\n", MAX_ROUNDS);
        return 2;
    }

    FDL_CHECK(fdl_set_num_threads(1));
    FDL_CHECK(fdl_manual_seed(0));
    fdl_module *model = fdl_flow(fdl_nn_linear(64, 32), fdl_nn_relu(), fdl_nn_linear(32, 10));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model));
    fdl_tensor *x = inputs(batch);
    fdl_tensor *y = fdl_remainder_scalar(fdl_arange(0, batch, 1, .dtype = FDL_INT64), 10);
    FDL_NEED(model && opt && x && y);

    char number[16];
    snprintf(number, sizeof number, "%d", batch);
    twin other = {0};
    double theirs = 0, ours = step(model, opt, x, y);
    bool paired = twin_start(&other, python, FLODL_SOURCE_DIR "/benchmarks/digits_mlp.py", number) == 0 &&
                  twin_number(&other, &theirs) == 0;
    if (paired && !(fabs(ours - theirs) <= 1e-5 * fabs(theirs))) {
        fprintf(stderr, "bench_digits_mlp: the sides differ: first loss %.8g here, %.8g there\n", ours,
                theirs);
        return 1;
    }

    double mine[MAX_ROUNDS], other_side[MAX_ROUNDS], ratios[MAX_ROUNDS];
    round_seconds(model, opt, x, y); /* warm-up; the twin does its own */
    for (int r = 0; r < rounds; r++) {
        mine[r] = round_seconds(model, opt, x, y);
        if (paired && twin_round(&other, &other_side[r]) != 0)
            paired = false;
        ratios[r] = paired ? mine[r] / other_side[r] : NAN;
    }
    if (paired)
        twin_end(&other);

    double m = median(mine, rounds) * 1e6;
    printf("digits_mlp, batch %d, 1 thread, Adam, median of %d rounds of %d steps\n", batch, rounds, STEPS);
    printf("  flodl    %8.1f us a step\n", m);
    double o = NAN, ratio = NAN;
    if (paired) {
        o = median(other_side, rounds) * 1e6;
        ratio = median(ratios, rounds);
        printf("  PyTorch  %8.1f us a step (eager)\n  ratio    %8.2f\n", o, ratio);
    } else {
        printf("  PyTorch  not measured: %s has no torch\n", python);
    }
    if (json) {
        FILE *file = fopen(json, "w");
        if (!file ||
            fprintf(file,
                    "{\"benchmark\": \"digits_mlp\", \"batch\": %d, \"flodl_us\": %.2f, \"pytorch_us\": "
                    "%s%.2f%s, "
                    "\"ratio\": %s%.4f%s}\n",
                    batch, m, paired ? "" : "\"", o, paired ? "" : "\"", paired ? "" : "\"", ratio,
                    paired ? "" : "\"") < 0 ||
            fclose(file)) {
            perror(json);
            return 1;
        }
    }
    fdl_optim_free(opt);
    fdl_module_free(model);
    return 0;
}
