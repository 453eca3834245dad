/* The safetensors format: 8 bytes of header length, little-endian, a JSON header, tensors one behind the other. */
#ifndef FLODL_TRAIN_SAFETENSORS_H
#define FLODL_TRAIN_SAFETENSORS_H

#include "flodl/tensor.h"

#include <jansson.h>

/* Memory that a file asks for beyond its own size is bounded by this. */
#define ST_MAX_HEADER ((uint64_t)100 << 20)

typedef struct st_entry {
    const char *name; /* the header's */
    fdl_dtype dtype;
    fdl_shape shape;
    uint64_t begin, end; /* bytes of the tensor, counted from the header's end */
} st_entry;

typedef struct st_file {
    const char *path;
    int fd;               /* of a plain file; -1 otherwise */
    unsigned char *bytes; /* the whole content of a compressed one */
    uint64_t data;        /* where the tensors begin */
    json_t *header;
    json_t *places; /* name -> index in entries */
    st_entry *entries;
    int n; /* in the file's order */
} st_file;

/* Opens and checks everything but the tensors' values. On failure nothing is left to close. */
fdl_status st_open(st_file *f, const char *path);
/* The entry of that name, or NULL. */
const st_entry *st_find(const st_file *f, const char *name);
/* The metadata's text of that key, or NULL. */
const char *st_meta(const st_file *f, const char *key);
/* Reads one tensor: scope, on the CPU. */
fdl_tensor *st_read(const st_file *f, const st_entry *e);
void st_close(st_file *f);

/* "F32"; NULL for a dtype that the format doesn't have. */
const char *st_dtype_name(fdl_dtype d);

/* Writes the file: metadata (strings) and tensors (any device) under their names; floating ones in `dtype`
 * unless that is FDL_DTYPE_DEFAULT. level 0: not compressed. */
fdl_status st_save(const char *path, json_t *metadata, int n, const char *const *names,
                   fdl_tensor *const *tensors, fdl_dtype dtype, int level);

#endif
