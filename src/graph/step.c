/* Steps as modules: handles that only a flow understands. */
#include "graph_private.h"

static const char *refusal(fdl_module *m)
{
    return ((const step_type *)m->ops)->refusal;
}

static const module_table step_table = {.refusal = refusal};

fdl_module *step_new(const step_type *type)
{
    return module_new_with(&type->ops, &step_table);
}

const step_type *step_type_of(fdl_module *m)
{
    return m->real->table == &step_table ? (const step_type *)m->real->ops : NULL;
}

fdl_module *step_child(fdl_module *step, const char *name, fdl_module *m)
{
    if (step && !m)
        fdl_null_operand(fdl_module_kind(step), name);
    return fdl_module_child(step, name, m);
}

fdl_module *step_of_parts(const step_type *type, const char *first, fdl_module *m, const char *name, int n,
                          fdl_module *const *parts)
{
    fdl_module *step = step_new(type);
    step_child(step, first, m);
    if (n > 0 && !parts) {
        fdl_null_operand(type->ops.kind, name);
        module_release(step);
        return NULL;
    }
    for (int i = 0; i < n; i++) {
        char numbered[32];
        snprintf(numbered, sizeof numbered, "%s_%d", name, i);
        step_child(step, numbered, parts[i]);
    }
    return step;
}
