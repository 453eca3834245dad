/* The models of examples/char_model, as that program makes, trains and uses them, against PyTorch's
 * (tests/fixtures/make_char_model.py): losses of ten steps from the same weights, and what they write. */
#include "check.h"

#include <jansson.h>
#include <math.h>

#define main char_model_main
#include "../../examples/char_model/char_model.c"
#undef main

#define FIXTURES FLODL_SOURCE_DIR "/tests/fixtures/"

enum { CHARACTERS = 11, BATCH = 4, STEPS = 10, WRITTEN = 20, GIVEN = 3, CONTEXT = 8 };
static bool on_gpu;

static settings small(const char *model)
{
    settings s = defaults(model, false);
    s.layers = 2;
    s.heads = 3;
    s.width = 12;
    s.context = CONTEXT;
    s.sample = WRITTEN;
    s.top_k = 1;
    return s;
}

/* With the recorded weights, whose keys must be all that the model has. */
static fdl_module *recorded_model(const char *name)
{
    settings s = small(name);
    fdl_module *model = new_model(&s, CHARACTERS);
    char prefix[16];
    snprintf(prefix, sizeof prefix, "%s.", name);
    check_ok(fdl_ckpt_load(model, FIXTURES "char_model.safetensors", .prefix = prefix));
    return model;
}

static json_t *fixture(void)
{
    json_error_t error;
    json_t *j = json_load_file(FIXTURES "char_model.json", 0, &error);
    if (!j)
        fail_msg("char_model.json: %s", error.text);
    return j;
}

/* [BATCH, CONTEXT] int64. */
static fdl_tensor *recorded_ids(const json_t *f, const char *what, int step)
{
    int64_t ids[BATCH * CONTEXT];
    const json_t *list = json_array_get(json_object_get(f, what), (size_t)step);
    assert_int_equal(json_array_size(list), BATCH * CONTEXT);
    for (size_t i = 0; i < BATCH * CONTEXT; i++)
        ids[i] = json_integer_value(json_array_get(list, i));
    return fdl_from_i64(ids, FDL_SHAPE(BATCH, CONTEXT));
}

static void expect_losses(const char *name, fdl_dtype dtype, double tolerance)
{
    FDL_SCOPE;
    json_t *f = fixture();
    const json_t *want = json_object_get(json_object_get(f, name), fdl_dtype_name(dtype));
    assert_int_equal(json_array_size(want), STEPS + 1);
    fdl_module *model = recorded_model(name);
    check_ok(fdl_module_to(model, fdl_default_device(), .dtype = dtype));
    fdl_optim *opt = new_optim(model, 1e-2);
    assert_int_equal(fdl_optim_groups(opt), 2);
    fdl_trainer *tr = fdl_trainer_new(model, opt, loss_of, .clip_norm = 1.0,
                                      .capture = on_gpu ? FDL_CAPTURE_REQUIRE : FDL_CAPTURE_AUTO);
    check_some(tr);
    for (int step = 0; step <= STEPS; step++) {
        FDL_SCOPE;
        double loss;
        fdl_list batch = FDL_LIST(recorded_ids(f, "x", step % STEPS), recorded_ids(f, "y", step % STEPS));
        if (step < STEPS) {
            check_ok(fdl_trainer_step(tr, batch));
            check_ok(fdl_trainer_loss(tr, &loss));
        } else {
            loss = fdl_item(loss_of(model, batch, NULL));
        }
        double recorded = json_number_value(json_array_get(want, (size_t)step));
        if (!(fabs(loss - recorded) <= tolerance))
            fail_msg("%s in %s: the loss of step %d is %.12g, PyTorch's %.12g", name, fdl_dtype_name(dtype),
                     step, loss, recorded);
    }
    if (on_gpu)
        check_ok(fdl_trainer_plan(tr, stdout));
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    check_ok(fdl_module_free(model));
    json_decref(f);
}

static void the_gpt_learns_as_in_pytorch(void **state)
{
    (void)state;
    expect_losses("gpt", FDL_FLOAT32, 1e-5);
    expect_losses("gpt", FDL_FLOAT64, on_gpu ? 1e-6 : 1e-11); /* a GPU's fused kernels read a float32 rate */
}

static void the_lstm_learns_as_in_pytorch(void **state)
{
    (void)state;
    expect_losses("lstm", FDL_FLOAT32, 1e-5);
    expect_losses("lstm", FDL_FLOAT64, on_gpu ? 1e-6 : 1e-11);
}

/* Always the likeliest character, over more of them than the model sees at once. */
static void they_write_as_in_pytorch(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const char *const names[] = {"gpt", "lstm"};
    fdl_vocab *vocab = fdl_vocab_chars("abcdefghijk", CHARACTERS);
    json_t *f = fixture();
    for (int m = 0; m < 2; m++) {
        const json_t *want = json_object_get(json_object_get(f, names[m]), "written");
        char expected[GIVEN + WRITTEN + 1] = {0}, prompt[GIVEN + 1] = {0};
        assert_int_equal(json_array_size(want), GIVEN + WRITTEN);
        for (size_t i = 0; i < GIVEN + WRITTEN; i++)
            expected[i] = (char)('a' + json_integer_value(json_array_get(want, i)));
        memcpy(prompt, expected, GIVEN);
        settings s = small(names[m]);
        s.prompt = prompt;
        fdl_module *model = recorded_model(names[m]);
        assert_string_equal(write_on(model, vocab, &s), expected);
        s.top_k = 1000; /* more than there are characters: all of them */
        s.temperature = 1e-3;
        assert_string_equal(write_on(model, vocab, &s), expected);
        check_ok(fdl_module_free(model));
    }
    json_decref(f);
    fdl_vocab_free(vocab);
}

static double std_of(fdl_module *model, const char *match)
{
    FDL_SCOPE;
    fdl_tensor *all = fdl_params_to_vector(fdl_parameters(model, .match = match, .min_ndim = 2));
    return fdl_item(fdl_std(all));
}

/* nanoGPT's baby: its number of parameters, its initial values, and so the loss of a guess. */
static void the_gpt_begins_as_nanogpt_does(void **state)
{
    (void)state;
    FDL_SCOPE;
    settings s = defaults("gpt", true);
    check_ok(fdl_manual_seed(1));
    fdl_module *model = new_model(&s, 65);
    int64_t positions = s.context * s.width;
    assert_int_equal(fdl_params_numel(fdl_parameters(model)) - positions, 10646784); /* "10.65M" */
    check_number(std_of(model, "*embedding_*"), 0.02, 2e-4);
    check_number(std_of(model, "*in_proj_weight"), 0.02, 1e-4);
    check_number(std_of(model, "*linear_2/weight"), 0.02, 1e-4);
    check_number(std_of(model, "*out_proj.weight"), 0.02 / sqrt(12), 1e-4);
    check_number(std_of(model, "*out_proj/weight"), 0.02 / sqrt(12), 1e-4);
    FDL_NO_GRAD;
    check_ok(fdl_eval(model));
    fdl_tensor *x = fdl_randint(0, 65, FDL_SHAPE(1, 64)), *y = fdl_randint(0, 65, FDL_SHAPE(1, 64));
    check_number(fdl_item(loss_of(model, FDL_LIST(x, y), NULL)), log(65), 0.1);
    check_ok(fdl_module_free(model));
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_gpt_learns_as_in_pytorch),
        cmocka_unit_test(the_lstm_learns_as_in_pytorch),
        cmocka_unit_test(they_write_as_in_pytorch),
        cmocka_unit_test(the_gpt_begins_as_nanogpt_does),
    };
    return cmocka_run_group_tests_name("char_model", tests, NULL, NULL);
}
