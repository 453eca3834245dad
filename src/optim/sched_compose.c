/* Schedules made of others: warmup, sequence, product. */
#include "sched.h"

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
    if (sched_rate("warmup", "target", target) && sched_steps("warmup", "n", n))
        s = sched_make(&(fdl_sched){.lr = warmup_lr, .momentum = warmup_momentum, .rate = target, .n = n});
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
    int i = sched_passed(s, t);
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
    fdl_sched *s = sched_make(&(fdl_sched){.lr = sequence_lr, .momentum = sequence_momentum});
    if (!s || !sched_milestones(s, "sequence", milestones)) {
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

/* ---- product --------------------------------------------------------------------------------------------- */

static double product_lr(const fdl_sched *s, int64_t t)
{
    return s->inner[0]->lr(s->inner[0], t) * s->inner[1]->lr(s->inner[1], t);
}

static double product_momentum(const fdl_sched *s, int64_t t)
{
    double first = inner_momentum(s->inner[0], t);
    return isnan(first) ? inner_momentum(s->inner[1], t) : first;
}

fdl_sched *fdl_sched_product(fdl_sched *a, fdl_sched *b)
{
    fdl_sched *s = NULL;
    if (!a || !b)
        fdl_null_operand("fdl_sched_product", a ? "b" : "a");
    else if (a == b)
        fdl_fail(FDL_E_ARG, "product: both schedules are the same one, which can't be taken over twice");
    else
        s = sched_make(&(fdl_sched){.lr = product_lr, .momentum = product_momentum});
    if (s && !(s->inner = malloc(2 * sizeof *s->inner))) {
        fdl_fail(FDL_E_OOM, "product: memory ran out");
        fdl_sched_free(s);
        s = NULL;
    }
    if (!s) {
        fdl_sched_free(a);
        if (b != a)
            fdl_sched_free(b);
        return NULL;
    }
    s->inner[0] = a;
    s->inner[1] = b;
    s->n_inner = 2;
    return s;
}
