/* Several outputs, and runs that come only as far as some tags need. */
#include "../nn/describe.h"
#include "graph_private.h"

/* ---- the step ------------------------------------------------------------------------------------------ */

typedef struct outputs {
    int n;
    char **at;
} outputs;

static void free_outputs(void *self)
{
    outputs *s = self;
    for (int i = 0; i < s->n; i++)
        free(s->at[i]);
    free(s->at);
}

static fdl_status add_output(fdl_flow_builder *b, fdl_module *step)
{
    graph *g = b->g;
    const outputs *s = step->self;
    for (int i = 0; i < s->n; i++) {
        const char *fault = name_fault(s->at[i]);
        if (fault)
            return flow_fail(b, FDL_E_ARG, "the name \"%s\" %s", s->at[i], fault);
        for (int k = 0; k < g->outputs; k++)
            if (strcmp(g->further[k].name, s->at[i]) == 0)
                return flow_fail(b, FDL_E_ARG, "\"%s\" is an output already", s->at[i]);
        graph_name *more = grown(g->further, g->outputs, &g->output_room, sizeof *more);
        const char *name = more ? arena_text(&g->memory, "%s", s->at[i]) : NULL;
        if (more)
            g->further = more;
        if (!name)
            return FDL_E_OOM;
        g->further[g->outputs++] = (graph_name){name, b->at};
    }
    return FDL_OK;
}

static const step_type output_type = {
    .ops = {.kind = "fdl_flow_output", .size = sizeof(outputs), .free = free_outputs},
    .refusal = STEP_REFUSAL("fdl_flow_output"),
    .before_entry = true,
    .add = add_output};

static fdl_module *make_flow_output(const void *args)
{
    const fdl_texts *a = args;
    return fdl_flow_output_of(a->n, a->at);
}

KIND(flow_output, .name = "flow_output",
     ARGS(fdl_texts, {.name = "names", .type = FDL_FIELD_TEXTS, .required = true}));

fdl_module *fdl_flow_output_of(int n, const char *const *tags)
{
    for (int i = 0; i < n; i++)
        if (!tags || !tags[i]) {
            fdl_null_operand("fdl_flow_output", "tag");
            return NULL;
        }
    fdl_module *step = step_new(&output_type);
    if (!step)
        return NULL;
    outputs *s = step->self;
    s->at = calloc((size_t)n + 1, sizeof *s->at);
    for (; s->at && s->n < n && (s->at[s->n] = strdup(tags[s->n])); s->n++)
        continue;
    if (!s->at || s->n < n) {
        module_release(step);
        return fdl_fail_null(FDL_E_OOM, "fdl_flow_output: no memory for the names");
    }
    return DESCRIBED(step, flow_output, (fdl_texts){n, tags});
}

fdl_status check_outputs(fdl_flow_builder *b)
{
    graph *g = b->g;
    for (int i = 0; i < g->outputs; i++) {
        int tag = name_find(&b->names, g->further[i].name);
        b->at = g->further[i].node;
        b->kind = "fdl_flow_output";
        if (tag < 0)
            return flow_fail(b, FDL_E_ARG, "no step has the tag \"%s\"", g->further[i].name);
        g->further[i].node = tag;
    }
    return FDL_OK;
}

/* ---- asking -------------------------------------------------------------------------------------------- */

int fdl_graph_output_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? 1 + g->outputs : -1;
}

const char *fdl_graph_output_name(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    if (!g || !graph_within(__func__, i, 1 + g->outputs, "output"))
        return NULL;
    return i ? g->further[i - 1].name : "output";
}

/* Aliases of the values under tags, behind y where there is one. */
static fdl_list results(const graph *g, fdl_tensor *y, int n, const int *tags, const graph_name *names)
{
    int first = y != NULL;
    fdl_list list = {first + n, fdl_scope_alloc(sizeof *list.at * (size_t)(first + n + 1))};
    if (!list.at)
        return (fdl_list){0, NULL};
    if (y)
        list.at[0] = y;
    for (int i = 0; i < n; i++)
        if (!(list.at[first + i] = fdl_adopt(fdl_keep(graph_tag_value(g, tags ? tags[i] : names[i].node)))))
            return (fdl_list){0, NULL};
    return list;
}

fdl_list fdl_forward_multi(fdl_module *m, fdl_list inputs)
{
    const fdl_list none = {0, NULL};
    const graph *g = graph_of(__func__, m);
    fdl_tensor *y = g ? fdl_forward_list(m, inputs) : NULL;
    return y ? results(g, y, g->outputs, NULL, g->further) : none;
}

/* ---- as far as tags need ------------------------------------------------------------------------------- */

/* Marks the nodes that lead to those that are marked. */
static void mark_needed(graph *g)
{
    for (int p = g->nodes - 1; p >= 0; p--)
        for (int i = 0; g->needed[p] && i < g->plan[p].inputs + g->plan[p].refs; i++) {
            int from = g->source[g->plan[p].slot + i];
            if (from >= 0)
                g->needed[from] = true;
        }
}

static fdl_status check_inputs(const graph *g, fdl_list inputs)
{
    if (!inputs.at || inputs.n != g->inputs)
        return fdl_fail(FDL_E_ARG, "fdl_graph_run_to: %d inputs for a graph that takes %d", inputs.n,
                        g->inputs);
    for (int i = 0; i < inputs.n; i++)
        if (!inputs.at[i] && g->needed[g->node[g->input[i].node].place])
            return fdl_fail(FDL_E_NULL, "fdl_graph_run_to: input \"%s\" is NULL", g->input[i].name);
    return FDL_OK;
}

static fdl_status run_to(graph *g, fdl_module *m, fdl_list inputs, int n, const int *tags)
{
    if (!g->needed && !(g->needed = arena_alloc(&g->memory, sizeof *g->needed * (size_t)g->nodes)))
        return FDL_E_OOM;
    memset(g->needed, 0, sizeof *g->needed * (size_t)g->nodes);
    for (int i = 0; i < n; i++)
        g->needed[g->node[g->tag[tags[i]].node].place] = true;
    mark_needed(g);
    FDL_TRY(check_inputs(g, inputs));
    FDL_SCOPE;
    return graph_run_needed(m, inputs.at);
}

fdl_list fdl_graph_run_to_of(fdl_module *m, fdl_list inputs, int n, const char *const *tags)
{
    const fdl_list none = {0, NULL};
    graph *g = graph_of("fdl_graph_run_to", m);
    int *found = g ? fdl_scope_alloc(sizeof *found * (size_t)(n > 0 ? n : 1)) : NULL;
    if (!found)
        return none;
    for (int i = 0; i < n; i++) {
        if (!tags || !tags[i]) {
            fdl_null_operand("fdl_graph_run_to", "tag");
            return none;
        }
        if ((found[i] = graph_find_tag("fdl_graph_run_to", g, tags[i])) < 0)
            return none;
    }
    return run_to(g, m, inputs, n, found) == FDL_OK ? results(g, NULL, n, found, NULL) : none;
}
