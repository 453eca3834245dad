/* Datasets: their life, fetching with its checks, stacking samples into batches. */
#include "data_private.h"

#include "flodl/arithmetic.h"
#include "flodl/index.h"
#include "flodl/inplace.h"

/* ---- life ---------------------------------------------------------------------------------------- */

static fdl_status check_table(const fdl_data_vtab *v, int64_t len)
{
    if (v->arity < 1 || v->arity > FDL_DATA_MAX)
        return fdl_fail(FDL_E_ARG, "fdl_data_new: arity is %d; a sample has 1 to %d tensors", v->arity,
                        FDL_DATA_MAX);
    if (!v->item && !v->batch)
        return fdl_fail(FDL_E_ARG, "fdl_data_new: neither item nor batch is set; one of them must fetch");
    if (len < 0)
        return fdl_fail(FDL_E_ARG, "fdl_data_new: the length is %lld; it must be 0 or more", (long long)len);
    return FDL_OK;
}

fdl_dataset *fdl_data_new(const fdl_data_vtab *table, void *self)
{
    if (!table || !table->len) {
        fdl_null_operand("fdl_data_new", table ? "table->len" : "table");
        if (table && table->free)
            table->free(self);
        return NULL;
    }
    int64_t len = table->len(self);
    fdl_dataset *ds = NULL;
    if (check_table(table, len) == FDL_OK && !(ds = calloc(1, sizeof *ds)))
        fdl_fail(FDL_E_OOM, "fdl_data_new: no memory");
    if (!ds) {
        if (table->free)
            table->free(self);
        return NULL;
    }
    atomic_init(&ds->refs, 1);
    ds->v = *table;
    ds->self = self;
    ds->len = len;
    ds->single = !table->batch;
    pthread_mutex_init(&ds->form_lock, NULL);
    pthread_mutex_init(&ds->call_lock, NULL);
    return ds;
}

fdl_dataset *fdl_data_ref(fdl_dataset *ds)
{
    if (!ds)
        fdl_null_operand("fdl_data_ref", "ds");
    else
        atomic_fetch_add_explicit(&ds->refs, 1, memory_order_relaxed);
    return ds;
}

void fdl_data_free(fdl_dataset *ds)
{
    if (!ds || atomic_fetch_sub_explicit(&ds->refs, 1, memory_order_acq_rel) > 1)
        return;
    if (ds->v.free)
        ds->v.free(ds->self);
    pthread_mutex_destroy(&ds->form_lock);
    pthread_mutex_destroy(&ds->call_lock);
    free(ds);
}

int64_t fdl_data_len(const fdl_dataset *ds)
{
    if (!ds)
        fdl_null_operand("fdl_data_len", "ds");
    return ds ? ds->len : -1;
}

int fdl_data_arity(const fdl_dataset *ds)
{
    if (!ds)
        fdl_null_operand("fdl_data_arity", "ds");
    return ds ? ds->v.arity : -1;
}

/* ---- what a callback is called for -------------------------------------------------------------------- */

static _Thread_local struct call *current;

struct call_before fdl_data_call_begin(struct call *call)
{
    struct call_before before = {current, fdl_default_device()};
    current = call;
    if (before.device.type != FDL_DEVICE_TYPE_CPU)
        fdl_set_default_device(FDL_CPU);
    return before;
}

void fdl_data_call_end(struct call_before before)
{
    current = before.call;
    if (before.device.type != FDL_DEVICE_TYPE_CPU)
        fdl_set_default_device(before.device);
}

enum { STREAM_SAMPLES = 2 }; /* sample i draws from stream 2 + i; 0 and 1 are the samplers' */

fdl_status fdl_data_rng(int64_t i, fdl_rng *rng)
{
    if (!rng)
        return fdl_null_operand("fdl_data_rng", "rng");
    if (current)
        current->drew = true;
    uint64_t seed = current ? current->seed : 42, epoch = current ? (uint64_t)current->epoch : 0;
    *rng = fdl_rng_seed(fdl_rng_mix(seed, epoch, STREAM_SAMPLES + (uint64_t)i));
    return FDL_OK;
}

static void fetching(int64_t sample)
{
    if (current)
        atomic_store_explicit(&current->sample, sample, memory_order_relaxed);
}

/* ---- checks ---------------------------------------------------------------------------------------- */

fdl_status fdl_data_check_indices(const char *function, const int64_t *idx, int64_t k, int64_t len)
{
    for (int64_t j = 0; j < k; j++)
        if (idx[j] < 0 || idx[j] >= len)
            return fdl_fail(FDL_E_RANGE, "%s: index %lld at position %lld; the dataset has %lld samples",
                            function, (long long)idx[j], (long long)j, (long long)len);
    return FDL_OK;
}

/* "float32[3, 8]" */
static const char *form_text(fdl_dtype dtype, fdl_shape shape, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "%s[", fdl_dtype_name(dtype));
    for (int i = 0; i < shape.ndim && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, i ? ", %lld" : "%lld", (long long)shape.d[i]);
    if (used < n)
        snprintf(buf + used, n - used, "]");
    return buf;
}

/* Position p of a sample against what the first sample was. */
static fdl_status check_form(fdl_dataset *ds, int p, int64_t sample, fdl_dtype dtype, fdl_shape shape)
{
    if (current && current->loose)
        return FDL_OK;
    pthread_mutex_lock(&ds->form_lock);
    struct form *f = &ds->form[p];
    if (!f->known)
        *f = (struct form){true, sample, dtype, shape};
    struct form first = *f;
    pthread_mutex_unlock(&ds->form_lock);
    if (first.dtype == dtype && fdl_shape_eq(first.shape, shape))
        return FDL_OK;
    char is[256], was[256];
    return fdl_fail(FDL_E_SHAPE,
                    "collate: position %d of sample %lld is %s, position %d of sample %lld was %s", p,
                    (long long)sample, form_text(dtype, shape, is, sizeof is), p, (long long)first.sample,
                    form_text(first.dtype, first.shape, was, sizeof was));
}

/* Number of tensors and where they are. `got` has a slot beyond the largest arity. */
static fdl_status check_tensors(const fdl_dataset *ds, int64_t sample, fdl_tensor *const *got)
{
    int n = ds->v.arity, count = FDL_DATA_MAX + 1;
    while (count > n && !got[count - 1])
        count--;
    if (count > n)
        return fdl_fail(FDL_E_SHAPE, "collate: sample %lld has %d tensors, the dataset's samples have %d",
                        (long long)sample, count, n);
    for (int p = 0; p < n; p++) {
        if (!got[p])
            return fdl_fail(
                FDL_E_STATE,
                "collate: position %d of sample %lld is NULL although its callback returned FDL_OK", p,
                (long long)sample);
        fdl_device d = fdl_device_of(got[p]);
        char name[FDL_DEVICE_NAME_SIZE];
        if (d.type != FDL_DEVICE_TYPE_CPU)
            return fdl_fail(FDL_E_DEVICE,
                            "collate: position %d of sample %lld is on %s; samples are CPU tensors", p,
                            (long long)sample, fdl_device_name(d, name));
    }
    return FDL_OK;
}

/* ---- fetching ---------------------------------------------------------------------------------------- */

/* A callback's result: its status with the error noted, whoever forgot to. */
static fdl_status called(fdl_status status, int64_t sample)
{
    if (status == FDL_OK)
        return FDL_OK;
    if (fdl_error_pending() == FDL_OK)
        return fdl_fail(status, "sample %lld: the dataset's callback returned %s", (long long)sample,
                        fdl_status_name(status));
    fdl_error_prefix("sample %lld: ", (long long)sample);
    return status;
}

static void unlock(void *lock)
{
    if (lock)
        pthread_mutex_unlock(lock);
}

/* The callback, which gets the indices or, if it fetches one sample, only the first. It may end its thread. */
static fdl_status call(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out)
{
    volatile fdl_status status = FDL_OK;
    bool serial = ds->v.flags & FDL_DATA_SERIAL;
    if (serial)
        pthread_mutex_lock(&ds->call_lock);
    pthread_cleanup_push(unlock, serial ? &ds->call_lock : NULL);
    memset(out, 0, sizeof *out * (FDL_DATA_MAX + 1));
    status = ds->v.batch ? ds->v.batch(ds->self, idx, k, out, ds->v.arity)
                         : ds->v.item(ds->self, *idx, out, ds->v.arity);
    pthread_cleanup_pop(1);
    return status;
}

static fdl_status call_item(fdl_dataset *ds, int64_t i, fdl_tensor **sample)
{
    fetching(i);
    fdl_status status = call(ds, &i, 1, sample);
    FDL_TRY(called(status, i));
    FDL_TRY(check_tensors(ds, i, sample));
    for (int p = 0; p < ds->v.arity; p++)
        FDL_TRY(check_form(ds, p, i, fdl_dtype_of(sample[p]), fdl_shape_of(sample[p])));
    return FDL_OK;
}

static fdl_status call_batch(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **got)
{
    fetching(idx[0]);
    fdl_status status = call(ds, idx, k, got);
    FDL_TRY(called(status, idx[0]));
    FDL_TRY(check_tensors(ds, idx[0], got));
    for (int p = 0; p < ds->v.arity; p++) {
        fdl_shape shape = fdl_shape_of(got[p]);
        if (shape.ndim < 1 || shape.d[0] != k) {
            char text[256];
            return fdl_fail(
                FDL_E_SHAPE, "collate: position %d of a batch of %lld samples is %s; its dim 0 must be %lld",
                p, (long long)k, form_text(fdl_dtype_of(got[p]), shape, text, sizeof text), (long long)k);
        }
        shape.ndim--;
        memmove(shape.d, shape.d + 1, sizeof *shape.d * (size_t)shape.ndim);
        FDL_TRY(check_form(ds, p, idx[0], fdl_dtype_of(got[p]), shape));
    }
    return FDL_OK;
}

/* A tensor that a fetch fills: scope. */
static fdl_tensor *land(struct landing *l, int p, fdl_shape shape, fdl_dtype dtype)
{
    return l ? l->place(l, p, shape, dtype) : fdl_empty(shape, .dtype = dtype, .device = FDL_CPU);
}

/* Room for k rows like the sample, in the scope around the current one. */
static fdl_status make_rows(const fdl_dataset *ds, int64_t k, fdl_tensor *const *sample, fdl_tensor **rows,
                            struct landing *l)
{
    for (int p = 0; p < ds->v.arity; p++) {
        fdl_shape shape = fdl_shape_of(sample[p]);
        if (shape.ndim == FDL_MAX_DIMS)
            return fdl_fail(FDL_E_SHAPE, "collate: position %d has %d dims; a sample may have %d", p,
                            FDL_MAX_DIMS, FDL_MAX_DIMS - 1);
        memmove(shape.d + 1, shape.d, sizeof *shape.d * (size_t)shape.ndim);
        shape.d[0] = k;
        shape.ndim++;
        rows[p] = fdl_escape(land(l, p, shape, fdl_dtype_of(sample[p])));
        if (!rows[p])
            return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status copy_row(fdl_tensor *rows, int64_t j, fdl_tensor *sample)
{
    size_t size = (size_t)fdl_nbytes(sample);
    if (fdl_dtype_of(rows) != fdl_dtype_of(sample) || size != (size_t)(fdl_nbytes(rows) / fdl_size(rows, 0)))
        return fdl_fail(FDL_E_SHAPE, "collate: samples of different sizes don't stack");
    if (size == 0)
        return FDL_OK;
    char *at = fdl_data_ptr(rows);
    return at ? fdl_to_bytes(sample, at + (size_t)j * size, size) : fdl_error_pending();
}

/* Sample by sample into rows, so that besides the batch one sample is alive at a time. */
static fdl_status collate(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **rows,
                          struct landing *l)
{
    for (int64_t j = 0; j < k; j++) {
        FDL_SCOPE;
        fdl_tensor *sample[FDL_DATA_MAX + 1];
        FDL_TRY(call_item(ds, idx[j], sample));
        if (j == 0)
            FDL_TRY(make_rows(ds, k, sample, rows, l));
        for (int p = 0; p < ds->v.arity; p++)
            FDL_TRY(copy_row(rows[p], j, sample[p]));
    }
    return FDL_OK;
}

/* What a callback made, where it is to be. */
static fdl_status move_in(struct landing *l, int p, fdl_tensor **x)
{
    fdl_tensor *to = l->place(l, p, fdl_shape_of(*x), fdl_dtype_of(*x));
    if (!to)
        return fdl_error_pending();
    FDL_TRY(fdl_copy_(to, *x));
    *x = to;
    return FDL_OK;
}

/* Rows of a tensor straight to where they are to be. */
static fdl_status land_rows(struct landing *l, fdl_tensor *const *from, int n, const int64_t *idx, int64_t k,
                            fdl_tensor **out)
{
    for (int p = 0; p < n; p++) {
        fdl_shape shape = fdl_shape_of(from[p]);
        size_t size = (size_t)(fdl_nbytes(from[p]) / (shape.d[0] ? shape.d[0] : 1));
        shape.d[0] = k;
        if (!(out[p] = l->place(l, p, shape, fdl_dtype_of(from[p]))))
            return fdl_error_pending();
        if (!size)
            continue;
        const char *source = fdl_data_ptr(from[p]);
        char *to = fdl_data_ptr(out[p]);
        if (!source || !to)
            return fdl_error_pending();
        for (int64_t j = 0; j < k; j++)
            memcpy(to + (size_t)j * size, source + (size_t)idx[j] * size, size);
    }
    return FDL_OK;
}

static bool contiguous(fdl_tensor *const *x, int n)
{
    for (int p = 0; p < n; p++)
        if (!fdl_is_contiguous(x[p]))
            return false;
    return true;
}

static fdl_status fetch(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **got, struct landing *l)
{
    fdl_tensor *const *rows = l ? fdl_data_rows_of(ds) : NULL;
    if (rows && contiguous(rows, ds->v.arity))
        return land_rows(l, rows, ds->v.arity, idx, k, got);
    if (!ds->v.batch)
        return collate(ds, idx, k, got, l);
    FDL_TRY(call_batch(ds, idx, k, got));
    for (int p = 0; l && p < ds->v.arity; p++)
        FDL_TRY(move_in(l, p, &got[p]));
    return FDL_OK;
}

/* Into the scope around the current one; what a callback keeps for itself is given as a handle of its own. */
static fdl_tensor *handed_out(fdl_tensor *x)
{
    return fdl_escape(fdl_is_mine(x) ? x : fdl_adopt(fdl_keep(x)));
}

static fdl_status hand_out(fdl_tensor *const *got, fdl_tensor **out, int n)
{
    for (int p = 0; p < n; p++)
        if (!(out[p] = handed_out(got[p]))) {
            memset(out, 0, sizeof *out * (size_t)n);
            return fdl_error_pending();
        }
    return FDL_OK;
}

fdl_status fdl_data_fetch_raw(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out,
                              struct landing *landing)
{
    memset(out, 0, sizeof *out * (size_t)ds->v.arity);
    FDL_TRY(fdl_data_check_indices("fdl_data_fetch", idx, k, ds->len));
    if (k == 0)
        return FDL_OK;
    FDL_NO_GRAD;
    FDL_SCOPE;
    fdl_tensor *got[FDL_DATA_MAX + 1] = {NULL};
    FDL_TRY(fetch(ds, idx, k, got, landing));
    return hand_out(got, out, ds->v.arity);
}

fdl_tensor *fdl_data_divided(fdl_tensor *raw, double by)
{
    if (by == 0)
        return raw;
    fdl_tensor *x = fdl_div_scalar(raw, by);
    fdl_drop(raw);
    return x;
}

fdl_status fdl_data_fetch(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **out)
{
    if (!ds || !out || (!idx && k > 0))
        return fdl_null_operand("fdl_data_fetch", !ds ? "ds" : !out ? "out" : "idx");
    if (k < 0)
        return fdl_fail(FDL_E_ARG, "fdl_data_fetch: k is %lld; it must be 0 or more", (long long)k);
    FDL_TRY(fdl_data_fetch_raw(ds, idx, k, out, NULL));
    if (k == 0)
        return FDL_OK;
    FDL_NO_GRAD;
    for (int p = 0; p < ds->v.arity; p++)
        if (!(out[p] = fdl_data_divided(out[p], ds->by[p]))) {
            memset(out, 0, sizeof *out * (size_t)ds->v.arity);
            return fdl_error_pending();
        }
    return FDL_OK;
}

/* ---- batches that a function makes ----------------------------------------------------------------------- */

/* Sample by sample, as the user has them: samples[j * n + p]. */
static fdl_status fetch_samples(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_tensor **samples)
{
    int n = ds->v.arity;
    for (int64_t j = 0; j < k; j++) {
        fdl_tensor **sample = samples + j * n;
        FDL_TRY(fdl_data_fetch(ds, idx + j, 1, sample));
        for (int p = 0; p < n; p++)
            if (!(sample[p] = fdl_select(sample[p], 0, 0)))
                return fdl_error_pending();
    }
    return FDL_OK;
}

static fdl_status check_collated(fdl_status status, fdl_tensor *const *got, int m)
{
    if (status != FDL_OK) {
        if (fdl_error_pending() == FDL_OK)
            return fdl_fail(status, "the collate function returned %s", fdl_status_name(status));
        return status;
    }
    for (int p = 0; p < m; p++) {
        if (!got[p])
            return fdl_fail(FDL_E_STATE,
                            "collate: position %d of %d is NULL although the function returned FDL_OK", p, m);
        char name[FDL_DEVICE_NAME_SIZE];
        fdl_device d = fdl_device_of(got[p]);
        if (d.type != FDL_DEVICE_TYPE_CPU)
            return fdl_fail(FDL_E_DEVICE, "collate: position %d is on %s; batches are made on the CPU", p,
                            fdl_device_name(d, name));
    }
    return FDL_OK;
}

fdl_status fdl_data_fetch_collated(fdl_dataset *ds, const int64_t *idx, int64_t k, fdl_data_collate_fn fn,
                                   void *ctx, fdl_tensor **out, int m, struct landing *landing)
{
    FDL_NO_GRAD;
    FDL_SCOPE;
    fdl_tensor *got[FDL_DATA_MAX + 1] = {NULL};
    fdl_tensor **samples = fdl_scope_alloc(sizeof *samples * (size_t)k * (size_t)ds->v.arity);
    if (!samples)
        return fdl_error_pending();
    bool loose = current && current->loose;
    if (current)
        current->loose = true;
    fdl_status status = fetch_samples(ds, idx, k, samples);
    if (current)
        current->loose = loose;
    FDL_TRY(status);
    FDL_TRY(check_collated(fn(ctx, samples, k, ds->v.arity, got, m), got, m));
    for (int p = 0; landing && p < m; p++)
        FDL_TRY(move_in(landing, p, &got[p]));
    return hand_out(got, out, m);
}

/* ---- the two ready-made ones ----------------------------------------------------------------------- */

struct rows {
    int n;
    fdl_tensor *t[FDL_DATA_MAX]; /* kept */
};

static int64_t rows_len(void *self)
{
    return fdl_size(((struct rows *)self)->t[0], 0);
}

static fdl_status rows_batch(void *self, const int64_t *idx, int64_t k, fdl_tensor **out, int n)
{
    struct rows *r = self;
    fdl_tensor *index = fdl_from_i64(idx, FDL_SHAPE(k), .device = FDL_CPU);
    for (int p = 0; p < n; p++)
        if (!(out[p] = fdl_index_select(r->t[p], 0, index)))
            return fdl_error_pending();
    return FDL_OK;
}

static void rows_free(void *self)
{
    struct rows *r = self;
    for (int p = 0; p < r->n; p++)
        fdl_free(r->t[p]);
    free(r);
}

fdl_tensor *const *fdl_data_rows_of(fdl_dataset *ds)
{
    return ds->v.batch == rows_batch ? ((struct rows *)ds->self)->t : NULL;
}

static fdl_status check_rows(fdl_list tensors)
{
    for (int p = 0; p < tensors.n; p++) {
        if (!tensors.at[p])
            return fdl_null_operand("fdl_data_tensors", "one of the tensors");
        int ndim = fdl_ndim(tensors.at[p]);
        if (ndim < 0)
            return fdl_error_pending();
        char text[FDL_DEVICE_NAME_SIZE];
        fdl_device d = fdl_device_of(tensors.at[p]);
        if (d.type != FDL_DEVICE_TYPE_CPU)
            return fdl_fail(
                FDL_E_DEVICE,
                "fdl_data_tensors: position %d is on %s; datasets are CPU tensors, and the loader's "
                ".device says where batches are",
                p, fdl_device_name(d, text));
        if (ndim == 0)
            return fdl_fail(FDL_E_SHAPE,
                            "fdl_data_tensors: position %d is 0-d; its dim 0 must be the samples", p);
        if (fdl_size(tensors.at[p], 0) != fdl_size(tensors.at[0], 0))
            return fdl_fail(FDL_E_SHAPE, "fdl_data_tensors: position %d has %lld rows, position 0 has %lld",
                            p, (long long)fdl_size(tensors.at[p], 0), (long long)fdl_size(tensors.at[0], 0));
    }
    return FDL_OK;
}

fdl_dataset *fdl_data_tensors(fdl_list tensors)
{
    if (!tensors.at) {
        fdl_null_operand("fdl_data_tensors", "tensors");
        return NULL;
    }
    if (tensors.n < 1 || tensors.n > FDL_DATA_MAX)
        return fdl_fail_null(FDL_E_ARG, "fdl_data_tensors: %d tensors; a sample has 1 to %d", tensors.n,
                             FDL_DATA_MAX);
    FDL_TRY_NULL(check_rows(tensors));
    struct rows *r = calloc(1, sizeof *r);
    if (!r)
        return fdl_fail_null(FDL_E_OOM, "fdl_data_tensors: no memory");
    for (; r->n < tensors.n; r->n++)
        if (!(r->t[r->n] = fdl_keep(tensors.at[r->n]))) {
            rows_free(r);
            return NULL;
        }
    return fdl_data_new(
        &(fdl_data_vtab){.len = rows_len, .batch = rows_batch, .free = rows_free, .arity = r->n}, r);
}

struct function {
    int64_t len;
    fdl_data_item_fn item;
    void *ctx;
};

static int64_t function_len(void *self)
{
    return ((struct function *)self)->len;
}

static fdl_status function_item(void *self, int64_t i, fdl_tensor **out, int n)
{
    struct function *f = self;
    return f->item(f->ctx, i, out, n);
}

fdl_dataset *fdl_data_fn(int64_t len, int arity, fdl_data_item_fn item, void *ctx)
{
    if (!item) {
        fdl_null_operand("fdl_data_fn", "item");
        return NULL;
    }
    struct function *f = malloc(sizeof *f);
    if (!f)
        return fdl_fail_null(FDL_E_OOM, "fdl_data_fn: no memory");
    *f = (struct function){len, item, ctx};
    return fdl_data_new(
        &(fdl_data_vtab){.len = function_len, .item = function_item, .free = free, .arity = arity}, f);
}
