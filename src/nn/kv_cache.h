/* What modules that look back keep in a fdl_kv_cache: an entry each. */
#ifndef FLODL_NN_KV_CACHE_H
#define FLODL_NN_KV_CACHE_H

#include "flodl/kv_cache.h"

typedef struct kv_entry {
    const fdl_module *module;
    bool counts;       /* positions; an attention to a memory doesn't */
    int64_t len;       /* positions that it has seen */
    fdl_tensor *k, *v; /* kept [N, heads, max_len, features]; NULL: it only counts, or hasn't run */
    fdl_tensor *key, *value, *memory_k, *memory_v; /* kept: a memory, and what was made of it; NULL: none */
} kv_entry;

/* The cache of this thread; NULL: none. */
fdl_kv_cache *kv_cache_now(void);
/* The entry of m, made when there is none; valid until the next call. NULL: no memory. */
kv_entry *kv_cache_entry(fdl_kv_cache *c, fdl_module *m);
/* Whether n more positions fit behind those that e has seen; otherwise FDL_E_RANGE. */
bool kv_cache_fits(const fdl_kv_cache *c, const kv_entry *e, int64_t n);
/* Puts k, v [N, heads, L, features] behind what e has; then they are all of it. false: nothing was put there. */
bool kv_cache_append(fdl_kv_cache *c, kv_entry *e, fdl_tensor **k, fdl_tensor **v);
/* What was made of this memory; false: nothing. */
bool kv_cache_recall(const kv_entry *e, fdl_tensor *key, fdl_tensor *value, fdl_tensor **k, fdl_tensor **v);
/* Keeps it instead of what was there. */
bool kv_cache_remember(kv_entry *e, fdl_tensor *key, fdl_tensor *value, fdl_tensor *k, fdl_tensor *v);

#endif
