/* Dropout of elements, of whole channels, of whole rows. */
#include "flodl/nn.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/dropout.h"

typedef struct dropout {
    double p;
    int spatial; /* dims behind the channels, with or without a batch in front; 0: any shape */
} dropout;

typedef struct dropout_args {
    double p;
} dropout_args;

/* As in evaluation. */
static const char *dropout_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    (void)o;
    (void)c;
    return *x;
}

#define DROPOUT_KIND(id)                                     \
    static fdl_module *make_##id(const void *args)           \
    {                                                        \
        return fdl_nn_##id(((const dropout_args *)args)->p); \
    }                                                        \
    KIND(id, .name = #id, .onnx = dropout_onnx, ARGS(dropout_args, FDL_ARG(dropout_args, p, DOUBLE)))

static fdl_module *new_dropout(const fdl_module_ops *ops, const fdl_kind *kind, double p, int spatial)
{
    if (!arg_within(ops->kind, "p", p, 0, 1))
        return NULL;
    fdl_module *m = fdl_module_new(ops);
    dropout *self = fdl_module_self(m);
    if (self)
        *self = (dropout){p, spatial};
    return described(m, kind, &(dropout_args){p});
}

/* ---- elements ----------------------------------------------------------------------------------- */

static fdl_tensor *dropout_forward(void *self, fdl_tensor *x)
{
    dropout *m = self;
    return fdl_is_training(fdl_module_of(m)) ? fdl_dropout(x, m->p, .training = true) : x;
}

DROPOUT_KIND(dropout);

fdl_module *fdl_nn_dropout(double p)
{
    static const fdl_module_ops ops = {
        .kind = "dropout", .size = sizeof(dropout), .forward = dropout_forward};
    return new_dropout(&ops, &kind_dropout, p, 0);
}

static fdl_tensor *alpha_dropout_forward(void *self, fdl_tensor *x)
{
    dropout *m = self;
    return fdl_is_training(fdl_module_of(m)) ? fdl_alpha_dropout(x, m->p, .training = true) : x;
}

DROPOUT_KIND(alpha_dropout);

fdl_module *fdl_nn_alpha_dropout(double p)
{
    static const fdl_module_ops ops = {
        .kind = "alpha_dropout", .size = sizeof(dropout), .forward = alpha_dropout_forward};
    return new_dropout(&ops, &kind_alpha_dropout, p, 0);
}

static fdl_tensor *feature_alpha_dropout_forward(void *self, fdl_tensor *x)
{
    dropout *m = self;
    return fdl_is_training(fdl_module_of(m)) ? fdl_feature_alpha_dropout(x, m->p, .training = true) : x;
}

DROPOUT_KIND(feature_alpha_dropout);

fdl_module *fdl_nn_feature_alpha_dropout(double p)
{
    static const fdl_module_ops ops = {
        .kind = "feature_alpha_dropout", .size = sizeof(dropout), .forward = feature_alpha_dropout_forward};
    return new_dropout(&ops, &kind_feature_alpha_dropout, p, 0);
}

/* ---- channels ----------------------------------------------------------------------------------- */

static fdl_tensor *channels_forward(void *self, fdl_tensor *x)
{
    dropout *m = self;
    fdl_module *module = fdl_module_of(m);
    int ndim = fdl_ndim(x);
    if (ndim != m->spatial + 2 && ndim != m->spatial + 1) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "%s takes %d or %d dims, got %s", fdl_module_kind(module),
                             m->spatial + 1, m->spatial + 2, fdl_describe(x, text, sizeof text));
    }
    if (!fdl_is_training(module))
        return x;
    if (ndim == m->spatial + 2)
        return fdl_feature_dropout(x, m->p, .training = true);
    return fdl_squeeze(fdl_feature_dropout(fdl_unsqueeze(x, 0), m->p, .training = true), 0);
}

DROPOUT_KIND(dropout1d);

fdl_module *fdl_nn_dropout1d(double p)
{
    static const fdl_module_ops ops = {
        .kind = "dropout1d", .size = sizeof(dropout), .forward = channels_forward};
    return new_dropout(&ops, &kind_dropout1d, p, 1);
}

DROPOUT_KIND(dropout2d);

fdl_module *fdl_nn_dropout2d(double p)
{
    static const fdl_module_ops ops = {
        .kind = "dropout2d", .size = sizeof(dropout), .forward = channels_forward};
    return new_dropout(&ops, &kind_dropout2d, p, 2);
}

DROPOUT_KIND(dropout3d);

fdl_module *fdl_nn_dropout3d(double p)
{
    static const fdl_module_ops ops = {
        .kind = "dropout3d", .size = sizeof(dropout), .forward = channels_forward};
    return new_dropout(&ops, &kind_dropout3d, p, 3);
}

/* ---- rows --------------------------------------------------------------------------------------- */

static fdl_tensor *rows_forward(void *self, fdl_tensor *x)
{
    dropout *m = self;
    if (!fdl_is_training(fdl_module_of(m)))
        return x;
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim < 1) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "stochastic_depth drops rows of dim 0, got %s",
                             fdl_describe(x, text, sizeof text));
    }
    for (int i = 1; i < s.ndim; i++)
        s.d[i] = 1;
    fdl_tensor *one = fdl_ones(s, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x));
    return fdl_mul(x, fdl_dropout(one, m->p, .training = true)); /* 0, or 1 / (1 - p), for each row */
}

DROPOUT_KIND(stochastic_depth);

fdl_module *fdl_nn_stochastic_depth(double p)
{
    static const fdl_module_ops ops = {
        .kind = "stochastic_depth", .size = sizeof(dropout), .forward = rows_forward};
    return new_dropout(&ops, &kind_stochastic_depth, p, 0);
}
