/* Checkpoints: which tensors of a module go to which names of a file, and back. */
#include "flodl/ckpt.h"

#include "safetensors.h"

#include <time.h>

/* ---- a module's tensors and their names ------------------------------------------------------------ */

/* One tensor to save or to load. */
typedef struct item {
    fdl_param *p;
    const char *name;      /* canonical */
    const char *flat;      /* the flat name */
    const char *key;       /* the state_dict key */
    const st_entry *entry; /* loading: its place in the file; NULL: none */
    bool fits;             /* ... which has its shape */
} item;

/* Another name of a shared tensor. */
typedef struct alias {
    int item;
    const char *name, *key;
} alias;

typedef struct contents {
    item *items;
    int n;
    alias *aliases;
    int n_aliases;
} contents;

static const char *key_of(const char *name)
{
    size_t size = strlen(name) + 1;
    char *key = fdl_scope_alloc(size);
    return key && fdl_state_key(name, key, size) == FDL_OK ? key : NULL;
}

static fdl_status add_items(contents *c, const fdl_params *ps, const fdl_params *flat,
                            const fdl_params *every)
{
    int first = c->n, n = fdl_params_count(ps), all = fdl_params_count(every);
    if (n < 0 || all < 0 || fdl_params_count(flat) < 0)
        return fdl_error_pending();
    for (int i = 0; i < n; i++) {
        item it = {
            .p = fdl_params_at(ps, i), .name = fdl_params_name(ps, i), .flat = fdl_params_name(flat, i)};
        it.key = key_of(it.name);
        if (!it.key)
            return fdl_error_pending();
        c->items[c->n++] = it;
    }
    for (int k = 0; n < all && k < all; k++) {
        const char *name = fdl_params_name(every, k);
        const void *id = fdl_identity(fdl_param_tensor(fdl_params_at(every, k)));
        int i = first;
        while (i < c->n && fdl_identity(fdl_param_tensor(c->items[i].p)) != id)
            i++;
        if (i == c->n || strcmp(c->items[i].name, name) == 0)
            continue;
        alias a = {i, name, key_of(name)};
        if (!a.key)
            return fdl_error_pending();
        c->aliases[c->n_aliases++] = a;
    }
    return FDL_OK;
}

/* Parameters, then buffers that are saved; in the current scope. */
static fdl_status contents_of(contents *c, fdl_module *m)
{
    const fdl_params *p = fdl_parameters(m), *b = fdl_buffers(m);
    const fdl_params *every_p = fdl_parameters(m, .every = true), *every_b = fdl_buffers(m, .every = true);
    int n = fdl_params_count(every_p), k = fdl_params_count(every_b);
    if (n < 0 || k < 0)
        return fdl_error_pending();
    c->items = fdl_scope_alloc(sizeof *c->items * (size_t)(n + k + 1));
    c->aliases = fdl_scope_alloc(sizeof *c->aliases * (size_t)(n + k + 1));
    if (!c->items || !c->aliases)
        return fdl_error_pending();
    FDL_TRY(add_items(c, p, fdl_parameters(m, .flat = true), every_p));
    return add_items(c, b, fdl_buffers(m, .flat = true), every_b);
}

/* ---- saving -------------------------------------------------------------------------------------------- */

static fdl_status put_meta(json_t *to, const char *key, const char *value)
{
    return json_object_set_new(to, key, json_string(value)) == 0
               ? FDL_OK
               : fdl_fail(FDL_E_ARG, "fdl_ckpt_save: \"%.100s\" or its text is not UTF-8", key);
}

static fdl_status user_meta(json_t *to, const fdl_meta *meta)
{
    for (; meta && meta->key; meta++) {
        if (!meta->value)
            return fdl_fail(FDL_E_NULL, "fdl_ckpt_save: .meta has no text for \"%.100s\"", meta->key);
        if (strcmp(meta->key, "format") == 0 || strncmp(meta->key, "fdl.", 4) == 0)
            return fdl_fail(FDL_E_ARG, "fdl_ckpt_save: .meta has \"%.100s\", a key that the file itself uses",
                            meta->key);
        FDL_TRY(put_meta(to, meta->key, meta->value));
    }
    return FDL_OK;
}

static fdl_status own_meta(json_t *to, const contents *c)
{
    char now[32] = "";
    time_t t = time(NULL);
    struct tm tm;
    if (gmtime_r(&t, &tm))
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    FDL_TRY(put_meta(to, "format", "pt"));
    FDL_TRY(put_meta(to, "fdl.version", "3"));
    FDL_TRY(put_meta(to, "fdl.saved_at", now));
    if (!c->n_aliases)
        return FDL_OK;
    json_t *aliases = json_object();
    fdl_status status = FDL_OK;
    for (int i = 0; status == FDL_OK && i < c->n_aliases; i++)
        status = put_meta(aliases, c->aliases[i].key, c->items[c->aliases[i].item].key);
    char *text = status == FDL_OK ? json_dumps(aliases, JSON_COMPACT) : NULL;
    json_decref(aliases);
    FDL_TRY(status);
    status = text ? put_meta(to, "fdl.aliases", text) : fdl_fail(FDL_E_OOM, "fdl_ckpt_save: memory ran out");
    free(text);
    return status;
}

static fdl_status check_keys(const contents *c)
{
    json_t *seen = json_object();
    fdl_status status = FDL_OK;
    for (int i = 0; status == FDL_OK && i < c->n; i++) {
        const item *it = &c->items[i];
        json_t *other = json_object_get(seen, it->key);
        if (other)
            status = fdl_fail(FDL_E_ARG,
                              "fdl_ckpt_save: \"%.200s\" and \"%.200s\" would both be saved as \"%.200s\"",
                              c->items[json_integer_value(other)].name, it->name, it->key);
        else if (strcmp(it->key, "__metadata__") == 0)
            status = fdl_fail(FDL_E_ARG, "fdl_ckpt_save: the file itself uses the name \"__metadata__\"");
        else if (json_object_set_new(seen, it->key, json_integer(i)) != 0)
            status = fdl_fail(FDL_E_ARG, "fdl_ckpt_save: the name \"%.200s\" is not UTF-8", it->name);
    }
    json_decref(seen);
    return status;
}

/* Larger elements first, otherwise in order: so every tensor is aligned to its elements without gaps. */
static int by_element_size(const contents *c, fdl_dtype dtype, const char **names, fdl_tensor **tensors)
{
    int n = 0;
    for (int size = 8; size; size /= 2)
        for (int i = 0; i < c->n; i++) {
            fdl_tensor *t = fdl_param_tensor(c->items[i].p);
            bool converted = dtype != FDL_DTYPE_DEFAULT && fdl_dtype_is_floating(fdl_dtype_of(t));
            if (fdl_dtype_size(converted ? dtype : fdl_dtype_of(t)) != size)
                continue;
            names[n] = c->items[i].key;
            tensors[n++] = t;
        }
    return n;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

fdl_status fdl_ckpt_save_opt(fdl_module *m, const char *path, const fdl_ckpt_save_opts *opts)
{
    static const fdl_ckpt_save_opts none = {0};
    const fdl_ckpt_save_opts *o = opts ? opts : &none;
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_save", m ? "path" : "m");
    if (o->dtype != FDL_DTYPE_DEFAULT && !fdl_dtype_is_floating(o->dtype))
        return fdl_fail(FDL_E_DTYPE,
                        "fdl_ckpt_save: .dtype is %s; floating tensors can be saved in a floating dtype",
                        fdl_dtype_name(o->dtype));
    bool packed = ends_in(path, ".gz");
    if (o->level < 0 || o->level > 9 || (o->level && !packed))
        return fdl_fail(
            FDL_E_ARG,
            "fdl_ckpt_save: .level is %d, the path '%s'; a level of 1 to 9 goes with a name in .gz", o->level,
            path);
    FDL_SCOPE;
    FDL_NO_GRAD;
    contents c = {0};
    FDL_TRY(contents_of(&c, m));
    FDL_TRY(check_keys(&c));
    const char **names = fdl_scope_alloc(sizeof *names * (size_t)(c.n + 1));
    fdl_tensor **tensors = fdl_scope_alloc(sizeof *tensors * (size_t)(c.n + 1));
    if (!names || !tensors)
        return fdl_error_pending();
    int n = by_element_size(&c, o->dtype, names, tensors);
    if (n != c.n)
        return fdl_fail(FDL_E_DTYPE, "fdl_ckpt_save: a tensor has a dtype that the file can't hold");
    json_t *metadata = json_object();
    fdl_status status = own_meta(metadata, &c);
    if (status == FDL_OK)
        status = user_meta(metadata, o->meta);
    if (status == FDL_OK)
        status = st_save(path, metadata, n, names, tensors, o->dtype, !packed ? 0 : o->level ? o->level : 6);
    json_decref(metadata);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save: ");
    return status;
}

/* ---- loading: which entry is whose --------------------------------------------------------------------- */

enum { LOADED, MISSING, SKIPPED, CAST, MISMATCHED, LISTS };
static const char *const list_names[] = {"loaded", "missing", "skipped", "cast", "mismatched"};

/* The names of a report while it is made; owned. */
typedef struct names {
    char **at;
    int n, room;
} names;

static fdl_status note(names *list, const char *name)
{
    if (list->n == list->room) {
        int room = list->room ? 2 * list->room : 16;
        char **more = realloc(list->at, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail(FDL_E_OOM, "fdl_ckpt_load: memory ran out");
        list->at = more;
        list->room = room;
    }
    list->at[list->n] = malloc(strlen(name) + 1);
    if (!list->at[list->n])
        return fdl_fail(FDL_E_OOM, "fdl_ckpt_load: memory ran out");
    memcpy(list->at[list->n++], name, strlen(name) + 1);
    return FDL_OK;
}

typedef struct load {
    const fdl_ckpt_load_opts *o;
    st_file file;
    json_t *aliases; /* the file's: name -> stored name */
    bool *used;      /* one an entry of the file */
    contents c;
    names lists[LISTS];
} load;

/* The file's entry of that name behind the prefix. */
static const st_entry *find(const load *l, const char *name)
{
    if (!l->o->prefix)
        return st_find(&l->file, name);
    size_t k = strlen(l->o->prefix), n = strlen(name);
    char *whole = fdl_scope_alloc(k + n + 1);
    if (!whole)
        return NULL;
    memcpy(whole, l->o->prefix, k);
    memcpy(whole + k, name, n + 1);
    return st_find(&l->file, whole);
}

/* The first that is there of: key, canonical name, other names of the same tensor, a name that the file has
 * as another name of a stored one, flat name. */
static const st_entry *entry_of(const load *l, int i)
{
    const item *it = &l->c.items[i];
    const st_entry *e = find(l, it->key);
    if (!e)
        e = find(l, it->name);
    for (int k = 0; !e && k < l->c.n_aliases; k++)
        if (l->c.aliases[k].item == i) {
            e = find(l, l->c.aliases[k].key);
            if (!e)
                e = find(l, l->c.aliases[k].name);
        }
    if (!e && l->aliases) {
        FDL_SCOPE;
        const char *prefix = l->o->prefix ? l->o->prefix : "";
        size_t size = strlen(prefix) + strlen(it->key) + 1;
        char *whole = fdl_scope_alloc(size);
        if (!whole)
            return NULL;
        snprintf(whole, size, "%s%s", prefix, it->key);
        const char *stored = json_string_value(json_object_get(l->aliases, whole));
        e = stored ? st_find(&l->file, stored) : NULL;
    }
    return e ? e : find(l, it->flat);
}

static void mark(load *l, const st_entry *e)
{
    if (e)
        l->used[e - l->file.entries] = true;
}

static fdl_status match(load *l)
{
    for (int i = 0; i < l->c.n; i++) {
        item *it = &l->c.items[i];
        const st_entry *e = entry_of(l, i);
        fdl_tensor *t = fdl_param_tensor(it->p);
        mark(l, e);
        it->entry = e;
        it->fits = e && fdl_shape_eq(e->shape, fdl_shape_of(t));
        FDL_TRY(note(&l->lists[it->fits ? LOADED : e ? MISMATCHED : MISSING], it->name));
        if (it->fits && e->dtype != fdl_dtype_of(t))
            FDL_TRY(note(&l->lists[CAST], it->name));
    }
    for (int k = 0; k < l->c.n_aliases; k++) /* a tied tensor that the file has under each name */
        mark(l, find(l, l->c.aliases[k].key));
    size_t prefix = l->o->prefix ? strlen(l->o->prefix) : 0;
    for (int i = 0; i < l->file.n; i++) {
        const char *name = l->file.entries[i].name;
        if (!l->used[i] && strncmp(name, l->o->prefix ? l->o->prefix : "", prefix) == 0)
            FDL_TRY(note(&l->lists[SKIPPED], name));
    }
    return FDL_OK;
}

/* ---- loading: whether it may be ------------------------------------------------------------------------ */

static char *shape_text(fdl_shape s, char *buf, size_t n)
{
    size_t used = (size_t)snprintf(buf, n, "[");
    for (int d = 0; d < s.ndim && used < n; d++)
        used += (size_t)snprintf(buf + used, n - used, "%s%lld", d ? ", " : "", (long long)s.d[d]);
    if (used < n)
        snprintf(buf + used, n - used, "]");
    return buf;
}

/* " missing: a, b and 3 more" */
static void list_text(const load *l, int which, char *buf, size_t n)
{
    const names *list = &l->lists[which];
    size_t used = 0;
    buf[0] = '\0';
    for (int i = 0; i < list->n && i < 20 && used < n; i++)
        used += (size_t)snprintf(buf + used, n - used, "%s%s", i ? ", " : "", list->at[i]);
    if (list->n > 20 && used < n)
        snprintf(buf + used, n - used, " and %d more", list->n - 20);
}

static fdl_status check(const load *l)
{
    for (int i = 0; i < l->c.n && !l->o->allow_mismatched; i++) {
        const item *it = &l->c.items[i];
        char a[256], b[256];
        if (it->entry && !it->fits)
            return fdl_fail(FDL_E_MISMATCH, "\"%.200s\" is %s in the file and %s in the module", it->name,
                            shape_text(it->entry->shape, a, sizeof a),
                            shape_text(fdl_shape_of(fdl_param_tensor(it->p)), b, sizeof b));
    }
    if (l->o->partial)
        return FDL_OK;
    int missing = l->lists[MISSING].n, skipped = l->o->allow_unexpected ? 0 : l->lists[SKIPPED].n;
    if (!missing && !skipped)
        return FDL_OK;
    char a[1024] = "", b[1024] = "";
    list_text(l, MISSING, a, sizeof a);
    if (skipped)
        list_text(l, SKIPPED, b, sizeof b);
    return fdl_fail(FDL_E_MISMATCH, "the file%s%s%s%s%s%s", missing ? " lacks " : "", a,
                    missing && skipped ? "; it" : "", skipped ? " has, and the module doesn't, " : "", b,
                    missing ? "; .partial keeps what is missing" : "; .allow_unexpected leaves it out");
}

/* Everything is read before anything is written. */
static fdl_status copy(const load *l)
{
    fdl_tensor **read = fdl_scope_alloc(sizeof *read * (size_t)(l->c.n + 1));
    if (!read)
        return fdl_error_pending();
    for (int i = 0; i < l->c.n; i++)
        if (l->c.items[i].fits && !(read[i] = st_read(&l->file, l->c.items[i].entry)))
            return fdl_error_pending();
    for (int i = 0; i < l->c.n; i++)
        if (read[i])
            FDL_TRY(fdl_param_set(l->c.items[i].p, read[i]));
    return FDL_OK;
}

static fdl_status run(load *l, fdl_module *m)
{
    FDL_SCOPE;
    FDL_TRY(contents_of(&l->c, m));
    l->used = fdl_scope_alloc(sizeof *l->used * (size_t)(l->file.n + 1));
    if (!l->used)
        return fdl_error_pending();
    const char *aliases = st_meta(&l->file, "fdl.aliases");
    if (aliases) {
        json_error_t error;
        l->aliases = json_loads(aliases, JSON_REJECT_DUPLICATES, &error);
        if (!json_is_object(l->aliases))
            return fdl_fail(FDL_E_FORMAT,
                            "'%s': entry \"__metadata__\" has fdl.aliases that are no JSON object",
                            l->file.path);
    }
    FDL_TRY(match(l));
    fdl_status status = check(l);
    if (status == FDL_OK)
        return copy(l);
    fdl_error_prefix("'%s': ", l->file.path);
    return status;
}

/* ---- the report ---------------------------------------------------------------------------------------- */

static fdl_status report(const load *l, fdl_load_report *r)
{
    const char **lists[LISTS];
    for (int k = 0; k < LISTS; k++) {
        const names *list = &l->lists[k];
        lists[k] = fdl_scope_alloc(sizeof *lists[k] * (size_t)(list->n + 1));
        for (int i = 0; lists[k] && i < list->n; i++) {
            char *name = fdl_scope_alloc(strlen(list->at[i]) + 1);
            if (!name)
                return fdl_error_pending();
            lists[k][i] = memcpy(name, list->at[i], strlen(list->at[i]) + 1);
        }
        if (!lists[k])
            return fdl_error_pending();
    }
    *r = (fdl_load_report){.n_loaded = l->lists[LOADED].n,
                           .n_missing = l->lists[MISSING].n,
                           .n_skipped = l->lists[SKIPPED].n,
                           .n_cast = l->lists[CAST].n,
                           .n_mismatched = l->lists[MISMATCHED].n,
                           .loaded = lists[LOADED],
                           .missing = lists[MISSING],
                           .skipped = lists[SKIPPED],
                           .cast = lists[CAST],
                           .mismatched = lists[MISMATCHED]};
    return FDL_OK;
}

fdl_status fdl_ckpt_load_opt(fdl_module *m, const char *path, const fdl_ckpt_load_opts *opts)
{
    static const fdl_ckpt_load_opts none = {0};
    load l = {.o = opts ? opts : &none};
    if (l.o->report)
        *l.o->report = (fdl_load_report){0};
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_load", m ? "path" : "m");
    fdl_status status = st_open(&l.file, path);
    if (status == FDL_OK) {
        status = run(&l, m);
        if (l.o->report) {
            fdl_status reported = report(&l, l.o->report);
            status = status == FDL_OK ? reported : status;
        }
        st_close(&l.file);
    }
    json_decref(l.aliases);
    for (int k = 0; k < LISTS; k++) {
        for (int i = 0; i < l.lists[k].n; i++)
            free(l.lists[k].at[i]);
        free(l.lists[k].at);
    }
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_load: ");
    return status;
}

fdl_status fdl_load_report_print(const fdl_load_report *r, FILE *file)
{
    if (!r || !file)
        return fdl_null_operand("fdl_load_report_print", r ? "file" : "report");
    const int n[LISTS] = {r->n_loaded, r->n_missing, r->n_skipped, r->n_cast, r->n_mismatched};
    const char *const *const at[LISTS] = {r->loaded, r->missing, r->skipped, r->cast, r->mismatched};
    bool good = true;
    for (int k = 0; k < LISTS; k++) {
        if (n[k])
            good = fprintf(file, "%s (%d)\n", list_names[k], n[k]) > 0 && good;
        for (int i = 0; i < n[k]; i++)
            good = fprintf(file, "  %s\n", at[k][i]) > 0 && good;
    }
    return good ? FDL_OK : fdl_fail(FDL_E_IO, "fdl_load_report_print: the report can't be written");
}
