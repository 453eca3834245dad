/* Of test_random.c: draws flows. */
#ifndef FLODL_TESTS_GRAPH_RANDOM_DRAW_H
#define FLODL_TESTS_GRAPH_RANDOM_DRAW_H

#include "graph/random/modules.h"

/* ---- drawing flows ---------------------------------------------------------------------------------------------- */

/* What a flow may be: how deep graphs nest in it, how many further inputs it has, whether these may have another shape
 * than its stream, as in the body of a map, and how wide the stream is. */
typedef struct limits {
    int depth, inputs;
    bool mixed;
    int cols;
} limits;

static flow *random_flow(limits l);
static fdl_module *built(flow *f, int which);
static matrix computed(flow *f, matrix x, const matrix *inputs);

static void free_flow(flow *f)
{
    for (int i = 0; f && i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++)
            free_flow(f->steps[i].ops[k].graph);
    free(f);
}

/* refs: how many further inputs the module will get; plain: not a graph, which wants them by the names r0, r1, ... */
static op random_op(limits l, int refs, bool plain)
{
    op o = {.kind = refs ? OP_REFS : (op_kind)below(OP_KINDS), .parameter = {number(), number()}};
    if (refs && !plain && below(2))
        o.kind = OP_GRAPH;
    if (o.kind == OP_GRAPH && (l.depth == 0 || plain))
        o.kind = refs ? OP_REFS : OP_SCALED;
    if (o.kind == OP_GRAPH)
        o.graph = random_flow((limits){l.depth - 1, refs, l.mixed, l.cols});
    return o;
}

static bool takes_refs(const step *s)
{
    return s->kind != ST_SCAN && s->kind != ST_ROWS && (s->kind != ST_SWITCH || s->choice < 0);
}

/* Steps whose own modules get the refs; a gate's and a switch's go to what decides. */
static bool modules_take_refs(const step *s)
{
    return s->kind != ST_GATE && s->kind != ST_SPARSE && s->kind != ST_SWITCH && s->kind != ST_FROM;
}

static step random_step(limits l, const flow *f)
{
    step s = {.kind = (step_kind)below(ST_KINDS)};
    bool several = s.kind == ST_SPLIT || s.kind == ST_GATE || s.kind == ST_SWITCH || s.kind == ST_SPARSE ||
                   s.kind == ST_ROWS;
    s.n = several ? 2 + below(MAX_BRANCHES - 1) : 1;
    for (int k = 0; k < s.n; k++)
        s.weights[k] = number();
    s.weigh = s.kind == ST_SPARSE ? WEIGH_ROWS : (weigh)below(3);
    s.reverse = below(2);
    s.top_k = 1 + below(s.n);
    s.recompute = s.kind == ST_MODULE && below(3) == 0;
    s.runs = 1 + below(4);
    s.halt = (halt)below(3);
    s.threshold = 2 * number();
    static const fdl_merge_kind joins[] = {FDL_MERGE_ADD, FDL_MERGE_MUL, FDL_MERGE_CAT};
    s.merge = s.kind == ST_FROM ? joins[below(3)] : (fdl_merge_kind)below(6);
    s.dim = below(s.merge == FDL_MERGE_STACK ? 4 : 3) - 2; /* with -1 it is left out */
    s.detached = s.kind == ST_MODULE && below(6) == 0;
    s.renamed = below(3) == 0;
    s.has_skip = s.kind == ST_ALSO && below(3) == 0;
    s.choice = below(s.n + 1) - 1;
    s.over = -1;
    if (s.kind == ST_MAP && below(3) == 0)
        s.slices = 1 + below(l.cols);
    s.batched = below(2);
    int from = l.mixed ? f->inputs : 0;
    if (s.kind == ST_MAP && !s.slices && f->tags > from && below(2))
        s.over = from + below(f->tags - from);
    bool later = takes_refs(&s) && below(4) == 0;
    if (s.kind == ST_FROM) {
        later = later || f->tags == from; /* the one or the other */
        s.n_refs = !later;
        s.refs[0] = later ? 0 : from + below(f->tags - from);
    } else if (takes_refs(&s) && f->tags &&
               below(2)) /* a graph wants r0, r1, ..., which are the first tags */
        s.n_refs = 1 + below(f->tags < MAX_REFS - 1 ? f->tags : MAX_REFS - 1);
    for (int k = 0; s.kind != ST_FROM && k < s.n_refs; k++)
        s.refs[k] = s.renamed ? below(f->tags) : k;
    if (later) {
        s.refs[s.n_refs] = -1; /* random_flow says which */
        s.later[s.n_refs++] = true;
    }
    limits within = l;
    within.mixed = l.mixed || (s.kind == ST_MAP && s.n_refs);
    within.cols = s.slices ? l.cols / s.slices : l.cols;
    /* Some rows at a time would be other shapes for the state of a graph; what is computed again carries none. */
    bool plain = later || s.kind == ST_SPARSE || s.kind == ST_ROWS || s.recompute;
    for (int k = 0; k < s.n; k++)
        s.ops[k] = random_op(within, modules_take_refs(&s) ? s.n_refs : 0, plain);
    if (s.kind == ST_SCAN) {
        free_flow(s.ops[0].graph);
        s.ops[0] = (op){.kind = OP_REFS};
    }
    if (s.has_skip) {
        s.ops[1] = random_op(l, 0, false);
        s.n = 2;
    }
    s.tagged = below(3) == 0;
    return s;
}

/* A graph inside calls its inputs r0, r1, ...; so do the tags of every flow, and its inputs come first. */
static flow *random_flow(limits l)
{
    flow *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->inputs = f->tags = l.inputs;
    f->mixed = l.mixed;
    f->n = 1 + below(MAX_STEPS);
    for (int i = 0; i < f->n; i++) {
        f->steps[i] = random_step(l, f);
        f->tags += f->steps[i].tagged;
    }
    for (int i = 0; i < f->n;
         i++) { /* state: a tag from here on, of this step itself when there is no other */
        step *s = &f->steps[i];
        int last = s->n_refs - 1;
        if (!s->n_refs || !s->later[last])
            continue;
        int before = f->inputs, from_here = 0;
        for (int k = 0; k < f->n; k++)
            *(k < i ? &before : &from_here) += f->steps[k].tagged;
        if (from_here) {
            s->refs[last] = before + below(from_here);
        } else {
            s->tagged = true;
            s->refs[last] = before;
            f->tags++;
        }
    }
    return f;
}

#endif
