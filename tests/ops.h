/* Operands for the rows of ops.def: what a sample such as "A2x3,i4:5" says, as tensors. make_ops.py fills the
 * same values. */
#ifndef FLODL_TESTS_OPS_H
#define FLODL_TESTS_OPS_H

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "flodl/flodl.h"

enum { OPS_OPERANDS = 7, OPS_ELEMENTS = 1024 };

typedef struct ops_operands {
    int n;
    fdl_tensor *at[OPS_OPERANDS];
    bool differentiable[OPS_OPERANDS];
} ops_operands;

typedef fdl_tensor *ops_call(fdl_list in, void *ctx);

/* The operands under the names that the calls of ops.def use. */
#define OPS_NAMES                                                                                         \
    FDL_UNUSED fdl_tensor *a = ops_at(in, 0), *b = ops_at(in, 1), *c = ops_at(in, 2), *d = ops_at(in, 3); \
    FDL_UNUSED fdl_tensor *e = ops_at(in, 4), *f = ops_at(in, 5), *g = ops_at(in, 6), *out = NULL;        \
    FDL_UNUSED fdl_list two = {0, NULL};                                                                  \
    (void)ctx;
static inline fdl_tensor *ops_at(fdl_list in, int i)
{
    return i < in.n ? in.at[i] : NULL;
}

/* Where the values of a letter lie. */
static inline bool ops_range(char letter, double *lo, double *hi)
{
    static const struct {
        char letter;
        double lo, hi;
    } ranges[] = {{'a', -2, 2}, {'p', 0.25, 2},    {'u', -0.9, 0.9}, {'g', 1.1, 3},
                  {'w', -6, 6}, {'q', 0.05, 0.95}, {'b', -2, -0.25}, {'s', -2, 2}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (ranges[i].letter == letter) {
            *lo = ranges[i].lo;
            *hi = ranges[i].hi;
            return true;
        }
    return false;
}

/* Element k of n of operand `index`: a permutation of equal steps, moved to odd multiples of 1/128 (and a
 * little more for later operands), so that values are distinct and no kink is near. */
static inline double ops_value(char letter, int index, int64_t k, int64_t n)
{
    double lo, hi;
    if (!ops_range(letter, &lo, &hi))
        return 0;
    int64_t step = n % 7 ? 7 : n % 11 ? 11 : 13;
    int64_t place = letter == 's' ? k : (k * step + 3 * index + 1) % n;
    double v = lo + (hi - lo) * ((double)place + 0.5) / (double)n;
    return (2 * floor(v * 64) + 1) / 128 + index / 512.0;
}

/* x with other strides: the same values over every second element of another order. */
static inline fdl_tensor *ops_strided(fdl_tensor *x)
{
    int n = fdl_ndim(x);
    fdl_tensor *y = x;
    if (n > 1)
        y = fdl_transpose(fdl_contiguous(fdl_transpose(x, 0, n - 1)), 0, n - 1);
    return fdl_select(fdl_stack(FDL_LIST(y, y), -1), -1, 0);
}

/* x's elements in storage of their own, contiguous or not as x is. */
static inline fdl_tensor *ops_copy(fdl_tensor *x)
{
    return fdl_is_contiguous(x) ? fdl_clone(x) : ops_strided(x);
}

/* An operation in place on a copy of a, `out`: that, or NULL if the operation failed. */
#define OPS_IN_PLACE(call) (out = ops_copy(a), (call) == FDL_OK ? out : NULL)
/* The same on the list `two` of copies of a and b; their elements one behind the other. */
#define OPS_BOTH(call) (two = FDL_LIST(ops_copy(a), ops_copy(b)), (call) == FDL_OK ? ops_joined(two) : NULL)

static inline fdl_tensor *ops_joined(fdl_list list)
{
    fdl_tensor *x = fdl_list_at(list, 0), *y = fdl_list_at(list, 1);
    return fdl_cat(FDL_LIST(fdl_reshape(x, FDL_SHAPE(-1)), fdl_reshape(y, FDL_SHAPE(-1))), 0);
}

/* Distances for losses that take one: along the axes, [*, D] -> [*]; and one that fails without an error. */
static inline fdl_tensor *ops_by_blocks(fdl_tensor *x, fdl_tensor *y, void *ctx)
{
    (void)ctx;
    return fdl_sum_dim(fdl_abs(fdl_sub(x, y)), -1);
}
static inline fdl_tensor *ops_nowhere(fdl_tensor *x, fdl_tensor *y, void *ctx)
{
    (void)x;
    (void)y;
    (void)ctx;
    return NULL;
}

/* One operand, "A2x3"; *text moves behind it. NULL for a text that is none, or a failure. */
static inline fdl_tensor *ops_operand(const char **text, int index, fdl_dtype dtype, bool *differentiable)
{
    const char *p = *text;
    char letter = (char)tolower((unsigned char)*p);
    *differentiable = letter != *p;
    p++;
    int64_t below = 0;
    if (letter == 'i' || letter == 'o') {
        char *end;
        below = strtoll(p, &end, 10);
        p = end + (*end == ':');
    }
    fdl_shape shape = FDL_SCALAR;
    while (isdigit((unsigned char)*p) && shape.ndim < FDL_MAX_DIMS) {
        char *end;
        shape.d[shape.ndim++] = strtoll(p, &end, 10);
        p = end + (*end == 'x');
    }
    *text = p;
    int64_t n = fdl_shape_numel(shape);
    if (n > OPS_ELEMENTS || (letter == 'i' && below < 1) || !strchr("apugwqbszhikoml", letter))
        return NULL;
    double values[OPS_ELEMENTS];
    bool real = strchr("apugwqbszhl", letter) != NULL;
    for (int64_t k = 0; k < n; k++) {
        double v = letter == 'o'   ? (double)(k * below)
                   : letter == 'i' ? (double)((k * 7 + index + 1) % below)
                   : letter == 'm' ? (k * 5 + 2) % 3 != 0
                   : letter == 'l' ? ((k * 5 + 2) % 3 != 0 ? 1 : -1)
                   : letter == 'h' ? (double)k / 2 - 2
                                   : ops_value(letter, index, k, n);
        if (real && dtype == FDL_BOOL)
            v = v > 0;
        else if (real && !fdl_dtype_is_floating(dtype))
            v = dtype == FDL_UINT8 ? fabs(floor(v * 4)) : floor(v * 4);
        values[k] = v;
    }
    fdl_dtype own = letter == 'm' ? FDL_BOOL : real ? dtype : FDL_INT64;
    return fdl_from_f64(n ? values : NULL, shape, .dtype = own);
}

/* The operands of one sample, into the current scope. False when the text is wrong or a tensor can't be made.
 */
static inline bool ops_sample(const char *text, fdl_dtype dtype, bool strided, ops_operands *o)
{
    memset(o, 0, sizeof *o);
    for (;;) {
        if (o->n == OPS_OPERANDS)
            return false;
        fdl_tensor *x = ops_operand(&text, o->n, dtype, &o->differentiable[o->n]);
        if (strided)
            x = ops_strided(x);
        if (!x)
            return false;
        o->at[o->n++] = x;
        if (*text != ',')
            return *text == 0 || *text == ' ';
        text++;
    }
}

/* The sample behind this one; NULL after the last. */
static inline const char *ops_next(const char *samples)
{
    const char *space = strchr(samples, ' ');
    return space ? space + 1 : NULL;
}

#endif
