/* Hooks on gradients; anomaly detection. */
#include "flodl/hook.h"
#include "callback.h"

#include <torch/csrc/autograd/anomaly_mode.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <memory>
#include <mutex>

using namespace flodl;

namespace
{

enum { on_grad = 1, on_accumulated = 2 };

/* All hooks of one leaf that run after accumulation: libtorch has room for one object. */
class after_accumulation : public torch::autograd::PostAccumulateGradHook
{
    struct entry {
        fdl_status (*fn)(fdl_tensor *, void *);
        std::shared_ptr<context> owner; /* none: removed */
    };
    std::mutex lock_;
    std::vector<entry> entries_;

    bool get(size_t i, entry &e)
    {
        std::lock_guard<std::mutex> hold(lock_);
        if (i < entries_.size())
            e = entries_[i];
        return i < entries_.size();
    }

  public:
    unsigned add(fdl_status (*fn)(fdl_tensor *, void *), std::shared_ptr<context> owner)
    {
        std::lock_guard<std::mutex> hold(lock_);
        entries_.push_back({fn, std::move(owner)});
        return (unsigned)(entries_.size() - 1);
    }
    void remove(unsigned place)
    {
        entry dying{nullptr, nullptr}; /* released without the lock */
        std::lock_guard<std::mutex> hold(lock_);
        if (place < entries_.size())
            std::swap(dying, entries_[place]);
    }
    void operator()(const at::Tensor &leaf) override
    {
        entry e{nullptr, nullptr};
        for (size_t i = 0; get(i, e); i++) {
            if (!e.fn)
                continue;
            callback during(*e.owner);
            fdl_status status = e.fn(make(leaf), e.owner->ctx);
            during.check(status != FDL_OK, status, "a hook failed without an error");
        }
    }
};

after_accumulation *hooks_of(const at::Tensor &leaf)
{
    auto &all = torch::autograd::impl::post_acc_grad_hooks(leaf);
    if (!all)
        torch::autograd::impl::set_post_acc_grad_hooks(leaf, std::make_unique<after_accumulation>());
    return static_cast<after_accumulation *>(all.get());
}

} // namespace

fdl_hook fdl_hook_grad_opt(fdl_tensor *x, fdl_tensor *(*fn)(fdl_tensor *grad, void *ctx), void *ctx,
                           const fdl_hook_opts *opts)
{
    context own(ctx, or_default(opts).release);
    return OP_DO((x), {
        if (!fn)
            fail(FDL_E_NULL, "fn is NULL");
        if (!x->t.requires_grad())
            fail(FDL_E_STATE, "does not require grad");
        auto owner = std::make_shared<context>(std::move(own));
        unsigned place = x->t.register_hook([fn, owner](const at::Tensor &g) -> at::Tensor {
            if (!g.defined())
                return g;
            callback during(*owner);
            fdl_tensor *y = fn(make(g), owner->ctx);
            bool dead = y && !alive(y);
            at::Tensor result = y && !dead ? y->t : at::Tensor();
            during.check(dead, FDL_E_STATE, "a hook returned a freed tensor");
            return result;
        });
        return fdl_hook{fdl_identity(x), on_grad, place};
    });
}

fdl_hook fdl_hook_accumulated_opt(fdl_tensor *leaf, fdl_status (*fn)(fdl_tensor *leaf, void *ctx), void *ctx,
                                  const fdl_hook_opts *opts)
{
    context own(ctx, or_default(opts).release);
    return OP_DO((leaf), {
        if (!fn)
            fail(FDL_E_NULL, "fn is NULL");
        if (!leaf->t.requires_grad() || !leaf->t.is_leaf())
            fail(FDL_E_STATE, "%s",
                 leaf->t.is_leaf() ? "does not require grad" : "not a leaf; fdl_hook_grad takes any tensor");
        auto owner = std::make_shared<context>(std::move(own));
        return fdl_hook{fdl_identity(leaf), on_accumulated, hooks_of(leaf->t)->add(fn, std::move(owner))};
    });
}

fdl_status fdl_hook_remove(fdl_tensor *x, fdl_hook hook)
{
    if (!hook.of)
        return fdl_error_pending();
    return OP_DO((x), {
        if (hook.of != fdl_identity(x))
            fail(FDL_E_ARG, "the hook is another tensor's");
        if (hook.kind == on_accumulated)
            hooks_of(x->t)->remove(hook.place);
        else if (hook.kind == on_grad)
            x->t.remove_hook(hook.place);
        else
            fail(FDL_E_ARG, "no hook has the kind %d", hook.kind);
    });
}

void fdl_detect_anomaly(bool on)
{
    torch::autograd::AnomalyMode::set_enabled(on, true);
}

bool fdl_is_detecting_anomaly(void)
{
    return torch::autograd::AnomalyMode::is_enabled();
}
