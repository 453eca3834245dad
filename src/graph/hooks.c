/* Hooks by path: each is a watcher of the graph in which its node lies. */
#include "flodl/graph_hook.h"
#include "flodl/shape.h"
#include "graph_private.h"

#include <stdatomic.h>

enum { GRAPH_HOOK = 3 }; /* fdl_hook.kind */

/* What the user gave. Recorded values refer to it as well as the graph does. */
typedef struct origin {
    atomic_int holders;
    fdl_tensor *(*forward)(fdl_tensor *value, void *ctx);
    fdl_tensor *(*backward)(fdl_tensor *grad, void *ctx);
    void (*release)(void *ctx);
    void *ctx;
} origin;

typedef struct watch {
    graph_watcher w;
    int place;
    unsigned number;
    origin *from; /* NULL: only lets the value keep its gradient */
} watch;

static void let_go(void *from)
{
    origin *o = from;
    if (!o || atomic_fetch_sub(&o->holders, 1) > 1)
        return;
    if (o->release)
        o->release(o->ctx);
    free(o);
}

static fdl_tensor *run_backward(fdl_tensor *grad, void *from)
{
    const origin *o = from;
    return o->backward(grad, o->ctx);
}

/* ---- while a forward runs ------------------------------------------------------------------------------ */

/* A value that is not this node's alone, one of its operands or somebody's leaf, gets a name of its own first: its gradient is
 * what comes through this node, and each forward has its hooks to itself. */
static fdl_tensor *own_value(const graph *g, int place, fdl_tensor *y)
{
    const plan_node *p = &g->plan[place];
    bool foreign = fdl_is_leaf(y);
    for (int i = 0; i < p->inputs + p->refs; i++)
        foreign |= p->in[i] == y;
    return foreign ? fdl_view(y, fdl_shape_of(y)) : y;
}

static fdl_tensor *attend(watch *h, const graph *g, fdl_tensor *y)
{
    origin *o = h->from;
    if (o && o->forward) {
        bool before = fdl_error_pending() != FDL_OK;
        fdl_tensor *z = o->forward(y, o->ctx);
        if (!z && !before && fdl_error_pending() != FDL_OK) {
            fdl_error_prefix("hook: ");
            return NULL;
        }
        y = z ? z : y;
    }
    if ((o && !o->backward) || !fdl_grad_enabled() || !fdl_requires_grad(y))
        return y;
    y = own_value(g, h->place, y);
    if (!o)
        return y && fdl_retain_grad(y) == FDL_OK ? y : NULL;
    atomic_fetch_add(&o->holders, 1);
    fdl_hook_opts opts = {.release = let_go};
    return fdl_hook_grad_opt(y, run_backward, o, &opts).kind ? y : NULL;
}

static fdl_tensor *after(graph_watcher *w, graph *g, int place, fdl_tensor *y)
{
    watch *h = (watch *)w;
    if (place != h->place)
        return y;
    fdl_scope *scope = fdl_scope_open();
    fdl_tensor *z = scope ? fdl_escape(attend(h, g, y)) : NULL;
    fdl_scope_close(scope);
    return z;
}

/* ---- adding and removing ------------------------------------------------------------------------------- */

static void free_watch(graph_watcher *w)
{
    let_go(((watch *)w)->from);
    free(w);
}

static int place_of(const graph_place *at)
{
    const graph *g = at->g;
    return g->node[at->tag < 0 ? g->output : g->tag[at->tag].node].place;
}

static watch *watch_of(graph_watcher *w)
{
    return w->after == after ? (watch *)w : NULL;
}

static void changed(graph *g)
{
    fdl_module_of(g)->version++;
}

static watch *find_retaining(graph *g, int place)
{
    for (graph_watcher *w = g->watchers; w; w = w->next)
        if (watch_of(w) && watch_of(w)->place == place && !watch_of(w)->from)
            return watch_of(w);
    return NULL;
}

static watch *add(const graph_place *at, origin *from)
{
    graph *g = at->g;
    watch *h = malloc(sizeof *h);
    if (!h)
        return fdl_fail_null(FDL_E_OOM, "no memory for a hook");
    *h = (watch){.w = {.after = after, .free = free_watch}, .place = place_of(at), .from = from};
    h->number = (unsigned)++g->hooks;
    graph_watch(g, &h->w);
    changed(g);
    return h;
}

/* The value that keeps its gradient is the one that all hooks have passed on. */
static fdl_status retain_last(const graph_place *at)
{
    watch *h = find_retaining(at->g, place_of(at));
    if (!h)
        return FDL_OK;
    graph_unwatch(at->g, &h->w);
    return add(at, NULL) ? FDL_OK : FDL_E_OOM;
}

static fdl_hook add_hook(fdl_module *m, const char *path, const origin *given)
{
    static const fdl_hook none = {0};
    graph_place at;
    if (graph_resolve("fdl_graph_hook", m, path, &at) != FDL_OK)
        return none;
    if (!given->forward && !given->backward) {
        fdl_null_operand("fdl_graph_hook", "forward");
        return none;
    }
    origin *o = malloc(sizeof *o);
    if (!o) {
        fdl_fail(FDL_E_OOM, "no memory for a hook");
        return none;
    }
    *o = *given;
    o->release = NULL; /* the caller's call, unless it succeeds */
    watch *h = add(&at, o);
    if (!h) {
        free(o);
        return none;
    }
    if (retain_last(&at) != FDL_OK) {
        graph_unwatch(at.g, &h->w);
        return none;
    }
    o->release = given->release;
    return (fdl_hook){.of = at.g, .kind = GRAPH_HOOK, .place = h->number};
}

fdl_hook fdl_graph_hook_opt(fdl_module *m, const char *path,
                            fdl_tensor *(*forward)(fdl_tensor *value, void *ctx), void *ctx,
                            const fdl_graph_hook_opts *opts)
{
    static const fdl_graph_hook_opts none = {0};
    if (!opts)
        opts = &none;
    origin given = {
        .holders = 1, .forward = forward, .backward = opts->backward, .release = opts->release, .ctx = ctx};
    fdl_hook hook = add_hook(m, path, &given);
    if (!hook.kind && opts->release)
        opts->release(ctx);
    return hook;
}

/* Whether the graph lies in g or is it: only then is it sure to exist. */
static graph *find_graph(graph *g, const void *wanted)
{
    if (g == wanted)
        return g;
    for (int i = 0; i < g->inners; i++) {
        graph *found = find_graph(g->inner[i], wanted);
        if (found)
            return found;
    }
    return NULL;
}

fdl_status fdl_graph_unhook(fdl_module *m, fdl_hook hook)
{
    graph *g = graph_of(__func__, m);
    if (!g)
        return fdl_error_pending();
    if (hook.kind == 0)
        return FDL_OK;
    graph *in = hook.kind == GRAPH_HOOK ? find_graph(g, hook.of) : NULL;
    if (!in)
        return fdl_fail(FDL_E_ARG, "%s: the hook is not of this graph or of one in it", __func__);
    for (graph_watcher *w = in->watchers; w; w = w->next)
        if (watch_of(w) && watch_of(w)->number == hook.place) {
            graph_unwatch(in, w);
            changed(in);
            break;
        }
    return FDL_OK;
}

/* ---- gradients of values ------------------------------------------------------------------------------- */

fdl_status fdl_graph_retain_grad(fdl_module *m, const char *path, bool on)
{
    graph_place at;
    FDL_TRY(graph_resolve(__func__, m, path, &at));
    watch *h = find_retaining(at.g, place_of(&at));
    if (on && !h)
        return add(&at, NULL) ? FDL_OK : FDL_E_OOM;
    if (!on && h) {
        graph_unwatch(at.g, &h->w);
        changed(at.g);
    }
    return FDL_OK;
}

fdl_tensor *fdl_graph_tagged_grad(fdl_module *m, const char *path)
{
    graph_place at;
    if (graph_resolve_tag(__func__, m, path, &at) != FDL_OK)
        return NULL;
    if (!find_retaining(at.g, place_of(&at)))
        return fdl_fail_null(FDL_E_STATE,
                             "%s: \"%s\" keeps no gradient; fdl_graph_retain_grad before the forward lets it",
                             __func__, path);
    fdl_tensor *value = graph_tag_value(at.g, at.tag), *grad = value ? fdl_grad(value) : NULL;
    if (!grad)
        fdl_fail(FDL_E_STATE, "%s: no backward has come to \"%s\" since the last forward", __func__, path);
    return grad;
}
