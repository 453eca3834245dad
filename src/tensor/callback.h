/* Running the caller's functions from inside libtorch: a hook or a backward runs where the engine runs it, for CUDA on a
 * thread of its own, which has other scopes, another error and other defaults. */
#ifndef FLODL_TENSOR_CALLBACK_H
#define FLODL_TENSOR_CALLBACK_H

#include <string>

#include "internal.h"

namespace flodl
{

/* What a callback is called with: the caller's ctx, released once, and the defaults of the thread that registered it. */
class context
{
    void (*release_)(void *);

  public:
    void *ctx;
    fdl_dtype dtype;
    fdl_device device;

    context(void *ctx, void (*release)(void *ctx)) noexcept;
    context(context &&other) noexcept;
    ~context();
    context(const context &) = delete;
    context &operator=(const context &) = delete;
};

/* An error that a callback left, on its way to the thread that asked for the backward. */
struct passed_on : std::exception {
    fdl_status status;
    std::string message;
    const char *file;
    int line;
    const char *what() const noexcept override
    {
        return message.c_str();
    }
};

/* The time of one callback: a scope of its own, the registering thread's defaults, and no error pending. What was pending
 * before is put back at the end. */
class callback
{
    fdl_scope *scope_;
    fdl_dtype dtype_;
    fdl_device device_;
    passed_on before_;

    void put_back() noexcept;

  public:
    callback();
    explicit callback(const context &c);
    ~callback();
    callback(const callback &) = delete;
    callback &operator=(const callback &) = delete;
    /* After the callback has returned: throws the error that it left pending, or, when it failed without one, this. */
    void check(bool failed, fdl_status status, const char *what);
};

} // namespace flodl

#endif
