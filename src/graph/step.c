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
