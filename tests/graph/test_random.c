/* Random flows from a seed, of all kinds of steps, nested: built, run, differentiated, saved and loaded, against the same
 * computation by hand on numbers with their derivatives. FLODL_RANDOM_FLOWS=N runs N of them instead of some hundred. */
#include "graph/modules.h"

#include <math.h>
#include <unistd.h>

/* ---- random numbers: the same everywhere ---------------------------------------------------------------------- */

static uint64_t seed;

static int below(int n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)n);
}

static double number(void)
{
    return below(1 << 30) / (double)(1 << 29) - 1; /* fine enough that none is just what something else is */
}

/* ---- values by hand: small matrices of numbers, each with its derivative along one random direction of all leaves */

enum { ROWS = 3, COLS = 2, MOST = 4 * ROWS * COLS };

typedef struct dual {
    double v, d;
} dual;

typedef struct matrix {
    int rows, cols;
    dual at[MOST];
} matrix;

static double largest; /* what was met on the way: rounding is measured by it */

static matrix met(matrix x)
{
    for (int i = 0; i < x.rows * x.cols; i++) {
        largest = fmax(largest, fabs(x.at[i].v));
        largest = fmax(largest, fabs(x.at[i].d));
    }
    return x;
}

static matrix zeros_like(const matrix *x)
{
    return (matrix){.rows = x->rows, .cols = x->cols};
}

static matrix scaled(matrix x, double by)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * by, x.at[i].d * by};
    return x;
}

static matrix times(matrix x, dual by)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * by.v, x.at[i].d * by.v + x.at[i].v * by.d};
    return x;
}

static matrix sum(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v + y->at[i].v, x.at[i].d + y->at[i].d};
    return x;
}

static matrix product(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++)
        x.at[i] = (dual){x.at[i].v * y->at[i].v, x.at[i].d * y->at[i].v + x.at[i].v * y->at[i].d};
    return x;
}

/* Element by element; the derivative of two equal ones is the mean of theirs. Those that differ by no more than rounding are too
 * close to compare. */
static matrix larger_of(matrix x, const matrix *y)
{
    for (int i = 0; i < x.rows * x.cols; i++) {
        double over = x.at[i].v - y->at[i].v;
        if (over != 0 && fabs(over) < 1e-9 * (1 + largest))
            largest = INFINITY;
        if (over < 0)
            x.at[i] = y->at[i];
        else if (over == 0)
            x.at[i].d = (x.at[i].d + y->at[i].d) / 2;
    }
    return x;
}

static dual mean_of(const matrix *x)
{
    dual m = {0, 0};
    int n = x->rows * x->cols;
    for (int i = 0; i < n; i++)
        m = (dual){m.v + x->at[i].v / n, m.d + x->at[i].d / n};
    return m;
}

static matrix rows_of(const matrix *x, int first, int n)
{
    matrix y = {.rows = n, .cols = x->cols};
    memcpy(y.at, x->at + first * x->cols, sizeof(dual) * (size_t)(n * x->cols));
    return y;
}

static void put_rows(matrix *x, int first, const matrix *y)
{
    memcpy(x->at + first * y->cols, y->at, sizeof(dual) * (size_t)(y->rows * y->cols));
}

/* ---- what a flow is made of ------------------------------------------------------------------------------------- */

enum { MAX_STEPS = 12, MAX_REFS = 3, MAX_BRANCHES = 4, MAX_TAGS = MAX_STEPS + MAX_REFS };

typedef enum op_kind {
    OP_HALF,   /* x / 2 + 1 */
    OP_SINE,   /* sin(x) */
    OP_SAME,   /* x itself */
    OP_SCALED, /* x times a parameter */
    OP_CENTRE, /* x less half of the mean over its rows: rows matter to each other */
    OP_FLIP,   /* x plus a quarter of x with its columns the other way round */
    OP_REFS,   /* x plus further inputs, each times its place from 1 */
    OP_GRAPH,
    OP_KINDS
} op_kind;

typedef enum step_kind {
    ST_MODULE,
    ST_ALSO,
    ST_FORK,
    ST_SPLIT,
    ST_LOOP,
    ST_GATE,
    ST_SWITCH,
    ST_MAP,
    ST_SCAN,   /* running sums over the rows */
    ST_SPARSE, /* a gate whose experts get some of the rows */
    ST_ROWS,   /* a switch row by row */
    ST_FROM,   /* a module, whose value is joined with that of a tag */
    ST_KINDS
} step_kind;

typedef struct flow flow;

typedef struct op {
    op_kind kind;
    flow *graph;         /* of OP_GRAPH */
    dual parameter;      /* of OP_SCALED */
    fdl_module *made[2]; /* of OP_SCALED: the module in each of the two graphs that are built */
} op;

typedef enum halt { HALT_COUNT, HALT_WHILE, HALT_UNTIL } halt;
typedef enum weigh { WEIGH_PLAIN, WEIGH_ROWS, WEIGH_BY_X } weigh;

typedef struct step {
    step_kind kind;
    op ops[MAX_BRANCHES];
    int n;                /* modules */
    int runs;             /* of a loop, at most */
    halt halt;            /* of a loop */
    double threshold;     /* of a loop that halts above it */
    bool has_skip;        /* of also: ops[1] */
    fdl_merge_kind merge; /* of a merge; what else makes another shape is folded (below) */
    int dim;              /* of FDL_MERGE_CAT and _STACK */
    bool detached;        /* a barrier behind a plain module */
    bool renamed;         /* refs are any tags, which the step knows as r0, r1, ... */
    double weights[MAX_BRANCHES];
    weigh weigh;                /* of a gate: how its weights come about */
    int choice;                 /* of a switch: the branch, -1: by the sign of x */
    int over;                   /* of a map: a tag; -1: the stream */
    int slices;                 /* of a map; 0: none */
    bool batched;               /* of a map */
    bool reverse;               /* of a scan */
    int top_k;                  /* of a sparse gate */
    bool recompute;             /* of a plain module */
    int refs[MAX_REFS], n_refs; /* tags */
    bool later[MAX_REFS];       /* a tag that stands here or behind: its value of the call before */
    bool tagged;
} step;

struct flow {
    step steps[MAX_STEPS];
    int n, inputs, tags;
    bool mixed;          /* the inputs may have another shape than the stream */
    bool kept[MAX_TAGS]; /* state: whether there was a call before */
    matrix state[MAX_TAGS];
};

/* ---- the modules ---------------------------------------------------------------------------------------------- */

static fdl_tensor *half_plus_one(fdl_tensor *x)
{
    return fdl_add(fdl_mul(x, 0.5), 1.0);
}

static fdl_tensor *centre(fdl_tensor *x)
{
    return fdl_sub(x, fdl_mul(fdl_mean_dim(x, 0, .keepdim = true), 0.5));
}

static fdl_tensor *flip_columns(fdl_tensor *x)
{
    return fdl_add(x, fdl_mul(fdl_flip(x, FDL_SHAPE(-1)), 0.25));
}

/* What each module was made with, so that a graph of them can be written down and read again. */
typedef struct scaled_args {
    double by;
} scaled_args;

static fdl_module *new_scaled(double value);

static fdl_module *make_scaled(const void *args)
{
    return new_scaled(((const scaled_args *)args)->by);
}

static const fdl_kind scaled_kind = {
    .name = "scaled",
    .size = sizeof(scaled_args),
    .make = make_scaled,
    .fields = (const fdl_field[]){FDL_ARG(scaled_args, by, DOUBLE), {0}},
};

static fdl_tensor *scaled_forward(void *self, fdl_tensor *x)
{
    return fdl_mul(x, *(fdl_tensor **)self);
}

static fdl_module *new_scaled(double value)
{
    static const fdl_module_ops ops = {
        .kind = "scaled", .size = sizeof(fdl_tensor *), .forward = scaled_forward};
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    *(fdl_tensor **)fdl_module_self(m) =
        fdl_module_param(m, "by", fdl_full(FDL_SHAPE(1), value, .dtype = FDL_FLOAT64));
    fdl_module_describe(m, &scaled_kind, &(scaled_args){value});
    return fdl_module_done(m);
}

/* A further input of another size counts by its mean. */
static fdl_tensor *add_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        fdl_tensor *ref = fdl_refs_at(r, i);
        if (!fdl_shape_eq(fdl_shape_of(ref), fdl_shape_of(x)))
            ref = fdl_mean(ref);
        x = fdl_add(x, fdl_mul(ref, (double)(i + 1)));
    }
    return x;
}

static fdl_module *make_add(const void *args);
static const fdl_kind add_kind = {.name = "add_refs", .make = make_add};

static fdl_module *make_add(const void *args)
{
    static const fdl_module_ops ops = {.kind = "add_refs", .forward_named = add_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &add_kind, NULL);
    return fdl_module_done(m);
}

/* The weights of a gate; further inputs turn their signs. */
typedef struct scale {
    int n, weigh;
    double w0, w1, w2, w3; /* of MAX_BRANCHES experts */
} scale;

static fdl_tensor *scale_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    const scale *s = self;
    const double weights[MAX_BRANCHES] = {s->w0, s->w1, s->w2, s->w3};
    fdl_tensor *w = fdl_from_f64(weights, FDL_SHAPE(s->n), .dtype = FDL_FLOAT64);
    if (s->weigh == WEIGH_ROWS) {
        fdl_tensor *row =
            fdl_add(fdl_mul(fdl_arange(0, (double)fdl_size(x, 0), 1, .dtype = FDL_FLOAT64), 0.5), 1);
        w = fdl_mul(fdl_unsqueeze(row, 1), w);
    } else if (s->weigh == WEIGH_BY_X) {
        w = fdl_mul(w, fdl_mean(x));
    }
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        w = fdl_mul(w, fdl_sign(fdl_mean(fdl_refs_at(r, i))));
    return w;
}

static fdl_module *make_scale(const void *args);
static const fdl_kind scale_kind = {
    .name = "scale",
    .size = sizeof(scale),
    .make = make_scale,
    .fields = (const fdl_field[]){FDL_ARG(scale, n, INT),
                                  FDL_ARG(scale, weigh, INT),
                                  FDL_ARG(scale, w0, DOUBLE),
                                  FDL_ARG(scale, w1, DOUBLE),
                                  FDL_ARG(scale, w2, DOUBLE),
                                  FDL_ARG(scale, w3, DOUBLE),
                                  {0}},
};

static fdl_module *make_scale(const void *args)
{
    static const fdl_module_ops ops = {
        .kind = "scale", .size = sizeof(scale), .forward_named = scale_forward};
    fdl_module *m = fdl_module_new(&ops);
    memcpy(fdl_module_self(m), args, sizeof(scale));
    fdl_module_describe(m, &scale_kind, args);
    return fdl_module_done(m);
}

static fdl_module *router(const step *s)
{
    const double *w = s->weights;
    return make_scale(&(scale){s->n, (int)s->weigh, w[0], w[1], w[2], w[3]});
}

/* 1 where the mean of x and of all further inputs is above 0. */
static fdl_tensor *sign_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    (void)self;
    fdl_tensor *m = fdl_mean(x);
    for (size_t i = 0; i < fdl_refs_count(r); i++)
        m = fdl_add(m, fdl_mean(fdl_refs_at(r, i)));
    return fdl_gt(m, 0);
}

/* The same for each row: [B]. */
static fdl_tensor *sign_rows_forward(void *self, fdl_tensor *x)
{
    (void)self;
    return fdl_gt(fdl_mean_dim(x, 1), 0);
}

static fdl_module *make_sign_rows(const void *args);
static const fdl_kind sign_rows_kind = {.name = "sign_rows", .make = make_sign_rows};

static fdl_module *make_sign_rows(const void *args)
{
    static const fdl_module_ops ops = {.kind = "sign_rows", .forward = sign_rows_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &sign_rows_kind, NULL);
    return fdl_module_done(m);
}

/* Takes what was joined apart again: the sum of its n parts along dim, each times its place from 1. */
typedef struct fold {
    int n, dim;
    bool stacked;
} fold;

static fdl_tensor *fold_forward(void *self, fdl_tensor *x)
{
    const fold *f = self;
    fdl_tensor *y = NULL;
    int64_t size = f->stacked ? 1 : fdl_size(x, f->dim) / f->n;
    for (int i = 0; i < f->n; i++) {
        fdl_tensor *part = f->stacked ? fdl_select(x, f->dim, i) : fdl_narrow(x, f->dim, i * size, size);
        part = fdl_mul(part, (double)(i + 1));
        y = y ? fdl_add(y, part) : part;
    }
    return y;
}

static fdl_module *make_fold(const void *args);
static const fdl_kind fold_kind = {
    .name = "fold",
    .size = sizeof(fold),
    .make = make_fold,
    .fields =
        (const fdl_field[]){
            FDL_ARG(fold, n, INT), FDL_ARG(fold, dim, INT), FDL_ARG(fold, stacked, BOOL), {0}},
};

static fdl_module *make_fold(const void *args)
{
    static const fdl_module_ops ops = {.kind = "fold", .size = sizeof(fold), .forward = fold_forward};
    fdl_module *m = fdl_module_new(&ops);
    memcpy(fdl_module_self(m), args, sizeof(fold));
    fdl_module_describe(m, &fold_kind, args);
    return fdl_module_done(m);
}

static fdl_module *make_sign(const void *args);
static const fdl_kind sign_kind = {.name = "sign", .make = make_sign};

static fdl_module *make_sign(const void *args)
{
    static const fdl_module_ops ops = {.kind = "sign", .forward_named = sign_forward};
    (void)args;
    fdl_module *m = fdl_module_new(&ops);
    fdl_module_describe(m, &sign_kind, NULL);
    return fdl_module_done(m);
}

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

/* ---- computing them by hand --------------------------------------------------------------------------------------- */

static matrix op_value(op *o, matrix x, int n, const matrix *refs)
{
    matrix y = x;
    switch (o->kind) {
    case OP_HALF:
        y = scaled(y, 0.5);
        for (int i = 0; i < y.rows * y.cols; i++)
            y.at[i].v += 1;
        break;
    case OP_SINE:
        for (int i = 0; i < y.rows * y.cols; i++)
            y.at[i] = (dual){sin(x.at[i].v), cos(x.at[i].v) * x.at[i].d};
        break;
    case OP_SCALED:
        y = times(y, o->parameter);
        break;
    case OP_CENTRE:
        for (int c = 0; c < y.cols; c++) {
            matrix column = {.rows = x.rows, .cols = 1};
            for (int r = 0; r < x.rows; r++)
                column.at[r] = x.at[r * x.cols + c];
            dual m = mean_of(&column);
            for (int r = 0; r < x.rows; r++)
                y.at[r * x.cols + c] = (dual){column.at[r].v - 0.5 * m.v, column.at[r].d - 0.5 * m.d};
        }
        break;
    case OP_FLIP:
        for (int r = 0; r < y.rows; r++)
            for (int c = 0; c < y.cols; c++) {
                dual other = x.at[r * x.cols + x.cols - 1 - c];
                y.at[r * x.cols + c].v += 0.25 * other.v;
                y.at[r * x.cols + c].d += 0.25 * other.d;
            }
        break;
    case OP_REFS:
        for (int k = 0; k < n; k++) {
            matrix ref = refs[k];
            if (ref.rows != x.rows || ref.cols != x.cols) {
                dual m = mean_of(&ref);
                ref = zeros_like(&x);
                for (int i = 0; i < ref.rows * ref.cols; i++)
                    ref.at[i] = m;
            }
            ref = scaled(ref, k + 1);
            y = sum(y, &ref);
        }
        break;
    case OP_GRAPH:
        y = computed(o->graph, x, refs);
        break;
    default:
        break;
    }
    return met(y);
}

/* Everything below forgets what it knows of the call before; or that it has a history. */
static void forget(flow *f, bool history_only)
{
    for (int t = 0; t < MAX_TAGS; t++) {
        for (int i = 0; i < MOST; i++)
            f->state[t].at[i].d = 0;
        if (!history_only)
            f->kept[t] = false;
    }
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++)
            if (f->steps[i].ops[k].graph)
                forget(f->steps[i].ops[k].graph, history_only);
}

static bool halts(const step *s, const matrix *x)
{
    double most = x->at[0].v;
    for (int i = 1; i < x->rows * x->cols; i++)
        most = fmax(most, x->at[i].v);
    return most > s->threshold;
}

static matrix loop_value(step *s, matrix x, const matrix *refs)
{
    if (s->ops[0].graph)
        forget(s->ops[0].graph, false);
    for (int k = 0; k < s->runs; k++) {
        if (s->halt == HALT_WHILE && halts(s, &x))
            break;
        x = op_value(&s->ops[0], x, s->n_refs, refs);
        if (s->halt == HALT_UNTIL && k + 1 < s->runs && halts(s, &x))
            break;
    }
    return x;
}

static matrix gate_value(step *s, const matrix *x, const matrix *refs)
{
    double sign = 1;
    for (int k = 0; k < s->n_refs; k++) {
        dual m = mean_of(&refs[k]);
        sign *= (m.v > 0) - (m.v < 0);
    }
    dual by = s->weigh == WEIGH_BY_X ? mean_of(x) : (dual){1, 0};
    matrix y = zeros_like(x);
    for (int k = 0; k < s->n; k++) {
        matrix part = times(op_value(&s->ops[k], *x, 0, NULL),
                            (dual){by.v * sign * s->weights[k], by.d * sign * s->weights[k]});
        for (int i = 0; s->weigh == WEIGH_ROWS && i < part.rows * part.cols; i++) {
            double row = 1 + 0.5 * (i / part.cols);
            part.at[i] = (dual){part.at[i].v * row, part.at[i].d * row};
        }
        y = sum(y, &part);
    }
    return y;
}

static matrix scan_value(const step *s, const matrix *x)
{
    matrix y = *x, state = {.rows = 1, .cols = x->cols};
    for (int i = 0; i < x->rows; i++) {
        int at = s->reverse ? x->rows - 1 - i : i;
        matrix part = rows_of(x, at, 1);
        state = sum(part, &state);
        put_rows(&y, at, &state);
    }
    return y;
}

/* Adds what op k gives of the rows in `taken`, each times its weight. */
static void add_part(step *s, int k, const matrix *x, const bool *taken, const double *weight, matrix *y)
{
    matrix some = {.cols = x->cols};
    for (int i = 0; i < x->rows; i++)
        if (taken[i]) {
            matrix part = rows_of(x, i, 1);
            put_rows(&some, some.rows++, &part);
        }
    if (!some.rows)
        return;
    some = op_value(&s->ops[k], some, 0, NULL);
    for (int i = 0, at = 0; i < x->rows; i++)
        if (taken[i]) {
            matrix part = scaled(rows_of(&some, at++, 1), weight[i]), old = rows_of(y, i, 1);
            part = sum(part, &old);
            put_rows(y, i, &part);
        }
}

static matrix sparse_value(step *s, const matrix *x, const matrix *refs)
{
    double sign = 1, w[MOST][MAX_BRANCHES];
    for (int k = 0; k < s->n_refs; k++) {
        dual m = mean_of(&refs[k]);
        sign *= (m.v > 0) - (m.v < 0);
    }
    for (int i = 0; i < x->rows; i++)
        for (int k = 0; k < s->n; k++)
            w[i][k] = sign * s->weights[k] * (1 + 0.5 * i);
    matrix y = zeros_like(x);
    for (int k = 0; k < s->n; k++) {
        bool taken[MOST];
        double weight[MOST];
        for (int i = 0; i < x->rows; i++) {
            int heavier = 0;
            for (int other = 0; other < s->n; other++)
                heavier += w[i][other] > w[i][k];
            taken[i] = heavier < s->top_k;
            weight[i] = w[i][k];
        }
        add_part(s, k, x, taken, weight, &y);
    }
    return y;
}

static matrix rows_value(step *s, const matrix *x)
{
    matrix y = zeros_like(x);
    for (int k = 0; k < 2; k++) {
        bool taken[MOST];
        double weight[MOST];
        for (int i = 0; i < x->rows; i++) {
            matrix part = rows_of(x, i, 1);
            taken[i] = (mean_of(&part).v > 0) == k;
            weight[i] = 1;
        }
        add_part(s, k, x, taken, weight, &y);
    }
    return y;
}

static matrix switch_value(step *s, const matrix *x, const matrix *refs)
{
    int choice = s->choice;
    if (choice < 0) {
        double m = mean_of(x).v;
        for (int k = 0; k < s->n_refs; k++)
            m += mean_of(&refs[k]).v;
        choice = m > 0;
    }
    return op_value(&s->ops[choice], *x, 0, NULL);
}

static matrix map_value(step *s, matrix x, const matrix *refs)
{
    int rows = x.rows, cols = x.cols;
    if (s->slices) { /* the same numbers in the same order */
        x.rows = rows * s->slices;
        x.cols = cols / s->slices;
    }
    matrix y = x;
    if (s->batched) {
        y = op_value(&s->ops[0], x, s->n_refs, refs);
    } else {
        for (int i = 0; i < x.rows; i++) {
            matrix part = op_value(&s->ops[0], rows_of(&x, i, 1), s->n_refs, refs);
            put_rows(&y, i, &part);
        }
    }
    y.rows = rows;
    y.cols = cols;
    return y;
}

/* One operand more; at: its place from 0. */
static matrix joined(const step *s, matrix x, const matrix *y, int at)
{
    matrix part = *y;
    switch (s->merge) {
    case FDL_MERGE_MUL:
        return product(x, y);
    case FDL_MERGE_MAX:
        return larger_of(x, y);
    case FDL_MERGE_CAT:
    case FDL_MERGE_STACK:
        part = scaled(part, at + 1);
        return sum(x, &part);
    default:
        return sum(x, y);
    }
}

static matrix split_value(const flow *f, step *s, const matrix *x, const matrix *refs)
{
    matrix y = op_value(&s->ops[0], *x, s->n_refs, refs);
    int at = 1;
    for (int k = 1; k < s->n; k++) {
        matrix more = op_value(&s->ops[k], *x, s->n_refs, refs);
        y = met(joined(s, y, &more, at++));
    }
    for (int k = s->n_refs - 1; !f->mixed && k >= 0; k--)
        y = met(joined(s, y, &refs[k], at++));
    return s->merge == FDL_MERGE_MEAN ? scaled(y, 1.0 / at) : y;
}

/* Without its history. */
static matrix plain_value(step *s, matrix x, const matrix *refs)
{
    matrix y = op_value(&s->ops[0], x, s->n_refs, refs);
    for (int i = 0; s->detached && i < y.rows * y.cols; i++)
        y.at[i].d = 0;
    return y;
}

static matrix step_value(const flow *f, step *s, matrix x, const matrix *value, const matrix *refs)
{
    switch (s->kind) {
    case ST_LOOP:
        return loop_value(s, x, refs);
    case ST_GATE:
        return gate_value(s, &x, refs);
    case ST_SCAN:
        return scan_value(s, &x);
    case ST_SPARSE:
        return sparse_value(s, &x, refs);
    case ST_ROWS:
        return rows_value(s, &x);
    case ST_SWITCH:
        return switch_value(s, &x, refs);
    case ST_MAP:
        return map_value(s, s->over < 0 ? x : value[s->over], refs);
    case ST_SPLIT:
        return split_value(f, s, &x, refs);
    case ST_ALSO: {
        matrix skip = s->has_skip ? op_value(&s->ops[1], x, 0, NULL) : x;
        matrix y = op_value(&s->ops[0], x, s->n_refs, refs);
        return sum(y, &skip);
    }
    case ST_FROM:
        return joined(s, op_value(&s->ops[0], x, 0, NULL), &refs[0], 1);
    default:
        return plain_value(s, x, refs);
    }
}

static matrix computed(flow *f, matrix x, const matrix *inputs)
{
    matrix value[MAX_TAGS], refs[MAX_REFS];
    int tags = 0;
    for (; tags < f->inputs; tags++)
        value[tags] = inputs[tags];
    for (int i = 0; i < f->n; i++) {
        step *s = &f->steps[i];
        for (int k = 0; k < s->n_refs; k++) {
            int t = s->refs[k];
            const matrix *primary = s->kind == ST_MAP && s->over >= 0 ? &value[s->over] : &x;
            refs[k] = !s->later[k] ? value[t] : f->kept[t] ? f->state[t] : zeros_like(primary);
        }
        matrix y = met(step_value(f, s, x, value, refs));
        if (s->kind != ST_FORK)
            x = y;
        if (s->tagged)
            value[tags++] = y;
    }
    for (int t = 0; t < tags; t++) {
        f->state[t] = value[t];
        f->kept[t] = true;
    }
    return x;
}

/* ---- the comparison --------------------------------------------------------------------------------------------- */

enum {
    CALLS = 3,
    TRAINED = 2,
    MAX_INPUTS = 2
}; /* two calls with one backward behind them, and one without grad mode */

static void check_close(double got, double want, uint64_t from, const char *what)
{
    if (!(fabs(got - want) <= 1e-10 * (1 + largest)))
        fail_msg("flow of seed %llu: %s is %.17g, by hand %.17g", (unsigned long long)from, what, got, want);
}

static matrix random_matrix(void)
{
    matrix x = {.rows = ROWS, .cols = COLS};
    for (int i = 0; i < ROWS * COLS; i++)
        x.at[i] = (dual){number(), number()};
    return x;
}

static fdl_tensor *tensor_of(const matrix *x, bool direction)
{
    double at[MOST];
    for (int i = 0; i < x->rows * x->cols; i++)
        at[i] = direction ? x->at[i].d : x->at[i].v;
    return fdl_from_f64(at, FDL_SHAPE(x->rows, x->cols), .dtype = FDL_FLOAT64);
}

static void check_value(fdl_tensor *y, const matrix *want, uint64_t from)
{
    double got[MOST];
    check_some(y);
    assert_int_equal(fdl_numel(y), want->rows * want->cols);
    check_ok(fdl_to_f64(y, got, fdl_numel(y)));
    for (int i = 0; i < want->rows * want->cols; i++)
        check_close(got[i], want->at[i].v, from, "a value");
}

/* The gradient of t times the direction; none: 0. */
static double along(fdl_tensor *t, fdl_tensor *direction)
{
    FDL_SCOPE;
    fdl_tensor *grad = fdl_grad(t);
    fdl_clear_error();
    return grad ? fdl_item(fdl_sum(fdl_mul(grad, direction))) : 0;
}

/* Of all parameters below, in the first graph that was built. */
static double parameters_along(const flow *f, int *count)
{
    double sum_of = 0;
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < f->steps[i].n; k++) {
            const op *o = &f->steps[i].ops[k];
            if (o->graph)
                sum_of += parameters_along(o->graph, count);
            if (o->kind != OP_SCALED)
                continue;
            FDL_SCOPE;
            fdl_tensor *p = fdl_param_tensor(fdl_module_own_param(o->made[0], "by"));
            sum_of += along(p, fdl_full(FDL_SHAPE(1), o->parameter.d, .dtype = FDL_FLOAT64));
            ++*count;
        }
    return sum_of;
}

typedef struct calls {
    matrix in[CALLS][1 + MAX_INPUTS], out[CALLS];
    double slope; /* of the sum of what the trained calls give, each element times its place from 1 */
} calls;

/* By hand; false: numbers get too large to compare. */
static bool expect(flow *f, calls *c)
{
    largest = 0;
    c->slope = 0;
    for (int k = 0; k < CALLS; k++) {
        for (int i = 0; i <= f->inputs; i++)
            c->in[k][i] = random_matrix();
        if (k == TRAINED)
            forget(f, true);
        c->out[k] = computed(f, c->in[k][0], c->in[k] + 1);
        for (int i = 0; k < TRAINED && i < c->out[k].rows * c->out[k].cols; i++)
            c->slope += c->out[k].at[i].d * (i + 1);
    }
    return largest < 1e4;
}

static fdl_tensor *weighed(fdl_tensor *y)
{
    fdl_tensor *place = fdl_arange(1, (double)fdl_numel(y) + 1, 1, .dtype = FDL_FLOAT64);
    return fdl_sum(fdl_mul(fdl_flatten(y, 0, -1), place));
}

/* All calls on g; differentiates those that train, unless it's frozen of history altogether. */
static void run_calls(fdl_module *g, flow *f, const calls *c, bool trains, uint64_t from)
{
    fdl_tensor *in[CALLS][1 + MAX_INPUTS], *loss = NULL;
    for (int k = 0; k < CALLS; k++) {
        bool differentiates = trains && k < TRAINED;
        if (k == TRAINED)
            check_ok(fdl_module_detach_state(g));
        fdl_mode_guard mode = differentiates ? fdl_enable_grad_open() : fdl_no_grad_open();
        for (int i = 0; i <= f->inputs; i++) {
            check_some(in[k][i] = tensor_of(&c->in[k][i], false));
            check_ok(fdl_requires_grad_(in[k][i], differentiates));
        }
        fdl_tensor *y = fdl_forward_of(g, 1 + f->inputs, in[k]);
        check_value(y, &c->out[k], from);
        for (int i = 0; i <= f->inputs; i++) /* nobody wrote into what it was given */
            check_value(in[k][i], &c->in[k][i], from);
        if (differentiates)
            loss = loss ? fdl_add(loss, weighed(y)) : weighed(y);
        check_ok(fdl_mode_close(mode));
        if (!trains || k != TRAINED - 1)
            continue;
        double got = 0;
        int count = 0;
        check_some(loss);
        if (fdl_requires_grad(loss))
            check_ok(fdl_backward(loss));
        for (int j = 0; j < TRAINED; j++)
            for (int i = 0; i <= f->inputs; i++)
                got += along(in[j][i], tensor_of(&c->in[j][i], true));
        got += parameters_along(f, &count);
        assert_int_equal(count, fdl_params_count(fdl_parameters(g)));
        check_close(got, c->slope, from, "the derivative");
    }
}

/* By a file. */
static void copy_weights(fdl_module *from, fdl_module *to)
{
    char path[] = "/tmp/flodl_random_XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    check_ok(fdl_ckpt_save(from, path));
    check_ok(fdl_ckpt_load(to, path));
    unlink(path);
}

/* Another graph of the same flow has other parameters, and the first one's once they are loaded. */
static void check_saved(fdl_module *g, flow *f, const calls *c, uint64_t from)
{
    fdl_module *other = built(f, 1);
    assert_string_equal(fdl_graph_hash(other), fdl_graph_hash(g));
    copy_weights(g, other);
    run_calls(other, f, c, false, from);
    check_ok(fdl_module_free(other));
}

/* Written down and read again it is the same graph. */
static void check_written(fdl_module *g, flow *f, const calls *c, uint64_t from)
{
    const fdl_function functions[] = {{.name = "half_plus_one", .f = half_plus_one},
                                      {.name = "centre", .f = centre},
                                      {.name = "flip_columns", .f = flip_columns},
                                      {0}};
    char *text = fdl_topology_text(g, .functions = functions);
    check_some(text);
    fdl_module *other = fdl_topology_parse(
        text,
        .kinds = FDL_KINDS(&scaled_kind, &add_kind, &scale_kind, &sign_kind, &sign_rows_kind, &fold_kind),
        .functions = functions);
    if (!other)
        print_error("%s\n", text);
    check_some(other);
    char *again = fdl_topology_text(other, .functions = functions);
    check_some(again);
    assert_string_equal(text, again);
    assert_string_equal(fdl_graph_hash(other), fdl_graph_hash(g));
    copy_weights(g, other);
    run_calls(other, f, c, false, from);
    check_ok(fdl_module_free(other));
    free(text);
    free(again);
}

static int flows_wanted(void)
{
    const char *n = getenv("FLODL_RANDOM_FLOWS");
    return n && atoi(n) > 0 ? atoi(n) : 300;
}

/* FLODL_RANDOM_FROM=N begins with that seed, to look at one that a message names. */
static uint64_t first_wanted(void)
{
    const char *n = getenv("FLODL_RANDOM_FROM");
    return n && atoi(n) > 0 ? (uint64_t)atoi(n) : 1;
}

static void random_flows_compute_what_they_say(void **state)
{
    (void)state;
    int done = 0, wanted = flows_wanted();
    for (uint64_t from = first_wanted(); done < wanted && from < first_wanted() + 10 * (uint64_t)wanted;
         from++) {
        FDL_SCOPE;
        seed = from * 7919;
        flow *f = random_flow((limits){2, below(MAX_INPUTS + 1), false, COLS});
        calls c;
        if (expect(f, &c)) {
            fdl_module *g = built(f, 0);
            run_calls(g, f, &c, true, from);
            check_ok(fdl_module_reset(g));
            run_calls(g, f, &c, false, from); /* state was forgotten: the same again */
            check_saved(g, f, &c, from);
            check_written(g, f, &c, from);
            check_ok(fdl_module_free(g));
            done++;
        }
        free_flow(f);
    }
    assert_int_equal(done, wanted);
}

int main(void)
{
    on_test_device();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_flows_compute_what_they_say),
    };
    return cmocka_run_group_tests_name("random", tests, NULL, NULL);
}
