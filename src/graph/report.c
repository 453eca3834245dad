/* What a tree of graphs is, as text for people. */
#include "flodl/message.h"
#include "flodl/tree.h"
#include "graph_private.h"

/* ---- counting ------------------------------------------------------------------------------------------ */

typedef struct tally {
    int n, frozen; /* tensors */
    int64_t elements, frozen_elements;
} tally;

static tally count(const fdl_params *ps)
{
    tally t = {.n = fdl_params_count(ps)};
    for (int i = 0; i < t.n; i++) {
        const fdl_param *p = fdl_params_at(ps, i);
        int64_t elements = fdl_numel(fdl_param_tensor(p));
        t.elements += elements;
        if (fdl_param_is_frozen(p)) {
            t.frozen++;
            t.frozen_elements += elements;
        }
    }
    return t;
}

static const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static bool all_frozen(tally t)
{
    return t.n > 0 && t.frozen == t.n;
}

/* ---- the tree ------------------------------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static fdl_status put_tags(FILE *out, const graph *g, int depth)
{
    const char **names = fdl_scope_alloc(sizeof *names * (size_t)(g->tags ? g->tags : 1));
    if (!names)
        return fdl_error_pending();
    int n = 0;
    for (int i = 0; i < g->tags; i++)
        if (!graph_tag_is_internal(g, i))
            names[n++] = g->tag[i].name;
    qsort(names, (size_t)n, sizeof *names, by_name);
    if (n)
        fprintf(out, "%*stags: ", 2 * depth, "");
    for (int i = 0; i < n; i++)
        fprintf(out, "%s%s", i ? ", " : "", names[i]);
    if (n)
        fputc('\n', out);
    return FDL_OK;
}

static fdl_status put_graph(FILE *out, graph *g, int depth)
{
    FDL_SCOPE;
    fdl_module *m = fdl_module_of(g);
    fdl_params *ps = fdl_parameters_opt(m, NULL);
    const char *hash = ps ? fdl_graph_short_hash(m) : NULL;
    if (!hash)
        return fdl_error_pending();
    tally t = count(ps);
    fprintf(out, "%*s%s [%s]%s\n", 2 * depth, "", g->label ? g->label : "(root)", hash,
            all_frozen(t) ? " frozen" : "");
    FDL_TRY(put_tags(out, g, depth + 1));
    fprintf(out, "%*sparameters: %d tensor%s, %lld element%s", 2 * depth + 2, "", t.n, plural(t.n),
            (long long)t.elements, plural(t.elements));
    if (t.frozen)
        fprintf(out, "; frozen: %d tensor%s, %lld element%s", t.frozen, plural(t.frozen),
                (long long)t.frozen_elements, plural(t.frozen_elements));
    fputc('\n', out);
    for (int i = 0; i < g->inners; i++)
        if (g->inner[i]->label)
            FDL_TRY(put_graph(out, g->inner[i], depth + 1));
    return FDL_OK;
}

/* ---- parameters by child ------------------------------------------------------------------------------- */

/* One line: a child, or what belongs to none. */
typedef struct share {
    const char *label;
    tally t;
    int permille; /* of the elements */
} share;

/* Rounds the shares so that they add up to 1000: the largest remainders are rounded up. */
static void round_shares(share *s, int n, int64_t total)
{
    int left = total ? 1000 : 0;
    for (int i = 0; total && i < n; i++)
        left -= s[i].permille = (int)((double)s[i].t.elements * 1000.0 / (double)total);
    while (left-- > 0) {
        int best = 0;
        double most = -1;
        for (int i = 0; i < n; i++) {
            double missing = (double)s[i].t.elements * 1000.0 / (double)total - s[i].permille;
            if (missing > most) {
                most = missing;
                best = i;
            }
        }
        s[best].permille++;
    }
}

static void put_share(FILE *out, const share *s, int width)
{
    tally t = s->t;
    fprintf(out, "%-*s  %6d tensor%s  %12lld element%s  %3d.%d%%  ", width, s->label, t.n,
            t.n == 1 ? " " : "s", (long long)t.elements, t.elements == 1 ? " " : "s", s->permille / 10,
            s->permille % 10);
    if (!t.frozen)
        fputs(t.n ? "trainable" : "-", out);
    else if (t.frozen == t.n)
        fputs("frozen", out);
    else
        fprintf(out, "%d of %d frozen (%lld of %lld elements)", t.frozen, t.n, (long long)t.frozen_elements,
                (long long)t.elements);
    fputc('\n', out);
}

static fdl_status put_shares(FILE *out, graph *g)
{
    FDL_SCOPE;
    int n = 0, width = 5;
    share *s = fdl_scope_alloc(sizeof *s * (size_t)(g->inners + 2));
    fdl_params *rest = fdl_parameters_opt(fdl_module_of(g), NULL);
    if (!s || !rest)
        return fdl_error_pending();
    share total = {.label = "total", .t = count(rest)};
    for (int i = 0; i < g->inners; i++) {
        if (!g->inner[i]->label)
            continue;
        fdl_params *below = fdl_parameters_opt(fdl_module_of(g->inner[i]), NULL);
        fdl_params *first = fdl_params_intersect(rest, below); /* not counted in a child before */
        if (!first)
            return fdl_error_pending();
        s[n++] = (share){.label = g->inner[i]->label, .t = count(first)};
        if ((int)strlen(g->inner[i]->label) > width)
            width = (int)strlen(g->inner[i]->label);
        if (!(rest = fdl_params_except(rest, below)))
            return fdl_error_pending();
    }
    s[n++] = (share){.label = "(own)", .t = count(rest)};
    round_shares(s, n, total.t.elements);
    round_shares(&total, 1, total.t.elements);
    put_share(out, &total, width);
    for (int i = 0; i < n; i++)
        put_share(out, &s[i], width);
    return FDL_OK;
}

/* ---- as text ------------------------------------------------------------------------------------------- */

static fdl_status put_tree(FILE *out, graph *g)
{
    return put_graph(out, g, 0);
}

static char *written(const char *function, fdl_module *m, fdl_status (*put)(FILE *out, graph *g))
{
    graph *g = graph_of(function, m);
    if (!g)
        return NULL;
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        return fdl_fail_null(FDL_E_OOM, "%s: no memory for the text", function);
    fdl_status status = put(out, g);
    bool lost = ferror(out);
    lost |= fclose(out) != 0;
    if (status == FDL_OK && !lost && text)
        return text;
    free(text);
    return fdl_fail_null(FDL_E_OOM, "%s: no memory for the text", function);
}

char *fdl_graph_tree_summary(fdl_module *m)
{
    return written(__func__, m, put_tree);
}

char *fdl_graph_param_summary(fdl_module *m)
{
    return written(__func__, m, put_shares);
}

fdl_status tree_announce(fdl_module *m)
{
    if (!fdl_msg_enabled(FDL_VERBOSE))
        return FDL_OK;
    char *text = fdl_graph_tree_summary(m), *rest = text;
    if (!text)
        return fdl_error_pending();
    for (char *line; (line = strsep(&rest, "\n")) && *line;)
        fdl_msg_verbose("%s", line);
    free(text);
    return FDL_OK;
}
