/* Schedules: the learning rate as a function of the step. torch.optim.lr_scheduler. */
#ifndef FLODL_SCHED_H
#define FLODL_SCHED_H

#include "flodl/optim.h"

FDL_BEGIN_DECLS

/* A function of the step that never changes: any number of threads may ask it. Constructors return it owned
 * (fdl_sched_free), or NULL with FDL_E_ARG: a rate that is negative or not finite, steps below 1, a factor of
 * 0 or less. Those that take schedules take them over, on failure too. lr is the rate that the schedule
 * starts from; steps count from 0. */
typedef struct fdl_sched fdl_sched;

/* ---- asking and applying --------------------------------------------------------------------------- */

/* The rate at a step; a negative step is taken as 0. NaN on NULL. */
FDL_API double fdl_sched_lr(const fdl_sched *s, int64_t step);
/* The momentum (beta1) that goes with it; NaN, without an error, where the schedule leaves momentum alone. */
FDL_API double fdl_sched_momentum(const fdl_sched *s, int64_t step);
/* fdl_optim_set_lr with the rate at that step, so that groups keep their ratios, and one that began with 0 stays there; and, where the schedule
 * moves it, momentum or beta1 of every group; an optimizer that has neither (adagrad, adadelta): FDL_E_ARG, with nothing
 * changed. Doesn't wait for the device. Call it before the step that it
 * speaks of. */
FDL_API fdl_status fdl_sched_apply(const fdl_sched *s, fdl_optim *o, int64_t step);
/* NULL: nothing. */
FDL_API void fdl_sched_free(fdl_sched *s);

/* ---- schedules ------------------------------------------------------------------------------------- */

typedef struct fdl_sched_constant_opts {
    fdl_by_name opts_;
    double factor; /* of the first n steps, >= 0, default 1; torch's default is 1 / 3 */
    int64_t n;     /* how many steps have it, default 5 */
} fdl_sched_constant_opts;
/* lr at every step, or lr * factor at the first n. torch ConstantLR. */
FDL_API fdl_sched *fdl_sched_constant_opt(double lr, const fdl_sched_constant_opts *opts);

typedef struct fdl_sched_step_opts {
    fdl_by_name opts_;
    double gamma; /* factor at each fall, > 0, default 0.1 */
} fdl_sched_step_opts;
/* lr * gamma^(t / size), rounded down. torch StepLR. */
FDL_API fdl_sched *fdl_sched_step_opt(double lr, int64_t size, const fdl_sched_step_opts *opts);
/* lr * gamma^(number of milestones <= t); milestones in any order, at most 256. torch MultiStepLR. */
FDL_API fdl_sched *fdl_sched_multi_step_opt(double lr, fdl_ints milestones, const fdl_sched_step_opts *opts);
/* lr * gamma^t. torch ExponentialLR. */
FDL_API fdl_sched *fdl_sched_exponential(double lr, double gamma);

typedef struct fdl_sched_cosine_opts {
    fdl_by_name opts_;
    bool periodic; /* rise again after total, as torch CosineAnnealingLR does; default: stay at min */
} fdl_sched_cosine_opts;
/* Half a cosine from lr at 0 to min at total. */
FDL_API fdl_sched *fdl_sched_cosine_opt(double lr, double min, int64_t total,
                                        const fdl_sched_cosine_opts *opts);
/* A straight line from lr * start at 0 to lr * end at n, and there it stays. start > 0, end >= 0. torch
 * LinearLR, whose defaults are 1/3, 1 and 5. */
FDL_API fdl_sched *fdl_sched_linear(double lr, double start, double end, int64_t n);
typedef struct fdl_sched_polynomial_opts {
    fdl_by_name opts_;
    double power; /* > 0, default 1 */
} fdl_sched_polynomial_opts;
/* lr * (1 - t / n)^power, 0 from n on. torch PolynomialLR, whose default for n is 5. */
FDL_API fdl_sched *fdl_sched_polynomial_opt(double lr, int64_t n, const fdl_sched_polynomial_opts *opts);
/* Rises in `warmup` equal steps, lr / warmup at step 0 and lr at warmup - 1, then falls as lr * sqrt(warmup / (t + 1)). Vaswani
 * et al. 2017, "Attention is all you need": lr is 1 / sqrt(width * warmup) there. */
FDL_API fdl_sched *fdl_sched_inv_sqrt(double lr, int64_t warmup);

/* The rate that fn gives for a step from 0 on; it gives the same each time, on any thread. ctx is borrowed and outlives the
 * schedule. torch LambdaLR, whose function gives a factor: fdl_sched_product of a constant and this. MultiplicativeLR's gives the factor
 * from one step to the next: a function for it returns lr times those of steps 1 to step; where they are one number, fdl_sched_exponential. */
FDL_API fdl_sched *fdl_sched_fn(double (*fn)(int64_t step, void *ctx), void *ctx);

/* ---- schedules that come back -------------------------------------------------------------------------- */

typedef struct fdl_sched_one_cycle_opts {
    fdl_by_name opts_;
    double pct_start;     /* part of total that rises, in [0, 1], default 0.3 */
    double div;           /* first rate is max / div, default 25 */
    double final_div;     /* last rate is the first / final_div, default 1e4 */
    bool linear;          /* straight lines; default: half cosines */
    bool three_phase;     /* fall to the first rate as fast as it rose, then to the last */
    double base_momentum; /* at the highest rate, default 0.85 */
    double max_momentum;  /* at the first and the last, default 0.95 */
    bool fixed_momentum;  /* leave momentum alone */
} fdl_sched_one_cycle_opts;
/* Up from max / div to max in the first part of total steps, then down to max / div / final_div at step total
 * - 1, and there it stays. Momentum, or beta1, moves against the rate unless .fixed_momentum. torch
 * OneCycleLR. */
FDL_API fdl_sched *fdl_sched_one_cycle_opt(double max, int64_t total, const fdl_sched_one_cycle_opts *opts);

typedef enum fdl_cyclic_mode {
    FDL_CYCLIC_TRIANGULAR = 0, /* the same each time */
    FDL_CYCLIC_TRIANGULAR2,    /* half as high from cycle to cycle */
    FDL_CYCLIC_EXP_RANGE       /* gamma^t as high */
} fdl_cyclic_mode;
typedef struct fdl_sched_cyclic_opts {
    fdl_by_name opts_;
    int64_t down; /* steps of the fall, default up */
    fdl_cyclic_mode mode;
    double gamma; /* of FDL_CYCLIC_EXP_RANGE, > 0, default 1 */
    double (*scale)(
        int64_t x,
        void *ctx); /* in place of the mode: how high cycle x, from 1 on, is; as fdl_sched_fn's fn */
    void *ctx;
    bool scale_by_step;   /* x is the step instead, from 0 on */
    double base_momentum; /* at the highest rate, default 0.8 */
    double max_momentum;  /* at the lowest, default 0.9 */
    bool fixed_momentum;  /* leave momentum alone */
} fdl_sched_cyclic_opts;
/* A line from lo to hi in up steps and back, again and again. Momentum, or beta1, moves against the rate unless
 * .fixed_momentum. torch CyclicLR, whose default for up is 2000. */
FDL_API fdl_sched *fdl_sched_cyclic_opt(double lo, double hi, int64_t up, const fdl_sched_cyclic_opts *opts);

typedef struct fdl_sched_cosine_restarts_opts {
    fdl_by_name opts_;
    int64_t mult; /* how much longer each fall is than the one before, >= 1, default 1 */
} fdl_sched_cosine_restarts_opts;
/* Half a cosine from lr to min in t0 steps, and at once from lr again. torch CosineAnnealingWarmRestarts. */
FDL_API fdl_sched *fdl_sched_cosine_restarts_opt(double lr, double min, int64_t t0,
                                                 const fdl_sched_cosine_restarts_opts *opts);

/* ---- made of others ------------------------------------------------------------------------------------ */

/* Rises in n equal steps, target / n at step 0 and target at n - 1; from step n on inner, from its beginning.
 */
FDL_API fdl_sched *fdl_sched_warmup(fdl_sched *inner, double target, int64_t n);

/* Schedules in order, ended by FDL_END: FDL_SCHEDS(a, b). */
typedef struct fdl_scheds {
    fdl_sched **at;
} fdl_scheds;
/* The first schedule up to the first milestone, then the second from its beginning, and so on: one milestone
 * fewer than schedules, rising, the first at least 1. torch SequentialLR. */
FDL_API fdl_sched *fdl_sched_sequence(fdl_scheds list, fdl_ints milestones);
/* At each step one rate times the other, so that one of them gives factors: fdl_sched_product(fdl_sched_constant(1, .factor =
 * 0.1), fdl_sched_exponential(0.01, 0.9)). Momentum is the first one's that moves it. Takes both over. torch ChainedScheduler. */
FDL_API fdl_sched *fdl_sched_product(fdl_sched *a, fdl_sched *b);

/* ---- by what is measured ------------------------------------------------------------------------------- */

typedef enum fdl_plateau_mode { FDL_PLATEAU_MIN = 0, FDL_PLATEAU_MAX } fdl_plateau_mode;

typedef struct fdl_plateau_opts {
    fdl_by_name opts_;
    double factor;         /* in (0, 1), default 0.1 */
    fdl_opt_i64 patience;  /* observations without improvement that are borne, default FDL_SOME(10) */
    fdl_plateau_mode mode; /* whether less or more is better */
    double threshold;      /* an improvement is larger than this part of the best, default 1e-4 */
    bool threshold_abs;    /* ... larger than this itself */
    int64_t cooldown;      /* observations after a fall that don't count */
    double min_lr;         /* default 0 */
    double eps;            /* smaller falls are not made, default 1e-8 */
} fdl_plateau_opts;

/* Lowers the rate when a metric stops improving. torch ReduceLROnPlateau. Owned: fdl_plateau_free. */
typedef struct fdl_plateau fdl_plateau;
FDL_API fdl_plateau *fdl_sched_plateau_opt(double lr, const fdl_plateau_opts *opts);
/* Takes note of one value of the metric and returns the rate to use from now on: hand it to fdl_optim_set_lr.
 * NaN is no improvement. */
FDL_API double fdl_plateau_observe(fdl_plateau *p, double metric);
/* The rate as it stands; NaN on NULL. */
FDL_API double fdl_plateau_lr(const fdl_plateau *p);
/* Back to the beginning: rate, best value, counts. */
FDL_API fdl_status fdl_plateau_reset(fdl_plateau *p);
FDL_API void fdl_plateau_free(fdl_plateau *p);

/* What a plateau has seen: what it has to know to go on where another one was. torch state_dict, without the options, which
 * stay the program's. */
typedef struct fdl_plateau_state {
    double lr, best;      /* best: infinite before anything was seen */
    int64_t bad, cooling; /* observations without improvement; that don't count yet */
} fdl_plateau_state;
FDL_API fdl_status fdl_plateau_save(const fdl_plateau *p, fdl_plateau_state *state);
/* A rate that is negative or not finite, a best value that is NaN, a negative count: FDL_E_ARG, with nothing changed. */
FDL_API fdl_status fdl_plateau_load(fdl_plateau *p, const fdl_plateau_state *state);

FDL_END_DECLS

#ifndef __cplusplus
#define fdl_sched_constant(...) fdl_sched_constant_a_(__VA_ARGS__, .opts_ = 0)
#define fdl_sched_constant_a_(lr, ...) fdl_sched_constant_opt(lr, &(fdl_sched_constant_opts){__VA_ARGS__})
#define fdl_sched_polynomial(lr, ...) fdl_sched_polynomial_a_(lr, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_polynomial_a_(lr, n, ...) \
    fdl_sched_polynomial_opt(lr, n, &(fdl_sched_polynomial_opts){__VA_ARGS__})
#define fdl_sched_cyclic(lo, hi, ...) fdl_sched_cyclic_a_(lo, hi, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_cyclic_a_(lo, hi, up, ...) \
    fdl_sched_cyclic_opt(lo, hi, up, &(fdl_sched_cyclic_opts){__VA_ARGS__})
#define fdl_sched_cosine_restarts(lr, min, ...) fdl_sched_cosine_restarts_a_(lr, min, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_cosine_restarts_a_(lr, min, t0, ...) \
    fdl_sched_cosine_restarts_opt(lr, min, t0, &(fdl_sched_cosine_restarts_opts){__VA_ARGS__})
#define fdl_sched_step(lr, ...) fdl_sched_step_a_(lr, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_step_a_(lr, size, ...) fdl_sched_step_opt(lr, size, &(fdl_sched_step_opts){__VA_ARGS__})
#define fdl_sched_multi_step(lr, ...) fdl_sched_multi_step_a_(lr, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_multi_step_a_(lr, milestones, ...) \
    fdl_sched_multi_step_opt(lr, milestones, &(fdl_sched_step_opts){__VA_ARGS__})
#define fdl_sched_cosine(lr, min, ...) fdl_sched_cosine_a_(lr, min, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_cosine_a_(lr, min, total, ...) \
    fdl_sched_cosine_opt(lr, min, total, &(fdl_sched_cosine_opts){__VA_ARGS__})
#define fdl_sched_one_cycle(max, ...) fdl_sched_one_cycle_a_(max, __VA_ARGS__, .opts_ = 0)
#define fdl_sched_one_cycle_a_(max, total, ...) \
    fdl_sched_one_cycle_opt(max, total, &(fdl_sched_one_cycle_opts){__VA_ARGS__})
/* Schedules in order, for fdl_sched_sequence. */
#define FDL_SCHEDS(...) ((fdl_scheds){(fdl_sched *[]){__VA_ARGS__, FDL_END}})
#define fdl_sched_plateau(...) fdl_sched_plateau_a_(__VA_ARGS__, .opts_ = 0)
#define fdl_sched_plateau_a_(lr, ...) fdl_sched_plateau_opt(lr, &(fdl_plateau_opts){__VA_ARGS__})
#endif

#endif
