/* What one task has taught, used for another: an encoder that has learned to read the ten digits helps to learn from thirty
 * images which numbers are prime.
 *
 * The small network's encoder is saved, and loaded into a bigger one by its path. There it is frozen while the new head
 * learns; then it is thawed and all of it is tuned, slowly. The same network without the encoder's weights shows what they
 * are worth.
 *
 *     transfer_learning [--seed N]
 */
#include <getopt.h>
#include <unistd.h>

#include <flodl/flodl.h>

#include "../digits/digits_data.h"

enum { PIXELS = 64, DIGITS = 10, FEW = 30, FIRST = 900, WIDTH = 32 };

/* ---- networks -------------------------------------------------------------------------------------------- */

static fdl_module *block(int64_t in, int64_t out)
{
    return fdl_flow(fdl_nn_linear(in, out, .no_bias = true), fdl_nn_batch_norm(out), fdl_nn_relu());
}

/* x [N, 64] -> [N, WIDTH] */
static fdl_module *encoder(void)
{
    return fdl_flow(fdl_flow_label("encoder"), block(PIXELS, 2 * WIDTH), fdl_flow_tag("strokes"),
                    block(2 * WIDTH, WIDTH), fdl_flow_tag("features"));
}

static fdl_module *small_network(void)
{
    return fdl_flow(encoder(), fdl_nn_linear(WIDTH, DIGITS), fdl_flow_tag("logits"));
}

static fdl_module *big_network(void)
{
    return fdl_flow(encoder(), fdl_flow_also(fdl_flow(fdl_nn_linear(WIDTH, WIDTH), fdl_nn_relu())),
                    fdl_flow_tag("mixed"), fdl_nn_linear(WIDTH, 2), fdl_flow_tag("logits"));
}

/* ---- data ------------------------------------------------------------------------------------------------ */

typedef struct samples {
    int n;
    fdl_tensor *x, *label; /* [n, 64], [n] */
} samples;

/* Those from `from` up to `to` of the order, with what `label` says of each digit. */
static samples choose(const int64_t *order, int from, int to, const int64_t label[DIGITS])
{
    static uint8_t pixels[DIGITS_COUNT * PIXELS];
    static int64_t labels[DIGITS_COUNT];
    samples s = {.n = to - from};
    for (int i = 0; i < s.n; i++) {
        memcpy(pixels + i * PIXELS, digits_pixels + order[from + i] * PIXELS, PIXELS);
        labels[i] = label[digits_labels[order[from + i]]];
    }
    s.x = fdl_div(fdl_float(fdl_from_u8(pixels, FDL_SHAPE(s.n, PIXELS))), 16);
    s.label = fdl_from_i64(labels, FDL_SHAPE(s.n));
    return s;
}

/* ---- training -------------------------------------------------------------------------------------------- */

static void train(fdl_module *m, samples s, int steps, int batch, double rate, fdl_rng *rng)
{
    fdl_optim *opt = fdl_optim_adam(fdl_parameters_trainable(m), .lr = rate);
    FDL_NEED(opt);
    for (int i = 0; i < steps; i++) {
        FDL_SCOPE;
        int64_t rows[256];
        for (int k = 0; k < batch; k++)
            rows[k] = (int64_t)fdl_rng_below(rng, (uint64_t)s.n);
        fdl_tensor *at = fdl_from_i64(rows, FDL_SHAPE(batch));
        fdl_tensor *y = fdl_forward(m, fdl_index_select(s.x, 0, at));
        fdl_optim_zero_grad(opt);
        FDL_CHECK(fdl_backward(fdl_cross_entropy(y, fdl_index_select(s.label, 0, at))));
        FDL_CHECK(fdl_optim_step(opt));
    }
    fdl_optim_free(opt);
}

/* Per cent of the samples that m reads right. Leaves m as it is. */
static double accuracy(fdl_module *m, samples s)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *copy = fdl_module_clone(m); /* eval mode would undo what is set at paths */
    FDL_CHECK(fdl_eval(copy));
    fdl_tensor *right = fdl_eq(fdl_argmax(fdl_forward(copy, s.x), 1), s.label);
    double share = fdl_item(fdl_mean(fdl_float(right)));
    FDL_CHECK(fdl_module_free(copy));
    return 100 * share;
}

/* All values of the encoder in one row. */
static fdl_tensor *weights(fdl_module *m)
{
    FDL_NO_GRAD;
    return fdl_params_to_vector(fdl_graph_parameters_at(m, "encoder"));
}

int main(int argc, char **argv)
{
    FDL_SCOPE;
    uint64_t seed = 1;
    static const struct option options[] = {{"seed", required_argument, NULL, 's'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o != 's')
            return 2;
        seed = strtoull(optarg, NULL, 10);
    }
    FDL_CHECK(fdl_set_num_threads(1)); /* matrices so small are no work for several */
    FDL_CHECK(fdl_manual_seed(seed));
    fdl_rng rng = fdl_rng_seed(seed);
    int64_t order[DIGITS_COUNT];
    FDL_CHECK(fdl_rng_perm(&rng, order, DIGITS_COUNT));
    static const int64_t digit[DIGITS] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9},
                         prime[DIGITS] = {0, 0, 1, 1, 0, 1, 0, 1, 0, 0};
    samples digits = choose(order, 0, FIRST, digit), few = choose(order, FIRST, FIRST + FEW, prime),
            rest = choose(order, FIRST + FEW, DIGITS_COUNT, prime);

    /* The first task, with all that there is. */
    fdl_module *first = small_network();
    FDL_NEED(first);
    train(first, digits, 300, 64, 3e-3, &rng);
    printf("which digit: %d images                 %5.1f %% of new ones right\n", digits.n,
           accuracy(first, choose(order, FIRST, DIGITS_COUNT, digit)));
    char path[] = "/tmp/flodl_transfer_XXXXXX";
    int file = mkstemp(path);
    FDL_NEED(file >= 0);
    close(file);
    FDL_CHECK(fdl_ckpt_save(fdl_graph_child(first, "encoder"), path));
    FDL_CHECK(fdl_module_free(first));

    /* The second one, from nothing. */
    fdl_module *scratch = big_network();
    FDL_NEED(scratch);
    train(scratch, few, 100, FEW, 3e-3, &rng);
    double from_nothing = accuracy(scratch, rest);
    printf("prime or not: %d images, from nothing   %5.1f %%\n", few.n, from_nothing);
    FDL_CHECK(fdl_module_free(scratch));

    /* And with the encoder: frozen, so that the new layers, which know nothing yet, don't spoil it. Its batch norms would
     * still follow the new images: they are told to stay as they are. */
    fdl_module *m = big_network();
    FDL_NEED(m);
    fdl_load_report report;
    FDL_CHECK(fdl_ckpt_load(fdl_graph_subgraph(m, "encoder"), path, .report = &report));
    FDL_NEED(report.n_missing == 0 && report.n_skipped == 0);
    unlink(path);
    FDL_CHECK(fdl_graph_freeze(m, "encoder"));
    FDL_CHECK(fdl_graph_set_training_at(m, "encoder", false));
    char *summary = fdl_graph_param_summary(m);
    FDL_NEED(summary);
    printf("\n%s\n", summary);
    free(summary);
    fdl_tensor *loaded = weights(m);
    train(m, few, 100, FEW, 3e-3, &rng);
    double frozen = accuracy(m, rest);
    printf("prime or not: %d images, a new head     %5.1f %%\n", few.n, frozen);
    FDL_NEED(fdl_item(fdl_sum(fdl_ne(weights(m), loaded))) == 0);

    /* Now that the head knows its way, the encoder may follow, at a tenth of the rate; its first block stays. */
    FDL_CHECK(fdl_graph_thaw(m, "encoder"));
    FDL_CHECK(fdl_graph_freeze(m, "encoder.strokes"));
    train(m, few, 50, FEW, 3e-4, &rng);
    double tuned = accuracy(m, rest);
    printf("prime or not: %d images, all of it tuned %4.1f %%\n", few.n, tuned);
    FDL_NEED(fdl_item(fdl_sum(fdl_ne(weights(m), loaded))) > 0);
    FDL_CHECK(fdl_module_free(m));

    FDL_NEED(frozen > from_nothing + 2 && tuned > from_nothing + 2);
    return 0;
}
