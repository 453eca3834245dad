/* Small datasets and a check of values, shared by the tests of this folder. */
#ifndef FLODL_TESTS_DATA_SAMPLES_H
#define FLODL_TESTS_DATA_SAMPLES_H

#include "check.h"

/* x has this dtype, shape and (row-major) values. */
static inline void expect_(fdl_tensor *x, fdl_dtype dtype, fdl_shape shape, const double *values,
                           const char *file, int line)
{
    check_some_(x, "x", file, line);
    double got[64];
    int64_t n = fdl_numel(x);
    if (fdl_dtype_of(x) != dtype || !fdl_shape_eq(fdl_shape_of(x), shape) || n > 64 ||
        fdl_to_f64(x, got, n) != FDL_OK) {
        char text[256];
        print_error("%s:%d: is %s\n", file, line, fdl_describe(x, text, sizeof text));
        _fail(file, line);
    }
    for (int64_t i = 0; i < n; i++)
        if (got[i] != values[i]) {
            print_error("%s:%d: element %d is %g, expected %g\n", file, line, (int)i, got[i], values[i]);
            _fail(file, line);
        }
}
#define expect(x, dtype, shape, ...) expect_(x, dtype, shape, (__VA_ARGS__), __FILE__, __LINE__)

/* [10, 4] float32 0 to 39, [10, 2] int64 0 to 19 */
static inline fdl_dataset *ten_rows(void)
{
    FDL_SCOPE;
    return fdl_data_tensors(
        FDL_LIST(fdl_reshape(fdl_arange(0, 40, 1), FDL_SHAPE(10, 4)),
                 fdl_reshape(fdl_arange(0, 20, 1, .dtype = FDL_INT64), FDL_SHAPE(10, 2))));
}

/* [to - from] float32: from, from + 1, ... */
static inline fdl_dataset *numbers(int64_t from, int64_t to)
{
    FDL_SCOPE;
    return fdl_data_tensors(FDL_LIST(fdl_arange((double)from, (double)to, 1)));
}

static inline fdl_status three_positions(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    assert_int_equal(n, 3);
    out[0] = fdl_full(FDL_SHAPE(3, 8, 8), (double)i);
    out[1] = fdl_full(FDL_SHAPE(26), (double)i, .dtype = FDL_FLOAT64);
    out[2] = fdl_ivec(i, -i);
    return FDL_OK;
}

/* Scalars of three dtypes, a tensor without elements, a strided one. */
static inline fdl_status every_kind(void *ctx, int64_t i, fdl_tensor **out, int n)
{
    (void)ctx;
    (void)n;
    out[0] = fdl_scalar((double)i, .dtype = FDL_INT64);
    out[1] = fdl_scalar((double)(i % 2), .dtype = FDL_BOOL);
    out[2] = fdl_scalar((double)i, .dtype = FDL_UINT8);
    out[3] = fdl_zeros(FDL_SHAPE(0, 3));
    out[4] = fdl_transpose(fdl_reshape(fdl_arange((double)i, (double)i + 4, 1), FDL_SHAPE(2, 2)), 0, 1);
    return FDL_OK;
}

/* Bit by bit on one device. A division by a number is one by its reciprocal on a GPU. */
static inline bool same_values(fdl_tensor *x, fdl_tensor *y)
{
    FDL_SCOPE;
    if (fdl_device_eq(fdl_device_of(x), fdl_device_of(y)) || !fdl_dtype_is_floating(fdl_dtype_of(x)))
        return fdl_same(fdl_cpu(x), fdl_cpu(y));
    return fdl_dtype_of(x) == fdl_dtype_of(y) && fdl_shape_eq(fdl_shape_of(x), fdl_shape_of(y)) &&
           fdl_allclose(fdl_cpu(x), fdl_cpu(y), .rtol = 1e-6, .atol = 0);
}

/* Both loaders give the same batches in this epoch. Returns how many. */
static inline int same_epoch(fdl_loader *a, fdl_loader *b, int64_t epoch)
{
    int n = 0;
    fdl_iter *ia = fdl_data_epoch(a, epoch), *ib = fdl_data_epoch(b, epoch);
    check_some(ia);
    check_some(ib);
    for (;; n++) {
        FDL_SCOPE;
        assert_int_equal(fdl_data_left(ia), fdl_data_left(ib));
        fdl_batch *x = fdl_data_next(ia), *y = fdl_data_next(ib);
        check_ok(fdl_data_status(a));
        check_ok(fdl_data_status(b));
        assert_true(!x == !y);
        if (!x)
            break;
        assert_int_equal(fdl_data_rows(x), fdl_data_rows(y));
        assert_memory_equal(fdl_data_indices(x), fdl_data_indices(y),
                            (size_t)fdl_data_rows(x) * sizeof(int64_t));
        assert_int_equal(fdl_data_arity_of(x), fdl_data_arity_of(y));
        for (int p = 0; p < fdl_data_arity_of(x); p++)
            assert_true(same_values(fdl_data_at(x, p), fdl_data_at(y, p)));
    }
    fdl_data_epoch_end(ia);
    fdl_data_epoch_end(ib);
    return n;
}

#endif
