/* Rows of a table: by index, and by position. */
#include "flodl/embedding.h"

#include "arguments.h"
#include "describe.h"
#include "kv_cache.h"
#include "onnx.h"
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

typedef struct embedding_args {
    int64_t num, dim;
    fdl_nn_embedding_opts o;
} embedding_args;

static fdl_module *make_embedding(const void *args)
{
    const embedding_args *a = args;
    return fdl_nn_embedding_opt(a->num, a->dim, &a->o);
}

static const char *embedding_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const embedding *m = fdl_module_self(c->module);
    if (fdl_opt_double(m->max_norm, -1) >= 0)
        return onnx_refuse(o, "a max_norm changes the weight in forward, which ONNX can't");
    return OP(o, "Gather", IN(onnx_param(o, c->module, "weight"), *x));
}

KIND(embedding, .name = "embedding", .onnx = embedding_onnx,
     ARGS(embedding_args, FDL_ARG(embedding_args, num, INT64), FDL_ARG(embedding_args, dim, INT64),
          FDL_OPT(embedding_args, padding_idx, OPT_INT), FDL_OPT(embedding_args, max_norm, OPT_DOUBLE),
          FDL_OPT(embedding_args, norm_type, OPT_DOUBLE), FDL_OPT(embedding_args, scale_grad_by_freq, BOOL),
          FDL_OPT(embedding_args, sparse, BOOL), FDL_OPT(embedding_args, dtype, DTYPE)));

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
    return DESCRIBED(m, embedding, (embedding_args){num, dim, o});
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
    fdl_kv_cache *cache = kv_cache_now();
    kv_entry *seen = cache ? kv_cache_entry(cache, fdl_module_of(self)) : NULL;
    if (cache && !seen)
        return NULL;
    int64_t from = seen ? seen->len : 0;
    if ((s.ndim != 2 && s.ndim != 3) || s.d[s.ndim - 1] != m->dim || length > m->max - from) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "position_embedding: x is %s, must be [%s, %" PRId64 "] or [L, %" PRId64
                             "] with L at most %" PRId64,
                             fdl_describe(x, text, sizeof text), m->batch_first ? "N, L" : "L, N", m->dim,
                             m->dim, m->max - from);
    }
    if (seen && !kv_cache_fits(cache, seen, length))
        return NULL;
    if (seen) {
        seen->counts = true;
        seen->len += length;
    }
    fdl_tensor *rows = length == m->max ? m->weight : fdl_narrow(m->weight, 0, from, length);
    return fdl_add(x, batched && !m->batch_first ? fdl_unsqueeze(rows, 1) : rows);
}

typedef struct position_embedding_args {
    int64_t max, dim;
    fdl_nn_position_embedding_opts o;
} position_embedding_args;

static fdl_module *make_position_embedding(const void *args)
{
    const position_embedding_args *a = args;
    return fdl_nn_position_embedding_opt(a->max, a->dim, &a->o);
}

static const char *positions_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const positions *m = fdl_module_self(c->module);
    bool batched = c->x.ndim == 3;
    int64_t length = c->x.d[batched && m->batch_first ? 1 : 0];
    const char *rows = onnx_param(o, c->module, "weight");
    if (length != m->max)
        rows = onnx_slice(o, rows, 0, 0, length);
    return OP(o, "Add", IN(*x, batched && !m->batch_first ? onnx_unsqueeze(o, rows, 1) : rows));
}

KIND(position_embedding, .name = "position_embedding", .onnx = positions_onnx,
     ARGS(position_embedding_args, FDL_ARG(position_embedding_args, max, INT64),
          FDL_ARG(position_embedding_args, dim, INT64), FDL_OPT(position_embedding_args, batch_first, BOOL),
          FDL_OPT(position_embedding_args, dtype, DTYPE)));

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
    return DESCRIBED(m, position_embedding, (position_embedding_args){max, dim, o});
}
