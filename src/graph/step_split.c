/* Split and merge, and the node that adds: of also and of merge. */
#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "graph_private.h"

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

static const char *onnx_sum(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)y;
    const char *sum = onnx_name_of(o, p->in[0]);
    for (int i = 1; i < p->inputs + p->refs; i++)
        sum = OP(o, "Add", IN(sum, onnx_name_of(o, p->in[i])));
    return sum;
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

/* ---- split --------------------------------------------------------------------------------------------- */

static fdl_status add_split(fdl_flow_builder *b, fdl_module *step)
{
    int n = step->children.n;
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (n < 2)
        return flow_fail(b, FDL_E_ARG, "needs 2 modules or more, got %d", n);
    flow_begin_step(b);
    for (int i = 0; i < n; i++) {
        int *more = grown(b->branch, i, &b->branch_room, sizeof *more);
        if (!more)
            return FDL_E_OOM;
        b->branch = more;
        if ((b->branch[i] = flow_module(b, step->children.at[i], x)) < 0)
            return FDL_E_OOM;
        FDL_TRY(flow_target(b, b->branch[i]));
    }
    b->branches = n;
    flow_end_step(b, x, -1);
    return FDL_OK;
}

static const step_type split_type = {
    .ops = {.kind = "fdl_flow_split"}, .refusal = STEP_REFUSAL("fdl_flow_split"), .add = add_split};

typedef struct split_args {
    fdl_modules branches;
} split_args;

static fdl_module *make_flow_split(const void *args)
{
    const split_args *a = args;
    return fdl_flow_split_of(a->branches.n, a->branches.at);
}

KIND(flow_split, .name = "flow_split", ARGS(split_args, CHILDREN_ARG(split_args, branches, "branch")));

fdl_module *fdl_flow_split_of(int n, fdl_module *const *branches)
{
    if (n > 0 && !branches) {
        fdl_null_operand("fdl_flow_split", "branches");
        return NULL;
    }
    fdl_module *step = step_new(&split_type);
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "branch_%d", i);
        step_child(step, name, branches[i]);
    }
    return DESCRIBED(step, flow_split, (split_args){{0}});
}

/* ---- merge --------------------------------------------------------------------------------------------- */

typedef struct merge {
    fdl_merge_kind kind;
} merge;

static fdl_status add_merge(fdl_flow_builder *b, fdl_module *step)
{
    const merge *s = step->self;
    int n = b->branches;
    if (s->kind != FDL_MERGE_ADD && s->kind != FDL_MERGE_MEAN)
        return flow_fail(b, FDL_E_ARG, "%d is no kind of merge; FDL_MERGE_ADD, FDL_MERGE_MEAN are",
                         (int)s->kind);
    if (!n)
        return flow_fail(b, FDL_E_ARG, "there is a single stream here; fdl_flow_split makes several");
    flow_begin_step(b);
    int node = flow_node(b, s->kind == FDL_MERGE_ADD ? &sum_node : &mean_node, "merge", n);
    if (node < 0)
        return FDL_E_OOM;
    b->g->node[node].sums = true;
    for (int i = 0; i < n; i++)
        FDL_TRY(flow_edge(b, b->branch[i], node, i));
    b->branches = 0;
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

static const step_type merge_type = {.ops = {.kind = "fdl_flow_merge", .size = sizeof(merge)},
                                     .refusal = STEP_REFUSAL("fdl_flow_merge"),
                                     .add = add_merge};

static const char *const merge_names[] = {"add", "mean", NULL};

static fdl_module *make_flow_merge(const void *args)
{
    return fdl_flow_merge(((const merge *)args)->kind);
}

KIND(flow_merge, .name = "flow_merge",
     ARGS(merge, {.name = "by",
                  .type = FDL_FIELD_ENUM,
                  .required = true,
                  .offset = offsetof(merge, kind),
                  .names = merge_names}));

fdl_module *fdl_flow_merge(fdl_merge_kind kind)
{
    fdl_module *step = step_new(&merge_type);
    if (step)
        ((merge *)step->self)->kind = kind;
    return DESCRIBED(step, flow_merge, (merge){kind});
}
