/* Split: several modules get the stream, and there are as many streams until a merge. */
#include "../nn/describe.h"
#include "graph_private.h"

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
