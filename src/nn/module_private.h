/* What src/nn keeps about a module, and the table through which a graph gives its own names and order. */
#ifndef FLODL_NN_MODULE_PRIVATE_H
#define FLODL_NN_MODULE_PRIVATE_H

#include "flodl/module.h"

struct fdl_param {
    char *name;
    fdl_tensor *t; /* object handle */
    bool transient;
};

typedef struct param_list {
    int n;
    struct fdl_param **at;
} param_list;

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
    /* Forgets what can't be put back by fdl_module_set_left: values of loops, whose number isn't fixed. */
    void (*forget)(fdl_module *m);
} module_table;

struct fdl_module {
    fdl_module *real; /* itself; for a handle made by fdl_module_share the module that it shares */
    bool owned;       /* another module or a step has taken this handle over */
    bool closed;      /* this handle was freed; the module lives on in others */

    /* Of the real module only: */
    int handles;
    const fdl_module_ops *ops;
    const module_table *table;
    void *self;
    const struct fdl_kind *kind; /* what it says it was made with; NULL: nothing */
    void *args;
    const struct module_watch *watch; /* told of its calls, whoever makes them; NULL: nobody is */
    bool training;
    bool failed;      /* a registration failed */
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
