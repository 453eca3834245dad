/* Loops in which each row halts by itself: adaptive computation time. All tensors of rows are [B]. */
#include "flodl/activation.h"
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "loop.h"

/* What goes from one iteration to the next. */
enum { STATE, RESULT, SHARED, RUNS, LEFT, CARRIED };

/* v [B] beside x [B, *]. */
static fdl_tensor *beside(fdl_tensor *v, fdl_tensor *x)
{
    fdl_shape s = {.ndim = fdl_ndim(x), .d = {fdl_numel(v)}};
    for (int i = 1; i < s.ndim; i++)
        s.d[i] = 1;
    return fdl_reshape(v, s);
}

/* What the condition says of the state: one logit a row -> its sigmoid [B]. */
static fdl_tensor *ask(const graph *g, const plan_node *p, int64_t i, fdl_tensor *state)
{
    fdl_tensor *c = module_run(p->module->children.at[CONDITION]->real, 1, &state);
    if (c && (fdl_ndim(state) < 1 || fdl_numel(c) != fdl_size(state, 0))) {
        char is[256], was[256];
        c = fdl_fail_null(FDL_E_SHAPE,
                          "it gives %s for a state of %s, must give one element for each row of dim 0",
                          fdl_describe(c, is, sizeof is), fdl_describe(state, was, sizeof was));
    }
    if (!c && g->prefix)
        fdl_error_prefix("loop condition at iteration %lld: ", (long long)i);
    return c ? fdl_sigmoid(fdl_reshape(c, FDL_SHAPE(-1))) : NULL;
}

static fdl_tensor *added(fdl_tensor *sum, fdl_tensor *x)
{
    return sum ? fdl_add(sum, x) : x;
}

/* One iteration: now -> next. */
static bool iterate(graph *g, const plan_node *p, loop *s, int64_t i, fdl_tensor **now, fdl_tensor **next)
{
    double enough = 1 - fdl_opt_double(s->o.epsilon, 0.01);
    fdl_tensor *state = loop_run_body(g, p, s, i, now[STATE]);
    fdl_tensor *h = state ? ask(g, p, i, state) : NULL;
    if (!h)
        return false;
    fdl_tensor *shared = now[SHARED] ? now[SHARED] : fdl_zeros_like(fdl_detach(h));
    fdl_tensor *goes_on = fdl_lt(shared, enough), *rest = fdl_rsub_scalar(shared, 1);
    fdl_tensor *halts =
        i + 1 == s->most ? goes_on : fdl_logical_and(goes_on, fdl_ge(fdl_add(shared, h), enough));
    fdl_tensor *runs = fdl_to_dtype(goes_on, fdl_dtype_of(h));
    fdl_tensor *share = fdl_mul(fdl_where(halts, rest, h), runs);
    if (!share || (s->o.trace_cond && graph_publish(g, p->node, s->o.trace_cond, i, share) != FDL_OK))
        return false;
    next[STATE] = i ? fdl_where(beside(goes_on, state), state, now[STATE]) : state;
    next[RESULT] = added(now[RESULT], fdl_mul(state, beside(share, state)));
    next[SHARED] = fdl_add(shared, share);
    next[RUNS] = added(now[RUNS], runs);
    next[LEFT] = added(now[LEFT], fdl_mul(share, halts));
    return next[STATE] && next[RESULT] && next[SHARED] && next[LEFT];
}

fdl_tensor *run_weighed(graph *g, const plan_node *p, loop *s, fdl_tensor *x)
{
    fdl_tensor *now[CARRIED] = {x};
    for (int64_t i = 0; i < s->most; i++) {
        fdl_tensor *next[CARRIED] = {0};
        fdl_scope *scope = fdl_scope_open();
        bool good = scope && iterate(g, p, s, i, now, next);
        for (int k = 0; good && k < CARRIED; k++)
            fdl_escape(next[k]);
        fdl_scope_close(scope);
        if (!good)
            return NULL;
        for (int k = 0; k < CARRIED; k++) {
            if (now[k] != next[k])
                fdl_drop(now[k]); /* does nothing to x */
            now[k] = next[k];
        }
    }
    fdl_tensor *ponder = s->o.trace_ponder ? fdl_add(now[RUNS], now[LEFT]) : NULL;
    if (s->o.trace_ponder && (!ponder || graph_publish_one(g, p->node, s->o.trace_ponder, ponder) != FDL_OK))
        return NULL;
    return now[RESULT];
}
