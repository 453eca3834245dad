/* Averages of a model's parameters over the steps, which often generalise better than the last ones.
 * torch.optim.swa_utils.AveragedModel. */
#ifndef FLODL_EMA_H
#define FLODL_EMA_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* A shadow of every parameter and buffer of a model. Holds references on them: the model may be freed before it. */
typedef struct fdl_ema fdl_ema;

typedef struct fdl_ema_opts {
    fdl_by_name opts_;
    bool warmup;  /* begin with a smaller decay, min(decay, (1 + t) / (10 + t)) at update t from 0 */
    bool average; /* the mean of all updates instead (stochastic weight averaging); decay must be 0 then */
} fdl_ema_opts;
/* Begins with the parameters as they are. decay in [0, 1): what stays of the shadow at each update. Owned: fdl_ema_free.
 * Another decay: FDL_E_ARG.
 *
 * PyTorch's AveragedModel with get_ema_multi_avg_fn forgets what it began with, its first update copies the model; here the first
 * averages, too. One that is made behind the first step and updated from the second on has PyTorch's numbers. .average is the same. */
FDL_API fdl_ema *fdl_ema_new_opt(fdl_module *m, double decay, const fdl_ema_opts *opts);
/* NULL: nothing. Values that were applied and not restored stay in the model. */
FDL_API void fdl_ema_free(fdl_ema *e);
/* After an optimizer's step: shadow = decay * shadow + (1 - decay) * parameter; buffers are copied. Doesn't wait for the
 * device. While applied: FDL_E_STATE. */
FDL_API fdl_status fdl_ema_update(fdl_ema *e);
/* Puts the shadow into the model, for evaluation or for fdl_ckpt_save; fdl_ema_restore puts back what was there. Twice, or
 * the second without the first: FDL_E_STATE. */
FDL_API fdl_status fdl_ema_apply(fdl_ema *e);
FDL_API fdl_status fdl_ema_restore(fdl_ema *e);
/* Whether the shadow is in the model; false on NULL. */
FDL_API bool fdl_ema_is_applied(const fdl_ema *e);
/* The shadow of a parameter or buffer of the model, borrowed; NULL and FDL_E_ARG for another tensor. */
FDL_API fdl_tensor *fdl_ema_shadow(const fdl_ema *e, fdl_tensor *x);
/* Updates so far, 0-d float32 on the device, borrowed; NULL without an error where the weight is the same each time. */
FDL_API fdl_tensor *fdl_ema_count(const fdl_ema *e);
/* Advances whenever an update that was recorded before (a CUDA graph) is out of date: the shadow has moved, or is in the
 * model. 0 on NULL. */
FDL_API uint64_t fdl_ema_generation(const fdl_ema *e);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_ema_new(m, ...) fdl_ema_new_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ema_new_(m, decay, ...) fdl_ema_new_opt(m, decay, &(fdl_ema_opts){__VA_ARGS__})
#endif

#endif
