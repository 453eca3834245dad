/* Keys and values of earlier positions, kept while a model writes one token after another, so that each step computes its new
 * positions only:
 *
 *     fdl_kv_cache *cache = fdl_kv_cache_new(256);
 *     FDL_NO_GRAD;
 *     FDL_KV_CACHE(cache);
 *     fdl_tensor *y = fdl_forward(gpt, prompt);       [N, 12]: fills positions 0 to 11
 *     y = fdl_forward(gpt, next);                     [N, 1]: position 12
 *
 * It serves what looks back only: multihead_attention, encoders and decoders made with .causal or called with it, alone or
 * inside of graphs; with rotary positions, ALiBi, fewer heads of keys. A position_embedding goes on where it was. What an attention
 * of a decoder makes of the memory is kept as well, as long as the memory is one and the same tensor. The results are those of
 * one call on the whole sequence, but for rounding. */
#ifndef FLODL_KV_CACHE_H
#define FLODL_KV_CACHE_H

#include "flodl/module.h"

FDL_BEGIN_DECLS

/* Owned; of one thread at a time, of one model, which must outlive its use. Each module of the model must run once a step. */
typedef struct fdl_kv_cache fdl_kv_cache;

/* For sequences of at most max_len positions; memory for all of them is taken when a module runs first, [N, heads, max_len,
 * features] of keys and as much of values. max_len below 1: FDL_E_ARG. */
FDL_API fdl_kv_cache *fdl_kv_cache_new(int64_t max_len);
/* NULL: nothing. In use on this thread: it isn't used any more. */
FDL_API void fdl_kv_cache_free(fdl_kv_cache *c);

/* By hand: uses c from now on and returns what was used before (NULL: none). */
FDL_API fdl_kv_cache *fdl_kv_cache_use(fdl_kv_cache *c);
FDL_API void fdl_kv_cache_leave_(fdl_kv_cache **before);

/* Positions that every module has seen; 0 when new; -1 on NULL. */
FDL_API int64_t fdl_kv_cache_len(const fdl_kv_cache *c);
/* Forgets the positions from len on: 0 begins a new sequence, of another number of samples if one likes, and forgets the memory.
 * Outside of [0, fdl_kv_cache_len]: FDL_E_RANGE. */
FDL_API fdl_status fdl_kv_cache_rewind(fdl_kv_cache *c, int64_t len);
/* Sample i becomes what sample samples[i] was, int64 [M]: the best of a beam search; M is the number of samples from now on.
 * The memory is to be given anew. Nothing is changed on failure; an index that isn't a sample: FDL_E_RANGE on the CPU, the end of the
 * context on a GPU. */
FDL_API fdl_status fdl_kv_cache_reorder(fdl_kv_cache *c, fdl_tensor *samples);

FDL_END_DECLS

#ifndef __cplusplus
/* `FDL_KV_CACHE(cache);` holds to the end of the enclosing block, on this thread; NULL: no cache. In it, with a cache: attention
 * that doesn't look back only, or grad mode on: FDL_E_STATE; more than max_len positions: FDL_E_RANGE; another number of
 * samples than before: FDL_E_SHAPE. A forward that fails may have moved some modules ahead: fdl_kv_cache_rewind to the length before. */
#define FDL_KV_CACHE(cache)                                                                                \
    FDL_UNUSED __attribute__((cleanup(fdl_kv_cache_leave_))) fdl_kv_cache *FDL_CAT(fdl_kv_, __COUNTER__) = \
        fdl_kv_cache_use(cache)
#endif

#endif
