/* The C++ side of bench_ops: the rows of tests/ops.def as calls of libtorch. */
#include <ATen/ATen.h>

#include <new>
#include <tuple>
#include <vector>

#include "ops_torch.h"

namespace
{

enum { most = 7 };

bool good(const at::Tensor &x)
{
    return x.defined();
}
bool good(const std::vector<at::Tensor> &xs)
{
    return !xs.empty();
}
template <class... T>
bool good(const std::tuple<T...> &xs)
{
    return std::get<0>(xs).defined();
}

/* What IN_A_SCOPE calls gave, made in place as a variable's initial value is. */
template <class T>
class results
{
    alignas(T) unsigned char room_[IN_A_SCOPE][sizeof(T)];
    int n_ = 0;

    T *at(int i)
    {
        return reinterpret_cast<T *>(room_[i]);
    }

  public:
    results() = default;
    results(const results &) = delete;
    results &operator=(const results &) = delete;
    ~results()
    {
        while (n_)
            at(--n_)->~T();
    }
    template <class F>
    bool add(F &&call)
    {
        return good(*new (at(n_++)) T(call()));
    }
};

#define OP(name, samples, call, python, cpp)                                          \
    int run_##name(const at::Tensor *x, int n)                                        \
    {                                                                                 \
        [[maybe_unused]] const at::Tensor &a = x[0], &b = x[1], &c = x[2], &d = x[3]; \
        auto value = [&]() { return cpp; };                                           \
        int good_ones = 0;                                                            \
        for (int i = 0; i < n; i += IN_A_SCOPE) {                                     \
            results<decltype(value())> held;                                          \
            for (int k = 0; k < IN_A_SCOPE; k++)                                      \
                good_ones += held.add(value);                                         \
        }                                                                             \
        return good_ones;                                                             \
    }
#define CASE(name, samples, call, python)
#define BAD(name, sample, call, status, word)
#include "../tests/ops.def"
#undef OP

int (*const rows[])(const at::Tensor *, int) = {
#define OP(name, samples, call, python, cpp) run_##name,
#include "../tests/ops.def"
#undef OP
};

at::Tensor copy(fdl_tensor *x)
{
    static const at::ScalarType types[] = {at::kFloat,    at::kFloat, at::kDouble, at::kHalf,
                                           at::kBFloat16, at::kChar,  at::kByte,   at::kShort,
                                           at::kInt,      at::kLong,  at::kBool};
    fdl_shape shape = fdl_shape_of(x);
    at::IntArrayRef sizes(shape.d, static_cast<size_t>(shape.ndim));
    return at::from_blob(fdl_data_ptr(x), sizes, at::TensorOptions().dtype(types[fdl_dtype_of(x)])).clone();
}

} // namespace

struct torch_side {
    int row;
    at::Tensor operands[most];
};

torch_side *torch_side_new(int row, int n, fdl_tensor *const *operands)
try {
    auto *side = new torch_side{row, {}};
    for (int i = 0; i < n && i < most; i++)
        side->operands[i] = copy(operands[i]);
    return side;
} catch (...) {
    return nullptr;
}

int torch_side_run(torch_side *side, int n)
try {
    return rows[side->row](side->operands, n) == n ? 0 : -1;
} catch (const std::exception &e) {
    fprintf(stderr, "%s\n", e.what());
    return -1;
}

void torch_side_free(torch_side *side)
{
    delete side;
}
