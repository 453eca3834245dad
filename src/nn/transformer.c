/* A transformer: an encoder of one sequence, whose result is the memory of a decoder of another. */
#include "arguments.h"
#include "stack.h"
#include "flodl/nn_norm.h"

typedef fdl_nn_transformer_forward_opts masks;

typedef struct transformer {
    fdl_module *encoder, *decoder;
} transformer;

/* ---- running ------------------------------------------------------------------------------------ */

static bool is_kind(fdl_module *m, const char *kind)
{
    return strcmp(fdl_module_kind(m), kind) == 0;
}

static fdl_tensor *no_masks(const char *part, fdl_module *m)
{
    return fdl_fail_null(FDL_E_ARG,
                         "transformer: its %s is a %s, which isn't handed masks; only a transformer_%s is",
                         part, fdl_module_kind(m), part);
}

static fdl_tensor *encode(const transformer *m, fdl_tensor *source, const masks *o)
{
    if (is_kind(m->encoder, "transformer_encoder"))
        return fdl_nn_transformer_encoder_forward(m->encoder, source, .attn_mask = o->src_mask,
                                                  .key_padding_mask = o->src_key_padding_mask,
                                                  .causal = o->src_causal);
    if (o->src_mask || o->src_key_padding_mask || o->src_causal)
        return no_masks("encoder", m->encoder);
    return fdl_forward(m->encoder, source);
}

static fdl_tensor *decode(const transformer *m, fdl_tensor *target, fdl_tensor *memory, const masks *o)
{
    if (is_kind(m->decoder, "transformer_decoder"))
        return fdl_nn_transformer_decoder_forward(
            m->decoder, target, memory, .tgt_mask = o->tgt_mask, .memory_mask = o->memory_mask,
            .tgt_key_padding_mask = o->tgt_key_padding_mask,
            .memory_key_padding_mask = o->memory_key_padding_mask, .tgt_causal = o->tgt_causal,
            .memory_causal = o->memory_causal);
    if (o->tgt_mask || o->memory_mask || o->tgt_key_padding_mask || o->memory_key_padding_mask ||
        o->tgt_causal || o->memory_causal)
        return no_masks("decoder", m->decoder);
    return fdl_forward(m->decoder, target, memory);
}

static fdl_tensor *run(const transformer *m, fdl_tensor *source, fdl_tensor *target, const masks *o)
{
    fdl_tensor *memory = encode(m, source, o);
    return memory ? decode(m, target, memory, o) : NULL;
}

static fdl_tensor *transformer_forward(void *self, fdl_tensor *x, const fdl_refs *r)
{
    static const char *const names[] = {"target",
                                        "src_mask",
                                        "tgt_mask",
                                        "memory_mask",
                                        "src_key_padding_mask",
                                        "tgt_key_padding_mask",
                                        "memory_key_padding_mask"};
    masks o = {0};
    fdl_tensor *target = NULL;
    FDL_TRY_NULL(take_refs("transformer",
                           "source, target, src_mask, tgt_mask, memory_mask, src_key_padding_mask, "
                           "tgt_key_padding_mask and memory_key_padding_mask",
                           r, 7, names,
                           (fdl_tensor * *const[]){&target, &o.src_mask, &o.tgt_mask, &o.memory_mask,
                                                   &o.src_key_padding_mask, &o.tgt_key_padding_mask,
                                                   &o.memory_key_padding_mask}));
    if (!target)
        return fdl_fail_null(FDL_E_ARG, "transformer takes 2 inputs, source and target, got 1");
    return run(self, x, target, &o);
}

static const fdl_module_ops transformer_ops = {
    .kind = "transformer", .size = sizeof(transformer), .forward_named = transformer_forward};

/* ---- making ------------------------------------------------------------------------------------- */

/* Written down with both parts, so that those that were made here and custom ones are told the same way. */
typedef struct transformer_args {
    int64_t dim, heads;
    fdl_module *encoder, *decoder;
} transformer_args;

/* As layers are, unless custom modules take their place. */
static fdl_module *new_encoder(int64_t dim, int64_t heads, const fdl_nn_transformer_opts *o)
{
    fdl_nn_transformer_encoder_layer_opts layer = {.ff = o->ff,
                                                   .dropout = o->dropout,
                                                   .activation = o->activation,
                                                   .norm_first = o->norm_first,
                                                   .batch_first = o->batch_first,
                                                   .eps = o->eps,
                                                   .no_bias = o->no_bias,
                                                   .dtype = o->dtype,
                                                   .device = o->device};
    fdl_nn_layer_norm_opts norm = {
        .eps = o->eps, .no_bias = o->no_bias, .dtype = o->dtype, .device = o->device};
    fdl_module *first = fdl_nn_transformer_encoder_layer_opt(dim, heads, &layer);
    if (!first)
        return NULL;
    fdl_nn_transformer_encoder_opts stack = {.norm = fdl_nn_layer_norm_opt(dim, &norm)};
    return fdl_nn_transformer_encoder_opt(first, o->encoder_layers ? o->encoder_layers : 6, &stack);
}

static fdl_module *new_decoder(int64_t dim, int64_t heads, const fdl_nn_transformer_opts *o)
{
    fdl_nn_transformer_decoder_layer_opts layer = {.ff = o->ff,
                                                   .dropout = o->dropout,
                                                   .activation = o->activation,
                                                   .norm_first = o->norm_first,
                                                   .batch_first = o->batch_first,
                                                   .causal = o->causal,
                                                   .eps = o->eps,
                                                   .no_bias = o->no_bias,
                                                   .dtype = o->dtype,
                                                   .device = o->device};
    fdl_nn_layer_norm_opts norm = {
        .eps = o->eps, .no_bias = o->no_bias, .dtype = o->dtype, .device = o->device};
    fdl_module *first = fdl_nn_transformer_decoder_layer_opt(dim, heads, &layer);
    if (!first)
        return NULL;
    fdl_nn_transformer_decoder_opts stack = {.norm = fdl_nn_layer_norm_opt(dim, &norm)};
    return fdl_nn_transformer_decoder_opt(first, o->decoder_layers ? o->decoder_layers : 6, &stack);
}

/* Every matrix anew, in the order of the parameters, as PyTorch's _reset_parameters has it. */
static fdl_status draw(fdl_module *m)
{
    FDL_SCOPE;
    fdl_params *ps = fdl_parameters(m);
    int n = fdl_params_count(ps);
    for (int i = 0; i < n; i++) {
        fdl_tensor *p = fdl_param_tensor(fdl_params_at(ps, i));
        if (fdl_ndim(p) > 1)
            FDL_TRY(fdl_init_xavier_uniform(p));
    }
    return n < 0 ? FDL_E_NULL : FDL_OK;
}

static bool good(int64_t dim, int64_t heads, const fdl_nn_transformer_opts *o)
{
    const layer_parts p = {.kind = "transformer",
                           .dim = dim,
                           .heads = heads,
                           .ff = o->ff ? o->ff : 2048,
                           .dropout = fdl_opt_double(o->dropout, 0.1),
                           .eps = o->eps};
    if (!layer_parts_good(&p) ||
        !arg_within("transformer", "encoder_layers", (double)o->encoder_layers, 0, 1 << 20) ||
        !arg_within("transformer", "decoder_layers", (double)o->decoder_layers, 0, 1 << 20))
        return false;
    if (o->encoder && o->encoder_layers)
        fdl_fail(FDL_E_ARG, "fdl_nn_transformer: .encoder and .encoder_layers exclude each other");
    else if (o->decoder && o->decoder_layers)
        fdl_fail(FDL_E_ARG, "fdl_nn_transformer: .decoder and .decoder_layers exclude each other");
    else if (o->decoder && o->causal)
        fdl_fail(FDL_E_ARG,
                 "fdl_nn_transformer: .causal is for the layers that are made; .decoder has its own");
    else
        return true;
    return false;
}

static fdl_module *make_transformer(const void *args)
{
    const transformer_args *a = args;
    return fdl_nn_transformer(a->dim, a->heads, .encoder = a->encoder, .decoder = a->decoder);
}

static const char *transformer_onnx(fdl_onnx *o, const fdl_call *c, const char *const *x)
{
    const transformer *m = fdl_module_self(c->module);
    if (c->inputs != 2)
        return onnx_refuse(o, "masks as inputs aren't told in ONNX");
    fdl_shape both[] = {c->input[1], c->input[0]};
    const char *memory = onnx_module(o, m->encoder, both[1], both[1], x[0]);
    return onnx_module_of(o, m->decoder, 2, both, c->y, (const char *const[]){x[1], memory});
}

KIND(transformer, .name = "transformer", .onnx = transformer_onnx,
     ARGS(transformer_args, FDL_ARG(transformer_args, dim, INT64), FDL_ARG(transformer_args, heads, INT64),
          CHILD_ARG(transformer_args, encoder, "encoder"), CHILD_ARG(transformer_args, decoder, "decoder")));

fdl_module *fdl_nn_transformer_opt(int64_t dim, int64_t heads, const fdl_nn_transformer_opts *opts)
{
    fdl_nn_transformer_opts o = opts ? *opts : (fdl_nn_transformer_opts){0};
    bool lost = o.opts_ == 1 && fdl_error_pending() != FDL_OK; /* one of the modules, whose place is empty */
    fdl_module *m = !lost && good(dim, heads, &o) ? fdl_module_new(&transformer_ops) : NULL;
    transformer *self = m ? fdl_module_self(m) : NULL;
    if (!self) {
        fdl_module_free(o.encoder);
        fdl_module_free(o.decoder);
        return NULL;
    }
    FDL_SCOPE;
    self->encoder = fdl_module_child(m, "encoder", o.encoder ? o.encoder : new_encoder(dim, heads, &o));
    self->decoder = fdl_module_child(m, "decoder", o.decoder ? o.decoder : new_decoder(dim, heads, &o));
    if (self->encoder && self->decoder && draw(m) != FDL_OK) {
        fdl_module_free(m);
        return NULL;
    }
    return DESCRIBED(m, transformer, (transformer_args){dim, heads, NULL, NULL});
}

/* ---- of one that is made ------------------------------------------------------------------------ */

static transformer *need(const char *function, fdl_module *m)
{
    if (!m)
        fdl_null_operand(function, "m");
    else if (fdl_module_ops_of(m) == &transformer_ops)
        return fdl_module_self(m);
    else
        fdl_fail(FDL_E_ARG, "%s: m is a %s, must be a transformer", function, fdl_module_kind(m));
    return NULL;
}

fdl_tensor *fdl_nn_transformer_forward_opt(fdl_module *m, fdl_tensor *source, fdl_tensor *target,
                                           const fdl_nn_transformer_forward_opts *opts)
{
    const transformer *self = need("fdl_nn_transformer_forward", m);
    if (self && (!source || !target))
        fdl_null_operand("fdl_nn_transformer_forward", source ? "target" : "source");
    if (!self || !source || !target)
        return NULL;
    FDL_SCOPE;
    FDL_RETURN(run(self, source, target, opts ? opts : &(masks){0}));
}

fdl_module *fdl_nn_transformer_encoder_of(fdl_module *m)
{
    const transformer *self = need("fdl_nn_transformer_encoder_of", m);
    return self ? self->encoder : NULL;
}

fdl_module *fdl_nn_transformer_decoder_of(fdl_module *m)
{
    const transformer *self = need("fdl_nn_transformer_decoder_of", m);
    return self ? self->decoder : NULL;
}
