/* Mixed precision: autocast (autocast.h), and the scaling of the loss that float16 needs. bfloat16 needs none.
 * torch.amp.
 *
 *     fdl_amp_scaler *s = fdl_amp_scaler_new();
 *     ...
 *     {
 *         FDL_AUTOCAST(.dtype = FDL_FLOAT16);
 *         loss = fdl_cross_entropy(fdl_forward(model, x), y);
 *     }
 *     fdl_optim_zero_grad(opt);
 *     FDL_CHECK(fdl_backward(fdl_amp_scale(s, loss)));
 *     FDL_CHECK(fdl_amp_unscale(s, opt));              only to clip: fdl_amp_step does it where it wasn't done
 *     FDL_CHECK(fdl_clip_grad_norm(params, 1.0));
 *     FDL_CHECK(fdl_amp_step(s, opt));
 *     FDL_CHECK(fdl_amp_update(s));
 *
 * fdl_trainer_new(..., .autocast = FDL_FLOAT16, .scaler = s) is the same. */
#ifndef FLODL_AMP_H
#define FLODL_AMP_H

#include "flodl/autocast.h"
#include "flodl/optim.h"

FDL_BEGIN_DECLS

/* Multiplies the loss, so that small float16 gradients don't vanish, and divides the gradients before the step; a step
 * with gradients that are not finite is left out, and the factor made smaller. All of it happens on the device: nothing
 * waits unless a number is asked for. torch.amp.GradScaler. */
typedef struct fdl_amp_scaler fdl_amp_scaler;

typedef struct fdl_amp_scaler_opts {
    fdl_by_name opts_;
    double init_scale; /* > 0, default 65536 */
    double growth;     /* > 1, default 2: factor after `interval` steps without overflow */
    double backoff;    /* in (0, 1), default 0.5: factor after an overflow */
    int64_t interval;  /* >= 1, default 2000 */
    bool disabled;     /* scale returns the loss, step steps: one loop for all dtypes */
    bool allow_half;   /* unscale float16 gradients too, of parameters that were cast */
} fdl_amp_scaler_opts;
/* Owned: fdl_amp_scaler_free. A number out of its range: FDL_E_ARG. */
FDL_API fdl_amp_scaler *fdl_amp_scaler_new_opt(const fdl_amp_scaler_opts *opts);
/* NULL: nothing. */
FDL_API void fdl_amp_scaler_free(fdl_amp_scaler *s);

/* loss * scale; loss of any shape. */
FDL_API fdl_tensor *fdl_amp_scale(fdl_amp_scaler *s, fdl_tensor *loss);
/* Divides the optimizer's gradients by the scale and notes whether one is not finite. A second time since the last update,
 * or after the step: FDL_E_STATE. float16 gradients: FDL_E_DTYPE unless .allow_half. Sparse gradients are coalesced first,
 * which waits for the device. */
FDL_API fdl_status fdl_amp_unscale(fdl_amp_scaler *s, fdl_optim *o);

typedef struct fdl_amp_step_opts {
    fdl_by_name opts_;
    bool *stepped; /* gets whether the step was made; waits for the device */
} fdl_amp_step_opts;
/* fdl_amp_unscale where that wasn't done yet, then fdl_optim_step unless a gradient is not finite: then parameters, state
 * and step counts stay. A second time since the last update: FDL_E_STATE. */
FDL_API fdl_status fdl_amp_step_opt(fdl_amp_scaler *s, fdl_optim *o, const fdl_amp_step_opts *opts);
typedef struct fdl_amp_update_opts {
    fdl_by_name opts_;
    double scale; /* the next scale, > 0, whatever was found; default: as described */
} fdl_amp_update_opts;
/* Once an iteration, after the steps of all optimizers: makes the scale smaller where one of them found a gradient that is
 * not finite, by step or by unscale, or larger. No step since the last one: FDL_E_STATE. The scale never grows past float32's
 * largest number. With .scale no step is needed, and the steps since the last change still count; a number out of range:
 * FDL_E_ARG. */
FDL_API fdl_status fdl_amp_update_opt(fdl_amp_scaler *s, const fdl_amp_update_opts *opts);
/* In place of it, for an iteration that is given up: no optimizer counts as unscaled or stepped; the scale stays. */
FDL_API fdl_status fdl_amp_cancel(fdl_amp_scaler *s);

/* Whether it wasn't made .disabled; false on NULL. */
FDL_API bool fdl_amp_scaler_enabled(const fdl_amp_scaler *s);
/* The scale as it stands, 1 when disabled; waits for the device. NaN on NULL. */
FDL_API double fdl_amp_scaler_scale(fdl_amp_scaler *s);

/* What a scaler has to know to go on where another one was. */
typedef struct fdl_amp_scaler_state {
    double scale, growth, backoff;
    int64_t interval, tracker; /* tracker: steps without overflow since the last change */
} fdl_amp_scaler_state;
/* growth, backoff and interval, without waiting; scale and tracker are those that it began with, or was given by
 * fdl_amp_scaler_load: what they are now, fdl_amp_scaler_tensors has. */
FDL_API fdl_status fdl_amp_scaler_settings(const fdl_amp_scaler *s, fdl_amp_scaler_state *state);
/* Reads it (waits for the device); sets it, refusing with FDL_E_ARG what fdl_amp_scaler_new would refuse. */
FDL_API fdl_status fdl_amp_scaler_save(fdl_amp_scaler *s, fdl_amp_scaler_state *state);
FDL_API fdl_status fdl_amp_scaler_load(fdl_amp_scaler *s, const fdl_amp_scaler_state *state);
/* What it keeps on the device, scale (0-d float32) and tracker (0-d int32); the list is the current scope's, the tensors
 * are borrowed. Empty before the first fdl_amp_scale, and when disabled. */
FDL_API fdl_list fdl_amp_scaler_tensors(const fdl_amp_scaler *s);
/* Advances whenever a step that was recorded before (a CUDA graph) is out of date: another state was
 * loaded. 0 on NULL. */
FDL_API uint64_t fdl_amp_scaler_generation(const fdl_amp_scaler *s);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_amp_scaler_new(...) fdl_amp_scaler_new_opt(&(fdl_amp_scaler_opts){.opts_ = 0, __VA_ARGS__})
#define fdl_amp_update(...) fdl_amp_update_(__VA_ARGS__, .opts_ = 0)
#define fdl_amp_update_(s, ...) fdl_amp_update_opt(s, &(fdl_amp_update_opts){__VA_ARGS__})
#define fdl_amp_step(s, ...) fdl_amp_step_(s, __VA_ARGS__, .opts_ = 0)
#define fdl_amp_step_(s, o, ...) fdl_amp_step_opt(s, o, &(fdl_amp_step_opts){__VA_ARGS__})
#endif

#endif
