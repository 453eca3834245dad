/* Products of matrices. */
#include "flodl/linalg.h"
#include "internal.h"

#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bilinear.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/tensordot.h>

using namespace flodl;

BINARY(fdl_matmul, at::matmul)
BINARY(fdl_mm, at::mm)
BINARY(fdl_bmm, at::bmm)
BINARY(fdl_dot, at::dot)
BINARY(fdl_outer, at::outer)
BINARY(fdl_kron, at::kron)

fdl_tensor *fdl_mv(fdl_tensor *a, fdl_tensor *x)
{
    return OP((a, x), at::mv(a->t, x->t));
}

fdl_tensor *fdl_addmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts)
{
    const fdl_addmm_opts &o = or_default(opts);
    return OP((x, a, b), at::addmm(x->t, a->t, b->t, scalar(fdl_opt_double(o.beta, 1)),
                                   scalar(fdl_opt_double(o.alpha, 1))));
}

fdl_tensor *fdl_baddbmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts)
{
    const fdl_addmm_opts &o = or_default(opts);
    return OP((x, a, b), at::baddbmm(x->t, a->t, b->t, scalar(fdl_opt_double(o.beta, 1)),
                                     scalar(fdl_opt_double(o.alpha, 1))));
}

fdl_tensor *fdl_linear_opt(fdl_tensor *x, fdl_tensor *w, const fdl_linear_opts *opts)
{
    const fdl_linear_opts &o = or_default(opts);
    return OP((x, w, opt(o.bias)), at::linear(x->t, w->t, maybe(o.bias)));
}

fdl_tensor *fdl_bilinear_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *w, const fdl_linear_opts *opts)
{
    const fdl_linear_opts &o = or_default(opts);
    return OP((x1, x2, w, opt(o.bias)), at::bilinear(x1->t, x2->t, w->t, maybe(o.bias)));
}

fdl_tensor *fdl_einsum(const char *equation, fdl_list operands)
{
    return OP_DO((operands), {
        if (!equation)
            fail(FDL_E_NULL, "the equation is NULL");
        return at::einsum(equation, tensors(operands));
    });
}

fdl_tensor *fdl_tensordot(fdl_tensor *a, fdl_tensor *b, fdl_shape dims_a, fdl_shape dims_b)
{
    return OP((a, b), at::tensordot(a->t, b->t, ints(dims_a), ints(dims_b)));
}

fdl_tensor *fdl_cdist_opt(fdl_tensor *a, fdl_tensor *b, const fdl_cdist_opts *opts)
{
    return OP((a, b), at::cdist(a->t, b->t, fdl_opt_double(or_default(opts).p, 2)));
}
