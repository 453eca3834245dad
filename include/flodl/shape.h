/* Shapes: other views of the same elements, repeating, moving, joining and splitting. Dims may count from the end; one outside
 * is FDL_E_RANGE. All are differentiable. A view shares its storage: an in-place change of one is seen through the other. */
#ifndef FLODL_SHAPE_H
#define FLODL_SHAPE_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- another shape over the same elements --------------------------------------------------------- */

/* torch.reshape: one extent may be -1; a view where it can be, else a copy. view: a view, or FDL_E_SHAPE. */
FDL_API fdl_tensor *fdl_reshape(fdl_tensor *x, fdl_shape shape);
FDL_API fdl_tensor *fdl_view(fdl_tensor *x, fdl_shape shape);
/* torch.flatten: dims start to end become one; [] becomes [1]. */
FDL_API fdl_tensor *fdl_flatten(fdl_tensor *x, int start, int end);
/* Tensor.unflatten: dim becomes several; one extent may be -1. */
FDL_API fdl_tensor *fdl_unflatten(fdl_tensor *x, int dim, fdl_shape shape);
/* torch.transpose: swaps two dims. t: of a matrix (1-d and 0-d stay). mT: of the last two dims. Views. */
FDL_API fdl_tensor *fdl_transpose(fdl_tensor *x, int d0, int d1);
FDL_API fdl_tensor *fdl_t(fdl_tensor *x);
FDL_API fdl_tensor *fdl_mT(fdl_tensor *x);
/* torch.permute: dims names each dim once. A view. */
FDL_API fdl_tensor *fdl_permute(fdl_tensor *x, fdl_shape dims);
/* torch.movedim: dim from to place to; movedims several at once. Views. */
FDL_API fdl_tensor *fdl_movedim(fdl_tensor *x, int from, int to);
FDL_API fdl_tensor *fdl_movedims(fdl_tensor *x, fdl_shape from, fdl_shape to);
/* torch.squeeze: drops dim if its extent is 1; squeeze_dims several, squeeze_all every such dim. Views. */
FDL_API fdl_tensor *fdl_squeeze(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_squeeze_dims(fdl_tensor *x, fdl_shape dims);
FDL_API fdl_tensor *fdl_squeeze_all(fdl_tensor *x);
/* torch.unsqueeze: a new dim of extent 1. many: in ascending order, one after another; none: FDL_E_ARG. Views. */
FDL_API fdl_tensor *fdl_unsqueeze(fdl_tensor *x, int dim);
FDL_API fdl_tensor *fdl_unsqueeze_many(fdl_tensor *x, fdl_shape dims);
/* torch.atleast_1d, 2d, 3d: extents of 1 are added as NumPy does. Views. */
FDL_API fdl_tensor *fdl_atleast_1d(fdl_tensor *x);
FDL_API fdl_tensor *fdl_atleast_2d(fdl_tensor *x);
FDL_API fdl_tensor *fdl_atleast_3d(fdl_tensor *x);
/* torch.as_strided: any view of the storage; strides and offset in elements. Outside the storage: FDL_E_RANGE. */
FDL_API fdl_tensor *fdl_as_strided(fdl_tensor *x, fdl_shape shape, fdl_shape strides, int64_t offset);
/* Tensor.unfold: windows of size elements along dim, step apart -> [..., windows, ..., size]. A view. */
FDL_API fdl_tensor *fdl_unfold_dim(fdl_tensor *x, int dim, int64_t size, int64_t step);

/* ---- repeating -------------------------------------------------------------------------------------- */

/* Tensor.expand: extents of 1 grow, -1 keeps; a view with stride 0, which in-place operations refuse. */
FDL_API fdl_tensor *fdl_expand(fdl_tensor *x, fdl_shape shape);
FDL_API fdl_tensor *fdl_expand_as(fdl_tensor *x, fdl_tensor *y);
FDL_API fdl_tensor *fdl_broadcast_to(fdl_tensor *x, fdl_shape shape);
/* torch.broadcast_tensors: all of them expanded to their common shape. */
FDL_API fdl_list fdl_broadcast_tensors(fdl_list list);
/* Tensor.repeat: [2, 3] by (2, 2) -> [4, 6]; at least one count a dim. torch.tile: missing counts are 1. */
FDL_API fdl_tensor *fdl_repeat(fdl_tensor *x, fdl_shape counts);
FDL_API fdl_tensor *fdl_tile(fdl_tensor *x, fdl_shape counts);
/* torch.repeat_interleave: each slice along dim n times in a row, so that the extent is n times as large. */
FDL_API fdl_tensor *fdl_repeat_interleave(fdl_tensor *x, int64_t n, int dim);
/* The same with counts int64 [extent of dim], one a slice; waits for the device. */
FDL_API fdl_tensor *fdl_repeat_interleave_each(fdl_tensor *x, fdl_tensor *counts, int dim);

/* ---- moving elements -------------------------------------------------------------------------------- */

/* torch.flip: the shape of x, the order along each of the dims reversed. */
FDL_API fdl_tensor *fdl_flip(fdl_tensor *x, fdl_shape dims);
/* torch.roll: [1, 2, 3, 4] by -1 is [2, 3, 4, 1]. */
FDL_API fdl_tensor *fdl_roll(fdl_tensor *x, int64_t shift, int dim);
/* torch.rot90: k quarter turns from dim d0 toward d1, whose extents change places for an odd k. */
FDL_API fdl_tensor *fdl_rot90(fdl_tensor *x, int64_t k, int d0, int d1);

typedef struct fdl_diagonal_opts {
    fdl_by_name opts_;
    int64_t offset; /* above the main diagonal, or below it when negative */
} fdl_diagonal_opts;
/* torch.diagonal of dims d0 and d1, appended as the last dim; a view. torch.diag_embed is its inverse. */
FDL_API fdl_tensor *fdl_diagonal_opt(fdl_tensor *x, int d0, int d1, const fdl_diagonal_opts *opts);
FDL_API fdl_tensor *fdl_diag_embed_opt(fdl_tensor *x, int d0, int d1, const fdl_diagonal_opts *opts);
/* torch.diag: [n] -> [n, n] with x on the diagonal; [m, n] -> its diagonal. */
FDL_API fdl_tensor *fdl_diag(fdl_tensor *x);
FDL_API fdl_tensor *fdl_diag_opt(fdl_tensor *x, const fdl_diagonal_opts *opts);

/* torch.diagflat: the elements of x on the diagonal of a matrix. torch.block_diag: matrices [m, n] on the diagonal of one. */
FDL_API fdl_tensor *fdl_diagflat_opt(fdl_tensor *x, const fdl_diagonal_opts *opts);
FDL_API fdl_tensor *fdl_block_diag(fdl_list list);
/* torch.trace: [m, n] -> [], the sum of the diagonal. */
FDL_API fdl_tensor *fdl_trace(fdl_tensor *x);

typedef enum fdl_pad_mode {
    FDL_PAD_CONSTANT = 0,
    FDL_PAD_REFLECT,
    FDL_PAD_REPLICATE,
    FDL_PAD_CIRCULAR
} fdl_pad_mode;
typedef struct fdl_pad_opts {
    fdl_by_name opts_;
    fdl_pad_mode mode;
    double value; /* of the constant mode, default 0 */
} fdl_pad_opts;
/* F.pad: pads from the last dim inward, FDL_DIMS(left, right, top, bottom, ...); negative ones crop (constant mode).
 * Reflect needs pads below the extent. */
FDL_API fdl_tensor *fdl_pad_opt(fdl_tensor *x, fdl_shape pads, const fdl_pad_opts *opts);

/* ---- joining and splitting -------------------------------------------------------------------------- */

/* torch.cat along dim, torch.stack along a new dim. An empty list: FDL_E_ARG; shapes that differ elsewhere: FDL_E_SHAPE
 * with the index of the odd one. */
FDL_API fdl_tensor *fdl_cat(fdl_list list, int dim);
FDL_API fdl_tensor *fdl_stack(fdl_list list, int dim);
FDL_API fdl_tensor *fdl_hstack(fdl_list list);
FDL_API fdl_tensor *fdl_vstack(fdl_list list);
/* torch.dstack: [m, n] as [m, n, 1], joined along dim 2. torch.column_stack: [n] as [n, 1], joined along dim 1. */
FDL_API fdl_tensor *fdl_dstack(fdl_list list);
FDL_API fdl_tensor *fdl_column_stack(fdl_list list);
/* torch.chunk: at most n views of equal size, the last may be shorter. n < 1: FDL_E_ARG. */
FDL_API fdl_list fdl_chunk(fdl_tensor *x, int64_t n, int dim);
/* torch.split: views of size elements along dim, the last may be shorter; or of sizes that sum to the extent. */
FDL_API fdl_list fdl_split(fdl_tensor *x, int64_t size, int dim);
FDL_API fdl_list fdl_split_sizes(fdl_tensor *x, fdl_ints sizes, int dim);
/* torch.unbind: a view for each index of dim, without dim. */
FDL_API fdl_list fdl_unbind(fdl_tensor *x, int dim);
/* torch.tensor_split: n pieces, the first ones longer by 1 where the extent doesn't divide (dim 0 and 1: numpy's vsplit and
 * hsplit), 2^24 at most (FDL_E_ARG); tensor_split_at: cut before each of these places. Views. */
FDL_API fdl_list fdl_tensor_split(fdl_tensor *x, int64_t n, int dim);
FDL_API fdl_list fdl_tensor_split_at(fdl_tensor *x, fdl_ints places, int dim);
/* torch.dsplit: [m, k, d] -> n times [m, k, d / n], equal pieces along dim 2 (torch.hsplit, torch.vsplit: fdl_chunk along 1 and 0). */
FDL_API fdl_list fdl_dsplit(fdl_tensor *x, int64_t n);

typedef enum fdl_indexing { FDL_IJ = 0, FDL_XY } fdl_indexing;
typedef struct fdl_meshgrid_opts {
    fdl_by_name opts_;
    fdl_indexing indexing; /* default "ij": the first tensor varies along dim 0 */
} fdl_meshgrid_opts;
/* torch.meshgrid: [n], [m], ... -> each [n, m, ...]. */
FDL_API fdl_list fdl_meshgrid_opt(fdl_list list, const fdl_meshgrid_opts *opts);
/* torch.cartesian_prod: [n], [m], ... -> [n m ..., count of them]. torch.combinations: [n] -> [n over r, r]. */
FDL_API fdl_tensor *fdl_cartesian_prod(fdl_list list);
typedef struct fdl_combinations_opts {
    fdl_by_name opts_;
    bool with_replacement;
} fdl_combinations_opts;
FDL_API fdl_tensor *fdl_combinations_opt(fdl_tensor *x, int64_t r, const fdl_combinations_opts *opts);
/* torch.tril_indices, torch.triu_indices -> int64 [2, count], on the default device. */
FDL_API fdl_tensor *fdl_tril_indices(int64_t rows, int64_t cols, int64_t offset);
FDL_API fdl_tensor *fdl_triu_indices(int64_t rows, int64_t cols, int64_t offset);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_diagonal(x, d0, ...) fdl_diagonal_(x, d0, __VA_ARGS__, .opts_ = 0)
#define fdl_diagonal_(x, d0, d1, ...) fdl_diagonal_opt(x, d0, d1, &(fdl_diagonal_opts){__VA_ARGS__})
#define fdl_diag_embed(x, d0, ...) fdl_diag_embed_(x, d0, __VA_ARGS__, .opts_ = 0)
#define fdl_diag_embed_(x, d0, d1, ...) fdl_diag_embed_opt(x, d0, d1, &(fdl_diagonal_opts){__VA_ARGS__})
#define fdl_diag(...) fdl_diag_(__VA_ARGS__, .opts_ = 0)
#define fdl_diag_(x, ...) fdl_diag_opt(x, &(fdl_diagonal_opts){__VA_ARGS__})
#define fdl_pad(x, ...) fdl_pad_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_pad_(x, pads, ...) fdl_pad_opt(x, pads, &(fdl_pad_opts){__VA_ARGS__})
#define fdl_meshgrid(...) fdl_meshgrid_(__VA_ARGS__, .opts_ = 0)
#define fdl_meshgrid_(list, ...) fdl_meshgrid_opt(list, &(fdl_meshgrid_opts){__VA_ARGS__})
#define fdl_diagflat(...) fdl_diagflat_(__VA_ARGS__, .opts_ = 0)
#define fdl_diagflat_(x, ...) fdl_diagflat_opt(x, &(fdl_diagonal_opts){__VA_ARGS__})
#define fdl_combinations(x, ...) fdl_combinations_(x, __VA_ARGS__, .opts_ = 0)
#define fdl_combinations_(x, r, ...) fdl_combinations_opt(x, r, &(fdl_combinations_opts){__VA_ARGS__})
#endif

#endif
