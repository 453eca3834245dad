/* Snapshots: the values of a module, and of the training around it, at one moment, in the CPU's memory, while training goes
 * on. worker.h has saving in the background. */
#ifndef FLODL_SNAPSHOT_H
#define FLODL_SNAPSHOT_H

#include "flodl/ckpt.h"

FDL_BEGIN_DECLS

/* Owned, ended by fdl_snapshot_free. Another thread may take it over, save it and free it. */
typedef struct fdl_snapshot fdl_snapshot;

/* Copies what fdl_ckpt_save would save with the same options, the training that goes with it too: nothing that happens to m
 * afterwards is seen, on the CPU either. Of a graph also its hash, its source config, and as they are now its latest metrics and
 * the number of its flushes. What lies on a GPU is copied into page-locked memory on a stream of its own, and nobody waits
 * for it: the stream that is current goes on behind the copy, so that the next optimizer step can't overtake it. Options
 * that say how a file is written (.dtype, .level, .shard_bytes, .keep_last) are fdl_snapshot_save's: here FDL_E_ARG. */
FDL_API fdl_snapshot *fdl_ckpt_snapshot_opt(fdl_module *m, const fdl_ckpt_save_opts *opts);
/* NULL: nothing. */
FDL_API void fdl_snapshot_free(fdl_snapshot *s);

/* Tensors; -1 on NULL. */
FDL_API int fdl_snapshot_count(const fdl_snapshot *s);
/* Name of tensor i in the file, of the model's its state_dict key, and the tensor, on the CPU, for which the second waits where
 * it is still being copied; both borrowed. Outside: NULL and FDL_E_RANGE. */
FDL_API const char *fdl_snapshot_name(const fdl_snapshot *s, int i);
FDL_API fdl_tensor *fdl_snapshot_tensor(const fdl_snapshot *s, int i);
/* A graph's fdl_graph_flush_count at that moment; 0 of a module that is none; -1 on NULL. */
FDL_API int64_t fdl_snapshot_epoch(const fdl_snapshot *s);
/* A graph's latest metric of that name ("loss", "encoder.loss"); none: NaN and FDL_E_ARG with those that there are. */
FDL_API double fdl_snapshot_metric(const fdl_snapshot *s, const char *name);
/* The graph's structural hash, borrowed; none: NULL, without an error. */
FDL_API const char *fdl_snapshot_hash(const fdl_snapshot *s);

/* Writes a checkpoint as fdl_ckpt_save does, with "fdl.epoch" and "fdl.metric.<name>" among its texts. Options that say what
 * is saved, but for .meta, are fdl_ckpt_snapshot's: here FDL_E_ARG. */
FDL_API fdl_status fdl_snapshot_save_opt(const fdl_snapshot *s, const char *path,
                                         const fdl_ckpt_save_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_ckpt_snapshot(...) fdl_ckpt_snapshot_(__VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_snapshot_(m, ...) fdl_ckpt_snapshot_opt(m, &(fdl_ckpt_save_opts){__VA_ARGS__})
#define fdl_snapshot_save(s, ...) fdl_snapshot_save_(s, __VA_ARGS__, .opts_ = 0)
#define fdl_snapshot_save_(s, path, ...) fdl_snapshot_save_opt(s, path, &(fdl_ckpt_save_opts){__VA_ARGS__})
#endif

#endif
