/* What src/nn keeps about a module, and the table through which a graph gives its own names and order. */
#ifndef FLODL_NN_MODULE_PRIVATE_H
#define FLODL_NN_MODULE_PRIVATE_H

#include "flodl/module.h"

struct fdl_param {
    char *name;
    fdl_tensor *t; /* object handle */
    bool transient;
};

void param_free(struct fdl_param *p);

typedef struct param_list {
    int n;
    struct fdl_param **at;
} param_list;

/* A tensor of a module that is made from others whenever the module runs: a weight with a norm of its own, a pruned one. What
 * was registered under its name is in no list of parameters any more, but its handle, which forward reads, is still there:
 * during a run it is on the value, otherwise on one of the tensors that the value is made from, which has its shape, dtype
 * and device. */
typedef struct module_computed {
    struct module_computed *next; /* in the order of computing: the last one that was registered first */
    struct fdl_param *p;          /* what was registered */
    int place;                    /* where it stood in the list */
    struct fdl_param *original;   /* what its handle is on otherwise */
    struct fdl_param *mask;       /* of a pruned one, a buffer of the module; NULL: `by` computes it */
    fdl_module *by;               /* a child */
} module_computed;

typedef struct module_watch {
    void (*before)(fdl_module *m);
    /* After a call that succeeded. names: of the n - 1 further inputs; NULL: by position. */
    void (*after)(fdl_module *m, int n, fdl_tensor *const *inputs, const char *const *names, fdl_tensor *y);
} module_watch;

/* One part of a module in a walk: a child, or a node of a graph. */
typedef struct module_part {
    fdl_module *module;     /* NULL: the part has none (an addition) */
    const char *name;       /* its piece of canonical names; NULL: left out */
    const char *flat;       /* its piece of flat names */
    const char *sequential; /* its piece of torch.nn.Sequential's names */
    bool node;              /* a node of a graph, behind which the "/" of a canonical name can stand */
} module_part;

/* A value that a module carries from one run to the next beside what is registered: kept handles. */
typedef struct module_slot {
    fdl_tensor *value; /* NULL: empty */
    fdl_tensor *
        place; /* memory that stays, for recorded runs; NULL: none so far. value may be another handle on it */
    fdl_tensor *initial; /* what is read while the slot is empty; NULL: zeros */
} module_slot;

/* All that a run leaves in a module beside its result. */
typedef struct module_rest {
    int slots;
    module_slot *slot; /* [slots] */
    uint64_t mark;     /* what else a recorded run depends on, as a number */
    int values;
    fdl_tensor **value; /* [values] kept: what is only looked at; NULL: not computed */
} module_rest;

/* What a graph gives in place of the list of children. Each may be NULL. */
typedef struct module_table {
    int (*parts)(fdl_module *m);
    module_part (*part)(fdl_module *m, int i); /* in the order of enumeration */
    fdl_tensor *(*forward)(fdl_module *m, int n, fdl_tensor *const *inputs);
    /* Why the module can be neither forwarded nor nested (steps of a flow); NULL: it can. */
    const char *(*refusal)(fdl_module *m);
    module_rest (*rest)(fdl_module *m);
    /* Of a module that computes a parameter: from that parameter's value the tensors (scope) of which it computes that; returns
     * how many, at most 2, the last one of the value's shape, or 0 on failure. NULL: one, the value itself. */
    int (*invert)(fdl_module *m, fdl_tensor *value, fdl_tensor *originals[2]);
    /* Forgets what can't be put back by fdl_module_set_left: values of loops, whose number isn't fixed. */
    void (*forget)(fdl_module *m);
} module_table;

struct fdl_module {
    fdl_module *real; /* itself; for a handle made by fdl_module_share the module that it shares */
    bool owned;       /* another module or a step has taken this handle over */
    bool closed;      /* this handle was freed; the module lives on in others */
    bool gone;        /* freed, and kept for the checked mode to tell */

    /* Of the real module only: */
    int handles;
    const fdl_module_ops *ops;
    const module_table *table;
    void *self;
    const struct fdl_kind *kind; /* what it says it was made with; NULL: nothing */
    void *args;
    const struct module_watch *watch; /* told of its calls, whoever makes them; NULL: nobody is */
    module_computed *computed;        /* before each run; NULL: nothing */
    bool
        aside; /* it computes tensors of another module, and isn't a part of what that one does with its input */
    bool training;
    bool failed;      /* a registration failed */
    bool made;        /* its constructor came to fdl_module_done */
    _Atomic int user; /* in the checked mode: the thread that runs it, by its system's number; 0: none does */
    uint64_t version; /* raised when what it does changes otherwise than by its tensors and modules */
    uint64_t seen;    /* the last walk that came here */
    param_list params, buffers;
    struct {
        int n;
        fdl_module **at;
        char **names;
    } children;
};

struct fdl_refs {
    size_t n;
    const char *const *names;
    fdl_tensor *const *at;
    const bool *initial; /* [n] what fdl_refs_initial says; NULL: false for all */
};

struct fdl_emitter {
    fdl_status (*put)(fdl_emitter *e, const char *name, fdl_tensor *t);
    bool failed; /* put did: step's result doesn't count */
};

/* A number that is another as soon as any tree of modules was changed (a child added, a part replaced): for lists of a
 * tree's modules that are made once. Who changes a tree calls module_changed. */
uint64_t module_changes(void);
void module_changed(void);

/* A module with a table of its own; table may be NULL. */
fdl_module *module_new_with(const fdl_module_ops *ops, const module_table *table);
/* m on n inputs in the current scope, without a scope of its own. */
fdl_tensor *module_run(fdl_module *m, int n, fdl_tensor *const *inputs);

/* Every way into a forward goes through these two, unless it goes through module_run: computes what is computed (false: the
 * error is set, and there is nothing to leave), and lets go of it. m is the real module. */
bool module_compute(fdl_module *m);
void module_park(fdl_module *m);
static inline bool module_enter(fdl_module *m)
{
    return FDL_LIKELY(!m->computed) || module_compute(m);
}
static inline void module_leave(fdl_module *m)
{
    if (FDL_UNLIKELY(m->computed != NULL))
        module_park(m);
}
/* For a function that runs a module otherwise, behind FDL_SCOPE: it returns NULL, or the module is left at the end of the
 * block. The checked mode looks at m as fdl_forward does. */
typedef struct module_call {
    fdl_module *module; /* NULL: it can't be run, and the error is set */
    bool first;         /* no other call of this thread runs it */
} module_call;
module_call module_begin_call(fdl_module *m);
void module_end_call(module_call *call);
#define MODULE_CALL(m)                                                                            \
    module_call called_ __attribute__((cleanup(module_end_call))) = module_begin_call((m)->real); \
    if (!called_.module)                                                                          \
    return NULL
/* The computed tensor of that name; NULL without an error: there is none. */
module_computed *module_computed_named(fdl_module *m, const char *name);
/* Its value as an evaluation would have it (scope). */
fdl_tensor *module_computed_value(fdl_module *m, const module_computed *c);
/* m's tensor of that name, own or computed, for shape, dtype and device alone (borrowed); NULL: FDL_E_ARG. */
fdl_tensor *module_leaf(fdl_module *m, const char *name);
/* All that are computed in the tree, under the canonical names that they had as parameters, in the order in which they were
 * registered (scope). */
fdl_params *module_computed_params(fdl_module *m);
/* Whose the entry i is. */
fdl_module *params_owner(const fdl_params *ps, int i);
/* Lets the parameter of m be computed by n modules, one behind the other, which are taken over, on failure too. */
fdl_status module_parametrize(const char *function, fdl_module *m, const char *name, int n,
                              fdl_module *const *by);
/* Modules behind one another that compute c; 0 for a pruned one. */
int module_parametrizations(const module_computed *c);
fdl_module *module_parametrization_at(const module_computed *c, int i);
/* Lets the parameter of m be multiplied with a mask of ones. */
fdl_status module_prune(fdl_module *m, const char *name);
/* Whether m takes a parameter, buffer or child of that name. */
fdl_status module_check_name(fdl_module *m, const char *what, const char *name);
/* A handle to take the place of child m. NULL: the error is set. */
typedef fdl_module *make_child(fdl_module *m, void *ctx);

/* m made again by what it says it was made with, around what `make` gives for its children; owned. One that says nothing:
 * FDL_E_UNSUPPORTED. Its parameters are drawn anew. */
fdl_module *module_remake(fdl_module *m, make_child *make, void *ctx);
/* Lets be computed in `to` what is in `from`, which was made as `to` was; values are those of `to`. */
fdl_status module_compute_like(fdl_module *to, fdl_module *from);
/* Takes the child out of m and releases it. */
void module_disown(fdl_module *m, fdl_module *child);

/* NULL, or why m can be neither forwarded nor nested. */
const char *module_refusal(fdl_module *m);
/* Marks a handle as taken over by a module of kind `by`. Has it an owner already: FDL_E_STATE. */
fdl_status module_take(fdl_module *m, const char *by);
/* Frees a handle whoever owns it; NULL: nothing. */
void module_release(fdl_module *m);
/* Parts of m: its table's, or its children. */
int module_parts(fdl_module *m);
module_part module_part_at(fdl_module *m, int i);
/* The layer in an adapter that fdl_nn_lora made; NULL: m is none. */
fdl_module *lora_base(fdl_module *m);
/* The child that field f, FDL_FIELD_MODULE or FDL_FIELD_MODULES, of m's description stands for: the i-th; NULL behind the last. */
struct fdl_field;
fdl_module *module_field_child(fdl_module *m, const struct fdl_field *f, int i);
/* The mode of m alone. */
void module_set_training(fdl_module *m, bool training);
/* Bare leaf name of entry i; in a list made with .legacy the one of that view. */
const char *params_leaf(const fdl_params *ps, int i);
/* How many entries of the list stand for equal parts, along dim 0, of the tensor of entry i: 1 but for .legacy. */
int params_parts(const fdl_params *ps, int i);

/* A leaf in the view of versions 1 and 2 of checkpoints. */
typedef struct legacy_leaf {
    int parts;            /* 0: that view doesn't have it; 3: in three equal parts along dim 0 */
    const char *names[3]; /* one a part */
} legacy_leaf;
/* Of the leaf of m, a child called `child` (NULL: it is none) of a module of kind `outer`. */
legacy_leaf module_legacy_leaf(fdl_module *m, const char *leaf, const char *outer, const char *child);

/* What m itself carries; nothing for a module without a table for it. */
module_rest module_rest_of(fdl_module *m);
/* Lets *slot be a new kept handle on t (NULL: none), and frees the old one. */
fdl_status module_keep(fdl_tensor **slot, fdl_tensor *t);
/* A number that no walk has used. */
uint64_t module_new_walk(void);

/* Writes " (closest: a, b, c)" with the up to three of n names that are most like `name` to buf; returns buf. */
const char *closest_names(const char *name, int n, const char *(*at)(const void *list, int i),
                          const void *list, char *buf, size_t size);

#endif
