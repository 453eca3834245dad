/* Of test_random.c: builds what was drawn. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_BUILD_H
#define FLODL_TESTS_GRAPH_RANDOM_BUILD_H

#include "graph/random/draw.h"

/* ---- building them ---------------------------------------------------------------------------------------------- */

static const char *tag_name(int i)
{
    static char names[8][16];
    static int next;
    char *name = names[next++ % 8];
    snprintf(name, sizeof names[0], "r%d", i);
    return name;
}

static fdl_module *op_module(op *o, int which)
{
    switch (o->kind) {
    case OP_HALF:
        return fdl_nn_fn(half_plus_one);
    case OP_SINE:
        return fdl_nn_fn(fdl_sin);
    case OP_SCALED:
        return o->made[which] = new_scaled(o->parameter.v + which);
    case OP_CENTRE:
        return fdl_nn_fn(centre);
    case OP_FLIP:
        return fdl_nn_fn(flip_columns);
    case OP_REFS:
        return make_add(NULL);
    case OP_GRAPH:
        return built(o->graph, which);
    default:
        return id();
    }
}

static fdl_module *loop_step(const step *s, fdl_module *body)
{
    return s->halt == HALT_COUNT ? fdl_flow_loop(body, .n = s->runs)
           : s->halt == HALT_WHILE
               ? fdl_flow_loop(body, .while_cond = fdl_nn_threshold_halt(s->threshold), .max = s->runs)
               : fdl_flow_loop(body, .until_cond = fdl_nn_threshold_halt(s->threshold), .max = s->runs);
}

static fdl_module *step_of(const step *s, fdl_module **m)
{
    switch (s->kind) {
    case ST_ALSO:
        return fdl_flow_also(m[0], .skip = m[1]);
    case ST_FORK:
        return fdl_flow_fork(m[0]);
    case ST_SPLIT:
        return fdl_flow_split_of(s->n, m);
    case ST_LOOP:
        return loop_step(s, m[0]);
    case ST_GATE:
        return fdl_flow_gate_opt(router(s), s->n, m, NULL);
    case ST_SWITCH:
        return fdl_flow_switch_opt(s->choice < 0 ? make_sign(NULL) : fdl_nn_fixed_selector(s->choice), s->n,
                                   m, NULL);
    case ST_SCAN:
        return fdl_flow_scan(m[0], .reverse = s->reverse);
    case ST_SPARSE:
        return fdl_flow_gate_opt(router(s), s->n, m, &(fdl_flow_gate_opts){.top_k = s->top_k});
    case ST_ROWS:
        return fdl_flow_switch_opt(make_sign_rows(NULL), s->n, m, &(fdl_flow_switch_opts){.per_row = true});
    case ST_MAP:
        return fdl_flow_map(m[0], .over = s->over < 0 ? NULL : tag_name(s->over), .slices = s->slices,
                            .batched = s->batched);
    default:
        return s->recompute ? fdl_flow_recompute(m[0]) : m[0];
    }
}

/* "r1", or "r0=r1" where the step knows it as r0. */
static fdl_module *using_ref(const step *s, int k)
{
    char text[32];
    snprintf(text, sizeof text, "r%d=r%d", k, s->refs[k]);
    return fdl_flow_using(s->renamed ? text : tag_name(s->refs[k]));
}

static fdl_opt_i64 dim_of(const step *s)
{
    bool said = s->dim != -1 && (s->merge == FDL_MERGE_CAT || s->merge == FDL_MERGE_STACK);
    return said ? FDL_SOME(s->dim) : (fdl_opt_i64){0};
}

static void add_fold(fdl_flow_builder *b, const step *s, int n)
{
    bool stacked = s->merge == FDL_MERGE_STACK;
    if (stacked || s->merge == FDL_MERGE_CAT)
        check_ok(fdl_flow_add(b, make_fold(&(fold){n, s->dim, stacked})));
}

static fdl_module *from_step(const step *s)
{
    const char *tag = tag_name(s->refs[0]);
    return s->merge == FDL_MERGE_ADD   ? fdl_flow_add_from(tag)
           : s->merge == FDL_MERGE_MUL ? fdl_flow_mul_from(tag)
                                       : fdl_flow_cat_from(tag, .dim = dim_of(s));
}

static void add_refs(fdl_flow_builder *b, const step *s, bool backwards)
{
    for (int k = 0; k < s->n_refs; k++)
        check_ok(fdl_flow_add(b, using_ref(s, backwards ? s->n_refs - 1 - k : k)));
}

static fdl_module *built(flow *f, int which)
{
    fdl_flow_builder *b = fdl_flow_new();
    int tags = f->inputs;
    for (int i = 0; i < f->inputs; i++)
        check_ok(fdl_flow_add(b, fdl_flow_input(tag_name(i))));
    for (int i = 0; i < f->n; i++) {
        step *s = &f->steps[i];
        fdl_module *m[MAX_BRANCHES] = {NULL};
        for (int k = 0; k < s->n; k++)
            check_some(m[k] = op_module(&s->ops[k], which));
        check_ok(fdl_flow_add(b, step_of(s, m)));
        if (s->kind != ST_FROM)
            add_refs(b, s, false);
        if (s->detached)
            check_ok(fdl_flow_add(b, fdl_flow_detach()));
        if (s->kind == ST_FROM) {
            check_ok(fdl_flow_add(b, from_step(s)));
            add_fold(b, s, 2);
        } else if (s->kind == ST_SPLIT) {
            check_ok(fdl_flow_add(b, fdl_flow_merge(s->merge, .dim = dim_of(s))));
            if (!f->mixed)
                add_refs(b, s, true); /* and as operands */
            add_fold(b, s, s->n + (f->mixed ? 0 : s->n_refs));
        }
        if (s->tagged)
            check_ok(fdl_flow_add(b, fdl_flow_tag(tag_name(tags++))));
    }
    fdl_module *g = fdl_flow_build(b);
    check_some(g);
    return g;
}

#endif
