/* Pools: values by hand, where they were and back again, windows at places that are drawn, extents; what they refuse. */
#include "fixture.h"
#include "refused.h"

#include <math.h>

/* 1 ... n in this shape. */
static fdl_tensor *count_up(fdl_shape shape)
{
    return fdl_reshape(fdl_arange(1, (double)fdl_shape_numel(shape) + 1, 1, .dtype = FDL_FLOAT32), shape);
}

static void expect(fdl_module *m, fdl_tensor *x, fdl_tensor *want)
{
    check_some(m);
    fdl_tensor *y = fdl_forward(m, x);
    check_some(y);
    if (!fdl_allclose(y, want, .rtol = 1e-6, .atol = 1e-6)) {
        fdl_print(y, stderr);
        fail_msg("%s gives something else", fdl_module_kind(m));
    }
    check_ok(fdl_module_free(m));
}

static fdl_tensor *plane(int64_t h, int64_t w, fdl_tensor *values)
{
    return fdl_reshape(values, FDL_SHAPE(1, 1, h, w));
}

/* ---- values ------------------------------------------------------------------------------------- */

static void windows_over_one_to_sixteen(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = count_up(FDL_SHAPE(1, 1, 4, 4));
    expect(fdl_nn_max_pool2d(2), x, plane(2, 2, fdl_vec(6, 8, 14, 16)));
    expect(fdl_nn_avg_pool2d(2), x, plane(2, 2, fdl_vec(3.5, 5.5, 11.5, 13.5)));
    expect(fdl_nn_max_pool2d(3, .stride = 1), x, plane(2, 2, fdl_vec(11, 12, 15, 16)));
    /* windows 3 x 3, two apart, over one place of padding: rows 0-1 and 1-3 */
    expect(fdl_nn_max_pool2d(3, .stride = 2, .padding = 1), x, plane(2, 2, fdl_vec(6, 8, 14, 16)));
    expect(fdl_nn_avg_pool2d(3, .stride = 2, .padding = 1), x,
           plane(2, 2, fdl_vec(14 / 9.0, 30 / 9.0, 57 / 9.0, 99 / 9.0)));
    expect(fdl_nn_avg_pool2d(3, .stride = 2, .padding = 1, .exclude_pad = true), x,
           plane(2, 2, fdl_vec(3.5, 5, 9.5, 11)));
    expect(fdl_nn_avg_pool2d(2, .divisor = 2), x, plane(2, 2, fdl_vec(7, 11, 23, 27)));
    /* the last window hangs over the end */
    expect(fdl_nn_max_pool2d(3, .stride = 2), x, plane(1, 1, fdl_vec(11)));
    expect(fdl_nn_max_pool2d(3, .stride = 2, .ceil_mode = true), x, plane(2, 2, fdl_vec(11, 12, 15, 16)));
    expect(fdl_nn_avg_pool2d(3, .stride = 2, .ceil_mode = true), x, plane(2, 2, fdl_vec(6, 7.5, 12, 13.5)));
    expect(fdl_nn_max_pool2d(2, .stride = 1, .dilation = 2), x, plane(2, 2, fdl_vec(11, 12, 15, 16)));
    expect(fdl_nn_lp_pool2d(1, 2), x, plane(2, 2, fdl_vec(14, 22, 46, 54)));
    expect(fdl_nn_lp_pool2d(2, 0, .kernel_dims = FDL_DIMS(1, 2)), plane(1, 4, fdl_vec(3, 4, 5, 12)),
           plane(1, 2, fdl_vec(5, 13)));
}

static void adaptive_windows_meet_the_extents(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = count_up(FDL_SHAPE(1, 1, 5, 4));
    /* 5 rows in 3: 0-1, 1-3, 3-4; 4 columns in 3: 0-1, 1-2, 2-3 */
    expect(fdl_nn_adaptive_max_pool2d(3, 3), x, plane(3, 3, fdl_vec(6, 7, 8, 14, 15, 16, 18, 19, 20)));
    expect(fdl_nn_adaptive_avg_pool2d(3, 3), x,
           plane(3, 3, fdl_vec(3.5, 4.5, 5.5, 9.5, 10.5, 11.5, 15.5, 16.5, 17.5)));
    expect(fdl_nn_adaptive_avg_pool2d(1, 1), x, plane(1, 1, fdl_vec(10.5)));
    expect(fdl_nn_adaptive_max_pool2d(0, 1), x, plane(5, 1, fdl_vec(4, 8, 12, 16, 20)));
    expect(fdl_nn_adaptive_avg_pool2d(0, 0), x, x);
}

/* ---- where, and back ---------------------------------------------------------------------------- */

typedef struct pair {
    const char *name;
    fdl_module *pool, *unpool; /* unpool may be NULL */
} pair;

static void what_a_pool_took_goes_back(void **state)
{
    (void)state;
    FDL_SCOPE;
    const pair pairs[] = {
        {"1", fdl_nn_max_pool1d(2), fdl_nn_max_unpool1d(2)},
        {"2", fdl_nn_max_pool2d(2, .padding = 1), fdl_nn_max_unpool2d(2, .padding = 1)},
        {"2_unbatched", fdl_nn_max_pool2d(0, .kernel_dims = FDL_DIMS(2, 1)),
         fdl_nn_max_unpool2d(0, .kernel_dims = FDL_DIMS(2, 1))},
        {"3", fdl_nn_max_pool3d(2, .stride_dims = FDL_DIMS(2, 1, 2)),
         fdl_nn_max_unpool3d(2, .stride_dims = FDL_DIMS(2, 1, 2))},
        {"adaptive1", fdl_nn_adaptive_max_pool1d(3), NULL},
        {"adaptive2", fdl_nn_adaptive_max_pool2d(2, 3), NULL},
        {"adaptive3", fdl_nn_adaptive_max_pool3d(1, 2, 2), NULL},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        FDL_SCOPE;
        const pair *p = &pairs[i];
        char row[64];
        snprintf(row, sizeof row, "places.%s", p->name);
        fdl_tensor *x = fixture_of(row, "x", NULL), *at = NULL;
        check_ok(fdl_requires_grad_(x, true));
        fdl_tensor *y = fdl_nn_max_pool_forward(p->pool, x, &at);
        expect_recorded(y, row, "y", NULL, 0);
        expect_recorded(at, row, "indices", NULL, 0);
        assert_true(fdl_same(fdl_nn_max_pool_forward(p->pool, x, NULL), y));
        if (p->unpool) {
            fdl_shape size = fdl_shape_of(fixture_of(row, "back", NULL));
            int n = p->name[0] - '0';
            fdl_shape last = {.ndim = n};
            for (int k = 0; k < n; k++)
                last.d[k] = size.d[size.ndim - n + k];
            y = fdl_nn_max_unpool_forward(p->unpool, y, at, .size = last);
            expect_recorded(y, row, "back", NULL, 0);
        }
        check_ok(fdl_backward(recorded_loss(y)));
        expect_recorded(fdl_grad(x), row, "dx", NULL, 1e-6);
        check_ok(fdl_module_free(p->pool));
        check_ok(fdl_module_free(p->unpool));
    }
    fdl_clear_error();
}

static void an_unpool_has_two_inputs(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *pool = fdl_nn_max_pool2d(2), *m = fdl_nn_max_unpool2d(2);
    fdl_tensor *x = count_up(FDL_SHAPE(1, 1, 4, 4)), *at = NULL, *y = fdl_nn_max_pool_forward(pool, x, &at);
    fdl_tensor *want = plane(4, 4, fdl_vec(0, 0, 0, 0, 0, 6, 0, 8, 0, 0, 0, 0, 0, 14, 0, 16));
    assert_true(fdl_same(fdl_forward(m, y, at), want));
    assert_true(fdl_same(fdl_nn_max_unpool_forward(m, y, at), want));
    assert_null(fdl_forward(m, y));
    check_error(FDL_E_ARG, "max_unpool2d", "2 inputs", "indices");
    assert_null(fdl_forward(m, y, y));
    check_error(FDL_E_DTYPE, "int64");
    assert_null(fdl_forward(m, x, at));
    check_error(FDL_E_SHAPE, "[1, 1, 2, 2]", "[1, 1, 4, 4]");
    assert_null(fdl_nn_max_unpool_forward(m, y, at, .size = FDL_DIMS(4, 7)));
    check_error(FDL_E_SHAPE, "7");
    assert_null(fdl_nn_max_unpool_forward(pool, y, at));
    check_error(FDL_E_ARG, "fdl_nn_max_unpool_forward", "maxpool2d");
    assert_null(fdl_nn_max_unpool_forward(m, y, NULL));
    check_error(FDL_E_NULL, "indices");
    assert_null(fdl_nn_max_pool_forward(m, x, &at));
    check_error(FDL_E_ARG, "fdl_nn_max_pool_forward", "max_unpool2d");
    at = x;
    assert_null(fdl_nn_max_pool_forward(pool, fdl_ones(FDL_SHAPE(3)), &at));
    check_error(FDL_E_SHAPE, "[3]");
    assert_null(at);
    assert_null(fdl_nn_max_pool_forward(pool, NULL, NULL));
    check_error(FDL_E_NULL, "x");
    /* in a flow by name, and out of a file */
    fdl_module *g = fdl_flow(fdl_nn_identity(), fdl_flow_input("indices"), m, fdl_flow_using("indices"));
    check_some(g);
    (void)fdl_nn_max_pool_forward(pool, x, &at);
    assert_true(fdl_same(fdl_forward(g, y, at), want));
    char *text = fdl_topology_text(g);
    check_some(text);
    fdl_module *h = fdl_topology_parse(text);
    check_some(h);
    assert_true(fdl_same(fdl_forward(h, y, at), want));
    free(text);
    check_ok(fdl_module_free(h));
    check_ok(fdl_module_free(g));
    check_ok(fdl_module_free(pool));
}

/* ---- fractional --------------------------------------------------------------------------------- */

static bool on_gpu;

/* On the CPU a seed draws PyTorch's places; a GPU draws others. */
static void fractional_windows_are_drawn_as_pytorch_draws_them(void **state)
{
    (void)state;
    if (on_gpu)
        skip();
    FDL_SCOPE;
    const struct {
        const char *row;
        fdl_module *m;
    } cases[] = {
        {"places.fractional2", fdl_nn_fractional_max_pool2d(2, .size = FDL_DIMS(3, 2))},
        {"places.fractional2_unbatched",
         fdl_nn_fractional_max_pool2d(0, .kernel_dims = FDL_DIMS(2, 3), .ratio = 0.5)},
        {"places.fractional3", fdl_nn_fractional_max_pool3d(2, .ratio = 0.6)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        FDL_SCOPE;
        fdl_tensor *x = fixture_of(cases[i].row, "x", NULL), *at = NULL;
        check_ok(fdl_requires_grad_(x, true));
        check_ok(fdl_manual_seed(7));
        fdl_tensor *y = fdl_nn_max_pool_forward(cases[i].m, x, &at);
        expect_recorded(y, cases[i].row, "y", NULL, 0);
        expect_recorded(at, cases[i].row, "indices", NULL, 0);
        check_ok(fdl_manual_seed(7));
        expect_recorded(fdl_forward(cases[i].m, x), cases[i].row, "y", NULL, 0);
        check_ok(fdl_backward(recorded_loss(y)));
        expect_recorded(fdl_grad(x), cases[i].row, "dx", NULL, 1e-6);
        check_ok(fdl_module_free(cases[i].m));
    }
}

static void fractional_windows_move_and_keep_their_size(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_fractional_max_pool2d(2, .size = FDL_DIMS(5)),
               *deep = fdl_nn_fractional_max_pool3d(2, .ratio = 0.5);
    fdl_tensor *x = count_up(FDL_SHAPE(1, 1, 9, 9)), *first = fdl_forward(m, x);
    check_ok(fdl_eval(m)); /* draws in evaluation too */
    bool moved = false;
    for (int i = 0; i < 20; i++) {
        fdl_tensor *at = NULL, *y = fdl_nn_max_pool_forward(m, x, &at);
        assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(1, 1, 5, 5)));
        /* each value is x's at its index; they rise along both dims, as x does */
        assert_true(fdl_same(fdl_gather(fdl_reshape(x, FDL_SHAPE(81)), 0, fdl_reshape(at, FDL_SHAPE(25))),
                             fdl_reshape(y, FDL_SHAPE(25))));
        assert_true(fdl_item_bool(fdl_all(fdl_gt(fdl_diff(y, -1), 0))));
        moved = moved || !fdl_same(y, first);
    }
    assert_true(moved);
    assert_true(fdl_shape_eq(fdl_shape_of(fdl_forward(deep, fdl_ones(FDL_SHAPE(2, 4, 6, 8)))),
                             FDL_SHAPE(2, 2, 3, 4)));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 5, 5))));
    check_error(FDL_E_SHAPE, "no room", "5");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(deep));
}

/* Shapes are known without values, files name every option, ONNX has no such operations. */
static void shapes_files_and_onnx(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *drawn = fdl_nn_fractional_max_pool3d(0, .kernel_dims = FDL_DIMS(1, 2, 2),
                                                     .ratio_dims = {0.5, 0.4, 0.75}),
               *back = fdl_nn_max_unpool3d(2, .stride_dims = FDL_DIMS(2, 1, 1),
                                           .padding_dims = FDL_DIMS(1, 0, 0)),
               *far = fdl_nn_constant_pad1d(1, -INFINITY);
    assert_int_equal(fdl_onnx_save(drawn, "/nowhere", FDL_SHAPE(1, 1, 4, 6, 8)), FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "fractional_max_pool3d");
    assert_int_equal(
        fdl_onnx_save(back, "/nowhere", FDL_SHAPE(1, 2, 2, 2, 2),
                      .more = FDL_INPUTS({.shape = FDL_SHAPE(1, 2, 2, 2, 2), .dtype = FDL_INT64})),
        FDL_E_UNSUPPORTED);
    check_error(FDL_E_UNSUPPORTED, "max_unpool3d");
    fdl_module *modules[] = {drawn, far};
    const fdl_shape shapes[] = {FDL_SHAPE(2, 1, 4, 6, 8), FDL_SHAPE(2, 3)};
    for (int i = 0; i < 2; i++) {
        fdl_module *g = fdl_flow(modules[i]);
        char *text = fdl_topology_text(g);
        check_some(text);
        fdl_module *h = fdl_topology_parse(text);
        check_some(h);
        fdl_tensor *x = fdl_randn(shapes[i]);
        check_ok(fdl_manual_seed(9));
        fdl_tensor *y = fdl_forward(g, x);
        check_ok(fdl_manual_seed(9));
        assert_true(fdl_same(fdl_forward(h, x), y));
        free(text);
        check_ok(fdl_module_free(g));
        check_ok(fdl_module_free(h));
    }
    check_ok(fdl_module_free(back));
}

/* ---- resampling --------------------------------------------------------------------------------- */

static void what_goes_there_and_back_is_the_same(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *shuffle = fdl_nn_pixel_shuffle(2), *unshuffle = fdl_nn_pixel_unshuffle(2);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 8, 3, 5));
    fdl_tensor *y = fdl_forward(shuffle, x);
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 2, 6, 10)));
    assert_true(fdl_same(fdl_forward(unshuffle, y), x));
    /* the four channels of one become a square */
    fdl_tensor *one = fdl_reshape(fdl_vec(1, 2, 3, 4), FDL_SHAPE(1, 4, 1, 1));
    assert_true(fdl_same(fdl_forward(shuffle, one), plane(2, 2, fdl_vec(1, 2, 3, 4))));
    assert_null(fdl_forward(shuffle, fdl_ones(FDL_SHAPE(1, 3, 2, 2))));
    check_error(FDL_E_SHAPE, "fdl_pixel_shuffle", "[1, 3, 2, 2]");
    assert_null(fdl_forward(unshuffle, fdl_ones(FDL_SHAPE(1, 3, 3, 2))));
    check_error(FDL_E_SHAPE, "fdl_pixel_unshuffle");
    check_ok(fdl_module_free(shuffle));
    check_ok(fdl_module_free(unshuffle));

    fdl_module *channels = fdl_nn_channel_shuffle(2), *back = fdl_nn_channel_shuffle(3);
    fdl_tensor *c = fdl_reshape(fdl_vec(1, 2, 3, 4, 5, 6), FDL_SHAPE(1, 6, 1));
    y = fdl_forward(channels, c);
    assert_true(fdl_same(y, fdl_reshape(fdl_vec(1, 4, 2, 5, 3, 6), FDL_SHAPE(1, 6, 1))));
    assert_true(fdl_same(fdl_forward(back, y), c));
    assert_null(fdl_forward(channels, fdl_ones(FDL_SHAPE(1, 3, 2))));
    check_error(FDL_E_SHAPE, "3 channels", "2 groups");
    check_ok(fdl_module_free(channels));
    check_ok(fdl_module_free(back));

    /* windows beside each other give the image again; overlapping ones add up */
    fdl_module *unfold = fdl_nn_unfold(2, .stride = 2), *fold = fdl_nn_fold(FDL_DIMS(4, 6), 2, .stride = 2);
    fdl_tensor *image = fdl_randn(FDL_SHAPE(2, 3, 4, 6));
    y = fdl_forward(unfold, image);
    assert_true(fdl_shape_eq(fdl_shape_of(y), FDL_SHAPE(2, 12, 6)));
    assert_true(fdl_same(fdl_forward(fold, y), image));
    check_ok(fdl_module_free(unfold));
    check_ok(fdl_module_free(fold));
    fold = fdl_nn_fold(FDL_DIMS(3), 2);
    expect(fdl_module_share(fold), fdl_ones(FDL_SHAPE(1, 4, 4)),
           plane(3, 3, fdl_vec(1, 2, 1, 2, 4, 2, 1, 2, 1)));
    assert_null(fdl_forward(fold, fdl_ones(FDL_SHAPE(1, 4, 5))));
    check_error(FDL_E_SHAPE, "fdl_fold", "[1, 4, 5]");
    check_ok(fdl_module_free(fold));
}

static void upsampling_modes_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_reshape(fdl_vec(0, 4), FDL_SHAPE(1, 1, 2));
    fdl_tensor *(*line)(fdl_tensor *, fdl_shape) = fdl_reshape;
    expect(fdl_nn_upsample(.scale = 2), x, line(fdl_vec(0, 0, 4, 4), FDL_SHAPE(1, 1, 4)));
    expect(fdl_nn_upsample(.size = FDL_DIMS(3)), x, line(fdl_vec(0, 0, 4), FDL_SHAPE(1, 1, 3)));
    expect(fdl_nn_upsample(.size = FDL_DIMS(3), .mode = FDL_INTERPOLATE_NEAREST_EXACT), x,
           line(fdl_vec(0, 4, 4), FDL_SHAPE(1, 1, 3)));
    expect(fdl_nn_upsample(.scale = 2, .mode = FDL_INTERPOLATE_LINEAR), x,
           line(fdl_vec(0, 1, 3, 4), FDL_SHAPE(1, 1, 4)));
    expect(fdl_nn_upsample(.size = FDL_DIMS(5), .mode = FDL_INTERPOLATE_LINEAR, .align_corners = true), x,
           line(fdl_vec(0, 1, 2, 3, 4), FDL_SHAPE(1, 1, 5)));
    fdl_module *m = fdl_nn_upsample(.scale = 2, .mode = FDL_INTERPOLATE_BILINEAR);
    assert_null(fdl_forward(m, x));
    check_error(FDL_E_SHAPE, "bilinear", "4 dims");
    check_ok(fdl_module_free(m));
}

static void a_blur_smooths_and_keeps_what_is_flat(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_gaussian_blur(1), *still = fdl_nn_gaussian_blur(1, .no_grad = true);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 16, 12), .requires_grad = true), *y = fdl_forward(m, x);
    assert_true(fdl_shape_eq(fdl_shape_of(y), fdl_shape_of(x)));
    assert_true(fdl_item(fdl_var(y)) < 0.5 * fdl_item(fdl_var(x)));
    /* sigma 1 reaches 3 places: what is farther from the edge stays */
    fdl_tensor *flat = fdl_forward(m, fdl_full(FDL_SHAPE(1, 2, 9, 10), 5));
    fdl_tensor *inside = fdl_narrow(fdl_narrow(flat, 2, 3, 3), 3, 3, 4);
    assert_true(fdl_allclose(inside, fdl_full(FDL_SHAPE(1, 2, 3, 4), 5), .rtol = 0, .atol = 1e-6 * 5));
    assert_true(fdl_item(fdl_min(flat)) < 4); /* zeros come in at the edge */
    fdl_module *mirror = fdl_nn_gaussian_blur(1, .padding_mode = FDL_PAD_REFLECT);
    expect(mirror, fdl_full(FDL_SHAPE(1, 1, 5, 4), 5), fdl_full(FDL_SHAPE(1, 1, 5, 4), 5));
    /* the weights sum to 1, so inside each element gives a gradient of 1 */
    check_ok(fdl_backward(fdl_sum(y)));
    check_number(
        fdl_item(fdl_select(fdl_select(fdl_select(fdl_select(fdl_grad(x), 0, 0), 0, 0), 0, 8), 0, 6)), 1,
        1e-6);
    assert_false(fdl_requires_grad(fdl_forward(still, x)));
    assert_true(fdl_same(fdl_forward(still, x), fdl_detach(y)));
    assert_true(fdl_same(fdl_gaussian_blur(x, 1), y));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(3, 5, 5))));
    check_error(FDL_E_SHAPE, "fdl_gaussian_blur", "[3, 5, 5]");
    assert_null(fdl_gaussian_blur(x, 0));
    check_error(FDL_E_ARG, "sigma is 0");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(still));
}

/* ---- padding ------------------------------------------------------------------------------------ */

static void sides_of_each_kind(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = count_up(FDL_SHAPE(1, 1, 3, 3)), *line = count_up(FDL_SHAPE(1, 4));
    expect(fdl_nn_zero_pad2d(0, .sides = FDL_DIMS(1, 2, 0, 3)), x,
           plane(6, 6,
                 fdl_vec(0, 1, 2, 3, 0, 0, 0, 4, 5, 6, 0, 0, 0, 7, 8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                         0, 0, 0, 0, 0, 0, 0, 0)));
    expect(fdl_nn_zero_pad2d(-1), x, plane(1, 1, fdl_vec(5)));
    fdl_tensor *(*row)(fdl_tensor *, fdl_shape) = fdl_reshape;
    expect(fdl_nn_constant_pad1d(0, 9, .sides = FDL_DIMS(1, 2)), line,
           row(fdl_vec(9, 1, 2, 3, 4, 9, 9), FDL_SHAPE(1, 7)));
    expect(fdl_nn_reflection_pad1d(2), line, row(fdl_vec(3, 2, 1, 2, 3, 4, 3, 2), FDL_SHAPE(1, 8)));
    expect(fdl_nn_replication_pad1d(2), line, row(fdl_vec(1, 1, 1, 2, 3, 4, 4, 4), FDL_SHAPE(1, 8)));
    expect(fdl_nn_circular_pad1d(2), line, row(fdl_vec(3, 4, 1, 2, 3, 4, 1, 2), FDL_SHAPE(1, 8)));
    expect(fdl_nn_reflection_pad2d(1), x,
           plane(5, 5, fdl_vec(5, 4, 5, 6, 5, 2, 1, 2, 3, 2, 5, 4, 5, 6, 5, 8, 7, 8, 9, 8, 5, 4, 5, 6, 5)));
    expect(fdl_nn_circular_pad2d(0, .sides = FDL_DIMS(0, 1, 1, 0)), x,
           plane(4, 4, fdl_vec(7, 8, 9, 7, 1, 2, 3, 1, 4, 5, 6, 4, 7, 8, 9, 7)));
    fdl_module *far = fdl_nn_reflection_pad2d(3), *round = fdl_nn_circular_pad1d(5);
    assert_null(fdl_forward(far, x));
    check_error(FDL_E_SHAPE, "[1, 1, 3, 3]");
    assert_null(fdl_forward(round, line));
    check_error(FDL_E_SHAPE, "[1, 4]");
    assert_null(fdl_forward(far, fdl_ones(FDL_SHAPE(5))));
    check_error(FDL_E_SHAPE, "[5]");
    check_ok(fdl_module_free(far));
    check_ok(fdl_module_free(round));
}

/* ---- what is refused ---------------------------------------------------------------------------- */

static void wrong_pools_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    REFUSED(fdl_nn_max_pool3d(2, .stride_dims = FDL_DIMS(1, 2)), "fdl_nn_max_pool3d", "stride_dims has 2",
            "3");
    REFUSED(fdl_nn_avg_pool3d(2, .padding = 2), "fdl_nn_avg_pool3d", "padding is 2", "half");
    REFUSED(fdl_nn_lp_pool1d(0, 2), "fdl_nn_lp_pool1d", "p is 0");
    REFUSED(fdl_nn_lp_pool2d(2, 0), "fdl_nn_lp_pool2d", "kernel is 0");
    REFUSED(fdl_nn_lp_pool3d(2, 2, .stride = -1), "fdl_nn_lp_pool3d", "stride is -1");
    REFUSED(fdl_nn_max_unpool1d(0), "fdl_nn_max_unpool1d", "kernel is 0");
    REFUSED(fdl_nn_max_unpool2d(2, .padding = -1), "fdl_nn_max_unpool2d", "padding is -1");
    REFUSED(fdl_nn_max_unpool3d(2, .kernel_dims = FDL_DIMS(1, 1, 1)), "kernel", "one of them");
    REFUSED(fdl_nn_fractional_max_pool2d(2), "fdl_nn_fractional_max_pool2d", ".size or .ratio");
    REFUSED(fdl_nn_fractional_max_pool2d(2, .size = FDL_DIMS(2), .ratio = 0.5), "not both");
    REFUSED(fdl_nn_fractional_max_pool3d(2, .ratio = 1), "ratio is 1");
    REFUSED(fdl_nn_fractional_max_pool3d(2, .size = FDL_DIMS(2, 2)), "size has 2", "3");
    REFUSED(fdl_nn_fractional_max_pool2d(2, .size = FDL_DIMS(0)), "size is 0");
    REFUSED(fdl_nn_fractional_max_pool3d(2, .ratio_dims = {0.5, 0.5}), "ratio_dims", "3 numbers");
    REFUSED(fdl_nn_fractional_max_pool2d(2, .ratio = 0.5, .ratio_dims = {0.5, 0.5}), "not both");
    REFUSED(fdl_nn_upsample(.scale_dims = {0, 2}), "scale_dims", "from the first on");
    REFUSED(fdl_nn_upsample(.scale_dims = {2, 2}, .size = FDL_DIMS(3)), "not both");
    REFUSED(fdl_nn_pixel_shuffle(0), "fdl_nn_pixel_shuffle", "r is 0");
    REFUSED(fdl_nn_pixel_unshuffle(-1), "fdl_nn_pixel_unshuffle", "r is -1");
    REFUSED(fdl_nn_channel_shuffle(0), "fdl_nn_channel_shuffle", "groups is 0");
    REFUSED(fdl_nn_upsample(.mode = FDL_INTERPOLATE_LINEAR), "fdl_nn_upsample", ".size or .scale");
    REFUSED(fdl_nn_upsample(.scale = 2, .size = FDL_DIMS(4)), "not both");
    REFUSED(fdl_nn_upsample(.scale = -2), "scale is -2");
    REFUSED(fdl_nn_upsample(.scale = 2, .mode = (fdl_interpolate_mode)17), "mode is 17");
    REFUSED(fdl_nn_upsample(.scale = 2, .align_corners = true), "align_corners", "nearest");
    REFUSED(fdl_nn_upsample(.size = FDL_DIMS(2), .recompute_scale = true), "recompute_scale");
    REFUSED(fdl_nn_upsample(.size = FDL_DIMS(2, 0)), "size is 0");
    REFUSED(fdl_nn_upsample(.size = FDL_DIMS(1, 2, 3, 4)), "size is 4");
    REFUSED(fdl_nn_unfold(0), "fdl_nn_unfold", "kernel is 0");
    REFUSED(fdl_nn_unfold(2, .stride_dims = FDL_DIMS(1)), "stride_dims has 1");
    REFUSED(fdl_nn_fold(FDL_DIMS(4, 0), 2), "fdl_nn_fold", "size is 0");
    REFUSED(fdl_nn_fold(FDL_DIMS(4, 4, 4), 2), "size is 3");
    REFUSED(fdl_nn_fold(FDL_DIMS(4), 2, .dilation = -1), "dilation is -1");
    REFUSED(fdl_nn_gaussian_blur(0), "fdl_nn_gaussian_blur", "sigma is 0");
    REFUSED(fdl_nn_gaussian_blur(1, .padding_mode = (fdl_pad_mode)7), "padding_mode is 7");
}

static void wrong_pads_and_steps_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    REFUSED(fdl_nn_zero_pad2d(1, .sides = FDL_DIMS(1, 1, 1, 1)), "fdl_nn_zero_pad2d", "n is 1", "sides");
    REFUSED(fdl_nn_zero_pad1d(0, .sides = FDL_DIMS(1)), "fdl_nn_zero_pad1d", "sides has 1", "2");
    REFUSED(fdl_nn_constant_pad2d(0, 1, .sides = FDL_DIMS(1, 2)), "fdl_nn_constant_pad2d", "sides has 2",
            "4");
    REFUSED(fdl_nn_circular_pad3d(0, .sides = FDL_DIMS(1, 2, 3, 4)), "fdl_nn_circular_pad3d", "must have 6");
    REFUSED(fdl_nn_reflection_pad1d(INT64_MAX), "fdl_nn_reflection_pad1d", "32 bits");
    REFUSED(fdl_nn_select(12, 0), "fdl_nn_select", "dim is 12");
    REFUSED(fdl_nn_permute(FDL_DIMS(0, 0)), "fdl_nn_permute", "dim 0 at place 1");
    REFUSED(fdl_nn_permute(FDL_DIMS(0, 2)), "dim 2");
    REFUSED(fdl_nn_scale(FDL_SHAPE(3, 0), 1), "fdl_nn_scale", "shape is 0");
    REFUSED(fdl_nn_scale(FDL_SHAPE(3), 1.0 / 0.0), "init is inf");
    fdl_module *select = fdl_nn_select(1, 3), *permute = fdl_nn_permute(FDL_DIMS(1, 0)),
               *scale = fdl_nn_scale(FDL_SHAPE(3), 2, .dtype = FDL_FLOAT64);
    assert_int_equal(fdl_dtype_of(fdl_param_tensor(fdl_module_own_param(scale, "weight"))), FDL_FLOAT64);
    assert_null(fdl_forward(select, fdl_ones(FDL_SHAPE(2, 3))));
    check_error(FDL_E_RANGE, "3");
    assert_null(fdl_forward(permute, fdl_ones(FDL_SHAPE(2, 3, 4))));
    check_error(FDL_E_SHAPE, "permute takes 2 dims", "[2, 3, 4]");
    assert_null(fdl_forward(scale, fdl_ones(FDL_SHAPE(1))));
    check_error(FDL_E_SHAPE, "scale", "[3]", "[1]");
    check_ok(fdl_module_free(select));
    check_ok(fdl_module_free(permute));
    check_ok(fdl_module_free(scale));
}

int main(void)
{
    on_gpu = on_test_device();
    if (on_gpu)
        check_ok(fdl_allow_tf32(false, false));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_over_one_to_sixteen),
        cmocka_unit_test(adaptive_windows_meet_the_extents),
        cmocka_unit_test(what_a_pool_took_goes_back),
        cmocka_unit_test(an_unpool_has_two_inputs),
        cmocka_unit_test(fractional_windows_are_drawn_as_pytorch_draws_them),
        cmocka_unit_test(fractional_windows_move_and_keep_their_size),
        cmocka_unit_test(shapes_files_and_onnx),
        cmocka_unit_test(what_goes_there_and_back_is_the_same),
        cmocka_unit_test(upsampling_modes_by_hand),
        cmocka_unit_test(a_blur_smooths_and_keeps_what_is_flat),
        cmocka_unit_test(sides_of_each_kind),
        cmocka_unit_test(wrong_pools_are_named),
        cmocka_unit_test(wrong_pads_and_steps_are_named),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
