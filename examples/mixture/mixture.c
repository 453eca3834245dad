/* A sparse mixture of experts: Shazeer et al., "Outrageously Large Neural Networks: The Sparsely-Gated Mixture-of-Experts
 * Layer", 2017. A router sends each row to the two experts that it holds best, out of eight; a loss of its own keeps all of
 * them in use.
 *
 *     mixture [--device cpu|cuda]
 *
 * It learns a map that is another linear map in each quarter of the plane of the first two features, which no single one
 * is. Exits with 0 when it is right on new rows and no expert is idle. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

typedef struct mixture_config {
    int64_t in, width, out, experts;
    int chosen;      /* experts of a row */
    double capacity; /* places of an expert, as a multiple of an even share; 0: as many as it takes */
} mixture_config;

/* ---- the network: [N, in] -> [N, out] -------------------------------------------------------------------------- */

static fdl_module *mixture_expert(int64_t width)
{
    return fdl_flow(fdl_nn_linear(width, 2 * width), fdl_flow_tag("up"), fdl_nn_silu(),
                    fdl_nn_linear(2 * width, width), fdl_flow_tag("down"));
}

static fdl_module *mixture(const mixture_config *c)
{
    fdl_module *in = fdl_nn_linear(c->in, c->width);
    fdl_module *router = fdl_nn_softmax_router(c->width, c->experts), *experts[16];
    FDL_NEED(c->experts <= 16);
    for (int64_t i = 0; i < c->experts; i++)
        experts[i] = mixture_expert(c->width);
    const fdl_flow_gate_opts sparse = {.top_k = c->chosen,
                                       .capacity = c->capacity,
                                       .normalize = true,
                                       .trace_choice = "choice",
                                       .trace_balance = "balance"};
    return fdl_flow(in, fdl_flow_tag("in"), fdl_nn_silu(),
                    fdl_flow_gate_opt(router, (int)c->experts, experts, &sparse), fdl_flow_tag("moe"),
                    fdl_nn_linear(c->width, c->out), fdl_flow_tag("out"));
}

static fdl_optim *mixture_optim(fdl_module *model, double lr)
{
    return fdl_optim_adam(fdl_parameters(model), .lr = lr);
}

/* Batch: x [N, in], y [N, out]. An uneven choice of experts costs, too. */
static fdl_tensor *mixture_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *off = fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[1]);
    return fdl_add(off, fdl_mul(fdl_graph_last_trace(model, "balance"), 0.1));
}

/* ---- what it learns -------------------------------------------------------------------------------------------- */

/* x [n, in] normal; y [n, out] = x times one of the four maps [4, in, out]: which, the signs of x's first two say. */
static fdl_list mixture_rows(int64_t n, fdl_tensor *maps)
{
    FDL_SCOPE;
    fdl_tensor *x = fdl_randn(FDL_SHAPE(n, fdl_size(maps, 1)));
    fdl_tensor *positive = fdl_to_dtype(fdl_gt(fdl_narrow(x, 1, 0, 2), 0), FDL_INT64); /* [n, 2] */
    fdl_tensor *quarter = fdl_add(fdl_mul(fdl_select(positive, 1, 0), 2), fdl_select(positive, 1, 1));
    fdl_tensor *map = fdl_index_select(maps, 0, quarter);
    fdl_tensor *y = fdl_squeeze(fdl_matmul(fdl_unsqueeze(x, 1), map), 1);
    FDL_RETURN_LIST(FDL_LIST(x, y));
}

/* The share of the variance of y that the model leaves on new rows; *idlest: the smallest share of rows of an expert. */
static double mixture_left(fdl_module *model, fdl_tensor *maps, int64_t experts, double *idlest)
{
    FDL_INFERENCE;
    fdl_list test = mixture_rows(1000, maps);
    fdl_tensor *off = fdl_mse_loss(fdl_forward(model, test.at[0]), test.at[1]);
    fdl_tensor *choice = fdl_graph_last_trace(model, "choice"); /* [1000, chosen] */
    fdl_tensor *rows = fdl_bincount(fdl_flatten(choice, 0, -1), .minlength = experts);
    *idlest = fdl_item(fdl_min(rows)) / 1000;
    return fdl_item(off) / fdl_item(fdl_mean(fdl_square(test.at[1])));
}

int main(int argc, char **argv)
{
    enum { BATCH = 128, STEPS = 1200 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(1991));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    const mixture_config config = {.in = 8, .width = 32, .out = 4, .experts = 8, .chosen = 2, .capacity = 2};
    fdl_tensor *maps = fdl_randn(FDL_SHAPE(4, config.in, config.out));
    fdl_module *model = mixture(&config);
    fdl_optim *opt = mixture_optim(model, 3e-3);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, mixture_loss);
    FDL_NEED(trainer);
    printf("a mixture of %d experts, %lld parameters\n", (int)config.experts,
           (long long)fdl_params_numel(fdl_parameters(model)));
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, mixture_rows(BATCH, maps)));
        double loss;
        if (step % 200 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %4d  loss %.4f\n", step, loss);
        }
    }
    double idlest, left = mixture_left(model, maps, config.experts, &idlest);
    fdl_trainer_free(trainer);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = left < 0.1 && idlest > 0; /* the best single linear map leaves three quarters; nobody is idle */
    printf("of the variance on new rows %.3f is left; the idlest expert has %.3f of them%s\n", left, idlest,
           ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
