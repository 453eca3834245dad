/* The kernels under optimizers and gradient scaling, for optimizers of one's own. All change their operands in place, run
 * without waiting for the device, and take what changes from step to step as tensors on it. Lists have one length; an empty
 * one is a success that does nothing. The stock optimizers are in optim.h. */
#ifndef FLODL_KERNELS_H
#define FLODL_KERNELS_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

typedef struct fdl_k_adam_opts {
    fdl_by_name opts_;
    fdl_list max_exp_avg_sqs; /* needed with amsgrad */
    double beta1;             /* default 0.9 */
    double beta2;             /* default 0.999 */
    double weight_decay;      /* default 0 */
    double eps;               /* default 1e-8 */
    bool amsgrad, maximize;
    bool decoupled; /* AdamW's decay: torch._fused_adamw_ in place of torch._fused_adam_ */
    fdl_tensor *grad_scale, *found_inf; /* 1-element float32: unscale by the one, skip where the other is 1 */
} fdl_k_adam_opts;
/* One Adam step for the whole list. steps: 1-element float32 each, on the parameters' device, advanced by the caller
 * before the call; lr: 1 element, on that device. Where libtorch has no such kernel: FDL_E_UNSUPPORTED or FDL_E_TORCH. */
FDL_API fdl_status fdl_k_fused_adam_opt_(fdl_list params, fdl_list grads, fdl_list exp_avgs,
                                         fdl_list exp_avg_sqs, fdl_list steps, fdl_tensor *lr,
                                         const fdl_k_adam_opts *opts);

typedef struct fdl_k_sgd_opts {
    fdl_by_name opts_;
    double weight_decay, momentum, dampening; /* default 0 */
    bool nesterov, maximize;
    bool first_step; /* the momentum buffers have no history yet */
    fdl_tensor *grad_scale, *found_inf;
} fdl_k_sgd_opts;
/* One SGD step: torch._fused_sgd_. momentum_buffers: empty without momentum. */
FDL_API fdl_status fdl_k_fused_sgd_opt_(fdl_list params, fdl_list grads, fdl_list momentum_buffers,
                                        fdl_tensor *lr, const fdl_k_sgd_opts *opts);

typedef struct fdl_k_adagrad_opts {
    fdl_by_name opts_;
    double lr_decay, weight_decay; /* default 0 */
    double eps;                    /* default 1e-10 */
    bool maximize;
    fdl_tensor *grad_scale, *found_inf; /* on CUDA only */
} fdl_k_adagrad_opts;
/* One Adagrad step: torch._fused_adagrad_. steps and lr as above; on the CPU lr is read. */
FDL_API fdl_status fdl_k_fused_adagrad_opt_(fdl_list params, fdl_list grads, fdl_list sums, fdl_list steps,
                                            fdl_tensor *lr, const fdl_k_adagrad_opts *opts);
/* Whether libtorch has that kernel for devices of d's type, and takes the rate from there. */
FDL_API bool fdl_k_has_fused_adagrad(fdl_device d);

/* grads *= inv_scale, and found_inf = 1 where a value is not finite; both 1-element float32.
 * torch._amp_foreach_non_finite_check_and_unscale_. */
FDL_API fdl_status fdl_k_amp_unscale_(fdl_list grads, fdl_tensor *found_inf, fdl_tensor *inv_scale);
/* scale *= backoff after an overflow, *= growth after `interval` steps without. growth_tracker: 1-element int32.
 * torch._amp_update_scale_. */
FDL_API fdl_status fdl_k_amp_update_scale_(fdl_tensor *scale, fdl_tensor *growth_tracker,
                                           fdl_tensor *found_inf, double growth, double backoff,
                                           int64_t interval);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_k_fused_adam_(params, grads, exp_avgs, exp_avg_sqs, steps, ...) \
    fdl_k_fused_adam_a_(params, grads, exp_avgs, exp_avg_sqs, steps, __VA_ARGS__, .opts_ = 0)
#define fdl_k_fused_adam_a_(params, grads, exp_avgs, exp_avg_sqs, steps, lr, ...) \
    fdl_k_fused_adam_opt_(params, grads, exp_avgs, exp_avg_sqs, steps, lr, &(fdl_k_adam_opts){__VA_ARGS__})
#define fdl_k_fused_adagrad_(params, grads, sums, steps, ...) \
    fdl_k_fused_adagrad_a_(params, grads, sums, steps, __VA_ARGS__, .opts_ = 0)
#define fdl_k_fused_adagrad_a_(params, grads, sums, steps, lr, ...) \
    fdl_k_fused_adagrad_opt_(params, grads, sums, steps, lr, &(fdl_k_adagrad_opts){__VA_ARGS__})
#define fdl_k_fused_sgd_(params, grads, momentum_buffers, ...) \
    fdl_k_fused_sgd_a_(params, grads, momentum_buffers, __VA_ARGS__, .opts_ = 0)
#define fdl_k_fused_sgd_a_(params, grads, momentum_buffers, lr, ...) \
    fdl_k_fused_sgd_opt_(params, grads, momentum_buffers, lr, &(fdl_k_sgd_opts){__VA_ARGS__})
#endif

#endif
