/* Checkpoints: a module's parameters and buffers in a file, and back. A file is a safetensors file, which
 * other tools read and write as well; keys are PyTorch's state_dict keys. torch.save and torch.load with
 * state_dict. */
#ifndef FLODL_CKPT_H
#define FLODL_CKPT_H

#include "flodl/amp.h"
#include "flodl/ema.h"
#include "flodl/module.h"
#include "flodl/rng.h"
#include "flodl/sched.h"

FDL_BEGIN_DECLS

/* ---- the training that goes with a model ------------------------------------------------------------- */

/* Several optimizers, ended by FDL_END: FDL_OPTIMS(a, b). */
typedef struct fdl_optims {
    fdl_optim **at;
} fdl_optims;

/* Where a training is, in numbers of the host. fdl_trainer_save fills it; a loop by hand uses what it needs of it. */
typedef struct fdl_progress {
    int64_t step;  /* optimizer steps so far */
    int64_t epoch; /* the one to go on with ... */
    int64_t
        batch; /* ... and how many of its batches were used: fdl_data_epoch(loader, epoch, .skip = batch) */
    int64_t samples;    /* in those batches */
    int64_t losses;     /* of those batches, how many ... */
    double loss_sum;    /* ... and their sum */
    double loss;        /* mean of the epoch before */
    double best;        /* best value so far, and its epoch */
    int64_t best_epoch; /* -1: there is none */
} fdl_progress;

/* ---- saving ---------------------------------------------------------------------------------------- */

/* A line of text that goes with the file. */
typedef struct fdl_meta {
    const char *key, *value;
} fdl_meta;

typedef struct fdl_ckpt_save_opts {
    fdl_by_name opts_;
    fdl_dtype dtype; /* floating tensors are saved in this dtype; default: in their own */
    int level;       /* of gzip, 1 to 9, for a path that ends in ".gz"; default 6 */
    int64_t
        shard_bytes; /* more tensors than that go to several files of at most so many bytes; default: one file */
    const fdl_meta *
        meta; /* FDL_META({"epoch", "3"}, ...); keys other than "format", "fdl.*" and those of training state */
    int keep_last; /* for a path with a number in it, "run-000400.fdl": of the files that differ in that number alone and have
                    * none above it, so many with the highest stay, the rest is removed; default: all stay */
    /* What of the training goes with it; in the file under names that no state_dict has: "optim/0/<key>/exp_avg". */
    fdl_optim *optim;
    fdl_optims optims;            /* in place of it, several: FDL_OPTIMS(a, b) */
    fdl_amp_scaler *scaler;       /* between two iterations, as after fdl_amp_update */
    const fdl_plateau *plateau;   /* other schedules are functions of the step */
    fdl_ema *ema;                 /* of this model; while it is applied: FDL_E_STATE */
    bool rng;                     /* the CPU's generator, and those of the CUDA devices of the model */
    const fdl_rng *host_rng;      /* one of your own */
    const fdl_progress *progress; /* and what graphs carry from call to call */
    /* Used by fdl_ckpt_save_async: */
    bool skip_if_busy; /* does nothing while the worker has something to do */
    bool *skipped;     /* gets whether it did nothing */
} fdl_ckpt_save_opts;

/* Writes parameters and buffers (without transient ones; a shared tensor once) to path, with a graph's
 * fdl_graph_hash: at every moment path is the old file or the whole new one. A path that ends in ".gz" is
 * compressed. The disk full, no permission: FDL_E_IO; two names that give one key: FDL_E_ARG with both; a path that ends
 * in ".pt" or ".pth", torch.save's format, which is read and not written: FDL_E_ARG.
 *
 * A graph's source config goes into the file and into one beside it: model.config.json for model.fdl.gz.
 *
 * .shard_bytes: model.safetensors becomes model-00001-of-00003.safetensors and so on, each a file of its own, and
 * model.safetensors.index.json, which says where a name lies; a tensor isn't cut. fdl_ckpt_load takes the path of
 * the index, or the one that was given here. Over an earlier save new shards have new names (model-v2-...), and its
 * files go when the new index is there; what another program wrote stays. */
FDL_API fdl_status fdl_ckpt_save_opt(fdl_module *m, const char *path, const fdl_ckpt_save_opts *opts);

/* An optimizer alone. */
FDL_API fdl_status fdl_ckpt_save_optim(const fdl_optim *o, const char *path);

/* Where bytes go: write takes n bytes and returns FDL_OK, or fails with fdl_fail. */
typedef struct fdl_writer {
    fdl_status (*write)(void *ctx, const void *bytes, size_t n);
    void *ctx;
} fdl_writer;
/* The same to a writer (memory, a socket): .level above 0 compresses, .shard_bytes is FDL_E_ARG. */
FDL_API fdl_status fdl_ckpt_save_to_opt(fdl_module *m, fdl_writer to, const fdl_ckpt_save_opts *opts);

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

/* One rule for keys of a file. `*` in `from` stands for any run of characters, dots too, as short as it can be; the
 * n-th of `to` gets what the n-th of `from` stood for. A `to` that ends in "[1/3]" makes the tensor the second of
 * three that are put one behind the other along dim 0 under the name before the bracket. */
typedef struct fdl_rename {
    const char *from, *to;
} fdl_rename;

typedef struct fdl_ckpt_load_opts {
    fdl_by_name opts_;
    bool partial;          /* names that are missing or unexpected are no error; hashes aren't compared */
    bool allow_unexpected; /* names in the file that the module doesn't have are no error */
    bool allow_mismatched; /* a tensor of another shape is no error, and not loaded */
    bool ignore_hash;      /* hashes aren't compared */
    const char *at; /* loads into the subgraph at this path, with its own names and hash: "encoder.scan" */
    const char *prefix; /* only keys that begin so, without it: "encoder."; hashes aren't compared */
    const fdl_rename
        *rename; /* FDL_RENAMES({"old.*", "new.*"}, ...), behind .prefix; hashes aren't compared */
    fdl_load_report *report; /* filled when the file could be read, also when the load then fails */
    /* What of the training is taken as well; what the file hasn't: FDL_E_MISMATCH. It goes by this model's own names. */
    fdl_optim *optim;
    fdl_optims optims; /* in place of it, several, as they were saved */
    fdl_amp_scaler *scaler;
    fdl_plateau *plateau;
    fdl_ema *ema;
    bool rng; /* a CUDA device that the file or the machine hasn't is left out */
    fdl_rng *host_rng;
    fdl_progress *progress;
} fdl_ckpt_load_opts;

/* Copies values from the file into the module's parameters and buffers, which stay the same tensors, on their
 * devices and in their dtypes, frozen or not as they were. Nothing changes unless everything fits. Not there:
 * FDL_E_IO; damaged: FDL_E_FORMAT naming the entry; another fdl_graph_hash, other names or shapes than the
 * module's: FDL_E_MISMATCH; an .at that leads to no subgraph: FDL_E_ARG. torch.nn.Module.load_state_dict.
 *
 * .optim, .scaler, .plateau, .ema, .rng, .host_rng, .progress: with what was saved by the options of these names a training
 * goes on as if it had never stopped, on the CPU and in deterministic mode bit for bit. All of it is checked before
 * anything changes, as the model's values are.
 *
 * Which format a file has is seen by its content: safetensors, plain or in gzip, flodl's own or another program's;
 * the index of a sharded one, or the path under which it was saved; a zip file of torch.save, of which nothing is
 * executed (a dict of dicts: its keys joined by "."; needs libzip, else FDL_E_UNSUPPORTED); versions 1 and 2
 * of checkpoints ("FDLC").
 *
 * In other programs' files a batch norm's num_batches_tracked may be missing, as PyTorch has it: it stays as it is.
 *
 * A tensor takes what the file has under the first of these: its state_dict key, its canonical name, another name
 * of the same tensor; then, of what nobody has taken so, its flat name (fdl_parameters(m, .flat)) and
 * its name in an equal torch.nn.Sequential (.sequential); what a parametrization keeps, the older torch.nn.utils.weight_norm's and
 * spectral_norm's name for it ("weight_g"). */
FDL_API fdl_status fdl_ckpt_load_opt(fdl_module *m, const char *path, const fdl_ckpt_load_opts *opts);

/* An optimizer alone, out of its own file or out of a model's that has one. Errors as fdl_optim_load_state_dict's. */
FDL_API fdl_status fdl_ckpt_load_optim(fdl_optim *o, const char *path);

/* Where bytes come from: read puts up to n bytes at buf and returns how many, 0 at the end, or -1 with fdl_fail. */
typedef struct fdl_reader {
    int64_t (*read)(void *ctx, void *buf, size_t n);
    void *ctx;
} fdl_reader;
/* The same from a reader. An uncompressed safetensors file is read to its last byte and no further; other formats to
 * the end. */
FDL_API fdl_status fdl_ckpt_load_from_opt(fdl_module *m, fdl_reader from, const fdl_ckpt_load_opts *opts);

/* One section for each list that isn't empty: "loaded (12)" and the names below. */
FDL_API fdl_status fdl_load_report_print(const fdl_load_report *report, FILE *file);

FDL_END_DECLS

#ifndef __cplusplus
/* Several optimizers: `.optims = FDL_OPTIMS(opt_d, opt_g)`. */
#define FDL_OPTIMS(...) ((fdl_optims){(fdl_optim *[]){__VA_ARGS__, FDL_END}})
/* Lines that go with a checkpoint: `.meta = FDL_META({"epoch", "3"})`. */
#define FDL_META(...) ((const fdl_meta[]){__VA_ARGS__, {NULL, NULL}})
/* Rules, in order, each on what the one before made of a key: `.rename = FDL_RENAMES({"old.*", "new.*"},
 * FDL_RENAME_GAMMA_BETA)`. */
#define FDL_RENAMES(...) ((const fdl_rename[]){__VA_ARGS__, {NULL, NULL}})
/* clang-format off */
/* Sets of rules. gamma and beta of norms become weight and bias. */
#define FDL_RENAME_GAMMA_BETA \
    {"*.gamma", "*.weight"}, {"*.beta", "*.bias"}, {"gamma", "weight"}, {"beta", "bias"}
/* Three projections of an attention become one packed matrix. */
#define FDL_RENAME_SPLIT_QKV                                                                \
    {"*q_proj.weight", "*in_proj_weight[0/3]"}, {"*k_proj.weight", "*in_proj_weight[1/3]"}, \
    {"*v_proj.weight", "*in_proj_weight[2/3]"}, {"*q_proj.bias", "*in_proj_bias[0/3]"},     \
    {"*k_proj.bias", "*in_proj_bias[1/3]"}, {"*v_proj.bias", "*in_proj_bias[2/3]"}
/* w_ih, w_hh, b_ih and b_hh of a recurrent cell become weight_ih, weight_hh, bias_ih and bias_hh. */
#define FDL_RENAME_CELL                                             \
    {"*.w_ih", "*.weight_ih"}, {"*.w_hh", "*.weight_hh"},           \
    {"*.b_ih", "*.bias_ih"}, {"*.b_hh", "*.bias_hh"},               \
    {"w_ih", "weight_ih"}, {"w_hh", "weight_hh"},                   \
    {"b_ih", "bias_ih"}, {"b_hh", "bias_hh"}
/* clang-format on */

#define fdl_ckpt_save(m, ...) fdl_ckpt_save_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_(m, path, ...) fdl_ckpt_save_opt(m, path, &(fdl_ckpt_save_opts){__VA_ARGS__})
#define fdl_ckpt_save_to(m, ...) fdl_ckpt_save_to_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_save_to_(m, to, ...) fdl_ckpt_save_to_opt(m, to, &(fdl_ckpt_save_opts){__VA_ARGS__})
#define fdl_ckpt_load(m, ...) fdl_ckpt_load_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_load_(m, path, ...) fdl_ckpt_load_opt(m, path, &(fdl_ckpt_load_opts){__VA_ARGS__})
#define fdl_ckpt_load_from(m, ...) fdl_ckpt_load_from_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_ckpt_load_from_(m, from, ...) fdl_ckpt_load_from_opt(m, from, &(fdl_ckpt_load_opts){__VA_ARGS__})
#endif

#endif
