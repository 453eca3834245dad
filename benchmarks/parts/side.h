/* A side of a comparison: a process that makes steps and answers lines. What speaks these lines can be a side, in any language:
 *
 *     PROGRAM... MODEL MODE DEVICE DIVISOR THREADS WEIGHTS BATCHES [SAMPLES]
 *
 * (SAMPLES: of a batch, where that isn't the model's own number) reads the weights and the batches (safetensors: x and y, then x_1
 * and y_1, x_2 and y_2, ... which steps use by turns), and answers, each answer a line that begins with "= " (other lines are
 * passed over). Sides load at the same time; steps are made by one side at a time, so that what a side measures of itself, a
 * compiler's tuning say, is not of a device that others use:
 *
 *     = loaded VERSION       with the version of the library; then, after a line "begin", a step on each batch:
 *     = loss L L1 L2 L3      the losses of these first steps, in the order of the batches
 *     = ready                after a warm-up; then an answer to each line that comes:
 *
 *     read N       seconds a step, mean of N steps that each read their loss, after one that isn't counted
 *     run N        the same where only the end waits for the device
 *     memory       most bytes of device memory in use at once since the warm-up; nan where it isn't known
 *     reserved     the same of what the allocator held
 *     profile      anything, after preparing for:
 *     busy N       of N steps, for one: seconds in which the device did anything, "; " then the seconds of all that it did,
 *                  kernels, copies, fills; then "; CLASS SECONDS COUNT" for each class of kernels. nan where it isn't known
 *
 * It ends when its input does. */
#ifndef BENCHMARKS_SIDE_H
#define BENCHMARKS_SIDE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "kernel_class.h"

enum { MAX_ROUNDS = 101, BATCHES = 4 };

/* A kind of side. */
typedef struct side_kind {
    const char *side, *mode; /* "flodl", "trainer" */
    bool needs_gpu;
    const char *serve;  /* the option with which this very program is that side */
    const char *beside; /* the program in this one's folder that is; neither: step.py, by the Python given */
    bool compiles;      /* takes long at its first start, less afterwards */
} side_kind;

/* What a device did in one step. */
typedef struct side_busy {
    double busy, sum, kernels, copies, fills; /* seconds, seconds, counts; NaN: not known */
    int classes;
    struct {
        char name[32];
        double seconds, n;
    } of[KERNEL_CLASSES_MAX];
} side_busy;

typedef struct side {
    const side_kind *kind;
    FILE *in, *out; /* its standard output, its standard input */
    pid_t pid;
    bool started;
    char refusal[200]; /* why it wasn't measured; "": it was */
    char version[64];
    double losses[BATCHES];
    int n_losses;
    int steps;                                /* of a round */
    double read[MAX_ROUNDS], run[MAX_ROUNDS]; /* seconds a step, in the order of rounds */
    double memory, reserved;                  /* bytes; NaN: not known */
    side_busy busy;
} side;

/* What all sides of a case are started with. */
typedef struct side_task {
    const char *python, *model, *device, *weights, *batches;
    int by, threads;
    int64_t samples; /* of a batch; 0: the model's own number */
} side_task;

/* Whether this Python has what step.py needs. */
bool side_python_works(const char *python);

/* Any program, argv[0], with s->in and s->out at its ends. False with a message on stderr. */
bool side_spawn(side *s, char *const *argv);
bool side_start(side *s, const side_kind *kind, const side_task *t);
void side_end(side *s);

/* Lets it make its first steps, now or as soon as it has loaded. */
void side_begin(side *s);
/* That it has loaded; its losses; that it is ready. False with s->refusal: it isn't. */
bool side_loaded(side *s);
bool side_losses(side *s);
bool side_ready(side *s);

/* A number for a question; NaN: none, or the side is refused. */
double side_ask(side *s, const char *question);
void side_send(side *s, const char *question); /* its answer is read by side_answer */
double side_answer(side *s);
void side_ask_busy(side *s, int steps);

#endif
