/* Routers, which weigh the experts of a gate, and selectors, which choose the branch of a switch. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "flodl/nn.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

typedef struct router {
    fdl_module *proj;
} router;

/* Further inputs are added to x, so that a router can look at more than the stream. */
static fdl_tensor *logits(const router *m, fdl_tensor *x, const fdl_refs *r)
{
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    return fdl_forward(m->proj, x);
}

static fdl_tensor *softmax_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    return fdl_softmax(logits(self, x, r), -1);
}

static fdl_tensor *sigmoid_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    return fdl_sigmoid(logits(self, x, r));
}

typedef struct router_args {
    int64_t dim, n;
    fdl_nn_router_opts o;
} router_args;

static const char *onnx_logits(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const router *m = fdl_module_self(c->module);
    const char *sum = x[0];
    for (int i = 1; i < c->inputs; i++)
        sum = OP(o, "Add", IN(sum, x[i]));
    return onnx_module(o, m->proj, c->x, c->y, sum);
}

static const char *softmax_router_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP_ATTR(o, "Softmax", IN(onnx_logits(o, c, x)), A_INT("axis", -1));
}

static const char *sigmoid_router_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return OP(o, "Sigmoid", IN(onnx_logits(o, c, x)));
}

#define ROUTER_KIND(id)                                                                      \
    static fdl_module *make_##id(const void *args)                                           \
    {                                                                                        \
        const router_args *a = args;                                                         \
        return fdl_nn_##id##_opt(a->dim, a->n, &a->o);                                       \
    }                                                                                        \
    KIND(id, .name = #id, .onnx = id##_onnx,                                                 \
         ARGS(router_args, FDL_ARG(router_args, dim, INT64), FDL_ARG(router_args, n, INT64), \
              FDL_OPT(router_args, dtype, DTYPE)))

ROUTER_KIND(softmax_router);
ROUTER_KIND(sigmoid_router);

/* Not done yet. */
static fdl_module *new_router(const fdl_module_ops *ops, int64_t dim, int64_t n, fdl_dtype dtype,
                              fdl_device device)
{
    if (!arg_at_least(ops->kind, "dim", dim, 1) || !arg_at_least(ops->kind, "n", n, 1))
        return NULL;
    fdl_module *m = fdl_module_new(ops);
    router *self = m ? fdl_module_self(m) : NULL;
    if (self)
        self->proj = fdl_module_child(m, "proj", fdl_nn_linear(dim, n, .dtype = dtype, .device = device));
    return m;
}

fdl_module *fdl_nn_softmax_router_opt(int64_t dim, int64_t n, const fdl_nn_softmax_router_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "softmax_router", .size = sizeof(router), .forward_named = softmax_forward};
    const fdl_nn_router_opts o = opts ? *opts : (fdl_nn_router_opts){0};
    return DESCRIBED(new_router(&ops, dim, n, o.dtype, o.device), softmax_router, (router_args){dim, n, o});
}

fdl_module *fdl_nn_sigmoid_router_opt(int64_t dim, int64_t n, const fdl_nn_sigmoid_router_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "sigmoid_router", .size = sizeof(router), .forward_named = sigmoid_forward};
    const fdl_nn_router_opts o = opts ? *opts : (fdl_nn_router_opts){0};
    return DESCRIBED(new_router(&ops, dim, n, o.dtype, o.device), sigmoid_router, (router_args){dim, n, o});
}

/* ---- selectors ---------------------------------------------------------------------------------- */

/* Of the logits' mean over what lies between the first `kept` dims and the last. */
static fdl_tensor *largest(const router *m, fdl_tensor *x, const fdl_refs *r, int kept)
{
    FDL_NO_GRAD;
    fdl_tensor *scores = logits(m, x, r);
    int n = fdl_ndim(scores);
    if (n < 0)
        return NULL;
    if (n < 1 + kept) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "argmax_selector: x is %s, has no rows to choose for",
                             fdl_describe(x, text, sizeof text));
    }
    if (n > 1 + kept)
        scores = fdl_mean_dim(fdl_flatten(scores, kept, -2), kept);
    return fdl_argmax(scores, -1);
}

static fdl_tensor *argmax_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    return largest(self, x, r, 0);
}

static fdl_tensor *argmax_rows_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    return largest(self, x, r, 1);
}

typedef struct argmax_args {
    int64_t dim, n;
    fdl_nn_argmax_selector_opts o;
} argmax_args;

static fdl_module *make_argmax_selector(const void *args)
{
    const argmax_args *a = args;
    return fdl_nn_argmax_selector_opt(a->dim, a->n, &a->o);
}

KIND(argmax_selector, .name = "argmax_selector",
     ARGS(argmax_args, FDL_ARG(argmax_args, dim, INT64), FDL_ARG(argmax_args, n, INT64),
          FDL_OPT(argmax_args, per_row, BOOL), FDL_OPT(argmax_args, dtype, DTYPE)));

fdl_module *fdl_nn_argmax_selector_opt(int64_t dim, int64_t n, const fdl_nn_argmax_selector_opts *opts)
{
    static const fdl_module_ops whole = {
        .kind = "argmax_selector", .size = sizeof(router), .forward_named = argmax_forward};
    static const fdl_module_ops rows = {
        .kind = "argmax_selector", .size = sizeof(router), .forward_named = argmax_rows_forward};
    const fdl_nn_argmax_selector_opts o = opts ? *opts : (fdl_nn_argmax_selector_opts){0};
    return DESCRIBED(new_router(o.per_row ? &rows : &whole, dim, n, o.dtype, o.device), argmax_selector,
                     (argmax_args){dim, n, o});
}

typedef struct fixed {
    int64_t i;
} fixed;

static fdl_tensor *fixed_forward(void *self, fdl_tensor *x)
{
    (void)x;
    return fdl_from_i64(&((fixed *)self)->i, FDL_SCALAR, .device = FDL_CPU);
}

static fdl_module *make_fixed_selector(const void *args)
{
    return fdl_nn_fixed_selector(((const fixed *)args)->i);
}

KIND(fixed_selector, .name = "fixed_selector", ARGS(fixed, FDL_ARG(fixed, i, INT64)));

fdl_module *fdl_nn_fixed_selector(int64_t i)
{
    static const fdl_module_ops ops = {
        .kind = "fixed_selector", .size = sizeof(fixed), .forward = fixed_forward};
    if (!arg_at_least(ops.kind, "i", i, 0))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    if (m)
        ((fixed *)fdl_module_self(m))->i = i;
    return DESCRIBED(m, fixed_selector, (fixed){i});
}
