/* The operations that layers are made of: PyTorch's numbers and gradients by finite differences for each case
 * of layers.def, further results, wrong options, options that the dice
 * give. */
#include "check.h"

#include <math.h>
#include <sys/resource.h>

/* ---- the cases ----------------------------------------------------------------------------------------- */

#define V(...) fdl_double(fdl_vec(__VA_ARGS__))
#define A fdl_list_at(in, 0)
#define B fdl_list_at(in, 1)
#define C fdl_list_at(in, 2)
#define D fdl_list_at(in, 3)
#define E fdl_list_at(in, 4)
#define F fdl_list_at(in, 5)
#define G fdl_list_at(in, 6)

static fdl_tensor *joined(fdl_tensor *a, fdl_tensor *b, fdl_tensor *c)
{
    a = fdl_flatten(a, 0, -1);
    b = fdl_flatten(b, 0, -1);
    return c ? fdl_cat(FDL_LIST(a, b, fdl_flatten(c, 0, -1)), 0) : fdl_cat(FDL_LIST(a, b), 0);
}

static fdl_tensor *unpooled(fdl_tensor *x)
{
    fdl_tensor *indices;
    x = fdl_max_pool2d(x, 2, .indices = &indices);
    return fdl_max_unpool2d(x, indices, 2, .size = FDL_DIMS(5, 5));
}

static fdl_tensor *lstm_cell(fdl_tensor *x, fdl_tensor *h, fdl_tensor *c, fdl_tensor *w_ih, fdl_tensor *w_hh,
                             fdl_tensor *b_ih, fdl_tensor *b_hh)
{
    fdl_tensor *next;
    h = fdl_lstm_cell(x, h, c, w_ih, w_hh, .b_ih = b_ih, .b_hh = b_hh, .c_out = &next);
    return joined(h, next, NULL);
}

static fdl_tensor *gru(fdl_list in)
{
    fdl_tensor *h_n;
    fdl_tensor *y =
        fdl_gru(A, B, ((fdl_list){in.n - 2, in.at + 2}), .layers = 2, .training = true, .h_n = &h_n);
    return joined(y, h_n, NULL);
}

static fdl_tensor *lstm(fdl_list in)
{
    fdl_tensor *h_n, *c_n;
    fdl_tensor *y = fdl_lstm(A, B, C, ((fdl_list){in.n - 3, in.at + 3}), .layers = 2, .training = true,
                             .no_bias = true, .bidirectional = true, .h_n = &h_n, .c_n = &c_n);
    return joined(y, h_n, c_n);
}

#define CASE(name, shapes, torch, shape, sum, weighted, ...) \
    static fdl_tensor *case_##name(fdl_list in, void *ctx)   \
    {                                                        \
        (void)ctx;                                           \
        return __VA_ARGS__;                                  \
    }
#include "layers.def"
#undef CASE

static const struct layer_case {
    const char *name, *shapes, *torch, *shape;
    double sum, weighted;
    fdl_tensor *(*f)(fdl_list in, void *ctx);
} cases[] = {
#define CASE(name, shapes, torch, shape, sum, weighted, ...) \
    {#name, shapes, torch, shape, sum, weighted, case_##name},
#include "layers.def"
#undef CASE
};
enum { n_cases = sizeof cases / sizeof *cases, max_inputs = 12 };

/* "2x3" */
static fdl_shape shape_of(const char **text)
{
    fdl_shape s = {0};
    char *end;
    for (; **text && **text != ' '; *text = *end == 'x' ? end + 1 : end)
        s.d[s.ndim++] = strtoll(*text, &end, 10);
    while (**text == ' ')
        ++*text;
    return s;
}

/* Input k: sin(1.3 i + 0.7 k + 0.5). */
static fdl_list inputs(const char *shapes, fdl_tensor **at)
{
    int n = 0;
    while (*shapes) {
        fdl_shape s = shape_of(&shapes);
        double v[512];
        int64_t numel = fdl_shape_numel(s);
        assert_true(numel <= 512 && n < max_inputs);
        for (int64_t i = 0; i < numel; i++)
            v[i] = sin(1.3 * (double)i + 0.7 * n + 0.5);
        at[n++] = fdl_from_f64(v, s, .requires_grad = true);
    }
    return (fdl_list){n, at};
}

static void values_are_pytorchs(void **state)
{
    (void)state;
    int wrong = 0;
    for (int i = 0; i < n_cases; i++) {
        FDL_SCOPE;
        const struct layer_case *c = &cases[i];
        fdl_tensor *at[max_inputs];
        fdl_tensor *y = c->f(inputs(c->shapes, at), NULL);
        if (!y) {
            print_error("%s: %s\n", c->name, fdl_last_error()->message);
            wrong++;
            continue;
        }
        const char *text = c->shape;
        double v[1024], sum = 0, weighted = 0;
        int64_t n = fdl_numel(y);
        assert_true(n <= 1024);
        check_ok(fdl_to_f64(y, v, n));
        for (int64_t k = 0; k < n; k++) {
            sum += v[k];
            weighted += v[k] * cos(0.3 * (double)k);
        }
        bool close = fabs(sum - c->sum) <= 1e-9 * (1 + fabs(c->sum)) &&
                     fabs(weighted - c->weighted) <= 1e-9 * (1 + fabs(c->weighted));
        if (close && fdl_shape_eq(fdl_shape_of(y), shape_of(&text)))
            continue;
        char is[128];
        print_error("%s is %s with %.12g and %.12g; %s is [%s] with %.12g and %.12g\n", c->name,
                    fdl_describe(y, is, sizeof is), sum, weighted, c->torch, c->shape, c->sum, c->weighted);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void gradients_are_differences(void **state)
{
    (void)state;
    int wrong = 0;
    for (int i = 0; i < n_cases; i++) {
        FDL_SCOPE;
        fdl_tensor *at[max_inputs];
        if (fdl_gradcheck(cases[i].f, inputs(cases[i].shapes, at), NULL) == FDL_OK)
            continue;
        print_error("%s: %s\n", cases[i].name, fdl_last_error()->message);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}
#undef A
#undef B
#undef C
#undef D
#undef E
#undef F
#undef G

/* ---- known values -------------------------------------------------------------------------------------- */

static void check_near_(fdl_tensor *x, double want, double within, const char *call, int line)
{
    check_some(x);
    double is = fdl_item(x);
    if (fabs(is - want) <= within)
        return;
    print_error("%d: %s is %.8g, not %.8g\n", line, call, is, want);
    fail();
}
#define check_near(x, want) check_near_(x, want, 1e-6, #x, __LINE__)

static void check_all_(fdl_tensor *x, const double *want, int n, const char *call, int line)
{
    double is[64];
    check_some(x);
    check_ok(fdl_to_f64(x, is, n));
    for (int i = 0; i < n; i++)
        if (fabs(is[i] - want[i]) > 2e-6) {
            print_error("%d: element %d of %s is %.8g, not %.8g\n", line, i, call, is[i], want[i]);
            fail();
        }
}
#define check_all(x, ...)                                                                                 \
    check_all_(x, (const double[]){__VA_ARGS__}, (int)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), \
               #x, __LINE__)

#define M(rows, columns, ...) fdl_reshape(fdl_vec(__VA_ARGS__), FDL_SHAPE(rows, columns))

static void batch_norm_moves_its_statistics(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = M(4, 2, 10, 20, 12, 22, 11, 21, 9, 19), *mean = fdl_zeros(FDL_SHAPE(2)),
               *var = fdl_ones(FDL_SHAPE(2));
    check_some(fdl_batch_norm(x, .running_mean = mean, .running_var = var, .training = true));
    check_all(mean, 1.05, 2.05);
    check_all(var, 1.0666667, 1.0666667);
    check_some(fdl_batch_norm(x, .running_mean = mean, .running_var = var));
    check_all(mean, 1.05, 2.05);
    check_some(
        fdl_batch_norm(x, .running_mean = mean, .running_var = var, .training = true, .momentum = FDL_ZERO));
    check_all(mean, 1.05, 2.05);
}

static void the_padding_row_gets_no_gradient(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(3, 2), .requires_grad = true);
    check_ok(fdl_backward(fdl_sum(fdl_embedding(w, fdl_ivec(0, 2, 2), .padding_idx = FDL_SOME(-3)))));
    check_all(fdl_grad(w), 0, 0, 0, 0, 2, 2);
    check_all(fdl_embedding(w, fdl_ivec(0), .padding_idx = FDL_SOME(0)), 1, 1);
    check_ok(fdl_embedding_renorm_(w, fdl_ivec(1), 1, 2));
    check_all(w, 1, 1, M_SQRT1_2, M_SQRT1_2, 1, 1);
}

static void alpha_dropout_and_wrong_probabilities(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(100, 100));
    fdl_tensor *y = fdl_alpha_dropout(fdl_zeros(FDL_SHAPE(100)), .5, .training = true);
    check_near(fdl_max(y), 0.7791939);
    check_near(fdl_min(y), 0.8864049 * -1.7580993 + 0.7791939);
    const double wrong[] = {-.1, 1.5, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        assert_null(fdl_dropout(x, wrong[i]));
        check_error(FDL_E_ARG, "from 0 to 1");
        assert_null(fdl_feature_alpha_dropout(x, wrong[i], .training = true));
        check_error(FDL_E_ARG, "from 0 to 1");
    }
}

static void layers_refuse(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(2, 3, 8, 8)), *w = fdl_ones(FDL_SHAPE(16, 3, 3, 3)), *out = x;
    assert_null(fdl_conv2d(x, fdl_ones(FDL_SHAPE(16, 4, 3, 3))));
    check_error(FDL_E_SHAPE, "weight [16, 4, 3, 3] expects 4 input channels, got 3");
    assert_null(fdl_conv2d(x, w, .bias = fdl_ones(FDL_SHAPE(3))));
    check_error(FDL_E_SHAPE, "bias of [16], got [3]");
    assert_null(fdl_conv2d(x, w, .stride_dims = FDL_DIMS(1, 1, 1)));
    check_error(FDL_E_ARG, ".stride_dims has 3 values for 2 spatial dims");
    assert_null(fdl_conv2d(x, w, .stride = 2, .stride_dims = FDL_DIMS(1, 1)));
    check_error(FDL_E_ARG, "both");
    assert_null(fdl_conv2d(x, w, .same = true, .stride = 2));
    check_error(FDL_E_ARG, ".same");
    assert_null(fdl_conv2d(x, w, .padding = -1));
    check_error(FDL_E_ARG, ".padding");
    assert_null(fdl_conv2d(x, w, .groups = 3));
    check_error(FDL_E_SHAPE, "groups");
    assert_null(fdl_conv2d(x, w, .dilation = 4));
    check_error(FDL_E_SHAPE, "reaches over 9");
    assert_null(fdl_conv2d(NULL, w));
    check_error(FDL_E_NULL, "x is NULL");
    fdl_tensor *dead = fdl_ones(FDL_SHAPE(16));
    fdl_drop(dead);
    assert_null(fdl_conv2d(x, w, .bias = dead));
    check_error(FDL_E_STATE, "bias");
    check_some(fdl_conv2d(fdl_ones(FDL_SHAPE(0, 3, 8, 8)), w));
    /* A stride beyond the image is any stride beyond it, also backwards. */
    fdl_tensor *line = fdl_ones(FDL_SHAPE(5, 5, 1), .requires_grad = true);
    fdl_tensor *y = fdl_conv1d(line, fdl_ones(FDL_SHAPE(2, 5, 2)), .stride = INT32_MAX, .padding = 2);
    check_ok(fdl_backward(fdl_sum(y)));
    assert_int_equal(fdl_size(y, 2), 1);
    assert_null(fdl_conv_transpose2d(fdl_ones(FDL_SHAPE(1, 16, 4, 4)), w, .stride = 2, .output_padding = 2));
    check_error(FDL_E_ARG, ".output_padding");
    assert_null(fdl_max_pool2d(x, 0));
    check_error(FDL_E_ARG, ".kernel is 0");
    assert_null(fdl_max_pool2d(x, 2, .padding = 2, .indices = &out));
    check_error(FDL_E_ARG, "half");
    assert_null(out);
    assert_null(fdl_max_pool1d(fdl_ones(FDL_SHAPE(1, 1, 1)), 2, .padding = 1, .dilation = 2));
    check_error(FDL_E_SHAPE, "misses");
    assert_null(fdl_avg_pool2d(x, 9));
    check_error(FDL_E_SHAPE, "avg_pool2d");
    assert_null(fdl_adaptive_avg_pool2d(x, FDL_DIMS(1, 2, 3)));
    check_error(FDL_E_ARG, "2 spatial dims");
    assert_null(fdl_interpolate(x, .scale = 2, .mode = FDL_INTERPOLATE_LINEAR));
    check_error(FDL_E_SHAPE, "linear needs 3 dims");
    assert_null(fdl_interpolate(x));
    check_error(FDL_E_ARG, ".size or .scale");
    assert_null(fdl_interpolate(x, .scale = 2, .size = FDL_DIMS(3)));
    check_error(FDL_E_ARG, ".size or .scale");
    assert_null(fdl_interpolate(x, .scale = 2, .align_corners = true));
    check_error(FDL_E_ARG, "align_corners");
    assert_null(fdl_pixel_shuffle(x, 2));
    check_error(FDL_E_SHAPE, "pixel_shuffle");
    assert_null(fdl_pixel_shuffle(x, 0));
    check_error(FDL_E_ARG, "r is 0");
    assert_null(fdl_layer_norm(x, FDL_DIMS(3)));
    check_error(FDL_E_SHAPE, "[3]");
    assert_null(fdl_group_norm(x, 2));
    check_error(FDL_E_SHAPE, "3 channels");
    assert_null(fdl_batch_norm(fdl_ones(FDL_SHAPE(1, 4)), .training = true));
    check_error(FDL_E_SHAPE, "more than 1 value per channel in training, got [1, 4]");
    assert_null(fdl_batch_norm(x));
    check_error(FDL_E_ARG, ".training");
    assert_null(fdl_instance_norm(fdl_ones(FDL_SHAPE(1, 4, 1))));
    check_error(FDL_E_SHAPE, "more than 1 place");
    assert_null(fdl_embedding(w, fdl_ivec(0)));
    check_error(FDL_E_SHAPE, "table");
    fdl_tensor *table = fdl_ones(FDL_SHAPE(4, 2));
    assert_null(fdl_embedding(table, fdl_ivec(4)));
    check_error(FDL_E_RANGE, "out of range");
    assert_null(fdl_embedding(table, fdl_vec(1)));
    check_error(FDL_E_DTYPE, "int64");
    assert_null(fdl_embedding(table, fdl_ivec(1), .padding_idx = FDL_SOME(4)));
    check_error(FDL_E_RANGE, "padding_idx");
    assert_null(fdl_embedding_bag(table, fdl_ivec(0, 1, 2), fdl_ivec(0, 2, 1)));
    check_error(FDL_E_ARG, "offset 2 is 1");
    assert_null(fdl_embedding_bag(table, fdl_ivec(0, 1), fdl_ivec(0), .per_sample_weights = fdl_vec(1, 2)));
    check_error(FDL_E_ARG, "FDL_BAG_SUM");
    fdl_tensor *h0 = fdl_zeros(FDL_SHAPE(1, 2, 5));
    assert_null(fdl_gru(fdl_ones(FDL_SHAPE(3, 2, 4)), h0,
                        FDL_LIST(fdl_ones(FDL_SHAPE(15, 4)), fdl_ones(FDL_SHAPE(14, 5))), .no_bias = true));
    check_error(FDL_E_SHAPE, "params[1] is [15, 5], got [14, 5]");
    assert_null(fdl_gru(fdl_ones(FDL_SHAPE(3, 2, 4)), h0, FDL_LIST(fdl_ones(FDL_SHAPE(15, 4)))));
    check_error(FDL_E_ARG, "need 4 params, got 1");
    assert_null(fdl_scaled_dot_product_attention(x, x, x, .mask = fdl_bool(fdl_ones(FDL_SHAPE(8, 8))),
                                                 .causal = true));
    check_error(FDL_E_ARG, ".causal");
    assert_null(fdl_scaled_dot_product_attention(x, x, x, .mask = fdl_long(fdl_ones(FDL_SHAPE(8, 8)))));
    check_error(FDL_E_DTYPE, "fdl_bool");
    assert_null(fdl_scaled_dot_product_attention(x, x, x, .scale = -1));
    check_error(FDL_E_ARG, ".scale");
}

/* ---- options that the dice give ------------------------------------------------------------------------ */

static fdl_rng dice;

static int64_t some_int(void)
{
    const int64_t odd[] = {-1, 9, INT32_MAX, INT64_MAX, INT64_MIN};
    return fdl_rng_below(&dice, 12) ? (int64_t)fdl_rng_below(&dice, 4) : odd[fdl_rng_below(&dice, 5)];
}

static fdl_shape some_dims(int usual)
{
    fdl_shape s = {0};
    if (fdl_rng_below(&dice, 3))
        return s;
    s.ndim = fdl_rng_below(&dice, 8) ? usual : (int)fdl_rng_below(&dice, 5) - 1;
    for (int i = 0; i < FDL_MAX_DIMS; i++)
        s.d[i] = some_int();
    return s;
}

static fdl_tensor *some_tensor(int ndim)
{
    fdl_shape s = {.ndim = ndim};
    for (int i = 0; i < ndim; i++)
        s.d[i] = (int64_t)fdl_rng_below(&dice, 9);
    return fdl_ones(s, .requires_grad = true);
}

static bool yes(void)
{
    return fdl_rng_below(&dice, 2);
}

/* A failure has an error, a result can be differentiated. */
static int answered(fdl_tensor *y)
{
    if (!y) {
        assert_true(fdl_error_pending() != FDL_OK);
        fdl_clear_error();
        return 0;
    }
    if (fdl_requires_grad(y) && fdl_backward(fdl_sum(y)) != FDL_OK)
        fdl_clear_error();
    return 1;
}

static void any_options_give_a_status(void **state)
{
    (void)state;
    dice = fdl_rng_seed(7);
    int good = 0, all = 0;
    for (int i = 0; i < 2000; i++) {
        FDL_SCOPE;
        fdl_tensor *indices = NULL, **maybe = yes() ? &indices : NULL;
        int n = 1 + (int)fdl_rng_below(&dice, 3);
        fdl_tensor *x = some_tensor(yes() ? n + 2 : n + 1), *w = some_tensor(n + 2);
        if (yes()) /* a weight that fits */
            w = fdl_ones(((fdl_shape){{2, fdl_size(x, -n - 1), 2, 3, 1}, n + 2}));
        fdl_conv_opts conv = {.stride = some_int(),
                              .padding = some_int(),
                              .dilation = some_int(),
                              .groups = some_int(),
                              .same = !fdl_rng_below(&dice, 4),
                              .stride_dims = some_dims(n),
                              .padding_dims = some_dims(n)};
        fdl_conv_transpose_opts back = {.stride = some_int(),
                                        .padding = some_int(),
                                        .output_padding = some_int(),
                                        .dilation = some_int(),
                                        .stride_dims = some_dims(n)};
        fdl_max_pool_opts pool = {.stride = some_int(),
                                  .padding = some_int(),
                                  .dilation = some_int(),
                                  .ceil_mode = yes(),
                                  .indices = maybe,
                                  .kernel_dims = some_dims(n)};
        fdl_avg_pool_opts mean = {.stride = some_int(),
                                  .padding = some_int(),
                                  .ceil_mode = yes(),
                                  .exclude_pad = yes(),
                                  .divisor = some_int(),
                                  .kernel_dims = some_dims(n)};
        fdl_interpolate_opts scale = {.size = some_dims(n),
                                      .scale = yes() ? 1.7 : 0,
                                      .align_corners = yes(),
                                      .mode = (fdl_interpolate_mode)fdl_rng_below(&dice, 8)};
        fdl_unfold_opts unfold = {.stride = some_int(), .padding = some_int(), .dilation = some_int()};
        fdl_fractional_max_pool_opts part = {.size = some_dims(2), .ratio = yes() ? .5 : 0, .indices = maybe};
        int64_t k = some_int();
        fdl_shape size = some_dims(n);
        fdl_tensor *y[] = {
            n == 1   ? fdl_conv1d_opt(x, w, &conv)
            : n == 2 ? fdl_conv2d_opt(x, w, &conv)
                     : fdl_conv3d_opt(x, w, &conv),
            n == 1   ? fdl_conv_transpose1d_opt(x, w, &back)
            : n == 2 ? fdl_conv_transpose2d_opt(x, w, &back)
                     : fdl_conv_transpose3d_opt(x, w, &back),
            n == 1   ? fdl_max_pool1d_opt(x, k, &pool)
            : n == 2 ? fdl_max_pool2d_opt(x, k, &pool)
                     : fdl_max_pool3d_opt(x, k, &pool),
            n == 1   ? fdl_avg_pool1d_opt(x, k, &mean)
            : n == 2 ? fdl_avg_pool2d_opt(x, k, &mean)
                     : fdl_avg_pool3d_opt(x, k, &mean),
            n == 1   ? fdl_adaptive_max_pool1d(x, size, .indices = maybe)
            : n == 2 ? fdl_adaptive_max_pool2d(x, size, .indices = maybe)
                     : fdl_adaptive_max_pool3d(x, size, .indices = maybe),
            n == 1   ? fdl_adaptive_avg_pool1d(x, size)
            : n == 2 ? fdl_adaptive_avg_pool2d(x, size)
                     : fdl_adaptive_avg_pool3d(x, size),
            fdl_interpolate_opt(x, &scale),
            fdl_unfold_opt(x, k, &unfold),
            fdl_fold_opt(x, size, k, &unfold),
            fdl_fractional_max_pool2d_opt(x, k, &part),
            fdl_lp_pool2d(x, 2, k, .stride = some_int(), .ceil_mode = yes()),
            fdl_group_norm(x, k),
            fdl_batch_norm(x, .training = true),
            fdl_instance_norm(x),
            fdl_layer_norm(x, size),
            fdl_local_response_norm(x, k),
            fdl_pixel_shuffle(x, k),
            fdl_channel_shuffle(x, k),
            fdl_scaled_dot_product_attention(x, x, x, .causal = yes(), .gqa = yes()),
            fdl_scaled_dot_product_attention(x, w, w, .mask = yes() ? x : NULL, .gqa = yes()),
            fdl_cross_entropy(x, yes() ? x : fdl_long(w), .reduction = (fdl_reduction)some_int()),
            fdl_embedding_bag(fdl_ones(FDL_SHAPE(4, 2), .requires_grad = true), fdl_ivec(0, some_int(), 1),
                              fdl_ivec(0, some_int()), .mode = (fdl_bag_mode)some_int(),
                              .include_last_offset = yes(), .padding_idx = FDL_SOME(some_int())),
            fdl_gru(x, w, FDL_LIST(x, w, x, w), .layers = (int)some_int(), .bidirectional = yes(),
                    .h_n = maybe),
        };
        fdl_clear_error();
        for (size_t j = 0; j < sizeof y / sizeof *y; j++, all++) {
            good += y[j] != NULL;
            if (y[j])
                answered(y[j]);
        }
    }
    print_message("%d of %d calls succeeded\n", good, all);
    assert_true(good > all / 20 && good < all);
}

int main(void)
{
    if (on_test_device()) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(values_are_pytorchs),
            cmocka_unit_test(gradients_are_differences),
            cmocka_unit_test(batch_norm_moves_its_statistics),
            cmocka_unit_test(the_padding_row_gets_no_gradient),
            cmocka_unit_test(alpha_dropout_and_wrong_probabilities),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    /* A huge request must fail as it would on a small machine, not swap this one. ASan's own limit does the same. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    struct rlimit limit = {.rlim_cur = (rlim_t)4 << 30, .rlim_max = RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_pytorchs),
        cmocka_unit_test(gradients_are_differences),
        cmocka_unit_test(batch_norm_moves_its_statistics),
        cmocka_unit_test(the_padding_row_gets_no_gradient),
        cmocka_unit_test(alpha_dropout_and_wrong_probabilities),
        cmocka_unit_test(layers_refuse),
        cmocka_unit_test(any_options_give_a_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
