/* Copies of modules with weights of their own. */
#include "flodl/inplace.h"
#include "flodl/random.h"
#include "flodl/surgery.h"
#include "rebuild.h"

/* From what was met to what it became, by address. */
typedef struct pairs {
    int n, room; /* a power of two */
    struct pair {
        const void *from; /* NULL: free */
        void *to;
    } * at;
} pairs;

static struct pair *place_of(const pairs *p, const void *from)
{
    size_t k = ((uintptr_t)from >> 4) & (size_t)(p->room - 1);
    while (p->at[k].from && p->at[k].from != from)
        k = (k + 1) & (size_t)(p->room - 1);
    return &p->at[k];
}

static void *find(const pairs *p, const void *from)
{
    return p->n ? place_of(p, from)->to : NULL;
}

static fdl_status put(pairs *p, const void *from, void *to)
{
    if (2 * (p->n + 1) > p->room) {
        pairs more = {.n = p->n, .room = p->room ? 2 * p->room : 64};
        more.at = calloc((size_t)more.room, sizeof *more.at);
        if (!more.at)
            return fdl_fail(FDL_E_OOM, "no memory for a copy");
        for (int i = 0; i < p->room; i++)
            if (p->at[i].from)
                *place_of(&more, p->at[i].from) = p->at[i];
        free(p->at);
        *p = more;
    }
    *place_of(p, from) = (struct pair){from, to};
    p->n++;
    return FDL_OK;
}

typedef struct cloning {
    pairs modules, tensors; /* real modules; identities, to leaves of the copy */
} cloning;

/* ---- values -------------------------------------------------------------------------------------------- */

static fdl_status copy_leaf(cloning *c, const struct fdl_param *from, struct fdl_param *to)
{
    fdl_tensor *met = find(&c->tensors, fdl_identity(from->t));
    if (met)
        return fdl_object_set(to->t, met);
    fdl_tensor *values = fdl_clone(fdl_detach(from->t));
    bool trains = fdl_requires_grad(from->t);
    if (!values)
        return fdl_error_pending();
    if (fdl_dtype_is_floating(fdl_dtype_of(to->t)))
        FDL_TRY(fdl_requires_grad_(to->t, false));
    FDL_TRY(fdl_set_data_(to->t, values));
    if (trains)
        FDL_TRY(fdl_requires_grad_(to->t, true));
    return put(&c->tensors, fdl_identity(from->t), to->t);
}

static fdl_status copy_list(cloning *c, const fdl_module *m, const param_list *from, const param_list *to)
{
    bool same = from->n == to->n;
    for (int i = 0; same && i < from->n; i++)
        same = strcmp(from->at[i]->name, to->at[i]->name) == 0 &&
               fdl_shape_eq(fdl_shape_of(from->at[i]->t), fdl_shape_of(to->at[i]->t));
    if (!same)
        return fdl_fail(FDL_E_STATE,
                        "a %s made again with what it says it was made with has other parameters or buffers",
                        m->ops->kind);
    for (int i = 0; i < from->n; i++)
        FDL_TRY(copy_leaf(c, from->at[i], to->at[i]));
    return FDL_OK;
}

/* ---- modules ------------------------------------------------------------------------------------------- */

static fdl_module *clone_child(fdl_module *m, void *ctx);

/* What is computed in m is in its copy, in the order in which it came about; values follow later. */
static fdl_status compute_again(cloning *c, const module_computed *of, fdl_module *copy)
{
    if (!of)
        return FDL_OK;
    FDL_TRY(compute_again(c, of->next, copy));
    if (of->mask)
        return module_prune(copy, of->p->name);
    int n = module_parametrizations(of);
    fdl_module **by = fdl_scope_alloc(sizeof *by * (size_t)n);
    if (!by)
        return fdl_error_pending();
    for (int i = 0; i < n; i++)
        if (!(by[i] = clone_child(module_parametrization_at(of, i), c))) {
            while (i-- > 0)
                module_release(by[i]);
            return fdl_error_pending();
        }
    return module_parametrize("fdl_module_clone", copy, of->p->name, n, by);
}

/* Children that the constructor made itself: they aren't in any description. */
static fdl_status pair_children(cloning *c, fdl_module *m, fdl_module *copy)
{
    int n = m->children.n < copy->children.n ? m->children.n : copy->children.n;
    for (int k = 0; k < n; k++) {
        fdl_module *from = m->children.at[k]->real, *to = copy->children.at[k]->real;
        if (find(&c->modules, from))
            continue;
        FDL_TRY(put(&c->modules, from, to));
        module_set_training(to, from->training);
        FDL_TRY(pair_children(c, from, to));
    }
    return FDL_OK;
}

static fdl_module *clone_graph(cloning *c, const graph *g)
{
    fdl_flow_builder *b = fdl_flow_new();
    if (!b)
        return NULL;
    b->g->first_id = g->first_id;
    fdl_status status = replay(b, g, 0, graph_steps(g), clone_child, c);
    if (status != FDL_OK)
        b->failed = status;
    fdl_module *copy = fdl_flow_build(b);
    if (copy && fdl_graph_set_source_config(copy, g->source_config) != FDL_OK) {
        module_release(copy);
        return NULL;
    }
    return copy;
}

/* A handle on the copy of m: the first one made, another one later. */
static fdl_module *clone_child(fdl_module *m, void *ctx)
{
    cloning *c = ctx;
    m = m->real;
    fdl_module *met = find(&c->modules, m);
    if (met)
        return fdl_module_share(met);
    const graph *g = graph_or_null(m);
    fdl_module *copy = g ? clone_graph(c, g) : module_remake(m, clone_child, c);
    if (!copy)
        return NULL;
    if (put(&c->modules, m, copy) != FDL_OK || pair_children(c, m, copy) != FDL_OK) {
        module_release(copy);
        return NULL;
    }
    module_set_training(copy, m->training);
    return copy;
}

/* When all are made, since a constructor may copy a child that it was given. What is computed brings modules of its own. */
static fdl_status compute_all(cloning *c)
{
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < c->modules.room && !more; i++) {
            fdl_module *m = (fdl_module *)(uintptr_t)c->modules.at[i].from, *copy = c->modules.at[i].to;
            more = m && m->computed && !copy->computed;
            if (!more)
                continue;
            FDL_TRY(compute_again(c, m->computed, copy));
            FDL_TRY(pair_children(c, m, copy));
        }
    }
    return FDL_OK;
}

/* When all are made: a constructor may freeze its children. */
static fdl_status copy_values(cloning *c)
{
    for (int i = 0; i < c->modules.room; i++) {
        const fdl_module *m = c->modules.at[i].from, *copy = c->modules.at[i].to;
        if (!m)
            continue;
        FDL_TRY(copy_list(c, m, &m->params, &copy->params));
        FDL_TRY(copy_list(c, m, &m->buffers, &copy->buffers));
    }
    return FDL_OK;
}

fdl_module *fdl_module_clone(fdl_module *m)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    FDL_SCOPE;
    FDL_NO_GRAD;
    bool before = fdl_error_pending() != FDL_OK;
    fdl_device device = fdl_default_device();
    fdl_tensor *cpu = fdl_rng_state(FDL_CPU), *other = fdl_rng_state(device);
    cloning c = {0};
    fdl_module *copy = cpu && other ? clone_child(m, &c) : NULL;
    if (copy && (compute_all(&c) != FDL_OK || copy_values(&c) != FDL_OK)) {
        module_release(copy);
        copy = NULL;
    }
    free(c.modules.at);
    free(c.tensors.at);
    if (cpu && other && !before && !copy)
        fdl_error_prefix("fdl_module_clone: ");
    if (cpu && other && fdl_set_rng_state(FDL_CPU, cpu) == FDL_OK &&
        fdl_set_rng_state(device, other) == FDL_OK)
        return copy;
    module_release(copy);
    return NULL;
}
