/* Activation checkpointing. The first call is recorded like any other, which shows the leaves (parameters) that the function
 * uses; then the recording is dropped, and one node stands for it, whose inputs are the function's inputs and those leaves.
 * So fdl_grad_of, hooks and accumulation see what they would see without the checkpoint. */
#include "flodl/recompute.h"
#include "callback.h"

#include <ATen/Context.h>
#include <ATen/SequenceNumber.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/alias.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>

#include <unordered_set>

using namespace flodl;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace
{

/* ---- the state that a second call needs ---------------------------------------------------------------- */

class random_state
{
    std::vector<std::pair<at::Device, at::Tensor>> states_;

    void add(at::Device d)
    {
        at::Generator g = at::globalContext().defaultGenerator(d);
        std::lock_guard<std::mutex> hold(g.mutex());
        states_.emplace_back(d, g.get_state());
    }

  public:
    random_state() = default;
    /* Of the CPU and of every other device that the tensors are on. */
    explicit random_state(at::TensorList all)
    {
        add(at::kCPU);
        for (const at::Tensor &x : all) {
            bool known = false;
            for (const auto &s : states_)
                known = known || s.first == x.device() || x.device().is_cpu();
            if (!known)
                add(x.device());
        }
    }
    void set() const
    {
        for (const auto &s : states_) {
            at::Generator g = at::globalContext().defaultGenerator(s.first);
            std::lock_guard<std::mutex> hold(g.mutex());
            g.set_state(s.second);
        }
    }
    random_state now() const
    {
        random_state r;
        for (const auto &s : states_)
            r.add(s.first);
        return r;
    }
};

/* Of this thread; the cache of casted weights is part of one recording and stays off. */
class autocast_state
{
    struct of_type {
        bool on;
        at::ScalarType dtype;
    };
    of_type cpu_, cuda_;
    bool cache_;

    static of_type get(at::DeviceType type)
    {
        return {at::autocast::is_autocast_enabled(type), at::autocast::get_autocast_dtype(type)};
    }
    static void set(at::DeviceType type, const of_type &s)
    {
        at::autocast::set_autocast_enabled(type, s.on);
        at::autocast::set_autocast_dtype(type, s.dtype);
    }

  public:
    autocast_state()
        : cpu_(get(at::kCPU)), cuda_(get(at::kCUDA)), cache_(at::autocast::is_autocast_cache_enabled())
    {
    }
    void set(bool cache) const
    {
        set(at::kCPU, cpu_);
        set(at::kCUDA, cuda_);
        at::autocast::set_autocast_cache_enabled(cache);
    }
    void set_back() const
    {
        set(cache_);
    }
};

/* ---- one use --------------------------------------------------------------------------------------------- */

struct block : torch::CustomClassHolder {
    fdl_tensor *(*fn)(fdl_list, void *);
    context owner;
    size_t inputs = 0;
    autocast_state autocast;
    random_state random;
    at::Tensor value; /* the first call's, until it has been returned */

    block(fdl_tensor *(*f)(fdl_list, void *), context &&own) : fn(f), owner(std::move(own))
    {
    }

    /* The function on these inputs, under the block's autocast state. */
    at::Tensor call(const variable_list &in) const
    {
        struct restore {
            autocast_state before;
            ~restore()
            {
                before.set_back();
            }
        } at_end;
        autocast.set(false);
        callback during(owner);
        fdl_tensor *y = fn(make(variable_list(in)), owner.ctx);
        bool good = y && alive(y);
        at::Tensor result = good ? y->t : at::Tensor();
        during.check(!good, FDL_E_NULL, "the function returned no tensor");
        return result;
    }
};

/* The same values, cut off from their history. */
variable_list cut(at::TensorList in)
{
    variable_list out;
    for (const at::Tensor &x : in)
        out.push_back(x.detach().set_requires_grad(x.requires_grad()));
    return out;
}

/* The leaves under y but those in `own`. Everything else that was recorded before `from` is from outside. */
variable_list leaves_of(const at::Tensor &y, const variable_list &own, uint64_t from)
{
    std::unordered_set<const void *> seen;
    for (const at::Tensor &x : own)
        seen.insert(x.unsafeGetTensorImpl());
    variable_list leaves;
    std::vector<torch::autograd::Node *> todo = {y.grad_fn().get()};
    while (!todo.empty()) {
        torch::autograd::Node *node = todo.back();
        todo.pop_back();
        if (!node || !seen.insert(node).second)
            continue;
        if (auto *leaf = dynamic_cast<torch::autograd::AccumulateGrad *>(node)) {
            if (seen.insert(leaf->variable.unsafeGetTensorImpl()).second)
                leaves.push_back(leaf->variable);
            continue;
        }
        if (node->sequence_nr() < from)
            fail(FDL_E_ARG,
                 "the function uses a result of %s that requires grad and was computed outside; hand it in "
                 "as an "
                 "input",
                 node->name().c_str());
        for (const auto &edge : node->next_edges())
            todo.push_back(edge.function.get());
    }
    return leaves;
}

struct function : torch::autograd::Function<function> {
    static variable_list forward(AutogradContext *ctx, at::TensorList in, const c10::intrusive_ptr<block> &b)
    {
        ctx->saved_data["block"] = c10::IValue::make_capsule(b);
        ctx->save_for_backward(in.vec());
        return {std::move(b->value)};
    }

    static variable_list backward(AutogradContext *ctx, const variable_list &grads)
    {
        auto b = c10::static_intrusive_pointer_cast<block>(ctx->saved_data["block"].toCapsule());
        if (c10::GradMode::is_enabled())
            fail(FDL_E_UNSUPPORTED, "a checkpointed function can't be differentiated twice; call it without "
                                    "fdl_checkpoint_fn under .create_graph");
        variable_list saved = ctx->get_saved_variables();
        at::AutoGradMode record(true);
        variable_list in = cut(at::TensorList(saved).slice(0, b->inputs));
        at::Tensor y;
        {
            struct restore {
                random_state before;
                ~restore()
                {
                    before.set();
                }
            } at_end{b->random.now()};
            b->random.set();
            y = b->call(in);
        }
        if (!y.requires_grad() || y.sizes() != grads[0].sizes())
            fail(FDL_E_STATE, "the function gave another result when it was called again: %s",
                 y.requires_grad() ? "another shape" : "one that doesn't require grad");
        variable_list wanted;
        std::vector<size_t> places;
        for (size_t i = 0; i < saved.size(); i++)
            if (saved[i].requires_grad() && ctx->needs_input_grad(i)) {
                wanted.push_back(i < b->inputs ? in[i] : saved[i]);
                places.push_back(i);
            }
        variable_list found = torch::autograd::grad({y}, wanted, {grads[0]}, std::nullopt, false, true);
        variable_list out(saved.size() + 1); /* the last for the block */
        for (size_t k = 0; k < places.size(); k++)
            out[places[k]] = std::move(found[k]);
        return out;
    }
};

} // namespace

fdl_tensor *fdl_checkpoint_fn_opt(fdl_tensor *(*fn)(fdl_list in, void *ctx), void *ctx, fdl_list inputs,
                                  const fdl_checkpoint_opts *opts)
{
    const fdl_checkpoint_opts &o = or_default(opts);
    context own(ctx, o.release);
    return OP_DO((inputs), {
        if (!fn)
            fail(FDL_E_NULL, "fn is NULL");
        auto b = c10::make_intrusive<block>(fn, std::move(own));
        tensors borrowed(inputs);
        variable_list in = at::TensorList(borrowed).vec();
        b->inputs = in.size();
        if (!c10::GradMode::is_enabled())
            return b->call(in);
        if (!o.no_rng_state)
            b->random = random_state(in);

        variable_list inside = cut(in);
        uint64_t from = at::sequence_number::peek();
        at::Tensor y = b->call(inside);
        if (!y.requires_grad())
            return y;
        if (!y.grad_fn())
            y = at::alias(y); /* an input or a parameter, returned as it is */
        variable_list all = in;
        for (at::Tensor &leaf : leaves_of(y, inside, from))
            all.push_back(std::move(leaf));
        bool shares = false;
        for (const at::Tensor &x : all)
            shares = shares || y.is_alias_of(x);
        b->value = shares ? y.detach().clone() : y.variable_data();
        y.reset();
        return std::move(function::apply(at::TensorList(all), b)[0]);
    });
}
