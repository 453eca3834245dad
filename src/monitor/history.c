/* The records of all epochs. */
#include "history.h"

enum { FIRST_RECORDS = 64, FIRST_NAMES = 32, BLOCK_METRICS = 1000 };

struct monitor_block {
    monitor_block *next;
    int64_t used, size;
    fdl_metric at[];
};

static size_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(h ^ h >> 32);
}

/* The slot where the name is or would be. */
static char **slot(char **names, size_t slots, const char *name)
{
    size_t i = hash(name) & (slots - 1);
    while (names[i] && strcmp(names[i], name) != 0)
        i = (i + 1) & (slots - 1);
    return &names[i];
}

static bool more_names(monitor_history *h)
{
    size_t slots = h->name_slots ? 2 * h->name_slots : FIRST_NAMES;
    char **names = calloc(slots, sizeof *names);
    if (!names)
        return false;
    for (size_t i = 0; i < h->name_slots; i++)
        if (h->names[i])
            *slot(names, slots, h->names[i]) = h->names[i];
    free(h->names);
    h->names = names;
    h->name_slots = slots;
    return true;
}

static const char *keep_name(monitor_history *h, const char *name)
{
    if (2 * (h->n_names + 1) > h->name_slots && !more_names(h))
        return NULL;
    char **at = slot(h->names, h->name_slots, name);
    if (!*at) {
        *at = strdup(name);
        h->n_names += *at != NULL;
    }
    return *at;
}

/* Room for n metrics side by side; not taken until `used` is advanced. */
static monitor_block *block_for(monitor_history *h, int64_t n)
{
    monitor_block *b = h->blocks;
    if (b && b->size - b->used >= n)
        return b;
    int64_t size = n > BLOCK_METRICS ? n : BLOCK_METRICS;
    b = malloc(sizeof *b + (size_t)size * sizeof b->at[0]);
    if (!b)
        return NULL;
    *b = (monitor_block){.next = h->blocks, .size = size};
    h->blocks = b;
    return b;
}

static bool more_records(monitor_history *h)
{
    int64_t capacity = h->capacity ? h->capacity + h->capacity / 2 : FIRST_RECORDS;
    fdl_monitor_record *records = realloc(h->records, (size_t)capacity * sizeof *records);
    if (!records)
        return false;
    h->records = records;
    h->capacity = capacity;
    return true;
}

bool monitor_history_add(monitor_history *h, const fdl_monitor_record *record)
{
    if (h->n == h->capacity && !more_records(h))
        return false;
    fdl_monitor_record kept = *record;
    kept.metrics = NULL;
    if (record->n_metrics) {
        monitor_block *b = block_for(h, record->n_metrics);
        if (!b)
            return false;
        fdl_metric *to = b->at + b->used;
        for (int64_t i = 0; i < record->n_metrics; i++) {
            to[i] = (fdl_metric){keep_name(h, record->metrics[i].name), record->metrics[i].value};
            if (!to[i].name)
                return false;
        }
        b->used += record->n_metrics;
        kept.metrics = to;
    }
    h->records[h->n++] = kept;
    return true;
}

void monitor_history_free(monitor_history *h)
{
    while (h->blocks) {
        monitor_block *next = h->blocks->next;
        free(h->blocks);
        h->blocks = next;
    }
    for (size_t i = 0; i < h->name_slots; i++)
        free(h->names[i]);
    free(h->names);
    free(h->records);
    *h = (monitor_history){0};
}
