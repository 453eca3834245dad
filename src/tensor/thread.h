/* What a thread carries: free slots, scopes, modes, defaults. */
#ifndef FLODL_TENSOR_THREAD_H
#define FLODL_TENSOR_THREAD_H

#include <atomic>

#include "flodl/scope.h"
#include "internal.h"

struct fdl_cuda_graph;

namespace flodl
{

/* Memory of a scope: blocks of one size come back to the thread, larger ones to malloc. */
enum : size_t { block_size = 4096 - 32 };
struct alignas(16) block {
    block *next;
    size_t size, used;
    char *bytes()
    {
        return reinterpret_cast<char *>(this + 1);
    }
};

struct alignas(16) borrow_buffer {
    borrow_buffer *below;
    size_t borrowed, borrowed_size; /* of the buffer below */
    void **slots()
    {
        return reinterpret_cast<void **>(this + 1);
    }
};

enum class mode_kind : int { grad, inference, autocast, stream, sdpa };

struct thread;

} // namespace flodl

struct fdl_scope {
    fdl_scope *parent = nullptr;  /* the scope around it; in the free list the next one */
    fdl_scope *lexical = nullptr; /* the FDL_SCOPE around it in the same function */
    fdl_tensor *first = nullptr;
    flodl::block *memory = nullptr;
    flodl::thread *owner = nullptr;
    bool open = false;
    int modes = 0;
};

namespace flodl
{

struct thread {
    struct mode {
        mode_kind kind;
        int also; /* more of what was saved: a stream's device */
        void (*restore)(mode &);
        uint64_t saved;
    };
    enum { mode_room = 256 };

    /* The free slots; once there are any, at least one stays, so that neither end has a case of its own. */
    fdl_tensor *free_first = nullptr, **free_end = &free_first;
    size_t free_count = 0;
    std::atomic<int64_t> live{0}; /* written by this thread only */
    fdl_scope *top = nullptr;
    int depth = 0;
    fdl_scope root;
    fdl_scope *free_scopes = nullptr;
    block *free_blocks = nullptr;
    borrow_buffer *borrow = nullptr;
    size_t borrowed = 0, borrowed_size = 0;
    mode modes[mode_room];
    int mode_count = 0;
    fdl_dtype default_dtype = FDL_FLOAT32;
    fdl_device default_device = {FDL_DEVICE_TYPE_CPU, 0};
    fdl_cuda_graph *capturing = nullptr; /* whose capture is open on this thread */
    thread *next = nullptr;

    void count(int by)
    {
        live.store(live.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
    }
};

extern __thread thread *self_ __attribute__((tls_model("initial-exec")));
[[gnu::cold]] thread &thread_start();
void thread_end();
inline thread &self()
{
    return FDL_LIKELY(self_ != nullptr) ? *self_ : thread_start();
}

/* This thread's warnings of libtorch become messages (warning.cpp). */
void take_warnings();

fdl_scope *scope_open(thread &th, fdl_scope *lexical);
void scope_close(thread &th);
void scope_empty(thread &th, fdl_scope &scope);
void *scope_memory(thread &th, size_t size);

/* Puts a mode on the thread's stack; restore gets it back when it closes. depth 0 (with an error) when it is full. */
fdl_mode_guard mode_open(mode_kind kind, void (*restore)(thread::mode &), uint64_t saved,
                         int also = 0) noexcept;

} // namespace flodl

#endif
