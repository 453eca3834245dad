/* Names of a flow: what they may consist of, and a map from them to numbers. */
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

/* Bytes of the well-formed UTF-8 character at s; 0: it isn't one. */
static int character_size(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int size = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    for (int i = 1; i < size; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool surrogate = s[0] == 0xed && s[1] >= 0xa0, above = s[0] == 0xf4 && s[1] >= 0x90;
    return overlong || surrogate || above ? 0 : size;
}

const char *name_fault(const char *name)
{
    if (!*name)
        return "is empty";
    for (const unsigned char *s = (const unsigned char *)name; *s;) {
        int size = character_size(s);
        if (!size)
            return "is not UTF-8";
        if (*s == '/' || *s == '"')
            return "has a \"/\" or a quote in it";
        if (*s < 0x20 || *s == 0x7f)
            return "has a control character in it";
        s += size;
    }
    return NULL;
}
