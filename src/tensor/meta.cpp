/* The operations of the meta device. libtorch itself has meta kernels for most; PyTorch writes the others (convolution, relu,
 * batch_norm, where, ...) in Python, which isn't there. Those run here on the CPU, on zeros that have the shapes of the
 * operands and one element of memory, and what comes of it has its shape taken. Those of large results have kernels of their own. */
#include "meta.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <mutex>
#include <set>

namespace
{

at::Tensor on_cpu(const at::Tensor &t, bool written)
{
    if (!t.defined() || !t.is_meta())
        return t;
    auto options = t.options().device(at::kCPU);
    return written ? at::zeros(t.sizes(), options) : at::zeros({}, options).expand(t.sizes());
}

at::Tensor on_meta(const at::Tensor &t)
{
    return t.defined() && t.is_cpu()
               ? at::empty_strided(t.sizes(), t.strides(), t.options().device(at::kMeta))
               : t;
}

c10::IValue to_cpu(const c10::IValue &v, bool written)
{
    if (v.isTensor())
        return on_cpu(v.toTensor(), written);
    if (v.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor &t : v.toTensorVector())
            list.push_back(on_cpu(t, written));
        return list;
    }
    if (v.isOptionalTensorList()) {
        c10::List<std::optional<at::Tensor>> list;
        for (const std::optional<at::Tensor> &t : v.toOptionalTensorVector())
            list.push_back(t ? std::optional<at::Tensor>(on_cpu(*t, written)) : t);
        return list;
    }
    if (v.isDevice() && v.toDevice().is_meta())
        return c10::IValue(at::Device(at::kCPU));
    return v;
}

c10::IValue to_meta(const c10::IValue &v)
{
    if (v.isTensor())
        return on_meta(v.toTensor());
    if (!v.isTensorList())
        return v;
    c10::List<at::Tensor> list;
    for (const at::Tensor &t : v.toTensorVector())
        list.push_back(on_meta(t));
    return list;
}

/* The operand that a result is, where the operation writes into one. */
const c10::IValue *written_operand(const c10::FunctionSchema &schema,
                                   const std::vector<c10::IValue> &operands, const c10::Argument &result)
{
    const c10::AliasInfo *alias = result.alias_info();
    for (size_t i = 0; alias && alias->isWrite() && i < operands.size(); i++) {
        const c10::AliasInfo *a = schema.arguments()[i].alias_info();
        if (a && a->isWrite() && a->beforeSets() == alias->beforeSets())
            return &operands[i];
    }
    return nullptr;
}

void by_the_cpu(const c10::OperatorHandle &op, torch::jit::Stack *stack)
{
    const c10::FunctionSchema &schema = op.schema();
    size_t n = schema.arguments().size(), begin = stack->size() - n;
    std::vector<c10::IValue> operands(stack->begin() + (std::ptrdiff_t)begin, stack->end());
    for (size_t i = 0; i < n; i++) {
        const c10::AliasInfo *alias = schema.arguments()[i].alias_info();
        (*stack)[begin + i] = to_cpu(operands[i], alias && alias->isWrite());
    }
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), stack);
    for (size_t i = 0; i < schema.returns().size(); i++) {
        c10::IValue &result = (*stack)[begin + i];
        const c10::IValue *operand = written_operand(schema, operands, schema.returns()[i]);
        if (operand && operand->isTensor() && result.isTensor()) {
            if (operand->toTensor().sizes() != result.toTensor().sizes())
                operand->toTensor().resize_(result.toTensor().sizes());
            result = *operand;
        } else {
            result = to_meta(result);
        }
    }
}

/* at::convolution has checked the operands. */
at::Tensor convolution(const at::Tensor &x, const at::Tensor &w, const std::optional<at::Tensor> &bias,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       bool transposed, at::IntArrayRef output_padding, int64_t groups)
{
    (void)bias;
    std::vector<int64_t> sizes = {x.size(0), transposed ? w.size(1) * groups : w.size(0)};
    for (int64_t d = 2; d < x.dim(); d++) {
        size_t i = (size_t)d - 2;
        int64_t window = dilation[i] * (w.size(d) - 1) + 1;
        sizes.push_back(transposed ? (x.size(d) - 1) * stride[i] - 2 * padding[i] + window + output_padding[i]
                                   : (x.size(d) + 2 * padding[i] - window) / stride[i] + 1);
    }
    return at::empty(sizes, x.options());
}

at::Tensor same(const at::Tensor &x)
{
    return at::empty_like(x);
}

at::Tensor &same_(at::Tensor &x)
{
    return x;
}

at::Tensor hardtanh(const at::Tensor &x, const at::Scalar &, const at::Scalar &)
{
    return at::empty_like(x);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> batch_norm(
    const at::Tensor &x, const std::optional<at::Tensor> &, const std::optional<at::Tensor> &,
    const std::optional<at::Tensor> &, const std::optional<at::Tensor> &, bool training, double, double)
{
    at::Tensor saved = at::empty({training ? x.size(1) : 0}, x.options());
    return {at::empty_like(x), saved, at::empty_like(saved)};
}

bool has_none(const c10::OperatorHandle &op)
{
    using key = c10::DispatchKey;
    for (key k : {key::Meta, key::CompositeImplicitAutograd, key::CompositeExplicitAutograd,
                  key::CompositeExplicitAutogradNonFunctional})
        if (op.hasKernelForDispatchKey(k))
            return false;
    return op.hasKernelForDispatchKey(key::CPU);
}

void add_kernels()
{
    /* never freed: kernels are looked up until the process ends */
    static torch::Library *const library =
        new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__);
    const std::set<std::string> own = {"aten::relu", "aten::relu_", "aten::hardtanh",
                                       "aten::native_batch_norm"};
    c10::Dispatcher &dispatcher = c10::Dispatcher::singleton();
    for (const c10::OperatorName &name : dispatcher.getAllOpNames()) {
        if (name.name.rfind("aten::", 0) != 0)
            continue;
        auto op = dispatcher.findSchema(name);
        if (!op || !has_none(*op) || own.count(name.name + name.overload_name))
            continue;
        std::string full = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
        library->impl(full.c_str(), torch::CppFunction::makeFromBoxedFunction<&by_the_cpu>());
    }
    library->impl("convolution_overrideable", TORCH_FN(convolution));
    library->impl("relu", TORCH_FN(same));
    library->impl("relu_", TORCH_FN(same_));
    library->impl("hardtanh", TORCH_FN(hardtanh));
    library->impl("native_batch_norm", TORCH_FN(batch_norm));
}

} // namespace

void flodl::prepare_meta()
{
    static std::once_flag once;
    std::call_once(once, add_kernels);
}
