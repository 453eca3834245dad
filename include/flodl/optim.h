/* Optimizers, and what is done with gradients before a step. torch.optim, torch.nn.utils.clip_grad_*. */
#ifndef FLODL_OPTIM_H
#define FLODL_OPTIM_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* Parameters in groups, each with options of its own, and what the method remembers of each parameter. Holds
 * references: the module may be freed before it. */
typedef struct fdl_optim fdl_optim;

/* How a step is computed; all ways give equal results up to rounding. */
typedef enum fdl_optim_impl {
    FDL_OPTIM_AUTO =
        0, /* fused where libtorch has the kernel for the parameter's device; else foreach on a GPU, on the CPU loop */
    FDL_OPTIM_LOOP,    /* one parameter after the other, in plain operations */
    FDL_OPTIM_FOREACH, /* the same operations over whole lists */
    FDL_OPTIM_FUSED    /* one kernel; where that is impossible the step is FDL_E_UNSUPPORTED */
} fdl_optim_impl;

/* What muon makes of the rate for a parameter [m, n]. */
typedef enum fdl_optim_adjust {
    FDL_ADJUST_ORIGINAL = 0, /* lr * sqrt(max(1, m / n)) */
    FDL_ADJUST_MATCH_RMS_ADAMW /* lr * 0.2 * sqrt(max(m, n)): rates and decays that were found for adamw can be kept */
} fdl_optim_adjust;

/* One struct for all optimizers and fdl_optim_add_group. A field left out is the optimizer's default, in
 * add_group what group 0 has; a field that the optimizer doesn't know is FDL_E_ARG. FDL_ZERO is an explicit
 * 0. */
typedef struct fdl_optim_opts {
    fdl_by_name opts_;
    /* learning rate, >= 0; sgd, adam, adamw, radam, muon, sparse_adam 1e-3; rmsprop, adagrad, adafactor, rprop, asgd 1e-2;
     * adamax, nadam 2e-3; adadelta, lbfgs 1; lion 1e-4 */
    double lr;
    /* all but rprop, lbfgs, sparse_adam. >= 0, default 0, added to the gradient; adamw 1e-2, muon 0.1, adafactor 0, lion 0:
     * taken off the parameter, which is p *= 1 - lr * weight_decay */
    double weight_decay;
    bool maximize;       /* climb: the gradient is negated; all but muon, lbfgs */
    fdl_optim_impl impl; /* all but lbfgs */
    /* sgd, adam, adamw */
    bool master_weights; /* parameters of half types are stepped in float32 copies, and get these rounded */
    /* sgd, rmsprop, muon */
    double momentum; /* >= 0, default 0; muon 0.95 */
    /* sgd */
    double dampening; /* default 0 */
    bool nesterov;    /* needs momentum > 0 and dampening 0 */
    /* adam, adamw, adamax, nadam, radam, lion, sparse_adam */
    double beta1, beta2; /* in [0, 1), default 0.9 and 0.999; lion 0.9 and 0.99 */
    /* all but sgd, lion, adafactor, rprop, asgd, lbfgs */
    double eps; /* >= 0, default 1e-8; adagrad 1e-10, adadelta 1e-6, muon 1e-7 */
    /* adam, adamw */
    bool amsgrad; /* divide by the largest second moment so far */
    /* adam, nadam, radam */
    bool
        decoupled; /* weight decay is taken off the parameter, as adamw's; PyTorch's decoupled_weight_decay */
    /* rmsprop, asgd */
    double
        alpha; /* rmsprop: what is kept of the running averages, in [0, 1), default 0.99; asgd: the power, default 0.75 */
    bool centered; /* rmsprop: divide by a standard deviation */
    /* adagrad */
    double lr_decay;            /* the rate is lr / (1 + (t - 1) * lr_decay) at step t; >= 0, default 0 */
    double initial_accumulator; /* what the sums begin with, >= 0, default 0 */
    /* adadelta */
    double rho; /* what is kept of the running averages, in [0, 1), default 0.9 */
    /* nadam */
    double momentum_decay; /* >= 0, default 4e-3 */
    /* muon */
    bool no_nesterov;
    int ns_steps;            /* Newton-Schulz iterations, 1 to 99, default 5 */
    double ns_a, ns_b, ns_c; /* their polynomial a x + b x^3 + c x^5, default 3.4445, -4.775, 2.0315 */
    fdl_optim_adjust adjust;
    /* adafactor */
    double beta2_decay; /* at step t the averages keep 1 - t^beta2_decay; <= 0, default -0.8 */
    double
        eps1; /* the least root of the second moment, > 0, default the dtype's machine epsilon, which is read as 0 */
    double eps2; /* the least scale of a parameter, >= 0, default 1e-3 */
    double d;    /* updates of a larger root mean square are scaled down to it, >= 1, default 1 */
    /* rprop */
    double eta_minus,
        eta_plus;              /* what step sizes are multiplied by, below and above 1, default 0.5 and 1.2 */
    double step_min, step_max; /* where they stay, default 1e-6 and 50 */
    /* asgd */
    double lambd; /* how fast the rate falls, default 1e-4 */
    double t0;    /* the step from which the parameters are averaged, default 1e6 */
    /* lbfgs */
    int max_iter;            /* iterations a step, default 20 */
    int max_eval;            /* evaluations a step, default max_iter * 5 / 4, which is read as 0 */
    double tolerance_grad;   /* enough when no gradient is larger, >= 0, default 1e-7 */
    double tolerance_change; /* enough when the loss or no parameter changes by more, >= 0, default 1e-9 */
    int history_size; /* pairs of vectors as long as all parameters together that are remembered, default 100 */
    bool strong_wolfe; /* search along the line; default: a step of lr */
} fdl_optim_opts;

/* torch.optim.SGD, Adam, AdamW over the parameters of the list, which becomes group 0; an empty list is
 * legal. Owned: fdl_optim_free. A tensor twice, one that isn't a leaf, an option out of range: FDL_E_ARG. sgd takes sparse
 * gradients, without weight decay; where nothing is said of them, a sparse gradient makes the step FDL_E_UNSUPPORTED. */
FDL_API fdl_optim *fdl_optim_sgd_opt(const fdl_params *params, const fdl_optim_opts *opts);
FDL_API fdl_optim *fdl_optim_adam_opt(const fdl_params *params, const fdl_optim_opts *opts);
FDL_API fdl_optim *fdl_optim_adamw_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Adagrad: divides by the root of the sum of all squares so far. Fused on the CPU, and on CUDA where libtorch has
 * that kernel. Takes sparse gradients, without weight decay: only their rows move, and they alone are squared. */
FDL_API fdl_optim *fdl_optim_adagrad_opt(const fdl_params *params, const fdl_optim_opts *opts);

/* The rest have no fused kernel: the automatic choice is foreach on a GPU and loop on the CPU, and FDL_OPTIM_FUSED makes the step FDL_E_UNSUPPORTED.
 * Ownership and errors as above; their options and defaults stand in fdl_optim_opts. */
/* torch.optim.RMSprop: divides by a running root mean square of the gradients; .centered, by a running standard deviation. */
FDL_API fdl_optim *fdl_optim_rmsprop_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Adadelta: as RMSprop, times the root mean square of its own updates. */
FDL_API fdl_optim *fdl_optim_adadelta_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Adamax: Adam with a decaying largest absolute value in place of the second moment. */
FDL_API fdl_optim *fdl_optim_adamax_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.NAdam: Adam with Nesterov's momentum. */
FDL_API fdl_optim *fdl_optim_nadam_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.RAdam: Adam that doesn't divide until the second moment is worth it, and then rectifies. */
FDL_API fdl_optim *fdl_optim_radam_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* Lion (Chen and others, 2023), which PyTorch doesn't have: the sign of the averaged gradient; weight decay is taken off the
 * parameter. */
FDL_API fdl_optim *fdl_optim_lion_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Muon, for matrices inside a network: the averaged gradient made orthogonal, in bfloat16. A parameter that isn't 2-d
 * is FDL_E_ARG; it goes to an optimizer of its own. */
FDL_API fdl_optim *fdl_optim_muon_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Adafactor: of a parameter [.., m, n] it remembers m + n numbers in place of m * n, and its rate is relative to
 * the parameter's own size: lr is a bound of it. */
FDL_API fdl_optim *fdl_optim_adafactor_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Rprop, for whole data sets in place of batches: only the signs of gradients count, and each element has a step
 * size of its own, which is lr at its first step; a rate that is set later moves nothing. */
FDL_API fdl_optim *fdl_optim_rprop_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.ASGD: SGD at a falling rate, whose parameters' average is kept as the state "ax". A rate that is set acts from the
 * second step on, as in PyTorch. */
FDL_API fdl_optim *fdl_optim_asgd_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.SparseAdam, for sparse gradients: Adam of the rows that a gradient has, the others and what is remembered of them
 * stay. A dense gradient makes the step FDL_E_UNSUPPORTED, and so does the recording of a CUDA graph: how many rows there are
 * is decided by their values. */
FDL_API fdl_optim *fdl_optim_sparse_adam_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.LBFGS: a quasi-Newton method for whole data sets. One group, all parameters on one device and of one dtype. It
 * evaluates the model several times a step, so the step is fdl_optim_step_closure's, and fdl_optim_step, a trainer's and a
 * scaler's steps, and recorded ones, are FDL_E_UNSUPPORTED: the loop is written by hand. It waits for the device. */
FDL_API fdl_optim *fdl_optim_lbfgs_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* NULL: nothing. */
FDL_API void fdl_optim_free(fdl_optim *o);

/* One step of all groups, without recording. Parameters that have no gradient, or are frozen, are left alone,
 * and so is their step count. Doesn't wait for the device. What is remembered of a parameter is made at its
 * first step and follows when the module is moved or cast. */
FDL_API fdl_status fdl_optim_step(fdl_optim *o);
/* The same, but where skip [1] float32 is 1, and not 0, nothing changes, step counts included. That is decided where the
 * parameters are, without waiting: the fused kernels do it for nothing, the other ways of computing a step work on
 * copies. NULL: fdl_optim_step. */
FDL_API fdl_status fdl_optim_step_unless(fdl_optim *o, fdl_tensor *skip);

/* Evaluates the model: forgets the gradients, runs forward and backward, and returns the loss, a tensor of one element (scope). It
 * runs in a scope of its own, recording. NULL: it failed, with an error pending. */
typedef fdl_tensor *(*fdl_optim_closure)(void *ctx);
/* Whether only fdl_optim_step_closure steps it, as lbfgs; false on NULL. */
FDL_API bool fdl_optim_needs_closure(const fdl_optim *o);
/* One step that evaluates the model itself, as often as the method needs: lbfgs several times, the others once and then step.
 * *loss, unless loss is NULL: that of the first evaluation, which waits for the device. Where the closure fails the step
 * does, and lbfgs's parameters are those of its last whole iteration. Optimizer.step(closure). */
FDL_API fdl_status fdl_optim_step_closure(fdl_optim *o, fdl_optim_closure closure, void *ctx, double *loss);

typedef struct fdl_zero_grad_opts {
    fdl_by_name opts_;
    bool set_to_zero; /* fill with zeros; default: drop the gradients, which costs no kernel */
} fdl_zero_grad_opts;
/* Forgets the gradients of all parameters. */
FDL_API fdl_status fdl_optim_zero_grad_opt(fdl_optim *o, const fdl_zero_grad_opts *opts);

/* ---- rates, groups and options --------------------------------------------------------------------- */

/* Group 0's learning rate; NaN on NULL. */
FDL_API double fdl_optim_lr(const fdl_optim *o);
/* Sets group 0's rate, and every other group's in the ratio that the groups began with. A group that began with 0 stays at 0,
 * as under PyTorch's schedules; then lr is that of the first group that didn't. Where all began with 0 each gets lr. */
FDL_API fdl_status fdl_optim_set_lr(fdl_optim *o, double lr);
/* Multiplies every group's rate. */
FDL_API fdl_status fdl_optim_scale_lr(fdl_optim *o, double factor);
/* Number of groups; -1 on NULL. */
FDL_API int fdl_optim_groups(const fdl_optim *o);
/* One group's rate; a group that isn't there: NaN and FDL_E_ARG. Setting it changes its ratio, too. */
FDL_API double fdl_optim_group_lr(const fdl_optim *o, int group);
FDL_API fdl_status fdl_optim_set_group_lr(fdl_optim *o, int group, double lr);
/* Adds a group and returns its index. -1 on failure, with nothing changed: a parameter that is there already,
 * a bad option. */
FDL_API int fdl_optim_add_group_opt(fdl_optim *o, const fdl_params *params, const fdl_optim_opts *opts);
/* A numeric option by its name in fdl_optim_opts: fdl_optim_set_option(o, 0, "weight_decay", 0.01). */
FDL_API fdl_status fdl_optim_set_option(fdl_optim *o, int group, const char *name, double value);
FDL_API double fdl_optim_option(const fdl_optim *o, int group, const char *name);

/* ---- looking inside -------------------------------------------------------------------------------- */

/* "sgd", "adam", "adamw", "rmsprop" and so on: the constructor's name. */
FDL_API const char *fdl_optim_kind(const fdl_optim *o);
/* Advances whenever a step that was recorded before (a CUDA graph) is out of date: a group was added, an option other than
 * a rate was set, a schedule began to move momentum, the state was moved. 0 on NULL. */
FDL_API uint64_t fdl_optim_generation(const fdl_optim *o);
/* The parameters of a group: the list belongs to the current scope, its tensors are borrowed. */
FDL_API fdl_list fdl_optim_params(const fdl_optim *o, int group);
/* What is remembered of a parameter, under PyTorch's names: "step" (0-d float32), "exp_avg", "exp_avg_sq",
 * "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "sum", "acc_delta", "exp_inf", "variance", "prev", "step_size",
 * "ax" (the parameter's shape and dtype; beside master weights float32), "row_var" [.., m, 1], "col_var" [.., 1, n], "mu_product",
 * "eta", "mu" (0-d float32), and "master", which PyTorch doesn't have (float32). What lbfgs remembers isn't of one parameter, and
 * not here. Borrowed; NULL without an error before there is any. */
FDL_API fdl_tensor *fdl_optim_state(const fdl_optim *o, fdl_tensor *param, const char *name);
/* All that is remembered of a parameter so far; the list belongs to the current scope, its tensors are borrowed. */
FDL_API fdl_list fdl_optim_states(const fdl_optim *o, fdl_tensor *param);
/* What every element of one of these tensors is before the parameter's first step: 0, but for adagrad's sums
 * (.initial_accumulator), nadam's products and asgd's "mu" (1), asgd's "eta" and rprop's step sizes (the rate). A tensor that is
 * none of them: 0. "master": 0, from which the next step makes it anew. NaN on NULL. */
FDL_API double fdl_optim_state_start(const fdl_optim *o, fdl_tensor *state);

/* ---- gradients of a list of parameters ------------------------------------------------------------- */

typedef struct fdl_clip_opts {
    fdl_by_name opts_;
    double norm_type;        /* default 2; INFINITY: the largest absolute value */
    bool error_if_nonfinite; /* FDL_E_ARG and nothing scaled when the norm is infinite or NaN; waits for the
                                device */
    double *total; /* gets the norm (or the largest absolute value) before clipping; waits for the device */
} fdl_clip_opts;
/* torch.nn.utils.clip_grad_norm_: scales all gradients by min(1, max / (norm + 1e-6)), norm being that of all
 * of them as one vector. No gradients: norm 0. max < 0: FDL_E_ARG. Gradients may lie on several devices. */
FDL_API fdl_status fdl_clip_grad_norm_opt(const fdl_params *params, double max, const fdl_clip_opts *opts);
/* torch.nn.utils.clip_grad_value_: clamps every element to [-value, value]. Of the options only total. */
FDL_API fdl_status fdl_clip_grad_value_opt(const fdl_params *params, double value, const fdl_clip_opts *opts);
/* The norm of all gradients as one vector; waits for the device. Of the options only norm_type. */
FDL_API fdl_status fdl_grad_norm_opt(const fdl_params *params, double *norm, const fdl_clip_opts *opts);
/* fdl_clip_grad_norm and fdl_clip_grad_value for all parameters of an optimizer; for training steps, since there is no
 * list of parameters to be made, and nothing waits for the device. */
FDL_API fdl_status fdl_optim_clip_norm(fdl_optim *o, double max);
FDL_API fdl_status fdl_optim_clip_value(fdl_optim *o, double value);
/* Fills the gradients with zeros; drops them. */
FDL_API fdl_status fdl_grads_zero(const fdl_params *params);
FDL_API fdl_status fdl_grads_clear(const fdl_params *params);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_optim_sgd(...) fdl_optim_sgd_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_sgd_(params, ...) fdl_optim_sgd_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adam(...) fdl_optim_adam_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adam_(params, ...) fdl_optim_adam_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adamw(...) fdl_optim_adamw_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adamw_(params, ...) fdl_optim_adamw_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_rmsprop(...) fdl_optim_rmsprop_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_rmsprop_(params, ...) fdl_optim_rmsprop_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adagrad(...) fdl_optim_adagrad_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adagrad_(params, ...) fdl_optim_adagrad_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adadelta(...) fdl_optim_adadelta_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adadelta_(params, ...) fdl_optim_adadelta_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adamax(...) fdl_optim_adamax_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adamax_(params, ...) fdl_optim_adamax_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_nadam(...) fdl_optim_nadam_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_nadam_(params, ...) fdl_optim_nadam_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_radam(...) fdl_optim_radam_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_radam_(params, ...) fdl_optim_radam_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_lion(...) fdl_optim_lion_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_lion_(params, ...) fdl_optim_lion_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_muon(...) fdl_optim_muon_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_muon_(params, ...) fdl_optim_muon_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_adafactor(...) fdl_optim_adafactor_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_adafactor_(params, ...) fdl_optim_adafactor_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_rprop(...) fdl_optim_rprop_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_rprop_(params, ...) fdl_optim_rprop_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_asgd(...) fdl_optim_asgd_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_asgd_(params, ...) fdl_optim_asgd_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_sparse_adam(...) fdl_optim_sparse_adam_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_sparse_adam_(params, ...) fdl_optim_sparse_adam_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_lbfgs(...) fdl_optim_lbfgs_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_lbfgs_(params, ...) fdl_optim_lbfgs_opt(params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_add_group(o, ...) fdl_optim_add_group_(o, __VA_ARGS__, .opts_ = 0)
#define fdl_optim_add_group_(o, params, ...) \
    fdl_optim_add_group_opt(o, params, &(fdl_optim_opts){__VA_ARGS__})
#define fdl_optim_zero_grad(...) fdl_optim_zero_grad_(__VA_ARGS__, .opts_ = 0)
#define fdl_optim_zero_grad_(o, ...) fdl_optim_zero_grad_opt(o, &(fdl_zero_grad_opts){__VA_ARGS__})
#define fdl_clip_grad_norm(params, ...) fdl_clip_grad_norm_(params, __VA_ARGS__, .opts_ = 0)
#define fdl_clip_grad_norm_(params, max, ...) \
    fdl_clip_grad_norm_opt(params, max, &(fdl_clip_opts){__VA_ARGS__})
#define fdl_clip_grad_value(params, ...) fdl_clip_grad_value_(params, __VA_ARGS__, .opts_ = 0)
#define fdl_clip_grad_value_(params, value, ...) \
    fdl_clip_grad_value_opt(params, value, &(fdl_clip_opts){__VA_ARGS__})
#define fdl_grad_norm(params, ...) fdl_grad_norm_(params, __VA_ARGS__, .opts_ = 0)
#define fdl_grad_norm_(params, norm, ...) fdl_grad_norm_opt(params, norm, &(fdl_clip_opts){__VA_ARGS__})
#endif

#endif
