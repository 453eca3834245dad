/* Conditions of loops, and what adds a flow's further inputs to its stream. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/nn.h"
#include "flodl/reduce.h"

/* ---- threshold_halt ----------------------------------------------------------------------------- */

typedef struct threshold {
    double v;
} threshold;

static fdl_tensor *threshold_forward(void *self, fdl_tensor *x)
{
    return fdl_sub(fdl_max(x), ((threshold *)self)->v);
}

static fdl_module *make_threshold_halt(const void *args)
{
    return fdl_nn_threshold_halt(((const threshold *)args)->v);
}

static const char *threshold_halt_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const threshold *a = c->args;
    const char *max = OP_ATTR(o, "ReduceMax", IN(*x), A_INT("keepdims", 0));
    return OP(o, "Sub", IN(max, onnx_number(o, a->v)));
}

KIND(threshold_halt, .onnx = threshold_halt_onnx, .name = "threshold_halt",
     ARGS(threshold, FDL_ARG(threshold, v, DOUBLE)));

fdl_module *fdl_nn_threshold_halt(double v)
{
    static const fdl_module_ops ops = {
        .kind = "threshold_halt", .size = sizeof(threshold), .forward = threshold_forward};
    fdl_module *m = fdl_module_new(&ops);
    if (m)
        ((threshold *)fdl_module_self(m))->v = v;
    return DESCRIBED(m, threshold_halt, (threshold){v});
}

/* ---- learned_halt ------------------------------------------------------------------------------- */

static fdl_tensor *learned_forward(void *self, fdl_tensor *x)
{
    return fdl_forward(*(fdl_module **)self, x);
}

typedef struct halt_args {
    int64_t dim;
    fdl_nn_learned_halt_opts o;
} halt_args;

static fdl_module *make_learned_halt(const void *args)
{
    const halt_args *a = args;
    return fdl_nn_learned_halt_opt(a->dim, &a->o);
}

static const char *learned_halt_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_module(o, fdl_module_child_at(c->module, 0, NULL), c->x, c->y, *x);
}

KIND(learned_halt, .onnx = learned_halt_onnx, .name = "learned_halt",
     ARGS(halt_args, FDL_ARG(halt_args, dim, INT64), FDL_OPT(halt_args, dtype, DTYPE)));

fdl_module *fdl_nn_learned_halt_opt(int64_t dim, const fdl_nn_learned_halt_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "learned_halt", .size = sizeof(fdl_module *), .forward = learned_forward};
    const fdl_nn_router_opts o = opts ? *opts : (fdl_nn_router_opts){0};
    if (!arg_at_least(ops.kind, "dim", dim, 1))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    if (!m)
        return NULL;
    *(fdl_module **)fdl_module_self(m) =
        fdl_module_child(m, "proj", fdl_nn_linear(dim, 1, .dtype = o.dtype, .device = o.device));
    return DESCRIBED(m, learned_halt, (halt_args){dim, o});
}

/* ---- state_add ---------------------------------------------------------------------------------- */

static fdl_tensor *state_add_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        x = fdl_add(x, fdl_refs_at(r, i));
    return x;
}

static fdl_module *make_state_add(const void *args)
{
    (void)args;
    return fdl_nn_state_add();
}

static const char *state_add_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const char *sum = x[0];
    for (int i = 1; i < c->inputs; i++)
        sum = OP(o, "Add", IN(sum, x[i]));
    return sum;
}

KIND(state_add, .onnx = state_add_onnx, .name = "state_add");

fdl_module *fdl_nn_state_add(void)
{
    static const fdl_module_ops ops = {.kind = "state_add", .forward_named = state_add_forward};
    return described(fdl_module_new(&ops), &kind_state_add, NULL);
}
