/* Tensors of modules that are computed from others before each run: parametrizations (flodl/parametrize.h) and masks
 * (flodl/prune.h). A module's forward reads a handle, which a run lets be on the value; so no forward knows of this. */
#include "flodl/parametrize.h"

#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "flodl/prune.h"
#include "module_private.h"

/* ---- one behind the other -------------------------------------------------------------------------------- */

/* What computes a parameter: the tensors that are kept in its place, and as children "0", "1", ... the modules. Its parameters
 * are called original, or original0 and original1 where the first module takes two. */
typedef struct parametrization {
    int n;
    fdl_tensor *original[2];
} parametrization;

static fdl_tensor *chained(const fdl_module *by, int n, fdl_tensor *const *x)
{
    fdl_tensor *y = module_run(by->children.at[0], n, x);
    for (int i = 1; y && i < by->children.n; i++)
        y = module_run(by->children.at[i], 1, &y);
    return y;
}

static fdl_tensor *parametrization_forward(void *self, fdl_tensor *x)
{
    return chained(fdl_module_of(self), 1, &x);
}

static const fdl_module_ops parametrization_ops = {
    .kind = "parametrization", .size = sizeof(parametrization), .forward = parametrization_forward};

int module_parametrizations(const module_computed *c)
{
    return c->by ? c->by->children.n : 0;
}

fdl_module *module_parametrization_at(const module_computed *c, int i)
{
    return c->by->children.at[i]->real;
}

/* ---- computing ------------------------------------------------------------------------------------------- */

static fdl_tensor *masked(const module_computed *c)
{
    fdl_tensor *mask = c->mask->t, *x = c->original->t;
    if (fdl_dtype_of(mask) != fdl_dtype_of(x))
        mask = fdl_to_dtype(mask, fdl_dtype_of(x));
    return fdl_mul_tensor(mask, x);
}

static fdl_tensor *computed(const module_computed *c)
{
    if (c->mask)
        return masked(c);
    const parametrization *p = c->by->self;
    if (!module_enter(c->by))
        return NULL;
    fdl_tensor *y = chained(c->by, p->n, p->original);
    module_leave(c->by);
    return y;
}

bool module_compute(fdl_module *m)
{
    for (module_computed *c = m->computed; c; c = c->next) {
        fdl_tensor *value = computed(c);
        if (!value || fdl_object_set(c->p->t, value) != FDL_OK) {
            fdl_error_prefix("%s of %s: ", c->p->name, m->ops->kind);
            module_park(m);
            return false;
        }
    }
    return true;
}

void module_park(fdl_module *m)
{
    /* the last one first, since its handle may be what an earlier one is parked on */
    for (module_computed *c = m->computed; c; c = c->next)
        fdl_object_set(c->p->t, c->original->t);
}

module_computed *module_computed_named(fdl_module *m, const char *name)
{
    for (module_computed *c = m->real->computed; c; c = c->next)
        if (strcmp(c->p->name, name) == 0)
            return c;
    return NULL;
}

static void set_modes(fdl_module *m, bool training)
{
    for (module_computed *c = m->computed; c; c = c->next)
        if (c->by && training)
            fdl_train(c->by);
        else if (c->by)
            fdl_eval(c->by);
}

fdl_tensor *module_computed_value(fdl_module *m, const module_computed *c)
{
    m = m->real;
    bool training = m->training;
    if (training)
        set_modes(m, false);
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *value = NULL;
    if (scope && module_enter(m)) {
        value = fdl_adopt(fdl_keep(c->p->t));
        module_leave(m);
    }
    value = fdl_escape(value);
    fdl_scope_close(scope);
    if (training)
        set_modes(m, true);
    return value;
}

fdl_tensor *module_leaf(fdl_module *m, const char *name)
{
    const module_computed *c = module_computed_named(m, name);
    return c ? c->p->t : fdl_param_tensor(fdl_module_own_param(m, name));
}

/* ---- lists of parameters --------------------------------------------------------------------------------- */

static int place_in(const param_list *list, const struct fdl_param *p)
{
    for (int i = 0; i < list->n; i++)
        if (list->at[i] == p)
            return i;
    return -1;
}

static void take_out(param_list *list, int place)
{
    list->n--;
    for (int i = place; i < list->n; i++)
        list->at[i] = list->at[i + 1];
}

/* There is room: as many were taken out before. */
static void put_in(param_list *list, int place, struct fdl_param *p)
{
    place = place < list->n ? place : list->n;
    for (int i = list->n++; i > place; i--)
        list->at[i] = list->at[i - 1];
    list->at[place] = p;
}

static struct fdl_param *new_param(const char *name, fdl_tensor *leaf)
{
    fdl_tensor *t = leaf ? fdl_object_new(leaf) : NULL;
    struct fdl_param *p = t ? calloc(1, sizeof *p) : NULL;
    if (p)
        p->name = strdup(name);
    if (p && p->name) {
        p->t = t;
        return p;
    }
    free(p);
    fdl_object_free(t);
    return t ? fdl_fail_null(FDL_E_OOM, "no memory for %s", name) : NULL;
}

static fdl_status append(param_list *list, struct fdl_param *p)
{
    struct fdl_param **at = p ? realloc(list->at, sizeof *at * (size_t)(list->n + 1)) : NULL;
    if (!at) {
        bool made = p != NULL;
        param_free(p);
        return made ? fdl_fail(FDL_E_OOM, "no memory for a list of parameters") : fdl_error_pending();
    }
    list->at = at;
    list->at[list->n++] = p;
    return FDL_OK;
}

/* The parameter is m's own; NULL: the error is set. */
static struct fdl_param *own(const char *function, fdl_module *m, const char *name)
{
    bool before = fdl_error_pending() != FDL_OK;
    fdl_param *p = fdl_module_own_param(m, name);
    if (!p && !before)
        fdl_error_prefix("%s: ", function);
    return p;
}

static void changed(fdl_module *m)
{
    m->version++;
    module_changed();
}

/* ---- a parametrization begins ---------------------------------------------------------------------------- */

static fdl_status set_aside(fdl_module *m, void *ctx)
{
    (void)ctx;
    m->aside = true;
    return FDL_OK;
}

/* Those that nobody has taken over. */
static void discard(int n, fdl_module *const *by)
{
    for (int i = 0; i < n; i++)
        if (by[i] && !by[i]->owned)
            module_release(by[i]);
}

/* Appends n modules to a parametrization; all are taken over, on failure too. */
static fdl_status add_parts(fdl_module *p, int n, fdl_module *const *by)
{
    bool failed = p->failed;
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", p->children.n);
        if (fdl_module_child(p, name, by[i]) && fdl_module_walk(by[i], set_aside, NULL) == FDL_OK)
            continue;
        p->failed = failed;
        discard(n - i - 1, by + i + 1);
        return fdl_error_pending();
    }
    return FDL_OK;
}

/* A leaf beside x, with other values. */
static fdl_tensor *leaf_like(fdl_tensor *values, fdl_tensor *x)
{
    fdl_tensor *leaf = fdl_detach(fdl_is_sole(values) ? values : fdl_clone(values));
    return leaf && fdl_requires_grad_(leaf, fdl_requires_grad(x)) == FDL_OK ? leaf : NULL;
}

/* The last original is the parameter's own leaf, so that an optimizer that has it goes on with it. */
static fdl_status add_originals(fdl_module *p, fdl_tensor *leaf)
{
    fdl_module *first = p->children.at[0]->real;
    fdl_tensor *value[2] = {leaf, NULL};
    FDL_NO_GRAD;
    int n = first->table && first->table->invert ? first->table->invert(first, leaf, value) : 1;
    parametrization *self = p->self;
    for (int i = 0; i < n; i++) {
        char name[24] = "original";
        bool own_leaf = i == n - 1;
        if (n > 1)
            snprintf(name, sizeof name, "original%d", i);
        FDL_TRY(append(&p->params, new_param(name, own_leaf ? leaf : leaf_like(value[i], leaf))));
        self->original[i] = p->params.at[i]->t;
    }
    self->n = n;
    if (n < 1)
        return fdl_error_pending();
    return fdl_is(value[n - 1], leaf) ? FDL_OK : fdl_copy_(leaf, value[n - 1]);
}

/* The value that comes out fits. */
static fdl_status try_out(const char *function, fdl_module *p, fdl_tensor *leaf)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    char a[256], b[256];
    bool before = fdl_error_pending() != FDL_OK;
    const parametrization *self = p->self;
    fdl_eval(p);
    fdl_tensor *y = module_enter(p) ? chained(p, self->n, self->original) : NULL;
    module_leave(p);
    if (!y) {
        if (!before)
            fdl_error_prefix("%s: ", function);
        return fdl_error_pending();
    }
    if (fdl_shape_eq(fdl_shape_of(y), fdl_shape_of(leaf)) && fdl_dtype_of(y) == fdl_dtype_of(leaf))
        return FDL_OK;
    return fdl_fail(FDL_E_SHAPE, "%s: the parameter is %s, what is computed for it %s", function,
                    fdl_describe(leaf, a, sizeof a), fdl_describe(y, b, sizeof b));
}

static fdl_status set_mode(fdl_module *p, bool training)
{
    return training ? fdl_train(p) : fdl_eval(p);
}

static fdl_status begin(const char *function, fdl_module *m, struct fdl_param *p, int n,
                        fdl_module *const *by)
{
    FDL_SCOPE;
    char name[256];
    snprintf(name, sizeof name, "parametrizations.%s", p->name);
    module_computed *c = calloc(1, sizeof *c);
    fdl_module *made = c ? module_new_with(&parametrization_ops, NULL) : NULL;
    fdl_status status = made ? FDL_OK : fdl_fail(FDL_E_OOM, "%s: no memory", function);
    if (made)
        status = add_parts(made, n, by);
    else
        discard(n, by);
    fdl_tensor *before = NULL;
    if (status == FDL_OK) {
        FDL_NO_GRAD;
        before = fdl_clone(p->t);
        status = before ? add_originals(made, p->t) : fdl_error_pending();
    }
    if (status == FDL_OK)
        status = try_out(function, made, p->t);
    if (status == FDL_OK)
        status = set_mode(made, m->training);
    bool failed = m->failed;
    if (status == FDL_OK && fdl_module_walk(made, set_aside, NULL) == FDL_OK) {
        fdl_module *child = made;
        made = NULL;
        status = fdl_module_child(m, name, child) ? FDL_OK : fdl_error_pending();
        m->failed = failed;
    }
    if (status != FDL_OK) {
        FDL_NO_GRAD;
        if (before)
            fdl_copy_(p->t, before);
        module_release(made);
        free(c);
        return status;
    }
    c->by = m->children.at[m->children.n - 1]->real;
    c->p = p;
    c->place = place_in(&m->params, p);
    c->original = c->by->params.at[c->by->params.n - 1];
    c->next = m->computed;
    take_out(&m->params, c->place);
    m->computed = c;
    changed(m);
    return FDL_OK;
}

/* One more behind those that are there. */
static fdl_status go_on(const char *function, fdl_module *m, module_computed *c, int n, fdl_module *const *by)
{
    int had = c->by->children.n;
    fdl_status status = add_parts(c->by, n, by);
    if (status == FDL_OK)
        status = try_out(function, c->by, c->original->t);
    while (status != FDL_OK && c->by->children.n > had)
        module_disown(c->by, c->by->children.at[had]);
    fdl_status mode = set_mode(c->by, m->training);
    if (status == FDL_OK)
        changed(m);
    return status == FDL_OK ? mode : status;
}

fdl_status module_parametrize(const char *function, fdl_module *m, const char *name, int n,
                              fdl_module *const *by)
{
    fdl_status status = FDL_OK;
    for (int i = 0; i < n && status == FDL_OK; i++)
        if (!by[i])
            status = fdl_null_operand(function, "by");
    if (!m || !name)
        status = fdl_null_operand(function, m ? "name" : "m");
    module_computed *c = status == FDL_OK ? module_computed_named(m, name) : NULL;
    if (c && c->by)
        return go_on(function, m->real, c, n, by);
    struct fdl_param *p = status == FDL_OK ? own(function, m, name) : NULL;
    if (p)
        return begin(function, m->real, p, n, by);
    discard(n, by);
    return status == FDL_OK ? fdl_error_pending() : status;
}

fdl_status fdl_parametrize(fdl_module *m, const char *name, fdl_module *by)
{
    return module_parametrize(__func__, m, name, 1, &by);
}

void module_disown(fdl_module *m, fdl_module *child)
{
    int i = 0;
    while (i < m->children.n && m->children.at[i]->real != child->real)
        i++;
    if (i == m->children.n)
        return;
    fdl_module *handle = m->children.at[i];
    free(m->children.names[i]);
    m->children.n--;
    for (; i < m->children.n; i++) {
        m->children.at[i] = m->children.at[i + 1];
        m->children.names[i] = m->children.names[i + 1];
    }
    module_release(handle);
    module_changed();
}

static fdl_module *remade(fdl_module *m, void *ctx)
{
    return module_remake(m, remade, ctx);
}

static fdl_status compute_one_like(fdl_module *to, const module_computed *c)
{
    FDL_SCOPE;
    if (!c)
        return FDL_OK;
    FDL_TRY(compute_one_like(to, c->next));
    if (module_computed_named(to, c->p->name))
        return FDL_OK; /* a shared module */
    if (c->mask)
        return module_prune(to, c->p->name);
    int n = module_parametrizations(c);
    fdl_module **by = fdl_scope_alloc(sizeof *by * (size_t)n);
    for (int i = 0; by && i < n; i++)
        if (!(by[i] = remade(module_parametrization_at(c, i), NULL))) {
            while (i-- > 0)
                module_release(by[i]);
            by = NULL;
        }
    return by ? module_parametrize("a copy", to, c->p->name, n, by) : fdl_error_pending();
}

fdl_status module_compute_like(fdl_module *to, fdl_module *from)
{
    to = to->real;
    from = from->real;
    FDL_TRY(compute_one_like(to, from->computed));
    for (int i = 0; i < from->children.n && i < to->children.n; i++)
        FDL_TRY(module_compute_like(to->children.at[i], from->children.at[i]));
    return FDL_OK;
}

/* ---- and ends -------------------------------------------------------------------------------------------- */

static void unlink_computed(fdl_module *m, module_computed *c)
{
    module_computed **at = &m->computed;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
}

fdl_status fdl_parametrize_remove_opt(fdl_module *m, const char *name,
                                      const fdl_parametrize_remove_opts *opts)
{
    static const char *const function = "fdl_parametrize_remove";
    if (!m || !name)
        return fdl_null_operand(function, m ? "name" : "m");
    m = m->real;
    module_computed *c = module_computed_named(m, name);
    if (!c || !c->by)
        return fdl_fail(FDL_E_ARG, "%s: the %s of the %s is not parametrized%s", function, name, m->ops->kind,
                        c ? " but pruned; fdl_prune_remove" : "");
    FDL_SCOPE;
    FDL_NO_GRAD;
    const parametrization *p = c->by->self;
    bool leave = opts && opts->leave_original;
    if (leave && p->n > 1)
        return fdl_fail(FDL_E_ARG, "%s: .leave_original, but the %s is made from two tensors", function,
                        name);
    if (c->by->computed)
        return fdl_fail(FDL_E_STATE,
                        "%s: %s, from which the %s is made, is computed itself; remove that first", function,
                        c->by->computed->p->name, name);
    fdl_tensor *leaf = c->original->t, *value = leave ? leaf : module_computed_value(m, c);
    if (!value)
        return fdl_error_pending();
    if (p->n >
        1) /* its own leaf has been the direction only; who optimizes that, optimizes the weight from now on */
        FDL_TRY(fdl_clear_grad(leaf));
    if (value != leaf)
        FDL_TRY(fdl_copy_(leaf, value));
    FDL_TRY(fdl_object_set(c->p->t, leaf));
    put_in(&m->params, c->place, c->p);
    fdl_module *by = c->by;
    unlink_computed(m, c);
    module_disown(m, by);
    changed(m);
    return FDL_OK;
}

bool fdl_is_parametrized(fdl_module *m, const char *name)
{
    if (!m || !name)
        return false;
    const module_computed *c = module_computed_named(m, name);
    return c && c->by;
}

fdl_tensor *fdl_parametrized(fdl_module *m, const char *name)
{
    if (!m || !name) {
        fdl_null_operand(__func__, m ? "name" : "m");
        return NULL;
    }
    const module_computed *c = module_computed_named(m, name);
    if (c)
        return module_computed_value(m, c);
    struct fdl_param *p = own(__func__, m, name);
    return p ? fdl_adopt(fdl_keep(p->t)) : NULL;
}

/* ---- masks ----------------------------------------------------------------------------------------------- */

fdl_status module_prune(fdl_module *m, const char *name)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    m = m->real;
    struct fdl_param *p = own("fdl_prune", m, name);
    if (!p)
        return fdl_error_pending();
    char text[256];
    snprintf(text, sizeof text, "%s_orig", name);
    FDL_TRY(module_check_name(m, "parameter", text));
    struct fdl_param *original = new_param(text, p->t);
    module_computed *c = original ? calloc(1, sizeof *c) : NULL;
    snprintf(text, sizeof text, "%s_mask", name);
    bool failed = m->failed;
    if (!c || !fdl_module_buffer(m, text, fdl_ones_like(p->t))) {
        m->failed = failed;
        param_free(original);
        free(c);
        return fdl_error_pending() != FDL_OK ? fdl_error_pending()
                                             : fdl_fail(FDL_E_OOM, "fdl_prune: no memory for %s", text);
    }
    *c = (module_computed){.next = m->computed,
                           .p = p,
                           .place = place_in(&m->params, p),
                           .original = original,
                           .mask = m->buffers.at[m->buffers.n - 1]};
    m->params.at[c->place] = original;
    m->computed = c;
    changed(m);
    return FDL_OK;
}

fdl_status fdl_prune_remove(fdl_module *m, const char *name)
{
    if (!m || !name)
        return fdl_null_operand(__func__, m ? "name" : "m");
    m = m->real;
    module_computed *c = module_computed_named(m, name);
    if (!c || !c->mask)
        return fdl_fail(FDL_E_ARG, "%s: the %s of the %s is not pruned", __func__, name, m->ops->kind);
    int place = place_in(&m->params, c->original);
    if (place < 0)
        return fdl_fail(FDL_E_STATE,
                        "%s: the %s of the %s is parametrized; fdl_parametrize_remove comes first", __func__,
                        c->original->name, m->ops->kind);
    FDL_SCOPE;
    FDL_NO_GRAD;
    FDL_TRY(fdl_copy_(c->original->t, masked(c)));
    FDL_TRY(fdl_object_set(c->p->t, c->original->t));
    m->params.at[place] = c->p;
    take_out(&m->buffers, place_in(&m->buffers, c->mask));
    param_free(c->mask);
    param_free(c->original);
    unlink_computed(m, c);
    changed(m);
    return FDL_OK;
}
