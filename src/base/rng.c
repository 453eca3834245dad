/* The generator: SplitMix64 for seeds, xoshiro256++ for numbers, Lemire's multiply-high with rejection for
 * bounds. */
#include "flodl/rng.h"

#include <math.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

/* One output of SplitMix64 with state x. */
static uint64_t split(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

fdl_rng fdl_rng_seed(uint64_t seed)
{
    fdl_rng r;
    for (int i = 0; i < 4; i++) {
        r.s[i] = split(seed);
        seed += 0x9e3779b97f4a7c15u;
    }
    return r;
}

fdl_rng fdl_rng_entropy(void)
{
    uint64_t seed;
    if (getentropy(&seed, sizeof seed) != 0) { /* a kernel without it: what differs from run to run */
        struct timespec t = {0};
        clock_gettime(CLOCK_REALTIME, &t);
        seed = fdl_rng_mix((uint64_t)t.tv_sec, (uint64_t)t.tv_nsec, (uint64_t)getpid());
    }
    return fdl_rng_seed(seed);
}

/* Whether there is a generator; without one the functions below give 0 and FDL_E_NULL. */
static inline bool present(const char *function, const fdl_rng *r)
{
    if (FDL_UNLIKELY(!r))
        fdl_null_operand(function, "r");
    return r != NULL;
}

fdl_rng fdl_rng_fork(const fdl_rng *r, uint64_t key)
{
    if (!present(__func__, r))
        return fdl_rng_seed(key);
    uint64_t x = split(key);
    for (int i = 0; i < 4; i++)
        x = split(x ^ r->s[i]);
    return fdl_rng_seed(x);
}

uint64_t fdl_rng_mix(uint64_t seed, uint64_t epoch, uint64_t stream)
{
    return split(split(split(seed) ^ epoch) ^ stream);
}

static inline uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

static inline uint64_t next(fdl_rng *r)
{
    uint64_t *s = r->s, result = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t fdl_rng_u64(fdl_rng *r)
{
    return present(__func__, r) ? next(r) : 0;
}

double fdl_rng_f64(fdl_rng *r)
{
    return present(__func__, r) ? (double)(next(r) >> 11) * 0x1p-53 : 0;
}

float fdl_rng_f32(fdl_rng *r)
{
    return present(__func__, r) ? (float)(next(r) >> 40) * 0x1p-24f : 0;
}

/* The 128-bit product's high half; the low half to *low. */
static inline uint64_t multiply(uint64_t a, uint64_t b, uint64_t *low)
{
    uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32), cross = a0 * b1 + (middle & 0xffffffff);
    *low = a * b;
    return a1 * b1 + (middle >> 32) + (cross >> 32);
}

static inline uint64_t below(fdl_rng *r, uint64_t n)
{
    uint64_t low, high = multiply(next(r), n, &low);
    if (FDL_UNLIKELY(low < n)) {
        uint64_t uneven = (0 - n) % n; /* this many values of `low` would favour some results */
        while (low < uneven)
            high = multiply(next(r), n, &low);
    }
    return high;
}

uint64_t fdl_rng_below(fdl_rng *r, uint64_t n)
{
    if (n == 0) {
        fdl_fail(FDL_E_ARG, "fdl_rng_below: there is no number below 0; n must be 1 or more");
        return 0;
    }
    return present(__func__, r) ? below(r, n) : 0;
}

int64_t fdl_rng_range(fdl_rng *r, int64_t lo, int64_t hi)
{
    if (lo >= hi) {
        fdl_fail(FDL_E_ARG, "fdl_rng_range: [%lld, %lld) is empty; hi must be above lo", (long long)lo,
                 (long long)hi);
        return lo;
    }
    if (!present(__func__, r))
        return lo;
    return (int64_t)((uint64_t)lo + below(r, (uint64_t)hi - (uint64_t)lo));
}

bool fdl_rng_bernoulli(fdl_rng *r, double p)
{
    return fdl_rng_f64(r) < p;
}

double fdl_rng_normal(fdl_rng *r, double mean, double std)
{
    double u1 = fdl_rng_f64(r), u2 = fdl_rng_f64(r);
    return mean + std * (sqrt(-2 * log(1 - u1)) * cos(6.283185307179586476925 * u2));
}

static void swap_bytes(char *a, char *b, size_t size)
{
    char held[256];
    while (size) {
        size_t n = size < sizeof held ? size : sizeof held;
        memcpy(held, a, n);
        memmove(a, b, n);
        memcpy(b, held, n);
        a += n;
        b += n;
        size -= n;
    }
}

fdl_status fdl_rng_shuffle(fdl_rng *r, void *base, size_t n, size_t size)
{
    if (!r)
        return fdl_null_operand(__func__, "r");
    if (!base && n > 0 && size > 0)
        return fdl_null_operand("fdl_rng_shuffle", "base");
    for (size_t i = n; i-- > 1;) {
        size_t k = below(r, i + 1);
        if (size && k != i)
            swap_bytes((char *)base + i * size, (char *)base + k * size, size);
    }
    return FDL_OK;
}

fdl_status fdl_rng_perm(fdl_rng *r, int64_t *out, int64_t n)
{
    if (!r)
        return fdl_null_operand(__func__, "r");
    if (n < 0)
        return fdl_fail(FDL_E_ARG, "fdl_rng_perm: n is %lld; it must be 0 or more", (long long)n);
    if (!out && n > 0)
        return fdl_null_operand("fdl_rng_perm", "out");
    for (int64_t i = 0; i < n; i++)
        out[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t k = (int64_t)below(r, (uint64_t)i + 1), held = out[i];
        out[i] = out[k];
        out[k] = held;
    }
    return FDL_OK;
}
