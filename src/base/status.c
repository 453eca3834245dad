/* The status table and the error that each thread carries. The text lives in a fixed buffer, so that an error can be
 * reported when memory has run out. */
#include "flodl/base.h"

#include <stdarg.h>

#define STATUS_COUNT (FDL_E_TORCH + 1)

static const struct {
    const char *name, *text;
} statuses[STATUS_COUNT] = {
#define ROW(name, value, text) [value] = {#name, text},
    FDL_STATUS_MAP(ROW)
#undef ROW
};

const char *fdl_status_name(fdl_status status)
{
    return (unsigned)status < STATUS_COUNT ? statuses[status].name : "FDL_E_?";
}

const char *fdl_status_text(fdl_status status)
{
    return (unsigned)status < STATUS_COUNT ? statuses[status].text : "unknown status";
}

enum { MESSAGE_SIZE = 4096 };

static __thread struct {
    fdl_error error;
    bool unread;
    char message[MESSAGE_SIZE];
} self;

const fdl_error *fdl_last_error(void)
{
    if (!self.error.message)
        self.error.message = "";
    self.unread = false;
    return &self.error;
}

void fdl_clear_error(void)
{
    self.error = (fdl_error){.message = ""};
    self.unread = false;
}

fdl_status fdl_error_pending(void)
{
    return self.unread ? self.error.status : FDL_OK;
}

static void mark_truncation(int length)
{
    if (length >= MESSAGE_SIZE)
        memcpy(self.message + MESSAGE_SIZE - 4, "...", 4);
}

static fdl_status fail(fdl_status status, const char *format, va_list args)
{
    if (self.unread)
        return self.error.status;
    char text[MESSAGE_SIZE]; /* the arguments may point into the old message */
    int length = vsnprintf(text, sizeof text, format, args);
    memcpy(self.message, text, sizeof text);
    mark_truncation(length);
    self.error = (fdl_error){.status = status == FDL_OK ? FDL_E_ARG : status, .message = self.message};
    self.unread = true;
    return self.error.status;
}

fdl_status fdl_fail(fdl_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    status = fail(status, format, args);
    va_end(args);
    return status;
}

void *fdl_fail_null(fdl_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fail(status, format, args);
    va_end(args);
    return NULL;
}

fdl_status fdl_null_operand(const char *function, const char *operand)
{
    return fdl_fail(FDL_E_NULL, "%s: %s is NULL", function, operand);
}

void fdl_error_prefix(const char *format, ...)
{
    if (!self.unread)
        return;
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < 0 || length >= MESSAGE_SIZE)
        return;
    length += snprintf(text + length, sizeof text - (size_t)length, "%s", self.message);
    memcpy(self.message, text, sizeof text);
    mark_truncation(length);
}

void fdl_error_place(const char *file, int line)
{
    if (self.unread && !self.error.file) {
        self.error.file = file;
        self.error.line = line;
    }
}
