/* A file of named tensors, whatever its format: what a checkpoint is read from. Each format is a file source_*.c. A file
 * is a stranger's: nothing in it is believed before it was checked. */
#ifndef FLODL_TRAIN_SOURCE_H
#define FLODL_TRAIN_SOURCE_H

#include "flodl/ckpt.h"

#include <jansson.h>

/* Memory that a header asks for is bounded by this. */
#define SOURCE_MAX_HEADER ((uint64_t)100 << 20)

typedef struct source source;

typedef struct source_entry {
    const char *name; /* the source's */
    fdl_dtype dtype;
    fdl_shape shape;
    uint64_t begin,
        end; /* its bytes, counted from source.data; where the format has other places: the format's own */
} source_entry;

/* What a format adds. */
typedef struct source_type {
    fdl_tensor *(*read)(const source *s, const source_entry *e); /* scope, on the CPU */
    void (*close)(source *s);                                    /* frees s->self; NULL: nothing to free */
} source_type;

struct source {
    char *path; /* owned; as errors name it */
    const source_type *type;
    int version;      /* of flodl's format: 3, 2 or 1; 0: another program's file */
    char hash[65];    /* "": the file has none */
    json_t *metadata; /* an object of strings; NULL: none */
    json_t *places;   /* name -> index in entries */
    source_entry *entries;
    int n, room;

    int fd;               /* of a plain file; -1: all is in bytes */
    unsigned char *bytes; /* content of a compressed file, or what a reader gave */
    uint64_t size;        /* of the file, or of bytes */
    uint64_t data;        /* where the tensors begin */
    json_t *header;       /* of the formats that have one in JSON */
    struct source_text *texts;
    bool shard;
    void *self; /* the format's own */
};

/* Opens and checks everything but the tensors' values. On failure nothing is left to close. */
fdl_status source_open(source *s, const char *path);
/* The same of a file that an index names: it may not be an index itself. */
fdl_status source_open_shard(source *s, const char *path);
/* The same from a reader; path is what errors call it. */
fdl_status source_open_reader(source *s, const fdl_reader *reader);
void source_close(source *s);
/* The entry of that name, or NULL. */
const source_entry *source_find(const source *s, const char *name);
/* The metadata's text of that key, or NULL. */
const char *source_meta(const source *s, const char *key);
/* One tensor: scope, on the CPU. */
fdl_tensor *source_read(const source *s, const source_entry *e);

/* ---- for the formats ------------------------------------------------------------------------------- */

/* Each fills entries from s->fd or s->bytes, and sets type. */
fdl_status safetensors_open(source *s, uint64_t *total); /* *total: bytes that the file must have */
fdl_status index_open(source *s);                        /* shards beside a JSON file that lists them */
fdl_status fdlc_open(source *s);                         /* versions 1 and 2 */
fdl_status torch_open(source *s);                        /* PyTorch's zip files */

/* n bytes from place `at`; fewer there: FDL_E_FORMAT "truncated". */
fdl_status source_bytes(const source *s, uint64_t at, void *out, size_t n);
uint64_t source_little_endian(const unsigned char *b, int n);
/* A copy of n bytes with a zero behind, which lives as long as s. */
char *source_text(source *s, const void *text, size_t n);
/* A new entry of that name (s's, or outliving it); its other fields are to be filled. NULL: the error is set. */
source_entry *source_add(source *s, const char *name);
/* Makes entries findable by name. Two of one name, a name that isn't UTF-8: FDL_E_FORMAT. */
fdl_status source_done(source *s);
fdl_status source_bad_entry(const source *s, const char *name, const char *why);
/* Bytes of a tensor, or -1 and FDL_E_FORMAT when no memory can hold it or it has too many dims or a negative extent. */
int64_t source_tensor_bytes(const source *s, const source_entry *e);
/* What is wrong with a file of `have` bytes that needs another number. */
fdl_status source_wrong_size(const source *s, uint64_t need, uint64_t have);
/* An entry whose bytes lie at data + begin as they are. */
fdl_tensor *source_read_plain(const source *s, const source_entry *e);
/* Whether text is well-formed UTF-8. */
bool source_is_utf8(const char *text);

/* "F32"; NULL for a dtype that safetensors doesn't have. */
const char *safetensors_dtype(fdl_dtype d);

#endif
