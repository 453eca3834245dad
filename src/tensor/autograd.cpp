/* Gradients: thin calls of libtorch's engine, and the check of a gradient by finite differences. */
#include "flodl/autograd.h"
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

} // namespace

fdl_status fdl_backward_opt(fdl_tensor *loss, const fdl_backward_opts *opts)
{
    static const fdl_backward_opts none = {};
    const fdl_backward_opts &o = opts ? *opts : none;
    fdl_list inputs = o.inputs;
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
    return OP_DO((x), {
        std::unordered_set<torch::autograd::Node *> seen;
        std::vector<torch::autograd::Node *> todo;
        auto visit = [&](torch::autograd::Node *node) {
            if (node && seen.insert(node).second)
                todo.push_back(node);
        };
        visit(x->t.grad_fn().get());
        while (!todo.empty()) {
            torch::autograd::Node *node = todo.back();
            todo.pop_back();
            for (const auto &edge : node->next_edges())
                visit(edge.function.get());
        }
        return (int64_t)seen.size();
    });
}

fdl_list fdl_grad_of_opt(fdl_list outputs, fdl_list inputs, const fdl_grad_of_opts *opts)
{
    static const fdl_grad_of_opts none = {};
    const fdl_grad_of_opts &o = opts ? *opts : none;
    fdl_list grad_outputs = o.grad_outputs;
    return OP_DO((outputs, inputs, grad_outputs), {
        if (!outputs.n || !inputs.n)
            fail(FDL_E_ARG, "%s", outputs.n ? "no inputs" : "no outputs");
        if (grad_outputs.n && grad_outputs.n != outputs.n)
            fail(FDL_E_ARG, "%d outputs but %d grad_outputs", outputs.n, grad_outputs.n);
        std::vector<at::Tensor> gs = vector_of(grad_outputs);
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

/* ---- gradcheck --------------------------------------------------------------------------------------------- */

namespace
{

typedef fdl_tensor *(*checked_fn)(fdl_list, void *);

/* f on the inputs, in a scope of its own; throws `failure` with the pending error when f fails. */
at::Tensor call(checked_fn f, fdl_list in, void *ctx)
{
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *y = f(in, ctx);
    at::Tensor t;
    if (good(y))
        t = y->t;
    fdl_scope_close(scope);
    if (!t.defined())
        fail(fdl_error_pending() ? fdl_error_pending() : FDL_E_NULL, "the function returned no tensor");
    if (!at::isFloatingType(t.scalar_type()))
        fail(FDL_E_DTYPE, "the function's result is not floating");
    return t;
}

} // namespace

fdl_status fdl_gradcheck_opt(fdl_tensor *(*f)(fdl_list in, void *ctx), fdl_list in, void *ctx,
                             const fdl_gradcheck_opts *opts)
{
    static const fdl_gradcheck_opts none = {};
    const fdl_gradcheck_opts &o = opts ? *opts : none;
    return OP_DO((in), {
        double eps = fdl_opt_double(o.eps, 1e-6);
        double atol = fdl_opt_double(o.atol, 1e-5);
        double rtol = fdl_opt_double(o.rtol, 1e-3);
        if (!f)
            fail(FDL_E_NULL, "f is NULL");
        if (!(eps > 0))
            fail(FDL_E_ARG, "eps %g", eps);
        int checked = 0;
        for (int i = 0; i < in.n; i++) {
            if (!in.at[i]->t.requires_grad())
                continue;
            if (in.at[i]->t.scalar_type() != at::kDouble)
                fail(FDL_E_DTYPE, "input %d is not float64", i);
            if (!in.at[i]->t.is_leaf() || !in.at[i]->t.is_non_overlapping_and_dense())
                fail(FDL_E_ARG, "input %d is not a dense leaf", i);
            checked++;
        }
        if (!checked)
            fail(FDL_E_ARG, "no input requires grad");

        at::Tensor y = call(f, in, ctx);
        at::Tensor again = call(f, in, ctx);
        if (y.sizes() != again.sizes() || !y.detach().equal(again.detach()))
            fail(FDL_E_STATE, "not deterministic: two calls with equal inputs differ");
        if (!y.requires_grad())
            fail(FDL_E_STATE, "the function's result does not require grad");
        auto generator = at::detail::createCPUGenerator(42);
        at::Tensor w =
            (at::rand(y.sizes(), generator, at::TensorOptions().dtype(y.scalar_type())) + 0.5).to(y.device());

        std::vector<at::Tensor> leaves;
        for (int i = 0; i < in.n; i++)
            if (in.at[i]->t.requires_grad())
                leaves.push_back(in.at[i]->t);
        std::vector<at::Tensor> analytic =
            torch::autograd::grad({(y * w).sum()}, leaves, {}, {}, false, true);

        fdl_gradcheck_report worst = {};
        worst.worst = -1;
        c10::NoGradGuard no_grad;
        auto value = [&] { return (call(f, in, ctx) * w).sum().item<double>(); };
        size_t k = 0;
        for (int i = 0; i < in.n; i++) {
            if (!in.at[i]->t.requires_grad())
                continue;
            at::Tensor x = in.at[i]->t.detach();
            at::Tensor flat = x.as_strided({x.numel()}, {1}); /* elements in memory order: any dense layout */
            at::Tensor g = analytic[k++];
            at::Tensor grads = g.defined() ? g : at::zeros_like(x);
            at::Tensor g_flat = at::empty_like(x).copy_(grads).as_strided({x.numel()}, {1}).cpu();
            for (int64_t e = 0; e < flat.numel(); e++) {
                at::Tensor one = flat[e];
                double before = one.item<double>();
                one.fill_(before + eps);
                double up = value();
                one.fill_(before - eps);
                double down = value();
                one.fill_(before);
                double numeric = (up - down) / (2 * eps), a = g_flat[e].item<double>();
                double ratio = std::fabs(a - numeric) / (atol + rtol * std::fabs(numeric));
                if (!(ratio <= worst.worst))
                    worst = {std::isnan(ratio) ? HUGE_VAL : ratio, i, e, a, numeric};
            }
        }
        if (o.report)
            *o.report = worst;
        if (worst.worst > 1)
            fail(FDL_E_MISMATCH,
                 "input %d, element %" PRId64 ": the gradient is %.10g, the difference quotient %.10g",
                 worst.input, worst.element, worst.analytic, worst.numeric);
    });
}
