/* Functions of one tensor in ONNX: those that it has by itself, and those that are put together. */
#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "onnx.h"

/* fdl_mish and others are macros over options as well; the table wants the functions. */
static const struct {
    fdl_tensor *(*f)(fdl_tensor *x);
    const char *op;
} plain[] = {
    {fdl_relu, "Relu"},
    {fdl_sigmoid, "Sigmoid"},
    {fdl_tanh, "Tanh"},
    {fdl_softsign, "Softsign"},
    {fdl_hardswish, "HardSwish"},
    {fdl_neg, "Neg"},
    {fdl_abs, "Abs"},
    {fdl_exp, "Exp"},
    {fdl_log, "Log"},
    {fdl_sqrt, "Sqrt"},
    {fdl_sin, "Sin"},
    {fdl_cos, "Cos"},
    {fdl_tan, "Tan"},
    {fdl_asin, "Asin"},
    {fdl_acos, "Acos"},
    {fdl_atan, "Atan"},
    {fdl_sinh, "Sinh"},
    {fdl_cosh, "Cosh"},
    {fdl_asinh, "Asinh"},
    {fdl_acosh, "Acosh"},
    {fdl_atanh, "Atanh"},
    {fdl_erf, "Erf"},
    {fdl_sign, "Sign"},
    {fdl_floor, "Floor"},
    {fdl_ceil, "Ceil"},
    {fdl_round, "Round"},
    {fdl_reciprocal, "Reciprocal"},
    {fdl_selu, "Selu"},
};

static const char *silu(fdl_onnx *o, const char *x)
{
    return OP(o, "Mul", IN(x, OP(o, "Sigmoid", IN(x))));
}

static const char *mish(fdl_onnx *o, const char *x)
{
    return OP(o, "Mul", IN(x, OP(o, "Tanh", IN(OP(o, "Softplus", IN(x))))));
}

static const char *gelu(fdl_onnx *o, const char *x)
{
    const char *erf = OP(o, "Erf", IN(OP(o, "Mul", IN(x, onnx_number(o, 0.70710678118654752440)))));
    const char *half = OP(o, "Mul", IN(x, onnx_number(o, 0.5)));
    return OP(o, "Mul", IN(half, OP(o, "Add", IN(erf, onnx_number(o, 1)))));
}

static const char *hardsigmoid(fdl_onnx *o, const char *x)
{
    return OP_ATTR(o, "HardSigmoid", IN(x), A_FLOAT("alpha", 1.0 / 6), A_FLOAT("beta", 0.5));
}

static const char *relu6(fdl_onnx *o, const char *x)
{
    return OP(o, "Clip", IN(x, onnx_number(o, 0), onnx_number(o, 6)));
}

static const char *logsigmoid(fdl_onnx *o, const char *x)
{
    return OP(o, "Neg", IN(OP(o, "Softplus", IN(OP(o, "Neg", IN(x))))));
}

static const char *tanhshrink(fdl_onnx *o, const char *x)
{
    return OP(o, "Sub", IN(x, OP(o, "Tanh", IN(x))));
}

static const char *square(fdl_onnx *o, const char *x)
{
    return OP(o, "Mul", IN(x, x));
}

static const char *rsqrt(fdl_onnx *o, const char *x)
{
    return OP(o, "Reciprocal", IN(OP(o, "Sqrt", IN(x))));
}

static const char *leaky_relu(fdl_onnx *o, const char *x)
{
    return OP_ATTR(o, "LeakyRelu", IN(x), A_FLOAT("alpha", 0.01));
}

static const struct {
    fdl_tensor *(*f)(fdl_tensor *x);
    const char *(*say)(fdl_onnx *o, const char *x);
} composed[] = {
    {fdl_silu, silu},     {fdl_mish, mish},
    {fdl_gelu, gelu},     {fdl_hardsigmoid, hardsigmoid},
    {fdl_relu6, relu6},   {fdl_logsigmoid, logsigmoid},
    {fdl_square, square}, {fdl_tanhshrink, tanhshrink},
    {fdl_rsqrt, rsqrt},   {fdl_leaky_relu, leaky_relu},
};

const char *onnx_function(fdl_onnx *o, fdl_tensor *(*f)(fdl_tensor *x), const char *x)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (plain[i].f == f)
            return onnx_one(o, plain[i].op, IN(x), NULL);
    for (size_t i = 0; i < sizeof composed / sizeof *composed; i++)
        if (composed[i].f == f)
            return composed[i].say(o, x);
    return onnx_refuse(o, "this function has no counterpart in ONNX here");
}
