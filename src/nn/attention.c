/* Attention between two sequences: multihead_attention. */
#include "flodl/attention.h"

#include <math.h>

#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "module_private.h"
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/dropout.h"
#include "flodl/index.h"
#include "flodl/linalg.h"
#include "flodl/nn.h"
#include "flodl/reduce.h"

typedef struct attention {
    int64_t dim, heads, kdim, vdim;
    bool batch_first, causal, zero_attn;
    double dropout;
    fdl_tensor *w;            /* of q, k and v together; NULL: kdim or vdim differ from dim */
    fdl_tensor *wq, *wk, *wv; /* instead of it */
    fdl_tensor *b;            /* of all three */
    fdl_tensor *bias_k, *bias_v;
    fdl_module *out;
} attention;

/* ---- making ------------------------------------------------------------------------------------- */

static fdl_tensor *xavier_uniform(fdl_shape shape, const fdl_nn_multihead_attention_opts *o)
{
    fdl_tensor *t = fdl_empty(shape, .dtype = o->dtype, .device = o->device);
    return t && fdl_init_xavier_uniform(t) == FDL_OK ? t : NULL;
}

static fdl_tensor *xavier_normal(fdl_shape shape, const fdl_nn_multihead_attention_opts *o)
{
    fdl_tensor *t = fdl_empty(shape, .dtype = o->dtype, .device = o->device);
    return t && fdl_init_xavier_normal(t) == FDL_OK ? t : NULL;
}

/* Drawn in PyTorch's order: the projection of the result first. */
static void add_params(fdl_module *m, attention *self, const fdl_nn_multihead_attention_opts *o)
{
    int64_t dim = self->dim;
    self->out = fdl_module_child(
        m, "out_proj",
        fdl_nn_linear(dim, dim, .no_bias = o->no_bias, .dtype = o->dtype, .device = o->device));
    if (self->kdim == dim && self->vdim == dim) {
        self->w = fdl_module_param(m, "in_proj_weight", xavier_uniform(FDL_SHAPE(3 * dim, dim), o));
    } else {
        self->wq = fdl_module_param(m, "q_proj_weight", xavier_uniform(FDL_SHAPE(dim, dim), o));
        self->wk = fdl_module_param(m, "k_proj_weight", xavier_uniform(FDL_SHAPE(dim, self->kdim), o));
        self->wv = fdl_module_param(m, "v_proj_weight", xavier_uniform(FDL_SHAPE(dim, self->vdim), o));
    }
    if (!o->no_bias) {
        fdl_param *bias = self->out ? fdl_module_own_param(self->out, "bias") : NULL;
        if (bias)
            fdl_init_zeros(fdl_param_tensor(bias));
        self->b = fdl_module_param(m, "in_proj_bias",
                                   fdl_zeros(FDL_SHAPE(3 * dim), .dtype = o->dtype, .device = o->device));
    }
    if (o->add_bias_kv) {
        self->bias_k = fdl_module_param(m, "bias_k", xavier_normal(FDL_SHAPE(1, 1, dim), o));
        self->bias_v = fdl_module_param(m, "bias_v", xavier_normal(FDL_SHAPE(1, 1, dim), o));
    }
}

/* ---- what takes part ---------------------------------------------------------------------------- */

/* One call: x's shapes, and what is done to the scores [N, heads, L, S]. */
typedef struct call {
    int64_t n, l, s;
    bool unbatched, causal;
    fdl_tensor *left_out; /* bool, true: may not attend; NULL: none */
    fdl_tensor *added;    /* to the scores; NULL: nothing */
} call;

static bool wrong_mask(const char *what, fdl_tensor *mask, const char *wanted)
{
    char text[256];
    fdl_fail(FDL_E_SHAPE, "multihead_attention: %s is %s, must be %s", what,
             fdl_describe(mask, text, sizeof text), wanted);
    return false;
}

static bool extent_is(int64_t extent, int64_t full)
{
    return extent == 1 || extent == full;
}

/* A mask of any permitted shape, so that it broadcasts to the scores; NULL: it has none of them. */
static fdl_tensor *fitted(const attention *m, const call *c, const char *what, fdl_tensor *mask, bool padding)
{
    fdl_shape s = fdl_shape_of(mask);
    char wanted[160];
    if (s.ndim < 0)
        return NULL;
    if (padding) {
        if (s.ndim == (c->unbatched ? 1 : 2) && s.d[s.ndim - 1] == c->s && (c->unbatched || s.d[0] == c->n))
            return fdl_reshape(mask, FDL_SHAPE(c->n, 1, 1, c->s));
        if (c->unbatched)
            snprintf(wanted, sizeof wanted, "[%" PRId64 "], one for each key", c->s);
        else
            snprintf(wanted, sizeof wanted, "[%" PRId64 ", %" PRId64 "], one for each key of each sample",
                     c->n, c->s);
        return wrong_mask(what, mask, wanted), NULL;
    }
    if (s.ndim == 2 && s.d[0] == c->l && s.d[1] == c->s)
        return mask;
    if (s.ndim == 3 && s.d[0] == c->n * m->heads && s.d[1] == c->l && s.d[2] == c->s)
        return fdl_reshape(mask, FDL_SHAPE(c->n, m->heads, c->l, c->s));
    if (s.ndim == 4 && extent_is(s.d[0], c->n) && extent_is(s.d[1], m->heads) && extent_is(s.d[2], c->l) &&
        s.d[3] == c->s)
        return mask;
    snprintf(wanted, sizeof wanted,
             "[%" PRId64 ", %" PRId64 "], [%" PRId64 ", %" PRId64 ", %" PRId64 "] or [%" PRId64
             " or 1, %" PRId64 " or 1, %" PRId64 " or 1, %" PRId64 "]",
             c->l, c->s, c->n * m->heads, c->l, c->s, c->n, m->heads, c->l, c->s);
    return wrong_mask(what, mask, wanted), NULL;
}

static bool take_mask(const attention *m, call *c, const char *what, fdl_tensor *mask, bool padding)
{
    fdl_dtype dtype = fdl_dtype_of(mask);
    fdl_tensor *fit = fitted(m, c, what, mask, padding);
    if (!fit)
        return false;
    if (dtype == FDL_BOOL)
        c->left_out = c->left_out ? fdl_logical_or(c->left_out, fit) : fit;
    else if (fdl_dtype_is_floating(dtype))
        c->added = c->added ? fdl_add(c->added, fit) : fit;
    else
        fdl_fail(FDL_E_DTYPE,
                 "multihead_attention: %s is %s, must be bool (true: may not attend) or floating (added)",
                 what, fdl_dtype_name(dtype));
    return dtype == FDL_BOOL ? c->left_out != NULL : c->added != NULL && fdl_dtype_is_floating(dtype);
}

/* `more` columns behind, in which everybody may look. */
static fdl_tensor *widened(fdl_tensor *mask, int64_t more)
{
    return mask && more ? fdl_pad(mask, FDL_DIMS(0, more)) : mask;
}

/* All masks in one. A triangle alone stays c->causal, for which there are kernels. */
static bool join_masks(const attention *m, call *c, fdl_device device, const fdl_nn_mha_forward_opts *o)
{
    int64_t more = (m->bias_k != NULL) + m->zero_attn;
    c->causal = m->causal || o->causal;
    if (o->attn_mask && !take_mask(m, c, "attn_mask", o->attn_mask, false))
        return false;
    if (o->key_padding_mask && !take_mask(m, c, "key_padding_mask", o->key_padding_mask, true))
        return false;
    if (c->causal && (c->left_out || c->added || more || o->weights)) {
        fdl_tensor *later =
            fdl_triu(fdl_ones(FDL_SHAPE(c->l, c->s), .dtype = FDL_BOOL, .device = device), .diagonal = 1);
        c->causal = false;
        c->left_out = c->left_out ? fdl_logical_or(c->left_out, later) : later;
        if (!c->left_out)
            return false;
    }
    bool had_left_out = c->left_out != NULL, had_added = c->added != NULL;
    c->left_out = widened(c->left_out, more);
    c->added = widened(c->added, more);
    return had_left_out == (c->left_out != NULL) && had_added == (c->added != NULL);
}

/* ---- projections -------------------------------------------------------------------------------- */

/* x through w, cut into `parts` (1 to 3) of [N, heads, L, features]. */
static bool project(const attention *m, fdl_tensor *x, fdl_tensor *w, fdl_tensor *b, int parts,
                    fdl_tensor **out)
{
    int64_t size = m->dim / m->heads;
    fdl_tensor *y = fdl_linear(x, w, .bias = b);
    if (parts == 1) {
        y = fdl_unflatten(y, -1, FDL_SHAPE(m->heads, size));
        out[0] = fdl_permute(y, m->batch_first ? FDL_DIMS(0, 2, 1, 3) : FDL_DIMS(1, 2, 0, 3));
        return out[0] != NULL;
    }
    y = fdl_unflatten(y, -1, FDL_SHAPE(parts, m->heads, size));
    fdl_list list =
        fdl_unbind(fdl_permute(y, m->batch_first ? FDL_DIMS(2, 0, 3, 1, 4) : FDL_DIMS(2, 1, 3, 0, 4)), 0);
    for (int i = 0; i < parts; i++)
        out[i] = fdl_list_at(list, i);
    return list.at != NULL;
}

/* Inputs that are the same tensor go through one product. */
static bool project_all(const attention *m, fdl_tensor *const x[3], fdl_tensor *out[3])
{
    fdl_tensor *w[3] = {m->wq, m->wk, m->wv}, *b[3] = {NULL};
    if (m->w && x[0] == x[1] && x[1] == x[2])
        return project(m, x[0], m->w, m->b, 3, out);
    if (m->w && x[1] == x[2]) {
        const int64_t rows[] = {m->dim, 2 * m->dim};
        fdl_ints sizes = {2, rows};
        fdl_list ws = fdl_split_sizes(m->w, sizes, 0), bs = {0};
        if (m->b)
            bs = fdl_split_sizes(m->b, sizes, 0);
        if (!ws.at || (m->b && !bs.at))
            return false;
        return project(m, x[0], ws.at[0], m->b ? bs.at[0] : NULL, 1, out) &&
               project(m, x[1], ws.at[1], m->b ? bs.at[1] : NULL, 2, out + 1);
    }
    fdl_list ws = {0}, bs = {0};
    if (m->w && !(ws = fdl_chunk(m->w, 3, 0)).at)
        return false;
    if (m->b && !(bs = fdl_chunk(m->b, 3, 0)).at)
        return false;
    for (int i = 0; i < 3; i++) {
        w[i] = m->w ? ws.at[i] : w[i];
        b[i] = m->b ? bs.at[i] : NULL;
        if (!project(m, x[i], w[i], b[i], 1, &out[i]))
            return false;
    }
    return true;
}

/* One more key and value for every sample. */
static fdl_tensor *with_row(const attention *m, const call *c, fdl_tensor *x, fdl_tensor *row)
{
    fdl_shape one = FDL_SHAPE(c->n, m->heads, 1, m->dim / m->heads);
    if (!row)
        return fdl_cat(FDL_LIST(x, fdl_zeros(one, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x))), 2);
    return fdl_cat(FDL_LIST(x, fdl_expand(fdl_reshape(row, FDL_SHAPE(1, m->heads, 1, one.d[3])), one)), 2);
}

/* ---- running ------------------------------------------------------------------------------------ */

/* The fused kernels. */
static fdl_tensor *attend(const call *c, fdl_tensor *const x[3], double dropout)
{
    fdl_tensor *mask = c->added;
    if (mask && c->left_out)
        mask = fdl_masked_fill(mask, c->left_out, -INFINITY);
    else if (c->left_out)
        mask = fdl_logical_not(c->left_out);
    if (!mask && (c->added || c->left_out))
        return NULL;
    return fdl_scaled_dot_product_attention(x[0], x[1], x[2], .mask = mask, .dropout = dropout,
                                            .causal = c->causal);
}

/* The same written out, for who wants the weights [N, heads, L, S]. */
static fdl_tensor *attend_seen(const call *c, fdl_tensor *const x[3], double dropout, fdl_tensor **weights)
{
    fdl_shape q = fdl_shape_of(x[0]);
    fdl_tensor *scores = fdl_matmul(fdl_mul(x[0], sqrt(1.0 / (double)q.d[3])), fdl_mT(x[1]));
    if (c->added)
        scores = fdl_add(scores, c->added);
    if (c->left_out)
        scores = fdl_masked_fill(scores, c->left_out, -INFINITY);
    *weights = fdl_softmax(scores, -1);
    if (dropout > 0)
        *weights = fdl_dropout(*weights, dropout, .training = true);
    return fdl_matmul(*weights, x[2]);
}

/* The three inputs fit each other and the module. */
static bool check_inputs(const attention *m, fdl_tensor *const x[3], call *c)
{
    static const char *const names[] = {"query", "key", "value"};
    const int64_t features[] = {m->dim, m->kdim, m->vdim};
    fdl_shape s[3];
    char text[256];
    for (int i = 0; i < 3; i++) {
        s[i] = fdl_shape_of(x[i]);
        if (s[i].ndim < 0)
            return false;
        if ((s[i].ndim != 2 && s[i].ndim != 3) || s[i].d[s[i].ndim - 1] != features[i]) {
            fdl_fail(FDL_E_SHAPE,
                     "multihead_attention: the %s is %s, must be [%s, %" PRId64 "] or [L, %" PRId64 "]",
                     names[i], fdl_describe(x[i], text, sizeof text), m->batch_first ? "N, L" : "L, N",
                     features[i], features[i]);
            return false;
        }
    }
    c->unbatched = s[0].ndim == 2;
    int sample = c->unbatched ? -1 : m->batch_first ? 0 : 1, length = c->unbatched ? 0 : 1 - sample;
    c->n = c->unbatched ? 1 : s[0].d[sample];
    c->l = s[0].d[length];
    c->s = s[1].d[length];
    for (int i = 1; i < 3; i++)
        if (s[i].ndim != s[0].ndim || (!c->unbatched && s[i].d[sample] != c->n) || s[i].d[length] != c->s) {
            char other[256];
            fdl_fail(FDL_E_SHAPE, "multihead_attention: the %s is %s and the %s %s, whose %s differ",
                     names[i], fdl_describe(x[i], text, sizeof text), names[s[i].d[length] != c->s],
                     fdl_describe(x[s[i].d[length] != c->s], other, sizeof other),
                     s[i].ndim != s[0].ndim   ? "numbers of dims"
                     : s[i].d[length] != c->s ? "lengths"
                                              : "numbers of samples");
            return false;
        }
    return true;
}

static fdl_tensor *run(attention *m, fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                       const fdl_nn_mha_forward_opts *o)
{
    fdl_tensor *in[3] = {q, k, v}, *x[3], *weights = NULL;
    call c = {0};
    if (!check_inputs(m, in, &c) || !join_masks(m, &c, fdl_device_of(q), o))
        return NULL;
    int batch = m->batch_first ? 0 : 1;
    if (c.unbatched) {
        in[0] = fdl_unsqueeze(q, batch);
        in[1] = k == q ? in[0] : fdl_unsqueeze(k, batch);
        in[2] = v == k ? in[1] : fdl_unsqueeze(v, batch);
    }
    if (!project_all(m, in, x))
        return NULL;
    if (m->bias_k) {
        x[1] = with_row(m, &c, x[1], m->bias_k);
        x[2] = with_row(m, &c, x[2], m->bias_v);
    }
    if (m->zero_attn) {
        x[1] = with_row(m, &c, x[1], NULL);
        x[2] = with_row(m, &c, x[2], NULL);
    }
    double dropout = fdl_is_training(fdl_module_of(m)) ? m->dropout : 0;
    fdl_tensor *y = o->weights ? attend_seen(&c, x, dropout, &weights) : attend(&c, x, dropout);
    y = m->batch_first ? fdl_transpose(y, 1, 2) : fdl_permute(y, FDL_DIMS(2, 0, 1, 3));
    y = fdl_forward(m->out, fdl_flatten(y, 2, 3));
    if (c.unbatched)
        y = fdl_squeeze(y, batch);
    if (o->weights) {
        if (!o->per_head)
            weights = fdl_mean_dim(weights, 1);
        *o->weights = c.unbatched ? fdl_squeeze(weights, 0) : weights;
    }
    return y;
}

/* Further inputs: masks by their names, the others by position. */
static fdl_tensor *attention_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_nn_mha_forward_opts o = {0};
    fdl_tensor *others[2] = {x, x};
    int n = 0;
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        const char *name = fdl_refs_name(r, i);
        fdl_tensor *t = fdl_refs_at(r, i);
        if (strcmp(name, "attn_mask") == 0)
            o.attn_mask = t;
        else if (strcmp(name, "key_padding_mask") == 0)
            o.key_padding_mask = t;
        else if (n < 2)
            others[n++] = t;
        else
            return fdl_fail_null(FDL_E_ARG,
                                 "multihead_attention takes a query, a key and a value, and masks called "
                                 "attn_mask and key_padding_mask; \"%s\" is one input too many",
                                 name);
    }
    return run(self, x, others[0], n == 1 ? others[0] : others[1], &o);
}

static fdl_tensor *attention_forward(void *self, fdl_tensor *x)
{
    return run(self, x, x, x, &(fdl_nn_mha_forward_opts){0});
}

static const fdl_module_ops attention_ops = {.kind = "multihead_attention",
                                             .size = sizeof(attention),
                                             .forward = attention_forward,
                                             .forward_named = attention_forward_named};

typedef struct multihead_attention_args {
    int64_t dim, heads;
    fdl_nn_multihead_attention_opts o;
} multihead_attention_args;

/* Tokens of a sequence [L, N, ..], or [N, L, ..], or [L, ..] without a batch. */
static double tokens(fdl_shape s, bool batch_first)
{
    return s.ndim == 3 ? (double)s.d[batch_first ? 1 : 0] : (double)s.d[0];
}

/* The maps of query, key and value, the scores and the weighted values; out_proj counts by itself. */
static double attention_work(const fdl_call *c)
{
    const multihead_attention_args *a = c->args;
    fdl_shape key = c->inputs > 1 ? c->input[1] : c->x, value = c->inputs > 2 ? c->input[2] : key;
    double dim = (double)a->dim, queries = (double)fdl_shape_numel(c->x) / dim;
    double keys = tokens(key, a->o.batch_first) + a->o.add_bias_kv + a->o.add_zero_attn;
    return dim * (queries * dim + (double)fdl_shape_numel(key) + (double)fdl_shape_numel(value) +
                  2 * queries * keys);
}

/* x of [L, N, E], [N, L, E] or [L, E], mapped, as [N, heads, L, E / heads] or [heads, L, E / heads]. */
static const char *onnx_heads(fdl_onnx *o, const attention *m, int rank, const char *x, const char *weight,
                              const char *bias)
{
    const char *y = onnx_linear(o, rank, x, weight, bias);
    if (rank == 2)
        return TRANSPOSE(o, OP(o, "Reshape", IN(y, INTS(o, 0, m->heads, m->dim / m->heads))), 1, 0, 2);
    y = OP(o, "Reshape", IN(y, INTS(o, 0, 0, m->heads, m->dim / m->heads)));
    return m->batch_first ? TRANSPOSE(o, y, 0, 2, 1, 3) : TRANSPOSE(o, y, 1, 2, 0, 3);
}

/* -inf above the diagonal [l, s]. */
static const char *onnx_causal(fdl_onnx *o, const char *scores, int64_t l, int64_t s)
{
    fdl_tensor *mask = fdl_full(FDL_SHAPE(l, s), -INFINITY, .device = FDL_CPU);
    const char *name = onnx_text(o, "causal_%lld_%lld", (long long)l, (long long)s);
    const char *added = onnx_tensor(o, fdl_triu(mask, .diagonal = 1), name);
    return OP(o, "Add", IN(scores, OP(o, "CastLike", IN(added, scores))));
}

/* The part of q (0), k (1) or v (2) of what all three have in one. */
static const char *onnx_part(fdl_onnx *o, const attention *m, fdl_module *module, const char *together,
                             const char *leaf, int part)
{
    const char *all = onnx_param(o, module, together);
    if (all)
        return onnx_slice(o, all, 0, part * m->dim, (part + 1) * m->dim);
    return leaf ? onnx_param(o, module, leaf) : NULL;
}

static const char *say(fdl_onnx *o, const fdl_call *c, bool causal, const char *const *x)
{
    static const char *const leaves[] = {"q_proj_weight", "k_proj_weight", "v_proj_weight"};
    const attention *m = fdl_module_self(c->module);
    int rank = c->x.ndim;
    if (m->bias_k || m->zero_attn)
        return onnx_refuse(o, "keys and values of its own (add_bias_kv, add_zero_attn) aren't told in ONNX");
    for (int i = 1; c->names && i < c->inputs; i++)
        if (strstr(c->names[i - 1], "mask"))
            return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    const char *in[3] = {x[0], c->inputs > 1 ? x[1] : x[0], c->inputs > 1 ? x[c->inputs - 1] : x[0]},
               *part[3];
    for (int i = 0; i < 3; i++)
        part[i] = onnx_heads(o, m, rank, in[i], onnx_part(o, m, c->module, "in_proj_weight", leaves[i], i),
                             onnx_part(o, m, c->module, "in_proj_bias", NULL, i));
    const char *keys = rank == 2 ? TRANSPOSE(o, part[1], 0, 2, 1) : TRANSPOSE(o, part[1], 0, 1, 3, 2);
    const char *q = OP(o, "Mul", IN(part[0], onnx_number(o, 1 / sqrt((double)(m->dim / m->heads)))));
    const char *scores = OP(o, "MatMul", IN(q, keys));
    if (m->causal || causal) {
        fdl_shape key = c->inputs > 1 ? c->input[1] : c->x;
        int l = rank == 3 && m->batch_first ? 1 : 0;
        scores = onnx_causal(o, scores, c->x.d[l], key.d[l]);
    }
    const char *y = OP(o, "MatMul", IN(OP_ATTR(o, "Softmax", IN(scores), A_INT("axis", -1)), part[2]));
    if (rank == 2)
        y = OP(o, "Reshape", IN(TRANSPOSE(o, y, 1, 0, 2), INTS(o, 0, -1)));
    else
        y = OP(o, "Reshape",
               IN(m->batch_first ? TRANSPOSE(o, y, 0, 2, 1, 3) : TRANSPOSE(o, y, 2, 0, 1, 3),
                  INTS(o, 0, 0, -1)));
    return onnx_module(o, m->out, c->y, c->y, y);
}

static const char *attention_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    return say(o, c, false, x);
}

const char *onnx_attention(fdl_onnx *o, fdl_module *m, fdl_shape shape, bool causal, const char *x)
{
    fdl_call self = {.module = m, .x = shape, .y = shape, .inputs = 1, .input = &shape};
    return x ? say(o, &self, causal, &x) : NULL;
}

static fdl_module *make_multihead_attention(const void *args)
{
    const multihead_attention_args *a = args;
    return fdl_nn_multihead_attention_opt(a->dim, a->heads, &a->o);
}

#define OPTION(name, type) FDL_OPT(multihead_attention_args, name, type)
KIND(multihead_attention, .name = "multihead_attention", .work = attention_work, .onnx = attention_onnx,
     ARGS(multihead_attention_args, FDL_ARG(multihead_attention_args, dim, INT64),
          FDL_ARG(multihead_attention_args, heads, INT64), OPTION(dropout, OPT_DOUBLE), OPTION(no_bias, BOOL),
          OPTION(kdim, INT64), OPTION(vdim, INT64), OPTION(add_bias_kv, BOOL), OPTION(add_zero_attn, BOOL),
          OPTION(batch_first, BOOL), OPTION(causal, BOOL), OPTION(dtype, DTYPE)));

fdl_module *fdl_nn_multihead_attention_opt(int64_t dim, int64_t heads,
                                           const fdl_nn_multihead_attention_opts *opts)
{
    static const char name[] = "multihead_attention";
    const fdl_nn_multihead_attention_opts o = opts ? *opts : (fdl_nn_multihead_attention_opts){0};
    if (!arg_at_least(name, "dim", dim, 1) || !arg_at_least(name, "heads", heads, 1) ||
        !arg_divides(name, "heads", heads, "dim", dim) || !arg_at_least(name, "kdim", o.kdim, 0) ||
        !arg_at_least(name, "vdim", o.vdim, 0) ||
        !arg_within(name, "dropout", fdl_opt_double(o.dropout, 0), 0, 1))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&attention_ops);
    attention *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (attention){.dim = dim,
                        .heads = heads,
                        .kdim = o.kdim ? o.kdim : dim,
                        .vdim = o.vdim ? o.vdim : dim,
                        .batch_first = o.batch_first,
                        .causal = o.causal,
                        .zero_attn = o.add_zero_attn,
                        .dropout = fdl_opt_double(o.dropout, 0)};
    add_params(m, self, &o);
    return DESCRIBED(m, multihead_attention, (multihead_attention_args){dim, heads, o});
}

fdl_tensor *fdl_nn_mha_forward_opt(fdl_module *m, fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                                   const fdl_nn_mha_forward_opts *opts)
{
    const fdl_nn_mha_forward_opts o = opts ? *opts : (fdl_nn_mha_forward_opts){0};
    if (o.weights)
        *o.weights = NULL;
    if (!m || !q || !k || !v) {
        fdl_null_operand("fdl_nn_mha_forward", !m ? "m" : !q ? "q" : !k ? "k" : "v");
        return NULL;
    }
    if (fdl_module_ops_of(m) != &attention_ops)
        return fdl_fail_null(FDL_E_ARG, "fdl_nn_mha_forward: m is a %s, must be a multihead_attention",
                             fdl_module_kind(m));
    FDL_SCOPE;
    const module_watch *watch = m->real->watch;
    if (watch)
        watch->before(m->real);
    fdl_tensor *y = run(fdl_module_self(m), q, k, v, &o);
    if (y && watch)
        watch->after(m->real, 3, (fdl_tensor *const[]){q, k, v}, NULL, y);
    if (o.weights)
        *o.weights = y ? fdl_escape(*o.weights) : NULL;
    FDL_RETURN(y);
}
