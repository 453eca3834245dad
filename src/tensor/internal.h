/* What the files of src/tensor share: the handle, the thread's state and the one shape of a wrapper.
 *
 *     fdl_tensor *fdl_matmul(fdl_tensor *a, fdl_tensor *b)
 *     {
 *         return OP((a, b), at::matmul(a->t, b->t));
 *     }
 *
 * OP checks the operands in the parentheses (NULL passes through, a dead handle is an error), evaluates the expression,
 * and makes handles of what it gives: a Tensor becomes a fdl_tensor *, a vector or tuple of them a fdl_list, void an fdl_status,
 * and any other value is returned as it is. An exception becomes the thread's error, with the operands described. */
#ifndef FLODL_TENSOR_INTERNAL_H
#define FLODL_TENSOR_INTERNAL_H

#include <ATen/core/IListRef.h>
#include <ATen/core/Tensor.h>

#include <atomic>
#include <cmath>
#include <exception>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "flodl/scope.h"

enum class handle_state : uint32_t { free = 0, scope = 0x5c09e, kept = 0x4e97, object = 0x0b1ec };

struct fdl_thread;

/* A slot of the thread's pool. Slots are never unmapped, so the state of a dead handle can be read. */
struct fdl_tensor {
    at::Tensor t;
    handle_state state = handle_state::free;
    int line = 0; /* where it was made, in the checked mode */
    fdl_scope *scope = nullptr;
    fdl_tensor *prev = nullptr, *next = nullptr; /* in the scope's list; next in the free list */
    const char *file = nullptr;
};

namespace flodl
{

/* ---- handles (handle.cpp) ---- */

fdl_tensor *make_empty(); /* a scope handle without its tensor; throws std::bad_alloc */
/* Inline, so that a result moves from the register that holds it into its slot. What an empty slot has needs no
 * destructor. */
inline fdl_tensor *make(at::Tensor &&t)
{
    fdl_tensor *x = make_empty();
    new (&x->t) at::Tensor(std::move(t));
    return x;
}
fdl_list make(std::vector<at::Tensor> &&ts);
inline fdl_tensor *make(const at::Tensor &t)
{
    return make(at::Tensor(t));
}
fdl_list list_alloc(int n);
template <class... T>
fdl_list make(std::tuple<T...> &&ts)
{
    fdl_list list = list_alloc((int)sizeof...(T));
    fdl_tensor **at = list.at;
    std::apply([&](T &...t) { ((*at++ = t.defined() ? make(std::move(t)) : nullptr), ...); }, ts);
    return list;
}

inline bool alive(const fdl_tensor *x)
{
    return x->state != handle_state::free;
}

/* ---- operands ---- */

/* An optional tensor: NULL is "absent". */
inline const at::Tensor &or_none(fdl_tensor *x)
{
    static const at::Tensor none;
    return x ? x->t : none;
}

/* The same where libtorch takes an optional: the tensor is borrowed, nothing is counted. */
class maybe
{
    std::optional<at::Tensor> t_;

  public:
    explicit maybe(fdl_tensor *x)
    {
        if (x)
            t_.emplace(c10::MaybeOwnedTraits<at::Tensor>::createBorrow(x->t));
    }
    ~maybe()
    {
        if (t_)
            c10::MaybeOwnedTraits<at::Tensor>::destroyBorrow(*t_);
    }
    maybe(const maybe &) = delete;
    maybe &operator=(const maybe &) = delete;
    operator const std::optional<at::Tensor> &() const
    {
        return t_;
    }
};

/* A list among the options: one that was left out is empty, and not the failed result of another call. */
inline fdl_list optional(const fdl_list &list)
{
    static fdl_tensor *const nothing[1] = {nullptr};
    return list.at || list.n ? list : fdl_list{0, const_cast<fdl_tensor **>(nothing)};
}

[[noreturn, gnu::cold]] void bad_ndim(int ndim); /* error.cpp */
/* A shape or list of dims as it stands: 0 to FDL_MAX_DIMS of them. `extents` in create.h also refuses negative ones. */
inline at::IntArrayRef ints(const fdl_shape &s)
{
    if (FDL_UNLIKELY((unsigned)s.ndim > FDL_MAX_DIMS))
        bad_ndim(s.ndim);
    return at::IntArrayRef(s.d, (size_t)s.ndim);
}
at::IntArrayRef ints(const fdl_ints &s); /* error.cpp: fails on a NULL array */

/* The tensors of a list as libtorch wants them: their bits are borrowed into a buffer of the thread, so that nothing is
 * counted or allocated. Buffers nest like a stack. */
class tensors
{
    at::Tensor *begin_;
    size_t n_;

  public:
    explicit tensors(fdl_list list);
    ~tensors();
    tensors(const tensors &) = delete;
    tensors &operator=(const tensors &) = delete;
    operator at::TensorList() const
    {
        return at::TensorList(begin_, n_);
    }
    operator at::ITensorListRef() const
    {
        return at::ITensorListRef(at::TensorList(begin_, n_));
    }
};

/* ---- types (types.cpp) ---- */

at::ScalarType scalar_type(fdl_dtype d);                      /* the thread's default for FDL_DTYPE_DEFAULT */
std::optional<at::ScalarType> maybe_scalar_type(fdl_dtype d); /* nullopt for FDL_DTYPE_DEFAULT */
fdl_dtype dtype_of(at::ScalarType s);
at::Device device(fdl_device d); /* the thread's default for all zero; throws when it isn't there */
fdl_device device_of(at::Device d);
/* A number as PyTorch takes a Python scalar: whole numbers don't change an integer tensor's dtype. */
inline at::Scalar scalar(double s)
{
    if (s > -9007199254740992.0 && s < 9007199254740992.0) {
        int64_t whole = (int64_t)s;
        if ((double)whole == s && (whole || !std::signbit(s)))
            return at::Scalar(whole);
    }
    return at::Scalar(s);
}

/* ---- errors (error.cpp) ---- */

/* Thrown by a wrapper's own checks. A std::exception, since libtorch's engine hands on no other. */
struct failure : std::exception {
    fdl_status status;
    char text[512];
    const char *what() const noexcept override
    {
        return text;
    }
};
[[noreturn, gnu::cold]] void fail(fdl_status status, const char *format, ...) FDL_PRINTF(2, 3);

/* An optional tensor among the operands: NULL is "absent", a dead handle is an error. */
struct option {
    fdl_tensor *x;
};
inline option opt(fdl_tensor *x)
{
    return {x};
}

/* One operand of a failed call: a tensor, an optional tensor, or a list. */
struct operand {
    enum { tensor, optional_tensor, list } kind;
    fdl_tensor *x;
    fdl_list l;
    operand(fdl_tensor *t) : kind(tensor), x(t), l{}
    {
    }
    operand(option t) : kind(optional_tensor), x(t.x), l{}
    {
    }
    operand(const fdl_list &t) : kind(list), x(nullptr), l(t)
    {
    }
};
/* In a catch block: makes the exception the thread's error, "fdl_matmul([2, 3] float32 cpu, ...): ...". */
[[gnu::cold]] fdl_status caught(const char *function, const operand *operands, int n) noexcept;
/* An operand is NULL or dead: notes it and returns the status. `names` is the text "(a, b)". */
[[gnu::cold]] fdl_status bad_operand(const char *function, const char *names, const operand *operands,
                                     int n) noexcept;

inline bool good(fdl_tensor *x)
{
    return FDL_LIKELY(x != nullptr) && FDL_LIKELY(alive(x));
}
inline bool good(option o)
{
    return !o.x || FDL_LIKELY(alive(o.x));
}
inline bool good(const fdl_list &l)
{
    if (!l.at && l.n == 0)
        return fdl_error_pending() ==
               FDL_OK; /* an empty list is judged by the operation; a failed one is not */
    for (int i = 0; i < l.n; i++)
        if (!l.at || !good(l.at[i]))
            return false;
    return true;
}

/* ---- options and results ---- */

/* The caller's options, or all defaults. */
template <class O>
inline const O &or_default(const O *opts)
{
    static const O none = {};
    return opts ? *opts : none;
}

/* A further result, for a caller who asked for it: *out is NULL until the call has succeeded. */
class result
{
    fdl_tensor **out_;

  public:
    explicit result(fdl_tensor **out) : out_(out)
    {
        if (out_)
            *out_ = nullptr;
    }
    void give(at::Tensor &&t) const
    {
        if (out_)
            *out_ = make(std::move(t));
    }
    explicit operator bool() const
    {
        return out_ != nullptr;
    }
};

/* What a wrapper returns for the value of its expression. */
template <class V>
struct result_of {
    static V from(V &&v)
    {
        return std::move(v);
    }
    static V failed(fdl_status)
    {
        return V();
    }
};
template <>
struct result_of<at::Tensor> {
    static fdl_tensor *from(at::Tensor &&t)
    {
        return make(std::move(t));
    }
    static fdl_tensor *failed(fdl_status)
    {
        return nullptr;
    }
};
template <>
struct result_of<std::vector<at::Tensor>> {
    static fdl_list from(std::vector<at::Tensor> &&ts)
    {
        return make(std::move(ts));
    }
    static fdl_list failed(fdl_status)
    {
        return fdl_list{0, nullptr};
    }
};
template <class... T>
struct result_of<std::tuple<T...>> {
    static fdl_list from(std::tuple<T...> &&ts)
    {
        return make(std::move(ts));
    }
    static fdl_list failed(fdl_status)
    {
        return fdl_list{0, nullptr};
    }
};

template <class... Operands>
inline std::tuple<Operands...> pack(Operands... x)
{
    return {x...};
}

template <class F, class... Operands>
inline auto run(const char *function, const char *names, std::tuple<Operands...> operands, F &&f) noexcept
{
    using value = std::decay_t<decltype(f())>;
    auto refuse = [&](auto &&handler) {
        fdl_status status = std::apply(
            [&](auto... x) {
                const operand all[] = {operand(x)..., operand(nullptr)};
                return handler(all, (int)sizeof...(x));
            },
            operands);
        if constexpr (std::is_void_v<value>)
            return status;
        else
            return result_of<value>::failed(status);
    };
    if (FDL_UNLIKELY(!std::apply([](auto... x) { return (good(x) && ...); }, operands)))
        return refuse([&](const operand *all, int n) { return bad_operand(function, names, all, n); });
    try {
        if constexpr (std::is_void_v<value>) {
            f();
            return FDL_OK;
        } else {
            return result_of<value>::from(f());
        }
    } catch (...) {
        return refuse([&](const operand *all, int n) { return caught(function, all, n); });
    }
}

} // namespace flodl

/* OP((operands), expression), and OP_DO((operands), { statements; return value; }). */
#define OP(operands, ...) flodl::run(__func__, #operands, flodl::pack operands, [&]() { return __VA_ARGS__; })
#define OP_DO(operands, ...) flodl::run(__func__, #operands, flodl::pack operands, [&]() __VA_ARGS__)

/* The whole wrapper of an operation that takes one tensor, or two. */
#define UNARY(name, op)             \
    fdl_tensor *name(fdl_tensor *x) \
    {                               \
        return OP((x), op(x->t));   \
    }
#define BINARY(name, op)                           \
    fdl_tensor *name(fdl_tensor *a, fdl_tensor *b) \
    {                                              \
        return OP((a, b), op(a->t, b->t));         \
    }

#endif
