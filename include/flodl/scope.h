/* Who frees a tensor: scopes, kept handles, objects; the modes that are declarations of the same kind.
 *
 * A handle is in one of three states:
 *   scope   dies when the innermost scope that was open when it was made closes. What every operation returns.
 *   kept    the caller's, freed by fdl_free. What fdl_keep returns.
 *   object  a parameter or buffer, freed by its module. fdl_free of it is FDL_E_STATE.
 */
#ifndef FLODL_SCOPE_H
#define FLODL_SCOPE_H

#include "flodl/types.h"

FDL_BEGIN_DECLS

typedef struct fdl_scope fdl_scope;

/* ---- scopes ------------------------------------------------------------------------------------ */

/* `FDL_SCOPE;` opens a scope that closes where the enclosing block ends, however the block is left. One a block. */

/* Opens a scope on this thread by hand; borrowed. NULL only when memory runs out. */
FDL_API fdl_scope *fdl_scope_open(void);
/* Closes it, with any scope inside it that a longjmp left open. NULL: nothing. A scope that is closed already, or another
 * thread's: FDL_E_STATE. */
FDL_API fdl_status fdl_scope_close(fdl_scope *scope);
/* Frees what the thread's root scope holds: what was made with no scope open. With a scope open: FDL_E_STATE. */
FDL_API fdl_status fdl_scope_reset(void);
/* Scopes open on this thread, the root not counted. */
FDL_API int fdl_scope_depth(void);
/* `size` bytes, zeroed and aligned for any type, that live as long as the innermost open scope (or the root scope). */
FDL_API void *fdl_scope_alloc(size_t size);

/* ---- one handle -------------------------------------------------------------------------------- */

/* Moves a handle of the innermost scope one scope out; any other stays where it is. Returns x. */
FDL_API fdl_tensor *fdl_escape(fdl_tensor *x);
/* A new handle on the same tensor (shared storage and history), owned: one keep, one fdl_free. */
FDL_API fdl_tensor *fdl_keep(fdl_tensor *x);
/* Brings a kept handle into the current scope of this thread; a scope handle stays; an object: FDL_E_STATE. Returns x. */
FDL_API fdl_tensor *fdl_adopt(fdl_tensor *x);
/* Frees x now if the innermost scope owns it; otherwise nothing, so that it is safe on inputs and parameters. */
FDL_API void fdl_drop(fdl_tensor *x);
/* Frees a kept handle, or a scope handle of this thread, now. NULL: nothing. An object, another thread's scope handle or
 * a freed one: FDL_E_STATE. */
FDL_API fdl_status fdl_free(fdl_tensor *x);
/* Handles of the whole process that are alive, the sum over its threads. */
FDL_API int64_t fdl_live_tensors(void);

/* The checked mode: freed handles are never used again, so that every use of one is an error, which also says the place
 * where it was made. Costs memory with each operation. Also switched on by FLODL_CHECKED=1 in the environment. */
FDL_API void fdl_set_checked(bool on);
FDL_API bool fdl_is_checked(void);

/* ---- modes ------------------------------------------------------------------------------------- */

/* A mode that was opened by hand and must be closed in reverse order on the same thread. */
typedef struct fdl_mode_guard {
    int depth; /* 0: nothing was opened */
} fdl_mode_guard;

/* torch.no_grad: results don't require grad. `FDL_NO_GRAD;` holds to the end of the enclosing block. */
FDL_API fdl_mode_guard fdl_no_grad_open(void);
/* torch.enable_grad: records again inside no_grad. `FDL_ENABLE_GRAD;` */
FDL_API fdl_mode_guard fdl_enable_grad_open(void);
/* torch.inference_mode: no_grad without version counters and view tracking; what is made inside can't be used in a
 * recorded operation outside. `FDL_INFERENCE;` */
FDL_API fdl_mode_guard fdl_inference_open(void);
/* Restores what was before. Out of order or closed already: FDL_E_STATE, nothing changed. */
FDL_API fdl_status fdl_mode_close(fdl_mode_guard mode);
FDL_API bool fdl_grad_enabled(void);

/* ---- for the layers above: handles that are objects --------------------------------------------- */

/* An object handle on the tensor of x (which stays what it was); freed by fdl_object_free only. */
FDL_API fdl_tensor *fdl_object_new(fdl_tensor *x);
FDL_API void fdl_object_free(fdl_tensor *object);
/* Lets the object handle refer to the tensor of x; other handles on the old tensor keep it. */
FDL_API fdl_status fdl_object_set(fdl_tensor *object, fdl_tensor *x);
/* Whether both handles are on one and the same tensor (identity, not values). */
FDL_API bool fdl_is(fdl_tensor *a, fdl_tensor *b);
/* What makes a tensor the same one: equal for handles on one tensor, and only for those. NULL on NULL. */
FDL_API const void *fdl_identity(fdl_tensor *x);
/* A number that is another as soon as x is another tensor, lies elsewhere in memory, or has another shape, layout, dtype,
 * device or requires_grad: what a recorded run of kernels depends on. Values don't matter. 0 on NULL. */
FDL_API uint64_t fdl_fingerprint(fdl_tensor *x);
/* Whether nobody but this handle holds x's storage: no other handle, view, or node of a recorded graph. */
FDL_API bool fdl_is_sole(fdl_tensor *x);
/* Whether x is a result of the innermost scope, which fdl_drop would free. */
FDL_API bool fdl_is_mine(fdl_tensor *x);
/* Moves what the list holds of the innermost scope one scope out, its array too. */
FDL_API fdl_list fdl_escape_list(fdl_list list);

/* What the macros here and in flodl/where.h expand to. */
FDL_API extern bool fdl_checked_;
FDL_API fdl_tensor *fdl_note_made_(fdl_tensor *x, const char *file, int line);
FDL_API fdl_scope *fdl_scope_open_in_(fdl_scope *outer);
FDL_API void fdl_scope_leave_(fdl_scope **scope);
FDL_API fdl_tensor *fdl_return_(fdl_tensor *x, fdl_scope *lexical);
FDL_API fdl_list fdl_return_list_(fdl_list list, fdl_scope *lexical);
FDL_API void fdl_mode_leave_(fdl_mode_guard *mode);

FDL_END_DECLS

#ifndef __cplusplus
/* The scope of the enclosing block; at file level, and so in a function without FDL_SCOPE, none. */
static fdl_scope *const fdl_scope_here_ FDL_UNUSED = NULL;

#define FDL_NO_SHADOW_BEGIN_ _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")
#define FDL_NO_SHADOW_END_ _Pragma("GCC diagnostic pop")

/* Opens a scope that closes with the enclosing block, once a block: a declaration, `FDL_SCOPE;`. A jump into the block, past
 * it, does not compile: that is what the array of a variable size is for. */
#define FDL_SCOPE                                                             \
    FDL_NO_SHADOW_BEGIN_                                                      \
    fdl_scope *const fdl_scope_outer_ = fdl_scope_here_;                      \
    __attribute__((cleanup(fdl_scope_leave_))) fdl_scope *fdl_scope_here_ =   \
        fdl_scope_open_in_(fdl_scope_outer_);                                 \
    FDL_UNUSED char(*fdl_scope_guard_)[1 + (fdl_scope_here_ != NULL)] = NULL; \
    FDL_NO_SHADOW_END_                                                        \
    _Static_assert(1, "takes the semicolon")

#define FDL_MODE_(open)                                                                                   \
    FDL_UNUSED __attribute__((cleanup(fdl_mode_leave_))) fdl_mode_guard FDL_CAT(fdl_mode_, __COUNTER__) = \
        (open)
/* Modes that hold to the end of the enclosing block: torch.no_grad, torch.enable_grad, torch.inference_mode. */
#define FDL_NO_GRAD FDL_MODE_(fdl_no_grad_open())
#define FDL_ENABLE_GRAD FDL_MODE_(fdl_enable_grad_open())
#define FDL_INFERENCE FDL_MODE_(fdl_inference_open())

/* Returns a tensor, or a list, past every FDL_SCOPE of this function. */
#define FDL_RETURN(x) return fdl_return_((x), fdl_scope_here_)
#define FDL_RETURN_LIST(list) return fdl_return_list_((list), fdl_scope_here_)
#endif

#endif
