/* Transformer encoders: a layer of attention and two linear maps, and a stack of such layers. */
#include "arguments.h"
#include "describe.h"
#include "onnx.h"
#include "flodl/arithmetic.h"
#include "flodl/nn.h"
#include "flodl/random.h"

/* ---- masks of a call ---------------------------------------------------------------------------- */

/* Further inputs of fdl_forward and of a flow: masks by name, otherwise the attention mask, then the padding. */
static fdl_status take_masks(const char *kind, const fdl_refs *r, fdl_nn_transformer_forward_opts *o)
{
    for (size_t i = 0; i < fdl_refs_count(r); i++) {
        const char *name = fdl_refs_name(r, i);
        fdl_tensor **place = strcmp(name, "attn_mask") == 0          ? &o->attn_mask
                             : strcmp(name, "key_padding_mask") == 0 ? &o->key_padding_mask
                             : !o->attn_mask                         ? &o->attn_mask
                                                                     : &o->key_padding_mask;
        if (*place)
            return fdl_fail(FDL_E_ARG,
                            "%s takes x, attn_mask and key_padding_mask; \"%s\" is one input too many", kind,
                            name);
        *place = fdl_refs_at(r, i);
    }
    return FDL_OK;
}

/* ---- a layer ------------------------------------------------------------------------------------ */

typedef struct layer {
    int64_t dim, heads;
    fdl_nn_transformer_encoder_layer_opts o;
    fdl_tensor *(*activation)(fdl_tensor *x);
    fdl_module *attention, *linear1, *dropout, *linear2, *norm1, *norm2, *dropout1, *dropout2;
} layer;

static fdl_tensor *look(const layer *m, fdl_tensor *x, const fdl_nn_transformer_forward_opts *o)
{
    fdl_tensor *y =
        fdl_nn_mha_forward(m->attention, x, x, x, .attn_mask = o->attn_mask,
                           .key_padding_mask = o->key_padding_mask, .causal = o->causal || m->o.causal);
    return fdl_forward(m->dropout1, y);
}

static fdl_tensor *think(const layer *m, fdl_tensor *x)
{
    fdl_tensor *y = fdl_forward(m->dropout, m->activation(fdl_forward(m->linear1, x)));
    return fdl_forward(m->dropout2, fdl_forward(m->linear2, y));
}

static fdl_tensor *run_layer(const layer *m, fdl_tensor *x, const fdl_nn_transformer_forward_opts *o)
{
    if (m->o.norm_first) {
        x = fdl_add(x, look(m, fdl_forward(m->norm1, x), o));
        return fdl_add(x, think(m, fdl_forward(m->norm2, x)));
    }
    x = fdl_forward(m->norm1, fdl_add(x, look(m, x, o)));
    return fdl_forward(m->norm2, fdl_add(x, think(m, x)));
}

static fdl_tensor *layer_forward(void *self, fdl_tensor *x)
{
    return run_layer(self, x, &(fdl_nn_transformer_forward_opts){0});
}

static fdl_tensor *layer_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_nn_transformer_forward_opts o = {0};
    FDL_TRY_NULL(take_masks("transformer_encoder_layer", r, &o));
    return run_layer(self, x, &o);
}

static const fdl_module_ops layer_ops = {.kind = "transformer_encoder_layer",
                                         .size = sizeof(layer),
                                         .forward = layer_forward,
                                         .forward_named = layer_forward_named};

typedef struct layer_args {
    int64_t dim, heads;
    fdl_nn_transformer_encoder_layer_opts o;
} layer_args;

static fdl_module *make_transformer_encoder_layer(const void *args)
{
    const layer_args *a = args;
    return fdl_nn_transformer_encoder_layer_opt(a->dim, a->heads, &a->o);
}

#define OPTION(name, type) FDL_OPT(layer_args, name, type)
static const char *onnx_look(fdl_onnx *o, const layer *m, fdl_shape s, const char *x)
{
    return onnx_attention(o, m->attention, s, m->o.causal, x);
}

static const char *onnx_think(fdl_onnx *o, const layer *m, fdl_shape s, const char *x)
{
    fdl_shape wide = s;
    wide.d[wide.ndim - 1] = m->o.ff ? m->o.ff : 2048;
    const char *y = onnx_module(o, m->linear1, s, wide, x);
    return onnx_module(o, m->linear2, wide, s, y ? onnx_function(o, m->activation, y) : NULL);
}

static const char *layer_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const layer *m = fdl_module_self(c->module);
    fdl_shape s = c->x;
    const char *x = inputs[0];
    if (c->inputs > 1)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    if (m->o.norm_first) {
        x = OP(o, "Add", IN(x, onnx_look(o, m, s, onnx_module(o, m->norm1, s, s, x))));
        return OP(o, "Add", IN(x, onnx_think(o, m, s, onnx_module(o, m->norm2, s, s, x))));
    }
    x = onnx_module(o, m->norm1, s, s, OP(o, "Add", IN(x, onnx_look(o, m, s, x))));
    return onnx_module(o, m->norm2, s, s, OP(o, "Add", IN(x, onnx_think(o, m, s, x))));
}

KIND(transformer_encoder_layer, .name = "transformer_encoder_layer", .onnx = layer_onnx,
     ARGS(layer_args, FDL_ARG(layer_args, dim, INT64), FDL_ARG(layer_args, heads, INT64), OPTION(ff, INT64),
          OPTION(dropout, OPT_DOUBLE), OPTION(activation, FUNCTION), OPTION(norm_first, BOOL),
          OPTION(batch_first, BOOL), OPTION(causal, BOOL), OPTION(eps, OPT_DOUBLE), OPTION(no_bias, BOOL),
          OPTION(dtype, DTYPE)));

fdl_module *fdl_nn_transformer_encoder_layer_opt(int64_t dim, int64_t heads,
                                                 const fdl_nn_transformer_encoder_layer_opts *opts)
{
    static const char name[] = "transformer_encoder_layer";
    const fdl_nn_transformer_encoder_layer_opts o = opts ? *opts : (fdl_nn_transformer_encoder_layer_opts){0};
    const double dropout = fdl_opt_double(o.dropout, 0.1);
    const int64_t ff = o.ff ? o.ff : 2048;
    if (!arg_at_least(name, "dim", dim, 1) || !arg_at_least(name, "heads", heads, 1) ||
        !arg_divides(name, "heads", heads, "dim", dim) || !arg_at_least(name, "ff", ff, 1) ||
        !arg_within(name, "dropout", dropout, 0, 1) ||
        !arg_within(name, "eps", fdl_opt_double(o.eps, 0), 0, 1e300))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&layer_ops);
    layer *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->dim = dim;
    self->heads = heads;
    self->o = o;
    self->activation = o.activation ? o.activation : fdl_relu;
    fdl_nn_multihead_attention_opts attention = {.dropout = dropout > 0 ? dropout : FDL_ZERO,
                                                 .no_bias = o.no_bias,
                                                 .batch_first = o.batch_first,
                                                 .dtype = o.dtype,
                                                 .device = o.device};
    fdl_nn_linear_opts linear = {.no_bias = o.no_bias, .dtype = o.dtype, .device = o.device};
    fdl_nn_layer_norm_opts norm = {.eps = o.eps, .no_bias = o.no_bias, .dtype = o.dtype, .device = o.device};
    self->attention =
        fdl_module_child(m, "self_attn", fdl_nn_multihead_attention_opt(dim, heads, &attention));
    self->linear1 = fdl_module_child(m, "linear1", fdl_nn_linear_opt(dim, ff, &linear));
    self->dropout = fdl_module_child(m, "dropout", fdl_nn_dropout(dropout));
    self->linear2 = fdl_module_child(m, "linear2", fdl_nn_linear_opt(ff, dim, &linear));
    self->norm1 = fdl_module_child(m, "norm1", fdl_nn_layer_norm_opt(dim, &norm));
    self->norm2 = fdl_module_child(m, "norm2", fdl_nn_layer_norm_opt(dim, &norm));
    self->dropout1 = fdl_module_child(m, "dropout1", fdl_nn_dropout(dropout));
    self->dropout2 = fdl_module_child(m, "dropout2", fdl_nn_dropout(dropout));
    return DESCRIBED(m, transformer_encoder_layer, (layer_args){dim, heads, o});
}

/* ---- a stack of layers -------------------------------------------------------------------------- */

typedef struct encoder {
    int64_t n;
    fdl_module **layers, *norm; /* the array is the encoder's, the modules borrowed from it */
} encoder;

static void encoder_free(void *self)
{
    free(((encoder *)self)->layers);
}

static fdl_tensor *run_encoder(const encoder *m, fdl_tensor *x, const fdl_nn_transformer_forward_opts *o)
{
    for (int64_t i = 0; i < m->n; i++) {
        fdl_tensor *y = fdl_nn_transformer_forward_opt(m->layers[i], x, o);
        if (i > 0)
            fdl_drop(x);
        x = y;
    }
    return m->norm ? fdl_forward(m->norm, x) : x;
}

static fdl_tensor *encoder_forward(void *self, fdl_tensor *x)
{
    return run_encoder(self, x, &(fdl_nn_transformer_forward_opts){0});
}

static fdl_tensor *encoder_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_nn_transformer_forward_opts o = {0};
    FDL_TRY_NULL(take_masks("transformer_encoder", r, &o));
    return run_encoder(self, x, &o);
}

static const fdl_module_ops encoder_ops = {.kind = "transformer_encoder",
                                           .size = sizeof(encoder),
                                           .forward = encoder_forward,
                                           .forward_named = encoder_forward_named,
                                           .free = encoder_free};

/* Takes over the values, the mode and what is frozen. */
static fdl_status take_values(fdl_module *to, fdl_module *from)
{
    FDL_SCOPE;
    fdl_params *source = fdl_parameters(from), *target = fdl_parameters(to);
    int n = fdl_params_count(source);
    if (n < 0 || n != fdl_params_count(target))
        return fdl_fail(FDL_E_STATE, "fdl_nn_transformer_encoder: two parameters of the layer are tied");
    for (int i = 0; i < n; i++) {
        fdl_param *p = fdl_params_at(source, i), *q = fdl_params_at(target, i);
        FDL_TRY(fdl_param_set(q, fdl_param_tensor(p)));
        if (fdl_param_is_frozen(p))
            FDL_TRY(fdl_param_freeze(q));
    }
    return fdl_is_training(from) ? FDL_OK : fdl_eval(to);
}

/* Like PyTorch's, a copy draws no random numbers. */
static fdl_module *copy_of(fdl_module *source)
{
    FDL_SCOPE;
    const layer *self = fdl_module_self(source);
    fdl_tensor *first = fdl_param_tensor(fdl_params_at(fdl_parameters(source), 0));
    if (!first)
        return NULL;
    fdl_nn_transformer_encoder_layer_opts o = self->o;
    o.dtype = fdl_dtype_of(first);
    o.device = fdl_device_of(first);
    fdl_tensor *random = fdl_rng_state(o.device);
    fdl_module *m = random ? fdl_nn_transformer_encoder_layer_opt(self->dim, self->heads, &o) : NULL;
    if (m && fdl_set_rng_state(o.device, random) == FDL_OK && take_values(m, source) == FDL_OK)
        return m;
    fdl_module_free(m);
    return NULL;
}

/* The layer is the first of n; the others are its copies. */
static fdl_status fill(fdl_module *m, encoder *self, fdl_module *first, int64_t n)
{
    if (!first)
        return FDL_E_NULL; /* remembered in m */
    if (fdl_module_ops_of(first) != &layer_ops)
        return fdl_fail(FDL_E_ARG,
                        "fdl_nn_transformer_encoder: layer is a %s, must be a transformer_encoder_layer",
                        fdl_module_kind(first));
    if (!arg_within("transformer_encoder", "n", (double)n, 1, 1 << 20))
        return FDL_E_ARG;
    self->layers = calloc((size_t)n, sizeof *self->layers);
    if (!self->layers)
        return fdl_fail(FDL_E_OOM, "fdl_nn_transformer_encoder: no memory for %" PRId64 " layers", n);
    self->layers[0] = first;
    for (self->n = 1; self->n < n; self->n++) {
        char name[32];
        snprintf(name, sizeof name, "layers.%" PRId64, self->n);
        self->layers[self->n] = fdl_module_child(m, name, copy_of(first));
        if (!self->layers[self->n])
            return FDL_E_NULL;
    }
    return FDL_OK;
}

typedef struct encoder_args {
    fdl_module *layer;
    int64_t n;
    fdl_nn_transformer_encoder_opts o;
} encoder_args;

static fdl_module *make_transformer_encoder(const void *args)
{
    const encoder_args *a = args;
    return fdl_nn_transformer_encoder_opt(a->layer, a->n, &a->o);
}

static const char *encoder_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const encoder *m = fdl_module_self(c->module);
    const char *x = inputs[0];
    if (c->inputs > 1)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    for (int64_t i = 0; i < m->n; i++)
        x = onnx_module(o, m->layers[i], c->x, c->x, x);
    return m->norm ? onnx_module(o, m->norm, c->x, c->x, x) : x;
}

/* The layers that are copies of the first aren't written down. */
KIND(transformer_encoder, .name = "transformer_encoder", .onnx = encoder_onnx,
     ARGS(encoder_args,
          {.name = "layer",
           .type = FDL_FIELD_MODULE,
           .required = true,
           .offset = offsetof(encoder_args, layer),
           .child = "layers.0"},
          FDL_ARG(encoder_args, n, INT64), FDL_OPT(encoder_args, norm, MODULE)));

fdl_module *fdl_nn_transformer_encoder_opt(fdl_module *first, int64_t n,
                                           const fdl_nn_transformer_encoder_opts *opts)
{
    const fdl_nn_transformer_encoder_opts o = opts ? *opts : (fdl_nn_transformer_encoder_opts){0};
    bool lost_norm = !o.norm && o.opts_ == 1 && fdl_error_pending() != FDL_OK;
    fdl_module *m = fdl_module_new(&encoder_ops);
    encoder *self = m ? fdl_module_self(m) : NULL;
    first = fdl_module_child(m, "layers.0", first);
    fdl_status status = self ? fill(m, self, first, n) : FDL_E_OOM;
    fdl_module *norm = o.norm || lost_norm ? fdl_module_child(m, "norm", o.norm) : NULL;
    if (!self)
        return NULL;
    self->norm = norm;
    if (status == FDL_OK)
        return DESCRIBED(m, transformer_encoder, (encoder_args){NULL, n, o});
    fdl_module_free(m);
    return NULL;
}

fdl_tensor *fdl_nn_transformer_forward_opt(fdl_module *m, fdl_tensor *x,
                                           const fdl_nn_transformer_forward_opts *opts)
{
    const fdl_nn_transformer_forward_opts o = opts ? *opts : (fdl_nn_transformer_forward_opts){0};
    if (!m || !x) {
        fdl_null_operand("fdl_nn_transformer_forward", m ? "x" : "m");
        return NULL;
    }
    const fdl_module_ops *ops = fdl_module_ops_of(m);
    if (ops != &layer_ops && ops != &encoder_ops)
        return fdl_fail_null(FDL_E_ARG,
                             "fdl_nn_transformer_forward: m is a %s, must be a transformer_encoder or a "
                             "transformer_encoder_layer",
                             fdl_module_kind(m));
    FDL_SCOPE;
    FDL_RETURN(ops == &layer_ops ? run_layer(fdl_module_self(m), x, &o)
                                 : run_encoder(fdl_module_self(m), x, &o));
}
