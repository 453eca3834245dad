/* State: what a node gave in one call, for steps before it in the next. A slot holds one value; readers are nodes without
 * inputs, the writer is the node with the tag. */
#include "flodl/autograd.h"
#include "flodl/observe.h"
#include "graph_private.h"

/* ---- building ------------------------------------------------------------------------------------------ */

static int state_of(fdl_flow_builder *b, const char *name)
{
    graph *g = b->g;
    int i = name_find(&b->awaited, name);
    if (i >= 0)
        return i;
    graph_state *more = grown(g->state, g->states, &g->state_room, sizeof *more);
    if (!more)
        return -1;
    g->state = more;
    g->state[g->states] = (graph_state){.name = name, .node = -1, .at = b->at, .kind = b->kind};
    return name_put(&b->awaited, name, g->states) == FDL_OK ? g->states++ : -1;
}

int flow_state_reader(fdl_flow_builder *b, const char *name)
{
    int state = state_of(b, name);
    char *kind = state < 0 ? NULL : arena_text(&b->g->memory, "state_read_%s", name);
    int node = kind ? flow_node(b, &state_node, kind, 0) : -1;
    if (node >= 0)
        b->g->node[node].state = state;
    return node;
}

/* ---- running ------------------------------------------------------------------------------------------- */

/* A handle of the call's own: a commit frees the slot's. */
static fdl_tensor *run_reader(graph *g, const plan_node *p)
{
    (void)g;
    const module_slot *s = p->self;
    fdl_tensor *t = s->value ? s->value : s->initial;
    return t ? fdl_adopt(fdl_keep(t)) : NULL;
}

const node_type state_node = {.bare = true, .look = LOOK_STATE, .run = run_reader};

static bool reads_state(const graph *g, const plan_node *n, int i)
{
    int from = g->source[n->slot + i];
    return from >= 0 && g->plan[from].type == &state_node;
}

fdl_tensor *graph_run_with_state(graph *g, const plan_node *n)
{
    bool empty = false;
    for (int i = n->inputs; i < n->inputs + n->refs; i++) {
        bool zeros = !n->in[i] && reads_state(g, n, i);
        g->initial[n->slot + i] = zeros;
        if (zeros && !(n->in[i] = fdl_zeros_like(n->in[0])))
            return NULL;
        empty = empty || zeros;
    }
    fdl_tensor *y = graph_run_node(g, n);
    for (int i = n->inputs; empty && i < n->inputs + n->refs; i++)
        if (g->initial[n->slot + i] && n->in[i] != y)
            fdl_drop(n->in[i]);
    return y;
}

void graph_blame_state(const graph *g, const plan_node *n)
{
    for (int i = n->inputs; i < n->inputs + n->refs; i++) {
        fdl_tensor *state = reads_state(g, n, i) ? g->value[g->source[n->slot + i]] : NULL;
        if (!state || fdl_shape_eq(fdl_shape_of(state), fdl_shape_of(n->in[0])))
            continue;
        char is[256], was[256];
        fdl_error_prefix("its state \"%s\" is of an earlier call, %s, where the input is %s "
                         "(fdl_graph_reset_state starts afresh): ",
                         g->state[g->node[g->plan[g->source[n->slot + i]].node].state].name,
                         fdl_describe(state, was, sizeof was), fdl_describe(n->in[0], is, sizeof is));
    }
}

static bool is_input(const graph *g, fdl_tensor *t)
{
    for (int i = 0; i < g->inputs; i++)
        if (fdl_is(g->slot[g->input_slot[i]], t))
            return true;
    return false;
}

/* What the caller has handed in may be written to later, as memory of batches is. */
static fdl_tensor *staged(const graph *g, const graph_state *s)
{
    fdl_tensor *t = g->cell[g->plan[g->node[s->node].place].cell];
    return fdl_keep(is_input(g, t) ? fdl_clone(t) : t);
}

fdl_status graph_commit_state(graph *g)
{
    FDL_SCOPE;
    for (int i = 0; i < g->states; i++)
        if (!(g->staged[i] = staged(g, &g->state[i]))) {
            while (i-- > 0)
                fdl_free(g->staged[i]);
            return fdl_error_pending();
        }
    for (int i = 0; i < g->states; i++) {
        fdl_free(g->carried[i].value);
        g->carried[i].value = g->staged[i];
    }
    return FDL_OK;
}

void graph_drop_state(graph *g)
{
    for (int i = 0; i < g->states; i++) {
        fdl_free(g->carried[i].value);
        g->carried[i].value = NULL;
    }
}

fdl_status graph_detach_state(graph *g)
{
    FDL_SCOPE;
    for (int i = 0; i < g->states; i++)
        if (g->carried[i].value && fdl_requires_grad(g->carried[i].value))
            FDL_TRY(module_keep(&g->carried[i].value, fdl_detach(g->carried[i].value)));
    return FDL_OK;
}

/* ---- asking and setting -------------------------------------------------------------------------------- */

bool fdl_graph_has_state(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g && g->states;
}

int fdl_graph_state_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->states : -1;
}

const char *fdl_graph_state_name(fdl_module *m, int i)
{
    const graph *g = graph_of(__func__, m);
    return g && graph_within(__func__, i, g->states, "state") ? g->state[i].name : NULL;
}

static const char *state_at(const void *list, int i)
{
    return ((const graph_state *)list)[i].name;
}

static module_slot *find_slot(const char *function, fdl_module *m, const char *name)
{
    graph *g = graph_of(function, m);
    if (g && !name)
        fdl_null_operand(function, "name");
    if (!g || !name)
        return NULL;
    for (int i = 0; i < g->states; i++)
        if (strcmp(g->state[i].name, name) == 0)
            return &g->carried[i];
    char text[256];
    return fdl_fail_null(FDL_E_ARG, "%s: this graph has no state \"%s\"%s", function, name,
                         closest_names(name, g->states, state_at, g->state, text, sizeof text));
}

fdl_tensor *fdl_graph_state_get(fdl_module *m, const char *name)
{
    const module_slot *s = find_slot(__func__, m, name);
    if (!s)
        return NULL;
    if (!s->value)
        return fdl_fail_null(FDL_E_STATE, "%s: the state \"%s\" is empty", __func__, name);
    /* the place is written to later */
    return s->place && fdl_is(s->value, s->place) ? fdl_clone(s->value) : fdl_adopt(fdl_keep(s->value));
}

fdl_status fdl_graph_state_set(fdl_module *m, const char *name, fdl_tensor *value)
{
    module_slot *s = find_slot(__func__, m, name);
    return s ? module_keep(&s->value, value) : fdl_error_pending();
}

fdl_status fdl_graph_state_initial(fdl_module *m, const char *name, fdl_tensor *value)
{
    module_slot *s = find_slot(__func__, m, name);
    return s ? module_keep(&s->initial, value) : fdl_error_pending();
}

/* ---- the rhythm of training ---------------------------------------------------------------------------- */

fdl_status fdl_graph_reset_state(fdl_module *m)
{
    return graph_of(__func__, m) ? fdl_module_reset(m) : fdl_error_pending();
}

fdl_status fdl_graph_detach_state(fdl_module *m)
{
    bool before = fdl_error_pending() != FDL_OK;
    if (!graph_of(__func__, m))
        return fdl_error_pending();
    FDL_TRY(fdl_module_detach_state(m));
    return before ? FDL_OK : fdl_error_pending();
}

fdl_status fdl_graph_end_step(fdl_module *m)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    FDL_TRY(fdl_graph_detach_state(m));
    FDL_TRY(graph_profiler_end_step(g));
    g->steps++;
    return FDL_OK;
}

fdl_status fdl_graph_end_sequence(fdl_module *m)
{
    return graph_of(__func__, m) ? fdl_module_reset(m) : fdl_error_pending();
}

fdl_status fdl_graph_end_epoch(fdl_module *m)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    FDL_TRY(fdl_graph_flush_of(m, 0, NULL));
    FDL_TRY(graph_profiler_end_epoch(m));
    g->epochs++;
    return FDL_OK;
}

int64_t fdl_graph_step_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->steps : -1;
}

int64_t fdl_graph_epoch_count(fdl_module *m)
{
    const graph *g = graph_of(__func__, m);
    return g ? g->epochs : -1;
}
