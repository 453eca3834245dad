/* Keys and values of earlier positions. The cache of a thread is a variable of the thread, as its grad mode is, since it must reach
 * attentions through graphs, which hand on tensors only. */
#include "kv_cache.h"

#include <inttypes.h>
#include <stdlib.h>

#include "module_private.h"
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/shape.h"

struct fdl_kv_cache {
    int64_t max_len;
    int n, room;
    kv_entry *entries;
};

static _Thread_local fdl_kv_cache *now;

/* ---- the cache ---------------------------------------------------------------------------------- */

fdl_kv_cache *fdl_kv_cache_new(int64_t max_len)
{
    if (max_len < 1)
        return fdl_fail_null(FDL_E_ARG, "fdl_kv_cache_new: max_len is %" PRId64 ", must be at least 1",
                             max_len);
    fdl_kv_cache *c = calloc(1, sizeof *c);
    if (!c)
        return fdl_fail_null(FDL_E_OOM, "fdl_kv_cache_new: no memory");
    c->max_len = max_len;
    return c;
}

static void forget(fdl_tensor **t)
{
    if (*t)
        fdl_free(*t);
    *t = NULL;
}

static void forget_memory(kv_entry *e)
{
    forget(&e->key);
    forget(&e->value);
    forget(&e->memory_k);
    forget(&e->memory_v);
}

static void forget_all(kv_entry *e)
{
    forget(&e->k);
    forget(&e->v);
    forget_memory(e);
}

void fdl_kv_cache_free(fdl_kv_cache *c)
{
    if (!c)
        return;
    if (now == c)
        now = NULL;
    for (int i = 0; i < c->n; i++)
        forget_all(&c->entries[i]);
    free(c->entries);
    free(c);
}

fdl_kv_cache *fdl_kv_cache_use(fdl_kv_cache *c)
{
    fdl_kv_cache *before = now;
    now = c;
    return before;
}

void fdl_kv_cache_leave_(fdl_kv_cache **before)
{
    if (before)
        now = *before;
}

int64_t fdl_kv_cache_len(const fdl_kv_cache *c)
{
    if (!c) {
        fdl_null_operand("fdl_kv_cache_len", "c");
        return -1;
    }
    int64_t len = -1;
    for (int i = 0; i < c->n; i++)
        if (c->entries[i].counts && (len < 0 || c->entries[i].len < len))
            len = c->entries[i].len;
    return len < 0 ? 0 : len;
}

fdl_status fdl_kv_cache_rewind(fdl_kv_cache *c, int64_t len)
{
    if (!c)
        return fdl_null_operand("fdl_kv_cache_rewind", "c");
    if (len < 0 || len > fdl_kv_cache_len(c))
        return fdl_fail(FDL_E_RANGE, "fdl_kv_cache_rewind: len is %" PRId64 ", must be in [0, %" PRId64 "]",
                        len, fdl_kv_cache_len(c));
    for (int i = 0; i < c->n; i++) {
        c->entries[i].len = len;
        if (len == 0)
            forget_all(&c->entries[i]);
    }
    return FDL_OK;
}

/* Rows of x in a new order, kept; one for another of n. */
static fdl_tensor *reordered(fdl_tensor *x, fdl_tensor *samples)
{
    return x ? fdl_keep(fdl_index_select(x, 0, samples)) : NULL;
}

fdl_status fdl_kv_cache_reorder(fdl_kv_cache *c, fdl_tensor *samples)
{
    if (!c || !samples)
        return fdl_null_operand("fdl_kv_cache_reorder", c ? "samples" : "c");
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor **made = calloc(2 * (size_t)c->n + 1, sizeof *made);
    if (!made)
        return fdl_fail(FDL_E_OOM, "fdl_kv_cache_reorder: no memory");
    bool good = true;
    for (int i = 0; good && i < c->n; i++) {
        const kv_entry *e = &c->entries[i];
        made[2 * i] = reordered(e->k, samples);
        made[2 * i + 1] = reordered(e->v, samples);
        good = (made[2 * i] || !e->k) && (made[2 * i + 1] || !e->v);
    }
    for (int i = 0; i < c->n; i++) {
        kv_entry *e = &c->entries[i];
        if (!good) {
            forget(&made[2 * i]);
            forget(&made[2 * i + 1]);
            continue;
        }
        forget_all(e);
        e->k = made[2 * i];
        e->v = made[2 * i + 1];
    }
    free(made);
    return good ? FDL_OK : fdl_error_pending();
}

/* ---- for the modules ---------------------------------------------------------------------------- */

fdl_kv_cache *kv_cache_now(void)
{
    return now;
}

kv_entry *kv_cache_entry(fdl_kv_cache *c, fdl_module *m)
{
    for (int i = 0; i < c->n; i++)
        if (c->entries[i].module == m->real)
            return &c->entries[i];
    if (c->n == c->room) {
        int room = c->room ? 2 * c->room : 16;
        kv_entry *entries = realloc(c->entries, (size_t)room * sizeof *entries);
        if (!entries)
            return fdl_fail_null(FDL_E_OOM, "kv cache: no memory for %d modules", room);
        c->entries = entries;
        c->room = room;
    }
    c->entries[c->n] = (kv_entry){.module = m->real};
    return &c->entries[c->n++];
}

bool kv_cache_fits(const fdl_kv_cache *c, const kv_entry *e, int64_t n)
{
    if (n <= c->max_len - e->len)
        return true;
    fdl_fail(FDL_E_RANGE,
             "kv cache: %" PRId64 " positions behind %" PRId64 " are more than max_len, %" PRId64, n, e->len,
             c->max_len);
    return false;
}

static fdl_tensor *room_for(const fdl_kv_cache *c, fdl_tensor *x)
{
    fdl_shape s = fdl_shape_of(x);
    s.d[2] = c->max_len;
    return fdl_keep(fdl_empty(s, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x)));
}

static bool put(fdl_tensor *all, int64_t at, fdl_tensor *x)
{
    return fdl_copy_(fdl_narrow(all, 2, at, fdl_size(x, 2)), x) == FDL_OK;
}

bool kv_cache_append(fdl_kv_cache *c, kv_entry *e, fdl_tensor **k, fdl_tensor **v)
{
    if (!*k || !*v)
        return false;
    if (fdl_grad_enabled()) {
        fdl_fail(FDL_E_STATE, "kv cache: what is kept has no gradient; put FDL_NO_GRAD; before the forward");
        return false;
    }
    int64_t n = fdl_size(*k, 0), more = fdl_size(*k, 2);
    if (!kv_cache_fits(c, e, more))
        return false;
    if (e->k && fdl_size(e->k, 0) != n) {
        fdl_fail(FDL_E_SHAPE,
                 "kv cache: %" PRId64 " samples, before them there were %" PRId64
                 "; fdl_kv_cache_rewind(cache, 0) begins anew",
                 n, fdl_size(e->k, 0));
        return false;
    }
    if (!e->k) {
        fdl_tensor *keys = room_for(c, *k), *values = keys ? room_for(c, *v) : NULL;
        if (!values) {
            forget(&keys);
            return false;
        }
        e->k = keys;
        e->v = values;
    }
    if (!put(e->k, e->len, *k) || !put(e->v, e->len, *v))
        return false;
    e->len += more;
    *k = fdl_narrow(e->k, 2, 0, e->len);
    *v = fdl_narrow(e->v, 2, 0, e->len);
    return *k && *v;
}

bool kv_cache_recall(const kv_entry *e, fdl_tensor *key, fdl_tensor *value, fdl_tensor **k, fdl_tensor **v)
{
    if (!e->memory_k || !fdl_is(e->key, key) || !fdl_is(e->value, value))
        return false;
    *k = e->memory_k;
    *v = e->memory_v;
    return true;
}

bool kv_cache_remember(kv_entry *e, fdl_tensor *key, fdl_tensor *value, fdl_tensor *k, fdl_tensor *v)
{
    forget_memory(e);
    e->key = fdl_keep(key);
    e->value = fdl_keep(value);
    e->memory_k = fdl_keep(k);
    e->memory_v = fdl_keep(v);
    if (e->key && e->value && e->memory_k && e->memory_v)
        return true;
    forget_memory(e);
    return false;
}
