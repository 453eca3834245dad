/* What the files of checkpoints (ckpt*.c) share. */
#ifndef FLODL_TRAIN_CKPT_PRIVATE_H
#define FLODL_TRAIN_CKPT_PRIVATE_H

#include "flodl/ckpt_file.h"
#include "flodl/file.h"
#include "flodl/graph.h"
#include "flodl/optim_state.h"
#include "flodl/tree.h"
#include "source.h"

/* ---- a module's tensors and their names (ckpt.c) ---------------------------------------------------- */

struct ckpt_entry;

typedef struct ckpt_item {
    fdl_param *p;
    const char *name;         /* canonical */
    const char *key;          /* of its state_dict */
    const char *flat;         /* flat name */
    const char *sequential;   /* name in an equal torch.nn.Sequential */
    const char *legacy[3];    /* flat names in versions 1 and 2, one a part */
    int parts;                /* of them; 0: not asked for, or not in those versions */
    struct ckpt_entry *entry; /* loading: what it takes; NULL: nothing */
    bool fits;                /* ... which has its shape */
} ckpt_item;

/* Another name of a shared tensor. */
typedef struct ckpt_alias {
    int item;
    const char *name, *key;
} ckpt_alias;

typedef struct ckpt_contents {
    ckpt_item *items;
    int n;
    ckpt_alias *aliases;
    int n_aliases;
} ckpt_contents;

/* Parameters, then buffers that are saved; in the current scope. */
fdl_status ckpt_contents_of(ckpt_contents *c, fdl_module *m);
/* Adds the names of versions 1 and 2. */
fdl_status ckpt_legacy_names(ckpt_contents *c, fdl_module *m);

/* ---- writing ---------------------------------------------------------------------------------------- */

/* What goes into a file. A key with a '/' is training state, which is saved in its own dtype. */
typedef struct ckpt_content {
    int n, room;
    const char **keys;
    fdl_tensor **at;  /* on any device */
    fdl_dtype dtype;  /* floating ones are saved in it; FDL_DTYPE_DEFAULT: in their own */
    json_t *metadata; /* strings */
} ckpt_content;

/* Room for n tensors, with the metadata that every file has; in the current scope but for the metadata, which the
 * caller frees, on failure too. */
fdl_status ckpt_content_new(ckpt_content *c, int n, fdl_dtype dtype);
/* What fdl_ckpt_save saves of m; the same as to the metadata. */
fdl_status ckpt_content_of(ckpt_content *c, fdl_module *m, fdl_dtype dtype, const fdl_meta *meta);
/* One more tensor; key and tensor live as long as the content. */
fdl_status ckpt_add(ckpt_content *c, const char *key, fdl_tensor *t);
fdl_status ckpt_put_meta(json_t *to, const char *key, const char *value);
/* Adds the user's lines. */
fdl_status ckpt_put_user_meta(json_t *to, const fdl_meta *meta);
/* Sorts larger elements to the front, otherwise in order: so every tensor is aligned to its elements without gaps. Two
 * equal keys, a key or a dtype that a file can't have: an error. */
fdl_status ckpt_arrange(ckpt_content *c);
/* Checks .level, .dtype and .shard_bytes for that path; NULL: a writer. */
fdl_status ckpt_check_save(const fdl_ckpt_save_opts *o, const char *path);
/* Arranges and writes: to path, or to a writer. config: the text for the file beside, or NULL. */
fdl_status ckpt_write(ckpt_content *c, const char *path, const fdl_writer *to, const fdl_ckpt_save_opts *o,
                      const char *config);

/* Dtype and bytes of a tensor as it will be saved (ckpt_write.c). */
fdl_dtype ckpt_saved_dtype(const ckpt_content *c, int i);
int64_t ckpt_saved_bytes(const ckpt_content *c, int i);
/* Writes a safetensors file to a file or, where that is NULL, to a writer; level 0: not compressed. */
fdl_status ckpt_write_safetensors(fdl_file *file, const fdl_writer *to, const ckpt_content *c, int level);
/* Several files of at most shard_bytes, and their index at path + ".index.json" (ckpt_shards.c). */
fdl_status ckpt_write_shards(const char *path, const ckpt_content *c, int64_t shard_bytes);
/* Removes what an earlier ckpt_write_shards under that path left, now that one file is there. */
void ckpt_forget_shards(const char *path);

/* The file beside: model.config.json for model.fdl.gz; owned. */
char *ckpt_config_path(const char *path);
/* Removes older files of the same pattern (ckpt_keep.c). */
fdl_status ckpt_check_keep(const char *path, int keep);
fdl_status ckpt_keep_last(const char *path, int keep);

/* ---- the training that goes with a model (ckpt_training.c) ------------------------------------------- */

/* Whether a key, of a tensor or of metadata, is one of training state. */
bool ckpt_is_training(const char *key);
/* Adds what the options name. */
fdl_status ckpt_put_training(ckpt_content *c, fdl_module *m, const fdl_ckpt_save_opts *o);

typedef struct ckpt_change ckpt_change;
/* Reads and checks what the options name, and changes nothing. Owned; NULL: the error is set. What it holds is in part the
 * current scope's. m may be NULL where o has no ema. */
ckpt_change *ckpt_change_new(const source *file, fdl_module *m, const fdl_ckpt_load_opts *o);
/* Makes the change; the free follows all the same. */
fdl_status ckpt_change_apply(ckpt_change *c);
void ckpt_change_free(ckpt_change *c);

/* ---- a file's entries under the names that a module is asked for (ckpt_names.c) --------------------- */

typedef struct ckpt_entry {
    const char *name; /* behind prefix and rules */
    const source_entry **part;
    int parts; /* of one tensor, along dim 0 */
    fdl_dtype dtype;
    fdl_shape shape; /* of the whole */
    bool alias;      /* another name of an entry */
    bool used;
} ckpt_entry;

typedef struct ckpt_view {
    const source *file;
    ckpt_entry *at; /* in the file's order */
    int n, room;
    json_t *places; /* name -> index; ckpt_view_end frees it */
} ckpt_view;

/* The file's entries without prefix and by the rules; entries of training state are left out. In the current scope. Two
 * entries of one name: FDL_E_MISMATCH. extra: entries that will be added. */
fdl_status ckpt_view_of(ckpt_view *v, const source *file, const char *prefix, const fdl_rename *rename,
                        int extra);
void ckpt_view_end(ckpt_view *v);
ckpt_entry *ckpt_view_find(const ckpt_view *v, const char *name);
/* An entry of several, put one behind the other; NULL with the error set when they can't be. */
ckpt_entry *ckpt_view_join(ckpt_view *v, const char *name, int parts, const source_entry *const *part);
/* Notes that e was taken, and with it what else stands for the same tensors. */
void ckpt_view_use(ckpt_view *v, ckpt_entry *e);
/* Its tensor: scope, on the CPU. */
fdl_tensor *ckpt_view_read(const ckpt_view *v, const ckpt_entry *e);

/* ---- which entry is whose (ckpt_match.c) ------------------------------------------------------------ */

/* Names that outlive the scope in which they are noted; owned. */
typedef struct ckpt_names {
    char **at;
    int n, room;
} ckpt_names;

fdl_status ckpt_note(ckpt_names *list, const char *name);
void ckpt_names_free(ckpt_names *list);
/* The names in the current scope; NULL: out of memory. */
const char *const *ckpt_names_in_scope(const ckpt_names *list);

/* Gives every item its entry by name; same_shape: only one of its shape. */
fdl_status ckpt_match(ckpt_contents *c, ckpt_view *v, bool same_shape);
/* "[4, 8]" */
char *ckpt_shape_text(fdl_shape s, char *buf, size_t n);
/* FDL_E_MISMATCH with both shapes. */
fdl_status ckpt_misfit(const ckpt_item *it);
/* Reads everything before anything is written, then copies. */
fdl_status ckpt_copy(const ckpt_contents *c, const ckpt_view *v);

#endif
