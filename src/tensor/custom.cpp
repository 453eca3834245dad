/* Operations with a backward of the caller's: libtorch's Function with C callbacks. */
#include "flodl/custom.h"
#include "callback.h"

#include <ATen/ExpandUtils.h>
#include <ATen/core/ivalue.h>
#include <torch/csrc/autograd/custom_function.h>

using namespace flodl;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace
{

/* One use of a custom function; the recorded graph holds it. */
struct use : torch::CustomClassHolder {
    fdl_custom_fn f;
    std::string name;
    context owner;
    std::vector<bool> needs;           /* an input requires grad */
    std::vector<at::DimVector> shapes; /* of the inputs */

    use(const fdl_custom_fn &fn, context &&own)
        : f(fn), name(fn.name ? fn.name : "custom"), owner(std::move(own))
    {
        f.name = nullptr;
    }
    int outputs() const
    {
        return f.outputs ? f.outputs : 1;
    }
};

} // namespace

struct fdl_custom_call {
    AutogradContext *ctx;
    const use *u;
    bool forward;
};

namespace
{

typedef fdl_status step(fdl_custom_call *, fdl_list, fdl_tensor **, void *);

/* The n results of one of the callbacks; undefined where it left NULL. */
variable_list results(const use &u, step *f, AutogradContext *ctx, at::TensorList in, size_t n, bool forward)
{
    callback during(u.owner);
    fdl_custom_call call = {ctx, &u, forward};
    fdl_list given = make(in.vec());
    fdl_list out = list_alloc((int)n);
    fdl_status status = f(&call, given, out.at, u.owner.ctx);
    const char *which = forward ? "forward" : "backward";
    during.check(status != FDL_OK, status, (u.name + "'s " + which + " failed without an error").c_str());
    variable_list made(n);
    for (size_t i = 0; i < n; i++) {
        if (!out.at[i])
            continue;
        if (!alive(out.at[i]))
            fail(FDL_E_STATE, "%s's %s gave a freed tensor", u.name.c_str(), which);
        made[i] = out.at[i]->t;
    }
    return made;
}

std::string text(at::IntArrayRef shape)
{
    std::string s = "[";
    for (size_t i = 0; i < shape.size(); i++)
        s += (i ? ", " : "") + std::to_string(shape[i]);
    return s + "]";
}

struct function : torch::autograd::Function<function> {
    static variable_list forward(AutogradContext *ctx, at::TensorList in, const c10::intrusive_ptr<use> &u)
    {
        ctx->saved_data["use"] = c10::IValue::make_capsule(u);
        variable_list out = results(*u, u->f.forward, ctx, in, (size_t)u->outputs(), true);
        for (size_t i = 0; i < out.size(); i++)
            if (!out[i].defined())
                fail(FDL_E_NULL, "%s's forward gave no result %zu", u->name.c_str(), i);
        return out;
    }

    static variable_list backward(AutogradContext *ctx, const variable_list &grads)
    {
        auto u = c10::static_intrusive_pointer_cast<use>(ctx->saved_data["use"].toCapsule());
        if (!u->f.backward)
            fail(FDL_E_UNSUPPORTED, "%s has no backward", u->name.c_str());
        variable_list out = results(*u, u->f.backward, ctx, grads, u->shapes.size(), false);
        for (size_t i = 0; i < out.size(); i++)
            if (out[i].defined() && !at::is_expandable_to(u->shapes[i], out[i].sizes()))
                fail(FDL_E_SHAPE, "%s's backward gave a gradient %s for input %zu, whose shape is %s",
                     u->name.c_str(), text(out[i].sizes()).c_str(), i, text(u->shapes[i]).c_str());
        out.emplace_back(); /* for the use */
        return out;
    }
};

} // namespace

fdl_list fdl_custom(const fdl_custom_fn *f, fdl_list inputs, void *ctx)
{
    context own(ctx, f ? f->release : nullptr);
    return OP_DO((inputs), {
        if (!f || !f->forward)
            fail(FDL_E_NULL, f ? "forward is NULL" : "f is NULL");
        if (f->outputs < 0)
            fail(FDL_E_ARG, "%d outputs", f->outputs);
        auto u = c10::make_intrusive<use>(*f, std::move(own));
        tensors borrowed(inputs);
        at::TensorList in = borrowed;
        for (const at::Tensor &x : in) {
            u->needs.push_back(x.requires_grad());
            u->shapes.emplace_back(x.sizes());
        }
        return function::apply(in, u);
    });
}

namespace
{

/* A call of the right moment; a finished or absent one can't be known. */
void require(const fdl_custom_call *call, bool forward)
{
    if (!call)
        fail(FDL_E_NULL, "call is NULL");
    if (call->forward != forward)
        fail(FDL_E_STATE, "belongs into %s", forward ? "forward" : "backward");
}

variable_list vector_of(fdl_list list)
{
    variable_list all;
    for (int i = 0; i < list.n; i++)
        all.push_back(list.at[i]->t);
    return all;
}

} // namespace

fdl_status fdl_custom_save(fdl_custom_call *call, fdl_list tensors)
{
    return OP_DO((tensors), {
        require(call, true);
        call->ctx->save_for_backward(vector_of(tensors));
    });
}

fdl_status fdl_custom_mark_dirty(fdl_custom_call *call, fdl_list inputs)
{
    return OP_DO((inputs), {
        require(call, true);
        call->ctx->mark_dirty(vector_of(inputs));
    });
}

fdl_status fdl_custom_mark_non_differentiable(fdl_custom_call *call, fdl_list outputs)
{
    return OP_DO((outputs), {
        require(call, true);
        call->ctx->mark_non_differentiable(vector_of(outputs));
    });
}

fdl_list fdl_custom_saved(fdl_custom_call *call)
{
    return OP_DO((), {
        require(call, false);
        return call->ctx->get_saved_variables();
    });
}

bool fdl_custom_needs_grad(fdl_custom_call *call, int i)
{
    return OP_DO((), {
        if (!call)
            fail(FDL_E_NULL, "call is NULL");
        if (i < 0 || (size_t)i >= call->u->needs.size())
            fail(FDL_E_RANGE, "input %d of %zu", i, call->u->needs.size());
        return call->u->needs[(size_t)i] && (call->forward || call->ctx->needs_input_grad((size_t)i));
    });
}
