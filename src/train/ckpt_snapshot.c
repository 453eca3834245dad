/* Snapshots: copies of a module's values, and checkpoints made of them. */
#include "flodl/snapshot.h"

#include "ckpt_private.h"
#include "flodl/cuda.h"
#include "flodl/inplace.h"
#include "flodl/observe.h"
#include "flodl/stream.h"

#include <inttypes.h>
#include <math.h>

static const char metric_key[] = "fdl.metric.";

/* Copies of one device's tensors that are on their way; owned. */
typedef struct transfer {
    fdl_device device;
    fdl_stream *side;
    fdl_event *arrived;
    struct transfer *next;
} transfer;

struct fdl_snapshot {
    int n;
    transfer *transfers;
    char **names;
    fdl_tensor **at; /* kept */
    json_t *metadata;
    int64_t epoch;
    int metrics;
    struct {
        char *name;
        double value;
    } * metric;
};

static char *copied(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    return copy ? memcpy(copy, text, strlen(text) + 1) : NULL;
}

static fdl_status no_memory(int n)
{
    return fdl_fail(FDL_E_OOM, "no memory for a snapshot of %d tensors", n);
}

/* The values are there. */
static fdl_status arrive(const fdl_snapshot *s)
{
    for (const transfer *t = s->transfers; t; t = t->next)
        FDL_TRY(fdl_cuda_event_synchronize(t->arrived));
    return FDL_OK;
}

void fdl_snapshot_free(fdl_snapshot *s)
{
    if (!s)
        return;
    if (s->transfers && arrive(s) != FDL_OK) /* nothing more to be lost */
        fdl_clear_error();
    for (transfer *t = s->transfers, *next; t; t = next) {
        next = t->next;
        fdl_cuda_event_free(t->arrived);
        fdl_cuda_stream_free(t->side);
        free(t);
    }
    for (int i = 0; i < s->n; i++) {
        free(s->names[i]);
        fdl_free(s->at[i]);
    }
    for (int i = 0; i < s->metrics; i++)
        free(s->metric[i].name);
    free(s->names);
    free(s->at);
    free(s->metric);
    json_decref(s->metadata);
    free(s);
}

/* ---- taking ----------------------------------------------------------------------------------------- */

/* The transfer from that device, begun with its first tensor: what its current stream has to do comes first. */
static transfer *transfer_from(fdl_snapshot *s, fdl_device device)
{
    for (transfer *t = s->transfers; t; t = t->next)
        if (fdl_device_eq(t->device, device))
            return t;
    transfer *t = calloc(1, sizeof *t);
    if (!t)
        return fdl_fail_null(FDL_E_OOM, "no memory for a snapshot");
    t->device = device;
    fdl_stream *now = fdl_cuda_stream_current(device);
    fdl_status status = now ? FDL_OK : fdl_error_pending();
    for (int tries = 0; status == FDL_OK && (!t->side || fdl_cuda_stream_eq(t->side, now)); tries++) {
        fdl_cuda_stream_free(t->side);
        t->side = tries < 64 ? fdl_cuda_stream_new(device) : NULL;
        status = t->side ? FDL_OK : fdl_fail(FDL_E_STATE, "no free stream");
    }
    t->arrived = status == FDL_OK ? fdl_cuda_event_new() : NULL;
    if (t->arrived)
        status = fdl_cuda_stream_wait_stream(t->side, now);
    fdl_cuda_stream_free(now);
    if (status == FDL_OK && t->arrived) {
        t->next = s->transfers;
        s->transfers = t;
        return t;
    }
    fdl_cuda_event_free(t->arrived);
    fdl_cuda_stream_free(t->side);
    free(t);
    return NULL;
}

/* All copies are issued: what comes after them on the devices' current streams runs after them. */
static fdl_status end_transfers(fdl_snapshot *s)
{
    for (transfer *t = s->transfers; t; t = t->next) {
        FDL_TRY(fdl_cuda_event_record_on(t->arrived, t->side));
        fdl_stream *now = fdl_cuda_stream_current(t->device);
        fdl_status status = now ? fdl_cuda_stream_wait_event(now, t->arrived) : fdl_error_pending();
        fdl_cuda_stream_free(now);
        FDL_TRY(status);
    }
    return FDL_OK;
}

/* A copy in the CPU's memory, or the memory to which it is on its way (scope). */
static fdl_tensor *copy_of(fdl_snapshot *s, fdl_tensor *x)
{
    fdl_device device = fdl_device_of(x);
    if (device.type == FDL_DEVICE_TYPE_CPU)
        return fdl_clone(fdl_detach(x));
    if (device.type != FDL_DEVICE_TYPE_CUDA)
        return fdl_cpu(fdl_detach(x));
    transfer *t = transfer_from(s, device);
    if (!t)
        return NULL;
    FDL_STREAM(t->side);
    fdl_tensor *here =
        fdl_empty(fdl_shape_of(x), .dtype = fdl_dtype_of(x), .device = FDL_CPU, .pin_memory = true);
    return fdl_copy_(here, fdl_detach(x), .non_blocking = true) == FDL_OK ? here : NULL;
}

static fdl_status take_tensors(fdl_snapshot *s, const ckpt_content *c)
{
    s->names = calloc((size_t)c->n + 1, sizeof *s->names);
    s->at = calloc((size_t)c->n + 1, sizeof(fdl_tensor *));
    if (!s->names || !s->at)
        return no_memory(c->n);
    for (int i = 0; i < c->n; i++) {
        FDL_SCOPE;
        char *name = copied(c->keys[i]);
        fdl_tensor *kept = name ? fdl_keep(copy_of(s, c->at[i])) : NULL;
        if (!kept) {
            free(name);
            return name ? fdl_error_pending() : no_memory(c->n);
        }
        s->names[s->n] = name;
        s->at[s->n++] = kept;
    }
    return end_transfers(s);
}

static fdl_status put_number(json_t *to, const char *before, const char *name, const char *text)
{
    size_t size = strlen(before) + strlen(name) + 1;
    char *key = malloc(size);
    if (!key)
        return fdl_fail(FDL_E_OOM, "no memory for a snapshot");
    snprintf(key, size, "%s%s", before, name);
    fdl_status status = ckpt_put_meta(to, key, text);
    free(key);
    return status;
}

static fdl_status take_metrics(fdl_snapshot *s, fdl_module *m)
{
    int n = 0;
    char text[32];
    const fdl_metric *all = fdl_graph_latest_metrics(m, &n);
    s->epoch = fdl_graph_flush_count(m);
    if (!all || s->epoch < 0)
        return fdl_error_pending();
    s->metric = calloc((size_t)n + 1, sizeof *s->metric);
    if (!s->metric)
        return fdl_fail(FDL_E_OOM, "no memory for a snapshot's %d metrics", n);
    for (int i = 0; i < n; i++) {
        char *name = copied(all[i].name);
        if (!name)
            return fdl_fail(FDL_E_OOM, "no memory for a snapshot's %d metrics", n);
        s->metric[s->metrics].name = name;
        s->metric[s->metrics++].value = all[i].value;
        snprintf(text, sizeof text, "%.17g", all[i].value);
        FDL_TRY(put_number(s->metadata, metric_key, name, text));
    }
    snprintf(text, sizeof text, "%" PRId64, s->epoch);
    return put_number(s->metadata, "fdl.", "epoch", text);
}

static fdl_status take(fdl_snapshot *s, fdl_module *m, const fdl_ckpt_save_opts *o)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    ckpt_content c;
    if (o->dtype || o->level || o->shard_bytes || o->keep_last)
        return fdl_fail(FDL_E_ARG, ".dtype, .level, .shard_bytes and .keep_last are fdl_snapshot_save's");
    if (o->skip_if_busy || o->skipped)
        return fdl_fail(FDL_E_ARG, ".skip_if_busy and .skipped are fdl_ckpt_save_async's");
    fdl_status status = ckpt_content_of(&c, m, FDL_DTYPE_DEFAULT, o->meta);
    s->metadata = c.metadata;
    if (status == FDL_OK)
        status = ckpt_put_training(&c, m, o);
    if (status == FDL_OK)
        status = take_tensors(s, &c);
    return status == FDL_OK && fdl_module_is_graph(m) ? take_metrics(s, m) : status;
}

fdl_snapshot *fdl_ckpt_snapshot_opt(fdl_module *m, const fdl_ckpt_save_opts *opts)
{
    if (!m) {
        fdl_null_operand("fdl_ckpt_snapshot", "m");
        return NULL;
    }
    fdl_snapshot *s = calloc(1, sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "fdl_ckpt_snapshot: no memory for a snapshot");
    if (take(s, m, opts ? opts : &(fdl_ckpt_save_opts){0}) == FDL_OK)
        return s;
    fdl_error_prefix("fdl_ckpt_snapshot: ");
    fdl_snapshot_free(s);
    return NULL;
}

/* ---- asking ----------------------------------------------------------------------------------------- */

int fdl_snapshot_count(const fdl_snapshot *s)
{
    if (!s)
        fdl_null_operand(__func__, "s");
    return s ? s->n : -1;
}

static bool has(const char *function, const fdl_snapshot *s, int i)
{
    if (!s)
        fdl_null_operand(function, "s");
    else if (i < 0 || i >= s->n)
        fdl_fail(FDL_E_RANGE, "%s: tensor %d of %d", function, i, s->n);
    else
        return true;
    return false;
}

const char *fdl_snapshot_name(const fdl_snapshot *s, int i)
{
    return has(__func__, s, i) ? s->names[i] : NULL;
}

fdl_tensor *fdl_snapshot_tensor(const fdl_snapshot *s, int i)
{
    return has(__func__, s, i) && arrive(s) == FDL_OK ? s->at[i] : NULL;
}

int64_t fdl_snapshot_epoch(const fdl_snapshot *s)
{
    if (!s)
        fdl_null_operand(__func__, "s");
    return s ? s->epoch : -1;
}

double fdl_snapshot_metric(const fdl_snapshot *s, const char *name)
{
    if (!s || !name) {
        fdl_null_operand(__func__, s ? "name" : "s");
        return NAN;
    }
    char names[512] = "";
    size_t used = 0;
    for (int i = 0; i < s->metrics; i++) {
        if (strcmp(s->metric[i].name, name) == 0)
            return s->metric[i].value;
        if (used < sizeof names)
            used +=
                (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", s->metric[i].name);
    }
    fdl_fail(FDL_E_ARG, "fdl_snapshot_metric: no metric \"%.200s\"%s%s", name,
             used ? "; there are " : "; there are none", names);
    return NAN;
}

const char *fdl_snapshot_hash(const fdl_snapshot *s)
{
    if (!s)
        fdl_null_operand(__func__, "s");
    return s ? json_string_value(json_object_get(s->metadata, "fdl.hash")) : NULL;
}

/* ---- saving ----------------------------------------------------------------------------------------- */

static fdl_status save(const fdl_snapshot *s, const char *path, const fdl_ckpt_save_opts *o)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(ckpt_check_save(o, path));
    if (o->optim || o->optims.at || o->scaler || o->plateau || o->ema || o->rng || o->host_rng ||
        o->progress || o->skip_if_busy || o->skipped)
        return fdl_fail(FDL_E_ARG, "what of the training goes with the model is fdl_ckpt_snapshot's to copy");
    FDL_TRY(arrive(s));
    ckpt_content c = {.n = s->n,
                      .keys = fdl_scope_alloc(sizeof *c.keys * (size_t)(s->n + 1)),
                      .at = fdl_scope_alloc(sizeof *c.at * (size_t)(s->n + 1)),
                      .dtype = o->dtype,
                      .metadata = json_copy(s->metadata)};
    if (!c.keys || !c.at || !c.metadata) {
        json_decref(c.metadata);
        return no_memory(s->n);
    }
    for (int i = 0; i < s->n; i++) {
        c.keys[i] = s->names[i];
        c.at[i] = s->at[i];
    }
    fdl_status status = ckpt_put_user_meta(c.metadata, o->meta);
    if (status == FDL_OK)
        status = ckpt_write(&c, path, NULL, o,
                            json_string_value(json_object_get(s->metadata, "fdl.source_config")));
    json_decref(c.metadata);
    return status;
}

fdl_status fdl_snapshot_save_opt(const fdl_snapshot *s, const char *path, const fdl_ckpt_save_opts *opts)
{
    if (!s || !path)
        return fdl_null_operand("fdl_snapshot_save", s ? "path" : "s");
    fdl_status status = save(s, path, opts ? opts : &(fdl_ckpt_save_opts){0});
    if (status != FDL_OK)
        fdl_error_prefix("fdl_snapshot_save: ");
    return status;
}
