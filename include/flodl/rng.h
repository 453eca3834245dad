/* Random numbers on the CPU: shuffling, augmentation, synthetic data. The same on every machine and for ever.
 * Tensors are filled by libtorch's generators instead.
 *
 * The state is four successive SplitMix64 outputs; each number is the next output of xoshiro256++ (Blackman
 * and Vigna, https://prng.di.unimi.it). A plain value: a copy goes on by itself from the same state. One
 * thread at a time. */
#ifndef FLODL_RNG_H
#define FLODL_RNG_H

#include "flodl/base.h"

FDL_BEGIN_DECLS

typedef struct fdl_rng {
    uint64_t s[4];
} fdl_rng;

/* The generator of a seed: the same seed, the same numbers, on every machine. */
FDL_API fdl_rng fdl_rng_seed(uint64_t seed);
/* Seeded by the operating system. */
FDL_API fdl_rng fdl_rng_entropy(void);
/* An independent stream for each key; the same parent state and key give the same child. The parent stays as
 * it is. */
FDL_API fdl_rng fdl_rng_fork(const fdl_rng *r, uint64_t key);
/* A seed out of three numbers, such that neighbouring ones give unrelated streams: seed, epoch, stream. */
FDL_API uint64_t fdl_rng_mix(uint64_t seed, uint64_t epoch, uint64_t stream);

/* 64 random bits. r must not be NULL, here and below. */
FDL_API uint64_t fdl_rng_u64(fdl_rng *r);
/* [0, 1) in steps of 2^-53 and 2^-24. */
FDL_API double fdl_rng_f64(fdl_rng *r);
FDL_API float fdl_rng_f32(fdl_rng *r);
/* [0, n), unbiased. n = 0: 0 and FDL_E_ARG. */
FDL_API uint64_t fdl_rng_below(fdl_rng *r, uint64_t n);
/* [lo, hi), any two. lo >= hi: lo and FDL_E_ARG. */
FDL_API int64_t fdl_rng_range(fdl_rng *r, int64_t lo, int64_t hi);
/* True with probability p; p <= 0 never, p >= 1 always. */
FDL_API bool fdl_rng_bernoulli(fdl_rng *r, double p);
/* Gaussian, by Box and Muller; draws two numbers and keeps none. */
FDL_API double fdl_rng_normal(fdl_rng *r, double mean, double std);
/* Fisher and Yates from the end, over n elements of `size` bytes. base NULL with elements to shuffle:
 * FDL_E_NULL. */
FDL_API fdl_status fdl_rng_shuffle(fdl_rng *r, void *base, size_t n, size_t size);
/* A permutation: 0 to n - 1, shuffled. n < 0: FDL_E_ARG. */
FDL_API fdl_status fdl_rng_perm(fdl_rng *r, int64_t *out, int64_t n);

FDL_END_DECLS

#endif
