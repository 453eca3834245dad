/* Handles, scopes and modes: the memory model of docs/memory.md.
 *
 * A thread has a pool of slots (first in, first out, so that a dead handle stays recognisable for a while), a stack of
 * scopes whose records and memory come from free lists of their own, and a stack of modes. After warm-up nothing here
 * calls malloc. */
#include "flodl/scope.h"
#include "internal.h"
#include "thread.h"

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <mutex>

using flodl::self;
using flodl::thread;

/* ---- process-wide: threads, the depot of free slots ------------------------------------------------ */

namespace
{

enum : size_t {
    slab_slots =
        64, /* made at a time: few enough for the first-level cache, enough to recognise a dead handle */
    depot_slots = 256, /* given to the depot at a time */
    spare_slots = 1280 /* that a thread keeps at most */
};

struct {
    std::mutex lock;
    thread *threads = nullptr;
    std::atomic<int64_t> live_of_ended{0}; /* what ended threads made less what they freed */
    fdl_tensor *depot = nullptr;           /* chains of slots, linked by prev */
    fdl_tensor *retired = nullptr;         /* slots that the checked mode never uses again */
} process;

std::atomic<bool> checked{[] {
    const char *value = getenv("FLODL_CHECKED");
    return value && *value && *value != '0';
}()};

inline void put_slot(thread &th, fdl_tensor *slot)
{
    slot->next = nullptr;
    *th.free_end = slot;
    th.free_end = &slot->next;
    th.free_count++;
}

/* Gives the oldest depot_slots free slots to the other threads. */
[[gnu::cold, gnu::noinline]] void give_to_depot(thread &th)
{
    fdl_tensor *first = th.free_first, *last = first;
    for (size_t i = 1; i < depot_slots; i++)
        last = last->next;
    th.free_first = last->next;
    last->next = nullptr;
    th.free_count -= depot_slots;
    std::lock_guard<std::mutex> hold(process.lock);
    first->prev = process.depot;
    process.depot = first;
}

/* Of the depot's chains as many as make two slots, or a slab. */
[[gnu::cold, gnu::noinline]] void refill(thread &th)
{
    {
        std::lock_guard<std::mutex> hold(process.lock);
        while (th.free_count < 2 && process.depot) {
            fdl_tensor *slot = process.depot;
            process.depot = slot->prev;
            for (fdl_tensor *next; slot; slot = next) {
                next = slot->next;
                put_slot(th, slot);
            }
        }
    }
    if (th.free_count >= 2)
        return;
    fdl_tensor *slab = new fdl_tensor[slab_slots];
    for (size_t i = 0; i < slab_slots; i++)
        put_slot(th, &slab[i]);
}

/* Never the last one. */
inline fdl_tensor *take_slot(thread &th)
{
    if (FDL_UNLIKELY(th.free_count < 2))
        refill(th);
    fdl_tensor *slot = th.free_first;
    th.free_first = slot->next;
    th.free_count--;
    th.count(1);
    return slot;
}

[[gnu::cold, gnu::noinline]] void retire(fdl_tensor *x)
{
    std::lock_guard<std::mutex> hold(process.lock);
    x->next = process.retired;
    process.retired = x;
}

/* The slot is unlinked already. Dropping the tensor can run code of the caller (from_blob's release). */
inline void kill(thread &th, fdl_tensor *x)
{
    at::Tensor dying = std::move(x->t);
    x->state = handle_state::free;
    th.count(-1);
    if (FDL_UNLIKELY(checked.load(std::memory_order_relaxed)))
        return retire(x);
    put_slot(th, x);
    if (FDL_UNLIKELY(th.free_count > spare_slots))
        give_to_depot(th);
}

/* A scope's list: prev of its first means nothing. */
inline void unlink_first(fdl_scope &scope)
{
    scope.first = scope.first->next;
}

void unlink(fdl_tensor *x)
{
    if (x->scope->first == x)
        return unlink_first(*x->scope);
    x->prev->next = x->next;
    if (x->next)
        x->next->prev = x->prev;
}

inline void link(fdl_tensor *x, fdl_scope *scope)
{
    x->scope = scope;
    x->next = scope->first;
    if (scope->first)
        scope->first->prev = x;
    scope->first = x;
}

void move(fdl_tensor *x, fdl_scope *to)
{
    unlink(x);
    link(x, to);
}

} // namespace

/* ---- the thread ------------------------------------------------------------------------------------ */

namespace flodl
{

__thread thread *self_ __attribute__((tls_model("initial-exec")));

namespace
{
/* Ends the thread's state when the thread ends; beside the pointer, which so needs no guard. */
struct closer {
    ~closer()
    {
        thread_end();
    }
};
} // namespace

thread &thread_start()
{
    static thread_local closer end;
    (void)&end;
    /* In the thread's own storage: a thread can begin when memory has run out. */
    alignas(thread) static thread_local unsigned char place[sizeof(thread)];
    thread *th = new (place) thread;
    th->root.owner = th;
    th->top = &th->root;
    self_ = th;
    take_warnings();
    std::lock_guard<std::mutex> hold(process.lock);
    th->next = process.threads;
    process.threads = th;
    return *th;
}

void thread_end()
{
    thread *th = self_;
    if (!th)
        return;
    while (th->top != &th->root)
        scope_close(*th);
    scope_empty(*th, th->root);
    while (fdl_scope *record = th->free_scopes) {
        th->free_scopes = record->parent;
        delete record;
    }
    for (block *b = th->free_blocks; b;) {
        block *next = b->next;
        free(b);
        b = next;
    }
    while (borrow_buffer *b = th->borrow) {
        th->borrow = b->below;
        free(b);
    }
    self_ = nullptr;
    std::lock_guard<std::mutex> hold(process.lock);
    process.live_of_ended += th->live.load(std::memory_order_relaxed);
    for (thread **at = &process.threads; *at; at = &(*at)->next)
        if (*at == th) {
            *at = th->next;
            break;
        }
    /* The free slots of an ended thread go to the others as one chain; chains of any length are welcome. */
    if (th->free_first) {
        th->free_first->prev = process.depot;
        process.depot = th->free_first;
    }
    th->~thread();
}

/* ---- scopes ---------------------------------------------------------------------------------------- */

namespace
{
void release_memory(thread &th, fdl_scope &scope)
{
    while (block *b = scope.memory) {
        scope.memory = b->next;
        if (b->size == block_size) {
            b->next = th.free_blocks;
            th.free_blocks = b;
        } else {
            free(b);
        }
    }
}
} // namespace

void scope_empty(thread &th, fdl_scope &scope)
{
    while (fdl_tensor *x = scope.first) {
        unlink_first(scope);
        kill(th, x);
    }
    release_memory(th, scope);
}

fdl_scope *scope_open(thread &th, fdl_scope *lexical)
{
    fdl_scope *scope = th.free_scopes;
    if (FDL_LIKELY(scope != nullptr)) {
        th.free_scopes = scope->parent;
    } else {
        scope = new (std::nothrow) fdl_scope;
        if (!scope) {
            fdl_fail(FDL_E_OOM, "fdl_scope_open: no memory for a scope");
            return nullptr;
        }
        scope->owner = &th;
    }
    scope->parent = th.top;
    scope->lexical = lexical;
    scope->open = true;
    scope->modes = th.mode_count;
    th.top = scope;
    th.depth++;
    return scope;
}

void scope_close(thread &th)
{
    fdl_scope *scope = th.top;
    scope_empty(th, *scope);
    th.top = scope->parent;
    th.depth--;
    scope->open = false;
    scope->lexical = nullptr;
    scope->parent = th.free_scopes;
    th.free_scopes = scope;
}

namespace
{
/* Memory of the scope as it lies. */
void *scope_room(thread &th, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    fdl_scope &scope = *th.top;
    block *b = scope.memory;
    if (!b || b->size - b->used < size) {
        size_t room = size > block_size ? size : (size_t)block_size;
        if (room == block_size && th.free_blocks) {
            b = th.free_blocks;
            th.free_blocks = b->next;
        } else {
            b = static_cast<block *>(malloc(sizeof(block) + room));
            if (!b)
                return nullptr;
            b->size = room;
        }
        b->used = 0;
        b->next = scope.memory;
        scope.memory = b;
    }
    void *p = b->bytes() + b->used;
    b->used += size;
    return p;
}
} // namespace

void *scope_memory(thread &th, size_t size)
{
    void *p = scope_room(th, size);
    return p ? memset(p, 0, size) : nullptr;
}

/* ---- making handles --------------------------------------------------------------------------------- */

namespace
{
inline fdl_tensor *make_empty(thread &th)
{
    fdl_tensor *x = take_slot(th);
    x->state = handle_state::scope;
    x->file = nullptr;
    link(x, th.top);
    return x;
}

fdl_list list_alloc(thread &th, int n)
{
    void *p = scope_room(th, sizeof(fdl_tensor *) * (size_t)(n ? n : 1));
    if (!p)
        throw std::bad_alloc();
    return {n, static_cast<fdl_tensor **>(p)};
}
} // namespace

fdl_tensor *make_empty()
{
    return make_empty(self());
}

fdl_list list_alloc(int n)
{
    fdl_list list = list_alloc(self(), n);
    std::fill_n(list.at, n ? n : 1, nullptr);
    return list;
}

fdl_list make(std::vector<at::Tensor> &&ts)
{
    thread &th = self();
    fdl_list list = list_alloc(th, (int)ts.size());
    fdl_tensor **at = list.at;
    for (at::Tensor &t : ts) {
        fdl_tensor *x = nullptr;
        if (FDL_LIKELY(t.defined())) {
            x = make_empty(th);
            new (&x->t) at::Tensor(std::move(t));
        }
        *at++ = x;
    }
    return list;
}

/* ---- borrowed lists ----------------------------------------------------------------------------------- */

tensors::tensors(fdl_list list) : begin_(nullptr), n_((size_t)list.n)
{
    static_assert(sizeof(at::Tensor) == sizeof(void *), "a tensor is one pointer");
    thread &th = self();
    if (th.borrowed_size - th.borrowed < n_) {
        /* Buffers under this one stay where they are: the new one begins a buffer of its own. */
        size_t room = n_ > 1024 ? n_ : 1024;
        borrow_buffer *b =
            static_cast<borrow_buffer *>(malloc(sizeof(borrow_buffer) + room * sizeof(void *)));
        if (!b)
            throw std::bad_alloc();
        *b = {th.borrow, th.borrowed, th.borrowed_size};
        th.borrow = b;
        th.borrowed = 0;
        th.borrowed_size = room;
    }
    void **at = th.borrow ? th.borrow->slots() + th.borrowed : nullptr;
    for (size_t i = 0; i < n_; i++)
        memcpy(&at[i], (const void *)&list.at[i]->t, sizeof(void *));
    th.borrowed += n_;
    begin_ = reinterpret_cast<at::Tensor *>(at);
}

tensors::~tensors()
{
    thread &th = self();
    th.borrowed -= n_;
    if (th.borrowed == 0 && th.borrow && th.borrow->below) {
        borrow_buffer *b = th.borrow;
        th.borrow = b->below;
        th.borrowed = b->borrowed;
        th.borrowed_size = b->borrowed_size;
        free(b);
    }
}

} // namespace flodl

using namespace flodl;

/* ---- public: scopes ----------------------------------------------------------------------------------- */

fdl_scope *fdl_scope_open(void)
{
    return scope_open(self(), nullptr);
}

fdl_scope *fdl_scope_open_in_(fdl_scope *outer)
{
    return scope_open(self(), outer);
}

fdl_status fdl_scope_close(fdl_scope *scope)
{
    if (!scope)
        return FDL_OK;
    thread &th = self();
    if (scope->owner != &th)
        return fdl_fail(FDL_E_STATE, "fdl_scope_close: the scope is another thread's");
    if (!scope->open)
        return fdl_fail(FDL_E_STATE, "fdl_scope_close: the scope is closed already");
    for (bool last = false; !last;) {
        last = th.top == scope;
        scope_close(th);
    }
    return FDL_OK;
}

void fdl_scope_leave_(fdl_scope **scope)
{
    fdl_scope_close(*scope);
}

fdl_status fdl_scope_reset(void)
{
    thread &th = self();
    if (th.depth)
        return fdl_fail(FDL_E_STATE, "fdl_scope_reset: %d scopes are open on this thread", th.depth);
    scope_empty(th, th.root);
    return FDL_OK;
}

int fdl_scope_depth(void)
{
    return self().depth;
}

void *fdl_scope_alloc(size_t size)
{
    void *p = scope_memory(self(), size);
    if (!p)
        fdl_fail(FDL_E_OOM, "fdl_scope_alloc: no memory for %zu bytes", size);
    return p;
}

/* ---- public: one handle ---------------------------------------------------------------------------------- */

fdl_tensor *fdl_escape(fdl_tensor *x)
{
    thread &th = self();
    if (x && x->state == handle_state::scope && x->scope == th.top && th.top->parent)
        move(x, th.top->parent);
    return x;
}

fdl_list fdl_escape_list(fdl_list list)
{
    thread &th = self();
    if (!list.at || !th.top->parent)
        return list;
    for (int i = 0; i < list.n; i++)
        fdl_escape(list.at[i]);
    fdl_scope *inner = th.top;
    th.top = inner->parent;
    fdl_tensor **at = static_cast<fdl_tensor **>(fdl_scope_alloc(sizeof *at * (size_t)(list.n ? list.n : 1)));
    th.top = inner;
    if (!at)
        return {0, nullptr};
    if (list.n)
        memcpy(at, list.at, sizeof *at * (size_t)list.n);
    return {list.n, at};
}

namespace
{
/* Where a return out of the function that opened `lexical` leads; nullptr when nothing is to be left. */
fdl_scope *outside(fdl_scope *lexical)
{
    if (!lexical)
        return nullptr;
    while (lexical->lexical)
        lexical = lexical->lexical;
    return lexical->parent;
}

bool within(const fdl_tensor *x, fdl_scope *top, const fdl_scope *target)
{
    for (fdl_scope *s = top; s && s != target; s = s->parent)
        if (x->scope == s)
            return true;
    return false;
}
} // namespace

fdl_tensor *fdl_return_(fdl_tensor *x, fdl_scope *lexical)
{
    fdl_scope *target = outside(lexical);
    if (x && target && x->state == handle_state::scope && within(x, self().top, target))
        move(x, target);
    return x;
}

fdl_list fdl_return_list_(fdl_list list, fdl_scope *lexical)
{
    fdl_scope *target = outside(lexical);
    if (!list.at || !target)
        return list;
    for (int i = 0; i < list.n; i++)
        fdl_return_(list.at[i], lexical);
    thread &th = self();
    fdl_scope *inner = th.top;
    th.top = target;
    fdl_tensor **at = static_cast<fdl_tensor **>(fdl_scope_alloc(sizeof *at * (size_t)(list.n ? list.n : 1)));
    th.top = inner;
    if (!at)
        return {0, nullptr};
    if (list.n)
        memcpy(at, list.at, sizeof *at * (size_t)list.n);
    return {list.n, at};
}

namespace
{
fdl_tensor *make_unscoped(const char *function, fdl_tensor *x, handle_state state)
{
    if (!good(x)) {
        const operand all[] = {operand(x)};
        bad_operand(function, "(x)", all, 1);
        return nullptr;
    }
    try {
        thread &th = self();
        fdl_tensor *copy = take_slot(th);
        copy->t = x->t;
        copy->state = state;
        copy->scope = nullptr;
        copy->file = x->file;
        copy->line = x->line;
        return copy;
    } catch (...) {
        const operand all[] = {operand(x)};
        caught(function, all, 1);
        return nullptr;
    }
}
} // namespace

fdl_tensor *fdl_keep(fdl_tensor *x)
{
    return make_unscoped(__func__, x, handle_state::kept);
}

fdl_tensor *fdl_adopt(fdl_tensor *x)
{
    if (!good(x)) {
        const operand all[] = {operand(x)};
        bad_operand(__func__, "(x)", all, 1);
        return nullptr;
    }
    if (x->state == handle_state::object) {
        fdl_fail(
            FDL_E_STATE,
            "fdl_adopt: a parameter or buffer belongs to its module; fdl_keep makes a handle of its own");
        return nullptr;
    }
    if (x->state == handle_state::kept) {
        x->state = handle_state::scope;
        link(x, self().top);
    }
    return x;
}

void fdl_drop(fdl_tensor *x)
{
    thread &th = self();
    if (x && x->state == handle_state::scope && x->scope == th.top) {
        unlink(x);
        kill(th, x);
    }
}

fdl_status fdl_free(fdl_tensor *x)
{
    if (!x)
        return FDL_OK;
    thread &th = self();
    switch (x->state) {
    case handle_state::kept:
        break;
    case handle_state::scope:
        if (x->scope->owner != &th)
            return fdl_fail(FDL_E_STATE, "fdl_free: the tensor belongs to a scope of another thread");
        unlink(x);
        break;
    case handle_state::object:
        return fdl_fail(FDL_E_STATE, "fdl_free: a parameter or buffer is freed by its module");
    case handle_state::free:
    default: {
        const operand all[] = {operand(x)};
        return bad_operand(__func__, "(x)", all, 1);
    }
    }
    kill(th, x);
    return FDL_OK;
}

int64_t fdl_live_tensors(void)
{
    std::lock_guard<std::mutex> hold(process.lock);
    int64_t sum = process.live_of_ended;
    for (const thread *th = process.threads; th; th = th->next)
        sum += th->live.load(std::memory_order_relaxed);
    return sum;
}

void fdl_set_checked(bool on)
{
    checked = on;
    fdl_checked_ = on;
}

bool fdl_is_checked(void)
{
    return checked;
}

bool fdl_checked_ = checked;

fdl_tensor *fdl_note_made_(fdl_tensor *x, const char *file, int line)
{
    if (!x) {
        fdl_error_place(file, line);
    } else if (alive(x) && !x->file) {
        x->file = file;
        x->line = line;
    }
    return x;
}

/* ---- public: objects -------------------------------------------------------------------------------------- */

fdl_tensor *fdl_object_new(fdl_tensor *x)
{
    return make_unscoped(__func__, x, handle_state::object);
}

void fdl_object_free(fdl_tensor *object)
{
    if (object && object->state == handle_state::object)
        kill(self(), object);
}

fdl_status fdl_object_set(fdl_tensor *object, fdl_tensor *x)
{
    return OP_DO((object, x), { object->t = x->t; });
}

bool fdl_is(fdl_tensor *a, fdl_tensor *b)
{
    return a && b && alive(a) && alive(b) && a->t.is_same(b->t);
}

const void *fdl_identity(fdl_tensor *x)
{
    return x && alive(x) ? x->t.unsafeGetTensorImpl() : nullptr;
}

uint64_t fdl_fingerprint(fdl_tensor *x)
{
    if (!x || !alive(x))
        return 0;
    uint64_t h = 0;
    auto mix = [&](uint64_t v) {
        h = (h ^ v) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    };
    const at::Tensor &t = x->t;
    mix((uint64_t)(uintptr_t)t.unsafeGetTensorImpl());
    mix(t.has_storage() ? (uint64_t)(uintptr_t)t.storage().data() : 0);
    mix((uint64_t)t.storage_offset());
    mix((uint64_t)(uint8_t)t.scalar_type() | (uint64_t)(uint8_t)t.device().type() << 8 |
        (uint64_t)(uint8_t)t.device().index() << 16 | (uint64_t)t.requires_grad() << 24);
    for (int64_t d = 0; d < t.dim(); d++) {
        mix((uint64_t)t.size(d));
        mix((uint64_t)t.stride(d));
    }
    return h;
}

bool fdl_is_sole(fdl_tensor *x)
{
    return x && alive(x) && x->t.use_count() == 1 && x->t.has_storage() && x->t.storage().use_count() == 1;
}

bool fdl_is_mine(fdl_tensor *x)
{
    return x && x->state == handle_state::scope && x->scope == self().top;
}

/* ---- public: modes ---------------------------------------------------------------------------------------- */

namespace flodl
{

fdl_mode_guard mode_open(mode_kind kind, void (*restore)(thread::mode &), uint64_t saved, int also) noexcept
{
    thread &th = self();
    if (th.mode_count == thread::mode_room) {
        fdl_fail(FDL_E_STATE, "more than %d modes are open on this thread", (int)thread::mode_room);
        return {0};
    }
    th.modes[th.mode_count++] = {kind, also, restore, saved};
    return {th.mode_count};
}

} // namespace flodl

namespace
{

void restore_grad(thread::mode &m)
{
    c10::GradMode::set_enabled(m.saved != 0);
}

fdl_mode_guard grad_open(bool on)
{
    bool before = c10::GradMode::is_enabled();
    fdl_mode_guard mode = mode_open(mode_kind::grad, restore_grad, before);
    if (mode.depth)
        c10::GradMode::set_enabled(on);
    return mode;
}

void restore_inference(thread::mode &m)
{
    delete reinterpret_cast<c10::InferenceMode *>(m.saved);
}

} // namespace

fdl_mode_guard fdl_no_grad_open(void)
{
    return grad_open(false);
}

fdl_mode_guard fdl_enable_grad_open(void)
{
    return grad_open(true);
}

fdl_mode_guard fdl_inference_open(void)
{
    c10::InferenceMode *guard = new (std::nothrow) c10::InferenceMode(true);
    if (!guard) {
        fdl_fail(FDL_E_OOM, "fdl_inference_open: no memory");
        return {0};
    }
    fdl_mode_guard mode =
        mode_open(mode_kind::inference, restore_inference, reinterpret_cast<uint64_t>(guard));
    if (!mode.depth)
        delete guard;
    return mode;
}

fdl_status fdl_mode_close(fdl_mode_guard mode)
{
    if (!mode.depth)
        return FDL_OK;
    thread &th = self();
    if (mode.depth != th.mode_count)
        return fdl_fail(FDL_E_STATE, "fdl_mode_close: %s",
                        mode.depth > th.mode_count ? "the mode is closed already"
                                                   : "modes close in reverse order, and a later one is open");
    thread::mode m = th.modes[--th.mode_count];
    m.restore(m);
    return FDL_OK;
}

void fdl_mode_leave_(fdl_mode_guard *mode)
{
    fdl_mode_close(*mode);
}

bool fdl_grad_enabled(void)
{
    return c10::GradMode::is_enabled();
}
