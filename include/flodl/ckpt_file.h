/* Files of tensors: what is in them, single tensors out of them, and files from elsewhere made to fit a module. Every
 * format that fdl_ckpt_load takes. */
#ifndef FLODL_CKPT_FILE_H
#define FLODL_CKPT_FILE_H

#include "flodl/ckpt.h"

FDL_BEGIN_DECLS

/* ---- looking into a file ---------------------------------------------------------------------------- */

/* An open file, of which the header has been read; owned, ended by fdl_ckpt_close. Used by one thread at a time. */
typedef struct fdl_ckpt_info fdl_ckpt_info;

/* Not there: FDL_E_IO; damaged: FDL_E_FORMAT. */
FDL_API fdl_ckpt_info *fdl_ckpt_open(const char *path);
/* NULL: nothing. */
FDL_API void fdl_ckpt_close(fdl_ckpt_info *info);
/* Tensors in the file; -1 on NULL. */
FDL_API int fdl_ckpt_count(const fdl_ckpt_info *info);
/* Name, shape and dtype of tensor i, in the file's order. Outside: NULL, ndim -1, FDL_DTYPE_DEFAULT and FDL_E_RANGE. The
 * name is borrowed. */
FDL_API const char *fdl_ckpt_name(const fdl_ckpt_info *info, int i);
FDL_API fdl_shape fdl_ckpt_shape(const fdl_ckpt_info *info, int i);
FDL_API fdl_dtype fdl_ckpt_dtype(const fdl_ckpt_info *info, int i);
/* The text that goes with the file under this key ("epoch", "fdl.saved_at"), borrowed; of a file of torch.save, the
 * numbers and texts beside the tensors, by the same joined keys. None: NULL, without an error. */
FDL_API const char *fdl_ckpt_meta(const fdl_ckpt_info *info, const char *key);
/* The graph's structural hash, borrowed; the file has none: NULL, without an error. */
FDL_API const char *fdl_ckpt_hash(const fdl_ckpt_info *info);
/* 3, 2 or 1: the version of flodl's format; 0: another program's file; -1 on NULL. */
FDL_API int fdl_ckpt_format(const fdl_ckpt_info *info);
/* Tensor i, or the one of that name, read into the CPU's memory. Scope. Unknown: NULL and FDL_E_RANGE or FDL_E_ARG. */
FDL_API fdl_tensor *fdl_ckpt_tensor(const fdl_ckpt_info *info, int i);
FDL_API fdl_tensor *fdl_ckpt_get(const fdl_ckpt_info *info, const char *name);

/* Texts; they and the array belong to the scope in which the list was made. */
typedef struct fdl_strings {
    int n;
    const char *const *at;
} fdl_strings;
/* The file's names, in its order. Scope. */
FDL_API fdl_status fdl_ckpt_keys(const char *path, fdl_strings *keys);
/* fdl_ckpt_format of a file; -1 and the error when it can't be read. */
FDL_API int fdl_ckpt_version(const char *path);

/* ---- tensors without a module --------------------------------------------------------------------- */

typedef struct fdl_ckpt_save_tensors_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;      /* floating tensors are saved in this dtype; default: in their own */
    int level;            /* of gzip, as of fdl_ckpt_save */
    const fdl_meta *meta; /* FDL_META({"step", "3"}, ...), as of fdl_ckpt_save */
} fdl_ckpt_save_tensors_opts;
/* `fdl_ckpt_save_tensors("batch.safetensors", FDL_NAMES("x", "y"), FDL_LIST(x, y))`: these tensors, on any
 * device, under these names, as many and ended by NULL, in a safetensors file, which fdl_ckpt_open reads. At every moment path is the
 * old file or the whole new one. A name twice, names and tensors that don't match: FDL_E_ARG; FDL_E_IO. safetensors.torch.save_file, torch.save of a dict. */
FDL_API fdl_status fdl_ckpt_save_tensors_opt(const char *path, const char *const *names, fdl_list tensors,
                                             const fdl_ckpt_save_tensors_opts *opts);

/* ---- files from elsewhere ---------------------------------------------------------------------------- */

/* Which of a module's tensors got what. Arrays and names belong to the scope of the call. */
typedef struct fdl_migrate_report {
    int n_unchanged, n_remapped, n_dropped, n_missing, n_ambiguous;
    const char *const *unchanged; /* found under their own name */
    const fdl_rename *remapped;   /* found under another: from the file's name to the module's */
    const char *const *dropped;   /* in the file, for nothing in the module */
    const char *const *missing;   /* in the module, nothing for it in the file */
    const char *const *ambiguous; /* of the module's: by shape alone there were several ways */
    bool complete;                /* nothing dropped, nothing missing */
} fdl_migrate_report;

typedef struct fdl_ckpt_migrate_opts {
    fdl_by_name opts_;
    const fdl_rename *rename; /* FDL_RENAMES(...) */
    fdl_migrate_report *report;
} fdl_ckpt_migrate_opts;
/* Writes a new checkpoint `dst` for m from a file of other names. m itself doesn't change, and gives names, shapes and
 * dtypes only. Each of its tensors takes what fdl_ckpt_load would take, if the shape is equal; without .rename, those that
 * are left take the first unused entry of equal shape and dtype, in the file's order. dst has m's names, the file's
 * values and dtypes, and no hash; what is missing isn't in it. Both paths the same file: FDL_E_ARG. */
FDL_API fdl_status fdl_ckpt_migrate_opt(const char *src, const char *dst, fdl_module *m,
                                        const fdl_ckpt_migrate_opts *opts);

typedef struct fdl_ckpt_import_opts {
    fdl_by_name opts_;
    const char *prefix;       /* as of fdl_ckpt_load */
    const fdl_rename *rename; /* as of fdl_ckpt_load */
    bool
        by_shape; /* what is left by name also takes the one unused entry of its shape and dtype, where no other tensor
                    * of the module could take it */
    fdl_migrate_report *report;
} fdl_ckpt_import_opts;
/* Loads weights that were trained elsewhere: by name as fdl_ckpt_load with .partial, then .by_shape. Another shape under
 * a name that fits: FDL_E_MISMATCH; nothing fits at all: FDL_E_MISMATCH. Nothing changes on failure. */
FDL_API fdl_status fdl_ckpt_import_opt(fdl_module *m, const char *path, const fdl_ckpt_import_opts *opts);

/* One section for each list that isn't empty, as fdl_load_report_print. */
FDL_API fdl_status fdl_migrate_report_print(const fdl_migrate_report *report, FILE *file);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_ckpt_save_tensors(path, names, ...) fdl_ckpt_save_tensors_(path, names, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_tensors_(path, names, tensors, ...) \
    fdl_ckpt_save_tensors_opt(path, names, tensors, &(fdl_ckpt_save_tensors_opts){__VA_ARGS__})
#define fdl_ckpt_migrate(src, dst, ...) fdl_ckpt_migrate_(src, dst, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_migrate_(src, dst, m, ...) \
    fdl_ckpt_migrate_opt(src, dst, m, &(fdl_ckpt_migrate_opts){__VA_ARGS__})
#define fdl_ckpt_import(m, ...) fdl_ckpt_import_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_import_(m, path, ...) fdl_ckpt_import_opt(m, path, &(fdl_ckpt_import_opts){__VA_ARGS__})
#endif

#endif
