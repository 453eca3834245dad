/* An encoder-decoder with attention: Bahdanau, Cho, Bengio, "Neural Machine Translation by Jointly Learning to Align and
 * Translate", 2014. The encoder reads a sentence in both directions; the decoder writes another one token by token, and
 * before each looks at what the encoder has read, where its own state says.
 *
 *     translator [--device cpu|cuda]
 *
 * Its language is plain: sentences are said backwards. Exits with 0 when new ones are, by what it wrote itself. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

typedef struct translator_config {
    int64_t source, target; /* tokens of the two languages; the target's last one begins a sentence */
    int64_t width, hid;     /* of embeddings; of the encoder in each direction and of the decoder */
} translator_config;

/* ---- attention: a decoder's input x [N, width] -> x beside the context, [N, width + 2 hid] ---------------------- */

/* Scores of the places: v tanh(W state + U annotations), equation of appendix A.1.2. */
typedef struct translator_attention {
    fdl_module *w, *u, *v;
    int64_t hid;
} translator_attention;

static fdl_tensor *translator_attend(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const translator_attention *a = self;
    fdl_tensor *read = fdl_refs_need(r, "annotations"); /* [N, S, 2 hid] */
    fdl_tensor *state = fdl_refs_need(r, "state");      /* [N, hid], of the token before */
    if (fdl_refs_initial(r, "state"))
        state = fdl_zeros(FDL_SHAPE(fdl_size(x, 0), a->hid), .dtype = fdl_dtype_of(x),
                          .device = fdl_device_of(x));
    fdl_tensor *scores =
        fdl_tanh(fdl_add(fdl_unsqueeze(fdl_forward(a->w, state), 1), fdl_forward(a->u, read)));
    fdl_tensor *weights = fdl_softmax(fdl_forward(a->v, scores), 1); /* [N, S, 1] */
    fdl_tensor *context = fdl_sum_dim(fdl_mul(weights, read), 1);    /* [N, 2 hid] */
    return fdl_cat(FDL_LIST(x, context), 1);
}

static fdl_module *translator_new_attention(int64_t hid)
{
    static const char *const names[] = {"annotations", "state", NULL};
    static const fdl_module_ops ops = {.kind = "additive_attention",
                                       .size = sizeof(translator_attention),
                                       .forward_named = translator_attend,
                                       .ref_names = names};
    fdl_module *m = fdl_module_new(&ops);
    translator_attention *a = fdl_module_self(m);
    FDL_NEED(a);
    a->hid = hid;
    a->w = fdl_module_child(m, "w", fdl_nn_linear(hid, hid, .no_bias = true));
    a->u = fdl_module_child(m, "u", fdl_nn_linear(2 * hid, hid));
    a->v = fdl_module_child(m, "v", fdl_nn_linear(hid, 1, .no_bias = true));
    return fdl_module_done(m);
}

/* ---- the two halves --------------------------------------------------------------------------------------------- */

/* ids [N, S] -> annotations [N, S, 2 hid]. */
static fdl_module *translator_encoder(const translator_config *c)
{
    return fdl_flow(fdl_nn_embedding(c->source, c->width), fdl_flow_tag("embed"),
                    fdl_nn_gru(c->width, c->hid, .bidirectional = true, .batch_first = true),
                    fdl_flow_tag("gru"));
}

/* A token [N] and the annotations -> logits of the next one [N, target]. The state goes from call to call. */
static fdl_module *translator_decoder(const translator_config *c)
{
    return fdl_flow(fdl_nn_embedding(c->target, c->width), fdl_flow_tag("embed"),
                    fdl_flow_input("annotations"), translator_new_attention(c->hid),
                    fdl_flow_using("annotations", "state"), fdl_flow_tag("attention"),
                    fdl_nn_gru_cell(c->width + 2 * c->hid, c->hid), fdl_flow_using("h=state"),
                    fdl_flow_tag("state"), fdl_nn_linear(c->hid, c->target), fdl_flow_tag("head"));
}

/* Both as one module: ids [N, S] and the tokens before the wanted ones [N, T] -> logits [N, T, target]. */
typedef struct translator_parts {
    fdl_module *encoder, *decoder;
} translator_parts;

static fdl_tensor *translator_forward(void *self, fdl_tensor *ids, const fdl_refs *r)
{
    const translator_parts *p = self;
    fdl_tensor *read = fdl_forward(p->encoder, ids), *before = fdl_refs_need(r, "before");
    fdl_list tokens = fdl_unbind(before, 1);
    if (!read || !tokens.at)
        return NULL;
    fdl_tensor **logits = fdl_scope_alloc((size_t)tokens.n * sizeof *logits);
    for (int t = 0; logits && t < tokens.n; t++)
        logits[t] = fdl_forward(p->decoder, tokens.at[t], read);
    fdl_tensor *all = logits ? fdl_stack((fdl_list){tokens.n, logits}, 1) : NULL;
    return fdl_graph_end_sequence(p->decoder) == FDL_OK
               ? all
               : NULL; /* the next sentence knows nothing of this one */
}

static fdl_module *translator(const translator_config *c)
{
    static const char *const names[] = {"before", NULL};
    static const fdl_module_ops ops = {.kind = "translator",
                                       .size = sizeof(translator_parts),
                                       .forward_named = translator_forward,
                                       .ref_names = names};
    fdl_module *m = fdl_module_new(&ops);
    translator_parts *p = fdl_module_self(m);
    FDL_NEED(p);
    p->encoder = fdl_module_child(m, "encoder", translator_encoder(c));
    p->decoder = fdl_module_child(m, "decoder", translator_decoder(c));
    return fdl_module_done(m);
}

/* The paper's Adadelta would take far longer than a minute. */
static fdl_optim *translator_optim(fdl_module *model)
{
    return fdl_optim_adam(fdl_parameters(model), .lr = 5e-3);
}

/* Batch: ids [N, S], the tokens before the wanted ones [N, T], the wanted ones [N, T]. */
static fdl_tensor *translator_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *logits = fdl_forward(model, batch.at[0], batch.at[1]);
    return fdl_cross_entropy(fdl_flatten(logits, 0, 1), fdl_flatten(batch.at[2], 0, 1));
}

/* ---- what it learns --------------------------------------------------------------------------------------------- */

/* n sentences of so many tokens, and the same backwards. */
static fdl_list translator_sentences(int64_t n, int64_t length, const translator_config *c)
{
    FDL_SCOPE;
    fdl_tensor *ids = fdl_randint(0, c->source, FDL_SHAPE(n, length));
    fdl_tensor *wanted = fdl_flip(ids, FDL_SHAPE(1));
    fdl_tensor *begin = fdl_full(FDL_SHAPE(n, 1), (double)(c->target - 1), .dtype = FDL_INT64);
    fdl_tensor *before = fdl_cat(FDL_LIST(begin, fdl_narrow(wanted, 1, 0, length - 1)), 1);
    FDL_RETURN_LIST(FDL_LIST(ids, before, wanted));
}

/* The share of new sentences that are translated without a mistake. Each token is the likeliest after those that the
 * decoder wrote before. */
static double translator_right(fdl_module *model, int64_t length, const translator_config *c)
{
    FDL_INFERENCE;
    const translator_parts *p = fdl_module_self(model);
    fdl_list test = translator_sentences(200, length, c);
    fdl_tensor *read = fdl_forward(p->encoder, test.at[0]), *token = fdl_select(test.at[1], 1, 0);
    fdl_tensor *right = fdl_ones(FDL_SHAPE(200), .dtype = FDL_BOOL);
    for (int64_t t = 0; t < length; t++) {
        token = fdl_argmax(fdl_forward(p->decoder, token, read), 1);
        right = fdl_logical_and(right, fdl_eq(token, fdl_select(test.at[2], 1, t)));
    }
    FDL_CHECK(fdl_graph_end_sequence(p->decoder));
    return fdl_item(fdl_mean(fdl_to_dtype(right, FDL_FLOAT32)));
}

int main(int argc, char **argv)
{
    enum { LENGTH = 6, BATCH = 64, STEPS = 400 };
    fdl_device device = FDL_CPU;
    static const struct option options[] = {{"device", required_argument, NULL, 'd'}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c != 'd')
            return 2;
        FDL_CHECK(fdl_device_parse(optarg, &device));
    }
    FDL_CHECK(fdl_manual_seed(2014));
    FDL_CHECK(fdl_set_default_device(device));
    FDL_SCOPE;
    const translator_config config = {.source = 10, .target = 11, .width = 16, .hid = 32};
    fdl_module *model = translator(&config);
    fdl_optim *opt = translator_optim(model);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, translator_loss, .clip_norm = 1.0);
    FDL_NEED(trainer);
    printf("a translator of %lld parameters\n", (long long)fdl_params_numel(fdl_parameters(model)));
    for (int step = 1; step <= STEPS; step++) {
        FDL_SCOPE;
        FDL_CHECK(fdl_trainer_step(trainer, translator_sentences(BATCH, LENGTH, &config)));
        double loss;
        if (step % 100 == 0) {
            FDL_CHECK(fdl_trainer_mean_loss(trainer, &loss));
            printf("step %3d  loss %.4f\n", step, loss);
        }
    }
    double right = translator_right(model, LENGTH, &config);
    fdl_trainer_free(trainer);
    fdl_optim_free(opt);
    FDL_CHECK(fdl_module_free(model));

    bool ok = right > 0.9;
    printf("new sentences without a mistake: %.3f%s\n", right, ok ? "" : ": something is wrong");
    return ok ? 0 : 1;
}
