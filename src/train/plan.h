/* What the files of recorded steps share: plans.c (which plan a step belongs to), state.c (what a step changes), capture.c
 * (how a plan comes to be recorded and runs), layout.c (which memory layout it has). */
#ifndef FLODL_TRAIN_PLAN_H
#define FLODL_TRAIN_PLAN_H

#include "flodl/watch.h"
#include "trainer.h"

/* What one batch tensor looks like. */
typedef struct look {
    fdl_shape shape;
    int64_t stride[FDL_MAX_DIMS];
    fdl_dtype dtype;
    fdl_device device;
} look;

look look_of(fdl_tensor *x);
bool looks_the_same(const look *l, fdl_tensor *x);
/* "[64, 784] float32, [64] int64", cut to fit; returns text. */
const char *looks_say(const look *l, int n, char *text, size_t size);

/* What a step depends on, beside the contents of tensors. */
typedef struct plan_key {
    uint64_t module, optim, meter, scaler, ema;
    uint64_t grads; /* where the gradients are that a step adds to; 0 for one that begins a group */
    unsigned modes, part;
} plan_key;

typedef enum plan_stage { PLAN_WATCH, PLAN_REPLAY, PLAN_EAGER } plan_stage;

/* Why a plan is eager, in words. */
enum { REASON_SIZE = 640 };

struct trainer_plan {
    trainer_plan *next; /* the one used before */
    plan_key key;
    trainer_part part;
    int n;
    look *batch;        /* [n] */
    fdl_tensor **input; /* [n] kept: what the graph reads */
    plan_stage stage;
    int watched;
    fdl_watch *watch; /* the operations of a step */
    fdl_cuda_graph *graph;
    int n_params;
    fdl_tensor **owner, /* [n_params] kept: the optimizer's parameters */
        **grad;         /* [n_params] kept: the gradient that each has after the step; NULL: none */
    fdl_list
        left; /* kept, .at malloc'ed: what the recorded step leaves in the model's graphs, tags and state */
    int64_t replays, bytes; /* bytes: what the device holds more since the capture */
    char reason[REASON_SIZE];
};

/* ---- plans.c ------------------------------------------------------------------------------------------ */

/* The plan for this batch, made if there is none, as the first of the list; the least recently used one leaves. */
trainer_plan *plan_for(fdl_trainer *tr, fdl_list batch, trainer_part part);
/* A further one, in front; none leaves. */
trainer_plan *plan_add(fdl_trainer *tr, fdl_list batch, trainer_part part);
/* Whether what the plan was made for is still so. */
bool plan_is_current(const fdl_trainer *tr, const trainer_plan *p);
/* Lets go of the graph with all that it holds. */
void plan_drop_graph(trainer_plan *p);
/* Takes the plan out of the trainer's list and frees it. */
void plan_remove(fdl_trainer *tr, trainer_plan *p);
/* The plan is eager for good; with .capture = FDL_CAPTURE_REQUIRE that is an error. */
FDL_PRINTF(3, 4) fdl_status plan_give_up(fdl_trainer *tr, trainer_plan *p, const char *format, ...);

/* ---- state.c ------------------------------------------------------------------------------------------ */

/* Tensors that a step changes, and a copy of them on the host; the scope's. */
typedef struct step_state {
    int n, room;
    fdl_tensor **at, **copy;
    fdl_tensor *random;
    fdl_list left; /* what the model's graphs hold, of which the host keeps account */
} step_state;

/* Names what a step of that part changes, without copies: parameters, buffers, state of graphs, what the optimizer remembers, averages, the
 * sums of losses, the scale; and the gradients, where a step adds to them. */
fdl_status state_gather(const fdl_trainer *tr, trainer_part part, step_state *s);
/* The same with copies of the values and of the random state. */
fdl_status state_save(const fdl_trainer *tr, trainer_part part, step_state *s);
/* Writes the copies back. */
fdl_status state_restore(const fdl_trainer *tr, const step_state *s);

/* What a step came to, on the host (scope). */
typedef struct outcome {
    fdl_tensor **state, **grad;
} outcome;

/* of_plan: the gradients that the plan's graph writes; otherwise the parameters' own. */
fdl_status outcome_note(const step_state *s, const trainer_plan *p, bool of_plan, outcome *o);

/* How far two outcomes are apart; 0 for equal bits. */
typedef struct distance {
    double grads,
        state; /* the largest difference relative to the largest value, of that tensor which is worst */
    double
        norm; /* of all gradients' difference as one vector, relative to theirs: a gradient that is nothing but rounding,
                  * as that of a bias before a batch norm, doesn't count */
} distance;

distance outcome_distance(const step_state *s, const trainer_plan *p, const outcome *a, const outcome *b);

/* ---- capture.c ---------------------------------------------------------------------------------------- */

/* Records one step of the plan's kind on inputs of its own, which get the batch's values; nothing of it is computed. The
 * gradients must be as the step finds them. On failure nothing is left of it. */
fdl_status plan_record(fdl_trainer *tr, trainer_plan *p, fdl_list batch);
/* An eager step on that batch whose operations are noted. *watch is NULL, without an error, when another trainer watches at
 * the moment. */
fdl_status plan_watched_step(fdl_trainer *tr, fdl_list batch, trainer_part part, fdl_watch **watch);
/* Only the inputs. */
fdl_status plan_inputs(const fdl_trainer *tr, trainer_plan *p, fdl_list batch);
/* Copies of the list's tensors, kept, for a graph to read: [here.n]. After a failure the caller frees what there is. */
fdl_status inputs_make(fdl_tensor ***inputs, fdl_list here);
/* The batch into a graph's inputs, [batch.n] of them. */
fdl_status inputs_refill(fdl_tensor *const *inputs, fdl_list batch);
/* Whether a graph can't hold what was noted; whether two runs that were noted are the same one. The reason why, or why not,
 * is in text. */
bool watch_obstacle(const fdl_watch *w, char *text, size_t size);
bool watch_steady(const fdl_watch *a, const fdl_watch *b, char *text, size_t size);
/* Handles on the optimizer's parameters, and on their gradients as they are now. */
fdl_status plan_hold_grads(const fdl_trainer *tr, trainer_plan *p);
/* Launches what was recorded, on the inputs as they are. */
fdl_status plan_launch(fdl_trainer *tr, trainer_plan *p);

/* ---- layout.c ----------------------------------------------------------------------------------------- */

/* Before a trainer's first step: what .layout says without measuring. */
fdl_status layout_begin(fdl_trainer *tr);
/* Whether it is still to be measured which layout is the faster one. */
bool layout_is_open(const fdl_trainer *tr);
/* Measures steps of the plan, recorded or eager, in both layouts, and leaves the faster one: state and random numbers are as
 * before. The plan may be gone afterwards, another one in its place or none. */
fdl_status layout_try(fdl_trainer *tr, trainer_plan *p, fdl_list batch);

#endif
