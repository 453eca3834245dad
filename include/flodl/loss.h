/* Losses. Differentiable in pred, and in target where both are floating and the loss has that gradient.
 *
 * The result is 0-d, except with .reduction = FDL_NONE. pred and target share a device; where both are
 * floating, or the target holds integers that stand for numbers, they are promoted to one dtype. Shapes that
 * differ are FDL_E_SHAPE, also where PyTorch would broadcast ([4, 1] with [4] is the classic mistake). An
 * option that is 0 by intent is FDL_ZERO.
 *
 * There are no objects for losses: nn.CrossEntropyLoss(label_smoothing=0.1) is the call fdl_cross_entropy(pred, target,
 * .label_smoothing = 0.1), and so for all others. */
#ifndef FLODL_LOSS_H
#define FLODL_LOSS_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef enum fdl_reduction {
    FDL_MEAN = 0,
    FDL_SUM,
    FDL_NONE,     /* a value for each element, or for each sample */
    FDL_BATCHMEAN /* the sum divided by the extent of dim 0: fdl_kl_div only */
} fdl_reduction;

/* ---- regression ---------------------------------------------------------------------------------- */

typedef struct fdl_mse_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight; /* pred's shape; the mean then divides by its sum */
    bool broadcast;     /* let pred and target broadcast */
} fdl_mse_loss_opts;
/* F.mse_loss: (pred - target)^2. */
FDL_API fdl_tensor *fdl_mse_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_mse_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_mse_loss_opts *opts);

typedef struct fdl_l1_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight; /* pred's shape; the mean then divides by its sum */
    bool broadcast;
} fdl_l1_loss_opts;
/* F.l1_loss: |pred - target|. */
FDL_API fdl_tensor *fdl_l1_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_l1_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_l1_loss_opts *opts);

typedef struct fdl_smooth_l1_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double beta; /* default 1; FDL_ZERO is l1_loss; below 0: FDL_E_ARG */
    bool broadcast;
} fdl_smooth_l1_loss_opts;
/* F.smooth_l1_loss: d^2 / (2 beta) where d = |pred - target| < beta, else d - beta / 2. */
FDL_API fdl_tensor *fdl_smooth_l1_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_smooth_l1_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                           const fdl_smooth_l1_loss_opts *opts);

typedef struct fdl_huber_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double delta;       /* above 0, default 1 */
    fdl_tensor *weight; /* pred's shape; the mean stays that of the elements, as in PyTorch */
    bool broadcast;
} fdl_huber_loss_opts;
/* F.huber_loss: d^2 / 2 where d <= delta, else delta (d - delta / 2). */
FDL_API fdl_tensor *fdl_huber_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_huber_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_huber_loss_opts *opts);

typedef struct fdl_poisson_nll_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    bool no_log_input; /* pred is the rate itself: pred - target log(pred + eps) */
    bool full;         /* adds Stirling's t log t - t + log(2 pi t) / 2 where t > 1 */
    double eps;        /* default 1e-8 */
} fdl_poisson_nll_loss_opts;
/* F.poisson_nll_loss: e^pred - target pred. */
FDL_API fdl_tensor *fdl_poisson_nll_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_poisson_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                             const fdl_poisson_nll_loss_opts *opts);

typedef struct fdl_gaussian_nll_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    bool full;  /* adds log(2 pi) / 2 */
    double eps; /* the least variance, default 1e-6 */
} fdl_gaussian_nll_loss_opts;
/* F.gaussian_nll_loss: (log max(var, eps) + (pred - target)^2 / max(var, eps)) / 2. var: pred's shape, or
 * without or with 1 in the last dim. A variance below 0: FDL_E_ARG on the CPU; elsewhere it counts as eps. */
FDL_API fdl_tensor *fdl_gaussian_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target, fdl_tensor *var,
                                              const fdl_gaussian_nll_loss_opts *opts);

/* ---- one class of C --------------------------------------------------------------------------------- */

typedef struct fdl_cross_entropy_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;  /* the mean divides by the weights of the targets that count */
    fdl_tensor *weight;       /* [C] */
    fdl_opt_i64 ignore_index; /* targets of this value don't count, default FDL_SOME(-100) */
    double label_smoothing;   /* in [0, 1], default 0 */
} fdl_cross_entropy_opts;
/* F.cross_entropy: pred logits [N, C, *] or [C]; target int64 classes [N, *] or [], or probabilities of
 * pred's shape. A class outside: FDL_E_RANGE on the CPU, a device assert on CUDA. */
FDL_API fdl_tensor *fdl_cross_entropy(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_cross_entropy_opt(fdl_tensor *pred, fdl_tensor *target,
                                          const fdl_cross_entropy_opts *opts);

typedef struct fdl_nll_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight;       /* [C] */
    fdl_opt_i64 ignore_index; /* default FDL_SOME(-100) */
} fdl_nll_loss_opts;
/* F.nll_loss: pred log-probabilities [N, C, *] or [C]; target int64 [N, *] or []: -weight[target]
 * pred[target]. */
FDL_API fdl_tensor *fdl_nll_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_nll_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_nll_loss_opts *opts);

typedef struct fdl_focal_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double alpha;       /* default 0.25 */
    double gamma;       /* default 2 */
    fdl_tensor *weight; /* [C]; the mean then divides by the targets' weights */
} fdl_focal_loss_opts;
/* -alpha (1 - p_t)^gamma log p_t, p_t the softmax of the target's class: pred logits [N, C, *], target int64
 * [N, *]. With .gamma = FDL_ZERO, .alpha = 1 it is fdl_cross_entropy. */
FDL_API fdl_tensor *fdl_focal_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_focal_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_focal_loss_opts *opts);

typedef struct fdl_multi_margin_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    int p;              /* 1 (default) or 2 */
    double margin;      /* default 1 */
    fdl_tensor *weight; /* [C] */
} fdl_multi_margin_loss_opts;
/* F.multi_margin_loss: sum over i != y of max(0, margin - pred[y] + pred[i])^p / C. pred [N, C] or [C],
 * target int64 [N] or []. A class outside: FDL_E_RANGE on the CPU, a device assert on CUDA. */
FDL_API fdl_tensor *fdl_multi_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                              const fdl_multi_margin_loss_opts *opts);

typedef struct fdl_ctc_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction; /* the mean is of each loss divided by its target's length */
    int64_t blank;           /* class, default 0 */
    bool zero_infinity;      /* a target that doesn't fit its input counts 0, not inf */
} fdl_ctc_loss_opts;
/* F.ctc_loss: log_probs [T, N, C] or [T, C]; targets [N, S], or all in one row; lengths [N] int64. The blank, or a class
 * outside, within a target, or a length that isn't there: FDL_E_ARG and FDL_E_RANGE for targets on the CPU, undefined
 * elsewhere. */
FDL_API fdl_tensor *fdl_ctc_loss_opt(fdl_tensor *log_probs, fdl_tensor *targets, fdl_tensor *input_lengths,
                                     fdl_tensor *target_lengths, const fdl_ctc_loss_opts *opts);

/* ---- yes or no ------------------------------------------------------------------------------------- */

typedef struct fdl_binary_cross_entropy_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight; /* broadcasts to pred's shape */
} fdl_binary_cross_entropy_opts;
/* F.binary_cross_entropy: -(t log p + (1 - t) log(1 - p)), the logs at least -100. pred outside [0, 1]: an
 * error on the CPU, a device assert on CUDA. Under autocast on CUDA FDL_E_DTYPE: use the form with logits. */
FDL_API fdl_tensor *fdl_binary_cross_entropy(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_binary_cross_entropy_opt(fdl_tensor *pred, fdl_tensor *target,
                                                 const fdl_binary_cross_entropy_opts *opts);

typedef struct fdl_binary_cross_entropy_with_logits_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight;     /* broadcasts to pred's shape */
    fdl_tensor *pos_weight; /* of the positive side, broadcasts to pred's shape */
} fdl_binary_cross_entropy_with_logits_opts;
/* F.binary_cross_entropy_with_logits: the same of sigmoid(pred), stable. */
FDL_API fdl_tensor *fdl_binary_cross_entropy_with_logits(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_binary_cross_entropy_with_logits_opt(
    fdl_tensor *pred, fdl_tensor *target, const fdl_binary_cross_entropy_with_logits_opts *opts);

typedef struct fdl_sigmoid_focal_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double alpha; /* weight of the positive side, default 0.25 */
    double gamma; /* default 2 */
} fdl_sigmoid_focal_loss_opts;
/* -alpha_t (1 - p_t)^gamma log p_t of sigmoid(pred), element by element; target of pred's shape, 0 or 1.
 * torchvision's. */
FDL_API fdl_tensor *fdl_sigmoid_focal_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_sigmoid_focal_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                               const fdl_sigmoid_focal_loss_opts *opts);

typedef struct fdl_multilabel_soft_margin_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    fdl_tensor *weight; /* broadcasts to pred's shape */
} fdl_multilabel_soft_margin_loss_opts;
/* F.multilabel_soft_margin_loss: the cross entropy of sigmoid(pred) averaged over the last dim: [N, C] ->
 * [N]. */
FDL_API fdl_tensor *fdl_multilabel_soft_margin_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_multilabel_soft_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                                        const fdl_multilabel_soft_margin_loss_opts *opts);

typedef struct fdl_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
} fdl_loss_opts;
/* F.soft_margin_loss: log(1 + e^(-target pred)), target 1 or -1, of pred's shape. */
FDL_API fdl_tensor *fdl_soft_margin_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_soft_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_loss_opts *opts);
/* F.multilabel_margin_loss: target int64 of pred's shape [N, C] or [C], each row its classes and then -1. */
FDL_API fdl_tensor *fdl_multilabel_margin_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_multilabel_margin_loss_opt(fdl_tensor *pred, fdl_tensor *target,
                                                   const fdl_loss_opts *opts);

typedef struct fdl_dice_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double eps; /* in both halves of the fraction, default 1 */
} fdl_dice_loss_opts;
/* 1 - (2 sum(p t) + eps) / (sum p + sum t + eps) of each sample: pred probabilities [N, *], target of pred's
 * shape -> [N]. */
FDL_API fdl_tensor *fdl_dice_loss(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_dice_loss_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_dice_loss_opts *opts);

/* ---- distributions and distances --------------------------------------------------------------------- */

typedef struct fdl_kl_div_opts {
    fdl_by_name opts_;
    fdl_reduction reduction; /* the mathematical value is FDL_BATCHMEAN; the default is PyTorch's, FDL_MEAN */
    bool log_target;         /* target holds log-probabilities too */
} fdl_kl_div_opts;
/* F.kl_div: t (log t - pred), 0 where t is 0; pred holds log-probabilities. */
FDL_API fdl_tensor *fdl_kl_div(fdl_tensor *pred, fdl_tensor *target);
FDL_API fdl_tensor *fdl_kl_div_opt(fdl_tensor *pred, fdl_tensor *target, const fdl_kl_div_opts *opts);

typedef struct fdl_triplet_margin_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double margin; /* default 1 */
    double p;      /* of the norm, default 2 */
    double eps;    /* default 1e-6 */
    bool swap;     /* the nearer of anchor and positive to the negative */
} fdl_triplet_margin_loss_opts;
/* F.triplet_margin_loss: max(0, d(anchor, positive) - d(anchor, negative) + margin), d the norm of x - y +
 * eps; all [N, D] -> [N], or [D] -> []. */
FDL_API fdl_tensor *fdl_triplet_margin_loss_opt(fdl_tensor *anchor, fdl_tensor *positive,
                                                fdl_tensor *negative,
                                                const fdl_triplet_margin_loss_opts *opts);

/* Between x and y; ctx is the option's. What it makes dies with the loss. NULL: an error. */
typedef fdl_tensor *fdl_distance(fdl_tensor *x, fdl_tensor *y, void *ctx);
typedef struct fdl_triplet_margin_with_distance_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double margin;          /* above 0, default 1 */
    bool swap;              /* the nearer of anchor and positive to the negative */
    fdl_distance *distance; /* default fdl_pairwise_distance: [N, D], [N, D] -> [N] */
    void *ctx;              /* handed to it */
} fdl_triplet_margin_with_distance_loss_opts;
/* F.triplet_margin_with_distance_loss: max(0, d(anchor, positive) - d(anchor, negative) + margin), of the shape that
 * the distance has; all three have as many dims (FDL_E_SHAPE otherwise). */
FDL_API fdl_tensor *fdl_triplet_margin_with_distance_loss_opt(
    fdl_tensor *anchor, fdl_tensor *positive, fdl_tensor *negative,
    const fdl_triplet_margin_with_distance_loss_opts *opts);

typedef struct fdl_margin_loss_opts {
    fdl_by_name opts_;
    fdl_reduction reduction;
    double margin; /* default 0 (hinge_embedding_loss: 1) */
} fdl_margin_loss_opts;
/* F.cosine_embedding_loss: x1, x2 [N, D], labels [N] (or [D] and []): label 1: 1 - cos; -1: max(0, cos -
 * margin). Another label: FDL_E_ARG on the CPU; elsewhere it counts 0. */
FDL_API fdl_tensor *fdl_cosine_embedding_loss_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *label,
                                                  const fdl_margin_loss_opts *opts);
/* F.margin_ranking_loss: max(0, -label (x1 - x2) + margin), all of one shape. */
FDL_API fdl_tensor *fdl_margin_ranking_loss_opt(fdl_tensor *x1, fdl_tensor *x2, fdl_tensor *label,
                                                const fdl_margin_loss_opts *opts);
/* F.hinge_embedding_loss: label 1: x; -1: max(0, margin - x); the labels of x's shape. */
FDL_API fdl_tensor *fdl_hinge_embedding_loss(fdl_tensor *x, fdl_tensor *label);
FDL_API fdl_tensor *fdl_hinge_embedding_loss_opt(fdl_tensor *x, fdl_tensor *label,
                                                 const fdl_margin_loss_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_mse_loss(pred, ...) fdl_mse_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_mse_loss_(pred, target, ...) fdl_mse_loss_opt(pred, target, &(fdl_mse_loss_opts){__VA_ARGS__})
#define fdl_l1_loss(pred, ...) fdl_l1_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_l1_loss_(pred, target, ...) fdl_l1_loss_opt(pred, target, &(fdl_l1_loss_opts){__VA_ARGS__})
#define fdl_smooth_l1_loss(pred, ...) fdl_smooth_l1_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_smooth_l1_loss_(pred, target, ...) \
    fdl_smooth_l1_loss_opt(pred, target, &(fdl_smooth_l1_loss_opts){__VA_ARGS__})
#define fdl_huber_loss(pred, ...) fdl_huber_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_huber_loss_(pred, target, ...) \
    fdl_huber_loss_opt(pred, target, &(fdl_huber_loss_opts){__VA_ARGS__})
#define fdl_poisson_nll_loss(pred, ...) fdl_poisson_nll_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_poisson_nll_loss_(pred, target, ...) \
    fdl_poisson_nll_loss_opt(pred, target, &(fdl_poisson_nll_loss_opts){__VA_ARGS__})
#define fdl_gaussian_nll_loss(pred, target, ...) fdl_gaussian_nll_loss_(pred, target, __VA_ARGS__, .opts_ = 0)
#define fdl_gaussian_nll_loss_(pred, target, var, ...) \
    fdl_gaussian_nll_loss_opt(pred, target, var, &(fdl_gaussian_nll_loss_opts){__VA_ARGS__})
#define fdl_cross_entropy(pred, ...) fdl_cross_entropy_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_cross_entropy_(pred, target, ...) \
    fdl_cross_entropy_opt(pred, target, &(fdl_cross_entropy_opts){__VA_ARGS__})
#define fdl_nll_loss(pred, ...) fdl_nll_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_nll_loss_(pred, target, ...) fdl_nll_loss_opt(pred, target, &(fdl_nll_loss_opts){__VA_ARGS__})
#define fdl_focal_loss(pred, ...) fdl_focal_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_focal_loss_(pred, target, ...) \
    fdl_focal_loss_opt(pred, target, &(fdl_focal_loss_opts){__VA_ARGS__})
#define fdl_multi_margin_loss(pred, ...) fdl_multi_margin_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_multi_margin_loss_(pred, target, ...) \
    fdl_multi_margin_loss_opt(pred, target, &(fdl_multi_margin_loss_opts){__VA_ARGS__})
#define fdl_ctc_loss(log_probs, targets, input_lengths, ...) \
    fdl_ctc_loss_(log_probs, targets, input_lengths, __VA_ARGS__, .opts_ = 0)
#define fdl_ctc_loss_(log_probs, targets, input_lengths, target_lengths, ...) \
    fdl_ctc_loss_opt(log_probs, targets, input_lengths, target_lengths, &(fdl_ctc_loss_opts){__VA_ARGS__})
#define fdl_binary_cross_entropy(pred, ...) fdl_binary_cross_entropy_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_binary_cross_entropy_(pred, target, ...) \
    fdl_binary_cross_entropy_opt(pred, target, &(fdl_binary_cross_entropy_opts){__VA_ARGS__})
#define fdl_binary_cross_entropy_with_logits(pred, ...) \
    fdl_binary_cross_entropy_with_logits_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_binary_cross_entropy_with_logits_(pred, target, ...) \
    fdl_binary_cross_entropy_with_logits_opt(pred, target,       \
                                             &(fdl_binary_cross_entropy_with_logits_opts){__VA_ARGS__})
#define fdl_sigmoid_focal_loss(pred, ...) fdl_sigmoid_focal_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_sigmoid_focal_loss_(pred, target, ...) \
    fdl_sigmoid_focal_loss_opt(pred, target, &(fdl_sigmoid_focal_loss_opts){__VA_ARGS__})
#define fdl_multilabel_soft_margin_loss(pred, ...) \
    fdl_multilabel_soft_margin_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_multilabel_soft_margin_loss_(pred, target, ...) \
    fdl_multilabel_soft_margin_loss_opt(pred, target, &(fdl_multilabel_soft_margin_loss_opts){__VA_ARGS__})
#define fdl_soft_margin_loss(pred, ...) fdl_soft_margin_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_soft_margin_loss_(pred, target, ...) \
    fdl_soft_margin_loss_opt(pred, target, &(fdl_loss_opts){__VA_ARGS__})
#define fdl_multilabel_margin_loss(pred, ...) fdl_multilabel_margin_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_multilabel_margin_loss_(pred, target, ...) \
    fdl_multilabel_margin_loss_opt(pred, target, &(fdl_loss_opts){__VA_ARGS__})
#define fdl_dice_loss(pred, ...) fdl_dice_loss_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_dice_loss_(pred, target, ...) fdl_dice_loss_opt(pred, target, &(fdl_dice_loss_opts){__VA_ARGS__})
#define fdl_kl_div(pred, ...) fdl_kl_div_(pred, __VA_ARGS__, .opts_ = 0)
#define fdl_kl_div_(pred, target, ...) fdl_kl_div_opt(pred, target, &(fdl_kl_div_opts){__VA_ARGS__})
#define fdl_triplet_margin_loss(anchor, positive, ...) \
    fdl_triplet_margin_loss_(anchor, positive, __VA_ARGS__, .opts_ = 0)
#define fdl_triplet_margin_loss_(anchor, positive, negative, ...) \
    fdl_triplet_margin_loss_opt(anchor, positive, negative, &(fdl_triplet_margin_loss_opts){__VA_ARGS__})
#define fdl_triplet_margin_with_distance_loss(anchor, positive, ...) \
    fdl_triplet_margin_with_distance_loss_(anchor, positive, __VA_ARGS__, .opts_ = 0)
#define fdl_triplet_margin_with_distance_loss_(anchor, positive, negative, ...) \
    fdl_triplet_margin_with_distance_loss_opt(anchor, positive, negative,       \
                                              &(fdl_triplet_margin_with_distance_loss_opts){__VA_ARGS__})
#define fdl_cosine_embedding_loss(x1, x2, ...) fdl_cosine_embedding_loss_(x1, x2, __VA_ARGS__, .opts_ = 0)
#define fdl_cosine_embedding_loss_(x1, x2, label, ...) \
    fdl_cosine_embedding_loss_opt(x1, x2, label, &(fdl_margin_loss_opts){__VA_ARGS__})
#define fdl_margin_ranking_loss(x1, x2, ...) fdl_margin_ranking_loss_(x1, x2, __VA_ARGS__, .opts_ = 0)
#define fdl_margin_ranking_loss_(x1, x2, label, ...) \
    fdl_margin_ranking_loss_opt(x1, x2, label, &(fdl_margin_loss_opts){__VA_ARGS__})
#define fdl_hinge_embedding_loss(x, ...) fdl_hinge_embedding_loss_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_hinge_embedding_loss_(x, label, ...) \
    fdl_hinge_embedding_loss_opt(x, label, &(fdl_margin_loss_opts){__VA_ARGS__})
#endif

#endif
