/* Whole trainings: the program that the README shows, three networks that learn 64 samples by heart, what 2000 steps leave behind, a
 * seed's curve. */
#include "check.h"

#include <ctype.h>
#include <math.h>

static bool on_gpu;

/* ---- the README's program, its own lines ------------------------------------------------------------------------ */

enum { MOST = 512 };
static double losses[MOST];
static int n_losses;

/* Notes the loss that the program hands to fdl_backward. */
static fdl_status noted_backward(fdl_tensor *loss)
{
    assert_true(n_losses < MOST);
    losses[n_losses++] = fdl_item(loss);
    return fdl_backward(loss);
}

#pragma push_macro("fdl_backward")
#undef fdl_backward
#define fdl_backward(loss) noted_backward(loss)
#define main quickstart
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wreturn-type" /* which a main may lack */
#include "../../examples/quickstart/quickstart.c"
#pragma GCC diagnostic pop
#undef main
#undef fdl_backward
#pragma pop_macro("fdl_backward")

static double mean_of(int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++)
        sum += losses[i];
    return sum / (to - from);
}

/* Its batches are new ones each time, so the first and the last ten count. */
static void the_quick_start_reduces_its_loss(void **state)
{
    (void)state;
    check_ok(fdl_manual_seed(0));
    n_losses = 0;
    quickstart();
    assert_int_equal(n_losses, 100);
    assert_true(losses[99] < losses[0]);
    if (!(mean_of(90, 100) < mean_of(0, 10) / 4))
        fail_msg("the loss went from %g to %g", mean_of(0, 10), mean_of(90, 100));
}

/* Without comments and blanks, from the first #include to the last bracket; freed by the caller. */
static char *bare_program(const char *path, const char *begin, const char *end_mark)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static char text[1 << 17];
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *from = strstr(text, begin), *to = from && end_mark ? strstr(from, end_mark) : text + n;
    assert_non_null(from);
    assert_non_null(to);
    char *out = calloc(n + 1, 1), *o = out;
    assert_non_null(out);
    for (const char *c = from; c < to; c++) {
        if (c[0] == '/' && c[1] == '*') {
            c = strstr(c, "*/") + 1;
            continue;
        }
        if (!isspace((unsigned char)*c))
            *o++ = *c;
    }
    return out;
}

static void the_readme_shows_the_quick_start(void **state)
{
    (void)state;
    char *shown = bare_program(FLODL_SOURCE_DIR "/README.md", "#include <flodl/flodl.h>", "```");
    char *run =
        bare_program(FLODL_SOURCE_DIR "/examples/quickstart/quickstart.c", "#include <flodl/flodl.h>", NULL);
    assert_string_equal(shown, run);
    free(shown);
    free(run);
}

/* ---- by heart ------------------------------------------------------------------------------------------------------ */

enum { SAMPLES = 64, STEPS = 300, KINDS = 10, CHARS = 12, LENGTH = 16 };

static fdl_tensor *classes(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_forward(model, batch.at[0]), batch.at[1]);
}

/* Logits [N, L, C], wanted [N, L]. */
static fdl_tensor *characters(fdl_module *model, fdl_list batch, void *ctx)
{
    (void)ctx;
    return fdl_cross_entropy(fdl_flatten(fdl_forward(model, batch.at[0]), 0, 1),
                             fdl_flatten(batch.at[1], 0, 1));
}

/* LeNet-5's sizes. */
static fdl_module *cnn(void)
{
    return fdl_flow(fdl_nn_conv2d(1, 6, 5, .padding = 2), fdl_nn_relu(), fdl_nn_max_pool2d(2),
                    fdl_nn_conv2d(6, 16, 5), fdl_nn_relu(), fdl_nn_max_pool2d(2), fdl_nn_flatten(),
                    fdl_nn_linear(400, 120), fdl_nn_relu(), fdl_nn_linear(120, 84), fdl_nn_relu(),
                    fdl_nn_linear(84, KINDS));
}

static fdl_module *char_lstm(void)
{
    return fdl_flow(fdl_nn_embedding(CHARS, 32), fdl_nn_lstm(32, 96, .batch_first = true),
                    fdl_nn_linear(96, CHARS));
}

static fdl_module *two_layers(void)
{
    fdl_module *layer = fdl_nn_transformer_encoder_layer(48, 4, .ff = 96, .dropout = FDL_ZERO,
                                                         .batch_first = true, .causal = true);
    return fdl_flow(fdl_nn_embedding(CHARS, 48), fdl_nn_position_embedding(LENGTH, 48, .batch_first = true),
                    fdl_nn_transformer_encoder(layer, 2), fdl_nn_linear(48, CHARS));
}

/* Pictures of noise, with a kind each. */
static fdl_list pictures(void)
{
    FDL_SCOPE;
    FDL_RETURN_LIST(
        FDL_LIST(fdl_randn(FDL_SHAPE(SAMPLES, 1, 28, 28)), fdl_randint(0, KINDS, FDL_SHAPE(SAMPLES))));
}

/* Random texts that begin with a code of their own, two characters, so that what follows can be known: the wanted ones are
 * those behind it. */
static fdl_list texts(void)
{
    FDL_SCOPE;
    fdl_tensor *i = fdl_arange(0, SAMPLES, 1, .dtype = FDL_INT64);
    fdl_tensor *code = fdl_stack(
        FDL_LIST(fdl_floor_divide(i, fdl_scalar(CHARS, .dtype = FDL_INT64)), fdl_remainder_scalar(i, CHARS)),
        1);
    fdl_tensor *text = fdl_cat(FDL_LIST(code, fdl_randint(0, CHARS, FDL_SHAPE(SAMPLES, LENGTH - 1))), 1);
    fdl_tensor *wanted = fdl_cat(FDL_LIST(fdl_full(FDL_SHAPE(SAMPLES, 1), -100, .dtype = FDL_INT64),
                                          fdl_narrow(text, 1, 2, LENGTH - 1)),
                                 1);
    FDL_RETURN_LIST(FDL_LIST(fdl_narrow(text, 1, 0, LENGTH), wanted));
}

typedef struct learner {
    const char *name;
    fdl_module *(*make)(void);
    fdl_list (*data)(void);
    fdl_loss_fn loss;
    double lr;
} learner;

static const learner learners[] = {{"cnn", cnn, pictures, classes, 2e-3},
                                   {"char_lstm", char_lstm, texts, characters, 1e-2},
                                   {"transformer", two_layers, texts, characters, 3e-3}};

/* Under autocast in the device's own dtype: float16 with a scaler on a GPU, bfloat16 on the CPU. */
static void overfits(const learner *l, bool autocast)
{
    FDL_SCOPE;
    check_ok(fdl_manual_seed(7));
    fdl_module *model = l->make();
    check_some(model);
    fdl_list batch = l->data();
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = l->lr);
    fdl_amp_scaler *scaler = autocast && on_gpu ? fdl_amp_scaler_new() : NULL;
    fdl_dtype dtype = !autocast ? FDL_DTYPE_DEFAULT : on_gpu ? FDL_FLOAT16 : FDL_BFLOAT16;
    fdl_trainer *tr =
        fdl_trainer_new(model, opt, l->loss, .autocast = dtype, .scaler = scaler, .clip_norm = 1);
    check_some(tr);
    double loss = INFINITY, first = 0;
    int steps = 0;
    for (; steps < STEPS && !(loss < 0.05); steps++) {
        check_ok(fdl_trainer_step(tr, batch));
        check_ok(fdl_trainer_loss(tr, &loss));
        if (steps == 0)
            first = loss;
    }
    if (!(loss < 0.05 && first > 1))
        fail_msg("%s%s: a loss of %g is %g after %d steps", l->name, autocast ? " under autocast" : "", first,
                 loss, steps);
    print_message("%s%s: a loss of %.3f is below 0.05 after %d steps\n", l->name,
                  autocast ? " under autocast" : "", first, steps);
    fdl_trainer_free(tr);
    fdl_amp_scaler_free(scaler);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
}

static void learns_64_samples_by_heart(void **state)
{
    overfits(*state, false);
}

static void learns_64_samples_under_autocast(void **state)
{
    overfits(*state, true);
}

/* ---- what is left ------------------------------------------------------------------------------------------------------ */

static int64_t device_bytes(void)
{
    int64_t n = 0;
    if (on_gpu)
        check_ok(fdl_cuda_memory_allocated(0, &n));
    return n;
}

/* Convolution, batch norm, recurrence, attention, dropout: a step by hand, with everything that a loop has. */
static void two_thousand_steps_leave_nothing(void **state)
{
    (void)state;
    enum { ALL = 2000, WARM_UP = 20 };
    FDL_SCOPE;
    check_ok(fdl_manual_seed(0));
    fdl_module *model = fdl_flow(fdl_nn_conv1d(2, 8, 3, .padding = 1), fdl_nn_batch_norm1d(8), fdl_nn_relu(),
                                 fdl_nn_dropout(0.1), fdl_nn_gru(6, 8, .batch_first = true),
                                 fdl_flow_also(fdl_nn_multihead_attention(8, 2, .batch_first = true)),
                                 fdl_nn_flatten(), fdl_nn_linear(64, 3));
    check_some(model);
    fdl_params *params = fdl_parameters(model);
    fdl_optim *opt = fdl_optim_adamw(params);
    fdl_sched *sched = fdl_sched_one_cycle(0.01, ALL);
    fdl_ema *ema = fdl_ema_new(model, 0.99);
    fdl_amp_scaler *scaler = fdl_amp_scaler_new(.init_scale = 1024);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2, 6)), *y = fdl_randint(0, 3, FDL_SHAPE(4));
    check_some(scaler);
    int64_t live = 0, bytes = 0;
    double first = 0, loss_now = 0;
    for (int step = 0; step < ALL; step++) {
        if (step == WARM_UP) {
            live = fdl_live_tensors();
            bytes = device_bytes();
        }
        FDL_SCOPE;
        fdl_tensor *loss;
        {
            FDL_AUTOCAST(.dtype = FDL_BFLOAT16);
            loss = fdl_cross_entropy(fdl_forward(model, x), y);
        }
        check_ok(fdl_optim_zero_grad(opt));
        check_ok(fdl_backward(fdl_amp_scale(scaler, loss)));
        check_ok(fdl_amp_unscale(scaler, opt));
        check_ok(fdl_clip_grad_norm(params, 1.0));
        check_ok(fdl_sched_apply(sched, opt, step));
        check_ok(fdl_amp_step(scaler, opt));
        check_ok(fdl_amp_update(scaler));
        check_ok(fdl_ema_update(ema));
        if (step == 0 || step == ALL - 1)
            *(step ? &loss_now : &first) = fdl_item(loss);
    }
    assert_int_equal(fdl_live_tensors(), live);
    assert_int_equal(device_bytes(), bytes);
    assert_true(loss_now < first);
    fdl_amp_scaler_free(scaler);
    fdl_ema_free(ema);
    fdl_sched_free(sched);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
}

/* ---- a seed's curve ----------------------------------------------------------------------------------------------------- */

enum { CURVE = 40 };

/* Weights, order of the data, dropout: all from the seed. */
static void curve_of(uint64_t seed, double *curve)
{
    FDL_SCOPE;
    check_ok(fdl_manual_seed(seed));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(80, 3, 8, 8)), *y = fdl_randint(0, 5, FDL_SHAPE(80));
    fdl_loader *loader = fdl_data_loader(fdl_data_tensors(FDL_LIST(x, y)), 16);
    fdl_module *model = fdl_flow(
        fdl_nn_conv2d(3, 8, 3, .padding = 1), fdl_nn_batch_norm2d(8), fdl_nn_gelu(), fdl_nn_dropout2d(0.2),
        fdl_nn_avg_pool2d(2), fdl_nn_flatten(.start = FDL_SOME(2)), fdl_nn_lstm(16, 8, .batch_first = true),
        fdl_nn_dropout(0.3), fdl_nn_flatten(), fdl_nn_linear(64, 5));
    fdl_optim *opt = fdl_optim_adam(fdl_parameters(model), .lr = 3e-3);
    check_some(loader);
    check_some(opt);
    int n = 0;
    for (int epoch = 0; n < CURVE; epoch++)
        FDL_BATCHES(b, loader, epoch)
        {
            FDL_SCOPE;
            fdl_list batch = fdl_data_list(b);
            fdl_tensor *loss = classes(model, batch, NULL);
            check_ok(fdl_optim_zero_grad(opt));
            check_ok(fdl_backward(loss));
            check_ok(fdl_optim_step(opt));
            if (n < CURVE)
                curve[n++] = fdl_item(loss);
        }
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
    fdl_data_loader_free(loader);
}

static void a_seed_gives_one_curve(void **state)
{
    (void)state;
    double a[CURVE], b[CURVE], c[CURVE];
    fdl_device device = fdl_default_device();
    check_ok(fdl_set_default_device(FDL_CPU)); /* a GPU's sums may come in any order */
    curve_of(11, a);
    curve_of(11, b);
    curve_of(12, c);
    check_ok(fdl_set_default_device(device));
    assert_memory_equal(a, b, sizeof a); /* to the bit */
    assert_memory_not_equal(a, c, sizeof a);
    assert_true(a[CURVE - 1] < a[0]);
}

int main(void)
{
    enum { N = sizeof learners / sizeof *learners };
    on_gpu = on_test_device();
    static char names[2 * N][64];
    struct CMUnitTest tests[2 * N + 4] = {
        cmocka_unit_test(the_quick_start_reduces_its_loss),
        cmocka_unit_test(the_readme_shows_the_quick_start),
        cmocka_unit_test(two_thousand_steps_leave_nothing),
        cmocka_unit_test(a_seed_gives_one_curve),
    };
    for (int i = 0; i < 2 * N; i++) {
        snprintf(names[i], sizeof names[i], "%s_%s",
                 i < N ? "learns_64_samples_by_heart" : "learns_64_samples_under_autocast",
                 learners[i % N].name);
        tests[4 + i] = (struct CMUnitTest){.name = names[i],
                                           .test_func = i < N ? learns_64_samples_by_heart
                                                              : learns_64_samples_under_autocast,
                                           .initial_state = (void *)(uintptr_t)&learners[i % N]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
