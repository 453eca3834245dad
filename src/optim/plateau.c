/* The rate that falls when a metric stops improving. */
#include "flodl/sched.h"

#include <math.h>

struct fdl_plateau {
    double first, factor, threshold, min_lr, eps;
    bool more_is_better, absolute;
    int64_t patience, cooldown;
    /* what changes */
    double lr, best;
    int64_t bad, cooling;
};

static void begin(fdl_plateau *p)
{
    p->lr = p->first;
    p->best = p->more_is_better ? -(double)INFINITY : (double)INFINITY;
    p->bad = p->cooling = 0;
}

fdl_plateau *fdl_sched_plateau_opt(double lr, const fdl_plateau_opts *opts)
{
    static const fdl_plateau_opts none = {0};
    const fdl_plateau_opts *o = opts ? opts : &none;
    fdl_plateau p = {.first = lr,
                     .factor = fdl_opt_double(o->factor, 0.1),
                     .threshold = fdl_opt_double(o->threshold, 1e-4),
                     .min_lr = fdl_opt_double(o->min_lr, 0),
                     .eps = fdl_opt_double(o->eps, 1e-8),
                     .more_is_better = o->mode == FDL_PLATEAU_MAX,
                     .absolute = o->threshold_abs,
                     .patience = fdl_opt_int(o->patience, 10),
                     .cooldown = o->cooldown};
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"lr", lr}, {"threshold", p.threshold}, {"min_lr", p.min_lr}, {"eps", p.eps}};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (!(isfinite(numbers[i].value) && numbers[i].value >= 0))
            return fdl_fail_null(FDL_E_ARG, "plateau: %s is %g; it must be 0 or more and finite",
                                 numbers[i].name, numbers[i].value);
    if (!(p.factor > 0 && p.factor < 1))
        return fdl_fail_null(FDL_E_ARG, "plateau: factor is %g; it must be above 0 and below 1", p.factor);
    if (p.patience < 0 || p.cooldown < 0)
        return fdl_fail_null(FDL_E_ARG, "plateau: patience is %lld and cooldown %lld; they must be 0 or more",
                             (long long)p.patience, (long long)p.cooldown);
    if (o->mode != FDL_PLATEAU_MIN && o->mode != FDL_PLATEAU_MAX)
        return fdl_fail_null(FDL_E_ARG, "plateau: mode is %d, neither FDL_PLATEAU_MIN nor FDL_PLATEAU_MAX",
                             (int)o->mode);
    begin(&p);
    fdl_plateau *made = malloc(sizeof *made);
    if (!made)
        return fdl_fail_null(FDL_E_OOM, "plateau: memory ran out");
    *made = p;
    return made;
}

static bool improves(const fdl_plateau *p, double metric)
{
    if (isinf(p->best)) /* nothing seen yet */
        return p->more_is_better ? metric > p->best : metric < p->best;
    if (p->absolute)
        return p->more_is_better ? metric > p->best + p->threshold : metric < p->best - p->threshold;
    return p->more_is_better ? metric > p->best * (1 + p->threshold) : metric < p->best * (1 - p->threshold);
}

double fdl_plateau_observe(fdl_plateau *p, double metric)
{
    if (!p) {
        fdl_null_operand("fdl_plateau_observe", "p");
        return (double)NAN;
    }
    if (improves(p, metric)) {
        p->best = metric;
        p->bad = 0;
    } else {
        p->bad++;
    }
    if (p->cooling > 0) {
        p->cooling--;
        p->bad = 0;
    }
    if (p->bad > p->patience) {
        double lower = fmax(p->lr * p->factor, p->min_lr);
        if (p->lr - lower > p->eps)
            p->lr = lower;
        p->cooling = p->cooldown;
        p->bad = 0;
    }
    return p->lr;
}

double fdl_plateau_lr(const fdl_plateau *p)
{
    if (!p) {
        fdl_null_operand("fdl_plateau_lr", "p");
        return (double)NAN;
    }
    return p->lr;
}

fdl_status fdl_plateau_reset(fdl_plateau *p)
{
    if (!p)
        return fdl_null_operand("fdl_plateau_reset", "p");
    begin(p);
    return FDL_OK;
}

fdl_status fdl_plateau_save(const fdl_plateau *p, fdl_plateau_state *state)
{
    if (!p || !state)
        return fdl_null_operand("fdl_plateau_save", p ? "state" : "p");
    *state = (fdl_plateau_state){.lr = p->lr, .best = p->best, .bad = p->bad, .cooling = p->cooling};
    return FDL_OK;
}

fdl_status fdl_plateau_load(fdl_plateau *p, const fdl_plateau_state *state)
{
    if (!p || !state)
        return fdl_null_operand("fdl_plateau_load", p ? "state" : "p");
    if (!isfinite(state->lr) || state->lr < 0 || isnan(state->best) || state->bad < 0 || state->cooling < 0)
        return fdl_fail(
            FDL_E_ARG,
            "fdl_plateau_load: lr %g, best %g, bad %lld, cooling %lld; the rate must be 0 or more and "
            "finite, the best value no NaN, the counts 0 or more",
            state->lr, state->best, (long long)state->bad, (long long)state->cooling);
    p->lr = state->lr;
    p->best = state->best;
    p->bad = state->bad;
    p->cooling = state->cooling;
    return FDL_OK;
}

void fdl_plateau_free(fdl_plateau *p)
{
    free(p);
}
