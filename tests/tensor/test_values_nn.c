/* What networks are made of, at values that are known without a computer: convolutions, pooling, resampling, norms, attention,
 * embeddings, dropout, cells; then what changes tensors in place, one by one and as lists. */
#include "values.h"

static fdl_tensor *counted(double from, fdl_shape shape)
{
    return fdl_reshape(fdl_arange(from, from + (double)fdl_shape_numel(shape), 1), shape);
}

/* ---- convolutions ------------------------------------------------------------------------------------------------- */

static void conv2d_extents_and_channels(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 1, 5, 5)), *w = fdl_ones(FDL_SHAPE(1, 1, 3, 3));
    fdl_tensor *y = fdl_conv2d(x, w), *padded = fdl_conv2d(x, w, .padding = 1);
    check_shape(y, 1, 1, 3, 3);
    check_values(y, 9, 9, 9, 9, 9, 9, 9, 9, 9);
    check_shape(padded, 1, 1, 5, 5);
    check_values(fdl_select(fdl_select(padded, 2, 0), 2, 0), 4);
    /* two groups: each of the two results sees one channel */
    fdl_tensor *two = fdl_cat(FDL_LIST(x, fdl_mul(x, 10)), 1), *each = fdl_ones(FDL_SHAPE(2, 1, 5, 5));
    check_values(fdl_conv2d(two, each, .groups = 2), 25, 250);
    fdl_tensor *rgb = fdl_zeros(FDL_SHAPE(1, 3, 8, 8)), *of_four = fdl_zeros(FDL_SHAPE(16, 4, 3, 3));
    check_refused(fdl_conv2d(rgb, of_four), FDL_E_SHAPE, "weight [16, 4, 3, 3]", "4 input channels", "got 3");
}

static void conv1d_conv3d_and_no_batch(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 1, 100)), *w = fdl_ones(FDL_SHAPE(1, 1, 5));
    fdl_tensor *y = fdl_conv1d(x, w, .stride = 2, .padding = 2);
    check_shape(y, 1, 1, 50);
    check_values(fdl_narrow(y, 2, 0, 2), 3, 5);
    check_values(fdl_conv3d(fdl_ones(FDL_SHAPE(1, 2, 2, 2, 2)), fdl_ones(FDL_SHAPE(1, 2, 2, 2, 2))), 16);
    fdl_tensor *none = fdl_conv2d(fdl_zeros(FDL_SHAPE(0, 1, 5, 5)), fdl_ones(FDL_SHAPE(2, 1, 3, 3)));
    check_shape(none, 0, 2, 3, 3);
}

static void conv_transpose_grows(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_ones(FDL_SHAPE(1, 1, 3, 3)), *w = fdl_ones(FDL_SHAPE(1, 1, 3, 3));
    fdl_tensor *y = fdl_conv_transpose2d(x, w);
    check_shape(y, 1, 1, 5, 5);
    check_values(fdl_select(y, 2, 2), 3, 6, 9, 6, 3);
    check_refused(fdl_conv_transpose2d(x, w, .stride = 2, .output_padding = 2), FDL_E_ARG, "output_padding");
}

/* ---- pooling and resampling ---------------------------------------------------------------------------------------- */

static void pooling(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = counted(1, FDL_SHAPE(1, 1, 4, 4)), *where = NULL;
    check_values(fdl_max_pool2d(x, 2, .indices = &where), 6, 8, 14, 16);
    check_values(where, 5, 7, 13, 15);
    check_values(fdl_avg_pool2d(x, 2), 3.5, 5.5, 11.5, 13.5);
    assert_null(fdl_max_pool2d(x, 2, .padding = 2));
    check_error(FDL_E_ARG, "fdl_max_pool2d", "pad");
}

static void adaptive_pooling(void **state)
{
    (void)state;
    FDL_SCOPE;
    /* of 8 places the three windows are 0 to 2, 2 to 5 and 5 to 7 */
    fdl_tensor *x = counted(0, FDL_SHAPE(1, 1, 8, 8)), *where = NULL;
    check_values(fdl_adaptive_avg_pool2d(x, FDL_DIMS(3, 3)), 9, 11.5, 14, 29, 31.5, 34, 49, 51.5, 54);
    fdl_tensor *rows = fdl_adaptive_avg_pool2d(x, FDL_DIMS(0, 1));
    check_shape(rows, 1, 1, 8, 1);
    check_values(rows, 3.5, 11.5, 19.5, 27.5, 35.5, 43.5, 51.5, 59.5);
    check_values(fdl_adaptive_max_pool2d(x, FDL_DIMS(3, 3), .indices = &where), 18, 21, 23, 42, 45, 47, 58,
                 61, 63);
    check_values(where, 18, 21, 23, 42, 45, 47, 58, 61, 63);
    assert_int_equal(fdl_dtype_of(where), FDL_INT64);
}

static void interpolation(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = counted(1, FDL_SHAPE(1, 1, 2, 2)), *cube = counted(0, FDL_SHAPE(1, 1, 2, 2, 2));
    check_values(fdl_interpolate(x, .scale = 2), 1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4);
    check_values(
        fdl_interpolate(x, .size = FDL_DIMS(3, 3), .mode = FDL_INTERPOLATE_BILINEAR, .align_corners = true),
        1, 1.5, 2, 2, 2.5, 3, 3, 3.5, 4);
    fdl_tensor *y = fdl_interpolate(x, .scale = 2, .mode = FDL_INTERPOLATE_BILINEAR);
    check_values(fdl_select(y, 2, 0), 1, 1.25, 1.75, 2);
    check_values(fdl_select(y, 2, 1), 1.5, 1.75, 2.25, 2.5);
    /* cubic with a = -3/4 half way between places: (-3, 19, 19, -3) / 32, the border repeated */
    fdl_tensor *ramp = counted(0, FDL_SHAPE(1, 1, 4, 4));
    check_values(fdl_interpolate(ramp, .size = FDL_DIMS(2, 2), .mode = FDL_INTERPOLATE_BICUBIC), 2.03125,
                 4.21875, 10.78125, 12.96875);
    y = fdl_interpolate(cube, .size = FDL_DIMS(3), .mode = FDL_INTERPOLATE_TRILINEAR, .align_corners = true);
    check_shape(y, 1, 1, 3, 3, 3);
    check_values(fdl_select(fdl_select(fdl_select(y, 2, 1), 2, 1), 2, 1), 3.5);
    check_values(fdl_select(fdl_select(fdl_select(y, 2, 2), 2, 2), 2, 2), 7);
    check_refused(fdl_interpolate(x, .scale = 2, .mode = FDL_INTERPOLATE_TRILINEAR), FDL_E_SHAPE,
                  "fdl_interpolate");
    check_refused(fdl_interpolate(cube, .scale = 2, .mode = FDL_INTERPOLATE_BILINEAR), FDL_E_SHAPE,
                  "fdl_interpolate");
    check_refused(fdl_interpolate(x, .scale = 2, .size = FDL_DIMS(4)), FDL_E_ARG, ".size", ".scale");
}

static void channels_become_places(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = counted(0, FDL_SHAPE(1, 4, 2, 2)), *y = fdl_pixel_shuffle(x, 2);
    check_shape(y, 1, 1, 4, 4);
    check_values(fdl_select(y, 2, 0), 0, 4, 1, 5);
    check_values(fdl_select(y, 2, 1), 8, 12, 9, 13);
    assert_true(fdl_same(fdl_pixel_unshuffle(y, 2), x));
    assert_null(fdl_pixel_shuffle(counted(0, FDL_SHAPE(1, 3, 2, 2)), 2));
    check_error(FDL_E_SHAPE, "fdl_pixel_shuffle", "divisible");
}

static void unfold_and_fold(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = counted(0, FDL_SHAPE(1, 1, 4, 4)), *blocks = fdl_unfold(x, 2, .stride = 2);
    check_shape(fdl_unfold(x, 2), 1, 4, 9);
    check_shape(blocks, 1, 4, 4);
    check_values(fdl_select(blocks, 2, 0), 0, 1, 4, 5);
    assert_true(fdl_same(fdl_fold(blocks, FDL_DIMS(4, 4), 2, .stride = 2), x));
}

static void grid_sample_at_the_places_themselves(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = counted(0, FDL_SHAPE(1, 2, 3, 4)), *theta = F32(FDL_SHAPE(1, 2, 3), 1, 0, 0, 0, 1, 0);
    for (int corners = 0; corners < 2; corners++) {
        fdl_tensor *grid = fdl_affine_grid(theta, FDL_SHAPE(1, 2, 3, 4), .align_corners = corners);
        assert_true(fdl_allclose(fdl_grid_sample(x, grid, .align_corners = corners), x, .atol = 1e-5));
    }
}

/* ---- norms, attention, embeddings, dropout, cells ---------------------------------------------------------------------- */

static void layer_norm_and_rms_norm(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_vec(1, 2, 3, 4);
    check_values(fdl_layer_norm(x, FDL_SHAPE(4), .eps = 1e-12), -1.3416408, -0.4472136, 0.4472136, 1.3416408);
    check_values(fdl_rms_norm(x, FDL_SHAPE(4)), 0.3651484, 0.7302967, 1.0954451, 1.4605935);
}

static void attention(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *q = F32(FDL_SHAPE(1, 1, 1, 2), 1, 0), *k = F32(FDL_SHAPE(1, 1, 2, 2), 1, 0, 0, 1);
    fdl_tensor *v = F32(FDL_SHAPE(1, 1, 2, 2), 1, 2, 3, 4);
    check_values(fdl_scaled_dot_product_attention(q, k, v), 1.660477, 2.660477);
    fdl_tensor *first = B(FDL_SHAPE(1, 1, 1, 2), true, false);
    check_values(fdl_scaled_dot_product_attention(q, k, v, .mask = first), 1, 2); /* true takes part */
    {
        FDL_SDPA(FDL_SDPA_MATH);
        check_values(fdl_scaled_dot_product_attention(q, k, v), 1.660477, 2.660477);
    }
    assert_int_equal(fdl_sdpa_open(0), 0);
    check_error(FDL_E_ARG, "no kernel");
    check_refused(fdl_scaled_dot_product_attention(q, k, v, .mask = first, .causal = true), FDL_E_ARG,
                  ".causal");

    fdl_tensor *a = fdl_randn(FDL_SHAPE(2, 3, 5, 8)), *b = fdl_randn(FDL_SHAPE(2, 3, 7, 8));
    fdl_tensor *c = fdl_randn(FDL_SHAPE(2, 3, 7, 4));
    fdl_tensor *plain = fdl_matmul(fdl_softmax(fdl_div(fdl_matmul(a, fdl_mT(b)), sqrt(8)), -1), c);
    assert_true(fdl_allclose(fdl_scaled_dot_product_attention(a, b, c), plain, .rtol = 1e-4, .atol = 1e-4));
}

static void embeddings(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = counted(0, FDL_SHAPE(4, 2)), *idx = I64(FDL_SHAPE(2, 3), 0, 1, 2, 3, 0, 1);
    check_shape(fdl_embedding(w, idx), 2, 3, 2);
    check_values(fdl_embedding(w, fdl_ivec(3, 0)), 6, 7, 0, 1);
    /* bags {0, 2}, {} and {1} */
    fdl_tensor *in = fdl_ivec(0, 2, 1), *offsets = fdl_ivec(0, 2, 2);
    check_values(fdl_embedding_bag(w, in, offsets, .mode = FDL_BAG_SUM), 4, 6, 0, 0, 2, 3);
    check_values(fdl_embedding_bag(w, in, offsets), 2, 3, 0, 0, 2, 3);
    check_values(fdl_embedding_bag(w, in, offsets, .mode = FDL_BAG_MAX), 4, 5, 0, 0, 2, 3);
    /* an index outside ends a CUDA context: on the CPU only */
    fdl_tensor *table = fdl_cpu(w), *outside = fdl_cpu(fdl_ivec(4));
    check_refused(fdl_embedding(table, outside), FDL_E_RANGE, "fdl_embedding");
}

static void dropout(void **state)
{
    (void)state;
    FDL_SCOPE;
    check_ok(fdl_manual_seed(4));
    fdl_tensor *x = fdl_ones(FDL_SHAPE(10000)), *y = fdl_dropout(x, 0.5, .training = true);
    fdl_tensor *kept = fdl_ne(y, 0);
    assert_true(fdl_same(y, fdl_mul(fdl_float(kept), 2)));
    double ratio = fdl_item(fdl_mean(kept));
    assert_true(ratio > 0.45 && ratio < 0.55);
    check_refused(fdl_dropout(x, 1.5, .training = true), FDL_E_ARG, "from 0 to 1");
    assert_true(fdl_is(fdl_dropout(x, 0.5), x)); /* not training: x itself */
    fdl_tensor *maps = fdl_feature_dropout(fdl_ones(FDL_SHAPE(50, 8, 3, 3)), 0.5, .training = true);
    fdl_tensor *least = fdl_amin(maps, FDL_DIMS(2, 3)), *most = fdl_amax(maps, FDL_DIMS(2, 3));
    assert_true(fdl_same(least, most)); /* a channel is dropped or kept as a whole */
    double zeros = fdl_item(fdl_mean(fdl_eq(least, 0)));
    assert_true(zeros > 0.3 && zeros < 0.7);
}

static void recurrent_cells(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(1, 1), 1), *h = F32(FDL_SHAPE(1, 1), 0.2), *c = F32(FDL_SHAPE(1, 1), 0.3),
               *c_out = NULL;
    fdl_tensor *w3 = fdl_full(FDL_SHAPE(3, 1), 0.5), *w4 = fdl_full(FDL_SHAPE(4, 1), 0.5);
    check_values(fdl_gru_cell(x, h, w3, w3), 0.3103274);
    check_values(fdl_lstm_cell(x, h, c, w4, w4, .c_out = &c_out), 0.3185189);
    check_values(c_out, 0.5404463);
}

/* ---- in place --------------------------------------------------------------------------------------------------------------- */

static void in_place_arithmetic_and_copies(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = F32(FDL_SHAPE(2, 2), 1, 2, 3, 4), *row = fdl_vec(10, 20);
    check_ok(fdl_mul_(x, row));
    check_values(x, 10, 40, 30, 80);
    check_ok(fdl_div_(x, row));
    check_values(x, 1, 2, 3, 4);
    check_ok(fdl_add_(x, row, .alpha = 0.5));
    check_values(x, 6, 12, 8, 14);
    check_ok(fdl_fill_(x, 7));
    check_values(x, 7, 7, 7, 7);
    check_ok(fdl_zero_(x));
    check_values(x, 0, 0, 0, 0);
    check_ok(fdl_copy_(x, fdl_ivec(3, 4))); /* another dtype, broadcast */
    check_values(x, 3, 4, 3, 4);
    assert_int_equal(fdl_dtype_of(x), FDL_FLOAT32);
    check_ok(
        fdl_copy_(x, fdl_to(row, .device = FDL_CPU, .dtype = FDL_FLOAT64))); /* from the CPU, wherever x is */
    check_values(x, 10, 20, 10, 20);
    fdl_tensor *here = fdl_zeros(FDL_SHAPE(2), .device = FDL_CPU);
    check_ok(fdl_copy_(here, row)); /* and to it */
    check_values(here, 10, 20);
}

static void a_leaf_changes_in_no_grad_only(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(2), .requires_grad = true);
    check_status(fdl_mul_scalar_(w, 3), FDL_E_STATE, "fdl_mul_scalar_", "put FDL_NO_GRAD; before it");
    check_values(w, 1, 1);
    FDL_NO_GRAD;
    check_ok(fdl_mul_scalar_(w, 3));
    check_values(w, 3, 3);
}

static void a_saved_tensor_that_changed_fails_the_backward(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *w = fdl_ones(FDL_SHAPE(2), .requires_grad = true), *y = fdl_exp(w); /* its derivative is y */
    fdl_tensor *loss = fdl_sum(y);
    check_ok(fdl_add_scalar_(y, 1));
    check_status(fdl_backward(loss), FDL_E_STATE, "modified by an inplace operation");
}

/* ---- lists ------------------------------------------------------------------------------------------------------------------- */

static void lists_at_once(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *a = fdl_vec(1, 4), *b = F32(FDL_SHAPE(1, 1), 9), *c = fdl_vec(10, 20),
               *d = F32(FDL_SHAPE(1, 1), 30);
    fdl_list x = FDL_LIST(a, b), y = FDL_LIST(c, d), none = {0, x.at}, norms;
    check_ok(fdl_foreach_sqrt_(x));
    check_values(a, 1, 2);
    check_values(b, 3);
    check_ok(fdl_foreach_add_scalar_(x, 1));
    check_values(a, 2, 3);
    check_ok(fdl_foreach_mul_scalar_(x, 2));
    check_values(a, 4, 6);
    check_values(b, 8);
    check_ok(fdl_foreach_lerp_(x, y, 0.5));
    check_values(a, 7, 13);
    check_values(b, 19);
    check_ok(fdl_foreach_add_(x, y, .alpha = 2));
    check_values(a, 27, 53);
    check_values(b, 79);
    check_ok(fdl_foreach_zero_(x));
    check_values(a, 0, 0);
    check_values(b, 0);
    norms = fdl_foreach_norm(FDL_LIST(fdl_vec(3, 4), fdl_vec(-2)));
    assert_int_equal(norms.n, 2);
    check_scalar(norms.at[0]);
    check_values(norms.at[0], 5);
    check_values(norms.at[1], 2);

    check_ok(fdl_foreach_add_scalar_(none, 1));
    check_ok(fdl_foreach_mul_scalar_(none, 1));
    check_ok(fdl_foreach_zero_(none));
    check_ok(fdl_foreach_sqrt_(none));
    check_ok(fdl_foreach_add_(none, none));
    check_ok(fdl_foreach_lerp_(none, none, 0.5));
    norms = fdl_foreach_norm(none);
    assert_true(norms.n == 0 && norms.at);
    check_status(fdl_foreach_add_(x, FDL_LIST(c)), FDL_E_ARG, "2", "1");
    check_status(fdl_foreach_lerp_(FDL_LIST(a), y, 0.5), FDL_E_ARG, "1", "2");
}

enum { MANY = 1000 };

/* A thousand tensors of different shapes. */
static fdl_list many(double scale)
{
    fdl_list list = {MANY, fdl_scope_alloc(MANY * sizeof *list.at)};
    for (int i = 0; i < MANY; i++)
        list.at[i] = fdl_mul(counted(i, FDL_SHAPE(1 + i % 7, 1 + i % 5)), scale);
    return list;
}

static void a_thousand_tensors_as_one_by_one(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_list a = many(1), b = many(0.25), one = many(1);
    check_ok(fdl_foreach_mul_scalar_(a, 0.5));
    check_ok(fdl_foreach_add_(a, b, .alpha = 2));
    check_ok(fdl_foreach_lerp_(a, b, 0.25));
    for (int i = 0; i < MANY; i++) {
        check_ok(fdl_mul_scalar_(one.at[i], 0.5));
        check_ok(fdl_add_(one.at[i], b.at[i], .alpha = 2));
        check_ok(fdl_lerp_(one.at[i], b.at[i], 0.25));
        assert_true(fdl_allclose(a.at[i], one.at[i], .rtol = 1e-6));
    }
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv2d_extents_and_channels),
        cmocka_unit_test(conv1d_conv3d_and_no_batch),
        cmocka_unit_test(conv_transpose_grows),
        cmocka_unit_test(pooling),
        cmocka_unit_test(adaptive_pooling),
        cmocka_unit_test(interpolation),
        cmocka_unit_test(channels_become_places),
        cmocka_unit_test(unfold_and_fold),
        cmocka_unit_test(grid_sample_at_the_places_themselves),
        cmocka_unit_test(layer_norm_and_rms_norm),
        cmocka_unit_test(attention),
        cmocka_unit_test(embeddings),
        cmocka_unit_test(dropout),
        cmocka_unit_test(recurrent_cells),
        cmocka_unit_test(in_place_arithmetic_and_copies),
        cmocka_unit_test(a_leaf_changes_in_no_grad_only),
        cmocka_unit_test(a_saved_tensor_that_changed_fails_the_backward),
        cmocka_unit_test(lists_at_once),
        cmocka_unit_test(a_thousand_tensors_as_one_by_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
