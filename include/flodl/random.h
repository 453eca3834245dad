/* Random tensors, seeds, generators, determinism. Results belong to the current scope; nothing is differentiable. */
#ifndef FLODL_RANDOM_H
#define FLODL_RANDOM_H

#include "flodl/tensor.h"

FDL_BEGIN_DECLS

/* ---- drawing: .generator, or the device's own generator ---------------------------------------------- */

/* torch.rand: uniform in [0, 1). torch.randn: normal(0, 1). Floating dtypes only (FDL_E_DTYPE). */
FDL_API fdl_tensor *fdl_rand_opt(fdl_shape shape, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_randn_opt(fdl_shape shape, const fdl_tensor_opts *opts);
/* torch.normal; std < 0: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_normal_opt(double mean, double std, fdl_shape shape, const fdl_tensor_opts *opts);
/* torch.randint: whole numbers from low, below high; int64 by default. low >= high: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_randint_opt(int64_t low, int64_t high, fdl_shape shape, const fdl_tensor_opts *opts);
/* torch.randperm -> [n], int64 by default. n < 0: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_randperm_opt(int64_t n, const fdl_tensor_opts *opts);
/* torch.rand_like, ...: shape, dtype, device and memory format of x unless the options say otherwise. */
FDL_API fdl_tensor *fdl_rand_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_randn_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts);
FDL_API fdl_tensor *fdl_randint_like_opt(fdl_tensor *x, int64_t low, int64_t high,
                                         const fdl_tensor_opts *opts);

typedef struct fdl_draw_opts {
    fdl_by_name opts_;
    fdl_generator *generator;
} fdl_draw_opts;
/* torch.bernoulli: 0 or 1 in p's dtype, 1 with probability p. p outside [0, 1]: FDL_E_ARG on the CPU. */
FDL_API fdl_tensor *fdl_bernoulli(fdl_tensor *p);
FDL_API fdl_tensor *fdl_bernoulli_opt(fdl_tensor *p, const fdl_draw_opts *opts);
typedef struct fdl_multinomial_opts {
    fdl_by_name opts_;
    bool replacement;
    fdl_generator *generator;
} fdl_multinomial_opts;
/* torch.multinomial: p [m] or [rows, m], weights that need not sum to 1 -> int64 [n] or [rows, n]. A negative or NaN
 * weight, an all-zero row, or more draws without replacement than non-zero weights: FDL_E_ARG. */
FDL_API fdl_tensor *fdl_multinomial_opt(fdl_tensor *p, int64_t n, const fdl_multinomial_opts *opts);

/* ---- seeds and states ---------------------------------------------------------------------------------- */

/* torch.manual_seed: the CPU's generator and every CUDA device's. The CPU's is one for the whole process: threads that draw
 * from it are safe, but their order is not reproducible. A seed gives equal numbers on the same build, device and number
 * of threads. */
FDL_API fdl_status fdl_manual_seed(uint64_t seed);
/* The CUDA devices' generators only; nothing without CUDA. */
FDL_API fdl_status fdl_cuda_manual_seed_all(uint64_t seed);
/* A generator of one's own (owned), for one thread at a time. */
FDL_API fdl_generator *fdl_generator_new(uint64_t seed, fdl_device device);
FDL_API void fdl_generator_free(fdl_generator *g);
/* torch.get_rng_state, torch.set_rng_state: the state of a device's own generator, uint8 [n] on the CPU (scope). */
FDL_API fdl_tensor *fdl_rng_state(fdl_device device);
FDL_API fdl_status fdl_set_rng_state(fdl_device device, fdl_tensor *state);

typedef struct fdl_deterministic_opts {
    fdl_by_name opts_;
    bool warn_only;
} fdl_deterministic_opts;
/* torch.use_deterministic_algorithms, for the whole process: an operation without a deterministic form fails with its
 * name. Sets CUBLAS_WORKSPACE_CONFIG, if it is unset; call it before CUDA's first use. */
FDL_API fdl_status fdl_deterministic_opt(bool on, const fdl_deterministic_opts *opts);
FDL_API bool fdl_is_deterministic(void);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_rand(...) fdl_rand_(__VA_ARGS__, .opts_ = 0)
#define fdl_rand_(shape, ...) fdl_rand_opt(shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_randn(...) fdl_randn_(__VA_ARGS__, .opts_ = 0)
#define fdl_randn_(shape, ...) fdl_randn_opt(shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_normal(mean, std, ...) fdl_normal_a_(mean, std, __VA_ARGS__, .opts_ = 0)
#define fdl_normal_a_(mean, std, shape, ...) fdl_normal_opt(mean, std, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_randint(low, high, ...) fdl_randint_(low, high, __VA_ARGS__, .opts_ = 0)
#define fdl_randint_(low, high, shape, ...) fdl_randint_opt(low, high, shape, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_randperm(...) fdl_randperm_(__VA_ARGS__, .opts_ = 0)
#define fdl_randperm_(n, ...) fdl_randperm_opt(n, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_rand_like(...) fdl_rand_like_(__VA_ARGS__, .opts_ = 0)
#define fdl_rand_like_(x, ...) fdl_rand_like_opt(x, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_randn_like(...) fdl_randn_like_(__VA_ARGS__, .opts_ = 0)
#define fdl_randn_like_(x, ...) fdl_randn_like_opt(x, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_randint_like(x, low, ...) fdl_randint_like_(x, low, __VA_ARGS__, .opts_ = 0)
#define fdl_randint_like_(x, low, high, ...) fdl_randint_like_opt(x, low, high, FDL_TENSOR_OPTS_(__VA_ARGS__))
#define fdl_bernoulli(...) fdl_bernoulli_(__VA_ARGS__, .opts_ = 0)
#define fdl_bernoulli_(p, ...) fdl_bernoulli_opt(p, &(fdl_draw_opts){__VA_ARGS__})
#define fdl_multinomial(p, ...) fdl_multinomial_(p, __VA_ARGS__, .opts_ = 0)
#define fdl_multinomial_(p, n, ...) fdl_multinomial_opt(p, n, &(fdl_multinomial_opts){__VA_ARGS__})
#define fdl_deterministic(...) fdl_deterministic_(__VA_ARGS__, .opts_ = 0)
#define fdl_deterministic_(on, ...) fdl_deterministic_opt(on, &(fdl_deterministic_opts){__VA_ARGS__})
#endif

#endif
