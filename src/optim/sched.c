/* Schedules. Each is one function of the step over a few numbers; a new one is its function and its
 * constructor here, and its prototype in sched.h. */
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
    int64_t n;                                         /* its steps */
    bool flag;
    leg legs[3]; /* one-cycle */
    int n_legs;
    fdl_sched **inner; /* owned */
    int n_inner;
    int64_t *milestones; /* rising */
    int n_milestones;
};

/* ---- asking and applying --------------------------------------------------------------------------- */

double fdl_sched_lr(const fdl_sched *s, int64_t step)
{
    if (!s) {
        fdl_null_operand("fdl_sched_lr", "s");
        return (double)NAN;
    }
    return s->lr(s, step < 0 ? 0 : step);
}

double fdl_sched_momentum(const fdl_sched *s, int64_t step)
{
    if (!s) {
        fdl_null_operand("fdl_sched_momentum", "s");
        return (double)NAN;
    }
    return s->momentum ? s->momentum(s, step < 0 ? 0 : step) : (double)NAN;
}

fdl_status fdl_sched_apply(const fdl_sched *s, fdl_optim *o, int64_t step)
{
    if (!s || !o)
        return fdl_null_operand("fdl_sched_apply", s ? "o" : "s");
    double momentum = fdl_sched_momentum(s, step);
    if (!isnan(
            momentum)) /* first, since an optimizer without momentum refuses, and then nothing has changed */
        FDL_TRY(optim_schedule_momentum(o, momentum));
    return fdl_optim_set_lr(o, fdl_sched_lr(s, step));
}

void fdl_sched_free(fdl_sched *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_inner; i++)
        fdl_sched_free(s->inner[i]);
    free(s->inner);
    free(s->milestones);
    free(s);
}

/* ---- making ---------------------------------------------------------------------------------------- */

static fdl_sched *make(const fdl_sched *from)
{
    fdl_sched *s = malloc(sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "schedule: memory ran out");
    *s = *from;
    return s;
}

static bool rate_is_good(const char *name, const char *what, double lr)
{
    if (isfinite(lr) && lr >= 0)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be 0 or more and finite", name, what, lr);
    return false;
}

static bool factor_is_good(const char *name, const char *what, double factor)
{
    if (isfinite(factor) && factor > 0)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be above 0 and finite", name, what, factor);
    return false;
}

static bool steps_are_good(const char *name, const char *what, int64_t n)
{
    if (n >= 1)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %lld; it must be 1 or more", name, what, (long long)n);
    return false;
}

/* ---- constant, step, multi-step, exponential ------------------------------------------------------- */

static double constant_lr(const fdl_sched *s, int64_t t)
{
    (void)t;
    return s->rate;
}

fdl_sched *fdl_sched_constant(double lr)
{
    if (!rate_is_good("constant", "lr", lr))
        return NULL;
    return make(&(fdl_sched){.lr = constant_lr, .rate = lr});
}

static double step_lr(const fdl_sched *s, int64_t t)
{
    return s->rate * pow(s->a, (double)(t / s->n));
}

fdl_sched *fdl_sched_step_opt(double lr, int64_t size, const fdl_sched_step_opts *opts)
{
    double gamma = opts ? fdl_opt_double(opts->gamma, 0.1) : 0.1;
    if (!rate_is_good("step", "lr", lr) || !steps_are_good("step", "size", size) ||
        !factor_is_good("step", "gamma", gamma))
        return NULL;
    return make(&(fdl_sched){.lr = step_lr, .rate = lr, .a = gamma, .n = size});
}

static int passed(const fdl_sched *s, int64_t t)
{
    int n = 0;
    while (n < s->n_milestones && s->milestones[n] <= t)
        n++;
    return n;
}

static double multi_step_lr(const fdl_sched *s, int64_t t)
{
    return s->rate * pow(s->a, passed(s, t));
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Copies the milestones into s. */
static bool take_milestones(fdl_sched *s, const char *name, fdl_ints milestones)
{
    if (milestones.n < 0 || milestones.n > MAX_MILESTONES || (milestones.n && !milestones.at)) {
        fdl_fail(FDL_E_ARG, "%s: %d milestones; there can be 0 to %d", name, milestones.n, MAX_MILESTONES);
        return false;
    }
    s->milestones = malloc(sizeof *s->milestones * (size_t)(milestones.n ? milestones.n : 1));
    if (!s->milestones) {
        fdl_fail(FDL_E_OOM, "%s: memory ran out", name);
        return false;
    }
    for (int i = 0; i < milestones.n; i++)
        s->milestones[i] = milestones.at[i];
    s->n_milestones = milestones.n;
    return true;
}

fdl_sched *fdl_sched_multi_step_opt(double lr, fdl_ints milestones, const fdl_sched_step_opts *opts)
{
    double gamma = opts ? fdl_opt_double(opts->gamma, 0.1) : 0.1;
    if (!rate_is_good("multi_step", "lr", lr) || !factor_is_good("multi_step", "gamma", gamma))
        return NULL;
    fdl_sched *s = make(&(fdl_sched){.lr = multi_step_lr, .rate = lr, .a = gamma});
    if (!s || !take_milestones(s, "multi_step", milestones)) {
        fdl_sched_free(s);
        return NULL;
    }
    qsort(s->milestones, (size_t)s->n_milestones, sizeof *s->milestones, by_value);
    return s;
}

static double exponential_lr(const fdl_sched *s, int64_t t)
{
    return s->rate * pow(s->a, (double)t);
}

fdl_sched *fdl_sched_exponential(double lr, double gamma)
{
    if (!rate_is_good("exponential", "lr", lr) || !factor_is_good("exponential", "gamma", gamma))
        return NULL;
    return make(&(fdl_sched){.lr = exponential_lr, .rate = lr, .a = gamma});
}

/* ---- cosine, linear, polynomial -------------------------------------------------------------------- */

static double cosine_lr(const fdl_sched *s, int64_t t)
{
    if (s->flag)
        t %= 2 * s->n; /* cos stays exact however large the step */
    else if (t >= s->n)
        return s->a;
    return s->a + 0.5 * (s->rate - s->a) * (1 + cos(pi * (double)t / (double)s->n));
}

fdl_sched *fdl_sched_cosine_opt(double lr, double min, int64_t total, const fdl_sched_cosine_opts *opts)
{
    if (!rate_is_good("cosine", "lr", lr) || !rate_is_good("cosine", "min", min) ||
        !steps_are_good("cosine", "total", total))
        return NULL;
    if (total > INT64_MAX / 2)
        return fdl_fail_null(FDL_E_ARG, "cosine: total is %lld; it must be below 2^62", (long long)total);
    return make(
        &(fdl_sched){.lr = cosine_lr, .rate = lr, .a = min, .n = total, .flag = opts && opts->periodic});
}

static double linear_lr(const fdl_sched *s, int64_t t)
{
    return t >= s->n ? s->rate * s->b : s->rate * (s->a + (s->b - s->a) * (double)t / (double)s->n);
}

fdl_sched *fdl_sched_linear(double lr, double start, double end, int64_t n)
{
    if (!rate_is_good("linear", "lr", lr) || !factor_is_good("linear", "start", start) ||
        !rate_is_good("linear", "end", end) || !steps_are_good("linear", "n", n))
        return NULL;
    return make(&(fdl_sched){.lr = linear_lr, .rate = lr, .a = start, .b = end, .n = n});
}

static double polynomial_lr(const fdl_sched *s, int64_t t)
{
    return t >= s->n ? 0 : s->rate * pow(1 - (double)t / (double)s->n, s->a);
}

fdl_sched *fdl_sched_polynomial(double lr, int64_t n, double power)
{
    if (!rate_is_good("polynomial", "lr", lr) || !steps_are_good("polynomial", "n", n) ||
        !factor_is_good("polynomial", "power", power))
        return NULL;
    return make(&(fdl_sched){.lr = polynomial_lr, .rate = lr, .a = power, .n = n});
}

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
    if (!rate_is_good("one_cycle", "max", max) || !steps_are_good("one_cycle", "total", total) ||
        !factor_is_good("one_cycle", "div", div) || !factor_is_good("one_cycle", "final_div", final_div))
        return NULL;
    if (!(pct >= 0 && pct <= 1))
        return fdl_fail_null(FDL_E_ARG, "one_cycle: pct_start is %g; it must be in [0, 1]", pct);
    if (!(low >= 0 && low < 1 && high >= 0 && high < 1))
        return fdl_fail_null(FDL_E_ARG,
                             "one_cycle: base_momentum is %g and max_momentum %g; they must be in [0, 1)",
                             low, high);
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
    return make(&s);
}

/* ---- made of others ------------------------------------------------------------------------------------ */

static double inner_momentum(const fdl_sched *inner, int64_t t)
{
    return inner->momentum ? inner->momentum(inner, t) : (double)NAN;
}

static double warmup_lr(const fdl_sched *s, int64_t t)
{
    return t < s->n ? s->rate * (double)(t + 1) / (double)s->n : s->inner[0]->lr(s->inner[0], t - s->n);
}

/* While it warms up, what inner begins with. */
static double warmup_momentum(const fdl_sched *s, int64_t t)
{
    return inner_momentum(s->inner[0], t < s->n ? 0 : t - s->n);
}

fdl_sched *fdl_sched_warmup(fdl_sched *inner, double target, int64_t n)
{
    if (!inner) {
        fdl_null_operand("fdl_sched_warmup", "inner");
        return NULL;
    }
    fdl_sched *s = NULL;
    if (rate_is_good("warmup", "target", target) && steps_are_good("warmup", "n", n))
        s = make(&(fdl_sched){.lr = warmup_lr, .momentum = warmup_momentum, .rate = target, .n = n});
    if (s && !(s->inner = malloc(sizeof *s->inner))) {
        fdl_fail(FDL_E_OOM, "warmup: memory ran out");
        fdl_sched_free(s);
        s = NULL;
    }
    if (!s) {
        fdl_sched_free(inner);
        return NULL;
    }
    s->inner[0] = inner;
    s->n_inner = 1;
    return s;
}

static int64_t part_at(const fdl_sched *s, int64_t t, const fdl_sched **inner)
{
    int i = passed(s, t);
    *inner = s->inner[i];
    return i ? t - s->milestones[i - 1] : t;
}

static double sequence_lr(const fdl_sched *s, int64_t t)
{
    const fdl_sched *inner;
    t = part_at(s, t, &inner);
    return inner->lr(inner, t);
}

static double sequence_momentum(const fdl_sched *s, int64_t t)
{
    const fdl_sched *inner;
    t = part_at(s, t, &inner);
    return inner_momentum(inner, t);
}

static fdl_sched *sequence(fdl_scheds list, int n, fdl_ints milestones)
{
    if (!n)
        return fdl_fail_null(FDL_E_ARG, "sequence: no schedules");
    if (milestones.n != n - 1)
        return fdl_fail_null(FDL_E_ARG, "sequence: %d schedules need %d milestones, got %d", n, n - 1,
                             milestones.n);
    for (int i = 0; i < n - 1; i++)
        if (milestones.at[i] <= (i ? milestones.at[i - 1] : 0))
            return fdl_fail_null(FDL_E_ARG, "sequence: milestone %d is %lld; milestones must rise from 1 on",
                                 i, (long long)milestones.at[i]);
    fdl_sched *s = make(&(fdl_sched){.lr = sequence_lr, .momentum = sequence_momentum});
    if (!s || !take_milestones(s, "sequence", milestones)) {
        fdl_sched_free(s);
        return NULL;
    }
    s->inner = malloc(sizeof *s->inner * (size_t)n);
    if (!s->inner) {
        fdl_sched_free(s);
        return fdl_fail_null(FDL_E_OOM, "sequence: memory ran out");
    }
    memcpy(s->inner, list.at, sizeof *s->inner * (size_t)n);
    s->n_inner = n;
    return s;
}

fdl_sched *fdl_sched_sequence(fdl_scheds list, fdl_ints milestones)
{
    if (!list.at) {
        fdl_null_operand("fdl_sched_sequence", "list");
        return NULL;
    }
    int n = 0;
    bool whole = true;
    for (; list.at[n] != FDL_END; n++)
        whole = whole && list.at[n];
    fdl_sched *s = NULL;
    if (!whole)
        fdl_null_operand("fdl_sched_sequence", "list");
    else
        s = sequence(list, n, milestones);
    for (int i = 0; !s && i < n; i++)
        fdl_sched_free(list.at[i]);
    return s;
}
