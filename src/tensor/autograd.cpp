/* Gradients: thin calls of libtorch's engine, and the check of a gradient by finite differences. */
#include "flodl/autograd.h"
#include "callback.h"
#include "internal.h"
#include "thread.h"

#include <ATen/ops/ones_like.h>
#include <ATen/ops/rand.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <cmath>
#include <cinttypes>
#include <functional>
#include <unordered_set>

using namespace flodl;

namespace
{

std::vector<at::Tensor> vector_of(fdl_list list)
{
    std::vector<at::Tensor> v;
    v.reserve((size_t)list.n);
    for (int i = 0; i < list.n; i++)
        v.push_back(list.at[i]->t);
    return v;
}

/* The nodes of the recorded graph that x hangs on. */
std::unordered_set<torch::autograd::Node *> nodes_below(const at::Tensor &x)
{
    std::unordered_set<torch::autograd::Node *> seen;
    std::vector<torch::autograd::Node *> todo;
    auto visit = [&](torch::autograd::Node *node) {
        if (node && seen.insert(node).second)
            todo.push_back(node);
    };
    visit(x.grad_fn().get());
    while (!todo.empty()) {
        torch::autograd::Node *node = todo.back();
        todo.pop_back();
        for (const auto &edge : node->next_edges())
            visit(edge.function.get());
    }
    return seen;
}

} // namespace

fdl_status fdl_backward_opt(fdl_tensor *loss, const fdl_backward_opts *opts)
{
    static const fdl_backward_opts none = {};
    const fdl_backward_opts &o = opts ? *opts : none;
    fdl_list inputs = optional(o.inputs);
    return OP_DO((loss, inputs), {
        if (!loss->t.requires_grad())
            fail(FDL_E_STATE, "nothing to differentiate: does not require grad");
        if (!o.gradient && loss->t.numel() != 1)
            fail(FDL_E_SHAPE, "backward needs .gradient or a loss of one element");
        if (o.gradient && (!alive(o.gradient) || o.gradient->t.sizes() != loss->t.sizes()))
            fail(FDL_E_SHAPE, "backward needs a .gradient of the loss's own shape");
        for (int i = 0; i < inputs.n; i++)
            if (!inputs.at[i]->t.is_leaf())
                fail(FDL_E_ARG, "input %d is not a leaf", i);
        torch::autograd::backward({loss->t}, {or_none(o.gradient)}, o.retain_graph || o.create_graph,
                                  o.create_graph, vector_of(inputs));
    });
}

fdl_tensor *fdl_grad(fdl_tensor *x)
{
    if (good(x) && !x->t.grad().defined())
        return nullptr;
    return OP((x), at::Tensor(x->t.grad()));
}

fdl_status fdl_set_grad(fdl_tensor *x, fdl_tensor *g)
{
    if (!g)
        return fdl_error_pending() ? fdl_error_pending() : fdl_clear_grad(x);
    return OP_DO((x, g), {
        if (g->t.sizes() != x->t.sizes())
            fail(FDL_E_SHAPE, "a gradient has its tensor's shape");
        if (g->t.scalar_type() != x->t.scalar_type())
            fail(FDL_E_DTYPE, "a gradient has its tensor's dtype");
        if (g->t.device() != x->t.device())
            fail(FDL_E_DEVICE, "a gradient is on its tensor's device");
        x->t.mutable_grad() = g->t;
    });
}

fdl_status fdl_zero_grad(fdl_tensor *x)
{
    return OP_DO((x), {
        if (x->t.grad().defined()) {
            x->t.mutable_grad() = x->t.grad().detach();
            x->t.mutable_grad().zero_();
        }
    });
}

fdl_status fdl_clear_grad(fdl_tensor *x)
{
    return OP_DO((x), { x->t.mutable_grad().reset(); });
}

bool fdl_requires_grad(fdl_tensor *x)
{
    return OP((x), x->t.requires_grad());
}

fdl_status fdl_requires_grad_(fdl_tensor *x, bool on)
{
    return OP_DO((x), {
        if (on && !at::isFloatingType(x->t.scalar_type()))
            fail(FDL_E_DTYPE, "only floating tensors can require grad");
        if (!on && !x->t.is_leaf())
            fail(FDL_E_STATE, "requires_grad of a result can't be switched off; use fdl_detach");
        x->t.set_requires_grad(on);
    });
}

bool fdl_is_leaf(fdl_tensor *x)
{
    return OP((x), x->t.is_leaf());
}

int64_t fdl_tensor_version(fdl_tensor *x)
{
    int64_t version = -1;
    OP_DO((x), { version = (int64_t)x->t._version(); });
    return version;
}

fdl_tensor *fdl_detach(fdl_tensor *x)
{
    return OP((x), x->t.detach());
}

fdl_status fdl_detach_(fdl_tensor *x)
{
    return OP_DO((x), {
        if (x->t.is_view())
            fail(FDL_E_STATE, "a view can't be detached in place; use fdl_detach");
        x->t.detach_();
    });
}

fdl_status fdl_retain_grad(fdl_tensor *x)
{
    return OP_DO((x), {
        if (!x->t.requires_grad())
            fail(FDL_E_STATE, "does not require grad");
        x->t.retain_grad();
    });
}

int64_t fdl_autograd_nodes(fdl_tensor *x)
{
    return OP_DO((x), { return (int64_t)nodes_below(x->t).size(); });
}

fdl_list fdl_autograd_leaves(fdl_tensor *x)
{
    return OP_DO((x), {
        std::vector<at::Tensor> leaves;
        for (torch::autograd::Node *node : nodes_below(x->t))
            if (auto *sink = dynamic_cast<torch::autograd::AccumulateGrad *>(node))
                leaves.push_back(sink->variable);
        return leaves;
    });
}

fdl_list fdl_grad_of_opt(fdl_list outputs, fdl_list inputs, const fdl_grad_of_opts *opts)
{
    static const fdl_grad_of_opts none = {};
    const fdl_grad_of_opts &o = opts ? *opts : none;
    fdl_list grad_outputs = optional(o.grad_outputs);
    return OP_DO((outputs, inputs, grad_outputs), {
        if (!outputs.n || !inputs.n)
            fail(FDL_E_ARG, "%s", outputs.n ? "no inputs" : "no outputs");
        if (grad_outputs.n && grad_outputs.n != outputs.n)
            fail(FDL_E_ARG, "%d outputs but %d grad_outputs", outputs.n, grad_outputs.n);
        std::vector<at::Tensor> gs = vector_of(grad_outputs);
        for (int i = 0; i < grad_outputs.n; i++)
            if (gs[(size_t)i].sizes() != outputs.at[i]->t.sizes())
                fail(FDL_E_SHAPE, "grad_outputs %d doesn't have its output's shape", i);
        return torch::autograd::grad(vector_of(outputs), vector_of(inputs), gs,
                                     o.retain_graph || o.create_graph ? std::optional<bool>(true)
                                                                      : std::nullopt,
                                     o.create_graph, o.allow_unused);
    });
}

struct fdl_accum {
    /* a std::shared_ptr of libtorch's nodes, since 2.15 an intrusive_ptr */
    decltype(torch::autograd::impl::grad_accumulator(std::declval<const at::Tensor &>())) node;
};

fdl_accum *fdl_retain_accumulator(fdl_tensor *x)
{
    return OP_DO((x), {
        if (!x->t.requires_grad() || !x->t.is_leaf())
            return (fdl_accum *)nullptr;
        return new fdl_accum{torch::autograd::impl::grad_accumulator(x->t)};
    });
}

void fdl_accum_free(fdl_accum *a)
{
    delete a;
}

/* ---- checking a gradient ------------------------------------------------------------------------------------- */

namespace
{

typedef fdl_tensor *(*checked_fn)(fdl_list, void *);
typedef std::function<std::vector<at::Tensor>()> values_fn;

/* f on the inputs; throws what went wrong in it. */
at::Tensor call(checked_fn f, const std::vector<at::Tensor> &in, void *ctx)
{
    callback during;
    fdl_tensor *y = f(make(std::vector<at::Tensor>(in)), ctx);
    bool there = y && alive(y);
    at::Tensor t = there ? y->t : at::Tensor();
    during.check(!there, FDL_E_NULL, "the function returned no tensor");
    if (!at::isFloatingType(t.scalar_type()))
        fail(FDL_E_DTYPE, "the function's result is not floating");
    return t;
}

/* Numbers of x's shape, always the same for the same generator. */
at::Tensor drawn(const at::Tensor &x, at::Generator &generator, double from)
{
    return (at::rand(x.sizes(), generator, at::TensorOptions().dtype(x.scalar_type())) + from).to(x.device());
}

/* The derivatives of sum(values * w), w fixed and random, at the leaves, and central differences of it. A leaf of
 * number i is called input i. */
class check
{
    std::vector<at::Tensor> leaves_; /* undefined where an input doesn't require grad */
    const values_fn &values_;
    double eps_, atol_, rtol_;
    std::vector<at::Tensor> weights_;

    at::Tensor weighted() const
    {
        std::vector<at::Tensor> ys = values_();
        at::Tensor sum = at::zeros({}, at::kDouble);
        for (size_t i = 0; i < ys.size(); i++)
            if (ys[i].defined())
                sum = sum + (ys[i] * weights_[i]).sum().to(at::kCPU, at::kDouble);
        return sum;
    }
    void note(double analytic, double numeric, int input, int64_t element)
    {
        double ratio = std::fabs(analytic - numeric) / (atol_ + rtol_ * std::fabs(numeric));
        if (!(ratio <= worst.worst))
            worst = {std::isnan(ratio) ? HUGE_VAL : ratio, input, element, analytic, numeric};
    }
    double moved(const at::Tensor &x, const at::Tensor &by) const
    {
        at::Tensor before = x.clone();
        x.add_(by);
        double value = weighted().item<double>();
        x.copy_(before);
        return value;
    }

  public:
    fdl_gradcheck_report worst = {};

    check(std::vector<at::Tensor> leaves, const values_fn &values, const fdl_gradcheck_opts &o)
        : leaves_(std::move(leaves)), values_(values), eps_(fdl_opt_double(o.eps, 1e-6)),
          atol_(fdl_opt_double(o.atol, 1e-5)), rtol_(fdl_opt_double(o.rtol, 1e-3))
    {
        worst.worst = -1;
        if (!(eps_ > 0))
            fail(FDL_E_ARG, "eps %g", eps_);
        auto generator = at::detail::createCPUGenerator(42);
        std::vector<at::Tensor> ys = values_(), again = values_();
        bool differentiable = false;
        for (size_t i = 0; i < ys.size(); i++) {
            bool there = ys[i].defined();
            if (there != again[i].defined() ||
                (there && (ys[i].sizes() != again[i].sizes() || !ys[i].detach().equal(again[i].detach()))))
                fail(FDL_E_STATE, "not deterministic: two calls with equal inputs differ");
            weights_.push_back(there ? drawn(ys[i], generator, 0.5) : at::Tensor());
            differentiable = differentiable || (there && ys[i].requires_grad());
        }
        if (!differentiable)
            fail(FDL_E_STATE, "the function's result does not require grad");
    }

    void run(bool fast)
    {
        std::vector<at::Tensor> wanted;
        for (const at::Tensor &x : leaves_)
            if (x.defined())
                wanted.push_back(x);
        std::vector<at::Tensor> analytic =
            torch::autograd::grad({weighted()}, wanted, {}, std::nullopt, false, true);
        auto generator = at::detail::createCPUGenerator(43);
        size_t k = 0;
        for (size_t i = 0; i < leaves_.size(); i++) {
            if (!leaves_[i].defined())
                continue;
            at::Tensor x = leaves_[i].detach(), g = analytic[k++];
            if (!g.defined())
                g = at::zeros_like(x);
            if (fast) { /* one direction for all elements */
                at::Tensor u = drawn(x, generator, -0.5);
                double up = moved(x, u * eps_), down = moved(x, u * -eps_);
                note((g * u).sum().item<double>(), (up - down) / (2 * eps_), (int)i, -1);
                continue;
            }
            at::Tensor flat = x.as_strided({x.numel()}, {1}); /* elements in memory order: any dense layout */
            at::Tensor g_flat = at::empty_like(x).copy_(g).as_strided({x.numel()}, {1}).cpu();
            for (int64_t e = 0; e < flat.numel(); e++) {
                at::Tensor one = flat[e];
                at::Tensor step = at::full({}, eps_, one.options());
                double up = moved(one, step), down = moved(one, -step);
                note(g_flat[e].item<double>(), (up - down) / (2 * eps_), (int)i, e);
            }
        }
    }
};

/* The inputs that the check moves; undefined for the others. */
std::vector<at::Tensor> moving(fdl_list in)
{
    std::vector<at::Tensor> leaves;
    int count = 0;
    for (int i = 0; i < in.n; i++) {
        const at::Tensor &x = in.at[i]->t;
        leaves.push_back(x.requires_grad() ? x : at::Tensor());
        if (!x.requires_grad())
            continue;
        if (x.scalar_type() != at::kDouble)
            fail(FDL_E_DTYPE, "input %d is not float64", i);
        if (!x.is_leaf() || !x.is_non_overlapping_and_dense())
            fail(FDL_E_ARG, "input %d is not a dense leaf", i);
        count++;
    }
    if (!count)
        fail(FDL_E_ARG, "no input requires grad");
    return leaves;
}

void compare(std::vector<at::Tensor> leaves, const values_fn &values, const fdl_gradcheck_opts &o)
{
    check c(std::move(leaves), values, o);
    c.run(o.fast);
    const fdl_gradcheck_report &w = c.worst;
    if (o.report)
        *o.report = w;
    if (!(w.worst > 1))
        return;
    char where[64] = "";
    if (w.element >= 0)
        snprintf(where, sizeof where, ", element %" PRId64, w.element);
    fail(FDL_E_MISMATCH, "input %d%s: the gradient is %.10g, the difference quotient %.10g", w.input, where,
         w.analytic, w.numeric);
}

} // namespace

fdl_status fdl_gradcheck_opt(fdl_tensor *(*f)(fdl_list in, void *ctx), fdl_list in, void *ctx,
                             const fdl_gradcheck_opts *opts)
{
    return OP_DO((in), {
        if (!f)
            fail(FDL_E_NULL, "f is NULL");
        std::vector<at::Tensor> inputs = vector_of(in);
        compare(
            moving(in), [&] { return std::vector<at::Tensor>{call(f, inputs, ctx)}; }, or_default(opts));
    });
}

fdl_status fdl_gradgradcheck_opt(fdl_tensor *(*f)(fdl_list in, void *ctx), fdl_list in, void *ctx,
                                 const fdl_gradcheck_opts *opts)
{
    return OP_DO((in), {
        if (!f)
            fail(FDL_E_NULL, "f is NULL");
        std::vector<at::Tensor> inputs = vector_of(in), leaves = moving(in), wanted;
        for (const at::Tensor &x : leaves)
            if (x.defined())
                wanted.push_back(x);
        at::Tensor y = call(f, inputs, ctx);
        if (!y.requires_grad())
            fail(FDL_E_STATE, "the function's result does not require grad");
        auto generator = at::detail::createCPUGenerator(44);
        at::Tensor v = drawn(y, generator, -0.5).set_requires_grad(true);
        leaves.push_back(v);
        compare(
            leaves,
            [&] {
                at::AutoGradMode record(true);
                return torch::autograd::grad({call(f, inputs, ctx)}, wanted, {v}, std::nullopt, true, true);
            },
            or_default(opts));
    });
}
