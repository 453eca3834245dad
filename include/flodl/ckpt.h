/* Checkpoints: a module's parameters and buffers in a file, and back. A file is a safetensors file, which
 * other tools read and write as well; keys are PyTorch's state_dict keys. torch.save and torch.load with
 * state_dict. */
#ifndef FLODL_CKPT_H
#define FLODL_CKPT_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- saving ---------------------------------------------------------------------------------------- */

/* A line of text that goes with the file. */
typedef struct fdl_meta {
    const char *key, *value;
} fdl_meta;

typedef struct fdl_ckpt_save_opts {
    int opts_;
    fdl_dtype dtype;      /* floating tensors are saved in this dtype; default: in their own */
    int level;            /* of gzip, 1 to 9, for a path that ends in ".gz"; default 6 */
    const fdl_meta *meta; /* FDL_META({"epoch", "3"}, ...); keys other than "format" and "fdl.*" */
} fdl_ckpt_save_opts;

/* Writes parameters and buffers (without transient ones; a shared tensor once) to path: at every moment path
 * is the old file or the whole new one. A path that ends in ".gz" is compressed. The disk full, no
 * permission: FDL_E_IO; two names that give one key: FDL_E_ARG with both. */
FDL_API fdl_status fdl_ckpt_save_opt(fdl_module *m, const char *path, const fdl_ckpt_save_opts *opts);

/* ---- loading --------------------------------------------------------------------------------------- */

/* What a load did, or would have done. Arrays and names belong to the scope in which fdl_ckpt_load was
 * called. Names are those of fdl_parameters and fdl_buffers; in `skipped` they are the file's keys. */
typedef struct fdl_load_report {
    int n_loaded, n_missing, n_skipped, n_cast, n_mismatched;
    const char *const *loaded;     /* taken from the file */
    const char *const *missing;    /* in the module, not in the file: values kept */
    const char *const *skipped;    /* in the file, not in the module */
    const char *const *cast;       /* of the loaded: the file has another dtype */
    const char *const *mismatched; /* the file has another shape: values kept */
} fdl_load_report;

typedef struct fdl_ckpt_load_opts {
    int opts_;
    bool partial;            /* names that are missing or unexpected are no error */
    bool allow_unexpected;   /* names in the file that the module doesn't have are no error */
    bool allow_mismatched;   /* a tensor of another shape is no error, and not loaded */
    const char *prefix;      /* only keys that begin so, without it: "encoder." */
    fdl_load_report *report; /* filled when the file could be read, also when the load then fails */
} fdl_ckpt_load_opts;

/* Copies values from the file into the module's parameters and buffers, which stay the same tensors, on their
 * devices and in their dtypes. Nothing changes unless everything fits. A gzip file is recognised by its
 * content. Not there: FDL_E_IO; damaged: FDL_E_FORMAT naming the entry; other names or shapes than the
 * module's: FDL_E_MISMATCH. */
FDL_API fdl_status fdl_ckpt_load_opt(fdl_module *m, const char *path, const fdl_ckpt_load_opts *opts);

/* One section for each list that isn't empty: "loaded (12)" and the names below. */
FDL_API fdl_status fdl_load_report_print(const fdl_load_report *report, FILE *file);

FDL_END_DECLS

#ifndef __cplusplus
/* Lines that go with a checkpoint: `.meta = FDL_META({"epoch", "3"})`. */
#define FDL_META(...) ((const fdl_meta[]){__VA_ARGS__, {NULL, NULL}})
#define fdl_ckpt_save(m, ...) fdl_ckpt_save_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_(m, path, ...) fdl_ckpt_save_opt(m, path, &(fdl_ckpt_save_opts){__VA_ARGS__})
#define fdl_ckpt_load(m, ...) fdl_ckpt_load_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_load_(m, path, ...) fdl_ckpt_load_opt(m, path, &(fdl_ckpt_load_opts){__VA_ARGS__})
#endif

#endif
