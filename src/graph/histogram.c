/* Histograms of tensors, counted where the tensor is: fixed buckets, so that batches add up and nothing has to be known of a
 * tensor before it is counted. The buckets are those of TensorFlow's and PyTorch's event writers: their limits grow by 10 % from
 * 1e-12 to 1e20, either side of 0. */
#include "series.h"

#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

#include <float.h>
#include <math.h>

enum {
    SIDE = 775,
    BUCKETS = 2 * SIDE + 1
}; /* 774 limits below 1e20 and the largest number; 0 between the sides */

/* What is gathered, on the device and on the host alike: counts of the buckets and of what isn't finite, sum and sum
 * of squares, which add up; then -min and max, of which the largest counts. */
enum { AT_NONFINITE = BUCKETS, AT_SUM, AT_SQUARES, ADDITIVE, AT_MIN = ADDITIVE, AT_MAX, GATHERED };

struct histogram_sum {
    fdl_tensor *on_device; /* kept, float64 [GATHERED]; NULL: nothing waits */
    double *on_host;       /* [GATHERED]; NULL: nothing has come */
    bool arrived;
};

/* ---- limits -------------------------------------------------------------------------------------------- */

static void write_limits(double limits[BUCKETS])
{
    double v = 1e-12;
    limits[SIDE] = 0;
    for (int i = 1; i < SIDE; i++, v *= 1.1) {
        limits[SIDE + i] = v;
        limits[SIDE - i] = -v;
    }
    limits[BUCKETS - 1] = DBL_MAX;
    limits[0] = -DBL_MAX;
}

/* On x's device and in its dtype, which is float32 or float64. */
static fdl_tensor *limits_for(fdl_tensor *cache[2], fdl_tensor *x)
{
    int which = fdl_dtype_of(x) == FDL_FLOAT64;
    fdl_device device = fdl_device_of(x);
    if (cache[which] && fdl_device_eq(fdl_device_of(cache[which]), device))
        return cache[which];
    double limits[BUCKETS];
    write_limits(limits);
    fdl_tensor *made =
        fdl_keep(fdl_from_f64(limits, FDL_SHAPE(BUCKETS), .dtype = fdl_dtype_of(x), .device = device));
    if (!made)
        return NULL;
    fdl_free(cache[which]);
    return cache[which] = made;
}

/* ---- gathering ----------------------------------------------------------------------------------------- */

void histogram_sum_free(histogram_sum *sum)
{
    if (!sum)
        return;
    fdl_free(sum->on_device);
    free(sum->on_host);
    free(sum);
}

static fdl_tensor *as_row(fdl_tensor *x)
{
    return fdl_reshape(x, FDL_SHAPE(1));
}

/* x's own [GATHERED]. */
static fdl_tensor *gathered(fdl_tensor *cache[2], fdl_tensor *x)
{
    fdl_dtype dtype = fdl_dtype_of(x);
    bool narrow = dtype == FDL_FLOAT16 || dtype == FDL_BFLOAT16 || dtype == FDL_FLOAT32;
    fdl_device device = fdl_device_of(x);
    int64_t n = fdl_numel(x);
    x = fdl_reshape(fdl_to_dtype(fdl_detach(x), narrow ? FDL_FLOAT32 : FDL_FLOAT64), FDL_SHAPE(n));
    fdl_tensor *limits = x ? limits_for(cache, x) : NULL;
    fdl_tensor *bad = fdl_logical_not(fdl_isfinite(x));
    fdl_tensor *high = fdl_masked_fill(x, bad, (double)INFINITY);
    fdl_tensor *numbers = fdl_to_dtype(fdl_masked_fill(x, bad, 0.0), FDL_FLOAT64);
    fdl_tensor *one = fdl_ones(FDL_SHAPE(1), .dtype = FDL_FLOAT64, .device = device);
    fdl_tensor *counts =
        fdl_index_add(fdl_zeros(FDL_SHAPE(BUCKETS + 1), .dtype = FDL_FLOAT64, .device = device), 0,
                      fdl_bucketize(high, limits, .right = true), fdl_expand(one, FDL_SHAPE(n)));
    fdl_tensor *least = fdl_to_dtype(fdl_max(fdl_neg(high)), FDL_FLOAT64);
    fdl_tensor *most = fdl_to_dtype(fdl_max(fdl_masked_fill(x, bad, (double)-INFINITY)), FDL_FLOAT64);
    return fdl_cat(FDL_LIST(counts, as_row(fdl_sum(numbers)), as_row(fdl_sum(fdl_square(numbers))),
                            as_row(least), as_row(most)),
                   0);
}

static fdl_tensor *combined(fdl_tensor *a, fdl_tensor *b)
{
    b = fdl_to_device_of(b, a);
    return fdl_cat(FDL_LIST(fdl_add(fdl_narrow(a, 0, 0, ADDITIVE), fdl_narrow(b, 0, 0, ADDITIVE)),
                            fdl_maximum(fdl_narrow(a, 0, ADDITIVE, GATHERED - ADDITIVE),
                                        fdl_narrow(b, 0, ADDITIVE, GATHERED - ADDITIVE))),
                   0);
}

fdl_status histogram_sum_add(histogram_sum **sum, fdl_tensor *limits[2], fdl_tensor *x)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *all = gathered(limits, x);
    if (all && *sum && (*sum)->on_device)
        all = combined(all, (*sum)->on_device); /* to where x is */
    fdl_tensor *kept = all ? fdl_keep(all) : NULL;
    if (!kept)
        return fdl_error_pending();
    if (!*sum && !(*sum = calloc(1, sizeof **sum))) {
        fdl_free(kept);
        return fdl_fail(FDL_E_OOM, "no memory for a histogram");
    }
    fdl_free((*sum)->on_device);
    (*sum)->on_device = kept;
    return FDL_OK;
}

fdl_tensor *histogram_sum_waiting(const histogram_sum *sum, fdl_device *device)
{
    if (!sum || !sum->on_device)
        return NULL;
    *device = fdl_device_of(sum->on_device);
    return sum->on_device;
}

fdl_status histogram_sum_reserve(histogram_sum *sum)
{
    if (!sum->on_host)
        sum->on_host = malloc(GATHERED * sizeof *sum->on_host);
    return sum->on_host ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory for a histogram");
}

void histogram_sum_arrived(histogram_sum *sum, const double *values)
{
    for (int i = 0; i < GATHERED; i++)
        if (!sum->arrived)
            sum->on_host[i] = values[i];
        else if (i < ADDITIVE)
            sum->on_host[i] += values[i];
        else
            sum->on_host[i] = fmax(sum->on_host[i], values[i]);
    sum->arrived = true;
    fdl_free(sum->on_device);
    sum->on_device = NULL;
}

/* ---- the result ---------------------------------------------------------------------------------------- */

fdl_histogram *histogram_of(const histogram_sum *sum, int64_t epoch)
{
    const double *all = sum->on_host;
    double limits[BUCKETS], num = 0;
    write_limits(limits);
    int first = BUCKETS, last = -1;
    for (int i = 0; i < BUCKETS; i++)
        if (all[i] > 0) {
            num += all[i];
            first = i < first ? i : first;
            last = i;
        }
    /* One empty bucket below says where the first one begins. */
    first -= first > 0 && last >= 0;
    int n = last < 0 ? 0 : last - first + 1;
    fdl_histogram *h = malloc(sizeof *h + 2 * sizeof(double) * (size_t)n);
    if (!h)
        return fdl_fail_null(FDL_E_OOM, "no memory for a histogram");
    double *own = (double *)(h + 1);
    *h = (fdl_histogram){.n = n,
                         .limits = own,
                         .counts = own + n,
                         .num = num,
                         .min = -all[AT_MIN],
                         .max = all[AT_MAX],
                         .sum = all[AT_SUM],
                         .sum_squares = all[AT_SQUARES],
                         .nonfinite = all[AT_NONFINITE],
                         .epoch = epoch};
    if (n) {
        memcpy(own, limits + first, sizeof *own * (size_t)n);
        memcpy(own + n, all + first, sizeof *own * (size_t)n);
    }
    return h;
}
