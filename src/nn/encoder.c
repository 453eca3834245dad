/* Transformer encoders: a layer of attention and two linear maps, and a stack of such layers. */
#include "arguments.h"
#include "stack.h"
#include "flodl/arithmetic.h"

/* ---- masks of a call ---------------------------------------------------------------------------- */

/* Further inputs of fdl_forward and of a flow: masks by name, otherwise the attention mask, then the padding. */
static fdl_status take_masks(const char *kind, const fdl_refs *r, fdl_nn_transformer_encoder_forward_opts *o)
{
    static const char *const names[] = {"attn_mask", "key_padding_mask"};
    return take_refs(kind, "x, attn_mask and key_padding_mask", r, 2, names,
                     (fdl_tensor * *const[]){&o->attn_mask, &o->key_padding_mask});
}

/* ---- a layer ------------------------------------------------------------------------------------ */

typedef struct layer_args {
    int64_t dim, heads;
    fdl_nn_transformer_encoder_layer_opts o;
} layer_args;

typedef struct layer {
    layer_args made;
    fdl_module *attention, *norm1, *norm2, *dropout1;
    two_maps maps;
} layer;

static fdl_tensor *look(const layer *m, fdl_tensor *x, const fdl_nn_transformer_encoder_forward_opts *o)
{
    fdl_tensor *y =
        fdl_nn_mha_forward(m->attention, x, x, x, .attn_mask = o->attn_mask,
                           .key_padding_mask = o->key_padding_mask, .causal = o->causal || m->made.o.causal);
    return fdl_forward(m->dropout1, y);
}

static fdl_tensor *run_layer(const layer *m, fdl_tensor *x, const fdl_nn_transformer_encoder_forward_opts *o)
{
    if (m->made.o.norm_first) {
        x = fdl_add(x, look(m, fdl_forward(m->norm1, x), o));
        return fdl_add(x, two_maps_forward(&m->maps, fdl_forward(m->norm2, x)));
    }
    x = fdl_forward(m->norm1, fdl_add(x, look(m, x, o)));
    return fdl_forward(m->norm2, fdl_add(x, two_maps_forward(&m->maps, x)));
}

static fdl_tensor *layer_forward(void *self, fdl_tensor *x)
{
    return run_layer(self, x, &(fdl_nn_transformer_encoder_forward_opts){0});
}

static fdl_tensor *layer_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_nn_transformer_encoder_forward_opts o = {0};
    FDL_TRY_NULL(take_masks("transformer_encoder_layer", r, &o));
    return run_layer(self, x, &o);
}

static const fdl_module_ops layer_ops = {.kind = "transformer_encoder_layer",
                                         .size = sizeof(layer),
                                         .forward = layer_forward,
                                         .forward_named = layer_forward_named};

static fdl_module *make_transformer_encoder_layer(const void *args)
{
    const layer_args *a = args;
    return fdl_nn_transformer_encoder_layer_opt(a->dim, a->heads, &a->o);
}

static const char *onnx_look(fdl_onnx *o, const layer *m, fdl_shape s, const char *x)
{
    return onnx_attention(o, m->attention, m->made.o.causal, s, s, x, x);
}

static const char *layer_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const layer *m = fdl_module_self(c->module);
    fdl_shape s = c->x;
    const char *x = inputs[0];
    if (c->inputs > 1)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    if (m->made.o.norm_first) {
        x = OP(o, "Add", IN(x, onnx_look(o, m, s, onnx_module(o, m->norm1, s, s, x))));
        return OP(o, "Add", IN(x, two_maps_onnx(o, &m->maps, s, onnx_module(o, m->norm2, s, s, x))));
    }
    x = onnx_module(o, m->norm1, s, s, OP(o, "Add", IN(x, onnx_look(o, m, s, x))));
    return onnx_module(o, m->norm2, s, s, OP(o, "Add", IN(x, two_maps_onnx(o, &m->maps, s, x))));
}

#define OPTION(name, type) FDL_OPT(layer_args, name, type)
KIND(transformer_encoder_layer, .name = "transformer_encoder_layer", .onnx = layer_onnx,
     ARGS(layer_args, FDL_ARG(layer_args, dim, INT64), FDL_ARG(layer_args, heads, INT64), OPTION(ff, INT64),
          OPTION(dropout, OPT_DOUBLE), OPTION(activation, FUNCTION), OPTION(norm_first, BOOL),
          OPTION(batch_first, BOOL), OPTION(causal, BOOL), OPTION(eps, OPT_DOUBLE), OPTION(no_bias, BOOL),
          OPTION(dtype, DTYPE)));

fdl_module *fdl_nn_transformer_encoder_layer_opt(int64_t dim, int64_t heads,
                                                 const fdl_nn_transformer_encoder_layer_opts *opts)
{
    const fdl_nn_transformer_encoder_layer_opts o = opts ? *opts : (fdl_nn_transformer_encoder_layer_opts){0};
    const layer_parts p = {.kind = "transformer_encoder_layer",
                           .dim = dim,
                           .heads = heads,
                           .ff = o.ff ? o.ff : 2048,
                           .dropout = fdl_opt_double(o.dropout, 0.1),
                           .eps = o.eps,
                           .batch_first = o.batch_first,
                           .no_bias = o.no_bias,
                           .activation = o.activation,
                           .dtype = o.dtype,
                           .device = o.device};
    if (!layer_parts_good(&p))
        return NULL;
    FDL_SCOPE;
    fdl_module *m = fdl_module_new(&layer_ops);
    layer *self = fdl_module_self(m);
    if (!self)
        return NULL;
    self->made = (layer_args){dim, heads, o};
    self->attention = layer_attention(m, "self_attn", &p);
    self->maps = layer_maps(m, &p);
    self->norm1 = layer_norm(m, "norm1", &p);
    self->norm2 = layer_norm(m, "norm2", &p);
    self->dropout1 = layer_dropout(m, "dropout1", &p);
    self->maps.last = layer_dropout(m, "dropout2", &p);
    return DESCRIBED(m, transformer_encoder_layer, (layer_args){dim, heads, o});
}

/* ---- a stack of layers -------------------------------------------------------------------------- */

static fdl_tensor *run_encoder(const layer_stack *m, fdl_tensor *x,
                               const fdl_nn_transformer_encoder_forward_opts *o)
{
    for (int64_t i = 0; i < m->n; i++) {
        fdl_tensor *y = fdl_nn_transformer_encoder_forward_opt(m->layers[i], x, o);
        if (i > 0)
            fdl_drop(x);
        x = y;
    }
    return m->norm ? fdl_forward(m->norm, x) : x;
}

static fdl_tensor *encoder_forward(void *self, fdl_tensor *x)
{
    return run_encoder(self, x, &(fdl_nn_transformer_encoder_forward_opts){0});
}

static fdl_tensor *encoder_forward_named(void *self, fdl_tensor *x, const fdl_refs *r)
{
    fdl_nn_transformer_encoder_forward_opts o = {0};
    FDL_TRY_NULL(take_masks("transformer_encoder", r, &o));
    return run_encoder(self, x, &o);
}

static const fdl_module_ops encoder_ops = {.kind = "transformer_encoder",
                                           .size = sizeof(layer_stack),
                                           .forward = encoder_forward,
                                           .forward_named = encoder_forward_named,
                                           .free = layer_stack_free};

static fdl_module *again(fdl_module *first, fdl_dtype dtype, fdl_device device)
{
    layer_args a = ((const layer *)fdl_module_self(first))->made;
    a.o.dtype = dtype;
    a.o.device = device;
    return make_transformer_encoder_layer(&a);
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
    const layer_stack *m = fdl_module_self(c->module);
    const char *x = inputs[0];
    if (c->inputs > 1)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    for (int64_t i = 0; i < m->n; i++)
        x = onnx_module(o, m->layers[i], c->x, c->x, x);
    return m->norm ? onnx_module(o, m->norm, c->x, c->x, x) : x;
}

/* The layers that are copies of the first aren't written down. */
KIND(transformer_encoder, .name = "transformer_encoder", .onnx = encoder_onnx,
     ARGS(encoder_args, CHILD_ARG(encoder_args, layer, "layers.0"), FDL_ARG(encoder_args, n, INT64),
          FDL_OPT(encoder_args, norm, MODULE)));

fdl_module *fdl_nn_transformer_encoder_opt(fdl_module *first, int64_t n,
                                           const fdl_nn_transformer_encoder_opts *opts)
{
    const fdl_nn_transformer_encoder_opts o = opts ? *opts : (fdl_nn_transformer_encoder_opts){0};
    bool lost_norm = !o.norm && o.opts_ == 1 && fdl_error_pending() != FDL_OK;
    fdl_module *m = fdl_module_new(&encoder_ops);
    if (layer_stack_fill(m, &layer_ops, first, n, o.norm, lost_norm, again) == FDL_OK)
        return DESCRIBED(m, transformer_encoder, (encoder_args){NULL, n, o});
    fdl_module_free(m);
    return NULL;
}

fdl_tensor *fdl_nn_transformer_encoder_forward_opt(fdl_module *m, fdl_tensor *x,
                                                   const fdl_nn_transformer_encoder_forward_opts *opts)
{
    const fdl_nn_transformer_encoder_forward_opts o =
        opts ? *opts : (fdl_nn_transformer_encoder_forward_opts){0};
    if (!m || !x) {
        fdl_null_operand("fdl_nn_transformer_encoder_forward", m ? "x" : "m");
        return NULL;
    }
    const fdl_module_ops *ops = fdl_module_ops_of(m);
    if (ops != &layer_ops && ops != &encoder_ops)
        return fdl_fail_null(
            FDL_E_ARG,
            "fdl_nn_transformer_encoder_forward: m is a %s, must be a transformer_encoder or a "
            "transformer_encoder_layer",
            fdl_module_kind(m));
    FDL_SCOPE;
    FDL_RETURN(ops == &layer_ops ? run_layer(fdl_module_self(m), x, &o)
                                 : run_encoder(fdl_module_self(m), x, &o));
}
