/* Pruning: parts of a parameter are held at 0 by a mask. torch.nn.utils.prune.
 *
 * A pruned weight is computed before each run of its module as weight_mask * weight_orig; the parameter weight_orig is the leaf
 * that the weight was (optimizers stay valid), weight_mask a buffer of 1 and 0, so both go into files, copies, and onto devices.
 * Pruning again acts on what is left: amounts are parts of that. m is the module that has the parameter itself, name its leaf
 * name. An m without that parameter, an amount that is negative or more than there is: FDL_E_ARG, and nothing is changed. What is
 * drawn at random comes from the generator of the parameter's device. */
#ifndef FLODL_PRUNE_H
#define FLODL_PRUNE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

typedef struct fdl_prune_opts {
    fdl_by_name opts_;
    fdl_opt_i64 count; /* so many elements (channels) instead of a part; amount is 0 then */
    fdl_tensor *
        scores; /* what is least of these is pruned, of the parameter's shape, in place of its own values; not
                         * for random ones */
} fdl_prune_opts;

/* ---- elements ------------------------------------------------------------------------------------------ */

/* torch.nn.utils.prune.l1_unstructured: the part `amount`, in [0, 1], of the elements that are smallest in absolute value.
 * random_unstructured: of any. */
FDL_API fdl_status fdl_prune_l1_unstructured_opt(fdl_module *m, const char *name, double amount,
                                                 const fdl_prune_opts *opts);
FDL_API fdl_status fdl_prune_random_unstructured_opt(fdl_module *m, const char *name, double amount,
                                                     const fdl_prune_opts *opts);

/* ---- channels ------------------------------------------------------------------------------------------ */

/* torch.nn.utils.prune.ln_structured: the part `amount` of the slices along dim whose n-norm is least (n: 1, 2, INFINITY, ...).
 * random_structured: of any. A parameter of one dim: FDL_E_ARG. */
FDL_API fdl_status fdl_prune_ln_structured_opt(fdl_module *m, const char *name, double amount, double n,
                                               int dim, const fdl_prune_opts *opts);
FDL_API fdl_status fdl_prune_random_structured_opt(fdl_module *m, const char *name, double amount, int dim,
                                                   const fdl_prune_opts *opts);

/* ---- over several parameters ----------------------------------------------------------------------------- */

typedef struct fdl_pruned {
    fdl_module *module;
    const char *name;
} fdl_pruned;
typedef struct fdl_pruned_list {
    int n;
    const fdl_pruned *at;
} fdl_pruned_list;

typedef struct fdl_prune_global_opts {
    fdl_by_name opts_;
    fdl_opt_i64 count; /* so many elements instead of a part */
    bool random;       /* any; default: those that are smallest in absolute value */
    fdl_list scores;   /* what is smallest of these is pruned instead, one a parameter, of its shape */
} fdl_prune_global_opts;
/* torch.nn.utils.prune.global_unstructured: the part `amount` of the elements of all of them together,
 * fdl_prune_global_unstructured(FDL_PRUNED({conv, "weight"}, {linear, "weight"}), 0.2). All on one device and of one dtype; an
 * empty list, a parameter twice: FDL_E_ARG. */
FDL_API fdl_status fdl_prune_global_unstructured_opt(fdl_pruned_list list, double amount,
                                                     const fdl_prune_global_opts *opts);

/* ---- by hand ------------------------------------------------------------------------------------------- */

/* torch.nn.utils.prune.custom_from_mask: mask [the parameter's shape], of any dtype, what is 0 is pruned. It is multiplied with
 * the mask that there is. Another shape: FDL_E_SHAPE. */
FDL_API fdl_status fdl_prune_custom(fdl_module *m, const char *name, fdl_tensor *mask);
/* torch.nn.utils.prune.identity: a mask of ones. */
FDL_API fdl_status fdl_prune_identity(fdl_module *m, const char *name);
/* torch.nn.utils.prune.remove: the parameter is one again, with zeros where it is pruned; its leaf is weight_orig's. Not pruned:
 * FDL_E_ARG. */
FDL_API fdl_status fdl_prune_remove(fdl_module *m, const char *name);
/* torch.nn.utils.prune.is_pruned: whether a parameter of the module, or of one in it, is. */
FDL_API bool fdl_is_pruned(fdl_module *m);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_prune_l1_unstructured(m, name, ...) fdl_prune_l1_unstructured_(m, name, __VA_ARGS__, .opts_ = 0)
#define fdl_prune_l1_unstructured_(m, name, amount, ...) \
    fdl_prune_l1_unstructured_opt(m, name, amount, &(fdl_prune_opts){__VA_ARGS__})
#define fdl_prune_random_unstructured(m, name, ...) \
    fdl_prune_random_unstructured_(m, name, __VA_ARGS__, .opts_ = 0)
#define fdl_prune_random_unstructured_(m, name, amount, ...) \
    fdl_prune_random_unstructured_opt(m, name, amount, &(fdl_prune_opts){__VA_ARGS__})
#define fdl_prune_ln_structured(m, name, amount, n, ...) \
    fdl_prune_ln_structured_(m, name, amount, n, __VA_ARGS__, .opts_ = 0)
#define fdl_prune_ln_structured_(m, name, amount, n, dim, ...) \
    fdl_prune_ln_structured_opt(m, name, amount, n, dim, &(fdl_prune_opts){__VA_ARGS__})
#define fdl_prune_random_structured(m, name, amount, ...) \
    fdl_prune_random_structured_(m, name, amount, __VA_ARGS__, .opts_ = 0)
#define fdl_prune_random_structured_(m, name, amount, dim, ...) \
    fdl_prune_random_structured_opt(m, name, amount, dim, &(fdl_prune_opts){__VA_ARGS__})
#define fdl_prune_global_unstructured(list, ...) fdl_prune_global_unstructured_(list, __VA_ARGS__, .opts_ = 0)
#define fdl_prune_global_unstructured_(list, amount, ...) \
    fdl_prune_global_unstructured_opt(list, amount, &(fdl_prune_global_opts){__VA_ARGS__})
/* Parameters by their modules and names, for fdl_prune_global_unstructured. */
#define FDL_PRUNED(...)                                                                 \
    ((fdl_pruned_list){(int)(sizeof((fdl_pruned[]){__VA_ARGS__}) / sizeof(fdl_pruned)), \
                       (const fdl_pruned[]){__VA_ARGS__}})
#endif

#endif
