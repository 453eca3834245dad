/* Activations. */
#include "flodl/activation.h"

#include "arguments.h"
#include "flodl/nn.h"

/* ---- without options: the operation, nothing else ----------------------------------------------- */

#define PLAIN(name)                                                                   \
    static fdl_tensor *name##_forward(void *self, fdl_tensor *x)                      \
    {                                                                                 \
        (void)self;                                                                   \
        return fdl_##name(x);                                                         \
    }                                                                                 \
    fdl_module *fdl_nn_##name(void)                                                   \
    {                                                                                 \
        static const fdl_module_ops ops = {.kind = #name, .forward = name##_forward}; \
        return fdl_module_done(fdl_module_new(&ops));                                 \
    }

PLAIN(relu)
PLAIN(sigmoid)
PLAIN(tanh)
PLAIN(silu)
PLAIN(mish)
PLAIN(selu)
PLAIN(hardswish)
PLAIN(hardsigmoid)
PLAIN(relu6)
PLAIN(logsigmoid)
PLAIN(softsign)
PLAIN(tanhshrink)

/* ---- with the operation's own options: self is the options, checked once ------------------------ */

#define WITH_OPTIONS(name)                                                                   \
    static fdl_tensor *name##_forward(void *self, fdl_tensor *x)                             \
    {                                                                                        \
        return fdl_##name##_opt(x, self);                                                    \
    }                                                                                        \
    fdl_module *fdl_nn_##name##_opt(const fdl_nn_##name##_opts *opts)                        \
    {                                                                                        \
        static const fdl_module_ops ops = {                                                  \
            .kind = #name, .size = sizeof(fdl_nn_##name##_opts), .forward = name##_forward}; \
        const fdl_nn_##name##_opts o = opts ? *opts : (fdl_nn_##name##_opts){0};             \
        if (!name##_good(&o))                                                                \
            return NULL;                                                                     \
        fdl_module *m = fdl_module_new(&ops);                                                \
        fdl_nn_##name##_opts *self = fdl_module_self(m);                                     \
        if (self)                                                                            \
            *self = o;                                                                       \
        return fdl_module_done(m);                                                           \
    }

static const double inf = 1.0 / 0.0;

static bool not_zero(const char *module, const char *argument, double value)
{
    if (value > 0 || value < 0)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_%s: %s is %g, must not be 0", module, argument, value);
    return false;
}

static bool gelu_good(const fdl_nn_gelu_opts *o)
{
    return arg_within("gelu", "approximate", o->approximate, FDL_GELU_NONE, FDL_GELU_TANH);
}
WITH_OPTIONS(gelu)

static bool leaky_relu_good(const fdl_nn_leaky_relu_opts *o)
{
    return arg_within("leaky_relu", "negative_slope", o->negative_slope, -inf, inf);
}
WITH_OPTIONS(leaky_relu)

static bool elu_good(const fdl_nn_elu_opts *o)
{
    return arg_within("elu", "alpha", o->alpha, -inf, inf);
}
WITH_OPTIONS(elu)

static bool celu_good(const fdl_nn_celu_opts *o)
{
    return not_zero("celu", "alpha", fdl_opt_double(o->alpha, 1));
}
WITH_OPTIONS(celu)

static bool softplus_good(const fdl_nn_softplus_opts *o)
{
    return not_zero("softplus", "beta", fdl_opt_double(o->beta, 1)) &&
           arg_within("softplus", "threshold", o->threshold, -inf, inf);
}
WITH_OPTIONS(softplus)

static bool hardtanh_good(const fdl_nn_hardtanh_opts *o)
{
    double min = fdl_opt_double(o->min, -1), max = fdl_opt_double(o->max, 1);
    if (min < max)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_hardtanh: min is %g, must be below max, %g", min, max);
    return false;
}
WITH_OPTIONS(hardtanh)

static bool softshrink_good(const fdl_nn_softshrink_opts *o)
{
    return arg_within("softshrink", "lambda", o->lambda, 0, inf);
}
WITH_OPTIONS(softshrink)

static bool hardshrink_good(const fdl_nn_hardshrink_opts *o)
{
    return arg_within("hardshrink", "lambda", o->lambda, 0, inf);
}
WITH_OPTIONS(hardshrink)

/* ---- threshold ---------------------------------------------------------------------------------- */

typedef struct threshold {
    double at, value;
} threshold;

static fdl_tensor *threshold_forward(void *self, fdl_tensor *x)
{
    threshold *m = self;
    return fdl_threshold(x, m->at, m->value);
}

fdl_module *fdl_nn_threshold(double at, double value)
{
    static const fdl_module_ops ops = {
        .kind = "threshold", .size = sizeof(threshold), .forward = threshold_forward};
    if (!arg_within("threshold", "at", at, -inf, inf))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    threshold *self = fdl_module_self(m);
    if (self)
        *self = (threshold){at, value};
    return fdl_module_done(m);
}

/* ---- rrelu -------------------------------------------------------------------------------------- */

static fdl_tensor *rrelu_forward(void *self, fdl_tensor *x)
{
    fdl_nn_rrelu_opts *m = self;
    return fdl_rrelu(x, .lower = m->lower, .upper = m->upper, .training = fdl_is_training(fdl_module_of(m)));
}

fdl_module *fdl_nn_rrelu_opt(const fdl_nn_rrelu_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "rrelu", .size = sizeof(fdl_nn_rrelu_opts), .forward = rrelu_forward};
    const fdl_nn_rrelu_opts o = opts ? *opts : (fdl_nn_rrelu_opts){0};
    double lower = fdl_opt_double(o.lower, 1.0 / 8), upper = fdl_opt_double(o.upper, 1.0 / 3);
    if (!(lower <= upper))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_rrelu: lower is %g, must not be above upper, %g", lower,
                             upper);
    fdl_module *m = fdl_module_new(&ops);
    fdl_nn_rrelu_opts *self = fdl_module_self(m);
    if (self)
        *self = o;
    return fdl_module_done(m);
}

/* ---- prelu -------------------------------------------------------------------------------------- */

typedef struct prelu {
    fdl_tensor *weight;
} prelu;

static fdl_tensor *prelu_forward(void *self, fdl_tensor *x)
{
    prelu *m = self;
    return fdl_prelu(x, m->weight);
}

fdl_module *fdl_nn_prelu_opt(int64_t n, const fdl_nn_prelu_opts *opts)
{
    static const fdl_module_ops ops = {.kind = "prelu", .size = sizeof(prelu), .forward = prelu_forward};
    const fdl_nn_prelu_opts o = opts ? *opts : (fdl_nn_prelu_opts){0};
    if (!arg_at_least("prelu", "n", n, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    prelu *self = fdl_module_self(m);
    if (!self)
        return NULL;
    fdl_tensor *init =
        fdl_full(FDL_SHAPE(n), fdl_opt_double(o.init, 0.25), .dtype = o.dtype, .device = o.device);
    self->weight = fdl_module_param(m, "weight", init);
    return fdl_module_done(m);
}

/* ---- along a dim -------------------------------------------------------------------------------- */

typedef struct along {
    int dim;
} along;

#define ALONG_DIM(name)                                                                                      \
    static fdl_tensor *name##_forward(void *self, fdl_tensor *x)                                             \
    {                                                                                                        \
        along *m = self;                                                                                     \
        return fdl_##name(x, m->dim);                                                                        \
    }                                                                                                        \
    fdl_module *fdl_nn_##name(int dim)                                                                       \
    {                                                                                                        \
        static const fdl_module_ops ops = {.kind = #name, .size = sizeof(along), .forward = name##_forward}; \
        if (!arg_within(#name, "dim", dim, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1))                                 \
            return NULL;                                                                                     \
        fdl_module *m = fdl_module_new(&ops);                                                                \
        along *self = fdl_module_self(m);                                                                    \
        if (self)                                                                                            \
            self->dim = dim;                                                                                 \
        return fdl_module_done(m);                                                                           \
    }

ALONG_DIM(softmax)
ALONG_DIM(log_softmax)
ALONG_DIM(softmin)
ALONG_DIM(glu)

static fdl_tensor *softmax2d_forward(void *self, fdl_tensor *x)
{
    (void)self;
    int ndim = fdl_ndim(x);
    if (ndim == 3 || ndim == 4)
        return fdl_softmax(x, -3);
    char text[256];
    return fdl_fail_null(FDL_E_SHAPE, "softmax2d takes 3 or 4 dims, got %s",
                         fdl_describe(x, text, sizeof text));
}

fdl_module *fdl_nn_softmax2d(void)
{
    static const fdl_module_ops ops = {.kind = "softmax2d", .forward = softmax2d_forward};
    return fdl_module_done(fdl_module_new(&ops));
}
