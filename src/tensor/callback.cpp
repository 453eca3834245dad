/* Running the caller's functions from inside libtorch. */
#include "callback.h"
#include "thread.h"

#include "flodl/tensor.h"

namespace flodl
{

context::context(void *ctx_, void (*release)(void *ctx)) noexcept
    : release_(release), ctx(ctx_), dtype(fdl_default_dtype()), device(fdl_default_device())
{
}

context::context(context &&other) noexcept
    : release_(other.release_), ctx(other.ctx), dtype(other.dtype), device(other.device)
{
    other.release_ = nullptr;
}

context::~context()
{
    if (release_)
        release_(ctx);
}

namespace
{

/* The pending error, taken off the thread; status FDL_OK when there is none. */
passed_on take()
{
    passed_on e;
    e.status = fdl_error_pending();
    e.file = nullptr;
    e.line = 0;
    if (e.status != FDL_OK) {
        const fdl_error *last = fdl_last_error();
        e.message = last->message;
        e.file = last->file;
        e.line = last->line;
        fdl_clear_error();
    }
    return e;
}

} // namespace

callback::callback() : scope_(nullptr), before_(take())
{
    thread &th = self();
    dtype_ = th.default_dtype;
    device_ = th.default_device;
    scope_ = scope_open(th, nullptr);
    if (!scope_)
        throw std::bad_alloc();
}

callback::callback(const context &c) : callback()
{
    thread &th = self();
    th.default_dtype = c.dtype;
    th.default_device = c.device;
}

callback::~callback()
{
    thread &th = self();
    th.default_dtype = dtype_;
    th.default_device = device_;
    fdl_scope_close(scope_);
    put_back();
}

void callback::put_back() noexcept
{
    if (before_.status == FDL_OK)
        return;
    fdl_fail(before_.status, "%s", before_.message.c_str());
    if (before_.file)
        fdl_error_place(before_.file, before_.line);
    before_.status = FDL_OK;
}

void callback::check(bool failed, fdl_status status, const char *what)
{
    passed_on e = take();
    if (e.status != FDL_OK)
        throw e;
    if (failed)
        fail(status, "%s", what);
}

} // namespace flodl
