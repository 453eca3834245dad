/* What attention is told about positions: triangles, ALiBi, rotary embedding. */
#include "flodl/attention.h"
#include "create.h"
#include "spatial.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/triu.h>

#include <limits>

using namespace flodl;

namespace
{

/* Computed on the device, so that nothing is copied there in a recorded step. */
at::Tensor slopes(int64_t heads, const at::TensorOptions &options)
{
    if (heads < 1)
        fail(FDL_E_ARG, "heads is %lld, at least 1", (long long)heads);
    int64_t power = 1;
    while (power <= heads / 2)
        power *= 2;
    at::TensorOptions wide = options.dtype(at::kDouble);
    at::Tensor all = at::arange(1, power + 1, wide).mul_(-8.0 / (double)power);
    if (power < heads)
        all = at::cat({all, at::arange(1, 2 * (heads - power), 2, wide).mul_(-4.0 / (double)power)});
    return at::pow(2, all);
}

/* Features that make pairs: [a, b], each [*, L, D / 2]. */
std::pair<at::Tensor, at::Tensor> pairs(const at::Tensor &x, bool interleaved)
{
    int64_t half = x.size(-1) / 2;
    if (!interleaved)
        return {x.narrow(-1, 0, half), x.narrow(-1, half, half)};
    at::Tensor two = x.unflatten(-1, {half, 2});
    return {two.select(-1, 0), two.select(-1, 1)};
}

void check_rows(const at::Tensor &x)
{
    if (!at::isFloatingType(x.scalar_type()))
        fail(FDL_E_DTYPE, "rows that are turned are floating");
    if (x.dim() < 2)
        fail(FDL_E_SHAPE, "x is [*, L, D], 2 dims at least");
    if (x.size(-1) % 2)
        fail(FDL_E_SHAPE, "pairs need an even number of features, got %lld", (long long)x.size(-1));
}

at::ScalarType work_type(const at::Tensor &x)
{
    return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor turned(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, bool interleaved)
{
    at::ScalarType work = work_type(x);
    auto [a, b] = pairs(x.to(work), interleaved);
    at::Tensor c = cos.to(work), s = sin.to(work);
    at::Tensor first = at::sub(at::mul(a, c), at::mul(b, s)), second = at::add(at::mul(a, s), at::mul(b, c));
    at::Tensor y = interleaved ? at::stack({first, second}, -1).flatten(-2) : at::cat({first, second}, -1);
    if (y.sizes() != x.sizes())
        fail(FDL_E_SHAPE, "angles broadcast to the rows of x %s, not x to theirs %s",
             shape_text(x.sizes()).text, shape_text(y.sizes()).text);
    return y.to(x.scalar_type());
}

} // namespace

fdl_tensor *fdl_square_subsequent_mask_opt(int64_t n, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        fdl_shape square = {{n, n}, 2};
        at::TensorOptions o = options(opts);
        at::Tensor mask = o.dtype() == at::kBool
                              ? at::ones(extents(square), o)
                              : at::full(extents(square), -std::numeric_limits<double>::infinity(), o);
        return finished(at::triu(mask, 1), opts);
    });
}

fdl_tensor *fdl_alibi_slopes_opt(int64_t heads, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        at::TensorOptions o = options(opts);
        return finished(slopes(heads, o).to(o.dtype().toScalarType()), opts);
    });
}

fdl_tensor *fdl_alibi_opt(int64_t heads, int64_t keys, const fdl_alibi_opts *opts)
{
    return OP_DO((), {
        const fdl_alibi_opts &o = or_default(opts);
        int64_t queries = o.queries ? o.queries : keys;
        if (keys < 0 || queries < 0 || queries > keys)
            fail(FDL_E_ARG, ".queries is %lld and keys %lld; they are the last of them", (long long)queries,
                 (long long)keys);
        fdl_tensor_opts made = {};
        made.dtype = o.dtype;
        made.device = o.device;
        at::TensorOptions as = options(&made);
        at::TensorOptions wide = as.dtype(at::kDouble);
        at::Tensor asking = at::arange(keys - queries, keys, wide).unsqueeze(1);
        at::Tensor distance = at::sub(asking, at::arange(0, keys, wide)).abs_().neg_();
        return at::mul(slopes(heads, as).view({heads, 1, 1}), distance).to(as.dtype().toScalarType());
    });
}

fdl_tensor *fdl_rope_opt(fdl_tensor *x, const fdl_rope_opts *opts)
{
    const fdl_rope_opts &o = or_default(opts);
    return OP_DO((x, opt(o.positions)), {
        check_rows(x->t);
        double base = fdl_opt_double(o.base, 10000);
        if (!(base > 0))
            fail(FDL_E_ARG, ".base is %g; it is above 0", base);
        if (o.positions && o.offset)
            fail(FDL_E_ARG, ".positions and .offset exclude each other");
        int64_t rows = x->t.size(-2);
        double features = (double)x->t.size(-1);
        at::TensorOptions wide = x->t.options().dtype(at::kDouble);
        at::Tensor places =
            o.positions ? o.positions->t.to(at::kDouble) : at::arange(o.offset, o.offset + rows, wide);
        at::Tensor speed = at::pow(base, at::arange(0, x->t.size(-1), 2, wide).mul_(-1 / features));
        at::Tensor angle = at::mul(places.unsqueeze(-1), speed);
        return turned(x->t, at::cos(angle), at::sin(angle), o.interleaved);
    });
}

fdl_tensor *fdl_rotate_pairs_opt(fdl_tensor *x, fdl_tensor *cos, fdl_tensor *sin,
                                 const fdl_rotate_pairs_opts *opts)
{
    bool interleaved = or_default(opts).interleaved;
    return OP_DO((x, cos, sin), {
        check_rows(x->t);
        return turned(x->t, cos->t, sin->t, interleaved);
    });
}
