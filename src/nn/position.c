/* Modules that tell attention about positions: rope, alibi. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/index.h"
#include "flodl/nn_attention.h"
#include "flodl/shape.h"

/* ---- rope --------------------------------------------------------------------------------------- */

typedef struct rope_args {
    int64_t head_dim;
    fdl_nn_rope_opts o;
} rope_args;

typedef struct rope {
    rope_args made;
    /* [max_len, head_dim / 2] in float32, kept: not registered, since a cast of the module mustn't round the angles. NULL: no table. */
    fdl_tensor *cos, *sin;
} rope;

static void rope_free(void *self)
{
    rope *m = self;
    fdl_free(m->cos);
    fdl_free(m->sin);
}

/* Both halves of the table are what (1, 0) is turned to. */
static fdl_status make_table(int64_t rows, int64_t head_dim, const fdl_nn_rope_opts *o, fdl_device device,
                             fdl_tensor **cos, fdl_tensor **sin)
{
    FDL_SCOPE;
    FDL_NO_GRAD;
    fdl_shape half = FDL_SHAPE(rows, head_dim / 2);
    fdl_tensor *one = fdl_ones(half, .dtype = FDL_FLOAT64, .device = device),
               *none = fdl_zeros(half, .dtype = FDL_FLOAT64, .device = device);
    fdl_tensor *turned = fdl_rope(fdl_cat(FDL_LIST(one, none), 1), .base = o->base);
    *cos = fdl_keep(fdl_float(fdl_narrow(turned, 1, 0, head_dim / 2)));
    *sin = fdl_keep(fdl_float(fdl_narrow(turned, 1, head_dim / 2, head_dim / 2)));
    if (*cos && *sin)
        return FDL_OK;
    fdl_free(*cos);
    fdl_free(*sin);
    *cos = *sin = NULL;
    return fdl_error_pending();
}

static fdl_status rope_to(void *self, fdl_device device)
{
    rope *m = self;
    fdl_tensor *cos, *sin;
    if (!m->cos)
        return FDL_OK;
    FDL_TRY(make_table(m->made.o.max_len, m->made.head_dim, &m->made.o, device, &cos, &sin));
    rope_free(m);
    m->cos = cos;
    m->sin = sin;
    return FDL_OK;
}

static fdl_tensor *turn(const rope *m, fdl_tensor *x, const fdl_nn_rope_forward_opts *o)
{
    const fdl_nn_rope_opts *made = &m->made.o;
    fdl_shape s = fdl_shape_of(x);
    if (s.ndim < 0)
        return NULL;
    if (s.ndim < 2 || s.d[s.ndim - 1] != m->made.head_dim) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE, "rope: x is %s, must be [*, L, %" PRId64 "]",
                             fdl_describe(x, text, sizeof text), m->made.head_dim);
    }
    int64_t rows = s.d[s.ndim - 2];
    if (made->max_len && !o->positions && (o->offset < 0 || rows > made->max_len - o->offset))
        return fdl_fail_null(FDL_E_RANGE, "rope: positions %" PRId64 " to %" PRId64 ", max_len is %" PRId64,
                             o->offset, o->offset + rows - 1, made->max_len);
    if (m->cos && !o->positions && fdl_dtype_of(x) != FDL_FLOAT64 &&
        fdl_device_eq(fdl_device_of(x), fdl_device_of(m->cos)))
        return fdl_rotate_pairs(x, fdl_narrow(m->cos, 0, o->offset, rows),
                                fdl_narrow(m->sin, 0, o->offset, rows), .interleaved = made->interleaved);
    return fdl_rope(x, .base = made->base, .interleaved = made->interleaved, .offset = o->offset,
                    .positions = o->positions);
}

static fdl_tensor *rope_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    size_t n = fdl_refs_count(r);
    if (n > 1)
        return fdl_fail_null(FDL_E_ARG, "rope takes x and positions; \"%s\" is one input too many",
                             fdl_refs_name(r, 1));
    return turn(self, x, &(fdl_nn_rope_forward_opts){.positions = n ? fdl_refs_at(r, 0) : NULL});
}

static const fdl_module_ops rope_ops = {
    .kind = "rope", .size = sizeof(rope), .forward_named = rope_forward, .to = rope_to, .free = rope_free};

static fdl_module *make_rope(const void *args)
{
    const rope_args *a = args;
    return fdl_nn_rope_opt(a->head_dim, &a->o);
}

/* x [.., features], as its pairs a, b. */
static void onnx_pairs(fdl_onnx *o, const char *x, int rank, int64_t features, bool interleaved,
                       const char *out[2])
{
    int64_t shape[FDL_MAX_DIMS + 1] = {0};
    shape[rank - 1] = features / 2;
    shape[rank] = 2;
    if (interleaved)
        x = OP(o, "Reshape", IN(x, onnx_ints(o, rank + 1, shape)));
    for (int i = 0; i < 2; i++)
        out[i] = interleaved ? onnx_squeeze(o, onnx_slice(o, x, rank, i, i + 1), rank)
                             : onnx_slice(o, x, rank - 1, i * features / 2, (i + 1) * features / 2);
}

const char *onnx_rope(fdl_onnx *o, const char *x, int rank, int64_t rows, int64_t features,
                      const fdl_rope_opts *how)
{
    if (!x)
        return NULL;
    fdl_tensor *kept[2];
    const char *table[2], *pair[2];
    if (make_table(rows, features, &(fdl_nn_rope_opts){.base = how->base}, FDL_CPU, &kept[0], &kept[1]) !=
        FDL_OK)
        return onnx_refuse(o, "no table of angles");
    for (int i = 0; i < 2; i++) {
        table[i] = onnx_tensor(o, kept[i], onnx_text(o, "%s/%s", onnx_place(o), i ? "sin" : "cos"));
        table[i] = OP(o, "CastLike", IN(table[i], x));
        fdl_free(kept[i]);
    }
    onnx_pairs(o, x, rank, features, how->interleaved, pair);
    const char *y[] = {
        OP(o, "Sub", IN(OP(o, "Mul", IN(pair[0], table[0])), OP(o, "Mul", IN(pair[1], table[1])))),
        OP(o, "Add", IN(OP(o, "Mul", IN(pair[0], table[1])), OP(o, "Mul", IN(pair[1], table[0]))))};
    if (!how->interleaved)
        return OP_ATTR(o, "Concat", IN(y[0], y[1]), A_INT("axis", rank - 1));
    int64_t shape[FDL_MAX_DIMS] = {0};
    shape[rank - 1] = features;
    y[0] = OP_ATTR(o, "Concat", IN(onnx_unsqueeze(o, y[0], rank), onnx_unsqueeze(o, y[1], rank)),
                   A_INT("axis", rank));
    return OP(o, "Reshape", IN(y[0], onnx_ints(o, rank, shape)));
}

static const char *rope_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const rope_args *a = c->args;
    if (c->inputs > 1)
        return onnx_refuse(o, "positions as an input aren't told in ONNX");
    return onnx_rope(o, x[0], c->x.ndim, c->x.d[c->x.ndim - 2], a->head_dim,
                     &(fdl_rope_opts){.base = a->o.base, .interleaved = a->o.interleaved});
}

KIND(rope, .name = "rope", .onnx = rope_onnx,
     ARGS(rope_args, FDL_ARG(rope_args, head_dim, INT64), FDL_OPT(rope_args, base, OPT_DOUBLE),
          FDL_OPT(rope_args, interleaved, BOOL), FDL_OPT(rope_args, max_len, INT64)));

fdl_module *fdl_nn_rope_opt(int64_t head_dim, const fdl_nn_rope_opts *opts)
{
    const fdl_nn_rope_opts o = opts ? *opts : (fdl_nn_rope_opts){0};
    double base = fdl_opt_double(o.base, 10000);
    if (!arg_at_least("rope", "head_dim", head_dim, 2) || !arg_at_least("rope", "max_len", o.max_len, 0))
        return NULL;
    if (head_dim % 2)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_rope: head_dim is %" PRId64 ", must be even", head_dim);
    if (!(base > 0 && base <= 1e300))
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_rope: base is %g, must be above 0", base);
    fdl_module *m = fdl_module_new(&rope_ops);
    rope *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->made = (rope_args){head_dim, o};
    if (o.max_len && make_table(o.max_len, head_dim, &o, o.device, &self->cos, &self->sin) != FDL_OK) {
        fdl_module_free(m);
        return NULL;
    }
    return DESCRIBED(m, rope, (rope_args){head_dim, o});
}

fdl_tensor *fdl_nn_rope_forward_opt(fdl_module *m, fdl_tensor *x, const fdl_nn_rope_forward_opts *opts)
{
    const fdl_nn_rope_forward_opts o = opts ? *opts : (fdl_nn_rope_forward_opts){0};
    if (!m || !x) {
        fdl_null_operand("fdl_nn_rope_forward", m ? "x" : "m");
        return NULL;
    }
    if (fdl_module_ops_of(m) != &rope_ops)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_rope_forward: m is a %s, must be a rope", fdl_module_kind(m));
    FDL_SCOPE;
    FDL_RETURN(turn(fdl_module_self(m), x, &o));
}

/* ---- alibi -------------------------------------------------------------------------------------- */

typedef struct alibi {
    int64_t heads;
} alibi;

static fdl_tensor *alibi_forward(void *self, fdl_tensor *scores)
{
    const alibi *m = self;
    fdl_shape s = fdl_shape_of(scores);
    if (s.ndim < 0)
        return NULL;
    if (s.ndim < 3 || s.d[s.ndim - 3] != m->heads || s.d[s.ndim - 2] > s.d[s.ndim - 1]) {
        char text[256];
        return fdl_fail_null(FDL_E_SHAPE,
                             "alibi: the scores are %s, must be [*, %" PRId64 ", L, S], L at most S",
                             fdl_describe(scores, text, sizeof text), m->heads);
    }
    if (s.d[s.ndim - 2] == 0)
        return scores;
    return fdl_add(scores, fdl_alibi(m->heads, s.d[s.ndim - 1], .queries = s.d[s.ndim - 2],
                                     .dtype = fdl_dtype_of(scores), .device = fdl_device_of(scores)));
}

static fdl_module *make_alibi(const void *args)
{
    return fdl_nn_alibi(((const alibi *)args)->heads);
}

const char *onnx_alibi(fdl_onnx *o, const char *scores, int64_t heads, int64_t queries, int64_t keys)
{
    FDL_SCOPE;
    fdl_tensor *added = fdl_alibi(heads, keys, .queries = queries, .device = FDL_CPU);
    const char *name =
        onnx_text(o, "alibi_%lld_%lld_%lld", (long long)heads, (long long)queries, (long long)keys);
    return OP(o, "Add", IN(scores, OP(o, "CastLike", IN(onnx_tensor(o, added, name), scores))));
}

static const char *alibi_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return onnx_alibi(o, x[0], ((const alibi *)c->args)->heads, c->x.d[c->x.ndim - 2], c->x.d[c->x.ndim - 1]);
}

KIND(alibi, .name = "alibi", .onnx = alibi_onnx, ARGS(alibi, FDL_ARG(alibi, heads, INT64)));

fdl_module *fdl_nn_alibi(int64_t heads)
{
    static const fdl_module_ops ops = {.kind = "alibi", .size = sizeof(alibi), .forward = alibi_forward};
    if (!arg_at_least("alibi", "heads", heads, 1))
        return NULL;
    fdl_module *m = fdl_module_new(&ops);
    alibi *self = fdl_module_self(m);
    if (self)
        self->heads = heads;
    return DESCRIBED(m, alibi, (alibi){heads});
}
