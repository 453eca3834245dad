/* Loaders: building, epochs, batches. An epoch is one order of all samples, on the device; a batch is one
 * gather for each position, or in order a view. */
#include "data_private.h"

#include "flodl/index.h"
#include "flodl/message.h"

/* ---- building -------------------------------------------------------------------------------------- */

/* Copies the names: the caller's, else the dataset's, else the positions' numbers. */
static fdl_status take_names(fdl_loader *dl, const char *const *names)
{
    char numbers[FDL_DATA_MAX][12];
    const char *from[FDL_DATA_MAX];
    int given = 0;
    for (; names && names[given]; given++)
        ;
    if (names && given != dl->arity)
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: %d names for samples of %d tensors", given, dl->arity);
    size_t size = 0;
    for (int i = 0; i < dl->arity; i++) {
        snprintf(numbers[i], sizeof numbers[i], "%d", i);
        from[i] = names ? names[i] : dl->ds->v.names ? dl->ds->v.names[i] : numbers[i];
        if (!from[i] || !*from[i])
            return fdl_fail(FDL_E_ARG, "fdl_data_loader: the name of position %d is empty", i);
        for (int j = 0; j < i; j++)
            if (strcmp(from[i], from[j]) == 0)
                return fdl_fail(FDL_E_ARG, "fdl_data_loader: positions %d and %d are both named \"%s\"", j, i,
                                from[i]);
        size += strlen(from[i]) + 1;
    }
    char *text = dl->name_text = malloc(size);
    if (!text)
        return fdl_fail(FDL_E_OOM, "fdl_data_loader: no memory");
    for (int i = 0; i < dl->arity; i++) {
        size_t n = strlen(from[i]) + 1;
        dl->names[i] = memcpy(text, from[i], n);
        text += n;
    }
    return FDL_OK;
}

static fdl_status check_device(fdl_device d)
{
    FDL_SCOPE;
    char name[FDL_DEVICE_NAME_SIZE];
    if (fdl_empty(FDL_SHAPE(1), .device = d))
        return FDL_OK;
    fdl_error_prefix("fdl_data_loader: .device %s can't be used: ", fdl_device_name(d, name));
    return fdl_error_pending();
}

/* The order of one epoch on the host, and for the CPU a tensor over the same memory. */
static fdl_status make_order(fdl_loader *dl)
{
    int64_t n = dl->sampler->len;
    if ((uint64_t)n <= SIZE_MAX / sizeof *dl->order)
        dl->order = malloc(n ? (size_t)n * sizeof *dl->order : 1);
    if (!dl->order)
        return fdl_fail(FDL_E_OOM, "fdl_data_loader: no memory for %lld indices", (long long)n);
    if (dl->views || dl->device.type != FDL_DEVICE_TYPE_CPU)
        return FDL_OK;
    FDL_SCOPE;
    dl->index = fdl_keep(fdl_from_blob(dl->order, FDL_SHAPE(n), .dtype = FDL_INT64));
    return dl->index ? FDL_OK : fdl_error_pending();
}

static fdl_status build(fdl_loader *dl, int64_t batch_size, const fdl_loader_opts *o)
{
    if (dl->ds->len < 1)
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: the dataset is empty");
    if (batch_size < 1)
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: batch_size is %lld; it must be 1 or more",
                        (long long)batch_size);
    if (!dl->sampler)
        dl->sampler = o->in_order ? fdl_data_sampler_sequential(dl->ds->len)
                                  : fdl_data_sampler_random(dl->ds->len, (uint64_t)fdl_opt_int(o->seed, 42));
    if (!dl->sampler)
        return fdl_error_pending();
    int64_t n = dl->sampler->len;
    dl->batch_size = batch_size;
    dl->batches = n / batch_size + (o->keep_last && n % batch_size ? 1 : 0);
    dl->views = fdl_data_is_sequential(dl->sampler) && n <= dl->ds->len && !o->writable;
    dl->device = o->device.type == FDL_DEVICE_TYPE_DEFAULT ? fdl_default_device() : o->device;
    if (!dl->batches)
        fdl_msg_verbose("fdl_data_loader: no batches: %lld samples are fewer than one batch of %lld, and "
                        "short batches are "
                        "left out (.keep_last = true delivers them)",
                        (long long)n, (long long)batch_size);
    FDL_TRY(take_names(dl, o->names));
    FDL_TRY(check_device(dl->device));
    FDL_TRY(make_order(dl));
    return fdl_data_load(dl, fdl_opt_double(o->vram_use, 0.90));
}

fdl_loader *fdl_data_loader_opt(fdl_dataset *ds, int64_t batch_size, const fdl_loader_opts *opts)
{
    static const fdl_loader_opts none = {0};
    const fdl_loader_opts *o = opts ? opts : &none;
    fdl_loader *dl = ds ? calloc(1, sizeof *dl) : NULL;
    if (!dl) {
        if (ds)
            fdl_fail(FDL_E_OOM, "fdl_data_loader: no memory");
        else
            fdl_null_operand("fdl_data_loader", "ds");
        fdl_data_free(ds);
        fdl_data_sampler_free(o->sampler);
        return NULL;
    }
    dl->ds = ds;
    dl->sampler = o->sampler;
    dl->arity = ds->v.arity;
    dl->epoch = -1;
    if (build(dl, batch_size, o) == FDL_OK)
        return dl;
    fdl_data_loader_free(dl);
    return NULL;
}

fdl_loader *fdl_data_eval_loader_opt(fdl_dataset *ds, int64_t batch_size, const fdl_loader_opts *opts)
{
    fdl_loader_opts o = opts ? *opts : (fdl_loader_opts){0};
    if (o.sampler) {
        fdl_fail(FDL_E_ARG,
                 "fdl_data_eval_loader: .sampler: evaluation goes in order; fdl_data_loader takes a sampler");
        fdl_data_sampler_free(o.sampler);
        fdl_data_free(ds);
        return NULL;
    }
    o.in_order = o.keep_last = true;
    return fdl_data_loader_opt(ds, batch_size, &o);
}

void fdl_data_loader_free(fdl_loader *dl)
{
    if (!dl)
        return;
    if (dl->open)
        dl->open->loader = NULL;
    for (int p = 0; p < dl->arity; p++)
        fdl_free(dl->data[p]);
    fdl_free(dl->index);
    free(dl->order);
    free(dl->name_text);
    fdl_data_sampler_free(dl->sampler);
    fdl_data_free(dl->ds);
    free(dl);
}

/* ---- asking ------------------------------------------------------------------------------------------ */

fdl_status fdl_data_status(const fdl_loader *dl)
{
    return dl ? dl->status : fdl_null_operand("fdl_data_status", "dl");
}

static bool there(const fdl_loader *dl, const char *function)
{
    if (!dl)
        fdl_null_operand(function, "dl");
    return dl != NULL;
}

int64_t fdl_data_loader_len(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_len") ? dl->sampler->len : -1;
}

int64_t fdl_data_loader_batches(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_batches") ? dl->batches : -1;
}

int64_t fdl_data_loader_batch_size(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_batch_size") ? dl->batch_size : -1;
}

fdl_device fdl_data_loader_device(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_device") ? dl->device : (fdl_device){0, 0};
}

int fdl_data_loader_arity(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_arity") ? dl->arity : -1;
}

int64_t fdl_data_loader_sample_bytes(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_sample_bytes") ? dl->sample_bytes : -1;
}

const char *fdl_data_loader_name(const fdl_loader *dl, int i)
{
    if (!there(dl, "fdl_data_loader_name"))
        return NULL;
    if (i < 0 || i >= dl->arity)
        return fdl_fail_null(FDL_E_RANGE, "fdl_data_loader_name: position %d; there are %d, counted from 0",
                             i, dl->arity);
    return dl->names[i];
}

fdl_status fdl_data_position(const fdl_loader *dl, int64_t *epoch, int64_t *batches)
{
    if (!dl || !epoch || !batches)
        return fdl_null_operand("fdl_data_position", !dl ? "dl" : !epoch ? "epoch" : "batches");
    *epoch = dl->epoch;
    *batches = dl->delivered;
    return FDL_OK;
}

/* ---- an epoch ------------------------------------------------------------------------------------------ */

/* This epoch's order, on the host and on the device. */
static fdl_status begin(fdl_loader *dl, int64_t epoch)
{
    int64_t n = dl->sampler->len;
    FDL_TRY(fdl_data_sampler_order(dl->sampler, epoch, dl->order));
    FDL_TRY(fdl_data_check_indices("the sampler", dl->order, n, dl->ds->len));
    if (dl->views || dl->device.type == FDL_DEVICE_TYPE_CPU)
        return FDL_OK;
    FDL_SCOPE;
    fdl_free(dl->index);
    dl->index = fdl_keep(fdl_from_i64(dl->order, FDL_SHAPE(n), .device = dl->device));
    return dl->index ? FDL_OK : fdl_error_pending();
}

fdl_iter *fdl_data_epoch_opt(fdl_loader *dl, int64_t epoch, const fdl_epoch_opts *opts)
{
    if (!there(dl, "fdl_data_epoch"))
        return NULL;
    int64_t skip = opts ? opts->skip : 0;
    if (dl->open)
        dl->open->loader = NULL;
    dl->open = NULL;
    fdl_iter *it = NULL;
    if (skip < 0 || skip > dl->batches)
        dl->status = fdl_fail(FDL_E_ARG, "fdl_data_epoch: .skip is %lld; the epoch has %lld batches",
                              (long long)skip, (long long)dl->batches);
    else if (!(it = malloc(sizeof *it)))
        dl->status = fdl_fail(FDL_E_OOM, "fdl_data_epoch: no memory");
    else
        dl->status = begin(dl, epoch);
    if (dl->status != FDL_OK) {
        fdl_error_prefix("epoch %lld: ", (long long)epoch);
        free(it);
        return NULL;
    }
    *it = (fdl_iter){dl, skip};
    dl->open = it;
    dl->epoch = epoch;
    dl->delivered = skip;
    return it;
}

/* Position p of the batch that begins at `from`; index [rows] picks the samples, NULL: they stand in order.
 */
static fdl_tensor *gather(const fdl_loader *dl, int p, fdl_tensor *index, int64_t from, int64_t rows)
{
    fdl_tensor *x = index ? fdl_index_select(dl->data[p], 0, index) : fdl_narrow(dl->data[p], 0, from, rows);
    return fdl_data_divided(x, dl->ds->by[p]);
}

static fdl_status fill(const fdl_loader *dl, fdl_batch *b, int64_t from)
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

fdl_batch *fdl_data_next(fdl_iter *it)
{
    if (!it) {
        fdl_null_operand("fdl_data_next", "it");
        return NULL;
    }
    fdl_loader *dl = it->loader;
    if (!dl || it->next >= dl->batches)
        return NULL;
    fdl_batch *b = fdl_scope_alloc(sizeof *b);
    int64_t from = it->next * dl->batch_size, left = dl->sampler->len - from;
    if (b) {
        b->loader = dl;
        b->rows = left < dl->batch_size ? left : dl->batch_size;
        b->indices = dl->order + from;
    }
    dl->status = b ? fill(dl, b, from) : FDL_E_OOM;
    if (dl->status != FDL_OK) {
        fdl_error_prefix("epoch %lld, batch %lld: ", (long long)dl->epoch, (long long)it->next);
        it->next = dl->batches; /* the epoch is over */
        return NULL;
    }
    dl->delivered = ++it->next;
    return b;
}

int64_t fdl_data_left(const fdl_iter *it)
{
    if (!it)
        fdl_null_operand("fdl_data_left", "it");
    return !it ? -1 : it->loader ? it->loader->batches - it->next : 0;
}

void fdl_data_epoch_end(fdl_iter *it)
{
    if (it && it->loader)
        it->loader->open = NULL;
    free(it);
}

/* ---- FDL_BATCHES --------------------------------------------------------------------------------------- */

fdl_data_cursor fdl_data_cursor_open_(fdl_loader *dl, int64_t epoch)
{
    return (fdl_data_cursor){.it = fdl_data_epoch_opt(dl, epoch, NULL)};
}

bool fdl_data_cursor_next_(fdl_data_cursor *c, fdl_scope *outer)
{
    fdl_scope_close(c->scope);
    c->scope = NULL;
    if (!c->it || c->left || !(c->scope = fdl_scope_open_in_(outer)))
        return false;
    c->batch = fdl_data_next(c->it);
    c->fresh = c->batch != NULL;
    return c->fresh;
}

void fdl_data_cursor_close_(fdl_data_cursor *c)
{
    fdl_scope_close(c->scope);
    fdl_data_epoch_end(c->it);
}
