/* Snapshots: copies of a module's values, and checkpoints made of them. */
#include "flodl/snapshot.h"

#include "ckpt_private.h"
#include "flodl/observe.h"

#include <inttypes.h>
#include <math.h>

static const char metric_key[] = "fdl.metric.";

struct fdl_snapshot {
    int n;
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

void fdl_snapshot_free(fdl_snapshot *s)
{
    if (!s)
        return;
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

static fdl_status take_tensors(fdl_snapshot *s, const ckpt_content *c)
{
    s->names = calloc((size_t)c->n + 1, sizeof *s->names);
    s->at = calloc((size_t)c->n + 1, sizeof(fdl_tensor *));
    if (!s->names || !s->at)
        return no_memory(c->n);
    for (int i = 0; i < c->n; i++) {
        FDL_SCOPE;
        char *name = copied(c->keys[i]);
        fdl_tensor *here =
            fdl_device_of(c->at[i]).type == FDL_DEVICE_TYPE_CPU ? fdl_clone(c->at[i]) : fdl_cpu(c->at[i]);
        fdl_tensor *kept = name ? fdl_keep(fdl_detach(here)) : NULL;
        if (!kept) {
            free(name);
            return name ? fdl_error_pending() : no_memory(c->n);
        }
        s->names[s->n] = name;
        s->at[s->n++] = kept;
    }
    return FDL_OK;
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

static fdl_status take(fdl_snapshot *s, fdl_module *m, const fdl_meta *meta)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    ckpt_content c;
    fdl_status status = ckpt_content_of(&c, m, FDL_DTYPE_DEFAULT, meta);
    s->metadata = c.metadata;
    if (status == FDL_OK)
        status = take_tensors(s, &c);
    return status == FDL_OK && fdl_module_is_graph(m) ? take_metrics(s, m) : status;
}

fdl_snapshot *fdl_ckpt_snapshot_opt(fdl_module *m, const fdl_ckpt_snapshot_opts *opts)
{
    if (!m) {
        fdl_null_operand("fdl_ckpt_snapshot", "m");
        return NULL;
    }
    fdl_snapshot *s = calloc(1, sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "fdl_ckpt_snapshot: no memory for a snapshot");
    if (take(s, m, opts ? opts->meta : NULL) == FDL_OK)
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
    return has(__func__, s, i) ? s->at[i] : NULL;
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
