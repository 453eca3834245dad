/* Batches on their way to a GPU: fetched into page-locked memory that is used again and again, copied from there without
 * anybody waiting. */
#include "data_private.h"

#include "flodl/cuda_graph.h"
#include "flodl/index.h"
#include "flodl/shape.h"

/* ---- blocks -------------------------------------------------------------------------------------------- */

/* Elements that a position's block is to have: those of a full batch, where all batches have samples of one shape. */
static int64_t capacity(const fdl_loader *dl, fdl_shape shape)
{
    int64_t numel = fdl_shape_numel(shape);
    if (dl->collate || shape.d[0] >= dl->batch_size || shape.d[0] == 0)
        return numel;
    return numel / shape.d[0] * dl->batch_size;
}

/* Kept: a new block, if the one that is there is too small or of another dtype. */
static fdl_status enlarge(struct staging *s, fdl_tensor **block, fdl_shape shape, fdl_dtype dtype)
{
    if (*block && fdl_dtype_of(*block) == dtype && fdl_numel(*block) >= fdl_shape_numel(shape))
        return FDL_OK;
    FDL_SCOPE;
    if (*block)
        atomic_fetch_sub(&s->bytes, fdl_nbytes(*block));
    fdl_cuda_gate_enter();
    fdl_free(*block);
    *block = fdl_keep(fdl_empty(FDL_SHAPE(capacity(s->loader, shape)), .dtype = dtype, .device = FDL_CPU,
                                .pin_memory = true));
    fdl_cuda_gate_leave();
    if (!*block)
        return fdl_error_pending();
    atomic_fetch_add(&s->bytes, fdl_nbytes(*block));
    return FDL_OK;
}

static fdl_tensor *place(struct landing *l, int p, fdl_shape shape, fdl_dtype dtype)
{
    struct staging *s = (struct staging *)l;
    fdl_tensor **block = &s->block[s->turn].at[p];
    int64_t numel = fdl_shape_numel(shape);
    if (!numel)
        return fdl_empty(shape, .dtype = dtype, .device = FDL_CPU);
    if (enlarge(s, block, shape, dtype) != FDL_OK)
        return NULL;
    fdl_tensor *part = fdl_narrow(*block, 0, 0, numel), *view = fdl_view(part, shape);
    fdl_drop(part);
    return view;
}

void fdl_data_staging_init(struct staging *s, const fdl_loader *dl)
{
    *s = (struct staging){.landing = {place}, .loader = dl};
}

void fdl_data_staging_free(struct staging *s)
{
    for (int i = 0; i < 2; i++) {
        for (int p = 0; p < FDL_DATA_MAX; p++)
            fdl_free(s->block[i].at[p]); /* whose copy, if one is going on, libtorch waits for */
        fdl_cuda_event_free(s->block[i].copied);
    }
}

/* The other block's turn, when what was in it has been copied. */
static fdl_status next_block(struct staging *s)
{
    struct block *b = &s->block[s->turn = !s->turn];
    if (!b->busy)
        return FDL_OK;
    fdl_cuda_gate_enter();
    fdl_status status = fdl_cuda_event_synchronize(b->copied);
    fdl_cuda_gate_leave();
    b->busy = false;
    return status;
}

/* ---- a batch ------------------------------------------------------------------------------------------- */

fdl_status fdl_data_stage(struct staging *s, const int64_t *idx, int64_t k, fdl_tensor **out)
{
    const fdl_loader *dl = s->loader;
    struct landing *landing = NULL;
    if (on_cuda(dl)) {
        FDL_TRY(next_block(s));
        landing = &s->landing;
    }
    if (dl->collate)
        return fdl_data_fetch_collated(dl->ds, idx, k, dl->collate, dl->collate_ctx, out, dl->arity, landing);
    return landing ? fdl_data_fetch_raw(dl->ds, idx, k, out, landing) : fdl_data_fetch(dl->ds, idx, k, out);
}

static fdl_status mark(struct block *b, fdl_stream *stream)
{
    if (!b->copied && !(b->copied = fdl_cuda_event_new()))
        return fdl_error_pending();
    b->busy = true;
    return fdl_cuda_event_record_on(b->copied, stream);
}

fdl_status fdl_data_send(struct staging *s, fdl_stream *stream, fdl_tensor **x)
{
    FDL_NO_GRAD;
    fdl_status status = FDL_OK;
    fdl_tensor *sent[FDL_DATA_MAX];
    int n = 0;
    for (; n < s->loader->arity && status == FDL_OK; n++)
        if (!(sent[n] = fdl_to_device(x[n], s->loader->device, .non_blocking = true)))
            status = fdl_error_pending();
    /* Also after a failure: some of the block may be on its way. */
    fdl_status marked = mark(&s->block[s->turn], stream);
    status = status != FDL_OK ? status : marked;
    for (int p = 0; p < n; p++) {
        if (status == FDL_OK)
            x[p] = sent[p];
        else
            fdl_drop(sent[p]);
    }
    return status;
}
