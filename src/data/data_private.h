/* What the files of this folder share. */
#ifndef FLODL_DATA_PRIVATE_H
#define FLODL_DATA_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "flodl/data.h"

/* What the first sample showed of a position; every later one must be the same. */
struct form {
    bool known;
    int64_t sample;
    fdl_dtype dtype;
    fdl_shape shape; /* of one sample */
};

struct fdl_dataset {
    atomic_int refs;
    fdl_data_vtab v;
    void *self;
    int64_t len;
    double by[FDL_DATA_MAX];   /* what a raw position is divided by for the user; 0: nothing */
    pthread_mutex_t form_lock; /* guards form */
    pthread_mutex_t call_lock; /* held around calls of a FDL_DATA_SERIAL dataset */
    struct form form[FDL_DATA_MAX];
};

/* The samples before division, in the current scope. */
fdl_status fdl_data_fetch_raw(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out);
/* raw (a batch's position) as the user gets it; the raw handle, if it is the innermost scope's, is freed. */
fdl_tensor *fdl_data_divided(fdl_tensor *raw, double by);
/* The tensors of a dataset made by fdl_data_tensors, borrowed; NULL for any other. */
fdl_tensor *const *fdl_data_rows_of(fdl_dataset *ds);
/* x on that device; of a view whose elements lie over one another (fdl_data_windows) only what lies under it moves, and the
 * view is made anew there. */
fdl_tensor *fdl_data_moved(fdl_tensor *x, fdl_device device);
/* Bytes that x takes when it has moved so; -1 on NULL. */
int64_t fdl_data_bytes(fdl_tensor *x);
/* Every index in [0, len), or FDL_E_RANGE. */
fdl_status fdl_data_check_indices(const char *function, const int64_t *idx, int64_t k, int64_t len);

struct fdl_sampler {
    fdl_sampler_vtab v;
    void *self;
    int64_t len;
};
/* Whether the order is 0 to len - 1 in every epoch. */
bool fdl_data_is_sequential(const fdl_sampler *s);

struct fdl_batch {
    const fdl_loader *loader;
    int64_t rows;
    const int64_t *indices;
    fdl_tensor *at[FDL_DATA_MAX];
};

struct fdl_iter {
    fdl_loader *loader; /* NULL when another epoch was started, or the loader freed */
    int64_t next;       /* number of the next batch */
};

struct fdl_loader {
    fdl_dataset *ds;
    fdl_sampler *sampler;
    fdl_device device;
    int64_t batch_size, batches, sample_bytes;
    bool views; /* batches are views of the data */
    int arity;
    fdl_tensor *data[FDL_DATA_MAX]; /* kept: every sample's row, raw, on the device */
    int64_t *order;                 /* this epoch's indices */
    fdl_tensor *index;              /* kept: the same on the device; NULL for views */
    fdl_iter *open;
    int64_t epoch, delivered;
    fdl_status status;
    const char *names[FDL_DATA_MAX];
    char *name_text; /* what names point into */
};

/* Fills loader->data from its dataset. */
fdl_status fdl_data_load(fdl_loader *dl, double vram_use);

#endif
