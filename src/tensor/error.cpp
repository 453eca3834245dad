/* Exceptions become the thread's error: what was asked (operation, shapes, dtypes, devices), then libtorch's
 * own first line without its backtrace, classified by exception type and text. Runs on failure only. */
#include "callback.h"
#include "cuda.h"
#include "internal.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>

#include <cstdarg>
#include <new>
#include <string>

#include "flodl/tensor.h"

namespace flodl
{

void fail(fdl_status status, const char *format, ...)
{
    failure f;
    f.status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(f.text, sizeof f.text, format, args);
    va_end(args);
    throw f;
}

void bad_ndim(int ndim)
{
    fail(FDL_E_ARG, "a shape has 0 to %d dims, got %d", FDL_MAX_DIMS, ndim);
}

at::IntArrayRef ints(const fdl_ints &s)
{
    if (s.n < 0 || (s.n && !s.at))
        fail(s.n < 0 ? FDL_E_ARG : FDL_E_NULL,
             s.n < 0 ? "a list of %d integers" : "the list of %d integers is NULL", s.n);
    return at::IntArrayRef(s.at, (size_t)s.n);
}

namespace
{

/* "fdl_gelu_opt" is what the user wrote as fdl_gelu, "fdl_add_tensor" as fdl_add. */
std::string called(const char *function)
{
    std::string name = function;
    for (const char *end : {"_opt", "_tensor"}) {
        size_t length = strlen(end);
        if (name.size() > length && name.compare(name.size() - length, length, end) == 0)
            name.resize(name.size() - length);
    }
    size_t at =
        name.size() > 5 ? name.size() - 5 : std::string::npos; /* fdl_add_opt_ is fdl_add_ in a program */
    if (at != std::string::npos && name.compare(at, 5, "_opt_") == 0)
        name.replace(at, 5, "_");
    return name;
}

std::string described(fdl_tensor *x)
{
    if (!x)
        return "NULL";
    if (!alive(x))
        return "freed";
    char text[256];
    return fdl_describe(x, text, sizeof text);
}

std::string call_text(const char *function, const operand *operands, int n)
{
    std::string text = called(function) + "(";
    for (int i = 0; i < n; i++) {
        if (operands[i].kind == operand::optional_tensor && !operands[i].x)
            continue;
        if (text.back() != '(')
            text += ", ";
        if (operands[i].kind != operand::list) {
            text += described(operands[i].x);
            continue;
        }
        text += "{";
        for (int k = 0; k < operands[i].l.n && operands[i].l.at; k++) {
            if (k == 4 && operands[i].l.n > 5) {
                text += ", ... " + std::to_string(operands[i].l.n) + " in all";
                break;
            }
            text += (k ? ", " : "") + described(operands[i].l.at[k]);
        }
        text += "}";
    }
    return text + ")";
}

/* The k-th name of "(a, b, opt(o.bias))": "bias" for k = 2. */
std::string operand_name(const char *names, int k)
{
    std::string text = names;
    size_t from = 1;
    for (int i = 0; i < k; i++)
        from = text.find(',', from) + 1;
    size_t to = text.find_first_of(",)", from);
    while (from < to && text[from] == ' ')
        from++;
    if (text.compare(from, 6, "opt(o.") == 0)
        from += 6;
    return text.substr(from, to - from);
}

bool contains(const std::string &text, std::initializer_list<const char *> words)
{
    for (const char *word : words)
        if (text.find(word) != std::string::npos)
            return true;
    return false;
}

/* Libtorch has few exception types; its texts say the rest. */
fdl_status classify(const std::string &text)
{
    if (contains(text,
                 {"out of memory", "can't allocate memory", "not enough memory", "STATUS_ALLOC_FAILED"}))
        return FDL_E_OOM;
    if (contains(text, {"captur"})) /* of a CUDA graph */
        return FDL_E_STATE;
    if (contains(text,
                 {"LAPACK", "MAGMA", "cuSOLVER", "compiling PyTorch with", "deterministic implementation"}))
        return FDL_E_UNSUPPORTED;
    if (contains(text,
                 {"ZeroDivisionError", "is singular", "positive-definite", "negative n",
                  "linalg.matrix_norm: Order", "negative integer powers", "appears multiple times",
                  "duplicate dims", "should be between 0 and 1", "Expected p_in", "multinomial distribution",
                  "probability tensor", "n_sample", "must be non-negative", "must be positive",
                  "non-negative integral", "must be in the range", "must be divisible by 2"}))
        return FDL_E_ARG;
    if (contains(text, {"same device", "different devices", "on device", "Expected all tensors",
                        "CUDA driver", "invalid device", "No CUDA", "not compiled with CUDA",
                        "Cannot access accelerator", "CUDA devices", "CUDA support", "Found no NVIDIA"}))
        return FDL_E_DEVICE;
    if (contains(text, {"Dimension out of range", "index out of range", "out of bounds", "out of range",
                        "is out of", "Dimension specified as", "Class values must be", "exceed the length",
                        "exceeds dimension size"}))
        return FDL_E_RANGE;
    if (contains(text, {"requires grad", "require grad", "backward through the graph a second time",
                        "modified by an inplace operation", "leaf Variable", "nference tensor",
                        "a view of a leaf", "single memory location", "not have been used in the graph"}))
        return FDL_E_STATE;
    if (contains(text, {"dtype", "scalar type", "not implemented for '", "Float", "Long", "Bool", "type Byte",
                        "integral", "floating point", "data type", "not supported on tensor", "input types",
                        "result type", "bool tensor"}))
        return FDL_E_DTYPE;
    if (contains(text, {"shape",
                        "size",
                        "dimension",
                        "Dimension",
                        "dim ",
                        "-D",
                        " 2D",
                        " 3D",
                        "must match",
                        "elements",
                        "broadcast",
                        "mat1",
                        "matrix",
                        "matrices",
                        "destination dims",
                        "channels",
                        "rank",
                        "equal number of",
                        "Expected "
                        "input batch",
                        "weight of size",
                        "Kernel",
                        "wrapping around more than once",
                        "kernel"}))
        return FDL_E_SHAPE;
    return FDL_E_TORCH;
}

/* The first line, without "Exception raised from" and the source position behind it. */
std::string first_line(std::string text)
{
    for (const char *cut :
         {"\nException raised from", " (Exception raised from", "  (Could this error message", "\n"}) {
        size_t at = text.find(cut);
        if (at != std::string::npos)
            text.resize(at);
    }
    return text;
}

/* What to do about a frequent mistake. Libtorch's own advice, where it gives any, names functions of Python: it is cut off, and what
 * flodl has for it stands there. */
struct advice {
    const char *mistake;
    const char *theirs; /* where libtorch's advice begins; nullptr: it gives none */
    const char *ours;
};

const advice advices[] = {
    {"mat1 and mat2 shapes cannot be multiplied", nullptr, "the inner sizes must agree"},
    {"must match the size of tensor b", nullptr, "sizes broadcast where they are equal or one of them is 1"},
    {"leaf Variable that requires grad is being used in an in-place operation", nullptr,
     "put FDL_NO_GRAD; before it"},
    {"single memory location", " Please clone() the tensor",
     "fdl_clone gives each element a place of its own"},
    {"backward through the graph a second time", " Saved intermediate values",
     "pass .retain_graph = true to the first fdl_backward, or, where the state of a graph leads into an "
     "earlier call, end each step with fdl_graph_end_step"},
    {"has been modified by an inplace operation", " Hint:",
     "it was changed by an operation whose name ends in _, behind the one that needs it here; the operation "
     "without the _ leaves it alone, fdl_clone keeps what it was"},
    {"not have been used in the graph", " Set allow_unused",
     ".allow_unused = true gives NULL for it instead of an error"},
    {"only change requires_grad flags of leaf variables", " If you want", "fdl_detach(x) is a leaf"},
    {"Inference tensors cannot be saved for backward", " Please do not",
     "fdl_clone outside makes one that can, or put FDL_NO_GRAD; in place of FDL_INFERENCE;"},
    {"Inplace update to inference tensor", "You can make a clone",
     "fdl_clone outside makes one that can be changed"},
    {"unsafe to autocast", "torch.nn.functional",
     "fdl_binary_cross_entropy is unsafe under autocast; give what stands before the sigmoid to "
     "fdl_binary_cross_entropy_with_logits"},
    {"deterministic implementation", ", but you set",
     "fdl_deterministic(false) around it, or .warn_only = true, allows it"},
};

std::string advised(std::string text)
{
    for (const advice &a : advices) {
        if (text.find(a.mistake) == std::string::npos)
            continue;
        size_t at = a.theirs ? text.find(a.theirs) : std::string::npos;
        if (at != std::string::npos)
            text.resize(at);
        while (!text.empty() && (text.back() == '.' || text.back() == ' '))
            text.pop_back();
        return text.empty() ? a.ours : text + "; " + a.ours;
    }
    return text;
}

fdl_status report(const char *function, const operand *operands, int n, fdl_status status,
                  const std::string &why)
{
    return fdl_fail(status, "%s: %s", call_text(function, operands, n).c_str(), why.c_str());
}

/* Whether a kernel went so wrong that the process can't use its devices any more. This is a fact about the process: from
 * then on whatever CUDA and its libraries report is a consequence, however it is worded. */
std::atomic<bool> context_lost{false};

bool loses_context(const std::string &why)
{
    return contains(why, {"CUDA error"}) &&
           contains(why, {"illegal memory access", "device-side assert", "misaligned address",
                          "illegal instruction", "invalid program counter", "unspecified launch failure",
                          "launch timed out", "hardware stack error", "address space", "uncorrectable"});
}

fdl_status report_torch(const char *function, const operand *operands, int n, const std::string &text)
{
    std::string why = first_line(text);
    if (loses_context(why) && !context_lost.exchange(true))
        return report(function, operands, n, FDL_E_DEVICE,
                      why + "; the CUDA context is lost; restart the process");
    if (context_lost && contains(why, {"CUDA", "CUBLAS", "CUDNN", "cuDNN", "CUSOLVER", "CUSPARSE", "NCCL"}))
        return report(function, operands, n, FDL_E_DEVICE, why + " (the CUDA context was lost before)");
    return report(function, operands, n, classify(why), advised(why));
}

} // namespace

fdl_status caught(const char *function, const operand *operands, int n) noexcept
{
    try {
        try {
            throw;
        } catch (const failure &f) {
            return report(function, operands, n, f.status, f.text);
        } catch (const passed_on &e) {
            fdl_status status = fdl_fail(e.status, "%s", e.message.c_str());
            if (e.file)
                fdl_error_place(e.file, e.line);
            return status;
        } catch (const c10::OutOfMemoryError &e) {
            return report(function, operands, n, FDL_E_OOM, first_line(oom_text(e.what_without_backtrace())));
        } catch (const c10::IndexError &e) {
            return report(function, operands, n, FDL_E_RANGE, first_line(e.what_without_backtrace()));
        } catch (const c10::Error &e) {
            return report_torch(function, operands, n, e.what_without_backtrace());
        } catch (const std::bad_alloc &) {
            return report(function, operands, n, FDL_E_OOM, "memory ran out");
        } catch (const std::exception &e) {
            return report_torch(function, operands, n, e.what());
        } catch (...) {
            return report(function, operands, n, FDL_E_TORCH, "unknown exception");
        }
    } catch (...) { /* describing the operands failed: memory is short */
        return fdl_fail(FDL_E_OOM, "%s: memory ran out", function);
    }
}

fdl_status bad_operand(const char *function, const char *names, const operand *operands, int n) noexcept
{
    try {
        for (int i = 0; i < n; i++) {
            const operand &o = operands[i];
            int count = o.kind == operand::list ? o.l.n : 1;
            if (o.kind == operand::list && o.l.at && count == 0)
                continue;
            for (int k = 0; k < count || k == 0; k++) {
                fdl_tensor *x = o.kind != operand::list ? o.x : o.l.at && k < o.l.n ? o.l.at[k] : nullptr;
                if (x ? alive(x) : o.kind == operand::optional_tensor)
                    continue;
                std::string name = operand_name(names, i);
                if (o.kind == operand::list && o.l.at)
                    name += "[" + std::to_string(k) + "]";
                if (!x)
                    return fdl_null_operand(called(function).c_str(), name.c_str());
                if (x->file)
                    return fdl_fail(
                        FDL_E_STATE,
                        "%s: %s was freed: its scope has closed, or it was freed by hand (made at %s:%d)",
                        called(function).c_str(), name.c_str(), x->file, x->line);
                return fdl_fail(FDL_E_STATE,
                                "%s: %s was freed: its scope has closed, or it was freed by hand "
                                "(FLODL_CHECKED=1 says where it was made)",
                                called(function).c_str(), name.c_str());
            }
        }
        return fdl_fail(FDL_E_STATE, "%s: bad operand", function);
    } catch (...) {
        return fdl_fail(FDL_E_OOM, "%s: memory ran out", function);
    }
}

} // namespace flodl
