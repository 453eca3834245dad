/* A whole model on the disk: its topology in model.json (topology.h), its weights beside it in model.safetensors (ckpt.h). A
 * program that has neither its source nor its options can load it. */
#ifndef FLODL_CKPT_MODEL_H
#define FLODL_CKPT_MODEL_H

#include "flodl/ckpt.h"
#include "flodl/topology.h"

FDL_BEGIN_DECLS

/* path ends in ".json" (otherwise FDL_E_ARG). The weights are written first, so that no topology names a file that isn't there.
 * Errors: those of fdl_ckpt_save and fdl_topology_save. .weights isn't taken. */
FDL_API fdl_status fdl_ckpt_save_model_opt(fdl_module *m, const char *path, const fdl_topology_opts *opts);
/* The model with its weights on the thread's default device, owned. A topology that names no weights: FDL_E_FORMAT; weights that
 * lack or don't fit a parameter: fdl_ckpt_load's errors. */
FDL_API fdl_module *fdl_ckpt_load_model_opt(const char *path, const fdl_topology_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_ckpt_save_model(m, ...) fdl_ckpt_save_model_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_model_(m, path, ...) fdl_ckpt_save_model_opt(m, path, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#define fdl_ckpt_load_model(...) fdl_ckpt_load_model_(__VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_load_model_(path, ...) fdl_ckpt_load_model_opt(path, FDL_TOPOLOGY_OPTS_(__VA_ARGS__))
#endif

#endif
