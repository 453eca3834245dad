/* Switches: a selector says which of several branches runs. */
#include "../nn/describe.h"
#include "flodl/index.h"
#include "flodl/shape.h"
#include "rows.h"

typedef struct switch_step {
    int n;
    fdl_flow_switch_opts o; /* its names are the description's */
} switch_step;

/* The place that the one element of idx says, or -1. */
static int choice_of(const graph *g, fdl_tensor *idx, int n)
{
    char text[256];
    if (fdl_numel(idx) != 1) {
        fdl_fail(FDL_E_SHAPE, "the selector gives %s; it must give one element, the branch",
                 fdl_describe(idx, text, sizeof text));
        return -1;
    }
    FDL_NO_GRAD;
    double v = fdl_item(idx);
    if (v != v && g->prefix && fdl_error_pending() != FDL_OK)
        return -1;
    if (!(v >= 0 && v < n)) { /* NaN, too */
        fdl_fail(FDL_E_RANGE, "the selector gives %g; there are %d branches, 0 to %d", v, n, n - 1);
        return -1;
    }
    return (int)v;
}

/* Each row of x takes a branch of its own. */
static fdl_tensor *run_rows(const graph *g, const plan_node *p, fdl_tensor *idx)
{
    const switch_step *s = p->self;
    fdl_module *const *branches = p->module->children.at + 1;
    fdl_tensor *x = p->in[0];
    int64_t rows = fdl_ndim(x) > 0 ? fdl_size(x, 0) : -1;
    if (rows < 0 || fdl_numel(idx) != rows || fdl_ndim(idx) < 1 || fdl_size(idx, 0) != rows) {
        char is[256], was[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "the selector gives %s for rows of %s; it must give one element a row",
                             fdl_describe(idx, is, sizeof is), fdl_describe(x, was, sizeof was));
    }
    row_groups groups;
    fdl_status status = rows ? rows_group(fdl_reshape(idx, FDL_SHAPE(-1)), s->n, &groups) : FDL_OK;
    if (status != FDL_OK) {
        if (g->prefix)
            fdl_error_prefix("selector: ");
        return NULL;
    }
    for (int i = 0; i < s->n; i++)
        if (rows ? groups.count[i] == rows : i == 0) /* all of them */
            return rows_run_one(g, branches[i], x, "branch", i);
    fdl_tensor *sorted = fdl_index_select(x, 0, groups.order);
    fdl_tensor *y = sorted ? rows_run(g, branches, &groups, sorted, "branch") : NULL;
    return y ? fdl_index_select(y, 0, groups.back) : NULL;
}

static fdl_tensor *run_switch(graph *g, const plan_node *p)
{
    const switch_step *s = p->self;
    fdl_module *const *parts = p->module->children.at;
    fdl_tensor *idx = graph_call(parts[0]->real, p);
    int choice = -1;
    bool published = idx && graph_publish_one(g, p->node, s->o.trace_choice, idx) == FDL_OK;
    if (published && s->o.per_row)
        return run_rows(g, p, idx);
    if (published)
        choice = choice_of(g, idx, s->n);
    if (choice < 0) {
        if (g->prefix)
            fdl_error_prefix("selector: ");
        return NULL;
    }
    fdl_drop(idx);
    fdl_tensor *y = module_run(parts[choice + 1]->real, 1, p->in);
    if (!y && g->prefix)
        fdl_error_prefix("branch %d: ", choice);
    return y;
}

static const node_type switch_node = {.hashed_kind = "module", .look = LOOK_CHOICE, .run = run_switch};

static fdl_status add_switch(fdl_flow_builder *b, fdl_module *step)
{
    const switch_step *s = step->self;
    if (s->n < 2)
        return flow_fail(b, FDL_E_ARG, "needs 2 branches or more, got %d", s->n);
    for (int i = 0; i < s->n; i++) {
        char what[32];
        snprintf(what, sizeof what, "branch %d", i);
        FDL_TRY(flow_takes_one(b, step, i + 1, what));
    }
    int node = flow_control(b, step, &switch_node, "switch", 0, "its selector ");
    return node < 0 ? fdl_error_pending() : flow_publishes(b, node, ".trace_choice", s->o.trace_choice);
}

static const step_type switch_type = {.ops = {.kind = "fdl_flow_switch", .size = sizeof(switch_step)},
                                      .refusal = STEP_REFUSAL("fdl_flow_switch"),
                                      .add = add_switch};

typedef struct switch_args {
    fdl_module *selector;
    fdl_modules branches;
    fdl_flow_switch_opts o;
} switch_args;

static fdl_module *make_flow_switch(const void *args)
{
    const switch_args *a = args;
    return fdl_flow_switch_opt(a->selector, a->branches.n, a->branches.at, &a->o);
}

KIND(flow_switch, .name = "flow_switch",
     ARGS(switch_args, FDL_ARG(switch_args, selector, MODULE), CHILDREN_ARG(switch_args, branches, "branch"),
          FDL_OPT(switch_args, per_row, BOOL), FDL_OPT(switch_args, trace_choice, TEXT)));

fdl_module *fdl_flow_switch_opt(fdl_module *selector, int n, fdl_module *const *branches,
                                const fdl_flow_switch_opts *opts)
{
    const switch_args args = {.o = opts ? *opts : (fdl_flow_switch_opts){0}};
    fdl_module *step = described(step_of_parts(&switch_type, "selector", selector, "branch", n, branches),
                                 &kind_flow_switch, &args);
    switch_step *s = step ? step->self : NULL;
    if (s)
        *s = (switch_step){n, ((const switch_args *)step->args)->o};
    return step;
}
