/* Sharded files: a JSON index {"metadata": {...}, "weight_map": {name: file}} beside the files that it names, each of
 * any format that can be read. */
#include "source.h"

enum { MOST_SHARDS = 100000 };

typedef struct shards {
    int n;
    source *at;
} shards;

static void close_shards(source *s)
{
    shards *all = s->self;
    for (int i = 0; i < all->n; i++)
        source_close(&all->at[i]);
    free(all->at);
    free(all);
}

/* begin: the shard; end: the place in its entries. */
static fdl_tensor *read_shard(const source *s, const source_entry *e)
{
    const source *shard = &((const shards *)s->self)->at[e->begin];
    return source_read(shard, &shard->entries[e->end]);
}

static const source_type index_type = {.read = read_shard, .close = close_shards};

/* The index is JSON; its numbers (total_size) are made strings. */
static fdl_status take_metadata(source *s, json_t *metadata)
{
    const char *key;
    json_t *value;
    s->metadata = json_object();
    json_object_foreach(metadata, key, value)
    {
        char *dumped = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        const char *text = dumped ? dumped : json_string_value(value);
        int failed = text ? json_object_set_new_nocheck(s->metadata, key, json_string(text)) : -1;
        free(dumped);
        if (failed)
            return fdl_fail(FDL_E_OOM, "'%s': no memory for its metadata", s->path);
    }
    const char *hash = source_meta(s, "fdl.hash"), *version = source_meta(s, "fdl.version");
    if (version && strcmp(version, "3") != 0)
        return fdl_fail(FDL_E_FORMAT, "'%s' has version %.40s; this library reads an index of version 3",
                        s->path, version);
    s->version = version ? 3 : 0;
    if (hash && (strlen(hash) != 64 || strspn(hash, "0123456789abcdef") != 64))
        return fdl_fail(FDL_E_FORMAT, "'%s': fdl.hash is \"%.80s\", which is no hash", s->path, hash);
    if (hash)
        memcpy(s->hash, hash, sizeof s->hash);
    return FDL_OK;
}

/* The file of that name in the index's folder. */
static fdl_status open_shard(const source *s, const char *file, source *shard)
{
    if (!*file || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return fdl_fail(FDL_E_FORMAT, "'%s': \"%.200s\" is no file in its folder", s->path, file);
    const char *slash = strrchr(s->path, '/');
    size_t folder = slash ? (size_t)(slash - s->path) + 1 : 0, size = folder + strlen(file) + 1;
    char *path = malloc(size);
    if (!path)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for its shards", s->path);
    memcpy(path, s->path, folder);
    memcpy(path + folder, file, size - folder);
    fdl_status status = source_open_shard(shard, path);
    free(path);
    FDL_TRY(status);
    const char *mine = source_meta(s, "fdl.set"), *its = source_meta(shard, "fdl.set");
    if (!mine || (its && strcmp(mine, its) == 0))
        return FDL_OK;
    source_close(shard);
    return fdl_fail(
        FDL_E_FORMAT,
        "'%s': \"%.200s\" was saved at another time than the index: a save of the set didn't come to its "
        "end",
        s->path, file);
}

/* The place of that file among the shards; opened when it is met first. */
static fdl_status shard_of(source *s, json_t *places, const char *file, int *k)
{
    shards *all = s->self;
    json_t *place = json_object_get(places, file);
    *k = place ? (int)json_integer_value(place) : all->n;
    if (place)
        return FDL_OK;
    if (all->n == MOST_SHARDS)
        return fdl_fail(FDL_E_FORMAT, "'%s' has more than %d shards", s->path, (int)MOST_SHARDS);
    if ((all->n & (all->n - 1)) == 0) { /* full: 0, 1, 2, 4, ... */
        source *more = realloc(all->at, sizeof *more * (size_t)(all->n ? 2 * all->n : 1));
        if (!more)
            return fdl_fail(FDL_E_OOM, "'%s': no memory for its shards", s->path);
        all->at = more;
    }
    FDL_TRY(open_shard(s, file, &all->at[all->n]));
    all->n++;
    return json_object_set_new(places, file, json_integer(*k)) == 0
               ? FDL_OK
               : fdl_fail(FDL_E_OOM, "'%s': no memory for its shards", s->path);
}

static fdl_status take_map(source *s, json_t *map, json_t *places)
{
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        int k;
        if (!json_is_string(file))
            return source_bad_entry(s, name, "names no file");
        FDL_TRY(shard_of(s, places, json_string_value(file), &k));
        const source *shard = &((shards *)s->self)->at[k];
        const source_entry *in = source_find(shard, name);
        if (!in)
            return fdl_fail(FDL_E_FORMAT, "'%s': entry \"%.200s\" is not in \"%.200s\"", s->path, name,
                            json_string_value(file));
        source_entry *e = source_add(s, name);
        if (!e)
            return fdl_error_pending();
        *e = (source_entry){name, in->dtype, in->shape, (uint64_t)k, (uint64_t)(in - shard->entries)};
    }
    return source_done(s);
}

fdl_status index_open(source *s)
{
    if (s->bytes)
        return fdl_fail(FDL_E_FORMAT, "'%s' is an index of other files: load it by its path", s->path);
    if (s->size > SOURCE_MAX_HEADER)
        return fdl_fail(FDL_E_FORMAT, "'%s' is not a checkpoint: bad magic", s->path);
    char *text = malloc((size_t)s->size);
    if (!text)
        return fdl_fail(FDL_E_OOM, "'%s': no memory for an index of %llu bytes", s->path,
                        (unsigned long long)s->size);
    json_error_t error;
    fdl_status status = source_bytes(s, 0, text, (size_t)s->size);
    if (status == FDL_OK) {
        s->header = json_loadb(text, (size_t)s->size, JSON_REJECT_DUPLICATES, &error);
        if (!s->header)
            status = fdl_fail(FDL_E_FORMAT, "'%s' is not a checkpoint: the index is no JSON: %s (byte %d)",
                              s->path, error.text, error.position);
    }
    free(text);
    FDL_TRY(status);
    json_t *map = json_object_get(s->header, "weight_map"),
           *metadata = json_object_get(s->header, "metadata");
    if (!json_is_object(map))
        return fdl_fail(FDL_E_FORMAT, "'%s' is not a checkpoint: a JSON file without a weight_map", s->path);
    s->self = calloc(1, sizeof(shards));
    json_t *places = json_object();
    if (!s->self || !places) {
        free(s->self);
        s->self = NULL;
        json_decref(places);
        return fdl_fail(FDL_E_OOM, "'%s': no memory for its shards", s->path);
    }
    s->type = &index_type;
    status = take_metadata(s, metadata);
    if (status == FDL_OK)
        status = take_map(s, map, places);
    json_decref(places);
    return status;
}
