/* Random tensors, seeds, generators, determinism. */
#include "flodl/random.h"
#include "create.h"
#include "cuda.h"
#include "internal.h"
#include "random.h"

#include <ATen/Context.h>

#include <ATen/ops/bernoulli.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gt.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/randperm.h>

#include <cstdlib>
#include <mutex>

using namespace flodl;

namespace
{

std::optional<at::Generator> drawn_from(const fdl_tensor_opts *o)
{
    return generator(or_default(o).generator);
}

/* An empty tensor like x, to be filled from the options' generator. */
at::Tensor empty_of(const at::Tensor &x, const fdl_tensor_opts *opts)
{
    return at::empty_like(x, like(opts)).detach();
}

void ordered(int64_t low, int64_t high)
{
    if (low >= high)
        fail(FDL_E_ARG, "from %lld, below %lld: there is nothing between", (long long)low, (long long)high);
}

} // namespace

fdl_tensor *fdl_rand_opt(fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::rand(extents(shape), drawn_from(opts), options(opts)), opts));
}

fdl_tensor *fdl_randn_opt(fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP((), finished(at::randn(extents(shape), drawn_from(opts), options(opts)), opts));
}

fdl_tensor *fdl_normal_opt(double mean, double std, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        if (!(std >= 0))
            fail(FDL_E_ARG, "a standard deviation of %g", std);
        return finished(at::empty(extents(shape), options(opts)).normal_(mean, std, drawn_from(opts)), opts);
    });
}

fdl_tensor *fdl_randint_opt(int64_t low, int64_t high, fdl_shape shape, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        ordered(low, high);
        return finished(at::randint(low, high, extents(shape), drawn_from(opts), options(opts, FDL_INT64)),
                        opts);
    });
}

fdl_tensor *fdl_randperm_opt(int64_t n, const fdl_tensor_opts *opts)
{
    return OP_DO((), {
        if (n < 0)
            fail(FDL_E_ARG, "a permutation of %lld numbers", (long long)n);
        return finished(at::randperm(n, drawn_from(opts), options(opts, FDL_INT64)), opts);
    });
}

fdl_tensor *fdl_rand_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts)
{
    return OP((x), finished(empty_of(x->t, opts).uniform_(0, 1, drawn_from(opts)), opts));
}

fdl_tensor *fdl_randn_like_opt(fdl_tensor *x, const fdl_tensor_opts *opts)
{
    return OP((x), finished(empty_of(x->t, opts).normal_(0, 1, drawn_from(opts)), opts));
}

fdl_tensor *fdl_randint_like_opt(fdl_tensor *x, int64_t low, int64_t high, const fdl_tensor_opts *opts)
{
    return OP_DO((x), {
        ordered(low, high);
        return finished(empty_of(x->t, opts).random_(low, high, drawn_from(opts)), opts);
    });
}

fdl_tensor *fdl_bernoulli(fdl_tensor *p)
{
    return fdl_bernoulli_opt(p, nullptr);
}

fdl_tensor *fdl_bernoulli_opt(fdl_tensor *p, const fdl_draw_opts *opts)
{
    return OP((p), at::bernoulli(p->t, generator(or_default(opts).generator)));
}

fdl_tensor *fdl_multinomial_opt(fdl_tensor *p, int64_t n, const fdl_multinomial_opts *opts)
{
    const fdl_multinomial_opts &o = or_default(opts);
    return OP_DO((p), {
        if (n < 1)
            fail(FDL_E_ARG, "%lld draws", (long long)n);
        at::Tensor y = at::multinomial(p->t, n, o.replacement, generator(o.generator));
        if (!o.replacement && p->t.numel()) { /* libtorch would draw what has no weight */
            int64_t fewest = at::gt(p->t, 0).sum(-1).min().item<int64_t>();
            if (fewest < n)
                fail(FDL_E_ARG, "%lld draws without replacement, but only %lld weights are not 0",
                     (long long)n, (long long)fewest);
        }
        return y;
    });
}

/* ---- seeds and states ---- */

fdl_status fdl_manual_seed(uint64_t seed)
{
    return OP_DO((), { at::manual_seed(seed); });
}

fdl_status fdl_cuda_manual_seed_all(uint64_t seed)
{
    return OP_DO((), {
        int count = cuda_count();
        for (int i = 0; i < count; i++) {
            at::Generator g = at::globalContext().defaultGenerator(device(fdl_device_cuda(i)));
            std::lock_guard<std::mutex> hold(g.mutex());
            g.set_current_seed(seed);
        }
    });
}

fdl_generator *fdl_generator_new(uint64_t seed, fdl_device where)
{
    return OP_DO((), {
        at::Generator own = at::globalContext().defaultGenerator(device(where));
        std::lock_guard<std::mutex> hold(own.mutex());
        fdl_generator *g = new fdl_generator{own.clone()};
        g->g.set_current_seed(seed);
        return g;
    });
}

void fdl_generator_free(fdl_generator *g)
{
    delete g;
}

fdl_tensor *fdl_rng_state(fdl_device where)
{
    return OP_DO((), {
        at::Generator g = at::globalContext().defaultGenerator(device(where));
        std::lock_guard<std::mutex> hold(g.mutex());
        return g.get_state();
    });
}

fdl_status fdl_set_rng_state(fdl_device where, fdl_tensor *state)
{
    return OP_DO((state), {
        if (state->t.scalar_type() != at::kByte || !state->t.device().is_cpu())
            fail(FDL_E_DTYPE, "a state is a uint8 tensor on the CPU");
        at::Generator g = at::globalContext().defaultGenerator(device(where));
        std::lock_guard<std::mutex> hold(g.mutex());
        g.set_state(state->t.contiguous());
    });
}

fdl_status fdl_deterministic_opt(bool on, const fdl_deterministic_opts *opts)
{
    return OP_DO((), {
        if (on && setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0) != 0)
            fail(FDL_E_OOM, "no memory for the environment");
        at::globalContext().setDeterministicAlgorithms(on, or_default(opts).warn_only);
    });
}

bool fdl_is_deterministic(void)
{
    return at::globalContext().deterministicAlgorithms();
}
