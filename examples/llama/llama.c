/* A Llama: the decoder-only transformer of Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, with
 * the grouped queries of its second version. 6,738,415,616 numbers at 32 blocks of width 4096, 32 heads of queries and of
 * keys, an inner width of 11,008 and 32,000 tokens.
 *
 *     llama [--device cpu|cuda]
 *
 * It learns to say again what it has read, and then writes: the prompt in one call, what follows token by token, each of
 * which computes its own position only, since a cache keeps the keys and values of the others. Exits with 0 when it says
 * what it should, and the same as without the cache. */
#include <getopt.h>

#include <flodl/flodl.h>

typedef struct llama_config {
    int64_t tokens, width, heads, kv_heads, inner, blocks;
} llama_config;

/* ---- the network: ids [N, T] -> logits of the next token [N, T, tokens] ------------------------------------------ */

/* [N, T, width] -> the same. Positions are turned into queries and keys; of the latter there are fewer heads. */
static fdl_module *llama_block(const llama_config *c)
{
    fdl_module *look =
        fdl_flow(fdl_nn_rms_norm(c->width), fdl_flow_tag("norm"),
                 fdl_nn_multihead_attention(c->width, c->heads, .kv_heads = c->kv_heads, .rope = true,
                                            .causal = true, .no_bias = true, .batch_first = true),
                 fdl_flow_tag("attn"));
    fdl_module *think =
        fdl_flow(fdl_nn_rms_norm(c->width), fdl_flow_tag("norm"),
                 fdl_nn_linear(c->width, 2 * c->inner, .no_bias = true), fdl_flow_tag("up_gate"),
                 fdl_nn_swiglu(-1), fdl_nn_linear(c->inner, c->width, .no_bias = true), fdl_flow_tag("down"));
    return fdl_flow(fdl_flow_also(look, .name = "look"), fdl_flow_also(think, .name = "think"));
}

static fdl_module *llama(const llama_config *c)
{
    fdl_flow_builder *b = fdl_flow_new();
    fdl_flow_add(b, fdl_nn_embedding(c->tokens, c->width));
    fdl_flow_add(b, fdl_flow_tag("embed"));
    for (int64_t i = 0; i < c->blocks; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%d", (int)i);
        fdl_flow_add(b, llama_block(c));
        fdl_flow_add(b, fdl_flow_tag(name));
    }
    fdl_flow_add(b, fdl_nn_rms_norm(c->width));
    fdl_flow_add(b, fdl_flow_tag("norm"));
    fdl_flow_add(b, fdl_nn_linear(c->width, c->tokens, .no_bias = true));
    return fdl_flow_build(b);
}

/* Batch: ids [N, T], the next ones [N, T], of which negative ones don't count. */
static fdl_tensor *llama_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *logits = fdl_forward(model, batch.at[0]);
    return fdl_cross_entropy(fdl_flatten(logits, 0, 1), fdl_flatten(batch.at[1], 0, 1));
}

/* ---- writing ------------------------------------------------------------------------------------------------------ */

/* The likeliest next token [N, 1] behind ids [N, T]. */
static fdl_tensor *llama_next(fdl_module *model, fdl_tensor *ids)
{
    fdl_tensor *logits = fdl_forward(model, ids);
    return fdl_argmax(fdl_narrow(logits, 1, -1, 1), 2);
}

/* n tokens behind the prompt [N, T] -> [N, n]. */
static fdl_tensor *llama_write(fdl_module *model, fdl_tensor *prompt, int n)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_kv_cache *cache = fdl_kv_cache_new(fdl_size(prompt, 1) + n);
    FDL_NEED(cache);
    FDL_KV_CACHE(cache);
    fdl_tensor **written = fdl_scope_alloc((size_t)n * sizeof *written);
    for (int i = 0; i < n; i++)
        written[i] = llama_next(model, i ? written[i - 1] : prompt);
    fdl_tensor *all = fdl_cat((fdl_list){n, written}, 1);
    fdl_kv_cache_free(cache);
    FDL_RETURN(all);
}

/* The same without a cache: everything again for each token. */
static fdl_tensor *llama_write_slowly(fdl_module *model, fdl_tensor *prompt, int n)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *all = prompt;
    for (int i = 0; i < n; i++)
        all = fdl_cat(FDL_LIST(all, llama_next(model, all)), 1);
    FDL_RETURN(fdl_narrow(all, 1, fdl_size(prompt, 1), n));
}

/* ---- what it learns ----------------------------------------------------------------------------------------------- */

/* n sequences of `half` random tokens said twice: ids and next ones, both [n, 2 half - 1]. The first half of the latter is
 * -100: chance alone. */
static fdl_list llama_repeated(int64_t n, int64_t half, int64_t tokens)
{
    FDL_SCOPE;
    fdl_tensor *first = fdl_randint(0, tokens, FDL_SHAPE(n, half));
    fdl_tensor *both = fdl_cat(FDL_LIST(first, first), 1),
               *no = fdl_full(FDL_SHAPE(n, half - 1), -100, .dtype = FDL_INT64);
    FDL_RETURN_LIST(FDL_LIST(fdl_narrow(both, 1, 0, 2 * half - 1), fdl_cat(FDL_LIST(no, first), 1)));
}

int main(int argc, char **argv)
{
    enum { HALF = 8, BATCH = 32, STEPS = 150 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(2023));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    const llama_config config = {
        .tokens = 16, .width = 64, .heads = 4, .kv_heads = 2, .inner = 128, .blocks = 2};
    fdl_module *model = llama(&config);
    FDL_NEED(model);
    fdl_optim *opt = fdl_optim_adamw(fdl_parameters(model), .lr = 3e-3, .beta2 = 0.95);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, llama_loss, .clip_norm = 1.0);
    FDL_NEED(trainer);
    printf("a Llama of %lld parameters\n", (long long)fdl_params_numel(fdl_parameters(model)));
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, llama_repeated(BATCH, HALF, config.tokens)));
        double loss;
        if (step % 50 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %3d  loss %.4f\n", step, loss);
        }
    }
    /* Half a sequence and the first token of its repetition; the others are to be written. */
    FDL_CHECK(fdl_eval(model));
    fdl_list test = llama_repeated(64, HALF, config.tokens);
    fdl_tensor *prompt = fdl_narrow(test.at[0], 1, 0, HALF + 1),
               *want = fdl_narrow(test.at[1], 1, HALF, HALF - 1);
    fdl_tensor *written = llama_write(model, prompt, HALF - 1),
               *slowly = llama_write_slowly(model, prompt, HALF - 1);
    FDL_NEED(written && slowly);
    double right = fdl_item(fdl_mean(fdl_float(fdl_eq(written, want)))),
           same = fdl_item(fdl_mean(fdl_float(fdl_eq(written, slowly))));
    fdl_trainer_free(trainer);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = right > 0.9 && same > 0.99; /* a guess: 1/16; rounding may turn a tie */
    printf("written as it was read: %.3f, as without the cache: %.3f%s\n", right, same,
           ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
