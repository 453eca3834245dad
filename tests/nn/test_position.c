/* Rotary positions, ALiBi, grouped queries: published values, the properties that define them, and what they stand for written out. */
#include "check.h"
#include "folder.h"

#include <math.h>

/* ---- rotary positions ----------------------------------------------------------------------------- */

/* Position 1 of 4 features: angles 1 and 1 / 100. */
static void rope_turns_by_the_published_angles(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) { /* neighbours, and halves */
        FDL_SCOPE;
        fdl_module *m = fdl_nn_rope(4, .interleaved = k == 0);
        double got[8], a = 0.5403023, b = 0.8414710, c = 0.9999500, d = 0.0099998;
        fdl_tensor *x = k == 0 ? fdl_reshape(fdl_vec(1, 0, 1, 0, 1, 0, 1, 0), FDL_SHAPE(2, 4))
                               : fdl_reshape(fdl_vec(1, 1, 0, 0, 1, 1, 0, 0), FDL_SHAPE(2, 4));
        const double want[2][8] = {{1, 0, 1, 0, a, b, c, d}, {1, 1, 0, 0, a, c, b, d}};
        check_ok(fdl_to_f64(fdl_forward(m, x), got, 8));
        for (int i = 0; i < 8; i++)
            check_number(got[i], want[k][i], 1e-6);
        check_ok(fdl_module_free(m));
    }
}

static void rope_keeps_lengths_and_depends_on_distance(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rope(8, .base = 500);
    fdl_tensor *q = fdl_randn(FDL_SHAPE(2, 3, 5, 8), .dtype = FDL_FLOAT64),
               *k = fdl_randn(FDL_SHAPE(2, 3, 5, 8), .dtype = FDL_FLOAT64);
    fdl_tensor *y = fdl_forward(m, q);
    fdl_tensor *squares = fdl_sum_dim(fdl_square(q), -1), *after = fdl_sum_dim(fdl_square(y), -1);
    assert_true(fdl_allclose(squares, after, .rtol = 1e-12));
    assert_true(fdl_same(fdl_narrow(y, 2, 0, 1), fdl_narrow(q, 2, 0, 1))); /* position 0 */
    /* Scores of one query and key are the same wherever they stand, as long as they are as far apart. */
    fdl_tensor *scores = fdl_matmul(y, fdl_mT(fdl_forward(m, k)));
    fdl_tensor *shifted = fdl_matmul(fdl_nn_rope_forward(m, q, .offset = 1000),
                                     fdl_mT(fdl_nn_rope_forward(m, k, .offset = 1000)));
    assert_true(fdl_allclose(scores, shifted, .rtol = 1e-9, .atol = 1e-9));
    fdl_tensor *further = fdl_matmul(fdl_nn_rope_forward(m, q, .offset = 1), fdl_mT(fdl_forward(m, k)));
    assert_false(fdl_allclose(scores, further, .atol = 1e-3));
    check_ok(fdl_module_free(m));
}

static void rope_by_table_by_offset_and_by_positions(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *table = fdl_nn_rope(6, .max_len = 9, .interleaved = true),
               *m = fdl_nn_rope(6, .interleaved = true);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 9, 6)), *whole = fdl_forward(m, x);
    assert_true(fdl_allclose(fdl_forward(table, x), whole, .atol = 1e-6));
    fdl_tensor *wide = fdl_double(x); /* whose angles the table, in float32, isn't good enough for */
    assert_true(fdl_allclose(fdl_forward(table, wide), fdl_forward(m, wide), .rtol = 1e-12, .atol = 1e-12));
    fdl_tensor *rows = fdl_narrow(x, 1, 4, 5), *want = fdl_narrow(whole, 1, 4, 5);
    assert_true(fdl_allclose(fdl_nn_rope_forward(table, rows, .offset = 4), want, .atol = 1e-6));
    assert_true(fdl_allclose(fdl_nn_rope_forward(m, rows, .offset = 4), want, .atol = 1e-6));
    fdl_tensor *places = fdl_long(fdl_vec(4, 5, 6, 7, 8));
    assert_true(fdl_allclose(fdl_forward(table, rows, places), want, .atol = 1e-6));
    /* Each sample from a position of its own, as with padding on the left. */
    fdl_tensor *own = fdl_reshape(fdl_vec(0, 1, 2, 3, 4, 2, 3, 4, 5, 6), FDL_SHAPE(2, 5));
    fdl_tensor *y = fdl_nn_rope_forward(m, rows, .positions = own);
    assert_true(fdl_allclose(fdl_select(y, 0, 1), fdl_nn_rope_forward(m, fdl_select(rows, 0, 1), .offset = 2),
                             .atol = 1e-6));
    /* The table isn't rounded with the module, and comes along. */
    check_ok(fdl_module_to(table, FDL_CPU, .dtype = FDL_BFLOAT16));
    check_ok(fdl_module_to(table, fdl_default_device(), .dtype = FDL_FLOAT32));
    assert_true(fdl_allclose(fdl_forward(table, x), whole, .atol = 1e-6));
    fdl_tensor *half = fdl_forward(table, fdl_to_dtype(x, FDL_BFLOAT16));
    assert_int_equal(fdl_dtype_of(half), FDL_BFLOAT16);
    assert_true(fdl_allclose(fdl_float(half), whole, .rtol = 0.02, .atol = 0.02));
    /* Angles of far positions are exact to float32: 100003 in float32 sines would be off by 0.004. */
    fdl_tensor *one = fdl_reshape(fdl_vec(1, 0), FDL_SHAPE(1, 2));
    check_number(fdl_item(fdl_select(fdl_rope(one, .offset = 100003), 1, 0)), cos(100003), 1e-6);
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(table));
}

static void rope_refuses(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rope(4, .max_len = 3), *relu = fdl_nn_relu();
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 4));
    assert_null(fdl_nn_rope(5));
    check_error(FDL_E_ARG, "head_dim is 5", "even");
    assert_null(fdl_nn_rope(0));
    check_error(FDL_E_ARG, "head_dim is 0");
    assert_null(fdl_nn_rope(4, .base = -2));
    check_error(FDL_E_ARG, "base is -2");
    assert_null(fdl_nn_rope(4, .max_len = -1));
    check_error(FDL_E_ARG, "max_len is -1");
    assert_null(fdl_forward(m, fdl_randn(FDL_SHAPE(2, 6))));
    check_error(FDL_E_SHAPE, "[2, 6]", "[*, L, 4]");
    assert_null(fdl_forward(m, fdl_randn(FDL_SHAPE(4, 4))));
    check_error(FDL_E_RANGE, "positions 0 to 3", "max_len is 3");
    assert_null(fdl_nn_rope_forward(m, x, .offset = 2));
    check_error(FDL_E_RANGE, "positions 2 to 3");
    assert_null(fdl_nn_rope_forward(m, x, .offset = -1));
    check_error(FDL_E_RANGE, "positions -1");
    assert_null(fdl_forward(m, x, x, x));
    check_error(FDL_E_ARG, "one input too many");
    assert_null(fdl_nn_rope_forward(relu, x));
    check_error(FDL_E_ARG, "m is a relu");
    assert_null(fdl_nn_rope_forward(m, NULL));
    check_error(FDL_E_NULL, "x");
    assert_null(fdl_nn_multihead_attention(6, 2, .rope = true));
    check_error(FDL_E_ARG, "rope", "dim 6", "odd");
    assert_null(fdl_nn_multihead_attention(8, 2, .rope_base = 100));
    check_error(FDL_E_ARG, ".rope_base", ".rope = true");
    assert_null(fdl_nn_multihead_attention(8, 2, .rope = true, .rope_base = FDL_ZERO));
    check_error(FDL_E_ARG, "rope_base is 0");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(relu));
}

/* ---- ALiBi ---------------------------------------------------------------------------------------- */

/* The slopes that its authors give: 8 heads, 16 heads, and 12, which takes every second one of 16. */
static void alibi_has_the_published_slopes(void **state)
{
    (void)state;
    FDL_SCOPE;
    double got[16];
    check_ok(fdl_to_f64(fdl_alibi_slopes(8), got, 8));
    for (int i = 0; i < 8; i++)
        check_number(got[i], 1.0 / (double)(2 << i), 1e-9);
    check_ok(fdl_to_f64(fdl_alibi_slopes(16, .dtype = FDL_FLOAT64), got, 16));
    for (int i = 0; i < 16; i++)
        check_number(got[i], pow(2, -0.5 * (i + 1)), 1e-12);
    static const double twelve[] = {0.5,       0.25,       0.125,      0.0625,     0.03125,   0.015625,
                                    0.0078125, 0.00390625, 0.70710678, 0.35355339, 0.1767767, 0.08838835};
    check_ok(fdl_to_f64(fdl_alibi_slopes(12), got, 12));
    for (int i = 0; i < 12; i++)
        check_number(got[i], twelve[i], 1e-7);
    check_ok(fdl_to_f64(fdl_alibi_slopes(1), got, 1));
    check_number(got[0], 1.0 / 256, 1e-9);
}

static void alibi_adds_slope_times_distance(void **state)
{
    (void)state;
    FDL_SCOPE;
    double got[16];
    check_ok(fdl_to_f64(fdl_alibi(2, 4, .queries = 2), got, 16));
    static const double want[] = {-2, -1, 0, -1, -3, -2, -1, 0};
    for (int i = 0; i < 8; i++) {
        check_number(got[i], want[i] / 16, 1e-9);
        check_number(got[8 + i], want[i] / 256, 1e-9);
    }
    fdl_module *m = fdl_nn_alibi(2),
               *attention = fdl_nn_multihead_attention(8, 2, .alibi = true, .causal = true),
               *plain = fdl_nn_multihead_attention(8, 2, .causal = true);
    fdl_tensor *scores = fdl_randn(FDL_SHAPE(3, 2, 2, 4));
    assert_true(
        fdl_allclose(fdl_forward(m, scores), fdl_add(scores, fdl_alibi(2, 4, .queries = 2)), .atol = 1e-6));
    assert_null(fdl_forward(m, fdl_randn(FDL_SHAPE(3, 2, 4))));
    check_error(FDL_E_SHAPE, "[3, 2, 4]", "[*, 2, L, S]");
    assert_null(fdl_forward(m, fdl_randn(FDL_SHAPE(2, 4, 3))));
    check_error(FDL_E_SHAPE, "L at most S");
    assert_null(fdl_nn_alibi(0));
    check_error(FDL_E_ARG, "heads is 0");
    /* In an attention it is a mask, which joins others. */
    fdl_params *to = fdl_parameters(plain), *from = fdl_parameters(attention);
    for (int i = 0; i < fdl_params_count(to); i++)
        check_ok(fdl_param_set(fdl_params_at(to, i), fdl_param_tensor(fdl_params_at(from, i))));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 3, 8)), *number = fdl_randn(FDL_SHAPE(4, 4)), *w, *v;
    fdl_tensor *a = fdl_nn_mha_forward(attention, x, x, x, .attn_mask = number, .weights = &w),
               *b = fdl_nn_mha_forward(plain, x, x, x,
                                       .attn_mask = fdl_unsqueeze(fdl_add(number, fdl_alibi(2, 4)), 0),
                                       .weights = &v);
    assert_true(fdl_allclose(a, b, .atol = 1e-6));
    assert_true(fdl_allclose(w, v, .atol = 1e-6));
    assert_false(fdl_allclose(a, fdl_nn_mha_forward(plain, x, x, x, .attn_mask = number), .atol = 1e-4));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(attention));
    check_ok(fdl_module_free(plain));
}

static void the_square_mask_is_a_triangle(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *number = fdl_square_subsequent_mask(3),
               *mask = fdl_square_subsequent_mask(3, .dtype = FDL_BOOL);
    double got[9];
    check_ok(fdl_to_f64(number, got, 9));
    for (int i = 0; i < 9; i++)
        assert_true(i % 3 > i / 3 ? isinf(got[i]) && got[i] < 0 : got[i] == 0);
    assert_true(fdl_same(mask, fdl_triu(fdl_ones(FDL_SHAPE(3, 3), .dtype = FDL_BOOL), .diagonal = 1)));
    fdl_module *m = fdl_nn_multihead_attention(4, 2);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(3, 2, 4)), *causal = fdl_nn_mha_forward(m, x, x, x, .causal = true);
    assert_true(fdl_allclose(fdl_nn_mha_forward(m, x, x, x, .attn_mask = number), causal, .atol = 1e-6));
    assert_true(fdl_allclose(fdl_nn_mha_forward(m, x, x, x, .attn_mask = mask), causal, .atol = 1e-6));
    check_ok(fdl_module_free(m));
}

/* ---- fewer heads of keys -------------------------------------------------------------------------- */

static fdl_tensor *own(fdl_module *m, const char *name)
{
    return fdl_param_tensor(fdl_module_own_param(m, name));
}

/* Rows of each head as often as there are queries for it. */
static fdl_tensor *repeated(fdl_tensor *w, int64_t heads, int64_t times)
{
    fdl_tensor *each = fdl_unflatten(w, 0, FDL_SHAPE(heads, -1));
    return fdl_flatten(fdl_repeat_interleave(each, times, 0), 0, 1);
}

/* It is the attention whose keys and values are those of kv_heads, repeated. */
static void grouped_queries_are_repeated_keys(void **state)
{
    (void)state;
    static const int64_t heads_of_keys[] = {1, 2, 4};
    for (int i = 0; i < 3; i++) {
        FDL_SCOPE;
        int64_t n = heads_of_keys[i];
        fdl_module *grouped = fdl_nn_multihead_attention(8, 4, .kv_heads = n, .rope = i == 1),
                   *packed = fdl_nn_multihead_attention(8, 4, .rope = i == 1);
        check_some(grouped);
        fdl_tensor *w[3], *b[3];
        static const char *const weights[] = {"q_proj_weight", "k_proj_weight", "v_proj_weight"};
        static const char *const biases[] = {"q_proj_bias", "k_proj_bias", "v_proj_bias"};
        for (int k = 0; k < 3; k++) {
            check_ok(fdl_init_normal(own(grouped, biases[k]), 0, 1));
            assert_int_equal(fdl_size(own(grouped, weights[k]), 0), k ? 2 * n : 8);
            w[k] = k ? repeated(own(grouped, weights[k]), n, 4 / n) : own(grouped, weights[k]);
            b[k] = k ? repeated(own(grouped, biases[k]), n, 4 / n) : own(grouped, biases[k]);
        }
        check_ok(fdl_param_set(fdl_module_own_param(packed, "in_proj_weight"), fdl_cat((fdl_list){3, w}, 0)));
        check_ok(fdl_param_set(fdl_module_own_param(packed, "in_proj_bias"), fdl_cat((fdl_list){3, b}, 0)));
        fdl_module *outs[] = {fdl_module_child_at(packed, 0, NULL), fdl_module_child_at(grouped, 0, NULL)};
        check_ok(fdl_param_set(fdl_module_own_param(outs[0], "weight"), own(outs[1], "weight")));
        fdl_tensor *x = fdl_randn(FDL_SHAPE(5, 2, 8)), *y = fdl_randn(FDL_SHAPE(3, 2, 8)), *s, *t;
        fdl_tensor *padding = fdl_bool(fdl_reshape(fdl_vec(0, 0, 1, 0, 0, 0), FDL_SHAPE(2, 3)));
        assert_true(fdl_allclose(fdl_forward(grouped, x), fdl_forward(packed, x), .atol = 2e-6));
        assert_true(fdl_allclose(fdl_forward(grouped, x, y), fdl_forward(packed, x, y), .atol = 2e-6));
        fdl_tensor *one = fdl_nn_mha_forward(grouped, x, y, y, .key_padding_mask = padding, .weights = &s,
                                             .per_head = true);
        fdl_tensor *other =
            fdl_nn_mha_forward(packed, x, y, y, .key_padding_mask = padding, .weights = &t, .per_head = true);
        assert_true(fdl_allclose(one, other, .atol = 2e-6));
        assert_true(fdl_allclose(s, t, .atol = 2e-6));
        assert_int_equal(fdl_size(s, 1), 4);
        check_ok(fdl_module_free(grouped));
        check_ok(fdl_module_free(packed));
    }
}

static void grouped_queries_with_other_options(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_multihead_attention(8, 4, .kv_heads = 2, .kdim = 3, .vdim = 5, .add_bias_kv = true,
                                               .no_bias = true);
    check_some(m);
    assert_true(fdl_shape_eq(fdl_shape_of(own(m, "k_proj_weight")), FDL_SHAPE(4, 3)));
    assert_true(fdl_shape_eq(fdl_shape_of(own(m, "v_proj_weight")), FDL_SHAPE(4, 5)));
    assert_true(fdl_shape_eq(fdl_shape_of(own(m, "bias_k")), FDL_SHAPE(1, 1, 4)));
    assert_int_equal(fdl_params_count(fdl_parameters(m)), 6);
    fdl_tensor *w;
    fdl_tensor *y = fdl_nn_mha_forward(m, fdl_randn(FDL_SHAPE(2, 1, 8)), fdl_randn(FDL_SHAPE(3, 1, 3)),
                                       fdl_randn(FDL_SHAPE(3, 1, 5)), .weights = &w);
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 1, 8)));
    assert_true(fdl_shape_eq(fdl_shape_of(w), FDL_SHAPE(1, 2, 4)));
    check_ok(fdl_module_free(m));
    assert_null(fdl_nn_multihead_attention(8, 4, .kv_heads = 3));
    check_error(FDL_E_ARG, "heads 4", "kv_heads 3");
    assert_null(fdl_nn_multihead_attention(8, 4, .kv_heads = -1));
    check_error(FDL_E_ARG, "kv_heads is -1");
}

static fdl_tensor *no_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return x;
}

/* A checkpoint of Llama's kind: linear maps apart, fewer rows of keys; against the three maps by hand. */
static void split_projections_load_by_a_rename(void **state)
{
    (void)state;
    static const fdl_module_ops box = {.kind = "box", .forward = no_forward};
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_module *parts = fdl_module_new(&box), *in[3];
    static const char *const names[] = {"q_proj", "k_proj", "v_proj"};
    for (int i = 0; i < 3; i++)
        in[i] = fdl_module_child(parts, names[i], fdl_nn_linear(8, i ? 4 : 8));
    fdl_module *out = fdl_module_child(parts, "out_proj", fdl_nn_linear(8, 8));
    check_some(fdl_module_done(parts));
    const char *path = path_of("parts.safetensors");
    check_ok(fdl_ckpt_save(parts, path));
    fdl_module *m = fdl_nn_multihead_attention(8, 4, .kv_heads = 2, .batch_first = true);
    check_ok(fdl_ckpt_load(m, path,
                           .rename = FDL_RENAMES({"*q_proj.*", "*q_proj_*"}, {"*k_proj.*", "*k_proj_*"},
                                                 {"*v_proj.*", "*v_proj_*"})));
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 8)), *h[3];
    for (int i = 0; i < 3; i++)
        h[i] = fdl_transpose(fdl_unflatten(fdl_forward(in[i], x), -1, FDL_SHAPE(-1, 2)), 1, 2);
    fdl_tensor *y = fdl_scaled_dot_product_attention(h[0], h[1], h[2], .gqa = true);
    y = fdl_forward(out, fdl_flatten(fdl_transpose(y, 1, 2), 2, 3));
    assert_true(fdl_allclose(fdl_forward(m, x), y, .rtol = 1e-4, .atol = 1e-6));
    check_ok(fdl_module_free(parts));
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rope_turns_by_the_published_angles),
        cmocka_unit_test(rope_keeps_lengths_and_depends_on_distance),
        cmocka_unit_test(rope_by_table_by_offset_and_by_positions),
        cmocka_unit_test(rope_refuses),
        cmocka_unit_test(alibi_has_the_published_slopes),
        cmocka_unit_test(alibi_adds_slope_times_distance),
        cmocka_unit_test(the_square_mask_is_a_triangle),
        cmocka_unit_test(grouped_queries_are_repeated_keys),
        cmocka_unit_test(grouped_queries_with_other_options),
        cmocka_unit_test(split_projections_load_by_a_rename),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
