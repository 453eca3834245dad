/* libtorch's warnings go to the library's messages (verbose), not to stderr: a library does not print. */
#include "flodl/message.h"
#include "thread.h"

#include <c10/util/Exception.h>

#include <new>

namespace
{

class to_messages : public c10::WarningHandler
{
    void process(const c10::Warning &warning) override
    {
        fdl_msg_emit(FDL_VERBOSE, "libtorch: %s", warning.msg().c_str());
    }
};

} // namespace

namespace flodl
{

void take_warnings()
{
    /* Outlives every thread, and needs no memory that could run out. */
    alignas(to_messages) static unsigned char place[sizeof(to_messages)];
    static to_messages *const handler = new (place) to_messages;
    c10::WarningUtils::set_warning_handler(handler);
}

} // namespace flodl
