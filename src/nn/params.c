/* Parameters and buffers of a tree, with their canonical and flat names. */
#include "flodl/index.h"
#include "flodl/inplace.h"
#include "flodl/shape.h"
#include "module_private.h"

#include <fnmatch.h>

typedef struct entry {
    struct fdl_param *p;
    const char *name, *leaf;
    int parts;
    fdl_module *owner;
} entry;

struct fdl_params {
    int n;
    entry *at;
};

static fdl_status no_memory(void)
{
    return fdl_fail(FDL_E_OOM, "no memory for a list of parameters");
}

/* ---- a set of tensors, so that each is listed once ------------------------------------------------------- */

typedef struct identities {
    const void **slot; /* open addressing; room is a power of two */
    size_t room, n;
} identities;

static size_t place(const identities *set, const void *identity)
{
    size_t k = ((uintptr_t)identity >> 4) & (set->room - 1);
    while (set->slot[k] && set->slot[k] != identity)
        k = (k + 1) & (set->room - 1);
    return k;
}

static fdl_status meet(identities *set, fdl_tensor *t, bool *first)
{
    if (2 * (set->n + 1) > set->room) {
        identities more = {.room = set->room ? 2 * set->room : 64, .n = set->n};
        more.slot = calloc(more.room, sizeof *more.slot);
        if (!more.slot)
            return no_memory();
        for (size_t i = 0; i < set->room; i++)
            if (set->slot[i])
                more.slot[place(&more, set->slot[i])] = set->slot[i];
        free(set->slot);
        *set = more;
    }
    const void *identity = fdl_identity(t);
    size_t k = place(set, identity);
    *first = !set->slot[k];
    if (*first) {
        set->slot[k] = identity;
        set->n++;
    }
    return FDL_OK;
}

/* ---- collecting ------------------------------------------------------------------------------------------ */

/* A canonical name is the pieces of the path joined by ".", with "/" in place of "." behind the innermost node of a
 * graph. A flat name is the outermost node's flat piece, "/" and the leaf, with an index where a leaf of that name occurs
 * more than once below the node. */
typedef struct path {
    module_part part;
    const struct path *outer;
} path;

typedef struct found {
    struct fdl_param *p;
    char *name;
    const char *leaf; /* the parameter's own, or the legacy view's */
    int parts;
    int top; /* the outermost part below which it lies */
    fdl_module *owner;
} found;

typedef struct collection {
    fdl_parameters_opts opts;
    bool buffers, trainable_only, computed;
    fdl_module *root;
    uint64_t walk;
    identities met;
    fdl_module *owner; /* whose tensors are being listed */
    int n, room, top;
    found *at;
} collection;

static char *name_of(const path *p, const char *leaf, bool sequential)
{
    size_t length = strlen(leaf);
    for (const path *q = p; q; q = q->outer) {
        const char *piece = sequential ? q->part.sequential : q->part.name;
        length += piece ? strlen(piece) + 1 : 0;
    }
    char *name = malloc(length + 1);
    if (!name)
        return NULL;
    char *end = name + length - strlen(leaf);
    memcpy(end, leaf, strlen(leaf) + 1);
    bool slash = false;
    for (; p; p = p->outer) {
        const char *piece = sequential ? p->part.sequential : p->part.name;
        char separator = p->part.node && !slash && !sequential ? '/' : '.';
        slash |= p->part.node;
        if (!piece)
            continue;
        *--end = separator;
        end -= strlen(piece);
        memcpy(end, piece, strlen(piece));
    }
    return name;
}

/* One entry: p under the leaf name, one of so many parts. */
static fdl_status list_as(collection *c, struct fdl_param *p, const path *where, const char *leaf, int parts)
{
    if (c->n == c->room) {
        int room = c->room ? 2 * c->room : 64;
        found *more = realloc(c->at, sizeof *more * (size_t)room);
        if (!more)
            return no_memory();
        c->at = more;
        c->room = room;
    }
    const path *outermost = where;
    while (outermost && outermost->outer)
        outermost = outermost->outer;
    char *name;
    if (c->opts.flat && outermost && outermost->part.node) {
        path flat = {.part = {.name = outermost->part.flat, .node = true}};
        name = name_of(&flat, leaf, false);
    } else {
        name = name_of(where, leaf, c->opts.sequential);
    }
    if (!name)
        return no_memory();
    c->at[c->n++] = (found){p, name, leaf, parts, c->top, c->owner};
    return FDL_OK;
}

static fdl_status add(collection *c, fdl_module *m, struct fdl_param *p, const path *where)
{
    bool first;
    FDL_TRY(meet(&c->met, p->t, &first));
    if (!first && !c->opts.every)
        return FDL_OK;
    if (!c->opts.legacy)
        return list_as(c, p, where, p->name, 1);
    fdl_module *outer = !where || where->part.node ? NULL
                        : where->outer             ? where->outer->part.module
                                                   : c->root;
    legacy_leaf leaf =
        module_legacy_leaf(m, p->name, outer ? fdl_module_kind(outer) : "", outer ? where->part.name : NULL);
    size_t child = outer ? strlen(where->part.name) : 0;
    if (child && leaf.parts && strncmp(leaf.names[0], where->part.name, child) == 0 &&
        leaf.names[0][child] == '.')
        where = where->outer; /* the old name has the child's in it */
    for (int i = 0; i < leaf.parts; i++)
        FDL_TRY(list_as(c, p, where, leaf.names[i], leaf.parts));
    return FDL_OK;
}

/* In the order in which they were registered. */
static fdl_status add_computed(collection *c, const module_computed *of, const path *where)
{
    if (!of)
        return FDL_OK;
    FDL_TRY(add_computed(c, of->next, where));
    return list_as(c, of->p, where, of->p->name, 1);
}

static fdl_status collect(collection *c, fdl_module *m, const path *where)
{
    m = m->real;
    if (m->seen == c->walk && !c->opts.every)
        return FDL_OK;
    m->seen = c->walk;
    c->owner = m;
    const param_list *list = c->buffers ? &m->buffers : &m->params;
    if (c->computed)
        FDL_TRY(add_computed(c, m->computed, where));
    for (int i = 0; !c->computed && i < list->n; i++)
        if (!list->at[i]->transient || c->opts.transient)
            FDL_TRY(add(c, m, list->at[i], where));
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        path here = {.part = module_part_at(m, i), .outer = where};
        if (!where)
            c->top = i;
        if (here.part.module)
            FDL_TRY(collect(c, here.part.module, &here));
    }
    return FDL_OK;
}

static fdl_status index_flat_names(collection *c)
{
    for (int from = 0, to; from < c->n; from = to) {
        for (to = from + 1; to < c->n && c->at[to].top == c->at[from].top;)
            to++;
        for (int i = from; i < to; i++) {
            int count = 0, before = 0;
            for (int k = from; k < to; k++)
                if (strcmp(c->at[k].leaf, c->at[i].leaf) == 0) {
                    count++;
                    before += k < i;
                }
            if (count == 1)
                continue;
            size_t size = strlen(c->at[i].name) + 16;
            char *name = malloc(size);
            if (!name)
                return no_memory();
            snprintf(name, size, "%s_%d", c->at[i].name, before);
            free(c->at[i].name);
            c->at[i].name = name;
        }
    }
    return FDL_OK;
}

static fdl_params *list_of(int n)
{
    fdl_params *ps = fdl_scope_alloc(sizeof *ps);
    entry *at = fdl_scope_alloc(sizeof *at * (size_t)(n ? n : 1));
    if (!ps || !at)
        return NULL;
    ps->at = at;
    return ps;
}

static const char *name_found(const void *list, int i)
{
    return ((const found *)list)[i].name;
}

/* A pattern that fits no name is taken for a slip: frozen tensors and those of other dims count as fitted. Where there are no names
 * at all nothing is to be fitted. */
static fdl_status check_match(const char *function, const collection *c)
{
    bool fits = !c->opts.match || !c->n;
    for (int i = 0; i < c->n && !fits; i++)
        fits = fnmatch(c->opts.match, c->at[i].name, 0) == 0;
    char close[512];
    return fits ? FDL_OK
                : fdl_fail(FDL_E_ARG, "%s: .match = \"%.200s\" fits no name of the %d%s", function,
                           c->opts.match, c->n,
                           closest_names(c->opts.match, c->n, name_found, c->at, close, sizeof close));
}

static fdl_params *selected(const collection *c)
{
    fdl_params *ps = list_of(c->n);
    for (int i = 0; ps && i < c->n; i++) {
        const found *f = &c->at[i];
        if (c->trainable_only && fdl_param_is_frozen(f->p))
            continue;
        if (c->opts.match && fnmatch(c->opts.match, f->name, 0) != 0)
            continue;
        int ndim = fdl_ndim(fdl_param_tensor(f->p));
        if (ndim < c->opts.min_ndim || (c->opts.max_ndim && ndim > c->opts.max_ndim))
            continue;
        char *name = fdl_scope_alloc(strlen(f->name) + 1);
        if (!name)
            return NULL;
        memcpy(name, f->name, strlen(f->name) + 1);
        ps->at[ps->n++] = (entry){f->p, name, f->leaf, f->parts, f->owner};
    }
    return ps;
}

static fdl_params *finished(const char *function, collection *c, fdl_module *m)
{
    fdl_status status = collect(c, m, NULL);
    if (status == FDL_OK && c->opts.flat)
        status = index_flat_names(c);
    if (status == FDL_OK)
        status = check_match(function, c);
    fdl_params *ps = status == FDL_OK ? selected(c) : NULL;
    for (int i = 0; i < c->n; i++)
        free(c->at[i].name);
    free(c->at);
    free(c->met.slot);
    return ps;
}

static fdl_params *collected(const char *function, fdl_module *m, const fdl_parameters_opts *opts,
                             bool buffers, bool trainable_only)
{
    if (!m) {
        fdl_null_operand(function, "m");
        return NULL;
    }
    collection c = {
        .buffers = buffers, .trainable_only = trainable_only, .root = m, .walk = module_new_walk()};
    if (opts)
        c.opts = *opts;
    return finished(function, &c, m);
}

fdl_params *module_computed_params(fdl_module *m)
{
    return finished(__func__, &(collection){.computed = true, .root = m, .walk = module_new_walk()}, m);
}

fdl_params *fdl_parameters_opt(fdl_module *m, const fdl_parameters_opts *opts)
{
    return collected("fdl_parameters", m, opts, false, false);
}

fdl_params *fdl_parameters_trainable_opt(fdl_module *m, const fdl_parameters_opts *opts)
{
    return collected("fdl_parameters_trainable", m, opts, false, true);
}

fdl_params *fdl_buffers_opt(fdl_module *m, const fdl_parameters_opts *opts)
{
    return collected("fdl_buffers", m, opts, true, false);
}

/* ---- lists --------------------------------------------------------------------------------------------- */

int fdl_params_count(const fdl_params *ps)
{
    if (!ps)
        fdl_null_operand(__func__, "params");
    return ps ? ps->n : -1;
}

static const entry *entry_at(const char *function, const fdl_params *ps, int i)
{
    if (!ps) {
        fdl_null_operand(function, "params");
        return NULL;
    }
    if (i < 0 || i >= ps->n)
        return fdl_fail_null(FDL_E_RANGE, "%s: entry %d of %d", function, i, ps->n);
    return &ps->at[i];
}

fdl_param *fdl_params_at(const fdl_params *ps, int i)
{
    const entry *e = entry_at(__func__, ps, i);
    return e ? e->p : NULL;
}

const char *fdl_params_name(const fdl_params *ps, int i)
{
    const entry *e = entry_at(__func__, ps, i);
    return e ? e->name : NULL;
}

const char *params_leaf(const fdl_params *ps, int i)
{
    return ps->at[i].leaf;
}

int params_parts(const fdl_params *ps, int i)
{
    return ps->at[i].parts;
}

fdl_module *params_owner(const fdl_params *ps, int i)
{
    return ps->at[i].owner;
}

static const char *name_in_list(const void *list, int i)
{
    return ((const fdl_params *)list)->at[i].name;
}

fdl_param *fdl_params_find(const fdl_params *ps, const char *name)
{
    if (!ps || !name) {
        fdl_null_operand(__func__, ps ? "name" : "params");
        return NULL;
    }
    for (int i = 0; i < ps->n; i++)
        if (strcmp(ps->at[i].name, name) == 0)
            return ps->at[i].p;
    char close[512];
    return fdl_fail_null(FDL_E_ARG, "fdl_params_find: no parameter \"%s\"%s", name,
                         closest_names(name, ps->n, name_in_list, ps, close, sizeof close));
}

fdl_params *fdl_params_join(const fdl_params *a, const fdl_params *b)
{
    if (!a || !b) {
        fdl_null_operand(__func__, a ? "b" : "a");
        return NULL;
    }
    fdl_params *ps = list_of(a->n + b->n);
    identities met = {0};
    for (int i = 0; ps && i < a->n + b->n; i++) {
        entry e = i < a->n ? a->at[i] : b->at[i - a->n];
        bool first;
        if (meet(&met, e.p->t, &first) != FDL_OK)
            ps = NULL;
        else if (first)
            ps->at[ps->n++] = e;
    }
    free(met.slot);
    return ps;
}

static fdl_params *common(const char *function, const fdl_params *a, const fdl_params *b, bool wanted)
{
    if (!a || !b) {
        fdl_null_operand(function, a ? "b" : "a");
        return NULL;
    }
    fdl_params *ps = list_of(a->n);
    identities in_b = {0};
    bool first;
    for (int i = 0; ps && i < b->n; i++)
        if (meet(&in_b, b->at[i].p->t, &first) != FDL_OK)
            ps = NULL;
    for (int i = 0; ps && i < a->n; i++) {
        const void *identity = fdl_identity(a->at[i].p->t);
        bool there = in_b.n && in_b.slot[place(&in_b, identity)];
        if (there == wanted)
            ps->at[ps->n++] = a->at[i];
    }
    free(in_b.slot);
    return ps;
}

fdl_params *fdl_params_intersect(const fdl_params *a, const fdl_params *b)
{
    return common(__func__, a, b, true);
}

fdl_params *fdl_params_except(const fdl_params *a, const fdl_params *b)
{
    return common(__func__, a, b, false);
}

fdl_params *fdl_params_where(const fdl_params *ps,
                             bool (*keep)(const fdl_param *p, const char *name, void *ctx), void *ctx)
{
    if (!ps || !keep) {
        fdl_null_operand(__func__, ps ? "keep" : "params");
        return NULL;
    }
    fdl_params *kept = list_of(ps->n);
    for (int i = 0; kept && i < ps->n; i++)
        if (keep(ps->at[i].p, ps->at[i].name, ctx))
            kept->at[kept->n++] = ps->at[i];
    return kept;
}

int64_t fdl_params_numel(const fdl_params *ps)
{
    if (!ps) {
        fdl_null_operand(__func__, "params");
        return -1;
    }
    int64_t sum = 0;
    for (int i = 0; i < ps->n; i++)
        sum += fdl_numel(ps->at[i].p->t);
    return sum;
}

fdl_tensor *fdl_params_to_vector(const fdl_params *ps)
{
    if (!ps) {
        fdl_null_operand(__func__, "params");
        return NULL;
    }
    if (!ps->n)
        return fdl_zeros(FDL_SHAPE(0));
    FDL_SCOPE;
    fdl_list all = {ps->n, fdl_scope_alloc(sizeof *all.at * (size_t)ps->n)};
    if (!all.at)
        return NULL;
    for (int i = 0; i < ps->n; i++)
        all.at[i] = fdl_reshape(ps->at[i].p->t, FDL_SHAPE(-1));
    FDL_RETURN(fdl_cat(all, 0));
}

fdl_status fdl_vector_to_params(fdl_tensor *v, const fdl_params *ps)
{
    if (!v || !ps)
        return fdl_null_operand(__func__, v ? "params" : "v");
    FDL_SCOPE;
    FDL_NO_GRAD;
    int64_t n = fdl_params_numel(ps), at = 0;
    if (fdl_ndim(v) != 1 || fdl_numel(v) != n) {
        char text[256];
        return fdl_fail(FDL_E_SHAPE, "fdl_vector_to_params: v is %s; the parameters have %lld elements",
                        fdl_describe(v, text, sizeof text), (long long)n);
    }
    for (int i = 0; i < ps->n; i++) {
        fdl_tensor *p = ps->at[i].p->t;
        FDL_TRY(fdl_copy_(p, fdl_reshape(fdl_narrow(v, 0, at, fdl_numel(p)), fdl_shape_of(p))));
        at += fdl_numel(p);
    }
    return FDL_OK;
}

fdl_status fdl_state_key(const char *name, char *buf, size_t n)
{
    if (!name || !buf)
        return fdl_null_operand(__func__, name ? "buf" : "name");
    if (strlen(name) >= n)
        return fdl_fail(FDL_E_ARG, "fdl_state_key: \"%.100s\" needs %zu bytes, got %zu", name,
                        strlen(name) + 1, n);
    memcpy(buf, name, strlen(name) + 1);
    char *slash = strchr(buf, '/');
    if (slash)
        *slash = '.';
    return FDL_OK;
}

/* ---- one parameter --------------------------------------------------------------------------------------- */

const char *fdl_param_name(const fdl_param *p)
{
    if (!p)
        fdl_null_operand(__func__, "param");
    return p ? p->name : NULL;
}

fdl_tensor *fdl_param_tensor(const fdl_param *p)
{
    if (!p)
        fdl_null_operand(__func__, "param");
    return p ? p->t : NULL;
}

fdl_status fdl_param_set(fdl_param *p, fdl_tensor *value)
{
    if (!p || !value)
        return fdl_null_operand(__func__, p ? "value" : "param");
    if (!fdl_shape_eq(fdl_shape_of(p->t), fdl_shape_of(value))) {
        char a[256], b[256];
        return fdl_fail(FDL_E_SHAPE, "fdl_param_set: %s is %s, the value %s", p->name,
                        fdl_describe(p->t, a, sizeof a), fdl_describe(value, b, sizeof b));
    }
    FDL_NO_GRAD;
    return fdl_copy_(p->t, value);
}

fdl_status fdl_param_freeze(fdl_param *p)
{
    if (!p)
        return fdl_null_operand(__func__, "param");
    FDL_TRY(fdl_requires_grad_(p->t, false));
    return fdl_clear_grad(p->t);
}

fdl_status fdl_param_thaw(fdl_param *p)
{
    if (!p)
        return fdl_null_operand(__func__, "param");
    return fdl_requires_grad_(p->t, true);
}

bool fdl_param_is_frozen(const fdl_param *p)
{
    return p && !fdl_requires_grad(p->t);
}

static fdl_status on_each(const char *function, const fdl_params *ps, fdl_status (*fn)(fdl_param *))
{
    if (!ps)
        return fdl_null_operand(function, "params");
    for (int i = 0; i < ps->n; i++)
        FDL_TRY(fn(ps->at[i].p));
    return FDL_OK;
}

fdl_status fdl_params_freeze(const fdl_params *ps)
{
    return on_each(__func__, ps, fdl_param_freeze);
}

fdl_status fdl_params_thaw(const fdl_params *ps)
{
    return on_each(__func__, ps, fdl_param_thaw);
}

fdl_status fdl_params_freeze_named(const fdl_params *ps, const char *const *names, int n)
{
    if (!ps || (!names && n > 0))
        return fdl_null_operand(__func__, ps ? "names" : "params");
    for (int i = 0; i < n; i++) {
        if (!names[i])
            return fdl_null_operand(__func__, "a name");
        if (!fdl_params_find(ps, names[i]))
            return fdl_error_pending();
    }
    for (int i = 0; i < n; i++)
        FDL_TRY(fdl_param_freeze(fdl_params_find(ps, names[i])));
    return FDL_OK;
}

fdl_status fdl_freeze(fdl_module *m)
{
    FDL_SCOPE;
    return on_each(__func__, fdl_parameters_opt(m, NULL), fdl_param_freeze);
}

fdl_status fdl_thaw(fdl_module *m)
{
    FDL_SCOPE;
    return on_each(__func__, fdl_parameters_opt(m, NULL), fdl_param_thaw);
}

bool fdl_is_frozen(fdl_module *m)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters_opt(m, NULL);
    for (int i = 0; ps && i < ps->n; i++)
        if (!fdl_param_is_frozen(ps->at[i].p))
            return false;
    return ps && ps->n > 0;
}
