/* Walks over a tree of modules: modes, reset, moving and casting. Each module of the tree is met once. */
#include "flodl/inplace.h"
#include "module_private.h"

static fdl_status walk(fdl_module *m, uint64_t id, fdl_status (*fn)(fdl_module *, void *), void *ctx)
{
    m = m->real;
    if (m->seen == id)
        return FDL_OK;
    m->seen = id;
    FDL_TRY(fn(m, ctx));
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        module_part part = module_part_at(m, i);
        if (part.module)
            FDL_TRY(walk(part.module, id, fn, ctx));
    }
    return FDL_OK;
}

fdl_status fdl_module_walk(fdl_module *m, fdl_status (*fn)(fdl_module *m, void *ctx), void *ctx)
{
    if (!m || !fn)
        return fdl_null_operand(__func__, m ? "fn" : "m");
    return walk(m, module_new_walk(), fn, ctx);
}

/* ---- with names ---------------------------------------------------------------------------------------- */

typedef struct named {
    const char *piece; /* NULL: left out */
    const struct named *outer;
} named;

/* The modules of a tree, in order. */
typedef struct roll {
    uint64_t walk;
    int n, room;
    struct entry {
        fdl_module *module;
        char *name;
    } * at;
} roll;

static char *name_of(const named *n)
{
    size_t length = 0;
    for (const named *q = n; q; q = q->outer)
        length += q->piece ? strlen(q->piece) + 1 : 0;
    char *name = malloc(length + 1);
    if (!name)
        return NULL;
    char *end = name + (length ? length - 1 : 0); /* one "." less than there are pieces */
    *end = 0;
    for (; n; n = n->outer)
        if (n->piece) {
            end -= strlen(n->piece);
            memcpy(end, n->piece, strlen(n->piece));
            if (end > name)
                *--end = '.';
        }
    return name;
}

static fdl_status enrol(roll *r, fdl_module *m, const named *where)
{
    m = m->real;
    if (m->seen == r->walk)
        return FDL_OK;
    m->seen = r->walk;
    int n = module_parts(m);
    for (int i = 0; i < n; i++) {
        module_part part = module_part_at(m, i);
        if (part.module)
            FDL_TRY(enrol(r, part.module, &(named){part.name, where}));
    }
    if (r->n == r->room) {
        int room = r->room ? 2 * r->room : 32;
        struct entry *more = realloc(r->at, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail(FDL_E_OOM, "fdl_module_apply: no memory for %d modules", room);
        r->at = more;
        r->room = room;
    }
    char *name = name_of(where);
    if (!name)
        return fdl_fail(FDL_E_OOM, "fdl_module_apply: no memory for a name");
    r->at[r->n++] = (struct entry){m, name};
    return FDL_OK;
}

/* All names first: fn may walk the tree itself. */
fdl_status fdl_module_apply(fdl_module *m, fdl_status (*fn)(fdl_module *m, const char *name, void *ctx),
                            void *ctx)
{
    if (!m || !fn)
        return fdl_null_operand(__func__, m ? "fn" : "m");
    roll r = {.walk = module_new_walk()};
    fdl_status status = enrol(&r, m, NULL);
    for (int i = 0; i < r.n && status == FDL_OK; i++)
        status = fn(r.at[i].module, r.at[i].name, ctx);
    for (int i = 0; i < r.n; i++)
        free(r.at[i].name);
    free(r.at);
    return status;
}

/* ---- modes and state ----------------------------------------------------------------------------------- */

void module_set_training(fdl_module *m, bool training)
{
    m = m->real;
    m->training = training;
    if (m->ops->train)
        m->ops->train(m->self, training);
}

static fdl_status set_training(fdl_module *m, void *ctx)
{
    module_set_training(m, *(bool *)ctx);
    return FDL_OK;
}

fdl_status fdl_train(fdl_module *m)
{
    return fdl_module_walk(m, set_training, &(bool){true});
}

fdl_status fdl_eval(fdl_module *m)
{
    return fdl_module_walk(m, set_training, &(bool){false});
}

bool fdl_is_training(fdl_module *m)
{
    return m && m->real->training;
}

static fdl_status reset_one(fdl_module *m, void *ctx)
{
    (void)ctx;
    if (m->ops->reset)
        m->ops->reset(m->self);
    return FDL_OK;
}

fdl_status fdl_module_reset(fdl_module *m)
{
    return fdl_module_walk(m, reset_one, NULL);
}

static fdl_status detach_one(fdl_module *m, void *ctx)
{
    (void)ctx;
    if (m->ops->detach_state)
        m->ops->detach_state(m->self);
    return FDL_OK;
}

fdl_status fdl_module_detach_state(fdl_module *m)
{
    return fdl_module_walk(m, detach_one, NULL);
}

/* ---- what a recorded run depends on -------------------------------------------------------------------- */

static uint64_t mixed(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static fdl_status mix_one(fdl_module *m, void *ctx)
{
    uint64_t h = mixed(*(uint64_t *)ctx, (uint64_t)(uintptr_t)m << 1 | m->training);
    h = mixed(h, m->version);
    for (int i = 0; i < m->params.n; i++)
        h = mixed(h, fdl_fingerprint(m->params.at[i]->t));
    for (int i = 0; i < m->buffers.n; i++)
        h = mixed(h, fdl_fingerprint(m->buffers.at[i]->t));
    module_rest rest = module_rest_of(m);
    if (rest.mark)
        h = mixed(h, rest.mark);
    for (int i = 0; i < rest.slots; i++) {
        h = mixed(h, fdl_fingerprint(rest.slot[i].value));
        h = mixed(h, fdl_fingerprint(rest.slot[i].place));
        h = mixed(h, fdl_fingerprint(rest.slot[i].initial));
    }
    *(uint64_t *)ctx = h;
    return FDL_OK;
}

uint64_t fdl_module_generation(fdl_module *m)
{
    uint64_t h = 0;
    return fdl_module_walk(m, mix_one, &h) == FDL_OK ? mixed(h, 1) : 0;
}

/* ---- moving and casting --------------------------------------------------------------------------------- */

/* A move has two phases, so that a failure changes nothing: all copies first, then the exchange. */
typedef struct move {
    fdl_to_opts to; /* of floating tensors; integer ones keep their dtype */
    bool with_buffers;
    int n, room;
    struct pair {
        fdl_tensor *old, *made;
        fdl_tensor **
            slot; /* a value of a slot: gets the new tensor, whose handle `made` is kept; others may hold the old one */
    } * pairs;
} move;

static fdl_status plan(move *mv, fdl_tensor *t, fdl_tensor **slot)
{
    if (mv->n == mv->room) {
        int room = mv->room ? 2 * mv->room : 64;
        struct pair *more = realloc(mv->pairs, sizeof *more * (size_t)room);
        if (!more)
            return fdl_fail(FDL_E_OOM, "no memory to move %d tensors", room);
        mv->pairs = more;
        mv->room = room;
    }
    fdl_to_opts to = mv->to;
    int dims = fdl_ndim(t);
    to.channels_last = to.channels_last && (dims == 4 || dims == 5);
    if (!fdl_dtype_is_floating(fdl_dtype_of(t)))
        to.dtype = FDL_DTYPE_DEFAULT;
    fdl_tensor *made = fdl_to_opt(fdl_detach(t), &to);
    if (slot && made)
        made = fdl_keep(made);
    if (!made)
        return fdl_error_pending();
    mv->pairs[mv->n++] = (struct pair){t, made, slot};
    return FDL_OK;
}

/* A slot's value is only moved where it isn't yet as it should be: so memory of recorded runs stays where it can. */
static fdl_status plan_slot(move *mv, fdl_tensor **slot)
{
    if (!*slot)
        return FDL_OK;
    bool casts = mv->to.dtype != FDL_DTYPE_DEFAULT && fdl_dtype_is_floating(fdl_dtype_of(*slot)) &&
                 fdl_dtype_of(*slot) != mv->to.dtype;
    return casts || !fdl_device_eq(fdl_device_of(*slot), mv->to.device) ? plan(mv, *slot, slot) : FDL_OK;
}

static fdl_status plan_list(move *mv, const param_list *list)
{
    for (int i = 0; i < list->n; i++) {
        fdl_tensor *g = fdl_grad(list->at[i]->t);
        FDL_TRY(plan(mv, list->at[i]->t, NULL));
        if (g)
            FDL_TRY(plan(mv, g, NULL));
    }
    return FDL_OK;
}

static fdl_status plan_module(fdl_module *m, void *ctx)
{
    move *mv = ctx;
    FDL_TRY(plan_list(mv, &m->params));
    if (!mv->with_buffers)
        return FDL_OK;
    FDL_TRY(plan_list(mv, &m->buffers));
    module_rest rest = module_rest_of(m);
    for (int i = 0; i < rest.slots; i++) {
        FDL_TRY(plan_slot(mv, &rest.slot[i].value));
        FDL_TRY(plan_slot(mv, &rest.slot[i].place));
        FDL_TRY(plan_slot(mv, &rest.slot[i].initial));
    }
    return FDL_OK;
}

/* A slot that holds a parameter holds it still: its handle is on the very tensor that was moved. */
static void exchange_slot(const struct pair *p, const move *mv)
{
    if (fdl_device_eq(fdl_device_of(*p->slot), mv->to.device) &&
        fdl_dtype_of(*p->slot) == fdl_dtype_of(p->made)) {
        fdl_free(p->made);
    } else {
        fdl_free(*p->slot);
        *p->slot = p->made;
    }
}

static fdl_status run_move(fdl_module *m, move *mv)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_status status = fdl_module_walk(m, plan_module, mv);
    for (int i = 0; status == FDL_OK && i < mv->n; i++)
        if (!mv->pairs[i].slot)
            status = fdl_set_data_(mv->pairs[i].old, mv->pairs[i].made);
    for (int i = 0; i < mv->n; i++)
        if (mv->pairs[i].slot && status == FDL_OK)
            exchange_slot(&mv->pairs[i], mv);
        else if (mv->pairs[i].slot)
            fdl_free(mv->pairs[i].made);
    free(mv->pairs);
    return status;
}

static fdl_status tell_module(fdl_module *m, void *ctx)
{
    return m->ops->to ? m->ops->to(m->self, *(fdl_device *)ctx) : FDL_OK;
}

/* A cast makes new storage, as a move does; whose parameters are cast is told where they are. */
static fdl_status tell_cast(fdl_module *m, void *ctx)
{
    (void)ctx;
    return m->ops->to && m->params.n ? m->ops->to(m->self, fdl_device_of(m->params.at[0]->t)) : FDL_OK;
}

fdl_status fdl_module_to_opt(fdl_module *m, fdl_device d, const fdl_module_to_opts *opts)
{
    static const fdl_module_to_opts none = {0};
    if (!m)
        return fdl_null_operand("fdl_module_to", "m");
    if (!opts)
        opts = &none;
    if (opts->dtype != FDL_DTYPE_DEFAULT && !fdl_dtype_is_floating(opts->dtype))
        return fdl_fail(FDL_E_DTYPE, "fdl_module_to: parameters are floating, %s is not",
                        fdl_dtype_name(opts->dtype));
    if (d.type == FDL_DEVICE_TYPE_DEFAULT)
        d = fdl_default_device();
    move mv = {.to = {.device = d, .dtype = opts->dtype, .channels_last = opts->channels_last},
               .with_buffers = true};
    FDL_TRY(run_move(m, &mv));
    return fdl_module_walk(m, tell_module, &d);
}

fdl_status fdl_cast_parameters(fdl_module *m, fdl_dtype dtype)
{
    if (!m)
        return fdl_null_operand(__func__, "m");
    if (!fdl_dtype_is_floating(dtype))
        return fdl_fail(FDL_E_DTYPE, "fdl_cast_parameters: %s is no floating dtype", fdl_dtype_name(dtype));
    move mv = {.to = {.dtype = dtype}};
    FDL_TRY(run_move(m, &mv));
    return fdl_module_walk(m, tell_cast, NULL);
}
