/* Parameters that are computed from others before each run of their module: weights with a norm of their own, with a largest
 * singular value of 1, with orthogonal columns, or as any module computes them. torch.nn.utils.parametrize, parametrizations.
 *
 * A parametrized weight of a module is no parameter any more. In its place stand parametrizations.weight.original, from which it
 * is computed, or where two are needed original0 and original1; those are trained, saved, moved and frozen as any other. What
 * computes it is a child of the module, so that buffers of its own (a spectral norm's vectors) go into files and onto devices,
 * too, and train and eval reach it. Make the optimizer afterwards. Works wherever a module does: in flows, graphs, loops, copies,
 * topology files, recorded steps; ONNX gets the value. A function that runs a module without fdl_forward sees the original.
 *
 * m is the module that has the parameter itself, name its leaf name ("weight"; of a part of it, the part:
 * fdl_module_child_at). An m without that parameter: FDL_E_ARG, and nothing is changed, as on every failure. */
#ifndef FLODL_PARAMETRIZE_H
#define FLODL_PARAMETRIZE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* ---- known ones ------------------------------------------------------------------------------------- */

typedef struct fdl_weight_norm_opts {
    fdl_by_name opts_;
    fdl_opt_i64
        dim; /* each slice along it has a norm of its own, default FDL_SOME(0); FDL_SOME(-1): one for all, torch's None */
} fdl_weight_norm_opts;
/* torch.nn.utils.parametrizations.weight_norm: the weight is g v / |v|. original0 is g, at first the norms of the weight, [n, 1,
 * ...]; original1 is v, at first the weight. Loads files with the older names weight_g and weight_v, too. */
FDL_API fdl_status fdl_weight_norm_opt(fdl_module *m, const char *name, const fdl_weight_norm_opts *opts);

typedef struct fdl_spectral_norm_opts {
    fdl_by_name opts_;
    int n_power_iterations; /* at each run in training, default 1 */
    double eps;             /* the least norm that a vector is divided by, default 1e-12 */
    fdl_opt_i64
        dim; /* of rows, when the weight is seen as a matrix; default 0, of transposed convolutions 1 */
} fdl_spectral_norm_opts;
/* torch.nn.utils.parametrizations.spectral_norm: the weight divided by its largest singular value, which power iterations
 * estimate: one at each run in training, none in evaluation. Their vectors are the buffers parametrizations.weight.0._u and _v,
 * drawn and iterated 15 times at first. A weight of one dim: a unit vector. Two runs and one backward through both work. */
FDL_API fdl_status fdl_spectral_norm_opt(fdl_module *m, const char *name, const fdl_spectral_norm_opts *opts);

typedef enum fdl_orthogonal_map {
    FDL_ORTHOGONAL_AUTO = 0,   /* matrix_exp for square matrices, otherwise householder */
    FDL_ORTHOGONAL_MATRIX_EXP, /* the exponential of a skew-symmetric matrix */
    FDL_ORTHOGONAL_CAYLEY,     /* its Cayley transform */
    FDL_ORTHOGONAL_HOUSEHOLDER /* a product of reflections */
} fdl_orthogonal_map;
typedef struct fdl_orthogonal_opts {
    fdl_by_name opts_;
    fdl_orthogonal_map map;
} fdl_orthogonal_opts;
/* torch.nn.utils.parametrizations.orthogonal: the weight [*, rows, columns] has orthonormal columns, or rows if there are fewer.
 * It begins with a matrix near the weight (the weight itself if it is orthogonal), the buffer parametrizations.weight.0.base, and
 * what is trained moves it from there. Fewer than 2 dims: FDL_E_ARG. */
FDL_API fdl_status fdl_orthogonal_opt(fdl_module *m, const char *name, const fdl_orthogonal_opts *opts);

/* ---- one of your own -------------------------------------------------------------------------------- */

/* torch.nn.utils.parametrize.register_parametrization: the parameter is by(original), or by(as it was computed) if it is
 * parametrized already. by takes one tensor and gives one of its shape and dtype (else FDL_E_SHAPE); original begins with the
 * parameter's values. Takes by over, on failure too. */
FDL_API fdl_status fdl_parametrize(fdl_module *m, const char *name, fdl_module *by);

/* ---- asking and ending ------------------------------------------------------------------------------- */

/* torch.nn.utils.parametrize.is_parametrized. */
FDL_API bool fdl_is_parametrized(fdl_module *m, const char *name);
/* The value of a parameter that is parametrized or pruned, as an evaluation computes it (scope), with its history; of another
 * parameter that itself. */
FDL_API fdl_tensor *fdl_parametrized(fdl_module *m, const char *name);

typedef struct fdl_parametrize_remove_opts {
    fdl_by_name opts_;
    bool
        leave_original; /* the parameter becomes the original and not the value; where there are two: FDL_E_ARG */
} fdl_parametrize_remove_opts;
/* torch.nn.utils.parametrize.remove_parametrizations: the parameter is one again, with the value that an evaluation computes, in
 * the place that it had in the list. Its leaf is the original's (the last one's), so that an optimizer that has it still does. */
FDL_API fdl_status fdl_parametrize_remove_opt(fdl_module *m, const char *name,
                                              const fdl_parametrize_remove_opts *opts);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_weight_norm(m, ...) fdl_weight_norm_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_weight_norm_(m, name, ...) fdl_weight_norm_opt(m, name, &(fdl_weight_norm_opts){__VA_ARGS__})
#define fdl_spectral_norm(m, ...) fdl_spectral_norm_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_spectral_norm_(m, name, ...) \
    fdl_spectral_norm_opt(m, name, &(fdl_spectral_norm_opts){__VA_ARGS__})
#define fdl_orthogonal(m, ...) fdl_orthogonal_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_orthogonal_(m, name, ...) fdl_orthogonal_opt(m, name, &(fdl_orthogonal_opts){__VA_ARGS__})
#define fdl_parametrize_remove(m, ...) fdl_parametrize_remove_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_parametrize_remove_(m, name, ...) \
    fdl_parametrize_remove_opt(m, name, &(fdl_parametrize_remove_opts){__VA_ARGS__})
#endif

#endif
