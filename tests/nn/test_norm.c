/* Norms: values by hand, running statistics, one norm as another, the statistics of several ranks; what they refuse. */
#include "check.h"
#include "refused.h"

#include <math.h>
#include <pthread.h>

static fdl_tensor *buffer(fdl_module *m, const char *name)
{
    return fdl_param_tensor(fdl_module_own_buffer(m, name));
}

static fdl_tensor *param(fdl_module *m, const char *name)
{
    return fdl_param_tensor(fdl_module_own_param(m, name));
}

static bool close_to(fdl_tensor *a, fdl_tensor *b, double tolerance)
{
    check_some(a);
    check_some(b);
    return fdl_allclose(a, b, .rtol = tolerance, .atol = tolerance);
}

/* ---- within a sample ---------------------------------------------------------------------------- */

static void layer_norm_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_reshape(fdl_vec(1, 2, 3, 4), FDL_SHAPE(1, 4));
    fdl_tensor *want = fdl_reshape(fdl_vec(-1.3416354, -0.4472118, 0.4472118, 1.3416354), FDL_SHAPE(1, 4));
    fdl_module *m = fdl_nn_layer_norm(4), *flat = fdl_nn_layer_norm(4, .eps = 1e6),
               *all = fdl_nn_layer_norm(0, .shape = FDL_DIMS(2, 2)),
               *bare = fdl_nn_layer_norm(4, .no_bias = true);
    assert_true(close_to(fdl_forward(m, x), want, 1e-6));
    assert_true(fdl_item(fdl_max(fdl_abs(fdl_forward(flat, x)))) < 0.01);
    assert_true(close_to(fdl_forward(all, fdl_reshape(x, FDL_SHAPE(1, 2, 2))),
                         fdl_reshape(want, FDL_SHAPE(1, 2, 2)), 1e-6));
    assert_null(fdl_forward(all, x));
    check_error(FDL_E_SHAPE, "[1, 4]");
    fdl_params *ps = fdl_parameters(bare);
    assert_int_equal(fdl_params_count(ps), 1);
    assert_string_equal(fdl_params_name(ps, 0), "weight");
    assert_true(close_to(fdl_forward(bare, x), want, 1e-6));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(flat));
    check_ok(fdl_module_free(all));
    check_ok(fdl_module_free(bare));
}

static void rms_norm_by_hand(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_rms_norm(4), *half = fdl_nn_rms_norm(64, .dtype = FDL_BFLOAT16, .eps = 1e-6);
    fdl_tensor *ones = fdl_ones(FDL_SHAPE(2, 4)), *x = fdl_vec(1, 2, 3, 4);
    assert_true(close_to(fdl_forward(m, ones), ones, 1e-6));
    assert_true(close_to(fdl_forward(m, x), fdl_div(x, sqrt(7.5)), 1e-6));
    /* in bfloat16 the mean of 64 squares would be off by far more than the last place */
    fdl_tensor *small = fdl_to_dtype(fdl_randn(FDL_SHAPE(8, 64)), FDL_BFLOAT16), *wide = fdl_float(small);
    fdl_tensor *y = fdl_forward(half, small);
    assert_int_equal(fdl_dtype_of(y), FDL_BFLOAT16);
    fdl_tensor *exact = fdl_rms_norm(wide, FDL_SHAPE(64), .eps = 1e-6);
    fdl_tensor *off = fdl_abs(fdl_sub(fdl_float(y), exact));
    assert_true(fdl_item_bool(fdl_all(fdl_le(off, fdl_add(fdl_mul(fdl_abs(exact), 0x1p-8), 1e-6)))));
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(half));
}

/* Each group of each sample has mean 0 and variance 1. */
static void group_norm_by_groups(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_tensor *x = fdl_add(fdl_mul(fdl_randn(FDL_SHAPE(1, 6, 4, 5)), 3), 2);
    const int64_t groups[] = {1, 2, 6};
    for (int i = 0; i < 3; i++) {
        fdl_module *m = fdl_nn_group_norm(groups[i], 6);
        fdl_tensor *y = fdl_reshape(fdl_forward(m, x), FDL_SHAPE(groups[i], -1));
        assert_true(close_to(fdl_mean_dim(y, 1), fdl_zeros(FDL_SHAPE(groups[i])), 1e-5));
        assert_true(
            close_to(fdl_var_dim(y, 1, .correction = FDL_SOME(0)), fdl_ones(FDL_SHAPE(groups[i])), 1e-4));
        check_ok(fdl_module_free(m));
    }
    assert_null(fdl_nn_group_norm(3, 8));
    check_error(FDL_E_ARG, "fdl_nn_group_norm", "channels 8", "groups 3");
}

static void instance_norm_is_a_group_norm_of_each_channel(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_instance_norm2d(3), *any = fdl_nn_instance_norm(3),
               *groups = fdl_nn_group_norm(3, 3, .no_affine = true),
               *affine = fdl_nn_instance_norm2d(3, .affine = true);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3, 4, 5)), *y = fdl_forward(m, x);
    assert_true(close_to(y, fdl_forward(groups, x), 1e-5));
    assert_true(close_to(y, fdl_forward(any, x), 1e-6));
    assert_true(close_to(fdl_forward(m, fdl_select(x, 0, 1)), fdl_select(y, 0, 1), 1e-6));
    assert_int_equal(fdl_params_count(fdl_parameters(m)) + fdl_params_count(fdl_buffers(m)), 0);
    fdl_params *ps = fdl_parameters(affine);
    assert_int_equal(fdl_params_count(ps), 2);
    assert_string_equal(fdl_params_name(ps, 0), "weight");
    assert_string_equal(fdl_params_name(ps, 1), "bias");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3, 1, 1))));
    check_error(FDL_E_SHAPE, "more than 1 place", "[2, 3, 1, 1]");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 4, 2, 2))));
    check_error(FDL_E_SHAPE, "instance_norm2d", "3 channels", "[2, 4, 2, 2]");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))));
    check_error(FDL_E_SHAPE, "3 or 4 dims", "[2, 3]");
    assert_null(fdl_forward(any, fdl_ones(FDL_SHAPE(2, 3))));
    check_error(FDL_E_SHAPE, "instance_norm", "[2, 3]");
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(any));
    check_ok(fdl_module_free(groups));
    check_ok(fdl_module_free(affine));

    /* running statistics: the means of the samples' own, moved in training, used in evaluation */
    m = fdl_nn_instance_norm1d(1, .stats = true, .momentum = 0.5);
    x = fdl_reshape(fdl_vec(0, 2, 4, 10, 10, 13), FDL_SHAPE(2, 1, 3));
    check_some(fdl_forward(m, x));
    check_number(fdl_item(buffer(m, "running_mean")), 0.5 * (2 + 11) / 2, 1e-6);
    check_number(fdl_item(buffer(m, "running_var")), 0.5 * 1 + 0.5 * (4 + 3) / 2, 1e-6);
    check_ok(fdl_eval(m));
    fdl_tensor *one =
        fdl_forward(m, fdl_reshape(fdl_vec(3.25), FDL_SHAPE(1, 1, 1))); /* one place is enough now */
    check_number(fdl_item(one), 0, 1e-6);
    check_number(fdl_item(buffer(m, "running_mean")), 3.25, 1e-6);
    check_ok(fdl_module_free(m));
}

static void neighbours_divide(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_local_response_norm(3, .alpha = 3, .beta = 1);
    fdl_tensor *x = fdl_reshape(fdl_vec(1, 2, 3), FDL_SHAPE(1, 3, 1));
    fdl_tensor *want = fdl_reshape(fdl_vec(1 / 6.0, 2 / 15.0, 3 / 14.0), FDL_SHAPE(1, 3, 1));
    assert_true(close_to(fdl_forward(m, x), want, 1e-6));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(2, 3))));
    check_error(FDL_E_SHAPE, "fdl_local_response_norm", "[2, 3]");
    check_ok(fdl_module_free(m));
}

/* ---- over the batch ----------------------------------------------------------------------------- */

static void training_and_evaluation_differ(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_module *m = fdl_nn_batch_norm1d(2);
    fdl_tensor *x = fdl_reshape(fdl_vec(10, 20, 12, 22, 11, 21, 9, 19), FDL_SHAPE(4, 2));
    check_ok(fdl_freeze(m)); /* weights stay, statistics move */
    fdl_tensor *y = fdl_forward(m, x);
    fdl_tensor *root = fdl_vec(-0.4472136, 1.3416407, 0.4472136, -1.3416407);
    assert_true(close_to(fdl_select(y, 1, 0), root, 1e-5));
    assert_true(close_to(buffer(m, "running_mean"), fdl_vec(1.05, 2.05), 1e-6));
    assert_true(close_to(buffer(m, "running_var"), fdl_vec(1.0666667, 1.0666667), 1e-6));
    assert_true(fdl_same(param(m, "weight"), fdl_ones(FDL_SHAPE(2))));
    check_ok(fdl_eval(m));
    fdl_tensor *calm = fdl_forward(m, x);
    assert_false(close_to(calm, y, 0.1));
    fdl_tensor *by_hand = fdl_div(fdl_sub(x, fdl_vec(1.05, 2.05)), sqrt(1.0666667 + 1e-5));
    assert_true(close_to(calm, by_hand, 1e-5));
    check_some(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2)))); /* one value is enough now */
    assert_true(close_to(buffer(m, "running_mean"), fdl_vec(1.05, 2.05), 1e-6));
    assert_int_equal(fdl_item_i64(buffer(m, "num_batches_tracked")), 1);
    check_ok(fdl_module_free(m));

    fdl_module *wide = fdl_nn_batch_norm(4);
    assert_null(fdl_forward(wide, fdl_ones(FDL_SHAPE(1, 4))));
    check_error(FDL_E_SHAPE, "batchnorm needs more than 1 value per channel in training, got [1, 4]");
    check_some(fdl_forward(wide, fdl_randn(FDL_SHAPE(1, 4, 3, 3))));
    check_ok(fdl_module_free(wide));
    fdl_module *bare = fdl_nn_batch_norm2d(2, .no_stats = true);
    assert_int_equal(fdl_params_count(fdl_buffers(bare)), 0);
    x = fdl_randn(FDL_SHAPE(2, 2, 3, 3));
    y = fdl_forward(bare, x);
    check_ok(fdl_eval(bare));
    assert_true(fdl_same(fdl_forward(bare, x), y)); /* the batch's own in evaluation too */
    assert_null(fdl_forward(bare, fdl_ones(FDL_SHAPE(2, 2))));
    check_error(FDL_E_SHAPE, "batchnorm2d", "4 dims", "[2, 2]");
    check_ok(fdl_module_free(bare));
}

/* ---- over ranks --------------------------------------------------------------------------------- */

enum { RANKS = 3, CHANNELS = 2 };

/* Ranks are threads here, which meet twice a sum. */
typedef struct world {
    pthread_barrier_t meet;
    double sums[RANKS][1 + 2 * CHANNELS];
    int calls[RANKS];
} world;

typedef struct rank {
    world *w;
    int i;
    fdl_tensor *x;                   /* kept, [N, 2, 3] */
    fdl_tensor *y, *dx, *mean, *var; /* kept, after one step */
    fdl_tensor *dweight, *dbias;     /* kept */
    int64_t batches;
} rank;

static fdl_status sum_of_ranks(fdl_tensor *x, void *ctx)
{
    rank *r = ctx;
    world *w = r->w;
    FDL_SCOPE;
    w->calls[r->i]++;
    if (fdl_dtype_of(x) != FDL_FLOAT64 || fdl_numel(x) != 1 + 2 * CHANNELS)
        return fdl_fail(FDL_E_MISMATCH, "a sum of another kind");
    FDL_TRY(fdl_to_f64(x, w->sums[r->i], 1 + 2 * CHANNELS));
    pthread_barrier_wait(&w->meet);
    double all[1 + 2 * CHANNELS] = {0};
    for (int i = 0; i < RANKS; i++)
        for (int k = 0; k < 1 + 2 * CHANNELS; k++)
            all[k] += w->sums[i][k];
    pthread_barrier_wait(&w->meet);
    return fdl_copy_(x,
                     fdl_from_f64(all, FDL_SHAPE(1 + 2 * CHANNELS), .dtype = FDL_FLOAT64, .device = FDL_CPU));
}

/* Another weight for each element of the whole batch. */
static fdl_tensor *slopes(int64_t rows)
{
    fdl_tensor *i = fdl_arange(0, (double)(rows * 6), 1, .dtype = FDL_FLOAT32, .device = FDL_CPU);
    return fdl_reshape(fdl_sin(i), FDL_SHAPE(rows, 2, 3));
}

static bool loose(fdl_module *m)
{
    return fdl_param_set(fdl_module_own_param(m, "weight"), fdl_vec(1.5, -0.5)) == FDL_OK &&
           fdl_param_set(fdl_module_own_param(m, "bias"), fdl_vec(0.25, 3)) == FDL_OK;
}

/* Fails by a NULL result: a thread of its own can't end the test. */
static void *run_rank(void *ctx)
{
    rank *r = ctx;
    static const int64_t begins[] = {0, 2, 7};
    FDL_SCOPE;
    fdl_module *m = fdl_nn_sync_batch_norm(CHANNELS, .device = FDL_CPU);
    fdl_module *g = fdl_flow(fdl_nn_identity(), m);
    fdl_tensor *x = fdl_detach(r->x);
    if (!g || !loose(m) || fdl_nn_sync_ranks(g, sum_of_ranks, r) != FDL_OK ||
        fdl_requires_grad_(x, true) != FDL_OK)
        return NULL;
    fdl_tensor *y = fdl_forward(g, x);
    fdl_tensor *slope = fdl_narrow(slopes(8), 0, begins[r->i], fdl_size(x, 0));
    if (fdl_backward(fdl_sum(fdl_mul(y, slope))) == FDL_OK)
        r->y = fdl_keep(fdl_detach(y));
    r->dx = fdl_keep(fdl_grad(x));
    r->mean = fdl_keep(buffer(m, "running_mean"));
    r->var = fdl_keep(buffer(m, "running_var"));
    r->dweight = fdl_keep(fdl_grad(param(m, "weight")));
    r->dbias = fdl_keep(fdl_grad(param(m, "bias")));
    r->batches = fdl_item_i64(buffer(m, "num_batches_tracked"));
    fdl_module_free(g);
    return NULL;
}

/* 2, 5 and 1 samples on three ranks are 8 on one: results, gradients, statistics. */
static void ranks_together_are_one_batch(void **state)
{
    (void)state;
    FDL_SCOPE;
    static const int64_t begins[] = {0, 2, 7}, counts[] = {2, 5, 1};
    fdl_tensor *x = fdl_add(fdl_mul(fdl_randn(FDL_SHAPE(8, 2, 3), .device = FDL_CPU), 2), 5);
    world w = {.calls = {0}};
    rank ranks[RANKS];
    pthread_t threads[RANKS];
    assert_int_equal(pthread_barrier_init(&w.meet, NULL, RANKS), 0);
    for (int i = 0; i < RANKS; i++) {
        ranks[i] = (rank){.w = &w, .i = i, .x = fdl_keep(fdl_narrow(x, 0, begins[i], counts[i]))};
        assert_int_equal(pthread_create(&threads[i], NULL, run_rank, &ranks[i]), 0);
    }
    for (int i = 0; i < RANKS; i++)
        pthread_join(threads[i], NULL);

    fdl_module *one = fdl_nn_batch_norm(CHANNELS, .device = FDL_CPU);
    assert_true(loose(one));
    check_ok(fdl_requires_grad_(x, true));
    fdl_tensor *y = fdl_forward(one, x), *dweight = fdl_zeros(FDL_SHAPE(2), .device = FDL_CPU),
               *dbias = dweight;
    check_ok(fdl_backward(fdl_sum(fdl_mul(y, slopes(8)))));
    for (int i = 0; i < RANKS; i++) {
        rank *r = &ranks[i];
        assert_true(close_to(r->y, fdl_narrow(y, 0, begins[i], counts[i]), 1e-5));
        assert_true(close_to(r->dx, fdl_narrow(fdl_grad(x), 0, begins[i], counts[i]), 1e-5));
        assert_true(close_to(r->mean, buffer(one, "running_mean"), 1e-6));
        assert_true(close_to(r->var, buffer(one, "running_var"), 1e-6));
        assert_int_equal(r->batches, 1);
        assert_int_equal(w.calls[i], 2); /* forward and backward */
        dweight = fdl_add(dweight, r->dweight);
        dbias = fdl_add(dbias, r->dbias);
    }
    assert_true(close_to(dweight, fdl_grad(param(one, "weight")), 1e-4));
    assert_true(close_to(dbias, fdl_grad(param(one, "bias")), 1e-4));
    for (int i = 0; i < RANKS; i++) {
        fdl_tensor *kept[] = {ranks[i].x,   ranks[i].y,       ranks[i].dx,   ranks[i].mean,
                              ranks[i].var, ranks[i].dweight, ranks[i].dbias};
        for (size_t k = 0; k < sizeof kept / sizeof *kept; k++)
            check_ok(fdl_free(kept[k]));
    }
    pthread_barrier_destroy(&w.meet);
    check_ok(fdl_module_free(one));
}

static fdl_status alone(fdl_tensor *x, void *ctx)
{
    (void)x;
    ++*(int *)ctx;
    return FDL_OK;
}

static fdl_status unreachable(fdl_tensor *x, void *ctx)
{
    (void)x;
    (void)ctx;
    return fdl_fail(FDL_E_PEER, "rank 1 is gone");
}

static void one_rank_is_batch_norm(void **state)
{
    (void)state;
    static const fdl_nn_batch_norm_opts options[] = {{.eps = 1e-5},
                                                     {.cumulative = true},
                                                     {.no_affine = true, .momentum = 0.5},
                                                     {.no_stats = true, .eps = 0.1}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        FDL_SCOPE;
        int calls = 0;
        fdl_module *plain = fdl_nn_batch_norm_opt(3, &options[i]),
                   *sync = fdl_nn_sync_batch_norm_opt(3, &options[i]),
                   *summed = fdl_nn_sync_batch_norm_opt(3, &options[i]);
        check_ok(fdl_nn_sync_ranks(summed, alone, &calls));
        for (int step = 0; step < 3; step++) {
            FDL_SCOPE;
            fdl_tensor *x[3], *y[3], *first = fdl_randn(FDL_SHAPE(4, 3, 2));
            fdl_module *m[] = {plain, sync, summed};
            for (int k = 0; k < 3; k++) {
                x[k] = fdl_clone(first);
                check_ok(fdl_requires_grad_(x[k], true));
                y[k] = fdl_forward(m[k], x[k]);
                check_some(y[k]);
                check_ok(fdl_backward(fdl_sum(fdl_mul(y[k], fdl_sin(first)))));
            }
            assert_true(fdl_same(y[0], y[1]));
            assert_true(fdl_same(fdl_grad(x[0]), fdl_grad(x[1])));
            assert_true(close_to(y[2], y[0], 2e-5));
            assert_true(close_to(fdl_grad(x[2]), fdl_grad(x[0]), 5e-5));
        }
        assert_int_equal(calls, 6);
        for (int k = 0; !options[i].no_stats && k < 2; k++) {
            const char *name = k ? "running_var" : "running_mean";
            assert_true(fdl_same(buffer(sync, name), buffer(plain, name)));
            assert_true(close_to(buffer(summed, name), buffer(plain, name), 1e-5));
        }
        check_ok(fdl_eval(summed));
        check_ok(fdl_eval(plain));
        fdl_tensor *x = fdl_randn(FDL_SHAPE(2, 3));
        assert_true(close_to(fdl_forward(summed, x), fdl_forward(plain, x), 2e-5));
        assert_int_equal(calls, 6); /* evaluation asks nobody */
        check_ok(fdl_module_free(plain));
        check_ok(fdl_module_free(sync));
        check_ok(fdl_module_free(summed));
    }
}

static void a_rank_that_fails_changes_nothing(void **state)
{
    (void)state;
    FDL_SCOPE;
    int calls = 0;
    fdl_module *m = fdl_nn_sync_batch_norm(2), *other = fdl_nn_batch_norm(2);
    fdl_tensor *x = fdl_randn(FDL_SHAPE(4, 2));
    check_ok(fdl_nn_sync_ranks(m, unreachable, NULL));
    assert_null(fdl_forward(m, x));
    check_error(FDL_E_PEER, "rank 1 is gone");
    assert_int_equal(fdl_item_i64(buffer(m, "num_batches_tracked")), 0);
    assert_true(fdl_same(buffer(m, "running_mean"), fdl_zeros(FDL_SHAPE(2))));
    /* one value of its own is enough among several ranks; none takes part with nothing */
    check_ok(fdl_nn_sync_ranks(m, alone, &calls));
    check_some(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2))));
    fdl_tensor *half = fdl_forward(m, fdl_to_dtype(x, FDL_BFLOAT16));
    assert_int_equal(fdl_dtype_of(half), FDL_BFLOAT16);
    check_ok(fdl_nn_sync_ranks(m, NULL, NULL));
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(1, 2))));
    check_error(FDL_E_SHAPE, "sync_batch_norm needs more than 1 value per channel");
    assert_null(fdl_forward(m, fdl_ones(FDL_SHAPE(4, 3))));
    check_error(FDL_E_SHAPE, "2 channels");
    check_ok(fdl_nn_sync_ranks(other, alone, &calls)); /* none in it */
    int before = calls;
    check_some(fdl_forward(other, x));
    assert_int_equal(calls, before);
    assert_int_equal(fdl_nn_sync_ranks(NULL, alone, NULL), FDL_E_NULL);
    fdl_clear_error();
    check_ok(fdl_module_free(m));
    check_ok(fdl_module_free(other));
}

/* ---- what is refused ---------------------------------------------------------------------------- */

static void wrong_norms_are_named(void **state)
{
    (void)state;
    FDL_SCOPE;
    REFUSED(fdl_nn_instance_norm(0), "fdl_nn_instance_norm", "n is 0");
    REFUSED(fdl_nn_instance_norm1d(2, .momentum = 2), "fdl_nn_instance_norm1d", "momentum is 2");
    REFUSED(fdl_nn_instance_norm2d(2, .eps = -1), "fdl_nn_instance_norm2d", "eps is -1");
    REFUSED(fdl_nn_instance_norm3d(-2), "fdl_nn_instance_norm3d", "n is -2");
    REFUSED(fdl_nn_local_response_norm(0), "fdl_nn_local_response_norm", "size is 0");
    REFUSED(fdl_nn_local_response_norm(2, .beta = NAN), "beta is nan");
    REFUSED(fdl_nn_sync_batch_norm(0), "fdl_nn_sync_batch_norm", "n is 0");
    REFUSED(fdl_nn_sync_batch_norm(2, .momentum = 0.5, .cumulative = true), "momentum", "cumulative");
    fdl_module *m = fdl_nn_instance_norm1d(2, .affine = true, .stats = true, .dtype = FDL_FLOAT64);
    assert_int_equal(fdl_dtype_of(param(m, "weight")), FDL_FLOAT64);
    assert_int_equal(fdl_dtype_of(buffer(m, "running_var")), FDL_FLOAT64);
    assert_int_equal(fdl_dtype_of(buffer(m, "num_batches_tracked")), FDL_INT64);
    check_ok(fdl_module_free(m));
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_norm_by_hand),
        cmocka_unit_test(rms_norm_by_hand),
        cmocka_unit_test(group_norm_by_groups),
        cmocka_unit_test(instance_norm_is_a_group_norm_of_each_channel),
        cmocka_unit_test(neighbours_divide),
        cmocka_unit_test(training_and_evaluation_differ),
        cmocka_unit_test(ranks_together_are_one_batch),
        cmocka_unit_test(one_rank_is_batch_norm),
        cmocka_unit_test(a_rank_that_fails_changes_nothing),
        cmocka_unit_test(wrong_norms_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
