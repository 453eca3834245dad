/* What src/graph shares: the graph, the builder, and the two tables that a kind of step fills in, step_type
 * for building and node_type for running. A new kind of step is a file with these two and its constructor;
 * nothing else changes. */
#ifndef FLODL_GRAPH_PRIVATE_H
#define FLODL_GRAPH_PRIVATE_H

#include "../nn/module_private.h"
#include "flodl/control.h"
#include "flodl/graph.h"

typedef struct graph graph;
struct fdl_onnx;

/* Stands in a forward's place: gets its module and inputs, and gives its result. */
typedef fdl_tensor *graph_override(void *ctx, fdl_module *m, int n, fdl_tensor *const *inputs);

/* ---- memory that lives as long as a graph -------------------------------------------------------------- */

typedef struct arena {
    struct arena_block *first;
} arena;

/* Zeroed. NULL: out of memory, with the error set. */
void *arena_alloc(arena *a, size_t size);
char *arena_text(arena *a, const char *format, ...) FDL_PRINTF(2, 3);
void arena_free(arena *a);
/* An array with room for one element of `size` bytes more than n: at itself or a larger one. NULL: out of
 * memory, with the error set and the array as it was. */
void *grown(void *at, int n, int *room, size_t size);

/* ---- names --------------------------------------------------------------------------------------------- */

/* From names to numbers; the names are borrowed. */
typedef struct name_map {
    int n, room; /* a power of two */
    struct name_entry {
        const char *name; /* NULL: free */
        uint64_t hash;
        int value;
    } * at;
} name_map;

/* -1: not there. */
int name_find(const name_map *map, const char *name);
fdl_status name_put(name_map *map, const char *name, int value);
void name_free(name_map *map);
/* NULL, or what is wrong with a tag, group, input, ref or label of this name. */
const char *name_fault(const char *name);

/* ---- a graph: what was built --------------------------------------------------------------------------- */

typedef struct plan_node plan_node;
typedef struct graph_node graph_node;

/* How a node is drawn. */
typedef enum node_look {
    LOOK_MODULE, /* as its module's kind says */
    LOOK_STATE,  /* it reads state */
    LOOK_SUM,
    LOOK_JOIN, /* several values become one otherwise */
    LOOK_MAP,
    LOOK_LOOP,
    LOOK_CHOICE /* child 0 of its module decides about the others */
} node_look;

/* How a node runs. */
typedef struct node_type {
    const char *hashed_kind; /* in the structural hash, in place of its module's kind */
    bool numbered;           /* its ports are input_0, input_1, ... instead of input */
    bool bare; /* runs in the graph's scope: what it makes is its result, temporaries it drops itself */
    node_look look;
    /* In drawings, behind the node's kind: "x 3". Writes to buf. NULL: nothing. */
    void (*note)(const graph_node *node, char *buf, size_t size);
    /* Whether nothing is read from a port, which isn't drawn then. NULL: all are read. */
    bool (*idle)(const graph_node *node, int port);
    fdl_tensor *(*run)(graph *g, const plan_node *p);
    /* The name of what it made (y) in ONNX; NULL, refused: it has none. Missing: the step isn't told in ONNX. */
    const char *(*onnx)(struct fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y);
    const char *(*onnx_refusal)(const plan_node *p); /* why this one isn't, before it runs; NULL: it is */
} node_type;

struct graph_node {
    const node_type *type;
    fdl_module *module; /* borrowed; NULL: none */
    void *self;         /* of the step that made it, when its type needs that */
    const char *id;
    const char *tag;        /* the first one; NULL: none */
    const char *sequential; /* number of its step among modules and combinators, as text */
    fdl_module *taker;      /* whose further inputs its refs are */
    const char *role;       /* of the taker in the node, for errors: "its body "; "" for the module itself */
    bool sums;              /* refs are further operands */
    int inputs;             /* ports before the refs */
    int refs, ref_room;
    int own_refs;             /* the first refs, which the step itself wires */
    const char *own_hint;     /* how the user has a say in their values */
    const char **ref_names;   /* in order of fdl_flow_using */
    const char **ref_sources; /* whose value each is: a tag, or the name of a state */
    int state;                /* of a reader of state: which; -1: it is none */
    int at;                   /* position and kind of the step, for errors */
    const char *kind;
    int place, level; /* in the order of execution */
};

/* To port `port` of node `to`: its inputs, then its refs. In order of creation. */
typedef struct graph_edge {
    int from, to, port;
} graph_edge;

typedef struct graph_name {
    const char *name;
    int node;
} graph_name;

/* What is carried from one call to the next: the value of a node, for steps before it. */
typedef struct graph_state {
    const char *name; /* the tag of the node that writes it */
    int node;         /* that node; -1: not tagged so far */
    int at;           /* the step that used it first, for errors */
    const char *kind;
} graph_state;

/* What a node published when it ran last, as graph's own handles. */
typedef struct trace_list {
    const char *name; /* NULL: a loop's unnamed list */
    int node;
    int64_t iteration; /* of the last value */
    int n, room;
    fdl_tensor **at;
} trace_list;

typedef struct graph_group {
    const char *name;
    const char **members;
    int n;
} graph_group;

/* One node in the plan. */
struct plan_node {
    const node_type *type;
    fdl_module *module;
    void *self;
    fdl_tensor **in; /* its slots: inputs, then refs */
    int inputs, refs;
    const char *const *ref_names; /* in the order of the slots */
    int slot;                     /* in = slots + slot */
    int route, route_end;         /* in routes: the slots that get its value */
    int last, last_end;           /* in lasts: nodes whose value has its last reader here */
    bool unread;                  /* nobody reads its value, and it isn't the output */
    int node;
    bool stops; /* its value goes on without its history (fdl_graph_stop_gradient_at) */
    int cell;   /* where its value is kept under its tags; -1: it has none */
    int states; /* how many of its refs are state */
    const bool *
        initial; /* [refs] which of them are zeros, as nothing was written so far; NULL: it has none of state */
};

/* What looks on while a forward runs: profiles, hooks. Each may be NULL. place: in the order of execution. */
typedef struct graph_watcher graph_watcher;
struct graph_watcher {
    graph_watcher *next;
    void (*begin)(graph_watcher *w, graph *g);
    void (*before)(graph_watcher *w, graph *g, int place);
    /* y is what the node made. Returns y, or what takes its place (the current scope's); NULL with an error: forward fails
     * there. */
    fdl_tensor *(*after)(graph_watcher *w, graph *g, int place, fdl_tensor *y);
    void (*end)(graph_watcher *w, graph *g, bool succeeded);
    void (*free)(graph_watcher *w); /* with the graph, or by graph_unwatch */
};

struct graph {
    arena memory;
    const char *label;
    int owned, owned_room;
    fdl_module **own; /* modules and steps of the flow */
    int nodes, node_room;
    graph_node *node; /* in order of creation */
    int first_id;     /* ids count from 1 behind this */
    int edges, edge_room;
    graph_edge *edge;
    int tags, tag_room;
    graph_name *tag;
    int groups, group_room;
    graph_group *group;
    int inputs, input_room;
    graph_name *input;
    int states, state_room;
    graph_state *state;
    int output;
    name_map names; /* tag i has i, group i has -2 - i */
    int internals, internal_room;
    graph_name *internal; /* tags that aren't seen from outside, and the position of the step that says so */
    bool verbose;
    int outputs, output_room;
    graph_name *
        further; /* outputs beside the main one: tags, .node the tag's number once the graph is built; before, the
                          * position of the step */
    int inners, inner_room;
    graph **inner; /* the graphs below it, down to the first on each way, each once; those with a label are
                    * its children */
    int parents;   /* graphs that have it among their inner ones */

    /* The plan, in order of execution. */
    plan_node *plan;
    int *part, parts; /* nodes with modules */
    int slots;
    fdl_tensor **slot;
    int *source;   /* a slot: the place of the node whose value it gets; -1: a graph input's */
    bool *is_last; /* a slot: no later node reads that value */
    bool *initial; /* a slot: holds zeros in place of state that is empty */
    int *route;
    int *last;
    int *input_slot;

    /* While a forward runs. A node may return the very handle that it was given. So a value counts its names:
     * root is the node that made the handle, held how many nodes' values it still is. */
    fdl_tensor **value;
    int *root, *held;
    bool *needed;            /* [nodes] what a partial run runs; NULL: there was none so far */
    bool prefix;             /* an error that comes up is this forward's */
    unsigned hooks;          /* added so far */
    graph_watcher *watchers; /* in the order in which they are told; NULL: nobody */

    /* Values of tagged nodes from the last run that computed them: kept handles, NULL before. */
    int cells;
    fdl_tensor **cell;
    module_slot *carried;  /* [states] */
    fdl_tensor **staged;   /* [states] kept: what this call gives them */
    int64_t steps, epochs; /* ended */

    int traces, trace_room;
    trace_list *trace;

    /* What the layers above hang on a graph. */
    void *training; /* an optimizer with what goes with it; freed by: */
    void (*training_free)(void *training);
    int64_t training_steps; /* of the layer of training; fdl_graph_step_count counts another thing */
    fdl_tensor *(*loss)(fdl_module *m, fdl_list batch, void *ctx);
    void *loss_ctx;
    graph_override *override; /* in place of the forward; NULL: none */
    void *override_ctx;

    char hash[65], short_hash[9], legacy_hash[65];
    uint64_t hashed_at; /* module_changes() then */
    char *source_config; /* NULL: none */

    /* Observation (observe.c). */
    bool begun; /* a forward, or a record, has come; at that time: */
    double began;
    struct observation *observed; /* NULL: nothing was asked or recorded */
    struct profiler *profiler;    /* profile.c; NULL: profiling was never on */
};

/* NULL and the error when m is no graph. */
graph *graph_of(const char *function, fdl_module *m);
graph *graph_or_null(fdl_module *m);
/* Whether i is one of n; otherwise FDL_E_RANGE, with the name of what is counted. */
bool graph_within(const char *function, int i, int n, const char *what);
/* A graph without nodes. */
fdl_module *graph_new(void);
/* Works out the order of execution and lays out the plan. */
fdl_status graph_plan(graph *g);
/* The forward, or what was put in its place. */
fdl_tensor *graph_forward(fdl_module *m, int n, fdl_tensor *const *inputs);
/* The forward itself: what an override calls, once or several times. */
fdl_tensor *graph_forward_local(fdl_module *m, int n, fdl_tensor *const *inputs);
/* Replaces the values of a trace list by n others (any handles); the list is then that of a run that published them. */
fdl_status graph_set_trace(graph *g, int i, int n, fdl_tensor *const *values);
/* Runs the nodes that g->needed names; state is read, not written. */
fdl_status graph_run_needed(fdl_module *m, fdl_tensor *const *inputs);
/* m on what lies in p's slots: the input, and its refs as m wants them. */
fdl_tensor *graph_call(fdl_module *m, const plan_node *p);
/* p's refs for a module that isn't a graph. */
fdl_refs graph_refs(const plan_node *p);
/* The same as an iteration of a loop: a body with step publishes to e. */
fdl_tensor *graph_iterate(fdl_module *m, const plan_node *p, fdl_emitter *e);
/* The module of p, or the first child of its step, on `in` (inputs, then refs); computed once more in backward. */
fdl_tensor *graph_recompute(const plan_node *p, fdl_tensor **in, bool no_rng_state);
/* Whether node p, which is running, may change operand i: nobody else reads it or holds its storage. */
bool graph_may_change(const graph *g, const plan_node *p, int i);
/* Lets go of the values under tags, or only of their history. */
void graph_drop_tags(graph *g);
fdl_status graph_detach_tags(graph *g);
/* Empties the slots of state; cuts their history. */
void graph_drop_state(graph *g);
fdl_status graph_detach_state(graph *g);
/* At the end of a call that has succeeded: what the writers gave becomes the state. */
fdl_status graph_commit_state(graph *g);
/* Node n, which has refs of state: empty ones are zeros like its first input. */
fdl_tensor *graph_run_with_state(graph *g, const plan_node *n);
/* Node n failed: whether state of an earlier call doesn't fit is said in front of the error. */
void graph_blame_state(const graph *g, const plan_node *n);
/* Runs node n in a scope of its own, out of which only its result passes. */
fdl_tensor *graph_run_node(graph *g, const plan_node *n);
/* The tag of that name, or -1 with the error that lists those most like it. */
int graph_find_tag(const char *function, const graph *g, const char *name);
/* The value of tag i, borrowed; NULL: none was computed. */
fdl_tensor *graph_tag_value(const graph *g, int i);
/* Puts value (any handle; NULL: none) in its place, under all tags of that node. */
fdl_status graph_set_tag_value(graph *g, int i, fdl_tensor *value);
/* Adds a watcher behind the others, which the graph frees; takes it out again and frees it. */
void graph_watch(graph *g, graph_watcher *w);
void graph_unwatch(graph *g, graph_watcher *w);
/* Writes "linear_3" or "linear_3 (#hidden)" to buf; returns buf. */
const char *node_title(const graph_node *node, char *buf, size_t size);

/* The time of a graph's training begins. */
void graph_begun(graph *g);
/* The clock that began is of. */
double graph_now(const graph *g);
/* Frees what was observed. */
void graph_observed_free(graph *g);

/* What a step, and an epoch, end with while profiling is on. */
fdl_status graph_profiler_end_step(graph *g);
fdl_status graph_profiler_end_epoch(fdl_module *g);
void graph_profiler_free(graph *g);

/* ---- the tree of graphs -------------------------------------------------------------------------------- */

/* Where a path leads: to a graph, or to one of its tags. */
typedef struct graph_place {
    graph *g;
    int tag; /* in g->tag; -1: the graph itself */
} graph_place;
/* Follows a path from m. function, which a user called, begins the error. */
fdl_status graph_resolve(const char *function, fdl_module *m, const char *path, graph_place *place);
/* The same for paths that must lead to a tag, or to a graph; NULL: they don't, or not at all. */
fdl_status graph_resolve_tag(const char *function, fdl_module *m, const char *path, graph_place *place);
graph *graph_resolve_graph(const char *function, fdl_module *m, const char *path);
/* The tag of that name; -1: none, without an error. */
int graph_tag_named(const graph *g, const char *name);
bool graph_tag_is_internal(const graph *g, int tag);
/* The inner graph with that label; NULL: none. */
graph *graph_find_child(const graph *g, const char *label);
/* fn on the modules that a tag on the node stands for: its own; where it has none those of its step, or the
 * branches that it merges. */
fdl_status graph_each_module(const graph *g, int node, fdl_status (*fn)(fdl_module *m, void *ctx), void *ctx);
/* Finds the inner graphs and checks that labels and tags make paths that lead to one place. *at: the node
 * where they don't. */
fdl_status tree_find(graph *g, int *at);
/* tree_find for a flow, and its internal tags. */
fdl_status tree_check(fdl_flow_builder *b);
/* Writes the summary as messages. */
fdl_status tree_announce(fdl_module *m);
/* Forgets the inner graphs. */
void tree_free(graph *g);
/* The node with this id in a flow that fdl_flow built; -1: none. */
int node_of_id(const graph *g, const char *id);

/* ---- what nodes publish -------------------------------------------------------------------------------- */

/* Before a node publishes in a new execution; it costs nothing for one that never did. */
void graph_clear_traces(graph *g, int node);
/* Appends t to the node's list of that name (NULL: its unnamed one), which no other node may have. */
fdl_status graph_publish(graph *g, int node, const char *name, int64_t iteration, fdl_tensor *t);
/* Publishes t as the only value of this execution. name NULL: nothing. */
fdl_status graph_publish_one(graph *g, int node, const char *name, fdl_tensor *t);
/* Values keep what they are, without history. */
fdl_status graph_detach_traces(graph *g);
void graph_drop_traces(graph *g);
void graph_free_traces(graph *g);

/* Modules of some trees that have something to reset, found once and again after a change of any tree. */
typedef struct reset_list {
    int n, room;
    fdl_module **at;
    uint64_t changes;
} reset_list;
/* Calls reset for each module of the n trees; NULL among them: none. */
fdl_status reset_trees(reset_list *list, int n, fdl_module *const *trees);

/* ---- the builder --------------------------------------------------------------------------------------- */

struct fdl_flow_builder {
    fdl_module *module;
    graph *g;
    int at;           /* position of the step being added, its kind */
    const char *kind; /* NULL: no step, the build itself */
    fdl_status failed;
    int failed_at;

    int stream;                         /* the node whose value the next step gets */
    int *branch, branches, branch_room; /* instead of it between split and merge, where branches isn't 0 */
    int tagged;                         /* the node that a tag names */
    int steps;                          /* modules and combinators so far */
    int first, last; /* the nodes of the step that modifiers speak of: first <= node < last */
    int *target, targets, target_room; /* those that get its refs */

    name_map names;     /* tag i has i, group i has -2 - i */
    name_map awaited;   /* names used before their tag: the state's number */
    name_map published; /* names of .trace_* options: the node */
};

/* How a step builds. */
typedef struct step_type {
    fdl_module_ops ops;  /* kind: the constructor's name; first, so that a step's ops lead to its type */
    const char *refusal; /* STEP_REFUSAL(kind) */
    bool before_entry;   /* standing first it asks for no entry node */
    fdl_status (*add)(fdl_flow_builder *b, fdl_module *step);
} step_type;

#define STEP_REFUSAL(kind)                                                                                  \
    kind " makes a step of a flow, which only fdl_flow and fdl_flow_add take: it can be neither forwarded " \
         "nor "                                                                                             \
         "put into another module"

/* A step of that type, to be filled by step_child and finished by fdl_module_done. */
fdl_module *step_new(const step_type *type);
/* fdl_module_child, with the constructor's name in the error for a missing one. */
fdl_module *step_child(fdl_module *step, const char *name, fdl_module *m);
/* A step with a first child, and n more that are called "<name>_0" and so on. NULL: `parts` is missing, or no memory. */
fdl_module *step_of_parts(const step_type *type, const char *first, fdl_module *m, const char *name, int n,
                          fdl_module *const *parts);
/* The type of a step; NULL for every other module. */
const step_type *step_type_of(fdl_module *m);

/* An error with the position and kind of the step. */
fdl_status flow_fail(fdl_flow_builder *b, fdl_status status, const char *format, ...) FDL_PRINTF(3, 4);
/* The single stream's node, for a step that needs one. -1: several are open. */
int flow_single(fdl_flow_builder *b);
/* Begins a step that modifiers can speak of: the nodes made up to flow_end_step are its own. */
void flow_begin_step(fdl_flow_builder *b);
/* Behind it: the stream, and the node that a tag names. */
void flow_end_step(fdl_flow_builder *b, int stream, int tagged);
/* A new node, called "<kind>_<number>". -1: out of memory. */
int flow_node(fdl_flow_builder *b, const node_type *type, const char *kind, int inputs);
/* A node that runs m on the value of node x (-1: on the graph's input) and takes its refs. */
int flow_module(fdl_flow_builder *b, fdl_module *m, int x);
fdl_status flow_edge(fdl_flow_builder *b, int from, int to, int port);
/* The refs of the step go to this node. */
fdl_status flow_target(fdl_flow_builder *b, int node);
/* Names a node's value. */
fdl_status flow_tag(fdl_flow_builder *b, const char *name, int node);
/* A name that nothing has so far, copied; what: "tag". NULL: the error is set. */
const char *flow_name(fdl_flow_builder *b, const char *what, const char *name);
/* Makes the node of a step that runs its children on the stream: module step, its refs to child `taker`. -1: the error is
 * set. */
int flow_control(fdl_flow_builder *b, fdl_module *step, const node_type *type, const char *kind, int taker,
                 const char *role);
/* The names of the refs that m can't do without; NULL: it has none. Not for graphs. */
const char *const *required_refs(fdl_module *m);
/* That child i of the step, "expert 1", takes x alone. */
fdl_status flow_takes_one(fdl_flow_builder *b, fdl_module *step, int i, const char *what);
/* The node with that tag, which stands before; option: ".over". -1: the error is set. */
int flow_find(fdl_flow_builder *b, const char *option, const char *tag);
/* The value of node `from` as a ref of the target that the step wires itself; name is the arena's. fdl_flow_using of that name
 * is refused with the hint (static). */
fdl_status flow_ref(fdl_flow_builder *b, int target, const char *name, int from, const char *hint);
/* That m may run twice: no graph in it carries state. */
fdl_status flow_check_recompute(fdl_flow_builder *b, fdl_module *m);
/* The node publishes as `name` (borrowed; NULL: it doesn't), as no other option of the flow may; option: ".trace_choice". */
fdl_status flow_publishes(fdl_flow_builder *b, int node, const char *option, const char *name);
/* A plain module as a step. */
fdl_status flow_add_module(fdl_flow_builder *b, fdl_module *m);
/* Whether the tags that are outputs exist; notes their numbers. */
fdl_status check_outputs(fdl_flow_builder *b);
/* The checks that need the whole flow. */
fdl_status flow_check(fdl_flow_builder *b);

/* One name of fdl_flow_using, for that node of the step being added. */
fdl_status flow_use(fdl_flow_builder *b, int node, const char *name);
/* A reader of that state. -1: out of memory. */
int flow_state_reader(fdl_flow_builder *b, const char *name);

/* Node types that more than one kind of step uses. */
extern const node_type module_node, sum_node, state_node, loop_node;

#endif
