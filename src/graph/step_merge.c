/* What makes one stream of several: merges, joining with the value of a tag, and the node that adds, which also uses. */
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "flodl/shape.h"
#include "graph_private.h"

typedef fdl_tensor *merge_fn(fdl_list values);

/* How values are joined: what a node's self points to. */
typedef struct joining {
    fdl_merge_kind kind;
    int dim;
    merge_fn *fn; /* in place of the kind */
} joining;

/* ---- adding -------------------------------------------------------------------------------------------- */

static bool same_kind(fdl_tensor *a, fdl_tensor *b)
{
    return fdl_dtype_of(a) == fdl_dtype_of(b) && fdl_device_eq(fdl_device_of(a), fdl_device_of(b)) &&
           fdl_shape_eq(fdl_shape_of(a), fdl_shape_of(b));
}

static fdl_tensor *add_into(fdl_tensor *a, fdl_tensor *b)
{
    return fdl_add_opt_(a, b, NULL) == FDL_OK ? a : NULL;
}

/* a + b, in place of an operand that nobody needs any more. Only with grad mode off: otherwise backward may
 * need it. */
static fdl_tensor *first_sum(const graph *g, const plan_node *p)
{
    fdl_tensor *a = p->in[0], *b = p->in[1];
    if (!fdl_grad_enabled() && same_kind(a, b)) {
        if (graph_may_change(g, p, 0))
            return add_into(a, b);
        if (graph_may_change(g, p, 1))
            return add_into(b, a);
    }
    return fdl_add_tensor(a, b);
}

static fdl_tensor *failed(const graph *g, const plan_node *p, int i)
{
    int from = g->source[p->slot + i];
    if (g->prefix)
        fdl_error_prefix("operand %d, from %s: ", i, from < 0 ? "input" : g->node[g->plan[from].node].id);
    return NULL;
}

static fdl_tensor *run_sum(graph *g, const plan_node *p)
{
    fdl_tensor *sum = first_sum(g, p);
    if (!sum)
        return failed(g, p, 1);
    for (int i = 2; i < p->inputs + p->refs; i++) {
        fdl_tensor *before = sum;
        if (!fdl_grad_enabled() && same_kind(sum, p->in[i]) && fdl_is_sole(sum) && sum != p->in[i]) {
            sum = add_into(sum, p->in[i]);
        } else {
            sum = fdl_add_tensor(before, p->in[i]);
            if (before != p->in[0] && before != p->in[1])
                fdl_drop(before);
        }
        if (!sum)
            return failed(g, p, i);
    }
    return sum;
}

/* ONNX promotes no dtypes. */
static bool onnx_same_dtypes(fdl_onnx *o, const plan_node *p)
{
    for (int i = 1; i < p->inputs + p->refs; i++)
        if (fdl_dtype_of(p->in[i]) != fdl_dtype_of(p->in[0])) {
            onnx_refuse(o, "operand %d is %s, operand 0 %s", i, fdl_dtype_name(fdl_dtype_of(p->in[i])),
                        fdl_dtype_name(fdl_dtype_of(p->in[0])));
            return false;
        }
    return true;
}

/* "Add" or another operation of two, from left to right. */
static const char *onnx_fold(fdl_onnx *o, const plan_node *p, const char *op)
{
    if (!onnx_same_dtypes(o, p))
        return NULL;
    const char *y = onnx_name_of(o, p->in[0]);
    for (int i = 1; i < p->inputs + p->refs; i++)
        y = OP(o, op, IN(y, onnx_name_of(o, p->in[i])));
    return y;
}

static const char *onnx_sum(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_fold(o, p, "Add");
}

const node_type sum_node = {
    .onnx = onnx_sum, .numbered = true, .bare = true, .look = LOOK_SUM, .run = run_sum};

static fdl_tensor *run_mean(graph *g, const plan_node *p)
{
    fdl_tensor *sum = run_sum(g, p);
    double share = 1.0 / (p->inputs + p->refs);
    if (!sum)
        return NULL;
    if (!fdl_grad_enabled() && fdl_is_sole(sum) && fdl_dtype_is_floating(fdl_dtype_of(sum)))
        return fdl_mul_scalar_(sum, share) == FDL_OK ? sum : NULL;
    fdl_tensor *mean = fdl_mul_scalar(sum, share);
    if (sum != p->in[0] && sum != p->in[1])
        fdl_drop(sum);
    return mean;
}

static const char *onnx_mean_of(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    return OP(o, "Mul", IN(onnx_sum(o, g, p, y), onnx_number(o, 1.0 / (p->inputs + p->refs))));
}

static const node_type mean_node = {
    .onnx = onnx_mean_of, .numbered = true, .bare = true, .look = LOOK_SUM, .run = run_mean};

/* ---- other ways ---------------------------------------------------------------------------------------- */

static fdl_list operands(const plan_node *p)
{
    return (fdl_list){p->inputs + p->refs, p->in};
}

static fdl_tensor *run_cat(graph *g, const plan_node *p)
{
    (void)g;
    return fdl_cat(operands(p), ((const joining *)p->self)->dim);
}

static fdl_tensor *run_stack(graph *g, const plan_node *p)
{
    (void)g;
    return fdl_stack(operands(p), ((const joining *)p->self)->dim);
}

static fdl_tensor *fold(const graph *g, const plan_node *p, fdl_tensor *(*op)(fdl_tensor *, fdl_tensor *))
{
    fdl_tensor *y = p->in[0];
    for (int i = 1; i < p->inputs + p->refs; i++) {
        fdl_tensor *before = y;
        if (!(y = op(before, p->in[i])))
            return failed(g, p, i);
        if (before != p->in[0])
            fdl_drop(before);
    }
    return y;
}

static fdl_tensor *run_product(graph *g, const plan_node *p)
{
    return fold(g, p, fdl_mul_tensor);
}

static fdl_tensor *larger(fdl_tensor *a, fdl_tensor *b)
{
    return fdl_maximum(a, b);
}

static fdl_tensor *run_largest(graph *g, const plan_node *p)
{
    return fold(g, p, larger);
}

static fdl_tensor *run_function(graph *g, const plan_node *p)
{
    (void)g;
    fdl_tensor *y = ((const joining *)p->self)->fn(operands(p));
    if (!y)
        fdl_fail(FDL_E_NULL, "the merge's function returned NULL without an error");
    return y;
}

static const char *onnx_product(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_fold(o, p, "Mul");
}

static const char *onnx_largest(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_fold(o, p, "Max");
}

/* Along the joining's dim, which each operand of a stack gets before. */
static const char *onnx_joined(fdl_onnx *o, const plan_node *p, bool stack)
{
    int n = p->inputs + p->refs, dim = ((const joining *)p->self)->dim;
    const char **in = fdl_scope_alloc(sizeof *in * (size_t)n);
    if (!in || !onnx_same_dtypes(o, p))
        return NULL;
    for (int i = 0; i < n; i++) {
        in[i] = onnx_name_of(o, p->in[i]);
        if (stack && in[i])
            in[i] = onnx_unsqueeze(o, in[i], dim);
    }
    return onnx_one(o, "Concat", n, in, (const onnx_attr[]){A_INT("axis", dim), {0}});
}

static const char *onnx_cat(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_joined(o, p, false);
}

static const char *onnx_stack(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    return onnx_joined(o, p, true);
}

static const node_type
    cat_node = {.onnx = onnx_cat, .numbered = true, .look = LOOK_JOIN, .run = run_cat},
    stack_node = {.onnx = onnx_stack, .numbered = true, .look = LOOK_JOIN, .run = run_stack},
    product_node = {.onnx = onnx_product, .numbered = true, .look = LOOK_JOIN, .run = run_product},
    largest_node = {.onnx = onnx_largest, .numbered = true, .look = LOOK_JOIN, .run = run_largest},
    function_node = {.numbered = true, .look = LOOK_JOIN, .run = run_function};

/* NULL: there is no such kind. */
static const node_type *node_type_of(const joining *j)
{
    static const node_type *const types[] = {
        [FDL_MERGE_ADD] = &sum_node,     [FDL_MERGE_MEAN] = &mean_node,   [FDL_MERGE_CAT] = &cat_node,
        [FDL_MERGE_MUL] = &product_node, [FDL_MERGE_MAX] = &largest_node, [FDL_MERGE_STACK] = &stack_node};
    if (j->fn)
        return &function_node;
    return (unsigned)j->kind < sizeof types / sizeof *types ? types[j->kind] : NULL;
}

/* A node that joins its inputs, and its refs behind them. -1: out of memory. */
static int join_node(fdl_flow_builder *b, const joining *j, const char *kind, int inputs, void *self)
{
    int node = flow_node(b, node_type_of(j), kind, inputs);
    if (node < 0)
        return -1;
    b->g->node[node].sums = true;
    b->g->node[node].self = self;
    return node;
}

/* ---- merge --------------------------------------------------------------------------------------------- */

static fdl_status add_merge(fdl_flow_builder *b, fdl_module *step)
{
    joining *j = step->self;
    int n = b->branches;
    if (!node_type_of(j))
        return flow_fail(b, FDL_E_ARG,
                         "%d is no kind of merge; FDL_MERGE_ADD, _MEAN, _CAT, _MUL, _MAX and _STACK are",
                         (int)j->kind);
    if (!n)
        return flow_fail(b, FDL_E_ARG, "there is a single stream here; fdl_flow_split makes several");
    flow_begin_step(b);
    int node = join_node(b, j, "merge", n, j);
    if (node < 0)
        return FDL_E_OOM;
    for (int i = 0; i < n; i++)
        FDL_TRY(flow_edge(b, b->branch[i], node, i));
    b->branches = 0;
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static const step_type merge_type = {.ops = {.kind = "fdl_flow_merge", .size = sizeof(joining)},
                                     .refusal = STEP_REFUSAL("fdl_flow_merge"),
                                     .add = add_merge};

static fdl_module *merge_step(joining j)
{
    fdl_module *step = step_new(&merge_type);
    if (step)
        *(joining *)step->self = j;
    return step;
}

typedef struct merge_args {
    fdl_merge_kind kind;
    fdl_flow_merge_opts o;
} merge_args;

static const char *const merge_names[] = {"add", "mean", "cat", "mul", "max", "stack", NULL};

static fdl_module *make_flow_merge(const void *args)
{
    const merge_args *a = args;
    return fdl_flow_merge_opt(a->kind, &a->o);
}

KIND(flow_merge, .name = "flow_merge",
     ARGS(merge_args,
          {.name = "by",
           .type = FDL_FIELD_ENUM,
           .required = true,
           .offset = offsetof(merge_args, kind),
           .names = merge_names},
          FDL_OPT(merge_args, dim, OPT_INT)));

fdl_module *fdl_flow_merge_opt(fdl_merge_kind kind, const fdl_flow_merge_opts *opts)
{
    static const fdl_flow_merge_opts none = {0};
    if (!opts)
        opts = &none;
    if (fdl_opt_given(opts->dim) && kind != FDL_MERGE_CAT && kind != FDL_MERGE_STACK)
        return fdl_fail_null(FDL_E_ARG, "fdl_flow_merge: .dim is for FDL_MERGE_CAT and FDL_MERGE_STACK");
    fdl_module *step = merge_step((joining){.kind = kind, .dim = (int)fdl_opt_int(opts->dim, -1)});
    return DESCRIBED(step, flow_merge, (merge_args){kind, *opts});
}

typedef struct merge_fn_args {
    merge_fn *fn;
} merge_fn_args;

static fdl_module *make_flow_merge_fn(const void *args)
{
    return fdl_flow_merge_fn(((const merge_fn_args *)args)->fn);
}

KIND(flow_merge_fn, .name = "flow_merge_fn", ARGS(merge_fn_args, FDL_ARG(merge_fn_args, fn, FUNCTION_LIST)));

fdl_module *fdl_flow_merge_fn(fdl_tensor *(*fn)(fdl_list values))
{
    if (!fn) {
        fdl_null_operand(__func__, "fn");
        return NULL;
    }
    return DESCRIBED(merge_step((joining){.fn = fn}), flow_merge_fn, (merge_fn_args){fn});
}

/* ---- joining with the value of a tag ------------------------------------------------------------------- */

typedef struct from {
    joining j; /* first: what the node's self points to */
    char *tag;
} from;

static void free_from(void *self)
{
    free(((from *)self)->tag);
}

static fdl_status add_from(fdl_flow_builder *b, fdl_module *step)
{
    from *s = step->self;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    static const char *const kinds[] = {
        [FDL_MERGE_ADD] = "add", [FDL_MERGE_MUL] = "mul", [FDL_MERGE_CAT] = "cat"};
    int node = join_node(b, &s->j, kinds[s->j.kind], 1, &s->j);
    if (node < 0)
        return FDL_E_OOM;
    FDL_TRY(flow_edge(b, x, node, 0));
    flow_end_step(b, node, node);
    FDL_TRY(flow_target(b, node));
    return flow_use(b, node, s->tag);
}

#define FROM_TYPE(function)                                                 \
    {                                                                       \
        .ops = {.kind = function, .size = sizeof(from), .free = free_from}, \
        .refusal = STEP_REFUSAL(function), .add = add_from                  \
    }

static fdl_module *from_step(const step_type *type, const char *tag, joining j)
{
    if (!tag) {
        fdl_null_operand(type->ops.kind, "tag");
        return NULL;
    }
    fdl_module *step = step_new(type);
    if (!step)
        return NULL;
    from *s = step->self;
    s->j = j;
    if ((s->tag = strdup(tag)))
        return step;
    module_release(step);
    return fdl_fail_null(FDL_E_OOM, "%s: no memory for the name", type->ops.kind);
}

typedef struct cat_from_args {
    const char *tag;
    fdl_flow_cat_from_opts o;
} cat_from_args;

static const step_type add_from_type = FROM_TYPE("fdl_flow_add_from"),
                       mul_from_type = FROM_TYPE("fdl_flow_mul_from"),
                       cat_from_type = FROM_TYPE("fdl_flow_cat_from");

static fdl_module *make_flow_add_from(const void *args)
{
    return fdl_flow_add_from(*(const char *const *)args);
}

KIND(flow_add_from, .name = "flow_add_from",
     ARGS(const char *, {.name = "tag", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_add_from(const char *tag)
{
    fdl_module *step = from_step(&add_from_type, tag, (joining){.kind = FDL_MERGE_ADD});
    return DESCRIBED(step, flow_add_from, tag);
}

static fdl_module *make_flow_mul_from(const void *args)
{
    return fdl_flow_mul_from(*(const char *const *)args);
}

KIND(flow_mul_from, .name = "flow_mul_from",
     ARGS(const char *, {.name = "tag", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_mul_from(const char *tag)
{
    fdl_module *step = from_step(&mul_from_type, tag, (joining){.kind = FDL_MERGE_MUL});
    return DESCRIBED(step, flow_mul_from, tag);
}

static fdl_module *make_flow_cat_from(const void *args)
{
    const cat_from_args *a = args;
    return fdl_flow_cat_from_opt(a->tag, &a->o);
}

KIND(flow_cat_from, .name = "flow_cat_from",
     ARGS(cat_from_args, FDL_ARG(cat_from_args, tag, TEXT), FDL_OPT(cat_from_args, dim, OPT_INT)));

fdl_module *fdl_flow_cat_from_opt(const char *tag, const fdl_flow_cat_from_opts *opts)
{
    static const fdl_flow_cat_from_opts none = {0};
    if (!opts)
        opts = &none;
    fdl_module *step = from_step(&cat_from_type, tag,
                                 (joining){.kind = FDL_MERGE_CAT, .dim = (int)fdl_opt_int(opts->dim, -1)});
    return DESCRIBED(step, flow_cat_from, (cat_from_args){tag, *opts});
}
