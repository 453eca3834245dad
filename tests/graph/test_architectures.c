/* Published networks as the examples build and train them, against PyTorch's (tests/fixtures/make_architectures.py): outputs,
 * ten training steps and the weights after them, from the same weights and batches. */
#include "check.h"

#include <math.h>

#define main resnet20_main
#include "../../examples/resnet20/resnet20.c"
#undef main
#define main unet_main
#include "../../examples/unet/unet.c"
#undef main
#define main gpt_main
#include "../../examples/gpt/gpt.c"
#undef main
#define main translator_main
#include "../../examples/translator/translator.c"
#undef main
#define main mixture_main
#include "../../examples/mixture/mixture.c"
#undef main

enum { STEPS = 10, PARTS = 3 };
static bool on_gpu;

/* ---- what was recorded ---------------------------------------------------------------------------------------- */

/* The tensors of a file under names of a fixed shape: a module's buffers, so that a checkpoint's load fills them. */
static fdl_tensor *nothing(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

static const fdl_module_ops recorded_ops = {.kind = "recorded", .forward = nothing};

typedef struct architecture {
    const char *name;
    fdl_module *(*make)(void);
    fdl_optim *(*optim)(fdl_module *model);
    fdl_loss_fn loss;
    double clip; /* 0: no clipping */
    int inputs;  /* of the network: the first parts of a batch; 0: 1 */
    struct {
        int64_t n[6]; /* of all batches, one behind the other; 0: no further dim */
        bool whole;   /* int64 */
    } part[PARTS];
    int64_t output[6];
    double tolerance, tight; /* of losses in float32, in float64; that of weights is ten times as much */
} architecture;

static fdl_shape shape_of(const int64_t *n)
{
    fdl_shape s = {0};
    for (; s.ndim < 6 && n[s.ndim]; s.ndim++)
        s.d[s.ndim] = n[s.ndim];
    return s;
}

static bool is_floating(fdl_tensor *t)
{
    return fdl_dtype_is_floating(fdl_dtype_of(t));
}

static void path_of(const architecture *a, char *path, size_t size)
{
    snprintf(path, size, FLODL_SOURCE_DIR "/tests/fixtures/%s.safetensors", a->name);
}

/* Parts of batches, output, losses; in `final` the checksums, by state_dict keys. */
typedef struct recorded {
    fdl_module *all, *final;
    fdl_tensor *part[PARTS], *output, *losses;
    int parts;
} recorded;

static recorded recorded_of(const architecture *a, fdl_module *model)
{
    FDL_SCOPE;
    char path[512];
    path_of(a, path, sizeof path);
    recorded r = {.all = fdl_module_new(&recorded_ops), .final = fdl_module_new(&recorded_ops)};
    for (; r.parts < PARTS && a->part[r.parts].n[0]; r.parts++) {
        char name[8];
        snprintf(name, sizeof name, "x.%d", r.parts);
        r.part[r.parts] =
            fdl_module_buffer(r.all, name,
                              fdl_zeros(shape_of(a->part[r.parts].n),
                                        .dtype = a->part[r.parts].whole ? FDL_INT64 : FDL_FLOAT32));
    }
    r.output = fdl_module_buffer(r.all, "output", fdl_zeros(shape_of(a->output), .dtype = FDL_FLOAT64));
    r.losses = fdl_module_buffer(r.all, "losses", fdl_zeros(FDL_SHAPE(2, STEPS + 1), .dtype = FDL_FLOAT64));
    fdl_params *lists[] = {fdl_parameters(model), fdl_buffers(model)};
    for (int l = 0; l < 2; l++)
        for (int i = 0; i < fdl_params_count(lists[l]); i++) {
            char key[256];
            check_ok(fdl_state_key(fdl_params_name(lists[l], i), key, sizeof key));
            if (is_floating(fdl_param_tensor(fdl_params_at(lists[l], i))))
                fdl_module_buffer(r.final, key, fdl_zeros(FDL_SHAPE(2, 2), .dtype = FDL_FLOAT64));
        }
    check_some(r.all = fdl_module_done(r.all));
    check_some(r.final = fdl_module_done(r.final));
    check_ok(fdl_ckpt_load(r.all, path, .allow_unexpected = true));
    check_ok(fdl_ckpt_load(r.final, path, .prefix = "final.")); /* all keys and no others */
    return r;
}

static void recorded_free(recorded *r)
{
    check_ok(fdl_module_free(r->all));
    check_ok(fdl_module_free(r->final));
}

/* ---- the comparison ------------------------------------------------------------------------------------------- */

/* Batch i in a dtype. Scope. */
static fdl_list batch_of(const recorded *r, int i, fdl_dtype dtype)
{
    fdl_tensor **x = fdl_scope_alloc(PARTS * sizeof *x);
    check_some(x);
    for (int k = 0; k < r->parts; k++) {
        x[k] = fdl_select(r->part[k], 0, i);
        if (is_floating(x[k]))
            x[k] = fdl_to_dtype(x[k], dtype);
        check_some(x[k]);
    }
    return (fdl_list){r->parts, x};
}

static double number_at(fdl_tensor *t, int64_t i, int64_t k)
{
    FDL_SCOPE;
    return fdl_item(fdl_select(fdl_select(t, 0, i), 0, k));
}

/* The largest difference of two tensors; NaN where there is one. */
static double distance(fdl_tensor *a, fdl_tensor *b)
{
    FDL_SCOPE;
    check_some(a);
    a = fdl_to_dtype(a, FDL_FLOAT64);
    assert_true(fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b)));
    return fdl_item(fdl_max(fdl_abs(fdl_sub(a, b))));
}

static void expect_weights(const architecture *a, fdl_params *ps, const recorded *r, bool double_precision,
                           double tolerance)
{
    for (int i = 0; i < fdl_params_count(ps); i++) {
        FDL_SCOPE;
        FDL_NO_GRAD;
        char key[256];
        check_ok(fdl_state_key(fdl_params_name(ps, i), key, sizeof key));
        fdl_tensor *t = fdl_param_tensor(fdl_params_at(ps, i));
        if (!is_floating(t))
            continue;
        fdl_tensor *want =
            fdl_select(fdl_param_tensor(fdl_module_own_buffer(r->final, key)), 0, double_precision);
        t = fdl_flatten(fdl_to_dtype(t, FDL_FLOAT64), 0, -1);
        fdl_tensor *n = fdl_arange(0, (double)fdl_numel(t), 1, .dtype = FDL_FLOAT64);
        fdl_tensor *got = fdl_stack(FDL_LIST(fdl_sum(fdl_mul(t, fdl_cos(n))), fdl_sum(fdl_square(t))), 0);
        double off = distance(got, want), size = 1 + fdl_item(fdl_max(fdl_abs(want)));
        if (!(off <= tolerance * size))
            fail_msg("%s: %s differs by %g after %d steps", a->name, key, off, STEPS);
    }
}

/* Of losses. A GPU adds in other orders; its fused kernels read a float32 rate. */
static double tolerance_of(const architecture *a, bool wide)
{
    return !on_gpu ? (wide ? a->tight : a->tolerance) : wide ? 1e-6 : 10 * a->tolerance;
}

static void expect_as_recorded(const architecture *a, fdl_dtype dtype)
{
    FDL_SCOPE;
    const bool wide = dtype == FDL_FLOAT64;
    const double tolerance = tolerance_of(a, wide);
    char path[512];
    path_of(a, path, sizeof path);
    fdl_module *model = a->make();
    check_some(model);
    check_ok(fdl_ckpt_load(model, path, .prefix = "model.")); /* all keys and no others */
    recorded r = recorded_of(a, model);
    check_ok(fdl_module_to(model, fdl_default_device(), .dtype = dtype));

    check_ok(fdl_eval(model));
    {
        FDL_INFERENCE;
        fdl_list batch = batch_of(&r, 0, dtype);
        double off = distance(fdl_forward_of(model, a->inputs ? a->inputs : 1, batch.at), r.output);
        if (!(off <= tolerance))
            fail_msg("%s in %s: the output differs by %g", a->name, fdl_dtype_name(dtype), off);
    }
    check_ok(fdl_train(model));
    fdl_optim *opt = a->optim(model);
    fdl_trainer *tr = fdl_trainer_new(model, opt, a->loss, .clip_norm = a->clip, .layout = FDL_LAYOUT_KEEP);
    check_some(tr);
    for (int step = 0; step <= STEPS; step++) {
        FDL_SCOPE;
        fdl_list batch = batch_of(&r, step % STEPS, dtype);
        double loss, want = number_at(r.losses, wide, step);
        if (step < STEPS) {
            check_ok(fdl_trainer_step(tr, batch));
            check_ok(fdl_trainer_loss(tr, &loss));
        } else {
            loss = fdl_item(a->loss(model, batch, NULL));
        }
        if (!(fabs(loss - want) <= tolerance))
            fail_msg("%s in %s: the loss of step %d is %.12g, PyTorch's %.12g", a->name,
                     fdl_dtype_name(dtype), step, loss, want);
    }
    expect_weights(a, fdl_parameters(model), &r, wide, 10 * tolerance);
    expect_weights(a, fdl_buffers(model), &r, wide, 10 * tolerance);
    fdl_trainer_free(tr);
    fdl_optim_free(opt);
    recorded_free(&r);
    check_ok(fdl_module_free(model));
}

static void expect_both(const architecture *a)
{
    expect_as_recorded(a, FDL_FLOAT32);
    expect_as_recorded(a, FDL_FLOAT64);
}

/* ---- the networks --------------------------------------------------------------------------------------------- */

static fdl_module *small_resnet20(void)
{
    return resnet20(4, 5);
}

static fdl_optim *slow_resnet20_optim(fdl_module *model)
{
    fdl_optim *opt = resnet20_optim(model);
    check_ok(fdl_optim_set_lr(opt, 0.01));
    return opt;
}

static void resnet20_is_pytorchs(void **state)
{
    (void)state;
    static const architecture a = {
        .name = "resnet20",
        .make = small_resnet20,
        .optim = slow_resnet20_optim,
        .loss = resnet20_loss,
        .part = {{{STEPS, 6, 3, 12, 12}, false}, {{STEPS, 6}, true}},
        .output = {6, 5},
        .tolerance = 1e-5,
        .tight = 1e-10,
    };
    expect_both(&a);
}

/* Table 6 of the paper: 0.27 million. */
static void resnet20_has_the_papers_size(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *model = resnet20(16, 10);
    assert_int_equal(fdl_params_numel(fdl_parameters(model)), 269722);
    assert_int_equal(fdl_params_count(fdl_parameters(model, .min_ndim = 2)), 20); /* layers of weights */
    fdl_tensor *y = fdl_forward(model, fdl_zeros(FDL_SHAPE(2, 3, 32, 32)));
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 10)));
    check_ok(fdl_module_free(model));
}

static fdl_module *small_unet(void)
{
    return unet(1, 3, 4, 2);
}

static fdl_optim *small_unet_optim(fdl_module *model)
{
    return fdl_optim_sgd(fdl_parameters(model), .lr = 0.01, .momentum = 0.99);
}

static void unet_is_pytorchs(void **state)
{
    (void)state;
    static const architecture a = {
        .name = "unet",
        .make = small_unet,
        .optim = small_unet_optim,
        .loss = unet_loss,
        .part = {{{STEPS, 2, 1, 44, 44}, false}, {{STEPS, 2, 4, 4}, true}, {{STEPS, 2, 4, 4}, false}},
        .output = {2, 3, 4, 4},
        .tolerance = 1e-5,
        .tight = 1e-10,
    };
    expect_both(&a);
}

/* Figure 1 of the paper. Of all its width only the number of parameters, which PyTorch's has, too. */
static void unet_has_the_papers_sizes(void **state)
{
    (void)state;
    FDL_SCOPE;
    FDL_NO_GRAD;
    assert_int_equal(unet_border(4), 92);
    fdl_module *narrow = unet(1, 2, 2, 4);
    fdl_tensor *y = fdl_forward(narrow, fdl_zeros(FDL_SHAPE(1, 1, 572, 572)));
    check_some(y);
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(1, 2, 388, 388)));
    check_ok(fdl_module_free(narrow));
    fdl_module *wide = unet(1, 2, 64, 4);
    assert_int_equal(fdl_params_numel(fdl_parameters(wide)), 31030658);
    check_ok(fdl_module_free(wide));
}

static fdl_module *small_gpt(void)
{
    return gpt(&(gpt_config){.tokens = 13, .positions = 9, .width = 24, .heads = 3, .blocks = 2});
}

/* The gradient of a key's bias is 0 but for rounding, which Adam would turn into whole steps: its eps keeps them small. */
static fdl_optim *fast_gpt_optim(fdl_module *model)
{
    fdl_optim *opt = gpt_optim(model, 1e-2);
    for (int group = 0; group < 2; group++)
        check_ok(fdl_optim_set_option(opt, group, "eps", 1e-5));
    return opt;
}

static void gpt_is_pytorchs(void **state)
{
    (void)state;
    static const architecture a = {
        .name = "gpt",
        .make = small_gpt,
        .optim = fast_gpt_optim,
        .loss = gpt_loss,
        .part = {{{STEPS, 4, 9}, true}, {{STEPS, 4, 9}, true}},
        .output = {4, 9, 13},
        .tolerance = 1e-5,
        .tight = 1e-10,
    };
    expect_both(&a);
}

static fdl_module *small_translator(void)
{
    return translator(&(translator_config){.source = 7, .target = 6, .width = 5, .hid = 8});
}

static void translator_is_pytorchs(void **state)
{
    (void)state;
    static const architecture a = {
        .name = "translator",
        .make = small_translator,
        .optim = translator_optim,
        .loss = translator_loss,
        .clip = 1.0,
        .inputs = 2,
        .part = {{{STEPS, 4, 5}, true}, {{STEPS, 4, 6}, true}, {{STEPS, 4, 6}, true}},
        .output = {4, 6, 6},
        .tolerance = 1e-5,
        .tight = 1e-10,
    };
    expect_both(&a);
}

static fdl_module *small_mixture(void)
{
    return mixture(&(mixture_config){.in = 6, .width = 16, .out = 3, .experts = 4, .chosen = 2});
}

/* Places for as many rows as there are: the same numbers by the way without shapes that depend on them. */
static fdl_module *small_mixture_with_places(void)
{
    return mixture(
        &(mixture_config){.in = 6, .width = 16, .out = 3, .experts = 4, .chosen = 2, .capacity = 4});
}

static fdl_optim *fast_mixture_optim(fdl_module *model)
{
    return mixture_optim(model, 1e-2);
}

static void mixture_of_experts_is_pytorchs(void **state)
{
    (void)state;
    static const architecture a = {
        .name = "mixture",
        .make = small_mixture,
        .optim = fast_mixture_optim,
        .loss = mixture_loss,
        .part = {{{STEPS, 32, 6}, false}, {{STEPS, 32, 3}, false}},
        .output = {32, 3},
        .tolerance = 1e-5,
        .tight = 1e-10,
    };
    expect_both(&a);
    architecture places = a;
    places.make = small_mixture_with_places;
    expect_both(&places);
}

int main(void)
{
    on_gpu = on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(resnet20_is_pytorchs),
        cmocka_unit_test(resnet20_has_the_papers_size),
        cmocka_unit_test(unet_is_pytorchs),
        cmocka_unit_test(unet_has_the_papers_sizes),
        cmocka_unit_test(gpt_is_pytorchs),
        cmocka_unit_test(translator_is_pytorchs),
        cmocka_unit_test(mixture_of_experts_is_pytorchs),
    };
    return cmocka_run_group_tests_name("architectures", tests, NULL, NULL);
}
