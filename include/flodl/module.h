/* Modules: what fdl_forward runs. How a module of one's own is written, how trees of them are walked, named, moved and
 * frozen. torch.nn.Module. */
#ifndef FLODL_MODULE_H
#define FLODL_MODULE_H

#include "flodl/autograd.h"

FDL_BEGIN_DECLS

/* A layer, a graph, or a step of a flow; always behind a pointer. A constructor returns it owned: fdl_module_free, or hand
 * it to a flow or to another module, which then owns it, on failure too. */
typedef struct fdl_module fdl_module;
/* A named leaf tensor of a module that is trained, and a named tensor that is saved and moved but not trained: one type, so
 * that fdl_param_name, _tensor and _set are for both. Borrowed from the module. */
typedef struct fdl_param fdl_param;
typedef struct fdl_param fdl_buffer;

/* ---- using a module ------------------------------------------------------------------------------- */

/* `fdl_forward(m, x)`, `fdl_forward(m, x, y)`: the main input first, then the module's further inputs in its documented
 * order. Runs in a scope of its own: temporaries die inside, the result is the caller's scope's. An error has the failing
 * module's name and kind in front: "encoder.fc1, linear: ...", in a graph the node's. In the checked mode (fdl_set_checked) a
 * module that was freed, that isn't made yet, or that another thread is running is FDL_E_STATE. */
FDL_API fdl_tensor *fdl_forward_list(fdl_module *m, fdl_list inputs);
/* The same over an array of n inputs. */
FDL_API fdl_tensor *fdl_forward_of(fdl_module *m, int n, fdl_tensor *const *inputs);
/* Frees the module with all that it owns. NULL: nothing. A module that another one owns: FDL_E_STATE. */
FDL_API fdl_status fdl_module_free(fdl_module *m);

/* Training mode of the whole tree; modules start in it. torch.nn.Module.train and eval. */
FDL_API fdl_status fdl_train(fdl_module *m);
FDL_API fdl_status fdl_eval(fdl_module *m);
FDL_API bool fdl_is_training(fdl_module *m);

typedef struct fdl_module_to_opts {
    fdl_by_name opts_;
    fdl_dtype dtype;    /* floating parameters and buffers only */
    bool channels_last; /* 4-d and 5-d parameters */
} fdl_module_to_opts;
/* Moves and casts parameters (with their gradients) and buffers; they stay the same leaves, so optimizers stay valid. A
 * failure changes nothing. torch.nn.Module.to. */
FDL_API fdl_status fdl_module_to_opt(fdl_module *m, fdl_device d, const fdl_module_to_opts *opts);
/* Casts floating parameters, not buffers. */
FDL_API fdl_status fdl_cast_parameters(fdl_module *m, fdl_dtype dtype);
/* Forgets per-sequence state; keeps its values but cuts their history. Every module of the tree once. */
FDL_API fdl_status fdl_module_reset(fdl_module *m);
FDL_API fdl_status fdl_module_detach_state(fdl_module *m);

/* ---- parameters ------------------------------------------------------------------------------------- */

/* Parameters (or buffers) in order with their canonical names. The list belongs to the current scope, its entries to their
 * modules. */
typedef struct fdl_params fdl_params;

typedef struct fdl_parameters_opts {
    fdl_by_name opts_;
    const char *
        match; /* a glob over the names: "encoder.*". One that fits none of them, frozen or not: FDL_E_ARG with the closest;
                        * a list that is empty for another reason is none */
    bool flat; /* flat names instead: the node's tag or id, "/" and the bare leaf name, with an index where
                        * that is not unique */
    bool
        sequential; /* as torch.nn.Sequential calls them: in place of a node its step's number among the modules and
                      * combinators of the flow, from 0 on; tags, inputs and the like don't count */
    bool legacy;    /* leaves as versions 1 and 2 of checkpoints have them: "w_ih" for "weight_ih_l0", no
                  * num_batches_tracked; what they keep in parts, such as in_proj_weight, once for each part */
    bool transient; /* buffers: those that are not saved, too */
    bool every;     /* a shared one under each of its names, not under the first only */
    int min_ndim;   /* only those of so many dims or more: 2 for the weights that decay */
    int max_ndim;   /* only those of so many dims or fewer: 1 for biases and norms; default: all */
} fdl_parameters_opts;
/* Every parameter of the tree once, frozen ones included; a shared one under its first name. Scope. */
FDL_API fdl_params *fdl_parameters_opt(fdl_module *m, const fdl_parameters_opts *opts);
/* Without the frozen ones. */
FDL_API fdl_params *fdl_parameters_trainable_opt(fdl_module *m, const fdl_parameters_opts *opts);
/* The same for buffers. */
FDL_API fdl_params *fdl_buffers_opt(fdl_module *m, const fdl_parameters_opts *opts);
/* Number of entries; -1 on NULL. */
FDL_API int fdl_params_count(const fdl_params *ps);
/* Entry i; outside: NULL and FDL_E_RANGE. */
FDL_API fdl_param *fdl_params_at(const fdl_params *ps, int i);
/* Canonical name of entry i, borrowed from the list. */
FDL_API const char *fdl_params_name(const fdl_params *ps, int i);
/* The entry of that name. Unknown: NULL and FDL_E_ARG with the closest names. */
FDL_API fdl_param *fdl_params_find(const fdl_params *ps, const char *name);
/* Both lists' entries, each tensor once. Scope. */
FDL_API fdl_params *fdl_params_join(const fdl_params *a, const fdl_params *b);
/* The entries of a whose tensor is also in b, or isn't, under a's names. Scope. */
FDL_API fdl_params *fdl_params_intersect(const fdl_params *a, const fdl_params *b);
FDL_API fdl_params *fdl_params_except(const fdl_params *a, const fdl_params *b);
/* The entries for which keep gives true. Scope. */
FDL_API fdl_params *fdl_params_where(const fdl_params *ps,
                                     bool (*keep)(const fdl_param *p, const char *name, void *ctx),
                                     void *ctx);
/* Elements of all of them; -1 on NULL. */
FDL_API int64_t fdl_params_numel(const fdl_params *ps);
/* All of them one behind the other -> [fdl_params_numel], recorded as any operation; none: [0].
 * torch.nn.utils.parameters_to_vector. */
FDL_API fdl_tensor *fdl_params_to_vector(const fdl_params *ps);
/* Copies slices of v [fdl_params_numel] into them. Another shape: FDL_E_SHAPE. torch.nn.utils.vector_to_parameters. */
FDL_API fdl_status fdl_vector_to_params(fdl_tensor *v, const fdl_params *ps);
FDL_API fdl_status fdl_params_freeze(const fdl_params *ps);
/* Those of these n names, such as a load's report.loaded. A name that isn't there: FDL_E_ARG, and none is frozen. */
FDL_API fdl_status fdl_params_freeze_named(const fdl_params *ps, const char *const *names, int n);
FDL_API fdl_status fdl_params_thaw(const fdl_params *ps);
/* Writes the state_dict key of a canonical name ("/" turned into ".") to buf of n bytes. Too long: FDL_E_ARG. */
FDL_API fdl_status fdl_state_key(const char *name, char *buf, size_t n);

/* Leaf name; the leaf itself, borrowed. */
FDL_API const char *fdl_param_name(const fdl_param *p);
FDL_API fdl_tensor *fdl_param_tensor(const fdl_param *p);
/* Copies values into the existing storage, cast and moved as needed; another shape: FDL_E_SHAPE. */
FDL_API fdl_status fdl_param_set(fdl_param *p, fdl_tensor *value);
/* Freezing clears requires_grad and drops the gradient; optimizers skip frozen parameters. */
FDL_API fdl_status fdl_param_freeze(fdl_param *p);
FDL_API fdl_status fdl_param_thaw(fdl_param *p);
FDL_API bool fdl_param_is_frozen(const fdl_param *p);
FDL_API fdl_status fdl_freeze(fdl_module *m);
FDL_API fdl_status fdl_thaw(fdl_module *m);
/* At least one parameter and all of them frozen. */
FDL_API bool fdl_is_frozen(fdl_module *m);

/* ---- a module of your own ----------------------------------------------------------------------------- */

typedef struct fdl_refs fdl_refs;       /* further inputs by name */
typedef struct fdl_emitter fdl_emitter; /* where a loop's body publishes */

typedef struct fdl_module_ops {
    const char *kind; /* required: a lowercase identifier, such as "linear" */
    size_t size;      /* of self; the library allocates it, zeroed */
    fdl_tensor *(*forward)(void *self, fdl_tensor *x); /* required unless forward_named or step */
    fdl_tensor *(*forward_named)(void *self, fdl_tensor *x, const fdl_refs *r); /* with refs, possibly none */
    /* What a loop (fdl_flow_loop, fdl_flow_scan) runs at each iteration instead, so that side values can be published by
     * fdl_emit. Elsewhere, without forward, it is the module's forward, and what it publishes is dropped. */
    fdl_tensor *(*step)(void *self, fdl_tensor *x, const fdl_refs *r, fdl_emitter *e);
    /* One side value (of any scope) after each iteration of a loop, or NULL without an error; not asked beside step. */
    fdl_tensor *(*trace)(void *self);
    void (*reset)(void *self);                    /* forget per-sequence state */
    void (*detach_state)(void *self);             /* keep values, cut history */
    void (*train)(void *self, bool training);     /* told when the flag changes */
    fdl_status (*to)(void *self, fdl_device dev); /* after a move or a cast: move what isn't registered */
    /* Refs that it understands, in order of forward's inputs, NULL-ended; another one is refused when a flow is built.
     * NULL: any, by position (fdl_refs_at); fdl_forward calls its further inputs "1", "2", ... */
    const char *const *ref_names;
    void (*free)(void *self); /* what forward needed beside self; registered things are the library's */
} fdl_module_ops;

/* A module with ops (static, borrowed); owned. Children, parameters and buffers are registered with the calls below; what
 * fails there is remembered, and fdl_module_done reports it. */
FDL_API fdl_module *fdl_module_new(const fdl_module_ops *ops);
/* The ops->size bytes of the module; NULL on NULL. */
FDL_API void *fdl_module_self(fdl_module *m);
/* The module whose self this is: for forward functions that need their module (fdl_is_training(fdl_module_of(self))). */
FDL_API fdl_module *fdl_module_of(void *self);
/* Registers a parameter; init's values become a leaf that requires grad (init itself is not changed). Returns the leaf,
 * borrowed. Names: not empty, no "/". */
FDL_API fdl_tensor *fdl_module_param(fdl_module *m, const char *name, fdl_tensor *init);
/* Registers a buffer: saved and moved, never trained. Borrowed. */
FDL_API fdl_tensor *fdl_module_buffer(fdl_module *m, const char *name, fdl_tensor *init);
/* A buffer that is moved but not saved. */
FDL_API fdl_tensor *fdl_module_transient(fdl_module *m, const char *name, fdl_tensor *init);
/* Takes child over, on failure too, and returns it borrowed. A child that has an owner already: an error. */
FDL_API fdl_module *fdl_module_child(fdl_module *m, const char *name, fdl_module *child);
/* m, which can be run from now on, or NULL with everything freed if anything above failed. */
FDL_API fdl_module *fdl_module_done(fdl_module *m);
/* Another owning handle of the same module (siamese towers, tied blocks): its parameters are listed, saved, trained once. */
FDL_API fdl_module *fdl_module_share(fdl_module *m);
/* Ties m's own parameter `name` to another parameter: one tensor, one gradient, listed once. Shapes must be equal. */
FDL_API fdl_status fdl_module_share_param(fdl_module *m, const char *name, fdl_param *other);

/* In step: appends t (kept by the graph, with its history) to the loop's list of that name, which fdl_graph_traces reads.
 * Twice in one iteration, or a name that another loop of the graph uses: the loop's forward fails with FDL_E_STATE. e NULL: t
 * is dropped. */
FDL_API void fdl_emit(fdl_emitter *e, const char *name, fdl_tensor *t);

/* ---- asking ------------------------------------------------------------------------------------------- */

/* "linear"; NULL on NULL. */
FDL_API const char *fdl_module_kind(fdl_module *m);
FDL_API const fdl_module_ops *fdl_module_ops_of(fdl_module *m);
/* Own parameters and buffers by leaf name; unknown: NULL and FDL_E_ARG. */
FDL_API fdl_param *fdl_module_own_param(fdl_module *m, const char *name);
FDL_API fdl_buffer *fdl_module_own_buffer(fdl_module *m, const char *name);
FDL_API int fdl_module_children(fdl_module *m);
/* Child i, borrowed, and its name. */
FDL_API fdl_module *fdl_module_child_at(fdl_module *m, int i, const char **name);
/* What a recorded run of the module (a CUDA graph) depends on, as one number: it is another as soon as anything of the tree
 * was frozen, thawed, put into training or eval mode, moved, cast, shared, added or replaced, a hook of a graph
 * added or removed (after which it never is what it was before), and the same again only when
 * everything is again as it was. Options that a module keeps to itself aren't seen. Made by a walk that takes some
 * nanoseconds a module and parameter. 0 on NULL. */
FDL_API uint64_t fdl_module_generation(fdl_module *m);
/* ---- what runs leave behind ------------------------------------------------------------------------------ */

/* For those who record runs (CUDA graphs): graphs keep values under tags, and carry state from call to call, which a replayed
 * run must find and leave at the same addresses. */

/* Does fdl_module_detach_state, and then copies the values of state slots into tensors that the modules keep and use again
 * as long as shape, dtype and device stay. After the backward pass: memory that it needs may be written. */
FDL_API fdl_status fdl_module_settle(fdl_module *m);
/* The kind of a module in the tree that carries state of its own (it has a detach_state), which fdl_module_settle can't
 * reach; NULL: there is none. Borrowed. */
FDL_API const char *fdl_module_unsettled(fdl_module *m);
/* Those tensors, an entry a state slot of the tree, NULL where the slot is empty or its value not settled; .n is 0 for a tree
 * without state. Scope, NULL .at on failure. */
FDL_API fdl_list fdl_module_states(fdl_module *m);
/* What the last run left in the tree beside its result: an entry a state slot and a tagged value, NULL where there is none.
 * Scope, NULL .at on failure. */
FDL_API fdl_list fdl_module_left(fdl_module *m);
/* Puts it there again; no values are copied. A list of another length, as of another tree: FDL_E_ARG. */
FDL_API fdl_status fdl_module_set_left(fdl_module *m, fdl_list left);

/* ---- walking -------------------------------------------------------------------------------------------- */

/* fn on every module of the tree once, self first, then children in order; a status other than FDL_OK stops the walk and
 * is returned. An fn that walks itself, as fdl_parameters does, is for fdl_module_apply. */
FDL_API fdl_status fdl_module_walk(fdl_module *m, fdl_status (*fn)(fdl_module *m, void *ctx), void *ctx);
/* The same with names, and children before their parent: torch.nn.Module.apply, such as to give every linear other initial
 * values. name (borrowed) is what a parameter's state_dict key has in front of its "." and leaf name: "encoder.scan.hidden"; ""
 * for m itself. A shared module comes once, under its first name. */
FDL_API fdl_status fdl_module_apply(fdl_module *m,
                                    fdl_status (*fn)(fdl_module *m, const char *name, void *ctx), void *ctx);

/* ---- refs ------------------------------------------------------------------------------- */

/* The ref of that name, borrowed; NULL without an error when it isn't wired. */
FDL_API fdl_tensor *fdl_refs_get(const fdl_refs *r, const char *name);
/* The same; not wired: NULL and an error that lists what is. */
FDL_API fdl_tensor *fdl_refs_need(const fdl_refs *r, const char *name);
/* True: nobody has written that state so far, and the ref is zeros like the main input. A cell whose state has another shape
 * makes its own zeros then. Not seen through the input of a graph inside. */
FDL_API bool fdl_refs_initial(const fdl_refs *r, const char *name);
FDL_API size_t fdl_refs_count(const fdl_refs *r);
FDL_API const char *fdl_refs_name(const fdl_refs *r, size_t i);
FDL_API fdl_tensor *fdl_refs_at(const fdl_refs *r, size_t i);

FDL_END_DECLS

#ifndef __cplusplus
/* fdl_forward(m, x, ...): 1 to any number of inputs. */
#define fdl_forward(m, ...) fdl_forward_list(m, FDL_LIST(__VA_ARGS__))
#define fdl_parameters(...) fdl_parameters_(__VA_ARGS__, .opts_ = 0)
#define fdl_parameters_(m, ...) fdl_parameters_opt(m, &(fdl_parameters_opts){__VA_ARGS__})
#define fdl_parameters_trainable(...) fdl_parameters_trainable_(__VA_ARGS__, .opts_ = 0)
#define fdl_parameters_trainable_(m, ...) fdl_parameters_trainable_opt(m, &(fdl_parameters_opts){__VA_ARGS__})
#define fdl_buffers(...) fdl_buffers_(__VA_ARGS__, .opts_ = 0)
#define fdl_buffers_(m, ...) fdl_buffers_opt(m, &(fdl_parameters_opts){__VA_ARGS__})
#define fdl_module_to(m, ...) fdl_module_to_(m, __VA_ARGS__, .opts_ = 0)
#define fdl_module_to_(m, d, ...) fdl_module_to_opt(m, d, &(fdl_module_to_opts){__VA_ARGS__})
#endif

#endif
