/* Summaries: two forwards without values, of batches of different size, laid over the tree of a model. */
#include "dry.h"
#include "flodl/text.h"

#include <inttypes.h>

typedef struct table {
    fdl_summary *s;
    fdl_summary_row *row;     /* s->row */
    int room, most;           /* deepest row */
    const dry_run *one, *two; /* of one and two more rows of the batch; two NULL: there is no free batch */
    uint64_t walk;
    int params;
    const fdl_param **counted; /* each tensor's first parameter, ascending */
} table;

enum {
    ONE = 2,
    TWO = 3
}; /* sizes of the batch: batch norm needs two rows, and neither is 1, which broadcasts */

/* ---- one row ------------------------------------------------------------------------------------------- */

static char *text_of(const char *a, const char *between, const char *b)
{
    size_t n = strlen(a) + strlen(between) + strlen(b) + 1;
    char *text = fdl_scope_alloc(n);
    if (text)
        snprintf(text, n, "%s%s%s", a, between, b);
    return text;
}

/* What a batch of one has, when it is a constant and a share for each row. */
static double of_one_row(const table *t, double one, double two)
{
    return t->two ? one - (ONE - 1) * (two - one) / (TWO - ONE) : one;
}

static fdl_shape free_shape(const fdl_shape *a, const fdl_shape *b)
{
    fdl_shape shape = *a;
    for (int i = 0; b && i < shape.ndim; i++)
        if (i >= b->ndim || a->d[i] != b->d[i])
            shape.d[i] = -1;
    return shape;
}

static void put_seen(const table *t, fdl_summary_row *row, const void *key, bool is_leaf)
{
    const seen *a = dry_find(t->one, key), *b = t->two ? dry_find(t->two, key) : NULL;
    if (!a)
        return;
    row->calls = a->calls;
    row->shape = free_shape(&a->y, b ? &b->y : NULL);
    row->dtype = a->dtype;
    if (is_leaf)
        row->bytes = (int64_t)of_one_row(t, a->bytes, b ? b->bytes : a->bytes);
}

static void put_work(const table *t, fdl_summary_row *row, fdl_module *m)
{
    const seen *a = dry_find(t->one, m), *b = t->two ? dry_find(t->two, m) : NULL;
    if (a)
        row->multiply_adds += of_one_row(t, a->work, b ? b->work : a->work);
}

static int by_address(const void *a, const void *b)
{
    const fdl_param *x = *(const fdl_param *const *)a, *y = *(const fdl_param *const *)b;
    return x < y ? -1 : x > y;
}

static void put_params(const table *t, fdl_summary_row *row, const fdl_module *m)
{
    for (int i = 0; i < m->params.n; i++) {
        const fdl_param *p = m->params.at[i];
        if (!bsearch(&p, t->counted, (size_t)t->params, sizeof(fdl_param *), by_address))
            continue;
        row->params += fdl_numel(p->t);
        row->trainable += fdl_param_is_frozen(p) ? 0 : fdl_numel(p->t);
    }
    for (int i = 0; i < m->children.n; i++) /* what a weight is computed from belongs to its layer */
        if (m->children.at[i]->real->aside)
            put_params(t, row, m->children.at[i]->real);
}

/* The next part that has a row of its own, from *at on; false: there is none. */
static bool next_part(fdl_module *m, int *at, module_part *part)
{
    for (int n = module_parts(m); *at < n;) {
        *part = module_part_at(m, (*at)++);
        if (!part->module || !part->module->real->aside)
            return true;
    }
    return false;
}

static bool has_parts(fdl_module *m)
{
    int at = 0;
    module_part part;
    return next_part(m->real, &at, &part);
}

/* ---- the tree ------------------------------------------------------------------------------------------ */

static fdl_summary_row *new_row(table *t)
{
    fdl_summary *s = t->s;
    if (s->n == t->room) {
        int room = t->room ? 2 * t->room : 64;
        fdl_summary_row *more = fdl_scope_alloc(sizeof *more * (size_t)room);
        if (!more)
            return NULL;
        if (s->n)
            memcpy(more, t->row, sizeof *more * (size_t)s->n);
        s->row = t->row = more;
        t->room = room;
    }
    return &t->row[s->n++];
}

static fdl_status add_parts(table *t, fdl_module *m, const char *path, int depth, int folded);

/* A row for what has this name; what lies below it has rows too, or counts with row number `folded` when that isn't -1. */
static fdl_status add_row(table *t, fdl_summary_row row, const void *key, fdl_module *m, int folded)
{
    bool met = m && m->seen == t->walk;
    bool is_leaf = !m || !has_parts(m);
    row.shared = met;
    if (folded >= 0)
        row = t->row[folded];
    else
        put_seen(t, &row, key, is_leaf);
    if (m && !met) {
        m->seen = t->walk;
        put_params(t, &row, m);
        put_work(t, &row, m);
    }
    if (folded >= 0) {
        fdl_summary_row bytes = {0};
        put_seen(t, &bytes, key, is_leaf);
        row.bytes += bytes.bytes;
        t->row[folded] = row;
    } else {
        fdl_summary_row *place = new_row(t);
        if (!place)
            return FDL_E_OOM;
        *place = row;
    }
    if (!m || met)
        return FDL_OK;
    int at = t->s->n - 1;
    return add_parts(t, m, row.path, row.depth + 1, folded >= 0 ? folded : row.depth >= t->most ? at : -1);
}

/* "merge" of "merge_12". */
static const char *kind_of_id(const char *id)
{
    char *kind = text_of(id, "", "");
    char *end = kind ? strrchr(kind, '_') : NULL;
    if (end)
        *end = 0;
    return kind;
}

static fdl_status add_graph(table *t, const graph *g, const char *path, int depth, int folded)
{
    for (int p = 0; p < g->nodes; p++) {
        const graph_node *node = &g->node[g->plan[p].node];
        fdl_module *m = g->plan[p].module;
        const graph *child = m ? graph_or_null(m) : NULL;
        const char *piece = child && child->label ? child->label : node->tag ? node->tag : node->id;
        fdl_summary_row row = {.name = text_of(node->id, "", ""),
                               .path = text_of(path, *path ? "." : "", piece),
                               .tag = node->tag ? text_of(node->tag, "", "") : NULL,
                               .depth = depth};
        row.kind = m && !m->table ? fdl_module_kind(m) : kind_of_id(node->id);
        if (!row.name || !row.path || !row.kind)
            return FDL_E_OOM;
        FDL_TRY(add_row(t, row, &g->plan[p], m, folded));
    }
    return FDL_OK;
}

static fdl_status add_parts(table *t, fdl_module *m, const char *path, int depth, int folded)
{
    m = m->real;
    const graph *g = graph_or_null(m);
    if (g)
        return add_graph(t, g, path, depth, folded);
    module_part part;
    for (int at = 0; next_part(m, &at, &part);) {
        fdl_module *child = part.module ? part.module->real : NULL;
        const char *name = part.name ? part.name : "";
        fdl_summary_row row = {.name = text_of(name, "", ""),
                               .path = text_of(path, *path && *name ? "." : "", name),
                               .kind = child ? fdl_module_kind(child) : "",
                               .depth = depth};
        if (!row.name || !row.path)
            return FDL_E_OOM;
        FDL_TRY(add_row(t, row, child, child, folded));
    }
    return FDL_OK;
}

/* A module without parts is its own row. */
static fdl_status add_root(table *t, fdl_module *m)
{
    if (graph_or_null(m) || has_parts(m)) {
        fdl_summary_row own = {0};
        put_work(t, &own, m);
        put_params(t, &own, m);
        t->s->multiply_adds += own.multiply_adds;
        m->seen = t->walk;
        return add_parts(t, m, "", 1, -1);
    }
    fdl_summary_row row = {
        .name = fdl_module_kind(m), .path = fdl_module_kind(m), .kind = fdl_module_kind(m), .depth = 1};
    return add_row(t, row, m, m, -1);
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static int64_t bytes_of(fdl_params *ps)
{
    int64_t bytes = 0;
    for (int i = 0; i < fdl_params_count(ps); i++) {
        fdl_tensor *x = fdl_param_tensor(fdl_params_at(ps, i));
        bytes += fdl_numel(x) * fdl_dtype_size(fdl_dtype_of(x));
    }
    return bytes;
}

static fdl_status fill(table *t, fdl_module *m)
{
    fdl_summary *s = t->s;
    fdl_params *ps = fdl_parameters(m), *buffers = fdl_buffers(m);
    t->params = fdl_params_count(ps);
    t->counted = t->params < 0 ? NULL : fdl_scope_alloc(sizeof *t->counted * (size_t)(t->params + 1));
    if (!t->counted || !buffers)
        return fdl_error_pending() != FDL_OK ? fdl_error_pending() : FDL_E_OOM;
    for (int i = 0; i < t->params; i++) {
        fdl_param *p = fdl_params_at(ps, i);
        t->counted[i] = p;
        s->trainable += fdl_param_is_frozen(p) ? 0 : fdl_numel(fdl_param_tensor(p));
    }
    s->params = fdl_params_numel(ps);
    s->param_bytes = bytes_of(ps);
    s->buffer_bytes = bytes_of(buffers);
    qsort(t->counted, (size_t)t->params, sizeof *t->counted, by_address);
    t->walk = module_new_walk();
    FDL_TRY(add_root(t, m));
    for (int i = 0; i < s->n; i++) {
        s->multiply_adds += s->row[i].multiply_adds;
        s->bytes += s->row[i].bytes;
    }
    return FDL_OK;
}

static fdl_status run_both(fdl_module *m, int n, const fdl_input *inputs, bool batch, dry_run *one,
                           dry_run *two)
{
    FDL_TRY(dry_forward(m, n, inputs, ONE, one));
    return batch ? dry_forward(m, n, inputs, TWO, two) : FDL_OK;
}

static const fdl_summary *summarize(const char *function, fdl_module *m, fdl_shape x,
                                    const fdl_summary_opts *opts)
{
    static const fdl_summary_opts none = {0};
    const fdl_summary_opts *o = opts ? opts : &none;
    if (o->depth < 0)
        return fdl_fail_null(FDL_E_ARG, "%s: depth is %d, must be 1 or more, or 0 for all", function,
                             o->depth);
    m = m->real;
    if (module_refusal(m))
        return fdl_fail_null(FDL_E_ARG, "%s: %s", function, module_refusal(m));
    bool batch = false, before = fdl_error_pending() != FDL_OK;
    int n;
    const fdl_input *inputs = dry_inputs(function, m, x, o->dtype, &o->more, &n, &batch);
    fdl_summary *s = inputs ? fdl_scope_alloc(sizeof *s) : NULL;
    if (!s)
        return NULL;
    dry_run one = {0}, two = {0};
    fdl_status status = run_both(m, n, inputs, batch, &one, &two);
    if (status != FDL_OK && !before)
        fdl_error_prefix("%s: ", function);
    table t = {.s = s, .most = o->depth ? o->depth : INT32_MAX, .one = &one, .two = batch ? &two : NULL};
    if (status == FDL_OK) {
        s->output = free_shape(&one.output, batch ? &two.output : NULL);
        s->output_dtype = one.dtype;
        s->batch = batch;
        status = fill(&t, m);
    }
    dry_free(&one);
    dry_free(&two);
    return status == FDL_OK ? s : NULL;
}

const fdl_summary *fdl_module_summary_opt(fdl_module *m, fdl_shape x, const fdl_summary_opts *opts)
{
    if (!m) {
        fdl_null_operand("fdl_module_summary", "m");
        return NULL;
    }
    return summarize("fdl_module_summary", m, x, opts);
}

const fdl_summary *fdl_graph_infer_opt(fdl_module *g, fdl_shape x, const fdl_summary_opts *opts)
{
    return graph_of("fdl_graph_infer", g) ? summarize("fdl_graph_infer", g, x, opts) : NULL;
}

static const char *path_at(const void *list, int i)
{
    return ((const fdl_summary_row *)list)[i].path;
}

const fdl_summary_row *fdl_summary_find(const fdl_summary *s, const char *path)
{
    if (!s || !path) {
        fdl_null_operand(__func__, s ? "path" : "s");
        return NULL;
    }
    for (int i = 0; i < s->n; i++)
        if (strcmp(s->row[i].path, path) == 0)
            return &s->row[i];
    char close[512];
    return fdl_fail_null(FDL_E_ARG, "%s: no row \"%s\"%s", __func__, path,
                         closest_names(path, s->n, path_at, s->row, close, sizeof close));
}
