/* A schedule from inside, for the files that have their functions and constructors. */
#ifndef FLODL_OPTIM_SCHED_PRIVATE_H
#define FLODL_OPTIM_SCHED_PRIVATE_H

#include "flodl/sched.h"
#include "optim.h"

#include <math.h>

enum { MAX_MILESTONES = 256 };
static const double pi = 3.14159265358979323846;

/* One leg of a one-cycle: rate and momentum at its ends, and the step at which it ends. */
typedef struct leg {
    double end, lr_from, lr_to, momentum_from, momentum_to;
} leg;

struct fdl_sched {
    double (*lr)(const fdl_sched *s, int64_t t);       /* t >= 0 */
    double (*momentum)(const fdl_sched *s, int64_t t); /* NULL: left alone */
    double rate;                                       /* the rate that it starts from, or goes up to */
    double a, b;                                       /* two numbers of each schedule's own */
    int64_t n, down;                                   /* its steps */
    bool flag;
    fdl_cyclic_mode mode;
    double low, high;                   /* momentum */
    double (*fn)(int64_t x, void *ctx); /* the user's */
    void *ctx;
    leg legs[3]; /* one-cycle */
    int n_legs;
    fdl_sched **inner; /* owned */
    int n_inner;
    int64_t *milestones; /* rising */
    int n_milestones;
};

/* A copy of *from. */
fdl_sched *sched_make(const fdl_sched *from);
/* Checks: a rate is 0 or more, a factor above 0, a number of steps 1 or more. False: FDL_E_ARG, which names the schedule and the
 * argument. Momenta are in [0, 1). */
bool sched_rate(const char *name, const char *what, double lr);
bool sched_factor(const char *name, const char *what, double factor);
bool sched_steps(const char *name, const char *what, int64_t n);
bool sched_momenta(const char *name, double base, double max);
/* Copies the milestones into s; how many of them are at t or before. */
bool sched_milestones(fdl_sched *s, const char *name, fdl_ints milestones);
int sched_passed(const fdl_sched *s, int64_t t);

#endif
