/* Small trainings, one a family of modules, each with another optimizer and
 * schedule, against PyTorch's (tests/fixtures/make_golden.py): the output of
 * the weights that were loaded, the loss of each of 20 steps, parameters,
 * buffers and averages after them. Twice: in a loop by hand, and by the
 * trainer. */
#include "check.h"

#include <math.h>

#define main tower_main
#define STEPS TOWER_STEPS
#include "../../examples/attention_tower/attention_tower.c"
#undef main
#undef STEPS

enum { STEPS = 20, BATCHES = 4, PARTS = 4 };
static bool on_gpu;

typedef struct golden {
    const char *name;
    fdl_module *(*make)(void);
    fdl_optim *(*optim)(fdl_module *model);
    fdl_sched *(*sched)(void);
    fdl_plateau *(*plateau)(void);
    fdl_loss_fn loss;
    bool sequential; /* its names are torch.nn.Sequential's */
    bool wide;       /* recorded in float64: in float32 rounding decides */
    bool bfloat16;   /* under autocast */
    int inputs;      /* of the model: the first parts of a batch; 0: 1 */
    int accumulate;  /* batches a step; 0: 1 */
    double clip_norm, clip_value, ema;
    bool average; /* in place of ema: the mean */
} golden;

/* Of 1 + the number. What is rounded to 8 bits may fall to the other side where
 * sums are made in another order. */
static double tolerance_of(const golden *g)
{
    if (g->bfloat16)
        return on_gpu ? 2e-2 : 2e-3;
    return on_gpu ? 1e-4 : 1e-6;
}

/* ---- what was recorded
 * ----------------------------------------------------------------------------------------
 */

static void path_of(const golden *g, char *path, size_t size)
{
    snprintf(path, size, FLODL_SOURCE_DIR "/tests/fixtures/golden/%s.safetensors", g->name);
}

static bool is_floating(fdl_tensor *t)
{
    return fdl_dtype_is_floating(fdl_dtype_of(t));
}

/* The largest difference of two tensors, by 1 + the second's absolute value;
 * NaN where one has some. */
static double distance(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    a = fdl_to_dtype(fdl_cpu(a), FDL_FLOAT64);
    b = fdl_to_dtype(fdl_cpu(b), FDL_FLOAT64);
    check_some(a);
    check_some(b);
    assert_true(fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b)));
    return fdl_item(fdl_max(fdl_div(fdl_abs(fdl_sub(a, b)), fdl_add(fdl_abs(b), 1))));
}

/* Parameters and buffers are those under `prefix` in the file, all of them. of:
 * the model's tensor, or what stands for it. */
static void expect_state(const golden *g, const fdl_ckpt_info *file, const char *prefix, fdl_module *model,
                         const fdl_ema *ema, double tolerance)
{
    fdl_params *lists[] = {fdl_parameters(model, .sequential = g->sequential),
                           fdl_buffers(model, .sequential = g->sequential)};
    int n = 0, recorded = 0;
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < fdl_params_count(lists[l]); i++, n++) {
            FDL_SCOPE;
            char key[256], name[300];
            check_ok(fdl_state_key(fdl_params_name(lists[l], i), key, sizeof key));
            snprintf(name, sizeof name, "%s.%s", prefix, key);
            fdl_tensor *t = fdl_param_tensor(fdl_params_at(lists[l], i));
            double off = distance(ema ? fdl_ema_shadow(ema, t) : t, fdl_ckpt_get(file, name));
            if (!(off <= tolerance))
                fail_msg("%s: %s is off by %g", g->name, name, off);
        }
    for (int i = 0; i < fdl_ckpt_count(file); i++)
        recorded += strncmp(fdl_ckpt_name(file, i), prefix, strlen(prefix)) == 0;
    assert_int_equal(n, recorded);
}

static double recorded_loss(const fdl_ckpt_info *file, int step)
{
    FDL_SCOPE;
    return fdl_item(fdl_select(fdl_ckpt_get(file, "losses"), 0, step));
}

/* ---- the trainings' two ways
 * ----------------------------------------------------------------------------------
 */

typedef struct training {
    const golden *g;
    fdl_ckpt_info *file;
    fdl_module *model;
    fdl_optim *opt;
    fdl_sched *sched;
    fdl_plateau *plateau;
    fdl_ema *ema;
    fdl_tensor *part[PARTS]; /* [BATCHES, ...], on the device */
    int parts;
} training;

/* Scope. */
static training begin(const golden *g)
{
    const fdl_dtype dtype = g->wide ? FDL_FLOAT64 : FDL_FLOAT32;
    char path[512];
    path_of(g, path, sizeof path);
    training t = {.g = g, .file = fdl_ckpt_open(path), .model = g->make()};
    check_some(t.file);
    check_some(t.model);
    check_ok(fdl_ckpt_load(t.model, path, .prefix = "model.")); /* all keys and no others */
    check_ok(fdl_module_to(t.model, fdl_default_device(), .dtype = dtype));
    char name[16] = "x.0";
    for (int i = 0; i < fdl_ckpt_count(t.file); i++)
        if (strncmp(fdl_ckpt_name(t.file, i), "x.", 2) == 0) {
            snprintf(name, sizeof name, "x.%d", t.parts);
            fdl_tensor *x = fdl_to_device(fdl_ckpt_get(t.file, name), fdl_default_device());
            check_some(x);
            t.part[t.parts++] = is_floating(x) ? fdl_to_dtype(x, dtype) : x;
        }
    t.opt = g->optim(t.model);
    check_some(t.opt);
    t.sched = g->sched ? g->sched() : NULL;
    t.plateau = g->plateau ? g->plateau() : NULL;
    if (g->ema > 0 || g->average)
        check_some(t.ema = fdl_ema_new(t.model, g->ema, .average = g->average));
    assert_false(fdl_error_pending());
    return t;
}

static fdl_list batch_of(const training *t, int i)
{
    fdl_tensor **x = fdl_scope_alloc(PARTS * sizeof *x);
    check_some(x);
    for (int k = 0; k < t->parts; k++)
        check_some(x[k] = fdl_select(t->part[k], 0, i % BATCHES));
    return (fdl_list){t->parts, x};
}

static void expect_loss(const training *t, int step, double loss)
{
    double want = recorded_loss(t->file, step);
    if (!(fabs(loss - want) <= tolerance_of(t->g) * (1 + fabs(want))))
        fail_msg("%s: the loss of step %d is %.9g, PyTorch's %.9g", t->g->name, step, loss, want);
}

static void end(training *t)
{
    const double tolerance = tolerance_of(t->g);
    expect_state(t->g, t->file, "final", t->model, NULL, tolerance);
    if (t->ema)
        expect_state(t->g, t->file, "ema", t->model, t->ema, tolerance);
    fdl_ema_free(t->ema);
    fdl_plateau_free(t->plateau);
    fdl_sched_free(t->sched);
    fdl_optim_free(t->opt);
    check_ok(fdl_module_free(t->model));
    fdl_ckpt_close(t->file);
}

static fdl_tensor *loss_of(const training *t, int i)
{
    FDL_SCOPE;
    if (!t->g->bfloat16)
        FDL_RETURN(t->g->loss(t->model, batch_of(t, i), NULL));
    FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
    FDL_RETURN(t->g->loss(t->model, batch_of(t, i), NULL));
}

static void by_hand(const golden *g)
{
    FDL_SCOPE;
    training t = begin(g);
    fdl_params *ps = fdl_parameters(t.model);
    const int group = g->accumulate ? g->accumulate : 1;
    for (int step = 0; step < STEPS; step++) {
        FDL_SCOPE;
        double mean = 0;
        check_ok(fdl_optim_zero_grad(t.opt));
        for (int i = 0; i < group; i++) {
            fdl_tensor *loss = loss_of(&t, step * group + i);
            check_some(loss);
            check_ok(fdl_backward(fdl_div(loss, (double)group)));
            mean += fdl_item(loss) / group;
        }
        expect_loss(&t, step, mean);
        if (g->clip_norm > 0)
            check_ok(fdl_clip_grad_norm(ps, g->clip_norm));
        if (g->clip_value > 0)
            check_ok(fdl_clip_grad_value(ps, g->clip_value));
        if (t.sched)
            check_ok(fdl_sched_apply(t.sched, t.opt, step));
        check_ok(fdl_optim_step(t.opt));
        if (t.plateau)
            check_ok(fdl_optim_set_lr(t.opt, fdl_plateau_observe(t.plateau, mean)));
        if (t.ema)
            check_ok(fdl_ema_update(t.ema));
    }
    end(&t);
}

static void by_trainer(const golden *g)
{
    FDL_SCOPE;
    training t = begin(g);
    const int group = g->accumulate ? g->accumulate : 1;
    fdl_trainer *tr = fdl_trainer_new(
        t.model, t.opt, g->loss, .clip_norm = g->clip_norm, .clip_value = g->clip_value, .sched = t.sched,
        .ema = t.ema, .accumulate = group, .autocast = g->bfloat16 ? FDL_BFLOAT16 : FDL_DTYPE_DEFAULT,
        .layout = FDL_LAYOUT_KEEP);
    check_some(tr);
    for (int step = 0; step < STEPS; step++) {
        FDL_SCOPE;
        double mean;
        for (int i = 0; i < group; i++)
            check_ok(fdl_trainer_step(tr, batch_of(&t, step * group + i)));
        check_ok(fdl_trainer_mean_loss(tr, &mean));
        expect_loss(&t, step, mean);
        if (t.plateau)
            check_ok(fdl_optim_set_lr(t.opt, fdl_plateau_observe(t.plateau, mean)));
    }
    fdl_trainer_free(tr);
    end(&t);
}

/* The weights of the file give PyTorch's output, in float32 whatever the
 * training's dtype. */
static void expect_output(const golden *g)
{
    FDL_SCOPE;
    FDL_INFERENCE;
    training t = begin(g);
    check_ok(fdl_module_to(t.model, fdl_default_device(), .dtype = FDL_FLOAT32));
    check_ok(fdl_eval(t.model));
    fdl_list batch = batch_of(&t, 0);
    for (int i = 0; i < batch.n; i++)
        if (is_floating(batch.at[i]))
            batch.at[i] = fdl_to_dtype(batch.at[i], FDL_FLOAT32);
    double off = distance(fdl_forward_of(t.model, g->inputs ? g->inputs : 1, batch.at),
                          fdl_ckpt_get(t.file, "output"));
    if (!(off <= (on_gpu ? 1e-4 : 1e-5)))
        fail_msg("%s: the output is off by %g", g->name, off);
    expect_state(g, t.file, "model", t.model, NULL, 0);
    fdl_ema_free(t.ema);
    fdl_plateau_free(t.plateau);
    fdl_sched_free(t.sched);
    fdl_optim_free(t.opt);
    check_ok(fdl_module_free(t.model));
    fdl_ckpt_close(t.file);
}

/* ---- the models
 * -------------------------------------------------------------------------------------------------
 */

static fdl_tensor *classes(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

static fdl_module *mlp(void)
{
    return fdl_flow(fdl_nn_linear(10, 16), fdl_nn_batch_norm1d(16), fdl_nn_relu(), fdl_nn_dropout(0),
                    fdl_nn_linear(16, 12), fdl_nn_prelu(1), fdl_nn_linear(12, 4));
}
static fdl_optim *mlp_optim(fdl_module *m)
{
    return fdl_optim_sgd(fdl_parameters(m), .lr = 0.05, .momentum = 0.9, .nesterov = true,
                         .weight_decay = 1e-3);
}
static fdl_sched *mlp_sched(void)
{
    return fdl_sched_multi_step(0.05, FDL_INTS(8, 15), .gamma = 0.5);
}
static fdl_tensor *mlp_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1], .label_smoothing = 0.1);
}

static fdl_module *convnet(void)
{
    return fdl_flow(
        fdl_nn_conv2d(2, 6, 3, .padding = 1), fdl_nn_group_norm(2, 6), fdl_nn_silu(), fdl_nn_max_pool2d(2),
        fdl_nn_conv2d(6, 8, 3, .padding = 1, .groups = 2, .padding_mode = FDL_PAD_REFLECT),
        fdl_nn_group_norm(4, 8), fdl_nn_gelu(), fdl_nn_avg_pool2d(2), fdl_nn_conv2d(8, 8, 1),
        fdl_nn_hardswish(), fdl_nn_adaptive_avg_pool2d(1, 1), fdl_nn_flatten(), fdl_nn_linear(8, 3));
}
static fdl_optim *convnet_optim(fdl_module *m)
{
    return fdl_optim_adamw(fdl_parameters(m), .lr = 4e-4, .weight_decay = 0.05);
}
static fdl_sched *convnet_sched(void)
{
    return fdl_sched_one_cycle(0.01, STEPS);
}

static fdl_module *autoencoder(void)
{
    return fdl_flow(fdl_nn_conv2d(1, 4, 3, .stride = 2, .padding = 1), fdl_flow_tag("down1"),
                    fdl_nn_leaky_relu(.negative_slope = 0.1),
                    fdl_nn_conv2d(4, 6, 3, .stride = 2, .padding = 1), fdl_flow_tag("down2"),
                    fdl_nn_leaky_relu(.negative_slope = 0.1),
                    fdl_nn_conv_transpose2d(6, 4, 3, .stride = 2, .padding = 1, .output_padding = 1),
                    fdl_flow_tag("up1"), fdl_nn_batch_norm2d(4), fdl_flow_tag("norm"), fdl_nn_softplus(),
                    fdl_nn_conv_transpose2d(4, 1, 3, .stride = 2, .padding = 1, .output_padding = 1),
                    fdl_flow_tag("up2"), fdl_nn_sigmoid());
}
static fdl_optim *autoencoder_optim(fdl_module *m)
{
    return fdl_optim_rmsprop(fdl_parameters(m), .lr = 2e-3, .centered = true, .momentum = 0.5, .eps = 1e-4);
}
static fdl_sched *autoencoder_sched(void)
{
    return fdl_sched_exponential(2e-3, 0.95);
}
static fdl_tensor *autoencoder_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[0]);
}

static fdl_module *conv3d(void)
{
    return fdl_flow(fdl_nn_conv3d(1, 4, 3, .padding = 1, .no_bias = true), fdl_nn_batch_norm3d(4),
                    fdl_nn_elu(), fdl_nn_max_pool3d(2), fdl_nn_conv3d(4, 6, 2),
                    fdl_nn_leaky_relu(.negative_slope = 0.1), fdl_nn_adaptive_avg_pool3d(1, 1, 1),
                    fdl_nn_flatten(), fdl_nn_linear(6, 3));
}
static fdl_optim *conv3d_optim(fdl_module *m)
{
    return fdl_optim_nadam(fdl_parameters(m), .lr = 5e-3, .weight_decay = 0.01, .decoupled = true);
}
static fdl_sched *conv3d_sched(void)
{
    return fdl_sched_cosine(5e-3, 1e-4, STEPS);
}
static fdl_tensor *conv3d_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_huber_loss(fdl_forward(model, batch.at[0]), batch.at[1], .delta = 0.5);
}

/* [N, L, *] -> [N, *]; [L, N, *] -> [N, *]. */
static fdl_tensor *last_of_rows(fdl_tensor *x)
{
    return fdl_select(x, 1, -1);
}
static fdl_tensor *last(fdl_tensor *x)
{
    return fdl_select(x, 0, -1);
}

static fdl_module *lstm(void)
{
    return fdl_flow(fdl_nn_lstm(5, 6, .layers = 2, .batch_first = true, .bidirectional = true, .proj = 3),
                    fdl_flow_tag("lstm"), fdl_nn_fn(last_of_rows), fdl_nn_linear(6, 2), fdl_flow_tag("head"));
}
static fdl_optim *lstm_optim(fdl_module *m)
{
    return fdl_optim_adam(fdl_parameters(m), .lr = 0.01, .amsgrad = true, .weight_decay = 1e-3);
}
static fdl_plateau *lstm_plateau(void)
{
    return fdl_sched_plateau(0.01, .factor = 0.5, .patience = FDL_SOME(2), .cooldown = 1);
}
static fdl_tensor *lstm_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_mse_loss(fdl_forward(model, batch.at[0]), batch.at[1]);
}

static fdl_module *gru(void)
{
    return fdl_flow(fdl_nn_embedding(11, 6, .padding_idx = FDL_SOME(0)), fdl_flow_tag("embed"),
                    fdl_nn_gru(6, 8), fdl_flow_tag("gru"), fdl_nn_fn(last), fdl_nn_linear(8, 3),
                    fdl_flow_tag("head"), fdl_nn_log_softmax(-1));
}
static fdl_optim *gru_optim(fdl_module *m)
{
    return fdl_optim_radam(fdl_parameters(m), .lr = 0.02);
}
static fdl_sched *gru_sched(void)
{
    return fdl_sched_sequence(FDL_SCHEDS(fdl_sched_linear(0.02, 0.2, 1, 5), fdl_sched_exponential(0.02, 0.9)),
                              FDL_INTS(6));
}
static fdl_tensor *gru_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_nll_loss(fdl_forward(model, batch.at[0]), batch.at[1], .weight = fdl_vec(1.0, 0.5, 2.0));
}

static fdl_module *encoder(void)
{
    fdl_module *layer =
        fdl_nn_transformer_encoder_layer(8, 2, .ff = 16, .dropout = FDL_ZERO, .activation = fdl_gelu,
                                         .norm_first = true, .batch_first = true, .causal = true);
    return fdl_flow(fdl_nn_embedding(9, 8), fdl_flow_tag("embed"),
                    fdl_nn_position_embedding(6, 8, .batch_first = true), fdl_flow_tag("place"),
                    fdl_nn_transformer_encoder(layer, 2, .norm = fdl_nn_layer_norm(8)),
                    fdl_flow_tag("encoder"), fdl_nn_linear(8, 9), fdl_flow_tag("head"));
}
static fdl_optim *encoder_optim(fdl_module *m)
{
    fdl_optim *opt =
        fdl_optim_adamw(fdl_parameters(m, .min_ndim = 2), .lr = 0.01, .beta2 = 0.95, .weight_decay = 0.1);
    fdl_params *others = fdl_parameters(m, .max_ndim = 1);
    return fdl_optim_add_group(opt, others, .weight_decay = FDL_ZERO) < 0 ? NULL : opt;
}
static fdl_sched *encoder_sched(void)
{
    return fdl_sched_warmup(fdl_sched_cosine(0.01, 1e-3, 15), 0.01, 5);
}
/* Logits [N, L, C], the next ones [N, L]. */
static fdl_tensor *encoder_loss(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_flatten(fdl_forward(model, batch.at[0]), 0, 1),
                             fdl_flatten(batch.at[1], 0, 1));
}

/* A source's ids and the target's before the wanted ones -> logits [N, L, C].
 * Padding has the id 0. */
typedef struct translation_parts {
    fdl_module *source, *target, *transformer, *head;
} translation_parts;
static fdl_tensor *translation_forward(void *self, fdl_tensor *ids, const fdl_refs *r)
{
    const translation_parts *p = self;
    fdl_tensor *padding = fdl_eq(ids, 0);
    fdl_tensor *y = fdl_nn_transformer_forward(
        p->transformer, fdl_forward(p->source, ids), fdl_forward(p->target, fdl_refs_need(r, "before")),
        .src_key_padding_mask = padding, .memory_key_padding_mask = padding, .tgt_causal = true);
    return fdl_forward(p->head, y);
}
static fdl_module *translation(void)
{
    static const char *const names[] = {"before", NULL};
    static const fdl_module_ops ops = {.kind = "translation",
                                       .size = sizeof(translation_parts),
                                       .forward_named = translation_forward,
                                       .ref_names = names};
    fdl_module *m = fdl_module_new(&ops);
    translation_parts *p = fdl_module_self(m);
    check_some(p);
    p->source = fdl_module_child(m, "source", fdl_nn_embedding(9, 8, .padding_idx = FDL_SOME(0)));
    p->target = fdl_module_child(m, "target", fdl_nn_embedding(7, 8));
    p->transformer = fdl_module_child(m, "transformer",
                                      fdl_nn_transformer(8, 2, .encoder_layers = 1, .decoder_layers = 1,
                                                         .ff = 12, .dropout = FDL_ZERO, .batch_first = true));
    p->head = fdl_module_child(m, "head", fdl_nn_linear(8, 7));
    return fdl_module_done(m);
}
static fdl_optim *translation_optim(fdl_module *m)
{
    return fdl_optim_adamax(fdl_parameters(m), .lr = 0.01);
}
static fdl_sched *translation_sched(void)
{
    return fdl_sched_inv_sqrt(0.01, 4);
}
static fdl_tensor *translation_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    fdl_tensor *logits = fdl_forward(model, b.at[0], b.at[1]);
    return fdl_cross_entropy(fdl_flatten(logits, 0, 1), fdl_flatten(b.at[2], 0, 1));
}

static fdl_module *rnn(void)
{
    return fdl_flow(fdl_nn_rnn(3, 8, .layers = 2), fdl_flow_tag("rnn"), fdl_nn_linear(8, 3),
                    fdl_flow_tag("head"));
}
static fdl_optim *rnn_optim(fdl_module *m)
{
    return fdl_optim_adagrad(fdl_parameters(m), .lr = 0.05, .lr_decay = 0.01, .initial_accumulator = 0.1);
}
static fdl_sched *rnn_sched(void)
{
    return fdl_sched_polynomial(0.05, 25, .power = 2);
}
static fdl_tensor *rnn_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_smooth_l1_loss(fdl_forward(model, b.at[0]), b.at[1], .beta = 0.5);
}

static fdl_module *bag(void)
{
    return fdl_flow(fdl_nn_embedding_bag(15, 6, .padding_idx = FDL_SOME(0)), fdl_flow_tag("bag"),
                    fdl_nn_linear(6, 5), fdl_flow_tag("head"));
}
static fdl_optim *bag_optim(fdl_module *m)
{
    return fdl_optim_adadelta(fdl_parameters(m), .lr = 1, .rho = 0.8);
}
static fdl_sched *bag_sched(void)
{
    return fdl_sched_step(1, 6, .gamma = 0.5);
}
static fdl_tensor *bag_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_binary_cross_entropy_with_logits(fdl_forward(model, b.at[0]), b.at[1],
                                                .pos_weight = fdl_vec(1.0, 2.0, 3.0, 0.5, 1.0));
}

/* A score of two inputs: how much their embeddings have in common. */
typedef struct metric_parts {
    fdl_module *up, *down, *same;
} metric_parts;
static fdl_tensor *metric_embed(const metric_parts *p, fdl_tensor *x)
{
    return fdl_forward(p->down, fdl_tanh(fdl_forward(p->up, x)));
}
static fdl_tensor *metric_forward(void *self, fdl_tensor *a, const fdl_refs *r)
{
    const metric_parts *p = self;
    return fdl_forward(p->same, metric_embed(p, a), metric_embed(p, fdl_refs_need(r, "other")));
}
static fdl_module *metric(void)
{
    static const char *const names[] = {"other", NULL};
    static const fdl_module_ops ops = {
        .kind = "metric", .size = sizeof(metric_parts), .forward_named = metric_forward, .ref_names = names};
    fdl_module *m = fdl_module_new(&ops);
    metric_parts *p = fdl_module_self(m);
    check_some(p);
    p->up = fdl_module_child(m, "up", fdl_nn_linear(6, 10));
    p->down = fdl_module_child(m, "down", fdl_nn_linear(10, 4));
    p->same = fdl_module_child(m, "same", fdl_nn_bilinear(4, 4, 1));
    return fdl_module_done(m);
}
static fdl_optim *metric_optim(fdl_module *m)
{
    return fdl_optim_adafactor(fdl_parameters(m), .lr = 1e-3, .weight_decay = 0.01);
}
static fdl_sched *metric_sched(void)
{
    return fdl_sched_cyclic(1e-3, 1e-2, 4, .mode = FDL_CYCLIC_TRIANGULAR2, .fixed_momentum = true);
}
/* Anchor, positive, negative. */
static fdl_tensor *metric_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    const metric_parts *p = fdl_module_self(model);
    fdl_tensor *triplet = fdl_triplet_margin_loss(metric_embed(p, b.at[0]), metric_embed(p, b.at[1]),
                                                  metric_embed(p, b.at[2]), .margin = 2, .swap = true);
    fdl_tensor *right = fdl_select(fdl_forward(model, b.at[0], b.at[1]), 1, 0);
    fdl_tensor *wrong = fdl_select(fdl_forward(model, b.at[0], b.at[2]), 1, 0);
    return fdl_add(triplet, fdl_margin_ranking_loss(right, wrong, fdl_ones_like(right), .margin = 0.5));
}

static fdl_tensor *length_first(fdl_tensor *x)
{
    return fdl_permute(x, FDL_DIMS(2, 0, 1));
}
static fdl_module *speech(void)
{
    return fdl_flow(fdl_nn_conv1d(4, 8, 3, .padding = 1), fdl_flow_tag("conv"), fdl_nn_relu(),
                    fdl_nn_fn(length_first), fdl_nn_layer_norm(8), fdl_flow_tag("norm"),
                    fdl_nn_gru(8, 6, .bidirectional = true), fdl_flow_tag("gru"), fdl_nn_linear(12, 5),
                    fdl_flow_tag("head"), fdl_nn_log_softmax(-1));
}
static fdl_optim *speech_optim(fdl_module *m)
{
    return fdl_optim_asgd(fdl_parameters(m), .lr = 0.05, .lambd = 0.01, .t0 = 5);
}
static fdl_sched *speech_sched(void)
{
    return fdl_sched_cosine_restarts(0.05, 1e-2, 5, .mult = 2);
}
static fdl_tensor *speech_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_ctc_loss(fdl_forward(model, b.at[0]), b.at[1], b.at[2], b.at[3]);
}

static fdl_optim *tower_optim(fdl_module *m)
{
    return fdl_optim_adamw(fdl_parameters(m), .lr = 3e-3, .amsgrad = true, .eps = 1e-6);
}
static fdl_sched *tower_sched(void)
{
    return fdl_sched_cosine(3e-3, 1e-4, 30, .periodic = true);
}
static fdl_tensor *tower_loss(fdl_module *model, fdl_list b, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, b.at[0], b.at[1]), b.at[2]);
}

static fdl_module *half(void)
{
    return fdl_flow(fdl_nn_linear(12, 16), fdl_nn_gelu(), fdl_nn_layer_norm(16), fdl_nn_linear(16, 16),
                    fdl_nn_tanh(), fdl_nn_linear(16, 4));
}
static fdl_optim *half_optim(fdl_module *m)
{
    return fdl_optim_sgd(fdl_parameters(m), .lr = 0.05, .momentum = 0.9);
}
static fdl_sched *half_sched(void)
{
    return fdl_sched_linear(0.05, 0.5, 1, 10);
}

static const golden trainings[] = {
    {"mlp", mlp, mlp_optim, .sched = mlp_sched, .loss = mlp_loss, .sequential = true, .clip_norm = 1},
    {"convnet", convnet, convnet_optim, .sched = convnet_sched, .loss = classes, .sequential = true},
    {"autoencoder", autoencoder, autoencoder_optim, .sched = autoencoder_sched, .loss = autoencoder_loss,
     .wide = true, .accumulate = 2},
    {"conv3d", conv3d, conv3d_optim, .sched = conv3d_sched, .loss = conv3d_loss, .sequential = true},
    {"lstm", lstm, lstm_optim, .plateau = lstm_plateau, .loss = lstm_loss, .clip_value = 0.05},
    {"gru", gru, gru_optim, .sched = gru_sched, .loss = gru_loss, .ema = 0.9},
    {"rnn", rnn, rnn_optim, .sched = rnn_sched, .loss = rnn_loss},
    {"encoder", encoder, encoder_optim, .sched = encoder_sched, .loss = encoder_loss, .wide = true,
     .clip_norm = 1},
    {"translation", translation, translation_optim, .sched = translation_sched, .loss = translation_loss,
     .wide = true, .inputs = 2},
    {"bag", bag, bag_optim, .sched = bag_sched, .loss = bag_loss},
    {"metric", metric, metric_optim, .sched = metric_sched, .loss = metric_loss, .inputs = 2},
    {"speech", speech, speech_optim, .sched = speech_sched, .loss = speech_loss, .clip_norm = 2},
    {"tower", tower, tower_optim, .sched = tower_sched, .loss = tower_loss, .wide = true, .inputs = 2,
     .clip_norm = 0.5, .average = true},
    {"half", half, half_optim, .sched = half_sched, .loss = classes, .sequential = true, .bfloat16 = true},
};

/* ---- tests
 * --------------------------------------------------------------------------------------------------------
 */

static void weights_of_pytorch_give_its_output(void **state)
{
    expect_output(*state);
}

static void a_loop_by_hand_is_pytorchs(void **state)
{
    by_hand(*state);
}

static void the_trainer_is_pytorchs(void **state)
{
    by_trainer(*state);
}

/* In float32 the recorded losses aren't met: so the tolerance of the training
 * in bfloat16 shows that it is one. */
static void autocast_is_seen_in_the_losses(void **state)
{
    (void)state;
    FDL_SCOPE;
    const golden *g = NULL;
    for (size_t i = 0; i < sizeof trainings / sizeof *trainings; i++)
        if (trainings[i].bfloat16)
            g = &trainings[i];
    golden plain = *g;
    plain.bfloat16 = false;
    training t = begin(&plain);
    training rounded = t;
    rounded.g = g;
    double in_float = fdl_item(loss_of(&t, 0)), in_half = fdl_item(loss_of(&rounded, 0)),
           there = recorded_loss(t.file, 0);
    assert_true(fabs(in_float - there) > 1e-5 && fabs(in_float - in_half) > 1e-5);
    if (!on_gpu) /* where other operations stay in float32 */
        assert_true(fabs(in_half - there) < fabs(in_float - there) / 3);
    fdl_sched_free(t.sched);
    fdl_optim_free(t.opt);
    check_ok(fdl_module_free(t.model));
    fdl_ckpt_close(t.file);
}

int main(void)
{
    enum { N = sizeof trainings / sizeof *trainings };
    on_gpu = on_test_device();
    static struct CMUnitTest tests[3 * N + 1];
    static char names[3 * N][64];
    static const struct {
        const char *name;
        CMUnitTestFunction run;
    } ways[] = {{"weights_of_pytorch_give_its_output", weights_of_pytorch_give_its_output},
                {"a_loop_by_hand_is_pytorchs", a_loop_by_hand_is_pytorchs},
                {"the_trainer_is_pytorchs", the_trainer_is_pytorchs}};
    for (int i = 0; i < 3 * N; i++) {
        snprintf(names[i], sizeof names[i], "%s_%s", ways[i / N].name, trainings[i % N].name);
        tests[i] = (struct CMUnitTest){.name = names[i],
                                       .test_func = ways[i / N].run,
                                       .initial_state = (void *)(uintptr_t)&trainings[i % N]};
    }
    tests[3 * N] = (struct CMUnitTest)cmocka_unit_test(autocast_is_seen_in_the_losses);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
