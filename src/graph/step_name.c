/* What names things: tag, tag_group, input, label; and using, which asks for what was named. */
#include "../nn/describe.h"
#include "../nn/onnx_private.h"
#include "graph_private.h"

/* ---- steps that are a list of names -------------------------------------------------------------------- */

typedef struct names {
    int n;
    char **at;
} names;

static void free_names(void *self)
{
    names *s = self;
    for (int i = 0; i < s->n; i++)
        free(s->at[i]);
    free(s->at);
}

/* kind has one field: fdl_texts, or one text. */
static fdl_module *names_step(const step_type *type, const fdl_kind *kind, int n, const char *const *at)
{
    for (int i = 0; i < n; i++)
        if (!at || !at[i]) {
            fdl_null_operand(type->ops.kind, "name");
            return NULL;
        }
    fdl_module *step = step_new(type);
    if (!step)
        return NULL;
    bool list = kind->fields->type == FDL_FIELD_TEXTS;
    fdl_module_describe(step, kind, list ? (const void *)&(fdl_texts){n > 0 ? n : 0, at} : at);
    if (n <= 0)
        return fdl_module_done(step);
    names *s = step->self;
    s->at = calloc((size_t)n, sizeof *s->at);
    for (; s->at && s->n < n && (s->at[s->n] = strdup(at[s->n])); s->n++)
        continue;
    if (s->n == n)
        return fdl_module_done(step);
    module_release(step);
    return fdl_fail_null(FDL_E_OOM, "%s: no memory for the names", type->ops.kind);
}

#define NAMES_TYPE(function, add_step)                                        \
    {                                                                         \
        .ops = {.kind = function, .size = sizeof(names), .free = free_names}, \
        .refusal = STEP_REFUSAL(function), .add = add_step                    \
    }

/* ---- tags ---------------------------------------------------------------------------------------------- */

const char *flow_name(fdl_flow_builder *b, const char *what, const char *name)
{
    const char *fault = name_fault(name);
    int taken = name_find(&b->names, name);
    if (fault) {
        flow_fail(b, FDL_E_ARG, "the %s \"%s\" %s", what, name, fault);
        return NULL;
    }
    if (taken != -1) {
        flow_fail(b, FDL_E_ARG, "the %s \"%s\" is already the name of a %s of this flow", what, name,
                  taken < 0 ? "tag group" : "tag or an input");
        return NULL;
    }
    return arena_text(&b->g->memory, "%s", name);
}

/* name is the arena's. */
static fdl_status put_tag(fdl_flow_builder *b, const char *name, int node)
{
    graph *g = b->g;
    graph_name *more = grown(g->tag, g->tags, &g->tag_room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    g->tag = more;
    FDL_TRY(name_put(&b->names, name, g->tags));
    g->tag[g->tags++] = (graph_name){name, node};
    int state = name_find(&b->awaited, name);
    if (state >= 0)
        g->state[state].node = node;
    if (!g->node[node].tag)
        g->node[node].tag = name;
    return FDL_OK;
}

fdl_status flow_tag(fdl_flow_builder *b, const char *name, int node)
{
    const char *own = flow_name(b, "tag", name);
    return own ? put_tag(b, own, node) : fdl_error_pending();
}

static fdl_status add_tag(fdl_flow_builder *b, fdl_module *step)
{
    const names *s = step->self;
    if (b->branches)
        return flow_fail(b, FDL_E_ARG, "\"%s\" can't name %d streams; fdl_flow_tag_group does", s->at[0],
                         b->branches);
    return flow_tag(b, s->at[0], b->tagged);
}

static const step_type tag_type = NAMES_TYPE("fdl_flow_tag", add_tag);

static fdl_module *make_flow_tag(const void *args)
{
    return fdl_flow_tag(*(const char *const *)args);
}

KIND(flow_tag, .name = "flow_tag",
     ARGS(const char *, {.name = "name", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_tag(const char *name)
{
    return names_step(&tag_type, &kind_flow_tag, 1, &name);
}

static fdl_status add_group(fdl_flow_builder *b, fdl_module *step)
{
    graph *g = b->g;
    const char *wanted = ((names *)step->self)->at[0];
    if (!b->branches)
        return flow_fail(b, FDL_E_ARG,
                         "\"%s\" names the streams between a split and its merge, here is one; "
                         "fdl_flow_tag names it",
                         wanted);
    const char *name = flow_name(b, "tag group", wanted);
    graph_group *more = name ? grown(g->group, g->groups, &g->group_room, sizeof *more) : NULL;
    if (!more)
        return fdl_error_pending();
    g->group = more;
    graph_group group = {.name = name, .n = b->branches};
    group.members = arena_alloc(&g->memory, sizeof *group.members * (size_t)group.n);
    if (!group.members)
        return FDL_E_OOM;
    for (int i = 0; i < group.n; i++) {
        char *member = arena_text(&g->memory, "%s_%d", name, i);
        if (!member || !(group.members[i] = flow_name(b, "tag", member)))
            return fdl_error_pending();
        FDL_TRY(put_tag(b, group.members[i], b->branch[i]));
    }
    FDL_TRY(name_put(&b->names, name, -2 - g->groups));
    g->group[g->groups++] = group;
    return FDL_OK;
}

static const step_type group_type = NAMES_TYPE("fdl_flow_tag_group", add_group);

static fdl_module *make_flow_tag_group(const void *args)
{
    return fdl_flow_tag_group(*(const char *const *)args);
}

KIND(flow_tag_group, .name = "flow_tag_group",
     ARGS(const char *, {.name = "name", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_tag_group(const char *name)
{
    return names_step(&group_type, &kind_flow_tag_group, 1, &name);
}

/* ---- inputs -------------------------------------------------------------------------------------------- */

static fdl_tensor *run_input(graph *g, const plan_node *p)
{
    (void)g;
    return p->in[0];
}

static const char *onnx_input(fdl_onnx *o, graph *g, const plan_node *p, fdl_tensor *y)
{
    (void)g;
    (void)p;
    return onnx_name_of(o, y);
}

static const node_type input_node = {.onnx = onnx_input, .bare = true, .run = run_input};

static fdl_status add_input(fdl_flow_builder *b, fdl_module *step)
{
    graph *g = b->g;
    const names *s = step->self;
    for (int i = 0; i < s->n; i++) {
        if (strcmp(s->at[i], "input") == 0)
            return flow_fail(b, FDL_E_ARG, "\"input\" is the name of the primary input");
        const char *name = flow_name(b, "input", s->at[i]);
        char *kind = name ? arena_text(&g->memory, "input_%s", name) : NULL;
        graph_name *more = kind ? grown(g->input, g->inputs, &g->input_room, sizeof *more) : NULL;
        if (!more)
            return fdl_error_pending();
        g->input = more;
        int node = flow_node(b, &input_node, kind, 1);
        if (node < 0)
            return FDL_E_OOM;
        FDL_TRY(put_tag(b, name, node));
        g->input[g->inputs++] = (graph_name){name, node};
    }
    return FDL_OK;
}

static const step_type input_type = NAMES_TYPE("fdl_flow_input", add_input);

static fdl_module *make_flow_input(const void *args)
{
    return fdl_flow_input_of(((const fdl_texts *)args)->n, ((const fdl_texts *)args)->at);
}

KIND(flow_input, .name = "flow_input",
     ARGS(fdl_texts, {.name = "names", .type = FDL_FIELD_TEXTS, .required = true}));

fdl_module *fdl_flow_input_of(int n, const char *const *at)
{
    return names_step(&input_type, &kind_flow_input, n, at);
}

/* ---- using --------------------------------------------------------------------------------------------- */

static bool takes_refs(const graph_node *node)
{
    const graph *child = node->taker ? graph_or_null(node->taker) : NULL;
    if (node->sums || !node->taker)
        return node->sums;
    const fdl_module_ops *ops = node->taker->ops;
    return child ? child->inputs > 1 : ops->forward_named || ops->step;
}

/* One array of names with room for another one; the arena takes nothing back, so it grows by doubling. */
static const char **more_names(graph *g, const char **before, int n, int room)
{
    const char **more = arena_alloc(&g->memory, sizeof *more * (size_t)room);
    if (more && n)
        memcpy(more, before, sizeof *more * (size_t)n);
    return more;
}

/* A port of the node for a ref; the names are the arena's. */
static fdl_status add_ref(fdl_flow_builder *b, graph_node *node, const char *name, const char *source)
{
    if (node->refs == node->ref_room) {
        int room = node->ref_room ? 2 * node->ref_room : 4;
        const char **ref_names = more_names(b->g, node->ref_names, node->refs, room),
                   **sources = more_names(b->g, node->ref_sources, node->refs, room);
        if (!ref_names || !sources)
            return FDL_E_OOM;
        node->ref_names = ref_names;
        node->ref_sources = sources;
        node->ref_room = room;
    }
    node->ref_names[node->refs] = name;
    node->ref_sources[node->refs++] = source;
    return FDL_OK;
}

/* What one name of fdl_flow_using asks for. */
typedef struct request {
    const char *name, *source; /* as the target calls it; the tag: the arena's */
    int from;                  /* the tagged node; -1: a state's */
} request;

static fdl_status check_target(fdl_flow_builder *b, const graph_node *node, const char *name)
{
    if (takes_refs(node))
        return FDL_OK;
    return flow_fail(b, FDL_E_ARG, "%s can't take \"%s\": %s%s has no %s", node->id, name, node->role,
                     fdl_module_kind(node->taker),
                     graph_or_null(node->taker) ? "further inputs (fdl_flow_input)" : "forward_named");
}

/* "mask=attention_mask" where that isn't itself a tag: the value of the tag "attention_mask", called "mask". */
static fdl_status read_request(fdl_flow_builder *b, const char *text, request *r)
{
    graph *g = b->g;
    const char *equals = name_find(&b->names, text) < 0 ? strchr(text, '=') : NULL;
    const char *source = equals ? equals + 1 : text;
    char *name = equals ? arena_text(&g->memory, "%.*s", (int)(equals - text), text) : NULL;
    if (equals && !name)
        return FDL_E_OOM;
    const char *fault = name ? name_fault(name) : NULL, *source_fault = name_fault(source);
    if (fault || source_fault)
        return flow_fail(b, FDL_E_ARG, "the name \"%s\" %s", fault ? name : source,
                         fault ? fault : source_fault);
    int tag = name_find(&b->names, source);
    if (tag < -1)
        return flow_fail(b, FDL_E_ARG, "\"%s\" is a tag group; its members are \"%s_0\" and so on", source,
                         source);
    *r = (request){.from = tag < 0 ? -1 : g->tag[tag].node,
                   .source = tag < 0 ? arena_text(&g->memory, "%s", source) : g->tag[tag].name};
    r->name = name ? name : r->source;
    if (!r->source)
        return FDL_E_OOM;
    if (r->from >= b->first && r->from < b->last)
        return flow_fail(b, FDL_E_ARG,
                         "\"%s\" is what this very step makes; fdl_flow_using before the tag "
                         "gives it the value of the call before",
                         source);
    return FDL_OK;
}

static fdl_status give(fdl_flow_builder *b, int target, const request *r)
{
    graph *g = b->g;
    const graph_node *node = &g->node[target];
    FDL_TRY(check_target(b, node, r->name));
    for (int i = 0; i < node->refs; i++) {
        if (strcmp(node->ref_names[i], r->name) != 0)
            continue;
        if (i < node->own_refs)
            return flow_fail(b, FDL_E_ARG, "%s gets \"%s\" from its own step; %s", node->id, r->name,
                             node->own_hint);
        if (strcmp(node->ref_sources[i], r->source) == 0)
            return FDL_OK;
        return flow_fail(b, FDL_E_ARG, "%s gets two values as \"%s\": those of \"%s\" and \"%s\"", node->id,
                         r->name, node->ref_sources[i], r->source);
    }
    int from = r->from < 0 ? flow_state_reader(b, r->source) : r->from;
    if (from < 0)
        return FDL_E_OOM;
    graph_node *taking = &g->node[target]; /* a reader may have moved it */
    FDL_TRY(flow_edge(b, from, target, taking->inputs + taking->refs));
    return add_ref(b, taking, r->name, r->source);
}

fdl_status flow_ref(fdl_flow_builder *b, int target, const char *name, int from, const char *hint)
{
    graph_node *node = &b->g->node[target];
    FDL_TRY(check_target(b, node, name));
    FDL_TRY(flow_edge(b, from, target, node->inputs + node->refs));
    node->own_refs++;
    node->own_hint = hint;
    return add_ref(b, node, name, name);
}

fdl_status flow_use(fdl_flow_builder *b, int node, const char *name)
{
    request r = {0};
    FDL_TRY(read_request(b, name, &r));
    return give(b, node, &r);
}

static fdl_status add_using(fdl_flow_builder *b, fdl_module *step)
{
    const names *s = step->self;
    if (s->n && !b->targets)
        return flow_fail(b, FDL_E_ARG, "no step stands before it that \"%s\" could go to", s->at[0]);
    for (int t = 0; t < b->targets; t++)
        for (int i = 0; i < s->n; i++)
            FDL_TRY(flow_use(b, b->target[t], s->at[i]));
    return FDL_OK;
}

static const step_type using_type = NAMES_TYPE("fdl_flow_using", add_using);

static fdl_module *make_flow_using(const void *args)
{
    return fdl_flow_using_of(((const fdl_texts *)args)->n, ((const fdl_texts *)args)->at);
}

KIND(flow_using, .name = "flow_using",
     ARGS(fdl_texts, {.name = "names", .type = FDL_FIELD_TEXTS, .required = true}));

fdl_module *fdl_flow_using_of(int n, const char *const *at)
{
    return names_step(&using_type, &kind_flow_using, n, at);
}

/* ---- label --------------------------------------------------------------------------------------------- */

static fdl_status add_label(fdl_flow_builder *b, fdl_module *step)
{
    const char *name = ((names *)step->self)->at[0], *fault = name_fault(name);
    if (fault)
        return flow_fail(b, FDL_E_ARG, "the label \"%s\" %s", name, fault);
    if (b->g->label && strcmp(b->g->label, name) != 0)
        return flow_fail(b, FDL_E_ARG, "\"%s\" is a second label; the flow's first one is \"%s\"", name,
                         b->g->label);
    b->g->label = arena_text(&b->g->memory, "%s", name);
    return b->g->label ? FDL_OK : FDL_E_OOM;
}

static const step_type label_type = {
    .ops = {.kind = "fdl_flow_label", .size = sizeof(names), .free = free_names},
    .refusal = STEP_REFUSAL("fdl_flow_label"),
    .before_entry = true,
    .add = add_label};

static fdl_module *make_flow_label(const void *args)
{
    return fdl_flow_label(*(const char *const *)args);
}

KIND(flow_label, .name = "flow_label",
     ARGS(const char *, {.name = "name", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_label(const char *name)
{
    return names_step(&label_type, &kind_flow_label, 1, &name);
}

/* ---- internal, verbose --------------------------------------------------------------------------------- */

static fdl_status add_internal(fdl_flow_builder *b, fdl_module *step)
{
    graph *g = b->g;
    graph_name *more = grown(g->internal, g->internals, &g->internal_room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    g->internal = more;
    const char *name = arena_text(&g->memory, "%s", ((names *)step->self)->at[0]);
    if (!name)
        return FDL_E_OOM;
    g->internal[g->internals++] = (graph_name){name, b->at}; /* the tag may come later: tree_check looks */
    return FDL_OK;
}

static const step_type internal_type = {
    .ops = {.kind = "fdl_flow_internal", .size = sizeof(names), .free = free_names},
    .refusal = STEP_REFUSAL("fdl_flow_internal"),
    .before_entry = true,
    .add = add_internal};

static fdl_module *make_flow_internal(const void *args)
{
    return fdl_flow_internal(*(const char *const *)args);
}

KIND(flow_internal, .name = "flow_internal",
     ARGS(const char *, {.name = "tag", .type = FDL_FIELD_TEXT, .required = true}));

fdl_module *fdl_flow_internal(const char *tag)
{
    return names_step(&internal_type, &kind_flow_internal, 1, &tag);
}

static fdl_status add_verbose(fdl_flow_builder *b, fdl_module *step)
{
    (void)step;
    b->g->verbose = true;
    return FDL_OK;
}

static const step_type verbose_type = {.ops = {.kind = "fdl_flow_verbose"},
                                       .refusal = STEP_REFUSAL("fdl_flow_verbose"),
                                       .before_entry = true,
                                       .add = add_verbose};

static fdl_module *make_flow_verbose(const void *args)
{
    (void)args;
    return fdl_flow_verbose();
}

KIND(flow_verbose, .name = "flow_verbose");

fdl_module *fdl_flow_verbose(void)
{
    return described(step_new(&verbose_type), &kind_flow_verbose, NULL);
}
