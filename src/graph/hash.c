/* The structural hash. Its layout is part of the checkpoint format: change nothing. Integers are 64-bit
 * little endian, names end in a zero byte. */
#include "../base/sha256.h"
#include "graph_private.h"

static void put_name(sha256 *h, const char *name)
{
    sha256_add(h, name, strlen(name) + 1);
}

static void put_number(sha256 *h, int64_t x)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)x >> (8 * i));
    sha256_add(h, bytes, sizeof bytes);
}

static void put_port(sha256 *h, const graph_node *node, int port)
{
    char name[32];
    if (port >= node->inputs) {
        sha256_add(h, "ref_", 4);
        put_name(h, node->ref_names[port - node->inputs]);
    } else if (node->type->numbered) {
        snprintf(name, sizeof name, "input_%d", port);
        put_name(h, name);
    } else {
        put_name(h, "input");
    }
}

/* ---- a node's parameters and buffers ------------------------------------------------------------------- */

typedef struct leaf {
    const char *name;
    fdl_tensor *t;
    int i;
} leaf;

static int by_name(const void *a, const void *b)
{
    const leaf *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->i - y->i;
}

static fdl_status put_leaves(sha256 *h, const char *mark, fdl_params *ps)
{
    int n = fdl_params_count(ps);
    leaf *leaves = n < 0 ? NULL : fdl_scope_alloc(sizeof *leaves * (size_t)(n ? n : 1));
    if (!leaves)
        return fdl_error_pending() != FDL_OK ? fdl_error_pending()
                                             : fdl_fail(FDL_E_OOM, "no memory for a hash");
    for (int i = 0; i < n; i++) {
        leaves[i] = (leaf){params_leaf(ps, i), fdl_param_tensor(fdl_params_at(ps, i)), i};
    }
    qsort(leaves, (size_t)n, sizeof *leaves, by_name);
    for (int i = 0; i < n; i++) {
        fdl_shape shape = fdl_shape_of(leaves[i].t);
        sha256_add(h, mark, 1);
        put_name(h, leaves[i].name);
        for (int d = 0; d < shape.ndim; d++)
            put_number(h, d == 0 ? shape.d[d] / params_parts(ps, leaves[i].i) : shape.d[d]);
    }
    return FDL_OK;
}

static const char *hash_of(fdl_module *m, bool legacy)
{
    return legacy ? fdl_graph_legacy_hash(m) : fdl_graph_hash(m);
}

static fdl_status put_module(sha256 *h, const graph_node *node, bool legacy)
{
    FDL_SCOPE;
    fdl_module *m = node->module;
    put_name(h, node->type->hashed_kind ? node->type->hashed_kind : fdl_module_kind(m));
    FDL_TRY(put_leaves(h, "P", fdl_parameters(m, .legacy = legacy)));
    FDL_TRY(put_leaves(h, "B", fdl_buffers(m, .legacy = legacy)));
    if (!graph_or_null(m))
        return FDL_OK;
    const char *hex = hash_of(m, legacy);
    if (!hex)
        return fdl_error_pending();
    sha256_add(h, "G", 1);
    sha256_add(h, hex, 64);
    return FDL_OK;
}

/* ---- the graph ----------------------------------------------------------------------------------------- */

static int by_tag(const void *a, const void *b)
{
    return strcmp(((const graph_name *)a)->name, ((const graph_name *)b)->name);
}

static fdl_status put_tags(sha256 *h, const graph *g)
{
    graph_name *sorted = malloc(sizeof *sorted * (size_t)(g->tags ? g->tags : 1));
    if (!sorted)
        return fdl_fail(FDL_E_OOM, "no memory for a hash");
    if (g->tags)
        memcpy(sorted, g->tag, sizeof *sorted * (size_t)g->tags);
    qsort(sorted, (size_t)g->tags, sizeof *sorted, by_tag);
    for (int i = 0; i < g->tags; i++) {
        put_name(h, sorted[i].name);
        put_number(h, sorted[i].node);
        put_number(h, 0);
    }
    free(sorted);
    return FDL_OK;
}

static fdl_status compute(graph *g, bool legacy, char hex[65])
{
    sha256 h;
    sha256_start(&h);
    for (int p = 0; p < g->nodes; p++) {
        const graph_node *node = &g->node[g->plan[p].node];
        put_name(&h, node->id);
        if (node->module)
            FDL_TRY(put_module(&h, node, legacy));
    }
    sha256_add(&h, "EDGES", 5);
    for (int e = 0; e < g->edges; e++) {
        const graph_edge *edge = &g->edge[e];
        put_name(&h, g->node[edge->from].id);
        put_name(&h, "output");
        put_name(&h, g->node[edge->to].id);
        put_port(&h, &g->node[edge->to], edge->port);
    }
    sha256_add(&h, "TAGS", 4);
    FDL_TRY(put_tags(&h, g));
    sha256_add(&h, "INPUTS", 6);
    for (int i = 0; i < g->inputs; i++) {
        put_name(&h, g->input[i].name);
        put_name(&h, g->node[g->input[i].node].id);
        put_name(&h, "input");
    }
    sha256_add(&h, "OUTPUTS", 7);
    put_name(&h, "output");
    put_name(&h, g->node[g->output].id);
    put_name(&h, "output");
    sha256_hex(&h, hex);
    return FDL_OK;
}

/* The graph, without a hash if a tree was changed since it was made: a weight may have been parametrized. */
static graph *to_hash(const char *function, fdl_module *m)
{
    graph *g = graph_of(function, m);
    if (g && g->hashed_at != module_changes()) {
        g->hash[0] = g->short_hash[0] = g->legacy_hash[0] = 0;
        g->hashed_at = module_changes();
    }
    return g;
}

const char *fdl_graph_hash(fdl_module *m)
{
    graph *g = to_hash(__func__, m);
    if (!g || (!g->hash[0] && compute(g, false, g->hash) != FDL_OK))
        return NULL;
    memcpy(g->short_hash, g->hash, 8);
    return g->hash;
}

const char *fdl_graph_legacy_hash(fdl_module *m)
{
    graph *g = to_hash(__func__, m);
    return g && (g->legacy_hash[0] || compute(g, true, g->legacy_hash) == FDL_OK) ? g->legacy_hash : NULL;
}

const char *fdl_graph_short_hash(fdl_module *m)
{
    graph *g = graph_of(__func__, m);
    return g && fdl_graph_hash(m) ? g->short_hash : NULL;
}
