/* What the trainer costs over the same loop by hand, on the CPU, one thread: a network of 4 -> 8 -> 2 on 4 rows, where calls
 * are all there is. Steps of both kinds take turns; medians in microseconds, and the difference.
 *
 *     trainer [--rounds N] [--max-us X]
 *
 * Exits with 1 when the difference is above X (default 2). */
#include <getopt.h>

#include <flodl/flodl.h>

#include "parts/median.h"

enum { STEPS = 4000, MAX_ROUNDS = 101 };

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[1]);
}

typedef struct side {
    fdl_module *model;
    fdl_optim *opt;
    fdl_trainer *trainer;
    double times[STEPS];
} side;

static void make(side *s)
{
    FDL_CHECK(fdl_manual_seed(1));
    s->model = fdl_flow(fdl_nn_linear(4, 8), fdl_nn_tanh(), fdl_nn_linear(8, 2));
    s->opt = fdl_optim_sgd(fdl_parameters(s->model), .lr = 1e-3);
    s->trainer = fdl_trainer_new(s->model, s->opt, loss_of);
    FDL_NEED(s->trainer);
}

/* The loss is read in both: the trainer on the CPU looks whether it is finite. */
static double by_hand(side *s, fdl_list batch)
{
    FDL_SCOPE;
    FDL_CHECK(fdl_optim_zero_grad(s->opt));
    fdl_tensor *loss = loss_of(s->model, batch, NULL);
    double value = fdl_item(loss);
    FDL_CHECK(fdl_backward(loss));
    FDL_CHECK(fdl_optim_step(s->opt));
    return value;
}

int main(int argc, char **argv)
{
    int rounds = 9;
    double most = 2;
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'}, {"max-us", required_argument, NULL, 'm'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (c == 'r')
            rounds = atoi(optarg);
        else if (c == 'm')
            most = atof(optarg);
        else
            return 2;
    if (rounds < 1 || rounds > MAX_ROUNDS)
        return 2;
    FDL_CHECK(fdl_set_num_threads(1));
    FDL_SCOPE;
    static side hand, trainer;
    make(&hand);
    make(&trainer);
    fdl_list batch = FDL_LIST(fdl_randn(FDL_SHAPE(4, 4)), fdl_randn(FDL_SHAPE(4, 2)));
    FDL_NEED(batch.at);
    double a[MAX_ROUNDS], b[MAX_ROUNDS], difference[MAX_ROUNDS];
    for (int r = 0; r < rounds; r++) {
        for (int t = 0; t < STEPS; t++) {
            double start = fdl_now();
            by_hand(&hand, batch);
            double between = fdl_now();
            FDL_CHECK(fdl_trainer_step(trainer.trainer, batch));
            trainer.times[t] = fdl_now() - between;
            hand.times[t] = between - start;
        }
        a[r] = median(hand.times, STEPS) * 1e6;
        b[r] = median(trainer.times, STEPS) * 1e6;
        difference[r] = b[r] - a[r];
    }
    double more = median(difference, rounds);
    printf("by hand %.2f us, trainer %.2f us, the trainer's own cost %.2f us a step\n", median(a, rounds),
           median(b, rounds), more);
    fdl_trainer_free(hand.trainer);
    fdl_trainer_free(trainer.trainer);
    fdl_optim_free(hand.opt);
    fdl_optim_free(trainer.opt);
    FDL_CHECK(fdl_module_free(hand.model));
    FDL_CHECK(fdl_module_free(trainer.model));
    return more > most;
}
