/* What an optimizer remembers, as named tensors and a text: to keep it, to send it, to go on with it elsewhere. In files it
 * goes with the model: fdl_ckpt_save(model, path, .optim = o). torch.optim.Optimizer.state_dict. */
#ifndef FLODL_OPTIM_STATE_H
#define FLODL_OPTIM_STATE_H

#include "flodl/optim.h"

FDL_BEGIN_DECLS

/* An optimizer's state. Tensors are called "<key>/<state>": "encoder.weight/exp_avg", "encoder.weight/step", the key being the
 * parameter's state_dict key; a second parameter of one name, as two modules may have in one optimizer, is "<key>/2". Parameters
 * that weren't stepped yet have none. */
typedef struct fdl_optim_dict {
    int n;
    const char *const *names; /* [n] */
    fdl_tensor *const *at;    /* [n] */
    const char *text; /* JSON: the method; of each group its options, rates and the keys of its parameters */
} fdl_optim_dict;

/* The state as it is. Array, names and text belong to the current scope; the tensors are the optimizer's own, borrowed.
 * Doesn't wait for the device. torch.optim.Optimizer.state_dict. */
FDL_API fdl_status fdl_optim_state_dict(const fdl_optim *o, fdl_optim_dict *dict);

/* Takes a state over: every tensor of it, every group's options and rates; how a step is computed (.impl) stays. Tensors of
 * the dict may have another floating dtype and be on other devices: they are copied to where this optimizer has them. Steps
 * that were recorded before are out of date.
 *
 * Parameters are found by name, in the group of the same number. Another method, another number of parameters or groups, a
 * parameter that only one side has, another shape: FDL_E_MISMATCH with what both sides have; a text that isn't one of
 * these: FDL_E_FORMAT. Nothing changes on failure. torch.optim.Optimizer.load_state_dict. */
FDL_API fdl_status fdl_optim_load_state_dict(fdl_optim *o, const fdl_optim_dict *dict);

/* ---- the same in two steps, where several things are to change or none -------------------------------- */

/* A state that was checked and lies ready. */
typedef struct fdl_optim_change fdl_optim_change;
/* All that fdl_optim_load_state_dict checks; the optimizer stays as it is. Owned: fdl_optim_change_apply or
 * fdl_optim_change_free. Its errors: NULL. */
FDL_API fdl_optim_change *fdl_optim_change_new(fdl_optim *o, const fdl_optim_dict *dict);
/* Makes the change, which can't fail, and frees it. The optimizer must be there still, with the groups that it had. NULL:
 * nothing. */
FDL_API void fdl_optim_change_apply(fdl_optim_change *c);
/* Gives it up. NULL: nothing. */
FDL_API void fdl_optim_change_free(fdl_optim_change *c);

FDL_END_DECLS

#endif
