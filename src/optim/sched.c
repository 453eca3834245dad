/* Schedules that go one way. Each is one function of the step over a few numbers; a new one is its function and its
 * constructor, here, in sched_cycle.c or in sched_compose.c, and its prototype in sched.h. */
#include "sched.h"

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
    double lr = fdl_sched_lr(s, step), momentum = fdl_sched_momentum(s, step);
    if (!(isfinite(lr) && lr >= 0)) /* a user's function may give anything */
        return fdl_fail(FDL_E_ARG,
                        "fdl_sched_apply: the rate at step %lld is %g; it must be 0 or more and finite",
                        (long long)step, lr);
    /* momentum first, since an optimizer without any refuses, and then nothing has changed */
    if (!isnan(momentum))
        FDL_TRY(optim_schedule_momentum(o, momentum));
    return fdl_optim_set_lr(o, lr);
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

fdl_sched *sched_make(const fdl_sched *from)
{
    fdl_sched *s = malloc(sizeof *s);
    if (!s)
        return fdl_fail_null(FDL_E_OOM, "schedule: memory ran out");
    *s = *from;
    return s;
}

bool sched_rate(const char *name, const char *what, double lr)
{
    if (isfinite(lr) && lr >= 0)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be 0 or more and finite", name, what, lr);
    return false;
}

bool sched_factor(const char *name, const char *what, double factor)
{
    if (isfinite(factor) && factor > 0)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %g; it must be above 0 and finite", name, what, factor);
    return false;
}

bool sched_steps(const char *name, const char *what, int64_t n)
{
    if (n >= 1)
        return true;
    fdl_fail(FDL_E_ARG, "%s: %s is %lld; it must be 1 or more", name, what, (long long)n);
    return false;
}

bool sched_momenta(const char *name, double base, double max)
{
    if (base >= 0 && base < 1 && max >= 0 && max < 1)
        return true;
    fdl_fail(FDL_E_ARG, "%s: base_momentum is %g and max_momentum %g; they must be in [0, 1)", name, base,
             max);
    return false;
}

bool sched_milestones(fdl_sched *s, const char *name, fdl_ints milestones)
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

int sched_passed(const fdl_sched *s, int64_t t)
{
    int n = 0;
    while (n < s->n_milestones && s->milestones[n] <= t)
        n++;
    return n;
}

/* ---- constant, step, multi-step, exponential ------------------------------------------------------- */

static double constant_lr(const fdl_sched *s, int64_t t)
{
    return t < s->n ? s->rate * s->a : s->rate;
}

fdl_sched *fdl_sched_constant_opt(double lr, const fdl_sched_constant_opts *opts)
{
    double factor = opts ? fdl_opt_double(opts->factor, 1) : 1;
    int64_t n = opts && opts->n ? opts->n : 5;
    if (!sched_rate("constant", "lr", lr) || !sched_rate("constant", "factor", factor) ||
        !sched_steps("constant", "n", n))
        return NULL;
    return sched_make(&(fdl_sched){.lr = constant_lr, .rate = lr, .a = factor, .n = n});
}

static double step_lr(const fdl_sched *s, int64_t t)
{
    return s->rate * pow(s->a, (double)(t / s->n));
}

fdl_sched *fdl_sched_step_opt(double lr, int64_t size, const fdl_sched_step_opts *opts)
{
    double gamma = opts ? fdl_opt_double(opts->gamma, 0.1) : 0.1;
    if (!sched_rate("step", "lr", lr) || !sched_steps("step", "size", size) ||
        !sched_factor("step", "gamma", gamma))
        return NULL;
    return sched_make(&(fdl_sched){.lr = step_lr, .rate = lr, .a = gamma, .n = size});
}

static double multi_step_lr(const fdl_sched *s, int64_t t)
{
    return s->rate * pow(s->a, sched_passed(s, t));
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

fdl_sched *fdl_sched_multi_step_opt(double lr, fdl_ints milestones, const fdl_sched_step_opts *opts)
{
    double gamma = opts ? fdl_opt_double(opts->gamma, 0.1) : 0.1;
    if (!sched_rate("multi_step", "lr", lr) || !sched_factor("multi_step", "gamma", gamma))
        return NULL;
    fdl_sched *s = sched_make(&(fdl_sched){.lr = multi_step_lr, .rate = lr, .a = gamma});
    if (!s || !sched_milestones(s, "multi_step", milestones)) {
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
    if (!sched_rate("exponential", "lr", lr) || !sched_factor("exponential", "gamma", gamma))
        return NULL;
    return sched_make(&(fdl_sched){.lr = exponential_lr, .rate = lr, .a = gamma});
}

/* ---- cosine, linear, polynomial, inv_sqrt -------------------------------------------------------------------- */

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
    if (!sched_rate("cosine", "lr", lr) || !sched_rate("cosine", "min", min) ||
        !sched_steps("cosine", "total", total))
        return NULL;
    if (total > INT64_MAX / 2)
        return fdl_fail_null(FDL_E_ARG, "cosine: total is %lld; it must be below 2^62", (long long)total);
    return sched_make(
        &(fdl_sched){.lr = cosine_lr, .rate = lr, .a = min, .n = total, .flag = opts && opts->periodic});
}

static double linear_lr(const fdl_sched *s, int64_t t)
{
    return t >= s->n ? s->rate * s->b : s->rate * (s->a + (s->b - s->a) * (double)t / (double)s->n);
}

fdl_sched *fdl_sched_linear(double lr, double start, double end, int64_t n)
{
    if (!sched_rate("linear", "lr", lr) || !sched_factor("linear", "start", start) ||
        !sched_rate("linear", "end", end) || !sched_steps("linear", "n", n))
        return NULL;
    return sched_make(&(fdl_sched){.lr = linear_lr, .rate = lr, .a = start, .b = end, .n = n});
}

static double polynomial_lr(const fdl_sched *s, int64_t t)
{
    return t >= s->n ? 0 : s->rate * pow(1 - (double)t / (double)s->n, s->a);
}

fdl_sched *fdl_sched_polynomial_opt(double lr, int64_t n, const fdl_sched_polynomial_opts *opts)
{
    double power = opts ? fdl_opt_double(opts->power, 1) : 1;
    if (!sched_rate("polynomial", "lr", lr) || !sched_steps("polynomial", "n", n) ||
        !sched_factor("polynomial", "power", power))
        return NULL;
    return sched_make(&(fdl_sched){.lr = polynomial_lr, .rate = lr, .a = power, .n = n});
}

static double inv_sqrt_lr(const fdl_sched *s, int64_t t)
{
    double step = (double)t + 1, n = (double)s->n;
    return t < s->n ? s->rate * step / n : s->rate * sqrt(n / step);
}

fdl_sched *fdl_sched_inv_sqrt(double lr, int64_t warmup)
{
    if (!sched_rate("inv_sqrt", "lr", lr) || !sched_steps("inv_sqrt", "warmup", warmup))
        return NULL;
    return sched_make(&(fdl_sched){.lr = inv_sqrt_lr, .rate = lr, .n = warmup});
}

/* ---- the user's own -------------------------------------------------------------------------------- */

static double fn_lr(const fdl_sched *s, int64_t t)
{
    return s->fn(t, s->ctx);
}

fdl_sched *fdl_sched_fn(double (*fn)(int64_t step, void *ctx), void *ctx)
{
    if (!fn) {
        fdl_null_operand("fdl_sched_fn", "fn");
        return NULL;
    }
    return sched_make(&(fdl_sched){.lr = fn_lr, .fn = fn, .ctx = ctx});
}
