/* Rows of a table: by index, and by position. */
#include "flodl/embedding.h"

#include "arguments.h"
#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "flodl/index.h"
#include "flodl/nn.h"

typedef struct embedding {
    fdl_tensor *weight;
    fdl_embedding_opts o;
    double max_norm, norm_type; /* max_norm as the option has it: all zero bits for none */
} embedding;

static fdl_tensor *embedding_forward(void *self, fdl_tensor *x)
{
    embedding *m = self;
    if (fdl_opt_double(m->max_norm, -1) >= 0)
        FDL_TRY_NULL(fdl_embedding_renorm_(m->weight, x, fdl_opt_double(m->max_norm, 0), m->norm_type));
    return fdl_embedding_opt(m->weight, x, &m->o);
}

/* N(0, 1), the padding row 0. */
static fdl_tensor *new_table(int64_t num, int64_t dim, const fdl_nn_embedding_opts *o)
{
    fdl_tensor *t = fdl_empty(FDL_SHAPE(num, dim), .dtype = o->dtype, .device = o->device);
    if (!t || fdl_init_normal(t, 0, 1) != FDL_OK)
        return NULL;
    if (o->padding_idx.set)
        FDL_TRY_NULL(fdl_zero_(fdl_select(t, 0, o->padding_idx.value)));
    return t;
}

fdl_module *fdl_nn_embedding_opt(int64_t num, int64_t dim, const fdl_nn_embedding_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "embedding", .size = sizeof(embedding), .forward = embedding_forward};
    const fdl_nn_embedding_opts o = opts ? *opts : (fdl_nn_embedding_opts){0};
    if (!arg_at_least("embedding", "num", num, 1) || !arg_at_least("embedding", "dim", dim, 1) ||
        (o.padding_idx.set && !arg_within("embedding", "padding_idx", (double)o.padding_idx.value,
                                          (double)-num, (double)num - 1)) ||
        !arg_within("embedding", "max_norm", o.max_norm, 0, 1e300))
        return NULL;
    double norm_type = fdl_opt_double(o.norm_type, 2);
    if (!(norm_type > 0))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_embedding: norm_type is %g, must be above 0", norm_type);
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    embedding *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = (fdl_embedding_opts){
        .padding_idx = o.padding_idx, .scale_grad_by_freq = o.scale_grad_by_freq, .sparse = o.sparse};
    self->max_norm = o.max_norm;
    self->norm_type = norm_type;
    self->weight = fdl_module_param(m, "weight", new_table(num, dim, &o));
    return fdl_module_done(m);
}

/* ---- positions ---------------------------------------------------------------------------------- */

typedef struct positions {
    int64_t max, dim;
    bool batch_first;
    fdl_tensor *weight;
} positions;

static fdl_tensor *positions_forward(void *self, fdl_tensor *x)
{
    positions *m = self;
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim < 0)
        return NULL;
    bool batched = s.ndim == 3;
    int64_t length = s.ndim < 2 ? 0 : s.d[batched && m->batch_first ? 1 : 0];
    if ((s.ndim != 2 && s.ndim != 3) || s.d[s.ndim - 1] != m->dim || length > m->max) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "position_embedding: x is %s, must be [%s, %" PRId64 "] or [L, %" PRId64
                             "] with L at most %" PRId64,
                             fdl_describe(x, text, sizeof text), m->batch_first ? "N, L" : "L, N", m->dim,
                             m->dim, m->max);
    }
    fdl_tensor *rows = length == m->max ? m->weight : fdl_narrow(m->weight, 0, 0, length);
    return fdl_add(x, batched && !m->batch_first ? fdl_unsqueeze(rows, 1) : rows);
}

fdl_module *fdl_nn_position_embedding_opt(int64_t max, int64_t dim,
                                          const fdl_nn_position_embedding_opts *opts)
{
    static const fdl_module_ops ops = {
        .kind = "position_embedding", .size = sizeof(positions), .forward = positions_forward};
    const fdl_nn_position_embedding_opts o = opts ? *opts : (fdl_nn_position_embedding_opts){0};
    if (!arg_at_least("position_embedding", "max", max, 1) ||
        !arg_at_least("position_embedding", "dim", dim, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    positions *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (positions){.max = max, .dim = dim, .batch_first = o.batch_first};
    fdl_nn_embedding_opts table = {.dtype = o.dtype, .device = o.device};
    self->weight = fdl_module_param(m, "weight", new_table(max, dim, &table));
    return fdl_module_done(m);
}
