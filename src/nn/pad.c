/* Padding: zeros, a constant, reflected, the edge again, around the other end; over 1, 2 and 3 dims. */
#include "flodl/nn_pad.h"

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/nn.h"

typedef struct pad {
    fdl_shape sides; /* from the last dim inward */
    fdl_pad_mode mode;
    double value;
} pad;

static fdl_tensor *pad_forward(void *self, fdl_tensor *x)
{
    const pad *m = self;
    return fdl_pad(x, m->sides, .mode = m->mode, .value = m->value);
}

/* ONNX counts pads for all dims, beginnings first. */
static const char *pad_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    static const char *const modes[] = {"constant", "reflect", "edge", "wrap"};
    const pad *m = fdl_module_self(c->module);
    int rank = c->x.ndim;
    int64_t pads[2 * FDL_MAX_DIMS] = {0};
    if (m->mode == FDL_PAD_CIRCULAR && onnx_opset(o) < 19)
        return onnx_refuse(o, "circular padding needs .opset = 19 or later");
    for (int i = 0; 2 * i < m->sides.ndim; i++) {
        pads[rank - 1 - i] = m->sides.d[2 * i];
        pads[2 * rank - 1 - i] = m->sides.d[2 * i + 1];
    }
    const char *counts = onnx_ints(o, 2 * rank, pads);
    if (m->mode != FDL_PAD_CONSTANT)
        return OP_ATTR(o, "Pad", IN(*x, counts), A_TEXT("mode", modes[m->mode]));
    return OP(o, "Pad", IN(*x, counts, onnx_number(o, m->value)));
}

static fdl_module *new_pad(const fdl_module_ops *ops, const fdl_kind *kind, const void *args, int dims,
                           fdl_pad_mode mode, int64_t n, double value, const fdl_nn_pad_opts *opts)
{
    const char *name = ops->kind;
    fdl_shape sides = opts ? opts->sides : (fdl_shape){0};
    if (sides.ndim && n)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: n is %" PRId64 " and .sides is given too; n is 0 then",
                             name, n);
    if (sides.ndim && sides.ndim != 2 * dims)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: .sides has %d numbers, must have %d", name, sides.ndim,
                             2 * dims);
    for (int i = 0; !sides.ndim && i < 2 * dims; i++)
        sides.d[i] = n;
    sides.ndim = 2 * dims;
    for (int i = 0; i < 2 * dims; i++)
        if (sides.d[i] < INT32_MIN || sides.d[i] > INT32_MAX)
            return fdl_fail_null(FDL_E_ARG, "fdl_nn_%s: a side is %" PRId64 ", must be within 32 bits", name,
                                 sides.d[i]);
    fdl_module *m = fdl_module_new(ops);
    pad *self = fdl_module_self(m);
    if (self)
        *self = (pad){sides, mode, value};
    return described(m, kind, args);
}

typedef struct pad_args {
    int64_t n;
    double value; /* of constant pads */
    fdl_nn_pad_opts o;
} pad_args;

#define PAD_OPS(id) \
    static const fdl_module_ops id##_ops = {.kind = #id, .size = sizeof(pad), .forward = pad_forward}

#define PAD_KIND(id, dims, mode)                                                        \
    PAD_OPS(id);                                                                        \
    static fdl_module *make_##id(const void *args)                                      \
    {                                                                                   \
        const pad_args *a = args;                                                       \
        return fdl_nn_##id##_opt(a->n, &a->o);                                          \
    }                                                                                   \
    KIND(id, .name = #id, .onnx = pad_onnx,                                             \
         ARGS(pad_args, FDL_ARG(pad_args, n, INT64), FDL_OPT(pad_args, sides, SHAPE))); \
    fdl_module *fdl_nn_##id##_opt(int64_t n, const fdl_nn_pad_opts *opts)               \
    {                                                                                   \
        const pad_args args = {n, 0, opts ? *opts : (fdl_nn_pad_opts){0}};              \
        return new_pad(&id##_ops, &kind_##id, &args, dims, mode, n, 0, opts);           \
    }

#define CONSTANT_PAD_KIND(id, dims)                                                                \
    PAD_OPS(id);                                                                                   \
    static fdl_module *make_##id(const void *args)                                                 \
    {                                                                                              \
        const pad_args *a = args;                                                                  \
        return fdl_nn_##id##_opt(a->n, a->value, &a->o);                                           \
    }                                                                                              \
    KIND(id, .name = #id, .onnx = pad_onnx,                                                        \
         ARGS(pad_args, FDL_ARG(pad_args, n, INT64), FDL_ARG(pad_args, value, DOUBLE),             \
              FDL_OPT(pad_args, sides, SHAPE)));                                                   \
    fdl_module *fdl_nn_##id##_opt(int64_t n, double value, const fdl_nn_pad_opts *opts)            \
    {                                                                                              \
        const pad_args args = {n, fdl_opt_double(value, 0), opts ? *opts : (fdl_nn_pad_opts){0}};  \
        return new_pad(&id##_ops, &kind_##id, &args, dims, FDL_PAD_CONSTANT, n, args.value, opts); \
    }

PAD_KIND(zero_pad1d, 1, FDL_PAD_CONSTANT)
PAD_KIND(zero_pad2d, 2, FDL_PAD_CONSTANT)
PAD_KIND(zero_pad3d, 3, FDL_PAD_CONSTANT)
CONSTANT_PAD_KIND(constant_pad1d, 1)
CONSTANT_PAD_KIND(constant_pad2d, 2)
CONSTANT_PAD_KIND(constant_pad3d, 3)
PAD_KIND(reflection_pad1d, 1, FDL_PAD_REFLECT)
PAD_KIND(reflection_pad2d, 2, FDL_PAD_REFLECT)
PAD_KIND(reflection_pad3d, 3, FDL_PAD_REFLECT)
PAD_KIND(replication_pad1d, 1, FDL_PAD_REPLICATE)
PAD_KIND(replication_pad2d, 2, FDL_PAD_REPLICATE)
PAD_KIND(replication_pad3d, 3, FDL_PAD_REPLICATE)
PAD_KIND(circular_pad1d, 1, FDL_PAD_CIRCULAR)
PAD_KIND(circular_pad2d, 2, FDL_PAD_CIRCULAR)
PAD_KIND(circular_pad3d, 3, FDL_PAD_CIRCULAR)
