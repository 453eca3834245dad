/* Saving in several files: the shards, and an index that says which name lies in which. New shards never take the names of
 * old ones, so that the index alone, which is replaced last, says which set counts: whatever is interrupted, the old set or
 * the new one is whole. */
#include "ckpt_private.h"

#include "flodl/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <unistd.h>

/* "model" and ".safetensors" of "model.safetensors". */
static size_t stem_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
    return dot && dot != name ? (size_t)(dot - path) : strlen(path);
}

/* Shard i of n: the path, owned. model-00001-of-00003.safetensors; in version 2 model-v2-00001-of-00003.safetensors. */
static char *shard_path(const char *path, int version, int i, int n)
{
    size_t stem = stem_of(path), size = strlen(path) + 64;
    char *out = malloc(size), of[24] = "";
    if (!out)
        return fdl_fail_null(FDL_E_OOM, "no memory to write '%s'", path);
    if (version > 1)
        snprintf(of, sizeof of, "-v%d", version);
    snprintf(out, size, "%.*s%s-%05d-of-%05d%s", (int)stem, path, of, i + 1, n, path + stem);
    return out;
}

/* The first version of a set of n of which no file is there; 0: the error is set. */
static int free_version(const char *path, int n)
{
    for (int version = 1;; version++) {
        bool taken = false;
        for (int i = 0; i < n && !taken; i++) {
            char *shard = shard_path(path, version, i, n);
            if (!shard)
                return 0;
            taken = access(shard, F_OK) == 0;
            free(shard);
        }
        if (!taken)
            return version;
    }
}

static const char *file_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- what earlier saves left ----------------------------------------------------------------------- */

static bool number(const char **at, const char *before, int least_digits, int *v)
{
    size_t k = strlen(before);
    if (strncmp(*at, before, k) != 0)
        return false;
    const char *digit = *at + k;
    int n = 0;
    *v = 0;
    for (; isdigit((unsigned char)*digit) && n < 9; digit++, n++)
        *v = 10 * *v + (*digit - '0');
    if (n < least_digits)
        return false;
    *at = digit;
    return true;
}

/* Whether name is a shard of path's set, of which version, and of how many. */
static bool is_shard(const char *name, const char *path, int *version, int *of)
{
    const char *own = file_of(path);
    size_t stem = stem_of(path) - (size_t)(own - path);
    int i;
    if (strncmp(name, own, stem) != 0)
        return false;
    const char *at = name + stem;
    if (!number(&at, "-v", 1, version))
        *version = 1;
    return number(&at, "-", 5, &i) && number(&at, "-of-", 5, of) && strcmp(at, own + stem) == 0;
}

static void remove_shards(const char *path, int keep_version, int keep)
{
    size_t folder = (size_t)(file_of(path) - path), room = strlen(path) + NAME_MAX + 16;
    char *at = malloc(room);
    if (!at)
        return;
    snprintf(at, room, "%.*s", (int)(folder ? folder : 1), folder ? path : ".");
    DIR *d = opendir(at);
    for (struct dirent *e; d && (e = readdir(d));) {
        int version, of;
        if (!is_shard(e->d_name, path, &version, &of) || (version == keep_version && of == keep))
            continue;
        snprintf(at, room, "%.*s%s", (int)folder, path, e->d_name);
        unlink(at);
    }
    if (d)
        closedir(d);
    free(at);
}

static char *index_path_of(const char *path)
{
    size_t size = strlen(path) + sizeof ".index.json";
    char *index = malloc(size);
    if (!index)
        return fdl_fail_null(FDL_E_OOM, "no memory to write '%s'", path);
    snprintf(index, size, "%s.index.json", path);
    return index;
}

/* Whether an index is there that this library wrote: what another one names is somebody's, and stays. */
static bool is_own_index(const char *index_path)
{
    json_error_t error;
    json_t *index = json_load_file(index_path, 0, &error);
    bool own = json_is_string(json_object_get(json_object_get(index, "metadata"), "fdl.set"));
    json_decref(index);
    return own;
}

void ckpt_forget_shards(const char *path)
{
    size_t size = strlen(path) + sizeof ".index.json";
    char *index = malloc(size);
    if (!index)
        return;
    snprintf(index, size, "%s.index.json", path);
    if (is_own_index(index) && unlink(index) == 0)
        remove_shards(path, 0, 0);
    free(index);
}

/* ---- writing --------------------------------------------------------------------------------------- */

typedef struct set {
    const char *path;
    int version, n;  /* n shards */
    int *first;      /* shard i: tensors first[i] to first[i + 1] */
    fdl_file **file; /* written, not yet in its place */
    json_t *map;     /* name -> file */
    int64_t total;
} set;

/* Cuts the tensors, in their order, where a shard would become too large. */
static void cut(set *s, const ckpt_content *c, int64_t shard_bytes)
{
    int64_t in_shard = 0;
    s->n = 0;
    for (int i = 0; i < c->n; i++) {
        int64_t bytes = ckpt_saved_bytes(c, i);
        if (i == 0 || in_shard + bytes > shard_bytes) {
            s->first[s->n++] = i;
            in_shard = 0;
        }
        in_shard += bytes;
        s->total += bytes;
    }
    s->first[s->n] = c->n;
}

static fdl_status write_shard(set *s, const ckpt_content *c, int i)
{
    char *path = shard_path(s->path, s->version, i, s->n);
    if (!path)
        return fdl_error_pending();
    ckpt_content part = {.n = s->first[i + 1] - s->first[i],
                         .keys = c->keys + s->first[i],
                         .at = c->at + s->first[i],
                         .dtype = c->dtype,
                         .metadata = c->metadata};
    fdl_status status = FDL_OK;
    for (int k = 0; k < part.n && status == FDL_OK; k++)
        if (json_object_set_new(s->map, part.keys[k], json_string(file_of(path))) != 0)
            status = fdl_fail(FDL_E_OOM, "no memory for an index of %d tensors", c->n);
    s->file[i] = status == FDL_OK ? fdl_file_create(path) : NULL;
    status = s->file[i] ? ckpt_write_safetensors(s->file[i], NULL, &part, 0) : fdl_error_pending();
    free(path);
    return status;
}

/* The index, owned (free). */
static char *index_text(const set *s, const ckpt_content *c)
{
    json_t *metadata = json_copy(c->metadata), *index = json_object();
    char *text = NULL;
    if (json_object_set_new(metadata, "total_size", json_integer(s->total)) == 0 &&
        json_object_set(index, "metadata", metadata) == 0 &&
        json_object_set(index, "weight_map", s->map) == 0)
        text = json_dumps(index, JSON_INDENT(2));
    json_decref(metadata);
    json_decref(index);
    if (!text)
        fdl_fail(FDL_E_OOM, "no memory for an index of %d tensors", c->n);
    return text;
}

/* Of a set that came to nothing. */
static void remove_first(const set *s, int n)
{
    for (int i = 0; i < n; i++) {
        char *path = shard_path(s->path, s->version, i, s->n);
        if (path)
            unlink(path);
        free(path);
    }
}

/* The set's name in every file of it, so that files of two saves aren't taken for one. */
static fdl_status name_set(const ckpt_content *c)
{
    char name[64];
    snprintf(name, sizeof name, "%.9f-%ld", fdl_now_utc(), (long)getpid());
    return ckpt_put_meta(c->metadata, "fdl.set", name);
}

static fdl_status write_set(set *s, const ckpt_content *c, const char *index_path)
{
    FDL_TRY(name_set(c));
    for (int i = 0; i < s->n; i++)
        FDL_TRY(write_shard(s, c, i));
    char *text = index_text(s, c);
    if (!text)
        return fdl_error_pending();
    fdl_file *index = fdl_file_create(index_path);
    fdl_status status = index ? fdl_file_write(index, text, strlen(text)) : fdl_error_pending();
    free(text);
    int there = 0;
    while (status == FDL_OK && there < s->n) {
        status = fdl_file_commit(s->file[there]);
        s->file[there] = NULL;
        there += status == FDL_OK;
    }
    if (status == FDL_OK)
        status = fdl_file_commit(index);
    else
        fdl_file_discard(index);
    if (status != FDL_OK)
        remove_first(s, there);
    return status;
}

fdl_status ckpt_write_shards(const char *path, const ckpt_content *c, int64_t shard_bytes)
{
    set s = {.path = path, .map = json_object()};
    s.first = malloc(sizeof *s.first * (size_t)(c->n + 1));
    char *index_path = index_path_of(path);
    bool own = index_path && is_own_index(index_path);
    if (s.first) {
        cut(&s, c, shard_bytes);
        s.version = free_version(path, s.n);
    }
    s.file = s.first ? calloc((size_t)s.n + 1, sizeof *s.file) : NULL;
    fdl_status status =
        s.file && index_path && s.map ? FDL_OK : fdl_fail(FDL_E_OOM, "no memory to write '%s'", path);
    if (status == FDL_OK) {
        status = write_set(&s, c, index_path);
    }
    for (int i = 0; s.file && i < s.n; i++)
        fdl_file_discard(s.file[i]);
    if (status == FDL_OK) {
        unlink(path); /* one whole file of an earlier save */
        if (own)
            remove_shards(path, s.version, s.n);
    }
    json_decref(s.map);
    free(index_path);
    free(s.file);
    free(s.first);
    return status;
}
