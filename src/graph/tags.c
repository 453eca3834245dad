/* Values under tags: kept when their node has run, until the next forward. */
#include "graph_private.h"

void graph_drop_tags(graph *g)
{
    for (int i = 0; i < g->cells; i++) {
        fdl_free(g->cell[i]);
        g->cell[i] = NULL;
    }
}

fdl_status graph_detach_tags(graph *g)
{
    FDL_SCOPE;
    for (int i = 0; i < g->cells; i++) {
        if (!g->cell[i] || !fdl_requires_grad(g->cell[i]))
            continue;
        fdl_tensor *bare = fdl_keep(fdl_detach(g->cell[i]));
        if (!bare)
            return fdl_error_pending();
        fdl_free(g->cell[i]);
        g->cell[i] = bare;
    }
    return FDL_OK;
}

static const char *tag_at(const void *list, int i)
{
    return ((const graph_name *)list)[i].name;
}

int graph_find_tag(const char *function, const graph *g, const char *name)
{
    int i = name_find(&g->names, name);
    if (i >= 0)
        return i;
    char text[256];
    if (i < -1)
        fdl_fail(FDL_E_ARG, "%s: \"%s\" is a tag group; its members are \"%s_0\" and so on", function, name,
                 name);
    else
        fdl_fail(FDL_E_ARG, "%s: this graph has no tag \"%s\"%s", function, name,
                 closest_names(name, g->tags, tag_at, g->tag, text, sizeof text));
    return -1;
}

static fdl_tensor **cell_of(const graph *g, int i)
{
    return &g->cell[g->plan[g->node[g->tag[i].node].place].cell];
}

fdl_tensor *graph_tag_value(const graph *g, int i)
{
    return *cell_of(g, i);
}

fdl_status graph_set_tag_value(graph *g, int i, fdl_tensor *value)
{
    fdl_tensor *own = value ? fdl_keep(value) : NULL, **cell = cell_of(g, i);
    if (value && !own)
        return fdl_error_pending();
    fdl_free(*cell);
    *cell = own;
    return FDL_OK;
}

fdl_tensor *fdl_graph_tagged(fdl_module *m, const char *tag)
{
    const graph *g = graph_of(__func__, m);
    if (g && !tag)
        fdl_null_operand(__func__, "tag");
    int i = g && tag ? graph_find_tag(__func__, g, tag) : -1;
    if (i < 0)
        return NULL;
    fdl_tensor *value = graph_tag_value(g, i);
    if (!value)
        return fdl_fail_null(FDL_E_STATE, "%s: no forward has computed \"%s\" so far", __func__, tag);
    return fdl_adopt(fdl_keep(value));
}
