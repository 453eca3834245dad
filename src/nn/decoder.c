/* Transformer decoders: a layer of attention to itself, attention to a memory and two linear maps, and a stack of such layers. */
#include "arguments.h"
#include "stack.h"
#include "flodl/arithmetic.h"

typedef fdl_nn_transformer_decoder_forward_opts masks;

/* Further inputs of fdl_forward and of a flow: the memory, then masks, by name or in this order. */
static fdl_tensor *take_inputs(const char *kind, const fdl_refs *r, masks *o)
{
    static const char *const names[] = {"memory", "tgt_mask", "memory_mask", "tgt_key_padding_mask",
                                        "memory_key_padding_mask"};
    fdl_tensor *memory = NULL;
    FDL_TRY_NULL(take_refs(kind,
                           "target, memory, tgt_mask, memory_mask, tgt_key_padding_mask and "
                           "memory_key_padding_mask",
                           r, 5, names,
                           (fdl_tensor * *const[]){&memory, &o->tgt_mask, &o->memory_mask,
                                                   &o->tgt_key_padding_mask, &o->memory_key_padding_mask}));
    return memory ? memory : fdl_fail_null(FDL_E_ARG, "%s takes 2 inputs, target and memory, got 1", kind);
}

/* ---- a layer ------------------------------------------------------------------------------------ */

typedef struct layer_args {
    int64_t dim, heads;
    fdl_nn_transformer_decoder_layer_opts o;
} layer_args;

typedef struct layer {
    layer_args made;
    fdl_module *self_attn, *multihead_attn, *norm1, *norm2, *norm3, *dropout1, *dropout2;
    two_maps maps;
} layer;

static fdl_tensor *look_back(const layer *m, fdl_tensor *x, const masks *o)
{
    fdl_tensor *y = fdl_nn_mha_forward(m->self_attn, x, x, x, .attn_mask = o->tgt_mask,
                                       .key_padding_mask = o->tgt_key_padding_mask,
                                       .causal = o->tgt_causal || m->made.o.causal);
    return fdl_forward(m->dropout1, y);
}

static fdl_tensor *look_over(const layer *m, fdl_tensor *x, fdl_tensor *memory, const masks *o)
{
    fdl_tensor *y =
        fdl_nn_mha_forward(m->multihead_attn, x, memory, memory, .attn_mask = o->memory_mask,
                           .key_padding_mask = o->memory_key_padding_mask, .causal = o->memory_causal);
    return fdl_forward(m->dropout2, y);
}

static fdl_tensor *run_layer(const layer *m, fdl_tensor *x, fdl_tensor *memory, const masks *o)
{
    if (m->made.o.norm_first) {
        x = fdl_add(x, look_back(m, fdl_forward(m->norm1, x), o));
        x = fdl_add(x, look_over(m, fdl_forward(m->norm2, x), memory, o));
        return fdl_add(x, two_maps_forward(&m->maps, fdl_forward(m->norm3, x)));
    }
    x = fdl_forward(m->norm1, fdl_add(x, look_back(m, x, o)));
    x = fdl_forward(m->norm2, fdl_add(x, look_over(m, x, memory, o)));
    return fdl_forward(m->norm3, fdl_add(x, two_maps_forward(&m->maps, x)));
}

static fdl_tensor *layer_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    masks o = {0};
    fdl_tensor *memory = take_inputs("transformer_decoder_layer", r, &o);
    return memory ? run_layer(self, x, memory, &o) : NULL;
}

static const fdl_module_ops layer_ops = {
    .kind = "transformer_decoder_layer", .size = sizeof(layer), .forward_named = layer_forward};

static fdl_module *make_transformer_decoder_layer(const void *args)
{
    const layer_args *a = args;
    return fdl_nn_transformer_decoder_layer_opt(a->dim, a->heads, &a->o);
}

static const char *layer_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const layer *m = fdl_module_self(c->module);
    fdl_shape s = c->x, other = c->inputs > 1 ? c->input[1] : s;
    const char *x = inputs[0], *y;
    bool causal = m->made.o.causal;
    if (c->inputs != 2)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    if (m->made.o.norm_first) {
        y = onnx_module(o, m->norm1, s, s, x);
        x = OP(o, "Add", IN(x, onnx_attention(o, m->self_attn, causal, s, s, y, y)));
        y = onnx_module(o, m->norm2, s, s, x);
        x = OP(o, "Add", IN(x, onnx_attention(o, m->multihead_attn, false, s, other, y, inputs[1])));
        y = onnx_module(o, m->norm3, s, s, x);
        return OP(o, "Add", IN(x, two_maps_onnx(o, &m->maps, s, y)));
    }
    y = OP(o, "Add", IN(x, onnx_attention(o, m->self_attn, causal, s, s, x, x)));
    x = onnx_module(o, m->norm1, s, s, y);
    y = OP(o, "Add", IN(x, onnx_attention(o, m->multihead_attn, false, s, other, x, inputs[1])));
    x = onnx_module(o, m->norm2, s, s, y);
    y = OP(o, "Add", IN(x, two_maps_onnx(o, &m->maps, s, x)));
    return onnx_module(o, m->norm3, s, s, y);
}

#define OPTION(name, type) FDL_OPT(layer_args, name, type)
KIND(transformer_decoder_layer, .name = "transformer_decoder_layer", .onnx = layer_onnx,
     ARGS(layer_args, FDL_ARG(layer_args, dim, INT64), FDL_ARG(layer_args, heads, INT64), OPTION(ff, INT64),
          OPTION(dropout, OPT_DOUBLE), OPTION(activation, FUNCTION), OPTION(norm_first, BOOL),
          OPTION(batch_first, BOOL), OPTION(causal, BOOL), OPTION(eps, OPT_DOUBLE), OPTION(no_bias, BOOL),
          OPTION(dtype, DTYPE)));

fdl_module *fdl_nn_transformer_decoder_layer_opt(int64_t dim, int64_t heads,
                                                 const fdl_nn_transformer_decoder_layer_opts *opts)
{
    const fdl_nn_transformer_decoder_layer_opts o = opts ? *opts : (fdl_nn_transformer_decoder_layer_opts){0};
    const layer_parts p = {.kind = "transformer_decoder_layer",
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
    self->self_attn = layer_attention(m, "self_attn", &p);
    self->multihead_attn = layer_attention(m, "multihead_attn", &p);
    self->maps = layer_maps(m, &p);
    self->norm1 = layer_norm(m, "norm1", &p);
    self->norm2 = layer_norm(m, "norm2", &p);
    self->norm3 = layer_norm(m, "norm3", &p);
    self->dropout1 = layer_dropout(m, "dropout1", &p);
    self->dropout2 = layer_dropout(m, "dropout2", &p);
    self->maps.last = layer_dropout(m, "dropout3", &p);
    return DESCRIBED(m, transformer_decoder_layer, (layer_args){dim, heads, o});
}

/* ---- a stack of layers -------------------------------------------------------------------------- */

static fdl_tensor *run_decoder(const layer_stack *m, fdl_tensor *x, fdl_tensor *memory, const masks *o)
{
    for (int64_t i = 0; i < m->n; i++) {
        fdl_tensor *y = fdl_nn_transformer_decoder_forward_opt(m->layers[i], x, memory, o);
        if (i > 0)
            fdl_drop(x);
        x = y;
    }
    return m->norm ? fdl_forward(m->norm, x) : x;
}

static fdl_tensor *decoder_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    masks o = {0};
    fdl_tensor *memory = take_inputs("transformer_decoder", r, &o);
    return memory ? run_decoder(self, x, memory, &o) : NULL;
}

static const fdl_module_ops decoder_ops = {.kind = "transformer_decoder",
                                           .size = sizeof(layer_stack),
                                           .forward_named = decoder_forward,
                                           .free = layer_stack_free};

static fdl_module *again(fdl_module *first, fdl_dtype dtype, fdl_device device)
{
    layer_args a = ((const layer *)fdl_module_self(first))->made;
    a.o.dtype = dtype;
    a.o.device = device;
    return make_transformer_decoder_layer(&a);
}

typedef struct decoder_args {
    fdl_module *layer;
    int64_t n;
    fdl_nn_transformer_decoder_opts o;
} decoder_args;

static fdl_module *make_transformer_decoder(const void *args)
{
    const decoder_args *a = args;
    return fdl_nn_transformer_decoder_opt(a->layer, a->n, &a->o);
}

static const char *decoder_onnx(fdl_onnx *o, const fdl_call *c, const char *const *inputs)
{
    const layer_stack *m = fdl_module_self(c->module);
    const char *x = inputs[0];
    if (c->inputs != 2)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    for (int64_t i = 0; i < m->n; i++)
        x = onnx_module_of(o, m->layers[i], 2, c->input, c->x, (const char *const[]){x, inputs[1]});
    return m->norm ? onnx_module(o, m->norm, c->x, c->x, x) : x;
}

/* The layers that are copies of the first aren't written down. */
KIND(transformer_decoder, .name = "transformer_decoder", .onnx = decoder_onnx,
     ARGS(decoder_args, CHILD_ARG(decoder_args, layer, "layers.0"), FDL_ARG(decoder_args, n, INT64),
          FDL_OPT(decoder_args, norm, MODULE)));

fdl_module *fdl_nn_transformer_decoder_opt(fdl_module *first, int64_t n,
                                           const fdl_nn_transformer_decoder_opts *opts)
{
    const fdl_nn_transformer_decoder_opts o = opts ? *opts : (fdl_nn_transformer_decoder_opts){0};
    bool lost_norm = !o.norm && o.opts_ == 1 && fdl_error_pending() != FDL_OK;
    fdl_module *m = fdl_module_new(&decoder_ops);
    if (layer_stack_fill(m, &layer_ops, first, n, o.norm, lost_norm, again) == FDL_OK)
        return DESCRIBED(m, transformer_decoder, (decoder_args){NULL, n, o});
    fdl_module_free(m);
    return NULL;
}

fdl_tensor *fdl_nn_transformer_decoder_forward_opt(fdl_module *m, fdl_tensor *target, fdl_tensor *memory,
                                                   const fdl_nn_transformer_decoder_forward_opts *opts)
{
    const masks o = opts ? *opts : (masks){0};
    if (!m || !target || !memory) {
        fdl_null_operand("fdl_nn_transformer_decoder_forward", !m ? "m" : !target ? "target" : "memory");
        return NULL;
    }
    const fdl_module_ops *ops = fdl_module_ops_of(m);
    if (ops != &layer_ops && ops != &decoder_ops)
        return fdl_fail_null(
            FDL_E_ARG,
            "fdl_nn_transformer_decoder_forward: m is a %s, must be a transformer_decoder or a "
            "transformer_decoder_layer",
            fdl_module_kind(m));
    FDL_SCOPE;
    FDL_RETURN(ops == &layer_ops ? run_layer(fdl_module_self(m), target, memory, &o)
                                 : run_decoder(fdl_module_self(m), target, memory, &o));
}
