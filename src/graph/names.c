/* Names of a flow: what they may consist of, and a map from them to numbers. */
#include "flodl/text.h"
#include "graph_private.h"

static uint64_t hash_of(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

static int place_of(const name_map *map, const char *name, uint64_t hash)
{
    int k = (int)(hash & (uint64_t)(map->room - 1));
    while (map->at[k].name && (map->at[k].hash != hash || strcmp(map->at[k].name, name) != 0))
        k = (k + 1) & (map->room - 1);
    return k;
}

int name_find(const name_map *map, const char *name)
{
    if (!map->n)
        return -1;
    const struct name_entry *e = &map->at[place_of(map, name, hash_of(name))];
    return e->name ? e->value : -1;
}

fdl_status name_put(name_map *map, const char *name, int value)
{
    if (2 * (map->n + 1) > map->room) {
        name_map more = {.n = map->n, .room = map->room ? 2 * map->room : 16};
        more.at = calloc((size_t)more.room, sizeof *more.at);
        if (!more.at)
            return fdl_fail(FDL_E_OOM, "no memory for the names of a graph");
        for (int i = 0; i < map->room; i++)
            if (map->at[i].name)
                more.at[place_of(&more, map->at[i].name, map->at[i].hash)] = map->at[i];
        free(map->at);
        *map = more;
    }
    uint64_t hash = hash_of(name);
    struct name_entry *e = &map->at[place_of(map, name, hash)];
    map->n += !e->name;
    *e = (struct name_entry){name, hash, value};
    return FDL_OK;
}

void name_free(name_map *map)
{
    free(map->at);
    *map = (name_map){0};
}

const char *name_fault(const char *name)
{
    if (!*name)
        return "is empty";
    const char *end = name + strlen(name);
    for (const char *s = name; s < end;) {
        int size = fdl_utf8_decode(s, (size_t)(end - s), NULL);
        if (!size)
            return "is not UTF-8";
        if (*s == '/' || *s == '"')
            return "has a \"/\" or a quote in it";
        if ((*s >= 0 && *s < 0x20) || *s == 0x7f)
            return "has a control character in it";
        s += size;
    }
    return NULL;
}
