/* Saving checkpoints: which tensors of a module go to which names of a file, and what else goes with them. */
#include "ckpt_private.h"
#include "flodl/ckpt_file.h"

#include <time.h>
#include <unistd.h>

/* ---- a module's tensors and their names ------------------------------------------------------------ */

static const char *key_of(const char *name)
{
    size_t size = strlen(name) + 1;
    char *key = fdl_scope_alloc(size);
    return key && fdl_state_key(name, key, size) == FDL_OK ? key : NULL;
}

/* Lists of one module in the same order, each with its own names. */
typedef struct lists {
    const fdl_params *canonical, *flat, *sequential, *every;
} lists;

static fdl_status add_items(ckpt_contents *c, const lists *l)
{
    int first = c->n, n = fdl_params_count(l->canonical), all = fdl_params_count(l->every);
    if (n < 0 || all < 0 || fdl_params_count(l->flat) < 0 || fdl_params_count(l->sequential) < 0)
        return fdl_error_pending();
    for (int i = 0; i < n; i++) {
        ckpt_item it = {.p = fdl_params_at(l->canonical, i),
                        .name = fdl_params_name(l->canonical, i),
                        .flat = fdl_params_name(l->flat, i),
                        .sequential = fdl_params_name(l->sequential, i)};
        it.key = key_of(it.name);
        if (!it.key)
            return fdl_error_pending();
        c->items[c->n++] = it;
    }
    for (int k = 0; n < all && k < all; k++) {
        const char *name = fdl_params_name(l->every, k);
        const void *id = fdl_identity(fdl_param_tensor(fdl_params_at(l->every, k)));
        int i = first;
        while (i < c->n && fdl_identity(fdl_param_tensor(c->items[i].p)) != id)
            i++;
        if (i == c->n || strcmp(c->items[i].name, name) == 0)
            continue;
        ckpt_alias a = {i, name, key_of(name)};
        if (!a.key)
            return fdl_error_pending();
        c->aliases[c->n_aliases++] = a;
    }
    return FDL_OK;
}

fdl_status ckpt_contents_of(ckpt_contents *c, fdl_module *m)
{
    lists p = {fdl_parameters(m), fdl_parameters(m, .flat = true), fdl_parameters(m, .sequential = true),
               fdl_parameters(m, .every = true)};
    lists b = {fdl_buffers(m), fdl_buffers(m, .flat = true), fdl_buffers(m, .sequential = true),
               fdl_buffers(m, .every = true)};
    int n = fdl_params_count(p.every), k = fdl_params_count(b.every);
    if (n < 0 || k < 0)
        return fdl_error_pending();
    *c = (ckpt_contents){.items = fdl_scope_alloc(sizeof *c->items * (size_t)(n + k + 1)),
                         .aliases = fdl_scope_alloc(sizeof *c->aliases * (size_t)(n + k + 1))};
    if (!c->items || !c->aliases)
        return fdl_error_pending();
    FDL_TRY(add_items(c, &p));
    return add_items(c, &b);
}

static fdl_status add_legacy(ckpt_contents *c, const fdl_params *ps, int *i)
{
    int n = fdl_params_count(ps);
    if (n < 0)
        return fdl_error_pending();
    for (int k = 0; k < n; k++) {
        const fdl_param *p = fdl_params_at(ps, k);
        while (*i < c->n && c->items[*i].p != p)
            ++*i;
        if (*i == c->n || c->items[*i].parts == 3)
            return fdl_fail(FDL_E_STATE, "the lists of parameters differ");
        c->items[*i].legacy[c->items[*i].parts++] = fdl_params_name(ps, k);
    }
    return FDL_OK;
}

fdl_status ckpt_legacy_names(ckpt_contents *c, fdl_module *m)
{
    int i = 0; /* both lists are in order */
    FDL_TRY(add_legacy(c, fdl_parameters(m, .flat = true, .legacy = true), &i));
    return add_legacy(c, fdl_buffers(m, .flat = true, .legacy = true), &i);
}

/* ---- metadata -------------------------------------------------------------------------------------- */

fdl_status ckpt_put_meta(json_t *to, const char *key, const char *value)
{
    return json_object_set_new(to, key, json_string(value)) == 0
               ? FDL_OK
               : fdl_fail(FDL_E_ARG, "\"%.100s\" or its text is not UTF-8", key);
}

fdl_status ckpt_put_user_meta(json_t *to, const fdl_meta *meta)
{
    for (; meta && meta->key; meta++) {
        if (!meta->value)
            return fdl_fail(FDL_E_NULL, ".meta has no text for \"%.100s\"", meta->key);
        if (strcmp(meta->key, "format") == 0 || strncmp(meta->key, "fdl.", 4) == 0 ||
            ckpt_is_training(meta->key))
            return fdl_fail(FDL_E_ARG, ".meta has \"%.100s\", a key that the file itself uses", meta->key);
        FDL_TRY(ckpt_put_meta(to, meta->key, meta->value));
    }
    return FDL_OK;
}

fdl_status ckpt_content_new(ckpt_content *c, int n, fdl_dtype dtype)
{
    *c = (ckpt_content){.room = n,
                        .keys = fdl_scope_alloc(sizeof *c->keys * (size_t)(n + 1)),
                        .at = fdl_scope_alloc(sizeof *c->at * (size_t)(n + 1)),
                        .dtype = dtype,
                        .metadata = json_object()};
    if (!c->keys || !c->at)
        return fdl_error_pending();
    char now[32] = "";
    time_t t = time(NULL);
    struct tm tm;
    if (gmtime_r(&t, &tm))
        strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    FDL_TRY(ckpt_put_meta(c->metadata, "format", "pt"));
    FDL_TRY(ckpt_put_meta(c->metadata, "fdl.version", "3"));
    return ckpt_put_meta(c->metadata, "fdl.saved_at", now);
}

fdl_status ckpt_add(ckpt_content *c, const char *key, fdl_tensor *t)
{
    if (!key || !t)
        return fdl_error_pending();
    if (c->n == c->room) {
        int room = 2 * c->room + 64;
        const char **keys = fdl_scope_alloc(sizeof *keys * (size_t)room);
        fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)room);
        if (!keys || !at)
            return fdl_error_pending();
        for (int i = 0; i < c->n; i++) {
            keys[i] = c->keys[i];
            at[i] = c->at[i];
        }
        c->keys = keys;
        c->at = at;
        c->room = room;
    }
    c->keys[c->n] = key;
    c->at[c->n++] = t;
    return FDL_OK;
}

static fdl_status put_aliases(json_t *to, const ckpt_contents *c)
{
    if (!c->n_aliases)
        return FDL_OK;
    json_t *aliases = json_object();
    fdl_status status = FDL_OK;
    for (int i = 0; status == FDL_OK && i < c->n_aliases; i++)
        status = ckpt_put_meta(aliases, c->aliases[i].key, c->items[c->aliases[i].item].key);
    char *text = status == FDL_OK ? json_dumps(aliases, JSON_COMPACT) : NULL;
    json_decref(aliases);
    FDL_TRY(status);
    status = text ? ckpt_put_meta(to, "fdl.aliases", text) : fdl_fail(FDL_E_OOM, "memory ran out");
    free(text);
    return status;
}

static fdl_status put_graph(json_t *to, fdl_module *m)
{
    if (!fdl_module_is_graph(m))
        return FDL_OK;
    const char *hash = fdl_graph_hash(m), *config = fdl_graph_source_config(m);
    if (!hash)
        return fdl_error_pending();
    FDL_TRY(ckpt_put_meta(to, "fdl.hash", hash));
    return config ? ckpt_put_meta(to, "fdl.source_config", config) : FDL_OK;
}

/* ---- arranging ------------------------------------------------------------------------------------- */

static fdl_status check_keys(const ckpt_content *c)
{
    json_t *seen = json_object();
    fdl_status status = FDL_OK;
    for (int i = 0; status == FDL_OK && i < c->n; i++) {
        const char *key = c->keys[i];
        if (strcmp(key, "__metadata__") == 0)
            status = fdl_fail(FDL_E_ARG, "the file itself uses the name \"__metadata__\"");
        else if (json_object_get(seen, key))
            status = fdl_fail(FDL_E_ARG, "two tensors would be saved as \"%.200s\"", key);
        else if (json_object_set_new(seen, key, json_integer(i)) != 0)
            status = fdl_fail(FDL_E_ARG, "the name \"%.200s\" is not UTF-8", key);
    }
    json_decref(seen);
    return status;
}

fdl_status ckpt_arrange(ckpt_content *c)
{
    const char **keys = fdl_scope_alloc(sizeof *keys * (size_t)(c->n + 1));
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(c->n + 1));
    if (!keys || !at)
        return fdl_error_pending();
    FDL_TRY(check_keys(c));
    int n = 0;
    for (int size = 8; size; size /= 2)
        for (int i = 0; i < c->n; i++) {
            if (fdl_dtype_size(ckpt_saved_dtype(c, i)) != size)
                continue;
            keys[n] = c->keys[i];
            at[n++] = c->at[i];
        }
    if (n != c->n)
        return fdl_fail(FDL_E_DTYPE, "a tensor has a dtype that the file can't hold");
    c->keys = keys;
    c->at = at;
    return FDL_OK;
}

/* ---- writing --------------------------------------------------------------------------------------- */

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* A file that PyTorch's users would hand to torch.load. */
static fdl_status check_ending(const char *path)
{
    for (int i = 0; i < 4; i++) {
        const char *end = (const char *const[]){".pt", ".pth", ".pt.gz", ".pth.gz"}[i];
        if (path && ends_in(path, end))
            return fdl_fail(
                FDL_E_ARG,
                "'%s' ends in %s: torch.save's format is read, not written; a file is safetensors under "
                "any other name, such as .safetensors (safetensors.torch.load_file reads it) or .fdl",
                path, end);
    }
    return FDL_OK;
}

fdl_status ckpt_check_save(const fdl_ckpt_save_opts *o, const char *path)
{
    FDL_TRY(check_ending(path));
    bool packed = !path || ends_in(path, ".gz");
    if (o->dtype != FDL_DTYPE_DEFAULT && !fdl_dtype_is_floating(o->dtype))
        return fdl_fail(FDL_E_DTYPE, ".dtype is %s; floating tensors can be saved in a floating dtype",
                        fdl_dtype_name(o->dtype));
    if (o->level < 0 || o->level > 9 || (o->level && !packed))
        return fdl_fail(FDL_E_ARG, ".level is %d, the path '%s'; a level of 1 to 9 goes with a name in .gz",
                        o->level, path ? path : "(a writer)");
    if (o->shard_bytes < 0)
        return fdl_fail(FDL_E_ARG, ".shard_bytes is %lld, must be at least 0", (long long)o->shard_bytes);
    if (o->shard_bytes && packed)
        return fdl_fail(FDL_E_ARG, ".shard_bytes goes with a path without .gz");
    return ckpt_check_keep(path, o->keep_last);
}

char *ckpt_config_path(const char *path)
{
    size_t n = strlen(path) - (ends_in(path, ".gz") ? 3 : 0);
    const char *slash = strrchr(path, '/');
    size_t name = slash ? (size_t)(slash - path) + 1 : 0;
    for (size_t i = n; i > name + 1; i--)
        if (path[i - 1] == '.') {
            n = i - 1;
            break;
        }
    char *out = malloc(n + sizeof ".config.json");
    if (!out)
        return fdl_fail_null(FDL_E_OOM, "no memory to write '%s'", path);
    memcpy(out, path, n);
    memcpy(out + n, ".config.json", sizeof ".config.json");
    return out;
}

static fdl_status write_one(const char *path, const ckpt_content *c, int level)
{
    fdl_file *file = fdl_file_create(path);
    if (!file)
        return fdl_error_pending();
    fdl_status status = ckpt_write_safetensors(file, NULL, c, level);
    if (status != FDL_OK) {
        fdl_file_discard(file);
        return status;
    }
    FDL_TRY(fdl_file_commit(file));
    ckpt_forget_shards(path);
    return FDL_OK;
}

static fdl_status write_at(const char *path, ckpt_content *c, const fdl_ckpt_save_opts *o)
{
    int64_t total = 0;
    for (int i = 0; i < c->n; i++)
        total += ckpt_saved_bytes(c, i);
    if (o->shard_bytes && total > o->shard_bytes)
        return ckpt_write_shards(path, c, o->shard_bytes);
    return write_one(path, c, !ends_in(path, ".gz") ? 0 : o->level ? o->level : 6);
}

/* The text for the file beside, written but not yet in its place; NULL: the error is set. */
static fdl_file *write_config(const char *path, const char *config)
{
    char *beside = ckpt_config_path(path);
    fdl_file *file = beside ? fdl_file_create(beside) : NULL;
    free(beside);
    if (file && fdl_file_write(file, config, strlen(config)) != FDL_OK) {
        fdl_file_discard(file);
        return NULL;
    }
    return file;
}

fdl_status ckpt_write(ckpt_content *c, const char *path, const fdl_writer *to, const fdl_ckpt_save_opts *o,
                      const char *config)
{
    FDL_TRY(ckpt_arrange(c));
    if (!path)
        return ckpt_write_safetensors(NULL, to, c, o->level);
    fdl_file *beside = config ? write_config(path, config) : NULL;
    if (config && !beside)
        return fdl_error_pending();
    fdl_status status = write_at(path, c, o);
    if (status != FDL_OK) {
        fdl_file_discard(beside);
        return status;
    }
    if (beside)
        FDL_TRY(fdl_file_commit(beside));
    return o->keep_last ? ckpt_keep_last(path, o->keep_last) : FDL_OK;
}

/* ---- saving a module ------------------------------------------------------------------------------- */

static fdl_status check_names(const ckpt_contents *c)
{
    json_t *seen = json_object();
    fdl_status status = FDL_OK;
    for (int i = 0; status == FDL_OK && i < c->n; i++) {
        json_t *other = json_object_get(seen, c->items[i].key);
        if (other)
            status = fdl_fail(FDL_E_ARG, "\"%.200s\" and \"%.200s\" would both be saved as \"%.200s\"",
                              c->items[json_integer_value(other)].name, c->items[i].name, c->items[i].key);
        else
            json_object_set_new_nocheck(seen, c->items[i].key, json_integer(i));
    }
    json_decref(seen);
    return status;
}

fdl_status ckpt_content_of(ckpt_content *c, fdl_module *m, fdl_dtype dtype, const fdl_meta *meta)
{
    ckpt_contents contents;
    *c = (ckpt_content){0};
    FDL_TRY(ckpt_contents_of(&contents, m));
    FDL_TRY(check_names(&contents));
    FDL_TRY(ckpt_content_new(c, contents.n, dtype));
    for (int i = 0; i < contents.n; i++) {
        c->keys[c->n] = contents.items[i].key;
        c->at[c->n++] = fdl_param_tensor(contents.items[i].p);
    }
    FDL_TRY(put_aliases(c->metadata, &contents));
    FDL_TRY(put_graph(c->metadata, m));
    return ckpt_put_user_meta(c->metadata, meta);
}

static fdl_status save(fdl_module *m, const char *path, const fdl_writer *to, const fdl_ckpt_save_opts *o)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    ckpt_content c;
    FDL_TRY(ckpt_check_save(o, path));
    if (o->skip_if_busy || o->skipped)
        return fdl_fail(FDL_E_ARG, ".skip_if_busy and .skipped are fdl_ckpt_save_async's");
    fdl_status status = ckpt_content_of(&c, m, o->dtype, o->meta);
    if (status == FDL_OK)
        status = ckpt_put_training(&c, m, o);
    if (status == FDL_OK)
        status = ckpt_write(&c, path, to, o, fdl_module_is_graph(m) ? fdl_graph_source_config(m) : NULL);
    json_decref(c.metadata);
    return status;
}

fdl_status fdl_ckpt_save_opt(fdl_module *m, const char *path, const fdl_ckpt_save_opts *opts)
{
    if (!m || !path)
        return fdl_null_operand("fdl_ckpt_save", m ? "path" : "m");
    fdl_status status = save(m, path, NULL, opts ? opts : &(fdl_ckpt_save_opts){0});
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save: ");
    return status;
}

fdl_status fdl_ckpt_save_optim(const fdl_optim *o, const char *path)
{
    if (!o || !path)
        return fdl_null_operand(__func__, o ? "path" : "o");
    FDL_SCOPE;
    FDL_NO_GRAD;
    ckpt_content c;
    const fdl_ckpt_save_opts opts = {.optim = (fdl_optim *)(uintptr_t)o}; /* it stays as it is */
    fdl_status status = ckpt_content_new(&c, 0, FDL_DTYPE_DEFAULT);
    if (status == FDL_OK)
        status = ckpt_check_save(&opts, path);
    if (status == FDL_OK)
        status = ckpt_put_training(&c, NULL, &opts);
    if (status == FDL_OK)
        status = ckpt_write(&c, path, NULL, &opts, NULL);
    json_decref(c.metadata);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save_optim: ");
    return status;
}

static fdl_status add_named(ckpt_content *c, const char *const *names, fdl_list tensors)
{
    for (int i = 0; i < tensors.n; i++) {
        if (!names[i])
            return fdl_fail(FDL_E_ARG, "%d names for %d tensors", i, tensors.n);
        if (!tensors.at[i])
            return fdl_fail(FDL_E_NULL, "the tensor for \"%.200s\" is NULL", names[i]);
        FDL_TRY(ckpt_add(c, names[i], tensors.at[i]));
    }
    return names[tensors.n]
               ? fdl_fail(FDL_E_ARG, "%d tensors, and a name more: \"%.200s\"", tensors.n, names[tensors.n])
               : FDL_OK;
}

fdl_status fdl_ckpt_save_tensors_opt(const char *path, const char *const *names, fdl_list tensors,
                                     const fdl_ckpt_save_tensors_opts *opts)
{
    if (!path || !names || (tensors.n && !tensors.at))
        return fdl_null_operand("fdl_ckpt_save_tensors", !path ? "path" : !names ? "names" : "tensors");
    FDL_SCOPE;
    FDL_NO_GRAD;
    static const fdl_ckpt_save_tensors_opts none;
    const fdl_ckpt_save_tensors_opts *given = opts ? opts : &none;
    const fdl_ckpt_save_opts o = {.dtype = given->dtype, .level = given->level, .meta = given->meta};
    ckpt_content c;
    fdl_status status = ckpt_content_new(&c, tensors.n, o.dtype);
    if (status == FDL_OK)
        status = ckpt_check_save(&o, path);
    if (status == FDL_OK)
        status = ckpt_put_user_meta(c.metadata, o.meta);
    if (status == FDL_OK)
        status = add_named(&c, names, tensors);
    if (status == FDL_OK)
        status = ckpt_write(&c, path, NULL, &o, NULL);
    json_decref(c.metadata);
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save_tensors: ");
    return status;
}

fdl_status fdl_ckpt_save_to_opt(fdl_module *m, fdl_writer to, const fdl_ckpt_save_opts *opts)
{
    if (!m || !to.write)
        return fdl_null_operand("fdl_ckpt_save_to", m ? "to.write" : "m");
    fdl_status status = save(m, NULL, &to, opts ? opts : &(fdl_ckpt_save_opts){0});
    if (status != FDL_OK)
        fdl_error_prefix("fdl_ckpt_save_to: ");
    return status;
}
