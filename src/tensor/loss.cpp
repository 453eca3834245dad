/* Losses. */
#include "flodl/loss.h"
#include "internal.h"
#include "spatial.h"

#include <c10/core/GradMode.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include <ATen/ExpandUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/Reduction.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/add.h>
#include <ATen/ops/binary_cross_entropy.h>
#include <ATen/ops/binary_cross_entropy_with_logits.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/cosine_embedding_loss.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/ctc_loss.h>
#include <ATen/ops/div.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/hinge_embedding_loss.h>
#include <ATen/ops/huber_loss.h>
#include <ATen/ops/kl_div.h>
#include <ATen/ops/l1_loss.h>
#include <ATen/ops/log.h>
#include <ATen/ops/log_sigmoid.h>
#include <ATen/ops/lt.h>
#include <ATen/ops/margin_ranking_loss.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/multi_margin_loss.h>
#include <ATen/ops/multilabel_margin_loss.h>
#include <ATen/ops/neg.h>
#include <ATen/ops/nll_loss_nd.h>
#include <ATen/ops/poisson_nll_loss.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/rsub.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/smooth_l1_loss.h>
#include <ATen/ops/soft_margin_loss.h>
#include <ATen/ops/square.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/triplet_margin_loss.h>

using namespace flodl;

namespace
{

/* ---- what the losses share ---- */

int64_t reduction(fdl_reduction r)
{
    switch (r) {
    case FDL_MEAN:
        return at::Reduction::Mean;
    case FDL_SUM:
        return at::Reduction::Sum;
    case FDL_NONE:
        return at::Reduction::None;
    case FDL_BATCHMEAN:
        fail(FDL_E_ARG, ".reduction = FDL_BATCHMEAN is for fdl_kl_div");
    }
    fail(FDL_E_ARG, ".reduction is %d, which is none", (int)r);
}

at::Tensor reduced(const at::Tensor &loss, fdl_reduction r)
{
    int64_t how = reduction(r);
    return how == at::Reduction::Mean ? at::mean(loss) : how == at::Reduction::Sum ? at::sum(loss) : loss;
}

/* The dtype of two operands' values. */
at::ScalarType common(const at::Tensor &a, const at::Tensor &b)
{
    at::ScalarType type = a.scalar_type() == b.scalar_type()
                              ? a.scalar_type()
                              : c10::promoteTypes(a.scalar_type(), b.scalar_type());
    if (!at::isFloatingType(type))
        fail(FDL_E_DTYPE, "a loss needs a floating dtype; fdl_float converts");
    return type;
}

at::Tensor as(const at::Tensor &x, at::ScalarType type)
{
    return x.scalar_type() == type ? x : x.to(type);
}

void same_shape(const at::Tensor &a, const at::Tensor &b, const char *what)
{
    if (FDL_UNLIKELY(a.sizes() != b.sizes()))
        fail(FDL_E_SHAPE, "%s has the shape %s, not %s", what, shape_text(a.sizes()).text,
             shape_text(b.sizes()).text);
}

/* pred and target of one shape and one floating dtype: themselves where they are that already. */
class pair
{
    at::Tensor own_p_, own_t_;

    /* Whether the shapes are one; fails where they have to be. */
    static bool one_shape(const at::Tensor &pred, const at::Tensor &target, bool broadcast, const char *hint)
    {
        bool same = pred.sizes() == target.sizes();
        if (FDL_UNLIKELY(!same && !broadcast))
            fail(FDL_E_SHAPE, "pred %s and target %s differ in shape%s", shape_text(pred.sizes()).text,
                 shape_text(target.sizes()).text, hint);
        return same;
    }
    static const at::Tensor &fitted(const at::Tensor &x, const at::Tensor &other, bool same,
                                    at::ScalarType type, at::Tensor &own)
    {
        if (FDL_LIKELY(same && x.scalar_type() == type))
            return x;
        own = as(x, type);
        if (!same)
            own = own.expand(at::infer_size(x.sizes(), other.sizes()));
        return own;
    }
    pair(const at::Tensor &pred, const at::Tensor &target, bool same, at::ScalarType type)
        : p(fitted(pred, target, same, type, own_p_)), t(fitted(target, pred, same, type, own_t_))
    {
    }

  public:
    const at::Tensor &p, &t;
    pair(const at::Tensor &pred, const at::Tensor &target)
        : pair(pred, target, one_shape(pred, target, false, ""), common(pred, target))
    {
    }
    pair(const at::Tensor &pred, const at::Tensor &target, bool broadcast)
        : pair(pred, target, one_shape(pred, target, broadcast, "; .broadcast = true lets them broadcast"),
               common(pred, target))
    {
    }
    pair(const pair &) = delete;
    pair &operator=(const pair &) = delete;
};

/* A weight in x's dtype; autocast takes it as it is. */
at::Tensor as_weight(const at::Tensor &weight, const at::Tensor &x)
{
    return at::autocast::is_autocast_enabled(x.device().type()) ? weight : as(weight, x.scalar_type());
}

/* Each element times its weight; the mean divides by the sum of the weights. */
at::Tensor weighted(const at::Tensor &each, const at::Tensor &weight, fdl_reduction r)
{
    at::Tensor x = at::mul(each, as_weight(weight, each));
    return r == FDL_MEAN ? at::div(at::sum(x), at::sum(weight)) : reduced(x, r);
}

/* How far p is from 1, to the power of gamma. At p = 1 the derivative of a root is infinite, and times 0 no number; the loss
 * itself is flat there. */
at::Tensor focus(const at::Tensor &far, double gamma)
{
    if (gamma >= 1)
        return at::pow(far, gamma);
    double least = far.scalar_type() == at::kHalf ? 6e-5 : far.scalar_type() == at::kDouble ? 1e-300 : 1e-36;
    return at::pow(at::clamp_min(far, least), gamma);
}

/* A weight that broadcasts to x's shape, in x's dtype. */
std::optional<at::Tensor> spread(fdl_tensor *weight, const at::Tensor &x)
{
    if (!weight)
        return std::nullopt;
    return as_weight(weight->t, x).expand(x.sizes());
}

/* pred [N, C, ...] or [C] and the classes [N, ...] or []. */
int64_t check_classes(const at::Tensor &pred, const at::Tensor &target)
{
    if (pred.dim() < 1)
        fail(FDL_E_SHAPE, "pred is [N, C, *] or [C], got a 0-d tensor");
    if (!at::isFloatingType(pred.scalar_type()))
        fail(FDL_E_DTYPE, "pred is floating; fdl_float converts");
    if (target.scalar_type() != at::kLong)
        fail(FDL_E_DTYPE, "classes are int64; fdl_long converts");
    at::IntArrayRef shape = pred.sizes(), got = target.sizes();
    size_t dim = shape.size() == 1 ? 0 : 1;
    if (got.size() + 1 != shape.size() || !std::equal(got.begin(), got.begin() + dim, shape.begin()) ||
        !std::equal(got.begin() + dim, got.end(), shape.begin() + dim + 1)) {
        std::vector<int64_t> expected = shape.vec();
        expected.erase(expected.begin() + (std::ptrdiff_t)dim);
        fail(FDL_E_SHAPE, "pred %s goes with classes %s, not %s", shape_text(shape).text,
             shape_text(expected).text, shape_text(got).text);
    }
    if (shape[dim] < 1)
        fail(FDL_E_SHAPE, "pred %s has no classes", shape_text(shape).text);
    return shape[dim];
}

std::optional<at::Tensor> class_weight(fdl_tensor *weight, const at::Tensor &pred, int64_t classes)
{
    if (!weight)
        return std::nullopt;
    if (weight->t.dim() != 1 || weight->t.size(0) != classes)
        fail(FDL_E_SHAPE, ".weight is [%lld], got %s", (long long)classes,
             shape_text(weight->t.sizes()).text);
    return as_weight(weight->t, pred);
}

/* Says how many classes there are when libtorch found one that is outside. */
template <class F>
at::Tensor with_classes(int64_t classes, F &&f)
{
    try {
        return f();
    } catch (const c10::IndexError &e) {
        std::string text = e.what_without_backtrace();
        text.resize(std::min(text.find('\n'), text.size()));
        fail(FDL_E_RANGE, "%s Classes are 0 to %lld", text.c_str(), (long long)classes - 1);
    }
}

bool on_cpu(const at::Tensor &x)
{
    return x.device().is_cpu();
}

/* Labels 1 and -1, looked at where that waits for no device. */
void check_labels(const at::Tensor &label)
{
    if (!on_cpu(label) || !label.numel())
        return;
    at::Tensor odd = label.ne(1).logical_and_(label.ne(-1));
    if (odd.any().item<bool>())
        fail(FDL_E_ARG, "labels are 1 or -1");
}

/* Libtorch's CPU kernel takes the targets as they are. */
void check_ctc(const at::Tensor &log_probs, const at::Tensor &targets, const at::Tensor &input_lengths,
               const at::Tensor &target_lengths, int64_t blank)
{
    int64_t classes = log_probs.size(-1);
    at::Tensor steps = input_lengths.to(at::kCPU, at::kLong).contiguous();
    for (int64_t n = 0; n < steps.numel(); n++) {
        int64_t is = steps.const_data_ptr<int64_t>()[n];
        if (is < 0 || is > log_probs.size(0))
            fail(FDL_E_RANGE, "input %lld has the length %lld, log_probs %lld steps", (long long)n,
                 (long long)is, (long long)log_probs.size(0));
    }
    at::Tensor t = targets.to(at::kLong).contiguous(),
               lengths = target_lengths.to(at::kCPU, at::kLong).contiguous();
    const int64_t *value = t.const_data_ptr<int64_t>(), *length = lengths.const_data_ptr<int64_t>();
    int64_t at = 0, row = t.dim() == 2 ? t.size(1) : 0;
    for (int64_t n = 0; n < lengths.numel(); n++) {
        if (length[n] < 0 || length[n] > (row ? row : t.numel() - at))
            fail(FDL_E_RANGE, "target %lld has the length %lld and %lld elements", (long long)n,
                 (long long)length[n], (long long)(row ? row : t.numel() - at));
        const int64_t *v = value + (t.dim() == 2 ? n * row : at);
        for (int64_t i = 0; i < length[n]; i++) {
            if (v[i] == blank)
                fail(FDL_E_ARG, "target %lld holds the blank (class %lld)", (long long)n, (long long)blank);
            if (v[i] < 0 || v[i] >= classes)
                fail(FDL_E_RANGE, "target %lld holds class %lld; classes are 0 to %lld", (long long)n,
                     (long long)v[i], (long long)classes - 1);
        }
        at += length[n];
    }
}

} // namespace

/* ---- regression ---- */

#define PLAIN(name, a, b)                          \
    fdl_tensor *name(fdl_tensor *a, fdl_tensor *b) \
    {                                              \
        return name##_opt(a, b, nullptr);          \
    }
PLAIN(fdl_mse_loss, pred, target)
PLAIN(fdl_l1_loss, pred, target)
PLAIN(fdl_smooth_l1_loss, pred, target)
PLAIN(fdl_huber_loss, pred, target)
PLAIN(fdl_poisson_nll_loss, pred, target)
PLAIN(fdl_cross_entropy, pred, target)
PLAIN(fdl_nll_loss, pred, target)
PLAIN(fdl_focal_loss, pred, target)
PLAIN(fdl_binary_cross_entropy, pred, target)
PLAIN(fdl_binary_cross_entropy_with_logits, pred, target)
PLAIN(fdl_sigmoid_focal_loss, pred, target)
PLAIN(fdl_multilabel_soft_margin_loss, pred, target)
PLAIN(fdl_soft_margin_loss, pred, target)
PLAIN(fdl_multilabel_margin_loss, pred, target)
PLAIN(fdl_dice_loss, pred, target)
PLAIN(fdl_kl_div, pred, target)
PLAIN(fdl_hinge_embedding_loss, x, label)

fdl_tensor *fdl_mse_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_mse_loss_opts *opts)
{
    const fdl_mse_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        pair x(pred->t, target->t, o.broadcast);
        if (!o.weight)
            return at::mse_loss(x.p, x.t, reduction(o.reduction));
        same_shape(o.weight->t, x.p, ".weight");
        return weighted(at::square(at::sub(x.p, x.t)), o.weight->t, o.reduction);
    });
}

fdl_tensor *fdl_l1_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_l1_loss_opts *opts)
{
    const fdl_l1_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        pair x(pred->t, target->t, o.broadcast);
        if (!o.weight)
            return at::l1_loss(x.p, x.t, reduction(o.reduction));
        same_shape(o.weight->t, x.p, ".weight");
        return weighted(at::abs(at::sub(x.p, x.t)), o.weight->t, o.reduction);
    });
}

fdl_tensor *fdl_smooth_l1_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_smooth_l1_loss_opts *opts)
{
    const fdl_smooth_l1_loss_opts &o = or_default(opts);
    return OP_DO((pred, target), {
        double beta = fdl_opt_double(o.beta, 1);
        if (!(beta >= 0))
            fail(FDL_E_ARG, ".beta is %g; it is at least 0", beta);
        pair x(pred->t, target->t, o.broadcast);
        return at::smooth_l1_loss(x.p, x.t, reduction(o.reduction), beta);
    });
}

fdl_tensor *fdl_huber_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_huber_loss_opts *opts)
{
    const fdl_huber_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        double delta = fdl_opt_double(o.delta, 1);
        if (!(delta > 0))
            fail(FDL_E_ARG, ".delta is %g; it is above 0", delta);
        pair x(pred->t, target->t, o.broadcast);
        if (!o.weight)
            return at::huber_loss(x.p, x.t, reduction(o.reduction), delta);
        same_shape(o.weight->t, x.p, ".weight");
        at::Tensor each = at::huber_loss(x.p, x.t, at::Reduction::None, delta);
        return reduced(at::mul(each, as_weight(o.weight->t, x.p)), o.reduction);
    });
}

fdl_tensor *fdl_poisson_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                     const fdl_poisson_nll_loss_opts *opts)
{
    const fdl_poisson_nll_loss_opts &o = or_default(opts);
    return OP_DO((pred, target), {
        pair x(pred->t, target->t);
        return at::poisson_nll_loss(x.p, x.t, !o.no_log_input, o.full, fdl_opt_double(o.eps, 1e-8),
                                    reduction(o.reduction));
    });
}

fdl_tensor *fdl_gaussian_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target, fdl_tensor *var,
                                      const fdl_gaussian_nll_loss_opts *opts)
{
    const fdl_gaussian_nll_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, var), {
        double eps = fdl_opt_double(o.eps, 1e-6);
        if (!(eps > 0))
            fail(FDL_E_ARG, ".eps is %g; it is above 0", eps);
        pair x(pred->t, target->t);
        at::Tensor v = as(var->t, x.p.scalar_type());
        if (v.sizes() != x.p.sizes()) {
            if (x.p.dim() && v.sizes() == x.p.sizes().slice(0, (size_t)x.p.dim() - 1))
                v = v.unsqueeze(-1);
            bool fits = x.p.dim() && v.dim() == x.p.dim() && v.size(-1) == 1 &&
                        v.sizes().slice(0, (size_t)v.dim() - 1) == x.p.sizes().slice(0, (size_t)v.dim() - 1);
            if (!fits)
                fail(FDL_E_SHAPE, "the variances %s go with pred %s in all dims, or in all but the last",
                     shape_text(var->t.sizes()).text, shape_text(x.p.sizes()).text);
        }
        if (on_cpu(v) && at::lt(v, 0).any().item<bool>())
            fail(FDL_E_ARG, "a variance is below 0");
        v = v.clone();
        {
            at::NoGradGuard quiet; /* the bound passes the gradient */
            v.clamp_(eps);
        }
        at::Tensor each = at::mul(at::add(at::log(v), at::div(at::square(at::sub(x.p, x.t)), v)), 0.5);
        if (o.full)
            each = at::add(each, 0.5 * std::log(2 * 3.14159265358979323846));
        return reduced(each, o.reduction);
    });
}

/* ---- one class of C ---- */

fdl_tensor *fdl_cross_entropy_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_cross_entropy_opts *opts)
{
    const fdl_cross_entropy_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        if (!(o.label_smoothing >= 0 && o.label_smoothing <= 1))
            fail(FDL_E_ARG, ".label_smoothing is %g; it is from 0 to 1", o.label_smoothing);
        double smoothing = fdl_opt_double(o.label_smoothing, 0);
        if (at::isFloatingType(target->t.scalar_type())) {
            if (fdl_opt_given(o.ignore_index))
                fail(FDL_E_ARG, ".ignore_index means nothing to probabilities");
            if (pred->t.dim() < 1 || pred->t.size(pred->t.dim() == 1 ? 0 : 1) < 1)
                fail(FDL_E_SHAPE, "pred is [N, C, *] or [C] with a class at least");
            if (pred->t.sizes() != target->t.sizes())
                fail(FDL_E_SHAPE, "pred %s and probabilities %s differ in shape; classes would be int64",
                     shape_text(pred->t.sizes()).text, shape_text(target->t.sizes()).text);
            pair x(pred->t, target->t);
            return at::cross_entropy_loss(x.p, x.t,
                                          class_weight(o.weight, x.p, x.p.size(x.p.dim() == 1 ? 0 : 1)),
                                          reduction(o.reduction), -100, smoothing);
        }
        int64_t classes = check_classes(pred->t, target->t);
        return with_classes(classes, [&] {
            return at::cross_entropy_loss(pred->t, target->t, class_weight(o.weight, pred->t, classes),
                                          reduction(o.reduction), fdl_opt_int(o.ignore_index, -100),
                                          smoothing);
        });
    });
}

fdl_tensor *fdl_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_nll_loss_opts *opts)
{
    const fdl_nll_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        int64_t classes = check_classes(pred->t, target->t);
        return with_classes(classes, [&] {
            return at::nll_loss_nd(pred->t, target->t, class_weight(o.weight, pred->t, classes),
                                   reduction(o.reduction), fdl_opt_int(o.ignore_index, -100));
        });
    });
}

fdl_tensor *fdl_focal_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_focal_loss_opts *opts)
{
    const fdl_focal_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        int64_t classes = check_classes(pred->t, target->t);
        double alpha = fdl_opt_double(o.alpha, 0.25), gamma = fdl_opt_double(o.gamma, 2);
        if (!(gamma >= 0))
            fail(FDL_E_ARG, ".gamma is %g; it is at least 0", gamma);
        std::optional<at::Tensor> weight = class_weight(o.weight, pred->t, classes);
        return with_classes(classes, [&] {
            /* -log p_t, which autocast computes in float32; no class is ignored */
            at::Tensor far = at::cross_entropy_loss(pred->t, target->t, std::nullopt, at::Reduction::None,
                                                    std::numeric_limits<int64_t>::min());
            at::Tensor each = at::mul(far, alpha);
            if (gamma != 0)
                each = at::mul(each, focus(at::rsub(at::exp(at::neg(far)), 1), gamma));
            if (!weight)
                return reduced(each, o.reduction);
            at::Tensor w =
                as(weight->index_select(0, target->t.reshape(-1)).view_as(target->t), each.scalar_type());
            each = at::mul(each, w);
            return o.reduction == FDL_MEAN ? at::div(at::sum(each), at::sum(w)) : reduced(each, o.reduction);
        });
    });
}

fdl_tensor *fdl_multi_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                      const fdl_multi_margin_loss_opts *opts)
{
    const fdl_multi_margin_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        if (pred->t.dim() > 2)
            fail(FDL_E_SHAPE, "pred is [N, C] or [C]");
        int64_t classes = check_classes(pred->t, target->t);
        if (o.p != 0 && o.p != 1 && o.p != 2)
            fail(FDL_E_ARG, ".p is %d; it is 1 or 2", o.p);
        const at::Tensor &t = target->t;
        if (on_cpu(t) && t.numel() && (t.lt(0).any().item<bool>() || t.ge(classes).any().item<bool>()))
            fail(FDL_E_RANGE, "a class is outside; classes are 0 to %lld", (long long)classes - 1);
        return at::multi_margin_loss(pred->t, t, o.p ? o.p : 1, fdl_opt_double(o.margin, 1),
                                     class_weight(o.weight, pred->t, classes), reduction(o.reduction));
    });
}

fdl_tensor *fdl_ctc_loss_opt(fdl_tensor *log_probs, fdl_tensor *targets, fdl_tensor *input_lengths,
                             fdl_tensor *target_lengths, const fdl_ctc_loss_opts *opts)
{
    const fdl_ctc_loss_opts &o = or_default(opts);
    return OP_DO((log_probs, targets, input_lengths, target_lengths), {
        const at::Tensor &p = log_probs->t;
        if (p.dim() != 2 && p.dim() != 3)
            fail(FDL_E_SHAPE, "log_probs is [T, N, C] or [T, C]");
        if (!at::isIntegralType(targets->t.scalar_type(), false) || targets->t.dim() < 1 ||
            targets->t.dim() > 2)
            fail(at::isIntegralType(targets->t.scalar_type(), false) ? FDL_E_SHAPE : FDL_E_DTYPE,
                 "targets are integers [N, S], or all in one row");
        int64_t batch = p.dim() == 3 ? p.size(1) : 1;
        if (targets->t.dim() == 2 && targets->t.size(0) != batch)
            fail(FDL_E_SHAPE, "log_probs has %lld samples, targets %lld", (long long)batch,
                 (long long)targets->t.size(0));
        for (const at::Tensor *lengths : {&input_lengths->t, &target_lengths->t}) {
            if (!at::isIntegralType(lengths->scalar_type(), false))
                fail(FDL_E_DTYPE, "lengths are int64");
            if (lengths->numel() != batch || lengths->dim() > 1)
                fail(FDL_E_SHAPE, "lengths are [%lld], got %s", (long long)batch,
                     shape_text(lengths->sizes()).text);
        }
        if (o.blank < 0 || o.blank >= p.size(-1))
            fail(FDL_E_ARG, ".blank is %lld; classes are 0 to %lld", (long long)o.blank,
                 (long long)p.size(-1) - 1);
        if (on_cpu(targets->t))
            check_ctc(p, targets->t, input_lengths->t, target_lengths->t, o.blank);
        return at::ctc_loss(p, targets->t, input_lengths->t, target_lengths->t, o.blank,
                            reduction(o.reduction), o.zero_infinity);
    });
}

/* ---- yes or no ---- */

fdl_tensor *fdl_binary_cross_entropy_opt(fdl_tensor *pred, fdl_tensor *target,
                                         const fdl_binary_cross_entropy_opts *opts)
{
    const fdl_binary_cross_entropy_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        pair x(pred->t, target->t);
        if (!on_cpu(x.p) && at::autocast::is_autocast_enabled(x.p.device().type()))
            fail(FDL_E_DTYPE,
                 "a sigmoid in a short dtype rounds to 0 or 1: under autocast give the numbers before it to "
                 "fdl_binary_cross_entropy_with_logits");
        return at::binary_cross_entropy(x.p, x.t, spread(o.weight, x.p), reduction(o.reduction));
    });
}

fdl_tensor *fdl_binary_cross_entropy_with_logits_opt(fdl_tensor *pred, fdl_tensor *target,
                                                     const fdl_binary_cross_entropy_with_logits_opts *opts)
{
    const fdl_binary_cross_entropy_with_logits_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight), opt(o.pos_weight)), {
        pair x(pred->t, target->t);
        return at::binary_cross_entropy_with_logits(x.p, x.t, spread(o.weight, x.p),
                                                    spread(o.pos_weight, x.p), reduction(o.reduction));
    });
}

fdl_tensor *fdl_sigmoid_focal_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                       const fdl_sigmoid_focal_loss_opts *opts)
{
    const fdl_sigmoid_focal_loss_opts &o = or_default(opts);
    return OP_DO((pred, target), {
        double alpha = fdl_opt_double(o.alpha, 0.25), gamma = fdl_opt_double(o.gamma, 2);
        if (!(gamma >= 0))
            fail(FDL_E_ARG, ".gamma is %g; it is at least 0", gamma);
        pair x(pred->t, target->t);
        at::Tensor p = at::sigmoid(x.p), other = at::rsub(x.t, 1);
        at::Tensor each =
            at::binary_cross_entropy_with_logits(x.p, x.t, std::nullopt, std::nullopt, at::Reduction::None);
        if (gamma != 0) { /* 1 - p_t = p (1 - t) + (1 - p) t */
            at::Tensor far = at::add(at::mul(p, other), at::mul(at::rsub(p, 1), x.t));
            each = at::mul(each, focus(far, gamma));
        }
        at::Tensor side = at::add(at::mul(x.t, alpha), at::mul(other, 1 - alpha));
        return reduced(at::mul(each, side), o.reduction);
    });
}

fdl_tensor *fdl_multilabel_soft_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                                const fdl_multilabel_soft_margin_loss_opts *opts)
{
    const fdl_multilabel_soft_margin_loss_opts &o = or_default(opts);
    return OP_DO((pred, target, opt(o.weight)), {
        pair x(pred->t, target->t);
        if (x.p.dim() < 1)
            fail(FDL_E_SHAPE, "pred is [N, C] or [C], got a 0-d tensor");
        at::Tensor each = at::neg(at::add(at::mul(x.t, at::log_sigmoid(x.p)),
                                          at::mul(at::rsub(x.t, 1), at::log_sigmoid(at::neg(x.p)))));
        if (o.weight)
            each = at::mul(each, *spread(o.weight, x.p));
        /* the sum, not the mean: autocast on CUDA takes it in float32, as in PyTorch */
        at::Tensor mean = at::div(at::sum(each, at::IntArrayRef((int64_t)-1)), x.p.size(-1));
        return reduced(mean, o.reduction);
    });
}

fdl_tensor *fdl_soft_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_loss_opts *opts)
{
    return OP_DO((pred, target), {
        pair x(pred->t, target->t);
        return at::soft_margin_loss(x.p, x.t, reduction(or_default(opts).reduction));
    });
}

fdl_tensor *fdl_multilabel_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_loss_opts *opts)
{
    return OP_DO((pred, target), {
        const at::Tensor &p = pred->t, &t = target->t;
        same_shape(t, p, "target");
        if (p.dim() > 2)
            fail(FDL_E_SHAPE, "pred is [N, C] or [C]");
        if (t.scalar_type() != at::kLong)
            fail(FDL_E_DTYPE, "classes are int64; fdl_long converts");
        if (on_cpu(t) && t.numel() && (t.lt(-1).any().item<bool>() || t.ge(p.size(-1)).any().item<bool>()))
            fail(FDL_E_RANGE, "classes are 0 to %lld, then -1", (long long)p.size(-1) - 1);
        return at::multilabel_margin_loss(p, t, reduction(or_default(opts).reduction));
    });
}

fdl_tensor *fdl_dice_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_dice_loss_opts *opts)
{
    const fdl_dice_loss_opts &o = or_default(opts);
    return OP_DO((pred, target), {
        double eps = fdl_opt_double(o.eps, 1);
        if (!(eps >= 0))
            fail(FDL_E_ARG, ".eps is %g; it is at least 0", eps);
        pair x(pred->t, target->t);
        if (x.p.dim() < 2)
            fail(FDL_E_SHAPE, "pred is [N, *], got %s", shape_text(x.p.sizes()).text);
        at::Tensor p = x.p.flatten(1), t = x.t.flatten(1);
        const int64_t one = 1;
        at::IntArrayRef dim(one);
        at::Tensor both = at::add(at::mul(at::sum(at::mul(p, t), dim), 2), eps);
        at::Tensor all = at::add(at::add(at::sum(p, dim), at::sum(t, dim)), eps);
        return reduced(at::rsub(at::div(both, all), 1), o.reduction);
    });
}

/* ---- distributions and distances ---- */

fdl_tensor *fdl_kl_div_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_kl_div_opts *opts)
{
    const fdl_kl_div_opts &o = or_default(opts);
    return OP_DO((pred, target), {
        pair x(pred->t, target->t);
        if (o.reduction != FDL_BATCHMEAN)
            return at::kl_div(x.p, x.t, reduction(o.reduction), o.log_target);
        if (x.p.dim() < 1)
            fail(FDL_E_SHAPE, "FDL_BATCHMEAN needs a batch dim, got a 0-d tensor");
        return at::div(at::kl_div(x.p, x.t, at::Reduction::Sum, o.log_target), x.p.size(0));
    });
}

fdl_tensor *fdl_triplet_margin_loss_opt(fdl_tensor *anchor, fdl_tensor *positive, fdl_tensor *negative,
                                        const fdl_triplet_margin_loss_opts *opts)
{
    const fdl_triplet_margin_loss_opts &o = or_default(opts);
    return OP_DO((anchor, positive, negative), {
        const at::Tensor &a = anchor->t;
        same_shape(positive->t, a, "the positive");
        same_shape(negative->t, a, "the negative");
        if (a.dim() < 1)
            fail(FDL_E_SHAPE, "the anchor is [N, D] or [D], got a 0-d tensor");
        at::ScalarType type = c10::promoteTypes(common(a, positive->t), common(a, negative->t));
        double margin = fdl_opt_double(o.margin, 1);
        if (!(margin >= 0))
            fail(FDL_E_ARG, ".margin is %g; it is at least 0", margin);
        return at::triplet_margin_loss(as(a, type), as(positive->t, type), as(negative->t, type), margin,
                                       fdl_opt_double(o.p, 2), fdl_opt_double(o.eps, 1e-6), o.swap,
                                       reduction(o.reduction));
    });
}

fdl_tensor *fdl_cosine_embedding_loss_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *label,
                                          const fdl_margin_loss_opts *opts)
{
    const fdl_margin_loss_opts &o = or_default(opts);
    return OP_DO((x1, x2, label), {
        pair x(x1->t, x2->t);
        if (x.p.dim() != 1 && x.p.dim() != 2)
            fail(FDL_E_SHAPE, "x1 and x2 are [N, D] or [D]");
        if (label->t.sizes() != x.p.sizes().slice(0, (size_t)x.p.dim() - 1))
            fail(FDL_E_SHAPE, "the labels are [N], or [] for one pair, got %s",
                 shape_text(label->t.sizes()).text);
        check_labels(label->t);
        return at::cosine_embedding_loss(x.p, x.t, label->t, fdl_opt_double(o.margin, 0),
                                         reduction(o.reduction));
    });
}

fdl_tensor *fdl_margin_ranking_loss_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *label,
                                        const fdl_margin_loss_opts *opts)
{
    const fdl_margin_loss_opts &o = or_default(opts);
    return OP_DO((x1, x2, label), {
        pair x(x1->t, x2->t);
        same_shape(label->t, x.p, "label");
        return at::margin_ranking_loss(x.p, x.t, label->t, fdl_opt_double(o.margin, 0),
                                       reduction(o.reduction));
    });
}

fdl_tensor *fdl_hinge_embedding_loss_opt(fdl_tensor *x, fdl_tensor *label, const fdl_margin_loss_opts *opts)
{
    const fdl_margin_loss_opts &o = or_default(opts);
    return OP_DO((x, label), {
        pair both(x->t, label->t);
        return at::hinge_embedding_loss(both.p, both.t, fdl_opt_double(o.margin, 1), reduction(o.reduction));
    });
}
