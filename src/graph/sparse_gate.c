/* Gates with .top_k: a mixture of experts of which each row takes some. Without .capacity every expert runs on exactly the rows
 * that chose it, whose number is read from the device. With it every expert has the same number of places, so that no shape
 * depends on the data: a row that comes when an expert's places are taken goes without it. */
#include "sparse_gate.h"

#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/index.h"
#include "flodl/linalg.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"
#include "rows.h"

#include <math.h>

typedef struct mixture {
    graph *g;
    const plan_node *p;
    const fdl_flow_gate_opts *o;
    int n, k;
    int64_t rows;
    fdl_tensor *x;      /* [rows, D] */
    fdl_tensor *w;      /* [rows, n] */
    fdl_tensor *weight; /* [rows, k]: of the chosen ones, the largest first */
    fdl_tensor *choice; /* [rows, k] int64 */
} mixture;

static fdl_module *expert(const mixture *m, int i)
{
    return m->p->module->children.at[i + 1];
}

/* y [rows, k, *] -> [rows, *], weighed. */
static fdl_tensor *weigh(const mixture *m, fdl_tensor *y, fdl_tensor *weight)
{
    fdl_shape s = fdl_shape_of(y);
    if (s.ndim < 0)
        return NULL;
    int64_t width = 1;
    fdl_shape result = {.ndim = s.ndim - 1, .d = {m->rows}};
    for (int i = 2; i < s.ndim; i++)
        width *= result.d[i - 1] = s.d[i];
    y = fdl_reshape(y, FDL_SHAPE(m->rows, m->k, width));
    if (fdl_dtype_of(weight) == fdl_dtype_of(y))
        y = fdl_bmm(fdl_unsqueeze(weight, 1), y);
    else
        y = fdl_sum_dim(fdl_mul(y, fdl_unsqueeze(weight, -1)), 1);
    return fdl_reshape(y, result);
}

/* [R, *] -> [rows, k, *]. */
static fdl_tensor *by_row(const mixture *m, fdl_tensor *y)
{
    return fdl_unflatten(y, 0, FDL_SHAPE(m->rows, m->k));
}

/* ---- as many rows as there are ------------------------------------------------------------------------- */

static fdl_tensor *run_exact(const mixture *m)
{
    row_groups groups;
    fdl_tensor *flat = fdl_reshape(m->choice, FDL_SHAPE(-1));
    FDL_TRY_NULL(flat ? rows_group(flat, m->n, &groups) : fdl_error_pending());
    fdl_tensor *row = fdl_div_rounding_scalar(groups.order, m->k, FDL_ROUNDING_FLOOR);
    fdl_tensor *x = fdl_index_select(m->x, 0, row);
    fdl_tensor *y = x ? rows_run(m->g, m->p->module->children.at + 1, &groups, x, "expert") : NULL;
    return y ? weigh(m, by_row(m, fdl_index_select(y, 0, groups.back)), m->weight) : NULL;
}

/* ---- a number of places for each expert ---------------------------------------------------------------- */

typedef struct places {
    int64_t each;
    fdl_tensor *row;    /* [n each] int64: the row at each place; of one that nobody has taken any row */
    fdl_tensor *place;  /* [rows k]: of each choice; where there was none left any place */
    fdl_tensor *missed; /* [rows k] bool: there was none left */
} places;

/* All first choices come before all second ones, and so on; among them rows in their order. */
static fdl_status assign(const mixture *m, places *s)
{
    FDL_NO_GRAD;
    fdl_device d = fdl_device_of(m->choice);
    s->each = (int64_t)ceil(m->o->capacity * (double)(m->k * m->rows) / m->n);
    s->each = s->each < 1 ? 1 : s->each > m->rows ? m->rows : s->each;
    fdl_tensor *choice = fdl_reshape(fdl_transpose(m->choice, 0, 1), FDL_SHAPE(-1));
    fdl_tensor *experts = fdl_arange(0, m->n, 1, .dtype = FDL_INT64, .device = d);
    fdl_tensor *mine = fdl_to_dtype(fdl_eq(fdl_unsqueeze(choice, 1), experts), FDL_INT64);
    /* how many came to the same expert before */
    fdl_tensor *before = fdl_sub(fdl_sum_dim(fdl_mul(fdl_cumsum(mine, 0), mine), 1), 1);
    fdl_tensor *place = fdl_add(fdl_mul(choice, (double)s->each), before);
    fdl_tensor *missed = fdl_ge(before, (double)s->each);
    fdl_tensor *row =
        fdl_repeat(fdl_arange(0, (double)m->rows, 1, .dtype = FDL_INT64, .device = d), FDL_SHAPE(m->k));
    int64_t all = s->each * m->n;
    fdl_tensor *taken = fdl_scatter(fdl_zeros(FDL_SHAPE(all + 1), .dtype = FDL_INT64, .device = d), 0,
                                    fdl_masked_fill(place, missed, (double)all), row);
    s->row = fdl_narrow(taken, 0, 0, all);
    s->place = fdl_masked_fill(place, missed, 0);
    s->missed = missed;
    return s->row && s->place ? FDL_OK : fdl_error_pending();
}

static fdl_tensor *run_places(const mixture *m)
{
    places s;
    FDL_TRY_NULL(assign(m, &s));
    fdl_list in = fdl_split(fdl_index_select(m->x, 0, s.row), s.each, 0);
    fdl_list out = {0, fdl_scope_alloc(sizeof *out.at * (size_t)m->n)};
    if (!in.at || !out.at)
        return NULL;
    for (; out.n < m->n; out.n++)
        if (!(out.at[out.n] = rows_run_one(m->g, expert(m, out.n), in.at[out.n], "expert", out.n)))
            return NULL;
    fdl_tensor *y = fdl_index_select(fdl_cat(out, 0), 0, s.place);
    fdl_tensor *weight =
        fdl_masked_fill(m->weight, fdl_transpose(fdl_reshape(s.missed, FDL_SHAPE(m->k, m->rows)), 0, 1), 0);
    return weight ? weigh(m, fdl_transpose(fdl_unflatten(y, 0, FDL_SHAPE(m->k, m->rows)), 0, 1), weight)
                  : NULL;
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* n times the sum over the experts of the share of choices times the mean weight: 1 when both are even, more when some experts
 * get most (Fedus et al., Switch Transformers, with a share of all k choices of a row). */
static fdl_tensor *balance(const mixture *m)
{
    fdl_tensor *experts = fdl_arange(0, m->n, 1, .dtype = FDL_INT64, .device = fdl_device_of(m->choice));
    fdl_tensor *mine = fdl_eq(fdl_unsqueeze(m->choice, -1), experts); /* [rows, k, n] */
    fdl_tensor *share = fdl_mean_dims(fdl_to_dtype(mine, fdl_dtype_of(m->w)), FDL_DIMS(0, 1));
    return fdl_mul(fdl_sum(fdl_mul(share, fdl_mean_dim(m->w, 0))), (double)m->n);
}

static bool fits(const mixture *m, fdl_tensor *x, fdl_tensor *w)
{
    fdl_shape a = fdl_shape_of(x), b = fdl_shape_of(w);
    bool fits = a.ndim >= 2 && b.ndim == a.ndim && b.d[b.ndim - 1] == m->n;
    for (int i = 0; fits && i < a.ndim - 1; i++)
        fits = a.d[i] == b.d[i];
    if (!fits) {
        char x_is[256], w_is[256];
        fdl_fail(FDL_E_SHAPE,
                 "the router gives %s for %d experts of which each row of %s takes %d: it must have x's "
                 "dims, the last "
                 "one %d",
                 fdl_describe(w, w_is, sizeof w_is), m->n, fdl_describe(x, x_is, sizeof x_is), m->k, m->n);
    }
    return fits;
}

static fdl_status publish(const mixture *m, fdl_shape leading)
{
    int node = m->p->node;
    if (m->o->trace_choice) {
        leading.d[leading.ndim - 1] = m->k;
        fdl_tensor *choice = fdl_reshape(m->choice, leading);
        FDL_TRY(choice ? graph_publish_one(m->g, node, m->o->trace_choice, choice) : fdl_error_pending());
    }
    if (m->o->trace_balance) {
        fdl_tensor *loss = balance(m);
        FDL_TRY(loss ? graph_publish_one(m->g, node, m->o->trace_balance, loss) : fdl_error_pending());
    }
    return FDL_OK;
}

fdl_tensor *run_sparse(graph *g, const plan_node *p, const fdl_flow_gate_opts *o, int n, fdl_tensor *w)
{
    mixture m = {.g = g, .p = p, .o = o, .n = n, .k = o->top_k};
    fdl_tensor *x = p->in[0];
    if (!fits(&m, x, w))
        return NULL;
    fdl_shape s = fdl_shape_of(x);
    m.rows = 1;
    for (int i = 0; i < s.ndim - 1; i++)
        m.rows *= s.d[i];
    m.x = fdl_reshape(x, FDL_SHAPE(m.rows, s.d[s.ndim - 1]));
    m.w = fdl_reshape(w, FDL_SHAPE(m.rows, n));
    m.weight = fdl_topk(m.w, m.k, -1, .indices = &m.choice);
    if (o->normalize)
        m.weight = fdl_div(m.weight, fdl_sum_dim(m.weight, -1, .keepdim = true));
    if (!m.x || !m.weight)
        return NULL;
    FDL_TRY_NULL(publish(&m, s));
    fdl_tensor *y = !m.rows       ? rows_run_one(g, expert(&m, 0), m.x, "expert", 0)
                    : o->capacity ? run_places(&m)
                                  : run_exact(&m);
    if (!y)
        return NULL;
    fdl_shape is = fdl_shape_of(y), full = {.ndim = s.ndim - 1 + is.ndim - 1};
    for (int i = 0; i < s.ndim - 1; i++)
        full.d[i] = s.d[i];
    for (int i = 1; i < is.ndim; i++)
        full.d[s.ndim - 2 + i] = is.d[i];
    return fdl_reshape(y, full);
}
