/* Python pickles of state_dicts, read without executing anything: texts, numbers, tuples, lists, dicts, and tensors as
 * torch.save describes them. Everything else is refused by name. */
#ifndef FLODL_TRAIN_PICKLE_H
#define FLODL_TRAIN_PICKLE_H

#include "source.h"

typedef enum pickle_kind {
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT,
    PICKLE_TEXT,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,
    PICKLE_GLOBAL,  /* a class or function of a list of known ones, as "torch FloatStorage" */
    PICKLE_STORAGE, /* where a tensor's elements lie */
    PICKLE_TENSOR,
    PICKLE_OTHER /* something known that holds no tensor, such as a torch.device */
} pickle_kind;

typedef struct pickle_tensor {
    const char *storage; /* name of its storage: "0" */
    const char *dtype;   /* PyTorch's name of it: "float32" */
    bool in_bytes;       /* elements counts bytes */
    int64_t elements;    /* of the storage */
    int64_t offset;      /* in elements of dtype, as strides are */
    fdl_shape shape, strides;
} pickle_tensor;

typedef struct pickle_value {
    struct pickle_value *next; /* all that were made */
    pickle_kind kind;
    int n, room;
    union {
        int64_t i;
        double f;
        const char *text;
        struct pickle_value **at; /* tuple, list: n elements; dict: n keys and values in turn */
        pickle_tensor *tensor;    /* tensor, storage */
    };
} pickle_value;

typedef struct pickle {
    pickle_value *all;
    const pickle_value *root;
} pickle;

/* Reads n bytes; names are copied to s. On failure, FDL_E_FORMAT, nothing is left to free. */
fdl_status pickle_read(pickle *p, source *s, const unsigned char *bytes, size_t n);
void pickle_free(pickle *p);

#endif
