/* What the files of the trainer share.
 *
 * A step has three parts. The host's part before it (step.c, before): batch to the device, the schedule's rate written
 * into the optimizer's device scalars. The device's part: trainer_run_eager, from the gradients' reset to the averages'
 * update, which neither waits nor depends on a number of the host that changes, so that a recorded run may stand in its
 * place. The host's part after it: counting, callbacks. */
#ifndef FLODL_TRAIN_TRAINER_H
#define FLODL_TRAIN_TRAINER_H

#include "flodl/cuda_graph.h"
#include "flodl/stream.h"
#include "flodl/trainer.h"

enum { TRAINER_WATCHED_STEPS = 3 }; /* before a step is captured */

/* Which batch of its group this is: with .accumulate 1 both. */
typedef struct trainer_part {
    bool first; /* drops the gradients of the group before */
    bool last;  /* ends in the optimizer's step */
} trainer_part;

/* Losses, as far as anybody wants to know them. Those of the CPU are numbers at once; those of a device stay there until
 * somebody reads. The tensors are made with the first loss of a device and dtype, and then stay the same ones. */
typedef struct trainer_meter {
    int64_t count; /* losses since the last mean, left out ones too */
    bool any;      /* there was a loss */
    /* on the host */
    bool last_on_host;
    double last, sum;
    int64_t left_out;
    /* on the device; kept */
    bool placed;
    uint64_t generation; /* advances when the tensors go */
    fdl_device device;
    fdl_dtype dtype;   /* of `loss`: float64 for float64 losses, else float32 */
    fdl_tensor *pack;  /* [2] float32: the last loss; 1 once a loss was not finite (skip: within the group) */
    fdl_tensor *loss;  /* 0-d: of pack, or a float64 of its own */
    fdl_tensor *found; /* 0-d: of pack */
    fdl_tensor
        *total; /* [2] float64: sum of losses; stop: steps since one was not finite, skip: losses left out */
    fdl_tensor *sum_to, *after; /* 0-d: of total */
    fdl_tensor *one;            /* 0-d float32, 1 */
    /* of recorded steps: the loss is taken beside the backward, and told to the host before it ends; kept, owned */
    fdl_stream *side;
    fdl_tensor *told;   /* [2] float32 in pinned memory: what pack was; NULL for float64 losses */
    fdl_event *telling; /* the copy to it */
    fdl_tensor *held;   /* kept: the loss, while the side stream may read it */
    bool aside;         /* the side stream has work that the step's stream hasn't waited for */
    bool is_told;       /* the last loss was a recorded step's */
} trainer_meter;

typedef struct trainer_plan trainer_plan; /* plan.h: one kind of step */

/* Which memory layout the model has. */
typedef enum trainer_layout { LAYOUT_UNSAID, LAYOUT_OPEN, LAYOUT_KEPT, LAYOUT_CHANNELS_LAST } trainer_layout;

struct fdl_trainer {
    fdl_module *model;
    fdl_optim *opt;
    fdl_loss_fn loss;
    fdl_trainer_opts o;           /* resolved: accumulate is 1 or more */
    double clip_norm, clip_value; /* below 0: none */
    fdl_tensor *probe; /* kept: the optimizer's first parameter, which is where the model is; or NULL */
    int64_t steps;     /* optimizer steps made */
    int64_t in_group;  /* batches of the group that waits */
    bool skip_group;   /* a loss of this group, on the CPU, was not finite and is to be left out */
    int64_t bad_step;  /* where training has stopped, from 1; 0: it hasn't */
    trainer_meter meter;
    trainer_plan *plans; /* the one used last first */
    fdl_cuda_pool pool;  /* memory that the plans share */
    fdl_tensor *
        *room; /* [room_for] kept: where recorded groups gather each parameter's gradient; NULL: none yet */
    int room_for;
    bool recording; /* the step that runs is being captured */
    bool own_only;  /* gradients go to the optimizer's parameters and to nothing else */
    trainer_layout layout;
    double layout_ms[2]; /* what a step took, row-major and channels-last; 0: not measured */
};

/* step.c: the device's part of one step, of a batch that is on the model's device. On a device it changes nothing of the
 * trainer but what the meter's tensors hold, once those are made; what the host counts, fdl_trainer_step counts after it. */
fdl_status trainer_run_eager(fdl_trainer *tr, fdl_list batch, trainer_part part);
/* The batch on the model's device (scope). */
fdl_status trainer_place(const fdl_trainer *tr, fdl_list batch, fdl_list *here);
/* Steps may be recorded: the option allows it and the model is on a CUDA device. */
bool trainer_may_record(const fdl_trainer *tr);
/* fn of the batch, under autocast where that is asked for (scope). */
fdl_tensor *trainer_call(const fdl_trainer *tr, fdl_loss_fn fn, fdl_list batch);
/* The trainer has stopped: the error that says where and why. */
fdl_status trainer_stopped(const fdl_trainer *tr);

/* capture.c: the device's part of one step, eagerly or as a graph; the batch as the caller has it. */
fdl_status trainer_run(fdl_trainer *tr, fdl_list batch, trainer_part part);
/* Writes a line a plan; false when that fails. */
bool trainer_plans_say(const fdl_trainer *tr, FILE *file);
void trainer_plans_free(fdl_trainer *tr);
void trainer_room_free(fdl_trainer *tr);
/* The optimizer's parameters, one group after the other (scope). */
fdl_list trainer_params(const fdl_trainer *tr);
/* Before the backward of a step that is captured: what it adds gradients to must be the optimizer's. */
fdl_status trainer_check_leaves(const fdl_trainer *tr, fdl_tensor *loss);

/* meter.c: what the host notes of a loss that a replay has taken. */
void trainer_meter_replayed(fdl_trainer *tr);
/* The step's stream waits for what runs beside it. */
fdl_status trainer_meter_join(trainer_meter *m);
/* A recording ended: nothing runs beside it any more. */
void trainer_meter_abandon(trainer_meter *m);
/* Takes note of a loss; on the CPU a loss that isn't finite stops or skips at once. */
fdl_status trainer_meter_take(fdl_trainer *tr, fdl_tensor *loss, trainer_part part);
/* At the end of a group, before the optimizer's step; *skip: NULL, or what fdl_optim_step_unless takes. */
fdl_status trainer_meter_group(fdl_trainer *tr, fdl_tensor **skip);
/* The losses that nobody has asked for yet: how many count, and their sum. Waits. */
fdl_status trainer_meter_read(fdl_trainer *tr, int64_t *n, double *sum);
/* So many losses of that sum, and nothing else. */
fdl_status trainer_meter_set(fdl_trainer *tr, int64_t n, double sum);
void trainer_meter_free(trainer_meter *m);

#endif
