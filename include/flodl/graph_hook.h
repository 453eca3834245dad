/* Hooks on what the nodes of a graph give, by path (tree.h): on values when they have been computed, on their gradients when a
 * backward comes to them. torch.nn.Module.register_forward_hook, register_full_backward_hook.
 *
 * A path is that of a tag, or that of a subgraph, which stands for the subgraph's output. In a loop or a map a hook runs each
 * time that the node does. A step that is recorded (a CUDA graph) calls hooks while it is recorded, its replays don't; adding or
 * removing a hook makes the trainer record anew. */
#ifndef FLODL_GRAPH_HOOK_H
#define FLODL_GRAPH_HOOK_H

#include "flodl/hook.h"
#include "flodl/module.h"

FDL_BEGIN_DECLS

typedef struct fdl_graph_hook_opts {
    fdl_by_name opts_;
    /* Gets the gradient of the value, of the value's shape, and returns one to use in its place or NULL: as fdl_hook_grad's. */
    fdl_tensor *(*backward)(fdl_tensor *grad, void *ctx);
    void (*release)(
        void
            *ctx); /* called once: when the hook is removed or the graph freed and no recorded value refers to
                                   it any more, or when the registration fails; on whatever thread that is */
} fdl_graph_hook_opts;

/* forward gets each value that the node computes (any shape), before anybody else sees it, and returns what takes its place or
 * NULL, which leaves it as it is; an error that it leaves pending fails the forward. NULL when there is only .backward. Hooks
 * run in the order in which they were registered, each on what the one before returned. What a hook makes lives in a scope of
 * its own. All zero on failure. */
FDL_API fdl_hook fdl_graph_hook_opt(fdl_module *g, const char *path,
                                    fdl_tensor *(*forward)(fdl_tensor *value, void *ctx), void *ctx,
                                    const fdl_graph_hook_opts *opts);
/* Takes a hook out of g or of a graph in it; one that is none, or removed already: nothing. Of another graph: FDL_E_ARG. Not
 * while g runs. */
FDL_API fdl_status fdl_graph_unhook(fdl_module *g, fdl_hook hook);

/* From the next forward on the value at a path keeps its gradient, or keeps none any more. Tensor.retain_grad. */
FDL_API fdl_status fdl_graph_retain_grad(fdl_module *g, const char *path, bool on);
/* The gradient of the value of a tag (scope), of the value's shape, from the backwards since the last forward. Not retained, or
 * no backward has come to it: NULL and FDL_E_STATE. */
FDL_API fdl_tensor *fdl_graph_tagged_grad(fdl_module *g, const char *path);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_graph_hook(g, path, forward, ...) fdl_graph_hook_(g, path, forward, __VA_ARGS__, .opts_ = 0)
#define fdl_graph_hook_(g, path, forward, ctx, ...) \
    fdl_graph_hook_opt(g, path, forward, ctx, &(fdl_graph_hook_opts){__VA_ARGS__})
#endif

#endif
