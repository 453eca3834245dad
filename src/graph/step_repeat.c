/* Chains of modules of one making, each with its own parameters. */
#include "../nn/describe.h"
#include "graph_private.h"

static fdl_status add_repeat(fdl_flow_builder *b, fdl_module *step)
{
    int x = flow_single(b);
    if (x < 0)
        return FDL_E_ARG;
    if (step->children.n < 1)
        return flow_fail(b, FDL_E_ARG, "needs 1 module or more, got 0");
    flow_begin_step(b);
    for (int i = 0; i < step->children.n; i++) {
        if ((x = flow_module(b, step->children.at[i], x)) < 0)
            return FDL_E_OOM;
        FDL_TRY(flow_target(b, x));
    }
    flow_end_step(b, x, x);
    return FDL_OK;
}

static const step_type repeat_type = {
    .ops = {.kind = "fdl_flow_repeat"}, .refusal = STEP_REFUSAL("fdl_flow_repeat"), .add = add_repeat};

typedef struct repeat_args {
    fdl_modules modules;
} repeat_args;

static void add_one(fdl_module *step, int i, fdl_module *m)
{
    char name[32];
    snprintf(name, sizeof name, "m_%d", i);
    step_child(step, name, m);
}

extern const fdl_kind kind_flow_repeat;

static fdl_module *make_flow_repeat(const void *args)
{
    const repeat_args *a = args;
    fdl_module *step = step_new(&repeat_type);
    for (int i = 0; i < a->modules.n; i++)
        add_one(step, i, a->modules.at[i]);
    return DESCRIBED(step, flow_repeat, (repeat_args){{0}});
}

KIND(flow_repeat, .name = "flow_repeat", ARGS(repeat_args, CHILDREN_ARG(repeat_args, modules, "m")));

fdl_module *fdl_flow_repeat(int n, fdl_module *(*make)(int i, void *ctx), void *ctx)
{
    if (!make) {
        fdl_null_operand(__func__, "make");
        return NULL;
    }
    fdl_module *step = step_new(&repeat_type);
    for (int i = 0; step && i < n; i++)
        add_one(step, i, make(i, ctx));
    return DESCRIBED(step, flow_repeat, (repeat_args){{0}});
}
