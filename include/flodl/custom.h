/* Operations of your own with derivatives of your own. torch.autograd.Function.
 *
 *     static fdl_status square_forward(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx)
 *     {
 *         out[0] = fdl_mul(in.at[0], in.at[0]);
 *         return fdl_custom_save(call, in);
 *     }
 *     static fdl_status square_backward(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx)
 *     {
 *         fdl_tensor *x = fdl_list_at(fdl_custom_saved(call), 0);
 *         out[0] = fdl_mul(grads.at[0], fdl_mul(x, 2));
 *         return FDL_OK;
 *     }
 *     static const fdl_custom_fn square = {.name = "square", .forward = square_forward, .backward = square_backward};
 *
 *     fdl_tensor *y = fdl_list_at(fdl_custom(&square, FDL_LIST(x), NULL), 0);
 */
#ifndef FLODL_CUSTOM_H
#define FLODL_CUSTOM_H

#include "flodl/autograd.h"

FDL_BEGIN_DECLS

/* One use of a custom function, for the time of a callback; borrowed. */
typedef struct fdl_custom_call fdl_custom_call;

/* Both callbacks run in a scope of their own, which closes when they return; backward as a hook does (hook.h). An error that
 * one leaves pending, or another status than FDL_OK, fails fdl_custom or fdl_backward. */
typedef struct fdl_custom_fn {
    const char *name; /* in messages; NULL: "custom" */
    int outputs;      /* how many results forward makes; 0: 1 */
    /* out: room for the results, NULL before. Nothing that forward does is recorded. A result may be one of the inputs. */
    fdl_status (*forward)(fdl_custom_call *call, fdl_list in, fdl_tensor **out, void *ctx);
    /* grads: the gradient of each result, zeros where a result took no part. out: room for the gradient of each input, NULL
     * before; one that stays NULL is no gradient; otherwise it has its input's shape, or one that broadcasting made of it.
     * Under .create_graph what backward does is recorded: made of differentiable operations on grads and on saved
     * tensors, it can be differentiated again. NULL: no input can be differentiated (FDL_E_UNSUPPORTED in the backward). */
    fdl_status (*backward)(fdl_custom_call *call, fdl_list grads, fdl_tensor **out, void *ctx);
    void (*release)(
        void *ctx); /* called once, when the last graph that refers to this use is gone, on whatever thread
                                   that is; when fdl_custom fails too */
} fdl_custom_fn;

/* forward's results, of whatever shape it gave them (scope), recorded as one operation with f's backward. *f is copied; ctx lives until release. */
FDL_API fdl_list fdl_custom(const fdl_custom_fn *f, fdl_list inputs, void *ctx);

/* ---- in forward ---------------------------------------------------------------------------------- */

/* ctx.save_for_backward: inputs and results that backward needs, once. A later in-place change of one fails the backward. */
FDL_API fdl_status fdl_custom_save(fdl_custom_call *call, fdl_list tensors);
/* ctx.mark_dirty: inputs that forward changed in place, and returns as results; once. */
FDL_API fdl_status fdl_custom_mark_dirty(fdl_custom_call *call, fdl_list inputs);
/* ctx.mark_non_differentiable: results that don't require grad (indices, counts); once. */
FDL_API fdl_status fdl_custom_mark_non_differentiable(fdl_custom_call *call, fdl_list outputs);

/* ---- in backward ---------------------------------------------------------------------------------- */

/* What forward saved (scope). After a backward without .retain_graph it is gone: FDL_E_STATE. */
FDL_API fdl_list fdl_custom_saved(fdl_custom_call *call);

/* ---- in both ---------------------------------------------------------------------------------------- */

/* ctx.needs_input_grad: whether somebody wants the gradient of input i. */
FDL_API bool fdl_custom_needs_grad(fdl_custom_call *call, int i);

FDL_END_DECLS

#endif
