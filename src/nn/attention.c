/* Attention between two sequences: multihead_attention. */
#include "flodl/attention.h"

#include <math.h>

#include "arguments.h"
#include "describe.h"
#include "kv_cache.h"
#include "onnx.h"
#include "module_private.h"
#include "flodl/arithmetic.h"
#include "flodl/compare.h"
#include "flodl/dropout.h"
#include "flodl/index.h"
#include "flodl/linalg.h"
#include "flodl/nn.h"
#include "flodl/reduce.h"
#include "flodl/shape.h"

typedef struct attention {
    int64_t dim, heads, kv_heads, size, kdim, vdim; /* size: features of a head */
    bool batch_first, causal, zero_attn, alibi, rope;
    fdl_rope_opts turn; /* with rope */
    double dropout;
    fdl_tensor *w;            /* of q, k and v together; NULL: their shapes differ */
    fdl_tensor *wq, *wk, *wv; /* instead of it */
    fdl_tensor *b;            /* of all three; NULL: none, or kv_heads */
    fdl_tensor *bq, *bk, *bv; /* instead of it, with kv_heads */
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

static fdl_tensor *zeros(int64_t n, const fdl_nn_multihead_attention_opts *o)
{
    return fdl_zeros(FDL_SHAPE(n), .dtype = o->dtype, .device = o->device);
}

/* Drawn in PyTorch's order: the projection of the result first. */
static void add_params(fdl_module *m, attention *self, const fdl_nn_multihead_attention_opts *o)
{
    int64_t dim = self->dim, kv_dim = self->kv_heads * self->size;
    self->out = fdl_module_child(
        m, "out_proj",
        fdl_nn_linear(dim, dim, .no_bias = o->no_bias, .dtype = o->dtype, .device = o->device));
    if (!o->kv_heads && self->kdim == dim && self->vdim == dim) {
        self->w = fdl_module_param(m, "in_proj_weight", xavier_uniform(FDL_SHAPE(3 * dim, dim), o));
    } else {
        self->wq = fdl_module_param(m, "q_proj_weight", xavier_uniform(FDL_SHAPE(dim, dim), o));
        self->wk = fdl_module_param(m, "k_proj_weight", xavier_uniform(FDL_SHAPE(kv_dim, self->kdim), o));
        self->wv = fdl_module_param(m, "v_proj_weight", xavier_uniform(FDL_SHAPE(kv_dim, self->vdim), o));
    }
    if (!o->no_bias) {
        fdl_param *bias = self->out ? fdl_module_own_param(self->out, "bias") : NULL;
        if (bias)
            fdl_init_zeros(fdl_param_tensor(bias));
    }
    if (!o->no_bias && o->kv_heads) {
        self->bq = fdl_module_param(m, "q_proj_bias", zeros(dim, o));
        self->bk = fdl_module_param(m, "k_proj_bias", zeros(kv_dim, o));
        self->bv = fdl_module_param(m, "v_proj_bias", zeros(kv_dim, o));
    } else if (!o->no_bias) {
        self->b = fdl_module_param(m, "in_proj_bias", zeros(3 * dim, o));
    }
    if (o->add_bias_kv) {
        self->bias_k = fdl_module_param(m, "bias_k", xavier_normal(FDL_SHAPE(1, 1, kv_dim), o));
        self->bias_v = fdl_module_param(m, "bias_v", xavier_normal(FDL_SHAPE(1, 1, kv_dim), o));
    }
}

/* ---- what takes part ---------------------------------------------------------------------------- */

/* One call: x's shapes, and what is done to the scores [N, heads, L, S]. */
typedef struct call {
    int64_t n, l, s;
    int64_t past; /* of the s keys those that a cache has from earlier calls */
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
static bool join_masks(const attention *m, call *c, fdl_tensor *q, const fdl_nn_mha_forward_opts *o)
{
    int64_t more = (m->bias_k != NULL) + m->zero_attn;
    if (m->alibi) {
        c->added =
            fdl_alibi(m->heads, c->s, .queries = c->l, .dtype = fdl_dtype_of(q), .device = fdl_device_of(q));
        if (!c->added)
            return false;
    }
    if (o->attn_mask && !take_mask(m, c, "attn_mask", o->attn_mask, false))
        return false;
    if (o->key_padding_mask && !take_mask(m, c, "key_padding_mask", o->key_padding_mask, true))
        return false;
    if (c->causal && c->past && c->l == 1) /* the last of all positions sees all */
        c->causal = false;
    if (c->causal && (c->past || c->left_out || c->added || more || o->weights)) {
        fdl_tensor *later =
            fdl_triu(fdl_ones(FDL_SHAPE(c->l, c->s), .dtype = FDL_BOOL, .device = fdl_device_of(q)),
                     .diagonal = 1 + c->past);
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
static bool project(const attention *m, fdl_tensor *x, fdl_tensor *w, fdl_tensor *b, int parts, int64_t heads,
                    fdl_tensor **out)
{
    fdl_tensor *y = fdl_linear(x, w, .bias = b);
    if (parts == 1) {
        y = fdl_unflatten(y, -1, FDL_SHAPE(heads, m->size));
        out[0] = fdl_permute(y, m->batch_first ? FDL_DIMS(0, 2, 1, 3) : FDL_DIMS(1, 2, 0, 3));
        return out[0] != NULL;
    }
    y = fdl_unflatten(y, -1, FDL_SHAPE(parts, heads, m->size));
    fdl_list list =
        fdl_unbind(fdl_permute(y, m->batch_first ? FDL_DIMS(2, 0, 3, 1, 4) : FDL_DIMS(2, 1, 3, 0, 4)), 0);
    for (int i = 0; i < parts; i++)
        out[i] = fdl_list_at(list, i);
    return list.at != NULL;
}

/* Inputs that are the same tensor go through one product. */
static bool project_all(const attention *m, fdl_tensor *const x[3], fdl_tensor *out[3])
{
    fdl_tensor *w[3] = {m->wq, m->wk, m->wv}, *b[3] = {m->bq, m->bk, m->bv};
    if (m->w && x[0] == x[1] && x[1] == x[2])
        return project(m, x[0], m->w, m->b, 3, m->heads, out);
    if (m->w && x[1] == x[2]) {
        const int64_t rows[] = {m->dim, 2 * m->dim};
        fdl_ints sizes = {2, rows};
        fdl_list ws = fdl_split_sizes(m->w, sizes, 0), bs = {0};
        if (m->b)
            bs = fdl_split_sizes(m->b, sizes, 0);
        if (!ws.at || (m->b && !bs.at))
            return false;
        return project(m, x[0], ws.at[0], m->b ? bs.at[0] : NULL, 1, m->heads, out) &&
               project(m, x[1], ws.at[1], m->b ? bs.at[1] : NULL, 2, m->heads, out + 1);
    }
    fdl_list ws = {0}, bs = {0};
    if (m->w && !(ws = fdl_chunk(m->w, 3, 0)).at)
        return false;
    if (m->b && !(bs = fdl_chunk(m->b, 3, 0)).at)
        return false;
    for (int i = 0; i < 3; i++) {
        w[i] = m->w ? ws.at[i] : w[i];
        b[i] = m->b ? bs.at[i] : b[i];
        if (!project(m, x[i], w[i], b[i], 1, i ? m->kv_heads : m->heads, &out[i]))
            return false;
    }
    return true;
}

/* One more key and value for every sample. */
static fdl_tensor *with_row(const attention *m, const call *c, fdl_tensor *x, fdl_tensor *row)
{
    fdl_shape one = FDL_SHAPE(c->n, m->kv_heads, 1, m->size);
    if (!row)
        return fdl_cat(FDL_LIST(x, fdl_zeros(one, .dtype = fdl_dtype_of(x), .device = fdl_device_of(x))), 2);
    return fdl_cat(FDL_LIST(x, fdl_expand(fdl_reshape(row, FDL_SHAPE(1, m->kv_heads, 1, m->size)), one)), 2);
}

/* ---- running ------------------------------------------------------------------------------------ */

/* The fused kernels. */
static fdl_tensor *attend(const attention *m, const call *c, fdl_tensor *const x[3], double dropout)
{
    fdl_tensor *mask = c->added;
    if (mask && c->left_out)
        mask = fdl_masked_fill(mask, c->left_out, -INFINITY);
    else if (c->left_out)
        mask = fdl_logical_not(c->left_out);
    if (!mask && (c->added || c->left_out))
        return NULL;
    return fdl_scaled_dot_product_attention(x[0], x[1], x[2], .mask = mask, .dropout = dropout,
                                            .causal = c->causal, .gqa = m->kv_heads != m->heads);
}

/* The same written out, for who wants the weights [N, heads, L, S]. */
static fdl_tensor *attend_seen(const attention *m, const call *c, fdl_tensor *const x[3], double dropout,
                               fdl_tensor **weights)
{
    fdl_tensor *k = x[1], *v = x[2];
    if (m->kv_heads != m->heads) {
        k = fdl_repeat_interleave(k, m->heads / m->kv_heads, 1);
        v = fdl_repeat_interleave(v, m->heads / m->kv_heads, 1);
    }
    fdl_tensor *scores = fdl_matmul(fdl_mul(x[0], sqrt(1.0 / (double)m->size)), fdl_mT(k));
    if (c->added)
        scores = fdl_add(scores, c->added);
    if (c->left_out)
        scores = fdl_masked_fill(scores, c->left_out, -INFINITY);
    *weights = fdl_softmax(scores, -1);
    if (dropout > 0)
        *weights = fdl_dropout(*weights, dropout, .training = true);
    return fdl_matmul(*weights, v);
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

/* With a cache: its entry for the module, and in the call the positions that it has. false: refused. */
static bool start_cached(attention *m, call *c, bool own, fdl_kv_cache *cache, kv_entry **entry)
{
    if (own != c->causal) {
        fdl_fail(
            FDL_E_STATE,
            own ? "multihead_attention: with a kv cache, a sequence looks back only; .causal = true"
                : "multihead_attention: with a kv cache, .causal is for a sequence that looks at itself");
        return false;
    }
    *entry = kv_cache_entry(cache, fdl_module_of(m));
    if (!*entry || !own)
        return *entry != NULL;
    (*entry)->counts = true;
    c->past = (*entry)->len;
    c->s += c->past;
    return kv_cache_fits(cache, *entry, c->l);
}

/* q alone. */
static bool project_query(const attention *m, fdl_tensor *q, fdl_tensor **out)
{
    fdl_tensor *w = m->w ? fdl_narrow(m->w, 0, 0, m->dim) : m->wq;
    fdl_tensor *b = m->b ? fdl_narrow(m->b, 0, 0, m->dim) : m->bq;
    if (!w || (m->b && !b) || !project(m, q, w, b, 1, m->heads, out))
        return false;
    if (m->rope)
        *out = fdl_rope_opt(*out, &m->turn);
    return *out != NULL;
}

/* q, k and v [N, heads, length, features] of the inputs, with what a cache has of them; key and value are the caller's. */
static bool prepare(attention *m, const call *c, fdl_tensor *const in[3], fdl_tensor *key, fdl_tensor *value,
                    fdl_kv_cache *cache, kv_entry *entry, fdl_tensor *x[3])
{
    bool memory = entry && !entry->counts && !fdl_grad_enabled();
    if (memory && kv_cache_recall(entry, key, value, &x[1], &x[2]))
        return project_query(m, in[0], x);
    if (!project_all(m, in, x))
        return false;
    if (m->rope) {
        fdl_rope_opts turn = m->turn;
        turn.offset = c->past;
        x[0] = fdl_rope_opt(x[0], &turn);
        x[1] = fdl_rope_opt(x[1], &turn);
        if (!x[0] || !x[1])
            return false;
    }
    if (entry && entry->counts)
        return kv_cache_append(cache, entry, &x[1], &x[2]);
    return !memory || kv_cache_remember(entry, key, value, x[1], x[2]);
}

static fdl_tensor *run(attention *m, fdl_tensor *q, fdl_tensor *k, fdl_tensor *v,
                       const fdl_nn_mha_forward_opts *o)
{
    fdl_tensor *in[3] = {q, k, v}, *x[3], *weights = NULL;
    call c = {.causal = m->causal || o->causal};
    fdl_kv_cache *cache = kv_cache_now();
    kv_entry *entry = NULL;
    if (!check_inputs(m, in, &c))
        return NULL;
    if (cache && !start_cached(m, &c, q == k && k == v, cache, &entry))
        return NULL;
    if (!join_masks(m, &c, q, o))
        return NULL;
    int batch = m->batch_first ? 0 : 1;
    if (c.unbatched) {
        in[0] = fdl_unsqueeze(q, batch);
        in[1] = k == q ? in[0] : fdl_unsqueeze(k, batch);
        in[2] = v == k ? in[1] : fdl_unsqueeze(v, batch);
    }
    if (!prepare(m, &c, in, k, v, cache, entry, x))
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
    fdl_tensor *y = o->weights ? attend_seen(m, &c, x, dropout, &weights) : attend(m, &c, x, dropout);
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
    double share = a->o.kv_heads ? (double)a->o.kv_heads / (double)a->heads : 1;
    return dim * (queries * dim + share * ((double)fdl_shape_numel(key) + (double)fdl_shape_numel(value)) +
                  2 * queries * keys);
}

/* x of [L, N, E], [N, L, E] or [L, E], mapped, as [N, heads, L, size] or [heads, L, size]. */
static const char *onnx_heads(fdl_onnx *o, const attention *m, int rank, int64_t heads, const char *x,
                              const char *weight, const char *bias)
{
    const char *y = onnx_linear(o, rank, x, weight, bias);
    if (rank == 2)
        return TRANSPOSE(o, OP(o, "Reshape", IN(y, INTS(o, 0, heads, m->size))), 1, 0, 2);
    y = OP(o, "Reshape", IN(y, INTS(o, 0, 0, heads, m->size)));
    return m->batch_first ? TRANSPOSE(o, y, 0, 2, 1, 3) : TRANSPOSE(o, y, 1, 2, 0, 3);
}

/* Keys or values of kv_heads, each as often as there are queries for it. */
static const char *onnx_repeat(fdl_onnx *o, const attention *m, int rank, const char *x)
{
    if (m->kv_heads == m->heads)
        return x;
    int64_t times = m->heads / m->kv_heads;
    x = onnx_unsqueeze(o, x, rank - 1);
    if (rank == 2) {
        x = OP(o, "Expand", IN(x, INTS(o, 1, times, 1, 1)));
        return OP(o, "Reshape", IN(x, INTS(o, m->heads, -1, m->size)));
    }
    x = OP(o, "Expand", IN(x, INTS(o, 1, 1, times, 1, 1)));
    return OP(o, "Reshape", IN(x, INTS(o, 0, m->heads, -1, m->size)));
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
    return onnx_param(o, module, leaf);
}

/* An attention of inputs x [3], of which value may be key and key query; causal: the module around it says so. */
static const char *say(fdl_onnx *o, fdl_module *module, bool causal, fdl_shape query, fdl_shape key,
                       const char *const x[3])
{
    static const char *const weights[] = {"q_proj_weight", "k_proj_weight", "v_proj_weight"};
    static const char *const biases[] = {"q_proj_bias", "k_proj_bias", "v_proj_bias"};
    const attention *m = fdl_module_self(module);
    int rank = query.ndim, l = rank == 3 && m->batch_first ? 1 : 0;
    if (m->bias_k || m->zero_attn)
        return onnx_refuse(o, "keys and values of its own (add_bias_kv, add_zero_attn) aren't told in ONNX");
    const char *part[3];
    for (int i = 0; i < 3; i++) {
        part[i] = onnx_heads(o, m, rank, i ? m->kv_heads : m->heads, x[i],
                             onnx_part(o, m, module, "in_proj_weight", weights[i], i),
                             onnx_part(o, m, module, "in_proj_bias", biases[i], i));
        if (m->rope && i < 2)
            part[i] = onnx_rope(o, part[i], rank + 1, i ? key.d[l] : query.d[l], m->size, &m->turn);
        if (i > 0)
            part[i] = onnx_repeat(o, m, rank, part[i]);
    }
    const char *keys = rank == 2 ? TRANSPOSE(o, part[1], 0, 2, 1) : TRANSPOSE(o, part[1], 0, 1, 3, 2);
    const char *q = OP(o, "Mul", IN(part[0], onnx_number(o, 1 / sqrt((double)m->size))));
    const char *scores = OP(o, "MatMul", IN(q, keys));
    if (m->alibi)
        scores = onnx_alibi(o, scores, m->heads, query.d[l], key.d[l]);
    if (m->causal || causal)
        scores = onnx_causal(o, scores, query.d[l], key.d[l]);
    const char *y = OP(o, "MatMul", IN(OP_ATTR(o, "Softmax", IN(scores), A_INT("axis", -1)), part[2]));
    if (rank == 2)
        y = OP(o, "Reshape", IN(TRANSPOSE(o, y, 1, 0, 2), INTS(o, 0, -1)));
    else
        y = OP(o, "Reshape",
               IN(m->batch_first ? TRANSPOSE(o, y, 0, 2, 1, 3) : TRANSPOSE(o, y, 2, 0, 1, 3),
                  INTS(o, 0, 0, -1)));
    return onnx_module(o, m->out, query, query, y);
}

static const char *attention_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    for (int i = 1; c->names && i < c->inputs; i++)
        if (strstr(c->names[i - 1], "mask"))
            return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    const char *in[3] = {x[0], c->inputs > 1 ? x[1] : x[0], c->inputs > 1 ? x[c->inputs - 1] : x[0]};
    return say(o, c->module, false, c->x, c->inputs > 1 ? c->input[1] : c->x, in);
}

const char *onnx_attention(fdl_onnx *o, fdl_module *m, bool causal, fdl_shape query, fdl_shape key,
                           const char *x, const char *other)
{
    return x && other ? say(o, m, causal, query, key, (const char *const[]){x, other, other}) : NULL;
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
          OPTION(batch_first, BOOL), OPTION(causal, BOOL), OPTION(kv_heads, INT64), OPTION(rope, BOOL),
          OPTION(rope_base, OPT_DOUBLE), OPTION(rope_interleaved, BOOL), OPTION(alibi, BOOL),
          OPTION(dtype, DTYPE)));

/* What PyTorch's has none of. */
static bool check_positions(const char *name, int64_t dim, int64_t heads,
                            const fdl_nn_multihead_attention_opts *o)
{
    if (!arg_at_least(name, "kv_heads", o->kv_heads, 0) ||
        (o->kv_heads && !arg_divides(name, "kv_heads", o->kv_heads, "heads", heads)))
        return false;
    double base = fdl_opt_double(o->rope_base, 10000);
    if (!(base > 0 && isfinite(base)))
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: rope_base is %g, must be above 0", name, base);
    else if (!o->rope && (o->rope_base != 0 || o->rope_interleaved))
        fdl_fail(FDL_E_ARG, "fdl_nn_%s: .%s is for .rope = true", name,
                 o->rope_interleaved ? "rope_interleaved" : "rope_base");
    else if (o->rope && dim / heads % 2)
        fdl_fail(FDL_E_ARG,
                 "fdl_nn_%s: .rope turns pairs, and dim %" PRId64 " gives each of %" PRId64 " heads %" PRId64
                 " features, an odd number",
                 name, dim, heads, dim / heads);
    else
        return true;
    return false;
}

fdl_module *fdl_nn_multihead_attention_opt(int64_t dim, int64_t heads,
                                           const fdl_nn_multihead_attention_opts *opts)
{
    static const char name[] = "multihead_attention";
    const fdl_nn_multihead_attention_opts o = opts ? *opts : (fdl_nn_multihead_attention_opts){0};
    if (!arg_at_least(name, "dim", dim, 1) || !arg_at_least(name, "heads", heads, 1) ||
        !arg_divides(name, "heads", heads, "dim", dim) || !arg_at_least(name, "kdim", o.kdim, 0) ||
        !arg_at_least(name, "vdim", o.vdim, 0) ||
        !arg_within(name, "dropout", fdl_opt_double(o.dropout, 0), 0, 1) ||
        !check_positions(name, dim, heads, &o))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&attention_ops);
    attention *self = fdl_module_self(m);
    if (!self)
        return NULL;
    *self = (attention){.dim = dim,
                        .heads = heads,
                        .kv_heads = o.kv_heads ? o.kv_heads : heads,
                        .size = dim / heads,
                        .rope = o.rope,
                        .turn = {.base = o.rope_base, .interleaved = o.rope_interleaved},
                        .alibi = o.alibi,
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
    MODULE_CALL(m);
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
