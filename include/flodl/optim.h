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
        0, /* fused where libtorch has the kernel, which it has for the parameters that training meets */
    FDL_OPTIM_LOOP,    /* one parameter after the other, in plain operations */
    FDL_OPTIM_FOREACH, /* the same operations over whole lists */
    FDL_OPTIM_FUSED    /* one kernel; where that is impossible the step is FDL_E_UNSUPPORTED */
} fdl_optim_impl;

/* One struct for all optimizers and fdl_optim_add_group. A field left out is the optimizer's default, in
 * add_group what group 0 has; a field that the optimizer doesn't know is FDL_E_ARG. FDL_ZERO is an explicit
 * 0. */
typedef struct fdl_optim_opts {
    int opts_;
    double
        lr; /* learning rate, >= 0; sgd, adam, adamw, radam 1e-3; rmsprop, adagrad 1e-2; adamax, nadam 2e-3;
                * adadelta 1; lion 1e-4 */
    double
        weight_decay; /* >= 0, default 0, added to the gradient; adamw 1e-2, lion 0: taken off the parameter */
    bool maximize;    /* climb: the gradient is negated */
    fdl_optim_impl impl;
    /* sgd, rmsprop */
    double momentum; /* >= 0, default 0 */
    /* sgd */
    double dampening; /* default 0 */
    bool nesterov;    /* needs momentum > 0 and dampening 0 */
    /* adam, adamw, adamax, nadam, radam, lion */
    double beta1, beta2; /* in [0, 1), default 0.9 and 0.999; lion 0.9 and 0.99 */
    /* all but sgd and lion */
    double eps; /* >= 0, default 1e-8; adagrad 1e-10, adadelta 1e-6 */
    /* adam, adamw */
    bool amsgrad; /* divide by the largest second moment so far */
    /* rmsprop */
    double alpha;  /* what is kept of the running averages, in [0, 1), default 0.99 */
    bool centered; /* divide by a standard deviation */
    /* adagrad */
    double lr_decay;            /* the rate is lr / (1 + (t - 1) * lr_decay) at step t; >= 0, default 0 */
    double initial_accumulator; /* what the sums begin with, >= 0, default 0 */
    /* adadelta */
    double rho; /* what is kept of the running averages, in [0, 1), default 0.9 */
    /* nadam */
    double momentum_decay; /* >= 0, default 4e-3 */
    /* nadam, radam */
    bool decoupled; /* weight decay is taken off the parameter, as adamw's */
} fdl_optim_opts;

/* torch.optim.SGD, Adam, AdamW over the parameters of the list, which becomes group 0; an empty list is
 * legal. Owned: fdl_optim_free. A tensor twice, one that isn't a leaf, an option out of range: FDL_E_ARG. */
FDL_API fdl_optim *fdl_optim_sgd_opt(const fdl_params *params, const fdl_optim_opts *opts);
FDL_API fdl_optim *fdl_optim_adam_opt(const fdl_params *params, const fdl_optim_opts *opts);
FDL_API fdl_optim *fdl_optim_adamw_opt(const fdl_params *params, const fdl_optim_opts *opts);

/* The rest have no fused kernel: the automatic choice is foreach, FDL_OPTIM_FUSED makes the step FDL_E_UNSUPPORTED,
 * and FDL_OPTIM_LOOP is foreach over one parameter after the other. Ownership and errors as above; their options
 * and defaults stand in fdl_optim_opts. */
/* torch.optim.RMSprop: divides by a running root mean square of the gradients; .centered, by a running standard deviation. */
FDL_API fdl_optim *fdl_optim_rmsprop_opt(const fdl_params *params, const fdl_optim_opts *opts);
/* torch.optim.Adagrad: divides by the root of the sum of all squares so far. */
FDL_API fdl_optim *fdl_optim_adagrad_opt(const fdl_params *params, const fdl_optim_opts *opts);
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

typedef struct fdl_zero_grad_opts {
    int opts_;
    bool set_to_zero; /* fill with zeros; default: drop the gradients, which costs no kernel */
} fdl_zero_grad_opts;
/* Forgets the gradients of all parameters. */
FDL_API fdl_status fdl_optim_zero_grad_opt(fdl_optim *o, const fdl_zero_grad_opts *opts);

/* ---- rates, groups and options --------------------------------------------------------------------- */

/* Group 0's learning rate; NaN on NULL. */
FDL_API double fdl_optim_lr(const fdl_optim *o);
/* Sets group 0's rate, and every other group's in the ratio that the groups began with. */
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
 * "max_exp_avg_sq", "momentum_buffer", "square_avg", "grad_avg", "sum", "acc_delta", "exp_inf" (the parameter's shape),
 * "mu_product" (0-d float32). Borrowed; NULL without an error before there
 * is any. */
FDL_API fdl_tensor *fdl_optim_state(const fdl_optim *o, fdl_tensor *param, const char *name);
/* All that is remembered of a parameter so far; the list belongs to the current scope, its tensors are borrowed. */
FDL_API fdl_list fdl_optim_states(const fdl_optim *o, fdl_tensor *param);
/* What every element of one of these tensors is before the parameter's first step: 0, but for adagrad's sums
 * (.initial_accumulator) and nadam's products (1). A tensor that is none of them: 0. NaN on NULL. */
FDL_API double fdl_optim_state_start(const fdl_optim *o, fdl_tensor *state);

/* ---- gradients of a list of parameters ------------------------------------------------------------- */

typedef struct fdl_clip_opts {
    int opts_;
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
