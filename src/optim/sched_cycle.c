/* Schedules that come back: one_cycle, cyclic, cosine_restarts. */
#include "sched.h"

/* ---- one cycle ----------------------------------------------------------------------------------------- */

/* The leg of step t, and how far in it t is, 0 to 1. */
static const leg *leg_at(const fdl_sched *s, int64_t t, double *part)
{
    double at = (double)t, start = 0;
    int i = 0;
    while (i < s->n_legs - 1 && at > s->legs[i].end)
        start = s->legs[i++].end;
    double length = s->legs[i].end - start;
    *part = length > 0 ? (at - start) / length : 1;
    if (*part > 1)
        *part = 1;
    return &s->legs[i];
}

static double between(const fdl_sched *s, double from, double to, double part)
{
    return s->flag ? from + (to - from) * part : to + (from - to) / 2 * (1 + cos(pi * part));
}

static double one_cycle_lr(const fdl_sched *s, int64_t t)
{
    double part;
    const leg *l = leg_at(s, t, &part);
    return between(s, l->lr_from, l->lr_to, part);
}

static double one_cycle_momentum(const fdl_sched *s, int64_t t)
{
    double part;
    const leg *l = leg_at(s, t, &part);
    return between(s, l->momentum_from, l->momentum_to, part);
}

fdl_sched *fdl_sched_one_cycle_opt(double max, int64_t total, const fdl_sched_one_cycle_opts *opts)
{
    static const fdl_sched_one_cycle_opts none = {0};
    const fdl_sched_one_cycle_opts *o = opts ? opts : &none;
    double pct = fdl_opt_double(o->pct_start, 0.3), div = fdl_opt_double(o->div, 25),
           final_div = fdl_opt_double(o->final_div, 1e4);
    double low = fdl_opt_double(o->base_momentum, 0.85), high = fdl_opt_double(o->max_momentum, 0.95);
    if (!sched_rate("one_cycle", "max", max) || !sched_steps("one_cycle", "total", total) ||
        !sched_factor("one_cycle", "div", div) || !sched_factor("one_cycle", "final_div", final_div))
        return NULL;
    if (!(pct >= 0 && pct <= 1))
        return fdl_fail_null(FDL_E_ARG, "one_cycle: pct_start is %g; it must be in [0, 1]", pct);
    if (!sched_momenta("one_cycle", low, high))
        return NULL;
    double first = max / div, last = first / final_div, n = (double)total;
    fdl_sched s = {
        .lr = one_cycle_lr, .momentum = o->fixed_momentum ? NULL : one_cycle_momentum, .flag = o->linear};
    s.legs[s.n_legs++] = (leg){pct * n - 1, first, max, high, low};
    if (o->three_phase) {
        s.legs[s.n_legs++] = (leg){2 * pct * n - 2, max, first, low, high};
        s.legs[s.n_legs++] = (leg){n - 1, first, last, high, high};
    } else {
        s.legs[s.n_legs++] = (leg){n - 1, max, last, low, high};
    }
    return sched_make(&s);
}

/* ---- cyclic -------------------------------------------------------------------------------------------- */

/* How high the triangle stands at t, 0 to 1, made smaller from cycle to cycle or from step to step. */
static double height(const fdl_sched *s, int64_t t)
{
    int64_t length = s->n + s->down, at = t % length, cycle = t / length;
    double h = at <= s->n ? (double)at / (double)s->n : (double)(length - at) / (double)s->down;
    if (s->fn)
        return h * s->fn(s->flag ? t : cycle + 1, s->ctx);
    return s->mode == FDL_CYCLIC_TRIANGULAR2 ? h * pow(0.5, (double)cycle)
           : s->mode == FDL_CYCLIC_EXP_RANGE ? h * pow(s->b, (double)t)
                                             : h;
}

static double cyclic_lr(const fdl_sched *s, int64_t t)
{
    return s->a + (s->rate - s->a) * height(s, t);
}

static double cyclic_momentum(const fdl_sched *s, int64_t t)
{
    return s->high - (s->high - s->low) * height(s, t);
}

fdl_sched *fdl_sched_cyclic_opt(double lo, double hi, int64_t up, const fdl_sched_cyclic_opts *opts)
{
    static const fdl_sched_cyclic_opts none = {0};
    const fdl_sched_cyclic_opts *o = opts ? opts : &none;
    fdl_sched s = {.lr = cyclic_lr,
                   .momentum = o->fixed_momentum ? NULL : cyclic_momentum,
                   .rate = hi,
                   .a = lo,
                   .b = fdl_opt_double(o->gamma, 1),
                   .n = up,
                   .down = o->down ? o->down : up,
                   .mode = o->mode,
                   .low = fdl_opt_double(o->base_momentum, 0.8),
                   .high = fdl_opt_double(o->max_momentum, 0.9),
                   .fn = o->scale,
                   .ctx = o->ctx,
                   .flag = o->scale_by_step};
    if (!sched_rate("cyclic", "lo", lo) || !sched_rate("cyclic", "hi", hi) ||
        !sched_steps("cyclic", "up", up) || !sched_steps("cyclic", "down", s.down) ||
        !sched_factor("cyclic", "gamma", s.b) || !sched_momenta("cyclic", s.low, s.high))
        return NULL;
    if (up > INT64_MAX / 2 || s.down > INT64_MAX / 2)
        return fdl_fail_null(FDL_E_ARG, "cyclic: up is %lld and down %lld; they must be below 2^62",
                             (long long)up, (long long)s.down);
    if (o->mode < FDL_CYCLIC_TRIANGULAR || o->mode > FDL_CYCLIC_EXP_RANGE)
        return fdl_fail_null(FDL_E_ARG, "cyclic: mode is %d, which is none", (int)o->mode);
    return sched_make(&s);
}

/* ---- cosine_restarts ----------------------------------------------------------------------------------- */

static double cosine_restarts_lr(const fdl_sched *s, int64_t t)
{
    int64_t period = s->n, mult = s->down;
    if (mult == 1)
        t %= period;
    while (t >= period) {
        t -= period;
        period = period > INT64_MAX / mult ? INT64_MAX : period * mult;
    }
    return s->a + (s->rate - s->a) * (1 + cos(pi * (double)t / (double)period)) / 2;
}

fdl_sched *fdl_sched_cosine_restarts_opt(double lr, double min, int64_t t0,
                                         const fdl_sched_cosine_restarts_opts *opts)
{
    int64_t mult = opts && opts->mult ? opts->mult : 1;
    if (!sched_rate("cosine_restarts", "lr", lr) || !sched_rate("cosine_restarts", "min", min) ||
        !sched_steps("cosine_restarts", "t0", t0) || !sched_steps("cosine_restarts", "mult", mult))
        return NULL;
    return sched_make(&(fdl_sched){.lr = cosine_restarts_lr, .rate = lr, .a = min, .n = t0, .down = mult});
}
