/* The records of all epochs: an array of them, their metrics in blocks that never move, each metric's name
 * stored once. */
#ifndef FLODL_MONITOR_HISTORY_H
#define FLODL_MONITOR_HISTORY_H

#include "flodl/monitor.h"

typedef struct monitor_block monitor_block;

typedef struct monitor_history {
    fdl_monitor_record *records;
    int64_t n, capacity;
    monitor_block *blocks; /* the newest first */
    char **names;          /* open addressing; a power of two slots, at most half of them taken */
    size_t n_names, name_slots;
} monitor_history;

/* Copies the record, its metrics and their names. False when memory runs out, with the history as it was. */
bool monitor_history_add(monitor_history *history, const fdl_monitor_record *record);
void monitor_history_free(monitor_history *history);

#endif
