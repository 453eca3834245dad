/* Watching operations: a callback of libtorch's profiler hooks, on this thread and, since libtorch hands them on, on the
 * threads that run its backward. */
#include "flodl/watch.h"
#include "internal.h"

#include <ATen/record_function.h>

#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <unordered_set>

using namespace flodl;

namespace
{

struct noted {
    const char *name;
    uint64_t hash;
    const char *obstacle, *part;
};

} // namespace

struct fdl_watch {
    std::mutex lock; /* backward runs on threads of its own */
    std::vector<noted> ops;
    std::unordered_set<std::string> names; /* libtorch's own may be gone when the operation is */
    std::thread::id owner = std::this_thread::get_id();
    std::string part;          /* where the owner is */
    std::vector<size_t> outer; /* lengths of part around those that were entered */
    at::CallbackHandle callback = 0;
    bool running = false, broken = false;
};

namespace
{

std::atomic<fdl_watch *> current{nullptr};

class hasher
{
    uint64_t h_ = 0xcbf29ce484222325u;

  public:
    void add(uint64_t v)
    {
        h_ = (h_ ^ v) * 0x9e3779b97f4a7c15u;
        h_ ^= h_ >> 29;
    }
    void add(double v)
    {
        uint64_t bits;
        memcpy(&bits, &v, sizeof bits);
        add(bits);
    }
    void add(const at::Tensor &t)
    {
        if (!t.defined())
            return add(uint64_t(1));
        add((uint64_t)t.scalar_type() << 32 | (uint64_t)t.device().type() << 16 |
            (uint8_t)t.device().index());
        if (t.layout() != at::kStrided)
            return add((uint64_t)t.layout());
        for (int64_t d : t.sizes())
            add((uint64_t)d);
        for (int64_t s : t.strides())
            add((uint64_t)s);
    }
    void add(const c10::IValue &v)
    {
        if (v.isTensor())
            add(v.toTensor());
        else if (v.isDouble())
            add(v.toDouble());
        else if (v.isInt())
            add((uint64_t)v.toInt());
        else if (v.isBool())
            add((uint64_t)v.toBool() + 2);
        else if (v.isComplexDouble()) {
            add(v.toComplexDouble().real());
            add(v.toComplexDouble().imag());
        } else if (v.isString()) {
            for (char c : v.toStringRef())
                add((uint64_t)(unsigned char)c);
        } else if (v.isDevice()) {
            add((uint64_t)v.toDevice().type() << 16 | (uint8_t)v.toDevice().index());
        } else if (v.isTensorList()) {
            for (const at::Tensor &t : v.toTensorVector())
                add(t);
        } else if (v.isIntList()) {
            for (int64_t i : v.toIntVector())
                add((uint64_t)i);
        } else if (v.isDoubleList()) {
            for (double d : v.toDoubleVector())
                add(d);
        } else if (v.isBoolList()) {
            for (bool b : v.toBoolList())
                add((uint64_t)b + 2);
        } else if (v.isList()) {
            for (const c10::IValue &each : v.toListRef())
                add(each);
        } else {
            add((uint64_t)v.isNone());
        }
    }
    uint64_t value() const
    {
        return h_;
    }
};

bool on_cuda(const c10::IValue &v)
{
    return v.isTensor() && v.toTensor().defined() && v.toTensor().is_cuda();
}

/* What the operation does that a CUDA graph can't hold; nullptr: nothing. */
const char *obstacle(const char *name, c10::ArrayRef<const c10::IValue> in)
{
    static const struct {
        const char *name, *why;
    } waiting[] = {
        {"aten::_local_scalar_dense", "reads a value of a device tensor on the host"},
        {"aten::nonzero", "has a result whose shape depends on the data"},
        {"aten::masked_select", "has a result whose shape depends on the data"},
        {"aten::_unique2", "has a result whose shape depends on the data"},
        {"aten::_unique", "has a result whose shape depends on the data"},
        {"aten::unique_dim", "has a result whose shape depends on the data"},
        {"aten::unique_consecutive", "has a result whose shape depends on the data"},
        {"aten::bincount", "has a result whose shape depends on the data"},
        {"aten::repeat_interleave", "has a result whose shape depends on the data"},
    };
    if (strcmp(name, "aten::copy_") == 0 && in.size() >= 2 && in[0].isTensor() && in[1].isTensor()) {
        if (on_cuda(in[0]) && !on_cuda(in[1]))
            return "copies a tensor of the host to the device";
        if (!on_cuda(in[0]) && on_cuda(in[1]))
            return "copies a tensor of the device to the host";
        return nullptr;
    }
    if (in.empty() || !on_cuda(in[0]))
        return nullptr;
    for (const auto &w : waiting)
        if (strcmp(name, w.name) == 0) {
            bool sized = strcmp(name, "aten::repeat_interleave") == 0 && in.size() > 1 && !in[1].isTensor();
            return sized ? nullptr : w.why;
        }
    return nullptr;
}

std::unique_ptr<at::ObserverContext> note(const at::RecordFunction &fn)
{
    fdl_watch *w = current.load(std::memory_order_acquire);
    if (!w)
        return nullptr;
    try {
        hasher h;
        const char *name = fn.name();
        for (const char *c = name; *c; c++)
            h.add((uint64_t)(unsigned char)*c);
        for (const c10::IValue &v : fn.inputs())
            h.add(v);
        const char *why = obstacle(name, fn.inputs());
        std::lock_guard<std::mutex> hold(w->lock);
        bool named = !w->part.empty() && w->owner == std::this_thread::get_id();
        const char *part = named ? w->names.insert(w->part).first->c_str() : nullptr;
        w->ops.push_back({w->names.emplace(name).first->c_str(), h.value(), why, part});
    } catch (...) { /* memory: the watch can say nothing any more */
        w->broken = true;
    }
    return nullptr;
}

} // namespace

bool fdl_watch_running(void)
{
    const fdl_watch *w = current.load(std::memory_order_acquire);
    return w && w->owner == std::this_thread::get_id();
}

void fdl_watch_enter(const char *part)
{
    if (!part || !fdl_watch_running())
        return;
    fdl_watch *w = current.load(std::memory_order_acquire);
    try {
        std::lock_guard<std::mutex> hold(w->lock);
        w->outer.push_back(w->part.size());
        w->part += w->part.empty() ? "" : ": ";
        w->part += part;
    } catch (...) { /* memory: what was entered is never left */
        w->broken = true;
    }
}

void fdl_watch_leave(void)
{
    if (!fdl_watch_running())
        return;
    fdl_watch *w = current.load(std::memory_order_acquire);
    std::lock_guard<std::mutex> hold(w->lock);
    if (!w->outer.empty()) {
        w->part.resize(w->outer.back());
        w->outer.pop_back();
    }
}

fdl_watch *fdl_watch_start(void)
{
    return OP_DO((), {
        auto *w = new fdl_watch;
        fdl_watch *none = nullptr;
        if (!current.compare_exchange_strong(none, w)) {
            delete w;
            fail(FDL_E_STATE, "another watch is running in this process; stop it first");
        }
        try {
            w->ops.reserve(4096);
            w->callback = at::addThreadLocalCallback(
                at::RecordFunctionCallback(note).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
        } catch (...) {
            current.store(nullptr);
            delete w;
            throw;
        }
        w->running = true;
        return w;
    });
}

fdl_status fdl_watch_stop(fdl_watch *w)
{
    return OP_DO((), {
        if (!w)
            fail(FDL_E_NULL, "the watch is NULL");
        if (!w->running)
            return;
        at::removeCallback(w->callback);
        w->running = false;
        current.store(nullptr, std::memory_order_release);
        if (w->broken)
            fail(FDL_E_OOM, "memory ran out for what was watched");
    });
}

void fdl_watch_free(fdl_watch *w)
{
    if (!w)
        return;
    fdl_watch_stop(w);
    delete w;
}

int64_t fdl_watch_count(const fdl_watch *w)
{
    return w ? (int64_t)w->ops.size() : -1;
}

const char *fdl_watch_name(const fdl_watch *w, int64_t i)
{
    return w && i >= 0 && i < (int64_t)w->ops.size() ? w->ops[(size_t)i].name : nullptr;
}

const char *fdl_watch_part(const fdl_watch *w, int64_t i)
{
    return w && i >= 0 && i < (int64_t)w->ops.size() ? w->ops[(size_t)i].part : nullptr;
}

int64_t fdl_watch_difference(const fdl_watch *a, const fdl_watch *b)
{
    if (!a || !b)
        return a == b ? -1 : 0;
    size_t n = std::min(a->ops.size(), b->ops.size());
    for (size_t i = 0; i < n; i++)
        if (a->ops[i].hash != b->ops[i].hash)
            return (int64_t)i;
    return a->ops.size() == b->ops.size() ? -1 : (int64_t)n;
}

int64_t fdl_watch_obstacle(const fdl_watch *w, const char **why)
{
    for (size_t i = 0; w && i < w->ops.size(); i++)
        if (w->ops[i].obstacle) {
            if (why)
                *why = w->ops[i].obstacle;
            return (int64_t)i;
        }
    return -1;
}
