/* What the files of this folder share. */
#ifndef FLODL_DATA_PRIVATE_H
#define FLODL_DATA_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "flodl/data.h"
#include "flodl/stream.h"
#include "rules.h"

/* ---- datasets ---------------------------------------------------------------------------------------- */

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
    bool single;               /* at the bottom samples are fetched one by one */
    double by[FDL_DATA_MAX];   /* what a raw position is divided by for the user; 0: nothing */
    pthread_mutex_t form_lock; /* guards form */
    pthread_mutex_t call_lock; /* held around calls of a FDL_DATA_SERIAL dataset */
    struct form form[FDL_DATA_MAX];
};

/* Where a fetch may put a batch's position at once, rather than make a tensor for it. */
struct landing {
    /* A contiguous CPU tensor of that kind: scope. NULL on failure. */
    fdl_tensor *(*place)(struct landing *l, int p, fdl_shape shape, fdl_dtype dtype);
};

/* The samples before division, in the current scope; in `landing` unless it is NULL. */
fdl_status fdl_data_fetch_raw(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out,
                              struct landing *landing);
/* The samples as a function makes a batch of m tensors of them. */
fdl_status fdl_data_fetch_collated(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_data_collate_fn fn,
                                   void *ctx, fdl_tensor **out, int m, struct landing *landing);
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

/* What callbacks are called for, on one thread. */
struct call {
    uint64_t seed;
    int64_t epoch;
    atomic_llong sample; /* that is being fetched; -1: none */
    bool drew;           /* a callback asked for random numbers */
    bool loose;          /* samples may differ in dtype and shape */
};

/* What was there before. */
struct call_before {
    struct call *call;
    fdl_device device;
};

/* Between the two this thread's callbacks are called for `call`, and their tensors are made on the CPU. */
struct call_before fdl_data_call_begin(struct call *call);
void fdl_data_call_end(struct call_before before);

/* ---- samplers ---------------------------------------------------------------------------------------- */

struct fdl_sampler {
    fdl_sampler_vtab v;
    void *self;
    int64_t len;
};
/* Whether the order is 0 to len - 1 in every epoch. */
bool fdl_data_is_sequential(const fdl_sampler *s);

/* ---- loaders ------------------------------------------------------------------------------------------ */

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

struct pipe; /* stream.c */

struct fdl_loader {
    fdl_dataset *ds;
    fdl_sampler *sampler;
    fdl_device device;
    int64_t batch_size, batches, sample_bytes;
    uint64_t seed;
    double vram_use;
    fdl_data_mode mode; /* never auto, once built */
    int arity;
    double by[FDL_DATA_MAX]; /* what fdl_data_next divides a position by; 0: nothing */
    int64_t *order;          /* this epoch's indices */
    fdl_iter *open;
    int64_t epoch, delivered;
    fdl_status status;
    const char *names[FDL_DATA_MAX];
    char *name_text; /* what names point into */
    int64_t batches_in_all, fallbacks;
    /* resident */
    bool views;                     /* batches are views of the data */
    fdl_tensor *data[FDL_DATA_MAX]; /* kept: every sample's row, raw, on the device */
    fdl_tensor *index;              /* kept: the order on the device; NULL for views */
    /* streaming */
    fdl_data_collate_fn collate;
    void *collate_ctx;
    struct pipe *pipe;
};

static inline bool on_cuda(const fdl_loader *dl)
{
    return dl->device.type == FDL_DEVICE_TYPE_CUDA;
}

/* room.c: the driver's figures with the allocator's; FDL_E_DEVICE where they can't be had. */
fdl_status fdl_data_room(fdl_device d, struct room *room);
/* Whether the dataset, whose sample_bytes are known, fits; else FDL_E_OOM with the figures. What can't be measured fits. */
fdl_status fdl_data_check_room(const fdl_loader *dl);
/* Resident or streaming, by the rule. */
fdl_data_mode fdl_data_choose(const fdl_loader *dl, bool drew);

/* resident.c: fills loader->data from its dataset. */
fdl_status fdl_data_load(fdl_loader *dl);
/* Drops it. */
void fdl_data_unload(fdl_loader *dl);
/* The rows of a batch from `from` on. */
fdl_status fdl_data_gather(const fdl_loader *dl, fdl_batch *b, int64_t from);

/* ---- staging.c: page-locked memory on the way to a GPU --------------------------------------------------- */

/* Rows of one batch, and whether they were copied. */
struct block {
    fdl_tensor *at[FDL_DATA_MAX]; /* kept: 1-d, pinned */
    fdl_event *copied;
    bool busy;
};

/* One thread's two blocks: one is filled while the other is copied. */
struct staging {
    struct landing landing; /* first: the block that is to be filled */
    const fdl_loader *loader;
    struct block block[2];
    int turn;
    atomic_llong bytes;
};

void fdl_data_staging_init(struct staging *s, const fdl_loader *dl);
void fdl_data_staging_free(struct staging *s);
/* The samples as the loader's batch, on the CPU (scope): for a GPU, in the next block. */
fdl_status fdl_data_stage(struct staging *s, const int64_t *idx, int64_t k, fdl_tensor **out);
/* What was staged last, to the device by `stream`, which is current: scope. Doesn't wait. */
fdl_status fdl_data_send(struct staging *s, fdl_stream *stream, fdl_tensor **x);

/* ---- stream.c: threads that fetch ahead ------------------------------------------------------------------ */

enum { MOST_WORKERS = 128 };
/* Takes .prefetch, .workers and .timeout, which were checked. The threads come with the first epoch. */
fdl_status fdl_data_pipe_new(fdl_loader *dl, const fdl_loader_opts *o);
void fdl_data_pipe_free(struct pipe *p);
/* Begins an epoch of batches from `first` on, whose order stands. */
fdl_status fdl_data_pipe_begin(struct pipe *p, int64_t epoch, int64_t first);
/* Ends it: nothing of it will be delivered. */
void fdl_data_pipe_cancel(struct pipe *p);
/* Batch `job`, the next one; b's rows and indices are known. */
fdl_status fdl_data_pipe_next(struct pipe *p, int64_t job, fdl_batch *b);
void fdl_data_pipe_stats(struct pipe *p, fdl_data_stats *stats);
int64_t fdl_data_pipe_depth(struct pipe *p);

#endif
