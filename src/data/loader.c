/* Loaders: building, epochs, batches. An epoch is one order of samples; its batches come from data that is on the device
 * (resident.c) or from threads that fetch them (stream.c). */
#include "data_private.h"

#include "flodl/cuda.h"
#include "flodl/index.h"
#include "flodl/message.h"

/* ---- building -------------------------------------------------------------------------------------- */

static int count(const char *const *names)
{
    int n = 0;
    for (; names && names[n]; n++)
        ;
    return n;
}

/* Copies the names: the caller's, else the dataset's, else the positions' numbers. */
static fdl_status take_names(fdl_loader *dl, const char *const *names)
{
    char numbers[FDL_DATA_MAX][12];
    const char *from[FDL_DATA_MAX];
    int given = count(names);
    if (dl->collate && names && (given < 1 || given > FDL_DATA_MAX))
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: %d names; a batch has 1 to %d positions", given,
                        FDL_DATA_MAX);
    if (dl->collate && names)
        dl->arity = given;
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

static fdl_status check_options(const fdl_loader_opts *o)
{
    static const char *const function = "fdl_data_loader";
    if (o->mode < FDL_DATA_AUTO || o->mode > FDL_DATA_STREAM)
        return fdl_fail(FDL_E_ARG, "%s: .mode is %d, which is no mode", function, (int)o->mode);
    if (o->prefetch < FDL_PREFETCH_NONE)
        return fdl_fail(FDL_E_ARG, "%s: .prefetch is %lld; it is a number of batches, or FDL_PREFETCH_NONE",
                        function, (long long)o->prefetch);
    if (o->workers < 0 || o->workers > MOST_WORKERS)
        return fdl_fail(FDL_E_ARG, "%s: .workers is %d; it must be 1 to %d", function, o->workers,
                        MOST_WORKERS);
    if (!(o->timeout >= 0 && o->timeout < 1e9))
        return fdl_fail(FDL_E_ARG, "%s: .timeout is %g; it is in seconds, more than 0", function, o->timeout);
    if (o->collate && o->mode == FDL_DATA_RESIDENT)
        return fdl_fail(
            FDL_E_ARG,
            "%s: .collate makes batches one by one, which is streaming; FDL_DATA_RESIDENT gathers "
            "them from samples of one shape",
            function);
    return FDL_OK;
}

/* The order of one epoch on the host. */
static fdl_status make_order(fdl_loader *dl)
{
    int64_t n = dl->sampler->len;
    if ((uint64_t)n <= SIZE_MAX / sizeof *dl->order)
        dl->order = malloc(n ? (size_t)n * sizeof *dl->order : 1);
    if (!dl->order)
        return fdl_fail(FDL_E_OOM, "fdl_data_loader: no memory for %lld indices", (long long)n);
    return FDL_OK;
}

/* What one sample takes, from sample 0; whether fetching it drew random numbers. */
static fdl_status probe(fdl_loader *dl, bool *drew)
{
    fdl_tensor *const *rows = dl->collate ? NULL : fdl_data_rows_of(dl->ds);
    FDL_SCOPE;
    fdl_tensor *first[FDL_DATA_MAX];
    struct call call = {.seed = dl->seed, .sample = -1};
    fdl_status status = FDL_OK;
    if (!rows) {
        struct call_before before = fdl_data_call_begin(&call);
        int64_t zero = 0;
        status = dl->collate ? fdl_data_fetch_collated(dl->ds, &zero, 1, dl->collate, dl->collate_ctx, first,
                                                       dl->arity, NULL)
                             : fdl_data_fetch_raw(dl->ds, &zero, 1, first, NULL);
        fdl_data_call_end(before);
    }
    for (int p = 0; p < dl->arity && status == FDL_OK; p++)
        dl->sample_bytes += rows ? fdl_nbytes(rows[p]) / dl->ds->len : fdl_nbytes(first[p]);
    *drew = call.drew;
    return status;
}

/* The data, and for the CPU a tensor over the same memory as the order. */
static fdl_status make_resident(fdl_loader *dl)
{
    dl->views = dl->views && fdl_data_is_sequential(dl->sampler) && dl->sampler->len <= dl->ds->len;
    memcpy(dl->by, dl->ds->by, sizeof dl->by);
    FDL_TRY(fdl_data_load(dl));
    if (dl->views || on_cuda(dl))
        return FDL_OK;
    FDL_SCOPE;
    dl->index = fdl_keep(fdl_from_blob(dl->order, FDL_SHAPE(dl->sampler->len), .dtype = FDL_INT64));
    return dl->index ? FDL_OK : fdl_error_pending();
}

static fdl_status make_streaming(fdl_loader *dl, const fdl_loader_opts *o)
{
    if (on_cuda(dl) && !dl->collate)
        memcpy(dl->by, dl->ds->by, sizeof dl->by); /* bytes go over; elsewhere workers divide */
    else
        memset(dl->by, 0, sizeof dl->by);
    dl->mode = FDL_DATA_STREAM;
    return fdl_data_pipe_new(dl, o);
}

/* Resident or streaming; and streaming when the one was chosen, and memory ran out on the way. */
static fdl_status bring_in(fdl_loader *dl, const fdl_loader_opts *o)
{
    bool drew;
    FDL_TRY(probe(dl, &drew));
    dl->mode = o->mode != FDL_DATA_AUTO ? o->mode : fdl_data_choose(dl, drew);
    if (dl->mode == FDL_DATA_STREAM)
        return make_streaming(dl, o);
    fdl_status status = make_resident(dl);
    if (status != FDL_E_OOM || o->mode == FDL_DATA_RESIDENT)
        return status;
    fdl_msg_verbose("fdl_data_loader: streams, since there was no memory for all of the data: %s",
                    fdl_last_error()->message);
    fdl_clear_error();
    fdl_data_unload(dl);
    if (on_cuda(dl))
        fdl_cuda_empty_cache();
    dl->fallbacks++;
    return make_streaming(dl, o);
}

static fdl_status build(fdl_loader *dl, int64_t batch_size, const fdl_loader_opts *o)
{
    if (dl->ds->len < 1)
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: the dataset is empty");
    if (batch_size < 1)
        return fdl_fail(FDL_E_ARG, "fdl_data_loader: batch_size is %lld; it must be 1 or more",
                        (long long)batch_size);
    FDL_TRY(check_options(o));
    if (!dl->sampler)
        dl->sampler = o->in_order ? fdl_data_sampler_sequential(dl->ds->len)
                                  : fdl_data_sampler_random(dl->ds->len, dl->seed);
    if (!dl->sampler)
        return fdl_error_pending();
    int64_t n = dl->sampler->len;
    dl->batch_size = batch_size;
    dl->batches = n / batch_size + (o->keep_last && n % batch_size ? 1 : 0);
    dl->views = !o->writable;
    dl->device = o->device.type == FDL_DEVICE_TYPE_DEFAULT ? fdl_default_device() : o->device;
    if (!dl->batches)
        fdl_msg_verbose("fdl_data_loader: no batches: %lld samples are fewer than one batch of %lld, and "
                        "short batches are "
                        "left out (.keep_last = true delivers them)",
                        (long long)n, (long long)batch_size);
    FDL_TRY(take_names(dl, o->names));
    FDL_TRY(check_device(dl->device));
    FDL_TRY(make_order(dl));
    fdl_status status = bring_in(dl, o);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_data_loader: ");
    return status;
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
    dl->seed = (uint64_t)fdl_opt_int(o->seed, 42);
    dl->vram_use = fdl_opt_double(o->vram_use, 0.90);
    dl->collate = o->collate;
    dl->collate_ctx = o->ctx;
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
    fdl_data_pipe_free(dl->pipe);
    fdl_data_unload(dl);
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

fdl_data_mode fdl_data_loader_mode(const fdl_loader *dl)
{
    return there(dl, "fdl_data_loader_mode") ? dl->mode : FDL_DATA_AUTO;
}

int64_t fdl_data_loader_depth(const fdl_loader *dl)
{
    if (!there(dl, "fdl_data_loader_depth"))
        return -1;
    return dl->pipe ? fdl_data_pipe_depth(dl->pipe) : 0;
}

fdl_status fdl_data_loader_stats(const fdl_loader *dl, fdl_data_stats *stats)
{
    if (!dl || !stats)
        return fdl_null_operand("fdl_data_loader_stats", dl ? "stats" : "dl");
    *stats = (fdl_data_stats){.batches = dl->batches_in_all, .fallbacks = dl->fallbacks};
    if (dl->pipe)
        fdl_data_pipe_stats(dl->pipe, stats);
    return FDL_OK;
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

/* Nothing more of the epoch that is open comes. */
static void end_epoch(fdl_loader *dl)
{
    if (dl->open)
        dl->open->loader = NULL;
    dl->open = NULL;
    if (dl->pipe)
        fdl_data_pipe_cancel(dl->pipe);
}

/* The epoch's order, on the host, and what follows for batches from `skip` on. */
static fdl_status begin(fdl_loader *dl, int64_t epoch, int64_t skip)
{
    int64_t n = dl->sampler->len;
    FDL_TRY(fdl_data_sampler_order(dl->sampler, epoch, dl->order));
    FDL_TRY(fdl_data_check_indices("the sampler", dl->order, n, dl->ds->len));
    if (dl->pipe)
        return fdl_data_pipe_begin(dl->pipe, epoch, skip);
    if (dl->views || !on_cuda(dl))
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
    end_epoch(dl);
    fdl_iter *it = NULL;
    if (skip < 0 || skip > dl->batches)
        dl->status = fdl_fail(FDL_E_ARG, "fdl_data_epoch: .skip is %lld; the epoch has %lld batches",
                              (long long)skip, (long long)dl->batches);
    else if (!(it = malloc(sizeof *it)))
        dl->status = fdl_fail(FDL_E_OOM, "fdl_data_epoch: no memory");
    else
        dl->status = begin(dl, epoch, skip);
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
    dl->status = !b         ? FDL_E_OOM
                 : dl->pipe ? fdl_data_pipe_next(dl->pipe, it->next, b)
                            : fdl_data_gather(dl, b, from);
    if (dl->status != FDL_OK) {
        fdl_error_prefix("epoch %lld, batch %lld: ", (long long)dl->epoch, (long long)it->next);
        it->next = dl->batches; /* the epoch is over */
        if (dl->pipe)
            fdl_data_pipe_cancel(dl->pipe);
        return NULL;
    }
    dl->delivered = ++it->next;
    dl->batches_in_all++;
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
        end_epoch(it->loader);
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
