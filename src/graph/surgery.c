/* Other modules in the place of some: by path, by pattern. */
#include "flodl/surgery.h"
#include "flodl/patterns.h"
#include "flodl/tree.h"
#include "graph_private.h"
#include "stock.h"

/* A place where a module stands. */
typedef struct spot {
    graph *in;
    int node;           /* of `in`, in which it lies */
    fdl_module *parent; /* the real module whose child it is; NULL: it is the node's own */
    int k;              /* which child */
    fdl_module *child;  /* the real one */
    fdl_module *made;   /* the handle that takes the place, then the one that it took it of */
    const char *old_id; /* of the node, when it got another */
} spot;

typedef struct search {
    const char *wanted; /* a path, or with `pattern` a pattern */
    bool pattern;
    const char *kind; /* NULL: any */
    uint64_t walk;
    int n, room;
    spot *at;
} search;

/* ---- finding ------------------------------------------------------------------------------------------- */

static bool fits(const search *s, const char *name)
{
    return name && (s->pattern ? fdl_pattern_matches(s->wanted, name) : strcmp(s->wanted, name) == 0);
}

/* NULL when path is: there is no such way. */
static const char *joined(const char *path, const char *name)
{
    if (!path || !name)
        return path;
    size_t n = strlen(path) + strlen(name) + 2;
    char *both = fdl_scope_alloc(n);
    if (both)
        snprintf(both, n, "%s%s%s", path, *path ? "." : "", name);
    return both;
}

static bool tag_fits(const search *s, const graph *g, int node, const char *path)
{
    for (int i = 0; path && i < g->tags; i++)
        if (g->tag[i].node == node && (!*path || !graph_tag_is_internal(g, i)) &&
            fits(s, joined(path, g->tag[i].name)))
            return true;
    return false;
}

static fdl_status note(search *s, spot found)
{
    if (step_type_of(found.child) || (s->kind && strcmp(s->kind, fdl_module_kind(found.child)) != 0))
        return FDL_OK;
    spot *more = grown(s->at, s->n, &s->room, sizeof *more);
    if (!more)
        return FDL_E_OOM;
    s->at = more;
    s->at[s->n++] = found;
    return FDL_OK;
}

/* What lies in m, which has the canonical path `path`. tree: the path by labels of the graph that m is or lies in; NULL: there is
 * none. below: the pattern has matched on the way. */
static fdl_status descend(search *s, fdl_module *m, spot here, const char *path, const char *tree, bool below)
{
    graph *g = graph_or_null(m);
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        module_part part = module_part_at(m, i);
        if (!part.module)
            continue;
        fdl_module *child = part.module->real;
        const graph *inner = graph_or_null(child);
        if (g) {
            here.in = g;
            here.node = g->plan[g->part[i]].node;
        }
        here.parent = g ? NULL : m;
        here.k = i;
        here.child = child;
        const char *name = joined(path, part.name), *label = inner ? inner->label : NULL;
        const char *by_label = label ? joined(tree, label) : NULL;
        bool matched = below || fits(s, name) || fits(s, by_label);
        if (g && !matched)
            matched = fits(s, joined(tree, part.name)) || tag_fits(s, g, here.node, path) ||
                      tag_fits(s, g, here.node, tree);
        if (matched)
            FDL_TRY(note(s, here));
        if (child->seen == s->walk || lora_base(child)) /* an adapter and its layer are one */
            continue;
        child->seen = s->walk;
        FDL_TRY(descend(s, child, here, name, inner ? by_label : tree, s->pattern && matched));
    }
    return FDL_OK;
}

static fdl_status find(search *s, fdl_module *root)
{
    s->walk = module_new_walk();
    return descend(s, root->real, (spot){0}, "", "", false);
}

/* ---- exchanging ---------------------------------------------------------------------------------------- */

static fdl_module **among_children(fdl_module *m, const fdl_module *child)
{
    for (int k = 0; k < m->children.n; k++)
        if (m->children.at[k]->real == child)
            return &m->children.at[k];
    return NULL;
}

/* Where the handle is kept. NULL: with nobody (the identity that a flow puts in front by itself). */
static fdl_module **handle_at(const spot *p)
{
    if (p->parent)
        return &p->parent->children.at[p->k];
    const graph *g = p->in;
    for (int i = 0, at = 0; i < g->owned; i++) {
        fdl_module *step = g->own[i]->real;
        if (step->kind == &entry_kind)
            continue;
        if (at++ == g->node[p->node].at)
            return step == p->child ? &g->own[i] : among_children(step, p->child);
    }
    return NULL;
}

/* The place of ref i of a node among its slots, where m takes them; -1: m doesn't take it. */
static int slot_of(const graph_node *node, int i, fdl_module *m)
{
    const graph *child = graph_or_null(m);
    const fdl_module_ops *ops = m->real->ops;
    const char *const *names = ops->ref_names;
    if (!child && !ops->forward_named && !ops->step)
        return -1;
    if (!child) {
        for (int k = 0; names && names[k]; k++)
            if (strcmp(names[k], node->ref_names[i]) == 0)
                return 1 + i;
        return names ? -1 : 1 + i;
    }
    for (int k = 1; k < child->inputs; k++)
        if (strcmp(child->input[k].name, node->ref_names[i]) == 0)
            return k;
    return -1;
}

/* Whether m can take the place of `old`, which gets the node's refs. */
static fdl_status check_taker(const graph_node *node, fdl_module *old, fdl_module *m)
{
    const graph *child = graph_or_null(m);
    if (child && child->inputs - 1 > node->refs)
        return fdl_fail(FDL_E_ARG, "at %s nothing is wired to the input \"%s\" of the new graph", node->id,
                        child->input[node->refs + 1].name);
    for (int i = 0; i < node->refs; i++) {
        int slot = slot_of(node, i, m);
        if (slot < 0)
            return fdl_fail(FDL_E_ARG, "at %s \"%s\" is wired, which the new %s doesn't take", node->id,
                            node->ref_names[i], fdl_module_kind(m));
        if (slot != slot_of(node, i, old))
            return fdl_fail(FDL_E_UNSUPPORTED, "the new %s takes the inputs of %s in another order",
                            fdl_module_kind(m), node->id);
    }
    return FDL_OK;
}

static fdl_status check_spot(const spot *p, fdl_module *m)
{
    const graph_node *node = &p->in->node[p->node];
    const graph *child = graph_or_null(m);
    if (!handle_at(p))
        return fdl_fail(FDL_E_ARG, "%s stands in front because the flow begins with a step; it stays",
                        node->id);
    if (node->taker == p->child)
        return check_taker(node, p->child, m);
    if (p->parent && !step_type_of(p->parent))
        return FDL_OK; /* its own business */
    return child && child->inputs > 1
               ? fdl_fail(FDL_E_ARG, "the new graph has the input \"%s\", but gets one value at %s",
                          child->input[1].name, node->id)
               : FDL_OK;
}

/* A module of a user's own keeps the handle of its child in its self. */
static void patch_self(fdl_module *m, fdl_module *old, fdl_module *made)
{
    char *self = m->self;
    for (size_t i = 0; i + sizeof old <= m->ops->size; i += sizeof old) {
        fdl_module *held;
        memcpy(&held, self + i, sizeof held);
        if (held == old)
            memcpy(self + i, &made, sizeof made);
    }
}

/* The id of a node tells its kind. */
static fdl_status rename_node(spot *p, const fdl_module *m)
{
    graph *g = p->in;
    graph_node *node = &g->node[p->node];
    const char *id = arena_text(&g->memory, "%s%s", m->ops->kind, strrchr(node->id, '_'));
    if (!id)
        return FDL_E_OOM;
    int tag = name_find(&g->names, id);
    if (tag >= 0 && g->tag[tag].node != p->node)
        return fdl_fail(FDL_E_ARG, "the new id \"%s\" is a tag of another node", id);
    p->old_id = node->id;
    node->id = id;
    return FDL_OK;
}

/* Puts p->made in, and notes the handle that was there in its place. */
static void exchange(spot *p)
{
    fdl_module **at = handle_at(p), *old = *at, *made = p->made;
    graph *g = p->in;
    *at = made;
    made->owned = true;
    p->made = old;
    p->child = made->real;
    if (p->parent && !step_type_of(p->parent))
        patch_self(p->parent, old, made);
    for (int k = 0; k < g->nodes; k++) {
        graph_node *node = &g->node[k];
        bool own = !p->parent && k == p->node;
        if (own)
            node->module = g->plan[node->place].module = made->real;
        if ((own || node->module == p->parent) && node->taker == old->real)
            node->taker = made->real;
    }
}

static fdl_status forget_hash(fdl_module *m, void *ctx)
{
    (void)ctx;
    m->version++;
    graph *g = graph_or_null(m);
    if (g)
        g->hash[0] = g->short_hash[0] = g->legacy_hash[0] = 0;
    return FDL_OK;
}

static fdl_status put_in(search *s)
{
    for (int i = 0; i < s->n; i++)
        FDL_TRY(check_spot(&s->at[i], s->at[i].made));
    for (int i = 0; i < s->n; i++)
        if (!s->at[i].parent)
            FDL_TRY(rename_node(&s->at[i], s->at[i].made->real));
    int done = 0;
    fdl_status status = FDL_OK;
    for (; status == FDL_OK && done < s->n; done++) {
        exchange(&s->at[done]);
        status = tree_find(s->at[done].in, &(int){0});
    }
    if (status == FDL_OK)
        return FDL_OK;
    while (done-- > 0) {
        exchange(&s->at[done]);
        fdl_status again = tree_find(s->at[done].in, &(int){0});
        (void)again; /* as it was before, but for memory */
    }
    return status;
}

/* Puts all `made` in, or nothing, and frees what isn't needed then. */
static fdl_status operate(search *s, fdl_module *root)
{
    fdl_status status = put_in(s);
    for (int i = 0; i < s->n; i++) {
        spot *p = &s->at[i];
        if (status != FDL_OK && p->old_id)
            p->in->node[p->node].id = p->old_id;
        module_release(p->made);
    }
    module_changed();
    return status == FDL_OK ? fdl_module_walk(root, forget_hash, NULL) : status;
}

/* ---- by path ------------------------------------------------------------------------------------------- */

static fdl_status not_found(fdl_module *m, const char *path)
{
    graph_place there;
    FDL_TRY(graph_resolve("fdl_graph_replace", m, path, &there));
    return fdl_fail(FDL_E_ARG, "fdl_graph_replace: at \"%s\" stands no module of its own", path);
}

fdl_status fdl_graph_replace(fdl_module *g, const char *path, fdl_module *m)
{
    FDL_SCOPE;
    bool clean = fdl_error_pending() == FDL_OK;
    if (!m || !graph_of(__func__, g) || !path) {
        if (m && !m->owned)
            module_release(m);
        return !m || (g && !path) ? fdl_null_operand(__func__, m ? "path" : "m") : fdl_error_pending();
    }
    FDL_TRY(module_take(m, __func__));
    search s = {.wanted = path};
    fdl_status status =
        module_refusal(m) ? fdl_fail(FDL_E_ARG, "%s: %s", __func__, module_refusal(m)) : find(&s, g);
    if (status == FDL_OK && !s.n)
        status = not_found(g, path);
    int made = 0;
    for (; status == FDL_OK && made < s.n; made++)
        if (!(s.at[made].made = fdl_module_share(m)))
            status = FDL_E_OOM;
    if (status == FDL_OK) {
        status = operate(&s, g);
        if (status != FDL_OK && clean)
            fdl_error_prefix("%s: \"%s\": ", __func__, path);
    } else {
        for (int i = 0; i < made; i++)
            module_release(s.at[i].made);
    }
    module_release(m); /* this handle; those in the graph hold the module */
    free(s.at);
    return status;
}

/* ---- by pattern ---------------------------------------------------------------------------------------- */

/* A module that stands in several places gets one adapter. */
static fdl_status make_adapters(search *s, fdl_module *(*make)(fdl_module *m, void *ctx), void *ctx)
{
    for (int i = 0; i < s->n; i++) {
        spot *p = &s->at[i];
        for (int k = 0; k < i && !p->made; k++)
            if (s->at[k].child == p->child && !(p->made = fdl_module_share(s->at[k].made)))
                return FDL_E_OOM;
        fdl_module *m = p->made ? NULL : fdl_module_share(p->child);
        if (!p->made && !m)
            return FDL_E_OOM;
        bool training = fdl_is_training(p->child);
        if (m && !(p->made = make(m, ctx)))
            return fdl_fail(FDL_E_NULL, "fdl_graph_adapt: make returned NULL without an error");
        if (m && p->made->real != p->child)
            module_set_training(p->made, training);
        if (p->made->owned)
            return fdl_fail(FDL_E_STATE, "fdl_graph_adapt: make returned a %s that has an owner",
                            fdl_module_kind(p->made));
    }
    return FDL_OK;
}

int fdl_graph_adapt_opt(fdl_module *g, const char *pattern, fdl_module *(*make)(fdl_module *m, void *ctx),
                        void *ctx, const fdl_graph_adapt_opts *opts)
{
    FDL_SCOPE;
    if (!graph_of("fdl_graph_adapt", g) || !make) {
        if (g && !make)
            fdl_null_operand("fdl_graph_adapt", "make");
        return -1;
    }
    search s = {.wanted = pattern ? pattern : "**", .pattern = true, .kind = opts ? opts->kind : NULL};
    if (!s.kind)
        s.kind = "linear";
    fdl_status status = find(&s, g);
    if (status == FDL_OK && !s.n)
        status = fdl_fail(FDL_E_ARG, "fdl_graph_adapt: at or below \"%s\" stands no %s", s.wanted, s.kind);
    if (status == FDL_OK)
        status = make_adapters(&s, make, ctx);
    if (status == FDL_OK)
        status = operate(&s, g);
    else
        for (int i = 0; i < s.n; i++)
            module_release(s.at[i].made);
    free(s.at);
    return status == FDL_OK ? s.n : -1;
}

typedef struct lora_of {
    int64_t rank;
    const fdl_nn_lora_opts *opts;
} lora_of;

static fdl_module *add_lora(fdl_module *m, void *ctx)
{
    const lora_of *l = ctx;
    return fdl_nn_lora_opt(m, l->rank, l->opts);
}

int fdl_graph_lora_opt(fdl_module *g, const char *pattern, int64_t rank, const fdl_nn_lora_opts *opts)
{
    return fdl_graph_adapt_opt(g, pattern, add_lora, &(lora_of){rank, opts}, NULL);
}

static fdl_module *fold(fdl_module *m, void *ctx)
{
    (void)ctx;
    fdl_module *layer =
        fdl_nn_lora_fold(m) == FDL_OK ? fdl_module_share(fdl_module_child_at(m, 0, NULL)) : NULL;
    module_release(m);
    return layer;
}

int fdl_graph_fold_lora(fdl_module *g, const char *pattern)
{
    return fdl_graph_adapt_opt(g, pattern, fold, NULL, &(fdl_graph_adapt_opts){.kind = "lora"});
}
