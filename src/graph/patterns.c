/* Parameters by pattern. */
#include "flodl/patterns.h"
#include "flodl/tree.h"
#include "graph_private.h"

#include <fnmatch.h>

/* ---- matching ------------------------------------------------------------------------------------------ */

static bool is_end(char c)
{
    return c == '.' || c == '/' || !c;
}

static const char *segment_end(const char *s)
{
    while (!is_end(*s))
        s++;
    return s;
}

/* One segment against one: the last "*" met is tried on one character more each time that what follows doesn't fit. */
static bool segment_matches(const char *p, const char *p_end, const char *s, const char *s_end)
{
    const char *star = NULL, *from = NULL;
    while (s < s_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            from = s;
        } else if (p < p_end && (*p == '?' || *p == *s)) {
            p++;
            s++;
            if (p[-1] == '?') /* a character may have several bytes */
                while (s < s_end && ((unsigned char)*s & 0xc0) == 0x80)
                    s++;
        } else if (star) {
            p = star;
            s = ++from;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}

static const char *next(const char *end)
{
    return *end ? end + 1 : NULL;
}

/* The segments of p against those of s from the left; NULL: there are none left. As with "*" only the last "**" need be tried
 * again, further to the right. */
bool fdl_pattern_matches(const char *pattern, const char *name)
{
    const char *p = pattern, *s = name, *stars = NULL, *from = NULL;
    if (!p || !s)
        return false;
    while (p) {
        const char *p_end = segment_end(p), *s_end = s ? segment_end(s) : NULL;
        if (p_end - p == 2 && p[0] == '*' && p[1] == '*') {
            stars = p = next(p_end);
            from = s;
            if (!p)
                return true;
        } else if (s && segment_matches(p, p_end, s, s_end)) {
            p = next(p_end);
            s = next(s_end);
        } else if (stars && from) {
            p = stars;
            s = from = next(segment_end(from));
            if (!s)
                return false;
        } else {
            return false;
        }
    }
    return true;
}

/* ---- selecting ----------------------------------------------------------------------------------------- */

typedef struct selection {
    fdl_module *root;
    const char *pattern, *kind;
    fdl_params *found; /* NULL: nothing so far */
    bool any;          /* a module of that kind was met */
} selection;

static fdl_status add(selection *s, fdl_params *more)
{
    s->found = s->found && more ? fdl_params_join(s->found, more) : more;
    return s->found ? FDL_OK : fdl_error_pending();
}

static char *joined(const char *path, const char *name)
{
    size_t n = strlen(path) + strlen(name) + 2;
    char *both = fdl_scope_alloc(n);
    if (both)
        snprintf(both, n, "%s%s%s", path, *path ? "." : "", name);
    return both;
}

static fdl_status try_path(selection *s, const char *path)
{
    return path && fdl_pattern_matches(s->pattern, path)
               ? add(s, fdl_graph_parameters_at_opt(s->root, path, NULL))
           : path ? FDL_OK
                  : fdl_error_pending();
}

/* All paths from root through g, which lies at `path`. */
static fdl_status try_paths(selection *s, const graph *g, const char *path)
{
    for (int i = 0; i < g->tags; i++)
        if ((!*path || !graph_tag_is_internal(g, i)) && !graph_find_child(g, g->tag[i].name))
            FDL_TRY(try_path(s, joined(path, g->tag[i].name)));
    for (int i = 0; i < g->inners; i++) {
        const graph *child = g->inner[i];
        if (!child->label)
            continue;
        const char *below = joined(path, child->label);
        if (below && fdl_pattern_matches(s->pattern, below)) {
            FDL_TRY(try_path(s, below));
            continue; /* with all that lies below it */
        }
        FDL_TRY(below ? try_paths(s, child, below) : fdl_error_pending());
    }
    return FDL_OK;
}

static bool name_matches(const fdl_param *p, const char *name, void *ctx)
{
    (void)p;
    return fdl_pattern_matches(((const selection *)ctx)->pattern, name);
}

static fdl_params *by_pattern(fdl_module *m, const char *pattern, fdl_params *all)
{
    selection s = {.root = m, .pattern = pattern};
    if (add(&s, fdl_params_where(all, name_matches, &s)) != FDL_OK ||
        try_paths(&s, graph_or_null(m), "") != FDL_OK)
        return NULL;
    if (fdl_params_count(s.found) == 0)
        return fdl_fail_null(FDL_E_ARG, "fdl_graph_select: \"%s\" selects no parameter of this graph",
                             pattern);
    return fdl_params_intersect(all, s.found);
}

static fdl_status note_kind(fdl_module *m, void *ctx)
{
    selection *s = ctx;
    if (fnmatch(s->kind, fdl_module_kind(m), 0) != 0)
        return FDL_OK;
    s->any = true;
    return add(s, fdl_parameters_opt(m, NULL));
}

static fdl_params *by_kind(fdl_module *m, const char *kind, fdl_params *among)
{
    selection s = {.kind = kind};
    if (fdl_module_walk(m, note_kind, &s) != FDL_OK)
        return NULL;
    if (!s.any)
        return fdl_fail_null(FDL_E_ARG, "fdl_graph_select: no module of this graph is of the kind \"%s\"",
                             kind);
    return fdl_params_intersect(among, s.found);
}

static bool fits(const fdl_param *p, const char *name, void *ctx)
{
    const fdl_graph_select_opts *o = ctx;
    int ndim = fdl_ndim(fdl_param_tensor(p));
    return ndim >= o->min_ndim && (!o->max_ndim || ndim <= o->max_ndim) &&
           !(o->trainable && fdl_param_is_frozen(p)) && (!o->where || o->where(p, name, o->ctx));
}

fdl_params *fdl_graph_select_opt(fdl_module *m, const char *pattern, const fdl_graph_select_opts *opts)
{
    fdl_graph_select_opts o = opts ? *opts : (fdl_graph_select_opts){0};
    if (!graph_of("fdl_graph_select", m))
        return NULL;
    fdl_params *ps = fdl_parameters_opt(m, NULL);
    if (ps && pattern)
        ps = by_pattern(m, pattern, ps);
    if (ps && o.kind)
        ps = by_kind(m, o.kind, ps);
    return ps ? fdl_params_where(ps, fits, &o) : NULL;
}

fdl_status fdl_params_each(const fdl_params *ps, fdl_status (*fn)(fdl_param *p, const char *name, void *ctx),
                           void *ctx)
{
    if (!ps || !fn)
        return fdl_null_operand(__func__, ps ? "fn" : "params");
    int n = fdl_params_count(ps);
    for (int i = 0; i < n; i++)
        FDL_TRY(fn(fdl_params_at(ps, i), fdl_params_name(ps, i), ctx));
    return FDL_OK;
}
