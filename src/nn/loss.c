/* Losses that call a function of the caller, and so are made of public operations. The others: src/tensor/loss.cpp. */
#include "flodl/loss.h"

#include "flodl/arithmetic.h"
#include "flodl/norm.h"
#include "flodl/reduce.h"

#define NAME "fdl_triplet_margin_with_distance_loss"

static fdl_tensor *between(const fdl_triplet_margin_with_distance_loss_opts *o, fdl_tensor *x, fdl_tensor *y)
{
    if (!o->distance)
        return fdl_pairwise_distance(x, y);
    fdl_tensor *d = o->distance(x, y, o->ctx);
    if (!d && !fdl_error_pending())
        fdl_fail(FDL_E_NULL, NAME ": the distance is NULL");
    return d;
}

fdl_tensor *fdl_triplet_margin_with_distance_loss_opt(fdl_tensor *anchor, fdl_tensor *positive,
                                                      fdl_tensor *negative,
                                                      const fdl_triplet_margin_with_distance_loss_opts *opts)
{
    const fdl_triplet_margin_with_distance_loss_opts o =
        opts ? *opts : (fdl_triplet_margin_with_distance_loss_opts){0};
    if (!anchor || !positive || !negative) {
        fdl_null_operand(NAME, !anchor ? "anchor" : !positive ? "positive" : "negative");
        return NULL;
    }
    double margin = fdl_opt_double(o.margin, 1);
    if (!(margin > 0))
        return fdl_fail_null(FDL_E_ARG, NAME ": .margin is %g; it is above 0", margin);
    if (o.reduction != FDL_MEAN && o.reduction != FDL_SUM && o.reduction != FDL_NONE)
        return fdl_fail_null(FDL_E_ARG, NAME ": .reduction is %d; it is FDL_MEAN, FDL_SUM or FDL_NONE",
                             (int)o.reduction);
    int dims = fdl_ndim(anchor), p_dims = fdl_ndim(positive), n_dims = fdl_ndim(negative);
    if (dims < 0 || p_dims < 0 || n_dims < 0)
        return NULL;
    if (dims != p_dims || dims != n_dims)
        return fdl_fail_null(FDL_E_SHAPE, NAME ": the anchor has %d dims, the positive %d, the negative %d",
                             dims, p_dims, n_dims);
    FDL_SCOPE;
    fdl_tensor *near = between(&o, anchor, positive);
    fdl_tensor *far = near ? between(&o, anchor, negative) : NULL;
    if (o.swap && far)
        far = fdl_minimum(far, between(&o, positive, negative));
    if (!far)
        return NULL;
    fdl_tensor *each = fdl_clamp_min(fdl_add(fdl_sub(near, far), margin), 0);
    FDL_RETURN(o.reduction == FDL_MEAN ? fdl_mean(each) : o.reduction == FDL_SUM ? fdl_sum(each) : each);
}
