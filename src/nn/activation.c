/* Activations. */
#include "flodl/activation.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/nn.h"

/* ---- without options: the operation, nothing else ----------------------------------------------- */

#define PLAIN_KIND(name_)                                                                 \
    static fdl_tensor *name_##_forward(void *self, fdl_tensor *x)                         \
    {                                                                                     \
        (void)self;                                                                       \
        return fdl_##name_(x);                                                            \
    }                                                                                     \
    static fdl_module *make_##name_(const void *args)                                     \
    {                                                                                     \
        (void)args;                                                                       \
        return fdl_nn_##name_();                                                          \
    }                                                                                     \
    static const char *name_##_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x) \
    {                                                                                     \
        (void)c;                                                                          \
        return onnx_function(o, fdl_##name_, *x);                                         \
    }                                                                                     \
    KIND(name_, .name = #name_, .onnx = name_##_onnx);                                    \
    fdl_module *fdl_nn_##name_(void)                                                      \
    {                                                                                     \
        static const fdl_module_ops ops = {.kind = #name_, .forward = name_##_forward};   \
        return described(fdl_module_new(&ops), &kind_##name_, NULL);                      \
    }

PLAIN_KIND(relu)
PLAIN_KIND(sigmoid)
PLAIN_KIND(tanh)
PLAIN_KIND(silu)
PLAIN_KIND(mish)
PLAIN_KIND(selu)
PLAIN_KIND(hardswish)
PLAIN_KIND(hardsigmoid)
PLAIN_KIND(relu6)
PLAIN_KIND(logsigmoid)
PLAIN_KIND(softsign)
PLAIN_KIND(tanhshrink)

/* ---- with the operation's own options: self is the options, checked once ------------------------ */

/* Its options, and how it is said in ONNX: name_onnx. */
#define OPTIONS_KIND(name_, ...)                                                                \
    typedef struct name_##_args {                                                               \
        fdl_nn_##name_##_opts o;                                                                \
    } name_##_args;                                                                             \
    static fdl_tensor *name_##_forward(void *self, fdl_tensor *x)                               \
    {                                                                                           \
        return fdl_##name_##_opt(x, self);                                                      \
    }                                                                                           \
    static fdl_module *make_##name_(const void *args)                                           \
    {                                                                                           \
        return fdl_nn_##name_##_opt(&((const name_##_args *)args)->o);                          \
    }                                                                                           \
    KIND(name_, .name = #name_, .onnx = name_##_onnx, ARGS(name_##_args, __VA_ARGS__));         \
    fdl_module *fdl_nn_##name_##_opt(const fdl_nn_##name_##_opts *opts)                         \
    {                                                                                           \
        static const fdl_module_ops ops = {                                                     \
            .kind = #name_, .size = sizeof(fdl_nn_##name_##_opts), .forward = name_##_forward}; \
        const fdl_nn_##name_##_opts o = opts ? *opts : (fdl_nn_##name_##_opts){0};              \
        if (!name_##_good(&o))                                                                  \
            return NULL;                                                                        \
        fdl_module *m = fdl_module_new(&ops);                                                   \
        fdl_nn_##name_##_opts *self = fdl_module_self(m);                                       \
        if (self)                                                                               \
            *self = o;                                                                          \
        return DESCRIBED(m, name_, (name_##_args){o});                                          \
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
static const char *const gelu_names[] = {"none", "tanh", NULL};
static const char *gelu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_gelu_opts *p = c->args;
    if (p->approximate == FDL_GELU_NONE)
        return onnx_function(o, fdl_gelu, *x);
    const char *cube = OP(o, "Mul", IN(*x, OP(o, "Mul", IN(*x, *x))));
    const char *sum = OP(o, "Add", IN(*x, OP(o, "Mul", IN(cube, onnx_number(o, 0.044715)))));
    const char *t = OP(o, "Tanh", IN(OP(o, "Mul", IN(sum, onnx_number(o, 0.79788456080286535588)))));
    return OP(o, "Mul",
              IN(OP(o, "Mul", IN(*x, onnx_number(o, 0.5))), OP(o, "Add", IN(t, onnx_number(o, 1)))));
}
OPTIONS_KIND(gelu, {.name = "approximate",
                    .type = FDL_FIELD_ENUM,
                    .offset = offsetof(gelu_args, o.approximate),
                    .names = gelu_names})

static bool leaky_relu_good(const fdl_nn_leaky_relu_opts *o)
{
    return arg_within("leaky_relu", "negative_slope", o->negative_slope, -inf, inf);
}
static const char *leaky_relu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_leaky_relu_opts *p = c->args;
    return OP_ATTR(o, "LeakyRelu", IN(*x), A_FLOAT("alpha", fdl_opt_double(p->negative_slope, 0.01)));
}
OPTIONS_KIND(leaky_relu, FDL_OPT(leaky_relu_args, negative_slope, OPT_DOUBLE))

static bool elu_good(const fdl_nn_elu_opts *o)
{
    return arg_within("elu", "alpha", o->alpha, -inf, inf);
}
static const char *elu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_elu_opts *p = c->args;
    return OP_ATTR(o, "Elu", IN(*x), A_FLOAT("alpha", fdl_opt_double(p->alpha, 1)));
}
OPTIONS_KIND(elu, FDL_OPT(elu_args, alpha, OPT_DOUBLE))

static bool celu_good(const fdl_nn_celu_opts *o)
{
    return not_zero("celu", "alpha", fdl_opt_double(o->alpha, 1));
}
static const char *celu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_celu_opts *p = c->args;
    return OP_ATTR(o, "Celu", IN(*x), A_FLOAT("alpha", fdl_opt_double(p->alpha, 1)));
}
OPTIONS_KIND(celu, FDL_OPT(celu_args, alpha, OPT_DOUBLE))

static bool softplus_good(const fdl_nn_softplus_opts *o)
{
    return not_zero("softplus", "beta", fdl_opt_double(o->beta, 1)) &&
           arg_within("softplus", "threshold", o->threshold, -inf, inf);
}
static const char *softplus_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_softplus_opts *p = c->args;
    const char *beta = onnx_number(o, fdl_opt_double(p->beta, 1));
    const char *wide = OP(o, "Mul", IN(*x, beta));
    const char *y = OP(o, "Div", IN(OP(o, "Softplus", IN(wide)), beta));
    const char *linear = OP(o, "Greater", IN(wide, onnx_number(o, fdl_opt_double(p->threshold, 20))));
    return OP(o, "Where", IN(linear, *x, y));
}
OPTIONS_KIND(softplus, FDL_OPT(softplus_args, beta, OPT_DOUBLE),
             FDL_OPT(softplus_args, threshold, OPT_DOUBLE))

static bool hardtanh_good(const fdl_nn_hardtanh_opts *o)
{
    double min = fdl_opt_double(o->min, -1), max = fdl_opt_double(o->max, 1);
    if (min < max)
        return true;
    fdl_fail(FDL_E_ARG, "fdl_nn_hardtanh: min is %g, must be below max, %g", min, max);
    return false;
}
static const char *hardtanh_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_hardtanh_opts *p = c->args;
    return OP(o, "Clip",
              IN(*x, onnx_number(o, fdl_opt_double(p->min, -1)), onnx_number(o, fdl_opt_double(p->max, 1))));
}
OPTIONS_KIND(hardtanh, FDL_OPT(hardtanh_args, min, OPT_DOUBLE), FDL_OPT(hardtanh_args, max, OPT_DOUBLE))

static bool softshrink_good(const fdl_nn_softshrink_opts *o)
{
    return arg_within("softshrink", "lambda", o->lambda, 0, inf);
}
static const char *softshrink_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_softshrink_opts *p = c->args;
    double lambda = fdl_opt_double(p->lambda, 0.5);
    return OP_ATTR(o, "Shrink", IN(*x), A_FLOAT("lambd", lambda), A_FLOAT("bias", lambda));
}
OPTIONS_KIND(softshrink, FDL_OPT(softshrink_args, lambda, OPT_DOUBLE))

static bool hardshrink_good(const fdl_nn_hardshrink_opts *o)
{
    return arg_within("hardshrink", "lambda", o->lambda, 0, inf);
}
static const char *hardshrink_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_hardshrink_opts *p = c->args;
    return OP_ATTR(o, "Shrink", IN(*x), A_FLOAT("lambd", fdl_opt_double(p->lambda, 0.5)));
}
OPTIONS_KIND(hardshrink, FDL_OPT(hardshrink_args, lambda, OPT_DOUBLE))

/* ---- threshold ---------------------------------------------------------------------------------- */

typedef struct threshold {
    double at, value;
} threshold;

static fdl_tensor *threshold_forward(void *self, fdl_tensor *x)
{
    threshold *m = self;
    return fdl_threshold(x, m->at, m->value);
}

static fdl_module *make_threshold(const void *args)
{
    const threshold *a = args;
    return fdl_nn_threshold(a->at, a->value);
}

static const char *threshold_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const threshold *a = c->args;
    return OP(o, "Where", IN(OP(o, "Greater", IN(*x, onnx_number(o, a->at))), *x, onnx_number(o, a->value)));
}

KIND(threshold, .name = "threshold", .onnx = threshold_onnx,
     ARGS(threshold, FDL_ARG(threshold, at, DOUBLE), FDL_ARG(threshold, value, DOUBLE)));

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
    return DESCRIBED(m, threshold, (threshold){at, value});
}

/* ---- rrelu -------------------------------------------------------------------------------------- */

static fdl_tensor *rrelu_forward(void *self, fdl_tensor *x)
{
    fdl_nn_rrelu_opts *m = self;
    return fdl_rrelu(x, .lower = m->lower, .upper = m->upper, .training = fdl_is_training(fdl_module_of(m)));
}

typedef struct rrelu_args {
    fdl_nn_rrelu_opts o;
} rrelu_args;

static fdl_module *make_rrelu(const void *args)
{
    return fdl_nn_rrelu_opt(&((const rrelu_args *)args)->o);
}

static const char *rrelu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const fdl_nn_rrelu_opts *p = c->args;
    double slope = (fdl_opt_double(p->lower, 1.0 / 8) + fdl_opt_double(p->upper, 1.0 / 3)) / 2;
    return OP_ATTR(o, "LeakyRelu", IN(*x), A_FLOAT("alpha", slope));
}

KIND(rrelu, .name = "rrelu", .onnx = rrelu_onnx,
     ARGS(rrelu_args, FDL_OPT(rrelu_args, lower, OPT_DOUBLE), FDL_OPT(rrelu_args, upper, OPT_DOUBLE)));

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
    return DESCRIBED(m, rrelu, (rrelu_args){o});
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

typedef struct prelu_args {
    int64_t n;
    fdl_nn_prelu_opts o;
} prelu_args;

static fdl_module *make_prelu(const void *args)
{
    const prelu_args *a = args;
    return fdl_nn_prelu_opt(a->n, &a->o);
}

/* Slopes stand in dim 1; ONNX aligns them on the right. */
static const char *prelu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const char *slope = onnx_param(o, c->module, "weight");
    int64_t shape[FDL_MAX_DIMS];
    for (int i = 0; i < c->x.ndim; i++)
        shape[i] = i ? 1 : -1;
    if (((const prelu_args *)c->args)->n > 1 && c->x.ndim > 2)
        slope = OP(o, "Reshape", IN(slope, onnx_ints(o, c->x.ndim - 1, shape)));
    return OP(o, "PRelu", IN(*x, slope));
}

KIND(prelu, .name = "prelu", .onnx = prelu_onnx,
     ARGS(prelu_args, FDL_ARG(prelu_args, n, INT64), FDL_OPT(prelu_args, init, OPT_DOUBLE),
          FDL_OPT(prelu_args, dtype, DTYPE)));

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
    return DESCRIBED(m, prelu, (prelu_args){n, o});
}

/* ---- along a dim -------------------------------------------------------------------------------- */

typedef struct along {
    int dim;
} along;

static const char *softmax_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP_ATTR(o, "Softmax", IN(*x), A_INT("axis", ((const along *)c->args)->dim));
}

static const char *log_softmax_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP_ATTR(o, "LogSoftmax", IN(*x), A_INT("axis", ((const along *)c->args)->dim));
}

static const char *softmin_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP_ATTR(o, "Softmax", IN(OP(o, "Neg", IN(*x))), A_INT("axis", ((const along *)c->args)->dim));
}

/* The first half times f of the second. */
static const char *gated_onnx(fdl_onnx *o, const fdl_call *c, const char *x, fdl_tensor *(*f)(fdl_tensor *x))
{
    int dim = ((const along *)c->args)->dim;
    int64_t half = c->y.d[dim < 0 ? dim + c->y.ndim : dim];
    const char *gate = onnx_function(o, f, onnx_slice(o, x, dim, half, 2 * half));
    return OP(o, "Mul", IN(onnx_slice(o, x, dim, 0, half), gate));
}

static const char *glu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return gated_onnx(o, c, *x, fdl_sigmoid);
}

static const char *swiglu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return gated_onnx(o, c, *x, fdl_silu);
}

static const char *geglu_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return gated_onnx(o, c, *x, fdl_gelu);
}

/* Beside it: name_onnx. */
#define ALONG_DIM_KIND(name_)                                                                 \
    static fdl_tensor *name_##_forward(void *self, fdl_tensor *x)                             \
    {                                                                                         \
        along *m = self;                                                                      \
        return fdl_##name_(x, m->dim);                                                        \
    }                                                                                         \
    static fdl_module *make_##name_(const void *args)                                         \
    {                                                                                         \
        return fdl_nn_##name_(((const along *)args)->dim);                                    \
    }                                                                                         \
    KIND(name_, .name = #name_, .onnx = name_##_onnx, ARGS(along, FDL_ARG(along, dim, INT))); \
    fdl_module *fdl_nn_##name_(int dim)                                                       \
    {                                                                                         \
        static const fdl_module_ops ops = {                                                   \
            .kind = #name_, .size = sizeof(along), .forward = name_##_forward};               \
        if (!arg_within(#name_, "dim", dim, -FDL_MAX_DIMS, FDL_MAX_DIMS - 1))                 \
            return NULL;                                                                      \
        fdl_module *m = fdl_module_new(&ops);                                                 \
        along *self = fdl_module_self(m);                                                     \
        if (self)                                                                             \
            self->dim = dim;                                                                  \
        return DESCRIBED(m, name_, (along){dim});                                             \
    }

ALONG_DIM_KIND(softmax)
ALONG_DIM_KIND(log_softmax)
ALONG_DIM_KIND(softmin)
ALONG_DIM_KIND(glu)
ALONG_DIM_KIND(swiglu)
ALONG_DIM_KIND(geglu)

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

static fdl_module *make_softmax2d(const void *args)
{
    (void)args;
    return fdl_nn_softmax2d();
}

static const char *softmax2d_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    (void)c;
    return OP_ATTR(o, "Softmax", IN(*x), A_INT("axis", -3));
}

KIND(softmax2d, .name = "softmax2d", .onnx = softmax2d_onnx);

fdl_module *fdl_nn_softmax2d(void)
{
    static const fdl_module_ops ops = {.kind = "softmax2d", .forward = softmax2d_forward};
    return described(fdl_module_new(&ops), &kind_softmax2d, NULL);
}
