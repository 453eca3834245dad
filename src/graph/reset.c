/* Which modules a loop resets before it begins. */
#include "graph_private.h"

static fdl_status note(fdl_module *m, void *ctx)
{
    reset_list *list = ctx;
    const graph *inner = graph_or_null(m);
    if (!m->ops->reset || (inner && !inner->states))
        return FDL_OK;
    fdl_module **more = grown(list->at, list->n, &list->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    list->at = more;
    list->at[list->n++] = m;
    return FDL_OK;
}

fdl_status reset_trees(reset_list *list, int n, fdl_module *const *trees)
{
    uint64_t changes = module_changes();
    if (FDL_UNLIKELY(list->changes != changes)) {
        list->n = 0;
        list->changes = 0;
        for (int i = 0; i < n; i++)
            if (trees[i])
                FDL_TRY(fdl_module_walk(trees[i], note, list));
        list->changes = changes;
    }
    for (int i = 0; i < list->n; i++)
        list->at[i]->ops->reset(list->at[i]->self);
    return FDL_OK;
}
