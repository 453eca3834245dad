/* Rows of a table: by index, in bags of indices, and by position. */
#include "flodl/embedding.h"

#include "arguments.h"
#include "describe.h"
#include "module_private.h"
#include "kv_cache.h"
#include "module_private.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/inplace.h"
#include "flodl/index.h"
#include "flodl/nn.h"
#include "flodl/shape.h"

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
    if (fdl_opt_given(o->padding_idx))
        FDL_TRY_NULL(fdl_zero_(fdl_select(t, 0, o->padding_idx.value)));
    return t;
}

static bool good_table(const char *name, int64_t num, int64_t dim, const fdl_nn_embedding_opts *o)
{
    if (!arg_at_least(name, "num", num, 1) || !arg_at_least(name, "dim", dim, 1) ||
        (fdl_opt_given(o->padding_idx) &&
         !arg_within(name, "padding_idx", (double)o->padding_idx.value, (double)-num, (double)num - 1)) ||
        !arg_within(name, "max_norm", o->max_norm, 0, 1e300))
        return false;
    double norm_type = fdl_opt_double(o->norm_type, 2);
    if (!(norm_type > 0))
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: norm_type is %g, must be above 0", name, norm_type);
    return norm_type > 0;
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
    if (!good_table("embedding", num, dim, &o))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&ops);
    embedding *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = (fdl_embedding_opts){
        .padding_idx = o.padding_idx, .scale_grad_by_freq = o.scale_grad_by_freq, .sparse = o.sparse};
    self->max_norm = o.max_norm;
    self->norm_type = fdl_opt_double(o.norm_type, 2);
    self->weight = fdl_module_param(m, "weight", new_table(num, dim, &o));
    return DESCRIBED(m, embedding, (embedding_args){num, dim, o});
}

/* ---- bags --------------------------------------------------------------------------------------- */

typedef struct bag {
    fdl_tensor *weight;
    fdl_embedding_bag_opts o;
    double max_norm, norm_type;
} bag;

/* Where each row of [B, L] begins. */
static fdl_tensor *row_offsets(fdl_tensor *indices)
{
    int64_t rows = fdl_size(indices, 0), length = fdl_size(indices, 1);
    fdl_tensor *at =
        fdl_arange(0, (double)rows, 1, .dtype = fdl_dtype_of(indices), .device = fdl_device_of(indices));
    return fdl_mul(at, (double)length);
}

static fdl_tensor *bag_run(bag *m, fdl_tensor *indices, fdl_tensor *offsets, fdl_tensor *weights)
{
    int dims = fdl_ndim(indices);
    char text[256];
    fdl_embedding_bag_opts o = m->o;
    if (dims != 1 && dims != 2)
        return fdl_fail_null(FDL_E_SHAPE, "embedding_bag takes indices [B, L], or [S] with offsets, got %s",
                             fdl_describe(indices, text, sizeof text));
    if (dims == 2 && offsets)
        return fdl_fail_null(FDL_E_ARG,
                             "embedding_bag: each row of %s is a bag already; offsets are for indices [S]",
                             fdl_describe(indices, text, sizeof text));
    if (dims == 1 && !offsets)
        return fdl_fail_null(FDL_E_ARG, "embedding_bag: indices %s need offsets, where each bag begins",
                             fdl_describe(indices, text, sizeof text));
    if (weights && !fdl_shape_eq(fdl_shape_of(weights), fdl_shape_of(indices)))
        return fdl_fail_null(FDL_E_SHAPE, "embedding_bag: weights have the shape of the indices, got %s",
                             fdl_describe(weights, text, sizeof text));
    if (fdl_opt_double(m->max_norm, -1) >= 0)
        FDL_TRY_NULL(fdl_embedding_renorm_(m->weight, indices, fdl_opt_double(m->max_norm, 0), m->norm_type));
    if (dims == 2) {
        offsets = row_offsets(indices);
        indices = fdl_reshape(indices, FDL_SHAPE(-1));
        if (weights && !(weights = fdl_reshape(weights, FDL_SHAPE(-1))))
            return NULL;
        o.include_last_offset = false;
    }
    o.per_sample_weights = weights;
    return fdl_embedding_bag_opt(m->weight, indices, offsets, &o);
}

/* Further inputs: by their names, others by position. */
static fdl_tensor *bag_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    static const char *const names[2] = {"offsets", "weights"};
    fdl_tensor *given[2] = {NULL, NULL};
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        const char *name = fdl_refs_name(r, i);
        int k = strcmp(name, names[1]) == 0 || (given[0] && strcmp(name, names[0]) != 0);
        if (given[k])
            return fdl_fail_null(
                FDL_E_ARG, "embedding_bag takes indices, offsets and weights; \"%s\" is one input too many",
                name);
        given[k] = fdl_refs_at(r, i);
    }
    return bag_run(self, x, given[0], given[1]);
}

typedef struct embedding_bag_args {
    int64_t num, dim;
    fdl_nn_embedding_bag_opts o;
} embedding_bag_args;

static fdl_module *make_embedding_bag(const void *args)
{
    const embedding_bag_args *a = args;
    return fdl_nn_embedding_bag_opt(a->num, a->dim, &a->o);
}

/* A number of the weight's dtype. */
static const char *onnx_of_weight(fdl_onnx *o, const bag *m, double x, const char *name)
{
    return onnx_tensor(o, fdl_full(FDL_SCALAR, x, .dtype = fdl_dtype_of(m->weight), .device = FDL_CPU),
                       onnx_text(o, "%s/%s", onnx_place(o), name));
}

/* Sums of rows [B, L, dim] over the indices that aren't the padding, and how many these are. */
static const char *onnx_sum_of_counted(fdl_onnx *o, const embedding_bag_args *a, const bag *m, int64_t length,
                                       const char *x, const char *rows, const char **count)
{
    enum { INT64_TYPE = 7 };
    int64_t padding = a->o.padding_idx.value;
    x = OP_ATTR(o, "Cast", IN(x), A_INT("to", INT64_TYPE));
    const char *is = OP(o, "Equal", IN(x, INTS(o, padding < 0 ? padding + a->num : padding)));
    const char *zero = onnx_of_weight(o, m, 0, "zero"), *one = onnx_of_weight(o, m, 1, "one");
    const char *factors = OP(o, "Where", IN(is, zero, one)); /* [B, L] */
    const char *ones = onnx_expand(o, one, FDL_SHAPE(length, 1));
    *count = OP(o, "Max", IN(OP(o, "MatMul", IN(factors, ones)), one));
    return onnx_squeeze(o, OP(o, "MatMul", IN(onnx_unsqueeze(o, factors, 1), rows)), 1);
}

static const char *embedding_bag_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const embedding_bag_args *a = c->args;
    const bag *m = fdl_module_self(c->module);
    if (fdl_opt_double(m->max_norm, -1) >= 0)
        return onnx_refuse(o, "a max_norm changes the weight in forward, which ONNX can't");
    if (c->inputs > 1 || c->x.ndim != 2)
        return onnx_refuse(
            o, "bags of several lengths, or with weights, aren't told in ONNX; give indices [B, L]");
    const int64_t length = c->x.d[1], dim = 1;
    const char *rows = OP(o, "Gather", IN(onnx_param(o, c->module, "weight"), *x));
    if (a->o.mode == FDL_BAG_MAX) {
        if (fdl_opt_given(a->o.padding_idx))
            return onnx_refuse(o, "a maximum that leaves the padding out isn't told in ONNX");
        if (onnx_opset(o) < 18)
            return OP_ATTR(o, "ReduceMax", IN(rows), A_INTS("axes", 1, &dim), A_INT("keepdims", 0));
        return OP_ATTR(o, "ReduceMax", IN(rows, INTS(o, dim)), A_INT("keepdims", 0));
    }
    if (fdl_opt_given(a->o.padding_idx)) {
        const char *count, *sum = onnx_sum_of_counted(o, a, m, length, *x, rows, &count);
        return a->o.mode == FDL_BAG_SUM ? sum : OP(o, "Div", IN(sum, count));
    }
    const char *mean = onnx_squeeze(o, onnx_mean(o, rows, 1, &dim), 1);
    return a->o.mode == FDL_BAG_SUM ? OP(o, "Mul", IN(mean, onnx_of_weight(o, m, (double)length, "length")))
                                    : mean;
}

static const char *const bag_modes[] = {"mean", "sum", "max", NULL};

KIND(embedding_bag, .name = "embedding_bag", .onnx = embedding_bag_onnx,
     ARGS(embedding_bag_args, FDL_ARG(embedding_bag_args, num, INT64),
          FDL_ARG(embedding_bag_args, dim, INT64),
          {.name = "mode",
           .type = FDL_FIELD_ENUM,
           .offset = offsetof(embedding_bag_args, o.mode),
           .names = bag_modes},
          FDL_OPT(embedding_bag_args, padding_idx, OPT_INT),
          FDL_OPT(embedding_bag_args, include_last_offset, BOOL),
          FDL_OPT(embedding_bag_args, max_norm, OPT_DOUBLE),
          FDL_OPT(embedding_bag_args, norm_type, OPT_DOUBLE),
          FDL_OPT(embedding_bag_args, scale_grad_by_freq, BOOL), FDL_OPT(embedding_bag_args, sparse, BOOL),
          FDL_OPT(embedding_bag_args, dtype, DTYPE)));

static const fdl_module_ops bag_ops = {
    .kind = "embedding_bag", .size = sizeof(bag), .forward_named = bag_forward};

fdl_module *fdl_nn_embedding_bag_opt(int64_t num, int64_t dim, const fdl_nn_embedding_bag_opts *opts)
{
    const fdl_nn_embedding_bag_opts o = opts ? *opts : (fdl_nn_embedding_bag_opts){0};
    const fdl_nn_embedding_opts table = {.padding_idx = o.padding_idx,
                                         .max_norm = o.max_norm,
                                         .norm_type = o.norm_type,
                                         .dtype = o.dtype,
                                         .device = o.device};
    if (!good_table("embedding_bag", num, dim, &table))
        return NULL;
    if ((unsigned)o.mode > FDL_BAG_MAX)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_embedding_bag: mode is %d, which is none", (int)o.mode);
    if (o.mode == FDL_BAG_MAX && (o.scale_grad_by_freq || o.sparse))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_embedding_bag: %s is not for mode FDL_BAG_MAX",
                             o.sparse ? "sparse" : "scale_grad_by_freq");
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&bag_ops);
    bag *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->o = (fdl_embedding_bag_opts){.mode = o.mode,
                                       .include_last_offset = o.include_last_offset,
                                       .padding_idx = o.padding_idx,
                                       .scale_grad_by_freq = o.scale_grad_by_freq,
                                       .sparse = o.sparse};
    self->max_norm = o.max_norm;
    self->norm_type = fdl_opt_double(o.norm_type, 2);
    self->weight = fdl_module_param(m, "weight", new_table(num, dim, &table));
    return DESCRIBED(m, embedding_bag, (embedding_bag_args){num, dim, o});
}

fdl_tensor *fdl_nn_embedding_bag_forward_opt(fdl_module *m, fdl_tensor *indices, fdl_tensor *offsets,
                                             const fdl_nn_embedding_bag_forward_opts *opts)
{
    static const char function[] = "fdl_nn_embedding_bag_forward";
    if (!m || !indices || (!offsets && fdl_error_pending() != FDL_OK)) {
        fdl_null_operand(function, !m ? "m" : indices ? "offsets" : "indices");
        return NULL;
    }
    if (fdl_module_ops_of(m) != &bag_ops)
        return fdl_fail_null(FDL_E_ARG, "%s: m is a %s, must be an embedding_bag", function,
                             fdl_module_kind(m));
    FDL_SCOPE;
    MODULE_CALL(m);
    FDL_RETURN(bag_run(fdl_module_self(m), indices, offsets, opts ? opts->weights : NULL));
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
