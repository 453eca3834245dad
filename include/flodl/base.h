/* Status codes, errors and the few compiler extensions that every other header uses. */
#ifndef FLODL_BASE_H
#define FLODL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
#define FDL_BEGIN_DECLS extern "C" {
#define FDL_END_DECLS }
#else
#define FDL_BEGIN_DECLS
#define FDL_END_DECLS
#endif

/* The only place where GNU extensions are named. */
#define FDL_API __attribute__((visibility("default")))
#define FDL_PRINTF(text, first) __attribute__((__format__(__printf__, text, first)))
#define FDL_UNUSED __attribute__((unused))
#define FDL_LIKELY(x) __builtin_expect(!!(x), 1)
#define FDL_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define FDL_CAT_(a, b) a##b
#define FDL_CAT(a, b) FDL_CAT_(a, b)

FDL_BEGIN_DECLS

/* ---- status ---------------------------------------------------------------------------------- */

#define FDL_STATUS_MAP(X)                                               \
    X(FDL_OK, 0, "success")                                             \
    X(FDL_E_ARG, 1, "an argument has a value that the call can't take") \
    X(FDL_E_NULL, 2, "an operand is NULL")                              \
    X(FDL_E_SHAPE, 3, "shapes don't fit")                               \
    X(FDL_E_RANGE, 4, "an index or a dim is outside its range")         \
    X(FDL_E_DTYPE, 5, "a dtype doesn't fit")                            \
    X(FDL_E_DEVICE, 6, "a device is missing or devices are mixed")      \
    X(FDL_E_OOM, 7, "memory ran out")                                   \
    X(FDL_E_STATE, 8, "the call came at the wrong moment")              \
    X(FDL_E_IO, 9, "reading or writing failed")                         \
    X(FDL_E_FORMAT, 10, "a file is damaged or of another format")       \
    X(FDL_E_MISMATCH, 11, "file and model differ")                      \
    X(FDL_E_UNSUPPORTED, 12, "this build can't do that")                \
    X(FDL_E_TIMEOUT, 13, "time ran out")                                \
    X(FDL_E_CANCELLED, 14, "the caller cancelled")                      \
    X(FDL_E_NET, 15, "the network failed")                              \
    X(FDL_E_PEER, 16, "another process of the run failed")              \
    X(FDL_E_DESYNC, 17, "the processes of the run went different ways") \
    X(FDL_E_TORCH, 18, "libtorch reported an error of its own")

#define FDL_STATUS_ENUM_(name, value, text) name = value,
typedef enum fdl_status { FDL_STATUS_MAP(FDL_STATUS_ENUM_) } fdl_status;
#undef FDL_STATUS_ENUM_

/* The enumerator's own name, "FDL_E_SHAPE"; "FDL_E_?" for a number that is none. */
FDL_API const char *fdl_status_name(fdl_status status);
/* Its one-line meaning. */
FDL_API const char *fdl_status_text(fdl_status status);

/* ---- the error of this thread ------------------------------------------------------------------ */

typedef struct fdl_error {
    fdl_status status;   /* FDL_OK: no error since the last clear */
    const char *message; /* "" when there is none */
    const char *file;    /* the caller's file and line; NULL and 0 when not known */
    int line;
} fdl_error;

/* The error of this thread, marked as read: it no longer keeps a later one from being noted. Never NULL; borrowed,
 * valid until the next failure or clear on this thread. */
FDL_API const fdl_error *fdl_last_error(void);
/* Forgets the error, read or not. */
FDL_API void fdl_clear_error(void);
/* Status of the error that nobody has read yet, or FDL_OK. Does not mark it as read. */
FDL_API fdl_status fdl_error_pending(void);

/* ---- for functions of your own that fail ------------------------------------------------------- */

/* Notes an error (printf format) unless an unread one is pending, which is kept. Returns the status that is pending
 * afterwards; `status` FDL_OK is taken as FDL_E_ARG, so that the result is never a success. */
FDL_API fdl_status fdl_fail(fdl_status status, const char *format, ...) FDL_PRINTF(2, 3);
/* The same for functions that return a pointer: always NULL. */
FDL_API void *fdl_fail_null(fdl_status status, const char *format, ...) FDL_PRINTF(2, 3);
/* Operand `operand` of `function` is NULL: keeps a pending error, otherwise notes FDL_E_NULL. Returns the status. */
FDL_API fdl_status fdl_null_operand(const char *function, const char *operand);
/* Puts text in front of the pending error's message ("gelu_2 (#hidden): "); nothing when none is pending. */
FDL_API void fdl_error_prefix(const char *format, ...) FDL_PRINTF(1, 2);
/* Notes the caller's place with the pending error, if it has none yet. The call macros of flodl/where.h use it. */
FDL_API void fdl_error_place(const char *file, int line);

FDL_END_DECLS

/* ---- checks for callers ------------------------------------------------------------------------ */

/* The caller's place, for fdl_error_place. */
#define FDL_HERE __FILE__, __LINE__

static inline void fdl_die_(const char *file, int line, const char *what)
{
    const fdl_error *e = fdl_last_error();
    fflush(stdout);
    if (e->status == FDL_OK)
        fprintf(stderr, "%s:%d: %s does not hold\n", file, line, what);
    else
        fprintf(stderr, "%s:%d: %s: %s\n", e->file ? e->file : file, e->file ? e->line : line,
                fdl_status_name(e->status), e->message);
    exit(1);
}

#ifndef __cplusplus
/* For main: prints the last error with file and line to stderr and exits with 1. FDL_CHECK takes an fdl_status,
 * FDL_NEED a pointer or a condition. */
#define FDL_CHECK(call)                          \
    do {                                         \
        fdl_status fdl_status_ = (call);         \
        if (FDL_UNLIKELY(fdl_status_ != FDL_OK)) \
            fdl_die_(__FILE__, __LINE__, #call); \
    } while (0)
#define FDL_NEED(condition)                                                                         \
    do {                                                                                            \
        _Static_assert(_Generic((condition), fdl_status : 0, default : 1),                          \
                       "FDL_NEED takes a pointer or a condition; an fdl_status goes to FDL_CHECK"); \
        if (FDL_UNLIKELY(!(condition)))                                                             \
            fdl_die_(__FILE__, __LINE__, #condition);                                               \
    } while (0)
/* For functions that return an fdl_status, or a pointer: hands the failure on. */
#define FDL_TRY(call)                            \
    do {                                         \
        fdl_status fdl_status_ = (call);         \
        if (FDL_UNLIKELY(fdl_status_ != FDL_OK)) \
            return fdl_status_;                  \
    } while (0)
#define FDL_TRY_NULL(call)                  \
    do {                                    \
        if (FDL_UNLIKELY((call) != FDL_OK)) \
            return NULL;                    \
    } while (0)
#endif

/* ---- options ----------------------------------------------------------------------------------- */

/* A floating option that is left out is all zero bits and means PyTorch's default. FDL_ZERO says an explicit zero: its
 * bits differ from those of 0.0, its value is below every number that training meets, and it is taken as 0. */
#define FDL_ZERO 0x1p-1074
static inline double fdl_opt_double(double option, double otherwise)
{
    uint64_t bits;
    memcpy(&bits, &option, sizeof bits); /* no floating comparison: right under -ffast-math too */
    return bits == 0 ? otherwise : bits == 1 ? 0.0 : option;
}

/* The first field of every option struct. Options are given by name: fdl_conv2d(x, w, .stride = 2). One that is given by place
 * lands here, where a number doesn't compile. */
typedef const struct fdl_options_have_names_ *fdl_by_name;

/* An integer option whose zero is a value of its own: FDL_SOME(0). */
typedef struct fdl_opt_i64 {
    int64_t value; /* first, so that .dim = 1, which lacks FDL_SOME, is 1 all the same */
    bool set;
} fdl_opt_i64;
#define FDL_SOME(v) ((fdl_opt_i64){(v), true})
static inline bool fdl_opt_given(fdl_opt_i64 option)
{
    return option.set || option.value != 0;
}
static inline int64_t fdl_opt_int(fdl_opt_i64 option, int64_t otherwise)
{
    return fdl_opt_given(option) ? option.value : otherwise;
}

/* The end of a list of pointers: no valid pointer, and not NULL, which is a failed element. */
#define FDL_END ((void *)-1)

#endif
