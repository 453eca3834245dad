/* Datasets: fetching, stacking, checks, tables, who frees what, threads. */
#include "check.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "samples.h"

static void tensors(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_dataset *ds = ten_rows();
    check_some(ds);
    assert_int_equal(fdl_data_len(ds), 10);
    assert_int_equal(fdl_data_arity(ds), 2);
    fdl_tensor *out[2];
    check_ok(fdl_data_fetch(ds, (int64_t[]){0, 1, 2}, 3, out));
    expect(out[0], FDL_FLOAT32, FDL_SHAPE(3, 4), (double[]){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    expect(out[1], FDL_INT64, FDL_SHAPE(3, 2), (double[]){0, 1, 2, 3, 4, 5});
    check_ok(fdl_data_fetch(ds, (int64_t[]){9, 9}, 2, out));
    expect(out[1], FDL_INT64, FDL_SHAPE(2, 2), (double[]){18, 19, 18, 19});
    check_ok(fdl_data_fetch(ds, (int64_t[]){4}, 1, out));
    expect(out[1], FDL_INT64, FDL_SHAPE(1, 2), (double[]){8, 9});
    check_ok(fdl_data_fetch(ds, NULL, 0, out));
    assert_true(!out[0] && !out[1]);
    fdl_data_free(ds);
}

static void wrong_tensors(void **state)
{
    (void)state;
    FDL_SCOPE;
    assert_null(fdl_data_tensors(FDL_LIST(fdl_zeros(FDL_SHAPE(10, 4)), fdl_zeros(FDL_SHAPE(9)))));
    check_error(FDL_E_SHAPE, "position 1", "9 rows", "10");
    assert_null(fdl_data_tensors(FDL_LIST(fdl_zeros(FDL_SCALAR))));
    check_error(FDL_E_SHAPE, "0-d");
    assert_null(fdl_data_tensors(
        FDL_LIST(fdl_zeros(FDL_SHAPE(2)), fdl_reshape(fdl_zeros(FDL_SHAPE(2)), FDL_SHAPE(3)))));
    check_error(FDL_E_SHAPE, "reshape"); /* the first error stays */
    assert_null(fdl_data_tensors((fdl_list){0, NULL}));
    check_error(FDL_E_NULL, "tensors");
    fdl_tensor *many[17];
    for (int i = 0; i < 17; i++)
        many[i] = fdl_zeros(FDL_SHAPE(2));
    assert_null(fdl_data_tensors((fdl_list){17, many}));
    check_error(FDL_E_ARG, "17", "16");
    assert_int_equal(fdl_data_len(NULL), -1);
    check_error(FDL_E_NULL, "ds");
    assert_int_equal(fdl_data_arity(NULL), -1);
    check_error(FDL_E_NULL, "ds");
    assert_null(fdl_data_ref(NULL));
    check_error(FDL_E_NULL, "ds");
    fdl_data_free(NULL);
}

static void stacking(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_dataset *ds = fdl_data_fn(20, 3, three_positions, NULL);
    check_some(ds);
    fdl_tensor *out[3];
    int64_t idx[] = {5, 10, 15, 19};
    check_ok(fdl_data_fetch(ds, idx, 4, out));
    assert_true(fdl_shape_eq(fdl_shape_of(out[0]), FDL_SHAPE(4, 3, 8, 8)));
    assert_true(fdl_shape_eq(fdl_shape_of(out[1]), FDL_SHAPE(4, 26)));
    assert_int_equal(fdl_dtype_of(out[1]), FDL_FLOAT64);
    expect(out[2], FDL_INT64, FDL_SHAPE(4, 2), (double[]){5, -5, 10, -10, 15, -15, 19, -19});
    for (int j = 0; j < 4; j++)
        assert_true(fdl_same(fdl_select(out[0], 0, j), fdl_full(FDL_SHAPE(3, 8, 8), (double)idx[j])));
    fdl_data_free(ds);
}

static void kinds(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_dataset *ds = fdl_data_fn(20, 5, every_kind, NULL);
    check_some(ds);
    fdl_tensor *out[5];
    check_ok(fdl_data_fetch(ds, (int64_t[]){3, 4}, 2, out));
    expect(out[0], FDL_INT64, FDL_SHAPE(2), (double[]){3, 4});
    expect(out[1], FDL_BOOL, FDL_SHAPE(2), (double[]){1, 0});
    expect(out[2], FDL_UINT8, FDL_SHAPE(2), (double[]){3, 4});
    expect(out[3], FDL_FLOAT32, FDL_SHAPE(2, 0, 3), NULL);
    expect(out[4], FDL_FLOAT32, FDL_SHAPE(2, 2, 2), (double[]){3, 5, 4, 6, 4, 6, 5, 7});
    fdl_data_free(ds);
}

/* A dataset of two positions whose sample 7 is wrong in the way that ctx says. */
static fdl_status odd_one(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)n;
    const char *how = i == 7 ? ctx : "";
    out[0] = fdl_zeros(FDL_SHAPE(26));
    out[1] = fdl_zeros(FDL_SHAPE(2));
    if (!strcmp(how, "more"))
        out[2] = fdl_zeros(FDL_SHAPE(2));
    if (!strcmp(how, "shape"))
        out[0] = fdl_zeros(FDL_SHAPE(27));
    if (!strcmp(how, "dtype"))
        out[1] = fdl_zeros(FDL_SHAPE(2), .dtype = FDL_INT64);
    if (!strcmp(how, "null"))
        out[1] = NULL;
    if (!strcmp(how, "quiet"))
        return FDL_E_IO;
    if (!strcmp(how, "told"))
        return fdl_fail(FDL_E_NET, "the line is down");
    if (!strcmp(how, "deep"))
        out[0] = fdl_zeros(FDL_SHAPE(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
    return FDL_OK;
}

static void odd_samples(void **state)
{
    (void)state;
    static const struct {
        const char *how;
        fdl_status status;
        const char *words[4];
    } rows[] = {
        {"more", FDL_E_SHAPE, {"sample 7", "3 tensors", "2"}},
        {"shape",
         FDL_E_SHAPE,
         {"position 0 of sample 7", "float32[27]", "position 0 of sample ", "float32[26]"}},
        {"dtype", FDL_E_SHAPE, {"position 1 of sample 7", "int64[2]", "position 1 of sample ", "float32[2]"}},
        {"null", FDL_E_STATE, {"position 1 of sample 7", "NULL"}},
        {"quiet", FDL_E_IO, {"sample 7", "FDL_E_IO"}},
        {"told", FDL_E_NET, {"sample 7: the line is down"}},
    };
    int64_t before = fdl_live_tensors();
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (int later = 0; later < 2; later++) { /* within a batch, and on its own after a good one */
            FDL_SCOPE;
            fdl_dataset *ds = fdl_data_fn(20, 2, odd_one, (void *)(uintptr_t)rows[r].how);
            check_some(ds);
            fdl_tensor *out[2];
            if (later)
                check_ok(fdl_data_fetch(ds, (int64_t[]){5}, 1, out));
            assert_int_equal(
                fdl_data_fetch(ds, later ? (int64_t[]){7} : (int64_t[]){4, 5, 7, 8}, later ? 1 : 4, out),
                rows[r].status);
            assert_true(!out[0] && !out[1]);
            for (int w = 0; w < 4 && rows[r].words[w]; w++)
                assert_non_null(strstr(fdl_last_error()->message, rows[r].words[w]));
            check_error(rows[r].status, "7");
            fdl_data_free(ds);
        }
    {
        FDL_SCOPE;
        fdl_dataset *ds = fdl_data_fn(20, 2, odd_one, (void *)(uintptr_t) "deep");
        fdl_tensor *out[2];
        assert_int_equal(fdl_data_fetch(ds, (int64_t[]){7}, 1, out), FDL_E_SHAPE);
        check_error(FDL_E_SHAPE, "12 dims");
        fdl_data_free(ds);
    }
    assert_int_equal(fdl_live_tensors(), before);
}

static void ranges(void **state)
{
    (void)state;
    FDL_SCOPE;
    fdl_dataset *ds = ten_rows();
    fdl_tensor *out[2];
    int64_t bad[] = {-1, 10, INT64_MAX, INT64_MIN};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fdl_data_fetch(ds, (int64_t[]){0, bad[i]}, 2, out), FDL_E_RANGE);
        check_error(FDL_E_RANGE, "position 1", "10 samples");
    }
    assert_int_equal(fdl_data_fetch(ds, (int64_t[]){0}, -1, out), FDL_E_ARG);
    check_error(FDL_E_ARG, "-1");
    assert_int_equal(fdl_data_fetch(ds, NULL, 1, out), FDL_E_NULL);
    check_error(FDL_E_NULL, "idx");
    assert_int_equal(fdl_data_fetch(ds, (int64_t[]){0}, 1, NULL), FDL_E_NULL);
    check_error(FDL_E_NULL, "out");
    assert_int_equal(fdl_data_fetch(NULL, (int64_t[]){0}, 1, out), FDL_E_NULL);
    check_error(FDL_E_NULL, "ds");
    fdl_data_free(ds);
}

/* ---- tables ---------------------------------------------------------------------------------------- */

static int freed;
static void count_free(void *self)
{
    (void)self;
    freed++;
}
static int64_t five(void *self)
{
    (void)self;
    return 5;
}
static int64_t minus(void *self)
{
    (void)self;
    return -5;
}

/* self "one more": a row too many; NULL: for sample 0 a tensor that is kept, else one without rows */
static fdl_tensor *kept_one;
static fdl_status bad_batch(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    (void)n;
    out[0] = self ? fdl_zeros(FDL_SHAPE(k + 1)) : idx[0] == 0 ? kept_one : fdl_zeros(FDL_SCALAR);
    return FDL_OK;
}

static void tables(void **state)
{
    (void)state;
    FDL_SCOPE;
    freed = 0;
    assert_null(fdl_data_new(&(fdl_data_vtab){.len = five, .free = count_free, .arity = 1}, NULL));
    check_error(FDL_E_ARG, "neither");
    for (int arity = 0; arity <= 17; arity += 17) {
        assert_null(fdl_data_new(
            &(fdl_data_vtab){.len = five, .batch = bad_batch, .free = count_free, .arity = arity}, NULL));
        check_error(FDL_E_ARG, "arity", "16");
    }
    assert_null(fdl_data_new(
        &(fdl_data_vtab){.len = minus, .batch = bad_batch, .free = count_free, .arity = 1}, NULL));
    check_error(FDL_E_ARG, "-5");
    assert_null(fdl_data_new(&(fdl_data_vtab){.batch = bad_batch, .free = count_free, .arity = 1}, NULL));
    check_error(FDL_E_NULL, "len");
    assert_int_equal(freed, 5);
    assert_null(fdl_data_new(NULL, NULL));
    check_error(FDL_E_NULL, "table");
    assert_null(fdl_data_fn(3, 1, NULL, NULL));
    check_error(FDL_E_NULL, "item");

    fdl_tensor *out[1];
    fdl_dataset *ds = fdl_data_new(
        &(fdl_data_vtab){.len = five, .batch = bad_batch, .free = count_free, .arity = 1}, "more");
    check_some(ds);
    assert_int_equal(fdl_data_fetch(ds, (int64_t[]){0, 1}, 2, out), FDL_E_SHAPE);
    check_error(FDL_E_SHAPE, "dim 0 must be 2", "float32[3]");
    check_some(fdl_data_ref(ds));
    fdl_data_free(ds);
    assert_int_equal(freed, 5);
    fdl_data_free(ds);
    assert_int_equal(freed, 6);
}

/* A tensor that the callback keeps stays its own, and what comes out is the caller's. */
static void kept_tensors(void **state)
{
    (void)state;
    {
        FDL_SCOPE;
        kept_one = fdl_keep(fdl_ones(FDL_SHAPE(1)));
    }
    int64_t before = fdl_live_tensors();
    fdl_dataset *ds = fdl_data_new(&(fdl_data_vtab){.len = five, .batch = bad_batch, .arity = 1}, NULL);
    check_some(ds);
    {
        FDL_SCOPE;
        fdl_tensor *out[1];
        check_ok(fdl_data_fetch(ds, (int64_t[]){0}, 1, out));
        assert_true(out[0] != kept_one && fdl_is(out[0], kept_one));
        assert_int_equal(fdl_data_fetch(ds, (int64_t[]){1}, 1, out), FDL_E_SHAPE);
        check_error(FDL_E_SHAPE, "dim 0 must be 1");
    }
    assert_int_equal(fdl_live_tensors(), before);
    fdl_data_free(ds);
    check_ok(fdl_free(kept_one));
}

static atomic_int inside, most;
static fdl_status alone(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    int now = atomic_fetch_add(&inside, 1) + 1;
    if (now > atomic_load(&most))
        atomic_store(&most, now);
    usleep(200);
    atomic_fetch_sub(&inside, 1);
    out[0] = fdl_scalar((double)i);
    return FDL_OK;
}

static void *fetcher(void *ctx)
{
    for (int i = 0; i < 50; i++) {
        FDL_SCOPE;
        fdl_tensor *out[1];
        if (fdl_data_fetch(ctx, (int64_t[]){i % 5}, 1, out) != FDL_OK || fdl_item(out[0]) != i % 5)
            return ctx;
    }
    return NULL;
}

static void serial(void **state)
{
    (void)state;
    for (unsigned flags = 0; flags <= FDL_DATA_SERIAL; flags++) {
        atomic_store(&most, 0);
        fdl_dataset *ds =
            fdl_data_new(&(fdl_data_vtab){.len = five, .item = alone, .arity = 1, .flags = flags}, NULL);
        check_some(ds);
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, fetcher, ds), 0);
        for (int i = 0; i < 4; i++) {
            void *failed;
            pthread_join(threads[i], &failed);
            assert_null(failed);
        }
        assert_true(flags == FDL_DATA_SERIAL ? atomic_load(&most) == 1 : atomic_load(&most) > 1);
        fdl_data_free(ds);
    }
}

static void cuda_samples(void **state)
{
    (void)state;
    if (!fdl_cuda_available()) {
        print_message("skipped: no CUDA device\n");
        skip();
    }
    FDL_SCOPE;
    assert_null(fdl_data_tensors(FDL_LIST(fdl_zeros(FDL_SHAPE(3), .device = FDL_CUDA(0)))));
    check_error(FDL_E_DEVICE, "position 0", "cuda");
    check_ok(fdl_set_default_device(FDL_CUDA(0))); /* so that what the callback makes is there */
    fdl_dataset *ds = fdl_data_fn(20, 3, three_positions, NULL);
    fdl_tensor *out[3];
    fdl_status status = fdl_data_fetch(ds, (int64_t[]){1, 2}, 2, out);
    fdl_set_default_device(FDL_CPU);
    assert_int_equal(status, FDL_E_DEVICE);
    check_error(FDL_E_DEVICE, "position 0 of sample 1", "cuda");
    fdl_data_free(ds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors),      cmocka_unit_test(wrong_tensors), cmocka_unit_test(stacking),
        cmocka_unit_test(kinds),        cmocka_unit_test(odd_samples),   cmocka_unit_test(ranges),
        cmocka_unit_test(tables),       cmocka_unit_test(kept_tensors),  cmocka_unit_test(serial),
        cmocka_unit_test(cuda_samples),
    };
    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
