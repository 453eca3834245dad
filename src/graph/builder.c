/* Building a graph step by step: the stream, nodes, edges, and errors with the position of their step. */
#include "flodl/nn.h"
#include "graph_private.h"
#include "stock.h"

#include <stdarg.h>

/* ---- errors -------------------------------------------------------------------------------------------- */

fdl_status flow_fail(fdl_flow_builder *b, fdl_status status, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return b->kind ? fdl_fail(status, "fdl_flow: step %d (%s): %s", b->at, b->kind, text)
                   : fdl_fail(status, "fdl_flow: %s", text);
}

/* ---- nodes and edges ----------------------------------------------------------------------------------- */

int flow_node(fdl_flow_builder *b, const node_type *type, const char *kind, int inputs)
{
    graph *g = b->g;
    graph_node *more = grown(g->node, g->nodes, &g->node_room, sizeof *more);
    if (!more)
        return -1;
    g->node = more;
    const char *id = arena_text(&g->memory, "%s_%d", kind, g->first_id + g->nodes + 1);
    const char *sequential = arena_text(&g->memory, "%d", b->steps ? b->steps - 1 : 0);
    if (!id || !sequential)
        return -1;
    g->node[g->nodes] = (graph_node){.type = type,
                                     .id = id,
                                     .sequential = sequential,
                                     .inputs = inputs,
                                     .state = -1,
                                     .at = b->at,
                                     .kind = b->kind};
    return g->nodes++;
}

fdl_status flow_edge(fdl_flow_builder *b, int from, int to, int port)
{
    graph *g = b->g;
    graph_edge *more = grown(g->edge, g->edges, &g->edge_room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    g->edge = more;
    g->edge[g->edges++] = (graph_edge){from, to, port};
    return FDL_OK;
}

static fdl_status own(graph *g, fdl_module *m)
{
    fdl_module **more = grown(g->own, g->owned, &g->owned_room, sizeof *more);
    if (!more) {
        module_release(m);
        return FDL_E_OOM;
    }
    g->own = more;
    g->own[g->owned++] = m;
    return FDL_OK;
}

int flow_module(fdl_flow_builder *b, fdl_module *m, int x)
{
    int node = flow_node(b, &module_node, fdl_module_kind(m), 1);
    if (node < 0)
        return -1;
    b->g->node[node].module = b->g->node[node].taker = m->real;
    b->g->node[node].role = "";
    return x < 0 || flow_edge(b, x, node, 0) == FDL_OK ? node : -1;
}

/* ---- the stream ---------------------------------------------------------------------------------------- */

/* The first node, which gets the graph's input. */
static fdl_status enter(fdl_flow_builder *b, fdl_module *m)
{
    graph *g = b->g;
    graph_name *inputs = grown(g->input, g->inputs, &g->input_room, sizeof *inputs);
    if (!inputs)
        return FDL_E_OOM;
    g->input = inputs;
    int node = flow_module(b, m, -1);
    if (node < 0)
        return FDL_E_OOM;
    g->input[g->inputs++] = (graph_name){"input", node};
    b->stream = b->tagged = node;
    return FDL_OK;
}

static fdl_status enter_identity(fdl_flow_builder *b)
{
    fdl_module *m = fdl_nn_identity();
    if (!m)
        return fdl_error_pending();
    m->owned = true;
    fdl_module_describe(m, &entry_kind, NULL);
    FDL_TRY(own(b->g, m));
    return enter(b, m);
}

int flow_single(fdl_flow_builder *b)
{
    if (b->branches) {
        flow_fail(b, FDL_E_ARG, "%d streams are open here; fdl_flow_merge them first", b->branches);
        return -1;
    }
    return b->stream;
}

void flow_begin_step(fdl_flow_builder *b)
{
    b->steps++;
    b->first = b->last = b->g->nodes;
    b->targets = 0;
}

void flow_end_step(fdl_flow_builder *b, int stream, int tagged)
{
    b->last = b->g->nodes;
    b->stream = stream;
    b->tagged = tagged;
}

fdl_status flow_target(fdl_flow_builder *b, int node)
{
    int *more = grown(b->target, b->targets, &b->target_room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    b->target = more;
    b->target[b->targets++] = node;
    return FDL_OK;
}

fdl_status flow_add_module(fdl_flow_builder *b, fdl_module *m)
{
    int x = -1;
    if (b->g->nodes && (x = flow_single(b)) < 0)
        return FDL_E_ARG;
    flow_begin_step(b);
    int node;
    if (x < 0) {
        FDL_TRY(enter(b, m));
        node = b->stream;
    } else if ((node = flow_module(b, m, x)) < 0) {
        return FDL_E_OOM;
    }
    flow_end_step(b, node, node);
    return flow_target(b, node);
}

/* ---- adding steps -------------------------------------------------------------------------------------- */

fdl_flow_builder *fdl_flow_new(void)
{
    fdl_flow_builder *b = calloc(1, sizeof *b);
    fdl_module *m = graph_new();
    if (!b || !m) {
        free(b);
        module_release(m);
        return fdl_fail_null(FDL_E_OOM, "fdl_flow: no memory for a graph");
    }
    b->module = m;
    b->g = m->self;
    return b;
}

/* The step is taken over already. */
static fdl_status add_step(fdl_flow_builder *b, fdl_module *step)
{
    FDL_TRY(own(b->g, step));
    const step_type *type = step_type_of(step);
    if (!type)
        return flow_add_module(b, step);
    if (step != step->real)
        return flow_fail(b, FDL_E_ARG, "a step can't be shared, only the modules in it can");
    if (!b->g->nodes && !type->before_entry)
        FDL_TRY(enter_identity(b));
    return type->add(b, step);
}

static fdl_status take_step(fdl_flow_builder *b, fdl_module *step)
{
    if (!step)
        return fdl_fail(FDL_E_NULL, "fdl_flow: step %d is NULL", b->at);
    b->kind = fdl_module_kind(step);
    bool before = fdl_error_pending() != FDL_OK;
    fdl_status status = module_take(step, "fdl_flow");
    if (status != FDL_OK && !before)
        fdl_error_prefix("step %d: ", b->at);
    return status == FDL_OK ? add_step(b, step) : status;
}

static void discard(fdl_module *step)
{
    if (step && !step->owned)
        module_release(step);
}

fdl_status fdl_flow_add(fdl_flow_builder *b, fdl_module *step)
{
    if (!b) {
        discard(step);
        return fdl_null_operand(__func__, "b");
    }
    if (b->failed != FDL_OK) {
        discard(step);
        b->at++;
        return b->failed;
    }
    fdl_status status = take_step(b, step);
    if (status != FDL_OK) {
        b->failed = status;
        b->failed_at = b->at;
    }
    b->at++;
    return status;
}

static fdl_status finish(fdl_flow_builder *b)
{
    graph *g = b->g;
    b->kind = NULL;
    if (b->failed != FDL_OK)
        return fdl_fail(b->failed, "fdl_flow: step %d failed", b->failed_at);
    if (b->branches)
        return flow_fail(b, FDL_E_ARG, "%d streams are open at the end; fdl_flow_merge them before it",
                         b->branches);
    if (!g->nodes)
        FDL_TRY(enter_identity(b));
    g->output = b->stream;
    FDL_TRY(flow_check(b));
    g->names = b->names;
    b->names = (name_map){0};
    FDL_TRY(graph_plan(g));
    return g->verbose ? tree_announce(b->module) : FDL_OK;
}

fdl_module *fdl_flow_build(fdl_flow_builder *b)
{
    if (!b) {
        fdl_null_operand(__func__, "b");
        return NULL;
    }
    fdl_module *m = b->module;
    if (finish(b) != FDL_OK) {
        module_release(m);
        m = NULL;
    }
    free(b->branch);
    free(b->target);
    name_free(&b->awaited);
    name_free(&b->published);
    name_free(&b->names);
    free(b);
    return m;
}

fdl_module *fdl_flow_of(int n, fdl_module *const *steps)
{
    if (n > 0 && !steps) {
        fdl_null_operand("fdl_flow", "steps");
        return NULL;
    }
    fdl_flow_builder *b = fdl_flow_new();
    for (int i = 0; i < n; i++)
        if (b)
            fdl_flow_add(b, steps[i]);
        else
            discard(steps[i]);
    return b ? fdl_flow_build(b) : NULL;
}
