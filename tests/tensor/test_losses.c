/* The rows of losses.def against PyTorch's gradients, its results in short dtypes and its dtypes under autocast
 * (fixtures/losses.json); then what is known of losses without a computer. Values in float32 and float64, difference quotients,
 * wrong calls: test_ops_forward, test_ops_gradient, test_ops_bad, which read the same rows. */
#include "ops.h"
#include "values.h"

#include <jansson.h>

#define OP(name, samples, call, python, cpp)               \
    static fdl_tensor *call_##name(fdl_list in, void *ctx) \
    {                                                      \
        OPS_NAMES                                          \
        return call;                                       \
    }
#define CASE(name, samples, call, python) OP(name, samples, call, python, )
#define BAD(name, sample, call, status, word)
#define TWICE(name)
#include "losses.def"
#undef OP
#undef CASE

typedef struct row {
    const char *name, *samples;
    ops_call *call;
} row;
static const row rows[] = {
#define OP(name, samples, call, python, cpp) {#name, samples, call_##name},
#define CASE(name, samples, call, python) {#name, samples, call_##name},
#include "losses.def"
#undef OP
#undef CASE
};
enum { ROWS = sizeof rows / sizeof *rows };

static json_t *fixture;
static bool on_gpu, same_version;

static json_t *entry_of(const row *r)
{
    json_t *entry = json_object_get(json_object_get(fixture, "losses"), r->name);
    if (!entry)
        fail_msg("%s has no results: run tests/fixtures/make_losses.py", r->name);
    return entry;
}

/* x's elements are these. */
static void expect(const char *what, fdl_tensor *x, const json_t *values, double tolerance)
{
    double got[OPS_ELEMENTS];
    int64_t n = (int64_t)json_array_size(values);
    if (!x)
        fail_msg("%s: %s", what, fdl_last_error()->message);
    if (fdl_numel(x) != n)
        fail_msg("%s: %lld elements, PyTorch has %lld", what, (long long)fdl_numel(x), (long long)n);
    check_ok(fdl_to_f64(x, got, n));
    for (int64_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(values, (size_t)i);
        double want = json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);
        if (got[i] != want && !(isnan(got[i]) && isnan(want)) &&
            !(fabs(got[i] - want) <= tolerance * fmax(1, fabs(want))))
            fail_msg("%s: element %lld is %.9g, PyTorch has %.9g", what, (long long)i, got[i], want);
    }
}

/* ---- the rows ---------------------------------------------------------------------------------------- */

/* sum(y * w) with w[i] = 0.5 + (i % 7) / 7. */
static fdl_tensor *weighted_sum(fdl_tensor *y)
{
    int64_t n = fdl_numel(y);
    fdl_tensor *w = fdl_arange(0, (double)n, 1, .dtype = fdl_dtype_of(y));
    w = fdl_add(fdl_div(fdl_remainder_scalar(w, 7), 7), 0.5);
    return fdl_sum(fdl_mul(fdl_reshape(y, FDL_SHAPE(n)), w));
}

static int check_gradients(const row *r, const char *sample, json_t *wanted, fdl_dtype dtype)
{
    FDL_SCOPE;
    ops_operands o;
    assert_true(ops_sample(sample, dtype, false, &o));
    for (int i = 0; i < o.n; i++)
        if (o.differentiable[i])
            check_ok(fdl_requires_grad_(o.at[i], true));
    fdl_tensor *y = r->call((fdl_list){o.n, o.at}, NULL);
    if (!y)
        fail_msg("%s(%s): %s", r->name, sample, fdl_last_error()->message);
    check_ok(fdl_backward(weighted_sum(y)));
    const char *operand;
    json_t *values;
    json_object_foreach(wanted, operand, values)
    {
        char what[128];
        snprintf(what, sizeof what, "%s(%s) %s, gradient of %s", r->name, sample, fdl_dtype_name(dtype),
                 operand);
        expect(what, fdl_grad(o.at[atoi(operand)]), values,
               dtype == FDL_FLOAT32 ? 2e-5
               : on_gpu             ? 1e-7
                                    : 1e-12);
    }
    return (int)json_object_size(wanted);
}

static void gradients_are_pytorchs(void **state)
{
    (void)state;
    int checks = 0;
    for (const row *r = rows; r < rows + ROWS; r++) {
        json_t *wanted;
        const char *sample;
        json_object_foreach(json_object_get(entry_of(r), "gradients"), sample, wanted)
        {
            checks += check_gradients(r, sample, wanted, FDL_FLOAT64);
            checks += check_gradients(r, sample, wanted, FDL_FLOAT32);
        }
    }
    print_message("%d rows, %d gradients\n", (int)ROWS, checks);
    assert_true(checks > 500);
}

/* The row's first sample in a short dtype, under autocast or not: the dtype that PyTorch gives, and its values where they were
 * recorded. 1 where it isn't so. */
static int check_short(const row *r, fdl_dtype low, bool autocast, const char *type, const json_t *values)
{
    FDL_SCOPE;
    ops_operands o;
    char what[128];
    snprintf(what, sizeof what, "%s in %s, %s autocast", r->name, fdl_dtype_name(low),
             autocast ? "with" : "without");
    assert_true(ops_sample(r->samples, low, false, &o));
    fdl_tensor *y;
    {
        fdl_mode_guard mode = {0};
        if (autocast)
            mode = fdl_amp_autocast_open(.dtype = low);
        y = r->call((fdl_list){o.n, o.at}, NULL);
        if (autocast)
            check_ok(fdl_mode_close(mode));
    }
    bool pending = fdl_error_pending() != FDL_OK;
    const char *wrong = "", *is = y ? fdl_dtype_name(fdl_dtype_of(y)) : fdl_last_error()->message;
    if (!type && y && (same_version || on_gpu))
        wrong = "PyTorch refuses this";
    else if (!y && !pending)
        wrong = "failed without an error";
    else if (type && !y)
        wrong = "should be";
    else if (type && strcmp(is, type))
        wrong = "PyTorch's is";
    if (*wrong)
        print_error("%s: %s; %s %s\n", what, is, wrong, type ? type : "");
    fdl_clear_error();
    if (values && y && !*wrong)
        expect(what, y, values,
               fdl_dtype_of(y) == FDL_FLOAT32   ? 1e-5
               : fdl_dtype_of(y) == FDL_FLOAT16 ? 2e-3
                                                : 1.6e-2);
    return *wrong != 0;
}

static const fdl_dtype lows[] = {FDL_FLOAT16, FDL_BFLOAT16};

static void short_dtypes_are_pytorchs(void **state)
{
    (void)state;
    int failures = 0;
    for (const row *r = rows; r < rows + ROWS; r++)
        for (int i = 0; i < 2; i++) {
            const json_t *plain =
                json_object_get(json_object_get(entry_of(r), fdl_dtype_name(lows[i])), "plain");
            failures += check_short(r, lows[i], false, json_string_value(json_object_get(plain, "type")),
                                    json_object_get(plain, "values"));
        }
    assert_int_equal(failures, 0);
}

static void autocast_dtypes_are_pytorchs(void **state)
{
    (void)state;
    int known = 0, failures = 0;
    for (const row *r = rows; r < rows + ROWS; r++)
        for (int i = 0; i < 2; i++) {
            const json_t *entry = json_object_get(entry_of(r), fdl_dtype_name(lows[i]));
            const json_t *cpu = json_object_get(entry, "cpu");
            const char *type =
                json_string_value(on_gpu ? json_object_get(entry, "cuda") : json_object_get(cpu, "type"));
            if (on_gpu && !type)
                continue; /* which couldn't be asked */
            known++;
            failures += check_short(r, lows[i], true, type && strcmp(type, "error") ? type : NULL,
                                    on_gpu ? NULL : json_object_get(cpu, "values"));
        }
    assert_int_equal(failures, 0);
    assert_true(known > 200);
}

/* The mean is that of the elements, the sum theirs, wherever no weight says otherwise. */
static void reductions_agree(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = F32(FDL_SHAPE(2, 3), .1, -.7, 1.3, .9, .2, -1.1),
               *b = F32(FDL_SHAPE(2, 3), .6, .3, .4, .8, .5, .2), *p = fdl_sigmoid(a),
               *signs = F32(FDL_SHAPE(2, 3), 1, -1, 1, -1, -1, 1), *c = fdl_ivec(2, 0),
               *labels = F32(FDL_SHAPE(2), 1, -1), *var = fdl_exp(b);
#define AGREE(shape, loss, ...)                                                                          \
    do {                                                                                                 \
        fdl_tensor *each_ = loss(__VA_ARGS__, .reduction = FDL_NONE), *mean_ = loss(__VA_ARGS__);        \
        check_shape_(each_, shape, #loss, __FILE__, __LINE__);                                           \
        check_scalar(mean_);                                                                             \
        check_number(fdl_item(mean_), fdl_item(fdl_mean(each_)), 1e-6);                                  \
        check_number(fdl_item(loss(__VA_ARGS__, .reduction = FDL_SUM)), fdl_item(fdl_sum(each_)), 1e-5); \
    } while (0)
    const fdl_shape all = FDL_SHAPE(2, 3), samples = FDL_SHAPE(2);
    AGREE(all, fdl_mse_loss, a, b);
    AGREE(all, fdl_l1_loss, a, b);
    AGREE(all, fdl_smooth_l1_loss, a, b);
    AGREE(all, fdl_huber_loss, a, b);
    AGREE(all, fdl_poisson_nll_loss, a, b);
    AGREE(all, fdl_gaussian_nll_loss, a, b, var);
    AGREE(samples, fdl_cross_entropy, a, c);
    AGREE(samples, fdl_nll_loss, a, c);
    AGREE(samples, fdl_focal_loss, a, c);
    AGREE(samples, fdl_multi_margin_loss, a, c);
    AGREE(all, fdl_binary_cross_entropy, p, b);
    AGREE(all, fdl_binary_cross_entropy_with_logits, a, b);
    AGREE(all, fdl_sigmoid_focal_loss, a, b);
    AGREE(samples, fdl_multilabel_soft_margin_loss, a, b);
    AGREE(all, fdl_soft_margin_loss, a, signs);
    AGREE(samples, fdl_multilabel_margin_loss, a, I64(FDL_SHAPE(2, 3), 1, -1, 0, 2, 0, -1));
    AGREE(samples, fdl_dice_loss, p, b);
    AGREE(all, fdl_kl_div, a, b);
    AGREE(samples, fdl_triplet_margin_loss, a, b, signs);
    AGREE(samples, fdl_cosine_embedding_loss, a, b, labels);
    AGREE(all, fdl_margin_ranking_loss, a, b, signs);
    AGREE(all, fdl_hinge_embedding_loss, a, signs);
    fdl_tensor *log_p = fdl_log_softmax(fdl_reshape(fdl_linspace(-1, 1, 24), FDL_SHAPE(4, 2, 3)), 2);
    fdl_tensor *targets = I64(FDL_SHAPE(2, 1), 1, 2), *steps = fdl_ivec(4, 3), *ones = fdl_ivec(1, 1);
    AGREE(samples, fdl_ctc_loss, log_p, targets, steps, ones);
}

/* ---- examples ------------------------------------------------------------------------------------------ */

static fdl_dtype real; /* of this round */
#define R(...) fdl_to_dtype(fdl_vec(__VA_ARGS__), real)
#define M(rows, columns, ...) fdl_reshape(R(__VA_ARGS__), FDL_SHAPE(rows, columns))

static void near_(fdl_tensor *x, double want, const char *call, int line)
{
    if (!x)
        fail_msg("%d: %s: %s", line, call, fdl_last_error()->message);
    assert_int_equal(fdl_dtype_of(x), real);
    double is = fdl_item(x);
    if (!(fabs(is - want) <= 1e-6))
        fail_msg("%d: %s is %.8g, not %.8g", line, call, is, want);
}
#define near(x, want) near_(x, want, #x, __LINE__)

static void losses_have_their_examples(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        real = i ? FDL_FLOAT64 : FDL_FLOAT32;
        fdl_tensor *a = R(1, 2, 3), *b = R(1.5, 2.5, 3.5), *two = R(1, 5), *other = R(1.5, 2);
        near(fdl_mse_loss(a, b), 0.25);
        near((fdl_mse_loss)(a, b), 0.25);
        near(fdl_l1_loss(a, b), 0.5);
        near(fdl_smooth_l1_loss(two, other), 1.3125);
        near(fdl_huber_loss(two, other, .delta = 2), 2.0625);
        fdl_tensor *p = M(2, 2, 2, 1, 1, 3), *t = fdl_ivec(0, 1);
        near(fdl_cross_entropy(p, t), 0.2200948);
        near(fdl_cross_entropy(p, t, .label_smoothing = 0.1), 0.2950948);
        near(fdl_cross_entropy(p, t, .weight = R(1, 3)), 0.1735114);
        near(fdl_nll_loss(M(2, 3, -.5, -1.5, -2.5, -1, -.5, -2), t), 0.5);
        near(fdl_binary_cross_entropy(R(.9, .1, .8, .2), R(1, 0, 1, 0)), 0.1642520);
        near(fdl_binary_cross_entropy(R(0), R(1)), 100);
        near(fdl_binary_cross_entropy_with_logits(R(0), R(1)), 0.6931472);
        near(fdl_binary_cross_entropy_with_logits(R(.5, -.5), fdl_ivec(1, 0)), 0.4740770);
        near(fdl_binary_cross_entropy_with_logits(R(.5, -.5), R(1, 0), .pos_weight = R(2)), 0.7111155);
        fdl_tensor *q = fdl_log_softmax(M(2, 3, 2, 1, .1, .5, 1.5, .3), 1);
        fdl_tensor *even = fdl_full(FDL_SHAPE(2, 3), 1. / 3, .dtype = real);
        near(fdl_kl_div(q, even, .reduction = FDL_BATCHMEAN), 0.2160371);
        near(fdl_kl_div(q, even), 0.2160371 / 3);
        near(fdl_kl_div(q, fdl_zeros_like(q)), 0); /* 0 log 0 is 0 */
        near(fdl_focal_loss(M(2, 3, 2, .5, -1, -.5, 1.5, .3), t), 0.0055677);
        near(fdl_triplet_margin_loss(R(1, 0), R(.9, .1), R(0, 1), .margin = 2), 0.7272078);
        near(fdl_cosine_embedding_loss(p, p, R(1, 1)), 0);
        near(fdl_hinge_embedding_loss(R(.5, 2), R(-1, -1)), 0.25);
        near(fdl_margin_ranking_loss(R(1, 3), R(2, 1), R(1, 1)), 0.5);
        near(fdl_margin_ranking_loss(R(3, 5), R(1, 3), R(1, 1), .margin = 3), 1);
        near(fdl_poisson_nll_loss(a, a), 5.3976250);
        near(fdl_poisson_nll_loss(a, a, .no_log_input = true), 0.4392896);
        near(fdl_gaussian_nll_loss(R(1, 2), R(1.5, 2.5), R(.25, 1)), -0.0340736);
        near(fdl_triplet_margin_loss(R(1, 0), R(1, 0), R(90, 90)), 0); /* a negative that is far */
        real = FDL_FLOAT64;
        near(fdl_mse_loss(fdl_float(a), fdl_double(b)), 0.25); /* promoted */
    }
}

/* The index of a class, and all probability on it. */
static void classes_and_probabilities_agree(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *p = F32(FDL_SHAPE(2, 3), .5, -1, 2, 0, 1.5, .25), *t = fdl_ivec(2, 0);
    fdl_tensor *one_hot = fdl_float(fdl_one_hot(t, 3));
    for (int i = 0; i < 2; i++) {
        double smoothing = i * 0.2;
        double index = fdl_item(fdl_cross_entropy(p, t, .label_smoothing = smoothing));
        check_number(fdl_item(fdl_cross_entropy(p, one_hot, .label_smoothing = smoothing)), index, 1e-6);
    }
    fdl_tensor *picture = fdl_reshape(fdl_linspace(-1, 1, 24), FDL_SHAPE(2, 3, 2, 2));
    fdl_tensor *places = I64(FDL_SHAPE(2, 2, 2), 0, 1, 2, 0, 1, 2, 0, 1);
    check_shape(fdl_cross_entropy(picture, places, .reduction = FDL_NONE), 2, 2, 2);
    fdl_tensor *flat = fdl_reshape(fdl_permute(picture, FDL_DIMS(0, 2, 3, 1)), FDL_SHAPE(8, 3));
    check_number(fdl_item(fdl_cross_entropy(picture, places)),
                 fdl_item(fdl_cross_entropy(flat, fdl_reshape(places, FDL_SHAPE(8)))), 1e-6);
}

static void ignored_targets_leave_the_mean(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *p = F32(FDL_SHAPE(2, 3), .5, -1, 2, 0, 1.5, .25);
    double first = fdl_item(fdl_cross_entropy(fdl_narrow(p, 0, 0, 1), fdl_ivec(2)));
    check_number(fdl_item(fdl_cross_entropy(p, fdl_ivec(2, -100))), first, 1e-6);
    check_number(fdl_item(fdl_cross_entropy(p, fdl_ivec(2, 0), .ignore_index = FDL_SOME(0))), first, 1e-6);
    fdl_tensor *none = fdl_ivec(-100, -100);
    assert_true(isnan(fdl_item(fdl_cross_entropy(p, none)))); /* as in PyTorch: nothing by nothing */
    check_number(fdl_item(fdl_cross_entropy(p, none, .reduction = FDL_SUM)), 0, 0);
    check_values(fdl_cross_entropy(p, none, .reduction = FDL_NONE), 0, 0);
    assert_true(isnan(fdl_item(fdl_nll_loss(p, none))));
}

static void weights_divide_the_mean(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *p = fdl_vec(1, 2, 4), *t = fdl_vec(0, 0, 0), *w = fdl_vec(1, 0, 3);
    check_number(fdl_item(fdl_mse_loss(p, t, .weight = w)), (1 + 48) / 4.0, 1e-6);
    check_number(fdl_item(fdl_l1_loss(p, t, .weight = w)), (1 + 12) / 4.0, 1e-6);
    check_number(fdl_item(fdl_huber_loss(p, t, .weight = w)), (0.5 + 3 * 3.5) / 3,
                 1e-6); /* of the elements */
    fdl_tensor *logits = F32(FDL_SHAPE(2, 2), 2, 1, 1, 3), *classes = fdl_ivec(0, 1);
    fdl_tensor *each = fdl_cross_entropy(logits, classes, .reduction = FDL_NONE);
    double a = fdl_item(fdl_select(each, 0, 0)), b = fdl_item(fdl_select(each, 0, 1));
    check_number(fdl_item(fdl_cross_entropy(logits, classes, .weight = fdl_vec(1, 3))), (a + 3 * b) / 4,
                 1e-6);
}

static void shapes_meet_only_where_asked(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *column = fdl_ones(FDL_SHAPE(4, 1)), *line = fdl_zeros(FDL_SHAPE(4));
    check_refused(fdl_mse_loss(column, line), FDL_E_SHAPE, "fdl_mse_loss([4, 1] float32", "[4] float32",
                  ".broadcast = true");
    check_shape(fdl_mse_loss(column, line, .broadcast = true, .reduction = FDL_NONE), 4, 4);
    check_shape(fdl_l1_loss(column, line, .broadcast = true, .reduction = FDL_NONE), 4, 4);
    check_shape(fdl_smooth_l1_loss(column, line, .broadcast = true, .reduction = FDL_NONE), 4, 4);
    check_shape(fdl_huber_loss(column, line, .broadcast = true, .reduction = FDL_NONE), 4, 4);
    fdl_tensor *x = fdl_vec(1, 5), *y = fdl_vec(1.5, 2);
    assert_true(fdl_same(fdl_smooth_l1_loss(x, y, .beta = FDL_ZERO), fdl_l1_loss(x, y)));
    check_refused(fdl_mse_loss(line, NULL), FDL_E_NULL, "fdl_mse_loss", "target");
}

/* Far from 0 nothing is infinite, and every gradient is a number. */
static void the_ends_are_finite(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(100, -100, 100, -100), *t = fdl_vec(1, 1, 0, 0);
    check_ok(fdl_requires_grad_(x, true));
    fdl_tensor *y = fdl_binary_cross_entropy_with_logits(x, t, .reduction = FDL_NONE);
    check_values(y, 0, 100, 100, 0);
    check_ok(fdl_backward(fdl_sum(y)));
    check_values(fdl_grad(x), 0, -1, 1, 0);

    static const double gammas[] = {0.25, 0.5, 1, 1.5, 2, 5};
    for (size_t i = 0; i < sizeof gammas / sizeof *gammas; i++)
        for (int k = 0; k < 3; k++) {
            FDL_SCOPE;
            fdl_dtype dtype = k == 0 ? FDL_FLOAT32 : k == 1 ? FDL_FLOAT64 : FDL_BFLOAT16;
            fdl_tensor *sure = fdl_to_dtype(F32(FDL_SHAPE(2, 2), 800, -800, -30, 30), dtype);
            check_ok(fdl_requires_grad_(sure, true));
            fdl_tensor *loss = fdl_focal_loss(sure, fdl_ivec(0, 1), .gamma = gammas[i]);
            check_number(fdl_item(loss), 0, 1e-6);
            check_ok(fdl_backward(loss));
            assert_true(fdl_item_bool(fdl_all(fdl_isfinite(fdl_grad(sure)))));
            fdl_tensor *one = fdl_to_dtype(fdl_vec(800, -800), dtype);
            check_ok(fdl_requires_grad_(one, true));
            loss = fdl_sigmoid_focal_loss(one, fdl_vec(1, 0), .gamma = gammas[i]);
            check_number(fdl_item(loss), 0, 1e-6);
            check_ok(fdl_backward(loss));
            assert_true(fdl_item_bool(fdl_all(fdl_isfinite(fdl_grad(one)))));
        }
    fdl_tensor *p = F32(FDL_SHAPE(2, 2), 2, 1, 1, 3), *c = fdl_ivec(0, 1);
    check_number(fdl_item(fdl_focal_loss(p, c, .gamma = FDL_ZERO, .alpha = 1)),
                 fdl_item(fdl_cross_entropy(p, c)), 1e-7);
}

static void ctc_of_a_batch_is_that_of_each(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *log_p = fdl_log_softmax(fdl_reshape(fdl_sin(fdl_arange(0, 24, 1)), FDL_SHAPE(4, 2, 3)), 2);
    fdl_tensor *targets = I64(FDL_SHAPE(2, 2), 1, 2, 2, 1);
    fdl_tensor *both = fdl_ctc_loss(log_p, targets, fdl_ivec(4, 3), fdl_ivec(2, 1), .reduction = FDL_NONE);
    for (int i = 0; i < 2; i++) {
        fdl_tensor *one = fdl_ctc_loss(fdl_narrow(log_p, 1, i, 1), fdl_narrow(targets, 0, i, 1),
                                       fdl_ivec(4 - i), fdl_ivec(2 - i), .reduction = FDL_NONE);
        check_number(fdl_item(one), fdl_item(fdl_select(both, 0, i)), 1e-6);
    }
    /* the mean is of each loss by the length of its target */
    double a = fdl_item(fdl_select(both, 0, 0)), b = fdl_item(fdl_select(both, 0, 1));
    check_number(fdl_item(fdl_ctc_loss(log_p, targets, fdl_ivec(4, 3), fdl_ivec(2, 1))), (a / 2 + b) / 2,
                 1e-6);
    fdl_tensor *short_one = fdl_narrow(fdl_narrow(log_p, 1, 0, 1), 0, 0, 1);
    assert_true(isinf(fdl_item(fdl_ctc_loss(short_one, fdl_ivec(1, 2), fdl_ivec(1), fdl_ivec(2)))));
    check_number(
        fdl_item(fdl_ctc_loss(short_one, fdl_ivec(1, 2), fdl_ivec(1), fdl_ivec(2), .zero_infinity = true)), 0,
        0);
}

static void classes_outside_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *p = F32(FDL_SHAPE(2, 2), 2, 1, 1, 3);
    check_refused(fdl_cross_entropy(p, fdl_ivec(0, 2)), FDL_E_RANGE, "Target 2", "0 to 1");
    check_refused(fdl_nll_loss(p, fdl_ivec(0, -3)), FDL_E_RANGE, "-3", "0 to 1");
    check_refused(fdl_focal_loss(p, fdl_ivec(0, -3)), FDL_E_RANGE, "-3");
    check_refused(fdl_focal_loss(p, fdl_ivec(0, -100)), FDL_E_RANGE, "-100"); /* it ignores no class */
    check_refused(fdl_multi_margin_loss(p, fdl_ivec(0, 2)), FDL_E_RANGE, "0 to 1");
    check_refused(fdl_cross_entropy(p, fdl_to_dtype(fdl_ivec(0, 1), FDL_INT32)), FDL_E_DTYPE, "fdl_long");
    check_refused(fdl_cross_entropy(fdl_vec(1, 2), fdl_vec(1)), FDL_E_SHAPE, "classes would be int64");
}

/* The unstable form is refused where autocast shortens its operand, with the form to take instead. */
static void autocast_on_cuda_refuses_probabilities(void **state)
{
    (void)state;
    if (!on_gpu)
        skip();
    FDL_SCOPE;
    FDL_AUTOCAST();
    check_refused(fdl_binary_cross_entropy(fdl_vec(.5), fdl_vec(1)), FDL_E_DTYPE,
                  "fdl_binary_cross_entropy_with_logits");
    check_some(fdl_binary_cross_entropy_with_logits(fdl_vec(.5), fdl_vec(1)));
}

int main(void)
{
    on_gpu = on_test_device();
    json_error_t error;
    fixture = json_load_file(FLODL_SOURCE_DIR "/tests/fixtures/losses.json", 0, &error);
    if (!fixture) {
        fprintf(stderr, "tests/fixtures/losses.json:%d: %s\n", error.line, error.text);
        return 1;
    }
    char version[32];
    same_version = strcmp(fdl_libtorch_version(version, sizeof version),
                          json_string_value(json_object_get(fixture, "torch"))) == 0;
    const struct CMUnitTest here[] = {
        cmocka_unit_test(gradients_are_pytorchs),
        cmocka_unit_test(autocast_dtypes_are_pytorchs),
        cmocka_unit_test(reductions_agree),
        cmocka_unit_test(losses_have_their_examples),
        cmocka_unit_test(classes_and_probabilities_agree),
        cmocka_unit_test(ignored_targets_leave_the_mean),
        cmocka_unit_test(weights_divide_the_mean),
        cmocka_unit_test(shapes_meet_only_where_asked),
        cmocka_unit_test(the_ends_are_finite),
        cmocka_unit_test(ctc_of_a_batch_is_that_of_each),
        cmocka_unit_test(autocast_on_cuda_refuses_probabilities),
    };
    /* What the kernels of the CPU can, and what is looked at before them. */
    const struct CMUnitTest cpu[] = {
        cmocka_unit_test(short_dtypes_are_pytorchs),
        cmocka_unit_test(classes_outside_are_named),
    };
    int failed = cmocka_run_group_tests(here, NULL, NULL);
    if (!on_gpu)
        failed += cmocka_run_group_tests(cpu, NULL, NULL);
    json_decref(fixture);
    return failed;
}
