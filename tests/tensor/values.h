/* Tensors written out, and checks of values written out: for tests whose numbers come from mathematics. On the default device,
 * but where a test says which. */
#ifndef FLODL_TESTS_TENSOR_VALUES_H
#define FLODL_TESTS_TENSOR_VALUES_H

#include "check.h"

#include <math.h>

/* A float32 tensor of these numbers: F32(FDL_SHAPE(2, 2), 1, 2, 3, 4). I64 of whole numbers, B of truth values. */
#define F32(shape, ...) fdl_from_f64(((const double[]){__VA_ARGS__}), shape, .dtype = FDL_FLOAT32)
#define I64(shape, ...) fdl_from_i64(((const int64_t[]){__VA_ARGS__}), shape)
#define B(shape, ...) fdl_from_bool(((const bool[]){__VA_ARGS__}), shape)

/* The elements of x in order are these: off by no more than 1e-5, relative above 1; NaN where NaN is wanted. */
static inline void check_values_(fdl_tensor *x, int64_t n, const double *want, const char *text,
                                 const char *file, int line)
{
    enum { MOST = 256 };
    double got[MOST];
    check_some_(x, text, file, line);
    if (n > MOST || fdl_numel(x) != n) {
        print_error("%s:%d: %s has %lld elements, not %lld\n", file, line, text, (long long)fdl_numel(x),
                    (long long)n);
        _fail(file, line);
    }
    check_ok_(fdl_to_f64(x, got, n), "fdl_to_f64", file, line);
    for (int64_t i = 0; i < n; i++) {
        if (isnan(want[i]) ? isnan(got[i])
                           : got[i] == want[i] || fabs(got[i] - want[i]) <= 1e-5 * fmax(1, fabs(want[i])))
            continue;
        print_error("%s:%d: %s: element %lld is %.9g, not %.9g\n", file, line, text, (long long)i, got[i],
                    want[i]);
        _fail(file, line);
    }
}
#define check_values(x, ...)                                                                               \
    check_values_(x, (int64_t)(sizeof((double[]){__VA_ARGS__}) / sizeof(double)), (double[]){__VA_ARGS__}, \
                  #x, __FILE__, __LINE__)

static inline void check_shape_(fdl_tensor *x, fdl_shape want, const char *text, const char *file, int line)
{
    char is[128];
    check_some_(x, text, file, line);
    if (fdl_shape_eq(fdl_shape_of(x), want))
        return;
    print_error("%s:%d: %s is %s\n", file, line, text, fdl_describe(x, is, sizeof is));
    _fail(file, line);
}
/* x has these extents; check_shape(x, FDL_SCALAR) is spelled check_scalar(x). */
#define check_shape(x, ...) check_shape_(x, FDL_SHAPE(__VA_ARGS__), #x, __FILE__, __LINE__)
#define check_scalar(x) check_shape_(x, FDL_SCALAR, #x, __FILE__, __LINE__)

/* The call gives nothing, and the error has this status and these words. */
#define check_refused(call, ...)  \
    do {                          \
        assert_null(call);        \
        check_error(__VA_ARGS__); \
    } while (0)
#define check_status(call, status, ...)   \
    do {                                  \
        assert_int_equal(call, status);   \
        check_error(status, __VA_ARGS__); \
    } while (0)

#endif
