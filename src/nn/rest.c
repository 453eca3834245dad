/* What runs leave in a tree beside their results: state and looked-at values of graphs. Modules are met in the order of a
 * walk, so that lists of one tree fit together. */
#include "flodl/inplace.h"
#include "module_private.h"

module_rest module_rest_of(fdl_module *m)
{
    m = m->real;
    return m->table && m->table->rest ? m->table->rest(m) : (module_rest){0};
}

fdl_status module_keep(fdl_tensor **slot, fdl_tensor *t)
{
    fdl_tensor *own = t ? fdl_keep(t) : NULL;
    if (t && !own)
        return fdl_error_pending();
    fdl_free(*slot);
    *slot = own;
    return FDL_OK;
}

/* ---- settling ------------------------------------------------------------------------------------------ */

static bool fits(fdl_tensor *place, fdl_tensor *value)
{
    return fdl_dtype_of(place) == fdl_dtype_of(value) &&
           fdl_device_eq(fdl_device_of(place), fdl_device_of(value)) &&
           fdl_shape_eq(fdl_shape_of(place), fdl_shape_of(value));
}

/* What is looked at may be the old state itself. */
static fdl_status spare_values(const module_rest *r, fdl_tensor *place)
{
    for (int i = 0; i < r->values; i++)
        if (r->value[i] && fdl_is(r->value[i], place))
            FDL_TRY(module_keep(&r->value[i], fdl_clone(place)));
    return FDL_OK;
}

static fdl_status settle_slot(const module_rest *r, module_slot *s)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    if (!s->value || (s->place && fdl_is(s->value, s->place)))
        return FDL_OK;
    if (s->place && fits(s->place, s->value)) {
        FDL_TRY(spare_values(r, s->place));
        FDL_TRY(fdl_copy_(s->place, s->value));
    } else
        FDL_TRY(module_keep(&s->place, fdl_clone(fdl_detach(s->value))));
    return module_keep(&s->value, s->place);
}

static fdl_status settle(fdl_module *m, void *ctx)
{
    (void)ctx;
    module_rest r = module_rest_of(m);
    for (int i = 0; i < r.slots; i++)
        FDL_TRY(settle_slot(&r, &r.slot[i]));
    return FDL_OK;
}

fdl_status fdl_module_settle(fdl_module *m)
{
    if (!m)
        return fdl_null_operand(__func__, "m");
    FDL_TRY(fdl_module_detach_state(m));
    return fdl_module_walk(m, settle, NULL);
}

static fdl_status find_unsettled(fdl_module *m, void *ctx)
{
    const char **kind = ctx;
    if (!*kind && m->ops->detach_state && !m->table)
        *kind = m->ops->kind;
    return FDL_OK;
}

const char *fdl_module_unsettled(fdl_module *m)
{
    const char *kind = NULL;
    fdl_module_walk(m, find_unsettled, &kind);
    return kind;
}

/* ---- lists --------------------------------------------------------------------------------------------- */

typedef struct listing {
    bool places; /* of slots only */
    int n;
    fdl_tensor **at; /* NULL: only counted */
} listing;

static void list_one(listing *l, fdl_tensor *t)
{
    if (l->at)
        l->at[l->n] = t ? fdl_adopt(fdl_keep(t)) : NULL;
    l->n++;
}

static fdl_status list_module(fdl_module *m, void *ctx)
{
    listing *l = ctx;
    bool before = fdl_error_pending() != FDL_OK;
    module_rest r = module_rest_of(m);
    for (int i = 0; i < r.slots; i++)
        list_one(l, !l->places ||
                            (r.slot[i].value && r.slot[i].place && fdl_is(r.slot[i].value, r.slot[i].place))
                        ? r.slot[i].value
                        : NULL);
    for (int i = 0; !l->places && i < r.values; i++)
        list_one(l, r.value[i]);
    return before ? FDL_OK : fdl_error_pending();
}

static fdl_list list_tree(fdl_module *m, bool places)
{
    listing l = {.places = places};
    if (fdl_module_walk(m, list_module, &l) != FDL_OK)
        return (fdl_list){0, NULL};
    fdl_tensor **at = fdl_scope_alloc(sizeof *at * (size_t)(l.n ? l.n : 1));
    if (!at)
        return (fdl_list){0, NULL};
    l = (listing){.places = places, .at = at};
    return fdl_module_walk(m, list_module, &l) == FDL_OK ? (fdl_list){l.n, at} : (fdl_list){0, NULL};
}

fdl_list fdl_module_states(fdl_module *m)
{
    return list_tree(m, true);
}

fdl_list fdl_module_left(fdl_module *m)
{
    return list_tree(m, false);
}

typedef struct giving {
    fdl_list left;
    int i;
} giving;

static fdl_status give_module(fdl_module *m, void *ctx)
{
    giving *g = ctx;
    module_rest r = module_rest_of(m);
    for (int i = 0; i < r.slots; i++)
        FDL_TRY(module_keep(&r.slot[i].value, g->left.at[g->i++]));
    for (int i = 0; i < r.values; i++)
        FDL_TRY(module_keep(&r.value[i], g->left.at[g->i++]));
    if (m->table && m->table->forget)
        m->table->forget(m);
    return FDL_OK;
}

static fdl_status count_module(fdl_module *m, void *ctx)
{
    module_rest r = module_rest_of(m);
    *(int *)ctx += r.slots + r.values;
    return FDL_OK;
}

fdl_status fdl_module_set_left(fdl_module *m, fdl_list left)
{
    if (!m || (!left.at && left.n))
        return fdl_null_operand(__func__, m ? "left" : "m");
    int n = 0;
    FDL_TRY(fdl_module_walk(m, count_module, &n));
    if (n != left.n)
        return fdl_fail(FDL_E_ARG, "%s: %d entries for a tree that has %d", __func__, left.n, n);
    return fdl_module_walk(m, give_module, &(giving){.left = left});
}
