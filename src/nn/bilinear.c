/* A bilinear form of two inputs. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/linalg.h"
#include "flodl/nn_linear.h"

typedef struct bilinear {
    fdl_tensor *weight, *bias;
} bilinear;

static fdl_tensor *bilinear_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    bilinear *m = self;
    size_t n = 1 + fdl_refs_count(r);
    if (n != 2)
        return fdl_fail_null(FDL_E_ARG, "bilinear takes 2 inputs, got %zu", n);
    return fdl_bilinear(x, fdl_refs_at(r, 0), m->weight, .bias = m->bias);
}

typedef struct bilinear_args {
    int64_t in1, in2, out;
    fdl_nn_bilinear_opts o;
} bilinear_args;

static fdl_module *make_bilinear(const void *args)
{
    const bilinear_args *a = args;
    return fdl_nn_bilinear_opt(a->in1, a->in2, a->out, &a->o);
}

static double bilinear_work(const fdl_call *c)
{
    const bilinear_args *a = c->args;
    return (double)fdl_shape_numel(c->y) * (double)a->in1 * ((double)a->in2 + 1);
}

static const char *bilinear_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const char *weight = onnx_param(o, c->module, "weight"), *bias = onnx_param(o, c->module, "bias");
    const char *y = OP_ATTR(o, "Einsum", IN(x[0], weight, x[1]), A_TEXT("equation", "...i,oij,...j->...o"));
    return bias ? OP(o, "Add", IN(y, bias)) : y;
}

KIND(bilinear, .name = "bilinear", .work = bilinear_work, .onnx = bilinear_onnx,
     ARGS(bilinear_args, FDL_ARG(bilinear_args, in1, INT64), FDL_ARG(bilinear_args, in2, INT64),
          FDL_ARG(bilinear_args, out, INT64), FDL_OPT(bilinear_args, no_bias, BOOL),
          FDL_OPT(bilinear_args, dtype, DTYPE)));

fdl_module *fdl_nn_bilinear_opt(int64_t in1, int64_t in2, int64_t out, const fdl_nn_bilinear_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "bilinear", .size = sizeof(bilinear), .forward_named = bilinear_forward};
    const fdl_nn_bilinear_opts o = opts ? *opts : (fdl_nn_bilinear_opts){0};
    if (!arg_at_least("bilinear", "in1", in1, 1) || !arg_at_least("bilinear", "in2", in2, 1) ||
        !arg_at_least("bilinear", "out", out, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    bilinear *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->weight =
        fdl_module_param(m, "weight", new_uniform(FDL_SHAPE(out, in1, in2), in1, o.dtype, o.device));
    if (!o.no_bias)
        self->bias = fdl_module_param(m, "bias", new_uniform(FDL_SHAPE(out), in1, o.dtype, o.device));
    return DESCRIBED(m, bilinear, (bilinear_args){in1, in2, out, o});
}
