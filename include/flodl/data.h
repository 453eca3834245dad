/* Data: datasets (what sample i is), samplers (in which order), loaders (batches on a device).
 *
 *     fdl_loader *dl = fdl_data_loader(fdl_data_mnist("data"), 64, .device = FDL_CUDA(0));
 *     FDL_NEED(dl);
 *     for (int epoch = 0; epoch < 5; epoch++) {
 *         FDL_BATCHES(b, dl, epoch) {
 *             fdl_tensor *x = fdl_data_named(b, "image"), *y = fdl_data_named(b, "label");
 *             ...
 *         }
 *         FDL_CHECK(fdl_data_status(dl));
 *     }
 *     fdl_data_loader_free(dl);
 *
 * Who takes a dataset or a sampler takes it over, on failure too: a loader its dataset, a combination its
 * parts. torch.utils.data. */
#ifndef FLODL_DATA_H
#define FLODL_DATA_H

#include "flodl/rng.h"
#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* N samples, each of the same number of tensors: the input first, then the target, then what else there is. A
 * position has the same dtype and shape in every sample. Counted references. */
typedef struct fdl_dataset fdl_dataset;
/* For each epoch an order of visiting. */
typedef struct fdl_sampler fdl_sampler;
/* A dataset on its way to a device, and how it is cut into batches. */
typedef struct fdl_loader fdl_loader;
/* One epoch on its way. */
typedef struct fdl_iter fdl_iter;
/* The tensors of some samples, dim 0 over the samples. */
typedef struct fdl_batch fdl_batch;

enum { FDL_DATA_MAX = 16 }; /* tensors per sample */

/* ---- batches ------------------------------------------------------------------------------------- */

/* `FDL_BATCHES(b, loader, epoch) { ... }`: the body for each batch b of the epoch, in a scope of its own.
 * break, return and goto leave the epoch. An error ends the loop: fdl_data_status tells. */

/* Position i of the batch [rows, ...], on the loader's device: the batch's scope. Changing it in place
 * changes no later batch, except in order (see .writable). An i outside: NULL and FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_data_at(fdl_batch *b, int i);
/* The position of that name; unknown: NULL and FDL_E_ARG with the names that there are. */
FDL_API fdl_tensor *fdl_data_named(fdl_batch *b, const char *name);
FDL_API bool fdl_data_has(const fdl_batch *b, const char *name);
/* All positions in order: the batch's scope. */
FDL_API fdl_list fdl_data_list(fdl_batch *b);
/* Number of positions, and of samples; -1 on NULL. */
FDL_API int fdl_data_arity_of(const fdl_batch *b);
FDL_API int64_t fdl_data_rows(const fdl_batch *b);
/* Borrowed from the loader; NULL and FDL_E_RANGE for a position outside. */
FDL_API const char *fdl_data_name_at(const fdl_batch *b, int i);
/* Which samples these are, fdl_data_rows of them: borrowed, until the loader starts another epoch. NULL on
 * NULL. */
FDL_API const int64_t *fdl_data_indices(const fdl_batch *b);

/* ---- loaders ------------------------------------------------------------------------------------- */

/* How batches come about. */
typedef enum fdl_data_mode {
    FDL_DATA_AUTO = 0, /* resident where the data fits, else streaming */
    FDL_DATA_RESIDENT, /* the data is on the device as a whole: each sample was fetched once, at the start */
    FDL_DATA_STREAM    /* threads fetch the batches that are next: each sample anew in each epoch */
} fdl_data_mode;

enum { FDL_PREFETCH_NONE = -1 }; /* no threads: a batch is fetched when it is asked for */

/* Makes one batch of k samples in a way of its own, by padding, say. samples[j * n + p] is position p of sample j, without a
 * batch dim; out takes the batch's m tensors, CPU, belonging to the current scope. Called on several threads at once. */
typedef fdl_status (*fdl_data_collate_fn)(void *ctx, fdl_tensor *const *samples, int64_t k, int n,
                                          fdl_tensor **out, int m);

typedef struct fdl_loader_opts {
    fdl_by_name opts_;
    fdl_device device;    /* where batches are; default: the thread's default device */
    fdl_opt_i64 seed;     /* of the order, default 42 */
    bool in_order;        /* 0 to N - 1 instead of a new permutation each epoch */
    fdl_sampler *sampler; /* an order of your own instead; taken over, on failure too */
    bool keep_last; /* deliver a last batch that is short; default: leave it out (batch norm wants more than
                       one) */
    bool writable;  /* with .in_order, batches are copies; default: views of resident data, not to be changed
                       in place */
    fdl_data_mode mode;
    double vram_use; /* most of a CUDA device's memory that may be full: 0.50 to 0.99, default 0.90 */
    const char *const *names; /* FDL_NAMES("image", "label"); default: the dataset's */

    /* Streaming. */
    int64_t prefetch; /* batches that are ready before they are asked for, at most 512, or
                         FDL_PREFETCH_NONE; default: 2, on a GPU what .vram_use leaves room for */
    int workers;      /* threads that fetch; default: up to 4 where samples are fetched one by one, 1 for
                         batches and for FDL_DATA_SERIAL */
    double timeout;   /* seconds that fdl_data_next waits for a batch; default: for ever */
    /* Makes the batches, of samples that may differ in shape. They have as many positions as .names has
     * names, by default those of the samples. ctx is handed to it, and must outlive the loader. */
    fdl_data_collate_fn collate;
    void *ctx;
} fdl_loader_opts;
/* Batches of batch_size samples. Resident, the data is on the device as a whole and a batch is a gather: the rule where it
 * fits within .vram_use of a GPU's memory, or into half of the memory that the host has left. Datasets of CPU tensors
 * (fdl_data_tensors) are used where they lie. Everything else streams: so do datasets that draw random numbers
 * (fdl_data_rng), and loaders with .collate. Both give the same batches in the same order, whatever the number of threads.
 *
 * One sample is fetched now, so that its size is known. Build the model first, so that the memory that is left is that which
 * it leaves. Takes the dataset over. Owned: fdl_data_loader_free. An empty dataset, batch_size < 1, names that don't fit,
 * an option outside its range: FDL_E_ARG; a device that isn't there: FDL_E_DEVICE; FDL_DATA_RESIDENT for data that doesn't
 * fit: FDL_E_OOM. torch.utils.data.DataLoader. */
FDL_API fdl_loader *fdl_data_loader_opt(fdl_dataset *ds, int64_t batch_size, const fdl_loader_opts *opts);
/* The same for evaluation: in order, nothing left out. A sampler is FDL_E_ARG. */
FDL_API fdl_loader *fdl_data_eval_loader_opt(fdl_dataset *ds, int64_t batch_size,
                                             const fdl_loader_opts *opts);
/* Frees the loader, its sampler, its data and its reference on the dataset. Batches must not be used any
 * more. NULL: nothing. */
FDL_API void fdl_data_loader_free(fdl_loader *dl);
/* How the last epoch ended: FDL_OK at its end or when it was left, else its error, which fdl_last_error still
 * has unless another came since. An error ends its epoch, after the batches before it; the next one begins anew. On NULL the
 * pending error's status. */
FDL_API fdl_status fdl_data_status(const fdl_loader *dl);

/* Samples of an epoch (the sampler's), batches of an epoch, samples of a batch; -1 on NULL. */
FDL_API int64_t fdl_data_loader_len(const fdl_loader *dl);
FDL_API int64_t fdl_data_loader_batches(const fdl_loader *dl);
FDL_API int64_t fdl_data_loader_batch_size(const fdl_loader *dl);
FDL_API fdl_device fdl_data_loader_device(const fdl_loader *dl);
FDL_API int fdl_data_loader_arity(const fdl_loader *dl);
/* Name of position i, borrowed; NULL and FDL_E_RANGE outside. */
FDL_API const char *fdl_data_loader_name(const fdl_loader *dl, int i);
/* Bytes of one sample as it is stored on the device; -1 on NULL. */
FDL_API int64_t fdl_data_loader_sample_bytes(const fdl_loader *dl);
/* FDL_DATA_RESIDENT or FDL_DATA_STREAM; FDL_DATA_AUTO on NULL. */
FDL_API fdl_data_mode fdl_data_loader_mode(const fdl_loader *dl);
/* Batches that are kept ready; 0 when resident or without threads; -1 on NULL. */
FDL_API int64_t fdl_data_loader_depth(const fdl_loader *dl);

typedef struct fdl_data_stats {
    int64_t batches;   /* delivered */
    double waited;     /* seconds in fdl_data_next until a batch was there: what more workers could save */
    int64_t bytes;     /* of the batches that were brought to the device; 0 when resident */
    int64_t fallbacks; /* out of memory: resident data that streams instead, or a depth that was halved */
    int64_t pinned;    /* bytes of page-locked memory that batches go through */
    int64_t depth;     /* fdl_data_loader_depth */
    int workers;       /* threads; 0 when resident or without */
} fdl_data_stats;
/* Since the loader was made. */
FDL_API fdl_status fdl_data_loader_stats(const fdl_loader *dl, fdl_data_stats *stats);

/* Where the loader is, for a checkpoint: the current or last epoch and how many of its batches were
 * delivered; epoch -1 before the first. Go on with fdl_data_epoch(dl, epoch, .skip = batches). */
FDL_API fdl_status fdl_data_position(const fdl_loader *dl, int64_t *epoch, int64_t *batches);

/* ---- how much is kept ready: streaming loaders; resident ones do nothing ------------------------------------ */

/* On the CPU the depth is 2. On a GPU each epoch's start asks what memory is left: of .vram_use of the device, what isn't full
 * already and isn't needed by a step, in whole batches, at most an epoch and at most 512. What a step needs is known after the
 * first one, so the first batch comes alone. */

/* The depth from the next epoch on, instead of that; 0: no threads. d < 0: FDL_E_ARG. */
FDL_API fdl_status fdl_data_set_depth(fdl_loader *dl, int64_t d);
/* Measures now, and sets that depth from the next epoch on. The depth; -1 on NULL. */
FDL_API int64_t fdl_data_resize(fdl_loader *dl);
/* After a training step: twice what the step took of the device's memory beside what it keeps is left free from now on. The
 * trainer's fit does it; so does fdl_data_next when it is called for the second batch. */
FDL_API fdl_status fdl_data_note_peak(fdl_loader *dl);

/* ---- an epoch by hand ------------------------------------------------------------------------------ */

typedef struct fdl_epoch_opts {
    fdl_by_name opts_;
    int64_t skip; /* batches to leave out at the start, 0 to all */
} fdl_epoch_opts;
/* Starts epoch 0, 1, ... and ends the one that is open. The order is a function of seed and epoch alone.
 * Owned: fdl_data_epoch_end. */
FDL_API fdl_iter *fdl_data_epoch_opt(fdl_loader *dl, int64_t epoch, const fdl_epoch_opts *opts);
/* The next batch; NULL at the end and on error. The batch and its tensors are the current scope's. */
FDL_API fdl_batch *fdl_data_next(fdl_iter *it);
/* Batches still to come; 0 when another epoch was started; -1 on NULL. */
FDL_API int64_t fdl_data_left(const fdl_iter *it);
/* Ends and frees it, at the end or before. NULL: nothing. */
FDL_API void fdl_data_epoch_end(fdl_iter *it);

/* ---- datasets -------------------------------------------------------------------------------------- */

/* Rows of equally long CPU tensors: sample i is row i of each. Keeps handles of its own.
 * torch.utils.data.TensorDataset. */
FDL_API fdl_dataset *fdl_data_tensors(fdl_list tensors);

/* Puts the n tensors of sample i into out: CPU, without a batch dim, belonging to the current scope (or kept:
 * then they stay yours). Called on the loader's threads, several at once; there the default device is the CPU, the default dtype
 * that of the thread that began the epoch. An error ends the epoch. */
typedef fdl_status (*fdl_data_item_fn)(void *ctx, int64_t i, fdl_tensor **out, int n);
/* Samples from a function. ctx stays the caller's and must outlive the dataset. */
FDL_API fdl_dataset *fdl_data_fn(int64_t len, int arity, fdl_data_item_fn item, void *ctx);

/* Random numbers for a callback, for augmentation, say: the generator of sample i in the epoch that the loader is fetching
 * for, a function of its seed, the epoch and i. The same numbers come whichever thread fetches the sample and however many there
 * are. A loader whose sample asks for it streams, unless told otherwise. Outside a loader: of seed 42 and epoch 0. */
FDL_API fdl_status fdl_data_rng(int64_t i, fdl_rng *rng);

/* Calls come from one thread at a time. */
enum { FDL_DATA_SERIAL = 1 };
/* A dataset of your own. At least one of item and batch; batch is taken where there are both. */
typedef struct fdl_data_vtab {
    int64_t (*len)(void *self); /* asked once */
    fdl_data_item_fn item;
    /* Samples idx[0] to idx[k - 1], k >= 1: each of the n tensors with dim 0 of k. */
    fdl_status (*batch)(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n);
    void (*free)(void *self); /* may be NULL */
    int arity;                /* tensors per sample, 1 to FDL_DATA_MAX */
    unsigned flags;
    const char *const
        *names; /* of the positions, `arity` strings that live as long as self; NULL: "0", "1", ... */
} fdl_data_vtab;
/* Copies the table; self is the dataset's from now on, and freed on failure. */
FDL_API fdl_dataset *fdl_data_new(const fdl_data_vtab *table, void *self);

/* One more reference: for a second loader over the same dataset. Returns ds. */
FDL_API fdl_dataset *fdl_data_ref(fdl_dataset *ds);
/* One reference less; the last one frees. NULL: nothing. */
FDL_API void fdl_data_free(fdl_dataset *ds);
/* Number of samples, of tensors per sample; -1 on NULL. */
FDL_API int64_t fdl_data_len(const fdl_dataset *ds);
FDL_API int fdl_data_arity(const fdl_dataset *ds);
/* Any samples as a batch: fills out with arity tensors [k, ...], CPU, scope. Nothing for k = 0. An index
 * outside [0, N): FDL_E_RANGE; what differs from the first sample in number, dtype or shape: FDL_E_SHAPE; on
 * failure out is all NULL. */
FDL_API fdl_status fdl_data_fetch(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out);

/* ---- combinations: each takes its parts over ------------------------------------------------------- */

/* Samples idx[0] to idx[k - 1] of ds, a copy of idx. An index outside: FDL_E_RANGE. torch.utils.data.Subset.
 */
FDL_API fdl_dataset *fdl_data_subset(fdl_dataset *ds, const int64_t *idx, int64_t k);
/* A random part of round(fraction * N) samples and the rest, the same ones for a seed. On failure both are
 * NULL. torch.utils.data.random_split. */
FDL_API fdl_status fdl_data_split(fdl_dataset *ds, double fraction, uint64_t seed, fdl_dataset **part,
                                  fdl_dataset **rest);
/* One behind the other. torch.utils.data.ConcatDataset. */
FDL_API fdl_dataset *fdl_data_concat_of(int n, fdl_dataset *const *parts);
/* Sample i is sample i % N of ds, for i < len. */
FDL_API fdl_dataset *fdl_data_repeat(fdl_dataset *ds, int64_t len);
/* Puts others in the place of the n tensors of sample i; the old ones need no freeing. Like an fdl_data_item_fn. */
typedef fdl_status (*fdl_data_map_fn)(void *ctx, int64_t i, fdl_tensor **sample, int n);
/* ctx stays the caller's and must outlive the dataset. */
FDL_API fdl_dataset *fdl_data_map(fdl_dataset *ds, fdl_data_map_fn fn, void *ctx);
/* Divides a position by a number, as fdl_div does, so that bytes come out as float32; a loader keeps the
 * bytes on the device and divides each batch there. by: finite, not 0. */
FDL_API fdl_dataset *fdl_data_div(fdl_dataset *ds, int position, double by);

/* ---- samplers -------------------------------------------------------------------------------------- */

/* A permutation of 0 to n - 1, new in each epoch: a pure function of seed, epoch and n, the same on every
 * machine. */
FDL_API fdl_sampler *fdl_data_sampler_random(int64_t n, uint64_t seed);
/* 0 to n - 1. */
FDL_API fdl_sampler *fdl_data_sampler_sequential(int64_t n);
/* `draws` indices below n with replacement, index i with probability w[i] / sum(w). w is copied; none
 * negative or not finite, one above 0. torch.utils.data.WeightedRandomSampler. */
FDL_API fdl_sampler *fdl_data_sampler_weighted(const double *w, int64_t n, int64_t draws, uint64_t seed);

typedef struct fdl_sampler_vtab {
    int64_t (*len)(void *self); /* indices of an epoch, asked once */
    /* Fills out with len indices of the dataset; called at the start of each epoch. */
    fdl_status (*order)(void *self, int64_t epoch, int64_t *out);
    void (*free)(void *self); /* may be NULL */
} fdl_sampler_vtab;
/* An order of your own; self is the sampler's from now on, and freed on failure. */
FDL_API fdl_sampler *fdl_data_sampler_new(const fdl_sampler_vtab *table, void *self);
/* Number of indices of an epoch; -1 on NULL. */
FDL_API int64_t fdl_data_sampler_len(const fdl_sampler *s);
/* Fills out with the epoch's len indices. epoch < 0: FDL_E_ARG. */
FDL_API fdl_status fdl_data_sampler_order(fdl_sampler *s, int64_t epoch, int64_t *out);
/* For a sampler that no loader took. NULL: nothing. */
FDL_API void fdl_data_sampler_free(fdl_sampler *s);

/* ---- corpora --------------------------------------------------------------------------------------- */

enum { FDL_TRAIN = 0, FDL_TEST = 1 };

typedef struct fdl_mnist_opts {
    fdl_by_name opts_;
    int split; /* FDL_TRAIN (60,000 samples, the default) or FDL_TEST (10,000) */
} fdl_mnist_opts;
/* Handwritten digits (LeCun, Cortes, Burges) from the files dir/mnist/train-images-idx3-ubyte.gz and so on,
 * packed or not: "image" float32 [1, 28, 28] in [0, 1], "label" int64. A missing file: FDL_E_IO, saying where
 * it can be had. */
FDL_API fdl_dataset *fdl_data_mnist_opt(const char *dir, const fdl_mnist_opts *opts);
/* The same from memory, packed or not: an images file of ni bytes (magic 2051) and a labels file of nl (magic
 * 2049, labels 0 to 9), any number and size of images. Copies what it needs. Malformed content: FDL_E_FORMAT,
 * saying what and where. */
FDL_API fdl_dataset *fdl_data_mnist_parse(const void *images, size_t ni, const void *labels, size_t nl);

typedef struct fdl_cifar10_opts {
    fdl_by_name opts_;
    int split; /* FDL_TRAIN (50,000 samples, the default) or FDL_TEST (10,000) */
} fdl_cifar10_opts;
/* CIFAR-10 (Krizhevsky) from the files of its binary version, dir/cifar10/data_batch_1.bin to 5 or test_batch.bin, packed
 * (.gz) or not: "image" float32 [3, 32, 32] in [0, 1], "label" int64. A missing file: FDL_E_IO, saying where it can be had;
 * one that hasn't 10,000 records: FDL_E_FORMAT. torchvision.datasets.CIFAR10. */
FDL_API fdl_dataset *fdl_data_cifar10_opt(const char *dir, const fdl_cifar10_opts *opts);
/* The same from memory: n files of sizes[i] bytes, packed or not, of any number of records: a label, 0 to 9, then 1,024 bytes
 * each of red, green and blue, row by row. Copies what it needs. Malformed content: FDL_E_FORMAT, saying which file and record. */
FDL_API fdl_dataset *fdl_data_cifar10_parse(const void *const *files, const size_t *sizes, int n);
/* The names of the classes, "airplane" to "truck"; NULL and FDL_E_RANGE outside 0 to 9. */
FDL_API const char *fdl_data_cifar10_class(int label);

/* ---- sequences and texts ----------------------------------------------------------------------------- */

typedef struct fdl_windows_opts {
    fdl_by_name opts_;
    int64_t
        stride; /* elements from the beginning of a window to that of the next, default length: they touch */
} fdl_windows_opts;
/* Windows of a sequence x [n] (CPU, any dtype), for models that guess what comes next: window i begins at i * stride,
 * and sample i is "input", its `length` elements, and "target", those one further on: [length] each, 1 + (n - 1 -
 * length) / stride samples. They are views of x, also on a device: with .stride = 1 each place of the sequence begins a
 * sample, for no more memory. length or stride < 1, n <= length: FDL_E_ARG. */
FDL_API fdl_dataset *fdl_data_windows_opt(fdl_tensor *x, int64_t length, const fdl_windows_opts *opts);

/* `draws` indices below n with replacement, all equally likely, new in each epoch: with .stride = 1, windows at random.
 * n < 1, draws < 0: FDL_E_ARG. torch.utils.data.RandomSampler(replacement=True, num_samples=draws). */
FDL_API fdl_sampler *fdl_data_sampler_uniform(int64_t n, int64_t draws, uint64_t seed);

/* Tiny Shakespeare (Karpathy): the text of dir/tinyshakespeare/input.txt, 1,115,394 bytes of 65 characters, with a zero
 * byte behind its *n. Owned: free. A missing file: FDL_E_IO, saying where it can be had. vocab.h makes numbers of it. */
FDL_API char *fdl_data_shakespeare(const char *dir, size_t *n);

/* What FDL_BATCHES and the list macros expand to. */
typedef struct fdl_data_cursor {
    fdl_iter *it;
    fdl_batch *batch;
    fdl_scope *scope;
    bool fresh, left;
} fdl_data_cursor;
FDL_API fdl_data_cursor fdl_data_cursor_open_(fdl_loader *dl, int64_t epoch);
FDL_API bool fdl_data_cursor_next_(fdl_data_cursor *c, fdl_scope *outer);
FDL_API void fdl_data_cursor_close_(fdl_data_cursor *c);
FDL_API fdl_dataset *fdl_data_concat_ended_(fdl_dataset *const *ended);

FDL_END_DECLS

#ifndef __cplusplus
/* Names of positions: `.names = FDL_NAMES("image", "label")`. */
#define FDL_NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})
#define fdl_data_loader(ds, ...) fdl_data_loader_(ds, __VA_ARGS__, .opts_ = 0)
#define fdl_data_loader_(ds, batch_size, ...) \
    fdl_data_loader_opt(ds, batch_size, &(fdl_loader_opts){__VA_ARGS__})
#define fdl_data_eval_loader(ds, ...) fdl_data_eval_loader_(ds, __VA_ARGS__, .opts_ = 0)
#define fdl_data_eval_loader_(ds, batch_size, ...) \
    fdl_data_eval_loader_opt(ds, batch_size, &(fdl_loader_opts){__VA_ARGS__})
#define fdl_data_epoch(dl, ...) fdl_data_epoch_(dl, __VA_ARGS__, .opts_ = 0)
#define fdl_data_epoch_(dl, epoch, ...) fdl_data_epoch_opt(dl, epoch, &(fdl_epoch_opts){__VA_ARGS__})
#define fdl_data_concat(...) fdl_data_concat_ended_((fdl_dataset *const[]){__VA_ARGS__, FDL_END})
#define fdl_data_cifar10(...) fdl_data_cifar10_(__VA_ARGS__, .opts_ = 0)
#define fdl_data_cifar10_(dir, ...) fdl_data_cifar10_opt(dir, &(fdl_cifar10_opts){__VA_ARGS__})
#define fdl_data_mnist(...) fdl_data_mnist_(__VA_ARGS__, .opts_ = 0)
#define fdl_data_mnist_(dir, ...) fdl_data_mnist_opt(dir, &(fdl_mnist_opts){__VA_ARGS__})

#define fdl_data_windows(x, ...) fdl_data_windows_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_data_windows_(x, length, ...) fdl_data_windows_opt(x, length, &(fdl_windows_opts){__VA_ARGS__})

/* Three loops in one, so that a break in the body ends them all, and FDL_SCOPE and FDL_RETURN in it know the
 * batch's scope: the cursor, whose cleanup ends the epoch; the scope; the batch. `left` stays true when the
 * body is broken out of. */
#define FDL_BATCHES(b, dl, epoch)                                                                 \
    FDL_NO_SHADOW_BEGIN_                                                                          \
    for (__attribute__((cleanup(fdl_data_cursor_close_)))                                         \
         fdl_data_cursor FDL_CAT(fdl_cursor_, b) = fdl_data_cursor_open_(dl, epoch);              \
         fdl_data_cursor_next_(&FDL_CAT(fdl_cursor_, b), fdl_scope_here_);)                       \
        for (FDL_UNUSED fdl_scope *const fdl_scope_here_ = FDL_CAT(fdl_cursor_, b).scope;         \
             FDL_CAT(fdl_cursor_, b).fresh;)                                                      \
            for (FDL_UNUSED fdl_batch *b =                                                        \
                     (FDL_CAT(fdl_cursor_, b).fresh = false, FDL_CAT(fdl_cursor_, b).left = true, \
                                           FDL_CAT(fdl_cursor_, b).batch);                        \
                 FDL_CAT(fdl_cursor_, b).left; FDL_CAT(fdl_cursor_, b).left = false)              \
    FDL_NO_SHADOW_END_
#endif

#endif
