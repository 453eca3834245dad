/* A GPT: the decoder-only transformer of Radford et al., "Language Models are Unsupervised Multitask Learners", 2019
 * (GPT-2). 124,439,808 numbers at 12 blocks, 12 heads, width 768, 1024 positions and 50,257 tokens.
 *
 *     gpt [--device cpu|cuda]
 *
 * It learns induction: what stood behind this token the last time it was seen? In sequences whose second half repeats
 * the first, which is random, it must look back to know what comes. Exits with 0 when it does so. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

typedef struct gpt_config {
    int64_t tokens, positions, width, heads, blocks;
} gpt_config;

/* ---- the network: ids [N, T] -> logits of the next token [N, T, tokens] --------------------------------------- */

/* [N, T, width] -> the same: look at what came before, then think about each position by itself. */
static fdl_module *gpt_block(const gpt_config *c)
{
    fdl_module *look =
        fdl_flow(fdl_nn_layer_norm(c->width), fdl_flow_tag("norm"),
                 fdl_nn_multihead_attention(c->width, c->heads, .causal = true, .batch_first = true),
                 fdl_flow_tag("attn"));
    fdl_module *think =
        fdl_flow(fdl_nn_layer_norm(c->width), fdl_flow_tag("norm"), fdl_nn_linear(c->width, 4 * c->width),
                 fdl_flow_tag("up"), fdl_nn_gelu(.approximate = FDL_GELU_TANH),
                 fdl_nn_linear(4 * c->width, c->width), fdl_flow_tag("down"));
    return fdl_flow(fdl_flow_also(look, .name = "look"), fdl_flow_also(think, .name = "think"));
}

static fdl_module *gpt(const gpt_config *c)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_module *embedding = fdl_nn_embedding(c->tokens, c->width);
    fdl_param *tied = fdl_module_own_param(embedding, "weight");
    fdl_flow_add(b, embedding);
    fdl_flow_add(b, fdl_flow_tag("wte"));
    fdl_flow_add(b, fdl_nn_position_embedding(c->positions, c->width, .batch_first = true));
    fdl_flow_add(b, fdl_flow_tag("wpe"));
    for (int64_t i = 0; i < c->blocks; i++) {
        char name[32];
        snprintf(name, sizeof name, "h.%d", (int)i);
        fdl_flow_add(b, gpt_block(c));
        fdl_flow_add(b, fdl_flow_tag(name));
    }
    fdl_flow_add(b, fdl_nn_layer_norm(c->width));
    fdl_flow_add(b, fdl_flow_tag("ln_f"));
    fdl_flow_add(b, fdl_nn_linear(c->width, c->tokens, .no_bias = true, .tie = tied));
    return fdl_flow_build(b);
}

/* GPT-2's: normal with a deviation of 0.02, smaller where a block adds to the stream; biases 0. */
static fdl_status gpt_init(fdl_module *model, const gpt_config *c)
{
    FDL_SCOPE;
    fdl_params *all = fdl_parameters(model);
    for (int i = 0; i < fdl_params_count(all); i++) {
        const char *name = fdl_params_name(all, i);
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(all, i));
        bool adds = strstr(name, "out_proj") || strstr(name, "down");
        if (strstr(name, "bias"))
            FDL_TRY(fdl_init_zeros(p));
        else if (fdl_ndim(p) == 2)
            FDL_TRY(fdl_init_normal(p, 0, adds ? 0.02 / sqrt(2.0 * (double)c->blocks) : 0.02));
    }
    return FDL_OK;
}

/* Decay pulls at matrices only, not at norms and biases. */
static fdl_optim *gpt_optim(fdl_module *model, double lr)
{
    fdl_optim *opt =
        fdl_optim_adamw(fdl_parameters(model, .min_ndim = 2), .lr = lr, .beta2 = 0.95, .weight_decay = 0.1);
    fdl_params *others = fdl_parameters(model, .max_ndim = 1);
    return fdl_optim_add_group(opt, others, .weight_decay = FDL_ZERO) < 0 ? NULL : opt;
}

/* Batch: ids [N, T], the next ones [N, T], of which negative ones don't count. */
static fdl_tensor *gpt_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *logits = fdl_forward(model, batch.at[0]);
    return fdl_cross_entropy(fdl_flatten(logits, 0, 1), fdl_flatten(batch.at[1], 0, 1));
}

/* ---- what it learns -------------------------------------------------------------------------------------------- */

/* n sequences of `half` random tokens said twice: ids and next ones, both [n, 2 half - 1]. The first half of the latter is
 * -100: chance alone. */
static fdl_list gpt_repeated(int64_t n, int64_t half, int64_t tokens)
{
    FDL_SCOPE;
    fdl_tensor *first = fdl_randint(0, tokens, FDL_SHAPE(n, half));
    fdl_tensor *both = fdl_cat(FDL_LIST(first, first), 1),
               *no = fdl_full(FDL_SHAPE(n, half - 1), -100, .dtype = FDL_INT64);
    FDL_RETURN_LIST(FDL_LIST(fdl_narrow(both, 1, 0, 2 * half - 1), fdl_cat(FDL_LIST(no, first), 1)));
}

/* The share of tokens of a second half that are foretold. */
static double gpt_foretold(fdl_module *model, int64_t half, int64_t tokens)
{
    FDL_INFERENCE;
    fdl_list test = gpt_repeated(64, half, tokens);
    fdl_tensor *found = fdl_argmax(fdl_forward(model, test.at[0]), 2);
    fdl_tensor *right = fdl_sum(fdl_eq(found, test.at[1]));
    return fdl_item(right) / (double)(64 * half);
}

int main(int argc, char **argv)
{
    enum { HALF = 12, BATCH = 32, STEPS = 240 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(2019));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    const gpt_config config = {.tokens = 16, .positions = 2 * HALF, .width = 64, .heads = 4, .blocks = 2};
    fdl_module *model = gpt(&config);
    FDL_CHECK(gpt_init(model, &config));
    fdl_optim *opt = gpt_optim(model, 2e-3);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, gpt_loss, .clip_norm = 1.0);
    FDL_NEED(trainer);
    printf("a GPT of %lld parameters\n", (long long)fdl_params_numel(fdl_parameters(model)));
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, gpt_repeated(BATCH, HALF, config.tokens)));
        double loss;
        if (step % 80 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %3d  loss %.4f\n", step, loss);
        }
    }
    double foretold = gpt_foretold(model, HALF, config.tokens);
    fdl_trainer_free(trainer);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = foretold > 0.9; /* a guess: 1/16 */
    printf("foretold of what was said before: %.3f%s\n", foretold, ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
