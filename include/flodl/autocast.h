/* Autocast: while it is on, libtorch computes products, convolutions and attention in a shorter floating dtype, and what
 * needs the range in float32. Parameters stay float32. Which operation goes where is libtorch's list for the device's
 * type: the same as in PyTorch. torch.autocast. */
#ifndef FLODL_AUTOCAST_H
#define FLODL_AUTOCAST_H

#include "flodl/scope.h"

FDL_BEGIN_DECLS

/* The forward pass and the loss belong inside; backward outside, which computes in the dtypes that the forward pass has
 * chosen. */
typedef struct fdl_amp_autocast_opts {
    fdl_by_name opts_;
    int16_t device_type; /* FDL_DEVICE_TYPE_CPU or _CUDA; default: the type of the thread's default device */
    fdl_dtype dtype;     /* FDL_FLOAT16 or FDL_BFLOAT16; default: float16 on CUDA, bfloat16 on the CPU */
    bool no_cache;       /* convert a parameter at each use; default: once, until the outermost block ends */
} fdl_amp_autocast_opts;

/* The same by hand; fdl_mode_close ends it. Per thread; blocks nest, and each restores what was before. Another dtype:
 * FDL_E_DTYPE; CUDA where there is none: FDL_E_DEVICE; then nothing is opened. */
FDL_API fdl_mode_guard fdl_amp_autocast_open_opt(const fdl_amp_autocast_opts *opts);
/* Off on this thread for all types of devices. torch.autocast(enabled=False). */
FDL_API fdl_mode_guard fdl_amp_autocast_off(void);
/* Whether it is on on this thread for this type; 0: the default device's. */
FDL_API bool fdl_amp_autocast_enabled(int16_t device_type);
/* The dtype that it casts to for this type, also while it is off; 0: the default device's type. FDL_DTYPE_DEFAULT for a type that
 * has none. torch.get_autocast_dtype. */
FDL_API fdl_dtype fdl_amp_autocast_dtype(int16_t device_type);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_amp_autocast_open(...) \
    fdl_amp_autocast_open_opt(&(fdl_amp_autocast_opts){.opts_ = 0, __VA_ARGS__})
/* `FDL_AUTOCAST(.dtype = FDL_BFLOAT16);`: on to the end of the enclosing block, however that is left. torch.autocast. */
#define FDL_AUTOCAST(...) FDL_MODE_(fdl_amp_autocast_open(__VA_ARGS__))
/* `FDL_AUTOCAST_OFF;`: off to the end of the enclosing block, inside one where it is on. */
#define FDL_AUTOCAST_OFF FDL_MODE_(fdl_amp_autocast_off())
#endif

#endif
