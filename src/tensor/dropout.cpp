/* Dropout. */
#include "flodl/dropout.h"
#include "internal.h"

#include <ATen/ops/alpha_dropout.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/feature_alpha_dropout.h>
#include <ATen/ops/feature_dropout.h>

using namespace flodl;

namespace
{

double probability(double p)
{
    if (!(p >= 0 && p <= 1))
        fail(FDL_E_ARG, "p is %g; it is from 0 to 1", p);
    return p;
}

at::Tensor channels(const at::Tensor &x)
{
    if (x.dim() < 2)
        fail(FDL_E_SHAPE, "needs [N, C, *]");
    return x;
}

/* x itself when nothing is dropped: libtorch would copy where p is 0. */
template <class F>
at::Tensor dropped(const at::Tensor &x, double p, const fdl_dropout_opts *opts, F &&f)
{
    return probability(p) > 0 && or_default(opts).training ? f() : x;
}

} // namespace

fdl_tensor *fdl_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts)
{
    return OP((x), dropped(x->t, p, opts, [&] { return at::dropout(x->t, p, true); }));
}

fdl_tensor *fdl_feature_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts)
{
    return OP((x), dropped(channels(x->t), p, opts, [&] { return at::feature_dropout(x->t, p, true); }));
}

fdl_tensor *fdl_alpha_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts)
{
    return OP((x), dropped(x->t, p, opts, [&] { return at::alpha_dropout(x->t, p, true); }));
}

fdl_tensor *fdl_feature_alpha_dropout_opt(fdl_tensor *x, double p, const fdl_dropout_opts *opts)
{
    return OP((x),
              dropped(channels(x->t), p, opts, [&] { return at::feature_alpha_dropout(x->t, p, true); }));
}
