/* A language model that writes character by character: a small GPT, or an LSTM, learns tiny Shakespeare and then goes on
 * from a prompt.
 *
 *     char_model [--model gpt|lstm] [--device cpu|cuda] [--data DIR | --text FILE] [--prompt TEXT]
 *
 * DIR, or FLODL_DATA in the environment, is the folder that has tinyshakespeare/input.txt; FILE is any text in UTF-8. What
 * else can be set, `char_model --help` lists. Exits with 0 when the validation loss has come under the bar. */
#include <getopt.h>
#include <math.h>

#include <flodl/flodl.h>

typedef struct settings {
    const char *model, *data, *text, *save, *load, *prompt, *on;
    fdl_device device;                     /* of the name `on` */
    int64_t layers, heads, width, context; /* the model's size; characters that it sees at once */
    int64_t batch, steps, every;           /* windows a step; steps in all, and between two validations */
    double dropout, lr;
    double bar; /* the validation loss, in nats a character, to come under */
    int64_t bf16, seed;
    int64_t sample, top_k; /* characters to write; each is drawn from this many of the likeliest */
    double temperature;
} settings;

/* ---- the models: ids [N, T] -> logits of the next character [N, T, characters] ------------------------------ */

/* [N, T, width] -> the same: look at what came before, then think about each position by itself. */
static fdl_module *block(const settings *s)
{
    fdl_module *look =
        fdl_flow(fdl_nn_layer_norm(s->width, .no_bias = true),
                 fdl_nn_multihead_attention(s->width, s->heads, .causal = true, .batch_first = true,
                                            .no_bias = true, .dropout = s->dropout),
                 fdl_nn_dropout(s->dropout));
    fdl_module *think = fdl_flow(fdl_nn_layer_norm(s->width, .no_bias = true),
                                 fdl_nn_linear(s->width, 4 * s->width, .no_bias = true), fdl_nn_gelu(),
                                 fdl_nn_linear(4 * s->width, s->width, .no_bias = true),
                                 fdl_flow_tag("out_proj"), fdl_nn_dropout(s->dropout));
    return fdl_flow(fdl_flow_also(look, .name = "look"),
                    fdl_flow_also(think, .name = "think")); /* x + look(x), then x + think(x) */
}

static fdl_module *blocks(const settings *s)
{
    fdl_flow_builder *b = fdl_flow_new();
    for (int64_t i = 0; i < s->layers; i++)
        fdl_flow_add(b, block(s));
    return fdl_flow_build(b);
}

static fdl_module *gpt(const settings *s, int64_t characters)
{
    fdl_module *embedding = fdl_nn_embedding(characters, s->width);
    return fdl_flow(embedding, /* [N, T, width] */
                    fdl_nn_position_embedding(s->context, s->width, .batch_first = true),
                    fdl_nn_dropout(s->dropout), blocks(s), fdl_flow_tag("blocks"),
                    fdl_nn_layer_norm(s->width, .no_bias = true),
                    fdl_nn_linear(s->width, characters, .no_bias = true, /* the embedding's weight again */
                                  .tie = fdl_module_own_param(embedding, "weight")));
}

static fdl_module *lstm(const settings *s, int64_t characters)
{
    return fdl_flow(
        fdl_nn_embedding(characters, s->width),
        fdl_nn_lstm(s->width, s->width, .layers = s->layers, .dropout = s->dropout, .batch_first = true),
        fdl_nn_dropout(s->dropout), fdl_nn_linear(s->width, characters));
}

/* GPT-2's: normal with a deviation of 0.02, smaller where a block adds to the stream, so that many blocks add up to no
 * more than few. */
static fdl_status init_gpt(fdl_module *model, int64_t layers)
{
    FDL_SCOPE;
    fdl_params *all = fdl_parameters(model, .min_ndim = 2);
    fdl_params *residual = fdl_parameters(model, .match = "*out_proj?weight");
    for (int i = 0; i < fdl_params_count(all); i++)
        FDL_TRY(fdl_init_normal(fdl_param_tensor(fdl_params_at(all, i)), 0, 0.02));
    for (int i = 0; i < fdl_params_count(residual); i++)
        FDL_TRY(fdl_init_normal(fdl_param_tensor(fdl_params_at(residual, i)), 0,
                                0.02 / sqrt(2.0 * (double)layers)));
    return FDL_OK;
}

static fdl_module *new_model(const settings *s, int64_t characters)
{
    bool is_gpt = strcmp(s->model, "gpt") == 0;
    fdl_module *model = is_gpt ? gpt(s, characters) : lstm(s, characters);
    FDL_NEED(model);
    if (is_gpt)
        FDL_CHECK(init_gpt(model, s->layers));
    if (s->load)
        FDL_CHECK(fdl_ckpt_load(model, s->load));
    return model;
}

/* ---- training ----------------------------------------------------------------------------------------------- */

static fdl_tensor *loss_of(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    fdl_tensor *logits = fdl_forward(model, batch.at[0]);
    return fdl_cross_entropy(fdl_flatten(logits, 0, 1), fdl_flatten(batch.at[1], 0, 1));
}

/* Decay pulls at matrices only, not at norms and biases. */
static fdl_optim *new_optim(fdl_module *model, double lr)
{
    fdl_optim *opt =
        fdl_optim_adamw(fdl_parameters(model, .min_ndim = 2), .lr = lr, .beta2 = 0.99, .weight_decay = 0.1);
    fdl_params *others = fdl_parameters(model, .max_ndim = 1);
    FDL_NEED(opt && fdl_optim_add_group(opt, others, .weight_decay = FDL_ZERO) >= 0);
    return opt;
}

/* Windows at random places of the first nine tenths; `every` steps are what the monitor calls an epoch, after which the
 * loss on all of the last tenth is measured. Returns the lowest of these; the model has the weights of that epoch where
 * they were saved, else the last ones. */
static double train(fdl_module *model, fdl_tensor *ids, const settings *s, int *signal)
{
    int64_t n = fdl_numel(ids), part = n * 9 / 10, epochs = (s->steps + s->every - 1) / s->every;
    fdl_dataset *windows = fdl_data_windows(fdl_narrow(ids, 0, 0, part), s->context, .stride = 1);
    FDL_NEED(windows);
    fdl_loader *learn = fdl_data_loader(
        windows, s->batch,
        .sampler = fdl_data_sampler_uniform(fdl_data_len(windows), s->every * s->batch, (uint64_t)s->seed));
    fdl_loader *check =
        fdl_data_eval_loader(fdl_data_windows(fdl_narrow(ids, 0, part, n - part), s->context), 64);
    fdl_optim *opt = new_optim(model, s->lr);
    int64_t warmup = s->steps < 1000 ? s->steps / 10 : 100;
    fdl_sched *rate = fdl_sched_cosine(s->lr, s->lr / 10, epochs * s->every - warmup);
    if (warmup)
        rate = fdl_sched_warmup(rate, s->lr, warmup);
    fdl_monitor *monitor = fdl_monitor_new(epochs);
    fdl_trainer *trainer = fdl_trainer_new(model, opt, loss_of, .sched = rate, .clip_norm = 1.0,
                                           .autocast = s->bf16 ? FDL_BFLOAT16 : 0, .monitor = monitor);
    FDL_NEED(learn && check && trainer);
    FDL_CHECK(fdl_monitor_on_signal(monitor));

    fdl_fit_report report;
    fdl_status status = fdl_trainer_fit(trainer, learn, .epochs = epochs, .validate = check,
                                        .checkpoint = s->save, .report = &report);
    if (status != FDL_E_CANCELLED)
        FDL_CHECK(status);
    FDL_CHECK(fdl_monitor_finish(monitor));
    if (s->device.type == FDL_DEVICE_TYPE_CUDA)
        FDL_CHECK(fdl_trainer_plan(trainer, stdout));
    if (s->save && report.best_epoch >= 0) {
        FDL_CHECK(fdl_ckpt_load(model, s->save));
        printf("the weights of epoch %lld are in %s\n", (long long)report.best_epoch + 1, s->save);
    }
    *signal = fdl_monitor_signal(monitor);
    fdl_trainer_free(trainer);
    fdl_monitor_free(monitor);
    fdl_sched_free(rate);
    fdl_optim_free(opt);
    fdl_data_loader_free(learn);
    fdl_data_loader_free(check);
    return report.best;
}

/* ---- writing ------------------------------------------------------------------------------------------------ */

/* The prompt and what the model writes behind it, character by character, each drawn from what the model gives for the
 * place behind the last. Scope. */
static char *write_on(fdl_module *model, const fdl_vocab *vocab, const settings *s)
{
    FDL_INFERENCE;
    fdl_tensor *prompt = fdl_vocab_encode(vocab, s->prompt, strlen(s->prompt));
    FDL_NEED(prompt);
    FDL_CHECK(fdl_eval(model));
    int64_t given = fdl_numel(prompt), kept = s->top_k;
    if (kept > fdl_vocab_size(vocab))
        kept = fdl_vocab_size(vocab);
    fdl_tensor *ids = fdl_zeros(FDL_SHAPE(1, given + s->sample), .dtype = FDL_INT64);
    FDL_CHECK(fdl_copy_(fdl_narrow(ids, 1, 0, given), fdl_unsqueeze(prompt, 0)));
    for (int64_t at = given; at < given + s->sample; at++) {
        FDL_SCOPE;
        int64_t seen = at < s->context ? at : s->context; /* no more than it has learnt to look at */
        fdl_tensor *logits = fdl_forward(model, fdl_narrow(ids, 1, at - seen, seen));
        fdl_tensor *last = fdl_div(fdl_select(logits, 1, -1), s->temperature); /* [1, characters] */
        fdl_tensor *least = fdl_narrow(fdl_topk(last, kept, 1), 1, kept - 1, 1);
        fdl_tensor *odds = fdl_softmax(fdl_masked_fill(last, fdl_lt(last, least), -INFINITY), 1);
        FDL_CHECK(fdl_copy_(fdl_narrow(ids, 1, at, 1), fdl_multinomial(odds, 1)));
    }
    char *text = fdl_vocab_decode(vocab, ids);
    FDL_NEED(text);
    return text;
}

/* ---- the program ---------------------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: char_model [options], whose defaults are\n"
    "                                                     gpt    lstm   gpt    lstm on cuda\n"
    "  --layers N          the model's size               4      2      6      2\n"
    "  --heads N                                          4             6\n"
    "  --width N                                          128    128    384    512\n"
    "  --context N         characters it sees at once     64     64     256    256\n"
    "  --dropout P                                        0      0      0.2    0.2\n"
    "  --batch N           windows a step                 12     12     64     64\n"
    "  --steps N           whole --every; 0: don't train  750    750    5000   5000\n"
    "  --every N           steps between validations      250    250    250    250\n"
    "  --lr X              at its highest                 3e-3   3e-3   1e-3   2e-3\n"
    "  --bf16 0|1          autocast to bfloat16           0      0      1      0\n"
    "  --bar X             exit with 1 above this loss    2.2    2.2    1.6    1.6, none with fewer steps\n"
    "  --data DIR          has tinyshakespeare/input.txt  FLODL_DATA in the environment\n"
    "  --text FILE         any text in UTF-8 instead\n"
    "  --model NAME        gpt or lstm                    gpt\n"
    "  --device NAME       cpu or cuda                    cpu\n"
    "  --seed N                                           1337\n"
    "  --save FILE         gets the weights of the best validation\n"
    "  --load FILE         begin with these, of a model of this size for this text\n"
    "  --prompt TEXT       goes on from here              a line's end\n"
    "  --sample N          by so many characters          500\n"
    "  --temperature X     below 1: less is risked        0.8\n"
    "  --top-k N           of so many likeliest           200\n";

/* About a minute's work for one core of a CPU; on a GPU what nanoGPT calls its baby, and an LSTM of that kind. */
static settings defaults(const char *model, bool cuda)
{
    bool is_lstm = strcmp(model, "lstm") == 0;
    settings s = {.model = model,
                  .data = getenv("FLODL_DATA"),
                  .on = "cpu",
                  .prompt = "\n",
                  .layers = is_lstm ? 2 : 4,
                  .heads = 4,
                  .width = 128,
                  .context = 64,
                  .batch = 12,
                  .steps = 750,
                  .every = 250,
                  .lr = 3e-3,
                  .bar = 2.2,
                  .seed = 1337,
                  .sample = 500,
                  .top_k = 200,
                  .temperature = 0.8};
    if (cuda) {
        s.layers = is_lstm ? 2 : 6;
        s.heads = 6;
        s.width = is_lstm ? 512 : 384;
        s.context = 256;
        s.dropout = 0.2;
        s.batch = 64;
        s.steps = 5000;
        s.lr = is_lstm ? 2e-3 : 1e-3;
        s.bf16 = !is_lstm;
        s.bar = 1.6;
    }
    return s;
}

/* An option: where its value goes. */
typedef struct setting {
    const char *name, **text;
    int64_t *whole;
    double *number;
} setting;

static bool take(const setting *to, const char *value)
{
    char *end;
    if (to->text) {
        *to->text = value;
        return true;
    }
    if (to->whole)
        *to->whole = strtoll(value, &end, 10);
    else
        *to->number = strtod(value, &end);
    return end != value && !*end && (to->whole ? *to->whole >= 0 : *to->number >= 0);
}

/* The command line over what s has; false where it can't be. */
static bool read_arguments(int argc, char **argv, settings *s)
{
    const setting known[] = {
        {"model", .text = &s->model},       {"device", .text = &s->on},
        {"data", .text = &s->data},         {"text", .text = &s->text},
        {"save", .text = &s->save},         {"load", .text = &s->load},
        {"prompt", .text = &s->prompt},     {"layers", .whole = &s->layers},
        {"heads", .whole = &s->heads},      {"width", .whole = &s->width},
        {"context", .whole = &s->context},  {"batch", .whole = &s->batch},
        {"steps", .whole = &s->steps},      {"every", .whole = &s->every},
        {"seed", .whole = &s->seed},        {"bf16", .whole = &s->bf16},
        {"sample", .whole = &s->sample},    {"top-k", .whole = &s->top_k},
        {"dropout", .number = &s->dropout}, {"lr", .number = &s->lr},
        {"bar", .number = &s->bar},         {"temperature", .number = &s->temperature},
    };
    enum { KNOWN = sizeof known / sizeof *known };
    struct option list[KNOWN + 2] = {[KNOWN] = {"help", no_argument, NULL, '?'}};
    for (int i = 0; i < KNOWN; i++)
        list[i] = (struct option){known[i].name, required_argument, NULL, i};
    optind = 1;
    for (int i; (i = getopt_long(argc, argv, "", list, NULL)) != -1;)
        if (i == '?' || !take(&known[i], optarg))
            return false;
    bool named = strcmp(s->model, "gpt") == 0 || strcmp(s->model, "lstm") == 0;
    FDL_CHECK(fdl_device_parse(s->on, &s->device));
    if (s->steps && s->every > s->steps)
        s->every = s->steps;
    return optind == argc && named && s->batch > 0 && s->every > 0 && s->top_k > 0 && s->temperature > 0 &&
           *s->prompt;
}

/* The whole text, owned. */
static char *read_text(const settings *s, size_t *n)
{
    char *text = s->text ? fdl_file_read(s->text, 0, n) : fdl_data_shakespeare(s->data, n);
    FDL_NEED(text);
    return text;
}

int main(int argc, char **argv)
{
    settings s = defaults("gpt", false); /* read twice: model and device have defaults of their own */
    bool good = read_arguments(argc, argv, &s);
    const settings d = defaults(s.model, s.device.type == FDL_DEVICE_TYPE_CUDA);
    s = d;
    s.bar = -1;
    good = good && read_arguments(argc, argv, &s);
    if (!good || (!s.data && !s.text)) {
        fputs(good ? "the text: --data DIR, or FLODL_DATA in the environment, or --text FILE\n" : usage,
              stderr);
        return 2;
    }
    if (s.bar < 0) /* none was given */
        s.bar = s.steps < d.steps ? (double)INFINITY : d.bar;
    FDL_SCOPE;
    FDL_CHECK(fdl_manual_seed((uint64_t)s.seed));
    FDL_CHECK(fdl_set_default_device(s.device));
    size_t size;
    char *text = read_text(&s, &size);
    fdl_vocab *vocab = fdl_vocab_chars(text, size);
    fdl_tensor *ids = fdl_vocab_encode(vocab, text, size);
    FDL_NEED(ids);
    free(text);

    fdl_module *model = new_model(&s, fdl_vocab_size(vocab));
    char name[FDL_DEVICE_NAME_SIZE];
    printf("%s of %lld parameters on %s; a text of %lld characters, %lld different ones\n", s.model,
           (long long)fdl_params_numel(fdl_parameters(model)), fdl_device_name(s.device, name),
           (long long)fdl_numel(ids), (long long)fdl_vocab_size(vocab));
    double lowest = (double)NAN;
    int signal = 0;
    if (s.steps)
        lowest = train(model, ids, &s, &signal);
    if (s.sample)
        printf("\n%s\n\n", write_on(model, vocab, &s));
    FDL_CHECK(fdl_module_free(model));
    fdl_vocab_free(vocab);
    if (signal || !s.steps)
        return signal ? 128 + signal : 0;

    printf("validation loss %.4f nats a character, the lowest of the run\n", lowest);
    if (!(lowest < s.bar))
        printf("it isn't below %.2f\n", s.bar);
    return lowest < s.bar ? 0 : 1;
}
