/* The life of a module: making it, registering what it owns, running it, freeing it. */
#include "module_private.h"

#include <stdatomic.h>
#include <unistd.h>

/* ---- making ------------------------------------------------------------------------------------------ */

/* In front of self, so that fdl_module_of finds the module. */
typedef union self_header {
    fdl_module *module;
    max_align_t align;
} self_header;

fdl_module *module_new_with(const fdl_module_ops *ops, const module_table *table)
{
    fdl_module *m = calloc(1, sizeof *m);
    self_header *header = calloc(1, sizeof *header + ops->size);
    if (!m || !header) {
        free(m);
        free(header);
        return fdl_fail_null(FDL_E_OOM, "%s: no memory for the module", ops->kind);
    }
    header->module = m;
    m->real = m;
    m->handles = 1;
    m->ops = ops;
    m->table = table;
    m->self = header + 1;
    m->training = true;
    m->made = true;
    return m;
}

fdl_module *fdl_module_new(const fdl_module_ops *ops)
{
    if (!ops) {
        fdl_null_operand(__func__, "ops");
        return NULL;
    }
    if (!ops->kind || !*ops->kind)
        return fdl_fail_null(FDL_E_ARG, "fdl_module_new: ops.kind is missing");
    if (!ops->forward && !ops->forward_named && !ops->step)
        return fdl_fail_null(FDL_E_ARG, "fdl_module_new: %s has none of forward, forward_named and step",
                             ops->kind);
    fdl_module *m = module_new_with(ops, NULL);
    if (m)
        m->made = false;
    return m;
}

void *fdl_module_self(fdl_module *m)
{
    if (!m)
        fdl_null_operand(__func__, "m");
    return m ? m->real->self : NULL;
}

fdl_module *fdl_module_of(void *self)
{
    if (!self)
        fdl_null_operand(__func__, "self");
    return self ? ((self_header *)self - 1)->module : NULL;
}

const char *fdl_module_kind(fdl_module *m)
{
    return m ? m->real->ops->kind : NULL;
}

const fdl_module_ops *fdl_module_ops_of(fdl_module *m)
{
    return m ? m->real->ops : NULL;
}

fdl_module *fdl_module_share(fdl_module *m)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    fdl_module *handle = calloc(1, sizeof *handle);
    if (!handle)
        return fdl_fail_null(FDL_E_OOM, "fdl_module_share: no memory");
    handle->real = m->real;
    m->real->handles++;
    return handle;
}

/* ---- freeing ----------------------------------------------------------------------------------------- */

void param_free(struct fdl_param *p)
{
    if (!p)
        return;
    fdl_object_free(p->t);
    free(p->name);
    free(p);
}

static void free_params(param_list *list)
{
    for (int i = 0; i < list->n; i++)
        param_free(list->at[i]);
    free(list->at);
}

static void free_computed(module_computed *c)
{
    while (c) {
        module_computed *next = c->next;
        param_free(c->p);
        free(c);
        c = next;
    }
}

/* In the checked mode a handle's memory stays, so that its use can be told; in a list, so that it isn't lost either. */
static void bury(fdl_module *m)
{
    static fdl_module *_Atomic graves;
    if (!fdl_is_checked()) {
        free(m);
        return;
    }
    const fdl_module_ops *ops = m->real->ops;
    fdl_module *next = atomic_load(&graves);
    *m = (fdl_module){.real = m, .closed = true, .gone = true, .ops = ops};
    do
        m->self = next;
    while (!atomic_compare_exchange_weak(&graves, &next, m));
}

static void destroy(fdl_module *m)
{
    if (m->ops->free)
        m->ops->free(m->self);
    free_computed(m->computed);
    for (int i = 0; i < m->children.n; i++) {
        module_release(m->children.at[i]);
        free(m->children.names[i]);
    }
    free(m->children.at);
    free(m->children.names);
    free_params(&m->params);
    free_params(&m->buffers);
    free(m->args);
    free((self_header *)m->self - 1);
    bury(m);
}

void module_release(fdl_module *m)
{
    if (!m || m->closed)
        return;
    fdl_module *real = m->real;
    m->closed = true;
    if (m != real)
        bury(m);
    if (--real->handles == 0)
        destroy(real);
}

fdl_status fdl_module_free(fdl_module *m)
{
    if (!m)
        return FDL_OK;
    if (m->owned)
        return fdl_fail(FDL_E_STATE, "fdl_module_free: this %s belongs to another module, which frees it",
                        fdl_module_kind(m));
    if (m->closed)
        return fdl_fail(FDL_E_STATE, "fdl_module_free: this handle of a %s was freed already",
                        fdl_module_kind(m));
    module_release(m);
    return FDL_OK;
}

fdl_status module_take(fdl_module *m, const char *by)
{
    if (!m)
        return fdl_null_operand(by, "module");
    if (m->owned || m->closed)
        return fdl_fail(FDL_E_STATE,
                        "%s: this %s %s; fdl_module_share makes another handle of the same module", by,
                        fdl_module_kind(m), m->owned ? "has an owner already" : "was freed");
    m->owned = true;
    return FDL_OK;
}

/* ---- registering: what fails is remembered in the module -------------------------------------------------- */

static void *latch(fdl_module *m)
{
    m->failed = true;
    return NULL;
}

static struct fdl_param *find_own(const param_list *list, const char *name)
{
    for (int i = 0; i < list->n; i++)
        if (strcmp(list->at[i]->name, name) == 0)
            return list->at[i];
    return NULL;
}

fdl_status module_check_name(fdl_module *m, const char *what, const char *name)
{
    if (!name || !*name || strchr(name, '/'))
        return fdl_fail(FDL_E_ARG, "%s: the name \"%s\" of a %s is empty or has a \"/\"", m->ops->kind,
                        name ? name : "(NULL)", what);
    bool taken = find_own(&m->params, name) || find_own(&m->buffers, name) || module_computed_named(m, name);
    for (int i = 0; i < m->children.n; i++)
        taken |= strcmp(m->children.names[i], name) == 0;
    return taken ? fdl_fail(FDL_E_ARG, "%s: two things are called \"%s\"", m->ops->kind, name) : FDL_OK;
}

/* The leaf of a parameter or buffer: init's own storage when nobody else has it, otherwise a copy. */
static fdl_tensor *make_leaf(fdl_tensor *init, bool requires_grad)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_tensor *leaf = fdl_detach(fdl_is_sole(init) ? init : fdl_clone(init));
    if (!leaf || (requires_grad && fdl_requires_grad_(leaf, true) != FDL_OK))
        return NULL;
    return fdl_object_new(leaf);
}

static fdl_tensor *register_tensor(fdl_module *m, param_list *list, const char *what, const char *name,
                                   fdl_tensor *init, bool requires_grad, bool transient)
{
    if (!init) {
        fdl_null_operand(m->ops->kind, name ? name : what);
        return latch(m);
    }
    if (module_check_name(m, what, name) != FDL_OK)
        return latch(m);
    fdl_tensor *leaf = make_leaf(init, requires_grad);
    if (!leaf) {
        fdl_error_prefix("%s: %s %s: ", m->ops->kind, what, name);
        return latch(m);
    }
    struct fdl_param **at = realloc(list->at, sizeof *at * (size_t)(list->n + 1));
    if (at)
        list->at = at;
    struct fdl_param *p = calloc(1, sizeof *p);
    char *copy = strdup(name);
    if (!at || !p || !copy) {
        fdl_fail(FDL_E_OOM, "%s: no memory for %s", m->ops->kind, name);
        fdl_object_free(leaf);
        free(p);
        free(copy);
        return latch(m);
    }
    *p = (struct fdl_param){.name = copy, .t = leaf, .transient = transient};
    list->at[list->n++] = p;
    return leaf;
}

fdl_tensor *fdl_module_param(fdl_module *m, const char *name, fdl_tensor *init)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    return register_tensor(m->real, &m->real->params, "parameter", name, init, true, false);
}

fdl_tensor *fdl_module_buffer(fdl_module *m, const char *name, fdl_tensor *init)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    return register_tensor(m->real, &m->real->buffers, "buffer", name, init, false, false);
}

fdl_tensor *fdl_module_transient(fdl_module *m, const char *name, fdl_tensor *init)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    return register_tensor(m->real, &m->real->buffers, "buffer", name, init, false, true);
}

/* The child is taken over already. */
static fdl_module *add_child(fdl_module *m, const char *name, fdl_module *child)
{
    const char *refusal = module_refusal(child);
    if (refusal)
        return fdl_fail_null(FDL_E_ARG, "%s: %s", m->ops->kind, refusal);
    if (module_check_name(m, "child", name) != FDL_OK)
        return NULL;
    fdl_module **at = realloc(m->children.at, sizeof *at * (size_t)(m->children.n + 1));
    if (at)
        m->children.at = at;
    char **names = realloc(m->children.names, sizeof *names * (size_t)(m->children.n + 1));
    if (names)
        m->children.names = names;
    char *copy = strdup(name);
    if (!at || !names || !copy) {
        free(copy);
        return fdl_fail_null(FDL_E_OOM, "%s: no memory for child %s", m->ops->kind, name);
    }
    at[m->children.n] = child;
    names[m->children.n++] = copy;
    module_changed();
    return child;
}

fdl_module *fdl_module_child(fdl_module *m, const char *name, fdl_module *child)
{
    if (!m || !child) {
        fdl_null_operand(__func__, m ? "child" : "m");
        if (child && !child->owned)
            module_release(child);
        return m ? latch(m->real) : NULL;
    }
    m = m->real;
    if (child == m) {
        fdl_fail(FDL_E_ARG, "%s: a module can't be its own child", m->ops->kind);
        return latch(m);
    }
    if (module_take(child, m->ops->kind) != FDL_OK)
        return latch(m);
    if (child->real != m && add_child(m, name, child))
        return child;
    fdl_fail(FDL_E_ARG, "%s: a module can't be its own child", m->ops->kind);
    module_release(child);
    return latch(m);
}

fdl_module *fdl_module_done(fdl_module *m)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    m->real->made = true;
    if (!m->real->failed)
        return m;
    fdl_fail(FDL_E_STATE, "%s: registering failed", fdl_module_kind(m));
    module_release(m);
    return NULL;
}

fdl_status fdl_module_share_param(fdl_module *m, const char *name, fdl_param *other)
{
    if (!m || !other)
        return fdl_null_operand(__func__, m ? "other" : "m");
    struct fdl_param *p = fdl_module_own_param(m, name);
    if (!p)
        return fdl_error_pending();
    if (!fdl_shape_eq(fdl_shape_of(p->t), fdl_shape_of(other->t))) {
        char a[256], b[256];
        return fdl_fail(FDL_E_SHAPE, "fdl_module_share_param: %s of %s is %s, the other parameter %s", name,
                        fdl_module_kind(m), fdl_describe(p->t, a, sizeof a),
                        fdl_describe(other->t, b, sizeof b));
    }
    return fdl_object_set(p->t, other->t);
}

/* ---- asking ------------------------------------------------------------------------------------------- */

fdl_param *fdl_module_own_param(fdl_module *m, const char *name)
{
    if (!m || !name) {
        fdl_null_operand(__func__, m ? "name" : "m");
        return NULL;
    }
    struct fdl_param *p = find_own(&m->real->params, name);
    const module_computed *c = p ? NULL : module_computed_named(m, name);
    if (c)
        fdl_fail(FDL_E_ARG, "the %s of the %s is computed from %s%s; fdl_parametrized gives its value", name,
                 fdl_module_kind(m), name, c->mask ? "_orig and a mask" : "'s parametrization");
    else if (!p)
        fdl_fail(FDL_E_ARG, "%s has no parameter of its own called \"%s\"", fdl_module_kind(m), name);
    return p;
}

fdl_buffer *fdl_module_own_buffer(fdl_module *m, const char *name)
{
    if (!m || !name) {
        fdl_null_operand(__func__, m ? "name" : "m");
        return NULL;
    }
    struct fdl_param *b = find_own(&m->real->buffers, name);
    if (!b)
        fdl_fail(FDL_E_ARG, "%s has no buffer of its own called \"%s\"", fdl_module_kind(m), name);
    return b;
}

int module_parts(fdl_module *m)
{
    m = m->real;
    return m->table && m->table->parts ? m->table->parts(m) : m->children.n;
}

module_part module_part_at(fdl_module *m, int i)
{
    m = m->real;
    if (m->table && m->table->part)
        return m->table->part(m, i);
    return (module_part){.module = m->children.at[i],
                         .name = m->children.names[i],
                         .flat = m->children.names[i],
                         .sequential = m->children.names[i]};
}

int fdl_module_children(fdl_module *m)
{
    if (!m)
        fdl_null_operand(__func__, "m");
    return m ? module_parts(m) : -1;
}

fdl_module *fdl_module_child_at(fdl_module *m, int i, const char **name)
{
    if (!m) {
        fdl_null_operand(__func__, "m");
        return NULL;
    }
    if (i < 0 || i >= module_parts(m))
        return fdl_fail_null(FDL_E_RANGE, "fdl_module_child_at: child %d of the %d of %s", i, module_parts(m),
                             fdl_module_kind(m));
    module_part part = module_part_at(m, i);
    if (name)
        *name = part.name;
    return part.module;
}

/* ---- running ------------------------------------------------------------------------------------------- */

const char *module_refusal(fdl_module *m)
{
    m = m->real;
    return m->table && m->table->refusal ? m->table->refusal(m) : NULL;
}

static int count_names(const char *const *names)
{
    int n = 0;
    while (names[n])
        n++;
    return n;
}

static fdl_tensor *run_ops(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    const fdl_module_ops *ops = m->ops;
    if (n == 1 && ops->forward)
        return ops->forward(m->self, inputs[0]);
    /* A module that names no refs takes them by position. */
    static const char *const positions[] = {"1", "2", "3", "4", "5", "6", "7", "8", NULL};
    const char *const *names = ops->ref_names ? ops->ref_names : positions;
    int most = ops->forward_named || ops->step ? 1 + count_names(names) : 1;
    if (n > most)
        return fdl_fail_null(FDL_E_ARG, "%s takes %s%d input%s, got %d", ops->kind, most > 1 ? "up to " : "",
                             most, most > 1 ? "s" : "", n);
    fdl_refs refs = {.n = (size_t)n - 1, .names = names, .at = inputs + 1};
    return ops->forward_named ? ops->forward_named(m->self, inputs[0], &refs)
                              : ops->step(m->self, inputs[0], &refs, NULL);
}

/* ---- which module an error is of ---- */

/* The module that failed last on this thread, whose error begins with where it came from; NULL: none has since the last forward
 * began. */
static _Thread_local struct {
    fdl_module *module;
    bool has_path; /* it begins with a path below that module, not with its kind */
} blamed;

/* m failed. Because of a child of its own? Then the child's name goes in front: "encoder.fc1, linear: fdl_linear(...". A graph
 * names its nodes itself. */
static void name_child(fdl_module *m)
{
    if (!blamed.module)
        return;
    for (int i = 0; i < m->children.n && !m->table; i++)
        if (m->children.at[i]->real == blamed.module) {
            fdl_error_prefix("%s%s", m->children.names[i], blamed.has_path ? "." : ", ");
            blamed.has_path = true;
            break;
        }
    blamed.module = m;
}

/* The first of m's own tensors that lies elsewhere than x. */
static void name_device(fdl_module *m, fdl_tensor *x)
{
    const param_list *lists[] = {&m->params, &m->buffers};
    char there[FDL_DEVICE_NAME_SIZE], here[FDL_DEVICE_NAME_SIZE];
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < lists[k]->n; i++)
            if (!fdl_device_eq(fdl_device_of(lists[k]->at[i]->t), fdl_device_of(x))) {
                fdl_error_prefix("%s is on %s, the input on %s: ", lists[k]->at[i]->name,
                                 fdl_device_name(fdl_device_of(lists[k]->at[i]->t), there),
                                 fdl_device_name(fdl_device_of(x), here));
                return;
            }
}

/* ---- the checked mode ---- */

static bool begin_checked(fdl_module *m, bool *first)
{
    int me = (int)gettid(), other = 0;
    *first = false;
    if (m->gone)
        fdl_fail(FDL_E_STATE, "fdl_forward: this %s was freed", m->ops->kind);
    else if (!m->made)
        fdl_fail(FDL_E_STATE, "fdl_forward: this %s is being made still; fdl_module_done ends that",
                 m->ops->kind);
    else if (atomic_compare_exchange_strong(&m->user, &other, me))
        return *first = true;
    else if (other != me)
        fdl_fail(FDL_E_STATE, "fdl_forward: thread %d runs this %s, and thread %d at the same time", other,
                 m->ops->kind, me);
    else
        return true;
    return false;
}

static void end_checked(fdl_module *m, bool first)
{
    if (FDL_UNLIKELY(first))
        atomic_store(&m->user, 0);
}

module_call module_begin_call(fdl_module *m)
{
    module_call call = {m, false};
    if (FDL_UNLIKELY(fdl_checked_) && !begin_checked(m, &call.first))
        return (module_call){NULL, false};
    if (module_enter(m))
        return call;
    end_checked(m, call.first);
    return (module_call){NULL, false};
}

void module_end_call(module_call *call)
{
    if (!call->module)
        return;
    module_leave(call->module);
    end_checked(call->module, call->first);
}

/* ---- a run ---- */

static fdl_tensor *run_once(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    if (FDL_UNLIKELY(m->table != NULL) && module_refusal(m))
        return fdl_fail_null(FDL_E_ARG, "%s", module_refusal(m));
    if (FDL_UNLIKELY(m->watch != NULL))
        m->watch->before(m);
    if (!module_enter(m))
        return NULL;
    fdl_tensor *y = m->table && m->table->forward ? m->table->forward(m, n, inputs) : run_ops(m, n, inputs);
    module_leave(m);
    if (FDL_UNLIKELY(!y))
        fdl_fail(FDL_E_NULL, "forward of %s returned NULL without an error", m->ops->kind);
    else if (FDL_UNLIKELY(m->watch != NULL))
        m->watch->after(m, n, inputs, NULL, y);
    return y;
}

fdl_tensor *module_run(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    m = m->real;
    bool first = false;
    if (FDL_UNLIKELY(fdl_checked_) && !begin_checked(m, &first))
        return NULL;
    fdl_tensor *y = run_once(m, n, inputs);
    end_checked(m, first);
    if (FDL_UNLIKELY(!y)) {
        if (fdl_error_pending() == FDL_E_DEVICE && !blamed.module)
            name_device(m, inputs[0]);
        name_child(m);
    }
    return y;
}

fdl_tensor *fdl_forward_of(fdl_module *m, int n, fdl_tensor *const *inputs)
{
    if (FDL_UNLIKELY(!m || !inputs || n < 1)) {
        fdl_null_operand("fdl_forward", m ? "x" : "m");
        return NULL;
    }
    for (int i = 0; i < n; i++)
        if (FDL_UNLIKELY(!inputs[i]))
            return fdl_fail_null(FDL_E_NULL, "fdl_forward: input %d is NULL", i);
    bool untroubled = fdl_error_pending() == FDL_OK;
    fdl_scope *scope = fdl_scope_open();
    blamed.module = NULL;
    fdl_tensor *y = scope ? fdl_escape(module_run(m, n, inputs)) : NULL;
    fdl_scope_close(scope);
    if (FDL_UNLIKELY(!y) && untroubled && !blamed.module && !m->gone) {
        blamed.module = m->real;
        blamed.has_path = m->real->table != NULL;
        if (!m->real->table)
            fdl_error_prefix("%s: ", m->real->ops->kind);
    }
    return y;
}

fdl_tensor *fdl_forward_list(fdl_module *m, fdl_list inputs)
{
    return fdl_forward_of(m, inputs.n, inputs.at);
}

void fdl_emit(fdl_emitter *e, const char *name, fdl_tensor *t)
{
    if (!e || e->failed)
        return;
    if (!name || !t)
        fdl_null_operand(__func__, name ? "t" : "name");
    e->failed = !name || !t || e->put(e, name, t) != FDL_OK;
}

/* ---- refs ---------------------------------------------------------------------------------------------- */

fdl_tensor *fdl_refs_get(const fdl_refs *r, const char *name)
{
    for (size_t i = 0; r && name && i < r->n; i++)
        if (strcmp(r->names[i], name) == 0)
            return r->at[i];
    return NULL;
}

fdl_tensor *fdl_refs_need(const fdl_refs *r, const char *name)
{
    fdl_tensor *t = fdl_refs_get(r, name);
    if (t)
        return t;
    char wired[512] = "";
    size_t used = 0;
    for (size_t i = 0; r && i < r->n && used < sizeof wired; i++)
        used += (size_t)snprintf(wired + used, sizeof wired - used, "%s\"%s\"", i ? ", " : "", r->names[i]);
    return fdl_fail_null(FDL_E_ARG, "the input \"%s\" is not wired; wired: %s", name ? name : "(NULL)",
                         *wired ? wired : "none");
}

bool fdl_refs_initial(const fdl_refs *r, const char *name)
{
    for (size_t i = 0; r && r->initial && name && i < r->n; i++)
        if (strcmp(r->names[i], name) == 0)
            return r->initial[i];
    return false;
}

size_t fdl_refs_count(const fdl_refs *r)
{
    return r ? r->n : 0;
}

const char *fdl_refs_name(const fdl_refs *r, size_t i)
{
    return r && i < r->n ? r->names[i] : fdl_fail_null(FDL_E_RANGE, "fdl_refs_name: no input %zu", i);
}

fdl_tensor *fdl_refs_at(const fdl_refs *r, size_t i)
{
    return r && i < r->n ? r->at[i] : fdl_fail_null(FDL_E_RANGE, "fdl_refs_at: no input %zu", i);
}

/* ---- numbers of the process ----------------------------------------------------------------------------- */

static _Atomic uint64_t changes = 1;

uint64_t module_changes(void)
{
    return atomic_load(&changes);
}

void module_changed(void)
{
    atomic_fetch_add(&changes, 1);
}

uint64_t module_new_walk(void)
{
    static _Atomic uint64_t walks;
    return atomic_fetch_add(&walks, 1) + 1;
}
