/* Initial values. The bounds are computed in double and in PyTorch's order of operations, so that equal seeds
 * give equal bits. */
#include "flodl/init.h"

#include <inttypes.h>
#include <math.h>

#include "flodl/arithmetic.h"
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/linalg.h"
#include "flodl/random.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

fdl_status fdl_init_uniform(fdl_tensor *t, double lo, double hi)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    if (!(lo <= hi))
        return fdl_fail(FDL_E_ARG, "fdl_init_uniform: lo is %g, hi %g", lo, hi);
    FDL_NO_GRAD;
    return fdl_uniform_(t, lo, hi);
}

fdl_status fdl_init_normal(fdl_tensor *t, double mean, double std)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    if (!(std >= 0))
        return fdl_fail(FDL_E_ARG, "fdl_init_normal: std is %g", std);
    FDL_NO_GRAD;
    return fdl_normal_(t, mean, std);
}

fdl_status fdl_init_constant(fdl_tensor *t, double value)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    FDL_NO_GRAD;
    return fdl_fill_(t, value);
}

fdl_status fdl_init_zeros(fdl_tensor *t)
{
    return fdl_init_constant(t, 0);
}

fdl_status fdl_init_ones(fdl_tensor *t)
{
    return fdl_init_constant(t, 1);
}

/* ---- scaled by the fans ------------------------------------------------------------------------- */

fdl_status fdl_init_fans(fdl_tensor *t, int64_t *fan_in, int64_t *fan_out)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    fdl_shape s = fdl_shape_of(t);
    if (s.ndim < 0)
        return fdl_error_pending();
    if (s.ndim < 2) {
        char text[256];
        return fdl_fail(FDL_E_ARG, "fdl_init_fans: %s has no fans, it needs 2 dims or more",
                        fdl_describe(t, text, sizeof text));
    }
    int64_t rest = 1;
    for (int i = 2; i < s.ndim; i++)
        rest *= s.d[i];
    if (fan_in)
        *fan_in = s.d[1] * rest;
    if (fan_out)
        *fan_out = s.d[0] * rest;
    return FDL_OK;
}

double fdl_init_gain(fdl_nonlinearity nonlinearity, double param)
{
    switch (nonlinearity) {
    case FDL_LINEAR:
    case FDL_SIGMOID:
        return 1;
    case FDL_TANH:
        return 5.0 / 3;
    case FDL_RELU:
        return sqrt(2);
    case FDL_LEAKY_RELU:
        return sqrt(2 / (1 + pow(param, 2)));
    case FDL_SELU:
        return 0.75;
    }
    fdl_fail(FDL_E_ARG, "fdl_init_gain: nonlinearity %d is none", (int)nonlinearity);
    return NAN;
}

/* What xavier draws with: gain * sqrt(2 / (fan_in + fan_out)). */
static fdl_status xavier_std(const char *function, fdl_tensor *t, const fdl_init_xavier_opts *opts,
                             double *std)
{
    int64_t in, out;
    FDL_TRY(fdl_init_fans(t, &in, &out));
    if (in + out == 0)
        return fdl_fail(FDL_E_ARG, "%s: both fans are 0", function);
    *std = fdl_opt_double(opts ? opts->gain : 0, 1) * sqrt(2.0 / (double)(in + out));
    return FDL_OK;
}

fdl_status fdl_init_xavier_uniform_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts)
{
    double std = 0;
    FDL_TRY(xavier_std("fdl_init_xavier_uniform", t, opts, &std));
    double bound = sqrt(3) * std;
    return fdl_init_uniform(t, -bound, bound);
}

fdl_status fdl_init_xavier_normal_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts)
{
    double std = 0;
    FDL_TRY(xavier_std("fdl_init_xavier_normal", t, opts, &std));
    return fdl_init_normal(t, 0, std);
}

/* What kaiming draws with: gain / sqrt(fan). */
static fdl_status kaiming_std(const char *function, fdl_tensor *t, const fdl_init_kaiming_opts *opts,
                              double *std)
{
    const fdl_init_kaiming_opts o = opts ? *opts : (fdl_init_kaiming_opts){0};
    if (o.mode != FDL_FAN_IN && o.mode != FDL_FAN_OUT)
        return fdl_fail(FDL_E_ARG, "%s: mode %d is none", function, (int)o.mode);
    int64_t in, out;
    FDL_TRY(fdl_init_fans(t, &in, &out));
    int64_t fan = o.mode == FDL_FAN_IN ? in : out;
    if (fan == 0)
        return fdl_fail(FDL_E_ARG, "%s: the fan is 0", function);
    double gain = fdl_init_gain(o.nonlinearity, fdl_opt_double(o.a, 0));
    if (isnan(gain))
        return fdl_fail(FDL_E_ARG, "%s: a is not a number", function);
    *std = gain / sqrt((double)fan);
    return FDL_OK;
}

fdl_status fdl_init_kaiming_uniform_opt(fdl_tensor *t, const fdl_init_kaiming_opts *opts)
{
    double std = 0;
    FDL_TRY(kaiming_std("fdl_init_kaiming_uniform", t, opts, &std));
    double bound = sqrt(3) * std;
    return fdl_init_uniform(t, -bound, bound);
}

fdl_status fdl_init_kaiming_normal_opt(fdl_tensor *t, const fdl_init_kaiming_opts *opts)
{
    double std = 0;
    FDL_TRY(kaiming_std("fdl_init_kaiming_normal", t, opts, &std));
    return fdl_init_normal(t, 0, std);
}

fdl_status fdl_init_bias_uniform(fdl_tensor *t, int64_t fan_in)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    if (fan_in < 1)
        return fdl_fail(FDL_E_ARG, "fdl_init_bias_uniform: fan_in is %" PRId64, fan_in);
    double bound = 1 / sqrt((double)fan_in);
    return fdl_init_uniform(t, -bound, bound);
}

/* ---- the others ---------------------------------------------------------------------------------------- */

/* v -= (v q^T) q, twice: what rounding leaves of q the first time goes the second time. */
static fdl_status without(fdl_tensor *v, fdl_tensor *q)
{
    for (int i = 0; i < 2; i++) {
        FDL_SCOPE;
        FDL_TRY(fdl_sub_(v, fdl_matmul(fdl_matmul(v, fdl_t(q)), q)));
    }
    return FDL_OK;
}

/* Gram-Schmidt on the rows of w [n, m], n <= m, in place: the transposed Q of a QR decomposition whose R has
 * a positive diagonal. Blocks of rows first lose all earlier rows in matrix products, then are made
 * orthogonal among themselves. */
static fdl_status orthonormal_rows(fdl_tensor *w)
{
    enum { BLOCK = 64 };
    int64_t n = fdl_size(w, 0);
    for (int64_t start = 0; start < n; start += BLOCK) {
        FDL_SCOPE;
        int64_t rows = n - start < BLOCK ? n - start : BLOCK;
        fdl_tensor *block = fdl_narrow(w, 0, start, rows);
        if (start > 0)
            FDL_TRY(without(block, fdl_narrow(w, 0, 0, start)));
        for (int64_t i = 0; i < rows; i++) {
            FDL_SCOPE;
            fdl_tensor *row = fdl_narrow(block, 0, i, 1);
            if (i > 0)
                FDL_TRY(without(row, fdl_narrow(block, 0, 0, i)));
            FDL_TRY(fdl_div_(row, fdl_norm(row)));
        }
    }
    return FDL_OK;
}

fdl_status fdl_init_orthogonal_opt(fdl_tensor *t, const fdl_init_xavier_opts *opts)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    FDL_TRY(fdl_init_fans(t, NULL, NULL));
    if (fdl_numel(t) == 0)
        return FDL_OK;
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *drawn = fdl_empty(FDL_SHAPE(fdl_size(t, 0), fdl_numel(t) / fdl_size(t, 0)),
                                  .dtype = fdl_dtype_of(t), .device = fdl_device_of(t));
    FDL_TRY(fdl_normal_(drawn, 0, 1));
    bool wide = fdl_size(drawn, 0) < fdl_size(drawn, 1);
    fdl_tensor *w = fdl_clone(fdl_double(wide ? drawn : fdl_contiguous(fdl_t(drawn))));
    FDL_TRY(orthonormal_rows(w));
    FDL_TRY(fdl_mul_scalar_(w, fdl_opt_double(opts ? opts->gain : 0, 1)));
    return fdl_copy_(t, fdl_reshape(wide ? w : fdl_t(w), fdl_shape_of(t)));
}

static double normal_cdf(double x)
{
    return (1 + erf(x / sqrt(2))) / 2;
}

fdl_status fdl_init_trunc_normal(fdl_tensor *t, double mean, double std, double a, double b)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    if (!(a < b) || !(std > 0))
        return fdl_fail(FDL_E_ARG, "fdl_init_trunc_normal: a is %g, b %g, std %g; it needs a < b and std > 0",
                        a, b, std);
    double far = a > mean ? (a - mean) / std : b < mean ? (mean - b) / std : 0;
    if (far > 8)
        return fdl_fail(FDL_E_ARG,
                        "fdl_init_trunc_normal: [%g, %g] begins %.3g times std from the mean, where no "
                        "number is drawn; 8 is the most",
                        a, b, far);
    FDL_SCOPE;
    FDL_NO_GRAD;
    double l = normal_cdf((a - mean) / std), u = normal_cdf((b - mean) / std);
    /* Out in a tail neighbours in float32 are far apart. */
    fdl_tensor *drawn =
        far > 2 ? fdl_empty(fdl_shape_of(t), .dtype = FDL_FLOAT64, .device = fdl_device_of(t)) : t;
    FDL_TRY(fdl_uniform_(drawn, 2 * l - 1, 2 * u - 1));
    fdl_tensor *x = fdl_add_scalar(fdl_mul_scalar(fdl_erfinv(drawn), std * sqrt(2)), mean);
    /* The clamp catches what rounding puts outside, nothing else. */
    return fdl_copy_(t, fdl_clamp(x, a, b));
}

fdl_status fdl_init_sparse_opt(fdl_tensor *t, double sparsity, const fdl_init_sparse_opts *opts)
{
    if (!t)
        return fdl_null_operand("fdl_init_sparse", "t");
    fdl_shape s = fdl_shape_of(t);
    double std = fdl_opt_double(opts ? opts->std : 0, 0.01);
    if (s.ndim < 0)
        return fdl_error_pending();
    if (s.ndim != 2) {
        char text[256];
        return fdl_fail(FDL_E_ARG, "fdl_init_sparse: %s has not 2 dims", fdl_describe(t, text, sizeof text));
    }
    if (!(sparsity >= 0 && sparsity <= 1) || !(std >= 0))
        return fdl_fail(FDL_E_ARG, "fdl_init_sparse: sparsity is %g, std %g; it needs 0 to 1, and 0 or more",
                        sparsity, std);
    int64_t zeros = (int64_t)ceil(sparsity * (double)s.d[0]);
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *which = fdl_empty(FDL_SHAPE(s.d[1], zeros), .dtype = FDL_INT64, .device = FDL_CPU);
    FDL_TRY(fdl_normal_(t, 0, std));
    for (int64_t i = 0; i < s.d[1]; i++) {
        FDL_SCOPE;
        fdl_tensor *order = fdl_randperm(s.d[0], .device = FDL_CPU);
        FDL_TRY(fdl_copy_(fdl_select(which, 0, i), fdl_narrow(order, 0, 0, zeros)));
    }
    return fdl_copy_(t, fdl_scatter_scalar(t, 0, fdl_to_device_of(fdl_t(which), t), 0));
}

fdl_status fdl_init_eye(fdl_tensor *t)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    fdl_shape s = fdl_shape_of(t);
    if (s.ndim != 2) {
        char text[256];
        return fdl_fail(FDL_E_ARG, "fdl_init_eye: %s has not 2 dims", fdl_describe(t, text, sizeof text));
    }
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(fdl_zero_(t));
    return fdl_fill_(fdl_diagonal(t, 0, 1), 1);
}

fdl_status fdl_init_dirac_opt(fdl_tensor *t, const fdl_init_dirac_opts *opts)
{
    if (!t)
        return fdl_null_operand(__func__, "t");
    fdl_shape s = fdl_shape_of(t);
    int64_t groups = opts && opts->groups ? opts->groups : 1;
    if (s.ndim < 3 || s.ndim > 5 || groups < 1 || s.d[0] % groups != 0) {
        char text[256];
        return fdl_fail(FDL_E_ARG,
                        "fdl_init_dirac: %s with groups %" PRId64
                        "; it needs 3 to 5 dims and groups that divide the first",
                        fdl_describe(t, text, sizeof text), groups);
    }
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(fdl_zero_(t));
    fdl_tensor *middle = t; /* [out, in] at the kernel's middle, a view */
    for (int i = s.ndim - 1; i >= 2; i--)
        middle = fdl_select(middle, i, s.d[i] / 2);
    int64_t each = s.d[0] / groups;
    for (int64_t g = 0; g < groups; g++)
        FDL_TRY(fdl_fill_(fdl_diagonal(fdl_narrow(middle, 0, g * each, each), 0, 1), 1));
    return FDL_OK;
}
