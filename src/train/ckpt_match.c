/* Which entry of a file is for which tensor of a module, and copying. */
#include "ckpt_private.h"

/* ---- lists of names --------------------------------------------------------------------------------- */

fdl_status ckpt_note(ckpt_names *list, const char *name)
{
    if (list->n == list->room) {
        int room = list->room ? 2 * list->room : 16;
        char **more = realloc(list->at, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail(FDL_E_OOM, "memory ran out");
        list->at = more;
        list->room = room;
    }
    list->at[list->n] = malloc(strlen(name) + 1);
    if (!list->at[list->n])
        return fdl_fail(FDL_E_OOM, "memory ran out");
    memcpy(list->at[list->n++], name, strlen(name) + 1);
    return FDL_OK;
}

void ckpt_names_free(ckpt_names *list)
{
    for (int i = 0; i < list->n; i++)
        free(list->at[i]);
    free(list->at);
    *list = (ckpt_names){0};
}

const char *const *ckpt_names_in_scope(const ckpt_names *list)
{
    const char **at = fdl_scope_alloc(sizeof *at * (size_t)(list->n + 1));
    for (int i = 0; at && i < list->n; i++) {
        char *name = fdl_scope_alloc(strlen(list->at[i]) + 1);
        if (!name)
            return NULL;
        at[i] = memcpy(name, list->at[i], strlen(list->at[i]) + 1);
    }
    return at;
}

/* ---- shapes that differ ----------------------------------------------------------------------------- */

char *ckpt_shape_text(fdl_shape s, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "[");
    for (int d = 0; d < s.ndim && used < n; d++)
        used += (size_t)snprintf(buf + used, n - used, "%s%lld", d ? ", " : "", (long long)s.d[d]);
    if (used < n)
        snprintf(buf + used, n - used, "]");
    return buf;
}

fdl_status ckpt_misfit(const ckpt_item *it)
{
    char a[256], b[256];
    return fdl_fail(FDL_E_MISMATCH, "\"%.200s\" is %s in the file and %s in the module", it->name,
                    ckpt_shape_text(it->entry->shape, a, sizeof a),
                    ckpt_shape_text(fdl_shape_of(fdl_param_tensor(it->p)), b, sizeof b));
}

/* ---- matching --------------------------------------------------------------------------------------- */

static bool same_shape_as(const ckpt_item *it, const ckpt_entry *e)
{
    return fdl_shape_eq(e->shape, fdl_shape_of(fdl_param_tensor(it->p)));
}

/* The first that is there of: key, canonical name, other names of the same tensor. */
static ckpt_entry *by_own_name(const ckpt_contents *c, const ckpt_view *v, int i)
{
    const ckpt_item *it = &c->items[i];
    ckpt_entry *e = ckpt_view_find(v, it->key);
    if (!e)
        e = ckpt_view_find(v, it->name);
    for (int k = 0; !e && k < c->n_aliases; k++)
        if (c->aliases[k].item == i) {
            e = ckpt_view_find(v, c->aliases[k].key);
            if (!e)
                e = ckpt_view_find(v, c->aliases[k].name);
        }
    return e;
}

static ckpt_entry *unused(ckpt_entry *e)
{
    return e && !e->used ? e : NULL;
}

/* The parts that versions 1 and 2 keep; nothing unless all are there. */
static fdl_status by_legacy_name(const ckpt_item *it, ckpt_view *v, ckpt_entry **found)
{
    const source_entry *part[3];
    for (int i = 0; i < it->parts; i++) {
        ckpt_entry *e = unused(ckpt_view_find(v, it->legacy[i]));
        if (!e || e->parts != 1)
            return FDL_OK;
        if (it->parts == 1) {
            *found = e;
            return FDL_OK;
        }
        part[i] = e->part[0];
    }
    if (it->parts)
        *found = ckpt_view_join(v, it->key, it->parts, part);
    return !it->parts || *found ? FDL_OK : fdl_error_pending();
}

/* "conv.parametrizations.weight.original0" -> "conv.weight_g", as torch.nn.utils.weight_norm and spectral_norm, the older
 * functions, call it; NULL: they have no such tensor. To buf. */
static const char *older_name(const char *name, char *buf, size_t size)
{
    static const char *const ends[][2] = {
        {".original0", "_g"}, {".original1", "_v"}, {".original", "_orig"}, {".0._u", "_u"}, {".0._v", "_v"}};
    static const char mark[] = "parametrizations.";
    const char *at = strstr(name, mark);
    size_t n = strlen(name);
    for (size_t i = 0; at && i < sizeof ends / sizeof *ends; i++) {
        size_t end = strlen(ends[i][0]);
        const char *leaf = at + sizeof mark - 1;
        if (n < end || strcmp(name + n - end, ends[i][0]) != 0 || name + n - end < leaf)
            continue;
        int used = snprintf(buf, size, "%.*s%.*s%s", (int)(at - name), name, (int)(name + n - end - leaf),
                            leaf, ends[i][1]);
        return used > 0 && (size_t)used < size ? buf : NULL;
    }
    return NULL;
}

static ckpt_entry *by_older_name(const ckpt_item *it, const ckpt_view *v)
{
    char buf[512];
    const char *name = older_name(it->key, buf, sizeof buf);
    ckpt_entry *e = name ? unused(ckpt_view_find(v, name)) : NULL;
    if (e)
        return e;
    name = older_name(it->sequential, buf, sizeof buf);
    return name ? unused(ckpt_view_find(v, name)) : NULL;
}

static void take(ckpt_item *it, ckpt_view *v, ckpt_entry *e, bool same_shape)
{
    if (!e || (same_shape && !same_shape_as(it, e)))
        return;
    it->entry = e;
    it->fits = same_shape_as(it, e);
    ckpt_view_use(v, e);
}

fdl_status ckpt_match(ckpt_contents *c, ckpt_view *v, bool same_shape)
{
    for (int i = 0; i < c->n; i++)
        take(&c->items[i], v, by_own_name(c, v, i), same_shape);
    for (int k = 0; k < c->n_aliases; k++) { /* a tied tensor that the file has under each name */
        ckpt_entry *e = c->items[c->aliases[k].item].entry ? ckpt_view_find(v, c->aliases[k].key) : NULL;
        if (e)
            e->used = true;
    }
    for (int i = 0; i < c->n; i++) {
        ckpt_item *it = &c->items[i];
        ckpt_entry *e = NULL;
        if (it->entry)
            continue;
        e = unused(ckpt_view_find(v, it->flat));
        if (!e)
            FDL_TRY(by_legacy_name(it, v, &e));
        if (!e)
            e = unused(ckpt_view_find(v, it->sequential));
        if (!e)
            e = by_older_name(it, v);
        take(it, v, e, same_shape);
    }
    return FDL_OK;
}

fdl_status ckpt_copy(const ckpt_contents *c, const ckpt_view *v)
{
    fdl_tensor **read = fdl_scope_alloc(sizeof *read * (size_t)(c->n + 1));
    if (!read)
        return fdl_error_pending();
    for (int i = 0; i < c->n; i++)
        if (c->items[i].fits && !(read[i] = ckpt_view_read(v, c->items[i].entry)))
            return fdl_error_pending();
    for (int i = 0; i < c->n; i++)
        if (read[i])
            FDL_TRY(fdl_param_set(c->items[i].p, read[i]));
    return FDL_OK;
}
