/* Data that is on its device as a whole: bringing it there in pieces, so that the host never holds a second copy of it, and
 * a batch as a gather, or in order a view. */
#include "data_private.h"

#include "flodl/inplace.h"
#include "flodl/index.h"

enum { PIECE = 256 << 20 }; /* bytes fetched at once */

/* ---- loading ------------------------------------------------------------------------------------------- */

/* Kept: each position's room for all samples, after sample 0 has shown what they are like. */
static fdl_status make_room(fdl_loader *dl)
{
    FDL_SCOPE;
    fdl_tensor *first[FDL_DATA_MAX];
    FDL_TRY(fdl_data_fetch_raw(dl->ds, &(int64_t){0}, 1, first, NULL));
    for (int p = 0; p < dl->arity; p++) {
        fdl_shape shape = fdl_shape_of(first[p]);
        shape.d[0] = dl->ds->len;
        dl->data[p] = fdl_keep(fdl_empty(shape, .dtype = fdl_dtype_of(first[p]), .device = dl->device));
        if (!dl->data[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status load_piece(fdl_loader *dl, const int64_t *idx, int64_t from, int64_t k)
{
    FDL_SCOPE;
    fdl_tensor *rows[FDL_DATA_MAX];
    FDL_TRY(fdl_data_fetch_raw(dl->ds, idx, k, rows, NULL));
    for (int p = 0; p < dl->arity; p++)
        FDL_TRY(fdl_copy_(fdl_narrow(dl->data[p], 0, from, k), rows[p]));
    return FDL_OK;
}

static fdl_status load_all(fdl_loader *dl)
{
    int64_t n = dl->ds->len;
    FDL_TRY(make_room(dl));
    int64_t piece = dl->sample_bytes ? PIECE / dl->sample_bytes : n;
    piece = piece < 1 ? 1 : piece > n ? n : piece;
    int64_t *idx = malloc((size_t)piece * sizeof *idx);
    if (!idx)
        return fdl_fail(FDL_E_OOM, "no memory");
    fdl_status status = FDL_OK;
    for (int64_t from = 0; from < n && status == FDL_OK; from += piece) {
        int64_t k = n - from < piece ? n - from : piece;
        for (int64_t j = 0; j < k; j++)
            idx[j] = from + j;
        status = load_piece(dl, idx, from, k);
    }
    free(idx);
    return status;
}

/* A dataset of tensors needs no fetching: they stay where they are, or go over as they are. */
static fdl_status take_rows(fdl_loader *dl, fdl_tensor *const *rows)
{
    FDL_SCOPE;
    for (int p = 0; p < dl->arity; p++) {
        dl->data[p] = fdl_keep(fdl_data_moved(rows[p], dl->device));
        if (!dl->data[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

fdl_status fdl_data_load(fdl_loader *dl)
{
    FDL_NO_GRAD;
    FDL_TRY(fdl_data_check_room(dl));
    fdl_tensor *const *rows = fdl_data_rows_of(dl->ds);
    if (rows)
        return take_rows(dl, rows);
    struct call call = {.seed = dl->seed, .sample = -1};
    struct call_before before = fdl_data_call_begin(&call);
    fdl_status status = load_all(dl);
    fdl_data_call_end(before);
    return status;
}

void fdl_data_unload(fdl_loader *dl)
{
    for (int p = 0; p < dl->arity; p++) {
        fdl_free(dl->data[p]);
        dl->data[p] = NULL;
    }
}

/* ---- batches ------------------------------------------------------------------------------------------- */

/* Position p of the batch that begins at `from`; index [rows] picks the samples, NULL: they stand in order.
 */
static fdl_tensor *gather(const fdl_loader *dl, int p, fdl_tensor *index, int64_t from, int64_t rows)
{
    fdl_tensor *x = index ? fdl_index_select(dl->data[p], 0, index) : fdl_narrow(dl->data[p], 0, from, rows);
    return fdl_data_divided(x, dl->by[p]);
}

fdl_status fdl_data_gather(const fdl_loader *dl, fdl_batch *b, int64_t from)
{
    FDL_NO_GRAD;
    fdl_tensor *index = NULL;
    if (!dl->views && !(index = fdl_narrow(dl->index, 0, from, b->rows)))
        return fdl_error_pending();
    fdl_status status = FDL_OK;
    for (int p = 0; p < dl->arity && status == FDL_OK; p++)
        if (!(b->at[p] = gather(dl, p, index, from, b->rows)))
            status = fdl_error_pending();
    fdl_drop(index);
    return status;
}
