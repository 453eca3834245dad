/* Products of matrices, decompositions, solving. */
#include "flodl/linalg.h"
#include "internal.h"

#include <ATen/ops/addbmm.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/addmv.h>
#include <ATen/ops/addr.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/bilinear.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cdist.h>
#include <ATen/ops/dot.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/imag.h>
#include <ATen/ops/inner.h>
#include <ATen/ops/kron.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/linalg_cross.h>
#include <ATen/ops/linalg_det.h>
#include <ATen/ops/linalg_eig.h>
#include <ATen/ops/linalg_eigh.h>
#include <ATen/ops/linalg_eigvals.h>
#include <ATen/ops/linalg_eigvalsh.h>
#include <ATen/ops/linalg_householder_product.h>
#include <ATen/ops/linalg_inv.h>
#include <ATen/ops/linalg_lstsq.h>
#include <ATen/ops/linalg_matrix_exp.h>
#include <ATen/ops/linalg_matrix_norm.h>
#include <ATen/ops/linalg_matrix_power.h>
#include <ATen/ops/linalg_matrix_rank.h>
#include <ATen/ops/linalg_multi_dot.h>
#include <ATen/ops/linalg_pinv.h>
#include <ATen/ops/linalg_qr.h>
#include <ATen/ops/linalg_slogdet.h>
#include <ATen/ops/linalg_solve.h>
#include <ATen/ops/linalg_solve_triangular.h>
#include <ATen/ops/linalg_svd.h>
#include <ATen/ops/linalg_svdvals.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/mv.h>
#include <ATen/ops/norm_except_dim.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pdist.h>
#include <ATen/ops/real.h>
#include <ATen/ops/tensordot.h>

using namespace flodl;

namespace
{

std::vector<at::Tensor> all_of(std::tuple<at::Tensor, at::Tensor> &&t)
{
    return {std::move(std::get<0>(t)), std::move(std::get<1>(t))};
}

/* Complex numbers as two tensors of real ones, behind those of `parts`. */
void add_parts(std::vector<at::Tensor> &parts, const at::Tensor &z)
{
    parts.push_back(at::real(z).contiguous());
    parts.push_back(at::imag(z).contiguous());
}

std::optional<double> given(double option)
{
    return fdl_opt_double(option, 0) == fdl_opt_double(option, 1)
               ? std::optional<double>(fdl_opt_double(option, 0))
               : std::nullopt;
}

} // namespace

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

BINARY(fdl_inner, at::inner)

fdl_tensor *fdl_addbmm_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts)
{
    const fdl_addmm_opts &o = or_default(opts);
    return OP((x, a, b), at::addbmm(x->t, a->t, b->t, scalar(fdl_opt_double(o.beta, 1)),
                                    scalar(fdl_opt_double(o.alpha, 1))));
}

fdl_tensor *fdl_addmv_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *v, const fdl_addmm_opts *opts)
{
    const fdl_addmm_opts &o = or_default(opts);
    return OP((x, a, v), at::addmv(x->t, a->t, v->t, scalar(fdl_opt_double(o.beta, 1)),
                                   scalar(fdl_opt_double(o.alpha, 1))));
}

fdl_tensor *fdl_addr_opt(fdl_tensor *x, fdl_tensor *a, fdl_tensor *b, const fdl_addmm_opts *opts)
{
    const fdl_addmm_opts &o = or_default(opts);
    return OP((x, a, b), at::addr(x->t, a->t, b->t, scalar(fdl_opt_double(o.beta, 1)),
                                  scalar(fdl_opt_double(o.alpha, 1))));
}

fdl_tensor *fdl_pdist_opt(fdl_tensor *x, const fdl_cdist_opts *opts)
{
    return OP((x), at::pdist(x->t, fdl_opt_double(or_default(opts).p, 2)));
}

fdl_tensor *fdl_cross(fdl_tensor *a, fdl_tensor *b, int dim)
{
    return OP((a, b), at::linalg_cross(a->t, b->t, dim));
}

fdl_tensor *fdl_matrix_power(fdl_tensor *x, int64_t k)
{
    return OP((x), at::linalg_matrix_power(x->t, k));
}

UNARY(fdl_matrix_exp, at::linalg_matrix_exp)

fdl_tensor *fdl_linalg_multi_dot(fdl_list list)
{
    return OP((list), at::linalg_multi_dot(tensors(list)));
}

fdl_tensor *fdl_linalg_householder_product(fdl_tensor *x, fdl_tensor *tau)
{
    return OP((x, tau), at::linalg_householder_product(x->t, tau->t));
}

fdl_tensor *fdl_norm_except_dim(fdl_tensor *x, int64_t p, int dim)
{
    return OP((x), at::norm_except_dim(x->t, p, dim));
}

/* ---- solving ---- */

UNARY(fdl_linalg_det, at::linalg_det)
UNARY(fdl_linalg_inv, at::linalg_inv)
BINARY(fdl_linalg_solve, at::linalg_solve)

fdl_list fdl_linalg_slogdet(fdl_tensor *x)
{
    return OP((x), all_of(at::linalg_slogdet(x->t)));
}

fdl_tensor *fdl_linalg_solve_triangular_opt(fdl_tensor *a, fdl_tensor *b, const fdl_triangular_opts *opts)
{
    const fdl_triangular_opts &o = or_default(opts);
    return OP((a, b), at::linalg_solve_triangular(a->t, b->t, o.upper, true, o.unitriangular));
}

fdl_list fdl_linalg_lstsq_opt(fdl_tensor *a, fdl_tensor *b, const fdl_lstsq_opts *opts)
{
    return OP_DO((a, b), {
        auto r = at::linalg_lstsq(a->t, b->t, given(or_default(opts).rcond));
        return std::vector<at::Tensor>{std::get<0>(r), std::get<1>(r), std::get<2>(r), std::get<3>(r)};
    });
}

fdl_tensor *fdl_linalg_pinv_opt(fdl_tensor *x, const fdl_pinv_opts *opts)
{
    const fdl_pinv_opts &o = or_default(opts);
    return OP((x), at::linalg_pinv(x->t, given(o.atol), given(o.rtol), o.hermitian));
}

fdl_tensor *fdl_linalg_matrix_rank_opt(fdl_tensor *x, const fdl_pinv_opts *opts)
{
    const fdl_pinv_opts &o = or_default(opts);
    return OP((x), at::linalg_matrix_rank(x->t, given(o.atol), given(o.rtol), o.hermitian));
}

/* ---- decompositions ---- */

UNARY(fdl_linalg_svdvals, at::linalg_svdvals)

fdl_tensor *fdl_linalg_cholesky_opt(fdl_tensor *x, const fdl_cholesky_opts *opts)
{
    return OP((x), at::linalg_cholesky(x->t, or_default(opts).upper));
}

fdl_list fdl_linalg_qr_opt(fdl_tensor *x, const fdl_qr_opts *opts)
{
    return OP((x), all_of(at::linalg_qr(x->t, or_default(opts).complete ? "complete" : "reduced")));
}

fdl_list fdl_linalg_svd_opt(fdl_tensor *x, const fdl_svd_opts *opts)
{
    return OP_DO((x), {
        auto r = at::linalg_svd(x->t, !or_default(opts).reduced);
        return std::vector<at::Tensor>{std::get<0>(r), std::get<1>(r), std::get<2>(r)};
    });
}

fdl_list fdl_linalg_eigh_opt(fdl_tensor *x, const fdl_eigh_opts *opts)
{
    return OP((x), all_of(at::linalg_eigh(x->t, or_default(opts).upper ? "U" : "L")));
}

fdl_tensor *fdl_linalg_eigvalsh_opt(fdl_tensor *x, const fdl_eigh_opts *opts)
{
    return OP((x), at::linalg_eigvalsh(x->t, or_default(opts).upper ? "U" : "L"));
}

fdl_list fdl_linalg_eig(fdl_tensor *x)
{
    return OP_DO((x), {
        auto r = at::linalg_eig(x->t);
        std::vector<at::Tensor> parts;
        add_parts(parts, std::get<0>(r));
        add_parts(parts, std::get<1>(r));
        return parts;
    });
}

fdl_list fdl_linalg_eigvals(fdl_tensor *x)
{
    return OP_DO((x), {
        std::vector<at::Tensor> parts;
        add_parts(parts, at::linalg_eigvals(x->t));
        return parts;
    });
}

/* ---- norms ---- */

fdl_tensor *fdl_linalg_vector_norm_opt(fdl_tensor *x, double p, fdl_shape dims,
                                       const fdl_vector_norm_opts *opts)
{
    return OP((x),
              at::linalg_vector_norm(x->t, p, dims.ndim ? at::OptionalIntArrayRef(ints(dims)) : std::nullopt,
                                     or_default(opts).keepdim));
}

fdl_tensor *fdl_linalg_matrix_norm_opt(fdl_tensor *x, const fdl_matrix_norm_opts *opts)
{
    const fdl_matrix_norm_opts &o = or_default(opts);
    return OP_DO((x), {
        if (o.nuclear && given(o.p))
            fail(FDL_E_ARG, "both .p and .nuclear");
        if (given(o.p))
            return at::linalg_matrix_norm(x->t, *given(o.p), {-2, -1}, o.keepdim);
        return at::linalg_matrix_norm(x->t, o.nuclear ? "nuc" : "fro", {-2, -1}, o.keepdim);
    });
}
