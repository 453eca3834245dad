/* Routers: weights for the experts of a gate. */
#include "arguments.h"
#include "describe.h"
#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "flodl/nn.h"

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

static double router_work(const fdl_call *c)
{
    return (double)fdl_shape_numel(c->y) * (double)((const router_args *)c->args)->dim;
}

#define ROUTER_KIND(id)                                                                      \
    static fdl_module *make_##id(const void *args)                                           \
    {                                                                                        \
        const router_args *a = args;                                                         \
        return fdl_nn_##id##_opt(a->dim, a->n, &a->o);                                       \
    }                                                                                        \
    KIND(id, .name = #id, .work = router_work,                                               \
         ARGS(router_args, FDL_ARG(router_args, dim, INT64), FDL_ARG(router_args, n, INT64), \
              FDL_OPT(router_args, dtype, DTYPE)))

ROUTER_KIND(softmax_router);
ROUTER_KIND(sigmoid_router);

static fdl_module *new_router(const fdl_module_ops *ops, const fdl_kind *kind, int64_t dim, int64_t n,
                              const fdl_nn_router_opts *opts)
{
    const fdl_nn_router_opts o = opts ? *opts : (fdl_nn_router_opts){0};
    if (!arg_at_least(ops->kind, "dim", dim, 1) || !arg_at_least(ops->kind, "n", n, 1))
        return NULL;
    fdl_module *m = fdl_module_new(ops);
    router *self = m ? fdl_module_self(m) : NULL;
    if (!self)
        return NULL;
    self->proj = fdl_module_child(m, "proj", fdl_nn_linear(dim, n, .dtype = o.dtype, .device = o.device));
    return described(m, kind, &(router_args){dim, n, o});
}

fdl_module *fdl_nn_softmax_router_opt(int64_t dim, int64_t n, const fdl_nn_softmax_router_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "softmax_router", .size = sizeof(router), .forward_named = softmax_forward};
    return new_router(&ops, &kind_softmax_router, dim, n, opts);
}

fdl_module *fdl_nn_sigmoid_router_opt(int64_t dim, int64_t n, const fdl_nn_sigmoid_router_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "sigmoid_router", .size = sizeof(router), .forward_named = sigmoid_forward};
    return new_router(&ops, &kind_sigmoid_router, dim, n, opts);
}
